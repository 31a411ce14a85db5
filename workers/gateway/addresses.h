/*
 * addresses.h: how many connections each client address has, and how fast clients come and ask.
 *
 * Counts stand in a table that grows with the addresses connected; rates in tables of a fixed size,
 * in which newcomers push out those that were seen longest ago.  Both are this process's alone.
 *
 * One address is an IPv4 address, or 64 bits of an IPv6 address: that much everyone has.
 */
#ifndef BELAY_GATEWAY_ADDRESSES_H
#define BELAY_GATEWAY_ADDRESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct address_count;
struct rate;

struct addresses {
	struct address_count *v;	/* open addressing; a power of two, or NULL */
	uint32_t cap, used;
	uint8_t key[16];		/* of the hash */
};

void addresses_init(struct addresses *a);
void addresses_fini(struct addresses *a);
/* ip: v4 mapped into v6.  One more connection of it; the number it has now. */
uint32_t addresses_add(struct addresses *a, const uint8_t ip[16]);
/* One less.  It must have been added. */
void addresses_remove(struct addresses *a, const uint8_t ip[16]);
uint32_t addresses_count(const struct addresses *a, const uint8_t ip[16]);

struct rates {
	struct rate *v;			/* made when first needed */
	uint8_t key[16];
};

void rates_init(struct rates *r);
void rates_fini(struct rates *r);
/*
 * One more of who (any bytes).  Each has `burst` at first and gets rate_per_s more each second.
 * false: it has none left; *retry_after_ms says when there will be one.
 */
bool rates_take(struct rates *r, struct slice who, double rate_per_s, double burst, int64_t mono_ms,
    int64_t *retry_after_ms);
bool rates_take_address(struct rates *r, const uint8_t ip[16], double rate_per_s, double burst,
    int64_t mono_ms, int64_t *retry_after_ms);

#endif
