/*
 * memory_event.c: events in memory.  Only the storage process.
 *
 * An event is one block, written once: its links, its values, its texts.
 */
#include <stdlib.h>

#include "base/must.h"
#include "db/memory.h"

#define FEW_DEVICES 200		/* of a user: see memory_op_event_list */

static const struct db_event *
values_of(const struct memory_event *row)
{
	return row->row.values;
}

static void
event_enter(struct memory_db *m, struct memory_row *base)
{
	struct memory_event *row = (struct memory_event *)base;
	int64_t seq = values_of(row)->seq;

	memory_series_put(&m->events, seq, row);
	m->event_count++;
	memory_list_put(&row->device->events, &row->of_device, seq);
	memory_list_put(&row->tenant->events, &row->of_tenant, seq);
}

static void
event_leave(struct memory_db *m, struct memory_row *base)
{
	struct memory_event *row = (struct memory_event *)base;

	memory_series_remove(&m->events, values_of(row)->seq);
	m->event_count--;
	memory_list_remove(&row->device->events, &row->of_device);
	memory_list_remove(&row->tenant->events, &row->of_tenant);
	memory_device_left(m, row->device);
}

static const struct memory_table event_table = {
	.enter = event_enter, .leave = event_leave, .in_row = true
};

enum db_result
memory_op_event_insert(struct db *db, struct db_event *e)
{
	struct memory_db *m = memory_self(db);
	struct memory_tenant *tenant = memory_tenant_by_pk(m, e->tenant_pk);
	struct memory_device *dev = memory_device_have(m, e->device_pk);
	struct memory_event *row;
	struct db_event *values;

	if (tenant == NULL || dev == NULL)
		return memory_failed(m, "an event of a tenant or device that never was");
	row = memory_pack(&memory_event_shape, sizeof(*row), e);
	row->row.values = values = (struct db_event *)(row + 1);
	row->device = dev;
	row->tenant = tenant;
	values->seq = e->seq = ++m->last.event;
	values->device = SLICE_NONE;
	memory_insert(m, &event_table, &row->row);
	if (m->event_count > MEMORY_EVENTS)
		memory_event_remove(m, memory_series_above(&m->events, 0));
	return DB_OK;
}

void
memory_event_remove(struct memory_db *m, struct memory_event *row)
{
	memory_remove(m, &event_table, &row->row);
}

enum db_result
memory_op_event_bounds(struct db *db, int64_t *oldest, int64_t *newest)
{
	struct memory_db *m = memory_self(db);
	const struct memory_event *first = memory_series_above(&m->events, 0);
	const struct memory_event *last = memory_series_below(&m->events, INT64_MAX);

	*oldest = first != NULL ? values_of(first)->seq : 0;
	*newest = last != NULL ? values_of(last)->seq : 0;
	return DB_OK;
}

enum db_result
memory_op_event_newest(struct db *db, unsigned limit, db_event_id_cb *cb, void *arg)
{
	struct memory_db *m = memory_self(db);
	const struct memory_event *row = memory_series_below(&m->events, INT64_MAX);

	m->listing++;
	for (; row != NULL && limit > 0; limit--) {
		if (!cb(arg, values_of(row)->seq, values_of(row)->id))
			break;
		row = memory_series_below(&m->events, values_of(row)->seq);
	}
	m->listing--;
	return DB_OK;
}

/* Lists */

struct listing {
	struct memory_db *m;
	const struct db_event_filter *f;
	db_event_cb *cb;
	void *arg;
	unsigned shown;
};

/* One device's events, or a tenant's. */
struct line {
	struct memory_list *list;
	bool of_device;
	struct memory_link *at;
};

static struct memory_event *
row_of(const struct line *line, struct memory_link *link)
{
	return line->of_device ? memory_row_of(link, struct memory_event, of_device) :
	    memory_row_of(link, struct memory_event, of_tenant);
}

static bool
is_in(const struct line *line, const struct memory_event *row)
{
	return line->list == (line->of_device ? &row->device->events : &row->tenant->events);
}

/*
 * The first event of the line beyond the cursor.  Searched from the line's end and, among all
 * events, from the cursor, a step here and a step there: of a line with few events the former is
 * short, of one with many the latter.
 */
static struct memory_link *
seek(const struct memory_db *m, const struct db_event_filter *f, const struct line *line)
{
	bool up = f->ascending;
	int64_t from = up ? f->after_seq : f->before_seq, at = from;
	struct memory_link *link = up ? line->list->first : line->list->last;

	if (!up && from == 0)
		return link;
	while (link != NULL && (up ? link->number <= from : link->number >= from)) {
		struct memory_event *row = up ? memory_series_above(&m->events, at) :
		    memory_series_below(&m->events, at);

		if (row == NULL)
			return NULL;
		if (is_in(line, row))
			return line->of_device ? &row->of_device : &row->of_tenant;
		at = values_of(row)->seq;
		link = up ? link->next : link->prev;
	}
	return link;
}

static inline struct memory_link *
step(const struct db_event_filter *f, const struct memory_link *link)
{
	return f->ascending ? link->next : link->prev;
}

/* false ends the list. */
static bool
show(struct listing *l, const struct memory_event *row, const struct db_scope *only)
{
	struct db_event e = *values_of(row);

	if (!db_event_passes(l->f, &e) || (only != NULL && !memory_scope_has(only, row->device)))
		return true;
	e.device = memory_device_id(row->device);
	return l->cb(l->arg, &e) && ++l->shown < l->f->limit;
}

static void
list_line(struct listing *l, struct line line, const struct db_scope *only)
{
	int64_t last = 0;

	line.at = seek(l->m, l->f, &line);
	for (; line.at != NULL; line.at = step(l->f, line.at)) {
		if (!db_scan_on(l->f->scan, last) || !show(l, row_of(&line, line.at), only))
			break;
		last = line.at->number;
	}
}

/* The line whose event comes next; NULL: there is none. */
static struct line *
first_of(const struct listing *l, struct line *line, size_t n)
{
	struct line *best = NULL;

	for (size_t i = 0; i < n; i++)
		if (line[i].at != NULL && (best == NULL || (l->f->ascending ?
		    line[i].at->number < best->at->number : line[i].at->number > best->at->number)))
			best = &line[i];
	return best;
}

/* Several lines as one, in order. */
static void
list_merged(struct listing *l, struct memory_device **devices, size_t n)
{
	struct line line[FEW_DEVICES], *at;
	int64_t last = 0;

	for (size_t i = 0; i < n; i++) {
		line[i] = (struct line){ &devices[i]->events, true, NULL };
		line[i].at = seek(l->m, l->f, &line[i]);
	}
	while ((at = first_of(l, line, n)) != NULL && db_scan_on(l->f->scan, last) &&
	    show(l, row_of(at, at->at), NULL)) {
		last = at->at->number;
		at->at = step(l->f, at->at);
	}
}

static void
list_tenant(struct listing *l, const struct db_scope *only)
{
	struct memory_tenant *t = memory_tenant_by_pk(l->m, l->f->scope.tenant_pk);

	if (t != NULL)
		list_line(l, (struct line){ &t->events, false, NULL }, only);
}

static void
list_user(struct listing *l)
{
	struct memory_device **devices;
	size_t n;

	devices = memory_scope_devices(l->m, &l->f->scope, FEW_DEVICES + 1, &n);
	if (n <= FEW_DEVICES)
		list_merged(l, devices, n);
	else
		list_tenant(l, &l->f->scope);
	free(devices);
}

/* Few devices of a user: theirs as one.  Many: the tenant's, those of other devices left out. */
enum db_result
memory_op_event_list(struct db *db, const struct db_event_filter *f, db_event_cb *cb, void *arg)
{
	struct memory_db *m = memory_self(db);
	struct listing l = { m, f, cb, arg, 0 };
	struct memory_device *dev;

	if (f->limit == 0)
		return DB_OK;
	m->listing++;
	if (f->device_pk == 0 && f->scope.all) {
		list_tenant(&l, NULL);
	} else if (f->device_pk == 0) {
		list_user(&l);
	} else if ((dev = memory_device_by_pk(m, f->device_pk)) != NULL) {
		list_line(&l, (struct line){ &dev->events, true, NULL }, NULL);
	}
	m->listing--;
	return DB_OK;
}
