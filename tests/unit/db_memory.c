/*
 * db_memory.c: what the memory engine is made of, each against something simpler; and what is its own: only the newest is kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "db/memory.h"

#define ROWS 3000

struct row {
	struct memory_hash_node node;
	struct memory_tree_node order;
	struct memory_link link;
	int64_t number;
	bool in;
};

static uint32_t
next_random(uint32_t *random)
{
	*random = *random * 1664525 + 1013904223;
	return *random >> 8;
}

static struct row *
make_rows(void)
{
	struct row *rows = must_alloc(ROWS * sizeof(*rows));

	for (int i = 0; i < ROWS; i++)
		rows[i].number = i + 1;
	return rows;
}

/* Hashes that share all but a few bits are told apart by those; some are quite the same. */
static uint64_t
poor_hash(const struct row *row)
{
	return (uint64_t)row->number / 2 * UINT64_C(0x100000001);
}

static bool
found(const struct memory_hash *t, const struct row *row)
{
	struct memory_hash_node *node = memory_hash_first(t, poor_hash(row));

	while (node != NULL && node != &row->node)
		node = memory_hash_next(node);
	return node != NULL;
}

static void
hash_holds_what_was_put(void **state)
{
	struct row *rows = make_rows();
	struct memory_hash t = { NULL, 0, 0, 0, 0 };
	uint32_t random = 1;
	size_t in = 0;

	(void)state;
	assert_null(memory_hash_first(&t, 5));
	/* It fills, is stirred, and is emptied. */
	for (int step = 0; step < 12 * ROWS; step++) {
		struct row *row = &rows[next_random(&random) % ROWS];
		bool put = step < 4 * ROWS ? true : step < 8 * ROWS ? !row->in : false;

		if (put && !row->in) {
			memory_hash_put(&t, &row->node, poor_hash(row));
			in++;
		} else if (!put && row->in) {
			memory_hash_remove(&t, &row->node);
			in--;
		}
		row->in = put;
		assert_int_equal(t.count, in);
		if (step % ROWS == 0)
			for (int i = 0; i < ROWS; i++)
				assert_int_equal(found(&t, &rows[i]), rows[i].in);
	}
	for (int i = 0; i < ROWS; i++)
		if (rows[i].in)
			memory_hash_remove(&t, &rows[i].node);
	assert_true(t.count == 0 && t.used <= 64 && t.cap <= 256);
	memory_hash_fini(&t);
	free(rows);
}

static void
hash_tells_texts_apart(void **state)
{
	const uint64_t seed[2] = { UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xbf58476d1ce4e5b9) };
	const uint64_t other[2] = { UINT64_C(0x9e3779b97f4a7c15), UINT64_C(0xbf58476d1ce4e5b8) };
	static const char text[] = "0123456789abcdef0123456789abcdef";
	uint64_t seen[4 * 33];
	size_t n = 0;

	(void)state;
	for (size_t len = 0; len <= 32; len++) {
		struct slice s = { text, len };

		seen[n++] = memory_hash(seed, 0, s);
		seen[n++] = memory_hash(seed, 1, s);
		seen[n++] = memory_hash(other, 0, s);
		seen[n++] = memory_hash(seed, 0, (struct slice){ text + 1, len < 32 ? len : 31 });
		if (len == 0 || len == 32)
			n--;		/* the same text as before, or as another */
	}
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < i; k++)
			assert_true(seen[i] != seen[k]);
}

static int
row_order(const void *key, const struct memory_tree_node *node)
{
	const int64_t *a = key;
	int64_t b = memory_row_of(node, struct row, order)->number;

	return *a < b ? -1 : *a > b;
}

struct walked {
	const struct row *rows;
	int64_t at;			/* the last one shown */
	unsigned n;
};

static bool
in_order(void *arg, struct memory_tree_node *node)
{
	struct walked *w = arg;
	const struct row *row = memory_row_of(node, struct row, order);

	assert_true(row->in && row->number > w->at);
	for (int64_t i = w->at + 1; i < row->number; i++)
		assert_false(w->rows[i - 1].in);
	w->at = row->number;
	return --w->n > 0;
}

static void
tree_is_in_order(void **state)
{
	struct row *rows = make_rows();
	struct memory_tree t = { NULL };
	uint32_t random = 2;

	(void)state;
	assert_null(memory_tree_after(&t, row_order, NULL));
	for (int step = 0; step < 10 * ROWS; step++) {
		struct row *row = &rows[next_random(&random) % ROWS];
		struct walked w = { rows, row->number, 1 + step % 50 };
		struct memory_tree_node *after;

		if (row->in)
			memory_tree_remove(&t, row_order, &row->number, &row->order);
		else
			memory_tree_put(&t, row_order, &row->number, &row->order);
		row->in = !row->in;
		assert_true(memory_tree_find(&t, row_order, &row->number) == (row->in ? &row->order : NULL));
		after = memory_tree_after(&t, row_order, &row->number);
		assert_true(after == NULL || memory_row_of(after, struct row, order)->number > row->number);
		memory_tree_walk(&t, row_order, &row->number, in_order, &w);
	}
	free(rows);
}

static void
list_is_in_order(void **state)
{
	struct row *rows = make_rows();
	struct memory_list l = { NULL, NULL };
	uint32_t random = 3;

	(void)state;
	for (int step = 0; step < 2 * ROWS; step++) {
		struct row *row = &rows[next_random(&random) % 200];
		int64_t last = 0;
		unsigned in = 0;

		if (row->in)
			memory_list_remove(&l, &row->link);
		else
			memory_list_put(&l, &row->link, row->number);
		row->in = !row->in;
		for (struct memory_link *link = l.first; link != NULL; link = link->next) {
			assert_true(link->number > last && memory_row_of(link, struct row, link)->in);
			assert_true(link->next != NULL ? link->next->prev == link : l.last == link);
			last = link->number;
			in++;
		}
		for (int i = 0; i < 200; i++)
			in -= rows[i].in;
		assert_int_equal(in, 0);
	}
	free(rows);
}

/* The rows of a series, seen from a number. */
static void
look_around(const struct memory_series *s, const struct row *rows, int64_t number)
{
	int64_t above = number + 1, below = number - 1;

	while (above <= ROWS && (above < 1 || !rows[above - 1].in))
		above++;
	while (below >= 1 && (below > ROWS || !rows[below - 1].in))
		below--;
	assert_ptr_equal(memory_series_above(s, number), above <= ROWS ? &rows[above - 1] : NULL);
	assert_ptr_equal(memory_series_below(s, number), below >= 1 ? &rows[below - 1] : NULL);
}

static void
series_finds_numbers(void **state)
{
	struct row *rows = make_rows();
	struct memory_series s = { NULL, 0, 0, 0, 0 };
	uint32_t random = 4;

	(void)state;
	assert_null(memory_series_above(&s, 0));
	assert_null(memory_series_below(&s, INT64_MAX));
	for (int round = 0; round < 30; round++) {
		/* Only a part of the numbers at a time, so that pieces come and go at both ends and between. */
		int64_t from = next_random(&random) % ROWS, count = 1 + next_random(&random) % (ROWS - from);
		bool put = round % 3 != 0;

		for (int64_t i = from; i < from + count; i++) {
			int64_t at = round % 2 == 0 ? i : from + count - 1 - (i - from);

			if (put && !rows[at].in)
				memory_series_put(&s, at + 1, &rows[at]);
			else if (!put && rows[at].in)
				memory_series_remove(&s, at + 1);
			rows[at].in = put;
		}
		for (int i = 0; i < ROWS; i++)
			assert_ptr_equal(memory_series_get(&s, i + 1), rows[i].in ? &rows[i] : NULL);
		for (int i = -2; i < ROWS + 3; i += 7)
			look_around(&s, rows, i);
	}
	assert_null(memory_series_get(&s, 0));
	assert_null(memory_series_get(&s, -1));
	assert_null(memory_series_get(&s, INT64_MAX));
	assert_null(memory_series_get(&s, INT64_MIN));
	assert_null(memory_series_above(&s, INT64_MAX));
	assert_null(memory_series_below(&s, INT64_MIN));
	memory_series_fini(&s);
	free(rows);
}

/* The whole */

static void
put_command(struct db *db, int64_t n, bool open)
{
	struct db_command c = { .device_pk = 1, .open = open, .status = open ? COMMAND_SENT : COMMAND_EXECUTED };

	memcpy(c.id, &n, sizeof(n));
	assert_int_equal(DB(db, command_insert, &c), DB_OK);
}

static bool
has_command(struct db *db, int64_t n)
{
	struct db_command c = { .text = BUF_INIT };
	enum db_result result;

	memcpy(c.id, &n, sizeof(n));
	result = DB(db, command_get, c.id, &c);
	db_command_fini(&c);
	return result == DB_OK;
}

static bool
count_sample(void *arg, const struct db_sample *v)
{
	(void)v;
	++*(unsigned *)arg;
	return true;
}

static void
keeps_the_newest(void **state)
{
	char err[64];
	struct db *db = db_open("memory:", err, sizeof(err));
	struct db_event e = { .tenant_pk = 1, .device_pk = 1, .event = SLICE("x"), .data_json = SLICE("{}") };
	struct db_device d = { .tenant = SLICE("t"), .id = SLICE("d"), .owner = SLICE("o"), .tags_json = SLICE("[]") };
	struct db_sample v = { .device_pk = 1, .tenant = SLICE("t"), .device = SLICE("d"), .data_json = SLICE("{}") };
	struct db_sample_filter f = { .device_pk = 1, .limit = UINT_MAX };
	const uint8_t token[SHA256_LEN] = { 1 };
	int64_t pk, oldest, newest;
	unsigned stored, count = 0;

	(void)state;
	assert_int_equal(DB(db, tenant, SLICE("t"), true, &pk), DB_OK);
	assert_int_equal(DB(db, device_insert, &d, token), DB_OK);
	for (v.at = 1; v.at <= MEMORY_SAMPLES + 5; v.at++)
		assert_int_equal(DB(db, telemetry_insert, &v, 1, &stored), DB_OK);
	assert_int_equal(DB(db, telemetry_list, &f, count_sample, &count), DB_OK);
	assert_int_equal(count, MEMORY_SAMPLES);
	f.until = 6;
	assert_int_equal(DB(db, telemetry_list, &f, count_sample, &count), DB_OK);
	assert_int_equal(count, MEMORY_SAMPLES);		/* those were the oldest */
	for (int64_t i = 0; i < MEMORY_EVENTS; i++)
		assert_int_equal(DB(db, event_insert, &e), DB_OK);
	DB(db, begin);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(DB(db, event_insert, &e), DB_OK);
	DB(db, event_bounds, &oldest, &newest);
	assert_true(oldest == 1001 && newest == MEMORY_EVENTS + 1000);
	DB(db, rollback);
	DB(db, event_bounds, &oldest, &newest);
	assert_true(oldest == 1 && newest == MEMORY_EVENTS);

	db_device_fini(&d);
	put_command(db, 1, true);
	for (int64_t i = 2; i <= MEMORY_ENDED + 2; i++)
		put_command(db, i, false);
	assert_true(has_command(db, 1) && !has_command(db, 2) && has_command(db, 3));
	DB(db, begin);
	put_command(db, MEMORY_ENDED + 3, false);
	assert_false(has_command(db, 3));
	DB(db, rollback);
	assert_true(has_command(db, 1) && has_command(db, 3) && !has_command(db, MEMORY_ENDED + 3));
	db_close(&db);
}

static void
refuses_misuse(void **state)
{
	char err[64];
	struct db *db = db_open("memory:", err, sizeof(err));
	struct db_event e = { .tenant_pk = 1, .device_pk = 1 };

	(void)state;
	assert_int_equal(DB(db, commit), DB_FAILED);
	assert_int_equal(DB(db, rollback), DB_OK);
	assert_int_equal(DB(db, begin), DB_OK);
	assert_int_equal(DB(db, begin), DB_FAILED);
	assert_string_equal(db_error(db), "a transaction is open already");
	assert_int_equal(DB(db, event_insert, &e), DB_FAILED);
	assert_int_equal(DB(db, share_put, INT64_MAX, 1, &(struct db_share){ .permission = DB_VIEW }), DB_FAILED);
	db_close(&db);		/* with a transaction that is open */
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hash_holds_what_was_put), cmocka_unit_test(hash_tells_texts_apart),
		cmocka_unit_test(tree_is_in_order), cmocka_unit_test(list_is_in_order), cmocka_unit_test(series_finds_numbers),
		cmocka_unit_test(keeps_the_newest), cmocka_unit_test(refuses_misuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
