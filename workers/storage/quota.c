/*
 * quota.c: how much each tenant may keep in the store.  Only the storage process; owns the notes of the batch in hand.
 */
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/log.h"
#include "base/must.h"
#include "storage/storage.h"

#define COUNT_ROWS	1000		/* in a step: some milliseconds */
#define LOG_EVERY_MS	10000

static uint64_t
limit(const struct storage *s)
{
	return s->desk.w->conf->limits_tenant_store_bytes;
}

int
quota_start(struct storage *s)
{
	bool wanted = limit(s) > 0;

	if (DB(s->desk.db, usage_keep, wanted) != DB_OK)
		return -1;
	s->quota.kept = s->quota.counting = wanted;
	return 0;
}

enum db_result
quota_tick(struct storage *s)
{
	struct quota *q = &s->quota;
	enum db_result result;

	if (q->kept != (limit(s) > 0) && quota_start(s) == -1) {
		if (q->logged_mono == 0 || s->desk.mono - q->logged_mono >= LOG_EVERY_MS) {
			q->logged_mono = s->desk.mono;
			log_error("what tenants store can't be counted: %s", db_error(s->desk.db));
		}
		return DB_OK;
	}
	if (!q->counting)
		return DB_OK;
	TRY(batch_begin(s));
	result = DB(s->desk.db, usage_count, COUNT_ROWS, &s->more);
	q->counting = result != DB_OK || s->more;
	return result;
}

void
quota_fini(struct storage *s)
{
	free(s->quota.notes);
}

static struct quota_note *
note_of(const struct quota *q, int64_t tenant_pk)
{
	/* From the end: most notes of a batch are about the tenant of the one before. */
	for (unsigned i = q->note_count; i-- > 0; )
		if (q->notes[i].tenant_pk == tenant_pk)
			return &q->notes[i];
	return NULL;
}

void
quota_note(struct storage *s, int64_t tenant_pk, size_t len)
{
	struct quota *q = &s->quota;
	struct quota_note *note;

	if (!q->kept)
		return;
	note = note_of(q, tenant_pk);
	if (note == NULL) {
		if (q->note_count == q->note_cap) {
			q->note_cap = q->note_cap > 0 ? q->note_cap * 2 : 64;
			q->notes = must_realloc(q->notes, q->note_cap * sizeof(*q->notes));
		}
		note = &q->notes[q->note_count++];
		*note = (struct quota_note){ tenant_pk, 0 };
	}
	note->bytes += (int64_t)len + USAGE_ROW;
}

void
quota_forget(struct storage *s)
{
	s->quota.note_count = 0;
}

/* What is there, and what the batch will add. */
static enum db_result
used(struct storage *s, int64_t tenant_pk, int64_t *bytes)
{
	const struct quota_note *note = note_of(&s->quota, tenant_pk);
	enum db_result result = DB(s->desk.db, usage, tenant_pk, bytes);

	if (result == DB_OK && note != NULL)
		*bytes += note->bytes;
	return result;
}

enum db_result
quota_room(struct storage *s, struct slice tenant, bool *room)
{
	int64_t tenant_pk, bytes;
	enum db_result result;

	*room = true;
	if (limit(s) == 0 || !s->quota.kept)
		return DB_OK;
	result = db_tenant(s->desk.db, tenant, false, &tenant_pk);
	if (result == DB_OK)
		result = used(s, tenant_pk, &bytes);
	if (result == DB_OK)
		*room = bytes < (int64_t)limit(s);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
quota_admit(struct storage *s, struct slice tenant, uint64_t request, uint64_t ref, bool *room)
{
	TRY(quota_room(s, tenant, room));
	if (*room)
		return DB_OK;
	storage_count(s, TENANT_STORE_FULL, 1);
	reply_error(&s->desk, request, ref, ERROR_too_many, NULL, "the tenant stores as much as it may");
	return DB_OK;
}

enum db_result
quota_put_json(struct storage *s, struct buf *b, int64_t tenant_pk)
{
	int64_t bytes;
	enum db_result result = used(s, tenant_pk, &bytes);

	if (result == DB_OK && limit(s) > 0)
		buf_printf(b, ",\"store\":{\"bytes\":%lld,\"limit\":%llu,\"counting\":%s}", (long long)bytes,
		    (unsigned long long)limit(s), s->quota.counting ? "true" : "false");
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}
