/*
 * storage.h: the state of the storage process and what its files offer each other.
 *
 * Every operation runs inside a batch (batch.c): it reads and writes the
 * store, and whatever must follow (records to other processes, entries of the
 * pending table) is only noted; it is carried out after the commit.
 *
 * Operations return an enum db_result: DB_FAILED spoils the batch, anything
 * else means that they came to an end and answered.
 */
#ifndef BELAY_STORAGE_STORAGE_H
#define BELAY_STORAGE_STORAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/identity.h"
#include "base/block.h"
#include "base/buf.h"
#include "base/stats_names.h"
#include "db/db.h"
#include "msg/audience.h"
#include "msg/error.h"
#include "msg/msg.h"
#include "shm/directory.h"
#include "shm/pending.h"
#include "shm/ref.h"
#include "storage/batch.h"
#include "storage/tally.h"
#include "workers/role.h"

#define COMMAND_QUEUE_MAX	1000		/* commands waiting for one device */
#define COMMAND_ATTEMPTS	5		/* how often one is sent to a device that says it never got it */
#define RECONCILE_MAX		1000
#define RECONCILE_AGE_MS	(24 * 3600 * INT64_C(1000))
#define IDEMPOTENCY_MS		(24 * 3600 * INT64_C(1000))
#define QUEUE_MAX_MS		(30 * 24 * 3600 * INT64_C(1000))
#define COMMAND_TIMEOUT_DEFAULT_MS 30000
/* What a store that failed must take to be believed again: more than a record. */
#define PROBE_BYTES		131072
#define PRESENCE_GRACE_MS	5000		/* for devices whose process died */

struct storage {
	struct worker *w;
	struct shm *shm;
	const uint8_t *key;		/* of all shared hashes */
	struct db *db;
	struct block_key *cursor_key;	/* owned; of the store: cursor.c */
	char instance[256];
	int64_t boot;			/* tells runs of an instance apart; never 0 */
	bool members_view;		/* auth.tenant_members = view */
	int64_t retention_ms;
	int64_t telemetry_retention_ms;	/* 0: none is stored */
	int64_t suspect_ms;		/* silence after which a connected device is suspect */
	int64_t now;			/* wall clock, of this batch */
	int64_t mono;			/* monotonic, of this batch */
	/* wall.c: how far the wall clock is ahead of the clock that nobody sets, in ms */
	struct {
		int64_t mono_ahead;	/* of the monotonic one; steady while nobody sets it */
		int64_t ahead;		/* when `now` was read … */
		int64_t followed;	/* … when the store was last moved along … */
		int64_t began;		/* … and when this run of the instance began */
		int64_t first_pk;	/* open commands up to here are of earlier runs */
	} wall;

	struct batch batch;
	struct tallies tallies;

	/* The record being run: what makes its events' ids the same when it is read again. */
	struct {
		uint64_t position;
		uint64_t end;		/* where it ends in the mailbox, which goes on for ever */
		int64_t posted_us;	/* 0: no record is being run */
		unsigned events, samples;
		bool again;		/* a predecessor may have run it already */
	} record;
	/* position in the mailbox: what is before may be known already */
	uint64_t again_until;
	struct recent *recent;		/* event.c; NULL unless records may be read again */

	/* One of each for the whole process: used up within an operation. */
	struct db_device device;
	struct db_command command;
	struct db_share share;
	struct db_visitor visitor;
	struct buf json;		/* payloads and bodies */
	struct buf event_json;		/* data of events */
	struct buf text;		/* decoded queries and the like */
	struct buf cursor;		/* of what is being told */
	struct buf trace;		/* of the command being changed */
	struct buf pack;		/* a record */

	/* Telemetry that waits to be written (sample.c). */
	struct samples {
		struct buf waiting;	/* struct waiting and its texts, again and again */
		size_t read;		/* of it: written */
		unsigned count;
		/* the last one written, of this run of the instance */
		struct sample_mark {
			uint64_t end;	/* of its record … */
			unsigned nth;	/* … and which of that record's it is, from 1 */
		} mark;
		struct db_sample *step;	/* owned array: those being written */
	} samples;

	/* wall clock when the next queued command expires; 0: none, -1: look */
	int64_t queue_next;

	/* Commands for which memory.commands had no room: the store alone knows their deadlines. */
	struct roomless {
		bool any;
		int64_t at;		/* last command looked at */
		bool seen;		/* one that waits still, in this walk */
		int64_t logged_mono;
	} roomless;

	struct presence_sweep {
		uint32_t deaths_seen;
		uint16_t generation[SHM_MAX_SLOTS];
		/* when a slot's process was seen to be another */
		int64_t lost_mono[SHM_MAX_SLOTS];
		int64_t directory_due;	/* monotonic; 0: no walk wanted */
		uint32_t directory_at;
		bool walking;
		int64_t rows_due;	/* monotonic; 0: done */
		int64_t rows_at;	/* last device looked at */
		const char *rows_reason;
	} sweep;
	struct retention {
		int64_t next_mono;
	} retention;
	int64_t failed_logged_mono;	/* when a failing store was last told of */
	bool failing;
	bool drain;
	int64_t drain_deadline;
};

static inline struct storage *
storage_of(struct worker *w)
{
	return w->data;
}

#define storage_count(s, counter, n) worker_count((s)->w, STAT_##counter, (n))

/* The expression failed: so did we. */
#define TRY(expression) do { \
	if ((expression) == DB_FAILED) \
		return DB_FAILED; \
} while (0)

/*
 * storage.c: has whoever asked at that time (monotonic) given up, or will have before an answer arrives?  Its
 * client is told then that it did not happen, so it must not.
 */
bool storage_too_late(const struct storage *s, int64_t asked_ms);

/* access.c */
enum access { ACCESS_NONE = -1, ACCESS_VIEW, ACCESS_CONTROL, ACCESS_ADMIN, ACCESS_OWNER };

struct requester {
	enum role role;
	struct slice tenant, user;
};
enum access access_level(const struct storage *s, const struct requester *who,
    const struct db_device *d);
/* May this command be sent?  *may is set; a share can be limited to some commands. */
enum db_result access_command(struct storage *s, const struct requester *who,
    const struct db_device *d, struct slice command, bool *may);
/* The devices that lists show. */
enum db_result access_scope(struct storage *s, const struct requester *who, struct db_scope *scope);
bool access_sees_all(const struct storage *s, const struct requester *who);

/* reply.c */
void reply_json(struct storage *s, uint64_t request, uint64_t ref, unsigned http_status,
    struct slice body);
/* The answer is what became of it, and the event seq (0: none) says so to others. */
void reply_event(struct storage *s, uint64_t request, uint64_t ref, struct slice body, int64_t tenant_pk, int64_t seq);
/* Where request is 0 the refusal is told all the same: ref names the device's connection that said it without an id. */
void reply_error(struct storage *s, uint64_t request, uint64_t ref, enum error_code code,
    const char *field, const char *message);

/* cursor.c: numbers of the store as clients see them */
enum cursor_kind {
	CURSOR_NONE, CURSOR_EVENT, CURSOR_COMMAND, CURSOR_VISITOR, CURSOR_SAMPLE, CURSOR_SAMPLE_AT
};
/* Reads the store's key, or makes it. */
enum db_result cursor_start(struct storage *s);
void cursor_stop(struct storage *s);
/* Appends it: 22 characters of base64url.  place: above 0. */
void cursor_put(struct storage *s, struct buf *b, enum cursor_kind kind, int64_t tenant_pk, int64_t place);
/* false: not a cursor of that kind, tenant and store. */
bool cursor_get(struct storage *s, struct slice text, enum cursor_kind kind, int64_t tenant_pk, int64_t *place);
/* The place of stored telemetry, which is in the order of two numbers: 44 characters. */
void cursor_put_sample(struct storage *s, struct buf *b, int64_t tenant_pk, int64_t at, int64_t seq);
bool cursor_get_sample(struct storage *s, struct slice text, int64_t tenant_pk, int64_t *at, int64_t *seq);

/* publish.c */
struct publication {
	struct slice tenant, device;	/* device empty: filters do not apply */
	int64_t tenant_pk;		/* where seq is not 0 */
	struct slice audience;
	enum publish_admins admins;
	const char *type;
	struct slice payload;
	int64_t seq;			/* of the event; 0: not a stored one */
	bool conflated;			/* telemetry: may be left out */
	enum publish_to to;
	uint64_t ref, request;
};
void publish(struct storage *s, const struct publication *p);
void publish_device(struct storage *s, const struct db_device *d, const char *type,
    struct slice payload, int64_t seq);
/* To a user of the device's tenant, of whatever rights. */
void publish_to_user(struct storage *s, const struct db_device *d, struct slice user, const char *type,
    struct slice payload, int64_t seq);

/* json_out.c: objects as belay-protocol(7) and belay-api(7) have them */
void json_device(struct storage *s, struct buf *b, const struct db_device *d);
void json_presence(struct storage *s, struct buf *b, const struct db_device *d);
/* "online", "suspect", "offline" or "unknown" */
const char *json_presence_status(const struct storage *s, const struct db_device *d);
void json_command(struct buf *b, const struct db_command *c, struct slice device);
void json_event(struct storage *s, struct buf *b, const struct db_event *e);
/* The payload of telemetry, live and stored. */
void json_sample(struct buf *b, const struct db_sample *v, struct slice device);
void json_visitor(struct buf *b, const struct db_visitor *v, struct slice device);
void json_share(struct buf *b, const struct db_share *share);
const char *command_status_name(enum command_status status);
const char *permission_name(enum db_permission permission);
const char *transport_name(unsigned transport);

/* live.c: payloads of what is told of events; each replaces what is in b */
void live_connection(struct buf *b, struct slice device, int64_t epoch, const char *transport, int64_t at,
    struct slice reason);
void live_report(struct buf *b, struct slice device, int64_t epoch, struct slice event, int64_t at,
    struct slice data_json);
void live_share(struct buf *b, struct slice device, struct slice permission, struct slice by);

/* event.c */
/* Stores an event of a device; *seq may be NULL.  A record that is read again finds its event. */
enum db_result event_store(struct storage *s, const struct db_device *d, const char *event,
    int64_t epoch, int64_t at, struct slice actor, struct slice data_json, int64_t *seq);
/* Remembers the newest events, for records that a predecessor may have run; and no longer. */
enum db_result event_recall(struct storage *s);
void event_forget(struct storage *s);
/* Stores it and publishes it as device_event. */
enum db_result event_tell(struct storage *s, const struct db_device *d, const char *event,
    struct slice actor, struct slice data_json);

/*
 * The device that a gateway's record is about, into s->device; DB_NONE: it was deleted (or its number is another's by
 * now: `memory:` begins anew with each process).
 */
enum db_result storage_device(struct storage *s, int64_t pk, struct slice tenant, struct slice id);

/* directory */
struct hash128 storage_device_key(const struct storage *s, const struct db_device *d);
/* When the device was last heard, as the wall clock has it now. */
int64_t storage_seen_at(const struct storage *s, const struct directory_view *v);
/* Where to send to: the live transport, WebSocket first.  false: offline. */
bool storage_route(const struct storage *s, const struct db_device *d, uint64_t *ref,
    int64_t *epoch, int64_t *last_seen);

/* device_auth.c, presence.c */
enum db_result device_auth(struct storage *s, const struct msg_device_auth *m);
enum db_result token_check(struct storage *s, const struct msg_token_check *m);
enum db_result device_gone(struct storage *s, const struct msg_device_gone *m);
/*
 * The device's connection is over: event, publication, directory.  DB_NONE: it was over already, or
 * another holds it.
 */
enum db_result presence_end(struct storage *s, const struct db_device *d, unsigned transport,
    int64_t epoch, uint64_t ref, int64_t at, int64_t last_seen, struct slice reason);
/*
 * Ends all connections of a device whose credentials are revoked: kicks with 4011.  asked_ms: when
 * that was asked for, monotonic.
 */
enum db_result presence_revoke(struct storage *s, const struct db_device *d, const char *reason,
    int64_t asked_ms);
/*
 * Nothing can be written to this connection.  Had its end not been lost, with a storage process or
 * on a full mailbox, the directory would not name it any more: it ends now.
 */
enum db_result presence_stale(struct storage *s, const struct db_device *d, uint64_t ref);
enum db_result presence_tick(struct storage *s);
void presence_start(struct storage *s, bool instance_began);

/* report.c */
enum db_result device_report(struct storage *s, const struct msg_device_report *m);

/* sample.c: telemetry that is to be stored: it is written behind everything else, and may be lost */
enum db_result sample(struct storage *s, const struct msg_sample *m);
/* Notes it, to be taken after the commit.  It is not stored twice when its record is read again. */
void sample_note(struct storage *s, const struct db_sample *v);
void sample_take(struct storage *s, struct slice noted);
/* One is lost with the batch that its record was in. */
void sample_refuse(struct storage *s);
/*
 * These write what waits, in batches of their own; none may be open.  A step of it, if there is
 * one; all, as long as no mail comes; all, before the process ends in order.
 */
void sample_write_many(struct storage *s);
void sample_write(struct storage *s);
void sample_drain(struct storage *s);
int sample_start(struct storage *s);			/* -1: the store failed */
/* The instance began: what was marked as written last was in the mailbox of another. */
enum db_result sample_unmark(struct storage *s);
void sample_fini(struct storage *s);

/* command.c: the state machine */
/* Adds a step to the trace of a command that is about to be stored. */
void command_trace(struct storage *s, struct db_command *c, const char *step);
/*
 * Stores a change of state, its event and its publication.  d may be NULL when the device was
 * deleted.
 */
enum db_result command_move(struct storage *s, const struct db_device *d, struct db_command *c,
    enum command_status to, const char *step);
/* The same; `told` is a connection that is answered otherwise, with the event (0: none). */
enum db_result command_move_telling(struct storage *s, const struct db_device *d, struct db_command *c,
    enum command_status to, const char *step, uint64_t told, int64_t *seq);
/* A new or queued command goes to the device's connection. `fresh`: it is not stored yet. */
enum db_result command_send(struct storage *s, const struct db_device *d, struct db_command *c,
    bool fresh, uint64_t request, uint64_t ref, int64_t epoch);
/* Posts it (again) as it stands. */
void command_post(struct storage *s, const struct db_device *d, const struct db_command *c,
    uint64_t ref);
void command_publish(struct storage *s, const struct db_device *d, const struct db_command *c,
    int64_t seq, uint64_t request);
/* Gives it to its asker alone. */
void command_answer(struct storage *s, const struct db_device *d, const struct db_command *c,
    uint64_t ref, uint64_t request);
bool command_is_final(enum command_status status);
/*
 * Bytes that params, onlyIf, result and error of a command may have together: it is one record, a quarter of a mailbox,
 * with its trace and its viewers.
 */
size_t command_room(const struct storage *s);
void command_set_error(struct db_command *c, struct buf *b, const char *code, const char *message);

/* command_new.c */
struct command_order {
	struct requester who;
	uint64_t request, ref;		/* 0: nobody waits for it */
	bool follows;			/* ref is told of every later change, too */
	const uint8_t *id;
	int64_t timeout_ms, queue_ms;
	struct slice command, params_json, only_if_json, idempotency_key;
	bool store_unsent;		/* offline and not to be queued: is stored as expired */
};
enum db_result command_new(struct storage *s, const struct msg_command_new *m);
/* d was looked up and the right to send was checked.  Answers nobody when order->request is 0. */
enum db_result command_order(struct storage *s, const struct db_device *d,
    const struct command_order *order);

/* command_queue.c */
/* Sends all that waits for the device, in order, if it is connected. */
enum db_result command_pump(struct storage *s, const struct db_device *d);
enum db_result command_queue_tick(struct storage *s);
enum db_result command_cancel(struct storage *s, const struct msg_command_cancel *m);
enum db_result command_send_failed(struct storage *s, const struct msg_device_send_failed *m);

/* command_ack.c */
enum db_result command_ack(struct storage *s, const struct msg_command_ack *m);
/* The pending table took no entry for a command that was sent. */
void command_no_room(struct storage *s);
enum db_result command_deadlines(struct storage *s);

/* condition.c */
/* onlyIf: true when every condition is met.  `d` was read whole. */
bool condition_met(struct slice only_if_json, const struct db_device *d, int64_t last_seen,
    int64_t now);

/* rest*.c */
enum db_result rest(struct storage *s, const struct msg_rest *m);
enum db_result subscribe(struct storage *s, const struct msg_subscribe *m);

/* ticket.c */
enum db_result ticket_put(struct storage *s, const struct msg_ticket_put *m);
enum db_result ticket_take(struct storage *s, const struct msg_ticket_take *m);

/* visitor.c */
enum db_result visitor_new(struct storage *s, const struct msg_visitor_new *m);

/* resume.c */
enum db_result resume(struct storage *s, const struct msg_resume *m);

/* wall.c: the wall clock may be set while an instance runs */
void wall_read(struct storage *s);			/* now, mono and wall.ahead */
/* Before the mailbox is read.  newest_open_pk: of the commands that are open then. */
enum db_result wall_start(struct storage *s, int64_t newest_open_pk);
/* Moves along what waits when the clock was set, in a batch of its own; none may be open. */
void wall_follow(struct storage *s);
/* The wall clock as it would be had nobody set it in this run; the earlier one of that and `now`. */
int64_t wall_run_ms(const struct storage *s);
int64_t wall_earlier_ms(const struct storage *s);

/* recover.c, retention.c */
int recover(struct storage *s);				/* -1: the store failed */
enum db_result retention_tick(struct storage *s, bool idle);
/* There is something for it now. */
void retention_soon(struct storage *s);

#endif
