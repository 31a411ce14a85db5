/*
 * db.c: opens a store by its URL.  The master arranges, workers open; owns nothing but what it hands out.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "db/db.h"
#include "db/folders.h"
#include "db/place.h"
#include "db/tenants.h"

struct db_engine {
	const char *scheme;
	struct db *(*open)(const char *at, unsigned flags, char *err, size_t errlen);
	unsigned flags;
};

static const struct db_engine engines[] = {
	{ "sqlite://", db_sqlite_open, DB_FILE },
	{ "memory:", db_sqlite_open, DB_TEMPORARY },
};

/* *at: what the URL says behind the scheme.  NULL with a sentence: no such engine. */
static const struct db_engine *
engine_of(const char *url, const char **at, char *why, size_t len)
{
	for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++) {
		const struct db_engine *e = &engines[i];
		size_t n = strlen(e->scheme);

		*at = url + n;
		if (strncmp(url, e->scheme, n) == 0 &&
		    ((e->flags & DB_FILE) != 0 ? url[n] == '/' && url[n + 1] != '\0' : url[n] == '\0'))
			return e;
	}
	snprintf(why, len, "store.url: sqlite:///path or memory: is wanted");
	return NULL;
}

int
db_check_url(const char *url, char *why, size_t len)
{
	const char *at;

	return engine_of(url, &at, why, len) != NULL ? 0 : -1;
}

int
db_make_folders(const char *url, unsigned uid, unsigned gid, char *err, size_t errlen)
{
	struct folders_owner owner = { uid, gid };
	const char *path;
	const struct db_engine *e = engine_of(url, &path, err, errlen);

	if (e == NULL)
		return -1;
	if ((e->flags & DB_FILE) == 0 || folders_make(path, &owner) == 0)
		return 0;
	snprintf(err, errlen, "%s: %s", path, strerror(errno));
	return -1;
}

int
db_arrange(const char *url, unsigned uid, unsigned gid, char *err, size_t errlen)
{
	const char *at;
	const struct db_engine *e = engine_of(url, &at, err, errlen);

	if (e == NULL)
		return -1;
	if ((e->flags & DB_TEMPORARY) == 0)
		return 0;
	return place_make(uid, gid, err, errlen) == -1 ? -1 : 1;
}

void
db_clear_away(void)
{
	place_remove();
}

struct db *
db_open(const char *url, unsigned flags, char *err, size_t errlen)
{
	const char *at;
	const struct db_engine *e = engine_of(url, &at, err, errlen);

	if (e == NULL)
		return NULL;
	if ((e->flags & DB_TEMPORARY) != 0 && (at = place_file()) == NULL) {
		snprintf(err, errlen, "%s has no place", url);
		return NULL;
	}
	return e->open(at, e->flags | flags, err, errlen);
}

int
db_space(const char *url, struct db_space *out)
{
	const struct db_engine *e;
	struct statvfs st;
	char why[128];

	if ((e = engine_of(url, &out->path, why, sizeof(why))) == NULL)
		return -1;
	if ((e->flags & DB_TEMPORARY) != 0)
		out->path = place_file();
	/* One without blocks is in memory, and has no bound. */
	if (out->path == NULL || statvfs(out->path, &st) == -1 || st.f_blocks == 0)
		return -1;
	/* Some of it is root's alone. */
	out->free = (int64_t)((geteuid() == 0 ? st.f_bfree : st.f_bavail) * st.f_frsize);
	out->size = (int64_t)(st.f_blocks * st.f_frsize);
	return 0;
}

/* More connections than any device makes between a backup and its return. */
#define EPOCHS_AHEAD (INT64_C(1) << 30)

static enum db_result
forget_what_came_later(struct db *db)
{
	int64_t key[2], newest, floor = 0;

	if (DB(db, device_newest_epoch, &newest) != DB_OK || DB(db, meta_get, DB_EPOCH_FLOOR, &floor) == DB_FAILED)
		return DB_FAILED;
	digest_random(key, sizeof(key));
	if (DB(db, meta_set, DB_CURSOR_KEY_0, key[0]) != DB_OK || DB(db, meta_set, DB_CURSOR_KEY_1, key[1]) != DB_OK)
		return DB_FAILED;
	return DB(db, meta_set, DB_EPOCH_FLOOR, (newest > floor ? newest : floor) + EPOCHS_AHEAD);
}

enum db_result
db_restored(struct db *db)
{
	if (DB(db, begin) != DB_OK)
		return DB_FAILED;
	if (forget_what_came_later(db) == DB_OK)
		return DB(db, commit);
	(void)DB(db, rollback);
	return DB_FAILED;
}

void
db_close(struct db **db)
{
	if (*db == NULL)
		return;
	tenants_forget(*db);
	(*db)->ops->close(*db);
	*db = NULL;
}

void
db_device_fini(struct db_device *d)
{
	buf_fini(&d->text);
}

void
db_share_fini(struct db_share *s)
{
	buf_fini(&s->text);
}

void
db_command_fini(struct db_command *c)
{
	buf_fini(&c->text);
}

void
db_visitor_fini(struct db_visitor *v)
{
	buf_fini(&v->text);
}

void
db_ticket_fini(struct db_ticket *t)
{
	buf_fini(&t->text);
}
