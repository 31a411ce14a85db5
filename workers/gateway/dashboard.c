/*
 * dashboard.c: what users ask for over WebSocket.  One gateway process.
 */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/must.h"
#include "base/names.h"
#include "base/text.h"
#include "gateway/conn.h"
#include "gateway/dashboard.h"
#include "gateway/gateway.h"
#include "gateway/session.h"
#include "gateway/users.h"
#include "http/route.h"
#include "msg/audience.h"

static int
key_compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct hash128));
}

bool
dashboard_wants(const struct conn *c, struct hash128 device_key)
{
	const struct filter *f = c->filter;
	bool listed;

	if (f == NULL)
		return true;
	listed = bsearch(&device_key, f->keys, f->count, sizeof(f->keys[0]), key_compare) != NULL;
	return listed != f->except;
}

static char *
names_of(struct filter *f)
{
	return (char *)(f->keys + f->count);
}

/* A filter of the named devices; names are decoded ids. */
static struct filter *
filter_new(struct gateway *g, const struct conn *c, const struct slice *names, uint32_t count,
    bool except)
{
	size_t bytes = 0;
	struct filter *f;
	char *p;

	for (uint32_t i = 0; i < count; i++)
		bytes += 1 + names[i].len;
	f = must_alloc(sizeof(*f) + count * sizeof(f->keys[0]) + bytes);
	f->count = count;
	f->except = except;
	f->names_len = (uint32_t)bytes;
	p = names_of(f);
	for (uint32_t i = 0; i < count; i++) {
		f->keys[i] = audience_device_key(shm_hash_key(g->w->shm),
		    tenant_name(c->user->tenant), names[i]);
		*p++ = (char)names[i].len;
		memcpy(p, names[i].p, names[i].len);
		p += names[i].len;
	}
	qsort(f->keys, count, sizeof(f->keys[0]), key_compare);
	return f;
}

/* Reads the names of a filter; out has room for f->count. */
static void
filter_names(struct filter *f, struct slice *out)
{
	const char *p = names_of(f);

	for (uint32_t i = 0; i < f->count; i++) {
		out[i] = (struct slice){ p + 1, (unsigned char)*p };
		p += 1 + out[i].len;
	}
}

static void
put_names(struct buf *b, const struct slice *names, uint32_t count)
{
	buf_putc(b, '[');
	for (uint32_t i = 0; i < count; i++) {
		if (i > 0)
			buf_putc(b, ',');
		buf_put_json_string(b, names[i]);
	}
	buf_putc(b, ']');
}

static bool
is_all(const struct filter *f)
{
	return f == NULL || (f->except && f->count == 0);
}

/* ok with the list in force; an excluding filter is told beside the null that stands for all. */
static void
answer_filter(struct gateway *g, struct conn *c, struct slice re)
{
	struct buf *b = &g->payload;
	struct filter *f = c->filter;
	struct slice *names = NULL;

	if (f != NULL) {
		names = must_realloc(NULL, (f->count + 1) * sizeof(*names));
		filter_names(f, names);
	}
	buf_clear(b);
	buf_puts(b, "{\"devices\":");
	if (is_all(f))
		buf_puts(b, "null");
	else if (f->except) {
		buf_puts(b, "null,\"except\":");
		put_names(b, names, f->count);
	} else {
		put_names(b, names, f->count);
	}
	buf_putc(b, '}');
	free(names);
	conn_send(g, c, "ok", re, buf_slice(b), SLICE_NONE);
}

/* f: NULL for all. */
static void
set_filter(struct gateway *g, struct conn *c, struct filter *f)
{
	int64_t behind = c->filter != NULL ? c->filter->behind : 0;

	if (behind != 0 && f == NULL)
		f = filter_new(g, c, NULL, 0, true);
	if (f != NULL)
		f->behind = behind;
	free(c->filter);
	c->filter = f;
}

void
dashboard_replayed(struct gateway *g, struct conn *c, int64_t place)
{
	if (c->filter == NULL)
		c->filter = filter_new(g, c, NULL, 0, true);
	c->filter->behind = place;
}

bool
dashboard_is_news(struct conn *c, int64_t place, bool status)
{
	struct filter *f = c->filter;

	if (f == NULL || f->behind == 0)
		return true;
	if (place == 0)
		return !status;
	if (place <= f->behind)
		return false;
	f->behind = 0;
	if (is_all(f)) {
		free(f);
		c->filter = NULL;
	}
	return true;
}

/* The ids of a checked array; to be given back with end_names(). */
static void
read_names(struct gateway *g, struct names *names, struct buf *scratch, struct slice devices_json)
{
	*scratch = (struct buf)BUF_INIT;
	names_init(names, shm_hash_key(g->w->shm));
	names_add_json(names, devices_json, scratch);
}

static void
end_names(struct names *names, struct buf *scratch)
{
	names_fini(names);
	buf_fini(scratch);
}

/* The devices asked for (or null, all) may be viewed: they are the filter from now on. */
static void
subscribed(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	struct slice devices_json = json_raw(m->body_json, "devices");
	struct buf scratch;
	struct names names;

	if (session_refused(g, c, ask_re(a), m))
		return;
	if (slice_is(devices_json, "null")) {
		set_filter(g, c, NULL);
	} else {
		read_names(g, &names, &scratch, devices_json);
		set_filter(g, c, filter_new(g, c, names.v, names.n, false));
		end_names(&names, &scratch);
	}
	answer_filter(g, c, ask_re(a));
}

/* Takes devices out of the list, or out of "all". */
static void
take_out(struct gateway *g, struct conn *c, struct slice re, struct slice devices_json)
{
	struct filter *f = c->filter;
	struct slice *old, *left;
	struct names gone;
	struct buf scratch;
	uint32_t old_n = f == NULL ? 0 : f->count, n = 0;
	bool except = f == NULL || f->except;

	read_names(g, &gone, &scratch, devices_json);
	old = must_realloc(NULL, (old_n + 1) * sizeof(*old));
	left = must_realloc(NULL, (old_n + gone.n + 1) * sizeof(*left));
	if (f != NULL)
		filter_names(f, old);
	for (uint32_t i = 0; i < old_n; i++)
		if (!names_has(&gone, old[i]))
			left[n++] = old[i];
	if (except)
		for (uint32_t i = 0; i < gone.n; i++)
			left[n++] = gone.v[i];
	if (except && n > 1000) {
		session_error(g, c, re, ERROR_too_many, "payload.devices",
		    "too many devices are left out");
	} else {
		f = n == 0 && except ? NULL : filter_new(g, c, left, n, except);
		set_filter(g, c, f);
		answer_filter(g, c, re);
	}
	free(old);
	free(left);
	end_names(&gone, &scratch);
}

/* Its turn has come. */
static void
unsubscribed(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	if (!session_refused(g, c, ask_re(a), m))
		take_out(g, c, ask_re(a), json_raw(m->body_json, "devices"));
}

static const struct ask_ops subscribes = {
	.waits = session_waits, .answer = subscribed, .failed = session_ask_failed
};
static const struct ask_ops unsubscribes = {
	.waits = session_waits, .answer = unsubscribed, .failed = session_ask_failed
};

/*
 * Whether devices may be viewed is a reader's to say, and takes a while.  A change that needs no right
 * goes the same way all the same: changes take effect in the order in which they were asked for.
 */
static void
ask_to_change(struct gateway *g, struct conn *c, const struct ask_ops *ops, bool check,
    struct slice devices_json)
{
	struct msg_subscribe m = {
		.ref = conn_ref(g, c), .role = c->role, .check = check,
		.tenant = tenant_name(c->user->tenant), .user = user_name(c->user),
		.devices_json = devices_json
	};

	SESSION_READ(g, c, ops, subscribe, &m);
}

static void
on_subscribe(struct gateway *g, struct conn *c)
{
	const struct field_value *devices = &g->envelope.field[FIELD_subscribe_devices];

	ask_to_change(g, c, &subscribes, !devices->null,
	    devices->null ? SLICE("null") : devices->json.raw);
}

static void
on_unsubscribe(struct gateway *g, struct conn *c)
{
	ask_to_change(g, c, &unsubscribes, false,
	    g->envelope.field[FIELD_unsubscribe_devices].json.raw);
}

/* The tenant that a request is for: one's own; a service key of all tenants may name another. */
static bool
tenant_for(struct gateway *g, struct conn *c, unsigned field, struct slice *tenant)
{
	const struct field_value *f = &g->envelope.field[field];

	*tenant = f->present ? f->str : tenant_name(c->user->tenant);
	if (c->any_tenant || slice_eq(*tenant, tenant_name(c->user->tenant)))
		return true;
	session_error(g, c, g->envelope.id, ERROR_no_access, "payload.tenantId", "another tenant");
	return false;
}

/* The first answer is the publication of the command: deliver.c. */
static void
command_refused(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	session_refused(g, c, ask_re(a), m);
}

static const struct ask_ops commands = {
	.waits = session_waits, .answer = command_refused, .failed = session_ask_failed
};

static void
on_command(struct gateway *g, struct conn *c)
{
	const struct field_value *f = g->envelope.field;
	struct msg_command_new m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .role = c->role, .follows = true,
		.user = user_name(c->user),
		.timeout_ms = f[FIELD_command_timeoutMs].present ? f[FIELD_command_timeoutMs].i64 :
		COMMAND_TIMEOUT_MS,
		.queue_ms = f[FIELD_command_queueMs].present ? f[FIELD_command_queueMs].i64 : 0,
		.device = f[FIELD_command_deviceId].str, .command = f[FIELD_command_command].str,
		.params_json = f[FIELD_command_params].present ? f[FIELD_command_params].json.raw :
		SLICE("{}")
	};

	if (!tenant_for(g, c, FIELD_command_tenantId, &m.tenant))
		return;
	uuid_new(m.command_id);
	if (f[FIELD_command_onlyIf].present)
		m.only_if_json = f[FIELD_command_onlyIf].json.raw;
	if (f[FIELD_command_idempotencyKey].present)
		m.idempotency_key = f[FIELD_command_idempotencyKey].str;
	SESSION_ASK(g, c, &commands, command_new, &m);
}

/* The message is that of a stored event, whoever it goes to. */
static struct slice
cursor_of(const struct msg_store_reply *m)
{
	return m->cursor.len > 0 ? m->cursor : SLICE_NONE;
}

static void
cancelled(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	if (!session_refused(g, c, ask_re(a), m))
		conn_send(g, c, "command_status", ask_re(a), json_raw(m->body_json, "command"), cursor_of(m));
}

static const struct ask_ops cancels = {
	.waits = session_waits, .answer = cancelled, .failed = session_ask_failed
};

static void
on_cancel(struct gateway *g, struct conn *c)
{
	struct msg_command_cancel m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .role = c->role,
		.user = user_name(c->user)
	};

	if (!tenant_for(g, c, FIELD_cancel_tenantId, &m.tenant))
		return;
	memcpy(m.command_id, g->envelope.field[FIELD_cancel_commandId].uuid, sizeof(m.command_id));
	SESSION_ASK(g, c, &cancels, command_cancel, &m);
}

/* visitor_decided, or the error conflict with the visitor as it was decided before. */
static void
visitor_decided(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	struct slice visitor = json_raw(m->body_json, "visitor");

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
		session_refused(g, c, ask_re(a), m);
	}
}

static const struct ask_ops visits = {
	.waits = session_waits, .answer = visitor_decided, .failed = session_ask_failed
};

/* The same as POST /api/visitor/:id/approve and …/deny. */
static void
on_visitor_decide(struct gateway *g, struct conn *c)
{
	const struct field_value *f = g->envelope.field;
	bool approve = f[FIELD_visitor_decide_decision].i64 == CHOICE_decision_approve;
	struct msg_rest m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .role = c->role,
		.user = user_name(c->user),
		.route = approve ? ROUTE_visitor_approve : ROUTE_visitor_deny
	};
	char id[UUID_TEXT_LEN + 1];

	if (!tenant_for(g, c, FIELD_visitor_decide_tenantId, &m.tenant))
		return;
	uuid_format(f[FIELD_visitor_decide_visitorId].uuid, id);
	m.target = slice_of(id);
	uuid_new(m.fresh_id);
	SESSION_ASK(g, c, &visits, rest, &m);
}

/* One of server.user_types, and no type that the protocol has for anybody. */
static bool
is_user_type(const struct gateway *g, struct slice type)
{
	const struct conf_list *types = &g->conf->server_user_types;

	if (!schema_is_type_name(type) ||
	    msg_type_find(type, SCHEMA_DEVICE | SCHEMA_USER | SCHEMA_SERVER) != MSG_TYPE_NONE)
		return false;
	for (size_t i = 0; i < types->n; i++)
		if (text_is_like(type, slice_of(types->v[i])))
			return true;
	return false;
}

bool
dashboard_hand(struct gateway *g, struct conn *c, struct envelope_fault *fault)
{
	const struct envelope *e = &g->envelope;
	struct buf *b = &g->payload;

	if (!is_user_type(g, e->unknown))
		return false;
	if (e->payload.kind != JSON_KIND_OBJECT) {
		envelope_fault_set(fault, ERROR_invalid_payload, "payload", "must be an object");
		return false;
	}
	buf_clear(b);
	buf_puts(b, "{\"userId\":");
	buf_put_json_string(b, user_name(c->user));
	buf_puts(b, ",\"connectionId\":");
	buf_put_json_uuid(b, c->id);
	buf_puts(b, ",\"type\":");
	buf_put_json_string(b, e->unknown);
	buf_puts(b, ",\"payload\":");
	buf_put_slice(b, e->payload.raw);
	buf_putc(b, '}');
	users_hand(g, c, buf_slice(b), e->id);
	return true;
}

void
dashboard_message(struct gateway *g, struct conn *c)
{
	const struct envelope *e = &g->envelope;

	switch (e->type) {
	case MSG_TYPE_subscribe:
		on_subscribe(g, c);
		break;
	case MSG_TYPE_unsubscribe:
		on_unsubscribe(g, c);
		break;
	case MSG_TYPE_command:
		on_command(g, c);
		break;
	case MSG_TYPE_cancel:
		on_cancel(g, c);
		break;
	case MSG_TYPE_visitor_decide:
		on_visitor_decide(g, c);
		break;
	default:
		session_error(g, c, e->id, ERROR_unknown_type, "type", NULL);
		break;
	}
}
