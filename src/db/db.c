/*
 * db.c: opens a store by its URL.  Only the storage process; owns nothing but
 * what it hands out.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

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
	if (strcmp(url, "memory:") == 0 || strcmp(url, "sqlite::memory:") == 0)
		return db_sqlite_open(":memory:", err, errlen);
	if (file_of(url) != NULL)
		return db_sqlite_open(file_of(url), err, errlen);
	snprintf(err, errlen, "store.url must be sqlite:///path or memory:");
	return NULL;
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

#define EVENT_TEXTS 7

static void
event_texts(struct db_event *e, struct slice *texts[EVENT_TEXTS])
{
	texts[0] = &e->device;
	texts[1] = &e->event;
	texts[2] = &e->actor;
	texts[3] = &e->data_json;
	texts[4] = &e->type;
	texts[5] = &e->payload;
	texts[6] = &e->user;
}

void
db_event_copy(struct buf *text, struct db_event *e)
{
	struct slice *texts[EVENT_TEXTS];

	event_texts(e, texts);
	for (int i = 0; i < EVENT_TEXTS; i++)
		buf_put_slice(text, *texts[i]);
}

void
db_events_point(const struct buf *text, struct db_event *events, size_t n)
{
	struct slice *texts[EVENT_TEXTS];
	const char *at = text->data;

	for (size_t i = 0; i < n; i++) {
		event_texts(&events[i], texts);
		for (int k = 0; k < EVENT_TEXTS; k++) {
			texts[k]->p = at;
			at += texts[k]->len;
		}
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
