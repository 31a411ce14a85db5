/*
 * tally.c: counts of each tenant over the newest minutes.  Only the storage
 * process; see tally.h.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "storage/tally.h"

#define BUCKETS_MIN	64u		/* powers of two */
#define SWEEP_STEP	256		/* buckets looked at in one tick */
#define LATENCIES_MIN	16u

void
tally_init(struct tallies *t, int64_t since_mono)
{
	memset(t, 0, sizeof(*t));
	t->since_mono = since_mono;
	t->bucket_count = BUCKETS_MIN;
	t->buckets = must_alloc(BUCKETS_MIN * sizeof(*t->buckets));
}

static void
one_free(struct tally *one)
{
	free(one->latency);
	free(one);
}

void
tally_fini(struct tallies *t)
{
	for (uint32_t i = 0; i < t->bucket_count; i++)
		for (struct tally *one = t->buckets[i], *next; one != NULL; one = next) {
			next = one->next;
			one_free(one);
		}
	free(t->all.latency);
	free(t->buckets);
	memset(t, 0, sizeof(*t));
}

static struct tally **
spot(const struct tallies *t, int64_t tenant_pk)
{
	struct tally **at = &t->buckets[(uint64_t)tenant_pk & (t->bucket_count - 1)];

	while (*at != NULL && (*at)->tenant_pk != tenant_pk)
		at = &(*at)->next;
	return at;
}

static void
grow(struct tallies *t)
{
	struct tally **old = t->buckets;
	uint32_t count = t->bucket_count;

	t->bucket_count *= 2;
	t->buckets = must_alloc(t->bucket_count * sizeof(*t->buckets));
	for (uint32_t i = 0; i < count; i++)
		for (struct tally *one = old[i], *next; one != NULL; one = next) {
			struct tally **at = &t->buckets[(uint64_t)one->tenant_pk & (t->bucket_count - 1)];

			next = one->next;
			one->next = *at;
			*at = one;
		}
	free(old);
}

static struct tally *
have(struct tallies *t, int64_t tenant_pk)
{
	struct tally **at = spot(t, tenant_pk), *one = *at;

	if (one != NULL)
		return one;
	*at = one = must_alloc(sizeof(*one));
	one->tenant_pk = tenant_pk;
	if (++t->count > t->bucket_count)
		grow(t);
	return one;
}

/* The newest come over the oldest; a tenant with few has few places. */
static void
add_latency(struct tally *one, uint32_t step, uint32_t ms)
{
	if (one->latency_count == one->latencies && one->latencies < TALLY_LATENCIES) {
		/* Not gone round yet: the oldest is at the first place. */
		one->latencies = one->latencies == 0 ? LATENCIES_MIN : one->latencies * 2;
		one->latency = must_realloc(one->latency, one->latencies * sizeof(*one->latency));
		one->latency_at = one->latency_count;
	}
	one->latency[one->latency_at] = (struct tally_latency){ step, ms };
	one->latency_at = (one->latency_at + 1) % one->latencies;
	if (one->latency_count < one->latencies)
		one->latency_count++;
}

static void
add(struct tally *one, enum tally_count what, int64_t n, int64_t mono)
{
	uint32_t *row = window_row(&one->step, &one->counts[0][0], TALLY_COUNTS, mono);

	if (what == TALLY_WAITING)
		one->waiting += n;
	else if (what == TALLY_LATENCY)
		add_latency(one, (uint32_t)one->step, n < UINT32_MAX ? (uint32_t)n : UINT32_MAX);
	else
		row[what] += (uint32_t)n;
}

void
tally_add(struct tallies *t, int64_t tenant_pk, enum tally_count what, int64_t n, int64_t mono)
{
	add(have(t, tenant_pk), what, n, mono);
	add(&t->all, what, n, mono);
}

void
tally_sweep(struct tallies *t, int64_t mono)
{
	for (unsigned n = 0; n < SWEEP_STEP; n++) {
		struct tally **at = &t->buckets[t->sweep_at & (t->bucket_count - 1)], *one;

		while ((one = *at) != NULL) {
			if (one->waiting != 0 || !window_is_over(one->step, mono)) {
				at = &one->next;
				continue;
			}
			*at = one->next;
			one_free(one);
			t->count--;
		}
		t->sweep_at++;
	}
}

static int
by_ms(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Nearest rank.  What took no whole millisecond is shown as half of one. */
static void
put_percentiles(struct buf *b, const struct tally *one)
{
	static const struct {
		const char *name;
		unsigned percent;
	} shown[] = { { "p50", 50 }, { "p90", 90 }, { "p99", 99 } };
	uint32_t ms[TALLY_LATENCIES];
	size_t n = 0;

	for (uint32_t i = 0; i < one->latency_count; i++)
		if ((uint32_t)one->step - one->latency[i].step < WINDOW_STEPS)
			ms[n++] = one->latency[i].ms;
	qsort(ms, n, sizeof(ms[0]), by_ms);
	buf_puts(b, "\"latencyMs\":{");
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		buf_printf(b, "%s\"%s\":", i > 0 ? "," : "", shown[i].name);
		if (n == 0)
			buf_puts(b, "null");
		else if (ms[(n * shown[i].percent + 99) / 100 - 1] == 0)
			buf_puts(b, "0.5");
		else
			buf_put_u64(b, ms[(n * shown[i].percent + 99) / 100 - 1]);
	}
	buf_putc(b, '}');
}

void
tally_put_json(struct tallies *t, struct buf *b, int64_t tenant_pk, int64_t mono)
{
	static const char *const names[TALLY_COUNTS] = {
		[TALLY_CREATED] = "created", [TALLY_EXECUTED] = "executed", [TALLY_FAILED] = "failed",
		[TALLY_TIMEOUT] = "timeout", [TALLY_EXPIRED] = "expired", [TALLY_CANCELLED] = "cancelled"
	};
	struct tally nothing = { .step = 0 };
	struct tally *one = tenant_pk == 0 ? &t->all : *spot(t, tenant_pk);
	uint64_t sum[TALLY_COUNTS] = { 0 };

	if (one == NULL)
		one = &nothing;
	window_row(&one->step, &one->counts[0][0], TALLY_COUNTS, mono);
	for (unsigned i = 0; i < WINDOW_STEPS; i++)
		for (unsigned k = 0; k < TALLY_COUNTS; k++)
			sum[k] += one->counts[i][k];
	buf_printf(b, "{\"windowMs\":%lld,\"events\":%llu,\"commands\":{",
	    (long long)window_ms(mono, t->since_mono), (unsigned long long)sum[TALLY_EVENTS]);
	for (unsigned k = TALLY_CREATED; k < TALLY_COUNTS; k++)
		buf_printf(b, "\"%s\":%llu,", names[k], (unsigned long long)sum[k]);
	buf_printf(b, "\"pending\":%lld,", (long long)one->waiting);
	put_percentiles(b, one);
	buf_puts(b, "}}");
}
