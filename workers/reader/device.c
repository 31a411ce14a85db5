/*
 * device.c: devices shown: one, a list of them, counts of them, and with whom one is shared.  Only readers.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "reader/reader.h"

#define LOOKS 2			/* at a device that storage may be changing just now */

enum read_end
read_device_get(struct desk *k, struct reading *x)
{
	static const char *const rights[] = { "\"view\"", ",\"control\"", ",\"admin\"", ",\"owner\"" };
	struct buf body = BUF_INIT;
	enum db_result result;
	enum access level;
	bool settled = false;

	for (unsigned n = 0; n < LOOKS && !settled; n++) {
		if ((result = rest_device(k, &x->r, true)) != DB_OK) {
			buf_fini(&body);
			return result == DB_FAILED ? READ_FAILED : READ_DONE;
		}
		buf_clear(&body);
		buf_puts(&body, "{\"device\":");
		settled = json_device(k, &body, &k->device);
	}
	level = access_level(k, &x->r.who, &k->device);
	buf_puts(&body, ",\"userPermissions\":[");
	for (int i = 0; i <= (int)level; i++)
		buf_puts(&body, rights[i]);
	buf_puts(&body, "]}");
	rest_ok(k, &x->r, 200, &body);
	buf_fini(&body);
	return READ_DONE;
}

/* As many as one answer holds: storage takes no more. */
enum read_end
read_share_list(struct desk *k, struct reading *x)
{
	struct buf body = BUF_INIT, after = BUF_INIT;
	enum db_result result = rest_device(k, &x->r, false);

	if (result != DB_OK)
		return result == DB_FAILED ? READ_FAILED : READ_DONE;
	buf_puts(&body, "{\"shares\":[");
	do {
		const struct db_share *share;

		result = access_shares(k, k->device.pk, &after);
		share = k->page.row;
		for (unsigned i = 0; result == DB_OK && i < k->page.count; i++) {
			/* One that has run out is not shown, also before storage takes it away. */
			if (share[i].expires_at != 0 && share[i].expires_at <= k->now)
				continue;
			if (body.data[body.len - 1] != '[')
				buf_putc(&body, ',');
			json_share(&body, &share[i]);
		}
	} while (result == DB_OK && k->page.more);
	buf_puts(&body, "]}");
	if (result == DB_OK)
		rest_ok(k, &x->r, 200, &body);
	buf_fini(&body);
	buf_fini(&after);
	return result == DB_OK ? READ_DONE : READ_FAILED;
}

/* ------------------------------------------------------------------ lists */

static void
devices_fini(struct reading *x)
{
	for (size_t i = 0; i < x->u.devices.type_count; i++)
		free(x->u.devices.types[i].type);
	free(x->u.devices.types);
	buf_fini(&x->u.devices.after);
}

/* The next page of the devices of the filter; the one after it goes on behind. */
static enum db_result
read_page(struct desk *k, struct reading *x, struct db_page *page)
{
	struct buf *after = &x->u.devices.after;

	TRY(DB(k->db, device_list, &x->u.devices.filter, page));
	if (page->last_text.len > 0) {
		buf_clear(after);
		buf_put_slice(after, buf_slice(&page->last_text));
		x->u.devices.filter.after_id = buf_slice(after);
	}
	return DB_OK;
}

static void
show_devices(struct desk *k, struct reading *x, const struct db_page *page)
{
	const struct db_device *d = page->row;
	struct rest_list *l = &x->list;

	for (unsigned i = 0; i < page->count; i++) {
		if (x->u.devices.status.len > 0 && !slice_is(x->u.devices.status, json_presence_status(k, &d[i])))
			continue;
		if (!list_next(l))
			return;
		json_device(k, &l->body, &d[i]);
		list_cursor_text(l, CURSOR_DEVICE, d[i].tenant_pk, d[i].id);
	}
}

/* What the status asks of the rows, and what is left to be looked at: offline includes unknown. */
static bool
read_status(struct desk *k, struct reading *x)
{
	struct slice status;

	if (!rest_query(k, &x->r, "status", &status))
		return false;
	if (status.len == 0)
		return true;
	if (slice_is(status, "online") || slice_is(status, "suspect")) {
		x->u.devices.filter.online = 1;
	} else if (slice_is(status, "offline") || slice_is(status, "unknown")) {
		x->u.devices.filter.online = 0;
	} else {
		rest_error(k, &x->r, ERROR_invalid_payload, "status", "must be online, suspect, offline or unknown");
		return false;
	}
	if (!slice_is(status, "offline"))
		x->u.devices.status = status;
	return true;
}

/* false: answered. */
static bool
open_device_list(struct desk *k, struct reading *x)
{
	struct db_device_filter *f = &x->u.devices.filter;
	unsigned limit;

	f->online = -1;
	if (!rest_page_text(k, &x->r, &limit, CURSOR_DEVICE, &x->u.devices.after) || !read_status(k, x) ||
	    !rest_query(k, &x->r, "type", &f->type) || !rest_query(k, &x->r, "tag", &f->tag) ||
	    !rest_query(k, &x->r, "q", &f->q))
		return false;
	f->after_id = buf_slice(&x->u.devices.after);
	list_open(k, &x->list, "devices", limit);
	return true;
}

enum read_end
read_device_list(struct desk *k, struct reading *x)
{
	struct db_device_filter *f = &x->u.devices.filter;
	struct db_page *page;
	enum db_result result;

	x->fini = devices_fini;
	if (!x->begun && !open_device_list(k, x))
		return READ_DONE;
	x->begun = true;
	/* Rights are those of now, in each step. */
	result = access_scope(k, &x->r.who, &f->scope);
	page = reading_page_of_list(k, x);
	if (x->u.devices.status.len > 0)
		page->rows = STEP_ROWS;		/* few of them may be shown */
	if (result == DB_OK)
		result = read_page(k, x, page);
	if (result == DB_FAILED)
		return READ_FAILED;
	show_devices(k, x, page);
	if (reading_goes_on(k, x))
		return READ_MORE;
	if (page->more && !x->list.more) {
		x->list.more = true;
		list_cursor_text(&x->list, CURSOR_DEVICE, f->scope.tenant_pk, f->after_id);
	}
	list_close(&x->list, &x->r);
	return READ_DONE;
}

/* ------------------------------------------------------------------ counts */

static void
answer_stats(struct desk *k, const struct reading *x, const struct db_stats *s, struct slice types)
{
	struct buf body = BUF_INIT;

	buf_printf(&body,
	    "{\"total\":%lld,\"owned\":%lld,\"shared\":%lld,\"online\":%lld,\"offline\":%lld,\"byType\":{",
	    (long long)s->total, (long long)s->owned, (long long)(s->total - s->owned),
	    (long long)s->online, (long long)(s->total - s->online));
	buf_put_slice(&body, types);
	buf_puts(&body, "}}");
	rest_ok(k, &x->r, 200, &body);
	buf_fini(&body);
}

static void
put_type(struct buf *b, struct slice type, int64_t count)
{
	if (b->len > 0)
		buf_putc(b, ',');
	buf_put_json_string(b, type);
	buf_putc(b, ':');
	buf_put_i64(b, count);
}

#define TYPES_PAGE 256

static enum db_result
tenant_types(struct desk *k, int64_t tenant_pk, struct buf *types)
{
	struct db_page *page = &k->page;
	struct buf after = BUF_INIT;
	enum db_result result;

	do {
		const struct db_type *t;

		db_page_want(page, TYPES_PAGE);
		result = DB(k->db, device_types, tenant_pk, buf_slice(&after), page);
		t = page->row;
		for (unsigned i = 0; result == DB_OK && i < page->count; i++)
			put_type(types, t[i].type, t[i].count);
		buf_clear(&after);
		buf_put_slice(&after, buf_slice(&page->last_text));
	} while (result == DB_OK && page->more);
	buf_fini(&after);
	return result;
}

static void
count_device(struct reading *x, const struct db_device *d)
{
	struct db_stats *sums = &x->u.devices.sums;
	struct type_count *t = x->u.devices.types;
	size_t i, n = x->u.devices.type_count;

	sums->total++;
	sums->owned += slice_eq(d->owner, x->r.who.user);
	sums->online += d->online != 0;
	/* A user's devices are of few types: the one of the device before is the likeliest. */
	for (i = n; i > 0 && !slice_eq((struct slice){ t[i - 1].type, t[i - 1].len }, d->type); i--)
		;
	if (i == 0) {
		if ((n & (n + 1)) == 0)		/* room for 1, 3, 7, … */
			t = x->u.devices.types = must_realloc(t, (2 * n + 1) * sizeof(*t));
		t[n] = (struct type_count){ must_strndup(d->type.p, d->type.len), d->type.len, 0 };
		i = ++x->u.devices.type_count;
	}
	t[i - 1].count++;
}

static int
type_compare(const void *a, const void *b)
{
	return strcmp(((const struct type_count *)a)->type, ((const struct type_count *)b)->type);
}

/* Of the whole tenant they are kept; of a user's devices they are counted, step by step. */
enum read_end
read_device_stats(struct desk *k, struct reading *x)
{
	struct db_device_filter *f = &x->u.devices.filter;
	struct db_stats *sums = &x->u.devices.sums;
	struct buf types = BUF_INIT;
	struct db_page *page = reading_page(k, STEP_ROWS);
	enum db_result result = access_scope(k, &x->r.who, &f->scope);

	x->fini = devices_fini;
	f->online = -1;
	if (result == DB_OK && f->scope.all) {
		result = DB(k->db, device_counts, f->scope.tenant_pk, sums);
		if (result == DB_OK)
			result = DB(k->db, device_owned, f->scope.tenant_pk, x->r.who.user, &sums->owned);
		if (result == DB_OK)
			result = tenant_types(k, f->scope.tenant_pk, &types);
	} else if (result == DB_OK) {
		const struct db_device *d;

		result = read_page(k, x, page);
		d = page->row;
		for (unsigned i = 0; result == DB_OK && i < page->count; i++)
			count_device(x, &d[i]);
		if (result == DB_OK && page->more)
			return READ_MORE;
	}
	if (result == DB_FAILED) {
		buf_fini(&types);
		return READ_FAILED;
	}
	if (x->u.devices.type_count > 0)
		qsort(x->u.devices.types, x->u.devices.type_count, sizeof(*x->u.devices.types), type_compare);
	for (size_t i = 0; i < x->u.devices.type_count; i++)
		put_type(&types, (struct slice){ x->u.devices.types[i].type, x->u.devices.types[i].len },
		    x->u.devices.types[i].count);
	answer_stats(k, x, sums, buf_slice(&types));
	buf_fini(&types);
	return READ_DONE;
}

/* Of the tenant, whoever asks. */
enum read_end
read_health_devices(struct desk *k, struct reading *x)
{
	struct db_stats stats = { 0, 0, 0, 0 };
	struct buf body = BUF_INIT;
	int64_t tenant_pk;
	enum db_result result = db_tenant(k->db, x->r.who.tenant, false, &tenant_pk);

	if (result == DB_OK)
		result = DB(k->db, device_counts, tenant_pk, &stats);
	if (result == DB_FAILED)
		return READ_FAILED;
	buf_printf(&body, "{\"online\":%lld,\"offline\":%lld,\"byTransport\":{\"ws\":%lld,\"mqtt\":%lld}}",
	    (long long)stats.online, (long long)(stats.total - stats.online),
	    (long long)(stats.online - stats.mqtt), (long long)stats.mqtt);
	rest_ok(k, &x->r, 200, &body);
	buf_fini(&body);
	return READ_DONE;
}
