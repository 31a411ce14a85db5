/*
 * pending.h: the commands whose result is waited for: the one place where a command's live
 * state changes.
 *
 *	who writes	storage adds and removes; any process moves
 *	who reads	any process
 *	lock		the stripe's, to add and remove; moving is one compare-and-swap without it
 *	fixed		id, device, deadline while the entry exists
 *	writer dies	adding or removing happened or did not; a move likewise, and it names
 *			its decider, so that storage can take back a decision that it was never
 *			told (pending_undecide)
 */
#ifndef BELAY_SHM_PENDING_H
#define BELAY_SHM_PENDING_H

#include <stdint.h>

#include "base/digest.h"
#include "shm/shm.h"

enum pending_state {
	/* waiting */
	PENDING_SENT = 1,
	PENDING_ACCEPTED,
	/* decided; the durable twin follows */
	PENDING_EXECUTED,
	PENDING_FAILED,
	PENDING_TIMEOUT
};

struct pending_view {
	uint8_t id[16];
	struct hash128 device;
	int64_t deadline_mono_ms;
	enum pending_state state;
	uint8_t decided_by;		/* slot, once decided */
	uint16_t decided_generation;
};

/* Storage: 0 added; 1 = it is there already (nothing changed); -1 = full. */
int pending_add(struct shm *shm, const uint8_t id[16], struct hash128 device,
    int64_t deadline_mono_ms, enum pending_state state);
/*
 * Any process: moves the command to a new state by one compare-and-swap. Allowed:
 * sent→accepted, sent|accepted→executed|failed|timeout. A second "accepted" is PENDING_LOST and
 * changes nothing.
 */
enum pending_verdict {
	PENDING_WON,
	PENDING_LOST,			/* decided before */
	PENDING_OTHER_DEVICE,
	PENDING_UNKNOWN
};
enum pending_verdict pending_move(
    struct shm *shm, const uint8_t id[16], struct hash128 device, enum pending_state to);
/*
 * Storage: takes a decision back to SENT/ACCEPTED when the process that took it died before
 * telling storage. 1 done, 0 not.
 */
int pending_undecide(
    struct shm *shm, const uint8_t id[16], unsigned decided_by, uint16_t generation);
/* Storage: the final state is durable, or the command is queued again.  1 removed, 0 not there. */
int pending_remove(struct shm *shm, const uint8_t id[16]);
/* 1 found, 0 not. */
int pending_find(struct shm *shm, const uint8_t id[16], struct pending_view *out);
/*
 * Storage: walks all entries (cb outside of locks, on a copy); for deadlines and for decisions
 * of dead processes. Cheap when there are few entries.
 */
void pending_walk(
    struct shm *shm, void (*cb)(void *arg, const struct pending_view *view), void *arg);
uint32_t pending_count(struct shm *shm);

#endif
