/*
 * sqlite_telemetry.c: stored telemetry in SQLite.  Only the storage process.
 */
#include "db/rows.h"
#include "db/sqlite.h"

enum db_result
sqlite_telemetry_insert(struct db *db, const struct db_sample *samples, unsigned n, unsigned *stored)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_telemetry_insert);

	if (st == NULL)
		return DB_FAILED;
	*stored = 0;
	for (unsigned i = 0; i < n; i++) {
		const struct db_sample *v = &samples[i];
		enum db_result result;
		int64_t tenant_pk;
		int changes = 0;

		result = db_tenant(db, v->tenant, false, &tenant_pk);
		if (result == DB_NONE)
			continue;
		if (result != DB_OK)
			return DB_FAILED;
		bind_i64(st, 1, v->device_pk);
		bind_i64(st, 2, tenant_pk);
		bind_text(st, 3, v->device);
		bind_i64(st, 4, v->received_at);
		bind_i64(st, 5, v->at);
		bind_i64(st, 6, v->epoch);
		bind_text(st, 7, v->data_json);
		if (sqlite_run(s, st, &changes) != DB_OK)
			return DB_FAILED;
		*stored += changes > 0;
	}
	return DB_OK;
}

static enum db_result
sample_page(struct sqlite_db *s, sqlite3_stmt *st, struct db_page *page)
{
	struct db_sample v = { .device_pk = 0 };
	enum db_result result;

	while (sqlite_more(s, st, &result)) {
		if (!page_goes_on(page))
			return sqlite_enough(st);
		v.seq = col_i64(st, 0);
		v.device_pk = col_i64(st, 1);
		v.received_at = col_i64(st, 2);
		v.at = col_i64(st, 3);
		v.epoch = col_i64(st, 4);
		v.data_json = col_slice(st, 5);
		page_passed(page, v.seq);
		rows_add_sample(page, &v);
	}
	return result;
}

enum db_result
sqlite_telemetry_moment(struct db *db, int64_t device_pk, int64_t at, int64_t seq, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_telemetry_moment);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	bind_i64(st, 2, at);
	bind_i64(st, 3, seq);
	return sample_page(s, st, page);
}

enum db_result
sqlite_telemetry_window(struct db *db, int64_t device_pk, int64_t since, int64_t until, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_telemetry_window);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	bind_i64(st, 2, since);
	bind_i64(st, 3, until);
	return sample_page(s, st, page);
}

/* Are the oldest to go?  A look at one row, so that those who ask often need not read many. */
static enum db_result
is_due(struct sqlite_db *s, int64_t before, bool *due)
{
	sqlite3_stmt *st = sqlite_use(s, STMT_telemetry_oldest);
	enum db_result result = sqlite_row(s, st);

	*due = false;
	if (result == DB_OK) {
		*due = col_i64(st, 0) < before;
		sqlite3_reset(st);
	}
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

static enum db_result
trim_old(struct sqlite_db *s, int64_t before, unsigned limit, unsigned *removed)
{
	sqlite3_stmt *st;
	bool due;
	int changes = 0;

	*removed = 0;
	if (is_due(s, before, &due) == DB_FAILED)
		return DB_FAILED;
	if (!due)
		return DB_OK;
	if ((st = sqlite_use(s, STMT_telemetry_trim)) == NULL)
		return DB_FAILED;
	bind_i64(st, 1, before);
	bind_i64(st, 2, limit);
	if (sqlite_run(s, st, &changes) != DB_OK)
		return DB_FAILED;
	*removed = (unsigned)changes;
	return DB_OK;
}

static enum db_result
trim_gone(struct sqlite_db *s, unsigned limit, unsigned *removed)
{
	sqlite3_stmt *st = sqlite_use(s, STMT_telemetry_trim_gone);
	int changes = 0;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, limit);
	if (sqlite_run(s, st, &changes) != DB_OK)
		return DB_FAILED;
	*removed = (unsigned)changes;
	if (*removed == limit)
		return DB_OK;
	return sqlite_run(s, sqlite_use(s, STMT_telemetry_gone_done), NULL);
}

enum db_result
sqlite_telemetry_retain(struct db *db, int64_t before, unsigned limit, bool *more)
{
	struct sqlite_db *s = sqlite_self(db);
	unsigned old, gone;

	*more = false;
	if (limit == 0)
		return DB_OK;
	if (trim_old(s, before, limit, &old) == DB_FAILED || trim_gone(s, limit, &gone) == DB_FAILED)
		return DB_FAILED;
	*more = old == limit || gone == limit;
	return DB_OK;
}
