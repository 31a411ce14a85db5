/*
 * Tests of workers/keys/schedule.c: how long an answer is good for, and the pauses after failures.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "keys/schedule.h"

#define STANDARD 600000			/* what the settings say */

static void
test_lifetime(void **state)
{
	static const struct {
		const char *cache_control;
		int64_t age_s, ms;
	} rows[] = {
		{ "", 0, STANDARD },
		{ "max-age=3600", 0, 3600000 },
		{ "public, max-age=3600, must-revalidate", 0, 3600000 },
		{ "Public,MAX-AGE=3600", 0, 3600000 },
		{ "\t max-age=3600\t ,", 0, 3600000 },
		{ ",,, max-age=3600", 0, 3600000 },
		{ "max-age=\"3600\"", 0, 3600000 },
		/* limits */
		{ "max-age=0", 0, 60000 },
		{ "max-age=59", 0, 60000 },
		{ "max-age=60", 0, 60000 },
		{ "max-age=61", 0, 61000 },
		{ "max-age=86399", 0, 86399000 },
		{ "max-age=86400", 0, 86400000 },
		{ "max-age=31536000", 0, 86400000 },
		{ "max-age=99999999999999999999999999999999", 0, 86400000 },
		/* what a cache on the way has used up of it */
		{ "max-age=3600", 600, 3000000 },
		{ "max-age=3600", 3600, 60000 },
		{ "max-age=3600", 999999999, 60000 },
		{ "max-age=3600", -5, 3600000 },
		{ "", 600, STANDARD },
		/* the shortest counts */
		{ "max-age=3600, max-age=120", 0, 120000 },
		{ "max-age=120, max-age=3600", 0, 120000 },
		/* none that is one */
		{ "max-age", 0, STANDARD },
		{ "max-age=", 0, STANDARD },
		{ "max-age=\"\"", 0, STANDARD },
		{ "max-age=-1", 0, STANDARD },
		{ "max-age=1h", 0, STANDARD },
		{ "max-age=36 00", 0, STANDARD },
		{ "max-age=\"3600", 0, STANDARD },
		{ "max-age =3600", 0, STANDARD },
		{ "s-maxage=3600", 0, STANDARD },
		{ "xmax-age=3600", 0, STANDARD },
		{ "no-store, no-cache", 0, STANDARD },
		/* inside of another's quotes */
		{ "private=\"a, max-age=100\", max-age=3600", 0, 3600000 },
		{ "private=\"a\\\", max-age=100\"", 0, STANDARD },
		{ "private=\"a, max-age=100", 0, STANDARD },
		{ "private=\"a\\", 0, STANDARD },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		/* Exactly as long as it is, so that a sanitizer sees who reads on. */
		size_t len = strlen(rows[i].cache_control);
		char *copy = malloc(len > 0 ? len : 1);
		int64_t ms;

		assert_non_null(copy);
		memcpy(copy, rows[i].cache_control, len);
		ms = schedule_lifetime_ms((struct slice){ copy, len }, rows[i].age_s, STANDARD);
		if (ms != rows[i].ms)
			print_error("%s\n", rows[i].cache_control);
		assert_int_equal(ms, rows[i].ms);
		free(copy);
	}
	assert_int_equal(schedule_lifetime_ms(SLICE_NONE, 0, 1000), 1000);
	assert_int_equal(schedule_lifetime_ms(SLICE("max-age=1"), 0, 1000), 60000);
}

static void
test_back_off(void **state)
{
	static const int64_t expected[] = { 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000 };

	(void)state;
	for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		assert_int_equal(schedule_back_off_ms(i + 1, 0), expected[i]);
		for (uint32_t random = 0; random < 5000; random += 37) {
			assert_true(schedule_back_off_ms(i + 1, random) >= expected[i]);
			assert_true(schedule_back_off_ms(i + 1, random) <= expected[i] * 5 / 4);
		}
	}
	assert_int_equal(schedule_back_off_ms(UINT32_MAX, 0), 60000);
	assert_true(schedule_back_off_ms(1, 1023) > schedule_back_off_ms(1, 0));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lifetime),
		cmocka_unit_test(test_back_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
