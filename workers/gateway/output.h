/*
 * output.h: what waits to be written to clients.
 *
 * A frame is encoded once and referred to by every connection it goes to.
 * A connection owns an output only while something waits for it; outputs
 * come from a pool of the process.  Nothing is written before
 * output_flush_all(), which the gateway calls at the end of each turn, so that
 * all that a turn produced for one client leaves in one system call.
 *
 * Bounded (limits.send_buffer): when a client does not keep up, conflatable
 * frames (telemetry) wait aside, the newest of each device, and a `gap` is told before
 * they leave; a frame that may not be lost ends the connection with 4008.
 */
#ifndef BELAY_GATEWAY_OUTPUT_H
#define BELAY_GATEWAY_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/slice.h"

struct conn;
struct gateway;

struct frame {
	uint32_t refs;
	uint32_t len;			/* of data */
	uint8_t header_len;		/* WebSocket header in front; 0: not a WebSocket frame */
	bool text;			/* a whole text message: may be compressed */
	bool conflatable;
	struct hash128 about;		/* the device, when conflatable */
	struct frame *deflated;		/* the same message compressed (window of 15 bits); owned */
	uint8_t data[];
};

struct aside {
	struct hash128 about;
	struct frame *frame;		/* referred to */
};

#define OUTPUT_SMALL 6

struct output {
	struct frame **queue;		/* ring of cap; small[] at first */
	struct frame *small[OUTPUT_SMALL];
	uint32_t head, count, cap;
	uint32_t written;		/* bytes of the first frame already sent */
	size_t bytes;			/* of all in the queue */
	struct conn *next_dirty;	/* list of those to be flushed */
	/* blocked: the socket takes no more; a write event is set */
	bool dirty, blocked;
	struct aside *aside;
	uint32_t aside_count, aside_cap;
	size_t aside_bytes;
	uint32_t dropped;		/* for the gap message */
	int64_t dropped_since_ms;
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
void frame_put(struct frame *f);			/* gives a reference back */

/*
 * Queues the frame; takes its own reference.  May end the connection (slow consumer), never frees
 * it within the call.
 */
void output_send(struct gateway *g, struct conn *c, struct frame *f);
void output_flush_all(struct gateway *g);
/* What was queued in phase AUTH may leave. */
void output_release(struct gateway *g, struct conn *c);
/* The socket takes bytes again. */
void output_writable(struct gateway *g, struct conn *c);
/* Forgets all that waits; gives the output back to the pool. */
void output_discard(struct gateway *g, struct conn *c);

#endif
