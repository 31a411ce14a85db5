/*
 * command.c: the states of a command and what each change brings with it:
 * the row, the event, the pending entry, the publication.  Only the storage
 * process.
 *
 *	queued ──► sent ──► accepted ──► executed | failed
 *	   │         └─────────┴───────► timeout ──► executed | failed (late)
 *	   ├──► expired, cancelled, failed (its condition was not met)
 *	sent ──► queued, expired	(it surely did not reach the device)
 */
#include <limits.h>
#include <string.h>

#include "base/log.h"
#include "base/must.h"
#include "shm/shm.h"
#include "storage/storage.h"

#define TRACE_STEPS	32		/* of a trace are kept: the first ones, … */
#define TRACE_FIRST	8		/* … and of the others the newest */
#define TRACE_BYTES	4096		/* of so many steps, and the rest of a command that does not grow */

#define TO(status) (1u << COMMAND_##status)

static const struct {
	unsigned allowed;		/* where it may go from here */
	const char *event;		/* stored on arriving here; NULL: none */
	enum stats_counter counter;
	enum tally_count tally;		/* TALLY_COUNTS: none */
} states[] = {
	[COMMAND_QUEUED] = { TO(SENT) | TO(EXPIRED) | TO(CANCELLED) | TO(FAILED), NULL,
	    STAT_COUNT, TALLY_COUNTS },
	[COMMAND_SENT] = { TO(SENT) | TO(ACCEPTED) | TO(EXECUTED) | TO(FAILED) | TO(TIMEOUT) |
	    TO(QUEUED) | TO(EXPIRED), EVENT_command_sent, STAT_COMMANDS_SENT, TALLY_COUNTS },
	[COMMAND_ACCEPTED] = { TO(ACCEPTED) | TO(SENT) | TO(EXECUTED) | TO(FAILED) | TO(TIMEOUT),
	    NULL, STAT_COUNT, TALLY_COUNTS },
	[COMMAND_EXECUTED] = { 0, EVENT_command_executed, STAT_COMMANDS_EXECUTED, TALLY_EXECUTED },
	[COMMAND_FAILED] = { 0, EVENT_command_failed, STAT_COMMANDS_FAILED, TALLY_FAILED },
	[COMMAND_TIMEOUT] = { TO(TIMEOUT) | TO(EXECUTED) | TO(FAILED), EVENT_command_timeout,
	    STAT_COMMANDS_TIMEOUT, TALLY_TIMEOUT },
	[COMMAND_EXPIRED] = { 0, EVENT_command_expired, STAT_COMMANDS_EXPIRED, TALLY_EXPIRED },
	[COMMAND_CANCELLED] = { 0, EVENT_command_cancelled, STAT_COMMANDS_CANCELLED,
	    TALLY_CANCELLED },
};

bool
command_is_final(enum command_status status)
{
	return status >= COMMAND_EXECUTED;
}

/*
 * Where the nth element of a trace ends, from 1: at its comma, or at the end of all.  n: how many there are, if that
 * is less.
 */
static size_t
trace_end(struct slice trace, unsigned *n)
{
	unsigned depth = 0, ended = 0;
	bool quoted = false;

	for (size_t at = 0; at < trace.len; at++) {
		char ch = trace.p[at];

		if (quoted && ch == '\\')
			at++;
		else if (ch == '"')
			quoted = !quoted;
		else if (!quoted && (ch == '{' || ch == '}'))
			depth += ch == '{' ? 1u : -1u;
		else if (!quoted && depth == 0 && ch == ',' && ++ended == *n)
			return at;
	}
	*n = trace.len > 0 ? ended + 1 : 0;
	return trace.len;
}

/* From a trace that is full the oldest steps go that are none of the first ones, which say how it came to be. */
static void
trace_shorten(struct buf *b)
{
	unsigned all = UINT_MAX, keep = TRACE_FIRST, drop;
	size_t from, to;

	(void)trace_end(buf_slice(b), &all);
	if (all < TRACE_STEPS)
		return;
	drop = TRACE_FIRST + all - (TRACE_STEPS - 1);
	from = trace_end(buf_slice(b), &keep);
	to = trace_end(buf_slice(b), &drop);
	memmove(b->data + from, b->data + to, b->len - to);
	b->len -= to - from;
}

/*
 * Makes room behind the trace: it may live in the command's own text, which is not ours to
 * lengthen.
 */
static struct buf *
trace_open(struct storage *s, const struct db_command *c)
{
	struct buf *b = &s->trace;

	if (c->trace_json.p != b->data || c->trace_json.len != b->len) {
		buf_clear(b);
		buf_put_slice(b, c->trace_json);
	}
	trace_shorten(b);	/* room for one more */
	if (b->len > 0)
		buf_putc(b, ',');
	buf_puts(b, "{\"at\":");
	buf_put_json_time(b, s->desk.now);
	buf_puts(b, ",\"step\":\"");
	return b;
}

void
command_trace(struct storage *s, struct db_command *c, const char *step, struct slice by, const char *as)
{
	struct buf *b = trace_open(s, c);

	buf_puts(b, step);
	buf_putc(b, '"');
	if (by.len > 0) {
		buf_puts(b, ",\"by\":");
		buf_put_json_string(b, by);
	}
	if (as != NULL)
		buf_printf(b, ",\"as\":\"%s\"", as);
	buf_putc(b, '}');
	c->trace_json = buf_slice(b);
}

static void
trace_sent(struct storage *s, struct db_command *c, uint64_t ref, int64_t epoch)
{
	struct buf *b = trace_open(s, c);
	struct slot_view slot;

	slot_get(s->desk.shm, ref_slot(ref), &slot);
	buf_puts(b, "sent\",\"instance\":");
	buf_put_json_string(b, slice_of(s->instance));
	buf_puts(b, ",\"worker\":");
	buf_put_u64(b, slot.nth + 1);
	buf_puts(b, ",\"epoch\":");
	buf_put_i64(b, epoch);
	buf_putc(b, '}');
	c->trace_json = buf_slice(b);
}

size_t
command_room(const struct storage *s)
{
	size_t ring = shm_sizes(s->desk.shm)->mailbox_bytes;

	return ring / 4 - ring / 32 - TRACE_BYTES;
}

void
command_set_error(struct db_command *c, struct buf *b, const char *code, const char *message)
{
	buf_clear(b);
	buf_puts(b, "{\"code\":");
	buf_put_json_string(b, slice_of(code));
	buf_puts(b, ",\"message\":");
	buf_put_json_string(b, slice_of(message));
	buf_putc(b, '}');
	c->error_json = buf_slice(b);
}

/* Publications */

/* The payload, in desk.json. */
static void
put_status(struct storage *s, const struct db_device *d, const struct db_command *c)
{
	buf_clear(&s->desk.json);
	json_command(&s->desk.json, c, d->id);
}

static void
publish_status(struct storage *s, const struct db_device *d, const struct db_command *c,
    unsigned event, enum publish_to to, uint64_t ref, uint64_t request)
{
	struct publication p = {
		.tenant = d->tenant, .device = d->id, .audience = d->audience,
		.admins = ADMINS_AND_MEMBERS, .type = "command_status", .event = event,
		.to = to, .ref = ref, .request = request
	};

	if (event == 0)
		put_status(s, d, c);
	p.payload = buf_slice(&s->desk.json);
	publish(&s->desk, &p);
}

void
command_publish(struct storage *s, const struct db_device *d, const struct db_command *c,
    unsigned event, const struct command_order *o)
{
	if (o != NULL && o->request != 0)
		publish_status(s, d, c, event, PUBLISH_ANSWER, o->ref, o->request);
	else if (c->asker == REF_NONE || c->asker_boot != s->boot)
		publish_status(s, d, c, event, PUBLISH_ALL, REF_NONE, 0);
	else
		publish_status(s, d, c, event, PUBLISH_WITH_REF, c->asker, 0);
}

void
command_answer(struct storage *s, const struct db_device *d, const struct db_command *c,
    uint64_t ref, uint64_t request)
{
	struct publication p = {
		.tenant = d->tenant, .device = d->id, .type = "command_status",
		.to = PUBLISH_ANSWER, .ref = ref, .request = request
	};

	if (request == 0)
		return;
	put_status(s, d, c);
	p.payload = buf_slice(&s->desk.json);
	publish(&s->desk, &p);
}

enum db_result
command_event(struct storage *s, const struct db_device *d, const struct db_command *c,
    const char *name, unsigned *event)
{
	struct buf *b = &s->event_json;
	struct db_event e = {
		.event = slice_of(name), .epoch = c->sent_epoch,
		.actor = c->status == COMMAND_CANCELLED ? c->cancelled_by : c->requested_by,
		.type = SLICE("command_status"), .admins = ADMINS_AND_MEMBERS
	};

	buf_clear(b);
	buf_puts(b, "{\"commandId\":");
	buf_put_json_uuid(b, c->id);
	buf_puts(b, ",\"command\":");
	buf_put_json_string(b, c->command);
	if (c->late)
		buf_puts(b, ",\"late\":true");
	if (c->error_json.len > 0) {
		buf_puts(b, ",\"error\":");
		buf_put_slice(b, c->error_json);
	}
	buf_putc(b, '}');
	put_status(s, d, c);
	e.data_json = buf_slice(b);
	e.payload = buf_slice(&s->desk.json);
	return event_store(s, d, &e, event);
}

/* Changes */

enum db_result
command_store(struct storage *s, struct db_command *c, int was)
{
	enum db_result result = was == COMMAND_FRESH ? DB(s->desk.db, command_insert, c) :
	    DB(s->desk.db, command_update, c, (enum command_status)was);

	if (result == DB_OK)
		flight_move(&s->flights, c, was);
	return result;
}

static void
arrive(struct storage *s, struct db_command *c, enum command_status to)
{
	enum command_status was = c->status;

	c->status = to;
	switch (to) {
	case COMMAND_QUEUED:
		c->outcome = OUTCOME_NOT_SENT;
		c->sent_at = c->accepted_at = 0;
		c->open = true;
		break;
	case COMMAND_SENT:
		c->outcome = OUTCOME_UNCONFIRMED;
		c->open = true;
		break;
	case COMMAND_ACCEPTED:
		if (c->accepted_at == 0)
			c->accepted_at = s->desk.now;
		c->open = true;
		break;
	case COMMAND_EXECUTED:
	case COMMAND_FAILED:
		if (was == COMMAND_TIMEOUT)
			c->late = true;
		/* Known not to have arrived, though its time was not over: it failed before it was sent (again). */
		if (was == COMMAND_TIMEOUT || c->outcome != OUTCOME_NOT_SENT)
			c->outcome = OUTCOME_CONFIRMED;
		c->finished_at = s->desk.now;
		c->open = false;
		break;
	case COMMAND_TIMEOUT:
		if (was != COMMAND_TIMEOUT)
			c->finished_at = s->desk.now;
		break;
	case COMMAND_EXPIRED:
	case COMMAND_CANCELLED:
		c->outcome = OUTCOME_NOT_SENT;
		c->finished_at = s->desk.now;
		c->open = false;
		break;
	}
}

static bool
is_waited_for(enum command_status status)
{
	return status == COMMAND_SENT || status == COMMAND_ACCEPTED;
}

/* Counts of the device's tenant.  The commands of a device end with it: see rest_device.c. */
static void
tally_move(struct storage *s, const struct db_device *d, const struct db_command *c, enum command_status was,
    enum command_status to)
{
	if (was != to && states[to].tally != TALLY_COUNTS)
		effect_tally(s, d->tenant_pk, states[to].tally, 1);
	if (is_waited_for(was) != is_waited_for(to))
		effect_tally(s, d->tenant_pk, TALLY_WAITING, is_waited_for(to) ? 1 : -1);
	if (c->outcome == OUTCOME_CONFIRMED && s->desk.now >= c->created_at)
		effect_tally(s, d->tenant_pk, TALLY_LATENCY, s->desk.now - c->created_at);
}

enum db_result
command_move_telling(struct storage *s, const struct db_device *d, struct db_command *c,
    enum command_status to, const char *step, uint64_t told, unsigned *event)
{
	enum command_status was = c->status;
	enum db_result result;

	*event = 0;
	must(states[was].allowed & 1u << to);
	TRY(batch_begin(s));
	arrive(s, c, to);
	command_trace(s, c, step, to == COMMAND_CANCELLED ? c->cancelled_by : SLICE_NONE, NULL);
	result = command_store(s, c, (int)was);
	if (result != DB_OK)
		return result;
	if (command_is_final(to) || to == COMMAND_QUEUED)
		effect_pending_remove(s, c->id);
	if (was != to && states[to].counter != STAT_COUNT)
		effect_count(s, states[to].counter, 1);
	if (c->late && was == COMMAND_TIMEOUT)
		effect_count(s, STAT_COMMANDS_LATE, 1);
	if (c->outcome == OUTCOME_CONFIRMED && s->desk.now >= c->created_at)
		effect_observe(s, STAT_COMMAND_US, (uint64_t)(s->desk.now - c->created_at) * 1000);
	if (d == NULL)
		return DB_OK;
	tally_move(s, d, c, was, to);
	if (states[to].event != NULL && was != to)
		TRY(command_event(s, d, c, states[to].event, event));
	if (told != REF_NONE && (c->asker == told || c->asker == REF_NONE ||
	    c->asker_boot != s->boot))
		publish_status(s, d, c, *event, PUBLISH_NOT_REF, told, 0);
	else
		command_publish(s, d, c, *event, NULL);
	return DB_OK;
}

enum db_result
command_move(struct storage *s, const struct db_device *d, struct db_command *c,
    enum command_status to, const char *step)
{
	unsigned event;

	return command_move_telling(s, d, c, to, step, REF_NONE, &event);
}

/* Sending */

void
command_post(struct storage *s, const struct db_device *d, const struct db_command *c, uint64_t ref)
{
	struct buf *b = &s->event_json;		/* desk.json holds what is to be published */
	struct msg_device_send m = { .ref = ref, .epoch = c->sent_epoch, .type = SLICE("command") };
	int64_t ends = c->sent_at + c->timeout_ms;
	enum pending_state state = c->status == COMMAND_ACCEPTED ? PENDING_ACCEPTED : PENDING_SENT;

	effect_pending_add(s, c->id, desk_device_key(&s->desk, d), s->desk.mono + (ends - s->desk.now), state);
	buf_clear(b);
	buf_puts(b, "{\"commandId\":");
	buf_put_json_uuid(b, c->id);
	buf_puts(b, ",\"command\":");
	buf_put_json_string(b, c->command);
	buf_puts(b, ",\"params\":");
	buf_put_slice(b, c->params_json);
	buf_puts(b, ",\"issuedAt\":");
	buf_put_json_time(b, c->created_at);
	buf_puts(b, ",\"expiresAt\":");
	buf_put_json_time(b, ends);
	buf_puts(b, ",\"attempt\":");
	buf_put_i64(b, c->attempt);
	buf_putc(b, '}');
	memcpy(m.command, c->id, sizeof(m.command));
	m.payload_json = buf_slice(b);
	post_to_ref(&s->desk, device_send, &m);
}

enum db_result
command_send(struct storage *s, const struct db_device *d, struct db_command *c, int was,
    const struct command_order *o, uint64_t ref, int64_t epoch)
{
	bool fresh = was == COMMAND_FRESH;
	enum db_result result;
	unsigned event;

	must(fresh || states[was].allowed & TO(SENT));
	TRY(batch_begin(s));
	arrive(s, c, COMMAND_SENT);
	c->attempt++;
	if (c->sent_at == 0)
		c->sent_at = s->desk.now;
	c->sent_epoch = epoch;
	trace_sent(s, c, ref, epoch);
	result = command_store(s, c, was);
	if (result != DB_OK)
		return result;
	effect_count(s, STAT_COMMANDS_SENT, 1);
	if (fresh || !is_waited_for((enum command_status)was))
		effect_tally(s, d->tenant_pk, TALLY_WAITING, 1);
	TRY(command_event(s, d, c, EVENT_command_sent, &event));
	command_post(s, d, c, ref);
	command_publish(s, d, c, event, o);
	return DB_OK;
}
