/*
 * memory.c: `memory:`, a store in plain memory for development: it forgets all with the process.
 * Opening, transactions, numbers kept by name, tenants.  Only the storage process; owns all rows.
 *
 * It answers as the SQLite engine does, in the same order; tests/unit/db_same.c holds it to that.
 * One thing it does not: of events, telemetry and ended commands only the newest are kept (memory.h).
 */
#include <limits.h>
#include <stdlib.h>

#include "base/must.h"
#include "db/memory.h"

/* Transactions */

enum db_result
memory_op_begin(struct db *db)
{
	struct memory_db *m = memory_self(db);

	if (m->begun)
		return memory_failed(m, "a transaction is open already");
	m->begun = true;
	m->last_before = m->last;
	return DB_OK;
}

enum db_result
memory_op_commit(struct db *db)
{
	struct memory_db *m = memory_self(db);

	if (!m->begun)
		return memory_failed(m, "no transaction is open");
	memory_keep(m);
	return DB_OK;
}

enum db_result
memory_op_rollback(struct db *db)
{
	struct memory_db *m = memory_self(db);

	if (m->begun)
		memory_take_back(m);
	return DB_OK;
}

enum db_result
memory_op_probe(struct db *db, int64_t now, size_t bytes)
{
	(void)bytes;
	return memory_op_meta_set(db, "probe", now);
}

enum db_result
memory_op_idle(struct db *db, bool busy)
{
	(void)db, (void)busy;
	return DB_OK;
}

/* Numbers kept by name: a handful */

struct meta {
	struct memory_row row;		/* int64_t */
	struct memory_link link;
	char name[];
};

static void
meta_enter(struct memory_db *m, struct memory_row *row)
{
	struct meta *meta = (struct meta *)row;

	memory_list_put(&m->meta, &meta->link, m->meta.last != NULL ? m->meta.last->number + 1 : 1);
}

static void
meta_leave(struct memory_db *m, struct memory_row *row)
{
	memory_list_remove(&m->meta, &((struct meta *)row)->link);
}

static const struct memory_table meta_table = { .enter = meta_enter, .leave = meta_leave };

static struct meta *
meta_find(const struct memory_db *m, const char *name)
{
	struct memory_link *link;

	for (link = m->meta.first; link != NULL; link = link->next)
		if (strcmp(memory_row_of(link, struct meta, link)->name, name) == 0)
			return memory_row_of(link, struct meta, link);
	return NULL;
}

enum db_result
memory_op_meta_get(struct db *db, const char *name, int64_t *value)
{
	const struct meta *meta = meta_find(memory_self(db), name);

	if (meta == NULL)
		return DB_NONE;
	*value = *(const int64_t *)meta->row.values;
	return DB_OK;
}

enum db_result
memory_op_meta_set(struct db *db, const char *name, int64_t value)
{
	struct memory_db *m = memory_self(db);
	struct meta *meta = meta_find(m, name);
	int64_t *values = must_realloc(NULL, sizeof(*values));

	*values = value;
	if (meta != NULL) {
		memory_change(m, &meta_table, &meta->row, values);
		return DB_OK;
	}
	meta = must_alloc(sizeof(*meta) + strlen(name) + 1);
	strcpy(meta->name, name);
	meta->row.values = values;
	memory_insert(m, &meta_table, &meta->row);
	return DB_OK;
}

/* Tenants: they only ever come */

static void
tenant_enter(struct memory_db *m, struct memory_row *row)
{
	struct memory_tenant *t = (struct memory_tenant *)row;
	struct slice name = { t->name, t->len };

	if (m->tenant_count == m->tenant_cap) {
		m->tenant_cap = m->tenant_cap > 0 ? m->tenant_cap * 2 : 16;
		m->tenant = must_realloc(m->tenant, m->tenant_cap * sizeof(*m->tenant));
	}
	m->tenant[m->tenant_count++] = t;
	t->pk = (int64_t)m->tenant_count;
	memory_hash_put(&m->tenants, &t->by_name, memory_hash(m->seed, 0, name));
}

/* Taken back: it was the last to come. */
static void
tenant_leave(struct memory_db *m, struct memory_row *row)
{
	struct memory_tenant *t = (struct memory_tenant *)row;

	must(m->tenant[m->tenant_count - 1] == t);
	m->tenant_count--;
	memory_hash_remove(&m->tenants, &t->by_name);
}

static const struct memory_table tenant_table = { .enter = tenant_enter, .leave = tenant_leave };

struct memory_tenant *
memory_tenant_by_pk(const struct memory_db *m, int64_t pk)
{
	return pk > 0 && (uint64_t)pk <= m->tenant_count ? m->tenant[pk - 1] : NULL;
}

struct memory_tenant *
memory_tenant_find(const struct memory_db *m, struct slice name)
{
	struct memory_hash_node *node;

	node = memory_hash_first(&m->tenants, memory_hash(m->seed, 0, name));
	for (; node != NULL; node = memory_hash_next(node)) {
		struct memory_tenant *t = memory_row_of(node, struct memory_tenant, by_name);

		if (slice_eq((struct slice){ t->name, t->len }, name))
			return t;
	}
	return NULL;
}

struct memory_tenant *
memory_tenant_have(struct memory_db *m, struct slice name)
{
	struct memory_tenant *t = memory_tenant_find(m, name);

	if (t == NULL) {
		t = must_alloc(sizeof(*t) + name.len);
		t->len = name.len;
		if (name.len > 0)
			memcpy(t->name, name.p, name.len);
		memory_insert(m, &tenant_table, &t->row);
	}
	return t;
}

enum db_result
memory_op_tenant(struct db *db, struct slice name, bool create, int64_t *pk)
{
	struct memory_db *m = memory_self(db);
	struct memory_tenant *t = create ? memory_tenant_have(m, name) : memory_tenant_find(m, name);

	if (t == NULL)
		return DB_NONE;
	*pk = t->pk;
	return DB_OK;
}

/* Opening and closing */

static const char *
error_text(struct db *db)
{
	return memory_self(db)->error;
}

static void
free_meta(struct memory_db *m)
{
	while (m->meta.first != NULL)
		memory_remove(m, &meta_table, &memory_row_of(m->meta.first, struct meta, link)->row);
}

static void
free_devices(struct memory_db *m)
{
	struct memory_device *dev;
	int64_t pk = 0;

	while ((dev = memory_series_above(&m->devices, pk)) != NULL) {
		pk = dev->pk;
		memory_shares_remove(m, dev);
		if ((dev = memory_device_by_pk(m, pk)) != NULL)
			memory_device_purge(m, dev);
	}
}

static void
close_handle(struct db *db)
{
	struct memory_db *m = memory_self(db);
	void *row;

	if (m->begun)
		memory_take_back(m);
	free_meta(m);
	while ((row = memory_series_above(&m->events, 0)) != NULL)
		memory_event_remove(m, row);
	while ((row = memory_series_above(&m->samples, 0)) != NULL)
		memory_sample_remove(m, row);
	while ((row = memory_series_above(&m->commands, 0)) != NULL)
		memory_command_remove(m, row);
	while ((row = memory_series_above(&m->visitors, 0)) != NULL)
		memory_visitor_remove(m, row);
	memory_keys_trim(m, INT64_MAX, UINT_MAX);
	memory_tickets_trim(m, INT64_MAX, UINT_MAX);
	free_devices(m);
	while (m->tenant_count > 0)
		free(m->tenant[--m->tenant_count]);
	free(m->tenant);
	free(m->undo);
	free(m->idle_device);
	memory_series_fini(&m->devices);
	memory_series_fini(&m->events);
	memory_series_fini(&m->samples);
	memory_series_fini(&m->commands);
	memory_series_fini(&m->visitors);
	memory_hash_fini(&m->tenants);
	memory_hash_fini(&m->devices_by_id);
	memory_hash_fini(&m->deleted_by_id);
	memory_hash_fini(&m->devices_by_token);
	memory_hash_fini(&m->users);
	memory_hash_fini(&m->commands_by_id);
	memory_hash_fini(&m->visitors_by_id);
	memory_hash_fini(&m->keys);
	memory_hash_fini(&m->tickets);
	free(m);
}

static const struct db_ops ops = {
	.engine = "memory",
#define OP(name, ...) .name = memory_op_##name,
#include "db/ops.def"
#undef OP
	.error = error_text,
	.close = close_handle,
};

struct db *
db_memory_open(void)
{
	struct memory_db *m = must_alloc(sizeof(*m));

	m->db.ops = &ops;
	m->error = "no error";
	digest_random(m->seed, sizeof(m->seed));
	return &m->db;
}
