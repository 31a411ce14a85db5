/*
 * access.c: who may do what with a device.  Only the storage process.
 *
 * The packed audience of the device's row says who owns it and whom it is
 * shared with; the shares themselves are looked at only for their limits.
 */
#include "base/json.h"
#include "storage/storage.h"

bool
access_sees_all(const struct storage *s, const struct requester *who)
{
	return who->role == ROLE_ADMIN || who->role == ROLE_SERVICE || s->members_view;
}

/* Of a plain user, by owner and shares alone. */
static enum access
granted(const struct storage *s, struct slice user, const struct db_device *d)
{
	struct slice rest = d->audience;
	struct audience_entry e;
	enum access best = ACCESS_NONE;

	while (audience_next(&rest, &e) == 1) {
		if (!slice_eq(e.user, user) || (e.expires_ms != 0 && e.expires_ms <= s->now))
			continue;
		if ((enum access)e.rights > best)
			best = (enum access)e.rights;
	}
	return best;
}

enum access
access_level(const struct storage *s, const struct requester *who, const struct db_device *d)
{
	enum access level = granted(s, who->user, d);

	if (who->role == ROLE_ADMIN || who->role == ROLE_SERVICE)
		return level == ACCESS_OWNER ? ACCESS_OWNER : ACCESS_ADMIN;
	if (who->role != ROLE_USER)
		return ACCESS_NONE;
	return level == ACCESS_NONE && s->members_view ? ACCESS_VIEW : level;
}

static bool
listed(struct slice names_json, struct slice name)
{
	struct json_value array = { JSON_KIND_ARRAY, names_json }, v;
	struct json_iter it;
	struct buf scratch = BUF_INIT;
	struct slice text;
	bool found = false;

	json_iter_init(&it, array);
	while (!found && json_array_next(&it, &v)) {
		buf_clear(&scratch);
		found = json_text(v, &scratch, &text) == 0 && slice_eq(text, name);
	}
	buf_fini(&scratch);
	return found;
}

enum db_result
access_command(struct storage *s, const struct requester *who, const struct db_device *d,
    struct slice command, bool *may)
{
	enum access level = access_level(s, who, d);
	enum db_result result;

	*may = level >= ACCESS_CONTROL;
	if (!*may || level == ACCESS_OWNER || who->role != ROLE_USER)
		return DB_OK;
	result = DB(s->db, share_get, d->pk, who->user, &s->share);
	if (result == DB_OK && s->share.commands_json.len > 0)
		*may = listed(s->share.commands_json, command);
	else if (result == DB_NONE)
		*may = false;
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
access_scope(struct storage *s, const struct requester *who, struct db_scope *scope)
{
	scope->all = access_sees_all(s, who);
	scope->user = who->user;
	scope->now = s->now;
	return DB(s->db, tenant, who->tenant, false, &scope->tenant_pk);
}
