/*
 * storage_kill.c: a storage process is killed with SIGKILL again and again while commands come at full speed.  Afterwards
 * the file is whole, every command that was answered is in it, none is there twice, and each was answered once it was read
 * again.
 *
 *	storage_kill [how often]	(STORAGE_KILLS in the environment: the same; 100 by default)
 */
#include <sqlite3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "auth/device_token.h"
#include "auth/identity.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/must.h"
#include "http/route.h"
#include "msg/audience.h"
#include "msg/error.h"
#include "storage_world.h"

#define DEVICES		16
#define MAX_ORDERS	400000
#define IN_FLIGHT	300

struct order {
	uint8_t id[16];
	unsigned answers, sends;
};

static struct world world;
static struct order *orders;
static unsigned order_count, answered, duplicates;
static unsigned sent_again, refused;	/* to devices, which then acknowledge twice; and how often they were told so */

/* The child: storage, until it is killed. */
static _Noreturn void
be_storage(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	shm_set_self(world.shm, STORAGE_SLOT);
	world_start(&world);
	for (;;) {
		struct mail mail;
		unsigned n = 0;

		world.w.now_ms = clock_now_ms();
		while (n < 256 && mailbox_next(&world.w.mailbox, &mail) == 1) {
			storage_role.mail(&world.w, &mail);
			n++;
		}
		storage_role.batch_end(&world.w);
		if (n > 0)
			mailbox_consume(&world.w.mailbox);
		else
			usleep(200);
	}
}

static pid_t
start_storage(void)
{
	pid_t pid;

	slot_take(world.shm, STORAGE_SLOT, ROLE_ID_STORAGE, 0);
	pid = fork();
	must(pid != -1);
	if (pid == 0)
		be_storage();
	slot_set_pid(world.shm, STORAGE_SLOT, pid);
	return pid;
}

static void
kill_storage(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	must(waitpid(pid, &status, 0) == pid);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
		fprintf(stderr, "storage ended by itself: status %d\n", status);
		exit(1);
	}
	slot_died(world.shm, STORAGE_SLOT);
}

static bool
post_raw(uint16_t kind)
{
	struct iovec iov = { world.record.data, world.record.len };

	return mailbox_post(world.shm, STORAGE_SLOT, kind, &iov, 1) == 0;
}

static void
ask_one(void)
{
	char device[16];
	struct order *o = &orders[order_count];
	struct msg_command_new m = {
		.request = order_count + 1, .ref = world_ref(&world, GATEWAY_SLOT, 1, 1), .asked_ms = clock_mono_ms(),
		.timeout_ms = 300000,
		.queue_ms = 3600000, .role = ROLE_USER, .tenant = SLICE("t1"), .user = SLICE("owner"),
		.command = SLICE("unlock_door"),
		.params_json = SLICE("{\"n\":1}")
	};

	m.device = slice_bytes(device, (size_t)snprintf(device, sizeof(device), "d%u", order_count % DEVICES));
	uuid_new(o->id);
	memcpy(m.command_id, o->id, 16);
	buf_clear(&world.record);
	msg_pack_command_new(&world.record, &m);
	if (post_raw(MSG_command_new))
		order_count++;
}

/* The order of a command that is on its way: one of the newest. */
static struct order *
order_of(const uint8_t id[16])
{
	for (unsigned i = order_count; i-- > 0; )
		if (memcmp(orders[i].id, id, 16) == 0)
			return &orders[i];
	must(!"a command that nobody asked for");
}

/* What storage posted to the gateway: answers are noted, commands are executed at once. */
static void
read_answers(void)
{
	struct mail mail;

	while (mailbox_next(&world.inbox[GATEWAY_SLOT], &mail) == 1) {
		if (mailbox_had(&mail, world.tags[GATEWAY_SLOT]))
			continue;
		if (mail.kind == MSG_publish) {
			struct msg_publish m;

			must(msg_unpack_publish(&m, mail.data, mail.len) == 0);
			if (m.to == PUBLISH_ANSWER && m.request > 0 && m.request <= order_count) {
				struct order *o = &orders[m.request - 1];

				answered += o->answers == 0;
				duplicates += o->answers > 0;
				o->answers++;
			}
		} else if (mail.kind == MSG_store_reply) {
			struct msg_store_reply m;

			must(msg_unpack_store_reply(&m, mail.data, mail.len) == 0);
			if (m.code == ERROR_already_final && m.request == 0) {
				refused++;
			} else if (m.code != 0) {
				fprintf(stderr, "refused: %u %.*s\n", m.code, (int)m.message.len, m.message.p);
				exit(1);
			}
		} else if (mail.kind == MSG_device_send) {
			struct msg_device_send m;
			struct msg_command_ack a = {
				.status = ACK_EXECUTED, .tenant = SLICE("t1"),
				.result_json = SLICE("true")
			};
			char device[16];
			unsigned n;

			must(msg_unpack_device_send(&m, mail.data, mail.len) == 0);
			sent_again += order_of(m.command)->sends++ > 0;
			n = ref_index(m.ref) - 100;
			a.ref = m.ref;
			a.device_pk = n + 1;
			a.device = slice_bytes(device, (size_t)snprintf(device, sizeof(device), "d%u", n));
			memcpy(a.command, m.command, 16);
			a.verdict = (uint8_t)pending_move(world.shm, m.command,
			    audience_device_key(shm_hash_key(world.shm), SLICE("t1"), a.device), PENDING_EXECUTED);
			buf_clear(&world.record);
			msg_pack_command_ack(&world.record, &a);
			(void)post_raw(MSG_command_ack);
		}
	}
	mailbox_consume(&world.inbox[GATEWAY_SLOT]);
}

static void
run_for(int64_t ms)
{
	int64_t until = clock_mono_ms() + ms;

	while (clock_mono_ms() < until) {
		for (unsigned i = 0; i < 32 && order_count < answered + IN_FLIGHT && order_count < MAX_ORDERS; i++)
			ask_one();
		read_answers();
		usleep(100);
	}
}

static void
set_up_devices(void)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		char body[64], token[DEVICE_TOKEN_LEN + 1];
		struct msg_rest r = {
			.ref = world_ref(&world, GATEWAY_SLOT, 1, 1), .asked_ms = clock_mono_ms(), .route = ROUTE_device_register,
			.role = ROLE_USER,
			.tenant = SLICE("t1"), .user = SLICE("owner")
		};
		struct msg_device_auth a = { .request = 0, .by_token = 1, .ref = world_ref(&world, GATEWAY_SLOT, 100 + i, 1) };

		auth_device_token_new(token, a.token_hash);
		snprintf(body, sizeof(body), "{\"deviceId\":\"d%u\",\"name\":\"D\"}", i);
		r.body_json = slice_of(body);
		r.token = slice_of(token);
		uuid_new(r.fresh_id);
		world_post(&world, rest, &r);
		world_post(&world, device_auth, &a);
	}
}

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

static int
check(const char *path)
{
	sqlite3 *db;
	sqlite3_stmt *st;
	unsigned missing = 0, silent = 0;
	int64_t rows, doubled, unsent;
	int faults = 0;

	must(sqlite3_open(path, &db) == SQLITE_OK);
	must(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &st, NULL) == SQLITE_OK);
	must(sqlite3_step(st) == SQLITE_ROW);
	if (strcmp((const char *)sqlite3_column_text(st, 0), "ok") != 0) {
		fprintf(stderr, "integrity: %s\n", sqlite3_column_text(st, 0));
		faults++;
	}
	sqlite3_finalize(st);
	must(sqlite3_prepare_v2(db, "SELECT 1 FROM commands WHERE id = ?1", -1, &st, NULL) == SQLITE_OK);
	for (unsigned i = 0; i < order_count; i++) {
		sqlite3_bind_blob(st, 1, orders[i].id, 16, SQLITE_STATIC);
		missing += sqlite3_step(st) != SQLITE_ROW;
		silent += orders[i].answers == 0;
		sqlite3_reset(st);
	}
	sqlite3_finalize(st);
	rows = number(db, "SELECT count(*) FROM commands");
	doubled = number(db, "SELECT count(*) FROM (SELECT json_extract(data_json, '$.commandId') AS c, event FROM events "
	    "WHERE event LIKE 'command%' GROUP BY 1, 2 HAVING count(*) > 1)");
	unsent = number(db, "SELECT count(*) FROM commands WHERE status NOT IN (3)");
	if (missing > 0 || silent > 0 || rows != (int64_t)order_count || doubled > 0 || unsent > 0 ||
	    refused > sent_again)
		faults++;
	fprintf(stderr, "%u commands asked for, %u answered (%u more than once, after a crash), %u missing, %u never answered, "
	    "%lld rows, %lld events stored twice, %lld not executed; %u sent again, %u second acknowledgements refused\n",
	    order_count, answered, duplicates, missing, silent, (long long)rows, (long long)doubled, (long long)unsent,
	    sent_again, refused);
	sqlite3_close(db);
	return faults;
}

int
main(int argc, char **argv)
{
	const char *env = getenv("STORAGE_KILLS");
	unsigned kills = argc > 1 ? (unsigned)atoi(argv[1]) : env != NULL ? (unsigned)atoi(env) : 100;
	char folder[] = "/tmp/belay-kill-XXXXXX", path[64], url[80], name[80];
	int64_t deadline;
	pid_t pid;
	int faults;

	must(mkdtemp(folder) != NULL);
	log_set_level(LOG_LEVEL_WARN);
	snprintf(path, sizeof(path), "%s/belay.db", folder);
	snprintf(url, sizeof(url), "sqlite://%s", path);
	orders = must_alloc(MAX_ORDERS * sizeof(*orders));
	world_open(&world, url, false);
	shm_set_self(world.shm, GATEWAY_SLOT);
	slot_died(world.shm, STORAGE_SLOT);
	set_up_devices();
	srand((unsigned)getpid());
	for (unsigned i = 0; i < kills; i++) {
		pid = start_storage();
		run_for(5 + rand() % 40);
		kill_storage(pid);
	}
	/* The last one may finish. */
	pid = start_storage();
	deadline = clock_mono_ms() + 20000;
	do {
		read_answers();
		usleep(1000);
	} while (clock_mono_ms() < deadline &&
	    (answered < order_count || pending_count(world.shm) > 0 || mailbox_used(world.shm, STORAGE_SLOT) > 0));
	kill_storage(pid);
	faults = check(path);
	world.w.data = NULL;
	world_close(&world);
	free(orders);
	for (int i = 0; i < 3; i++) {
		static const char *const names[] = { "belay.db", "belay.db-wal", "belay.db-shm" };

		snprintf(name, sizeof(name), "%s/%s", folder, names[i]);
		(void)unlink(name);
	}
	(void)rmdir(folder);
	return faults;
}
