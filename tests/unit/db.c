/*
 * db.c: the store's operations; what a file can be: older, newer, another program's; and readers beside the writer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/must.h"
#include "db/db.h"
#include "db/migration.h"

static char folder[64], path[96], url[112];

static void
remove_files(void)
{
	char name[128];

	for (int i = 0; i < 3; i++) {
		static const char *const names[] = { "", "-wal", "-shm" };

		snprintf(name, sizeof(name), "%s%s", path, names[i]);
		(void)unlink(name);
	}
}

static int
set_up(void **state)
{
	char err[256] = "";
	struct db *db;

	remove_files();
	db = db_open(url, 0, err, sizeof(err));
	if (db == NULL)
		fail_msg("%s", err);
	assert_int_equal(DB(db, begin), DB_OK);
	*state = db;
	return 0;
}

static int
tear_down(void **state)
{
	struct db *db = *state;

	assert_int_equal(DB(db, commit), DB_OK);
	db_close(&db);
	assert_null(db);
	return 0;
}

/* note(arg, row) of each row of a page, so many at most, that the call fills. */
#define EACH(type, note, arg, want, call) do { \
	struct db_page page = { .rows = 0 }; \
	db_page_want(&page, want); \
	assert_int_equal(call, DB_OK); \
	for (unsigned i_ = 0; i_ < page.count; i_++) \
		note(arg, (const type *)page.row + i_); \
	db_page_fini(&page); \
} while (0)

static struct db_device
device(struct db *db, const char *tenant, const char *id, const char *owner, uint8_t n)
{
	struct db_device d = {
		.tenant = slice_of(tenant), .id = slice_of(id), .owner = slice_of(owner), .audience = slice_of("AAA"),
		.created_at = 1000, .type = SLICE("lock"), .name = slice_of(id), .tags_json = SLICE("[]"),
		.metadata_json = SLICE("{}"), .settings_json = SLICE("{}")
	};
	uint8_t hash[SHA256_LEN];

	memset(hash, n, sizeof(hash));
	assert_int_equal(DB(db, device_insert, &d, hash), DB_OK);
	return d;
}

static void
finds_devices(void **state)
{
	struct db *db = *state;
	struct db_device a = device(db, "t1", "a", "o", 1), b = device(db, "t2", "a", "o", 2), got = { .text = BUF_INIT };
	uint8_t hash[SHA256_LEN];

	assert_true(a.pk != b.pk && a.tenant_pk != b.tenant_pk);
	memset(hash, 9, sizeof(hash));
	assert_int_equal(DB(db, device_insert, &a, hash), DB_EXISTS);
	assert_int_equal(DB(db, device_by_id, SLICE("t1"), SLICE("a"), true, &got), DB_OK);
	assert_true(got.pk == a.pk && slice_is(got.tenant, "t1") && slice_is(got.owner, "o") && got.state_json.len == 0);
	assert_true(slice_is(got.audience, "AAA"));
	assert_int_equal(DB(db, device_by_id, SLICE("t1"), SLICE("A"), true, &got), DB_NONE);
	assert_int_equal(DB(db, device_by_id, SLICE("t3"), SLICE("a"), true, &got), DB_NONE);
	memset(hash, 2, sizeof(hash));
	assert_int_equal(DB(db, device_by_token, hash, &got), DB_OK);
	assert_true(got.pk == b.pk);
	assert_int_equal(DB(db, device_set_state, a.pk, 0, SLICE("{\"x\":1}"), 5), DB_OK);
	assert_int_equal(DB(db, device_connected, a.pk, 0, 4, 77, 6), DB_OK);
	assert_int_equal(DB(db, device_set_state, a.pk, 3, SLICE("{\"x\":2}"), 5), DB_NONE);
	assert_int_equal(DB(db, device_connected, a.pk, 1, 5, 78, 7), DB_OK);
	assert_int_equal(DB(db, device_gone, a.pk, 0, 3, 8, 8, SLICE("r")), DB_NONE);
	assert_int_equal(DB(db, device_lost, a.pk, 0, 3, 9, SLICE("l")), DB_NONE);
	assert_int_equal(DB(db, device_lost, a.pk, 0, 4, 9, SLICE("l")), DB_OK);
	assert_int_equal(DB(db, device_by_pk, a.pk, false, &got), DB_OK);
	assert_true(got.online == 3 && got.last_seen == 9 && slice_is(got.gone_reason, "l"));
	assert_int_equal(DB(db, device_seen, a.pk, 7), DB_OK);
	assert_int_equal(DB(db, device_by_pk, a.pk, false, &got), DB_OK);
	assert_true(got.last_seen == 9);
	assert_int_equal(DB(db, device_seen, a.pk, 10), DB_OK);
	assert_int_equal(DB(db, device_by_pk, a.pk, false, &got), DB_OK);
	assert_true(got.online == 3 && got.last_seen == 10);
	assert_int_equal(DB(db, device_seen, a.pk + 1000, 10), DB_NONE);
	assert_int_equal(DB(db, device_gone, a.pk, 0, 4, 8, 8, SLICE("r")), DB_OK);
	assert_int_equal(DB(db, device_gone, a.pk, 0, 4, 8, 8, SLICE("r")), DB_NONE);
	assert_int_equal(DB(db, device_lost, a.pk, 0, 4, 9, SLICE("l")), DB_NONE);
	assert_int_equal(DB(db, device_by_pk, a.pk, true, &got), DB_OK);
	assert_true(got.online == 2 && got.epoch == 5 && got.epoch_of[0] == 4 && got.epoch_of[1] == 5 && got.conn[1] == 78);
	assert_true(slice_is(got.state_json, "{\"x\":1}") && slice_is(got.gone_reason, "r"));
	assert_int_equal(DB(db, device_delete, a.pk, 9), DB_OK);
	assert_int_equal(DB(db, device_by_pk, a.pk, true, &got), DB_NONE);
	assert_int_equal(DB(db, device_by_id, SLICE("t1"), SLICE("a"), true, &got), DB_NONE);
	a = device(db, "t1", "a", "p", 1);
	assert_int_equal(a.epoch, 5);
	db_device_fini(&got);
}

static void
count_device(void *arg, const struct db_device *d)
{
	struct buf *b = arg;

	buf_put_slice(b, d->id);
	buf_putc(b, ' ');
}

static const char *
listed_some(struct db *db, struct db_device_filter f, unsigned want)
{
	static struct buf b;

	buf_clear(&b);
	EACH(struct db_device, count_device, &b, want, DB(db, device_list, &f, &page));
	buf_putc(&b, '\0');
	return b.data;
}

static const char *
listed(struct db *db, struct db_device_filter f)
{
	return listed_some(db, f, 100);
}

static void
lists_devices(void **state)
{
	struct db *db = *state;
	struct db_device a = device(db, "t", "a", "o", 1), b = device(db, "t", "b", "p", 2), c = device(db, "t", "c", "o", 3);
	struct db_share share = { .user = SLICE("o"), .permission = DB_CONTROL, .expires_at = 50, .created_at = 1 };
	struct db_scope all = { .tenant_pk = a.tenant_pk, .all = true },
	    o = { .tenant_pk = a.tenant_pk, .user = SLICE("o"), .now = 10 };
	struct db_share got = { .text = BUF_INIT };

	(void)device(db, "u", "z", "o", 4);
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = all, .online = -1 }), "a b c ");
	assert_string_equal(listed_some(db, (struct db_device_filter){ .scope = all, .online = -1 }, 2), "a b ");
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = all, .online = -1, .after_id = SLICE("a") }), "b c ");
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = o, .online = -1 }), "a c ");
	assert_int_equal(DB(db, share_put, b.pk, b.tenant_pk, &share), DB_OK);
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = o, .online = -1 }), "a b c ");
	o.now = 50;
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = o, .online = -1 }), "a c ");
	share.commands_json = SLICE("[\"x\"]");
	share.expires_at = 0;
	assert_int_equal(DB(db, share_put, b.pk, b.tenant_pk, &share), DB_OK);
	assert_int_equal(DB(db, share_get, b.pk, SLICE("o"), &got), DB_OK);
	assert_true(slice_is(got.commands_json, "[\"x\"]") && got.expires_at == 0);
	assert_int_equal(DB(db, share_delete, b.pk, SLICE("o")), DB_OK);
	assert_int_equal(DB(db, share_delete, b.pk, SLICE("o")), DB_NONE);
	assert_int_equal(DB(db, share_get, b.pk, SLICE("o"), &got), DB_NONE);
	assert_int_equal(DB(db, device_connected, c.pk, 0, 1, 1, 1), DB_OK);
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = all, .online = 1 }), "c ");
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = all, .online = 0 }), "a b ");
	assert_int_equal(DB(db, device_set_info, a.pk, SLICE("Front 100%"), SLICE("[\"x\",\"y y\"]"), SLICE("{}"), SLICE("{}"), 1),
	    DB_OK);
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = all, .online = -1, .tag = SLICE("y y") }), "a ");
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = all, .online = -1, .tag = SLICE("y") }), "");
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = all, .online = -1, .q = SLICE("FRONT 100%") }), "a ");
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = all, .online = -1, .q = SLICE("%") }), "a ");
	assert_string_equal(listed(db, (struct db_device_filter){ .scope = all, .online = -1, .q = SLICE("C") }), "c ");
	assert_string_equal(listed_some(db, (struct db_device_filter){ .scope = all, .online = -1, .type = SLICE("lock") }, 1),
	    "a ");
	db_share_fini(&got);
}

static struct db_command
command(struct db *db, int64_t device_pk, uint8_t n, enum command_status status, int64_t queue_until)
{
	struct db_command c = {
		.device_pk = device_pk, .status = status, .open = status <= COMMAND_ACCEPTED, .created_at = n,
		.queue_until = queue_until, .role = 2,
		.command = SLICE("go"), .requested_by = SLICE("u"), .params_json = SLICE("{}"), .trace_json = SLICE("T")
	};

	memset(c.id, n, sizeof(c.id));
	assert_int_equal(DB(db, command_insert, &c), DB_OK);
	return c;
}

static void
note_command(void *arg, const struct db_command *c)
{
	buf_printf(arg, "%u ", c->id[0]);
}

static void
keeps_commands(void **state)
{
	struct db *db = *state;
	struct db_device one = device(db, "t", "a", "o", 1), two = device(db, "t", "b", "o", 2);
	struct db_command a = command(db, one.pk, 1, COMMAND_QUEUED, 100), b = command(db, one.pk, 2, COMMAND_SENT, 0);
	struct db_command c = command(db, one.pk, 3, COMMAND_QUEUED, 90), d = command(db, two.pk, 4, COMMAND_EXECUTED, 0);
	struct db_command got = { .text = BUF_INIT };
	struct buf list = BUF_INIT;
	int64_t n;

	assert_true(a.number > 0 && a.number < b.number && b.number < c.number);
	assert_int_equal(DB(db, command_insert, &a), DB_EXISTS);
	assert_int_equal(DB(db, command_queued_first, one.pk, 0, &got), DB_OK);
	assert_int_equal(got.id[0], 1);
	assert_int_equal(DB(db, command_queued_first, one.pk, a.number + 1, &got), DB_OK);
	assert_int_equal(got.id[0], 3);
	assert_int_equal(got.role, 2);
	EACH(struct db_command, note_command, &list, 10, DB(db, command_queue_due, 95, &page, &n));
	assert_true(slice_is(buf_slice(&list), "3 ") && n == 90);
	c.status = COMMAND_EXPIRED;
	c.open = false;
	c.result_json = SLICE("7");
	c.cancelled_by = SLICE("them");
	c.finished_at = 5;
	assert_int_equal(DB(db, command_update, &c, COMMAND_SENT), DB_NONE);
	assert_int_equal(DB(db, command_update, &c, COMMAND_QUEUED), DB_OK);
	assert_int_equal(DB(db, command_get, c.id, &got), DB_OK);
	assert_true(got.status == COMMAND_EXPIRED && !got.open && slice_is(got.result_json, "7") && got.finished_at == 5 &&
	    slice_is(got.cancelled_by, "them"));
	buf_clear(&list);
	EACH(struct db_command, note_command, &list, 10, DB(db, command_queue_due, 95, &page, &n));
	assert_true(list.len == 0 && n == 100);
	EACH(struct db_command, note_command, &list, 10, DB(db, command_open_all, (struct db_command_key){ 0, 0 }, &page));
	assert_true(slice_is(buf_slice(&list), "1 2 "));
	buf_clear(&list);
	EACH(struct db_command, note_command, &list, 10, DB(db, command_open, one.pk, a.number, &page));
	assert_true(slice_is(buf_slice(&list), "2 "));
	buf_clear(&list);
	EACH(struct db_command, note_command, &list, 2, DB(db, command_list, one.pk, 0, &page));
	assert_true(slice_is(buf_slice(&list), "3 2 "));
	buf_clear(&list);
	EACH(struct db_command, note_command, &list, 2, DB(db, command_list, one.pk, b.number, &page));
	assert_true(slice_is(buf_slice(&list), "1 "));
	assert_int_equal(DB(db, command_get, d.id, &got), DB_OK);
	memset(d.id, 99, sizeof(d.id));
	assert_int_equal(DB(db, command_get, d.id, &got), DB_NONE);
	db_command_fini(&got);
	buf_fini(&list);
}

static void
note_event(void *arg, const struct db_event *e)
{
	buf_printf(arg, "%.*s/%.*s ", (int)e->device.len, e->device.p, (int)e->event.len, e->event.p);
}

static const char *
some_events(struct db *db, struct db_event_filter f, unsigned want)
{
	static struct buf b;

	buf_clear(&b);
	EACH(struct db_event, note_event, &b, want, DB(db, event_list, &f, &page));
	buf_putc(&b, '\0');
	return b.data;
}

static const char *
listed_events(struct db *db, struct db_event_filter f)
{
	return some_events(db, f, 100);
}

static void
keeps_events(void **state)
{
	struct db *db = *state;
	struct db_device a = device(db, "t", "a", "o", 1), b = device(db, "t", "b", "p", 2), z = device(db, "u", "z", "o", 3);
	struct db_event e = { .actor = SLICE("x"), .data_json = SLICE("{}") };
	struct db_scope all = { .tenant_pk = a.tenant_pk, .all = true },
	    o = { .tenant_pk = a.tenant_pk, .user = SLICE("o"), .now = 10 };
	bool more;

	for (int i = 0; i < 6; i++) {
		const struct db_device *d = i == 5 ? &z : i % 2 == 0 ? &a : &b;

		e.device_pk = d->pk;
		e.tenant_pk = d->tenant_pk;
		e.at = e.received_at = 100 + i;
		e.event = i < 3 ? SLICE("one") : SLICE("two");
		uuid_new(e.id);
		assert_int_equal(DB(db, event_insert, &e, 1), DB_OK);
		assert_int_equal(e.seq, i == 5 ? 1 : i + 1);
	}
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = all }), "a/two b/two a/one b/one a/one ");
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = o }), "a/two a/one a/one ");
	assert_string_equal(some_events(db, (struct db_event_filter){ .scope = o }, 2), "a/two a/one ");
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = o, .ascending = true, .after_seq = 1 }),
	    "a/one a/two ");
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = all, .event = SLICE("one") }),
	    "a/one b/one a/one ");
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = all, .before_seq = 2 }), "a/one ");
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = all, .since = 101, .until = 103 }),
	    "a/one b/one ");
	assert_string_equal(listed_events(db, (struct db_event_filter){ .device_pk = b.pk }), "b/two b/one ");
	assert_string_equal(some_events(db, (struct db_event_filter){ .device_pk = b.pk, .ascending = true }, 1),
	    "b/one ");
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = all, .ascending = true, .after_seq = 4 }),
	    "a/two ");
	assert_int_equal(db_retain(db, 1000, 103, 100, &more), DB_OK);
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = all }), "a/two b/two ");
	assert_int_equal(db_retain(db, 1000, 1000, 100, &more), DB_OK);
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = all }), "");
	uuid_new(e.id);
	assert_int_equal(DB(db, event_insert, &e, 1), DB_OK);
	assert_int_equal(e.seq, 2);
}

static void
assert_places(struct db *db, int64_t tenant_pk, int64_t newest, int64_t removed)
{
	int64_t n, r;

	assert_int_equal(DB(db, event_places, tenant_pk, &n, &r), DB_OK);
	assert_int_equal(n, newest);
	assert_int_equal(r, removed);
}

/* Two of each of these tenants at a time, received at that time. */
static void
put_events(struct db *db, const struct db_device *d, unsigned tenants, int64_t received_at)
{
	for (unsigned i = 0; i < tenants; i++) {
		struct db_event e[2];

		for (int k = 0; k < 2; k++) {
			e[k] = (struct db_event){
				.tenant_pk = d[i].tenant_pk, .device_pk = d[i].pk, .at = 1, .received_at = received_at,
				.event = SLICE("x"), .data_json = SLICE("{}")
			};
			uuid_new(e[k].id);
		}
		assert_int_equal(DB(db, event_insert, e, 2), DB_OK);
		assert_int_equal(e[1].seq, e[0].seq + 1);
	}
}

/* Per tenant, without a hole: what is rolled back gives none, and retention leaves the number as it is. */
static void
gives_places(void **state)
{
	struct db *db = *state;
	struct db_device d[3];
	bool more;
	unsigned steps = 0;

	for (int i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "t%d", i);
		d[i] = device(db, name, "a", "o", (uint8_t)i);
	}
	assert_places(db, d[0].tenant_pk, 0, 0);
	put_events(db, d, 3, 100);
	put_events(db, d, 1, 200);
	assert_places(db, d[0].tenant_pk, 4, 0);
	assert_places(db, d[1].tenant_pk, 2, 0);
	assert_int_equal(DB(db, commit), DB_OK);
	assert_int_equal(DB(db, begin), DB_OK);
	put_events(db, d, 3, 300);
	assert_places(db, d[1].tenant_pk, 4, 0);
	assert_int_equal(DB(db, rollback), DB_OK);
	assert_int_equal(DB(db, begin), DB_OK);
	assert_places(db, d[0].tenant_pk, 4, 0);
	assert_places(db, d[1].tenant_pk, 2, 0);
	/* By when they were received, whatever they say of themselves, and so many at a step. */
	assert_int_equal(db_retain(db, 1000, 100, 100, &more), DB_OK);
	assert_places(db, d[0].tenant_pk, 4, 0);
	do {
		assert_int_equal(db_retain(db, 1000, 150, 1, &more), DB_OK);
		steps++;
	} while (more);
	assert_in_range(steps, 6, 12);
	assert_places(db, d[0].tenant_pk, 4, 2);
	assert_places(db, d[1].tenant_pk, 2, 2);
	assert_places(db, d[2].tenant_pk, 2, 2);
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = { .tenant_pk = d[0].tenant_pk, .all = true } }),
	    "a/x a/x ");
	put_events(db, d, 3, 400);
	assert_places(db, d[1].tenant_pk, 4, 2);
	assert_string_equal(listed_events(db, (struct db_event_filter){ .scope = { .tenant_pk = d[1].tenant_pk, .all = true } }),
	    "a/x a/x ");
}

static void
note_parts(void *arg, const struct db_event *e)
{
	buf_printf(arg, "%.*s|%.*s|%.*s|%zu|%u|%.*s ", (int)e->data_json.len, e->data_json.p, (int)e->type.len, e->type.p,
	    (int)e->payload.len, e->payload.p, e->payload_len, e->admins, (int)e->user.len, e->user.p);
}

/* What was published is kept as it was; data that is part of it lies there once. */
static void
keeps_what_was_published(void **state)
{
	struct db *db = *state;
	struct db_device d = device(db, "t", "a", "o", 1);
	struct db_event e = {
		.tenant_pk = d.tenant_pk, .device_pk = d.pk, .event = SLICE("x"), .data_json = SLICE("{\"a\":1}"),
		.type = SLICE("device_event"), .payload = SLICE("{\"data\":{\"a\":1}}"), .admins = 1, .user = SLICE("u")
	};
	struct db_event_filter f = { .device_pk = d.pk, .ascending = true };
	struct buf b = BUF_INIT;

	assert_int_equal(DB(db, event_insert, &e, 1), DB_OK);
	e.data_json = SLICE("{\"b\":2}");
	e.user = SLICE_NONE;
	assert_int_equal(DB(db, event_insert, &e, 1), DB_OK);
	EACH(struct db_event, note_parts, &b, 9, DB(db, event_list, &f, &page));
	buf_putc(&b, '\0');
	assert_string_equal(b.data, "{\"a\":1}|device_event||16|1|u {\"b\":2}|device_event||16|1| ");
	buf_clear(&b);
	f.part = EVENT_PUBLISHED;
	EACH(struct db_event, note_parts, &b, 9, DB(db, event_list, &f, &page));
	buf_putc(&b, '\0');
	assert_non_null(strstr(b.data, "{\"b\":2}|device_event|{\"data\":{\"a\":1}}|16|1| "));
	buf_clear(&b);
	f.part = EVENT_HEAD;
	EACH(struct db_event, note_parts, &b, 9, DB(db, event_list, &f, &page));
	buf_putc(&b, '\0');
	assert_string_equal(b.data, "|device_event||16|1|u {\"b\":2}|device_event||16|1| ");
	buf_fini(&b);
}


static void
keeps_keys_and_tickets(void **state)
{
	struct db *db = *state;
	uint8_t id[UUID_LEN], hash[SHA256_LEN], other[SHA256_LEN];
	struct db_ticket t = { .until = 9, .expires_at = 8, .role = 2, .any_tenant = true, .tenant = SLICE("*"), .user = SLICE("u"),
	    .role_name = SLICE("r") }, got = { .text = BUF_INIT };
	int64_t pk, again, value;

	assert_int_equal(db_tenant(db, SLICE("t"), false, &pk), DB_NONE);
	assert_int_equal(db_tenant(db, SLICE("t"), true, &pk), DB_OK);
	assert_int_equal(db_tenant(db, SLICE("t"), false, &again), DB_OK);
	assert_int_equal(pk, again);
	uuid_new(id);
	memset(hash, 3, sizeof(hash));
	assert_int_equal(DB(db, idempotency_get, pk, SLICE("u"), SLICE("k"), 10, id, other), DB_NONE);
	assert_int_equal(DB(db, idempotency_put, pk, SLICE("u"), SLICE("k"), 100, id, hash), DB_OK);
	assert_int_equal(DB(db, idempotency_get, pk, SLICE("u"), SLICE("k"), 10, id, other), DB_OK);
	assert_memory_equal(hash, other, sizeof(hash));
	assert_int_equal(DB(db, idempotency_get, pk, SLICE("v"), SLICE("k"), 10, id, other), DB_NONE);
	assert_int_equal(DB(db, idempotency_get, pk, SLICE("u"), SLICE("k"), 100, id, other), DB_NONE);
	assert_int_equal(DB(db, idempotency_put, pk, SLICE("u"), SLICE("k"), 300, id, hash), DB_OK);
	assert_int_equal(DB(db, idempotency_get, pk, SLICE("u"), SLICE("k"), 100, id, other), DB_OK);
	assert_int_equal(DB(db, ticket_put, hash, &t), DB_OK);
	assert_int_equal(DB(db, ticket_take, hash, &got), DB_OK);
	assert_true(got.until == 9 && got.expires_at == 8 && got.role == 2 && got.any_tenant && slice_is(got.role_name, "r"));
	assert_int_equal(DB(db, ticket_take, hash, &got), DB_NONE);
	db_ticket_fini(&got);
	assert_int_equal(DB(db, meta_get, "m", &value), DB_NONE);
	assert_int_equal(DB(db, meta_set, "m", -5), DB_OK);
	assert_int_equal(DB(db, meta_set, "m", -6), DB_OK);
	assert_int_equal(DB(db, meta_get, "m", &value), DB_OK);
	assert_int_equal(value, -6);
}

static void
note_visitor(void *arg, const struct db_visitor *v)
{
	buf_printf(arg, "%.*s:%u ", (int)v->name.len, v->name.p, v->status);
}

static void
keeps_visitors(void **state)
{
	struct db *db = *state;
	struct db_device a = device(db, "t", "a", "o", 1), b = device(db, "t", "b", "p", 2);
	struct db_visitor v = { .tenant_pk = a.tenant_pk, .device_pk = a.pk, .created_at = 5, .name = SLICE("Ann") },
	    got = { .text = BUF_INIT };
	struct db_visitor_filter f = { .scope = { .tenant_pk = a.tenant_pk, .all = true }, .status = -1 };
	struct buf list = BUF_INIT;

	uuid_new(v.id);
	assert_int_equal(DB(db, visitor_insert, &v), DB_OK);
	assert_int_equal(DB(db, visitor_insert, &v), DB_EXISTS);
	assert_int_equal(DB(db, visitor_get, a.tenant_pk, v.id, &got), DB_OK);
	assert_true(slice_is(got.name, "Ann") && got.snapshot_url.len == 0 && !got.has_command && slice_is(got.device, "a"));
	got.status = VISITOR_APPROVED;
	got.decided_by = SLICE("o");
	got.has_command = true;
	memset(got.command_id, 1, sizeof(got.command_id));
	assert_int_equal(DB(db, visitor_decide, &got), DB_OK);
	assert_int_equal(DB(db, visitor_decide, &got), DB_NONE);
	v.device_pk = b.pk;
	v.name = SLICE("Bob");
	uuid_new(v.id);
	assert_int_equal(DB(db, visitor_insert, &v), DB_OK);
	EACH(struct db_visitor, note_visitor, &list, 10, DB(db, visitor_list, &f, &page));
	assert_true(slice_is(buf_slice(&list), "Bob:0 Ann:1 "));
	f.scope.all = false;
	f.scope.user = SLICE("o");
	buf_clear(&list);
	EACH(struct db_visitor, note_visitor, &list, 10, DB(db, visitor_list, &f, &page));
	assert_true(slice_is(buf_slice(&list), "Ann:1 "));
	f.status = VISITOR_PENDING;
	buf_clear(&list);
	EACH(struct db_visitor, note_visitor, &list, 10, DB(db, visitor_list, &f, &page));
	assert_int_equal(list.len, 0);
	buf_fini(&list);
	db_visitor_fini(&got);
}

/* Telemetry */

static void
note_sample(void *arg, const struct db_sample *v)
{
	buf_printf(arg, "%.*s@%lld ", (int)v->data_json.len, v->data_json.p, (long long)v->at);
}

static void
note_first_sample(void *arg, const struct db_sample *v)
{
	*(struct db_sample *)arg = *v;
}

static void
put_sample(struct db *db, const struct db_device *d, int64_t received_at, int64_t at, const char *data)
{
	struct db_sample v = {
		.device_pk = d->pk, .tenant = d->tenant, .device = d->id, .received_at = received_at, .at = at, .epoch = 3,
		.data_json = slice_of(data)
	};
	unsigned stored = 9;

	assert_int_equal(DB(db, telemetry_insert, &v, 1, &stored), DB_OK);
	assert_int_equal(stored, 1);
}

#define assert_samples(db, filter, text) assert_some(db, filter, 100, text)
#define assert_some(db, filter, want, text) do { \
	struct buf list_ = BUF_INIT; \
	EACH(struct db_sample, note_sample, &list_, want, db_samples(db, filter, &page)); \
	buf_putc(&list_, '\0'); \
	assert_string_equal(list_.data, text); \
	buf_fini(&list_); \
} while (0)

static void
keeps_telemetry(void **state)
{
	struct db *db = *state;
	struct db_device a = device(db, "t", "a", "o", 1), b = device(db, "u", "a", "o", 2);
	struct db_sample_filter f = { .device_pk = a.pk }, of_b = { .device_pk = b.pk };
	struct db_sample got = { .seq = 0 }, wrong[4];
	unsigned stored = 9;

	assert_samples(db, &f, "");
	put_sample(db, &a, 10, 100, "1");
	put_sample(db, &b, 11, 100, "B");
	put_sample(db, &a, 12, 300, "3");
	put_sample(db, &a, 13, 100, "2");
	put_sample(db, &a, 14, -50, "0");
	assert_samples(db, &f, "3@300 2@100 1@100 0@-50 ");
	assert_samples(db, &of_b, "B@100 ");
	EACH(struct db_sample, note_first_sample, &got, 1, db_samples(db, &f, &page));
	assert_true(got.device_pk == a.pk && got.received_at == 12 && got.epoch == 3 && got.at == 300);
	/* Page by page, while newer and older ones come. */
	f.before_at = got.at;
	f.before_seq = got.seq;
	put_sample(db, &a, 15, 400, "4");
	assert_some(db, &f, 1, "2@100 ");
	EACH(struct db_sample, note_first_sample, &got, 1, db_samples(db, &f, &page));
	f.before_at = got.at;
	f.before_seq = got.seq;
	put_sample(db, &a, 16, 50, "h");
	assert_samples(db, &f, "1@100 h@50 0@-50 ");
	f.since = 50;
	assert_samples(db, &f, "1@100 h@50 ");
	f.until = 100;			/* the cursor's own time is beyond it */
	assert_samples(db, &f, "h@50 ");
	f.before_seq = 0;
	f.until = 301;
	f.since = 100;
	assert_samples(db, &f, "3@300 2@100 1@100 ");

	/* Numbers that are not what the sender thinks. */
	wrong[0] = (struct db_sample){ .device_pk = a.pk, .tenant = b.tenant, .device = a.id, .data_json = SLICE("x") };
	wrong[1] = (struct db_sample){ .device_pk = a.pk, .tenant = a.tenant, .device = SLICE("b"), .data_json = SLICE("x") };
	wrong[2] = (struct db_sample){ .device_pk = 77, .tenant = a.tenant, .device = a.id, .data_json = SLICE("x") };
	wrong[3] = (struct db_sample){ .device_pk = a.pk, .tenant = SLICE("none"), .device = a.id, .data_json = SLICE("x") };
	assert_int_equal(DB(db, telemetry_insert, wrong, 4, &stored), DB_OK);
	assert_int_equal(stored, 0);
	f = (struct db_sample_filter){ .device_pk = a.pk };
	assert_samples(db, &f, "4@400 3@300 2@100 1@100 h@50 0@-50 ");
}

static void
ends_telemetry(void **state)
{
	struct db *db = *state;
	struct db_device a = device(db, "t", "a", "o", 1), b = device(db, "t", "b", "o", 2);
	struct db_sample_filter f = { .device_pk = a.pk }, of_b = { .device_pk = b.pk };
	struct db_sample late = { .device_pk = a.pk, .tenant = SLICE("t"), .device = SLICE("a"), .data_json = SLICE("x") };
	unsigned stored = 9;
	bool more = true;

	assert_int_equal(DB(db, telemetry_retain, 1000, 10, &more), DB_OK);
	assert_false(more);
	for (int i = 0; i < 5; i++) {
		/* By arrival, whatever the device says. */
		put_sample(db, &a, 10 + i, 5000 - i, "a");
		put_sample(db, &b, 10 + i, 1 + i, "b");
	}
	assert_int_equal(DB(db, telemetry_retain, 10, 100, &more), DB_OK);
	assert_false(more);
	assert_samples(db, &f, "a@5000 a@4999 a@4998 a@4997 a@4996 ");
	assert_int_equal(DB(db, telemetry_retain, 12, 3, &more), DB_OK);
	assert_true(more);
	assert_samples(db, &f, "a@4998 a@4997 a@4996 ");
	assert_samples(db, &of_b, "b@5 b@4 b@3 b@2 ");
	assert_int_equal(DB(db, telemetry_retain, 12, 3, &more), DB_OK);
	assert_false(more);
	assert_samples(db, &of_b, "b@5 b@4 b@3 ");

	/* What a deleted device leaves goes in steps, and nothing comes any more. */
	assert_int_equal(DB(db, device_delete, a.pk, 20), DB_OK);
	assert_int_equal(DB(db, telemetry_insert, &late, 1, &stored), DB_OK);
	assert_int_equal(stored, 0);
	assert_int_equal(DB(db, telemetry_retain, 0, 2, &more), DB_OK);
	assert_true(more);
	assert_int_equal(DB(db, telemetry_retain, 0, 2, &more), DB_OK);
	assert_false(more);
	assert_samples(db, &f, "");
	assert_samples(db, &of_b, "b@5 b@4 b@3 ");
	a = device(db, "t", "a", "o", 3);
	f.device_pk = a.pk;
	put_sample(db, &a, 30, 1, "n");
	assert_int_equal(DB(db, telemetry_retain, 0, 2, &more), DB_OK);
	assert_false(more);
	assert_samples(db, &f, "n@1 ");
}

/* Files */

static void
keeps_over_closing_and_rolls_back(void **state)
{
	char err[256];
	struct db *db;
	struct db_device got = { .text = BUF_INIT };
	struct stat st;

	(void)state;
	remove_files();
	assert_non_null(db = db_open(url, 0, err, sizeof(err)));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	DB(db, begin);
	(void)device(db, "t", "a", "o", 1);
	DB(db, commit);
	DB(db, begin);
	(void)device(db, "t2", "b", "o", 2);
	DB(db, rollback);
	DB(db, begin);
	(void)device(db, "t3", "c", "o", 3);
	DB(db, commit);
	db_close(&db);
	assert_non_null(db = db_open(url, 0, err, sizeof(err)));
	assert_int_equal(DB(db, device_by_id, SLICE("t"), SLICE("a"), true, &got), DB_OK);
	assert_int_equal(DB(db, device_by_id, SLICE("t2"), SLICE("b"), true, &got), DB_NONE);
	assert_int_equal(DB(db, device_by_id, SLICE("t3"), SLICE("c"), true, &got), DB_OK);
	assert_true(slice_is(got.tenant, "t3"));
	db_device_fini(&got);
	db_close(&db);
}

/* A file as the first version made it, with a device in it. */
static void
make_older_file(void)
{
	static const char device_sql[] = "INSERT INTO tenants VALUES (1, 't');"
	    "INSERT INTO devices (tenant_pk, device_id, owner, audience, created_at, updated_at, device_type, name) "
	    "VALUES (1, 'a', 'o', x'', 1, 1, 'lock', 'A')";
	char err[256];
	struct db *db;
	sqlite3 *raw;

	remove_files();
	assert_non_null(db = db_open(url, 0, err, sizeof(err)));	/* its folder, and how it is opened */
	db_close(&db);
	remove_files();
	assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, "PRAGMA journal_mode = WAL; PRAGMA application_id = 0x42656c79; "
	    "PRAGMA user_version = 1", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(migrations_sqlite[0].number, 1);
	assert_int_equal(sqlite3_exec(raw, migrations_sqlite[0].sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, device_sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(raw), SQLITE_OK);
}

static void
check_newer_file(void)
{
	char err[256];
	struct db *db = db_open(url, 0, err, sizeof(err));
	struct db_device got = { .text = BUF_INIT };
	struct db_sample_filter f = { .device_pk = 0 };

	if (db == NULL)
		fail_msg("%s", err);
	assert_int_equal(DB(db, device_by_id, SLICE("t"), SLICE("a"), true, &got), DB_OK);
	assert_true(slice_is(got.name, "A"));
	f.device_pk = got.pk;
	put_sample(db, &got, 5, 5, "5");
	assert_samples(db, &f, "5@5 ");
	db_device_fini(&got);
	db_close(&db);
}

static void
brings_older_files_up_to_date(void **state)
{
	(void)state;
	make_older_file();
	check_newer_file();
}

/* Two tenants' by turns: each tenant's are numbered from 1; what was published of them nobody knows any more. */
static void
gives_places_to_older_events(void **state)
{
	static const char events_sql[] = "INSERT INTO tenants VALUES (2, 'u'); "
	    "INSERT INTO events VALUES (3, x'00', 1, 1, 7, 100, 'one', 'o', '{}'), (5, x'00', 2, 9, 7, 100, 'x', 'o', '{}'), "
	    "(6, x'00', 1, 1, 7, 50, 'two', 'o', '{\"a\":1}'), (9, x'00', 1, 1, 7, 200, 'three', 'o', '{}')";
	struct db_event_filter f = { .device_pk = 1, .ascending = true };
	struct db_event e = { .tenant_pk = 1, .device_pk = 1, .event = SLICE("new") };
	char err[256];
	struct buf b = BUF_INIT;
	struct db *db;
	sqlite3 *raw;
	bool more;

	(void)state;
	make_older_file();
	assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, events_sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(raw), SQLITE_OK);
	assert_non_null(db = db_open(url, 0, err, sizeof(err)));
	assert_places(db, 1, 3, 3);
	assert_places(db, 2, 1, 1);
	assert_string_equal(listed_events(db, f), "a/one a/two a/three ");
	f.after_seq = 2;
	assert_string_equal(listed_events(db, f), "a/three ");
	EACH(struct db_event, note_parts, &b, 9, DB(db, event_list, &f, &page));
	buf_putc(&b, '\0');
	assert_string_equal(b.data, "{}|||0|0| ");
	uuid_new(e.id);
	assert_int_equal(DB(db, event_insert, &e, 1), DB_OK);
	assert_int_equal(e.seq, 4);
	/* The one that says 50 came behind one of 100. */
	assert_int_equal(db_retain(db, 1000, 100, 100, &more), DB_OK);
	assert_places(db, 1, 4, 3);
	f.after_seq = 0;
	assert_string_equal(listed_events(db, f), "a/one a/two a/three a/new ");
	assert_int_equal(db_retain(db, 1000, 101, 100, &more), DB_OK);
	assert_string_equal(listed_events(db, f), "a/three a/new ");
	assert_places(db, 1, 4, 3);
	buf_fini(&b);
	db_close(&db);
}

/* Another process does it at the same moment, and has not committed when this one looks. */
static void
waits_for_who_is_bringing_it_up_to_date(void **state)
{
	char err[256], go;
	int begin[2], status;
	sqlite3 *raw;
	struct db *db;
	pid_t pid;

	(void)state;
	make_older_file();
	must(pipe(begin) == 0);
	pid = fork();		/* before SQLite holds anything here */
	must(pid != -1);
	if (pid == 0) {
		if (read(begin[0], &go, 1) != 1)
			_exit(2);
		db = db_open(url, 0, err, sizeof(err));
		if (db == NULL)
			fprintf(stderr, "%s\n", err);
		_exit(db == NULL);
	}
	assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
	for (size_t i = 1; i < migrations_sqlite_count; i++)
		assert_int_equal(sqlite3_exec(raw, migrations_sqlite[i].sql, NULL, NULL, NULL), SQLITE_OK);
	must(write(begin[1], "x", 1) == 1);
	usleep(300000);		/* nothing tells that it waits for the lock; it does so for a second */
	snprintf(err, sizeof(err), "PRAGMA user_version = %d; COMMIT", migrations_sqlite[migrations_sqlite_count - 1].number);
	assert_int_equal(sqlite3_exec(raw, err, NULL, NULL, NULL), SQLITE_OK);
	must(waitpid(pid, &status, 0) == pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_int_equal(sqlite3_close(raw), SQLITE_OK);
	check_newer_file();
	close(begin[0]);
	close(begin[1]);
}

static void
refuses_what_it_can_not_use(void **state)
{
	char err[512];
	sqlite3 *raw;
	struct db *db;
	FILE *f;

	(void)state;
	remove_files();
	assert_non_null(db = db_open(url, 0, err, sizeof(err)));
	db_close(&db);
	assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, "PRAGMA user_version = 999", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(raw);
	assert_null(db_open(url, 0, err, sizeof(err)));
	assert_non_null(strstr(err, "made by a newer belayd"));

	remove_files();
	assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, "CREATE TABLE other (x)", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(raw);
	assert_null(db_open(url, 0, err, sizeof(err)));
	assert_non_null(strstr(err, "another program"));

	remove_files();
	f = fopen(path, "w");
	fputs("this is no database, but long enough to be looked at as one: its first page has a hundred bytes of head. "
	    "this is no database, but long enough to be looked at as one: its first page has a hundred bytes of head.", f);
	fclose(f);
	assert_null(db_open(url, 0, err, sizeof(err)));
	assert_non_null(strstr(err, path));

	assert_null(db_open("sqlite:///proc/nowhere/belay.db", 0, err, sizeof(err)));
	assert_non_null(strstr(err, "/proc/nowhere/belay.db: "));
	assert_null(db_open("postgres://x:secret@y", 0, err, sizeof(err)));
	assert_null(strstr(err, "secret"));
	remove_files();
}

/* ---------------------------------------------------------------- readers */

static struct db *
open_or_fail(unsigned flags)
{
	char err[256] = "";
	struct db *db = db_open(url, flags, err, sizeof(err));

	if (db == NULL)
		fail_msg("%s", err);
	return db;
}

static void
reader_sees_what_is_committed(void **state)
{
	struct db_device got = { .text = BUF_INIT }, d;
	struct db *writer, *reader;

	(void)state;
	remove_files();
	writer = open_or_fail(0);
	reader = open_or_fail(DB_READER);
	DB(writer, begin);
	d = device(writer, "t", "a", "o", 1);
	assert_int_equal(DB(reader, device_by_id, SLICE("t"), SLICE("a"), true, &got), DB_NONE);
	assert_int_equal(DB(writer, commit), DB_OK);
	assert_int_equal(DB(reader, device_by_id, SLICE("t"), SLICE("a"), true, &got), DB_OK);
	assert_true(got.pk == d.pk);

	/* A snapshot stays as it was, and the writer does not wait for it: not to commit, and not for a check-point. */
	assert_int_equal(DB(reader, begin), DB_OK);
	assert_int_equal(DB(reader, device_by_pk, d.pk, true, &got), DB_OK);
	DB(writer, begin);
	assert_int_equal(DB(writer, device_set_state, d.pk, 0, SLICE("{}"), 5), DB_OK);
	assert_int_equal(DB(writer, commit), DB_OK);
	assert_int_equal(DB(writer, idle, false), DB_OK);
	assert_int_equal(DB(reader, device_by_pk, d.pk, true, &got), DB_OK);
	assert_int_equal(got.state_json.len, 0);
	assert_int_equal(DB(reader, commit), DB_OK);
	assert_int_equal(DB(reader, device_by_pk, d.pk, true, &got), DB_OK);
	assert_true(slice_is(got.state_json, "{}"));
	db_device_fini(&got);
	db_close(&reader);
	db_close(&writer);
}

/* Of a writer that never rests: the log begins anew all the same, and what was in it is in the file. */
static void
log_stays_short(void **state)
{
	struct db *writer;
	struct stat st;
	int64_t bytes, before = 0;
	unsigned anew = 0;

	(void)state;
	remove_files();
	writer = open_or_fail(0);
	for (int i = 0; i < 800; i++) {
		DB(writer, begin);
		assert_int_equal(DB(writer, probe, i, 131072 + 4096 * (size_t)(i % 2)), DB_OK);
		assert_int_equal(DB(writer, meta_set, "i", i), DB_OK);
		assert_int_equal(DB(writer, commit), DB_OK);
		assert_int_equal(DB(writer, idle, true), DB_OK);
		assert_int_equal(DB(writer, log_bytes, &bytes), DB_OK);
		assert_true(bytes <= INT64_C(65) << 20);		/* where the thread never gets a processor */
		anew += bytes < before;
		before = bytes;
	}
	assert_true(anew > 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size > 131072);
	db_close(&writer);
	writer = open_or_fail(0);
	assert_int_equal(DB(writer, meta_get, "i", &bytes), DB_OK);
	assert_int_equal(bytes, 799);
	db_close(&writer);
}

static void
reader_writes_nothing(void **state)
{
	struct db_event e = { .tenant_pk = 1, .device_pk = 1, .event = SLICE("x") };
	struct db *writer, *reader;
	struct stat st;
	int64_t n;
	char name[128];

	(void)state;
	remove_files();
	writer = open_or_fail(0);
	reader = open_or_fail(DB_READER);
	assert_int_equal(DB(reader, probe, 1, 0), DB_FAILED);
	assert_int_equal(DB(reader, event_insert, &e, 1), DB_FAILED);
	assert_int_equal(db_tenant(reader, SLICE("t"), true, &n), DB_FAILED);
	assert_int_equal(db_tenant(reader, SLICE("t"), false, &n), DB_NONE);
	assert_int_equal(DB(reader, begin), DB_OK);
	assert_int_equal(DB(reader, probe, 1, 0), DB_FAILED);
	assert_int_equal(DB(reader, rollback), DB_OK);
	assert_int_equal(DB(writer, probe, 1, 0), DB_OK);

	/* Nor is it the one that makes the last check-point, which takes as long as the log is. */
	db_close(&writer);
	db_close(&reader);
	snprintf(name, sizeof(name), "%s-wal", path);
	assert_int_equal(stat(name, &st), 0);
	assert_true(st.st_size > 0);
	writer = open_or_fail(0);
	assert_int_equal(DB(writer, meta_get, "probe", &n), DB_OK);
	db_close(&writer);
	assert_int_equal(stat(name, &st), -1);
}

/* Another writer is refused, also after a reader closed the file; a reader is not, and is not in a writer's way. */
static void
one_writer_beside_readers(void **state)
{
	char err[256];
	struct db *writer, *reader, *late;
	int status;
	pid_t pid;

	(void)state;
	remove_files();
	writer = open_or_fail(0);
	reader = open_or_fail(DB_READER);
	late = open_or_fail(DB_READER);
	db_close(&late);
	pid = fork();
	must(pid != -1);
	if (pid == 0) {
		struct db *other = db_open(url, 0, err, sizeof(err));

		_exit(other != NULL || strstr(err, "another belayd uses it") == NULL);
	}
	must(waitpid(pid, &status, 0) == pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	db_close(&writer);
	/* A successor comes while readers are there. */
	writer = open_or_fail(0);
	assert_int_equal(DB(writer, probe, 1, 0), DB_OK);
	db_close(&writer);
	db_close(&reader);
}

/* Who is killed leaves a log that is put in order by the first who comes, be it a reader. */
static void
reader_follows_a_killed_writer(void **state)
{
	struct db *reader;
	int ready[2];
	int64_t n = 0;
	pid_t pid;
	char c;

	(void)state;
	remove_files();
	must(pipe(ready) == 0);
	pid = fork();
	must(pid != -1);
	if (pid == 0) {
		struct db *writer = open_or_fail(0);

		alarm(60);		/* if it is forgotten */
		if (DB(writer, begin) != DB_OK || DB(writer, meta_set, "kept", 7) != DB_OK || DB(writer, commit) != DB_OK ||
		    DB(writer, begin) != DB_OK || DB(writer, meta_set, "kept", 8) != DB_OK)
			_exit(1);
		must(write(ready[1], "x", 1) == 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	must(read(ready[0], &c, 1) == 1);
	must(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	reader = open_or_fail(DB_READER);
	assert_int_equal(DB(reader, meta_get, "kept", &n), DB_OK);
	assert_int_equal(n, 7);
	db_close(&reader);
	close(ready[0]);
}

static void
reader_needs_the_schema(void **state)
{
	char err[256];
	sqlite3 *raw;
	struct stat st;

	(void)state;
	remove_files();
	assert_null(db_open(url, DB_READER, err, sizeof(err)));
	assert_non_null(strstr(err, path));
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
	assert_int_equal(sqlite3_exec(raw, "PRAGMA journal_mode = WAL", NULL, NULL, NULL), SQLITE_OK);
	assert_null(db_open(url, DB_READER, err, sizeof(err)));
	assert_non_null(strstr(err, "no schema yet"));
	sqlite3_close(raw);
	make_older_file();
	assert_null(db_open(url, DB_READER, err, sizeof(err)));
	assert_non_null(strstr(err, "not brought up to date yet"));
	check_newer_file();
	remove_files();
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(finds_devices), T(lists_devices), T(keeps_commands), T(keeps_events), T(gives_places),
		    T(keeps_what_was_published), T(keeps_keys_and_tickets),
		    T(keeps_visitors), T(keeps_telemetry), T(ends_telemetry),
	};
	const struct CMUnitTest files[] = {
		cmocka_unit_test(keeps_over_closing_and_rolls_back), cmocka_unit_test(refuses_what_it_can_not_use),
		    cmocka_unit_test(brings_older_files_up_to_date),
		    cmocka_unit_test(gives_places_to_older_events), cmocka_unit_test(waits_for_who_is_bringing_it_up_to_date),
	};
	const struct CMUnitTest readers[] = {
		cmocka_unit_test(reader_sees_what_is_committed), cmocka_unit_test(log_stays_short),
		cmocka_unit_test(reader_writes_nothing),
		cmocka_unit_test(one_writer_beside_readers), cmocka_unit_test(reader_follows_a_killed_writer),
		cmocka_unit_test(reader_needs_the_schema),
	};
	int failures = 0;

	snprintf(folder, sizeof(folder), "/tmp/belay-db-XXXXXX");
	must(mkdtemp(folder) != NULL);
	snprintf(path, sizeof(path), "%s/sub/belay.db", folder);
	snprintf(url, sizeof(url), "sqlite://%s", path);
	failures += cmocka_run_group_tests_name("operations", tests, NULL, NULL);
	failures += cmocka_run_group_tests_name("files", files, NULL, NULL);
	failures += cmocka_run_group_tests_name("readers", readers, NULL, NULL);
	remove_files();
	*strrchr(path, '/') = '\0';
	(void)rmdir(path);
	(void)rmdir(folder);
	return failures;
}
