/*
 * desk.h: what the processes of the store (storage and the readers) have in common: a handle on the
 * store, who may see what, how things look as JSON, cursors, answers and publications.
 *
 * A desk decides nothing and writes nothing to the store, but for the key of its cursors where there is none.
 * What it posts goes by its owner's post(): storage notes it and posts it after its commit, a reader posts it
 * at once.
 */
#ifndef BELAY_STORE_DESK_H
#define BELAY_STORE_DESK_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/identity.h"
#include "base/block.h"
#include "base/buf.h"
#include "db/db.h"
#include "msg/audience.h"
#include "msg/error.h"
#include "msg/msg.h"
#include "shm/directory.h"
#include "shm/ref.h"
#include "workers/role.h"

struct desk {
	struct worker *w;
	struct shm *shm;
	const uint8_t *key;		/* of all shared hashes */
	struct db *db;
	struct block_key *cursor_key;	/* owned; of the store: cursor.c */
	bool members_view;		/* auth.tenant_members = view */
	int64_t suspect_ms;		/* silence after which a connected device is suspect */
	int64_t now;			/* wall clock, of this batch or step */
	int64_t mono;			/* monotonic, of this batch or step */
	/* How far the wall clock is ahead, in ms, but for steps the same all the time: */
	int64_t ahead;			/* … of the clock that nobody sets (clock_boot_ms()) */
	int64_t mono_ahead;		/* … of the monotonic one; steady while nobody sets it */
	/* A record for another process; the bytes are copied. */
	void (*post)(struct desk *k, unsigned slot, uint16_t record, struct slice bytes);
	/*
	 * The same for a record about an event that is being stored and has no place yet: at the end of the
	 * record is room for the event's cursor (CURSOR_LEN bytes), and in a publish for its place.  Storage's alone.
	 */
	void (*post_event)(struct desk *k, unsigned slot, uint16_t record, struct slice bytes, unsigned event);
	/*
	 * To those of the slots that publish_slots() gives when it is posted.  event as above: 0, of none.  Who
	 * listens is asked after the commit: a reader may have looked for somebody who came meanwhile, and found
	 * nothing yet.
	 */
	void (*publish)(struct desk *k, const struct msg_publish *m, uint64_t slots, unsigned event);

	/*
	 * One of each for the whole process: used up within an operation.  Who acts on the rows of a page has a page
	 * of its own.
	 */
	struct db_device device;
	struct db_command command;
	struct db_share share;
	struct db_visitor visitor;
	struct db_page page;
	struct buf json;		/* payloads and bodies */
	struct buf text;		/* decoded queries and the like */
	struct buf cursor;		/* of what is being told */
	struct buf pack;		/* a record */
};

/* The expression failed: so did we. */
#define TRY(expression) do { \
	if ((expression) == DB_FAILED) \
		return DB_FAILED; \
} while (0)

/* Everything but the handle and post(), which are the owner's to set. */
void desk_init(struct desk *k, struct worker *w);
void desk_settings(struct desk *k, const struct conf *conf);
void desk_clocks(struct desk *k);		/* now, mono and how far the wall clock is ahead */
void desk_fini(struct desk *k);			/* closes the handle, too */

/* The key of a device in shared memory. */
struct hash128 desk_device_key(const struct desk *k, const struct db_device *d);
/* When the device was last heard, as the wall clock has it now. */
int64_t desk_seen_at(const struct desk *k, const struct directory_view *v);

/* Packs a struct msg_NAME and posts it to the slot that holds a reference. */
#define post_to_ref(k, name, m) \
	(buf_clear(&(k)->pack), msg_pack_##name(&(k)->pack, (m)), \
	    (k)->post((k), ref_slot((m)->ref), MSG_##name, buf_slice(&(k)->pack)))

/* access.c */
enum access { ACCESS_NONE = -1, ACCESS_VIEW, ACCESS_CONTROL, ACCESS_ADMIN, ACCESS_OWNER };

struct requester {
	enum role role;
	struct slice tenant, user;
};
enum access access_level(const struct desk *k, const struct requester *who,
    const struct db_device *d);
/* May this command be sent?  *may is set; a share can be limited to some commands. */
enum db_result access_command(struct desk *k, const struct requester *who,
    const struct db_device *d, struct slice command, bool *may);
/* The devices that lists show. */
enum db_result access_scope(struct desk *k, const struct requester *who, struct db_scope *scope);
bool access_sees_all(const struct desk *k, const struct requester *who);
/* A page of the device's shares behind the user *after (empty: from the first) into k->page; moves *after on. */
enum db_result access_shares(struct desk *k, int64_t device_pk, struct buf *after);

/* reply.c */
void reply_json(struct desk *k, uint64_t request, uint64_t ref, unsigned http_status,
    struct slice body);
/* The answer is what became of it, and the event (as in a publication) says so to others. */
void reply_event(struct desk *k, uint64_t request, uint64_t ref, struct slice body, unsigned event);
/* Where request is 0 the refusal is told all the same: ref names the device's connection that said it without an id. */
void reply_error(struct desk *k, uint64_t request, uint64_t ref, enum error_code code,
    const char *field, const char *message);

/* cursor.c: numbers of the store as clients see them */
enum cursor_kind {
	CURSOR_NONE,
	CURSOR_OLDER_EVENT,		/* numbers of events before they had places: none is taken */
	CURSOR_COMMAND, CURSOR_VISITOR, CURSOR_SAMPLE, CURSOR_SAMPLE_AT, CURSOR_EVENT
};
#define CURSOR_LEN 22
/* In records about events that have no place yet: see post_event. */
#define CURSOR_ROOM SLICE("~~~~~~~~~~~~~~~~~~~~~~")
/* Reads the store's key; makes it where there is none and the handle may write. */
enum db_result cursor_start(struct desk *k);
void cursor_stop(struct desk *k);
/* Appends it: 22 characters of base64url.  place: above 0. */
void cursor_put(struct desk *k, struct buf *b, enum cursor_kind kind, int64_t tenant_pk, int64_t place);
/* false: not a cursor of that kind, tenant and store. */
bool cursor_get(struct desk *k, struct slice text, enum cursor_kind kind, int64_t tenant_pk, int64_t *place);
/* The place of stored telemetry, which is in the order of two numbers: 44 characters. */
void cursor_put_sample(struct desk *k, struct buf *b, int64_t tenant_pk, int64_t at, int64_t seq);
bool cursor_get_sample(struct desk *k, struct slice text, int64_t tenant_pk, int64_t *at, int64_t *seq);

/* publish.c */
struct publication {
	struct slice tenant, device;	/* device empty: filters do not apply */
	struct slice audience;
	enum publish_admins admins;
	const char *type;
	struct slice payload;
	unsigned event;			/* its number in the batch that stores it; 0: not a stored one */
	bool conflated;			/* telemetry: may be left out */
	enum publish_to to;
	uint64_t ref, request;
};
void publish(struct desk *k, const struct publication *p);
/* The processes with a listener who may hear it: a bitmap of slots. */
uint64_t publish_slots(struct desk *k, const struct msg_publish *m);
void publish_device(struct desk *k, const struct db_device *d, const char *type,
    struct slice payload, unsigned event);
/* To a user of the device's tenant, of whatever rights. */
void publish_to_user(struct desk *k, const struct db_device *d, struct slice user, const char *type,
    struct slice payload, unsigned event);

/* json_out.c: objects as belay-protocol(7) and belay-api(7) have them */
/*
 * false: the row says that it is connected, and the directory does not.  It was lost with a process, or storage is
 * between its commit and what follows: then the row, read again, says what became of it.
 */
bool json_device(struct desk *k, struct buf *b, const struct db_device *d);
/* "online", "suspect", "offline" or "unknown" */
const char *json_presence_status(const struct desk *k, const struct db_device *d);
void json_command(struct buf *b, const struct db_command *c, struct slice device);
void json_event(struct desk *k, struct buf *b, const struct db_event *e);
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

#endif
