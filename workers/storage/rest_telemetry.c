/*
 * rest_telemetry.c: measured values told by REST, to the viewers of each
 * device; and the list of those that were stored.  Only the storage process.
 */
#include <stdio.h>

#include "base/json.h"
#include "msg/schema.h"
#include "storage/rest.h"

/* DB_NONE: answered, the rest is not looked at. */
static enum db_result
check_one(struct storage *s, const struct rest *r, const struct field_value *f, const char *prefix)
{
	struct db_device *d = &s->desk.device;
	char field[40];
	enum db_result result = DB(s->desk.db, device_by_id, r->who.tenant,
	    f[FIELD_telemetry_post_deviceId].str, false, d);

	snprintf(field, sizeof(field), "%sdeviceId", prefix);
	if (result == DB_NONE)
		rest_error(&s->desk, r, ERROR_not_found, field, "no such device");
	if (result != DB_OK)
		return result;
	/* A back end, or the device's owner. */
	if (r->who.role != ROLE_SERVICE && access_level(&s->desk, &r->who, d) < ACCESS_OWNER) {
		rest_error(&s->desk, r, ERROR_no_access, field, NULL);
		return DB_NONE;
	}
	return DB_OK;
}

static void
tell_one(struct storage *s, const struct field_value *f)
{
	const struct db_device *d = &s->desk.device;
	struct publication p = {
		.tenant = d->tenant, .device = d->id, .audience = d->audience, .admins = ADMINS_AND_MEMBERS,
		.type = "telemetry", .conflated = true
	};
	struct db_sample v = {
		.device_pk = d->pk, .tenant = d->tenant, .device = d->id,
		/* That of the newest connection: readers drop what has a lower one than they have seen. */
		.epoch = d->epoch,
		.at = f[FIELD_telemetry_post_at].present ? f[FIELD_telemetry_post_at].i64 : s->desk.now,
		.data_json = f[FIELD_telemetry_post_data].json.raw
	};

	buf_clear(&s->desk.json);
	json_sample(&s->desk.json, &v, d->id);
	p.payload = buf_slice(&s->desk.json);
	publish(&s->desk, &p);
	storage_count(s, TELEMETRY_IN, 1);
	if (s->telemetry_retention_ms > 0)
		sample_note(s, &v);
}

/* Two passes: a request with one bad element tells nothing. */
static enum db_result
pass(struct storage *s, const struct rest *r, struct json_value body, struct fields *f,
    bool telling, unsigned *count)
{
	struct envelope_fault fault;
	struct json_value v = body;
	struct json_iter it;
	enum db_result result;
	char prefix[24] = "";
	unsigned n = 0;

	if (body.kind == JSON_KIND_ARRAY)
		json_iter_init(&it, body);
	while (body.kind == JSON_KIND_ARRAY ? json_array_next(&it, &v) : n == 0) {
		bool good = body.kind == JSON_KIND_ARRAY ?
		    schema_parse_element(BODY_telemetry_post, v, n, f, &fault) == 0 :
		    schema_parse(BODY_telemetry_post, body.raw, f, &fault) == 0;

		if (!good) {
			rest_error(&s->desk, r, fault.code, fault.field,
			    fault.message[0] != '\0' ? fault.message : NULL);
			return DB_NONE;
		}
		if (body.kind == JSON_KIND_ARRAY)
			snprintf(prefix, sizeof(prefix), "[%u].", n);
		result = check_one(s, r, f->field, prefix);
		if (result != DB_OK)
			return result;
		if (telling)
			tell_one(s, f->field);
		n++;
	}
	*count = n;
	return DB_OK;
}

enum db_result
rest_telemetry(struct storage *s, const struct rest *r)
{
	struct json_value body;
	struct buf answer = BUF_INIT;
	struct fields f;
	unsigned count = 0;
	enum db_result result;

	if (json_parse(r->m->body_json.len > 0 ? r->m->body_json : SLICE("{}"),
	    SCHEMA_JSON_DEPTH + 1, &body) == -1)
		return rest_error(&s->desk, r, ERROR_invalid_json, NULL, NULL);
	fields_init(&f);
	result = pass(s, r, body, &f, false, &count);
	if (result == DB_OK)
		result = pass(s, r, body, &f, true, &count);
	if (result == DB_OK) {
		buf_printf(&answer, "{\"accepted\":%u}", count);
		rest_ok(&s->desk, r, 202, &answer);
	}
	fields_fini(&f);
	buf_fini(&answer);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

/* What is stored */

static bool
show_sample(void *arg, const struct db_sample *v)
{
	struct rest_list *l = arg;

	if (!list_next(l))
		return false;
	json_sample(&l->body, v, l->k->device.id);
	buf_clear(&l->cursor);
	buf_putc(&l->cursor, '"');
	cursor_put_sample(l->k, &l->cursor, l->k->device.tenant_pk, v->at, v->seq);
	buf_putc(&l->cursor, '"');
	return true;
}

static bool
place(struct storage *s, const struct rest *r, struct db_sample_filter *f)
{
	struct slice text;

	if (!rest_query(&s->desk, r, "cursor", &text))
		return false;
	if (text.len == 0 || cursor_get_sample(&s->desk, text, s->desk.device.tenant_pk, &f->before_at, &f->before_seq))
		return true;
	rest_error(&s->desk, r, ERROR_invalid_payload, "cursor", "not a cursor of this list");
	return false;
}

enum db_result
rest_device_telemetry(struct storage *s, const struct rest *r)
{
	struct db_sample_filter f = { .device_pk = 0 };
	struct rest_list l;
	unsigned limit;
	enum db_result result = rest_device(&s->desk, r, false, ACCESS_VIEW);

	if (result != DB_OK)
		return result;
	if (!rest_page(&s->desk, r, &limit, CURSOR_NONE, NULL) || !place(s, r, &f) ||
	    !rest_time(&s->desk, r, "since", &f.since) || !rest_time(&s->desk, r, "until", &f.until))
		return DB_OK;
	f.device_pk = s->desk.device.pk;
	f.limit = limit + 1;
	list_open(&s->desk, &l, "telemetry", limit);
	/* None is shown that was stored before storing was turned off: it is being removed. */
	if (s->telemetry_retention_ms > 0 && DB(s->desk.db, telemetry_list, &f, show_sample, &l) == DB_FAILED) {
		buf_fini(&l.body);
		buf_fini(&l.cursor);
		return DB_FAILED;
	}
	return list_close(&l, r);
}
