/*
 * cors.c: the headers by which browsers let a page of another origin speak to the REST interface.
 *
 * One gateway process; owns nothing.  A browser sends no token by itself, so a page can do no more
 * here than whoever made it: where auth.origins is empty every page may read what its token earns
 * it, and credentials of the browser's own are never asked for.  The WebSocket handshake is refused to other
 * origins (upgrade.c); a request is answered, and the browser keeps the answer from the page.
 */
#include <stdio.h>
#include <string.h>

#include "base/conf.h"
#include "base/text.h"
#include "gateway/conn.h"
#include "gateway/cors.h"
#include "gateway/gateway.h"
#include "gateway/refusals.h"
#include "http/response.h"

#define ORIGIN_SHOWN	100		/* characters of it in the log */
#define ASKED_MAX	1024		/* bytes of the headers that a preflight asks for */
#define PREFLIGHT_S "600"		/* for which a browser need not ask again */

/* An origin without the port that its scheme has anyway, which browsers leave out (RFC 6454 section 6.2). */
static struct slice
without_default_port(struct slice s)
{
	static const struct { const char *scheme, *port; } defaults[] = {
		{ "https://", ":443" }, { "http://", ":80" }
	};

	for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
		size_t scheme = strlen(defaults[i].scheme), port = strlen(defaults[i].port);

		if (s.len > scheme + port && memcmp(s.p, defaults[i].scheme, scheme) == 0 &&
		    memcmp(s.p + s.len - port, defaults[i].port, port) == 0)
			s.len -= port;
	}
	return s;
}

static bool
is_host_part(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (strchr("abcdefghijklmnopqrstuvwxyz0123456789-._", s.p[i]) == NULL || s.p[i] == '\0')
			return false;
	return s.len > 0 && s.p[0] != '.';
}

/* listed: scheme://host[:port]; a host *.name stands for all below that name, and not for the name. */
static bool
is_listed(struct slice origin, struct slice listed)
{
	const char *star = memchr(listed.p, '*', listed.len);
	size_t head, tail;

	origin = without_default_port(origin);
	listed = without_default_port(listed);
	if (star == NULL)
		return slice_eq(origin, listed);
	head = (size_t)(star - listed.p);
	tail = listed.len - head - 1;
	return origin.len > head + tail && memcmp(origin.p, listed.p, head) == 0 &&
	    memcmp(origin.p + origin.len - tail, star + 1, tail) == 0 &&
	    is_host_part(slice_bytes(origin.p + head, origin.len - head - tail));
}

bool
cors_allowed(const struct gateway *g, const struct http_head *head)
{
	struct slice origin = http_header(head, "Origin");

	if (g->conf->auth_origins.n == 0 || origin.p == NULL)
		return true;
	for (size_t i = 0; i < g->conf->auth_origins.n; i++)
		if (is_listed(origin, slice_of(g->conf->auth_origins.v[i])))
			return true;
	return false;
}

bool
cors_admit(struct gateway *g, const struct conn *c, const struct http_head *head)
{
	struct slice origin = http_header(head, "Origin");
	char why[ORIGIN_SHOWN + 40];
	int n = origin.len < ORIGIN_SHOWN ? (int)origin.len : ORIGIN_SHOWN;

	if (cors_allowed(g, head))
		return true;
	(void)snprintf(why, sizeof(why), "Origin \"%.*s\" is not in auth.origins", n, origin.p);
	refusals_log(g, c, why);
	gateway_count(g, ORIGINS_REFUSED, 1);
	return false;
}

void
cors_put(struct buf *out, struct gateway *g, const struct conn *c, const struct http_head *head)
{
	struct slice origin = http_header(head, "Origin");

	if (origin.p == NULL)
		return;
	if (g->conf->auth_origins.n > 0)	/* caches: the answer to another page differs */
		buf_puts(out, "Vary: Origin\r\n");
	if (!cors_admit(g, c, head))
		return;
	http_header_put(out, "Access-Control-Allow-Origin",
	    g->conf->auth_origins.n > 0 ? origin : SLICE("*"));
	buf_puts(out, "Access-Control-Expose-Headers: Allow, Retry-After\r\n");
}

/* Names of headers between commas. */
static bool
is_name_list(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!text_is_token_char(s.p[i]) && s.p[i] != ',' && s.p[i] != ' ' && s.p[i] != '\t')
			return false;
	return s.len > 0;
}

void
cors_preflight_put(struct buf *out, const struct http_head *head, struct slice allow)
{
	struct slice asked = http_header(head, "Access-Control-Request-Headers");

	if (http_header(head, "Access-Control-Request-Method").p == NULL)
		return;
	if (asked.p == NULL || asked.len > ASKED_MAX || !is_name_list(asked))
		asked = SLICE("Authorization, Content-Type, Idempotency-Key");
	buf_puts(out, "Vary: Access-Control-Request-Headers\r\n");
	http_header_put(out, "Access-Control-Allow-Methods", allow);
	http_header_put(out, "Access-Control-Allow-Headers", asked);
	buf_puts(out, "Access-Control-Max-Age: " PREFLIGHT_S "\r\n");
}
