/*
 * rest_event.c: lists of events, the newest first.  Only the storage process.
 */
#include "storage/rest.h"

static bool
show_event(void *arg, const struct db_event *e)
{
	struct rest_list *l = arg;

	if (!list_next(l))
		return false;
	json_event(l->k, &l->body, e);
	list_cursor(l, CURSOR_EVENT, e->tenant_pk, e->seq);
	return true;
}

/* f->device_pk or f->scope is set. */
static enum db_result
list(struct storage *s, const struct rest *r, int64_t tenant_pk, struct db_event_filter *f)
{
	struct db_scan scan = { .left = LIST_SCAN_MAX };
	struct rest_list l;
	unsigned limit;

	if (!rest_page(&s->desk, r, &limit, CURSOR_EVENT, &f->before_seq) ||
	    !rest_query(&s->desk, r, "type", &f->event) ||
	    !rest_time(&s->desk, r, "since", &f->since) || !rest_time(&s->desk, r, "until", &f->until))
		return DB_OK;
	f->limit = limit + 1;
	f->scan = &scan;
	list_open(&s->desk, &l, "events", limit);
	if ((f->device_pk != 0 || f->scope.tenant_pk != 0) &&
	    DB(s->desk.db, event_list, f, show_event, &l) == DB_FAILED) {
		buf_fini(&l.body);
		buf_fini(&l.cursor);
		return DB_FAILED;
	}
	list_scanned(&l, CURSOR_EVENT, tenant_pk, &scan);
	return list_close(&l, r);
}

enum db_result
rest_device_events(struct storage *s, const struct rest *r)
{
	struct db_event_filter f = { .device_pk = 0 };
	enum db_result result = rest_device(&s->desk, r, false, ACCESS_VIEW);

	if (result != DB_OK)
		return result;
	f.device_pk = s->desk.device.pk;
	return list(s, r, s->desk.device.tenant_pk, &f);
}

enum db_result
rest_events(struct storage *s, const struct rest *r)
{
	struct db_event_filter f = { .device_pk = 0 };

	TRY(access_scope(&s->desk, &r->who, &f.scope));
	return list(s, r, f.scope.tenant_pk, &f);
}
