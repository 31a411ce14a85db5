/*
 * reader_line.c: whose turn it is among those who wait for a reader, beside a model that keeps plain queues and counts turns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/must.h"
#include "reader/line.h"

#define TENANTS		5u
#define USERS		4u		/* of each */
#define WAITERS_MAX	64u		/* of one user */
#define MANY		1000u		/* users, so that the table grows */

struct thing {
	struct waiter waiter;		/* first */
	unsigned tenant, user;
};

/* Of a tenant, or of a user of it: who was served while somebody else waited. */
struct turns {
	unsigned served[TENANTS > USERS ? TENANTS : USERS];
};

struct model {
	struct thing *queue[TENANTS][USERS][WAITERS_MAX];	/* oldest first */
	unsigned length[TENANTS][USERS];
	struct turns others[TENANTS];			/* since a tenant waits or was served: turns of each other one */
	struct turns users[TENANTS][USERS];		/* the same within a tenant */
	size_t waiting;
};

static uint32_t seed;

static unsigned
below(unsigned n)
{
	seed = seed * 1664525u + 1013904223u;
	return (unsigned)(((uint64_t)seed * n) >> 32);
}

/* All fall into one of two chains. */
static struct hash128
tenant_key(unsigned tenant)
{
	return (struct hash128){ .lo = (uint64_t)(tenant & 1) << 40, .hi = tenant };
}

static struct hash128
user_key(unsigned tenant, unsigned user)
{
	return (struct hash128){ .lo = (uint64_t)(user & 1) << 40, .hi = 1000 + tenant * 100 + user };
}

static bool
tenant_waits(const struct model *m, unsigned tenant)
{
	for (unsigned user = 0; user < USERS; user++)
		if (m->length[tenant][user] > 0)
			return true;
	return false;
}

static void
put(struct line *l, struct model *m, unsigned tenant, unsigned user)
{
	unsigned *n = &m->length[tenant][user];
	struct thing *t;

	if (*n == WAITERS_MAX)
		return;
	if (!tenant_waits(m, tenant))
		m->others[tenant] = (struct turns){ { 0 } };
	if (*n == 0)
		m->users[tenant][user] = (struct turns){ { 0 } };
	t = must_alloc(sizeof(*t));
	t->tenant = tenant;
	t->user = user;
	m->queue[tenant][user][(*n)++] = t;
	m->waiting++;
	line_put(l, tenant_key(tenant), user_key(tenant, user), &t->waiter);
}

/* The turn of one is one for all others who wait: nobody had two of them since the last of theirs. */
static void
note_turn(struct model *m, unsigned tenant, unsigned user)
{
	for (unsigned i = 0; i < TENANTS; i++)
		if (i != tenant && tenant_waits(m, i))
			assert_true(++m->others[i].served[tenant] <= 1);
	for (unsigned i = 0; i < USERS; i++)
		if (i != user && m->length[tenant][i] > 0)
			assert_true(++m->users[tenant][i].served[user] <= 1);
	m->others[tenant] = (struct turns){ { 0 } };
	m->users[tenant][user] = (struct turns){ { 0 } };
}

static void
take_out(struct line *l, struct model *m, struct thing *t)
{
	struct thing **queue = m->queue[t->tenant][t->user];
	unsigned *n = &m->length[t->tenant][t->user];

	line_remove(l, &t->waiter);
	memmove(queue, queue + 1, --*n * sizeof(*queue));
	m->waiting--;
	free(t);
}

static void
serve(struct line *l, struct model *m, bool done)
{
	struct thing *t = (struct thing *)line_next(l);

	if (m->waiting == 0) {
		assert_null(t);
		return;
	}
	assert_non_null(t);
	assert_ptr_equal(t, m->queue[t->tenant][t->user][0]);
	note_turn(m, t->tenant, t->user);
	if (done)
		take_out(l, m, t);
}

struct walk {
	struct thing **queue;
	unsigned at;
};

static void
compare(void *arg, struct waiter *w)
{
	struct walk *walk = arg;

	assert_ptr_equal(w, walk->queue[walk->at++]);
}

static void
look(struct line *l, struct model *m, unsigned tenant, unsigned user)
{
	struct walk walk = { m->queue[tenant][user], 0 };

	line_each(l, user_key(tenant, user), compare, &walk);
	assert_int_equal(walk.at, m->length[tenant][user]);
}

static void
turns_beside_the_model(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		struct model *m = must_alloc(sizeof(*m));
		struct line l;
		unsigned crowd = 1 + below(8);	/* how many come for each that is served */

		seed = round;
		line_init(&l);
		for (unsigned i = 0; i < 2000; i++) {
			unsigned what = below(crowd + 4);

			if (what < crowd)
				put(&l, m, below(TENANTS), below(1 + below(USERS)));
			else
				serve(&l, m, what % 2 == 0);
			look(&l, m, below(TENANTS), below(USERS));
			assert_int_equal(l.waiting, m->waiting);
		}
		while (m->waiting > 0)
			serve(&l, m, true);
		serve(&l, m, true);
		assert_int_equal(l.group_count, 0);
		assert_null(l.turn);
		line_fini(&l);
		free(m);
	}
}

/* One tenant's thousand users do not keep another's one waiting, and each of them is served before any is again. */
static void
one_beside_many(void **state)
{
	static struct thing many[2 * MANY], one;
	static unsigned served[MANY];
	struct line l;
	unsigned turns = 0;

	(void)state;
	line_init(&l);
	for (unsigned i = 0; i < 2 * MANY; i++) {
		many[i].user = i % MANY;
		line_put(&l, tenant_key(0), user_key(0, many[i].user), &many[i].waiter);
	}
	assert_int_equal(l.group_count, MANY + 1);
	line_put(&l, tenant_key(1), user_key(50, 0), &one.waiter);
	while (line_next(&l) != &one.waiter)
		turns++;
	assert_true(turns <= 1);
	line_remove(&l, &one.waiter);
	for (unsigned i = 0; i < 2 * MANY; i++) {
		struct thing *t = (struct thing *)line_next(&l);

		/* the turn that was looked at above counts for its user */
		assert_true(++served[t->user] <= i / MANY + 2);
		line_remove(&l, &t->waiter);
	}
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(served[i], 2);
	assert_null(line_next(&l));
	assert_int_equal(l.group_count, 0);
	line_fini(&l);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(turns_beside_the_model),
		cmocka_unit_test(one_beside_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
