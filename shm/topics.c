/*
 * Topics: which processes have listeners.  Each process joins and leaves for
 * itself; whoever publishes looks.
 */
#include "base/must.h"

#include "shm/segment.h"
#include "shm/topics.h"

struct topic_entry {
	struct table_entry entry;
	_Atomic uint64_t slots;		/* a bit each; never 0 while the entry exists */
};

_Static_assert(sizeof(struct topic_entry) == 40, "layout");
_Static_assert(SHM_MAX_SLOTS <= 64, "a bit each");

static size_t
topics_size(const struct shm_sizes *sizes)
{
	return table_size(sizes->topics, sizeof(struct topic_entry));
}

static void
topics_attach(struct shm *shm, uint8_t *at)
{
	table_attach(&shm->topics, at, shm->segment->sizes.topics, sizeof(struct topic_entry),
	    shm->segment->hash_key);
}

static void
topics_died(struct shm *shm, unsigned slot, uint16_t generation)
{
	table_break(shm, &shm->topics, slot, generation);
	topics_forget_slot(shm, slot);
}

const struct segment_part_ops topics_part = {
	.name = "topics",
	.version = 1,
	.size = topics_size,
	.attach = topics_attach,
	.died = topics_died,
};

static struct table_key
key_of(struct hash128 topic)
{
	return (struct table_key){ topic.lo, topic.hi };
}

int
topics_join(struct shm *shm, struct hash128 topic, unsigned slot)
{
	struct table *t = &shm->topics;
	uint64_t bit = (uint64_t)1 << slot;
	struct table_place place;
	struct topic_entry *e;
	uint32_t index;

	must(slot < shm->segment->sizes.slots);
	table_lock(shm, t, key_of(topic), &place);
	index = table_lookup(t, &place);
	if (index != TABLE_NONE) {
		e = table_entry(t, index);
		shm_put(&e->slots, shm_get(&e->slots) | bit);
	} else {
		index = table_reserve(t, &place);
		if (index != TABLE_NONE) {
			e = table_entry(t, index);
			shm_put(&e->slots, bit);
			table_publish(t, &place, index, 1);
		}
	}
	table_unlock(shm, t, place.stripe);
	return index != TABLE_NONE ? 0 : -1;
}

/* With the lock held. */
static void
clear_bit(struct table *t, uint32_t index, uint64_t bit)
{
	struct topic_entry *e = table_entry(t, index);
	uint64_t slots = shm_get(&e->slots);

	if ((slots & bit) == 0)
		return;
	if (slots == bit)
		table_delete(t, index);
	else
		shm_put(&e->slots, slots & ~bit);
}

void
topics_leave(struct shm *shm, struct hash128 topic, unsigned slot)
{
	struct table *t = &shm->topics;
	struct table_place place;
	uint32_t index;

	must(slot < shm->segment->sizes.slots);
	table_lock(shm, t, key_of(topic), &place);
	index = table_lookup(t, &place);
	if (index != TABLE_NONE)
		clear_bit(t, index, (uint64_t)1 << slot);
	table_unlock(shm, t, place.stripe);
}

static void
copy_slots(const struct table_entry *entry, void *arg)
{
	*(uint64_t *)arg = shm_get(&((const struct topic_entry *)entry)->slots);
}

uint64_t
topics_slots(struct shm *shm, struct hash128 topic)
{
	uint64_t slots;

	if (table_read(shm, &shm->topics, key_of(topic), copy_slots, &slots) == TABLE_NONE)
		return 0;
	return slots;
}

void
topics_forget_slot(struct shm *shm, unsigned slot)
{
	struct table *t = &shm->topics;
	uint64_t bit = (uint64_t)1 << slot;
	uint32_t at, i, end = table_end(t);
	const struct topic_entry *e;

	must(slot < shm->segment->sizes.slots);
	/* Block by block, so that nobody waits long for a stripe. */
	for (at = 0; at < end; at += TABLE_BLOCK) {
		if (table_block_used(t, at) == 0)
			continue;
		table_lock_stripe(shm, t, table_stripe_of(at));
		for (i = at; i < at + TABLE_BLOCK; i++) {
			e = table_entry(t, i);
			if ((shm_get(&e->entry.state) & TABLE_USED) != 0)
				clear_bit(t, i, bit);
		}
		table_unlock(shm, t, table_stripe_of(at));
	}
}

uint32_t
topics_count(struct shm *shm)
{
	return table_count(&shm->topics);
}
