/*
 * users.c: what back ends do with the connections of users: send, broadcast,
 * look, disconnect; and what users send to back ends.  One gateway process asks all of them and adds up.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/names.h"
#include "gateway/api.h"
#include "gateway/api_health.h"
#include "gateway/conn.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/resume.h"
#include "gateway/session.h"
#include "gateway/users.h"
#include "http/uri.h"
#include "msg/audience.h"
#include "shm/topics.h"
#include "ws/frame.h"

#define GATHER_MS 2000
#define HASHES_SIZE 8192		/* bytes of users' hashes in a record: well within the smallest mailbox */

/* What the gateways said so far. */
struct gather {
	unsigned waiting;		/* gateways that have not answered */
	uint32_t connections, devices;
	uint64_t messages_in, messages_out;
	struct traffic_sum traffic;
	struct buf hashes;		/* of users: 64 bits each, as they came */
	struct buf stored;		/* what storage counted; of /health/metrics */
};

static void
gather_free(struct ask *a)
{
	struct gather *ga = a->own;

	buf_fini(&ga->hashes);
	buf_fini(&ga->stored);
	free(ga);
}

static int
hash_compare(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

/* How many users there are: one with connections in several gateways counts once. */
static size_t
gather_users(struct gather *ga)
{
	const size_t size = sizeof(uint64_t);
	char *v = ga->hashes.data;
	size_t n = ga->hashes.len / size, users = 0;

	if (n > 0)
		qsort(v, n, size, hash_compare);
	for (size_t i = 0; i < n; i++)
		users += i == 0 || hash_compare(v + i * size, v + (i - 1) * size) != 0;
	return users;
}

/* ------------------------------------------------------------------ the task, in one gateway */

struct work {
	const struct msg_user_task *m;
	bool keys_alone;		/* connections of keys of all tenants, and no others */
	struct frame *frame;
	uint32_t connections, devices;
	uint64_t messages_in, messages_out;
	uint64_t traffic[TRAFFIC_COUNTS];
	struct buf hashes;
};

static void
do_connection(struct gateway *g, struct work *work, struct conn *c)
{
	const struct msg_user_task *m = work->m;

	work->connections++;
	switch ((enum user_task)m->task) {
	case USER_TASK_COUNT:
	case USER_TASK_STATS:
	case USER_TASK_TRAFFIC:
		break;
	case USER_TASK_KICK:
		conn_close(g, c, WS_CLOSE_KICKED);
		break;
	case USER_TASK_SEND:
	case USER_TASK_HAND:
		if (work->frame == NULL) {
			char type[72];

			must(m->type.len < sizeof(type));
			memcpy(type, m->type.p, m->type.len);
			type[m->type.len] = '\0';
			buf_clear(&g->scratch);
			envelope_put(&g->scratch, type, SLICE_NONE, m->payload_json, SLICE_NONE);
			work->frame = frame_new(WS_FIN | WS_OP_TEXT, buf_slice(&g->scratch));
		}
		if (conn_phase(c) == CONN_RESUMING) {	/* behind its greeting */
			resume_hold(g, c, 0, false, work->frame);
			break;
		}
		output_send(g, c, work->frame);
		party_count_out(g, c);
		break;
	}
}

static void
do_user(struct gateway *g, struct work *work, const struct user *u)
{
	struct hash128 topic = audience_topic_user(shm_hash_key(g->w->shm), tenant_name(u->tenant), user_name(u));
	uint64_t hash = topic.lo;	/* the same name in two tenants is two users */
	struct conn *next;

	buf_put(&work->hashes, &hash, sizeof(hash));
	for (struct conn *c = user_first(g, u); c != NULL; c = next) {
		/* the connection, and with the last one the user, may go */
		next = user_next(g, c);
		if (!work->keys_alone || c->any_tenant)
			do_connection(g, work, c);
	}
}

/* What users send closes no service (4008): one that is far behind does not get it, and is not counted. */
static bool
takes_messages(const struct gateway *g, const struct conn *c)
{
	return c->role == ROLE_SERVICE && conn_phase(c) == CONN_OPEN && !c->doomed &&
	    (c->out == NULL || c->out->held < g->conf->limits_send_buffer_bytes / 2);
}

static void
do_services(struct gateway *g, struct work *work, struct tenant *t)
{
	struct conn *next;

	for (struct conn *c = tenant_first(g, t); c != NULL; c = next) {
		next = tenant_next(g, c);	/* the connection, and with the last one the tenant, may go */
		if (takes_messages(g, c))
			do_connection(g, work, c);
	}
}

static void
do_tenant(struct gateway *g, struct work *work, struct tenant *t)
{
	struct user *next;

	if (work->m->task == USER_TASK_HAND) {
		do_services(g, work, t);
		return;
	}

	if (work->m->task == USER_TASK_TRAFFIC) {
		for (const struct user *u = t->users; u != NULL; u = u->of_tenant)
			work->connections += u->count;
		work->connections += t->devices;
		traffic_add(g, work->traffic, t);
		return;
	}
	work->devices += t->devices;
	work->messages_in += t->messages_in;
	work->messages_out += t->messages_out;
	for (struct user *u = t->users; u != NULL; u = next) {
		next = u->of_tenant;
		do_user(g, work, u);	/* the tenant may go with the last of them */
	}
}

static void
do_named(struct gateway *g, struct work *work, struct slice tenant, struct slice name)
{
	const struct user *u = user_find(g, tenant, name);

	if (u != NULL)
		do_user(g, work, u);
}

/* A key of all tenants is wherever it said that it is, and in "*" where it named no tenant. */
static void
do_key(struct gateway *g, struct work *work, struct slice name)
{
	struct tenant *next;

	for (uint32_t i = 0; i < g->parties.tenant_buckets; i++)
		for (struct tenant *t = g->parties.tenants[i]; t != NULL; t = next) {
			next = t->next;		/* the tenant may go with its last user */
			do_named(g, work, tenant_name(t), name);
		}
}

static void
do_task(struct gateway *g, struct work *work)
{
	const struct msg_user_task *m = work->m;
	struct slice rest = m->users;
	struct audience_entry entry;

	if (m->users.len == 0 && m->tenant.len > 0) {
		struct tenant *t = tenant_find(g, m->tenant);

		if (t != NULL)
			do_tenant(g, work, t);
	} else if (m->users.len == 0 && (m->task == USER_TASK_STATS || m->task == USER_TASK_TRAFFIC)) {
		for (uint32_t i = 0; i < g->parties.tenant_buckets; i++)
			for (struct tenant *t = g->parties.tenants[i]; t != NULL; t = t->next)
				do_tenant(g, work, t);
	}
	work->keys_alone = slice_is(m->tenant, EVERY_TENANT);
	while (audience_next(&rest, &entry) == 1) {
		if (work->keys_alone)
			do_key(g, work, entry.user);
		else
			do_named(g, work, m->tenant, entry.user);
	}
	frame_put(work->frame);
}

static void
tell_done(struct gateway *g, unsigned to, const struct msg_user_done *m)
{
	if (to == g->w->slot) {
		users_done(g, m);
		return;
	}
	buf_clear(&g->record);
	msg_pack_user_done(&g->record, m);
	(void)gateway_post(g, (int)to, MSG_user_done);	/* the asker's patience ends by itself */
}

void
users_task(struct gateway *g, const struct msg_user_task *m, unsigned from)
{
	struct work work = { .m = m };
	struct msg_user_done done = { .request = m->request, .more = true };
	struct slice hashes;

	do_task(g, &work);
	/* There may be more users than a record has room for. */
	for (hashes = buf_slice(&work.hashes); hashes.len > HASHES_SIZE; hashes.len -= HASHES_SIZE) {
		done.user_hashes = (struct slice){ hashes.p, HASHES_SIZE };
		tell_done(g, from, &done);
		hashes.p += HASHES_SIZE;
	}
	done.more = false;
	done.connections = work.connections;
	done.devices = work.devices;
	done.messages_in = work.messages_in;
	done.messages_out = work.messages_out;
	done.user_hashes = hashes;
	if (m->task == USER_TASK_TRAFFIC) {
		done.window_ms = window_ms(g->w->mono_ms, g->since_ms);
		done.traffic = slice_bytes(work.traffic, sizeof(work.traffic));
	}
	tell_done(g, from, &done);
	buf_fini(&work.hashes);
}

/* ------------------------------------------------------------------ the request, and its answer */

/* Counts of one tenant, or of all: they mean the same asked at any process. */
static void
put_stats(struct gateway *g, struct gather *ga, struct buf *b)
{
	struct buf one = BUF_INIT;

	buf_printf(&one, "\"connections\":%u,\"users\":%zu,\"devices\":%u,"
	    "\"messages\":{\"received\":%llu,\"sent\":%llu}",
	    ga->connections + ga->devices, gather_users(ga), ga->devices,
	    (unsigned long long)ga->messages_in, (unsigned long long)ga->messages_out);
	buf_putc(b, '{');
	buf_put_slice(b, buf_slice(&one));
	buf_puts(b, ",\"instances\":[{\"instance\":");
	buf_put_json_string(b, slice_of(g->instance));
	buf_putc(b, ',');
	buf_put_slice(b, buf_slice(&one));
	buf_puts(b, "}]}");
	buf_fini(&one);
}

/* All have answered, or the time is over for some: answers with what there is. */
static void
answer(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code)
{
	struct gather *ga = a->own;
	struct http *h = c->http;
	struct buf *b = &g->payload;

	(void)code;
	buf_clear(b);
	switch (h->match.route) {
	case ROUTE_broadcast:
		buf_printf(b, "{\"users\":%zu,\"connections\":%u}", gather_users(ga), ga->connections);
		break;
	case ROUTE_send:
		buf_printf(b, "{\"connections\":%u}", ga->connections);
		break;
	case ROUTE_ws_stats:
		put_stats(g, ga, b);
		break;
	case ROUTE_health_metrics:
		api_health_metrics(g, c, buf_slice(&ga->stored), &ga->traffic);
		return;
	case ROUTE_user_disconnect:
		buf_printf(b, "{\"disconnected\":%u}", ga->connections);
		break;
	default:
		buf_puts(b, "{\"userId\":");
		buf_put_json_string(b, h->match.param[0]);
		buf_printf(b, ",\"connected\":%s,\"connections\":%u}", ga->connections > 0 ? "true" : "false",
		    ga->connections);
		break;
	}
	http_respond_json(g, c, 200, buf_slice(b));
}

/* The same of a message for services. */
static void
answer_handed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code)
{
	const struct gather *ga = a->own;
	struct buf *b = &g->payload;

	(void)code;
	buf_clear(b);
	buf_printf(b, "{\"services\":%u}", ga->connections);
	conn_send(g, c, "ok", ask_re(a), buf_slice(b), SLICE_NONE);
}

static const struct ask_ops hands = { .waits = session_waits, .failed = answer_handed, .free = gather_free };
static const struct ask_ops gathers = { .waits = api_waits, .failed = answer, .free = gather_free };

void
users_done(struct gateway *g, const struct msg_user_done *m)
{
	struct ask *a = ask_find(g, m->request);
	struct gather *ga;

	if (a == NULL || (a->ops != &gathers && a->ops != &hands))
		return;
	ga = a->own;
	ga->connections += m->connections;
	ga->devices += m->devices;
	ga->messages_in += m->messages_in;
	ga->messages_out += m->messages_out;
	traffic_sum_add(&ga->traffic, m);
	buf_put_slice(&ga->hashes, m->user_hashes);
	if (!m->more && --ga->waiting == 0)
		ask_failed(g, a, ERROR_NONE);
}

/*
 * Hands the task to the gateways in these slots; the answer comes by users_done().  What users send waits for no room:
 * a gateway that has none does not get it.
 */
static void
hand_out_to(struct gateway *g, struct ask *a, struct msg_user_task *m, uint64_t slots)
{
	struct gather *ga = a->own;
	unsigned count = gateway_role.count(g->conf);
	struct iovec iov;

	a->until_ms = g->w->mono_ms + GATHER_MS;
	/* ourselves, last: the answer can't be complete before all are asked */
	ga->waiting = 1;
	m->request = a->request;
	m->ref = a->ref;
	buf_clear(&g->record);
	msg_pack_user_task(&g->record, m);
	iov = (struct iovec){ g->record.data, g->record.len };
	for (unsigned i = 0; i < count; i++) {
		int slot = worker_slot_of(g->w, ROLE_ID_GATEWAY, i);

		if (slot == -1 || (unsigned)slot == g->w->slot || (slots & (uint64_t)1 << slot) == 0)
			continue;
		if (m->task == USER_TASK_HAND ? worker_post_now(g->w, (unsigned)slot, MSG_user_task, &iov, 1) == 0 :
		    gateway_post(g, slot, MSG_user_task) == 0)
			ga->waiting++;
	}
	users_task(g, m, g->w->slot);
}

/* Hands a request's task to all gateways.  stored: what storage counted, or nothing. */
static void
hand_out(struct gateway *g, struct conn *c, struct msg_user_task *m, struct slice stored)
{
	struct ask *a = ask_new(g, c, &gathers, SLICE_NONE);
	struct gather *ga = a->own = must_alloc(sizeof(*ga));

	buf_put_slice(&ga->stored, stored);
	hand_out_to(g, a, m, UINT64_MAX);
}

void
users_hand(struct gateway *g, struct conn *c, struct slice payload_json, struct slice re)
{
	struct msg_user_task m = {
		.task = USER_TASK_HAND, .tenant = tenant_name(c->user->tenant), .type = SLICE("user_message"),
		.payload_json = payload_json
	};
	uint64_t slots = topics_slots(g->w->shm, audience_topic_tenant(shm_hash_key(g->w->shm), m.tenant));
	struct ask *a = ask_new(g, c, &hands, re);

	a->own = must_alloc(sizeof(struct gather));
	hand_out_to(g, a, &m, slots);
}

static bool
type_is_free(struct gateway *g, struct conn *c, struct slice type)
{
	if (msg_type_find(type, SCHEMA_SERVER) == MSG_TYPE_NONE)
		return true;
	http_respond_error(g, c, ERROR_invalid_payload, "the server itself uses this type", "type");
	return false;
}

/* Each once, however often it is named: nobody is to get a message twice. */
static void
put_users(struct gateway *g, struct buf *users, const struct field_value *field)
{
	struct buf scratch = BUF_INIT;
	struct names names;

	names_init(&names, shm_hash_key(g->w->shm));
	names_add_json(&names, field->json.raw, &scratch);
	for (uint32_t i = 0; i < names.n; i++)
		audience_put(users, 0, AUDIENCE_VIEW, names.v[i]);
	names_fini(&names);
	buf_fini(&scratch);
}

static void
on_message(struct gateway *g, struct conn *c, struct msg_user_task *m, bool to_one)
{
	const struct field_value *f = g->fields.field;
	struct envelope_fault fault;
	struct buf users = BUF_INIT;
	/* The fields that both bodies share have their own numbers in each. */
	unsigned type = to_one ? (unsigned)FIELD_send_type : (unsigned)FIELD_broadcast_type;
	unsigned payload = to_one ? (unsigned)FIELD_send_payload :
	    (unsigned)FIELD_broadcast_payload;

	if (schema_parse(to_one ? BODY_send : BODY_broadcast, buf_slice(&c->http->body),
	    &g->fields, &fault) == -1) {
		api_bad_body(g, c, &fault);
		return;
	}
	if (!type_is_free(g, c, f[type].str))
		return;
	m->task = USER_TASK_SEND;
	m->type = f[type].str;
	m->payload_json = f[payload].json.raw;
	if (to_one)
		audience_put(&users, 0, AUDIENCE_VIEW, c->http->match.param[0]);
	else if (f[FIELD_broadcast_userIds].present)
		put_users(g, &users, &f[FIELD_broadcast_userIds]);
	m->users = buf_slice(&users);
	if (!to_one && f[FIELD_broadcast_userIds].present && users.len == 0)
		http_respond_json(g, c, 200, SLICE("{\"users\":0,\"connections\":0}"));
	else
		hand_out(g, c, m, SLICE_NONE);
	buf_fini(&users);
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

void
users_request(struct gateway *g, struct conn *c)
{
	struct http *h = c->http;
	struct msg_user_task m = { .tenant = SLICE(EVERY_TENANT) };
	struct buf users = BUF_INIT;

	if (!asks_for_keys(g, c) && !api_tenant(g, c, &m.tenant))
		return;
	if (h->match.route == ROUTE_broadcast || h->match.route == ROUTE_send) {
		on_message(g, c, &m, h->match.route == ROUTE_send);
		return;
	}
	m.task = h->match.route == ROUTE_user_disconnect ? USER_TASK_KICK : USER_TASK_COUNT;
	audience_put(&users, 0, AUDIENCE_VIEW, h->match.param[0]);
	m.users = buf_slice(&users);
	hand_out(g, c, &m, SLICE_NONE);
	buf_fini(&users);
}

/* ------------------------------------------------------------------ counts */

static void
counted(struct gateway *g, struct conn *c, const struct ask *a, const struct msg_store_reply *m)
{
	struct http *h = c->http;
	struct msg_user_task task = {
		.task = USER_TASK_TRAFFIC, .tenant = slice_of(h->who.any_tenant ? h->tenant : h->who.tenant)
	};

	if (m->code == ERROR_NONE)
		hand_out(g, c, &task, m->body_json);
	else
		api_answer(g, c, a, m);
}

static const struct ask_ops counts = { .waits = api_waits, .answer = counted, .failed = api_failed };

/* Storage's counts, and then those of all gateways. */
static void
ask_counts(struct gateway *g, struct conn *c, struct slice tenant)
{
	struct http *h = c->http;
	struct msg_rest m = {
		.ref = conn_ref(g, c), .asked_ms = g->w->mono_ms, .route = ROUTE_health_metrics, .tenant = tenant,
		.role = (uint8_t)h->who.role, .user = slice_of(h->who.user), .query = buf_slice(&h->query)
	};
	struct ask *a = ask_new(g, c, &counts, SLICE_NONE);

	a->until_ms = g->w->mono_ms + ASK_PROBE_MS;
	m.request = a->request;
	if (gateway_tell_storage(g, rest, &m) == -1)
		ask_failed(g, a, tell_refusal());
}

void
users_count(struct gateway *g, struct conn *c)
{
	struct msg_user_task m = { .task = USER_TASK_STATS };

	if (!api_tenant_or_all(g, c, &m.tenant))
		return;
	if (c->http->match.route == ROUTE_health_metrics)
		ask_counts(g, c, m.tenant);
	else
		hand_out(g, c, &m, SLICE_NONE);
}
