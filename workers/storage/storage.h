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

#include "base/buf.h"
#include "base/stats_names.h"
#include "msg/event.h"
#include "shm/pending.h"
#include "storage/batch.h"
#include "storage/quota.h"
#include "storage/flight.h"
#include "storage/tally.h"
#include "store/desk.h"
#include "ws/close.h"

#define COMMAND_QUEUE_MAX	1000		/* commands waiting for one device */
#define COMMAND_ATTEMPTS	5		/* how often one is sent to a device that says it never got it */
#define COMMAND_STEP		32		/* commands that one record changes at most */
#define RECONCILE_MAX		1000
#define RECONCILE_AGE_MS	(24 * 3600 * INT64_C(1000))
#define IDEMPOTENCY_MS		(24 * 3600 * INT64_C(1000))
#define QUEUE_MAX_MS		(30 * 24 * 3600 * INT64_C(1000))
#define COMMAND_TIMEOUT_DEFAULT_MS 30000
/* What a store that failed must take to be believed again: more than a record. */
#define PROBE_BYTES		131072
#define PRESENCE_GENERATIONS	8		/* of a slot, whose ends are told apart */

struct storage {
	struct desk desk;
	char instance[256];
	int64_t boot;			/* tells runs of an instance apart; never 0 */
	int64_t retention_ms;
	int64_t telemetry_retention_ms;	/* 0: none is stored */
	int64_t epoch_floor;		/* every new epoch is above it: db_restored() */
	int64_t return_ms;		/* for devices whose connection was lost with a process */
	/* wall.c: desk.ahead … */
	struct {
		int64_t followed;	/* … when the store was last moved along … */
		int64_t began;		/* … and when this run of the instance began */
	} wall;

	struct batch batch;
	struct tallies tallies;
	struct quota quota;
	struct flights flights;
	uint32_t in_flight;		/* limits.commands_in_flight */

	const struct mail *running;	/* the record being run */

	/* As those of the desk. */
	struct buf event_json;		/* data of events */
	struct buf trace;		/* of the command being changed */

	/* Telemetry that waits to be written (sample.c). */
	struct samples {
		struct buf waiting;	/* struct waiting and its texts, again and again */
		size_t read;		/* of it: written */
		unsigned count;
		struct db_sample *step;	/* owned array: those being written */
	} samples;

	bool more;			/* the duty that was run has more to do, in another batch */
	/* wall clock when the next queued command expires; 0: none, -1: look */
	int64_t queue_next;

	/* Commands for which memory.commands had no room: the store alone knows their deadlines. */
	struct roomless {
		bool any;
		struct db_command_key at;	/* of the last command looked at */
		bool seen;		/* one that waits still, in this walk */
		int64_t logged_mono;
	} roomless;

	struct presence_sweep {
		uint32_t deaths_seen;
		/* Of each slot: processes before this generation are known to be gone … */
		uint16_t generation[SHM_MAX_SLOTS];
		/* … each since then, monotonic, by its generation modulo PRESENCE_GENERATIONS */
		int64_t lost_mono[SHM_MAX_SLOTS][PRESENCE_GENERATIONS];
		int64_t directory_due;	/* monotonic: when the next walk is; 0: none is wanted */
		uint32_t directory_at;
		bool walking;
		int64_t rows_due;	/* monotonic; 0: done */
		int64_t rows_at;	/* last device looked at */
		const char *rows_reason;	/* where the row has none */
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

/* Of what is done already; what a transaction brings is counted when it is committed: effect_count(). */
#define storage_count(s, counter, n) worker_count((s)->desk.w, STAT_##counter, (n))

/*
 * storage.c: has whoever asked at that time (monotonic) given up, or will have before an answer arrives?  Its
 * client is told then that it did not happen, so it must not.
 */
bool storage_too_late(const struct storage *s, int64_t asked_ms);
/* The record being run goes on in a later batch: it is posted to storage itself. */
void storage_go_on(struct storage *s);

/* event.c */
/*
 * Stores an event of a device, at the end of the batch, with what is published of it: what->event, epoch, at (0:
 * now), actor, data_json, type, payload, admins, user.  *event: its number in the batch.
 */
enum db_result event_store(struct storage *s, const struct db_device *d, const struct db_event *what, unsigned *event);
/* Gives places to the events of the batch that have none: before its commit, and before something looks for them. */
enum db_result event_place(struct storage *s);
/* Stores it and publishes its payload as a message of that type to all who may view the device. */
enum db_result event_publish(struct storage *s, const struct db_device *d, const char *type,
    const struct db_event *what);
/* Stores it and publishes it as device_event. */
enum db_result event_tell(struct storage *s, const struct db_device *d, const char *event,
    struct slice actor, struct slice data_json);

/*
 * The device that a gateway's record is about, into s->device; DB_NONE: it was deleted.
 */
enum db_result storage_device(struct storage *s, int64_t pk, struct slice tenant, struct slice id);

/* directory */
struct device_route {
	uint64_t ref;
	int64_t epoch;
	int64_t last_seen;		/* of the device, wall clock */
};
/* Where to send to: the live transport, WebSocket first.  false: offline. */
bool storage_route(const struct storage *s, const struct db_device *d, struct device_route *to);

/* device_token.c */
/* Whose token it is; *old: not the newest one.  DB_NONE: nobody's, or its time is over. */
enum db_result token_find(struct storage *s, const uint8_t hash[SHA256_LEN], struct db_device *d, bool *old);
/* It was used: those before it are no longer good. */
enum db_result token_used(struct storage *s, const struct db_device *d, const uint8_t hash[SHA256_LEN], bool old);
enum db_result token_check(struct storage *s, const struct msg_token_check *m);
enum db_result token_rotate(struct storage *s, const struct msg_token_rotate *m);
enum db_result token_tick(struct storage *s);	/* old ones whose time is over go, and their connections */

/* device_auth.c, presence.c */
enum db_result device_auth(struct storage *s, const struct msg_device_auth *m);
enum db_result device_who(struct storage *s, const struct msg_device_who *m);
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
/* For how long the process has been known to be gone; slot: below SHM_MAX_SLOTS. */
int64_t presence_lost_ms(const struct storage *s, unsigned slot, uint16_t generation);
void presence_start(struct storage *s, bool instance_began);
/* server.return_time was another one before. */
void presence_reload(struct storage *s, int64_t old_return_ms);

/* report.c */
enum db_result device_report(struct storage *s, const struct msg_device_report *m);

/* sample.c: telemetry that is to be stored: it is written behind everything else, and may be lost */
enum db_result sample(struct storage *s, const struct msg_sample *m);
/* Notes it, to be taken after the commit. */
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
void sample_start(struct storage *s);
void sample_fini(struct storage *s);

/* command.c: the state machine */
struct command_order;
/*
 * Adds a step to the trace of a command that is about to be stored.  by: who did it, or empty; as: by what right, or
 * NULL.
 */
void command_trace(struct storage *s, struct db_command *c, const char *step, struct slice by, const char *as);
/* Writes the row; its status was that (COMMAND_FRESH: there is none yet).  As command_insert and command_update. */
enum db_result command_store(struct storage *s, struct db_command *c, int was);
/*
 * Stores a change of state, its event and its publication.  d may be NULL when the device was
 * deleted.
 */
enum db_result command_move(struct storage *s, const struct db_device *d, struct db_command *c,
    enum command_status to, const char *step);
/* The same; `told` is a connection that is answered otherwise, with the event (0: none). */
enum db_result command_move_telling(struct storage *s, const struct db_device *d, struct db_command *c,
    enum command_status to, const char *step, uint64_t told, unsigned *event);
/*
 * A command goes to the device's connection; was: its status, COMMAND_FRESH when it is not stored yet.  o: the order
 * that is carried out, and answered; NULL: none, it was stored before.
 */
enum db_result command_send(struct storage *s, const struct db_device *d, struct db_command *c,
    int was, const struct command_order *o, uint64_t ref, int64_t epoch);
/* Posts it (again) as it stands. */
void command_post(struct storage *s, const struct db_device *d, const struct db_command *c,
    uint64_t ref);
/* Stores that it came to where it stands; leaves the payload of command_publish() in desk.json. */
enum db_result command_event(struct storage *s, const struct db_device *d, const struct db_command *c,
    const char *name, unsigned *event);
/* event: that of command_event(), whose payload is in desk.json still; 0: none.  o: as of command_send(). */
void command_publish(struct storage *s, const struct db_device *d, const struct db_command *c,
    unsigned event, const struct command_order *o);
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
/*
 * Sends what waits for the device, in order, if it is connected and has places in flight: COMMAND_STEP of them at most,
 * and the rest in later batches.  *waits (may be NULL): a new command has to wait, behind others or for a place.  Uses
 * desk.command.
 */
enum db_result command_pump(struct storage *s, const struct db_device *d, bool *waits);
/*
 * Sends a stored command, if its requester still may and its condition holds; else it has failed, and was not run.
 * whole: the device read whole, or pk 0: then it is read where that is needed.  The caller's.
 */
enum db_result command_send_judged(struct storage *s, const struct db_device *d, struct db_device *whole,
    struct db_command *c, const struct device_route *to);
enum db_result command_pump_on(struct storage *s, const struct msg_command_pump_on *m);
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

/* rest_share.c: shares that have run out go */
enum db_result share_tick(struct storage *s);

/* ticket.c */
enum db_result ticket_put(struct storage *s, const struct msg_ticket_put *m);
enum db_result ticket_take(struct storage *s, const struct msg_ticket_take *m);

/* visitor.c */
enum db_result visitor_new(struct storage *s, const struct msg_visitor_new *m);

/* wall.c: the wall clock may be set while an instance runs */
/* Before the mailbox is read. */
enum db_result wall_start(struct storage *s);
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
