/*
 * ws_deflate_fuzz.c: arbitrary bytes to the decompressor, judged by zlib used plainly; and the
 * same bytes through our compressor and back.
 *
 * Input: byte 0 window; bytes 1 and 2 limit; then the data.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

#include "ws/close.h"
#include "ws/deflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifdef HAVE_ZLIB

#define ROOM (1 << 20)

/* What a receiver makes of it that appends the tail and stops at a last block; -1: no stream. */
static long
plain_inflate(const uint8_t *data, size_t size, uint8_t *out)
{
	z_stream z = { .next_in = NULL };
	uint8_t *in = malloc(size + 4);
	long n;
	int rc;

	if (in == NULL || inflateInit2(&z, -15) != Z_OK)
		abort();
	if (size > 0)
		memcpy(in, data, size);
	memcpy(in + size, "\0\0\xff\xff", 4);
	z.next_in = in;
	z.avail_in = (uInt)(size + 4);
	z.next_out = out;
	z.avail_out = ROOM;
	rc = inflate(&z, Z_SYNC_FLUSH);
	n = rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR ? (long)z.total_out : -1;
	inflateEnd(&z);
	free(in);
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ws_inflate *in;
	static struct ws_deflate *out;
	static uint8_t plain[ROOM];
	size_t limit, n, packed_len;
	const uint8_t *packed;
	uint8_t *p;
	long want;
	int bits, code;

	if (size < 3)
		return 0;
	if (in == NULL) {
		in = ws_inflate_new();
		out = ws_deflate_new(6);
	}
	bits = 9 + data[0] % 7;
	limit = (size_t)data[1] << 8 | data[2];
	data += 3, size -= 3;

	code = ws_inflate_message(in, data, size, limit, &p, &n);
	want = plain_inflate(data, size, plain);
	if (code != 0 && code != WS_CODE_PROTOCOL && code != WS_CODE_TOO_BIG)
		abort();
	if (n > limit || (code != 0 && n != 0))
		abort();
	/* Ours reads on behind a last block, so it may have more, but never other bytes. */
	if (code == 0 && (want > (long)n || (want > 0 && memcmp(p, plain, (size_t)want) != 0)))
		abort();

	if (size > 0 && ws_deflate_message(out, bits, data, size, &packed, &packed_len) == 0) {
		if (packed_len >= size)
			abort();
		if (ws_inflate_message(in, packed, packed_len, size, &p, &n) != 0)
			abort();
		if (n != size || memcmp(p, data, size) != 0)
			abort();
		if (ws_inflate_message(in, packed, packed_len, size - 1, &p, &n) != WS_CODE_TOO_BIG)
			abort();
	}
	return 0;
}

#else

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	(void)data, (void)size;
	return ws_deflate_available();
}

#endif
