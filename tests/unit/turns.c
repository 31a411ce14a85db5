/*
 * Turns alone: a receiver that is a list of positions, senders that are random, and a model of what must hold: the order of
 * each connection, the limits, that nothing is lost or sent for nobody, and that each waits for no more than its share.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/turns.h"

#define MOST 100000u

static const struct turns_limits LIMITS = {
	.all = 64, .tenant = 24, .user = 12,
	.of_conn = { 1000, 1u << 20 }, .of_user = { 5000, 4u << 20 }, .of_tenant = { 20000, 8u << 20 }
};

/* A record of the tests. */
struct said {
	uint32_t tenant, user, conn, number, cost;
	uint64_t request;
	bool first;
};

/* The receiver. */
static struct ring {
	struct said posted[MOST];
	uint64_t at[MOST];
	unsigned n, consumed;
	uint64_t position;
	unsigned room;			/* records that it takes before it is full */
	int error;			/* instead */
	unsigned dropped;
} ring;

static int
post(void *arg, uint16_t kind, struct slice record, uint64_t *at)
{
	struct said said;

	assert_ptr_equal(arg, &ring);
	assert_int_equal(kind, 7);
	assert_true(record.len >= sizeof(said));
	memcpy(&said, record.p, sizeof(said));
	if (ring.error != 0) {
		errno = ring.error;
		return -1;
	}
	if (ring.n - ring.consumed >= ring.room || ring.n == MOST) {
		errno = EAGAIN;
		return -1;
	}
	ring.position += 32 + (uint64_t)(ring.n % 3) * 100;	/* and now and then padding */
	ring.posted[ring.n] = said;
	ring.at[ring.n++] = *at = ring.position;
	return 0;
}

static uint64_t
consumed(void *arg)
{
	(void)arg;
	return ring.consumed == 0 ? 0 : ring.at[ring.consumed - 1];
}

static void
dropped(void *arg, uint64_t request)
{
	(void)arg;
	(void)request;
	ring.dropped++;
}

static void
start(struct turns *t, const struct turns_limits *limits)
{
	struct turns_receiver to = { post, consumed, dropped, &ring };

	memset(&ring, 0, sizeof(ring));
	ring.room = MOST;
	turns_init(t, &to, limits, 1000);
}

static struct turn_of
of(const struct said *s)
{
	return (struct turn_of){ { s->tenant, 1 }, { s->tenant * 1000u + s->user, 2 },
	    ((uint64_t)s->tenant * 1000 + s->user) * 1000 + s->conn + 1, s->tenant == 0 };
}

static int
put(struct turns *t, const struct said *s, unsigned class, size_t len)
{
	struct turn_of whose = of(s);
	char bytes[8192] = "";

	memcpy(bytes, s, sizeof(*s));
	return turns_put(t, &whose, class, s->request, s->cost, 7, (struct slice){ bytes, len < sizeof(*s) ? sizeof(*s) : len });
}

static void
say(struct turns *t, uint32_t tenant, uint32_t user, uint32_t conn, unsigned n, unsigned class)
{
	for (unsigned i = 0; i < n; i++) {
		struct said s = { tenant, user, conn, i, 1, i + 1, class & TURN_FIRST };

		assert_int_equal(put(t, &s, class, 0), 0);
	}
}

/* The receiver has done n more. */
static void
consume(struct turns *t, unsigned n)
{
	ring.consumed = ring.n - ring.consumed < n ? ring.n : ring.consumed + n;
	turns_pump(t);
}

static void
consume_all(struct turns *t)
{
	while (turns_waiting(t) > 0 || ring.consumed < ring.n)
		consume(t, 16);
	assert_int_equal(turns_outstanding(t), 0);
}

static uint32_t
cost_of(unsigned from, unsigned to, uint32_t tenant)
{
	uint32_t cost = 0;

	for (unsigned i = from; i < to; i++)
		if (ring.posted[i].tenant == tenant)
			cost += ring.posted[i].cost;
	return cost;
}

static void
who_is_alone_has_all_and_waits_for_nothing(void **state)
{
	struct turns t;

	(void)state;
	start(&t, &LIMITS);
	say(&t, 1, 1, 1, LIMITS.all, TURN_ASK);
	assert_int_equal(ring.n, LIMITS.all);
	assert_int_equal(t.waited, 0);
	say(&t, 1, 1, 1, 10, TURN_ASK);
	assert_int_equal(ring.n, LIMITS.all);
	assert_int_equal(turns_waiting(&t), 10);
	consume(&t, 4);
	assert_int_equal(ring.n, LIMITS.all + 4);
	consume_all(&t);
	assert_int_equal(ring.n, LIMITS.all + 10);
	turns_fini(&t);
}

static void
a_lump_is_never_more_than_its_share(void **state)
{
	struct turns t;

	(void)state;
	start(&t, &LIMITS);
	say(&t, 2, 1, 1, 1, TURN_ASK);		/* somebody else was there lately */
	say(&t, 1, 1, 1, 300, TURN_ASK);
	assert_int_equal(ring.n, 1 + LIMITS.tenant);
	say(&t, 2, 1, 1, 5, TURN_ASK);
	assert_int_equal(ring.n, 1 + LIMITS.tenant + 5);
	assert_int_equal(ring.posted[ring.n - 1].tenant, 2);
	/* Time goes by, and the other one is forgotten: all of it is the first one's. */
	consume(&t, ring.n);
	turns_tick(&t, 1000 + 2 * TURNS_LATELY_MS);
	consume(&t, ring.n);
	assert_int_equal(turns_outstanding(&t), LIMITS.all);
	consume_all(&t);
	turns_fini(&t);
}

static void
users_of_one_tenant_take_turns_as_well(void **state)
{
	struct turns t;

	(void)state;
	start(&t, &LIMITS);
	say(&t, 1, 2, 1, 1, TURN_ASK);
	say(&t, 1, 1, 1, 300, TURN_ASK);
	assert_int_equal(ring.n, 1 + LIMITS.user);
	say(&t, 1, 2, 1, 3, TURN_ASK);
	assert_int_equal(ring.n, 1 + LIMITS.user + 3);
	consume_all(&t);
	turns_fini(&t);
}

static void
a_costly_record_keeps_nobody_else_waiting(void **state)
{
	struct said s = { 1, 1, 1, 0, 1000, 0, false };
	struct turns t;

	(void)state;
	start(&t, &LIMITS);
	assert_int_equal(put(&t, &s, TURN_ASK, 0), 0);
	assert_int_equal(put(&t, &s, TURN_ASK, 0), 0);
	assert_int_equal(ring.n, 1);
	say(&t, 2, 1, 1, 5, TURN_ASK);
	assert_int_equal(ring.n, 6);
	consume_all(&t);
	turns_fini(&t);
}

/* A user who was there once is in another one's way for a while only, however busy that one is. */
static void
who_has_left_is_forgotten(void **state)
{
	struct turns t;

	(void)state;
	start(&t, &LIMITS);
	say(&t, 1, 2, 1, 1, TURN_ASK);
	consume(&t, 1);
	say(&t, 1, 1, 1, 300, TURN_ASK);
	assert_int_equal(turns_outstanding(&t), LIMITS.user);
	turns_tick(&t, 1000 + TURNS_LATELY_MS);
	turns_pump(&t);
	assert_int_equal(turns_outstanding(&t), LIMITS.all);
	consume_all(&t);
	turns_fini(&t);
}

/* Everybody wants more than there is: each gets the same, whatever a record costs, and however many users it has. */
static void
each_gets_its_share(void **state)
{
	struct turns t;
	unsigned from;

	(void)state;
	start(&t, &LIMITS);
	for (uint32_t tenant = 1; tenant <= 5; tenant++)
		for (unsigned i = 0; i < 600; i++) {
			struct said s = { tenant, i % tenant, 1, i / tenant, tenant == 3 ? 30 : 1, 0, false };

			assert_int_equal(put(&t, &s, TURN_FACT, 0), 0);
		}
	consume(&t, ring.n);
	from = ring.n;
	while (ring.n < from + 1000)
		consume(&t, 8);
	for (uint32_t tenant = 2; tenant <= 5; tenant++) {
		uint32_t a = cost_of(from, ring.n, 1), b = cost_of(from, ring.n, tenant);

		assert_in_range(b + 60, a, a + 120);
	}
	consume_all(&t);
	turns_fini(&t);
}

static void
what_withdraws_goes_first_in_the_order_of_its_connection(void **state)
{
	struct said s = { 1, 5, 5, 0, 1, 0, true };
	struct turns t;
	unsigned at;

	(void)state;
	start(&t, &LIMITS);
	say(&t, 2, 1, 1, 1, TURN_ASK);
	say(&t, 1, 1, 1, 200, TURN_FACT);
	at = ring.n;
	assert_int_equal(put(&t, &s, TURN_FIRST, 0), 0);		/* another connection's: at once */
	assert_int_equal(ring.n, at + 1);
	assert_true(ring.posted[at].first);
	s = (struct said){ 1, 1, 1, 200, 1, 0, true };			/* behind what it said itself */
	assert_int_equal(put(&t, &s, TURN_FIRST, 0), 0);
	assert_int_equal(ring.n, at + 1);
	s.conn = 2;
	s.number = 0;
	for (unsigned i = 0; i < 3 * LIMITS.tenant; i++, s.number++)	/* a lane has an end, too, and none is refused */
		assert_int_equal(put(&t, &s, TURN_FIRST, 0), 0);
	assert_int_equal(ring.n - 1, 2 * LIMITS.tenant);
	consume(&t, ring.n);
	for (unsigned i = at + 1; i < ring.n - 1; i++)			/* before all else of the tenant */
		assert_int_equal(ring.posted[i].conn, 2);
	consume_all(&t);
	assert_int_equal(ring.posted[ring.n - 1].number, 200);
	turns_fini(&t);
}

static void
what_waits_is_bounded(void **state)
{
	struct turns_limits l = LIMITS;
	struct said s = { 1, 1, 1, 0, 1, 0, false };
	struct turns t;
	unsigned n;

	(void)state;
	l.of_conn = (struct turns_bounds){ 10, 20000 };
	l.of_user = (struct turns_bounds){ 25, 1u << 20 };
	l.of_tenant = (struct turns_bounds){ 40, 1u << 20 };
	start(&t, &l);
	ring.room = 0;
	say(&t, 1, 1, 1, 10, TURN_FACT);
	assert_int_equal(put(&t, &s, TURN_FACT, 0), -1);
	assert_int_equal(errno, EDQUOT);
	assert_int_equal(put(&t, &s, TURN_ASK | TURN_FIRST, 0), -1);
	assert_int_equal(put(&t, &s, TURN_FIRST, 0), 0);	/* an end is an end */
	s.conn = 2;
	for (n = 0; put(&t, &s, TURN_FACT, 6000) == 0; n++)
		;
	assert_int_equal(n, 4);					/* by bytes */
	s.conn = 3;
	say(&t, 1, 1, 3, 10, TURN_FACT);
	s.conn = 4;
	for (n = 0; put(&t, &s, TURN_FACT, 0) == 0; n++)
		;
	assert_int_equal(n, 0);					/* the user's */
	for (n = 0, s.user = 2; put(&t, &s, TURN_FACT, 0) == 0; n++)
		s.conn++;
	assert_int_equal(n, 15);				/* the tenant's */
	say(&t, 2, 1, 1, 10, TURN_FACT);			/* nobody else's */
	for (n = 0, s.tenant = 0; n < 500; n++, s.user++)	/* strangers have one each */
		assert_int_equal(put(&t, &s, TURN_ASK, 0), 0);
	ring.room = MOST;
	consume_all(&t);
	turns_fini(&t);
}

static void
nobody_is_asked_for_who_has_gone(void **state)
{
	struct said s = { 1, 1, 1, 20, 1, 21, true };
	struct turn_of whose;
	struct turns t;

	(void)state;
	start(&t, &LIMITS);
	ring.room = 0;
	say(&t, 1, 1, 1, 20, TURN_ASK);
	assert_int_equal(put(&t, &s, TURN_FIRST, 0), 0);
	say(&t, 1, 1, 2, 5, TURN_ASK);
	whose = of(&s);
	turns_withdraw(&t, whose.conn, 5);
	turns_withdraw(&t, whose.conn, 5);			/* twice is once */
	turns_withdraw(&t, whose.conn, 21);			/* what is no question stays */
	assert_int_equal(turns_waiting(&t), 25);
	turns_conn_gone(&t, whose.conn);
	assert_int_equal(ring.dropped, 19);
	assert_int_equal(turns_waiting(&t), 6);
	s.conn = 2;
	whose = of(&s);
	turns_conn_gone(&t, whose.conn);
	assert_int_equal(turns_waiting(&t), 1);
	assert_int_equal(turns_next_heard(&t), whose.conn);
	assert_int_equal(turns_next_heard(&t), 0);
	ring.room = MOST;
	consume_all(&t);
	assert_int_equal(ring.n, 1);
	assert_true(ring.posted[0].first);
	turns_fini(&t);
}

static void
a_full_ring_is_tried_again_and_a_refusal_told(void **state)
{
	struct said s = { 1, 1, 1, 0, 1, 0, false };
	struct turns t;

	(void)state;
	start(&t, &LIMITS);
	ring.room = 3;
	say(&t, 1, 1, 1, 5, TURN_FACT);
	assert_int_equal(ring.n, 3);
	turns_pump(&t);
	assert_int_equal(ring.n, 3);
	consume(&t, 1);
	assert_int_equal(ring.n, 4);
	ring.error = EMSGSIZE;
	consume(&t, 1);
	assert_int_equal(turns_waiting(&t), 0);			/* never: it is not in others' way */
	assert_int_equal(t.dropped, 1);
	assert_int_equal(put(&t, &s, TURN_FACT, 0), -1);
	assert_int_equal(errno, EMSGSIZE);
	turns_fini(&t);
}

static void
who_leaves_sends_all(void **state)
{
	struct turns t;

	(void)state;
	start(&t, &LIMITS);
	say(&t, 2, 1, 1, 1, TURN_ASK);
	for (uint32_t conn = 0; conn < 9; conn++)
		say(&t, 1, conn % 3, conn, 100, conn % 2 ? TURN_FIRST : TURN_FACT);
	assert_true(turns_waiting(&t) > 0);
	turns_flush(&t);
	assert_int_equal(turns_waiting(&t), 0);
	assert_int_equal(ring.n, 901);
	turns_fini(&t);
}

/* --- the model */

#define TENANTS 6u
#define USERS 4u
#define CONNS 3u

static void
random_arrivals_keep_every_promise(void **state)
{
	static uint32_t put_n[TENANTS][USERS][CONNS], seen[TENANTS][USERS][CONNS];
	static bool gone[MOST];			/* by request */
	struct turns t;
	uint64_t request = 0, arrived = 0, taken = 0;
	unsigned checked = 0, withdrawn = 0;
	int64_t now = 1000;

	(void)state;
	srandom(7);
	memset(put_n, 0, sizeof(put_n));
	memset(seen, 0, sizeof(seen));
	start(&t, &LIMITS);
	ring.room = 100;
	while (request < MOST - 1000 || turns_waiting(&t) > 0 || ring.consumed < ring.n) {
		unsigned lump = request >= MOST - 1000 ? 0 : random() % 10 == 0 ? 1 + (unsigned)random() % 200 : 1;
		struct said s = { (uint32_t)random() % TENANTS, (uint32_t)random() % USERS, (uint32_t)random() % CONNS, 0,
		    random() % 20 == 0 ? 1 + (uint32_t)random() % 40 : 1, 0, false };

		for (unsigned i = 0; i < lump; i++) {
			uint32_t *number = &put_n[s.tenant][s.user][s.conn];

			s.first = random() % 10 == 0;
			s.request = ++request;
			s.number = *number;
			if (put(&t, &s, s.first ? TURN_FIRST : TURN_ASK, (size_t)random() % 300) == 0)
				++*number;
			else
				assert_int_equal(errno, EDQUOT);
		}
		if (random() % 8 == 0 && request > 0) {		/* a question that nobody waits for any more */
			uint32_t before = turns_waiting(&t);
			struct turn_of whose = of(&s);
			uint64_t r = request - (uint64_t)random() % (request < 300 ? request : 300);

			turns_withdraw(&t, whose.conn, r);
			withdrawn += before - turns_waiting(&t);
			gone[r] = before != turns_waiting(&t);
		}
		if (random() % 2 == 0)
			consume(&t, (unsigned)random() % 100);
		if (random() % 50 == 0)
			turns_tick(&t, now += 100);
		/* No record costs more than 40, and each limit may be passed by one: the first lane's are twice as high. */
		assert_true(turns_outstanding(&t) <= 2 * LIMITS.all + 40);
		for (uint32_t tenant = 0; tenant < TENANTS; tenant++)
			assert_true(cost_of(ring.consumed, ring.n, tenant) <= 2 * LIMITS.tenant + 40);
		for (; checked < ring.n; checked++) {
			const struct said *p = &ring.posted[checked];
			uint32_t *next = &seen[p->tenant][p->user][p->conn];

			assert_true(p->number >= *next);	/* in order; what is missing was withdrawn */
			assert_false(gone[p->request]);
			*next = p->number + 1;
			arrived++;
		}
		while (turns_next_heard(&t) != 0)
			;
	}
	for (uint32_t i = 0; i < TENANTS * USERS * CONNS; i++)
		taken += put_n[i / CONNS / USERS][i / CONNS % USERS][i % CONNS];
	assert_int_equal(taken, arrived + withdrawn);
	assert_true(withdrawn > 0 && t.waited > 0);
	assert_int_equal(turns_outstanding(&t), 0);
	/* All are forgotten when they have been away for long. */
	turns_tick(&t, now + 10 * TURNS_LATELY_MS);
	assert_int_equal(t.node_count, 1);
	turns_fini(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_alone_has_all_and_waits_for_nothing),
		cmocka_unit_test(a_lump_is_never_more_than_its_share),
		cmocka_unit_test(users_of_one_tenant_take_turns_as_well),
		cmocka_unit_test(a_costly_record_keeps_nobody_else_waiting),
		cmocka_unit_test(who_has_left_is_forgotten),
		cmocka_unit_test(each_gets_its_share),
		cmocka_unit_test(what_withdraws_goes_first_in_the_order_of_its_connection),
		cmocka_unit_test(what_waits_is_bounded),
		cmocka_unit_test(nobody_is_asked_for_who_has_gone),
		cmocka_unit_test(a_full_ring_is_tried_again_and_a_refusal_told),
		cmocka_unit_test(who_leaves_sends_all),
		cmocka_unit_test(random_arrivals_keep_every_promise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
