/*
 * access.c: who may do what with a device.
 *
 * The packed audience of the device's row says who owns it and whom it is
 * shared with; the shares themselves are looked at only for their limits.
 */
#include "base/json.h"
#include "store/desk.h"

bool
access_sees_all(const struct desk *k, const struct requester *who)
{
	return who->role == ROLE_ADMIN || who->role == ROLE_SERVICE || k->members_view;
}

/* Of a plain user, by owner and shares alone. */
static enum access
granted(const struct desk *k, struct slice user, const struct db_device *d)
{
	struct slice rest = d->audience;
	struct audience_entry e;
	enum access best = ACCESS_NONE;

	while (audience_next(&rest, &e) == 1) {
		if (!slice_eq(e.user, user) || (e.expires_ms != 0 && e.expires_ms <= k->now))
			continue;
		if ((enum access)e.rights > best)
			best = (enum access)e.rights;
	}
	return best;
}

enum access
access_level(const struct desk *k, const struct requester *who, const struct db_device *d)
{
	enum access level = granted(k, who->user, d);

	if (who->role == ROLE_ADMIN || who->role == ROLE_SERVICE)
		return level == ACCESS_OWNER ? ACCESS_OWNER : ACCESS_ADMIN;
	if (who->role != ROLE_USER)
		return ACCESS_NONE;
	return level == ACCESS_NONE && k->members_view ? ACCESS_VIEW : level;
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

bool
access_lists_all(struct slice names_json, struct slice wanted_json)
{
	struct json_value array = { JSON_KIND_ARRAY, wanted_json }, v;
	struct json_iter it;
	struct buf scratch = BUF_INIT;
	struct slice text;
	bool all = true;

	json_iter_init(&it, array);
	while (all && json_array_next(&it, &v)) {
		buf_clear(&scratch);
		all = json_text(v, &scratch, &text) == 0 && listed(names_json, text);
	}
	buf_fini(&scratch);
	return all;
}

enum db_result
access_command(struct desk *k, const struct requester *who, const struct db_device *d,
    struct slice command, bool *may)
{
	enum access level = access_level(k, who, d);
	enum db_result result;

	*may = level >= ACCESS_CONTROL;
	if (!*may || level == ACCESS_OWNER || who->role != ROLE_USER)
		return DB_OK;
	result = DB(k->db, share_get, d->pk, who->user, &k->share);
	if (result == DB_OK && k->share.commands_json.len > 0)
		*may = listed(k->share.commands_json, command);
	else if (result == DB_NONE)
		*may = false;
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
access_scope(struct desk *k, const struct requester *who, struct db_scope *scope)
{
	scope->all = access_sees_all(k, who);
	scope->user = who->user;
	scope->now = k->now;
	return db_tenant(k->db, who->tenant, false, &scope->tenant_pk);
}

#define SHARES_PAGE 256

enum db_result
access_shares(struct desk *k, int64_t device_pk, struct buf *after)
{
	db_page_want(&k->page, SHARES_PAGE);
	TRY(DB(k->db, share_list, device_pk, buf_slice(after), &k->page));
	buf_clear(after);
	buf_put_slice(after, buf_slice(&k->page.last_text));
	return DB_OK;
}
