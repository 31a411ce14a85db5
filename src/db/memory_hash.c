/*
 * memory_hash.c: see memory_hash.h.  Only the storage process; a table belongs to the store that
 * holds it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "db/memory_hash.h"

#define BUCKETS_MIN 64

/* Between two and four buckets for a node: it is mostly alone, and the next one's memory not touched. */

/* Both halves of the product of two words, folded: each bit of either changes half of the result. */
static inline uint64_t
fold(uint64_t a, uint64_t b)
{
	__extension__ unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t
load(const char *p, size_t len)
{
	uint64_t v = 0;

	memcpy(&v, p, len);
	return v;
}

uint64_t
memory_hash(const uint64_t seed[2], uint64_t beside, struct slice text)
{
	const char *p = text.p;
	size_t len = text.len;
	uint64_t h = fold(seed[0] ^ beside, seed[1] ^ text.len);

	for (; len >= 16; p += 16, len -= 16)
		h = fold(h ^ load(p, 8), seed[1] ^ load(p + 8, 8));
	if (len >= 8)
		h = fold(h ^ load(p, 8), seed[1] ^ load(p + 8, len - 8));
	else if (len > 0)
		h = fold(h ^ load(p, len), seed[1]);
	return fold(h, seed[0]);
}

static inline struct memory_hash_node **
bucket_of(const struct memory_hash *t, uint64_t hash)
{
	size_t at = hash & (2 * t->low - 1);

	return &t->bucket[at < t->used ? at : hash & (t->low - 1)];
}

/* One bucket more: it takes its part of the one that is `low` before it. */
static void
grow(struct memory_hash *t)
{
	struct memory_hash_node **from, **to;

	if (t->used == t->cap) {
		t->cap = t->cap == 0 ? BUCKETS_MIN : t->cap * 2;
		t->bucket = must_realloc(t->bucket, t->cap * sizeof(*t->bucket));
	}
	if (t->used == 0) {
		memset(t->bucket, 0, t->cap * sizeof(*t->bucket));
		t->used = t->low = BUCKETS_MIN;
		return;
	}
	if (t->used == 2 * t->low)
		t->low = t->used;
	from = &t->bucket[t->used - t->low];
	to = &t->bucket[t->used];
	while (*from != NULL) {
		if (((*from)->hash & (2 * t->low - 1)) == t->used) {
			*to = *from;
			*from = (*from)->next;
			to = &(*to)->next;
		} else {
			from = &(*from)->next;
		}
	}
	*to = NULL;
	t->used++;
}

/* One bucket less: the last goes back to where it came from. */
static void
shrink(struct memory_hash *t)
{
	struct memory_hash_node **end;

	if (t->used == t->low)
		t->low /= 2;
	t->used--;
	end = &t->bucket[t->used - t->low];
	while (*end != NULL)
		end = &(*end)->next;
	*end = t->bucket[t->used];
	if (t->used <= t->cap / 4 && t->cap > BUCKETS_MIN) {
		t->cap /= 2;
		t->bucket = must_realloc(t->bucket, t->cap * sizeof(*t->bucket));
	}
}

void
memory_hash_put(struct memory_hash *t, struct memory_hash_node *node, uint64_t hash)
{
	struct memory_hash_node **b;

	while (2 * t->count >= t->used)
		grow(t);	/* twice at most */
	t->count++;
	b = bucket_of(t, hash);
	node->hash = hash;
	node->next = *b;
	*b = node;
}

void
memory_hash_remove(struct memory_hash *t, struct memory_hash_node *node)
{
	struct memory_hash_node **at = bucket_of(t, node->hash);

	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	t->count--;
	while (t->used > BUCKETS_MIN && t->count < t->used / 4)
		shrink(t);	/* four times at most: it follows at the pace of the nodes */
}

struct memory_hash_node *
memory_hash_first(const struct memory_hash *t, uint64_t hash)
{
	struct memory_hash_node *node;

	if (t->used == 0)
		return NULL;
	for (node = *bucket_of(t, hash); node != NULL && node->hash != hash; node = node->next)
		;
	return node;
}

struct memory_hash_node *
memory_hash_next(const struct memory_hash_node *node)
{
	uint64_t hash = node->hash;

	for (node = node->next; node != NULL && node->hash != hash; node = node->next)
		;
	return (struct memory_hash_node *)node;
}

void
memory_hash_fini(struct memory_hash *t)
{
	free(t->bucket);
	*t = (struct memory_hash){ NULL, 0, 0, 0, 0 };
}
