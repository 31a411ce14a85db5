/*
 * Kills a process at every test point of every operation, and whoever repairs after it at every
 * point of the repair, and looks what is left: the operation happened or it did not, and all else
 * is as it was.
 *
 * Three ways to find out that it died: the master says so (slot_died); another process needs
 * the lock while the dead one is still a zombie that nobody has reaped; that other process is
 * killed too while it repairs, and a third one comes.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/must.h"

#include "shm/buckets.h"
#include "shm/directory.h"
#include "shm/holdings.h"
#include "shm/mailbox.h"
#include "shm/pending.h"
#include "shm/segment.h"
#include "shm/topics.h"
#include "tests/shm/lib.h"

#define MOST_POINTS	4000
#define SLOT_READER	3
#define OTHERS          1300 /* some 20 entries in each stripe: buckets are being split */

enum way { BY_MASTER, BY_ZOMBIE, BY_ZOMBIE_TWICE, WAYS };

/* What can be asked of a thing; compared before and after. */
struct answer {
	int found;
	struct directory_view directory;
	struct pending_view pending;
	uint64_t slots;
	uint32_t held[3];		/* by two slots, and in all */
	size_t mail;
};

struct operation {
	const char *name;
	void (*prepare)(struct shm *shm);
	void (*run)(struct shm *shm);
	void (*ask)(struct shm *shm, struct answer *out);
	void (*check_others)(
	    struct shm *shm); /* NULL: a mailbox, of which a writer alone needs the lock */
	int ways;
};

static const struct hash128 target = { 0x1234567890abcdefu, 0xfedcba0987654321u };
static const uint8_t target_id[16] = "target-command-1";

static struct {
	_Atomic unsigned *hits;		/* of test points, in the child */
	unsigned kill_at;
	const char *only;		/* points whose name begins so */
	char (*where)[64];		/* the point where the last one died */
} points;

static void
count_and_die(const char *where)
{
	if (points.only != NULL && strncmp(where, points.only, strlen(points.only)) != 0)
		return;
	if (++*points.hits != points.kill_at)
		return;
	strncpy(*points.where, where, sizeof(*points.where) - 1);
	raise(SIGKILL);
}

static struct hash128
other(unsigned i)
{
	return (struct hash128){ (i + 1) * 0x9e3779b97f4a7c15u, i };
}

/* Directory */

static void
fill_directory(struct shm *shm)
{
	unsigned i;

	for (i = 0; i < OTHERS; i++)
		EXPECT(
		    directory_claim(shm, other(i), i, DIRECTORY_WS, i + 1, i, i, NULL, NULL) == 1,
		    "%u", i);
}

static void
check_directory(struct shm *shm)
{
	struct directory_view v;
	unsigned i;

	for (i = 0; i < OTHERS; i++) {
		EXPECT(directory_find(shm, other(i), &v) == 1 && v.device_pk == i &&
		    v.ref[0] == i + 1 && v.epoch[0] == i && v.since_ms[0] == i, "other %u", i);
	}
	EXPECT(directory_count(shm) == OTHERS + (unsigned)directory_find(shm, target, &v),
	    "count %u", directory_count(shm));
}

static void
ask_directory(struct shm *shm, struct answer *out)
{
	out->found = directory_find(shm, target, &out->directory);
	if (!out->found)
		memset(&out->directory, 0, sizeof(out->directory));
	out->directory.index = out->directory.generation = 0;
	out->directory.last_seen_mono_ms = 0;	/* when it was claimed */
}

static void
claim(struct shm *shm)
{
	directory_claim(shm, target, 5, DIRECTORY_WS, 1001, 10, 100, NULL, NULL);
}

static void
claim_over(struct shm *shm)
{
	directory_claim(shm, target, 6, DIRECTORY_WS, 1002, 11, 200, NULL, NULL);
}

static void
claim_mqtt(struct shm *shm)
{
	directory_claim(shm, target, 5, DIRECTORY_MQTT, 1003, 12, 300, NULL, NULL);
}

static void
release(struct shm *shm)
{
	directory_release(shm, target, DIRECTORY_WS, 1001, NULL);
}

static void
prepare_claimed(struct shm *shm)
{
	fill_directory(shm);
	claim(shm);
}

static void
prepare_claimed_twice(struct shm *shm)
{
	prepare_claimed(shm);
	claim_mqtt(shm);
}

/* Pending */

static void
other_id(unsigned i, uint8_t id[16])
{
	struct hash128 h = other(i);

	memcpy(id, &h, 16);
}

static void
fill_pending(struct shm *shm)
{
	uint8_t id[16];
	unsigned i;

	for (i = 0; i < OTHERS; i++) {
		other_id(i, id);
		EXPECT(pending_add(shm, id, other(i + 1), i, PENDING_SENT) == 0, "%u", i);
	}
}

static void
check_pending(struct shm *shm)
{
	struct pending_view v;
	uint8_t id[16];
	unsigned i;

	for (i = 0; i < OTHERS; i++) {
		other_id(i, id);
		EXPECT(pending_find(shm, id, &v) == 1 && v.deadline_mono_ms == i &&
		    v.state == PENDING_SENT && v.device.lo == other(i + 1).lo, "other %u", i);
	}
	EXPECT(pending_count(shm) == OTHERS + (unsigned)pending_find(shm, target_id, &v),
	    "count %u", pending_count(shm));
}

static void
ask_pending(struct shm *shm, struct answer *out)
{
	out->found = pending_find(shm, target_id, &out->pending);
	if (!out->found)
		memset(&out->pending, 0, sizeof(out->pending));
}

static void
add(struct shm *shm)
{
	pending_add(shm, target_id, target, 77, PENDING_SENT);
}

static void
prepare_added(struct shm *shm)
{
	fill_pending(shm);
	add(shm);
}

static void
move(struct shm *shm)
{
	pending_move(shm, target_id, target, PENDING_EXECUTED);
}

static void
remove_pending(struct shm *shm)
{
	pending_remove(shm, target_id);
}

/* Topics */

static void
fill_topics(struct shm *shm)
{
	unsigned i;

	for (i = 0; i < OTHERS; i++)
		EXPECT(topics_join(shm, other(i), SLOT_READER) == 0, "%u", i);
}

static void
check_topics(struct shm *shm)
{
	unsigned i;

	for (i = 0; i < OTHERS; i++)
		EXPECT(topics_slots(shm, other(i)) == 1 << SLOT_READER, "other %u", i);
	EXPECT(topics_count(shm) == OTHERS + (topics_slots(shm, target) != 0), "count %u",
	    topics_count(shm));
}

static void
ask_topics(struct shm *shm, struct answer *out)
{
	out->slots = topics_slots(shm, target);
	out->found = out->slots != 0;
}

/* For a living slot, so that slot_died() of who does it changes nothing about it. */
static void
join(struct shm *shm)
{
	topics_join(shm, target, SLOT_READER);
}

static void
leave(struct shm *shm)
{
	topics_leave(shm, target, SLOT_READER);
}

static void
join_another(struct shm *shm)
{
	topics_join(shm, target, SLOT_READER + 1);
}

static void
prepare_joined(struct shm *shm)
{
	fill_topics(shm);
	join(shm);
}

static void
prepare_joined_twice(struct shm *shm)
{
	prepare_joined(shm);
	join_another(shm);
}

/* Holdings: of living slots, for the same reason. */

static void
fill_holdings(struct shm *shm)
{
	unsigned i;

	for (i = 0; i < OTHERS; i++)
		EXPECT(holdings_take(shm, other(i), SLOT_READER, 1) == 1, "%u", i);
}

static void
check_holdings(struct shm *shm)
{
	unsigned i;

	for (i = 0; i < OTHERS; i++)
		EXPECT(holdings_of(shm, other(i), SLOT_READER) == 1 &&
		    holdings_sum(shm, other(i)) == 1, "other %u", i);
	EXPECT(holdings_count(shm) == OTHERS + (holdings_sum(shm, target) != 0), "count %u",
	    holdings_count(shm));
}

static void
ask_holdings(struct shm *shm, struct answer *out)
{
	out->held[0] = holdings_of(shm, target, SLOT_READER);
	out->held[1] = holdings_of(shm, target, SLOT_READER + 1);
	out->held[2] = holdings_sum(shm, target);
	out->found = out->held[2] != 0;
}

static void
take(struct shm *shm)
{
	holdings_take(shm, target, SLOT_READER, 1);
}

/* Once: what was done when the process died is not done again. */
static void
take_second(struct shm *shm)
{
	holdings_take(shm, target, SLOT_READER + 1, 2);
}

static void
give(struct shm *shm)
{
	if (holdings_of(shm, target, SLOT_READER) > 0)
		holdings_give(shm, target, SLOT_READER);
}

static void
prepare_taken(struct shm *shm)
{
	fill_holdings(shm);
	take(shm);
}

static void
prepare_taken_twice(struct shm *shm)
{
	prepare_taken(shm);
	take_second(shm);
}

/* Buckets: one that gives once in a long time. */

static const struct bucket_rate once = { 1000000, 1000000 };

static void
fill_buckets(struct shm *shm)
{
	unsigned i;

	for (i = 0; i < OTHERS; i++)
		EXPECT(buckets_take(shm, other(i), &once, 5) == 0, "%u", i);
}

static void
check_buckets(struct shm *shm)
{
	unsigned i;

	/* Each still says when it gives again; it is not asked for one. */
	for (i = 0; i < OTHERS; i++)
		EXPECT(buckets_take(shm, other(i), &once, 7) == 999998, "other %u", i);
	EXPECT(buckets_count(shm) - OTHERS <= 1, "count %u", buckets_count(shm));
}

static void
ask_buckets(struct shm *shm, struct answer *out)
{
	static const struct bucket_rate look = { 1000000, 0 };

	/* A rate that gives never tells how long it would take: 1 gap when full. */
	out->found = buckets_take(shm, target, &look, 7) != 1000000;
}

static void
take_token(struct shm *shm)
{
	buckets_take(shm, target, &once, 5);
}

/* Mailboxes: the reader, which sleeps, is the test itself. */

static struct mailbox_reader reader;

static void
post_two(struct shm *shm, const char *text)
{
	struct iovec iov[2] = { { (void *)(uintptr_t)text, 4 },
		{ (void *)(uintptr_t)(text + 4), 4 } };

	mailbox_post(shm, SLOT_READER, 1, iov, 2);
}

static void
prepare_mail(struct shm *shm)
{
	struct mail mail;

	post_two(shm, "firstone");
	mailbox_reader_init(&reader, shm, SLOT_READER);
	EXPECT(mailbox_next(&reader, &mail) == 1, "the first");
	EXPECT(mailbox_sleep(&reader) == 1, "sleeps over the first, which it has read");
}

static void
post(struct shm *shm)
{
	post_two(shm, "secondrc");
}

static void
ask_mail(struct shm *shm, struct answer *out)
{
	struct pollfd pfd = { .fd = mailbox_fd(shm, SLOT_READER), .events = POLLIN };
	struct mailbox_reader r;
	struct mail mail;

	mailbox_reader_init(&r, shm, SLOT_READER);
	EXPECT(mailbox_next(&r, &mail) == 1 && memcmp(mail.data, "firstone", 8) == 0, "the first");
	while (mailbox_next(&r, &mail)) {
		EXPECT(mail.len == 8 && memcmp(mail.data, "secondrc", 8) == 0, "torn");
		out->mail++;
	}
	if (out->mail != 0)
		EXPECT(poll(&pfd, 1, 0) == 1, "mail, and nobody rang");
	out->found = out->mail != 0;
}

/* As long as nobody has reaped the dead writer: the next one takes the ring's lock over. */
static void
ask_beside(struct shm *shm, struct answer *out)
{
	struct pollfd pfd = { .fd = mailbox_fd(shm, SLOT_READER), .events = POLLIN };
	struct mailbox_reader r;
	struct mail mail;
	int mine = 0;

	post_two(shm, "thirdrec");
	EXPECT(poll(&pfd, 1, 0) == 1, "mail, and nobody rang");
	mailbox_reader_init(&r, shm, SLOT_READER);
	while (mailbox_next(&r, &mail)) {
		EXPECT(mail.len == 8, "torn");
		mine += memcmp(mail.data, "thirdrec", 8) == 0;
		out->mail += memcmp(mail.data, "secondrc", 8) == 0;
	}
	EXPECT(mine >= 1, "the one posted after the death");
	out->found = out->mail != 0;
}

/* The ring begins anew while a writer comes. */
static void
prepare_restart(struct shm *shm)
{
	char block[1000] = { 0 };
	struct iovec iov = { block, sizeof(block) };
	struct mail mail;
	int i;

	mailbox_reader_init(&reader, shm, 0);
	for (i = 0; i < 20; i++)
		EXPECT(mailbox_post(shm, 0, 1, &iov, 1) == 0, "%d", i);
	while (mailbox_next(&reader, &mail))
		;
	mailbox_consume(&reader);
}

static void
restart(struct shm *shm)
{
	mailbox_reader_init(&reader, shm, 0);
	EXPECT(mailbox_sleep(&reader) == 1, "nothing there");
}

static void
ask_restarted(struct shm *shm, struct answer *out)
{
	struct iovec iov = { (void *)(uintptr_t)"hallo", 5 };
	struct mailbox_reader r;
	struct mail mail;

	EXPECT(mailbox_used(shm, 0) == 0, "used %zu", mailbox_used(shm, 0));
	EXPECT(mailbox_post(shm, 0, 2, &iov, 1) == 0, "post");
	mailbox_reader_init(&r, shm, 0);
	EXPECT(mailbox_next(&r, &mail) == 1 && mail.kind == 2 && mail.len == 5 &&
	    memcmp(mail.data, "hallo", 5) == 0, "read");
	EXPECT(mailbox_next(&r, &mail) == 0, "one record");
	mailbox_consume(&r);
	out->found = 1;
}

static const struct operation operations[] = {
	{ "claim a new device", fill_directory, claim, ask_directory, check_directory, WAYS },
	{ "claim over another", prepare_claimed, claim_over, ask_directory, check_directory, WAYS },
	{ "claim the other transport", prepare_claimed, claim_mqtt, ask_directory, check_directory,
	    WAYS },
	{ "release", prepare_claimed, release, ask_directory, check_directory, WAYS },
	{ "release one of two", prepare_claimed_twice, release, ask_directory, check_directory,
	    WAYS },
	{ "add a command", fill_pending, add, ask_pending, check_pending, WAYS },
	{ "move a command", prepare_added, move, ask_pending, check_pending, WAYS },
	{ "remove a command", prepare_added, remove_pending, ask_pending, check_pending, WAYS },
	{ "join a new topic", fill_topics, join, ask_topics, check_topics, WAYS },
	{ "join a topic", prepare_joined, join_another, ask_topics, check_topics, WAYS },
	{ "leave, not the last", prepare_joined_twice, leave, ask_topics, check_topics, WAYS },
	{ "leave, the last", prepare_joined, leave, ask_topics, check_topics, WAYS },
	{ "take the first place", fill_holdings, take, ask_holdings, check_holdings, WAYS },
	{ "take another place", prepare_taken, take_second, ask_holdings, check_holdings, WAYS },
	{ "give back one of two", prepare_taken_twice, give, ask_holdings, check_holdings, WAYS },
	{ "give back the last", prepare_taken, give, ask_holdings, check_holdings, WAYS },
	{ "take from a new bucket", fill_buckets, take_token, ask_buckets, check_buckets, WAYS },
	{ "post", prepare_mail, post, ask_mail, NULL, BY_MASTER + 1 },
	{ "post, then another", prepare_mail, post, ask_beside, NULL, BY_ZOMBIE + 1 },
	{ "begin the ring anew", prepare_restart, restart, ask_restarted, NULL, BY_ZOMBIE + 1 },
};

static void
run_operation(struct shm *shm, void *arg)
{
	const struct operation *op = arg;

	shm_test_hook = count_and_die;
	op->run(shm);
	shm_test_hook = NULL;
}

static struct shm *
fresh_segment(void)
{
	struct shm_sizes sizes = { .slots = 8, .devices = 4096, .commands = 4096, .topics = 4096, .limits = 4096,
	    .mailbox_bytes = 65536, .counters = 1 };
	struct shm *shm = shm_create(&sizes);
	unsigned i;

	must(shm != NULL);
	/* The same keys in the same stripes each time. */
	memset(shm->directory.seed, 0x5a, sizeof(shm->directory.seed));
	memset(shm->pending.seed, 0x5a, sizeof(shm->pending.seed));
	memset(shm->topics.seed, 0x5a, sizeof(shm->topics.seed));
	memset(shm->holdings.seed, 0x5a, sizeof(shm->holdings.seed));
	memset(shm->buckets.seed, 0x5a, sizeof(shm->buckets.seed));
	for (i = SLOT_READER; i < 8; i++)
		slot_take(shm, i, 1, i);
	return shm;
}

static int
run_in_child(struct shm *shm, unsigned slot, const struct operation *op, unsigned kill_at,
    const char *only, pid_t *pid)
{
	*points.hits = 0;
	points.kill_at = kill_at;
	points.only = only;
	*pid = lib_spawn(shm, slot, run_operation, (void *)(uintptr_t)op);
	lib_wait_zombie(*pid);
	return *points.hits >= kill_at;		/* it was killed */
}

/* Takes every lock of the tables, as some process sooner or later does. */
static void
need_the_lock(struct shm *shm, void *arg)
{
	struct directory_view v;
	struct pending_view p;
	unsigned i;

	(void)arg;
	shm_test_hook = points.kill_at != 0 ? count_and_die : NULL;
	for (i = 0; i < TABLE_STRIPES; i++) {
		table_lock_stripe(shm, &shm->directory, i);
		table_unlock(shm, &shm->directory, i);
		table_lock_stripe(shm, &shm->pending, i);
		table_unlock(shm, &shm->pending, i);
		table_lock_stripe(shm, &shm->topics, i);
		table_unlock(shm, &shm->topics, i);
		table_lock_stripe(shm, &shm->holdings, i);
		table_unlock(shm, &shm->holdings, i);
		table_lock_stripe(shm, &shm->buckets, i);
		table_unlock(shm, &shm->buckets, i);
	}
	shm_test_hook = NULL;
	directory_find(shm, target, &v);
	pending_find(shm, target_id, &p);
}

static int
repair_by_another(struct shm *shm, unsigned slot, unsigned kill_at, pid_t *pid)
{
	*points.hits = 0;
	points.kill_at = kill_at;
	points.only = NULL;
	*pid = lib_spawn(shm, slot, need_the_lock, NULL);
	lib_wait_zombie(*pid);
	return kill_at != 0 && *points.hits >= kill_at;
}

static int
same(const struct answer *a, const struct answer *b)
{
	struct answer x = *a, y = *b;

	/* Who decided differs between the child and us. */
	x.pending.decided_by = y.pending.decided_by = 0;
	x.pending.decided_generation = y.pending.decided_generation = 0;
	return memcmp(&x, &y, sizeof(x)) == 0;
}

static void
ask(const struct operation *op, struct shm *shm, struct answer *out)
{
	memset(out, 0, sizeof(*out));
	op->ask(shm, out);
}

static void
expected_answers(const struct operation *op, struct answer *before, struct answer *after)
{
	struct shm *shm = fresh_segment();

	op->prepare(shm);
	ask(op, shm, before);
	op->run(shm);
	ask(op, shm, after);
	shm_free(shm);
}

/* One death, one way to find it.  0: there are no so many points. */
static int
die_once(const struct operation *op, enum way way, unsigned kill_at, unsigned second,
    const struct answer *before, const struct answer *after, int *second_died)
{
	struct shm *shm = fresh_segment();
	struct answer now, again;
	pid_t pid, repairer[2] = { 0, 0 };
	int died;

	memset(*points.where, 0, sizeof(*points.where));
	op->prepare(shm);
	died = run_in_child(shm, 0, op, kill_at, NULL, &pid);
	*second_died = 0;
	if (way != BY_MASTER && op->check_others != NULL && died) {
		*second_died = repair_by_another(shm, 1, way == BY_ZOMBIE_TWICE ? second : 0,
		    &repairer[0]);
		if (*second_died)
			repair_by_another(shm, 2, 0, &repairer[1]);
	}
	if (way == BY_MASTER)
		lib_reap(shm, 0, pid);
	ask(op, shm, &now);
	EXPECT(same(&now, before) || same(&now, after), "%s, killed at \"%s\" (%u), way %d",
	    op->name, *points.where, kill_at, way);
	if (op->check_others != NULL)
		op->check_others(shm);
	if (way != BY_MASTER)
		lib_reap(shm, 0, pid);
	if (repairer[0] != 0)
		lib_reap(shm, 1, repairer[0]);
	if (repairer[1] != 0)
		lib_reap(shm, 2, repairer[1]);
	/* Whatever is left, the operation can be done, or done again. */
	if (op->check_others != NULL) {
		op->run(shm);
		ask(op, shm, &again);
		EXPECT(same(&again, after), "%s, killed at \"%s\" (%u), way %d: again", op->name,
		    *points.where, kill_at, way);
		op->check_others(shm);
	}
	shm_free(shm);
	return died;
}

static unsigned
die_everywhere(const struct operation *op, enum way way)
{
	struct answer before, after;
	unsigned kill_at, second, deaths = 0;
	int second_died;

	expected_answers(op, &before, &after);
	for (kill_at = 1; kill_at < MOST_POINTS; kill_at++) {
		if (!die_once(op, way, kill_at, 1, &before, &after, &second_died))
			break;
		deaths++;
		for (second = 2; second_died && second < MOST_POINTS; second += 1 + second / 4) {
			die_once(op, way, kill_at, second, &before, &after, &second_died);
			deaths++;
		}
	}
	EXPECT(kill_at > 1, "%s has no points", op->name);
	return deaths;
}

int
main(void)
{
	unsigned i, deaths = 0, of;
	enum way way;

	lib_start("shm/points", 300);
	points.hits = lib_share(sizeof(*points.hits));
	points.where = lib_share(sizeof(*points.where));
	for (i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		for (way = BY_MASTER, of = 0; (int)way < operations[i].ways; way++)
			of += die_everywhere(&operations[i], way);
		printf("%s: %u deaths\n", operations[i].name, of);
		fflush(stdout);
		deaths += of;
	}
	printf("%u deaths\n", deaths);
	return lib_end();
}
