/*
 * sqlite_event.c: events, visitors and tickets in SQLite, and the end of old things.
 * Only the storage process.
 */
#include "db/rows.h"
#include "db/sqlite.h"

#define FEW_DEVICES 200		/* of a user: see the statements event_walk_many, event_next */

/* The number of an event's row. */
#define PLACE_MAX ((INT64_C(1) << 40) - 1)

static int64_t
pk_of(int64_t tenant_pk, int64_t place)
{
	return (tenant_pk << 40) + (place < PLACE_MAX ? place : PLACE_MAX);
}

static enum db_result
insert_event(struct sqlite_db *s, const struct db_event *e)
{
	sqlite3_stmt *st = sqlite_use(s, STMT_event_insert);
	size_t at = rows_event_data_at(e);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk_of(e->tenant_pk, e->seq));
	bind_blob(st, 2, e->id, UUID_LEN);
	bind_i64(st, 3, e->device_pk);
	bind_i64(st, 4, e->epoch);
	bind_i64(st, 5, e->at);
	bind_i64(st, 6, e->received_at);
	bind_text(st, 7, e->event);
	bind_text(st, 8, e->actor);
	bind_text(st, 9, e->type);
	bind_i64(st, 10, e->admins);
	bind_text(st, 11, e->user);
	bind_i64(st, 12, (int64_t)at);
	bind_text(st, 13, at > 0 ? SLICE_NONE : e->data_json);
	bind_blob(st, 14, e->payload.p, e->payload.len);
	return sqlite_run(s, st, NULL);
}

enum db_result
sqlite_event_insert(struct db *db, struct db_event *events, unsigned n)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_event_raise);
	int64_t newest;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, events->tenant_pk);
	bind_i64(st, 2, n);
	if (sqlite_row(s, st) != DB_OK)
		return DB_FAILED;
	newest = col_i64(st, 0);
	sqlite3_reset(st);
	for (unsigned i = 0; i < n; i++) {
		enum db_result result;

		events[i].seq = newest - n + 1 + i;
		if ((result = insert_event(s, &events[i])) != DB_OK || (result = sqlite_links_add(s, LINKS_EVENTS,
		    events[i].device_pk, pk_of(events[i].tenant_pk, events[i].seq))) != DB_OK)
			return result;
	}
	return DB_OK;
}

enum db_result
sqlite_event_places(struct db *db, int64_t tenant_pk, int64_t *newest, int64_t *removed)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_event_places);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, tenant_pk);
	*newest = *removed = 0;
	if ((result = sqlite_row(s, st)) == DB_OK) {
		*newest = col_i64(st, 0);
		*removed = col_i64(st, 1);
		sqlite3_reset(st);
	}
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

static void
read_event(sqlite3_stmt *st, struct db_event *e)
{
	e->tenant_pk = col_i64(st, 0) >> 40;
	e->seq = col_i64(st, 0) & PLACE_MAX;
	col_id(st, 1, e->id);
	e->device_pk = col_i64(st, 2);
	e->epoch = col_i64(st, 3);
	e->at = col_i64(st, 4);
	e->received_at = col_i64(st, 5);
	e->event = col_slice(st, 6);
	e->actor = col_slice(st, 7);
	e->type = col_slice(st, 8);
	e->admins = (uint8_t)col_i64(st, 9);
	e->user = col_slice(st, 10);
	e->data_json = col_slice(st, 12);
	e->payload = col_slice(st, 13);
	e->payload_len = (size_t)col_i64(st, 14);
	e->device = col_slice(st, 15);
}

struct listing {
	struct sqlite_db *s;
	const struct db_event_filter *f;
	struct db_page *page;
	int64_t tenant_pk;
};

/* The place behind which the list begins. */
static int64_t
begins(const struct db_event_filter *f)
{
	return f->ascending ? f->after_seq : f->before_seq != 0 ? f->before_seq : PLACE_MAX;
}

/* The event that the statement stands on. */
static void
show(struct listing *l, sqlite3_stmt *st)
{
	struct db_event e;

	read_event(st, &e);
	rows_add_event(l->page, l->f, &e, (size_t)col_i64(st, 11));
}

/* A statement that walks over events of the scope; the column behind those of the event: whether it is the asker's. */
static enum db_result
list_walk(struct listing *l, enum sqlite_statement which)
{
	sqlite3_stmt *st = sqlite_use(l->s, which);
	int64_t last = begins(l->f);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_scope(st, &l->f->scope);
	bind_i64(st, 4, pk_of(l->tenant_pk, last));
	bind_i64(st, 5, l->f->part);
	while (sqlite_more(l->s, st, &result)) {
		if (!page_goes_on(l->page))
			return sqlite_enough(st);
		page_passed(l->page, col_i64(st, 0) & PLACE_MAX);
		if (col_i64(st, 16) != 0)
			show(l, st);
	}
	return result;
}

/* One device's events: the next one's row, 0 at the end. */
struct line {
	int64_t device_pk, event_pk;
	struct sqlite_run run;
};

static enum db_result
next_of(struct listing *l, struct line *line, int64_t from)
{
	line->event_pk = 0;
	return sqlite_links_next(l->s, LINKS_EVENTS, line->device_pk, from, &line->run, &line->event_pk);
}

/* The line whose event comes next; NULL: there is none. */
static struct line *
first_of(const struct listing *l, struct line *line, size_t n)
{
	struct line *best = NULL;

	for (size_t i = 0; i < n; i++)
		if (line[i].event_pk != 0 && (best == NULL || (l->f->ascending ? line[i].event_pk < best->event_pk :
		    line[i].event_pk > best->event_pk)))
			best = &line[i];
	return best;
}

static enum db_result
show_one(struct listing *l, int64_t event_pk)
{
	sqlite3_stmt *st = sqlite_use(l->s, STMT_event_by_pk);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, event_pk);
	bind_text(st, 2, l->f->event);
	bind_i64(st, 3, l->f->since);
	bind_i64(st, 4, l->f->until);
	bind_i64(st, 5, l->f->part);
	if ((result = sqlite_row(l->s, st)) == DB_OK) {
		show(l, st);
		sqlite3_reset(st);
	}
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

/* Several lines as one, in order. */
static enum db_result
merge(struct listing *l, struct line *line, size_t n)
{
	int64_t last = pk_of(l->tenant_pk, begins(l->f));
	struct line *at;

	for (size_t i = 0; i < n; i++) {
		line[i].run = (struct sqlite_run){ .up = l->f->ascending };
		if (next_of(l, &line[i], last) == DB_FAILED)
			return DB_FAILED;
	}
	while ((at = first_of(l, line, n)) != NULL && page_goes_on(l->page)) {
		last = at->event_pk;
		page_passed(l->page, last & PLACE_MAX);
		if (show_one(l, last) == DB_FAILED || next_of(l, at, last) == DB_FAILED)
			return DB_FAILED;
	}
	return DB_OK;
}

/* The user's devices, FEW_DEVICES + 1 of them at most. */
static enum db_result
scope_devices(struct listing *l, struct line *line, size_t *n)
{
	sqlite3_stmt *st = sqlite_use(l->s, STMT_scope_devices);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_scope(st, &l->f->scope);
	bind_i64(st, 4, FEW_DEVICES + 1);
	for (*n = 0; sqlite_more(l->s, st, &result); (*n)++)
		line[*n].device_pk = col_i64(st, 0);
	return result;
}

static enum db_result
list_device(struct listing *l)
{
	sqlite3_stmt *st = sqlite_use(l->s, STMT_device_tenant);
	struct line line = { .device_pk = l->f->device_pk };
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, line.device_pk);
	if ((result = sqlite_row(l->s, st)) != DB_OK)
		return result == DB_NONE ? DB_OK : DB_FAILED;
	l->tenant_pk = col_i64(st, 0);
	sqlite3_reset(st);
	return merge(l, &line, 1);
}

static enum db_result
list_events(void *arg)
{
	struct listing *l = arg;
	struct line line[FEW_DEVICES + 1];
	bool up = l->f->ascending;
	size_t n;

	if (l->f->device_pk != 0)
		return list_device(l);
	if (l->f->scope.all)
		return list_walk(l, up ? STMT_event_walk_tenant_up : STMT_event_walk_tenant);
	if (scope_devices(l, line, &n) == DB_FAILED)
		return DB_FAILED;
	return n <= FEW_DEVICES ? merge(l, line, n) : list_walk(l, up ? STMT_event_walk_many_up : STMT_event_walk_many);
}

enum db_result
sqlite_event_list(struct db *db, const struct db_event_filter *f, struct db_page *page)
{
	struct listing l = { sqlite_self(db), f, page, f->scope.tenant_pk };

	return sqlite_look(l.s, list_events, &l);
}

/* Visitors */

enum db_result
sqlite_visitor_insert(struct db *db, struct db_visitor *v)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_visitor_insert);

	if (st == NULL)
		return DB_FAILED;
	bind_blob(st, 1, v->id, UUID_LEN);
	bind_i64(st, 2, v->tenant_pk);
	bind_i64(st, 3, v->device_pk);
	bind_i64(st, 4, v->created_at);
	bind_text(st, 5, v->name);
	bind_text(st, 6, v->snapshot_url);
	bind_text(st, 7, v->data_json);
	return sqlite_insert(s, st, &v->pk);
}

static void
read_visitor(sqlite3_stmt *st, struct db_visitor *v)
{
	v->pk = col_i64(st, 0);
	col_id(st, 1, v->id);
	v->tenant_pk = col_i64(st, 2);
	v->device_pk = col_i64(st, 3);
	v->status = (enum visitor_status)col_i64(st, 4);
	v->created_at = col_i64(st, 5);
	v->decided_at = col_i64(st, 6);
	v->decided_by = col_slice(st, 7);
	v->has_command = sqlite3_column_bytes(st, 8) == UUID_LEN;
	col_id(st, 8, v->command_id);
	v->name = col_slice(st, 9);
	v->snapshot_url = col_slice(st, 10);
	v->data_json = col_slice(st, 11);
	v->device = col_slice(st, 12);
}

enum db_result
sqlite_visitor_get(struct db *db, int64_t tenant_pk, const uint8_t id[UUID_LEN],
    struct db_visitor *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_visitor_get);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, tenant_pk);
	bind_blob(st, 2, id, UUID_LEN);
	if ((result = sqlite_row(s, st)) != DB_OK)
		return result;
	read_visitor(st, out);
	rows_keep_visitor(out);
	sqlite3_reset(st);
	return DB_OK;
}

enum db_result
sqlite_visitor_decide(struct db *db, const struct db_visitor *v)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_visitor_decide);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, v->pk);
	bind_i64(st, 2, v->status);
	bind_i64(st, 3, v->decided_at);
	bind_text(st, 4, v->decided_by);
	if (v->has_command)
		bind_blob(st, 5, v->command_id, UUID_LEN);
	else
		sqlite3_bind_null(st, 5);
	return sqlite_change(s, st);
}

enum db_result
sqlite_visitor_list(struct db *db, const struct db_visitor_filter *f, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, f->scope.all ? STMT_visitor_walk_all : STMT_visitor_walk_user);
	struct db_visitor v = { .text = BUF_INIT };
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_scope(st, &f->scope);
	bind_i64(st, 4, f->before_pk != 0 ? f->before_pk : INT64_MAX);
	while (sqlite_more(s, st, &result)) {
		if (!page_goes_on(page))
			return sqlite_enough(st);
		read_visitor(st, &v);
		page_passed(page, v.pk);
		if (col_i64(st, 13) != 0 && (f->status < 0 || (int)v.status == f->status))
			rows_add_visitor(page, &v);
	}
	return result;
}

/* Tickets */

enum db_result
sqlite_ticket_put(struct db *db, const uint8_t hash[SHA256_LEN], const struct db_ticket *t)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_ticket_put);

	if (st == NULL)
		return DB_FAILED;
	bind_blob(st, 1, hash, SHA256_LEN);
	bind_i64(st, 2, t->until);
	bind_i64(st, 3, t->expires_at);
	bind_i64(st, 4, t->role);
	bind_i64(st, 5, t->any_tenant);
	bind_text(st, 6, t->tenant);
	bind_text(st, 7, t->user);
	bind_text(st, 8, t->role_name);
	return sqlite_run(s, st, NULL);
}

enum db_result
sqlite_ticket_take(struct db *db, const uint8_t hash[SHA256_LEN], struct db_ticket *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_ticket_get);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_blob(st, 1, hash, SHA256_LEN);
	if ((result = sqlite_row(s, st)) != DB_OK)
		return result;
	out->until = col_i64(st, 0);
	out->expires_at = col_i64(st, 1);
	out->role = (uint8_t)col_i64(st, 2);
	out->any_tenant = col_i64(st, 3) != 0;
	out->tenant = col_slice(st, 4);
	out->user = col_slice(st, 5);
	out->role_name = col_slice(st, 6);
	rows_keep_ticket(out);
	sqlite3_reset(st);
	if ((st = sqlite_use(s, STMT_ticket_delete)) == NULL)
		return DB_FAILED;
	bind_blob(st, 1, hash, SHA256_LEN);
	return sqlite_run(s, st, NULL);
}

/* Retention */

/* One deletion of at most limit rows. */
static enum db_result
trim(struct sqlite_db *s, enum sqlite_statement which, int64_t before, unsigned limit, bool *more)
{
	sqlite3_stmt *st = sqlite_use(s, which);
	enum db_result result;
	int changes = 0;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, before);
	bind_i64(st, 2, limit);
	result = sqlite_run(s, st, &changes);
	if (result == DB_OK && changes > 0 && (unsigned)changes == limit)
		*more = true;
	/* A device takes its tail along (device_tail_gone). */
	if (result == DB_OK && changes > 0 && which == STMT_retain_devices && (result = sqlite_links_write(s)) == DB_OK)
		sqlite_links_forget(s);
	return result;
}

static enum db_result
run_with(struct sqlite_db *s, enum sqlite_statement which, int64_t first, int64_t second)
{
	sqlite3_stmt *st = sqlite_use(s, which);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, first);
	bind_i64(st, 2, second);
	return sqlite_run(s, st, NULL);
}

/* Those of one tenant, at most limit of them, from the oldest on: *gone. */
static enum db_result
trim_tenant(struct sqlite_db *s, int64_t tenant_pk, int64_t before, unsigned limit, unsigned *gone)
{
	sqlite3_stmt *st = sqlite_use(s, STMT_retain_event_window);
	enum db_result result;
	int64_t last;
	int changes;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, tenant_pk);
	bind_i64(st, 2, before);
	bind_i64(st, 3, limit);
	if (sqlite_row(s, st) != DB_OK)
		return DB_FAILED;
	last = col_i64(st, 0);
	sqlite3_reset(st);
	if ((st = sqlite_use(s, STMT_retain_events)) == NULL)
		return DB_FAILED;
	bind_i64(st, 1, tenant_pk);
	bind_i64(st, 2, last);
	if ((result = sqlite_run(s, st, &changes)) != DB_OK)
		return result;
	*gone = (unsigned)changes;
	return run_with(s, STMT_retain_event_links, tenant_pk, last) == DB_OK ?
	    run_with(s, STMT_retain_event_seq, tenant_pk, last) : DB_FAILED;
}

/* Tenant by tenant: at most limit rows go, and at most as many tenants are looked at. */
static enum db_result
trim_events(struct sqlite_db *s, int64_t before, unsigned limit, bool *more)
{
	for (unsigned left = limit, looks = limit; left > 0 && looks > 0; looks--) {
		sqlite3_stmt *st = sqlite_use(s, STMT_retain_tenant);
		enum db_result result;
		int64_t tenant_pk;
		unsigned gone = 0;
		bool old;

		if (st == NULL)
			return DB_FAILED;
		bind_i64(st, 1, s->retain_tenant);
		if ((result = sqlite_row(s, st)) == DB_NONE) {
			s->retain_tenant = 0;
			return DB_OK;
		}
		if (result != DB_OK)
			return DB_FAILED;
		tenant_pk = col_i64(st, 0);
		old = sqlite3_column_type(st, 1) != SQLITE_NULL && col_i64(st, 1) < before;
		sqlite3_reset(st);
		if (old && trim_tenant(s, tenant_pk, before, left, &gone) != DB_OK)
			return DB_FAILED;
		if (gone < left)	/* else there may be more of this tenant's */
			s->retain_tenant = tenant_pk;
		left -= gone;
	}
	*more = true;
	return DB_OK;
}

static enum db_result
number_removed(struct sqlite_db *s, int64_t command_pk)
{
	sqlite3_stmt *st = sqlite_use(s, STMT_retain_command_last);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, command_pk);
	return sqlite_run(s, st, NULL);
}

/*
 * Commands in windows of limit rows: open ones among them stay, so that the window must move on by
 * number.
 */
static enum db_result
trim_commands(struct sqlite_db *s, int64_t keep_after, unsigned limit, bool *more)
{
	sqlite3_stmt *st = sqlite_use(s, STMT_retain_command_window);
	int64_t last, newest, count;
	enum db_result result;
	int changes;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, s->retain_from);
	bind_i64(st, 2, limit);
	if (sqlite_row(s, st) != DB_OK)
		return DB_FAILED;
	last = col_i64(st, 0);
	newest = col_i64(st, 1);
	count = col_i64(st, 2);
	sqlite3_reset(st);
	if (count == 0) {
		s->retain_from = 0;
		return DB_OK;
	}
	if ((st = sqlite_use(s, STMT_retain_commands)) == NULL)
		return DB_FAILED;
	bind_i64(st, 1, s->retain_from);
	bind_i64(st, 2, last);
	bind_i64(st, 3, keep_after);
	if ((result = sqlite_run(s, st, &changes)) != DB_OK)
		return result;
	if (changes > 0 && (sqlite_run(s, sqlite_use(s, STMT_retain_command_links), NULL) != DB_OK ||
	    number_removed(s, last) != DB_OK))
		return DB_FAILED;
	if (newest < keep_after && count == (int64_t)limit) {
		s->retain_from = last;
		*more = true;
	} else {
		s->retain_from = 0;
	}
	return DB_OK;
}

enum db_result
sqlite_retain(struct db *db, enum db_kept kind, int64_t before, unsigned limit, bool *more)
{
	static const enum sqlite_statement plain[KEPT_KINDS] = {
		[KEPT_OPEN] = STMT_retain_stale, [KEPT_VISITORS] = STMT_retain_visitors,
		[KEPT_KEYS] = STMT_retain_idempotency, [KEPT_TICKETS] = STMT_retain_tickets,
		[KEPT_DEVICES] = STMT_retain_devices
	};
	struct sqlite_db *s = sqlite_self(db);

	*more = false;
	if (kind == KEPT_EVENTS)
		return trim_events(s, before, limit, more);
	if (kind == KEPT_COMMANDS)
		return trim_commands(s, before, limit, more);
	return trim(s, plain[kind], before, limit, more);
}
