/*
 * mailbox.h: a ring of variable-length records per slot: many writers, one reader, an eventfd
 * as doorbell.
 *
 *	who writes	any process posts (record, then tail); the slot's process moves head and
 *			says whether it sleeps
 *	who reads	the slot's process
 *	lock		one per ring, between writers; the reader takes it only to begin an
 *			empty ring anew
 *	fixed		size, descriptor
 *	writer dies	before tail was published: the record never was; after: it is delivered,
 *			even when the bell was not rung (slot_died() rings). The reader: its
 *			successor reads again from the last consumed record
 *
 * Order: records of one sender arrive as they were posted; a post that returned 0 arrives. Tail
 * is published by a release store that pairs with the reader's acquire load.
 */
#ifndef BELAY_SHM_MAILBOX_H
#define BELAY_SHM_MAILBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "shm/shm.h"

struct mail {
	uint16_t kind;			/* the caller's number */
	uint8_t from;			/* sender's slot */
	uint16_t from_generation;	/* sender's generation */
	bool idly;			/* posted by mailbox_post_idly() */
	uint32_t len;
	int64_t posted_mono_us;		/* when it was posted, monotonic microseconds */
	uint64_t tag;			/* of mailbox_post_tagged(); 0: none */
	const uint8_t *data; /* in the ring (contiguous); valid until mailbox_consume() */
};

/*
 * Posts one record to a slot's mailbox; the parts of iov are joined. Rings the doorbell only
 * when the reader sleeps. 0, or -1 with errno: EAGAIN the ring is full (nothing was written),
 * EMSGSIZE longer than a quarter of the ring.
 */
int mailbox_post(struct shm *shm, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt);
/*
 * The same with a tag, above 0, that grows from one record of this slot to the next, over all processes of the
 * slot.  A sender that does not know whether its predecessor posted a record posts it again with the same tag;
 * mailbox_had() of the receiver is true then.
 */
int mailbox_post_tagged(struct shm *shm, unsigned to, uint16_t kind, uint64_t tag, const struct iovec *iov, int iovcnt);
/* last: of the reader, by sender; 0 at first. */
static inline bool
mailbox_had(const struct mail *m, uint64_t last[SHM_MAX_SLOTS])
{
	if (m->tag == 0 || m->from >= SHM_MAX_SLOTS)
		return false;
	if (m->tag <= last[m->from])
		return true;
	last[m->from] = m->tag;
	return false;
}
/*
 * The same for what can wait: it takes half of the ring at most (else EAGAIN), and does not ring before 64 KiB
 * are in it.  A reader that wakes up by itself now and then (workers do, ten times a second) finds it.
 */
int mailbox_post_idly(struct shm *shm, unsigned to, uint16_t kind, const struct iovec *iov,
    int iovcnt);

/*
 * Reader. mailbox_next() returns 1 and the next unread record, 0 when there is none. Reading
 * moves a private cursor; mailbox_consume() gives the space of all that was read back to the
 * writers and makes the position permanent: a successor in the same slot starts at the last
 * consumed position and reads again what was read and not consumed.
 */
struct mailbox_reader {
	struct shm *shm;
	unsigned slot;
	uint64_t cursor;		/* read up to here */
	uint64_t tail;			/* published up to here, when last looked */
};
void mailbox_reader_init(struct mailbox_reader *r, struct shm *shm, unsigned slot);
int mailbox_next(struct mailbox_reader *r, struct mail *out);
void mailbox_consume(struct mailbox_reader *r);
/*
 * How often a reader died with this same consumed position and mail unread: 0 in good times.
 * Lets a successor read with care: consume after each record, so that the next death tells
 * which one kills; then skip that one.
 */
unsigned mailbox_deaths_here(const struct mailbox_reader *r);

/*
 * Sleeping (the reader). Announce with mailbox_sleep() before blocking: 1 = it may block on
 * mailbox_fd(); 0 = a record came, drain first. mailbox_wake() after blocking, before draining;
 * it empties the eventfd when it was rung.
 */
int mailbox_sleep(struct mailbox_reader *r);
void mailbox_wake(struct mailbox_reader *r);
int mailbox_fd(const struct shm *shm, unsigned slot);

/* Gives back all up to there, as a predecessor was about to; nothing, when that was done. */
void mailbox_consume_to(struct mailbox_reader *r, uint64_t end);
/* Bytes not consumed, padding included. */
size_t mailbox_used(const struct shm *shm, unsigned slot);
uint64_t mailbox_rings(const struct shm *shm, unsigned slot);	/* how often its bell was rung */

#endif
