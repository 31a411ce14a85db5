/*
 * list.c: parameters of the query, and lists as they are written.  Only readers.
 */
#include "base/clock.h"
#include "http/uri.h"
#include "reader/list.h"

#define LIMIT_DEFAULT	50
#define LIMIT_MAX	500

bool
rest_query(struct desk *k, const struct rest *r, const char *name, struct slice *value)
{
	*value = SLICE_NONE;
	if (uri_query_get(r->query, name, &k->text, value) >= 0)
		return true;
	rest_error(k, r, ERROR_invalid_payload, name, "malformed percent-encoding");
	return false;
}

bool
rest_time(struct desk *k, const struct rest *r, const char *name, int64_t *at)
{
	struct slice text;

	*at = 0;
	if (!rest_query(k, r, name, &text))
		return false;
	if (text.len == 0 || clock_parse(text, at) == 0)
		return true;
	rest_error(k, r, ERROR_invalid_payload, name, "not an RFC 3339 time");
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

/* The cursor of the query, as a number or as a text.  false: it is none of this list, and that was answered. */
static bool
take_cursor(struct desk *k, const struct rest *r, enum cursor_kind kind, int64_t *place, struct buf *text)
{
	struct slice cursor;
	int64_t tenant_pk;
	enum db_result result;

	if (!rest_query(k, r, "cursor", &cursor))
		return false;
	if (cursor.len == 0)
		return true;
	result = db_tenant(k->db, r->who.tenant, false, &tenant_pk);
	if (result == DB_OK && (text != NULL ? cursor_get_text(k, cursor, kind, tenant_pk, text) :
	    cursor_get(k, cursor, kind, tenant_pk, place)))
		return true;
	if (result == DB_FAILED)
		rest_error(k, r, ERROR_unavailable, NULL, NULL);
	else
		rest_error(k, r, ERROR_invalid_payload, "cursor", "not a cursor of this list");
	return false;
}

static bool
take_limit(struct desk *k, const struct rest *r, unsigned *limit)
{
	struct slice text;
	int64_t n = LIMIT_DEFAULT;

	if (!rest_query(k, r, "limit", &text))
		return false;
	if (text.len > 0 && (!number(text, &n) || n < 1 || n > LIMIT_MAX)) {
		rest_error(k, r, ERROR_invalid_payload, "limit", "must be 1 to 500");
		return false;
	}
	*limit = (unsigned)n;
	return true;
}

bool
rest_page(struct desk *k, const struct rest *r, unsigned *limit, enum cursor_kind kind,
    int64_t *place)
{
	if (!take_limit(k, r, limit))
		return false;
	if (kind == CURSOR_NONE)
		return true;
	*place = 0;
	return take_cursor(k, r, kind, place, NULL);
}

bool
rest_page_text(struct desk *k, const struct rest *r, unsigned *limit, enum cursor_kind kind, struct buf *text)
{
	return take_limit(k, r, limit) && take_cursor(k, r, kind, NULL, text);
}

void
list_open(struct desk *k, struct rest_list *l, const char *name, unsigned limit)
{
	/*
	 * An answer is one record: a quarter of the smallest ring, less what stands around the
	 * body.
	 */
	size_t ring = shm_sizes(k->shm)->mailbox_bytes;

	*l = (struct rest_list){ .k = k, .limit = limit, .room = ring / 8 };
	buf_printf(&l->body, "{\"%s\":[", name);
}

void
list_want(const struct rest_list *l, struct db_page *page)
{
	db_page_want(page, l->body.len > l->room ? 1 : l->limit - l->count + 1);
	page->bytes = l->room;
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
	cursor_put(l->k, &l->cursor, kind, tenant_pk, place);
	buf_putc(&l->cursor, '"');
}

void
list_cursor_text(struct rest_list *l, enum cursor_kind kind, int64_t tenant_pk, struct slice text)
{
	buf_clear(&l->cursor);
	buf_putc(&l->cursor, '"');
	cursor_put_text(l->k, &l->cursor, kind, tenant_pk, text);
	buf_putc(&l->cursor, '"');
}

void
list_ran_out(struct rest_list *l, enum cursor_kind kind, int64_t tenant_pk, const struct db_page *page)
{
	if (l->more || !page->more)
		return;
	l->more = true;
	list_cursor(l, kind, tenant_pk, page->last);
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
	rest_ok(l->k, r, 200, &l->body);
	buf_fini(&l->body);
	buf_fini(&l->cursor);
	return DB_OK;
}
