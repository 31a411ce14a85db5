/*
 * presence.c: connections of devices end: told by their gateway, revoked, or
 * lost with a process.  Only the storage process.
 *
 * The store's row (epoch and the transport's bit) decides that an end is told
 * once; the directory entry is given back only by the reference that holds it.
 *
 * A connection that ends with a process of ours is lost, and its device has server.return_time to come back; until then
 * it is suspect:
 *
 *	a process was killed	the entry of the directory names a process that is not there; walk_directory()
 *	the instance leaves	the row says online, and why it is not; nobody holds it; walk_rows() of the next run
 *	the instance was killed	the row says online and nobody holds it; the same
 *
 * While the instance leaves nothing is ended for that: nobody could come back.
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
	struct db_event e = { .event = slice_of(EVENT_device_disconnected), .epoch = epoch, .at = at };
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

/* Nobody is told: the device is expected back. */
static enum db_result
lose(struct storage *s, const struct db_device *d, unsigned transport, int64_t epoch, uint64_t ref, int64_t last_seen,
    struct slice reason)
{
	TRY(batch_begin(s));
	TRY(DB(s->desk.db, device_lost, d->pk, transport, epoch, last_seen, reason));
	effect_release(s, desk_device_key(&s->desk, d), transport, ref);
	return DB_OK;
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
		if (m->returns)
			TRY(lose(s, d, transport, m->epoch, m->ref, last_seen, m->reason));
		else
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
	/* With its process: the device may come back. */
	if (!slot_is_live(s->desk.shm, ref_slot(ref), (uint16_t)ref_slot_gen(ref)))
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
		struct msg_kick kick = { .ref = v.ref[t], .asked_ms = asked_ms, .why = WS_CLOSE_REVOKED };

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

static void
walk_by(struct presence_sweep *p, int64_t mono)
{
	if (p->directory_due == 0 || mono < p->directory_due)
		p->directory_due = mono;
}

int64_t
presence_lost_ms(const struct storage *s, unsigned slot, uint16_t generation)
{
	const struct presence_sweep *p = &s->sweep;

	/* One whose end was not noted yet has just ended. */
	return (int16_t)(generation - p->generation[slot]) < 0 ?
	    s->desk.mono - p->lost_mono[slot][generation % PRESENCE_GENERATIONS] : 0;
}

/* Has the process that holds it been gone for long enough?  When it will have been, there is another walk. */
static bool
is_lost(struct storage *s, uint64_t ref)
{
	unsigned slot = ref_slot(ref);
	uint16_t generation = (uint16_t)ref_slot_gen(ref);
	int64_t left;

	if (ref == REF_NONE || slot >= SHM_MAX_SLOTS || slot_is_live(s->desk.shm, slot, generation))
		return false;
	left = s->return_ms - presence_lost_ms(s, slot, generation);
	if (left > 0)
		walk_by(&s->sweep, s->desk.mono + left);
	return left <= 0;
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

/* Notes since when processes are gone: all before the generation that is there now, and that one if its process is. */
static void
note_ends(struct storage *s, unsigned slot)
{
	struct presence_sweep *p = &s->sweep;
	struct slot_view v;
	uint16_t first;

	slot_get(s->desk.shm, slot, &v);
	first = (uint16_t)(v.generation + (v.pid == 0));
	for (unsigned n = 0; p->generation[slot] != first && n < PRESENCE_GENERATIONS; n++)
		p->lost_mono[slot][p->generation[slot]++ % PRESENCE_GENERATIONS] = s->desk.mono;
	p->generation[slot] = first;
}

static void
note_deaths(struct storage *s)
{
	struct presence_sweep *p = &s->sweep;
	uint32_t deaths = slot_deaths(s->desk.shm);
	unsigned slots = shm_sizes(s->desk.shm)->slots;

	if (deaths == p->deaths_seen)
		return;
	p->deaths_seen = deaths;
	for (unsigned slot = 0; slot < slots; slot++)
		note_ends(s, slot);
	walk_by(p, s->desk.mono + s->return_ms);
}

static enum db_result
walk_directory(struct storage *s)
{
	struct presence_sweep *p = &s->sweep;
	struct lost l = { s, DB_OK, 0 };

	if (!p->walking)
		p->directory_due = 0;	/* until something is found that is due later */
	directory_walk(s->desk.shm, &p->directory_at, WALK_STEP, look_at_entry, &l);
	p->walking = s->more = p->directory_at != 0;
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
			    d->gone_reason.len > 0 ? d->gone_reason : slice_of(s->sweep.rows_reason)));
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
		for (unsigned i = 0; i < PRESENCE_GENERATIONS; i++)
			p->lost_mono[slot][i] = s->desk.mono;
		note_ends(s, slot);
	}
	p->directory_due = p->rows_due = s->desk.mono + s->return_ms;
	p->rows_reason = instance_began ? "instance_lost" : "worker_lost";
}

void
presence_reload(struct storage *s, int64_t old_return_ms)
{
	struct presence_sweep *p = &s->sweep;

	if (s->return_ms == old_return_ms)
		return;
	walk_by(p, s->desk.mono);
	if (p->rows_due != 0)
		p->rows_due += s->return_ms - old_return_ms;
}

enum db_result
presence_tick(struct storage *s)
{
	struct presence_sweep *p = &s->sweep;

	note_deaths(s);
	if (shm_course(s->desk.shm) != SHM_STAYS)
		return DB_OK;
	if (p->walking || (p->directory_due != 0 && p->directory_due <= s->desk.mono))
		TRY(walk_directory(s));
	if (!s->more && p->rows_due != 0 && p->rows_due <= s->desk.mono)
		TRY(walk_rows(s));
	return DB_OK;
}
