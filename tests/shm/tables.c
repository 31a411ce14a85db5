/*
 * Directory and topics under full load from several processes that are killed again and again,
 * against a model.
 *
 * Directory: every claim has a reference and an epoch of its own (equal numbers, so that a view
 * mixed of two is seen). Each acknowledged claim ends exactly once: it was replaced (told to
 * the one that replaced it), released, or stands in the end. Only what a killed process had in
 * flight may be untold.
 *
 * Topics: after joining, each sees its own bit, after leaving, not; of a dead process no bit is
 * left.
 */
#include <stdatomic.h>
#include <string.h>

#include "base/must.h"

#include "shm/directory.h"
#include "shm/topics.h"
#include "tests/shm/lib.h"

#define WORKERS		5
#define KEYS		40
#define TOPICS		200
#define MOST_CLAIMS	(1u << 27)

struct in_flight {			/* of a worker */
	_Atomic uint32_t key;
	_Atomic int busy;
};

struct shared {
	_Atomic int stop;
	_Atomic uint64_t tickets;	/* references and epochs given out */
	_Atomic uint64_t ops[WORKERS];
	struct in_flight in_flight[WORKERS];
	uint32_t untold[KEYS];		/* operations in flight at a death, by key */
	_Atomic uint64_t refused;
	/* By reference: */
	_Atomic uint8_t claimed[MOST_CLAIMS];
	_Atomic uint8_t ended[MOST_CLAIMS];
	uint8_t key_of[MOST_CLAIMS];
};

static struct shared *shared;

static struct hash128
key(uint32_t i)
{
	return (struct hash128){ i * 0x9e3779b97f4a7c15u, ~(uint64_t)i };
}

static struct hash128
topic(uint32_t i)
{
	return (struct hash128){ i * 0xbf58476d1ce4e5b9u, i };
}

static void
check_view(const struct directory_view *v, uint32_t k)
{
	int t;

	EXPECT(v->device_pk == k, "pk %lld of %u", (long long)v->device_pk, k);
	EXPECT(v->ref[0] != REF_NONE || v->ref[1] != REF_NONE, "an entry without a holder");
	for (t = 0; t < DIRECTORY_TRANSPORTS; t++) {
		EXPECT((uint64_t)v->epoch[t] == v->ref[t] && (uint64_t)v->since_ms[t] == v->ref[t],
		    "mixed: ref %llu epoch %lld since %lld", (unsigned long long)v->ref[t],
		    (long long)v->epoch[t], (long long)v->since_ms[t]);
		if (v->ref[t] != REF_NONE)
			EXPECT(shared->key_of[v->ref[t]] == k, "another device's holder");
	}
}

static void
try_claim(struct shm *shm, uint32_t k, enum directory_transport transport)
{
	uint64_t ref = atomic_fetch_add(&shared->tickets, 1), old;
	struct directory_view v;
	int claimed;

	must(ref < MOST_CLAIMS);
	shared->key_of[ref] = (uint8_t)k;
	claimed =
	    directory_claim(shm, key(k), k, transport, ref, (int64_t)ref, (int64_t)ref, &old, &v);
	EXPECT(claimed >= 0, "full");
	check_view(&v, k);
	if (claimed == 0) {
		EXPECT((uint64_t)v.epoch[transport] > ref, "refused by a lower epoch");
		shared->refused++;
		return;
	}
	EXPECT(v.ref[transport] == ref, "claimed, and not the holder");
	EXPECT(old < ref, "replaced a higher epoch");
	shared->claimed[ref] = 1;
	if (old != REF_NONE)
		EXPECT(++shared->ended[old] == 1, "%llu ended twice", (unsigned long long)old);
}

static void
try_release(struct shm *shm, uint32_t k, enum directory_transport transport)
{
	struct directory_view v, was;

	if (!directory_find(shm, key(k), &v))
		return;
	check_view(&v, k);
	directory_touch(shm, v.index, v.generation, 1);
	if (v.ref[transport] == REF_NONE)
		return;
	if (directory_release(shm, key(k), transport, v.ref[transport], &was)) {
		check_view(&was, k);
		EXPECT(++shared->ended[v.ref[transport]] == 1, "%llu ended twice",
		    (unsigned long long)v.ref[transport]);
	}
}

static void
join_and_leave(struct shm *shm, uint32_t i)
{
	unsigned self = shm_self(shm);
	uint64_t bit = (uint64_t)1 << self;

	if (topics_slots(shm, topic(i)) & bit) {
		topics_leave(shm, topic(i), self);
		EXPECT((topics_slots(shm, topic(i)) & bit) == 0, "left, and still there");
	} else {
		EXPECT(topics_join(shm, topic(i), self) == 0, "full");
		EXPECT((topics_slots(shm, topic(i)) & bit) != 0, "joined, and not there");
	}
}

static void
work(struct shm *shm, void *arg)
{
	struct in_flight *mine = arg;
	enum directory_transport transport;
	uint32_t k;

	while (!shared->stop) {
		k = (uint32_t)lib_random_below(KEYS);
		transport = lib_random_below(4) == 0 ? DIRECTORY_MQTT : DIRECTORY_WS;
		mine->key = k;
		mine->busy = 1;
		if (lib_random_below(2) == 0)
			try_claim(shm, k, transport);
		else
			try_release(shm, k, transport);
		mine->busy = 0;
		join_and_leave(shm, (uint32_t)lib_random_below(TOPICS));
		shared->ops[mine - shared->in_flight]++;
	}
}

static void
check_forgotten(struct shm *shm, unsigned slot)
{
	uint32_t i;

	for (i = 0; i < TOPICS; i++) {
		EXPECT((topics_slots(shm, topic(i)) & (uint64_t)1 << slot) == 0,
		    "topic %u knows dead slot %u", i, slot);
	}
}

struct stock {
	uint32_t entries;
	uint8_t seen[KEYS];
	uint64_t standing[KEYS];	/* claims that stand */
};

static void
take_stock(void *arg, struct hash128 device, const struct directory_view *v)
{
	struct stock *s = arg;
	uint32_t k = (uint32_t)~device.hi;
	int t;

	s->entries++;
	must(k < KEYS);
	EXPECT(s->seen[k]++ == 0, "device %u twice", k);
	check_view(v, k);
	for (t = 0; t < DIRECTORY_TRANSPORTS; t++) {
		if (v->ref[t] == REF_NONE)
			continue;
		EXPECT(shared->ended[v->ref[t]] == 0, "%llu has ended and stands",
		    (unsigned long long)v->ref[t]);
		shared->ended[v->ref[t]] = 2;
	}
}

static void
check_claims(struct shm *shm, uint64_t *untold_used)
{
	uint32_t untold[KEYS], position = 0;
	struct directory_view v;
	struct stock stock;
	uint64_t ref;

	memset(&stock, 0, sizeof(stock));
	do
		directory_walk(shm, &position, 64, take_stock, &stock);
	while (position != 0);
	EXPECT(stock.entries == directory_count(shm), "%u walked, %u counted", stock.entries,
	    directory_count(shm));
	for (uint32_t k = 0; k < KEYS; k++)
		EXPECT(directory_find(shm, key(k), &v) == stock.seen[k], "device %u", k);
	memcpy(untold, shared->untold, sizeof(untold));
	for (ref = 1; ref < shared->tickets; ref++) {
		if (!shared->claimed[ref] || shared->ended[ref] != 0)
			continue;
		/*
		 * Claimed, nobody was told that it ended, and it does not stand: one that died
		 * ended it.
		 */
		EXPECT(untold[shared->key_of[ref]] > 0, "%llu of device %u is lost",
		    (unsigned long long)ref, shared->key_of[ref]);
		untold[shared->key_of[ref]]--;
		++*untold_used;
	}
}

int
main(void)
{
	struct shm_sizes sizes = { .slots = WORKERS, .devices = 64, .commands = 16, .topics = 256, .limits = 16,
	    .mailbox_bytes = 4096, .counters = 1 };
	uint64_t untold = 0, ops = 0;
	unsigned kills, i, slot;
	pid_t pid[WORKERS];
	struct shm *shm;

	lib_start("shm/tables", 300);
	kills = lib_kills(200);
	shm = shm_create(&sizes);
	must(shm != NULL);
	shared = lib_share(sizeof(*shared));
	shared->tickets = 1;
	for (i = 0; i < WORKERS; i++)
		pid[i] = lib_spawn(shm, i, work, &shared->in_flight[i]);
	for (i = 0; i < kills && shared->tickets < MOST_CLAIMS / 2; i++) {
		lib_pause_us((unsigned)lib_random_below(4000));
		slot = (unsigned)lib_random_below(WORKERS);
		lib_kill(shm, slot, pid[slot]);
		if (shared->in_flight[slot].busy)
			shared->untold[shared->in_flight[slot].key]++;
		shared->in_flight[slot].busy = 0;
		check_forgotten(shm, slot);
		pid[slot] = lib_spawn(shm, slot, work, &shared->in_flight[slot]);
	}
	EXPECT(i == kills, "only %u kills", i);
	shared->stop = 1;
	for (i = 0; i < WORKERS; i++) {
		EXPECT(lib_reap(shm, i, pid[i]) == 0, "worker %u", i);
		check_forgotten(shm, i);
		ops += shared->ops[i];
	}
	EXPECT(topics_count(shm) == 0, "%u topics are left", topics_count(shm));
	check_claims(shm, &untold);
	printf("%u killed, %llu rounds, %llu claims, %llu refused, %llu ended untold by the dead\n",
	    kills, (unsigned long long)ops, (unsigned long long)shared->tickets - 1,
	    (unsigned long long)shared->refused, (unsigned long long)untold);
	shm_free(shm);
	return lib_end();
}
