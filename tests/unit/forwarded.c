/*
 * forwarded.c: who the client is by X-Forwarded-For and Forwarded, and which networks have whom.
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

#include "http/forwarded.h"

#define PEER "10.9.9.9"

static void
ip_of(const char *text, uint8_t ip[16])
{
	if (forwarded_node(slice_of(text), ip) == -1)
		fail_msg("no address: %s", text);
}

static struct networks
networks_of(const char *const *list, size_t n)
{
	struct networks out = { calloc(n + 1, sizeof(*out.v)), n };

	for (size_t i = 0; i < n; i++)
		if (network_parse(slice_of(list[i]), &out.v[i]) == -1)
			fail_msg("no network: %s", list[i]);
	return out;
}

static void
test_networks(void **state)
{
	static const struct {
		const char *network, *inside[4], *outside[4];
	} rows[] = {
		{ "10.0.0.0/8", { "10.0.0.0", "10.255.255.255" },
		    { "11.0.0.0", "9.255.255.255", "::1" } },
		{ "192.0.2.128/25", { "192.0.2.128", "192.0.2.255" },
		    { "192.0.2.127", "192.0.3.128" } },
		{ "192.0.2.1", { "192.0.2.1", "::ffff:192.0.2.1" }, { "192.0.2.0", "192.0.2.2" } },
		{ "192.0.2.7/31", { "192.0.2.6", "192.0.2.7" }, { "192.0.2.5", "192.0.2.8" } },
		{ "0.0.0.0/0", { "1.2.3.4", "255.255.255.255" }, { "::1", "2001:db8::1" } },
		{ "2001:db8::/32", { "2001:db8::", "2001:db8:ffff::1" },
		    { "2001:db9::", "1.2.3.4" } },
		{ "2001:db8:8000::/33", { "2001:db8:8000::1" }, { "2001:db8:7fff::1" } },
		{ "::/0", { "::1", "ffff::", "1.2.3.4" }, { NULL } },
		{ "::1/128", { "::1" }, { "::2", "::" } },
		{ "unix", { "::" }, { "::1", "0.0.0.0" } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct networks n = networks_of(&rows[i].network, 1);
		uint8_t ip[16];

		for (int j = 0; j < 4 && rows[i].inside[j] != NULL; j++) {
			ip_of(rows[i].inside[j], ip);
			if (!networks_have(&n, ip))
				fail_msg("%s has not %s", rows[i].network, rows[i].inside[j]);
		}
		for (int j = 0; j < 4 && rows[i].outside[j] != NULL; j++) {
			ip_of(rows[i].outside[j], ip);
			if (networks_have(&n, ip))
				fail_msg("%s has %s", rows[i].network, rows[i].outside[j]);
		}
		free(n.v);
	}
}

static void
test_nodes(void **state)
{
	static const char *const bad[] = {
		"",
		"1.2.3",
		"1.2.3.4.5",
		"1.2.3.256",
		"1.2.3.04",
		"1.2.3.4:",
		"1.2.3.4:x",
		"1.2.3.4:123456",
		"[1.2.3.4]",
		"[::1",
		"::1]",
		"[::1]x",
		"[::1]:",
		"[::1]:x",
		"[]",
		"[]:1",
		"[",
		"unknown",
		"_hidden",
		"localhost",
		":",
		":1",
		"::1%lo",
		"12345::1",
		" 1.2.3.4",
		"1.2.3.4 ",
		"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee:ffff",
	};
	static const char *const good[][2] = {
		{ "192.0.2.1:80", "192.0.2.1" }, { "[2001:db8::1]", "2001:db8::1" },
		{ "[2001:db8::1]:65535", "2001:db8::1" }, { "::ffff:1.2.3.4", "1.2.3.4" },
		{ "2001:DB8::A", "2001:db8::a" },
	};
	uint8_t a[16], b[16];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (forwarded_node(slice_of(bad[i]), a) != -1)
			fail_msg("taken: %s", bad[i]);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ip_of(good[i][0], a);
		ip_of(good[i][1], b);
		assert_memory_equal(a, b, 16);
	}
	assert_int_equal(forwarded_node((struct slice){ "1.2.3.4\0", 8 }, a), -1);
}

/* lines: separated by '|'. */
static void
expect(const char *name, const char *lines, const char *client)
{
	static const char *const trusted[] = { "10.0.0.0/8", "2001:db8:aaaa::/48" };
	struct networks n = networks_of(trusted, 2);
	struct http_head head = { .headers_n = 0 };
	uint8_t ip[16], want[16];
	char text[INET6_ADDRSTRLEN];

	head.headers[head.headers_n++] = (struct http_header){ SLICE("Host"), SLICE("10.0.0.1") };
	for (const char *p = lines; p != NULL; ) {
		const char *end = strchr(p, '|');

		head.headers[head.headers_n++] = (struct http_header){ slice_of(name),
			{ p, end != NULL ? (size_t)(end - p) : strlen(p) } };
		p = end != NULL ? end + 1 : NULL;
	}
	ip_of(PEER, ip);
	ip_of(client, want);
	forwarded_client(
	    &head, name[0] == 'x' || name[0] == 'X' ? "X-Forwarded-For" : "Forwarded", &n, ip);
	if (memcmp(ip, want, 16) != 0)
		fail_msg("%s: %s: %s, not %s", name, lines,
		    inet_ntop(AF_INET6, ip, text, sizeof(text)), client);
	free(n.v);
}

static void
test_x_forwarded_for(void **state)
{
	static const char *const rows[][2] = {
		{ "192.0.2.1", "192.0.2.1" },
		{ "198.51.100.9, 192.0.2.1", "192.0.2.1" },
		{ "192.0.2.1,10.0.0.1,10.0.0.2", "192.0.2.1" },
		{ "198.51.100.9,10.0.0.1 , 192.0.2.1\t,10.0.0.2", "192.0.2.1" },
		{ "198.51.100.9|192.0.2.1|10.0.0.1", "192.0.2.1" },
		{ "10.0.0.1, 10.0.0.2", "10.0.0.1" },
		{ "2001:db8:aaaa::1, 10.0.0.2", "2001:db8:aaaa::1" },
		{ "", PEER }, { ",,", PEER }, { " , 192.0.2.1, ,", "192.0.2.1" },
		{ "unknown", PEER }, { "192.0.2.1, unknown", PEER }, { "192.0.2.1|x", PEER },
		{ "unknown, 192.0.2.1", "192.0.2.1" },
		{ "192.0.2.1, x, 10.0.0.1, 10.0.0.2", "10.0.0.1" },
		{ "192.0.2.1, x, 192.0.2.2, 10.0.0.2", "192.0.2.2" },
		{ "::ffff:10.0.0.1, ::ffff:192.0.2.1", "192.0.2.1" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect("x-forwarded-FOR", rows[i][0], rows[i][1]);
}

static void
test_forwarded(void **state)
{
	static const char *const rows[][2] = {
		{ "for=192.0.2.1", "192.0.2.1" },
		{ "For=192.0.2.1;Proto=https;By=203.0.113.43", "192.0.2.1" },
		{ "proto=https ; for=192.0.2.1", "192.0.2.1" },
		{ "for=\"192.0.2.1:80\"", "192.0.2.1" },
		{ "for=\"[2001:db8::1]:4711\"", "2001:db8::1" },
		{ "for=\"19\\2.0.2.1\"", "192.0.2.1" },
		{ "for=198.51.100.9, for=192.0.2.1", "192.0.2.1" },
		{ "for=198.51.100.9,for=192.0.2.1;host=\"a,b;for=1.1.1.1\", for=10.0.0.1",
		    "192.0.2.1" },
		{ "for=198.51.100.9|for=192.0.2.1|for=10.0.0.1", "192.0.2.1" },
		{ "for=10.0.0.1, for=10.0.0.2", "10.0.0.1" },
		{ ",, for=192.0.2.1 ,;,", "192.0.2.1" },
		{ "", PEER },
		{ ";", PEER },
		{ "for=", PEER },
		{ "for", PEER },
		{ "=x", PEER },
		{ "for=unknown", PEER },
		{ "for=_gazonk", PEER },
		{ "for=192.0.2.1, for=\"_x\"", PEER },
		{ "for=192.0.2.1, proto=https", PEER },
		{ "for=192.0.2.1, for = 192.0.2.2", PEER },
		{ "for=192.0.2.1;for=192.0.2.2", PEER },
		{ "for=\"192.0.2.1", PEER },
		{ "for=\"192.0.2.1\\", PEER },
		{ "for=[2001:db8::1]", PEER },
		{ "for=192.0.2.1 for=192.0.2.2", PEER },
		{ "for=192.0.2.1, \x80", PEER },
		{ "nonsense nonsense|for=192.0.2.1", "192.0.2.1" },
		{ "for=192.0.2.1|nonsense nonsense", PEER },
		{ "for=192.0.2.1|nonsense nonsense|for=10.0.0.1", "10.0.0.1" },
		{ "for="
		  "\"11111111111111111111111111111111111111111111111111111111111111111111111111\"",
		    PEER },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect("Forwarded", rows[i][0], rows[i][1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_networks), cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_x_forwarded_for), cmocka_unit_test(test_forwarded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
