/*
 * session.c: an accepted WebSocket connection: its greeting, what comes in,
 * its time, its end.  One gateway process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/device_token.h"
#include "base/log.h"
#include "base/must.h"
#include "base/version.h"
#include "gateway/conn.h"
#include "gateway/dashboard.h"
#include "gateway/device.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/keysets.h"
#include "gateway/limits.h"
#include "gateway/resume.h"
#include "gateway/session.h"
#include "gateway/upgrade.h"
#include "gateway/ws.h"
#include "net/sock.h"
#include "ws/frame.h"

#define WARN_MS 60000			/* token_expiring comes at most so long before the end */

void
session_rearm(struct gateway *g, struct conn *c)
{
	uint32_t due = c->ping_s;

	if (c->expires_ms != 0) {
		int64_t left = c->expires_ms - g->w->now_ms - (c->warned ? 0 : c->warn_ms);
		/* Rounded up: never before its time, and at most a second and a turn after it. */
		uint32_t at = left <= 0 ? 0 : left > 86400000 ? 86400 :
		    (uint32_t)((left + 999) / 1000);

		if (g->wheel.now + at < due)
			due = g->wheel.now + at;
	}
	wheel_set(&g->wheel, &g->conns, c, due);
}

void
session_token(struct gateway *g, struct conn *c, int64_t expires_ms, uint32_t key, uint32_t token)
{
	int64_t left = expires_ms - g->w->now_ms;
	bool same = token != 0 && token == c->token;

	c->expires_ms = expires_ms;
	c->key = key;
	c->token = token;
	if (same)
		return;
	c->warned = false;
	c->warn_ms = left <= 0 ? 0 : left / 2 < WARN_MS ? (uint16_t)(left / 2) : WARN_MS;
}

/*
 * The end of the token comes near, or is there.  It is said once before, even where the token was over
 * when it was presented: then the connection ends with the next turn of the wheel.
 */
static void
expiry(struct gateway *g, struct conn *c)
{
	struct buf b = BUF_INIT;

	if (c->expires_ms == 0 || g->w->now_ms < c->expires_ms - c->warn_ms)
		return;
	if (c->warned) {
		if (g->w->now_ms >= c->expires_ms)
			conn_close(g, c, WS_CLOSE_TOKEN_EXPIRED);
		return;
	}
	c->warned = true;
	buf_puts(&b, "{\"expiresAt\":");
	buf_put_json_time(&b, c->expires_ms);
	buf_putc(&b, '}');
	conn_send(g, c, "token_expiring", SLICE_NONE, buf_slice(&b), SLICE_NONE);
	buf_fini(&b);
	if (conn_phase(c) == CONN_OPEN)
		session_rearm(g, c);
}

/* Its second has come. */
static void
timer(struct gateway *g, struct conn *c)
{
	expiry(g, c);
	if (session_is_open(c) && g->wheel.now >= c->ping_s)
		ws_heartbeat(g, c);
	if (session_is_open(c) && !c->doomed)
		session_rearm(g, c);
}

static const struct conn_state open = {
	.phase = CONN_OPEN, .input = ws_input, .timer = timer, .full = ws_slow, .lost = ws_lost
};

/* HTTP is over: what the client sent behind its handshake is the session's first input. */
static void
open_session(struct gateway *g, struct conn *c, enum conn_kind kind, struct buf *early)
{
	*early = c->http->in;
	c->http->in = (struct buf)BUF_INIT;
	http_end(g, c);
	conn_become(c, &open);
	c->kind = (uint8_t)kind;
	c->filter = NULL;
	c->heard = true;
	c->ping_s = g->wheel.now + ws_heartbeat_s(g);
	session_rearm(g, c);
	output_release(g, c);
	conn_pause_reading(g, c, false);
}

static void
take_early(struct gateway *g, struct conn *c, struct buf *early)
{
	if (early->len > 0 && !c->doomed)
		ws_input(g, c, (uint8_t *)early->data, early->len);
	buf_fini(early);
}

static void
put_member(struct buf *b, const char *name, struct slice value)
{
	buf_puts(b, name);
	buf_put_json_string(b, value);
}

/* The greeting, up to what differs between users and devices. */
static void
greeting_begin(struct conn *c, struct buf *b)
{
	uuid_new(c->id);
	buf_clear(b);
	buf_puts(b, "{\"connectionId\":");
	buf_put_json_uuid(b, c->id);
}

static void
greeting_send(struct gateway *g, struct conn *c, struct buf *b, struct slice cursor, struct slice re)
{
	put_member(b, ",\"instance\":", slice_of(g->instance));
	put_member(b, ",\"version\":", slice_of(BELAY_VERSION));
	buf_puts(b, ",\"heartbeatMs\":");
	buf_put_i64(b, g->conf->limits_heartbeat_ms);
	buf_puts(b, ",\"expiresAt\":");
	buf_put_json_time(b, c->expires_ms);
	if (cursor.len > 0)
		put_member(b, ",\"cursor\":", cursor);
	buf_putc(b, '}');
	conn_send(g, c, "connected", re, buf_slice(b), SLICE_NONE);
}

/* The id of the first message, where that brought the token: the greeting is its answer. */
static struct slice
greeting_re(const struct http *h)
{
	if (!h->auth_named)
		return SLICE_NONE;
	return h->auth_id.len > 0 ? buf_slice(&h->auth_id) : SLICE("");
}

static bool
sees_all(const struct gateway *g, enum role role)
{
	return role == ROLE_ADMIN || role == ROLE_SERVICE || g->conf->auth_tenant_members == CONF_TENANT_MEMBERS_VIEW;
}

void
session_rights_changed(struct gateway *g, struct conn *c)
{
	if (c->kind != CONN_USER || c->doomed || c->sees_all == sees_all(g, c->role))
		return;
	if (party_watch(g, c, !c->sees_all) == -1) {
		log_warn("the table of topics is full: a user is turned away");
		conn_close(g, c, WS_CLOSE_OVERLOADED);
	}
}

/* The greeting is sent; the session takes and gives from now on. */
void
session_start(struct gateway *g, struct conn *c, int64_t replayed)
{
	struct buf early;

	open_session(g, c, CONN_USER, &early);
	if (replayed != 0)
		dashboard_replayed(g, c, replayed);
	expiry(g, c);
	take_early(g, c, &early);
}

void
session_greet(struct gateway *g, struct conn *c, struct slice cursor)
{
	const struct identity *who = &c->http->who;
	const char *role_name = who->role_name[0] != '\0' ? who->role_name : role_text(who->role);
	struct buf *b = &g->payload;

	greeting_begin(c, b);
	put_member(b, ",\"userId\":", user_name(c->user));
	put_member(b, ",\"tenantId\":", tenant_name(c->user->tenant));
	put_member(b, ",\"role\":", slice_of(role_name));
	greeting_send(g, c, b, cursor, greeting_re(c->http));
}

void
session_open_user(struct gateway *g, struct conn *c, const struct identity *who)
{
	struct slice tenant = slice_of(who->tenant);
	struct slice user = slice_of(who->user);

	if (!limits_join(g, c, tenant, user, false)) {
		conn_close(g, c, WS_CLOSE_TOO_MANY);
		return;
	}
	if (party_join(g, c, tenant, user, sees_all(g, who->role)) == -1) {
		log_warn("the table of topics is full: a user is turned away");
		limits_leave(g, c, tenant, user);
		conn_close(g, c, WS_CLOSE_OVERLOADED);
		return;
	}
	c->kind = CONN_USER;
	c->role = (uint8_t)who->role;
	c->any_tenant = who->any_tenant;
	session_token(g, c, who->expires_ms, who->key, who->token);
	gateway_count(g, AUTH_OK, 1);
	gateway_count(g, WS_USERS, 1);
	traffic_count(g, c->user->tenant, TRAFFIC_ACCEPTED);
	c->http->who = *who;
	resume_begin(g, c);
}

/* Of an array of ids. */
static uint32_t
elements(struct slice ids_json)
{
	uint32_t n = 1;

	for (size_t i = 0; i < ids_json.len; i++)
		n += ids_json.p[i] == ',';
	return n;
}

void
session_open_device(struct gateway *g, struct conn *c, const struct msg_device_welcome *m)
{
	struct buf *b = &g->payload, early, id;
	struct slice re = greeting_re(c->http);

	c->device = device_new(g, m);
	c->kind = CONN_DEVICE;
	gateway_count(g, WS_DEVICES, 1);
	if (!limits_join(g, c, m->tenant, SLICE_NONE, m->replaces)) {
		conn_close(g, c, WS_CLOSE_TOO_MANY);
		return;
	}
	id = c->http->auth_id;			/* re points into it, and HTTP ends here */
	c->http->auth_id = (struct buf)BUF_INIT;
	open_session(g, c, CONN_DEVICE, &early);
	gateway_count(g, AUTH_OK, 1);
	traffic_count(g, c->device->tenant, TRAFFIC_ACCEPTED);

	greeting_begin(c, b);
	put_member(b, ",\"deviceId\":", m->device);
	put_member(b, ",\"tenantId\":", m->tenant);
	buf_puts(b, ",\"epoch\":");
	buf_put_i64(b, m->epoch);
	greeting_send(g, c, b, SLICE_NONE, re);
	buf_fini(&id);
	if (m->reconcile_json.len > 2) {
		device_asked(c->device, elements(m->reconcile_json));
		buf_clear(b);
		buf_puts(b, "{\"commandIds\":");
		buf_put_slice(b, m->reconcile_json);
		buf_putc(b, '}');
		conn_send(g, c, "reconcile", SLICE_NONE, buf_slice(b), SLICE_NONE);
	}
	expiry(g, c);
	take_early(g, c, &early);
}

void
session_open_echo(struct gateway *g, struct conn *c)
{
	struct buf early;

	open_session(g, c, CONN_ECHO, &early);
	buf_fini(&early);
}

/* It ends since this process leaves, and not by anything that the device, or somebody, did. */
static bool
ends_with_us(const struct gateway *g, const char *reason)
{
	return (g->w->draining || g->stopping) && (strcmp(reason, "restart") == 0 || strcmp(reason, "closed") == 0 ||
	    strcmp(reason, "connection_lost") == 0);
}

void
session_end(struct gateway *g, struct conn *c, const char *reason)
{
	tell_ended(g, c);
	switch ((enum conn_kind)c->kind) {
	case CONN_USER:
		gateway_count(g, WS_USERS, -1);
		limits_leave(g, c, tenant_name(c->user->tenant), user_name(c->user));
		party_leave(g, c);
		free(c->filter);
		c->filter = NULL;
		break;
	case CONN_DEVICE: {
		struct device *d = c->device;
		struct msg_device_gone m = {
			.ref = conn_ref(g, c), .device_pk = d->pk, .epoch = d->epoch,
			.at = g->w->now_ms,
			.last_seen = c->closed_by_peer ? g->w->now_ms : 0,
			.tenant = tenant_name(d->tenant),
			.device = device_id(d),
			.returns = ends_with_us(g, reason),
			.reason = slice_of(ends_with_us(g, reason) ? "restart" : reason)
		};

		if (gateway_tell_storage(g, device_gone, &m) == -1)
			log_error("storage does not take records: the end of a device's "
			    "connection is not told");
		gateway_count(g, WS_DEVICES, -1);
		limits_leave(g, c, tenant_name(d->tenant), SLICE_NONE);
		device_free(g, &c->device);
		break;
	}
	case CONN_ECHO:
	case CONN_NOBODY:
		break;
	}
	c->kind = CONN_NOBODY;
}

static void
send_fault(struct gateway *g, struct conn *c, struct slice re, const struct envelope_fault *fault)
{
	struct frame *f;

	buf_clear(&g->scratch);
	envelope_error_put(&g->scratch, re, fault);
	f = frame_new(WS_FIN | WS_OP_TEXT, buf_slice(&g->scratch));
	output_send(g, c, f);
	frame_put(f);
	party_count_out(g, c);
}

void
session_error(struct gateway *g, struct conn *c, struct slice re, enum error_code code,
    const char *field, const char *message)
{
	struct envelope_fault fault;

	traffic_count_error(g, c, code);
	envelope_fault_set(&fault, code, field, message != NULL ? "%s" : NULL, message);
	if (code == ERROR_rate_limited)
		fault.retry_after_ms = g->tell_retry_ms;
	send_fault(g, c, re, &fault);
}

void
session_error_later(struct gateway *g, struct conn *c, struct slice re, enum error_code code, int64_t retry_after_ms)
{
	struct envelope_fault fault;

	traffic_count_error(g, c, code);
	envelope_fault_set(&fault, code, NULL, NULL);
	fault.retry_after_ms = retry_after_ms;
	send_fault(g, c, re, &fault);
}

bool
session_waits(const struct conn *c, const struct ask *a)
{
	(void)a;
	return conn_phase(c) == CONN_OPEN;
}

void
session_ask_failed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code)
{
	if (code == ERROR_too_many)
		session_error_later(g, c, ask_re(a), code, READS_RETRY_MS);
	else
		session_error(g, c, ask_re(a), code, NULL, NULL);
}

bool
session_refused(struct gateway *g, struct conn *c, struct slice re, const struct msg_store_reply *m)
{
	bool bare = m->field.len < 7 || memcmp(m->field.p, "payload", 7) != 0;
	char name[160], text[256];

	if (m->code == ERROR_NONE)
		return false;
	snprintf(name, sizeof(name), "%s%.*s", m->field.len > 0 && bare ? "payload." : "",
	    (int)m->field.len, m->field.p);
	snprintf(text, sizeof(text), "%.*s", (int)m->message.len, m->message.p);
	session_error(g, c, re, (enum error_code)m->code, name[0] != '\0' ? name : NULL,
	    text[0] != '\0' ? text : NULL);
	return true;
}

void
session_gap(struct gateway *g, struct conn *c, int64_t dropped, int64_t since)
{
	buf_clear(&g->payload);
	buf_puts(&g->payload, "{\"dropped\":");
	buf_put_i64(&g->payload, dropped);
	buf_puts(&g->payload, ",\"since\":");
	buf_put_json_time(&g->payload, since);
	buf_putc(&g->payload, '}');
	conn_send(g, c, "gap", SLICE_NONE, buf_slice(&g->payload), SLICE_NONE);
}

void
session_answer_at(struct gateway *g, struct conn *c, const char *type)
{
	buf_clear(&g->payload);
	buf_puts(&g->payload, "{\"at\":");
	buf_put_json_time(&g->payload, g->w->now_ms);
	buf_putc(&g->payload, '}');
	conn_send(g, c, type, g->envelope.id, buf_slice(&g->payload), SLICE_NONE);
}

/* The first message with ?auth=message: it is the token or nothing. */
void
session_first(struct gateway *g, struct conn *c, struct slice text)
{
	struct envelope *e = &g->envelope;
	struct envelope_fault fault;
	struct slice device;

	if (envelope_parse(e, text, ENVELOPE_FROM_USER, &fault) == -1 ||
	    e->type != MSG_TYPE_auth) {
		upgrade_refuse(g, c, REFUSE_MISSING, "the first message is no token");
		return;
	}
	c->http->auth_named = e->id.p != NULL;
	buf_put_slice(&c->http->auth_id, e->id);
	device = e->field[FIELD_auth_device].str;
	if (e->field[FIELD_auth_device].present && device.len < sizeof(c->http->device)) {
		memcpy(c->http->device, device.p, device.len);
		c->http->device[device.len] = '\0';
	}
	upgrade_with_token(g, c, e->field[FIELD_auth_token].str);
}

/*
 * A new token must not be dropped because of what else is said: refreshing has a limit of its own, and beyond it
 * counts as a message too.
 */
static bool
may_pass(struct gateway *g, struct conn *c, bool is_auth, int64_t *retry_after_ms)
{
	int64_t message_ms;

	if (!is_auth)
		return limits_message(g, c, retry_after_ms);
	if (limits_auth(g, c, retry_after_ms))
		return true;
	(void)limits_message(g, c, &message_ms);
	return false;
}

void
session_message(struct gateway *g, struct conn *c, struct slice text)
{
	struct envelope_fault fault;
	int64_t retry_after_ms;
	bool device = c->kind == CONN_DEVICE;
	/* Read first: answers that are owed are not limited, and of what is dropped the sender is told the id. */
	bool good = envelope_parse(&g->envelope, text,
	    device ? ENVELOPE_FROM_DEVICE : ENVELOPE_FROM_USER, &fault) == 0;

	party_count_in(g, c);
	g->owed = device && good && g->envelope.type == MSG_TYPE_command_ack && device_owes(c->device);
	if (!g->owed && !may_pass(g, c, good && g->envelope.type == MSG_TYPE_auth, &retry_after_ms)) {
		if (conn_phase(c) != CONN_OPEN)
			return;
		envelope_fault_set(&fault, ERROR_rate_limited, NULL, NULL);
		fault.retry_after_ms = retry_after_ms;
		send_fault(g, c, g->envelope.id, &fault);
		return;
	}
	if (!good && !device && fault.code == ERROR_unknown_type && dashboard_hand(g, c, &fault))
		return;
	if (!good) {
		send_fault(g, c, g->envelope.id, &fault);
		if (fault.code != ERROR_unknown_type)
			limits_invalid(g, c);
		return;
	}
	if (device)
		device_heard(g, c->device);
	if (g->envelope.type == MSG_TYPE_ping)
		session_answer_at(g, c, "pong");
	else if (g->envelope.type == MSG_TYPE_auth)
		session_refresh(g, c, g->envelope.id, g->envelope.field[FIELD_auth_token].str);
	else if (device)
		device_message(g, c);
	else
		dashboard_message(g, c);
}

/* The connection lives until then: its present token is good. */
static void
extend(struct gateway *g, struct conn *c, struct slice re, int64_t expires_ms, uint32_t key, uint32_t token)
{
	session_token(g, c, expires_ms, key, token);
	buf_clear(&g->payload);
	buf_puts(&g->payload, "{\"expiresAt\":");
	buf_put_json_time(&g->payload, expires_ms);
	buf_putc(&g->payload, '}');
	conn_send(g, c, "ok", re, buf_slice(&g->payload), SLICE_NONE);
	session_rearm(g, c);
	expiry(g, c);
}

/* Storage has said whether the token is this device's own. */
static void
refreshed(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	if (m->code == ERROR_NONE)
		extend(g, c, ask_re(a), 0, 0, 0);
	else if (m->code == ERROR_invalid_token)
		upgrade_refuse(g, c, REFUSE_INVALID, "the new token is not this device's");
	else
		session_refused(g, c, ask_re(a), m);
}

static const struct ask_ops refreshes = {
	.waits = session_waits, .answer = refreshed, .failed = session_ask_failed
};

/* A device token: storage alone knows whose it is. */
static void
ask_whose(struct gateway *g, struct conn *c, struct slice re, struct slice token)
{
	struct msg_token_check m = { .ref = conn_ref(g, c), .device_pk = c->device->pk };
	struct ask *a;

	if (auth_device_token_hash(token, m.token_hash) == -1) {
		upgrade_refuse(g, c, REFUSE_INVALID, "malformed device token");
		return;
	}
	a = ask_new(g, c, &refreshes, re);
	m.request = a->request;
	if (gateway_tell_storage(g, token_check, &m) == -1)
		ask_failed(g, a, tell_refusal());
}

static bool
is_same_user(const struct conn *c, const struct identity *who)
{
	if (who->role == ROLE_DEVICE || !slice_is(user_name(c->user), who->user) ||
	    who->any_tenant != c->any_tenant)
		return false;
	/* A key of all tenants acts in the one that it named when it came. */
	return who->any_tenant || slice_is(tenant_name(c->user->tenant), who->tenant);
}

void
session_refresh(struct gateway *g, struct conn *c, struct slice re, struct slice token)
{
	struct identity who;
	char why[AUTH_WHY_LEN];
	enum auth_verdict verdict;
	bool same;

	if (c->kind == CONN_DEVICE && auth_device_token_is(token)) {
		ask_whose(g, c, re, token);
		return;
	}
	verdict = auth_verify(g->auth, token, g->w->now_ms, &who, why);
	if (verdict == AUTH_NOT_YET) {
		keysets_hold_refresh(g, c, re, token);
		return;
	}
	if (verdict != AUTH_OK) {
		upgrade_refuse(g, c, verdict == AUTH_EXPIRED ? REFUSE_EXPIRED :
		    verdict == AUTH_MISSING ? REFUSE_MISSING : REFUSE_INVALID, why);
		return;
	}
	if (c->kind == CONN_USER)
		same = is_same_user(c, &who);
	else
		same = who.role == ROLE_DEVICE && slice_is(device_id(c->device), who.user) &&
		    slice_is(tenant_name(c->device->tenant), who.tenant);
	if (!same) {
		upgrade_refuse(g, c, REFUSE_INVALID, "the new token is somebody else's");
		return;
	}
	c->role = (uint8_t)who.role;
	session_rights_changed(g, c);
	if (conn_phase(c) == CONN_OPEN)
		extend(g, c, re, who.expires_ms, who.key, who.token);
}
