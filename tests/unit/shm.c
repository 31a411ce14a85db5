/*
 * Unit tests of shm/, in one process: what each call answers, sizes and limits, and how much
 * memory is touched.  What happens when processes die is in tests/shm/.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "shm/buckets.h"
#include "shm/directory.h"
#include "shm/holdings.h"
#include "shm/mailbox.h"
#include "shm/pending.h"
#include "shm/ref.h"
#include "shm/segment.h"
#include "shm/stats.h"
#include "shm/topics.h"

#define RING	4096u
#define BIG_RING (1u << 18)

static struct shm_sizes
small(void)
{
	return (struct shm_sizes){ .slots = 4, .devices = 1000, .commands = 1000, .topics = 1000, .limits = 1000,
	    .mailbox_bytes = RING, .counters = 3 };
}

static int
setup(void **state)
{
	struct shm_sizes sizes = small();

	*state = shm_create(&sizes);
	return *state == NULL;
}

static int
teardown(void **state)
{
	shm_free(*state);
	return 0;
}

static struct hash128
key(uint64_t i)
{
	return (struct hash128){ i * 0x9e3779b97f4a7c15u, i ^ 0x5555 };
}

/* Bytes of the segment that have memory behind them. */
static size_t
touched(struct shm *shm, size_t offset, size_t len)
{
	size_t pages = (len + SEGMENT_PAGE - 1) / SEGMENT_PAGE, n = 0;
	off_t at = (off_t)offset, end = (off_t)(offset + pages * SEGMENT_PAGE), hole;

	while (at < end && (at = lseek(shm_fd(shm), at, SEEK_DATA)) != -1 && at < end) {
		hole = lseek(shm_fd(shm), at, SEEK_HOLE);
		if (hole > end)
			hole = end;
		n += (size_t)(hole - at);
		at = hole;
	}
	return n;
}

static size_t
touched_part(struct shm *shm, enum segment_part_id part)
{
	return touched(shm, shm->segment->part[part].offset, shm->segment->part[part].len);
}

static void
refs_keep_their_fields(void **state)
{
	uint64_t ref = ref_make(63, 0xabcd, REF_INDEX_MAX - 1, 0xfffff);

	(void)state;
	assert_int_equal(ref_slot(ref), 63);
	assert_int_equal(ref_slot_gen(ref), 0xabcd);
	assert_int_equal(ref_index(ref), REF_INDEX_MAX - 1);
	assert_int_equal(ref_gen(ref), 0xfffff);
	/* The smallest one is not REF_NONE. */
	assert_int_not_equal(ref_make(0, 1, 0, 1), REF_NONE);
	/* Generations wrap within their field. */
	assert_int_equal(ref_make(1, 0x10002, 3, 0x100004), ref_make(1, 2, 3, 4));
}

static void
wrong_sizes_are_refused(void **state)
{
	struct shm_sizes sizes;

	(void)state;
	sizes = small();
	sizes.slots = SHM_MAX_SLOTS + 1;
	assert_null(shm_create(&sizes));
	assert_int_equal(errno, EINVAL);
	sizes = small();
	sizes.mailbox_bytes = 5000;
	assert_null(shm_create(&sizes));
	sizes = small();
	sizes.mailbox_bytes_of[2] = 100;
	assert_null(shm_create(&sizes));
	sizes = small();
	sizes.topics = 0;
	assert_null(shm_create(&sizes));
	sizes = small();
	sizes.limits = 0;
	assert_null(shm_create(&sizes));
}

static void
parts_lie_behind_each_other(void **state)
{
	struct shm *shm = *state;
	const struct segment_part *part = shm->segment->part;
	int i;

	assert_memory_equal(shm->segment->magic, "belayshm", 8);
	for (i = 0; i < SEGMENT_PARTS; i++) {
		assert_int_equal(part[i].offset % SEGMENT_PAGE, 0);
		assert_int_equal(part[i].offset,
		    i == 0 ? SEGMENT_PAGE : part[i - 1].offset + part[i - 1].len);
		assert_true(part[i].version >= 1);
	}
	assert_int_equal(part[SEGMENT_PARTS - 1].offset + part[SEGMENT_PARTS - 1].len,
	    shm->segment->len);
	assert_string_equal(part[PART_DIRECTORY].name, "directory");
}

static void
slots_live_and_die(void **state)
{
	struct shm *shm = *state;
	struct slot_view v;
	uint16_t generation;

	slot_get(shm, 2, &v);
	assert_int_equal(v.state, SLOT_FREE);
	assert_int_equal(slot_find(shm, 5, 1), -1);
	assert_int_equal(shm_self(shm), SHM_SLOT_MASTER);

	generation = slot_take(shm, 2, 5, 1);
	assert_int_equal(generation, 1);
	slot_set_pid(shm, 2, 12345);
	slot_set_state(shm, 2, SLOT_READY);
	slot_heartbeat(shm, 2, 99);
	slot_get(shm, 2, &v);
	assert_int_equal(v.pid, 12345);
	assert_int_equal(v.role, 5);
	assert_int_equal(v.nth, 1);
	assert_int_equal(v.generation, 1);
	assert_int_equal(v.state, SLOT_READY);
	assert_int_equal(v.heartbeat_mono_ms, 99);
	assert_int_equal(slot_find(shm, 5, 1), 2);
	assert_int_equal(slot_find(shm, 5, 2), -1);
	assert_true(slot_is_live(shm, 2, 1));
	assert_false(slot_is_live(shm, 2, 2));
	assert_false(slot_is_live(shm, 1, 0));
	assert_false(slot_is_live(shm, 200, 1));

	slot_died(shm, 2);
	slot_died(shm, 2);
	assert_int_equal(slot_deaths(shm), 1);
	assert_false(slot_is_live(shm, 2, 1));
	slot_get(shm, 2, &v);
	assert_int_equal(v.pid, 0);
	assert_int_equal(v.state, SLOT_DEAD);
	/* What is sent to it meanwhile waits for the successor. */
	assert_int_equal(slot_find(shm, 5, 1), 2);

	assert_int_equal(slot_take(shm, 2, 5, 1), 2);
	shm_set_self(shm, 2);
	assert_int_equal(shm_self(shm), 2);
	assert_int_equal(shm_self_generation(shm), 2);
	slot_died(shm, 2);
	slot_free(shm, 2);
	assert_int_equal(slot_find(shm, 5, 1), -1);
}

static void
a_draining_slot_is_found_last(void **state)
{
	struct shm *shm = *state;

	slot_take(shm, 0, 1, 0);
	slot_set_state(shm, 0, SLOT_DRAINING);
	assert_int_equal(slot_find(shm, 1, 0), 0);
	slot_take(shm, 3, 1, 0);
	assert_int_equal(slot_find(shm, 1, 0), 3);
}

static void
generations_skip_zero(void **state)
{
	struct shm *shm = *state;
	uint32_t i;

	for (i = 0; i < 65535; i++) {
		assert_int_equal(slot_take(shm, 1, 0, 0), i + 1);
		slot_died(shm, 1);
	}
	assert_int_equal(slot_take(shm, 1, 0, 0), 1);
}

static int
post(struct shm *shm, unsigned to, uint16_t kind, const void *p, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)p, len };

	return mailbox_post(shm, to, kind, &iov, 1);
}

static int
readable(struct shm *shm, unsigned slot)
{
	struct pollfd pfd = { .fd = mailbox_fd(shm, slot), .events = POLLIN };

	return poll(&pfd, 1, 0) == 1;
}

static void
mail_arrives_joined(void **state)
{
	struct shm *shm = *state;
	struct iovec iov[4] = { { "ab", 2 }, { NULL, 0 }, { "cde", 3 }, { "f", 1 } };
	struct mailbox_reader r;
	struct mail mail;

	slot_take(shm, 1, 0, 0);
	mailbox_reader_init(&r, shm, 0);
	assert_int_equal(mailbox_next(&r, &mail), 0);
	assert_int_equal(post(shm, 0, 9, NULL, 0), 0);
	shm_set_self(shm, 1);
	assert_int_equal(mailbox_post(shm, 0, 10, iov, 4), 0);

	assert_int_equal(mailbox_next(&r, &mail), 1);
	assert_int_equal(mail.kind, 9);
	assert_int_equal(mail.len, 0);
	assert_int_equal(mail.from, SHM_SLOT_MASTER);
	assert_int_equal(mailbox_next(&r, &mail), 1);
	assert_int_equal(mail.kind, 10);
	assert_int_equal(mail.from, 1);
	assert_int_equal(mail.from_generation, 1);
	assert_int_equal(mail.len, 6);
	assert_memory_equal(mail.data, "abcdef", 6);
	assert_true(mail.posted_mono_us > 0);
	assert_int_equal((uintptr_t)mail.data % 8, 0);
	assert_int_equal(mailbox_next(&r, &mail), 0);
}

/* A writer knows by positions alone what of its own the reader has done: also over an empty ring that begins anew. */
static void
a_writer_sees_what_is_done(void **state)
{
	struct shm *shm = *state;
	char data[100] = "";
	struct iovec iov = { data, sizeof(data) };
	struct mailbox_reader r, successor;
	struct mail mail;
	uint64_t at, next, before = 0;

	mailbox_reader_init(&r, shm, 0);
	for (unsigned round = 0; round < 3000; round++) {
		assert_int_equal(mailbox_post_at(shm, 0, 1, &iov, 1, &at), 0);
		assert_true(at > before);
		assert_int_equal(mailbox_post_at(shm, 0, 2, &iov, 1, &next), 0);
		assert_true(next > at && mailbox_consumed(shm, 0) < at);
		assert_int_equal(mailbox_next(&r, &mail), 1);
		/* read is not done, whoever reads it again */
		mailbox_reader_init(&successor, shm, 0);
		assert_true(mailbox_consumed(shm, 0) < at);
		mailbox_consume(&r);
		assert_true(mailbox_consumed(shm, 0) >= at && mailbox_consumed(shm, 0) < next);
		assert_int_equal(mailbox_next(&r, &mail), 1);
		mailbox_consume(&r);
		assert_true(mailbox_consumed(shm, 0) >= next);
		if (round % 3 == 0) {
			assert_int_equal(mailbox_sleep(&r), 1);
			mailbox_wake(&r);
			assert_true(mailbox_consumed(shm, 0) >= next);
		}
		before = next;
	}
}

static void
a_full_ring_is_told(void **state)
{
	struct shm *shm = *state;
	char data[100], big[RING];
	struct mailbox_reader r;
	struct mail mail;
	unsigned round, posted, got;

	memset(big, 0, sizeof(big));
	assert_int_equal(post(shm, 0, 1, big, RING / 4 + 1), -1);
	assert_int_equal(errno, EMSGSIZE);
	mailbox_reader_init(&r, shm, 0);
	for (round = 0; round < 200; round++) {
		for (posted = 0;; posted++) {
			memset(data, (int)(round + posted), sizeof(data));
			if (post(shm, 0, (uint16_t)posted, data, sizeof(data) - round % 50) == -1)
				break;
		}
		assert_int_equal(errno, EAGAIN);
		assert_true(posted >= RING / 136 - 1);
		assert_true(mailbox_used(shm, 0) <= RING);
		for (got = 0; mailbox_next(&r, &mail); got++) {
			memset(data, (int)(round + got), sizeof(data));
			assert_int_equal(mail.kind, got);
			assert_int_equal(mail.len, sizeof(data) - round % 50);
			assert_memory_equal(mail.data, data, mail.len);
		}
		assert_int_equal(got, posted);
		/* Read is not consumed. */
		assert_int_equal(post(shm, 0, 1, data, 100), -1);
		mailbox_consume(&r);
		assert_int_equal(mailbox_used(shm, 0), 0);
		/* However the ring stands, the largest record goes into an empty one. */
		assert_int_equal(post(shm, 0, 2, big, RING / 4), 0);
		assert_int_equal(mailbox_next(&r, &mail), 1);
		assert_int_equal(mail.len, RING / 4);
		mailbox_consume(&r);
	}
}

/* It leaves half of the ring to others, and the reader asleep until there is much of it. */
static void
what_can_wait_takes_half_and_wakes_nobody(void **state)
{
	struct shm_sizes sizes = small();
	char data[1000] = "";
	struct iovec iov = { data, sizeof(data) };
	struct mailbox_reader r;
	struct mail mail;
	struct shm *shm;
	unsigned n;

	(void)state;
	sizes.mailbox_bytes_of[0] = BIG_RING;
	assert_non_null(shm = shm_create(&sizes));
	mailbox_reader_init(&r, shm, 0);
	for (int round = 0; round < 5; round++) {
		assert_int_equal(mailbox_sleep(&r), 1);
		for (n = 0; mailbox_rings(shm, 0) == (unsigned)round; n++)
			assert_int_equal(mailbox_post_idly(shm, 0, 1, &iov, 1), 0);
		assert_true(n == 65536 / 1032 + 1);
		mailbox_wake(&r);
		for (; mailbox_post_idly(shm, 0, 1, &iov, 1) == 0; n++)
			;
		assert_int_equal(errno, EAGAIN);
		assert_true(n >= BIG_RING / 2064 - 1 && mailbox_used(shm, 0) <= BIG_RING / 2);
		assert_int_equal(post(shm, 0, 2, data, sizeof(data)), 0);
		for (; mailbox_next(&r, &mail) == 1; n--)
			assert_true(mail.idly == (mail.kind == 1));
		assert_true(n + 1 == 0);
		mailbox_consume(&r);
	}
	shm_free(shm);
}

static void
the_bell_rings_for_a_sleeper_only(void **state)
{
	struct shm *shm = *state;
	struct mailbox_reader r;
	struct mail mail;
	int i;

	mailbox_reader_init(&r, shm, 0);
	for (i = 0; i < 20; i++)
		assert_int_equal(post(shm, 0, 1, "x", 1), 0);
	assert_int_equal(mailbox_rings(shm, 0), 0);
	assert_false(readable(shm, 0));
	/* There is mail: it may not sleep. */
	assert_int_equal(mailbox_sleep(&r), 0);
	while (mailbox_next(&r, &mail))
		;
	assert_int_equal(mailbox_sleep(&r), 1);
	for (i = 0; i < 20; i++)
		assert_int_equal(post(shm, 0, 1, "x", 1), 0);
	assert_int_equal(mailbox_rings(shm, 0), 1);
	assert_true(readable(shm, 0));
	mailbox_wake(&r);
	assert_false(readable(shm, 0));
	assert_int_equal(post(shm, 0, 1, "x", 1), 0);
	assert_int_equal(mailbox_rings(shm, 0), 1);
	for (i = 0; mailbox_next(&r, &mail); i++)
		;
	assert_int_equal(i, 21);
	mailbox_consume(&r);
	/* Woken by something else: the bell was not rung, and no stale ring is left. */
	assert_int_equal(mailbox_sleep(&r), 1);
	mailbox_wake(&r);
	assert_int_equal(post(shm, 0, 1, "x", 1), 0);
	assert_int_equal(mailbox_rings(shm, 0), 1);
}

static void
a_successor_reads_what_was_not_consumed(void **state)
{
	struct shm *shm = *state;
	struct mailbox_reader r;
	struct mail mail;
	unsigned i;

	slot_take(shm, 0, 7, 0);
	mailbox_reader_init(&r, shm, 0);
	for (i = 0; i < 6; i++)
		post(shm, 0, (uint16_t)i, "x", 1);
	mailbox_next(&r, &mail);
	mailbox_next(&r, &mail);
	mailbox_consume(&r);
	mailbox_next(&r, &mail);
	assert_int_equal(mail.kind, 2);
	assert_int_equal(mailbox_deaths_here(&r), 0);
	for (i = 1; i < 4; i++) {
		slot_died(shm, 0);
		slot_take(shm, 0, 7, 0);
		mailbox_reader_init(&r, shm, 0);
		assert_int_equal(mailbox_deaths_here(&r), i);
		assert_int_equal(mailbox_next(&r, &mail), 1);
		assert_int_equal(mail.kind, 2);
	}
	mailbox_consume(&r);
	assert_int_equal(mailbox_deaths_here(&r), 0);
	slot_died(shm, 0);
	slot_take(shm, 0, 7, 0);
	mailbox_reader_init(&r, shm, 0);
	assert_int_equal(mailbox_deaths_here(&r), 1);
	assert_int_equal(mailbox_next(&r, &mail), 1);
	assert_int_equal(mail.kind, 3);
	while (mailbox_next(&r, &mail))
		;
	mailbox_consume(&r);
	/* Nothing unread: nothing there that kills. */
	slot_died(shm, 0);
	slot_take(shm, 0, 7, 0);
	mailbox_reader_init(&r, shm, 0);
	assert_int_equal(mailbox_deaths_here(&r), 0);
	/* Another role in this slot is not given this one's mail. */
	post(shm, 0, 1, "x", 1);
	slot_died(shm, 0);
	slot_take(shm, 0, 8, 0);
	mailbox_reader_init(&r, shm, 0);
	assert_int_equal(mailbox_next(&r, &mail), 0);
}

static void
light_traffic_touches_few_pages(void **state)
{
	struct shm_sizes sizes = small();
	struct mailbox_reader r;
	struct mail mail;
	struct shm *shm;
	size_t bytes;
	int i;

	(void)state;
	sizes.mailbox_bytes = 1 << 20;
	sizes.mailbox_bytes_of[1] = 4 << 20;
	shm = shm_create(&sizes);
	assert_non_null(shm);
	mailbox_reader_init(&r, shm, 1);
	for (i = 0; i < 100000; i++) {
		assert_int_equal(post(shm, 1, 1, "some hundred bytes", 19), 0);
		assert_int_equal(mailbox_next(&r, &mail), 1);
		assert_memory_equal(mail.data, "some hundred bytes", 19);
		mailbox_consume(&r);
		assert_int_equal(mailbox_sleep(&r), 1);
		mailbox_wake(&r);
	}
	bytes = touched_part(shm, PART_MAILBOXES);
	printf("mailboxes after 100000 single records: %zu kB touched\n", bytes / 1024);
	assert_true(bytes <= 64 * 1024);
	shm_free(shm);
}

static void
a_claim_is_one_device_s_and_the_higher_epoch_s(void **state)
{
	struct shm *shm = *state;
	int64_t began = clock_mono_ms();
	struct directory_view v;
	uint64_t old;

	assert_int_equal(directory_find(shm, key(1), &v), 0);
	assert_int_equal(directory_claim(shm, key(1), 77, DIRECTORY_WS, 100, 5, 1000, &old, &v), 1);
	assert_int_equal(old, REF_NONE);
	assert_int_equal(v.device_pk, 77);
	assert_int_equal(v.ref[DIRECTORY_WS], 100);
	assert_int_equal(v.ref[DIRECTORY_MQTT], REF_NONE);
	assert_int_equal(v.since_ms[DIRECTORY_WS], 1000);
	assert_in_range(v.last_seen_mono_ms, began, clock_mono_ms());
	/* Lower epoch: refused; the answer shows who has it. */
	assert_int_equal(directory_claim(shm, key(1), 77, DIRECTORY_WS, 99, 4, 1001, &old, &v), 0);
	assert_int_equal(old, REF_NONE);
	assert_int_equal(v.ref[DIRECTORY_WS], 100);
	/* Again, by the same: nobody was replaced. */
	assert_int_equal(directory_claim(shm, key(1), 77, DIRECTORY_WS, 100, 5, 1000, &old, &v), 1);
	assert_int_equal(old, REF_NONE);
	assert_int_equal(
	    directory_claim(shm, key(1), 77, DIRECTORY_WS, 101, 6, 2000, &old, NULL), 1);
	assert_int_equal(old, 100);
	assert_int_equal(
	    directory_claim(shm, key(1), 77, DIRECTORY_MQTT, 102, 7, 3000, &old, &v), 1);
	assert_int_equal(old, REF_NONE);
	assert_int_equal(v.epoch[DIRECTORY_WS], 6);
	assert_int_equal(v.epoch[DIRECTORY_MQTT], 7);
	assert_int_equal(directory_count(shm), 1);

	directory_touch(shm, v.index, v.generation, 4000);
	directory_touch(shm, v.index, v.generation + 1, 5000);
	directory_touch(shm, UINT32_MAX, 1, 5000);
	assert_int_equal(directory_find(shm, key(1), &v), 1);
	assert_int_equal(v.last_seen_mono_ms, 4000);

	/* The late end of the one that was replaced changes nothing. */
	assert_int_equal(directory_release(shm, key(1), DIRECTORY_WS, 100, &v), 0);
	assert_int_equal(v.ref[DIRECTORY_WS], 101);
	assert_int_equal(directory_release(shm, key(1), DIRECTORY_WS, 101, &v), 1);
	assert_int_equal(v.epoch[DIRECTORY_WS], 6);
	assert_int_equal(directory_find(shm, key(1), &v), 1);
	assert_int_equal(v.ref[DIRECTORY_WS], REF_NONE);
	assert_int_equal(v.epoch[DIRECTORY_WS], 0);
	assert_int_equal(directory_release(shm, key(1), DIRECTORY_MQTT, 102, NULL), 1);
	assert_int_equal(directory_find(shm, key(1), &v), 0);
	assert_int_equal(directory_release(shm, key(1), DIRECTORY_MQTT, 102, NULL), 0);
	assert_int_equal(directory_count(shm), 0);
	/* The same place, another generation: the old handle is stale. */
	old = v.generation;
	assert_int_equal(directory_claim(shm, key(1), 78, DIRECTORY_WS, 103, 1, 9000, NULL, &v), 1);
	directory_touch(shm, v.index, v.generation - 1, 1);
	assert_int_equal(directory_find(shm, key(1), &v), 1);
	assert_in_range(v.last_seen_mono_ms, began, clock_mono_ms());
}

struct walked {
	struct shm *shm;
	unsigned n;
	uint64_t sum;
	int release;
};

static void
walk_one(void *arg, struct hash128 device, const struct directory_view *v)
{
	struct walked *w = arg;

	assert_int_equal(device.lo, key((uint64_t)v->device_pk).lo);
	w->n++;
	w->sum += (uint64_t)v->device_pk;
	/* No lock is held: it may change what it walks over. */
	if (w->release)
		assert_int_equal(
		    directory_release(w->shm, device, DIRECTORY_WS, v->ref[0], NULL), 1);
}

static void
a_walk_finds_all_in_pieces(void **state)
{
	struct walked w = { *state, 0, 0, 0 };
	uint32_t position = 0, pieces = 0;
	uint64_t i;

	for (i = 1; i <= 900; i++)
		assert_int_equal(directory_claim(w.shm, key(i), (int64_t)i, DIRECTORY_WS, i, 1, 1,
		    NULL, NULL), 1);
	do {
		directory_walk(w.shm, &position, 100, walk_one, &w);
		pieces++;
	} while (position != 0);
	assert_int_equal(w.n, 900);
	assert_int_equal(w.sum, 900 * 901 / 2);
	assert_true(pieces >= 9);
	w.release = 1;
	do
		directory_walk(w.shm, &position, 100, walk_one, &w);
	while (position != 0);
	assert_int_equal(w.n, 1800);
	assert_int_equal(directory_count(w.shm), 0);
}

static void
a_full_directory_is_told(void **state)
{
	struct shm *shm = *state;
	struct directory_view v;
	uint64_t i, full;
	unsigned refused = 0;

	for (i = 1; i <= 1000; i++)
		assert_int_equal(
		    directory_claim(shm, key(i), 1, DIRECTORY_WS, i, 1, 1, NULL, NULL), 1);
	for (; refused == 0; i++)
		refused += directory_claim(shm, key(i), 1, DIRECTORY_WS, i, 1, 1, NULL, NULL) == -1;
	full = i - 1;
	assert_true(full < 10000);
	assert_int_equal(directory_find(shm, key(full), &v), 0);
	for (i = 1; i < full; i++) {
		assert_int_equal(directory_find(shm, key(i), &v), 1);
		assert_int_equal(v.ref[0], i);
	}
	for (i = 1; i < full; i++)
		assert_int_equal(directory_release(shm, key(i), DIRECTORY_WS, i, NULL), 1);
	assert_int_equal(directory_claim(shm, key(full), 1, DIRECTORY_WS, 1, 1, 1, NULL, NULL), 1);
	assert_int_equal(directory_count(shm), 1);
}

static void
make_id(uint64_t n, uint8_t id[16])
{
	memset(id, 0x42, 16);
	memcpy(id + 8, &n, 8);
}

static void
count_pending(void *arg, const struct pending_view *v)
{
	struct walked *w = arg;

	w->n++;
	w->sum += (uint64_t)v->deadline_mono_ms;
}

static void
a_command_is_decided_once(void **state)
{
	struct shm *shm = *state;
	struct walked w = { shm, 0, 0, 0 };
	struct pending_view v;
	uint8_t id[16];

	make_id(1, id);
	assert_int_equal(pending_move(shm, id, key(1), PENDING_EXECUTED), PENDING_UNKNOWN);
	assert_int_equal(pending_add(shm, id, key(1), 500, PENDING_SENT), 0);
	assert_int_equal(pending_add(shm, id, key(2), 600, PENDING_ACCEPTED), 1);
	assert_int_equal(pending_move(shm, id, key(2), PENDING_EXECUTED), PENDING_OTHER_DEVICE);
	assert_int_equal(pending_find(shm, id, &v), 1);
	assert_memory_equal(v.id, id, 16);
	assert_int_equal(v.state, PENDING_SENT);
	assert_int_equal(v.deadline_mono_ms, 500);
	assert_int_equal(v.device.lo, key(1).lo);
	slot_take(shm, 3, 0, 0);
	shm_set_self(shm, 3);
	assert_int_equal(pending_move(shm, id, key(1), PENDING_ACCEPTED), PENDING_WON);
	assert_int_equal(pending_move(shm, id, key(1), PENDING_ACCEPTED), PENDING_LOST);
	assert_int_equal(pending_move(shm, id, key(1), PENDING_TIMEOUT), PENDING_WON);
	assert_int_equal(pending_move(shm, id, key(1), PENDING_EXECUTED), PENDING_LOST);
	assert_int_equal(pending_move(shm, id, key(1), PENDING_ACCEPTED), PENDING_LOST);
	assert_int_equal(pending_find(shm, id, &v), 1);
	assert_int_equal(v.state, PENDING_TIMEOUT);
	assert_int_equal(v.decided_by, 3);
	assert_int_equal(v.decided_generation, 1);
	/* Taken back: to what it was before, and only from the one named. */
	assert_int_equal(pending_undecide(shm, id, 3, 2), 0);
	assert_int_equal(pending_undecide(shm, id, 2, 1), 0);
	assert_int_equal(pending_undecide(shm, id, 3, 1), 1);
	assert_int_equal(pending_undecide(shm, id, 3, 1), 0);
	assert_int_equal(pending_find(shm, id, &v), 1);
	assert_int_equal(v.state, PENDING_ACCEPTED);
	assert_int_equal(pending_move(shm, id, key(1), PENDING_FAILED), PENDING_WON);
	pending_walk(shm, count_pending, &w);
	assert_int_equal(w.n, 1);
	assert_int_equal(w.sum, 500);
	assert_int_equal(pending_remove(shm, id), 1);
	assert_int_equal(pending_remove(shm, id), 0);
	assert_int_equal(pending_find(shm, id, &v), 0);
	assert_int_equal(pending_count(shm), 0);
}

static void
topics_know_slots(void **state)
{
	struct shm *shm = *state;
	uint64_t i;

	assert_int_equal(topics_slots(shm, key(1)), 0);
	topics_leave(shm, key(1), 0);
	assert_int_equal(topics_join(shm, key(1), 0), 0);
	assert_int_equal(topics_join(shm, key(1), 3), 0);
	assert_int_equal(topics_join(shm, key(1), 3), 0);
	assert_int_equal(topics_slots(shm, key(1)), 9);
	assert_int_equal(topics_count(shm), 1);
	topics_leave(shm, key(1), 0);
	assert_int_equal(topics_slots(shm, key(1)), 8);
	topics_leave(shm, key(1), 2);
	topics_leave(shm, key(1), 3);
	assert_int_equal(topics_count(shm), 0);

	slot_take(shm, 1, 0, 0);
	for (i = 0; i < 900; i++) {
		assert_int_equal(topics_join(shm, key(i), 1), 0);
		if (i % 3 == 0)
			assert_int_equal(topics_join(shm, key(i), 2), 0);
	}
	slot_died(shm, 1);
	assert_int_equal(topics_count(shm), 300);
	for (i = 0; i < 900; i++)
		assert_int_equal(topics_slots(shm, key(i)), i % 3 == 0 ? 4 : 0);
}

static void
counters_are_summed(void **state)
{
	struct shm *shm = *state;
	uint64_t *a = stats_block(shm, 0), *b = stats_block(shm, 3);

	assert_int_equal((uintptr_t)a % 64, 0);
	assert_int_equal((uintptr_t)b % 64, 0);
	stats_add(a, 2, 40);
	stats_add(b, 2, 2);
	stats_add(b, 0, 1);
	assert_int_equal(stats_sum(shm, 2), 42);
	assert_int_equal(stats_sum(shm, 1), 0);
	assert_int_equal(stats_get(shm, 3, 0), 1);
	assert_int_equal(stats_get(shm, 0, 0), 0);
}

static void
places_are_counted_for_all(void **state)
{
	struct shm *shm = *state;

	assert_int_equal(holdings_take(shm, key(1), 0, 0), 0);
	assert_int_equal(holdings_count(shm), 0);
	assert_int_equal(holdings_take(shm, key(1), 0, 3), 1);
	assert_int_equal(holdings_take(shm, key(1), 3, 3), 1);
	assert_int_equal(holdings_take(shm, key(1), 3, 3), 1);
	assert_int_equal(holdings_take(shm, key(1), 1, 3), 0);
	assert_int_equal(holdings_take(shm, key(2), 1, 1), 1);
	assert_int_equal(holdings_of(shm, key(1), 3), 2);
	assert_int_equal(holdings_sum(shm, key(1)), 3);
	/* Another limit may be in force by now; what is held stays. */
	assert_int_equal(holdings_take(shm, key(1), 1, 2), 0);
	assert_int_equal(holdings_take(shm, key(1), 1, HOLDINGS_ANY), 1);
	holdings_give(shm, key(1), 3);
	assert_int_equal(holdings_take(shm, key(1), 2, 4), 1);
	holdings_forget_slot(shm, 3);
	assert_int_equal(holdings_of(shm, key(1), 3), 0);
	assert_int_equal(holdings_sum(shm, key(1)), 3);
	holdings_give(shm, key(1), 0);
	holdings_give(shm, key(1), 1);
	holdings_give(shm, key(1), 2);
	assert_int_equal(holdings_sum(shm, key(1)), 0);
	holdings_forget_slot(shm, 1);
	assert_int_equal(holdings_count(shm), 0);
}

/* Who does not fit in is told, and those who are in go on. */
static void
a_full_table_of_places(void **state)
{
	struct shm *shm = *state;
	uint64_t i, in = 0;

	for (i = 0; i < 100000; i++)
		in += holdings_take(shm, key(i), 1, 2) == 1;
	assert_int_equal(in, holdings_count(shm));
	assert_true(in >= 1000 && in < 5000);
	assert_int_equal(holdings_take(shm, key(99999), 1, 2), -1);
	assert_int_equal(holdings_take(shm, key(0), 1, 2), 1);
	assert_int_equal(holdings_take(shm, key(0), 2, 2), 0);
	holdings_forget_slot(shm, 1);
	assert_int_equal(holdings_count(shm), 0);
	assert_int_equal(holdings_take(shm, key(99999), 1, 2), 1);
}

#define SECOND	UINT64_C(1000000000)

static void
buckets_fill_by_time(void **state)
{
	struct bucket_rate rate = bucket_rate(10, SECOND, 20), slow = bucket_rate(5, 60 * SECOND, 5);
	uint64_t now = 1000 * SECOND;
	struct shm *shm = *state;
	uint32_t held;
	int i;

	for (i = 0; i < 20; i++)
		assert_int_equal(buckets_take(shm, key(1), &rate, now), 0);
	assert_int_equal(buckets_take(shm, key(1), &rate, now), SECOND / 10);
	assert_int_equal(buckets_take(shm, key(2), &rate, now), 0);
	assert_int_equal(buckets_take(shm, key(1), &rate, now + SECOND / 20), SECOND / 20);
	assert_int_equal(buckets_take(shm, key(1), &rate, now + SECOND / 10), 0);
	assert_int_equal(buckets_take(shm, key(1), &rate, now + SECOND / 10 + 1), SECOND / 10 - 1);
	/* Held or not, it is the same one; and to its burst, no further. */
	now += 3600 * SECOND;
	held = buckets_hold(shm, key(1), 2, now);
	assert_int_equal(buckets_hold(shm, key(1), 3, now), held);
	for (i = 0; i < 10; i++) {
		assert_int_equal(buckets_take(shm, key(1), &rate, now), 0);
		assert_int_equal(buckets_take_held(shm, held, &rate, now), 0);
	}
	assert_int_equal(buckets_take_held(shm, held, &rate, now), SECOND / 10);
	/* A clock that is behind takes no more than one that is not. */
	assert_int_equal(buckets_take(shm, key(1), &rate, now - SECOND), SECOND + SECOND / 10);
	buckets_release(shm, held, 2);
	buckets_forget_slot(shm, 3);
	for (i = 0; i < 5; i++)
		assert_int_equal(buckets_take(shm, key(3), &slow, now), 0);
	assert_int_equal(buckets_take(shm, key(3), &slow, now), 12 * SECOND);
}

/* What is larger than a full bucket passes once; what follows waits until the debt is paid. */
static void
buckets_go_into_debt(void **state)
{
	struct bucket_rate rate = bucket_rate(10, SECOND, 20), one = bucket_rate(1, SECOND, 1);
	uint64_t now = 1000 * SECOND;
	struct shm *shm = *state;

	assert_int_equal(buckets_take(shm, key(1), &rate, now), 0);
	assert_int_equal(buckets_take_more(shm, key(1), &rate, 1999, now), 0);
	assert_int_equal(buckets_take(shm, key(1), &rate, now), 198 * SECOND + SECOND / 10);
	assert_int_equal(buckets_take_more(shm, key(1), &rate, 1, now), 198 * SECOND);
	now += 198 * SECOND;
	assert_int_equal(buckets_take(shm, key(1), &rate, now), SECOND / 10);
	assert_int_equal(buckets_take(shm, key(1), &rate, now + SECOND / 10), 0);
	/* Also where the first took the only one there was. */
	assert_int_equal(buckets_take(shm, key(2), &one, now), 0);
	assert_int_equal(buckets_take_more(shm, key(2), &one, UINT32_MAX, now), 0);
	assert_int_equal(buckets_take(shm, key(2), &one, now), (int64_t)(UINT32_MAX + UINT64_C(1)) * SECOND);
}

/* However many come and go, there is room; who goes on is not forgotten, and nobody shares. */
static void
idle_buckets_make_room(void **state)
{
	struct bucket_rate rate = bucket_rate(5, 60 * SECOND, 5), once = bucket_rate(1000, SECOND, 1);
	struct shm *shm = *state;
	uint64_t i, now = SECOND;
	unsigned busy = 0, quiet;
	uint32_t held = buckets_hold(shm, key(2), 1, now);

	for (quiet = 0; quiet < 5; quiet++)
		assert_int_equal(buckets_take_held(shm, held, &rate, now), 0);
	/* Each is idle again after a millisecond; the table holds a thousand and some. */
	for (i = 10; i < 400010; i++) {
		now += SECOND / 100000;
		assert_int_equal(buckets_take(shm, key(i), &once, now), 0);
		assert_int_equal(buckets_take(shm, key(i), &once, now), SECOND / 1000);
		if (i % 1000 == 0)
			busy += buckets_take(shm, key(1), &rate, now) == 0;
	}
	assert_int_equal(busy, 5);
	assert_true(buckets_count(shm) < 500);
	assert_true(buckets_take_held(shm, held, &rate, now) > 0);
	/* In a moment that does not pass none is idle: it fills, and that is told. */
	for (i = 0; i < 100000; i++)
		quiet += buckets_take(shm, key(i + 1000000), &rate, now) == -1;
	assert_true(quiet > 90000);
	assert_true(buckets_take(shm, key(1), &rate, now) > 0);
	/* The others are idle a minute later, the one that is held is still there. */
	now += 120 * SECOND;
	for (i = 0; i < 1000; i++)
		assert_int_equal(buckets_take(shm, key(i + 2000000), &rate, now), 0);
	buckets_release(shm, held, 1);
}

/* What a dead process held is idle in its time, like the rest. */
static void
held_buckets_are_forgotten(void **state)
{
	struct bucket_rate rate = bucket_rate(1000, SECOND, 1);
	struct shm *shm = *state;
	uint64_t now = SECOND, i;

	for (i = 0; i < 500; i++)
		assert_int_not_equal(buckets_hold(shm, key(i), 3, now), BUCKET_NONE);
	for (i = 0; i < 10000; i++, now += SECOND)
		assert_int_equal(buckets_take(shm, key(1000 + i), &rate, now), 0);
	assert_true(buckets_count(shm) >= 500);
	buckets_forget_slot(shm, 3);
	for (i = 0; i < 10000; i++, now += SECOND)
		assert_int_equal(buckets_take(shm, key(20000 + i), &rate, now), 0);
	assert_true(buckets_count(shm) < 400);
}

#define MANY	16000

static void
memory_follows_use(void **state)
{
	struct shm_sizes sizes = { .slots = SHM_MAX_SLOTS, .devices = 1000000, .commands = 1000000,
	    .topics = 1000000, .limits = 1000000, .mailbox_bytes = 1 << 20, .counters = 64 };
	struct shm *shm = shm_create(&sizes);
	struct directory_view v;
	size_t none, device, command, topic;
	uint8_t id[16];
	uint64_t i;

	(void)state;
	assert_non_null(shm);
	none = touched(shm, 0, shm->len);
	for (i = 1; i <= MANY; i++) {
		make_id(i, id);
		assert_int_equal(
		    directory_claim(shm, key(i), 1, DIRECTORY_WS, i, 1, 1, NULL, NULL), 1);
		assert_int_equal(pending_add(shm, id, key(i), 1, PENDING_SENT), 0);
		assert_int_equal(topics_join(shm, key(i), 1), 0);
	}
	device = touched_part(shm, PART_DIRECTORY) / MANY;
	command = touched_part(shm, PART_PENDING) / MANY;
	topic = touched_part(shm, PART_TOPICS) / MANY;
	printf("%zu MB of addresses; touched when fresh: %zu kB; bytes each at %d of 1000000: "
	    "device %zu, command %zu, topic %zu\n", shm->len >> 20, none / 1024, MANY, device,
	    command, topic);
	assert_true(none <= 64 * 1024);
	assert_true(device < 120);
	assert_true(command < 80);
	assert_true(topic < 60);
	/* Entries that come and go take no new memory. */
	for (i = 1; i <= 20 * MANY; i++) {
		assert_int_equal(directory_release(shm, key(i), DIRECTORY_WS, i, NULL), 1);
		assert_int_equal(directory_claim(shm, key(i + MANY), 1, DIRECTORY_WS, i + MANY, 1,
				     1, NULL, NULL),
		    1);
	}
	printf("after %d of them came and went: device %zu\n", 20 * MANY,
	    touched_part(shm, PART_DIRECTORY) / MANY);
	/* 122 to 125 by the luck of the hash key; were entries not used again it would be thousands. */
	assert_true(touched_part(shm, PART_DIRECTORY) / MANY < 140);
	for (; i <= 21 * MANY; i++)
		assert_int_equal(directory_find(shm, key(i), &v), 1);
	shm_free(shm);
}

#define UNIT(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refs_keep_their_fields),
		cmocka_unit_test(wrong_sizes_are_refused),
		UNIT(parts_lie_behind_each_other),
		UNIT(slots_live_and_die),
		UNIT(a_draining_slot_is_found_last),
		UNIT(generations_skip_zero),
		UNIT(mail_arrives_joined),
		UNIT(a_writer_sees_what_is_done),
		UNIT(a_full_ring_is_told),
		UNIT(the_bell_rings_for_a_sleeper_only),
		cmocka_unit_test(what_can_wait_takes_half_and_wakes_nobody),
		UNIT(a_successor_reads_what_was_not_consumed),
		cmocka_unit_test(light_traffic_touches_few_pages),
		UNIT(a_claim_is_one_device_s_and_the_higher_epoch_s),
		UNIT(a_walk_finds_all_in_pieces),
		UNIT(a_full_directory_is_told),
		UNIT(a_command_is_decided_once),
		UNIT(topics_know_slots),
		UNIT(counters_are_summed),
		UNIT(places_are_counted_for_all),
		UNIT(a_full_table_of_places),
		UNIT(buckets_fill_by_time),
		UNIT(buckets_go_into_debt),
		UNIT(idle_buckets_make_room),
		UNIT(held_buckets_are_forgotten),
		cmocka_unit_test(memory_follows_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
