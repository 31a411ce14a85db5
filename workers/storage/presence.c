/*
 * presence.c: connections of devices end: told by their gateway, revoked, or
 * lost with a process.  Only the storage process.
 *
 * The store's row (epoch and the transport's bit) decides that an end is told
 * once; the directory entry is given back only by the reference that holds it.
 */
#include "base/clock.h"
#include "shm/shm.h"
#include "storage/storage.h"

#define WALK_STEP	128		/* entries of the directory per batch */
#define ROWS_STEP	2000		/* devices looked at per tick */

enum db_result
presence_end(struct storage *s, const struct db_device *d, unsigned transport, int64_t epoch,
    uint64_t ref, int64_t at, int64_t last_seen, struct slice reason)
{
	struct db_event e = { .event = SLICE("device_disconnected"), .epoch = epoch, .at = at };
	enum db_result result;

	TRY(batch_begin(s));
	result = DB(s->desk.db, device_gone, d->pk, transport, epoch, at, last_seen, reason);
	if (result == DB_FAILED)
		return DB_FAILED;
	effect_release(s, desk_device_key(&s->desk, d), transport, ref);
	if (result == DB_NONE)
		return DB_NONE;

	buf_clear(&s->event_json);
	buf_printf(&s->event_json, "{\"transport\":\"%s\",\"reason\":", transport_name(transport));
	buf_put_json_string(&s->event_json, reason);
	buf_putc(&s->event_json, '}');
	live_connection(&s->desk.json, d->id, epoch, transport_name(transport), at, reason);
	e.data_json = buf_slice(&s->event_json);
	e.payload = buf_slice(&s->desk.json);
	return event_publish(s, d, "device_disconnected", &e);
}

enum db_result
device_gone(struct storage *s, const struct msg_device_gone *m)
{
	struct db_device *d = &s->desk.device;
	unsigned transport = m->transport < DIRECTORY_TRANSPORTS ? m->transport : DIRECTORY_WS;
	int64_t at = m->at > 0 && m->at < s->desk.now ? m->at : s->desk.now, last_seen = m->last_seen;
	struct directory_view v;
	enum db_result result = storage_device(s, m->device_pk, m->tenant, m->device);

	if (result == DB_OK) {
		if (last_seen == 0 && batch_find(s, desk_device_key(&s->desk, d), &v) == 1 &&
		    v.ref[transport] == m->ref)
			last_seen = desk_seen_at(&s->desk, &v);
		TRY(presence_end(s, d, transport, m->epoch, m->ref, at, last_seen, m->reason));
	} else if (result == DB_NONE) {		/* deleted meanwhile */
		effect_release(s, audience_device_key(s->desk.key, m->tenant, m->device), transport,
		    m->ref);
	}
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

enum db_result
presence_stale(struct storage *s, const struct db_device *d, uint64_t ref)
{
	struct directory_view v;

	if (batch_find(s, desk_device_key(&s->desk, d), &v) != 1)
		return DB_OK;
	for (unsigned t = 0; t < DIRECTORY_TRANSPORTS; t++)
		if (v.ref[t] == ref)
			return presence_end(s, d, t, v.epoch[t], ref, s->desk.now, desk_seen_at(&s->desk, &v),
			    SLICE("connection_lost"));
	return DB_OK;
}

enum db_result
presence_revoke(struct storage *s, const struct db_device *d, const char *reason,
    int64_t asked_ms)
{
	struct directory_view v;

	if (batch_find(s, desk_device_key(&s->desk, d), &v) != 1)
		return DB_OK;
	for (unsigned t = 0; t < DIRECTORY_TRANSPORTS; t++) {
		struct msg_kick kick = { .ref = v.ref[t], .asked_ms = asked_ms,
		    .close_code = 4011, .reason = SLICE("Credentials revoked") };

		if (v.ref[t] == REF_NONE)
			continue;
		TRY(presence_end(s, d, t, v.epoch[t], v.ref[t], s->desk.now, desk_seen_at(&s->desk, &v),
		    slice_of(reason)));
		post_to_ref(&s->desk, kick, &kick);
	}
	return DB_OK;
}

/* What was lost with a process */

struct lost {
	struct storage *s;
	enum db_result result;
	unsigned ended;
};

/* Has the process that holds it been gone for long enough? */
static bool
is_lost(const struct storage *s, uint64_t ref)
{
	unsigned slot = ref_slot(ref);

	if (ref == REF_NONE || slot >= SHM_MAX_SLOTS || slot_is_live(s->desk.shm, slot,
	    (uint16_t)ref_slot_gen(ref)))
		return false;
	return s->desk.mono - s->sweep.lost_mono[slot] >= PRESENCE_GRACE_MS;
}

static void
look_at_entry(void *arg, struct hash128 key, const struct directory_view *v)
{
	struct lost *l = arg;
	struct storage *s = l->s;

	for (unsigned t = 0; t < DIRECTORY_TRANSPORTS && l->result != DB_FAILED; t++) {
		if (!is_lost(s, v->ref[t]))
			continue;
		l->ended++;
		l->result = DB(s->desk.db, device_by_pk, v->device_pk, false, &s->desk.device);
		if (l->result == DB_OK)
			l->result = presence_end(s, &s->desk.device, t, v->epoch[t], v->ref[t], s->desk.now,
			    desk_seen_at(&s->desk, v), SLICE("worker_lost"));
		else if (l->result == DB_NONE)
			effect_release(s, key, t, v->ref[t]);
	}
}

/* Notes which slots have another process than before, or none. */
static void
note_deaths(struct storage *s)
{
	struct presence_sweep *p = &s->sweep;
	uint32_t deaths = slot_deaths(s->desk.shm);
	unsigned slots = shm_sizes(s->desk.shm)->slots;

	if (deaths == p->deaths_seen)
		return;
	p->deaths_seen = deaths;
	for (unsigned slot = 0; slot < slots; slot++) {
		struct slot_view v;

		slot_get(s->desk.shm, slot, &v);
		if (v.generation != p->generation[slot] || v.pid == 0)
			p->lost_mono[slot] = s->desk.mono;
		p->generation[slot] = v.generation;
	}
	p->directory_due = s->desk.mono + PRESENCE_GRACE_MS;
}

static enum db_result
walk_directory(struct storage *s)
{
	struct presence_sweep *p = &s->sweep;
	struct lost l = { s, DB_OK, 0 };

	directory_walk(s->desk.shm, &p->directory_at, WALK_STEP, look_at_entry, &l);
	p->walking = s->more = p->directory_at != 0;
	if (!p->walking && p->directory_due != 0 && p->directory_due <= s->desk.mono)
		p->directory_due = 0;
	return l.result == DB_FAILED ? DB_FAILED : DB_OK;
}

/*
 * Rows that say online while nobody holds the device: after a start of storage or of the whole
 * instance.
 */
static bool
is_unheld(const struct storage *s, const struct db_device *d)
{
	struct directory_view v;
	bool held = batch_find(s, desk_device_key(&s->desk, d), &v) == 1;

	for (unsigned t = 0; t < DB_TRANSPORTS; t++)
		if ((d->online & 1u << t) && !(held && v.ref[t] != REF_NONE))
			return true;
	return false;
}

static enum db_result
end_row(struct storage *s, int64_t pk)
{
	struct db_device *d = &s->desk.device;
	enum db_result result = DB(s->desk.db, device_by_pk, pk, false, d);
	struct directory_view v;
	bool held;

	if (result != DB_OK)
		return result;
	held = batch_find(s, desk_device_key(&s->desk, d), &v) == 1;
	for (unsigned t = 0; t < DB_TRANSPORTS; t++)
		if ((d->online & 1u << t) && !(held && v.ref[t] != REF_NONE))
			TRY(presence_end(s, d, t, d->epoch_of[t], d->conn[t], s->desk.now, d->last_seen,
			    slice_of(s->sweep.rows_reason)));
	return DB_OK;
}

static enum db_result
walk_rows(struct storage *s)
{
	struct presence_sweep *p = &s->sweep;
	struct db_page page = { .rows = 0 };
	const struct db_device *d;
	enum db_result result;

	db_page_want(&page, ROWS_STEP);
	page.looks = ROWS_STEP;
	result = DB(s->desk.db, device_online, p->rows_at, &page);
	d = page.row;
	for (unsigned i = 0; i < page.count && result != DB_FAILED && !s->more; i++) {
		if (!is_unheld(s, &d[i]))
			continue;
		result = end_row(s, d[i].pk);
		s->more = batch_is_large(s);	/* what is left of these rows is found again */
	}
	if (result != DB_FAILED && !s->more) {
		p->rows_at = page.last;
		if (!page.more)
			p->rows_due = 0;
	}
	db_page_fini(&page);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

void
presence_start(struct storage *s, bool instance_began)
{
	struct presence_sweep *p = &s->sweep;
	unsigned slots = shm_sizes(s->desk.shm)->slots;

	p->deaths_seen = slot_deaths(s->desk.shm);
	for (unsigned slot = 0; slot < slots; slot++) {
		struct slot_view v;

		slot_get(s->desk.shm, slot, &v);
		p->generation[slot] = v.generation;
		p->lost_mono[slot] = s->desk.mono;
	}
	p->directory_due = p->rows_due = s->desk.mono + PRESENCE_GRACE_MS;
	p->rows_reason = instance_began ? "instance_lost" : "worker_lost";
}

enum db_result
presence_tick(struct storage *s)
{
	struct presence_sweep *p = &s->sweep;

	note_deaths(s);
	if (p->walking || (p->directory_due != 0 && p->directory_due <= s->desk.mono))
		TRY(walk_directory(s));
	if (!s->more && p->rows_due != 0 && p->rows_due <= s->desk.mono)
		TRY(walk_rows(s));
	return DB_OK;
}
