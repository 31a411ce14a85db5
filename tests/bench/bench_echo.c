/*
 * bench_echo.c: messages that come back: connections that each keep --depth
 * messages on their way.  Depth 1 is the cost of a message alone, a greater one
 * what a server gains by taking all that a read brought at once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/lib.h"

struct echo {
	unsigned connections, depth, size;
	double seconds, warm_up;
	const char *address, *target, *ignore, *name;
	bool raw;			/* the payload does not come back as it was */
	struct bench_procs procs;

	struct bench_conn *conns;
	uint64_t *sent_at;		/* per connection, of the newest batch */
	unsigned *back;			/* per connection: since the last drained() */
	unsigned open;
	bool measuring;
	char *frames;			/* depth of them */
	char *payload;
	size_t frame_len;
	uint64_t messages;
	struct bench_hist hist;
};

static struct echo echo = {
	.connections = 100, .depth = 1, .size = 64, .seconds = 5, .warm_up = 1,
	.address = "127.0.0.1:3000", .target = "/", .name = "server"
};

static void
echo_opened(struct bench_conn *c)
{
	(void)c;
	echo.open++;
}

static void
echo_closed(struct bench_conn *c, int code, const char *text, size_t len)
{
	bench_die("connection %u ended: %d %.*s", c->index, code, (int)len, text);
}

static void
echo_message(struct bench_conn *c, const char *p, size_t len)
{
	if (len != echo.size || (!echo.raw && memcmp(p, echo.payload, len) != 0)) {
		if (echo.ignore != NULL && memmem(p, len, echo.ignore, strlen(echo.ignore)) != NULL)
			return;
		bench_die("what came back is not what was sent (%zu bytes: %.*s)", len,
		    (int)(len < 200 ? len : 200), p);
	}
	echo.back[c->index]++;
}

static void
echo_drained(struct bench_conn *c)
{
	unsigned n = echo.back[c->index];
	uint64_t now;

	if (n == 0)
		return;
	now = bench_now();
	if (echo.measuring) {
		echo.messages += n;
		if (echo.depth == 1)
			bench_hist_add(&echo.hist, now - echo.sent_at[c->index]);
	}
	echo.back[c->index] = 0;
	echo.sent_at[c->index] = now;
	bench_conn_write(c, echo.frames, n * echo.frame_len);
}

static const struct bench_handler echo_handler = {
	.opened = echo_opened, .message = echo_message, .drained = echo_drained,
	.closed = echo_closed
};

static void
echo_prepare(void)
{
	static const char open[] = "{\"type\":\"echo\",\"payload\":\"", close[] = "\"}";
	size_t edge = sizeof(open) + sizeof(close) - 2;

	echo.payload = bench_alloc(echo.size + 1);
	memset(echo.payload, 'x', echo.size);
	if (echo.size >= edge) {
		memcpy(echo.payload, open, sizeof(open) - 1);
		memcpy(echo.payload + echo.size - (sizeof(close) - 1), close, sizeof(close) - 1);
	}
	echo.frames = bench_alloc((echo.size + 14) * (size_t)echo.depth);
	echo.frame_len = bench_frame(echo.frames, echo.payload, echo.size);
	for (unsigned i = 1; i < echo.depth; i++)
		memcpy(echo.frames + i * echo.frame_len, echo.frames, echo.frame_len);
	echo.conns = bench_alloc(echo.connections * sizeof(*echo.conns));
	echo.sent_at = bench_alloc(echo.connections * sizeof(*echo.sent_at));
	echo.back = bench_alloc(echo.connections * sizeof(*echo.back));
}

static void
echo_run(struct bench_loop *l, double seconds)
{
	uint64_t end = bench_now() + (uint64_t)(seconds * 1e9);

	while (bench_now() < end)
		bench_loop_step(l, BENCH_SECOND / 100);
}

int
main(int argc, char **argv)
{
	const struct bench_arg args[] = {
		{ "connect", BENCH_TEXT, &echo.address, "address and port (127.0.0.1:3000)" },
		{ "target", BENCH_TEXT, &echo.target, "path and query (/)" },
		{ "connections", BENCH_UINT, &echo.connections, "(100)" },
		{ "depth", BENCH_UINT, &echo.depth, "messages on their way, each connection (1)" },
		{ "size", BENCH_UINT, &echo.size, "bytes of a message (64)" },
		{ "seconds", BENCH_SECONDS, &echo.seconds, "measured (5)" },
		{ "warm-up", BENCH_SECONDS, &echo.warm_up, "before that (1)" },
		{ "ignore", BENCH_TEXT, &echo.ignore, "pass over other messages that hold this text" },
		{ "raw", BENCH_FLAG, &echo.raw, "compare lengths alone (for raw_epoll)" },
		{ "server-pid", BENCH_PID, &echo.procs, "count this process and its children; may be repeated" },
		{ "name", BENCH_TEXT, &echo.name, "what to call the server in the output" },
		{ NULL, BENCH_FLAG, NULL, NULL }
	};
	struct bench_loop l;
	uint64_t cpu, start, ns;
	unsigned opening = 0;

	bench_args(argc, argv, "bench_echo: messages that come back", args);
	echo_prepare();
	bench_loop_init(&l, echo.address, &echo_handler, 8, 0);
	while (echo.open < echo.connections) {
		while (opening < echo.connections && opening < echo.open + 64) {
			echo.conns[opening].index = opening;
			bench_conn_open(&l, &echo.conns[opening++], echo.target, "");
		}
		if (bench_loop_step(&l, 5 * BENCH_SECOND) == 0)
			bench_die("no answer from %s for 5 s", echo.address);
	}
	for (unsigned i = 0; i < echo.connections; i++) {
		echo.sent_at[i] = bench_now();
		bench_conn_write(&echo.conns[i], echo.frames, echo.depth * echo.frame_len);
	}
	echo_run(&l, echo.warm_up);
	bench_procs_find(&echo.procs);
	echo.measuring = true;
	start = bench_now();
	cpu = bench_procs_cpu(&echo.procs);
	echo_run(&l, echo.seconds);
	cpu = bench_procs_cpu(&echo.procs) - cpu;
	ns = bench_now() - start;
	if (echo.messages == 0)
		bench_die("nothing came back");
	printf("bench=echo name=%s connections=%u depth=%u size=%u messages=%llu per_second=%.0f"
	    " server_cpu_us=%.3f", echo.name, echo.connections, echo.depth, echo.size,
	    (unsigned long long)echo.messages, (double)echo.messages * 1e9 / (double)ns,
	    (double)cpu / 1e3 / (double)echo.messages);
	if (echo.depth == 1)
		bench_hist_print(&echo.hist);
	printf("\n");
	bench_end();
}
