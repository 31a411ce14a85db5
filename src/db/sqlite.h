/*
 * sqlite.h: the inside of the SQLite engine: the handle, its prepared statements, binding and
 * reading.
 */
#ifndef BELAY_DB_SQLITE_H
#define BELAY_DB_SQLITE_H

#include <sqlite3.h>

#include "db/db.h"

#define PAGE_BYTES	4096

enum sqlite_statement {
#define STMT(name, sql) STMT_##name,
#include "db/sqlite_statements.def"
#undef STMT
	STMT_COUNT
};

struct sqlite_beside;

/* sqlite_usage.c */
struct sqlite_usage_of {
	int64_t tenant_pk;
	int64_t bytes;			/* as of the last commit; -1: not looked up */
	int64_t change;			/* by the open transaction */
	bool changed;
	struct sqlite_usage_of *next, *next_changed;
};

struct sqlite_usage {
	bool kept;
	bool unsure;			/* how far it is counted is to be read again: after a rollback */
	int64_t table, at;		/* counted: all tables before, and of this one the rows up to at */
	struct sqlite_usage_of **buckets, *changed;
	uint32_t bucket_count, count;
};
/* Numbers of the rows of a device: sqlite_links.c. */
enum sqlite_links { LINKS_EVENTS, LINKS_COMMANDS, LINKS_KINDS };
#define LINKS_MAX 16			/* in a run */

/* Some of them, in ascending order. */
struct sqlite_run {
	bool up;			/* are walked upwards */
	unsigned count, at;		/* at: how many were given */
	int64_t pk[LINKS_MAX];
};

struct sqlite_tails;

struct sqlite_db {
	struct db db;			/* first */
	sqlite3 *handle;
	bool reader;
	int locked_fd;			/* writer: the file's, which keeps other writers from it; else -1 */
	sqlite3_stmt *stmt[STMT_COUNT];	/* NULL until first used */
	struct buf error;		/* of the last DB_FAILED */
	bool impatient;			/* the last transaction could not be begun */
	int wal_pages;			/* in the log, as of the last commit */
	int wal_copied;			/* of these, copied to the file by check-points */
	bool synced;
	struct sqlite_beside *beside;	/* owned; NULL until the first check-point */
	struct sqlite_tails *tails;	/* owned; NULL: nothing is remembered */
	int64_t command_last;		/* number of the newest command; 0: to be asked for */
	int64_t retain_from;		/* commands up to here were looked at in this round */
	int64_t retain_tenant;		/* events of tenants up to here were looked at in this round */
	struct sqlite_usage usage;
};

static inline struct sqlite_db *
sqlite_self(struct db *db)
{
	return (struct sqlite_db *)db;
}

/* The statement, ready to be bound.  NULL: it can't be prepared; the error is set. */
sqlite3_stmt *sqlite_use(struct sqlite_db *s, enum sqlite_statement which);
/*
 * Runs a statement that gives no rows and resets it; *changes may be NULL.  DB_EXISTS for a broken
 * unique index.
 */
enum db_result sqlite_run(struct sqlite_db *s, sqlite3_stmt *st, int *changes);
/* The same for one that must find its row: DB_NONE, it did not. */
enum db_result sqlite_change(struct sqlite_db *s, sqlite3_stmt *st);
/* The same for one that adds a row, whose number is put in *id. */
enum db_result sqlite_insert(struct sqlite_db *s, sqlite3_stmt *st, int64_t *id);
/*
 * One step: DB_OK a row is there, DB_NONE it ended, DB_FAILED; the statement is reset by the latter
 * two.
 */
enum db_result sqlite_row(struct sqlite_db *s, sqlite3_stmt *st);
/*
 * The next row of a list; false: it ended, or failed, and *result says which.  Who wants no more
 * resets the statement and returns what sqlite_enough() says.
 */
bool sqlite_more(struct sqlite_db *s, sqlite3_stmt *st, enum db_result *result);
enum db_result sqlite_enough(sqlite3_stmt *st);
/* Several statements that only read, as one transaction. */
enum db_result sqlite_look(struct sqlite_db *s, enum db_result (*at)(void *arg), void *arg);
enum db_result sqlite_failed(struct sqlite_db *s, const char *what);

/* sqlite_checkpoint.c: the hook of the writer's commits; the thread ends, after its check-point. */
int sqlite_note_log(void *arg, sqlite3 *handle, const char *name, int pages);
void sqlite_beside_stop(struct sqlite_db *s);

/*
 * The row, newer than all of its kind, is the device's.  In a transaction that is written by sqlite_links_write(),
 * before its COMMIT; else at once.
 */
enum db_result sqlite_links_add(struct sqlite_db *s, enum sqlite_links kind, int64_t device_pk, int64_t pk);
enum db_result sqlite_links_write(struct sqlite_db *s);
/* After a rollback, and at the end. */
void sqlite_links_forget(struct sqlite_db *s);
/*
 * The next of a device's rows behind that number, which is the one given before: DB_NONE, there is none.  run begins
 * empty but for `up`.  Rows may be gone, and commands be another device's.  Belongs in a transaction.
 */
enum db_result sqlite_links_next(struct sqlite_db *s, enum sqlite_links kind, int64_t device_pk, int64_t behind,
    struct sqlite_run *run, int64_t *pk);

static inline void
bind_i64(sqlite3_stmt *st, int n, int64_t v)
{
	sqlite3_bind_int64(st, n, v);
}

/* The bytes must stay until the statement is reset. */
static inline void
bind_text(sqlite3_stmt *st, int n, struct slice v)
{
	sqlite3_bind_text(st, n, v.p != NULL ? v.p : "", (int)v.len, SQLITE_STATIC);
}

static inline void
bind_blob(sqlite3_stmt *st, int n, const void *p, size_t len)
{
	sqlite3_bind_blob(st, n, p != NULL ? p : "", (int)len, SQLITE_STATIC);
}

/* ?1 to ?3 of SCOPE_DEVICES. */
static inline void
bind_scope(sqlite3_stmt *st, const struct db_scope *scope)
{
	bind_i64(st, 1, scope->tenant_pk);
	bind_text(st, 2, scope->user);
	bind_i64(st, 3, scope->now);
}

static inline int64_t
col_i64(sqlite3_stmt *st, int n)
{
	return sqlite3_column_int64(st, n);
}

static inline struct slice
col_slice(sqlite3_stmt *st, int n)
{
	const void *p = sqlite3_column_blob(st, n);	/* of a TEXT: its bytes as they are */

	return slice_bytes(p, (size_t)sqlite3_column_bytes(st, n));
}

static inline void
col_id(sqlite3_stmt *st, int n, uint8_t id[UUID_LEN])
{
	struct slice v = col_slice(st, n);

	memset(id, 0, UUID_LEN);
	if (v.len == UUID_LEN)
		memcpy(id, v.p, UUID_LEN);
}

/*
 * What a transaction changes in bytes of tenants: after its begin, which is rolled back where this fails; before its
 * commit; with its rollback.
 */
enum db_result sqlite_usage_begun(struct sqlite_db *s);
enum db_result sqlite_usage_write(struct sqlite_db *s);
void sqlite_usage_forget(struct sqlite_db *s);

#define OP(name, ...) enum db_result sqlite_##name(struct db *db, ##__VA_ARGS__);
#include "db/ops.def"
#undef OP

#endif
