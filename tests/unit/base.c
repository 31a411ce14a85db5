/*
 * base.c: buffers, times, digests, ids, addresses, titles and the log.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <fcntl.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "base/address.h"
#include "base/block.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "base/log_syslog.h"
#include "base/must.h"
#include "base/names.h"
#include "base/title.h"
#include "base/uuid.h"
#include "base/window.h"

static void
expect_buf(struct buf *b, const char *text)
{
	buf_putc(b, '\0');
	assert_string_equal(b->data, text);
	buf_clear(b);
}

static void
test_buf(void **state)
{
	struct buf b = BUF_INIT;

	(void)state;
	buf_put(&b, NULL, 0);
	assert_int_equal(b.len, 0);
	buf_put_u64(&b, 0);
	buf_putc(&b, ' ');
	buf_put_u64(&b, UINT64_MAX);
	buf_putc(&b, ' ');
	buf_put_i64(&b, INT64_MIN);
	buf_putc(&b, ' ');
	buf_put_hex(&b, "\x00\xff\x1a", 3);
	expect_buf(&b, "0 18446744073709551615 -9223372036854775808 00ff1a");

	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%d,", i);
	assert_int_equal(b.len, 3890);
	buf_consume(&b, 3886);
	expect_buf(&b, "999,");
	buf_puts(&b, "abc");
	buf_consume(&b, 3);
	assert_int_equal(b.len, 0);
	buf_fini(&b);
	assert_null(b.data);
	buf_puts(&b, "usable");
	expect_buf(&b, "usable");
	buf_fini(&b);
}

static void
test_buf_json(void **state)
{
	struct buf b = BUF_INIT;
	char all[256];

	(void)state;
	buf_put_json_string(&b, SLICE_NONE);
	expect_buf(&b, "\"\"");
	buf_put_json_string(&b, SLICE("a\"b\\c\b\f\n\r\t\x01\x1f\x7f/\xc3\xa9"));
	expect_buf(&b, "\"a\\\"b\\\\c\\b\\f\\n\\r\\t\\u0001\\u001f\x7f/\xc3\xa9\"");
	for (size_t i = 0; i < 128; i++)
		all[i] = (char)(i > 0 ? i : 1);
	buf_put_json_string(&b, slice_bytes(all, 128));
	struct json_value v;
	struct buf scratch = BUF_INIT;
	struct slice back;
	assert_int_equal(json_parse(buf_slice(&b), 1, &v), 0);
	assert_int_equal(json_text(v, &scratch, &back), 0);
	assert_true(slice_eq(back, slice_bytes(all, 128)));
	buf_fini(&scratch);
	buf_clear(&b);

	buf_put_json_time(&b, 0);
	buf_put_json_time(&b, 1769860800123);
	buf_put_json_moment(&b, 0);
	expect_buf(&b, "null\"2026-01-31T12:00:00.123Z\"\"1970-01-01T00:00:00.000Z\"");
	buf_put_json_uuid(&b, (const uint8_t *)"0123456789abcdef");
	expect_buf(&b, "\"30313233-3435-3637-3839-616263646566\"");
	buf_fini(&b);
}

static void
test_clock(void **state)
{
	static const struct {
		const char *text;
		int64_t at_ms;
	} good[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2026-01-31T12:00:00.123Z", 1769860800123 },
		{ "2026-01-31t12:00:00.1239999z", 1769860800123 },
		{ "2026-01-31T12:00:00.1Z", 1769860800100 },
		{ "2026-01-31T13:30:00+01:30", 1769860800000 },
		{ "2026-01-31T00:00:00-12:00", 1769860800000 },
		{ "2000-02-29T23:59:59.999Z", 951868799999 },
		{ "2016-12-31T23:59:60Z", 1483228800000 },
		{ "0000-01-01T00:00:00Z", -62167219200000 },
		{ "9999-12-31T23:59:59.999Z", 253402300799999 },
		{ "1969-12-31T23:59:59.999Z", -1 },
	};
	static const char *const bad[] = {
		"", "2026", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31 12:00:00Z",
		    "2026-1-31T12:00:00Z",
		"2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z",
		    "1900-02-29T00:00:00Z",
		"2026-04-31T00:00:00Z", "2026-01-00T00:00:00Z", "2026-01-31T24:00:00Z",
		    "2026-01-31T12:60:00Z",
		"2026-01-31T12:00:61Z", "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00.1234567890Z",
		"2026-01-31T12:00:00Z ", "2026-01-31T12:00:00+1:00", "2026-01-31T12:00:00+24:00",
		"2026-01-31T12:00:00+01:60", "2026-01-31T12:00:00+0100", "+026-01-31T12:00:00Z",
		    "2026-01-31T12:00:00,5Z",
	};
	char text[CLOCK_TEXT_LEN + 1];
	int64_t at_ms;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(clock_parse(slice_of(good[i].text), &at_ms), 0);
		assert_int_equal(at_ms, good[i].at_ms);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (clock_parse(slice_of(bad[i]), &at_ms) != -1)
			fail_msg("taken: %s", bad[i]);
	/* Each day of a great cycle and some, there and back. */
	for (int64_t day = -200; day < 146097 + 200; day++) {
		int64_t ms = (day - 25567) * 86400000 + 45296789;

		clock_format(ms, text);
		assert_int_equal(clock_parse(slice_of(text), &at_ms), 0);
		assert_int_equal(at_ms, ms);
	}
	clock_format(INT64_MAX, text);
	assert_string_equal(text, "9999-12-31T23:59:59.999Z");
	clock_format(INT64_MIN, text);
	assert_string_equal(text, "0000-01-01T00:00:00.000Z");
	assert_true(clock_now_ms() > 1700000000000);
	assert_true(clock_mono_us() / 1000 - clock_mono_ms() < 1000);
}

static void
test_sha256(void **state)
{
	uint8_t out[SHA256_LEN], want[SHA256_LEN];

	(void)state;
	for (int i = 0; i < 2; i++) {		/* the second time with what was fetched */
		digest_sha256(SLICE("abc"), out);
		assert_int_equal(digest_hex_decode(
		    SLICE("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), want,
		    sizeof(want)), 0);
		assert_memory_equal(out, want, sizeof(want));
		digest_sha256(SLICE_NONE, out);
		assert_int_equal(digest_hex_decode(
		    SLICE("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), want,
		    sizeof(want)), 0);
		assert_memory_equal(out, want, sizeof(want));
	}
}

/* SipHash by OpenSSL: another hand wrote that one. */
static void
openssl_siphash(const uint8_t key[16], const void *p, size_t len, uint8_t *out, size_t size)
{
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
	OSSL_PARAM params[] = { OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
	    OSSL_PARAM_construct_end() };
	size_t got;

	assert_non_null(ctx);
	assert_int_equal(EVP_MAC_CTX_set_params(ctx, params), 1);
	assert_int_equal(EVP_MAC_init(ctx, key, 16, NULL), 1);
	assert_int_equal(EVP_MAC_update(ctx, p, len), 1);
	assert_int_equal(EVP_MAC_final(ctx, out, &got, size), 1);
	assert_int_equal(got, size);
	EVP_MAC_CTX_free(ctx);
	EVP_MAC_free(mac);
}

static void
test_siphash(void **state)
{
	uint8_t key[16], text[80], want[16];
	struct hash128 h;

	(void)state;
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)i;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 7);
	/* The authors' first vector. */
	assert_int_equal(digest_sip64(key, NULL, 0), 0x726fdb47dd0e0e31);
	for (size_t len = 0; len < sizeof(text); len++) {
		openssl_siphash(key, text, len, want, 8);
		uint64_t got = digest_sip64(key, text, len);
		assert_memory_equal(&got, want, 8);
		/* Every place of the zero between the two parts. */
		for (size_t a = 0; a < len; a++) {
			uint8_t whole[80];

			memcpy(whole, text, len);
			whole[a] = 0;
			openssl_siphash(key, whole, len, want, 16);
			h = digest_sip128(key, slice_bytes(text, a),
			    slice_bytes(text + a + 1, len - a - 1));
			assert_memory_equal(&h.lo, want, 8);
			assert_memory_equal(&h.hi, want + 8, 8);
		}
	}
}

static void
test_base64url(void **state)
{
	static const char *const bad[] = { "A", "AAAAA", "AB", "AAB", "AA==", "AA=", "A+AA", "A/AA",
	    "AA A", "AA\n", "\xc3\xa9", "____A" };
	struct buf b = BUF_INIT;
	uint8_t in[64], out[64];

	(void)state;
	for (size_t len = 0; len <= sizeof(in); len++) {
		digest_random(in, len);
		buf_clear(&b);
		digest_base64url_put(&b, in, len);
		assert_int_equal(b.len, (len * 4 + 2) / 3);
		assert_int_equal(digest_base64url_decode(buf_slice(&b), out, sizeof(out)), len);
		assert_memory_equal(in, out, len);
		if (len > 0)
			assert_int_equal(digest_base64url_decode(buf_slice(&b), out, len - 1), -1);
	}
	buf_clear(&b);
	digest_base64url_put(&b, "\xfb\xff\xbf", 3);
	expect_buf(&b, "-_-_");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(digest_base64url_decode(slice_of(bad[i]), out, sizeof(out)), -1);
	buf_fini(&b);
	assert_int_equal(digest_hex_decode(SLICE("00fFa"), out, 2), -1);
	assert_int_equal(digest_hex_decode(SLICE("00fg"), out, 2), -1);
	assert_int_equal(digest_hex_decode(SLICE("00fF"), out, 2), 0);
	assert_int_equal(out[1], 255);
	assert_true(digest_equal("abc", "abc", 3));
	assert_false(digest_equal("abc", "abd", 3));
}

/* FIPS 197, appendix C.1. */
static const uint8_t names_key[16] = "a key of 16 byte";

static void
test_names(void **state)
{
	struct slice json = SLICE("[\"b\", \"a\",\"\\u0062\",\"\", \"a\\n\",\"\"]");
	static const char *const expected[] = { "b", "a", "", "a\n" };
	struct buf scratch = BUF_INIT;
	struct names names;

	(void)state;
	names_init(&names, names_key);
	assert_false(names_has(&names, SLICE("a")));
	names_add_json(&names, json, &scratch);
	assert_int_equal(names.n, 4);
	for (uint32_t i = 0; i < names.n; i++)
		assert_true(slice_is(names.v[i], expected[i]) && names_has(&names, names.v[i]));
	assert_false(names_add(&names, SLICE("a")));
	assert_true(names_add(&names, SLICE("aa")));
	assert_false(names_has(&names, SLICE("aaa")));
	assert_int_equal(names.n, 5);
	names_fini(&names);
	buf_fini(&scratch);
}

/* Seconds of the process for count names: added, added again, and as many others looked for. */
static double
names_take(uint32_t count)
{
	struct timespec from, to;
	struct names names;
	char *text = malloc(count * 2 * 64);

	for (uint32_t i = 0; i < count * 2; i++)
		snprintf(text + i * 64, 64, "%052u", i);
	assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from), 0);
	names_init(&names, names_key);
	for (uint32_t i = 0; i < count; i++)
		assert_true(names_add(&names, slice_bytes(text + i * 64, 52)));
	for (uint32_t i = 0; i < count * 2; i++)
		if (i < count ? names_add(&names, slice_bytes(text + i * 64, 52)) :
		    names_has(&names, slice_bytes(text + i * 64, 52)))
			fail_msg("name %u", i);
	assert_int_equal(names.n, count);
	names_fini(&names);
	assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to), 0);
	free(text);
	return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
}

/* 32 times as many cost about 32 times as much, where comparing each with each other costs 1,024 times. */
static void
test_many_names(void **state)
{
	double few, many;

	(void)state;
	(void)names_take(2000);
	few = names_take(2000);
	many = names_take(64000);
	print_message("%.6f s, %.6f s\n", few, many);
	assert_true(many < few * 250);
}

static void
test_block(void **state)
{
	static const uint8_t want[BLOCK_LEN] = {
		0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30, 0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a
	};
	uint8_t key[BLOCK_LEN], in[BLOCK_LEN], out[BLOCK_LEN], back[BLOCK_LEN];
	struct block_key *k;

	(void)state;
	for (int i = 0; i < BLOCK_LEN; i++) {
		key[i] = (uint8_t)i;
		in[i] = (uint8_t)(i * 0x11);
	}
	k = block_key_new(key);
	for (int times = 0; times < 3; times++) {
		block_hide(k, in, out);
		assert_memory_equal(out, want, sizeof(want));
		block_show(k, out, back);
		assert_memory_equal(back, in, sizeof(in));
	}
	block_show(k, out, out);
	assert_memory_equal(out, in, sizeof(in));
	block_hide(k, out, out);
	assert_memory_equal(out, want, sizeof(want));
	block_key_free(&k);
	assert_null(k);
	block_key_free(&k);
}

static uint64_t
window_sum(const uint32_t cells[WINDOW_STEPS][2], unsigned which)
{
	uint64_t sum = 0;

	for (int i = 0; i < WINDOW_STEPS; i++)
		sum += cells[i][which];
	return sum;
}

static void
test_window(void **state)
{
	/* Of any length, from the machine's start and from long after it. */
	static const int64_t starts[] = { 0, 7, WINDOW_STEP_MS * 3, INT64_C(90000000000) + 11 };

	(void)state;
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		uint32_t cells[WINDOW_STEPS][2] = { 0 };
		int64_t step = 0, ms = 0, mono = starts[i];

		/* One each second: as many as the window has seconds, and no more. */
		for (int n = 1; n < 1000; n++, mono += 1000) {
			uint64_t want;

			window_row(&step, &cells[0][0], 2, mono)[1]++;
			ms = window_ms(mono, starts[i]);
			want = (uint64_t)ms / 1000 + 1;
			assert_true(window_sum(cells, 1) == want || window_sum(cells, 1) + 1 == want);
			assert_int_equal(window_sum(cells, 0), 0);
			assert_true(ms <= mono - starts[i]);
		}
		assert_true(ms >= WINDOW_STEP_MS * (WINDOW_STEPS - 1) && ms < WINDOW_STEP_MS * WINDOW_STEPS);
		assert_false(window_is_over(step, mono));
		/* A pause: a part of it is left, then nothing. */
		mono += WINDOW_STEP_MS * (WINDOW_STEPS / 2);
		window_row(&step, &cells[0][0], 2, mono);
		assert_in_range(window_sum(cells, 1), 1, WINDOW_STEP_MS * WINDOW_STEPS / 1000 / 2 + 30);
		assert_true(window_is_over(step, mono + WINDOW_STEP_MS * WINDOW_STEPS));
		window_row(&step, &cells[0][0], 2, mono + WINDOW_STEP_MS * WINDOW_STEPS);
		assert_int_equal(window_sum(cells, 1), 0);
	}
}

static void
test_uuid(void **state)
{
	static const char *const bad[] = {
		"", "30313233-3435-3637-3839-61626364656", "30313233-3435-3637-3839-6162636465666",
		"30313233+3435-3637-3839-616263646566", "3031323-33435-3637-3839-616263646566",
		"g0313233-3435-3637-3839-616263646566", "{0313233-3435-3637-3839-616263646566",
	};
	uint8_t last[UUID_LEN] = { 0 }, id[UUID_LEN], back[UUID_LEN];
	char text[UUID_TEXT_LEN + 1];

	unsigned by_one = 0;

	(void)state;
	/* More than a millisecond's counter can hold, so that it overflows too. */
	for (int i = 0; i < 20000; i++) {
		uuid_new(id);
		by_one += memcmp(last, id, 6) == 0 &&
		    ((id[6] & 15) << 8 | id[7]) - ((last[6] & 15) << 8 | last[7]) == 1;
		assert_int_equal(id[6] >> 4, 7);
		assert_int_equal(id[8] >> 6, 2);
		assert_true(memcmp(last, id, sizeof(id)) < 0);
		memcpy(last, id, sizeof(id));
	}
	/* Their steps vary: nobody counts by them what others had made. */
	assert_true(by_one < 20000 / 8);
	uuid_format(id, text);
	assert_int_equal(strlen(text), UUID_TEXT_LEN);
	assert_int_equal(uuid_parse(slice_of(text), back), 0);
	assert_memory_equal(id, back, sizeof(id));
	assert_int_equal(uuid_parse(SLICE("30313233-3435-3637-3839-61626364656F"), back), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(uuid_parse(slice_of(bad[i]), back), -1);
}

/* What was drawn in advance before a fork is the parent's alone: the random bits of both differ. */
static void
test_uuid_after_fork(void **state)
{
	uint8_t ours[UUID_LEN], theirs[UUID_LEN];
	int ends[2], status;
	pid_t pid;

	(void)state;
	uuid_new(ours);
	assert_int_equal(pipe(ends), 0);
	if ((pid = fork()) == 0) {
		uuid_new(theirs);
		_exit(write(ends[1], theirs, sizeof(theirs)) == sizeof(theirs) ? 0 : 1);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(read(ends[0], theirs, sizeof(theirs)), sizeof(theirs));
	uuid_new(ours);
	assert_memory_not_equal(ours + 8, theirs + 8, 8);
	(void)close(ends[0]);
	(void)close(ends[1]);
}

static void
test_address(void **state)
{
	static const char *const bad[] = {
		"", "3000", "host", "host:", "host:x", "host:65536", "host:-1", "host:123456",
		    "::1:3000", "[::1]", "[::1]3000",
		"[::g]:1", "[]:1", "ho st:1", "host/:1", "unix:relative", "unix:",
	};
	char longer[300];
	struct address a;
	const char *why;

	(void)state;
	assert_int_equal(address_parse(SLICE("0.0.0.0:3000"), &a, &why), 0);
	assert_int_equal(a.kind, ADDRESS_TCP);
	assert_string_equal(a.host, "0.0.0.0");
	assert_int_equal(a.port, 3000);
	assert_int_equal(address_parse(SLICE("[2001:db8::1]:0"), &a, &why), 0);
	assert_string_equal(a.host, "2001:db8::1");
	assert_int_equal(address_parse(SLICE(":65535"), &a, &why), 0);
	assert_string_equal(a.host, "");
	assert_int_equal(a.port, 65535);
	assert_int_equal(address_parse(SLICE("unix:/run/belay/http"), &a, &why), 0);
	assert_int_equal(a.kind, ADDRESS_UNIX);
	assert_string_equal(a.path, "/run/belay/http");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		if (address_parse(slice_of(bad[i]), &a, &why) != -1)
			fail_msg("taken: %s", bad[i]);
		assert_non_null(why);
	}
	memset(longer, 'a', sizeof(longer));
	memcpy(longer, "unix:/", 6);
	assert_int_equal(address_parse(slice_bytes(longer, 5 + 107), &a, &why), 0);
	assert_int_equal(address_parse(slice_bytes(longer, 5 + 108), &a, &why), -1);
	memset(longer, 'a', sizeof(longer));
	memcpy(longer + 256, ":1", 2);
	assert_int_equal(address_parse(slice_bytes(longer, 258), &a, &why), -1);
	assert_int_equal(address_parse(slice_bytes(longer + 1, 257), &a, &why), 0);
}

static bool
in_network(const char *network, const char *address)
{
	struct network n, a;

	assert_int_equal(network_parse(slice_of(network), &n), 0);
	assert_int_equal(network_parse(slice_of(address), &a), 0);
	return network_has(&n, a.ip);
}

static void
test_network(void **state)
{
	static const char *const bad[] = { "", "/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8",
	    "2001:db8::/129", "host", "10.0.0.0/8x" };
	struct network n;

	(void)state;
	assert_true(in_network("10.0.0.0/8", "10.255.1.2"));
	assert_false(in_network("10.0.0.0/8", "11.0.0.0"));
	assert_true(in_network("192.168.128.0/17", "192.168.200.1"));
	assert_false(in_network("192.168.128.0/17", "192.168.1.1"));
	assert_true(in_network("0.0.0.0/0", "255.255.255.255"));
	assert_false(in_network("0.0.0.0/0", "2001:db8::1"));
	assert_true(in_network("::/0", "1.2.3.4"));
	assert_true(in_network("2001:db8::/33", "2001:db8:7fff::1"));
	assert_false(in_network("2001:db8::/33", "2001:db8:8000::1"));
	assert_true(in_network("127.0.0.1", "127.0.0.1"));
	assert_false(in_network("127.0.0.1", "127.0.0.2"));
	assert_true(in_network("unix", "unix"));
	assert_false(in_network("unix", "127.0.0.1"));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(network_parse(slice_of(bad[i]), &n), -1);
}

static char *
read_all(const char *path)
{
	struct buf b = BUF_INIT;
	FILE *f = fopen(path, "r");
	int c;

	assert_non_null(f);
	while ((c = getc(f)) != EOF)
		buf_putc(&b, (char)c);
	fclose(f);
	buf_putc(&b, '\0');
	return b.data;
}

static void
test_log(void **state)
{
	char path[] = "/tmp/belay-log-XXXXXX", moved[64], peer[3000];
	char *text;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd != -1);
	close(fd);
	assert_int_equal(log_open(path, LOG_LEVEL_INFO), 0);
	log_set_name("gateway 1");
	log_info("from a peer: %s", "a\nb\x01\xff\xc2\x85\xc3\xa9");
	log_debug("not to be seen");
	log_set_level(LOG_LEVEL_ERROR);
	log_info("nor this");
	log_set_level(LOG_LEVEL_DEBUG);
	memset(peer, 'x', sizeof(peer));
	peer[sizeof(peer) - 1] = '\0';
	log_debug("%s", peer);
	text = read_all(path);
	assert_non_null(strstr(text, "Z info gateway 1["));
	assert_non_null(strstr(text, "from a peer: a\\x0ab\\x01\\xff\\xc2\\x85\xc3\xa9\n"));
	assert_null(strstr(text, "not to be seen"));
	assert_null(strstr(text, "nor this"));
	char *last = strrchr(text, ':') + 2;
	assert_true(strlen(last) < 1024 && strlen(last) > 900);
	assert_non_null(strstr(last, "xxx...\n"));
	free(text);

	/* Moved away and opened again: both files have their lines. */
	snprintf(moved, sizeof(moved), "%s.1", path);
	assert_int_equal(rename(path, moved), 0);
	log_info("before");
	assert_int_equal(log_reopen(), 0);
	log_info("after");
	text = read_all(moved);
	assert_non_null(strstr(text, "before"));
	assert_null(strstr(text, "after"));
	free(text);
	text = read_all(path);
	assert_non_null(strstr(text, "after"));
	free(text);
	assert_int_equal(log_open("relative", LOG_LEVEL_INFO), -1);
	assert_int_equal(log_open("/nonexistent/x", LOG_LEVEL_INFO), -1);
	log_info("still here");
	text = read_all(path);
	assert_non_null(strstr(text, "still here"));
	free(text);
	assert_int_equal(log_open("stderr", LOG_LEVEL_ERROR), 0);
	unlink(path);
	unlink(moved);
}

/* What earlier tests lost is told. */
static void
tell_lost(void)
{
	assert_int_equal(log_open("/dev/null", LOG_LEVEL_INFO), 0);
	log_info("so many");
	(void)log_take_lost();
}

static void
test_log_json(void **state)
{
	char path[] = "/tmp/belay-log-XXXXXX", *text, longer[2000];
	int fd = mkstemp(path), saved = dup(2);
	struct json_value line, message;
	struct buf scratch = BUF_INIT;
	struct slice s;

	(void)state;
	tell_lost();
	dup2(fd, 2);
	assert_int_equal(log_open("json", LOG_LEVEL_INFO), 0);
	log_info("quote \" backslash \\ control \t bad \xff");
	memset(longer, '"', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	log_info("%s", longer);
	dup2(saved, 2);
	assert_int_equal(log_open("stderr", LOG_LEVEL_ERROR), 0);
	text = read_all(path);
	char *second = strchr(text, '\n') + 1;
	assert_int_equal(json_parse(slice_bytes(text, (size_t)(second - text)), 2, &line), 0);
	assert_int_equal(json_get(line, "message", &message), 0);
	assert_int_equal(json_text(message, &scratch, &s), 0);
	assert_true(slice_is(s, "quote \" backslash \\ control \\x09 bad \\xff"));
	assert_int_equal(json_parse(slice_of(second), 2, &line), 0);
	assert_true(strlen(second) <= 1024);
	buf_fini(&scratch);
	free(text);
	close(fd);
	close(saved);
	unlink(path);
}

/* A pipe that is full and has a reader that does not read; its ends are returned, and 2 is the one to write to. */
static void
stop_reader(int ends[2])
{
	static const char nothing[4096];
	char name[32];
	int filler;

	assert_int_equal(pipe(ends), 0);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", ends[1]);
	filler = open(name, O_WRONLY | O_NONBLOCK);
	assert_true(filler >= 0);
	while (write(filler, nothing, sizeof(nothing)) > 0)
		;
	close(filler);
	dup2(ends[1], 2);
	close(ends[1]);
	assert_int_equal(log_open("stderr", LOG_LEVEL_INFO), 0);
}

/* What is there, of a pipe that nobody writes to meanwhile, as text without \0. */
static char *
read_there(int fd)
{
	struct buf b = BUF_INIT;
	char c;

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	while (read(fd, &c, 1) == 1)
		if (c != '\0')
			buf_putc(&b, c);
	buf_putc(&b, '\0');
	return b.data;
}

/*
 * A reader that stops reading stops nobody: some lines wait, the others are lost, and when it reads
 * again both are told, in order.
 */
static void
test_log_without_reader(void **state)
{
	enum { LINES = 5000 };
	int ends[2], saved = dup(2), waited = 0;
	char *text, *at, want[64];
	unsigned long lost;

	(void)state;
	tell_lost();
	stop_reader(ends);
	alarm(20);
	for (int i = 0; i < LINES; i++)
		log_info("number %d.", i);
	log_flush();
	log_finish(10);
	assert_true(alarm(0) > 15);
	assert_int_equal(fcntl(2, F_GETFL) & O_NONBLOCK, 0);	/* others share it */
	lost = log_take_lost();
	assert_int_equal(log_take_lost(), 0);

	text = read_there(ends[0]);
	assert_string_equal(text, "");
	free(text);
	do {				/* a pipe holds somewhat less than its size, in pages */
		log_flush();
		text = read_there(ends[0]);
		for (at = text; (at = strstr(at, "number ")) != NULL; at++)
			assert_int_equal(strtol(at + 7, NULL, 10), waited++);
		at = *text != '\0' ? text : NULL;
		free(text);
	} while (at != NULL);
	assert_true(waited > 500 && waited < 1500);
	assert_int_equal(waited + lost, LINES);
	log_info("written");
	dup2(saved, 2);
	assert_int_equal(log_open("stderr", LOG_LEVEL_ERROR), 0);
	text = read_there(ends[0]);
	snprintf(want, sizeof(want), "%lu lines before this one were lost\n", lost);
	assert_non_null(strstr(text, want));
	assert_non_null(strstr(strstr(text, want), "written\n"));
	free(text);
	close(ends[0]);
	close(saved);
}

/* Several processes share the pipe: none of them may find it full after it was asked whether it is. */
static void
test_log_of_many(void **state)
{
	int ends[2], saved = dup(2), status;
	char c[4096];
	pid_t pid[8];

	(void)state;
	stop_reader(ends);
	for (unsigned i = 0; i < 8; i++)
		if ((pid[i] = fork()) == 0) {
			alarm(60);
			for (int k = 0; k < 20000; k++)
				log_info("%d", k);
			_exit(0);
		}
	/* Now and then a little room. */
	for (int i = 0; i < 16; i++)
		assert_int_equal(read(ends[0], c, sizeof(c)), sizeof(c));
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	dup2(saved, 2);
	assert_int_equal(log_open("stderr", LOG_LEVEL_ERROR), 0);
	close(ends[0]);
	close(saved);
}

/* A stream that is a socket, as service managers give it. */
static void
test_log_to_socket(void **state)
{
	int ends[2], saved = dup(2);
	char text[201] = "";
	unsigned long lost;

	(void)state;
	tell_lost();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	dup2(ends[1], 2);
	assert_int_equal(log_open("json", LOG_LEVEL_INFO), 0);
	alarm(20);
	for (int i = 0; i < 20000; i++)
		log_info("number %d.", i);
	lost = log_take_lost();
	dup2(saved, 2);			/* failures are told there */
	assert_int_equal(log_open("stderr", LOG_LEVEL_ERROR), 0);
	assert_true(alarm(0) > 15);
	assert_in_range(lost, 10000, 19999);
	assert_true(read(ends[0], text, sizeof(text) - 1) > 100);
	assert_non_null(strstr(text, "number 0.\"}\n"));
	close(ends[0]);
	close(ends[1]);
	close(saved);
}

static void
test_log_to_full_disk(void **state)
{
	unsigned long lost;

	(void)state;
	tell_lost();
	assert_int_equal(log_open("/dev/full", LOG_LEVEL_INFO), 0);
	for (int i = 0; i < 5000; i++)
		log_info("number %d", i);
	lost = log_take_lost();
	assert_in_range(lost, 3000, 4500);
	/* Opened again, as by a reload, it keeps what waits; another place has no use for that. */
	assert_int_equal(log_open("/dev/full", LOG_LEVEL_INFO), 0);
	assert_int_equal(log_take_lost(), 0);
	assert_int_equal(log_open("stderr", LOG_LEVEL_ERROR), 0);
	assert_int_equal(lost + log_take_lost(), 5000);
}

static int
log_daemon(const char *path, int type)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK, 0);

	strcpy(un.sun_path, path);
	(void)unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_true(type == SOCK_DGRAM || listen(fd, 1) == 0);
	return fd;
}

/* A log daemon that is not there, does not read, or is started anew stops nobody either. */
static void
test_log_to_syslog(void **state)
{
	char path[] = "/tmp/belay-syslog-XXXXXX", name[64], text[512];
	struct log_syslog s = LOG_SYSLOG_INIT;
	int fd, stream;

	(void)state;
	assert_non_null(mkdtemp(path));
	snprintf(name, sizeof(name), "%s/log", path);
	s.path = name;
	alarm(60);
	assert_int_equal(log_syslog_send(&s, "x", 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_true(s.again_ms > 0);
	s.again_ms = 0;
	fd = log_daemon(name, SOCK_DGRAM);
	for (int i = 0; log_syslog_send(&s, "first", 5) == 0; i++)
		assert_true(i < 100000);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(recv(fd, text, sizeof(text), 0), 5);
	assert_int_equal(log_syslog_send(&s, "again", 5), 0);
	close(fd);
	fd = log_daemon(name, SOCK_DGRAM);
	assert_int_equal(log_syslog_send(&s, "anew", 4), 0);
	assert_int_equal(recv(fd, text, sizeof(text), 0), 4);
	close(fd);
	assert_int_equal(log_syslog_send(&s, "x", 1), -1);
	assert_int_equal(errno, EAGAIN);

	s.again_ms = 0;
	fd = log_daemon(name, SOCK_STREAM);
	assert_int_equal(log_syslog_send(&s, "one", 3), 0);
	assert_int_equal(log_syslog_send(&s, "two", 3), 0);
	stream = accept(fd, NULL, NULL);
	assert_int_equal(recv(stream, text, sizeof(text), 0), 8);
	assert_memory_equal(text, "one\0two\0", 8);
	for (int i = 0; log_syslog_send(&s, "more", 4) == 0; i++)
		assert_true(i < 1000000);
	assert_int_equal(errno, EAGAIN);
	log_syslog_close(&s);
	assert_true(alarm(0) > 0);
	close(stream);
	close(fd);

	assert_true(log_syslog_head(text, sizeof(text), 6) > 20);
	assert_memory_equal(text, "<30>", 4);
	snprintf(name, sizeof(name), " belayd[%d]: ", (int)getpid());
	assert_non_null(strstr(text, name));
	snprintf(name, sizeof(name), "%s/log", path);
	unlink(name);
	rmdir(path);
}

/* In a child: what must() does is seen by its parent. */
static void
test_must(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (pid == 0) {
		fclose(stderr);
		close(2);
		must(1 + 1 == 2);
		must(1 + 1 == 3);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static char **test_argv;

static void
test_title(void **state)
{
	char **argv, *text, apart[] = "secret", *vector[] = { test_argv[0], apart, NULL };

	(void)state;
	assert_int_equal(setenv("BELAY_TITLE_TEST", "kept", 1), 0);
	argv = title_init(2, vector);
	/* At once, and also what lies somewhere else. */
	text = read_all("/proc/self/cmdline");
	assert_string_equal(text, "belayd: starting");
	free(text);
	assert_string_equal(apart, "");
	assert_string_equal(argv[1], "secret");
	title_set("gateway 7");
	assert_string_equal(getenv("BELAY_TITLE_TEST"), "kept");
	assert_non_null(strstr(argv[0], "base"));
	text = read_all("/proc/self/cmdline");
	assert_string_equal(text, "belayd: gateway 7");
	free(text);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf), cmocka_unit_test(test_buf_json),
		    cmocka_unit_test(test_clock),
		cmocka_unit_test(test_sha256), cmocka_unit_test(test_siphash),
		    cmocka_unit_test(test_base64url),
		cmocka_unit_test(test_names), cmocka_unit_test(test_many_names),
		cmocka_unit_test(test_block), cmocka_unit_test(test_window),
		cmocka_unit_test(test_uuid),
		cmocka_unit_test(test_uuid_after_fork), cmocka_unit_test(test_address),
		    cmocka_unit_test(test_network),
		cmocka_unit_test(test_log), cmocka_unit_test(test_log_without_reader),
		cmocka_unit_test(test_log_of_many), cmocka_unit_test(test_log_to_socket),
		    cmocka_unit_test(test_log_to_full_disk), cmocka_unit_test(test_log_to_syslog),
		cmocka_unit_test(test_log_json),
		    cmocka_unit_test(test_must),
		cmocka_unit_test(test_title),
	};

	(void)argc;
	test_argv = argv;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
