/*
 * sqlite_checkpoint.c: check-points of the writer's log beside the writer.  What is in the log is copied to the file
 * and synced there by a thread with a handle of its own, while the writer goes on: on a disk that takes 5 to 70 ms for
 * some thousand pages (measured), which everybody who waits for a commit would wait for as well.
 *
 * The log begins anew when all of it was copied, and a writer that never stops is always some pages ahead of the
 * thread.  So when the log is long and those pages are few, the writer copies them itself.
 *
 * The thread touches nothing but its own handle and struct beside; it is idle but for one check-point at a time, which
 * the writer asks for and whose result it takes.
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "db/sqlite.h"

#define DUE_IDLE	1000		/* pages, 4 MB: worth a check-point when there is nothing else to do */
#define DUE_BUSY	2048
#define LOG_LONG	4096		/* 16 MB: readers pause, and the log has to begin anew */
#define LOG_TOO_LONG	16384		/* whatever it takes: the thread does not get there */
#define FEW		128		/* that the writer copies itself: less than a millisecond, and a sync */
#define STACK_BYTES	(256u << 10)

enum turn { RESTS, ASKED, DONE };

struct sqlite_beside {
	pthread_t thread;
	sem_t asked;
	_Atomic enum turn turn;		/* whose: the writer's, but for ASKED */
	bool ends;
	char *path;
	bool synced;
	/* of the last check-point: its result, pages in the log then, and those of them that are copied */
	int rc, in_log, copied;
};

static sqlite3 *
open_beside(const struct sqlite_beside *b)
{
	sqlite3 *handle = NULL;

	/* The read opens the log; without it a check-point finds nothing to do. */
	if (sqlite3_open_v2(b->path, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK &&
	    sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) == SQLITE_OK &&
	    sqlite3_exec(handle, b->synced ? "PRAGMA synchronous = FULL; SELECT 1 FROM sqlite_master" :
	    "PRAGMA synchronous = OFF; SELECT 1 FROM sqlite_master", NULL, NULL, NULL) == SQLITE_OK)
		return handle;
	sqlite3_close(handle);
	return NULL;
}

static void *
run(void *arg)
{
	struct sqlite_beside *b = arg;
	sqlite3 *handle = NULL;

	for (;;) {
		while (sem_wait(&b->asked) == -1)
			;
		if (b->ends)
			break;
		if (handle == NULL)
			handle = open_beside(b);
		b->rc = handle == NULL ? SQLITE_CANTOPEN :
		    sqlite3_wal_checkpoint_v2(handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &b->in_log, &b->copied);
		b->turn = DONE;
	}
	sqlite3_close(handle);
	return NULL;
}

/* NULL: there is no thread to be had. */
static struct sqlite_beside *
beside_start(struct sqlite_db *s)
{
	struct sqlite_beside *b = must_alloc(sizeof(*b));
	const char *path = sqlite3_db_filename(s->handle, NULL);
	pthread_attr_t attr;
	sigset_t all, old;
	int rc;

	b->path = must_strndup(path, strlen(path));
	b->synced = s->synced;
	must(sem_init(&b->asked, 0, 0) == 0);
	must(pthread_attr_init(&attr) == 0);
	must(pthread_attr_setstacksize(&attr, STACK_BYTES) == 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);	/* signals are for the process's loop */
	rc = pthread_create(&b->thread, &attr, run, b);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		return b;
	sem_destroy(&b->asked);
	free(b->path);
	free(b);
	return NULL;
}

void
sqlite_beside_stop(struct sqlite_db *s)
{
	struct sqlite_beside *b = s->beside;

	if (b == NULL)
		return;
	b->ends = true;
	sem_post(&b->asked);
	pthread_join(b->thread, NULL);
	sem_destroy(&b->asked);
	free(b->path);
	free(b);
	s->beside = NULL;
}

/* Takes the thread's result, if there is one.  true: the thread is free. */
static bool
beside_take(struct sqlite_db *s)
{
	struct sqlite_beside *b = s->beside;

	if (b == NULL || b->turn == RESTS)
		return true;
	if (b->turn == ASKED)
		return false;
	/* Where the log began anew meanwhile, nothing of it is copied. */
	if (b->rc == SQLITE_OK && s->wal_pages >= b->in_log)
		s->wal_copied = b->copied;
	b->turn = RESTS;
	return true;
}

static bool
beside_ask(struct sqlite_db *s)
{
	if (s->beside == NULL && (s->beside = beside_start(s)) == NULL)
		return false;
	s->beside->turn = ASKED;
	sem_post(&s->beside->asked);
	return true;
}

static enum db_result
check_point(struct sqlite_db *s)
{
	int rc = sqlite3_wal_checkpoint_v2(s->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, &s->wal_copied);

	return rc == SQLITE_OK || rc == SQLITE_BUSY ? DB_OK : sqlite_failed(s, "checkpoint");	/* busy: next time */
}

/* Of the writer's last commit. */
int
sqlite_note_log(void *arg, sqlite3 *handle, const char *name, int pages)
{
	struct sqlite_db *s = arg;

	(void)handle, (void)name;
	if (pages < s->wal_pages)
		s->wal_copied = 0;	/* it began anew */
	s->wal_pages = pages;
	return SQLITE_OK;
}

enum db_result
sqlite_idle(struct db *db, bool busy)
{
	struct sqlite_db *s = sqlite_self(db);
	int due;

	if (!beside_take(s))
		return DB_OK;
	due = s->wal_pages - s->wal_copied;
	if (due <= 0 || (s->wal_pages < LOG_LONG && due < (busy ? DUE_BUSY : DUE_IDLE)))
		return DB_OK;
	if (s->wal_pages < LOG_TOO_LONG && !(s->wal_pages >= LOG_LONG && due <= FEW) && beside_ask(s))
		return DB_OK;
	return check_point(s);
}

enum db_result
sqlite_log_bytes(struct db *db, int64_t *bytes)
{
	*bytes = (int64_t)sqlite_self(db)->wal_pages * PAGE_BYTES;
	return DB_OK;
}
