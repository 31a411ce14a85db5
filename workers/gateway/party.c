/*
 * party.c: tenants, users and their connections in one gateway process, and
 * the process's memberships in the shared topics.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/device.h"
#include "gateway/gateway.h"
#include "gateway/limits.h"
#include "gateway/party.h"
#include "msg/audience.h"
#include "shm/topics.h"

#define BUCKETS_MIN 64u
#define SWEEP_STEP 64		/* buckets looked at in one tick */

void
party_init(struct party_table *t)
{
	memset(t, 0, sizeof(*t));
	t->tenant_buckets = t->user_buckets = BUCKETS_MIN;
	t->tenants = must_alloc(BUCKETS_MIN * sizeof(*t->tenants));
	t->users = must_alloc(BUCKETS_MIN * sizeof(*t->users));
}

void
party_fini(struct party_table *t)
{
	must(t->user_count == 0);
	for (uint32_t i = 0; i < t->tenant_buckets; i++)
		for (struct tenant *it = t->tenants[i], *next; it != NULL; it = next) {
			must(it->refs == 0);
			next = it->next;
			free(it);
		}
	free(t->tenants);
	free(t->users);
}

static uint32_t
hash_of(struct gateway *g, struct slice name, uint64_t salt)
{
	return (uint32_t)((digest_sip64(shm_hash_key(g->w->shm), name.p, name.len) +
	    salt * 0x9e3779b97f4a7c15u) >> 16);
}

static struct tenant **
tenant_spot(struct gateway *g, struct slice name)
{
	struct party_table *t = &g->parties;
	struct tenant **at = &t->tenants[hash_of(g, name, 0) & (t->tenant_buckets - 1)];

	while (*at != NULL && !slice_eq(tenant_name(*at), name))
		at = &(*at)->next;
	return at;
}

struct tenant *
tenant_find(struct gateway *g, struct slice name)
{
	return *tenant_spot(g, name);
}

static void
tenants_grow(struct gateway *g)
{
	struct party_table *t = &g->parties;
	struct tenant **old = t->tenants;
	uint32_t count = t->tenant_buckets;

	t->tenant_buckets *= 2;
	t->tenants = must_alloc(t->tenant_buckets * sizeof(*t->tenants));
	for (uint32_t i = 0; i < count; i++)
		for (struct tenant *it = old[i], *next; it != NULL; it = next) {
			struct tenant **at = &t->tenants[hash_of(g, tenant_name(it),
			    0) & (t->tenant_buckets - 1)];

			next = it->next;
			it->next = *at;
			*at = it;
		}
	free(old);
}

struct tenant *
tenant_get(struct gateway *g, struct slice name)
{
	struct tenant **at = tenant_spot(g, name), *t = *at;

	if (t == NULL) {
		must(name.len <= UINT8_MAX);
		t = must_realloc(NULL, sizeof(*t) + name.len);
		memset(t, 0, sizeof(*t));
		t->len = (uint8_t)name.len;
		memcpy(t->name, name.p, name.len);
		*at = t;
		if (++g->parties.tenant_count > g->parties.tenant_buckets)
			tenants_grow(g);
	}
	t->refs++;
	return t;
}

static bool
is_over(const struct gateway *g, const struct tenant *t)
{
	return t->refs == 0 && t->messages_in + t->messages_out == 0 &&
	    window_is_over(t->traffic.step, g->w->mono_ms);
}

void
tenant_put(struct gateway *g, struct tenant *t)
{
	if (--t->refs > 0)
		return;
	limits_release(g, t);
	if (!is_over(g, t))
		return;
	*tenant_spot(g, tenant_name(t)) = t->next;
	g->parties.tenant_count--;
	free(t);
}

void
tenant_sweep(struct gateway *g)
{
	struct party_table *p = &g->parties;

	for (unsigned n = 0; n < SWEEP_STEP; n++) {
		struct tenant **at = &p->tenants[p->sweep_at++ & (p->tenant_buckets - 1)], *t;

		while ((t = *at) != NULL) {
			if (!is_over(g, t)) {
				at = &t->next;
				continue;
			}
			*at = t->next;
			p->tenant_count--;
			free(t);
		}
	}
}

static uint32_t
user_hash(struct gateway *g, const struct tenant *tenant, struct slice name)
{
	return hash_of(g, name, (uint64_t)(uintptr_t)tenant);
}

static struct user **
user_spot(struct gateway *g, const struct tenant *tenant, struct slice name)
{
	struct party_table *t = &g->parties;
	struct user **at = &t->users[user_hash(g, tenant, name) & (t->user_buckets - 1)];

	while (*at != NULL && ((*at)->tenant != tenant || !slice_eq(user_name(*at), name)))
		at = &(*at)->next;
	return at;
}

struct user *
user_find(struct gateway *g, struct slice tenant, struct slice name)
{
	struct tenant *t = tenant_find(g, tenant);

	return t == NULL ? NULL : *user_spot(g, t, name);
}

static void
users_grow(struct gateway *g)
{
	struct party_table *t = &g->parties;
	struct user **old = t->users;
	uint32_t count = t->user_buckets;

	t->user_buckets *= 2;
	t->users = must_alloc(t->user_buckets * sizeof(*t->users));
	for (uint32_t i = 0; i < count; i++)
		for (struct user *it = old[i], *next; it != NULL; it = next) {
			struct user **at = &t->users[user_hash(g, it->tenant,
			    user_name(it)) & (t->user_buckets - 1)];

			next = it->next;
			it->next = *at;
			*at = it;
		}
	free(old);
}

static struct hash128
topic_of_user(struct gateway *g, const struct user *u)
{
	return audience_topic_user(shm_hash_key(g->w->shm), tenant_name(u->tenant), user_name(u));
}

static struct hash128
topic_of_tenant(struct gateway *g, const struct tenant *t)
{
	return audience_topic_tenant(shm_hash_key(g->w->shm), tenant_name(t));
}

/* A user without connections goes, and with it what it held. */
static void
user_retire(struct gateway *g, struct user *u)
{
	struct tenant *tenant = u->tenant;

	*user_spot(g, tenant, user_name(u)) = u->next;
	*u->of_tenant_prev = u->of_tenant;
	if (u->of_tenant != NULL)
		u->of_tenant->of_tenant_prev = u->of_tenant_prev;
	g->parties.user_count--;
	free(u);
	tenant_put(g, tenant);
}

static struct user *
user_get(struct gateway *g, struct slice tenant, struct slice name)
{
	struct tenant *t = tenant_get(g, tenant);
	struct user **at = user_spot(g, t, name), *u = *at;

	if (u != NULL) {
		tenant_put(g, t);	/* the user holds one already */
		return u;
	}
	must(name.len <= UINT8_MAX);
	u = must_realloc(NULL, sizeof(*u) + name.len);
	memset(u, 0, sizeof(*u));
	u->tenant = t;
	u->of_tenant = t->users;
	u->of_tenant_prev = &t->users;
	if (t->users != NULL)
		t->users->of_tenant_prev = &u->of_tenant;
	t->users = u;
	u->len = (uint8_t)name.len;
	memcpy(u->name, name.p, name.len);
	*at = u;
	if (++g->parties.user_count > g->parties.user_buckets)
		users_grow(g);
	return u;
}

static int
watch(struct gateway *g, struct conn *c, struct tenant *t)
{
	if (t->watchers == 0 && topics_join(g->w->shm, topic_of_tenant(g, t), g->w->slot) == -1)
		return -1;
	c->tenant_prev = 0;
	c->tenant_next = t->watchers;
	if (t->watchers != 0)
		conn_at(&g->conns, t->watchers - 1)->tenant_prev = c->index + 1;
	t->watchers = c->index + 1;
	c->sees_all = true;
	return 0;
}

static void
unwatch(struct gateway *g, struct conn *c, struct tenant *t)
{
	if (c->tenant_prev != 0)
		conn_at(&g->conns, c->tenant_prev - 1)->tenant_next = c->tenant_next;
	else
		t->watchers = c->tenant_next;
	if (c->tenant_next != 0)
		conn_at(&g->conns, c->tenant_next - 1)->tenant_prev = c->tenant_prev;
	if (t->watchers == 0)
		topics_leave(g->w->shm, topic_of_tenant(g, t), g->w->slot);
	c->tenant_next = c->tenant_prev = 0;
	c->sees_all = false;
}

int
party_watch(struct gateway *g, struct conn *c, bool sees_all)
{
	if (sees_all && !c->sees_all)
		return watch(g, c, c->user->tenant);
	if (!sees_all && c->sees_all)
		unwatch(g, c, c->user->tenant);
	return 0;
}

int
party_join(struct gateway *g, struct conn *c, struct slice tenant, struct slice user, bool sees_all)
{
	struct user *u = user_get(g, tenant, user);

	if (u->count == 0 && topics_join(g->w->shm, topic_of_user(g, u), g->w->slot) == -1) {
		user_retire(g, u);
		return -1;
	}
	c->sees_all = false;
	if (sees_all && watch(g, c, u->tenant) == -1) {
		if (u->count == 0) {
			topics_leave(g->w->shm, topic_of_user(g, u), g->w->slot);
			user_retire(g, u);
		}
		return -1;
	}
	c->user = u;
	c->user_prev = 0;
	c->user_next = u->conns;
	if (u->conns != 0)
		conn_at(&g->conns, u->conns - 1)->user_prev = c->index + 1;
	u->conns = c->index + 1;
	u->count++;
	return 0;
}

void
party_leave(struct gateway *g, struct conn *c)
{
	struct user *u = c->user;

	if (c->sees_all)
		unwatch(g, c, u->tenant);
	if (c->user_prev != 0)
		conn_at(&g->conns, c->user_prev - 1)->user_next = c->user_next;
	else
		u->conns = c->user_next;
	if (c->user_next != 0)
		conn_at(&g->conns, c->user_next - 1)->user_prev = c->user_prev;
	c->user_next = c->user_prev = 0;
	c->user = NULL;
	if (--u->count == 0) {
		topics_leave(g->w->shm, topic_of_user(g, u), g->w->slot);
		user_retire(g, u);
	}
}

struct tenant *
party_tenant(const struct conn *c)
{
	return c->kind == CONN_USER ? c->user->tenant : c->kind == CONN_DEVICE ? c->device->tenant : NULL;
}

void
party_count_in(struct gateway *g, const struct conn *c)
{
	struct tenant *t = party_tenant(c);

	gateway_count(g, MESSAGES_IN, 1);
	if (t != NULL)
		t->messages_in++;
	traffic_count(g, t, TRAFFIC_RECEIVED);
}

void
party_count_out(struct gateway *g, const struct conn *c)
{
	struct tenant *t = party_tenant(c);

	gateway_count(g, MESSAGES_OUT, 1);
	if (t != NULL)
		t->messages_out++;
	traffic_count(g, t, TRAFFIC_SENT);
}

static struct conn *
conn_by_link(struct gateway *g, uint32_t link)
{
	return link == 0 ? NULL : conn_at(&g->conns, link - 1);
}

struct conn *user_first(struct gateway *g, const struct user *u) { return conn_by_link(g,
    u->conns); }
struct conn *user_next(struct gateway *g, const struct conn *c) { return conn_by_link(g,
    c->user_next); }
struct conn *tenant_first(struct gateway *g, const struct tenant *t) { return conn_by_link(g,
    t->watchers); }
struct conn *tenant_next(struct gateway *g, const struct conn *c) { return conn_by_link(g,
    c->tenant_next); }
