/*
 * ws_deflate.c: the shared compressor and decompressor: round trips over every window, limits,
 * bombs, and damaged input.  Built without zlib: that nothing is offered.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

#include "ws/close.h"
#include "ws/deflate.h"

#ifdef HAVE_ZLIB
#define SIZE (256 * 1024)

/* Text like ours, that repeats within every window. */
static uint8_t *
some_text(void)
{
	uint8_t *p = malloc(SIZE + 100);
	size_t n = 0;

	assert_non_null(p);
	for (unsigned i = 0; n < SIZE; i++)
		n += (size_t)snprintf((char *)p + n, 100,
		    "{\"type\":\"telemetry\",\"payload\":{\"deviceId\":\"d%u\",\"data\":{\"v\":%u}}}",
		    i % 100, i * 2654435761u >> 20);
	return p;
}

static void
round_trips(void **state)
{
	static const size_t sizes[] = { 100, 197, 1000, 4000, 65536, SIZE };
	struct ws_inflate *in = ws_inflate_new();
	struct ws_deflate *out = ws_deflate_new(6);
	uint8_t *text = some_text(), *back;
	const uint8_t *packed;
	size_t packed_len, len;

	(void)state;
	assert_true(ws_deflate_available());
	for (int bits = 9; bits <= 15; bits++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			size_t n = sizes[i];

			assert_int_equal(ws_deflate_message(out, bits, text, n, &packed, &packed_len), 0);
			assert_true(packed_len < n);
			assert_int_equal(ws_inflate_message(in, packed, packed_len, n, &back, &len), 0);
			assert_int_equal(len, n);
			assert_memory_equal(back, text, n);
			/* A byte less allowed is a byte too many. */
			assert_int_equal(ws_inflate_message(in, packed, packed_len, n - 1, &back, &len),
			    WS_CODE_TOO_BIG);
			/* A receiver with just this window can read it. */
			z_stream z = { .next_in = (Bytef *)(uintptr_t)packed,
				.avail_in = (uInt)packed_len };
			uint8_t *small = malloc(n + 1);

			assert_int_equal(inflateInit2(&z, -bits), Z_OK);
			z.next_out = small;
			z.avail_out = (uInt)(n + 1);
			assert_int_equal(inflate(&z, Z_SYNC_FLUSH), Z_OK);
			assert_int_equal(z.total_out, n);
			assert_memory_equal(small, text, n);
			inflateEnd(&z);
			free(small);
		}
	}
	free(text);
	ws_inflate_free(&in);
	ws_deflate_free(&out);
	assert_null(in);
	ws_inflate_free(&in);
	ws_deflate_free(&out);
}

/* Messages follow each other through one pair without trace of the earlier one. */
static void
no_takeover(void **state)
{
	struct ws_deflate *out = ws_deflate_new(6);
	static const uint8_t text[] = "the same words, the same words, the same words";
	uint8_t first[100];
	const uint8_t *packed;
	size_t n, again;

	(void)state;
	assert_int_equal(ws_deflate_message(out, 15, text, sizeof(text), &packed, &n), 0);
	memcpy(first, packed, n);
	assert_int_equal(ws_deflate_message(out, 15, text, sizeof(text), &packed, &again), 0);
	assert_int_equal(n, again);
	assert_memory_equal(first, packed, n);
	ws_deflate_free(&out);
}

static void
better_sent_plain(void **state)
{
	struct ws_deflate *out = ws_deflate_new(9);
	uint8_t noise[1000];
	const uint8_t *packed;
	uint32_t x = 1;
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)((x = x * 1664525 + 1013904223) >> 24);
	assert_int_equal(ws_deflate_message(out, 15, noise, sizeof(noise), &packed, &n), 1);
	assert_int_equal(ws_deflate_message(out, 15, (const uint8_t *)"ok", 2, &packed, &n), 1);
	assert_int_equal(ws_deflate_message(out, 15, noise, 0, &packed, &n), 1);
	assert_int_equal(ws_deflate_message(out, 8, noise, 100, &packed, &n), 1);
	assert_int_equal(ws_deflate_message(out, 16, noise, 100, &packed, &n), 1);
	/* The next one is not disturbed. */
	memset(noise, 'a', sizeof(noise));
	assert_int_equal(ws_deflate_message(out, 15, noise, sizeof(noise), &packed, &n), 0);
	assert_true(n < 20);
	ws_deflate_free(&out);
}

/* A few kilobytes that would become megabytes are stopped at the limit. */
static void
bombs(void **state)
{
	struct ws_inflate *in = ws_inflate_new();
	struct ws_deflate *out = ws_deflate_new(9);
	size_t size = 64 << 20, n, len;
	uint8_t *zeros = calloc(1, size), *back;
	const uint8_t *bomb;

	(void)state;
	assert_non_null(zeros);
	assert_int_equal(ws_deflate_message(out, 15, zeros, size, &bomb, &n), 0);
	assert_true(n < 70000);
	assert_int_equal(ws_inflate_message(in, bomb, n, 65536, &back, &len), WS_CODE_TOO_BIG);
	assert_null(back);
	assert_int_equal(ws_inflate_message(in, bomb, n, 0, &back, &len), WS_CODE_TOO_BIG);
	assert_int_equal(ws_inflate_message(in, bomb, n, 1, &back, &len), WS_CODE_TOO_BIG);
	assert_int_equal(ws_inflate_message(in, bomb, n, size, &back, &len), 0);
	assert_int_equal(len, size);
	/* The stream is as good as new afterwards. */
	assert_int_equal(ws_inflate_message(in, (const uint8_t *)"\xf2\x48\xcd\xc9\xc9\x07", 7, 5,
	    &back, &len), 0);
	assert_int_equal(len, 5);
	assert_memory_equal(back, "Hello", 5);
	free(zeros);
	ws_inflate_free(&in);
	ws_deflate_free(&out);
}

/* Every cut of a compressed message, and every flipped bit: refused or bounded, never a crash. */
static void
damage(void **state)
{
	struct ws_inflate *in = ws_inflate_new();
	struct ws_deflate *out = ws_deflate_new(6);
	uint8_t *text = some_text(), *back, bad[600];
	const uint8_t *packed;
	size_t n, len;

	(void)state;
	assert_int_equal(ws_deflate_message(out, 12, text, 1200, &packed, &n), 0);
	assert_true(n < sizeof(bad));
	for (size_t cut = 1; cut < n; cut++) {
		int rc;

		memcpy(bad, packed, cut);
		rc = ws_inflate_message(in, bad, cut, 1200, &back, &len);
		assert_true(rc == WS_CODE_PROTOCOL || rc == WS_CODE_TOO_BIG);
	}
	for (size_t bit = 0; bit < n * 8; bit++) {
		int rc;

		memcpy(bad, packed, n);
		bad[bit / 8] ^= (uint8_t)(1u << bit % 8);
		rc = ws_inflate_message(in, bad, n, 1200, &back, &len);
		assert_true(rc == 0 || rc == WS_CODE_PROTOCOL || rc == WS_CODE_TOO_BIG);
		assert_true(len <= 1200);
	}
	free(text);
	ws_inflate_free(&in);
	ws_deflate_free(&out);
}

/* The limit itself, at the sizes where the output buffer grows. */
static void
exact_limits(void **state)
{
	struct ws_inflate *in = ws_inflate_new();
	struct ws_deflate *out = ws_deflate_new(6);
	uint8_t *text = some_text(), *back;
	const uint8_t *packed;
	size_t n, len;

	(void)state;
	for (size_t size = 64; size < 5000; size += size < 1030 && size > 1000 ? 1 : 61) {
		assert_int_equal(ws_deflate_message(out, 12, text, size, &packed, &n), 0);
		assert_int_equal(ws_inflate_message(in, packed, n, size, &back, &len), 0);
		assert_int_equal(len, size);
		assert_int_equal(ws_inflate_message(in, packed, n, size - 1, &back, &len),
		    WS_CODE_TOO_BIG);
	}
	free(text);
	ws_inflate_free(&in);
	ws_deflate_free(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips),
		cmocka_unit_test(no_takeover),
		cmocka_unit_test(better_sent_plain),
		cmocka_unit_test(bombs),
		cmocka_unit_test(damage),
		cmocka_unit_test(exact_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void
not_offered(void **state)
{
	(void)state;
	assert_false(ws_deflate_available());
	assert_null(ws_inflate_new());
	assert_null(ws_deflate_new(6));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(not_offered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
