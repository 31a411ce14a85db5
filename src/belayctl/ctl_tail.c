/*
 * ctl_tail.c: belayctl tail: a dashboard for a terminal.  It connects as a
 * user, shows every message as a line, and after a lost connection comes back
 * where it was (?resume=CURSOR).
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/must.h"
#include "belayctl/ctl.h"

struct tail {
	struct ctl *ctl;
	struct ctl_texts devices;
	bool as_json;
	unsigned count, shown;		/* count: end after so many; 0: never */
	char *cursor;			/* owned; of the newest stored event */
	int64_t after_ms;		/* of a `reconnect` message; -1 */
	int64_t again_ms;		/* of an error that ends the connection: come back then; -1 */
	bool refused;			/* what was asked for will not be given */
};

static volatile sig_atomic_t tail_stop;

static void
tail_signal(int signo)
{
	(void)signo;
	tail_stop = 1;
}

static void
tail_line(struct tail *t, json_t *m, struct slice text)
{
	json_t *payload = json_object_get(m, "payload"), *rest;
	const char *at = ctl_text(payload, "at"), *device = ctl_text(payload, "deviceId");
	char now[CLOCK_TEXT_LEN + 1], type[65], id[65];

	if (t->as_json) {
		ctl_put_json(text);
		putchar('\n');
	} else {
		if (*at == '\0') {
			clock_format(clock_now_ms(), now);
			at = now;
		}
		printf("%-24s %-19s %-20s ", ctl_clean(at, now, sizeof(now)),
		    ctl_clean(ctl_text(m, "type"), type, sizeof(type)),
		    *device != '\0' ? ctl_clean(device, id, sizeof(id)) : "-");
		rest = json_copy(payload);
		json_object_del(rest, "at");
		json_object_del(rest, "deviceId");
		/* The way of a command is for --json and GET /api/command/ID. */
		json_object_del(rest, "trace");
		if (json_object_size(rest) != 0)
			ctl_print(rest, CTL_JSON_LINE);
		else
			putchar('\n');
		json_decref(rest);
	}
	fflush(stdout);
	t->shown++;
}

static void
tail_send(struct client *c, json_t *m)
{
	char *text = json_dumps(m, JSON_COMPACT);

	must(text != NULL);
	client_send(c, slice_of(text));
	explicit_bzero(text, strlen(text));
	free(text);
	json_decref(m);
}

static void
tail_subscribe(struct tail *t, struct client *c)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < t->devices.n; i++)
		json_array_append_new(list, json_string(t->devices.v[i]));
	tail_send(c, json_pack("{s:s, s:s, s:{s:o}}", "type", "subscribe", "id", "subscribe",
	    "payload", "devices", list));
}

/* Without the subscription all devices would be shown: the connection ends. */
static void
tail_unsubscribed(struct tail *t, struct client *c, json_t *m)
{
	static const char *const passing[] = { "rate_limited", "too_many", "unavailable" };
	const char *code = ctl_text(m, "payload.code");
	unsigned at;

	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
		if (strcmp(code, passing[i]) == 0) {
			snprintf(c->why, sizeof(c->why), "the subscription has to wait: %s", passing[i]);
			t->again_ms = json_integer_value(ctl_get(m, "payload.retryAfterMs"));
			t->again_ms = t->again_ms < 1000 ? 1000 : t->again_ms > 60000 ? 60000 : t->again_ms;
			return;
		}
	t->refused = true;
	if (sscanf(ctl_text(m, "payload.field"), "payload.devices[%u]", &at) == 1 && at < t->devices.n)
		ctl_warn("--device %s: %s: %s", t->devices.v[at], code, ctl_text(m, "payload.message"));
	else
		ctl_warn("--device: %s: %s", code, ctl_text(m, "payload.message"));
}

static void
tail_message(struct tail *t, struct client *c, struct slice text)
{
	json_t *m = json_loadb(text.p, text.len, 0, NULL);
	const char *type = ctl_text(m, "type"), *cursor = ctl_text(m, "cursor");

	if (m == NULL) {
		ctl_warn("a message that is not JSON");
		return;
	}
	if (*cursor == '\0')
		cursor = ctl_text(m, "payload.cursor");
	if (*cursor != '\0') {
		free(t->cursor);
		t->cursor = must_strndup(cursor, strlen(cursor));
	}
	if (strcmp(type, "connected") == 0) {
		if (t->devices.n != 0)
			tail_subscribe(t, c);
		if (!t->as_json)
			ctl_warn("connected to %s as %s of tenant %s", ctl_text(m, "payload.instance"),
			    ctl_text(m, "payload.userId"), ctl_text(m, "payload.tenantId"));
	} else if (strcmp(type, "token_expiring") == 0 && t->ctl->token == NULL) {
		t->ctl->minted_until_ms = 0;
		tail_send(c, json_pack("{s:s, s:s, s:{s:s}}", "type", "auth", "id", "auth",
		    "payload", "token", ctl_token(t->ctl)));
	} else if (strcmp(type, "reconnect") == 0) {
		t->after_ms = json_integer_value(ctl_get(m, "payload.afterMs"));
	} else if (strcmp(type, "error") == 0 && strcmp(ctl_text(m, "re"), "subscribe") == 0) {
		tail_unsubscribed(t, c, m);
	} else if (strcmp(type, "error") == 0 && *ctl_text(m, "re") != '\0') {
		ctl_warn("%s was refused: %s %s", ctl_text(m, "re"), ctl_text(m, "payload.code"),
		    ctl_text(m, "payload.message"));
	} else if (strcmp(type, "ok") != 0 && strcmp(type, "pong") != 0) {
		tail_line(t, m, text);
	}
	json_decref(m);
}

/* One connection from its beginning to its end.  Returns whether it was open. */
static bool
tail_once(struct tail *t, struct client *c)
{
	struct line_addresses addresses;
	struct client_options o = { .addresses = &addresses, .tls = &t->ctl->tls };
	struct buf path = BUF_INIT;
	enum client_event ev;
	struct slice m;
	const char *why;
	struct url url;
	bool opened = false;

	buf_puts(&path, "/ws");
	if (t->cursor != NULL)
		ctl_query(&path, "resume", t->cursor);
	if (t->ctl->token != NULL && t->ctl->tenant != NULL)
		ctl_query(&path, "tenantId", t->ctl->tenant);
	buf_putc(&path, '\0');
	ctl_url(t->ctl, path.data, &url);
	buf_fini(&path);
	if (line_resolve(&url, &addresses, &why) == -1)
		ctl_die(CTL_UNREACHABLE, "%s: %s", url.host, why);
	o.url = &url;
	o.token = ctl_token(t->ctl);
	client_open(c, &o);
	while ((ev = client_next(c, &m)) != CLIENT_END) {
		if (ev == CLIENT_OPEN)
			opened = true;
		else if (ev == CLIENT_MESSAGE)
			tail_message(t, c, m);
		else
			line_wait(&c->line, clock_mono_ms() + 200);
		if (tail_stop || t->refused || t->again_ms >= 0 || (t->count != 0 && t->shown >= t->count)) {
			client_bye(c, WS_CODE_NORMAL, "");
			break;
		}
	}
	client_close(c);
	return opened;
}

int
ctl_tail_main(struct ctl *ctl, int argc, char **argv)
{
	struct tail t = { .ctl = ctl, .after_ms = -1, .again_ms = -1 };
	const struct ctl_opt opts[] = {
		{ "device", CTL_TEXTS, &t.devices, "only of this device; may be repeated (all)" },
		{ "json", CTL_FLAG, &t.as_json, "the messages as they came" },
		{ "count", CTL_COUNT, &t.count, "end after so many lines" },
		{ NULL, CTL_FLAG, NULL, NULL }
	};
	struct sigaction sa = { .sa_handler = tail_signal };
	int status = CTL_OK;
	unsigned failed = 0;
	struct client c;
	int64_t wait;

	ctl_opts(argc, argv, opts, NULL, 0);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	for (;;) {
		failed = tail_once(&t, &c) ? 0 : failed + 1;
		if (tail_stop || (t.count != 0 && t.shown >= t.count))
			break;
		if (t.refused) {
			status = CTL_FAILED;
			break;
		}
		wait = t.again_ms >= 0 ? t.again_ms : client_retry_ms(&c, failed, t.after_ms);
		t.again_ms = -1;
		/* A token of our own that ran out is no reason to stop. */
		if (wait < 0 && ctl->token == NULL && strcmp(c.reason, "Token expired") == 0) {
			ctl->minted_until_ms = 0;
			wait = 0;
		}
		t.after_ms = -1;
		if (wait < 0) {
			ctl_warn("%s (belayctl probe says more)", c.why);
			status = c.code == WS_CODE_MISSING_TOKEN || c.status == 401 ? CTL_REFUSED : CTL_FAILED;
			break;
		}
		ctl_warn("%s; again in %.1f s", c.why, (double)wait / 1e3);
		nanosleep(&(struct timespec){ wait / 1000, wait % 1000 * 1000000 }, NULL);
		if (tail_stop)
			break;
	}
	free(t.cursor);
	return status;
}
