/*
 * request.h: the head of an HTTP/1.x request (RFC 9112), strictly.
 *
 * One pass over the bytes as they lie in the caller's read buffer; the result
 * is slices into it.  Wherever two readers of the same bytes could disagree
 * about where the request ends, it is refused: 400, and the caller closes.
 */
#ifndef BELAY_HTTP_REQUEST_H
#define BELAY_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define HTTP_HEAD_SIZE   16384		/* bytes of request line and headers, unless it is set otherwise */
#define HTTP_HEADERS_MAX 100		/* 431 */
/* Bytes of the request target, of a head that may have so many. */
#define HTTP_TARGET_MAX(head_max) ((head_max) - (head_max) / 4)

enum http_method {
	HTTP_OTHER,			/* a well-formed method that is not one of these */
	HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT, HTTP_DELETE, HTTP_OPTIONS, HTTP_PATCH
};

struct http_header {
	struct slice name;		/* as sent */
	struct slice value;		/* no space around it, no control bytes but tabs in it */
};

struct http_head {
	enum http_method method;
	struct slice method_text;
	struct slice target;		/* as sent */
	struct slice path;		/* raw, begins with '/'; "*" for OPTIONS * */
	struct slice query;		/* raw, without the '?'; p is NULL when there is none */
	struct slice host;		/* authority of the target,
	    else the Host header; may be empty */
	int minor;			/* HTTP/1.minor: 0 or 1 */
	bool chunked;
	bool keep_alive;		/* the client is willing */
	bool expect_continue;		/* the client waits for 100 before it sends the body */
	bool upgrade;			/* Connection names "upgrade" */
	int64_t content_length;		/* -1: none given */
	unsigned headers_n;
	struct http_header headers[HTTP_HEADERS_MAX];
};

/*
 * Parses one head of head_max bytes at most (431; 414 for a target beyond
 * HTTP_TARGET_MAX).  >0: its length in bytes, the empty line included.  0: it
 * is not complete (asking again with more bytes costs one search for its end).
 * <0: minus the HTTP status to refuse it with: 400, 414, 417, 431, 501, 505;
 * the connection can't be used again.  Wrong bytes may be told before the head is complete.
 *
 * A single empty line before the request is skipped (RFC 9112 section 2.2) and
 * counted in the length.  Host must be there once in HTTP/1.1.  There is at
 * most one Content-Length, of digits; never together with Transfer-Encoding,
 * which must be exactly "chunked" (501 when another coding precedes it) and is
 * not taken in HTTP/1.0.  An absolute-form target gives path, query and host.
 */
long http_head_parse(const char *p, size_t n, size_t head_max, struct http_head *h);

/* The value of the first header of that name (any case), or SLICE_NONE (p is NULL). */
struct slice http_header(const struct http_head *h, const char *name);
unsigned http_header_count(const struct http_head *h, const char *name);
/* Whether a comma-separated header (all lines of that name) has the token, any case. */
bool http_header_has_token(const struct http_head *h, const char *name, const char *token);
/* Walks the elements of all lines of a comma-separated header; *it starts as zeros. */
struct http_list_iter {
	unsigned header;
	size_t offset;
};
bool http_list_next(const struct http_head *h, const char *name, struct http_list_iter *it,
    struct slice *element);

bool http_name_eq(struct slice a, const char *b);	/* ASCII, any case */

#endif
