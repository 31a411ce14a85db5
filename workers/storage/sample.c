/*
 * sample.c: telemetry that is to be stored.  Only the storage process.
 *
 * Nobody waits for it, and it may be lost, so it goes behind everything else:
 *
 *	1. a record (or each value of a REST request) notes a sample as an effect of its batch
 *	2. after the batch's commit the sample is taken: it waits here, and its record is given back
 *	   to the mailbox
 *	3. what waits is written in steps of SAMPLES_STEP, each a batch of its own: as soon as there
 *	   are so many, and at each tick.  Between two steps the mailbox is read.
 *
 * So a command never shares its transaction with samples, waits for one step at most, and is not
 * refused when one fails; and a few samples a second cost ten commits a second, not one each.
 * For each sample written up to two that are too old go, so that removing keeps up however fast
 * they come.
 *
 * Killed before 2 nothing is lost: the successor runs the record, or carries out its effect.  Between
 * 2 and 3 they are lost, and the successor counts them.  What was written is not taken again: its
 * batch was finished before.
 */
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "storage/storage.h"

#define SAMPLES_STEP	256
#define STEP_BYTES	(1u << 20)
#define WAITING_BYTES	(8u << 20)	/* more are lost: some 20,000 of the usual size */

/* A sample that waits; tenant, device and data follow, and what fills up to 8 bytes. */
struct waiting {
	int64_t device_pk, epoch, at, received_at;
	uint32_t tenant_len, device_len, data_len;
};

static size_t
waiting_size(const struct waiting *w)
{
	return sizeof(*w) + w->tenant_len + w->device_len + w->data_len;
}

static void
lost(struct storage *s, uint64_t n)
{
	storage_count(s, TELEMETRY_UNSTORED, n);
}

void
sample_refuse(struct storage *s)
{
	storage_count(s, TELEMETRY_TAKEN, 1);
	lost(s, 1);
}

void
sample_note(struct storage *s, const struct db_sample *v)
{
	struct waiting w;
	struct slice parts[4] = { slice_bytes(&w, sizeof(w)), v->tenant, v->device, v->data_json };

	memset(&w, 0, sizeof(w));
	w.device_pk = v->device_pk;
	w.epoch = v->epoch;
	w.at = v->at;
	w.received_at = s->desk.now;
	w.tenant_len = (uint32_t)v->tenant.len;
	w.device_len = (uint32_t)v->device.len;
	w.data_len = (uint32_t)v->data_json.len;
	effect_sample(s, parts, 4);
}

enum db_result
sample(struct storage *s, const struct msg_sample *m)
{
	struct db_sample v = {
		.device_pk = m->device_pk, .tenant = m->tenant, .device = m->device, .epoch = m->epoch, .at = m->at,
		.data_json = m->data_json
	};

	/* A gateway may hear a moment later than we do that none are wanted any more. */
	if (s->telemetry_retention_ms > 0)
		sample_note(s, &v);
	return DB_OK;
}

void
sample_take(struct storage *s, struct slice noted)
{
	struct samples *q = &s->samples;

	storage_count(s, TELEMETRY_TAKEN, 1);
	if (q->waiting.len - q->read + noted.len > WAITING_BYTES) {
		lost(s, 1);
		return;
	}
	if (q->read > 0 && q->waiting.len + noted.len > q->waiting.cap) {
		buf_consume(&q->waiting, q->read);
		q->read = 0;
	}
	buf_put_slice(&q->waiting, noted);
	q->count++;
}

/* The next step into q->step: how many; *size: of their bytes. */
static unsigned
look(struct samples *q, size_t *size)
{
	unsigned n = 0;
	size_t at = q->read;

	while (at < q->waiting.len && n < SAMPLES_STEP && (n == 0 || at - q->read < STEP_BYTES)) {
		const char *p = q->waiting.data + at;
		struct waiting w;

		memcpy(&w, p, sizeof(w));
		p += sizeof(w);
		q->step[n++] = (struct db_sample){
			.device_pk = w.device_pk, .epoch = w.epoch, .at = w.at, .received_at = w.received_at,
			.tenant = { p, w.tenant_len }, .device = { p + w.tenant_len, w.device_len },
			.data_json = { p + w.tenant_len + w.device_len, w.data_len }
		};
		at += waiting_size(&w);
	}
	*size = at - q->read;
	return n;
}

static void
forget(struct samples *q, unsigned n, size_t size)
{
	q->count -= n;
	q->read += size;
	if (q->read < q->waiting.len)
		return;
	q->read = 0;
	buf_clear(&q->waiting);
	if (q->waiting.cap > STEP_BYTES)
		buf_fini(&q->waiting);
}

/* Those of tenants that may store no more leave the step: *n. */
static enum db_result
admit(struct storage *s, unsigned *n)
{
	struct db_sample *step = s->samples.step;
	unsigned kept = 0;
	int64_t tenant_pk;
	bool room;

	for (unsigned i = 0; s->quota.kept && i < *n; i++) {
		TRY(quota_room(s, step[i].tenant, &room));
		if (!room) {
			storage_count(s, TENANT_STORE_FULL, 1);
			continue;
		}
		if (db_tenant(s->desk.db, step[i].tenant, false, &tenant_pk) == DB_OK)
			quota_note(s, tenant_pk, step[i].data_json.len);
		step[kept++] = step[i];
	}
	if (s->quota.kept)
		*n = kept;
	quota_forget(s);
	return DB_OK;
}

static enum db_result
write_step(struct storage *s, unsigned n, unsigned *stored)
{
	unsigned admitted = n;
	bool more;

	TRY(admit(s, &admitted));
	TRY(DB(s->desk.db, telemetry_insert, s->samples.step, admitted, stored));
	return DB(s->desk.db, telemetry_retain, s->desk.now - s->telemetry_retention_ms, 2 * n, &more);
}

/* false: the store could not be had, and they wait on. */
static bool
step(struct storage *s)
{
	struct samples *q = &s->samples;
	unsigned n, stored = 0;
	size_t size;
	bool had;

	must(s->batch.mail_count == 0 && !s->batch.begun);
	n = look(q, &size);
	had = batch_begin(s) == DB_OK;
	s->batch.failed = !had || write_step(s, n, &stored) == DB_FAILED;
	if (batch_end(s)) {
		storage_count(s, TELEMETRY_STORED, stored);
		lost(s, n - stored);
	} else if (s->batch.again) {
		had = false;		/* nothing is wrong with them */
	} else if (had) {
		lost(s, n);
	}
	if (had)
		forget(q, n, size);
	return had;
}

void
sample_write_many(struct storage *s)
{
	const struct samples *q = &s->samples;

	/* As long as the store fails the ticks try, so that nobody else waits for a lock on it each time. */
	if (!s->failing && (q->count >= SAMPLES_STEP || q->waiting.len - q->read >= STEP_BYTES))
		(void)step(s);
}

void
sample_write(struct storage *s)
{
	while (s->samples.count > 0 && step(s) && mailbox_used(s->desk.shm, s->desk.w->slot) == 0)
		worker_alive(s->desk.w);
}

void
sample_drain(struct storage *s)
{
	while (s->samples.count > 0 && step(s))
		worker_alive(s->desk.w);
}

/* What predecessors took, and neither stored nor gave up, went with them. */
static void
count_lost(struct storage *s)
{
	uint64_t taken = s->desk.w->stats[STAT_TELEMETRY_TAKEN];
	uint64_t known = s->desk.w->stats[STAT_TELEMETRY_STORED] + s->desk.w->stats[STAT_TELEMETRY_UNSTORED];

	if (taken > known)
		lost(s, taken - known);
}

void
sample_start(struct storage *s)
{
	s->samples.step = must_alloc(SAMPLES_STEP * sizeof(*s->samples.step));
	count_lost(s);
}

void
sample_fini(struct storage *s)
{
	lost(s, s->samples.count);
	buf_fini(&s->samples.waiting);
	free(s->samples.step);
}
