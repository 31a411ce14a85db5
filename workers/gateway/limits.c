/*
 * limits.c: what a connection may say, by a token bucket of its own and the count of its bad
 * messages, and what it counts for in the limits of the whole instance.  One gateway process; the
 * instance's counts are in shared memory, all else in struct conn.
 */
#include <stdlib.h>
#include <string.h>

#include "auth/identity.h"
#include "base/log.h"
#include "base/must.h"
#include "gateway/conn.h"
#include "gateway/device.h"
#include "gateway/gateway.h"
#include "gateway/http.h"
#include "gateway/limits.h"
#include "gateway/peer.h"
#include "gateway/room.h"
#include "msg/audience.h"
#include "shm/buckets.h"
#include "shm/holdings.h"

#define LOG_EVERY_MS	10000
#define AUTHS_PER_MINUTE 10.0f		/* of one connection */
#define REST_MS		2000		/* a pause of this length ends abuse */
#define HUSH_MS		100		/* the tick's, the shortest */
#define HUSH_MAX_MS	500		/* pings, and what is within the rate, wait no longer */
#define READ_SESSION	16384		/* bytes of one in a turn: some 100 messages; then others */
#define READ_HUSHED	512		/* bytes taken at once of one that is not quiet */
#define SECOND_NS	UINT64_C(1000000000)
#define MS_NS		UINT64_C(1000000)

const struct hash128 limits_all = { 0, 0 };

/* The table is full.  Nobody is refused for that, but nobody is to find out by chance either. */
static void
note_uncounted(struct gateway *g)
{
	gateway_count(g, LIMITS_UNCOUNTED, 1);
	if (g->uncounted_ms != 0 && g->w->mono_ms - g->uncounted_ms < LOG_EVERY_MS)
		return;
	g->uncounted_ms = g->w->mono_ms;
	log_warn("the table of limits is full (memory.limits): who is not in it is let in uncounted");
}

/* --- how many connections */

static unsigned
most_of(const struct gateway *g, enum limits_place place)
{
	switch (place) {
	case LIMITS_ALL:
		return g->conf->limits_connections;
	case LIMITS_ADDRESS:
		return g->conf->limits_connections_per_ip;
	case LIMITS_TENANT:
		return g->conf->limits_connections_per_tenant;
	case LIMITS_USER:
		return g->conf->limits_connections_per_user;
	}
	return 0;
}

static bool
take_up_to(struct gateway *g, enum limits_place place, struct hash128 thing, uint32_t most,
    uint8_t *holds)
{
	switch (holdings_take(g->w->shm, thing, g->w->slot, most)) {
	case 1:
		*holds |= (uint8_t)place;
		return true;
	case 0:
		return false;
	default:
		note_uncounted(g);
		return true;
	}
}

bool
limits_take(struct gateway *g, enum limits_place place, struct hash128 thing, uint8_t *holds)
{
	unsigned most = most_of(g, place);

	return most == 0 || take_up_to(g, place, thing, most, holds);
}

void
limits_give(struct gateway *g, enum limits_place place, struct hash128 thing, uint8_t *holds)
{
	if ((*holds & place) == 0)
		return;
	holdings_give(g->w->shm, thing, g->w->slot);
	*holds &= (uint8_t)~place;
}

void
limits_recount(struct gateway *g, enum limits_place place, struct hash128 thing, uint8_t *holds)
{
	if (most_of(g, place) == 0)
		limits_give(g, place, thing, holds);
	else if ((*holds & place) == 0)
		(void)take_up_to(g, place, thing, HOLDINGS_ANY, holds);
}

static struct hash128
tenant_thing(const struct gateway *g, struct slice tenant)
{
	return audience_topic_tenant(shm_hash_key(g->w->shm), tenant);
}

static struct hash128
user_thing(const struct gateway *g, struct slice tenant, struct slice user)
{
	return audience_topic_user(shm_hash_key(g->w->shm), tenant, user);
}

bool
limits_join(struct gateway *g, struct conn *c, struct slice tenant, struct slice user,
    bool replaces)
{
	unsigned of_tenant = most_of(g, LIMITS_TENANT), of_user = most_of(g, LIMITS_USER);

	if (of_tenant > 0 && !take_up_to(g, LIMITS_TENANT, tenant_thing(g, tenant),
	    replaces ? HOLDINGS_ANY : of_tenant, &c->holds)) {
		gateway_count(g, CONNECTIONS_REFUSED, 1);
		return false;
	}
	if (of_user > 0 && user.p != NULL && !take_up_to(g, LIMITS_USER,
	    user_thing(g, tenant, user), of_user, &c->holds)) {
		limits_leave(g, c, tenant, user);
		gateway_count(g, CONNECTIONS_REFUSED, 1);
		return false;
	}
	if (!room_open(g, c, replaces)) {
		limits_leave(g, c, tenant, user);
		return false;
	}
	return true;
}

void
limits_leave(struct gateway *g, struct conn *c, struct slice tenant, struct slice user)
{
	if (c->holds & LIMITS_TENANT)
		limits_give(g, LIMITS_TENANT, tenant_thing(g, tenant), &c->holds);
	if (c->holds & LIMITS_USER)
		limits_give(g, LIMITS_USER, user_thing(g, tenant, user), &c->holds);
	room_enter(g, c, ROOM_STRANGERS);
}

void
limits_reload(struct gateway *g)
{
	struct conn *c;

	for (uint32_t i = 0; (c = conn_at(&g->conns, i)) != NULL; i++) {
		if (conn_phase(c) == CONN_FREE || c->doomed || c->admin || c->guest)
			continue;
		peer_recount(g, c);
		if (c->kind == CONN_USER) {
			struct slice tenant = tenant_name(c->user->tenant);

			limits_recount(g, LIMITS_TENANT, tenant_thing(g, tenant), &c->holds);
			limits_recount(g, LIMITS_USER, user_thing(g, tenant, user_name(c->user)),
			    &c->holds);
		} else if (c->kind == CONN_DEVICE) {
			limits_recount(g, LIMITS_TENANT,
			    tenant_thing(g, tenant_name(c->device->tenant)), &c->holds);
		}
	}
}

/* --- hushing */

struct hush {
	uint64_t ref;
	int64_t due_ms;
};

static bool
is_quiet(const struct gateway *g, const struct conn *c)
{
	return c->refused_count == 0 || (uint32_t)g->w->mono_ms - c->refused_ms >= REST_MS;
}

size_t
limits_read_size(const struct gateway *g, const struct conn *c)
{
	if (c->refused_count > g->conf->limits_message_burst && !is_quiet(g, c))
		return READ_HUSHED;
	return conn_phase(c) == CONN_OPEN ? READ_SESSION : GATEWAY_READ_SIZE;
}

/* One of it was refused.  Beyond the first ones it is not read from for about wait_ms. */
static void
note_refused(struct gateway *g, struct conn *c, int64_t wait_ms)
{
	struct hush *h;

	if (is_quiet(g, c))
		c->refused_count = 0;
	c->refused_ms = (uint32_t)g->w->mono_ms;
	if (c->refused_count < UINT16_MAX)
		c->refused_count++;
	if (c->refused_count <= g->conf->limits_message_burst || c->hushed)
		return;
	if (g->hushed.n == g->hushed.cap) {
		g->hushed.cap = g->hushed.cap == 0 ? 16 : g->hushed.cap * 2;
		g->hushed.v = must_realloc(g->hushed.v, g->hushed.cap * sizeof(*g->hushed.v));
	}
	h = &g->hushed.v[g->hushed.n++];
	h->ref = conn_ref(g, c);
	h->due_ms = g->w->mono_ms + (wait_ms < HUSH_MS ? HUSH_MS :
	    wait_ms > HUSH_MAX_MS ? HUSH_MAX_MS : wait_ms);
	c->hushed = true;
	gateway_count(g, HUSHED, 1);
	if (conn_phase(c) != CONN_HTTP)
		conn_pause_reading(g, c, true);
}

void
limits_tick(struct gateway *g)
{
	struct conn *c;

	for (uint32_t i = 0; i < g->hushed.n; ) {
		if (g->w->mono_ms < g->hushed.v[i].due_ms) {
			i++;
			continue;
		}
		c = conn_of_ref(g, g->hushed.v[i].ref);
		g->hushed.v[i] = g->hushed.v[--g->hushed.n];
		if (c == NULL)
			continue;
		c->hushed = false;
		if (conn_phase(c) == CONN_HTTP)
			http_go_on(g, c);
		else
			conn_pause_reading(g, c, false);
	}
}

void
limits_fini(struct gateway *g)
{
	free(g->hushed.v);
	g->hushed.v = NULL;
}

/* --- how fast */

static uint64_t
now_ns(const struct gateway *g)
{
	return (uint64_t)g->w->mono_ms * MS_NS;
}

/* What a bucket said, in milliseconds to wait. */
static int64_t
wait_ms(struct gateway *g, int64_t wait_ns)
{
	if (wait_ns < 0) {
		note_uncounted(g);
		return 0;
	}
	return (wait_ns + (int64_t)MS_NS - 1) / (int64_t)MS_NS;
}

int64_t
limits_connect_wait_ms(struct gateway *g, struct hash128 address)
{
	unsigned most = g->conf->limits_connects_per_ip;
	struct bucket_rate rate;

	if (most == 0)
		return 0;
	rate = bucket_rate(most, 60 * SECOND_NS, most);
	return wait_ms(g, buckets_take(g->w->shm, address, &rate, now_ns(g)));
}

/* What a tenant says together: one that is too loud is told to wait, so that it can't slow others. */
static struct bucket_rate
tenant_rate(const struct gateway *g)
{
	unsigned rate = g->conf->limits_tenant_message_rate;
	unsigned burst = g->conf->limits_tenant_message_burst;

	return bucket_rate(rate, SECOND_NS, burst > 0 ? burst : rate);
}

/*
 * However many connections a tenant is refused on, together they are refused no more often here
 * than its rate: each waits until those before it are over.
 */
static int64_t
refused_wait_ms(const struct gateway *g, struct tenant *t)
{
	int64_t now = (int64_t)now_ns(g);

	if (t == NULL)
		return HUSH_MAX_MS;
	if (t->refused_ns < now)
		t->refused_ns = now;
	if (t->refused_ns < now + HUSH_MAX_MS * (int64_t)MS_NS)
		t->refused_ns += (int64_t)tenant_rate(g).gap_ns;
	return (t->refused_ns - now) / (int64_t)MS_NS;
}

/* A request (more = 0), or what it turned out to be besides: 0, or the milliseconds to wait. */
static int64_t
take(struct gateway *g, struct hash128 thing, const struct bucket_rate *rate, uint32_t more)
{
	return wait_ms(g, more == 0 ? buckets_take(g->w->shm, thing, rate, now_ns(g)) :
	    buckets_take_more(g->w->shm, thing, rate, more, now_ns(g)));
}

static bool
take_request(struct gateway *g, struct conn *c, const struct identity *who, uint32_t more,
    int64_t *retry_after_ms)
{
	struct slice tenant = slice_of(who->tenant), user = slice_of(who->user);
	bool device = who->role == ROLE_DEVICE;
	uint64_t most = device ? g->conf->limits_message_rate : g->conf->limits_requests_per_user;
	struct bucket_rate rate;

	if (most > 0 && who->role != ROLE_SERVICE) {
		rate = bucket_rate(most, SECOND_NS, device ? g->conf->limits_message_burst : 2 * most);
		*retry_after_ms = take(g, device ? audience_device_key(shm_hash_key(g->w->shm), tenant, user) :
		    user_thing(g, tenant, user), &rate, more);
		if (*retry_after_ms > 0) {
			gateway_count(g, REQUESTS_LIMITED, 1);
			note_refused(g, c, *retry_after_ms);
			return false;
		}
	}
	if (g->conf->limits_tenant_message_rate == 0 || who->any_tenant)
		return true;
	rate = tenant_rate(g);
	*retry_after_ms = take(g, tenant_thing(g, tenant), &rate, more);
	if (*retry_after_ms == 0)
		return true;
	gateway_count(g, TENANT_LIMITED, 1);
	note_refused(g, c, refused_wait_ms(g, tenant_find(g, tenant)));
	return false;
}

bool
limits_request(struct gateway *g, struct conn *c, const struct identity *who,
    int64_t *retry_after_ms)
{
	room_enter(g, c, ROOM_KNOWN);
	return take_request(g, c, who, 0, retry_after_ms);
}

bool
limits_request_more(struct gateway *g, struct conn *c, const struct identity *who, uint32_t more,
    int64_t *retry_after_ms)
{
	return more == 0 || take_request(g, c, who, more, retry_after_ms);
}

/* Many messages are of few tenants: whose connections are here, their buckets are held. */
static int64_t
tenant_wait_ms(struct gateway *g, const struct conn *c)
{
	struct tenant *t = party_tenant(c);
	struct bucket_rate rate;

	if (g->conf->limits_tenant_message_rate == 0 || t == NULL || c->any_tenant)
		return 0;
	if (t->bucket == 0) {
		uint32_t bucket = buckets_hold(g->w->shm, tenant_thing(g, tenant_name(t)),
		    g->w->slot, now_ns(g));

		if (bucket == BUCKET_NONE)
			return wait_ms(g, -1);
		t->bucket = bucket + 1;
	}
	rate = tenant_rate(g);
	return wait_ms(g, buckets_take_held(g->w->shm, t->bucket - 1, &rate, now_ns(g)));
}

void
limits_release(struct gateway *g, struct tenant *t)
{
	if (t->bucket != 0)
		buckets_release(g->w->shm, t->bucket - 1, g->w->slot);
	t->bucket = 0;
}

void
limits_init(struct gateway *g, struct conn *c)
{
	c->tokens = (float)g->conf->limits_message_burst;
	c->rate_ms = c->auth_ms = (uint32_t)g->w->mono_ms;
	c->auths = AUTHS_PER_MINUTE;
}

/* Takes one token of a bucket that fills at rate a second up to burst: 0, or the milliseconds until there is one. */
static int64_t
take_token(float *tokens, uint32_t *at_ms, uint32_t now, float rate, float burst)
{
	*tokens += rate * (float)(now - *at_ms) / 1000.0f;
	if (*tokens > burst)
		*tokens = burst;
	*at_ms = now;
	if (*tokens >= 1.0f) {
		*tokens -= 1.0f;
		return 0;
	}
	return 1 + (int64_t)((1.0f - *tokens) * 1000.0f / rate);
}

bool
limits_auth(struct gateway *g, struct conn *c, int64_t *retry_after_ms)
{
	*retry_after_ms = take_token(&c->auths, &c->auth_ms, (uint32_t)g->w->mono_ms, AUTHS_PER_MINUTE / 60.0f,
	    AUTHS_PER_MINUTE);
	if (*retry_after_ms > 0)
		gateway_count(g, RATE_LIMITED, 1);
	return *retry_after_ms == 0;
}

bool
limits_message(struct gateway *g, struct conn *c, int64_t *retry_after_ms)
{
	float rate = (float)g->conf->limits_message_rate, burst = (float)g->conf->limits_message_burst;
	float rested = rate * REST_MS / 1000.0f < burst - 1.0f ? rate * REST_MS / 1000.0f : burst - 1.0f;
	uint32_t now = (uint32_t)g->w->mono_ms;

	*retry_after_ms = take_token(&c->tokens, &c->rate_ms, now, rate, burst);
	if (*retry_after_ms == 0) {
		if (c->abuse_ms != 0 && c->tokens >= rested)
			c->abuse_ms = 0;
		*retry_after_ms = tenant_wait_ms(g, c);
		if (*retry_after_ms == 0)
			return true;
		gateway_count(g, TENANT_LIMITED, 1);
		note_refused(g, c, refused_wait_ms(g, party_tenant(c)));
		return false;		/* the others' noise: no abuse of this connection */
	}
	gateway_count(g, RATE_LIMITED, 1);
	note_refused(g, c, *retry_after_ms);
	if (c->abuse_ms == 0)
		c->abuse_ms = now != 0 ? now : 1;
	else if (now - c->abuse_ms >= g->conf->limits_abuse_time_ms)
		conn_close(g, c, WS_CLOSE_RATE_LIMITED);
	return false;
}

void
limits_message_more(struct gateway *g, struct conn *c, uint32_t more)
{
	struct tenant *t = party_tenant(c);
	struct bucket_rate rate;

	if (more == 0)
		return;
	c->tokens -= (float)more;
	if (g->conf->limits_tenant_message_rate == 0 || t == NULL)
		return;
	rate = tenant_rate(g);
	(void)take(g, tenant_thing(g, tenant_name(t)), &rate, more);
}

bool
limits_invalid(struct gateway *g, struct conn *c)
{
	uint32_t now = g->wheel.now;

	gateway_count(g, MESSAGES_INVALID, 1);
	traffic_count(g, party_tenant(c), TRAFFIC_INVALID);
	traffic_count(g, party_tenant(c), TRAFFIC_REFUSED);
	if (now - c->invalid_s >= 60) {
		c->invalid_s = now;
		c->invalid_count = 0;
	}
	if (++c->invalid_count < g->conf->limits_invalid_messages)
		return true;
	conn_close(g, c, WS_CLOSE_TOO_MANY_INVALID);
	return false;
}
