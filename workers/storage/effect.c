/*
 * effect.c: what follows from a batch: noted in shared memory while its records
 * run, carried out when it is committed, by the process or its successor.  Only
 * the storage process.
 *
 * An effect is done when it is in the receiver's ring, or, where that is full, in
 * the outbox for that receiver.  Each record that is posted has a tag, of the
 * batch's number and the effect's, so that receivers leave out what they had.
 */
#include <string.h>

#include "base/log.h"
#include "base/must.h"
#include "shm/effects.h"
#include "storage/storage.h"

#define TAG_BITS	20			/* of a tag: the effect's place in its batch */
#define PUBLISH_MOST	(EFFECTS_OUTBOX_BYTES / 4)	/* the rest of an outbox is for what may not be dropped */

/* Behind what is noted already, with room for len bytes; NULL: there is none, and the batch fails. */
static struct effect *
effect_new(struct storage *s, enum effect_kind kind, size_t len)
{
	struct batch *b = &s->batch;
	size_t size = (sizeof(struct effect) + len + 7) & ~(size_t)7;
	struct effect *e;

	if (len > EFFECTS_BYTES || size > EFFECTS_BYTES - b->effects_len) {
		if (!b->failed)
			log_error("a batch has more effects than there is room for");
		b->failed = true;
		return NULL;
	}
	e = (struct effect *)(effects_data(s->desk.shm) + b->effects_len);
	memset(e, 0, sizeof(*e));
	e->size = (uint32_t)size;
	e->len = (uint32_t)len;
	e->kind = kind;
	b->effects_len += size;
	b->last = e;
	return e;
}

static uint8_t *
bytes_of(struct effect *e)
{
	return (uint8_t *)(e + 1);
}

/* The same bytes as the last record, for one more receiver? */
static bool
is_last(const struct batch *b, uint16_t record, struct slice bytes, unsigned event)
{
	return b->last != NULL && b->last->kind == EFFECT_POST && b->last->record == record &&
	    b->last->event == event && b->last->len == bytes.len && memcmp(bytes_of(b->last), bytes.p, bytes.len) == 0;
}

void
effect_post(struct storage *s, unsigned slot, uint16_t record, struct slice bytes)
{
	effect_post_event(s, slot, record, bytes, 0);
}

void
effect_post_event(struct storage *s, unsigned slot, uint16_t record, struct slice bytes, unsigned event)
{
	struct batch *b = &s->batch;
	struct effect *e;

	must(event == 0 || (event <= b->event_count && bytes.len >= CURSOR_LEN + sizeof(int64_t)));
	if (slot >= shm_sizes(s->desk.shm)->slots)
		return;
	if (is_last(b, record, bytes, event) && (b->last->slots & (uint64_t)1 << slot) == 0) {
		b->last->slots |= (uint64_t)1 << slot;
		return;
	}
	if ((e = effect_new(s, EFFECT_POST, bytes.len)) == NULL)
		return;
	e->record = record;
	e->slots = (uint64_t)1 << slot;
	e->event = event;
	e->state = event != 0 ? ROOM_CURSOR : ROOM_NONE;
	memcpy(bytes_of(e), bytes.p, bytes.len);
}

void
effect_publish(struct storage *s, const struct msg_publish *m, uint64_t slots, unsigned event)
{
	struct buf *pack = &s->desk.pack;
	struct effect *e;

	must(event <= s->batch.event_count);
	buf_clear(pack);
	msg_pack_publish(pack, m);
	if ((e = effect_new(s, EFFECT_PUBLISH, pack->len)) == NULL)
		return;
	e->record = MSG_publish;
	e->slots = slots;
	e->event = event;
	e->state = event != 0 ? ROOM_CURSOR : ROOM_NONE;
	memcpy(bytes_of(e), pack->data, pack->len);
}

void
effect_pending_add(struct storage *s, const uint8_t id[16], struct hash128 device,
    int64_t deadline_mono, enum pending_state state)
{
	struct effect *e = effect_new(s, EFFECT_PENDING_ADD, 0);

	if (e == NULL)
		return;
	memcpy(e->id, id, sizeof(e->id));
	e->device = device;
	e->number = deadline_mono;
	e->state = (uint8_t)state;
}

void
effect_pending_remove(struct storage *s, const uint8_t id[16])
{
	struct effect *e = effect_new(s, EFFECT_PENDING_REMOVE, 0);

	if (e != NULL)
		memcpy(e->id, id, sizeof(e->id));
}

static struct claim *
claim_new(struct batch *b)
{
	if (b->claim_count == b->claim_cap) {
		b->claim_cap = b->claim_cap > 0 ? b->claim_cap * 2 : 64;
		b->claims = must_realloc(b->claims, b->claim_cap * sizeof(*b->claims));
	}
	return &b->claims[b->claim_count++];
}

void
effect_claim(struct storage *s, struct hash128 device, int64_t device_pk, unsigned transport, uint64_t ref,
    int64_t epoch, uint16_t record, struct slice bytes)
{
	struct effect *e = effect_new(s, EFFECT_CLAIM, 0), *post;

	if (e == NULL)
		return;
	e->device = device;
	e->pk = device_pk;
	e->state = (uint8_t)transport;
	e->ref = ref;
	e->number = epoch;
	*claim_new(&s->batch) = (struct claim){ device, epoch, ref, (uint8_t)transport, false };
	must(bytes.len >= 2 * sizeof(uint32_t));
	if ((post = effect_new(s, EFFECT_POST, bytes.len)) == NULL)
		return;
	post->record = record;
	post->slots = (uint64_t)1 << ref_slot(ref);
	post->state = ROOM_ENTRY;
	memcpy(bytes_of(post), bytes.p, bytes.len);
}

void
effect_release(struct storage *s, struct hash128 device, unsigned transport, uint64_t ref)
{
	struct effect *e = effect_new(s, EFFECT_RELEASE, 0);

	if (e == NULL)
		return;
	e->device = device;
	e->state = (uint8_t)transport;
	e->ref = ref;
	*claim_new(&s->batch) = (struct claim){ device, 0, ref, (uint8_t)transport, true };
}

int
batch_find(const struct storage *s, struct hash128 device, struct directory_view *out)
{
	int found = directory_find(s->desk.shm, device, out);

	for (size_t i = 0; i < s->batch.claim_count; i++) {
		const struct claim *c = &s->batch.claims[i];

		if (c->device.lo != device.lo || c->device.hi != device.hi)
			continue;
		if (!found)
			*out = (struct directory_view){ .last_seen_mono_ms = s->desk.mono };
		if (!c->released) {
			out->ref[c->transport] = c->ref;
			out->epoch[c->transport] = c->epoch;
		} else if (out->ref[c->transport] == c->ref) {
			out->ref[c->transport] = REF_NONE;
			out->epoch[c->transport] = 0;
		}
		found = 0;
		for (unsigned t = 0; t < DIRECTORY_TRANSPORTS; t++)
			found |= out->ref[t] != REF_NONE;
	}
	return found;
}

void
effect_sample(struct storage *s, const struct slice *parts, unsigned n)
{
	size_t len = 0;
	struct effect *e;
	uint8_t *at;

	for (unsigned i = 0; i < n; i++)
		len += parts[i].len;
	if ((e = effect_new(s, EFFECT_SAMPLE, len)) == NULL)
		return;
	at = bytes_of(e);
	for (unsigned i = 0; i < n; i++) {
		if (parts[i].len > 0)
			memcpy(at, parts[i].p, parts[i].len);
		at += parts[i].len;
	}
}

void
effect_tally(struct storage *s, int64_t tenant_pk, unsigned what, int64_t n)
{
	struct effect *e = effect_new(s, EFFECT_TALLY, 0);

	if (e == NULL)
		return;
	e->record = (uint16_t)what;
	e->pk = tenant_pk;
	e->number = n;
}

void
effect_count(struct storage *s, unsigned counter, uint64_t n)
{
	s->batch.counts[counter] += n;
}

void
effect_observe(struct storage *s, unsigned histogram, uint64_t us)
{
	effect_count(s, histogram + stat_bucket(us), 1);
	effect_count(s, histogram + STAT_HISTOGRAM_CELLS - 1, us);
}

void
effect_counts(struct storage *s)
{
	for (unsigned i = 0; i < STAT_CELLS; i++) {
		struct effect *e = s->batch.counts[i] == 0 ? NULL : effect_new(s, EFFECT_COUNT, 0);

		if (e == NULL)
			continue;
		e->record = (uint16_t)i;
		e->number = (int64_t)s->batch.counts[i];
	}
}

/* At the end of a record that has room for it: the cursor, and in what dashboards are told the place, too. */
static void
put_place(struct effect *e, const char *cursor, int64_t place)
{
	uint8_t *end = bytes_of(e) + e->len;

	if (e->record == MSG_publish) {
		end -= sizeof(place);
		memcpy(end, &place, sizeof(place));
	}
	memcpy(end - CURSOR_LEN, cursor, CURSOR_LEN);
}

/* The events have their places: records about them get their cursors. */
void
effect_cursors(struct storage *s)
{
	struct batch *b = &s->batch;
	struct buf *cursor = &s->desk.cursor;
	uint32_t made = 0;		/* the event that the cursor is of: several records of one follow each other */

	for (size_t at = 0; at < b->effects_len; ) {
		struct effect *e = (struct effect *)(effects_data(s->desk.shm) + at);

		at += e->size;
		if ((e->kind != EFFECT_POST && e->kind != EFFECT_PUBLISH) || e->state != ROOM_CURSOR)
			continue;
		if (e->event != made) {
			const struct db_event *about = &b->events[e->event - 1];

			buf_clear(cursor);
			cursor_put(&s->desk, cursor, CURSOR_EVENT, about->tenant_pk, about->seq);
			must(cursor->len == CURSOR_LEN);
			made = e->event;
		}
		put_place(e, cursor->data, b->events[e->event - 1].seq);
	}
}

/* Carrying out */

/* There is no room for a command: it did not reach its device, which is to be told like any such. */
static void
send_failed(struct storage *s, const struct effect *e)
{
	struct msg_device_send m;
	struct msg_device_send_failed failed;
	struct iovec iov;

	if (msg_unpack_device_send(&m, (const uint8_t *)(e + 1), e->len) == -1)
		return;
	failed = (struct msg_device_send_failed){ .ref = m.ref, .epoch = m.epoch };
	memcpy(failed.command, m.command, sizeof(failed.command));
	buf_clear(&s->desk.pack);
	msg_pack_device_send_failed(&s->desk.pack, &failed);
	iov = (struct iovec){ s->desk.pack.data, s->desk.pack.len };
	if (outbox_post(s->desk.shm, s->desk.w->slot, MSG_device_send_failed, 0, EFFECTS_OUTBOX_BYTES, &iov, 1) == -1)
		log_error("a command that could not be sent times out");
}

/* A publication that answers nobody. */
static bool
may_be_dropped(const struct effect *e)
{
	struct msg_publish m;

	return e->record == MSG_publish && msg_unpack_publish(&m, (const uint8_t *)(e + 1), e->len) == 0 &&
	    m.to != PUBLISH_ANSWER;
}

/* Nothing is lost in silence: dashboards are told of a gap, commands fail; nothing else should come to this. */
static void
not_posted(struct storage *s, const struct effect *e, unsigned slot)
{
	storage_count(s, MAIL_REFUSED, 1);
	if (may_be_dropped(e))
		outbox_drop(s->desk.shm, slot, s->desk.now);
	else if (e->record == MSG_device_send)
		send_failed(s, e);
	else
		log_error("a %s for slot %u is lost: too much waits for that process", msg_kind_name(e->record), slot);
}

static void
post_to(struct storage *s, const struct effect *e, unsigned slot, uint64_t tag)
{
	struct shm *shm = s->desk.shm;
	struct iovec iov = { (void *)(uintptr_t)(e + 1), e->len };
	bool waits = outbox_used(shm, slot) > 0;
	int64_t since;
	bool gap = outbox_dropped(shm, slot, &since) > 0, drops = (waits || gap) && may_be_dropped(e);

	/* After a first one that was dropped the rest goes, too, until the gap was told. */
	if ((gap && drops) || outbox_post(shm, slot, e->record, tag, drops ? PUBLISH_MOST : EFFECTS_OUTBOX_BYTES, &iov,
	    1) == -1)
		not_posted(s, e, slot);
	else
		storage_count(s, MAIL_POSTED, 1);
	if (!waits && outbox_used(shm, slot) > 0) {
		storage_count(s, MAIL_FULL, 1);
		worker_soon(s->desk.w);
	}
}

static void
post_all(struct storage *s, const struct effect *e, uint64_t slots, uint64_t tag)
{
	for (unsigned slot = 0; slots != 0; slot++, slots >>= 1)
		if (slots & 1) {
			post_to(s, e, slot, tag);
			STORAGE_POINT("batch: posted");
		}
}

static uint64_t
listeners(struct storage *s, struct effect *e)
{
	struct msg_publish m;

	must(msg_unpack_publish(&m, bytes_of(e), e->len) == 0);
	return publish_slots(&s->desk, &m);
}

/* *entry: what the records behind it have room for. */
static void
claim(struct storage *s, const struct effect *e, uint32_t entry[2])
{
	struct directory_view v = { .index = UINT32_MAX };

	if (directory_claim(s->desk.shm, e->device, e->pk, (enum directory_transport)e->state, e->ref, e->number,
	    s->desk.now, NULL, &v) == -1)
		log_error("the directory of devices is full: a device is not found");
	entry[0] = v.index;
	entry[1] = v.generation;
}

static void
carry_out_one(struct storage *s, struct effect *e, uint64_t tag, uint32_t entry[2])
{
	switch ((enum effect_kind)e->kind) {
	case EFFECT_POST:
		if (e->state == ROOM_ENTRY)
			memcpy(bytes_of(e) + e->len - 2 * sizeof(entry[0]), entry, 2 * sizeof(entry[0]));
		post_all(s, e, e->slots, tag);
		break;
	case EFFECT_PUBLISH:
		post_all(s, e, e->slots & listeners(s, e), tag);
		break;
	case EFFECT_PENDING_ADD:
		if (pending_add(s->desk.shm, e->id, e->device, e->number, (enum pending_state)e->state) == -1)
			command_no_room(s);
		break;
	case EFFECT_PENDING_REMOVE:
		pending_remove(s->desk.shm, e->id);
		break;
	case EFFECT_CLAIM:
		claim(s, e, entry);
		break;
	case EFFECT_RELEASE:
		directory_release(s->desk.shm, e->device, e->state, e->ref, NULL);
		break;
	case EFFECT_SAMPLE:
		sample_take(s, slice_bytes(bytes_of(e), e->len));
		break;
	case EFFECT_TALLY:
		tally_add(&s->tallies, e->pk, (enum tally_count)e->record, e->number, s->desk.mono);
		break;
	case EFFECT_COUNT:
		if (effects_count(s->desk.shm, tag))
			worker_count(s->desk.w, e->record, (uint64_t)e->number);
		break;
	}
	STORAGE_POINT("batch: carried out");
}

void
effect_carry_out(struct storage *s, uint64_t number, size_t len)
{
	uint8_t *data = effects_data(s->desk.shm);
	uint64_t tag = number << TAG_BITS;
	uint32_t entry[2] = { UINT32_MAX, 0 };

	for (size_t at = 0; at < len; ) {
		struct effect *e = (struct effect *)(data + at);

		carry_out_one(s, e, ++tag, entry);
		at += e->size;
	}
}

/* Receivers whose rings were full */

/* Those who miss something are told as soon as there is room for that. */
static void
tell_gap(struct storage *s, unsigned slot)
{
	int64_t since;
	struct msg_gap m = { .dropped = outbox_dropped(s->desk.shm, slot, &since) };
	struct iovec iov;

	if (m.dropped == 0 || outbox_used(s->desk.shm, slot) > 0)
		return;
	m.since = since;
	buf_clear(&s->desk.pack);
	msg_pack_gap(&s->desk.pack, &m);
	iov = (struct iovec){ s->desk.pack.data, s->desk.pack.len };
	if (outbox_post(s->desk.shm, slot, MSG_gap, 0, EFFECTS_OUTBOX_BYTES, &iov, 1) == 0)
		outbox_told(s->desk.shm, slot);
}

void
effect_flush(struct storage *s)
{
	if (outbox_flush(s->desk.shm))
		worker_soon(s->desk.w);
	for (unsigned slot = 0; slot < shm_sizes(s->desk.shm)->slots; slot++)
		tell_gap(s, slot);
}
