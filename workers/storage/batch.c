/*
 * batch.c: group commit.  Only the storage process; it owns the one open
 * transaction and what is to follow it.
 *
 *	1. records are read; each runs inside the transaction (begun at the first write)
 *	2. commit
 *	3. the effects, in the order in which they were noted
 *	4. (role.c) the records are given back to the mailbox
 *
 * Killed before 2 the batch did not happen; between 2 and 4 a successor reads
 * the same records again, finds what they did, and tells it again.  When 2
 * fails, requests are refused and what may not be lost is kept and retried.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/must.h"
#include "storage/storage.h"

#define KEPT_MAX	(64u << 20)	/* bytes of records kept while the store fails */
#define LOG_EVERY_MS	10000

static void *
grow(void *v, size_t count, size_t *cap, size_t size)
{
	if (count < *cap)
		return v;
	*cap = *cap > 0 ? *cap * 2 : 64;
	return must_realloc(v, *cap * size);
}

enum db_result
batch_begin(struct storage *s)
{
	enum db_result result;

	if (s->batch.begun)
		return DB_OK;
	result = DB(s->db, begin);
	s->batch.begun = result == DB_OK;
	return result;
}

/* Effects */

static struct effect *
effect_new(struct storage *s, enum effect_kind kind)
{
	struct batch *b = &s->batch;
	struct effect *e;

	b->effects = grow(b->effects, b->effect_count, &b->effect_cap, sizeof(*b->effects));
	e = &b->effects[b->effect_count++];
	e->kind = kind;
	return e;
}

void
effect_post(struct storage *s, unsigned slot, uint16_t record, struct slice bytes)
{
	struct effect *e;

	if (slot >= shm_sizes(s->shm)->slots)
		return;
	must(bytes.len <= UINT32_MAX && s->batch.bytes.len <= UINT32_MAX - bytes.len);
	e = effect_new(s, EFFECT_POST);
	e->slot = (uint8_t)slot;
	e->record = record;
	e->offset = (uint32_t)s->batch.bytes.len;
	e->len = (uint32_t)bytes.len;
	buf_put_slice(&s->batch.bytes, bytes);
}

void
effect_pending_add(struct storage *s, const uint8_t id[16], struct hash128 device,
    int64_t deadline_mono, enum pending_state state)
{
	struct effect *e = effect_new(s, EFFECT_PENDING_ADD);

	memcpy(e->id, id, sizeof(e->id));
	e->device = device;
	e->deadline = deadline_mono;
	e->state = (uint8_t)state;
}

void
effect_pending_remove(struct storage *s, const uint8_t id[16])
{
	struct effect *e = effect_new(s, EFFECT_PENDING_REMOVE);

	memcpy(e->id, id, sizeof(e->id));
}

void
effect_release(struct storage *s, struct hash128 device, unsigned transport, uint64_t ref)
{
	struct effect *e = effect_new(s, EFFECT_RELEASE);

	e->device = device;
	e->state = (uint8_t)transport;
	e->ref = ref;
}

void
effect_sample(struct storage *s, const struct slice *parts, unsigned n)
{
	struct effect *e = effect_new(s, EFFECT_SAMPLE);
	struct buf *bytes = &s->batch.bytes;

	must(bytes->len <= UINT32_MAX);
	e->offset = (uint32_t)bytes->len;
	for (unsigned i = 0; i < n; i++) {
		must(parts[i].len <= UINT32_MAX - bytes->len);
		buf_put_slice(bytes, parts[i]);
	}
	e->len = (uint32_t)(bytes->len - e->offset);
}

void
effect_tally(struct storage *s, int64_t tenant_pk, unsigned what, int64_t n)
{
	struct effect *e = effect_new(s, EFFECT_TALLY);

	e->record = (uint16_t)what;
	e->tenant_pk = tenant_pk;
	e->count = n;
}

static void
carry_out(struct storage *s)
{
	struct batch *b = &s->batch;

	for (size_t i = 0; i < b->effect_count; i++) {
		const struct effect *e = &b->effects[i];
		struct iovec iov;

		switch ((enum effect_kind)e->kind) {
		case EFFECT_POST:
			iov.iov_base = b->bytes.data + e->offset;
			iov.iov_len = e->len;
			if (worker_post(s->w, e->slot, e->record, &iov, 1) == -1)
				log_error("a %s for slot %u is lost: too much waits for that "
				    "process", msg_kind_name(e->record), e->slot);
			break;
		case EFFECT_PENDING_ADD:
			if (pending_add(s->shm, e->id, e->device, e->deadline,
			    (enum pending_state)e->state) == -1)
				command_no_room(s);
			break;
		case EFFECT_PENDING_REMOVE:
			pending_remove(s->shm, e->id);
			break;
		case EFFECT_RELEASE:
			directory_release(s->shm, e->device, e->state, e->ref, NULL);
			break;
		case EFFECT_SAMPLE:
			sample_take(s, slice_bytes(b->bytes.data + e->offset, e->len));
			break;
		case EFFECT_TALLY:
			tally_add(&s->tallies, e->tenant_pk, (enum tally_count)e->record, e->count, s->mono);
			break;
		}
	}
}

static void
forget(struct batch *b)
{
	b->begun = b->failed = false;
	b->mail_count = b->effect_count = b->claim_count = 0;
	buf_clear(&b->bytes);
	if (b->bytes.cap > 4u << 20)
		buf_fini(&b->bytes);
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
	log_error("store failed: %s", db_error(s->db));
}

static void
note_success(struct storage *s)
{
	if (s->failing)
		log_warn("store works again");
	s->failing = false;
}

static void
roll_back(struct storage *s)
{
	struct batch *b = &s->batch;

	note_failure(s);
	if (b->begun)
		(void)DB(s->db, rollback);
	b->begun = false;
	while (b->claim_count > 0) {
		const struct claim *c = &b->claims[--b->claim_count];
		uint64_t nobody;
		struct directory_view view;

		directory_release(s->shm, c->device, c->transport, c->ref, NULL);
		if (c->old_ref != REF_NONE)
			directory_claim(s->shm, c->device, c->device_pk, c->transport, c->old_ref,
			    c->old_epoch, s->now, &nobody, &view);
	}
	b->effect_count = 0;
	buf_clear(&b->bytes);
}

static void
keep(struct storage *s, const struct mail *mail)
{
	struct batch *b = &s->batch;

	if (b->kept.len + sizeof(*mail) + mail->len > KEPT_MAX) {
		log_error("a %s is lost: the store has failed for too long",
		    msg_kind_name(mail->kind));
		return;
	}
	buf_put(&b->kept, mail, sizeof(*mail));
	buf_put(&b->kept, mail->data, mail->len);
	b->kept_count++;
}

/* What was rolled back: requests are refused, the rest waits. */
static void
refuse_or_keep(struct storage *s)
{
	struct batch *b = &s->batch;

	for (size_t i = 0; i < b->mail_count; i++)
		if (!storage_refuse(s, &b->mails[i]))
			keep(s, &b->mails[i]);
	carry_out(s);
}

static enum db_result
commit(struct storage *s)
{
	int64_t began = clock_mono_us();
	enum db_result result;

	if (!s->batch.begun)
		return DB_OK;
	result = DB(s->db, commit);
	if (result == DB_OK) {
		worker_observe(s->w, STAT_COMMIT_US, (uint64_t)(clock_mono_us() - began));
		s->batch.begun = false;
		storage_count(s, STORE_COMMITS, 1);
		note_success(s);
	}
	return result;
}

bool
batch_end(struct storage *s)
{
	struct batch *b = &s->batch;
	bool good;

	if (b->mail_count == 0 && b->effect_count == 0 && !b->begun && !b->failed)
		return true;
	storage_count(s, STORE_RECORDS, b->mail_count);
	good = !b->failed && commit(s) == DB_OK;
	if (good) {
		carry_out(s);
	} else {
		roll_back(s);
		refuse_or_keep(s);
	}
	forget(b);
	return good;
}

void
batch_run(struct storage *s, const struct mail *mail)
{
	struct batch *b = &s->batch;

	/* What was kept comes first: a newer record must not overtake it. */
	if (b->mail_count == 0 && b->kept_count > 0) {
		batch_retry(s);
		b->failed = b->kept_count > 0;
	}
	b->mails = grow(b->mails, b->mail_count, &b->mail_cap, sizeof(*b->mails));
	b->mails[b->mail_count++] = *mail;
	if (!b->failed && storage_dispatch(s, mail) == DB_FAILED)
		b->failed = true;
}

/*
 * One at a time, so that a record which can't be stored is told from a store that stores nothing:
 * when a record fails and a probe does not, the record is at fault and dropped.
 */
void
batch_retry(struct storage *s)
{
	struct batch *b = &s->batch;
	size_t used = 0;

	must(b->mail_count == 0 && !b->begun);
	for (unsigned n = 0; b->kept_count > 0 && n < 1024; n++) {
		struct mail mail;

		memcpy(&mail, b->kept.data + used, sizeof(mail));
		mail.data = (const uint8_t *)b->kept.data + used + sizeof(mail);
		if (storage_dispatch(s, &mail) == DB_FAILED || commit(s) == DB_FAILED) {
			roll_back(s);
			forget(b);
			if (batch_begin(s) != DB_OK || DB(s->db, probe, s->now, PROBE_BYTES) != DB_OK ||
			    commit(s) != DB_OK) {
				roll_back(s);
				forget(b);
				break;
			}
			log_error("a %s is dropped: the store works but does not take it",
			    msg_kind_name(mail.kind));
		} else {
			carry_out(s);
		}
		forget(b);
		used += sizeof(mail) + mail.len;
		b->kept_count--;
	}
	buf_consume(&b->kept, used);
	if (b->kept_count == 0)
		buf_fini(&b->kept);
}

void
batch_fini(struct batch *b)
{
	free(b->mails);
	free(b->effects);
	free(b->claims);
	buf_fini(&b->bytes);
	buf_fini(&b->kept);
}
