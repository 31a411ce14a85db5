/*
 * Counters: one block per slot on cache lines of its own, so that counting
 * never waits for another process.
 */
#include "base/must.h"

#include "shm/segment.h"
#include "shm/stats.h"

#define PER_LINE	(SEGMENT_LINE / sizeof(uint64_t))

static size_t
block_words(const struct shm_sizes *sizes)
{
	return (sizes->counters + PER_LINE - 1) / PER_LINE * PER_LINE;
}

static size_t
stats_size(const struct shm_sizes *sizes)
{
	return sizes->slots * block_words(sizes) * sizeof(uint64_t);
}

static void
stats_attach(struct shm *shm, uint8_t *at)
{
	shm->stats = (uint64_t *)at;
}

const struct segment_part_ops stats_part = {
	.name = "stats", .version = 1, .size = stats_size, .attach = stats_attach,
};

uint64_t *
stats_block(struct shm *shm, unsigned slot)
{
	must(slot < shm->segment->sizes.slots);
	return shm->stats + slot * block_words(&shm->segment->sizes);
}

uint64_t
stats_get(const struct shm *shm, unsigned slot, unsigned counter)
{
	const struct shm_sizes *sizes = &shm->segment->sizes;

	must(slot < sizes->slots && counter < sizes->counters);
	return __atomic_load_n(&shm->stats[slot * block_words(sizes) + counter], __ATOMIC_RELAXED);
}

uint64_t
stats_sum(const struct shm *shm, unsigned counter)
{
	uint64_t sum = 0;
	unsigned slot;

	for (slot = 0; slot < shm->segment->sizes.slots; slot++)
		sum += stats_get(shm, slot, counter);
	return sum;
}
