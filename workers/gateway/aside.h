/*
 * aside.h: telemetry that waits for one client whose socket takes no more.
 *
 * It leaves in the order in which it came.  What has waited for ASIDE_FRESH_MS and has a newer
 * value of the same device behind it is left out; so a client that is slow for a moment misses
 * nothing, and one that is slow for long sees the present.  From when there is no room for one more
 * until all has left there is one value of each device, and a newer one takes its place.  The time
 * that a value takes does not depend on how many wait.
 */
#ifndef BELAY_GATEWAY_ASIDE_H
#define BELAY_GATEWAY_ASIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"

struct frame;

#define ASIDE_FRESH_MS 1000

struct aside_value {
	struct hash128 about;
	struct frame *frame;		/* referred to */
	uint32_t at_ms;			/* monotonic, low bits: when it came */
	uint32_t next;			/* place + 1 of the next of its bucket */
	bool newest;			/* no newer one of its device waits */
};

/* All zeros: empty. */
struct aside {
	struct aside_value *ring;	/* owned; of cap, a power of two */
	uint32_t *buckets;		/* owned; of cap: place + 1 of a device's newest value, by next */
	uint32_t head, count, cap;
	size_t bytes;			/* what they count for; at most limit of aside_put() */
	bool crowded;			/* one of each device */
	uint32_t dropped;		/* values left out; the caller sets it back */
};

/*
 * Takes a reference to a frame that may be conflated, or drops it or an older one.  limit: bytes
 * that may wait, with what each value costs besides.
 */
void aside_put(struct aside *a, struct frame *f, size_t limit, uint32_t now_ms);
/* The next to be sent, with its reference; NULL when there is none. */
struct frame *aside_take(struct aside *a, uint32_t now_ms);
void aside_fini(struct aside *a);

#endif
