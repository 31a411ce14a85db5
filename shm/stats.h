/*
 * stats.h: counters, one padded block per slot; only the slot's process writes them, anyone sums.
 *
 *	who writes	the slot's process
 *	who reads	any process, relaxed: a sum is of no one moment
 *	lock		none
 *	fixed		the number of counters
 *	writer dies	what it counted stays; its successor goes on
 */
#ifndef BELAY_SHM_STATS_H
#define BELAY_SHM_STATS_H

#include <stdint.h>

#include "shm/shm.h"

/*
 * This slot's block: sizes.counters values, starting on a cache line. A successor in the slot
 * goes on counting. Add with stats_add.
 */
uint64_t *stats_block(struct shm *shm, unsigned slot);
uint64_t stats_sum(const struct shm *shm, unsigned counter);	/* over all slots; relaxed */
uint64_t stats_get(const struct shm *shm, unsigned slot, unsigned counter);

static inline void
stats_add(uint64_t *block, unsigned counter, uint64_t n)
{
	__atomic_store_n(&block[counter], block[counter] + n, __ATOMIC_RELAXED);
}

#endif
