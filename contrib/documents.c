/*
 * documents.c: writes OpenAPI (the HTTP requests) and AsyncAPI (the messages of a WebSocket) from
 * the .def files that the programs themselves are made of.
 *
 * Run at build time only: "documents openapi" or "documents asyncapi", to standard output.  What is
 * told of a route or message stands in routes.def, answers.def and schema.def, never here.
 */
#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/must.h"
#include "base/version.h"
#include "http/route.h"
#include "msg/error.h"
#include "msg/schema.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ------------------------------------------------------------------ the lists as tables */

#define CHOICES(list) static const char *const choices_##list[] = {
#define CHOICE(list, value) #value,
#define CHOICES_END(list) NULL };
#include "msg/schema_each.h"
#define CHOICES(list) static const char *const choices_##list[] = {
#define CHOICE(list, value) #value,
#define CHOICES_END(list) NULL };
#include "http/answers_each.h"
#define choices_none NULL

/* Kinds that answers have beyond those of messages; the inside of a PART. */
enum {
	FIELD_KIND_CURSOR = FIELD_KIND_SAMPLES + 1,
	FIELD_KIND_NAME_OF_EVENT, FIELD_KIND_ENUMS, FIELD_KIND_COUNTS, FIELD_KIND_CODE,
	KIND_ONE, KIND_LIST, KIND_MAP
};

enum object_id {
	OBJECT_NONE, OBJECT_TEXT,
#define OBJECT(ident, doc) OBJECT_##ident,
#define OBJECT_AS(ident, schema, doc) OBJECT_##ident,
#include "http/answers_each.h"
	OBJECT_COUNT
};

static const struct object {
	const char *name, *doc;
	int as;				/* schema_id whose fields it has too */
} objects[OBJECT_COUNT] = {
#define OBJECT(ident, doc) [OBJECT_##ident] = { #ident, doc, SCHEMA_NONE },
#define OBJECT_AS(ident, schema, doc) [OBJECT_##ident] = { #ident, doc, SCHEMA_##schema },
#include "http/answers_each.h"
};

static const struct member {
	int object;
	const char *name;
	int kind, presence;
	int64_t min, max;
	const char *const *choices;
	int inside;			/* of KIND_ONE and after: object_id */
	const char *doc;
} members[] = {
#define MEMBER(object, name, kind, presence, min, max, choices, doc) \
	{ OBJECT_##object, #name, FIELD_KIND_##kind, FIELD_##presence, min, max, choices_##choices, \
	    OBJECT_NONE, doc },
#define PART(object, name, shape, presence, inside, doc) \
	{ OBJECT_##object, #name, KIND_##shape, FIELD_##presence, 0, 0, NULL, OBJECT_##inside, doc },
#include "http/answers_each.h"
};

/* The object that tells a message's payload better than its schema. */
static const int object_of_message[SCHEMA_COUNT] = {
#define MESSAGE_IS(message, object) [SCHEMA_##message] = OBJECT_##object,
#include "http/answers_each.h"
};

static const struct scheme { const char *name, *type, *detail, *parameter, *doc; } schemes[] = {
#define SCHEME(name, type, detail, parameter, doc) { #name, #type, #detail, #parameter, doc },
#include "http/answers_each.h"
};

static const struct { enum route_access who; const char *scheme; } shows[] = {
#define SHOWS(who, scheme) { ROUTE_##who, #scheme },
#include "http/answers_each.h"
};

static const struct { const char *name, *doc; } groups[] = {
#define GROUP(name, doc) { #name, doc },
#include "http/answers_each.h"
};

static const struct { const char *group, *doc; } operations[ROUTE_COUNT] = {
#define OPERATION(route, group, doc) [ROUTE_##route] = { #group, doc },
#include "http/answers_each.h"
};

static const struct param {
	enum http_route route;
	enum place { PATH, QUERY, HEADER } place;
	struct member value;
} params[] = {
#define PARAM(route, place, name, kind, presence, min, max, choices, doc) \
	{ ROUTE_##route, place, { OBJECT_NONE, #name, FIELD_KIND_##kind, FIELD_##presence, min, max, \
	    choices_##choices, OBJECT_NONE, doc } },
#include "http/answers_each.h"
};

static const enum http_route many[] = {
#define MANY(route) ROUTE_##route,
#include "http/answers_each.h"
};

static const struct { enum http_route route; int status, object; const char *when; } answers[] = {
#define ANSWER(route, status, object, when) { ROUTE_##route, status, OBJECT_##object, when },
#include "http/answers_each.h"
};

static const struct { enum http_route route; enum error_code code; const char *when; } refusals[] = {
#define REFUSED(route, code, when) { ROUTE_##route, ERROR_##code, when },
#include "http/answers_each.h"
};

static const struct { int status; const char *name; int kind; const char *doc; } headers[] = {
#define HEADER_OF(status, name, kind, doc) { status, #name, FIELD_KIND_##kind, doc },
#include "http/answers_each.h"
};

static const struct { const char *where, *json; } examples[] = {
#define EXAMPLE(where, json) { where, json },
#include "http/answers_each.h"
};

#define REFUSED_OTHERWISE(when) static const char otherwise[] = when;
#include "http/answers_each.h"

static const struct { const char *ident; enum body_schema schema; const char *doc; } bodies[] = {
#define BODY(ident, doc) { #ident, BODY_##ident, doc },
#define BODY_AS(ident, message, doc) { #ident, BODY_##ident, doc },
#include "msg/schema_each.h"
};

static const struct { const char *name; bool by_device; } events[] = {
#define SERVER false
#define DEVICE true
#define EVENT(name, who, what) { #name, who },
#include "msg/event.def"
#undef EVENT
#undef SERVER
#undef DEVICE
};

static const struct { int code; const char *reason, *advice; } closes[] = {
#define X(code, name, reason, advice) { code, reason, advice },
#include "ws/close.def"
#undef X
};

/* ------------------------------------------------------------------ JSON */

static void
set(json_t *object, const char *name, json_t *value)
{
	must(json_object_set_new(object, name, value) == 0);
}

static void
set_text(json_t *object, const char *name, const char *text)
{
	set(object, name, json_string(text));
}

static void
append(json_t *array, json_t *value)
{
	must(json_array_append_new(array, value) == 0);
}

/* A sentence: with a capital, and a full stop where it has none. */
static json_t *
sentence(const char *text)
{
	char s[1024];
	size_t len = strlen(text);

	must(len > 0 && len + 2 <= sizeof(s));
	snprintf(s, sizeof(s), "%s%s", text, strchr(".:", text[len - 1]) ? "" : ".");
	s[0] = (char)toupper((unsigned char)s[0]);
	return json_string(s);
}

static json_t *
capital(const char *text)
{
	char s[256];

	snprintf(s, sizeof(s), "%s", text);
	s[0] = (char)toupper((unsigned char)s[0]);
	return json_string(s);
}

static json_t *
reference(const char *kind, const char *name)
{
	return json_pack("{s:s+++}", "$ref", "#/components/", kind, "/", name);
}

/* ------------------------------------------------------------------ JSON Schema */

#define NO_CONTROL	"^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
#define UUID_PATTERN	"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"
/* 16 bytes in base64url (workers/storage/cursor.c). */
#define CURSOR_PATTERN	"^[A-Za-z0-9_-]{21}[AQgw]$"
#define URL_PATTERN	"^([Hh][Tt][Tt][Pp][Ss]?://|/(?!/))[^\\u0000-\\u0020\\u007f\\\\]+$"
#define TIME_SENT	"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$"

static json_t *
pattern(const char *regex)
{
	return json_pack("{s:s, s:s}", "type", "string", "pattern", regex);
}

static json_t *
text(int64_t min, int64_t max)
{
	json_t *s = json_pack("{s:s}", "type", "string");

	if (min > 0)
		set(s, "minLength", json_integer(min));
	if (max != INT64_MAX)
		set(s, "maxLength", json_integer(max));
	return s;
}

static json_t *
line(int64_t min, int64_t max, const char *regex)
{
	json_t *s = text(min, max);

	set_text(s, "pattern", regex);
	return s;
}

static json_t *
array_of(json_t *element, int64_t max)
{
	json_t *s = json_pack("{s:s, s:o}", "type", "array", "items", element);

	if (max != INT64_MAX)
		set(s, "maxItems", json_integer(max));
	return s;
}

static json_t *
one_of_these(const char *const *choices)
{
	json_t *values = json_array();

	for (; *choices != NULL; choices++)
		append(values, json_string(*choices));
	return json_pack("{s:s, s:o}", "type", "string", "enum", values);
}

static json_t *
event_names(bool by_device)
{
	json_t *names = json_array();

	for (size_t i = 0; i < COUNT(events); i++)
		if (!by_device || events[i].by_device)
			append(names, json_string(events[i].name));
	return json_pack("{s:s, s:[{s:o}, {s:s}]}", "type", "string", "anyOf", "enum", names,
	    "pattern", "^x_[a-z0-9_.:-]{1,62}$");
}

static json_t *
error_codes(void)
{
	json_t *names = json_array();

	for (int code = ERROR_NONE + 1; code < ERROR_COUNT; code++)
		append(names, json_string(error_name((enum error_code)code)));
	return json_pack("{s:s, s:o}", "type", "string", "enum", names);
}

static json_t *
integer(int64_t min, int64_t max)
{
	json_t *s = json_pack("{s:s, s:s, s:I}", "type", "integer", "format", "int64", "minimum",
	    (json_int_t)min);

	if (max != INT64_MAX)
		set(s, "maximum", json_integer(max));
	return s;
}

/* By propertyNames: generators of types know no patternProperties, and would refuse all names but one. */
static json_t *
condition(void)
{
	return json_pack("{s:s, s:{s:o}, s:{s:s}, s:b}", "type", "object", "properties",
	    "seenWithinMs", integer(0, INT64_MAX), "propertyNames", "pattern", "^(seenWithinMs|status\\..+)$",
	    "additionalProperties", 1);
}

static json_t *
fault(void)
{
	return json_pack("{s:[o, {s:s, s:{s:o, s:o}, s:[s]}]}", "oneOf", text(0, INT64_MAX), "type", "object",
	    "properties", "code", line(1, 64, NO_CONTROL), "message", text(0, INT64_MAX), "required", "code");
}

static json_t *
time_schema(bool sent)
{
	json_t *s = json_pack("{s:s, s:s}", "type", "string", "format", "date-time");

	if (sent)
		set_text(s, "pattern", TIME_SENT);
	return s;
}

static json_t *schema_of_fields(const struct schema *s, const char *doc, bool sent);

static json_t *
samples(int64_t min, int64_t max)
{
	const struct schema *s = &schema_table[SCHEMA_sample];
	json_t *array = array_of(schema_of_fields(s, s->doc, false), max);

	set(array, "minItems", json_integer(min));
	return array;
}

/* sent: by the server, which is stricter with itself. */
static json_t *
value_schema(const struct member *m, bool sent)
{
	switch (m->kind) {
	case FIELD_KIND_ID:
		return pattern("^[A-Za-z0-9._:@|+=-]{1,64}$");
	case FIELD_KIND_USERID:
		return pattern("^[A-Za-z0-9._:@|+=-]{1,128}$");
	case FIELD_KIND_UUID:
		return json_pack("{s:s, s:s, s:s}", "type", "string", "format", "uuid", "pattern",
		    UUID_PATTERN);
	case FIELD_KIND_STRING:
		return text(m->min, m->max);
	case FIELD_KIND_LINE:
		return line(m->min, m->max, NO_CONTROL);
	case FIELD_KIND_URL:
		return line(m->min, m->max, URL_PATTERN);
	case FIELD_KIND_TYPE_NAME:
		return pattern("^[a-z][a-z0-9_.:-]{0,63}$");
	case FIELD_KIND_NAME:
		return pattern("^[A-Za-z][A-Za-z0-9_.:-]{0,63}$");
	case FIELD_KIND_EVENT:
		return event_names(true);
	case FIELD_KIND_NAME_OF_EVENT:
		return event_names(false);
	case FIELD_KIND_INT:
		return integer(m->min, m->max);
	case FIELD_KIND_NUMBER:
		return json_pack("{s:s}", "type", "number");
	case FIELD_KIND_BOOL:
		return json_pack("{s:s}", "type", "boolean");
	case FIELD_KIND_TIME:
		return time_schema(sent);
	case FIELD_KIND_OBJECT:
		return json_pack("{s:s, s:b}", "type", "object", "additionalProperties", 1);
	case FIELD_KIND_ARRAY:
		return json_pack("{s:s, s:{}}", "type", "array", "items");
	case FIELD_KIND_ANY:
		return json_object();
	case FIELD_KIND_ENUM:
		return one_of_these(m->choices);
	case FIELD_KIND_ENUMS:
		return array_of(one_of_these(m->choices), m->max);
	case FIELD_KIND_IDS:
		return array_of(pattern("^[A-Za-z0-9._:@|+=-]{1,64}$"), m->max);
	case FIELD_KIND_USERIDS:
		return array_of(pattern("^[A-Za-z0-9._:@|+=-]{1,128}$"), m->max);
	case FIELD_KIND_UUIDS:
		return array_of(pattern(UUID_PATTERN), m->max);
	case FIELD_KIND_NAMES:
		return array_of(pattern("^[A-Za-z][A-Za-z0-9_.:-]{0,63}$"), m->max);
	case FIELD_KIND_LINES:
		return array_of(line(1, m->min, NO_CONTROL), m->max);
	case FIELD_KIND_FAULT:
		return fault();
	case FIELD_KIND_CONDITION:
		return condition();
	case FIELD_KIND_SAMPLES:
		return samples(m->min, m->max);
	case FIELD_KIND_CURSOR:
		return pattern(CURSOR_PATTERN);
	case FIELD_KIND_COUNTS:
		return json_pack("{s:s, s:o}", "type", "object", "additionalProperties",
		    integer(0, INT64_MAX));
	case FIELD_KIND_CODE:
		return error_codes();
	case KIND_ONE:
		return reference("schemas", objects[m->inside].name);
	case KIND_LIST:
		return array_of(reference("schemas", objects[m->inside].name), INT64_MAX);
	case KIND_MAP:
		return json_pack("{s:s, s:o}", "type", "object", "additionalProperties",
		    reference("schemas", objects[m->inside].name));
	default:
		must(!"a kind without a schema");
		return NULL;
	}
}

/* Takes the schema. */
static json_t *
or_null(json_t *schema)
{
	json_t *type = json_object_get(schema, "type"), *values = json_object_get(schema, "enum");

	if (json_object_size(schema) == 0)
		return schema;			/* anything */
	if (type == NULL || json_object_get(schema, "anyOf") != NULL)
		return json_pack("{s:[o, {s:s}]}", "anyOf", schema, "type", "null");
	set(schema, "type", json_pack("[O, s]", type, "null"));
	if (values != NULL)
		append(values, json_null());
	return schema;
}

static void
put_member(json_t *properties, json_t *required, const struct member *m, bool null, bool sent)
{
	json_t *schema = value_schema(m, sent);

	if (null)
		schema = or_null(schema);
	set(schema, "description", sentence(m->doc));
	set(properties, m->name, schema);
	if (m->presence == FIELD_REQUIRED || m->presence == FIELD_NULLABLE)
		append(required, json_string(m->name));
}

static json_t *
object_schema(json_t *properties, json_t *required, const char *doc)
{
	json_t *s = json_pack("{s:s, s:o}", "type", "object", "description", sentence(doc));

	if (json_object_size(properties) > 0)
		set(s, "properties", json_incref(properties));
	else
		set(s, "additionalProperties", json_true());
	if (json_array_size(required) > 0)
		set(s, "required", json_incref(required));
	json_decref(properties);
	json_decref(required);
	return s;
}

static const struct member *
member_find(int object, const char *name)
{
	for (size_t i = 0; i < COUNT(members); i++)
		if (members[i].object == object && strcmp(members[i].name, name) == 0)
			return &members[i];
	return NULL;
}

/* The fields of a schema, but for those that the object (or OBJECT_NONE) tells itself. */
static void
put_fields(json_t *properties, json_t *required, const struct schema *s, int object, bool sent)
{
	for (unsigned i = 0; i < s->fields_n; i++) {
		const struct schema_field *f = &s->fields[i];
		const struct member *own = object != OBJECT_NONE ? member_find(object, f->name) : NULL;
		const struct member m = { OBJECT_NONE, f->name, (int)f->kind, (int)f->presence, f->min,
		    f->max, f->choices, OBJECT_NONE, f->doc };

		if (own != NULL)
			put_member(properties, required, own, own->presence == FIELD_NULLABLE, sent);
		else
			put_member(properties, required, &m,
			    f->presence != FIELD_REQUIRED && f->presence != FIELD_EITHER, sent);
	}
}

static json_t *
schema_of_fields(const struct schema *s, const char *doc, bool sent)
{
	json_t *properties = json_object(), *required = json_array(), *either = json_array(), *object;

	put_fields(properties, required, s, OBJECT_NONE, sent);
	object = object_schema(properties, required, doc);
	for (unsigned i = 0; i < s->fields_n; i++)
		if (s->fields[i].presence == FIELD_EITHER)
			append(either, json_pack("{s:[s]}", "required", s->fields[i].name));
	if (json_array_size(either) > 0)
		set(object, "oneOf", json_incref(either));
	json_decref(either);
	return object;
}

static json_t *
schema_of_object(int object)
{
	const struct object *o = &objects[object];
	json_t *properties = json_object(), *required = json_array();

	if (o->as != SCHEMA_NONE)
		put_fields(properties, required, &schema_table[o->as], object, true);
	for (size_t i = 0; i < COUNT(members); i++)
		if (members[i].object == object && json_object_get(properties, members[i].name) == NULL)
			put_member(properties, required, &members[i],
			    members[i].presence == FIELD_NULLABLE, true);
	return object_schema(properties, required, o->doc);
}

/* Adds an object and what is inside of it. */
static void
add_object(json_t *schemas, int object)
{
	if (object <= OBJECT_TEXT || json_object_get(schemas, objects[object].name) != NULL)
		return;
	set(schemas, objects[object].name, schema_of_object(object));
	for (size_t i = 0; i < COUNT(members); i++)
		if (members[i].object == object)
			add_object(schemas, members[i].inside);
}

/* ------------------------------------------------------------------ examples */

#define EXAMPLE_TIME	"2026-01-31T12:00:00.123Z"
#define EXAMPLE_UUID	"019c13e8-0b00-7c51-8d2e-4f3a90b1c2d3"

/* Where a value stands: any may be NULL. */
struct place_of_example {
	const json_t *schemas;		/* what references lead to */
	const char *route, *status, *owner;
};

static json_t *example(struct place_of_example at, const char *name, json_t *schema);

/* The text of an EXAMPLE(scope.name), or of EXAMPLE(name) without a scope; NULL: there is none. */
static const char *
example_find(const char *scope, const char *name)
{
	size_t n = scope != NULL ? strlen(scope) : 0;

	for (size_t i = 0; i < COUNT(examples); i++) {
		const char *where = examples[i].where;

		if (n == 0 ? strcmp(where, name) == 0 :
		    strncmp(where, scope, n) == 0 && where[n] == '.' && strcmp(where + n + 1, name) == 0)
			return examples[i].json;
	}
	return NULL;
}

/* What is told of a name alone is for texts, numbers and what else is no object of the lists. */
static bool
is_plain(json_t *schema)
{
	json_t *items = json_object_get(schema, "items");

	return json_object_get(schema, "$ref") == NULL && json_object_get(schema, "const") == NULL &&
	    json_object_get(schema, "anyOf") == NULL && json_object_get(items, "$ref") == NULL;
}

/* "" fits everywhere. */
static bool
is_of_type(const char *json, json_t *schema)
{
	json_t *type = json_object_get(schema, "type");
	const char *kind = json_string_value(json_is_array(type) ? json_array_get(type, 0) : type);

	if (kind == NULL || *json == '\0' || strcmp(json, "null") == 0)
		return true;
	switch (*json) {
	case '"':
		return strcmp(kind, "string") == 0;
	case '{':
		return strcmp(kind, "object") == 0;
	case '[':
		return strcmp(kind, "array") == 0;
	default:
		return strcmp(kind, "integer") == 0 || strcmp(kind, "number") == 0 || strcmp(kind, "boolean") == 0;
	}
}

static const char *
example_told(struct place_of_example at, const char *name, json_t *schema)
{
	const char *scopes[] = { at.route, at.status, at.owner }, *json;

	for (size_t i = 0; i < COUNT(scopes); i++)
		if (scopes[i] != NULL && (json = example_find(scopes[i], name)) != NULL)
			return json;
	json = is_plain(schema) ? example_find(NULL, name) : NULL;
	return json != NULL && is_of_type(json, schema) ? json : NULL;
}

/* Of fields of which one alone is given: is there one before this? */
static bool
is_other(json_t *schema, const char *name)
{
	json_t *choices = json_object_get(schema, "oneOf"), *choice;
	size_t i;

	json_array_foreach(choices, i, choice)
		if (strcmp(json_string_value(json_array_get(json_object_get(choice, "required"), 0)), name) == 0)
			return i > 0;
	return false;
}

static json_t *
example_object(struct place_of_example at, json_t *schema)
{
	json_t *out = json_object(), *inside, *value;
	const char *name;

	json_object_foreach(json_object_get(schema, "properties"), name, inside)
		if (!is_other(schema, name) && (value = example(at, name, inside)) != NULL)
			set(out, name, value);
	inside = json_object_get(schema, "additionalProperties");
	if (json_is_object(inside) && (value = example(at, "1", inside)) != NULL)
		set(out, "1", value);
	return out;
}

static json_t *
example_array(struct place_of_example at, const char *name, json_t *items)
{
	json_t *out = json_array(), *value = example(at, name, items);

	if (value != NULL)
		append(out, value);
	return out;
}

/* By its type, where nothing is told of it. */
static json_t *
example_of_type(struct place_of_example at, const char *name, json_t *schema)
{
	json_t *type = json_object_get(schema, "type");
	const char *kind = json_string_value(json_is_array(type) ? json_array_get(type, 0) : type);
	json_t *minimum = json_object_get(schema, "minimum");

	if (kind == NULL)
		return json_null();		/* anything */
	if (strcmp(kind, "object") == 0)
		return example_object(at, schema);
	if (strcmp(kind, "array") == 0)
		return example_array(at, name, json_object_get(schema, "items"));
	if (strcmp(kind, "integer") == 0)
		return json_integer(json_integer_value(minimum) > 1 ? json_integer_value(minimum) : 1);
	if (strcmp(kind, "number") == 0)
		return json_real(1.5);
	if (strcmp(kind, "boolean") == 0)
		return json_true();
	fprintf(stderr, "answers.def: no EXAMPLE of %s.%s\n", at.owner != NULL ? at.owner : "", name);
	must(!"a text without an example");
	return NULL;
}

/* A value that the schema of the member takes; NULL: it is left out. */
static json_t *
example(struct place_of_example at, const char *name, json_t *schema)
{
	const char *ref = json_string_value(json_object_get(schema, "$ref"));
	const char *format = json_string_value(json_object_get(schema, "format"));
	const char *told = example_told(at, name, schema);
	json_t *first;

	if (format != NULL && strcmp(format, "uuid") == 0 && (told == NULL || strcmp(told, "null") != 0))
		return json_string(EXAMPLE_UUID);
	if (told != NULL)
		return *told != '\0' ? json_loads(told, JSON_DECODE_ANY, NULL) : NULL;
	if (format != NULL && strcmp(format, "date-time") == 0)
		return json_string(EXAMPLE_TIME);
	if (ref != NULL) {
		at.owner = strrchr(ref, '/') + 1;
		if ((told = strstr(at.owner, "_request") != NULL ? example_find(NULL, at.owner) : NULL) != NULL)
			return json_loads(told, JSON_DECODE_ANY, NULL);
		must((first = json_object_get(at.schemas, at.owner)) != NULL);
		return example(at, "", first);
	}
	if ((first = json_object_get(schema, "const")) != NULL)
		return json_incref(first);
	if ((first = json_array_get(json_object_get(schema, "enum"), 0)) != NULL)
		return json_incref(first);
	if (json_object_get(schema, "type") == NULL) {
		first = json_array_get(json_object_get(schema, "anyOf"), 0);
		if (first == NULL)
			first = json_array_get(json_object_get(schema, "oneOf"), 0);
		if (first != NULL)
			return example(at, name, first);
	}
	return example_of_type(at, name, schema);
}

/* ------------------------------------------------------------------ what both documents have */

static json_t *
info(const char *title, const char *about)
{
	return json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "title", title, "version", BELAY_VERSION,
	    "description", about, "license", "name", "ISC", "url",
	    "https://spdx.org/licenses/ISC.html");
}

static json_t *
server_host(void)
{
	return json_pack("{s:s, s:s}", "default", "127.0.0.1:3000", "description",
	    "Where a listener of server.listen is reached.");
}

/* in_place: what the document calls a scheme whose token stands in a parameter. */
static json_t *
security_schemes(const char *in_place)
{
	json_t *all = json_object();

	for (size_t i = 0; i < COUNT(schemes); i++) {
		const struct scheme *s = &schemes[i];
		json_t *doc = sentence(s->doc);

		set(all, s->name, strcmp(s->type, "http") == 0 ?
		    json_pack("{s:s, s:s, s:s, s:o}", "type", "http", "scheme", "bearer", "bearerFormat",
		    s->detail, "description", doc) :
		    json_pack("{s:s, s:s, s:s, s:o}", "type", in_place, "in", s->detail, "name",
		    s->parameter, "description", doc));
	}
	return all;
}

/* ------------------------------------------------------------------ OpenAPI */

static const char *const place_names[] = { "path", "query", "header" };

static json_t *
route_parameters(enum http_route route)
{
	json_t *list = json_array(), *one;

	for (size_t i = 0; i < COUNT(params); i++) {
		const struct param *p = &params[i];

		if (p->route != route)
			continue;
		one = json_pack("{s:s, s:s, s:b, s:o, s:o}", "name", p->value.name, "in",
		    place_names[p->place], "required", p->value.presence == FIELD_REQUIRED,
		    "description", sentence(p->value.doc), "schema", value_schema(&p->value, false));
		if (p->place == PATH)
			set(one, "example", example((struct place_of_example){ .owner = "path" }, p->value.name,
			    json_object_get(one, "schema")));
		append(list, one);
	}
	return list;
}

static bool
takes_many(enum http_route route)
{
	for (size_t i = 0; i < COUNT(many); i++)
		if (many[i] == route)
			return true;
	return false;
}

/* An empty body is {}: it may be left out when no field is required. */
static json_t *
route_body(const struct route *r, const json_t *schemas)
{
	const struct place_of_example at = { .schemas = schemas, .route = r->name };

	for (size_t i = 0; i < COUNT(bodies); i++) {
		const struct schema *s = &schema_table[bodies[i].schema];
		bool required = false;
		char name[80];
		json_t *schema, *value;

		if (strcmp(r->body, bodies[i].ident) != 0)
			continue;
		for (unsigned f = 0; f < s->fields_n; f++)
			required = required || s->fields[f].presence != FIELD_OPTIONAL;
		snprintf(name, sizeof(name), "%s_request", r->body);
		schema = reference("schemas", name);
		value = example(at, "", schema);
		if (takes_many((enum http_route)(r - route_table)))
			schema = json_pack("{s:[O, {s:s, s:o}]}", "oneOf", schema, "type", "array", "items",
			    schema);
		return json_pack("{s:b, s:{s:{s:o, s:o}}}", "required", required, "content",
		    "application/json", "schema", schema, "example", value);
	}
	must(strcmp(r->body, "NONE") == 0);
	return NULL;
}

static json_t *
response_headers(int status)
{
	json_t *list = json_object();

	for (size_t i = 0; i < COUNT(headers); i++) {
		const struct member value = { .kind = headers[i].kind, .max = INT64_C(8192) };

		if (headers[i].status == status)
			set(list, headers[i].name, json_pack("{s:o, s:o}", "description",
			    sentence(headers[i].doc), "schema", value_schema(&value, true)));
	}
	return list;
}

/* Takes the example. */
static json_t *
content(const char *object, json_t *value)
{
	return json_pack("{s:{s:o, s:o}}", "application/json", "schema", reference("schemas", object),
	    "example", value);
}

static json_t *
example_of_error(enum error_code code)
{
	return json_pack("{s:{s:s, s:s}}", "error", "code", error_name(code), "message", error_text(code));
}

static json_t *
answer(size_t i, const json_t *schemas)
{
	char status[8];
	const struct place_of_example at = { schemas, route_table[answers[i].route].name, status, NULL };
	json_t *r = json_pack("{s:o}", "description", sentence(answers[i].when));

	snprintf(status, sizeof(status), "%d", answers[i].status);
	if (answers[i].object == OBJECT_TEXT) {
		set(r, "content", json_pack("{s:{s:{s:s}, s:s}}", "text/plain", "schema", "type", "string", "example",
		    "# TYPE belay_connections_open gauge\nbelay_connections_open 12\n"));
	} else if (answers[i].object != OBJECT_NONE) {
		const char *object = objects[answers[i].object].name;
		json_t *ref = reference("schemas", object);

		set(r, "content", content(object, example(at, "", ref)));
		json_decref(ref);
	}
	return r;
}

/* Adds a refusal to those of its status: code and when, in the words of the description. */
static void
add_refusal(json_t *responses, enum error_code code, const char *when)
{
	char status[8], words[1024];
	json_t *r, *codes, *found, *list;
	const char *before;
	size_t i;

	snprintf(status, sizeof(status), "%d", error_status(code));
	r = json_object_get(responses, status);
	if (r != NULL && json_object_get(r, "x-codes") == NULL)
		return;		/* told by an ANSWER: the more exact one */
	if (r == NULL) {
		r = json_pack("{s:s, s:[]}", "description", "", "x-codes");
		set(responses, status, r);
		list = response_headers(error_status(code));
		if (json_object_size(list) > 0)
			set(r, "headers", json_incref(list));
		json_decref(list);
		set(r, "content", content("error", example_of_error(code)));
	}
	codes = json_object_get(r, "x-codes");
	json_array_foreach(codes, i, found)
		if (strcmp(json_string_value(found), error_name(code)) == 0)
			return;
	append(codes, json_string(error_name(code)));
	before = json_string_value(json_object_get(r, "description"));
	snprintf(words, sizeof(words), "%s%s%s: %s%s%s.", before, *before ? " " : "", error_name(code),
	    error_text(code), *when ? ": " : "", when);
	set_text(r, "description", words);
}

static json_t *
route_responses(enum http_route route, const json_t *schemas)
{
	json_t *responses = json_object();
	char status[8];

	for (size_t i = 0; i < COUNT(answers); i++) {
		if (answers[i].route != route)
			continue;
		snprintf(status, sizeof(status), "%d", answers[i].status);
		must(json_object_get(responses, status) == NULL);
		set(responses, status, answer(i, schemas));
	}
	must(json_object_size(responses) > 0);
	for (size_t i = 0; i < COUNT(refusals); i++)
		if (refusals[i].route == route)
			add_refusal(responses, refusals[i].code, refusals[i].when);
	set(responses, "default", json_pack("{s:o, s:o}", "description", sentence(otherwise), "content",
	    content("error", example_of_error(ERROR_internal))));
	return responses;
}

static json_t *
route_security(enum route_access who)
{
	json_t *list = json_array();

	for (size_t i = 0; i < COUNT(shows); i++) {
		if (shows[i].who != who)
			continue;
		if (strcmp(shows[i].scheme, "NOTHING") == 0)
			append(list, json_object());
		else
			append(list, json_pack("{s:[]}", shows[i].scheme));
	}
	must(json_array_size(list) > 0);
	return list;
}

static const char *
who_may(enum route_access access)
{
	static const char *const words[] = {
		[ROUTE_ANYONE] = "anyone", [ROUTE_USER] = "user", [ROUTE_VIEW] = "view",
		[ROUTE_CONTROL] = "control", [ROUTE_ADMIN] = "admin", [ROUTE_OWNER] = "owner",
		[ROUTE_SERVICE] = "service", [ROUTE_DEVICE] = "device", [ROUTE_USER_DEVICE] = "user, device",
		[ROUTE_METRICS] = "metrics", [ROUTE_SOCKET] = "socket"
	};

	return words[access];
}

static json_t *
operation(enum http_route route, const json_t *schemas)
{
	const struct route *r = &route_table[route];
	json_t *o, *parameters = route_parameters(route), *body = route_body(r, schemas);

	must(operations[route].group != NULL);	/* each line of routes.def has an OPERATION */
	o = json_pack("{s:s, s:[s], s:o, s:s}", "operationId", r->name, "tags", operations[route].group,
	    "summary", capital(r->doc), "x-who-may", who_may(r->access));
	if (*operations[route].doc)
		set_text(o, "description", operations[route].doc);
	set(o, "security", route_security(r->access));
	if (json_array_size(parameters) > 0)
		set(o, "parameters", json_incref(parameters));
	json_decref(parameters);
	if (body != NULL)
		set(o, "requestBody", body);
	set(o, "responses", route_responses(route, schemas));
	return o;
}

/* "/api/device/:id" as "/api/device/{id}" */
static void
path_template(const char *path, char *out, size_t size)
{
	size_t n = 0;
	bool open = false;

	for (;; path++) {
		must(n + 3 < size);
		if (open && (*path == '/' || *path == '\0')) {
			out[n++] = '}';
			open = false;
		}
		if (*path == ':')
			open = true;
		out[n++] = *path == ':' ? '{' : *path;
		if (*path == '\0')
			return;
	}
}

static const char *
method_name(enum http_method method)
{
	switch (method) {
	case HTTP_GET: return "get";
	case HTTP_POST: return "post";
	case HTTP_PUT: return "put";
	case HTTP_DELETE: return "delete";
	default: must(!"a method without a name"); return NULL;
	}
}

static json_t *
paths(const json_t *schemas)
{
	json_t *all = json_object();

	for (int route = ROUTE_NONE + 1; route < ROUTE_COUNT; route++) {
		const struct route *r = &route_table[route];
		char path[128];

		path_template(r->path, path, sizeof(path));
		if (json_object_get(all, path) == NULL)
			set(all, path, json_object());
		set(json_object_get(all, path), method_name(r->method), operation((enum http_route)route, schemas));
	}
	return all;
}

static json_t *
openapi_schemas(void)
{
	json_t *schemas = json_object();
	char name[80];

	add_object(schemas, OBJECT_error);
	for (size_t i = 0; i < COUNT(answers); i++)
		add_object(schemas, answers[i].object);
	for (size_t i = 0; i < COUNT(bodies); i++) {
		snprintf(name, sizeof(name), "%s_request", bodies[i].ident);
		set(schemas, name, schema_of_fields(&schema_table[bodies[i].schema], bodies[i].doc, false));
	}
	return schemas;
}

static json_t *
openapi(void)
{
	json_t *tags = json_array(), *schemas = openapi_schemas();

	for (size_t i = 0; i < COUNT(groups); i++)
		append(tags, json_pack("{s:s, s:o}", "name", groups[i].name, "description",
		    sentence(groups[i].doc)));
	return json_pack("{s:s, s:o, s:[{s:s, s:{s:{s:s, s:[s, s]}, s:o}}], s:o, s:o, s:{s:o, s:o}}",
	    "openapi", "3.1.0",
	    "info", info("Belay", "HTTP requests that Belay answers; belay-api(7) is the same for "
	    "readers. Members that are not listed are ignored in requests, and may be added to answers. "
	    "HEAD is answered where GET is."),
	    "servers", "url", "{scheme}://{host}", "variables",
	    "scheme", "default", "http", "enum", "http", "https", "host", server_host(),
	    "tags", tags, "paths", paths(schemas),
	    "components", "securitySchemes", security_schemes("apiKey"), "schemas", schemas);
}

/* ------------------------------------------------------------------ AsyncAPI */

/* The whole message: an envelope of type, payload and what ties answers to requests. */
static json_t *
envelope(int id)
{
	const struct schema *s = &schema_table[id];
	bool sent = s->from == SCHEMA_SERVER, needed = sent;
	json_t *payload, *properties = json_object(), *required = json_pack("[s]", "type");

	if (object_of_message[id] != OBJECT_NONE)
		payload = reference("schemas", objects[object_of_message[id]].name);
	else
		payload = schema_of_fields(s, s->doc, sent);
	for (unsigned i = 0; i < s->fields_n; i++)
		needed = needed || s->fields[i].presence != FIELD_OPTIONAL;
	if (needed)
		append(required, json_string("payload"));
	else
		payload = or_null(payload);
	set(properties, "type", json_pack("{s:s, s:s}", "type", "string", "const", s->name));
	set(properties, "payload", payload);
	if (sent) {
		set(properties, "re", json_pack("{s:s, s:i, s:s}", "type", "string", "maxLength", 64,
		    "description", "The id of the request that this answers."));
		set(properties, "cursor", json_pack("{s:s, s:s, s:s}", "type", "string", "pattern",
		    CURSOR_PATTERN, "description", "The place of a stored event, for resume."));
	} else {
		set(properties, "id", json_pack("{s:[s, s], s:i, s:s}", "type", "string", "null", "maxLength", 64,
		    "description", "Chosen by the sender; the answer carries it as re. Null is the same as none."));
	}
	return json_pack("{s:s, s:o, s:o}", "type", "object", "properties", properties, "required",
	    required);
}

static bool
is_message(int id)
{
	return schema_table[id].from != 0;
}

static json_t *
messages(const json_t *schemas)
{
	json_t *all = json_object(), *whole;

	for (int id = SCHEMA_NONE + 1; id < SCHEMA_COUNT; id++) {
		const struct schema *s = &schema_table[id];
		const struct place_of_example at = { .schemas = schemas, .owner = s->ident };

		if (!is_message(id))
			continue;
		whole = envelope(id);
		set(all, s->ident, json_pack("{s:s, s:s, s:s, s:s, s:{s:s}, s:o, s:[{s:s, s:o}]}", "name", s->name,
		    "title", s->ident, "summary", s->doc, "contentType", "application/json",
		    "correlationId", "location", s->from == SCHEMA_SERVER ?
		    "$message.payload#/re" : "$message.payload#/id", "payload", whole,
		    "examples", "name", s->ident, "payload", example(at, "", whole)));
	}
	return all;
}

static json_t *
channel_messages(void)
{
	json_t *all = json_object();

	for (int id = SCHEMA_NONE + 1; id < SCHEMA_COUNT; id++)
		if (is_message(id))
			set(all, schema_table[id].ident, reference("messages", schema_table[id].ident));
	return all;
}

static json_t *
handshake(enum place place)
{
	json_t *properties = json_object();

	for (size_t i = 0; i < COUNT(params); i++) {
		const struct param *p = &params[i];
		json_t *schema;

		if (p->route != ROUTE_ws || p->place != place)
			continue;
		schema = value_schema(&p->value, false);
		set(schema, "description", sentence(p->value.doc));
		set(properties, p->value.name, schema);
	}
	for (size_t i = 0; i < COUNT(schemes); i++)
		if (strcmp(schemes[i].detail, place_names[place]) == 0)
			set(properties, schemes[i].parameter, json_pack("{s:s, s:o}", "type", "string",
			    "description", sentence(schemes[i].doc)));
	return json_pack("{s:s, s:o}", "type", "object", "properties", properties);
}

static json_t *
close_codes(void)
{
	json_t *all = json_array();

	for (size_t i = 0; i < COUNT(closes); i++)
		append(all, json_pack("{s:i, s:s, s:s}", "code", closes[i].code, "reason",
		    closes[i].reason, "clientShould", closes[i].advice));
	return all;
}

static json_t *
channel(void)
{
	const struct route *r = &route_table[ROUTE_ws];

	return json_pack("{s:s, s:o, s:s, s:o, s:{s:{s:s, s:o, s:o, s:s}}, s:o}", "address", r->path,
	    "summary", capital(r->doc), "description", operations[ROUTE_ws].doc,
	    "messages", channel_messages(),
	    "bindings", "ws", "method", "GET", "query", handshake(QUERY), "headers", handshake(HEADER),
	    "bindingVersion", "0.1.0", "x-close-codes", close_codes());
}

/* An operation is one direction of one kind of client; its action is the server's. */
static json_t *
direction(unsigned client, bool receive)
{
	json_t *list = json_array();

	for (int id = SCHEMA_NONE + 1; id < SCHEMA_COUNT; id++) {
		const struct schema *s = &schema_table[id];

		if (receive ? (s->from & client) != 0 : s->from == SCHEMA_SERVER && (s->to & client) != 0)
			append(list, json_pack("{s:s+}", "$ref", "#/channels/ws/messages/", s->ident));
	}
	return json_pack("{s:s, s:{s:s}, s:s, s:o}", "action", receive ? "receive" : "send", "channel",
	    "$ref", "#/channels/ws", "summary", client == SCHEMA_DEVICE ?
	    receive ? "What devices send." : "What devices are sent." :
	    receive ? "What dashboards send." : "What dashboards are sent.", "messages", list);
}

static json_t *
asyncapi_server(const char *protocol)
{
	json_t *security = json_array();

	for (size_t i = 0; i < COUNT(schemes); i++)
		append(security, reference("securitySchemes", schemes[i].name));
	return json_pack("{s:s, s:s, s:{s:o}, s:o}", "host", "{host}", "protocol", protocol, "variables",
	    "host", server_host(), "security", security);
}

static json_t *
asyncapi(void)
{
	json_t *schemas = json_object();

	for (int id = SCHEMA_NONE + 1; id < SCHEMA_COUNT; id++)
		add_object(schemas, object_of_message[id]);
	return json_pack("{s:s, s:o, s:s, s:{s:o, s:o}, s:{s:o}, s:{s:o, s:o, s:o, s:o},"
	    " s:{s:o, s:o, s:o}}",
	    "asyncapi", "3.0.0",
	    "info", info("Belay", "Messages between Belay, devices and dashboards; belay-protocol(7) is "
	    "the same for readers. Members that are not listed are ignored."),
	    "defaultContentType", "application/json",
	    "servers", "plain", asyncapi_server("ws"), "tls", asyncapi_server("wss"),
	    "channels", "ws", channel(),
	    "operations", "fromDevices", direction(SCHEMA_DEVICE, true),
	    "toDevices", direction(SCHEMA_DEVICE, false), "fromUsers", direction(SCHEMA_USER, true),
	    "toUsers", direction(SCHEMA_USER, false),
	    "components", "securitySchemes", security_schemes("httpApiKey"), "schemas", schemas, "messages",
	    messages(schemas));
}

int
main(int argc, char **argv)
{
	json_t *document;

	if (argc == 2 && strcmp(argv[1], "openapi") == 0) {
		document = openapi();
	} else if (argc == 2 && strcmp(argv[1], "asyncapi") == 0) {
		document = asyncapi();
	} else {
		fputs("usage: documents openapi | asyncapi\n", stderr);
		return 1;
	}
	must(document != NULL);
	if (json_dumpf(document, stdout, JSON_INDENT(1) | JSON_PRESERVE_ORDER) != 0)
		return 1;
	putchar('\n');
	json_decref(document);
	return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
