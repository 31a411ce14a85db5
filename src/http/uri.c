/*
 * uri.c: percent-encoding, paths and queries.  Owns nothing; runs in the gateways.
 */
#include "base/text.h"
#include "http/uri.h"

long
uri_decode_to(struct slice text, bool plus, char *to, size_t room)
{
	size_t i, n = 0;

	for (i = 0; i < text.len; i++) {
		char c = text.p[i];

		if (c == '%') {
			int high, low;

			if (text.len - i < 3 || (high = text_hex_value(text.p[i + 1])) < 0 ||
			    (low = text_hex_value(text.p[i + 2])) < 0 || (high | low) == 0)
				return -1;
			c = (char)(high << 4 | low);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (n == room)
			return -2;
		to[n++] = c;
	}
	return (long)n;
}

int
uri_decode(struct slice text, bool plus, struct buf *out)
{
	long n = uri_decode_to(text, plus, buf_reserve(out, text.len + 1), text.len);

	if (n < 0)
		return -1;
	out->len += (size_t)n;
	return 0;
}

void
uri_encode(struct buf *out, struct slice text)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t i;

	for (i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    c == '-' ||
		    c == '.' || c == '_' || c == '~') {
			buf_putc(out, (char)c);
			continue;
		}
		buf_putc(out, '%');
		buf_putc(out, hex[c >> 4]);
		buf_putc(out, hex[c & 15]);
	}
}

/* Takes what stands before the next separator off *rest; the separator goes too. */
static struct slice
take_until(struct slice *rest, char separator)
{
	const char *at = rest->len > 0 ? memchr(rest->p, separator, rest->len) : NULL;
	struct slice part = *rest;

	if (at == NULL) {
		*rest = SLICE_NONE;
		return part;
	}
	part.len = (size_t)(at - rest->p);
	rest->p = at + 1;
	rest->len -= part.len + 1;
	return part;
}

bool
uri_segment_next(struct slice *rest, struct slice *segment)
{
	if (rest->len == 0 || rest->p[0] != '/')
		return false;
	rest->p++;
	rest->len--;
	*segment = (struct slice){ rest->p, 0 };
	while (segment->len < rest->len && rest->p[segment->len] != '/')
		segment->len++;
	rest->p += segment->len;
	rest->len -= segment->len;
	return true;
}

bool
uri_query_next(struct slice *rest, struct slice *name, struct slice *value)
{
	while (rest->len > 0) {
		struct slice pair = take_until(rest, '&');

		if (pair.len == 0)
			continue;
		*name = take_until(&pair, '=');
		*value = pair.p != NULL ? pair : (struct slice){ "", 0 };
		return true;
	}
	return false;
}

/* Whether a raw name is that name once decoded, without a buffer. */
static bool
name_is(struct slice raw, const char *name)
{
	size_t i, n = strlen(name);

	for (i = 0; i < raw.len; i++) {
		char c = raw.p[i];

		if (c == '%' && raw.len - i >= 3) {
			int high = text_hex_value(raw.p[i + 1]), low = text_hex_value(raw.p[i + 2]);

			if (high < 0 || low < 0)
				return false;
			c = (char)(high << 4 | low);
			i += 2;
		} else if (c == '+') {
			c = ' ';
		}
		if (n == 0 || c != *name)
			return false;
		name++;
		n--;
	}
	return n == 0;
}

static int
get_next(struct slice *rest, const char *name, bool plus, struct buf *scratch, struct slice *value)
{
	struct slice n, v;
	size_t start;

	while (uri_query_next(rest, &n, &v)) {
		if (!name_is(n, name))
			continue;
		start = scratch->len;
		if (uri_decode(v, plus, scratch) != 0)
			return -1;
		*value = (struct slice){ scratch->data + start, scratch->len - start };
		return 1;
	}
	return 0;
}

int
uri_query_get_next(struct slice *rest, const char *name, struct buf *scratch, struct slice *value)
{
	return get_next(rest, name, true, scratch, value);
}

int
uri_query_get(struct slice query, const char *name, struct buf *scratch, struct slice *value)
{
	return get_next(&query, name, true, scratch, value);
}

int
uri_query_get_id(struct slice query, const char *name, struct buf *scratch, struct slice *value)
{
	return get_next(&query, name, false, scratch, value);
}

unsigned
uri_query_count(struct slice query, const char *name)
{
	struct slice n, v;
	unsigned count = 0;

	while (uri_query_next(&query, &n, &v))
		count += name_is(n, name);
	return count;
}
