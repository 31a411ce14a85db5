/*
 * reader.c: the role "reader": answers what only reads, on a handle of its own that writes nothing.
 *
 * A request is taken out of the mailbox at once and stands in line (line.h).  Each turn of the loop runs
 * steps, each of the request whose turn it is, for TURN_US; then the mailbox is looked at.  What waits is lost
 * with the process: whoever asked asks the successor again (gateway/reads.c).
 *
 * It never keeps the writer waiting.  Between two steps nothing of the store is held; and when the writer's log
 * has grown long, since the log can only begin anew while nobody reads, all readers pause until it has.
 */
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/conf.h"
#include "base/cores.h"
#include "base/log.h"
#include "base/must.h"
#include "base/stats_names.h"
#include "http/route.h"
#include "reader/reader.h"

#define MAILBOX_BYTES	(4u << 20)
#define TURN_US		4000		/* then the mailbox is looked at */
#define WAITING_MAX	20000		/* requests in line: gateways bound theirs, this is for the sum … */
#define WAITING_BYTES	(64u << 20)	/* … and their records */
#define LOG_LONG	(16u << 20)	/* bytes of the writer's log from which on readers pause … */
#define PAUSE_MS	5
#define PAUSE_MAX_MS	100		/* … but no longer: who has nothing to write begins nothing anew */
#define NICE		5		/* who decides comes first where there are few cores */
#define FAILED_LOG_MS	10000
#define RENEW_MS	1000		/* between two new handles for those that failed */

struct reader {
	struct desk desk;		/* first */
	struct line line;
	struct event more;		/* steps are left: the loop does not sleep */
	size_t bytes;			/* of all records in line */
	int64_t pause_until_ms;		/* monotonic; 0: no pause */
	uint64_t paused_commits;	/* the writer's at the end of the last pause */
	uint64_t lost_until;		/* mail up to here was for the process before: it is asked again */
	int64_t failed_logged_ms;
	bool failed;			/* the handle, since it was opened, or a new one was not to be had */
	int64_t opened_ms;		/* monotonic: when it was tried last */
	uint16_t storage;		/* generation of that beside which it was opened; 0: none was ready */
};

struct db_page *
reading_page(struct desk *k, unsigned rows)
{
	db_page_want(&k->page, rows);
	k->page.looks = STEP_ROWS;
	k->page.us = STEP_US;
	return &k->page;
}

struct db_page *
reading_page_of_list(struct desk *k, const struct reading *x)
{
	list_want(&x->list, &k->page);
	k->page.looks = STEP_ROWS;
	k->page.us = STEP_US;
	return &k->page;
}

bool
reading_goes_on(const struct desk *k, struct reading *x)
{
	x->looked += k->page.looked;
	return k->page.more && !x->list.more && x->looked < READ_ROWS_MAX;
}

/* --- requests */

static void
reading_free(struct reading *x)
{
	if (x->fini != NULL)
		x->fini(x);
	buf_fini(&x->list.body);
	buf_fini(&x->list.cursor);
	buf_fini(&x->text);
	buf_fini(&x->record);
	free(x);
}

static enum read_end
not_here(struct desk *k, struct reading *x)
{
	rest_error(k, &x->r, ERROR_not_implemented, NULL, NULL);
	return READ_DONE;
}

static bool
take_read(struct reading *x)
{
	static enum read_end (*const steps[ROUTE_COUNT])(struct desk *, struct reading *) = {
#define READ(route) [ROUTE_##route] = read_##route,
#include "reader/reads.def"
#undef READ
	};
	struct msg_read m;

	if (msg_unpack_read(&m, (const uint8_t *)x->record.data, x->record.len) == -1)
		return false;
	x->r = (struct rest){
		.request = m.request, .ref = m.ref, .route = (enum http_route)m.route,
		.who = { (enum role)m.role, m.tenant, m.user },
		.target = m.target, .query = m.query, .own = m.own, .own_hash = m.own_hash
	};
	x->body_json = m.body_json;
	/*
	 * Decoded parameters stay where they are until the request is done: each is decoded once and becomes no longer,
	 * so twice the query is room for all that there are and for one more being decoded.
	 */
	buf_reserve(&x->text, 2 * m.query.len + 2);
	x->step = m.route < ROUTE_COUNT && steps[m.route] != NULL ? steps[m.route] : not_here;
	return true;
}

static bool
take_subscribe(struct reading *x)
{
	struct msg_subscribe m;

	if (msg_unpack_subscribe(&m, (const uint8_t *)x->record.data, x->record.len) == -1)
		return false;
	x->r = (struct rest){
		.request = m.request, .ref = m.ref, .who = { (enum role)m.role, m.tenant, m.user }
	};
	x->u.subscribe.check = m.check;
	x->body_json = m.devices_json;
	x->step = read_subscribe;
	return true;
}

static void
replay_fini(struct reading *x)
{
	replay_close(&x->u.replay);
}

enum read_end
read_resume(struct desk *k, struct reading *x)
{
	struct msg_resume m;

	if (!x->begun) {
		must(msg_unpack_resume(&m, (const uint8_t *)x->record.data, x->record.len) == 0);
		if (replay_open(k, &x->u.replay, &m) == DB_FAILED)
			return READ_FAILED;
		x->begun = true;
	}
	switch (replay_step(k, &x->u.replay, STEP_ROWS, STEP_US)) {
	case REPLAY_MORE:
		return READ_MORE;
	case REPLAY_DONE:
		return READ_DONE;
	default:
		return READ_FAILED;
	}
}

static bool
take_resume(struct reading *x)
{
	struct msg_resume m;

	if (msg_unpack_resume(&m, (const uint8_t *)x->record.data, x->record.len) == -1)
		return false;
	x->r = (struct rest){
		.request = m.request, .ref = m.ref, .who = { (enum role)m.role, m.tenant, m.user }
	};
	x->step = read_resume;
	x->fini = replay_fini;
	return true;
}

static void
mark_gone(void *arg, struct waiter *w)
{
	struct reading *x = (struct reading *)w;

	if (x->r.ref == *(const uint64_t *)arg)
		x->gone = true;
}

static bool
asker_gone(struct reader *r, const struct mail *mail)
{
	struct msg_asker_gone m;
	uint64_t ref;

	if (msg_unpack_asker_gone(&m, mail->data, mail->len) == -1)
		return false;
	ref = m.ref;
	line_each(&r->line, (struct hash128){ .lo = m.user_lo, .hi = m.user_hi }, mark_gone, &ref);
	return true;
}

static bool
take_record(struct reading *x, uint16_t kind)
{
	x->kind = kind;
	switch (kind) {
	case MSG_read:
		return take_read(x);
	case MSG_subscribe:
		return take_subscribe(x);
	case MSG_resume:
		return take_resume(x);
	default:
		return false;
	}
}

static void
refuse(struct desk *k, const struct reading *x)
{
	struct msg_resume_part no = { .request = x->r.request, .ref = x->r.ref, .code = ERROR_unavailable, .last = 1 };

	if (x->kind == MSG_resume)
		post_to_ref(k, resume_part, &no);
	else
		reply_error(k, x->r.request, x->r.ref, ERROR_unavailable, NULL, NULL);
}

static bool
take(struct reader *r, const struct mail *mail)
{
	struct desk *k = &r->desk;
	struct reading *x;
	bool good;

	if (mail->kind == MSG_asker_gone)
		return asker_gone(r, mail);
	x = must_alloc(sizeof(*x));
	x->posted_us = mail->posted_mono_us;
	buf_put(&x->record, mail->data, mail->len);
	good = take_record(x, mail->kind);
	if (good && r->line.waiting < WAITING_MAX && r->bytes + x->record.len <= WAITING_BYTES) {
		r->bytes += x->record.len;
		line_put(&r->line, audience_topic_tenant(k->key, x->r.who.tenant),
		    audience_topic_user(k->key, x->r.who.tenant, x->r.who.user), &x->waiter);
		return true;
	}
	if (good)
		refuse(k, x);
	reading_free(x);
	return good;
}

/* --- steps */

static void
note_failure(struct reader *r)
{
	worker_count(r->desk.w, STAT_STORE_ERRORS, 1);
	r->failed = true;
	if (r->failed_logged_ms != 0 && r->desk.mono - r->failed_logged_ms < FAILED_LOG_MS)
		return;
	r->failed_logged_ms = r->desk.mono;
	log_error("store failed: %s", db_error(r->desk.db));
}

/* Nobody waits for the answer any more. */
static bool
is_over(const struct reader *r, const struct reading *x)
{
	return x->gone || clock_mono_us() - x->posted_us > MSG_ANSWER_MS * 1000 ||
	    !slot_is_live(r->desk.shm, ref_slot(x->r.ref), (uint16_t)ref_slot_gen(x->r.ref));
}

static void
step(struct reader *r, struct reading *x)
{
	struct desk *k = &r->desk;
	struct buf shared = k->text;
	enum read_end end = READ_DONE;

	desk_clocks(k);
	if (is_over(r, x)) {
		worker_count(k->w, STAT_READS_DROPPED, 1);
	} else {
		k->text = x->text;
		end = x->step(k, x);
		x->text = k->text;
		k->text = shared;
		worker_count(k->w, STAT_READ_STEPS, 1);
	}
	if (end == READ_MORE)
		return;
	if (end == READ_FAILED) {
		note_failure(r);
		refuse(k, x);
	}
	r->bytes -= x->record.len;
	line_remove(&r->line, &x->waiter);
	reading_free(x);
}

/* Of storage. */
static uint64_t
counter(const struct reader *r, enum stats_counter which)
{
	int slot = worker_slot_of(r->desk.w, ROLE_ID_STORAGE, 0);

	return slot == -1 ? 0 :
	    __atomic_load_n(&stats_block(r->desk.shm, (unsigned)slot)[which], __ATOMIC_RELAXED);
}

/*
 * Has the writer's log grown so long that it should find a moment without readers?  It begins anew with a commit: after
 * a pause in vain there is another one only when something was committed since.
 */
static bool
pauses(struct reader *r)
{
	struct worker *w = r->desk.w;
	uint64_t commits = counter(r, STAT_STORE_COMMITS);
	int64_t now = clock_mono_ms();

	if (counter(r, STAT_STORE_LOG_BYTES) < LOG_LONG || (r->pause_until_ms == 0 && commits == r->paused_commits)) {
		r->pause_until_ms = 0;
		return false;
	}
	if (r->pause_until_ms == 0) {
		r->pause_until_ms = now + PAUSE_MAX_MS;
		worker_count(w, STAT_READ_PAUSES, 1);
	}
	if (now < r->pause_until_ms)
		return true;
	r->pause_until_ms = 0;		/* one turn, and then the next pause */
	r->paused_commits = commits;
	return false;
}

/* --- the handle */

static uint16_t
ready_storage(const struct reader *r)
{
	int slot = worker_slot_of(r->desk.w, ROLE_ID_STORAGE, 0);
	struct slot_view view;

	if (slot == -1)
		return 0;
	slot_get(r->desk.shm, (unsigned)slot, &view);
	return view.state == SLOT_READY ? view.generation : 0;
}

/* A new handle, and the key of its store, in place of those that there are; these stay when it is not to be had: -1. */
static int
open_store(struct reader *r)
{
	struct desk *k = &r->desk;
	struct db *db = k->db;
	struct block_key *key = k->cursor_key;
	char err[512];

	r->storage = ready_storage(r);
	r->opened_ms = clock_mono_ms();
	k->cursor_key = NULL;
	k->db = db_open(k->w->conf->store_url, DB_READER, err, sizeof(err));
	if (k->db != NULL && cursor_start(k) == DB_OK) {
		db_close(&db);
		block_key_free(&key);
		return 0;
	}
	log_error("store unreachable: %s", k->db == NULL ? err : db_error(k->db));
	db_close(&k->db);
	k->db = db;
	k->cursor_key = key;
	return -1;
}

/* One that failed may never be good again, and where storage was started anew there may be another file. */
static void
renew(struct reader *r)
{
	uint16_t storage = ready_storage(r);

	if (storage != 0 && (storage != r->storage ||
	    (r->failed && clock_mono_ms() - r->opened_ms >= RENEW_MS)))
		r->failed = open_store(r) == -1;
}

static void
reader_batch_end(struct worker *w)
{
	static const struct timeval soon = { .tv_usec = PAUSE_MS * 1000 };
	struct reader *r = w->data;
	int64_t until = clock_mono_us() + TURN_US;
	struct waiter *next;

	if (r->line.waiting == 0 || event_pending(&r->more, EV_TIMEOUT, NULL))
		return;
	if (pauses(r)) {
		(void)event_add(&r->more, &soon);
		return;
	}
	renew(r);
	while (clock_mono_us() < until && (next = line_next(&r->line)) != NULL)
		step(r, (struct reading *)next);
	__atomic_store_n(&w->stats[STAT_READS_WAITING], r->line.waiting, __ATOMIC_RELAXED);
	if (r->line.waiting > 0)
		event_active(&r->more, EV_TIMEOUT, 0);
	else if (w->draining)
		worker_done(w);
}

/* Only wakes the loop. */
static void
on_more(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
}

/* --- the role */

static unsigned
reader_count(const struct conf *conf)
{
	unsigned cores;

	if (conf->store_readers > 0)
		return conf->store_readers;
	cores = cores_usable();
	return cores < 4 ? 1 : cores > 32 ? 16 : cores / 2;
}

static void
post(struct desk *k, unsigned slot, uint16_t record, struct slice bytes)
{
	struct iovec iov = { (void *)(uintptr_t)bytes.p, bytes.len };

	if (slot < shm_sizes(k->shm)->slots && worker_post(k->w, slot, record, &iov, 1) == -1)
		log_error("a %s for slot %u is lost: too much waits for that process", msg_kind_name(record), slot);
}

static void
publish_now(struct desk *k, const struct msg_publish *m, uint64_t slots, unsigned event)
{
	must(event == 0);
	slots &= publish_slots(k, m);
	if (slots == 0)
		return;
	buf_clear(&k->pack);
	msg_pack_publish(&k->pack, m);
	for (unsigned slot = 0; slots != 0; slot++, slots >>= 1)
		if (slots & 1)
			post(k, slot, MSG_publish, buf_slice(&k->pack));
}

static int
reader_start(struct worker *w)
{
	struct reader *r = must_alloc(sizeof(*r));

	w->data = r;
	r->lost_until = w->mailbox.cursor + mailbox_used(w->shm, w->slot);
	w->stats[STAT_READS_WAITING] = 0;
	line_init(&r->line);
	desk_init(&r->desk, w);
	r->desk.post = post;
	r->desk.publish = publish_now;
	if (setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + NICE) == -1)
		log_debug("priority can't be lowered");
	if (event_assign(&r->more, w->base, -1, 0, on_more, r) == -1)
		return WORKER_AGAIN;
	return open_store(r) == 0 ? 0 : WORKER_AGAIN;
}

static void
reader_mail(struct worker *w, const struct mail *m)
{
	struct reader *r = w->data;

	if (w->mailbox.cursor <= r->lost_until || take(r, m))
		return;
	log_error("a record of kind %s from slot %u is not for a reader, or torn", msg_kind_name(m->kind), m->from);
	worker_count(w, STAT_MAIL_SKIPPED, 1);
}

static void
reader_reload(struct worker *w)
{
	struct reader *r = w->data;

	desk_settings(&r->desk, w->conf);
}

/* Gateways have gone before: what still waits is waited for by nobody. */
static void
reader_drain(struct worker *w, int64_t deadline_mono_ms)
{
	struct reader *r = w->data;

	(void)deadline_mono_ms;
	if (r->line.waiting == 0)
		worker_done(w);
}

static void
reader_stop(struct worker *w)
{
	struct reader *r = w->data;
	struct waiter *next;

	if (r == NULL)
		return;
	while ((next = line_next(&r->line)) != NULL) {
		line_remove(&r->line, next);
		reading_free((struct reading *)next);
	}
	line_fini(&r->line);
	(void)event_del(&r->more);
	desk_fini(&r->desk);
	free(r);
	w->data = NULL;
}

const struct worker_role reader_role = {
	.id = ROLE_ID_READER,
	.count = reader_count,
	.mailbox_bytes = MAILBOX_BYTES,
	.start = reader_start,
	.mail = reader_mail,
	.batch_end = reader_batch_end,
	.reload = reader_reload,
	.drain = reader_drain,
	.stop = reader_stop,
	.drain_rank = 1,
};
