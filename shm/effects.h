/*
 * effects.h: what a process is about to do to others, and to shared memory, once its transaction is committed: a
 * record of its batch, so that a successor can finish it; what the process keeps of its mail for later; and what
 * it has posted to others whose rings are full.
 *
 *	who writes	the slot's process
 *	who reads	the slot's process; its successor
 *	lock		none
 *	fixed		size and place
 *	writer dies	the record was put or was not, by one store; it stands until it is cleared.
 *			Kept mail and what waits for others ends where its position says
 *
 * The order of a batch, which is the caller's to hold:
 *
 *	1. write the effects to effects_data(), then effects_put()
 *	2. commit, under a number that the record names
 *	3. carry out the effects
 *	4. give the mail back (mailbox_consume), move the kept mail
 *	5. effects_clear()
 *
 * A successor that finds a record asks whether its number was committed.  If so, it does 3, 4 and 5; else 5 alone.
 * 4 before 5: a record that was cleared first would leave mail that is read again.
 */
#ifndef BELAY_SHM_EFFECTS_H
#define BELAY_SHM_EFFECTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "shm/shm.h"

/* Of each area; address space, used as it is filled. */
#define EFFECTS_BYTES	(16u << 20)
#define EFFECTS_KEPT_BYTES (64u << 20)
#define EFFECTS_OUTBOX_BYTES (64u << 20)	/* ring for each receiver */

struct effects_record {
	uint64_t number;		/* of the batch: grows, over all processes of the slot; put by effects_put() */
	int64_t commit;			/* the number to be committed; 0: there is nothing to commit */
	uint64_t mail_end;		/* of its mail: where the mailbox's head goes */
	uint64_t kept_head, kept_tail;	/* where these go */
	size_t len;			/* bytes at effects_data() */
};

/* Has this process's slot an area?  sizes.effects says which have. */
bool effects_has(const struct shm *shm);
/* EFFECTS_BYTES, to be written while no record stands there; aligned to 8. */
uint8_t *effects_data(struct shm *shm);
/* The record stands from now on; returns its number. */
uint64_t effects_put(struct shm *shm, const struct effects_record *r);
bool effects_get(struct shm *shm, struct effects_record *out);		/* false: none stands there */
void effects_clear(struct shm *shm);
/*
 * May the effect of that tag, which adds to a counter, be carried out?  Tags grow.  True once for each, also over
 * several processes: a successor does not count again what its predecessor did.
 */
bool effects_count(struct shm *shm, uint64_t tag);

/* Kept mail: bytes from head to tail; what is behind tail is not there. */
uint8_t *effects_kept(struct shm *shm);
void effects_kept_range(struct shm *shm, uint64_t *head, uint64_t *tail);
void effects_keep(struct shm *shm, uint64_t head, uint64_t tail);

/*
 * Posts a tagged record (mailbox.h).  What the ring refuses waits in this slot's outbox for the receiver, in
 * order, and goes with outbox_flush(). 0: it is in the ring or waits; -1: EMSGSIZE, or EAGAIN: more than `most`
 * bytes wait already.
 */
int outbox_post(struct shm *shm, unsigned to, uint16_t kind, uint64_t tag, size_t most, const struct iovec *iov,
    int iovcnt);
/* Tries all that waits; true: something waits still. */
bool outbox_flush(struct shm *shm);
size_t outbox_used(struct shm *shm, unsigned to);
/* Something for this receiver was dropped, at that time of the caller's clock: kept, until it was told. */
void outbox_drop(struct shm *shm, unsigned to, int64_t now_ms);
/* How many were, since when; 0: none. */
uint64_t outbox_dropped(struct shm *shm, unsigned to, int64_t *since_ms);
void outbox_told(struct shm *shm, unsigned to);

#endif
