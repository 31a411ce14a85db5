/*
 * storage_keys.c: commands of many devices, whose numbers order nothing but those of one device (db_numbers.c).  All open
 * ones are found at a start and while the pending table is full, and the wall clock moves those of its run alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/must.h"
#include "storage/storage.h"
#include "storage_world.h"

#define DEVICES	50
#define EACH	26	/* commands of a device: half of them were sent */
#define RUN	7	/* of an instance, not the test's */

static struct world world;
static int64_t device_pk[DEVICES];

static struct storage *
inside(void)
{
	return storage_of(&world.w);
}

static struct db *
open_store(void)
{
	char err[256];
	struct db *db = db_open("memory:", 0, err, sizeof(err));

	if (db == NULL)
		fail_msg("%s", err);
	return db;
}

static void
add_devices(struct db *db)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		uint8_t hash[SHA256_LEN] = { (uint8_t)(i + 1) };
		char id[8];
		struct db_device d = { .tenant = SLICE("t"), .owner = SLICE("o"), .type = SLICE("lock"), .tags_json = SLICE("[]") };

		snprintf(id, sizeof(id), "d%u", i);
		d.id = slice_of(id);
		assert_int_equal(DB(db, device_insert, &d, hash), DB_OK);
		device_pk[i] = d.pk;
	}
}

static void
command_id(unsigned device, unsigned nth, uint8_t id[UUID_LEN])
{
	memset(id, 0, UUID_LEN);
	id[0] = (uint8_t)(device + 1);
	id[1] = (uint8_t)(nth + 1);
}

static bool
was_sent(unsigned nth)
{
	return nth % 2 == 0;
}

/* One device's after the other's, in turns; sent ones have no time left. */
static void
add_commands(struct db *db)
{
	int64_t now = clock_now_ms();

	for (unsigned nth = 0; nth < EACH; nth++)
		for (unsigned i = 0; i < DEVICES; i++) {
			struct db_command c = {
				.device_pk = device_pk[i], .open = true, .created_at = now - 1000, .command = SLICE("x"),
				.requested_by = SLICE("o"), .params_json = SLICE("{}"), .asker_boot = nth % 4 < 2 ? RUN : 0
			};

			command_id(i, nth, c.id);
			c.status = was_sent(nth) ? COMMAND_SENT : COMMAND_QUEUED;
			c.sent_at = was_sent(nth) ? now - 1000 : 0;
			c.timeout_ms = 1;
			c.queue_until = was_sent(nth) ? 0 : now + 3600000;
			assert_int_equal(DB(db, command_insert, &c), DB_OK);
			assert_true(c.number > 0);
		}
}

static int
set_up(void **state)
{
	char err[256];
	struct db *db;

	(void)state;
	assert_int_equal(db_arrange("memory:", (unsigned)-1, (unsigned)-1, err, sizeof(err)), 1);
	world_open(&world, "memory:", false);
	db = open_store();
	assert_int_equal(DB(db, begin), DB_OK);
	add_devices(db);
	add_commands(db);
	assert_int_equal(DB(db, commit), DB_OK);
	db_close(&db);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	world_close(&world);
	db_clear_away();
	return 0;
}

static void
forget(void *arg, const struct pending_view *v)
{
	(void)arg;
	pending_remove(world.shm, v->id);
}

/* Those with that status, of all devices. */
static unsigned
count_status(struct db *db, enum command_status status)
{
	struct db_command c = { .text = BUF_INIT };
	unsigned n = 0;

	for (unsigned i = 0; i < DEVICES; i++)
		for (unsigned nth = 0; nth < EACH; nth++) {
			command_id(i, nth, c.id);
			assert_int_equal(DB(db, command_get, c.id, &c), DB_OK);
			n += c.status == status;
		}
	db_command_fini(&c);
	return n;
}

static void
finds_all_that_are_open(void **state)
{
	unsigned ticks = 0;

	(void)state;
	world_start(&world);
	assert_int_equal(pending_count(world.shm), DEVICES * EACH / 2);
	for (unsigned i = 0; i < DEVICES; i++) {
		struct flight f = flight_of(&inside()->flights, device_pk[i]);

		assert_int_equal(f.out, EACH / 2);
		assert_int_equal(f.queued, EACH / 2);
	}
	/* As if the pending table had had no room for any. */
	pending_walk(world.shm, forget, NULL);
	assert_int_equal(pending_count(world.shm), 0);
	command_no_room(inside());
	while (inside()->roomless.any && ticks++ < 100)
		world_tick(&world);
	assert_int_equal(count_status(inside()->desk.db, COMMAND_TIMEOUT), DEVICES * EACH / 2);
	assert_int_equal(count_status(inside()->desk.db, COMMAND_QUEUED), DEVICES * EACH / 2);
	assert_false(inside()->roomless.any);
}

static void
moves_what_its_run_accepted(void **state)
{
	struct db_command c = { .text = BUF_INIT };
	struct db *db = open_store();
	int64_t until = 0;

	(void)state;
	assert_int_equal(DB(db, command_queue_moved, RUN, 5000), DB_OK);
	for (unsigned nth = 0; nth < 4; nth++) {
		command_id(3, nth, c.id);
		assert_int_equal(DB(db, command_get, c.id, &c), DB_OK);
		if (was_sent(nth))
			assert_int_equal(c.queue_until, 0);	/* it may not wait */
		else if (c.asker_boot == RUN)
			until = c.queue_until;
		else
			assert_int_equal(c.queue_until, until - 5000);
	}
	db_command_fini(&c);
	db_close(&db);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(finds_all_that_are_open, set_up, tear_down),
		cmocka_unit_test_setup_teardown(moves_what_its_run_accepted, set_up, tear_down)
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
