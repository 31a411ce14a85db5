/*
 * Mailboxes: how processes of one instance speak to each other.  Each slot
 * has a ring; any process writes, the slot's process reads.  Neither side waits
 * for the other: a full ring is told to the writer, an empty one lets the
 * reader sleep on an eventfd.
 *
 * Posting (any process):		Reading (the slot's process):
 *  1. lock				 1. read up to tail, work
 *  2. copy the record behind tail	 2. consume: put head
 *  3. put tail (the record exists now)	 3. put sleeping
 *  4. unlock				 4. look at tail: more? then not sleeping, back to 1
 *  5. look at sleeping; if so ring,	 5. block on the eventfd
 *     then take back that sleep		 6. not sleeping, empty the eventfd, back to 1
 *
 * Steps 3 and 5 of the writer and 3 and 4 of the reader are sequentially
 * consistent: one of them sees the other.  The sleep is taken back after the
 * ring and by its number, so that a writer killed between the two, or delayed
 * into the next sleep, costs one ring too many and never a lost one.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/must.h"

#include "shm/mailbox.h"
#include "shm/segment.h"

/*
 * An empty ring that has come this far begins again at its first page: light traffic touches no
 * more than that.
 */
#define RESTART_BYTES	16384
#define IDLE_BYTES	65536		/* so much that can wait makes a reader sleep no longer */

struct mailbox_ring {
	/* writers */
	struct shm_lock lock;
	uint32_t unused;
	/* Position behind the last record: it grows for ever, the offset is position % size. */
	_Atomic uint64_t tail;
	_Atomic uint64_t rings;
	/* reader */
	_Atomic uint64_t head __attribute__((aligned(SEGMENT_LINE)));	/* consumed up to here */
	_Atomic uint64_t sleeping;	/* number of the sleep << 1 | it sleeps */
	/* master */
	_Atomic uint64_t death_head __attribute__((aligned(SEGMENT_LINE)));
	_Atomic uint32_t deaths;	/* of readers that had consumed up to death_head */
};

_Static_assert(offsetof(struct mailbox_ring, head) == 64, "layout");
_Static_assert(sizeof(struct mailbox_ring) == 192, "layout");

/*
 * In the ring, aligned to 8 bytes and never wrapped around its end:
 *
 *	 0      4      6     7     8             10           16         24     32
 *	+------+------+-----+-----+-------------+------------+----------+------+------------------+
 *	| len  | kind | from| pad | from's gen. | idly, 0, 0 | posted   | tag  | data, to 8 bytes |
 *	+------+------+-----+-----+-------------+------------+----------+------+------------------+
 *
 * Padding up to the end of the ring has pad = 1, and its whole length in len; only its first 8
 * bytes are there for sure.
 */
struct record {
	uint32_t len;
	uint16_t kind;
	uint8_t from;
	uint8_t pad;
	uint16_t from_generation;
	uint16_t idly;			/* 1: by mailbox_post_idly() */
	uint16_t unused[2];
	int64_t posted_mono_us;
	uint64_t tag;
};

_Static_assert(
    sizeof(struct record) == 32 && offsetof(struct record, from_generation) == 8, "layout");

static size_t
ring_bytes(const struct shm_sizes *sizes, unsigned slot)
{
	return sizes->mailbox_bytes_of[slot] != 0 ? sizes->mailbox_bytes_of[slot]
						  : sizes->mailbox_bytes;
}

static size_t
rings_len(const struct shm_sizes *sizes)
{
	size_t n = sizes->slots * sizeof(struct mailbox_ring);

	return (n + SEGMENT_PAGE - 1) & ~(size_t)(SEGMENT_PAGE - 1);
}

static size_t
mailbox_size(const struct shm_sizes *sizes)
{
	size_t n = rings_len(sizes);
	unsigned i;

	for (i = 0; i < sizes->slots; i++)
		n += ring_bytes(sizes, i);
	return n;
}

static void
mailbox_attach(struct shm *shm, uint8_t *at)
{
	const struct shm_sizes *sizes = &shm->segment->sizes;
	unsigned i;

	shm->rings = (struct mailbox_ring *)at;
	at += rings_len(sizes);
	for (i = 0; i < sizes->slots; i++) {
		shm->ring_data[i] = at;
		at += ring_bytes(sizes, i);
	}
}

/*
 * A writer that died had published its record or had not: nothing to do.  A
 * reader that died while it began the ring again (mailbox_restart) had moved
 * head alone.
 */
static void
mailbox_repair(struct shm *shm, void *what, unsigned slot)
{
	struct mailbox_ring *ring = what;
	uint64_t head = shm_get(&ring->head);

	(void)shm;
	(void)slot;
	if (head > shm_get(&ring->tail))
		shm_put(&ring->tail, head);
}

static void
note_death(struct mailbox_ring *ring)
{
	uint64_t head = shm_get(&ring->head);

	shm_put(&ring->sleeping, shm_get(&ring->sleeping) & ~(uint64_t)1);
	if (head == shm_get(&ring->tail))
		return;			/* it had nothing to read that could have killed it */
	if (shm_get(&ring->death_head) != head) {
		shm_put(&ring->deaths, 0);
		shm_put(&ring->death_head, head);
	}
	shm_put(&ring->deaths, shm_get(&ring->deaths) + 1);
}

static void
mailbox_died(struct shm *shm, unsigned slot, uint16_t generation)
{
	unsigned i;

	for (i = 0; i < shm->segment->sizes.slots; i++) {
		struct lock_guard guard = { mailbox_repair, &shm->rings[i], i };

		lock_break(shm, &shm->rings[i].lock, slot, generation, &guard);
	}
	note_death(&shm->rings[slot]);
}

const struct segment_part_ops mailbox_part = {
	.name = "mailboxes",
	.version = 2,
	.size = mailbox_size,
	.attach = mailbox_attach,
	.died = mailbox_died,
};

static struct mailbox_ring *
ring_of(const struct shm *shm, unsigned slot)
{
	must(slot < shm->segment->sizes.slots);
	return &shm->rings[slot];
}

void
mailbox_discard(struct shm *shm, unsigned slot)
{
	struct mailbox_ring *ring = ring_of(shm, slot);

	shm_put(&ring->head, shm_get(&ring->tail));
	shm_put(&ring->deaths, 0);
}

static void
ring_bell(struct shm *shm, unsigned slot)
{
	struct mailbox_ring *ring = &shm->rings[slot];
	uint64_t sleep = atomic_load_explicit(&ring->sleeping, memory_order_seq_cst), one = 1;

	if ((sleep & 1) == 0)
		return;
	/* EAGAIN means that it has been rung 2^64 - 2 times: it will wake. */
	if (write(shm->bell[slot], &one, sizeof(one)) == -1)
		must(errno == EAGAIN || errno == EINTR);
	SHM_TEST_POINT("mailbox: rung");
	atomic_fetch_add_explicit(&ring->rings, 1, memory_order_relaxed);
	atomic_compare_exchange_strong_explicit(&ring->sleeping, &sleep, sleep & ~(uint64_t)1,
	    memory_order_acq_rel, memory_order_relaxed);
}

void
mailbox_ring_sleepers(struct shm *shm)
{
	unsigned i;

	for (i = 0; i < shm->segment->sizes.slots; i++) {
		if (mailbox_used(shm, i) != 0)
			ring_bell(shm, i);
	}
}

static void
copy_record(const struct shm *shm, uint8_t *at, uint16_t kind, bool idly, uint64_t tag, size_t len, int64_t now_us,
    const struct iovec *iov, int iovcnt)
{
	struct record *rec = (struct record *)at;
	int i;

	memset(rec, 0, sizeof(*rec));
	rec->len = (uint32_t)len;
	rec->kind = kind;
	rec->idly = idly;
	rec->from = (uint8_t)shm->self_slot;
	rec->from_generation = shm->self_generation;
	rec->posted_mono_us = now_us;
	rec->tag = tag;
	at += sizeof(*rec);
	for (i = 0; i < iovcnt; i++) {
		if (iov[i].iov_len == 0)
			continue;
		memcpy(at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
		SHM_TEST_POINT("mailbox: copying");
	}
}

static void
put_pad(uint8_t *at, size_t len)
{
	struct record pad = { .len = (uint32_t)len, .pad = 1 };

	memcpy(at, &pad, 8);
}

/* Into the ring; the bell is the caller's. */
static int
put(struct shm *shm, unsigned to, uint16_t kind, bool idly, uint64_t tag, const struct iovec *iov, int iovcnt)
{
	struct mailbox_ring *ring = ring_of(shm, to);
	struct lock_guard guard = { mailbox_repair, ring, to };
	size_t size = ring_bytes(&shm->segment->sizes, to), len = 0, need, pad, to_end;
	int64_t now_us = clock_mono_us();
	uint8_t *data = shm->ring_data[to];
	uint64_t tail;
	int i;

	for (i = 0; i < iovcnt; i++) {
		if (iov[i].iov_len > size / 4 - len) {
			errno = EMSGSIZE;
			return -1;
		}
		len += iov[i].iov_len;
	}
	need = sizeof(struct record) + ((len + 7) & ~(size_t)7);

	lock_take(shm, &ring->lock, &guard);
	SHM_TEST_POINT("mailbox: locked");
	tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	to_end = size - (tail & (size - 1));
	pad = need > to_end ? to_end : 0;
	/*
	 * Head got here pairs with its put in mailbox_consume(): the reader is done with the
	 * bytes we overwrite.
	 */
	if (need + pad + (tail - shm_get(&ring->head)) > (idly ? size / 2 : size)) {
		lock_drop(shm, &ring->lock);
		errno = EAGAIN;
		return -1;
	}
	if (pad != 0) {
		put_pad(data + (tail & (size - 1)), pad);
		tail += pad;
	}
	copy_record(shm, data + (tail & (size - 1)), kind, idly, tag, len, now_us, iov,
	    iovcnt);
	SHM_TEST_POINT("mailbox: before publish");
	/* Pairs with the reader's loads of tail: what was copied is seen with it. */
	atomic_store_explicit(&ring->tail, tail + need, memory_order_seq_cst);
	SHM_TEST_POINT("mailbox: published");
	lock_drop(shm, &ring->lock);
	SHM_TEST_POINT("mailbox: before ring");
	return 0;
}

int
mailbox_post(struct shm *shm, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt)
{
	if (put(shm, to, kind, false, 0, iov, iovcnt) == -1)
		return -1;
	ring_bell(shm, to);
	return 0;
}

int
mailbox_post_tagged(struct shm *shm, unsigned to, uint16_t kind, uint64_t tag, const struct iovec *iov, int iovcnt)
{
	if (put(shm, to, kind, false, tag, iov, iovcnt) == -1)
		return -1;
	ring_bell(shm, to);
	return 0;
}

int
mailbox_post_idly(struct shm *shm, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt)
{
	if (put(shm, to, kind, true, 0, iov, iovcnt) == -1)
		return -1;
	if (mailbox_used(shm, to) > IDLE_BYTES)
		ring_bell(shm, to);
	return 0;
}

void
mailbox_reader_init(struct mailbox_reader *r, struct shm *shm, unsigned slot)
{
	r->shm = shm;
	r->slot = slot;
	r->cursor = shm_get(&ring_of(shm, slot)->head);
	r->tail = r->cursor;
}

int
mailbox_next(struct mailbox_reader *r, struct mail *out)
{
	size_t size = ring_bytes(&r->shm->segment->sizes, r->slot);
	const struct record *rec;
	uint64_t left;

	for (;;) {
		if (r->cursor >= r->tail)
			r->tail = shm_get(&r->shm->rings[r->slot].tail);
		if (r->cursor >= r->tail)
			return 0;
		rec =
		    (const struct record *)(r->shm->ring_data[r->slot] + (r->cursor & (size - 1)));
		left = r->tail - r->cursor;
		if (!rec->pad)
			break;
		must(rec->len <= left);
		r->cursor += rec->len;
	}
	must(sizeof(*rec) + rec->len <= left);
	out->kind = rec->kind;
	out->from = rec->from;
	out->from_generation = rec->from_generation;
	out->idly = rec->idly != 0;
	out->len = rec->len;
	out->posted_mono_us = rec->posted_mono_us;
	out->tag = rec->tag;
	out->data = (const uint8_t *)(rec + 1);
	r->cursor += sizeof(*rec) + ((rec->len + 7u) & ~7u);
	return 1;
}

void
mailbox_consume(struct mailbox_reader *r)
{
	shm_put(&r->shm->rings[r->slot].head, r->cursor);
}

void
mailbox_consume_to(struct mailbox_reader *r, uint64_t end)
{
	if (shm_get(&r->shm->rings[r->slot].head) >= end)
		return;
	must(end <= shm_get(&r->shm->rings[r->slot].tail));
	r->cursor = r->tail = end;
	mailbox_consume(r);
}

unsigned
mailbox_deaths_here(const struct mailbox_reader *r)
{
	const struct mailbox_ring *ring = &r->shm->rings[r->slot];

	return shm_get(&ring->death_head) == shm_get(&ring->head) ? shm_get(&ring->deaths) : 0;
}

/*
 * Nothing is in the ring: the next record goes to its first page again.  Both
 * positions move to the next multiple of the size, head first: between the two stores nobody
 * else has the lock, and when we die there, the repair moves tail too.
 */
static void
mailbox_restart(struct mailbox_reader *r)
{
	struct mailbox_ring *ring = &r->shm->rings[r->slot];
	size_t size = ring_bytes(&r->shm->segment->sizes, r->slot);
	uint64_t fresh;

	if ((r->cursor & (size - 1)) < RESTART_BYTES || shm_get(&ring->head) != r->cursor ||
	    shm_get(&ring->tail) != r->cursor || !lock_try(r->shm, &ring->lock))
		return;
	if (shm_get(&ring->tail) == r->cursor) {
		fresh = (r->cursor + size) & ~(uint64_t)(size - 1);
		shm_put(&ring->head, fresh);
		SHM_TEST_POINT("mailbox: in restart");
		shm_put(&ring->tail, fresh);
		r->cursor = r->tail = fresh;
	}
	lock_drop(r->shm, &ring->lock);
}

int
mailbox_sleep(struct mailbox_reader *r)
{
	struct mailbox_ring *ring = &r->shm->rings[r->slot];
	uint64_t sleep = ((shm_get(&ring->sleeping) >> 1) + 1) << 1 | 1;

	mailbox_restart(r);
	SHM_TEST_POINT("mailbox: before sleeping");
	atomic_store_explicit(&ring->sleeping, sleep, memory_order_seq_cst);
	SHM_TEST_POINT("mailbox: sleeping");
	if (atomic_load_explicit(&ring->tail, memory_order_seq_cst) == r->cursor)
		return 1;
	shm_put(&ring->sleeping, sleep & ~(uint64_t)1);
	return 0;
}

void
mailbox_wake(struct mailbox_reader *r)
{
	struct mailbox_ring *ring = &r->shm->rings[r->slot];
	uint64_t count;

	shm_put(&ring->sleeping, shm_get(&ring->sleeping) & ~(uint64_t)1);
	if (read(r->shm->bell[r->slot], &count, sizeof(count)) == -1)
		must(errno == EAGAIN || errno == EINTR);
}

int
mailbox_fd(const struct shm *shm, unsigned slot)
{
	must(slot < shm->segment->sizes.slots);
	return shm->bell[slot];
}

size_t
mailbox_used(const struct shm *shm, unsigned slot)
{
	const struct mailbox_ring *ring = ring_of(shm, slot);
	uint64_t head = shm_get(&ring->head), tail = shm_get(&ring->tail);

	/* The two are not read at one moment. */
	return tail > head ? (size_t)(tail - head) : 0;
}

uint64_t
mailbox_rings(const struct shm *shm, unsigned slot)
{
	return atomic_load_explicit(&ring_of(shm, slot)->rings, memory_order_relaxed);
}
