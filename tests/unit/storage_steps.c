/*
 * storage_steps.c: a storage process is killed after every step of two batches, and its successor after every step of what it
 * finds, and so on; in the end nothing is lost and nothing is there twice.
 *
 *	storage_steps [n]	(STORAGE_STEPS in the environment: the same) only every nth pair of steps; 1: all of them
 *
 * The library is built with its test points for this program (shm/segment.h, batch.c): each is a step.  A schedule says at which
 * step of its life each process is killed; it begins anew with a store and shared memory of its own.
 */
#include <sqlite3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auth/device_token.h"
#include "auth/identity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/must.h"
#include "base/stats_names.h"
#include "http/route.h"
#include "msg/audience.h"
#include "msg/error.h"
#include "shm/stats.h"
#include "shm/topics.h"
#include "storage_world.h"

extern void (*storage_test_hook)(const char *where);
extern void (*shm_test_hook)(const char *where);
void (*storage_test_hook)(const char *where);

static struct world world;
static char folder[64], path[96], url[112];
static unsigned faults;

/* Shared with the child: where it is to die, and how far it came. */
static struct plan {
	unsigned die_at;		/* step, from 1; 0: nowhere */
	unsigned step;
	char where[64];
} *plan;

#define EXPECT(condition, ...) do { \
	if (!(condition)) { \
		faults++; \
		fprintf(stderr, "%s does not hold: ", #condition); \
		fprintf(stderr, __VA_ARGS__); \
		fputc('\n', stderr); \
	} \
} while (0)

static void
on_step(const char *where)
{
	if (++plan->step != plan->die_at)
		return;
	snprintf(plan->where, sizeof(plan->where), "%s", where);
	kill(getpid(), SIGKILL);
}

/* ------------------------------------------------------------------ the world of one schedule */

static uint64_t
user_ref(void)
{
	return world_ref(&world, GATEWAY_SLOT, 1, 1);
}

static uint64_t
device_ref(unsigned n)
{
	return world_ref(&world, GATEWAY_SLOT, 100 + n, 1);
}

static struct hash128
device_key(void)
{
	return audience_device_key(shm_hash_key(world.shm), SLICE("t1"), SLICE("d"));
}

static char token[DEVICE_TOKEN_LEN + 1];
static uint8_t token_hash[SHA256_LEN];

static void
put_register(void)
{
	struct msg_rest r = {
		.request = 1, .ref = user_ref(), .asked_ms = clock_mono_ms(), .route = ROUTE_device_register, .role = ROLE_USER,
		.tenant = SLICE("t1"), .user = SLICE("owner"), .body_json = SLICE("{\"deviceId\":\"d\",\"name\":\"D\"}"),
		.token = slice_of(token)
	};

	uuid_new(r.fresh_id);
	world_post(&world, rest, &r);
}

static void
put_auth(unsigned n)
{
	struct msg_device_auth a = { .request = 10 + n, .by_token = 1, .ref = device_ref(n) };

	memcpy(a.token_hash, token_hash, sizeof(token_hash));
	world_post(&world, device_auth, &a);
}

static void
put_report(unsigned n)
{
	char data[32];
	struct msg_device_report m = {
		.request = 20 + n, .ref = device_ref(0), .device_pk = 1, .epoch = 1, .asked_ms = clock_mono_ms(),
		.tenant = SLICE("t1"), .device = SLICE("d"), .event = SLICE("x_n")
	};

	m.data_json = slice_bytes(data, (size_t)snprintf(data, sizeof(data), "{\"n\":%u}", n));
	world_post(&world, device_report, &m);
}

static void
put_command(unsigned n)
{
	struct msg_command_new m = {
		.request = 30 + n, .ref = user_ref(), .asked_ms = clock_mono_ms(), .timeout_ms = 300000, .role = ROLE_USER,
		.tenant = SLICE("t1"), .user = SLICE("owner"), .device = SLICE("d"), .command = SLICE("unlock_door")
	};

	memset(m.command_id, (int)n + 1, sizeof(m.command_id));
	world_post(&world, command_new, &m);
}

static void
put_gone(unsigned n)
{
	struct msg_device_gone m = {
		.ref = device_ref(n), .device_pk = 1, .epoch = n + 1, .tenant = SLICE("t1"), .device = SLICE("d"),
		.reason = SLICE("gone")
	};

	world_post(&world, device_gone, &m);
}

/* Storage, for as many batches as there are: the mail that stands there is one, what waits is posted before the next. */
static _Noreturn void
be_storage(unsigned batch_max)
{
	struct mail mail;
	unsigned n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	shm_set_self(world.shm, STORAGE_SLOT);
	storage_test_hook = shm_test_hook = on_step;
	world_start(&world);
	do {
		for (n = 0; n < batch_max && mailbox_next(&world.w.mailbox, &mail) == 1; n++)
			if (!mailbox_had(&mail, world.own_tags))
				storage_role.mail(&world.w, &mail);
		storage_role.batch_end(&world.w);
		mailbox_consume(&world.w.mailbox);
	} while (n > 0);
	_exit(0);		/* without an end: as if it were killed when there is nothing to do */
}

/* true: it came to its end; false: it was killed at its step. */
static bool
run_storage(unsigned batch_max, unsigned die_at)
{
	int status;
	pid_t pid;

	slot_take(world.shm, STORAGE_SLOT, ROLE_ID_STORAGE, 0);
	memset(plan, 0, sizeof(*plan));
	plan->die_at = die_at;
	fflush(NULL);
	pid = fork();
	must(pid != -1);
	if (pid == 0)
		be_storage(batch_max);
	slot_set_pid(world.shm, STORAGE_SLOT, pid);
	must(waitpid(pid, &status, 0) == pid);
	slot_died(world.shm, STORAGE_SLOT);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %d after step %u", status, plan->step);
	return false;
}

static void
remove_files(void)
{
	static const char *const ends[] = { "", "-wal", "-shm" };
	char name[120];

	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "%s%s", path, ends[i]);
		(void)unlink(name);
	}
}

static void
begin(void)
{
	remove_files();
	world_open(&world, url, false);
	slot_died(world.shm, STORAGE_SLOT);
	shm_set_self(world.shm, GATEWAY_SLOT);
	must(topics_join(world.shm, audience_topic_user(shm_hash_key(world.shm), SLICE("t1"), SLICE("owner")), GATEWAY_SLOT) != -1);
	auth_device_token_new(token, token_hash);
}

static void
end(void)
{
	world.w.data = NULL;
	world_close(&world);
}

/* ------------------------------------------------------------------ the model */

static int64_t
number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *st;
	int64_t n;

	must(sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK);
	must(sqlite3_step(st) == SQLITE_ROW);
	n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return n;
}

/* What each record is answered, by its request; and what else is told. */
static void
check_posts(const char *name)
{
	unsigned replies[64] = { 0 }, welcomes[64] = { 0 }, sends = 0, kicks = 0, published = 0, answers = 0;

	world_collect(&world);
	for (size_t i = 0; i < world.posted_count; i++) {
		const struct posted *p = &world.posted[i];
		const uint8_t *bytes = (const uint8_t *)p->bytes.data;

		if (p->kind == MSG_store_reply) {
			struct msg_store_reply m;

			must(msg_unpack_store_reply(&m, bytes, p->bytes.len) == 0);
			EXPECT(m.code == ERROR_NONE, "%s: request %u is refused", name, (unsigned)m.request);
			replies[m.request % 64]++;
		} else if (p->kind == MSG_device_welcome) {
			struct msg_device_welcome m;
			struct directory_view v;

			must(msg_unpack_device_welcome(&m, bytes, p->bytes.len) == 0);
			EXPECT(m.code == ERROR_NONE, "%s: a device is refused", name);
			if (directory_find(world.shm, device_key(), &v) == 1)
				EXPECT(m.entry == v.index, "%s: the entry of a welcome", name);
			welcomes[m.request % 64]++;
		} else if (p->kind == MSG_publish) {
			struct msg_publish m;

			must(msg_unpack_publish(&m, bytes, p->bytes.len) == 0);
			EXPECT(m.cursor.len == 0 || (m.cursor.len == 22 && m.cursor.p[0] != '~'), "%s: a cursor", name);
			published += m.cursor.len > 0;
			answers += m.to == PUBLISH_ANSWER;
		}
		sends += p->kind == MSG_device_send;
		kicks += p->kind == MSG_kick;
	}
	EXPECT(replies[1] == 1 && replies[20] == 1 && replies[21] == 1, "%s: replies %u %u %u", name, replies[1], replies[20],
	    replies[21]);
	EXPECT(welcomes[10] == 1 && welcomes[11] == 1, "%s: welcomes %u %u", name, welcomes[10], welcomes[11]);
	EXPECT(sends == 2 && answers == 2 && kicks == 1, "%s: %u sent, %u answered, %u kicked", name, sends, answers, kicks);
	EXPECT(published == 8, "%s: %u published", name, published);
	world_forget(&world);
}

static void
check_store(const char *name)
{
	static const struct {
		const char *sql;
		int64_t wanted;
	} counts[] = {
		{ "SELECT count(*) FROM devices", 1 }, { "SELECT count(*) FROM commands WHERE status = 1", 2 },
		{ "SELECT count(*) FROM events WHERE event = 'x_n'", 2 },
		{ "SELECT count(*) FROM events WHERE event = 'device_connected'", 2 },
		{ "SELECT count(*) FROM events WHERE event = 'device_disconnected'", 1 },
		{ "SELECT count(*) FROM events WHERE event = 'command_sent'", 2 },
		{ "SELECT max(event_pk & 0xffffffffff) FROM events", 8 }, { "SELECT count(*) FROM events", 8 },
		{ "SELECT newest FROM event_seq", 8 }, { "SELECT online FROM devices", 0 },
		{ "SELECT epoch FROM devices", 2 },
	};
	static const struct {
		unsigned counter;
		uint64_t wanted;
	} counters[] = { { STAT_EVENTS_STORED, 8 }, { STAT_COMMANDS_CREATED, 2 }, { STAT_COMMANDS_SENT, 2 },
		{ STAT_STORE_RECORDS, 8 } };
	sqlite3 *db;

	must(sqlite3_open(path, &db) == SQLITE_OK);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		int64_t n = number(db, counts[i].sql);

		EXPECT(n == counts[i].wanted, "%s: %s: %lld", name, counts[i].sql, (long long)n);
	}
	sqlite3_close(db);
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		uint64_t n = stats_get(world.shm, STORAGE_SLOT, counters[i].counter);

		EXPECT(n == counters[i].wanted, "%s: counter %u: %llu", name, counters[i].counter, (unsigned long long)n);
	}
	EXPECT(pending_count(world.shm) == 2, "%s: %u pending", name, pending_count(world.shm));
	EXPECT(directory_count(world.shm) == 0, "%s: %u in the directory", name, directory_count(world.shm));
	EXPECT(mailbox_used(world.shm, STORAGE_SLOT) == 0, "%s: mail is left", name);
}

/*
 * One schedule: two batches of records, by processes of which the first ones die at those steps.  A batch is as large as the
 * mail that stands there, or of three records.  Returns how many steps the last but one process came, so that the caller
 * knows when all are through.
 */
static unsigned
schedule(unsigned first, unsigned second)
{
	char name[200] = "";
	unsigned steps;

	begin();
	put_register();
	put_auth(0);
	put_report(0);
	put_command(0);
	put_report(1);
	put_auth(1);		/* takes over */
	put_command(1);
	put_gone(1);
	if (!run_storage(4, first))
		snprintf(name, sizeof(name), "killed at %s (%u)", plan->where, first);
	steps = plan->step;
	if (name[0] != '\0' && second > 0) {
		char *at = name + strlen(name);

		if (!run_storage(4, second))
			snprintf(at, sizeof(name) - (size_t)(at - name), ", then at %s (%u)", plan->where, second);
		steps = plan->step;
	}
	EXPECT(run_storage(4, 0), "%s: it does not end", name);
	check_posts(name);
	check_store(name);
	end();
	return steps;
}

int
main(int argc, char **argv)
{
	const char *env = getenv("STORAGE_STEPS"), *tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	unsigned every = argc > 1 ? (unsigned)atoi(argv[1]) : env != NULL ? (unsigned)atoi(env) : 60, all, done = 0;

	every = every > 0 ? every : 1;
	log_set_level(LOG_LEVEL_ERROR);
	plan = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(plan != MAP_FAILED);
	snprintf(folder, sizeof(folder), "%s/belay-steps-XXXXXX", tmp);
	must(mkdtemp(folder) != NULL);
	snprintf(path, sizeof(path), "%s/belay.db", folder);
	snprintf(url, sizeof(url), "sqlite://%s", path);

	all = schedule(0, 0);
	EXPECT(all > 50, "only %u steps", all);
	for (unsigned first = 1; first <= all && faults < 20; first++, done++)
		schedule(first, 0);
	/* Pairs: every `every`th of them, and a different one for each first step. */
	for (unsigned first = 1; first <= all && faults < 20; first++)
		for (unsigned second = 1 + first % every; faults < 20; second += every, done++)
			if (schedule(first, second) < second)
				break;
	fprintf(stderr, "%u steps, %u schedules, %u faults\n", all, done, faults);
	remove_files();
	(void)rmdir(folder);
	return faults > 0;
}
