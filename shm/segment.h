/*
 * segment.h: the layout of the segment and a process's handle to it.
 * Internal to shm/.
 *
 *	who writes	the master, once, before it forks
 *	who reads	every process
 *	lock		none
 *	fixed		everything but `deaths`, `course`, and `master_pid`, noted with each slot_take()
 *	writer dies	before forking: there is no one else; afterwards it is single words
 *
 * The segment begins with struct segment; the parts follow, each on its own
 * page, in the order of segment_parts[] in segment.c.  Memory fresh from the
 * kernel is zero, and zero is every part's valid empty state: creating a
 * segment touches a few pages, however large it is.
 */
#ifndef BELAY_SHM_SEGMENT_H
#define BELAY_SHM_SEGMENT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/shm.h"
#include "shm/table.h"

#define SEGMENT_PAGE	4096
#define SEGMENT_LINE	64
#define SEGMENT_VERSION	1

enum segment_part_id {
	PART_SLOTS, PART_MAILBOXES, PART_DIRECTORY, PART_PENDING, PART_TOPICS, PART_HOLDINGS, PART_BUCKETS,
	PART_STATS, PART_EFFECTS,
	SEGMENT_PARTS
};

struct segment_part {
	char name[16];
	uint32_t version;
	uint32_t unused;
	uint64_t offset;
	uint64_t len;
};

struct segment {
	char magic[8];			/* "belayshm" */
	uint32_t version;
	uint32_t parts;
	uint64_t len;
	uint8_t hash_key[16];
	_Atomic int32_t master_pid;
	_Atomic uint32_t deaths;
	_Atomic uint32_t course;	/* enum shm_course */
	int64_t started_mono_ms;
	struct shm_sizes sizes;
	struct segment_part part[SEGMENT_PARTS];
};

_Static_assert(sizeof(struct segment_part) == 40, "layout");
_Static_assert(offsetof(struct segment, hash_key) == 24, "layout");
_Static_assert(sizeof(struct segment) <= SEGMENT_PAGE, "the head is one page");
_Static_assert(
    ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "shared atomics must be lock-free");

struct slot_record;
struct mailbox_ring;
struct effects_area;

/* Of one process, private: after fork each has its own copy. */
struct shm {
	uint8_t *base;
	size_t len;
	int fd;
	int bell[SHM_MAX_SLOTS];	/* eventfd of each slot, -1 beyond sizes.slots */
	uint32_t self;			/* owner word for locks */
	unsigned self_slot;		/* SHM_SLOT_MASTER until shm_set_self() */
	uint16_t self_generation;
	const void *held;		/* the lock that this process holds */
	struct segment *segment;
	struct slot_record *slots;
	struct mailbox_ring *rings;
	uint8_t *ring_data[SHM_MAX_SLOTS];
	struct effects_area *effects[SHM_MAX_SLOTS];	/* NULL: the slot has none */
	struct table directory, pending, topics, holdings, buckets;
	uint32_t bucket_hand[TABLE_STRIPES];	/* where to look for idle buckets next */
	uint64_t *stats;
};

/* What each part brings; all but size and attach may be NULL. */
struct segment_part_ops {
	const char *name;
	uint32_t version;		/* grows with each change of the part's layout */
	size_t (*size)(const struct shm_sizes *sizes);
	void (*attach)(struct shm *shm, uint8_t *at);
	/* Repair after the death of (slot, generation): breaks its locks, forgets what it owned. */
	void (*died)(struct shm *shm, unsigned slot, uint16_t generation);
};

extern const struct segment_part_ops slots_part, mailbox_part, directory_part, pending_part,
    topics_part, holdings_part, buckets_part, stats_part, effects_part;

/*
 * slots.c: is the process of (slot, generation) gone, asking the kernel too? SHM_SLOT_MASTER is
 * allowed.
 */
int slot_is_gone(const struct shm *shm, unsigned slot, uint16_t generation);
/* mailbox.c: forgets unread mail; the slot gets another purpose and has no reader. */
void mailbox_discard(struct shm *shm, unsigned slot);
/*
 * mailbox.c: rings where mail waits for a sleeper: a writer may have died between publishing
 * and ringing.
 */
void mailbox_ring_sleepers(struct shm *shm);

/*
 * Shared words. A put is a release store, a get an acquire load: what was put before a put is
 * seen by whoever got it. Used for every field that is read without the lock; on x86 both are
 * plain moves.
 */
#define shm_put(p, v)	atomic_store_explicit((p), (v), memory_order_release)
#define shm_get(p)	atomic_load_explicit((p), memory_order_acquire)

/* Points at which tests stop or kill the process.  Not in the product. */
#ifdef SHM_TEST
extern void (*shm_test_hook)(const char *where);
#define SHM_TEST_POINT(where) do { if (shm_test_hook != NULL) shm_test_hook(where); } while (0)
#else
#define SHM_TEST_POINT(where) do { } while (0)
#endif

#endif
