/*
 * topics.h: topic → which processes have listeners. A topic is known by its 128-bit keyed hash
 * alone: a sender that reads a bit too many posts one record too many, which the receiver
 * drops; it never reads one too few.
 *
 *	who writes	each process its own bit; the master those of the dead
 *	who reads	any process
 *	lock		the stripe's, to join and leave; looking needs none
 *	fixed		nothing
 *	writer dies	it joined or it did not; slot_died() forgets its bits
 *
 * What topics_slots() reads after topics_join() returned has the bit.
 */
#ifndef BELAY_SHM_TOPICS_H
#define BELAY_SHM_TOPICS_H

#include <stdint.h>

#include "base/digest.h"
#include "shm/shm.h"

/*
 * This slot has listeners (set once at the first, cleared at the last: the process counts its
 * own). -1 = table full.
 */
int topics_join(struct shm *shm, struct hash128 topic, unsigned slot);
void topics_leave(struct shm *shm, struct hash128 topic, unsigned slot);
uint64_t topics_slots(struct shm *shm, struct hash128 topic);	/* bitmap of slots; 0 when none */
void topics_forget_slot(struct shm *shm, unsigned slot);		/* of a dead process */
uint32_t topics_count(struct shm *shm);

#endif
