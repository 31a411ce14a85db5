/*
 * event.c: lists of events, the newest first.  Only readers.
 */
#include "reader/reader.h"

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

/* One step; f->device_pk or f->scope is set. */
static enum read_end
list(struct desk *k, struct reading *x, int64_t tenant_pk)
{
	struct db_event_filter *f = &x->u.events;
	unsigned limit;

	if (!x->begun) {
		if (!rest_page(k, &x->r, &limit, CURSOR_EVENT, &f->before_seq) ||
		    !rest_query(k, &x->r, "type", &f->event) ||
		    !rest_time(k, &x->r, "since", &f->since) || !rest_time(k, &x->r, "until", &f->until))
			return READ_DONE;
		list_open(k, &x->list, "events", limit);
		x->begun = true;
	}
	reading_scan(x);
	f->scan = &x->scan;
	f->limit = UINT32_MAX;			/* list_next() ends it */
	if ((f->device_pk != 0 || f->scope.tenant_pk != 0) &&
	    DB(k->db, event_list, f, show_event, &x->list) == DB_FAILED)
		return READ_FAILED;
	f->before_seq = x->scan.reached;
	if (f->before_seq != 0 && !x->list.more && reading_goes_on(x))
		return READ_MORE;
	list_scanned(&x->list, CURSOR_EVENT, tenant_pk, &x->scan);
	list_close(&x->list, &x->r);
	return READ_DONE;
}

enum read_end
read_device_events(struct desk *k, struct reading *x)
{
	enum db_result result = rest_device(k, &x->r, false, ACCESS_VIEW);

	if (result != DB_OK)
		return result == DB_FAILED ? READ_FAILED : READ_DONE;
	x->u.events.device_pk = k->device.pk;
	return list(k, x, k->device.tenant_pk);
}

enum read_end
read_events(struct desk *k, struct reading *x)
{
	if (access_scope(k, &x->r.who, &x->u.events.scope) == DB_FAILED)
		return READ_FAILED;
	return list(k, x, x->u.events.scope.tenant_pk);
}
