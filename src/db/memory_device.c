/*
 * memory_device.c: devices in memory.  Only the storage process.
 *
 * A deleted device keeps its row until retention purges it: its events still show its id, and its
 * epochs go on when the id is registered again.
 */
#include <stdlib.h>

#include "base/json.h"
#include "base/must.h"
#include "db/memory.h"

#define HEAD_TEXTS	5		/* of memory_device_shape, when not read whole */
#define TAGS_DEPTH	64

static struct memory_device *
of_row(struct memory_row *row)
{
	return (struct memory_device *)row;
}

static int
id_order(const void *key, const struct memory_tree_node *node)
{
	const struct slice *a = key;
	struct slice b = memory_device_values(memory_row_of(node, struct memory_device,
	    of_tenant))->d.id;
	int first = memcmp(a->p != NULL ? a->p : "", b.p, a->len < b.len ? a->len : b.len);

	return first != 0 ? first : a->len < b.len ? -1 : a->len > b.len;
}

static uint64_t
id_hash(const struct memory_db *m, int64_t tenant_pk, struct slice id)
{
	return memory_hash(m->seed, (uint64_t)tenant_pk, id);
}

static uint64_t
token_hash(const struct memory_db *m, const uint8_t token[SHA256_LEN])
{
	return memory_hash(m->seed, 0, slice_bytes(token, SHA256_LEN));
}

static void
device_file(struct memory_db *m, struct memory_row *row)
{
	struct memory_device *dev = of_row(row);
	const struct memory_device_values *v = row->values;
	uint64_t hash;

	memory_samples_judge(m, dev);
	if (v == NULL)
		return;
	if (v->has_token)
		memory_hash_put(&m->devices_by_token, &dev->by_token, token_hash(m, v->token));
	hash = id_hash(m, v->d.tenant_pk, v->d.id);
	if (v->deleted_at != 0) {
		memory_hash_put(&m->deleted_by_id, &dev->by_id, hash);
		memory_due_put(&m->deleted, &dev->deleted, v->deleted_at, dev->pk);
		return;
	}
	memory_hash_put(&m->devices_by_id, &dev->by_id, hash);
	memory_tree_put(&memory_tenant_by_pk(m, v->d.tenant_pk)->devices, id_order, &v->d.id,
	    &dev->of_tenant);
	dev->user = memory_user_have(m, v->d.tenant_pk, v->d.owner);
	memory_list_put(&dev->user->owned, &dev->of_user, dev->pk);
}

static void
device_unfile(struct memory_db *m, struct memory_row *row)
{
	struct memory_device *dev = of_row(row);
	const struct memory_device_values *v = row->values;

	if (v == NULL)
		return;
	if (v->has_token)
		memory_hash_remove(&m->devices_by_token, &dev->by_token);
	if (v->deleted_at != 0) {
		memory_hash_remove(&m->deleted_by_id, &dev->by_id);
		memory_due_remove(&m->deleted, &dev->deleted);
	} else {
		memory_hash_remove(&m->devices_by_id, &dev->by_id);
		memory_tree_remove(&memory_tenant_by_pk(m, v->d.tenant_pk)->devices, id_order,
		    &v->d.id, &dev->of_tenant);
		memory_list_remove(&dev->user->owned, &dev->of_user);
		memory_user_left(m, dev->user);
		dev->user = NULL;
	}
	memory_device_left(m, dev);
}

/* Tenant, id and owner never change. */
static bool
device_same_places(const void *old, const void *new)
{
	const struct memory_device_values *a = old, *b = new;

	return a != NULL && b != NULL && a->deleted_at == b->deleted_at &&
	    a->has_token == b->has_token &&
	    (!a->has_token || memcmp(a->token, b->token, SHA256_LEN) == 0);
}

static const struct memory_table device_table = {
	.file = device_file, .unfile = device_unfile, .same_places = device_same_places
};

/* Numbers */

struct memory_device *
memory_device_by_pk(const struct memory_db *m, int64_t pk)
{
	return memory_series_get(&m->devices, pk);
}

struct memory_device *
memory_device_have(struct memory_db *m, int64_t pk)
{
	struct memory_device *dev = memory_device_by_pk(m, pk);

	if (dev == NULL && pk > 0 && pk <= m->last.device + MEMORY_SERIES_GAP / 2) {
		dev = must_alloc(sizeof(*dev));
		dev->pk = pk;
		memory_series_put(&m->devices, pk, dev);
		memory_device_left(m, dev);	/* what it is made for may be taken back */
	}
	return dev;
}

void
memory_device_left(struct memory_db *m, const struct memory_device *dev)
{
	if (m->idle_count == m->idle_cap) {
		m->idle_cap = m->idle_cap > 0 ? m->idle_cap * 2 : 64;
		m->idle_device = must_realloc(m->idle_device, m->idle_cap * sizeof(*m->idle_device));
	}
	m->idle_device[m->idle_count++] = dev->pk;
}

void
memory_device_free_idle(struct memory_db *m)
{
	for (size_t i = 0; i < m->idle_count; i++) {
		struct memory_device *dev = memory_device_by_pk(m, m->idle_device[i]);

		if (dev == NULL || dev->row.values != NULL || !memory_list_empty(&dev->events) ||
		    !memory_list_empty(&dev->commands) || dev->shares.root != NULL ||
		    dev->samples.root != NULL)
			continue;
		memory_series_remove(&m->devices, dev->pk);
		free(dev);
	}
	m->idle_count = 0;
	if (m->idle_cap > 4096) {
		free(m->idle_device);
		m->idle_device = NULL;
		m->idle_cap = 0;
	}
}

struct slice
memory_device_id(const struct memory_device *dev)
{
	return dev != NULL && dev->row.values != NULL ? memory_device_values(dev)->d.id : SLICE_NONE;
}

/* Finding */

static void
give(const struct memory_device *dev, bool whole, struct db_device *out)
{
	memory_unpack(&memory_device_shape, whole ? memory_device_shape.count : HEAD_TEXTS,
	    dev->row.values, out);
	out->whole = whole;
	if (!whole)
		out->created_at = out->updated_at = out->state_at = 0;
}

static struct memory_device *
find_live(const struct memory_db *m, int64_t tenant_pk, struct slice id)
{
	struct memory_hash_node *node;

	node = memory_hash_first(&m->devices_by_id, id_hash(m, tenant_pk, id));
	for (; node != NULL; node = memory_hash_next(node)) {
		struct memory_device *dev = memory_row_of(node, struct memory_device, by_id);
		const struct memory_device_values *v = dev->row.values;

		if (v->d.tenant_pk == tenant_pk && slice_eq(v->d.id, id))
			return dev;
	}
	return NULL;
}

static struct memory_device *
find_token(const struct memory_db *m, const uint8_t token[SHA256_LEN])
{
	struct memory_hash_node *node;

	node = memory_hash_first(&m->devices_by_token, token_hash(m, token));
	for (; node != NULL; node = memory_hash_next(node)) {
		struct memory_device *dev = memory_row_of(node, struct memory_device, by_token);

		if (memcmp(memory_device_values(dev)->token, token, SHA256_LEN) == 0)
			return dev;
	}
	return NULL;
}

enum db_result
memory_op_device_by_id(struct db *db, struct slice tenant, struct slice id, bool whole,
    struct db_device *out)
{
	struct memory_db *m = memory_self(db);
	const struct memory_tenant *t = memory_tenant_find(m, tenant);
	const struct memory_device *dev = t != NULL ? find_live(m, t->pk, id) : NULL;

	if (dev == NULL)
		return DB_NONE;
	give(dev, whole, out);
	return DB_OK;
}

enum db_result
memory_op_device_by_pk(struct db *db, int64_t pk, bool whole, struct db_device *out)
{
	const struct memory_device *dev = memory_device_by_pk(memory_self(db), pk);

	if (!memory_device_live(dev))
		return DB_NONE;
	give(dev, whole, out);
	return DB_OK;
}

enum db_result
memory_op_device_by_token(struct db *db, const uint8_t hash[SHA256_LEN], struct db_device *out)
{
	const struct memory_device *dev = find_token(memory_self(db), hash);

	if (!memory_device_live(dev))
		return DB_NONE;
	give(dev, false, out);
	return DB_OK;
}

enum db_result
memory_op_device_token_is(struct db *db, int64_t pk, const uint8_t hash[SHA256_LEN])
{
	const struct memory_device *dev = find_token(memory_self(db), hash);

	return dev != NULL && dev->pk == pk ? DB_OK : DB_NONE;
}

/* Changing */

static int64_t
last_epoch(const struct memory_db *m, int64_t tenant_pk, struct slice id)
{
	struct memory_hash_node *node;
	int64_t epoch = 0;

	node = memory_hash_first(&m->deleted_by_id, id_hash(m, tenant_pk, id));
	for (; node != NULL; node = memory_hash_next(node)) {
		const struct memory_device_values *v;

		v = memory_device_values(memory_row_of(node, struct memory_device, by_id));
		if (v->d.tenant_pk == tenant_pk && slice_eq(v->d.id, id) && v->d.epoch > epoch)
			epoch = v->d.epoch;
	}
	return epoch;
}

static void
change(struct memory_db *m, struct memory_device *dev, const struct memory_device_values *v)
{
	memory_change(m, &device_table, &dev->row,
	    v != NULL ? memory_pack(&memory_device_shape, 0, v) : NULL);
}

enum db_result
memory_op_device_insert(struct db *db, struct db_device *d, const uint8_t hash[SHA256_LEN])
{
	struct memory_db *m = memory_self(db);
	struct memory_device_values v = { .has_token = true };

	d->tenant_pk = memory_tenant_have(m, d->tenant)->pk;
	d->epoch = last_epoch(m, d->tenant_pk, d->id);
	if (find_live(m, d->tenant_pk, d->id) != NULL || find_token(m, hash) != NULL)
		return DB_EXISTS;
	v.d = (struct db_device){
		.pk = m->last.device + 1, .tenant_pk = d->tenant_pk, .tenant = d->tenant, .id = d->id,
		.owner = d->owner, .epoch = d->epoch, .audience = d->audience,
		.created_at = d->created_at, .updated_at = d->created_at, .type = d->type,
		.name = d->name, .tags_json = d->tags_json, .metadata_json = d->metadata_json,
		.settings_json = d->settings_json
	};
	memcpy(v.token, hash, SHA256_LEN);
	d->pk = ++m->last.device;
	change(m, memory_device_have(m, d->pk), &v);
	return DB_OK;
}

/* A copy of a device's values, to be changed.  DB_NONE: there is no such row. */
static enum db_result
open_values(struct memory_db *m, int64_t pk, struct memory_device **dev,
    struct memory_device_values *v)
{
	*dev = memory_device_by_pk(m, pk);
	if (*dev == NULL || (*dev)->row.values == NULL)
		return DB_NONE;
	*v = *memory_device_values(*dev);
	return DB_OK;
}

enum db_result
memory_op_device_connected(struct db *db, int64_t pk, unsigned transport, int64_t epoch,
    uint64_t ref, uint64_t replaced, int64_t now)
{
	struct memory_db *m = memory_self(db);
	struct memory_device_values v;
	struct memory_device *dev;

	must(transport < DB_TRANSPORTS);
	if (open_values(m, pk, &dev, &v) != DB_OK)
		return DB_NONE;
	v.d.online |= (uint8_t)(1u << transport);
	v.d.epoch = v.d.epoch_of[transport] = epoch;
	v.d.conn[transport] = ref;
	v.d.replaced = replaced;
	v.d.since = v.d.last_seen = now;
	v.d.gone_reason.len = 0;
	change(m, dev, &v);
	return DB_OK;
}

static inline int64_t
later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

enum db_result
memory_op_device_gone(struct db *db, int64_t pk, unsigned transport, int64_t epoch, int64_t now,
    int64_t last_seen, struct slice reason)
{
	struct memory_db *m = memory_self(db);
	struct memory_device_values v;
	struct memory_device *dev;

	must(transport < DB_TRANSPORTS);
	if (open_values(m, pk, &dev, &v) != DB_OK || v.d.epoch_of[transport] != epoch ||
	    (v.d.online & 1u << transport) == 0)
		return DB_NONE;
	v.d.online &= (uint8_t)~(1u << transport);
	v.d.conn[transport] = 0;
	v.d.since = now;
	v.d.last_seen = later(v.d.last_seen, last_seen);
	v.d.gone_reason = reason;
	change(m, dev, &v);
	return DB_OK;
}

enum db_result
memory_op_device_set_state(struct db *db, int64_t pk, int64_t epoch, struct slice state_json,
    int64_t now)
{
	struct memory_db *m = memory_self(db);
	struct memory_device_values v;
	struct memory_device *dev;

	if (open_values(m, pk, &dev, &v) != DB_OK || v.deleted_at != 0 || v.d.epoch > epoch)
		return DB_NONE;
	v.d.state_json = state_json;
	v.d.state_at = now;
	v.d.last_seen = later(v.d.last_seen, now);
	change(m, dev, &v);
	return DB_OK;
}

enum db_result
memory_op_device_set_info(struct db *db, int64_t pk, struct slice name, struct slice tags_json,
    struct slice metadata_json, struct slice settings_json, int64_t now)
{
	struct memory_db *m = memory_self(db);
	struct memory_device_values v;
	struct memory_device *dev;

	if (open_values(m, pk, &dev, &v) != DB_OK)
		return DB_NONE;
	v.d.name = name;
	v.d.tags_json = tags_json;
	v.d.metadata_json = metadata_json;
	v.d.settings_json = settings_json;
	v.d.updated_at = now;
	change(m, dev, &v);
	return DB_OK;
}

enum db_result
memory_op_device_set_token(struct db *db, int64_t pk, const uint8_t hash[SHA256_LEN], int64_t now)
{
	struct memory_db *m = memory_self(db);
	struct memory_device_values v;
	struct memory_device *dev, *holder = find_token(m, hash);

	if (open_values(m, pk, &dev, &v) != DB_OK)
		return DB_NONE;
	if (holder != NULL && holder != dev)
		return DB_EXISTS;
	v.has_token = true;
	memcpy(v.token, hash, SHA256_LEN);
	v.d.updated_at = now;
	change(m, dev, &v);
	return DB_OK;
}

enum db_result
memory_op_device_set_audience(struct db *db, int64_t pk, struct slice audience)
{
	struct memory_db *m = memory_self(db);
	struct memory_device_values v;
	struct memory_device *dev;

	if (open_values(m, pk, &dev, &v) != DB_OK)
		return DB_NONE;
	v.d.audience = audience;
	change(m, dev, &v);
	return DB_OK;
}

enum db_result
memory_op_device_delete(struct db *db, int64_t pk, int64_t now)
{
	struct memory_db *m = memory_self(db);
	struct memory_device_values v;
	struct memory_device *dev = memory_device_by_pk(m, pk);

	if (dev != NULL)
		memory_shares_remove(m, dev);
	if (open_values(m, pk, &dev, &v) != DB_OK || v.deleted_at != 0)
		return DB_NONE;
	v.deleted_at = now;
	v.has_token = false;
	v.d.online = 0;
	v.d.audience.len = 0;
	change(m, dev, &v);
	return DB_OK;
}

void
memory_device_purge(struct memory_db *m, struct memory_device *dev)
{
	change(m, dev, NULL);
}

/* Lists */

/* The byte in lower case, as SQLite's lower() has it: ASCII only. */
static inline unsigned char
lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static bool
contains(struct slice text, struct slice part)
{
	for (size_t at = 0; at + part.len <= text.len; at++) {
		size_t i = 0;

		while (i < part.len && lower(text.p[at + i]) == lower(part.p[i]))
			i++;
		if (i == part.len)
			return true;
	}
	return false;
}

static bool
has_tag(struct slice tags_json, struct slice tag)
{
	struct json_value array, v;
	struct json_iter it;
	struct buf scratch = BUF_INIT;
	struct slice text;
	bool found = false;

	if (json_parse(tags_json, TAGS_DEPTH, &array) == -1 || array.kind != JSON_KIND_ARRAY)
		return false;
	json_iter_init(&it, array);
	while (!found && json_array_next(&it, &v)) {
		buf_clear(&scratch);
		found = json_text(v, &scratch, &text) == 0 && slice_eq(text, tag);
	}
	buf_fini(&scratch);
	return found;
}

static bool
passes(const struct db_device_filter *f, const struct db_device *d)
{
	return (f->online < 0 || (d->online != 0) == f->online) &&
	    (f->type.len == 0 || slice_eq(d->type, f->type)) &&
	    (f->tag.len == 0 || has_tag(d->tags_json, f->tag)) &&
	    (f->q.len == 0 || contains(d->name, f->q) || contains(d->id, f->q));
}

struct listing {
	const struct db_device_filter *filter;
	db_device_cb *cb;
	void *arg;
	unsigned shown;
};

/* false ends the list. */
static bool
show(struct listing *l, const struct memory_device *dev)
{
	struct db_device d = memory_device_values(dev)->d;

	if (!passes(l->filter, &d))
		return true;
	d.whole = true;
	return l->cb(l->arg, &d) && ++l->shown < l->filter->limit;
}

static bool
show_node(void *arg, struct memory_tree_node *node)
{
	return show(arg, memory_row_of(node, struct memory_device, of_tenant));
}

static int
by_id(const void *a, const void *b)
{
	struct memory_device *const *left = a, *const *right = b;
	int first = id_order(&memory_device_values(*left)->d.id, &(*right)->of_tenant);

	return first != 0 ? first : (*left)->pk < (*right)->pk ? -1 : 1;
}

static void
list_of_user(const struct memory_db *m, const struct db_device_filter *f, struct listing *l)
{
	struct memory_device **all;
	size_t n, kept = 0;

	all = memory_scope_devices(m, &f->scope, SIZE_MAX, &n);
	for (size_t i = 0; i < n; i++)
		if (memory_device_live(all[i]) &&
		    id_order(&f->after_id, &all[i]->of_tenant) < 0)
			all[kept++] = all[i];
	if (kept > 0)
		qsort(all, kept, sizeof(*all), by_id);
	for (size_t i = 0; i < kept && show(l, all[i]); i++)
		;
	free(all);
}

enum db_result
memory_op_device_list(struct db *db, const struct db_device_filter *f, db_device_cb *cb, void *arg)
{
	struct memory_db *m = memory_self(db);
	struct listing l = { f, cb, arg, 0 };
	const struct memory_tenant *t = memory_tenant_by_pk(m, f->scope.tenant_pk);

	if (f->limit == 0)
		return DB_OK;
	m->listing++;
	if (!f->scope.all)
		list_of_user(m, f, &l);
	else if (t != NULL)
		memory_tree_walk(&t->devices, id_order, &f->after_id, show_node, &l);
	m->listing--;
	return DB_OK;
}

/* Live devices, in the order of their types. */
struct gathered {
	const struct memory_device **dev;	/* owned */
	size_t n, cap;
};

static void
gather(struct gathered *g, const struct memory_device *dev)
{
	if (g->n == g->cap) {
		g->cap = g->cap > 0 ? g->cap * 2 : 64;
		g->dev = must_realloc(g->dev, g->cap * sizeof(*g->dev));
	}
	g->dev[g->n++] = dev;
}

static bool
gather_node(void *arg, struct memory_tree_node *node)
{
	gather(arg, memory_row_of(node, struct memory_device, of_tenant));
	return true;
}

static int
by_type(const void *a, const void *b)
{
	const struct memory_device *const *left = a, *const *right = b;
	struct slice x = memory_device_values(*left)->d.type, y = memory_device_values(*right)->d.type;
	int first = memcmp(x.p, y.p, x.len < y.len ? x.len : y.len);

	return first != 0 ? first : x.len < y.len ? -1 : x.len > y.len;
}

static void
gather_scope(const struct memory_db *m, const struct db_scope *scope, struct gathered *g)
{
	const struct memory_tenant *t = memory_tenant_by_pk(m, scope->tenant_pk);
	struct memory_device **all;
	size_t n;

	if (scope->all) {
		if (t != NULL)
			memory_tree_walk(&t->devices, id_order, NULL, gather_node, g);
	} else {
		all = memory_scope_devices(m, scope, SIZE_MAX, &n);
		for (size_t i = 0; i < n; i++)
			if (memory_device_live(all[i]))
				gather(g, all[i]);
		free(all);
	}
	if (g->n > 0)
		qsort(g->dev, g->n, sizeof(*g->dev), by_type);
}

enum db_result
memory_op_device_stats(struct db *db, const struct db_scope *scope, struct db_stats *out,
    db_type_cb *cb, void *arg)
{
	struct memory_db *m = memory_self(db);
	struct gathered g = { NULL, 0, 0 };
	int64_t count = 0;

	*out = (struct db_stats){ 0, 0, 0 };
	gather_scope(m, scope, &g);
	m->listing++;
	for (size_t i = 0; i < g.n; i++) {
		const struct db_device *d = &memory_device_values(g.dev[i])->d;

		count++;
		out->total++;
		out->owned += slice_eq(d->owner, scope->user);
		out->online += d->online != 0;
		if (i + 1 < g.n && slice_eq(memory_device_values(g.dev[i + 1])->d.type, d->type))
			continue;
		if (!cb(arg, d->type, count))
			break;
		count = 0;
	}
	m->listing--;
	free(g.dev);
	return DB_OK;
}

static bool
count_mqtt(void *arg, struct memory_tree_node *node)
{
	int64_t *count = arg;

	*count += memory_device_values(memory_row_of(node, struct memory_device,
	    of_tenant))->d.online == 2;
	return true;
}

enum db_result
memory_op_device_count_mqtt(struct db *db, int64_t tenant_pk, int64_t *count)
{
	const struct memory_tenant *t = memory_tenant_by_pk(memory_self(db), tenant_pk);

	*count = 0;
	if (t != NULL)
		memory_tree_walk(&t->devices, id_order, NULL, count_mqtt, count);
	return DB_OK;
}

enum db_result
memory_op_device_online(struct db *db, int64_t after_pk, int64_t up_to_pk, int64_t *last,
    db_device_cb *cb, void *arg)
{
	struct memory_db *m = memory_self(db);
	const struct memory_device *dev = memory_series_below(&m->devices, INT64_MAX);
	struct db_device d;

	while (dev != NULL && dev->row.values == NULL)
		dev = memory_series_below(&m->devices, dev->pk);
	*last = dev != NULL ? dev->pk : 0;
	m->listing++;
	dev = memory_series_above(&m->devices, after_pk);
	for (; dev != NULL && dev->pk <= up_to_pk; dev = memory_series_above(&m->devices, dev->pk)) {
		if (!memory_device_live(dev) || memory_device_values(dev)->d.online == 0)
			continue;
		d = memory_device_values(dev)->d;
		d.created_at = d.updated_at = d.state_at = 0;
		d.type = d.name = d.state_json = SLICE_NONE;
		d.tags_json = d.metadata_json = d.settings_json = SLICE_NONE;
		if (!cb(arg, &d))
			break;
	}
	m->listing--;
	return DB_OK;
}
