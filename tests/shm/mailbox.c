/*
 * Eight writers and one reader at full speed, one of them killed again and again.  No record
 * that was acknowledged is lost, torn or doubled; of each killed writer at most the one record in
 * flight may or may not arrive; a killed reader's successor reads what was not consumed.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/must.h"

#include "shm/mailbox.h"
#include "shm/segment.h"
#include "tests/shm/lib.h"

#define WRITERS		8
#define READER		0		/* its slot; writers have 1 to WRITERS */
#define RING		65536
#define MOST_KILLS	100000
#define BATCH		64
#define TURNS		30000u
#define KIND_DATA	7
#define KIND_END	8

struct writer_state {			/* written by the writer, read by all */
	_Atomic uint64_t begun;		/* sequence of the record it posts or posted last */
	_Atomic uint64_t acked;		/* mailbox_post() returned 0 for it */
	_Atomic uint64_t full;		/* EAGAIN */
};

/* What the reader had seen when it had read up to `cursor`: of two, one is always whole. */
struct reader_state {
	uint64_t cursor;
	uint64_t last[WRITERS];
	uint64_t records, bytes;
	uint64_t gaps[WRITERS];		/* sequences left out, each of a killed writer */
};

struct shared {
	_Atomic int stop;
	struct writer_state writer[WRITERS];
	struct reader_state reader[2];
	_Atomic uint64_t reread; /* readers that found what their predecessor had not consumed */
	/* By the parent: of each kill of a writer, what was in flight. */
	uint64_t in_flight[WRITERS][MOST_KILLS];
	_Atomic unsigned in_flight_n[WRITERS];
};

struct head {
	uint64_t writer, seq, len, sum;
};

static struct shared *shared;

static uint64_t
mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static void
fill(uint8_t *p, size_t len, uint64_t seed)
{
	uint64_t word;
	size_t i;

	for (i = 0; i < len; i += 8) {
		word = mix(seed + i);
		memcpy(p + i, &word, len - i < 8 ? len - i : 8);
	}
}

static uint64_t
sum_of(const struct head *h)
{
	return mix(h->writer ^ mix(h->seq ^ mix(h->len)));
}

static size_t
length_of(uint64_t writer, uint64_t seq)
{
	uint64_t r = mix(seq * WRITERS + writer);

	return r % 100 == 0 ? r / 100 % (RING / 4 - sizeof(struct head)) : r / 100 % 400;
}

static void
write_records(struct shm *shm, void *arg)
{
	struct writer_state *w = arg;
	uint64_t nth = (uint64_t)(w - shared->writer), seq;
	uint8_t data[RING / 4];
	struct iovec iov[3];
	struct head h;

	/* A predecessor may have died with this one in flight: it is not posted again. */
	for (seq = w->begun + 1; shared->stop == 0; seq++) {
		h = (struct head){ nth, seq, length_of(nth, seq), 0 };
		h.sum = sum_of(&h);
		fill(data, h.len, h.sum);
		iov[0] = (struct iovec){ &h, sizeof(h) };
		iov[1] = (struct iovec){ data, h.len / 3 };
		iov[2] = (struct iovec){ data + h.len / 3, h.len - h.len / 3 };
		w->begun = seq;
		while (mailbox_post(shm, READER, KIND_DATA, iov, 3) == -1) {
			EXPECT(errno == EAGAIN, "errno %d", errno);
			w->full++;
			sched_yield();
		}
		w->acked = seq;
	}
}

static int
may_be_missing(uint64_t nth, uint64_t seq)
{
	unsigned i, n = shared->in_flight_n[nth];

	for (i = 0; i < n; i++) {
		if (shared->in_flight[nth][i] == seq)
			return 1;
	}
	return 0;
}

static void
check_record(struct reader_state *st, const struct mail *mail)
{
	uint8_t expected[RING / 4];
	struct head h;
	uint64_t seq;

	if (mail->len < sizeof(h)) {
		EXPECT(0, "record of %u bytes", mail->len);
		return;
	}
	memcpy(&h, mail->data, sizeof(h));
	if (h.writer >= WRITERS || h.sum != sum_of(&h) || h.len != mail->len - sizeof(h)) {
		EXPECT(0, "torn head: writer %llu seq %llu len %llu of %u",
		    (unsigned long long)h.writer, (unsigned long long)h.seq,
		    (unsigned long long)h.len, mail->len);
		return;
	}
	EXPECT(mail->kind == KIND_DATA && mail->from == h.writer + 1, "kind %u from %u", mail->kind,
	    mail->from);
	fill(expected, h.len, h.sum);
	EXPECT(memcmp(expected, mail->data + sizeof(h), h.len) == 0, "torn data");
	EXPECT(h.seq > st->last[h.writer], "writer %llu: %llu after %llu",
	    (unsigned long long)h.writer, (unsigned long long)h.seq,
	    (unsigned long long)st->last[h.writer]);
	for (seq = st->last[h.writer] + 1; seq < h.seq; seq++) {
		EXPECT(may_be_missing(h.writer, seq), "writer %llu: %llu is lost",
		    (unsigned long long)h.writer, (unsigned long long)seq);
		st->gaps[h.writer]++;
	}
	st->last[h.writer] = h.seq;
	st->records++;
	st->bytes += mail->len;
}

static void
wait_for_mail(struct mailbox_reader *r)
{
	struct pollfd pfd = { .fd = mailbox_fd(r->shm, r->slot), .events = POLLIN };
	int n;

	if (!mailbox_sleep(r))
		return;
	n = poll(&pfd, 1, 5000);
	/* Five seconds are for ever. */
	EXPECT(n == 1 || mailbox_used(r->shm, r->slot) == 0, "asleep over %zu bytes of mail",
	    mailbox_used(r->shm, r->slot));
	mailbox_wake(r);
}

static void
read_records(struct shm *shm, void *arg)
{
	struct mailbox_reader r;
	struct reader_state st;
	struct mail mail;
	int i, end = 0, turn;

	(void)arg;
	mailbox_reader_init(&r, shm, READER);
	turn = shared->reader[0].cursor == r.cursor ? 0 : 1;
	st = shared->reader[turn];
	/*
	 * Nothing was consumed yet, or the ring began anew while it was empty: then both say
	 * the same.
	 */
	if (st.cursor != r.cursor) {
		st = shared->reader[0].records > shared->reader[1].records ? shared->reader[0] :
		    shared->reader[1];
		turn = st.records == shared->reader[0].records ? 0 : 1;
		EXPECT(st.cursor <= r.cursor && r.cursor % RING == 0,
		    "successor begins at %llu, consumed was %llu", (unsigned long long)r.cursor,
		    (unsigned long long)st.cursor);
	}
	if (mailbox_deaths_here(&r) != 0)
		shared->reread++;
	while (!end) {
		for (i = 0; i < BATCH && !end && mailbox_next(&r, &mail); i++) {
			if (mail.kind == KIND_END)
				end = 1;
			else
				check_record(&st, &mail);
		}
		if (i == 0) {
			wait_for_mail(&r);
			continue;
		}
		st.cursor = r.cursor;
		turn = !turn;
		shared->reader[turn] = st;
		mailbox_consume(&r);
	}
}

static void
kill_writer(struct shm *shm, pid_t pid[WRITERS + 1], unsigned slot)
{
	struct writer_state *w = &shared->writer[slot - 1];
	uint64_t *list = shared->in_flight[slot - 1];

	/*
	 * The reader must know what may be missing before the successor posts; between the kill and
	 * here no later record of this writer exists.
	 */
	lib_kill(shm, slot, pid[slot]);
	if (w->begun != w->acked)
		list[shared->in_flight_n[slot - 1]++] = w->begun;
	pid[slot] = lib_spawn(shm, slot, write_records, w);
}

static void
wait_for_end(struct shm *shm, pid_t pid[WRITERS + 1])
{
	struct iovec none = { NULL, 0 };
	unsigned slot;

	shared->stop = 1;
	for (slot = 1; slot <= WRITERS; slot++)
		EXPECT(lib_reap(shm, slot, pid[slot]) == 0, "writer %u", slot);
	while (mailbox_post(shm, READER, KIND_END, &none, 1) == -1)
		sched_yield();
	EXPECT(lib_reap(shm, READER, pid[READER]) == 0, "reader");
}

/*
 * Two that answer each other and sleep in between: nobody else's ring would make up for one that
 * is lost.  They linger in the steps of the handshake, for all ways in which these can meet.
 */
static void
linger(const char *where)
{
	uint64_t i, n;

	if (strstr(where, "sleep") == NULL && strstr(where, "ring") == NULL)
		return;
	if (lib_random_below(64) == 0)
		sched_yield();
	for (i = 0, n = lib_random_below(2000); i < n; i++)
		atomic_signal_fence(memory_order_seq_cst);
}

static void
answer(struct shm *shm, unsigned self, unsigned peer)
{
	struct iovec none = { NULL, 0 };
	struct mailbox_reader r;
	struct mail mail;
	unsigned i, got;

	shm_test_hook = linger;
	mailbox_reader_init(&r, shm, self);
	for (i = 0; i < TURNS; i++) {
		for (got = 0; got == 0;) {
			while (mailbox_next(&r, &mail))
				got++;
			mailbox_consume(&r);
			if (got == 0)
				wait_for_mail(&r);
		}
		EXPECT(got == 1, "%u answers", got);
		EXPECT(mailbox_post(shm, peer, 1, &none, 1) == 0, "errno %d", errno);
	}
}

static void
answer_second(struct shm *shm, void *arg)
{
	(void)arg;
	answer(shm, 2, 1);
}

static void
answer_first(struct shm *shm, void *arg)
{
	(void)arg;
	answer(shm, 1, 2);
}

static void
take_turns(struct shm *shm)
{
	pid_t first = lib_spawn(shm, 1, answer_first, NULL);
	pid_t second = lib_spawn(shm, 2, answer_second, NULL);
	struct iovec none = { NULL, 0 };

	EXPECT(mailbox_post(shm, 1, 1, &none, 1) == 0, "errno %d", errno);
	EXPECT(lib_reap(shm, 1, first) == 0, "first");
	EXPECT(lib_reap(shm, 2, second) == 0, "second");
	printf("%u turns with sleep: %llu and %llu rings\n", TURNS,
	    (unsigned long long)mailbox_rings(shm, 1), (unsigned long long)mailbox_rings(shm, 2));
	fflush(stdout);
	slot_free(shm, 1);
	slot_free(shm, 2);
}

int
main(void)
{
	struct shm_sizes sizes = { .slots = WRITERS + 1,
		.devices = 16,
		.commands = 16,
		.topics = 16, .limits = 16,
		.mailbox_bytes = RING,
		.counters = 1 };
	unsigned kills, i, slot, reader_kills = 0, may_lose = 0, gaps = 0;
	struct reader_state *end;
	pid_t pid[WRITERS + 1];
	uint64_t full = 0;
	struct shm *shm;

	lib_start("shm/mailbox", 240);
	kills = lib_kills(200);
	must(kills <= MOST_KILLS);
	shm = shm_create(&sizes);
	must(shm != NULL);
	shared = lib_share(sizeof(*shared));
	take_turns(shm);
	pid[READER] = lib_spawn(shm, READER, read_records, NULL);
	for (i = 1; i <= WRITERS; i++)
		pid[i] = lib_spawn(shm, i, write_records, &shared->writer[i - 1]);
	for (i = 0; i < kills; i++) {
		lib_pause_us((unsigned)lib_random_below(8000));
		if (lib_random_below(5) == 0) {
			lib_kill(shm, READER, pid[READER]);
			pid[READER] = lib_spawn(shm, READER, read_records, NULL);
			reader_kills++;
			continue;
		}
		slot = 1 + (unsigned)lib_random_below(WRITERS);
		kill_writer(shm, pid, slot);
	}
	wait_for_end(shm, pid);
	end = shared->reader[0].records > shared->reader[1].records ? &shared->reader[0] :
	    &shared->reader[1];
	for (i = 0; i < WRITERS; i++) {
		EXPECT(end->last[i] >= shared->writer[i].acked, "writer %u: %llu of %llu arrived",
		    i, (unsigned long long)end->last[i],
		    (unsigned long long)shared->writer[i].acked);
		may_lose += shared->in_flight_n[i];
		gaps += (unsigned)end->gaps[i];
		full += shared->writer[i].full;
	}
	printf(
	    "%u writers and %u readers killed; %llu records, %llu MB; %u in flight at a kill, %u "
	    "of them not written; %llu times full, %llu readers began with mail of their "
	    "predecessor, %llu rings\n",
	    kills - reader_kills, reader_kills, (unsigned long long)end->records,
	    (unsigned long long)end->bytes >> 20, may_lose, gaps, (unsigned long long)full,
	    (unsigned long long)shared->reread, (unsigned long long)mailbox_rings(shm, READER));
	shm_free(shm);
	return lib_end();
}
