/*
 * peer.c: who a connection's client is, by its socket or by the word of a trusted proxy, and
 * whether its address may have another connection.  One gateway process.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/must.h"
#include "gateway/accept.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/limits.h"
#include "gateway/peer.h"
#include "gateway/room.h"
#include "gateway/tls_conn.h"
#include "net/proxy.h"
#include "net/sock.h"

#define TOO_MANY_RETRY_MS 5000

void
peer_load(struct gateway *g)
{
	const struct conf_list *list = &g->conf->server_trusted_proxies;

	free(g->trusted.v);
	g->trusted.v = must_alloc((list->n + 1) * sizeof(*g->trusted.v));
	g->trusted.n = 0;
	for (size_t i = 0; i < list->n; i++)
		if (network_parse(slice_of(list->v[i]), &g->trusted.v[g->trusted.n]) == 0)
			g->trusted.n++;
}

void
peer_fini(struct gateway *g)
{
	free(g->trusted.v);
	g->trusted.v = NULL;
}

bool
peer_is_trusted(const struct gateway *g, const uint8_t ip[16])
{
	return g->trusted.n > 0 && networks_have(&g->trusted, ip);
}

/* --- how many */

/*
 * What is counted as one address: an IPv4 address, or 64 bits of an IPv6 address, since that much
 * everyone has.  false: a unix socket, which has none.
 */
static bool
address_thing(const struct gateway *g, const uint8_t ip[16], struct hash128 *thing)
{
	static const uint8_t none[8];
	/* IPv4 lies where no IPv6 network is. */
	const uint8_t *p = address_is_v4(ip) ? ip + 8 : ip;

	if (memcmp(p, none, sizeof(none)) == 0)
		return false;
	/* The spaces of users and tenants are \1 and \2: msg/audience.c. */
	*thing = digest_sip128(shm_hash_key(g->w->shm), SLICE("\4"), slice_bytes(p, 8));
	return true;
}

uint64_t
peer_address_hash(const struct gateway *g, const uint8_t ip[16])
{
	struct hash128 thing = { 0, 0 };

	(void)address_thing(g, ip, &thing);
	return thing.lo != 0 ? thing.lo : 1;
}

bool
peer_admit(struct gateway *g, const uint8_t ip[16], uint8_t *holds, int *status,
    int64_t *retry_after_ms)
{
	struct hash128 thing;

	if ((g->conf->limits_connections_per_ip == 0 && g->conf->limits_connects_per_ip == 0) ||
	    !address_thing(g, ip, &thing))
		return true;
	if (!limits_take(g, LIMITS_ADDRESS, thing, holds)) {
		gateway_count(g, CONNECTIONS_REFUSED, 1);
		*status = 503;
		*retry_after_ms = TOO_MANY_RETRY_MS;
		return false;
	}
	*retry_after_ms = limits_connect_wait_ms(g, thing);
	if (*retry_after_ms == 0)
		return true;
	limits_give(g, LIMITS_ADDRESS, thing, holds);
	gateway_count(g, REQUESTS_LIMITED, 1);
	*status = 429;
	return false;
}

void
peer_give_back(struct gateway *g, const uint8_t ip[16], uint8_t *holds)
{
	struct hash128 thing;

	if (*holds & LIMITS_ADDRESS && address_thing(g, ip, &thing))
		limits_give(g, LIMITS_ADDRESS, thing, holds);
	limits_give(g, LIMITS_ALL, limits_all, holds);
}

void
peer_leave(struct gateway *g, struct conn *c)
{
	room_leave(g, c);
	if (c->holds == 0)
		return;
	peer_give_back(g, c->address, &c->holds);
}

bool
peer_admit_upgrade(struct gateway *g, struct conn *c)
{
	int status;

	if (!c->by_proxy || c->admin)
		return true;
	/*
	 * A proxy that names nobody, such as one that looks whether we are well, speaks for itself.
	 */
	if (peer_is_trusted(g, c->address))
		return true;
	return peer_admit(g, c->address, &c->holds, &status, &c->http->refusal_retry_ms);
}

void
peer_recount(struct gateway *g, struct conn *c)
{
	struct hash128 thing;

	limits_recount(g, LIMITS_ALL, limits_all, &c->holds);
	/* Of a proxy's connection each request names another client, until it is a WebSocket. */
	if (c->awaits_proxy || (c->by_proxy && conn_phase(c) == CONN_HTTP))
		return;
	if ((c->holds & LIMITS_ADDRESS || !peer_is_trusted(g, c->address)) &&
	    address_thing(g, c->address, &thing))
		limits_recount(g, LIMITS_ADDRESS, thing, &c->holds);
}

/* --- the PROXY header */

static void
drop_malformed(struct gateway *g, struct conn *c)
{
	char peer[INET6_ADDRSTRLEN];

	conn_peer(c, peer);
	log_warn("%s, a trusted proxy, sent no good PROXY header", peer);
	gateway_count(g, PROXY_MALFORMED, 1);
	conn_drop(g, c);
}

/* The header is there: the connection is its client's, and TLS or HTTP follows. */
static void
take_client(struct gateway *g, struct conn *c, const struct proxy_client *client)
{
	int64_t retry_after_ms;
	int status = 0;
	bool admitted = true;

	c->awaits_proxy = false;
	buf_fini(&c->http->in);
	if (client->known) {
		memcpy(c->address, client->ip, sizeof(c->address));
		memcpy(c->http->peer, client->ip, sizeof(c->http->peer));
		c->by_proxy = peer_is_trusted(g, client->ip);
		if (!c->by_proxy && !c->guest)
			admitted = peer_admit(g, client->ip, &c->holds, &status, &retry_after_ms);
	}
	if (!admitted && !c->over_tls)
		accept_as_guest(g, c, status, retry_after_ms);
	else if (!admitted || (c->over_tls && tls_conn_begin(g, c) == -1))
		conn_drop(g, c);
}

/*
 * Only the header's own bytes are taken from the socket, since those behind it are TLS's: they are
 * looked at first, and an incomplete header is put by in http->in.
 */
void
peer_read_proxy(struct gateway *g, struct conn *c)
{
	struct buf *in = &c->http->in;
	struct proxy_client client;
	size_t had = in->len, take;
	ssize_t n = net_peek(conn_fd(c), g->read_buf, PROXY_HEADER_MAX - had);
	long len;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		c->closed_by_peer = true;
		conn_drop(g, c);
		return;
	}
	buf_put(in, g->read_buf, (size_t)n);
	len = proxy_parse((const uint8_t *)in->data, in->len, &client);
	if (len < 0 || (len == 0 && in->len >= PROXY_HEADER_MAX)) {
		drop_malformed(g, c);
		return;
	}
	take = len > 0 ? (size_t)len - had : (size_t)n;
	if (net_read(conn_fd(c), g->read_buf, take) != (ssize_t)take) {
		conn_drop(g, c);
		return;
	}
	gateway_count(g, BYTES_IN, take);
	if (len > 0)
		take_client(g, c, &client);
}

/* --- the head of a request */

void
peer_take_head(struct gateway *g, struct conn *c, const struct http_head *head)
{
	uint8_t ip[16];

	memcpy(ip, c->http->peer, sizeof(ip));
	if (g->conf->server_forwarded != CONF_FORWARDED_NONE)
		forwarded_client(head, g->conf->server_forwarded == CONF_FORWARDED_X ?
		    "X-Forwarded-For" : "Forwarded", &g->trusted, ip);
	memcpy(c->address, ip, sizeof(c->address));
}
