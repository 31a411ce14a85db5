/*
 * tally.h: what happened in each tenant in the newest minutes, for GET /api/health/metrics.
 *
 * In the memory of the storage process alone: the counts begin with it (its answer says how far they
 * go back), but for the commands that are waited for, which are counted anew from the store.  What a
 * transaction brought is counted when it is committed (effect_tally()).
 */
#ifndef BELAY_STORAGE_TALLY_H
#define BELAY_STORAGE_TALLY_H

#include <stdint.h>

#include "base/buf.h"
#include "base/window.h"

enum tally_count {
	TALLY_EVENTS, TALLY_CREATED, TALLY_EXECUTED, TALLY_FAILED, TALLY_TIMEOUT, TALLY_EXPIRED, TALLY_CANCELLED,
	TALLY_COUNTS,			/* those above are of the window */
	TALLY_WAITING,			/* commands sent and not ended: one more, or one less */
	TALLY_LATENCY			/* a command's result came after so many milliseconds */
};

#define TALLY_LATENCIES 512		/* the newest, which percentiles are made of */

struct tally_latency {
	uint32_t step, ms;
};

struct tally {
	int64_t tenant_pk;
	struct tally *next;		/* hash chain */
	int64_t waiting;
	int64_t step;
	uint32_t counts[WINDOW_STEPS][TALLY_COUNTS];
	struct tally_latency *latency;	/* owned; a ring of `latencies` places */
	uint32_t latencies, latency_at, latency_count;
};

struct tallies {
	int64_t since_mono;		/* nothing before is missed */
	struct tally **buckets;		/* owned */
	uint32_t bucket_count, count;
	uint32_t sweep_at;		/* bucket to be looked at next for what is over */
	struct tally all;		/* tenants together */
};

void tally_init(struct tallies *t, int64_t since_mono);
void tally_fini(struct tallies *t);
/* n: 1; for TALLY_WAITING 1 or -1; for TALLY_LATENCY milliseconds, not negative. */
void tally_add(struct tallies *t, int64_t tenant_pk, enum tally_count what, int64_t n, int64_t mono);
/* {"windowMs","events","commands":{…}} of a tenant, or (0) of all together. */
void tally_put_json(struct tallies *t, struct buf *b, int64_t tenant_pk, int64_t mono);
/* Gives up some of those in which nothing happened for as long as the window is. */
void tally_sweep(struct tallies *t, int64_t mono);

#endif
