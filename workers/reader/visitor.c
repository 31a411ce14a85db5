/*
 * visitor.c: the visitors, the newest first.  Only readers.
 */
#include "reader/reader.h"

static bool
show_visitor(void *arg, const struct db_visitor *v)
{
	struct rest_list *l = arg;

	if (!list_next(l))
		return false;
	json_visitor(&l->body, v, v->device);
	list_cursor(l, CURSOR_VISITOR, v->tenant_pk, v->pk);
	return true;
}

/* false: answered. */
static bool
open_visitor_list(struct desk *k, struct reading *x)
{
	struct db_visitor_filter *f = &x->u.visitors;
	struct slice status;
	unsigned limit;

	f->status = -1;
	if (!rest_page(k, &x->r, &limit, CURSOR_VISITOR, &f->before_pk) || !rest_query(k, &x->r, "status", &status))
		return false;
	if (slice_is(status, "pending")) {
		f->status = VISITOR_PENDING;
	} else if (slice_is(status, "approved")) {
		f->status = VISITOR_APPROVED;
	} else if (slice_is(status, "denied")) {
		f->status = VISITOR_DENIED;
	} else if (status.len > 0) {
		rest_error(k, &x->r, ERROR_invalid_payload, "status", "must be pending, approved or denied");
		return false;
	}
	f->limit = UINT32_MAX;			/* list_next() ends it */
	list_open(k, &x->list, "visitors", limit);
	return true;
}

enum read_end
read_visitor_list(struct desk *k, struct reading *x)
{
	struct db_visitor_filter *f = &x->u.visitors;
	enum db_result result;

	if (!x->begun && !open_visitor_list(k, x))
		return READ_DONE;
	x->begun = true;
	result = access_scope(k, &x->r.who, &f->scope);
	reading_scan(x);
	f->scan = &x->scan;
	if (result == DB_FAILED ||
	    (result == DB_OK && DB(k->db, visitor_list, f, show_visitor, &x->list) == DB_FAILED))
		return READ_FAILED;
	f->before_pk = x->scan.reached;
	if (f->before_pk != 0 && !x->list.more && reading_goes_on(x))
		return READ_MORE;
	list_scanned(&x->list, CURSOR_VISITOR, f->scope.tenant_pk, &x->scan);
	list_close(&x->list, &x->r);
	return READ_DONE;
}
