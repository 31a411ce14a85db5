/*
 * api_command.c: commands by REST.  One gateway process.  A request with ?wait=1 is answered when the command
 * ends: by the publication of that, or by a look at the command now and then.
 */
#include <string.h>

#include "base/must.h"
#include "gateway/api.h"
#include "gateway/api_command.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "http/uri.h"
#include "msg/command_json.h"

static void
respond(struct gateway *g, struct conn *c, int status, struct slice command_json)
{
	buf_clear(&g->payload);
	buf_puts(&g->payload, "{\"command\":");
	buf_put_slice(&g->payload, command_json);
	buf_putc(&g->payload, '}');
	http_respond_json(g, c, status, buf_slice(&g->payload));
}

/* The request may have been answered meanwhile, and another look be under way. */
static void
look_failed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code)
{
	(void)g;
	(void)code;
	if (c->http->look == a->request)
		c->http->look = 0;
}

static void
looked(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	struct slice command = json_raw(m->body_json, "command");

	if (!c->http->waiting || c->http->look != a->request)
		return;
	c->http->look = 0;
	if (m->code == ERROR_NONE && c->http->as_it_is && command_json_end(command) == COMMAND_RUNS)
		respond(g, c, 202, command);
	else if (m->code == ERROR_NONE)
		api_command_changed(g, c, NULL, command);
	else if (m->code != ERROR_unavailable)
		api_answer(g, c, a, m);
}

/* The first answer is the publication of the command, and a refusal is a reply. */
static const struct ask_ops asks = { .waits = api_waits, .answer = api_answer, .failed = api_failed };
static const struct ask_ops waits_for_end = { .waits = api_waits, .answer = api_answer, .failed = api_failed };
static const struct ask_ops looks = { .waits = api_waits, .answer = looked, .failed = look_failed };

void
api_command(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	const struct field_value *f = g->fields.field;
	bool open = h->match.route == ROUTE_command_open;
	struct envelope_fault fault;
	struct slice wait = SLICE_NONE;
	struct msg_command_new m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .role = (uint8_t)h->who.role,
		.user = slice_of(h->who.user)
	};

	if (schema_parse(open ? BODY_command_open : BODY_command, buf_slice(&h->body), &g->fields,
	    &fault) == -1) {
		api_bad_body(g, c, &fault);
		return;
	}
	if (!api_tenant(g, c, &m.tenant))
		return;
	m.timeout_ms = f[FIELD_command_timeoutMs].present ? f[FIELD_command_timeoutMs].i64 :
	    COMMAND_TIMEOUT_MS;
	m.queue_ms = f[FIELD_command_queueMs].present ? f[FIELD_command_queueMs].i64 : 0;
	m.device = f[FIELD_command_deviceId].str;
	m.command = open ? SLICE("unlock_door") : f[FIELD_command_command].str;
	m.params_json = f[FIELD_command_params].present ? f[FIELD_command_params].json.raw :
	    SLICE("{}");
	if (f[FIELD_command_onlyIf].present)
		m.only_if_json = f[FIELD_command_onlyIf].json.raw;
	if (f[FIELD_command_idempotencyKey].present)
		m.idempotency_key = f[FIELD_command_idempotencyKey].str;
	else if (h->idempotency_key.len > 0)
		m.idempotency_key = buf_slice(&h->idempotency_key);
	if (m.idempotency_key.len > 0 && !schema_is_line(m.idempotency_key, 1, 255)) {
		http_respond_error(g, c, ERROR_invalid_payload, "text of at most 255 characters",
		    "Idempotency-Key");
		return;
	}
	buf_clear(&g->scratch);
	(void)uri_query_get(buf_slice(&h->query), "wait", &g->scratch, &wait);
	uuid_new(m.command_id);
	/* Who does not wait has gone when the command changes, and nobody need be told here. */
	m.follows = slice_is(wait, "1") || slice_is(wait, "true");
	API_ASK(g, c, m.follows ? &waits_for_end : &asks, command_new, &m);
}

/*
 * Its end may have been told to an earlier connection that asked for it with the same key, or to nobody because its
 * device was deleted.
 */
void
api_look_at_command(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	struct ask *a = ask_new(g, c, &looks, SLICE_NONE);
	char id[UUID_TEXT_LEN + 1];
	struct msg_read m = {
		.ref = conn_ref(g, c), .route = ROUTE_command_get, .role = (uint8_t)h->who.role,
		.tenant = slice_of(h->who.any_tenant ? h->tenant : h->who.tenant),
		.user = slice_of(h->who.user)
	};

	uuid_format(h->command, id);
	m.target = slice_of(id);
	h->look = a->request;
	reads_ask(g, a, read, &m, true);
}

void
api_command_changed(struct gateway *g, struct conn *c, const struct ask *a, struct slice command_json)
{
	struct http *h = c->http;
	enum command_end end = command_json_end(command_json);
	uint8_t id[UUID_LEN];

	if (h->state != REQUEST_ASKED || !command_json_id(command_json, id))
		return;
	if (a != NULL && a->ops == &asks) {
		respond(g, c, 202, command_json);
		return;
	}
	if (a != NULL && a->ops == &waits_for_end && end == COMMAND_RUNS) {
		http_wait(g, c, id);
		return;
	}
	if (a == NULL && !(h->waiting && end != COMMAND_RUNS &&
	    memcmp(h->command, id, sizeof(id)) == 0))
		return;
	respond(g, c, end == COMMAND_TIMED_OUT ? 504 : 200, command_json);
}

void
api_cancel(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	struct msg_command_cancel m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .role = (uint8_t)h->who.role,
		.user = slice_of(h->who.user)
	};

	if (uuid_parse(h->match.param[0], m.command_id) == -1) {
		http_respond_error(g, c, ERROR_not_found, NULL, NULL);
		return;
	}
	if (!api_tenant(g, c, &m.tenant))
		return;
	API_ASK(g, c, &asks, command_cancel, &m);
}
