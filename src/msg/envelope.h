/*
 * envelope.h: messages of clients in, messages to clients out (belay-protocol(7)).
 */
#ifndef BELAY_MSG_ENVELOPE_H
#define BELAY_MSG_ENVELOPE_H

#include "base/buf.h"
#include "base/json.h"
#include "base/slice.h"
#include "msg/error.h"
#include "msg/schema.h"

#define ENVELOPE_MAX_FIELDS SCHEMA_MAX_FIELDS
#define ENVELOPE_ID_MAX 64		/* characters */

enum envelope_side {
	ENVELOPE_FROM_DEVICE = SCHEMA_DEVICE,
	ENVELOPE_FROM_USER = SCHEMA_USER,
	ENVELOPE_FROM_SERVER = SCHEMA_SERVER	/* for clients and tests */
};

/* One parsed message.  Meant to be kept and used again for the next one. */
struct envelope {
	enum msg_type type;
	struct slice id;		/* decoded; id.p is NULL when the message has none */
	struct slice unknown;		/* decoded; the type, where it is unknown_type; else none */
	struct json_value payload;	/* {} when the message has none; of an unknown type of any kind */
	struct field_value field[ENVELOPE_MAX_FIELDS];	/* by FIELD_type_name */
	struct buf scratch;		/* owned: decoded texts */
	unsigned depth;			/* most containers inside one another; set by envelope_init() */
};

void envelope_init(struct envelope *e);	/* depth: SCHEMA_JSON_DEPTH */
void envelope_fini(struct envelope *e);

/*
 * Parses one message and checks it against its schema.  A member that is null
 * is a missing one.  The slices in *e point into text or e->scratch: valid until either changes.
 * 0, or -1 with *fault; e->id is set even then when it could be read (for "re"), and unknown and
 * payload for unknown_type.
 *
 *	not JSON, or deeper than e->depth	invalid_json
 *	not an object					invalid_payload
 *	no type, or it is no string			invalid_payload, field "type"
 *	a type that this side may not send		unknown_type
 *	a bad id					invalid_payload, field "id"
 *	payload is no object				invalid_payload, field "payload"
 *	a field is missing, wrong or given twice	invalid_payload, field "payload.NAME"
 */
int envelope_parse(struct envelope *e, struct slice text, enum envelope_side from,
    struct envelope_fault *fault);

/*
 * Appends {"type":…,"re":…,"payload":…,"cursor":…}.  re and cursor are left out
 * when their p is NULL; payload is JSON text ({} when its p is NULL).
 */
void envelope_put(struct buf *out, const char *type, struct slice re, struct slice payload,
    struct slice cursor);

/* Appends the message error for a fault. */
void envelope_error_put(struct buf *out, struct slice re, const struct envelope_fault *fault);

#endif
