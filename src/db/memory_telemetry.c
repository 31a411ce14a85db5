/*
 * memory_telemetry.c: stored telemetry in memory.  Only the storage process.
 *
 * A sample is one block, written once: its links, its values, its text.
 */
#include "base/must.h"
#include "db/memory.h"

static const struct db_sample *
values_of(const struct memory_sample *row)
{
	return row->row.values;
}

void
memory_samples_judge(struct memory_db *m, struct memory_device *dev)
{
	bool is = !memory_device_live(dev) && dev->samples.root != NULL;

	if (is == dev->is_forsaken)
		return;
	dev->is_forsaken = is;
	if (is)
		memory_due_put(&m->forsaken, &dev->forsaken, 0, dev->pk);
	else
		memory_due_remove(&m->forsaken, &dev->forsaken);
}

static void
sample_enter(struct memory_db *m, struct memory_row *base)
{
	struct memory_sample *row = (struct memory_sample *)base;
	const struct db_sample *v = values_of(row);

	memory_series_put(&m->samples, v->seq, row);
	m->sample_count++;
	memory_due_put(&row->device->samples, &row->of_device, v->at, v->seq);
	memory_samples_judge(m, row->device);
}

static void
sample_leave(struct memory_db *m, struct memory_row *base)
{
	struct memory_sample *row = (struct memory_sample *)base;

	memory_series_remove(&m->samples, values_of(row)->seq);
	m->sample_count--;
	memory_due_remove(&row->device->samples, &row->of_device);
	memory_samples_judge(m, row->device);
	memory_device_left(m, row->device);
}

static const struct memory_table sample_table = {
	.enter = sample_enter, .leave = sample_leave, .in_row = true
};

static void
insert(struct memory_db *m, struct memory_device *dev, const struct db_sample *v)
{
	struct memory_sample *row = memory_pack(&memory_sample_shape, sizeof(*row), v);
	struct db_sample *values = (struct db_sample *)(row + 1);

	row->row.values = values;
	row->device = dev;
	values->seq = ++m->last.sample;
	values->tenant = values->device = SLICE_NONE;
	memory_insert(m, &sample_table, &row->row);
	if (m->sample_count > MEMORY_SAMPLES)
		memory_sample_remove(m, memory_series_above(&m->samples, 0));
}

enum db_result
memory_op_telemetry_insert(struct db *db, const struct db_sample *samples, unsigned n, unsigned *stored)
{
	struct memory_db *m = memory_self(db);

	*stored = 0;
	for (unsigned i = 0; i < n; i++) {
		const struct db_sample *v = &samples[i];
		struct memory_device *dev = memory_device_by_pk(m, v->device_pk);

		if (!memory_device_live(dev) || !slice_eq(memory_device_values(dev)->d.id, v->device) ||
		    !slice_eq(memory_device_values(dev)->d.tenant, v->tenant))
			continue;
		insert(m, dev, v);
		++*stored;
	}
	return DB_OK;
}

void
memory_sample_remove(struct memory_db *m, struct memory_sample *row)
{
	memory_remove(m, &sample_table, &row->row);
}

enum db_result
memory_op_telemetry_list(struct db *db, const struct db_sample_filter *f, db_sample_cb *cb, void *arg)
{
	struct memory_db *m = memory_self(db);
	struct memory_device *dev = memory_device_by_pk(m, f->device_pk);
	int64_t since = f->since != 0 ? f->since : INT64_MIN;
	int64_t at = f->until != 0 ? f->until : INT64_MAX, seq = INT64_MIN;
	struct memory_due *due;

	if (dev == NULL)
		return DB_OK;
	if (f->before_seq != 0 && f->before_at < at) {
		at = f->before_at;
		seq = f->before_seq;
	}
	m->listing++;
	due = memory_due_before(&dev->samples, at, seq);
	for (unsigned left = f->limit; left > 0 && due != NULL && due->at >= since; left--) {
		if (!cb(arg, values_of(memory_row_of(due, struct memory_sample, of_device))))
			break;
		due = memory_due_before(&dev->samples, due->at, due->number);
	}
	m->listing--;
	return DB_OK;
}

/* Among the limit oldest. */
static unsigned
trim_old(struct memory_db *m, int64_t before, unsigned limit)
{
	struct memory_sample *row = memory_series_above(&m->samples, 0), *next;
	unsigned removed = 0;

	/* As long as the oldest stays there is nothing to look for behind it. */
	if (row == NULL || values_of(row)->received_at >= before)
		return 0;
	for (unsigned n = 0; row != NULL && n < limit; n++, row = next) {
		next = memory_series_above(&m->samples, values_of(row)->seq);
		if (values_of(row)->received_at < before) {
			memory_sample_remove(m, row);
			removed++;
		}
	}
	return removed;
}

static unsigned
trim_forsaken(struct memory_db *m, unsigned limit)
{
	struct memory_due *due;
	unsigned removed = 0;

	while (removed < limit && (due = memory_due_first(&m->forsaken)) != NULL) {
		struct memory_device *dev = memory_row_of(due, struct memory_device, forsaken);

		due = memory_due_first(&dev->samples);
		memory_sample_remove(m, memory_row_of(due, struct memory_sample, of_device));
		removed++;
	}
	return removed;
}

enum db_result
memory_op_telemetry_retain(struct db *db, int64_t before, unsigned limit, bool *more)
{
	struct memory_db *m = memory_self(db);

	*more = false;
	if (limit == 0)
		return DB_OK;
	*more |= trim_old(m, before, limit) == limit;
	*more |= trim_forsaken(m, limit) == limit;
	return DB_OK;
}
