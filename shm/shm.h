/*
 * shm.h: the one shared segment of an instance, and its slots.
 *
 * The master makes the segment before forking; every process inherits the mapping at
 * the same address, but nothing inside holds a pointer: parts are found by
 * offset, entries by index.  This folder knows nothing of messages, roles or clients.
 *
 * Slots, one record per process:
 *
 *	who writes	the master; a process its own state, heartbeat and pid
 *	who reads	any process
 *	lock		none
 *	fixed		role and number of a process while it lives
 *	writer dies	slot_died(): the master calls it when it has reaped the process
 */
#ifndef BELAY_SHM_SHM_H
#define BELAY_SHM_SHM_H

#include <stddef.h>
#include <stdint.h>

#define SHM_MAX_SLOTS	64
/* No slot: how a process that has not called shm_set_self() is named in its locks and mail. */
#define SHM_SLOT_MASTER	255

struct shm_sizes {
	unsigned slots;			/* processes, at most SHM_MAX_SLOTS */
	uint32_t devices;		/* directory entries */
	uint32_t commands;		/* pending entries */
	uint32_t topics;		/* topic entries */
	uint32_t limits;		/* entries of holdings, and as many of buckets */
	uint32_t mailbox_bytes;		/* of each ring, a power of two from 4096 to 2^30 */
	unsigned counters;		/* 64-bit counters of each stats block */
	/* Of this slot's ring, likewise; 0 = mailbox_bytes. */
	uint32_t mailbox_bytes_of[SHM_MAX_SLOTS];
	uint64_t effects;		/* bit per slot: it has an area of effects (effects.h) */
};

struct shm;				/* a process's handle: base address and part offsets */

/*
 * Makes the segment (memfd "belay", mapped shared) and one eventfd per slot.
 * Sizes are address space; memory is used as it is filled.  NULL with errno (EINVAL: sizes).
 */
struct shm *shm_create(const struct shm_sizes *sizes);
/* Unmaps in this process and closes the descriptors.  NULL is harmless. */
void shm_free(struct shm *shm);

const struct shm_sizes *shm_sizes(const struct shm *shm);
/* 16 random bytes, fixed at creation: the key of all table hashes. */
const uint8_t *shm_hash_key(const struct shm *shm);
int64_t shm_started_mono_ms(const struct shm *shm);	/* when it was created */
int shm_fd(const struct shm *shm);

/* What becomes of the instance.  The master says so, any process looks. */
enum shm_course {
	SHM_STAYS,
	SHM_LEAVES,			/* it stops, soon or now */
	SHM_RENEWS			/* it leaves its listeners to another binary, now */
};
void shm_set_course(struct shm *shm, enum shm_course course);
enum shm_course shm_course(const struct shm *shm);

/*
 * Which slot is this process?  Set once after fork, when the slot was taken
 * for it; this is the owner that its locks name and the sender that its mail names.
 */
void shm_set_self(struct shm *shm, unsigned slot);
unsigned shm_self(const struct shm *shm);		/* SHM_SLOT_MASTER before */
uint16_t shm_self_generation(const struct shm *shm);

/* Slots.  The master alone takes and frees them. */
enum slot_state {
	SLOT_FREE, SLOT_STARTING, SLOT_READY, SLOT_DRAINING,
	SLOT_DEAD	/* its process died; role, number and unread mail wait for the successor */
};

struct slot_view {
	int pid;			/* 0: no process */
	unsigned role;			/* the caller's number for it */
	unsigned nth;			/* first, second… process of that role */
	uint16_t generation;		/* grows with each process put into this slot; never 0 */
	enum slot_state state;
	int64_t heartbeat_mono_ms;	/* from slot_take() on */
};

/*
 * Master: a new process takes the slot (called before fork; pid is set by slot_set_pid in
 * parent or child). Returns the new generation. The process before it must be dead (slot_died).
 * The same role and number as before finds the unread mail, another one finds none.
 */
uint16_t slot_take(struct shm *shm, unsigned slot, unsigned role, unsigned nth);
void slot_set_pid(struct shm *shm, unsigned slot, int pid);
/* STARTING, READY or DRAINING. */
void slot_set_state(struct shm *shm, unsigned slot, enum slot_state state);
void slot_heartbeat(struct shm *shm, unsigned slot, int64_t mono_ms);
/*
 * Master, after waitpid: the slot's process is dead. Breaks its locks and repairs what they
 * guarded, forgets its topics, gives back what it held, counts its death at the mailbox, rings
 * sleepers whose mail it may not have announced, frees the slot's pid. A second call does nothing.
 */
void slot_died(struct shm *shm, unsigned slot);
/* Master, after slot_died: nobody succeeds it.  Unread mail is dropped. */
void slot_free(struct shm *shm, unsigned slot);
void slot_get(const struct shm *shm, unsigned slot, struct slot_view *out);
/* Is this (slot, generation) the process that is there now, and not known dead? */
int slot_is_live(const struct shm *shm, unsigned slot, uint16_t generation);
/*
 * Slot index or -1. A dead one is found too: what is posted to it waits for its successor. One
 * that drains is found last.
 */
int slot_find(const struct shm *shm, unsigned role, unsigned nth);
/* Counts each slot_died(), so that others can see cheaply that something changed. */
uint32_t slot_deaths(const struct shm *shm);

#endif
