/*
 * rest.c: REST requests that the store answers alone: which function answers
 * which route, and what their answers have in common.  Only the storage
 * process.  Bodies were checked by the gateway.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/json.h"
#include "http/route.h"
#include "http/uri.h"
#include "storage/rest.h"

#define LIMIT_DEFAULT	50
#define LIMIT_MAX	500

enum db_result
rest_ok(struct storage *s, const struct rest *r, unsigned status, const struct buf *body)
{
	reply_json(s, r->m->request, r->m->ref, status, buf_slice(body));
	return DB_OK;
}

enum db_result
rest_error(struct storage *s, const struct rest *r, enum error_code code, const char *field,
    const char *message)
{
	reply_error(s, r->m->request, r->m->ref, code, field, message);
	return DB_OK;
}

enum db_result
rest_device(struct storage *s, const struct rest *r, bool whole, enum access at_least)
{
	enum db_result result = DB(s->db, device_by_id, r->who.tenant, r->m->target, whole,
	    &s->device);

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE)
		rest_error(s, r, ERROR_not_found, NULL, "no such device");
	else if (access_level(s, &r->who, &s->device) < at_least)
		rest_error(s, r, ERROR_no_access, NULL, NULL);
	else
		return DB_OK;
	return DB_NONE;
}

bool
rest_query(struct storage *s, const struct rest *r, const char *name, struct slice *value)
{
	*value = SLICE_NONE;
	if (uri_query_get(r->m->query, name, &s->text, value) >= 0)
		return true;
	rest_error(s, r, ERROR_invalid_payload, name, "malformed percent-encoding");
	return false;
}

bool
rest_time(struct storage *s, const struct rest *r, const char *name, int64_t *at)
{
	struct slice text;

	*at = 0;
	if (!rest_query(s, r, name, &text))
		return false;
	if (text.len == 0 || clock_parse(text, at) == 0)
		return true;
	rest_error(s, r, ERROR_invalid_payload, name, "not an RFC 3339 time");
	return false;
}

/* Digits alone: no sign, no space, no fraction. */
static bool
number(struct slice text, int64_t *out)
{
	int64_t n = 0;

	if (text.len == 0 || text.len > 18)
		return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.p[i] < '0' || text.p[i] > '9')
			return false;
		n = n * 10 + (text.p[i] - '0');
	}
	*out = n;
	return true;
}

bool
rest_page(struct storage *s, const struct rest *r, unsigned *limit, enum cursor_kind kind,
    int64_t *place)
{
	struct slice text;
	int64_t n = LIMIT_DEFAULT, tenant_pk;

	if (!rest_query(s, r, "limit", &text))
		return false;
	if (text.len > 0 && (!number(text, &n) || n < 1 || n > LIMIT_MAX)) {
		rest_error(s, r, ERROR_invalid_payload, "limit", "must be 1 to 500");
		return false;
	}
	*limit = (unsigned)n;
	if (kind == CURSOR_NONE)
		return true;
	*place = 0;
	if (!rest_query(s, r, "cursor", &text))
		return false;
	if (text.len > 0 && (DB(s->db, tenant, r->who.tenant, false, &tenant_pk) != DB_OK ||
	    !cursor_get(s, text, kind, tenant_pk, place))) {
		rest_error(s, r, ERROR_invalid_payload, "cursor", "not a cursor of this list");
		return false;
	}
	return true;
}

void
list_open(struct storage *s, struct rest_list *l, const char *name, unsigned limit)
{
	/*
	 * An answer is one record: a quarter of the smallest ring, less what stands around the
	 * body.
	 */
	size_t ring = shm_sizes(s->shm)->mailbox_bytes;

	*l = (struct rest_list){ .s = s, .limit = limit, .room = ring / 8 };
	buf_printf(&l->body, "{\"%s\":[", name);
}

bool
list_next(struct rest_list *l)
{
	if (l->count == l->limit || (l->count > 0 && l->body.len > l->room)) {
		l->more = true;
		return false;
	}
	if (l->count++ > 0)
		buf_putc(&l->body, ',');
	return true;
}

void
list_cursor(struct rest_list *l, enum cursor_kind kind, int64_t tenant_pk, int64_t place)
{
	buf_clear(&l->cursor);
	buf_putc(&l->cursor, '"');
	cursor_put(l->s, &l->cursor, kind, tenant_pk, place);
	buf_putc(&l->cursor, '"');
}

void
list_cursor_text(struct rest_list *l, struct slice cursor)
{
	buf_clear(&l->cursor);
	buf_put_json_string(&l->cursor, cursor);
}

void
list_scanned(struct rest_list *l, enum cursor_kind kind, int64_t tenant_pk, const struct db_scan *scan)
{
	if (l->more || scan->reached == 0)
		return;
	l->more = true;
	list_cursor(l, kind, tenant_pk, scan->reached);
}

enum db_result
list_close(struct rest_list *l, const struct rest *r)
{
	buf_puts(&l->body, "],\"nextCursor\":");
	if (l->more)
		buf_put_slice(&l->body, buf_slice(&l->cursor));
	else
		buf_puts(&l->body, "null");
	buf_putc(&l->body, '}');
	rest_ok(l->s, r, 200, &l->body);
	buf_fini(&l->body);
	buf_fini(&l->cursor);
	return DB_OK;
}

enum db_result
rest(struct storage *s, const struct msg_rest *m)
{
	struct rest r = { m, { (enum role)m->role, m->tenant, m->user } };

	/*
	 * Decoded parameters stay where they are until the request is done: each is decoded once
	 * and becomes no longer, so twice the query is room for all that there are and for one
	 * more being decoded.
	 */
	buf_clear(&s->text);
	buf_reserve(&s->text, 2 * m->query.len + 2);
	switch ((enum http_route)m->route) {
#define ANSWERS(name) case ROUTE_##name: return rest_##name(s, &r);
	ANSWERS(device_register)
	ANSWERS(device_list)
	ANSWERS(device_stats)
	ANSWERS(device_get)
	ANSWERS(device_update)
	ANSWERS(device_delete)
	ANSWERS(device_token)
	ANSWERS(share_list)
	ANSWERS(share_add)
	ANSWERS(share_remove)
	ANSWERS(device_events)
	ANSWERS(device_telemetry)
	ANSWERS(events)
	ANSWERS(command_get)
	ANSWERS(device_commands)
	ANSWERS(visitor_list)
	ANSWERS(visitor_approve)
	ANSWERS(visitor_deny)
	ANSWERS(health_devices)
	ANSWERS(health_metrics)
	ANSWERS(telemetry)
#undef ANSWERS
	default:
		return rest_error(s, &r, ERROR_not_implemented, NULL, NULL);
	}
}

/* Dashboards name the devices that they want to hear of. */
enum db_result
subscribe(struct storage *s, const struct msg_subscribe *m)
{
	struct requester who = { (enum role)m->role, m->tenant, m->user };
	struct json_value array, v;
	struct json_iter it;
	struct buf scratch = BUF_INIT, body = BUF_INIT;
	char field[48];
	unsigned n = 0;
	enum db_result result = DB_OK;
	enum error_code code = ERROR_NONE;

	if (json_parse(m->devices_json, 4, &array) == -1 || (m->check && array.kind != JSON_KIND_ARRAY)) {
		reply_error(s, m->request, m->ref, ERROR_invalid_payload, "payload.devices", NULL);
		return DB_OK;
	}
	json_iter_init(&it, array);
	while (m->check && code == ERROR_NONE && json_array_next(&it, &v)) {
		struct slice id;

		buf_clear(&scratch);
		if (json_text(v, &scratch, &id) == -1) {
			code = ERROR_invalid_payload;
			break;
		}
		result = DB(s->db, device_by_id, m->tenant, id, false, &s->device);
		if (result == DB_FAILED)
			break;
		if (result == DB_NONE)
			code = ERROR_not_found;
		else if (access_level(s, &who, &s->device) < ACCESS_VIEW)
			code = ERROR_no_access;
		else
			n++;
	}
	if (result == DB_FAILED) {
		;
	} else if (code != ERROR_NONE) {
		snprintf(field, sizeof(field), "payload.devices[%u]", n);
		reply_error(s, m->request, m->ref, code, field, NULL);
	} else {
		buf_puts(&body, "{\"devices\":");
		buf_put_slice(&body, array.raw);
		buf_putc(&body, '}');
		reply_json(s, m->request, m->ref, 200, buf_slice(&body));
	}
	buf_fini(&scratch);
	buf_fini(&body);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}
