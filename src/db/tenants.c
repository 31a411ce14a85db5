/*
 * tenants.c: see tenants.h.  Every process that has a handle; what is remembered is the handle's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "db/tenants.h"

#define BUCKETS_MIN 64u

struct tenant {
	int64_t pk;
	struct tenant *next_by_name, *next_by_pk;
	size_t len;
	char name[];
};

struct tenants {
	struct tenant **by_name, **by_pk;	/* owned; a tenant is in both */
	uint32_t buckets, count;		/* a power of two */
};

static uint32_t
name_hash(struct slice name)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < name.len; i++)
		h = (h ^ (unsigned char)name.p[i]) * 16777619u;
	return h;
}

static struct slice
name_of(const struct tenant *t)
{
	return (struct slice){ t->name, t->len };
}

static void
put(struct tenants *all, struct tenant *t)
{
	struct tenant **at = &all->by_name[name_hash(name_of(t)) & (all->buckets - 1)];

	t->next_by_name = *at;
	*at = t;
	at = &all->by_pk[(uint64_t)t->pk & (all->buckets - 1)];
	t->next_by_pk = *at;
	*at = t;
}

static void
grow(struct tenants *all)
{
	struct tenant **old = all->by_pk, *t, *next;
	uint32_t n = all->buckets;

	all->buckets = n == 0 ? BUCKETS_MIN : n * 2;
	free(all->by_name);
	all->by_name = must_alloc(all->buckets * sizeof(*all->by_name));
	all->by_pk = must_alloc(all->buckets * sizeof(*all->by_pk));
	for (uint32_t i = 0; i < n; i++)
		for (t = old[i]; t != NULL; t = next) {
			next = t->next_by_pk;
			put(all, t);
		}
	free(old);
}

static struct tenant *
remember(struct db *db, struct slice name, int64_t pk)
{
	struct tenant *t = must_alloc(sizeof(*t) + name.len);

	if (db->tenants == NULL)
		db->tenants = must_alloc(sizeof(*db->tenants));
	if (db->tenants->count >= db->tenants->buckets)
		grow(db->tenants);
	t->pk = pk;
	t->len = name.len;
	memcpy(t->name, name.p, name.len);
	put(db->tenants, t);
	db->tenants->count++;
	return t;
}

enum db_result
db_tenant(struct db *db, struct slice name, bool create, int64_t *pk)
{
	const struct tenants *all = db->tenants;
	const struct tenant *t = all == NULL ? NULL : all->by_name[name_hash(name) & (all->buckets - 1)];
	enum db_result result;

	while (t != NULL && !slice_eq(name_of(t), name))
		t = t->next_by_name;
	if (t != NULL) {
		*pk = t->pk;
		return DB_OK;
	}
	result = DB(db, tenant_number, name, create, pk);
	if (result == DB_OK)
		(void)remember(db, name, *pk);
	return result;
}

enum db_result
tenants_name(struct db *db, int64_t pk, struct slice *name)
{
	const struct tenants *all = db->tenants;
	const struct tenant *t = all == NULL ? NULL : all->by_pk[(uint64_t)pk & (all->buckets - 1)];
	struct buf text = BUF_INIT;
	enum db_result result = DB_OK;

	while (t != NULL && t->pk != pk)
		t = t->next_by_pk;
	if (t == NULL && (result = DB(db, tenant_name, pk, &text)) == DB_OK)
		t = remember(db, buf_slice(&text), pk);
	if (t != NULL)
		*name = name_of(t);
	buf_fini(&text);
	return result;
}

void
tenants_forget(struct db *db)
{
	struct tenants *all = db->tenants;

	for (uint32_t i = 0; all != NULL && i < all->buckets; i++)
		for (struct tenant *t = all->by_pk[i], *next; t != NULL; t = next) {
			next = t->next_by_pk;
			free(t);
		}
	if (all != NULL) {
		free(all->by_name);
		free(all->by_pk);
		free(all);
	}
	db->tenants = NULL;
}
