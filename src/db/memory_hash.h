/*
 * memory_hash.h: a hash table of nodes that live inside the rows they find.
 *
 * It grows and shrinks by one bucket at a time (linear hashing, Litwin 1980):
 * no insertion ever has to wait for all rows to be dealt out anew.
 */
#ifndef BELAY_DB_MEMORY_HASH_H
#define BELAY_DB_MEMORY_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct memory_hash_node {
	struct memory_hash_node *next;
	uint64_t hash;
};

/* All zero: an empty table. */
struct memory_hash {
	struct memory_hash_node **bucket;	/* owned */
	size_t count;				/* nodes */
	size_t used, cap;			/* buckets */
	size_t low;				/* the power of two at or below used */
};

/*
 * Of a text and a number beside it.  The seed is random and never told: peers choose ids, and must
 * not be able to choose ones that share a bucket.
 */
uint64_t memory_hash(const uint64_t seed[2], uint64_t beside, struct slice text);

void memory_hash_put(struct memory_hash *t, struct memory_hash_node *node, uint64_t hash);
/* The node must be in the table. */
void memory_hash_remove(struct memory_hash *t, struct memory_hash_node *node);
/* Each node of that hash in turn, NULL at the end: the caller compares the keys. */
struct memory_hash_node *memory_hash_first(const struct memory_hash *t, uint64_t hash);
struct memory_hash_node *memory_hash_next(const struct memory_hash_node *node);
/* Frees the buckets; the nodes are their rows'. */
void memory_hash_fini(struct memory_hash *t);

#endif
