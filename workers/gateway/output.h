/*
 * output.h: what waits to be written to clients.
 *
 * A frame is encoded once and referred to by every connection it goes to.
 * A connection owns an output only while something waits for it; outputs
 * come from a pool of the process.  Nothing is written before
 * output_flush_all(), which the gateway calls at the end of each turn, so that
 * all that a turn produced for one client leaves in one system call.
 *
 * Bounded (limits.send_buffer), where each frame counts for what it takes with all that keeps it:
 *
 *	queue	what may not be lost, and so much telemetry as is written at once.  Too much
 *		of the former ends the connection with 4008; the latter counts for nothing.
 *	aside	telemetry while the socket takes no more: aside.h.  A `gap` is told before it
 *		where some of it was left out.
 *	pong	one at most, the newest.
 *
 * What the queue has no room for may fill the kernel's buffers before the connection is ended; else
 * little is given to the kernel, since nothing there can be conflated (net_hold_unsent()).
 *
 * The latter two follow when the queue is empty.  A client that keeps up is given all, however much
 * a turn brings: where it would be too much, what waits is written first.
 */
#ifndef BELAY_GATEWAY_OUTPUT_H
#define BELAY_GATEWAY_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/slice.h"
#include "gateway/aside.h"

struct conn;
struct gateway;

struct frame {
	uint32_t refs;
	uint32_t len;			/* of data */
	uint8_t header_len;		/* WebSocket header in front; 0: not a WebSocket frame */
	bool text;			/* a whole text message: may be compressed */
	bool conflatable;
	uint8_t deflate_bits;		/* window of this one, compressed; 0: it is not */
	uint8_t deflate_useless;	/* 1 << (15 - bits) of the windows that make it no smaller */
	struct hash128 about;		/* the device, when conflatable */
	struct frame *deflated;		/* owned: the same message compressed, by window, in a list */
	uint8_t data[];
};

/* Bytes that a frame takes where it waits: with its struct, the heap's word and its place in a queue. */
static inline size_t
frame_cost(const struct frame *f)
{
	return sizeof(*f) + f->len + 4 * sizeof(void *);
}

#define OUTPUT_SMALL 6

struct output {
	struct frame **queue;		/* ring of cap; small[] at first */
	struct frame *small[OUTPUT_SMALL];
	uint32_t head, count, cap;
	uint32_t written;		/* bytes of the first frame already sent */
	size_t bytes;			/* of all in the queue */
	size_t held;			/* frame_cost() of what may not be lost */
	struct conn *next_dirty;	/* list of those to be flushed */
	/*
	 * blocked: the socket takes no more; a write event is set.  lifted: it takes what the system lets
	 * it have, since what may not be lost was too much for the queue
	 */
	bool dirty, blocked, lifted;
	struct aside aside;
	int64_t dropped_since_ms;	/* wall clock: for the gap message */
	struct frame *pong;		/* owned; the answer to the newest ping, or NULL */
	struct output *next_free;
};

struct output_pool {
	struct output *free;
	unsigned free_count;
	struct conn *dirty;
	uint8_t *gather;		/* joins small frames for one write */
};

void output_pool_init(struct output_pool *p);
void output_pool_fini(struct output_pool *p);

/* A frame with one reference, the caller's. first: WS_FIN | opcode. */
struct frame *frame_new(uint8_t first, struct slice payload);
struct frame *frame_raw(struct slice bytes);		/* HTTP */
struct frame *frame_get(struct frame *f);		/* one more reference */
void frame_put(struct frame *f);			/* gives a reference back */

/*
 * Queues the frame; takes its own reference.  May end the connection (slow consumer), never frees
 * it within the call.
 */
void output_send(struct gateway *g, struct conn *c, struct frame *f);
/*
 * Answers a ping (RFC 6455 section 5.5.3): in its turn, or, for a client that does not read or with
 * `newest`, once for all pings since the last one that was answered.  Never ends the connection for
 * want of room.
 */
void output_pong(struct gateway *g, struct conn *c, struct slice payload, bool newest);
void output_flush_all(struct gateway *g);
/* What was queued in phase AUTH may leave. */
void output_release(struct gateway *g, struct conn *c);
/* So much waits that who answers requests had better wait too: conn_sent() is called when nothing does. */
bool output_is_behind(const struct conn *c);
/* The socket takes bytes again. */
void output_writable(struct gateway *g, struct conn *c);
/* Forgets all that waits; gives the output back to the pool. */
void output_discard(struct gateway *g, struct conn *c);

#endif
