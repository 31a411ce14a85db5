/*
 * event.c: stores what happened.  Only the storage process.
 */
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/must.h"
#include "storage/storage.h"

/*
 * A UUIDv7 whose random part is drawn from the record that the event comes of: when the record is
 * read again after a crash its events have the same ids, but for the time.
 */
static void
event_id(struct storage *s, int64_t at, uint8_t id[UUID_LEN])
{
	struct {
		uint64_t position;
		int64_t posted_us;
		uint64_t nth;
	} from = { s->record.position, s->record.posted_us, s->record.events++ };
	struct hash128 h;
	uint8_t raw[16];

	if (s->record.posted_us == 0) {		/* of no record: nothing to be found again */
		uuid_new(id);
		return;
	}
	h = digest_sip128(s->desk.key, slice_bytes(&from, sizeof(from)), SLICE_NONE);
	memcpy(raw, &h.lo, 8);
	memcpy(raw + 8, &h.hi, 8);
	for (int i = 0; i < 6; i++)
		id[i] = (uint8_t)((uint64_t)at >> (40 - 8 * i));
	memcpy(id + 6, raw, 10);
	id[6] = (uint8_t)(0x70 | (id[6] & 0x0f));
	id[8] = (uint8_t)(0x80 | (id[8] & 0x3f));
}

/*
 * The newest events, while records are read that a predecessor may have run: their ids but for the
 * time, in an open hash table.
 */
struct recent {
	uint8_t id[10];
	int64_t seq;			/* 0: free */
};

#define RECENT_EVENTS	16384u		/* a batch has fewer */
#define RECENT_PLACES	(2 * RECENT_EVENTS)

static uint32_t
recent_place(const uint8_t id[UUID_LEN])
{
	uint32_t n;

	memcpy(&n, id + 12, sizeof(n));
	return n & (RECENT_PLACES - 1);
}

static bool
recent_note(void *arg, int64_t seq, const uint8_t id[UUID_LEN])
{
	struct recent *r = arg;
	uint32_t at = recent_place(id);

	while (r[at].seq != 0)
		at = (at + 1) & (RECENT_PLACES - 1);
	memcpy(r[at].id, id + 6, sizeof(r[at].id));
	r[at].seq = seq;
	return true;
}

static bool
recent_find(const struct storage *s, const uint8_t id[UUID_LEN], int64_t *seq)
{
	const struct recent *r = s->recent;

	if (r == NULL)
		return false;
	for (uint32_t at = recent_place(id); r[at].seq != 0; at = (at + 1) & (RECENT_PLACES - 1)) {
		if (memcmp(r[at].id, id + 6, sizeof(r[at].id)) == 0) {
			*seq = r[at].seq;
			return true;
		}
	}
	return false;
}

enum db_result
event_recall(struct storage *s)
{
	s->recent = must_alloc(RECENT_PLACES * sizeof(*s->recent));
	return DB(s->desk.db, event_newest, RECENT_EVENTS, recent_note, s->recent);
}

void
event_forget(struct storage *s)
{
	free(s->recent);
	s->recent = NULL;
}

enum db_result
event_store(struct storage *s, const struct db_device *d, const char *event, int64_t epoch,
    int64_t at, struct slice actor, struct slice data_json, int64_t *seq)
{
	struct db_event e = {
		.tenant_pk = d->tenant_pk, .device_pk = d->pk, .epoch = epoch,
		.at = at < s->desk.now ? at : s->desk.now,
		.event = slice_of(event), .actor = actor, .data_json = data_json
	};

	event_id(s, e.at, e.id);
	if (s->record.again && recent_find(s, e.id, &e.seq)) {
		if (seq != NULL)
			*seq = e.seq;
		return DB_OK;
	}
	TRY(batch_begin(s));
	TRY(DB(s->desk.db, event_insert, &e));
	storage_count(s, EVENTS_STORED, 1);
	effect_tally(s, d->tenant_pk, TALLY_EVENTS, 1);
	if (seq != NULL)
		*seq = e.seq;
	return DB_OK;
}

enum db_result
event_tell(struct storage *s, const struct db_device *d, const char *event, struct slice actor,
    struct slice data_json)
{
	struct buf payload = BUF_INIT;
	int64_t seq;

	TRY(event_store(s, d, event, d->epoch, s->desk.now, actor, data_json, &seq));
	live_report(&payload, d->id, d->epoch, slice_of(event), s->desk.now, data_json);
	publish_device(&s->desk, d, "device_event", buf_slice(&payload), seq);
	buf_fini(&payload);
	return DB_OK;
}
