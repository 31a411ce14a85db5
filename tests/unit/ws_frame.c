/*
 * ws_frame.c: frame headers, masks, and the table of close codes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ws/close.h"
#include "ws/frame.h"
#include "ws/sha1.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void
headers_round_trip(void **state)
{
	static const uint64_t lengths[] = { 0, 1, 124, 125, 126, 127, 255, 256, 65534, 65535, 65536,
		65537, 0xffffffff, 0x100000000, INT64_MAX };
	static const uint8_t mask[4] = { 1, 2, 3, 4 };
	static const uint8_t firsts[] = { 0x81, 0x01, 0xc2, 0x00, 0x80 };

	(void)state;
	for (size_t i = 0; i < COUNT(lengths) * COUNT(firsts) * 2; i++) {
		uint64_t len = lengths[i / 2 % COUNT(lengths)];
		uint8_t first = firsts[i / 2 / COUNT(lengths)], out[WS_HEADER_MAX + 1];
		size_t n = ws_header_put(out, first, len, i & 1 ? mask : NULL);
		struct ws_header h;

		assert_int_equal(n, (len < 126 ? 2 : len < 65536 ? 4 : 10) + (i & 1 ? 4 : 0));
		for (size_t part = 0; part < n; part++)
			assert_int_equal(ws_header_parse(out, part, &h), 0);
		out[n] = 0xff;
		assert_int_equal(ws_header_parse(out, n + 1, &h), n);
		assert_int_equal(h.len, len);
		assert_int_equal(h.opcode, first & 15);
		assert_int_equal(h.rsv, first & 0x70);
		assert_int_equal(h.fin, first >> 7);
		assert_int_equal(h.masked, i & 1);
		assert_memory_equal(h.mask, i & 1 ? mask : (const uint8_t *)"\0\0\0\0", 4);
	}
}

static void
bad_headers(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
	} bad[] = {
		{ "\x83", 1 }, { "\x84", 1 }, { "\x87", 1 }, { "\x8b", 1 }, { "\x8f", 1 },
		{ "\x08", 1 }, { "\x09", 1 }, { "\x0a", 1 }, { "\xc8", 1 }, { "\xa9", 1 },
		{ "\x9a", 1 }, { "\x88\x7e", 2 }, { "\x89\xff", 2 },
		{ "\x81\x7e\x00\x00", 4 }, { "\x81\x7e\x00\x7d", 4 },
		{ "\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff", 10 },
		{ "\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 10 },
		{ "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10 },
	};
	struct ws_header h;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		const uint8_t *p = (const uint8_t *)bad[i].bytes;

		assert_int_equal(ws_header_parse(p, bad[i].n, &h), -WS_CODE_PROTOCOL);
		for (size_t part = 0; part < bad[i].n; part++)
			assert_int_equal(ws_header_parse(p, part, &h), 0);
	}
}

/* Every length, offset in the mask, and alignment; bytes around are not touched. */
static void
masks(void **state)
{
	static const uint8_t mask[4] = { 0x12, 0x34, 0xa6, 0x9c };
	uint8_t want[256], got[256];

	(void)state;
	for (size_t n = 0; n <= 200; n++) {
		for (size_t offset = 0; offset < 6; offset++) {
			size_t align = (n + offset) % 17;

			for (size_t i = 0; i < sizeof(want); i++)
				want[i] = got[i] = (uint8_t)(i * 31);
			for (size_t i = 0; i < n; i++)
				want[align + i] ^= mask[(offset + i) % 4];
			ws_mask(got + align, n, mask, offset);
			assert_memory_equal(got, want, sizeof(want));
		}
	}
}

static void
close_table(void **state)
{
	unsigned valid = 0;

	(void)state;
	assert_int_equal(ws_close_code(WS_CLOSE_TOKEN_EXPIRED), 1008);
	assert_int_equal(WS_CODE_TOKEN_EXPIRED, 1008);
	assert_string_equal(ws_close_reason(WS_CLOSE_TOKEN_EXPIRED), "Token expired");
	assert_string_equal(ws_close_name(WS_CLOSE_TOKEN_EXPIRED), "TOKEN_EXPIRED");
	assert_string_equal(ws_close_advice(WS_CLOSE_TOKEN_EXPIRED), "get a new token");
	assert_int_equal(ws_close_of(4009), WS_CLOSE_REPLACED);
	assert_int_equal(ws_close_of(1234), WS_CLOSE_NONE);
	assert_int_equal(ws_close_code(WS_CLOSE_NONE), WS_CODE_NO_STATUS);
	assert_string_equal(ws_close_reason((enum ws_close)9999), "");
	for (unsigned i = WS_CLOSE_NONE + 1; i < WS_CLOSE_COUNT; i++) {
		uint16_t code = ws_close_code((enum ws_close)i);

		assert_true(ws_close_valid_on_wire(code));
		assert_int_equal(ws_close_code(ws_close_of(code)), code);
		assert_true(strlen(ws_close_reason((enum ws_close)i)) > 0);
		assert_true(strlen(ws_close_advice((enum ws_close)i)) > 0);
	}
	for (unsigned code = 0; code <= 65535; code++)
		valid += ws_close_valid_on_wire((uint16_t)code);
	assert_int_equal(valid, 4 + 8 + 2000);
}

static void
close_frames(void **state)
{
	uint8_t out[WS_CLOSE_FRAME_MAX];
	static const uint8_t mask[4] = { 1, 2, 3, 4 };
	char reason[200];
	const uint8_t *text;
	uint16_t code;
	size_t n, len;

	(void)state;
	assert_int_equal(ws_close_put(out, 4009, "Replaced", 8, NULL), 12);
	assert_memory_equal(out, "\x88\x0a\x0f\xa9Replaced", 12);
	assert_int_equal(ws_close_put(out, WS_CODE_NO_STATUS, "", 0, NULL), 2);
	assert_memory_equal(out, "\x88\x00", 2);
	assert_int_equal(ws_close_reply(out, 1000, NULL), 4);
	assert_memory_equal(out, "\x88\x02\x03\xe8", 4);
	assert_int_equal(ws_close_reply(out, WS_CODE_NO_STATUS, NULL), 2);
	assert_int_equal(ws_close_put(out, 1000, "ab", 2, mask), 10);
	assert_memory_equal(out, "\x88\x84\x01\x02\x03\x04\x02\xea" "bf", 10);

	/* A long reason is cut between characters: 62 of two bytes would be 124. */
	for (size_t i = 0; i < sizeof(reason); i += 2)
		memcpy(reason + i, "\xc3\xa4", 2);
	n = ws_close_put(out, 4000, reason, sizeof(reason), NULL);
	assert_int_equal(n, 2 + 2 + 122);
	assert_int_equal(ws_close_parse(out + 2, n - 2, &code, &text, &len), 0);
	assert_int_equal(code, 4000);
	assert_int_equal(len, 122);
	memset(reason, 'r', sizeof(reason));
	assert_int_equal(ws_close_put(out, 4000, reason, sizeof(reason), mask), WS_CLOSE_FRAME_MAX);
}

static void
sha1_of(const char *text, const char *want)
{
	uint8_t digest[WS_SHA1_LEN];
	char hex[2 * WS_SHA1_LEN + 1];

	ws_sha1(text, strlen(text), digest);
	for (size_t i = 0; i < WS_SHA1_LEN; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(hex, want);
}

/* FIPS 180-4's examples, and the lengths around the padding's edges (from sha1sum). */
static void
sha1(void **state)
{
	char a[120];

	(void)state;
	sha1_of("", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
	sha1_of("abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
	sha1_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	    "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
	memset(a, 'a', sizeof(a));
	a[119] = '\0';
	sha1_of(a, "ee971065aaa017e0632a8ca6c77bb3bf8b1dfc56");
	a[118] = '\0';
	sha1_of(a, "d0572de8e494e0b7b8e50302003fc4ae0596ef4d");
	a[65] = '\0';
	sha1_of(a, "11655326c708d70319be2610e8a57d9a5b959d3b");
	a[64] = '\0';
	sha1_of(a, "0098ba824b5c16427bd7a1122a5a442a25ec644d");
	a[63] = '\0';
	sha1_of(a, "03f09f5b158a7a8cdad920bddc29b81c18a551f5");
	a[57] = '\0';
	sha1_of(a, "f08f24908d682555111be7ff6f004e78283d989a");
	a[56] = '\0';
	sha1_of(a, "c2db330f6083854c99d4b5bfb6e8f29f201be699");
	a[55] = '\0';
	sha1_of(a, "c1c8bbdc22796e28c0e15163d20899b65621d65a");
	a[54] = '\0';
	sha1_of(a, "b05d71c64979cb95fa74a33cdb31a40d258ae02e");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(headers_round_trip),
		cmocka_unit_test(bad_headers),
		cmocka_unit_test(masks),
		cmocka_unit_test(close_table),
		cmocka_unit_test(close_frames),
		cmocka_unit_test(sha1),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
