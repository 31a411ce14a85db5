/*
 * buf.c: a growable run of bytes, with the writers that JSON texts and log lines need.
 *
 * Used by every process.  A buffer belongs to the struct or the function that holds it.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/must.h"
#include "base/uuid.h"

#define BUF_FIRST 64

void
buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf)BUF_INIT;
}

char *
buf_grow(struct buf *b, size_t n)
{
	size_t cap;

	must(n < SIZE_MAX / 4 && b->len < SIZE_MAX / 4);
	cap = b->cap > 0 ? b->cap : BUF_FIRST;
	while (cap - b->len < n)
		cap *= 2;
	b->data = must_realloc(b->data, cap);
	b->cap = cap;
	return b->data + b->len;
}

void
buf_put_u64(struct buf *b, uint64_t v)
{
	char text[20];
	size_t at = sizeof(text);

	do {
		text[--at] = (char)('0' + v % 10);
		v /= 10;
	} while (v > 0);
	buf_put(b, text + at, sizeof(text) - at);
}

void
buf_put_i64(struct buf *b, int64_t v)
{
	if (v < 0)
		buf_putc(b, '-');
	buf_put_u64(b, v < 0 ? -(uint64_t)v : (uint64_t)v);
}

static const char hex_digits[] = "0123456789abcdef";

void
buf_put_hex(struct buf *b, const void *p, size_t n)
{
	const uint8_t *in = p;
	char *out;

	if (n == 0)
		return;
	out = buf_reserve(b, 2 * n);
	for (size_t i = 0; i < n; i++) {
		*out++ = hex_digits[in[i] >> 4];
		*out++ = hex_digits[in[i] & 15];
	}
	b->len += 2 * n;
}

void
buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n;
	char *at = buf_reserve(b, 1);
	size_t room = b->cap - b->len;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(at, room, fmt, ap);
	must(n >= 0);
	if ((size_t)n >= room) {
		at = buf_reserve(b, (size_t)n + 1);
		(void)vsnprintf(at, (size_t)n + 1, fmt, again);
	}
	b->len += (size_t)n;
	va_end(again);
	va_end(ap);
}

void
buf_consume(struct buf *b, size_t n)
{
	must(n <= b->len);
	b->len -= n;
	if (b->len > 0 && n > 0)
		memmove(b->data, b->data + n, b->len);
}

void
buf_put_json_string(struct buf *b, struct slice s)
{
	size_t plain = 0;		/* start of the run that needs no escape */

	buf_reserve(b, s.len + 2);
	buf_putc(b, '"');
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];
		char escape[7] = { '\\', 0 };
		size_t len = 2;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		switch (c) {
		case '"': case '\\': escape[1] = (char)c; break;
		case '\b': escape[1] = 'b'; break;
		case '\f': escape[1] = 'f'; break;
		case '\n': escape[1] = 'n'; break;
		case '\r': escape[1] = 'r'; break;
		case '\t': escape[1] = 't'; break;
		default:
			memcpy(escape + 1, "u00", 3);
			escape[4] = hex_digits[c >> 4];
			escape[5] = hex_digits[c & 15];
			len = 6;
		}
		buf_put(b, s.p + plain, i - plain);
		buf_put(b, escape, len);
		plain = i + 1;
	}
	if (s.len > plain)
		buf_put(b, s.p + plain, s.len - plain);
	buf_putc(b, '"');
}

void
buf_put_json_time(struct buf *b, int64_t at_ms)
{
	if (at_ms == 0)
		buf_puts(b, "null");
	else
		buf_put_json_moment(b, at_ms);
}

void
buf_put_json_moment(struct buf *b, int64_t at_ms)
{
	char text[CLOCK_TEXT_LEN + 1];

	clock_format(at_ms, text);
	buf_putc(b, '"');
	buf_put(b, text, CLOCK_TEXT_LEN);
	buf_putc(b, '"');
}

void
buf_put_json_uuid(struct buf *b, const uint8_t id[16])
{
	char text[UUID_TEXT_LEN + 1];

	uuid_format(id, text);
	buf_putc(b, '"');
	buf_put(b, text, UUID_TEXT_LEN);
	buf_putc(b, '"');
}
