/*
 * accept.c: takes connections from the sockets that the master opened.
 *
 * All gateways listen on the same sockets.  Left alone, the process that is
 * woken first takes most; so one that already holds more than its fair share
 * takes few at a time and leaves the rest to the others.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

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
#include "net/sock.h"

#define BATCH		64		/* connections taken in one turn */
#define BUSY_RETRY_MS	5000
#define REST_MS		500		/* after running out of descriptors */
#define LOG_EVERY_MS	10000
#define GUESTS		256		/* that may stay to be told why not */
#define SLACK		16		/* connections above the mean that nobody minds */

struct listener {
	struct event ev;
	struct gateway *gateway;
	size_t index;
	bool admin, tls;
	bool resting;			/* no handshake can begin now */
};

/* Connections of all gateways together, and how many gateways there are. */
static uint64_t
mean_open(const struct gateway *g)
{
	unsigned n = gateway_role.count(g->conf);

	return stats_sum(g->w->shm, STAT_CONNECTIONS_OPEN) / (n > 0 ? n : 1);
}

/* Of the master's listeners, which come in the order of these options; never NULL. */
static const char *
address_of(const struct conf *conf, size_t i)
{
	if (i < conf->server_listen.n)
		return conf->server_listen.v[i];
	i -= conf->server_listen.n;
	return i < conf->server_tls_listen.n ? conf->server_tls_listen.v[i] : conf->server_admin_listen;
}

/* Does each connection of it that a trusted proxy makes begin with a PROXY header? */
static bool
wants_proxy_header(const struct gateway *g, const struct listener *l)
{
	const struct conf_list *some = &g->conf->server_proxy_listen;

	if (g->conf->server_proxy_protocol)
		return true;
	for (size_t i = 0; i < some->n; i++)
		if (strcmp(some->v[i], address_of(g->conf, l->index)) == 0)
			return true;
	return false;
}

/* By whom it came: before begin(). */
static void
note_way(const struct gateway *g, const struct listener *l, struct conn *c, bool trusted)
{
	c->admin = l->admin;
	c->over_tls = l->tls;
	c->by_proxy = trusted;
	c->awaits_proxy = trusted && wants_proxy_header(g, l);
}

/* What is read from it is heeded from now on. */
static void
begin(struct conn *c, struct gateway *g, const uint8_t ip[16])
{
	memcpy(c->address, ip, sizeof(c->address));
	c->late = g->w->draining;
	g->lates += c->late;
	http_begin(g, c);
	memcpy(c->http->peer, ip, sizeof(c->http->peer));
	room_begin(g, c, c->admin ? ROOM_ADMIN : c->guest ? ROOM_GUESTS : ROOM_STRANGERS);
	if (c->over_tls && !c->awaits_proxy && tls_conn_begin(g, c) == -1)
		conn_drop(g, c);
}

void
accept_say_no(struct gateway *g, int fd, int status, int64_t retry_after_ms)
{
	char text[160];
	int n;

	n = snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nRetry-After: %lld\r\n"
	    "Content-Length: 0\r\nConnection: close\r\n\r\n",
	    status == 429 ? "429 Too Many Requests" : "503 Service Unavailable",
	    (long long)(retry_after_ms + 999) / 1000);
	(void)net_write(fd, text, (size_t)n);
	/* Closing with bytes unread sends a reset, which could overtake the answer. */
	net_end(fd);
	(void)net_read(fd, g->read_buf, GATEWAY_READ_SIZE);
}

/* Without a connection made of it. */
static void
close_at_once(struct gateway *g, const struct listener *l, int fd)
{
	if (!l->tls)
		accept_say_no(g, fd, 503, BUSY_RETRY_MS);
	net_close(fd);
}

/* Why a connection has no place, and what it is told. */
struct refusal {
	int status;
	int64_t retry_after_ms;
	bool full;			/* the instance is, not what its address may have */
};

static void
make_room_for_guest(struct gateway *g)
{
	if (g->guests >= GUESTS)
		room_end_guest(g);
}

void
accept_as_guest(struct gateway *g, struct conn *c, int status, int64_t retry_after_ms)
{
	make_room_for_guest(g);
	c->guest = true;
	g->guests++;
	room_enter(g, c, ROOM_GUESTS);
	c->http->refusal = status;
	c->http->refusal_retry_ms = retry_after_ms;
}

/*
 * There is no place for it.  Some at a time may stay as guests until they have said what they want,
 * since a browser that wants a WebSocket can read a close code, and no HTTP status; the newest, and
 * those before them are told a status.  TLS would cost a signature for each: who has too many
 * connections is closed without a word, but a load balancer asks with TLS how a full server is.
 */
static void
turn_away(struct gateway *g, const struct listener *l, int fd, const uint8_t ip[16], bool trusted,
    const struct refusal *why)
{
	struct conn *c;

	if (l->tls && !why->full) {
		net_close(fd);
		return;
	}
	make_room_for_guest(g);
	if ((c = conn_new(g, fd)) == NULL) {
		close_at_once(g, l, fd);
		return;
	}
	note_way(g, l, c, trusted);
	c->guest = true;
	g->guests++;
	begin(c, g, ip);
	if (c->doomed)
		return;
	c->http->refusal = why->status;
	c->http->refusal_retry_ms = why->retry_after_ms;
	c->http->health_too = why->full;
}

/* One more of all connections, if need be in the place of one that has said nothing for a while. */
static bool
take_place(struct gateway *g, uint8_t *holds)
{
	return limits_take(g, LIMITS_ALL, limits_all, holds) ||
	    (room_end_stranger(g) && limits_take(g, LIMITS_ALL, limits_all, holds));
}

static void
take(struct gateway *g, const struct listener *l, int fd, const uint8_t ip[16])
{
	struct refusal why = { 503, BUSY_RETRY_MS, false };
	struct conn *c = NULL;
	uint8_t holds = 0;
	bool trusted = !l->admin && peer_is_trusted(g, ip);

	if (!room_make(g, l->admin)) {
		gateway_count(g, CONNECTIONS_REFUSED, 1);
		close_at_once(g, l, fd);
		return;
	}
	if (!l->admin && !trusted && !peer_admit(g, ip, &holds, &why.status, &why.retry_after_ms)) {
		turn_away(g, l, fd, ip, trusted, &why);
		return;
	}
	if (!l->admin && !take_place(g, &holds)) {
		peer_give_back(g, ip, &holds);
		gateway_count(g, CONNECTIONS_REFUSED, 1);
		turn_away(g, l, fd, ip, trusted, &(struct refusal){ 503, BUSY_RETRY_MS, true });
		return;
	}
	if ((c = conn_new(g, fd)) == NULL) {
		peer_give_back(g, ip, &holds);
		gateway_count(g, CONNECTIONS_REFUSED, 1);
		close_at_once(g, l, fd);
		return;
	}
	note_way(g, l, c, trusted);
	c->holds = holds;
	begin(c, g, ip);
}

/* Too many handshakes are in hand: whoever comes waits in the kernel until the next tick. */
static bool
rests(struct listener *l)
{
	if (!l->tls || !tls_conn_full(l->gateway))
		return false;
	event_del(&l->ev);
	return l->resting = true;
}

/* The system has no room, and nobody can be ended here.  The admin's way in may have its own. */
static void
rest_all(struct gateway *g, const struct listener *l, const char *why)
{
	if (g->no_room_ms == 0 || g->w->mono_ms - g->no_room_ms >= LOG_EVERY_MS) {
		log_error("no connection can be taken: %s", why);
		g->no_room_ms = g->w->mono_ms;
	}
	for (unsigned i = 0; i < g->w->listener_count; i++)
		if (!g->listeners[i].admin || l->admin)
			event_del(&g->listeners[i].ev);
	g->accept_again_ms = g->w->mono_ms + REST_MS;
}

static void
on_acceptable(evutil_socket_t listen_fd, short what, void *arg)
{
	struct listener *l = arg;
	struct gateway *g = l->gateway;
	int batch = g->conns.open > mean_open(g) + SLACK ? 1 : BATCH;

	(void)what;
	worker_clock(g->w);		/* the loop may have slept since it was read */
	for (int i = 0; i < batch && !rests(l); i++) {
		uint8_t ip[16];
		int fd = net_accept(listen_fd, ip), error;

		if (fd >= 0) {
			take(g, l, fd, ip);
			continue;
		}
		error = errno;
		if (error == EINVAL)
			event_del(&l->ev);	/* it was shut: the master is gone */
		if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM)
			return;
		if (!room_end_one(g)) {
			rest_all(g, l, strerror(error));
			return;
		}
	}
}

static int
listen_on_all(struct gateway *g)
{
	for (unsigned i = 0; i < g->w->listener_count; i++)
		if ((!g->accept_over || g->listeners[i].admin) && event_add(&g->listeners[i].ev, NULL) == -1)
			return -1;
	g->accept_again_ms = 0;
	return 0;
}

int
accept_start(struct gateway *g)
{
	room_init(g);
	g->listeners = must_alloc((g->w->listener_count + 1) * sizeof(*g->listeners));
	for (unsigned i = 0; i < g->w->listener_count; i++) {
		struct listener *l = &g->listeners[i];

		l->gateway = g;
		l->index = i;
		l->admin = g->conf->server_admin_listen[0] != '\0' && i == g->w->listener_count - 1;
		l->tls = i >= g->conf->server_listen.n &&
		    i - g->conf->server_listen.n < g->conf->server_tls_listen.n;
		if (event_assign(&l->ev, g->w->base, g->w->listeners[i], EV_READ | EV_PERSIST,
		    on_acceptable, l) == -1)
			return -1;
	}
	return listen_on_all(g);
}

void
accept_stop(struct gateway *g)
{
	if (g->listeners == NULL)
		return;
	for (unsigned i = 0; i < g->w->listener_count; i++)
		event_del(&g->listeners[i].ev);
	g->accept_again_ms = 0;
	g->accept_over = true;
}

void
accept_stop_clients(struct gateway *g)
{
	for (unsigned i = 0; i < g->w->listener_count; i++)
		if (!g->listeners[i].admin)
			event_del(&g->listeners[i].ev);
	g->accept_again_ms = 0;
	g->accept_over = true;
}

void
accept_tick(struct gateway *g)
{
	if (g->accept_again_ms != 0 && g->w->mono_ms >= g->accept_again_ms && listen_on_all(g) == -1)
		g->accept_again_ms = g->w->mono_ms + REST_MS;
	for (unsigned i = 0; i < g->w->listener_count; i++) {
		struct listener *l = &g->listeners[i];

		if (!l->resting || tls_conn_full(g))
			continue;
		l->resting = false;
		if (g->accept_again_ms == 0 && !g->accept_over && event_add(&l->ev, NULL) == -1)
			l->resting = true;
	}
}
