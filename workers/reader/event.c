/*
 * event.c: lists of events, the newest first, or the oldest with order=asc.  Only readers.
 */
#include "reader/reader.h"

/* The direction, and the place to begin at.  false: answered. */
static bool
open_order(struct desk *k, struct reading *x, int64_t place)
{
	struct db_event_filter *f = &x->u.events;
	struct slice order;

	if (!rest_query(k, &x->r, "order", &order))
		return false;
	f->ascending = slice_is(order, "asc");
	if (!f->ascending && order.len > 0 && !slice_is(order, "desc")) {
		rest_error(k, &x->r, ERROR_invalid_payload, "order", "must be asc or desc");
		return false;
	}
	*(f->ascending ? &f->after_seq : &f->before_seq) = place;
	return true;
}

/* f->device_pk or f->scope is set; neither: there is nothing. */
static enum read_end
list(struct desk *k, struct reading *x, int64_t tenant_pk)
{
	struct db_event_filter *f = &x->u.events;
	struct rest_list *l = &x->list;
	const struct db_event *e;
	struct db_page *page;
	unsigned limit;
	int64_t place;

	if (!x->begun) {
		if (!rest_page(k, &x->r, &limit, CURSOR_EVENT, &place) || !open_order(k, x, place) ||
		    !rest_query(k, &x->r, "type", &f->event) ||
		    !rest_time(k, &x->r, "since", &f->since) || !rest_time(k, &x->r, "until", &f->until))
			return READ_DONE;
		list_open(k, l, "events", limit);
		x->begun = true;
	}
	page = reading_page_of_list(k, x);
	if ((f->device_pk != 0 || f->scope.tenant_pk != 0) && DB(k->db, event_list, f, page) == DB_FAILED)
		return READ_FAILED;
	e = page->row;
	for (unsigned i = 0; i < page->count && list_next(l); i++) {
		json_event(k, &l->body, &e[i]);
		list_cursor(l, CURSOR_EVENT, e[i].tenant_pk, e[i].seq);
	}
	*(f->ascending ? &f->after_seq : &f->before_seq) = page->last;
	if (reading_goes_on(k, x))
		return READ_MORE;
	list_ran_out(l, CURSOR_EVENT, tenant_pk, page);
	list_close(l, &x->r);
	return READ_DONE;
}

enum read_end
read_device_events(struct desk *k, struct reading *x)
{
	enum db_result result = rest_device(k, &x->r, false);

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
