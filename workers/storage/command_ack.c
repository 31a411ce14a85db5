/*
 * command_ack.c: what devices say of commands, and commands whose time is
 * over.  Only the storage process.
 *
 * In time or not was decided by the pending table, by the one compare-and-swap
 * of the gateway or of command_deadlines(); here the decision is made durable
 * and told.  What the table no longer knows is judged by the row.
 */
#include "base/json.h"
#include "base/log.h"
#include "msg/schema.h"
#include "base/must.h"
#include "shm/shm.h"
#include "storage/storage.h"

#define DEAD_DECIDER_MS	2000		/* its record may still be on the way */
#define OVER_MAX	1024		/* commands ended by one tick */
#define LOG_EVERY_MS	10000
#define FORGOTTEN_MS	60000		/* decided, but nobody told storage: treated as never told */

/* {code, message} from what the device gave. */
static struct slice
normal_error(struct buf *b, struct slice error_json)
{
	struct json_value v, code, message;
	struct buf text = BUF_INIT;
	struct slice s;
	bool has_message;

	buf_clear(b);
	if (error_json.len == 0 || json_parse(error_json, JSON_DEPTH_MAX, &v) == -1 ||
	    v.kind == JSON_KIND_NULL)
		return SLICE_NONE;
	buf_puts(b, "{\"code\":");
	has_message = v.kind == JSON_KIND_OBJECT && json_get(v, "message", &message) == 0 &&
	    message.kind == JSON_KIND_STRING;
	if (v.kind == JSON_KIND_OBJECT && json_get(v, "code", &code) == 0 &&
	    code.kind == JSON_KIND_STRING)
		buf_put_slice(b, code.raw);
	else
		buf_puts(b, "\"device_error\"");
	buf_puts(b, ",\"message\":");
	if (has_message)
		buf_put_slice(b, message.raw);
	else if (json_text(v, &text, &s) == 0)
		buf_put_json_string(b, s);
	else
		buf_puts(b, "\"\"");
	buf_putc(b, '}');
	buf_fini(&text);
	return buf_slice(b);
}

static enum db_result
refuse_final(struct storage *s, const struct msg_command_ack *m)
{
	reply_error(&s->desk, m->request, m->ref, ERROR_already_final, "commandId", NULL);
	return DB_OK;
}

static enum db_result
refuse_unknown(struct storage *s, const struct msg_command_ack *m)
{
	reply_error(&s->desk, m->request, m->ref, ERROR_not_found, "commandId",
	    "no such command of this device");
	return DB_OK;
}

static enum db_result
ok(struct storage *s, const struct msg_command_ack *m)
{
	reply_json(&s->desk, m->request, m->ref, 200, SLICE("{}"));
	return DB_OK;
}

static enum command_status
status_of(const struct msg_command_ack *m)
{
	return m->status == ACK_EXECUTED ? COMMAND_EXECUTED : COMMAND_FAILED;
}

/* Is its time over?  The wall clock is asked only where the pending table had no room for it. */
static bool
is_over(struct storage *s, const struct db_command *c)
{
	struct pending_view v;

	if (pending_find(s->desk.shm, c->id, &v) == 1)
		return v.deadline_mono_ms <= s->desk.mono;
	return c->sent_at + c->timeout_ms <= s->desk.now;
}

/* Is this the end?  Somebody else may have decided already: what was decided is on its way here. */
static bool
is_decided(struct storage *s, const struct db_command *c)
{
	struct pending_view v;

	return pending_find(s->desk.shm, c->id, &v) == 1 && v.state >= PENDING_EXECUTED;
}

/* A device that says so of whatever it is sent would be sent it for ever. */
static enum db_result
give_up(struct storage *s, const struct db_device *d, struct db_command *c)
{
	struct buf error = BUF_INIT;
	enum db_result result;

	command_set_error(c, &error, "device_error", "the device answered each attempt as if it never got it");
	result = command_move(s, d, c, COMMAND_FAILED, "failed");
	buf_fini(&error);
	return result;
}

/* By the device's present connection, if it has one; a new one asks for it anew. */
static enum db_result
send_again(struct storage *s, const struct db_device *d, struct db_command *c)
{
	struct db_device whole = { .text = BUF_INIT };
	enum db_result result = DB_OK;
	struct device_route to;

	if (storage_route(s, d, &to))
		result = command_send_judged(s, d, &whole, c, &to);
	db_device_fini(&whole);
	return result;
}

/* The device never got it: again while its time is not over, else it surely was not run. */
static enum db_result
on_unknown(struct storage *s, const struct db_device *d, struct db_command *c,
    const struct msg_command_ack *m)
{
	if (c->status == COMMAND_TIMEOUT && c->outcome == OUTCOME_NOT_SENT)
		return ok(s, m);		/* it said so before */
	if (c->status == COMMAND_TIMEOUT || is_over(s, c)) {
		if (c->status != COMMAND_TIMEOUT) {	/* the tick will find it timed out */
			if (pending_move(s->desk.shm, c->id, desk_device_key(&s->desk, d),
			    PENDING_TIMEOUT) == PENDING_LOST)
				return ok(s, m);
		}
		c->outcome = OUTCOME_NOT_SENT;
		c->open = false;
		TRY(command_move(s, d, c, COMMAND_TIMEOUT,
		    c->status == COMMAND_TIMEOUT ? "not_sent" : "timeout"));
	} else if (is_decided(s, c)) {
		return ok(s, m);
	} else if (c->attempt >= COMMAND_ATTEMPTS) {
		TRY(give_up(s, d, c));
	} else {
		TRY(send_again(s, d, c));
	}
	return ok(s, m);
}

/*
 * Somebody decided before.  Was it another process whose record is still on its way, or we
 * ourselves?
 */
static bool
decided_elsewhere(struct storage *s, const struct db_command *c, const struct msg_command_ack *m,
    bool *timed_out)
{
	struct pending_view v;

	*timed_out = false;
	if (pending_find(s->desk.shm, c->id, &v) != 1 || v.state < PENDING_EXECUTED)
		return false;
	if (v.state == PENDING_TIMEOUT) {
		*timed_out = true;
		return false;
	}
	return v.decided_by != ref_slot(m->ref) && slot_is_live(s->desk.shm, v.decided_by,
	    v.decided_generation);
}

/* What it says is stored; its device is in desk.device. */
static enum db_result
take_ack(struct storage *s, const struct msg_command_ack *m)
{
	struct db_command *c = &s->desk.command;
	struct db_device *d = &s->desk.device;
	struct buf error = BUF_INIT;
	enum db_result result = DB(s->desk.db, command_get, m->command, c);
	bool timed_out = false;

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE || c->device_pk != m->device_pk)
		return refuse_unknown(s, m);
	result = storage_device(s, m->device_pk, m->tenant, m->device);
	if (result != DB_OK)
		return result == DB_FAILED ? DB_FAILED : refuse_unknown(s, m);
	if (c->status == COMMAND_QUEUED)
		return refuse_unknown(s, m);		/* never sent: the device can't know it */
	if (command_is_final(c->status) && c->status != COMMAND_TIMEOUT)
		return refuse_final(s, m);
	if (m->status == ACK_UNKNOWN)
		return on_unknown(s, d, c, m);
	if (m->verdict == PENDING_LOST && c->status != COMMAND_TIMEOUT &&
	    m->status != ACK_ACCEPTED) {
		if (decided_elsewhere(s, c, m, &timed_out))
			return refuse_final(s, m);
		/* its timeout was decided, but could not be stored yet */
		if (timed_out)
			TRY(command_move(s, d, c, COMMAND_TIMEOUT, "timeout"));
	}
	if (m->status == ACK_ACCEPTED) {
		if (c->status == COMMAND_TIMEOUT)
			return refuse_final(s, m);
		if (c->status == COMMAND_SENT)
			TRY(command_move(s, d, c, COMMAND_ACCEPTED, "accepted"));
		return ok(s, m);
	}
	c->result_json = m->result_json;
	c->error_json = m->status == ACK_FAILED ? normal_error(&error, m->error_json) : SLICE_NONE;
	if (c->params_json.len + c->only_if_json.len + c->result_json.len + c->error_json.len > command_room(s)) {
		c->result_json = SLICE_NONE;
		command_set_error(c, &error, "device_error", "what the device answered is too large to be kept");
	}
	result = command_move(s, d, c, status_of(m), command_status_name(status_of(m)));
	buf_fini(&error);
	return result == DB_OK ? ok(s, m) : result == DB_NONE ? refuse_final(s, m) : result;
}

enum db_result
command_ack(struct storage *s, const struct msg_command_ack *m)
{
	s->desk.device.pk = 0;
	TRY(take_ack(s, m));
	/* A command that ended made a place for the next. */
	return s->desk.device.pk != 0 ? command_pump(s, &s->desk.device, NULL) : DB_OK;
}

/* Deadlines */

struct over {
	struct storage *s;
	uint8_t id[COMMAND_STEP][UUID_LEN];
	unsigned count;
};

/* Entries to be ended now: the time is over, or it was decided so and could not be stored. */
static void
look(void *arg, const struct pending_view *v)
{
	struct over *o = arg;
	struct storage *s = o->s;
	int64_t overdue = s->desk.mono - v->deadline_mono_ms;

	if (o->count == COMMAND_STEP)
		return;
	if (v->state == PENDING_EXECUTED || v->state == PENDING_FAILED) {
		/* A live decider's record is on its way; a dead one's may be in the mailbox. */
		bool live = slot_is_live(s->desk.shm, v->decided_by, v->decided_generation);
		int64_t lost = v->decided_by < SHM_MAX_SLOTS ?
		    presence_lost_ms(s, v->decided_by, v->decided_generation) : DEAD_DECIDER_MS;

		if (mailbox_used(s->desk.shm, s->desk.w->slot) > 0 || batch_has_kept(s))
			return;
		if (live ? overdue >= FORGOTTEN_MS : lost >= DEAD_DECIDER_MS)
			pending_undecide(s->desk.shm, v->id, v->decided_by, v->decided_generation);
		return;
	}
	if (v->state != PENDING_TIMEOUT) {
		if (overdue < 0 || pending_move(s->desk.shm, v->id, v->device,
		    PENDING_TIMEOUT) != PENDING_WON)
			return;
	}
	memcpy(o->id[o->count++], v->id, UUID_LEN);
}

/* Decided: its time is over.  It may have ended otherwise, or never have been stored. */
static enum db_result
time_out(struct storage *s, const uint8_t id[UUID_LEN])
{
	struct db_command *c = &s->desk.command;
	enum db_result result = DB(s->desk.db, command_get, id, c);

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE || (c->status != COMMAND_SENT && c->status != COMMAND_ACCEPTED)) {
		effect_pending_remove(s, id);
		return DB_OK;
	}
	result = DB(s->desk.db, device_by_pk, c->device_pk, false, &s->desk.device);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE)
		return command_move(s, NULL, c, COMMAND_TIMEOUT, "timeout");
	TRY(command_move(s, &s->desk.device, c, COMMAND_TIMEOUT, "timeout"));
	return command_pump(s, &s->desk.device, NULL);
}

/* Commands without an entry in the pending table */

void
command_no_room(struct storage *s)
{
	if (!s->roomless.any || s->desk.mono - s->roomless.logged_mono >= LOG_EVERY_MS) {
		log_warn("memory.commands is used up: the store is asked whose time is over");
		s->roomless.logged_mono = s->desk.mono;
	}
	s->roomless.any = s->roomless.seen = true;
}

static void
look_at_row(struct storage *s, const struct db_command *c, struct over *over)
{
	struct pending_view v;

	s->roomless.at = (struct db_command_key){ c->device_pk, c->number };
	if ((c->status != COMMAND_SENT && c->status != COMMAND_ACCEPTED) ||
	    pending_find(s->desk.shm, c->id, &v) == 1)
		return;
	if (c->sent_at + c->timeout_ms <= s->desk.now)
		memcpy(over->id[over->count++], c->id, UUID_LEN);
	else
		s->roomless.seen = true;
}

/* One step of a walk over all commands without a result, repeated while one has no entry. */
static enum db_result
roomless_deadlines(struct storage *s)
{
	struct db_page *page = &s->desk.page;
	struct over over = { .s = s };
	const struct db_command *c;
	bool more;

	db_page_want(page, OVER_MAX);
	TRY(DB(s->desk.db, command_open_all, s->roomless.at, page));
	c = page->row;
	for (unsigned i = 0; i < page->count && over.count < COMMAND_STEP; i++)
		look_at_row(s, &c[i], &over);
	more = page->more || over.count == COMMAND_STEP;
	for (unsigned i = 0; i < over.count; i++)
		TRY(time_out(s, over.id[i]));
	s->more = s->more || over.count == COMMAND_STEP;
	if (over.count > 0)	/* whether that is committed the next walk sees */
		s->roomless.seen = true;
	if (more)
		return DB_OK;
	s->roomless.any = s->roomless.seen;
	s->roomless.seen = false;
	s->roomless.at = (struct db_command_key){ 0, 0 };
	return DB_OK;
}

enum db_result
command_deadlines(struct storage *s)
{
	struct over o = { .s = s, .count = 0 };

	if (pending_count(s->desk.shm) > 0)
		pending_walk(s->desk.shm, look, &o);
	for (unsigned i = 0; i < o.count; i++)
		TRY(time_out(s, o.id[i]));
	s->more = o.count == COMMAND_STEP;
	return s->roomless.any ? roomless_deadlines(s) : DB_OK;
}
