/*
 * telemetry.c: measured values told by REST, to the viewers of each device; and the list of those that were stored.
 * Only readers: telling needs rights and viewers, and what is to be stored is handed on to storage.
 */
#include <stdio.h>

#include "base/conf.h"
#include "base/stats_names.h"
#include "reader/reader.h"
#include "store/rate.h"

#define ELEMENTS_STEP 64		/* of an array, in one step */

/* DB_NONE: answered, the rest is not looked at. */
static enum db_result
check_one(struct desk *k, const struct reading *x, const struct field_value *f, const char *prefix)
{
	struct db_device *d = &k->device;
	struct slice id = f[FIELD_telemetry_post_deviceId].str;
	char field[40];
	enum db_result result;

	snprintf(field, sizeof(field), "%sdeviceId", prefix);
	if (x->r.who.role == ROLE_DEVICE)
		return rest_own_device(k, &x->r, id, field);
	result = DB(k->db, device_by_id, x->r.who.tenant, id, false, d);
	if (result == DB_NONE)
		rest_error(k, &x->r, ERROR_not_found, field, "no such device");
	if (result != DB_OK)
		return result;
	/* A back end, or the device's owner. */
	if (x->r.who.role != ROLE_SERVICE && access_level(k, &x->r.who, d) < ACCESS_OWNER) {
		rest_error(k, &x->r, ERROR_no_access, field, NULL);
		return DB_NONE;
	}
	return DB_OK;
}

/* It may be lost, and is never waited for: those who ask for something go before it. */
static void
store_sample(struct desk *k, const struct db_sample *v)
{
	struct msg_sample m = {
		.device_pk = v->device_pk, .epoch = v->epoch, .at = v->at, .tenant = v->tenant, .device = v->device,
		.data_json = v->data_json
	};
	int slot = worker_slot_of(k->w, ROLE_ID_STORAGE, 0);
	struct iovec iov;

	buf_clear(&k->pack);
	msg_pack_sample(&k->pack, &m);
	iov = (struct iovec){ k->pack.data, k->pack.len };
	if (slot == -1 || store_rate_take(k->w, m.tenant, k->pack.len) > 0 ||
	    worker_post_idly(k->w, (unsigned)slot, MSG_sample, &iov, 1) == -1)
		worker_count(k->w, STAT_TELEMETRY_UNSTORED, 1);
}

static void
tell_one(struct desk *k, const struct field_value *f)
{
	const struct db_device *d = &k->device;
	struct publication p = {
		.tenant = d->tenant, .device = d->id, .audience = d->audience, .admins = ADMINS_AND_MEMBERS,
		.type = "telemetry", .conflated = true
	};
	struct db_sample v = {
		.device_pk = d->pk, .tenant = d->tenant, .device = d->id,	/* of no connection: epoch 0 */
		.at = f[FIELD_telemetry_post_at].present ? f[FIELD_telemetry_post_at].i64 : k->now,
		.data_json = f[FIELD_telemetry_post_data].json.raw
	};

	buf_clear(&k->json);
	json_sample(&k->json, &v, d->id);
	p.payload = buf_slice(&k->json);
	publish(k, &p);
	worker_count(k->w, STAT_TELEMETRY_IN, 1);
	if (k->w->conf->store_telemetry_retention_ms > 0)
		store_sample(k, &v);
}

/* One element, of which there were n before: DB_NONE, answered. */
static enum db_result
do_one(struct desk *k, struct reading *x, struct json_value v, struct fields *f)
{
	bool array = x->u.telemetry.body.kind == JSON_KIND_ARRAY;
	unsigned n = x->u.telemetry.count;
	struct envelope_fault fault;
	char prefix[24] = "";
	enum db_result result;

	if (array ? schema_parse_element(BODY_telemetry_post, v, n, f, &fault) == -1 :
	    schema_parse(BODY_telemetry_post, v.raw, f, &fault) == -1) {
		rest_error(k, &x->r, fault.code, fault.field, fault.message[0] != '\0' ? fault.message : NULL);
		return DB_NONE;
	}
	if (array)
		snprintf(prefix, sizeof(prefix), "[%u].", n);
	result = check_one(k, x, f->field, prefix);
	if (result == DB_OK && x->u.telemetry.telling)
		tell_one(k, f->field);
	return result;
}

static void
begin_pass(struct reading *x)
{
	x->u.telemetry.count = 0;
	if (x->u.telemetry.body.kind == JSON_KIND_ARRAY)
		json_iter_init(&x->u.telemetry.it, x->u.telemetry.body);
}

static bool
next_element(struct reading *x, struct json_value *v)
{
	if (x->u.telemetry.body.kind == JSON_KIND_ARRAY)
		return json_array_next(&x->u.telemetry.it, v);
	*v = x->u.telemetry.body;
	return x->u.telemetry.count == 0;
}

/* Two passes, each in steps: a request with one bad element tells nothing. */
static enum read_end
step(struct desk *k, struct reading *x, struct fields *f)
{
	struct buf answer = BUF_INIT;
	struct json_value v;
	enum db_result result;

	for (unsigned n = 0; next_element(x, &v); n++) {
		result = do_one(k, x, v, f);
		if (result != DB_OK)
			return result == DB_FAILED ? READ_FAILED : READ_DONE;
		x->u.telemetry.count++;
		if (n + 1 == ELEMENTS_STEP)
			return READ_MORE;
	}
	if (!x->u.telemetry.telling) {
		x->u.telemetry.telling = true;
		begin_pass(x);
		return READ_MORE;
	}
	buf_printf(&answer, "{\"accepted\":%u}", x->u.telemetry.count);
	rest_ok(k, &x->r, 202, &answer);
	buf_fini(&answer);
	return READ_DONE;
}

enum read_end
read_telemetry(struct desk *k, struct reading *x)
{
	struct fields f;
	enum read_end end;

	if (!x->begun) {
		if (json_parse(x->body_json.len > 0 ? x->body_json : SLICE("{}"), JSON_DEPTH_MAX,
		    &x->u.telemetry.body) == -1) {
			rest_error(k, &x->r, ERROR_invalid_json, NULL, NULL);
			return READ_DONE;
		}
		begin_pass(x);
		x->begun = true;
	}
	fields_init(&f);
	end = step(k, x, &f);
	fields_fini(&f);
	return end;
}

/* ------------------------------------------------------------------ what is stored */

static void
show_sample(struct rest_list *l, const struct db_sample *v)
{
	json_sample(&l->body, v, l->k->device.id);
	buf_clear(&l->cursor);
	buf_putc(&l->cursor, '"');
	cursor_put_sample(l->k, &l->cursor, l->k->device.tenant_pk, v->at, v->seq);
	buf_putc(&l->cursor, '"');
}

static bool
place(struct desk *k, const struct reading *x, struct db_sample_filter *f)
{
	struct slice text;

	if (!rest_query(k, &x->r, "cursor", &text))
		return false;
	if (text.len == 0 || cursor_get_sample(k, text, k->device.tenant_pk, &f->before_at, &f->before_seq))
		return true;
	rest_error(k, &x->r, ERROR_invalid_payload, "cursor", "not a cursor of this list");
	return false;
}

enum read_end
read_device_telemetry(struct desk *k, struct reading *x)
{
	struct db_sample_filter *f = &x->u.samples;
	struct rest_list *l = &x->list;
	const struct db_sample *v;
	struct db_page *page;
	unsigned limit;
	enum db_result result = rest_device(k, &x->r, false);

	if (result != DB_OK)
		return result == DB_FAILED ? READ_FAILED : READ_DONE;
	if (!x->begun) {
		if (!rest_page(k, &x->r, &limit, CURSOR_NONE, NULL) || !place(k, x, f) ||
		    !rest_time(k, &x->r, "since", &f->since) || !rest_time(k, &x->r, "until", &f->until))
			return READ_DONE;
		list_open(k, l, "telemetry", limit);
		x->begun = true;
	}
	f->device_pk = k->device.pk;
	page = reading_page_of_list(k, x);
	/* None is shown that was stored before storing was turned off: it is being removed. */
	if (k->w->conf->store_telemetry_retention_ms > 0 && db_samples(k->db, f, page) == DB_FAILED)
		return READ_FAILED;
	v = page->row;
	for (unsigned i = 0; i < page->count && list_next(l); i++)
		show_sample(l, &v[i]);
	if (page->count > 0) {
		f->before_at = v[page->count - 1].at;
		f->before_seq = v[page->count - 1].seq;
	}
	if (reading_goes_on(k, x))
		return READ_MORE;
	list_close(l, &x->r);
	return READ_DONE;
}
