/*
 * storage_cost.c: how much the store writes for a command that is asked for, sent and executed: rows, index entries, and bytes of
 * SQLite's log, in batches of 64 and alone.  Fails when that grows.
 *
 * Rows are counted by SQLite.  Index entries are counted in the programs of the statements that ran (IdxInsert and IdxDelete
 * of each): entries of indexes with a condition that the row does not meet are among them, so that it is an upper bound.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/device_token.h"
#include "auth/identity.h"
#include "base/clock.h"
#include "base/must.h"
#include "db/sqlite.h"
#include "http/route.h"
#include "msg/audience.h"
#include "storage/storage.h"
#include "storage_world.h"

#define COMMANDS 640

/*
 * Rows of a command: when it is asked for and sent, that of the command and that of its event; when it is executed, the same.  Of
 * each batch besides: its number, that of the tenant's places, and one for each device: which rows are its (sqlite_links.c), of
 * which each 16 make another one.
 */
#define COST_ROWS	4.4
#define COST_ROWS_ALONE	10.3
#define COST_ENTRIES	13
#define COST_BYTES	4600
#define COST_BYTES_ALONE 60000

static struct world world;
static char folder[64], path[96], url[112];
static sqlite3 *explains;
static unsigned long entries;		/* of indexes */

static unsigned
entries_of(const char *sql)
{
	static struct { const char *sql; unsigned n; } known[200];
	char text[4096];
	sqlite3_stmt *st;
	unsigned i;

	for (i = 0; known[i].sql != NULL; i++)
		if (known[i].sql == sql)
			return known[i].n;
	must(i < 199);
	known[i].sql = sql;
	snprintf(text, sizeof(text), "EXPLAIN %s", sql);
	must(sqlite3_prepare_v2(explains, text, -1, &st, NULL) == SQLITE_OK);
	while (sqlite3_step(st) == SQLITE_ROW) {
		const char *op = (const char *)sqlite3_column_text(st, 1);

		known[i].n += strcmp(op, "IdxInsert") == 0 || strcmp(op, "IdxDelete") == 0;
	}
	sqlite3_finalize(st);
	return known[i].n;
}

static int
on_statement(unsigned what, void *arg, void *st, void *text)
{
	(void)what, (void)arg, (void)text;
	if (sqlite3_stmt_readonly(st) == 0)
		entries += entries_of(sqlite3_sql(st));
	return 0;
}

static sqlite3 *
handle(void)
{
	struct storage *s = world.w.data;

	return sqlite_self(s->desk.db)->handle;
}

static void
post_command(uint8_t id[16])
{
	struct msg_command_new m = {
		.request = ++world.requests, .ref = world_ref(&world, GATEWAY_SLOT, 1, 1), .asked_ms = clock_mono_ms(),
		.role = ROLE_USER, .tenant = SLICE("t1"), .user = SLICE("owner"), .device = SLICE("d"),
		.command = SLICE("unlock_door"), .params_json = SLICE("{\"door\":\"front\",\"seconds\":5}"), .timeout_ms = 30000
	};

	uuid_new(id);
	memcpy(m.command_id, id, 16);
	world_post(&world, command_new, &m);
}

static void
post_ack(const uint8_t id[16])
{
	struct msg_command_ack m = {
		.ref = world_ref(&world, GATEWAY_SLOT, 100, 1), .device_pk = 1, .status = ACK_EXECUTED,
		.tenant = SLICE("t1"), .device = SLICE("d"), .result_json = SLICE("{\"opened\":true}")
	};

	memcpy(m.command, id, 16);
	m.verdict = (uint8_t)pending_move(world.shm, id, audience_device_key(shm_hash_key(world.shm), SLICE("t1"), SLICE("d")),
	    PENDING_EXECUTED);
	world_post(&world, command_ack, &m);
}

static off_t
log_bytes(void)
{
	char name[120];
	struct stat st;

	snprintf(name, sizeof(name), "%s-wal", path);
	return stat(name, &st) == 0 ? st.st_size : 0;
}

static void
set_up(void)
{
	char token[DEVICE_TOKEN_LEN + 1];
	struct msg_rest r = {
		.request = 1, .ref = world_ref(&world, GATEWAY_SLOT, 1, 1), .asked_ms = clock_mono_ms(),
		.route = ROUTE_device_register, .role = ROLE_USER, .tenant = SLICE("t1"), .user = SLICE("owner"),
		.body_json = SLICE("{\"deviceId\":\"d\",\"name\":\"Front door\"}")
	};
	struct msg_device_auth a = { .by_token = 1, .ref = world_ref(&world, GATEWAY_SLOT, 100, 1) };

	auth_device_token_new(token, a.token_hash);
	r.token = slice_of(token);
	uuid_new(r.fresh_id);
	world_post(&world, rest, &r);
	world_post(&world, device_auth, &a);
	world_run(&world);
}

static int
measure(unsigned batch, double most_rows, double most_entries, double most_bytes)
{
	static uint8_t ids[COMMANDS][16];
	int rows;
	off_t bytes;
	double n = COMMANDS, r, e, b;

	(void)sqlite3_wal_checkpoint_v2(handle(), NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	rows = sqlite3_total_changes(handle());
	bytes = log_bytes();
	entries = 0;
	for (unsigned i = 0; i < COMMANDS; i += batch) {
		for (unsigned k = 0; k < batch; k++)
			post_command(ids[i + k]);
		world_run(&world);
		for (unsigned k = 0; k < batch; k++)
			post_ack(ids[i + k]);
		world_run(&world);
		world_forget(&world);
	}
	r = (sqlite3_total_changes(handle()) - rows) / n;
	e = (double)entries / n;
	b = (double)(log_bytes() - bytes) / n;
	printf("a command, in batches of %u: %.2f rows, at most %.2f index entries, %.0f bytes of log\n", batch, r, e, b);
	return r > most_rows || e > most_entries || b > most_bytes;
}

int
main(void)
{
	int faults;

	snprintf(folder, sizeof(folder), "/tmp/belay-cost-XXXXXX");
	must(mkdtemp(folder) != NULL);
	snprintf(path, sizeof(path), "%s/belay.db", folder);
	snprintf(url, sizeof(url), "sqlite://%s", path);
	world_open(&world, url, false);
	world.conf->limits_commands_in_flight = COMMANDS;
	world_start(&world);
	set_up();
	must(sqlite3_open(path, &explains) == SQLITE_OK);
	must(sqlite3_trace_v2(handle(), SQLITE_TRACE_STMT, on_statement, NULL) == SQLITE_OK);
	faults = measure(64, COST_ROWS, COST_ENTRIES, COST_BYTES);
	faults += measure(1, COST_ROWS_ALONE, COST_ENTRIES, COST_BYTES_ALONE);
	sqlite3_close(explains);
	world_close(&world);
	for (int i = 0; i < 3; i++) {
		static const char *const ends[] = { "", "-wal", "-shm" };
		char name[120];

		snprintf(name, sizeof(name), "%s%s", path, ends[i]);
		(void)unlink(name);
	}
	(void)rmdir(folder);
	return faults > 0;
}
