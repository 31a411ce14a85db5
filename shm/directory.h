/*
 * directory.h: device → who holds its connection, per transport.
 *
 *	who writes	storage claims and releases; any process touches (last_seen_mono_ms)
 *	who reads	any process
 *	lock		the stripe's, for claim and release; finding and touching need none
 *	fixed		an entry's index and key while it exists
 *	writer dies	the next one who needs the stripe, or slot_died(), repairs it: a claim
 *			or release happened or did not. Entries of a dead process stay: storage
 *			finds them (directory_walk, slot_is_live) and decides
 *
 * A claimer that may be killed and run again cannot rely on *old_ref the second time, since the
 * ref is then its own: directory_find(), kick the holder of a lower epoch, claim, and kick
 * *old_ref if it is yet another.
 */
#ifndef BELAY_SHM_DIRECTORY_H
#define BELAY_SHM_DIRECTORY_H

#include <stdint.h>

#include "base/digest.h"
#include "shm/ref.h"
#include "shm/shm.h"

enum directory_transport { DIRECTORY_WS, DIRECTORY_MQTT, DIRECTORY_TRANSPORTS };

struct directory_view {
	int64_t device_pk;		/* the store's number of the device */
	uint64_t ref[DIRECTORY_TRANSPORTS];	/* REF_NONE: not connected by it */
	int64_t epoch[DIRECTORY_TRANSPORTS];
	int64_t since_ms[DIRECTORY_TRANSPORTS];	/* wall clock */
	int64_t last_seen_mono_ms;
	uint32_t index;			/* of the entry, for directory_touch() */
	uint32_t generation;		/* of the entry */
};

/*
 * Claims the device for ref unless a higher epoch holds it. 1 = claimed, *old_ref is the
 * replaced holder or REF_NONE (also when ref held it already); 0 = a higher epoch is there; -1
 * = the directory is full. *old_ref and *out may be NULL; *out is what is there afterwards,
 * undefined after -1.  now_ms: since when it is connected; it was seen at this moment.
 */
int directory_claim(struct shm *shm, struct hash128 device, int64_t device_pk,
    enum directory_transport transport, uint64_t ref, int64_t epoch, int64_t now_ms,
    uint64_t *old_ref, struct directory_view *out);
/*
 * Releases the claim if ref still holds it: 1, else 0. The entry is freed when no transport is
 * left. *out (may be NULL) is what was there.
 */
int directory_release(struct shm *shm, struct hash128 device, enum directory_transport transport,
    uint64_t ref, struct directory_view *out);
/*
 * 1 found, 0 not. *out is what was there at one moment, except last_seen_mono_ms, which is only
 * recent; epoch and since_ms are 0 without a ref.
 */
int directory_find(struct shm *shm, struct hash128 device, struct directory_view *out);
/*
 * Notes that something came from the device; a plain store, no lock. A stale (index,
 * generation) does nothing.
 */
void directory_touch(struct shm *shm, uint32_t index, uint32_t generation, int64_t mono_ms);
/*
 * Walks all entries in pieces: looks at up to max entries from *position on, calls cb outside
 * of any lock; *position becomes 0 at the end.
 */
void directory_walk(struct shm *shm, uint32_t *position, uint32_t max,
    void (*cb)(void *arg, struct hash128 device, const struct directory_view *view), void *arg);
uint32_t directory_count(struct shm *shm);	/* entries in use */

#endif
