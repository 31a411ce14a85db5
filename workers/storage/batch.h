/*
 * batch.h: all records found at once are one transaction; what follows from them happens after its
 * commit, whatever process carries it out.
 */
#ifndef BELAY_STORAGE_BATCH_H
#define BELAY_STORAGE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/stats_names.h"
#include "db/db.h"
#include "shm/directory.h"
#include "shm/mailbox.h"
#include "shm/pending.h"

struct msg_publish;
struct storage;

enum effect_kind {
	EFFECT_POST, EFFECT_PUBLISH, EFFECT_PENDING_ADD, EFFECT_PENDING_REMOVE, EFFECT_CLAIM, EFFECT_RELEASE,
	EFFECT_SAMPLE, EFFECT_TALLY,
	EFFECT_COUNT			/* the last ones of a batch */
};

/* What the end of a record that is posted is room for. */
enum effect_room {
	ROOM_NONE,
	ROOM_CURSOR,			/* an event's cursor, put in when the event has its place */
	ROOM_ENTRY			/* index and generation of the directory entry of the claim before it */
};

/*
 * Something to be done after the commit.  It lies in shared memory (shm/effects.h), with its bytes behind it, and
 * may be carried out by a successor, twice, and long after this process is gone.
 */
struct effect {
	uint32_t size;			/* with its bytes, to 8 */
	uint32_t len;			/* of its bytes: POST, PUBLISH, SAMPLE */
	uint8_t kind;
	/* POST, PUBLISH: enum effect_room; PENDING_ADD: enum pending_state; CLAIM, RELEASE: transport */
	uint8_t state;
	uint16_t record;		/* POST, PUBLISH: its kind; TALLY: enum tally_count; COUNT: which one */
	uint32_t event;			/* with ROOM_CURSOR: the event's number in the batch */
	/* POST: bitmap of receivers; PUBLISH: those of them who listen when it is told */
	uint64_t slots;
	uint64_t ref;			/* CLAIM, RELEASE */
	struct hash128 device;
	int64_t number;			/* PENDING_ADD: deadline, monotonic; CLAIM: epoch; TALLY, COUNT: how many */
	int64_t pk;			/* CLAIM: device; TALLY: tenant */
	uint8_t id[16];			/* PENDING_… */
};

/* A change of the directory that waits for the commit: what later records of the batch see. */
struct claim {
	struct hash128 device;
	int64_t epoch;
	uint64_t ref;			/* who holds it, or with `released` no longer does */
	uint8_t transport;
	bool released;
};

struct batch {
	bool begun;			/* a transaction is open */
	bool failed;			/* nothing more is run; the batch will be rolled back */
	int64_t commits;		/* number of the last transaction that was committed */
	unsigned tries;			/* how often it was run again */
	bool again;			/* the batch before was given up by the engine, too often or without records */
	int64_t settle_ms;		/* how long the store is asked what became of a commit */
	/* all records of the batch, in order; owned array, borrowed data */
	struct mail *mails;
	size_t mail_count, mail_cap;
	size_t effects_len;		/* bytes of effects, in shared memory */
	struct effect *last;		/* of them; NULL: none yet */
	/* What happened, in order; those with a seq are stored.  Owned; event_texts: db_event_copy() */
	struct db_event *events;
	size_t event_count, event_cap;
	struct buf event_texts;
	struct claim *claims;		/* owned */
	size_t claim_count, claim_cap;
	uint64_t counts[STAT_CELLS];	/* what it adds to each counter */
};

/* -1: the store failed.  Before anything else is read from it. */
int batch_start(struct storage *s);
/* Finishes what a predecessor had committed and not carried out. */
void batch_take_over(struct storage *s);
/* Before the first write of an operation. */
enum db_result batch_begin(struct storage *s);
/* One record of the mailbox: runs it, unless the batch failed already. */
void batch_run(struct storage *s, const struct mail *mail);
/*
 * Commits and carries out the effects; or rolls back, refuses what can be refused and keeps the
 * rest: false.  Its mail is consumed.  What the engine gave up is run again, if it was records: else it is the caller's
 * to do it again where s->batch.again says so.
 */
bool batch_end(struct storage *s);
/* So much is noted that no more should be run in this batch: steps end here, and go on in another. */
bool batch_is_large(const struct storage *s);
/* Runs what failed batches kept, one by one. */
void batch_retry(struct storage *s);
bool batch_has_kept(struct storage *s);
void batch_fini(struct batch *b);

/* The directory as it is with the changes of this batch: 1 found, 0 not. */
int batch_find(const struct storage *s, struct hash128 device, struct directory_view *out);

/* effect.c */
void effect_post(struct storage *s, unsigned slot, uint16_t record, struct slice bytes);
/* event: as event_store() gave it; see desk.h, post_event. */
void effect_post_event(struct storage *s, unsigned slot, uint16_t record, struct slice bytes, unsigned event);
void effect_publish(struct storage *s, const struct msg_publish *m, uint64_t slots, unsigned event);
/* Claims the device; the last 8 bytes of the record for the holder are room for the entry's index and generation. */
void effect_claim(struct storage *s, struct hash128 device, int64_t device_pk, unsigned transport, uint64_t ref,
    int64_t epoch, uint16_t record, struct slice bytes);
void effect_pending_add(struct storage *s, const uint8_t id[16], struct hash128 device,
    int64_t deadline_mono, enum pending_state state);
void effect_pending_remove(struct storage *s, const uint8_t id[16]);
/*
 * Adds to a counter, and a time to a histogram (enum stats_counter), when the batch is committed: what is rolled back
 * or run again counts once.
 */
void effect_count(struct storage *s, unsigned counter, uint64_t n);
void effect_observe(struct storage *s, unsigned histogram, uint64_t us);
/* See tally.h. */
void effect_tally(struct storage *s, int64_t tenant_pk, unsigned what, int64_t n);
void effect_release(struct storage *s, struct hash128 device, unsigned transport, uint64_t ref);
/* The parts joined are what sample_take() gets. */
void effect_sample(struct storage *s, const struct slice *parts, unsigned n);

/* The events have their places: records about them get their cursors. */
void effect_cursors(struct storage *s);
/* The last effects of the batch: what it counted. */
void effect_counts(struct storage *s);
/* All of them, of the batch of that number: len bytes of effects_data(). */
void effect_carry_out(struct storage *s, uint64_t number, size_t len);
/* What waits for full rings of others is tried again, and who missed something is told. */
void effect_flush(struct storage *s);

/* Steps at which a test kills the process. */
#ifdef STORAGE_TEST
extern void (*storage_test_hook)(const char *where);
#define STORAGE_POINT(where) do { if (storage_test_hook != NULL) storage_test_hook(where); } while (0)
#else
#define STORAGE_POINT(where) do { } while (0)
#endif

/* Runs one record; in storage.c, by kind. */
enum db_result storage_dispatch(struct storage *s, const struct mail *mail);
/* Refuses a record with `unavailable`: true, or false when it is of a kind that must be kept. */
bool storage_refuse(struct storage *s, const struct mail *mail);

#endif
