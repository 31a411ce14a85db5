/*
 * memory_retain.c: the end of old things in memory, in steps.  Only the storage process.
 */
#include "base/must.h"
#include "db/memory.h"

#define DAY_MS (24 * 3600 * INT64_C(1000))

/* Among the limit oldest.  The newest event stays whatever its age: cursors go on from it. */
static unsigned
trim_events(struct memory_db *m, int64_t keep_after, unsigned limit)
{
	struct memory_event *row = memory_series_above(&m->events, 0), *next;
	unsigned removed = 0;

	for (unsigned n = 0; row != NULL && n < limit; n++, row = next) {
		const struct db_event *e = row->row.values;

		next = memory_series_above(&m->events, e->seq);
		if (next != NULL && e->at < keep_after) {
			memory_event_remove(m, row);
			removed++;
		}
	}
	return removed;
}

/* Timed out long ago: devices are not asked about them any more. */
static unsigned
close_stale(struct memory_db *m, int64_t before, unsigned limit)
{
	struct memory_due *due;
	unsigned n = 0;

	while (n < limit && (due = memory_due_first(&m->stale)) != NULL && due->at < before) {
		memory_command_close(m, memory_row_of(due, struct memory_command, due));
		n++;
	}
	return n;
}

/*
 * Commands in windows of limit rows: open ones among them stay, so that the window must move on by
 * number.  true: there may be more.
 */
static bool
trim_commands(struct memory_db *m, int64_t keep_after, unsigned limit)
{
	struct memory_command *row = memory_series_above(&m->commands, m->retain_from), *next;
	int64_t newest = 0;
	unsigned n;

	for (n = 0; row != NULL && n < limit; n++, row = next) {
		const struct db_command *c = row->row.values;

		newest = n == 0 || c->created_at > newest ? c->created_at : newest;
		m->retain_from = c->pk;
		next = memory_series_above(&m->commands, c->pk);
		if (c->finished_at != 0 && c->finished_at < keep_after)
			memory_command_remove(m, row);
	}
	if (n == limit && newest < keep_after)
		return true;
	m->retain_from = 0;
	return false;
}

static unsigned
trim_visitors(struct memory_db *m, int64_t keep_after, unsigned limit)
{
	struct memory_visitor *row = memory_series_above(&m->visitors, 0), *next;
	unsigned removed = 0;

	for (unsigned n = 0; row != NULL && n < limit; n++, row = next) {
		const struct db_visitor *v = row->row.values;

		next = memory_series_above(&m->visitors, v->pk);
		if (v->created_at < keep_after) {
			memory_visitor_remove(m, row);
			removed++;
		}
	}
	return removed;
}

static unsigned
purge_devices(struct memory_db *m, int64_t keep_after, unsigned limit)
{
	struct memory_due *due;
	unsigned n = 0;

	while (n < limit && (due = memory_due_first(&m->deleted)) != NULL && due->at < keep_after) {
		memory_device_purge(m, memory_row_of(due, struct memory_device, deleted));
		n++;
	}
	return n;
}

enum db_result
memory_op_retain(struct db *db, int64_t now, int64_t keep_after, unsigned limit, bool *more)
{
	struct memory_db *m = memory_self(db);

	*more = false;
	if (limit == 0)
		return DB_OK;
	*more |= trim_events(m, keep_after, limit) == limit;
	*more |= close_stale(m, now - DAY_MS, limit) == limit;
	*more |= trim_commands(m, keep_after, limit);
	*more |= trim_visitors(m, keep_after, limit) == limit;
	*more |= memory_keys_trim(m, now, limit) == limit;
	*more |= memory_tickets_trim(m, now, limit) == limit;
	*more |= purge_devices(m, keep_after, limit) == limit;
	return DB_OK;
}
