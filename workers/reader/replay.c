/*
 * replay.c: a dashboard comes back and is told what it missed: every stored
 * event behind its cursor that it may see now, in order, as the message that was
 * published when it happened.
 *
 * Who may see an event is judged by today's rights: the scope of lists, and what
 * was kept with the event (for who may control the device, for one user alone).
 * What was published for others is left out, as it was then.
 *
 *	COUNTING   how many there are, unless there can't be too many; then
 *	SENDING    a page: one part.  Later parts begin here; or
 *	GAP        more than limits.replay, or what the cursor names is not there (any more)
 */
#include <stdlib.h>

#include "base/must.h"
#include "msg/envelope.h"
#include "shm/shm.h"
#include "reader/replay.h"

#define PAGE		128		/* events */
#define PAGE_BYTES	(128u << 10)	/* of their texts; one may be longer */
#define COUNT_MAX	10000		/* how far a gap is counted */
#define SINCE_ROWS	2000		/* looked at to find out since when there is one */
#define COUNT_ROWS_MAX	20000		/* looked at, others' among them, to count what was missed */

/*
 * The next events of the scope up to r->until into k->page, and how far they reach: *ended, to the last one.
 */
static enum db_result
read_page(struct desk *k, struct replay *r, enum db_event_part part, bool *ended)
{
	struct db_event_filter f = { .scope = r->scope, .ascending = true, .after_seq = r->after, .part = part };
	struct db_page *page = &k->page;
	const struct db_event *e;

	db_page_want(page, PAGE);
	page->bytes = PAGE_BYTES;
	page->looks = r->looks;
	page->us = r->us;
	TRY(DB(k->db, event_list, &f, page));
	e = page->row;
	while (page->count > 0 && e[page->count - 1].seq > r->until)
		page->count--;
	r->looked += page->looked;
	*ended = !page->more || page->last >= r->until;
	r->after = *ended ? r->until : page->last;
	return DB_OK;
}

static enum db_result
may_control(struct desk *k, struct replay *r, int64_t device_pk, bool *may)
{
	enum db_result result = DB_OK;

	*may = true;
	if (r->who.role == ROLE_ADMIN || r->who.role == ROLE_SERVICE)
		return DB_OK;
	if (r->device.pk != device_pk) {
		result = DB(k->db, device_by_pk, device_pk, false, &r->device);
		if (result != DB_OK)
			r->device.pk = 0;
	}
	*may = result == DB_OK && access_level(k, &r->who, &r->device) >= ACCESS_CONTROL;
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

/* It is in the scope.  Was it published for this user, too? */
static enum db_result
is_theirs(struct desk *k, struct replay *r, const struct db_event *e, bool *theirs)
{
	if (e->admins == ADMINS_ALONE)
		return may_control(k, r, e->device_pk, theirs);
	*theirs = e->user.len > 0 ? slice_eq(e->user, r->who.user) : true;
	return DB_OK;
}

/* ------------------------------------------------------------------ the answer */

static void
post_part(struct desk *k, const struct replay *r, struct slice messages, bool last)
{
	struct msg_resume_part part = {
		.request = r->request, .ref = r->ref, .last = last, .messages = messages,
		.code = r->gap ? ERROR_too_many : ERROR_NONE, .count = r->count, .dropped = r->dropped,
		.since = r->since, .after = r->after, .until = r->until
	};

	post_to_ref(k, resume_part, &part);
}

static enum replay_step
over(struct desk *k, struct replay *r)
{
	post_part(k, r, SLICE_NONE, true);
	return REPLAY_DONE;
}

static void
put_message(struct desk *k, struct buf *out, const struct db_event *e)
{
	char type[32];
	size_t at = out->len;
	uint32_t len = 0;

	must(e->type.len < sizeof(type));
	memcpy(type, e->type.p, e->type.len);
	type[e->type.len] = '\0';
	buf_clear(&k->cursor);
	cursor_put(k, &k->cursor, CURSOR_EVENT, e->tenant_pk, e->seq);
	buf_put(out, &len, sizeof(len));
	envelope_put(out, type, SLICE_NONE, e->payload, buf_slice(&k->cursor));
	len = (uint32_t)(out->len - at - sizeof(len));
	memcpy(out->data + at, &len, sizeof(len));
}

/* ------------------------------------------------------------------ steps */

/* Retention did not wait for it. */
static enum db_result
still_there(struct desk *k, struct replay *r)
{
	int64_t newest, removed;

	TRY(DB(k->db, event_places, r->scope.tenant_pk, &newest, &removed));
	if (removed <= r->after)
		return DB_OK;
	r->gap = true;
	r->dropped = removed - r->after;
	if (r->since == 0)
		r->since = k->now;
	return DB_NONE;
}

/* A page of messages, but no more than a record may carry.  One without any of the user's is no part yet. */
static enum replay_step
send_page(struct desk *k, struct replay *r)
{
	/* A quarter of the smallest ring is the longest record; this leaves room for one message more. */
	size_t most = shm_sizes(k->shm)->mailbox_bytes / 8;
	enum db_result result = still_there(k, r);
	const struct db_event *e;
	struct buf out = BUF_INIT;
	bool full = false, ended;

	if (result != DB_OK)
		return result == DB_NONE ? over(k, r) : REPLAY_FAILED;
	if (read_page(k, r, EVENT_PUBLISHED, &ended) != DB_OK)
		return REPLAY_FAILED;
	e = k->page.row;
	for (unsigned i = 0; !full && i < k->page.count; i++, e++) {
		bool theirs;

		if ((result = is_theirs(k, r, e, &theirs)) != DB_OK)
			break;
		if (!theirs || e->type.len == 0)
			continue;
		full = out.len > 0 && out.len + e->payload.len > most;
		if (full) {
			r->after = e->seq - 1;	/* the next part begins with this one */
			break;
		}
		put_message(k, &out, e);
		r->since = e->at;
		r->count++;
	}
	if (result == DB_OK && (full || out.len > 0 || ended))
		post_part(k, r, buf_slice(&out), ended && !full);
	else if (result == DB_OK)
		result = DB_NONE;
	buf_fini(&out);
	return result == DB_OK ? REPLAY_DONE : result == DB_NONE ? REPLAY_MORE : REPLAY_FAILED;
}

static enum replay_step
count_page(struct desk *k, struct replay *r)
{
	const struct db_event *e;
	bool ended;

	if (read_page(k, r, EVENT_HEAD, &ended) != DB_OK)
		return REPLAY_FAILED;
	e = k->page.row;
	for (unsigned i = 0; i < k->page.count; i++, e++) {
		bool theirs;

		if (is_theirs(k, r, e, &theirs) != DB_OK)
			return REPLAY_FAILED;
		if (!theirs)
			continue;
		if (r->dropped++ == 0)
			r->since = e->at;
	}
	if (ended && !r->gap && r->dropped <= r->limit) {
		r->phase = REPLAY_SENDING;
		r->after = r->from;
	} else if (ended || (r->dropped >= COUNT_MAX && (r->gap || r->dropped > r->limit))) {
		r->phase = REPLAY_GAP;
	}
	return REPLAY_MORE;
}

/* Nothing that is kept was missed, or nobody knows: since the oldest that is kept, or since now. */
static enum replay_step
send_gap(struct desk *k, struct replay *r)
{
	struct db_event_filter f = { .scope = r->scope, .ascending = true, .part = EVENT_HEAD };

	r->gap = true;
	if (r->dropped > COUNT_MAX)
		r->dropped = COUNT_MAX;
	if (r->since == 0 && r->scope.tenant_pk != 0) {
		db_page_want(&k->page, 1);
		k->page.looks = SINCE_ROWS;
		if (DB(k->db, event_list, &f, &k->page) == DB_FAILED)
			return REPLAY_FAILED;
		if (k->page.count > 0)
			r->since = ((const struct db_event *)k->page.row)->at;
	}
	if (r->since == 0)
		r->since = k->now;
	return over(k, r);
}

enum replay_step
replay_step(struct desk *k, struct replay *r, unsigned looks, unsigned us)
{
	if (r->phase == REPLAY_COUNTING && r->looked > COUNT_ROWS_MAX)
		r->phase = REPLAY_GAP;	/* too little among too much: what was counted so far is the gap */
	r->looks = looks;
	r->us = us;
	r->scope.user = r->who.user;
	r->scope.now = k->now;
	if (r->phase == REPLAY_GAP)
		return send_gap(k, r);
	return r->phase == REPLAY_COUNTING ? count_page(k, r) : send_page(k, r);
}

/* ------------------------------------------------------------------ begin and end */

enum db_result
replay_open(struct desk *k, struct replay *r, const struct msg_resume *m)
{
	int64_t newest, removed;
	enum db_result result;

	*r = (struct replay){
		.request = m->request, .ref = m->ref, .limit = m->limit, .count = m->count,
		.who = { (enum role)m->role, m->tenant, m->user }, .from = m->after, .until = m->until
	};
	result = access_scope(k, &r->who, &r->scope);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE) {
		r->scope.tenant_pk = 0;
		r->phase = REPLAY_GAP;
		return DB_OK;
	}
	TRY(DB(k->db, event_places, r->scope.tenant_pk, &newest, &removed));
	if (r->until == 0)
		r->until = newest;
	if (r->from == 0 && (!cursor_get(k, m->cursor, CURSOR_EVENT, r->scope.tenant_pk, &r->from) ||
	    r->from > r->until)) {
		r->phase = REPLAY_GAP;		/* of another tenant or store, or of none */
		return DB_OK;
	}
	r->after = r->from;
	r->gap = r->from < removed;
	if (!r->gap && (m->after != 0 || r->until - r->from <= r->limit))
		r->phase = REPLAY_SENDING;
	return DB_OK;
}

void
replay_close(struct replay *r)
{
	db_device_fini(&r->device);
}
