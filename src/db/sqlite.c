/*
 * sqlite.c: the SQLite engine: opening, schema, statements and transactions.
 * A process owns the one connection to the file that it opened after its fork,
 * as the writer (storage) or as a reader.
 *
 * The file is in WAL mode with synchronous=FULL: a commit that returned
 * survives the loss of power; a temporary one is never synced.  Check-points
 * are made beside the writer (sqlite_checkpoint.c), not by SQLite inside a
 * commit that somebody waits for.
 *
 * A transaction has the write lock from its beginning, so nothing ever has to be run again: no DB_AGAIN.
 *
 * A reader opens the file for writing, with query_only: the first to come
 * after a killed writer has to put the log in order, be it a reader.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/must.h"
#include "db/folders.h"
#include "db/migration.h"
#include "db/sqlite.h"
#include "db/tenants.h"

#define APPLICATION_ID	0x42656c79	/* "Bely" in the file's head: file(1) shows it */
#define BUSY_MS		1000		/* someone else (a backup, a shell) holds the write lock */
#define BUSY_AGAIN_MS	20
#define LOCK_BYTE	((off_t)1 << 62)
#define LOCK_WAIT_MS	6000		/* processes without a master are gone after 5 s */
#define LOCK_AGAIN_MS	20
#define CACHE_KIB	16384

static const char *const statement_text[STMT_COUNT] = {
#define STMT(name, sql) [STMT_##name] = sql,
#include "db/sqlite_statements.def"
#undef STMT
};

enum db_result
sqlite_failed(struct sqlite_db *s, const char *what)
{
	buf_clear(&s->error);
	buf_printf(&s->error, "%s: %s (%d)", what, sqlite3_errmsg(s->handle),
	    sqlite3_extended_errcode(s->handle));
	buf_putc(&s->error, '\0');
	return DB_FAILED;
}

sqlite3_stmt *
sqlite_use(struct sqlite_db *s, enum sqlite_statement which)
{
	if (s->stmt[which] == NULL &&
	    sqlite3_prepare_v3(s->handle, statement_text[which], -1, SQLITE_PREPARE_PERSISTENT,
	    &s->stmt[which], NULL) != SQLITE_OK) {
		sqlite_failed(s, "prepare");
		return NULL;
	}
	return s->stmt[which];
}

enum db_result
sqlite_run(struct sqlite_db *s, sqlite3_stmt *st, int *changes)
{
	enum db_result result = DB_OK;
	int rc;

	if (st == NULL)
		return DB_FAILED;
	rc = sqlite3_step(st);
	if (rc == SQLITE_DONE) {
		if (changes != NULL)
			*changes = sqlite3_changes(s->handle);
	} else if (rc == SQLITE_CONSTRAINT) {
		rc = sqlite3_extended_errcode(s->handle);
		result = rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY ?
		    DB_EXISTS : sqlite_failed(s, "constraint");
	} else {
		result = sqlite_failed(s, "write");
	}
	sqlite3_reset(st);
	return result;
}

enum db_result
sqlite_row(struct sqlite_db *s, sqlite3_stmt *st)
{
	int rc;

	if (st == NULL)
		return DB_FAILED;
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		return DB_OK;
	if (rc != SQLITE_DONE)
		sqlite_failed(s, "read");
	sqlite3_reset(st);
	return rc == SQLITE_DONE ? DB_NONE : DB_FAILED;
}

enum db_result
sqlite_insert(struct sqlite_db *s, sqlite3_stmt *st, int64_t *id)
{
	enum db_result result = sqlite_run(s, st, NULL);

	if (result == DB_OK)
		*id = sqlite3_last_insert_rowid(s->handle);
	return result;
}

enum db_result
sqlite_change(struct sqlite_db *s, sqlite3_stmt *st)
{
	int changes = 0;
	enum db_result result = sqlite_run(s, st, &changes);

	return result == DB_OK && changes == 0 ? DB_NONE : result;
}

bool
sqlite_more(struct sqlite_db *s, sqlite3_stmt *st, enum db_result *result)
{
	*result = sqlite_row(s, st);
	if (*result == DB_OK)
		return true;
	if (*result == DB_NONE)
		*result = DB_OK;
	return false;
}

enum db_result
sqlite_enough(sqlite3_stmt *st)
{
	sqlite3_reset(st);
	return DB_OK;
}

/* Transactions */

/* Somebody who holds the lock is waited for once; after that, until it was had again, hardly: others wait for us. */
enum db_result
sqlite_begin(struct db *db)
{
	struct sqlite_db *s = sqlite_self(db);
	enum db_result result = sqlite_run(s, sqlite_use(s, s->reader ? STMT_begin_reading : STMT_begin), NULL);

	if (s->impatient != (result != DB_OK)) {
		s->impatient = result != DB_OK;
		sqlite3_busy_timeout(s->handle, s->impatient ? BUSY_AGAIN_MS : BUSY_MS);
	}
	return result == DB_OK ? sqlite_usage_begun(s) : result;
}

/*
 * The answer is never lost, since the engine lives in this process; but of a log that could be written and not synced
 * nobody knows what is there, until it is read again.
 */
enum db_result
sqlite_commit(struct db *db)
{
	struct sqlite_db *s = sqlite_self(db);
	enum db_result result = sqlite_usage_write(s);

	if (result != DB_OK || sqlite_links_write(s) != DB_OK)
		return DB_FAILED;
	result = sqlite_run(s, sqlite_use(s, STMT_commit), NULL);
	return result == DB_FAILED && sqlite3_errcode(s->handle) == SQLITE_IOERR ? DB_UNCERTAIN : result;
}

/* Without a transaction around them each statement would lock the file for itself, and see another state of it. */
enum db_result
sqlite_look(struct sqlite_db *s, enum db_result (*at)(void *arg), void *arg)
{
	bool alone = sqlite3_get_autocommit(s->handle) != 0;
	enum db_result result;

	if (alone && sqlite_run(s, sqlite_use(s, STMT_begin_reading), NULL) != DB_OK)
		return DB_FAILED;
	result = at(arg);
	if (alone && sqlite_run(s, sqlite_use(s, STMT_commit), NULL) != DB_OK)
		return DB_FAILED;
	return result;
}

enum db_result
sqlite_rollback(struct db *db)
{
	struct sqlite_db *s = sqlite_self(db);

	tenants_forget(db);
	sqlite_usage_forget(s);
	sqlite_links_forget(s);
	s->command_last = 0;
	/* Some failures (a full disk) have rolled it back already. */
	if (sqlite3_get_autocommit(s->handle))
		return DB_OK;
	return sqlite_run(s, sqlite_use(s, STMT_rollback), NULL);
}

enum db_result
sqlite_probe(struct db *db, int64_t now, size_t bytes)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st;

	if (bytes == 0)
		return sqlite_meta_set(db, "probe", now);
	st = sqlite_use(s, STMT_meta_set);
	if (st == NULL)
		return DB_FAILED;
	bind_text(st, 1, SLICE("probe"));
	sqlite3_bind_zeroblob(st, 2, (int)bytes);
	return sqlite_run(s, st, NULL);
}

enum db_result
sqlite_meta_get(struct db *db, const char *name, int64_t *value)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_meta_get);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_text(st, 1, slice_of(name));
	result = sqlite_row(s, st);
	if (result == DB_OK) {
		*value = col_i64(st, 0);
		sqlite3_reset(st);
	}
	return result;
}

/* The plain read: a lock that a dead process had is gone with the process. */
enum db_result
sqlite_meta_settled(struct db *db, const char *name, int64_t *value)
{
	return sqlite_meta_get(db, name, value);
}

enum db_result
sqlite_meta_set(struct db *db, const char *name, int64_t value)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_meta_set);

	if (st == NULL)
		return DB_FAILED;
	bind_text(st, 1, slice_of(name));
	bind_i64(st, 2, value);
	return sqlite_run(s, st, NULL);
}

enum db_result
sqlite_meta_step(struct db *db, const char *name, int64_t to)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_meta_step);

	if (st == NULL)
		return DB_FAILED;
	bind_text(st, 1, slice_of(name));
	bind_i64(st, 2, to);
	return sqlite_change(s, st);
}

/* Tenants */

enum db_result
sqlite_tenant_number(struct db *db, struct slice name, bool create, int64_t *pk)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_tenant_find);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_text(st, 1, name);
	if ((result = sqlite_row(s, st)) == DB_OK) {
		*pk = col_i64(st, 0);
		sqlite3_reset(st);
	}
	if (result != DB_NONE || !create)
		return result;
	if ((st = sqlite_use(s, STMT_tenant_insert)) == NULL)
		return DB_FAILED;
	bind_text(st, 1, name);
	return sqlite_insert(s, st, pk);
}

enum db_result
sqlite_tenant_name(struct db *db, int64_t pk, struct buf *name)
{
	struct sqlite_db *s = sqlite_self(db);
	sqlite3_stmt *st = sqlite_use(s, STMT_tenant_name);
	enum db_result result;

	if (st == NULL)
		return DB_FAILED;
	bind_i64(st, 1, pk);
	if ((result = sqlite_row(s, st)) == DB_OK) {
		buf_put_slice(name, col_slice(st, 0));
		sqlite3_reset(st);
	}
	return result;
}

/* Opening */

static const char *
error_text(struct db *db)
{
	struct sqlite_db *s = sqlite_self(db);

	return s->error.len > 0 ? s->error.data : "no error";
}

static void
close_handle(struct db *db)
{
	struct sqlite_db *s = sqlite_self(db);

	sqlite_beside_stop(s);
	for (unsigned i = 0; i < STMT_COUNT; i++)
		sqlite3_finalize(s->stmt[i]);
	sqlite3_close(s->handle);
	if (s->locked_fd != -1)
		(void)close(s->locked_fd);
	sqlite_usage_forget(s);
	sqlite_links_forget(s);
	buf_fini(&s->error);
	free(s);
}

static const struct db_ops ops = {
#define OP(name, ...) .name = sqlite_##name,
#include "db/ops.def"
#undef OP
	.error = error_text,
	.close = close_handle,
};

/*
 * Two belayds on one file would each send the same commands.  The lock belongs to the open file
 * (F_OFD_SETLK), on a byte far beyond those that SQLite locks for itself, and goes with the process,
 * however that ends.  An instance that lost its master takes a while to leave: its successor waits
 * for that.  -1 with errno, EBUSY: it was not to be had.
 */
static int
lock_file(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_BYTE, .l_len = 1 };
	static const struct timespec pause = { .tv_nsec = LOCK_AGAIN_MS * 1000000L };

	for (int waited = 0; fcntl(fd, F_OFD_SETLK, &lock) == -1; waited += LOCK_AGAIN_MS) {
		if (errno != EAGAIN && errno != EACCES)
			return -1;
		if (waited >= LOCK_WAIT_MS) {
			errno = EBUSY;
			return -1;
		}
		(void)nanosleep(&pause, NULL);
	}
	return 0;
}

/*
 * Makes the file, readable by nobody else, and the folders that lead to it, and locks it.  The
 * descriptor, to be closed after SQLite's: closing any of a file gives up the process's other locks
 * on it.  -1 with errno.
 */
static int
make_file(const char *path)
{
	int fd, saved;

	if (folders_make(path, NULL) == -1)
		return -1;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd != -1 && lock_file(fd) == -1) {
		saved = errno;
		(void)close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

static int
pragma_int(sqlite3 *handle, const char *sql, int64_t *out)
{
	sqlite3_stmt *st;
	int rc;

	if (sqlite3_prepare_v2(handle, sql, -1, &st, NULL) != SQLITE_OK)
		return -1;
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : -1;
}

static int
newest_schema(void)
{
	return migrations_sqlite[migrations_sqlite_count - 1].number;
}

/* The schema of the file, 0 for an empty one.  -1 with a sentence: it is none of ours, or too new. */
static int
read_schema(struct sqlite_db *s, char *err, size_t errlen)
{
	int64_t version, application, tables;

	if (pragma_int(s->handle, "PRAGMA user_version", &version) == -1 ||
	    pragma_int(s->handle, "PRAGMA application_id", &application) == -1 ||
	    pragma_int(s->handle, "SELECT count(*) FROM sqlite_master", &tables) == -1) {
		snprintf(err, errlen, "%s", sqlite3_errmsg(s->handle));
		return -1;
	}
	if (application != APPLICATION_ID && (version != 0 || tables != 0)) {
		snprintf(err, errlen, "the file is a database of another program");
		return -1;
	}
	if (version > newest_schema()) {
		snprintf(err, errlen, "the database has schema %d, made by a newer belayd; this "
		    "one knows up to %d", (int)version, newest_schema());
		return -1;
	}
	return (int)version;
}

static int
run_migrations(struct sqlite_db *s, int version, char *err, size_t errlen)
{
	char stamp[96];

	for (size_t i = 0; i < migrations_sqlite_count; i++) {
		const struct migration *m = &migrations_sqlite[i];

		if (m->number > version && sqlite3_exec(s->handle, m->sql, NULL, NULL, NULL) != SQLITE_OK) {
			snprintf(err, errlen, "migration %d (%s): %s", m->number, m->name,
			    sqlite3_errmsg(s->handle));
			return -1;
		}
	}
	snprintf(stamp, sizeof(stamp), "PRAGMA user_version = %d; PRAGMA application_id = %d; COMMIT",
	    newest_schema(), APPLICATION_ID);
	if (sqlite3_exec(s->handle, stamp, NULL, NULL, NULL) == SQLITE_OK)
		return 0;
	snprintf(err, errlen, "migration: %s", sqlite3_errmsg(s->handle));
	return -1;
}

/*
 * 0, or -1 with a sentence.  The version is asked for again when the lock is held: of two processes
 * that start at one moment, only the first finds an older schema.
 */
static int
migrate(struct sqlite_db *s, char *err, size_t errlen)
{
	int version = read_schema(s, err, errlen);

	if (version == -1 || version == newest_schema())
		return version == -1 ? -1 : 0;
	if (s->reader) {
		snprintf(err, errlen, version == 0 ? "the database has no schema yet" :
		    "the database has schema %d, which is not brought up to date yet", version);
		return -1;
	}
	if (sqlite3_exec(s->handle, "BEGIN EXCLUSIVE", NULL, NULL, NULL) != SQLITE_OK) {
		snprintf(err, errlen, "migration: %s", sqlite3_errmsg(s->handle));
		return -1;
	}
	version = read_schema(s, err, errlen);
	if (version != -1 && run_migrations(s, version, err, errlen) == 0)
		return 0;
	sqlite3_exec(s->handle, "ROLLBACK", NULL, NULL, NULL);
	return -1;
}

/* 0, or -1: SQLite says why. */
static int
set_up(struct sqlite_db *s)
{
	char mode[96], setup[320];

	sqlite3_extended_result_codes(s->handle, 0);
	sqlite3_busy_timeout(s->handle, BUSY_MS);
	if (s->reader && sqlite3_db_config(s->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) != SQLITE_OK)
		return -1;
	snprintf(mode, sizeof(mode), s->reader ? "PRAGMA query_only = ON" :
	    "PRAGMA journal_mode = WAL; PRAGMA synchronous = %s", s->synced ? "FULL" : "OFF");
	snprintf(setup, sizeof(setup), "%s; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -%d; "
	    "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF", mode, CACHE_KIB);
	return sqlite3_exec(s->handle, setup, NULL, NULL, NULL) == SQLITE_OK ? 0 : -1;
}

struct db *
db_sqlite_open(const char *path, unsigned flags, char *err, size_t errlen)
{
	struct sqlite_db *s;
	bool reader = (flags & DB_READER) != 0;
	int fd = -1;
	char why[256];

	/*
	 * Each handle is one thread's; SQLite's own accounting and locks would only cost. Refused when it was
	 * used in this process before: no harm.
	 */
	sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);

	if (!reader && (fd = make_file(path)) == -1) {
		snprintf(err, errlen, "%s: %s", path, errno == EBUSY ?
		    "another belayd uses it" : strerror(errno));
		return NULL;
	}
	s = must_alloc(sizeof(*s));
	s->db.ops = &ops;
	s->reader = reader;
	s->locked_fd = fd;
	s->synced = (flags & DB_TEMPORARY) == 0;
	if (sqlite3_open_v2(path, &s->handle, SQLITE_OPEN_READWRITE | (reader ? 0 : SQLITE_OPEN_CREATE) |
	    SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK || set_up(s) == -1) {
		snprintf(err, errlen, "%s: %s", path, sqlite3_errmsg(s->handle));
		goto fail;
	}
	if (migrate(s, why, sizeof(why)) == -1) {
		snprintf(err, errlen, "%s: %s", path, why);
		goto fail;
	}
	if (!reader)
		sqlite3_wal_hook(s->handle, sqlite_note_log, s);
	return &s->db;
fail:
	close_handle(&s->db);
	return NULL;
}
