/*
 * db.c: opens a store by its URL.  Only the storage process; owns nothing but
 * what it hands out.
 */
#include <stdio.h>
#include <string.h>

#include "db/db.h"

struct db *
db_open(const char *url, char *err, size_t errlen)
{
	static const char file[] = "sqlite://";

	if (strcmp(url, "memory:") == 0)
		return db_memory_open();
	if (strcmp(url, "sqlite::memory:") == 0)
		return db_sqlite_open(":memory:", err, errlen);
	if (strncmp(url, file, sizeof(file) - 1) == 0 && url[sizeof(file) - 1] == '/')
		return db_sqlite_open(url + sizeof(file) - 1, err, errlen);
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
