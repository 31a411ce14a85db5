/*
 * turns.h: whose record is sent next.  A mailbox is first come, first served, so fairness is made where records are
 * sent: a sender has a bounded cost outstanding at a receiver, and what is beyond that waits here and leaves in turns:
 *
 *	tenant ──► user ──► connection
 *
 * so that nobody's lump lies in front of another's record.  A device's connection is one of its owner's.
 *
 *	cost		what a record is for the receiver, in units of a small one
 *	outstanding	posted, and the receiver's ring has not consumed it: known by positions
 *			(shm/mailbox.h), not by answers, so nothing can leak, whoever dies
 *	limits		in all; of one tenant; of one user; each is passed by one record at most.  Who was
 *			alone lately (TURNS_LATELY_MS) has the whole of the level above
 *	order		of one connection: always as it was put
 *	first lane	what withdraws and what ends (TURN_FIRST) goes before all else of its tenant, with twice
 *			the limit; behind what waits of its own connection all the same
 *
 * What waits is bounded for each connection, user and tenant; only facts of the first lane are always taken: their
 * number is bounded by what they are about (commands in flight, connections).  The common case, nothing waits and the
 * limits are not reached, is posted at once and allocates nothing.
 *
 * Calls back only to post and to tell of what was dropped.
 */
#ifndef BELAY_GATEWAY_TURNS_H
#define BELAY_GATEWAY_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/slice.h"

#define TURNS_LATELY_MS 2000		/* so long a tenant or user is remembered as there */

/* What a record is; neither: a fact, what was said is so, whoever has gone since. */
enum turn_class {
	TURN_FACT = 0,
	TURN_ASK = 1,			/* dropped when nobody waits for its answer any more */
	TURN_FIRST = 2			/* by the first lane */
};

/* Of whom a record is: keyed hashes, equal for equals.  Strangers, whose tenant is not known yet, share one. */
struct turn_of {
	struct hash128 tenant, user;
	uint64_t conn;			/* a reference, never 0 */
	bool stranger;			/* the tenant's bound of what may wait is not for it: each has but one */
};

struct turns_bounds {
	uint32_t records;
	uint32_t bytes;
};

/* The parameters: plain numbers, may be changed at any time. */
struct turns_limits {
	uint32_t all, tenant, user;	/* cost outstanding */
	struct turns_bounds of_conn, of_user, of_tenant;	/* that may wait */
};

struct turns_receiver {
	/* 0 and the record's position; -1 with errno: EAGAIN later, else never. */
	int (*post)(void *arg, uint16_t kind, struct slice record, uint64_t *at);
	uint64_t (*consumed)(void *arg);
	void (*dropped)(void *arg, uint64_t request);	/* its connection has gone: turns_conn_gone() */
	void *arg;
};

struct turn_node;
struct turn_posted;

struct turns {
	struct turns_receiver to;
	struct turns_limits limits;
	int64_t now_ms;			/* monotonic, of turns_tick() */
	struct turn_node *root;		/* owned; all of them hang on it */
	struct turn_node **buckets;	/* by level and key */
	uint32_t bucket_count, node_count;
	struct turn_node *spare;	/* used again before any is allocated */
	struct turn_node *oldest, *newest;	/* users, by when they were there last */
	struct turn_posted *posted;	/* a ring: what is outstanding, in the order of positions */
	uint32_t posted_cap, posted_first, posted_count;
	uint64_t *heard;		/* see turns_next_heard() */
	uint32_t heard_count, heard_cap;
	uint64_t waited, dropped;	/* records so far: had to wait; were dropped */
};

void turns_init(struct turns *t, const struct turns_receiver *to, const struct turns_limits *limits,
    int64_t now_ms);
void turns_fini(struct turns *t);		/* what waits is lost */

/*
 * Posts a record, now or in its turn; the bytes are copied.  request: the asker's number, 0 without one.  0, or -1 with
 * errno: EDQUOT as much waits as may (tell the sender to come again), else the receiver's own.
 */
int turns_put(struct turns *t, const struct turn_of *of, unsigned class, uint64_t request, uint32_t cost, uint16_t kind,
    struct slice record);
/* Looks at what is done and posts what may go: when mail was read, and every millisecond or two while any waits. */
void turns_pump(struct turns *t);
/* About every 100 ms: the time, and who has not been there lately is forgotten. */
void turns_tick(struct turns *t, int64_t now_ms);
/* Posts all that waits, whatever the limits: the sender leaves. */
void turns_flush(struct turns *t);

/* Nobody waits for this answer: a TURN_ASK that has not left is dropped. */
void turns_withdraw(struct turns *t, uint64_t conn, uint64_t request);
/* The same for all of a connection that has ended. */
void turns_conn_gone(struct turns *t, uint64_t conn);

/* What waits of a connection: its records, and *bytes. */
uint32_t turns_of_conn(const struct turns *t, uint64_t conn, uint32_t *bytes);
/* The next connection of which nothing waits any more, though something did; 0: none.  Each time once. */
uint64_t turns_next_heard(struct turns *t);

uint32_t turns_waiting(const struct turns *t);		/* records */
uint32_t turns_outstanding(const struct turns *t);	/* cost */

#endif
