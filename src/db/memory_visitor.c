/*
 * memory_visitor.c: visitors in memory.  Only the storage process.
 */
#include "base/must.h"
#include "db/memory.h"

static const struct db_visitor *
values_of(const struct memory_visitor *row)
{
	return row->row.values;
}

static uint64_t
id_hash(const struct memory_db *m, int64_t tenant_pk, const uint8_t id[UUID_LEN])
{
	return memory_hash(m->seed, (uint64_t)tenant_pk, slice_bytes(id, UUID_LEN));
}

static struct memory_visitor *
find(const struct memory_db *m, int64_t tenant_pk, const uint8_t id[UUID_LEN])
{
	struct memory_hash_node *node;

	node = memory_hash_first(&m->visitors_by_id, id_hash(m, tenant_pk, id));
	for (; node != NULL; node = memory_hash_next(node)) {
		struct memory_visitor *row = memory_row_of(node, struct memory_visitor, by_id);

		if (values_of(row)->tenant_pk == tenant_pk &&
		    memcmp(values_of(row)->id, id, UUID_LEN) == 0)
			return row;
	}
	return NULL;
}

static void
visitor_enter(struct memory_db *m, struct memory_row *base)
{
	struct memory_visitor *row = (struct memory_visitor *)base;
	const struct db_visitor *v = values_of(row);

	memory_series_put(&m->visitors, v->pk, row);
	memory_hash_put(&m->visitors_by_id, &row->by_id, id_hash(m, v->tenant_pk, v->id));
	memory_list_put(&row->tenant->visitors, &row->of_tenant, v->pk);
}

static void
visitor_leave(struct memory_db *m, struct memory_row *base)
{
	struct memory_visitor *row = (struct memory_visitor *)base;

	memory_series_remove(&m->visitors, values_of(row)->pk);
	memory_hash_remove(&m->visitors_by_id, &row->by_id);
	memory_list_remove(&row->tenant->visitors, &row->of_tenant);
}

static const struct memory_table visitor_table = {
	.enter = visitor_enter, .leave = visitor_leave
};

enum db_result
memory_op_visitor_insert(struct db *db, struct db_visitor *v)
{
	struct memory_db *m = memory_self(db);
	struct memory_tenant *tenant = memory_tenant_by_pk(m, v->tenant_pk);
	struct memory_visitor *row;
	struct db_visitor values = {
		.tenant_pk = v->tenant_pk, .device_pk = v->device_pk, .status = VISITOR_PENDING,
		.created_at = v->created_at, .name = v->name, .snapshot_url = v->snapshot_url,
		.data_json = v->data_json
	};

	if (tenant == NULL)
		return memory_failed(m, "a visitor of a tenant that never was");
	if (find(m, v->tenant_pk, v->id) != NULL)
		return DB_EXISTS;
	memcpy(values.id, v->id, UUID_LEN);
	values.pk = v->pk = ++m->last.visitor;
	row = must_alloc(sizeof(*row));
	row->row.values = memory_pack(&memory_visitor_shape, 0, &values);
	row->tenant = tenant;
	memory_insert(m, &visitor_table, &row->row);
	return DB_OK;
}

static struct slice
device_of(const struct memory_db *m, const struct db_visitor *v)
{
	return memory_device_id(memory_device_by_pk(m, v->device_pk));
}

enum db_result
memory_op_visitor_get(struct db *db, int64_t tenant_pk, const uint8_t id[UUID_LEN],
    struct db_visitor *out)
{
	struct memory_db *m = memory_self(db);
	const struct memory_visitor *row = find(m, tenant_pk, id);
	struct db_visitor v;

	if (row == NULL)
		return DB_NONE;
	/* Its device's id is copied too: behind the other texts. */
	v = *values_of(row);
	v.device = device_of(m, &v);
	memory_unpack(&memory_visitor_shape, memory_visitor_shape.count, &v, out);
	memory_append(&memory_visitor_shape, out, &out->device);
	return DB_OK;
}

enum db_result
memory_op_visitor_decide(struct db *db, const struct db_visitor *v)
{
	struct memory_db *m = memory_self(db);
	struct memory_visitor *row = memory_series_get(&m->visitors, v->pk);
	struct db_visitor values;

	if (row == NULL || values_of(row)->status != VISITOR_PENDING)
		return DB_NONE;
	values = *values_of(row);
	values.status = v->status;
	values.decided_at = v->decided_at;
	values.decided_by = v->decided_by;
	values.has_command = v->has_command;
	memset(values.command_id, 0, UUID_LEN);
	if (v->has_command)
		memcpy(values.command_id, v->command_id, UUID_LEN);
	memory_change(m, &visitor_table, &row->row, memory_pack(&memory_visitor_shape, 0, &values));
	return DB_OK;
}

/* Pages go on from a row of the list: it is found by its number at once, when it is still there. */
static struct memory_link *
seek(const struct memory_db *m, const struct memory_tenant *t, int64_t before_pk)
{
	struct memory_visitor *at = memory_series_get(&m->visitors, before_pk);
	struct memory_link *link = t->visitors.last;

	if (at != NULL && at->tenant == t)
		return at->of_tenant.prev;
	while (link != NULL && before_pk != 0 && link->number >= before_pk)
		link = link->prev;
	return link;
}

enum db_result
memory_op_visitor_list(struct db *db, const struct db_visitor_filter *f, db_visitor_cb *cb,
    void *arg)
{
	struct memory_db *m = memory_self(db);
	const struct memory_tenant *t = memory_tenant_by_pk(m, f->scope.tenant_pk);
	unsigned left = f->limit;
	int64_t last = 0;
	struct memory_link *link;

	if (t == NULL)
		return DB_OK;
	m->listing++;
	for (link = seek(m, t, f->before_pk); link != NULL && left > 0; link = link->prev) {
		struct db_visitor v = *values_of(memory_row_of(link, struct memory_visitor,
		    of_tenant));

		if (!db_scan_on(f->scan, last))
			break;
		last = v.pk;
		if ((f->status >= 0 && (int)v.status != f->status) || (!f->scope.all &&
		    !memory_scope_has(&f->scope, memory_device_by_pk(m, v.device_pk))))
			continue;
		v.device = device_of(m, &v);
		if (!cb(arg, &v))
			break;
		left--;
	}
	m->listing--;
	return DB_OK;
}

void
memory_visitor_remove(struct memory_db *m, struct memory_visitor *row)
{
	memory_remove(m, &visitor_table, &row->row);
}
