/*
 * drain.c: a gateway leaves.  Clients are told to come back, each after a delay of its own, and are
 * closed with 1012 at a bounded rate, so that the others are not overrun.  One gateway process.
 *
 * Where the instance stops, connections are taken all the same until the others have left: who asks how the server
 * is is answered, and all others are refused with 503 (`late`).  Where another binary follows, clients wait for that
 * one in the listeners' queues.
 */
#include "gateway/accept.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"

#define FIRST_S 2			/* that a connection has for its first request */
#define TAIL_MS 1000			/* kept free before the deadline: close frames need time to be answered */

static void
tell_all(struct gateway *g)
{
	uint32_t total = g->conns.open > 0 ? g->conns.open : 1, n = 0;
	int64_t spread = (int64_t)total * 1000 / g->conf->server_drain_rate + 1000;

	for (uint32_t i = 0; conn_at(&g->conns, i) != NULL; i++) {
		struct conn *c = conn_at(&g->conns, i);

		if (conn_phase(c) == CONN_CLOSING)
			conn_hurry(g, c);
		if (conn_phase(c) != CONN_OPEN || c->kind == CONN_ECHO)
			continue;
		buf_clear(&g->payload);
		buf_puts(&g->payload, "{\"afterMs\":");
		buf_put_i64(&g->payload, spread * n++ / total + 100);
		buf_putc(&g->payload, '}');
		conn_send(g, c, "reconnect", SLICE_NONE, buf_slice(&g->payload), SLICE_NONE);
	}
}

void
drain_start(struct gateway *g, int64_t deadline_mono_ms)
{
	switch (shm_course(g->w->shm)) {
	case SHM_LEAVES:
		break;
	case SHM_RENEWS:
		accept_stop_clients(g);
		break;
	case SHM_STAYS:			/* the master is gone */
		accept_stop(g);
		break;
	}
	g->drain.deadline_ms = deadline_mono_ms;
	g->drain.last_ms = g->w->mono_ms;
	g->drain.position = 0;
	g->drain.allowance = 0;
	tell_all(g);
}

static void
leave(struct gateway *g, struct conn *c)
{
	switch (conn_phase(c)) {
	case CONN_OPEN:
	case CONN_AUTH:
	case CONN_RESUMING:
	case CONN_SILENT:
		conn_close(g, c, WS_CLOSE_RESTART);
		break;
	case CONN_HTTP:
		/* A request in hand, or on its way, is still answered; a connection that only waits is ended. */
		if (!c->http->answered && g->wheel.now - c->room_s < FIRST_S)
			break;
		if (c->http->state == REQUEST_HEAD && c->http->in.len == 0)
			conn_drop(g, c);
		break;
	case CONN_CLOSING:
	case CONN_FREE:
		break;
	}
}

static bool
waits_for_a_command(const struct conn *c)
{
	return conn_phase(c) == CONN_HTTP && c->http->state == REQUEST_ASKED && c->http->waiting;
}

/*
 * Where nothing is left but requests that wait for the end of a command, no device is here any more
 * that could bring it about: they are told how it stands, so that nobody waits for the deadline.
 */
static void
end_waiting(struct gateway *g)
{
	struct conn *c;

	for (uint32_t i = 0; (c = conn_at(&g->conns, i)) != NULL; i++)
		if (conn_phase(c) != CONN_FREE && !c->doomed && !c->late && !waits_for_a_command(c))
			return;
	for (uint32_t i = 0; (c = conn_at(&g->conns, i)) != NULL; i++)
		if (conn_phase(c) != CONN_FREE && !c->doomed && !c->late && !c->http->as_it_is)
			http_wait_no_more(g, c);
}

void
drain_tick(struct gateway *g)
{
	int64_t left = g->drain.deadline_ms - g->w->mono_ms;
	double rate = g->conf->server_drain_rate;

	if (!g->w->draining)
		return;
	if (left <= 0)
		tell_flush(g);
	/* Those that come late would never end. */
	if (g->conns.open == g->lates && g->w->listener_count > 0 && shm_course(g->w->shm) == SHM_LEAVES) {
		accept_stop(g);
		worker_close_listeners(g->w);
	}
	if ((g->conns.open == 0 && turns_waiting(&g->to_storage) == 0) || left <= 0) {
		worker_done(g->w);
		return;
	}
	end_waiting(g);
	/* Faster than asked for where time would not do otherwise. */
	if (left > TAIL_MS && g->conns.open * 1000.0 / (double)(left - TAIL_MS) > rate)
		rate = g->conns.open * 1000.0 / (double)(left - TAIL_MS);
	g->drain.allowance += left <= TAIL_MS ? 1e9 :
	    rate * (double)(g->w->mono_ms - g->drain.last_ms) / 1000.0;
	g->drain.last_ms = g->w->mono_ms;
	for (uint32_t seen = 0; g->drain.allowance >= 1; ) {
		struct conn *c = conn_at(&g->conns, g->drain.position++);

		if (c == NULL) {
			g->drain.position = 0;
			if (seen++ > 0)
				break;
			continue;
		}
		if (c->doomed || conn_phase(c) == CONN_FREE || conn_phase(c) == CONN_CLOSING)
			continue;
		leave(g, c);
		g->drain.allowance--;
	}
	if (g->drain.allowance > rate)
		g->drain.allowance = rate;
}
