/*
 * event.c: stores what happened, as it is published.  Only the storage process.
 *
 * Events wait in the batch until its end: only then is the number of their
 * tenant raised, once, and they are given places without a hole.  Until then
 * an event is known by its number in the batch, and records about it leave
 * room for its cursor.
 */
#include <stdlib.h>

#include "base/must.h"
#include "storage/storage.h"

static struct db_event *
event_new(struct batch *b)
{
	if (b->event_count == b->event_cap) {
		b->event_cap = b->event_cap > 0 ? b->event_cap * 2 : 64;
		b->events = must_realloc(b->events, b->event_cap * sizeof(*b->events));
	}
	return &b->events[b->event_count++];
}

enum db_result
event_store(struct storage *s, const struct db_device *d, const struct db_event *what, unsigned *event)
{
	struct batch *b = &s->batch;
	struct db_event *e = event_new(b);

	*e = *what;
	e->device = SLICE_NONE;
	e->tenant_pk = d->tenant_pk;
	e->device_pk = d->pk;
	e->received_at = s->desk.now;
	if (e->at == 0 || e->at > s->desk.now)
		e->at = s->desk.now;
	e->seq = 0;
	uuid_new(e->id);
	db_event_copy(&b->event_texts, e);
	*event = (unsigned)b->event_count;
	/* The store keeps data that is in the payload once. */
	quota_note(s, d->tenant_pk, e->event.len + e->actor.len + e->type.len + e->user.len +
	    (e->payload.len > e->data_json.len ? e->payload.len : e->data_json.len));
	TRY(batch_begin(s));
	effect_count(s, STAT_EVENTS_STORED, 1);
	effect_tally(s, d->tenant_pk, TALLY_EVENTS, 1);
	return DB_OK;
}

struct turn {
	int64_t tenant_pk;
	size_t nth;
};

static int
by_tenant(const void *a, const void *b)
{
	const struct turn *x = a, *y = b;

	if (x->tenant_pk != y->tenant_pk)
		return x->tenant_pk < y->tenant_pk ? -1 : 1;
	return x->nth < y->nth ? -1 : 1;
}

/* Tenant by tenant, each in the order in which it happened. */
static enum db_result
place_all(struct storage *s, const struct turn *turns, struct db_event *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		rows[i] = s->batch.events[turns[i].nth];
	for (size_t from = 0, to; from < n; from = to) {
		for (to = from + 1; to < n && turns[to].tenant_pk == turns[from].tenant_pk; to++)
			;
		if (DB(s->desk.db, event_insert, rows + from, (unsigned)(to - from)) != DB_OK)
			return DB_FAILED;
	}
	for (size_t i = 0; i < n; i++)
		s->batch.events[turns[i].nth].seq = rows[i].seq;
	return DB_OK;
}

enum db_result
event_place(struct storage *s)
{
	struct batch *b = &s->batch;
	struct turn *turns;
	struct db_event *rows;
	size_t n = 0;
	enum db_result result;

	if (b->event_count == 0)
		return DB_OK;
	db_events_point(&b->event_texts, b->events, b->event_count);
	turns = must_alloc(b->event_count * sizeof(*turns));
	rows = must_alloc(b->event_count * sizeof(*rows));
	for (size_t i = 0; i < b->event_count; i++)
		if (b->events[i].seq == 0)
			turns[n++] = (struct turn){ b->events[i].tenant_pk, i };
	qsort(turns, n, sizeof(*turns), by_tenant);
	result = place_all(s, turns, rows, n);
	quota_forget(s);		/* from here on the store knows */
	free(turns);
	free(rows);
	return result;
}

enum db_result
event_publish(struct storage *s, const struct db_device *d, const char *type, const struct db_event *what)
{
	struct db_event e = *what;
	unsigned event;

	e.type = slice_of(type);
	e.admins = ADMINS_AND_MEMBERS;
	TRY(event_store(s, d, &e, &event));
	publish_device(&s->desk, d, type, e.payload, event);
	return DB_OK;
}

enum db_result
event_tell(struct storage *s, const struct db_device *d, const char *event, struct slice actor,
    struct slice data_json)
{
	struct buf payload = BUF_INIT;
	struct db_event e = {
		.event = slice_of(event), .epoch = d->epoch, .actor = actor, .data_json = data_json
	};
	enum db_result result;

	live_report(&payload, d->id, d->epoch, e.event, s->desk.now, data_json);
	e.payload = buf_slice(&payload);
	result = event_publish(s, d, "device_event", &e);
	buf_fini(&payload);
	return result;
}
