/*
 * db.h: the store: one small interface over engines.
 *
 * Callers see structs, 64-bit times in milliseconds and 16-byte ids, and
 * never SQL.  A process opens its handle after its fork: a handle is never
 * carried across fork().  A store has one writer and any number of readers.
 *
 * Every operation returns an enum db_result.  After DB_FAILED the transaction
 * can't be committed: the caller rolls back and refuses or keeps what it ran
 * (db_error() says why), or runs it again.  A commit that is DB_FAILED, and not
 * DB_UNCERTAIN, did not happen.  An engine that lost its connection makes a new
 * one with the next operation outside of a transaction.  Texts that come back point into the `text` buffer of
 * the struct that holds them; those of a list are the page's (struct db_page).
 */
#ifndef BELAY_DB_DB_H
#define BELAY_DB_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/slice.h"
#include "base/uuid.h"

enum db_result {
	DB_OK,
	DB_NONE,		/* there is no such row (or nothing was changed) */
	DB_EXISTS,		/* it is there already; nothing was changed */
	DB_FAILED,
	/* Of engines alone: DB() gives DB_FAILED for them, and whoever ends the transaction asks db_failure(). */
	DB_AGAIN,		/* the engine gave the transaction up (a deadlock, a lock's time-out): run it again */
	DB_UNCERTAIN		/* of commit: its answer was lost; it may have happened or happen yet: meta_settled */
};

#define USAGE_ROW 100		/* a row counts for so many bytes more than its texts: see usage_keep */
#define DB_TRANSPORTS 2		/* 0 WebSocket, 1 MQTT, as in shm/directory.h */

struct db_device {
	int64_t pk, tenant_pk;
	struct slice tenant, id, owner;
	uint8_t online;			/* bit per transport */
	int64_t epoch;			/* of the newest connection */
	int64_t epoch_of[DB_TRANSPORTS];
	/* reference of the holder; means nothing after the instance ended */
	uint64_t conn[DB_TRANSPORTS];
	int64_t since, last_seen;
	struct slice gone_reason;	/* of one that is online: its connection was lost for this reason */
	struct slice audience;		/* msg/audience.h */
	int64_t created_at, updated_at, state_at;
	struct slice type, name;
	struct slice state_json;	/* empty: never told */
	struct slice tags_json, metadata_json, settings_json;
	bool whole;			/* everything from created_at on was read too */
	struct buf text;
};

enum db_permission { DB_VIEW, DB_CONTROL, DB_ADMIN };	/* as AUDIENCE_VIEW … */

struct db_share {
	struct slice user;
	enum db_permission permission;
	int64_t expires_at;		/* 0: never */
	struct slice commands_json;	/* array of names; empty: any command */
	int64_t created_at;
	struct buf text;
};

enum command_status {
	COMMAND_QUEUED, COMMAND_SENT, COMMAND_ACCEPTED,
	COMMAND_EXECUTED, COMMAND_FAILED, COMMAND_TIMEOUT, COMMAND_EXPIRED, COMMAND_CANCELLED
};
enum command_outcome { OUTCOME_NOT_SENT, OUTCOME_UNCONFIRMED, OUTCOME_CONFIRMED };

/* Names a command.  Numbers are more than 0 and grow in the order in which a device's commands were accepted. */
struct db_command_key {
	int64_t device_pk, number;
};

struct db_command {
	/*
	 * Those of its key.  The number alone names nothing: an engine may count for each device.  SQLite gives its
	 * row's number, which grows over all devices, since appended rows cost less than rows by device.
	 */
	int64_t device_pk, number;
	uint8_t id[UUID_LEN];
	enum command_status status;
	enum command_outcome outcome;
	bool open;			/* the device may still tell us its result */
	bool late;
	int64_t attempt;		/* how often it was sent */
	int64_t sent_epoch;		/* connection that it was sent to last */
	int64_t created_at, sent_at, accepted_at, finished_at;
	int64_t timeout_ms, queue_ms;
	int64_t queue_until;		/* wall clock; 0: it may not wait */
	uint64_t asker;			/* reference of the connection that asked and follows; 0: nobody follows … */
	int64_t asker_boot;		/* … and which run of which instance was asked: its clock is queue_until's */
	uint8_t role;			/* of who asked: enum role of auth/identity.h */
	struct slice command, requested_by;
	struct slice cancelled_by;	/* empty: nobody did */
	struct slice params_json, only_if_json;	/* only_if empty: no condition */
	struct slice trace_json;	/* elements, joined by commas */
	struct slice result_json, error_json;	/* empty: null */
	struct buf text;
};

struct db_event {
	int64_t seq;			/* its place among those of its tenant: 1, 2, 3 … */
	uint8_t id[UUID_LEN];
	int64_t tenant_pk, device_pk;
	struct slice device;		/* read only; EVENT_LISTED */
	int64_t epoch, at;
	int64_t received_at;		/* by the server's clock: from then on it is kept */
	/* data_json that is all of the payload's end but its last byte is stored once */
	struct slice event, actor, data_json;
	/* What was published of it, type empty: nothing was kept of that; and who may see that. */
	struct slice type, payload;
	size_t payload_len;		/* read only, also where the payload is not given */
	uint8_t admins;			/* enum publish_admins of msg/msg.h */
	struct slice user;		/* not empty: it is for that user alone */
};

/* A message of telemetry. */
struct db_sample {
	int64_t seq;			/* read only: order of arrival */
	int64_t device_pk;
	struct slice tenant, device;	/* written only: whose number it was when the sample was taken */
	int64_t received_at;		/* by the server's clock: from then on it is kept */
	int64_t at, epoch;		/* at: as the device said, any time */
	struct slice data_json;
};

enum visitor_status { VISITOR_PENDING, VISITOR_APPROVED, VISITOR_DENIED };

struct db_visitor {
	int64_t pk;
	uint8_t id[UUID_LEN];
	int64_t tenant_pk, device_pk;
	struct slice device;		/* read only */
	enum visitor_status status;
	int64_t created_at, decided_at;
	struct slice decided_by;
	bool has_command;
	uint8_t command_id[UUID_LEN];
	struct slice name, snapshot_url, data_json;	/* empty: null */
	struct buf text;
};

struct db_ticket {
	int64_t until, expires_at;
	uint8_t role;
	bool any_tenant;
	struct slice tenant, user, role_name;
	struct buf text;
};

/* Whose devices: all of the tenant, or those that the user owns or has a share of. */
struct db_scope {
	int64_t tenant_pk;
	bool all;
	struct slice user;
	int64_t now;			/* shares that ended before do not count */
};

struct db_device_filter {
	struct db_scope scope;
	int online;			/* -1: either */
	/* empty: any; q: part of id or name, without regard to ASCII case */
	struct slice type, tag, q;
	struct slice after_id;		/* in the order of ids; empty: from the first */
};

/* What of an event is read: what lists show (no payload); what was published; who may see it, and how large it is. */
enum db_event_part { EVENT_LISTED, EVENT_PUBLISHED, EVENT_HEAD };

struct db_event_filter {
	struct db_scope scope;
	int64_t device_pk;		/* 0: all of the scope */
	struct slice event;		/* empty: any */
	int64_t since, until;		/* 0: open; since inclusive, until exclusive */
	enum db_event_part part;
	int64_t before_seq;		/* 0: from the newest, downwards */
	int64_t after_seq;		/* with ascending: upwards from there */
	bool ascending;
};

struct db_sample_filter {
	int64_t device_pk;
	int64_t since, until;		/* of at; 0: open; since inclusive, until exclusive */
	int64_t before_at, before_seq;	/* downwards from there; before_seq 0: from the newest */
};

struct db_visitor_filter {
	struct db_scope scope;
	int status;			/* -1: any */
	int64_t before_pk;		/* 0: from the newest */
};

/* How many devices of a tenant are of a type. */
struct db_type {
	struct slice type;
	int64_t count;
};

/*
 * A page of a list: rows that were copied, with their texts, so that nothing of the store is open while the caller
 * acts on them.  It begins behind the key that the operation is given; where `more` is set, the next page begins
 * behind `last`.  A page is used again and again, each time with what the caller wants set anew by db_page_want().
 */
struct db_page {
	/* What is wanted.  The page ends before a row that is beyond one of these. */
	unsigned rows;			/* more than 0 */
	size_t bytes;			/* of texts before that row, so that one row always finds room */
	unsigned looks;			/* rows looked at, given or not: few may be hidden behind many; 0: any number */
	unsigned us;			/* from the first row on, about; 0: as long as it takes */
	/* What came of it. */
	void *row;			/* owned: an array of the operation's struct */
	unsigned count;
	unsigned looked;		/* rows */
	bool more;			/* there may be more rows */
	int64_t last;			/* the number of the row looked at last, 0: none was; of lists in the order … */
	struct buf last_text;		/* owned: … of a text that text, empty: none was */
	/* page.c's own */
	size_t row_cap;			/* bytes */
	struct db_texts *texts;		/* owned */
	size_t texts_len;
	int64_t until_us;		/* monotonic; 0 before the first row */
};
#define DB_PAGE_BYTES (256u << 10)	/* what is read at once by who has no other bound */

/* Forgets what came, and wants so many rows, of DB_PAGE_BYTES; other bounds are off. */
void db_page_want(struct db_page *page, unsigned rows);
void db_page_fini(struct db_page *page);

/* Does the event pass the filter's event, since and until? */
static inline bool
db_event_passes(const struct db_event_filter *f, const struct db_event *e)
{
	return (f->event.len == 0 || slice_eq(e->event, f->event)) && (f->since == 0 || e->at >= f->since) &&
	    (f->until == 0 || e->at < f->until);
}

struct db_stats {
	int64_t total, owned, online;
	int64_t mqtt;			/* of those online: by MQTT and not by WebSocket */
};

/* What goes when it is old: by when it came, was deleted (DEVICES), or ends (KEYS, TICKETS). */
enum db_kept {
	KEPT_EVENTS,
	KEPT_COMMANDS,			/* by when they ended; open ones stay */
	KEPT_OPEN,			/* commands that timed out before: no result is waited for any more */
	KEPT_VISITORS,
	KEPT_KEYS,			/* idempotency keys */
	KEPT_TICKETS,
	KEPT_DEVICES,
	KEPT_KINDS
};

struct db;

struct db_ops {
#define OP(name, ...) enum db_result (*name)(struct db *db, ##__VA_ARGS__);
#include "db/ops.def"
#undef OP
	const char *(*error)(struct db *db);
	void (*close)(struct db *db);
};

/* What every engine's own struct begins with. */
struct db {
	const struct db_ops *ops;
	enum db_result failure;		/* the gravest since db_failure() asked last; DB_OK: none */
	struct tenants *tenants;	/* tenants.c's, owned; NULL: nothing is remembered */
	enum db_kept retaining;		/* retain.c: the kind that is at work */
};

static inline enum db_result
db_seen(struct db *db, enum db_result result)
{
	if (result < DB_FAILED)
		return result;
	if (result > db->failure)
		db->failure = result;
	return DB_FAILED;
}

#define DB(db, op, ...) db_seen((db), (db)->ops->op((db), ##__VA_ARGS__))

/* What kind of failure there was since this was asked last: DB_OK, DB_FAILED, DB_AGAIN or DB_UNCERTAIN. */
static inline enum db_result
db_failure(struct db *db)
{
	enum db_result failure = db->failure;

	db->failure = DB_OK;
	return failure;
}

/* 0, or -1 with a sentence, which never quotes the URL: it may hold a password. */
int db_check_url(const char *url, char *why, size_t len);
/*
 * Makes the folders that are missing on the way to the store's file, if its URL names one, and gives them
 * to that user: for a caller who may, on behalf of a process that may not.  0, or -1 with a sentence in err.
 */
int db_make_folders(const char *url, unsigned uid, unsigned gid, char *err, size_t errlen);
/*
 * The place of a store that ends with the instance (place.h).  The master makes the place for the user of the workers
 * ((unsigned)-1: its own) before it forks, and removes the place when they are gone.  1: made; 0: this store needs
 * none; -1 with a sentence in err.
 */
int db_arrange(const char *url, unsigned uid, unsigned gid, char *err, size_t errlen);
void db_clear_away(void);

enum {
	DB_READER = 1,
	/* of an engine, not for callers */
	DB_FILE = 2,			/* the URL names a file */
	DB_TEMPORARY = 4		/* the store lies in the instance's place and is never synced */
};
/*
 * "sqlite:///path", or "memory:" after db_arrange().  The writer (no flags) creates the file (mode 0600) and its
 * folders (0750), and brings the schema up to date.  A file that another writer has open is waited for, 6 s, and
 * then refused.
 *
 * DB_READER: for operations that only read; those that write are DB_FAILED, begin() begins a snapshot.  Never
 * migrates and never makes check-points.  The writer waits for a reader in one case alone: a writer was killed, and
 * the reader is the first to put the file's log in order, which takes milliseconds.  A file that is not there, or
 * whose schema is not up to date (yet), is refused at once.
 *
 * NULL with a sentence in err, which never holds a password.
 */
struct db *db_open(const char *url, unsigned flags, char *err, size_t errlen);
void db_close(struct db **db);
/* The number of a tenant; create: made when it is not there, else DB_NONE. */
enum db_result db_tenant(struct db *db, struct slice name, bool create, int64_t *pk);
/*
 * What is too old goes, at most limit rows of a kind; *more: there may be more.  keep_after: what is older is too old,
 * of what is kept for a time; now: what has ended by then goes.  Inside a transaction.
 */
enum db_result db_retain(struct db *db, int64_t now, int64_t keep_after, unsigned limit, bool *more);
/*
 * A page of struct db_sample: the newest first, by the time that the device told; among those of one time by arrival.
 * The next page begins behind the last row's at and seq.
 */
enum db_result db_samples(struct db *db, const struct db_sample_filter *filter, struct db_page *page);
/*
 * The store is as it was at an earlier time: from a backup.  Cursors of what came after that are to be none, and
 * epochs to go on above all that were given: makes a new key of cursors, and a floor under epochs, in a transaction of
 * its own.
 */
enum db_result db_restored(struct db *db);
/* Numbers in the store: the key of cursors, made where it is missing; no epoch is given at or below the floor. */
#define DB_CURSOR_KEY_0	"cursor_key_0"
#define DB_CURSOR_KEY_1	"cursor_key_1"
#define DB_EPOCH_FLOOR	"epoch_floor"

/* The disk, or memory, under a store's file. -1: it has no bound, or can't be asked. */
struct db_space {
	const char *path;		/* of the store's file; borrowed */
	int64_t free, size;		/* bytes; free: for this process */
};
int db_space(const char *url, struct db_space *out);
static inline const char *db_error(struct db *db) { return db->ops->error(db); }

/* Engines: what they open, and the flags above. */
struct db *db_sqlite_open(const char *path, unsigned flags, char *err, size_t errlen);

/* Appends the event's texts to the buffer.  They can be used again once db_events_point() was called. */
void db_event_copy(struct buf *text, struct db_event *e);
/* Points the texts of n events to the buffer, which holds these and no others, in that order. */
void db_events_point(const struct buf *text, struct db_event *events, size_t n);

void db_device_fini(struct db_device *d);
void db_share_fini(struct db_share *s);
void db_command_fini(struct db_command *c);
void db_visitor_fini(struct db_visitor *v);
void db_ticket_fini(struct db_ticket *t);

#endif
