/*
 * tls_conn.c: TLS on a gateway's connections: handshakes, reading, writing and ending, driven by
 * the events of their sockets.  One gateway process; the certificate comes with the settings, the
 * tickets' secret from the master.
 */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/limits.h"
#include "gateway/tls_conn.h"
#include "net/sock.h"

#define STEPS 16 /* of handshakes in one turn: their signatures keep all others waiting */
#define CHURN		500		/* handshakes and ends that leave holes worth closing */
#define TRIM_REST_MS	10000
#define PATIENCE_MS	1000		/* a handshake that took longer gives way to a new one */

_Static_assert(
    WORKER_SECRET_LEN >= TLS_SECRET_LEN, "the tickets' keys need a secret of that length");

/* --- the certificate */

static struct tls_context *
make_context(const struct conf *conf, const uint8_t *secret, char *why, size_t len)
{
	char err[256];
	struct tls_context *context = tls_context_new(slice_of(conf->server_tls_certificate_text),
	    slice_of(conf->server_tls_key_text), secret, err, sizeof(err));

	if (context == NULL)
		(void)snprintf(why, len, "server.tls_certificate, server.tls_key: %s", err);
	return context;
}

int
tls_conn_check(const struct conf *conf, char *why, size_t len)
{
	struct tls_context *context;

	if (conf->server_tls_certificate[0] == '\0' && conf->server_tls_key[0] == '\0' &&
	    conf->server_tls_listen.n == 0)
		return 0;
	if (conf->server_tls_certificate[0] == '\0' || conf->server_tls_key[0] == '\0') {
		(void)snprintf(why, len, "%s: %s is wanted for TLS",
		    conf->server_tls_certificate[0] != '\0' ? "server.tls_certificate" :
		    conf->server_tls_key[0] != '\0' ? "server.tls_key" : "server.tls_listen",
		    conf->server_tls_key[0] == '\0' ? "server.tls_key" : "server.tls_certificate");
		return -1;
	}
	context = make_context(conf, NULL, why, len);
	if (context == NULL)
		return -1;
	tls_context_free(&context);
	return 0;
}

int
tls_conn_load(struct gateway *g)
{
	struct tls_context *context;
	char why[512];

	if (g->conf->server_tls_listen.n == 0)
		return 0;
	context = make_context(g->conf, g->w->secret, why, sizeof(why));
	if (context == NULL) {
		log_error("%s", why);
		return -1;
	}
	if (tls_context_not_after(context) < g->w->now_ms / 1000)
		log_warn("server.tls_certificate has expired");
	tls_context_free(&g->tls.context);
	g->tls.context = context;
	return 0;
}

void
tls_conn_fini(struct gateway *g)
{
	tls_context_free(&g->tls.context);
}

/* --- handshakes */

static void
handshake_begin(struct gateway *g, struct conn *c)
{
	struct tls_conns *all = &g->tls;
	struct tls_conn *t = c->tls;

	t->handshake = true;
	t->began_ms = (uint32_t)g->w->mono_ms;
	t->older = all->newest;
	if (all->newest != NULL)
		all->newest->tls->newer = c;
	else
		all->oldest = c;
	all->newest = c;
	all->handshakes++;
}

static void
handshake_end(struct gateway *g, struct conn *c)
{
	struct tls_conns *all = &g->tls;
	struct tls_conn *t = c->tls;

	t->handshake = false;
	all->churn++;
	if (t->older != NULL)
		t->older->tls->newer = t->newer;
	else
		all->oldest = t->newer;
	if (t->newer != NULL)
		t->newer->tls->older = t->older;
	else
		all->newest = t->older;
	t->older = t->newer = NULL;
	all->handshakes--;
}

bool
tls_conn_full(const struct gateway *g)
{
	return g->tls.handshakes >= g->conf->limits_tls_handshakes &&
	    (uint32_t)g->w->mono_ms - g->tls.oldest->tls->began_ms < PATIENCE_MS;
}

static void
give_up_oldest(struct gateway *g)
{
	struct conn *c = g->tls.oldest;

	gateway_count(g, TLS_GIVEN_UP, 1);
	handshake_end(g, c);
	conn_drop(g, c);
}

int
tls_conn_begin(struct gateway *g, struct conn *c)
{
	struct tls_conn *t;

	if (g->tls.context == NULL || tls_conn_full(g))
		return -1;
	if (g->tls.handshakes >= g->conf->limits_tls_handshakes)
		give_up_oldest(g);
	t = must_alloc(sizeof(*t));
	if (tls_init(&t->tls, g->tls.context, conn_fd(c)) == -1) {
		free(t);
		return -1;
	}
	t->events = EV_READ;
	c->tls = t;
	handshake_begin(g, c);
	gateway_count(g, TLS_OPEN, 1);
	return 0;
}

void
tls_conn_free(struct gateway *g, struct conn *c)
{
	struct tls_conn *t = c->tls;

	if (t == NULL)
		return;
	if (t->handshake) {
		gateway_count(g, TLS_FAILED, 1);
		handshake_end(g, c);
	}
	if (t->holds) {
		struct conn **at = &g->tls.later;

		while (*at != c)
			at = &(*at)->tls->later;
		*at = t->later;
	}
	g->tls.churn++;
	(void)tls_end(&t->tls);
	tls_fini(&t->tls);
	free(t);
	c->tls = NULL;
	gateway_count(g, TLS_OPEN, -1);
}

static void
handshake_done(struct gateway *g, struct conn *c)
{
	handshake_end(g, c);
	gateway_count(g, TLS_HANDSHAKES, 1);
	if (tls_resumed(&c->tls->tls))
		gateway_count(g, TLS_RESUMED, 1);
}

static void
handshake_failed(struct gateway *g, struct conn *c)
{
	const struct tls *tls = &c->tls->tls;
	char peer[INET6_ADDRSTRLEN];

	conn_peer(c, peer);
	log_debug("%s: TLS handshake failed: %s", peer,
	    tls->fault != NULL ? tls->fault : "the connection ended");
	if (!tls->spoke_http || conn_phase(c) != CONN_HTTP) {
		conn_drop(g, c);
		return;
	}
	/* A browser that was given http:// for https:// is told in its own words. */
	tls_conn_free(g, c);
	http_respond_error(
	    g, c, ERROR_bad_request, "this port speaks TLS: https:// or wss://", NULL);
}

/* --- what was decided about events */

short
tls_conn_events(const struct conn *c)
{
	const struct tls_conn *t = c->tls;
	short what = 0;

	if (conn_is_read(c) || t->tls.write_wants_read)
		what |= EV_READ;
	if ((c->writing && !t->tls.write_wants_read) || (t->tls.read_wants_write && conn_is_read(c)) ||
	    t->ending)
		what |= EV_WRITE;
	return what;
}

static void
follow_events(struct gateway *g, struct conn *c)
{
	if (!c->doomed && c->tls != NULL && tls_conn_events(c) != c->tls->events)
		conn_change_events(g, c);
}

static void
read_later(struct gateway *g, struct conn *c)
{
	struct tls_conn *t = c->tls;

	if (t->holds)
		return;
	t->holds = true;
	t->later = g->tls.later;
	g->tls.later = c;
}

void
tls_conn_resume(struct gateway *g, struct conn *c)
{
	if (tls_holds(&c->tls->tls))
		read_later(g, c);
}

void
tls_conn_turn(struct gateway *g)
{
	struct conn *c;

	g->tls.steps = STEPS;
	while ((c = g->tls.later) != NULL) {
		g->tls.later = c->tls->later;
		c->tls->later = NULL;
		c->tls->holds = false;
		if (conn_is_read(c))
			event_active(&c->ev, EV_READ, 0);
	}
}

/*
 * A handshake takes three times the memory of a session, and a session thirty times that of a
 * connection in the clear: after a storm the heap is full of holes, which the C library keeps
 * unless it is asked. That takes some 20 ms where half of 250 MB is free, so it is not asked often.
 */
void
tls_conn_tick(struct gateway *g)
{
	if (g->tls.churn < CHURN || g->w->mono_ms < g->tls.trim_ms || g->tls.handshakes > 0)
		return;
	g->tls.churn = 0;
	g->tls.trim_ms = g->w->mono_ms + TRIM_REST_MS;
	(void)malloc_trim(0);
}

/* --- reading, writing, ending */

/*
 * Fills the process's buffer from as many records as there are.  What is left then is inside
 * OpenSSL or in the socket; the socket raises an event for its part, and the next turn looks at
 * ours.
 */
static void
on_readable(struct gateway *g, struct conn *c)
{
	struct tls_conn *t = c->tls;
	size_t n = 0, size = limits_read_size(g, c);
	ssize_t got;
	int error = 0;

	if (t->handshake) {
		if (g->tls.steps == 0)
			return;			/* the event comes again */
		g->tls.steps--;
	}
	do {
		got = tls_read(&t->tls, g->read_buf + n, size - n);
		error = errno;
		if (got > 0)
			n += (size_t)got;
	} while (got > 0 && n < size);
	if (t->handshake && t->tls.open)
		handshake_done(g, c);
	if (n > 0)
		conn_input(g, c, n);
	if (c->doomed || c->tls == NULL)
		return;
	if (got > 0) {
		if (conn_is_read(c))
			tls_conn_resume(g, c);
	} else if (got == 0 || error != EAGAIN) {
		if (t->handshake) {
			c->closed_by_peer = true;
			handshake_failed(g, c);
		} else {
			conn_ended(g, c, got == 0);
		}
	}
}

ssize_t
tls_conn_write(struct conn *c, const void *p, size_t n)
{
	if (!c->tls->tls.open) {		/* nobody writes before something was read */
		errno = EPIPE;
		return -1;
	}
	return tls_write(&c->tls->tls, p, n);
}

void
tls_conn_end(struct gateway *g, struct conn *c)
{
	struct tls_conn *t = c->tls;

	t->ending = tls_end(&t->tls) == -1;
	if (!t->ending)
		net_end(conn_fd(c));
	follow_events(g, c);
}

void
tls_conn_event(struct gateway *g, struct conn *c, short what)
{
	bool can_write = (what & EV_WRITE) != 0, can_read = (what & EV_READ) != 0;

	if (c->tls->ending && can_write)
		tls_conn_end(g, c);
	if (!c->doomed && c->writing && (can_write || (can_read && c->tls->tls.write_wants_read)))
		output_writable(g, c);
	if (!c->doomed && conn_is_read(c) && (can_read || (can_write && c->tls->tls.read_wants_write)))
		on_readable(g, c);
	follow_events(g, c);
}
