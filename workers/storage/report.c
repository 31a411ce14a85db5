/*
 * report.c: what devices tell of themselves: their state and events.  Only
 * the storage process.
 */
#include "storage/storage.h"

static enum db_result
report_state(struct storage *s, const struct db_device *d, const struct msg_device_report *m)
{
	struct db_event e = { .event = SLICE("status_changed"), .epoch = m->epoch, .data_json = m->data_json };
	enum db_result result;

	TRY(batch_begin(s));
	result = DB(s->desk.db, device_set_state, d->pk, m->epoch, m->data_json, s->desk.now);
	if (result == DB_FAILED)
		return DB_FAILED;
	/* of a connection that was replaced: a newer one speaks for the device */
	if (result == DB_NONE)
		return DB_OK;
	live_report(&s->desk.json, d->id, m->epoch, SLICE_NONE, s->desk.now, m->data_json);
	e.payload = buf_slice(&s->desk.json);
	return event_publish(s, d, "device_status", &e);
}

static enum db_result
report_event(struct storage *s, const struct db_device *d, const struct msg_device_report *m)
{
	struct db_event e = {
		.event = m->event, .epoch = m->epoch, .at = m->at > 0 && m->at < s->desk.now ? m->at : s->desk.now,
		.data_json = m->data_json.len > 0 ? m->data_json : SLICE("{}")
	};

	live_report(&s->desk.json, d->id, m->epoch, m->event, e.at, e.data_json);
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
			result = report_state(s, d, m);
		else
			result = report_event(s, d, m);
	}
	if (result == DB_OK)
		reply_json(&s->desk, m->request, m->ref, 200, SLICE("{}"));
	return result;
}
