/*
 * deflate.c: the shared compressor and decompressor of one process
 * (permessage-deflate without context takeover, RFC 7692 section 7.2).
 *
 * Each owns its zlib streams and one output buffer.  The buffer is given back
 * when a big message made it big.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdlib.h>
#include <string.h>
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

#include "ws/close.h"
#include "ws/deflate.h"

#ifdef HAVE_ZLIB

#define KEEP_MAX	(64 * 1024)	/* an output buffer larger than this isn't kept */
#define FIRST_SIZE	1024
#define BITS_MIN	9		/* zlib has no raw stream with 8 */
#define BITS_MAX	15

struct output {
	uint8_t *p;		/* owned */
	size_t cap;
};

struct ws_inflate {
	z_stream stream;
	struct output out;
};

struct ws_deflate {
	int level;
	z_stream *streams[BITS_MAX - BITS_MIN + 1];	/* by window; made when first used */
	struct output out;
};

/* What a sender leaves out and a receiver appends (section 7.2.1). */
static const uint8_t sync_tail[4] = { 0x00, 0x00, 0xff, 0xff };

bool
ws_deflate_available(void)
{
	return true;
}

static void
output_trim(struct output *o)
{
	if (o->cap > KEEP_MAX) {
		free(o->p);
		o->p = NULL;
		o->cap = 0;
	}
}

/* Contents are kept.  False when out of memory. */
static bool
output_grow(struct output *o, size_t cap)
{
	uint8_t *p;

	if (cap <= o->cap)
		return true;
	p = realloc(o->p, cap);
	if (p == NULL)
		return false;
	o->p = p;
	o->cap = cap;
	return true;
}

struct ws_inflate *
ws_inflate_new(void)
{
	struct ws_inflate *z = calloc(1, sizeof(*z));

	if (z == NULL)
		return NULL;
	/* The largest window reads every smaller one's output. */
	if (inflateInit2(&z->stream, -BITS_MAX) != Z_OK) {
		free(z);
		return NULL;
	}
	return z;
}

void
ws_inflate_free(struct ws_inflate **zp)
{
	struct ws_inflate *z = *zp;

	*zp = NULL;
	if (z == NULL)
		return;
	inflateEnd(&z->stream);
	free(z->out.p);
	free(z);
}

/*
 * Runs n bytes of input through.  *len is how much was put out so far, of the
 * whole message; *ended tells whether the input ended with a last block.  0, or
 * a close code.
 */
static int
inflate_some(struct ws_inflate *z, const uint8_t *in, size_t n, size_t limit, size_t *len,
    bool *ended)
{
	z_stream *s = &z->stream;
	struct output *o = &z->out;
	uint8_t spill;

	s->next_in = (Bytef *)(uintptr_t)in;
	s->avail_in = (uInt)n;
	*ended = false;
	for (;;) {
		size_t room;
		int rc;

		if (*len == o->cap && o->cap < limit) {
			size_t cap = o->cap == 0 ? FIRST_SIZE : o->cap * 2;

			if (!output_grow(o, cap < limit ? cap : limit))
				return WS_CODE_INTERNAL;
		}
		/* At the limit one byte more tells whether there is more. */
		room = (o->cap < limit ? o->cap : limit) - *len;
		s->next_out = room > 0 ? o->p + *len : &spill;
		s->avail_out = room > 0 ? (uInt)room : 1;
		rc = inflate(s, Z_SYNC_FLUSH);
		if (room > 0)
			*len += room - s->avail_out;
		else if (s->avail_out == 0)
			return WS_CODE_TOO_BIG;

		if (rc == Z_STREAM_END) {
			/* A block marked as last doesn't end a message (section 7.2.3.4). */
			if (inflateReset(s) != Z_OK)
				return WS_CODE_INTERNAL;
			if (s->avail_in == 0) {
				*ended = true;
				return 0;
			}
		} else if (rc == Z_MEM_ERROR) {
			return WS_CODE_INTERNAL;
		} else if (rc != Z_OK && rc != Z_BUF_ERROR) {
			return WS_CODE_PROTOCOL;
		} else if (s->avail_in == 0 && s->avail_out > 0) {
			return 0;
		}
	}
}

/* Whether the stream stands between two blocks, at a byte boundary. */
static bool
between_blocks(const z_stream *s)
{
	return (s->data_type & 128) != 0 && (s->data_type & 31) == 0;
}

int
ws_inflate_message(struct ws_inflate *z, const uint8_t *in, size_t len, size_t limit,
    uint8_t **out, size_t *out_len)
{
	size_t n = 0;
	bool ended;
	int code = 0;

	*out = NULL;
	*out_len = 0;
	if (len > WS_DEFLATE_INPUT_MAX || limit > WS_DEFLATE_INPUT_MAX)
		return WS_CODE_TOO_BIG;
	output_trim(&z->out);
	if (!output_grow(&z->out, 1) || inflateReset(&z->stream) != Z_OK)
		return WS_CODE_INTERNAL;
	/*
	 * Two forms that senders should not use, and some do, can mean one thing only:
	 * no payload at all for an empty message, and nothing after a last block.
	 */
	ended = len == 0;
	if (len > 0)
		code = inflate_some(z, in, len, limit, &n, &ended);
	if (code == 0 && !ended) {
		code = inflate_some(z, sync_tail, sizeof(sync_tail), limit, &n, &ended);
		if (code == 0 && !between_blocks(&z->stream))
			code = WS_CODE_PROTOCOL;
	}
	if (code != 0)
		return code;
	*out = z->out.p;
	*out_len = n;
	return 0;
}

struct ws_deflate *
ws_deflate_new(int level)
{
	struct ws_deflate *z = calloc(1, sizeof(*z));

	if (z != NULL)
		z->level = level >= 1 && level <= 9 ? level : Z_DEFAULT_COMPRESSION;
	return z;
}

void
ws_deflate_free(struct ws_deflate **zp)
{
	struct ws_deflate *z = *zp;

	*zp = NULL;
	if (z == NULL)
		return;
	for (int i = 0; i <= BITS_MAX - BITS_MIN; i++) {
		if (z->streams[i] != NULL)
			deflateEnd(z->streams[i]);
		free(z->streams[i]);
	}
	free(z->out.p);
	free(z);
}

/* The stream for this window, ready for a message; NULL when out of memory. */
static z_stream *
deflate_stream(struct ws_deflate *z, int bits)
{
	z_stream **slot = &z->streams[bits - BITS_MIN], *s = *slot;

	if (s != NULL)
		return deflateReset(s) == Z_OK ? s : NULL;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	/* A hash table in proportion to the window: it is cleared for each message. */
	if (deflateInit2(s, z->level, Z_DEFLATED, -bits, bits - 7, Z_DEFAULT_STRATEGY) != Z_OK) {
		free(s);
		return NULL;
	}
	*slot = s;
	return s;
}

int
ws_deflate_message(struct ws_deflate *z, int bits, const uint8_t *in, size_t len,
    const uint8_t **out, size_t *out_len)
{
	z_stream *s;
	size_t n;

	if (bits < BITS_MIN || bits > BITS_MAX || len == 0 || len > WS_DEFLATE_INPUT_MAX)
		return 1;
	s = deflate_stream(z, bits);
	output_trim(&z->out);
	/* Room for a result that is smaller than the input, and for the tail. */
	if (s == NULL || !output_grow(&z->out, len + sizeof(sync_tail)))
		return 1;
	s->next_in = (Bytef *)(uintptr_t)in;
	s->avail_in = (uInt)len;
	s->next_out = z->out.p;
	s->avail_out = (uInt)(len + sizeof(sync_tail));
	if (deflate(s, Z_SYNC_FLUSH) != Z_OK || s->avail_in > 0 || s->avail_out == 0)
		return 1;
	n = len + sizeof(sync_tail) - s->avail_out;
	if (n < sizeof(sync_tail) ||
	    memcmp(z->out.p + n - sizeof(sync_tail), sync_tail, sizeof(sync_tail)) != 0)
		return 1;
	n -= sizeof(sync_tail);
	if (n >= len)
		return 1;
	*out = z->out.p;
	*out_len = n;
	return 0;
}

#else /* without zlib */

bool
ws_deflate_available(void)
{
	return false;
}

struct ws_inflate *
ws_inflate_new(void)
{
	return NULL;
}

void
ws_inflate_free(struct ws_inflate **zp)
{
	*zp = NULL;
}

int
ws_inflate_message(struct ws_inflate *z, const uint8_t *in, size_t len, size_t limit,
    uint8_t **out, size_t *out_len)
{
	(void)z, (void)in, (void)len, (void)limit;
	*out = NULL;
	*out_len = 0;
	return WS_CODE_PROTOCOL;
}

struct ws_deflate *
ws_deflate_new(int level)
{
	(void)level;
	return NULL;
}

void
ws_deflate_free(struct ws_deflate **zp)
{
	*zp = NULL;
}

int
ws_deflate_message(struct ws_deflate *z, int bits, const uint8_t *in, size_t len,
    const uint8_t **out, size_t *out_len)
{
	(void)z, (void)bits, (void)in, (void)len, (void)out, (void)out_len;
	return 1;
}

#endif
