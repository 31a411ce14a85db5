/*
 * db_page.c: lists come in pages.  The pages of any size, one behind the other, are the whole list; what bounds a page
 * bounds it; and nothing of the store is open while its rows are acted on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/must.h"
#include "db/db.h"

#define DEVICES		30
#define EVENTS		200

static struct db *db;
static int64_t tenant_pk, pk[DEVICES];

/* Where a list begins: behind nothing, or behind a page. */
struct place {
	struct buf text;
	int64_t number;
	struct db_sample sample;
	struct db_command_key command;
};

static struct db_scope
everyone(void)
{
	return (struct db_scope){ .tenant_pk = tenant_pk, .all = true };
}

static struct db_scope
anna(void)
{
	return (struct db_scope){ .tenant_pk = tenant_pk, .user = SLICE("anna"), .now = 1 };
}

/* Each list: a page behind the place, and how a row of it is told. */

static enum db_result
devices_of(struct db_scope scope, const struct place *at, struct db_page *page)
{
	struct db_device_filter f = { .scope = scope, .online = -1, .after_id = buf_slice(&at->text) };

	return DB(db, device_list, &f, page);
}

static enum db_result
devices_all(const struct place *at, struct db_page *page)
{
	return devices_of(everyone(), at, page);
}

static enum db_result
devices_own(const struct place *at, struct db_page *page)
{
	return devices_of(anna(), at, page);
}

static enum db_result
devices_online(const struct place *at, struct db_page *page)
{
	return DB(db, device_online, at->number, page);
}

static void
put_device(struct buf *b, const void *row)
{
	const struct db_device *d = row;

	buf_put_slice(b, d->id);
	buf_put_slice(b, d->tenant);
}

static enum db_result
types(const struct place *at, struct db_page *page)
{
	return DB(db, device_types, tenant_pk, buf_slice(&at->text), page);
}

static void
put_type(struct buf *b, const void *row)
{
	const struct db_type *t = row;

	buf_put_slice(b, t->type);
	buf_put_i64(b, t->count);
}

static enum db_result
shares(const struct place *at, struct db_page *page)
{
	return DB(db, share_list, pk[0], buf_slice(&at->text), page);
}

static void
put_share(struct buf *b, const void *row)
{
	buf_put_slice(b, ((const struct db_share *)row)->user);
}

static enum db_result
commands(const struct place *at, struct db_page *page)
{
	return DB(db, command_list, pk[1], at->number, page);
}

static enum db_result
open_commands(const struct place *at, struct db_page *page)
{
	return DB(db, command_open, pk[1], at->number, page);
}

static enum db_result
all_open_commands(const struct place *at, struct db_page *page)
{
	return DB(db, command_open_all, at->command, page);
}

static void
put_command(struct buf *b, const void *row)
{
	const struct db_command *c = row;

	buf_put_hex(b, c->id, 2);
	buf_put_slice(b, c->params_json);
}

static enum db_result
events_of(struct db_scope scope, int64_t device_pk, bool ascending, const struct place *at, struct db_page *page)
{
	struct db_event_filter f = { .scope = scope, .device_pk = device_pk, .ascending = ascending, .event = SLICE("odd") };

	*(ascending ? &f.after_seq : &f.before_seq) = at->number;
	return DB(db, event_list, &f, page);
}

static enum db_result
events_all(const struct place *at, struct db_page *page)
{
	return events_of(everyone(), 0, false, at, page);
}

static enum db_result
events_own_up(const struct place *at, struct db_page *page)
{
	return events_of(anna(), 0, true, at, page);
}

static enum db_result
events_device(const struct place *at, struct db_page *page)
{
	return events_of(anna(), pk[1], false, at, page);
}

static void
put_event(struct buf *b, const void *row)
{
	const struct db_event *e = row;

	buf_put_i64(b, e->seq);
	buf_put_slice(b, e->data_json);
	buf_put_slice(b, e->device);
}

static enum db_result
samples(const struct place *at, struct db_page *page)
{
	struct db_sample_filter f = { .device_pk = pk[2], .before_at = at->sample.at, .before_seq = at->sample.seq };

	return db_samples(db, &f, page);
}

static void
put_sample(struct buf *b, const void *row)
{
	const struct db_sample *v = row;

	buf_put_i64(b, v->at);
	buf_put_slice(b, v->data_json);
}

static enum db_result
visitors(const struct place *at, struct db_page *page)
{
	struct db_visitor_filter f = { .scope = anna(), .status = -1, .before_pk = at->number };

	return DB(db, visitor_list, &f, page);
}

static void
put_visitor(struct buf *b, const void *row)
{
	const struct db_visitor *v = row;

	buf_put_slice(b, v->name);
	buf_put_slice(b, v->device);
}

static const struct list {
	const char *name;
	enum db_result (*read)(const struct place *at, struct db_page *page);
	void (*put)(struct buf *b, const void *row);
	size_t size;
	unsigned count;
} lists[] = {
	{ "device_list, all", devices_all, put_device, sizeof(struct db_device), DEVICES },
	{ "device_list, own", devices_own, put_device, sizeof(struct db_device), DEVICES / 2 + DEVICES / 6 },
	{ "device_online", devices_online, put_device, sizeof(struct db_device), DEVICES / 3 },
	{ "device_types", types, put_type, sizeof(struct db_type), 7 },
	{ "share_list", shares, put_share, sizeof(struct db_share), 10 },
	{ "command_list", commands, put_command, sizeof(struct db_command), 20 },
	{ "command_open, device", open_commands, put_command, sizeof(struct db_command), 10 },
	{ "command_open, all", all_open_commands, put_command, sizeof(struct db_command), 20 },
	{ "event_list, all", events_all, put_event, sizeof(struct db_event), EVENTS / 2 },
	{ "event_list, own", events_own_up, put_event, sizeof(struct db_event), 0 },
	{ "event_list, device", events_device, put_event, sizeof(struct db_event), 0 },
	{ "telemetry_list", samples, put_sample, sizeof(struct db_sample), 25 },
	{ "visitor_list", visitors, put_visitor, sizeof(struct db_visitor), 5 }
};
#define LISTS (sizeof(lists) / sizeof(lists[0]))

/* What is in the store. */

static void
fill_devices(void)
{
	static const char *const type[] = { "a", "b", "c", "d", "e", "f", "g" };

	for (unsigned i = 0; i < DEVICES; i++) {
		char id[16];
		uint8_t hash[SHA256_LEN] = { (uint8_t)i };
		struct db_device d = {
			.tenant = SLICE("t"), .owner = i % 2 == 0 ? SLICE("anna") : SLICE("bert"),
			.type = slice_of(type[i % 7]), .tags_json = SLICE("[]")
		};
		struct db_share share = { .user = SLICE("anna") };

		snprintf(id, sizeof(id), "d%02u", (i * 7) % DEVICES);
		d.id = slice_of(id);
		must(DB(db, device_insert, &d, hash) == DB_OK);
		pk[i] = d.pk;
		tenant_pk = d.tenant_pk;
		if (i % 6 == 1)
			must(DB(db, share_put, d.pk, tenant_pk, &share) == DB_OK);
		if (i % 3 == 0)
			must(DB(db, device_connected, d.pk, 0, 1, 1, 1) == DB_OK);
	}
	for (char user[] = "u0"; user[1] < '9'; user[1]++) {
		struct db_share share = { .user = slice_of(user) };

		must(DB(db, share_put, pk[0], tenant_pk, &share) == DB_OK);
	}
}

static void
fill(void)
{
	struct db_share last = { .user = SLICE("zz") };

	fill_devices();
	must(DB(db, share_put, pk[0], tenant_pk, &last) == DB_OK);
	for (unsigned i = 0; i < 40; i++) {
		struct db_command c = {
			.id = { (uint8_t)i, 1 }, .device_pk = pk[1 + i % 2], .open = i % 4 < 2, .command = SLICE("go"),
			.params_json = i == 20 ? SLICE("{\"long\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}") : SLICE("{}")
		};

		must(DB(db, command_insert, &c) == DB_OK);
	}
	for (unsigned i = 0; i < EVENTS; i++) {
		struct db_event e = {
			.tenant_pk = tenant_pk, .device_pk = pk[i * i % DEVICES], .id = { (uint8_t)i, 2 },
			.event = i % 2 == 0 ? SLICE("even") : SLICE("odd"), .data_json = SLICE("{\"x\":[1]}"),
			.payload = i % 5 == 0 ? SLICE("{\"data\":{\"x\":[1]}}") : SLICE_NONE
		};

		must(DB(db, event_insert, &e, 1) == DB_OK);
	}
	for (unsigned i = 0; i < 25; i++) {
		struct db_sample v = { .device_pk = pk[2], .tenant = SLICE("t"), .device = SLICE("d14"), .at = 1 + i / 7,
		    .data_json = i % 2 == 0 ? SLICE("1") : SLICE("22") };
		unsigned stored;

		must(DB(db, telemetry_insert, &v, 1, &stored) == DB_OK && stored == 1);
	}
	for (unsigned i = 0; i < 10; i++) {
		struct db_visitor v = { .tenant_pk = tenant_pk, .device_pk = pk[3 + i % 2], .id = { (uint8_t)i, 3 },
		    .name = SLICE("V") };

		must(DB(db, visitor_insert, &v) == DB_OK);
	}
}

static int
set_up(void **state)
{
	char err[256] = "";

	(void)state;
	assert_int_equal(db_arrange("memory:", (unsigned)-1, (unsigned)-1, err, sizeof(err)), 1);
	if ((db = db_open("memory:", 0, err, sizeof(err))) == NULL)
		fail_msg("%s", err);
	assert_int_equal(DB(db, begin), DB_OK);
	fill();
	assert_int_equal(DB(db, commit), DB_OK);
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

static void
put_rows(const struct list *l, const struct db_page *page, struct buf *b)
{
	for (unsigned i = 0; i < page->count; i++) {
		l->put(b, (const char *)page->row + i * l->size);
		buf_putc(b, ' ');
	}
}

static void
move_on(struct place *at, const struct list *l, const struct db_page *page)
{
	buf_clear(&at->text);
	buf_put_slice(&at->text, buf_slice(&page->last_text));
	at->number = page->last;
	if (l->read == samples && page->count > 0)
		at->sample = ((const struct db_sample *)page->row)[page->count - 1];
	if (l->read == all_open_commands && page->count > 0) {
		const struct db_command *c = (const struct db_command *)page->row + page->count - 1;

		at->command = (struct db_command_key){ c->device_pk, c->number };
	}
}

/* The whole list in pages as they are wanted; how many there were. */
static unsigned
read_all(const struct list *l, unsigned rows, size_t bytes, unsigned looks, struct buf *b)
{
	struct place at = { .number = 0 };
	struct db_page page = { .rows = 0 };
	unsigned pages = 0;

	do {
		db_page_want(&page, rows);
		page.bytes = bytes;
		page.looks = looks;
		assert_int_equal(l->read(&at, &page), DB_OK);
		assert_true(page.count <= rows && (looks == 0 || page.looked <= looks) && page.looked >= page.count);
		assert_true(page.looked > 0 || !page.more);
		put_rows(l, &page, b);
		move_on(&at, l, &page);
		pages++;
	} while (page.more);
	buf_putc(b, '\0');
	db_page_fini(&page);
	buf_fini(&at.text);
	return pages;
}

static void
joined_pages_are_the_list(void **state)
{
	static const struct {
		unsigned rows;
		size_t bytes;
		unsigned looks;
	} kinds[] = { { 1, SIZE_MAX, 0 }, { 2, SIZE_MAX, 0 }, { 3, SIZE_MAX, 2 }, { 500, 0, 0 }, { 500, 30, 0 },
	    { 500, SIZE_MAX, 1 }, { 500, SIZE_MAX, 7 }, { 10, 100, 13 } };

	(void)state;
	for (size_t n = 0; n < LISTS; n++) {
		const struct list *l = &lists[n];
		struct buf whole = BUF_INIT;

		assert_int_equal(read_all(l, UINT32_MAX, SIZE_MAX, 0, &whole), 1);
		assert_true(whole.len > 1);
		if (l->count > 0) {
			unsigned rows = 0;

			for (size_t i = 0; i < whole.len; i++)
				rows += whole.data[i] == ' ';
			if (rows != l->count)
				fail_msg("%s: %u rows", l->name, rows);
		}
		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
			struct buf b = BUF_INIT;

			(void)read_all(l, kinds[k].rows, kinds[k].bytes, kinds[k].looks, &b);
			if (strcmp(b.data, whole.data) != 0)
				fail_msg("%s, kind %zu: %s\nwhole: %s", l->name, k, b.data, whole.data);
			buf_fini(&b);
		}
		buf_fini(&whole);
	}
}

/* A page that is exactly full has no more behind it, and one row always finds room. */
static void
ends_where_the_list_ends(void **state)
{
	(void)state;
	for (size_t n = 0; n < LISTS; n++) {
		const struct list *l = &lists[n];
		struct buf b = BUF_INIT;

		if (l->count == 0)
			continue;
		if (read_all(l, l->count, SIZE_MAX, 0, &b) != 1 && l->read != devices_online && l->read != events_all &&
		    l->read != visitors)	/* rows that are not of the list may follow */
			fail_msg("%s: a page without rows", l->name);
		buf_clear(&b);
		assert_true(read_all(l, UINT32_MAX, 0, 0, &b) >= l->count);
		buf_fini(&b);
	}
}

/* The rows of a page outlive whatever is done with the store meanwhile, and hold nothing of it back. */
static void
rows_are_copies(void **state)
{
	struct place at = { .number = 0 };
	struct db_page page = { .rows = 0 };
	char err[256] = "";
	struct db *writer = db;

	(void)state;
	for (size_t n = 0; n < LISTS; n++) {
		struct buf before = BUF_INIT, after = BUF_INIT;

		db = db_open("memory:", DB_READER, err, sizeof(err));
		assert_non_null(db);
		db_page_want(&page, 5);
		assert_int_equal(lists[n].read(&at, &page), DB_OK);
		put_rows(&lists[n], &page, &before);
		/* What a reader looks at would keep the log from being begun anew. */
		assert_int_equal(DB(writer, begin), DB_OK);
		assert_int_equal(DB(writer, probe, 1, 1 << 16), DB_OK);
		assert_int_equal(DB(writer, commit), DB_OK);
		for (unsigned i = 0; i < DEVICES; i++)
			assert_int_equal(DB(writer, device_set_audience, pk[i], SLICE("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz")), DB_OK);
		db_close(&db);		/* no statement is open */
		put_rows(&lists[n], &page, &after);
		assert_int_equal(before.len, after.len);
		assert_memory_equal(before.data, after.data, before.len);
		buf_fini(&before);
		buf_fini(&after);
	}
	db = writer;
	db_page_fini(&page);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(joined_pages_are_the_list, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ends_where_the_list_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(rows_are_copies, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
