/*
 * Holdings and buckets under full load from several processes that are killed again and again.
 *
 * Holdings: there are never more than the limit, each process holds what it took and did not give
 * back, and of a dead one nothing is left. Each process notes what it holds; a kill between the
 * table and the note is off by the one that was in flight, and by no more.
 *
 * Buckets: all processes together take no more than the rate and the burst allow, and no less than
 * is due, but for those that a killed one took and did not count. Keys come and go, more than there
 * is room for: none shares another's bucket.
 */
#include <signal.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/must.h"

#include "shm/buckets.h"
#include "shm/holdings.h"
#include "tests/shm/lib.h"

#define WORKERS		5
#define THINGS		30
#define MOST		7
#define BUCKETS		20
#define OTHERS		200000		/* keys that are used once */
#define OWN		64		/* buckets that each process holds to its end */
#define SECOND_NS	UINT64_C(1000000000)

struct worker {
	_Atomic int busy;		/* between the table and the note: with this thing + 1 */
	_Atomic uint32_t holds[THINGS];
	_Atomic uint64_t ops;
};

struct shared {
	_Atomic int stop;
	struct worker worker[WORKERS];
	_Atomic uint64_t full, refused, waited, first_refused;
	_Atomic uint64_t taken[BUCKETS];
	_Atomic uint32_t others;
};

static struct shared *shared;
static const struct bucket_rate rate = { SECOND_NS / 1000, 50 * (SECOND_NS / 1000) };

static struct hash128
thing(uint32_t i)
{
	return (struct hash128){ i * 0x9e3779b97f4a7c15u, ~(uint64_t)i };
}

static struct hash128
bucket(uint32_t i)
{
	return (struct hash128){ i * 0xbf58476d1ce4e5b9u, i };
}

static uint64_t
now_ns(void)
{
	return (uint64_t)clock_mono_us() * 1000;
}

static void
take_or_give(struct shm *shm, struct worker *me, unsigned slot)
{
	uint32_t k = (uint32_t)lib_random_below(THINGS), held = me->holds[k], sum;
	int taken;

	EXPECT(holdings_of(shm, thing(k), slot) == held, "%u: holds %u, noted %u", k,
	    holdings_of(shm, thing(k), slot), held);
	sum = holdings_sum(shm, thing(k));
	EXPECT(sum <= MOST, "%u of at most %d", sum, MOST);
	me->busy = (int)k + 1;
	if (held > 0 && lib_random_below(2) == 0) {
		holdings_give(shm, thing(k), slot);
		me->holds[k]--;
	} else {
		taken = holdings_take(shm, thing(k), slot, MOST);
		EXPECT(taken >= 0, "full");
		if (taken == 1)
			me->holds[k]++;
		else
			shared->refused++;
	}
	me->busy = 0;
}

static void
take_from_buckets(struct shm *shm, uint32_t held[BUCKETS], unsigned slot)
{
	uint32_t k = (uint32_t)lib_random_below(BUCKETS);
	int64_t wait_ns;

	/* Half of them are held for a while, half are looked up each time. */
	if (k < BUCKETS / 2 && held[k] == BUCKET_NONE)
		held[k] = buckets_hold(shm, bucket(k), slot, now_ns());
	if (k < BUCKETS / 2 && held[k] != BUCKET_NONE) {
		wait_ns = buckets_take_held(shm, held[k], &rate, now_ns());
		if (lib_random_below(64) == 0) {
			buckets_release(shm, held[k], slot);
			held[k] = BUCKET_NONE;
		}
	} else {
		wait_ns = buckets_take(shm, bucket(k), &rate, now_ns());
	}
	if (wait_ns == 0)
		shared->taken[k]++;
	else if (wait_ns > 0)
		shared->waited++;
	else
		shared->full++;
	/* A key that nobody used before has all of its burst. */
	k = BUCKETS + shared->others++ % OTHERS;
	wait_ns = buckets_take(shm, bucket(k), &rate, now_ns());
	if (wait_ns > 0 && shared->others <= OTHERS)
		shared->first_refused++;
	if (wait_ns < 0)
		shared->full++;
}

static void
work(struct shm *shm, void *arg)
{
	struct worker *me = arg;
	unsigned slot = (unsigned)(me - shared->worker), i;
	uint32_t held[BUCKETS], own[OWN];

	for (i = 0; i < BUCKETS; i++)
		held[i] = BUCKET_NONE;
	for (i = 0; i < OWN; i++)
		own[i] = buckets_hold(shm, bucket(BUCKETS + OTHERS + shared->others++), slot, now_ns());
	while (!shared->stop) {
		take_or_give(shm, me, slot);
		take_from_buckets(shm, held, slot);
		me->ops++;
	}
	for (i = 0; i < BUCKETS; i++)
		if (held[i] != BUCKET_NONE)
			buckets_release(shm, held[i], slot);
	for (i = 0; i < OWN; i++)
		if (own[i] != BUCKET_NONE)
			buckets_release(shm, own[i], slot);
}

/* Nobody holds a bucket, and all are full: there is room for any number that come and go. */
static void
check_room(struct shm *shm)
{
	uint64_t at_ns = now_ns() + 3600 * SECOND_NS;
	uint32_t i;

	for (i = 0; i < OTHERS; i++, at_ns += rate.gap_ns)
		EXPECT(buckets_take(shm, bucket(2 * OTHERS + i), &rate, at_ns) == 0, "%u: no room", i);
	EXPECT(buckets_count(shm) < 1000, "%u buckets are left", buckets_count(shm));
}

/* All is given back but what others hold. */
static void
check_dead(struct shm *shm, unsigned slot)
{
	struct worker *dead = &shared->worker[slot];
	uint32_t k;

	for (k = 0; k < THINGS; k++) {
		EXPECT(holdings_of(shm, thing(k), slot) == 0, "the dead slot %u holds thing %u", slot,
		    k);
		dead->holds[k] = 0;
	}
	dead->busy = 0;
}

/* In front of the burial: what the table says is what it noted, but for what was in flight. */
static void
check_dying(struct shm *shm, unsigned slot)
{
	struct worker *dead = &shared->worker[slot];
	uint32_t k, held, noted;

	for (k = 0; k < THINGS; k++) {
		held = holdings_of(shm, thing(k), slot);
		noted = dead->holds[k];
		EXPECT(held == noted || (dead->busy == (int)k + 1 && held + 1 >= noted &&
		    held <= noted + 1), "thing %u: held %u, noted %u", k, held, noted);
	}
}

int
main(void)
{
	struct shm_sizes sizes = { .slots = WORKERS, .devices = 16, .commands = 16, .topics = 16,
	    .limits = 256, .mailbox_bytes = 4096, .counters = 1 };
	uint64_t ops = 0, began_ns, ended_ns, least, most;
	unsigned kills, i, slot;
	pid_t pid[WORKERS];
	struct shm *shm;

	lib_start("shm/limits", 300);
	kills = lib_kills(200);
	shm = shm_create(&sizes);
	must(shm != NULL);
	shared = lib_share(sizeof(*shared));
	began_ns = now_ns();
	for (i = 0; i < WORKERS; i++)
		pid[i] = lib_spawn(shm, i, work, &shared->worker[i]);
	for (i = 0; i < kills; i++) {
		lib_pause_us((unsigned)lib_random_below(4000));
		slot = (unsigned)lib_random_below(WORKERS);
		kill(pid[slot], SIGKILL);
		lib_wait_zombie(pid[slot]);
		check_dying(shm, slot);
		lib_reap(shm, slot, pid[slot]);
		check_dead(shm, slot);
		pid[slot] = lib_spawn(shm, slot, work, &shared->worker[slot]);
	}
	shared->stop = 1;
	for (i = 0; i < WORKERS; i++) {
		struct worker *w = &shared->worker[i];

		lib_wait_zombie(pid[i]);
		check_dying(shm, i);
		EXPECT(lib_reap(shm, i, pid[i]) == 0, "worker %u", i);
		check_dead(shm, i);
		ops += w->ops;
	}
	ended_ns = now_ns();
	check_room(shm);
	EXPECT(holdings_count(shm) == 0, "%u things are held by nobody", holdings_count(shm));
	most = (ended_ns - began_ns) / rate.gap_ns + rate.reach_ns / rate.gap_ns;
	for (i = 0; i < BUCKETS; i++) {
		EXPECT(shared->taken[i] <= most, "bucket %u gave %llu of at most %llu", i,
		    (unsigned long long)shared->taken[i], (unsigned long long)most);
	}
	/* Where there was always somebody to take (one process is enough), nothing was lost either. */
	least = most / 2 < 50 ? most / 2 : 50;
	for (i = 0; i < BUCKETS; i++)
		EXPECT(shared->taken[i] + kills >= least, "bucket %u gave %llu only", i,
		    (unsigned long long)shared->taken[i]);
	EXPECT(shared->first_refused == 0, "%llu new keys were told to wait",
	    (unsigned long long)shared->first_refused);
	printf("%u killed, %llu rounds, %llu takings refused, %llu told to wait, %llu found no room, "
	    "%u buckets are left\n", kills, (unsigned long long)ops,
	    (unsigned long long)shared->refused, (unsigned long long)shared->waited,
	    (unsigned long long)shared->full, buckets_count(shm));
	shm_free(shm);
	return lib_end();
}
