/*
 * lib_hist.c: a histogram whose relative error is bounded, so that p50 and
 * p99.9 of the same run are both right: powers of two, each split into
 * BENCH_HIST_SUB linear steps.
 */
#include <stdio.h>

#include "tests/bench/lib.h"

static unsigned
hist_slot(uint64_t v)
{
	unsigned shift;

	if (v < BENCH_HIST_SUB)
		return (unsigned)v;
	shift = 63 - (unsigned)__builtin_clzll(v) - 7;
	return (shift + 1) * BENCH_HIST_SUB + (unsigned)((v >> shift) - BENCH_HIST_SUB);
}

/* The middle of a slot. */
static uint64_t
hist_value(unsigned slot)
{
	unsigned shift;

	if (slot < BENCH_HIST_SUB)
		return slot;
	shift = slot / BENCH_HIST_SUB - 1;
	return ((uint64_t)(slot % BENCH_HIST_SUB + BENCH_HIST_SUB) << shift) + ((1ull << shift) >> 1);
}

void
bench_hist_add(struct bench_hist *h, uint64_t ns)
{
	h->bucket[hist_slot(ns)]++;
	h->count++;
	h->sum += ns;
	if (ns > h->max)
		h->max = ns;
}

uint64_t
bench_hist_at(const struct bench_hist *h, double quantile)
{
	uint64_t want = (uint64_t)(quantile * (double)h->count + 0.5), seen = 0;

	if (h->count == 0)
		return 0;
	if (want < 1)
		want = 1;
	for (unsigned i = 0; i < sizeof(h->bucket) / sizeof(h->bucket[0]); i++) {
		seen += h->bucket[i];
		if (seen >= want)
			return hist_value(i) < h->max ? hist_value(i) : h->max;
	}
	return h->max;
}

void
bench_hist_print(const struct bench_hist *h)
{
	printf(" p50_us=%.1f p99_us=%.1f p999_us=%.1f max_us=%.1f",
	    (double)bench_hist_at(h, 0.5) / 1e3, (double)bench_hist_at(h, 0.99) / 1e3,
	    (double)bench_hist_at(h, 0.999) / 1e3, (double)h->max / 1e3);
}
