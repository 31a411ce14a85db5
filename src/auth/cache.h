/*
 * cache.h: tokens that were verified already, so that the reconnect of a
 * whole fleet of dashboards costs one hash for each token and not one
 * signature.
 *
 * A token is known by the SHA-256 of its whole text: anyone may offer texts,
 * and whoever found a second text with the hash of a known one would be let
 * in.  A keyed SipHash of 128 bits would do while its key stays secret, but
 * is no cryptographic hash, and measured no faster.  The size is fixed; the
 * entry of a set that was used longest ago makes room.
 */
#ifndef BELAY_AUTH_CACHE_H
#define BELAY_AUTH_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "auth/identity.h"
#include "base/digest.h"

#define CACHE_WAYS 8

struct cache_entry;

struct cache {
	struct cache_entry *v;		/* owned */
	size_t sets;			/* a power of two */
	uint64_t clock;			/* grows with each use */
};

/* Room for entries tokens at least; memory that is never used is never touched. */
void cache_init(struct cache *cache, size_t entries);
void cache_fini(struct cache *cache);

void cache_put(struct cache *cache, const uint8_t hash[SHA256_LEN],
    const struct identity *identity);
/*
 * NULL when it is not known.  It may have expired since: the caller looks.  Valid until the next
 * call.
 */
const struct identity *cache_get(struct cache *cache, const uint8_t hash[SHA256_LEN]);
void cache_drop(struct cache *cache, const uint8_t hash[SHA256_LEN]);
void cache_clear(struct cache *cache);

#endif
