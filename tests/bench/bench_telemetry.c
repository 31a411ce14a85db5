/*
 * bench_telemetry.c: devices that tell telemetry, which nobody watches: what
 * taking a message in costs, and storing it where belayd is told to.
 *
 * Without --rate each device keeps --depth messages on their way: the last of
 * so many carries an id, and its answer brings the next.  With --rate messages
 * are sent one by one, in an open loop, and none carries an id.  The unit of
 * work is one message.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/lib.h"

struct telemetry {
	unsigned devices, depth, size, rate;
	double seconds, warm_up;
	const char *name;
	struct bench_belay belay;
	struct bench_procs procs;

	struct bench_conn *conns;
	uint64_t *sent_at;		/* per device, of the newest batch */
	unsigned open;
	bool measuring, going;
	char *one, *batch;		/* a frame; depth of them, the last with an id */
	size_t one_len, batch_len;
	uint64_t messages;		/* while measuring: answered, or with --rate sent */
	uint64_t sent;			/* with --rate: since the beginning */
	unsigned answers;		/* to the messages with an id */
	struct bench_hist hist;		/* of the batches */
};

static struct telemetry tele = {
	.devices = 100, .depth = 16, .size = 200, .seconds = 5, .warm_up = 1, .name = "server",
	.belay = { "127.0.0.1:3000", NULL, "default" }
};

static void
telemetry_opened(struct bench_conn *c)
{
	(void)c;
	tele.open++;
}

static void
telemetry_closed(struct bench_conn *c, int code, const char *text, size_t len)
{
	bench_die("device %u ended: %d %.*s", c->index, code, (int)len, text);
}

static void
telemetry_batch(struct bench_conn *c)
{
	tele.sent_at[c->index] = bench_now();
	bench_conn_write(c, tele.batch, tele.batch_len);
}

static void
telemetry_message(struct bench_conn *c, const char *p, size_t len)
{
	if (memmem(p, len, "\"error\"", 7) != NULL)
		bench_die("device %u was told: %.*s", c->index, (int)len, p);
	if (memmem(p, len, "\"ok\"", 4) == NULL)
		return;
	tele.answers++;
	if (tele.rate != 0 || !tele.going)
		return;
	if (tele.measuring) {
		tele.messages += tele.depth;
		bench_hist_add(&tele.hist, bench_now() - tele.sent_at[c->index]);
	}
	telemetry_batch(c);
}

static const struct bench_handler telemetry_handler = {
	.opened = telemetry_opened, .message = telemetry_message, .closed = telemetry_closed
};

static size_t
frame(char *out, const char *id)
{
	static const char form[] =
	    "{\"type\":\"telemetry\",%s\"payload\":{\"data\":{\"temperature\":21.5,\"note\":\"%s\"}}}";
	char *note = bench_alloc(tele.size + 1), *text = bench_alloc(tele.size + 256);
	size_t edge = sizeof(form) + strlen(id) - 5, len;

	memset(note, 'x', tele.size > edge ? tele.size - edge : 0);
	len = (size_t)snprintf(text, tele.size + 256, form, id, note);
	len = bench_frame(out, text, len);
	free(note);
	free(text);
	return len;
}

static void
telemetry_prepare(void)
{
	size_t room = tele.size + 256;

	tele.one = bench_alloc(room);
	tele.one_len = frame(tele.one, "");
	tele.batch = bench_alloc(tele.depth * room);
	for (unsigned i = 1; i < tele.depth; i++, tele.batch_len += tele.one_len)
		memcpy(tele.batch + tele.batch_len, tele.one, tele.one_len);
	tele.batch_len += frame(tele.batch + tele.batch_len, "\"id\":\"n\",");
	tele.conns = bench_alloc(tele.devices * sizeof(*tele.conns));
	tele.sent_at = bench_alloc(tele.devices * sizeof(*tele.sent_at));
}

static void
telemetry_connect(struct bench_loop *l)
{
	char *owner = bench_belay_user(&tele.belay, "bench-telemetry", "user"), *fields;

	for (unsigned i = 0; i < tele.devices; i++) {
		fields = bench_belay_device(&tele.belay, owner, NULL);
		tele.conns[i].index = i;
		bench_conn_open(l, &tele.conns[i], "/ws", fields);
		free(fields);
		while (tele.open <= i)
			if (bench_loop_step(l, 5 * BENCH_SECOND) == 0)
				bench_die("no answer from %s for 5 s", tele.belay.address);
	}
	free(owner);
}

static void
telemetry_run(struct bench_loop *l, double seconds)
{
	uint64_t start = bench_now(), end = start + (uint64_t)(seconds * 1e9), now, due, begun = tele.sent;

	while ((now = bench_now()) < end) {
		due = tele.rate == 0 ? 0 : begun + (now - start) * tele.rate / BENCH_SECOND;
		for (; tele.sent < due; tele.sent++) {
			bench_conn_write(&tele.conns[tele.sent % tele.devices], tele.one, tele.one_len);
			tele.messages += tele.measuring;
		}
		bench_loop_step(l, tele.rate == 0 ? BENCH_SECOND / 100 : BENCH_SECOND / 1000);
	}
}

/* Each device has an answer behind all that it told: none is still on its way. */
static void
telemetry_settle(struct bench_loop *l)
{
	tele.answers = 0;
	tele.going = false;
	if (tele.rate == 0)
		return;
	for (unsigned i = 0; i < tele.devices; i++)
		telemetry_batch(&tele.conns[i]);
	while (tele.answers < tele.devices)
		if (bench_loop_step(l, 5 * BENCH_SECOND) == 0)
			bench_die("no answer from %s for 5 s", tele.belay.address);
}

int
main(int argc, char **argv)
{
	const struct bench_arg args[] = {
		{ "connect", BENCH_TEXT, &tele.belay.address, "address and port (127.0.0.1:3000)" },
		{ "secret-file", BENCH_TEXT, &tele.belay.secret_file,
		    "belayd's auth.jwt_secret_file: register devices, mint tokens" },
		{ "tenant", BENCH_TEXT, &tele.belay.tenant, "of these tokens (default)" },
		{ "devices", BENCH_UINT, &tele.devices, "(100)" },
		{ "depth", BENCH_UINT, &tele.depth, "messages on their way, each device (16)" },
		{ "rate", BENCH_UINT, &tele.rate, "messages a second, of all together; 0: as many as are taken (0)" },
		{ "size", BENCH_UINT, &tele.size, "bytes of a message (200)" },
		{ "seconds", BENCH_SECONDS, &tele.seconds, "measured (5)" },
		{ "warm-up", BENCH_SECONDS, &tele.warm_up, "before that (1)" },
		{ "server-pid", BENCH_PID, &tele.procs, "count this process and its children; may be repeated" },
		{ "name", BENCH_TEXT, &tele.name, "what to call the server in the output" },
		{ NULL, BENCH_FLAG, NULL, NULL }
	};
	struct bench_loop l;
	uint64_t cpu, start, ns;

	bench_args(argc, argv, "bench_telemetry: devices that tell telemetry", args);
	if (tele.belay.secret_file == NULL || tele.devices < 1 || tele.depth < 1)
		bench_die("--secret-file is wanted, --devices and --depth are 1 at least");
	telemetry_prepare();
	bench_loop_init(&l, tele.belay.address, &telemetry_handler, 8, 0);
	telemetry_connect(&l);
	tele.going = true;
	for (unsigned i = 0; tele.rate == 0 && i < tele.devices; i++)
		telemetry_batch(&tele.conns[i]);
	telemetry_run(&l, tele.warm_up);
	bench_procs_find(&tele.procs);
	tele.measuring = true;
	start = bench_now();
	cpu = bench_procs_cpu(&tele.procs);
	telemetry_run(&l, tele.seconds);
	cpu = bench_procs_cpu(&tele.procs) - cpu;
	ns = bench_now() - start;
	telemetry_settle(&l);
	if (tele.messages == 0)
		bench_die("nothing was taken");
	printf("bench=telemetry name=%s devices=%u depth=%u rate=%u size=%u messages=%llu per_second=%.0f"
	    " server_cpu_us=%.3f", tele.name, tele.devices, tele.depth, tele.rate, tele.size,
	    (unsigned long long)tele.messages, (double)tele.messages * 1e9 / (double)ns,
	    (double)cpu / 1e3 / (double)tele.messages);
	if (tele.rate == 0)
		bench_hist_print(&tele.hist);
	printf("\n");
	bench_end();
}
