/*
 * The directory of devices: who holds whose connection.  Storage claims and
 * releases, gateways touch, everyone looks.
 */
#include "base/clock.h"
#include "base/must.h"

#include "shm/directory.h"
#include "shm/segment.h"

struct directory_entry {
	struct table_entry entry;
	_Atomic int64_t device_pk;
	_Atomic uint64_t ref[DIRECTORY_TRANSPORTS];
	_Atomic int64_t epoch[DIRECTORY_TRANSPORTS];
	_Atomic int64_t since_ms[DIRECTORY_TRANSPORTS];
	_Atomic int64_t last_seen_mono_ms;	/* any process, without the lock */
};

_Static_assert(sizeof(struct directory_entry) == 96, "layout, and the memory of a million devices");
_Static_assert(sizeof(struct directory_entry) - sizeof(struct table_entry) <= 8 * TABLE_UNDO_WORDS,
    "fits in undo");

static size_t
directory_size(const struct shm_sizes *sizes)
{
	return table_size(sizes->devices, sizeof(struct directory_entry));
}

static void
directory_attach(struct shm *shm, uint8_t *at)
{
	table_attach(&shm->directory, at, shm->segment->sizes.devices,
	    sizeof(struct directory_entry), shm->segment->hash_key);
}

static void
directory_died(struct shm *shm, unsigned slot, uint16_t generation)
{
	table_break(shm, &shm->directory, slot, generation);
}

const struct segment_part_ops directory_part = {
	.name = "directory",
	.version = 1,
	.size = directory_size,
	.attach = directory_attach,
	.died = directory_died,
};

static struct table_key
key_of(struct hash128 device)
{
	return (struct table_key){ device.lo, device.hi };
}

/* All but the index. */
static void
copy_view(const struct table_entry *entry, void *arg)
{
	const struct directory_entry *e = (const struct directory_entry *)entry;
	struct directory_view *out = arg;
	int t;

	out->device_pk = shm_get(&e->device_pk);
	for (t = 0; t < DIRECTORY_TRANSPORTS; t++) {
		out->ref[t] = shm_get(&e->ref[t]);
		out->epoch[t] = out->ref[t] != REF_NONE ? shm_get(&e->epoch[t]) : 0;
		out->since_ms[t] = out->ref[t] != REF_NONE ? shm_get(&e->since_ms[t]) : 0;
	}
	out->last_seen_mono_ms = shm_get(&e->last_seen_mono_ms);
	out->generation = (uint32_t)(shm_get(&e->entry.state) >> 32);
}

static void
view(const struct table *t, uint32_t index, struct directory_view *out)
{
	if (out == NULL)
		return;
	copy_view(table_entry(t, index), out);
	out->index = index;
}

static void
set_holder(struct directory_entry *e, enum directory_transport transport, uint64_t ref,
    int64_t epoch, int64_t now_ms)
{
	shm_put(&e->ref[transport], ref);
	SHM_TEST_POINT("directory: ref set");
	shm_put(&e->epoch[transport], epoch);
	SHM_TEST_POINT("directory: epoch set");
	shm_put(&e->since_ms[transport], now_ms);
	shm_put(&e->last_seen_mono_ms, clock_mono_ms());
}

static uint32_t
claim_new(struct table *t, const struct table_place *place, int64_t device_pk,
    enum directory_transport transport, uint64_t ref, int64_t epoch, int64_t now_ms)
{
	uint32_t index = table_reserve(t, place);
	struct directory_entry *e;
	int i;

	if (index == TABLE_NONE)
		return TABLE_NONE;
	e = table_entry(t, index);
	for (i = 0; i < DIRECTORY_TRANSPORTS; i++)
		shm_put(&e->ref[i], REF_NONE);
	shm_put(&e->device_pk, device_pk);
	set_holder(e, transport, ref, epoch, now_ms);
	table_publish(t, place, index, 1);
	return index;
}

int
directory_claim(struct shm *shm, struct hash128 device, int64_t device_pk,
    enum directory_transport transport, uint64_t ref, int64_t epoch, int64_t now_ms,
    uint64_t *old_ref, struct directory_view *out)
{
	struct table *t = &shm->directory;
	struct table_place place;
	struct directory_entry *e;
	uint32_t index;
	uint64_t old = REF_NONE;
	int claimed = 1;

	must(ref != REF_NONE && transport < DIRECTORY_TRANSPORTS);
	table_lock(shm, t, key_of(device), &place);
	index = table_lookup(t, &place);
	if (index == TABLE_NONE) {
		index = claim_new(t, &place, device_pk, transport, ref, epoch, now_ms);
	} else {
		e = table_entry(t, index);
		old = shm_get(&e->ref[transport]);
		if (old != REF_NONE && shm_get(&e->epoch[transport]) > epoch) {
			claimed = 0;
		} else {
			table_change_begin(t, index);
			shm_put(&e->device_pk, device_pk);
			set_holder(e, transport, ref, epoch, now_ms);
			table_change_end(t, index);
		}
	}
	if (index != TABLE_NONE)
		view(t, index, out);
	table_unlock(shm, t, place.stripe);
	if (old_ref != NULL)
		*old_ref = claimed && old != ref ? old : REF_NONE;
	return index != TABLE_NONE ? claimed : -1;
}

static int
held_by_another(struct directory_entry *e, enum directory_transport transport)
{
	int i;

	for (i = 0; i < DIRECTORY_TRANSPORTS; i++) {
		if (i != (int)transport && shm_get(&e->ref[i]) != REF_NONE)
			return 1;
	}
	return 0;
}

int
directory_release(struct shm *shm, struct hash128 device, enum directory_transport transport,
    uint64_t ref, struct directory_view *out)
{
	struct table *t = &shm->directory;
	struct directory_entry *e;
	struct table_place place;
	uint32_t index;
	int released = 0;

	must(ref != REF_NONE && transport < DIRECTORY_TRANSPORTS);
	table_lock(shm, t, key_of(device), &place);
	index = table_lookup(t, &place);
	if (index != TABLE_NONE) {
		e = table_entry(t, index);
		view(t, index, out);
		if (shm_get(&e->ref[transport]) == ref) {
			/* Either way it is one store that releases. */
			if (held_by_another(e, transport)) {
				table_change_begin(t, index);
				shm_put(&e->ref[transport], REF_NONE);
				table_change_end(t, index);
			} else {
				table_delete(t, index);
			}
			released = 1;
		}
	}
	table_unlock(shm, t, place.stripe);
	return released;
}

int
directory_find(struct shm *shm, struct hash128 device, struct directory_view *out)
{
	out->index = table_read(shm, &shm->directory, key_of(device), copy_view, out);
	return out->index != TABLE_NONE;
}

void
directory_touch(struct shm *shm, uint32_t index, uint32_t generation, int64_t mono_ms)
{
	struct table *t = &shm->directory;
	struct directory_entry *e;
	uint64_t state;

	if (index >= (uint64_t)t->cap * TABLE_STRIPES)
		return;
	e = table_entry(t, index);
	state = shm_get(&e->entry.state);
	/*
	 * Freed and used again between this look and the store, another device would have been
	 * seen a moment after it was claimed: no harm.
	 */
	if (state >> 32 == generation && (state & TABLE_USED) != 0)
		shm_put(&e->last_seen_mono_ms, mono_ms);
}

/* Copies the entries of one block under the lock; returns how many. */
static int
copy_block(struct shm *shm, uint32_t begin, struct hash128 device[TABLE_BLOCK],
    struct directory_view views[TABLE_BLOCK])
{
	struct table *t = &shm->directory;
	const struct directory_entry *e;
	int n = 0;
	uint32_t i;

	if (table_block_used(t, begin) == 0)
		return 0;
	table_lock_stripe(shm, t, table_stripe_of(begin));
	for (i = 0; i < TABLE_BLOCK; i++) {
		e = table_entry(t, begin + i);
		if ((shm_get(&e->entry.state) & TABLE_USED) == 0)
			continue;
		device[n] =
		    (struct hash128){ shm_get(&e->entry.key_lo), shm_get(&e->entry.key_hi) };
		view(t, begin + i, &views[n++]);
	}
	table_unlock(shm, t, table_stripe_of(begin));
	return n;
}

void
directory_walk(struct shm *shm, uint32_t *position, uint32_t max,
    void (*cb)(void *arg, struct hash128 device, const struct directory_view *view), void *arg)
{
	struct directory_view views[TABLE_BLOCK];
	struct hash128 device[TABLE_BLOCK];
	uint32_t at = *position / TABLE_BLOCK * TABLE_BLOCK, looked;
	uint32_t end = table_end(&shm->directory);
	int i, n;

	for (looked = 0; looked < max && at < end; looked += TABLE_BLOCK, at += TABLE_BLOCK) {
		n = copy_block(shm, at, device, views);
		for (i = 0; i < n; i++)
			cb(arg, device[i], &views[i]);
	}
	*position = at < end ? at : 0;
}

uint32_t
directory_count(struct shm *shm)
{
	return table_count(&shm->directory);
}
