/*
 * api.c: REST requests of a gateway process: who may ask, what is asked of
 * storage or a reader, and what is answered.  The store's rules are theirs; here
 * only tokens, shapes and sizes are looked at.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "auth/device_token.h"
#include "base/json.h"
#include "base/must.h"
#include "gateway/api.h"
#include "gateway/conn.h"
#include "gateway/dashboard.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/keysets.h"
#include "gateway/limits.h"
#include "gateway/own.h"
#include "gateway/refusals.h"
#include "gateway/resume.h"
#include "gateway/session.h"
#include "gateway/ticket.h"
#include "gateway/upgrade.h"
#include "gateway/users.h"
#include "http/uri.h"

/* ------------------------------------------------------------------ who may ask */

static bool
is_health_or_metrics(enum http_route route)
{
	return route == ROUTE_metrics || route == ROUTE_health || route == ROUTE_api_health ||
	    route == ROUTE_health_ready;
}

/* What an operator configured, and not a token that says it is a service's: those end. */
static bool
is_service_key(const struct identity *who)
{
	return who->role == ROLE_SERVICE && who->expires_ms == 0;
}

static bool
refuse_token(struct gateway *g, struct conn *c, enum auth_verdict verdict, const char *why)
{
	refusals_log(g, c, why);
	worker_count(g->w, verdict == AUTH_MISSING ? STAT_AUTH_MISSING :
	    verdict == AUTH_EXPIRED ? STAT_AUTH_EXPIRED : STAT_AUTH_INVALID, 1);
	http_respond_error(g, c, verdict == AUTH_MISSING ? ERROR_missing_token :
	    verdict == AUTH_EXPIRED ? ERROR_token_expired : ERROR_invalid_token, NULL, NULL);
	return false;
}

static struct slice
trimmed(struct slice v)
{
	while (v.len > 0 && (v.p[0] == ' ' || v.p[0] == '\t')) {
		v.p++;
		v.len--;
	}
	while (v.len > 0 && (v.p[v.len - 1] == ' ' || v.p[v.len - 1] == '\t'))
		v.len--;
	return v;
}

/* Takes what stands before the next semicolon off *rest, and the semicolon. */
static struct slice
next_part(struct slice *rest)
{
	const char *at = memchr(rest->p, ';', rest->len);
	struct slice part = *rest;

	if (at == NULL) {
		*rest = SLICE("");
		return trimmed(part);
	}
	part.len = (size_t)(at - rest->p);
	rest->p = at + 1;
	rest->len -= part.len + 1;
	return trimmed(part);
}

/* RFC 8259 section 8.1: JSON is UTF-8.  Parameters that say nothing of that mean nothing here. */
static bool
is_utf8(struct slice parameter)
{
	static const char name[] = "charset=";
	size_t n = sizeof(name) - 1;

	if (parameter.len < n || strncasecmp(parameter.p, name, n) != 0)
		return true;
	parameter.p += n;
	parameter.len -= n;
	if (parameter.len >= 2 && parameter.p[0] == '"' && parameter.p[parameter.len - 1] == '"')
		parameter = (struct slice){ parameter.p + 1, parameter.len - 2 };
	return http_name_eq(parameter, "utf-8") || http_name_eq(parameter, "us-ascii");
}

/* Can the body be read?  One that does not say what it is counts as JSON. */
static bool
body_is_json(const struct http_head *head)
{
	struct slice type = http_header(head, "Content-Type"),
	    coding = http_header(head, "Content-Encoding");

	if (coding.p != NULL && !http_name_eq(coding, "identity"))
		return false;
	if (type.p == NULL)
		return true;
	if (!http_name_eq(next_part(&type), "application/json"))
		return false;
	while (type.len > 0)
		if (!is_utf8(next_part(&type)))
			return false;
	return true;
}

/* As far as that is known without the device that the request is about. */
static bool
may_ask(enum route_access access, const struct identity *who)
{
	switch (access) {
	case ROUTE_SERVICE:
		return who->role == ROLE_SERVICE || who->role == ROLE_ADMIN;
	case ROUTE_METRICS:
		return is_service_key(who);
	case ROUTE_DEVICE:
		return who->role == ROLE_DEVICE;
	case ROUTE_USER_DEVICE:
		return true;
	default:
		return who->role != ROLE_DEVICE;
	}
}

/* Whose token it is, into h->who.  false: the request was answered, or its head waits. */
static bool
identify(struct gateway *g, struct conn *c, const struct http_head *head)
{
	struct http *h = c->http;
	struct slice token = upgrade_bearer(head);
	bool own = token.p != NULL && auth_device_token_is(token);
	char why[AUTH_WHY_LEN];
	enum auth_verdict verdict;

	if (token.p == NULL)
		return refuse_token(g, c, AUTH_MISSING, "no token");
	if (!own) {
		verdict = auth_verify(g->auth, token, g->w->now_ms, &h->who, why);
		if (verdict == AUTH_NOT_YET) {
			keysets_hold_request(g, c);
			return false;
		}
		if (verdict != AUTH_OK)
			return refuse_token(g, c, verdict, why);
		/* It is there, and whose it is, is asked where that matters. */
		own = h->who.role == ROLE_DEVICE && may_ask(h->match.info->access, &h->who);
	}
	switch (own ? own_identify(g, c, head, token) : OWN_KNOWN) {
	case OWN_KNOWN:
		return true;
	case OWN_UNKNOWN:
		return refuse_token(g, c, AUTH_INVALID, "no such device token");
	case OWN_LATER:
		break;
	}
	return false;
}

bool
api_authorize(struct gateway *g, struct conn *c, const struct http_head *head)
{
	struct http *h = c->http;
	enum route_access access = h->match.info->access;
	int64_t retry_after_ms;

	memset(&h->who, 0, sizeof(h->who));
	if (c->admin) {
		if (is_health_or_metrics(h->match.route))
			return true;
		http_respond_error(g, c, ERROR_not_found, NULL, NULL);
		return false;
	}
	if (access != ROUTE_ANYONE) {
		if (!identify(g, c, head))
			return false;
		if (!may_ask(access, &h->who)) {
			http_respond_error(g, c, ERROR_no_access, NULL, NULL);
			return false;
		}
		if (!limits_request(g, c, &h->who, &retry_after_ms)) {
			return http_respond_too_fast(g, c, head, retry_after_ms);
		}
	}
	if (h->has_body && !body_is_json(head)) {
		http_respond_error(g, c, ERROR_unsupported_media_type, NULL, NULL);
		return false;
	}
	return true;
}

/* ------------------------------------------------------------------ what is asked */

/* Storage is not asked now: tell_refusal(). */
static void
not_asked(struct gateway *g, struct conn *c, struct ask *a)
{
	enum error_code code = tell_refusal();

	ask_free(g, a);
	http_respond_error(g, c, code, NULL, NULL);
}

static void
bad_body(struct gateway *g, struct conn *c, const struct envelope_fault *fault)
{
	http_respond_error(g, c, fault->code, fault->message[0] != '\0' ? fault->message : NULL,
	    fault->field[0] != '\0' ? fault->field : NULL);
}

/* What a request says of its tenant. */
enum named { NAMED_NOWHERE, NAMED_ONCE, NAMED_TWICE };	/* … and not the same */

/* tenantId of one object; *tenant is what was named before, if anything was. */
static enum named
tenant_in_object(struct json_value object, struct buf *scratch, struct slice *tenant)
{
	struct json_value v;
	struct slice other;

	if (json_get(object, "tenantId", &v) == -1 || v.kind == JSON_KIND_NULL)
		return NAMED_NOWHERE;
	if (json_text(v, scratch, &other) == -1 || (tenant->p != NULL && !slice_eq(*tenant, other)))
		return NAMED_TWICE;
	*tenant = other;
	return NAMED_ONCE;
}

/* The same of a body; of an array all elements name it, or it is named nowhere. */
static enum named
tenant_in_body(struct slice text, struct buf *scratch, struct slice *tenant)
{
	enum named all = NAMED_ONCE, one;
	struct json_value body, element;
	struct json_iter it;

	/* The name may be written with escapes. */
	if (text.len == 0 ||
	    (memmem(text.p, text.len, "tenantId", 8) == NULL && memchr(text.p, '\\', text.len) == NULL))
		return NAMED_NOWHERE;
	if (json_parse(text, JSON_DEPTH_MAX, &body) == -1)
		return NAMED_NOWHERE;
	if (body.kind != JSON_KIND_ARRAY)
		return tenant_in_object(body, scratch, tenant);
	json_iter_init(&it, body);
	while (json_array_next(&it, &element)) {
		if ((one = tenant_in_object(element, scratch, tenant)) == NAMED_TWICE)
			return NAMED_TWICE;
		if (one == NAMED_NOWHERE)
			all = NAMED_NOWHERE;
	}
	return all;
}

/* In the query, in the body, or in both; tenant: none where nothing names it. */
static enum named
tenant_in_request(struct gateway *g, const struct http *h, struct slice *tenant)
{
	struct slice query = buf_slice(&h->query);
	enum named body;
	int got;

	*tenant = SLICE_NONE;
	buf_clear(&g->scratch);
	buf_reserve(&g->scratch, query.len + h->body.len + 2);	/* decoding must not move what was decoded */
	got = uri_query_get_id(query, "tenantId", &g->scratch, tenant);
	if (got == -1 || uri_query_count(query, "tenantId") > 1)
		return NAMED_TWICE;
	/* A state has whatever members a device likes. */
	body = h->match.route == ROUTE_device_state ? NAMED_NOWHERE :
	    tenant_in_body(buf_slice(&h->body), &g->scratch, tenant);
	return body == NAMED_NOWHERE && got == 1 ? NAMED_ONCE : body;
}

static void
bad_tenant(struct gateway *g, struct conn *c, enum named named)
{
	http_respond_error(g, c, ERROR_invalid_payload, named == NAMED_TWICE ?
	    "more than one tenant is named, or none that can be read" : "required for a service key of all tenants",
	    "tenantId");
}

/* A tenantId that is another's is refused, whatever the request is; but a service key of all tenants names any. */
static bool
names_no_other(struct gateway *g, struct conn *c)
{
	const struct http *h = c->http;
	struct slice tenant;
	enum named named;

	if (h->who.any_tenant || h->who.tenant[0] == '\0')
		return true;
	named = tenant_in_request(g, h, &tenant);
	if (named == NAMED_TWICE || (tenant.p != NULL && !schema_is_id(tenant) && !slice_is(tenant, "*")))
		bad_tenant(g, c, NAMED_TWICE);
	else if (tenant.p != NULL && !slice_is(tenant, h->who.tenant))
		http_respond_error(g, c, ERROR_no_access, "another tenant", "tenantId");
	else
		return true;
	return false;
}

/* The tenant that the request is for; a service key of all tenants names it in the query or the body. */
static bool
request_tenant(struct gateway *g, struct conn *c, struct slice *out)
{
	struct http *h = c->http;
	enum named named;

	*out = slice_of(h->who.tenant);
	if (!h->who.any_tenant)
		return true;
	named = tenant_in_request(g, h, out);
	if (named == NAMED_ONCE && schema_is_id(*out)) {
		memcpy(h->tenant, out->p, out->len);
		h->tenant[out->len] = '\0';
		*out = slice_of(h->tenant);
		return true;
	}
	bad_tenant(g, c, named);
	return false;
}

static void
on_command(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	const struct field_value *f = g->fields.field;
	bool open = h->match.route == ROUTE_command_open;
	struct envelope_fault fault;
	struct slice wait = SLICE_NONE;
	struct ask *a;
	struct msg_command_new m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .role = (uint8_t)h->who.role,
		.user = slice_of(h->who.user)
	};

	if (schema_parse(open ? BODY_command_open : BODY_command, buf_slice(&h->body), &g->fields,
	    &fault) == -1) {
		bad_body(g, c, &fault);
		return;
	}
	if (!request_tenant(g, c, &m.tenant))
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
	a = ask_new(g, c, m.follows ? ASK_COMMAND_WAIT : ASK_COMMAND_REST, SLICE_NONE);
	m.request = a->request;
	if (gateway_tell_storage(g, command_new, &m) == -1)
		not_asked(g, c, a);
}

/*
 * Its end may have been told to an earlier connection that asked for it with the same key, or to nobody because its
 * device was deleted.
 */
void
api_look_at_command(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	struct ask *a = ask_new(g, c, ASK_COMMAND_LOOK, SLICE_NONE);
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

static void
on_cancel(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	struct msg_command_cancel m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .role = (uint8_t)h->who.role,
		.user = slice_of(h->who.user)
	};
	struct ask *a;

	if (uuid_parse(h->match.param[0], m.command_id) == -1) {
		http_respond_error(g, c, ERROR_not_found, NULL, NULL);
		return;
	}
	if (!request_tenant(g, c, &m.tenant))
		return;
	a = ask_new(g, c, ASK_REST, SLICE_NONE);
	m.request = a->request;
	if (gateway_tell_storage(g, command_cancel, &m) == -1)
		not_asked(g, c, a);
}

static enum body_schema
body_of(enum http_route route)
{
	switch (route) {
	case ROUTE_device_register:
		return BODY_device_register;
	case ROUTE_device_update:
		return BODY_device_update;
	case ROUTE_device_token:
		return BODY_device_token;
	case ROUTE_share_add:
		return BODY_device_share;
	case ROUTE_device_event:
		return BODY_device_event;
	case ROUTE_device_state:
		return BODY_device_state;
	default:
		return BODY_NONE;
	}
}

/* Path parameters are ids; what can't be one names nothing. */
static bool
params_ok(const struct route_match *match)
{
	for (unsigned i = 0; i < match->params_n; i++)
		if (!schema_is_user_id(match->param[i]))
			return false;
	return true;
}

static bool
is_read(enum http_route route)
{
	switch (route) {
#define READ(name) case ROUTE_##name:
#include "reader/reads.def"
#undef READ
		return true;
	default:
		return false;
	}
}

/*
 * Each element of an array is a message, as deep as one may be; the first was counted as the request.
 * -1: it is no JSON, or too deep, and was answered.
 */
static int64_t
elements_beyond_first(struct gateway *g, struct conn *c, struct slice text)
{
	struct envelope_fault fault;
	struct json_value body, element;
	struct json_fault wrong;
	struct json_iter it;
	uint32_t n = 0;

	if (text.len == 0)
		return 0;
	if (json_parse_flags(text, g->fields.depth + 1, 0, &body, &wrong) == -1 ||
	    (body.kind != JSON_KIND_ARRAY && json_parse_flags(text, g->fields.depth, 0, &body, &wrong) == -1)) {
		envelope_fault_set(&fault, ERROR_invalid_json, NULL, "%s at byte %zu", wrong.reason, wrong.offset);
		bad_body(g, c, &fault);
		return -1;
	}
	if (body.kind != JSON_KIND_ARRAY)
		return 0;
	json_iter_init(&it, body);
	while (json_array_next(&it, &element))
		n++;
	return n > 0 ? n - 1 : 0;
}

/* Fills in who asks; of a device, whose turn it is. */
#define ASKED_BY(c, m) do { \
	const struct identity *who_ = &(c)->http->who; \
	(m)->role = (uint8_t)who_->role; \
	(m)->user = slice_of(who_->user); \
	if (who_->role == ROLE_DEVICE) { \
		(m)->user = own_owner(c); \
		(m)->own = slice_of(who_->user); \
		(m)->own_hash = own_hash(c); \
	} \
} while (0)

/* What a reader answers. */
static void
on_read(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	int64_t retry_after_ms, more;
	struct msg_read m = {
		.ref = conn_ref(g, c), .route = (uint32_t)h->match.route, .query = buf_slice(&h->query)
	};

	ASKED_BY(c, &m);
	if (!params_ok(&h->match)) {
		http_respond_error(g, c, ERROR_not_found, NULL, NULL);
		return;
	}
	if (!request_tenant(g, c, &m.tenant))
		return;
	if (h->match.params_n > 0)
		m.target = h->match.param[0];
	if (h->match.route == ROUTE_telemetry) {	/* one or an array of them: each is checked there */
		m.body_json = buf_slice(&h->body);
		if ((more = elements_beyond_first(g, c, m.body_json)) == -1)
			return;
		if (!limits_request_more(g, c, &h->who, (uint32_t)more, &retry_after_ms)) {
			http_refuse_too_fast(g, c, retry_after_ms);
			return;
		}
	}
	reads_ask(g, ask_new(g, c, ASK_REST, SLICE_NONE), read, &m, false);
}

/* What storage answers. */
static void
on_rest(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	enum body_schema schema = body_of(h->match.route);
	struct envelope_fault fault;
	char token[DEVICE_TOKEN_LEN + 1] = "";
	uint8_t hash[SHA256_LEN];
	struct msg_rest m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .route = (uint32_t)h->match.route,
		.query = buf_slice(&h->query)
	};
	struct ask *a;

	ASKED_BY(c, &m);
	if (!params_ok(&h->match)) {
		http_respond_error(g, c, ERROR_not_found, NULL, NULL);
		return;
	}
	if (h->match.route == ROUTE_device_state && h->body.len == 0) {	/* forgotten; and no state without members */
		http_respond_error(g, c, ERROR_invalid_payload, "required", "body");
		return;
	}
	if (schema != BODY_NONE) {
		if (schema_parse(schema, buf_slice(&h->body), &g->fields, &fault) == -1) {
			bad_body(g, c, &fault);
			return;
		}
		m.body_json = buf_slice(&h->body);
	}
	if (!request_tenant(g, c, &m.tenant))
		return;
	if (h->match.params_n > 0)
		m.target = h->match.param[0];
	if (h->match.params_n > 1)
		m.target2 = h->match.param[1];
	uuid_new(m.fresh_id);
	if (h->match.route == ROUTE_device_register || h->match.route == ROUTE_device_token) {
		auth_device_token_new(token, hash);
		m.token = slice_of(token);
	}
	a = ask_new(g, c, ASK_REST, SLICE_NONE);
	m.request = a->request;
	if (gateway_tell_storage(g, rest, &m) == -1)
		not_asked(g, c, a);
}

/* A service key of all tenants that names none is the operator's: it is shown what is nobody's alone. */
static bool
sees_instance(struct gateway *g, const struct conn *c)
{
	struct slice tenant;

	buf_clear(&g->scratch);
	return c->http->who.any_tenant &&
	    uri_query_get_id(buf_slice(&c->http->query), "tenantId", &g->scratch, &tenant) == 0;
}

/*
 * ?tenantId=*: a service key of all tenants asks about one of its kind, which may be in any tenant, or
 * in none.
 */
static bool
asks_for_keys(struct gateway *g, const struct conn *c)
{
	const struct http *h = c->http;
	struct slice tenant;

	if (!h->who.any_tenant || (h->match.route != ROUTE_user_status && h->match.route != ROUTE_user_disconnect))
		return false;
	buf_clear(&g->scratch);
	return uri_query_get(buf_slice(&h->query), "tenantId", &g->scratch, &tenant) == 1 &&
	    slice_is(tenant, EVERY_TENANT);
}

static void
on_users(struct gateway *g, struct conn *c)
{
	struct slice tenant;

	if (!params_ok(&c->http->match))
		http_respond_error(g, c, ERROR_not_found, NULL, NULL);
	else if (asks_for_keys(g, c))
		users_request(g, c, SLICE(EVERY_TENANT));
	else if (request_tenant(g, c, &tenant))
		users_request(g, c, tenant);
}

/* The tenant that counts are asked of; empty: a service key of all tenants names none, and sees the sum of all. */
static bool
tenant_or_all(struct gateway *g, struct conn *c, struct slice *tenant)
{
	buf_clear(&g->scratch);
	if (!sees_instance(g, c))
		return request_tenant(g, c, tenant);
	*tenant = SLICE_NONE;
	return true;
}

static void
on_ws_stats(struct gateway *g, struct conn *c)
{
	struct slice tenant;

	if (tenant_or_all(g, c, &tenant))
		users_request(g, c, tenant);
}

/* Storage's counts, and then those of all gateways. */
static void
on_metrics(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	struct msg_rest m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .route = ROUTE_health_metrics,
		.role = (uint8_t)h->who.role, .user = slice_of(h->who.user), .query = buf_slice(&h->query)
	};
	struct ask *a;

	if (!tenant_or_all(g, c, &m.tenant))
		return;
	a = ask_new(g, c, ASK_METRICS, SLICE_NONE);
	a->until_ms = g->w->mono_ms + ASK_PROBE_MS;
	m.request = a->request;
	if (gateway_tell_storage(g, rest, &m) == -1)
		not_asked(g, c, a);
}

static void
on_probe(struct gateway *g, struct conn *c)
{
	struct msg_store_probe m = { .ref = conn_ref(g, c) };
	struct ask *a;

	if (gateway_leaves(g) && c->http->match.route == ROUTE_health_ready) {
		api_health_ready(g, c, NULL);
		return;
	}
	a = ask_new(g, c, ASK_PROBE, SLICE_NONE);
	a->until_ms = g->w->mono_ms + ASK_PROBE_MS;
	a->extra = c->http->match.route == ROUTE_health_detailed;
	m.request = a->request;
	if (gateway_tell_storage(g, store_probe, &m) == -1)
		answer_failed(g, a, ERROR_unavailable);
}

void
api_request(struct gateway *g, struct conn *c)
{
	if (!names_no_other(g, c))
		return;
	switch (c->http->match.route) {
	case ROUTE_health:
	case ROUTE_api_health:
		api_health(g, c);
		break;
	case ROUTE_health_ready:
	case ROUTE_health_detailed:
		on_probe(g, c);
		break;
	case ROUTE_health_metrics:
		on_metrics(g, c);
		break;
	case ROUTE_metrics:
		api_metrics(g, c);
		break;
	case ROUTE_ticket:
		ticket_request(g, c);
		break;
	case ROUTE_command_create:
	case ROUTE_command_open:
		on_command(g, c);
		break;
	case ROUTE_command_cancel:
		on_cancel(g, c);
		break;
	case ROUTE_broadcast:
	case ROUTE_send:
	case ROUTE_user_status:
	case ROUTE_user_disconnect:
		on_users(g, c);
		break;
	case ROUTE_ws_stats:
		on_ws_stats(g, c);
		break;
	default:
		if (is_read(c->http->match.route))
			on_read(g, c);
		else
			on_rest(g, c);
		break;
	}
}

/* ------------------------------------------------------------------ what is answered */

static void
tell_error(struct gateway *g, struct conn *c, struct slice re, const struct msg_store_reply *m)
{
	char name[160], text[256];
	bool bare = m->field.len < 7 || memcmp(m->field.p, "payload", 7) != 0;

	snprintf(name, sizeof(name), "%s%.*s", m->field.len > 0 && bare ? "payload." : "",
	    (int)m->field.len, m->field.p);
	snprintf(text, sizeof(text), "%.*s", (int)m->message.len, m->message.p);
	session_error(g, c, re, (enum error_code)m->code, name[0] != '\0' ? name : NULL,
	    text[0] != '\0' ? text : NULL);
}

static bool
is_http(const struct ask *a)
{
	return a->kind == ASK_REST || a->kind == ASK_COMMAND_REST || a->kind == ASK_COMMAND_WAIT ||
	    a->kind == ASK_COMMAND_LOOK || a->kind == ASK_PROBE || a->kind == ASK_TICKET || a->kind == ASK_GATHER ||
	    a->kind == ASK_METRICS;
}

/* The connection that asked, if it still waits. */
static struct conn *
asker(struct gateway *g, const struct ask *a)
{
	struct conn *c = conn_of_ref(g, a->ref);

	if (c == NULL)
		return NULL;
	if (is_http(a))
		return c->phase == CONN_HTTP && c->http->state == REQUEST_ASKED ? c : NULL;
	if (a->kind == ASK_WELCOME || a->kind == ASK_TICKET_TAKE)
		return c->phase == CONN_AUTH ? c : NULL;
	if (a->kind == ASK_OWN)
		return c->phase == CONN_HTTP && c->http->state == REQUEST_HELD ? c : NULL;
	if (a->kind == ASK_RESUME)
		return c->phase == CONN_RESUMING ? c : NULL;
	return c->phase == CONN_OPEN ? c : NULL;
}

static void
answer_probe(struct gateway *g, struct conn *c, const struct ask *a, const char *fault)
{
	if (a->extra)
		api_health_detailed(g, c, fault, g->w->mono_ms - a->since_ms, sees_instance(g, c));
	else
		api_health_ready(g, c, fault);
}

static void
answer_probed(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	char fault[512];

	snprintf(fault, sizeof(fault), "%.*s", (int)m->message.len, m->message.p);
	answer_probe(g, c, a, m->code == ERROR_NONE ? NULL : fault);
}

/* The request may have been answered meanwhile, and another look be under way. */
static void
forget_look(struct conn *c, const struct ask *a)
{
	if (c->http->look == a->request)
		c->http->look = 0;
}

void
answer_failed(struct gateway *g, struct ask *a, enum error_code code)
{
	struct conn *c = asker(g, a);

	reads_free(g, &a->read);
	if (c == NULL)
		;
	else if (a->kind == ASK_COMMAND_LOOK)
		forget_look(c, a);
	else if (a->kind == ASK_PROBE)
		answer_probe(g, c, a, "the store does not answer");
	else if (a->kind == ASK_GATHER)
		users_answer(g, c, a);		/* of those that answered */
	else if (a->kind == ASK_OWN)
		own_failed(g, a, code);
	else if (is_http(a) && code == ERROR_too_many)
		http_respond_retry(g, c, code, READS_RETRY_MS);
	else if (is_http(a))
		http_respond_error(g, c, code, NULL, NULL);
	else if (a->kind == ASK_RESUME)
		resume_failed(g, c);
	else if (a->kind == ASK_WELCOME || a->kind == ASK_TICKET_TAKE)
		conn_close(g, c, WS_CLOSE_OVERLOADED);
	else if (code == ERROR_too_many)
		session_error_later(g, c, ask_re(a), code, READS_RETRY_MS);
	else
		session_error(g, c, ask_re(a), code, NULL, NULL);
	ask_free(g, a);
}

static void
answer_http(struct gateway *g, struct conn *c, const struct msg_store_reply *m)
{
	char field[128], message[256];

	if (m->code == ERROR_NONE || m->body_json.len > 0) {
		http_respond_json(g, c, (int)m->http_status, m->body_json);
		return;
	}
	snprintf(field, sizeof(field), "%.*s", (int)m->field.len, m->field.p);
	snprintf(message, sizeof(message), "%.*s", (int)m->message.len, m->message.p);
	http_respond_error(g, c, (enum error_code)m->code, message[0] != '\0' ? message : NULL,
	    field[0] != '\0' ? field : NULL);
}

/* A member of an object that storage wrote. */
static struct slice
member(struct slice json, const char *name)
{
	struct json_value object = { JSON_KIND_OBJECT, json }, v;

	return json_get(object, name, &v) == 0 ? v.raw : SLICE_NONE;
}

/* visitor_decided, or the error conflict with the visitor as it was decided before. */
/* The message is that of a stored event, whoever it goes to. */
static struct slice
cursor_of(const struct msg_store_reply *m)
{
	return m->cursor.len > 0 ? m->cursor : SLICE_NONE;
}

static void
answer_visitor(struct gateway *g, struct conn *c, const struct ask *a,
    const struct msg_store_reply *m)
{
	struct slice visitor = m->body_json.len > 0 ? member(m->body_json, "visitor") : SLICE_NONE;

	if (m->code == ERROR_NONE) {
		conn_send(g, c, "visitor_decided", ask_re(a), visitor, cursor_of(m));
	} else if (m->code == ERROR_conflict && visitor.p != NULL) {
		buf_clear(&g->payload);
		buf_puts(&g->payload, "{\"code\":\"conflict\",\"message\":\"it was decided "
		    "before\",\"visitor\":");
		buf_put_slice(&g->payload, visitor);
		buf_putc(&g->payload, '}');
		conn_send(g, c, "error", ask_re(a), buf_slice(&g->payload), SLICE_NONE);
	} else {
		tell_error(g, c, ask_re(a), m);
	}
}

/* What a device said without an id: refused, or this would not have come. */
static void
answer_unasked(struct gateway *g, const struct msg_store_reply *m)
{
	struct conn *c = conn_of_ref(g, m->ref);

	if (c != NULL && c->phase == CONN_OPEN && c->kind == CONN_DEVICE)
		tell_error(g, c, SLICE_NONE, m);
}

/* What storage counted stands by, where a request's body is, until the gateways have said what they did. */
static void
gather_metrics(struct gateway *g, struct conn *c, const struct msg_store_reply *m)
{
	struct http *h = c->http;

	buf_clear(&h->body);
	buf_put_slice(&h->body, m->body_json);
	users_request(g, c, slice_of(h->who.any_tenant ? h->tenant : h->who.tenant));
}

static void
respond_command(struct gateway *g, struct conn *c, int status, struct slice command_json)
{
	buf_clear(&g->payload);
	buf_puts(&g->payload, "{\"command\":");
	buf_put_slice(&g->payload, command_json);
	buf_putc(&g->payload, '}');
	http_respond_json(g, c, status, buf_slice(&g->payload));
}

/* The request that it was about may have been answered meanwhile. */
static void
answer_look(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	if (!c->http->waiting || c->http->look != a->request)
		return;
	c->http->look = 0;
	if (m->code == ERROR_NONE && c->http->as_it_is &&
	    answer_command_end(member(m->body_json, "command")) == COMMAND_RUNS)
		respond_command(g, c, 202, member(m->body_json, "command"));
	else if (m->code == ERROR_NONE)
		answer_command(g, c, NULL, member(m->body_json, "command"));
	else if (m->code != ERROR_unavailable)
		answer_http(g, c, m);
}

void
answer_reply(struct gateway *g, const struct msg_store_reply *m)
{
	struct ask *a = ask_find(g, m->request);
	struct conn *c;

	if (m->request == 0)
		answer_unasked(g, m);
	if (a == NULL)
		return;
	reads_free(g, &a->read);	/* it is not asked any more, whatever ends with the answer */
	c = asker(g, a);
	if (c == NULL)
		;
	else if (a->kind == ASK_PROBE)
		answer_probed(g, c, a, m);
	else if (a->kind == ASK_TICKET && m->code == ERROR_NONE)
		ticket_respond(g, c);
	else if (a->kind == ASK_COMMAND_LOOK)
		answer_look(g, c, a, m);
	else if (a->kind == ASK_METRICS && m->code == ERROR_NONE)
		gather_metrics(g, c, m);
	else if (is_http(a))
		answer_http(g, c, m);
	else if (a->kind == ASK_VISITOR)
		answer_visitor(g, c, a, m);
	else if (a->kind == ASK_REFRESH && (m->code == ERROR_NONE || m->code == ERROR_invalid_token))
		session_refreshed(g, c, ask_re(a), m->code == ERROR_NONE);
	else if (m->code != ERROR_NONE)
		tell_error(g, c, ask_re(a), m);
	else if (a->kind == ASK_SUBSCRIBE)
		dashboard_subscribed(g, c, ask_re(a), member(m->body_json, "devices"));
	else if (a->kind == ASK_UNSUBSCRIBE)
		dashboard_unsubscribed(g, c, ask_re(a), member(m->body_json, "devices"));
	else if (a->kind == ASK_CANCEL)
		conn_send(g, c, "command_status", ask_re(a), member(m->body_json, "command"), cursor_of(m));
	else if (a->kind == ASK_ROTATE)
		conn_send(g, c, "ok", ask_re(a), m->body_json, SLICE_NONE);
	else if (a->kind == ASK_OK)
		conn_send(g, c, "ok", ask_re(a), SLICE_NONE, SLICE_NONE);
	ask_free(g, a);
}

enum command_end
answer_command_end(struct slice command_json)
{
	struct slice status = member(command_json, "status");

	if (slice_is(status, "\"timeout\""))
		return COMMAND_TIMED_OUT;
	if (slice_is(status, "\"queued\"") || slice_is(status, "\"sent\"") ||
	    slice_is(status, "\"accepted\""))
		return COMMAND_RUNS;
	return COMMAND_ENDED;
}

bool
answer_command_id(struct slice command_json, uint8_t id[UUID_LEN])
{
	struct slice text = member(command_json, "commandId");

	return text.len == UUID_TEXT_LEN + 2 && uuid_parse((struct slice){ text.p + 1,
	    UUID_TEXT_LEN }, id) == 0;
}

void
answer_command(struct gateway *g, struct conn *c, const struct ask *a, struct slice command_json)
{
	struct http *h = c->http;
	enum command_end end = answer_command_end(command_json);
	uint8_t id[UUID_LEN];

	if (h->state != REQUEST_ASKED || !answer_command_id(command_json, id))
		return;
	if (a != NULL && a->kind == ASK_COMMAND_REST) {
		respond_command(g, c, 202, command_json);
		return;
	}
	if (a != NULL && a->kind == ASK_COMMAND_WAIT && end == COMMAND_RUNS) {
		http_wait(g, c, id);
		return;
	}
	if (a == NULL && !(h->waiting && end != COMMAND_RUNS &&
	    memcmp(h->command, id, sizeof(id)) == 0))
		return;
	respond_command(g, c, end == COMMAND_TIMED_OUT ? 504 : 200, command_json);
}
