/*
 * aside.c: telemetry that waits for a slow client, against a model of it by the book, at random; what
 * it counts for; and that a value takes the same time however many wait.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "gateway/aside.h"
#include "gateway/output.h"
#include "ws/frame.h"

#define LOTS ((size_t)1 << 40)

static struct hash128
about(uint32_t device)
{
	/* as spread as what comes out of a keyed hash */
	return (struct hash128){ device * UINT64_C(0x9e3779b97f4a7c15), device };
}

/* A value of the device; n: which, and where wanted how long. */
static struct frame *
value(uint32_t device, uint32_t n, size_t len)
{
	char text[4096] = "";
	struct frame *f;

	assert_true(len <= sizeof(text));
	memcpy(text, &n, sizeof(n));
	f = frame_new(WS_FIN | WS_OP_TEXT, slice_bytes(text, len < sizeof(n) ? sizeof(n) : len));
	f->conflatable = true;
	f->about = about(device);
	return f;
}

static void
put(struct aside *a, uint32_t device, uint32_t n, size_t limit, uint32_t now_ms)
{
	struct frame *f = value(device, n, 0);

	aside_put(a, f, limit, now_ms);
	frame_put(f);
}

/* The number of the next value, or -1. */
static int64_t
take(struct aside *a, uint32_t now_ms)
{
	struct frame *f = aside_take(a, now_ms);
	uint32_t n;

	if (f == NULL)
		return -1;
	memcpy(&n, f->data + f->header_len, sizeof(n));
	assert_int_equal(f->refs, 1);
	frame_put(f);
	return n;
}

static void
test_a_moment_costs_nothing(void **state)
{
	struct aside a = { 0 };

	(void)state;
	assert_int_equal(take(&a, 0), -1);
	for (uint32_t i = 0; i < 1000; i++)
		put(&a, i % 3, i, LOTS, i);
	assert_int_equal(a.count, 1000);
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(take(&a, 999), i);
	assert_int_equal(take(&a, 999), -1);
	assert_int_equal(a.bytes, 0);
	assert_int_equal(a.dropped, 0);
	aside_fini(&a);
}

/* After a second each device has its newest value, and those are in the order of their coming. */
static void
test_what_is_old_is_left_out(void **state)
{
	struct aside a = { 0 };
	uint32_t since = UINT32_MAX - 10;	/* the clock's low bits come round */

	(void)state;
	for (uint32_t i = 0; i < 90; i++)
		put(&a, i % 9, i, LOTS, since);
	put(&a, 100, 90, LOTS, since + ASIDE_FRESH_MS);
	assert_int_equal(a.dropped, 81);
	for (uint32_t i = 81; i < 91; i++)
		assert_int_equal(take(&a, since + 5 * ASIDE_FRESH_MS), i);
	assert_int_equal(take(&a, since), -1);
	assert_int_equal(a.dropped, 81);
	assert_int_equal(a.bytes, 0);
	aside_fini(&a);
}

/* Where there is no room a newer value takes the place of the one of its device. */
static void
test_the_limit(void **state)
{
	struct aside a = { 0 };
	struct frame *f = value(1, 500, 4000);
	size_t limit;

	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		put(&a, i, i, LOTS, 0);
	limit = a.bytes;
	for (uint32_t i = 0; i < 8; i++)
		put(&a, i, 100 + i, limit, 0);
	put(&a, 8, 300, limit, 0);
	aside_put(&a, f, limit, 0);		/* more than the one that it would replace leaves */
	assert_int_equal(f->refs, 1);
	assert_int_equal(a.dropped, 10);
	assert_int_equal(a.count, 8);
	assert_int_equal(a.bytes, limit);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(take(&a, 0), 100 + i);
	aside_put(&a, f, limit, 0);		/* more than all of it */
	assert_int_equal(a.count, 0);
	assert_int_equal(a.dropped, 11);
	frame_put(f);
	put(&a, 1, 1, LOTS, 0);
	aside_fini(&a);
	assert_int_equal(a.bytes, 0);
}

/* One device that talks much does not take the room of another's only value. */
static void
test_each_has_its_place(void **state)
{
	struct aside a = { 0 };
	size_t limit;

	(void)state;
	for (uint32_t i = 0; i < 8; i++)
		put(&a, 0, i, LOTS, 0);
	limit = a.bytes;
	for (uint32_t i = 1; i < 8; i++)
		put(&a, i, 100 + i, limit, 0);
	put(&a, 0, 100, limit, 0);
	assert_int_equal(a.dropped, 8);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(take(&a, 0), 100 + i);
	put(&a, 0, 1, limit, 0);		/* and there is room again */
	put(&a, 0, 2, limit, 0);
	assert_int_equal(take(&a, 0), 1);
	assert_int_equal(take(&a, 0), 2);
	aside_fini(&a);
}

struct model {
	uint32_t device, n, at_ms;
};

#define MODEL_ROOM 40

static struct model model[100000];
static size_t model_first, model_last;

/* The last of the device from `from` on, or SIZE_MAX. */
static size_t
model_newest(uint32_t device, size_t from)
{
	for (size_t i = model_last; i-- > from; )
		if (model[i].device == device)
			return i;
	return SIZE_MAX;
}

static uint32_t
model_drop_stale(uint32_t now_ms)
{
	uint32_t n = 0;

	for (; model_first < model_last && now_ms - model[model_first].at_ms >= ASIDE_FRESH_MS &&
	    model_newest(model[model_first].device, model_first + 1) != SIZE_MAX; n++)
		model_first++;
	return n;
}

static uint32_t
model_put(uint32_t device, uint32_t n, uint32_t now_ms, bool *crowded)
{
	size_t kept = model_first, at;
	uint32_t dropped = 0;

	if (!*crowded && model_last - model_first == MODEL_ROOM) {
		for (size_t i = model_first; i < model_last; i++)
			if (model_newest(model[i].device, i + 1) == SIZE_MAX)
				model[kept++] = model[i];
			else
				dropped++;
		model_last = kept;
		*crowded = true;
	}
	if (*crowded && (at = model_newest(device, model_first)) != SIZE_MAX) {
		model[at].n = n;
		return dropped + 1;
	}
	if (model_last - model_first == MODEL_ROOM)
		return dropped + 1;
	model[model_last++] = (struct model){ device, n, now_ms };
	return dropped;
}

/* What the header says, said in the slowest way. */
static void
test_by_the_book(void **state)
{
	uint32_t dropped = 0, now_ms = 0;
	struct aside a = { 0 };
	bool crowded = false;
	size_t limit;

	(void)state;
	for (uint32_t i = 0; i < MODEL_ROOM; i++)
		put(&a, 0, 0, LOTS, 0);
	limit = a.bytes;
	aside_fini(&a);
	srand(4);
	for (uint32_t n = 0; n < 90000; n++) {
		/* now few devices, now more than there is room for; now slower, now faster */
		uint32_t device = (uint32_t)rand() % (n / 9000 % 2 ? 12 : 60);

		now_ms += (uint32_t)rand() % 60;
		dropped += model_drop_stale(now_ms);
		if (rand() % 8 < (n / 3000 % 2 ? 5 : 2)) {
			assert_int_equal(take(&a, now_ms), model_first < model_last ?
			    (int64_t)model[model_first].n : -1);
			model_first += model_first < model_last;
			crowded &= model_first < model_last;
		} else {
			put(&a, device, n, limit, now_ms);
			dropped += model_put(device, n, now_ms, &crowded);
		}
		assert_int_equal(a.count, model_last - model_first);
		assert_int_equal(a.dropped, dropped);
		assert_true(a.bytes <= limit);
	}
	assert_true(dropped > 1000);
	aside_fini(&a);
}

/* Nanoseconds of this process for one more value, where so many devices have one waiting: the best of some tries. */
static double
price(uint32_t devices)
{
	const uint32_t rounds = 20000;
	double best = 1e9;

	for (int try = 0; try < 5; try++) {
		struct aside a = { 0 };
		struct timespec from, to;
		double ns;

		for (uint32_t i = 0; i < devices; i++)
			put(&a, i, i, LOTS, 0);
		(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
		for (uint32_t i = 0; i < rounds; i++)
			put(&a, (i * 7919) % devices, i, a.bytes, 0);
		(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
		ns = ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / rounds;
		if (ns < best)
			best = ns;
		aside_fini(&a);
	}
	return best;
}

/* Memory that is not in the cache makes it some times slower; looking at each value made it a thousand times so. */
static void
test_the_price_of_one_more(void **state)
{
	double few = price(16), many = price(65536);

	(void)state;
	printf("# one more value: %.0f ns beside 16 devices, %.0f ns beside 65536\n", few, many);
	assert_true(many < few * 60);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_moment_costs_nothing),
		cmocka_unit_test(test_what_is_old_is_left_out),
		cmocka_unit_test(test_the_limit),
		cmocka_unit_test(test_each_has_its_place),
		cmocka_unit_test(test_by_the_book),
		cmocka_unit_test(test_the_price_of_one_more)
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
