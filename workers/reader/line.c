/*
 * line.c: whose turn it is; see line.h.
 *
 * A group is a tenant (its members are users) or a user (its members are waiters).  It exists as long as somebody of it
 * waits.  Groups of one owner form a ring; `turn` of the owner is the one that comes next.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "reader/line.h"

#define BUCKETS_MIN 64u

struct line_group {
	struct hash128 key;
	struct line_group *hash_next;
	struct line_group *prev, *next;	/* the ring */
	struct line_group *tenant;	/* of a user; NULL: this is a tenant */
	struct line_group *turn;	/* of a tenant: ring of its users */
	struct waiter *first, *last;	/* of a user */
};

void
line_init(struct line *l)
{
	*l = (struct line){ .bucket_count = BUCKETS_MIN };
	l->buckets = must_alloc(l->bucket_count * sizeof(*l->buckets));
}

void
line_fini(struct line *l)
{
	must(l->waiting == 0);
	free(l->buckets);
	l->buckets = NULL;
}

static struct line_group **
bucket_of(const struct line *l, struct hash128 key)
{
	return &l->buckets[key.lo & (l->bucket_count - 1)];
}

static void
grow(struct line *l)
{
	struct line_group **old = l->buckets;
	unsigned n = l->bucket_count;

	l->bucket_count = n * 2;
	l->buckets = must_alloc(l->bucket_count * sizeof(*l->buckets));
	for (unsigned i = 0; i < n; i++) {
		struct line_group *next;

		for (struct line_group *g = old[i]; g != NULL; g = next) {
			struct line_group **b = bucket_of(l, g->key);

			next = g->hash_next;
			g->hash_next = *b;
			*b = g;
		}
	}
	free(old);
}

/* It comes last: everyone else in the ring has a turn before. */
static void
ring_add(struct line_group **turn, struct line_group *g)
{
	if (*turn == NULL) {
		g->prev = g->next = g;
		*turn = g;
		return;
	}
	g->next = *turn;
	g->prev = (*turn)->prev;
	g->prev->next = g;
	g->next->prev = g;
}

static void
ring_remove(struct line_group **turn, struct line_group *g)
{
	if (g->next == g) {
		*turn = NULL;
		return;
	}
	g->prev->next = g->next;
	g->next->prev = g->prev;
	if (*turn == g)
		*turn = g->next;
}

static struct line_group *
group_find(const struct line *l, struct hash128 key)
{
	struct line_group *g = *bucket_of(l, key);

	while (g != NULL && memcmp(&g->key, &key, sizeof(key)) != 0)
		g = g->hash_next;
	return g;
}

static struct line_group *
group_get(struct line *l, struct hash128 key, struct line_group *tenant)
{
	struct line_group *g = group_find(l, key);

	if (g != NULL)
		return g;
	if (l->group_count >= l->bucket_count)
		grow(l);
	g = must_alloc(sizeof(*g));
	g->key = key;
	g->tenant = tenant;
	g->hash_next = *bucket_of(l, key);
	*bucket_of(l, key) = g;
	l->group_count++;
	ring_add(tenant != NULL ? &tenant->turn : &l->turn, g);
	return g;
}

static void
group_free(struct line *l, struct line_group *g)
{
	struct line_group **at = bucket_of(l, g->key);

	while (*at != g)
		at = &(*at)->hash_next;
	*at = g->hash_next;
	l->group_count--;
	ring_remove(g->tenant != NULL ? &g->tenant->turn : &l->turn, g);
	free(g);
}

void
line_put(struct line *l, struct hash128 tenant, struct hash128 user, struct waiter *w)
{
	struct line_group *u = group_get(l, user, group_get(l, tenant, NULL));

	w->next = NULL;
	w->user = u;
	if (u->first == NULL)
		u->first = w;
	else
		u->last->next = w;
	u->last = w;
	l->waiting++;
}

struct waiter *
line_next(struct line *l)
{
	struct line_group *tenant = l->turn, *user;

	if (tenant == NULL)
		return NULL;
	user = tenant->turn;
	l->turn = tenant->next;
	tenant->turn = user->next;
	return user->first;
}

void
line_remove(struct line *l, struct waiter *w)
{
	struct line_group *user = w->user, *tenant = user->tenant;

	must(user->first == w);
	user->first = w->next;
	l->waiting--;
	if (user->first != NULL)
		return;
	group_free(l, user);
	if (tenant->turn == NULL)
		group_free(l, tenant);
}

void
line_each(struct line *l, struct hash128 user, void (*cb)(void *arg, struct waiter *w), void *arg)
{
	struct line_group *g = group_find(l, user);

	for (struct waiter *w = g == NULL ? NULL : g->first; w != NULL; w = w->next)
		cb(arg, w);
}
