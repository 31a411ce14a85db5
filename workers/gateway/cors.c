/*
 * cors.c: the headers by which browsers let a page of another origin speak to the REST interface.
 *
 * One gateway process; owns nothing.  A browser sends no token by itself, so a page can do no more
 * here than whoever made it: where auth.origins is empty every page may read what its token earns
 * it, and credentials of the browser's own are never asked for.  The WebSocket handshake is refused to other
 * origins (upgrade.c); a request is answered, and the browser keeps the answer from the page.
 */
#include "base/conf.h"
#include "gateway/cors.h"
#include "gateway/gateway.h"
#include "http/response.h"

#define PREFLIGHT_S "600"		/* for which a browser need not ask again */

bool
cors_allowed(const struct gateway *g, const struct http_head *head)
{
	struct slice origin = http_header(head, "Origin");

	if (g->conf->auth_origins.n == 0 || origin.p == NULL)
		return true;
	for (size_t i = 0; i < g->conf->auth_origins.n; i++)
		if (slice_is(origin, g->conf->auth_origins.v[i]))
			return true;
	return false;
}

void
cors_put(struct buf *out, const struct gateway *g, const struct http_head *head)
{
	struct slice origin = http_header(head, "Origin");

	if (origin.p == NULL)
		return;
	if (g->conf->auth_origins.n > 0)	/* caches: the answer to another page differs */
		buf_puts(out, "Vary: Origin\r\n");
	if (!cors_allowed(g, head))
		return;
	http_header_put(out, "Access-Control-Allow-Origin",
	    g->conf->auth_origins.n > 0 ? origin : SLICE("*"));
	buf_puts(out, "Access-Control-Expose-Headers: Allow, Retry-After\r\n");
}

void
cors_preflight_put(struct buf *out, const struct http_head *head, struct slice allow)
{
	if (http_header(head, "Access-Control-Request-Method").p == NULL)
		return;
	http_header_put(out, "Access-Control-Allow-Methods", allow);
	buf_puts(out, "Access-Control-Allow-Headers: Authorization, Content-Type, Idempotency-Key\r\n"
	    "Access-Control-Max-Age: " PREFLIGHT_S "\r\n");
}
