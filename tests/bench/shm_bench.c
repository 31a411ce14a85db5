/*
 * shm_bench: what the operations of shm/ cost, in nanoseconds, the best of some rounds.
 * Everything runs in two processes; on a busy machine read the numbers as upper bounds.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/must.h"

#include "shm/buckets.h"
#include "shm/directory.h"
#include "shm/holdings.h"
#include "shm/mailbox.h"
#include "shm/pending.h"
#include "shm/topics.h"

#define ROUNDS	5
#define RECORDS	1000000
#define KEYS	100000
#define TURNS	20000

static double
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static struct hash128
key(uint64_t i)
{
	return (struct hash128){ (i + 1) * 0x9e3779b97f4a7c15u, i * 0xbf58476d1ce4e5b9u };
}

static void
make_id(uint64_t i, uint8_t id[16])
{
	struct hash128 h = key(i);

	memcpy(id, &h, 16);
}

static void
drain(struct shm *shm, unsigned slot, unsigned records, int sleep)
{
	struct pollfd pfd = { .fd = mailbox_fd(shm, slot), .events = POLLIN };
	struct mailbox_reader r;
	struct mail mail;
	unsigned n = 0, batch;

	mailbox_reader_init(&r, shm, slot);
	while (n < records) {
		for (batch = 0; batch < 64 && mailbox_next(&r, &mail); batch++)
			n++;
		if (batch != 0) {
			mailbox_consume(&r);
		} else if (sleep && mailbox_sleep(&r)) {
			poll(&pfd, 1, -1);
			mailbox_wake(&r);
		}
	}
}

static void
post(struct shm *shm, unsigned to)
{
	static const char data[100];
	struct iovec iov = { (void *)(uintptr_t)data, sizeof(data) };

	while (mailbox_post(shm, to, 1, &iov, 1) == -1) {
		must(errno == EAGAIN);
		sched_yield();
	}
}

static pid_t
start(struct shm *shm, unsigned slot)
{
	pid_t pid;

	slot_take(shm, slot, 1, slot);
	pid = fork();
	must(pid != -1);
	if (pid == 0)
		shm_set_self(shm, slot);
	else
		slot_set_pid(shm, slot, pid);
	return pid;
}

static void
end(struct shm *shm, unsigned slot, pid_t pid)
{
	must(waitpid(pid, NULL, 0) == pid);
	slot_died(shm, slot);
}

/* From the first post to the last record read. */
static double
stream(struct shm *shm, int sleep)
{
	pid_t pid = start(shm, 1);
	double begin;
	int i;

	if (pid == 0) {
		drain(shm, 1, RECORDS, sleep);
		_exit(0);
	}
	begin = now_ns();
	for (i = 0; i < RECORDS; i++)
		post(shm, 1);
	end(shm, 1, pid);
	return (now_ns() - begin) / RECORDS;
}

/* One process is both ends: what the code itself costs. */
static double
to_self(struct shm *shm, int sleep)
{
	struct mailbox_reader r;
	struct mail mail;
	double begin;
	int i;

	(void)sleep;
	mailbox_reader_init(&r, shm, 2);
	begin = now_ns();
	for (i = 0; i < RECORDS; i++) {
		post(shm, 2);
		if (i % 64 != 63)
			continue;
		while (mailbox_next(&r, &mail))
			;
		mailbox_consume(&r);
	}
	return (now_ns() - begin) / RECORDS;
}

/* There and back, each end asleep when the record comes, or both awake. */
static double
turns(struct shm *shm, int sleep)
{
	pid_t pid = start(shm, 1);
	double begin;
	int i;

	if (pid == 0) {
		for (i = 0; i < TURNS; i++) {
			drain(shm, 1, 1, sleep);
			post(shm, 2);
		}
		_exit(0);
	}
	begin = now_ns();
	for (i = 0; i < TURNS; i++) {
		post(shm, 1);
		drain(shm, 2, 1, sleep);
	}
	begin = (now_ns() - begin) / TURNS;
	end(shm, 1, pid);
	return begin;
}

static void
claim_all(struct shm *shm, uint64_t i)
{
	must(directory_claim(shm, key(i), 1, DIRECTORY_WS, i + 1, 1, 1, NULL, NULL) == 1);
}

static void
find_all(struct shm *shm, uint64_t i)
{
	struct directory_view v;

	must(directory_find(shm, key(i), &v) == 1);
}

static void
touch_all(struct shm *shm, uint64_t i)
{
	directory_touch(shm, (uint32_t)i, 1, 5);
}

static void
release_all(struct shm *shm, uint64_t i)
{
	must(directory_release(shm, key(i), DIRECTORY_WS, i + 1, NULL) == 1);
}

static void
add_all(struct shm *shm, uint64_t i)
{
	uint8_t id[16];

	make_id(i, id);
	must(pending_add(shm, id, key(i), 1, PENDING_SENT) == 0);
}

static void
move_all(struct shm *shm, uint64_t i)
{
	uint8_t id[16];

	make_id(i, id);
	must(pending_move(shm, id, key(i), PENDING_EXECUTED) == PENDING_WON);
}

static void
remove_all(struct shm *shm, uint64_t i)
{
	uint8_t id[16];

	make_id(i, id);
	must(pending_remove(shm, id) == 1);
}

static void
join_all(struct shm *shm, uint64_t i)
{
	must(topics_join(shm, key(i), 2) == 0);
}

static void
look_all(struct shm *shm, uint64_t i)
{
	must(topics_slots(shm, key(i)) != 0);
}

static void
look_at_one(struct shm *shm, uint64_t i)
{
	(void)i;
	must(topics_slots(shm, key(7)) != 0);
}

static void
leave_all(struct shm *shm, uint64_t i)
{
	topics_leave(shm, key(i), 2);
}

static void
hold_all(struct shm *shm, uint64_t i)
{
	must(holdings_take(shm, key(i), 2, HOLDINGS_ANY) == 1);
}

static void
give_all(struct shm *shm, uint64_t i)
{
	holdings_give(shm, key(i), 2);
}

static void
take_from_all(struct shm *shm, uint64_t i)
{
	static const struct bucket_rate rate = { 1000, 1000000000 };

	must(buckets_take(shm, key(i), &rate, (uint64_t)now_ns()) == 0);
}

static void
take_from_held(struct shm *shm, uint64_t i)
{
	static const struct bucket_rate rate = { 1, 1000000000 };
	static uint32_t bucket = BUCKET_NONE;

	if (bucket == BUCKET_NONE)
		bucket = buckets_hold(shm, key(KEYS + 7), 2, 0);
	must(buckets_take_held(shm, bucket, &rate, 1000000 + i) == 0);
}

static const struct step {
	const char *name;
	void (*run)(struct shm *shm, uint64_t i);
} steps[] = {
	{ "directory_claim, new", claim_all },
	{ "directory_claim, again", claim_all },
	{ "directory_find", find_all },
	{ "directory_touch", touch_all },
	{ "directory_release", release_all },
	{ "pending_add", add_all },
	{ "pending_move", move_all },
	{ "pending_remove", remove_all },
	{ "topics_join", join_all },
	{ "topics_slots", look_all },
	{ "topics_slots, one topic", look_at_one },
	{ "topics_leave", leave_all },
	{ "holdings_take, the first", hold_all },
	{ "holdings_take, another", hold_all },
	{ "holdings_give, not the last", give_all },
	{ "holdings_give, the last", give_all },
	{ "buckets_take", take_from_all },
	{ "buckets_take_held", take_from_held },
};

#define STEPS	(sizeof(steps) / sizeof(steps[0]))

static void
run_steps(struct shm *shm)
{
	double best[STEPS], begin, each;
	uint64_t i;
	size_t s;
	int round;

	for (round = 0; round < ROUNDS; round++) {
		for (s = 0; s < STEPS; s++) {
			begin = now_ns();
			for (i = 0; i < KEYS; i++)
				steps[s].run(shm, i);
			each = (now_ns() - begin) / KEYS;
			if (round == 0 || each < best[s])
				best[s] = each;
		}
	}
	for (s = 0; s < STEPS; s++)
		printf("%-42s %8.0f ns\n", steps[s].name, best[s]);
}

static void
report(struct shm *shm, const char *name, double (*run)(struct shm *shm, int sleep), int sleep)
{
	double best = 0, each;
	int round;

	for (round = 0; round < ROUNDS; round++) {
		each = run(shm, sleep);
		if (round == 0 || each < best)
			best = each;
	}
	printf("%-42s %8.0f ns\n", name, best);
	fflush(stdout);
}

int
main(void)
{
	struct shm_sizes sizes = { .slots = 3, .devices = 1000000, .commands = 1000000,
	    .topics = 1000000, .limits = 1000000, .mailbox_bytes = 1 << 20, .counters = 1 };
	struct shm *shm = shm_create(&sizes);

	must(shm != NULL);
	slot_take(shm, 2, 1, 2);
	slot_set_pid(shm, 2, getpid());
	shm_set_self(shm, 2);
	report(shm, "post and read 100 bytes, one process", to_self, 0);
	report(shm, "post and read 100 bytes, reader awake", stream, 0);
	report(shm, "post and read 100 bytes, reader may sleep", stream, 1);
	report(shm, "there and back, both awake", turns, 0);
	report(shm, "there and back, both asleep", turns, 1);
	printf("%d keys in tables for 1000000, one process:\n", KEYS);
	run_steps(shm);
	shm_free(shm);
	return 0;
}
