/*
 * bench_hold.c: what an idle authenticated connection costs: memory of all
 * server processes (PSS, so that shared pages count once), and CPU time for its
 * heartbeats.
 *
 * Memory is the difference between two counts of connections, so that what the
 * server needs for itself is left out.  The connections are spread over several
 * processes of this program, since a process may hold but so many descriptors.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/lib.h"

struct hold {
	unsigned connections, first, processes, at_once, devices;
	double seconds, settle;
	const char *target, *name;
	bool raw;
	struct bench_belay belay;
	struct bench_procs procs;
};

static struct hold hold = {
	.connections = 10000, .processes = 2, .at_once = 64, .seconds = 30, .settle = 2,
	.target = "/ws", .name = "server", .belay = { "127.0.0.1:3000", NULL, "default" }
};

/* One process of the load. */
struct holder {
	int to, from;			/* commands to it; answers from it */
	pid_t pid;
};

static struct {
	unsigned opening, open;
	bool raw;
	bool *greeted;
} mine;

static void
hold_greeted(struct bench_conn *c)
{
	if (!mine.greeted[c->index]) {
		mine.greeted[c->index] = true;
		mine.open++;
	}
}

static void
hold_opened(struct bench_conn *c)
{
	if (mine.raw)
		hold_greeted(c);
}

static void
hold_message(struct bench_conn *c, const char *p, size_t len)
{
	if (!mine.greeted[c->index] && memmem(p, len < 40 ? len : 40, "\"connected\"", 11) != NULL)
		hold_greeted(c);
}

static void
hold_closed(struct bench_conn *c, int code, const char *text, size_t len)
{
	bench_die("connection %u ended with %d %.*s", c->index, code, (int)len, text);
}

static const struct bench_handler hold_handler = {
	.opened = hold_opened, .message = hold_message, .closed = hold_closed
};

static void
holder_open(struct bench_loop *l, struct bench_conn *conns, char **fields, unsigned number, unsigned target)
{
	char user[64], *made;

	while (mine.open < target) {
		while (mine.opening < target && mine.opening < mine.open + hold.at_once / hold.processes + 1) {
			struct bench_conn *c = &conns[mine.opening];

			c->index = mine.opening;
			made = NULL;
			if (fields == NULL && hold.belay.secret_file != NULL) {
				snprintf(user, sizeof(user), "bench-hold-%u-%u", number, c->index);
				made = bench_belay_user(&hold.belay, user, "user");
			}
			bench_conn_open(l, c, hold.target, made != NULL ? made :
			    fields != NULL ? fields[c->index] : "");
			free(made);
			mine.opening++;
		}
		if (bench_loop_step(l, 10 * BENCH_SECOND) == 0)
			bench_die("no answer for 10 s with %u connections", mine.open);
	}
}

/* Commands: a count of connections to have. Answer: the count of pings answered so far. */
static _Noreturn void
holder_main(unsigned number, unsigned most, char **fields, int in, int out)
{
	struct bench_conn *conns = bench_alloc(most * sizeof(*conns));
	struct bench_loop l;
	unsigned target;
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	mine.raw = hold.raw;
	mine.greeted = bench_alloc(most * sizeof(*mine.greeted));
	fcntl(in, F_SETFL, O_NONBLOCK);
	bench_loop_init(&l, hold.belay.address, &hold_handler, 4, number * 4);
	for (;;) {
		bench_loop_step(&l, BENCH_SECOND / 20);
		n = read(in, &target, sizeof(target));
		if (n == 0)
			_exit(0);
		if (n != sizeof(target))
			continue;
		holder_open(&l, conns, fields, number, target);
		if (write(out, &l.pings, sizeof(l.pings)) != sizeof(l.pings))
			_exit(1);
	}
}

static unsigned
share(unsigned total, unsigned i)
{
	return total / hold.processes + (i < total % hold.processes);
}

static void
holders_start(struct holder *h)
{
	for (unsigned i = 0; i < hold.processes; i++) {
		unsigned most = share(hold.connections, i);
		char **fields = NULL;
		int to[2], from[2];

		if (hold.devices != 0) {
			char *owner = bench_belay_user(&hold.belay, "bench-hold", "user");

			fields = bench_alloc(most * sizeof(*fields));
			for (unsigned k = 0; k < most; k++)
				fields[k] = bench_belay_device(&hold.belay, owner, NULL);
			free(owner);
		}
		if (pipe(to) == -1 || pipe(from) == -1)
			bench_die("pipe: %s", strerror(errno));
		fflush(stdout);
		h[i].pid = fork();
		if (h[i].pid == 0) {
			/* An earlier process's end is told by its pipe, which this one has inherited. */
			for (unsigned k = 0; k < i; k++)
				close(h[k].to);
			close(to[1]);
			close(from[0]);
			holder_main(i, most, fields, to[0], from[1]);
		}
		close(to[0]);
		close(from[1]);
		h[i].to = to[1];
		h[i].from = from[0];
	}
}

/* Brings all to this many connections together; returns pings answered so far. */
static uint64_t
holders_have(struct holder *h, unsigned total)
{
	uint64_t pings, sum = 0;

	for (unsigned i = 0; i < hold.processes; i++) {
		unsigned target = share(total, i);

		if (write(h[i].to, &target, sizeof(target)) != sizeof(target))
			bench_die("a load process ended");
	}
	for (unsigned i = 0; i < hold.processes; i++) {
		if (read(h[i].from, &pings, sizeof(pings)) != sizeof(pings))
			bench_die("a load process ended");
		sum += pings;
	}
	return sum;
}

static void
wait_seconds(double seconds)
{
	struct timespec ts = { (time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9) };

	nanosleep(&ts, NULL);
}

int
main(int argc, char **argv)
{
	bool devices = false;
	const struct bench_arg args[] = {
		{ "connect", BENCH_TEXT, &hold.belay.address, "address and port (127.0.0.1:3000)" },
		{ "target", BENCH_TEXT, &hold.target, "path and query (/ws)" },
		{ "secret-file", BENCH_TEXT, &hold.belay.secret_file, "the server's JWT secret: mint tokens, one user each" },
		{ "tenant", BENCH_TEXT, &hold.belay.tenant, "of these tokens (default)" },
		{ "connections", BENCH_UINT, &hold.connections, "(10000)" },
		{ "first", BENCH_UINT, &hold.first, "the lower count that memory is compared with (a fifth)" },
		{ "processes", BENCH_UINT, &hold.processes, "of this program (2)" },
		{ "at-once", BENCH_UINT, &hold.at_once, "handshakes on their way (64)" },
		{ "devices", BENCH_FLAG, &devices, "devices, each registered, in place of users" },
		{ "seconds", BENCH_SECONDS, &hold.seconds, "held and measured (30)" },
		{ "settle", BENCH_SECONDS, &hold.settle, "before memory is read (2)" },
		{ "raw", BENCH_FLAG, &hold.raw, "no first message comes (raw_epoll)" },
		{ "server-pid", BENCH_PID, &hold.procs, "count this process and its children; may be repeated" },
		{ "name", BENCH_TEXT, &hold.name, "what to call the server in the output" },
		{ NULL, BENCH_FLAG, NULL, NULL }
	};
	struct rlimit files;
	struct holder *h;
	uint64_t pss[3], cpu, pings, start, ns;

	bench_args(argc, argv, "bench_hold: idle authenticated connections", args);
	hold.devices = devices ? hold.connections : 0;
	if (hold.first == 0)
		hold.first = hold.connections / 5;
	if (hold.processes < 1 || hold.first >= hold.connections)
		bench_die("--first is below --connections, --processes at least 1");
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (share(hold.connections, 0) + 20 > files.rlim_max)
		bench_die("a process may hold %llu descriptors: more --processes",
		    (unsigned long long)files.rlim_max);
	h = bench_alloc(hold.processes * sizeof(*h));
	holders_start(h);
	bench_procs_find(&hold.procs);
	pss[0] = bench_procs_pss(&hold.procs);
	holders_have(h, hold.first);
	wait_seconds(hold.settle);
	bench_procs_find(&hold.procs);
	pss[1] = bench_procs_pss(&hold.procs);
	holders_have(h, hold.connections);
	wait_seconds(hold.settle);
	bench_procs_find(&hold.procs);
	pss[2] = bench_procs_pss(&hold.procs);
	pings = holders_have(h, hold.connections);
	start = bench_now();
	cpu = bench_procs_cpu(&hold.procs);
	wait_seconds(hold.seconds);
	cpu = bench_procs_cpu(&hold.procs) - cpu;
	ns = bench_now() - start;
	pings = holders_have(h, hold.connections) - pings;
	printf("bench=hold name=%s kind=%s first=%u connections=%u pss_empty_kb=%llu pss_first_kb=%llu"
	    " pss_kb=%llu bytes_per_connection=%.0f seconds=%.1f heartbeats=%llu"
	    " server_cpu_us_per_connection_second=%.4f\n", hold.name, devices ? "device" : "user",
	    hold.first, hold.connections, (unsigned long long)pss[0] / 1024,
	    (unsigned long long)pss[1] / 1024, (unsigned long long)pss[2] / 1024,
	    ((double)pss[2] - (double)pss[1]) / (hold.connections - hold.first),
	    (double)ns / 1e9, (unsigned long long)pings,
	    (double)cpu / 1e3 / hold.connections / ((double)ns / 1e9));
	for (unsigned i = 0; i < hold.processes; i++) {
		close(h[i].to);
		waitpid(h[i].pid, NULL, 0);
	}
	bench_end();
}
