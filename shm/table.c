/*
 * The hash table beneath directory, pending, topics, holdings and buckets.  Run by every
 * process; see table.h for who may do what, and what survives a death.
 */
#include <string.h>

#include "base/must.h"

#include "shm/segment.h"
#include "shm/table.h"

#define LINE_WORDS	8		/* 64-bit words in a cache line */
#define BUCKETS_FIRST	TABLE_BLOCK
#define READ_TRIES	32

/*
 * Where what lies. Number n of stripe s, in blocks of 2^k: (n / 2^k * stripes + s) * 2^k + n %
 * 2^k.
 */
static uint32_t
interleave(unsigned stripe, uint32_t n, uint32_t block)
{
	return (n / block * TABLE_STRIPES + stripe) * block + n % block;
}

static uint32_t
index_of(unsigned stripe, uint32_t n)
{
	return interleave(stripe, n, TABLE_BLOCK);
}

unsigned
table_stripe_of(uint32_t index)
{
	return index / TABLE_BLOCK % TABLE_STRIPES;
}

uint32_t
table_nth(const struct table *t, unsigned stripe, uint32_t n)
{
	return n < shm_get(&t->stripes[stripe].top) ? index_of(stripe, n) : TABLE_NONE;
}

static uint32_t
number_of(uint32_t index)
{
	return index / (TABLE_BLOCK * TABLE_STRIPES) * TABLE_BLOCK + index % TABLE_BLOCK;
}

void *
table_entry(const struct table *t, uint32_t index)
{
	return t->entries + (size_t)index * t->entry_size;
}

static struct table_entry *
entry_of(const struct table *t, unsigned stripe, uint32_t n)
{
	return table_entry(t, index_of(stripe, n));
}

static _Atomic uint32_t *
bucket_of(const struct table *t, unsigned stripe, uint32_t n)
{
	return &t->buckets[interleave(stripe, n, TABLE_BLOCK)];
}

static _Atomic uint64_t *
used_word_of(const struct table *t, unsigned stripe, uint32_t word)
{
	return &t->used[interleave(stripe, word, LINE_WORDS)];
}

static uint32_t
square_root(uint32_t n)
{
	uint32_t r = 0;

	while ((uint64_t)(r + 1) * (r + 1) <= n)
		r++;
	return r;
}

/* Keys fall into the stripes at random: six standard deviations above the mean. */
static uint32_t
stripe_cap(uint32_t entries)
{
	uint32_t mean = (entries + TABLE_STRIPES - 1) / TABLE_STRIPES;
	uint32_t cap = mean + 6 * square_root(mean) + TABLE_BLOCK;

	return (cap + TABLE_BLOCK - 1) / TABLE_BLOCK * TABLE_BLOCK;
}

static size_t
used_words(uint32_t cap)
{
	size_t words = (cap + 63) / 64;

	return (words + LINE_WORDS - 1) / LINE_WORDS * LINE_WORDS;
}

static size_t
page_up(size_t n)
{
	return (n + SEGMENT_PAGE - 1) & ~(size_t)(SEGMENT_PAGE - 1);
}

static size_t
stripes_len(void)
{
	return TABLE_STRIPES * sizeof(struct table_stripe);
}

static size_t
used_len(uint32_t cap)
{
	return page_up(TABLE_STRIPES * used_words(cap) * sizeof(uint64_t));
}

static size_t
buckets_len(uint32_t cap)
{
	return page_up((size_t)TABLE_STRIPES * cap * sizeof(uint32_t));
}

_Static_assert(
    TABLE_STRIPES * sizeof(struct table_stripe) % SEGMENT_PAGE == 0, "the arrays begin on pages");

size_t
table_size(uint32_t entries, uint32_t entry_size)
{
	uint32_t cap = stripe_cap(entries);

	return stripes_len() + used_len(cap) + buckets_len(cap) +
	       (size_t)TABLE_STRIPES * cap * entry_size;
}

void
table_attach(
    struct table *t, uint8_t *at, uint32_t entries, uint32_t entry_size, const uint8_t hash_key[16])
{
	must(entry_size % sizeof(uint64_t) == 0 && entry_size >= sizeof(struct table_entry));
	t->cap = stripe_cap(entries);
	t->entry_size = entry_size;
	t->stripes = (struct table_stripe *)at;
	at += stripes_len();
	t->used = (_Atomic uint64_t *)at;
	at += used_len(t->cap);
	t->buckets = (_Atomic uint32_t *)at;
	at += buckets_len(t->cap);
	t->entries = at;
	memcpy(t->seed, hash_key, sizeof(t->seed));
}

/*
 * Keys are keyed hashes or UUIDs already; this only spreads what is constant
 * in them (a UUIDv7's time).
 */
static uint64_t
hash_of(const struct table *t, uint64_t lo, uint64_t hi)
{
	uint64_t h = lo ^ t->seed[0];

	h = (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
	h ^= hi ^ t->seed[1];
	h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
	h = (h ^ h >> 32) * 0x94d049bb133111ebu;
	return h ^ h >> 31;
}

static unsigned
stripe_of_hash(uint64_t hash)
{
	return (unsigned)(hash >> 58);
}

_Static_assert(TABLE_STRIPES == 1 << (64 - 58), "the stripe is the hash's top bits");

static uint32_t
floor_power(uint32_t n)
{
	return 1u << (31 - __builtin_clz(n));
}

/* Linear hashing: with n buckets in use, those at and above n are not split off yet. */
static uint32_t
bucket_number(uint64_t hash, uint32_t n)
{
	uint32_t power = floor_power(n);
	uint32_t b = (uint32_t)hash & (2 * power - 1);

	return b < n ? b : b & (power - 1);
}

static uint64_t
entry_hash(const struct table *t, const struct table_entry *e)
{
	return hash_of(t, shm_get(&e->key_lo), shm_get(&e->key_hi));
}

/*
 * Number within the stripe, or TABLE_NONE. Without the lock it may be wrong, but it always
 * ends.
 */
static uint32_t
chain_find(const struct table *t, const struct table_place *place)
{
	const struct table_stripe *st = &t->stripes[place->stripe];
	uint32_t n = shm_get(&st->buckets), link, steps;
	const struct table_entry *e;

	if (n == 0)
		return TABLE_NONE;
	link = shm_get(bucket_of(t, place->stripe, bucket_number(place->hash, n)));
	for (steps = 0; link != 0 && steps <= t->cap; steps++) {
		e = entry_of(t, place->stripe, link - 1);
		if (shm_get(&e->key_lo) == place->key.lo && shm_get(&e->key_hi) == place->key.hi)
			return link - 1;
		link = shm_get(&e->next);
	}
	return TABLE_NONE;
}

/* Seq is written under the lock alone. */
static void
seq_odd(struct table_stripe *st)
{
	shm_put(&st->seq, shm_get(&st->seq) | 1);
	SHM_TEST_POINT("table: seq odd");
}

static void
seq_even(struct table_stripe *st)
{
	SHM_TEST_POINT("table: before seq even");
	shm_put(&st->seq, (shm_get(&st->seq) | 1) + 1);
}

static void
used_set(struct table *t, unsigned stripe, uint32_t n)
{
	_Atomic uint64_t *word = used_word_of(t, stripe, n / 64);

	shm_put(word, shm_get(word) | (uint64_t)1 << n % 64);
}

static void
used_clear(struct table *t, unsigned stripe, uint32_t n)
{
	_Atomic uint64_t *word = used_word_of(t, stripe, n / 64);

	shm_put(word, shm_get(word) & ~((uint64_t)1 << n % 64));
	if (n / 64 < shm_get(&t->stripes[stripe].low))
		shm_put(&t->stripes[stripe].low, n / 64);
}

static void
link_entry(struct table *t, unsigned stripe, uint32_t n, uint64_t hash)
{
	_Atomic uint32_t *bucket =
	    bucket_of(t, stripe, bucket_number(hash, shm_get(&t->stripes[stripe].buckets)));
	struct table_entry *e = entry_of(t, stripe, n);

	shm_put(&e->next, shm_get(bucket));
	shm_put(bucket, n + 1);
}

static void
unlink_entry(struct table *t, unsigned stripe, uint32_t n)
{
	struct table_entry *e = entry_of(t, stripe, n);
	_Atomic uint32_t *link = bucket_of(t, stripe,
	    bucket_number(entry_hash(t, e), shm_get(&t->stripes[stripe].buckets)));

	while (shm_get(link) != n + 1) {
		must(shm_get(link) != 0);
		link = &entry_of(t, stripe, shm_get(link) - 1)->next;
	}
	shm_put(link, shm_get(&e->next));
}

/* One bucket more: its share of the entries comes over from the bucket they were in. */
static void
split_bucket(struct table *t, unsigned stripe)
{
	struct table_stripe *st = &t->stripes[stripe];
	uint32_t n = shm_get(&st->buckets), power = floor_power(n);
	_Atomic uint32_t *link = bucket_of(t, stripe, n - power);
	_Atomic uint32_t *fresh = bucket_of(t, stripe, n);
	struct table_entry *e;
	uint32_t this;

	shm_put(fresh, 0);
	while ((this = shm_get(link)) != 0) {
		e = entry_of(t, stripe, this - 1);
		if (((uint32_t)entry_hash(t, e) & (2 * power - 1)) != n) {
			link = &e->next;
			continue;
		}
		shm_put(link, shm_get(&e->next));
		SHM_TEST_POINT("table: in split");
		shm_put(&e->next, shm_get(fresh));
		shm_put(fresh, this);
	}
	shm_put(&st->buckets, n + 1);
}

/*
 * What a dead owner left: chains, bitmap and count are made anew from the
 * state words.  Each step may be the last one of the process that does it: seq
 * stays odd and the lock taken until all is done, and the next one begins anew.
 */
static void
put_back_undo(struct table *t, unsigned stripe)
{
	struct table_stripe *st = &t->stripes[stripe];
	uint32_t of = shm_get(&st->undo_of), i, words;
	_Atomic uint64_t *payload;

	if (of == 0)
		return;
	payload = (_Atomic uint64_t *)(entry_of(t, stripe, of - 1) + 1);
	words = (t->entry_size - sizeof(struct table_entry)) / sizeof(uint64_t);
	for (i = 0; i < words; i++)
		shm_put(&payload[i], shm_get(&st->undo[i]));
	SHM_TEST_POINT("repair: undone");
	shm_put(&st->undo_of, 0);
}

static void
table_repair(struct shm *shm, void *what, unsigned stripe)
{
	struct table *t = what;
	struct table_stripe *st = &t->stripes[stripe];
	uint32_t buckets, count = 0, n, top = shm_get(&st->top);
	struct table_entry *e;

	(void)shm;
	if (shm_get(&st->buckets) == 0 && top == 0 && (shm_get(&st->seq) & 1) == 0)
		return;
	seq_odd(st);
	put_back_undo(t, stripe);
	/* A split that was cut short had begun to use one bucket more. */
	buckets = shm_get(&st->buckets);
	for (n = 0; n <= buckets && n < t->cap; n++)
		shm_put(bucket_of(t, stripe, n), 0);
	if (buckets < BUCKETS_FIRST)
		shm_put(&st->buckets, BUCKETS_FIRST);
	SHM_TEST_POINT("repair: buckets cleared");
	shm_put(&st->low, 0);
	for (n = 0; n < top; n++) {
		e = entry_of(t, stripe, n);
		if ((shm_get(&e->state) & TABLE_USED) == 0) {
			used_clear(t, stripe, n);
			continue;
		}
		used_set(t, stripe, n);
		link_entry(t, stripe, n, entry_hash(t, e));
		count++;
		SHM_TEST_POINT("repair: linked one");
	}
	shm_put(&st->count, count);
	seq_even(st);
}

void
table_lock_stripe(struct shm *shm, struct table *t, unsigned stripe)
{
	struct lock_guard guard = { table_repair, t, stripe };

	lock_take(shm, &t->stripes[stripe].lock, &guard);
}

static struct table_place
place_of(const struct table *t, struct table_key key)
{
	uint64_t hash = hash_of(t, key.lo, key.hi);

	return (struct table_place){ key, hash, stripe_of_hash(hash) };
}

void
table_lock(struct shm *shm, struct table *t, struct table_key key, struct table_place *place)
{
	*place = place_of(t, key);
	table_lock_stripe(shm, t, place->stripe);
}

void
table_unlock(struct shm *shm, struct table *t, unsigned stripe)
{
	lock_drop(shm, &t->stripes[stripe].lock);
}

uint32_t
table_lookup(struct table *t, const struct table_place *place)
{
	uint32_t n = chain_find(t, place);

	return n != TABLE_NONE ? index_of(place->stripe, n) : TABLE_NONE;
}

/* The lowest free number, or cap. */
static uint32_t
lowest_free(struct table *t, unsigned stripe)
{
	struct table_stripe *st = &t->stripes[stripe];
	uint32_t word, words = (t->cap + 63) / 64, n;
	uint64_t used;

	for (word = shm_get(&st->low); word < words; word++) {
		used = shm_get(used_word_of(t, stripe, word));
		if (used != UINT64_MAX)
			break;
	}
	shm_put(&st->low, word);
	if (word >= words)
		return t->cap;
	n = word * 64 + (uint32_t)__builtin_ctzll(~used);
	return n < t->cap ? n : t->cap;
}

uint32_t
table_reserve(struct table *t, const struct table_place *place)
{
	struct table_stripe *st = &t->stripes[place->stripe];
	uint32_t n = lowest_free(t, place->stripe);
	struct table_entry *e;

	if (n == t->cap)
		return TABLE_NONE;
	/* Above all entries that exist, always: the repair looks no further. */
	if (n >= shm_get(&st->top))
		shm_put(&st->top, n + 1);
	e = entry_of(t, place->stripe, n);
	must((shm_get(&e->state) & TABLE_USED) == 0);
	seq_odd(st);
	shm_put(&e->key_lo, place->key.lo);
	shm_put(&e->key_hi, place->key.hi);
	return index_of(place->stripe, n);
}

void
table_publish(struct table *t, const struct table_place *place, uint32_t index, uint32_t state)
{
	struct table_stripe *st = &t->stripes[place->stripe];
	struct table_entry *e = table_entry(t, index);
	uint32_t n = number_of(index), buckets = shm_get(&st->buckets);

	must((state & TABLE_USED) != 0);
	SHM_TEST_POINT("table: before publish");
	shm_put(&e->state, ((shm_get(&e->state) >> 32) + 1) << 32 | state);
	SHM_TEST_POINT("table: published");
	if (buckets == 0)
		shm_put(&st->buckets, BUCKETS_FIRST);
	else if (shm_get(&st->count) >= buckets && buckets < t->cap)
		split_bucket(t, place->stripe);
	link_entry(t, place->stripe, n, place->hash);
	SHM_TEST_POINT("table: linked");
	used_set(t, place->stripe, n);
	shm_put(&st->count, shm_get(&st->count) + 1);
	seq_even(st);
}

void
table_delete(struct table *t, uint32_t index)
{
	unsigned stripe = table_stripe_of(index);
	struct table_stripe *st = &t->stripes[stripe];
	struct table_entry *e = table_entry(t, index);
	uint32_t n = number_of(index);

	seq_odd(st);
	/* Only the generation stays: whoever still knows the entry by it finds it stale. */
	shm_put(&e->state, shm_get(&e->state) >> 32 << 32);
	SHM_TEST_POINT("table: deleted");
	unlink_entry(t, stripe, n);
	SHM_TEST_POINT("table: unlinked");
	used_clear(t, stripe, n);
	shm_put(&st->count, shm_get(&st->count) - 1);
	seq_even(st);
}

void
table_change_begin(struct table *t, uint32_t index)
{
	struct table_stripe *st = &t->stripes[table_stripe_of(index)];
	_Atomic uint64_t *payload =
	    (_Atomic uint64_t *)((struct table_entry *)table_entry(t, index) + 1);
	uint32_t i, words = (t->entry_size - sizeof(struct table_entry)) / sizeof(uint64_t);

	must(words <= TABLE_UNDO_WORDS);
	for (i = 0; i < words; i++)
		shm_put(&st->undo[i], shm_get(&payload[i]));
	SHM_TEST_POINT("table: undo saved");
	shm_put(&st->undo_of, number_of(index) + 1);
	seq_odd(st);
}

void
table_change_end(struct table *t, uint32_t index)
{
	struct table_stripe *st = &t->stripes[table_stripe_of(index)];

	SHM_TEST_POINT("table: before commit");
	shm_put(&st->undo_of, 0);	/* the commit */
	SHM_TEST_POINT("table: committed");
	seq_even(st);
}

uint32_t
table_read(struct shm *shm, struct table *t, struct table_key key,
    void (*copy)(const struct table_entry *entry, void *arg), void *arg)
{
	struct table_place place = place_of(t, key);
	const struct table_stripe *st = &t->stripes[place.stripe];
	uint32_t n;
	uint64_t seq;
	int i;

	for (i = 0; i < READ_TRIES; i++) {
		seq = shm_get(&st->seq);
		if (seq & 1)
			continue;
		n = chain_find(t, &place);
		if (n != TABLE_NONE)
			copy(entry_of(t, place.stripe, n), arg);
		if (shm_get(&st->seq) == seq)
			return n != TABLE_NONE ? index_of(place.stripe, n) : TABLE_NONE;
	}
	table_lock_stripe(shm, t, place.stripe);
	n = table_lookup(t, &place);
	if (n != TABLE_NONE)
		copy(table_entry(t, n), arg);
	table_unlock(shm, t, place.stripe);
	return n;
}

unsigned
table_block_used(const struct table *t, uint32_t index)
{
	uint32_t n = number_of(index);

	return (unsigned)(shm_get(used_word_of(t, table_stripe_of(index), n / 64)) >> n % 64) &
	    ((1u << TABLE_BLOCK) - 1);
}

uint32_t
table_end(const struct table *t)
{
	uint32_t top = 0, of;
	unsigned s;

	for (s = 0; s < TABLE_STRIPES; s++) {
		of = shm_get(&t->stripes[s].top);
		if (of > top)
			top = of;
	}
	return (top + TABLE_BLOCK - 1) / TABLE_BLOCK * TABLE_BLOCK * TABLE_STRIPES;
}

uint32_t
table_count(const struct table *t)
{
	uint32_t sum = 0;
	unsigned s;

	for (s = 0; s < TABLE_STRIPES; s++)
		sum += shm_get(&t->stripes[s].count);
	return sum;
}

void
table_break(struct shm *shm, struct table *t, unsigned slot, uint16_t generation)
{
	unsigned s;

	for (s = 0; s < TABLE_STRIPES; s++) {
		struct lock_guard guard = { table_repair, t, s };

		lock_break(shm, &t->stripes[s].lock, slot, generation, &guard);
	}
}
