/*
 * party.h: who is connected here: tenants and users, interned, with their connections.
 *
 * A user's connections hang on the user; those that see all of a tenant (admin, service, or anyone
 * where auth.tenant_members = view) also on the tenant.  With the first connection of either the
 * process joins the shared topic, with the last it leaves.
 */
#ifndef BELAY_GATEWAY_PARTY_H
#define BELAY_GATEWAY_PARTY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/slice.h"
#include "gateway/traffic.h"

struct conn;
struct gateway;

struct tenant {
	struct tenant *next;		/* hash chain */
	uint32_t refs;			/* users, devices; 0: nobody is here, but its counts are kept */
	uint32_t devices;		/* connected here */
	uint64_t messages_in, messages_out;
	struct traffic traffic;
	struct user *users;		/* list of those connected here */
	uint32_t watchers;		/* index + 1 of the first connection that sees all */
	uint32_t bucket;		/* limits.c: 1 + that of its messages, held; 0: none */
	int64_t refused_ns;		/* … until when those refused here would keep it busy */
	uint8_t len;
	char name[];			/* not NUL-terminated */
};

struct user {
	struct user *next;		/* hash chain */
	struct user *of_tenant, **of_tenant_prev;	/* the tenant's list */
	struct tenant *tenant;		/* a reference */
	uint32_t conns;			/* index + 1 of the first connection */
	uint32_t count;			/* connections */
	uint8_t len;
	char name[];
};

struct party_table {
	struct tenant **tenants;
	struct user **users;
	uint32_t tenant_buckets, tenant_count, user_buckets, user_count;
	uint32_t sweep_at;		/* bucket of tenants to be looked at next */
};

void party_init(struct party_table *t);
void party_fini(struct party_table *t);

struct tenant *tenant_get(struct gateway *g, struct slice name);	/* a new reference */
/* borrowed; NULL: nobody is here */
struct tenant *tenant_find(struct gateway *g, struct slice name);
void tenant_put(struct gateway *g, struct tenant *t);
/* Forgets some of those of whom nobody is here and nothing is counted any more. */
void tenant_sweep(struct gateway *g);
static inline struct slice tenant_name(const struct tenant *t) { return (struct slice){ t->name,
    t->len }; }

/* borrowed; NULL */
struct user *user_find(struct gateway *g, struct slice tenant, struct slice name);
static inline struct slice user_name(const struct user *u) { return (struct slice){ u->name,
    u->len }; }

/* The tenant of a session; NULL where it has none. */
struct tenant *party_tenant(const struct conn *c);
/* Counts messages of a session: in the process's statistics and in its tenant's. */
void party_count_in(struct gateway *g, const struct conn *c);
void party_count_out(struct gateway *g, const struct conn *c);

/*
 * The connection listens from now on; c->user is set.  -1: the table of topics is full, nothing was
 * changed.
 */
int party_join(struct gateway *g, struct conn *c, struct slice tenant, struct slice user,
    bool sees_all);
void party_leave(struct gateway *g, struct conn *c);
/* It sees all of its tenant from now on, or no longer.  -1 as above. */
int party_watch(struct gateway *g, struct conn *c, bool sees_all);

/* The next connection of the same user, or of those who see all of the tenant: NULL at the end. */
struct conn *user_first(struct gateway *g, const struct user *u);
struct conn *user_next(struct gateway *g, const struct conn *c);
struct conn *tenant_first(struct gateway *g, const struct tenant *t);
struct conn *tenant_next(struct gateway *g, const struct conn *c);

#endif
