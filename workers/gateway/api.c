/*
 * api.c: REST requests of a gateway process: who may ask, for which tenant, what is asked of
 * storage or a reader, and what is answered.  The store's rules are theirs; here
 * only tokens, shapes and sizes are looked at.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "auth/device_token.h"
#include "base/json.h"
#include "base/must.h"
#include "base/text.h"
#include "gateway/api.h"
#include "gateway/api_command.h"
#include "gateway/api_health.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/keysets.h"
#include "gateway/limits.h"
#include "gateway/own.h"
#include "gateway/refusals.h"
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

/* Takes what stands before the next semicolon off *rest, and the semicolon. */
static struct slice
next_part(struct slice *rest)
{
	const char *at = memchr(rest->p, ';', rest->len);
	struct slice part = *rest;

	if (at == NULL) {
		*rest = SLICE("");
		return text_trim(part);
	}
	part.len = (size_t)(at - rest->p);
	rest->p = at + 1;
	rest->len -= part.len + 1;
	return text_trim(part);
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

/* ------------------------------------------------------------------ what is answered */

bool
api_waits(const struct conn *c, const struct ask *a)
{
	(void)a;
	return conn_phase(c) == CONN_HTTP && c->http->state == REQUEST_ASKED;
}

void
api_answer(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	char field[128], message[256];

	(void)a;
	if (m->code == ERROR_NONE || m->body_json.len > 0) {
		http_respond_json(g, c, (int)m->http_status, m->body_json);
		return;
	}
	snprintf(field, sizeof(field), "%.*s", (int)m->field.len, m->field.p);
	snprintf(message, sizeof(message), "%.*s", (int)m->message.len, m->message.p);
	http_respond_error(g, c, (enum error_code)m->code, message[0] != '\0' ? message : NULL,
	    field[0] != '\0' ? field : NULL);
}

void
api_failed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code)
{
	(void)a;
	if (code == ERROR_too_many)
		http_respond_retry(g, c, code, READS_RETRY_MS);
	else
		http_respond_error(g, c, code, NULL, NULL);
}

/* The answer comes as status and body. */
static const struct ask_ops asks = { .waits = api_waits, .answer = api_answer, .failed = api_failed };

void
api_bad_body(struct gateway *g, struct conn *c, const struct envelope_fault *fault)
{
	http_respond_error(g, c, fault->code, fault->message[0] != '\0' ? fault->message : NULL,
	    fault->field[0] != '\0' ? fault->field : NULL);
}

/* ------------------------------------------------------------------ which tenant */

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

bool
api_tenant(struct gateway *g, struct conn *c, struct slice *out)
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

/* A service key of all tenants that names none is the operator's: it is shown what is nobody's alone. */
bool
api_sees_instance(struct gateway *g, const struct conn *c)
{
	struct slice tenant;

	buf_clear(&g->scratch);
	return c->http->who.any_tenant &&
	    uri_query_get_id(buf_slice(&c->http->query), "tenantId", &g->scratch, &tenant) == 0;
}

bool
api_tenant_or_all(struct gateway *g, struct conn *c, struct slice *tenant)
{
	buf_clear(&g->scratch);
	if (!api_sees_instance(g, c))
		return api_tenant(g, c, tenant);
	*tenant = SLICE_NONE;
	return true;
}

/* ------------------------------------------------------------------ what is asked */

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
		api_bad_body(g, c, &fault);
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
	if (!api_tenant(g, c, &m.tenant))
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
	reads_ask(g, ask_new(g, c, &asks, SLICE_NONE), read, &m, false);
}

/* Of a route's body, where it is one. */
static const enum body_schema bodies[ROUTE_COUNT] = {
#define ROUTE(name, method, path, who, body, doc) [ROUTE_##name] = BODY_##body,
#include "http/routes.def"
#undef ROUTE
};

/* What storage answers. */
static void
on_rest(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	enum body_schema schema = bodies[h->match.route];
	struct envelope_fault fault;
	char token[DEVICE_TOKEN_LEN + 1] = "";
	uint8_t hash[SHA256_LEN];
	struct msg_rest m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .route = (uint32_t)h->match.route,
		.query = buf_slice(&h->query)
	};

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
			api_bad_body(g, c, &fault);
			return;
		}
		m.body_json = buf_slice(&h->body);
	}
	if (!api_tenant(g, c, &m.tenant))
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
	API_ASK(g, c, &asks, rest, &m);
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
		api_probe(g, c);
		break;
	case ROUTE_metrics:
		api_metrics(g, c);
		break;
	case ROUTE_ticket:
		ticket_request(g, c);
		break;
	case ROUTE_command_create:
	case ROUTE_command_open:
		api_command(g, c);
		break;
	case ROUTE_command_cancel:
		api_cancel(g, c);
		break;
	case ROUTE_broadcast:
	case ROUTE_send:
	case ROUTE_user_status:
	case ROUTE_user_disconnect:
		if (params_ok(&c->http->match))
			users_request(g, c);
		else
			http_respond_error(g, c, ERROR_not_found, NULL, NULL);
		break;
	case ROUTE_ws_stats:
	case ROUTE_health_metrics:
		users_count(g, c);
		break;
	default:
		if (is_read(c->http->match.route))
			on_read(g, c);
		else
			on_rest(g, c);
		break;
	}
}
