/*
 * ws_handshake.c: the opening handshake, both sides: good and bad requests field by field,
 * negotiation of permessage-deflate, and our client against our server.
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

#include "ws/handshake.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"
#define UPGRADE "Upgrade: websocket\n"
#define CONNECTION "Connection: Upgrade\n"
#define VERSION "Sec-WebSocket-Version: 13\n"
#define GOOD UPGRADE CONNECTION VERSION KEY

static struct ws_str
str(const char *s)
{
	return (struct ws_str){ s, strlen(s) };
}

typedef void field_fn(void *arg, struct ws_str name, struct ws_str value);

/* Lines "name: value", ended by \n or \r\n. */
static void
each_field(const char *head, field_fn *fn, void *arg)
{
	while (*head != '\0') {
		size_t n = strcspn(head, "\r\n"), name = strcspn(head, ":\r\n");

		if (n > name)
			fn(arg, (struct ws_str){ head, name },
			    (struct ws_str){ head + name + 1, n - name - 1 });
		head += n;
		head += strspn(head, "\r\n");
	}
}

static void
upgrade_field(void *arg, struct ws_str name, struct ws_str value)
{
	ws_upgrade_field(arg, name, value);
}

static void
connect_field(void *arg, struct ws_str name, struct ws_str value)
{
	ws_connect_field(arg, name, value);
}

static int
request(struct ws_upgrade *u, const char *method, int minor, bool deflate, const char *head)
{
	int status;

	ws_upgrade_init(u, str(method), minor, deflate);
	each_field(head, upgrade_field, u);
	status = ws_upgrade_status(u);
	assert_true((status == 101) == (u->why == NULL));
	return status;
}

static void
accept_key(void **state)
{
	char accept[WS_ACCEPT_LEN + 1];

	(void)state;
	ws_accept_key(str("dGhlIHNhbXBsZSBub25jZQ=="), accept);
	assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

static void
good_and_bad_requests(void **state)
{
	static const struct {
		int status;
		const char *head;
	} cases[] = {
		{ 101, GOOD },
		{ 101, KEY VERSION CONNECTION UPGRADE },
		{ 101, "upgrade: WebSocket\nCONNECTION: keep-alive, Upgrade\n" VERSION KEY },
		{ 101, "Upgrade:websocket  \nConnection:\tUPGRADE\t\n" VERSION KEY },
		{ 101, UPGRADE "Connection: keep-alive\nConnection: upgrade\n" VERSION KEY },
		{ 101, UPGRADE "Connection: ,, keep-alive ,Upgrade,\n" VERSION KEY },
		{ 101, "Upgrade: h2c/1, websocket\n" CONNECTION VERSION KEY },
		{ 101, GOOD "Sec-WebSocket-Protocol: belay.v1, belay.token.eyJ.abc-_x\n" },
		{ 101, GOOD "Sec-WebSocket-Extensions: x-unknown; a=b; c=\"d\", other\n" },
		{ 101, GOOD "Host: h\nOrigin: https://x\nX-Sec-WebSocket-Key: a\n" },
		{ 426, CONNECTION VERSION KEY },
		{ 426, "" },
		{ 426, "Upgrade: h2c\n" CONNECTION VERSION KEY },
		{ 426, "Upgrade: websockets\n" CONNECTION VERSION KEY },
		{ 426, "Upgrade: web socket\n" CONNECTION VERSION KEY },
		{ 426, "Upgrade:\n" CONNECTION VERSION KEY },
		{ 400, UPGRADE VERSION KEY },
		{ 400, UPGRADE "Connection: keep-alive\n" VERSION KEY },
		{ 400, UPGRADE "Connection: close, Upgrades\n" VERSION KEY },
		{ 426, UPGRADE CONNECTION KEY },
		{ 426, UPGRADE CONNECTION "Sec-WebSocket-Version: 8\n" KEY },
		{ 426, UPGRADE CONNECTION "Sec-WebSocket-Version: 013\n" KEY },
		{ 426, UPGRADE CONNECTION "Sec-WebSocket-Version: 13, 8\n" KEY },
		{ 426, UPGRADE CONNECTION "Sec-WebSocket-Version:\n" KEY },
		{ 400, GOOD VERSION },
		{ 400, UPGRADE CONNECTION VERSION },
		{ 400, GOOD KEY },
		{ 400, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key:\n" },
		{ 400, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\n" },
		{ 400, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ===\n" },
		{ 400, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA\n" },
		{ 400, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ===\n" },
		{ 400, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBs SBub25jZQ==\n" },
		{ 400, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBs-SBub25jZQ==\n" },
		{ 400, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: YWJj\n" },
		/* four bits that stand for nothing: RFC 6455 section 4.1, and 22 letters drawn at random */
		{ 101, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\n" },
		{ 101, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: abcdefghijklmnopqrstuv==\n" },
		{ 101, UPGRADE CONNECTION VERSION "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ/==\n" },
		{ 101, GOOD "Sec-WebSocket-Protocol:\n" },
		{ 101, GOOD "Sec-WebSocket-Protocol: \t\nSec-WebSocket-Extensions:\n" },
		{ 101, GOOD "Sec-WebSocket-Protocol:\nSec-WebSocket-Protocol:\nSec-WebSocket-Protocol:\n"
		  "Sec-WebSocket-Protocol:\nSec-WebSocket-Protocol:\nSec-WebSocket-Protocol: a\n" },
		{ 400, GOOD "Sec-WebSocket-Protocol: ,\n" },
		{ 400, GOOD "Sec-WebSocket-Protocol: a b\n" },
		{ 400, GOOD "Sec-WebSocket-Protocol: a, b/c\n" },
		{ 400, GOOD "Sec-WebSocket-Protocol: a, \xc3\xa4\n" },
		{ 400, GOOD "Sec-WebSocket-Protocol: a\nSec-WebSocket-Protocol: b\n"
		  "Sec-WebSocket-Protocol: c\nSec-WebSocket-Protocol: d\nSec-WebSocket-Protocol: e\n" },
		{ 101, GOOD "Sec-WebSocket-Extensions:\n" },
		{ 400, GOOD "Sec-WebSocket-Extensions: ;\n" },
		{ 400, GOOD "Sec-WebSocket-Extensions: a b\n" },
		{ 400, GOOD "Sec-WebSocket-Extensions: a; =b\n" },
		{ 400, GOOD "Sec-WebSocket-Extensions: a; b=\n" },
		{ 400, GOOD "Sec-WebSocket-Extensions: a; b=\"\"\n" },
		{ 400, GOOD "Sec-WebSocket-Extensions: a; b=\"c\n" },
		{ 400, GOOD "Sec-WebSocket-Extensions: a; b=\"c d\"\n" },
		{ 400, GOOD "Sec-WebSocket-Extensions: a; b=\" c\"\n" },
		{ 400, GOOD "Sec-WebSocket-Extensions: a;\n" },
	};
	struct ws_upgrade u;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		int status = request(&u, "GET", 1, true, cases[i].head);

		if (status != cases[i].status)
			fail_msg("%d, not %d (%s):\n%s", status, cases[i].status,
			    u.why != NULL ? u.why : "", cases[i].head);
		if (status == 101 && strstr(cases[i].head, KEY) != NULL)
			assert_string_equal(u.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
	}
	assert_int_equal(request(&u, "POST", 1, true, GOOD), 405);
	/* What two bits can be at a key's end. */
	for (const char *last = "AQgw"; *last != '\0'; last++) {
		char head[] = UPGRADE CONNECTION VERSION KEY;

		strstr(head, "==")[-1] = *last;
		assert_int_equal(request(&u, "GET", 1, true, head), 101);
	}
	assert_int_equal(request(&u, "get", 1, true, GOOD), 405);
	assert_int_equal(request(&u, "GET ", 1, true, GOOD), 405);
	assert_int_equal(request(&u, "", 1, true, GOOD), 405);
	assert_int_equal(request(&u, "GET", 0, true, GOOD), 400);
	assert_string_equal(ws_upgrade_refusal_fields(405), "Allow: GET\r\n");
	assert_non_null(strstr(ws_upgrade_refusal_fields(426), "Sec-WebSocket-Version: 13\r\n"));
	assert_string_equal(ws_upgrade_refusal_fields(400), "");
}

static void
tokens(void **state)
{
	struct ws_upgrade u;
	struct ws_str token, list;
	char joined[100] = "";

	(void)state;
	assert_int_equal(request(&u, "GET", 1, false, GOOD "Sec-WebSocket-Protocol: belay.v1 , ,x\n"
	    "sec-websocket-protocol: belay.token.a~b!\n"), 101);
	assert_int_equal(u.nprotocols, 2);
	for (unsigned i = 0; i < u.nprotocols; i++) {
		list = u.protocols[i];
		while (ws_token_next(&list, &token)) {
			strncat(joined, token.p, token.len);
			strcat(joined, "|");
		}
		assert_non_null(list.p);
	}
	assert_string_equal(joined, "belay.v1|x|belay.token.a~b!|");

	list = str("a, b c, d");
	assert_true(ws_token_next(&list, &token));
	assert_false(ws_token_next(&list, &token));
	assert_null(list.p);
	assert_false(ws_token_next(&list, &token));
	list = (struct ws_str){ NULL, 0 };
	assert_false(ws_token_next(&list, &token));
}

static void
response(void **state)
{
	struct ws_upgrade u;
	char out[512];
	static const char want[] =
	    "HTTP/1.1 101 Switching Protocols\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	    "Sec-WebSocket-Protocol: belay.v1\r\n"
	    "X-A: b\r\n"
	    "\r\n";
	size_t n;

	(void)state;
	assert_int_equal(request(&u, "GET", 1, false, GOOD
	    "Sec-WebSocket-Extensions: permessage-deflate\n"), 101);
	assert_false(u.deflate.on);
	n = ws_upgrade_response(&u, str("belay.v1"), str("X-A: b\r\n"), out, sizeof(out));
	assert_int_equal(n, sizeof(want) - 1);
	assert_memory_equal(out, want, n);
	for (size_t size = 0; size < n; size++)
		assert_int_equal(ws_upgrade_response(&u, str("belay.v1"), str("X-A: b\r\n"), out,
		    size), 0);
	assert_int_equal(ws_upgrade_response(&u, str("belay.v1"), str("X-A: b\r\n"), out, n), n);
}

#ifdef HAVE_ZLIB
#define BOTH "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

/* What is answered to a Sec-WebSocket-Extensions field; NULL: no extension. */
static void
deflate_offers(void **state)
{
	static const struct {
		const char *offer, *answer;
		int send_bits;
	} cases[] = {
		{ "permessage-deflate", BOTH, 12 },
		{ "Permessage-Deflate", BOTH, 12 },
		{ "permessage-deflate; client_max_window_bits", BOTH, 12 },
		{ "permessage-deflate; client_max_window_bits=8", BOTH "; client_max_window_bits=8", 12 },
		{ "permessage-deflate;client_max_window_bits=\"15\"", BOTH "; client_max_window_bits=15",
		  12 },
		{ "permessage-deflate; server_max_window_bits=15", BOTH "; server_max_window_bits=12",
		  12 },
		{ "permessage-deflate ; server_max_window_bits = 9", BOTH "; server_max_window_bits=9",
		  9 },
		{ "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10",
		  BOTH "; server_max_window_bits=10; client_max_window_bits=10", 10 },
		{ "permessage-deflate; server_no_context_takeover", BOTH, 12 },
		{ BOTH, BOTH, 12 },
		/* Declined, and the next is taken. */
		{ "permessage-deflate; server_max_window_bits=8", NULL, 0 },
		{ "permessage-deflate; server_max_window_bits=8, permessage-deflate", BOTH, 12 },
		{ "x-webkit-deflate-frame, permessage-deflate", BOTH, 12 },
		{ "permessage-deflate; server_max_window_bits=9, permessage-deflate",
		  BOTH "; server_max_window_bits=9", 9 },
		{ "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=11",
		  BOTH "; server_max_window_bits=11", 11 },
		{ "permessage-deflate; unknown=1", NULL, 0 },
		{ "permessage-deflate; server_no_context_takeover=1", NULL, 0 },
		{ "permessage-deflate; client_no_context_takeover=true", NULL, 0 },
		{ "permessage-deflate; server_no_context_takeover; server_no_context_takeover", NULL, 0 },
		{ "permessage-deflate; client_max_window_bits; client_max_window_bits=9", NULL, 0 },
		{ "permessage-deflate; server_max_window_bits", NULL, 0 },
		{ "permessage-deflate; server_max_window_bits=7", NULL, 0 },
		{ "permessage-deflate; server_max_window_bits=16", NULL, 0 },
		{ "permessage-deflate; server_max_window_bits=09", NULL, 0 },
		{ "permessage-deflate; server_max_window_bits=1", NULL, 0 },
		{ "permessage-deflate; server_max_window_bits=115", NULL, 0 },
		{ "permessage-deflate; server_max_window_bits=x", NULL, 0 },
		{ "permessage-deflate; client_max_window_bits=0", NULL, 0 },
		{ "permessage-deflate; client_max_window_bits=16", NULL, 0 },
		{ "permessage-bzip2", NULL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct ws_upgrade u;
		char head[512], out[512], *line, *end;
		size_t n;

		snprintf(head, sizeof(head), GOOD "Sec-WebSocket-Extensions: %s\n", cases[i].offer);
		assert_int_equal(request(&u, "GET", 1, true, head), 101);
		n = ws_upgrade_response(&u, str(""), str(""), out, sizeof(out) - 1);
		assert_in_range(n, 1, sizeof(out) - 1);
		out[n] = '\0';
		line = strstr(out, "Sec-WebSocket-Extensions: ");
		assert_int_equal(u.deflate.on, cases[i].answer != NULL);
		assert_int_equal(u.deflate.send_bits, cases[i].send_bits);
		if (cases[i].answer == NULL) {
			assert_null(line);
			continue;
		}
		assert_non_null(line);
		line += strlen("Sec-WebSocket-Extensions: ");
		end = strstr(line, "\r\n");
		*end = '\0';
		assert_string_equal(line, cases[i].answer);
	}

	/* Two fields are one list. */
	struct ws_upgrade u;

	assert_int_equal(request(&u, "GET", 1, true, GOOD "Sec-WebSocket-Extensions: foo\n"
	    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\n"), 101);
	assert_int_equal(u.deflate.send_bits, 9);
}
#endif

/* The example of RFC 6455 section 1.3: its nonce is "the sample nonce". */
static void
client_request(void **state)
{
	struct ws_connect c;
	char out[512];
	static const char want[] =
	    "GET /ws?a=b HTTP/1.1\r\n"
	    "Host: localhost:3000\r\n"
	    "Upgrade: websocket\r\n"
	    "Connection: Upgrade\r\n"
	    "Sec-WebSocket-Version: 13\r\n"
	    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	    "Sec-WebSocket-Protocol: belay.v1\r\n"
	    "\r\n";
	size_t n;

	(void)state;
	ws_connect_init(&c, (const uint8_t *)"the sample nonce", false);
	n = ws_connect_request(&c, str("localhost:3000"), str("/ws?a=b"), str("belay.v1"), str(""),
	    out, sizeof(out));
	assert_int_equal(n, sizeof(want) - 1);
	assert_memory_equal(out, want, n);
	assert_int_equal(ws_connect_request(&c, str("localhost:3000"), str("/ws?a=b"),
	    str("belay.v1"), str(""), out, n - 1), 0);
}

#define ACCEPT "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n"
#define EXTENSIONS "Sec-WebSocket-Extensions: permessage-deflate; "

static void
answers_to_a_client(void **state)
{
	static const struct {
		bool ok;
		const char *head;
	} cases[] = {
		{ true, UPGRADE CONNECTION ACCEPT },
		{ true, "upgrade: WebSocket\nconnection: upgrade\n" ACCEPT },
		{ true, UPGRADE CONNECTION ACCEPT "Sec-WebSocket-Protocol: belay.v1\n" },
		{ false, CONNECTION ACCEPT },
		{ false, "Upgrade: h2c\n" CONNECTION ACCEPT },
		{ false, UPGRADE ACCEPT },
		{ false, UPGRADE CONNECTION },
		{ false, UPGRADE CONNECTION "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\n" },
		{ false, UPGRADE CONNECTION "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo\n" },
		{ false, UPGRADE CONNECTION ACCEPT ACCEPT },
		{ false, UPGRADE CONNECTION ACCEPT "Sec-WebSocket-Protocol: a, b\n" },
		{ false, UPGRADE CONNECTION ACCEPT "Sec-WebSocket-Protocol: a\n"
		  "Sec-WebSocket-Protocol: a\n" },
		{ false, UPGRADE CONNECTION ACCEPT "Sec-WebSocket-Extensions: other\n" },
		{ false, UPGRADE CONNECTION ACCEPT "Sec-WebSocket-Extensions: permessage-deflate\n" },
#ifdef HAVE_ZLIB
		{ true, UPGRADE CONNECTION ACCEPT EXTENSIONS "server_no_context_takeover\n" },
		{ true, UPGRADE CONNECTION ACCEPT EXTENSIONS
		  "server_no_context_takeover; server_max_window_bits=10\n" },
		{ false, UPGRADE CONNECTION ACCEPT EXTENSIONS
		  "server_no_context_takeover; client_max_window_bits=10\n" },
		{ false, UPGRADE CONNECTION ACCEPT EXTENSIONS "server_no_context_takeover; x\n" },
		{ false, UPGRADE CONNECTION ACCEPT EXTENSIONS "server_no_context_takeover,"
		  "permessage-deflate; server_no_context_takeover\n" },
		{ false, UPGRADE CONNECTION ACCEPT EXTENSIONS "server_no_context_takeover;\n" },
#endif
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct ws_connect c;

		ws_connect_init(&c, (const uint8_t *)"the sample nonce", true);
		ws_connect_status(&c, 101);
		each_field(cases[i].head, connect_field, &c);
		if (ws_connect_ok(&c) != cases[i].ok)
			fail_msg("%s:\n%s", c.why != NULL ? c.why : "opened", cases[i].head);
		assert_true((c.why == NULL) == cases[i].ok);
		ws_connect_status(&c, 200);
		assert_false(ws_connect_ok(&c));
	}
}

/* What our client sends our server accepts, and the other way round. */
static void
client_and_server(void **state)
{
	(void)state;
	for (int both = 0; both < 4; both++) {
		struct ws_connect c;
		struct ws_upgrade u;
		char out[1024], *head;
		size_t n;

		ws_connect_init(&c, (const uint8_t *)"0123456789abcdef", both & 1);
		n = ws_connect_request(&c, str("h"), str("/"), str("a,b"), str(""), out,
		    sizeof(out) - 1);
		assert_in_range(n, 1, sizeof(out) - 1);
		out[n] = '\0';
		head = strchr(out, '\n') + 1;
		assert_int_equal(request(&u, "GET", 1, both & 2, head), 101);

		n = ws_upgrade_response(&u, str("b"), str(""), out, sizeof(out) - 1);
		assert_in_range(n, 1, sizeof(out) - 1);
		out[n] = '\0';
		ws_connect_status(&c, 101);
		each_field(strchr(out, '\n') + 1, connect_field, &c);
		if (!ws_connect_ok(&c))
			fail_msg("%s:\n%s", c.why, out);
		assert_int_equal(c.protocol.len, 1);
		assert_memory_equal(c.protocol.p, "b", 1);
		assert_int_equal(c.deflate.on, both == 3 && ws_deflate_available());
		assert_int_equal(u.deflate.on, both == 3 && ws_deflate_available());
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accept_key),
		cmocka_unit_test(good_and_bad_requests),
		cmocka_unit_test(tokens),
		cmocka_unit_test(response),
#ifdef HAVE_ZLIB
		cmocka_unit_test(deflate_offers),
#endif
		cmocka_unit_test(client_request),
		cmocka_unit_test(answers_to_a_client),
		cmocka_unit_test(client_and_server),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
