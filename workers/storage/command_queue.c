/*
 * command_queue.c: commands that wait: for their device, for a place among those
 * that it has in flight, for the end of their time, or because they did not
 * reach the connection they were sent to.  Only the storage process.
 *
 * Places are made by results, by timeouts, and by sends that failed; each of
 * these pumps in its own transaction, so that nothing is left waiting.
 */
#include "base/must.h"
#include "storage/storage.h"

static void
pump_on(struct storage *s, const struct db_device *d)
{
	struct msg_command_pump_on m = { .device_pk = d->pk, .tenant = d->tenant, .device = d->id };

	buf_clear(&s->desk.pack);
	msg_pack_command_pump_on(&s->desk.pack, &m);
	effect_post(s, s->desk.w->slot, MSG_command_pump_on, buf_slice(&s->desk.pack));
}

enum db_result
command_pump_on(struct storage *s, const struct msg_command_pump_on *m)
{
	enum db_result result = storage_device(s, m->device_pk, m->tenant, m->device);

	return result == DB_OK ? command_pump(s, &s->desk.device, NULL) : result;
}

/* Why it may not be sent now; code NULL: it may. */
struct why {
	const char *code, *message;
};

static enum db_result
judge(struct storage *s, const struct db_device *d, struct db_device *whole, const struct db_command *c,
    int64_t last_seen, struct why *why)
{
	struct requester who = { (enum role)c->role, d->tenant, c->requested_by };
	bool may;

	*why = (struct why){ NULL, NULL };
	TRY(access_command(&s->desk, &who, d, c->command, &may));
	if (!may) {
		*why = (struct why){ "no_access", "its requester's right was withdrawn" };
	} else if (c->only_if_json.len > 0) {
		if (whole->pk == 0)
			TRY(DB(s->desk.db, device_by_pk, d->pk, true, whole));
		if (!condition_met(c->only_if_json, whole, last_seen, s->desk.now))
			*why = (struct why){ "precondition", "the condition of onlyIf is not met" };
	}
	return DB_OK;
}

enum db_result
command_send_judged(struct storage *s, const struct db_device *d, struct db_device *whole,
    struct db_command *c, const struct device_route *to)
{
	struct buf error = BUF_INIT;
	enum db_result result;
	struct why why;

	TRY(judge(s, d, whole, c, to->last_seen, &why));
	if (why.code == NULL)
		return command_send(s, d, c, (int)c->status, NULL, to->ref, to->epoch);
	c->outcome = OUTCOME_NOT_SENT;
	command_set_error(c, &error, why.code, why.message);
	result = command_move(s, d, c, COMMAND_FAILED, "failed");
	buf_fini(&error);
	return result;
}

static bool
has_place(const struct storage *s, const struct flight *f)
{
	return f->out < s->in_flight;
}

/* The oldest one that waits is sent, or has ended. */
static enum db_result
pump_one(struct storage *s, const struct db_device *d, struct db_device *whole, const struct flight *f,
    const struct device_route *to)
{
	struct db_command *c = &s->desk.command;
	enum db_result result = DB(s->desk.db, command_queued_first, d->pk, f->oldest, c);

	if (result != DB_OK)
		return result;
	flight_found(&s->flights, d->pk, c->number);
	if (c->queue_until != 0 && c->queue_until <= s->desk.now)
		return command_move(s, d, c, COMMAND_EXPIRED, "expired");
	return command_send_judged(s, d, whole, c, to);
}

enum db_result
command_pump(struct storage *s, const struct db_device *d, bool *waits)
{
	struct flight f = flight_of(&s->flights, d->pk);
	struct db_device whole = { .text = BUF_INIT };
	enum db_result result = DB_OK;
	struct device_route to;
	unsigned n = 0;

	if (f.queued > 0 && storage_route(s, d, &to)) {
		while (f.queued > 0 && has_place(s, &f) && result == DB_OK) {
			if (n++ == COMMAND_STEP || batch_is_large(s)) {
				pump_on(s, d);
				break;
			}
			result = pump_one(s, d, &whole, &f, &to);
			f = flight_of(&s->flights, d->pk);
		}
	}
	if (waits != NULL)
		*waits = f.queued > 0 || !has_place(s, &f);
	db_device_fini(&whole);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

/* Queue times that are over */

static enum db_result
expire(struct storage *s, const uint8_t id[UUID_LEN])
{
	struct db_command *c = &s->desk.command;
	enum db_result result = DB(s->desk.db, command_get, id, c);

	if (result != DB_OK || c->status != COMMAND_QUEUED)
		return result;
	result = DB(s->desk.db, device_by_pk, c->device_pk, false, &s->desk.device);
	if (result == DB_FAILED)
		return DB_FAILED;
	return command_move(s, result == DB_OK ? &s->desk.device : NULL, c, COMMAND_EXPIRED, "expired");
}

enum db_result
command_queue_tick(struct storage *s)
{
	struct db_page page = { .rows = 0 };
	const struct db_command *due;
	enum db_result result;

	if (s->queue_next == 0 || s->queue_next > s->desk.now)
		return DB_OK;
	db_page_want(&page, COMMAND_STEP);
	result = DB(s->desk.db, command_queue_due, s->desk.now, &page, &s->queue_next);
	s->more = page.more;
	due = page.row;
	for (unsigned i = 0; result != DB_FAILED && i < page.count; i++)
		result = expire(s, due[i].id);
	db_page_fini(&page);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

/* Cancelling */

enum db_result
command_cancel(struct storage *s, const struct msg_command_cancel *m)
{
	struct requester who = { (enum role)m->role, m->tenant, m->user };
	struct db_command *c = &s->desk.command;
	struct db_device *d = &s->desk.device;
	struct buf body = BUF_INIT;
	enum db_result result = DB(s->desk.db, command_get, m->command_id, c);
	bool may = false;
	unsigned event = 0;

	if (result == DB_OK)
		result = DB(s->desk.db, device_by_pk, c->device_pk, false, d);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE || !slice_eq(d->tenant, m->tenant)) {
		reply_error(&s->desk, m->request, m->ref, ERROR_not_found, NULL, "no such command");
		return DB_OK;
	}
	TRY(access_command(&s->desk, &who, d, c->command, &may));
	if (!may) {
		reply_error(&s->desk, m->request, m->ref, ERROR_no_access, NULL, NULL);
		return DB_OK;
	}
	if (c->status == COMMAND_QUEUED) {
		c->cancelled_by = m->user;
		TRY(command_move_telling(s, d, c, COMMAND_CANCELLED, "cancelled", m->ref, &event));
	} else {
		reply_error(&s->desk, m->request, m->ref, ERROR_conflict, NULL,
		    "the command is no longer queued");
		return DB_OK;
	}
	buf_puts(&body, "{\"command\":");
	json_command(&body, c, d->id);
	buf_putc(&body, '}');
	reply_event(&s->desk, m->request, m->ref, buf_slice(&body), event);
	buf_fini(&body);
	return DB_OK;
}

/* It did not reach its connection */

/* It surely did not reach the device: by another connection, or it waits, or that was all. */
static enum db_result
not_arrived(struct storage *s, const struct db_device *d, struct db_command *c)
{
	struct db_device whole = { .text = BUF_INIT };
	enum db_result result;
	struct device_route to;

	if (storage_route(s, d, &to) && to.epoch != c->sent_epoch) {
		effect_pending_remove(s, c->id);
		c->sent_at = 0;
		result = command_send_judged(s, d, &whole, c, &to);
		db_device_fini(&whole);
		return result;
	}
	if (c->queue_until <= s->desk.now)
		return command_move(s, d, c, COMMAND_EXPIRED, "expired");
	if (s->queue_next > c->queue_until || s->queue_next == 0)
		s->queue_next = c->queue_until;
	return command_move(s, d, c, COMMAND_QUEUED, "queued");
}

enum db_result
command_send_failed(struct storage *s, const struct msg_device_send_failed *m)
{
	static const uint8_t none[UUID_LEN];
	struct db_command *c = &s->desk.command;
	struct db_device *d = &s->desk.device;
	enum db_result result;

	if (memcmp(m->command, none, UUID_LEN) == 0)
		return DB_OK;
	result = DB(s->desk.db, command_get, m->command, c);
	if (result != DB_OK)
		return result == DB_FAILED ? DB_FAILED : DB_OK;
	/* An answer to an older attempt says nothing of the newest. */
	if (c->sent_epoch != m->epoch || (c->status != COMMAND_SENT &&
	    c->status != COMMAND_TIMEOUT))
		return DB_OK;
	result = DB(s->desk.db, device_by_pk, c->device_pk, false, d);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_OK)
		TRY(presence_stale(s, d, m->ref));

	if (c->status == COMMAND_TIMEOUT || c->attempt > 1) {
		/* Of a second attempt nothing is known but that the first may have arrived. */
		if (c->status == COMMAND_TIMEOUT && c->attempt == 1 &&
		    c->outcome == OUTCOME_UNCONFIRMED) {
			c->outcome = OUTCOME_NOT_SENT;
			c->open = false;
			return command_move(s, result == DB_OK ? d : NULL, c, COMMAND_TIMEOUT,
			    "not_sent");
		}
		return DB_OK;
	}
	if (result == DB_NONE)
		return command_move(s, NULL, c, COMMAND_EXPIRED, "expired");
	c->attempt--;
	TRY(not_arrived(s, d, c));
	return command_pump(s, d, NULL);
}
