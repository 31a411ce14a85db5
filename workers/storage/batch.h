/*
 * batch.h: all records found at once are one transaction; what follows from them happens after its
 * commit.
 */
#ifndef BELAY_STORAGE_BATCH_H
#define BELAY_STORAGE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "db/db.h"
#include "shm/mailbox.h"
#include "shm/pending.h"

struct storage;

enum effect_kind {
	EFFECT_POST, EFFECT_PENDING_ADD, EFFECT_PENDING_REMOVE, EFFECT_RELEASE, EFFECT_SAMPLE,
	EFFECT_TALLY
};

/* Something to be done after the commit. */
struct effect {
	uint8_t kind;
	uint8_t slot;			/* POST */
	uint8_t state;			/* PENDING_ADD: enum pending_state; RELEASE: transport */
	uint16_t record;		/* POST: its kind; TALLY: enum tally_count */
	uint32_t event;			/* POST: whose cursor its last bytes are room for; 0: none's */
	uint32_t offset, len;		/* POST, SAMPLE: in batch.bytes */
	uint8_t id[16];			/* PENDING_… */
	struct hash128 device;
	int64_t deadline;		/* PENDING_ADD, monotonic */
	uint64_t ref;			/* RELEASE */
	int64_t tenant_pk, count;	/* TALLY */
};

/* A claim of the directory, which can't wait for the commit: how to take it back. */
struct claim {
	struct hash128 device;
	int64_t device_pk, old_epoch;
	uint64_t ref, old_ref;
	uint8_t transport;
};

struct batch {
	bool begun;			/* a transaction is open */
	bool failed;			/* nothing more is run; the batch will be rolled back */
	/* all records of the batch, in order; owned array, borrowed data */
	struct mail *mails;
	size_t mail_count, mail_cap;
	struct effect *effects;		/* owned */
	size_t effect_count, effect_cap;
	struct buf bytes;		/* of the records to post, and of samples */
	/* What happened, in order; those with a seq are stored.  Owned; event_texts: db_event_copy() */
	struct db_event *events;
	size_t event_count, event_cap;
	struct buf event_texts;
	struct claim *claims;		/* owned */
	size_t claim_count, claim_cap;
	/* records of failed batches that may not be lost, each a struct mail and its data */
	struct buf kept;
	size_t kept_count;
};

/* Before the first write of an operation. */
enum db_result batch_begin(struct storage *s);
/* One record of the mailbox: runs it, unless the batch failed already. */
void batch_run(struct storage *s, const struct mail *mail);
/*
 * Commits and carries out the effects; or rolls back, refuses what can be refused and keeps the
 * rest: false.
 */
bool batch_end(struct storage *s);
/* Runs what failed batches kept, one by one. */
void batch_retry(struct storage *s);
void batch_fini(struct batch *b);

/* Effects. */
void effect_post(struct storage *s, unsigned slot, uint16_t record, struct slice bytes);
/* event: as event_store() gave it; see desk.h, post_event. */
void effect_post_event(struct storage *s, unsigned slot, uint16_t record, struct slice bytes, unsigned event);
void effect_pending_add(struct storage *s, const uint8_t id[16], struct hash128 device,
    int64_t deadline_mono, enum pending_state state);
void effect_pending_remove(struct storage *s, const uint8_t id[16]);
/* See tally.h. */
void effect_tally(struct storage *s, int64_t tenant_pk, unsigned what, int64_t n);
void effect_release(struct storage *s, struct hash128 device, unsigned transport, uint64_t ref);
/* The parts joined are what sample_take() gets. */
void effect_sample(struct storage *s, const struct slice *parts, unsigned n);

/* Runs one record; in storage.c, by kind. */
enum db_result storage_dispatch(struct storage *s, const struct mail *mail);
/* Refuses a record with `unavailable`: true, or false when it is of a kind that must be kept. */
bool storage_refuse(struct storage *s, const struct mail *mail);

#endif
