/*
 * deliver.c: gives publications to those who may hear them.  One gateway
 * process; the sender named the audience, nobody else is ever looked at.
 */
#include <string.h>

#include "base/must.h"
#include "gateway/api_command.h"
#include "gateway/conn.h"
#include "gateway/dashboard.h"
#include "gateway/deliver.h"
#include "gateway/gateway.h"
#include "gateway/resume.h"
#include "gateway/session.h"
#include "msg/audience.h"
#include "msg/command_json.h"
#include "shm/topics.h"
#include "ws/frame.h"

/* One publication on its way to many: the frame is made for the first who wants it. */
struct delivery {
	const struct msg_publish *m;
	struct frame *frame;
	struct hash128 device_key;
	struct conn *apart;		/* is told otherwise, or not at all */
	bool status;			/* a command's */
	bool followed;			/* somebody here may have asked for this command */
	uint8_t command[UUID_LEN];
};

static void
encode(struct gateway *g, const struct msg_publish *m, struct slice re)
{
	char type[72];

	must(m->type.len < sizeof(type));
	memcpy(type, m->type.p, m->type.len);
	type[m->type.len] = '\0';
	buf_clear(&g->scratch);
	envelope_put(&g->scratch, type, re, m->payload_json,
	    m->cursor.len > 0 ? m->cursor : SLICE_NONE);
}

/* It goes to this connection alone, and answers its request of that id (if any). */
static void
give_apart(struct gateway *g, const struct msg_publish *m, struct conn *c, struct slice re)
{
	struct frame *f;

	encode(g, m, re);
	f = frame_new(WS_FIN | WS_OP_TEXT, buf_slice(&g->scratch));
	output_send(g, c, f);
	frame_put(f);
	party_count_out(g, c);
}

static struct frame *
frame_of(struct gateway *g, struct delivery *d)
{
	if (d->frame != NULL)
		return d->frame;
	encode(g, d->m, SLICE_NONE);
	d->frame = frame_new(WS_FIN | WS_OP_TEXT, buf_slice(&g->scratch));
	d->frame->conflatable = d->m->kind == PUBLISH_CONFLATED;
	d->frame->about = d->device_key;
	return d->frame;
}

static void
give(struct gateway *g, struct delivery *d, struct conn *c)
{
	struct slice re;

	if (c == d->apart || c->doomed)
		return;
	if (conn_phase(c) == CONN_RESUMING) {
		if (d->m->kind != PUBLISH_CONFLATED)	/* telemetry: newer values follow */
			resume_hold(g, c, d->m->place, d->status, frame_of(g, d));
		return;
	}
	if (conn_phase(c) != CONN_OPEN || !dashboard_is_news(c, d->m->place, d->status))
		return;
	if (d->followed && (re = follow_re(g, c, d->command)).p != NULL) {
		give_apart(g, d->m, c, re);
		gateway_count(g, DELIVERIES, 1);
		return;
	}
	if (d->m->device.len > 0 && !dashboard_wants(c, d->device_key))
		return;
	output_send(g, c, frame_of(g, d));
	party_count_out(g, c);
	gateway_count(g, DELIVERIES, 1);
}

/* Is it this connection's as one that sees all of the tenant, whether the audience names its user or not? */
static bool
is_admins(const struct msg_publish *m, const struct conn *c)
{
	if (!c->sees_all)
		return false;
	return m->admins == ADMINS_AND_MEMBERS || (m->admins == ADMINS_ALONE && c->role != ROLE_USER);
}

static void
give_audience(struct gateway *g, struct delivery *d)
{
	const struct msg_publish *m = d->m;
	struct slice rest = m->audience;
	struct audience_entry entry;
	struct conn *next;

	if (m->admins != ADMINS_NONE) {
		const struct tenant *t = tenant_find(g, m->tenant);

		for (struct conn *c = t == NULL ? NULL : tenant_first(g, t); c != NULL; c = next) {
			next = tenant_next(g, c);	/* giving may end the connection */
			if (is_admins(m, c))
				give(g, d, c);
		}
	}
	while (audience_next(&rest, &entry) == 1) {
		const struct user *u;

		if (entry.expires_ms != 0 && entry.expires_ms <= g->w->now_ms)
			continue;
		u = user_find(g, m->tenant, entry.user);
		for (struct conn *c = u == NULL ? NULL : user_first(g, u); c != NULL; c = next) {
			next = user_next(g, c);
			if (!is_admins(m, c))	/* those had it above */
				give(g, d, c);
		}
	}
}

/* Who asked for something goes on hearing of it for as long as it may view the device. */
static bool
may_still_hear(struct gateway *g, const struct msg_publish *m, const struct conn *c)
{
	struct slice rest = m->audience;
	struct audience_entry entry;

	if (c->kind != CONN_USER || c->any_tenant)
		return c->kind == CONN_USER;
	if (!slice_eq(tenant_name(c->user->tenant), m->tenant))
		return false;
	if (is_admins(m, c))
		return true;
	while (audience_next(&rest, &entry) == 1)
		if (slice_eq(entry.user, user_name(c->user)))
			return entry.expires_ms == 0 || entry.expires_ms > g->w->now_ms;
	return false;
}

/* The connection that the publication is about: its answer, or one more change of what it asked for. */
static void
give_ref(struct gateway *g, struct delivery *d, struct conn *c)
{
	const struct msg_publish *m = d->m;
	struct ask *a = m->to == PUBLISH_ANSWER ? ask_find(g, m->request) : NULL;

	if (c != NULL && conn_phase(c) == CONN_HTTP) {
		api_command_changed(g, c, a, m->payload_json);
	} else if (c != NULL && conn_phase(c) == CONN_OPEN && a != NULL) {
		give_apart(g, m, c, ask_re(a));
		if (ask_re(a).p != NULL && command_json_id(m->payload_json, d->command)) {
			follow_add(g, c, d->command, ask_re(a));
			d->followed = true;
		}
	} else if (c != NULL && conn_phase(c) == CONN_OPEN && may_still_hear(g, m, c)) {
		give_apart(g, m, c, d->followed ? follow_re(g, c, d->command) : SLICE_NONE);
	}
	if (a != NULL)
		ask_free(g, a);
}

static bool
is_command(const struct msg_publish *m)
{
	return m->device.len > 0 && slice_is(m->type, "command_status");
}

void
deliver_here(struct gateway *g, const struct msg_publish *m)
{
	struct delivery d = { .m = m, .status = is_command(m) };
	enum command_end end;

	if (m->device.len > 0)
		d.device_key = audience_device_key(shm_hash_key(g->w->shm), m->tenant, m->device);
	if (m->to != PUBLISH_ALL)
		d.apart = conn_of_ref(g, m->ref);
	d.followed = g->follows.count > 0 && d.status && command_json_id(m->payload_json, d.command);
	give_audience(g, &d);
	frame_put(d.frame);
	if (m->to == PUBLISH_WITH_REF || m->to == PUBLISH_ANSWER)
		give_ref(g, &d, d.apart);
	if (!d.followed || (end = command_json_end(m->payload_json)) == COMMAND_RUNS)
		return;
	if (end == COMMAND_TIMED_OUT)
		follow_timed_out(g, d.command);
	else
		follow_end(g, d.command);
}

void
deliver_everywhere(struct gateway *g, const struct msg_publish *m)
{
	const uint8_t *key = shm_hash_key(g->w->shm);
	struct slice rest = m->audience;
	struct audience_entry entry;
	uint64_t slots = 0;

	if (m->admins != ADMINS_NONE)
		slots |= topics_slots(g->w->shm, audience_topic_tenant(key, m->tenant));
	while (audience_next(&rest, &entry) == 1)
		slots |= topics_slots(g->w->shm, audience_topic_user(key, m->tenant, entry.user));
	if (slots & (uint64_t)1 << g->w->slot)
		deliver_here(g, m);
	slots &= ~((uint64_t)1 << g->w->slot);
	if (slots == 0)
		return;
	buf_clear(&g->record);
	msg_pack_publish(&g->record, m);
	for (unsigned slot = 0; slots != 0; slot++, slots >>= 1) {
		struct iovec iov = { g->record.data, g->record.len };

		if ((slots & 1) && worker_post_now(g->w, slot, MSG_publish, &iov, 1) == -1)
			gateway_count(g, TELEMETRY_LOST, 1);
	}
}

void
deliver_gap(struct gateway *g, const struct msg_gap *m)
{
	for (uint32_t i = 0; conn_at(&g->conns, i) != NULL; i++) {
		struct conn *c = conn_at(&g->conns, i);

		if (c->kind != CONN_USER || c->doomed)
			continue;
		if (conn_phase(c) == CONN_RESUMING)
			resume_dropped(c);
		if (conn_phase(c) != CONN_OPEN)
			continue;
		session_gap(g, c, (int64_t)m->dropped, m->since);
	}
}
