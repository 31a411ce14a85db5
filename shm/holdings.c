/*
 * Holdings: how many of what each process holds.  Gateways take and give back for themselves; the
 * master does it for the dead.
 */
#include <string.h>

#include "base/must.h"

#include "shm/holdings.h"
#include "shm/segment.h"

struct holding {
	struct table_entry entry;
	_Atomic uint32_t held[];	/* by slot; never all 0 while the entry exists */
};

_Static_assert(sizeof(struct holding) == 32, "layout");

static uint32_t
entry_size(const struct shm_sizes *sizes)
{
	return (uint32_t)(sizeof(struct holding) + (sizes->slots + 1) / 2 * 2 * sizeof(uint32_t));
}

static size_t
holdings_size(const struct shm_sizes *sizes)
{
	return table_size(sizes->limits, entry_size(sizes));
}

static void
holdings_attach(struct shm *shm, uint8_t *at)
{
	const struct shm_sizes *sizes = &shm->segment->sizes;

	table_attach(&shm->holdings, at, sizes->limits, entry_size(sizes), shm->segment->hash_key);
}

static void
holdings_died(struct shm *shm, unsigned slot, uint16_t generation)
{
	table_break(shm, &shm->holdings, slot, generation);
	holdings_forget_slot(shm, slot);
}

const struct segment_part_ops holdings_part = {
	.name = "holdings",
	.version = 1,
	.size = holdings_size,
	.attach = holdings_attach,
	.died = holdings_died,
};

static struct table_key
key_of(struct hash128 thing)
{
	return (struct table_key){ thing.lo, thing.hi };
}

static uint32_t
add_up(const struct shm *shm, const struct holding *h)
{
	uint32_t sum = 0;
	unsigned i;

	for (i = 0; i < shm->segment->sizes.slots; i++)
		sum += shm_get(&h->held[i]);
	return sum;
}

static int
take_first(struct shm *shm, const struct table_place *place, unsigned slot)
{
	struct table *t = &shm->holdings;
	uint32_t index = table_reserve(t, place);
	struct holding *h;
	unsigned i;

	if (index == TABLE_NONE)
		return -1;
	h = table_entry(t, index);
	for (i = 0; i < shm->segment->sizes.slots; i++)
		shm_put(&h->held[i], i == slot);
	table_publish(t, place, index, 1);
	return 1;
}

int
holdings_take(struct shm *shm, struct hash128 thing, unsigned slot, uint32_t most)
{
	struct table *t = &shm->holdings;
	struct table_place place;
	struct holding *h;
	uint32_t index;
	int taken = 0;

	must(slot < shm->segment->sizes.slots);
	table_lock(shm, t, key_of(thing), &place);
	index = table_lookup(t, &place);
	if (index == TABLE_NONE) {
		if (most > 0)
			taken = take_first(shm, &place, slot);
	} else {
		h = table_entry(t, index);
		if (add_up(shm, h) < most) {
			SHM_TEST_POINT("holdings: before taking");
			shm_put(&h->held[slot], shm_get(&h->held[slot]) + 1);
			SHM_TEST_POINT("holdings: taken");
			taken = 1;
		}
	}
	table_unlock(shm, t, place.stripe);
	return taken;
}

/* So many less of the slot; with the lock held.  Either way it is one store. */
static void
give(struct shm *shm, uint32_t index, unsigned slot, uint32_t n)
{
	struct holding *h = table_entry(&shm->holdings, index);
	uint32_t held = shm_get(&h->held[slot]);

	if (add_up(shm, h) == n)
		table_delete(&shm->holdings, index);
	else
		shm_put(&h->held[slot], held - n);
	SHM_TEST_POINT("holdings: given");
}

void
holdings_give(struct shm *shm, struct hash128 thing, unsigned slot)
{
	struct table *t = &shm->holdings;
	const struct holding *h;
	struct table_place place;
	uint32_t index;

	must(slot < shm->segment->sizes.slots);
	table_lock(shm, t, key_of(thing), &place);
	index = table_lookup(t, &place);
	must(index != TABLE_NONE);
	h = table_entry(t, index);
	must(shm_get(&h->held[slot]) > 0);
	give(shm, index, slot, 1);
	table_unlock(shm, t, place.stripe);
}

uint32_t
holdings_sum(struct shm *shm, struct hash128 thing)
{
	struct table *t = &shm->holdings;
	struct table_place place;
	uint32_t index, sum = 0;

	table_lock(shm, t, key_of(thing), &place);
	index = table_lookup(t, &place);
	if (index != TABLE_NONE)
		sum = add_up(shm, table_entry(t, index));
	table_unlock(shm, t, place.stripe);
	return sum;
}

struct look {
	unsigned slot;
	uint32_t held;
};

static void
look_at(const struct table_entry *entry, void *arg)
{
	struct look *look = arg;

	look->held = shm_get(&((const struct holding *)entry)->held[look->slot]);
}

uint32_t
holdings_of(struct shm *shm, struct hash128 thing, unsigned slot)
{
	struct look look = { slot, 0 };

	must(slot < shm->segment->sizes.slots);
	if (table_read(shm, &shm->holdings, key_of(thing), look_at, &look) == TABLE_NONE)
		return 0;
	return look.held;
}

void
holdings_forget_slot(struct shm *shm, unsigned slot)
{
	struct table *t = &shm->holdings;
	uint32_t at, i, held, end = table_end(t);
	const struct holding *h;

	must(slot < shm->segment->sizes.slots);
	/* Block by block, so that nobody waits long for a stripe. */
	for (at = 0; at < end; at += TABLE_BLOCK) {
		if (table_block_used(t, at) == 0)
			continue;
		table_lock_stripe(shm, t, table_stripe_of(at));
		for (i = at; i < at + TABLE_BLOCK; i++) {
			h = table_entry(t, i);
			if ((shm_get(&h->entry.state) & TABLE_USED) == 0)
				continue;
			held = shm_get(&h->held[slot]);
			if (held > 0)
				give(shm, i, slot, held);
		}
		table_unlock(shm, t, table_stripe_of(at));
	}
}

uint32_t
holdings_count(struct shm *shm)
{
	return table_count(&shm->holdings);
}
