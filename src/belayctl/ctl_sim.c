/*
 * ctl_sim.c: belayctl sim: connections for simulated devices.  It registers
 * them where needed, connects each, comes back after a loss as the close code
 * advises, and tells what happened.
 */
#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/util.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/must.h"
#include "belayctl/ctl.h"
#include "belayctl/sim_device.h"
#include "http/uri.h"

struct sim;

struct sim_conn {
	struct sim *sim;
	struct sim_device device;
	char id[65];
	char *token;			/* owned */
	struct client client;
	bool active;			/* client is in use */
	bool open;
	bool over;			/* not to be connected again */
	struct event io, timer;
	short watched;			/* what io waits for; 0: not added */
	unsigned failed;		/* connections in a row */
	int64_t connect_at, heartbeat_at, telemetry_at;	/* ms, monotonic; -1: not now */
};

struct sim {
	struct ctl *ctl;
	struct event_base *base;
	struct url url;
	struct line_addresses addresses;
	struct sim_conn *conns;
	unsigned n;
	int64_t telemetry_ms, heartbeat_ms;
	bool quiet, verbose;		/* verbose: each thing that happens */

	unsigned open, over;
	uint64_t heartbeats, telemetry, executed, failed;
	int status;
};

static void sim_schedule(struct sim_conn *c);

static void
sim_send(void *arg, const char *text, size_t len)
{
	struct sim_conn *c = arg;

	if (c->active)
		client_send(&c->client, slice_bytes(text, len));
}

static void
sim_note(void *arg, const char *what, const char *detail)
{
	struct sim_conn *c = arg;
	char at[CLOCK_TEXT_LEN + 1];

	if (strcmp(what, "executed") == 0)
		c->sim->executed++;
	else if (strcmp(what, "failed") == 0)
		c->sim->failed++;
	if (!c->sim->verbose)
		return;
	clock_format(clock_now_ms(), at);
	printf("%s %s %s%s%s\n", at, c->id, what, *detail != '\0' ? " " : "", detail);
	fflush(stdout);
}

/* The event loop watches what the line wants. */
static void
sim_watch(struct sim_conn *c)
{
	short want = 0;

	if (c->active && c->client.line.fd != -1) {
		want = EV_READ;
		if ((c->client.line.wants & POLLOUT) || c->client.out.len != 0)
			want = EV_READ | EV_WRITE;
		if (!c->client.line.connected)
			want = c->client.line.wants & POLLOUT ? EV_WRITE : EV_READ;
	}
	if (want == c->watched && (want == 0 || event_get_fd(&c->io) == c->client.line.fd))
		return;
	if (c->watched != 0)
		event_del(&c->io);
	c->watched = want;
	if (want != 0) {
		event_assign(&c->io, c->sim->base, c->client.line.fd, want | EV_PERSIST,
		    event_get_callback(&c->timer), c);
		event_add(&c->io, NULL);
	}
}

static void
sim_connect(struct sim_conn *c)
{
	struct client_options o = { .url = &c->sim->url, .addresses = &c->sim->addresses,
	    .tls = &c->sim->ctl->tls, .token = c->token, .device = c->id };

	c->connect_at = -1;
	c->device.after_ms = -1;
	client_open(&c->client, &o);
	c->active = true;
}

static void
sim_opened(struct sim_conn *c, int64_t now)
{
	uint32_t r;

	c->open = true;
	c->failed = 0;
	c->sim->open++;
	sim_device_status(&c->device);
	/* Spread over the interval, so that many devices don't speak at once. */
	digest_random(&r, sizeof(r));
	c->heartbeat_at = c->sim->heartbeat_ms != 0 ? now + r % c->sim->heartbeat_ms : -1;
	c->telemetry_at = c->sim->telemetry_ms != 0 ? now + (r >> 8) % c->sim->telemetry_ms : -1;
}

static void
sim_ended(struct sim_conn *c, int64_t now)
{
	int64_t wait;

	if (c->watched != 0) {
		event_del(&c->io);
		c->watched = 0;
	}
	if (c->open)
		c->sim->open--;
	else
		c->failed++;
	c->open = c->active = false;
	client_close(&c->client);
	c->heartbeat_at = c->telemetry_at = -1;
	wait = client_retry_ms(&c->client, c->failed, c->device.after_ms);
	if (wait >= 0) {
		c->connect_at = now + wait;
		sim_note(c, "disconnected:", c->client.why);
		return;
	}
	c->over = true;
	c->sim->status = CTL_FAILED;
	if (c->client.code != WS_CODE_ABNORMAL)
		ctl_warn("%s: %s; not connecting again (the server's advice: %s)", c->id, c->client.why,
		    ws_close_advice(ws_close_of(c->client.code)));
	else
		ctl_warn("%s: %s; not connecting again (belayctl probe says more)", c->id, c->client.why);
	if (++c->sim->over == c->sim->n)
		event_base_loopbreak(c->sim->base);
}

static void
sim_timers(struct sim_conn *c, int64_t now)
{
	if (c->connect_at != -1 && now >= c->connect_at)
		sim_connect(c);
	if (c->heartbeat_at != -1 && now >= c->heartbeat_at) {
		sim_device_heartbeat(&c->device);
		c->sim->heartbeats++;
		c->heartbeat_at = now + c->sim->heartbeat_ms;
	}
	if (c->telemetry_at != -1 && now >= c->telemetry_at) {
		sim_device_telemetry(&c->device, clock_now_ms());
		c->sim->telemetry++;
		c->telemetry_at = now + c->sim->telemetry_ms;
	}
	/* A device goes on with its work while it is offline. */
	sim_device_work(&c->device, now);
}

/* The one handler of a device: its socket is ready, or its time has come. */
static void
sim_ready(evutil_socket_t fd, short what, void *arg)
{
	struct sim_conn *c = arg;
	int64_t now = clock_mono_ms();
	enum client_event ev;
	struct slice m;

	(void)fd;
	(void)what;
	if (!c->over)
		sim_timers(c, now);
	while (c->active && (ev = client_next(&c->client, &m)) != CLIENT_WAIT) {
		if (ev == CLIENT_OPEN)
			sim_opened(c, now);
		else if (ev == CLIENT_MESSAGE)
			sim_device_hear(&c->device, m, now);
		else
			sim_ended(c, now);
	}
	/* Last: what is due may still send something. */
	sim_schedule(c);
	sim_watch(c);
}

static void
sim_schedule(struct sim_conn *c)
{
	int64_t at[4] = { c->connect_at, c->heartbeat_at, c->telemetry_at, -1 },
	    now = clock_mono_ms();
	int64_t wait = 3600000;
	struct timeval tv;

	if (c->over)
		return;
	at[3] = sim_device_work(&c->device, now);
	for (int i = 0; i < 4; i++)
		if (at[i] != -1 && at[i] - now < wait)
			wait = at[i] > now ? at[i] - now : 0;
	tv = (struct timeval){ wait / 1000, wait % 1000 * 1000 };
	event_add(&c->timer, &tv);
}

static void
sim_summary(evutil_socket_t fd, short what, void *arg)
{
	struct sim *s = arg;
	uint64_t commands = 0, again = 0;

	(void)fd;
	(void)what;
	for (unsigned i = 0; i < s->n; i++) {
		commands += s->conns[i].device.commands;
		again += s->conns[i].device.again;
	}
	printf("devices %u  connected %u  telemetry %llu  heartbeats %llu  commands %llu  "
	    "executed %llu  "
	    "failed %llu  repeated %llu\n", s->n, s->open, (unsigned long long)s->telemetry,
	    (unsigned long long)s->heartbeats, (unsigned long long)commands,
	    (unsigned long long)s->executed, (unsigned long long)s->failed,
	    (unsigned long long)again);
	fflush(stdout);
}

static void
sim_stop(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	event_base_loopbreak(arg);
}

/* Registers the device; when it is known already it gets a new token. */
static char *
sim_register(struct ctl *ctl, const char *id)
{
	json_t *body = json_pack("{s:s, s:s, s:[s]}", "deviceId", id, "name", id, "tags",
	    "simulated");
	struct buf path = BUF_INIT;
	json_t *answer;
	const char *text;
	char *token;
	int status;

	if (ctl->token != NULL && ctl->tenant != NULL)
		json_object_set_new(body, "tenantId", json_string(ctl->tenant));
	status = ctl_rest(ctl, "POST", "/api/device/register", body, 15000, &answer);
	if (status == 409) {
		json_decref(answer);
		buf_puts(&path, "/api/device/");
		uri_encode(&path, slice_of(id));
		buf_puts(&path, "/token");
		if (ctl->token != NULL && ctl->tenant != NULL)
			ctl_query(&path, "tenantId", ctl->tenant);
		buf_putc(&path, '\0');
		status = ctl_rest(ctl, "POST", path.data, NULL, 15000, &answer);
		buf_fini(&path);
	}
	text = ctl_text(answer, "deviceToken");
	if ((status != 200 && status != 201) || *text == '\0')
		_exit(ctl_refused(status, answer));
	token = must_strndup(text, strlen(text));
	json_decref(answer);
	return token;
}

static void
sim_conn_init(struct sim *s, struct sim_conn *c, const struct sim_device *like)
{
	uint32_t seed;

	digest_random(&seed, sizeof(seed));
	c->sim = s;
	sim_device_init(&c->device, seed);
	c->device.send = sim_send;
	c->device.note = sim_note;
	c->device.arg = c;
	c->device.ack_delay_ms = like->ack_delay_ms;
	c->device.fail_rate = like->fail_rate;
	c->connect_at = clock_mono_ms();
	c->heartbeat_at = c->telemetry_at = -1;
	event_assign(&c->timer, s->base, -1, 0, sim_ready, c);
	sim_schedule(c);
}

static void
sim_run(struct sim *s)
{
	struct event sigint, sigterm, summary;
	struct timeval every = { 5, 0 };

	event_assign(&sigint, s->base, SIGINT, EV_SIGNAL | EV_PERSIST, sim_stop, s->base);
	event_assign(&sigterm, s->base, SIGTERM, EV_SIGNAL | EV_PERSIST, sim_stop, s->base);
	event_assign(&summary, s->base, -1, EV_PERSIST, sim_summary, s);
	event_add(&sigint, NULL);
	event_add(&sigterm, NULL);
	if (!s->quiet && !s->verbose)
		event_add(&summary, &every);
	event_base_dispatch(s->base);
	event_del(&sigint);
	event_del(&sigterm);
	event_del(&summary);
	for (unsigned i = 0; i < s->n; i++) {
		struct sim_conn *c = &s->conns[i];

		if (c->active) {
			client_bye(&c->client, WS_CODE_NORMAL, "");
			client_close(&c->client);
		}
		if (c->watched != 0)
			event_del(&c->io);
		event_del(&c->timer);
	}
	if (!s->quiet)
		sim_summary(-1, 0, s);
}

int
ctl_sim_main(struct ctl *ctl, int argc, char **argv)
{
	struct sim s = { .ctl = ctl, .telemetry_ms = 5000, .heartbeat_ms = 20000 };
	struct sim_device like = { .ack_delay_ms = 100, .fail_rate = 0 };
	const char *device = NULL, *token = NULL, *token_by = "--token", *prefix = "sim-", *owner = NULL, *why;
	const struct ctl_opt opts[] = {
		{ "devices", CTL_COUNT, &s.n, "how many; they are registered where needed (1)" },
		{ "prefix", CTL_TEXT, &prefix, "of their ids (sim-)" },
		{ "owner", CTL_TEXT, &owner, "whom they belong to when they are registered here" },
		{ "device", CTL_TEXT, &device, "be this one" },
		{ "token", CTL_TEXT, &token, "its device token, or @FILE; also BELAY_DEVICE_TOKEN "
		    "(registers it)" },
		{ "telemetry", CTL_MS, &s.telemetry_ms, "interval; 0: none (5s)" },
		{ "heartbeat", CTL_MS, &s.heartbeat_ms, "interval; 0: none (20s)" },
		{ "ack-delay", CTL_MS, &like.ack_delay_ms, "how long a command takes (100ms)" },
		{ "fail-rate", CTL_REAL, &like.fail_rate,
		    "share of the commands that fail, 0 to 1 (0)" },
		{ "verbose", CTL_FLAG, &s.verbose, "a line for each thing that happens (with up "
		    "to 3 devices)" },
		{ "quiet", CTL_FLAG, &s.quiet, "only what goes wrong" },
		{ NULL, CTL_FLAG, NULL, NULL }
	};

	ctl_opts(argc, argv, opts, NULL, 0);
	if (token == NULL) {
		token = getenv("BELAY_DEVICE_TOKEN");
		token_by = "BELAY_DEVICE_TOKEN";
	}
	if (token != NULL && device == NULL)
		ctl_die(CTL_USAGE, "%s: a device token belongs to one device: --device ID", token_by);
	if (device != NULL && (s.n > 1 || strlen(device) > 64))
		ctl_die(CTL_USAGE, "--device is one id of up to 64 characters, without --devices");
	if (strlen(prefix) > 50)
		ctl_die(CTL_USAGE, "--prefix is up to 50 characters");
	if (like.fail_rate > 1)
		ctl_die(CTL_USAGE, "--fail-rate is 0 to 1");
	if (owner != NULL)
		ctl->user = owner;
	if (s.n == 0)
		s.n = 1;
	if (s.n <= 3 && !s.quiet)
		s.verbose = true;
	ctl_url(ctl, "/ws", &s.url);
	if (line_resolve(&s.url, &s.addresses, &why) == -1)
		ctl_die(CTL_UNREACHABLE, "%s: %s", s.url.host, why);
	if ((s.base = event_base_new()) == NULL)
		ctl_die(CTL_FAILED, "no event loop can be made");
	s.conns = must_alloc(s.n * sizeof(*s.conns));
	for (unsigned i = 0; i < s.n; i++) {
		struct sim_conn *c = &s.conns[i];

		if (device != NULL)
			snprintf(c->id, sizeof(c->id), "%s", device);
		else
			snprintf(c->id, sizeof(c->id), "%s%u", prefix, i + 1);
		c->token = token != NULL ? ctl_secret(token_by, token) : sim_register(ctl, c->id);
		if (token != NULL && token[0] != '@')
			ctl_hide((char *)token);
	}
	if (ctl->webbed)
		web_close(&ctl->web);
	for (unsigned i = 0; i < s.n; i++)
		sim_conn_init(&s, &s.conns[i], &like);
	sim_run(&s);
	for (unsigned i = 0; i < s.n; i++)
		free(s.conns[i].token);
	free(s.conns);
	event_base_free(s.base);
	return s.status;
}
