/*
 * visitor.c: the visitors, the newest first.  Only readers.
 */
#include "reader/reader.h"

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
	list_open(k, &x->list, "visitors", limit);
	return true;
}

enum read_end
read_visitor_list(struct desk *k, struct reading *x)
{
	struct db_visitor_filter *f = &x->u.visitors;
	struct rest_list *l = &x->list;
	const struct db_visitor *v;
	struct db_page *page;
	enum db_result result;

	if (!x->begun && !open_visitor_list(k, x))
		return READ_DONE;
	x->begun = true;
	result = access_scope(k, &x->r.who, &f->scope);
	page = reading_page_of_list(k, x);
	if (result == DB_FAILED || (result == DB_OK && DB(k->db, visitor_list, f, page) == DB_FAILED))
		return READ_FAILED;
	v = page->row;
	for (unsigned i = 0; i < page->count && list_next(l); i++) {
		json_visitor(&l->body, &v[i], v[i].device);
		list_cursor(l, CURSOR_VISITOR, v[i].tenant_pk, v[i].pk);
	}
	f->before_pk = page->last;
	if (reading_goes_on(k, x))
		return READ_MORE;
	list_ran_out(l, CURSOR_VISITOR, f->scope.tenant_pk, page);
	list_close(l, &x->r);
	return READ_DONE;
}
