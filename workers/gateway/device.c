/*
 * device.c: what a connected device says, and what it is told.  One gateway
 * process; what must last goes to storage, telemetry straight to its viewers,
 * and to storage behind that where it is to be stored.
 */
#include <stdlib.h>
#include <string.h>

#include "auth/device_token.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/deliver.h"
#include "gateway/device.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/session.h"
#include "msg/audience.h"
#include "shm/directory.h"
#include "shm/pending.h"
#include "store/rate.h"

#define SAMPLES_OF_A_MESSAGE 10		/* so many of telemetry's samples count as one message */

struct device *
device_new(struct gateway *g, const struct msg_device_welcome *m)
{
	struct device *d = must_realloc(NULL, sizeof(*d) + m->device.len);

	must(m->device.len <= UINT8_MAX);
	memset(d, 0, sizeof(*d));
	d->tenant = tenant_get(g, m->tenant);
	d->tenant->devices++;
	d->pk = m->device_pk;
	d->epoch = m->epoch;
	d->key = audience_device_key(shm_hash_key(g->w->shm), m->tenant, m->device);
	d->entry = m->entry;
	d->entry_generation = m->entry_generation;
	d->len = (uint8_t)m->device.len;
	memcpy(d->id, m->device.p, m->device.len);
	device_set_audience(d, m->audience);
	return d;
}

void
device_free(struct gateway *g, struct device **dp)
{
	struct device *d = *dp;

	*dp = NULL;
	d->tenant->devices--;
	tenant_put(g, d->tenant);
	free(d->audience);
	free(d);
}

void
device_set_audience(struct device *d, struct slice audience)
{
	free(d->audience);
	d->audience = must_realloc(NULL, audience.len > 0 ? audience.len : 1);
	memcpy(d->audience, audience.p, audience.len);
	d->audience_len = (uint32_t)audience.len;
}

void
device_heard(struct gateway *g, const struct device *d)
{
	directory_touch(g->w->shm, d->entry, d->entry_generation, g->w->mono_ms);
}

void
device_asked(struct device *d, uint32_t commands)
{
	d->owed = commands < (UINT32_MAX - d->owed) / 2 ? d->owed + 2 * commands : UINT32_MAX;
}

bool
device_owes(struct device *d)
{
	return d->owed > 0 && d->owed-- > 0;
}

static void
answered(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	if (!session_refused(g, c, ask_re(a), m))
		conn_send(g, c, "ok", ask_re(a), SLICE_NONE, SLICE_NONE);
}

static const struct ask_ops asks = { .waits = session_waits, .answer = answered, .failed = session_ask_failed };

void
device_refused(struct gateway *g, const struct msg_store_reply *m)
{
	struct conn *c = conn_of_ref(g, m->ref);

	if (c != NULL && conn_phase(c) == CONN_OPEN && c->kind == CONN_DEVICE)
		session_refused(g, c, SLICE_NONE, m);
}

/* Tells storage; where the device gave an id, its answer is passed on, and a refusal always. */
#define TELL(g, c, name, m) do { \
	if ((g)->envelope.id.p != NULL) \
		SESSION_ASK((g), (c), &asks, name, (m)); \
	else if (gateway_tell_storage((g), name, (m)) == -1) \
		session_error((g), (c), SLICE_NONE, tell_refusal(), NULL, NULL); \
} while (0)

static int64_t
time_of(struct gateway *g, unsigned field)
{
	const struct field_value *f = &g->envelope.field[field];

	return f->present ? f->i64 : g->w->now_ms;
}

static void
on_report(struct gateway *g, struct conn *c, struct slice event, int64_t at, struct slice data_json)
{
	struct device *d = c->device;
	struct msg_device_report m = {
		.ref = conn_ref(g, c), .device_pk = d->pk, .epoch = d->epoch, .at = at,
		.tenant = tenant_name(d->tenant), .device = device_id(d),
		.asked_ms = g->w->mono_ms, .event = event, .data_json = data_json
	};

	TELL(g, c, device_report, &m);
}

/* It may be lost, and is never waited for: those who ask for something go before it. */
static void
store_sample(struct gateway *g, const struct device *d, int64_t at, struct slice data_json)
{
	struct msg_sample m = {
		.device_pk = d->pk, .epoch = d->epoch, .at = at,
		.tenant = tenant_name(d->tenant), .device = device_id(d), .data_json = data_json
	};
	int slot = gateway_storage_slot(g);
	struct iovec iov;

	buf_clear(&g->record);
	msg_pack_sample(&g->record, &m);
	iov = (struct iovec){ g->record.data, g->record.len };
	if (slot == -1 || store_rate_take(g->w, m.tenant, g->record.len) > 0 ||
	    worker_post_idly(g->w, (unsigned)slot, MSG_sample, &iov, 1) == -1)
		gateway_count(g, TELEMETRY_UNSTORED, 1);
}

static void
on_sample(struct gateway *g, const struct device *d, int64_t at, struct slice data_json)
{
	struct buf *b = &g->payload;
	struct msg_publish m = {
		.kind = PUBLISH_CONFLATED, .admins = ADMINS_AND_MEMBERS,
		.tenant = tenant_name(d->tenant), .device = device_id(d),
		.audience = { d->audience, d->audience_len }, .type = SLICE("telemetry")
	};

	buf_clear(b);
	buf_puts(b, "{\"deviceId\":");
	buf_put_json_string(b, device_id(d));
	buf_puts(b, ",\"epoch\":");
	buf_put_i64(b, d->epoch);
	buf_puts(b, ",\"at\":");
	buf_put_json_moment(b, at);
	buf_puts(b, ",\"data\":");
	buf_put_slice(b, data_json);
	buf_putc(b, '}');
	m.payload_json = buf_slice(b);
	deliver_everywhere(g, &m);
	gateway_count(g, TELEMETRY_IN, 1);
	if (g->conf->store_telemetry_retention_ms > 0)
		store_sample(g, d, at, data_json);
}

/* The elements were checked with the message. */
static void
on_samples(struct gateway *g, struct conn *c, const struct field_value *samples)
{
	struct json_value e, v;
	struct json_iter it;
	struct slice text;
	int64_t at;

	limits_message_more(g, c, (uint32_t)(samples->i64 - 1) / SAMPLES_OF_A_MESSAGE);
	json_iter_init(&it, samples->json);
	while (json_array_next(&it, &e)) {
		buf_clear(&g->scratch);
		at = g->w->now_ms;
		if (json_get(e, "at", &v) == 0 && json_text(v, &g->scratch, &text) == 0)
			must(clock_parse(text, &at) == 0);
		must(json_get(e, "data", &v) == 0);
		on_sample(g, c->device, at, v.raw);
	}
}

static void
on_telemetry(struct gateway *g, struct conn *c)
{
	const struct field_value *f = g->envelope.field;

	if (f[FIELD_telemetry_samples].present)
		on_samples(g, c, &f[FIELD_telemetry_samples]);
	else
		on_sample(g, c->device, time_of(g, FIELD_telemetry_at), f[FIELD_telemetry_data].json.raw);
	if (g->envelope.id.p != NULL)
		conn_send(g, c, "ok", g->envelope.id, SLICE_NONE, SLICE_NONE);
}

/*
 * The pending table decides at this moment whether the result came in time; storage makes the
 * decision last and tells everyone.
 */
static void
on_command_ack(struct gateway *g, struct conn *c)
{
	static const enum pending_state state_of[] = {
		[CHOICE_ack_status_accepted] = PENDING_ACCEPTED,
		[CHOICE_ack_status_executed] = PENDING_EXECUTED,
		[CHOICE_ack_status_failed] = PENDING_FAILED
	};
	struct device *d = c->device;
	const struct field_value *f = g->envelope.field;
	struct msg_command_ack m = {
		.ref = conn_ref(g, c), .device_pk = d->pk,
		.status = (uint8_t)f[FIELD_command_ack_status].i64, .verdict = PENDING_UNKNOWN,
		.tenant = tenant_name(d->tenant), .device = device_id(d)
	};

	memcpy(m.command, f[FIELD_command_ack_commandId].uuid, sizeof(m.command));
	if (f[FIELD_command_ack_result].present)
		m.result_json = f[FIELD_command_ack_result].json.raw;
	if (f[FIELD_command_ack_error].present)
		m.error_json = f[FIELD_command_ack_error].json.raw;
	if (m.status != CHOICE_ack_status_unknown)
		m.verdict = (uint8_t)pending_move(g->w->shm, m.command, d->key, state_of[m.status]);
	gateway_count(g, COMMAND_ACKS, 1);
	TELL(g, c, command_ack, &m);
}

static void
on_visitor(struct gateway *g, struct conn *c)
{
	struct device *d = c->device;
	const struct field_value *f = g->envelope.field;
	struct msg_visitor_new m = {
		.ref = conn_ref(g, c), .device_pk = d->pk, .asked_ms = g->w->mono_ms,
		.tenant = tenant_name(d->tenant), .device = device_id(d),
		.name = f[FIELD_visitor_name].str, .snapshot_url = f[FIELD_visitor_snapshotUrl].str
	};

	if (f[FIELD_visitor_visitorId].present)
		memcpy(m.visitor_id, f[FIELD_visitor_visitorId].uuid, sizeof(m.visitor_id));
	else
		uuid_new(m.visitor_id);
	if (f[FIELD_visitor_data].present)
		m.data_json = f[FIELD_visitor_data].json.raw;
	TELL(g, c, visitor_new, &m);
}

static void
rotated(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	if (!session_refused(g, c, ask_re(a), m))
		conn_send(g, c, "ok", ask_re(a), m->body_json, SLICE_NONE);
}

static const struct ask_ops rotates = {
	.waits = session_waits, .answer = rotated, .failed = session_ask_failed
};

static void
on_token_rotate(struct gateway *g, struct conn *c)
{
	const struct device *d = c->device;
	char token[DEVICE_TOKEN_LEN + 1];
	uint8_t hash[SHA256_LEN];
	struct msg_token_rotate m = {
		.ref = conn_ref(g, c), .device_pk = d->pk, .asked_ms = g->w->mono_ms,
		.tenant = tenant_name(d->tenant), .device = device_id(d)
	};

	auth_device_token_new(token, hash);
	m.token = slice_of(token);
	SESSION_ASK(g, c, &rotates, token_rotate, &m);
}

void
device_message(struct gateway *g, struct conn *c)
{
	const struct envelope *e = &g->envelope;

	switch (e->type) {
	case MSG_TYPE_heartbeat:
		session_answer_at(g, c, "heartbeat_ack");
		break;
	case MSG_TYPE_token_rotate:
		on_token_rotate(g, c);
		break;
	case MSG_TYPE_telemetry:
		on_telemetry(g, c);
		break;
	case MSG_TYPE_status:
		on_report(g, c, SLICE_NONE, g->w->now_ms, e->payload.raw);
		break;
	case MSG_TYPE_event:
		on_report(g, c, e->field[FIELD_event_event].str, time_of(g, FIELD_event_at),
		    e->field[FIELD_event_data].present ? e->field[FIELD_event_data].json.raw :
		    SLICE("{}"));
		break;
	case MSG_TYPE_command_ack:
		on_command_ack(g, c);
		break;
	case MSG_TYPE_visitor:
		on_visitor(g, c);
		break;
	default:
		session_error(g, c, e->id, ERROR_unknown_type, "type", NULL);
		break;
	}
}

void
device_deliver(struct gateway *g, const struct msg_device_send *m)
{
	struct conn *c = conn_of_ref(g, m->ref);

	if (c != NULL && conn_phase(c) == CONN_OPEN && c->kind == CONN_DEVICE) {
		char type[72];

		must(m->type.len < sizeof(type));
		memcpy(type, m->type.p, m->type.len);
		type[m->type.len] = '\0';
		device_asked(c->device, 1);
		conn_send(g, c, type, SLICE_NONE, m->payload_json, SLICE_NONE);
		if (conn_phase(c) == CONN_OPEN)
			return;
	}

	struct msg_device_send_failed failed = { .ref = m->ref, .epoch = m->epoch };

	memcpy(failed.command, m->command, sizeof(failed.command));
	gateway_tell_storage(g, device_send_failed, &failed);
}
