/*
 * rest_share.c: with whom a device is shared.  Only the storage process.
 *
 * Each change rewrites the packed audience in the device's row, sends it to
 * the process that holds the device, and tells the user concerned.  A share
 * that runs out is taken away at its time, whether anybody asks or not: the
 * row itself is the timer, so that nothing is lost with a process.
 */
#include "msg/schema.h"
#include "storage/rest.h"

/* Bytes of a share besides the user's id and the commands: packed, and as JSON. */
#define SHARE_AUDIENCE	10
#define SHARE_JSON	96

static enum db_result
pack_shares(struct storage *s, int64_t device_pk, struct buf *audience)
{
	struct db_page *page = &s->desk.page;
	struct buf after = BUF_INIT;
	enum db_result result;

	do {
		const struct db_share *share;

		result = access_shares(&s->desk, device_pk, &after);
		share = page->row;
		for (unsigned i = 0; result == DB_OK && i < page->count; i++)
			audience_put(audience, share[i].expires_at, (enum audience_rights)share[i].permission,
			    share[i].user);
	} while (result == DB_OK && page->more);
	buf_fini(&after);
	return result;
}

/*
 * What shares say, packed; d keeps showing what was before.  asked_ms: when a right was withdrawn (monotonic),
 * or 0.
 */
static enum db_result
refresh_audience(struct storage *s, const struct db_device *d, int64_t asked_ms)
{
	struct buf audience = BUF_INIT;
	struct directory_view v;
	enum db_result result;

	audience_put(&audience, 0, AUDIENCE_OWNER, d->owner);
	result = pack_shares(s, d->pk, &audience);
	if (result == DB_OK)
		result = DB(s->desk.db, device_set_audience, d->pk, buf_slice(&audience));
	if (result == DB_OK && batch_find(s, desk_device_key(&s->desk, d), &v) == 1) {
		for (unsigned t = 0; t < DIRECTORY_TRANSPORTS; t++) {
			struct msg_audience m = { .ref = v.ref[t], .asked_ms = asked_ms,
			    .audience = buf_slice(&audience) };

			if (v.ref[t] != REF_NONE)
				post_to_ref(&s->desk, audience, &m);
		}
	}
	buf_fini(&audience);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

/* The event, to those who may view the device; the message, to the user concerned. */
static enum db_result
tell(struct storage *s, struct slice by, const struct db_device *d, const char *event,
    struct slice user, enum db_permission permission)
{
	struct buf data = BUF_INIT, payload = BUF_INIT;
	struct db_event e = {
		.event = slice_of(event), .epoch = d->epoch, .actor = by, .type = slice_of(event), .user = user
	};
	unsigned nth;
	enum db_result result;

	buf_puts(&data, "{\"userId\":");
	buf_put_json_string(&data, user);
	buf_printf(&data, ",\"permission\":\"%s\"}", permission_name(permission));
	live_share(&payload, d->id, slice_of(permission_name(permission)), by);
	e.data_json = buf_slice(&data);
	e.payload = buf_slice(&payload);
	result = event_store(s, d, &e, &nth);
	if (result == DB_OK)
		publish_to_user(&s->desk, d, user, event, e.payload, nth);
	buf_fini(&data);
	buf_fini(&payload);
	return result;
}

/* What all shares of a device take: in every record that tells of it, and in the answer that lists them. */
struct sizes {
	const struct db_share *fresh;	/* takes the place of one of the same user */
	size_t audience, json;
};

static void
add_sizes(struct sizes *z, const struct db_share *share)
{
	if (share == z->fresh || !slice_eq(share->user, z->fresh->user)) {
		z->audience += SHARE_AUDIENCE + share->user.len;
		z->json += SHARE_JSON + share->user.len + share->commands_json.len;
	}
}

/*
 * A record holds a quarter of the smallest ring: of that the shares may take a quarter where others of it tell of the
 * device, and half where they are the answer.  Beyond it the device could not even be told that it is connected.
 * DB_NONE: there is no room.
 */
static enum db_result
shares_room(struct storage *s, const struct db_device *d, const struct db_share *fresh)
{
	size_t ring = shm_sizes(s->desk.shm)->mailbox_bytes;
	struct sizes z = { .fresh = fresh };
	struct db_page *page = &s->desk.page;
	struct buf after = BUF_INIT;
	enum db_result result;

	add_sizes(&z, fresh);
	do {
		const struct db_share *share;

		result = access_shares(&s->desk, d->pk, &after);
		share = page->row;
		for (unsigned i = 0; result == DB_OK && i < page->count; i++)
			add_sizes(&z, &share[i]);
	} while (result == DB_OK && page->more);
	buf_fini(&after);
	if (result != DB_OK)
		return DB_FAILED;
	return z.audience <= ring / 16 && z.json <= ring / 8 ? DB_OK : DB_NONE;
}

/*
 * Nobody gives more than they have, to themselves least of all.  DB_NONE: this is more than the share of who gives
 * it, in what it permits, how long, or which commands.
 */
static enum db_result
within_own(struct storage *s, const struct rest *r, const struct db_device *d, const struct db_share *given)
{
	struct db_share *own = &s->desk.share;
	bool commands;

	if (access_level(&s->desk, &r->who, d) == ACCESS_OWNER || r->who.role != ROLE_USER)
		return DB_OK;
	TRY(DB(s->desk.db, share_get, d->pk, r->who.user, own));
	/* Who may only look sends none. */
	commands = own->commands_json.len == 0 || given->permission == DB_VIEW ||
	    (given->commands_json.len > 0 && access_lists_all(own->commands_json, given->commands_json));
	return commands && given->permission <= own->permission &&
	    (own->expires_at == 0 || (given->expires_at != 0 && given->expires_at <= own->expires_at)) ?
	    DB_OK : DB_NONE;
}

static enum db_result
add(struct storage *s, const struct rest *r, const struct field_value *f)
{
	struct db_device *d = &s->desk.device;
	struct db_share share = {
		.user = f[FIELD_device_share_userId].str,
		.permission = (enum db_permission)f[FIELD_device_share_permission].i64,
		.created_at = s->desk.now
	};
	struct buf body = BUF_INIT;
	enum db_result result = rest_device(&s->desk, r, false);

	if (result != DB_OK)
		return result;
	if (slice_eq(share.user, d->owner))
		return rest_error(&s->desk, r, ERROR_invalid_payload, "userId",
		    "the owner has every right already");
	if (f[FIELD_device_share_expiresAt].present) {
		share.expires_at = f[FIELD_device_share_expiresAt].i64;
		if (share.expires_at <= s->desk.now)
			return rest_error(&s->desk, r, ERROR_invalid_payload, "expiresAt",
			    "is in the past");
	}
	if (f[FIELD_device_share_commands].present)
		share.commands_json = f[FIELD_device_share_commands].json.raw;
	result = within_own(s, r, d, &share);
	if (result == DB_NONE)
		return rest_error(&s->desk, r, ERROR_no_access, NULL, "this is more than your own share gives");
	if (result == DB_OK)
		result = shares_room(s, d, &share);
	if (result == DB_NONE)
		return rest_error(&s->desk, r, ERROR_too_many, NULL,
		    "the device is shared with as many users as it may");
	if (result == DB_FAILED)
		return DB_FAILED;
	TRY(batch_begin(s));
	TRY(DB(s->desk.db, share_put, d->pk, d->tenant_pk, &share));
	TRY(refresh_audience(s, d, 0));
	TRY(tell(s, r->who.user, d, EVENT_device_shared, share.user, share.permission));
	buf_puts(&body, "{\"share\":");
	json_share(&body, &share);
	buf_putc(&body, '}');
	rest_ok(&s->desk, r, 201, &body);
	buf_fini(&body);
	return DB_OK;
}

enum db_result
rest_share_add(struct storage *s, const struct rest *r)
{
	struct envelope_fault fault;
	struct fields f;
	enum db_result result;

	fields_init(&f);
	if (schema_parse(BODY_device_share, r->m->body_json, &f, &fault) == -1)
		result = rest_error(&s->desk, r, fault.code, fault.field,
		    fault.message[0] != '\0' ? fault.message : NULL);
	else
		result = add(s, r, f.field);
	fields_fini(&f);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
rest_share_remove(struct storage *s, const struct rest *r)
{
	struct db_device *d = &s->desk.device;
	enum db_result result = rest_device(&s->desk, r, false);

	if (result != DB_OK)
		return result;
	result = DB(s->desk.db, share_get, d->pk, r->m->target2, &s->desk.share);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE)
		return rest_error(&s->desk, r, ERROR_not_found, NULL,
		    "the device is not shared with this user");
	TRY(batch_begin(s));
	TRY(DB(s->desk.db, share_delete, d->pk, r->m->target2));
	TRY(refresh_audience(s, d, r->m->asked_ms));
	TRY(tell(s, r->who.user, d, EVENT_device_unshared, r->m->target2, s->desk.share.permission));
	reply_json(&s->desk, r->m->request, r->m->ref, 204, SLICE_NONE);
	return DB_OK;
}

/* This share has run out. */
static enum db_result
run_out(struct storage *s, int64_t device_pk, const struct db_share *share)
{
	struct db_device *d = &s->desk.device;
	enum db_result result;

	TRY(batch_begin(s));
	TRY(DB(s->desk.db, share_delete, device_pk, share->user));
	result = DB(s->desk.db, device_by_pk, device_pk, false, d);
	if (result != DB_OK)
		return result == DB_FAILED ? DB_FAILED : DB_OK;
	TRY(refresh_audience(s, d, 0));
	return tell(s, SLICE_NONE, d, EVENT_device_unshared, share->user, share->permission);
}

enum db_result
share_tick(struct storage *s)
{
	struct db_share *share = &s->desk.share;
	int64_t device_pk;

	for (unsigned n = 0; n < COMMAND_STEP && !batch_is_large(s); n++) {
		enum db_result result = DB(s->desk.db, share_first_end, &device_pk, share);

		if (result != DB_OK || share->expires_at > s->desk.now)
			return result == DB_FAILED ? DB_FAILED : DB_OK;
		TRY(run_out(s, device_pk, share));
	}
	s->more = true;
	return DB_OK;
}
