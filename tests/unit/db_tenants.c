/*
 * db_tenants.c: numbers and names of tenants are remembered by each handle, and forgotten when a transaction is rolled back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "db/db.h"

#define TENANTS 300

static struct db *db;
static const struct db_ops *real;
static unsigned asked;			/* of the engine */

static enum db_result
number(struct db *of, struct slice name, bool create, int64_t *pk)
{
	asked++;
	return real->tenant_number(of, name, create, pk);
}

static enum db_result
name(struct db *of, int64_t pk, struct buf *text)
{
	asked++;
	return real->tenant_name(of, pk, text);
}

static int
set_up(void **state)
{
	static struct db_ops ops;
	char err[256] = "";

	(void)state;
	assert_int_equal(db_arrange("memory:", (unsigned)-1, (unsigned)-1, err, sizeof(err)), 1);
	if ((db = db_open("memory:", 0, err, sizeof(err))) == NULL)
		fail_msg("%s", err);
	real = db->ops;
	ops = *real;
	ops.tenant_number = number;
	ops.tenant_name = name;
	db->ops = &ops;
	asked = 0;
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	db_close(&db);
	db_clear_away();
	return 0;
}

static int64_t
number_of(const char *tenant, bool create)
{
	int64_t pk = 0;

	assert_int_equal(db_tenant(db, slice_of(tenant), create, &pk), DB_OK);
	return pk;
}

static void
remembers(void **state)
{
	int64_t pk[TENANTS];
	char tenant[16];

	(void)state;
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < TENANTS; i++) {
			snprintf(tenant, sizeof(tenant), "t%u", i);
			if (round == 0)
				pk[i] = number_of(tenant, true);
			assert_int_equal(number_of(tenant, false), pk[i]);
		}
	assert_int_equal(asked, TENANTS);
	assert_int_equal(db_tenant(db, SLICE("t"), false, pk), DB_NONE);
}

/* The number of a tenant that was never made is the next one's. */
static void
forgets_what_was_rolled_back(void **state)
{
	struct db_device d = {
		.tenant = SLICE("second"), .id = SLICE("d"), .owner = SLICE("o"), .type = SLICE("x"), .tags_json = SLICE("[]")
	};
	struct db_device got = { .text = BUF_INIT };
	uint8_t hash[SHA256_LEN] = { 1 };
	int64_t first, none;

	(void)state;
	assert_int_equal(DB(db, begin), DB_OK);
	first = number_of("first", true);
	assert_int_equal(DB(db, rollback), DB_OK);
	assert_int_equal(db_tenant(db, SLICE("first"), false, &none), DB_NONE);
	assert_int_equal(DB(db, device_insert, &d, hash), DB_OK);
	assert_int_equal(d.tenant_pk, first);
	assert_int_equal(DB(db, device_by_pk, d.pk, false, &got), DB_OK);
	assert_true(slice_is(got.tenant, "second"));
	/* With nothing remembered the name is asked for once. */
	assert_int_equal(DB(db, begin), DB_OK);
	assert_int_equal(DB(db, rollback), DB_OK);
	asked = 0;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(DB(db, device_by_pk, d.pk, false, &got), DB_OK);
		assert_true(slice_is(got.tenant, "second"));
		assert_int_equal(asked, 1);
	}
	db_device_fini(&got);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(remembers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(forgets_what_was_rolled_back, set_up, tear_down)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
