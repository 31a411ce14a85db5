/*
 * flight.c: what devices have in flight and queued, against a plain list of commands: many devices, changes that are kept and
 * changes that are taken back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "storage/flight.h"

#define COMMANDS 400
#define DEVICES 40			/* few: they come and go */
#define ROUNDS 4000

struct model {
	int status[COMMANDS];		/* COMMAND_FRESH: not there yet */
	int64_t device[COMMANDS];
};

static uint32_t seed = 20260131;

static uint32_t
draw(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % below;
}

/* Numbers that lie together, and far from each other. */
static int64_t
device_pk(uint32_t n)
{
	return n % 2 == 0 ? 1 + (int64_t)n : (int64_t)n << 40;
}

static void
compare(const struct flights *f, const struct model *m)
{
	uint32_t held = 0;

	for (uint32_t n = 0; n < DEVICES; n++) {
		struct flight is = flight_of(f, device_pk(n));
		uint32_t queued = 0, out = 0;
		int64_t oldest = 0;

		for (int64_t i = 0; i < COMMANDS; i++) {
			if (m->device[i] != device_pk(n))
				continue;
			queued += m->status[i] == COMMAND_QUEUED;
			out += m->status[i] == COMMAND_SENT || m->status[i] == COMMAND_ACCEPTED;
			if (m->status[i] == COMMAND_QUEUED && oldest == 0)
				oldest = i + 1;
		}
		assert_int_equal(is.device_pk, device_pk(n));
		assert_int_equal(is.queued, queued);
		assert_int_equal(is.out, out);
		if (queued > 0)
			assert_true(is.oldest <= oldest);
		held += queued + out > 0;
	}
	assert_int_equal(f->count, held);
}

static void
change(struct flights *f, struct model *m)
{
	uint32_t i = draw(COMMANDS);
	struct db_command c = { .number = i + 1 };
	int was = m->status[i];

	if (was == COMMAND_FRESH)
		m->device[i] = device_pk(draw(DEVICES));
	c.device_pk = m->device[i];
	c.status = (enum command_status)draw(COMMAND_CANCELLED + 1);
	m->status[i] = (int)c.status;
	flight_move(f, &c, was);
}

/* The oldest queued one of a device is looked for, as a pump does. */
static void
find(struct flights *f, const struct model *m)
{
	int64_t pk = device_pk(draw(DEVICES));

	for (int64_t i = 0; i < COMMANDS; i++) {
		if (m->device[i] == pk && m->status[i] == COMMAND_QUEUED) {
			flight_found(f, pk, i + 1);
			assert_int_equal(flight_of(f, pk).oldest, i + 1);
			return;
		}
	}
}

static void
agrees_with_a_list(void **state)
{
	static struct model now, kept;
	struct flights f;

	(void)state;
	flights_init(&f);
	for (int i = 0; i < COMMANDS; i++)
		now.status[i] = COMMAND_FRESH;
	kept = now;
	for (int round = 0; round < ROUNDS; round++) {
		for (uint32_t n = draw(12); n > 0; n--) {
			change(&f, &now);
			if (draw(3) == 0)
				find(&f, &now);
		}
		if (draw(2) == 0) {
			flights_keep(&f);
			kept = now;
		} else {
			flights_undo(&f);
			now = kept;
		}
		compare(&f, &now);
		if (round % 500 == 499) {	/* all end, so that the table is emptied too */
			for (uint32_t i = 0; i < COMMANDS; i++) {
				struct db_command c = { .number = i + 1, .device_pk = now.device[i], .status = COMMAND_EXECUTED };

				if (now.status[i] != COMMAND_FRESH)
					flight_move(&f, &c, now.status[i]);
				now.status[i] = COMMAND_FRESH;
				now.device[i] = 0;
			}
			flights_keep(&f);
			kept = now;
			compare(&f, &now);
		}
	}
	flights_fini(&f);
}

static void
grows(void **state)
{
	struct flights f;

	(void)state;
	flights_init(&f);
	for (int64_t pk = 1; pk <= 10000; pk++) {
		struct db_command c = { .number = pk, .device_pk = pk, .status = COMMAND_SENT };

		flight_move(&f, &c, COMMAND_FRESH);
	}
	for (int64_t pk = 1; pk <= 10000; pk++)
		assert_int_equal(flight_of(&f, pk).out, 1);
	assert_int_equal(f.count, 10000);
	flights_undo(&f);
	assert_int_equal(f.count, 0);
	flights_fini(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(agrees_with_a_list), cmocka_unit_test(grows) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
