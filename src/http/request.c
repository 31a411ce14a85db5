/*
 * request.c: the head of an HTTP/1.x request, strictly.
 *
 * Runs in the gateways on bytes of strangers.  It owns nothing and writes only
 * into the caller's struct http_head.  The head is parsed only once its end is
 * there, so a result never depends on how the bytes were split.
 */
#include <string.h>

#include "base/text.h"
#include "http/request.h"

#define METHOD_MAX 32
#define ONES  UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

enum { TARGET = 1, HOST = 2 };

/* What a byte may be part of: a target, an authority (RFC 3986 section 3.2). */
static const uint8_t bytes[256] = {
	['!'] = TARGET | HOST, ['$'] = TARGET | HOST, ['%'] = TARGET | HOST, ['&'] = TARGET | HOST,
	['\''] = TARGET | HOST, ['('] = TARGET | HOST, [')'] = TARGET | HOST, ['*'] = TARGET | HOST,
	['+'] = TARGET | HOST, [','] = TARGET | HOST, ['-'] = TARGET | HOST, ['.'] = TARGET | HOST,
	['/'] = TARGET, ['0' ... '9'] = TARGET | HOST, [':'] = TARGET | HOST, [';'] = TARGET | HOST,
	['='] = TARGET | HOST, ['?'] = TARGET, ['@'] = TARGET, ['A' ... 'Z'] = TARGET | HOST,
	['['] = TARGET | HOST, [']'] = TARGET | HOST, ['^'] = TARGET, ['_'] = TARGET | HOST, ['`'] = TARGET,
	['a' ... 'z'] = TARGET | HOST, ['{'] = TARGET, ['|'] = TARGET, ['}'] = TARGET, ['~'] = TARGET | HOST,
};

static inline bool
is(char c, uint8_t set)
{
	return (bytes[(unsigned char)c] & set) != 0;
}

static inline char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool
name_eq_n(struct slice a, const char *b, size_t len)
{
	size_t i;

	if (a.len != len)
		return false;
	for (i = 0; i < len; i++)
		if (lower(a.p[i]) != lower(b[i]))
			return false;
	return true;
}

bool
http_name_eq(struct slice a, const char *b)
{
	return name_eq_n(a, b, strlen(b));
}

/*
 * Looks for the empty line that ends the head.  >0: the head's length; 0: not
 * there yet; <0: minus a status.  Tells a line that does not end in CRLF at
 * once, since the empty line would then never come.
 */
static long
find_end(const char *p, size_t n, size_t max)
{
	size_t limit = n < max ? n : max, line = 0;

	while (line < limit) {
		const char *lf = memchr(p + line, '\n', limit - line);
		size_t at;

		if (lf == NULL)
			break;
		at = (size_t)(lf - p);
		if (at == line || p[at - 1] != '\r')
			return -400;
		if (at == line + 1)
			return (long)at + 1;
		line = at + 1;
	}
	if (n < max)
		return 0;
	return line == 0 ? -414 : -431;
}

static enum http_method
method_of(struct slice m)
{
	static const struct {
		const char *name;
		enum http_method method;
	} methods[] = {
		{ "GET", HTTP_GET }, { "POST", HTTP_POST }, { "PUT", HTTP_PUT }, { "DELETE",
		    HTTP_DELETE },
		{ "HEAD", HTTP_HEAD }, { "OPTIONS", HTTP_OPTIONS }, { "PATCH", HTTP_PATCH },
	};
	size_t i;

	for (i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (slice_is(m, methods[i].name))
			return methods[i].method;
	return HTTP_OTHER;
}

/* host[:port]; the host is a name, or an IPv4 or [IPv6] address; no user information. */
static bool
is_authority(struct slice s)
{
	size_t i = 0;

	if (s.len > 0 && s.p[0] == '[') {
		for (i = 1; i < s.len && s.p[i] != ']'; i++)
			if (!is(s.p[i], HOST) || s.p[i] == '[')
				return false;
		if (i == 1 || i == s.len)
			return false;
		i++;
	} else {
		for (; i < s.len && s.p[i] != ':'; i++)
			if (!is(s.p[i], HOST) || s.p[i] == '[' || s.p[i] == ']')
				return false;
	}
	if (i == s.len)
		return true;
	if (s.p[i] != ':' || s.len - i > 6)
		return false;
	for (i++; i < s.len; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return true;
}

static void
split_query(struct http_head *h, struct slice path)
{
	const char *q = path.len > 0 ? memchr(path.p, '?', path.len) : NULL;

	h->path = path;
	h->query = SLICE_NONE;
	if (q != NULL) {
		h->path.len = (size_t)(q - path.p);
		h->query = (struct slice){ q + 1, path.len - h->path.len - 1 };
	}
}

/* Origin form, absolute form, or "*" (RFC 9112 section 3.2). */
static int
parse_target(struct http_head *h)
{
	struct slice t = h->target, rest;
	size_t i;

	for (i = 0; i < t.len; i++)
		if (!is(t.p[i], TARGET))
			return -400;
	if (t.p[0] == '/') {
		split_query(h, t);
		return 0;
	}
	if (slice_is(t, "*") && h->method == HTTP_OPTIONS) {
		h->path = t;
		h->query = SLICE_NONE;
		return 0;
	}
	if (t.len > 7 && name_eq_n((struct slice){ t.p, 7 }, "http://", 7))
		rest = (struct slice){ t.p + 7, t.len - 7 };
	else if (t.len > 8 && name_eq_n((struct slice){ t.p, 8 }, "https://", 8))
		rest = (struct slice){ t.p + 8, t.len - 8 };
	else
		return -400;
	for (i = 0; i < rest.len && rest.p[i] != '/' && rest.p[i] != '?'; i++)
		;
	h->host = (struct slice){ rest.p, i };
	if (i == 0 || rest.p[0] == ':' || !is_authority(h->host))
		return -400;
	split_query(h, (struct slice){ rest.p + i, rest.len - i });
	if (h->path.len == 0)
		h->path = SLICE("/");
	return 0;
}

/* METHOD SP target SP HTTP/1.x; the line ends before end.  0, or minus a status. */
static int
parse_request_line(const char *p, const char *end, size_t head_max, struct http_head *h)
{
	const char *start = p, *version;

	while (p < end && text_is_token_char(*p))
		p++;
	h->method_text = (struct slice){ start, (size_t)(p - start) };
	if (p == start || p == end || *p != ' ')
		return -400;
	if (h->method_text.len > METHOD_MAX)
		return -501;
	h->method = method_of(h->method_text);

	start = ++p;
	if ((p = memchr(start, ' ', (size_t)(end - start))) == NULL || p == start)
		return -400;
	h->target = (struct slice){ start, (size_t)(p - start) };

	version = p + 1;
	if (end - version != 8 || memcmp(version, "HTTP/", 5) != 0 || version[6] != '.' ||
	    version[5] < '0' || version[5] > '9' || version[7] < '0' || version[7] > '9')
		return -400;
	if (version[5] != '1' || version[7] > '1')
		return -505;
	h->minor = version[7] - '0';
	if (h->target.len > HTTP_TARGET_MAX(head_max))
		return -414;
	return parse_target(h);
}

/* The first control byte but tabs in [p, end), or end. */
static const char *
skip_text(const char *p, const char *end)
{
	for (;;) {
		while (end - p >= 8) {
			uint64_t x, y, hit;

			memcpy(&x, p, 8);
			y = x ^ ONES * 0x7f;
			hit = (((x - ONES * 0x20) & ~x) | ((y - ONES) & ~y)) & HIGHS;
			if (hit != 0) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
				p += __builtin_ctzll(hit) >> 3;
#endif
				break;
			}
			p += 8;
		}
		while (p < end && (unsigned char)*p >= 0x20 && *p != 0x7f)
			p++;
		if (p == end || *p != '\t')
			return p;
		p++;
	}
}

static int
parse_content_length(struct slice v, int64_t *length)
{
	int64_t n = 0;
	size_t i;

	/* A leading zero is grammar, but some read it as octal. */
	if (v.len == 0 || (v.p[0] == '0' && v.len > 1))
		return -400;
	for (i = 0; i < v.len; i++)
		if (v.p[i] < '0' || v.p[i] > '9')
			return -400;
	if (v.len > 18)			/* more than anybody takes */
		return -413;
	for (i = 0; i < v.len; i++)
		n = n * 10 + (v.p[i] - '0');
	*length = n;
	return 0;
}

/*
 * "chunked" alone is served; 501 when another coding stands before it;
 * everything else has no certain end.
 */
static int
parse_transfer_encoding(struct slice v)
{
	size_t i;

	if (name_eq_n(v, "chunked", 7))
		return 0;
	if (v.len < 9 || !name_eq_n((struct slice){ v.p + v.len - 7, 7 }, "chunked", 7))
		return -400;
	for (i = v.len - 7; i > 0 && (v.p[i - 1] == ' ' || v.p[i - 1] == '\t'); i--)
		;
	if (i < 2 || v.p[i - 1] != ',' || name_eq_n((struct slice){ v.p, i - 1 }, "chunked", 7))
		return -400;
	for (i--; i > 0; i--)
		if (!text_is_token_char(v.p[i - 1]))
			return -400;
	return -501;
}

/* What the framing and the connection depend on, seen so far. */
struct seen {
	bool host, content_length, transfer_encoding, authorization, close, keep_alive;
};

static bool
next_element(struct slice *rest, struct slice *element)
{
	while (rest->len > 0) {
		const char *comma = memchr(rest->p, ',', rest->len);
		size_t len = comma != NULL ? (size_t)(comma - rest->p) : rest->len;

		*element = text_trim((struct slice){ rest->p, len });
		rest->p += comma != NULL ? len + 1 : len;
		rest->len -= comma != NULL ? len + 1 : len;
		if (element->len > 0)
			return true;
	}
	return false;
}

static int
note_header(struct http_head *h, struct seen *seen, struct slice name, struct slice value)
{
	struct slice rest = value, token;

	switch (name.len) {
	case 4:
		if (!name_eq_n(name, "host", 4))
			return 0;
		if (seen->host || !is_authority(value))
			return -400;
		seen->host = true;
		if (h->host.p == NULL)
			h->host = value;
		return 0;
	case 6:
		if (!name_eq_n(name, "expect", 6))
			return 0;
		if (!name_eq_n(value, "100-continue", 12))
			return -417;
		h->expect_continue = h->minor == 1;
		return 0;
	case 10:
		if (!name_eq_n(name, "connection", 10))
			return 0;
		while (next_element(&rest, &token)) {
			if (name_eq_n(token, "close", 5))
				seen->close = true;
			else if (name_eq_n(token, "keep-alive", 10))
				seen->keep_alive = true;
			else if (name_eq_n(token, "upgrade", 7))
				h->upgrade = true;
		}
		return 0;
	case 13:		/* which of two counts is nobody's to guess */
		if (!name_eq_n(name, "authorization", 13))
			return 0;
		if (seen->authorization)
			return -400;
		seen->authorization = true;
		return 0;
	case 14:
		if (!name_eq_n(name, "content-length", 14))
			return 0;
		if (seen->content_length)
			return -400;
		seen->content_length = true;
		return parse_content_length(value, &h->content_length);
	case 17:
		if (!name_eq_n(name, "transfer-encoding", 17))
			return 0;
		if (seen->transfer_encoding || h->minor == 0)
			return -400;
		seen->transfer_encoding = true;
		h->chunked = true;
		return parse_transfer_encoding(value);
	default:
		return 0;
	}
}

/* The header lines of [p, end), each ending in CRLF. */
static int
parse_headers(const char *p, const char *end, struct http_head *h)
{
	struct seen seen = { false, false, false, false, false, false };
	int status = 0;

	while (p < end) {
		struct http_header *header;
		const char *start = p;
		int rc;

		if (h->headers_n == HTTP_HEADERS_MAX)
			return -431;
		header = &h->headers[h->headers_n++];
		while (text_is_token_char(*p))
			p++;
		if (p == start || *p != ':')		/* so also obs-fold,
		    and a space before the colon */
			return -400;
		header->name = (struct slice){ start, (size_t)(p - start) };
		p++;
		start = p;
		p = skip_text(p, end);
		if (end - p < 2 || p[0] != '\r' || p[1] != '\n')
			return -400;
		header->value = text_trim((struct slice){ start, (size_t)(p - start) });
		p += 2;
		/* A doubtful framing further down matters more than another refusal. */
		if ((rc = note_header(h, &seen, header->name, header->value)) == -400)
			return -400;
		if (rc != 0 && status == 0)
			status = rc;
	}
	if (h->chunked && seen.content_length)
		return -400;
	if (h->minor == 1 && !seen.host)
		return -400;
	h->keep_alive = !seen.close && (h->minor == 1 || seen.keep_alive);
	return status;
}

long
http_head_parse(const char *p, size_t n, size_t head_max, struct http_head *h)
{
	const char *lf;
	size_t skip = 0;
	long len;
	int rc;

	if (n > 0 && p[0] == '\r') {
		if (n == 1)
			return 0;
		if (p[1] != '\n')
			return -400;
		skip = 2;
		p += 2;
		n -= 2;
	}
	if (n == 0)
		return 0;
	if (!text_is_token_char(p[0]))			/* a TLS hello,
	    say: the end of a head would never come */
		return -400;
	if ((len = find_end(p, n, head_max)) <= 0)
		return len;

	h->method = HTTP_OTHER;
	h->host = SLICE_NONE;
	h->minor = 0;
	h->chunked = h->keep_alive = h->expect_continue = h->upgrade = false;
	h->content_length = -1;
	h->headers_n = 0;
	lf = memchr(p, '\n', (size_t)len);
	if ((rc = parse_request_line(p, lf - 1, head_max, h)) != 0)
		return rc;
	/* Without headers the request line is followed by the empty line. */
	if ((rc = parse_headers(lf + 1, p + len - 2, h)) != 0)
		return rc;
	return (long)skip + len;
}

struct slice
http_header(const struct http_head *h, const char *name)
{
	size_t len = strlen(name);
	unsigned i;

	for (i = 0; i < h->headers_n; i++)
		if (name_eq_n(h->headers[i].name, name, len))
			return h->headers[i].value;
	return SLICE_NONE;
}

unsigned
http_header_count(const struct http_head *h, const char *name)
{
	size_t len = strlen(name);
	unsigned i, n = 0;

	for (i = 0; i < h->headers_n; i++)
		n += name_eq_n(h->headers[i].name, name, len);
	return n;
}

bool
http_list_next(const struct http_head *h, const char *name, struct http_list_iter *it,
    struct slice *element)
{
	size_t len = strlen(name);

	for (; it->header < h->headers_n; it->header++, it->offset = 0) {
		struct slice value = h->headers[it->header].value, rest;

		if (!name_eq_n(h->headers[it->header].name, name, len))
			continue;
		rest = (struct slice){ value.p + it->offset, value.len - it->offset };
		if (next_element(&rest, element)) {
			it->offset = (size_t)(rest.p - value.p);
			return true;
		}
	}
	return false;
}

bool
http_header_has_token(const struct http_head *h, const char *name, const char *token)
{
	struct http_list_iter it = { 0, 0 };
	struct slice element;

	while (http_list_next(h, name, &it, &element))
		if (http_name_eq(element, token))
			return true;
	return false;
}
