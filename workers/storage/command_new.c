/*
 * command_new.c: a command is asked for: may it be sent, was it asked for
 * before, is it sent or does it wait?  Only the storage process.
 */
#include <stdlib.h>

#include "base/json.h"
#include "base/must.h"
#include "storage/storage.h"

/* The same JSON value gives the same text, whatever its spacing and order. */
static void
put_canonical(struct buf *b, struct slice json)
{
	struct json_value v;

	if (json.len > 0 && json_parse(json, JSON_DEPTH_MAX, &v) == 0)
		json_put_canonical(b, v);
	buf_putc(b, '\0');
}

/* What makes two requests with one key the same. */
static void
hash_order(const struct db_device *d, const struct command_order *o, uint8_t hash[SHA256_LEN])
{
	struct buf b = BUF_INIT;

	buf_put_slice(&b, d->id);
	buf_putc(&b, '\0');
	buf_put_slice(&b, o->command);
	buf_putc(&b, '\0');
	buf_put_i64(&b, o->timeout_ms);
	buf_putc(&b, '\0');
	buf_put_i64(&b, o->queue_ms);
	buf_putc(&b, '\0');
	put_canonical(&b, o->params_json);
	put_canonical(&b, o->only_if_json);
	digest_sha256(buf_slice(&b), hash);
	buf_fini(&b);
}

/* It is stored already: the same request again. */
static enum db_result
answer_known(struct storage *s, const struct db_device *d, const struct command_order *o,
    const uint8_t id[UUID_LEN])
{
	struct db_command *c = &s->desk.command;
	enum db_result result = DB(s->desk.db, command_get, id, c);

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE || c->device_pk != d->pk) {
		reply_error(&s->desk, o->request, o->ref, ERROR_conflict, NULL,
		    "this id or key belongs to another command");
		return DB_OK;
	}
	command_answer(s, d, c, o->ref, o->request);
	return DB_OK;
}

/* DB_NONE: nothing is known of the key (or there is none): go on. */
static enum db_result
check_key(struct storage *s, const struct db_device *d, const struct command_order *o,
    uint8_t hash[SHA256_LEN])
{
	uint8_t known_id[UUID_LEN], known_hash[SHA256_LEN];
	enum db_result result;

	if (o->idempotency_key.len == 0)
		return DB_NONE;
	hash_order(d, o, hash);
	result = DB(s->desk.db, idempotency_get, d->tenant_pk, o->who.user, o->idempotency_key, wall_earlier_ms(s),
	    known_id, known_hash);
	if (result != DB_OK)
		return result;
	if (memcmp(hash, known_hash, SHA256_LEN) != 0) {
		reply_error(&s->desk, o->request, o->ref, ERROR_conflict, "idempotencyKey",
		    "the key was used with other parameters");
		return DB_OK;
	}
	return answer_known(s, d, o, known_id);
}

static enum db_result
remember_key(struct storage *s, const struct db_device *d, const struct command_order *o,
    const uint8_t hash[SHA256_LEN])
{
	if (o->idempotency_key.len == 0)
		return DB_OK;
	return DB(s->desk.db, idempotency_put, d->tenant_pk, o->who.user, o->idempotency_key,
	    s->desk.now + IDEMPOTENCY_MS, o->id, hash);
}

/* Stored in a state other than sent, with its event if it has ended. */
static enum db_result
store_unsent(struct storage *s, const struct db_device *d, struct db_command *c,
    const struct command_order *o, enum command_status status, const char *step, const char *event)
{
	enum db_result result;
	unsigned nth = 0;

	c->status = status;
	c->outcome = OUTCOME_NOT_SENT;
	c->open = status == COMMAND_QUEUED;
	if (!c->open)
		c->finished_at = s->desk.now;
	if (step != NULL)
		command_trace(s, c, step, SLICE_NONE, NULL);
	TRY(batch_begin(s));
	result = command_store(s, c, COMMAND_FRESH);
	if (result != DB_OK)
		return result;
	if (event != NULL) {
		TRY(command_event(s, d, c, event, &nth));
		effect_count(s, status == COMMAND_FAILED ? STAT_COMMANDS_FAILED : STAT_COMMANDS_EXPIRED, 1);
		effect_tally(s, d->tenant_pk, status == COMMAND_FAILED ? TALLY_FAILED : TALLY_EXPIRED, 1);
	}
	command_publish(s, d, c, nth, o);
	return DB_OK;
}

/* In the device's queue, for so long at most. */
static enum db_result
store_waiting(struct storage *s, const struct db_device *d, struct db_command *c, const struct command_order *o,
    int64_t queue_ms)
{
	if (flight_of(&s->flights, d->pk).queued >= COMMAND_QUEUE_MAX) {
		reply_error(&s->desk, o->request, o->ref, ERROR_too_many, NULL,
		    "too many commands wait for this device");
		return DB_OK;
	}
	c->queue_until = s->desk.now + queue_ms;
	if (s->queue_next > c->queue_until || s->queue_next == 0)
		s->queue_next = c->queue_until;
	return store_unsent(s, d, c, o, COMMAND_QUEUED, NULL, NULL);
}

static enum db_result
store_offline(struct storage *s, const struct db_device *d, struct db_command *c,
    const struct command_order *o)
{
	if (o->queue_ms == 0 && o->store_unsent)
		return store_unsent(s, d, c, o, COMMAND_EXPIRED, "expired", EVENT_command_expired);
	if (o->queue_ms == 0) {
		reply_error(&s->desk, o->request, o->ref, ERROR_device_offline, NULL, NULL);
		return DB_OK;
	}
	return store_waiting(s, d, c, o, o->queue_ms);
}

/* By what right it may be sent, as the trace has it. */
static const char *
right_name(const struct storage *s, const struct requester *who, const struct db_device *d)
{
	if (who->role == ROLE_SERVICE)
		return "service";
	switch (access_level(&s->desk, who, d)) {
	case ACCESS_OWNER:
		return "owner";
	case ACCESS_ADMIN:
		return "admin";
	case ACCESS_CONTROL:
		return "control";
	case ACCESS_VIEW:
	case ACCESS_NONE:
		break;
	}
	return "member";
}

static void
trace_stored(struct storage *s, const struct db_device *d, struct db_command *c, const struct command_order *o)
{
	buf_clear(&s->trace);
	command_trace(s, c, "stored", o->who.user, right_name(s, &o->who, d));
}

enum db_result
command_order(struct storage *s, const struct db_device *d, const struct command_order *o)
{
	struct buf error = BUF_INIT;
	struct db_command c = {
		.device_pk = d->pk, .created_at = s->desk.now, .timeout_ms = o->timeout_ms,
		.queue_ms = o->queue_ms,
		.asker = o->follows ? o->ref : REF_NONE, .asker_boot = s->boot, .role = (uint8_t)o->who.role,
		.command = o->command, .requested_by = o->who.user, .params_json = o->params_json,
		.only_if_json = o->only_if_json
	};
	uint8_t hash[SHA256_LEN];
	struct device_route to;
	bool waits, room = true;
	enum db_result result = check_key(s, d, o, hash);

	if (result != DB_NONE)
		return result;
	if (o->request != 0)		/* else it is part of what was admitted before */
		TRY(quota_admit(s, d->tenant, o->request, o->ref, &room));
	if (!room)
		return DB_OK;
	memcpy(c.id, o->id, sizeof(c.id));
	if (o->queue_ms > 0)
		c.queue_until = s->desk.now + o->queue_ms;
	if (!storage_route(s, d, &to)) {
		trace_stored(s, d, &c, o);
		result = store_offline(s, d, &c, o);
	} else {
		TRY(command_pump(s, d, &waits));	/* what was accepted before goes first */
		trace_stored(s, d, &c, o);
		if (waits)
			result = store_waiting(s, d, &c, o, o->queue_ms > 0 ? o->queue_ms : o->timeout_ms);
		else if (o->only_if_json.len > 0 && !condition_met(o->only_if_json, d, to.last_seen,
		    s->desk.now)) {
			command_set_error(&c, &error, "precondition",
			    "the condition of onlyIf is not met");
			result = store_unsent(s, d, &c, o, COMMAND_FAILED, "failed",
			    EVENT_command_failed);
		} else {
			result = command_send(s, d, &c, COMMAND_FRESH, o, to.ref, to.epoch);
		}
	}
	buf_fini(&error);
	if (result == DB_EXISTS)
		return answer_known(s, d, o, o->id);
	if (result != DB_OK || c.number == 0)		/* refused: nothing was stored */
		return result;
	effect_count(s, STAT_COMMANDS_CREATED, 1);
	effect_tally(s, d->tenant_pk, TALLY_CREATED, 1);
	return remember_key(s, d, o, hash);
}

enum db_result
command_new(struct storage *s, const struct msg_command_new *m)
{
	struct command_order o = {
		.who = { (enum role)m->role, m->tenant, m->user }, .request = m->request,
		.ref = m->ref, .follows = m->follows, .id = m->command_id,
		.timeout_ms = m->timeout_ms > 0 ? m->timeout_ms : COMMAND_TIMEOUT_DEFAULT_MS,
		.queue_ms = m->queue_ms,
		.command = m->command, .params_json = m->params_json.len > 0 ? m->params_json :
		SLICE("{}"),
		.only_if_json = m->only_if_json, .idempotency_key = m->idempotency_key
	};
	struct db_device *d = &s->desk.device;
	enum db_result result = DB(s->desk.db, device_by_id, m->tenant, m->device,
	    m->only_if_json.len > 0, d);
	bool may;

	if (result == DB_NONE) {
		reply_error(&s->desk, m->request, m->ref, ERROR_not_found, "deviceId", "no such device");
		return DB_OK;
	}
	if (result == DB_FAILED)
		return DB_FAILED;
	TRY(access_command(&s->desk, &o.who, d, m->command, &may));
	if (!may) {
		reply_error(&s->desk, m->request, m->ref, ERROR_no_access, NULL, NULL);
		return DB_OK;
	}
	if (m->params_json.len + m->only_if_json.len > command_room(s)) {
		reply_error(&s->desk, m->request, m->ref, ERROR_invalid_payload, "params",
		    "too large with onlyIf: see memory.mailbox");
		return DB_OK;
	}
	return command_order(s, d, &o);
}
