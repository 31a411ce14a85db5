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

/*
 * The next ids, IDS_STEP of them at most, with their bytes in k->text: how many.  *last: the array ends behind them;
 * *bad: what follows is none.
 */
static unsigned
take_ids(struct desk *k, struct reading *x, struct slice ids[IDS_STEP], bool *last, bool *bad)
{
	struct buf text = BUF_INIT;
	struct json_value v;
	unsigned n = 0;
	size_t at = 0;

	buf_clear(&k->text);
	buf_reserve(&k->text, 1);
	*last = *bad = false;
	while (n < IDS_STEP && !(*last = !json_array_next(&x->u.subscribe.it, &v))) {
		buf_clear(&text);
		if ((*bad = json_text(v, &text, &ids[n]) == -1))
			break;
		buf_put_slice(&k->text, ids[n++]);
	}
	for (unsigned i = 0; i < n; at += ids[i++].len)
		ids[i].p = k->text.data + at;
	buf_fini(&text);
	return n;
}

/* Are they there, and may they be viewed?  What is refused is the one at count. */
static enum db_result
look_up(struct desk *k, struct reading *x, const struct slice *ids, unsigned n, enum error_code *refused)
{
	const struct db_device *d;

	*refused = ERROR_NONE;
	if (n == 0)
		return DB_OK;
	db_page_want(&k->page, n);
	k->page.bytes = SIZE_MAX;
	if (DB(k->db, device_by_ids, x->r.who.tenant, ids, n, &k->page) == DB_FAILED)
		return DB_FAILED;
	d = k->page.row;
	for (unsigned i = 0; i < k->page.count; i++, x->u.subscribe.count++)
		if (access_level(k, &x->r.who, &d[i]) < ACCESS_VIEW) {
			*refused = ERROR_no_access;
			return DB_OK;
		}
	if (k->page.count < n)
		*refused = ERROR_not_found;
	return DB_OK;
}

enum read_end
read_subscribe(struct desk *k, struct reading *x)
{
	struct slice ids[IDS_STEP];
	enum error_code refused;
	bool last, bad;
	unsigned n;

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
	n = take_ids(k, x, ids, &last, &bad);
	if (look_up(k, x, ids, n, &refused) == DB_FAILED)
		return READ_FAILED;
	if (refused == ERROR_NONE && bad)
		refused = ERROR_invalid_payload;
	if (refused != ERROR_NONE)
		return refuse(k, x, refused);
	return last ? answer(k, x) : READ_MORE;
}
