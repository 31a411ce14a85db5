/*
 * sqlite_command.c: commands and idempotency keys in SQLite.  Only the
 * storage process.
 */
#include "db/rows.h"
#include "db/sqlite.h"

/* Sets command_last. */
static enum db_result
ask_last(struct sqlite_db *s)
{
	sqlite3_stmt *st = sqlite_use(s, STMT_command_last);

	if (sqlite_row(s, st) != DB_OK)
		return DB_FAILED;
	s->command_last = col_i64(st, 0);
	sqlite3_reset(st);
	return DB_OK;
}

enum db_result
sqlite_command_insert(struct db *db, struct db_command *c)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_command_insert);
	enum db_result result;

	if (st == NULL || (s->command_last == 0 && ask_last(s) != DB_OK))
		return DB_FAILED;
	bind_blob(st, 1, c->id, UUID_LEN);
	bind_i64(st, 2, c->device_pk);
	bind_i64(st, 3, c->status);
	bind_i64(st, 4, c->open);
	bind_i64(st, 5, c->outcome);
	bind_i64(st, 6, c->late);
	bind_i64(st, 7, c->attempt);
	bind_i64(st, 8, c->sent_epoch);
	bind_i64(st, 9, c->created_at);
	bind_i64(st, 10, c->sent_at);
	bind_i64(st, 11, c->accepted_at);
	bind_i64(st, 12, c->finished_at);
	bind_i64(st, 13, c->timeout_ms);
	bind_i64(st, 14, c->queue_ms);
	bind_i64(st, 15, c->queue_until);
	bind_i64(st, 16, (int64_t)c->asker);
	bind_i64(st, 17, c->asker_boot);
	bind_text(st, 18, c->command);
	bind_text(st, 19, c->requested_by);
	bind_text(st, 20, c->params_json);
	bind_text(st, 21, c->only_if_json);
	bind_text(st, 22, c->trace_json);
	bind_text(st, 23, c->result_json);
	bind_text(st, 24, c->error_json);
	bind_i64(st, 25, c->role);
	bind_i64(st, 26, s->command_last + 1);
	if ((result = sqlite_run(s, st, NULL)) != DB_OK)
		return result;
	c->number = ++s->command_last;
	return sqlite_links_add(s, LINKS_COMMANDS, c->device_pk, c->number);
}

static void
read_command(sqlite3_stmt *st, struct db_command *c)
{
	c->number = col_i64(st, 0);
	col_id(st, 1, c->id);
	c->device_pk = col_i64(st, 2);
	c->status = (enum command_status)col_i64(st, 3);
	c->open = col_i64(st, 4) != 0;
	c->outcome = (enum command_outcome)col_i64(st, 5);
	c->late = col_i64(st, 6) != 0;
	c->attempt = col_i64(st, 7);
	c->sent_epoch = col_i64(st, 8);
	c->created_at = col_i64(st, 9);
	c->sent_at = col_i64(st, 10);
	c->accepted_at = col_i64(st, 11);
	c->finished_at = col_i64(st, 12);
	c->timeout_ms = col_i64(st, 13);
	c->queue_ms = col_i64(st, 14);
	c->queue_until = col_i64(st, 15);
	c->asker = (uint64_t)col_i64(st, 16);
	c->asker_boot = col_i64(st, 17);
	c->command = col_slice(st, 18);
	c->requested_by = col_slice(st, 19);
	c->params_json = col_slice(st, 20);
	c->only_if_json = col_slice(st, 21);
	c->trace_json = col_slice(st, 22);
	c->result_json = col_slice(st, 23);
	c->error_json = col_slice(st, 24);
	c->role = (uint8_t)col_i64(st, 25);
	c->cancelled_by = col_slice(st, 26);
}

static enum db_result
one_command(struct sqlite_db *s, sqlite3_stmt *st, struct db_command *out)
{
	enum db_result result = sqlite_row(s, st);

	if (result == DB_OK) {
		read_command(st, out);
		rows_keep_command(out);
		sqlite3_reset(st);
	}
	return result;
}

static enum db_result
command_page(struct sqlite_db *s, sqlite3_stmt *st, struct db_page *page)
{
	struct db_command c = { .text = BUF_INIT };
	enum db_result result;

	while (sqlite_more(s, st, &result)) {
		if (!page_goes_on(page))
			return sqlite_enough(st);
		read_command(st, &c);
		page_passed(page, c.number);
		rows_add_command(page, &c);
	}
	return result;
}

enum db_result
sqlite_command_get(struct db *db, const uint8_t id[UUID_LEN], struct db_command *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_command_get);

	if (st == NULL)
		return DB_FAILED;
	bind_blob(st, 1, id, UUID_LEN);
	return one_command(s, st, out);
}

enum db_result
sqlite_command_update(struct db *db, const struct db_command *c, enum command_status was)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_command_update);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, c->number);
	bind_i64(st, 2, was);
	bind_i64(st, 3, c->status);
	bind_i64(st, 4, c->open);
	bind_i64(st, 5, c->outcome);
	bind_i64(st, 6, c->late);
	bind_i64(st, 7, c->attempt);
	bind_i64(st, 8, c->sent_epoch);
	bind_i64(st, 9, c->sent_at);
	bind_i64(st, 10, c->accepted_at);
	bind_i64(st, 11, c->finished_at);
	bind_text(st, 12, c->trace_json);
	bind_text(st, 13, c->result_json);
	bind_text(st, 14, c->error_json);
	bind_text(st, 15, c->cancelled_by);
	return sqlite_change(s, st);
}

struct listing {
	struct sqlite_db *s;
	int64_t device_pk, before;
	struct db_page *page;
};

static enum db_result
list_commands(void *arg)
{
	struct listing *l = arg;
	struct sqlite_run run = { .up = false };
	enum db_result result;

	while ((result = sqlite_links_next(l->s, LINKS_COMMANDS, l->device_pk, l->before, &run,
	    &l->before)) == DB_OK) {
		sqlite3_stmt *st = sqlite_use(l->s, STMT_command_of_device);

		if (st == NULL)
			return DB_FAILED;
		bind_i64(st, 1, l->device_pk);
		bind_i64(st, 2, l->before);
		if (command_page(l->s, st, l->page) == DB_FAILED)
			return DB_FAILED;
		if (l->page->more)
			return DB_OK;
	}
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
sqlite_command_list(struct db *db, int64_t device_pk, int64_t before, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	struct listing l = { s, device_pk, before != 0 ? before : INT64_MAX, page };

	return sqlite_look(s, list_commands, &l);
}

enum db_result
sqlite_command_open(struct db *db, int64_t device_pk, int64_t after, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_command_open);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	bind_i64(st, 2, after);
	return command_page(s, st, page);
}

enum db_result
sqlite_command_open_all(struct db *db, struct db_command_key after, struct db_page *page)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_command_open_all);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, after.device_pk);
	bind_i64(st, 2, after.number);
	return command_page(s, st, page);
}

enum db_result
sqlite_command_queued_first(struct db *db, int64_t device_pk, int64_t from, struct db_command *out)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_command_queued_first);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, device_pk);
	bind_i64(st, 2, from);
	return one_command(s, st, out);
}

enum db_result
sqlite_command_queue_moved(struct db *db, int64_t asker_boot, int64_t by_ms)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_command_queue_moved);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, asker_boot);
	bind_i64(st, 2, by_ms);
	return sqlite_run(s, st, NULL);
}

enum db_result
sqlite_command_queue_due(struct db *db, int64_t now, struct db_page *page, int64_t *next)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_command_queue_due);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, now);
	if ((result = command_page(s, st, page)) != DB_OK)
		return result;
	if ((st = sqlite_use(s, STMT_command_queue_next)) == NULL)
		return DB_FAILED;
	*next = 0;
	result = sqlite_row(s, st);
	if (result == DB_OK) {
		*next = col_i64(st, 0);
		sqlite3_reset(st);
	}
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
sqlite_idempotency_get(struct db *db, int64_t tenant_pk, struct slice user, struct slice key,
    int64_t now, uint8_t command_id[UUID_LEN], uint8_t params_hash[SHA256_LEN])
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_idempotency_get);
	enum db_result result;
	struct slice hash;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, tenant_pk);
	bind_text(st, 2, user);
	bind_text(st, 3, key);
	bind_i64(st, 4, now);
	if ((result = sqlite_row(s, st)) != DB_OK)
		return result;
	col_id(st, 0, command_id);
	hash = col_slice(st, 1);
	memset(params_hash, 0, SHA256_LEN);
	if (hash.len == SHA256_LEN)
		memcpy(params_hash, hash.p, SHA256_LEN);
	sqlite3_reset(st);
	return DB_OK;
}

enum db_result
sqlite_idempotency_put(struct db *db, int64_t tenant_pk, struct slice user, struct slice key,
    int64_t expires_at, const uint8_t command_id[UUID_LEN], const uint8_t params_hash[SHA256_LEN])
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_idempotency_put);

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, tenant_pk);
	bind_text(st, 2, user);
	bind_text(st, 3, key);
	bind_i64(st, 4, expires_at);
	bind_blob(st, 5, command_id, UUID_LEN);
	bind_blob(st, 6, params_hash, SHA256_LEN);
	return sqlite_run(s, st, NULL);
}
