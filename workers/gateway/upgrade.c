/*
 * upgrade.c: the WebSocket handshake of a client, the places a token can be
 * in, and what becomes of it.  One gateway process.
 *
 * A refused client gets its 101 first and a close code then, since a browser
 * can't read the HTTP status of a refused handshake.  Why is said in the log
 * alone; no part of a token ever is.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "auth/device_token.h"
#include "gateway/conn.h"
#include "gateway/cors.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/keysets.h"
#include "gateway/limits.h"
#include "gateway/peer.h"
#include "gateway/refusals.h"
#include "gateway/session.h"
#include "gateway/ticket.h"
#include "gateway/upgrade.h"
#include "http/response.h"
#include "http/uri.h"
#include "ws/handshake.h"

#define SUBPROTOCOL "belay.v1"
#define TOKEN_PREFIX "belay.token."
#define WAIT_S 10			/* for the answer about a token */

static struct ws_str
ws_str_of(struct slice s)
{
	return (struct ws_str){ s.p, s.len };
}

/* The subprotocol list: is belay.v1 offered, and does it bring a token? */
static void
read_subprotocols(const struct ws_upgrade *u, bool *offered, struct slice *token)
{
	for (unsigned i = 0; i < u->nprotocols; i++) {
		struct ws_str list = u->protocols[i], item;

		while (ws_token_next(&list, &item)) {
			struct slice s = { item.p, item.len };
			size_t prefix = sizeof(TOKEN_PREFIX) - 1;

			if (slice_is(s, SUBPROTOCOL))
				*offered = true;
			else if (s.len > prefix && memcmp(s.p, TOKEN_PREFIX, prefix) == 0 &&
			    token->p == NULL)
				*token = (struct slice){ s.p + prefix, s.len - prefix };
		}
	}
}

struct slice
upgrade_bearer(const struct http_head *head)
{
	struct slice v = http_header(head, "Authorization");

	if (v.len < 7 || strncasecmp(v.p, "Bearer ", 7) != 0)
		return SLICE_NONE;
	v.p += 7;
	v.len -= 7;
	while (v.len > 0 && *v.p == ' ') {
		v.p++;
		v.len--;
	}
	return v;
}

static void
copy_id(char *out, size_t size, struct slice s)
{
	if (s.len >= size)		/* too long to be one: kept so that it matches nothing */
		s = SLICE("*");
	memcpy(out, s.p, s.len);
	out[s.len] = '\0';
}

static void
read_name(struct gateway *g, const struct http_head *head, const char *name, char *out, size_t size)
{
	struct slice v;
	int got;

	buf_clear(&g->scratch);
	got = uri_query_get_id(head->query, name, &g->scratch, &v);
	if (got != 0)
		copy_id(out, size, got == 1 ? v : SLICE("*"));
}

void
upgrade_read_device(struct gateway *g, const struct http_head *head, char device[ID_DEVICE_MAX + 1])
{
	struct slice v = http_header(head, "X-Device-Id");

	device[0] = '\0';
	if (v.p != NULL)
		copy_id(device, ID_DEVICE_MAX + 1, v);
	read_name(g, head, "device", device, ID_DEVICE_MAX + 1);
}

static void
read_names(struct gateway *g, struct http *h, const struct http_head *head)
{
	upgrade_read_device(g, head, h->device);
	read_name(g, head, "tenantId", h->tenant, sizeof(h->tenant));
	read_name(g, head, "resume", h->resume, sizeof(h->resume));
	h->resumes = uri_query_count(head->query, "resume") > 0;
}

/* Where the token is, in the order of the protocol. */
enum credential { CREDENTIAL_NONE, CREDENTIAL_TOKEN, CREDENTIAL_TICKET, CREDENTIAL_MESSAGE, CREDENTIAL_MALFORMED };

static enum credential
find_token(struct gateway *g, const struct http_head *head, struct slice from_subprotocol,
    struct slice *token)
{
	struct slice v;
	int got;

	if ((*token = upgrade_bearer(head)).p != NULL)
		return CREDENTIAL_TOKEN;
	buf_clear(&g->scratch);
	if ((got = uri_query_get_id(head->query, "token", &g->scratch, token)) == -1)
		return CREDENTIAL_MALFORMED;
	if (got == 1 && token->len > 0)
		return CREDENTIAL_TOKEN;
	if (from_subprotocol.p != NULL) {
		*token = from_subprotocol;
		return CREDENTIAL_TOKEN;
	}
	buf_clear(&g->scratch);
	if ((got = uri_query_get_id(head->query, "ticket", &g->scratch, token)) == -1)
		return CREDENTIAL_MALFORMED;
	if (got == 1 && token->len > 0)
		return CREDENTIAL_TICKET;
	if (uri_query_get(head->query, "auth", &g->scratch, &v) == 1 && slice_is(v, "message"))
		return CREDENTIAL_MESSAGE;
	return CREDENTIAL_NONE;
}

static void
answer(struct gateway *g, struct conn *c, const void *p, size_t n)
{
	struct frame *f = frame_raw(slice_bytes(p, n));

	output_send(g, c, f);
	frame_put(f);
}

static void
refuse_upgrade(struct gateway *g, struct conn *c, const struct ws_upgrade *u, int status,
    bool head_only)
{
	struct http_response r = {
		.close = true,
		.extra = slice_of(ws_upgrade_refusal_fields(status)),	/* Allow too */
		.head_only = head_only
	};

	buf_clear(&g->scratch);
	http_error_put(&g->scratch, &r, status, error_name(error_of_status(status)),
	    slice_of(u->why != NULL ? u->why : error_text(error_of_status(status))), SLICE_NONE);
	gateway_count(g, HTTP_4XX, 1);
	answer(g, c, g->scratch.data, g->scratch.len);
	c->http->state = REQUEST_OVER;
	conn_drop_when_sent(g, c);
}

static void
no_answer(struct gateway *g, struct conn *c)
{
	conn_close(g, c, WS_CLOSE_OVERLOADED);
}

static void
no_token(struct gateway *g, struct conn *c)
{
	upgrade_refuse(g, c, REFUSE_MISSING, "no token came");
}

/* 101 is written; whose token it is, is asked. */
static const struct conn_state waits = {
	.phase = CONN_AUTH, .input = http_hold_input, .timer = no_answer, .lost = ws_lost
};
/* 101 is sent; the first message has to bring the token. */
static const struct conn_state silent = {
	.phase = CONN_SILENT, .input = ws_input, .timer = no_token, .full = ws_slow, .lost = ws_lost
};

void
upgrade_wait(struct gateway *g, struct conn *c)
{
	conn_become(c, &waits);
	wheel_set(&g->wheel, &g->conns, c, g->wheel.now + WAIT_S);
}

void
upgrade_request(struct gateway *g, struct conn *c, const struct http_head *head, struct slice rest)
{
	struct ws_upgrade u;
	struct slice from_subprotocol = SLICE_NONE, token = SLICE_NONE;
	bool offered = false, echo = slice_is(head->path, "/echo");
	char response[1024];
	size_t len;
	enum credential found;
	int status;

	ws_upgrade_init(&u, ws_str_of(head->method_text), head->minor, g->conf->ws_deflate);
	for (unsigned i = 0; i < head->headers_n; i++)
		ws_upgrade_field(&u, ws_str_of(head->headers[i].name),
		    ws_str_of(head->headers[i].value));
	status = ws_upgrade_status(&u);
	if (status == 101 && (head->content_length > 0 || head->chunked)) {
		u.why = "a body with an upgrade";
		status = 400;
	}
	if (status != 101) {
		refuse_upgrade(g, c, &u, status, head->method == HTTP_HEAD);
		return;
	}
	if (g->w->draining) {
		c->http->keep_alive = false;
		http_respond_retry(g, c, ERROR_unavailable, 1000);
		return;
	}
	if (!cors_admit(g, c, head)) {
		c->http->keep_alive = false;
		http_respond_error(g, c, ERROR_no_access, "this Origin is not allowed", NULL);
		return;
	}
	read_subprotocols(&u, &offered, &from_subprotocol);
	read_names(g, c->http, head);
	c->charger = uri_query_count(head->query, "charger") > 0;
	len = ws_upgrade_response(&u, offered && !echo ? ws_str_of(SLICE(SUBPROTOCOL)) :
	    ws_str_of(SLICE_NONE), ws_str_of(SLICE_NONE), response, sizeof(response));
	c->deflate = u.deflate.on;
	c->deflate_bits = u.deflate.send_bits;
	ws_reader_init(&c->reader, c->deflate);
	limits_init(g, c);
	gateway_count(g, UPGRADES, 1);
	if (c->guest) {
		conn_become(c, &waits);
		answer(g, c, response, len);
		conn_close(g, c, WS_CLOSE_TOO_MANY);
		return;
	}
	if (echo) {
		answer(g, c, response, len);
		session_open_echo(g, c);
	} else {
		found = find_token(g, head, from_subprotocol, &token);
		conn_become(c, found == CREDENTIAL_MESSAGE ? &silent : &waits);
		answer(g, c, response, len);
		if (!peer_admit_upgrade(g, c)) {
			conn_close(g, c, WS_CLOSE_TOO_MANY);
			return;
		}
		switch (found) {
		case CREDENTIAL_NONE:
			upgrade_refuse(g, c, REFUSE_MISSING, "no token");
			break;
		case CREDENTIAL_TOKEN:
			upgrade_with_token(g, c, token);
			break;
		case CREDENTIAL_TICKET:
			ticket_present(g, c, token);
			break;
		case CREDENTIAL_MESSAGE:
			/* the present second has begun already */
			wheel_set(&g->wheel, &g->conns, c, g->wheel.now + http_handshake_s(g) + 1);
			break;
		case CREDENTIAL_MALFORMED:
			upgrade_refuse(g, c, REFUSE_INVALID, "malformed percent-encoding");
			break;
		}
	}
	if (rest.len == 0 || c->doomed)
		return;
	c->state->input(g, c, (uint8_t *)(uintptr_t)rest.p, rest.len);
}

bool
upgrade_waits(const struct conn *c, const struct ask *a)
{
	(void)a;
	return conn_phase(c) == CONN_AUTH;
}

void
upgrade_ask_failed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code)
{
	(void)a;
	(void)code;
	conn_close(g, c, WS_CLOSE_OVERLOADED);
}

static const struct ask_ops asks = { .waits = upgrade_waits, .failed = upgrade_ask_failed };

static void
ask_about_device(struct gateway *g, struct conn *c, struct msg_device_auth *m)
{
	struct ask *a = ask_new(g, c, &asks, SLICE_NONE);

	m->request = a->request;
	m->ref = conn_ref(g, c);
	upgrade_wait(g, c);
	if (gateway_tell_storage(g, device_auth, m) == -1)
		ask_failed(g, a, tell_refusal());
}

/* The tenant that the client named, if it did, is not its own. */
static void
refuse_tenant(struct gateway *g, struct conn *c)
{
	refusals_log(g, c, "No access: tenantId is another tenant");
	conn_close(g, c, WS_CLOSE_NO_ACCESS);
}

void
upgrade_open_user(struct gateway *g, struct conn *c, struct identity *who)
{
	struct slice tenant = slice_of(c->http->tenant);

	if (who->any_tenant && !schema_is_id(tenant)) {
		upgrade_refuse(g, c, REFUSE_NO_TENANT, tenant.len > 0 ? "bad tenantId" :
		    "a service key of all tenants names the one that it acts in");
	} else if (who->any_tenant) {
		memcpy(who->tenant, tenant.p, tenant.len + 1);
		session_open_user(g, c, who);
	} else if (tenant.len > 0 && !slice_is(tenant, who->tenant)) {
		refuse_tenant(g, c);
	} else if (c->charger) {		/* feed.url is not in this version yet */
		conn_close(g, c, WS_CLOSE_NO_FEED);
	} else {
		session_open_user(g, c, who);
	}
}

void
upgrade_with_token(struct gateway *g, struct conn *c, struct slice token)
{
	struct msg_device_auth m = { .device = slice_of(c->http->device) };
	struct identity who;
	char why[AUTH_WHY_LEN];

	if (auth_device_token_is(token)) {
		if (auth_device_token_hash(token, m.token_hash) == -1) {
			upgrade_refuse(g, c, REFUSE_INVALID, "malformed device token");
			return;
		}
		m.by_token = 1;
		m.tenant = slice_of(c->http->tenant);
		ask_about_device(g, c, &m);
		return;
	}
	switch (auth_verify(g->auth, token, g->w->now_ms, &who, why)) {
	case AUTH_OK:
		break;
	case AUTH_MISSING:
		upgrade_refuse(g, c, REFUSE_MISSING, "no token");
		return;
	case AUTH_INVALID:
		upgrade_refuse(g, c, REFUSE_INVALID, why);
		return;
	case AUTH_EXPIRED:
		upgrade_refuse(g, c, REFUSE_EXPIRED, why);
		return;
	case AUTH_NOT_YET:
		keysets_hold_upgrade(g, c, token);
		return;
	}
	c->key = who.key;
	if (who.role != ROLE_DEVICE) {
		upgrade_open_user(g, c, &who);
		return;
	}
	if (c->http->device[0] != '\0' && strcmp(c->http->device, who.user) != 0) {
		upgrade_refuse(g, c, REFUSE_INVALID, "another device's token");
		return;
	}
	if (c->http->tenant[0] != '\0' && strcmp(c->http->tenant, who.tenant) != 0) {
		refuse_tenant(g, c);
		return;
	}
	session_token(g, c, who.expires_ms, who.key, who.token);
	m.tenant = slice_of(who.tenant);
	m.device = slice_of(who.user);
	ask_about_device(g, c, &m);
}

void
upgrade_welcome(struct gateway *g, const struct msg_device_welcome *m)
{
	struct ask *a = ask_find(g, m->request);
	struct conn *c = conn_of_ref(g, m->ref);

	if (a != NULL)
		ask_free(g, a);
	if (c != NULL && conn_phase(c) == CONN_AUTH && m->code == ERROR_NONE &&
	    !auth_allows(g->auth, c->key, m->tenant, ROLE_DEVICE))
		upgrade_refuse(g, c, REFUSE_INVALID, "its key was removed meanwhile");
	if (c == NULL || conn_phase(c) != CONN_AUTH) {
		/* The client left meanwhile, or was sent away: what was claimed for it must be given back. */
		if (m->code == ERROR_NONE) {
			struct msg_device_gone gone = {
				.ref = m->ref, .device_pk = m->device_pk, .epoch = m->epoch,
				.at = g->w->now_ms,
				.last_seen = g->w->now_ms, .tenant = m->tenant, .device = m->device,
				.returns = g->w->draining,
				.reason = g->w->draining ? SLICE("restart") : SLICE("connection_lost")
			};

			gateway_tell_storage(g, device_gone, &gone);
		}
		return;
	}
	switch ((enum error_code)m->code) {
	case ERROR_NONE:
		session_open_device(g, c, m);
		break;
	case ERROR_no_access:
		refuse_tenant(g, c);
		break;
	case ERROR_unavailable:
	case ERROR_too_many:
		conn_close(g, c, WS_CLOSE_OVERLOADED);
		break;
	default:
		upgrade_refuse(g, c, REFUSE_INVALID, "no such device token");
		break;
	}
}

void
upgrade_refuse(struct gateway *g, struct conn *c, enum upgrade_refusal refusal, const char *why)
{
	static const struct {
		const char *said;
		enum ws_close close, feed_close;
		enum stats_counter counter;
	} table[] = {
		[REFUSE_MISSING] = { "Missing token", WS_CLOSE_MISSING_TOKEN,
		    WS_CLOSE_FEED_NO_TOKEN, STAT_AUTH_MISSING },
		[REFUSE_INVALID] = { "Invalid token", WS_CLOSE_INVALID_TOKEN,
		    WS_CLOSE_FEED_BAD_TOKEN, STAT_AUTH_INVALID },
		[REFUSE_NO_TENANT] = { "Missing tenant", WS_CLOSE_MISSING_TENANT,
		    WS_CLOSE_MISSING_TENANT, STAT_AUTH_INVALID },
		[REFUSE_EXPIRED] = { "Token expired", WS_CLOSE_TOKEN_EXPIRED,
		    WS_CLOSE_FEED_BAD_TOKEN, STAT_AUTH_EXPIRED },
	};
	char said[96];

	snprintf(said, sizeof(said), "%s: %s", table[refusal].said, why);
	refusals_log(g, c, said);
	worker_count(g->w, table[refusal].counter, 1);
	conn_close(g, c, c->charger ? table[refusal].feed_close : table[refusal].close);
}
