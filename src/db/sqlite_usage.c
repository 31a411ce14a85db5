/*
 * sqlite_usage.c: how many bytes each tenant keeps in the store, while somebody wants to know.  Only the storage
 * process.
 *
 * Temporary triggers of this connection call belay_usage() for each row that comes, goes or grows.  The function
 * adds up in memory; just before COMMIT one row of each tenant concerned is written.  So the figure is as durable
 * as the rows, whoever is killed, and without the triggers nothing costs anything.
 *
 * Rows that were there before are counted by usage_count() in steps, table by table, in the order of their keys.
 * How far it has come is in meta (usage_table, usage_at), written with each step.  A trigger counts a row only
 * where the walk has been; what is beyond is for the walk.
 *
 * The figures are in a table "usage", which is there only as long as they are kept.
 *
 * What counts is in one table here.  A row of a deleted device counts for nothing.  Rows of a device whose own row
 * has gone count for nobody, since nothing names their tenant: what is left of them is taken off when that row
 * goes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "db/sqlite.h"

#define BUCKETS_MIN	64u
#define STEP_BYTES	(1 << 20)	/* counted in one step */

/* Templates: @ stands for the row, such as "NEW.". */
static const struct counted {
	const char *table, *key, *tenant, *size;
	const char *grows;		/* columns by which it changes; NULL: it never does */
} counted[] = {
	{ "devices", "@device_pk", "@tenant_pk", "CASE WHEN @deleted_at = 0 THEN belay_bytes(@device_id, @owner, "
	    "@audience, @device_type, @name, @state_json, @tags_json, @metadata_json, @settings_json) ELSE 0 END",
	    "deleted_at, audience, name, state_json, tags_json, metadata_json, settings_json" },
	{ "commands", "@command_pk", "(SELECT tenant_pk FROM devices d WHERE d.device_pk = @device_pk)",
	    "belay_bytes(@command, @requested_by, @params_json, @only_if_json, @trace_json, @result_json, @error_json, "
	    "@cancelled_by)", "trace_json, result_json, error_json, cancelled_by" },
	{ "events", "@event_pk", "@event_pk >> 40",
	    "belay_bytes(@event, @actor, @type, @user, @data_json, @payload)", NULL },
	{ "visitors", "@visitor_pk", "@tenant_pk", "belay_bytes(@name, @snapshot_url, @data_json, @decided_by)",
	    "decided_by" },
	{ "telemetry", "@seq", "(SELECT tenant_pk FROM devices d WHERE d.device_pk = @device_pk)",
	    "belay_bytes(@data_json)", NULL }
};

enum { COUNTED_DEVICES, COUNTED_COMMANDS, COUNTED_EVENTS, COUNTED_VISITORS, COUNTED_TELEMETRY, COUNTED_ALL };
_Static_assert(sizeof(counted) / sizeof(counted[0]) == COUNTED_ALL, "one name each");

/* --- what is known of each tenant */

static struct sqlite_usage_of **
spot(const struct sqlite_usage *u, int64_t tenant_pk)
{
	struct sqlite_usage_of **at = &u->buckets[(uint64_t)tenant_pk & (u->bucket_count - 1)];

	while (*at != NULL && (*at)->tenant_pk != tenant_pk)
		at = &(*at)->next;
	return at;
}

static void
grow(struct sqlite_usage *u)
{
	struct sqlite_usage_of **old = u->buckets, *of, *next;
	uint32_t n = u->bucket_count;

	u->bucket_count = n == 0 ? BUCKETS_MIN : n * 2;
	u->buckets = must_alloc(u->bucket_count * sizeof(struct sqlite_usage_of *));
	for (uint32_t i = 0; i < n; i++)
		for (of = old[i]; of != NULL; of = next) {
			struct sqlite_usage_of **at = spot(u, of->tenant_pk);

			next = of->next;
			of->next = NULL;
			*at = of;
		}
	free(old);
}

static struct sqlite_usage_of *
have(struct sqlite_usage *u, int64_t tenant_pk)
{
	struct sqlite_usage_of **at;

	if (u->count >= u->bucket_count)
		grow(u);
	at = spot(u, tenant_pk);
	if (*at == NULL) {
		*at = must_alloc(sizeof(**at));
		(*at)->tenant_pk = tenant_pk;
		(*at)->bytes = -1;
		u->count++;
	}
	return *at;
}

static void
change(struct sqlite_usage *u, int64_t tenant_pk, int64_t by)
{
	struct sqlite_usage_of *of = have(u, tenant_pk);

	of->change += by;
	if (of->changed)
		return;
	of->changed = true;
	of->next_changed = u->changed;
	u->changed = of;
}

static void
forget_all(struct sqlite_usage *u)
{
	for (uint32_t i = 0; i < u->bucket_count; i++)
		for (struct sqlite_usage_of *of = u->buckets[i], *next; of != NULL; of = next) {
			next = of->next;
			free(of);
		}
	free(u->buckets);
	u->buckets = NULL;
	u->changed = NULL;
	u->bucket_count = u->count = 0;
}

/* --- functions of SQL */

/* belay_bytes(value, …): of a row with these texts. */
static void
row_bytes(sqlite3_context *context, int n, sqlite3_value **values)
{
	int64_t sum = USAGE_ROW;

	for (int i = 0; i < n; i++)
		sum += sqlite3_value_bytes(values[i]);
	sqlite3_result_int64(context, sum);
}

/* belay_usage(table, key, tenant, change): a row of it came, went or grew. */
static void
row_changed(sqlite3_context *context, int n, sqlite3_value **values)
{
	struct sqlite_usage *u = sqlite3_user_data(context);
	int64_t table = sqlite3_value_int64(values[0]), key = sqlite3_value_int64(values[1]);

	(void)n;
	if (sqlite3_value_type(values[2]) == SQLITE_NULL || table > u->table || (table == u->table && key > u->at))
		return;
	change(u, sqlite3_value_int64(values[2]), sqlite3_value_int64(values[3]));
}

static void
put(struct buf *sql, const char *template, const char *row)
{
	for (; *template != '\0'; template++) {
		if (*template == '@')
			buf_puts(sql, row);
		else
			buf_putc(sql, *template);
	}
}

/* … AFTER what ON a table: belay_usage() with `sign` and the row's size, and less what it had (`old`). */
static void
put_trigger(struct buf *sql, unsigned table, const char *what, const char *row, const char *sign, const char *old)
{
	const struct counted *c = &counted[table];

	buf_printf(sql, "CREATE TEMP TRIGGER usage_%s_%.6s AFTER %s ON main.%s BEGIN SELECT belay_usage(%u, ",
	    c->table, what, what, c->table, table);
	put(sql, c->key, row);
	buf_puts(sql, ", ");
	put(sql, c->tenant, row);
	buf_printf(sql, ", %s ", sign);
	put(sql, c->size, row);
	if (old != NULL) {
		buf_puts(sql, " - ");
		put(sql, c->size, old);
	}
	buf_puts(sql, "); END;\n");
}

/* What is left of a device whose row goes: nobody will know whose it was. */
static void
put_left(struct buf *sql, unsigned table)
{
	const struct counted *c = &counted[table];

	buf_printf(sql, "CREATE TEMP TRIGGER usage_left_%s AFTER DELETE ON main.devices BEGIN SELECT belay_usage(%u, ",
	    c->table, table);
	put(sql, c->key, "t.");
	buf_puts(sql, ", OLD.tenant_pk, - ");
	put(sql, c->size, "t.");
	buf_printf(sql, ") FROM %s t WHERE t.device_pk = OLD.device_pk; END;\n", c->table);
}

static int
run_text(struct sqlite_db *s, struct buf *sql)
{
	int rc;

	buf_putc(sql, '\0');
	rc = sqlite3_exec(s->handle, sql->data, NULL, NULL, NULL);
	buf_fini(sql);
	return rc;
}

static enum db_result
make_triggers(struct sqlite_db *s)
{
	struct buf sql = BUF_INIT;
	char update[128];
	int flags = SQLITE_UTF8 | SQLITE_INNOCUOUS;

	if (sqlite3_create_function_v2(s->handle, "belay_bytes", -1, flags | SQLITE_DETERMINISTIC, NULL, row_bytes,
	    NULL, NULL, NULL) != SQLITE_OK || sqlite3_create_function_v2(s->handle, "belay_usage", 4, flags, &s->usage,
	    row_changed, NULL, NULL, NULL) != SQLITE_OK)
		return sqlite_failed(s, "usage");
	buf_puts(&sql, "BEGIN;\n");
	for (unsigned i = 0; i < COUNTED_ALL; i++) {
		put_trigger(&sql, i, "INSERT", "NEW.", "", NULL);
		put_trigger(&sql, i, "DELETE", "OLD.", "-", NULL);
		if (counted[i].grows == NULL)
			continue;
		snprintf(update, sizeof(update), "UPDATE OF %s", counted[i].grows);
		put_trigger(&sql, i, update, "NEW.", "", "OLD.");
	}
	put_left(&sql, COUNTED_COMMANDS);
	put_left(&sql, COUNTED_TELEMETRY);
	buf_puts(&sql, "COMMIT;");
	if (run_text(s, &sql) == SQLITE_OK)
		return DB_OK;
	(void)sqlite_failed(s, "usage");
	if (sqlite3_get_autocommit(s->handle) == 0)
		(void)sqlite3_exec(s->handle, "ROLLBACK", NULL, NULL, NULL);
	return DB_FAILED;
}

static enum db_result
drop_triggers(struct sqlite_db *s)
{
	struct buf sql = BUF_INIT;

	for (unsigned i = 0; i < COUNTED_ALL; i++)
		buf_printf(&sql, "DROP TRIGGER IF EXISTS temp.usage_%s_INSERT; "
		    "DROP TRIGGER IF EXISTS temp.usage_%s_DELETE; "
		    "DROP TRIGGER IF EXISTS temp.usage_%s_UPDATE; DROP TRIGGER IF EXISTS temp.usage_left_%s;\n",
		    counted[i].table, counted[i].table, counted[i].table, counted[i].table);
	return run_text(s, &sql) == SQLITE_OK ? DB_OK : sqlite_failed(s, "usage");
}

/* --- how far it is counted */

/* *table: -1 where it is not kept. */
static enum db_result
read_progress(struct sqlite_db *s, int64_t *table, int64_t *at)
{
	enum db_result result = sqlite_meta_get(&s->db, "usage_table", table);

	*at = 0;
	if (result == DB_NONE)
		*table = -1;
	if (result == DB_OK)
		result = sqlite_meta_get(&s->db, "usage_at", at);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

static enum db_result
write_progress(struct sqlite_db *s, int64_t table, int64_t at)
{
	if (sqlite_meta_set(&s->db, "usage_table", table) != DB_OK)
		return DB_FAILED;
	return sqlite_meta_set(&s->db, "usage_at", at);
}

/* From nothing (table 0), or to nothing (-1). */
static enum db_result
start_over(struct sqlite_db *s, int64_t table)
{
	const char *sql = table == -1 ? "DROP TABLE IF EXISTS usage" :
	    "CREATE TABLE usage (tenant_pk INTEGER PRIMARY KEY NOT NULL, bytes INTEGER NOT NULL)";
	enum db_result result = sqlite_run(s, sqlite_use(s, STMT_begin), NULL);

	if (result != DB_OK)
		return DB_FAILED;
	if (sqlite3_exec(s->handle, sql, NULL, NULL, NULL) != SQLITE_OK)
		result = sqlite_failed(s, "usage");
	if (result == DB_OK)
		result = write_progress(s, table, 0);
	if (result == DB_OK)
		result = sqlite_run(s, sqlite_use(s, STMT_commit), NULL);
	if (result != DB_OK && sqlite3_get_autocommit(s->handle) == 0)
		(void)sqlite_run(s, sqlite_use(s, STMT_rollback), NULL);
	return result;
}

enum db_result
sqlite_usage_keep(struct db *db, bool on)
{
	struct sqlite_db *s = sqlite_self(db);
	struct sqlite_usage *u = &s->usage;
	int64_t table, at;

	must(sqlite3_get_autocommit(s->handle) != 0);
	if (u->kept && on)
		return DB_OK;
	if (u->kept && drop_triggers(s) != DB_OK)
		return DB_FAILED;
	u->kept = false;
	forget_all(u);
	if (read_progress(s, &table, &at) != DB_OK)
		return DB_FAILED;
	if ((table != -1) != on) {
		table = on ? 0 : -1;
		at = 0;
		if (start_over(s, table) != DB_OK)
			return DB_FAILED;
	}
	if (!on)
		return DB_OK;
	u->table = table;
	u->at = at;
	u->unsure = false;
	if (make_triggers(s) != DB_OK)
		return DB_FAILED;
	u->kept = true;
	return DB_OK;
}

enum db_result
sqlite_usage_begun(struct sqlite_db *s)
{
	struct sqlite_usage *u = &s->usage;

	if (!u->unsure)
		return DB_OK;
	if (read_progress(s, &u->table, &u->at) != DB_OK) {
		(void)sqlite_run(s, sqlite_use(s, STMT_rollback), NULL);
		return DB_FAILED;
	}
	u->unsure = false;
	return DB_OK;
}

enum db_result
sqlite_usage_write(struct sqlite_db *s)
{
	struct sqlite_usage *u = &s->usage;
	struct sqlite_usage_of *of;
	sqlite3_stmt *st;

	while ((of = u->changed) != NULL) {
		if ((st = sqlite_use(s, STMT_usage_write)) == NULL)
			return DB_FAILED;
		bind_i64(st, 1, of->tenant_pk);
		bind_i64(st, 2, of->change);
		if (sqlite_row(s, st) != DB_OK)
			return DB_FAILED;
		of->bytes = col_i64(st, 0);
		sqlite3_reset(st);
		of->change = 0;
		of->changed = false;
		u->changed = of->next_changed;
	}
	return DB_OK;
}

void
sqlite_usage_forget(struct sqlite_db *s)
{
	forget_all(&s->usage);
	s->usage.unsure = s->usage.kept;
}

/* --- counting */

/* So many rows of the table behind `at`; *last: the end of the table was seen. */
static enum db_result
count_rows(struct sqlite_db *s, unsigned table, int64_t *at, unsigned limit, bool *last)
{
	const struct counted *c = &counted[table];
	struct buf sql = BUF_INIT;
	sqlite3_stmt *st;
	int64_t sum = 0;
	unsigned n = 0;
	enum db_result result;

	buf_puts(&sql, "SELECT ");
	put(&sql, c->key, "t.");
	buf_puts(&sql, ", ");
	put(&sql, c->tenant, "t.");
	buf_puts(&sql, ", ");
	put(&sql, c->size, "t.");
	buf_printf(&sql, " FROM %s t WHERE ", c->table);
	put(&sql, c->key, "t.");
	buf_puts(&sql, " > ?1 ORDER BY 1");
	result = sqlite3_prepare_v2(s->handle, sql.data, (int)sql.len, &st, NULL) == SQLITE_OK ? DB_OK :
	    sqlite_failed(s, "usage");
	buf_fini(&sql);
	if (result != DB_OK)
		return DB_FAILED;
	bind_i64(st, 1, *at);
	while (n < limit && sum < STEP_BYTES && sqlite_more(s, st, &result)) {
		*at = col_i64(st, 0);
		if (sqlite3_column_type(st, 1) != SQLITE_NULL)
			change(&s->usage, col_i64(st, 1), col_i64(st, 2));
		sum += col_i64(st, 2);
		n++;
	}
	*last = n < limit && sum < STEP_BYTES;
	sqlite3_finalize(st);
	return result;
}

enum db_result
sqlite_usage_count(struct db *db, unsigned limit, bool *more)
{
	struct sqlite_db *s = sqlite_self(db);
	struct sqlite_usage *u = &s->usage;
	bool last;

	*more = u->kept && u->table < COUNTED_ALL;
	if (!*more)
		return DB_OK;
	if (count_rows(s, (unsigned)u->table, &u->at, limit, &last) != DB_OK)
		return DB_FAILED;
	if (last) {
		u->table++;
		u->at = 0;
	}
	*more = u->table < COUNTED_ALL;
	return write_progress(s, u->table, u->at);
}

enum db_result
sqlite_usage(struct db *db, int64_t tenant_pk, int64_t *bytes)
{
	struct sqlite_db *s = sqlite_self(db);
	struct sqlite_usage_of *of;
	sqlite3_stmt *st;
	enum db_result result;

	if (!s->usage.kept)
		return DB_NONE;
	of = have(&s->usage, tenant_pk);
	if (of->bytes == -1) {
		if ((st = sqlite_use(s, STMT_usage_get)) == NULL)
			return DB_FAILED;
		bind_i64(st, 1, tenant_pk);
		result = sqlite_row(s, st);
		if (result == DB_FAILED)
			return DB_FAILED;
		of->bytes = result == DB_OK ? col_i64(st, 0) : 0;
		sqlite3_reset(st);
	}
	*bytes = of->bytes + of->change;
	return DB_OK;
}
