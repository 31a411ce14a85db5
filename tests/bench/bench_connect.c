/*
 * bench_connect.c: authenticated connections made and ended again: TCP,
 * handshake with a token, the server's first message, a close frame each way,
 * the server's end of TCP.  That is the unit of work.
 *
 * --users distinct tokens are used in turn.  Many of them (more than a server
 * remembers) are first arrivals; few of them are a fleet that comes back.
 * --devices does the same with device tokens, each device once at a time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/lib.h"

struct connect {
	unsigned at_once, users, devices;
	double seconds, warm_up;
	const char *target, *name;
	bool raw;			/* no first message comes */
	struct bench_belay belay;
	struct bench_procs procs;

	char **fields;
	unsigned nfields, next;
	bool *busy;			/* per field line, with devices */
	struct bench_conn *conns;
	unsigned *field_of;		/* per connection */
	uint8_t *greeted;
	bool measuring, stopping;
	unsigned open;
	uint64_t done, greeted_total;
	struct bench_hist ready, whole;	/* until the first message; until the end */
};

static struct connect cx = {
	.at_once = 32, .users = 20000, .seconds = 5, .warm_up = 1, .target = "/ws", .name = "server",
	.belay = { "127.0.0.1:3000", NULL, "default" }
};

static void
connect_start(struct bench_loop *l, struct bench_conn *c)
{
	unsigned i = cx.next++ % cx.nfields;

	while (cx.devices != 0 && cx.busy[i])
		i = cx.next++ % cx.nfields;
	cx.busy[i] = true;
	cx.field_of[c->index] = i;
	cx.greeted[c->index] = 0;
	cx.open++;
	bench_conn_open(l, c, cx.target, cx.fields[i]);
}

static void
connect_greeted(struct bench_conn *c)
{
	cx.greeted[c->index] = 1;
	if (cx.measuring)
		bench_hist_add(&cx.ready, bench_now() - c->opened_at);
	bench_conn_send_close(c);
}

static void
connect_opened(struct bench_conn *c)
{
	if (cx.raw)
		connect_greeted(c);
}

static void
connect_message(struct bench_conn *c, const char *p, size_t len)
{
	if (cx.greeted[c->index])
		return;
	if (memmem(p, len < 40 ? len : 40, "\"connected\"", 11) == NULL)
		bench_die("the first message is not \"connected\": %.*s", (int)len, p);
	connect_greeted(c);
}

static void
connect_closed(struct bench_conn *c, int code, const char *text, size_t len)
{
	if (!cx.greeted[c->index] || code != 1000)
		bench_die("connection ended with %d %.*s%s", code, (int)len, text,
		    cx.greeted[c->index] ? " in place of 1000" : " before it was accepted");
	cx.busy[cx.field_of[c->index]] = false;
	cx.open--;
	if (cx.measuring) {
		cx.done++;
		bench_hist_add(&cx.whole, bench_now() - c->opened_at);
	}
	if (!cx.stopping)
		connect_start(c->loop, c);
}

static const struct bench_handler connect_handler = {
	.opened = connect_opened, .message = connect_message, .closed = connect_closed
};

static void
connect_run(struct bench_loop *l, double seconds)
{
	uint64_t end = bench_now() + (uint64_t)(seconds * 1e9), last = bench_now();

	while (bench_now() < end)
		if (bench_loop_step(l, BENCH_SECOND / 100) > 0)
			last = bench_now();
		else if (bench_now() - last > 10 * BENCH_SECOND)
			bench_die("no answer for 10 s");
}

static void
connect_prepare(void)
{
	char user[64];

	cx.nfields = cx.belay.secret_file == NULL ? 1 : cx.devices != 0 ? cx.devices : cx.users;
	if (cx.nfields < 1 || (cx.devices != 0 && cx.devices < cx.at_once))
		bench_die("at least as many devices as connections at once");
	cx.fields = bench_alloc(cx.nfields * sizeof(*cx.fields));
	cx.busy = bench_alloc(cx.nfields * sizeof(*cx.busy));
	cx.conns = bench_alloc(cx.at_once * sizeof(*cx.conns));
	cx.field_of = bench_alloc(cx.at_once * sizeof(*cx.field_of));
	cx.greeted = bench_alloc(cx.at_once);
	if (cx.belay.secret_file == NULL) {
		cx.fields[0] = bench_alloc(1);
	} else if (cx.devices != 0) {
		char *owner = bench_belay_user(&cx.belay, "bench-connect", "user");

		for (unsigned i = 0; i < cx.devices; i++)
			cx.fields[i] = bench_belay_device(&cx.belay, owner, NULL);
		free(owner);
	} else {
		for (unsigned i = 0; i < cx.users; i++) {
			snprintf(user, sizeof(user), "bench-user-%u", i);
			cx.fields[i] = bench_belay_user(&cx.belay, user, "user");
		}
	}
}

int
main(int argc, char **argv)
{
	const struct bench_arg args[] = {
		{ "connect", BENCH_TEXT, &cx.belay.address, "address and port (127.0.0.1:3000)" },
		{ "target", BENCH_TEXT, &cx.target, "path and query (/ws)" },
		{ "secret-file", BENCH_TEXT, &cx.belay.secret_file, "the server's JWT secret: mint tokens" },
		{ "tenant", BENCH_TEXT, &cx.belay.tenant, "of these tokens (default)" },
		{ "at-once", BENCH_UINT, &cx.at_once, "connections on their way (32)" },
		{ "users", BENCH_UINT, &cx.users, "distinct tokens (20000)" },
		{ "devices", BENCH_UINT, &cx.devices, "so many device tokens instead (0)" },
		{ "seconds", BENCH_SECONDS, &cx.seconds, "measured (5)" },
		{ "warm-up", BENCH_SECONDS, &cx.warm_up, "before that (1)" },
		{ "raw", BENCH_FLAG, &cx.raw, "no first message comes (raw_epoll)" },
		{ "server-pid", BENCH_PID, &cx.procs, "count this process and its children; may be repeated" },
		{ "name", BENCH_TEXT, &cx.name, "what to call the server in the output" },
		{ NULL, BENCH_FLAG, NULL, NULL }
	};
	struct bench_loop l;
	uint64_t cpu, start, ns;

	bench_args(argc, argv, "bench_connect: authenticated connections made and ended", args);
	connect_prepare();
	/* A closed connection keeps its pair of ports busy for a minute: many sources. */
	bench_loop_init(&l, cx.belay.address, &connect_handler, 120, 0);
	for (unsigned i = 0; i < cx.at_once; i++) {
		cx.conns[i].index = i;
		connect_start(&l, &cx.conns[i]);
	}
	connect_run(&l, cx.warm_up);
	bench_procs_find(&cx.procs);
	cx.measuring = true;
	start = bench_now();
	cpu = bench_procs_cpu(&cx.procs);
	connect_run(&l, cx.seconds);
	cpu = bench_procs_cpu(&cx.procs) - cpu;
	ns = bench_now() - start;
	cx.measuring = false;
	cx.stopping = true;
	for (int i = 0; i < 200 && cx.open != 0; i++)
		bench_loop_step(&l, BENCH_SECOND / 100);
	if (cx.done == 0)
		bench_die("no connection was made and ended in %.1f s", cx.seconds);
	printf("bench=connect name=%s at_once=%u tokens=%u kind=%s connections=%llu per_second=%.0f"
	    " server_cpu_us=%.3f", cx.name, cx.at_once, cx.nfields,
	    cx.devices != 0 ? "device" : "user", (unsigned long long)cx.done,
	    (double)cx.done * 1e9 / (double)ns, (double)cpu / 1e3 / (double)cx.done);
	bench_hist_print(&cx.ready);
	printf(" whole_p50_us=%.1f whole_p99_us=%.1f\n", (double)bench_hist_at(&cx.whole, 0.5) / 1e3,
	    (double)bench_hist_at(&cx.whole, 0.99) / 1e3);
	bench_end();
}
