/*
 * retain.c: what is too old goes, kind by kind; how an engine removes rows is its own.  Only the storage process.
 */
#include "db/db.h"

#define DAY_MS (24 * 3600 * INT64_C(1000))

/* What is older than that is to go. */
static int64_t
limit_of(enum db_kept kind, int64_t now, int64_t keep_after)
{
	switch (kind) {
	case KEPT_EVENTS:
	case KEPT_COMMANDS:
	case KEPT_VISITORS:
	case KEPT_DEVICES:
		return keep_after;
	case KEPT_OPEN:
		return now - DAY_MS;
	case KEPT_KEYS:
	case KEPT_TICKETS:
	case KEPT_KINDS:
		break;
	}
	return now;
}

/* One kind after the other: each goes round by itself, and all of them are at their end at one time only so. */
enum db_result
db_retain(struct db *db, int64_t now, int64_t keep_after, unsigned limit, bool *more)
{
	for (; db->retaining < KEPT_KINDS; db->retaining++) {
		if (DB(db, retain, db->retaining, limit_of(db->retaining, now, keep_after), limit, more) == DB_FAILED)
			return DB_FAILED;
		if (*more)
			return DB_OK;
	}
	db->retaining = KEPT_EVENTS;
	return DB_OK;
}
