/*
 * body.h: the body of a message, by Content-Length or chunked (RFC 9112
 * sections 6 and 7), in whatever pieces it comes.
 */
#ifndef BELAY_HTTP_BODY_H
#define BELAY_HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "http/request.h"

#define HTTP_CHUNK_EXTENSION_MAX 256	/* bytes of extensions of one chunk */
#define HTTP_CHUNK_OVERHEAD_MAX  16384	/* bytes of chunk lines and extensions, beyond an eighth of the body */
#define HTTP_TRAILER_MAX         4096	/* bytes of trailers; they are dropped */

struct http_body {
	int state;
	uint64_t left;			/* bytes still to come of the body or the chunk */
	size_t limit;			/* of the whole decoded body */
	size_t total;			/* decoded so far */
	unsigned overhead;
	unsigned line;			/* bytes of the current line */
};

/* Takes the framing from the head.  0, or -413 when the announced length is over limit already. */
int http_body_init(struct http_body *b, const struct http_head *h, size_t limit);
/* A chunked one, of a response too. */
void http_body_init_chunked(struct http_body *b, size_t limit);

/*
 * Feeds n bytes; what belongs to the body is appended to out.  Returns how
 * many bytes were used (fewer than n only when the body is complete: the rest
 * is the next request), or -400 or -413; then the connection can't be used again.
 */
long http_body_feed(struct http_body *b, const char *p, size_t n, struct buf *out);
bool http_body_done(const struct http_body *b);

#endif
