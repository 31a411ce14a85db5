/*
 * uuid.c: makes and reads UUIDs.
 *
 * Used by every process.  Ids made by one process grow: within a millisecond a 12-bit counter that
 * begins at a random place below 2048 keeps them in order; when it is used up the id borrows from
 * the next millisecond.  It grows by steps of random length, so that two ids do not tell how many
 * others were made between them.
 *
 * Owns a page of random bytes drawn in advance: ids are made by the thousand, and they are no
 * secrets.
 */
#include <sys/mman.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/must.h"
#include "base/uuid.h"

#define COUNTER_MAX 0xfff
#define STEP_MAX 0x1f
#define BACK_MAX_MS 10000	/* a clock set back by more than this is believed */

/* Of this process; a forked child goes on from its parent's, and differs in the random bits. */
static struct {
	int64_t ms;
	unsigned counter;
} last;

/*
 * On a page of its own, which a forked child finds full of zeros (MADV_WIPEONFORK): there is nothing
 * left in it then, and the child draws for itself.
 */
struct pool {
	size_t left;
	uint8_t bytes[2000];
};

static void
pool_take(uint8_t *out, size_t n)
{
	static struct pool *pool;

	if (pool == NULL) {
		pool = mmap(NULL, sizeof(*pool), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		must(pool != MAP_FAILED);
		if (madvise(pool, sizeof(*pool), MADV_WIPEONFORK) == -1)
			must_fail("madvise(MADV_WIPEONFORK)", __FILE__, __LINE__);
	}
	if (pool->left < n) {
		digest_random(pool->bytes, sizeof(pool->bytes));
		pool->left = sizeof(pool->bytes);
	}
	pool->left -= n;
	memcpy(out, pool->bytes + pool->left, n);
}

void
uuid_new(uint8_t out[UUID_LEN])
{
	int64_t ms = clock_now_ms();
	uint8_t random[10];

	pool_take(random, sizeof(random));
	if (ms > last.ms || ms < last.ms - BACK_MAX_MS) {
		last.ms = ms;
		last.counter = (random[8] << 8 | random[9]) & (COUNTER_MAX >> 1);
	} else if ((last.counter += 1 + (random[8] & STEP_MAX)) > COUNTER_MAX) {
		last.ms++;
		last.counter = (random[8] << 8 | random[9]) & (COUNTER_MAX >> 1);
	}
	for (int i = 0; i < 6; i++)
		out[i] = (uint8_t)((uint64_t)last.ms >> (40 - 8 * i));
	out[6] = (uint8_t)(0x70 | last.counter >> 8);
	out[7] = (uint8_t)last.counter;
	memcpy(out + 8, random, 8);
	out[8] = (uint8_t)(0x80 | (out[8] & 0x3f));
}

void
uuid_format(const uint8_t id[UUID_LEN], char out[UUID_TEXT_LEN + 1])
{
	static const char hex[] = "0123456789abcdef";
	char *p = out;

	for (int i = 0; i < UUID_LEN; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[id[i] >> 4];
		*p++ = hex[id[i] & 15];
	}
	*p = '\0';
}

int
uuid_parse(struct slice text, uint8_t out[UUID_LEN])
{
	static const struct { unsigned char at, bytes; } groups[] = { { 0, 4 }, { 9, 2 }, { 14, 2 },
	    { 19, 2 }, { 24, 6 } };

	if (text.len != UUID_TEXT_LEN)
		return -1;
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		struct slice group = { text.p + groups[i].at, 2u * groups[i].bytes };

		if (i > 0 && text.p[groups[i].at - 1] != '-')
			return -1;
		if (digest_hex_decode(group, out, groups[i].bytes) == -1)
			return -1;
		out += groups[i].bytes;
	}
	return 0;
}
