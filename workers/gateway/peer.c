/*
 * peer.c: who a connection's client is, by its socket or by the word of a trusted proxy, and
 * whether its address may have another connection.  One gateway process.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/address.h"
#include "base/log.h"
#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/peer.h"
#include "gateway/tls_conn.h"
#include "net/proxy.h"

#define TOO_MANY_RETRY_MS 5000

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

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
	addresses_fini(&g->addresses);
	rates_fini(&g->connect_rates);
	rates_fini(&g->request_rates);
}

void
peer_address(const struct sockaddr_storage *ss, uint8_t ip[16])
{
	memset(ip, 0, 16);
	if (ss->ss_family == AF_INET) {
		memcpy(ip, mapped, sizeof(mapped));
		memcpy(ip + 12, &((const struct sockaddr_in *)ss)->sin_addr, 4);
	} else if (ss->ss_family == AF_INET6) {
		memcpy(ip, &((const struct sockaddr_in6 *)ss)->sin6_addr, 16);
	}
}

bool
peer_is_trusted(const struct gateway *g, const uint8_t ip[16])
{
	return g->trusted.n > 0 && networks_have(&g->trusted, ip);
}

void
peer_set(struct conn *c, const uint8_t ip[16])
{
	static const uint8_t none[16];

	memset(c->address, 0, sizeof(c->address));
	c->v6 = memcmp(ip, mapped, sizeof(mapped)) != 0 && memcmp(ip, none, sizeof(none)) != 0;
	if (c->v6)
		memcpy(c->address, ip, 16);
	else
		memcpy(c->address, ip + 12, 4);
}

static void
peer_get(const struct conn *c, uint8_t ip[16])
{
	static const uint8_t none[16];

	if (c->v6) {
		memcpy(ip, c->address, 16);
	} else {
		memset(ip, 0, 16);
		if (memcmp(c->address, none, 4) != 0)
			memcpy(ip, mapped, sizeof(mapped));
		memcpy(ip + 12, c->address, 4);
	}
}

/* --- how many */

bool
peer_admit(struct gateway *g, const uint8_t ip[16], bool *counted, int *status,
    int64_t *retry_after_ms)
{
	unsigned most = g->conf->limits_connections_per_ip, rate = g->conf->limits_connects_per_ip;

	*counted = false;
	if (most > 0 && addresses_count(&g->addresses, ip) >= most) {
		gateway_count(g, CONNECTIONS_REFUSED, 1);
		*status = 503;
		*retry_after_ms = TOO_MANY_RETRY_MS;
		return false;
	}
	if (rate > 0 && !rates_take_address(&g->connect_rates, ip, rate / 60.0, rate, g->w->mono_ms,
	    retry_after_ms)) {
		gateway_count(g, REQUESTS_LIMITED, 1);
		*status = 429;
		return false;
	}
	if (most > 0)
		*counted = addresses_add(&g->addresses, ip) > 0;
	return true;
}

void
peer_give_back(struct gateway *g, const uint8_t ip[16])
{
	addresses_remove(&g->addresses, ip);
}

void
peer_leave(struct gateway *g, struct conn *c)
{
	uint8_t ip[16];

	if (!c->counted)
		return;
	peer_get(c, ip);
	peer_give_back(g, ip);
	c->counted = false;
}

bool
peer_admit_upgrade(struct gateway *g, struct conn *c)
{
	uint8_t ip[16];
	bool counted;
	int64_t retry_after_ms;
	int status;

	if (!c->by_proxy || c->admin)
		return true;
	peer_get(c, ip);
	/*
	 * A proxy that names nobody, such as one that looks whether we are well, speaks for itself.
	 */
	if (peer_is_trusted(g, ip))
		return true;
	if (!peer_admit(g, ip, &counted, &status, &retry_after_ms))
		return false;
	c->counted = counted;
	return true;
}

bool
peer_admit_request(struct gateway *g, const struct identity *who, int64_t *retry_after_ms)
{
	char name[ID_TENANT_MAX + ID_USER_MAX + 2];
	unsigned rate = g->conf->limits_requests_per_user;
	size_t tenant = strlen(who->tenant), user = strlen(who->user);

	if (rate == 0 || who->role == ROLE_SERVICE)
		return true;
	memcpy(name, who->tenant, tenant + 1);
	memcpy(name + tenant + 1, who->user, user);
	if (rates_take(&g->request_rates, slice_bytes(name, tenant + 1 + user), rate, 2.0 * rate,
	    g->w->mono_ms, retry_after_ms))
		return true;
	gateway_count(g, REQUESTS_LIMITED, 1);
	return false;
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
	bool counted = false, admitted = true;

	c->awaits_proxy = false;
	buf_fini(&c->http->in);
	if (client->known) {
		peer_set(c, client->ip);
		memcpy(c->http->peer, client->ip, sizeof(c->http->peer));
		c->by_proxy = peer_is_trusted(g, client->ip);
		if (!c->by_proxy)
			admitted = peer_admit(g, client->ip, &counted, &status, &retry_after_ms);
		c->counted = counted;
	}
	if (!admitted && !c->over_tls)
		http_refuse_early(g, c, status, retry_after_ms);
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
	ssize_t n = recv(conn_fd(c), g->read_buf, PROXY_HEADER_MAX - had, MSG_PEEK);
	long len;

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
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
	if (recv(conn_fd(c), g->read_buf, take, 0) != (ssize_t)take) {
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
	peer_set(c, ip);
}
