/*
 * output.c: frames and the queues in which they wait for the socket.  One
 * gateway process; the only file that writes to clients.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/output.h"
#include "gateway/tls_conn.h"
#include "net/sock.h"
#include "ws/deflate.h"
#include "ws/frame.h"

#define GATHER_MAX	16384		/* bytes that are worth copying into one write */
#define IOV_BATCH	64
#define REFILL_MAX	64		/* frames that are brought back at once */
#define BEHIND		65536		/* bytes that are worth writing before more is made */
#define POOL_MAX	1024
#define DEFLATE_MIN	64		/* bytes: shorter messages do not shrink */

void
output_pool_init(struct output_pool *p)
{
	memset(p, 0, sizeof(*p));
	p->gather = must_alloc(GATHER_MAX);
}

void
output_pool_fini(struct output_pool *p)
{
	struct output *o;

	while ((o = p->free) != NULL) {
		p->free = o->next_free;
		free(o);
	}
	free(p->gather);
}

static struct frame *
frame_alloc(size_t len)
{
	struct frame *f;

	must(len <= UINT32_MAX);
	f = must_realloc(NULL, sizeof(*f) + len);
	memset(f, 0, sizeof(*f));
	f->refs = 1;
	f->len = (uint32_t)len;
	return f;
}

struct frame *
frame_new(uint8_t first, struct slice payload)
{
	uint8_t header[WS_HEADER_MAX];
	size_t n = ws_header_put(header, first, payload.len, NULL);
	struct frame *f = frame_alloc(n + payload.len);

	f->header_len = (uint8_t)n;
	f->text = first == (WS_FIN | WS_OP_TEXT);
	memcpy(f->data, header, n);
	if (payload.len != 0)
		memcpy(f->data + n, payload.p, payload.len);
	return f;
}

struct frame *
frame_raw(struct slice bytes)
{
	struct frame *f = frame_alloc(bytes.len);

	memcpy(f->data, bytes.p, bytes.len);
	return f;
}

struct frame *
frame_get(struct frame *f)
{
	f->refs++;
	return f;
}

void
frame_put(struct frame *f)
{
	struct frame *next;

	if (f == NULL || --f->refs > 0)
		return;
	for (struct frame *d = f->deflated; d != NULL; d = next) {
		next = d->deflated;
		d->deflated = NULL;
		frame_put(d);
	}
	free(f);
}

/*
 * The frame as this connection is to get it: compressed once for all of the same window, where it
 * pays.  It belongs to the one that was given.
 */
static struct frame *
frame_for(struct gateway *g, struct conn *c, struct frame *f)
{
	uint8_t bit = (uint8_t)(1 << (15 - c->deflate_bits));
	const uint8_t *packed;
	struct frame *d;
	size_t len;

	if (!c->deflate || !f->text || g->deflate == NULL || f->len - f->header_len < DEFLATE_MIN ||
	    (f->deflate_useless & bit) != 0)
		return f;
	for (d = f->deflated; d != NULL; d = d->deflated)
		if (d->deflate_bits == c->deflate_bits)
			return d;
	gateway_count(g, COMPRESSED, 1);
	if (ws_deflate_message(g->deflate, c->deflate_bits, f->data + f->header_len,
	    f->len - f->header_len, &packed, &len) != 0) {
		f->deflate_useless |= bit;
		return f;
	}
	d = frame_new(WS_FIN | WS_RSV1 | WS_OP_TEXT, slice_bytes(packed, len));
	d->conflatable = f->conflatable;
	d->about = f->about;
	d->deflate_bits = c->deflate_bits;
	d->deflated = f->deflated;
	f->deflated = d;
	return d;
}

static struct output *
output_of(struct gateway *g, struct conn *c)
{
	struct output_pool *p = &g->outputs;
	struct output *o = c->out;

	if (o != NULL)
		return o;
	if ((o = p->free) != NULL) {
		p->free = o->next_free;
		p->free_count--;
	} else {
		o = must_realloc(NULL, sizeof(*o));
	}
	memset(o, 0, sizeof(*o));
	o->queue = o->small;
	o->cap = OUTPUT_SMALL;
	c->out = o;
	return o;
}

static void
output_give_back(struct gateway *g, struct conn *c)
{
	struct output_pool *p = &g->outputs;
	struct output *o = c->out;

	must(o->count == 0 && !o->dirty);
	c->out = NULL;
	if (o->queue != o->small)
		free(o->queue);
	aside_fini(&o->aside);
	frame_put(o->pong);
	if (p->free_count >= POOL_MAX) {
		free(o);
		return;
	}
	o->next_free = p->free;
	p->free = o;
	p->free_count++;
}

/* Takes over the caller's reference. */
static void
queue_push(struct output *o, struct frame *f)
{
	if (o->count == o->cap) {
		uint32_t cap = o->cap * 2;
		struct frame **queue = must_realloc(NULL, cap * sizeof(struct frame *));

		for (uint32_t i = 0; i < o->count; i++)
			queue[i] = o->queue[(o->head + i) % o->cap];
		if (o->queue != o->small)
			free(o->queue);
		o->queue = queue;
		o->cap = cap;
		o->head = 0;
	}
	o->queue[(o->head + o->count++) % o->cap] = f;
	o->bytes += f->len;
	o->held += f->conflatable ? 0 : frame_cost(f);
}

static void
queue_pop(struct output *o)
{
	struct frame *f = o->queue[o->head];

	o->head = (o->head + 1) % o->cap;
	o->count--;
	o->bytes -= f->len;
	o->held -= f->conflatable ? 0 : frame_cost(f);
	o->written = 0;
	frame_put(f);
}

static void
mark_dirty(struct gateway *g, struct conn *c, struct output *o)
{
	if (o->dirty || o->blocked)
		return;
	o->dirty = true;
	o->next_dirty = g->outputs.dirty;
	g->outputs.dirty = c;
}

/* What was left out since there were so many: for the counter, and for the gap message. */
static void
note_dropped(struct gateway *g, struct output *o, uint32_t before)
{
	if (before == 0 && o->aside.dropped > 0)
		o->dropped_since_ms = g->w->now_ms;
	gateway_count(g, CONFLATED, o->aside.dropped - before);
}

static void
set_aside(struct gateway *g, struct output *o, struct frame *f)
{
	uint32_t dropped = o->aside.dropped;

	aside_put(&o->aside, f, g->conf->limits_send_buffer_bytes, (uint32_t)g->w->mono_ms);
	note_dropped(g, o, dropped);
}

static void
push_gap(struct output *o)
{
	struct buf text = BUF_INIT;

	buf_puts(&text, "{\"type\":\"gap\",\"payload\":{\"dropped\":");
	buf_put_u64(&text, o->aside.dropped);
	buf_puts(&text, ",\"since\":");
	buf_put_json_time(&text, o->dropped_since_ms);
	buf_puts(&text, "}}");
	queue_push(o, frame_new(WS_FIN | WS_OP_TEXT, buf_slice(&text)));
	buf_fini(&text);
	o->aside.dropped = 0;
}

/*
 * The queue is empty: what was kept out of it follows, after a word about what is missing, but no
 * more than is written at once, so that the rest can still become newer.  false: there is nothing.
 */
static bool
refill(struct gateway *g, struct conn *c, struct output *o)
{
	uint32_t now_ms = (uint32_t)g->w->mono_ms, dropped = o->aside.dropped;
	struct frame *next[REFILL_MAX];
	unsigned n = 0;
	size_t len = 0;

	if (o->lifted) {
		o->lifted = false;
		net_hold_unsent(conn_fd(c), false);
	}
	if (o->pong == NULL && o->aside.count == 0 && dropped == 0)
		return false;
	if (conn_phase(c) == CONN_CLOSING)		/* nothing follows our close frame */
		return false;
	if (o->pong != NULL)
		queue_push(o, o->pong);
	o->pong = NULL;
	while (n < REFILL_MAX && len < GATHER_MAX &&
	    (next[n] = aside_take(&o->aside, now_ms)) != NULL)
		len += next[n++]->len;
	note_dropped(g, o, dropped);
	if (o->aside.dropped > 0)
		push_gap(o);
	for (unsigned i = 0; i < n; i++)
		queue_push(o, next[i]);
	return o->count > 0;
}

/*
 * One record, filled from as many frames as it takes.  It begins with the same bytes as long as they
 * are not taken, whatever was queued meanwhile: OpenSSL insists on that.
 */
static ssize_t
write_record(struct gateway *g, struct conn *c, struct output *o)
{
	struct frame *first = o->queue[o->head];
	size_t len = 0;

	_Static_assert(GATHER_MAX >= TLS_RECORD_MAX, "a record is gathered whole");
	if (o->count == 1 || first->len - o->written >= TLS_RECORD_MAX)
		return tls_conn_write(c, first->data + o->written, first->len - o->written);
	for (uint32_t i = 0; i < o->count && len < TLS_RECORD_MAX; i++) {
		struct frame *f = o->queue[(o->head + i) % o->cap];
		size_t from = i == 0 ? o->written : 0, n = f->len - from;

		if (n > TLS_RECORD_MAX - len)
			n = TLS_RECORD_MAX - len;
		memcpy(g->outputs.gather + len, f->data + from, n);
		len += n;
	}
	return tls_conn_write(c, g->outputs.gather, len);
}

/* Small frames are joined into one write; a large one goes as it is. */
static ssize_t
write_some(struct gateway *g, struct conn *c, struct output *o)
{
	struct frame *first = o->queue[o->head];
	struct iovec iov[IOV_BATCH];
	size_t len = 0;
	int n = 0;

	if (c->tls != NULL)
		return write_record(g, c, o);
	if (o->count == 1)
		return net_write(conn_fd(c), first->data + o->written, first->len - o->written);
	if (o->bytes - o->written <= GATHER_MAX) {
		for (uint32_t i = 0; i < o->count; i++) {
			struct frame *f = o->queue[(o->head + i) % o->cap];
			size_t from = i == 0 ? o->written : 0;

			memcpy(g->outputs.gather + len, f->data + from, f->len - from);
			len += f->len - from;
		}
		return net_write(conn_fd(c), g->outputs.gather, len);
	}
	for (uint32_t i = 0; i < o->count && n < IOV_BATCH; i++, n++) {
		struct frame *f = o->queue[(o->head + i) % o->cap];
		size_t from = i == 0 ? o->written : 0;

		iov[n].iov_base = f->data + from;
		iov[n].iov_len = f->len - from;
	}
	return net_writev(conn_fd(c), iov, n);
}

/* Writes until nothing waits, or the socket takes no more: then it is watched.  May end the connection. */
static void
write_out(struct gateway *g, struct conn *c)
{
	struct output *o = c->out;

	while (o->count > 0 || refill(g, c, o)) {
		ssize_t n = write_some(g, c, o);

		if (n < 0) {
			if (errno != EAGAIN) {
				conn_drop(g, c);
				return;
			}
			o->blocked = true;
			conn_want_write(g, c, true);
			return;
		}
		if (o->blocked)
			c->heard = true;	/* it reads, if slowly: its pong may be far behind */
		gateway_count(g, BYTES_OUT, (uint64_t)n);
		while (n > 0) {
			struct frame *f = o->queue[o->head];
			size_t left = f->len - o->written;

			if ((size_t)n < left) {
				o->written += (uint32_t)n;
				break;
			}
			n -= (ssize_t)left;
			queue_pop(o);
		}
	}
	o->blocked = false;
	conn_want_write(g, c, false);
}

/*
 * There would be more than may wait.  A client that keeps up is not slow for that: it is given what
 * waits, in the middle of the turn.  The output stays, empty perhaps, until the turn ends.
 */
static void
make_room(struct gateway *g, struct conn *c, struct output *o)
{
	if (!o->blocked && conn_phase(c) != CONN_AUTH)
		write_out(g, c);
}

static bool
is_full(const struct gateway *g, const struct output *o, const struct frame *f)
{
	return o->held > 0 && o->held + frame_cost(f) > g->conf->limits_send_buffer_bytes;
}

/*
 * Room for what may not be lost: if it can't leave it may still fill the kernel's buffers.  false:
 * there is none, or the connection has ended.
 */
static bool
find_room(struct gateway *g, struct conn *c, struct output *o, const struct frame *f)
{
	if (is_full(g, o, f))
		make_room(g, c, o);
	if (!c->doomed && is_full(g, o, f) && o->blocked && !o->lifted) {
		o->lifted = true;
		net_hold_unsent(conn_fd(c), true);
		o->blocked = false;	/* what is taken now is no sign of life */
		write_out(g, c);
	}
	return !c->doomed && !is_full(g, o, f);
}

static void
send_telemetry(struct gateway *g, struct conn *c, struct output *o, struct frame *f)
{
	if (o->bytes >= GATHER_MAX)
		make_room(g, c, o);	/* what is in the queue can't become newer */
	if (c->doomed)
		return;
	if (o->blocked || o->aside.count > 0)
		set_aside(g, o, f);
	else
		queue_push(o, frame_get(f));
	mark_dirty(g, c, o);
}

void
output_send(struct gateway *g, struct conn *c, struct frame *f)
{
	struct output *o;

	if (c->doomed)
		return;
	o = output_of(g, c);
	f = frame_for(g, c, f);
	if (f->conflatable) {
		send_telemetry(g, c, o, f);
		return;
	}
	/*
	 * HTTP answers no more requests before it was sent, and what is replayed in AUTH was measured by
	 * who sent it.
	 */
	if (f->header_len != 0 && conn_phase(c) != CONN_AUTH && !find_room(g, c, o, f)) {
		if (!c->doomed && c->state->full != NULL)
			c->state->full(g, c);
		return;
	}
	queue_push(o, frame_get(f));
	/* the 101 waits for the answer about the token, and leaves with it: output_release() */
	if (conn_phase(c) != CONN_AUTH)
		mark_dirty(g, c, o);
}

void
output_pong(struct gateway *g, struct conn *c, struct slice payload, bool newest)
{
	struct frame *f;
	struct output *o;

	if (c->doomed)
		return;
	o = output_of(g, c);
	f = frame_new(WS_FIN | WS_OP_PONG, payload);
	if (newest || o->blocked || o->pong != NULL || is_full(g, o, f)) {
		frame_put(o->pong);
		o->pong = f;
	} else {
		queue_push(o, f);
	}
	mark_dirty(g, c, o);
}

static void
flush(struct gateway *g, struct conn *c)
{
	write_out(g, c);
	if (c->doomed || c->out->blocked)
		return;
	output_give_back(g, c);
	conn_sent(g, c);
}

void
output_flush_all(struct gateway *g)
{
	struct conn *c;

	while ((c = g->outputs.dirty) != NULL) {
		struct output *o = c->out;

		g->outputs.dirty = o->next_dirty;
		o->dirty = false;
		if (!o->blocked)
			flush(g, c);
	}
}

bool
output_is_behind(const struct conn *c)
{
	return c->out != NULL && (c->out->blocked || c->out->bytes > BEHIND);
}

void
output_release(struct gateway *g, struct conn *c)
{
	if (c->out != NULL && c->out->count > 0)
		mark_dirty(g, c, c->out);
}

void
output_writable(struct gateway *g, struct conn *c)
{
	if (c->out != NULL && !c->out->dirty)
		flush(g, c);
}

void
output_discard(struct gateway *g, struct conn *c)
{
	struct output *o = c->out;

	if (o == NULL)
		return;
	if (o->dirty) {
		struct conn **at = &g->outputs.dirty;

		while (*at != c)
			at = &(*at)->out->next_dirty;
		*at = o->next_dirty;
		o->dirty = false;
	}
	while (o->count > 0)
		queue_pop(o);
	output_give_back(g, c);
}
