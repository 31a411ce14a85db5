/*
 * subscribe.c: dashboards name the devices that they want to hear of.  Only readers.
 */
#include <stdio.h>

#include "reader/reader.h"

#define IDS_STEP 256

static enum read_end
answer(struct desk *k, const struct reading *x)
{
	struct buf body = BUF_INIT;

	buf_puts(&body, "{\"devices\":");
	buf_put_slice(&body, x->u.subscribe.array.raw);
	buf_putc(&body, '}');
	reply_json(k, x->r.request, x->r.ref, 200, buf_slice(&body));
	buf_fini(&body);
	return READ_DONE;
}

static enum read_end
refuse(struct desk *k, const struct reading *x, enum error_code code)
{
	char field[48];

	snprintf(field, sizeof(field), "payload.devices[%u]", x->u.subscribe.count);
	reply_error(k, x->r.request, x->r.ref, code, field, NULL);
	return READ_DONE;
}

enum read_end
read_subscribe(struct desk *k, struct reading *x)
{
	struct json_value v;
	struct slice id;

	if (!x->begun) {
		if (json_parse(x->body_json, 4, &x->u.subscribe.array) == -1 ||
		    (x->u.subscribe.check && x->u.subscribe.array.kind != JSON_KIND_ARRAY)) {
			reply_error(k, x->r.request, x->r.ref, ERROR_invalid_payload, "payload.devices", NULL);
			return READ_DONE;
		}
		if (!x->u.subscribe.check)
			return answer(k, x);
		json_iter_init(&x->u.subscribe.it, x->u.subscribe.array);
		x->begun = true;
	}
	for (unsigned n = 0; n < IDS_STEP; n++) {
		enum db_result result;

		if (!json_array_next(&x->u.subscribe.it, &v))
			return answer(k, x);
		buf_clear(&k->text);
		if (json_text(v, &k->text, &id) == -1)
			return refuse(k, x, ERROR_invalid_payload);
		result = DB(k->db, device_by_id, x->r.who.tenant, id, false, &k->device);
		if (result == DB_FAILED)
			return READ_FAILED;
		if (result == DB_NONE)
			return refuse(k, x, ERROR_not_found);
		if (access_level(k, &x->r.who, &k->device) < ACCESS_VIEW)
			return refuse(k, x, ERROR_no_access);
		x->u.subscribe.count++;
	}
	return READ_MORE;
}
