/*
 * revoke.c: ends what a key let in that is not in force any more.  One gateway process; each looks
 * at its own connections.
 */
#include "base/log.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/party.h"
#include "gateway/revoke.h"

static bool
is_in_force(struct gateway *g, const struct conn *c)
{
	const struct http *h;

	if (c->kind == CONN_USER || c->kind == CONN_DEVICE)
		return auth_allows(g->auth, c->key, tenant_name(party_tenant(c)),
		    c->kind == CONN_USER ? (enum role)c->role : ROLE_DEVICE);
	if (conn_phase(c) != CONN_HTTP)
		return true;		/* not open yet, or nobody's */
	h = c->http;
	return (h->state != REQUEST_BODY && h->state != REQUEST_ASKED) ||
	    auth_allows(g->auth, h->who.key, slice_of(h->who.tenant), h->who.role);
}

void
revoke_tick(struct gateway *g)
{
	struct revoke *r = &g->revoke;
	struct conn *c = NULL;

	if (r->version != auth_keys_version(g->auth))
		*r = (struct revoke){ .version = auth_keys_version(g->auth) };
	for (unsigned n = 0; n < REVOKE_STEP && (c = conn_at(&g->conns, r->next)) != NULL; r->next++) {
		if (conn_phase(c) == CONN_FREE || c->doomed || is_in_force(g, c))
			continue;
		if (conn_phase(c) == CONN_HTTP)
			http_revoke(g, c);
		else
			conn_close(g, c, WS_CLOSE_INVALID_TOKEN);
		gateway_count(g, KEYS_REVOKED, 1);
		r->ended++;
		n++;
	}
	if (c == NULL && r->ended > 0) {
		log_info("%u connections and requests ended with the keys that had let them in",
		    (unsigned)r->ended);
		r->ended = 0;
	}
}
