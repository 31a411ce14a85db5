/*
 * ask.c: the questions to storage and readers that wait for an answer.  One gateway process.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "gateway/ask.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/reads.h"
#include "gateway/tell.h"

#define BUCKETS_MIN 256u

static uint32_t
bucket_of(const struct ask_table *t, uint64_t request)
{
	return (uint32_t)request & (t->bucket_count - 1);
}

void
ask_init(struct ask_table *t, uint64_t first)
{
	memset(t, 0, sizeof(*t));
	t->bucket_count = BUCKETS_MIN;
	t->buckets = must_alloc(t->bucket_count * sizeof(*t->buckets));
	t->last_request = first;
}

static void
give_back(struct ask *a)
{
	if (a->ops->free != NULL)
		a->ops->free(a);
	free(a);
}

void
ask_fini(struct ask_table *t)
{
	struct ask *a;

	while ((a = t->oldest) != NULL) {
		t->oldest = a->newer;
		give_back(a);
	}
	free(t->buckets);
}

static void
grow(struct ask_table *t)
{
	uint32_t count = t->bucket_count * 2;

	free(t->buckets);
	t->buckets = must_alloc(count * sizeof(*t->buckets));
	t->bucket_count = count;
	for (struct ask *a = t->oldest; a != NULL; a = a->newer) {
		uint32_t b = bucket_of(t, a->request);

		a->next = t->buckets[b];
		t->buckets[b] = a;
	}
}

struct ask *
ask_new(struct gateway *g, struct conn *c, const struct ask_ops *ops, struct slice re)
{
	struct ask_table *t = &g->asks;
	size_t re_len = re.p == NULL ? 0 : re.len;
	struct ask *a = must_realloc(NULL, sizeof(*a) + re_len);
	uint32_t b;

	must(re_len <= ASK_RE_MAX);
	memset(a, 0, sizeof(*a));
	if (t->count >= t->bucket_count)
		grow(t);
	a->request = ++t->last_request;
	a->ref = conn_ref(g, c);
	a->ops = ops;
	a->since_ms = g->w->mono_ms;
	a->until_ms = g->w->mono_ms + ASK_TIMEOUT_MS;
	a->re_len = re.p == NULL ? 0xffff : (uint16_t)re_len;
	memcpy(a->re, re.p == NULL ? "" : re.p, re_len);
	b = bucket_of(t, a->request);
	a->next = t->buckets[b];
	t->buckets[b] = a;
	a->older = t->newest;
	if (t->newest != NULL)
		t->newest->newer = a;
	else
		t->oldest = a;
	t->newest = a;
	t->count++;
	return a;
}

struct ask *
ask_find(struct gateway *g, uint64_t request)
{
	struct ask *a;

	for (a = g->asks.buckets[bucket_of(&g->asks, request)]; a != NULL; a = a->next)
		if (a->request == request)
			return a;
	return NULL;
}

void
ask_free(struct gateway *g, struct ask *a)
{
	struct ask_table *t = &g->asks;
	struct ask **at = &t->buckets[bucket_of(t, a->request)];

	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	if (a->older != NULL)
		a->older->newer = a->newer;
	else
		t->oldest = a->newer;
	if (a->newer != NULL)
		a->newer->older = a->older;
	else
		t->newest = a->older;
	t->count--;
	reads_free(g, &a->read);
	give_back(a);
}

struct conn *
ask_conn(struct gateway *g, const struct ask *a)
{
	struct conn *c = conn_of_ref(g, a->ref);

	return c != NULL && a->ops->waits(c, a) ? c : NULL;
}

void
ask_answer(struct gateway *g, const struct msg_store_reply *m)
{
	struct ask *a = ask_find(g, m->request);
	struct conn *c;

	if (a == NULL || a->ops->answer == NULL)
		return;
	reads_free(g, &a->read);	/* it is not asked any more, whatever ends with the answer */
	if ((c = ask_conn(g, a)) != NULL)
		a->ops->answer(g, c, a, m);
	ask_free(g, a);
}

void
ask_failed(struct gateway *g, struct ask *a, enum error_code code)
{
	struct conn *c = ask_conn(g, a);

	reads_free(g, &a->read);
	if (c != NULL)
		a->ops->failed(g, c, a, code);
	ask_free(g, a);
}

void
ask_tick(struct gateway *g)
{
	/*
	 * All wait equally long but those of health, which are few: the list is in the order of
	 * their ends up to the first that has time.
	 */
	for (struct ask *a = g->asks.oldest, *next; a != NULL; a = next) {
		next = a->newer;
		if (a->until_ms <= g->w->mono_ms) {
			gateway_count(g, ASKS_TIMED_OUT, 1);
			tell_withdraw(g, a);
			ask_failed(g, a, ERROR_unavailable);
		/* nobody's time is shorter */
		} else if (g->w->mono_ms - a->since_ms < ASK_PROBE_MS) {
			break;
		}
	}
}
