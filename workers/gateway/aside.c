/*
 * aside.c: telemetry that waits for one client.  One gateway process; owns the references to its
 * frames, and sends nothing.
 */
#include <stdlib.h>

#include "base/must.h"
#include "gateway/aside.h"
#include "gateway/output.h"

#define FIRST_CAP 8u

static size_t
cost(const struct frame *f)
{
	/* the ring doubles: up to two places for each value */
	return frame_cost(f) + 2 * (sizeof(struct aside_value) + sizeof(uint32_t));
}

static uint32_t *
bucket_of(struct aside *a, struct hash128 about)
{
	return &a->buckets[about.lo & (a->cap - 1)];
}

/* The newest value of the device, by what refers to it: 0 there when none waits. */
static uint32_t *
find(struct aside *a, struct hash128 about)
{
	uint32_t *at = bucket_of(a, about);

	while (*at != 0 && (a->ring[*at - 1].about.lo != about.lo ||
	    a->ring[*at - 1].about.hi != about.hi))
		at = &a->ring[*at - 1].next;
	return at;
}

/* Makes the ring one of cap places, without those that there is something newer of unless all are kept. */
static void
rebuild(struct aside *a, uint32_t cap, bool all)
{
	struct aside_value *ring = must_alloc(cap * sizeof(*ring));
	uint32_t n = 0;

	for (uint32_t i = 0; i < a->count; i++) {
		const struct aside_value *v = &a->ring[(a->head + i) & (a->cap - 1)];

		if (all || v->newest) {
			ring[n++] = *v;
			continue;
		}
		a->bytes -= cost(v->frame);
		frame_put(v->frame);
		a->dropped++;
	}
	free(a->ring);
	free(a->buckets);
	a->ring = ring;
	a->buckets = must_alloc(cap * sizeof(*a->buckets));
	a->head = 0;
	a->count = n;
	a->cap = cap;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t *bucket = bucket_of(a, ring[i].about);

		if (!ring[i].newest)
			continue;
		ring[i].next = *bucket;
		*bucket = i + 1;
	}
}

static struct frame *
take_first(struct aside *a)
{
	struct aside_value *v = &a->ring[a->head];

	if (v->newest)
		*find(a, v->about) = v->next;
	a->bytes -= cost(v->frame);
	a->head = (a->head + 1) & (a->cap - 1);
	a->count--;
	return v->frame;
}

/* What stands first is old, and there is something newer to tell. */
static void
drop_stale(struct aside *a, uint32_t now_ms)
{
	while (a->count > 0 && !a->ring[a->head].newest &&
	    now_ms - a->ring[a->head].at_ms >= ASIDE_FRESH_MS) {
		frame_put(take_first(a));
		a->dropped++;
	}
}

static void
append(struct aside *a, struct frame *f, uint32_t now_ms)
{
	uint32_t *at, place;

	if (a->count == a->cap)
		rebuild(a, a->cap == 0 ? FIRST_CAP : a->cap * 2, true);
	place = (a->head + a->count++) & (a->cap - 1);
	at = find(a, f->about);
	a->ring[place] = (struct aside_value){ f->about, frame_get(f), now_ms, 0, true };
	if (*at != 0) {
		a->ring[*at - 1].newest = false;
		a->ring[place].next = a->ring[*at - 1].next;
	}
	*at = place + 1;
	a->bytes += cost(f);
}

/* f takes the place of the newest of its device, if there is room for that. */
static void
replace(struct aside *a, struct frame **old, struct frame *f, size_t limit)
{
	size_t rest = a->bytes - cost(*old);

	a->dropped++;
	if (rest + cost(f) > limit)
		return;
	frame_put(*old);
	*old = frame_get(f);
	a->bytes = rest + cost(f);
}

void
aside_put(struct aside *a, struct frame *f, size_t limit, uint32_t now_ms)
{
	uint32_t at;

	drop_stale(a, now_ms);
	if (!a->crowded && a->bytes + cost(f) > limit && a->count > 0) {
		rebuild(a, a->cap, false);
		a->crowded = true;
	}
	at = a->crowded ? *find(a, f->about) : 0;
	if (at != 0)
		replace(a, &a->ring[at - 1].frame, f, limit);
	else if (a->bytes + cost(f) <= limit)
		append(a, f, now_ms);
	else
		a->dropped++;
}

struct frame *
aside_take(struct aside *a, uint32_t now_ms)
{
	struct frame *f;

	drop_stale(a, now_ms);
	f = a->count > 0 ? take_first(a) : NULL;
	if (a->count == 0)
		a->crowded = false;
	return f;
}

void
aside_fini(struct aside *a)
{
	while (a->count > 0)
		frame_put(take_first(a));
	free(a->ring);
	free(a->buckets);
	*a = (struct aside){ 0 };
}
