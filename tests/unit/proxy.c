/*
 * proxy.c: the PROXY protocol's header.  Each is also given in all its beginnings, and with other
 * bytes behind it: what is not complete is no fault yet, and what is a fault never becomes good.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "net/proxy.h"

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xcb\0\x71\7\xc6\x33\x64\1\x9c\x40\1\xbb"
#define V6A "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7"
#define V6 V6A V6A "\x9c\x40\1\xbb"

struct sample {
	const char *p;
	size_t n;
	const char *client;		/* "" not said; NULL: refused */
	unsigned port;
};

#define S(text, client, port) { text, sizeof(text) - 1, client, port }

static const struct sample samples[] = {
	S("PROXY TCP4 203.0.113.7 198.51.100.1 40000 443\r\n", "203.0.113.7", 40000),
	S("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", 65535),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 0 0\r\n", "1.2.3.4", 0),
	S("PROXY TCP6 2001:db8::7 ::1 1 2\r\n", "2001:db8::7", 1),
	S("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535),
	S("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", "192.0.2.1", 1),
	S("PROXY UNKNOWN\r\n", "", 0),
	S("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "", 0),
	S("PROXY UNKNOWN whatever stands here\r\n", "", 0),
	S("PROXY UNKNOWNX\r\n", NULL, 0),
	S("PROXY UNKNOWN x\ny\r\n", NULL, 0),
	S("PROXY \r\n", NULL, 0),
	S("PROXY\r\n", NULL, 0),
	S("PROXY TCP4\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", NULL, 0),
	S("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", NULL, 0),
	S("PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 x 1 2\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", NULL, 0),
	S("PROXY TCP4 ::1 ::1 1 2\r\n", NULL, 0),
	S("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", NULL, 0),
	S("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", NULL, 0),
	S("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", NULL, 0),
	S("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx", NULL, 0),
	S("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", NULL, 0),
	S("GET / HTTP/1.1\r\n", NULL, 0),
	S("\x16\x03\x01\x02", NULL, 0),
	S(SIG "\x21\x11\0\x0c" V4, "203.0.113.7", 40000),
	S(SIG "\x21\x21\0\x24" V6, "2001:db8::7", 40000),
	S(SIG "\x21\x11\0\x11" V4 "\1\0\2h2", "203.0.113.7", 40000),
	S(SIG "\x21\x11\0\x13" V4 "\3\0\4\x93\x1b\x4f\x2d", NULL, 0),
	S(SIG "\x21\0\0\0", "", 0),
	S(SIG "\x21\0\0\3\1\0\0", "", 0),
	S(SIG "\x21\0\0\3\1\0\1", NULL, 0),
	S(SIG "\x20\0\0\0", "", 0),
	S(SIG "\x20\x11\0\x0c" V4, "", 0),
	S(SIG "\x20\0\0\5junk!", "", 0),
	S(SIG "\x21\x11\0\x0b" "xxxxxxxxxxx", NULL, 0),
	S(SIG "\x21\x11\0\x0e" V4 "\1\0", NULL, 0),
	S(SIG "\x21\x11\0\x10" V4 "\1\0\2x", NULL, 0),
	S(SIG "\x21\x12\0\x0c" V4, NULL, 0),
	S(SIG "\x21\x10\0\x0c" V4, NULL, 0),
	S(SIG "\x21\x41\0\x0c" V4, NULL, 0),
	S(SIG "\x22\x11\0\x0c" V4, NULL, 0),
	S(SIG "\x11\x11\0\x0c" V4, NULL, 0),
	S(SIG "\x21\x11\x0f\xf1", NULL, 0),
	S("\r\n\r\n\0\r\nQUIX\n\x21\x11\0\x0c" V4, NULL, 0),
};

static void
expect(const struct sample *s, long rc, const struct proxy_client *c)
{
	uint8_t ip[16] = { 0 };
	unsigned v4;

	if (s->client == NULL) {
		if (rc != -1)
			fail_msg("taken: %.60s", s->p);
		return;
	}
	if (rc != (long)s->n)
		fail_msg("%ld of %zu bytes: %.60s", rc, s->n, s->p);
	assert_int_equal(c->known, s->client[0] != '\0');
	if (!c->known)
		return;
	if (inet_pton(AF_INET6, s->client, ip) != 1) {
		assert_int_equal(inet_pton(AF_INET, s->client, &v4), 1);
		ip[10] = ip[11] = 0xff;
		memcpy(ip + 12, &v4, 4);
	}
	assert_memory_equal(c->ip, ip, 16);
	assert_int_equal(c->port, s->port);
}

static void
test_samples(void **state)
{
	struct proxy_client c;

	(void)state;
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		const struct sample *s = &samples[i];
		uint8_t *copy = malloc(s->n + 40);

		/* Each length in memory of its own, so that a look beyond it is seen. */
		for (size_t n = 0; n <= s->n; n++) {
			uint8_t *part = malloc(n > 0 ? n : 1);
			long rc;

			memcpy(part, s->p, n);
			rc = proxy_parse(part, n, &c);
			if (n == s->n)
				expect(s, rc, &c);
			else if (rc > 0 || (rc == -1 && s->client != NULL))
				fail_msg("%ld after %zu bytes of %.60s", rc, n, s->p);
			free(part);
		}
		memcpy(copy, s->p, s->n);
		memcpy(copy + s->n, "GET / HTTP/1.1\r\n\r\nxxxxxxxxxxxxxxxxxxxxxx", 40);
		expect(s, proxy_parse(copy, s->n + 40, &c), &c);
		free(copy);
	}
}

/*
 * A line without an end is given up when it is longer than it can be, a header when it says that it
 * will be.
 */
static void
test_bounds(void **state)
{
	uint8_t line[200];
	struct proxy_client c;

	(void)state;
	memset(line, 'x', sizeof(line));
	memcpy(line, "PROXY UNKNOWN ", 14);
	for (size_t n = 14; n < sizeof(line); n++)
		assert_int_equal(proxy_parse(line, n, &c), n < PROXY_V1_MAX ? 0 : -1);
	line[PROXY_V1_MAX - 2] = '\r';
	line[PROXY_V1_MAX - 1] = '\n';
	assert_int_equal(proxy_parse(line, sizeof(line), &c), PROXY_V1_MAX);

	uint8_t *big = calloc(1, PROXY_HEADER_MAX);

	memcpy(big, SIG "\x20\0", 14);
	big[14] = (PROXY_HEADER_MAX - 16) >> 8;
	big[15] = (PROXY_HEADER_MAX - 16) & 0xff;
	assert_int_equal(proxy_parse(big, PROXY_HEADER_MAX - 1, &c), 0);
	assert_int_equal(proxy_parse(big, PROXY_HEADER_MAX, &c), PROXY_HEADER_MAX);
	big[15]++;
	assert_int_equal(proxy_parse(big, 16, &c), -1);
	free(big);
}

/*
 * With a right checksum, which a second program worked out, the header is good; with any bit
 * changed it is not.
 */
static void
test_checksum(void **state)
{
	uint8_t h[] = SIG "\x21\x11\0\x13" V4 "\3\0\4\0\0\0\0";
	size_t n = sizeof(h) - 1;
	uint32_t crc = 0xffffffff;
	struct proxy_client c;
	unsigned taken = 0;

	(void)state;
	for (size_t i = 0; i < n; i++)
		for (int bit = 0; bit < 8; bit++) {
			uint32_t in = (h[i] >> bit ^ crc) & 1;

			crc >>= 1;
			if (in)
				crc ^= 0x82f63b78;
		}
	crc = ~crc;
	for (int i = 0; i < 4; i++)
		h[n - 4 + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
	assert_int_equal(proxy_parse(h, n, &c), n);
	assert_true(c.known);
	for (size_t bit = 0; bit < n * 8; bit++) {
		h[bit / 8] ^= (uint8_t)(1 << bit % 8);
		taken += proxy_parse(h, n, &c) > 0;
		h[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	/* What turns it into LOCAL, or the extension into another one, which nobody reads. */
	assert_int_equal(taken, 1 + 8);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples), cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_checksum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
