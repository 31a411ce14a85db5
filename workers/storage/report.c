/*
 * report.c: what devices tell of themselves: their state and events, by a
 * connection or, with epoch 0, by a request.  Only the storage process.
 */
#include "msg/schema.h"
#include "storage/rest.h"

static enum db_result
report_state(struct storage *s, const struct db_device *d, int64_t epoch, struct slice state_json)
{
	struct db_event e = { .event = slice_of(EVENT_status_changed), .epoch = epoch, .data_json = state_json };
	enum db_result result;

	TRY(batch_begin(s));
	result = DB(s->desk.db, device_set_state, d->pk, epoch != 0 ? epoch : d->epoch, state_json, s->desk.now);
	if (result == DB_FAILED)
		return DB_FAILED;
	/* of a connection that was replaced: a newer one speaks for the device */
	if (result == DB_NONE)
		return DB_OK;
	live_report(&s->desk.json, d->id, epoch, SLICE_NONE, s->desk.now, state_json);
	e.payload = buf_slice(&s->desk.json);
	return event_publish(s, d, "device_status", &e);
}

static enum db_result
report_event(struct storage *s, const struct db_device *d, int64_t epoch, struct slice event, int64_t at,
    struct slice data_json)
{
	struct db_event e = {
		.event = event, .epoch = epoch, .at = at > 0 && at < s->desk.now ? at : s->desk.now,
		.data_json = data_json.len > 0 ? data_json : SLICE("{}")
	};

	live_report(&s->desk.json, d->id, epoch, event, e.at, e.data_json);
	e.payload = buf_slice(&s->desk.json);
	return event_publish(s, d, "device_event", &e);
}

enum db_result
device_report(struct storage *s, const struct msg_device_report *m)
{
	struct db_device *d = &s->desk.device;
	enum db_result result = storage_device(s, m->device_pk, m->tenant, m->device);
	bool room;

	if (result == DB_NONE) {
		reply_error(&s->desk, m->request, m->ref, ERROR_not_found, NULL, NULL);
		return DB_OK;
	}
	if (result == DB_OK) {
		TRY(quota_admit(s, d->tenant, m->request, m->ref, &room));
		if (!room)
			return DB_OK;
		if (m->event.len == 0)
			result = report_state(s, d, m->epoch, m->data_json);
		else
			result = report_event(s, d, m->epoch, m->event, m->at, m->data_json);
	}
	if (result == DB_OK)
		reply_json(&s->desk, m->request, m->ref, 200, SLICE("{}"));
	return result;
}

/* The body, which is read into f as that; it was checked before.  DB_NONE: answered. */
static enum db_result
read_body(struct storage *s, const struct rest *r, enum body_schema body, struct fields *f)
{
	struct envelope_fault fault;

	fields_init(f);
	if (schema_parse(body, r->m->body_json, f, &fault) == 0)
		return rest_own_device(&s->desk, r, r->target, NULL);
	rest_error(&s->desk, r, fault.code, fault.field, fault.message[0] != '\0' ? fault.message : NULL);
	return DB_NONE;
}

enum db_result
rest_device_event(struct storage *s, const struct rest *r)
{
	const struct field_value *v;
	struct fields f;
	enum db_result result = read_body(s, r, BODY_device_event, &f);

	v = f.field;
	if (result == DB_OK)
		result = report_event(s, &s->desk.device, 0, v[FIELD_event_event].str,
		    v[FIELD_event_at].present ? v[FIELD_event_at].i64 : 0,
		    v[FIELD_event_data].present ? v[FIELD_event_data].json.raw : SLICE_NONE);
	if (result == DB_OK)
		reply_json(&s->desk, r->request, r->ref, 202, SLICE("{\"accepted\":1}"));
	fields_fini(&f);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
rest_device_state(struct storage *s, const struct rest *r)
{
	struct fields f;
	enum db_result result = read_body(s, r, BODY_device_state, &f);

	if (result == DB_OK)
		result = report_state(s, &s->desk.device, 0, f.json.raw);
	if (result == DB_OK)
		reply_json(&s->desk, r->request, r->ref, 204, SLICE_NONE);
	fields_fini(&f);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}
