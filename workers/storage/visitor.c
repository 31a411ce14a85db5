/*
 * visitor.c: someone asks at a door to be let in; exactly one decision wins.
 * Only the storage process.
 */
#include "msg/schema.h"
#include "storage/rest.h"


static void
put_data(struct buf *b, const struct db_visitor *v)
{
	buf_clear(b);
	buf_puts(b, "{\"visitorId\":");
	buf_put_json_uuid(b, v->id);
	if (v->status != VISITOR_PENDING)
		buf_puts(b, v->status == VISITOR_APPROVED ? ",\"status\":\"approved\"" :
		    ",\"status\":\"denied\"");
	buf_putc(b, '}');
}

/*
 * Stores the event and publishes it to those who may control the device, admins of the tenant among them; not to the
 * connection not_ref.
 */
static enum db_result
tell(struct storage *s, const struct db_device *d, const struct db_visitor *v, const char *what, const char *type,
    struct slice actor, uint64_t not_ref, unsigned *event)
{
	struct buf audience = BUF_INIT;
	struct slice rest = d->audience;
	struct audience_entry entry;
	struct db_event e = {
		.event = slice_of(what), .epoch = d->epoch, .actor = actor, .type = slice_of(type),
		.admins = ADMINS_ALONE
	};
	struct publication p = {
		.tenant = d->tenant, .device = d->id, .admins = ADMINS_ALONE, .type = type,
		.to = not_ref != REF_NONE ? PUBLISH_NOT_REF : PUBLISH_ALL, .ref = not_ref
	};

	put_data(&s->event_json, v);
	buf_clear(&s->desk.json);
	json_visitor(&s->desk.json, v, d->id);
	e.data_json = buf_slice(&s->event_json);
	e.payload = p.payload = buf_slice(&s->desk.json);
	TRY(event_store(s, d, &e, event));
	p.event = *event;
	while (audience_next(&rest, &entry) == 1)
		if (entry.rights >= AUDIENCE_CONTROL)
			audience_put(&audience, entry.expires_ms, entry.rights, entry.user);
	p.audience = buf_slice(&audience);
	publish(&s->desk, &p);
	buf_fini(&audience);
	return DB_OK;
}

/* A visit that is known already takes no more room. */
static enum db_result
has_room(struct storage *s, const struct db_device *d, const struct msg_visitor_new *m, bool *room)
{
	enum db_result result;

	TRY(quota_room(s, d->tenant, room));
	if (*room)
		return DB_OK;
	result = DB(s->desk.db, visitor_get, d->tenant_pk, m->visitor_id, &s->desk.visitor);
	*room = result == DB_OK;
	return result == DB_NONE ? quota_admit(s, d->tenant, m->request, m->ref, room) : result;
}

/* The same visit told twice, by its id, is one visit. */
enum db_result
visitor_new(struct storage *s, const struct msg_visitor_new *m)
{
	struct db_device *d = &s->desk.device;
	struct db_visitor v = {
		.device_pk = m->device_pk, .created_at = s->desk.now, .name = m->name,
		.snapshot_url = m->snapshot_url,
		.data_json = m->data_json
	};
	enum db_result result = storage_device(s, m->device_pk, m->tenant, m->device);
	unsigned event;
	bool room;

	if (result == DB_NONE) {
		reply_error(&s->desk, m->request, m->ref, ERROR_not_found, NULL, NULL);
		return DB_OK;
	}
	if (result == DB_FAILED)
		return DB_FAILED;
	TRY(has_room(s, d, m, &room));
	if (!room)
		return DB_OK;
	memcpy(v.id, m->visitor_id, sizeof(v.id));
	v.tenant_pk = d->tenant_pk;
	TRY(batch_begin(s));
	result = DB(s->desk.db, visitor_insert, &v);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_EXISTS) {
		TRY(DB(s->desk.db, visitor_get, d->tenant_pk, v.id, &s->desk.visitor));
		if (s->desk.visitor.device_pk != d->pk) {
			reply_error(&s->desk, m->request, m->ref, ERROR_conflict, "visitorId",
			    "the id is another visit's");
			return DB_OK;
		}
	}
	if (result == DB_OK)
		TRY(tell(s, d, &v, EVENT_visitor_requested, "new_visitor", SLICE_NONE, REF_NONE, &event));
	reply_json(&s->desk, m->request, m->ref, 200, SLICE("{}"));
	return DB_OK;
}

static enum db_result
answer(struct storage *s, const struct rest *r, const struct db_visitor *v, bool won, unsigned event)
{
	struct buf body = BUF_INIT;

	if (won) {
		buf_puts(&body, "{\"visitor\":");
	} else {
		buf_puts(&body, "{\"error\":{\"code\":\"conflict\",\"message\":\"it was decided "
		    "before\"},\"visitor\":");
	}
	json_visitor(&body, v, s->desk.device.id);
	buf_putc(&body, '}');
	if (won) {
		reply_event(&s->desk, r->m->request, r->m->ref, buf_slice(&body), event);
	} else {
		struct msg_store_reply m = {
			.request = r->m->request, .ref = r->m->ref, .http_status = 409,
			.code = ERROR_conflict,
			.message = SLICE("it was decided before"), .body_json = buf_slice(&body)
		};

		post_to_ref(&s->desk, store_reply, &m);
	}
	buf_fini(&body);
	return DB_OK;
}

static enum db_result
open_door(struct storage *s, const struct rest *r, const struct db_device *d)
{
	struct command_order o = {
		.who = r->who, .id = r->m->fresh_id, .timeout_ms = COMMAND_TIMEOUT_DEFAULT_MS,
		.command = SLICE("unlock_door"),
		.params_json = SLICE("{}"), .store_unsent = true
	};

	return command_order(s, d, &o);
}

static enum db_result
decide(struct storage *s, const struct rest *r, enum visitor_status status)
{
	struct db_visitor *v = &s->desk.visitor;
	struct db_device *d = &s->desk.device;
	uint8_t id[UUID_LEN];
	int64_t tenant_pk;
	unsigned event;
	bool may;
	enum db_result result = uuid_parse(r->m->target, id) == 0 ? db_tenant(s->desk.db,
	    r->who.tenant, false, &tenant_pk) : DB_NONE;

	if (result == DB_OK)
		result = DB(s->desk.db, visitor_get, tenant_pk, id, v);
	if (result == DB_OK)
		result = DB(s->desk.db, device_by_pk, v->device_pk, false, d);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE)
		return rest_error(&s->desk, r, ERROR_not_found, NULL, "no such visitor");
	may = rest_may(&s->desk, r, d);
	if (may && status == VISITOR_APPROVED)
		TRY(access_command(&s->desk, &r->who, d, SLICE("unlock_door"), &may));
	if (!may)
		return rest_error(&s->desk, r, ERROR_no_access, NULL, NULL);
	if (v->status != VISITOR_PENDING)
		return answer(s, r, v, false, 0);
	v->status = status;
	v->decided_at = s->desk.now;
	v->decided_by = r->who.user;
	v->has_command = status == VISITOR_APPROVED;
	if (v->has_command)
		memcpy(v->command_id, r->m->fresh_id, sizeof(v->command_id));
	TRY(batch_begin(s));
	TRY(DB(s->desk.db, visitor_decide, v));
	/* who decides is answered */
	TRY(tell(s, d, v, EVENT_visitor_decided, "visitor_decided", r->who.user, r->m->ref, &event));
	answer(s, r, v, true, event);
	return v->has_command ? open_door(s, r, d) : DB_OK;
}

enum db_result
rest_visitor_approve(struct storage *s, const struct rest *r)
{
	return decide(s, r, VISITOR_APPROVED);
}

enum db_result
rest_visitor_deny(struct storage *s, const struct rest *r)
{
	return decide(s, r, VISITOR_DENIED);
}
