/*
 * The commands whose result is waited for.  Storage adds and removes; the
 * gateway that hears the device, and storage when time is over, decide by one
 * compare-and-swap on the entry's state word.
 */
#include <string.h>

#include "base/must.h"

#include "shm/pending.h"
#include "shm/segment.h"

/*
 * The state word:
 *
 *	 63            32 31            16 15       8 7      5 4          3     0
 *	+----------------+----------------+----------+--------+----------+-------+
 *	|  entry's gen.  | decider's gen. | decider  |   0    | accepted | state |
 *	+----------------+----------------+----------+--------+----------+-------+
 *
 * `accepted`: it was accepted before it was decided (pending_undecide). A swap on an entry that
 * was removed and used again fails by the entry's generation.
 */
#define STATE_MASK	0x0fu
#define STATE_ACCEPTED	0x10u

struct pending_entry {
	struct table_entry entry;	/* the key is the id */
	_Atomic uint64_t device_lo, device_hi;
	_Atomic int64_t deadline_mono_ms;
};

_Static_assert(sizeof(struct pending_entry) == 56, "layout");
_Static_assert(
    PENDING_TIMEOUT <= STATE_MASK && PENDING_SENT > 0, "a state is never 0, which is a free entry");

static size_t
pending_size(const struct shm_sizes *sizes)
{
	return table_size(sizes->commands, sizeof(struct pending_entry));
}

static void
pending_attach(struct shm *shm, uint8_t *at)
{
	table_attach(&shm->pending, at, shm->segment->sizes.commands, sizeof(struct pending_entry),
	    shm->segment->hash_key);
}

static void
pending_died(struct shm *shm, unsigned slot, uint16_t generation)
{
	table_break(shm, &shm->pending, slot, generation);
}

const struct segment_part_ops pending_part = {
	.name = "pending",
	.version = 1,
	.size = pending_size,
	.attach = pending_attach,
	.died = pending_died,
};

static struct table_key
key_of(const uint8_t id[16])
{
	struct table_key key;

	memcpy(&key.lo, id, 8);
	memcpy(&key.hi, id + 8, 8);
	return key;
}

int
pending_add(struct shm *shm, const uint8_t id[16], struct hash128 device, int64_t deadline_mono_ms,
    enum pending_state state)
{
	struct table *t = &shm->pending;
	struct table_place place;
	struct pending_entry *e;
	uint32_t index;
	int result = 1;

	must(state == PENDING_SENT || state == PENDING_ACCEPTED);
	table_lock(shm, t, key_of(id), &place);
	if (table_lookup(t, &place) == TABLE_NONE) {
		index = table_reserve(t, &place);
		result = index != TABLE_NONE ? 0 : -1;
		if (index != TABLE_NONE) {
			e = table_entry(t, index);
			shm_put(&e->device_lo, device.lo);
			shm_put(&e->device_hi, device.hi);
			shm_put(&e->deadline_mono_ms, deadline_mono_ms);
			table_publish(t, &place, index, state);
		}
	}
	table_unlock(shm, t, place.stripe);
	return result;
}

struct seen {
	uint64_t state;			/* the whole word */
	struct hash128 device;
	int64_t deadline_mono_ms;
};

/* The word first: when the entry was removed since, a swap that expects it fails. */
static void
copy_seen(const struct table_entry *entry, void *arg)
{
	const struct pending_entry *e = (const struct pending_entry *)entry;
	struct seen *out = arg;

	out->state = shm_get(&e->entry.state);
	out->device.lo = shm_get(&e->device_lo);
	out->device.hi = shm_get(&e->device_hi);
	out->deadline_mono_ms = shm_get(&e->deadline_mono_ms);
}

static int
swap_state(struct table *t, uint32_t index, uint64_t from, uint64_t to)
{
	struct pending_entry *e = table_entry(t, index);

	SHM_TEST_POINT("pending: before swap");
	return atomic_compare_exchange_strong_explicit(
	    &e->entry.state, &from, to, memory_order_acq_rel, memory_order_acquire);
}

static uint64_t
state_word(uint64_t from, uint64_t slot, uint64_t generation, uint64_t low)
{
	return from >> 32 << 32 | generation << 16 | slot << 8 | low;
}

static enum pending_state
state_of(uint64_t word)
{
	return (enum pending_state)(word & STATE_MASK);
}

static uint64_t
moved(const struct shm *shm, uint64_t from, enum pending_state to)
{
	if (to == PENDING_ACCEPTED)
		return state_word(from, 0, 0, PENDING_ACCEPTED);
	return state_word(from, shm->self_slot, shm->self_generation,
	    (uint64_t)to | (state_of(from) == PENDING_ACCEPTED ? STATE_ACCEPTED : 0));
}

static int
may_move(enum pending_state from, enum pending_state to)
{
	if (to == PENDING_ACCEPTED)
		return from == PENDING_SENT;
	return from == PENDING_SENT || from == PENDING_ACCEPTED;
}

enum pending_verdict
pending_move(struct shm *shm, const uint8_t id[16], struct hash128 device, enum pending_state to)
{
	struct table *t = &shm->pending;
	struct seen seen;
	uint32_t index;

	must(to >= PENDING_ACCEPTED && to <= PENDING_TIMEOUT);
	/* A failed swap means that another process moved it, and there are few moves: this ends. */
	for (;;) {
		index = table_read(shm, t, key_of(id), copy_seen, &seen);
		if (index == TABLE_NONE || (seen.state & TABLE_USED) == 0)
			return PENDING_UNKNOWN;
		if (seen.device.lo != device.lo || seen.device.hi != device.hi)
			return PENDING_OTHER_DEVICE;
		if (!may_move(state_of(seen.state), to))
			return PENDING_LOST;
		if (swap_state(t, index, seen.state, moved(shm, seen.state, to)))
			return PENDING_WON;
	}
}

int
pending_undecide(struct shm *shm, const uint8_t id[16], unsigned decided_by, uint16_t generation)
{
	struct table *t = &shm->pending;
	struct seen seen;
	uint32_t index;
	uint64_t back;

	index = table_read(shm, t, key_of(id), copy_seen, &seen);
	if (index == TABLE_NONE || state_of(seen.state) < PENDING_EXECUTED ||
	    (seen.state >> 8 & 0xff) != decided_by || (seen.state >> 16 & 0xffff) != generation)
		return 0;
	back = seen.state & STATE_ACCEPTED ? PENDING_ACCEPTED : PENDING_SENT;
	return swap_state(t, index, seen.state, state_word(seen.state, 0, 0, back));
}

int
pending_remove(struct shm *shm, const uint8_t id[16])
{
	struct table *t = &shm->pending;
	struct table_place place;
	uint32_t index;

	table_lock(shm, t, key_of(id), &place);
	index = table_lookup(t, &place);
	if (index != TABLE_NONE)
		table_delete(t, index);
	table_unlock(shm, t, place.stripe);
	return index != TABLE_NONE;
}

static void
make_view(struct pending_view *out, struct table_key id, const struct seen *seen)
{
	memcpy(out->id, &id.lo, 8);
	memcpy(out->id + 8, &id.hi, 8);
	out->device = seen->device;
	out->deadline_mono_ms = seen->deadline_mono_ms;
	out->state = state_of(seen->state);
	out->decided_by = seen->state >> 8 & 0xff;
	out->decided_generation = seen->state >> 16 & 0xffff;
}

int
pending_find(struct shm *shm, const uint8_t id[16], struct pending_view *out)
{
	struct seen seen;

	if (table_read(shm, &shm->pending, key_of(id), copy_seen, &seen) == TABLE_NONE ||
	    (seen.state & TABLE_USED) == 0)
		return 0;
	make_view(out, key_of(id), &seen);
	return 1;
}

static int
copy_block(struct shm *shm, uint32_t begin, struct pending_view views[TABLE_BLOCK])
{
	struct table *t = &shm->pending;
	const struct table_entry *e;
	struct seen seen;
	uint32_t i;
	int n = 0;

	if (table_block_used(t, begin) == 0)
		return 0;
	table_lock_stripe(shm, t, table_stripe_of(begin));
	for (i = 0; i < TABLE_BLOCK; i++) {
		e = table_entry(t, begin + i);
		copy_seen(e, &seen);
		if ((seen.state & TABLE_USED) != 0)
			make_view(&views[n++],
			    (struct table_key){ shm_get(&e->key_lo), shm_get(&e->key_hi) }, &seen);
	}
	table_unlock(shm, t, table_stripe_of(begin));
	return n;
}

void
pending_walk(struct shm *shm, void (*cb)(void *arg, const struct pending_view *view), void *arg)
{
	struct pending_view views[TABLE_BLOCK];
	uint32_t at, end = table_end(&shm->pending);
	int i, n;

	for (at = 0; at < end; at += TABLE_BLOCK) {
		n = copy_block(shm, at, views);
		for (i = 0; i < n; i++)
			cb(arg, &views[i]);
	}
}

uint32_t
pending_count(struct shm *shm)
{
	return table_count(&shm->pending);
}
