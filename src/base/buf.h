/*
 * buf.h: a growable run of bytes with one owner.
 *
 * Out of memory ends the process (the master restarts it): no caller has to
 * handle it.  Callers bound how much they append; a length that a peer
 * announced is never passed to buf_reserve() before it was checked.
 */
#ifndef BELAY_BASE_BUF_H
#define BELAY_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct buf {
	char *data;		/* owned; NULL while empty */
	size_t len, cap;
};

#define BUF_INIT { NULL, 0, 0 }

void buf_fini(struct buf *b);			/* frees, leaves it empty and usable */
static inline void buf_clear(struct buf *b) { b->len = 0; }

static inline struct slice
buf_slice(const struct buf *b)
{
	return (struct slice){ b->data, b->len };
}

char *buf_grow(struct buf *b, size_t n);	/* for buf_reserve() alone */

/* Room for n more bytes; the write position. */
static inline char *
buf_reserve(struct buf *b, size_t n)
{
	return b->cap - b->len >= n && b->data != NULL ? b->data + b->len : buf_grow(b, n);
}

/* Appends bytes, a string, a character; most texts are made of dozens of such. */
static inline void
buf_put(struct buf *b, const void *p, size_t n)
{
	if (n == 0)
		return;
	memcpy(buf_reserve(b, n), p, n);
	b->len += n;
}

static inline void
buf_puts(struct buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

static inline void
buf_putc(struct buf *b, char c)
{
	*buf_reserve(b, 1) = c;
	b->len++;
}

static inline void
buf_put_slice(struct buf *b, struct slice s)
{
	buf_put(b, s.p, s.len);
}

void buf_put_u64(struct buf *b, uint64_t v);	/* decimal */
void buf_put_i64(struct buf *b, int64_t v);
void buf_put_hex(struct buf *b, const void *p, size_t n);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_consume(struct buf *b, size_t n);	/* drops n bytes from the front */

/* JSON text (RFC 8259).  The string is UTF-8 already; quotes and escapes are added. */
void buf_put_json_string(struct buf *b, struct slice s);
/* "2026-01-31T12:00:00.123Z", or null for 0. */
void buf_put_json_time(struct buf *b, int64_t at_ms);
/* The same where 0 is a time, too: that of a device without a clock. */
void buf_put_json_moment(struct buf *b, int64_t at_ms);
void buf_put_json_uuid(struct buf *b, const uint8_t id[16]);

#endif
