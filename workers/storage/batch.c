/*
 * batch.c: group commit.  Only the storage process; it owns the one open
 * transaction and what is to follow it.
 *
 *	1. records are read; each runs inside the transaction, whose first write is the batch's number;
 *	   what must follow (effects) is written to shared memory as it is noted
 *	2. what happened gets its places, and the effects their cursors
 *	3. the record of the batch is put: its number, its effects, the end of its mail
 *	4. commit
 *	5. the effects, in the order in which they were noted
 *	6. the mail is consumed
 *	7. the record is cleared
 *
 * Killed before 4, the batch did not happen: the successor clears the record and
 * reads the mail again.  Killed after 4, it has happened, which the store's
 * number says: the successor does 5, 6 and 7 with the record of its predecessor.
 * Records that were posted already are posted again under the same tags, and
 * left out by their receivers.  When 4 fails, requests are refused, and what may
 * not be lost is kept, in shared memory, and tried again.
 *
 * What the engine gives up for others' sake (DB_AGAIN) is rolled back, with its
 * effects, and the same records are run again, TRIES times at most; then it has failed.
 * When the answer to 4 is lost (DB_UNCERTAIN) nothing else is run until the store has
 * said what became of the number.  When it does not say for SETTLE_MS the process ends
 * while the record of 3 stands, and its successor asks.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/must.h"
#include "shm/effects.h"
#include "storage/storage.h"

#define LARGE_BYTES	(EFFECTS_BYTES / 4)	/* no record alone has more than the rest */
#define LOG_EVERY_MS	10000
#define TRIES		5
#define SETTLE_MS	5000
#define SETTLE_AGAIN_MS	100
#define LOG_END_MS	100

static const char commits_name[] = "batch";

static void *
grow(void *v, size_t count, size_t *cap, size_t size)
{
	if (count < *cap)
		return v;
	*cap = *cap > 0 ? *cap * 2 : 64;
	return must_realloc(v, *cap * size);
}

/* The number is the first write, and conditional: when it is not the one before, the store is not ours. */
enum db_result
batch_begin(struct storage *s)
{
	enum db_result result;

	if (s->batch.begun)
		return DB_OK;
	(void)db_failure(s->desk.db);
	if (DB(s->desk.db, begin) != DB_OK)
		return DB_FAILED;
	s->batch.begun = true;
	result = DB(s->desk.db, meta_step, commits_name, s->batch.commits + 1);
	if (result == DB_NONE)
		log_error("another process writes to the store");
	return result == DB_OK ? DB_OK : DB_FAILED;
}

/* Steps 5 to 7, of our own record or a predecessor's. */
static void
carry_out(struct storage *s, const struct effects_record *r)
{
	effect_carry_out(s, r->number, r->len);
	effects_keep(s->desk.shm, r->kept_head, r->kept_tail);
	STORAGE_POINT("batch: kept");
	mailbox_consume_to(&s->desk.w->mailbox, r->mail_end);
	STORAGE_POINT("batch: consumed");
	effects_clear(s->desk.shm);
	STORAGE_POINT("batch: cleared");
}

static void
empty(struct buf *b)
{
	buf_clear(b);
	if (b->cap > 4u << 20)
		buf_fini(b);
}

static void
forget_effects(struct storage *s)
{
	struct batch *b = &s->batch;

	quota_forget(s);
	b->effects_len = 0;
	b->last = NULL;
	b->event_count = b->claim_count = 0;
	empty(&b->event_texts);
	memset(b->counts, 0, sizeof(b->counts));
}

static void
forget(struct storage *s)
{
	s->batch.begun = s->batch.failed = false;
	s->batch.mail_count = 0;
	s->batch.tries = 0;
	forget_effects(s);
}

/* Failures */

static void
note_failure(struct storage *s)
{
	storage_count(s, STORE_ERRORS, 1);
	if (s->failing && clock_mono_ms() - s->failed_logged_mono < LOG_EVERY_MS)
		return;
	s->failing = true;
	s->failed_logged_mono = clock_mono_ms();
	log_error("store failed: %s", db_error(s->desk.db));
}

static void
note_success(struct storage *s)
{
	if (s->failing)
		log_warn("store works again");
	s->failing = false;
}

static void
take_back(struct storage *s)
{
	if (s->batch.begun)
		(void)DB(s->desk.db, rollback);
	s->batch.begun = false;
	flights_undo(&s->flights);
	forget_effects(s);
	(void)db_failure(s->desk.db);
}

static void
roll_back(struct storage *s)
{
	note_failure(s);
	take_back(s);
}

/* The engine gave the transaction up; asked once after each failure. */
static bool
given_up(struct storage *s)
{
	struct batch *b = &s->batch;

	b->again = db_failure(s->desk.db) == DB_AGAIN;
	return b->again && b->tries++ < TRIES;
}

/*
 * The batch's records, from the first one on, until they have run or that is no longer of use: false.  They have no
 * more effects than they had, but for what others did meanwhile.
 */
static bool
run_again(struct storage *s)
{
	struct batch *b = &s->batch;

	while (given_up(s) && b->mail_count > 0) {
		take_back(s);
		worker_alive(s->desk.w);
		desk_clocks(&s->desk);		/* it may have waited for locks: some records are too old by now */
		b->failed = false;
		for (size_t i = 0; i < b->mail_count && !b->failed; i++)
			if (storage_dispatch(s, &b->mails[i]) == DB_FAILED)
				b->failed = true;
		if (!b->failed)
			return true;
	}
	return false;
}

/* The answer to COMMIT is lost: did it happen?  The record of the batch stands meanwhile. */
static bool
settle(struct storage *s)
{
	static const struct timespec pause = { .tv_nsec = SETTLE_AGAIN_MS * 1000000L };
	struct batch *b = &s->batch;
	int64_t until = clock_mono_ms() + b->settle_ms, last;

	while (DB(s->desk.db, meta_settled, commits_name, &last) != DB_OK) {
		if (clock_mono_ms() >= until) {
			log_error("the store does not say what became of a commit: %s", db_error(s->desk.db));
			log_finish(LOG_END_MS);
			_exit(-WORKER_AGAIN);
		}
		worker_alive(s->desk.w);
		(void)nanosleep(&pause, NULL);
	}
	return last == b->commits + 1;
}

static enum db_result
commit(struct storage *s)
{
	struct batch *b = &s->batch;
	int64_t began = clock_mono_us();

	if (!b->begun)
		return DB_OK;
	if (DB(s->desk.db, commit) != DB_OK) {
		bool uncertain = s->desk.db->failure == DB_UNCERTAIN;

		(void)DB(s->desk.db, rollback);
		b->begun = false;
		if (!uncertain)
			return DB_FAILED;
		if (!settle(s)) {
			s->desk.db->failure = DB_AGAIN;
			return DB_FAILED;
		}
		(void)db_failure(s->desk.db);
	}
	worker_observe(s->desk.w, STAT_COMMIT_US, (uint64_t)(clock_mono_us() - began));
	b->begun = false;
	b->commits++;
	flights_keep(&s->flights);
	storage_count(s, STORE_COMMITS, 1);
	note_success(s);
	return DB_OK;
}

/* Steps 2 to 7; r says where mail and kept mail go.  false: the transaction did not happen, and no record stands. */
static bool
finish(struct storage *s, struct effects_record *r)
{
	struct batch *b = &s->batch;

	if (event_place(s) != DB_OK)
		return false;
	effect_cursors(s);
	effect_counts(s);
	if (b->failed)
		return false;
	r->commit = b->begun ? b->commits + 1 : 0;
	r->len = b->effects_len;
	r->number = effects_put(s->desk.shm, r);
	STORAGE_POINT("batch: before commit");
	if (commit(s) != DB_OK) {
		effects_clear(s->desk.shm);
		return false;
	}
	STORAGE_POINT("batch: committed");
	carry_out(s, r);
	return true;
}

/* A record that nothing is taken from: mail and kept mail as they are. */
static struct effects_record
record_of(struct storage *s)
{
	struct effects_record r = { .mail_end = 0 };

	effects_kept_range(s->desk.shm, &r.kept_head, &r.kept_tail);
	return r;
}

/* Kept mail: what may not be lost and could not be stored, in order. */
struct kept {
	uint32_t len;
	uint16_t kind;
	uint8_t from;
	uint8_t unused;
	int64_t posted_mono_us;
};

static size_t
kept_size(size_t len)
{
	return sizeof(struct kept) + ((len + 7) & ~(size_t)7);
}

static void
keep(struct storage *s, const struct mail *mail, uint64_t *tail)
{
	uint8_t *at = effects_kept(s->desk.shm) + *tail;
	struct kept k = { mail->len, mail->kind, mail->from, 0, mail->posted_mono_us };

	if (kept_size(mail->len) > EFFECTS_KEPT_BYTES - *tail) {
		log_error("a %s is lost: the store has failed for too long",
		    msg_kind_name(mail->kind));
		return;
	}
	memcpy(at, &k, sizeof(k));
	memcpy(at + sizeof(k), mail->data, mail->len);
	*tail += kept_size(mail->len);
}

bool
batch_has_kept(struct storage *s)
{
	uint64_t head, tail;

	effects_kept_range(s->desk.shm, &head, &tail);
	return head < tail;
}

/* What was rolled back: requests are refused, the rest waits. */
static void
refuse_or_keep(struct storage *s)
{
	struct batch *b = &s->batch;
	struct effects_record r = record_of(s);

	b->failed = false;
	r.mail_end = b->mail_count > 0 ? s->desk.w->mailbox.cursor : 0;
	if (r.kept_head == r.kept_tail)
		r.kept_head = r.kept_tail = 0;
	for (size_t i = 0; i < b->mail_count; i++)
		if (!storage_refuse(s, &b->mails[i]))
			keep(s, &b->mails[i], &r.kept_tail);
	(void)finish(s, &r);
}

bool
batch_end(struct storage *s)
{
	struct batch *b = &s->batch;
	struct effects_record r;
	bool good;

	if (b->mail_count == 0 && b->effects_len == 0 && !b->begun && !b->failed)
		return true;
	effect_count(s, STAT_STORE_RECORDS, b->mail_count);
	r = record_of(s);
	r.mail_end = b->mail_count > 0 ? s->desk.w->mailbox.cursor : 0;
	good = !b->failed && finish(s, &r);
	while (!good && run_again(s)) {
		effect_count(s, STAT_STORE_RECORDS, b->mail_count);
		good = finish(s, &r);
	}
	if (!good && b->again && b->mail_count == 0) {
		take_back(s);
	} else if (!good) {
		roll_back(s);
		refuse_or_keep(s);
	}
	forget(s);
	return good;
}

bool
batch_is_large(const struct storage *s)
{
	return s->batch.effects_len > LARGE_BYTES;
}

void
batch_run(struct storage *s, const struct mail *mail)
{
	struct batch *b = &s->batch;

	/* What was kept comes first: a newer record must not overtake it. */
	if (b->mail_count == 0 && batch_has_kept(s)) {
		batch_retry(s);
		b->failed = batch_has_kept(s);
	}
	b->mails = grow(b->mails, b->mail_count, &b->mail_cap, sizeof(*b->mails));
	b->mails[b->mail_count++] = *mail;
	/* At once, and not at the end: records that were not run yet might have more effects than there is room for. */
	if (!b->failed && storage_dispatch(s, mail) == DB_FAILED)
		b->failed = !run_again(s);
	if (batch_is_large(s))
		batch_end(s);
}

static bool
store_works(struct storage *s)
{
	bool works = batch_begin(s) == DB_OK && DB(s->desk.db, probe, s->desk.now, PROBE_BYTES) == DB_OK &&
	    commit(s) == DB_OK;

	if (!works)
		roll_back(s);
	forget(s);
	return works;
}

/* The kept record at head, in a batch of its own; false: it fails. */
static bool
retry_one(struct storage *s, const struct mail *mail, struct effects_record *r)
{
	bool good;

	for (;;) {
		effect_count(s, STAT_STORE_RECORDS, 1);
		good = storage_dispatch(s, mail) != DB_FAILED && finish(s, r);
		if (good || !given_up(s))
			break;
		take_back(s);
	}
	if (!good)
		roll_back(s);
	forget(s);
	return good;
}

/*
 * One at a time, so that a record which can't be stored is told from a store that stores nothing:
 * when a record fails and a probe does not, the record is at fault and dropped.
 */
void
batch_retry(struct storage *s)
{
	must(s->batch.mail_count == 0 && !s->batch.begun);
	for (unsigned n = 0; batch_has_kept(s) && n < 1024; n++) {
		struct effects_record r = record_of(s);
		const uint8_t *at = effects_kept(s->desk.shm) + r.kept_head;
		struct kept k;
		struct mail mail;

		memcpy(&k, at, sizeof(k));
		mail = (struct mail){
			.kind = k.kind, .from = k.from, .len = k.len, .posted_mono_us = k.posted_mono_us,
			.data = at + sizeof(k)
		};
		r.kept_head += kept_size(k.len);
		if (retry_one(s, &mail, &r))
			continue;
		if (s->batch.again || !store_works(s))
			break;
		log_error("a %s is dropped: the store works but does not take it", msg_kind_name(mail.kind));
		effects_keep(s->desk.shm, r.kept_head, r.kept_tail);
	}
}

int
batch_start(struct storage *s)
{
	struct batch *b = &s->batch;
	enum db_result result = DB(s->desk.db, meta_settled, commits_name, &b->commits);

	b->settle_ms = SETTLE_MS;
	if (result == DB_NONE) {
		b->commits = 0;
		result = DB(s->desk.db, meta_set, commits_name, 0);
	}
	return result == DB_OK ? 0 : -1;
}

/* What a predecessor was about to do: it has happened when its number is the store's. */
void
batch_take_over(struct storage *s)
{
	struct effects_record r;

	if (!effects_get(s->desk.shm, &r))
		return;
	if (r.commit == 0 || r.commit == s->batch.commits)
		carry_out(s, &r);
	else
		effects_clear(s->desk.shm);
}

void
batch_fini(struct batch *b)
{
	free(b->mails);
	free(b->events);
	free(b->claims);
	buf_fini(&b->event_texts);
}
