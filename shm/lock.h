/*
 * lock.h: the lock of everything in the segment that more than one process
 * changes.  Internal to shm/.
 *
 *	who writes	the process that takes or drops it; a waiter or the master when the
 *			owner died
 *	who reads	waiters
 *	fixed		nothing
 *	writer dies	the word still names the dead owner (slot and generation are put there
 *			by the same compare-and-swap that takes the lock, so there is no moment
 *			without a name); a waiter that finds the owner dead takes over, runs the
 *			repair function of what is guarded and goes on; slot_died() does the
 *			same for every lock of the dead slot
 *
 *	 31       30..25  24      23   16 15           0
 *	+--------+-------+-------+-------+--------------+
 *	| waiters|   0   | taken |  slot |  generation  |		0 = free
 *	+--------+-------+-------+-------+--------------+
 *
 * Locks in acquisition order; no function of this folder holds two at once,
 * which lock_take() asserts, and none is held across a system call:
 *
 *	1. directory stripes	table.c
 *	2. pending stripes	table.c
 *	3. topics stripes	table.c
 *	4. holdings stripes	table.c
 *	5. buckets stripes	table.c
 *	6. mailbox writer	mailbox.c
 *
 * Memory order: taking is an acquire, dropping a release; they pair with each other.
 */
#ifndef BELAY_SHM_LOCK_H
#define BELAY_SHM_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/shm.h"

struct shm_lock {
	_Atomic uint32_t word;
};

_Static_assert(sizeof(struct shm_lock) == 4, "the word is a futex");

#define LOCK_WAITERS	0x80000000u
#define LOCK_TAKEN	0x01000000u

static inline uint32_t
lock_owner_word(unsigned slot, uint16_t generation)
{
	return LOCK_TAKEN | (slot & 0xff) << 16 | generation;
}

/*
 * Puts right what the lock guards, after its owner died; called with the lock
 * held.  Must give the same result when it is itself killed and run again.
 */
struct lock_guard {
	void (*repair)(struct shm *shm, void *what, unsigned nth);
	void *what;
	unsigned nth;
};

void lock_take(struct shm *shm, struct shm_lock *lock, const struct lock_guard *guard);
/* true: taken.  Never waits, never takes over. */
bool lock_try(struct shm *shm, struct shm_lock *lock);
void lock_drop(struct shm *shm, struct shm_lock *lock);
/* Master: takes the lock over if the dead (slot, generation) owns it, repairs, drops. */
void lock_break(struct shm *shm, struct shm_lock *lock, unsigned slot, uint16_t generation,
    const struct lock_guard *guard);

#endif
