/*
 * bench_fanout.c: one device's telemetry to many dashboards.
 *
 * --window events are on their way at a time; the next is published when every
 * subscriber has had the oldest, so that no server builds up a backlog (and
 * none is measured while it drops).  The unit of work is one delivery.
 *
 * With --secret-file the server is belayd: a device is registered for one user,
 * publishes its telemetry, and the subscribers are connections of that user.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/lib.h"

#define FANOUT_WINDOW_MAX 1024

struct fanout {
	unsigned subscribers, window, size;
	double seconds, warm_up;
	const char *pub_target, *sub_target, *name, *match;
	struct bench_belay belay;
	struct bench_procs procs;

	struct bench_conn publisher, *subs;
	uint64_t *got;			/* events each subscriber had */
	unsigned open;
	bool measuring;
	char *frame;
	size_t frame_len;
	uint64_t published, done;	/* events; done: every subscriber had them */
	unsigned left[FANOUT_WINDOW_MAX];	/* deliveries still owed, by event number */
	uint64_t sent_at[FANOUT_WINDOW_MAX];
	uint64_t deliveries, events, bytes;
	struct bench_hist hist;
};

static struct fanout fan = {
	.subscribers = 500, .window = 1, .size = 200, .seconds = 5, .warm_up = 1,
	.pub_target = "/pub", .sub_target = "/sub", .name = "server",
	.belay = { "127.0.0.1:3000", NULL, "default" }
};

static void
fanout_opened(struct bench_conn *c)
{
	if (c != &fan.publisher)
		fan.open++;
}

static void
fanout_closed(struct bench_conn *c, int code, const char *text, size_t len)
{
	bench_die("%s %u ended: %d %.*s", c == &fan.publisher ? "publisher" : "subscriber",
	    c->index, code, (int)len, text);
}

static void
fanout_publish(void)
{
	unsigned slot = (unsigned)(fan.published % FANOUT_WINDOW_MAX);

	fan.left[slot] = fan.subscribers;
	fan.sent_at[slot] = bench_now();
	fan.published++;
	bench_conn_write(&fan.publisher, fan.frame, fan.frame_len);
}

static void
fanout_message(struct bench_conn *c, const char *p, size_t len)
{
	size_t head = len < 64 ? len : 64;
	uint64_t event;

	if (c == &fan.publisher) {
		if (memmem(p, head, "\"error\"", 7) != NULL)
			bench_die("the publisher was told: %.*s", (int)len, p);
		return;
	}
	if (fan.match != NULL && memmem(p, head, fan.match, strlen(fan.match)) == NULL) {
		if (memmem(p, head, "\"gap\"", 5) != NULL || memmem(p, head, "\"error\"", 7) != NULL)
			bench_die("a subscriber was told: %.*s", (int)len, p);
		return;
	}
	event = fan.got[c->index]++;
	if (event >= fan.published)
		bench_die("subscriber %u had %llu events of %llu", c->index,
		    (unsigned long long)event + 1, (unsigned long long)fan.published);
	if (fan.measuring) {
		fan.deliveries++;
		fan.bytes += len;
		bench_hist_add(&fan.hist, bench_now() - fan.sent_at[event % FANOUT_WINDOW_MAX]);
	}
	if (--fan.left[event % FANOUT_WINDOW_MAX] == 0) {
		fan.done++;
		fan.events += fan.measuring;
		fanout_publish();
	}
}

static const struct bench_handler fanout_handler = {
	.opened = fanout_opened, .message = fanout_message, .closed = fanout_closed
};

static void
fanout_prepare(void)
{
	static const char form[] =
	    "{\"type\":\"telemetry\",\"payload\":{\"data\":{\"temperature\":21.5,\"note\":\"%s\"}}}";
	char *note, *text;
	size_t edge = sizeof(form) - 3;

	if (fan.size < edge)
		fan.size = (unsigned)edge;
	note = bench_alloc(fan.size + 1);
	text = bench_alloc(fan.size + 1);
	memset(note, 'x', fan.size - edge);
	snprintf(text, fan.size + 1, form, note);
	fan.frame = bench_alloc(fan.size + 14);
	fan.frame_len = bench_frame(fan.frame, text, fan.size);
	free(note);
	free(text);
	fan.subs = bench_alloc(fan.subscribers * sizeof(*fan.subs));
	fan.got = bench_alloc(fan.subscribers * sizeof(*fan.got));
}

static void
fanout_run(struct bench_loop *l, double seconds)
{
	uint64_t end = bench_now() + (uint64_t)(seconds * 1e9), done = fan.done;

	while (bench_now() < end)
		bench_loop_step(l, BENCH_SECOND / 100);
	if (seconds > 0 && fan.done == done)
		bench_die("no event reached every subscriber in %.1f s", seconds);
}

/* Lets what a server says on connecting pass, before anything is counted. */
static void
fanout_settle(struct bench_loop *l)
{
	while (bench_loop_step(l, BENCH_SECOND / 3) > 0)
		;
}

int
main(int argc, char **argv)
{
	const struct bench_arg args[] = {
		{ "connect", BENCH_TEXT, &fan.belay.address, "address and port (127.0.0.1:3000)" },
		{ "secret-file", BENCH_TEXT, &fan.belay.secret_file,
		    "belayd's auth.jwt_secret_file: register a device, mint tokens" },
		{ "tenant", BENCH_TEXT, &fan.belay.tenant, "of these tokens (default)" },
		{ "pub-target", BENCH_TEXT, &fan.pub_target, "path and query of the publisher (/pub)" },
		{ "sub-target", BENCH_TEXT, &fan.sub_target, "path and query of the subscribers (/sub)" },
		{ "subscribers", BENCH_UINT, &fan.subscribers, "(500)" },
		{ "window", BENCH_UINT, &fan.window, "events on their way (1)" },
		{ "size", BENCH_UINT, &fan.size, "bytes of the publisher's message (200)" },
		{ "seconds", BENCH_SECONDS, &fan.seconds, "measured (5)" },
		{ "warm-up", BENCH_SECONDS, &fan.warm_up, "before that (1)" },
		{ "match", BENCH_TEXT, &fan.match, "count only messages whose first 64 bytes hold this" },
		{ "server-pid", BENCH_PID, &fan.procs, "count this process and its children; may be repeated" },
		{ "name", BENCH_TEXT, &fan.name, "what to call the server in the output" },
		{ NULL, BENCH_FLAG, NULL, NULL }
	};
	char *user = NULL, *device = NULL;
	struct bench_loop l;
	uint64_t cpu, start, ns;
	unsigned opening = 0;

	bench_args(argc, argv, "bench_fanout: one publisher, many subscribers", args);
	if (fan.window < 1 || fan.window > FANOUT_WINDOW_MAX || fan.subscribers < 1)
		bench_die("--window is 1 to %d, --subscribers at least 1", FANOUT_WINDOW_MAX);
	fanout_prepare();
	if (fan.belay.secret_file != NULL) {
		user = bench_belay_user(&fan.belay, "bench-fanout", "user");
		device = bench_belay_device(&fan.belay, user, NULL);
		fan.pub_target = fan.sub_target = "/ws";
		fan.match = "\"telemetry\"";
	}
	bench_loop_init(&l, fan.belay.address, &fanout_handler, 8, 0);
	while (fan.open < fan.subscribers) {
		while (opening < fan.subscribers && opening < fan.open + 64) {
			fan.subs[opening].index = opening;
			bench_conn_open(&l, &fan.subs[opening++], fan.sub_target, user != NULL ? user : "");
		}
		if (bench_loop_step(&l, 5 * BENCH_SECOND) == 0)
			bench_die("no answer from %s for 5 s", fan.belay.address);
	}
	bench_conn_open(&l, &fan.publisher, fan.pub_target, device != NULL ? device : "");
	while (fan.publisher.state != BENCH_OPEN)
		if (bench_loop_step(&l, 5 * BENCH_SECOND) == 0)
			bench_die("no answer from %s for 5 s", fan.belay.address);
	fanout_settle(&l);
	for (unsigned i = 0; i < fan.window; i++)
		fanout_publish();
	fanout_run(&l, fan.warm_up);
	bench_procs_find(&fan.procs);
	fan.measuring = true;
	start = bench_now();
	cpu = bench_procs_cpu(&fan.procs);
	fanout_run(&l, fan.seconds);
	cpu = bench_procs_cpu(&fan.procs) - cpu;
	ns = bench_now() - start;
	printf("bench=fanout name=%s subscribers=%u window=%u size=%u events=%llu deliveries=%llu"
	    " per_second=%.0f bytes_each=%llu server_cpu_us=%.3f", fan.name, fan.subscribers,
	    fan.window, fan.size, (unsigned long long)fan.events,
	    (unsigned long long)fan.deliveries, (double)fan.deliveries * 1e9 / (double)ns,
	    (unsigned long long)(fan.bytes / fan.deliveries),
	    (double)cpu / 1e3 / (double)fan.deliveries);
	bench_hist_print(&fan.hist);
	printf("\n");
	bench_end();
}
