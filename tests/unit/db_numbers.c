/*
 * db_numbers.c: an engine that counts the commands of each device for itself, for tests that are linked with
 * --wrap=db_open.  SQLite stands behind it, whose numbers grow over all devices; here numbers of several devices are the
 * same, and the newer of two commands has the lower number as often as not.  Within a device they keep their order.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/must.h"
#include "db/db.h"

#define ABOVE 100000	/* more devices than a test has */

struct db *__real_db_open(const char *url, unsigned flags, char *err, size_t errlen);
struct db *__wrap_db_open(const char *url, unsigned flags, char *err, size_t errlen);

static const struct db_ops *real;

/* By how much the numbers of a device are higher. */
static int64_t
shift(int64_t device_pk)
{
	must(device_pk < ABOVE);
	return ABOVE - device_pk;
}

/* 0 is no number. */
static int64_t
inner(int64_t device_pk, int64_t number)
{
	return number > shift(device_pk) ? number - shift(device_pk) : 0;
}

static enum db_result
shifted(enum db_result result, struct db_command *c)
{
	if (result == DB_OK)
		c->number += shift(c->device_pk);
	return result;
}

static enum db_result
shifted_page(enum db_result result, struct db_page *page)
{
	struct db_command *c = page->row;

	for (unsigned i = 0; result == DB_OK && i < page->count; i++)
		c[i].number += shift(c[i].device_pk);
	page->last = page->count > 0 ? c[page->count - 1].number : 0;
	return result;
}

static enum db_result
insert(struct db *db, struct db_command *c)
{
	return shifted(real->command_insert(db, c), c);
}

static enum db_result
get(struct db *db, const uint8_t id[UUID_LEN], struct db_command *out)
{
	return shifted(real->command_get(db, id, out), out);
}

static enum db_result
update(struct db *db, const struct db_command *c, enum command_status was)
{
	struct db_command v = *c;

	v.number = inner(c->device_pk, c->number);
	return real->command_update(db, &v, was);
}

static enum db_result
list(struct db *db, int64_t device_pk, int64_t before, struct db_page *page)
{
	return shifted_page(real->command_list(db, device_pk, inner(device_pk, before), page), page);
}

static enum db_result
open_of_device(struct db *db, int64_t device_pk, int64_t after, struct db_page *page)
{
	return shifted_page(real->command_open(db, device_pk, inner(device_pk, after), page), page);
}

static enum db_result
open_of_all(struct db *db, struct db_command_key after, struct db_page *page)
{
	after.number = inner(after.device_pk, after.number);
	return shifted_page(real->command_open_all(db, after, page), page);
}

static enum db_result
queued_first(struct db *db, int64_t device_pk, int64_t from, struct db_command *out)
{
	return shifted(real->command_queued_first(db, device_pk, inner(device_pk, from), out), out);
}

static enum db_result
queue_due(struct db *db, int64_t now, struct db_page *page, int64_t *next)
{
	return shifted_page(real->command_queue_due(db, now, page, next), page);
}

struct db *
__wrap_db_open(const char *url, unsigned flags, char *err, size_t errlen)
{
	static struct db_ops ops;
	struct db *db = __real_db_open(url, flags, err, errlen);

	if (db == NULL)
		return NULL;
	real = db->ops;
	ops = *real;
	ops.command_insert = insert;
	ops.command_get = get;
	ops.command_update = update;
	ops.command_list = list;
	ops.command_open = open_of_device;
	ops.command_open_all = open_of_all;
	ops.command_queued_first = queued_first;
	ops.command_queue_due = queue_due;
	db->ops = &ops;
	return db;
}
