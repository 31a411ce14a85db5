/*
 * memory_share.c: shares in memory, users, and which devices are theirs.  Only the storage process.
 */
#include <stdlib.h>

#include "base/must.h"
#include "db/memory.h"

/* Users */

static uint64_t
user_hash(const struct memory_db *m, int64_t tenant_pk, struct slice name)
{
	return memory_hash(m->seed, (uint64_t)tenant_pk, name);
}

struct memory_user *
memory_user_find(const struct memory_db *m, int64_t tenant_pk, struct slice name)
{
	struct memory_hash_node *node;

	node = memory_hash_first(&m->users, user_hash(m, tenant_pk, name));
	for (; node != NULL; node = memory_hash_next(node)) {
		struct memory_user *u = memory_row_of(node, struct memory_user, by_name);

		if (u->tenant_pk == tenant_pk && slice_eq((struct slice){ u->name, u->len }, name))
			return u;
	}
	return NULL;
}

struct memory_user *
memory_user_have(struct memory_db *m, int64_t tenant_pk, struct slice name)
{
	struct memory_user *u = memory_user_find(m, tenant_pk, name);

	if (u == NULL) {
		u = must_alloc(sizeof(*u) + name.len);
		u->tenant_pk = tenant_pk;
		u->len = name.len;
		if (name.len > 0)
			memcpy(u->name, name.p, name.len);
		memory_hash_put(&m->users, &u->by_name, user_hash(m, tenant_pk, name));
	}
	return u;
}

void
memory_user_left(struct memory_db *m, struct memory_user *user)
{
	if (!memory_list_empty(&user->owned) || !memory_list_empty(&user->shares))
		return;
	memory_hash_remove(&m->users, &user->by_name);
	free(user);
}

/* Shares */

static const struct db_share *
values_of(const struct memory_share *share)
{
	return share->row.values;
}

static int
user_order(const void *key, const struct memory_tree_node *node)
{
	const struct slice *a = key;
	struct slice b = values_of(memory_row_of(node, struct memory_share, of_device))->user;
	int first = memcmp(a->p != NULL ? a->p : "", b.p, a->len < b.len ? a->len : b.len);

	return first != 0 ? first : a->len < b.len ? -1 : a->len > b.len;
}

static void
share_enter(struct memory_db *m, struct memory_row *row)
{
	struct memory_share *share = (struct memory_share *)row;
	const struct slice *user = &values_of(share)->user;

	memory_tree_put(&share->device->shares, user_order, user, &share->of_device);
	share->who = memory_user_have(m, share->tenant_pk, *user);
	memory_list_put(&share->who->shares, &share->of_user, share->device->pk);
}

static void
share_leave(struct memory_db *m, struct memory_row *row)
{
	struct memory_share *share = (struct memory_share *)row;

	memory_tree_remove(&share->device->shares, user_order, &values_of(share)->user,
	    &share->of_device);
	memory_list_remove(&share->who->shares, &share->of_user);
	memory_user_left(m, share->who);
	memory_device_left(m, share->device);
}

static const struct memory_table share_table = { .enter = share_enter, .leave = share_leave };

static struct memory_share *
find(const struct memory_device *dev, struct slice user)
{
	struct memory_tree_node *node;

	if (dev == NULL)
		return NULL;
	node = memory_tree_find(&dev->shares, user_order, &user);
	return node != NULL ? memory_row_of(node, struct memory_share, of_device) : NULL;
}

enum db_result
memory_op_share_put(struct db *db, int64_t device_pk, int64_t tenant_pk,
    const struct db_share *share)
{
	struct memory_db *m = memory_self(db);
	struct memory_share *row = find(memory_device_by_pk(m, device_pk), share->user);
	struct db_share values = *share;

	if (row != NULL) {
		values.created_at = values_of(row)->created_at;
		memory_change(m, &share_table, &row->row,
		    memory_pack(&memory_share_shape, 0, &values));
		return DB_OK;
	}
	row = must_alloc(sizeof(*row));
	row->tenant_pk = tenant_pk;
	row->device = memory_device_have(m, device_pk);
	if (row->device == NULL) {
		free(row);
		return memory_failed(m, "a share of a device that never was");
	}
	row->row.values = memory_pack(&memory_share_shape, 0, &values);
	memory_insert(m, &share_table, &row->row);
	return DB_OK;
}

enum db_result
memory_op_share_delete(struct db *db, int64_t device_pk, struct slice user)
{
	struct memory_db *m = memory_self(db);
	struct memory_share *row = find(memory_device_by_pk(m, device_pk), user);

	if (row == NULL)
		return DB_NONE;
	memory_remove(m, &share_table, &row->row);
	return DB_OK;
}

void
memory_shares_remove(struct memory_db *m, struct memory_device *dev)
{
	int64_t pk = dev->pk;

	while (dev != NULL && dev->shares.root != NULL) {
		memory_remove(m, &share_table, &memory_row_of(dev->shares.root, struct memory_share,
		    of_device)->row);
		dev = memory_device_by_pk(m, pk);	/* its last row may have been this */
	}
}

enum db_result
memory_op_share_get(struct db *db, int64_t device_pk, struct slice user, struct db_share *out)
{
	const struct memory_share *row = find(memory_device_by_pk(memory_self(db), device_pk), user);

	if (row == NULL)
		return DB_NONE;
	memory_unpack(&memory_share_shape, memory_share_shape.count, row->row.values, out);
	return DB_OK;
}

struct listing {
	db_share_cb *cb;
	void *arg;
};

static bool
show(void *arg, struct memory_tree_node *node)
{
	struct listing *l = arg;

	return l->cb(l->arg, values_of(memory_row_of(node, struct memory_share, of_device)));
}

enum db_result
memory_op_share_list(struct db *db, int64_t device_pk, db_share_cb *cb, void *arg)
{
	struct memory_db *m = memory_self(db);
	const struct memory_device *dev = memory_device_by_pk(m, device_pk);
	struct listing l = { cb, arg };

	m->listing++;
	if (dev != NULL)
		memory_tree_walk(&dev->shares, user_order, NULL, show, &l);
	m->listing--;
	return DB_OK;
}

/* Scopes */

static bool
counts(const struct db_scope *scope, const struct memory_share *share)
{
	int64_t ends = values_of(share)->expires_at;

	return share->tenant_pk == scope->tenant_pk && (ends == 0 || ends > scope->now);
}

static bool
owns(const struct db_scope *scope, const struct memory_device *dev)
{
	const struct db_device *d;

	if (!memory_device_live(dev))
		return false;
	d = &memory_device_values(dev)->d;
	return d->tenant_pk == scope->tenant_pk && slice_eq(d->owner, scope->user);
}

bool
memory_scope_has(const struct db_scope *scope, const struct memory_device *dev)
{
	const struct memory_share *share;

	if (dev == NULL)
		return false;
	if (owns(scope, dev))
		return true;
	share = find(dev, scope->user);
	return share != NULL && counts(scope, share);
}

struct memory_device **
memory_scope_devices(const struct memory_db *m, const struct db_scope *scope, size_t max, size_t *n)
{
	const struct memory_user *user = memory_user_find(m, scope->tenant_pk, scope->user);
	struct memory_device **all = NULL;
	struct memory_link *link;
	size_t cap = 0;

	*n = 0;
	if (user == NULL)
		return NULL;
	for (link = user->owned.first; link != NULL; link = link->next)
		cap++;
	for (link = user->shares.first; link != NULL; link = link->next)
		cap++;
	all = must_alloc(cap * sizeof(*all));
	for (link = user->owned.first; link != NULL && *n < max; link = link->next)
		all[(*n)++] = memory_row_of(link, struct memory_device, of_user);
	for (link = user->shares.first; link != NULL && *n < max; link = link->next) {
		struct memory_share *share = memory_row_of(link, struct memory_share, of_user);

		if (counts(scope, share) && !owns(scope, share->device))
			all[(*n)++] = share->device;
	}
	return all;
}
