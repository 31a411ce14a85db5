/*
 * db_usage.c: the bytes of each tenant that the store keeps are what its rows have, after random changes, rollbacks, ends of the
 * process in the middle, and while what was there before is still being counted.
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

#define TENANTS		3
#define DAY_MS		(24 * 3600 * INT64_C(1000))

static char folder[64], path[96], url[112];
static struct db *db;
static sqlite3 *other;			/* looks at what was committed */
static uint64_t seed;
static int64_t now, made, devices;	/* devices: the highest number of one */
static bool kept;
static unsigned commands;

static uint64_t
below(uint64_t n)
{
	seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (seed >> 33) % n;
}

static struct slice
text(void)
{
	static const char letters[] = "äöü0123456789abcdefghijklmnopqrstuvwxyz";
	static char long_text[6000];

	memset(long_text, 'x', sizeof(long_text));
	return below(20) == 0 ? slice_bytes(long_text, below(sizeof(long_text))) : slice_bytes(letters, below(sizeof(letters)));
}

static const char *
tenant_name(uint64_t i)
{
	static const char *const names[TENANTS] = { "t1", "t2", "tenant three" };

	return names[i];
}

static void
open_store(void)
{
	char err[256];

	db = db_open(url, 0, err, sizeof(err));
	if (db == NULL)
		fail_msg("%s", err);
}

/* Counted otherwise than the store does. */
static int64_t
truth(const char *tenant)
{
#define L(column) "length(CAST(" column " AS BLOB))"
	static const char sql[] =
	    "WITH d AS (SELECT * FROM devices WHERE tenant_pk = (SELECT tenant_pk FROM tenants WHERE name = ?1)) SELECT "
	    "coalesce((SELECT sum(100+" L("device_id") "+" L("owner") "+" L("audience") "+" L("device_type") "+" L("name") "+"
	    L("state_json") "+" L("tags_json") "+" L("metadata_json") "+" L("settings_json") ") FROM d WHERE deleted_at = 0), 0)"
	    "+coalesce((SELECT sum(100+" L("command") "+" L("requested_by") "+" L("params_json") "+" L("only_if_json") "+"
	    L("trace_json") "+" L("result_json") "+" L("error_json") "+" L("cancelled_by")
	    ") FROM commands JOIN d USING (device_pk)), 0)"
	    "+coalesce((SELECT sum(100+" L("event") "+" L("actor") "+" L("type") "+" L("user") "+" L("data_json") "+"
	    L("payload") ") FROM events WHERE event_pk / 1099511627776 = (SELECT tenant_pk FROM tenants WHERE name = ?1)), 0)"
	    "+coalesce((SELECT sum(100+" L("name") "+" L("snapshot_url") "+" L("data_json") "+" L("decided_by")
	    ") FROM visitors WHERE tenant_pk = (SELECT tenant_pk FROM tenants WHERE name = ?1)), 0)"
	    "+coalesce((SELECT sum(100+" L("data_json") ") FROM telemetry JOIN d USING (device_pk)), 0)";
	sqlite3_stmt *st;
	int64_t bytes;

	assert_int_equal(sqlite3_prepare_v2(other, sql, -1, &st, NULL), SQLITE_OK);
	sqlite3_bind_text(st, 1, tenant, -1, SQLITE_STATIC);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	bytes = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return bytes;
}

static int64_t
usage(const char *tenant)
{
	int64_t pk, bytes = 0;

	if (db_tenant(db, slice_of(tenant), false, &pk) == DB_OK)
		assert_int_equal(DB(db, usage, pk, &bytes), DB_OK);
	return bytes;
}

static void
expect_truth(void)
{
	for (unsigned i = 0; i < TENANTS; i++)
		if (usage(tenant_name(i)) != truth(tenant_name(i)))
			fail_msg("%s: %lld bytes are kept, the rows have %lld", tenant_name(i),
			    (long long)usage(tenant_name(i)), (long long)truth(tenant_name(i)));
}

/* --- changes */

static int64_t
device_pk(void)
{
	return 1 + (int64_t)below((uint64_t)devices + 1);
}

static bool
is_there(int64_t pk)
{
	struct db_device d = { .text = BUF_INIT };
	bool there = DB(db, device_by_pk, pk, false, &d) == DB_OK;

	db_device_fini(&d);
	return there;
}

static void
change_device(void)
{
	struct db_device d = {
		.tenant = slice_of(tenant_name(below(TENANTS))), .owner = SLICE("o"), .audience = SLICE("AAA"), .created_at = now,
		.type = SLICE("lock"), .name = text(), .tags_json = SLICE("[]"), .settings_json = SLICE("{}")
	};
	uint8_t hash[SHA256_LEN];
	char id[32];

	switch (below(6)) {
	case 0:
	case 1:
		memset(hash, 0, sizeof(hash));
		made++;
		memcpy(hash, &made, sizeof(made));
		snprintf(id, sizeof(id), "d%lld", (long long)made);
		d.id = slice_of(id);
		d.metadata_json = text();
		assert_int_equal(DB(db, device_insert, &d, hash), DB_OK);
		if (d.pk > devices)
			devices = d.pk;
		break;
	case 2:
		DB(db, device_set_state, device_pk(), 0, text(), now);
		break;
	case 3:
		DB(db, device_set_info, device_pk(), text(), SLICE("[]"), text(), SLICE("{}"), now);
		break;
	case 4:
		DB(db, device_connected, device_pk(), 0, 1, 2, now);
		break;
	default:
		if (below(3) == 0)
			DB(db, device_delete, device_pk(), now);
	}
}

static void
change_command(void)
{
	struct db_command c = {
		.device_pk = device_pk(), .created_at = now, .command = SLICE("unlock"), .requested_by = SLICE("u")
	};
	uint32_t n = commands + 1;

	if (below(2) == 0 && commands > 0) {
		n = 1 + (uint32_t)below(commands);
		memcpy(c.id, &n, sizeof(n));
		if (DB(db, command_get, c.id, &c) == DB_OK) {
			enum command_status was = c.status;

			c.result_json = text();
			c.status = COMMAND_EXECUTED;
			c.finished_at = now;
			(void)DB(db, command_update, &c, was);
		}
		db_command_fini(&c);
		return;
	}
	if (!is_there(c.device_pk))
		return;
	commands++;
	memcpy(c.id, &n, sizeof(n));
	c.params_json = text();
	c.trace_json = text();
	(void)DB(db, command_insert, &c);
}

static void
change_events(void)
{
	struct db_event e[4];
	unsigned n = 1 + (unsigned)below(4);
	int64_t tenant_pk;

	assert_int_equal(db_tenant(db, slice_of(tenant_name(below(TENANTS))), true, &tenant_pk), DB_OK);
	for (unsigned i = 0; i < n; i++) {
		e[i] = (struct db_event){ .tenant_pk = tenant_pk, .at = now, .received_at = now };
		e[i].device_pk = 1000 * tenant_pk + (int64_t)below(8);		/* a device is of one tenant */
		e[i].event = SLICE("x");
		e[i].data_json = e[i].payload = text();
	}
	assert_int_equal(DB(db, event_insert, e, n), DB_OK);
}

static void
change_rest(void)
{
	struct db_visitor v = { .device_pk = device_pk(), .created_at = now, .name = text(), .data_json = text() };
	struct db_sample sample = { .received_at = now, .at = now, .data_json = text() };
	struct db_device d = { .text = BUF_INIT };
	unsigned stored;
	bool more;

	switch (below(6)) {
	case 0:
		v.id[0] = (uint8_t)below(256);
		v.id[1] = (uint8_t)below(4);
		assert_int_equal(db_tenant(db, slice_of(tenant_name(below(TENANTS))), true, &v.tenant_pk), DB_OK);
		(void)DB(db, visitor_insert, &v);
		break;
	case 1:
		v.pk = 1 + (int64_t)below(100);
		v.status = VISITOR_DENIED;
		v.decided_by = text();
		(void)DB(db, visitor_decide, &v);
		break;
	case 2:
		if (below(5) == 0)
			assert_int_equal(db_retain(db, now, now - DAY_MS, 5, &more), DB_OK);
		break;
	case 3:
		if (below(5) == 0)
			assert_int_equal(DB(db, telemetry_retain, now - DAY_MS / 2, 5, &more), DB_OK);
		break;
	default:
		sample.device_pk = device_pk();
		if (DB(db, device_by_pk, sample.device_pk, false, &d) == DB_OK) {
			sample.tenant = d.tenant;
			sample.device = d.id;
			assert_int_equal(DB(db, telemetry_insert, &sample, 1, &stored), DB_OK);
			assert_int_equal(stored, 1);
		}
		db_device_fini(&d);
	}
}

static void
change_some(void)
{
	static void (*const changes[])(void) = { change_device, change_command, change_events, change_rest, change_rest };

	for (unsigned n = 1 + (unsigned)below(8); n > 0; n--)
		changes[below(5)]();
	now += DAY_MS / 40;
}

static void
keep(bool on)
{
	assert_int_equal(DB(db, usage_keep, on), DB_OK);
	kept = on;
}

/* As after kill -9, or a start in good order. */
static void
open_again(void)
{
	db_close(&db);
	open_store();
	if (kept)
		keep(true);
}

/* A transaction that may count a step, may be rolled back, and may not live to its end. */
static void
transaction(bool counts, bool *more)
{
	*more = true;
	assert_int_equal(DB(db, begin), DB_OK);
	change_some();
	if (counts)
		assert_int_equal(DB(db, usage_count, 1 + (unsigned)below(60), more), DB_OK);
	if (below(2) == 0)
		change_some();
	switch (below(12)) {
	case 0:
		assert_int_equal(DB(db, rollback), DB_OK);
		*more = true;
		break;
	case 1:
		open_again();
		*more = true;
		break;
	default:
		assert_int_equal(DB(db, commit), DB_OK);
		if (below(12) == 0)
			open_again();
	}
}

static void
run(uint64_t from)
{
	int64_t bytes;
	bool more;

	seed = from;
	for (unsigned i = 0; i < 100; i++)
		transaction(false, &more);
	assert_int_equal(DB(db, usage, 1, &bytes), DB_NONE);
	keep(true);
	for (more = true; more; )
		transaction(true, &more);
	expect_truth();
	for (unsigned i = 0; i < 150; i++) {
		transaction(false, &more);
		expect_truth();
	}
	/* Off, things change unseen; on again, all is counted anew. */
	keep(false);
	transaction(false, &more);
	transaction(false, &more);
	keep(true);
	for (more = true; more; )
		transaction(true, &more);
	expect_truth();
	keep(false);
	assert_int_equal(DB(db, usage, 1, &bytes), DB_NONE);
}

static void
keeps_what_rows_have(void **state)
{
	(void)state;
	now = INT64_C(1800000000000);
	for (uint64_t i = 1; i <= 2; i++)
		run(i * 7919);
}

/* Everything that there is goes when it is old, and is taken off. */
static void
goes_down_to_nothing(void **state)
{
	bool more = true;

	(void)state;
	keep(true);
	while (more)
		transaction(true, &more);
	assert_true(usage("t1") > 0);
	assert_int_equal(DB(db, begin), DB_OK);
	for (int64_t pk = 1; pk <= devices; pk++)
		(void)DB(db, device_delete, pk, now);
	assert_int_equal(DB(db, commit), DB_OK);
	expect_truth();
	now += 10 * DAY_MS;
	for (unsigned i = 0; i < 10000; i++) {
		bool more_telemetry;

		assert_int_equal(DB(db, begin), DB_OK);
		assert_int_equal(db_retain(db, now, now - DAY_MS, 7, &more), DB_OK);
		assert_int_equal(DB(db, telemetry_retain, now - DAY_MS, 7, &more_telemetry), DB_OK);
		assert_int_equal(DB(db, commit), DB_OK);
		if (!more && !more_telemetry)
			break;
	}
	expect_truth();
	/* Commands that never ended stay without an owner: they are nobody's. */
	for (unsigned i = 0; i < TENANTS; i++)
		assert_int_equal(usage(tenant_name(i)), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_what_rows_have),
		cmocka_unit_test(goes_down_to_nothing),
	};
	int failed;

	snprintf(folder, sizeof(folder), "/tmp/belay-usage-XXXXXX");
	must(mkdtemp(folder) != NULL);
	snprintf(path, sizeof(path), "%s/belay.db", folder);
	snprintf(url, sizeof(url), "sqlite://%s", path);
	open_store();
	must(sqlite3_open(path, &other) == SQLITE_OK);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	sqlite3_close(other);
	db_close(&db);
	for (int i = 0; i < 3; i++) {
		static const char *const ends[] = { "", "-wal", "-shm" };
		char name[128];

		snprintf(name, sizeof(name), "%s%s", path, ends[i]);
		(void)unlink(name);
	}
	(void)rmdir(folder);
	return failed;
}
