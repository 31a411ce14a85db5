/*
 * ws_utf8.c: the validator against decoding by the book: every sequence of up to three bytes,
 * every code point, and cuts and ASCII around.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ws/utf8.h"

/* UTF-8 as RFC 3629 section 3 writes it. */
static size_t
encode(uint32_t c, uint8_t out[4])
{
	if (c < 0x80) {
		out[0] = (uint8_t)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (uint8_t)(0xc0 | c >> 6);
		out[1] = (uint8_t)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (uint8_t)(0xe0 | c >> 12);
		out[1] = (uint8_t)(0x80 | (c >> 6 & 63));
		out[2] = (uint8_t)(0x80 | (c & 63));
		return 3;
	}
	out[0] = (uint8_t)(0xf0 | c >> 18);
	out[1] = (uint8_t)(0x80 | (c >> 12 & 63));
	out[2] = (uint8_t)(0x80 | (c >> 6 & 63));
	out[3] = (uint8_t)(0x80 | (c & 63));
	return 4;
}

static void
every_code_point(void **state)
{
	(void)state;
	for (uint32_t c = 0; c < 0x1fffff; c++) {
		uint8_t p[4];
		size_t n = encode(c, p);
		bool good = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);

		if (ws_utf8_valid(p, n) != good)
			fail_msg("U+%06X", c);
		for (size_t cut = 1; cut < n; cut++) {
			uint32_t s = WS_UTF8_START;
			bool ok = ws_utf8_feed(&s, p, cut);

			if (good && (!ok || ws_utf8_complete(s)))
				fail_msg("U+%06X cut after %zu", c, cut);
			if ((ws_utf8_feed(&s, p + cut, n - cut) && ws_utf8_complete(s)) != good)
				fail_msg("U+%06X in two", c);
		}
	}
}

/* There are as many valid sequences of three bytes as characters allow, and no more. */
static void
every_three_bytes(void **state)
{
	const uint64_t one = 128, two = 0x780, three = 0xf800 - 0x800;
	uint64_t valid = 0, begun = 0;

	(void)state;
	for (uint32_t v = 0; v < 1u << 24; v++) {
		uint8_t p[3] = { (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };
		uint32_t s = WS_UTF8_START;

		if (ws_utf8_feed(&s, p, 3)) {
			valid += ws_utf8_complete(s);
			begun += s != WS_UTF8_START;
		}
	}
	assert_int_equal(valid, one * one * one + 2 * one * two + three);
	/*
	 * Begun: two bytes of text before a first byte (30 lead two bytes, 16 three, 5 four); one
	 * before two bytes of three (960 pairs) or of four (256 pairs); three bytes of four.
	 */
	assert_int_equal(begun, (one * one + two) * (30 + 16 + 5) +
	    one * (three / 64 + 256) + 256 * 64);
}

/* A bad byte is found wherever it stands in a run of ASCII, and however the run is cut. */
static void
among_ascii(void **state)
{
	uint8_t p[100];

	(void)state;
	for (size_t at = 0; at < sizeof(p); at++) {
		memset(p, 'a', sizeof(p));
		assert_true(ws_utf8_valid(p, at));
		p[at] = 0xff;
		for (size_t cut = 0; cut <= sizeof(p); cut++) {
			uint32_t s = WS_UTF8_START;
			bool ok = ws_utf8_feed(&s, p, cut);

			assert_int_equal(ok, cut <= at);
			assert_false(ws_utf8_feed(&s, p + cut, sizeof(p) - cut));
			assert_false(ws_utf8_feed(&s, (const uint8_t *)"a", 1));
		}
		memcpy(p + at, "\xf0\x9f\x94\x91", at + 4 <= sizeof(p) ? 4 : sizeof(p) - at);
		assert_int_equal(ws_utf8_valid(p, sizeof(p)), at + 4 <= sizeof(p));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_code_point),
		cmocka_unit_test(every_three_bytes),
		cmocka_unit_test(among_ascii),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
