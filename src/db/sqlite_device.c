/*
 * sqlite_device.c: devices and shares in SQLite.  Only the storage process.
 */
#include "base/must.h"
#include "db/rows.h"
#include "db/sqlite.h"

#define DEVICE_ID_COLUMN	2

/* Reads a row of DEVICE_HEAD or DEVICE_WHOLE; its texts are the row's own. */
static void
read_device(sqlite3_stmt *st, bool whole, struct db_device *d)
{
	d->pk = col_i64(st, 0);
	d->tenant_pk = col_i64(st, 1);
	d->id = col_slice(st, 2);
	d->owner = col_slice(st, 3);
	d->online = (uint8_t)col_i64(st, 4);
	d->epoch = col_i64(st, 5);
	d->epoch_of[0] = col_i64(st, 6);
	d->epoch_of[1] = col_i64(st, 7);
	d->conn[0] = (uint64_t)col_i64(st, 8);
	d->conn[1] = (uint64_t)col_i64(st, 9);
	d->since = col_i64(st, 10);
	d->last_seen = col_i64(st, 11);
	d->gone_reason = col_slice(st, 12);
	d->audience = col_slice(st, 13);
	d->whole = whole;
	if (whole) {
		d->created_at = col_i64(st, 14);
		d->updated_at = col_i64(st, 15);
		d->type = col_slice(st, 16);
		d->name = col_slice(st, 17);
		d->state_at = col_i64(st, 18);
		d->state_json = col_slice(st, 19);
		d->tags_json = col_slice(st, 20);
		d->metadata_json = col_slice(st, 21);
		d->settings_json = col_slice(st, 22);
	} else {
		d->created_at = d->updated_at = d->state_at = 0;
		d->type = d->name = d->state_json = d->tags_json = d->metadata_json =
		    d->settings_json = SLICE_NONE;
	}
}

/* One device, with texts of its own. */
static enum db_result
one_device(struct sqlite_db *s, sqlite3_stmt *st, bool whole, struct db_device *out)
{
	enum db_result result = sqlite_row(s, st);

	if (result != DB_OK)
		return result;
	read_device(st, whole, out);
	result = rows_keep_device(&s->db, out);
	sqlite3_reset(st);
	return result;
}

/* The row that the statement stands on, if its last column says that it is one of the list. */
static enum db_result
add_device(struct sqlite_db *s, sqlite3_stmt *st, bool whole, struct db_page *page)
{
	struct db_device d = { .text = BUF_INIT };

	if (col_i64(st, sqlite3_column_count(st) - 1) == 0)
		return DB_OK;
	read_device(st, whole, &d);
	return rows_add_device(&s->db, page, &d);
}

enum db_result
sqlite_device_by_id(struct db *db, struct slice tenant, struct slice id, bool whole,
    struct db_device *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, whole ? STMT_device_by_id_whole : STMT_device_by_id);
	enum db_result result;
	int64_t tenant_pk;

	if (st == NULL)
		return DB_FAILED;
	if ((result = db_tenant(db, tenant, false, &tenant_pk)) != DB_OK)
		return result;
	bind_i64(st, 1, tenant_pk);
	bind_text(st, 2, id);
	return one_device(s, st, whole, out);
}

enum db_result
sqlite_device_by_ids(struct db *db, struct slice tenant, const struct slice *ids, unsigned n, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_by_id);
	struct db_device d = { .text = BUF_INIT };
	enum db_result result;
	int64_t tenant_pk;

	if (st == NULL)
		return DB_FAILED;
	result = db_tenant(db, tenant, false, &tenant_pk);
	for (unsigned i = 0; i < n && result == DB_OK && page_goes_on(page); i++) {
		bind_i64(st, 1, tenant_pk);
		bind_text(st, 2, ids[i]);
		if ((result = sqlite_row(s, st)) != DB_OK)
			break;
		read_device(st, false, &d);
		page_passed_text(page, d.id);
		result = rows_add_device(db, page, &d);
		sqlite3_reset(st);
	}
	return result == DB_NONE ? DB_OK : result;
}

enum db_result
sqlite_device_by_pk(struct db *db, int64_t pk, bool whole, struct db_device *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, whole ? STMT_device_by_pk_whole : STMT_device_by_pk);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	return one_device(s, st, whole, out);
}

enum db_result
sqlite_device_by_token(struct db *db, const uint8_t hash[SHA256_LEN], struct db_device *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_by_token);

	if (st == NULL)
		return DB_FAILED;
	bind_blob(st, 1, hash, SHA256_LEN);
	return one_device(s, st, false, out);
}

enum db_result
sqlite_device_insert(struct db *db, struct db_device *d, const uint8_t hash[SHA256_LEN])
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st;
	enum db_result result;

	if ((result = db_tenant(db, d->tenant, true, &d->tenant_pk)) != DB_OK)
		return result;
	if ((st = sqlite_use(s, STMT_device_last_epoch)) == NULL)
		return DB_FAILED;
	bind_i64(st, 1, d->tenant_pk);
	bind_text(st, 2, d->id);
	if ((result = sqlite_row(s, st)) != DB_OK)
		return DB_FAILED;
	d->epoch = col_i64(st, 0);
	sqlite3_reset(st);

	if ((st = sqlite_use(s, STMT_device_insert)) == NULL)
		return DB_FAILED;
	bind_i64(st, 1, d->tenant_pk);
	bind_text(st, 2, d->id);
	bind_text(st, 3, d->owner);
	bind_blob(st, 4, hash, SHA256_LEN);
	bind_i64(st, 5, d->epoch);
	bind_blob(st, 6, d->audience.p, d->audience.len);
	bind_i64(st, 7, d->created_at);
	bind_text(st, 8, d->type);
	bind_text(st, 9, d->name);
	bind_text(st, 10, d->tags_json);
	bind_text(st, 11, d->metadata_json);
	bind_text(st, 12, d->settings_json);
	return sqlite_insert(s, st, &d->pk);
}

enum db_result
sqlite_device_connected(struct db *db, int64_t pk, unsigned transport, int64_t epoch, uint64_t ref,
    int64_t now)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, transport == 0 ? STMT_device_connected_ws :
	    STMT_device_connected_mqtt);

	must(transport < DB_TRANSPORTS);
	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	bind_i64(st, 2, epoch);
	bind_i64(st, 3, (int64_t)ref);
	bind_i64(st, 4, now);
	return sqlite_change(s, st);
}

enum db_result
sqlite_device_gone(struct db *db, int64_t pk, unsigned transport, int64_t epoch, int64_t now,
    int64_t last_seen, struct slice reason)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, transport == 0 ? STMT_device_gone_ws :
	    STMT_device_gone_mqtt);

	must(transport < DB_TRANSPORTS);
	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	bind_i64(st, 2, epoch);
	bind_i64(st, 3, now);
	bind_i64(st, 4, last_seen);
	bind_text(st, 5, reason);
	return sqlite_change(s, st);
}

enum db_result
sqlite_device_lost(struct db *db, int64_t pk, unsigned transport, int64_t epoch, int64_t last_seen, struct slice reason)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, transport == 0 ? STMT_device_lost_ws : STMT_device_lost_mqtt);

	must(transport < DB_TRANSPORTS);
	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	bind_i64(st, 2, epoch);
	bind_i64(st, 3, last_seen);
	bind_text(st, 4, reason);
	return sqlite_change(s, st);
}

enum db_result
sqlite_device_newest_epoch(struct db *db, int64_t *epoch)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_newest_epoch);

	if (st == NULL || sqlite_row(s, st) != DB_OK)
		return DB_FAILED;
	*epoch = col_i64(st, 0);
	sqlite3_reset(st);
	return DB_OK;
}

enum db_result
sqlite_device_seen(struct db *db, int64_t pk, int64_t at)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_seen);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	bind_i64(st, 2, at);
	return sqlite_change(s, st);
}

enum db_result
sqlite_device_set_state(struct db *db, int64_t pk, int64_t epoch, struct slice state_json,
    int64_t now)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_set_state);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	bind_text(st, 2, state_json);
	bind_i64(st, 3, now);
	bind_i64(st, 4, epoch);
	return sqlite_change(s, st);
}

enum db_result
sqlite_device_set_info(struct db *db, int64_t pk, struct slice name, struct slice tags_json,
    struct slice metadata_json, struct slice settings_json, int64_t now)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_set_info);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	bind_text(st, 2, name);
	bind_text(st, 3, tags_json);
	bind_text(st, 4, metadata_json);
	bind_text(st, 5, settings_json);
	bind_i64(st, 6, now);
	return sqlite_change(s, st);
}

enum db_result
sqlite_device_set_token(struct db *db, int64_t pk, const uint8_t hash[SHA256_LEN], int64_t now)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_set_token);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	bind_blob(st, 2, hash, SHA256_LEN);
	bind_i64(st, 3, now);
	return sqlite_change(s, st);
}

/* One of those with a device's number, and a moment or nothing. */
static enum db_result
old_token_run(struct sqlite_db *s, enum sqlite_statement which, int64_t device_pk, int64_t moment)
{
	sqlite3_stmt *st = sqlite_use(s, which);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	if (sqlite3_bind_parameter_count(st) > 1)
		bind_i64(st, 2, moment);
	return sqlite_change(s, st);
}

enum db_result
sqlite_old_token_keep(struct db *db, int64_t device_pk, int64_t until)
{
	struct sqlite_db *s = sqlite_self(db);

	if (old_token_run(s, STMT_old_token_give_way, device_pk, 0) == DB_FAILED ||
	    old_token_run(s, STMT_old_token_keep, device_pk, until) == DB_FAILED)
		return DB_FAILED;
	return old_token_run(s, STMT_old_token_sooner, device_pk, until) == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
sqlite_old_token_used(struct db *db, int64_t device_pk, const uint8_t hash[SHA256_LEN])
{
	static const enum sqlite_statement both[] = { STMT_old_token_older, STMT_old_token_used };
	struct sqlite_db *s = sqlite_self(db);

	for (size_t i = 0; i < 2; i++) {
		sqlite3_stmt *st = sqlite_use(s, both[i]);

		if (st == NULL)
			return DB_FAILED;
		bind_i64(st, 1, device_pk);
		bind_blob(st, 2, hash, SHA256_LEN);
		if (sqlite_change(s, st) == DB_FAILED)
			return DB_FAILED;
	}
	return DB_OK;
}

enum db_result
sqlite_old_token_done(struct db *db, int64_t device_pk)
{
	return old_token_run(sqlite_self(db), STMT_old_token_done, device_pk, 0);
}

enum db_result
sqlite_old_token_end(struct db *db, int64_t device_pk, int64_t now)
{
	return old_token_run(sqlite_self(db), STMT_old_token_end, device_pk, now);
}

enum db_result
sqlite_old_token_first_end(struct db *db, int64_t *device_pk, int64_t *until)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_old_token_first_end);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	if ((result = sqlite_row(s, st)) != DB_OK)
		return result;
	*device_pk = col_i64(st, 0);
	*until = col_i64(st, 1);
	sqlite3_reset(st);
	return DB_OK;
}

enum db_result
sqlite_device_by_old_token(struct db *db, const uint8_t hash[SHA256_LEN], int64_t now, struct db_device *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_by_old_token);

	if (st == NULL)
		return DB_FAILED;
	bind_blob(st, 1, hash, SHA256_LEN);
	bind_i64(st, 2, now);
	return one_device(s, st, false, out);
}

enum db_result
sqlite_device_set_audience(struct db *db, int64_t pk, struct slice audience)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_set_audience);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	bind_blob(st, 2, audience.p, audience.len);
	return sqlite_change(s, st);
}

enum db_result
sqlite_device_delete(struct db *db, int64_t pk, int64_t now)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_delete_shares);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	if ((result = sqlite_run(s, st, NULL)) != DB_OK)
		return result;
	if ((st = sqlite_use(s, STMT_device_delete)) == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	bind_i64(st, 2, now);
	if ((result = sqlite_change(s, st)) != DB_OK)
		return result;
	if ((st = sqlite_use(s, STMT_telemetry_gone)) == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	return sqlite_run(s, st, NULL);
}

enum db_result
sqlite_device_list(struct db *db, const struct db_device_filter *filter, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, filter->scope.all ? STMT_device_walk_all :
	    STMT_device_walk_user);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_scope(st, &filter->scope);
	bind_text(st, 4, filter->after_id);
	bind_i64(st, 5, filter->online);
	bind_text(st, 6, filter->type);
	bind_text(st, 7, filter->tag);
	bind_text(st, 8, filter->q);
	while (sqlite_more(s, st, &result)) {
		if (!page_goes_on(page))
			return sqlite_enough(st);
		page_passed_text(page, col_slice(st, DEVICE_ID_COLUMN));
		if ((result = add_device(s, st, true, page)) != DB_OK) {
			sqlite3_reset(st);
			return result;
		}
	}
	return result;
}

enum db_result
sqlite_device_counts(struct db *db, int64_t tenant_pk, struct db_stats *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_counts);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	*out = (struct db_stats){ 0, 0, 0, 0 };
	bind_i64(st, 1, tenant_pk);
	while (sqlite_more(s, st, &result)) {
		out->total += col_i64(st, 0);
		out->online += col_i64(st, 1);
		out->mqtt += col_i64(st, 2);
	}
	return result;
}

enum db_result
sqlite_device_types(struct db *db, int64_t tenant_pk, struct slice after, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_types);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, tenant_pk);
	bind_text(st, 2, after);
	while (sqlite_more(s, st, &result)) {
		struct db_type t = { col_slice(st, 0), col_i64(st, 1) };

		if (!page_goes_on(page))
			return sqlite_enough(st);
		page_passed_text(page, t.type);
		rows_add_type(page, &t);
	}
	return result;
}

enum db_result
sqlite_device_owned(struct db *db, int64_t tenant_pk, struct slice user, int64_t *count)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_owned);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, tenant_pk);
	bind_text(st, 2, user);
	if (sqlite_row(s, st) != DB_OK)
		return DB_FAILED;
	*count = col_i64(st, 0);
	sqlite3_reset(st);
	return DB_OK;
}

enum db_result
sqlite_device_online(struct db *db, int64_t after_pk, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_device_online);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, after_pk);
	while (sqlite_more(s, st, &result)) {
		if (!page_goes_on(page))
			return sqlite_enough(st);
		page_passed(page, col_i64(st, 0));
		if ((result = add_device(s, st, false, page)) != DB_OK) {
			sqlite3_reset(st);
			return result;
		}
	}
	return result;
}

/* Shares */

enum db_result
sqlite_share_put(struct db *db, int64_t device_pk, int64_t tenant_pk, const struct db_share *share)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_share_put);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	bind_text(st, 2, share->user);
	bind_i64(st, 3, tenant_pk);
	bind_i64(st, 4, share->permission);
	bind_i64(st, 5, share->expires_at);
	bind_text(st, 6, share->commands_json);
	bind_i64(st, 7, share->created_at);
	return sqlite_run(s, st, NULL);
}

enum db_result
sqlite_share_delete(struct db *db, int64_t device_pk, struct slice user)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_share_delete);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	bind_text(st, 2, user);
	return sqlite_change(s, st);
}

static void
read_share(sqlite3_stmt *st, struct db_share *share)
{
	share->user = col_slice(st, 0);
	share->permission = (enum db_permission)col_i64(st, 1);
	share->expires_at = col_i64(st, 2);
	share->commands_json = col_slice(st, 3);
	share->created_at = col_i64(st, 4);
}

enum db_result
sqlite_share_get(struct db *db, int64_t device_pk, struct slice user, struct db_share *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_share_get);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	bind_text(st, 2, user);
	if ((result = sqlite_row(s, st)) != DB_OK)
		return result;
	read_share(st, out);
	rows_keep_share(out);
	sqlite3_reset(st);
	return DB_OK;
}

enum db_result
sqlite_share_list(struct db *db, int64_t device_pk, struct slice after, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_share_list);
	struct db_share share = { .text = BUF_INIT };
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	bind_text(st, 2, after);
	while (sqlite_more(s, st, &result)) {
		if (!page_goes_on(page))
			return sqlite_enough(st);
		read_share(st, &share);
		page_passed_text(page, share.user);
		rows_add_share(page, &share);
	}
	return result;
}

enum db_result
sqlite_share_first_end(struct db *db, int64_t *device_pk, struct db_share *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_share_first_end);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	if ((result = sqlite_row(s, st)) != DB_OK)
		return result;
	read_share(st, out);
	*device_pk = col_i64(st, 5);
	rows_keep_share(out);
	sqlite3_reset(st);
	return DB_OK;
}
