/*
 * table.h: the hash table beneath directory, pending, topics, holdings and buckets:
 * 128-bit keys, entries of fixed size, known by index.  Internal to shm/.
 *
 *	who writes	any process, under the lock of the key's stripe; an entry's state word
 *			also by compare-and-swap without it (pending), its payload as its owner
 *			says
 *	who reads	any process: under the lock, or without it between two equal even `seq`
 *			(table_read)
 *	lock		one per stripe, 64 stripes
 *	fixed		capacity, entry size, where things are
 *	writer dies	an entry exists exactly when the low byte of its state word is not 0,
 *			which is one store; the rest (chains, bitmap, counts) is made anew from
 *			the state words by the repair. A change of several payload words is
 *			preceded by a copy in the stripe's `undo`, which the repair puts back:
 *			so each operation happened or did not.
 *
 * Memory is touched as it is used.  Entries, bucket words and bitmap words
 * of the stripes are interleaved in blocks of whole cache lines, so that the
 * first entries of all stripes lie on the first pages:
 *
 *	entries	| stripe 0: 0-15 | stripe 1: 0-15 | ... | stripe 63: 0-15 | stripe 0: 16-31 | ...
 *
 * Entries are taken from the low end, and the number of buckets in use
 * follows the number of entries one by one (linear hashing: no pause to
 * rehash, no untouched memory touched early).
 *
 * Orders: every shared word is put (release) and got (acquire).  A reader
 * that saw a word put inside a change therefore sees that change's odd seq, or
 * a later one, when it looks at seq again.
 */
#ifndef BELAY_SHM_TABLE_H
#define BELAY_SHM_TABLE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/lock.h"

#define TABLE_STRIPES	64
#define TABLE_BLOCK	16		/* entries, or bucket words, that lie together */
#define TABLE_NONE	UINT32_MAX
#define TABLE_USED	0xffu		/* of the state word: not 0 = the entry exists */
#define TABLE_UNDO_WORDS 8

struct table_key {
	uint64_t lo, hi;
};

/* Every entry begins with this. */
struct table_entry {
	/* Generation << 32 | the owner's 24 bits << 8 | the owner's byte, 0 = free. */
	_Atomic uint64_t state;
	_Atomic uint64_t key_lo, key_hi;
	_Atomic uint32_t next;		/* 1 + number within the stripe; 0 = end of the chain */
	uint32_t unused;
};

struct table_stripe {
	struct shm_lock lock;
	_Atomic uint32_t count;		/* entries in use */
	_Atomic uint64_t seq;		/* odd: chains and payload are being changed */
	_Atomic uint32_t buckets;	/* in use; 0 until the first entry */
	_Atomic uint32_t top;		/* entries at and above this were never used */
	_Atomic uint32_t low;		/* no free entry below this word of the bitmap */
	_Atomic uint32_t undo_of;	/* 1 + number of the entry saved in undo; 0 = none */
	_Atomic uint64_t undo[TABLE_UNDO_WORDS];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct table_entry) == 32, "layout");
_Static_assert(
    offsetof(struct table_stripe, undo) == 32 && sizeof(struct table_stripe) == 128, "layout");

/* Of one process: where the table is. */
struct table {
	struct table_stripe *stripes;
	_Atomic uint64_t *used;		/* bitmap */
	_Atomic uint32_t *buckets;
	uint8_t *entries;
	uint32_t entry_size;
	uint32_t cap;			/* entries of each stripe */
	uint64_t seed[2];
};

/*
 * Bytes for a table that holds `entries` entries (somewhat more fit, since stripes do not fill
 * evenly).
 */
size_t table_size(uint32_t entries, uint32_t entry_size);
void table_attach(struct table *t, uint8_t *at, uint32_t entries, uint32_t entry_size,
    const uint8_t hash_key[16]);

struct table_place {			/* where a key belongs; made by table_lock() */
	struct table_key key;
	uint64_t hash;
	unsigned stripe;
};

/*
 * Takes the lock of the key's stripe, or of a stripe; what a dead owner left is repaired by
 * then.
 */
void table_lock(struct shm *shm, struct table *t, struct table_key key, struct table_place *place);
void table_lock_stripe(struct shm *shm, struct table *t, unsigned stripe);
void table_unlock(struct shm *shm, struct table *t, unsigned stripe);

/* The rest, except where said, with the stripe's lock held.  Indexes are of the whole table. */
/* TABLE_NONE when it is not there. */
uint32_t table_lookup(struct table *t, const struct table_place *place);
/*
 * A new entry: table_reserve() chooses a free one (TABLE_NONE: full), the caller fills the payload,
 * table_publish() makes it exist with these low 32 bits of state.
 */
uint32_t table_reserve(struct table *t, const struct table_place *place);
void table_publish(
    struct table *t, const struct table_place *place, uint32_t index, uint32_t state);
void table_delete(struct table *t, uint32_t index);
/*
 * A change of payload words that must be seen all or none: begin saves them (at most
 * TABLE_UNDO_WORDS), end commits.
 */
void table_change_begin(struct table *t, uint32_t index);
void table_change_end(struct table *t, uint32_t index);

/*
 * Without a lock: finds the key and calls copy() on its entry, perhaps several times: the last
 * call counts, and what it got was there at one moment. Returns the index or TABLE_NONE. Takes
 * the lock when it is changed too often.
 */
uint32_t table_read(struct shm *shm, struct table *t, struct table_key key,
    void (*copy)(const struct table_entry *entry, void *arg), void *arg);

void *table_entry(const struct table *t, uint32_t index);
unsigned table_stripe_of(uint32_t index);
/* The nth entry of a stripe, used or not; TABLE_NONE: none from here on was ever used. */
uint32_t table_nth(const struct table *t, unsigned stripe, uint32_t n);
/*
 * Without a lock: the used ones of the block of TABLE_BLOCK entries that begins at index, a bit
 * each; a hint.
 */
unsigned table_block_used(const struct table *t, uint32_t index);
uint32_t table_end(const struct table *t);	/* no entry at or above this index was ever used */
uint32_t table_count(const struct table *t);
void table_break(struct shm *shm, struct table *t, unsigned slot, uint16_t generation);

#endif
