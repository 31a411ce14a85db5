/*
 * publish.c: tells dashboards: one record to each process that has a
 * listener on one of the topics.
 */
#include "shm/topics.h"
#include "store/desk.h"

uint64_t
publish_slots(struct desk *k, const struct msg_publish *m)
{
	struct slice rest = m->audience;
	struct audience_entry e;
	uint64_t slots = 0;

	if (topics_count(k->shm) == 0)
		return 0;
	if (m->admins != ADMINS_NONE)
		slots |= topics_slots(k->shm, audience_topic_tenant(k->key, m->tenant));
	while (audience_next(&rest, &e) == 1)
		if (e.expires_ms == 0 || e.expires_ms > k->now)
			slots |= topics_slots(k->shm, audience_topic_user(k->key, m->tenant, e.user));
	return slots;
}

static void
post_to_one(struct desk *k, const struct msg_publish *m, unsigned event)
{
	buf_clear(&k->pack);
	msg_pack_publish(&k->pack, m);
	if (event != 0)
		k->post_event(k, ref_slot(m->ref), MSG_publish, buf_slice(&k->pack), event);
	else
		k->post(k, ref_slot(m->ref), MSG_publish, buf_slice(&k->pack));
}

void
publish(struct desk *k, const struct publication *p)
{
	struct msg_publish m = {
		.kind = p->conflated ? PUBLISH_CONFLATED : PUBLISH_LOSSLESS, .admins = p->admins,
		.tenant = p->tenant, .device = p->device,
		.audience = p->audience, .type = slice_of(p->type), .payload_json = p->payload
	};
	uint64_t all = ~UINT64_C(0);

	if (p->event != 0)
		m.cursor = CURSOR_ROOM;
	if (p->to != PUBLISH_ALL && p->ref != REF_NONE && ref_slot(p->ref) < SHM_MAX_SLOTS) {
		uint64_t bit = UINT64_C(1) << ref_slot(p->ref);

		m.to = (uint8_t)p->to;
		m.ref = p->ref;
		m.request = p->request;
		if (p->to == PUBLISH_NOT_REF)
			k->publish(k, &m, bit, p->event);
		else
			post_to_one(k, &m, p->event);
		all &= ~bit;
		m.to = PUBLISH_ALL;
		m.ref = REF_NONE;
		m.request = 0;
	}
	if (m.audience.len > 0 || m.admins != ADMINS_NONE)
		k->publish(k, &m, all, p->event);
}

void
publish_device(struct desk *k, const struct db_device *d, const char *type,
    struct slice payload, unsigned event)
{
	struct publication p = {
		.tenant = d->tenant, .device = d->id, .audience = d->audience,
		.admins = ADMINS_AND_MEMBERS, .type = type, .payload = payload, .event = event
	};

	publish(k, &p);
}

void
publish_to_user(struct desk *k, const struct db_device *d, struct slice user, const char *type,
    struct slice payload, unsigned event)
{
	struct buf audience = BUF_INIT;
	struct publication p = {
		.tenant = d->tenant, .type = type, .payload = payload, .event = event
	};

	audience_put(&audience, 0, AUDIENCE_VIEW, user);
	p.audience = buf_slice(&audience);
	publish(k, &p);
	buf_fini(&audience);
}
