/*
 * db_same.c: a reader answers as the writer does: random operations are made by the writer, in transactions of which some are
 * taken back.  While one is open the reader sees what was committed before; after its end both give the same answers to the
 * same random questions, and show the same rows.
 *
 *	db_same [seed]		one long run of that seed, instead of the short ones
 *
 * Few names and few times are drawn from, so that rows meet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "db/db.h"

#define WRITER		0
#define READER		1
#define SIDES		2
#define COMMANDS	400		/* ids drawn from */
#define TICK_MS		250		/* all times are multiples: they are often the same */
#define DAY_MS		(24 * 3600 * INT64_C(1000))

static const char *const side_names[SIDES] = { "the writer", "the reader" };

struct world {
	struct db *db[SIDES];
	int side;			/* the one that is being asked */
	bool everything;		/* lists are asked for whole */
	uint64_t random;
	struct buf out[SIDES];		/* what the operation gave */
	struct buf committed;		/* what all gave when the last transaction had ended */
	int64_t now;
	int64_t device_pk;		/* the highest seen */
	int64_t command_number[COMMANDS];
	int64_t sample_at[SIDES], sample_seq[SIDES];	/* listed last */
};

/* Randomness: splitmix64, so that an operation can be drawn again for the other side. */

static uint64_t
draw(struct world *w)
{
	uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static int64_t
below(struct world *w, int64_t n)
{
	return (int64_t)(draw(w) % (uint64_t)n);
}

static bool
one_in(struct world *w, int64_t n)
{
	return below(w, n) == 0;
}

#define PICK(w, texts) slice_of((texts)[below((w), sizeof(texts) / sizeof((texts)[0]))])

static struct slice
tenant_name(struct world *w)
{
	static const char *const names[] = { "t1", "t2", "tenant three" };

	return PICK(w, names);
}

static struct slice
user_name(struct world *w)
{
	static const char *const names[] = { "anna", "bert", "carla", "d", "Ümit" };

	return PICK(w, names);
}

static struct slice
device_id(struct world *w)
{
	static const char *const ids[] = { "a", "A", "ab", "b", "door-1", "door-10", "door-2", "Door-3", "z", "zz", "ä" };

	return PICK(w, ids);
}

static struct slice
json(struct world *w)
{
	static const char *const texts[] = { "{}", "{\"a\":1}", "{\"door\":\"closed\",\"n\":[1,2,3]}", "null", "" };

	return PICK(w, texts);
}

static struct slice
tags(struct world *w)
{
	static const char *const texts[] = { "[]", "[\"x\"]", "[\"x\",\"y y\"]", "[\"X\", \"\\u00e4\" ]", "[1,\"1\",true,null]" };

	return PICK(w, texts);
}

static struct slice
word(struct world *w)
{
	static const char *const words[] = { "", "x", "y y", "ä", "1", "true", "door", "DOOR", "lock", "Front" };

	return PICK(w, words);
}

static struct slice
type(struct world *w)
{
	static const char *const types[] = { "lock", "door-lock", "camera" };

	return PICK(w, types);
}

static int64_t
moment(struct world *w)
{
	return one_in(w, 8) ? 0 : w->now + TICK_MS * (below(w, 16) - 12);
}

static int64_t
device_pk(struct world *w)
{
	return 1 + below(w, w->device_pk + 2);
}

static void
hash(struct world *w, uint8_t out[SHA256_LEN])
{
	memset(out, (int)below(w, 12), SHA256_LEN);
}

static struct db_scope
scope(struct world *w)
{
	struct db_scope s = { .tenant_pk = 1 + below(w, 3), .all = one_in(w, 2) };

	s.user = user_name(w);
	s.now = w->now;
	return s;
}

/* What is told of it */

static struct buf *
out(struct world *w)
{
	return &w->out[w->side];
}

static void
tell(struct world *w, enum db_result result)
{
	static const char *const names[] = { "ok", "none", "exists", "FAILED" };

	buf_printf(out(w), "%s ", names[result]);
}

static void
tell_text(struct world *w, struct slice text)
{
	buf_putc(out(w), '\'');
	buf_put_slice(out(w), text);
	buf_puts(out(w), "' ");
}

static void
tell_number(struct world *w, int64_t n)
{
	buf_put_i64(out(w), n);
	buf_putc(out(w), ' ');
}

static void
tell_device(void *arg, const struct db_device *d)
{
	struct world *w = arg;
	const int64_t numbers[] = {
		d->pk, d->tenant_pk, d->online, d->epoch, d->epoch_of[0], d->epoch_of[1], (int64_t)d->conn[0], (int64_t)d->conn[1],
		d->since, d->last_seen, d->created_at, d->updated_at, d->state_at, d->whole
	};
	const struct slice texts[] = {
		d->tenant, d->id, d->owner, d->gone_reason, d->audience, d->type, d->name, d->state_json, d->tags_json,
		d->metadata_json, d->settings_json
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		tell_number(w, numbers[i]);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		tell_text(w, texts[i]);
	buf_putc(out(w), '\n');
}

static void
tell_online(void *arg, const struct db_device *d)
{
	struct db_device head = *d;

	head.whole = false;
	tell_device(arg, &head);
}

static void
tell_share(void *arg, const struct db_share *s)
{
	struct world *w = arg;

	tell_text(w, s->user);
	tell_number(w, s->permission);
	tell_number(w, s->expires_at);
	tell_text(w, s->commands_json);
	tell_number(w, s->created_at);
	buf_putc(out(w), '\n');
}

static void
tell_command(void *arg, const struct db_command *c)
{
	struct world *w = arg;
	const int64_t numbers[] = {
		c->device_pk, c->status, c->outcome, c->open, c->late, c->attempt, c->sent_epoch, c->created_at, c->sent_at,
		c->accepted_at, c->finished_at, c->timeout_ms, c->queue_ms, c->queue_until, (int64_t)c->asker, c->asker_boot,
		c->role
	};
	const struct slice texts[] = {
		c->command, c->requested_by, c->params_json, c->only_if_json, c->trace_json, c->result_json, c->error_json,
		c->cancelled_by
	};

	buf_put_hex(out(w), c->id, UUID_LEN);
	tell_number(w, c->number);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		tell_number(w, numbers[i]);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		tell_text(w, texts[i]);
	buf_putc(out(w), '\n');
}

static void
tell_event(void *arg, const struct db_event *e)
{
	struct world *w = arg;

	tell_number(w, e->seq);
	buf_put_hex(out(w), e->id, UUID_LEN);
	tell_number(w, e->tenant_pk);
	tell_number(w, e->device_pk);
	tell_number(w, e->epoch);
	tell_number(w, e->at);
	tell_text(w, e->device);
	tell_text(w, e->event);
	tell_text(w, e->actor);
	tell_text(w, e->data_json);
	tell_text(w, e->type);
	tell_text(w, e->payload);
	tell_number(w, (int64_t)e->payload_len);
	tell_number(w, e->admins);
	buf_putc(out(w), '\n');
}

static void
tell_sample(void *arg, const struct db_sample *v)
{
	struct world *w = arg;

	w->sample_at[w->side] = v->at;
	w->sample_seq[w->side] = v->seq;
	tell_number(w, v->seq);
	tell_number(w, v->device_pk);
	tell_number(w, v->received_at);
	tell_number(w, v->at);
	tell_number(w, v->epoch);
	tell_text(w, v->data_json);
	buf_putc(out(w), '\n');
}

static void
tell_visitor(void *arg, const struct db_visitor *v)
{
	struct world *w = arg;

	tell_number(w, v->pk);
	buf_put_hex(out(w), v->id, UUID_LEN);
	tell_number(w, v->tenant_pk);
	tell_number(w, v->device_pk);
	tell_number(w, v->status);
	tell_number(w, v->created_at);
	tell_number(w, v->decided_at);
	tell_number(w, v->has_command);
	buf_put_hex(out(w), v->command_id, UUID_LEN);
	tell_text(w, v->device);
	tell_text(w, v->decided_by);
	tell_text(w, v->name);
	tell_text(w, v->snapshot_url);
	tell_text(w, v->data_json);
	buf_putc(out(w), '\n');
}

static void
tell_type(void *arg, const struct db_type *t)
{
	struct world *w = arg;

	tell_text(w, t->type);
	tell_number(w, t->count);
	buf_putc(out(w), '\n');
}

/* A page of a list, as the call fills it. */
#define LIST(w, type, tell_row, call) do { \
	struct db_page page = { .rows = 0 }; \
	want(w, &page); \
	tell_page(w, call, &page); \
	for (unsigned i_ = 0; i_ < page.count; i_++) \
		tell_row(w, (const type *)page.row + i_); \
	db_page_fini(&page); \
} while (0)

static void
tell_page(struct world *w, enum db_result result, const struct db_page *page)
{
	if (w->everything) {		/* of as many lists as there may be devices: rows alone */
		must(result == DB_OK && !page->more);
		return;
	}
	tell(w, result);
	tell_number(w, page->more);
	tell_number(w, page->looked);
	tell_number(w, page->last);
	tell_text(w, buf_slice(&page->last_text));
}

static void
want(struct world *w, struct db_page *page)
{
	static const unsigned rows[] = { 1, 2, 3, 10, 50, 500 };

	db_page_want(page, w->everything ? UINT32_MAX : rows[below(w, sizeof(rows) / sizeof(rows[0]))]);
	if (w->everything)
		page->bytes = SIZE_MAX;
	else if (one_in(w, 2))
		page->looks = 1 + (unsigned)below(w, 30);
	else if (one_in(w, 4))
		page->bytes = (size_t)below(w, 200);
}

/* Operations: each draws what it is given */

static struct db *
db(struct world *w)
{
	return w->db[w->side];
}

static void
do_meta(struct world *w)
{
	static const char *const names[] = { "boot", "probe", "other" };
	const char *name = names[below(w, 3)];
	int64_t value = 0;

	if (one_in(w, 2))
		tell(w, DB(db(w), meta_set, name, below(w, 100) - 50));
	else if (one_in(w, 2))
		tell(w, DB(db(w), probe, w->now, 0));
	tell(w, DB(db(w), meta_get, name, &value));
	tell_number(w, value);
}

static void
do_tenant(struct world *w)
{
	static const char *const names[] = { "t1", "t2", "t4", "t5", "t6", "" };
	struct slice name = PICK(w, names);
	int64_t pk = 0;

	tell(w, db_tenant(db(w), name, one_in(w, 3), &pk));
	tell_number(w, pk);
}

static void
do_device_insert(struct world *w)
{
	struct db_device d = { .created_at = w->now, .tenant = tenant_name(w), .id = device_id(w) };
	uint8_t token[SHA256_LEN];
	enum db_result result;

	d.owner = user_name(w);
	d.type = type(w);
	d.name = word(w);
	d.tags_json = tags(w);
	d.metadata_json = json(w);
	d.settings_json = json(w);
	d.audience = word(w);
	hash(w, token);
	if (one_in(w, 2))
		memset(token + 8, (int)below(w, 200), 8);
	result = DB(db(w), device_insert, &d, token);
	tell(w, result);
	tell_number(w, d.tenant_pk);
	tell_number(w, d.epoch);
	tell_number(w, d.pk);
	if (result == DB_OK && d.pk > w->device_pk)
		w->device_pk = d.pk;
}

static void
do_device_find(struct world *w)
{
	struct db_device d = { .text = BUF_INIT };
	uint8_t token[SHA256_LEN];
	struct slice tenant = tenant_name(w), id = device_id(w);
	int64_t pk = device_pk(w), which = below(w, 3);
	bool whole = one_in(w, 2);
	enum db_result result;

	hash(w, token);
	if (which == 0)
		result = DB(db(w), device_by_id, tenant, id, whole, &d);
	else if (which == 1)
		result = DB(db(w), device_by_pk, pk, whole, &d);
	else
		result = DB(db(w), device_by_token, token, &d);
	tell(w, result);
	if (result == DB_OK)
		tell_device(w, &d);
	db_device_fini(&d);
}

static void
do_device_presence(struct world *w)
{
	int64_t pk = device_pk(w), epoch = below(w, 6), at = moment(w);
	unsigned transport = (unsigned)below(w, DB_TRANSPORTS);
	uint64_t ref = draw(w) >> below(w, 60);

	if (one_in(w, 2))
		tell(w, DB(db(w), device_connected, pk, transport, epoch, ref, at));
	else if (one_in(w, 3))
		tell(w, DB(db(w), device_lost, pk, transport, epoch, at, word(w)));
	else if (one_in(w, 4))
		tell(w, DB(db(w), device_seen, pk, at));
	else
		tell(w, DB(db(w), device_gone, pk, transport, epoch, at, moment(w), word(w)));
}

static void
do_device_set(struct world *w)
{
	int64_t pk = device_pk(w), which = below(w, 4), at = moment(w);
	struct slice a = word(w), b = tags(w), c = json(w), d = json(w);
	uint8_t token[SHA256_LEN];

	hash(w, token);
	if (which == 0)
		tell(w, DB(db(w), device_set_state, pk, below(w, 6), c, at));
	else if (which == 1)
		tell(w, DB(db(w), device_set_info, pk, a, b, c, d, at));
	else if (which == 2)
		tell(w, DB(db(w), device_set_token, pk, token, at));
	else
		tell(w, DB(db(w), device_set_audience, pk, a));
}

static void
do_device_delete(struct world *w)
{
	tell(w, DB(db(w), device_delete, device_pk(w), w->now));
}

static void
do_device_list(struct world *w)
{
	struct db_device_filter f = { .scope = scope(w), .online = (int)below(w, 3) - 1 };
	struct db_stats stats = { 0, 0, 0, 0 };
	int64_t n = 0;

	if (one_in(w, 3))
		f.type = type(w);
	if (one_in(w, 3))
		f.tag = word(w);
	if (one_in(w, 3))
		f.q = word(w);
	if (one_in(w, 3))
		f.after_id = device_id(w);
	LIST(w, struct db_device, tell_device, DB(db(w), device_list, &f, &page));
	LIST(w, struct db_type, tell_type, DB(db(w), device_types, f.scope.tenant_pk, one_in(w, 2) ? type(w) : SLICE_NONE, &page));
	tell(w, DB(db(w), device_counts, f.scope.tenant_pk, &stats));
	tell_number(w, stats.total);
	tell_number(w, stats.online);
	tell_number(w, stats.mqtt);
	tell(w, DB(db(w), device_owned, f.scope.tenant_pk, f.scope.user, &n));
	tell_number(w, n);
	n = device_pk(w) - 1;
	LIST(w, struct db_device, tell_online, DB(db(w), device_online, n, &page));
}

static void
do_share(struct world *w)
{
	struct db_share share = { .user = user_name(w), .permission = (enum db_permission)below(w, 3), .expires_at = moment(w),
	    .created_at = w->now }, got = { .text = BUF_INIT };
	int64_t pk = device_pk(w), which = below(w, 5);

	share.expires_at += share.expires_at != 0 ? 2000 : 0;
	share.commands_json = tags(w);
	if (which == 0)
		tell(w, DB(db(w), share_delete, pk, share.user));
	else if (which <= 2)
		tell(w, DB(db(w), share_put, pk, 1 + below(w, 3), &share));
	else if (which == 3 && DB(db(w), share_get, pk, share.user, &got) == DB_OK)
		tell_share(w, &got);
	LIST(w, struct db_share, tell_share, DB(db(w), share_list, pk, one_in(w, 2) ? user_name(w) : SLICE_NONE, &page));
	db_share_fini(&got);
}

static void
command_id(int64_t n, uint8_t id[UUID_LEN])
{
	memset(id, 0, UUID_LEN);
	id[0] = (uint8_t)n;
	id[15] = (uint8_t)(n >> 8);
}

/* The number of a command; 0: it has none. */
static int64_t
command_number(struct world *w, int64_t n)
{
	struct db_command c = { .text = BUF_INIT };
	uint8_t id[UUID_LEN];
	bool there;

	command_id(n, id);
	there = DB(db(w), command_get, id, &c) == DB_OK;
	db_command_fini(&c);
	return there ? w->command_number[n] : 0;
}

static void
do_command_insert(struct world *w)
{
	int64_t n = below(w, COMMANDS);
	struct db_command c = {
		.device_pk = device_pk(w), .status = (enum command_status)below(w, 4), .open = one_in(w, 2),
		.outcome = (enum command_outcome)below(w, 3), .created_at = w->now, .timeout_ms = below(w, 10), .asker = draw(w),
		.asker_boot = below(w, 3), .attempt = below(w, 3), .sent_epoch = below(w, 9),
		.role = (uint8_t)below(w, 3)
	};
	enum db_result result;

	c.queue_until = moment(w) + 1000;
	c.finished_at = one_in(w, 2) ? moment(w) : 0;
	c.command = word(w);
	c.requested_by = user_name(w);
	c.params_json = json(w);
	c.only_if_json = json(w);
	c.trace_json = json(w);
	command_id(n, c.id);
	result = DB(db(w), command_insert, &c);
	tell(w, result);
	if (result == DB_OK)
		w->command_number[n] = c.number;
}

static void
do_command_update(struct world *w)
{
	struct db_command c = { .text = BUF_INIT };
	enum command_status was;
	enum db_result result;

	command_id(below(w, COMMANDS), c.id);
	result = DB(db(w), command_get, c.id, &c);
	tell(w, result);
	if (result == DB_OK) {
		tell_command(w, &c);
		was = one_in(w, 6) ? (enum command_status)below(w, 8) : c.status;
		c.status = (enum command_status)below(w, 8);
		c.open = one_in(w, 2);
		c.outcome = (enum command_outcome)below(w, 3);
		c.late = one_in(w, 2);
		c.attempt++;
		c.sent_epoch = below(w, 9);
		c.sent_at = moment(w);
		c.accepted_at = moment(w);
		c.finished_at = moment(w);
		if (one_in(w, 2))
			c.trace_json = json(w);
		c.result_json = json(w);
		c.error_json = one_in(w, 2) ? c.params_json : json(w);
		c.cancelled_by = one_in(w, 2) ? user_name(w) : SLICE_NONE;
		tell(w, DB(db(w), command_update, &c, was));
	}
	if (one_in(w, 8))
		tell(w, DB(db(w), command_queue_moved, below(w, 3), moment(w) - w->now));
	db_command_fini(&c);
}

static void
do_command_list(struct world *w)
{
	struct db_command c = { .text = BUF_INIT };
	int64_t pk = device_pk(w), cursor = command_number(w, below(w, COMMANDS)), n = 0;
	enum db_result result;

	LIST(w, struct db_command, tell_command, DB(db(w), command_list, pk, cursor, &page));
	LIST(w, struct db_command, tell_command, DB(db(w), command_open, pk, cursor, &page));
	LIST(w, struct db_command, tell_command, DB(db(w), command_open_all, ((struct db_command_key){ pk, cursor }), &page));
	result = DB(db(w), command_queued_first, pk, cursor, &c);
	tell(w, result);
	if (result == DB_OK)
		tell_command(w, &c);
	LIST(w, struct db_command, tell_command, DB(db(w), command_queue_due, moment(w), &page, &n));
	tell_number(w, n);
	db_command_fini(&c);
}

static void
do_event_insert(struct world *w)
{
	static const char *const kinds[] = { "command_sent", "device_connected", "x" };
	struct db_event e = { .device_pk = device_pk(w), .epoch = below(w, 5), .at = moment(w) };
	struct db_device d = { .text = BUF_INIT };
	enum db_result result = DB(db(w), device_by_pk, e.device_pk, false, &d);

	tell(w, result);
	e.tenant_pk = d.tenant_pk;
	db_device_fini(&d);
	if (result != DB_OK)
		return;
	memset(e.id, (int)below(w, 256), sizeof(e.id));
	e.event = PICK(w, kinds);
	e.actor = user_name(w);
	e.data_json = json(w);
	if (one_in(w, 3)) {
		e.type = SLICE("device_event");
		e.payload = e.data_json;
	}
	tell(w, DB(db(w), event_insert, &e, 1));
	tell_number(w, e.seq);
}

static void
do_event_list(struct world *w)
{
	struct db_event_filter f = { .scope = scope(w), .ascending = one_in(w, 2) };
	int64_t removed = 0, newest = 0, cursor;

	f.part = (enum db_event_part)below(w, 3);
	tell(w, DB(db(w), event_places, f.scope.tenant_pk, &newest, &removed));
	tell_number(w, removed);
	tell_number(w, newest);
	cursor = one_in(w, 3) ? 0 : removed - 2 + below(w, newest - removed + 5);
	f.before_seq = f.ascending ? 0 : cursor;
	f.after_seq = f.ascending ? cursor : 0;
	if (one_in(w, 3))
		f.device_pk = device_pk(w);
	if (one_in(w, 3))
		f.event = SLICE("x");
	if (one_in(w, 3))
		f.since = moment(w);
	if (one_in(w, 3))
		f.until = moment(w);
	LIST(w, struct db_event, tell_event, DB(db(w), event_list, &f, &page));
}

static void
do_telemetry_insert(struct world *w)
{
	struct db_sample v[4];
	unsigned n = 1 + (unsigned)below(w, 4), stored = 0;

	for (unsigned i = 0; i < n; i++) {
		struct db_device d = { .text = BUF_INIT };
		int64_t pk = device_pk(w);

		v[i] = (struct db_sample){ .device_pk = pk, .tenant = tenant_name(w), .device = device_id(w), .received_at = w->now,
		    .at = moment(w), .epoch = below(w, 5), .data_json = json(w) };
		/* Mostly of the device that has the number. */
		if (!one_in(w, 4) && DB(db(w), device_by_pk, pk, false, &d) == DB_OK) {
			static const char *const tenants[] = { "t1", "t2", "tenant three" };

			v[i].tenant = slice_of(tenants[d.tenant_pk - 1]);
			for (int tries = 0; tries < 200 && !slice_eq(v[i].device, d.id); tries++)
				v[i].device = device_id(w);
		}
		db_device_fini(&d);
	}
	tell(w, DB(db(w), telemetry_insert, v, n, &stored));
	tell_number(w, stored);
}

static void
do_telemetry_list(struct world *w)
{
	struct db_sample_filter f = { .device_pk = device_pk(w) };

	if (one_in(w, 3))
		f.since = moment(w);
	if (one_in(w, 3))
		f.until = moment(w);
	if (one_in(w, 2)) {
		f.before_at = w->sample_at[w->side];
		f.before_seq = w->sample_seq[w->side];
	}
	LIST(w, struct db_sample, tell_sample, db_samples(db(w), &f, &page));
}

static void
do_visitor(struct world *w)
{
	struct db_visitor v = { .tenant_pk = 1 + below(w, 3), .device_pk = device_pk(w), .created_at = moment(w) };
	struct db_visitor got = { .text = BUF_INIT };
	struct db_visitor_filter f = { .scope = scope(w), .status = (int)below(w, 4) - 1, .before_pk = below(w, 30) };
	int64_t n = below(w, 16);

	memset(v.id, (int)n, UUID_LEN);
	v.name = word(w);
	v.snapshot_url = word(w);
	v.data_json = json(w);
	tell(w, DB(db(w), visitor_insert, &v));
	tell_number(w, v.pk);
	if (DB(db(w), visitor_get, v.tenant_pk, v.id, &got) == DB_OK && one_in(w, 2)) {
		tell_visitor(w, &got);
		got.status = (enum visitor_status)(1 + below(w, 2));
		got.decided_at = w->now;
		got.decided_by = user_name(w);
		got.has_command = one_in(w, 2);
		memset(got.command_id, got.has_command ? 7 : 0, UUID_LEN);
		tell(w, DB(db(w), visitor_decide, &got));
	}
	LIST(w, struct db_visitor, tell_visitor, DB(db(w), visitor_list, &f, &page));
	db_visitor_fini(&got);
}

static void
do_key(struct world *w)
{
	int64_t tenant = 1 + below(w, 3);
	struct slice user = user_name(w), key = word(w);
	uint8_t id[UUID_LEN] = { 0 }, params[SHA256_LEN] = { 0 };
	enum db_result result;

	memset(id, (int)below(w, 256), sizeof(id));
	hash(w, params);
	if (one_in(w, 3))
		tell(w, DB(db(w), idempotency_put, tenant, user, key, w->now + TICK_MS * below(w, 12), id, params));
	result = DB(db(w), idempotency_get, tenant, user, key, w->now, id, params);
	tell(w, result);
	if (result == DB_OK) {
		buf_put_hex(out(w), id, sizeof(id));
		buf_put_hex(out(w), params, sizeof(params));
	}
}

static void
do_ticket(struct world *w)
{
	struct db_ticket t = { .until = w->now + TICK_MS * below(w, 12), .expires_at = moment(w), .role = (uint8_t)below(w, 4),
	    .any_tenant = one_in(w, 2) }, got = { .text = BUF_INIT };
	uint8_t key[SHA256_LEN];
	enum db_result result;

	t.tenant = tenant_name(w);
	t.user = user_name(w);
	t.role_name = word(w);
	hash(w, key);
	if (one_in(w, 2))
		tell(w, DB(db(w), ticket_put, key, &t));
	if (one_in(w, 2)) {
		result = DB(db(w), ticket_take, key, &got);
		tell(w, result);
		if (result == DB_OK) {
			tell_number(w, got.until);
			tell_number(w, got.expires_at);
			tell_number(w, got.role);
			tell_number(w, got.any_tenant);
			tell_text(w, got.tenant);
			tell_text(w, got.user);
			tell_text(w, got.role_name);
		}
	}
	db_ticket_fini(&got);
}

static void
do_retain(struct world *w)
{
	int64_t ago = TICK_MS * below(w, 16);
	unsigned step = (unsigned[]){ 1, 3, 500 }[below(w, 3)];
	bool more = true;

	while (more) {
		tell(w, db_retain(db(w), w->now + (one_in(w, 2) ? 0 : DAY_MS - 6 * TICK_MS), w->now - ago, step, &more));
		tell_number(w, more);
	}
	for (more = true; more;) {
		tell(w, DB(db(w), telemetry_retain, one_in(w, 4) ? 0 : w->now - ago, step, &more));
		tell_number(w, more);
	}
}

static void
do_all(struct world *w)
{
	struct db_event_filter events = { .device_pk = 0 };
	struct db_visitor_filter visitors = { .status = -1 };
	struct db_sample_filter samples = { .device_pk = 0 };
	struct db_device_filter devices = { .online = -1 };
	int64_t next = 0;

	w->everything = true;
	for (int64_t tenant = 1; tenant <= 4; tenant++) {
		devices.scope = events.scope = visitors.scope = (struct db_scope){ .tenant_pk = tenant, .all = true };
		LIST(w, struct db_device, tell_device, DB(db(w), device_list, &devices, &page));
		LIST(w, struct db_event, tell_event, DB(db(w), event_list, &events, &page));
		LIST(w, struct db_visitor, tell_visitor, DB(db(w), visitor_list, &visitors, &page));
	}
	for (int64_t pk = 0; pk <= w->device_pk + 2; pk++) {
		LIST(w, struct db_share, tell_share, DB(db(w), share_list, pk, SLICE_NONE, &page));
		LIST(w, struct db_command, tell_command, DB(db(w), command_list, pk, 0, &page));
		events.device_pk = pk;
		LIST(w, struct db_event, tell_event, DB(db(w), event_list, &events, &page));
		samples.device_pk = pk;
		LIST(w, struct db_sample, tell_sample, db_samples(db(w), &samples, &page));
	}
	LIST(w, struct db_command, tell_command, DB(db(w), command_open_all, ((struct db_command_key){ 0, 0 }), &page));
	LIST(w, struct db_command, tell_command, DB(db(w), command_queue_due, INT64_MAX, &page, &next));
	LIST(w, struct db_device, tell_online, DB(db(w), device_online, 0, &page));
	tell_number(w, next);
	w->everything = false;
}

/* Single rows, by what names them. */
static void
do_get(struct world *w)
{
	static const char *const names[] = { "boot", "probe", "other" };
	struct db_share share = { .text = BUF_INIT };
	struct db_command command = { .text = BUF_INIT };
	struct db_visitor visitor = { .text = BUF_INIT };
	uint8_t id[UUID_LEN] = { 0 }, params[SHA256_LEN] = { 0 };
	int64_t pk = device_pk(w), tenant = 1 + below(w, 3), n = 0;
	struct slice user = user_name(w);

	tell(w, DB(db(w), meta_get, names[below(w, 3)], &n));
	tell_number(w, n);
	tell(w, db_tenant(db(w), tenant_name(w), false, &n));
	tell_number(w, n);
	if (DB(db(w), share_get, pk, user, &share) == DB_OK)
		tell_share(w, &share);
	command_id(below(w, COMMANDS), id);
	if (DB(db(w), command_get, id, &command) == DB_OK)
		tell_command(w, &command);
	memset(id, (int)below(w, 16), UUID_LEN);
	if (DB(db(w), visitor_get, tenant, id, &visitor) == DB_OK)
		tell_visitor(w, &visitor);
	tell(w, DB(db(w), idempotency_get, tenant, user, word(w), w->now, id, params));
	buf_put_hex(out(w), id, sizeof(id));
	buf_put_hex(out(w), params, sizeof(params));
	db_share_fini(&share);
	db_command_fini(&command);
	db_visitor_fini(&visitor);
}

struct kind {
	const char *name;
	void (*run)(struct world *w);
	int64_t weight;
};

static const struct kind changes[] = {
	{ "meta", do_meta, 1 }, { "tenant", do_tenant, 1 }, { "device_insert", do_device_insert, 8 },
	{ "device_presence", do_device_presence, 6 }, { "device_set", do_device_set, 6 },
	{ "device_delete", do_device_delete, 3 }, { "share", do_share, 6 },
	{ "command_insert", do_command_insert, 10 }, { "command_update", do_command_update, 14 },
	{ "event_insert", do_event_insert, 14 },
	{ "telemetry_insert", do_telemetry_insert, 10 }, { "visitor", do_visitor, 4 },
	{ "key", do_key, 4 }, { "ticket", do_ticket, 3 }, { "retain", do_retain, 2 }
};
static const struct kind questions[] = {
	{ "device_find", do_device_find, 4 }, { "device_list", do_device_list, 4 }, { "get", do_get, 4 },
	{ "command_list", do_command_list, 6 }, { "event_list", do_event_list, 6 }, { "telemetry_list", do_telemetry_list, 4 }
};
static const struct kind all = { "all", do_all, 0 };

static const struct kind *
any(struct world *w, const struct kind *kinds, size_t n)
{
	int64_t total = 0, at;

	for (size_t i = 0; i < n; i++)
		total += kinds[i].weight;
	for (at = below(w, total); at >= kinds->weight; kinds++)
		at -= kinds->weight;
	return kinds;
}
#define ANY(w, kinds) any((w), (kinds), sizeof(kinds) / sizeof((kinds)[0]))

/* A text in out(). */
static void
ask_one(struct world *w, int side, const struct kind *kind)
{
	w->side = side;
	buf_clear(out(w));
	kind->run(w);
	buf_putc(out(w), '\0');
}

/* Both, with the same draws. */
static void
ask(struct world *w, const struct kind *kind, unsigned long step)
{
	uint64_t random = w->random;

	for (int side = 0; side < SIDES; side++) {
		w->random = random;
		ask_one(w, side, kind);
	}
	if (strcmp(w->out[WRITER].data, w->out[READER].data) != 0)
		fail_msg("step %lu, %s\n%s: %s\n%s: %s", step, kind->name, side_names[WRITER], w->out[WRITER].data,
		    side_names[READER], w->out[READER].data);
	if (strstr(w->out[READER].data, "FAILED") != NULL)
		fail_msg("step %lu, %s: %s", step, kind->name, w->out[READER].data);
}

static void
commit(struct world *w)
{
	assert_int_equal(DB(w->db[WRITER], commit), DB_OK);
}

static void
remember_all(struct world *w, unsigned long step)
{
	ask(w, &all, step);
	buf_clear(&w->committed);
	buf_puts(&w->committed, w->out[READER].data);
	buf_putc(&w->committed, '\0');
}

/* While the writer's transaction is open. */
static void
sees_what_was_committed(struct world *w, unsigned long step)
{
	ask_one(w, READER, &all);
	if (strcmp(out(w)->data, w->committed.data) != 0)
		fail_msg("step %lu: the reader sees what is not committed\n%s\n%s", step, out(w)->data, w->committed.data);
}

static void
open_world(struct world *w, uint64_t seed)
{
	char err[256] = "";
	int64_t pk;

	*w = (struct world){ .random = seed, .now = INT64_C(1800000000000) };
	assert_int_equal(db_arrange("memory:", (unsigned)-1, (unsigned)-1, err, sizeof(err)), 1);
	for (int side = 0; side < SIDES; side++)
		if ((w->db[side] = db_open("memory:", side == READER ? DB_READER : 0, err, sizeof(err))) == NULL)
			fail_msg("%s", err);
	db_tenant(db(w), SLICE("t1"), true, &pk);
	db_tenant(db(w), SLICE("t2"), true, &pk);
	db_tenant(db(w), SLICE("tenant three"), true, &pk);
	remember_all(w, 0);
}

static void
close_world(struct world *w)
{
	for (int side = 0; side < SIDES; side++) {
		db_close(&w->db[side]);
		buf_fini(&w->out[side]);
	}
	buf_fini(&w->committed);
	db_clear_away();
}

static void
run(uint64_t seed, unsigned long steps)
{
	struct world w;
	unsigned long step = 0;

	open_world(&w, seed);
	while (step < steps) {
		unsigned n = 1 + (unsigned)below(&w, 40);
		bool transaction = !one_in(&w, 5);

		if (transaction)
			assert_int_equal(DB(w.db[WRITER], begin), DB_OK);
		for (unsigned i = 0; i < n; i++, step++) {
			w.now += one_in(&w, 6) ? TICK_MS : 0;
			ask_one(&w, WRITER, ANY(&w, changes));
		}
		if (transaction)
			sees_what_was_committed(&w, step);
		if (transaction && one_in(&w, 3))
			assert_int_equal(DB(w.db[WRITER], rollback), DB_OK);
		else if (transaction)
			commit(&w);
		for (unsigned i = 0; i < n; i++)
			ask(&w, ANY(&w, questions), step);
		remember_all(&w, step);
	}
	close_world(&w);
}

static void
answers_the_same(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 30; seed++)
		run(seed * 1000, 1500);
}

/* A user with more devices than a few: events are then looked for among all of the tenant. */
static void
answers_the_same_of_many_devices(void **state)
{
	struct world w;

	(void)state;
	open_world(&w, 5);
	w.side = WRITER;
	DB(db(&w), begin);
	for (int i = 0; i < 300; i++) {
		struct db_device d = { .tenant = SLICE("t1"), .owner = i < 250 ? SLICE("anna") : SLICE("bert"),
		    .tags_json = SLICE("[]") };
		struct db_share share = { .user = i % 2 == 0 ? SLICE("anna") : SLICE("carla") };
		uint8_t token[SHA256_LEN] = { (uint8_t)i, (uint8_t)(i >> 8), 1 };
		char id[16];

		snprintf(id, sizeof(id), "d%03d", (i * 7919) % 300);
		d.id = slice_of(id);
		assert_int_equal(DB(db(&w), device_insert, &d, token), DB_OK);
		if (i % 3 == 0)
			assert_int_equal(DB(db(&w), share_put, d.pk, 1, &share), DB_OK);
		w.device_pk = d.pk;
	}
	for (int i = 0; i < 3000; i++) {
		struct db_event e = { .tenant_pk = 1, .device_pk = 1 + below(&w, 300), .at = w.now + i, .event = SLICE("x") };

		assert_int_equal(DB(db(&w), event_insert, &e, 1), DB_OK);
	}
	commit(&w);
	w.now += 1500;
	for (unsigned long step = 0; step < 600; step++)
		ask(&w, &questions[step % 2 == 0 ? 1 : 4], step);
	close_world(&w);
}

static uint64_t the_seed;

static void
answers_the_same_for_long(void **state)
{
	(void)state;
	run(the_seed, 200000);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_the_same), cmocka_unit_test(answers_the_same_of_many_devices),
	};
	const struct CMUnitTest long_one[] = { cmocka_unit_test(answers_the_same_for_long) };

	if (argc > 1) {
		the_seed = strtoull(argv[1], NULL, 10);
		return cmocka_run_group_tests(long_one, NULL, NULL);
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
