/*
 * turns.c: deficit round robin over tenants, users and connections, under limits of what is outstanding.  Any process
 * that sends records for others; owns what waits.  Knows nothing of clients, records or mailboxes.
 *
 * A tree, whose every inner node has a ring of those children of which something waits.  The first of the ring may
 * send until its deficit is used up; then it goes to the end of the ring.  A deficit goes below zero by a costly record
 * and is made up for by missed turns, so no record is looked at before its turn.
 *
 *	root ──► tenant ──► user ──► connection ──► records
 *	                └─► lane ──► connection     (whose next record is TURN_FIRST)
 *
 * Children at their limit are passed over, and there are few: as many as the limit of the level above has room for.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "gateway/turns.h"

#define QUANTUM		8		/* cost that goes in one turn */
#define BUCKETS_MIN	64u
#define POSTED_MIN	64u
#define SPARE_MAX	4096u		/* nodes in use beyond that are freed, not kept */

enum level { ROOT, TENANT, USER, LANE, CONN };

struct record {
	struct record *next;
	uint64_t request;
	uint32_t cost, len;
	uint16_t kind;
	uint8_t class;			/* enum turn_class */
	uint8_t bytes[];
};

struct turn_node {
	struct turn_node *chain;	/* of its bucket, or the next spare one */
	struct turn_node *parent;
	struct turn_node *next, *prev;	/* the parent's ring, while something waits */
	struct turn_node *first;	/* its own ring … */
	uint32_t active;		/* … and how many are in it */
	uint32_t children;		/* tenants or users that were there lately */
	struct hash128 key;
	int32_t deficit;
	uint32_t outstanding;		/* cost */
	uint32_t records, bytes;	/* that wait */
	enum level level;
	bool stranger;			/* TENANT */
	struct turn_node *lane;		/* TENANT: owned */
	struct turn_node *user;		/* CONN: whose it is */
	struct record *head, **tail;	/* CONN */
	struct turn_node *older, *newer;	/* USER */
	int64_t used_ms;		/* USER */
};

/* user: NULL where it went by the lane. */
struct turn_posted {
	uint64_t at;
	struct turn_node *tenant, *user;
	uint32_t cost;
	uint32_t of_all;		/* of that, what counts for the root */
};

/* --- nodes */

static struct turn_node **
bucket_of(const struct turns *t, enum level level, struct hash128 key)
{
	uint64_t h = (key.lo ^ (uint64_t)level) * UINT64_C(0x9e3779b97f4a7c15);

	return &t->buckets[(uint32_t)(h >> 32) & (t->bucket_count - 1)];
}

static struct turn_node *
find(const struct turns *t, enum level level, struct hash128 key)
{
	struct turn_node *n;

	for (n = *bucket_of(t, level, key); n != NULL; n = n->chain)
		if (n->level == level && n->key.lo == key.lo && n->key.hi == key.hi)
			return n;
	return NULL;
}

static void
grow(struct turns *t)
{
	struct turn_node **old = t->buckets, *n, *next;
	uint32_t count = t->bucket_count;

	t->bucket_count *= 2;
	t->buckets = must_alloc(t->bucket_count * sizeof(struct turn_node *));
	for (uint32_t i = 0; i < count; i++)
		for (n = old[i]; n != NULL; n = next) {
			struct turn_node **at = bucket_of(t, n->level, n->key);

			next = n->chain;
			n->chain = *at;
			*at = n;
		}
	free(old);
}

static struct turn_node *
node_make(struct turns *t, enum level level, struct turn_node *parent)
{
	struct turn_node *n = t->spare;

	if (n != NULL)
		t->spare = n->chain;
	else
		n = must_realloc(NULL, sizeof(*n));
	memset(n, 0, sizeof(*n));
	n->level = level;
	n->parent = parent;
	n->deficit = QUANTUM;
	t->node_count++;
	return n;
}

static struct turn_node *
node_new(struct turns *t, enum level level, struct turn_node *parent, struct hash128 key)
{
	struct turn_node *n = node_make(t, level, parent), **at;

	if (t->node_count > t->bucket_count)
		grow(t);
	at = bucket_of(t, level, key);
	n->key = key;
	n->chain = *at;
	*at = n;
	return n;
}

static void
node_spare(struct turns *t, struct turn_node *n)
{
	if (--t->node_count > SPARE_MAX) {
		free(n);
		return;
	}
	n->chain = t->spare;
	t->spare = n;
}

static void
node_forget(struct turns *t, struct turn_node *n)
{
	struct turn_node **at = bucket_of(t, n->level, n->key);

	while (*at != n)
		at = &(*at)->chain;
	*at = n->chain;
	node_spare(t, n);
}

static struct turn_node *
tenant_get(struct turns *t, const struct turn_of *of)
{
	struct turn_node *n = find(t, TENANT, of->tenant);

	if (n != NULL)
		return n;
	n = node_new(t, TENANT, t->root, of->tenant);
	n->stranger = of->stranger;
	n->lane = node_make(t, LANE, n);
	t->root->children += !n->stranger;
	return n;
}

static void
list_out(struct turns *t, struct turn_node *n)
{
	*(n->older != NULL ? &n->older->newer : &t->oldest) = n->newer;
	*(n->newer != NULL ? &n->newer->older : &t->newest) = n->older;
}

static void
list_put(struct turns *t, struct turn_node *n)
{
	n->used_ms = t->now_ms;
	n->older = t->newest;
	n->newer = NULL;
	*(t->newest != NULL ? &t->newest->newer : &t->oldest) = n;
	t->newest = n;
}

static struct turn_node *
user_get(struct turns *t, struct turn_node *tenant, struct hash128 key)
{
	struct turn_node *n = find(t, USER, key);

	if (n == NULL) {
		n = node_new(t, USER, tenant, key);
		tenant->children++;
		list_put(t, n);
	} else if (n->used_ms != t->now_ms) {
		list_out(t, n);
		list_put(t, n);
	}
	return n;
}

static void
user_forget(struct turns *t, struct turn_node *n)
{
	struct turn_node *tenant = n->parent;

	list_out(t, n);
	node_forget(t, n);
	if (--tenant->children > 0)
		return;
	t->root->children -= !tenant->stranger;
	node_spare(t, tenant->lane);
	node_forget(t, tenant);
}

/* --- rings */

static void
ring_put(struct turn_node *n)
{
	struct turn_node *p = n->parent;

	if (p->active++ == 0) {
		p->first = n->next = n->prev = n;
	} else {			/* last: before the first */
		n->next = p->first;
		n->prev = p->first->prev;
		n->prev->next = n->next->prev = n;
	}
	if (n->deficit > QUANTUM)
		n->deficit = QUANTUM;
}

static void
ring_out(struct turn_node *n)
{
	struct turn_node *p = n->parent;

	if (--p->active == 0) {
		p->first = NULL;
	} else {
		n->prev->next = n->next;
		n->next->prev = n->prev;
		if (p->first == n)
			p->first = n->next;
	}
	n->next = n->prev = NULL;
}

/* Something waits of n from now on: of those above it as well.  A tenant's lane has a place of its own. */
static void
wake(struct turn_node *n)
{
	for (; n->level != ROOT; n = n->parent) {
		if (n->level == LANE)
			continue;
		if (n->next != NULL)
			return;
		ring_put(n);
	}
}

static void
rest(struct turn_node *n)
{
	for (; n->level != ROOT; n = n->parent) {
		if (n->level == LANE)
			continue;
		if (n->active > 0 || (n->level == TENANT && n->lane->active > 0))
			return;
		ring_out(n);
	}
}

/* --- limits */

/* Who is the only one has all that the level above has. */
static uint32_t
limit_of(const struct turns *t, const struct turn_node *n)
{
	if (n->level == ROOT)
		return t->limits.all;
	if (n->parent->children == 1 && !n->stranger)
		return limit_of(t, n->parent);
	return n->level == TENANT ? t->limits.tenant : t->limits.user;
}

static bool
may_send(const struct turns *t, const struct turn_node *n, bool first)
{
	return n->outstanding < limit_of(t, n) * (first ? 2 : 1);
}

/* user: NULL: by the lane. */
static bool
may_go(const struct turns *t, const struct turn_node *tenant, const struct turn_node *user)
{
	return may_send(t, t->root, user == NULL) && may_send(t, tenant, user == NULL) &&
	    (user == NULL || may_send(t, user, false));
}

/* Looks at what the receiver has done: true when that is something. */
static bool
settle(struct turns *t)
{
	uint64_t consumed;
	bool any = false;

	if (t->posted_count == 0)
		return false;
	consumed = t->to.consumed(t->to.arg);
	while (t->posted_count > 0 && t->posted[t->posted_first].at <= consumed) {
		const struct turn_posted *p = &t->posted[t->posted_first];

		t->root->outstanding -= p->of_all;
		p->tenant->outstanding -= p->cost;
		if (p->user != NULL)
			p->user->outstanding -= p->cost;
		t->posted_first = (t->posted_first + 1) & (t->posted_cap - 1);
		t->posted_count--;
		any = true;
	}
	return any;
}

static void
note_posted(struct turns *t, struct turn_node *tenant, struct turn_node *user, uint32_t cost, uint64_t at)
{
	uint32_t of_all;

	if (t->posted_count == t->posted_cap) {
		struct turn_posted *old = t->posted;

		t->posted = must_alloc(2 * t->posted_cap * sizeof(*t->posted));
		for (uint32_t i = 0; i < t->posted_count; i++)
			t->posted[i] = old[(t->posted_first + i) & (t->posted_cap - 1)];
		t->posted_first = 0;
		t->posted_cap *= 2;
		free(old);
	}
	/* One record alone, however costly, leaves room for other tenants. */
	of_all = cost < t->limits.tenant ? cost : t->limits.tenant;
	t->posted[(t->posted_first + t->posted_count++) & (t->posted_cap - 1)] =
	    (struct turn_posted){ at, tenant, user, cost, of_all };
	t->root->outstanding += of_all;
	tenant->outstanding += cost;
	if (user != NULL)
		user->outstanding += cost;
}

/* --- what waits */

static void
count_waiting(struct turn_node *conn, int32_t records, int32_t bytes)
{
	struct turn_node *user = conn->user, *each[] = { conn, user, user->parent, user->parent->parent };

	for (unsigned i = 0; i < 4; i++) {
		each[i]->records += (uint32_t)records;
		each[i]->bytes += (uint32_t)bytes;
	}
}

/* In whose ring a connection stands is said by its next record. */
static void
place(struct turn_node *conn)
{
	struct turn_node *tenant = conn->user->parent,
	    *parent = conn->head->class & TURN_FIRST ? tenant->lane : conn->user;

	if (conn->parent == parent && conn->next != NULL)
		return;
	if (conn->next != NULL) {
		struct turn_node *left = conn->parent;

		ring_out(conn);
		conn->parent = parent;
		wake(conn);
		rest(left);
		return;
	}
	conn->parent = parent;
	wake(conn);
}

static void
note_heard(struct turns *t, uint64_t conn)
{
	if (t->heard_count == t->heard_cap) {
		t->heard_cap = t->heard_cap == 0 ? 16 : t->heard_cap * 2;
		t->heard = must_realloc(t->heard, t->heard_cap * sizeof(*t->heard));
	}
	t->heard[t->heard_count++] = conn;
}

/* The record before which *at points leaves, and with the last one the connection. */
static void
take_out(struct turns *t, struct turn_node *conn, struct record **at)
{
	struct record *r = *at;
	bool was_next = at == &conn->head;
	struct turn_node *parent = conn->parent;

	*at = r->next;
	if (conn->tail == &r->next)
		conn->tail = at;
	count_waiting(conn, -1, -(int32_t)r->len);
	free(r);
	if (conn->head != NULL) {
		if (was_next)
			place(conn);
		return;
	}
	ring_out(conn);
	rest(parent);
	note_heard(t, conn->key.lo);
	node_forget(t, conn);
}

static struct hash128
conn_key(uint64_t conn)
{
	return (struct hash128){ conn, 0 };
}

/* The bytes may be passed by one record: a long one alone may wait, too. */
static bool
has_room(const struct turn_node *n, const struct turns_bounds *bounds)
{
	return n->records < bounds->records && n->bytes < bounds->bytes;
}

static int
keep(struct turns *t, struct turn_node *conn, struct turn_node *user, const struct turn_of *of, unsigned class,
    uint64_t request, uint32_t cost, uint16_t kind, struct slice record)
{
	static const struct turn_node nothing;
	struct turn_node *whose = conn != NULL ? conn->user : user;
	struct record *r;

	if (class != TURN_FIRST && (!has_room(conn != NULL ? conn : &nothing, &t->limits.of_conn) ||
	    (!whose->parent->stranger && (!has_room(whose, &t->limits.of_user) ||
	    !has_room(whose->parent, &t->limits.of_tenant))))) {
		errno = EDQUOT;
		return -1;
	}
	if (conn == NULL) {
		conn = node_new(t, CONN, user, conn_key(of->conn));
		conn->user = user;
		conn->tail = &conn->head;
	}
	r = must_realloc(NULL, sizeof(*r) + record.len);
	*r = (struct record){ .request = request, .cost = cost, .len = (uint32_t)record.len, .kind = kind,
	    .class = (uint8_t)class };
	memcpy(r->bytes, record.p, record.len);
	*conn->tail = r;
	conn->tail = &r->next;
	count_waiting(conn, 1, (int32_t)r->len);
	place(conn);
	t->waited++;
	return 0;
}

int
turns_put(struct turns *t, const struct turn_of *of, unsigned class, uint64_t request, uint32_t cost, uint16_t kind,
    struct slice record)
{
	struct turn_node *conn, *tenant, *user, *by;
	uint64_t at;

	if (settle(t) && t->root->records > 0)
		turns_pump(t);
	conn = t->root->records == 0 ? NULL : find(t, CONN, conn_key(of->conn));
	tenant = tenant_get(t, of);
	user = user_get(t, tenant, of->user);
	by = class & TURN_FIRST ? NULL : user;
	if (conn == NULL && (by == NULL ? tenant->lane : user)->active == 0 && may_go(t, tenant, by)) {
		if (t->to.post(t->to.arg, kind, record, &at) == 0) {
			note_posted(t, tenant, by, cost, at);
			return 0;
		}
		if (errno != EAGAIN)
			return -1;
	}
	return keep(t, conn, user, of, class, request, cost, kind, record);
}

/* --- whose turn it is */

/* It has as much outstanding as it may: that is no turn, and pays no debt. */
static bool
is_full(const struct turns *t, const struct turn_node *n)
{
	bool first = n->level == TENANT && n->lane->active > 0;

	if (n->level == TENANT)
		return !may_send(t, n, first) || !may_send(t, n->parent, first);
	return n->level == USER && !may_send(t, n, false);
}

/* The connection below n that is next: NULL, none may go. */
static struct turn_node *
next_below(const struct turns *t, struct turn_node *n)
{
	struct turn_node *leaf, *child;
	uint32_t passed = 0;

	if (n->level == CONN)
		return n;
	if (n->level == TENANT && n->lane->active > 0)
		return next_below(t, n->lane);
	while (passed < n->active) {
		child = n->first;
		if (is_full(t, child)) {
			passed++;
		} else if (child->deficit <= 0) {
			child->deficit += QUANTUM;
			passed = 0;
		} else if ((leaf = next_below(t, child)) != NULL) {
			return leaf;
		} else {
			passed++;
		}
		n->first = child->next;
	}
	return NULL;
}

/* What was sent is taken from the turn of each on the way. */
static void
charge(struct turn_node *n, uint32_t cost)
{
	for (; n->level != ROOT; n = n->parent) {
		n->deficit -= (int32_t)cost;
		if (n->deficit <= 0 && n->level != LANE && n->parent->first == n)
			n->parent->first = n->next;
	}
}

/* false: the receiver's ring is full. */
static bool
send_next_of(struct turns *t, struct turn_node *conn)
{
	const struct record *r = conn->head;
	struct turn_node *user = conn->user, *tenant = user->parent;
	uint32_t cost = r->cost;
	uint64_t at;

	if (t->to.post(t->to.arg, r->kind, (struct slice){ (const char *)r->bytes, r->len }, &at) == 0)
		note_posted(t, tenant, r->class & TURN_FIRST ? NULL : user, cost, at);
	else if (errno == EAGAIN)
		return false;
	else
		t->dropped++;
	charge(conn, cost);
	take_out(t, conn, &conn->head);
	return true;
}

void
turns_pump(struct turns *t)
{
	struct turn_node *conn;

	(void)settle(t);
	while (t->root->records > 0 && (conn = next_below(t, t->root)) != NULL && send_next_of(t, conn))
		;
}

void
turns_flush(struct turns *t)
{
	struct turns_limits limits = t->limits;

	t->limits.all = t->limits.tenant = t->limits.user = UINT32_MAX / 4;
	turns_pump(t);
	t->limits = limits;
}

void
turns_tick(struct turns *t, int64_t now_ms)
{
	struct turn_node *n;

	t->now_ms = now_ms;
	turns_pump(t);
	while ((n = t->oldest) != NULL && now_ms - n->used_ms >= TURNS_LATELY_MS) {
		/* The last one keeps its tenant, of which something may be outstanding by the lane. */
		if (n->outstanding > 0 || n->records > 0 ||
		    (n->parent->children == 1 && n->parent->outstanding > 0)) {
			list_out(t, n);
			list_put(t, n);
		} else {
			user_forget(t, n);
		}
	}
}

/* --- nobody waits for it */

void
turns_withdraw(struct turns *t, uint64_t ref, uint64_t request)
{
	struct turn_node *conn = t->root->records == 0 ? NULL : find(t, CONN, conn_key(ref));

	if (conn == NULL)
		return;
	for (struct record **at = &conn->head; *at != NULL; at = &(*at)->next) {
		if ((*at)->request != request || ((*at)->class & TURN_ASK) == 0)
			continue;
		t->dropped++;
		take_out(t, conn, at);
		return;
	}
}

void
turns_conn_gone(struct turns *t, uint64_t ref)
{
	struct turn_node *conn = t->root->records == 0 ? NULL : find(t, CONN, conn_key(ref));
	struct record **at, *next;
	uint64_t request;

	if (conn == NULL)
		return;
	for (at = &conn->head; *at != NULL; ) {
		if (((*at)->class & TURN_ASK) == 0) {
			at = &(*at)->next;
			continue;
		}
		next = (*at)->next;
		request = (*at)->request;
		t->dropped++;
		take_out(t, conn, at);
		t->to.dropped(t->to.arg, request);
		if (next == NULL)
			return;			/* with the last one the connection's node has gone, too */
	}
}

/* --- the rest */

uint32_t
turns_of_conn(const struct turns *t, uint64_t ref, uint32_t *bytes)
{
	const struct turn_node *conn = t->root->records == 0 ? NULL : find(t, CONN, conn_key(ref));

	*bytes = conn == NULL ? 0 : conn->bytes;
	return conn == NULL ? 0 : conn->records;
}

uint64_t
turns_next_heard(struct turns *t)
{
	return t->heard_count == 0 ? 0 : t->heard[--t->heard_count];
}

uint32_t
turns_waiting(const struct turns *t)
{
	return t->root->records;
}

uint32_t
turns_outstanding(const struct turns *t)
{
	return t->root->outstanding;
}

void
turns_init(struct turns *t, const struct turns_receiver *to, const struct turns_limits *limits, int64_t now_ms)
{
	memset(t, 0, sizeof(*t));
	t->to = *to;
	t->limits = *limits;
	t->now_ms = now_ms;
	t->root = node_make(t, ROOT, NULL);
	t->bucket_count = BUCKETS_MIN;
	t->buckets = must_alloc(t->bucket_count * sizeof(struct turn_node *));
	t->posted_cap = POSTED_MIN;
	t->posted = must_alloc(t->posted_cap * sizeof(*t->posted));
}

static void
node_free(struct turn_node *n)
{
	struct record *r;

	while ((r = n->head) != NULL) {
		n->head = r->next;
		free(r);
	}
	free(n->lane);
	free(n);
}

void
turns_fini(struct turns *t)
{
	struct turn_node *n;

	for (uint32_t i = 0; i < t->bucket_count; i++)
		while ((n = t->buckets[i]) != NULL) {
			t->buckets[i] = n->chain;
			node_free(n);
		}
	while ((n = t->spare) != NULL) {
		t->spare = n->chain;
		free(n);
	}
	free(t->root);
	free(t->buckets);
	free(t->posted);
	free(t->heard);
	memset(t, 0, sizeof(*t));
}
