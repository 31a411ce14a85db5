/*
 * rest.c: REST requests that the store answers alone: which function answers
 * which route; and subscribe.  Only the storage process.
 */
#include <stdio.h>

#include "base/json.h"
#include "http/route.h"
#include "storage/rest.h"

enum db_result
rest(struct storage *s, const struct msg_rest *m)
{
	struct rest r = { m, { (enum role)m->role, m->tenant, m->user } };

	/*
	 * Decoded parameters stay where they are until the request is done: each is decoded once
	 * and becomes no longer, so twice the query is room for all that there are and for one
	 * more being decoded.
	 */
	buf_clear(&s->desk.text);
	buf_reserve(&s->desk.text, 2 * m->query.len + 2);
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
		return rest_error(&s->desk, &r, ERROR_not_implemented, NULL, NULL);
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
		reply_error(&s->desk, m->request, m->ref, ERROR_invalid_payload, "payload.devices", NULL);
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
		result = DB(s->desk.db, device_by_id, m->tenant, id, false, &s->desk.device);
		if (result == DB_FAILED)
			break;
		if (result == DB_NONE)
			code = ERROR_not_found;
		else if (access_level(&s->desk, &who, &s->desk.device) < ACCESS_VIEW)
			code = ERROR_no_access;
		else
			n++;
	}
	if (result == DB_FAILED) {
		;
	} else if (code != ERROR_NONE) {
		snprintf(field, sizeof(field), "payload.devices[%u]", n);
		reply_error(&s->desk, m->request, m->ref, code, field, NULL);
	} else {
		buf_puts(&body, "{\"devices\":");
		buf_put_slice(&body, array.raw);
		buf_putc(&body, '}');
		reply_json(&s->desk, m->request, m->ref, 200, buf_slice(&body));
	}
	buf_fini(&scratch);
	buf_fini(&body);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}
