/*
 * Token buckets of the whole instance.  Any process takes; gateways hold those of the tenants that
 * are connected to them.
 */
#include "base/must.h"

#include "shm/buckets.h"
#include "shm/segment.h"

#define LOOKED_AT	4		/* with each new bucket: how many others may be idle */
#define LOOKED_AT_FULL	256		/* … where there is no room otherwise */

struct bucket {
	struct table_entry entry;
	_Atomic uint64_t next;		/* monotonic ns */
	_Atomic uint64_t holders;	/* a bit for each slot */
};

_Static_assert(sizeof(struct bucket) == 48, "layout");
_Static_assert(SHM_MAX_SLOTS <= 64, "a bit each");

static size_t
buckets_size(const struct shm_sizes *sizes)
{
	return table_size(sizes->limits, sizeof(struct bucket));
}

static void
buckets_attach(struct shm *shm, uint8_t *at)
{
	table_attach(&shm->buckets, at, shm->segment->sizes.limits, sizeof(struct bucket),
	    shm->segment->hash_key);
}

static void
buckets_died(struct shm *shm, unsigned slot, uint16_t generation)
{
	table_break(shm, &shm->buckets, slot, generation);
	buckets_forget_slot(shm, slot);
}

const struct segment_part_ops buckets_part = {
	.name = "buckets",
	.version = 1,
	.size = buckets_size,
	.attach = buckets_attach,
	.died = buckets_died,
};

/* Takes n, where there is room for so many of them; 0 = taken, else how long to wait. */
static int64_t
take_from(struct bucket *b, const struct bucket_rate *rate, uint32_t n, uint32_t room_for,
    uint64_t now_ns)
{
	uint64_t was = shm_get(&b->next), next;

	do {
		next = was > now_ns ? was : now_ns;
		if (next + room_for * rate->gap_ns > now_ns + rate->reach_ns)
			return (int64_t)(next + room_for * rate->gap_ns - now_ns - rate->reach_ns);
		next += n * rate->gap_ns;
	} while (!atomic_compare_exchange_weak_explicit(&b->next, &was, next, memory_order_acq_rel,
	    memory_order_acquire));
	SHM_TEST_POINT("buckets: taken");
	return 0;
}

/*
 * Whoever has no bit takes under the lock alone, so an entry without bits can be deleted there.
 * The lock is held; looks at n entries of the stripe, from where this process left off.
 */
static void
make_room(struct shm *shm, unsigned stripe, unsigned n, uint64_t now_ns)
{
	struct table *t = &shm->buckets;
	uint32_t *at = &shm->bucket_hand[stripe], index;
	const struct bucket *b;

	for (; n > 0; n--) {
		index = table_nth(t, stripe, *at);
		if (index == TABLE_NONE) {
			*at = 0;
			return;
		}
		++*at;
		b = table_entry(t, index);
		if ((shm_get(&b->entry.state) & TABLE_USED) != 0 && shm_get(&b->holders) == 0 &&
		    shm_get(&b->next) <= now_ns)
			table_delete(t, index);
	}
}

/* The bucket, made full if there is none; with the lock held.  TABLE_NONE: no room. */
static uint32_t
find_or_make(struct shm *shm, const struct table_place *place, uint64_t holders, uint64_t now_ns)
{
	struct table *t = &shm->buckets;
	uint32_t index = table_lookup(t, place);
	struct bucket *b;

	if (index != TABLE_NONE) {
		b = table_entry(t, index);
		if (holders != 0)
			shm_put(&b->holders, shm_get(&b->holders) | holders);
		return index;
	}
	make_room(shm, place->stripe, LOOKED_AT, now_ns);
	index = table_reserve(t, place);
	if (index == TABLE_NONE) {
		make_room(shm, place->stripe, LOOKED_AT_FULL, now_ns);
		index = table_reserve(t, place);
	}
	if (index == TABLE_NONE)
		return TABLE_NONE;
	b = table_entry(t, index);
	shm_put(&b->next, 0);
	shm_put(&b->holders, holders);
	table_publish(t, place, index, 1);
	return index;
}

static int64_t
take(struct shm *shm, struct hash128 key, const struct bucket_rate *rate, uint32_t n,
    uint32_t room_for, uint64_t now_ns)
{
	struct table *t = &shm->buckets;
	struct table_place place;
	uint32_t index;
	int64_t wait_ns = -1;

	table_lock(shm, t, (struct table_key){ key.lo, key.hi }, &place);
	index = find_or_make(shm, &place, 0, now_ns);
	if (index != TABLE_NONE)
		wait_ns = take_from(table_entry(t, index), rate, n, room_for, now_ns);
	table_unlock(shm, t, place.stripe);
	return wait_ns;
}

int64_t
buckets_take(struct shm *shm, struct hash128 key, const struct bucket_rate *rate, uint64_t now_ns)
{
	return take(shm, key, rate, 1, 1, now_ns);
}

int64_t
buckets_take_more(struct shm *shm, struct hash128 key, const struct bucket_rate *rate,
    uint32_t more, uint64_t now_ns)
{
	return take(shm, key, rate, more, 0, now_ns);
}

int64_t
buckets_owe(struct shm *shm, struct hash128 key, const struct bucket_rate *rate, uint64_t debt_ns, uint64_t now_ns)
{
	struct table *t = &shm->buckets;
	struct table_place place;
	uint64_t was, next, most = now_ns + rate->reach_ns + debt_ns;
	struct bucket *b;
	uint32_t index;

	table_lock(shm, t, (struct table_key){ key.lo, key.hi }, &place);
	index = find_or_make(shm, &place, 0, now_ns);
	if (index != TABLE_NONE) {
		b = table_entry(t, index);
		was = shm_get(&b->next);
		do {
			next = (was > now_ns ? was : now_ns) + rate->gap_ns;
			if (next > most)
				next = was > most ? was : most;
		} while (!atomic_compare_exchange_weak_explicit(&b->next, &was, next, memory_order_acq_rel,
		    memory_order_acquire));
	}
	table_unlock(shm, t, place.stripe);
	return index != TABLE_NONE ? 0 : -1;
}

uint32_t
buckets_hold(struct shm *shm, struct hash128 key, unsigned slot, uint64_t now_ns)
{
	struct table *t = &shm->buckets;
	struct table_place place;
	uint32_t index;

	must(slot < shm->segment->sizes.slots);
	table_lock(shm, t, (struct table_key){ key.lo, key.hi }, &place);
	index = find_or_make(shm, &place, (uint64_t)1 << slot, now_ns);
	table_unlock(shm, t, place.stripe);
	return index != TABLE_NONE ? index : BUCKET_NONE;
}

int64_t
buckets_take_held(struct shm *shm, uint32_t bucket, const struct bucket_rate *rate, uint64_t now_ns)
{
	return take_from(table_entry(&shm->buckets, bucket), rate, 1, 1, now_ns);
}

/* With the lock held. */
static void
clear_bit(struct bucket *b, uint64_t bit)
{
	shm_put(&b->holders, shm_get(&b->holders) & ~bit);
	SHM_TEST_POINT("buckets: released");
}

void
buckets_release(struct shm *shm, uint32_t bucket, unsigned slot)
{
	struct table *t = &shm->buckets;
	unsigned stripe = table_stripe_of(bucket);
	struct bucket *b = table_entry(t, bucket);

	must(slot < shm->segment->sizes.slots);
	table_lock_stripe(shm, t, stripe);
	must((shm_get(&b->holders) & (uint64_t)1 << slot) != 0);
	clear_bit(b, (uint64_t)1 << slot);
	table_unlock(shm, t, stripe);
}

void
buckets_forget_slot(struct shm *shm, unsigned slot)
{
	struct table *t = &shm->buckets;
	uint64_t bit = (uint64_t)1 << slot;
	uint32_t at, i, end = table_end(t);
	struct bucket *b;

	must(slot < shm->segment->sizes.slots);
	/* Block by block, so that nobody waits long for a stripe. */
	for (at = 0; at < end; at += TABLE_BLOCK) {
		if (table_block_used(t, at) == 0)
			continue;
		table_lock_stripe(shm, t, table_stripe_of(at));
		for (i = at; i < at + TABLE_BLOCK; i++) {
			b = table_entry(t, i);
			if ((shm_get(&b->entry.state) & TABLE_USED) != 0 &&
			    (shm_get(&b->holders) & bit) != 0)
				clear_bit(b, bit);
		}
		table_unlock(shm, t, table_stripe_of(at));
	}
}

uint32_t
buckets_count(struct shm *shm)
{
	return table_count(&shm->buckets);
}
