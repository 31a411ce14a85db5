/*
 * rest_device.c: registering, changing and deleting devices.  Only
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
	json_device(&s->desk, b, d);
	buf_puts(b, ",\"deviceToken\":");
	buf_put_json_string(b, token);
	buf_putc(b, '}');
}

enum db_result
rest_device_and_token(struct storage *s, const struct rest *r, int64_t pk, unsigned status)
{
	struct buf body = BUF_INIT;
	enum db_result result = DB(s->desk.db, device_by_pk, pk, true, &s->desk.device);

	if (result != DB_OK)
		return DB_FAILED;
	put_device_and_token(s, &body, &s->desk.device, r->m->token);
	rest_ok(&s->desk, r, status, &body);
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
		return rest_error(&s->desk, r, ERROR_internal, NULL, NULL);
	TRY(batch_begin(s));
	result = DB(s->desk.db, device_insert, d, hash);
	if (result == DB_EXISTS)
		return rest_error(&s->desk, r, ERROR_conflict, "deviceId", "the id is taken");
	if (result != DB_OK)
		return result;
	TRY(event_tell(s, d, EVENT_device_registered, r->who.user, SLICE("{}")));
	return rest_device_and_token(s, r, d->pk, 201);
}

/*
 * What stands, or will stand, in the place of an id in routes.def, and what clients take out of a path
 * (RFC 3986 section 5.2.4): such a device could not be asked for.
 */
static bool
is_word_of_routes(struct slice id)
{
	static const char *const words[] = { "register", "stats", "import", "export", ".", ".." };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (slice_is(id, words[i]))
			return true;
	return false;
}

/* May the tenant have one more device?  DB_NONE: it has enough. */
static enum db_result
tenant_room(struct storage *s, const struct rest *r)
{
	unsigned limit = s->desk.w->conf->limits_devices_per_tenant;
	struct db_stats stats = { 0, 0, 0, 0 };
	int64_t tenant_pk;
	enum db_result result;

	if (limit == 0)
		return DB_OK;
	result = db_tenant(s->desk.db, r->who.tenant, false, &tenant_pk);
	if (result == DB_OK)
		result = DB(s->desk.db, device_counts, tenant_pk, &stats);
	if (result == DB_FAILED)
		return DB_FAILED;
	return stats.total < limit ? DB_OK : DB_NONE;
}

enum db_result
rest_device_register(struct storage *s, const struct rest *r)
{
	struct db_device d = {
		.tenant = r->who.tenant, .owner = r->who.user, .created_at = s->desk.now,
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
		result = rest_error(&s->desk, r, fault.code, fault.field,
		    fault.message[0] != '\0' ? fault.message : NULL);
	} else if (is_word_of_routes(f.field[FIELD_device_register_deviceId].str)) {
		result = rest_error(&s->desk, r, ERROR_invalid_payload, "deviceId",
		    "this word stands for something else in the address of a request");
	} else {
		take_fields(f.field, &d);
		uuid_format(r->m->fresh_id, fresh);
		d.id = f.field[FIELD_device_register_deviceId].present ?
		    f.field[FIELD_device_register_deviceId].str : slice_of(fresh);
		if (r->who.role == ROLE_SERVICE && f.field[FIELD_device_register_ownerId].present)
			d.owner = f.field[FIELD_device_register_ownerId].str;
		audience_put(&audience, 0, AUDIENCE_OWNER, d.owner);
		d.audience = buf_slice(&audience);
		result = tenant_room(s, r);
		if (result == DB_NONE)
			result = rest_error(&s->desk, r, ERROR_too_many, NULL,
			    "the tenant has as many devices as it may");
		else if (result == DB_OK)
			result = insert(s, r, &d);
	}
	fields_fini(&f);
	buf_fini(&audience);
	return result;
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
	struct db_device *d = &s->desk.device;
	bool settings = f[FIELD_device_update_settings].present, may = true;
	struct buf data = BUF_INIT, body = BUF_INIT;
	unsigned changed = 0;
	enum db_result result = rest_device(&s->desk, r, true);

	if (result != DB_OK)
		return result;
	if (settings)
		TRY(access_command(&s->desk, &r->who, d, SLICE("update_settings"), &may));
	if (!may)
		return rest_error(&s->desk, r, ERROR_no_access, NULL, NULL);
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
		d->updated_at = s->desk.now;
		result = batch_begin(s);
		if (result == DB_OK)
			result = DB(s->desk.db, device_set_info, d->pk, d->name, d->tags_json,
			    d->metadata_json, d->settings_json, s->desk.now);
		if (result != DB_FAILED)
			result = event_tell(s, d, EVENT_device_updated, r->who.user, buf_slice(&data));
	}
	if (result != DB_FAILED) {
		buf_puts(&body, "{\"device\":");
		json_device(&s->desk, &body, d);
		buf_putc(&body, '}');
		rest_ok(&s->desk, r, 200, &body);
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
		result = rest_error(&s->desk, r, fault.code, fault.field,
		    fault.message[0] != '\0' ? fault.message : NULL);
	else
		result = update(s, r, f.field);
	fields_fini(&f);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

/* It is cancelled when it waits, and times out at once when it was sent: whoever waits for an answer has it. */
static enum db_result
end_command(struct storage *s, const struct rest *r, const struct db_device *d, const uint8_t id[UUID_LEN])
{
	struct db_command *c = &s->desk.command;
	enum db_result result = DB(s->desk.db, command_get, id, c);

	if (result != DB_OK)
		return result;
	c->open = false;		/* nobody is left who could tell its result */
	c->cancelled_by = c->status == COMMAND_QUEUED ? r->who.user : SLICE_NONE;
	return c->status == COMMAND_QUEUED ? command_move(s, d, c, COMMAND_CANCELLED, "cancelled") :
	    command_move(s, d, c, COMMAND_TIMEOUT, "timeout");
}

/*
 * Its open commands, which nobody will hear of any more: some that have not ended.  *more: it was a step, and there may
 * be others.
 */
static enum db_result
end_commands(struct storage *s, const struct rest *r, const struct db_device *d, bool *more)
{
	struct db_page page = { .rows = 0 };
	enum db_result result;
	int64_t after = 0;
	unsigned n = 0;

	do {
		const struct db_command *c;

		db_page_want(&page, COMMAND_STEP);
		result = DB(s->desk.db, command_open, d->pk, after, &page);
		c = page.row;
		for (unsigned i = 0; result != DB_FAILED && i < page.count && !batch_is_large(s); i++) {
			if (command_is_final(c[i].status))
				continue;
			result = end_command(s, r, d, c[i].id);
			n++;
		}
		after = page.last;
	} while (result != DB_FAILED && page.more && n < COMMAND_STEP && !batch_is_large(s));
	*more = page.more || batch_is_large(s);
	db_page_fini(&page);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
rest_device_delete(struct storage *s, const struct rest *r)
{
	struct db_device *d = &s->desk.device;
	enum db_result result = rest_device(&s->desk, r, false);
	bool more;

	if (result != DB_OK)
		return result;
	TRY(batch_begin(s));
	TRY(end_commands(s, r, d, &more));
	if (more) {
		storage_go_on(s);
		return DB_OK;
	}
	TRY(presence_revoke(s, d, "deleted", r->m->asked_ms));
	TRY(event_tell(s, d, EVENT_device_updated, r->who.user, SLICE("{\"deleted\":true}")));
	TRY(DB(s->desk.db, old_token_done, d->pk));
	TRY(DB(s->desk.db, device_delete, d->pk, s->desk.now));
	retention_soon(s);
	reply_json(&s->desk, r->m->request, r->m->ref, 204, SLICE_NONE);
	return DB_OK;
}
