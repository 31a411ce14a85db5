/*
 * Unit tests of belayctl's client half: addresses, HTTP responses (also byte
 * by byte), the WebSocket client against a server of the test's own, when to
 * connect again, and the simulated device's promise to run a command once.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "belayctl/client.h"
#include "belayctl/ctl.h"
#include "belayctl/sim_device.h"
#include "belayctl/url.h"
#include "belayctl/web.h"
#include "ws/frame.h"
#include "ws/handshake.h"

static void
test_url_good(void **state)
{
	static const struct {
		const char *text, *host, *authority, *target;
		unsigned port;
		bool tls, websocket;
	} good[] = {
		{ "ws://localhost", "localhost", "localhost", "/", 80, false, true },
		{ "WSS://h.example/ws?a=b#c", "h.example", "h.example", "/ws?a=b", 443, true, true },
		{ "http://127.0.0.1:3000", "127.0.0.1", "127.0.0.1:3000", "/", 3000, false, false },
		{ "https://[::1]:443/x", "::1", "[::1]", "/x", 443, true, false },
		{ "ws://[fe80::1%25eth0]:8/", "fe80::1%25eth0", "[fe80::1%25eth0]:8", "/", 8, false, true },
		{ "ws://h?token=x", "h", "h", "/?token=x", 80, false, true }
	};
	struct url u;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_null(url_parse(good[i].text, &u));
		assert_string_equal(u.host, good[i].host);
		assert_string_equal(u.authority, good[i].authority);
		assert_string_equal(u.target, good[i].target);
		assert_int_equal(u.port, good[i].port);
		assert_int_equal(u.tls, good[i].tls);
		assert_int_equal(u.websocket, good[i].websocket);
	}
}

static void
test_url_bad(void **state)
{
	static const char *const bad[] = {
		"", "localhost:3000", "ftp://h/", "ws://", "ws://:80", "ws://h:", "ws://h:0", "ws://h:65536",
		"ws://h:99999999999999999999", "ws://h:8x", "ws://user@h/", "ws://[::1", "ws://[::1]x", "ws://[]:1",
		"ws://h h/", "ws://h/a b", "ws://h/\r\nX: y", "ws://h\r\n/", "ws://h/\x80"
	};
	struct url u;
	char longer[6000];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_non_null(url_parse(bad[i], &u));
	memset(longer, 'a', sizeof(longer));
	memcpy(longer, "ws://", 5);
	longer[sizeof(longer) - 1] = '\0';
	assert_non_null(url_parse(longer, &u));
	longer[6] = '/';
	assert_non_null(url_parse(longer, &u));
}

static void
test_url_query(void **state)
{
	(void)state;
	assert_true(slice_is(url_query("/ws?a=1&token=x.y&b", "token"), "x.y"));
	assert_true(slice_is(url_query("/ws?token=", "token"), ""));
	assert_null(url_query("/ws?mytoken=x", "token").p);
	assert_null(url_query("/ws/token=x", "token").p);
}

static void
test_head(void **state)
{
	static const char text[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "connection:\tUpgrade  \r\nX-Empty:\r\n\r\n\x81\x02hi";
	size_t whole = sizeof(text) - 1 - 4;
	struct web_head h;

	(void)state;
	for (size_t n = 1; n < whole; n++)
		assert_int_equal(web_head_parse(text, n, &h), 0);
	for (size_t n = whole; n < sizeof(text); n++) {
		assert_int_equal(web_head_parse(text, n, &h), whole);
		assert_int_equal(h.status, 101);
		assert_int_equal(h.nfields, 3);
		assert_true(slice_is(web_head_field(&h, "Connection"), "Upgrade"));
		assert_true(slice_is(web_head_field(&h, "x-empty"), ""));
		assert_null(web_head_field(&h, "Host").p);
	}
	assert_int_equal(web_head_parse("HTTP/1.0 200\r\n\r\n", 16, &h), 16);
	assert_int_equal(h.minor, 0);
}

static void
test_head_bad(void **state)
{
	static const char *const bad[] = {
		"SSH-2.0-OpenSSH\r\n", "\x15\x03\x01", "HTTP/2 200\r\n\r\n", "HTTP/1.2 200 OK\r\n\r\n",
		"HTTP/1.1 99 x\r\n\r\n", "HTTP/1.1 600 x\r\n\r\n", "HTTP/1.1 2x0 x\r\n\r\n", "HTTP/1.1  200 x\r\n\r\n",
		"HTTP/1.1 200x\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\n: v\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA : v\r\n\r\n", "HTTP/1.1 200 OK\r\nA: v\r\n folded\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: a\001b\r\n\r\n", "HTTP/1.1 200 OK\r\nA: a\nb\r\n\r\n"
	};
	struct web_head h;
	struct buf b = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(web_head_parse(bad[i], strlen(bad[i]), &h), -1);
	buf_puts(&b, "HTTP/1.1 200 OK\r\n");
	for (int i = 0; i < WEB_FIELDS_MAX + 1; i++)
		buf_puts(&b, "A: b\r\n");
	buf_puts(&b, "\r\n");
	assert_int_equal(web_head_parse(b.data, b.len, &h), -1);
	buf_clear(&b);
	buf_puts(&b, "HTTP/1.1 200 ");
	while (b.len < WEB_HEAD_MAX)
		buf_putc(&b, 'x');
	assert_int_equal(web_head_parse(b.data, b.len, &h), -1);
	buf_fini(&b);
}

static int
framing_of(const char *fields, enum web_framing *how, uint64_t *length)
{
	struct web_head h;
	struct buf b = BUF_INIT;
	int rc;

	buf_printf(&b, "HTTP/1.1 200 OK\r\n%s\r\n", fields);
	assert_int_equal(web_head_parse(b.data, b.len, &h), (int)b.len);
	rc = web_framing(&h, how, length);
	buf_fini(&b);
	return rc;
}

static void
test_framing(void **state)
{
	static const char *const bad[] = {
		"Content-Length: 1\r\nContent-Length: 1\r\n", "Content-Length: -1\r\n", "Content-Length: 1 2\r\n",
		"Content-Length: \r\n", "Content-Length: 0x1\r\n", "Content-Length: 99999999999999999999\r\n",
		"Content-Length: 20000000\r\n", "Transfer-Encoding: gzip\r\n", "Transfer-Encoding: gzip, chunked\r\n",
		"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"
	};
	enum web_framing how;
	uint64_t n;

	(void)state;
	assert_int_equal(framing_of("Content-Length: 12\r\n", &how, &n), 0);
	assert_true(how == WEB_LENGTH && n == 12);
	assert_int_equal(framing_of("Content-Length: 0\r\n", &how, &n), 0);
	assert_int_equal(how, WEB_NONE);
	assert_int_equal(framing_of("transfer-encoding: CHUNKED\r\n", &how, &n), 0);
	assert_int_equal(how, WEB_CHUNKED);
	assert_int_equal(framing_of("", &how, &n), 0);
	assert_int_equal(how, WEB_UNTIL_CLOSE);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(framing_of(bad[i], &how, &n), -1);
}

static void
test_date(void **state)
{
	(void)state;
	assert_int_equal(web_date(SLICE("Sun, 06 Nov 1994 08:49:37 GMT")), INT64_C(784111777000));
	assert_int_equal(web_date(SLICE("Sunday, 06-Nov-94 08:49:37 GMT")), 0);
	assert_int_equal(web_date(SLICE("Sun, 06 Nov 1994 08:49:37 GMT and more")), 0);
	assert_int_equal(web_date(SLICE("")), 0);
}

static void
test_duration(void **state)
{
	(void)state;
	assert_int_equal(ctl_duration("30s"), 30000);
	assert_int_equal(ctl_duration("500ms"), 500);
	assert_int_equal(ctl_duration("250"), 250);
	assert_int_equal(ctl_duration("1.5m"), 90000);
	assert_int_equal(ctl_duration("1h"), 3600000);
	assert_int_equal(ctl_duration("2d"), 172800000);
	assert_int_equal(ctl_duration(""), -1);
	assert_int_equal(ctl_duration("s"), -1);
	assert_int_equal(ctl_duration("-1s"), -1);
	assert_int_equal(ctl_duration("1 s"), -1);
	assert_int_equal(ctl_duration("1w"), -1);
	assert_int_equal(ctl_duration("1e30d"), -1);
}

static void
test_retry(void **state)
{
	static const uint16_t never[] = { 1002, 1003, 1007, 1008, 1009, 4001, 4002, 4003, 4009, 4010, 4011 };
	static const uint16_t soon[] = { 1000, 1001, 1006, 1011, 4008 };
	struct client c = { .reached = CLIENT_TALKING };
	int64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		c.code = never[i];
		assert_int_equal(client_retry_ms(&c, 0, -1), -1);
	}
	for (size_t i = 0; i < sizeof(soon) / sizeof(soon[0]); i++) {
		c.code = soon[i];
		for (unsigned n = 0; n < 100; n++) {
			ms = client_retry_ms(&c, n, -1);
			assert_in_range(ms, 50, 30000);
			if (n == 0)
				assert_in_range(ms, 50, 500);
		}
	}
	c.code = 1012;
	assert_int_equal(client_retry_ms(&c, 0, 1234), 1234);
	c.code = 4029;
	assert_in_range(client_retry_ms(&c, 0, -1), 3000, 30000);
	/* Before the connection was open. */
	c = (struct client){ .reached = CLIENT_UPGRADING, .status = 403 };
	assert_int_equal(client_retry_ms(&c, 0, -1), -1);
	c.status = 503;
	assert_in_range(client_retry_ms(&c, 1, -1), 50, 1000);
}

/* --- the WebSocket client, against a server played here */

struct world {
	struct url url;
	struct line_addresses addresses;
	struct client client;
	int listener, server;
};

static void
world_open(struct world *w, const char *token)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct client_options o = { .url = &w->url, .addresses = &w->addresses, .token = token };
	socklen_t len = sizeof(at);
	char text[64];
	const char *why;

	memset(w, 0, sizeof(*w));
	w->server = -1;
	w->listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(w->listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(w->listener, 8), 0);
	getsockname(w->listener, (struct sockaddr *)&at, &len);
	snprintf(text, sizeof(text), "ws://127.0.0.1:%u/ws", ntohs(at.sin_port));
	assert_null(url_parse(text, &w->url));
	assert_int_equal(line_resolve(&w->url, &w->addresses, &why), 0);
	client_open(&w->client, &o);
}

static void
world_close(struct world *w)
{
	client_close(&w->client);
	if (w->server != -1)
		close(w->server);
	close(w->listener);
}

/* The client's next event; waits for what it wants. */
static enum client_event
world_next(struct world *w, struct slice *m)
{
	enum client_event ev;

	while ((ev = client_next(&w->client, m)) == CLIENT_WAIT)
		if (!line_wait(&w->client.line, clock_mono_ms() + 60000))
			fail_msg("the client waits for nothing");
	return ev;
}

static void
server_read(struct world *w, char *out, size_t size)
{
	struct slice m;
	ssize_t n;

	/* Lets the client connect and write, then takes all that came. */
	for (int i = 0; i < 20; i++) {
		(void)client_next(&w->client, &m);
		if (w->server == -1 && poll(&(struct pollfd){ .fd = w->listener, .events = POLLIN }, 1, 10) == 1)
			w->server = accept(w->listener, NULL, NULL);
		if (w->server != -1 && poll(&(struct pollfd){ .fd = w->server, .events = POLLIN }, 1, 10) == 1)
			break;
	}
	n = read(w->server, out, size - 1);
	assert_true(n > 0);
	out[n] = '\0';
}

static void
server_write(struct world *w, const void *p, size_t len)
{
	assert_int_equal(write(w->server, p, len), (ssize_t)len);
}

static size_t
server_accept(struct world *w, char *out, size_t size)
{
	char request[4096], accept_key[WS_ACCEPT_LEN + 1], *key;

	server_read(w, request, sizeof(request));
	assert_memory_equal(request, "GET /ws HTTP/1.1\r\n", 18);
	assert_non_null(strstr(request, "Authorization: Bearer tok\r\n"));
	key = strstr(request, "Sec-WebSocket-Key: ");
	assert_non_null(key);
	ws_accept_key((struct ws_str){ key + 19, WS_KEY_LEN }, accept_key);
	return (size_t)snprintf(out, size, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
	    "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept_key);
}

static void
test_client_talks(void **state)
{
	static const char after[] = "\x81\x05hello\x89\x01p\x01\x03wor\x80\x02ld\x88\x0c\x0f\xa9Replaced!!";
	struct world w;
	struct slice m;
	char out[1024], got[256];
	size_t n;

	(void)state;
	world_open(&w, "tok");
	n = server_accept(&w, out, sizeof(out));
	memcpy(out + n, after, sizeof(after) - 1);
	n += sizeof(after) - 1;
	/* Byte by byte: every split is met. */
	for (size_t i = 0; i < n; i++) {
		enum client_event ev;

		server_write(&w, out + i, 1);
		poll(&(struct pollfd){ .fd = w.client.line.fd, .events = POLLIN }, 1, 1000);
		ev = client_next(&w.client, &m);
		if (ev == CLIENT_MESSAGE && m.len == 5 && memcmp(m.p, "hello", 5) == 0) {
			client_send(&w.client, SLICE("{\"a\":1}"));
		} else if (ev == CLIENT_MESSAGE) {
			assert_true(slice_is(m, "world"));
		} else if (ev == CLIENT_OPEN) {
			ev = client_next(&w.client, &m);
			assert_int_equal(ev, CLIENT_WAIT);
		}
	}
	assert_int_equal(world_next(&w, &m), CLIENT_END);
	assert_int_equal(w.client.code, 4009);
	assert_string_equal(w.client.reason, "Replaced!!");
	/* What the client said: a message, a pong, a close; all masked. */
	n = (size_t)read(w.server, got, sizeof(got));
	assert_int_equal(n, 6 + 7 + 6 + 1 + 6 + 2);
	assert_int_equal((uint8_t)got[0], 0x81);
	assert_int_equal((uint8_t)got[1], 0x87);
	ws_mask((uint8_t *)got + 6, 7, (const uint8_t *)got + 2, 0);
	assert_memory_equal(got + 6, "{\"a\":1}", 7);
	assert_int_equal((uint8_t)got[13], 0x8a);
	assert_int_equal((uint8_t)got[20], 0x88);
	world_close(&w);
}

static void
test_client_ends(void **state)
{
	static const struct {
		const char *answer;
		size_t len;
		int status;
		bool not_http, ends;
	} cases[] = {
		{ "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 46, 403, false, false },
		{ "HTTP/1.1 200 OK\r\n\r\n", 19, 200, false, false },
		{ "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		  "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n", 0, 101, false, false },
		{ "SSH-2.0-x\r\n", 11, 0, true, false },
		{ "HTTP/1.1 1", 10, 0, false, true }
	};
	struct world w;
	struct slice m;
	char out[1024];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		world_open(&w, "tok");
		server_accept(&w, out, sizeof(out));
		server_write(&w, cases[i].answer, cases[i].len != 0 ? cases[i].len : strlen(cases[i].answer));
		if (cases[i].ends)
			shutdown(w.server, SHUT_WR);
		assert_int_equal(world_next(&w, &m), CLIENT_END);
		assert_int_equal(w.client.status, cases[i].status);
		assert_int_equal(w.client.not_http, cases[i].not_http);
		assert_int_not_equal(w.client.reached, CLIENT_TALKING);
		assert_true(w.client.why[0] != '\0');
		world_close(&w);
	}
	/* Nobody listens. */
	world_open(&w, NULL);
	close(w.listener);
	client_close(&w.client);
	client_open(&w.client, &(struct client_options){ .url = &w.url, .addresses = &w.addresses });
	assert_int_equal(world_next(&w, &m), CLIENT_END);
	assert_int_equal(w.client.line.fault, LINE_CONNECT);
	client_close(&w.client);
}

/* A masked frame from the server, and one announced longer than is taken. */
static void
test_client_breach(void **state)
{
	static const uint8_t masked[] = { 0x81, 0x81, 1, 2, 3, 4, 'x' };
	static const uint8_t huge[] = { 0x81, 127, 0, 0, 0, 1, 0, 0, 0, 0 };
	struct world w;
	struct slice m;
	char out[1024];
	size_t n;

	(void)state;
	for (int i = 0; i < 2; i++) {
		world_open(&w, "tok");
		n = server_accept(&w, out, sizeof(out));
		server_write(&w, out, n);
		assert_int_equal(world_next(&w, &m), CLIENT_OPEN);
		if (i == 0)
			server_write(&w, masked, sizeof(masked));
		else
			server_write(&w, huge, sizeof(huge));
		assert_int_equal(world_next(&w, &m), CLIENT_END);
		assert_int_equal(w.client.code, WS_CODE_ABNORMAL);
		world_close(&w);
	}
}

/* --- the simulated device */

struct told {
	char text[4096];
};

static void
told_send(void *arg, const char *text, size_t len)
{
	struct told *t = arg;

	snprintf(t->text + strlen(t->text), sizeof(t->text) - strlen(t->text), "%.*s\n", (int)len, text);
}

static void
told_note(void *arg, const char *what, const char *detail)
{
	(void)arg;
	(void)what;
	(void)detail;
}

static unsigned
count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)) != NULL; text++)
		n++;
	return n;
}

#define ID "0190b1c2-0000-7000-8000-00000000000"

static void
hear(struct sim_device *d, const char *text, int64_t now)
{
	sim_device_hear(d, slice_of(text), now);
}

static void
test_sim(void **state)
{
	static const char command[] = "{\"type\":\"command\",\"payload\":{\"commandId\":\"" ID "1\",\"command\":\"unlock_door\"}}";
	struct sim_device *d = calloc(1, sizeof(*d));
	struct told t = { "" };

	(void)state;
	sim_device_init(d, 7);
	d->send = told_send;
	d->note = told_note;
	d->arg = &t;
	d->ack_delay_ms = 100;
	hear(d, command, 1000);
	assert_int_equal(count(t.text, "\"accepted\""), 1);
	assert_false(d->locked);
	assert_int_equal(sim_device_work(d, 1050), 1100);
	/* Again while it runs: told so, not run again. */
	hear(d, command, 1060);
	assert_int_equal(count(t.text, "\"accepted\""), 2);
	assert_int_equal(d->commands, 1);
	assert_int_equal(sim_device_work(d, 1100), -1);
	assert_int_equal(count(t.text, "\"executed\""), 1);
	/* After the end: the same answer. */
	hear(d, command, 9000);
	assert_int_equal(count(t.text, "\"executed\""), 2);
	assert_int_equal(d->commands, 1);
	assert_int_equal(d->again, 2);
	/* reconcile: what it knows, and what it never got. */
	t.text[0] = '\0';
	hear(d, "{\"type\":\"reconcile\",\"payload\":{\"commandIds\":[\"" ID "1\",\"" ID "2\"]}}", 9100);
	assert_int_equal(count(t.text, "\"executed\""), 1);
	assert_int_equal(count(t.text, "\"unknown\""), 1);
	assert_non_null(strstr(t.text, ID "2"));
	/* Nothing of this may hurt. */
	hear(d, "{}", 9200);
	hear(d, "[]", 9200);
	hear(d, "{", 9200);
	hear(d, "{\"type\":\"command\"}", 9200);
	hear(d, "{\"type\":\"command\",\"payload\":{\"commandId\":1,\"command\":2}}", 9200);
	hear(d, "{\"type\":\"reconcile\",\"payload\":{\"commandIds\":[1,{},null]}}", 9200);
	hear(d, "{\"type\":\"reconnect\",\"payload\":{\"afterMs\":77}}", 9200);
	assert_int_equal(d->after_ms, 77);
	assert_int_equal(d->commands, 1);
	free(d);
}

static void
test_sim_fails(void **state)
{
	struct sim_device *d = calloc(1, sizeof(*d));
	struct told t = { "" };
	char text[256];

	(void)state;
	sim_device_init(d, 7);
	d->send = told_send;
	d->note = told_note;
	d->arg = &t;
	d->fail_rate = 1;
	/* More than are remembered: the ring goes round. */
	for (int i = 0; i < SIM_RUNS * 2 + 3; i++) {
		snprintf(text, sizeof(text), "{\"type\":\"command\",\"payload\":{\"commandId\":\"%d\",\"command\":\"x\"}}", i);
		t.text[0] = '\0';
		hear(d, text, i);
		assert_int_equal(count(t.text, "\"failed\""), 1);
		assert_int_equal(count(t.text, "\"accepted\""), 0);
	}
	assert_int_equal(d->running, 0);
	free(d);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_url_good),
		cmocka_unit_test(test_url_bad),
		cmocka_unit_test(test_url_query),
		cmocka_unit_test(test_head),
		cmocka_unit_test(test_head_bad),
		cmocka_unit_test(test_framing),
		cmocka_unit_test(test_date),
		cmocka_unit_test(test_duration),
		cmocka_unit_test(test_retry),
		cmocka_unit_test(test_client_talks),
		cmocka_unit_test(test_client_ends),
		cmocka_unit_test(test_client_breach),
		cmocka_unit_test(test_sim),
		cmocka_unit_test(test_sim_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
