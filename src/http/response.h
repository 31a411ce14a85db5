/*
 * response.h: HTTP/1.1 responses into a buffer.
 */
#ifndef BELAY_HTTP_RESPONSE_H
#define BELAY_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

#define HTTP_DATE_LEN 29		/* "Sun, 06 Nov 1994 08:49:37 GMT" */

/* RFC 9110 section 5.6.7.  Callers keep the text for a second: struct http_date. */
void http_date_format(int64_t at_ms, char out[HTTP_DATE_LEN + 1]);

/* The Date header's text, made anew once a second.  Zero-initialised; one per process. */
struct http_date {
	int64_t second;
	char text[HTTP_DATE_LEN + 1];
};
struct slice http_date(struct http_date *d, int64_t now_ms);

const char *http_reason(int status);	/* "Not Found"; "Unknown" */

struct http_response {
	int status;
	struct slice content_type;	/* application/json when p is NULL and there is a body */
	struct slice body;
	struct slice date;		/* left out when p is NULL */
	struct slice extra;		/* further header lines, each with its CRLF */
	struct slice allow;		/* Allow of a 405 */
	int64_t retry_after_ms;		/* >0: Retry-After, in seconds rounded up */
	unsigned keep_alive_s;		/* >0, and not close: Keep-Alive, how long the connection may be idle */
	bool close;			/* Connection: close; else keep-alive is told to HTTP/1.0 */
	bool http10;			/* the request was HTTP/1.0 */
	bool head_only;			/* answer to HEAD: Content-Length, no body */
};

/*
 * Appends the whole response.  Every one has Content-Length (but 1xx, 204 and
 * 304) and Cache-Control: no-store; 401 has WWW-Authenticate: Bearer.
 */
void http_response_put(struct buf *out, const struct http_response *r);

/* Appends {"error":{"code":…,"message":…,"field":…}}; field is left out when empty. */
void http_error_body_put(struct buf *out, const char *code, struct slice message,
    struct slice field);

/*
 * Appends a whole error response, made of a status, a code (as of error.h's
 * error_name()) and a message.  Of *r all but status, body and content_type counts; r may be NULL.
 */
void http_error_put(struct buf *out, const struct http_response *r, int status, const char *code,
    struct slice message, struct slice field);

#define HTTP_CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

/* Appends "Name: value\r\n"; a value with control bytes ends the process: check it before. */
void http_header_put(struct buf *out, const char *name, struct slice value);

#endif
