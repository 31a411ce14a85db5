/*
 * schema.h: what the messages and request bodies of the protocol hold, and
 * the engine that checks them.  Everything here is generated from schema.def.
 *
 * A field's number is FIELD_message_field, as in FIELD_command_deviceId.
 */
#ifndef BELAY_MSG_SCHEMA_H
#define BELAY_MSG_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/slice.h"
#include "base/uuid.h"
#include "msg/error.h"

/* Every schema of the list; message types, bodies and shapes are subsets with the same numbers. */
enum schema_id {
	SCHEMA_NONE,
#define MESSAGE(ident, wire, from, to, doc) SCHEMA_##ident,
#define BODY(ident, doc) SCHEMA_##ident,
#define SHAPE(ident, doc) SCHEMA_##ident,
#include "msg/schema_each.h"
	SCHEMA_COUNT
};

enum msg_type {
	MSG_TYPE_NONE = SCHEMA_NONE,
#define MESSAGE(ident, wire, from, to, doc) MSG_TYPE_##ident = SCHEMA_##ident,
#include "msg/schema_each.h"
};

enum body_schema {
	BODY_NONE = SCHEMA_NONE,
#define BODY(ident, doc) BODY_##ident = SCHEMA_##ident,
#define BODY_AS(ident, message, doc) BODY_##ident = SCHEMA_##message,
#include "msg/schema_each.h"
};

#define MESSAGE(ident, wire, from, to, doc) enum field_of_##ident {
#define BODY(ident, doc) enum field_of_##ident {
#define SHAPE(ident, doc) enum field_of_##ident {
#define FIELD(ident, name, kind, presence, min, max, choices, doc) FIELD_##ident##_##name,
#define END(ident) FIELD_##ident##_COUNT };
#include "msg/schema_each.h"

#define CHOICES(list) enum choice_of_##list {
#define CHOICE(list, value) CHOICE_##list##_##value,
#define CHOICES_END(list) CHOICE_##list##_COUNT };
#include "msg/schema_each.h"

#define SCHEMA_MAX_FIELDS 20

/* Who sends and who receives: bits. */
enum schema_side {
	SCHEMA_DEVICE = 1,
	SCHEMA_USER = 2,
	SCHEMA_SERVER = 4
};

enum field_kind {
	FIELD_KIND_ID, FIELD_KIND_USERID, FIELD_KIND_UUID, FIELD_KIND_STRING, FIELD_KIND_LINE,
	    FIELD_KIND_URL,
	FIELD_KIND_TYPE_NAME, FIELD_KIND_NAME, FIELD_KIND_EVENT, FIELD_KIND_INT, FIELD_KIND_NUMBER,
	FIELD_KIND_BOOL, FIELD_KIND_TIME, FIELD_KIND_OBJECT, FIELD_KIND_ARRAY, FIELD_KIND_ANY,
	    FIELD_KIND_ENUM,
	FIELD_KIND_IDS, FIELD_KIND_USERIDS, FIELD_KIND_UUIDS, FIELD_KIND_NAMES, FIELD_KIND_LINES,
	FIELD_KIND_FAULT, FIELD_KIND_CONDITION, FIELD_KIND_SAMPLES
};

enum field_presence {
	FIELD_REQUIRED,
	FIELD_OPTIONAL,		/* null is the same as absent, except in ANY */
	FIELD_NULLABLE,		/* required, may be null */
	FIELD_EITHER		/* one of these is given, and one alone; null is the same as absent */
};

struct schema_field {
	const char *name;
	size_t name_len;
	enum field_kind kind;
	enum field_presence presence;
	int64_t min, max;
	const char *const *choices;	/* ENUM: ends with NULL; else NULL */
	const char *doc;
};

struct schema {
	const char *ident;		/* "server_command" */
	const char *name;		/* messages: the type on the wire; others: the ident */
	size_t name_len;
	unsigned from, to;		/* schema_side bits; 0 for a body or shape */
	const struct schema_field *fields;
	unsigned fields_n;
	const char *doc;
};

/* Indexed by schema_id; [0] is empty. */
extern const struct schema schema_table[SCHEMA_COUNT];

static inline const char *msg_type_name(enum msg_type t) { return schema_table[t].name; }
/* The type that a peer of one of these sides may send; MSG_TYPE_NONE: none may. */
enum msg_type msg_type_find(struct slice name, enum schema_side from);

/* One checked field. */
struct field_value {
	bool present;			/* given, and not null unless it is ANY */
	bool null;			/* given as null */
	uint8_t kind;			/* enum field_kind */
	struct json_value json;		/* as given */
	struct slice str;		/* decoded text of ID … EVENT, ENUM,
	    TIME; FAULT: the message */
	struct slice code;		/* FAULT: the code; "device_error" for a plain text */
	int64_t i64;			/* INT; BOOL 0,
	    1; TIME in ms; ENUM its CHOICE_; arrays: count */
	uint8_t uuid[UUID_LEN];		/* UUID */
};

/* What was wrong, and with which field. */
struct envelope_fault {
	enum error_code code;
	char field[96];			/* "payload.commandId",
	    "devices[3]"; "" when no field is meant */
	char message[128];		/* "" stands for error_text(code) */
	int64_t retry_after_ms;		/* 0: not told */
};

/* Sets a fault; field and fmt may be NULL. */
void envelope_fault_set(struct envelope_fault *fault, enum error_code code, const char *field,
    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/*
 * Checks an object of a validated text against a schema and fills
 * field[0..fields_n).  prefix ("payload." or "" or "[3].") precedes the names in
 * *fault.  Slices point into the text or into scratch, which is appended to
 * and must have room reserved for the text's length when it holds a backslash.
 * 0, or -1 with *fault.
 */
int schema_check(enum schema_id which, struct json_value object, const char *prefix,
    struct field_value *field, struct buf *scratch, struct envelope_fault *fault);

/* The checked body of a REST request. */
struct fields {
	struct json_value json;		/* the whole body */
	struct field_value field[SCHEMA_MAX_FIELDS];
	struct buf scratch;		/* owned: decoded texts */
	unsigned depth;			/* most containers inside one another */
};

/*
 * depth: JSON_DEPTH_MAX, since a gateway has judged by limits.json_depth what comes to others: a limit
 * that is lowered meanwhile takes nothing back.
 */
void fields_init(struct fields *f);
void fields_fini(struct fields *f);

/*
 * Parses and checks a body; may be called again with the same fields.  An empty body is {}.
 * The slices point into body and f.  0, or -1 with *fault: invalid_json or invalid_payload.
 */
int schema_parse(enum body_schema which, struct slice body, struct fields *f,
    struct envelope_fault *fault);

/* The same for one element of an array body: fault fields begin with "[index].". */
int schema_parse_element(enum body_schema which, struct json_value element, unsigned index,
    struct fields *f, struct envelope_fault *fault);

/* The checks of ids and names, for what comes in paths, queries and headers. */
bool schema_is_id(struct slice s);		/* device and tenant ids */
bool schema_is_user_id(struct slice s);
bool schema_is_type_name(struct slice s);
bool schema_is_name(struct slice s);
bool schema_is_device_event(struct slice s);	/* an event that a device may tell */

/* Valid UTF-8, min to max characters, no control characters: a LINE from a header or query. */
bool schema_is_line(struct slice s, size_t min, size_t max);
/* Whether valid UTF-8 has control characters (C0, DEL, C1). */
bool schema_has_control(struct slice s);

#define SCHEMA_JSON_DEPTH 32	/* containers inside one another, where no settings say otherwise */

#endif
