/*
 * block.h: a 16-byte block under a key: AES-128 (FIPS 197), one block at a time.
 *
 * Of a block that says what it is in bytes that the reader checks, nobody without the key reads anything, tells two
 * apart but by their being the same, or makes another one that is taken.  The same block always looks the same.
 */
#ifndef BELAY_BASE_BLOCK_H
#define BELAY_BASE_BLOCK_H

#include <stdint.h>

#define BLOCK_LEN 16

struct block_key;

/* Dies when there is no AES.  To be freed. */
struct block_key *block_key_new(const uint8_t key[BLOCK_LEN]);
void block_key_free(struct block_key **k);
/* in and out may be the same. */
void block_hide(struct block_key *k, const uint8_t in[BLOCK_LEN], uint8_t out[BLOCK_LEN]);
void block_show(struct block_key *k, const uint8_t in[BLOCK_LEN], uint8_t out[BLOCK_LEN]);

#endif
