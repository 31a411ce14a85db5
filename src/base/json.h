/*
 * json.h: a strict RFC 8259 scanner that allocates nothing.
 *
 * A text is validated once, whole, by json_parse(); after that its parts are
 * slices into it, and the functions below walk them without checking again:
 * they must only be given values that came from a validated text.
 *
 * The kinds are called JSON_KIND_… and the string reader json_text() since
 * jansson, which libjwt brings into the same process, owns JSON_STRING,
 * json_string() and their like.
 */
#ifndef BELAY_BASE_JSON_H
#define BELAY_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

enum json_kind {
	JSON_KIND_NULL,
	JSON_KIND_BOOL,
	JSON_KIND_NUMBER,
	JSON_KIND_STRING,
	JSON_KIND_ARRAY,
	JSON_KIND_OBJECT
};

struct json_value {
	enum json_kind kind;
	struct slice raw;	/* exact text, quotes and brackets included, no surrounding space */
};

#define JSON_DEPTH_MAX 512	/* largest max_depth that is honoured */

enum json_flags {
	JSON_UTF8_CHECKED = 1	/* the whole text is known to be valid UTF-8 already */
};

struct json_fault {
	const char *reason;	/* static text */
	size_t offset;		/* of the first byte that can't be right */
};

/*
 * Validates the whole text: exactly one value, white space around it allowed.
 * Refused: more than max_depth containers inside one another, trailing commas,
 * leading zeros, control characters in strings, unknown escapes, \u0000, lone
 * surrogates (escaped or encoded), ill-formed UTF-8, a byte order mark.
 * Numbers are checked for grammar, not for range.  Duplicate keys pass.
 * 0, or -1 with *fault (which may be NULL) filled.
 */
int json_parse(struct slice text, unsigned max_depth, struct json_value *out);
int json_parse_flags(struct slice text, unsigned max_depth, unsigned flags,
    struct json_value *out, struct json_fault *fault);

/*
 * Whether bytes from elsewhere (headers, queries) are well-formed UTF-8 and so may become JSON
 * text.
 */
bool json_is_utf8(struct slice s);

/* Walks the members of one validated object or the elements of one array. */
struct json_iter {
	const char *p, *end;
};

void json_iter_init(struct json_iter *it, struct json_value container);
/* true and the next member, whose key is a JSON_KIND_STRING value; false at the end. */
bool json_object_next(struct json_iter *it, struct json_value *key, struct json_value *value);
bool json_array_next(struct json_iter *it, struct json_value *value);

/*
 * The decoded text of a string.  Without escapes *out points into the raw
 * text, else the decoded bytes are appended to scratch and *out points there:
 * a later append may move them, so a caller that keeps several reserves room
 * for the whole text first (decoding never lengthens).  -1: not a string.
 */
int json_text(struct json_value v, struct buf *scratch, struct slice *out);
bool json_text_is(struct json_value v, const char *s);	/* is a string that decodes to s */

/* An integer in range; 1.0 and 1e3 are integers, 1.5 and 9223372036854775808 are not: -1. */
int json_i64(struct json_value v, int64_t *out);
int json_bool(struct json_value v, bool *out);		/* -1: neither true nor false */

/* The member of that name, the last where there are several.  0, or -1: v is no object or has none. */
int json_get(struct json_value object, const char *key, struct json_value *value);
/* The same of the text of a validated object without space around it, or of none: the member's own text, or none. */
struct slice json_raw(struct slice object, const char *key);

/*
 * Appends a text that is the same for equal values of validated texts: without spaces, members in the
 * order of their names and the last of several of one name, strings with the fewest escapes.  Integers
 * within 64 bits are equal by value, other numbers as doubles (RFC 8259 section 6), and those beyond
 * doubles as they are written.
 */
void json_put_canonical(struct buf *out, struct json_value v);

/* Whether two values of validated texts are the same by that. */
bool json_same(struct json_value a, struct json_value b);

#endif
