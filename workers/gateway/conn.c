/*
 * conn.c: the connections of a gateway process: their slabs, events and end.
 * What arrives is handed on by phase to http.c and session.c.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/address.h"
#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/limits.h"
#include "gateway/peer.h"
#include "gateway/resume.h"
#include "gateway/session.h"
#include "gateway/tls_conn.h"
#include "net/sock.h"
#include "shm/ref.h"
#include "ws/frame.h"

#define CHUNK 256u			/* connections of a slab */
#define CLOSING_S 3			/* how long the peer's close frame is waited for, once ours is written */
#define CONN_RETRY_MS 5000		/* until a client that was refused may come back, where nothing says better */
#define LAST_WORDS_S 30			/* how long a peer that does not read keeps ours from being written */

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

void
conn_input(struct gateway *g, struct conn *c, size_t n)
{
	c->heard = true;
	gateway_count(g, BYTES_IN, (uint64_t)n);
	switch ((enum conn_phase)c->phase) {
	case CONN_HTTP:
		http_input(g, c, (const char *)g->read_buf, n);
		break;
	case CONN_AUTH:
	case CONN_RESUMING:
		http_hold_input(g, c, (const char *)g->read_buf, n);
		break;
	case CONN_SILENT:
	case CONN_OPEN:
	case CONN_CLOSING:
		session_input(g, c, g->read_buf, n);
		break;
	case CONN_FREE:
		must(!"an event of a free connection");
	}
}

void
conn_ended(struct gateway *g, struct conn *c, bool orderly)
{
	c->closed_by_peer = true;
	if (!orderly || c->phase != CONN_HTTP || !http_ended(g, c))
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
	c->phase = CONN_HTTP;
	if (want_events(g, c, fd) == -1) {
		c->phase = CONN_FREE;
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
	if (c == NULL || c->phase == CONN_FREE || c->doomed || c->generation != ref_gen(ref))
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
	session_end(g, c, "connection_lost");
	http_end(g, c);
	if (c->reads)
		reads_conn_gone(g, c);
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
		c->phase = CONN_FREE;
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
	wheel_set(&g->wheel, &g->conns, c, g->wheel.now + CLOSING_S);
}

void
conn_sent(struct gateway *g, struct conn *c)
{
	if (c->doomed)
		return;
	if (!c->drop_when_sent) {
		if (c->phase == CONN_CLOSING)
			conn_hurry(g, c);
		else if (c->phase == CONN_HTTP)
			http_sent(g, c);
		else if (c->phase == CONN_RESUMING)
			resume_sent(g, c);
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
	if (c->phase != CONN_CLOSING)
		http_end(g, c);
	c->phase = CONN_CLOSING;
	c->reader.ended = true;
	conn_pause_reading(g, c, false);
	conn_hurry(g, c);
}

/*
 * Some libraries show a program no close code that they do not know, and 1013 is one of those: a
 * message before says why, and when to come back.
 */
static void
tell_retry(struct gateway *g, struct conn *c, enum ws_close row)
{
	struct envelope_fault fault;
	struct buf text = BUF_INIT;
	struct frame *f;
	bool busy = c->phase != CONN_OPEN && c->http != NULL && c->http->refusal_retry_ms > 0;

	envelope_fault_set(&fault, row == WS_CLOSE_TOO_MANY ? ERROR_too_many : ERROR_unavailable, NULL,
	    "%s", ws_close_reason(row));
	fault.retry_after_ms = busy ? c->http->refusal_retry_ms : CONN_RETRY_MS;
	envelope_error_put(&text, SLICE_NONE, &fault);
	f = frame_new(WS_FIN | WS_OP_TEXT, buf_slice(&text));
	output_send(g, c, f);
	frame_put(f);
	buf_fini(&text);
	party_count_out(g, c);
}

/* cause is what a device's disconnection is stored with. */
static void
close_with(struct gateway *g, struct conn *c, uint16_t code, struct slice reason, enum ws_close row)
{
	uint8_t bytes[WS_CLOSE_FRAME_MAX];
	char cause[32];
	struct frame *f;
	size_t n;

	if (c->doomed || c->phase == CONN_CLOSING)
		return;
	if (row == WS_CLOSE_OVERLOADED || row == WS_CLOSE_TOO_MANY) {
		tell_retry(g, c, row);
		if (c->doomed || c->phase == CONN_CLOSING)
			return;
	}
	if (row == WS_CLOSE_REPLACED)
		gateway_count(g, REPLACED, 1);
	if (g->conf->ws_close_codes == CONF_CLOSE_CODES_CLASSIC)
		code = ws_close_classic(code);
	snprintf(cause, sizeof(cause), "%s", row == WS_CLOSE_NONE ? "closed" : ws_close_name(row));
	for (char *p = cause; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	session_end(g, c, cause);
	if (c->phase != CONN_OPEN)
		http_end(g, c);
	c->phase = CONN_CLOSING;
	conn_pause_reading(g, c, false);	/* the peer's close frame may be behind other things */
	n = ws_close_put(bytes, code, reason.p, reason.len, NULL);
	f = frame_raw(slice_bytes(bytes, n));
	output_send(g, c, f);
	frame_put(f);
	/* conn_sent() shortens it as soon as the peer has taken all */
	wheel_set(&g->wheel, &g->conns, c, g->wheel.now + (g->w->draining ? CLOSING_S : LAST_WORDS_S));
}

void
conn_close_code(struct gateway *g, struct conn *c, uint16_t code, struct slice reason)
{
	close_with(g, c, code, reason, ws_close_of(code));
}

void
conn_close(struct gateway *g, struct conn *c, enum ws_close why)
{
	close_with(g, c, ws_close_code(why), slice_of(ws_close_reason(why)), why);
}

void
conn_send(struct gateway *g, struct conn *c, const char *type, struct slice re,
    struct slice payload_json, struct slice cursor)
{
	struct frame *f;

	buf_clear(&g->scratch);
	envelope_put(&g->scratch, type, re, payload_json, cursor);
	f = frame_new(WS_FIN | WS_OP_TEXT, buf_slice(&g->scratch));
	output_send(g, c, f);
	frame_put(f);
	party_count_out(g, c);
}

void
conn_table_fini(struct gateway *g)
{
	struct conn_table *t = &g->conns;

	for (uint32_t i = 0; i < t->slab_count * CHUNK; i++)
		if (conn_at(t, i)->phase != CONN_FREE)
			conn_drop(g, conn_at(t, i));
	conn_reap(g);
	for (uint32_t i = 0; i < t->slab_count; i++)
		free(t->slabs[i]);
	free(t->slabs);
}
