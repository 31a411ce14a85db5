/*
 * resume.c: a dashboard comes back and is told what it missed: every stored
 * event after its cursor that it may see now, in order, as the message that
 * was published when it happened.  Only the storage process.
 *
 * What has no message of its own for this user (a share of somebody else, a
 * visitor at a door that it may only view) is left out, as it was then.  A
 * command is shown as it stood at its event, not as it stands now.
 *
 * All or nothing: more than limits.replay, or more bytes than may wait for one
 * client, or a cursor from before the oldest event kept, is one gap; and so is
 * too little among too much that others may see (SCAN_MAX).
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/conf.h"
#include "base/json.h"
#include "base/must.h"
#include "msg/envelope.h"
#include "shm/shm.h"
#include "storage/storage.h"

#define PAGE		256
#define COUNT_MAX	10000		/* how far a gap is counted */
#define SCAN_MAX	20000		/* events looked at for a page, or to count a gap: others' among one's own */
#define ALIKE_SCAN	64		/* events of one device in one millisecond */
#define SENT_MAX	32		/* attempts of a command that are told apart */

/* Events of one page: their texts are copied, since composing reads other tables. */
struct page {
	struct db_event event[PAGE];
	unsigned count;
	struct buf text;
};

struct missed {
	struct storage *s;
	const struct msg_resume *m;
	struct requester who;
	struct db_scope scope;
	struct page page;
	struct db_device device;	/* of the last event that asked for it */
	struct buf payload;
	struct buf out;			/* each message with its length before it */
	size_t room;
	unsigned count;
	int64_t dropped, since;
	bool too_much;
};

/* ------------------------------------------------------------------ a command as it was */

struct past {
	struct slice trace;		/* up to and with the event's step */
	bool more;			/* something came after it */
	unsigned alike;			/* steps that could be the event's: of its name, moment and connection */
	unsigned sent, sent_in_all;
	int64_t sent_at[SENT_MAX];
};

static int64_t
step_time(struct json_value element)
{
	struct json_value v;
	int64_t at;

	if (json_get(element, "at", &v) == -1 || v.raw.len < 2 ||
	    clock_parse((struct slice){ v.raw.p + 1, v.raw.len - 2 }, &at) == -1)
		return 0;
	return at;
}

static bool
step_is(struct json_value element, const char *name)
{
	struct json_value v;

	return json_get(element, "step", &v) == 0 && json_text_is(v, name);
}

static bool
is_step_of(struct json_value element, const char *name, const struct db_event *e)
{
	struct json_value v;
	int64_t epoch;

	if (!step_is(element, name) || step_time(element) != e->at)
		return false;
	return json_get(element, "epoch", &v) == -1 || (json_i64(v, &epoch) == 0 && epoch == e->epoch);
}

/* Finds the event's step in a command's trace, behind as many that are like it; false when it is not there. */
static bool
find_step(struct buf *scratch, const struct db_command *c, const char *name, const struct db_event *e, unsigned earlier,
    struct past *past)
{
	struct json_value array, element;
	struct json_iter it;

	memset(past, 0, sizeof(*past));
	buf_clear(scratch);
	buf_putc(scratch, '[');
	buf_put_slice(scratch, c->trace_json);
	buf_putc(scratch, ']');
	if (json_parse(buf_slice(scratch), SCHEMA_JSON_DEPTH, &array) == -1)
		return false;
	json_iter_init(&it, array);
	while (json_array_next(&it, &element)) {
		bool sent = step_is(element, "sent");

		if (sent && past->sent_in_all < SENT_MAX)
			past->sent_at[past->sent_in_all] = step_time(element);
		bool alike = is_step_of(element, name, e);

		past->sent_in_all += sent;
		past->alike += alike;
		if (past->trace.p != NULL) {
			past->more = true;
			continue;
		}
		past->sent += sent;
		if (alike && past->alike == earlier + 1)
			past->trace = (struct slice){
				c->trace_json.p, (size_t)(element.raw.p + element.raw.len - (scratch->data + 1))
			};
	}
	return past->trace.p != NULL;
}

/* A command's row as it was when it had been sent; attempts that did not reach the device are not counted in it. */
static void
back_to_sent(struct db_command *c, const struct past *past)
{
	unsigned lost = past->sent_in_all > (unsigned)c->attempt ? past->sent_in_all - (unsigned)c->attempt : 0;
	unsigned first = past->sent > lost ? lost : past->sent - 1;

	c->status = COMMAND_SENT;
	c->outcome = OUTCOME_UNCONFIRMED;
	c->attempt = past->sent > lost ? past->sent - lost : 1;
	c->sent_at = past->sent_at[first < SENT_MAX ? first : SENT_MAX - 1];
	c->finished_at = 0;
}

static bool
accepted_by_then(const struct past *past, struct buf *scratch)
{
	struct json_value array, element;
	struct json_iter it;
	bool accepted = false;

	buf_clear(scratch);
	buf_putc(scratch, '[');
	buf_put_slice(scratch, past->trace);
	buf_putc(scratch, ']');
	if (json_parse(buf_slice(scratch), SCHEMA_JSON_DEPTH, &array) == -1)
		return false;
	json_iter_init(&it, array);
	while (!accepted && json_array_next(&it, &element))
		accepted = step_is(element, "accepted");
	return accepted;
}

/* Events that this one's step can be mistaken for: sent twice over one connection in the same millisecond. */
struct earlier {
	const struct db_event *e;
	unsigned count;
};

static bool
count_alike(void *arg, const struct db_event *e)
{
	struct earlier *x = arg;

	x->count += e->epoch == x->e->epoch && slice_eq(e->data_json, x->e->data_json);
	return true;
}

static enum db_result
count_earlier(struct storage *s, const struct db_event *e, unsigned *count)
{
	struct earlier x = { .e = e };
	struct db_scan scan = { .left = ALIKE_SCAN };	/* those of the same millisecond are the nearest */
	struct db_event_filter f = {
		.scope = { .tenant_pk = e->tenant_pk }, .device_pk = e->device_pk, .event = e->event, .since = e->at,
		.until = e->at + 1, .before_seq = e->seq, .limit = ALIKE_SCAN, .scan = &scan
	};

	TRY(DB(s->desk.db, event_list, &f, count_alike, &x));
	*count = x.count;
	return DB_OK;
}

/* Only these two can be followed by something: the others are final. */
static enum db_result
back_to(struct storage *s, const uint8_t *id, struct db_command *c, const struct db_event *e)
{
	bool sent = slice_is(e->event, "command_sent");
	const char *step = sent ? "sent" : "timeout";
	unsigned earlier;
	struct past past;

	if (!sent && !slice_is(e->event, "command_timeout"))
		return DB_OK;
	if (!find_step(&s->desk.text, c, step, e, 0, &past))
		return DB_OK;
	if (past.alike > 1) {
		TRY(count_earlier(s, e, &earlier));
		TRY(DB(s->desk.db, command_get, id, c));
		if (!find_step(&s->desk.text, c, step, e, earlier, &past))
			return DB_OK;
	}
	if (!past.more)
		return DB_OK;
	if (sent) {
		back_to_sent(c, &past);
	} else {
		c->status = COMMAND_TIMEOUT;
		c->outcome = OUTCOME_UNCONFIRMED;
		c->finished_at = e->at;
	}
	c->late = false;
	c->trace_json = past.trace;
	c->result_json = c->error_json = SLICE_NONE;
	if (!accepted_by_then(&past, &s->desk.text))
		c->accepted_at = 0;
	return DB_OK;
}

/* ------------------------------------------------------------------ messages */

static struct slice
text_of(struct slice data_json, const char *name)
{
	struct json_value data, v;

	/* None of these texts has an escape: they are ids, permissions and names of ours. */
	if (json_parse(data_json, SCHEMA_JSON_DEPTH, &data) == -1 || json_get(data, name, &v) == -1 ||
	    v.kind != JSON_KIND_STRING)
		return SLICE_NONE;
	return (struct slice){ v.raw.p + 1, v.raw.len - 2 };
}

static enum db_result
may_control(struct missed *x, const struct db_event *e, bool *may)
{
	enum db_result result = DB_OK;

	*may = true;
	if (x->who.role == ROLE_ADMIN || x->who.role == ROLE_SERVICE)
		return DB_OK;
	if (x->device.pk != e->device_pk) {
		result = DB(x->s->desk.db, device_by_pk, e->device_pk, false, &x->device);
		if (result != DB_OK)
			x->device.pk = 0;
	}
	*may = result == DB_OK && access_level(&x->s->desk, &x->who, &x->device) >= ACCESS_CONTROL;
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

static enum db_result
put_visitor(struct missed *x, const struct db_event *e, const char **type)
{
	struct db_visitor *v = &x->s->desk.visitor;
	uint8_t id[UUID_LEN];
	bool may, asked = slice_is(e->event, "visitor_requested");
	enum db_result result;

	TRY(may_control(x, e, &may));
	if (!may || uuid_parse(text_of(e->data_json, "visitorId"), id) == -1)
		return DB_OK;
	result = DB(x->s->desk.db, visitor_get, e->tenant_pk, id, v);
	if (result != DB_OK)
		return result == DB_FAILED ? DB_FAILED : DB_OK;
	if (asked) {
		v->status = VISITOR_PENDING;
		v->decided_by = SLICE_NONE;
		v->decided_at = 0;
		v->has_command = false;
	}
	json_visitor(&x->payload, v, e->device);
	*type = asked ? "new_visitor" : "visitor_decided";
	return DB_OK;
}

static enum db_result
put_command(struct missed *x, const struct db_event *e, const char **type)
{
	struct db_command *c = &x->s->desk.command;
	uint8_t id[UUID_LEN];
	enum db_result result;

	if (uuid_parse(text_of(e->data_json, "commandId"), id) == -1)
		return DB_OK;
	result = DB(x->s->desk.db, command_get, id, c);
	if (result != DB_OK)
		return result == DB_FAILED ? DB_FAILED : DB_OK;
	TRY(back_to(x->s, id, c, e));
	json_command(&x->payload, c, e->device);
	*type = "command_status";
	return DB_OK;
}

static const char *
put_connection(struct missed *x, const struct db_event *e, const char *type)
{
	struct slice transport = text_of(e->data_json, "transport");
	struct json_value data, reason;
	struct buf text = BUF_INIT;
	struct slice why = SLICE_NONE;

	if (json_parse(e->data_json, SCHEMA_JSON_DEPTH, &data) == 0 && json_get(data, "reason", &reason) == 0)
		(void)json_text(reason, &text, &why);
	live_connection(&x->payload, e->device, e->epoch, slice_is(transport, "mqtt") ? "mqtt" : "ws", e->at, why);
	buf_fini(&text);
	return type;
}

static bool
is_share(const struct db_event *e)
{
	return slice_is(e->event, "device_shared") || slice_is(e->event, "device_unshared");
}

static bool
concerns(const struct missed *x, const struct db_event *e)
{
	return slice_eq(text_of(e->data_json, "userId"), x->who.user);
}

/* The message that this user would have been sent; *type stays NULL where there is none. */
static enum db_result
put_payload(struct missed *x, const struct db_event *e, const char **type)
{
	static const struct slice connected = SLICE("device_connected"), disconnected = SLICE("device_disconnected");

	*type = NULL;
	buf_clear(&x->payload);
	if (slice_eq(e->event, connected)) {
		*type = put_connection(x, e, "device_connected");
	} else if (slice_eq(e->event, disconnected)) {
		*type = put_connection(x, e, "device_disconnected");
	} else if (slice_is(e->event, "status_changed")) {
		live_report(&x->payload, e->device, e->epoch, SLICE_NONE, e->at, e->data_json);
		*type = "device_status";
	} else if (is_share(e)) {
		if (!concerns(x, e))
			return DB_OK;
		live_share(&x->payload, e->device, text_of(e->data_json, "permission"), e->actor);
		*type = slice_is(e->event, "device_shared") ? "device_shared" : "device_unshared";
	} else if (slice_is(e->event, "visitor_requested") || slice_is(e->event, "visitor_decided")) {
		return put_visitor(x, e, type);
	} else if (e->event.len > 8 && memcmp(e->event.p, "command_", 8) == 0) {
		return put_command(x, e, type);
	} else {
		live_report(&x->payload, e->device, e->epoch, e->event, e->at, e->data_json);
		*type = "device_event";
	}
	return DB_OK;
}

static enum db_result
put_message(struct missed *x, const struct db_event *e)
{
	struct buf *cursor = &x->s->desk.cursor;
	const char *type;
	size_t at = x->out.len;
	uint32_t len = 0;

	TRY(put_payload(x, e, &type));
	if (type == NULL)
		return DB_OK;
	buf_clear(cursor);
	cursor_put(&x->s->desk, cursor, CURSOR_EVENT, e->tenant_pk, e->seq);
	buf_put(&x->out, &len, sizeof(len));
	envelope_put(&x->out, type, SLICE_NONE, buf_slice(&x->payload), buf_slice(cursor));
	len = (uint32_t)(x->out.len - at - sizeof(len));
	memcpy(x->out.data + at, &len, sizeof(len));
	if (++x->count > x->m->limit || x->out.len > x->room)
		x->too_much = true;
	return DB_OK;
}

/* ------------------------------------------------------------------ events */

static bool
take_event(void *arg, const struct db_event *e)
{
	struct page *p = arg;
	const struct slice from[] = { e->device, e->event, e->actor, e->data_json };

	p->event[p->count++] = *e;
	for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++)
		buf_put_slice(&p->text, from[i]);
	return p->count < PAGE;
}

/* The copies are in their place: the page points to them. */
static void
point_to_copies(struct page *p)
{
	const char *at = p->text.data;

	for (unsigned i = 0; i < p->count; i++) {
		struct db_event *e = &p->event[i];
		struct slice *to[] = { &e->device, &e->event, &e->actor, &e->data_json };

		for (size_t k = 0; k < sizeof(to) / sizeof(to[0]); k++) {
			to[k]->p = at;
			at += to[k]->len;
		}
	}
}

static enum db_result
read_page(struct missed *x, int64_t after)
{
	struct db_scan scan = { .left = SCAN_MAX };
	struct db_event_filter f = {
		.scope = x->scope, .ascending = true, .after_seq = after, .limit = PAGE, .scan = &scan
	};

	x->page.count = 0;
	buf_clear(&x->page.text);
	TRY(DB(x->s->desk.db, event_list, &f, take_event, &x->page));
	point_to_copies(&x->page);
	x->too_much = x->too_much || scan.reached != 0;
	return DB_OK;
}

static bool
count_event(void *arg, const struct db_event *e)
{
	struct missed *x = arg;

	if (is_share(e) && !concerns(x, e))
		return true;
	if (x->since == 0)
		x->since = e->at;
	return ++x->dropped < COUNT_MAX;
}

static bool
note_since(void *arg, const struct db_event *e)
{
	struct missed *x = arg;

	x->since = e->at;
	return false;
}

/* Nothing that is kept was missed, or nobody knows: since the oldest that is kept, or since now. */
static enum db_result
find_since(struct missed *x)
{
	struct db_scan scan = { .left = SCAN_MAX };
	struct db_event_filter f = { .scope = x->scope, .ascending = true, .limit = 1, .scan = &scan };

	x->since = x->s->desk.now;
	return x->scope.tenant_pk == 0 ? DB_OK : DB(x->s->desk.db, event_list, &f, note_since, x);
}

/* What the gap says: how many there were, as far as it is counted, and since when. */
static enum db_result
count_missed(struct missed *x, int64_t after)
{
	struct db_scan scan = { .left = SCAN_MAX };
	struct db_event_filter f = {
		.scope = x->scope, .ascending = true, .after_seq = after, .limit = COUNT_MAX, .scan = &scan
	};

	x->too_much = true;
	x->dropped = x->since = 0;
	if (x->scope.tenant_pk != 0)
		TRY(DB(x->s->desk.db, event_list, &f, count_event, x));
	return x->since != 0 ? DB_OK : find_since(x);
}

static enum db_result
collect(struct missed *x, int64_t after)
{
	if (x->scope.tenant_pk == 0)
		return DB_OK;
	do {
		TRY(read_page(x, after));
		for (unsigned i = 0; i < x->page.count && !x->too_much; i++)
			TRY(put_message(x, &x->page.event[i]));
		if (x->page.count > 0)
			after = x->page.event[x->page.count - 1].seq;
	} while (x->page.count == PAGE && !x->too_much);
	return DB_OK;
}

/* ------------------------------------------------------------------ the answer */

static void
post_part(struct missed *x, struct slice messages, bool last)
{
	struct msg_resume_part part = {
		.request = x->m->request, .ref = x->m->ref, .last = last, .messages = messages,
		.code = x->too_much ? ERROR_too_many : ERROR_NONE, .count = x->count,
		.dropped = x->dropped, .since = x->since
	};

	post_to_ref(&x->s->desk, resume_part, &part);
}

/* Whole messages, as many at a time as one record holds. */
static void
post_all(struct missed *x)
{
	/* A quarter of the smallest ring is the longest record; this leaves room for one message more. */
	size_t most = shm_sizes(x->s->desk.shm)->mailbox_bytes / 8;
	struct slice rest = buf_slice(&x->out);

	if (x->too_much)
		rest = SLICE_NONE;
	for (;;) {
		size_t len = 0;

		while (len < rest.len) {
			uint32_t next;

			memcpy(&next, rest.p + len, sizeof(next));
			if (len > 0 && len + sizeof(next) + next > most)
				break;
			len += sizeof(next) + next;
		}
		post_part(x, (struct slice){ rest.p, len }, len == rest.len);
		if (len == rest.len)
			break;
		rest = (struct slice){ rest.p + len, rest.len - len };
	}
}

enum db_result
resume(struct storage *s, const struct msg_resume *m)
{
	struct missed *x = must_alloc(sizeof(*x));
	int64_t cursor = 0, first, last;
	enum db_result result;

	*x = (struct missed){
		.s = s, .m = m, .who = { (enum role)m->role, m->tenant, m->user },
		/* It all waits for the client at once: leave room for what happens meanwhile. */
		.room = s->desk.w->conf->limits_send_buffer_bytes / 4 * 3
	};
	result = access_scope(&s->desk, &x->who, &x->scope);
	if (result == DB_NONE)
		x->scope.tenant_pk = 0;		/* nothing ever happened in that tenant */
	if (result != DB_FAILED)
		result = DB(s->desk.db, event_bounds, &first, &last);
	if (result == DB_FAILED)
		;
	else if (!cursor_get(&s->desk, m->cursor, CURSOR_EVENT, x->scope.tenant_pk, &cursor) || cursor > last)
		result = count_missed(x, last);		/* of another tenant or store, or of none */
	else if (cursor + 1 < first)
		result = count_missed(x, cursor);
	else if ((result = collect(x, cursor)) != DB_FAILED && x->too_much)
		result = count_missed(x, cursor);
	if (result != DB_FAILED)
		post_all(x);
	db_device_fini(&x->device);
	buf_fini(&x->page.text);
	buf_fini(&x->payload);
	buf_fini(&x->out);
	free(x);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}
