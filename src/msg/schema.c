/*
 * schema.c: the tables that schema.def expands to, and the engine that checks
 * an object against one of them.
 *
 * Runs in the gateways (messages, request bodies) and the bridge.  It owns
 * nothing; the only memory it takes is room for decoded texts in a buffer that
 * its caller keeps from message to message.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/text.h"
#include "msg/schema.h"

#define CHOICES(list) static const char *const choices_##list[] = {
#define CHOICE(list, value) #value,
#define CHOICES_END(list) NULL };
#include "msg/schema_each.h"

#define choices_none NULL
#define MESSAGE(ident, wire, from, to, doc) static const struct schema_field fields_##ident[] = {
#define BODY(ident, doc) static const struct schema_field fields_##ident[] = {
#define SHAPE(ident, doc) static const struct schema_field fields_##ident[] = {
#define FIELD(ident, name, kind, presence, min, max, choices, doc) \
	{ #name, sizeof(#name) - 1, FIELD_KIND_##kind, FIELD_##presence, min, max, \
	    choices_##choices, doc },
#define END(ident) { NULL, 0, FIELD_KIND_ANY, FIELD_OPTIONAL, 0, 0, NULL, NULL } };
#include "msg/schema_each.h"

#define DEVICE SCHEMA_DEVICE
#define USER   SCHEMA_USER
#define SERVER SCHEMA_SERVER
const struct schema schema_table[SCHEMA_COUNT] = {
	[SCHEMA_NONE] = { "", "", 0, 0, 0, NULL, 0, "" },
#define MESSAGE(ident, wire, from, to, doc) \
	[SCHEMA_##ident] = { #ident, wire, sizeof(wire) - 1, from, to, fields_##ident, \
	    FIELD_##ident##_COUNT, doc },
#define BODY(ident, doc) \
	[SCHEMA_##ident] = { #ident, #ident, sizeof(#ident) - 1, 0, 0, fields_##ident, \
	    FIELD_##ident##_COUNT, doc },
#define SHAPE BODY
#include "msg/schema_each.h"
};
#undef DEVICE
#undef USER
#undef SERVER

#define MESSAGE(ident, wire, from, to, doc) \
	_Static_assert((int)FIELD_##ident##_COUNT <= SCHEMA_MAX_FIELDS, \
	    #ident " has too many fields");
#define BODY(ident, doc) \
	_Static_assert((int)FIELD_##ident##_COUNT <= SCHEMA_MAX_FIELDS, \
	    #ident " has too many fields");
#include "msg/schema_each.h"

/* One handler serves both: a field has the same number in either. */
_Static_assert((int)FIELD_command_COUNT == (int)FIELD_command_open_COUNT &&
    (int)FIELD_command_deviceId == (int)FIELD_command_open_deviceId &&
    (int)FIELD_command_command == (int)FIELD_command_open_command &&
    (int)FIELD_command_params == (int)FIELD_command_open_params &&
    (int)FIELD_command_timeoutMs == (int)FIELD_command_open_timeoutMs &&
    (int)FIELD_command_queueMs == (int)FIELD_command_open_queueMs &&
    (int)FIELD_command_onlyIf == (int)FIELD_command_open_onlyIf &&
    (int)FIELD_command_idempotencyKey == (int)FIELD_command_open_idempotencyKey &&
    (int)FIELD_command_tenantId == (int)FIELD_command_open_tenantId,
    "command and command_open differ");

static const struct {
	const char *name;
	bool of_device;
} events[] = {
#define DEVICE true
#define SERVER false
#define EVENT(name, maker, doc) { #name, maker },
#include "msg/event.def"
#undef EVENT
#undef DEVICE
#undef SERVER
};

#define FAULT_CODE_MAX    64		/* characters */
#define CONDITIONS_MAX    32		/* each costs a look through the state of the device */

enum msg_type
msg_type_find(struct slice name, enum schema_side from)
{
	int i;

	for (i = SCHEMA_NONE + 1; i < SCHEMA_COUNT; i++) {
		const struct schema *s = &schema_table[i];

		if ((s->from & from) != 0 && s->name_len == name.len && memcmp(s->name, name.p,
		    name.len) == 0)
			return (enum msg_type)i;
	}
	return MSG_TYPE_NONE;
}

void
envelope_fault_set(struct envelope_fault *fault, enum error_code code, const char *field,
    const char *fmt, ...)
{
	va_list ap;

	fault->code = code;
	fault->retry_after_ms = 0;
	snprintf(fault->field, sizeof(fault->field), "%s", field != NULL ? field : "");
	fault->message[0] = '\0';
	if (fmt != NULL) {
		va_start(ap, fmt);
		vsnprintf(fault->message, sizeof(fault->message), fmt, ap);
		va_end(ap);
	}
}

/* Bits of what a byte may be part of. */
enum { IN_NAME = 1, IN_LOWER_NAME = 2 };

static const uint8_t charset[256] = {
	['a' ... 'z'] = IN_NAME | IN_LOWER_NAME,
	['A' ... 'Z'] = IN_NAME,
	['0' ... '9'] = IN_NAME | IN_LOWER_NAME,
	['.'] = IN_NAME | IN_LOWER_NAME,
	['_'] = IN_NAME | IN_LOWER_NAME,
	[':'] = IN_NAME | IN_LOWER_NAME,
	['-'] = IN_NAME | IN_LOWER_NAME,
};

static bool
all_in(struct slice s, size_t max, uint8_t set)
{
	size_t i;

	if (s.len == 0 || s.len > max)
		return false;
	for (i = 0; i < s.len; i++)
		if ((charset[(unsigned char)s.p[i]] & set) == 0)
			return false;
	return true;
}

bool
schema_is_id(struct slice s)
{
	return text_is_id(s, 64);
}

bool
schema_is_user_id(struct slice s)
{
	return text_is_id(s, 128);
}

bool
schema_is_type_name(struct slice s)
{
	return all_in(s, 64, IN_LOWER_NAME) && s.p[0] >= 'a' && s.p[0] <= 'z';
}

bool
schema_is_name(struct slice s)
{
	return all_in(s, 64, IN_NAME) && ((s.p[0] >= 'a' && s.p[0] <= 'z') || (s.p[0] >= 'A' &&
	    s.p[0] <= 'Z'));
}

bool
schema_is_device_event(struct slice s)
{
	size_t i;

	if (s.len > 2 && s.p[0] == 'x' && s.p[1] == '_')
		return schema_is_type_name(s);
	for (i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (events[i].of_device && slice_is(s, events[i].name))
			return true;
	return false;
}

/* Characters of valid UTF-8. */
static size_t
count_characters(struct slice s)
{
	size_t i, n = 0;

	for (i = 0; i < s.len; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

bool
schema_has_control(struct slice s)
{
	size_t i;

	for (i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < 0x20 || c == 0x7f || (c == 0xc2 && i + 1 < s.len &&
		    (unsigned char)s.p[i + 1] < 0xa0))
			return true;
	}
	return false;
}

/* NULL, or what is wrong with the length in characters. */
static const char *
check_length(struct slice s, int64_t min, int64_t max)
{
	size_t n = s.len;

	if (n > (uint64_t)max || (min > 1 && n >= (uint64_t)min))
		n = count_characters(s);
	if (n < (uint64_t)min)
		return min == 1 ? "must not be empty" : "too short";
	if (n > (uint64_t)max)
		return "too long";
	return NULL;
}

bool
schema_is_line(struct slice s, size_t min, size_t max)
{
	return json_is_utf8(s) && !schema_has_control(s) &&
	    check_length(s, (int64_t)min, (int64_t)max) == NULL;
}

static bool
is_url(struct slice s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f || s.p[i] == '\\')
			return false;
	if (s.len > 1 && s.p[0] == '/' && s.p[1] != '/')
		return true;
	return (s.len > 8 && strncasecmp(s.p, "https://", 8) == 0) ||
	    (s.len > 7 && strncasecmp(s.p, "http://", 7) == 0);
}

/* What is being checked, for faults. */
struct check {
	const char *prefix;
	const struct schema_field *field;
	struct buf *scratch;
	struct envelope_fault *fault;
};

/* Sets invalid_payload for the field, with "suffix" after its name. */
static int refuse(struct check *c, const char *suffix, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int
refuse(struct check *c, const char *suffix, const char *fmt, ...)
{
	char path[sizeof(c->fault->field)], message[sizeof(c->fault->message)];
	va_list ap;

	snprintf(path, sizeof(path), "%s%s%s", c->prefix, c->field->name, suffix);
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	envelope_fault_set(c->fault, ERROR_invalid_payload, path, "%s", message);
	return -1;
}

static const char TEXT_ID[] = "must be 1 to 64 characters of A-Z a-z 0-9 . _ : @ | + = -";
static const char TEXT_USERID[] = "must be 1 to 128 characters of A-Z a-z 0-9 . _ : @ | + = -";
static const char TEXT_NAME[] = "must be a letter and up to 63 of A-Z a-z 0-9 . _ : -";

/* Checks a decoded text; fills out->uuid and out->i64.  NULL, or what is wrong with it. */
static const char *
check_text(enum field_kind kind, const struct schema_field *f, struct slice s,
    struct field_value *out)
{
	const char *wrong;

	switch (kind) {
	case FIELD_KIND_ID:
		return schema_is_id(s) ? NULL : TEXT_ID;
	case FIELD_KIND_USERID:
		return schema_is_user_id(s) ? NULL : TEXT_USERID;
	case FIELD_KIND_UUID:
		return uuid_parse(s, out->uuid) == 0 ? NULL : "must be a UUID";
	case FIELD_KIND_STRING:
		return check_length(s, f->min, f->max);
	case FIELD_KIND_LINE:
		if ((wrong = check_length(s, f->min, f->max)) != NULL)
			return wrong;
		return schema_has_control(s) ? "must not hold control characters" : NULL;
	case FIELD_KIND_URL:
		if ((wrong = check_length(s, f->min, f->max)) != NULL)
			return wrong;
		return is_url(s) ? NULL : "must be an http: or https: URL or an absolute path";
	case FIELD_KIND_TYPE_NAME:
		return schema_is_type_name(s) ? NULL : "must match [a-z][a-z0-9_.:-]{0,63}";
	case FIELD_KIND_NAME:
		return schema_is_name(s) ? NULL : TEXT_NAME;
	case FIELD_KIND_EVENT:
		return schema_is_device_event(s) ? NULL :
		    "must be an event that devices tell, or a name that begins with x_";
	case FIELD_KIND_TIME:
		return clock_parse(s, &out->i64) == 0 ? NULL : "must be an RFC 3339 date and time";
	default:
		return "must not be a string";
	}
}

/* The kind of an array's elements. */
static enum field_kind
element_kind(enum field_kind kind)
{
	switch (kind) {
	case FIELD_KIND_IDS: return FIELD_KIND_ID;
	case FIELD_KIND_USERIDS: return FIELD_KIND_USERID;
	case FIELD_KIND_UUIDS: return FIELD_KIND_UUID;
	case FIELD_KIND_NAMES: return FIELD_KIND_NAME;
	default: return FIELD_KIND_LINE;
	}
}

static int
check_array(struct check *c, struct json_value v, struct field_value *out)
{
	const struct schema_field *f = c->field;
	const enum field_kind kind = element_kind(f->kind);
	struct schema_field line = *f;		/* LINES: min is the characters of each element */
	struct field_value element;
	struct json_value e;
	struct json_iter it;
	struct slice s;

	if (v.kind != JSON_KIND_ARRAY)
		return refuse(c, "", "must be an array");
	line.min = 1;
	line.max = f->min;
	out->i64 = 0;
	json_iter_init(&it, v);
	while (json_array_next(&it, &e)) {
		const char *wrong = "must be a string";
		char suffix[24];

		if (out->i64 == f->max)
			return refuse(c, "", "must have at most %" PRId64 " elements", f->max);
		if (json_text(e, c->scratch, &s) == 0)
			wrong = check_text(kind, &line, s, &element);
		if (wrong != NULL) {
			snprintf(suffix, sizeof(suffix), "[%" PRId64 "]", out->i64);
			return refuse(c, suffix, "%s", wrong);
		}
		out->i64++;
	}
	return 0;
}

/*
 * "text" or {"code":…,"message":…}.  The text is as long as a message may be: what a device did is not refused for its
 * words.
 */
static int
check_fault(struct check *c, struct json_value v, struct field_value *out)
{
	struct json_value key, member;
	struct json_iter it;
	bool code = false, message = false;

	if (json_text(v, c->scratch, &out->str) == 0) {
		out->code = SLICE("device_error");
		return 0;
	}
	if (v.kind != JSON_KIND_OBJECT)
		return refuse(c, "", "must be a string or an object with code and message");
	out->str = SLICE("");
	json_iter_init(&it, v);
	while (json_object_next(&it, &key, &member)) {
		if (json_text_is(key, "code")) {
			if (code)
				return refuse(c, ".code", "duplicate");
			code = true;
			if (json_text(member, c->scratch, &out->code) != 0 ||
			    schema_has_control(out->code) ||
			    check_length(out->code, 1, FAULT_CODE_MAX) != NULL)
				return refuse(c, ".code", "must be a string of 1 to %d characters",
				    FAULT_CODE_MAX);
		} else if (json_text_is(key, "message")) {
			if (message)
				return refuse(c, ".message", "duplicate");
			message = true;
			if (member.kind != JSON_KIND_NULL && json_text(member, c->scratch, &out->str) != 0)
				return refuse(c, ".message", "must be a string");
		}
	}
	return code ? 0 : refuse(c, ".code", "required");
}

/*
 * {"status.door":"closed","seenWithinMs":10000}.  An unknown condition is not
 * ignored like an unknown field: the door would open although it isn't met.
 */
static int
check_condition(struct check *c, struct json_value v)
{
	struct json_value key, member;
	struct json_iter it;
	struct slice name;
	bool seen = false;
	unsigned n = 0;
	int64_t ms;

	if (v.kind != JSON_KIND_OBJECT)
		return refuse(c, "", "must be an object");
	json_iter_init(&it, v);
	while (json_object_next(&it, &key, &member)) {
		if (n++ == CONDITIONS_MAX)
			return refuse(c, "", "must have at most %d conditions", CONDITIONS_MAX);
		json_text(key, c->scratch, &name);
		if (slice_is(name, "seenWithinMs")) {
			if (seen)
				return refuse(c, ".seenWithinMs", "duplicate");
			seen = true;
			if (json_i64(member, &ms) != 0 || ms < 0)
				return refuse(c, ".seenWithinMs", "must be an integer, 0 or more");
		} else if (name.len <= 7 || memcmp(name.p, "status.", 7) != 0) {
			return refuse(c, "",
			    "a condition must be seenWithinMs or begin with status.");
		}
	}
	return 0;
}

/* An array of objects of the shape sample. */
static int
check_samples(struct check *c, struct json_value v, struct field_value *out)
{
	struct field_value field[FIELD_sample_COUNT];
	const struct schema_field *f = c->field;
	char prefix[sizeof(c->fault->field)];
	struct json_iter it;
	struct json_value e;

	if (v.kind != JSON_KIND_ARRAY)
		return refuse(c, "", "must be an array");
	out->i64 = 0;
	json_iter_init(&it, v);
	while (json_array_next(&it, &e)) {
		if (out->i64 == f->max)
			return refuse(c, "", "must have at most %" PRId64 " elements", f->max);
		snprintf(prefix, sizeof(prefix), "[%" PRId64 "]", out->i64);
		if (e.kind != JSON_KIND_OBJECT)
			return refuse(c, prefix, "must be an object");
		snprintf(prefix, sizeof(prefix), "%s%s[%" PRId64 "].", c->prefix, f->name, out->i64);
		if (schema_check(SCHEMA_sample, e, prefix, field, c->scratch, c->fault) != 0)
			return -1;
		out->i64++;
	}
	return out->i64 >= f->min ? 0 : refuse(c, "", "must not be empty");
}

/* "must be one of a, b, c" */
static int
refuse_choice(struct check *c)
{
	const char *const *choice;
	char list[96] = "";
	size_t len = 0;

	for (choice = c->field->choices; *choice != NULL && len < sizeof(list); choice++)
		len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", len > 0 ? ", " : "",
		    *choice);
	return refuse(c, "", "must be one of %s", list);
}

static int
check_field(struct check *c, struct json_value v, struct field_value *out)
{
	const struct schema_field *f = c->field;
	const char *wrong;
	struct json_iter it;
	struct json_value e;
	bool b;
	int i;

	out->kind = (uint8_t)f->kind;
	out->json = v;
	out->null = v.kind == JSON_KIND_NULL;
	if (out->null && f->kind != FIELD_KIND_ANY)
		return f->presence == FIELD_REQUIRED ? refuse(c, "", "must not be null") : 0;
	out->present = true;

	switch (f->kind) {
	case FIELD_KIND_ANY:
		return 0;
	case FIELD_KIND_OBJECT:
		return v.kind == JSON_KIND_OBJECT ? 0 : refuse(c, "", "must be an object");
	case FIELD_KIND_ARRAY:
		if (v.kind != JSON_KIND_ARRAY)
			return refuse(c, "", "must be an array");
		json_iter_init(&it, v);
		while (json_array_next(&it, &e))
			out->i64++;
		return 0;
	case FIELD_KIND_NUMBER:
		return v.kind == JSON_KIND_NUMBER ? 0 : refuse(c, "", "must be a number");
	case FIELD_KIND_BOOL:
		if (json_bool(v, &b) != 0)
			return refuse(c, "", "must be true or false");
		out->i64 = b;
		return 0;
	case FIELD_KIND_INT:
		if (v.kind != JSON_KIND_NUMBER)
			return refuse(c, "", "must be an integer");
		if (json_i64(v, &out->i64) != 0 || out->i64 < f->min || out->i64 > f->max)
			return refuse(c, "", "must be an integer from %" PRId64 " to %" PRId64,
			    f->min, f->max);
		return 0;
	case FIELD_KIND_IDS: case FIELD_KIND_USERIDS: case FIELD_KIND_UUIDS: case FIELD_KIND_NAMES:
	case FIELD_KIND_LINES:
		return check_array(c, v, out);
	case FIELD_KIND_FAULT:
		return check_fault(c, v, out);
	case FIELD_KIND_CONDITION:
		return check_condition(c, v);
	case FIELD_KIND_SAMPLES:
		return check_samples(c, v, out);
	case FIELD_KIND_ENUM:
		if (json_text(v, c->scratch, &out->str) != 0)
			return refuse_choice(c);
		for (i = 0; f->choices[i] != NULL; i++) {
			if (slice_is(out->str, f->choices[i])) {
				out->i64 = i;
				return 0;
			}
		}
		return refuse_choice(c);
	default:
		if (json_text(v, c->scratch, &out->str) != 0)
			return refuse(c, "", "must be a string");
		wrong = check_text(f->kind, f, out->str, out);
		return wrong == NULL ? 0 : refuse(c, "", "%s", wrong);
	}
}

/* The number of the field of that name, or -1. */
static int
find_field(const struct schema *s, struct json_value key, struct buf *scratch)
{
	struct slice name;
	unsigned i;

	json_text(key, scratch, &name);
	for (i = 0; i < s->fields_n; i++)
		if (s->fields[i].name_len == name.len && memcmp(s->fields[i].name, name.p,
		    name.len) == 0)
			return (int)i;
	return -1;
}

/* What must be there is: the last step of schema_check(). */
static int
check_presence(struct check *c, const struct schema *s, const struct field_value *field)
{
	const struct schema_field *either = NULL;
	const char *given = NULL;

	for (unsigned i = 0; i < s->fields_n; i++) {
		const struct schema_field *f = c->field = &s->fields[i];

		if (f->presence == FIELD_EITHER) {
			if (field[i].present && given != NULL)
				return refuse(c, "", "must not be there beside %s", given);
			if (field[i].present)
				given = f->name;
			if (either == NULL)
				either = f;
		} else if (f->presence != FIELD_OPTIONAL && !field[i].present && !field[i].null) {
			return refuse(c, "", "required");
		}
	}
	c->field = either;
	return either == NULL || given != NULL ? 0 : refuse(c, "", "required");
}

int
schema_check(enum schema_id which, struct json_value object, const char *prefix,
    struct field_value *field,
    struct buf *scratch, struct envelope_fault *fault)
{
	const struct schema *s = &schema_table[which];
	struct check c = { prefix, NULL, scratch, fault };
	struct json_value key, v;
	struct json_iter it;

	if (s->fields_n == 0)
		return 0;
	memset(field, 0, s->fields_n * sizeof(*field));
	json_iter_init(&it, object);
	while (json_object_next(&it, &key, &v)) {
		int n = find_field(s, key, scratch);

		if (n < 0)
			continue;
		c.field = &s->fields[n];
		if (field[n].present || field[n].null)
			return refuse(&c, "", "duplicate");
		if (check_field(&c, v, &field[n]) != 0)
			return -1;
	}
	return check_presence(&c, s, field);
}

void
fields_init(struct fields *f)
{
	memset(f, 0, sizeof(*f));
	f->depth = JSON_DEPTH_MAX;
}

void
fields_fini(struct fields *f)
{
	buf_fini(&f->scratch);
}

/* Clears the scratch and makes room for all that the text can decode to, so that slices stay. */
static void
prepare_scratch(struct buf *scratch, struct slice text)
{
	buf_clear(scratch);
	if (text.len > 0 && memchr(text.p, '\\', text.len) != NULL)
		buf_reserve(scratch, text.len);
}

static bool
is_blank(struct slice s)
{
	size_t i;

	for (i = 0; i < s.len; i++)
		if (s.p[i] != ' ' && s.p[i] != '\t' && s.p[i] != '\r' && s.p[i] != '\n')
			return false;
	return true;
}

int
schema_parse(enum body_schema which, struct slice body, struct fields *f,
    struct envelope_fault *fault)
{
	struct json_fault wrong;

	if (is_blank(body))
		body = SLICE("{}");
	if (json_parse_flags(body, f->depth, 0, &f->json, &wrong) != 0) {
		envelope_fault_set(fault, ERROR_invalid_json, NULL, "%s at byte %zu", wrong.reason,
		    wrong.offset);
		return -1;
	}
	if (f->json.kind != JSON_KIND_OBJECT) {
		envelope_fault_set(fault, ERROR_invalid_payload, "body", "must be a JSON object");
		return -1;
	}
	prepare_scratch(&f->scratch, body);
	return schema_check((enum schema_id)which, f->json, "", f->field, &f->scratch, fault);
}

int
schema_parse_element(enum body_schema which, struct json_value element, unsigned index,
    struct fields *f,
    struct envelope_fault *fault)
{
	char prefix[24];

	f->json = element;
	if (element.kind != JSON_KIND_OBJECT) {
		snprintf(prefix, sizeof(prefix), "[%u]", index);
		envelope_fault_set(fault, ERROR_invalid_payload, prefix, "must be an object");
		return -1;
	}
	snprintf(prefix, sizeof(prefix), "[%u].", index);
	prepare_scratch(&f->scratch, element.raw);
	return schema_check((enum schema_id)which, element, prefix, f->field, &f->scratch, fault);
}
