/*
 * db_links.c: which events and commands are a device's: many of several devices in turn, listed from any place in both
 * directions; after a rollback, retention, another start, and of a file that an older version made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/must.h"
#include "db/db.h"
#include "db/migration.h"

#define EVENTS		500
#define DEVICES		3
#define SILENT		DEVICES		/* the device that nothing happens to */

static char folder[64], path[96], url[112];
static struct db_device devices[DEVICES + 1];

static void
remove_files(void)
{
	static const char *const ends[] = { "", "-wal", "-shm" };
	char name[128];

	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%s%s", path, ends[i]);
		(void)unlink(name);
	}
}

static struct db *
open_db(unsigned flags)
{
	char err[256];
	struct db *db = db_open(url, flags, err, sizeof(err));

	if (db == NULL)
		fail_msg("%s", err);
	return db;
}

/* Event n is that of device n % DEVICES, but for some that are the first one's. */
static unsigned
whose(unsigned n)
{
	return n % 7 == 0 ? 0 : n % DEVICES;
}

static void
add_events(struct db *db, unsigned from, unsigned to)
{
	for (unsigned n = from; n < to; n++) {
		struct db_event e = {
			.tenant_pk = devices[0].tenant_pk, .device_pk = devices[whose(n)].pk, .at = n + 1, .received_at = n + 1,
			.event = SLICE("x")
		};

		uuid_new(e.id);
		assert_int_equal(DB(db, event_insert, &e, 1), DB_OK);
		assert_int_equal(e.seq, n + 1);
	}
}

static void
add_commands(struct db *db, unsigned from, unsigned to)
{
	for (unsigned n = from; n < to; n++) {
		struct db_command c = {
			.device_pk = devices[whose(n)].pk, .status = COMMAND_EXECUTED, .created_at = n + 1, .finished_at = n + 1,
			.command = SLICE("x")
		};

		uuid_new(c.id);
		assert_int_equal(DB(db, command_insert, &c), DB_OK);
		assert_int_equal(c.number, n + 1);
	}
}

static void
add_devices(struct db *db)
{
	for (unsigned i = 0; i <= DEVICES; i++) {
		uint8_t hash[SHA256_LEN] = { (uint8_t)(i + 1) };
		char id[2] = { (char)('a' + i), '\0' };

		devices[i] = (struct db_device){
			.tenant = SLICE("t"), .id = slice_of(id), .owner = SLICE("o"), .audience = SLICE("A"), .created_at = 1,
			.type = SLICE("lock"), .name = SLICE("n"), .tags_json = SLICE("[]"), .metadata_json = SLICE("{}"),
			.settings_json = SLICE("{}")
		};
		assert_int_equal(DB(db, device_insert, &devices[i], hash), DB_OK);
	}
}

static struct db *
filled(void)
{
	struct db *db;

	remove_files();
	db = open_db(0);
	assert_int_equal(DB(db, begin), DB_OK);
	add_devices(db);
	add_events(db, 0, EVENTS / 2);
	add_commands(db, 0, EVENTS / 2);
	assert_int_equal(DB(db, commit), DB_OK);
	assert_int_equal(DB(db, begin), DB_OK);
	add_events(db, EVENTS / 2, EVENTS);
	add_commands(db, EVENTS / 2, EVENTS);
	assert_int_equal(DB(db, commit), DB_OK);
	return db;
}

/* What of device d is to be listed next behind `behind`, of those numbered from low to high; 0: none. */
static int64_t
expected(unsigned d, int64_t behind, bool up, int64_t low, int64_t high)
{
	for (int64_t n = up ? behind + 1 : behind - 1; n >= low && n <= high; n += up ? 1 : -1)
		if (d < DEVICES && whose((unsigned)n - 1) == d)
			return n;
	return 0;
}

static void
check_list(struct db *db, unsigned d, int64_t behind, bool up, bool commands, int64_t low, int64_t high)
{
	struct db_event_filter f = {
		.device_pk = devices[d].pk, .ascending = up, .after_seq = up ? behind : 0, .before_seq = up ? 0 : behind
	};
	struct db_page page = { .rows = 0 };
	int64_t last = behind;

	db_page_want(&page, 20);
	if (up && last < low)
		last = low - 1;
	if (!up && last > high)
		last = high + 1;
	assert_int_equal(commands ? DB(db, command_list, f.device_pk, behind, &page) : DB(db, event_list, &f, &page), DB_OK);
	for (unsigned i = 0; i < page.count; i++) {
		int64_t next = expected(d, last, up, low, high);

		last = commands ? ((struct db_command *)page.row)[i].number : ((struct db_event *)page.row)[i].seq;
		assert_int_equal(last, next);
	}
	if (page.count < 20)
		assert_int_equal(expected(d, last, up, low, high), 0);
	db_page_fini(&page);
}

/* From each place, both ways, of each device. */
static void
check_lists(struct db *db, int64_t low, int64_t high)
{
	for (unsigned d = 0; d <= DEVICES; d++)
		for (int64_t behind = 1; behind <= high + 2; behind += 3) {
			check_list(db, d, behind, true, false, low, high);
			check_list(db, d, behind, false, false, low, high);
			check_list(db, d, behind, false, true, low, high);
		}
}

static void
close_both(struct db *db, struct db *reader)
{
	db_close(&reader);
	db_close(&db);
}

static void
lists_from_any_place(void **state)
{
	struct db *db = filled(), *reader = open_db(DB_READER);

	(void)state;
	check_lists(db, 1, EVENTS);
	check_lists(reader, 1, EVENTS);
	close_both(db, reader);
	db = open_db(0);
	check_lists(db, 1, EVENTS);
	assert_int_equal(DB(db, begin), DB_OK);
	add_events(db, EVENTS, EVENTS + 60);
	add_commands(db, EVENTS, EVENTS + 60);
	check_lists(db, 1, EVENTS + 60);
	assert_int_equal(DB(db, commit), DB_OK);
	reader = open_db(DB_READER);
	check_lists(reader, 1, EVENTS + 60);
	close_both(db, reader);
}

/* All of a user's devices as one list. */
static void
lists_of_a_user(void **state)
{
	struct db *db = filled();
	struct db_event_filter f = { .scope = { .tenant_pk = devices[0].tenant_pk, .user = SLICE("o"), .now = 1 } };
	struct db_page page = { .rows = 0 };

	(void)state;
	for (int up = 0; up < 2; up++) {
		f.ascending = up == 1;
		db_page_want(&page, EVENTS + 1);
		assert_int_equal(DB(db, event_list, &f, &page), DB_OK);
		assert_int_equal(page.count, EVENTS);
		for (unsigned i = 0; i < EVENTS; i++)
			assert_int_equal(((struct db_event *)page.row)[i].seq, up == 1 ? i + 1 : EVENTS - i);
	}
	db_page_fini(&page);
	db_close(&db);
}

static void
forgets_what_was_rolled_back(void **state)
{
	struct db *db = filled(), *reader = open_db(DB_READER);

	(void)state;
	assert_int_equal(DB(db, begin), DB_OK);
	add_events(db, EVENTS, EVENTS + 40);
	add_commands(db, EVENTS, EVENTS + 40);
	assert_int_equal(DB(db, rollback), DB_OK);
	check_lists(db, 1, EVENTS);
	/* The same numbers again. */
	assert_int_equal(DB(db, begin), DB_OK);
	add_events(db, EVENTS, EVENTS + 9);
	add_commands(db, EVENTS, EVENTS + 9);
	assert_int_equal(DB(db, commit), DB_OK);
	check_lists(db, 1, EVENTS + 9);
	check_lists(reader, 1, EVENTS + 9);
	close_both(db, reader);
}

static int64_t
number(const char *sql)
{
	sqlite3 *raw;
	sqlite3_stmt *st;
	int64_t n;

	assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(raw, sql, -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(raw);
	return n;
}

static void
retain(struct db *db, int64_t keep_after)
{
	bool more = true;

	while (more) {
		assert_int_equal(DB(db, begin), DB_OK);
		assert_int_equal(db_retain(db, keep_after, keep_after, 50, &more), DB_OK);
		assert_int_equal(DB(db, commit), DB_OK);
	}
}

/* What is gone is not listed, leaves no run behind but those that name something that stays, and no number is given twice. */
static void
ends_with_what_it_names(void **state)
{
	struct db *db = filled();

	(void)state;
	retain(db, 301);
	check_lists(db, 301, EVENTS);
	assert_true(number("SELECT count(*) FROM device_events WHERE last_pk & 0xffffffffff < 301") == 0);
	assert_true(number("SELECT count(*) FROM device_commands WHERE last_pk < 301") == 0);
	retain(db, EVENTS + 1);
	check_lists(db, EVENTS + 1, EVENTS);
	assert_true(number("SELECT count(*) FROM device_events") == 0 && number("SELECT count(*) FROM device_commands") == 0);
	db_close(&db);
	db = open_db(0);
	assert_int_equal(DB(db, begin), DB_OK);
	add_events(db, EVENTS, EVENTS + 50);
	add_commands(db, EVENTS, EVENTS + 50);
	assert_int_equal(DB(db, commit), DB_OK);
	check_lists(db, EVENTS + 1, EVENTS + 50);
	assert_int_equal(DB(db, begin), DB_OK);
	assert_int_equal(DB(db, device_delete, devices[0].pk, EVENTS), DB_OK);
	assert_int_equal(DB(db, commit), DB_OK);
	retain(db, EVENTS + 1);
	assert_true(number("SELECT count(*) FROM device_tail WHERE device_pk = 1") == 0);
	assert_true(number("SELECT count(*) FROM device_tail WHERE device_pk > 1") == DEVICES - 1);
	db_close(&db);
}

/* As the version before made it, with the same rows. */
static void
brings_older_files_up_to_date(void **state)
{
	char sql[1024];
	sqlite3 *raw;
	struct db *db, *reader;

	(void)state;
	db = filled();
	db_close(&db);		/* devices[] */
	remove_files();
	assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, "PRAGMA journal_mode = WAL; PRAGMA application_id = 0x42656c79; "
	    "PRAGMA user_version = 4", NULL, NULL, NULL), SQLITE_OK);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(migrations_sqlite[i].number, i + 1);
		assert_int_equal(sqlite3_exec(raw, migrations_sqlite[i].sql, NULL, NULL, NULL), SQLITE_OK);
	}
	assert_int_equal(sqlite3_exec(raw, "INSERT INTO tenants VALUES (1, 't'); INSERT INTO event_seq VALUES (1, 500, 0); "
	    "INSERT INTO devices (tenant_pk, device_id, owner, audience, created_at, updated_at, device_type, name) VALUES "
	    "(1, 'a', 'o', x'', 1, 1, 'lock', 'A'), (1, 'b', 'o', x'', 1, 1, 'lock', 'B'), (1, 'c', 'o', x'', 1, 1, 'lock', 'C'), "
	    "(1, 'd', 'o', x'', 1, 1, 'lock', 'D')", NULL, NULL, NULL), SQLITE_OK);
	for (unsigned n = 0; n < EVENTS; n++) {
		snprintf(sql, sizeof(sql), "INSERT INTO events VALUES ((1 << 40) + %u, x'', %u, 1, %u, %u, 'x', '', '', 0, '', 0, "
		    "'', x''); INSERT INTO commands VALUES (%u, CAST('%016u' AS BLOB), %u, 3, 0, 2, 0, 1, 1, %u, 1, 1, %u, "
		    "1, 0, 0, 0, 0, 'x', 'o', '{}', '', '', '', '')",
		    n + 1, 1 + whose(n), n + 1, n + 1, n + 1, n + 1, 1 + whose(n), n + 1, n + 1);
		assert_int_equal(sqlite3_exec(raw, sql, NULL, NULL, NULL), SQLITE_OK);
	}
	assert_int_equal(sqlite3_close(raw), SQLITE_OK);
	db = open_db(0);
	check_lists(db, 1, EVENTS);
	assert_int_equal(DB(db, begin), DB_OK);
	add_events(db, EVENTS, EVENTS + 50);
	add_commands(db, EVENTS, EVENTS + 50);
	assert_int_equal(DB(db, commit), DB_OK);
	reader = open_db(DB_READER);
	check_lists(reader, 1, EVENTS + 50);
	close_both(db, reader);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_from_any_place), cmocka_unit_test(lists_of_a_user),
		cmocka_unit_test(forgets_what_was_rolled_back), cmocka_unit_test(ends_with_what_it_names),
		cmocka_unit_test(brings_older_files_up_to_date)
	};
	int failed;

	snprintf(folder, sizeof(folder), "/tmp/belay-links-XXXXXX");
	must(mkdtemp(folder) != NULL);
	snprintf(path, sizeof(path), "%s/belay.db", folder);
	snprintf(url, sizeof(url), "sqlite://%s", path);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	remove_files();
	(void)rmdir(folder);
	return failed;
}
