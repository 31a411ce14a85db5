/*
 * addresses.c: counts of connections by address, against a plain list of them, and token buckets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/addresses.h"

#define ADDRESSES 2000

static void
v4(uint8_t ip[16], uint32_t n)
{
	memset(ip, 0, 16);
	ip[10] = ip[11] = 0xff;
	ip[12] = 10;
	ip[13] = (uint8_t)(n >> 16);
	ip[14] = (uint8_t)(n >> 8);
	ip[15] = (uint8_t)n;
}

static void
test_counts(void **state)
{
	static uint32_t model[ADDRESSES];
	struct addresses a;
	uint8_t ip[16];
	uint32_t used = 0, seed = 1;

	(void)state;
	addresses_init(&a);
	v4(ip, 0);
	assert_int_equal(addresses_count(&a, ip), 0);
	for (unsigned step = 0; step < 400000; step++) {
		uint32_t n;

		seed = seed * 1664525 + 1013904223;
		n = (seed >> 8) % ADDRESSES;
		v4(ip, n);
		/* Waves: it fills, and empties again, so that gaps of all kinds are closed. */
		if ((seed >> 28) < (step / 50000 % 2 == 0 ? 10 : 5)) {
			used += model[n] == 0;
			assert_int_equal(addresses_add(&a, ip), ++model[n]);
		} else if (model[n] > 0) {
			addresses_remove(&a, ip);
			used -= --model[n] == 0;
		}
		assert_int_equal(a.used, used);
		if (step % 5000 == 0)
			for (uint32_t i = 0; i < ADDRESSES; i++) {
				v4(ip, i);
				assert_int_equal(addresses_count(&a, ip), model[i]);
			}
	}
	for (uint32_t i = 0; i < ADDRESSES; i++)
		for (v4(ip, i); model[i] > 0; model[i]--)
			addresses_remove(&a, ip);
	assert_int_equal(a.used, 0);
	addresses_fini(&a);
}

/* IPv6 counts by its first 64 bits; a client on a unix socket has no address and is not counted. */
static void
test_what_is_one_address(void **state)
{
	uint8_t a1[16] = { 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 1, [15] = 1 }, a2[16], b[16],
		none[16] = { 0 };
	struct addresses a;

	(void)state;
	memcpy(a2, a1, 16);
	a2[8] = 0xff;
	memcpy(b, a1, 16);
	b[7]++;
	addresses_init(&a);
	assert_int_equal(addresses_add(&a, a1), 1);
	assert_int_equal(addresses_add(&a, a2), 2);
	assert_int_equal(addresses_add(&a, b), 1);
	assert_int_equal(addresses_add(&a, none), 0);
	addresses_remove(&a, none);
	assert_int_equal(addresses_count(&a, none), 0);
	assert_int_equal(a.used, 2);
	addresses_fini(&a);
}

static void
test_rates(void **state)
{
	struct rates r;
	struct slice who = SLICE("t1\0u1"), other = SLICE("t1\0u2");
	int64_t now = 1000000, retry = 0;

	(void)state;
	rates_init(&r);
	for (int i = 0; i < 20; i++)
		assert_true(rates_take(&r, who, 10, 20, now, &retry));
	assert_false(rates_take(&r, who, 10, 20, now, &retry));
	assert_int_equal(retry, 101);
	assert_true(rates_take(&r, other, 10, 20, now, &retry));
	assert_false(rates_take(&r, who, 10, 20, now + 50, &retry));
	assert_true(rates_take(&r, who, 10, 20, now + retry + 50, &retry));
	assert_false(rates_take(&r, who, 10, 20, now + 102, &retry));
	/* It fills to its burst and no further. */
	for (int i = 0; i < 20; i++)
		assert_true(rates_take(&r, who, 10, 20, now + 3600000, &retry));
	assert_false(rates_take(&r, who, 10, 20, now + 3600000, &retry));
	rates_fini(&r);
}

/*
 * However many come, the table does not grow, and who keeps on asking is not forgotten among them.
 */
static void
test_rates_are_bounded(void **state)
{
	struct rates r;
	uint8_t busy[16], ip[16];
	int64_t retry;
	unsigned taken = 0;

	(void)state;
	rates_init(&r);
	v4(busy, 0xffffff);
	for (uint32_t i = 0; i < 400000; i++) {
		v4(ip, i);
		assert_true(rates_take_address(&r, ip, 1 / 60.0, 5, i / 100, &retry));
		if (i % 1000 == 0)
			taken += rates_take_address(&r, busy, 1 / 60.0, 5, i / 100, &retry);
	}
	assert_int_equal(taken, 5);
	rates_fini(&r);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts), cmocka_unit_test(test_what_is_one_address),
		cmocka_unit_test(test_rates), cmocka_unit_test(test_rates_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
