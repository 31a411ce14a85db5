/*
 * bench_command.c: the whole way of a command: a controller asks, the device
 * gets it and answers that it executed it, the controller sees that.
 *
 * Closed loop: each controller keeps --in-flight commands on their way.  Open
 * loop (--rate): commands are sent at fixed times whatever the answers do, and
 * latency counts from the time a command was due, so that a stall is not hidden
 * by the commands that were not sent during it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/lib.h"

#define COMMAND_RING (1u << 20)

struct command {
	unsigned controllers, devices, in_flight, rate;
	double seconds, warm_up;
	const char *name;
	bool raw;			/* raw_epoll --mode relay: a controller and a device are a pair */
	struct bench_belay belay;
	struct bench_procs procs;

	struct bench_conn *ctl, *dev;
	char **dev_id;
	unsigned open;
	bool measuring, stopping;
	uint64_t *due;			/* by number of the command */
	uint64_t next;			/* number of the next command */
	uint64_t *fifo_head, *fifo_tail;	/* raw: per controller, which are on their way */
	uint64_t *fifo;
	uint64_t done, done_total;
	unsigned *turn;			/* per controller: which of its devices is next */
	struct bench_hist hist;
};

static struct command cmd = {
	.controllers = 10, .devices = 100, .in_flight = 8, .seconds = 5, .warm_up = 1,
	.name = "server", .belay = { "127.0.0.1:3000", NULL, "default" }
};

#define FIFO_SIZE 4096

static bool
is_controller(const struct bench_conn *c)
{
	return c >= cmd.ctl && c < cmd.ctl + cmd.controllers;
}

/* Devices are dealt out in turn: controller i has i, i + controllers, … */
static void
command_send(struct bench_conn *c, uint64_t due)
{
	unsigned mine = c->index, of = cmd.devices / cmd.controllers;
	uint64_t number = cmd.next++;
	char text[256];
	int len;

	cmd.due[number % COMMAND_RING] = due;
	if (cmd.raw) {
		uint64_t *tail = &cmd.fifo_tail[mine];

		if (*tail - cmd.fifo_head[mine] == FIFO_SIZE)
			bench_die("more than %d commands wait at one controller", FIFO_SIZE);
		cmd.fifo[(size_t)mine * FIFO_SIZE + (*tail)++ % FIFO_SIZE] = number;
	}
	len = snprintf(text, sizeof(text),
	    "{\"type\":\"command\",\"id\":\"%llu\",\"payload\":{\"deviceId\":\"%s\","
	    "\"command\":\"unlock_door\",\"params\":{\"n\":%llu}}}", (unsigned long long)number,
	    cmd.dev_id[mine + cmd.controllers * (cmd.turn[mine]++ % of)], (unsigned long long)number);
	bench_conn_text(c, text, (size_t)len);
}

static void
command_done(struct bench_conn *c, uint64_t number)
{
	uint64_t now = bench_now();

	cmd.done_total++;
	if (cmd.measuring) {
		cmd.done++;
		bench_hist_add(&cmd.hist, now - cmd.due[number % COMMAND_RING]);
	}
	if (cmd.rate == 0 && !cmd.stopping)
		command_send(c, now);
}

static void
controller_message(struct bench_conn *c, const char *p, size_t len)
{
	size_t head = len < 64 ? len : 64;
	const char *n;

	if (cmd.raw) {
		command_done(c, cmd.fifo[(size_t)c->index * FIFO_SIZE + cmd.fifo_head[c->index]++ % FIFO_SIZE]);
		return;
	}
	if (memmem(p, head, "\"error\"", 7) != NULL || memmem(p, head, "\"gap\"", 5) != NULL)
		bench_die("a controller was told: %.*s", (int)len, p);
	if (memmem(p, head, "\"command_status\"", 16) == NULL)
		return;
	if (memmem(p, len, "\"status\":\"executed\"", 19) == NULL) {
		if (memmem(p, len, "\"status\":\"sent\"", 15) == NULL && memmem(p, len, "\"status\":\"accepted\"", 19) == NULL)
			bench_die("a command ended otherwise: %.*s", (int)len, p);
		return;
	}
	if ((n = bench_json_after(p, len, "\"params\":{\"n\":")) == NULL)
		bench_die("a command without its parameters: %.*s", (int)len, p);
	command_done(c, strtoull(n, NULL, 10));
}

static void
device_message(struct bench_conn *c, const char *p, size_t len)
{
	static const char form[] =
	    "{\"type\":\"command_ack\",\"payload\":{\"commandId\":\"%.*s\",\"status\":\"executed\"}}";
	size_t head = len < 64 ? len : 64;
	char text[256];
	const char *id;
	int n;

	if (cmd.raw) {
		n = snprintf(text, sizeof(text), form, 36, "00000000-0000-0000-0000-000000000000");
		bench_conn_text(c, text, (size_t)n);
		return;
	}
	if (memmem(p, head, "\"error\"", 7) != NULL)
		bench_die("a device was told: %.*s", (int)len, p);
	if (memmem(p, head, "\"command\"", 9) == NULL)
		return;
	if ((id = bench_json_after(p, len, "\"commandId\":\"")) == NULL)
		bench_die("a command without id: %.*s", (int)len, p);
	n = snprintf(text, sizeof(text), form, (int)strcspn(id, "\""), id);
	bench_conn_text(c, text, (size_t)n);
}

static void
command_message(struct bench_conn *c, const char *p, size_t len)
{
	if (is_controller(c))
		controller_message(c, p, len);
	else
		device_message(c, p, len);
}

static void
command_opened(struct bench_conn *c)
{
	(void)c;
	cmd.open++;
}

static void
command_closed(struct bench_conn *c, int code, const char *text, size_t len)
{
	bench_die("%s %u ended with %d %.*s", is_controller(c) ? "controller" : "device", c->index,
	    code, (int)len, text);
}

static const struct bench_handler command_handler = {
	.opened = command_opened, .message = command_message, .closed = command_closed
};

static void
command_wait_open(struct bench_loop *l, unsigned n)
{
	while (cmd.open < n)
		if (bench_loop_step(l, 5 * BENCH_SECOND) == 0)
			bench_die("no answer from %s for 5 s", cmd.belay.address);
}

static void
command_connect(struct bench_loop *l)
{
	char target[128], user[64], **owner = bench_alloc(cmd.controllers * sizeof(*owner));
	bool belay = cmd.belay.secret_file != NULL;

	for (unsigned i = 0; i < cmd.devices; i++) {
		unsigned of = i % cmd.controllers;
		char *fields = NULL;

		if (belay && owner[of] == NULL) {
			/* New users each time: an earlier run's commands may still be running out of time. */
			snprintf(user, sizeof(user), "bench-%d-%u", (int)getpid(), of);
			owner[of] = bench_belay_user(&cmd.belay, user, "user");
		}
		cmd.dev[i].index = i;
		if (belay) {
			static const char id_field[] = "X-Device-Id: ";
			const char *id;

			fields = bench_belay_device(&cmd.belay, owner[of], NULL);
			id = strstr(fields, id_field) + sizeof(id_field) - 1;
			cmd.dev_id[i] = strndup(id, strcspn(id, "\r"));
			snprintf(target, sizeof(target), "/ws");
		} else {
			cmd.dev_id[i] = bench_alloc(32);
			snprintf(cmd.dev_id[i], 32, "d%u", i);
			snprintf(target, sizeof(target), "/dev/%u?device=%s", i, cmd.dev_id[i]);
		}
		bench_conn_open(l, &cmd.dev[i], target, fields != NULL ? fields : "");
		free(fields);
		command_wait_open(l, i + 1);
	}
	for (unsigned i = 0; i < cmd.controllers; i++) {
		cmd.ctl[i].index = i;
		snprintf(target, sizeof(target), belay ? "/ws" : "/ctl/%u", i);
		bench_conn_open(l, &cmd.ctl[i], target, owner[i] != NULL ? owner[i] : "");
		command_wait_open(l, cmd.devices + i + 1);
		free(owner[i]);
	}
	free(owner);
	/* What is said on connecting passes by. */
	while (bench_loop_step(l, BENCH_SECOND / 3) > 0)
		;
}

static void
command_closed_loop(struct bench_loop *l, double seconds)
{
	uint64_t end = bench_now() + (uint64_t)(seconds * 1e9), before = cmd.done_total;

	while (bench_now() < end)
		bench_loop_step(l, BENCH_SECOND / 100);
	if (seconds > 0 && cmd.done_total == before)
		bench_die("no command came back in %.1f s", seconds);
}

static void
command_open_loop(struct bench_loop *l, double seconds)
{
	uint64_t start = bench_now(), end = start + (uint64_t)(seconds * 1e9), gap = BENCH_SECOND / cmd.rate;
	uint64_t due = start, now = start;

	while (now < end) {
		for (; due <= now && due < end; due += gap) {
			if (cmd.next - cmd.done_total > COMMAND_RING / 2)
				bench_die("%u commands a second are more than the server does", cmd.rate);
			command_send(&cmd.ctl[cmd.next % cmd.controllers], due);
		}
		bench_loop_step(l, due > now ? due - now : 0);
		now = bench_now();
	}
}

int
main(int argc, char **argv)
{
	const struct bench_arg args[] = {
		{ "connect", BENCH_TEXT, &cmd.belay.address, "address and port (127.0.0.1:3000)" },
		{ "secret-file", BENCH_TEXT, &cmd.belay.secret_file,
		    "belayd's auth.jwt_secret_file: register devices, mint tokens" },
		{ "tenant", BENCH_TEXT, &cmd.belay.tenant, "of these tokens (default)" },
		{ "controllers", BENCH_UINT, &cmd.controllers, "each a user with devices of its own (10)" },
		{ "devices", BENCH_UINT, &cmd.devices, "in all (100)" },
		{ "in-flight", BENCH_UINT, &cmd.in_flight, "commands on their way for each controller (8)" },
		{ "rate", BENCH_UINT, &cmd.rate, "open loop: commands a second in all (0: closed loop)" },
		{ "seconds", BENCH_SECONDS, &cmd.seconds, "measured (5)" },
		{ "warm-up", BENCH_SECONDS, &cmd.warm_up, "before that (1)" },
		{ "raw", BENCH_FLAG, &cmd.raw, "raw_epoll --mode relay: a device for each controller" },
		{ "server-pid", BENCH_PID, &cmd.procs, "count this process and its children; may be repeated" },
		{ "name", BENCH_TEXT, &cmd.name, "what to call the server in the output" },
		{ NULL, BENCH_FLAG, NULL, NULL }
	};
	void (*run)(struct bench_loop *, double);
	struct bench_loop l;
	uint64_t cpu, start, ns;

	bench_args(argc, argv, "bench_command: the whole way of a command", args);
	if (cmd.raw)
		cmd.devices = cmd.controllers;
	if (cmd.controllers < 1 || cmd.devices < cmd.controllers)
		bench_die("at least one controller, and as many devices");
	cmd.devices -= cmd.devices % cmd.controllers;
	run = cmd.rate != 0 ? command_open_loop : command_closed_loop;
	cmd.ctl = bench_alloc(cmd.controllers * sizeof(*cmd.ctl));
	cmd.dev = bench_alloc(cmd.devices * sizeof(*cmd.dev));
	cmd.dev_id = bench_alloc(cmd.devices * sizeof(*cmd.dev_id));
	cmd.due = bench_alloc(COMMAND_RING * sizeof(*cmd.due));
	cmd.turn = bench_alloc(cmd.controllers * sizeof(*cmd.turn));
	cmd.fifo_head = bench_alloc(cmd.controllers * sizeof(*cmd.fifo_head));
	cmd.fifo_tail = bench_alloc(cmd.controllers * sizeof(*cmd.fifo_tail));
	cmd.fifo = bench_alloc((size_t)cmd.controllers * FIFO_SIZE * sizeof(*cmd.fifo));
	bench_loop_init(&l, cmd.belay.address, &command_handler, 8, 0);
	command_connect(&l);
	if (cmd.rate == 0)
		for (unsigned i = 0; i < cmd.controllers * cmd.in_flight; i++)
			command_send(&cmd.ctl[i % cmd.controllers], bench_now());
	run(&l, cmd.warm_up);
	bench_procs_find(&cmd.procs);
	cmd.measuring = true;
	start = bench_now();
	cpu = bench_procs_cpu(&cmd.procs);
	run(&l, cmd.seconds);
	cpu = bench_procs_cpu(&cmd.procs) - cpu;
	ns = bench_now() - start;
	cmd.measuring = false;
	cmd.stopping = true;
	for (int i = 0; i < 500 && cmd.done_total < cmd.next; i++)
		bench_loop_step(&l, BENCH_SECOND / 100);
	if (cmd.done == 0)
		bench_die("no command came back");
	printf("bench=command name=%s controllers=%u devices=%u in_flight=%u rate=%u commands=%llu"
	    " per_second=%.0f server_cpu_us=%.3f", cmd.name, cmd.controllers, cmd.devices,
	    cmd.rate == 0 ? cmd.in_flight : 0, cmd.rate, (unsigned long long)cmd.done,
	    (double)cmd.done * 1e9 / (double)ns, (double)cpu / 1e3 / (double)cmd.done);
	bench_hist_print(&cmd.hist);
	printf("\n");
	bench_end();
}
