/*
 * command_queue.c: commands that wait: for their device, for the end of their
 * time, or because they did not reach the connection they were sent to.  Only
 * the storage process.
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

enum db_result
command_pump(struct storage *s, const struct db_device *d, bool *more)
{
	struct db_command *c = &s->desk.command;
	struct db_device whole = { .text = BUF_INIT };
	struct buf error = BUF_INIT;
	uint64_t ref;
	int64_t epoch, last_seen;
	enum db_result result = DB_OK;
	unsigned n = 0;

	if (more != NULL)
		*more = false;
	if (!storage_route(s, d, &ref, &epoch, &last_seen))
		return DB_OK;
	while ((result = DB(s->desk.db, command_queued_first, d->pk, c)) == DB_OK) {
		bool expired = c->queue_until != 0 && c->queue_until <= s->desk.now;

		if (n++ == COMMAND_STEP || batch_is_large(s)) {
			pump_on(s, d);
			if (more != NULL)
				*more = true;
			break;
		}
		if (!expired && c->only_if_json.len > 0 && whole.pk == 0 &&
		    (result = DB(s->desk.db, device_by_pk, d->pk, true, &whole)) != DB_OK)
			break;
		if (expired) {
			result = command_move(s, d, c, COMMAND_EXPIRED, "expired");
		} else if (c->only_if_json.len > 0 && !condition_met(c->only_if_json, &whole,
		    last_seen, s->desk.now)) {
			command_set_error(c, &error, "precondition",
			    "the condition of onlyIf is not met");
			result = command_move(s, d, c, COMMAND_FAILED, "failed");
		} else {
			result = command_send(s, d, c, false, 0, ref, epoch);
		}
		if (result != DB_OK)
			break;
	}
	db_device_fini(&whole);
	buf_fini(&error);
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

enum db_result
command_send_failed(struct storage *s, const struct msg_device_send_failed *m)
{
	static const uint8_t none[UUID_LEN];
	struct db_command *c = &s->desk.command;
	struct db_device *d = &s->desk.device;
	enum db_result result;
	uint64_t ref;
	int64_t epoch, last_seen;

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
	if (storage_route(s, d, &ref, &epoch, &last_seen) && epoch != c->sent_epoch) {
		effect_pending_remove(s, c->id);
		c->sent_at = 0;
		return command_send(s, d, c, false, 0, ref, epoch);
	}
	if (c->queue_until > s->desk.now) {
		if (s->queue_next > c->queue_until || s->queue_next == 0)
			s->queue_next = c->queue_until;
		return command_move(s, d, c, COMMAND_QUEUED, "queued");
	}
	return command_move(s, d, c, COMMAND_EXPIRED, "expired");
}
