/*
 * stats_names.h: stats.def as an enumeration and as names; the counters themselves are in
 * shm/stats.h.
 */
#ifndef BELAY_BASE_STATS_NAMES_H
#define BELAY_BASE_STATS_NAMES_H

#include <stdint.h>

/* Upper bounds of the buckets of every histogram, in microseconds, ascending. */
#define STAT_BUCKETS(X) \
	X(50) X(100) X(250) X(500) X(1000) X(2500) X(5000) X(10000) X(25000) X(50000) X(100000) X(250000) \
	X(500000) X(1000000) X(2500000) X(5000000) X(10000000) X(30000000) X(60000000)
#define STAT_BUCKET_ONE(us) + 1
enum { STAT_BUCKET_COUNT = 0 STAT_BUCKETS(STAT_BUCKET_ONE) };

/* A histogram's cells: one for each bucket (not cumulated), one for what lies beyond, one for the sum of all. */
enum { STAT_HISTOGRAM_CELLS = STAT_BUCKET_COUNT + 2 };

enum stats_counter {
#define STAT(name, metric, kind, help) STAT_##name,
#include "base/stats.def"
	STAT_COUNT,		/* of the plain ones; histograms come behind them */
	STAT_BEFORE_HISTOGRAMS = STAT_COUNT - 1,
#define HISTOGRAM(name, metric, help) STAT_##name, STAT_LAST_##name = STAT_##name + STAT_HISTOGRAM_CELLS - 1,
#include "base/stats.def"
	STAT_CELLS		/* 64-bit numbers of each process */
};

enum stat_kind { STAT_KIND_COUNTER, STAT_KIND_GAUGE };

struct stat_name {
	const char *metric;	/* with its labels, as /metrics shows it */
	enum stat_kind kind;
	const char *help;
};

struct stat_histogram {
	enum stats_counter first;	/* cell */
	const char *metric, *help;
};

extern const struct stat_name stat_names[STAT_COUNT];
extern const struct stat_histogram stat_histograms[];
extern const unsigned stat_histogram_count;
extern const unsigned stat_bucket_us[STAT_BUCKET_COUNT];

/* Which of a histogram's cells counts a time of so many microseconds. */
unsigned stat_bucket(uint64_t us);

#endif
