/*
 * json.c: the strict JSON scanner.
 *
 * Runs in every process that reads messages or request bodies, and is the only
 * judge of those.  It owns nothing and keeps nothing: validation is one loop with a stack of bits (is
 * the container around us an object?), so a hostile depth costs no stack, and
 * walking a validated text only finds where values end.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/must.h"
#include "base/text.h"

#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

/* The first byte of [p, end) that is not plain ASCII: control, quote, backslash, or >= 0x80. */
static inline const char *
skip_plain(const char *p, const char *end)
{
	while (end - p >= 8) {
		uint64_t x, hit;

		memcpy(&x, p, 8);
		/*
		 * A byte less than what is subtracted borrows and so shows its
		 * top bit.  Only the lowest hit is certain.
		 */
		hit = x | (x - ONES * 0x20) | ((x ^ ONES * '"') - ONES) |
		    ((x ^ ONES * '\\') - ONES);
		hit &= HIGHS;
		if (hit != 0) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
			return p + (__builtin_ctzll(hit) >> 3);
#else
			break;
#endif
		}
		p += 8;
	}
	while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
	    *p != '\\')
		p++;
	return p;
}

bool
json_is_utf8(struct slice s)
{
	const char *p = s.p, *end = s.len > 0 ? s.p + s.len : s.p;

	while (p < end) {
		size_t n = text_utf8_len(p, (size_t)(end - p));

		if (n == 0)
			return false;
		p += n;
	}
	return true;
}

/* Four hex digits, or -1. */
static int
hex4(const char *p)
{
	int v = 0;

	for (int i = 0; i < 4; i++) {
		int digit = text_hex_value(p[i]);

		if (digit == -1)
			return -1;
		v = v << 4 | digit;
	}
	return v;
}

/* Checks the escape at p, which is a backslash.  The byte after it, or NULL with *reason. */
static const char *
check_escape(const char *p, const char *end, const char **reason)
{
	int unit;

	if (end - p < 2) {
		*reason = "unterminated string";
		return NULL;
	}
	switch (p[1]) {
	case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
		return p + 2;
	case 'u':
		break;
	default:
		*reason = "unknown escape";
		return NULL;
	}
	if (end - p < 6 || (unit = hex4(p + 2)) < 0) {
		*reason = "malformed \\u escape";
		return NULL;
	}
	if (unit == 0) {
		*reason = "\\u0000 in a string";
		return NULL;
	}
	if (unit < 0xd800 || unit > 0xdfff)
		return p + 6;
	if (unit > 0xdbff || end - p < 12 || p[6] != '\\' || p[7] != 'u' ||
	    (unit = hex4(p + 8)) < 0xdc00 || unit > 0xdfff) {
		*reason = "lone surrogate";
		return NULL;
	}
	return p + 12;
}

/*
 * Checks a string whose opening quote is before p.  The byte after its closing
 * quote, or NULL with *reason and *at.
 */
static inline const char *
check_string(const char *p, const char *end, bool utf8_checked, const char **reason,
    const char **at)
{
	for (;;) {
		const char *next;
		size_t n;

		p = skip_plain(p, end);
		*at = p;
		if (p == end) {
			*reason = "unterminated string";
			return NULL;
		}
		if (*p == '"')
			return p + 1;
		if (*p == '\\') {
			if ((next = check_escape(p, end, reason)) == NULL)
				return NULL;
			p = next;
		} else if ((unsigned char)*p < 0x20) {
			*reason = "control character in a string";
			return NULL;
		} else if (utf8_checked) {
			p++;
		} else if ((n = text_utf8_len(p, (size_t)(end - p))) > 0) {
			p += n;
		} else {
			*reason = "ill-formed UTF-8";
			return NULL;
		}
	}
}

static inline bool
is_digit(const char *p, const char *end)
{
	return p < end && *p >= '0' && *p <= '9';
}

/* Checks the number at p.  The byte after it, or NULL with *at. */
static inline const char *
check_number(const char *p, const char *end, const char **at)
{
	if (*p == '-')
		p++;
	if (!is_digit(p, end))
		goto bad;
	if (*p == '0')
		p++;
	else
		while (is_digit(p, end))
			p++;
	if (p < end && *p == '.') {
		p++;
		if (!is_digit(p, end))
			goto bad;
		while (is_digit(p, end))
			p++;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		if (!is_digit(p, end))
			goto bad;
		while (is_digit(p, end))
			p++;
	}
	return p;
bad:
	*at = p;
	return NULL;
}

static inline const char *
skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
		p++;
	return p;
}

static inline bool
is_word(const char *p, const char *end, const char *word, size_t len)
{
	return (size_t)(end - p) >= len && memcmp(p, word, len) == 0;
}

int
json_parse_flags(struct slice text, unsigned max_depth, unsigned flags, struct json_value *out,
    struct json_fault *fault)
{
	const char *p = text.p, *end = text.p + text.len, *start, *at;
	const char *reason = "unexpected character";
	const bool utf8_checked = (flags & JSON_UTF8_CHECKED) != 0;
	uint64_t objects[JSON_DEPTH_MAX / 64];	/* bit depth-1: that container is an object */
	unsigned depth = 0;
	bool in_object = false;
	enum json_kind kind = JSON_KIND_NULL;

	if (max_depth > JSON_DEPTH_MAX)
		max_depth = JSON_DEPTH_MAX;
	if (text.len == 0) {
		if (fault != NULL)
			*fault = (struct json_fault){ "unexpected end", 0 };
		return -1;
	}
	start = at = skip_space(p, end);
value:
	p = at = skip_space(p, end);
	if (p == end)
		goto ended;
	switch (*p) {
	case '{':
	case '[':
		if (depth == max_depth) {
			reason = "nested too deeply";
			goto bad;
		}
		in_object = *p == '{';
		if (depth == 0)
			kind = in_object ? JSON_KIND_OBJECT : JSON_KIND_ARRAY;
		if (in_object)
			objects[depth / 64] |= UINT64_C(1) << (depth % 64);
		else
			objects[depth / 64] &= ~(UINT64_C(1) << (depth % 64));
		depth++;
		p = at = skip_space(p + 1, end);
		if (p == end)
			goto ended;
		if (*p == (in_object ? '}' : ']'))
			goto close;
		if (in_object)
			goto key;
		goto value;
	case '"':
		if (depth == 0)
			kind = JSON_KIND_STRING;
		if ((p = check_string(p + 1, end, utf8_checked, &reason, &at)) == NULL)
			goto bad;
		break;
	case '-': case '0': case '1': case '2': case '3': case '4':
	case '5': case '6': case '7': case '8': case '9':
		if (depth == 0)
			kind = JSON_KIND_NUMBER;
		if ((p = check_number(p, end, &at)) == NULL) {
			reason = "malformed number";
			goto bad;
		}
		break;
	case 't':
		if (!is_word(p, end, "true", 4))
			goto bad;
		if (depth == 0)
			kind = JSON_KIND_BOOL;
		p += 4;
		break;
	case 'f':
		if (!is_word(p, end, "false", 5))
			goto bad;
		if (depth == 0)
			kind = JSON_KIND_BOOL;
		p += 5;
		break;
	case 'n':
		if (!is_word(p, end, "null", 4))
			goto bad;
		p += 4;
		break;
	default:
		goto bad;
	}
after:
	if (depth == 0)
		goto whole;
	p = at = skip_space(p, end);
	if (p == end)
		goto ended;
	if (*p == ',') {
		p++;
		if (!in_object)
			goto value;
		p = at = skip_space(p, end);
		goto key;
	}
	if (*p != (in_object ? '}' : ']'))
		goto bad;
close:
	p++;
	depth--;
	in_object = depth > 0 && (objects[(depth - 1) / 64] >> ((depth - 1) % 64) & 1) != 0;
	goto after;
key:
	if (p == end)
		goto ended;
	if (*p != '"')
		goto bad;
	if ((p = check_string(p + 1, end, utf8_checked, &reason, &at)) == NULL)
		goto bad;
	p = at = skip_space(p, end);
	if (p == end)
		goto ended;
	if (*p != ':')
		goto bad;
	p++;
	goto value;
whole:
	*out = (struct json_value){ kind, { start, (size_t)(p - start) } };
	p = at = skip_space(p, end);
	if (p == end)
		return 0;
	reason = "more after the value";
	goto bad;
ended:
	reason = "unexpected end";
bad:
	if (fault != NULL)
		*fault = (struct json_fault){ reason, (size_t)(at - text.p) };
	return -1;
}

int
json_parse(struct slice text, unsigned max_depth, struct json_value *out)
{
	return json_parse_flags(text, max_depth, 0, out, NULL);
}

/* From here on every text is known to be valid. */

/* The byte after the string whose opening quote is at p. */
static inline const char *
string_end(const char *p, const char *end)
{
	p++;
	for (;;) {
		p = skip_plain(p, end);
		if (*p == '"')
			return p + 1;
		p += *p == '\\' ? 2 : 1;
	}
}

static inline const char *
container_end(const char *p, const char *end)
{
	unsigned depth = 0;

	for (;;) {
		switch (*p) {
		case '"':
			p = string_end(p, end);
			continue;
		case '{': case '[':
			depth++;
			break;
		case '}': case ']':
			if (--depth == 0)
				return p + 1;
			break;
		}
		p++;
	}
}

/* Reads the value at p, which is no space; its end is below end. */
static inline const char *
take_value(const char *p, const char *end, struct json_value *v)
{
	const char *start = p;

	switch (*p) {
	case '"':
		v->kind = JSON_KIND_STRING;
		p = string_end(p, end);
		break;
	case '{':
		v->kind = JSON_KIND_OBJECT;
		p = container_end(p, end);
		break;
	case '[':
		v->kind = JSON_KIND_ARRAY;
		p = container_end(p, end);
		break;
	case 't':
		v->kind = JSON_KIND_BOOL;
		p += 4;
		break;
	case 'f':
		v->kind = JSON_KIND_BOOL;
		p += 5;
		break;
	case 'n':
		v->kind = JSON_KIND_NULL;
		p += 4;
		break;
	default:
		v->kind = JSON_KIND_NUMBER;
		while (p < end && ((*p >= '0' && *p <= '9') || *p == '.' || *p == 'e' ||
		    *p == 'E' || *p == '+' ||
		    *p == '-'))
			p++;
		break;
	}
	v->raw = (struct slice){ start, (size_t)(p - start) };
	return p;
}

void
json_iter_init(struct json_iter *it, struct json_value container)
{
	if (container.kind != JSON_KIND_OBJECT && container.kind != JSON_KIND_ARRAY) {
		it->p = it->end = NULL;
		return;
	}
	it->end = container.raw.p + container.raw.len - 1;
	it->p = skip_space(container.raw.p + 1, it->end);
}

/* Over the comma to the next member, or to the end. */
static inline const char *
skip_comma(const char *p, const char *end)
{
	p = skip_space(p, end);
	if (p < end && *p == ',')
		p = skip_space(p + 1, end);
	return p;
}

bool
json_object_next(struct json_iter *it, struct json_value *key, struct json_value *value)
{
	const char *p = it->p;

	if (p == it->end)
		return false;
	key->kind = JSON_KIND_STRING;
	key->raw.p = p;
	p = string_end(p, it->end);
	key->raw.len = (size_t)(p - key->raw.p);
	p = skip_space(p, it->end);
	p = skip_space(p + 1, it->end);		/* the colon */
	p = take_value(p, it->end, value);
	it->p = skip_comma(p, it->end);
	return true;
}

bool
json_array_next(struct json_iter *it, struct json_value *value)
{
	if (it->p == it->end)
		return false;
	it->p = skip_comma(take_value(it->p, it->end, value), it->end);
	return true;
}

/* Decodes the escape at *p to UTF-8 and moves *p behind it.  Returns its length. */
static int
decode_escape(const char **p, char out[4])
{
	const char *s = *p + 1;
	int c;

	*p += 2;
	switch (*s) {
	case 'b': out[0] = '\b'; return 1;
	case 'f': out[0] = '\f'; return 1;
	case 'n': out[0] = '\n'; return 1;
	case 'r': out[0] = '\r'; return 1;
	case 't': out[0] = '\t'; return 1;
	case 'u': break;
	default: out[0] = *s; return 1;
	}
	c = hex4(s + 1);
	*p += 4;
	if (c >= 0xd800 && c <= 0xdbff) {
		c = 0x10000 + ((c - 0xd800) << 10) + (hex4(*p + 2) - 0xdc00);
		*p += 6;
	}
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

int
json_text(struct json_value v, struct buf *scratch, struct slice *out)
{
	const char *p, *end, *esc;
	size_t start;

	if (v.kind != JSON_KIND_STRING)
		return -1;
	p = v.raw.p + 1;
	end = v.raw.p + v.raw.len - 1;
	esc = p < end ? memchr(p, '\\', (size_t)(end - p)) : NULL;
	if (esc == NULL) {
		*out = (struct slice){ p, (size_t)(end - p) };
		return 0;
	}
	buf_reserve(scratch, (size_t)(end - p));
	start = scratch->len;
	while (esc != NULL) {
		char c[4];
		int n;

		buf_put(scratch, p, (size_t)(esc - p));
		p = esc;
		n = decode_escape(&p, c);
		buf_put(scratch, c, (size_t)n);
		esc = p < end ? memchr(p, '\\', (size_t)(end - p)) : NULL;
	}
	buf_put(scratch, p, (size_t)(end - p));
	*out = (struct slice){ scratch->data + start, scratch->len - start };
	return 0;
}

bool
json_text_is(struct json_value v, const char *s)
{
	size_t len = strlen(s);
	const char *p, *end;

	if (v.kind != JSON_KIND_STRING || v.raw.len < len + 2)
		return false;
	p = v.raw.p + 1;
	end = v.raw.p + v.raw.len - 1;
	if ((size_t)(end - p) == len && memchr(p, '\\', len) == NULL)
		return memcmp(p, s, len) == 0;
	while (p < end) {
		char c[4];
		size_t n = 1;

		if (*p == '\\')
			n = (size_t)decode_escape(&p, c);
		else
			c[0] = *p++;
		if (n > len || memcmp(c, s, n) != 0)
			return false;
		s += n;
		len -= n;
	}
	return len == 0;
}

/* *v * 10^n, or -1 when that overflows. */
static int
scale(uint64_t *v, uint64_t n)
{
	if (*v == 0)
		return 0;
	for (; n > 0; n--)
		if (__builtin_mul_overflow(*v, 10, v))
			return -1;
	return 0;
}

int
json_i64(struct json_value v, int64_t *out)
{
	const char *p = v.raw.p, *end = v.raw.p + v.raw.len;
	uint64_t value = 0, zeros = 0, fraction = 0;	/* zeros: of the mantissa,
	    not yet in value */
	int64_t exponent = 0;
	bool negative, point = false;

	if (v.kind != JSON_KIND_NUMBER)
		return -1;
	negative = *p == '-';
	if (negative)
		p++;
	for (; p < end && *p != 'e' && *p != 'E'; p++) {
		if (*p == '.') {
			point = true;
			continue;
		}
		fraction += point;
		if (*p == '0') {
			zeros++;
			continue;
		}
		/* More significant digits than fit: no integer in range, whatever the exponent. */
		if (scale(&value, zeros + 1) != 0 || __builtin_add_overflow(value,
		    (uint64_t)(*p - '0'), &value))
			return -1;
		zeros = 0;
	}
	if (value == 0) {
		*out = 0;
		return 0;
	}
	if (p < end) {
		bool minus = p[1] == '-';

		for (p += p[1] == '-' || p[1] == '+' ? 2 : 1; p < end; p++)
			if (exponent < INT64_MAX / 100)
				exponent = exponent * 10 + (*p - '0');
		if (minus)
			exponent = -exponent;
	}
	exponent += (int64_t)zeros - (int64_t)fraction;
	if (exponent < 0 || scale(&value, (uint64_t)exponent) != 0)
		return -1;
	if (value > (uint64_t)INT64_MAX + negative)
		return -1;
	*out = negative ? (int64_t)(0 - value) : (int64_t)value;
	return 0;
}

int
json_bool(struct json_value v, bool *out)
{
	if (v.kind != JSON_KIND_BOOL)
		return -1;
	*out = v.raw.p[0] == 't';
	return 0;
}

int
json_get(struct json_value object, const char *key, struct json_value *value)
{
	struct json_value name, v;
	struct json_iter it;
	int found = -1;

	if (object.kind != JSON_KIND_OBJECT)
		return -1;
	json_iter_init(&it, object);
	while (json_object_next(&it, &name, &v)) {
		if (json_text_is(name, key)) {
			*value = v;
			found = 0;
		}
	}
	return found;
}

struct slice
json_raw(struct slice object, const char *key)
{
	struct json_value v;

	if (object.len == 0)
		return SLICE_NONE;
	return json_get((struct json_value){ JSON_KIND_OBJECT, object }, key, &v) == 0 ? v.raw : SLICE_NONE;
}

/* --- one text for each value */

static void
put_number(struct buf *out, struct json_value v)
{
	struct buf text = BUF_INIT;
	int64_t whole;
	double d;

	if (json_i64(v, &whole) == 0) {
		buf_put_i64(out, whole);
		return;
	}
	buf_put_slice(&text, v.raw);
	buf_putc(&text, '\0');
	d = strtod(text.data, NULL);
	buf_fini(&text);
	if (isfinite(d))
		buf_printf(out, "%.17g", d);
	else
		buf_put_slice(out, v.raw);
}

struct member {
	struct slice name;
	struct json_value value;
	size_t at;
};

static int
member_compare(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	size_t n = x->name.len < y->name.len ? x->name.len : y->name.len;
	int order = n > 0 ? memcmp(x->name.p, y->name.p, n) : 0;

	if (order == 0)
		order = (x->name.len > y->name.len) - (x->name.len < y->name.len);
	return order != 0 ? order : (x->at > y->at) - (x->at < y->at);
}

/* Its members by name; to be freed.  names is where decoded names are kept. */
static struct member *
sort_members(struct json_value v, struct buf *names, size_t *count)
{
	struct json_value key, value;
	struct member *members;
	struct json_iter it;
	size_t n = 0;

	json_iter_init(&it, v);
	while (json_object_next(&it, &key, &value))
		n++;
	members = must_alloc((n + 1) * sizeof(*members));
	buf_reserve(names, v.raw.len);		/* decoded names must not move */
	n = 0;
	json_iter_init(&it, v);
	while (json_object_next(&it, &key, &value)) {
		members[n] = (struct member){ SLICE_NONE, value, n };
		(void)json_text(key, names, &members[n].name);
		n++;
	}
	qsort(members, n, sizeof(*members), member_compare);
	*count = n;
	return members;
}

static void
put_object(struct buf *out, struct json_value v)
{
	struct buf names = BUF_INIT;
	size_t n;
	struct member *members = sort_members(v, &names, &n);
	bool first = true;

	buf_putc(out, '{');
	for (size_t i = 0; i < n; i++) {
		if (i + 1 < n && slice_eq(members[i].name, members[i + 1].name))
			continue;
		if (!first)
			buf_putc(out, ',');
		first = false;
		buf_put_json_string(out, members[i].name);
		buf_putc(out, ':');
		json_put_canonical(out, members[i].value);
	}
	buf_putc(out, '}');
	free(members);
	buf_fini(&names);
}

static void
put_array(struct buf *out, struct json_value v)
{
	struct json_value element;
	struct json_iter it;
	bool first = true;

	buf_putc(out, '[');
	json_iter_init(&it, v);
	while (json_array_next(&it, &element)) {
		if (!first)
			buf_putc(out, ',');
		first = false;
		json_put_canonical(out, element);
	}
	buf_putc(out, ']');
}

static void
put_string(struct buf *out, struct json_value v)
{
	struct buf text = BUF_INIT;
	struct slice s;

	(void)json_text(v, &text, &s);
	buf_put_json_string(out, s);
	buf_fini(&text);
}

/* No deeper than the text was found to be when it was validated. */
void
json_put_canonical(struct buf *out, struct json_value v)
{
	switch (v.kind) {
	case JSON_KIND_OBJECT:
		put_object(out, v);
		break;
	case JSON_KIND_ARRAY:
		put_array(out, v);
		break;
	case JSON_KIND_STRING:
		put_string(out, v);
		break;
	case JSON_KIND_NUMBER:
		put_number(out, v);
		break;
	case JSON_KIND_NULL:
	case JSON_KIND_BOOL:
		buf_put_slice(out, v.raw);
		break;
	}
}

bool
json_same(struct json_value a, struct json_value b)
{
	struct buf x = BUF_INIT, y = BUF_INIT;
	bool same;

	if (a.kind != b.kind)
		return false;
	json_put_canonical(&x, a);
	json_put_canonical(&y, b);
	same = slice_eq(buf_slice(&x), buf_slice(&y));
	buf_fini(&x);
	buf_fini(&y);
	return same;
}
