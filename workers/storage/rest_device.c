/*
 * rest_device.c: registering, showing, changing and deleting devices.  Only
 * the storage process.
 */
#include <stdio.h>

#include "auth/device_token.h"
#include "base/conf.h"
#include "base/must.h"
#include "msg/schema.h"
#include "storage/rest.h"

static void
put_device_and_token(struct storage *s, struct buf *b, const struct db_device *d,
    struct slice token)
{
	buf_puts(b, "{\"device\":");
	json_device(s, b, d);
	buf_puts(b, ",\"deviceToken\":");
	buf_put_json_string(b, token);
	buf_putc(b, '}');
}

/* Whom the whole device is shown with its token, once. */
static enum db_result
answer_with_token(struct storage *s, const struct rest *r, int64_t pk, unsigned status)
{
	struct buf body = BUF_INIT;
	enum db_result result = DB(s->db, device_by_pk, pk, true, &s->device);

	if (result != DB_OK)
		return DB_FAILED;
	put_device_and_token(s, &body, &s->device, r->m->token);
	rest_ok(s, r, status, &body);
	buf_fini(&body);
	return DB_OK;
}

/* The body's fields over their defaults. */
static void
take_fields(const struct field_value *f, struct db_device *d)
{
	if (f[FIELD_device_register_name].present)
		d->name = f[FIELD_device_register_name].str;
	if (f[FIELD_device_register_deviceType].present)
		d->type = f[FIELD_device_register_deviceType].str;
	if (f[FIELD_device_register_tags].present)
		d->tags_json = f[FIELD_device_register_tags].json.raw;
	if (f[FIELD_device_register_metadata].present)
		d->metadata_json = f[FIELD_device_register_metadata].json.raw;
	if (f[FIELD_device_register_settings].present)
		d->settings_json = f[FIELD_device_register_settings].json.raw;
}

static enum db_result
insert(struct storage *s, const struct rest *r, struct db_device *d)
{
	uint8_t hash[SHA256_LEN];
	enum db_result result;

	if (auth_device_token_hash(r->m->token, hash) == -1)
		return rest_error(s, r, ERROR_internal, NULL, NULL);
	TRY(batch_begin(s));
	result = DB(s->db, device_insert, d, hash);
	if (result == DB_EXISTS) {
		/* Read again after a crash: it is the one that this request made. */
		if (s->record.again && DB(s->db, device_by_token, hash, &s->device) == DB_OK &&
		    slice_eq(s->device.id, d->id))
			return answer_with_token(s, r, s->device.pk, 201);
		return rest_error(s, r, ERROR_conflict, "deviceId", "the id is taken");
	}
	if (result != DB_OK)
		return result;
	TRY(event_tell(s, d, "device_registered", r->who.user, SLICE("{}")));
	return answer_with_token(s, r, d->pk, 201);
}

/* May the tenant have one more device?  DB_NONE: it has enough. */
static enum db_result
tenant_room(struct storage *s, const struct rest *r)
{
	unsigned limit = s->w->conf->limits_devices_per_tenant;
	struct db_stats stats;
	int64_t tenant_pk;

	if (limit == 0)
		return DB_OK;
	TRY(rest_tenant_devices(s, r, &stats, &tenant_pk));
	return stats.total < limit ? DB_OK : DB_NONE;
}

enum db_result
rest_device_register(struct storage *s, const struct rest *r)
{
	struct db_device d = {
		.tenant = r->who.tenant, .owner = r->who.user, .created_at = s->now,
		.type = SLICE("door-lock"),
		.tags_json = SLICE("[]"), .metadata_json = SLICE("{}"), .settings_json = SLICE("{}")
	};
	struct buf audience = BUF_INIT;
	char fresh[UUID_TEXT_LEN + 1];
	struct envelope_fault fault;
	struct fields f;
	enum db_result result;

	fields_init(&f);
	if (schema_parse(BODY_device_register, r->m->body_json, &f, &fault) == -1) {
		result = rest_error(s, r, fault.code, fault.field,
		    fault.message[0] != '\0' ? fault.message : NULL);
	} else {
		take_fields(f.field, &d);
		uuid_format(r->m->fresh_id, fresh);
		d.id = f.field[FIELD_device_register_deviceId].present ?
		    f.field[FIELD_device_register_deviceId].str : slice_of(fresh);
		if (r->who.role == ROLE_SERVICE && f.field[FIELD_device_register_ownerId].present)
			d.owner = f.field[FIELD_device_register_ownerId].str;
		audience_put(&audience, 0, AUDIENCE_OWNER, d.owner);
		d.audience = buf_slice(&audience);
		result = s->record.again ? DB_OK : tenant_room(s, r);
		if (result == DB_NONE)
			result = rest_error(s, r, ERROR_too_many, NULL, "the tenant has as many devices as it may");
		else if (result == DB_OK)
			result = insert(s, r, &d);
	}
	fields_fini(&f);
	buf_fini(&audience);
	return result;
}

/* Lists */

/*
 * offline includes unknown.  But for offline these are no columns: rows are looked at one by one, not
 * more than SCAN_MAX for one request; the page may then be short, and its cursor goes on behind them.
 */
#define SCAN_MAX 5000

struct device_page {
	struct rest_list l;
	struct slice status;		/* to be looked at; empty: those that the query found */
	unsigned scanned;
};

static bool
has_status(struct storage *s, const struct db_device *d, struct slice status)
{
	return status.len == 0 || slice_is(status, json_presence_status(s, d));
}

static bool
show_device(void *arg, const struct db_device *d)
{
	struct device_page *p = arg;
	struct rest_list *l = &p->l;

	if (p->scanned++ == SCAN_MAX) {
		l->more = true;
		return false;
	}
	if (has_status(l->s, d, p->status)) {
		if (!list_next(l))
			return false;
		json_device(l->s, &l->body, d);
	}
	list_cursor_text(l, d->id);
	return true;
}

/* What the status asks of the rows, and what is left to be looked at. */
static bool
read_status(struct storage *s, const struct rest *r, struct db_device_filter *f, struct slice *rest)
{
	struct slice status;

	*rest = SLICE_NONE;
	if (!rest_query(s, r, "status", &status))
		return false;
	if (status.len == 0)
		return true;
	if (slice_is(status, "online") || slice_is(status, "suspect")) {
		f->online = 1;
	} else if (slice_is(status, "offline") || slice_is(status, "unknown")) {
		f->online = 0;
	} else {
		rest_error(s, r, ERROR_invalid_payload, "status", "must be online, suspect, offline or unknown");
		return false;
	}
	if (!slice_is(status, "offline"))
		*rest = status;
	return true;
}

enum db_result
rest_device_list(struct storage *s, const struct rest *r)
{
	struct db_device_filter f = { .online = -1 };
	struct device_page p = { .scanned = 0 };
	unsigned limit;
	enum db_result result;

	if (!rest_page(s, r, &limit, CURSOR_NONE, NULL) || !rest_query(s, r, "cursor", &f.after_id) ||
	    !read_status(s, r, &f, &p.status) ||
	    !rest_query(s, r, "type", &f.type) || !rest_query(s, r, "tag", &f.tag) ||
	    !rest_query(s, r, "q", &f.q))
		return DB_OK;
	if (f.after_id.len > 0 && !schema_is_id(f.after_id))
		return rest_error(s, r, ERROR_invalid_payload, "cursor", "not a cursor of this list");
	f.limit = p.status.len > 0 ? SCAN_MAX + 1 : limit + 1;
	result = access_scope(s, &r->who, &f.scope);
	if (result == DB_FAILED)
		return DB_FAILED;
	list_open(s, &p.l, "devices", limit);
	if (result == DB_OK && DB(s->db, device_list, &f, show_device, &p) == DB_FAILED) {
		buf_fini(&p.l.body);
		buf_fini(&p.l.cursor);
		return DB_FAILED;
	}
	return list_close(&p.l, r);
}

static bool
show_type(void *arg, struct slice type, int64_t count)
{
	struct buf *b = arg;

	if (b->len > 0)
		buf_putc(b, ',');
	buf_put_json_string(b, type);
	buf_putc(b, ':');
	buf_put_i64(b, count);
	return true;
}

enum db_result
rest_device_stats(struct storage *s, const struct rest *r)
{
	struct db_scope scope;
	struct db_stats stats = { 0, 0, 0 };
	struct buf types = BUF_INIT, body = BUF_INIT;
	enum db_result result = access_scope(s, &r->who, &scope);

	if (result == DB_OK)
		result = DB(s->db, device_stats, &scope, &stats, show_type, &types);
	if (result != DB_FAILED) {
		buf_printf(&body,
		    "{\"total\":%lld,\"owned\":%lld,\"shared\":%lld,\"online\":%lld,\"offline\":%lld,\"byType\":{",
		    (long long)stats.total, (long long)stats.owned, (long long)(stats.total - stats.owned),
		    (long long)stats.online, (long long)(stats.total - stats.online));
		buf_put_slice(&body, buf_slice(&types));
		buf_puts(&body, "}}");
		rest_ok(s, r, 200, &body);
	}
	buf_fini(&types);
	buf_fini(&body);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

/* One device */

enum db_result
rest_device_get(struct storage *s, const struct rest *r)
{
	static const char *const rights[] = { "\"view\"", ",\"control\"", ",\"admin\"",
	    ",\"owner\"" };
	struct buf body = BUF_INIT;
	enum db_result result = rest_device(s, r, true, ACCESS_VIEW);
	enum access level;

	if (result != DB_OK)
		return result;
	level = access_level(s, &r->who, &s->device);
	buf_puts(&body, "{\"device\":");
	json_device(s, &body, &s->device);
	buf_puts(&body, ",\"userPermissions\":[");
	for (int i = 0; i <= (int)level; i++)
		buf_puts(&body, rights[i]);
	buf_puts(&body, "]}");
	rest_ok(s, r, 200, &body);
	buf_fini(&body);
	return DB_OK;
}

/* New settings go to the device too, as soon as it can be reached. */
static enum db_result
send_settings(struct storage *s, const struct rest *r, const struct db_device *d,
    struct slice settings_json)
{
	struct command_order o = {
		.who = r->who, .id = r->m->fresh_id, .timeout_ms = COMMAND_TIMEOUT_DEFAULT_MS,
		.queue_ms = QUEUE_MAX_MS,
		.command = SLICE("update_settings"), .params_json = settings_json
	};

	return command_order(s, d, &o);
}

static enum db_result
update(struct storage *s, const struct rest *r, const struct field_value *f)
{
	struct db_device *d = &s->device;
	bool settings = f[FIELD_device_update_settings].present, may = true;
	struct buf data = BUF_INIT, body = BUF_INIT;
	unsigned changed = 0;
	enum db_result result = rest_device(s, r, true, ACCESS_CONTROL);

	if (result != DB_OK)
		return result;
	if (settings)
		TRY(access_command(s, &r->who, d, SLICE("update_settings"), &may));
	if (!may)
		return rest_error(s, r, ERROR_no_access, NULL, NULL);
	buf_puts(&data, "{\"changed\":[");
#define TAKE(name, to, part) \
	if (f[FIELD_device_update_##name].present) { \
		to = f[FIELD_device_update_##name].part; \
		buf_puts(&data, changed++ > 0 ? ",\"" #name "\"" : "\"" #name "\""); \
	}
	TAKE(name, d->name, str)
	TAKE(tags, d->tags_json, json.raw)
	TAKE(metadata, d->metadata_json, json.raw)
	TAKE(settings, d->settings_json, json.raw)
#undef TAKE
	buf_puts(&data, "]}");
	if (changed > 0) {
		d->updated_at = s->now;
		result = batch_begin(s);
		if (result == DB_OK)
			result = DB(s->db, device_set_info, d->pk, d->name, d->tags_json,
			    d->metadata_json, d->settings_json, s->now);
		if (result != DB_FAILED)
			result = event_tell(s, d, "device_updated", r->who.user, buf_slice(&data));
	}
	if (result != DB_FAILED) {
		buf_puts(&body, "{\"device\":");
		json_device(s, &body, d);
		buf_putc(&body, '}');
		rest_ok(s, r, 200, &body);
		if (settings)
			result = send_settings(s, r, d, d->settings_json);
	}
	buf_fini(&data);
	buf_fini(&body);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
rest_device_update(struct storage *s, const struct rest *r)
{
	struct envelope_fault fault;
	struct fields f;
	enum db_result result;

	fields_init(&f);
	if (schema_parse(BODY_device_update, r->m->body_json, &f, &fault) == -1)
		result = rest_error(s, r, fault.code, fault.field,
		    fault.message[0] != '\0' ? fault.message : NULL);
	else
		result = update(s, r, f.field);
	fields_fini(&f);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

/* Its open commands, which nobody will hear of any more: a page of them. */
#define OPEN_PAGE 1000

struct open_commands {
	struct buf ids;
	int64_t last_pk;
	unsigned rows;
};

static bool
note_command(void *arg, const struct db_command *c)
{
	struct open_commands *o = arg;

	o->rows++;
	o->last_pk = c->pk;
	if (c->status == COMMAND_QUEUED || c->status == COMMAND_SENT || c->status == COMMAND_ACCEPTED)
		buf_put(&o->ids, c->id, UUID_LEN);
	return true;
}

/* What waits is cancelled, what was sent times out at once: whoever waits for an answer has it. */
static enum db_result
end_commands(struct storage *s, const struct db_device *d)
{
	struct open_commands o = { .last_pk = 0 };
	struct db_command *c = &s->command;
	enum db_result result;

	do {
		o.rows = 0;
		buf_clear(&o.ids);
		result = DB(s->db, command_open, d->pk, o.last_pk, OPEN_PAGE, note_command, &o);
		for (size_t i = 0; i < o.ids.len && result != DB_FAILED; i += UUID_LEN) {
			result = DB(s->db, command_get, (const uint8_t *)o.ids.data + i, c);
			if (result == DB_OK)
				result = c->status == COMMAND_QUEUED ?
				    command_move(s, d, c, COMMAND_CANCELLED, "cancelled") :
				    command_move(s, d, c, COMMAND_TIMEOUT, "timeout");
		}
	} while (o.rows == OPEN_PAGE && result != DB_FAILED);
	buf_fini(&o.ids);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
rest_device_delete(struct storage *s, const struct rest *r)
{
	struct db_device *d = &s->device;
	enum db_result result = DB(s->db, device_by_id, r->who.tenant, r->m->target, false, d);

	if (result == DB_FAILED)
		return DB_FAILED;
	/* deleted by the request that is read again */
	if (result == DB_NONE && s->record.again) {
		reply_json(s, r->m->request, r->m->ref, 204, SLICE_NONE);
		return DB_OK;
	}
	result = rest_device(s, r, false, ACCESS_OWNER);
	if (result != DB_OK)
		return result;
	TRY(batch_begin(s));
	TRY(end_commands(s, d));
	TRY(presence_revoke(s, d, "deleted", r->m->asked_ms));
	TRY(event_tell(s, d, "device_updated", r->who.user, SLICE("{\"deleted\":true}")));
	TRY(DB(s->db, device_delete, d->pk, s->now));
	retention_soon(s);
	reply_json(s, r->m->request, r->m->ref, 204, SLICE_NONE);
	return DB_OK;
}

enum db_result
rest_device_token(struct storage *s, const struct rest *r)
{
	struct db_device *d = &s->device;
	uint8_t hash[SHA256_LEN];
	enum db_result result = rest_device(s, r, false, ACCESS_ADMIN);

	if (result != DB_OK)
		return result;
	if (auth_device_token_hash(r->m->token, hash) == -1)
		return rest_error(s, r, ERROR_internal, NULL, NULL);
	result = DB(s->db, device_token_is, d->pk, hash);	/* read again after a crash: done */
	if (result == DB_NONE) {
		TRY(batch_begin(s));
		TRY(DB(s->db, device_set_token, d->pk, hash, s->now));
		TRY(event_tell(s, d, "token_rotated", r->who.user, SLICE("{}")));
		TRY(presence_revoke(s, d, "credentials_revoked", r->m->asked_ms));
	} else if (result == DB_FAILED) {
		return DB_FAILED;
	}
	return answer_with_token(s, r, d->pk, 200);
}
