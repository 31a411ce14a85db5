/*
 * holdings.h: how many of a thing (connections of an address, of a user, of a tenant) each process
 * holds, so that a limit holds for all of them together. A thing is known by its 128-bit keyed hash
 * alone.
 *
 *	who writes	each process its own count of a thing; the master those of the dead
 *	who reads	any process, to add them up
 *	lock		the stripe's, to take, to give back and to add up; looking at what one slot
 *			holds needs none
 *	fixed		nothing
 *	writer dies	it took or it did not, it gave back or it did not: either is one store, of its
 *			own count. What it held is given back by slot_died(), exactly.
 *
 * There is no total that could disagree with its parts: it is added up, under the lock, when somebody
 * takes.
 */
#ifndef BELAY_SHM_HOLDINGS_H
#define BELAY_SHM_HOLDINGS_H

#include <stdint.h>

#include "base/digest.h"
#include "shm/shm.h"

#define HOLDINGS_ANY UINT32_MAX		/* no limit: counted all the same */

/*
 * One more for this slot, if all processes together hold fewer than `most`: 1; 0: they hold as many
 * already; -1: the table is full, nothing was counted.
 */
int holdings_take(struct shm *shm, struct hash128 thing, unsigned slot, uint32_t most);
/* One less.  It must have been taken by this slot. */
void holdings_give(struct shm *shm, struct hash128 thing, unsigned slot);

/* Held by all together at one moment, and by one slot. */
uint32_t holdings_sum(struct shm *shm, struct hash128 thing);
uint32_t holdings_of(struct shm *shm, struct hash128 thing, unsigned slot);

void holdings_forget_slot(struct shm *shm, unsigned slot);	/* of a dead process */
uint32_t holdings_count(struct shm *shm);			/* things held by somebody */

#endif
