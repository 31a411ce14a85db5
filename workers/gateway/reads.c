/*
 * reads.c: what readers were asked; see reads.h.  One gateway process.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "gateway/ask.h"
#include "gateway/ask.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/reads.h"
#include "msg/audience.h"

#define BUCKETS		1024u
#define TRIES_MAX	3		/* readers that may die over a question */

/* A user or a tenant of whom something waits. */
struct read_group {
	struct hash128 key;
	struct read_group *next;	/* hash chain */
	unsigned waiting;
};

struct read {
	struct read *prev, *next;
	struct ask *ask;		/* which owns it */
	struct read_group *tenant, *user;
	unsigned reader;		/* the nth */
	uint8_t tries;			/* how often it was handed over; 0: it waits for a reader that starts */
	uint16_t kind;
	uint32_t len;
	char record[];
};

static struct read_group **
bucket_of(struct reads *t, struct hash128 key)
{
	return &t->buckets[key.lo & (t->bucket_count - 1)];
}

static struct read_group *
group_get(struct reads *t, struct hash128 key)
{
	struct read_group **at = bucket_of(t, key), *group;

	for (group = *at; group != NULL; group = group->next)
		if (memcmp(&group->key, &key, sizeof(key)) == 0)
			return group;
	group = must_alloc(sizeof(*group));
	group->key = key;
	group->next = *at;
	*at = group;
	return group;
}

/* One fewer waits; with the last the group goes. */
static void
group_put(struct reads *t, struct read_group *group)
{
	struct read_group **at = bucket_of(t, group->key);

	if (group->waiting > 0)
		return;
	while (*at != group)
		at = &(*at)->next;
	*at = group->next;
	free(group);
}

/* Of the process that is there and has started; 0: none.  One that starts leaves out what it finds (reader.c). */
static uint16_t
generation_of(const struct gateway *g, unsigned reader)
{
	int slot = worker_slot_of(g->w, ROLE_ID_READER, reader);
	struct slot_view view;

	if (slot == -1)
		return 0;
	slot_get(g->w->shm, (unsigned)slot, &view);
	return view.state == SLOT_READY ? view.generation : 0;
}

void
reads_init(struct gateway *g)
{
	struct reads *t = &g->reads;

	*t = (struct reads){ .bucket_count = BUCKETS };
	t->buckets = must_alloc(t->bucket_count * sizeof(*t->buckets));
	t->readers = worker_role_by_id(ROLE_ID_READER)->count(g->conf);
	must(t->readers > 0 && t->readers <= sizeof(t->generation) / sizeof(t->generation[0]));
	for (unsigned i = 0; i < t->readers; i++)
		t->generation[i] = generation_of(g, i);
}

void
reads_fini(struct gateway *g)
{
	while (g->reads.first != NULL)
		reads_free(g, &g->reads.first->ask->read);
	free(g->reads.buckets);
	g->reads.buckets = NULL;
}

static int
hand_over(struct gateway *g, struct read *r)
{
	int slot = worker_slot_of(g->w, ROLE_ID_READER, r->reader);
	struct iovec iov = { (void *)(uintptr_t)r->record, r->len };

	r->tries++;
	return slot == -1 ? -1 : worker_post_now(g->w, (unsigned)slot, r->kind, &iov, 1);
}

static bool
has_room(const struct gateway *g, const struct read_group *tenant, const struct read_group *user, bool patient)
{
	return (patient || user->waiting < g->conf->limits_reads_per_user) &&
	    tenant->waiting < g->conf->limits_reads_per_tenant;
}

void
reads_post(struct gateway *g, struct ask *a, uint16_t kind, struct slice tenant, struct slice user, bool patient)
{
	struct reads *t = &g->reads;
	const uint8_t *key = shm_hash_key(g->w->shm);
	struct hash128 user_key = audience_topic_user(key, tenant, user);
	struct read_group *of_tenant = group_get(t, audience_topic_tenant(key, tenant));
	struct read_group *of_user = group_get(t, user_key);
	struct conn *c = conn_of_ref(g, a->ref);
	struct read *r;

	if (!has_room(g, of_tenant, of_user, patient)) {
		group_put(t, of_user);
		group_put(t, of_tenant);
		gateway_count(g, READS_REFUSED, 1);
		ask_failed(g, a, ERROR_too_many);
		return;
	}
	r = must_alloc(sizeof(*r) + g->record.len);
	r->ask = a;
	r->tenant = of_tenant;
	r->user = of_user;
	of_tenant->waiting++;
	of_user->waiting++;
	r->reader = (unsigned)(user_key.hi % t->readers);
	r->kind = kind;
	r->len = (uint32_t)g->record.len;
	memcpy(r->record, g->record.data, g->record.len);
	r->prev = t->last;
	if (t->last != NULL)
		t->last->next = r;
	else
		t->first = r;
	t->last = r;
	a->read = r;
	if (c != NULL)
		c->reads = true;
	gateway_count(g, READS_ASKED, 1);
	/* Where its reader has another successor than is known, those before it are asked again first: by the tick. */
	if (generation_of(g, r->reader) == t->generation[r->reader] && hand_over(g, r) == -1)
		ask_failed(g, a, ERROR_unavailable);
}

void
reads_free(struct gateway *g, struct read **rp)
{
	struct read *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	if (r->prev != NULL)
		r->prev->next = r->next;
	else
		g->reads.first = r->next;
	if (r->next != NULL)
		r->next->prev = r->prev;
	else
		g->reads.last = r->prev;
	r->user->waiting--;
	r->tenant->waiting--;
	group_put(&g->reads, r->user);
	group_put(&g->reads, r->tenant);
	free(r);
}

/* The asks end by themselves, when nobody answers them.  All reads of a connection are one user's. */
void
reads_conn_gone(struct gateway *g, struct conn *c)
{
	struct msg_asker_gone m = { .ref = conn_ref(g, c) };
	int slot = -1;

	if (!c->reads)
		return;
	c->reads = false;
	for (struct read *r = g->reads.first, *next; r != NULL; r = next) {
		next = r->next;
		if (r->ask->ref != m.ref)
			continue;
		slot = worker_slot_of(g->w, ROLE_ID_READER, r->reader);
		m.user_lo = r->user->key.lo;
		m.user_hi = r->user->key.hi;
		reads_free(g, &r->ask->read);
	}
	if (slot == -1)
		return;
	buf_clear(&g->record);
	msg_pack_asker_gone(&g->record, &m);
	(void)worker_post_now(g->w, (unsigned)slot, MSG_asker_gone,
	    &(struct iovec){ g->record.data, g->record.len }, 1);
}

/* In the old order.  By their numbers: an answer may end a connection, and with it other questions. */
static void
ask_again(struct gateway *g, unsigned reader)
{
	struct buf requests = BUF_INIT;

	for (const struct read *r = g->reads.first; r != NULL; r = r->next)
		if (r->reader == reader)
			buf_put(&requests, &r->ask->request, sizeof(r->ask->request));
	for (size_t at = 0; at < requests.len; at += sizeof(uint64_t)) {
		uint64_t request;
		struct ask *a;

		memcpy(&request, requests.data + at, sizeof(request));
		a = ask_find(g, request);
		if (a == NULL || a->read == NULL)
			continue;
		if (a->read->tries > 0)
			gateway_count(g, READS_AGAIN, 1);
		if (a->ops->again != NULL && a->read->tries > 0 && a->read->tries < TRIES_MAX)
			a->ops->again(g, a);
		else if (a->read->tries == TRIES_MAX || hand_over(g, a->read) == -1)
			ask_failed(g, a, ERROR_unavailable);
	}
	buf_fini(&requests);
}

void
reads_tick(struct gateway *g)
{
	struct reads *t = &g->reads;

	for (unsigned i = 0; i < t->readers; i++) {
		uint16_t now = generation_of(g, i);

		if (now == 0 || now == t->generation[i])
			continue;
		t->generation[i] = now;
		ask_again(g, i);
	}
}
