/*
 * store_bench.c: what a command costs in the storage process: feeds packed records to the role's functions, in batches, without
 * any other process.  Each command is asked for, sent and executed; a dashboard of another gateway listens.
 *
 *	store_bench URL [commands [in a batch [devices]]]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "auth/identity.h"
#include "base/clock.h"
#include "base/must.h"
#include "db/db.h"
#include "http/route.h"
#include "msg/audience.h"
#include "unit/storage_world.h"

static double
cpu_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static char device_names[20000][16];
static int64_t device_pks[20000];

static void
set_up(struct world *t, unsigned devices)
{
	for (unsigned i = 0; i < devices; i++) {
		char body[128], token[64];
		struct msg_rest m = {
			.request = ++t->requests, .ref = world_ref(t, GATEWAY_SLOT, 1, 1), .asked_ms = clock_mono_ms(),
			.route = ROUTE_device_register, .role = ROLE_USER, .tenant = SLICE("t1"), .user = SLICE("owner")
		};

		snprintf(device_names[i], sizeof(device_names[i]), "d%u", i);
		snprintf(body, sizeof(body), "{\"deviceId\":\"d%u\",\"name\":\"Door %u\"}", i, i);
		snprintf(token, sizeof(token), "bdt_%038uAAAAA", i);
		token[47] = '\0';
		uuid_new(m.fresh_id);
		m.token = slice_of(token);
		m.body_json = slice_of(body);
		world_post(t, rest, &m);
		if (i % 500 == 499)
			world_run(t);
	}
	world_run(t);
	for (unsigned i = 0; i < devices; i++) {
		struct msg_device_auth m = {
			.request = ++t->requests, .ref = world_ref(t, GATEWAY_SLOT, 10 + i, 1), .tenant = SLICE("t1"),
			.device = slice_of(device_names[i])
		};

		world_post(t, device_auth, &m);
		if (i % 500 == 499)
			world_run(t);
	}
	t->keep_posted = true;
	world_run(t);
}

int
main(int argc, char **argv)
{
	const char *url = argc > 1 ? argv[1] : "memory:";
	unsigned commands = argc > 2 ? (unsigned)atoi(argv[2]) : 20000;
	unsigned batch = argc > 3 ? (unsigned)atoi(argv[3]) : 64;
	unsigned devices = argc > 4 ? (unsigned)atoi(argv[4]) : 1000;
	char err[256];
	struct world t;
	double cpu, feed = 0, before;
	int64_t wall;
	uint8_t (*ids)[16] = must_alloc(batch * 16);
	struct hash128 topic;

	must(devices <= 20000 && batch > 0);
	must(db_arrange(url, (unsigned)-1, (unsigned)-1, err, sizeof(err)) != -1);
	world_open(&t, url, false);
	t.conf->limits_commands_in_flight = batch;
	t.keep_posted = false;
	world_start(&t);
	topic = audience_topic_user(shm_hash_key(t.shm), SLICE("t1"), SLICE("owner"));
	set_up(&t, devices);
	topics_join(t.shm, topic, GATEWAY_SLOT + 1);
	t.keep_posted = false;
	for (unsigned i = 0; i < devices; i++) {
		struct directory_view v;

		must(directory_find(t.shm, audience_device_key(shm_hash_key(t.shm), SLICE("t1"), slice_of(device_names[i])),
		    &v) == 1);
		device_pks[i] = v.device_pk;
	}
	cpu = cpu_us();
	wall = clock_mono_us();
	for (unsigned done = 0; done < commands; done += batch) {
		before = cpu_us();
		for (unsigned i = 0; i < batch; i++) {
			unsigned d = (done + i) * 7919u % devices;
			struct msg_command_new m = {
				.request = ++t.requests, .ref = world_ref(&t, GATEWAY_SLOT, 1, 1), .asked_ms = clock_mono_ms(),
				.timeout_ms = 30000,
				.role = ROLE_USER, .tenant = SLICE("t1"), .user = SLICE("owner"),
				.device = slice_of(device_names[d]),
				.command = SLICE("unlock_door"), .params_json = SLICE("{\"seconds\":5}")
			};

			uuid_new(m.command_id);
			memcpy(ids[i], m.command_id, 16);
			world_post(&t, command_new, &m);
		}
		feed += cpu_us() - before;
		world_run(&t);
		before = cpu_us();
		for (unsigned i = 0; i < batch; i++) {
			unsigned d = (done + i) * 7919u % devices;
			struct msg_command_ack m = {
				.ref = world_ref(&t, GATEWAY_SLOT, 10 + d, 1), .device_pk = device_pks[d],
				.status = ACK_EXECUTED, .tenant = SLICE("t1"),
				.device = slice_of(device_names[d]),
				.result_json = SLICE("{\"opened\":true}")
			};

			memcpy(m.command, ids[i], 16);
			m.verdict = (uint8_t)pending_move(t.shm, m.command,
			    audience_device_key(shm_hash_key(t.shm), SLICE("t1"), m.device), PENDING_EXECUTED);
			must(m.verdict == PENDING_WON);
			world_post(&t, command_ack, &m);
		}
		feed += cpu_us() - before;
		world_run(&t);
	}
	cpu = cpu_us() - cpu;
	wall = clock_mono_us() - wall;
	printf("%s: %u commands in batches of %u over %u devices: %.1f us CPU of storage for each (and %.1f for the feeding), "
	    "%.0f commands/s by the clock, %llu records posted\n", url, commands, batch, devices, (cpu - feed) / commands,
	    feed / commands, commands * 1e6 / (double)wall, (unsigned long long)t.posted_total);
	world_close(&t);
	db_clear_away();
	free(ids);
	return 0;
}
