/*
 * Pending commands: an ack, a second ack and the timeout race for each, and exactly one wins;
 * then the same while the racers are killed: a decision of a dead process that nobody was told
 * is taken back, and decided anew, so that in the end each command was decided once.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "base/must.h"

#include "shm/pending.h"
#include "tests/shm/lib.h"

#define RACERS		3
#define BATCH		1000
#define COMMANDS	1500		/* alive at a time, in the second part */

struct shared {
	pthread_barrier_t begin, end;
	_Atomic int stop;
	uint64_t batch;
	_Atomic uint8_t won[RACERS][BATCH];
	/* Second part: */
	_Atomic uint64_t number[COMMANDS];	/* of the command in this place; 0 = none */
	_Atomic uint64_t told[COMMANDS];	/* number << 8 | state: storage was told */
	_Atomic uint64_t wins, stale;
};

static struct shared *shared;

static const enum pending_state wish[RACERS] = { PENDING_EXECUTED, PENDING_FAILED,
	PENDING_TIMEOUT };

static void
id_of(uint64_t n, uint8_t id[16])
{
	memset(id, 0, 16);
	memcpy(id, "\x01\x92\x00\x00", 4);
	memcpy(id + 8, &n, 8);
}

static struct hash128
device_of(uint64_t n)
{
	return (struct hash128){ n * 0x9e3779b97f4a7c15u, 1 };
}

static void
race(struct shm *shm, void *arg)
{
	unsigned self = shm_self(shm);
	enum pending_verdict verdict;
	uint8_t id[16];
	uint64_t i;

	(void)arg;
	for (;;) {
		pthread_barrier_wait(&shared->begin);
		if (shared->stop)
			return;
		for (i = 0; i < BATCH; i++) {
			id_of(shared->batch + i, id);
			if (self == 0 && i % 3 == 0)
				pending_move(
				    shm, id, device_of(shared->batch + i), PENDING_ACCEPTED);
			verdict = pending_move(shm, id, device_of(shared->batch + i), wish[self]);
			EXPECT(verdict == PENDING_WON || verdict == PENDING_LOST, "verdict %d",
			    verdict);
			shared->won[self][i] = verdict == PENDING_WON;
		}
		pthread_barrier_wait(&shared->end);
	}
}

static void
check_batch(struct shm *shm, uint64_t wins[RACERS])
{
	struct pending_view v;
	uint8_t id[16];
	unsigned i, r, winners, winner;

	for (i = 0; i < BATCH; i++) {
		for (r = winners = winner = 0; r < RACERS; r++) {
			if (!shared->won[r][i])
				continue;
			winners++;
			winner = r;
			wins[r]++;
		}
		EXPECT(winners == 1, "%u won", winners);
		id_of(shared->batch + i, id);
		EXPECT(pending_find(shm, id, &v) == 1 && v.state == wish[winner] &&
			   v.decided_by == winner,
		    "state %d by %u, won by %u", v.state, v.decided_by, winner);
		EXPECT(pending_remove(shm, id) == 1, "remove");
	}
}

static void
race_all(struct shm *shm, uint64_t races)
{
	uint64_t wins[RACERS] = { 0 }, n;
	pthread_barrierattr_t attr;
	pid_t pid[RACERS];
	uint8_t id[16];
	unsigned i;

	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->begin, &attr, RACERS + 1);
	pthread_barrier_init(&shared->end, &attr, RACERS + 1);
	for (i = 0; i < RACERS; i++)
		pid[i] = lib_spawn(shm, i, race, NULL);
	for (n = 1; n < races; n += BATCH) {
		shared->batch = n;
		for (i = 0; i < BATCH; i++) {
			id_of(n + i, id);
			EXPECT(pending_add(shm, id, device_of(n + i), 0, PENDING_SENT) == 0, "add");
		}
		pthread_barrier_wait(&shared->begin);
		pthread_barrier_wait(&shared->end);
		check_batch(shm, wins);
	}
	shared->stop = 1;
	pthread_barrier_wait(&shared->begin);
	for (i = 0; i < RACERS; i++)
		EXPECT(lib_reap(shm, i, pid[i]) == 0, "racer %u", i);
	EXPECT(pending_count(shm) == 0, "%u left", pending_count(shm));
	shared->stop = 0;
	printf("%llu races: executed won %llu, failed %llu, timeout %llu\n",
	    (unsigned long long)(n - 1), (unsigned long long)wins[0], (unsigned long long)wins[1],
	    (unsigned long long)wins[2]);
	fflush(stdout);
}

/* Second part. */

static void
decide(struct shm *shm, void *arg)
{
	unsigned self = shm_self(shm);
	enum pending_verdict verdict;
	uint64_t n, place, none;
	uint8_t id[16];

	(void)arg;
	while (!shared->stop) {
		place = lib_random_below(COMMANDS);
		n = shared->number[place];
		/*
		 * Sometimes one that is over for long: its entry may be another command's by
		 * now.
		 */
		if (lib_random_below(8) == 0 && n > COMMANDS)
			n -= COMMANDS;
		if (n == 0)
			continue;
		id_of(n, id);
		verdict = pending_move(shm, id, device_of(n + 1), wish[self]);
		EXPECT(verdict == PENDING_OTHER_DEVICE || verdict == PENDING_UNKNOWN, "verdict %d",
		    verdict);
		if (lib_random_below(4) == 0)
			pending_move(shm, id, device_of(n), PENDING_ACCEPTED);
		verdict = pending_move(shm, id, device_of(n), wish[self]);
		if (verdict == PENDING_UNKNOWN)
			shared->stale++;
		if (verdict != PENDING_WON)
			continue;
		/* Tells storage; long enough after it that some die in between. */
		if (lib_random_below(4) == 0)
			sched_yield();
		none = 0;
		EXPECT(atomic_compare_exchange_strong(&shared->told[place], &none,
		    n << 8 | (uint64_t)wish[self]), "%llu decided twice: %llu before",
		    (unsigned long long)n, (unsigned long long)none >> 8);
		shared->wins++;
	}
}

struct storage {
	struct shm *shm;
	uint64_t next, done, undone;
};

static void
settle(struct storage *st)
{
	struct pending_view v;
	uint64_t place, told, n;
	uint8_t id[16];

	for (place = 0; place < COMMANDS; place++) {
		told = shared->told[place];
		n = shared->number[place];
		if (n != 0 && told == 0)
			continue;
		if (n != 0) {
			id_of(n, id);
			EXPECT(told >> 8 == n, "told of %llu instead of %llu",
			    (unsigned long long)told >> 8, (unsigned long long)n);
			EXPECT(pending_find(st->shm, id, &v) == 1 && v.state == (told & 0xff),
			    "state");
			EXPECT(pending_remove(st->shm, id) == 1, "remove");
			st->done++;
		}
		/* Numbers of one place differ by multiples of COMMANDS. */
		n = st->next * COMMANDS + place + 1;
		shared->told[place] = 0;
		shared->number[place] = n;
		id_of(n, id);
		EXPECT(pending_add(st->shm, id, device_of(n), 0, PENDING_SENT) == 0, "add");
	}
	st->next++;
}

/* Of a dead process: what it decided and did not tell. */
static void
take_back(void *arg, const struct pending_view *v)
{
	struct storage *st = arg;
	uint64_t n;

	if (v->state < PENDING_EXECUTED ||
	    slot_is_live(st->shm, v->decided_by, v->decided_generation))
		return;
	memcpy(&n, v->id + 8, 8);
	if (shared->told[(n - 1) % COMMANDS] != 0)
		return;
	EXPECT(pending_undecide(st->shm, v->id, v->decided_by, v->decided_generation) == 1,
	    "undecide");
	EXPECT(
	    pending_undecide(st->shm, v->id, v->decided_by, v->decided_generation) == 0, "again");
	st->undone++;
}

static void
decide_and_die(struct shm *shm, unsigned kills)
{
	struct storage st = { shm, 1, 0, 0 };
	pid_t pid[RACERS];
	unsigned i, slot;
	uint64_t rounds;

	settle(&st);
	for (i = 0; i < RACERS; i++)
		pid[i] = lib_spawn(shm, i, decide, NULL);
	for (i = 0; i < kills; i++) {
		for (rounds = lib_random_below(20); rounds > 0; rounds--) {
			settle(&st);
			lib_pause_us(100);
		}
		slot = (unsigned)lib_random_below(RACERS);
		lib_kill(shm, slot, pid[slot]);
		pending_walk(shm, take_back, &st);
		pid[slot] = lib_spawn(shm, slot, decide, NULL);
	}
	shared->stop = 1;
	for (i = 0; i < RACERS; i++)
		EXPECT(lib_reap(shm, i, pid[i]) == 0, "racer %u", i);
	pending_walk(shm, take_back, &st);
	settle(&st);
	EXPECT(pending_count(shm) == COMMANDS, "%u left", pending_count(shm));
	printf(
	    "%u killed, %llu decided, %llu settled, %llu of the dead taken back, %llu too late\n",
	    kills, (unsigned long long)shared->wins, (unsigned long long)st.done,
	    (unsigned long long)st.undone, (unsigned long long)shared->stale);
}

int
main(void)
{
	struct shm_sizes sizes = { .slots = RACERS, .devices = 16, .commands = 4096, .topics = 16, .limits = 16,
	    .mailbox_bytes = 4096, .counters = 1 };
	struct shm *shm;

	lib_start("shm/pending", 300);
	shm = shm_create(&sizes);
	must(shm != NULL);
	shared = lib_share(sizeof(*shared));
	race_all(shm, 1000000);
	decide_and_die(shm, lib_kills(200));
	shm_free(shm);
	return lib_end();
}
