/*
 * cors.h: what pages of other origins may do (the Fetch standard, section 3.3).
 */
#ifndef BELAY_GATEWAY_CORS_H
#define BELAY_GATEWAY_CORS_H

#include <stdbool.h>

#include "base/buf.h"
#include "http/request.h"

struct conn;
struct gateway;

/* Does it come from a page of auth.origins, or from no page at all? */
bool cors_allowed(const struct gateway *g, const struct http_head *head);
/* The same; one that may not is counted, and told in the log. */
bool cors_admit(struct gateway *g, const struct conn *c, const struct http_head *head);

/*
 * Appends the header lines by which a browser lets a page of an allowed origin read the answer, each
 * with its CRLF; nothing for others, which are counted and told in the log.
 */
void cors_put(struct buf *out, struct gateway *g, const struct conn *c, const struct http_head *head);

/*
 * What is told further to a browser that asks before it sends a request (a preflight): allow, the
 * methods, and the headers that it asks for.  For an allowed origin only.
 */
void cors_preflight_put(struct buf *out, const struct http_head *head, struct slice allow);

#endif
