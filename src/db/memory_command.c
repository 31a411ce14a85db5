/*
 * memory_command.c: commands in memory.  Only the storage process.
 */
#include "base/must.h"
#include "db/memory.h"

static const struct db_command *
values_of(const struct memory_command *row)
{
	return row->row.values;
}

static uint64_t
id_hash(const struct memory_db *m, const uint8_t id[UUID_LEN])
{
	return memory_hash(m->seed, 0, slice_bytes(id, UUID_LEN));
}

static struct memory_command *
find(const struct memory_db *m, const uint8_t id[UUID_LEN])
{
	struct memory_hash_node *node = memory_hash_first(&m->commands_by_id, id_hash(m, id));

	for (; node != NULL; node = memory_hash_next(node)) {
		struct memory_command *row = memory_row_of(node, struct memory_command, by_id);

		if (memcmp(values_of(row)->id, id, UUID_LEN) == 0)
			return row;
	}
	return NULL;
}

static void
command_enter(struct memory_db *m, struct memory_row *base)
{
	struct memory_command *row = (struct memory_command *)base;
	const struct db_command *c = values_of(row);

	memory_series_put(&m->commands, c->pk, row);
	memory_hash_put(&m->commands_by_id, &row->by_id, id_hash(m, c->id));
	memory_list_put(&row->device->commands, &row->of_device, c->pk);
}

static void
command_leave(struct memory_db *m, struct memory_row *base)
{
	struct memory_command *row = (struct memory_command *)base;

	memory_series_remove(&m->commands, values_of(row)->pk);
	memory_hash_remove(&m->commands_by_id, &row->by_id);
	memory_list_remove(&row->device->commands, &row->of_device);
	memory_device_left(m, row->device);
}

static bool
is_stale(const struct db_command *c)
{
	return c->open && c->status == COMMAND_TIMEOUT;
}

static void
command_file(struct memory_db *m, struct memory_row *base)
{
	struct memory_command *row = (struct memory_command *)base;
	const struct db_command *c = values_of(row);

	if (c->open) {
		memory_list_put(&m->open, &row->open_or_ended, c->pk);
		memory_list_put(&row->device->open, &row->open_of_device, c->pk);
		row->device->queued += c->status == COMMAND_QUEUED;
	} else {
		memory_list_put(&m->ended, &row->open_or_ended, ++m->ended_number);
		m->ended_count++;
	}
	if (c->status == COMMAND_QUEUED)
		memory_due_put(&m->queue, &row->due, c->queue_until, c->pk);
	else if (is_stale(c))
		memory_due_put(&m->stale, &row->due, c->finished_at, c->pk);
}

static void
command_unfile(struct memory_db *m, struct memory_row *base)
{
	struct memory_command *row = (struct memory_command *)base;
	const struct db_command *c = values_of(row);

	if (c->open) {
		memory_list_remove(&m->open, &row->open_or_ended);
		memory_list_remove(&row->device->open, &row->open_of_device);
		row->device->queued -= c->status == COMMAND_QUEUED;
	} else {
		memory_list_remove(&m->ended, &row->open_or_ended);
		m->ended_count--;
	}
	if (c->status == COMMAND_QUEUED)
		memory_due_remove(&m->queue, &row->due);
	else if (is_stale(c))
		memory_due_remove(&m->stale, &row->due);
}

static bool
command_same_places(const void *old, const void *new)
{
	const struct db_command *a = old, *b = new;

	return a->open == b->open && (a->status == COMMAND_QUEUED) == (b->status == COMMAND_QUEUED) &&
	    a->queue_until == b->queue_until &&
	    is_stale(a) == is_stale(b) && (!is_stale(a) || a->finished_at == b->finished_at);
}

static const struct memory_table command_table = {
	.enter = command_enter, .leave = command_leave, .file = command_file,
	.unfile = command_unfile, .same_places = command_same_places
};

static void
drop_oldest(struct memory_db *m)
{
	if (m->ended_count > MEMORY_ENDED)
		memory_command_remove(m, memory_row_of(m->ended.first, struct memory_command,
		    open_or_ended));
}

static void
change(struct memory_db *m, struct memory_command *row, const struct db_command *c)
{
	memory_change(m, &command_table, &row->row, memory_pack(&memory_command_shape, 0, c));
	drop_oldest(m);
}

enum db_result
memory_op_command_insert(struct db *db, struct db_command *c)
{
	struct memory_db *m = memory_self(db);
	struct memory_command *row;
	struct memory_device *dev;
	struct db_command *values;

	if (find(m, c->id) != NULL)
		return DB_EXISTS;
	if ((dev = memory_device_have(m, c->device_pk)) == NULL)
		return memory_failed(m, "a command of a device that never was");
	values = memory_pack(&memory_command_shape, 0, c);
	values->pk = c->pk = ++m->last.command;
	row = must_realloc(NULL, sizeof(*row));
	row->row.values = values;
	row->device = dev;
	memory_insert(m, &command_table, &row->row);
	drop_oldest(m);
	return DB_OK;
}

static enum db_result
give(const struct memory_command *row, struct db_command *out)
{
	if (row == NULL)
		return DB_NONE;
	memory_unpack(&memory_command_shape, memory_command_shape.count, row->row.values, out);
	return DB_OK;
}

enum db_result
memory_op_command_get(struct db *db, const uint8_t id[UUID_LEN], struct db_command *out)
{
	return give(find(memory_self(db), id), out);
}

enum db_result
memory_op_command_update(struct db *db, const struct db_command *c, enum command_status was)
{
	struct memory_db *m = memory_self(db);
	struct memory_command *row = memory_series_get(&m->commands, c->pk);
	struct db_command v;

	if (row == NULL || values_of(row)->status != was)
		return DB_NONE;
	v = *values_of(row);
	v.status = c->status;
	v.open = c->open;
	v.outcome = c->outcome;
	v.late = c->late;
	v.attempt = c->attempt;
	v.sent_epoch = c->sent_epoch;
	v.sent_at = c->sent_at;
	v.accepted_at = c->accepted_at;
	v.finished_at = c->finished_at;
	v.trace_json = c->trace_json;
	v.result_json = c->result_json;
	v.error_json = c->error_json;
	change(m, row, &v);
	return DB_OK;
}

/*
 * The first link of a list beyond a number, upwards or downwards.  Only for when the row of that
 * number is not in the list: pages go on from one that is.
 */
static struct memory_link *
seek(struct memory_link *link, bool up, int64_t from)
{
	while (link != NULL && (up ? link->number <= from : link->number >= from))
		link = up ? link->next : link->prev;
	return link;
}

enum db_result
memory_op_command_list(struct db *db, int64_t device_pk, int64_t before_pk, unsigned limit,
    db_command_cb *cb, void *arg)
{
	struct memory_db *m = memory_self(db);
	const struct memory_device *dev = memory_device_by_pk(m, device_pk);
	struct memory_command *at = memory_series_get(&m->commands, before_pk);
	struct memory_link *link;

	if (dev == NULL)
		return DB_OK;
	if (at != NULL && at->device == dev)
		link = at->of_device.prev;
	else
		link = before_pk == 0 ? dev->commands.last : seek(dev->commands.last, false, before_pk);
	m->listing++;
	for (; link != NULL && limit > 0; link = link->prev, limit--)
		if (!cb(arg, values_of(memory_row_of(link, struct memory_command, of_device))))
			break;
	m->listing--;
	return DB_OK;
}

enum db_result
memory_op_command_open(struct db *db, int64_t device_pk, int64_t after_pk, unsigned limit,
    db_command_cb *cb, void *arg)
{
	struct memory_db *m = memory_self(db);
	const struct memory_device *dev = memory_device_by_pk(m, device_pk);
	struct memory_command *at = memory_series_get(&m->commands, after_pk);
	struct memory_link *link = NULL;

	if (device_pk != 0 && dev == NULL)
		return DB_OK;
	if (at != NULL && values_of(at)->open && (dev == NULL || at->device == dev))
		link = dev != NULL ? at->open_of_device.next : at->open_or_ended.next;
	else
		link = seek(dev != NULL ? dev->open.first : m->open.first, true, after_pk);
	m->listing++;
	for (; link != NULL && limit > 0; link = link->next, limit--) {
		const struct memory_command *row = dev != NULL ?
		    memory_row_of(link, struct memory_command, open_of_device) :
		    memory_row_of(link, struct memory_command, open_or_ended);

		if (!cb(arg, values_of(row)))
			break;
	}
	m->listing--;
	return DB_OK;
}

enum db_result
memory_op_command_queued_first(struct db *db, int64_t device_pk, struct db_command *out)
{
	const struct memory_device *dev = memory_device_by_pk(memory_self(db), device_pk);
	const struct memory_command *row;
	struct memory_link *link;

	if (dev == NULL || dev->queued == 0)
		return DB_NONE;
	for (link = dev->open.first; link != NULL; link = link->next) {
		row = memory_row_of(link, struct memory_command, open_of_device);
		if (values_of(row)->status == COMMAND_QUEUED)
			return give(row, out);
	}
	return DB_NONE;
}

enum db_result
memory_op_command_queued_count(struct db *db, int64_t device_pk, int64_t *count)
{
	const struct memory_device *dev = memory_device_by_pk(memory_self(db), device_pk);

	*count = dev != NULL ? dev->queued : 0;
	return DB_OK;
}

enum db_result
memory_op_command_queue_due(struct db *db, int64_t now, unsigned limit, db_command_cb *cb,
    void *arg, int64_t *next)
{
	struct memory_db *m = memory_self(db);
	const struct memory_due *first = memory_due_first(&m->queue), *due = first;

	m->listing++;
	for (; due != NULL && due->at <= now && limit > 0; limit--) {
		if (!cb(arg, values_of(memory_row_of(due, struct memory_command, due))))
			break;
		due = memory_due_next(&m->queue, due);
	}
	m->listing--;
	*next = first != NULL ? first->at : 0;
	return DB_OK;
}

enum db_result
memory_op_command_queue_moved(struct db *db, int64_t after_pk, int64_t by_ms)
{
	struct memory_db *m = memory_self(db);
	struct memory_link *next;

	for (struct memory_link *link = seek(m->open.first, true, after_pk); link != NULL; link = next) {
		struct memory_command *row = memory_row_of(link, struct memory_command, open_or_ended);
		struct db_command v = *values_of(row);

		next = link->next;
		if (v.queue_until == 0)
			continue;
		v.queue_until += by_ms;
		change(m, row, &v);
	}
	return DB_OK;
}

void
memory_command_remove(struct memory_db *m, struct memory_command *row)
{
	memory_remove(m, &command_table, &row->row);
}

void
memory_command_close(struct memory_db *m, struct memory_command *row)
{
	struct db_command v = *values_of(row);

	v.open = false;
	change(m, row, &v);
}
