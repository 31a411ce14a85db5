/*
 * bench_tenants.c: does one noisy tenant slow another?  The quiet tenant's controllers send commands
 * at a fixed rate, and what is measured is their whole way: controller, store, device, its answer,
 * controller.  Rounds in which the noisy tenant is silent and rounds in which it is not take turns.
 *
 * The noisy tenant is a process of its own, which runs at nice 19 and at a fixed rate, so that what
 * is measured is the server's work for it and not its own: both sides share the cores.
 *
 *	--noise ws	dashboards and devices send commands, telemetry, states and events
 *	--noise rest	keep-alive connections ask for lists of devices and send commands
 *	--noise both	half of each
 *	--noise events	its devices tell of events, of --noisy-bytes each
 *	--noise register	the REST connections register devices
 *	--noise arrays	the REST connections bring arrays of telemetry, of --noisy-bytes each
 *	--noise search	the REST connections search --stock devices of one user in vain
 *	--noise resume	dashboards come back for the --stock events that they missed, again and again
 *	--noise subscribe	dashboards subscribe to --stock devices by their ids
 *
 * With --same-tenant it is other users of the quiet tenant.
 *
 * What is refused (rate_limited, 429) is counted, and who is closed (4029) comes again at once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/lib.h"

#define COMMAND_RING (1u << 16)
#define ROUNDS_MAX 64
#define TEXT_MAX 65536	/* limits.message_size, as it is by default */
#define STOCK_FORM "s-%d-%u"	/* ids of devices that are there to be found */

/* What the noisy process tells. */
struct noise_counts {
	_Atomic uint64_t sent, refused, closed, requests, requests_refused, received;
	_Atomic int ready;
};

static struct tenants {
	unsigned controllers, devices, rate, rounds;
	double seconds, warm_up;
	const char *name, *noise;
	unsigned dashboards, noisy_devices, noisy_users, requesters, noisy_rate, noisy_nice, noisy_lump, noisy_bytes;
	unsigned stock;
	bool same_tenant;
	struct bench_belay belay;
	struct bench_procs procs;

	/* the quiet tenant */
	struct bench_conn *ctl, *dev;
	char **dev_id;
	unsigned open, *turn;
	uint64_t *due, next, done;
	struct bench_hist *hist;	/* NULL: not measuring */
	/* the noisy one */
	int order[2];			/* '1' it is to be heard, '0' it is not, end: it ends */
	struct noise_counts *counts;
} tn = {
	.controllers = 10, .devices = 20, .rate = 200, .rounds = 7, .seconds = 4, .warm_up = 1,
	.name = "server", .noise = "both",
	.dashboards = 20, .noisy_devices = 20, .noisy_users = 10, .requesters = 8, .noisy_rate = 2000, .noisy_nice = 19,
	.noisy_bytes = 100, .stock = 1000,
	.belay = { "127.0.0.1:3000", NULL, NULL }
};

/* --- the quiet tenant */

static void
quiet_send(uint64_t due)
{
	uint64_t number = tn.next++;
	unsigned c = (unsigned)(number % tn.controllers), of = tn.devices / tn.controllers;
	char text[256];
	int len;

	tn.due[number % COMMAND_RING] = due;
	len = snprintf(text, sizeof(text),
	    "{\"type\":\"command\",\"id\":\"%llu\",\"payload\":{\"deviceId\":\"%s\","
	    "\"command\":\"unlock_door\",\"params\":{\"n\":%llu}}}", (unsigned long long)number,
	    tn.dev_id[c + tn.controllers * (tn.turn[c]++ % of)], (unsigned long long)number);
	bench_conn_text(&tn.ctl[c], text, (size_t)len);
}

static void
acknowledge(struct bench_conn *c, const char *p, size_t len)
{
	static const char form[] =
	    "{\"type\":\"command_ack\",\"payload\":{\"commandId\":\"%.*s\",\"status\":\"executed\"}}";
	const char *id = bench_json_after(p, len, "\"commandId\":\"");
	char text[256];
	int n;

	if (id == NULL)
		bench_die("a command without id: %.*s", (int)len, p);
	n = snprintf(text, sizeof(text), form, (int)strcspn(id, "\""), id);
	bench_conn_text(c, text, (size_t)n);
}

static void
quiet_message(struct bench_conn *c, const char *p, size_t len)
{
	size_t head = len < 64 ? len : 64;
	const char *n;
	uint64_t number;

	if (memmem(p, head, "\"error\"", 7) != NULL || memmem(p, head, "\"gap\"", 5) != NULL)
		bench_die("the quiet tenant was told: %.*s", (int)len, p);
	if (c >= tn.dev && c < tn.dev + tn.devices) {
		if (memmem(p, head, "\"command\"", 9) != NULL)
			acknowledge(c, p, len);
		return;
	}
	if (memmem(p, head, "\"command_status\"", 16) == NULL ||
	    memmem(p, len, "\"status\":\"executed\"", 19) == NULL)
		return;
	if ((n = bench_json_after(p, len, "\"params\":{\"n\":")) == NULL)
		bench_die("a command without its parameters: %.*s", (int)len, p);
	number = strtoull(n, NULL, 10);
	tn.done++;
	if (tn.hist != NULL)
		bench_hist_add(tn.hist, bench_now() - tn.due[number % COMMAND_RING]);
}

static void
quiet_opened(struct bench_conn *c)
{
	(void)c;
	tn.open++;
}

static void
quiet_closed(struct bench_conn *c, int code, const char *text, size_t len)
{
	bench_die("the quiet tenant's connection %u ended with %d %.*s", c->index, code, (int)len, text);
}

static const struct bench_handler quiet_handler = {
	.opened = quiet_opened, .message = quiet_message, .closed = quiet_closed
};

static void
wait_open(struct bench_loop *l, const unsigned *open, unsigned n)
{
	while (*open < n)
		if (bench_loop_step(l, 10 * BENCH_SECOND) == 0)
			bench_die("no answer from %s for 10 s", tn.belay.address);
}

static char *
id_of(const char *fields)
{
	static const char id_field[] = "X-Device-Id: ";
	const char *id = strstr(fields, id_field) + sizeof(id_field) - 1;

	return strndup(id, strcspn(id, "\r"));
}

static void
quiet_connect(struct bench_loop *l)
{
	struct bench_belay belay = tn.belay;
	char user[64], **owner = bench_alloc(tn.controllers * sizeof(*owner));

	belay.tenant = "quiet";
	for (unsigned i = 0; i < tn.controllers; i++) {
		snprintf(user, sizeof(user), "quiet-%d-%u", (int)getpid(), i);
		owner[i] = bench_belay_user(&belay, user, "user");
	}
	for (unsigned i = 0; i < tn.devices; i++) {
		char *fields = bench_belay_device(&belay, owner[i % tn.controllers], NULL);

		tn.dev[i].index = i;
		tn.dev_id[i] = id_of(fields);
		bench_conn_open(l, &tn.dev[i], "/ws", fields);
		wait_open(l, &tn.open, i + 1);
		free(fields);
	}
	for (unsigned i = 0; i < tn.controllers; i++) {
		tn.ctl[i].index = i;
		bench_conn_open(l, &tn.ctl[i], "/ws", owner[i]);
		wait_open(l, &tn.open, tn.devices + i + 1);
		free(owner[i]);
	}
	free(owner);
}

static void
quiet_run(struct bench_loop *l, double seconds)
{
	uint64_t start = bench_now(), end = start + (uint64_t)(seconds * 1e9), gap = BENCH_SECOND / tn.rate;
	uint64_t due = start, now = start;

	while (now < end) {
		for (; due <= now && due < end; due += gap) {
			if (tn.next - tn.done > COMMAND_RING / 2)
				bench_die("%u commands a second are more than the server does", tn.rate);
			quiet_send(due);
		}
		bench_loop_step(l, due > now ? due - now : 0);
		now = bench_now();
	}
	/* What is on its way belongs to this round. */
	for (int i = 0; i < 3000 && tn.done < tn.next; i++)
		bench_loop_step(l, BENCH_SECOND / 100);
	if (tn.done < tn.next)
		bench_die("%llu commands did not come back", (unsigned long long)(tn.next - tn.done));
}

/* --- the noisy tenant: a process of its own */

struct requester {
	int fd;
	bool waiting;
};

static struct noisy {
	struct bench_loop loop;
	struct bench_conn *conn;	/* dashboards, then devices */
	char **fields, **dev_id, **owner;
	struct requester *requester;
	unsigned open, n, turn, request_turn, registered;
	bool loud, stocked;
	char target[128];		/* where dashboards come back to: with the cursor of the first event */
	char *list;			/* of the ids of the stock; owned */
} ny;

static bool
is_noisy_device(const struct bench_conn *c)
{
	return c->index >= tn.dashboards;
}

static void
noisy_opened(struct bench_conn *c)
{
	(void)c;
	ny.open++;
}

/* The first event's cursor is where dashboards resume; `resumed`, or a gap, ends what one came for. */
static void
noisy_cursor(struct bench_conn *c, const char *p, size_t len)
{
	const char *cursor = bench_json_after(p, len, "\"cursor\":\"");
	size_t head = len < 64 ? len : 64;

	if (ny.target[0] == '\0' && cursor != NULL && memmem(p, head, "\"device_event\"", 14) != NULL)
		snprintf(ny.target, sizeof(ny.target), "/ws?resume=%.*s", (int)strcspn(cursor, "\""), cursor);
	if (memmem(p, head, "\"gap\"", 5) != NULL && ny.stocked)
		bench_die("a dashboard that resumes was told: %.*s", (int)len, p);
	if (memmem(p, head, "\"resumed\"", 9) != NULL)
		c->user = c;
}

static void
noisy_message(struct bench_conn *c, const char *p, size_t len)
{
	size_t head = len < 64 ? len : 64;

	tn.counts->received++;
	if (!is_noisy_device(c) && strcmp(tn.noise, "resume") == 0)
		noisy_cursor(c, p, len);
	if (memmem(p, len, "\"rate_limited\"", 14) != NULL)
		tn.counts->refused++;
	else if (is_noisy_device(c) && memmem(p, head, "\"command\"", 9) != NULL)
		acknowledge(c, p, len);
}

static void
noisy_closed(struct bench_conn *c, int code, const char *text, size_t len)
{
	if (code == 1000)		/* it was asked for: see noisy_resume() */
		return;
	if (code != 4029 && code != 4008)
		bench_die("the noisy tenant's connection %u ended with %d %.*s", c->index, code, (int)len, text);
	tn.counts->closed++;
	bench_conn_open(&ny.loop, c, "/ws", ny.fields[c->index]);
}

static const struct bench_handler noisy_handler = {
	.opened = noisy_opened, .message = noisy_message, .closed = noisy_closed
};

static void
noisy_connect(void)
{
	struct bench_belay belay = tn.belay;
	char user[64];

	belay.tenant = tn.same_tenant ? "quiet" : "noisy";
	ny.n = tn.dashboards + tn.noisy_devices;
	ny.conn = bench_alloc((ny.n + 1) * sizeof(*ny.conn));
	ny.fields = bench_alloc((ny.n + 1) * sizeof(*ny.fields));
	ny.dev_id = bench_alloc((tn.noisy_devices + 1) * sizeof(*ny.dev_id));
	ny.owner = bench_alloc(tn.noisy_users * sizeof(*ny.owner));
	ny.requester = bench_alloc((tn.requesters + 1) * sizeof(*ny.requester));
	for (unsigned i = 0; i < tn.noisy_users; i++) {
		snprintf(user, sizeof(user), "noisy-%d-%u", (int)getpid(), i);
		ny.owner[i] = bench_belay_user(&belay, user, "user");
	}
	for (unsigned i = 0; i < ny.n; i++) {
		unsigned d = i - tn.dashboards;

		ny.conn[i].index = i;
		if (i < tn.dashboards) {
			ny.fields[i] = ny.owner[i % tn.noisy_users];
		} else {
			ny.fields[i] = bench_belay_device(&belay, ny.owner[d % tn.noisy_users], NULL);
			ny.dev_id[d] = id_of(ny.fields[i]);
		}
		bench_conn_open(&ny.loop, &ny.conn[i], "/ws", ny.fields[i]);
		wait_open(&ny.loop, &ny.open, i + 1);
	}
	for (unsigned i = 0; i < tn.requesters; i++)
		ny.requester[i].fd = -1;
}

static void
stock_devices(void)
{
	struct bench_belay belay = tn.belay;
	char id[64], *p;

	belay.tenant = tn.same_tenant ? "quiet" : "noisy";
	ny.list = bench_alloc(tn.stock * sizeof(id));
	p = ny.list;
	for (unsigned i = 0; i < tn.stock; i++) {
		snprintf(id, sizeof(id), STOCK_FORM, (int)getpid(), i);
		free(bench_belay_device(&belay, ny.owner[0], id));
		p += sprintf(p, "%s\"%s\"", i > 0 ? "," : "", id);
	}
}

/* Without dashboards in the way, but for one that is told of the first event. */
static void
stock_events(void)
{
	struct bench_conn *c;
	char text[128];
	int len;

	for (unsigned i = 0; i < tn.stock; i++) {
		c = &ny.conn[tn.dashboards + i % tn.noisy_devices];
		len = snprintf(text, sizeof(text), "{\"type\":\"event\",\"payload\":{\"event\":\"x_stock\"}}");
		bench_conn_text(c, text, (size_t)len);
		while (c->out_len > 0 || (i == 0 && ny.target[0] == '\0'))
			if (bench_loop_step(&ny.loop, 10 * BENCH_SECOND) == 0)
				bench_die("no event for 10 s");
		if (i % 16 == 0)
			bench_loop_step(&ny.loop, 0);
	}
	/* Until nothing comes any more: what is on its way is news, not stock. */
	while (bench_loop_step(&ny.loop, BENCH_SECOND) > 0)
		;
	ny.stocked = true;
}

/* The next dashboard leaves when it has got what it missed, and comes back for it when it has left. */
static void
noisy_resume(void)
{
	struct bench_conn *c = &ny.conn[ny.turn++ % tn.dashboards];

	if (c->state == BENCH_CLOSED) {
		c->user = NULL;
		bench_conn_open(&ny.loop, c, ny.target, ny.fields[c->index]);
		tn.counts->sent++;
	} else if (c->state == BENCH_OPEN && (c->user != NULL || tn.counts->sent < tn.dashboards)) {
		c->user = NULL;
		bench_conn_send_close(c);
	}
}

static void
noisy_subscribe(void)
{
	struct bench_conn *c = &ny.conn[ny.turn++ % tn.dashboards];
	static char text[TEXT_MAX];
	int len;

	if (c->state != BENCH_OPEN || c->out_len > 0)
		return;
	len = snprintf(text, sizeof(text), "{\"type\":\"subscribe\",\"id\":\"s\",\"payload\":{\"devices\":[%s]}}", ny.list);
	if (len >= (int)sizeof(text))
		bench_die("%u ids are more than a message holds", tn.stock);
	bench_conn_text(c, text, (size_t)len);
	tn.counts->sent++;
}

/* An event of so many bytes, of the next device. */
static void
noisy_event(void)
{
	static char text[TEXT_MAX + 128], filler[TEXT_MAX];
	struct bench_conn *c = &ny.conn[tn.dashboards + ny.turn++ % tn.noisy_devices];
	int len;

	if (c->state != BENCH_OPEN || c->out_len > 0)
		return;
	memset(filler, 'x', tn.noisy_bytes);
	len = snprintf(text, sizeof(text), "{\"type\":\"event\",\"payload\":{\"event\":\"x_noise\",\"data\":{\"x\":\"%.*s\"}}}",
	    (int)tn.noisy_bytes, filler);
	bench_conn_text(c, text, (size_t)len);
	tn.counts->sent++;
}

/* One message of some connection, of each kind in turn. */
static void
noisy_say(void)
{
	unsigned turn = ny.turn++;
	struct bench_conn *c = &ny.conn[turn % ny.n];
	char text[256];
	int len;

	if (c->state != BENCH_OPEN || c->out_len > 65536)
		return;
	if (!is_noisy_device(c) && tn.noisy_devices > 0) {
		/* A device of the same owner. */
		unsigned d = c->index % tn.noisy_users % tn.noisy_devices;

		len = snprintf(text, sizeof(text), "{\"type\":\"command\",\"id\":\"x\",\"payload\":{\"deviceId\":\"%s\","
		    "\"command\":\"unlock_door\"}}", ny.dev_id[d]);
	} else if (!is_noisy_device(c)) {
		len = snprintf(text, sizeof(text), "{\"type\":\"ping\"}");
	} else if (turn / ny.n % 3 == 0) {
		len = snprintf(text, sizeof(text), "{\"type\":\"status\",\"payload\":{\"door\":\"closed\",\"n\":%u}}", turn);
	} else if (turn / ny.n % 3 == 1) {
		len = snprintf(text, sizeof(text), "{\"type\":\"event\",\"payload\":{\"event\":\"x_noise\",\"data\":{\"n\":%u}}}",
		    turn);
	} else {
		len = snprintf(text, sizeof(text), "{\"type\":\"telemetry\",\"payload\":{\"data\":{\"n\":%u}}}", turn);
	}
	bench_conn_text(c, text, (size_t)len);
	tn.counts->sent++;
}

static void
requester_open(struct requester *r)
{
	r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (r->fd == -1 || setsockopt(r->fd, SOL_SOCKET, SO_SNDBUF, &(int){ 4 * TEXT_MAX }, sizeof(int)) == -1 ||
	    connect(r->fd, (struct sockaddr *)&ny.loop.server, sizeof(ny.loop.server)) == -1)
		bench_die("%s: %s", tn.belay.address, strerror(errno));
	if (fcntl(r->fd, F_SETFL, O_NONBLOCK) == -1)
		bench_die("fcntl: %s", strerror(errno));
	r->waiting = false;
}

/* Answers are short: one read has all of one, and its status in front. */
static void
requester_read(struct requester *r)
{
	char answer[65536];
	ssize_t n = recv(r->fd, answer, sizeof(answer), 0);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		close(r->fd);
		r->fd = -1;
		return;
	}
	if (n > 12 && memcmp(answer, "HTTP/1.1 ", 9) == 0) {
		r->waiting = false;
		if (memcmp(answer + 9, "429", 3) == 0)
			tn.counts->requests_refused++;
	}
}

/* An array of telemetry of a device, of so many bytes. */
static int
put_array(char *body, size_t size, const char *device)
{
	int n = snprintf(body, size, "[");

	while ((unsigned)n < tn.noisy_bytes && (size_t)n < size - 128)
		n += snprintf(body + n, size - (size_t)n, "%s{\"deviceId\":\"%s\",\"data\":{\"n\":%d}}", n > 1 ? "," : "",
		    device, n);
	return n + snprintf(body + n, size - (size_t)n, "]");
}

/* What the next request asks for, its body included. */
static int
put_request(char *request, size_t size, unsigned turn)
{
	static char body[TEXT_MAX];
	const char *owner = ny.owner[turn % tn.noisy_users], *path = "/api/command";
	const char *device = tn.noisy_devices == 0 ? NULL : ny.dev_id[turn % tn.noisy_users % tn.noisy_devices];
	int n;

	if (strcmp(tn.noise, "register") == 0) {
		path = "/api/device/register";
		n = snprintf(body, sizeof(body), "{\"deviceId\":\"n-%d-%u\",\"name\":\"noise\"}", (int)getpid(), ny.registered++);
	} else if (strcmp(tn.noise, "arrays") == 0) {
		path = "/api/telemetry";
		n = put_array(body, sizeof(body), device);
	} else if (strcmp(tn.noise, "search") == 0) {
		return snprintf(request, size, "GET /api/device?q=nowhere HTTP/1.1\r\nHost: x\r\n%s\r\n", ny.owner[0]);
	} else if (turn % 2 == 0 || device == NULL) {
		return snprintf(request, size, "GET /api/device?limit=20 HTTP/1.1\r\nHost: x\r\n%s\r\n", owner);
	} else {
		n = snprintf(body, sizeof(body), "{\"deviceId\":\"%s\",\"command\":\"unlock_door\"}", device);
	}
	return snprintf(request, size, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/json\r\n"
	    "Content-Length: %d\r\n\r\n%.*s", path, owner, n, n, body);
}

/* One request, of the next connection that is not waiting for an answer. */
static void
noisy_request(void)
{
	static char request[TEXT_MAX + 2048];

	for (unsigned i = 0; i < tn.requesters; i++) {
		unsigned turn = ny.request_turn++;
		struct requester *r = &ny.requester[turn % tn.requesters];
		int len;

		if (r->fd == -1)
			requester_open(r);
		else
			requester_read(r);
		if (r->fd == -1 || r->waiting)
			continue;
		len = put_request(request, sizeof(request), turn);
		if (send(r->fd, request, (size_t)len, MSG_NOSIGNAL) != len) {
			close(r->fd);
			r->fd = -1;
			continue;
		}
		r->waiting = true;
		tn.counts->requests++;
		return;
	}
}

static void
noisy_obey(void)
{
	char order[16];
	ssize_t n = read(tn.order[0], order, sizeof(order));

	if (n == 0)
		bench_end();
	if (n > 0)
		ny.loud = order[n - 1] == '1';
}

static _Noreturn void
noisy_main(void)
{
	bool both = strcmp(tn.noise, "both") == 0, ws = both || strcmp(tn.noise, "ws") == 0;
	void (*say)(void) = strcmp(tn.noise, "events") == 0 ? noisy_event :
	    strcmp(tn.noise, "resume") == 0 ? noisy_resume :
	    strcmp(tn.noise, "subscribe") == 0 ? noisy_subscribe : NULL;
	uint64_t due, now, gap = BENCH_SECOND / (tn.noisy_rate > 0 ? tn.noisy_rate : 1);
	uint64_t lump = gap * tn.noisy_lump;
	unsigned turn = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(tn.order[1]);
	bench_loop_init(&ny.loop, tn.belay.address, &noisy_handler, 8, 16);
	noisy_connect();
	if (say == noisy_resume)
		stock_events();
	else if (say == noisy_subscribe || strcmp(tn.noise, "search") == 0)
		stock_devices();
	/* Also where the rest runs in real time, so that others of the machine are out of the picture. */
	if (sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ 0 }) == -1 ||
	    setpriority(PRIO_PROCESS, 0, (int)tn.noisy_nice) == -1)
		bench_die("the noisy tenant's priority: %s", strerror(errno));
	if (fcntl(tn.order[0], F_SETFL, O_NONBLOCK) == -1)
		bench_die("fcntl: %s", strerror(errno));
	tn.counts->ready = 1;
	for (due = now = bench_now(); ; now = bench_now()) {
		noisy_obey();
		/* What could not be sent in time is not made up for. */
		if (!ny.loud || due + lump + BENCH_SECOND / 10 < now)
			due = now;
		if (due + lump > now) {
			bench_loop_step(&ny.loop, BENCH_SECOND / 1000);
			continue;
		}
		for (; ny.loud && due <= now; due += gap) {
			if (say != NULL)
				say();
			else if (ws && (!both || turn++ % 2 == 0))
				noisy_say();
			else
				noisy_request();
		}
		bench_loop_step(&ny.loop, BENCH_SECOND / 1000);
	}
}

static pid_t
noisy_start(void)
{
	pid_t pid;

	tn.counts = mmap(NULL, sizeof(*tn.counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tn.counts == MAP_FAILED || pipe(tn.order) == -1)
		bench_die("pipe: %s", strerror(errno));
	pid = fork();
	if (pid == -1)
		bench_die("fork: %s", strerror(errno));
	if (pid == 0)
		noisy_main();
	close(tn.order[0]);
	for (int i = 0; i < 3000 && !tn.counts->ready; i++) {
		int status;

		if (waitpid(pid, &status, WNOHANG) == pid)
			bench_die("the noisy tenant could not connect");
		usleep(100000);
	}
	return pid;
}

/* --- both */

static int
compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double
median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), compare);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static double p50[2][ROUNDS_MAX], p99[2][ROUNDS_MAX], cpu_ms[2][ROUNDS_MAX];

static void
round_of(struct bench_loop *l, unsigned round, bool loud)
{
	static struct bench_hist hist;
	uint64_t cpu, start;

	if (write(tn.order[1], loud ? "1" : "0", 1) != 1)
		bench_die("the noisy tenant is gone");
	quiet_run(l, tn.warm_up);
	memset(&hist, 0, sizeof(hist));
	bench_procs_find(&tn.procs);
	tn.hist = &hist;
	start = bench_now();
	cpu = bench_procs_cpu(&tn.procs);
	quiet_run(l, tn.seconds);
	cpu_ms[loud][round] = (double)(bench_procs_cpu(&tn.procs) - cpu) / 1e6 / ((double)(bench_now() - start) / 1e9);
	tn.hist = NULL;
	p50[loud][round] = (double)bench_hist_at(&hist, 0.5) / 1e3;
	p99[loud][round] = (double)bench_hist_at(&hist, 0.99) / 1e3;
}

int
main(int argc, char **argv)
{
	const struct bench_arg args[] = {
		{ "connect", BENCH_TEXT, &tn.belay.address, "address and port (127.0.0.1:3000)" },
		{ "secret-file", BENCH_TEXT, &tn.belay.secret_file, "belayd's auth.jwt_secret_file" },
		{ "controllers", BENCH_UINT, &tn.controllers, "of the quiet tenant (10)" },
		{ "devices", BENCH_UINT, &tn.devices, "of the quiet tenant (20)" },
		{ "rate", BENCH_UINT, &tn.rate, "commands a second of the quiet tenant (200)" },
		{ "noise", BENCH_TEXT, &tn.noise, "ws, rest, both, events, register, arrays, search, resume or subscribe (both)" },
		{ "dashboards", BENCH_UINT, &tn.dashboards, "of the noisy tenant (20)" },
		{ "noisy-devices", BENCH_UINT, &tn.noisy_devices, "of the noisy tenant (20)" },
		{ "noisy-users", BENCH_UINT, &tn.noisy_users, "who own them (10)" },
		{ "requesters", BENCH_UINT, &tn.requesters, "REST connections of the noisy tenant (8)" },
		{ "noisy-rate", BENCH_UINT, &tn.noisy_rate, "messages and requests a second that it tries (2000)" },
		{ "noisy-lump", BENCH_UINT, &tn.noisy_lump, "of them saved up and sent at once (0)" },
		{ "noisy-bytes", BENCH_UINT, &tn.noisy_bytes, "of an event or an array (100)" },
		{ "stock", BENCH_UINT, &tn.stock, "devices or events that are there before (1000)" },
		{ "same-tenant", BENCH_FLAG, &tn.same_tenant, "the noise is of other users of the quiet tenant" },
		{ "noisy-nice", BENCH_UINT, &tn.noisy_nice, "of its process (19)" },
		{ "rounds", BENCH_UINT, &tn.rounds, "of each kind (7)" },
		{ "seconds", BENCH_SECONDS, &tn.seconds, "of each round (4)" },
		{ "warm-up", BENCH_SECONDS, &tn.warm_up, "before each (1)" },
		{ "server-pid", BENCH_PID, &tn.procs, "count this process and its children; may be repeated" },
		{ "name", BENCH_TEXT, &tn.name, "what to call the server in the output" },
		{ NULL, BENCH_FLAG, NULL, NULL }
	};
	struct bench_loop l;
	double quiet, loud;
	pid_t noisy;

	bench_args(argc, argv, "bench_tenants: does one noisy tenant slow another", args);
	if (tn.controllers < 1 || tn.devices < tn.controllers || tn.rounds < 1 || tn.rounds > ROUNDS_MAX ||
	    tn.noisy_users < 1 || (strcmp(tn.noise, "resume") == 0 && (tn.noisy_devices < 1 || tn.dashboards < 1)) ||
	    tn.noisy_bytes > TEXT_MAX - 1024 || tn.belay.secret_file == NULL)
		bench_die("controllers, as many devices, up to %d rounds, a noisy user (who resumes), and a secret",
		    ROUNDS_MAX);
	tn.devices -= tn.devices % tn.controllers;
	noisy = noisy_start();
	tn.ctl = bench_alloc(tn.controllers * sizeof(*tn.ctl));
	tn.dev = bench_alloc(tn.devices * sizeof(*tn.dev));
	tn.dev_id = bench_alloc(tn.devices * sizeof(*tn.dev_id));
	tn.turn = bench_alloc(tn.controllers * sizeof(*tn.turn));
	tn.due = bench_alloc(COMMAND_RING * sizeof(*tn.due));
	bench_loop_init(&l, tn.belay.address, &quiet_handler, 8, 0);
	quiet_connect(&l);
	for (unsigned i = 0; i < tn.rounds; i++) {
		/* Every other time backwards. */
		round_of(&l, i, i % 2 == 1);
		round_of(&l, i, i % 2 == 0);
	}
	close(tn.order[1]);
	kill(noisy, SIGTERM);
	waitpid(noisy, NULL, 0);
	quiet = median(p99[0], tn.rounds);
	loud = median(p99[1], tn.rounds);
	printf("bench=tenants name=%s noise=%s rate=%u noisy_rate=%u quiet_p50_us=%.0f loud_p50_us=%.0f quiet_p99_us=%.0f"
	    " loud_p99_us=%.0f ratio_p50=%.2f ratio_p99=%.2f", tn.name, tn.noise, tn.rate, tn.noisy_rate,
	    median(p50[0], tn.rounds), median(p50[1], tn.rounds), quiet, loud,
	    median(p50[1], tn.rounds) / median(p50[0], tn.rounds), loud / quiet);
	printf(" quiet_range=%.0f-%.0f loud_range=%.0f-%.0f", p99[0][0], p99[0][tn.rounds - 1], p99[1][0],
	    p99[1][tn.rounds - 1]);
	printf(" sent=%llu refused=%llu closed=%llu requests=%llu requests_refused=%llu received=%llu",
	    (unsigned long long)tn.counts->sent, (unsigned long long)tn.counts->refused,
	    (unsigned long long)tn.counts->closed, (unsigned long long)tn.counts->requests,
	    (unsigned long long)tn.counts->requests_refused, (unsigned long long)tn.counts->received);
	if (tn.procs.nroots > 0)
		printf(" quiet_cpu_ms=%.0f loud_cpu_ms=%.0f", median(cpu_ms[0], tn.rounds), median(cpu_ms[1], tn.rounds));
	printf("\n");
	bench_end();
}
