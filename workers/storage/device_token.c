/*
 * device_token.c: tokens of devices, and how one takes the place of another.  Only the storage process.
 *
 * The newest token stands in the device's row.  A rotation may leave the one before it good for a while, as a row of
 * old_tokens:
 *
 *	rotated by		the old one is good until
 *	REST			at once no longer, and its connection ends; with graceMs until that is over, and its
 *				connection ends then; or until the newest was used
 *	the device itself	the newest was used
 *
 * A device may ask again and again without an answer: what it uses stays good, and of those that it never used the two
 * newest.
 */
#include "auth/device_token.h"
#include "msg/schema.h"
#include "storage/rest.h"

enum db_result
token_find(struct storage *s, const uint8_t hash[SHA256_LEN], struct db_device *d, bool *old)
{
	enum db_result result = DB(s->desk.db, device_by_token, hash, d);

	*old = result == DB_NONE;
	return *old ? DB(s->desk.db, device_by_old_token, hash, s->desk.now, d) : result;
}

enum db_result
token_used(struct storage *s, const struct db_device *d, const uint8_t hash[SHA256_LEN], bool old)
{
	return old ? DB(s->desk.db, old_token_used, d->pk, hash) : DB(s->desk.db, old_token_done, d->pk);
}

enum db_result
token_check(struct storage *s, const struct msg_token_check *m)
{
	struct db_device *d = &s->desk.device;
	bool old;
	enum db_result result = token_find(s, m->token_hash, d, &old);

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_OK && d->pk == m->device_pk) {
		TRY(batch_begin(s));
		TRY(token_used(s, d, m->token_hash, old));
		reply_json(&s->desk, m->request, m->ref, 200, SLICE("{}"));
	} else {
		reply_error(&s->desk, m->request, m->ref, ERROR_invalid_token, NULL, NULL);
	}
	return DB_OK;
}

/* grace_ms: so long is the old one good; 0: no longer, below 0: until the new one was used. */
static enum db_result
rotate(struct storage *s, const struct db_device *d, struct slice token, struct slice by, int64_t grace_ms,
    int64_t asked_ms)
{
	uint8_t hash[SHA256_LEN];

	if (auth_device_token_hash(token, hash) == -1)
		return DB_NONE;
	TRY(batch_begin(s));
	if (grace_ms == 0)
		TRY(DB(s->desk.db, old_token_done, d->pk));
	else
		TRY(DB(s->desk.db, old_token_keep, d->pk, grace_ms > 0 ? s->desk.now + grace_ms : 0));
	TRY(DB(s->desk.db, device_set_token, d->pk, hash, s->desk.now));
	TRY(event_tell(s, d, EVENT_token_rotated, by, SLICE("{}")));
	return grace_ms == 0 ? presence_revoke(s, d, "credentials_revoked", asked_ms) : DB_OK;
}

enum db_result
rest_device_token(struct storage *s, const struct rest *r)
{
	struct db_device *d = &s->desk.device;
	struct envelope_fault fault;
	struct fields f;
	int64_t grace_ms = 0;
	enum db_result result;

	fields_init(&f);
	if (schema_parse(BODY_device_token, r->m->body_json, &f, &fault) == -1) {
		result = rest_error(&s->desk, r, fault.code, fault.field,
		    fault.message[0] != '\0' ? fault.message : NULL);
	} else {
		if (f.field[FIELD_device_token_graceMs].present)
			grace_ms = f.field[FIELD_device_token_graceMs].i64;
		result = rest_device(&s->desk, r, false);
		if (result == DB_OK)
			result = rotate(s, d, r->m->token, r->who.user, grace_ms, r->m->asked_ms);
		if (result == DB_OK)
			result = rest_device_and_token(s, r, d->pk, 200);
	}
	fields_fini(&f);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
token_rotate(struct storage *s, const struct msg_token_rotate *m)
{
	struct db_device *d = &s->desk.device;
	struct buf body = BUF_INIT;
	enum db_result result = storage_device(s, m->device_pk, m->tenant, m->device);

	if (result == DB_OK)
		result = rotate(s, d, m->token, SLICE_NONE, -1, 0);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE) {
		reply_error(&s->desk, m->request, m->ref, ERROR_not_found, NULL, NULL);
		return DB_OK;
	}
	buf_puts(&body, "{\"deviceToken\":");
	buf_put_json_string(&body, m->token);
	buf_putc(&body, '}');
	reply_json(&s->desk, m->request, m->ref, 200, buf_slice(&body));
	buf_fini(&body);
	return DB_OK;
}

/* Had the newest token been used, there would be no old ones: whoever is connected came with one of those. */
enum db_result
token_tick(struct storage *s)
{
	struct db_device *d = &s->desk.device;
	int64_t device_pk, until;

	for (unsigned n = 0; n < COMMAND_STEP && !batch_is_large(s); n++) {
		enum db_result result = DB(s->desk.db, old_token_first_end, &device_pk, &until);

		if (result != DB_OK || until > s->desk.now)
			return result == DB_FAILED ? DB_FAILED : DB_OK;
		TRY(batch_begin(s));
		TRY(DB(s->desk.db, old_token_end, device_pk, s->desk.now));
		result = DB(s->desk.db, device_by_pk, device_pk, false, d);
		if (result == DB_OK)
			result = presence_revoke(s, d, "credentials_revoked", 0);
		if (result == DB_FAILED)
			return DB_FAILED;
	}
	s->more = true;
	return DB_OK;
}
