/*
 * addresses.c: counts of connections by client address, and token buckets by address or user.  One
 * gateway process; knows neither connections nor settings.
 */
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/must.h"
#include "gateway/addresses.h"

#define FIRST_CAP	64
#define RATE_WAYS	8		/* entries among which the oldest gives way */
#define RATE_SETS	8192u

struct address_count {
	uint64_t address;		/* 0: free */
	uint32_t count;
};

struct rate {
	uint64_t who;			/* a keyed hash; 0: free */
	uint32_t seen_ms;
	float tokens;
};

/* IPv4 lies where no IPv6 network is.  Never 0 but for ::/64, which no client comes from. */
static uint64_t
address_key(const uint8_t ip[16])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	uint64_t key = 0;
	const uint8_t *p = memcmp(ip, mapped, sizeof(mapped)) == 0 ? ip + 8 : ip;

	for (int i = 0; i < 8; i++)
		key = key << 8 | p[i];
	return key;
}

void
addresses_init(struct addresses *a)
{
	memset(a, 0, sizeof(*a));
	digest_random(a->key, sizeof(a->key));
}

void
addresses_fini(struct addresses *a)
{
	free(a->v);
	a->v = NULL;
	a->cap = a->used = 0;
}

static uint32_t
home_of(const struct addresses *a, uint64_t address)
{
	return (uint32_t)digest_sip64(a->key, &address, sizeof(address)) & (a->cap - 1);
}

/* Where it stands, or the free place where it would. */
static uint32_t
place_of(const struct addresses *a, uint64_t address)
{
	uint32_t i = home_of(a, address);

	while (a->v[i].address != 0 && a->v[i].address != address)
		i = (i + 1) & (a->cap - 1);
	return i;
}

static void
grow(struct addresses *a)
{
	struct addresses bigger = *a;

	bigger.cap = a->cap == 0 ? FIRST_CAP : a->cap * 2;
	bigger.v = must_alloc(bigger.cap * sizeof(*bigger.v));
	for (uint32_t i = 0; i < a->cap; i++)
		if (a->v[i].address != 0)
			bigger.v[place_of(&bigger, a->v[i].address)] = a->v[i];
	free(a->v);
	*a = bigger;
}

uint32_t
addresses_add(struct addresses *a, const uint8_t ip[16])
{
	uint64_t address = address_key(ip);
	struct address_count *at;

	if (address == 0)
		return 0;
	if (a->used >= a->cap / 4 * 3)
		grow(a);
	at = &a->v[place_of(a, address)];
	if (at->address == 0) {
		at->address = address;
		a->used++;
	}
	return ++at->count;
}

/* The place becomes free: what stands behind it moves up, if its home allows. */
static void
close_gap(struct addresses *a, uint32_t gap)
{
	uint32_t mask = a->cap - 1;

	for (uint32_t i = (gap + 1) & mask; a->v[i].address != 0; i = (i + 1) & mask) {
		uint32_t home = home_of(a, a->v[i].address);

		if (((i - home) & mask) < ((i - gap) & mask))
			continue;
		a->v[gap] = a->v[i];
		gap = i;
	}
	memset(&a->v[gap], 0, sizeof(a->v[gap]));
}

void
addresses_remove(struct addresses *a, const uint8_t ip[16])
{
	uint64_t address = address_key(ip);
	uint32_t i;

	if (address == 0)
		return;
	must(a->cap > 0);
	i = place_of(a, address);
	must(a->v[i].count > 0);
	if (--a->v[i].count > 0)
		return;
	close_gap(a, i);
	a->used--;
}

uint32_t
addresses_count(const struct addresses *a, const uint8_t ip[16])
{
	uint64_t address = address_key(ip);

	return address == 0 || a->cap == 0 ? 0 : a->v[place_of(a, address)].count;
}

/* --- rates */

void
rates_init(struct rates *r)
{
	r->v = NULL;
	digest_random(r->key, sizeof(r->key));
}

void
rates_fini(struct rates *r)
{
	free(r->v);
	r->v = NULL;
}

bool
rates_take(struct rates *r, struct slice who, double rate_per_s, double burst, int64_t mono_ms,
    int64_t *retry_after_ms)
{
	uint64_t hash = digest_sip64(r->key, who.p, who.len) | 1;
	uint32_t now = (uint32_t)mono_ms;
	struct rate *set, *at = NULL;
	double tokens;

	if (r->v == NULL)
		r->v = must_alloc(RATE_SETS * RATE_WAYS * sizeof(*r->v));
	set = &r->v[(hash >> 32) % RATE_SETS * RATE_WAYS];
	for (unsigned i = 0; i < RATE_WAYS && at == NULL; i++)
		if (set[i].who == hash)
			at = &set[i];
	if (at == NULL) {
		at = set;
		for (unsigned i = 0; i < RATE_WAYS && at->who != 0; i++)
			if (set[i].who == 0 || now - set[i].seen_ms > now - at->seen_ms)
				at = &set[i];
		*at = (struct rate){ .who = hash, .seen_ms = now, .tokens = (float)burst };
	}
	tokens = (double)at->tokens + rate_per_s * (now - at->seen_ms) / 1000.0;
	if (tokens > burst)
		tokens = burst;
	at->seen_ms = now;
	at->tokens = (float)(tokens >= 1.0 ? tokens - 1.0 : tokens);
	if (tokens >= 1.0)
		return true;
	*retry_after_ms = 1 + (int64_t)((1.0 - tokens) * 1000.0 / rate_per_s);
	return false;
}

bool
rates_take_address(struct rates *r, const uint8_t ip[16], double rate_per_s, double burst,
    int64_t mono_ms, int64_t *retry_after_ms)
{
	uint64_t address = address_key(ip);

	return address == 0 || rates_take(r, slice_bytes(&address, sizeof(address)), rate_per_s,
	    burst, mono_ms, retry_after_ms);
}
