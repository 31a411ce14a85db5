/*
 * db.c: opens a store by its URL.  Only the storage process; owns nothing but
 * what it hands out.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "db/db.h"
#include "db/folders.h"

/* The path of a store that is a file; NULL: it is none. */
static const char *
file_of(const char *url)
{
	static const char file[] = "sqlite://";
	size_t n = sizeof(file) - 1;

	return strncmp(url, file, n) == 0 && url[n] == '/' ? url + n : NULL;
}

int
db_make_folders(const char *url, unsigned uid, unsigned gid, char *err, size_t errlen)
{
	struct folders_owner owner = { uid, gid };
	const char *path = file_of(url);

	if (path == NULL || folders_make(path, &owner) == 0)
		return 0;
	snprintf(err, errlen, "%s: %s", path, strerror(errno));
	return -1;
}

struct db *
db_open(const char *url, char *err, size_t errlen)
{
	if (strcmp(url, "memory:") == 0)
		return db_memory_open();
	if (strcmp(url, "sqlite::memory:") == 0)
		return db_sqlite_open(":memory:", err, errlen);
	if (file_of(url) != NULL)
		return db_sqlite_open(file_of(url), err, errlen);
	snprintf(err, errlen, "store.url must be sqlite:///path or memory:");
	return NULL;
}

int
db_space(const char *url, struct db_space *out)
{
	struct statvfs st;

	if ((out->path = file_of(url)) == NULL || statvfs(out->path, &st) == -1)
		return -1;
	/* Some of it is root's alone. */
	out->free = (int64_t)((geteuid() == 0 ? st.f_bfree : st.f_bavail) * st.f_frsize);
	out->size = (int64_t)(st.f_blocks * st.f_frsize);
	return 0;
}

void
db_close(struct db **db)
{
	if (*db == NULL)
		return;
	(*db)->ops->close(*db);
	*db = NULL;
}

void
db_keep(struct buf *text, struct slice **slices, size_t n)
{
	size_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += slices[i]->len;
	buf_clear(text);
	buf_reserve(text, total + 1);
	for (size_t i = 0; i < n; i++) {
		char *at = text->data + text->len;

		buf_put_slice(text, *slices[i]);
		slices[i]->p = at;
	}
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
