/*
 * Effects: see effects.h.  An area per slot that has one:
 *
 *	+--------+-------------+-------------------+--------------------------+
 *	| head   | data        | kept mail         | outbox of each receiver  |
 *	+--------+-------------+-------------------+--------------------------+
 *
 * An outbox is a ring: its positions grow for ever, the offset is position % size.  One that is
 * empty begins again at its first page.
 */
#include <errno.h>
#include <string.h>

#include "base/must.h"

#include "shm/effects.h"
#include "shm/mailbox.h"
#include "shm/segment.h"

struct effects_outbox {
	_Atomic uint64_t head, tail;
	_Atomic uint64_t dropped;
	_Atomic int64_t since_ms;
};

struct effects_area {
	_Atomic uint64_t newest;	/* number of the newest record that was put */
	_Atomic uint64_t stands;	/* number of the record that stands; 0: none */
	_Atomic uint64_t counted;	/* tag of the newest effect that was counted */
	struct effects_record record;	/* written before `stands` */
	_Atomic uint64_t kept_head, kept_tail;
	struct effects_outbox outbox[SHM_MAX_SLOTS];
};

_Static_assert(sizeof(struct effects_area) <= SEGMENT_PAGE, "the head is one page");

/* In an outbox, aligned to 16 bytes, so that it never lies around the end; its bytes follow and may. */
struct outbox_record {
	uint32_t len;
	uint16_t kind;
	uint16_t unused;
	uint64_t tag;
};

_Static_assert(sizeof(struct outbox_record) == 16 && EFFECTS_OUTBOX_BYTES % 16 == 0, "layout");

static size_t
area_size(const struct shm_sizes *sizes)
{
	return SEGMENT_PAGE + EFFECTS_BYTES + EFFECTS_KEPT_BYTES + (size_t)sizes->slots * EFFECTS_OUTBOX_BYTES;
}

static size_t
effects_size(const struct shm_sizes *sizes)
{
	size_t n = 0;

	for (unsigned i = 0; i < sizes->slots; i++)
		if (sizes->effects & (uint64_t)1 << i)
			n += area_size(sizes);
	return n > 0 ? n : SEGMENT_PAGE;
}

static void
effects_attach(struct shm *shm, uint8_t *at)
{
	const struct shm_sizes *sizes = &shm->segment->sizes;

	for (unsigned i = 0; i < sizes->slots; i++) {
		if ((sizes->effects & (uint64_t)1 << i) == 0)
			continue;
		shm->effects[i] = (struct effects_area *)at;
		at += area_size(sizes);
	}
}

const struct segment_part_ops effects_part = {
	.name = "effects",
	.version = 1,
	.size = effects_size,
	.attach = effects_attach,
};

bool
effects_has(const struct shm *shm)
{
	return shm->self_slot < shm->segment->sizes.slots && shm->effects[shm->self_slot] != NULL;
}

static struct effects_area *
area_of(const struct shm *shm)
{
	must(effects_has(shm));
	return shm->effects[shm->self_slot];
}

uint8_t *
effects_data(struct shm *shm)
{
	return (uint8_t *)area_of(shm) + SEGMENT_PAGE;
}

uint64_t
effects_put(struct shm *shm, const struct effects_record *r)
{
	struct effects_area *a = area_of(shm);
	uint64_t number = shm_get(&a->newest) + 1;

	must(shm_get(&a->stands) == 0 && r->len <= EFFECTS_BYTES && r->kept_tail <= EFFECTS_KEPT_BYTES);
	a->record = *r;
	a->record.number = number;
	SHM_TEST_POINT("effects: written");
	shm_put(&a->newest, number);
	shm_put(&a->stands, number);
	SHM_TEST_POINT("effects: put");
	return number;
}

bool
effects_get(struct shm *shm, struct effects_record *out)
{
	struct effects_area *a = area_of(shm);

	if (shm_get(&a->stands) == 0)
		return false;
	*out = a->record;
	return true;
}

void
effects_clear(struct shm *shm)
{
	SHM_TEST_POINT("effects: before clear");
	shm_put(&area_of(shm)->stands, 0);
	SHM_TEST_POINT("effects: cleared");
}

bool
effects_count(struct shm *shm, uint64_t tag)
{
	struct effects_area *a = area_of(shm);

	if (shm_get(&a->counted) >= tag)
		return false;
	shm_put(&a->counted, tag);
	return true;
}

uint8_t *
effects_kept(struct shm *shm)
{
	return effects_data(shm) + EFFECTS_BYTES;
}

void
effects_kept_range(struct shm *shm, uint64_t *head, uint64_t *tail)
{
	struct effects_area *a = area_of(shm);

	*head = shm_get(&a->kept_head);
	*tail = shm_get(&a->kept_tail);
}

void
effects_keep(struct shm *shm, uint64_t head, uint64_t tail)
{
	struct effects_area *a = area_of(shm);

	must(head <= tail && tail <= EFFECTS_KEPT_BYTES);
	shm_put(&a->kept_head, head);
	shm_put(&a->kept_tail, tail);
}

/* Outboxes */

static uint8_t *
outbox_bytes(const struct shm *shm, unsigned to)
{
	return (uint8_t *)area_of(shm) + SEGMENT_PAGE + EFFECTS_BYTES + EFFECTS_KEPT_BYTES +
	    (size_t)to * EFFECTS_OUTBOX_BYTES;
}

static struct effects_outbox *
outbox_of(const struct shm *shm, unsigned to)
{
	must(to < shm->segment->sizes.slots);
	return &area_of(shm)->outbox[to];
}

size_t
outbox_used(struct shm *shm, unsigned to)
{
	struct effects_outbox *o = outbox_of(shm, to);
	uint64_t head = shm_get(&o->head), tail = shm_get(&o->tail);

	return tail > head ? (size_t)(tail - head) : 0;
}

static size_t
room_of(uint32_t len)
{
	return sizeof(struct outbox_record) + (((size_t)len + 15) & ~(size_t)15);
}

/* Where that position is, and how much of len lies there; the rest is at the beginning. */
static uint8_t *
place_of(const struct shm *shm, unsigned to, uint64_t position, size_t len, size_t *here)
{
	size_t at = (size_t)(position % EFFECTS_OUTBOX_BYTES);

	*here = len < EFFECTS_OUTBOX_BYTES - at ? len : EFFECTS_OUTBOX_BYTES - at;
	return outbox_bytes(shm, to) + at;
}

static void
copy_in(struct shm *shm, unsigned to, uint64_t position, const void *from, size_t len)
{
	size_t here;
	uint8_t *at = place_of(shm, to, position, len, &here);

	if (len == 0)
		return;
	memcpy(at, from, here);
	memcpy(outbox_bytes(shm, to), (const uint8_t *)from + here, len - here);
}

/* Nothing waits, also when it is left in the middle: head is not before tail then. */
static void
restart(struct effects_outbox *o)
{
	uint64_t head = shm_get(&o->head), size = EFFECTS_OUTBOX_BYTES, fresh = (head + size - 1) / size * size;

	shm_put(&o->head, fresh);
	SHM_TEST_POINT("outbox: in restart");
	shm_put(&o->tail, fresh);
}

/* Behind what waits.  It is there when tail has moved. */
static int
outbox_add(struct shm *shm, unsigned to, size_t most, const struct outbox_record *rec, const struct iovec *iov,
    int iovcnt)
{
	struct effects_outbox *o = outbox_of(shm, to);
	uint64_t tail, at;

	if (outbox_used(shm, to) == 0)
		restart(o);
	tail = shm_get(&o->tail);
	at = tail + sizeof(*rec);
	if (outbox_used(shm, to) + room_of(rec->len) > (most < EFFECTS_OUTBOX_BYTES ? most : EFFECTS_OUTBOX_BYTES)) {
		errno = EAGAIN;
		return -1;
	}
	copy_in(shm, to, tail, rec, sizeof(*rec));
	for (int i = 0; i < iovcnt; at += iov[i++].iov_len)
		copy_in(shm, to, at, iov[i].iov_base, iov[i].iov_len);
	SHM_TEST_POINT("outbox: copied");
	shm_put(&o->tail, tail + room_of(rec->len));
	SHM_TEST_POINT("outbox: added");
	return 0;
}

static size_t
longest(const struct shm *shm, unsigned to)
{
	const struct shm_sizes *sizes = &shm->segment->sizes;

	return (sizes->mailbox_bytes_of[to] != 0 ? sizes->mailbox_bytes_of[to] : sizes->mailbox_bytes) / 4;
}

int
outbox_post(struct shm *shm, unsigned to, uint16_t kind, uint64_t tag, size_t most, const struct iovec *iov, int iovcnt)
{
	struct outbox_record rec = { .kind = kind, .tag = tag };
	size_t len = 0;

	for (int i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	if (len > longest(shm, to)) {
		errno = EMSGSIZE;
		return -1;
	}
	if (outbox_used(shm, to) == 0) {
		if (mailbox_post_tagged(shm, to, kind, tag, iov, iovcnt) == 0)
			return 0;
		if (errno != EAGAIN)
			return -1;
	}
	rec.len = (uint32_t)len;
	return outbox_add(shm, to, most, &rec, iov, iovcnt);
}

/* What waits for one receiver, until its ring is full again: true, or nothing waits any more. */
static bool
flush(struct shm *shm, unsigned to)
{
	struct effects_outbox *o = outbox_of(shm, to);

	while (outbox_used(shm, to) > 0) {
		uint64_t head = shm_get(&o->head);
		struct outbox_record rec;
		struct iovec iov[2];
		size_t here;

		memcpy(&rec, place_of(shm, to, head, sizeof(rec), &here), sizeof(rec));
		iov[0].iov_base = place_of(shm, to, head + sizeof(rec), rec.len, &here);
		iov[0].iov_len = here;
		iov[1].iov_base = outbox_bytes(shm, to);
		iov[1].iov_len = rec.len - here;
		if (mailbox_post_tagged(shm, to, rec.kind, rec.tag, iov, 2) == -1 && errno == EAGAIN)
			return true;
		SHM_TEST_POINT("outbox: posted");
		shm_put(&o->head, head + room_of(rec.len));
	}
	return false;
}

bool
outbox_flush(struct shm *shm)
{
	bool more = false;

	for (unsigned to = 0; to < shm->segment->sizes.slots; to++)
		if (flush(shm, to))
			more = true;
	return more;
}

void
outbox_drop(struct shm *shm, unsigned to, int64_t now_ms)
{
	struct effects_outbox *o = outbox_of(shm, to);

	if (shm_get(&o->dropped) == 0)
		shm_put(&o->since_ms, now_ms);
	shm_put(&o->dropped, shm_get(&o->dropped) + 1);
}

uint64_t
outbox_dropped(struct shm *shm, unsigned to, int64_t *since_ms)
{
	struct effects_outbox *o = outbox_of(shm, to);

	*since_ms = shm_get(&o->since_ms);
	return shm_get(&o->dropped);
}

void
outbox_told(struct shm *shm, unsigned to)
{
	shm_put(&outbox_of(shm, to)->dropped, 0);
}
