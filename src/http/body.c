/*
 * body.c: the body of a message, by Content-Length or chunked.
 *
 * Runs in the gateways, and in belayctl and the keys process.  The state lies in struct http_body, so bytes may come
 * in any pieces; memory grows with what has come, never with what was announced.
 */
#include "base/text.h"
#include "http/body.h"

enum {
	LENGTH,			/* left bytes of a body with Content-Length */
	SIZE_FIRST,		/* the first hex digit of a chunk's size */
	SIZE,			/* further ones */
	EXTENSION,		/* after ';' */
	SIZE_LF,		/* the LF of the size's line */
	DATA,			/* left bytes of a chunk */
	DATA_CR, DATA_LF,	/* the CRLF behind it */
	TRAILER_FIRST,		/* the first byte of a trailer line, or the CR of the last line */
	TRAILER_NAME, TRAILER_VALUE, TRAILER_LF,
	LAST_LF,
	DONE
};

#define SIZE_DIGITS_MAX 16

void
http_body_init_chunked(struct http_body *b, size_t limit)
{
	*b = (struct http_body){ .state = SIZE_FIRST, .limit = limit };
}

int
http_body_init(struct http_body *b, const struct http_head *h, size_t limit)
{
	*b = (struct http_body){ .state = DONE, .limit = limit };
	if (h->chunked) {
		http_body_init_chunked(b, limit);
		return 0;
	}
	if (h->content_length <= 0)
		return 0;
	if ((uint64_t)h->content_length > limit)
		return -413;
	b->state = LENGTH;
	b->left = (uint64_t)h->content_length;
	return 0;
}

bool
http_body_done(const struct http_body *b)
{
	return b->state == DONE;
}

/* Text of an extension or a trailer. */
static bool
is_text(char c)
{
	return (unsigned char)c >= 0x20 ? c != 0x7f : c == '\t';
}

/* One byte of a chunk's size line.  0, or minus a status. */
static int
feed_size(struct http_body *b, char c)
{
	int digit = text_hex_value(c);

	if (digit >= 0) {
		if (++b->line > SIZE_DIGITS_MAX)
			return -400;
		b->left = b->left << 4 | (uint64_t)digit;
		b->state = SIZE;
		return 0;
	}
	if (b->state == SIZE_FIRST)
		return -400;
	if (c == '\r') {
		b->state = SIZE_LF;
		return 0;
	}
	if (c != ';')
		return -400;
	b->state = EXTENSION;
	b->line = 0;
	return 0;
}

/* One byte of anything but data.  0, or minus a status. */
static int
feed_byte(struct http_body *b, char c)
{
	switch (b->state) {
	case SIZE_FIRST:
	case SIZE:
		return feed_size(b, c);
	case EXTENSION:
		if (c == '\r')
			b->state = SIZE_LF;
		else if (!is_text(c) || ++b->line > HTTP_CHUNK_EXTENSION_MAX)
			return -400;
		return 0;
	case SIZE_LF:
		if (c != '\n')
			return -400;
		b->line = 0;
		if (b->left > b->limit - b->total)
			return -413;
		b->state = b->left > 0 ? DATA : TRAILER_FIRST;
		if (b->left == 0)
			b->overhead = 0;	/* counts the trailers from here */
		return 0;
	case DATA_CR:
		b->state = DATA_LF;
		return c == '\r' ? 0 : -400;
	case DATA_LF:
		b->state = SIZE_FIRST;
		b->line = 0;
		return c == '\n' ? 0 : -400;
	case TRAILER_FIRST:
		b->state = c == '\r' ? LAST_LF : TRAILER_NAME;
		return c == '\r' || text_is_token_char(c) ? 0 : -400;
	case TRAILER_NAME:
		if (c == ':')
			b->state = TRAILER_VALUE;
		return c == ':' || text_is_token_char(c) ? 0 : -400;
	case TRAILER_VALUE:
		if (c == '\r')
			b->state = TRAILER_LF;
		return c == '\r' || is_text(c) ? 0 : -400;
	case TRAILER_LF:
		b->state = TRAILER_FIRST;
		return c == '\n' ? 0 : -400;
	default:	/* LAST_LF */
		b->state = DONE;
		return c == '\n' ? 0 : -400;
	}
}

/* Many tiny chunks, or endless trailers, cost more than they bring. */
static bool
is_overhead_too_much(const struct http_body *b)
{
	size_t most = b->state >= TRAILER_FIRST ? HTTP_TRAILER_MAX : HTTP_CHUNK_OVERHEAD_MAX + b->total / 8;

	return b->overhead > most;
}

long
http_body_feed(struct http_body *b, const char *p, size_t n, struct buf *out)
{
	size_t used = 0;

	while (used < n && b->state != DONE) {
		int rc;

		if (b->state == LENGTH || b->state == DATA) {
			size_t take = n - used < b->left ? n - used : (size_t)b->left;

			buf_put(out, p + used, take);
			used += take;
			b->total += take;
			b->left -= take;
			if (b->left == 0)
				b->state = b->state == LENGTH ? DONE : DATA_CR;
			continue;
		}
		b->overhead++;
		if ((rc = feed_byte(b, p[used++])) != 0)
			return rc;
		if (is_overhead_too_much(b))
			return -413;
	}
	return (long)used;
}
