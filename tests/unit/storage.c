/*
 * storage.c: the storage role against a real store: records in, records out.  Each test has an instance of its own
 * with a file of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "auth/device_token.h"
#include "auth/identity.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/must.h"
#include "db/sqlite.h"
#include "http/route.h"
#include "msg/error.h"
#include "reader/reader.h"
#include "shm/effects.h"
#include "storage/rest.h"
#include "storage_world.h"

/* What a test has at hand. */
struct test {
	struct world t;
	char folder[64], url[96];
	char token[8][DEVICE_TOKEN_LEN + 1];
	struct buf answer;
	uint8_t last_id[UUID_LEN], fresh_id[UUID_LEN];
	bool members_view;
};

/*
 * Time for all but the kernel: by how much the wall clock was set, and what passed by pass().  What a test
 * has wait is long, so that nothing is over before the test says so, however busy the machine is.
 */
#define HOUR_MS (INT64_C(3600) * 1000)
static int64_t set_by_ms, passed_ms;
int64_t __real_clock_now_ms(void), __real_clock_mono_ms(void), __real_clock_mono_us(void), __real_clock_boot_ms(void);
int64_t __wrap_clock_now_ms(void), __wrap_clock_mono_ms(void), __wrap_clock_mono_us(void), __wrap_clock_boot_ms(void);

int64_t
__wrap_clock_now_ms(void)
{
	return __real_clock_now_ms() + passed_ms + set_by_ms;
}

int64_t
__wrap_clock_mono_ms(void)
{
	return __real_clock_mono_ms() + passed_ms;
}

int64_t
__wrap_clock_mono_us(void)
{
	return __real_clock_mono_us() + passed_ms * 1000;
}

int64_t
__wrap_clock_boot_ms(void)
{
	return __real_clock_boot_ms() + passed_ms;
}

static void
pass(int64_t ms)
{
	passed_ms += ms;
}

static int
set_up(void **state)
{
	struct test *x = must_alloc(sizeof(*x));

	snprintf(x->folder, sizeof(x->folder), "%s/belay-storage-XXXXXX", getenv("TMPDIR") != NULL ? "." : "/tmp");
	must(mkdtemp(x->folder) != NULL);
	snprintf(x->url, sizeof(x->url), "sqlite://%s/belay.db", x->folder);
	world_open(&x->t, x->url, false);
	world_start(&x->t);
	*state = x;
	return 0;
}

static int
tear_down(void **state)
{
	struct test *x = *state;
	char name[128];

	set_by_ms = 0;
	world_close(&x->t);
	for (int i = 0; i < 3; i++) {
		static const char *const names[] = { "belay.db", "belay.db-wal", "belay.db-shm" };

		snprintf(name, sizeof(name), "%s/%s", x->folder, names[i]);
		(void)unlink(name);
	}
	(void)rmdir(x->folder);
	buf_fini(&x->answer);
	free(x);
	return 0;
}

static void
members_may_view(struct test *x)
{
	x->t.conf->auth_tenant_members = CONF_TENANT_MEMBERS_VIEW;
	storage_role.reload(&x->t.w);
	if (x->t.reader.data != NULL)
		reader_role.reload(&x->t.reader);
}

static void
in_flight(struct test *x, int64_t most)
{
	x->t.conf->limits_commands_in_flight = most;
	storage_role.reload(&x->t.w);
}

/* Without the look at what is too old that a reload brings. */
static void
keep_telemetry(struct test *x, int64_t ms)
{
	x->t.conf->store_telemetry_retention_ms = ms;
	storage_of(&x->t.w)->telemetry_retention_ms = ms;
}

/* ---------------------------------------------------------------- asking */

static uint64_t
user_ref(struct test *x)
{
	return world_ref(&x->t, GATEWAY_SLOT, 1, 1);
}

static const char *
text(struct test *x, struct slice s)
{
	buf_clear(&x->answer);
	buf_put_slice(&x->answer, s);
	buf_putc(&x->answer, '\0');
	return x->answer.data;
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

/* A REST request, to storage or the reader; its answer's status; the body is in x->answer. */
static unsigned
rest_as(struct test *x, enum role role, const char *tenant, const char *user, enum http_route route, const char *target,
    const char *target2, const char *query, const char *body, const char *token)
{
	struct msg_rest m = {
		.request = ++x->t.requests, .ref = user_ref(x), .asked_ms = clock_mono_ms(),
		.route = route, .role = role,
		.tenant = slice_of(tenant), .user = slice_of(user), .target = slice_of(target), .target2 = slice_of(target2),
		.query = slice_of(query), .body_json = slice_of(body), .token = slice_of(token)
	};
	struct msg_store_reply r;

	uuid_new(m.fresh_id);
	memcpy(x->fresh_id, m.fresh_id, sizeof(x->fresh_id));
	if (is_read(route)) {
		struct msg_read read = {
			.request = m.request, .ref = m.ref, .route = m.route, .role = m.role, .tenant = m.tenant, .user = m.user,
			.target = m.target, .query = m.query, .body_json = m.body_json
		};

		world_read(&x->t, read, &read);
		world_run(&x->t);	/* telemetry to be stored */
	} else {
		world_post(&x->t, rest, &m);
		world_run(&x->t);
	}
	for (size_t i = x->t.posted_count; i-- > 0;) {
		struct posted *p = &x->t.posted[i];

		if (p->kind == MSG_store_reply && msg_unpack_store_reply(&r, (const uint8_t *)p->bytes.data, p->bytes.len) == 0 &&
		    r.request == m.request) {
			if (r.code != ERROR_NONE && r.body_json.len == 0)
				text(x, slice_of(error_name((enum error_code)r.code)));
			else
				text(x, r.body_json);
			return r.http_status;
		}
	}
	fail_msg("no answer");
	return 0;
}

#define rest_(x, user, route, target, query, body) \
	rest_as((x), ROLE_USER, "t1", (user), (route), (target), NULL, (query), (body), NULL)

static void
new_device(struct test *x, const char *id, unsigned n)
{
	uint8_t hash[SHA256_LEN];
	char body[128];

	auth_device_token_new(x->token[n], hash);
	snprintf(body, sizeof(body), "{\"deviceId\":\"%s\",\"name\":\"Device %s\"}", id, id);
	assert_int_equal(rest_as(x, ROLE_USER, "t1", "owner", ROUTE_device_register, NULL, NULL, NULL, body, x->token[n]), 201);
	world_forget(&x->t);
}

/* A device's connection asks to come in; the answer's code and, in *w, the answer. */
static uint32_t
connect_ref(struct test *x, unsigned n, const char *id, uint64_t ref, struct msg_device_welcome *w)
{
	struct msg_device_auth m = { .request = ++x->t.requests, .ref = ref, .by_token = 1, .device = slice_of(id) };
	static struct msg_device_welcome none;

	must(auth_device_token_hash(slice_of(x->token[n]), m.token_hash) == 0);
	world_post(&x->t, device_auth, &m);
	world_run(&x->t);
	if (w == NULL)
		w = &none;
	for (size_t i = x->t.posted_count; i-- > 0;) {
		struct posted *p = &x->t.posted[i];

		if (p->kind == MSG_device_welcome &&
		    msg_unpack_device_welcome(w, (const uint8_t *)p->bytes.data, p->bytes.len) == 0 && w->request == m.request)
			return w->code;
	}
	fail_msg("no welcome");
	return 0;
}

static uint64_t
device_ref(struct test *x, unsigned n)
{
	return world_ref(&x->t, GATEWAY_SLOT, 100 + n, 1);
}

static struct msg_device_welcome
online(struct test *x, unsigned n, const char *id)
{
	struct msg_device_welcome w;

	assert_int_equal(connect_ref(x, n, id, device_ref(x, n), &w), ERROR_NONE);
	return w;
}

static void
gone(struct test *x, const struct msg_device_welcome *w, uint64_t ref)
{
	struct msg_device_gone m = {
		.ref = ref, .device_pk = w->device_pk, .epoch = w->epoch, .at = clock_now_ms(), .last_seen = clock_now_ms(),
		.tenant = SLICE("t1"), .device = SLICE("d1"), .reason = SLICE("closed")
	};

	world_post(&x->t, device_gone, &m);
	world_run(&x->t);
}

struct order {
	const char *user, *device, *command, *params, *only_if, *key;
	int64_t timeout_ms, queue_ms;
	enum role role;
	const char *tenant;
	int64_t ago_ms;			/* that it was asked for */
};

static uint64_t
post_order(struct test *x, const struct order *o)
{
	struct msg_command_new m = {
		.request = ++x->t.requests, .ref = user_ref(x), .asked_ms = clock_mono_ms() - o->ago_ms,
		.role = o->role, .follows = true,
		.timeout_ms = o->timeout_ms != 0 ? o->timeout_ms : 30000, .queue_ms = o->queue_ms,
		.tenant = slice_of(o->tenant != NULL ? o->tenant : "t1"), .user = slice_of(o->user != NULL ? o->user : "owner"),
		.device = slice_of(o->device != NULL ? o->device : "d1"),
		.command = slice_of(o->command != NULL ? o->command : "unlock_door"),
		.params_json = slice_of(o->params != NULL ? o->params : "{}"), .only_if_json = slice_of(o->only_if),
		.idempotency_key = slice_of(o->key)
	};

	uuid_new(m.command_id);
	memcpy(x->last_id, m.command_id, sizeof(x->last_id));
	world_post(&x->t, command_new, &m);
	return m.request;
}

/* The answer to a request: "sent", "queued"… the command's status, or an error's name. The body is in x->answer. */
static const char *
answer_to(struct test *x, uint64_t request)
{
	static char status[32];

	for (size_t i = x->t.posted_count; i-- > 0;) {
		struct posted *p = &x->t.posted[i];
		const uint8_t *bytes = (const uint8_t *)p->bytes.data;
		struct msg_store_reply r;
		struct msg_publish m;

		if (p->kind == MSG_store_reply && msg_unpack_store_reply(&r, bytes, p->bytes.len) == 0 && r.request == request) {
			text(x, r.body_json);
			return r.code == ERROR_NONE ? "ok" : error_name((enum error_code)r.code);
		}
		if (p->kind == MSG_publish && msg_unpack_publish(&m, bytes, p->bytes.len) == 0 && m.request == request) {
			struct json_value v, s;

			assert_int_equal(m.to, PUBLISH_ANSWER);
			assert_int_equal(json_parse(m.payload_json, 32, &v), 0);
			assert_int_equal(json_get(v, "status", &s), 0);
			snprintf(status, sizeof(status), "%.*s", (int)s.raw.len - 2, s.raw.p + 1);
			text(x, m.payload_json);
			return status;
		}
	}
	return "nothing";
}

static const char *
ask(struct test *x, struct order o)
{
	uint64_t request = post_order(x, &o);

	world_run(&x->t);
	return answer_to(x, request);
}

#define ASK(x, ...) ask((x), (struct order){ __VA_ARGS__ })

/* What the device says of the command in x->last_id; the verdict as the gateway would have it. */
static const char *
ack_from(struct test *x, const struct msg_device_welcome *w, const uint8_t id[UUID_LEN], enum ack_status status,
    const char *result, const char *error)
{
	static const enum pending_state state_of[] = { PENDING_ACCEPTED, PENDING_EXECUTED, PENDING_FAILED };
	struct msg_command_ack m = {
		.request = ++x->t.requests, .ref = w->ref, .device_pk = w->device_pk,
		.status = status, .verdict = PENDING_UNKNOWN, .tenant = SLICE("t1"),
		.device = ref_index(w->ref) == 101 ? SLICE("d2") : SLICE("d1"),	/* as device_ref() has it */
		.result_json = slice_of(result), .error_json = slice_of(error)
	};

	memcpy(m.command, id, UUID_LEN);
	if (status != ACK_UNKNOWN)
		m.verdict = pending_move(x->t.shm, id, audience_device_key(shm_hash_key(x->t.shm), m.tenant, m.device),
		    state_of[status]);
	world_post(&x->t, command_ack, &m);
	world_run(&x->t);
	return answer_to(x, m.request);
}

#define ack(x, w, status) ack_from((x), (w), (x)->last_id, (status), NULL, NULL)

/* The command as REST shows it, in x->answer. */
static const char *
command_now(struct test *x, const uint8_t id[UUID_LEN])
{
	char name[UUID_TEXT_LEN + 1];

	uuid_format(id, name);
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t1", "admin", ROUTE_command_get, name, NULL, NULL, NULL, NULL), 200);
	return x->answer.data;
}

static bool
has(struct test *x, const char *part)
{
	return strstr(x->answer.data, part) != NULL;
}

#define assert_has(x, part) do { \
	if (!has((x), (part))) \
		fail_msg("%s is not in %s", (part), (x)->answer.data); \
} while (0)

static unsigned
events(struct test *x, const char *type)
{
	char query[64];
	unsigned n = 0;

	snprintf(query, sizeof(query), "limit=500&type=%s", type);
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t1", "admin", ROUTE_events, NULL, NULL, query, NULL, NULL), 200);
	for (const char *p = x->answer.data; (p = strstr(p, "\"eventId\"")) != NULL; p++)
		n++;
	return n;
}

/* The nth publication of that type; its payload is in x->answer. */
static bool
published(struct test *x, const char *type, unsigned nth, struct msg_publish *out)
{
	static struct msg_publish m;

	for (size_t i = 0; i < x->t.posted_count; i++) {
		struct posted *p = &x->t.posted[i];

		if (p->kind != MSG_publish || msg_unpack_publish(&m, (const uint8_t *)p->bytes.data, p->bytes.len) == -1 ||
		    !slice_is(m.type, type) || nth-- > 0)
			continue;
		text(x, m.payload_json);
		if (out != NULL)
			*out = m;
		return true;
	}
	return false;
}

static struct msg_device_send
sent_to_device(struct test *x, unsigned nth)
{
	struct posted *p = world_posted(&x->t, MSG_device_send, nth);
	struct msg_device_send m;

	assert_non_null(p);
	assert_int_equal(msg_unpack_device_send(&m, (const uint8_t *)p->bytes.data, p->bytes.len), 0);
	return m;
}

static void
listen_as(struct test *x, const char *user)
{
	topics_join(x->t.shm, audience_topic_user(shm_hash_key(x->t.shm), SLICE("t1"), slice_of(user)), GATEWAY_SLOT + 1);
}

static struct storage *
inside(struct test *x)
{
	return x->t.w.data;
}

/* Gateways that are gone have been so for that much longer. */
static void
gone_earlier(struct test *x, int64_t ms)
{
	for (unsigned i = 0; i < PRESENCE_GENERATIONS; i++)
		inside(x)->sweep.lost_mono[GATEWAY_SLOT][i] -= ms;
}

/* ---------------------------------------------------------------- devices */

static void
registers_devices(void **state)
{
	struct test *x = *state;
	struct stat st;
	char path[128];

	new_device(x, "d1", 0);
	assert_int_equal(rest_as(x, ROLE_USER, "t1", "owner", ROUTE_device_register, NULL, NULL, NULL,
	    "{\"deviceId\":\"d1\",\"name\":\"again\"}", "bdt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), 409);
	/* The same id in another tenant is another device. */
	assert_int_equal(rest_as(x, ROLE_USER, "t2", "owner", ROUTE_device_register, NULL, NULL, NULL,
	    "{\"deviceId\":\"d1\",\"name\":\"other\",\"tags\":[\"a b\"],\"deviceType\":\"charger\"}",
	    "bdt_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA"), 201);
	assert_has(x, "\"tenantId\":\"t2\"");
	assert_has(x, "\"deviceToken\":\"bdt_BBBB");
	assert_int_equal(rest_(x, "owner", ROUTE_device_get, "d1", NULL, NULL), 200);
	assert_has(x, "\"name\":\"Device d1\"");
	assert_has(x, "\"userPermissions\":[\"view\",\"control\",\"admin\",\"owner\"]");
	assert_has(x, "\"state\":null");
	assert_has(x, "\"presence\":{\"status\":\"unknown\",\"transport\":null,\"epoch\":0,");
	assert_int_equal(rest_(x, "owner", ROUTE_device_get, "d9", NULL, NULL), 404);
	/* A service registers for another; without an id one is made. */
	assert_int_equal(rest_as(x, ROLE_SERVICE, "t1", "backend", ROUTE_device_register, NULL, NULL, NULL,
	    "{\"name\":\"x\",\"ownerId\":\"carol\"}", "bdt_CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCCA"), 201);
	assert_has(x, "\"ownerId\":\"carol\"");
	snprintf(path, sizeof(path), "%s/belay.db", x->folder);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void
lists_devices(void **state)
{
	struct test *x = *state;
	char id[16], body[128], query[160];
	const char *next;

	for (int i = 0; i < 7; i++) {
		uint8_t hash[SHA256_LEN];

		snprintf(body, sizeof(body), "{\"deviceId\":\"d%d\",\"name\":\"Door %d\",\"deviceType\":\"%s\",\"tags\":[\"t%d\"]}",
		    i, i, i < 3 ? "lock" : "charger", i % 2);
		auth_device_token_new(x->token[0], hash);
		assert_int_equal(rest_as(x, ROLE_USER, "t1", i == 6 ? "other" : "owner", ROUTE_device_register, NULL, NULL, NULL,
		    body, x->token[0]), 201);
	}
	assert_int_equal(rest_(x, "owner", ROUTE_device_list, NULL, "limit=4", NULL), 200);
	next = strstr(x->answer.data, "\"nextCursor\":\"") + strlen("\"nextCursor\":\"");
	snprintf(query, sizeof(query), "limit=4&cursor=%.*s", (int)strcspn(next, "\""), next);
	assert_false(has(x, "\"deviceId\":\"d4\""));
	assert_int_equal(rest_(x, "owner", ROUTE_device_list, NULL, query, NULL), 200);
	assert_has(x, "\"deviceId\":\"d5\"");
	assert_has(x, "\"nextCursor\":null");
	assert_false(has(x, "\"deviceId\":\"d6\""));
	assert_int_equal(rest_(x, "owner", ROUTE_device_list, NULL, "type=lock&tag=t1", NULL), 200);
	assert_has(x, "\"deviceId\":\"d1\"");
	assert_false(has(x, "\"deviceId\":\"d2\""));
	assert_int_equal(rest_(x, "owner", ROUTE_device_list, NULL, "q=dOOR%204", NULL), 200);
	assert_has(x, "\"deviceId\":\"d4\"");
	assert_false(has(x, "\"deviceId\":\"d3\""));
	assert_int_equal(rest_(x, "owner", ROUTE_device_list, NULL, "status=online", NULL), 200);
	assert_string_equal(x->answer.data, "{\"devices\":[],\"nextCursor\":null}");
	assert_int_equal(rest_(x, "owner", ROUTE_device_list, NULL, "limit=501", NULL), 422);
	assert_int_equal(rest_(x, "owner", ROUTE_device_list, NULL, "status=maybe", NULL), 422);
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t1", "boss", ROUTE_device_list, NULL, NULL, "status=offline", NULL, NULL), 200);
	assert_has(x, "\"deviceId\":\"d6\"");
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t9", "boss", ROUTE_device_list, NULL, NULL, NULL, NULL, NULL), 200);
	assert_string_equal(x->answer.data, "{\"devices\":[],\"nextCursor\":null}");
	assert_int_equal(rest_(x, "owner", ROUTE_device_stats, NULL, NULL, NULL), 200);
	assert_string_equal(x->answer.data,
	    "{\"total\":6,\"owned\":6,\"shared\":0,\"online\":0,\"offline\":6,\"byType\":{\"charger\":3,\"lock\":3}}");
	snprintf(id, sizeof(id), "d0");
	(void)online(x, 0, "d6");
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t1", "boss", ROUTE_health_devices, NULL, NULL, NULL, NULL, NULL), 200);
	assert_string_equal(x->answer.data, "{\"online\":1,\"offline\":6,\"byTransport\":{\"ws\":1,\"mqtt\":0}}");
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t1", "boss", ROUTE_device_list, NULL, NULL, "status=online", NULL, NULL), 200);
	assert_has(x, "{\"devices\":[{\"deviceId\":\"d6\"");
	((struct desk *)x->t.reader.data)->suspect_ms = -1;
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t1", "boss", ROUTE_device_list, NULL, NULL, "status=suspect", NULL, NULL), 200);
	assert_has(x, "\"status\":\"suspect\",\"transport\":\"ws\"");
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t1", "boss", ROUTE_device_list, NULL, NULL, "status=online", NULL, NULL), 200);
	assert_string_equal(x->answer.data, "{\"devices\":[],\"nextCursor\":null}");
}

static void
updates_and_deletes(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	struct msg_kick k;
	struct posted *p;

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	world_forget(&x->t);
	assert_int_equal(rest_(x, "owner", ROUTE_device_update, "d1", NULL, "{\"name\":\"N\",\"settings\":{\"a\":1}}"), 200);
	assert_has(x, "\"name\":\"N\"");
	assert_has(x, "\"settings\":{\"a\":1}");
	text(x, sent_to_device(x, 0).payload_json);
	assert_has(x, "\"command\":\"update_settings\",\"params\":{\"a\":1}");
	assert_int_equal(rest_(x, "stranger", ROUTE_device_update, "d1", NULL, "{\"name\":\"N\"}"), 403);
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t1", "boss", ROUTE_device_delete, "d1", NULL, NULL, NULL, NULL), 403);
	world_forget(&x->t);
	assert_int_equal(rest_(x, "owner", ROUTE_device_delete, "d1", NULL, NULL), 204);
	p = world_posted(&x->t, MSG_kick, 0);
	assert_non_null(p);
	assert_int_equal(msg_unpack_kick(&k, (const uint8_t *)p->bytes.data, p->bytes.len), 0);
	assert_int_equal(k.why, WS_CLOSE_REVOKED);
	assert_int_equal(rest_(x, "owner", ROUTE_device_get, "d1", NULL, NULL), 404);
	assert_int_equal(connect_ref(x, 0, "d1", device_ref(x, 0), NULL), ERROR_invalid_token);
	/* The gateway's word of the end finds nothing left to do. */
	gone(x, &w, device_ref(x, 0));
	assert_int_equal(events(x, "device_disconnected"), 1);
	/* A new device of the same id goes on counting. */
	new_device(x, "d1", 1);
	w = online(x, 1, "d1");
	assert_int_equal(w.epoch, 2);
}

static void
rotates_tokens(void **state)
{
	struct test *x = *state;
	uint8_t hash[SHA256_LEN];

	new_device(x, "d1", 0);
	(void)online(x, 0, "d1");
	auth_device_token_new(x->token[1], hash);
	assert_int_equal(rest_as(x, ROLE_USER, "t1", "stranger", ROUTE_device_token, "d1", NULL, NULL, NULL, x->token[1]), 403);
	assert_int_equal(rest_as(x, ROLE_USER, "t1", "owner", ROUTE_device_token, "d1", NULL, NULL, NULL, x->token[1]), 200);
	assert_has(x, x->token[1]);
	assert_int_equal(world_count(&x->t, MSG_kick), 1);
	assert_int_equal(connect_ref(x, 0, "d1", device_ref(x, 0), NULL), ERROR_invalid_token);
	assert_int_equal(connect_ref(x, 1, "d1", device_ref(x, 1), NULL), ERROR_NONE);
	assert_int_equal(events(x, "token_rotated"), 1);
}

/* ---------------------------------------------------------------- presence */

static void
accepts_and_replaces(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome a, b;
	struct posted *p;
	struct msg_kick k;
	struct msg_publish m;

	new_device(x, "d1", 0);
	new_device(x, "d2", 1);
	listen_as(x, "owner");
	assert_int_equal(connect_ref(x, 0, "d2", device_ref(x, 0), NULL), ERROR_invalid_token);	/* another's token */
	assert_int_equal(connect_ref(x, 0, "", device_ref(x, 0), &a), ERROR_NONE);			/* the token is enough */
	assert_int_equal(a.epoch, 1);
	assert_true(slice_is(a.device, "d1"));
	assert_true(published(x, "device_connected", 0, &m));
	assert_has(x, "{\"deviceId\":\"d1\",\"epoch\":1,\"transport\":\"ws\",\"at\":");
	assert_true(m.cursor.len > 0);
	world_forget(&x->t);
	assert_int_equal(connect_ref(x, 0, "d1", device_ref(x, 5), &b), ERROR_NONE);
	assert_int_equal(b.epoch, 2);
	p = world_posted(&x->t, MSG_kick, 0);
	assert_non_null(p);
	assert_int_equal(msg_unpack_kick(&k, (const uint8_t *)p->bytes.data, p->bytes.len), 0);
	assert_int_equal(k.why, WS_CLOSE_REPLACED);
	assert_true(k.ref == device_ref(x, 0));
	/* The old connection's end changes nothing and is not told. */
	world_forget(&x->t);
	gone(x, &a, device_ref(x, 0));
	assert_false(published(x, "device_disconnected", 0, NULL));
	assert_int_equal(rest_(x, "owner", ROUTE_device_get, "d1", NULL, NULL), 200);
	assert_has(x, "\"presence\":{\"status\":\"online\",\"transport\":\"ws\",\"epoch\":2,");
	gone(x, &b, device_ref(x, 5));
	gone(x, &b, device_ref(x, 5));
	assert_true(published(x, "device_disconnected", 0, NULL));
	assert_has(x, "\"reason\":\"closed\"");
	assert_int_equal(events(x, "device_disconnected"), 1);
	assert_int_equal(events(x, "device_connected"), 2);
	assert_int_equal(rest_(x, "owner", ROUTE_device_get, "d1", NULL, NULL), 200);
	assert_has(x, "\"status\":\"offline\"");
	assert_has(x, "\"reason\":\"closed\"");
}

static void
knows_lost_processes(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;

	new_device(x, "d1", 0);
	new_device(x, "d2", 1);
	(void)online(x, 0, "d1");
	(void)online(x, 1, "d2");
	slot_died(x->t.shm, GATEWAY_SLOT);
	slot_take(x->t.shm, GATEWAY_SLOT, ROLE_ID_GATEWAY, 0);
	slot_set_pid(x->t.shm, GATEWAY_SLOT, getpid());
	world_tick(&x->t);
	world_tick(&x->t);
	assert_int_equal(events(x, "device_disconnected"), 0);
	assert_int_equal(rest_(x, "owner", ROUTE_device_get, "d2", NULL, NULL), 200);
	assert_has(x, "\"presence\":{\"status\":\"suspect\",\"transport\":\"ws\",\"epoch\":1,");
	assert_int_equal(rest_(x, "owner", ROUTE_device_stats, NULL, NULL, NULL), 200);
	assert_has(x, "\"online\":2,\"offline\":0");
	/* A command for it has nowhere to go. */
	world_forget(&x->t);
	assert_string_equal(ASK(x, .device = "d2"), "device_offline");
	assert_int_equal(world_count(&x->t, MSG_device_send), 0);
	/* d1 comes back in time, by the new process. */
	assert_int_equal(connect_ref(x, 0, "d1", device_ref(x, 0), &w), ERROR_NONE);
	gone_earlier(x, inside(x)->return_ms);
	inside(x)->sweep.directory_due = 1;
	for (int i = 0; i < 300; i++)
		world_tick(&x->t);
	assert_int_equal(events(x, "device_disconnected"), 1);
	assert_has(x, "\"deviceId\":\"d2\"");
	assert_has(x, "worker_lost");
}

static void
knows_a_lost_instance(void **state)
{
	struct test *x = *state;
	struct world second;

	new_device(x, "d1", 0);
	new_device(x, "d2", 1);
	(void)online(x, 0, "d1");
	(void)online(x, 1, "d2");
	assert_string_equal(ASK(x, .device = "d1"), "sent");
	world_stop(&x->t);
	/* The whole instance went; another runs on the same store. */
	second = x->t;
	world_open(&x->t, x->url, false);
	world_start(&x->t);
	assert_int_equal(pending_count(x->t.shm), 1);
	assert_int_equal(rest_(x, "owner", ROUTE_device_get, "d1", NULL, NULL), 200);
	assert_has(x, "\"status\":\"suspect\"");
	(void)online(x, 0, "d1");
	inside(x)->sweep.rows_due = 1;
	for (int i = 0; i < 5; i++)
		world_tick(&x->t);
	assert_int_equal(events(x, "device_disconnected"), 1);
	assert_has(x, "\"deviceId\":\"d2\"");
	assert_has(x, "instance_lost");
	second.w.data = NULL;
	world_close(&second);
}

/* ---------------------------------------------------------------- reports */

static void
takes_reports(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w, old;
	struct msg_device_report m = {
		.asked_ms = clock_mono_ms(), .tenant = SLICE("t1"), .device = SLICE("d1"),
		.data_json = SLICE("{\"door\":\"open\"}")
	};

	new_device(x, "d1", 0);
	listen_as(x, "owner");
	old = online(x, 0, "d1");
	assert_int_equal(connect_ref(x, 0, "d1", device_ref(x, 7), &w), ERROR_NONE);
	m.ref = device_ref(x, 7);
	m.request = ++x->t.requests;
	m.device_pk = w.device_pk;
	m.epoch = w.epoch;
	m.at = clock_now_ms();
	world_post(&x->t, device_report, &m);
	world_run(&x->t);
	assert_string_equal(answer_to(x, m.request), "ok");
	assert_true(published(x, "device_status", 0, NULL));
	assert_has(x, "\"deviceId\":\"d1\",\"epoch\":2,\"at\":");
	assert_has(x, "\"data\":{\"door\":\"open\"}");
	/* What the replaced connection says late is not the device's state. */
	m.epoch = old.epoch;
	m.data_json = SLICE("{\"door\":\"old\"}");
	world_post(&x->t, device_report, &m);
	world_run(&x->t);
	assert_int_equal(rest_(x, "owner", ROUTE_device_get, "d1", NULL, NULL), 200);
	assert_has(x, "\"state\":{\"door\":\"open\"}");
	m.epoch = w.epoch;
	m.event = SLICE("x_bell");
	m.data_json = SLICE("{\"n\":1}");
	world_post(&x->t, device_report, &m);
	world_run(&x->t);
	assert_true(published(x, "device_event", 0, NULL));
	assert_has(x, "\"event\":\"x_bell\"");
	assert_int_equal(events(x, "x_bell"), 1);
	assert_int_equal(events(x, "status_changed"), 1);
}

/* ---------------------------------------------------------------- commands */

static void
runs_a_command(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	struct msg_device_send send;
	struct msg_publish m;

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	listen_as(x, "owner");
	world_forget(&x->t);
	assert_string_equal(ASK(x, .params = "{\"s\":5}"), "sent");
	assert_has(x, "\"outcome\":\"unconfirmed\",\"safeToRetry\":false,\"requestedBy\":\"owner\"");
	assert_has(x, "\"attempt\":1,\"result\":null,\"error\":null");
	assert_has(x, "\"step\":\"sent\",\"instance\":\"belay-test\",\"worker\":1,\"epoch\":1}]");
	send = sent_to_device(x, 0);
	assert_true(send.ref == w.ref);
	text(x, send.payload_json);
	assert_has(x, "\"command\":\"unlock_door\",\"params\":{\"s\":5},\"issuedAt\":");
	assert_has(x, "\"attempt\":1}");
	assert_int_equal(pending_count(x->t.shm), 1);
	world_forget(&x->t);
	assert_string_equal(ack(x, &w, ACK_ACCEPTED), "ok");
	assert_string_equal(ack(x, &w, ACK_ACCEPTED), "ok");		/* said twice */
	assert_true(published(x, "command_status", 0, &m));
	assert_has(x, "\"status\":\"accepted\"");
	assert_int_equal(m.to, PUBLISH_WITH_REF);
	assert_true(m.ref == user_ref(x));
	assert_int_equal(m.cursor.len, 0);
	world_forget(&x->t);
	assert_string_equal(ack_from(x, &w, x->last_id, ACK_EXECUTED, "[1,2]", NULL), "ok");
	assert_true(published(x, "command_status", 0, &m));
	assert_has(x, "\"status\":\"executed\",\"late\":false,\"outcome\":\"confirmed\"");
	assert_has(x, "\"result\":[1,2]");
	assert_true(m.cursor.len > 0);
	assert_int_equal(pending_count(x->t.shm), 0);
	assert_string_equal(ack(x, &w, ACK_EXECUTED), "already_final");
	assert_string_equal(ack(x, &w, ACK_FAILED), "already_final");
	assert_string_equal(ack(x, &w, ACK_UNKNOWN), "already_final");
	command_now(x, x->last_id);
	assert_has(x, "\"step\":\"stored\"");
	assert_has(x, "\"step\":\"accepted\"");
	assert_has(x, "\"step\":\"executed\"}]}}");
	assert_int_equal(events(x, "command_sent"), 1);
	assert_int_equal(events(x, "command_executed"), 1);
	assert_has(x, "\"actor\":\"owner\"");
}

static void
normalises_errors(void **state)
{
	static const struct {
		const char *given, *shown;
	} cases[] = {
		{ "\"jammed\"", "\"error\":{\"code\":\"device_error\",\"message\":\"jammed\"}" },
		{ "{\"code\":\"E7\",\"message\":\"a \\\"b\\\"\",\"more\":1}",
		    "\"error\":{\"code\":\"E7\",\"message\":\"a \\\"b\\\"\"}" },
		{ "{\"code\":\"E7\"}", "\"error\":{\"code\":\"E7\",\"message\":\"\"}" },
		{ NULL, "\"error\":null" },
	};
	struct test *x = *state;
	struct msg_device_welcome w;

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_string_equal(ASK(x, .user = "owner"), "sent");
		assert_string_equal(ack_from(x, &w, x->last_id, ACK_FAILED, NULL, cases[i].given), "ok");
		command_now(x, x->last_id);
		assert_has(x, "\"status\":\"failed\",\"late\":false,\"outcome\":\"confirmed\",\"safeToRetry\":false");
		assert_has(x, cases[i].shown);
	}
}

static void
times_out(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	uint8_t first[UUID_LEN], second[UUID_LEN], third[UUID_LEN];

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	listen_as(x, "owner");
	assert_string_equal(ASK(x, .timeout_ms = 30000), "sent");
	memcpy(first, x->last_id, UUID_LEN);
	assert_string_equal(ASK(x, .timeout_ms = 30000), "sent");
	memcpy(second, x->last_id, UUID_LEN);
	assert_string_equal(ASK(x, .timeout_ms = 30000), "sent");
	memcpy(third, x->last_id, UUID_LEN);
	assert_string_equal(ack_from(x, &w, second, ACK_ACCEPTED, NULL, NULL), "ok");
	pass(31000);
	world_forget(&x->t);
	world_tick(&x->t);
	assert_true(published(x, "command_status", 2, NULL));
	assert_int_equal(pending_count(x->t.shm), 0);
	command_now(x, first);
	assert_has(x, "\"status\":\"timeout\",\"late\":false,\"outcome\":\"unconfirmed\",\"safeToRetry\":false");
	/* Late results count; a device that never got it makes it safe to try again. */
	assert_string_equal(ack_from(x, &w, first, ACK_ACCEPTED, NULL, NULL), "already_final");
	assert_string_equal(ack_from(x, &w, first, ACK_EXECUTED, "1", NULL), "ok");
	command_now(x, first);
	assert_has(x, "\"status\":\"executed\",\"late\":true,\"outcome\":\"confirmed\"");
	assert_string_equal(ack_from(x, &w, first, ACK_FAILED, NULL, NULL), "already_final");
	assert_string_equal(ack_from(x, &w, second, ACK_FAILED, NULL, "\"x\""), "ok");
	command_now(x, second);
	assert_has(x, "\"status\":\"failed\",\"late\":true");
	assert_string_equal(ack_from(x, &w, third, ACK_UNKNOWN, NULL, NULL), "ok");
	command_now(x, third);
	assert_has(x, "\"status\":\"timeout\",\"late\":false,\"outcome\":\"not_sent\",\"safeToRetry\":true");
	assert_int_equal(events(x, "command_timeout"), 3);
	assert_int_equal(events(x, "command_executed"), 1);
	assert_int_equal(events(x, "command_failed"), 1);
}

static void
refuses_acks_of_others(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome a, b;
	uint8_t nobody[UUID_LEN];

	new_device(x, "d1", 0);
	new_device(x, "d2", 1);
	a = online(x, 0, "d1");
	b = online(x, 1, "d2");
	assert_string_equal(ASK(x, .device = "d1"), "sent");
	assert_string_equal(ack_from(x, &b, x->last_id, ACK_UNKNOWN, NULL, NULL), "not_found");
	assert_string_equal(ack_from(x, &b, x->last_id, ACK_EXECUTED, NULL, NULL), "not_found");
	uuid_new(nobody);
	assert_string_equal(ack_from(x, &a, nobody, ACK_EXECUTED, NULL, NULL), "not_found");
	command_now(x, x->last_id);
	assert_has(x, "\"status\":\"sent\"");
	assert_string_equal(ack(x, &a, ACK_EXECUTED), "ok");
}

static void
queues_and_keeps_order(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	uint8_t id[5][UUID_LEN];

	new_device(x, "d1", 0);
	assert_string_equal(ASK(x, .queue_ms = 0), "device_offline");
	for (int i = 0; i < 5; i++) {
		assert_string_equal(ASK(x, .queue_ms = i == 2 ? 30000 : 300000, .only_if = i == 3 ? "{\"status.a\":1}" : NULL),
		    "queued");
		memcpy(id[i], x->last_id, UUID_LEN);
	}
	assert_has(x, "\"outcome\":\"not_sent\"");
	assert_has(x, "\"sentAt\":null");
	assert_int_equal(pending_count(x->t.shm), 0);
	pass(31000);
	world_tick(&x->t);
	command_now(x, id[2]);
	assert_has(x, "\"status\":\"expired\",\"late\":false,\"outcome\":\"not_sent\",\"safeToRetry\":true");
	world_forget(&x->t);
	w = online(x, 0, "d1");
	assert_int_equal(world_count(&x->t, MSG_device_send), 3);
	assert_memory_equal(sent_to_device(x, 0).command, id[0], UUID_LEN);
	assert_memory_equal(sent_to_device(x, 1).command, id[1], UUID_LEN);
	assert_memory_equal(sent_to_device(x, 2).command, id[4], UUID_LEN);
	assert_int_equal(w.reconcile_json.len, 0);	/* what is sent now is not asked about */
	command_now(x, id[3]);
	assert_has(x, "\"status\":\"failed\"");
	assert_has(x, "\"code\":\"precondition\"");
	assert_int_equal(events(x, "command_expired"), 1);
	assert_int_equal(events(x, "command_sent"), 3);
}

static void
limits_the_queue(void **state)
{
	struct test *x = *state;

	new_device(x, "d1", 0);
	x->t.keep_posted = false;
	for (int i = 0; i < COMMAND_QUEUE_MAX; i++) {
		struct order o = { .queue_ms = 60000 };

		post_order(x, &o);
	}
	world_run(&x->t);
	x->t.keep_posted = true;
	assert_string_equal(ASK(x, .queue_ms = 60000), "too_many");
}

static void
cancels(void **state)
{
	struct test *x = *state;
	struct msg_command_cancel m = {
		.ref = user_ref(x), .asked_ms = clock_mono_ms(), .tenant = SLICE("t1"), .user = SLICE("owner")
	};
	struct msg_publish p;

	new_device(x, "d1", 0);
	assert_string_equal(ASK(x, .queue_ms = 60000), "queued");
	memcpy(m.command_id, x->last_id, UUID_LEN);
	m.request = ++x->t.requests;
	m.user = SLICE("stranger");
	world_post(&x->t, command_cancel, &m);
	world_run(&x->t);
	assert_string_equal(answer_to(x, m.request), "no_access");
	m.request = ++x->t.requests;
	m.user = SLICE("owner");
	m.tenant = SLICE("t2");
	world_post(&x->t, command_cancel, &m);
	world_run(&x->t);
	assert_string_equal(answer_to(x, m.request), "not_found");
	m.request = ++x->t.requests;
	m.tenant = SLICE("t1");
	listen_as(x, "owner");
	topics_join(x->t.shm, audience_topic_user(shm_hash_key(x->t.shm), SLICE("t1"), SLICE("owner")), GATEWAY_SLOT);
	world_forget(&x->t);
	world_post(&x->t, command_cancel, &m);
	world_run(&x->t);
	/* Who is answered is not told a second time. */
	assert_true(published(x, "command_status", 0, &p));
	assert_true(p.to == PUBLISH_NOT_REF && p.ref == m.ref);
	assert_true(published(x, "command_status", 1, &p));
	assert_int_equal(p.to, PUBLISH_ALL);
	assert_string_equal(answer_to(x, m.request), "ok");
	assert_has(x, "{\"command\":{");
	assert_has(x, "\"status\":\"cancelled\",\"late\":false,\"outcome\":\"not_sent\",\"safeToRetry\":true");
	m.request = ++x->t.requests;
	world_post(&x->t, command_cancel, &m);
	world_run(&x->t);
	assert_string_equal(answer_to(x, m.request), "conflict");
	(void)online(x, 0, "d1");
	assert_int_equal(world_count(&x->t, MSG_device_send), 0);
	assert_int_equal(events(x, "command_cancelled"), 1);
}

static void
judges_conditions(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	struct msg_device_report m = {
		.asked_ms = clock_mono_ms(),
		.tenant = SLICE("t1"), .device = SLICE("d1"),
		.data_json = SLICE("{\"door\":\"closed\",\"n\":1,\"in\":{\"a\":[1,{\"x\":null}],\"b.c\":true}}")
	};

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	assert_string_equal(ASK(x, .only_if = "{\"status.door\":\"closed\"}"), "failed");	/* never told its state */
	assert_has(x, "\"error\":{\"code\":\"precondition\",");
	assert_has(x, "\"outcome\":\"not_sent\",\"safeToRetry\":true");
	m.device_pk = w.device_pk;
	m.epoch = w.epoch;
	m.at = clock_now_ms();
	world_post(&x->t, device_report, &m);
	world_run(&x->t);
	assert_string_equal(ASK(x, .only_if = "{\"status.door\":\"closed\"}"), "sent");
	assert_string_equal(ASK(x, .only_if = "{\"status.door\":\"open\"}"), "failed");
	assert_string_equal(ASK(x, .only_if = "{\"status.door\":\"closed\",\"status.n\":2}"), "failed");
	assert_string_equal(ASK(x, .only_if = "{\"status.n\":1.0}"), "sent");
	assert_string_equal(ASK(x, .only_if = "{\"status.in.a\":[1,{\"x\":null}]}"), "sent");
	assert_string_equal(ASK(x, .only_if = "{\"status.in\":{\"b.c\":true,\"a\":[1.0,{\"x\":null}]}}"), "sent");
	assert_string_equal(ASK(x, .only_if = "{\"status.in.b.c\":true}"), "sent");
	assert_string_equal(ASK(x, .only_if = "{\"status.in.b\":true}"), "failed");
	assert_string_equal(ASK(x, .only_if = "{\"status.nothing\":null}"), "failed");
	assert_string_equal(ASK(x, .only_if = "{\"seenWithinMs\":60000}"), "sent");
	pass(20000);
	assert_string_equal(ASK(x, .only_if = "{\"seenWithinMs\":5000}"), "failed");
}

/* Who asked was told that it did not happen: a door is not opened then because storage had stood still. */
static void
does_not_run_what_is_given_up(void **state)
{
	struct test *x = *state;

	new_device(x, "d1", 0);
	online(x, 0, "d1");
	assert_string_equal(ASK(x, .ago_ms = MSG_ANSWER_MS), "unavailable");
	assert_int_equal(rest_(x, "owner", ROUTE_device_commands, "d1", NULL, NULL), 200);
	assert_has(x, "\"commands\":[]");
	assert_int_equal(events(x, "command_sent"), 0);
	assert_string_equal(ASK(x, .ago_ms = MSG_ANSWER_MS / 2), "sent");
}

static void
remembers_keys(void **state)
{
	struct test *x = *state;
	uint8_t id[UUID_LEN];
	char name[UUID_TEXT_LEN + 1];

	new_device(x, "d1", 0);
	assert_string_equal(ASK(x, .key = "k", .queue_ms = 60000, .params = "{\"a\":1,\"b\":2}"), "queued");
	memcpy(id, x->last_id, UUID_LEN);
	uuid_format(id, name);
	world_forget(&x->t);
	assert_string_equal(ASK(x, .key = "k", .queue_ms = 60000, .params = "{ \"b\": 2, \"a\": 1 }"), "queued");
	assert_has(x, name);
	assert_int_equal(world_count(&x->t, MSG_publish), 1);
	assert_string_equal(ASK(x, .key = "k", .queue_ms = 60000, .params = "{\"a\":2}"), "conflict");
	assert_string_equal(ASK(x, .key = "k", .queue_ms = 60001, .params = "{\"a\":1,\"b\":2}"), "conflict");
	/* Keys are each requester's own. */
	assert_string_equal(ASK(x, .key = "k", .queue_ms = 60000, .role = ROLE_ADMIN, .user = "boss"), "queued");
	assert_false(has(x, name));
	/* A refused request leaves no key behind. */
	assert_string_equal(ASK(x, .key = "k2"), "device_offline");
	assert_string_equal(ASK(x, .key = "k2", .queue_ms = 60000), "queued");
}

static struct msg_device_send_failed
failed_send(struct test *x, unsigned nth)
{
	struct msg_device_send s = sent_to_device(x, nth);
	struct msg_device_send_failed m = { .ref = s.ref, .epoch = s.epoch };

	memcpy(m.command, s.command, UUID_LEN);
	return m;
}

static void
takes_back_what_was_not_sent(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	struct msg_device_send_failed m;

	new_device(x, "d1", 0);
	/* Gone, nothing to wait for: expired. */
	w = online(x, 0, "d1");
	world_forget(&x->t);
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	m = failed_send(x, 0);
	gone(x, &w, device_ref(x, 0));
	world_post(&x->t, device_send_failed, &m);
	world_run(&x->t);
	command_now(x, x->last_id);
	assert_has(x, "\"status\":\"expired\",\"late\":false,\"outcome\":\"not_sent\",\"safeToRetry\":true");
	assert_int_equal(pending_count(x->t.shm), 0);
	/* It may wait: queued again, and sent at the next connection. */
	w = online(x, 0, "d1");
	world_forget(&x->t);
	assert_string_equal(ASK(x, .queue_ms = 60000), "sent");
	m = failed_send(x, 0);
	gone(x, &w, device_ref(x, 0));
	world_post(&x->t, device_send_failed, &m);
	world_run(&x->t);
	command_now(x, x->last_id);
	assert_has(x, "\"status\":\"queued\"");
	assert_has(x, "\"attempt\":0");
	world_forget(&x->t);
	w = online(x, 0, "d1");
	assert_int_equal(world_count(&x->t, MSG_device_send), 1);
	command_now(x, x->last_id);
	assert_has(x, "\"status\":\"sent\"");
	assert_has(x, "\"attempt\":1");
	/* The device is there again by another connection: at once. */
	world_forget(&x->t);
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	m = failed_send(x, 0);
	assert_int_equal(connect_ref(x, 0, "d1", device_ref(x, 3), &w), ERROR_NONE);
	world_forget(&x->t);
	world_post(&x->t, device_send_failed, &m);
	world_run(&x->t);
	assert_int_equal(world_count(&x->t, MSG_device_send), 1);
	assert_true(sent_to_device(x, 0).ref == device_ref(x, 3));
	/* Heard a second time it says nothing of the newer attempt. */
	world_post(&x->t, device_send_failed, &m);
	world_run(&x->t);
	assert_int_equal(world_count(&x->t, MSG_device_send), 1);
}

static void
reconciles(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	uint8_t id[4][UUID_LEN];
	char name[4][UUID_TEXT_LEN + 1];

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	for (int i = 0; i < 4; i++) {
		assert_string_equal(ASK(x, .timeout_ms = i == 1 ? 30000 : 300000), "sent");
		memcpy(id[i], x->last_id, UUID_LEN);
		uuid_format(id[i], name[i]);
	}
	assert_string_equal(ack_from(x, &w, id[0], ACK_EXECUTED, NULL, NULL), "ok");
	assert_string_equal(ack_from(x, &w, id[2], ACK_ACCEPTED, NULL, NULL), "ok");
	pass(31000);
	world_tick(&x->t);
	gone(x, &w, device_ref(x, 0));
	world_forget(&x->t);
	w = online(x, 0, "d1");
	text(x, w.reconcile_json);
	assert_false(has(x, name[0]));
	assert_has(x, name[1]);
	assert_has(x, name[2]);
	assert_has(x, name[3]);
	assert_int_equal(world_count(&x->t, MSG_device_send), 0);
	/* It never got the last: again, under the same id. */
	assert_string_equal(ack_from(x, &w, id[3], ACK_UNKNOWN, NULL, NULL), "ok");
	text(x, sent_to_device(x, 0).payload_json);
	assert_has(x, name[3]);
	assert_has(x, "\"attempt\":2}");
	assert_string_equal(ack_from(x, &w, id[3], ACK_EXECUTED, NULL, NULL), "ok");
	command_now(x, id[3]);
	assert_has(x, "\"status\":\"executed\"");
	assert_has(x, "\"attempt\":2");
}

/* A device that says of whatever it is sent that it never got it. */
static void
gives_up_on_a_device_that_never_gets_it(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	world_forget(&x->t);
	assert_string_equal(ASK(x, .timeout_ms = 300000), "sent");
	for (int i = 1; i < COMMAND_ATTEMPTS; i++) {
		assert_string_equal(ack(x, &w, i % 2 ? ACK_ACCEPTED : ACK_UNKNOWN), "ok");
		if (i % 2)
			assert_string_equal(ack(x, &w, ACK_UNKNOWN), "ok");
	}
	assert_int_equal(world_count(&x->t, MSG_device_send), COMMAND_ATTEMPTS);
	assert_int_equal(pending_count(x->t.shm), 1);
	assert_string_equal(ack(x, &w, ACK_UNKNOWN), "ok");
	assert_int_equal(world_count(&x->t, MSG_device_send), COMMAND_ATTEMPTS);
	assert_int_equal(pending_count(x->t.shm), 0);
	command_now(x, x->last_id);
	assert_has(x, "\"status\":\"failed\"");
	assert_has(x, "\"attempt\":5,");
	assert_has(x, "\"error\":{\"code\":\"device_error\"");
	assert_string_equal(ack(x, &w, ACK_UNKNOWN), "already_final");
	assert_int_equal(events(x, "command_sent"), COMMAND_ATTEMPTS);
	/* Said again and again of one that timed out, it changes nothing after the first time. */
	assert_string_equal(ASK(x, .timeout_ms = 30000), "sent");
	pass(31000);
	world_tick(&x->t);
	for (int i = 0; i < 3; i++) {
		world_forget(&x->t);
		assert_string_equal(ack(x, &w, ACK_UNKNOWN), "ok");
		assert_int_equal(world_count(&x->t, MSG_publish), i == 0);
	}
	command_now(x, x->last_id);
	assert_has(x, "\"step\":\"timeout\"},{\"at\":");
	assert_has(x, "\"step\":\"not_sent\"}]}}");
}

static unsigned
times_in(const char *in, const char *part)
{
	unsigned n = 0;

	for (const char *p = in; (p = strstr(p, part)) != NULL; p++)
		n++;
	return n;
}

/* Sent and taken back without end: the first steps and the newest are kept. */
static void
keeps_traces_short(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	struct msg_device_send_failed m;
	uint8_t id[UUID_LEN];
	size_t len = 0;

	new_device(x, "d1", 0);
	assert_string_equal(ASK(x, .queue_ms = 60000), "queued");
	memcpy(id, x->last_id, UUID_LEN);
	for (int i = 1; i <= 40; i++) {
		world_forget(&x->t);
		w = online(x, 0, "d1");
		m = failed_send(x, 0);
		gone(x, &w, device_ref(x, 0));
		world_post(&x->t, device_send_failed, &m);
		world_run(&x->t);
		command_now(x, id);
		if (i == 20)
			len = strlen(x->answer.data);
	}
	assert_in_range(strlen(x->answer.data), len - 100, len + 100);
	assert_int_equal(times_in(x->answer.data, "\"step\":"), 32);
	assert_has(x, "\"trace\":[{\"at\":");
	assert_has(x, "\"step\":\"stored\",\"by\":\"owner\",\"as\":\"owner\"},{\"at\":");
	assert_has(x, "\"epoch\":1}");
	assert_has(x, "\"epoch\":4}");
	assert_false(has(x, "\"epoch\":5}"));
	assert_false(has(x, "\"epoch\":27}"));
	assert_has(x, "\"epoch\":30}");
	assert_has(x, "\"epoch\":40},{\"at\":");
	assert_has(x, "\"step\":\"queued\"}]}}");
}

/* What devices answer is bounded by their messages; a command is one record all the same where mailboxes are small. */
static void
keeps_answers_that_fit(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	struct buf big = BUF_INIT;

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	buf_putc(&big, '"');
	for (size_t i = 0; i < command_room(inside(x)); i++)
		buf_putc(&big, 'x');
	buf_puts(&big, "\"");
	buf_putc(&big, '\0');
	assert_string_equal(ASK(x, .params = big.data), "invalid_payload");
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	assert_string_equal(ack_from(x, &w, x->last_id, ACK_EXECUTED, big.data, NULL), "ok");
	command_now(x, x->last_id);
	assert_has(x, "\"status\":\"executed\"");
	assert_has(x, "\"result\":null,\"error\":{\"code\":\"device_error\"");
	buf_fini(&big);
}

/* ---------------------------------------------------------------- permissions */

static const char *
share(struct test *x, const char *user, const char *body, unsigned status)
{
	char whole[256];

	snprintf(whole, sizeof(whole), "{\"userId\":\"%s\",%s}", user, body);
	assert_int_equal(rest_(x, "owner", ROUTE_share_add, "d1", NULL, whole), status);
	return x->answer.data;
}

static void
keeps_permissions(void **state)
{
	struct test *x = *state;
	char body[128], when[CLOCK_TEXT_LEN + 1];
	struct msg_publish m;

	new_device(x, "d1", 0);
	(void)online(x, 0, "d1");
	share(x, "viewer", "\"permission\":\"view\"", 201);
	share(x, "driver", "\"permission\":\"control\"", 201);
	share(x, "keeper", "\"permission\":\"admin\"", 201);
	share(x, "opener", "\"permission\":\"control\",\"commands\":[\"unlock_door\"]", 201);
	assert_string_equal(x->answer.data,
	    "{\"share\":{\"userId\":\"opener\",\"permission\":\"control\",\"commands\":[\"unlock_door\"]}}");
	share(x, "owner", "\"permission\":\"view\"", 422);

	assert_string_equal(ASK(x, .user = "stranger"), "no_access");
	assert_string_equal(ASK(x, .user = "stranger", .tenant = "t2"), "not_found");
	assert_string_equal(ASK(x, .user = "boss", .tenant = "t2", .role = ROLE_ADMIN), "not_found");
	assert_string_equal(ASK(x, .user = "viewer"), "no_access");
	assert_string_equal(ASK(x, .user = "driver"), "sent");
	assert_string_equal(ASK(x, .user = "keeper"), "sent");
	assert_string_equal(ASK(x, .user = "opener"), "sent");
	assert_string_equal(ASK(x, .user = "opener", .command = "reboot"), "no_access");
	assert_string_equal(ASK(x, .user = "boss", .role = ROLE_ADMIN), "sent");
	assert_string_equal(ASK(x, .user = "backend", .role = ROLE_SERVICE), "sent");
	assert_int_equal(rest_(x, "opener", ROUTE_device_update, "d1", NULL, "{\"settings\":{}}"), 403);
	assert_int_equal(rest_(x, "opener", ROUTE_device_update, "d1", NULL, "{\"name\":\"n\"}"), 200);
	assert_int_equal(rest_(x, "viewer", ROUTE_device_update, "d1", NULL, "{\"name\":\"n\"}"), 403);
	assert_int_equal(rest_(x, "viewer", ROUTE_device_get, "d1", NULL, NULL), 200);
	assert_has(x, "\"userPermissions\":[\"view\"]");
	assert_int_equal(rest_(x, "viewer", ROUTE_share_list, "d1", NULL, NULL), 403);
	assert_int_equal(rest_(x, "keeper", ROUTE_share_list, "d1", NULL, NULL), 200);
	assert_has(x, "{\"shares\":[{\"userId\":\"driver\",\"permission\":\"control\"},{\"userId\":\"keeper\"");
	assert_int_equal(rest_(x, "keeper", ROUTE_device_delete, "d1", NULL, NULL), 403);
	assert_int_equal(rest_(x, "viewer", ROUTE_device_events, "d1", NULL, NULL), 200);
	assert_int_equal(rest_(x, "stranger", ROUTE_device_events, "d1", NULL, NULL), 403);
	assert_int_equal(rest_(x, "stranger", ROUTE_device_commands, "d1", NULL, NULL), 403);
	assert_int_equal(rest_(x, "stranger", ROUTE_device_list, NULL, NULL, NULL), 200);
	assert_string_equal(x->answer.data, "{\"devices\":[],\"nextCursor\":null}");
	assert_int_equal(rest_(x, "viewer", ROUTE_device_stats, NULL, NULL, NULL), 200);
	assert_has(x, "\"total\":1,\"owned\":0,\"shared\":1");
	assert_int_equal(rest_(x, "stranger", ROUTE_events, NULL, NULL, NULL), 200);
	assert_string_equal(x->answer.data, "{\"events\":[],\"nextCursor\":null}");
	assert_int_equal(rest_(x, "viewer", ROUTE_events, NULL, "limit=2", NULL), 200);
	assert_has(x, "\"nextCursor\":\"");

	/* Withdrawn, and over. */
	listen_as(x, "driver");
	world_forget(&x->t);
	assert_int_equal(rest_as(x, ROLE_USER, "t1", "owner", ROUTE_share_remove, "d1", "driver", NULL, NULL, NULL), 204);
	assert_true(published(x, "device_unshared", 0, &m));
	assert_string_equal(x->answer.data, "{\"deviceId\":\"d1\",\"permission\":\"control\",\"by\":\"owner\"}");
	assert_int_equal(m.admins, 0);
	assert_int_equal(world_count(&x->t, MSG_audience), 1);
	assert_string_equal(ASK(x, .user = "driver"), "no_access");
	assert_int_equal(rest_as(x, ROLE_USER, "t1", "owner", ROUTE_share_remove, "d1", "driver", NULL, NULL, NULL), 404);
	clock_format(clock_now_ms() + 60000, when);
	snprintf(body, sizeof(body), "\"permission\":\"control\",\"expiresAt\":\"%s\"", when);
	share(x, "guest", body, 201);
	assert_string_equal(ASK(x, .user = "guest"), "sent");
	pass(61000);
	assert_string_equal(ASK(x, .user = "guest"), "no_access");
	assert_int_equal(rest_(x, "guest", ROUTE_device_list, NULL, NULL, NULL), 200);
	assert_string_equal(x->answer.data, "{\"devices\":[],\"nextCursor\":null}");

	/* All members may look. */
	members_may_view(x);
	assert_int_equal(rest_(x, "stranger", ROUTE_device_get, "d1", NULL, NULL), 200);
	assert_has(x, "\"userPermissions\":[\"view\"]");
	assert_string_equal(ASK(x, .user = "stranger"), "no_access");
	assert_int_equal(rest_as(x, ROLE_USER, "t2", "stranger", ROUTE_device_get, "d1", NULL, NULL, NULL, NULL), 404);
}

static const char *
subscribe_as(struct test *x, const char *user, const char *devices)
{
	struct msg_subscribe m = {
		.request = ++x->t.requests, .ref = user_ref(x), .tenant = SLICE("t1"), .user = slice_of(user),
		.check = 1, .devices_json = slice_of(devices)
	};

	world_read(&x->t, subscribe, &m);
	return answer_to(x, m.request);
}

static void
subscribes(void **state)
{
	struct test *x = *state;

	new_device(x, "d1", 0);
	assert_string_equal(subscribe_as(x, "owner", "[\"d1\"]"), "ok");
	assert_string_equal(x->answer.data, "{\"devices\":[\"d1\"]}");
	assert_string_equal(subscribe_as(x, "owner", "[]"), "ok");
	assert_string_equal(subscribe_as(x, "owner", "[\"d1\",\"d2\"]"), "not_found");
	assert_string_equal(subscribe_as(x, "stranger", "[\"d1\"]"), "no_access");
}

/* ---------------------------------------------------------------- visitors, tickets */

static void
decides_on_visitors(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	struct msg_visitor_new m = { .tenant = SLICE("t1"), .device = SLICE("d1"), .name = SLICE("Ann") };
	const char *id = "01890000-0000-7000-8000-000000000001";

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	listen_as(x, "owner");
	m.device_pk = w.device_pk;
	must(uuid_parse(slice_of(id), m.visitor_id) == 0);
	world_post(&x->t, visitor_new, &m);
	world_post(&x->t, visitor_new, &m);	/* told twice: one visit */
	world_run(&x->t);
	assert_true(published(x, "new_visitor", 0, NULL));
	assert_has(x, "\"name\":\"Ann\",\"snapshotUrl\":null,\"data\":null,\"status\":\"pending\"");
	assert_false(published(x, "new_visitor", 1, NULL));
	assert_int_equal(rest_(x, "owner", ROUTE_visitor_list, NULL, "status=pending", NULL), 200);
	assert_has(x, id);
	assert_int_equal(rest_(x, "stranger", ROUTE_visitor_list, NULL, NULL, NULL), 200);
	assert_false(has(x, id));
	assert_int_equal(rest_(x, "stranger", ROUTE_visitor_approve, id, NULL, NULL), 403);
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t2", "boss", ROUTE_visitor_approve, id, NULL, NULL, NULL, NULL), 404);
	world_forget(&x->t);
	assert_int_equal(rest_(x, "owner", ROUTE_visitor_approve, id, NULL, NULL), 200);
	assert_has(x, "\"status\":\"approved\",\"decidedBy\":\"owner\"");
	assert_int_equal(world_count(&x->t, MSG_device_send), 1);
	command_now(x, x->fresh_id);
	assert_has(x, "\"command\":\"unlock_door\"");
	assert_int_equal(rest_(x, "owner", ROUTE_visitor_deny, id, NULL, NULL), 409);
	assert_has(x, "\"code\":\"conflict\"");
	assert_has(x, "\"visitor\":{\"visitorId\":");
	assert_int_equal(world_count(&x->t, MSG_device_send), 1);
	assert_int_equal(events(x, "visitor_requested"), 1);
	assert_int_equal(events(x, "visitor_decided"), 1);
}

static void
takes_tickets_once(void **state)
{
	struct test *x = *state;
	struct msg_ticket_put put = {
		.request = 1, .ref = user_ref(x), .asked_ms = clock_mono_ms(), .lasts_ms = 30000, .expires = 77,
		.role = ROLE_ADMIN,
		.tenant = SLICE("t1"), .user = SLICE("u"), .role_name = SLICE("admin")
	};
	struct msg_ticket_take take = { .request = 2, .ref = user_ref(x) };
	struct msg_ticket_taken taken;
	struct posted *p;

	world_post(&x->t, ticket_put, &put);
	world_post(&x->t, ticket_take, &take);
	take.request = 3;
	world_post(&x->t, ticket_take, &take);
	world_run(&x->t);
	p = world_posted(&x->t, MSG_ticket_taken, 0);
	assert_int_equal(msg_unpack_ticket_taken(&taken, (const uint8_t *)p->bytes.data, p->bytes.len), 0);
	assert_int_equal(taken.code, ERROR_NONE);
	assert_int_equal(taken.expires, 77);
	assert_true(slice_is(taken.user, "u"));
	p = world_posted(&x->t, MSG_ticket_taken, 1);
	assert_int_equal(msg_unpack_ticket_taken(&taken, (const uint8_t *)p->bytes.data, p->bytes.len), 0);
	assert_int_equal(taken.code, ERROR_invalid_token);
}

static void
tells_values_by_rest(void **state)
{
	struct test *x = *state;
	struct msg_publish m;

	new_device(x, "d1", 0);
	listen_as(x, "owner");
	assert_int_equal(rest_(x, "owner", ROUTE_telemetry, NULL, NULL, "{\"deviceId\":\"d1\",\"data\":{\"t\":1}}"), 202);
	assert_true(published(x, "telemetry", 0, &m));
	assert_has(x, "\"deviceId\":\"d1\",\"epoch\":0,\"at\":");
	assert_int_equal(m.kind, PUBLISH_CONFLATED);
	world_forget(&x->t);
	assert_int_equal(rest_(x, "owner", ROUTE_telemetry, NULL, NULL,
	    "[{\"deviceId\":\"d1\",\"data\":{}},{\"deviceId\":\"d2\",\"data\":{}}]"), 404);
	assert_int_equal(rest_(x, "owner", ROUTE_telemetry, NULL, NULL, "[{\"deviceId\":\"d1\"}]"), 422);
	assert_int_equal(rest_(x, "stranger", ROUTE_telemetry, NULL, NULL, "{\"deviceId\":\"d1\",\"data\":{}}"), 403);
	assert_false(published(x, "telemetry", 0, NULL));
	assert_int_equal(rest_as(x, ROLE_SERVICE, "t1", "b", ROUTE_telemetry, NULL, NULL, NULL,
	    "[{\"deviceId\":\"d1\",\"data\":{}},{\"deviceId\":\"d1\",\"data\":{}}]", NULL), 202);
	assert_string_equal(x->answer.data, "{\"accepted\":2}");
}

/* ---------------------------------------------------------------- stored telemetry */

static void
set_page_limit(struct test *x, int pages)
{
	struct sqlite_db *s = (struct sqlite_db *)inside(x)->desk.db;
	char sql[64];

	snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %d", pages);
	assert_int_equal(sqlite3_exec(s->handle, sql, NULL, NULL, NULL), SQLITE_OK);
}

static void
measure(struct test *x, const struct msg_device_welcome *w, int64_t at, const char *data)
{
	struct msg_sample m = {
		.device_pk = w->device_pk, .epoch = w->epoch, .at = at, .tenant = SLICE("t1"), .device = SLICE("d1"),
		.data_json = slice_of(data)
	};

	world_post(&x->t, sample, &m);
}

/* The values of "n" that a page shows, as a text; the page is in x->answer. */
static const char *
measured(struct test *x, const char *query)
{
	static char out[4096];
	size_t len = 0;

	assert_int_equal(rest_(x, "owner", ROUTE_device_telemetry, "d1", query, NULL), 200);
	for (const char *p = x->answer.data; (p = strstr(p, "\"n\":")) != NULL && len + 16 < sizeof(out); p++)
		len += (size_t)snprintf(out + len, 16, "%d ", atoi(p + 4));
	out[len] = '\0';
	return out;
}

/* The cursor of the page in x->answer, as a query. */
static const char *
next_page(struct test *x, const char *more)
{
	static char query[96];
	const char *p = strstr(x->answer.data, "\"nextCursor\":\"");

	must(p != NULL);
	p += strlen("\"nextCursor\":\"");
	snprintf(query, sizeof(query), "%scursor=%.*s", more, (int)strcspn(p, "\""), p);
	return query;
}

static uint64_t
counted(struct test *x, unsigned counter)
{
	return x->t.w.stats[counter];
}

static void
stores_telemetry(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	int64_t now = INT64_C(1769860800000);

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	assert_int_equal(rest_(x, "owner", ROUTE_device_telemetry, "d1", NULL, NULL), 200);
	assert_string_equal(x->answer.data, "{\"telemetry\":[],\"nextCursor\":null}");
	measure(x, &w, now + 1, "{\"n\":1}");
	measure(x, &w, now + 3, "{\"n\":3}");
	measure(x, &w, now + 2, "{\"n\":2}");
	measure(x, &w, 0, "{\"n\":0}");
	world_run(&x->t);
	world_tick(&x->t);
	assert_string_equal(measured(x, NULL), "3 2 1 0 ");
	assert_has(x, "{\"telemetry\":[{\"deviceId\":\"d1\",\"epoch\":1,\"at\":\"2026-01-31T12:00:00.003Z\",\"data\":{\"n\":3}},{");
	assert_has(x, "\"at\":\"1970-01-01T00:00:00.000Z\"");
	assert_has(x, "\"nextCursor\":null");
	assert_string_equal(measured(x, "limit=2"), "3 2 ");
	/* A page goes on where the last one ended, whatever came since. */
	measure(x, &w, now + 4, "{\"n\":4}");
	assert_int_equal(rest_(x, "owner", ROUTE_telemetry, NULL, NULL,
	    "[{\"deviceId\":\"d1\",\"data\":{\"n\":5},\"at\":\"2026-01-31T12:00:00.005Z\"},"
	    "{\"deviceId\":\"d1\",\"data\":{\"n\":6},\"at\":\"2026-01-31T12:00:00.006Z\"}]"), 202);
	world_tick(&x->t);
	assert_string_equal(measured(x, "limit=5"), "6 5 4 3 2 ");
	assert_has(x, "\"epoch\":0,\"at\":\"2026-01-31T12:00:00.006Z\"");
	assert_string_equal(measured(x, next_page(x, "limit=1&")), "1 ");
	assert_string_equal(measured(x, next_page(x, "limit=1&")), "0 ");
	assert_string_equal(measured(x, "since=2026-01-31T12:00:00.003Z&until=2026-01-31T12:00:00.005Z"), "4 3 ");
	for (size_t i = 0; i < 4; i++) {
		static const char *const wrong[] = {
			"cursor=5", "cursor=AAAAAAAAAAAAAAAAAAAAAA", "since=yesterday",
			"cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		};

		assert_int_equal(rest_(x, "owner", ROUTE_device_telemetry, "d1", wrong[i], NULL), 422);
	}
	assert_int_equal(rest_(x, "stranger", ROUTE_device_telemetry, "d1", NULL, NULL), 403);
	assert_int_equal(rest_(x, "owner", ROUTE_device_telemetry, "d2", NULL, NULL), 404);
	assert_int_equal(rest_as(x, ROLE_ADMIN, "t2", "owner", ROUTE_device_telemetry, "d1", NULL, NULL, NULL, NULL), 404);
	assert_int_equal(counted(x, STAT_TELEMETRY_STORED), 7);
	assert_int_equal(counted(x, STAT_TELEMETRY_UNSTORED), 0);
	/* Of a number that is another's. */
	w.device_pk++;
	measure(x, &w, now, "{\"n\":9}");
	world_run(&x->t);
	world_tick(&x->t);
	assert_int_equal(counted(x, STAT_TELEMETRY_UNSTORED), 1);
	assert_int_equal(counted(x, STAT_TELEMETRY_STORED), 7);
}

static unsigned
samples_left(struct test *x, int64_t device_pk)
{
	struct db_sample_filter f = { .device_pk = device_pk };
	struct db_page page = { .rows = 0 };
	unsigned n;

	db_page_want(&page, 100000);
	page.bytes = SIZE_MAX;
	assert_int_equal(db_samples(inside(x)->desk.db, &f, &page), DB_OK);
	n = page.count;
	db_page_fini(&page);
	return n;
}

static void
forgets_telemetry(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	for (int i = 0; i < 1100; i++)
		measure(x, &w, clock_now_ms() + 1000000, "{\"n\":1}");
	world_run(&x->t);
	world_tick(&x->t);
	assert_int_equal(samples_left(x, w.device_pk), 1100);
	/* Writing removes what is too old, twice as much as it writes. */
	pass(5000);
	keep_telemetry(x, 1);
	measure(x, &w, 1, "{\"n\":2}");
	world_run(&x->t);
	world_tick(&x->t);
	assert_int_equal(samples_left(x, w.device_pk), 1099);
	/* Turned off: nothing is shown, none is taken, and what there was goes. */
	keep_telemetry(x, 0);
	assert_string_equal(measured(x, NULL), "");
	measure(x, &w, 1, "{\"n\":3}");
	assert_int_equal(rest_(x, "owner", ROUTE_telemetry, NULL, NULL, "{\"deviceId\":\"d1\",\"data\":{}}"), 202);
	assert_int_equal(counted(x, STAT_TELEMETRY_TAKEN), 1101);
	pass(5000);
	for (int i = 0; i < 3; i++) {
		inside(x)->retention.next_mono = 1;
		world_tick(&x->t);
	}
	assert_int_equal(samples_left(x, w.device_pk), 0);
	/* What a deleted device leaves, in steps, the first of them at once. */
	keep_telemetry(x, 100000);
	for (int i = 0; i < 1100; i++)
		measure(x, &w, 1, "{\"n\":1}");
	world_run(&x->t);
	world_tick(&x->t);
	assert_int_equal(samples_left(x, w.device_pk), 1100);
	assert_int_equal(rest_(x, "owner", ROUTE_device_delete, "d1", NULL, NULL), 204);
	measure(x, &w, 1, "{\"n\":1}");
	world_run(&x->t);
	world_tick(&x->t);
	assert_int_equal(samples_left(x, w.device_pk), 98);	/* two went beside the one that came too late */
	world_tick(&x->t);
	assert_int_equal(samples_left(x, w.device_pk), 0);
	new_device(x, "d1", 0);
	assert_string_equal(measured(x, NULL), "");
}

/* What waits in a process's memory goes with the process, and is counted. */
static void
counts_lost_telemetry(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	char data[32];

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	for (int i = 0; i < 300; i++) {
		snprintf(data, sizeof(data), "{\"n\":%d}", i);
		measure(x, &w, i, data);
	}
	world_run(&x->t);
	assert_int_equal(counted(x, STAT_TELEMETRY_STORED), 256);
	sample_fini(inside(x));
	memset(&inside(x)->samples, 0, sizeof(inside(x)->samples));
	x->t.w.stats[STAT_TELEMETRY_UNSTORED] -= 44;	/* a killed process counts nothing */
	world_kill(&x->t);
	world_start(&x->t);
	world_tick(&x->t);
	assert_int_equal(samples_left(x, w.device_pk), 256);
	assert_int_equal(counted(x, STAT_TELEMETRY_UNSTORED), 44);
	assert_int_equal(counted(x, STAT_TELEMETRY_TAKEN), 300);
}

/* A process that ends in order leaves nothing behind in its memory. */
static void
stores_telemetry_before_it_ends(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	storage_role.drain(&x->t.w, clock_mono_ms() + 10000);
	for (int i = 0; i < 700; i++)
		measure(x, &w, i, "{\"n\":1}");
	world_run(&x->t);
	assert_true(x->t.w.draining);
	assert_int_equal(samples_left(x, w.device_pk), 700);
	assert_int_equal(counted(x, STAT_TELEMETRY_STORED), 700);
}

/* Samples that can't be written refuse nobody, and wait out a lock. */
static void
loses_telemetry_alone(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	char *big = must_alloc(20001), path[128];
	sqlite3 *other;

	memset(big, ' ', 20000);
	memcpy(big, "{}", 2);
	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	set_page_limit(x, 1);
	for (int i = 0; i < 20; i++)
		measure(x, &w, i, big);
	world_run(&x->t);
	world_tick(&x->t);
	assert_int_equal(counted(x, STAT_TELEMETRY_UNSTORED), 20);
	assert_string_equal(ack(x, &w, ACK_EXECUTED), "ok");
	set_page_limit(x, 1000000);
	measure(x, &w, 1, big);
	world_run(&x->t);
	world_tick(&x->t);
	assert_int_equal(samples_left(x, w.device_pk), 1);

	snprintf(path, sizeof(path), "%s/belay.db", x->folder);
	assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	measure(x, &w, 2, big);
	world_run(&x->t);
	world_tick(&x->t);
	for (int i = 0; i < 1000; i++) {
		measure(x, &w, i, big);
		if (i % 100 == 99)
			world_run(&x->t);
	}
	world_tick(&x->t);
	assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(other);
	world_tick(&x->t);
	/* As many as there is room for. */
	assert_int_equal(samples_left(x, w.device_pk) + counted(x, STAT_TELEMETRY_UNSTORED) - 20, 1002);
	assert_true(samples_left(x, w.device_pk) > 300 && samples_left(x, w.device_pk) < 500);
	free(big);
}

/* ---------------------------------------------------------------- what was missed */

/* What clients are shown for a place in a list of a tenant.  Overwritten by the next call. */
static const char *
shown(struct test *x, enum cursor_kind kind, int64_t tenant_pk, int64_t place)
{
	static char text[64];
	struct buf b = BUF_INIT;

	cursor_put(&storage_of(&x->t.w)->desk, &b, kind, tenant_pk, place);
	assert_int_equal(b.len, 22);
	snprintf(text, sizeof(text), "%.*s", (int)b.len, b.data);
	buf_fini(&b);
	return text;
}

/* All messages of all parts, one per line, in x->answer; the last part is returned. */
static struct msg_resume_part
missed(struct test *x, const char *user, enum role role, const char *cursor, uint32_t limit)
{
	struct msg_resume m = {
		.ref = user_ref(x), .role = role, .limit = limit, .tenant = SLICE("t1"),
		.user = slice_of(user), .cursor = slice_of(cursor)
	};
	struct msg_resume_part part = { .last = 0 };

	world_run(&x->t);
	buf_clear(&x->answer);
	do {
		struct slice rest;

		m.request = ++x->t.requests;
		m.begin = part.until != 0 ? RESUME_ON : RESUME_CURSOR;
		m.after = part.after;
		m.until = part.until;
		m.count = part.count;
		world_forget(&x->t);
		world_read(&x->t, resume, &m);
		assert_int_equal(x->t.posted_count, 1);
		assert_int_equal(x->t.posted[0].kind, MSG_resume_part);
		assert_int_equal(msg_unpack_resume_part(&part, (const uint8_t *)x->t.posted[0].bytes.data,
		    x->t.posted[0].bytes.len), 0);
		assert_true(part.last || part.after > m.after);
		for (rest = part.messages; rest.len > 0;) {
			struct json_value v;
			uint32_t len;

			memcpy(&len, rest.p, sizeof(len));
			assert_int_equal(json_parse((struct slice){ rest.p + 4, len }, 32, &v), 0);
			buf_put(&x->answer, rest.p + 4, len);
			buf_putc(&x->answer, '\n');
			rest.p += 4 + len;
			rest.len -= 4 + len;
		}
	} while (!part.last);
	buf_putc(&x->answer, '\0');
	return part;
}

static void
shows_what_was_missed(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	struct msg_resume_part p;
	struct msg_device_report m = {
		.asked_ms = clock_mono_ms(), .tenant = SLICE("t1"), .device = SLICE("d1"),
		.data_json = SLICE("{\"a\":1}")
	};
	struct msg_visitor_new v = { .tenant = SLICE("t1"), .device = SLICE("d1"), .name = SLICE("Ann") };
	static const char *const bad[] = { "abc", "2", "1000000", "-5", "AAAAAAAAAAAAAAAAAAAAAA" };
	char wanted[64];

	new_device(x, "d1", 0);
	new_device(x, "d2", 1);		/* event 2 */
	w = online(x, 0, "d1");
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	m.device_pk = v.device_pk = w.device_pk;
	m.epoch = w.epoch;
	world_post(&x->t, device_report, &m);
	uuid_new(v.visitor_id);
	world_post(&x->t, visitor_new, &v);
	world_run(&x->t);
	share(x, "viewer", "\"permission\":\"view\"", 201);
	assert_string_equal(ack(x, &w, ACK_EXECUTED), "ok");
	gone(x, &w, device_ref(x, 0));

	p = missed(x, "owner", ROLE_USER, shown(x, CURSOR_EVENT, 1, 2), 100);
	assert_int_equal(p.code, ERROR_NONE);
	assert_int_equal(p.count, 6);
	assert_has(x, "{\"type\":\"device_connected\",\"payload\":{\"deviceId\":\"d1\",\"epoch\":1,\"transport\":\"ws\",\"at\":");
	assert_has(x, "{\"type\":\"command_status\",\"payload\":{\"commandId\":");
	assert_has(x, "{\"type\":\"device_status\",\"payload\":{\"deviceId\":\"d1\",\"epoch\":1,\"at\":");
	assert_has(x, "{\"type\":\"new_visitor\",");
	assert_has(x, "\"type\":\"device_disconnected\"");
	snprintf(wanted, sizeof(wanted), "\"cursor\":\"%s\"}", shown(x, CURSOR_EVENT, 1, 3));
	assert_has(x, wanted);
	assert_null(strstr(x->answer.data, "device_shared"));
	p = missed(x, "viewer", ROLE_USER, shown(x, CURSOR_EVENT, 1, 2), 100);
	assert_int_equal(p.count, 6);
	assert_has(x, "{\"type\":\"device_shared\",\"payload\":{\"deviceId\":\"d1\",\"permission\":\"view\",\"by\":\"owner\"}");
	assert_null(strstr(x->answer.data, "new_visitor"));
	p = missed(x, "stranger", ROLE_USER, shown(x, CURSOR_EVENT, 1, 2), 100);
	assert_int_equal(p.count, 0);
	assert_int_equal(p.code, ERROR_NONE);
	p = missed(x, "boss", ROLE_ADMIN, shown(x, CURSOR_EVENT, 1, 1), 100);
	assert_has(x, "device_registered");
	p = missed(x, "owner", ROLE_USER, shown(x, CURSOR_EVENT, 1, 9), 100);
	assert_int_equal(p.count, 0);
	/* Too much, made up, of another store. */
	p = missed(x, "owner", ROLE_USER, shown(x, CURSOR_EVENT, 1, 2), 3);
	assert_int_equal(p.code, ERROR_too_many);
	assert_int_equal(p.dropped, 6);
	assert_true(p.since > 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		p = missed(x, "owner", ROLE_USER, bad[i], 100);
		assert_int_equal(p.code, ERROR_too_many);
		assert_int_equal(p.dropped, 0);
	}
	assert_int_equal(missed(x, "owner", ROLE_USER, shown(x, CURSOR_EVENT, 1, 1000000), 100).dropped, 0);
	assert_int_equal(missed(x, "owner", ROLE_USER, shown(x, CURSOR_EVENT, 2, 2), 100).code, ERROR_too_many);
	assert_int_equal(missed(x, "owner", ROLE_USER, shown(x, CURSOR_COMMAND, 1, 2), 100).code, ERROR_too_many);
}

/* Of their own tenant, list and store, and good for as long as that store is. */
static void
cursors_say_nothing(void **state)
{
	static const struct {
		enum http_route route;
		const char *target;
		enum cursor_kind kind;
	} lists[] = {
		{ ROUTE_events, NULL, CURSOR_EVENT }, { ROUTE_device_events, "d1", CURSOR_EVENT },
		{ ROUTE_device_commands, "d1", CURSOR_COMMAND }, { ROUTE_visitor_list, NULL, CURSOR_VISITOR }
	};
	struct test *x = *state;
	char query[80], before[64];

	new_device(x, "d1", 0);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		for (int kind = CURSOR_OLDER_EVENT; kind <= CURSOR_EVENT; kind++)
			for (int64_t tenant = 1; tenant <= 3; tenant++) {
				bool good = kind == (int)lists[i].kind && tenant == 1;

				snprintf(query, sizeof(query), "cursor=%s", shown(x, (enum cursor_kind)kind, tenant, 7));
				assert_int_equal(rest_(x, "owner", lists[i].route, lists[i].target, query, NULL), good ? 200 : 422);
			}
		assert_int_equal(rest_(x, "owner", lists[i].route, lists[i].target, "cursor=7", NULL), 422);
	}
	/* In a tenant that never was nothing is a cursor. */
	snprintf(query, sizeof(query), "cursor=%s", shown(x, CURSOR_EVENT, 0, 7));
	assert_int_equal(rest_as(x, ROLE_USER, "t9", "u", ROUTE_events, NULL, NULL, query, NULL, NULL), 422);

	strcpy(before, shown(x, CURSOR_EVENT, 1, 1));
	assert_string_equal(before, shown(x, CURSOR_EVENT, 1, 1));
	world_stop(&x->t);
	world_start(&x->t);
	assert_string_equal(before, shown(x, CURSOR_EVENT, 1, 1));
}

/* ---------------------------------------------------------------- the wall clock is set */

/* Clocks are set back and forward, and storage is killed before it could look. */
static void
waits_by_the_time_that_passes(void **state)
{
	static const int64_t steps[] = { -HOUR_MS, 2 * HOUR_MS, -25 * HOUR_MS };
	struct test *x = *state;
	uint8_t shortly[UUID_LEN], long_[UUID_LEN];

	new_device(x, "d1", 0);
	for (unsigned killed = 0; killed < 2; killed++)
		for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
			assert_string_equal(ASK(x, .queue_ms = 30000), "queued");
			memcpy(shortly, x->last_id, UUID_LEN);
			assert_string_equal(ASK(x, .queue_ms = 300000), "queued");
			memcpy(long_, x->last_id, UUID_LEN);
			set_by_ms += steps[i];
			if (killed) {
				world_kill(&x->t);
				world_start(&x->t);
			}
			world_tick(&x->t);
			pass(31000);
			world_tick(&x->t);
			command_now(x, shortly);
			assert_has(x, "\"status\":\"expired\"");
			command_now(x, long_);
			assert_has(x, "\"status\":\"queued\"");
			/* One that is asked for now has its own time. */
			assert_string_equal(ASK(x, .queue_ms = 300000), "queued");
			world_tick(&x->t);
			command_now(x, x->last_id);
			assert_has(x, "\"status\":\"queued\"");
		}
	world_forget(&x->t);
	(void)online(x, 0, "d1");
	assert_int_equal(world_count(&x->t, MSG_device_send), 2 * 6);
}

/* Of what an earlier run accepted nothing is known but what the wall clock says. */
static void
waits_by_the_wall_clock_from_run_to_run(void **state)
{
	struct test *x = *state;
	struct world second;
	uint8_t old[UUID_LEN], young[UUID_LEN];

	set_by_ms = -HOUR_MS;
	new_device(x, "d1", 0);
	assert_string_equal(ASK(x, .queue_ms = 60000), "queued");
	memcpy(old, x->last_id, UUID_LEN);
	world_stop(&x->t);
	second = x->t;
	world_open(&x->t, x->url, false);
	world_start(&x->t);
	assert_string_equal(ASK(x, .queue_ms = 60000), "queued");
	memcpy(young, x->last_id, UUID_LEN);
	world_tick(&x->t);
	command_now(x, old);
	assert_has(x, "\"status\":\"queued\"");
	set_by_ms = 0;			/* the clock was wrong when the machine started */
	world_tick(&x->t);
	command_now(x, old);
	assert_has(x, "\"status\":\"expired\"");
	command_now(x, young);
	assert_has(x, "\"status\":\"queued\"");
	second.w.data = NULL;
	world_close(&second);
}

static enum error_code
ticket_after(struct test *x, int64_t lasts_ms, int64_t step_ms, int64_t wait_ms)
{
	struct msg_ticket_put put = {
		.request = ++x->t.requests, .ref = user_ref(x), .asked_ms = clock_mono_ms(), .lasts_ms = lasts_ms,
		.expires = clock_now_ms() + 48 * HOUR_MS, .tenant = SLICE("t1"), .user = SLICE("u")
	};
	struct msg_ticket_take take = { .request = ++x->t.requests, .ref = user_ref(x) };
	struct msg_ticket_taken taken;
	struct posted *p;

	digest_random(put.ticket_hash, sizeof(put.ticket_hash));
	memcpy(take.ticket_hash, put.ticket_hash, sizeof(take.ticket_hash));
	world_post(&x->t, ticket_put, &put);
	world_run(&x->t);
	set_by_ms += step_ms;
	pass(wait_ms);
	world_forget(&x->t);
	world_post(&x->t, ticket_take, &take);
	world_run(&x->t);
	p = world_posted(&x->t, MSG_ticket_taken, 0);
	assert_int_equal(msg_unpack_ticket_taken(&taken, (const uint8_t *)p->bytes.data, p->bytes.len), 0);
	return taken.code;
}

static void
measures_by_the_time_that_passes(void **state)
{
	struct test *x = *state;
	struct order o = { .user = "owner" };
	struct msg_device_welcome w;
	char name[UUID_TEXT_LEN + 1];
	uint64_t request;

	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	/* How old a question is. */
	request = post_order(x, &o);
	set_by_ms += HOUR_MS;
	world_run(&x->t);
	assert_string_equal(answer_to(x, request), "sent");
	/* Whether a command's time is over. */
	set_by_ms += HOUR_MS;
	world_forget(&x->t);
	assert_string_equal(ack(x, &w, ACK_UNKNOWN), "ok");
	assert_int_equal(world_count(&x->t, MSG_device_send), 1);
	/* When a device was heard. */
	set_by_ms -= HOUR_MS;
	pass(20000);
	world_tick(&x->t);
	assert_string_equal(ASK(x, .only_if = "{\"seenWithinMs\":5000}"), "failed");
	assert_string_equal(ASK(x, .only_if = "{\"seenWithinMs\":60000}"), "sent");
	set_by_ms += HOUR_MS;
	world_tick(&x->t);
	assert_string_equal(ASK(x, .only_if = "{\"seenWithinMs\":60000}"), "sent");
	assert_int_equal(rest_(x, "owner", ROUTE_device_get, "d1", NULL, NULL), 200);
	assert_has(x, "\"status\":\"online\"");
	/* Tickets. */
	assert_int_equal(ticket_after(x, 60000, 0, 0), ERROR_NONE);
	assert_int_equal(ticket_after(x, 60000, 2 * HOUR_MS, 0), ERROR_NONE);
	assert_int_equal(ticket_after(x, 60000, -HOUR_MS, 0), ERROR_NONE);
	assert_int_equal(ticket_after(x, 20000, -HOUR_MS, 40000), ERROR_invalid_token);
	/* Keys are not forgotten before their time. */
	assert_string_equal(ASK(x, .key = "k"), "sent");
	uuid_format(x->last_id, name);
	set_by_ms += 25 * HOUR_MS;
	inside(x)->retention.next_mono = 0;
	world_tick(&x->t);
	assert_string_equal(ASK(x, .key = "k"), "sent");
	assert_has(x, name);
}

/* ---------------------------------------------------------------- crashes and failures */

/* How long the machine, busy with other things, let this process wait for a processor since it began. */
static int64_t
waited_ms(void)
{
	long long ran = 0, waited = 0;
	FILE *f = fopen("/proc/self/schedstat", "r");

	if (f != NULL && fscanf(f, "%lld %lld", &ran, &waited) != 2)
		waited = 0;
	if (f != NULL)
		fclose(f);
	return waited / 1000000;
}

static void
survives_a_full_disk(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	struct msg_store_probe probe = { .ref = user_ref(x) };
	struct msg_command_ack m = { .status = ACK_EXECUTED, .tenant = SLICE("t1"), .device = SLICE("d1") };
	char *big = must_alloc(20001);
	struct order o = { .params = big };

	memset(big, ' ', 20000);
	memcpy(big, "{}", 2);
	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	memcpy(m.command, x->last_id, UUID_LEN);
	m.device_pk = w.device_pk;
	m.ref = w.ref;
	m.request = ++x->t.requests;
	m.verdict = pending_move(x->t.shm, m.command, audience_device_key(shm_hash_key(x->t.shm), SLICE("t1"), SLICE("d1")),
	    PENDING_EXECUTED);
	set_page_limit(x, 1);	/* SQLite takes the present size instead: it can't grow */
	world_forget(&x->t);
	world_post(&x->t, command_ack, &m);
	probe.request = ++x->t.requests;
	for (int i = 0; i < 40; i++)
		post_order(x, &o);
	world_post(&x->t, store_probe, &probe);
	world_run(&x->t);
	assert_string_equal(answer_to(x, probe.request), "unavailable");
	assert_string_equal(answer_to(x, m.request), "nothing");
	assert_int_equal(world_count(&x->t, MSG_device_send), 0);
	assert_true(batch_has_kept(inside(x)));
	world_tick(&x->t);
	set_page_limit(x, 1000000);
	world_tick(&x->t);
	assert_false(batch_has_kept(inside(x)));
	assert_string_equal(answer_to(x, m.request), "ok");
	command_now(x, m.command);
	assert_has(x, "\"status\":\"executed\"");
	assert_string_equal(ask(x, o), "sent");
	free(big);
}

static void
survives_a_lock(void **state)
{
	struct test *x = *state;
	sqlite3 *other;
	char path[128];
	int64_t began;

	new_device(x, "d1", 0);
	snprintf(path, sizeof(path), "%s/belay.db", x->folder);
	assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_string_equal(ASK(x, .queue_ms = 60000), "unavailable");
	began = clock_mono_ms() - waited_ms();
	for (int i = 0; i < 5; i++)
		assert_string_equal(ASK(x, .queue_ms = 60000), "unavailable");
	assert_true(clock_mono_ms() - waited_ms() - began < 1500);
	/* What only reads is answered. */
	assert_int_equal(rest_(x, "owner", ROUTE_device_get, "d1", NULL, NULL), 200);
	assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(other);
	assert_string_equal(ASK(x, .queue_ms = 60000), "queued");
}

/* What GET /api/health/metrics is made of, in x->answer; tenant "": of all. */
static void
counts_of(struct test *x, const char *tenant)
{
	assert_int_equal(rest_as(x, ROLE_USER, tenant, "owner", ROUTE_health_metrics, NULL, NULL, NULL, NULL, NULL), 200);
}

static void
counts_by_tenant(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	uint8_t hash[SHA256_LEN];
	char token[DEVICE_TOKEN_LEN + 1], path[128];
	sqlite3 *other;

	counts_of(x, "t1");
	assert_has(x, "\"events\":0,\"commands\":{\"created\":0,\"executed\":0,\"failed\":0,\"timeout\":0,\"expired\":0,"
	    "\"cancelled\":0,\"pending\":0,\"latencyMs\":{\"p50\":null,\"p90\":null,\"p99\":null}}}");
	new_device(x, "d1", 0);
	auth_device_token_new(token, hash);
	assert_int_equal(rest_as(x, ROLE_USER, "t2", "owner", ROUTE_device_register, NULL, NULL, NULL,
	    "{\"deviceId\":\"d1\",\"name\":\"n\"}", token), 201);
	assert_string_equal(ASK(x, .queue_ms = 300000), "queued");
	counts_of(x, "t1");
	assert_has(x, "\"created\":1,");
	assert_has(x, "\"pending\":0,");
	w = online(x, 0, "d1");		/* it is sent */
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	counts_of(x, "t1");
	assert_has(x, "\"created\":2,\"executed\":0,");
	assert_has(x, "\"pending\":2,");
	assert_string_equal(ack(x, &w, ACK_ACCEPTED), "ok");
	assert_string_equal(ack(x, &w, ACK_EXECUTED), "ok");
	counts_of(x, "t1");
	assert_has(x, "\"events\":5,\"commands\":{\"created\":2,\"executed\":1,");
	assert_has(x, "\"pending\":1,");
	assert_false(has(x, "null"));
	counts_of(x, "t2");
	assert_has(x, "\"events\":1,\"commands\":{\"created\":0,\"executed\":0,");
	counts_of(x, "t3");
	assert_has(x, "\"events\":0,");
	counts_of(x, "");
	assert_has(x, "\"events\":6,\"commands\":{\"created\":2,\"executed\":1,");
	assert_has(x, "\"pending\":1,");

	/* What was rolled back was not. */
	snprintf(path, sizeof(path), "%s/belay.db", x->folder);
	assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_string_equal(ASK(x, .user = "owner"), "unavailable");
	assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(other);
	counts_of(x, "t1");
	assert_has(x, "\"events\":5,\"commands\":{\"created\":2,\"executed\":1,");

	/* A successor counts from its start, but for what waits still. */
	pass(60000);
	world_kill(&x->t);
	world_start(&x->t);
	counts_of(x, "t1");
	assert_has(x, "\"events\":0,\"commands\":{\"created\":0,");
	assert_true(strtol(strchr(x->answer.data, ':') + 1, NULL, 10) < 60000);
	assert_has(x, "\"pending\":1,");
	/* With the device its commands end. */
	assert_int_equal(rest_(x, "owner", ROUTE_device_delete, "d1", NULL, NULL), 204);
	counts_of(x, "t1");
	assert_has(x, "\"timeout\":1,");
	assert_has(x, "\"pending\":0,");
}

/* What is hidden behind much else is found in steps: none looks at more than STEP_ROWS rows. */
static void
looks_in_steps(void **state)
{
	static const char *const queries[] = { "type=x_rare&limit=500%s", "until=2020-01-01T00:00:00.000Z&limit=500%s" };
	static const enum http_route routes[] = { ROUTE_events, ROUTE_device_events };
	struct test *x = *state;
	struct msg_device_welcome w;
	struct msg_device_report m = {
		.asked_ms = clock_mono_ms(), .tenant = SLICE("t1"), .device = SLICE("d1"),
		.data_json = SLICE("{}")
	};

	new_device(x, "d1", 0);
	new_device(x, "d2", 1);
	w = online(x, 0, "d1");
	m.device_pk = w.device_pk;
	m.epoch = w.epoch;
	for (unsigned n = 0; n < 2 * (5 * STEP_ROWS) + 1000; n++) {
		bool rare = n == 10 || n == (5 * STEP_ROWS) || n == (5 * STEP_ROWS) + 1;

		m.event = rare ? SLICE("x_rare") : SLICE("x_usual");
		m.at = rare ? INT64_C(1500000000000) : 0;
		world_post(&x->t, device_report, &m);
		if (n % 500 == 499)
			world_run(&x->t);
	}
	world_run(&x->t);
	for (unsigned i = 0; i < 8; i++) {
		enum http_route route = routes[i / 2 % 2];
		enum role role = i / 4 == 0 ? ROLE_USER : ROLE_ADMIN;
		char query[128], cursor[64] = "";
		unsigned pages = 0, found = 0;
		uint64_t steps = x->t.reader.stats == NULL ? 0 : x->t.reader.stats[STAT_READ_STEPS];

		do {
			struct json_value body, v;
			struct slice next = SLICE_NONE;
			struct buf text = BUF_INIT;

			snprintf(query, sizeof(query), queries[i % 2], cursor);
			assert_int_equal(rest_as(x, role, "t1", "owner", route, route == ROUTE_events ? NULL : "d1", NULL, query,
			    NULL, NULL), 200);
			for (const char *p = x->answer.data; (p = strstr(p, "x_rare")) != NULL; p++)
				found++;
			assert_int_equal(json_parse(slice_of(x->answer.data), 32, &body), 0);
			assert_int_equal(json_get(body, "nextCursor", &v), 0);
			cursor[0] = '\0';
			if (json_text(v, &text, &next) == 0)
				snprintf(cursor, sizeof(cursor), "&cursor=%.*s", (int)next.len, next.p);
			buf_fini(&text);
			pages++;
		} while (cursor[0] != '\0');
		assert_int_equal(found, 3);
		assert_int_equal(pages, 1);
		assert_true(x->t.reader.stats[STAT_READ_STEPS] >= steps + 11);
	}
	/* A dashboard that comes back is not told, either, by a search without an end: here all of the many are its own. */
	assert_int_equal(missed(x, "owner", ROLE_USER, shown(x, CURSOR_EVENT, 1, 2), 100).dropped, 10000);
}

/* Shares are told of in records: as many as fit, and no more. */
static void
limits_shares(void **state)
{
	struct test *x = *state;
	char user[16], body[4800], *at;
	unsigned n, seen = 0;
	int status = 201;

	new_device(x, "d1", 0);
	for (n = 0; n < 1000 && status == 201; n++) {
		at = body + snprintf(body, sizeof(body), "{\"userId\":\"u%u\",\"permission\":\"view\",\"commands\":[\"a\"", n);
		for (int i = 0; i < 63; i++)
			at += snprintf(at, (size_t)(body + sizeof(body) - at), ",\"c%062d\"", i);
		snprintf(at, (size_t)(body + sizeof(body) - at), "]}");
		status = rest_(x, "owner", ROUTE_share_add, "d1", NULL, body);
	}
	assert_int_equal(status, 429);
	n--;
	assert_in_range(n, 200, 300);		/* 8 MB of ring, 4 kB each */
	/* All are told, the device comes in, and who is there already may be given other rights. */
	assert_int_equal(rest_(x, "owner", ROUTE_share_list, "d1", NULL, NULL), 200);
	for (const char *p = x->answer.data; (p = strstr(p, "userId")) != NULL; p++)
		seen++;
	assert_int_equal(seen, n);
	online(x, 0, "d1");
	assert_int_equal(rest_(x, "owner", ROUTE_share_add, "d1", NULL, "{\"userId\":\"u0\",\"permission\":\"control\"}"), 201);
	snprintf(user, sizeof(user), "u%u", n);
	assert_int_equal(rest_(x, user, ROUTE_device_get, "d1", NULL, NULL), 403);
	assert_int_equal(rest_(x, "u1", ROUTE_device_get, "d1", NULL, NULL), 200);
}

/* With a device end all its commands, however many there are. */
static void
ends_all_commands(void **state)
{
	struct test *x = *state;

	new_device(x, "d1", 0);
	online(x, 0, "d1");
	in_flight(x, 5000);
	x->t.keep_posted = false;
	for (int n = 0; n < 4400; n++) {
		struct order o = { .timeout_ms = 300000 };

		post_order(x, &o);
		if (n % 200 == 199)
			world_run(&x->t);
	}
	x->t.keep_posted = true;
	counts_of(x, "t1");
	assert_has(x, "\"pending\":4400,");
	assert_int_equal(rest_(x, "owner", ROUTE_device_delete, "d1", NULL, NULL), 204);
	counts_of(x, "t1");
	assert_has(x, "\"timeout\":4400,");
	assert_has(x, "\"pending\":0,");
	assert_int_equal(pending_count(x->t.shm), 0);
}

/* A claim whose commit failed was never made. */
static void
claims_after_the_commit(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome a;
	struct msg_device_auth in = { .by_token = 1 };
	struct directory_view v;
	char *big = must_alloc(200001);
	struct order o = { .params = big };

	memset(big, ' ', 200000);
	memcpy(big, "{}", 2);
	new_device(x, "d1", 0);
	a = online(x, 0, "d1");
	in.ref = device_ref(x, 9);
	in.request = ++x->t.requests;
	must(auth_device_token_hash(slice_of(x->token[0]), in.token_hash) == 0);
	set_page_limit(x, 1);
	world_forget(&x->t);
	world_post(&x->t, device_auth, &in);
	post_order(x, &o);
	world_run(&x->t);
	assert_int_equal(world_count(&x->t, MSG_kick), 0);
	assert_int_equal(directory_find(x->t.shm, audience_device_key(shm_hash_key(x->t.shm), SLICE("t1"), SLICE("d1")), &v), 1);
	assert_true(v.ref[0] == a.ref);
	assert_int_equal(v.epoch[0], a.epoch);
	set_page_limit(x, 1000000);
	/* Nor is it counted: registered and connected, once. */
	counts_of(x, "t1");
	assert_has(x, "\"events\":2,\"commands\":{\"created\":0,");
	assert_int_equal(counted(x, STAT_EVENTS_STORED), 2);
	assert_int_equal(counted(x, STAT_COMMANDS_CREATED) + counted(x, STAT_COMMANDS_SENT), 0);
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	assert_int_equal(counted(x, STAT_COMMANDS_CREATED), 1);
	assert_int_equal(counted(x, STAT_COMMANDS_SENT), 1);
	free(big);
}

/* A command whose commit failed takes no place in flight, and a successor of the process counts the same. */
static void
knows_what_is_in_flight(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	uint8_t first[UUID_LEN], second[UUID_LEN];
	char *big = must_alloc(20001);
	struct order o = { .timeout_ms = 300000, .params = big };

	memset(big, ' ', 20000);
	memcpy(big, "{}", 2);
	new_device(x, "d1", 0);
	w = online(x, 0, "d1");
	in_flight(x, 1);
	set_page_limit(x, 1);
	for (int i = 0; i < 40; i++)		/* the first ones fit */
		post_order(x, &o);
	world_run(&x->t);
	free(big);
	set_page_limit(x, 1000000);
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	memcpy(first, x->last_id, UUID_LEN);
	assert_string_equal(ASK(x, .user = "owner"), "queued");
	memcpy(second, x->last_id, UUID_LEN);
	world_kill(&x->t);
	world_start(&x->t);
	world_forget(&x->t);
	assert_string_equal(ASK(x, .user = "owner"), "queued");
	assert_int_equal(world_count(&x->t, MSG_device_send), 0);
	assert_string_equal(ack_from(x, &w, first, ACK_EXECUTED, NULL, NULL), "ok");
	assert_int_equal(world_count(&x->t, MSG_device_send), 1);
	command_now(x, second);
	assert_has(x, "\"status\":\"sent\"");
}

/* Until no more goes in.  How many records of what kind does not matter. */
static void
fill_outbox(struct test *x, unsigned slot)
{
	static char bytes[1 << 20];
	struct iovec iov = { bytes, sizeof(bytes) };

	while (outbox_post(x->t.shm, slot, MSG_user_done, 0, SIZE_MAX, &iov, 1) == 0)
		;
	iov.iov_len = 16;
	while (outbox_post(x->t.shm, slot, MSG_user_done, 0, SIZE_MAX, &iov, 1) == 0)
		;
}

static void
empty_outboxes(struct test *x)
{
	do {
		world_collect(&x->t);
		world_forget(&x->t);
	} while (outbox_flush(x->t.shm));
	world_collect(&x->t);
}

/* Two gateways do not read: a command fails to be sent, publications are a gap; and then all goes on. */
static void
fails_what_finds_no_room(void **state)
{
	struct test *x = *state;
	struct order o = { .queue_ms = 0 };
	struct msg_gap gap;
	struct posted *p;

	new_device(x, "d1", 0);
	(void)online(x, 0, "d1");
	listen_as(x, "owner");
	fill_outbox(x, ref_slot(device_ref(x, 0)));
	fill_outbox(x, GATEWAY_SLOT + 1);
	post_order(x, &o);
	storage_role.batch_end(&x->t.w);
	world_run(&x->t);
	empty_outboxes(x);
	world_forget(&x->t);
	storage_role.batch_end(&x->t.w);
	world_run(&x->t);
	assert_int_equal(world_count(&x->t, MSG_gap), 2);
	for (unsigned i = 0; i < 2; i++) {
		p = world_posted(&x->t, MSG_gap, i);
		assert_int_equal(p->slot, GATEWAY_SLOT + i);
		assert_int_equal(msg_unpack_gap(&gap, (const uint8_t *)p->bytes.data, p->bytes.len), 0);
		assert_true(gap.dropped >= 1 && gap.since > 0);
	}
	assert_int_equal(rest_(x, "owner", ROUTE_device_commands, "d1", NULL, NULL), 200);
	assert_has(x, "\"status\":\"expired\"");
	assert_has(x, "\"outcome\":\"not_sent\"");
	/* Its connection took nothing, and is taken for gone; another one is fine. */
	(void)online(x, 0, "d1");
	world_forget(&x->t);
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	assert_true(world_count(&x->t, MSG_publish) > 0);
	assert_int_equal(world_count(&x->t, MSG_gap), 0);
}

/* What waits for a device goes in steps, in order, and what comes meanwhile goes behind it. */
static void
pumps_in_steps(void **state)
{
	struct test *x = *state;
	struct order o = { .queue_ms = 60000 };
	uint8_t ids[100][UUID_LEN];
	struct msg_device_auth in = { .by_token = 1 };
	unsigned n = 0;

	new_device(x, "d1", 0);
	in_flight(x, 1000);
	for (int i = 0; i < 99; i++) {
		assert_string_equal(ASK(x, .queue_ms = 60000), "queued");
		memcpy(ids[i], x->last_id, UUID_LEN);
	}
	world_forget(&x->t);
	in.ref = device_ref(x, 0);
	in.request = ++x->t.requests;
	must(auth_device_token_hash(slice_of(x->token[0]), in.token_hash) == 0);
	world_post(&x->t, device_auth, &in);
	post_order(x, &o);		/* in the same batch */
	memcpy(ids[99], x->last_id, UUID_LEN);
	world_run(&x->t);
	for (size_t i = 0; i < x->t.posted_count; i++) {
		const struct posted *p = &x->t.posted[i];
		struct msg_device_send m;

		if (p->kind != MSG_device_send)
			continue;
		assert_int_equal(msg_unpack_device_send(&m, (const uint8_t *)p->bytes.data, p->bytes.len), 0);
		assert_memory_equal(m.command, ids[n], UUID_LEN);
		n++;
	}
	assert_int_equal(n, 100);
}

static void
forgets_old_things(void **state)
{
	struct test *x = *state;
	struct msg_device_welcome w;
	struct msg_device_report m = {
		.asked_ms = clock_mono_ms(),
		.tenant = SLICE("t1"), .device = SLICE("d1"), .event = SLICE("x_old"), .data_json = SLICE("{}")
	};
	struct msg_resume_part p;
	uint8_t waiting[UUID_LEN];

	new_device(x, "d1", 0);
	assert_string_equal(ASK(x, .queue_ms = 60000), "queued");
	memcpy(waiting, x->last_id, UUID_LEN);
	w = online(x, 0, "d1");
	assert_string_equal(ASK(x, .user = "owner"), "sent");
	assert_string_equal(ack(x, &w, ACK_EXECUTED), "ok");
	m.device_pk = w.device_pk;
	m.epoch = w.epoch;
	m.at = clock_now_ms() - INT64_C(91) * 24 * 3600 * 1000;
	for (int i = 0; i < 3; i++)
		world_post(&x->t, device_report, &m);
	m.at = clock_now_ms();
	m.event = SLICE("x_new");
	world_post(&x->t, device_report, &m);
	world_run(&x->t);
	assert_int_equal(events(x, "x_old"), 3);
	inside(x)->retention.next_mono = 1;
	world_tick(&x->t);
	/* They go by when they came, not by when they say that they happened. */
	assert_int_equal(events(x, "x_old"), 3);
	assert_int_equal(events(x, "x_new"), 1);
	/* Everything is old: what runs stays. */
	pass(5000);
	inside(x)->retention_ms = 1;
	for (int i = 0; i < 5; i++) {
		inside(x)->retention.next_mono = 1;
		world_tick(&x->t);
	}
	assert_int_equal(events(x, ""), 0);
	/* Cursors go on from where they were, the oldest of them not. */
	p = missed(x, "owner", ROLE_USER, shown(x, CURSOR_EVENT, 1, 9), 100);
	assert_int_equal(p.code, ERROR_NONE);
	assert_int_equal(missed(x, "owner", ROLE_USER, shown(x, CURSOR_EVENT, 1, 8), 100).code, ERROR_too_many);
	world_post(&x->t, device_report, &m);
	world_run(&x->t);
	p = missed(x, "owner", ROLE_USER, shown(x, CURSOR_EVENT, 1, 9), 100);
	assert_int_equal(p.count, 1);
	assert_int_equal(rest_(x, "owner", ROUTE_device_commands, "d1", NULL, NULL), 200);
	assert_false(has(x, "\"status\":\"executed\""));
	command_now(x, waiting);
	assert_has(x, "\"status\":\"sent\"");
}

/* Decided by a gateway that died before it told storage: taken back, and timed out. */
static void
takes_back_decisions_of_the_dead(void **state)
{
	struct test *x = *state;
	struct hash128 key = audience_device_key(shm_hash_key(x->t.shm), SLICE("t1"), SLICE("d1"));

	new_device(x, "d1", 0);
	(void)online(x, 0, "d1");
	assert_string_equal(ASK(x, .timeout_ms = 30000), "sent");
	shm_set_self(x->t.shm, GATEWAY_SLOT);
	assert_int_equal(pending_move(x->t.shm, x->last_id, key, PENDING_EXECUTED), PENDING_WON);
	shm_set_self(x->t.shm, STORAGE_SLOT);
	slot_died(x->t.shm, GATEWAY_SLOT);
	slot_take(x->t.shm, GATEWAY_SLOT, ROLE_ID_GATEWAY, 0);
	slot_set_pid(x->t.shm, GATEWAY_SLOT, getpid());
	pass(31000);
	world_tick(&x->t);
	world_tick(&x->t);
	command_now(x, x->last_id);
	assert_has(x, "\"status\":\"sent\"");
	gone_earlier(x, 3000);
	world_tick(&x->t);
	world_tick(&x->t);
	command_now(x, x->last_id);
	assert_has(x, "\"status\":\"timeout\",\"late\":false,\"outcome\":\"unconfirmed\"");
}

static void
skips_torn_records(void **state)
{
	struct test *x = *state;
	struct msg_store_probe probe = { .request = 7, .ref = user_ref(x) };

	buf_clear(&x->t.record);
	buf_puts(&x->t.record, "torn");
	world_post_record(&x->t, MSG_command_new);
	world_post_record(&x->t, MSG_store_reply);
	world_post_record(&x->t, 999);
	world_post(&x->t, store_probe, &probe);
	world_run(&x->t);
	assert_string_equal(answer_to(x, 7), "ok");
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(registers_devices), T(lists_devices), T(updates_and_deletes), T(rotates_tokens),
		T(accepts_and_replaces), T(knows_lost_processes), T(knows_a_lost_instance), T(takes_reports),
		T(runs_a_command), T(normalises_errors), T(times_out), T(refuses_acks_of_others), T(queues_and_keeps_order),
		T(limits_the_queue), T(cancels), T(judges_conditions),
		T(does_not_run_what_is_given_up), T(remembers_keys), T(takes_back_what_was_not_sent),
		T(reconciles), T(gives_up_on_a_device_that_never_gets_it), T(keeps_traces_short), T(keeps_answers_that_fit),
		T(keeps_permissions), T(subscribes), T(decides_on_visitors), T(takes_tickets_once),
		T(tells_values_by_rest), T(stores_telemetry), T(forgets_telemetry), T(counts_lost_telemetry),
		T(stores_telemetry_before_it_ends), T(loses_telemetry_alone), T(shows_what_was_missed), T(cursors_say_nothing),
		T(counts_by_tenant), T(ends_all_commands), T(looks_in_steps), T(limits_shares),
		T(waits_by_the_time_that_passes), T(waits_by_the_wall_clock_from_run_to_run), T(measures_by_the_time_that_passes),
		T(fails_what_finds_no_room), T(pumps_in_steps),
		T(survives_a_full_disk), T(survives_a_lock), T(claims_after_the_commit),
		T(knows_what_is_in_flight), T(forgets_old_things),
		T(takes_back_decisions_of_the_dead), T(skips_torn_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
