/*
 * storage_again.c: the store's engine gives transactions up, or loses the answer to COMMIT.  SQLite stands behind a thin table
 * of operations that does so, at each operation of a run in turn.  Whatever it does, nothing is lost, nothing is there twice,
 * and each request has one answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auth/device_token.h"
#include "auth/identity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/must.h"
#include "http/route.h"
#include "msg/error.h"
#include "storage/storage.h"
#include "storage_world.h"

#define COMMANDS	3
#define REPORTS		2
#define EVENTS		(1 + 1 + REPORTS + COMMANDS)	/* registered, connected … sent */

enum loss { LOSS_NONE, LOSS_HAPPENED, LOSS_NOT_HAPPENED, LOSS_LATER };

static struct world world;
static char url[] = "memory:";
static uint8_t token_hash[SHA256_LEN];
static char token[DEVICE_TOKEN_LEN + 1];

/* The thin engine. */
static struct {
	const struct db_ops *real;
	unsigned calls;			/* of operations inside of transactions */
	unsigned at;			/* the call that is given up, from 1; 0: none */
	unsigned times;			/* so many calls from there on */
	const char *name;		/* given up each time it is called, `times` times */
	bool open;			/* a transaction */
	bool dead;			/* it is given up, and not rolled back yet */
	enum loss loss;			/* of the answer to the next COMMIT */
	bool pending;			/* COMMIT is under way still */
	unsigned mute;			/* so often the store can't be asked */
	unsigned asked;
} thin;

static bool
is_given_up(struct db *db, const char *name)
{
	thin.calls++;
	if (thin.times == 0 || !(thin.name != NULL ? strcmp(thin.name, name) == 0 : thin.calls >= thin.at && thin.at > 0))
		return false;
	thin.times--;
	thin.dead = thin.open;
	must(thin.real->rollback(db) == DB_OK);
	return true;
}

#define THIN(name, declared, given) \
static enum db_result \
thin_##name declared \
{ \
	if (thin.dead) \
		return DB_FAILED; \
	return is_given_up(db, #name) ? DB_AGAIN : thin.real->name given; \
}

static enum db_result
thin_begin(struct db *db)
{
	if (is_given_up(db, "begin"))
		return DB_AGAIN;
	thin.open = true;
	return thin.real->begin(db);
}

THIN(meta_step, (struct db *db, const char *name, int64_t to), (db, name, to))
THIN(tenant_number, (struct db *db, struct slice name, bool create, int64_t *pk), (db, name, create, pk))
THIN(device_by_id, (struct db *db, struct slice t, struct slice id, bool whole, struct db_device *out), (db, t, id, whole, out))
THIN(device_by_pk, (struct db *db, int64_t pk, bool whole, struct db_device *out), (db, pk, whole, out))
THIN(device_by_token, (struct db *db, const uint8_t *hash, struct db_device *out), (db, hash, out))
THIN(device_insert, (struct db *db, struct db_device *d, const uint8_t *hash), (db, d, hash))
THIN(device_connected, (struct db *db, int64_t pk, unsigned t, int64_t epoch, uint64_t ref, int64_t now),
    (db, pk, t, epoch, ref, now))
THIN(device_counts, (struct db *db, int64_t pk, struct db_stats *out), (db, pk, out))
THIN(share_get, (struct db *db, int64_t pk, struct slice user, struct db_share *out), (db, pk, user, out))
THIN(command_insert, (struct db *db, struct db_command *c), (db, c))
THIN(command_get, (struct db *db, const uint8_t *id, struct db_command *out), (db, id, out))
THIN(command_update, (struct db *db, const struct db_command *c, enum command_status was), (db, c, was))
THIN(command_open, (struct db *db, int64_t pk, int64_t after, struct db_page *page), (db, pk, after, page))
THIN(command_open_all, (struct db *db, struct db_command_key after, struct db_page *page), (db, after, page))
THIN(command_queued_first, (struct db *db, int64_t pk, int64_t from, struct db_command *out), (db, pk, from, out))
THIN(event_insert, (struct db *db, struct db_event *events, unsigned n), (db, events, n))
THIN(telemetry_insert, (struct db *db, const struct db_sample *v, unsigned n, unsigned *stored), (db, v, n, stored))

static enum db_result
thin_commit(struct db *db)
{
	enum loss loss = thin.loss;

	if (thin.dead)
		return DB_FAILED;
	if (is_given_up(db, "commit"))
		return DB_AGAIN;
	thin.loss = LOSS_NONE;
	thin.open = false;
	switch (loss) {
	case LOSS_HAPPENED:
		must(thin.real->commit(db) == DB_OK);
		return DB_UNCERTAIN;
	case LOSS_NOT_HAPPENED:
		must(thin.real->rollback(db) == DB_OK);
		return DB_UNCERTAIN;
	case LOSS_LATER:
		thin.pending = true;
		return DB_UNCERTAIN;
	default:
		return thin.real->commit(db);
	}
}

static enum db_result
thin_rollback(struct db *db)
{
	thin.dead = thin.open = false;
	return thin.pending ? DB_OK : thin.real->rollback(db);
}

static enum db_result
thin_meta_settled(struct db *db, const char *name, int64_t *value)
{
	thin.asked++;
	if (thin.mute > 0) {
		thin.mute--;
		return DB_FAILED;
	}
	if (thin.pending)
		must(thin.real->commit(db) == DB_OK);
	thin.pending = false;
	return thin.real->meta_settled(db, name, value);
}

static const char *
thin_error(struct db *db)
{
	(void)db;
	return "given up by the test";
}

static struct storage *
inside(void)
{
	return world.w.data;
}

/* Between storage and its engine. */
static void
put_between(void)
{
	static struct db_ops ops;

	memset(&thin, 0, sizeof(thin));
	thin.real = inside()->desk.db->ops;
	ops = *thin.real;
#define PUT(name) ops.name = thin_##name;
	PUT(begin) PUT(meta_step) PUT(tenant_number) PUT(device_by_id) PUT(device_by_pk) PUT(device_by_token) PUT(device_insert)
	PUT(device_connected) PUT(device_counts) PUT(share_get) PUT(command_insert) PUT(command_get) PUT(command_update)
	PUT(command_open) PUT(command_open_all) PUT(command_queued_first) PUT(event_insert) PUT(telemetry_insert)
	PUT(commit) PUT(rollback) PUT(meta_settled) PUT(error)
#undef PUT
	inside()->desk.db->ops = &ops;
}

/* ------------------------------------------------------------------ what is asked */

static uint64_t
user_ref(void)
{
	return world_ref(&world, GATEWAY_SLOT, 1, 1);
}

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
put_auth(void)
{
	struct msg_device_auth a = { .request = 10, .by_token = 1, .ref = world_ref(&world, GATEWAY_SLOT, 100, 1) };

	memcpy(a.token_hash, token_hash, sizeof(token_hash));
	world_post(&world, device_auth, &a);
}

static void
put_report(unsigned n)
{
	struct msg_device_report m = {
		.request = 20 + n, .ref = world_ref(&world, GATEWAY_SLOT, 100, 1), .device_pk = 1, .epoch = 1,
		.asked_ms = clock_mono_ms(), .tenant = SLICE("t1"), .device = SLICE("d"), .event = SLICE("x_n"),
		.data_json = SLICE("{}")
	};

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
ask_all(void)
{
	put_register();
	put_auth();
	for (unsigned n = 0; n < REPORTS; n++)
		put_report(n);
	for (unsigned n = 0; n < COMMANDS; n++)
		put_command(n);
}

/* ------------------------------------------------------------------ what became of it */

struct outcome {
	unsigned replies[64], refused, welcomes, sends, answers, published;
};

static void
count_posts(struct outcome *o)
{
	memset(o, 0, sizeof(*o));
	world_collect(&world);
	for (size_t i = 0; i < world.posted_count; i++) {
		const struct posted *p = &world.posted[i];
		const uint8_t *bytes = (const uint8_t *)p->bytes.data;

		if (p->kind == MSG_store_reply) {
			struct msg_store_reply m;

			must(msg_unpack_store_reply(&m, bytes, p->bytes.len) == 0);
			o->replies[m.request % 64]++;
			o->refused += m.code != ERROR_NONE;
		} else if (p->kind == MSG_device_welcome) {
			struct msg_device_welcome m;

			must(msg_unpack_device_welcome(&m, bytes, p->bytes.len) == 0);
			o->welcomes++;
			o->refused += m.code != ERROR_NONE;
		} else if (p->kind == MSG_publish) {
			struct msg_publish m;

			must(msg_unpack_publish(&m, bytes, p->bytes.len) == 0);
			must(m.cursor.len == 0 || m.cursor.p[0] != '~');
			o->published += m.cursor.len > 0;
			o->answers += m.to == PUBLISH_ANSWER;
		}
		o->sends += p->kind == MSG_device_send;
	}
	world_forget(&world);
}

static void
check_store(void)
{
	struct db_event_filter f = { .device_pk = 1, .ascending = true };
	struct db_device d = { .text = BUF_INIT };
	struct db_page page = { .rows = 0 };
	struct db *db;
	const struct db_event *e;
	char err[256];

	assert_non_null(db = db_open(url, DB_READER, err, sizeof(err)));
	assert_int_equal(DB(db, device_by_id, SLICE("t1"), SLICE("d"), false, &d), DB_OK);
	assert_int_equal(d.pk, 1);
	assert_int_equal(d.epoch, 1);
	assert_int_equal(d.online, 1);
	db_page_want(&page, 100);
	assert_int_equal(DB(db, event_list, &f, &page), DB_OK);
	assert_int_equal(page.count, EVENTS);
	e = page.row;
	for (unsigned i = 0; i < page.count; i++)
		assert_int_equal(e[i].seq, i + 1);
	db_page_want(&page, 100);
	assert_int_equal(DB(db, command_list, 1, 0, &page), DB_OK);
	assert_int_equal(page.count, COMMANDS);
	assert_int_equal(pending_count(world.shm), COMMANDS);
	assert_int_equal(directory_count(world.shm), 1);
	assert_int_equal(mailbox_used(world.shm, STORAGE_SLOT), 0);
	assert_false(batch_has_kept(inside()));
	db_page_fini(&page);
	db_device_fini(&d);
	db_close(&db);
}

/* Each was answered once, and well. */
static void
check_posts(void)
{
	struct outcome o;

	count_posts(&o);
	assert_int_equal(o.refused, 0);
	assert_int_equal(o.replies[1], 1);
	for (unsigned n = 0; n < REPORTS; n++)
		assert_int_equal(o.replies[20 + n], 1);
	assert_int_equal(o.welcomes, 1);
	assert_int_equal(o.sends, COMMANDS);
	assert_int_equal(o.answers, COMMANDS);
	assert_int_equal(o.published, EVENTS);
}

static void
check_all(void)
{
	check_posts();
	check_store();
}

static int
set_up(void **state)
{
	char err[256];

	(void)state;
	assert_int_equal(db_arrange(url, (unsigned)-1, (unsigned)-1, err, sizeof(err)), 1);
	world_open(&world, url, false);
	must(topics_join(world.shm, audience_topic_user(shm_hash_key(world.shm), SLICE("t1"), SLICE("owner")), GATEWAY_SLOT) != -1);
	auth_device_token_new(token, token_hash);
	world_start(&world);
	put_between();
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	world_close(&world);
	db_clear_away();
	return 0;
}

static void
again(void)
{
	tear_down(NULL);
	set_up(NULL);
}

/* ------------------------------------------------------------------ given up */

static void
nothing_happens_to_others(void **state)
{
	(void)state;
	ask_all();
	world_run(&world);
	assert_true(thin.calls > 15);
	check_all();
}

/* Once and twice in a row, at each call. */
static void
is_run_again_wherever_it_was_given_up(void **state)
{
	unsigned all;

	(void)state;
	ask_all();
	world_run(&world);
	all = thin.calls;
	for (unsigned times = 1; times <= 2; times++)
		for (unsigned at = 1; at <= all; at++) {
			again();
			thin.at = at;
			thin.times = times;
			ask_all();
			world_run(&world);
			assert_int_equal(thin.times, 0);
			assert_int_equal(world.w.stats[STAT_STORE_ERRORS], 0);
			check_all();
		}
}

/* For ever: requests are refused, once each, what may not be lost waits, and is stored when the engine lets it. */
static void
is_not_run_for_ever(void **state)
{
	static const char *const names[] = { "begin", "meta_step", "event_insert", "commit" };
	struct outcome o;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		again();
		put_register();
		put_auth();
		world_run(&world);
		count_posts(&o);
		assert_int_equal(o.refused, 0);
		thin.name = names[i];
		thin.times = 1000;
		for (unsigned n = 0; n < REPORTS; n++)
			put_report(n);
		put_command(0);
		world_run(&world);
		assert_true(thin.times > 900);
		count_posts(&o);
		assert_int_equal(o.replies[30], 1);
		assert_int_equal(o.refused, 1);
		assert_int_equal(o.replies[20] + o.replies[21], 0);
		assert_true(batch_has_kept(inside()));
		assert_true(world.w.stats[STAT_STORE_ERRORS] > 0);
		world_tick(&world);		/* in vain, and nothing is dropped */
		assert_true(batch_has_kept(inside()));
		thin.times = 0;
		for (unsigned n = 0; n < COMMANDS; n++)
			put_command(n);
		world_run(&world);
		count_posts(&o);
		assert_true(o.replies[20] == 1 && o.replies[21] == 1 && o.refused == 0);
		assert_int_equal(o.sends, COMMANDS);
		check_store();
	}
}

/* Telemetry that waits is not lost with a transaction that others made fail. */
static void
telemetry_waits(void **state)
{
	struct msg_sample m = {
		.device_pk = 1, .epoch = 1, .at = clock_now_ms(), .tenant = SLICE("t1"), .device = SLICE("d"),
		.data_json = SLICE("{}")
	};

	(void)state;
	put_register();
	put_auth();
	world_run(&world);
	thin.name = "telemetry_insert";
	thin.times = 1;
	world_post(&world, sample, &m);
	world_run(&world);
	world_tick(&world);
	world_tick(&world);
	assert_int_equal(thin.times, 0);
	assert_int_equal(world.w.stats[STAT_TELEMETRY_STORED], 1);
	assert_int_equal(world.w.stats[STAT_TELEMETRY_UNSTORED], 0);
}

/* What a process that is gone held ends, though the transaction that ends it is given up the first time. */
static void
duties_are_done_again(void **state)
{
	struct storage *s;
	struct db_device d = { .text = BUF_INIT };

	(void)state;
	put_register();
	put_auth();
	world_run(&world);
	slot_died(world.shm, GATEWAY_SLOT);
	world_tick(&world);			/* its death is noted … */
	s = inside();
	for (unsigned i = 0; i < PRESENCE_GENERATIONS; i++)		/* … a while ago */
		s->sweep.lost_mono[GATEWAY_SLOT][i] -= 2 * s->return_ms;
	s->sweep.directory_due = s->sweep.rows_due = clock_mono_ms();
	thin.name = "commit";
	thin.times = 1;
	world_tick(&world);
	assert_int_equal(thin.times, 0);
	assert_int_equal(DB(s->desk.db, device_by_pk, 1, false, &d), DB_OK);
	assert_int_equal(d.online, 0);
	db_device_fini(&d);
}

/* ------------------------------------------------------------------ uncertain */

static void
lost_answers_are_asked_for(void **state)
{
	static const enum loss losses[] = { LOSS_HAPPENED, LOSS_NOT_HAPPENED, LOSS_LATER };

	(void)state;
	for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++)
		for (unsigned mute = 0; mute < 2; mute++) {
			again();
			thin.loss = losses[i];
			thin.mute = mute;
			ask_all();
			world_run(&world);
			assert_int_equal(thin.loss, LOSS_NONE);
			assert_int_equal(thin.asked, mute + 1);
			check_all();
		}
}

/* The store can't be asked: the process ends, and its successor decides by the record. */
static void
successors_decide(void **state)
{
	static const enum loss losses[] = { LOSS_HAPPENED, LOSS_NOT_HAPPENED };

	(void)state;
	for (size_t i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
		struct outcome o;
		int status;
		pid_t pid;

		again();
		world_stop(&world);
		slot_died(world.shm, STORAGE_SLOT);
		shm_set_self(world.shm, GATEWAY_SLOT);
		ask_all();
		slot_take(world.shm, STORAGE_SLOT, ROLE_ID_STORAGE, 0);
		pid = fork();
		must(pid != -1);
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			shm_set_self(world.shm, STORAGE_SLOT);
			world_start(&world);
			put_between();
			inside()->batch.settle_ms = 150;
			thin.loss = losses[i];
			thin.mute = UINT32_MAX;
			world_run(&world);
			_exit(0);
		}
		slot_set_pid(world.shm, STORAGE_SLOT, pid);
		must(waitpid(pid, &status, 0) == pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
		count_posts(&o);
		assert_int_equal(o.sends + o.published + o.refused + o.replies[1], 0);
		slot_died(world.shm, STORAGE_SLOT);
		slot_take(world.shm, STORAGE_SLOT, ROLE_ID_STORAGE, 0);
		slot_set_pid(world.shm, STORAGE_SLOT, getpid());
		shm_set_self(world.shm, STORAGE_SLOT);
		world_start(&world);
		world_run(&world);
		check_all();
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		T(nothing_happens_to_others), T(is_run_again_wherever_it_was_given_up), T(is_not_run_for_ever), T(telemetry_waits),
		T(duties_are_done_again), T(lost_answers_are_asked_for), T(successors_decide)
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
