/*
 * Verified tokens by their hash.  Lives in the process that verifies, is
 * shared with none, and holds no token.
 */
#include <stdlib.h>
#include <string.h>

#include "auth/cache.h"
#include "base/must.h"

struct cache_entry {
	uint64_t used;			/* 0: empty */
	uint8_t hash[SHA256_LEN];
	struct identity identity;
};

void
cache_init(struct cache *cache, size_t entries)
{
	cache->sets = 1;
	while (cache->sets * CACHE_WAYS < entries)
		cache->sets *= 2;
	cache->clock = 0;
	cache->v = must_alloc(cache->sets * CACHE_WAYS * sizeof(*cache->v));
}

void
cache_fini(struct cache *cache)
{
	free(cache->v);
	memset(cache, 0, sizeof(*cache));
}

static struct cache_entry *
cache_set(struct cache *cache, const uint8_t hash[SHA256_LEN])
{
	uint64_t n;

	memcpy(&n, hash, sizeof(n));
	return &cache->v[(n & (cache->sets - 1)) * CACHE_WAYS];
}

static struct cache_entry *
cache_find(struct cache *cache, const uint8_t hash[SHA256_LEN])
{
	struct cache_entry *set = cache_set(cache, hash);

	for (size_t i = 0; i < CACHE_WAYS; i++)
		if (set[i].used != 0 && digest_equal(set[i].hash, hash, SHA256_LEN))
			return &set[i];
	return NULL;
}

const struct identity *
cache_get(struct cache *cache, const uint8_t hash[SHA256_LEN])
{
	struct cache_entry *entry = cache_find(cache, hash);

	if (entry == NULL)
		return NULL;
	entry->used = ++cache->clock;
	return &entry->identity;
}

void
cache_put(struct cache *cache, const uint8_t hash[SHA256_LEN], const struct identity *identity)
{
	struct cache_entry *set = cache_set(cache, hash), *entry = cache_find(cache, hash);

	for (size_t i = 0; entry == NULL && i < CACHE_WAYS; i++)
		if (set[i].used == 0)
			entry = &set[i];
	if (entry == NULL) {
		entry = set;
		for (size_t i = 1; i < CACHE_WAYS; i++)
			if (set[i].used < entry->used)
				entry = &set[i];
	}
	entry->used = ++cache->clock;
	memcpy(entry->hash, hash, SHA256_LEN);
	entry->identity = *identity;
}

void
cache_drop(struct cache *cache, const uint8_t hash[SHA256_LEN])
{
	struct cache_entry *entry = cache_find(cache, hash);

	if (entry != NULL)
		entry->used = 0;
}

void
cache_clear(struct cache *cache)
{
	/* Reading a page that was never written to costs no memory, writing zeros to it does. */
	for (size_t i = 0; i < cache->sets * CACHE_WAYS; i++)
		if (cache->v[i].used != 0)
			cache->v[i].used = 0;
}
