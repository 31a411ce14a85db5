/*
 * stats_names.c: the names of the counters, for /metrics and belayctl.
 */
#include "base/stats_names.h"

const struct stat_name stat_names[STAT_COUNT] = {
#define STAT(name, metric, kind, help) [STAT_##name] = { metric, STAT_KIND_##kind, help },
#include "base/stats.def"
};

const struct stat_histogram stat_histograms[] = {
#define HISTOGRAM(name, metric, help) { STAT_##name, metric, help },
#include "base/stats.def"
};
const unsigned stat_histogram_count = sizeof(stat_histograms) / sizeof(stat_histograms[0]);

const unsigned stat_bucket_us[STAT_BUCKET_COUNT] = {
#define BOUND(us) us,
	STAT_BUCKETS(BOUND)
#undef BOUND
};

unsigned
stat_bucket(uint64_t us)
{
	unsigned i = 0;

	while (i < STAT_BUCKET_COUNT && us > stat_bucket_us[i])
		i++;
	return i;
}
