/*
 * Threads in the place of processes, each with a handle of its own, so that ThreadSanitizer can
 * watch the memory orders.  By hand, in a build of its own:
 *
 *	configure CC=clang CFLAGS='-g -O1 -fsanitize=thread' LDFLAGS=-fsanitize=thread
 *	make tests/shm/threads && tests/shm/threads
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"

#include "shm/directory.h"
#include "shm/mailbox.h"
#include "shm/pending.h"
#include "shm/segment.h"
#include "shm/stats.h"
#include "shm/topics.h"
#include "tests/shm/lib.h"

#define WRITERS		4
#define RECORDS		20000
#define KEYS		30

struct thread {
	pthread_t id;
	struct shm shm;			/* as after fork: a copy of the handle */
	uint64_t random;
};

static uint64_t
below(struct thread *t, uint64_t n)
{
	t->random = t->random * 6364136223846793005u + 1442695040888963407u;
	return (t->random >> 33) % n;
}

static struct hash128
key(uint64_t i)
{
	return (struct hash128){ i * 0x9e3779b97f4a7c15u, i };
}

static void
use_tables(struct thread *t, uint64_t n)
{
	struct shm *shm = &t->shm;
	struct directory_view v;
	struct pending_view p;
	uint8_t id[16] = { 1 };
	uint64_t k = below(t, KEYS);

	id[15] = (uint8_t)k;
	switch (below(t, 9)) {
	case 0:
		directory_claim(shm, key(k), 1, DIRECTORY_WS, n, (int64_t)n, (int64_t)n, NULL, &v);
		break;
	case 1:
		if (directory_find(shm, key(k), &v)) {
			EXPECT((uint64_t)v.epoch[0] == v.ref[0], "mixed");
			directory_touch(shm, v.index, v.generation, 1);
		}
		break;
	case 2:
		if (directory_find(shm, key(k), &v))
			directory_release(shm, key(k), DIRECTORY_WS, v.ref[0], NULL);
		break;
	case 3:
		pending_add(shm, id, key(k), 1, PENDING_SENT);
		break;
	case 4:
		pending_move(shm, id, key(k), PENDING_EXECUTED);
		pending_find(shm, id, &p);
		break;
	case 5:
		pending_remove(shm, id);
		break;
	case 6:
		topics_join(shm, key(k), shm_self(shm));
		break;
	case 7:
		topics_leave(shm, key(k), shm_self(shm));
		break;
	default:
		topics_slots(shm, key(k));
		stats_add(stats_block(shm, shm_self(shm)), 0, 1);
	}
}

static void *
write_all(void *arg)
{
	struct thread *t = arg;
	uint64_t data[20], n, i;
	struct iovec iov = { data, 0 };

	for (n = 1; n <= RECORDS; n++) {
		use_tables(t, n << 8 | shm_self(&t->shm));
		for (i = 0; i < 20; i++)
			data[i] = n;
		iov.iov_len = 8 + below(t, 152);
		while (mailbox_post(&t->shm, 0, 1, &iov, 1) == -1) {
			EXPECT(errno == EAGAIN, "errno %d", errno);
			sched_yield();
		}
	}
	return NULL;
}

static void
read_all(struct shm *shm)
{
	uint64_t last[WRITERS + 1] = { 0 }, n, total = 0;
	struct mailbox_reader r;
	struct pollfd pfd = { .fd = mailbox_fd(shm, 0), .events = POLLIN };
	struct mail mail;

	mailbox_reader_init(&r, shm, 0);
	while (total < (uint64_t)WRITERS * RECORDS) {
		while (mailbox_next(&r, &mail)) {
			memcpy(&n, mail.data, sizeof(n));
			EXPECT(mail.from <= WRITERS && n == last[mail.from] + 1, "%llu of %u",
			    (unsigned long long)n, mail.from);
			last[mail.from] = n;
			total++;
		}
		mailbox_consume(&r);
		if (total < (uint64_t)WRITERS * RECORDS && mailbox_sleep(&r)) {
			EXPECT(poll(&pfd, 1, 10000) == 1, "not woken");
			mailbox_wake(&r);
		}
	}
}

int
main(void)
{
	struct shm_sizes sizes = { .slots = WRITERS + 1,
		.devices = 64,
		.commands = 64,
		.topics = 64, .limits = 64,
		.mailbox_bytes = 16384,
		.counters = 1 };
	struct thread *t;
	struct shm *shm;
	unsigned i;

	lib_start("shm/threads", 300);
	shm = shm_create(&sizes);
	must(shm != NULL);
	t = must_alloc(WRITERS * sizeof(*t));
	for (i = 0; i <= WRITERS; i++)
		slot_take(shm, i, 1, i);
	for (i = 0; i < WRITERS; i++) {
		t[i].shm = *shm;
		t[i].random = lib_random();
		shm_set_self(&t[i].shm, i + 1);
		must(pthread_create(&t[i].id, NULL, write_all, &t[i]) == 0);
	}
	shm_set_self(shm, 0);
	read_all(shm);
	for (i = 0; i < WRITERS; i++)
		pthread_join(t[i].id, NULL);
	free(t);
	shm_free(shm);
	return lib_end();
}
