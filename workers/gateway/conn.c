/*
 * conn.c: the connections of a gateway process: their slabs, events and end.
 * What arrives is handed to the state that the connection is in.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/peer.h"
#include "gateway/tls_conn.h"
#include "net/sock.h"
#include "shm/ref.h"

#define CHUNK 256u			/* connections of a slab */
#define HURRY_S 3			/* what a peer has that has read our last word */

/* A slab knows its gateway, so that a connection need not. */
struct slab {
	struct gateway *gateway;
	struct conn conn[CHUNK];
};

static struct gateway *
gateway_of(struct conn *c)
{
	struct conn *first = c - c->index % CHUNK;

	return ((struct slab *)((char *)first - offsetof(struct slab, conn)))->gateway;
}

struct conn *
conn_at(struct conn_table *t, uint32_t index)
{
	if (index / CHUNK >= t->slab_count)
		return NULL;
	return &t->slabs[index / CHUNK]->conn[index % CHUNK];
}

static int
add_slab(struct gateway *g)
{
	struct conn_table *t = &g->conns;
	uint32_t first = t->slab_count * CHUNK;
	struct slab *slab;

	if (first + CHUNK > REF_INDEX_MAX)
		return -1;
	t->slabs = must_realloc(t->slabs, (t->slab_count + 1) * sizeof(*t->slabs));
	slab = must_alloc(sizeof(*slab));
	slab->gateway = g;
	t->slabs[t->slab_count++] = slab;
	for (uint32_t i = CHUNK; i-- > 0; ) {
		slab->conn[i].index = first + i;
		slab->conn[i].generation = 1;
		slab->conn[i].wheel_next = t->free;
		t->free = first + i + 1;
	}
	return 0;
}

int
conn_fd(const struct conn *c)
{
	return event_get_fd(&c->ev);
}

static void
ignore(struct gateway *g, struct conn *c, uint8_t *p, size_t n)
{
	(void)g;
	(void)c;
	(void)p;
	(void)n;
}

/*
 * Nothing is said with it, and what comes is thrown away: nobody has said yet what it is to be, or all is said and
 * the peer's half is to end too.
 */
static const struct conn_state mute = { .phase = CONN_CLOSING, .input = ignore, .timer = conn_drop };

void
conn_become(struct conn *c, const struct conn_state *state)
{
	c->state = state;
}

void
conn_timer(struct gateway *g, struct conn *c)
{
	c->state->timer(g, c);
}

/* The state frees what it has of the connection. */
static void
lose(struct gateway *g, struct conn *c)
{
	if (c->state->lost != NULL)
		c->state->lost(g, c);
}

void
conn_input(struct gateway *g, struct conn *c, size_t n)
{
	c->heard = true;
	gateway_count(g, BYTES_IN, (uint64_t)n);
	c->state->input(g, c, g->read_buf, n);
}

void
conn_ended(struct gateway *g, struct conn *c, bool orderly)
{
	c->closed_by_peer = true;
	if (!orderly || c->state->ended == NULL || !c->state->ended(g, c))
		conn_drop(g, c);
}

static void
on_readable(struct gateway *g, struct conn *c)
{
	ssize_t n = net_read(conn_fd(c), g->read_buf, limits_read_size(g, c));

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		conn_ended(g, c, n == 0);
		return;
	}
	conn_input(g, c, (size_t)n);
}

/* Those whose bytes are not read as they come: they begin with a PROXY header, or are TLS. */
static void
on_wrapped_event(struct gateway *g, struct conn *c, short what)
{
	if (c->tls != NULL)
		tls_conn_event(g, c, what);
	else if (what & EV_READ)
		peer_read_proxy(g, c);
}

static void
on_event(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct gateway *g = gateway_of(c);

	(void)fd;
	worker_clock(g->w);		/* the loop may have slept since it was read */
	if (c->tls != NULL || c->awaits_proxy) {
		on_wrapped_event(g, c, what);
		return;
	}
	if (what & EV_WRITE)
		output_writable(g, c);
	if (what & EV_READ && !c->doomed)
		on_readable(g, c);
}

static int
want_events(struct gateway *g, struct conn *c, int fd)
{
	short what = EV_PERSIST;

	if (c->tls != NULL)
		what |= c->tls->events = tls_conn_events(c);
	else
		what |= (conn_is_read(c) ? EV_READ : 0) | (c->writing ? EV_WRITE : 0);
	if (event_assign(&c->ev, g->w->base, fd, what, on_event, c) == -1)
		return -1;
	return what == EV_PERSIST ? 0 : event_add(&c->ev, NULL);
}

void
conn_change_events(struct gateway *g, struct conn *c)
{
	int fd = conn_fd(c);

	event_del(&c->ev);
	if (want_events(g, c, fd) == -1)
		conn_drop(g, c);
}

void
conn_want_write(struct gateway *g, struct conn *c, bool want)
{
	if (c->doomed || c->writing == want)
		return;
	c->writing = want;
	conn_change_events(g, c);
}

void
conn_pause_reading(struct gateway *g, struct conn *c, bool pause)
{
	if (c->doomed || c->paused == pause)
		return;
	c->paused = pause;
	conn_change_events(g, c);
	if (!pause && c->tls != NULL)
		tls_conn_resume(g, c);
}

void
conn_hold_reading(struct gateway *g, struct conn *c, bool hold)
{
	if (c->doomed || c->waits == hold)
		return;
	c->waits = hold;
	conn_change_events(g, c);
	if (!hold && c->tls != NULL)
		tls_conn_resume(g, c);
}

struct conn *
conn_new(struct gateway *g, int fd)
{
	struct conn_table *t = &g->conns;
	struct conn *c;
	uint32_t index, generation;

	if (t->free == 0 && add_slab(g) == -1)
		return NULL;
	c = conn_at(t, t->free - 1);
	t->free = c->wheel_next;
	index = c->index;
	generation = c->generation;
	memset(c, 0, sizeof(*c));
	c->index = index;
	c->generation = generation;
	c->state = &mute;
	if (want_events(g, c, fd) == -1) {
		c->state = NULL;
		c->wheel_next = t->free;
		t->free = index + 1;
		return NULL;
	}
	t->open++;
	gateway_count(g, CONNECTIONS_ACCEPTED, 1);
	gateway_count(g, CONNECTIONS_OPEN, 1);
	return c;
}

uint64_t
conn_ref(const struct gateway *g, const struct conn *c)
{
	return ref_make(g->w->slot, g->w->generation, c->index, c->generation);
}

struct conn *
conn_of_ref(struct gateway *g, uint64_t ref)
{
	struct conn *c;

	if (ref == REF_NONE || ref_slot(ref) != g->w->slot || ref_slot_gen(ref) != g->w->generation)
		return NULL;
	c = conn_at(&g->conns, ref_index(ref));
	if (c == NULL || c->state == NULL || c->doomed || c->generation != ref_gen(ref))
		return NULL;
	return c;
}

void
conn_peer(const struct conn *c, char out[INET6_ADDRSTRLEN])
{
	static const uint8_t none[16];
	bool v4 = address_is_v4(c->address);

	if (memcmp(c->address, none, sizeof(none)) == 0)
		memcpy(out, "unix", 5);
	else if (inet_ntop(v4 ? AF_INET : AF_INET6, c->address + (v4 ? 12 : 0), out,
	    INET6_ADDRSTRLEN) == NULL)
		memcpy(out, "?", 2);
}

void
conn_drop(struct gateway *g, struct conn *c)
{
	int fd;

	if (c->doomed)
		return;
	c->doomed = true;
	lose(g, c);
	fd = conn_fd(c);
	wheel_clear(&g->wheel, &g->conns, c);
	output_discard(g, c);
	ws_reader_fini(&c->reader);
	peer_leave(g, c);
	if (c->guest)
		g->guests--;
	if (c->late)
		g->lates--;
	tls_conn_free(g, c);
	event_del(&c->ev);
	net_close(fd);
	c->user_next = g->conns.doomed;
	g->conns.doomed = c->index + 1;
}

void
conn_reap(struct gateway *g)
{
	struct conn_table *t = &g->conns;

	while (t->doomed != 0) {
		struct conn *c = conn_at(t, t->doomed - 1);

		t->doomed = c->user_next;
		c->state = NULL;
		c->generation = (c->generation + 1) & REF_GEN_MASK;
		if (c->generation == 0)
			c->generation = 1;
		c->wheel_next = t->free;
		t->free = c->index + 1;
		t->open--;
		gateway_count(g, CONNECTIONS_CLOSED, 1);
		gateway_count(g, CONNECTIONS_OPEN, -1);
	}
}

void
conn_drop_when_sent(struct gateway *g, struct conn *c)
{
	c->drop_when_sent = true;
	if (c->out == NULL)
		conn_sent(g, c);
}

void
conn_hurry(struct gateway *g, struct conn *c)
{
	wheel_set(&g->wheel, &g->conns, c, g->wheel.now + HURRY_S);
}

void
conn_sent(struct gateway *g, struct conn *c)
{
	if (c->doomed)
		return;
	if (!c->drop_when_sent) {
		if (c->state->sent != NULL)
			c->state->sent(g, c);
		return;
	}
	if (c->closed_by_peer) {
		conn_drop(g, c);
		return;
	}
	/*
	 * Closing with bytes unread would send a reset, and that could overtake our last words:
	 * only our half is closed, and what still comes is thrown away until the peer's half
	 * follows or time is up.
	 */
	if (c->tls != NULL)
		tls_conn_end(g, c);
	else
		net_end(conn_fd(c));
	lose(g, c);
	c->state = &mute;
	conn_pause_reading(g, c, false);
	conn_hurry(g, c);
}

void
conn_table_fini(struct gateway *g)
{
	struct conn_table *t = &g->conns;

	for (uint32_t i = 0; i < t->slab_count * CHUNK; i++)
		if (conn_at(t, i)->state != NULL)
			conn_drop(g, conn_at(t, i));
	conn_reap(g);
	for (uint32_t i = 0; i < t->slab_count; i++)
		free(t->slabs[i]);
	free(t->slabs);
}
