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
#define POOL_MAX	1024
#define DEFLATE_MIN	64		/* bytes: shorter messages do not shrink */
#define DEFLATE_BITS	15

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

void
frame_put(struct frame *f)
{
	if (f == NULL || --f->refs > 0)
		return;
	frame_put(f->deflated);
	free(f);
}

/*
 * The frame as this connection is to get it: compressed once for all that negotiated it, where it
 * pays.
 */
static struct frame *
frame_for(struct gateway *g, struct conn *c, struct frame *f)
{
	const uint8_t *packed;
	size_t packed_len;

	if (!c->deflate || !f->text || g->deflate == NULL || f->len - f->header_len < DEFLATE_MIN)
		return f;
	if (c->deflate_bits == DEFLATE_BITS && f->deflated != NULL)
		return f->deflated;
	if (ws_deflate_message(g->deflate, c->deflate_bits, f->data + f->header_len,
	    f->len - f->header_len, &packed, &packed_len) != 0)
		return f;

	struct frame *small = frame_new(WS_FIN | WS_RSV1 | WS_OP_TEXT,
	    slice_bytes(packed, packed_len));

	small->conflatable = f->conflatable;
	small->about = f->about;
	if (c->deflate_bits == DEFLATE_BITS)
		f->deflated = small;
	else
		small->refs = 0;	/* the queue's reference will be the only one */
	return small;
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

	must(o->count == 0 && o->aside_count == 0 && !o->dirty);
	c->out = NULL;
	if (o->queue != o->small)
		free(o->queue);
	free(o->aside);
	if (p->free_count >= POOL_MAX) {
		free(o);
		return;
	}
	o->next_free = p->free;
	p->free = o;
	p->free_count++;
}

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
	f->refs++;
}

static void
queue_pop(struct output *o)
{
	struct frame *f = o->queue[o->head];

	o->head = (o->head + 1) % o->cap;
	o->count--;
	o->bytes -= f->len;
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

static void
note_dropped(struct gateway *g, struct output *o)
{
	if (o->dropped++ == 0)
		o->dropped_since_ms = g->w->now_ms;
	gateway_count(g, CONFLATED, 1);
}

/* A newer value of a device takes the place of the one that waits. */
static void
set_aside(struct gateway *g, struct output *o, struct frame *f)
{
	size_t limit = g->conf->limits_send_buffer_bytes;

	for (uint32_t i = 0; i < o->aside_count; i++) {
		struct aside *a = &o->aside[i];

		if (a->about.lo != f->about.lo || a->about.hi != f->about.hi)
			continue;
		note_dropped(g, o);
		o->aside_bytes += f->len - (size_t)a->frame->len;
		frame_put(a->frame);
		a->frame = f;
		f->refs++;
		return;
	}
	if (o->aside_bytes + f->len > limit) {
		note_dropped(g, o);
		f->refs++;
		frame_put(f);
		return;
	}
	if (o->aside_count == o->aside_cap) {
		o->aside_cap = o->aside_cap == 0 ? 8 : o->aside_cap * 2;
		o->aside = must_realloc(o->aside, o->aside_cap * sizeof(*o->aside));
	}
	o->aside[o->aside_count++] = (struct aside){ f->about, f };
	o->aside_bytes += f->len;
	f->refs++;
}

void
output_send(struct gateway *g, struct conn *c, struct frame *f)
{
	size_t limit = g->conf->limits_send_buffer_bytes;
	struct output *o;

	if (c->doomed)
		return;
	o = output_of(g, c);
	f = frame_for(g, c, f);
	if (f->conflatable && (o->aside_count > 0 || o->bytes + f->len > limit / 2)) {
		set_aside(g, o, f);
		return;
	}
	if (o->bytes + f->len > limit && o->count > 0 && f->header_len != 0) {
		f->refs++;
		frame_put(f);
		if (c->phase == CONN_CLOSING)
			conn_drop(g, c);
		else {
			gateway_count(g, SLOW_CONSUMERS, 1);
			conn_close(g, c, WS_CLOSE_SLOW_CONSUMER);
		}
		return;
	}
	queue_push(o, f);
	/* the 101 waits for the answer about the token, and leaves with it: output_release() */
	if (c->phase != CONN_AUTH)
		mark_dirty(g, c, o);
}

/* The queue is empty: what waited aside follows, after a word about what is missing. */
static void
bring_back_aside(struct output *o)
{
	struct buf text = BUF_INIT;
	struct frame *gap;

	if (o->dropped > 0) {
		buf_puts(&text, "{\"type\":\"gap\",\"payload\":{\"dropped\":");
		buf_put_u64(&text, o->dropped);
		buf_puts(&text, ",\"since\":");
		buf_put_json_time(&text, o->dropped_since_ms);
		buf_puts(&text, "}}");
		gap = frame_new(WS_FIN | WS_OP_TEXT, buf_slice(&text));
		queue_push(o, gap);
		frame_put(gap);
		buf_fini(&text);
		o->dropped = 0;
	}
	for (uint32_t i = 0; i < o->aside_count; i++) {
		queue_push(o, o->aside[i].frame);
		frame_put(o->aside[i].frame);
	}
	o->aside_count = 0;
	o->aside_bytes = 0;
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

static void
flush(struct gateway *g, struct conn *c)
{
	struct output *o = c->out;

	for (;;) {
		ssize_t n;

		if (o->count == 0 && o->aside_count > 0)
			bring_back_aside(o);
		if (o->count == 0)
			break;
		n = write_some(g, c, o);
		if (n < 0) {
			if (errno != EAGAIN) {
				conn_drop(g, c);
				return;
			}
			if (!o->blocked) {
				o->blocked = true;
				conn_want_write(g, c, true);
			}
			return;
		}
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
	if (o->blocked) {
		o->blocked = false;
		conn_want_write(g, c, false);
	}
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
		flush(g, c);
	}
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
	for (uint32_t i = 0; i < o->aside_count; i++)
		frame_put(o->aside[i].frame);
	o->aside_count = 0;
	output_give_back(g, c);
}
