/*
 * buckets.h: token buckets of the whole instance: how fast something (a tenant's messages, a user's
 * requests, an address's connections) may go on. A bucket is known by its 128-bit keyed hash alone
 * and is nobody else's.
 *
 *	who writes	any process: the time (`next`), by one compare-and-swap; its own bit among the
 *			holders; the master the bits of the dead
 *	who reads	any process
 *	lock		the stripe's, to find a bucket and to hold or release one; taking from one that
 *			is held needs none
 *	fixed		an entry's index while somebody holds it
 *	writer dies	it took or it did not; slot_died() forgets its holds
 *
 * The generic cell rate algorithm: of a bucket one number is kept, `next`, the time at which it is
 * full again were nothing more taken. Taking one puts that off by `gap_ns`, and is refused when it
 * would lie more than `reach_ns` ahead; further ahead it is in debt. So a bucket whose time is over
 * says nothing that an absent one would not: nobody has to fill buckets, and what is idle and not
 * held makes room for others, a few of them with each bucket that is new.
 */
#ifndef BELAY_SHM_BUCKETS_H
#define BELAY_SHM_BUCKETS_H

#include <stdint.h>

#include "base/digest.h"
#include "shm/shm.h"

struct bucket_rate {
	uint64_t gap_ns;		/* from one to the next at a steady pace */
	uint64_t reach_ns;		/* gap_ns times what a full bucket holds */
};

/* `burst` at first, and rate more in each period. */
static inline struct bucket_rate
bucket_rate(uint64_t rate, uint64_t period_ns, uint64_t burst)
{
	uint64_t gap_ns = period_ns / rate;

	return (struct bucket_rate){ gap_ns, gap_ns * burst };
}

#define BUCKET_NONE UINT32_MAX

/*
 * Takes one: 0; or the nanoseconds until there will be one; -1: the table is full of buckets in use,
 * nothing was counted. now_ns is monotonic time, the same clock in all processes; one that is a
 * little behind takes as if it were not.
 */
int64_t buckets_take(struct shm *shm, struct hash128 key, const struct bucket_rate *rate,
    uint64_t now_ns);
/*
 * What was taken as one turns out to be so many more: they are taken, however many, and those that
 * come next wait until the bucket is out of debt. It must not be in debt now; else the nanoseconds
 * until it is not, and nothing was taken. The rest as above.
 */
int64_t buckets_take_more(struct shm *shm, struct hash128 key, const struct bucket_rate *rate,
    uint32_t more, uint64_t now_ns);
/*
 * Takes one whatever there is, since it has happened: the bucket goes into debt, by debt_ns at most; the rest of a
 * larger debt is forgiven.  -1: the table is full, nothing was counted; else 0.
 */
int64_t buckets_owe(struct shm *shm, struct hash128 key, const struct bucket_rate *rate, uint64_t debt_ns,
    uint64_t now_ns);

/*
 * For who takes often: the bucket stays where it is until this slot releases it (once, however often
 * it was held). BUCKET_NONE: the table is full.
 */
uint32_t buckets_hold(struct shm *shm, struct hash128 key, unsigned slot, uint64_t now_ns);
int64_t buckets_take_held(struct shm *shm, uint32_t bucket, const struct bucket_rate *rate,
    uint64_t now_ns);
void buckets_release(struct shm *shm, uint32_t bucket, unsigned slot);

void buckets_forget_slot(struct shm *shm, unsigned slot);	/* of a dead process */
uint32_t buckets_count(struct shm *shm);			/* idle ones included */

#endif
