/*
 * outbox.c: records for a ring that is full wait in the sender's outbox: in order, bounded, and each once, also when the sender is
 * killed at every step and its successor begins again with what it does not know to be posted.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/must.h"
#include "shm/effects.h"
#include "shm/mailbox.h"
#include "shm/segment.h"
#include "tests/shm/lib.h"

#define SENDER		0
#define READER		1
#define RING		(64u << 10)
#define LONGEST		(RING / 4)

static struct {
	unsigned *step, die_at;
	uint64_t *done;		/* records that the sender knows to be posted */
} shared;

static void
count_and_die(const char *where)
{
	(void)where;
	if (++*shared.step == shared.die_at)
		kill(getpid(), SIGKILL);
}

static struct shm *
segment(void)
{
	struct shm_sizes sizes = { .slots = 2, .devices = 64, .commands = 64, .topics = 64, .limits = 64, .mailbox_bytes = RING,
	    .counters = 1, .effects = 1u << SENDER };
	struct shm *shm = shm_create(&sizes);

	must(shm != NULL);
	return shm;
}

static size_t
length_of(uint64_t n)
{
	return (size_t)(n * 7919 % (LONGEST - 8)) + 8;
}

static int
post(struct shm *shm, uint64_t n, size_t most)
{
	static uint8_t bytes[LONGEST];
	struct iovec iov[2] = { { &n, sizeof(n) }, { bytes, length_of(n) - sizeof(n) } };

	memset(bytes, (int)n, sizeof(bytes));
	return outbox_post(shm, READER, 7, n, most, iov, 2);
}

/* Reads what is in the ring; *next: the record that must come. */
static void
read_ring(struct mailbox_reader *r, uint64_t last[SHM_MAX_SLOTS], uint64_t *next)
{
	struct mail mail;
	uint64_t n;

	while (mailbox_next(r, &mail) == 1) {
		if (mailbox_had(&mail, last))
			continue;
		memcpy(&n, mail.data, sizeof(n));
		EXPECT(n == *next && mail.kind == 7 && mail.len == length_of(n) && mail.tag == n, "%llu came, not %llu",
		    (unsigned long long)n, (unsigned long long)*next);
		EXPECT(mail.len == sizeof(n) || mail.data[mail.len - 1] == (uint8_t)n, "bytes of %llu", (unsigned long long)n);
		*next = n + 1;
	}
	mailbox_consume(r);
}

/* Filled to its end, and over it, several times around. */
static void
fills_up(void)
{
	struct shm *shm = segment();
	uint64_t last[SHM_MAX_SLOTS] = { 0 }, n = 1, next = 1;
	struct mailbox_reader r;
	int64_t since;

	slot_take(shm, SENDER, 1, 0);
	slot_take(shm, READER, 2, 0);
	shm_set_self(shm, SENDER);
	mailbox_reader_init(&r, shm, READER);
	EXPECT(post(shm, 1, SIZE_MAX) == 0 && outbox_used(shm, READER) == 0, "the first goes to the ring");
	n++;
	for (int round = 0; round < 5; round++) {
		while (post(shm, n, SIZE_MAX) == 0)
			n++;
		EXPECT(errno == EAGAIN && outbox_used(shm, READER) > EFFECTS_OUTBOX_BYTES - LONGEST - 64, "%zu wait",
		    outbox_used(shm, READER));
		EXPECT(outbox_flush(shm), "the ring is full");
		/* Not all at once: it is neither empty nor full when more comes. */
		for (int i = 0; i < 500 + round; i++) {
			read_ring(&r, last, &next);
			(void)outbox_flush(shm);
		}
	}
	while (outbox_flush(shm))
		read_ring(&r, last, &next);
	read_ring(&r, last, &next);
	EXPECT(next == n && outbox_used(shm, READER) == 0, "%llu of %llu came", (unsigned long long)next - 1,
	    (unsigned long long)n - 1);
	while (post(shm, n, 4 * LONGEST) == 0)
		n++;
	EXPECT(outbox_used(shm, READER) <= 4 * LONGEST, "%zu wait", outbox_used(shm, READER));
	EXPECT(outbox_dropped(shm, READER, &since) == 0, "nothing was dropped");
	outbox_drop(shm, READER, 5);
	outbox_drop(shm, READER, 6);
	EXPECT(outbox_dropped(shm, READER, &since) == 2 && since == 5, "two were dropped");
	outbox_told(shm, READER);
	EXPECT(outbox_dropped(shm, READER, &since) == 0, "it was told");
	shm_free(shm);
}

/* From the last one that is known to be posted: the one behind may have been, too. */
static void
send_all(struct shm *shm, void *arg)
{
	shm_test_hook = count_and_die;
	(void)outbox_flush(shm);
	while (*shared.done < *(const uint64_t *)arg) {
		must(post(shm, *shared.done + 1, SIZE_MAX) == 0);
		++*shared.done;
		if (*shared.done % 3 == 0)
			(void)outbox_flush(shm);
	}
	(void)outbox_flush(shm);
	shm_test_hook = NULL;
}

static void
dies_everywhere(void)
{
	struct shm *shm = segment();
	uint64_t last[SHM_MAX_SLOTS] = { 0 }, next = 1, until = 0;
	struct mailbox_reader r;
	unsigned deaths = lib_kills(300), died = 0;

	slot_take(shm, READER, 2, 0);
	mailbox_reader_init(&r, shm, READER);
	for (unsigned i = 0; i < deaths; i++) {
		pid_t pid;

		until += 9;
		*shared.step = 0;
		shared.die_at = 1 + i % 61;
		pid = lib_spawn(shm, SENDER, send_all, &until);
		died += WIFSIGNALED(lib_reap(shm, SENDER, pid));
		if (i % 4 == 3)
			read_ring(&r, last, &next);
	}
	shared.die_at = 0;
	for (int i = 0; i < 100000 && next <= until; i++) {
		pid_t pid = lib_spawn(shm, SENDER, send_all, &until);

		lib_reap(shm, SENDER, pid);
		read_ring(&r, last, &next);
	}
	EXPECT(died > deaths / 2, "only %u of %u died", died, deaths);
	EXPECT(next == until + 1, "%llu of %llu came", (unsigned long long)next - 1, (unsigned long long)until);
	shm_free(shm);
}

int
main(void)
{
	lib_start("shm/outbox", 300);
	shared.step = lib_share(sizeof(*shared.step));
	shared.done = lib_share(sizeof(*shared.done));
	fills_up();
	dies_everywhere();
	return lib_end();
}
