/*
 * tell.c: records to storage, in turns.  One gateway process; owns what waits for storage, and the timer that looks
 * whether it may go when no mail comes.
 */
#include <errno.h>
#include <event2/event.h>
#include <string.h>

#include "base/must.h"
#include "gateway/ask.h"
#include "gateway/conn.h"
#include "gateway/device.h"
#include "gateway/gateway.h"
#include "gateway/tell.h"
#include "http/route.h"
#include "msg/audience.h"
#include "shm/pending.h"
#include "store/rate.h"

/*
 * Cost outstanding at storage, of all gateways together.  Storage makes one transaction of all that it finds, and
 * whoever comes meanwhile waits for it: with 8 records that is half a millisecond and the commit.  Measured, with lumps
 * of 1,000 beside a quiet tenant, whose p99 was 1.6 times that of its commands alone with 16, 1.3 with 8 and 1.2 with
 * 4, where no disk has to be waited for.  One tenant alone loses nothing with 256 on their way.
 */
#define ALL		256u
#define OF_TENANT	8u
#define OF_USER		4u
#define LEAST		4u		/* however many gateways there are */
#define COST_BYTES	2048u		/* so many cost as much as a small record does */

#define PAUSE_RECORDS	8u		/* of a connection that wait: more of it is not read */
#define PAUSE_BYTES	65536u
#define LOOK_US		1500		/* what waits is looked at so often when no mail comes */

static uint32_t
share(const struct gateway *g, uint32_t all)
{
	unsigned gateways = gateway_role.count(g->conf);

	return all / gateways > LEAST ? all / gateways : LEAST;
}

static struct turns_limits
limits(const struct gateway *g)
{
	return (struct turns_limits){
		.all = share(g, ALL), .tenant = share(g, OF_TENANT), .user = share(g, OF_USER),
		/* More than storage takes in a second or two would be answered too late. */
		.of_conn = { 256, 256u << 10 }, .of_user = { 4096, 8u << 20 }, .of_tenant = { 8192, 16u << 20 }
	};
}

/* --- whose it is */

static struct slice
owner(const struct device *d)
{
	struct slice rest = { d->audience, d->audience_len };
	struct audience_entry first;

	return audience_next(&rest, &first) == 1 ? first.user : SLICE_NONE;
}

static struct turn_of
of_user(const struct gateway *g, struct slice tenant, struct slice user, uint64_t ref)
{
	const uint8_t *key = shm_hash_key(g->w->shm);

	return (struct turn_of){
		audience_topic_tenant(key, tenant), audience_topic_user(key, tenant, user), ref, false
	};
}

/* Nobody's yet: strangers take turns by their addresses. */
static struct turn_of
of_stranger(const struct gateway *g, const struct conn *c, uint64_t ref)
{
	struct slice address = c == NULL ? SLICE_NONE : slice_bytes(c->address, sizeof(c->address));
	struct turn_of of = of_user(g, SLICE(""), address, ref);

	of.stranger = true;
	return of;
}

static struct turn_of
turn_of(struct gateway *g, const struct conn *c, const struct msg_whose *whose)
{
	if (c != NULL && c->kind == CONN_USER)
		return of_user(g, tenant_name(c->user->tenant), user_name(c->user), whose->ref);
	if (c != NULL && c->kind == CONN_DEVICE)
		return of_user(g, tenant_name(c->device->tenant), owner(c->device), whose->ref);
	if (whose->tenant.len > 0)
		return of_user(g, whose->tenant, whose->user, whose->ref);
	return of_stranger(g, c, whose->ref);
}

/* --- what it is */

static bool
withdraws(uint32_t route)
{
	return route == ROUTE_share_remove || route == ROUTE_device_delete || route == ROUTE_device_token;
}

static unsigned
class_of(const struct gateway *g, uint16_t kind)
{
	const uint8_t *p = (const uint8_t *)g->record.data;
	struct msg_command_ack ack;
	struct msg_rest rest;

	switch (kind) {
	case MSG_device_gone:
	case MSG_device_send_failed:
		return TURN_FIRST;
	case MSG_command_ack:		/* of commands that were sent; anything else is just talk */
		must(msg_unpack_command_ack(&ack, p, g->record.len) == 0);
		return g->owed || ack.verdict == PENDING_WON ? TURN_FIRST : TURN_FACT;
	case MSG_device_report:
	case MSG_visitor_new:
		return TURN_FACT;
	case MSG_token_check:
		return TURN_ASK | TURN_FIRST;
	case MSG_rest:
		must(msg_unpack_rest(&rest, p, g->record.len) == 0);
		return TURN_ASK | (withdraws(rest.route) ? TURN_FIRST : 0);
	default:
		return TURN_ASK;
	}
}

/* What a record is for the limit of what a tenant may store. */
enum stores {
	STORES_NOTHING,
	STORES_FACT,			/* has happened, or withdraws: never refused */
	STORES_MORE
};

static enum stores
route_stores(uint32_t route)
{
	if (store_rate_more(route))
		return STORES_MORE;
	return route == ROUTE_visitor_deny || withdraws(route) ? STORES_FACT : STORES_NOTHING;
}

static enum stores
stores(const struct gateway *g, uint16_t kind, unsigned class)
{
	struct msg_rest rest;

	switch (kind) {
	case MSG_command_new:
	case MSG_device_report:
	case MSG_visitor_new:
		return STORES_MORE;
	case MSG_command_ack:		/* just talk stores nothing */
		return class == TURN_FIRST ? STORES_FACT : STORES_NOTHING;
	case MSG_command_cancel:
	case MSG_device_gone:
		return STORES_FACT;
	case MSG_rest:
		must(msg_unpack_rest(&rest, (const uint8_t *)g->record.data, g->record.len) == 0);
		return route_stores(rest.route);
	default:
		return STORES_NOTHING;
	}
}

/* The record of g->record counts for its tenant.  false: its tenant stores too fast. */
static bool
may_store(struct gateway *g, uint16_t kind, unsigned class, struct slice tenant)
{
	int64_t wait_ms;

	if (g->conf->limits_tenant_store_rate_bytes == 0)
		return true;
	switch (stores(g, kind, class)) {
	case STORES_NOTHING:
		return true;
	case STORES_FACT:
		store_rate_owe(g->w, tenant, g->record.len);
		return true;
	case STORES_MORE:
		break;
	}
	wait_ms = store_rate_take(g->w, tenant, g->record.len);
	if (wait_ms == 0)
		return true;
	g->tell_retry_ms = wait_ms;
	return false;
}

/* --- sending */

static int
post(void *arg, uint16_t kind, struct slice record, uint64_t *at)
{
	struct gateway *g = arg;
	struct iovec iov = { (void *)(uintptr_t)record.p, record.len };
	int slot = gateway_storage_slot(g);

	if (slot == -1) {
		errno = ENOENT;
		return -1;
	}
	return worker_post_at(g->w, (unsigned)slot, kind, &iov, 1, at);
}

static uint64_t
consumed(void *arg)
{
	struct gateway *g = arg;
	int slot = gateway_storage_slot(g);

	return slot == -1 ? UINT64_MAX : mailbox_consumed(g->w->shm, (unsigned)slot);
}

static void
dropped(void *arg, uint64_t request)
{
	struct gateway *g = arg;
	struct ask *a = request == 0 ? NULL : ask_find(g, request);

	if (a != NULL)
		ask_free(g, a);
}

static void
look(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;			/* the turn of the loop that this begins looks */
}

enum error_code
tell_refusal(void)
{
	return errno == EDQUOT ? ERROR_rate_limited : ERROR_unavailable;
}

/* Nobody else is held up by it: it is not heard while more than a few records of its own wait. */
static void
hold(struct gateway *g, struct conn *c)
{
	uint32_t bytes, records = turns_of_conn(&g->to_storage, conn_ref(g, c), &bytes);

	if (records <= PAUSE_RECORDS && bytes <= PAUSE_BYTES)
		return;
	if (!c->waits)
		gateway_count(g, TURNS_HELD, 1);
	conn_hold_reading(g, c, true);
}

int
tell_storage(struct gateway *g, uint16_t kind, struct msg_whose whose)
{
	struct conn *c = conn_of_ref(g, whose.ref);
	struct turn_of of = turn_of(g, c, &whose);
	uint32_t cost = 1 + (uint32_t)(g->record.len / COST_BYTES);
	unsigned class = class_of(g, kind);

	g->tell_retry_ms = TELL_RETRY_MS;
	if (!may_store(g, kind, class, whose.tenant)) {
		errno = EDQUOT;
		return -1;
	}
	if (turns_put(&g->to_storage, &of, class, whose.request, cost, kind, buf_slice(&g->record)) == -1) {
		if (errno == EDQUOT)
			gateway_count(g, TURNS_REFUSED, 1);
		return -1;
	}
	if (turns_waiting(&g->to_storage) > 0 && c != NULL && conn_phase(c) == CONN_OPEN)
		hold(g, c);
	return 0;
}

static void
hear_again(struct gateway *g)
{
	struct conn *c;
	uint64_t ref;

	while ((ref = turns_next_heard(&g->to_storage)) != 0) {
		c = conn_of_ref(g, ref);
		if (c == NULL || !c->waits)
			continue;
		c->heard = true;		/* what it has said meanwhile could not be seen */
		conn_hold_reading(g, c, false);
	}
}

static void
say_how_it_is(struct gateway *g)
{
	struct turns *t = &g->to_storage;

	g->w->stats[STAT_TURNS_WAITING] = turns_waiting(t);
	g->w->stats[STAT_TURNS_OUTSTANDING] = turns_outstanding(t);
	gateway_count(g, TURNS_WAITED, t->waited - g->turns_counted.waited);
	gateway_count(g, TURNS_DROPPED, t->dropped - g->turns_counted.dropped);
	g->turns_counted.waited = t->waited;
	g->turns_counted.dropped = t->dropped;
}

void
tell_turn(struct gateway *g)
{
	static const struct timeval soon = { .tv_usec = LOOK_US };

	turns_pump(&g->to_storage);
	hear_again(g);
	say_how_it_is(g);
	if (turns_waiting(&g->to_storage) > 0 && !evtimer_pending(&g->look, NULL))
		(void)evtimer_add(&g->look, &soon);
}

void
tell_tick(struct gateway *g)
{
	turns_tick(&g->to_storage, g->w->mono_ms);
}

void
tell_flush(struct gateway *g)
{
	turns_flush(&g->to_storage);
	say_how_it_is(g);
}

/* --- nobody waits for it */

void
tell_withdraw(struct gateway *g, const struct ask *a)
{
	turns_withdraw(&g->to_storage, a->ref, a->request);
}

void
tell_ended(struct gateway *g, struct conn *c)
{
	turns_conn_gone(&g->to_storage, conn_ref(g, c));
	conn_hold_reading(g, c, false);
}

/* --- start and end */

void
tell_start(struct gateway *g)
{
	struct turns_receiver storage = { post, consumed, dropped, g };
	struct turns_limits l = limits(g);

	turns_init(&g->to_storage, &storage, &l, g->w->mono_ms);
	g->tell_retry_ms = TELL_RETRY_MS;
	must(evtimer_assign(&g->look, g->w->base, look, g) == 0);
}

void
tell_reload(struct gateway *g)
{
	g->to_storage.limits = limits(g);
}

void
tell_stop(struct gateway *g)
{
	if (g->to_storage.root == NULL)
		return;
	tell_flush(g);
	(void)evtimer_del(&g->look);
	turns_fini(&g->to_storage);
}
