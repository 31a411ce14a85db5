/*
 * db_ids.c: devices are looked up by many ids at once: as one by one, up to the first that is not there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "db/db.h"

static struct db *db;

static int64_t
add(const char *tenant, const char *id, uint8_t n)
{
	uint8_t hash[SHA256_LEN] = { n };
	struct db_device d = {
		.tenant = slice_of(tenant), .id = slice_of(id), .owner = SLICE("anna"), .audience = SLICE("A"), .type = SLICE("x"),
		.tags_json = SLICE("[]")
	};

	assert_int_equal(DB(db, device_insert, &d, hash), DB_OK);
	return d.pk;
}

static int
set_up(void **state)
{
	char err[256] = "";

	(void)state;
	assert_int_equal(db_arrange("memory:", (unsigned)-1, (unsigned)-1, err, sizeof(err)), 1);
	if ((db = db_open("memory:", 0, err, sizeof(err))) == NULL)
		fail_msg("%s", err);
	(void)add("t", "a", 1);
	(void)add("t", "b", 2);
	(void)add("t", "c", 3);
	assert_int_equal(DB(db, device_delete, add("t", "gone", 4), 1), DB_OK);
	(void)add("other", "d", 5);
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

/* The ids of those that are found of these, each of one letter; *page has them still. */
static void
assert_found(const char *tenant, const char *letters, const char *found, struct db_page *page)
{
	struct slice ids[8];
	unsigned n = 0;
	const struct db_device *d;

	for (; letters[n] != '\0'; n++)
		ids[n] = letters[n] == 'g' ? SLICE("gone") : (struct slice){ &letters[n], 1 };
	db_page_want(page, n);
	page->bytes = SIZE_MAX;
	assert_int_equal(DB(db, device_by_ids, slice_of(tenant), ids, n, page), DB_OK);
	assert_false(page->more);
	assert_int_equal(page->count, strlen(found));
	d = page->row;
	for (unsigned i = 0; i < page->count; i++) {
		assert_true(slice_eq(d[i].id, (struct slice){ &found[i], 1 }));
		assert_true(slice_is(d[i].tenant, tenant) && slice_is(d[i].owner, "anna") && slice_is(d[i].audience, "A"));
	}
}

static void
finds_them_in_order(void **state)
{
	struct db_page page = { .rows = 0 };

	(void)state;
	assert_found("t", "abc", "abc", &page);
	assert_found("t", "cab", "cab", &page);
	assert_found("t", "aba", "aba", &page);
	assert_found("t", "b", "b", &page);
	db_page_fini(&page);
}

static void
ends_at_one_that_is_not_there(void **state)
{
	struct db_page page = { .rows = 0 };

	(void)state;
	assert_found("t", "abxc", "ab", &page);
	assert_found("t", "xabc", "", &page);
	assert_found("t", "cga", "c", &page);
	assert_found("t", "ad", "a", &page);		/* another tenant's */
	assert_found("nobody", "abc", "", &page);
	db_page_fini(&page);
}

/* A page that is full ends before the next. */
static void
keeps_to_the_page(void **state)
{
	const struct slice ids[] = { SLICE("a"), SLICE("b"), SLICE("c") };
	struct db_page page = { .rows = 0 };

	(void)state;
	db_page_want(&page, 2);
	assert_int_equal(DB(db, device_by_ids, SLICE("t"), ids, 3, &page), DB_OK);
	assert_true(page.count == 2 && page.more && slice_is(buf_slice(&page.last_text), "b"));
	db_page_fini(&page);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(finds_them_in_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ends_at_one_that_is_not_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(keeps_to_the_page, set_up, tear_down)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
