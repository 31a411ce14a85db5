/*
 * http.c: request heads, bodies, URIs, responses and routes.  Every request is also parsed from each of its
 * beginnings and every body fed in two pieces at each split and byte by byte: the result must be the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "http/body.h"
#include "http/request.h"
#include "http/response.h"
#include "http/route.h"
#include "http/uri.h"

#define H "Host: a\r\n"

static const struct {
	const char *text;
	long rc;		/* 1: taken, whole; else minus the status, or 0 for incomplete */
} heads[] = {
	{ "GET / HTTP/1.1\r\n" H "\r\n", 1 },
	{ "\r\nGET / HTTP/1.1\r\n" H "\r\n", 1 },
	{ "GET /ws?token=a.b-c_d%20&x=%7B|{}^` HTTP/1.1\r\nhOsT:\t a:80 \t\r\n\r\n", 1 },
	{ "GET / HTTP/1.0\r\n\r\n", 1 },
	{ "GET / HTTP/1.0\r\n" H "\r\n", 1 },
	{ "GET http://a.example:80/x?y HTTP/1.1\r\n" H "\r\n", 1 },
	{ "GET HTTPS://a HTTP/1.1\r\n" H "\r\n", 1 },
	{ "OPTIONS * HTTP/1.1\r\n" H "\r\n", 1 },
	{ "BREW /pot HTTP/1.1\r\n" H "\r\n", 1 },
	{ "GET / HTTP/1.1\r\nHost:\r\n\r\n", 1 },
	{ "GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", 1 },
	{ "GET / HTTP/1.1\r\n" H "X: \r\nY:\r\nZ: a\tb \xe9\r\n\r\n", 1 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", 1 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 123456789012345678\r\n\r\n", 1 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 1 },
	{ "POST / HTTP/1.1\r\n" H "transfer-encoding:CHUNKED\r\n\r\n", 1 },
	{ "POST / HTTP/1.1\r\n" H "Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n", 1 },

	{ "", 0 }, { "\r", 0 }, { "\r\n", 0 }, { "GET", 0 }, { "GET / HTTP/1.1\r\n", 0 },
	    { "GET / HTTP/1.1\r\n" H "\r", 0 },

	/* The request line. */
	{ "GET /\r\n\r\n", -400 },
	{ "GET  / HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET /  HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET / HTTP/1.1 \r\n" H "\r\n", -400 },
	{ " GET / HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET\t/ HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET / http/1.1\r\n" H "\r\n", -400 },
	{ "GET / HTTP/1.1x\r\n" H "\r\n", -400 },
	{ "GET / HTTP/11\r\n" H "\r\n", -400 },
	{ "GET / HTTP/1.\r\n" H "\r\n", -400 },
	{ "GET / HTTP/1.9\r\n" H "\r\n", -505 },
	{ "GET / HTTP/1.2\r\n" H "\r\n", -505 },
	{ "GET / HTTP/2.0\r\n" H "\r\n", -505 },
	{ "GET / HTTP/0.9\r\n" H "\r\n", -505 },
	{ "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", -505 },
	{ "G@T / HTTP/1.1\r\n" H "\r\n", -400 },
	{ "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n" H "\r\n", -501 },
	{ "GET x HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET * HTTP/1.1\r\n" H "\r\n", -400 },
	{ "CONNECT a:80 HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET ftp://a/ HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET http:/// HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET http://u@a/ HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET http://:80/ HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET /a#b HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET /a\\b HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET /a\tb HTTP/1.1\r\n" H "\r\n", -400 },
	{ "GET /\x01 HTTP/1.1\r\n" H "\r\n", -400 },
	{ "\n", -400 }, { "\r\r", -400 }, { "\r\n\r\n", -400 }, { "\x16\x03\x01", -400 }, { " ", -400 },

	/* Lines. */
	{ "GET / HTTP/1.1\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: a\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: a\r\n\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n Host: a\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "X: a\r\n\tb\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "X : a\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "X\t: a\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H ": a\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "X\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "X(: a\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "X\xe9: a\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "X: a\x01\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "X: 12345678\x7f\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "X: \x0b" "chunked\r\n\r\n", -400 },

	/* Host. */
	{ "GET / HTTP/1.1\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\n" H "Host: a\r\n\r\n", -400 },
	{ "GET / HTTP/1.0\r\n" H "Host: b\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", -400 },
	{ "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", -400 },

	/* Framing, as smugglers write it. */
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 05\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 5 5\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: five\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 1234567890123456789\r\n\r\n", -413 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999999\r\n\r\n", -413 },
	{ "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", -501 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\nX : 5\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunkedx\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: x chunked\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked;q=1\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H " Transfer-Encoding: chunked\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "X: a\nTransfer-Encoding: chunked\r\n\r\n", -400 },
	{ "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", -400 },
	{ "POST / HTTP/1.1\r\n" H "Expect: something\r\n\r\n", -417 },
	{ "POST / HTTP/1.1\r\n" H "Expect: something\r\nContent-Length: x\r\n\r\n", -400 },
};

/* A copy of exactly n bytes: a sanitizer sees a read past its end. */
static char *
copy_of(const char *p, size_t n)
{
	char *copy = malloc(n > 0 ? n : 1);

	assert_non_null(copy);
	if (n > 0)
		memcpy(copy, p, n);
	return copy;
}

static long
parse_copy(const char *p, size_t n)
{
	char *copy = copy_of(p, n);
	struct http_head h;
	long rc = http_head_parse(copy, n, HTTP_HEAD_SIZE, &h);

	free(copy);
	return rc;
}

/* Whatever is told about a beginning is told about all that is longer. */
static void
check_beginnings(const char *p, size_t n, long whole)
{
	size_t i;

	for (i = 0; i <= n; i++) {
		long rc = parse_copy(p, i);

		if (rc != 0 && rc != whole)
			fail_msg("%zu bytes of %s: %ld, not %ld", i, p, rc, whole);
		if (rc == 0 && whole > 0 && i >= (size_t)whole)
			fail_msg("%zu bytes of %s: not complete", i, p);
	}
}

static void
test_heads(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		size_t n = strlen(heads[i].text);
		long rc = parse_copy(heads[i].text, n), want = heads[i].rc == 1 ? (long)n : heads[i].rc;

		if (rc != want)
			fail_msg("%s: %ld, not %ld", heads[i].text, rc, want);
		check_beginnings(heads[i].text, n, rc);
	}
	assert_int_equal(parse_copy("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 29), -400);
	assert_int_equal(parse_copy("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 29), -400);
	assert_int_equal(parse_copy("\0", 1), -400);
}

static void
test_fields(void **state)
{
	static const char text[] = "GET /ws?token=x&charger=1 HTTP/1.1\r\nHost: h.example:3000\r\n"
	    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: belay.v1,, \r\n"
	    "X-Empty:\r\nsec-websocket-protocol: \t belay.token.A \r\n\r\nrest";
	struct http_list_iter it = { 0, 0 };
	struct http_head h;
	struct slice e;

	(void)state;
	assert_int_equal(http_head_parse(text, sizeof(text) - 1, HTTP_HEAD_SIZE, &h), sizeof(text) - 5);
	assert_int_equal(h.method, HTTP_GET);
	assert_true(slice_is(h.method_text, "GET"));
	assert_true(slice_is(h.target, "/ws?token=x&charger=1"));
	assert_true(slice_is(h.path, "/ws") && slice_is(h.query, "token=x&charger=1"));
	assert_true(slice_is(h.host, "h.example:3000"));
	assert_true(h.minor == 1 && h.keep_alive && h.upgrade && !h.chunked && !h.expect_continue);
	assert_true(h.content_length == -1 && h.headers_n == 6);
	assert_true(slice_is(http_header(&h, "UPGRADE"), "websocket"));
	assert_true(http_header(&h, "X-Empty").p != NULL && http_header(&h, "X-Empty").len == 0);
	assert_null(http_header(&h, "X-None").p);
	assert_int_equal(http_header_count(&h, "Sec-WebSocket-Protocol"), 2);
	assert_true(http_header_has_token(&h, "connection", "UPGRADE"));
	assert_false(http_header_has_token(&h, "connection", "close"));
	assert_true(http_list_next(&h, "Sec-WebSocket-Protocol", &it, &e) && slice_is(e, "belay.v1"));
	assert_true(http_list_next(&h, "Sec-WebSocket-Protocol", &it, &e) && slice_is(e, "belay.token.A"));
	assert_false(http_list_next(&h, "Sec-WebSocket-Protocol", &it, &e));
	assert_false(http_list_next(&h, "Sec-WebSocket-Protocol", &it, &e));

	/* The target's authority goes before Host; without a path the path is "/". */
	assert_true(http_head_parse("POST http://b?q HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n"
	    "Connection: close\r\n\r\n",
	    76, HTTP_HEAD_SIZE, &h) == 76);
	assert_true(slice_is(h.path, "/") && slice_is(h.query, "q") && slice_is(h.host, "b"));
	assert_true(h.content_length == 12 && !h.keep_alive && h.method == HTTP_POST);
	assert_true(http_head_parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 42, HTTP_HEAD_SIZE, &h) == 42);
	assert_true(h.keep_alive && h.minor == 0 && h.query.p == NULL && h.host.p == NULL);
	assert_true(http_head_parse("GET /? HTTP/1.0\r\n\r\n", 19, HTTP_HEAD_SIZE, &h) == 19);
	assert_true(!h.keep_alive && h.query.p != NULL && h.query.len == 0);
}

static void
test_limits(void **state)
{
	struct buf text = BUF_INIT;
	struct http_head h;
	int i;

	(void)state;
	/* Headers: 64 are taken. */
	for (int n = HTTP_HEADERS_MAX; n <= HTTP_HEADERS_MAX + 1; n++) {
		buf_clear(&text);
		buf_puts(&text, "GET / HTTP/1.1\r\n" H);
		for (i = 1; i < n; i++)
			buf_puts(&text, "X: y\r\n");
		buf_puts(&text, "\r\n");
		assert_int_equal(http_head_parse(text.data, text.len, HTTP_HEAD_SIZE, &h),
		    n == HTTP_HEADERS_MAX ? (long)text.len : -431);
	}
	/* The target. */
	for (int n = HTTP_TARGET_MAX(HTTP_HEAD_SIZE); n <= HTTP_TARGET_MAX(HTTP_HEAD_SIZE) + 1; n++) {
		buf_clear(&text);
		buf_puts(&text, "GET /");
		for (i = 1; i < n; i++)
			buf_putc(&text, 'a');
		buf_puts(&text, " HTTP/1.1\r\n" H "\r\n");
		assert_int_equal(http_head_parse(text.data, text.len, HTTP_HEAD_SIZE, &h),
		    n == HTTP_TARGET_MAX(HTTP_HEAD_SIZE) ? (long)text.len : -414);
	}
	/* The head, complete or not. */
	for (int n = HTTP_HEAD_SIZE; n <= HTTP_HEAD_SIZE + 1; n++) {
		buf_clear(&text);
		buf_puts(&text, "GET / HTTP/1.1\r\n" H "X: ");
		while (text.len < (size_t)n - 4)
			buf_putc(&text, 'a');
		buf_puts(&text, "\r\n\r\n");
		assert_int_equal(http_head_parse(text.data, text.len, HTTP_HEAD_SIZE, &h), n == HTTP_HEAD_SIZE ? n : -431);
		assert_int_equal(http_head_parse(text.data, (size_t)n - 5, HTTP_HEAD_SIZE, &h), 0);
	}
	buf_clear(&text);
	for (i = 0; i < HTTP_HEAD_SIZE; i++)
		buf_putc(&text, 'a');
	assert_int_equal(http_head_parse(text.data, text.len - 1, HTTP_HEAD_SIZE, &h), 0);
	assert_int_equal(http_head_parse(text.data, text.len, HTTP_HEAD_SIZE, &h), -414);
	buf_fini(&text);
}

static const struct {
	const char *text;	/* what follows the head */
	const char *body;	/* decoded; NULL: refused */
	long rc;		/* bytes used, or minus the status; 0 with body NULL: not complete */
} chunked[] = {
	{ "0\r\n\r\n", "", 5 },
	{ "5\r\nhello\r\n0\r\n\r\n", "hello", 15 },
	{ "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET", "hello world", 26 },
	{ "00000000005\r\nhello\r\n0\r\n\r\n", "hello", 25 },
	{ "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", 35 },
	{ "5;x=\"y z\";b\r\nhello\r\n0;a\r\n\r\n", "hello", 27 },
	{ "0\r\nX: y\r\nTrailer:\tz\r\n\r\n", "", 23 },
	{ "5\r\nhel", NULL, 0 }, { "5\r\nhello\r\n", NULL, 0 }, { "0\r\n", NULL, 0 }, { "0\r\nX: y\r\n", NULL,
	    0 },
	{ "\r\n", NULL, -400 }, { "x\r\n", NULL, -400 }, { "0x5\r\nhello\r\n0\r\n\r\n", NULL, -400 },
	{ "+5\r\nhello\r\n", NULL, -400 }, { "-5\r\n", NULL, -400 }, { " 5\r\nhello\r\n", NULL, -400 },
	{ "5 \r\nhello\r\n", NULL, -400 }, { "5 ;a\r\nhello\r\n", NULL, -400 }, { "5\nhello\r\n", NULL, -400 },
	{ "5\r\rhello\r\n", NULL, -400 }, { "5\r\nhello0\r\n", NULL, -400 }, { "5\r\nhello\n0\r\n\r\n", NULL,
	    -400 },
	{ "5\r\nhello\r\r\n", NULL, -400 }, { "5\r\nhello\r\n\r\n", NULL, -400 }, { "5_0\r\n", NULL, -400 },
	{ "5;a\nhello\r\n0\r\n\r\n", NULL, -400 }, { "5;a\x01\r\nhello\r\n", NULL, -400 },
	{ "00000000000000005\r\nhello\r\n0\r\n\r\n", NULL, -400 },
	{ "10000000000000005\r\nhello\r\n", NULL, -400 },
	{ "ffffffffffffffff\r\nhello\r\n", NULL, -413 },
	{ "65\r\n", NULL, -413 },
	{ "5\r\nhello\r\n60\r\n", NULL, -413 },
	{ "0\r\nX: y\n\r\n", NULL, -400 }, { "0\r\n X: y\r\n\r\n", NULL, -400 }, { "0\r\nX\r\n\r\n", NULL,
	    -400 },
	{ "0\r\nX : y\r\n\r\n", NULL, -400 }, { "0\r\n: y\r\n\r\n", NULL, -400 }, { "0\r\n\n", NULL, -400 },
	{ "0\r\n\r\r", NULL, -400 }, { "0\r\nX: y\x01\r\n\r\n", NULL, -400 },
};

/* Feeds text in pieces of the given sizes (first, then each); the bytes used, minus a status, or 0. */
static long
feed(const struct http_head *h, const char *text, size_t n, size_t first, size_t each, struct buf *out)
{
	struct http_body b;
	size_t used = 0, piece = first;

	buf_clear(out);
	assert_int_equal(http_body_init(&b, h, 100), 0);
	for (;;) {
		char *copy;
		long rc;

		if (piece > n - used)
			piece = n - used;
		copy = copy_of(text + used, piece);
		rc = http_body_feed(&b, copy, piece, out);
		free(copy);
		if (rc < 0)
			return rc;
		used += (size_t)rc;
		if (http_body_done(&b)) {
			assert_int_equal(http_body_feed(&b, "x", 1, out), 0);
			return (long)used;
		}
		assert_int_equal(rc, piece);
		if (used == n)
			return 0;
		piece = each;
	}
}

static void
test_chunked(void **state)
{
	struct http_head h = { .chunked = true, .content_length = -1 };
	struct buf out = BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(chunked) / sizeof(chunked[0]); i++) {
		const char *text = chunked[i].text;
		size_t n = strlen(text);

		for (size_t split = 0; split <= n + 1; split++) {
			size_t first = split <= n ? split : 1, each = split <= n ? n : 1;
			long rc = feed(&h, text, n, first, each, &out);

			if (rc != chunked[i].rc)
				fail_msg("%s split at %zu: %ld, not %ld", text, split, rc, chunked[i].rc);
			if (chunked[i].body != NULL)
				assert_true(slice_is(buf_slice(&out), chunked[i].body));
		}
	}
	buf_fini(&out);
}

static void
test_length(void **state)
{
	struct http_head h = { .content_length = 5 };
	struct buf out = BUF_INIT;
	struct http_body b;

	(void)state;
	for (size_t split = 0; split <= 7; split++) {
		assert_int_equal(feed(&h, "helloGET", 8, split, 8, &out), 5);
		assert_true(slice_is(buf_slice(&out), "hello"));
	}
	assert_int_equal(feed(&h, "hell", 4, 4, 4, &out), 0);
	h.content_length = 100;
	assert_int_equal(http_body_init(&b, &h, 100), 0);
	assert_false(http_body_done(&b));
	h.content_length = 101;
	assert_int_equal(http_body_init(&b, &h, 100), -413);
	h.content_length = INT64_MAX;
	assert_int_equal(http_body_init(&b, &h, 100), -413);
	h.content_length = 0;
	assert_int_equal(http_body_init(&b, &h, 100), 0);
	assert_true(http_body_done(&b));
	h.content_length = -1;
	assert_int_equal(http_body_init(&b, &h, 100), 0);
	assert_true(http_body_done(&b));
	buf_fini(&out);
}

/* What costs more than it brings is bounded: extensions, tiny chunks, trailers. */
static void
test_overhead(void **state)
{
	struct http_head h = { .chunked = true, .content_length = -1 };
	struct buf out = BUF_INIT;
	struct http_body b;
	long rc;
	int i;

	(void)state;
	assert_int_equal(http_body_init(&b, &h, 100), 0);
	assert_int_equal(http_body_feed(&b, "1;", 2, &out), 2);
	for (i = 0; (rc = http_body_feed(&b, "x", 1, &out)) == 1; i++)
		;
	assert_int_equal(rc, -400);
	assert_int_equal(i, HTTP_CHUNK_EXTENSION_MAX);
	assert_int_equal(http_body_init(&b, &h, 1000000), 0);
	for (i = 0; (rc = http_body_feed(&b, "1\r\nx\r\n", 6, &out)) == 6; i++)
		;
	assert_int_equal(rc, -413);
	assert_int_equal(i, HTTP_CHUNK_OVERHEAD_MAX * 8 / (5 * 8 - 1));
	assert_int_equal(http_body_init(&b, &h, 100), 0);
	assert_int_equal(http_body_feed(&b, "0\r\n", 3, &out), 3);
	for (i = 0; (rc = http_body_feed(&b, "X: y\r\n", 6, &out)) == 6; i++)
		;
	assert_int_equal(rc, -413);
	assert_int_equal(i, HTTP_TRAILER_MAX / 6);
	buf_fini(&out);
}

static void
test_uri(void **state)
{
	static const struct { const char *text; bool plus; const char *decoded; } cases[] = {
		{ "", false, "" }, { "abc", false, "abc" }, { "a%20b", false, "a b" }, { "%e9%C3%a9", false,
		    "\xe9\xc3\xa9" },
		{ "a+b", false, "a+b" }, { "a+b", true, "a b" }, { "a%2Bb", true, "a+b" }, { "%", false, NULL },
		{ "%2", false, NULL }, { "a%2", false, NULL }, { "%zz", false, NULL }, { "%2z", false, NULL },
		{ "%00", false, NULL }, { "a%%20", false, NULL }, { "%25", false, "%" }, { "%2525", false,
		    "%25" },
	};
	struct slice rest, name, value, segment;
	struct buf out = BUF_INIT;
	char room[4];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = strlen(cases[i].text);
		char *copy = copy_of(cases[i].text, n);
		int rc;

		buf_clear(&out);
		buf_puts(&out, "before");
		rc = uri_decode((struct slice){ copy, n }, cases[i].plus, &out);
		assert_int_equal(rc, cases[i].decoded != NULL ? 0 : -1);
		assert_memory_equal(out.data, "before", 6);
		assert_true(slice_is((struct slice){ out.data + 6, out.len - 6 },
		    rc == 0 ? cases[i].decoded : ""));
		free(copy);
	}
	assert_int_equal(uri_decode_to(SLICE("ab%63d"), false, room, 4), 4);
	assert_memory_equal(room, "abcd", 4);
	assert_int_equal(uri_decode_to(SLICE("abcde"), false, room, 4), -2);
	buf_clear(&out);
	uri_encode(&out, SLICE("aZ0-._~ /%\xe9"));
	assert_true(slice_is(buf_slice(&out), "aZ0-._~%20%2F%25%E9"));

	rest = SLICE("/a//b/");
	assert_true(uri_segment_next(&rest, &segment) && slice_is(segment, "a"));
	assert_true(uri_segment_next(&rest, &segment) && slice_is(segment, ""));
	assert_true(uri_segment_next(&rest, &segment) && slice_is(segment, "b"));
	assert_true(uri_segment_next(&rest, &segment) && slice_is(segment, ""));
	assert_false(uri_segment_next(&rest, &segment));

	rest = SLICE("&a=1&&b&c==&=d&");
	assert_true(uri_query_next(&rest, &name, &value) && slice_is(name, "a") && slice_is(value, "1"));
	assert_true(uri_query_next(&rest, &name, &value) && slice_is(name, "b") && slice_is(value, ""));
	assert_true(uri_query_next(&rest, &name, &value) && slice_is(name, "c") && slice_is(value, "="));
	assert_true(uri_query_next(&rest, &name, &value) && slice_is(name, "") && slice_is(value, "d"));
	assert_false(uri_query_next(&rest, &name, &value));
	rest = SLICE_NONE;
	assert_false(uri_query_next(&rest, &name, &value));

	rest = SLICE("charger=a&x=%zz&ch%61rger=b+c&charger=%2B&charge=z&chargers=z");
	buf_clear(&out);
	assert_int_equal(uri_query_count(rest, "charger"), 3);
	assert_int_equal(uri_query_get(rest, "x", &out, &value), -1);
	assert_int_equal(uri_query_get_id(rest, "x", &out, &value), -1);
	assert_true(uri_query_get_id(SLICE("q&id=a+b%2b%63"), "id", &out, &value) == 1 && slice_is(value, "a+b+c"));
	assert_int_equal(uri_query_get(rest, "y", &out, &value), 0);
	assert_true(uri_query_get_next(&rest, "charger", &out, &value) == 1 && slice_is(value, "a"));
	assert_true(uri_query_get_next(&rest, "charger", &out, &value) == 1 && slice_is(value, "b c"));
	assert_true(uri_query_get_next(&rest, "charger", &out, &value) == 1 && slice_is(value, "+"));
	assert_int_equal(uri_query_get_next(&rest, "charger", &out, &value), 0);
	buf_fini(&out);
}

static void
test_response(void **state)
{
	struct http_date date = { 0, "" };
	struct http_response r = { .status = 200, .body = SLICE("{}") };
	struct buf out = BUF_INIT;
	char text[HTTP_DATE_LEN + 1];

	(void)state;
	http_date_format(INT64_C(784111777000), text);
	assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
	r.date = http_date(&date, INT64_C(784111777999));
	assert_true(slice_is(r.date, text));
	http_response_put(&out, &r);
	assert_true(slice_is(buf_slice(&out), "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	    "Content-Type: application/json\r\nContent-Length: 2\r\nCache-Control: no-store\r\n\r\n{}"));
	buf_clear(&out);
	r = (struct http_response){ .status = 204, .body = SLICE("x"), .close = true };
	http_response_put(&out, &r);
	assert_true(slice_is(buf_slice(&out), "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n"
	    "Connection: close\r\n\r\n"));
	buf_clear(&out);
	r = (struct http_response){ .status = 200, .body = SLICE("# x\n"), .content_type = SLICE("text/plain"),
	    .head_only = true, .http10 = true, .extra = SLICE("A: b\r\n") };
	http_response_put(&out, &r);
	assert_true(slice_is(buf_slice(&out),
	    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n"
	    "Cache-Control: no-store\r\nConnection: keep-alive\r\nA: b\r\n\r\n"));
	buf_clear(&out);
	http_error_put(&out, NULL, 401, "missing_token", SLICE("no \"token\""), SLICE_NONE);
	assert_true(slice_is(buf_slice(&out), "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n"
	    "Content-Length: 59\r\nCache-Control: no-store\r\nWWW-Authenticate: Bearer\r\n\r\n"
	    "{\"error\":{\"code\":\"missing_token\",\"message\":\"no \\\"token\\\"\"}}"));
	buf_clear(&out);
	r = (struct http_response){ .allow = SLICE("GET, HEAD"), .retry_after_ms = 1001, .close = true };
	http_error_put(&out, &r, 405, "x", SLICE("y"), SLICE("f"));
	assert_true(slice_is(buf_slice(&out),
	    "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: application/json\r\n"
	    "Content-Length: 48\r\nCache-Control: no-store\r\nAllow: GET, HEAD\r\nRetry-After: 2\r\n"
	    "Connection: close\r\n\r\n{\"error\":{\"code\":\"x\",\"message\":\"y\",\"field\":\"f\"}}"));
	buf_fini(&out);
}

static const struct {
	enum http_method method;
	const char *path;
	int rc;
	enum http_route route;
	const char *param, *allow;	/* the first parameter, or NULL */
} routes[] = {
	{ HTTP_GET, "/", 0, ROUTE_root, NULL, NULL },
	{ HTTP_GET, "/ws", 0, ROUTE_ws, NULL, NULL },
	{ HTTP_GET, "/%77s", 0, ROUTE_ws, NULL, NULL },
	{ HTTP_GET, "/ws/", 404, ROUTE_NONE, NULL, NULL },
	{ HTTP_GET, "//ws", 404, ROUTE_NONE, NULL, NULL },
	{ HTTP_GET, "/WS", 404, ROUTE_NONE, NULL, NULL },
	{ HTTP_GET, "ws", 404, ROUTE_NONE, NULL, NULL },
	{ HTTP_GET, "", 404, ROUTE_NONE, NULL, NULL },
	{ HTTP_OPTIONS, "*", 404, ROUTE_NONE, NULL, NULL },
	{ HTTP_POST, "/ws", 405, ROUTE_NONE, NULL, "GET, HEAD" },
	{ HTTP_POST, "/api/device/register", 0, ROUTE_device_register, NULL, NULL },
	{ HTTP_GET, "/api/device/register", 0, ROUTE_device_get, "register", NULL },
	{ HTTP_GET, "/api/device/stats", 0, ROUTE_device_stats, NULL, NULL },
	{ HTTP_PUT, "/api/device/stats", 0, ROUTE_device_update, "stats", NULL },
	{ HTTP_GET, "/api/device", 0, ROUTE_device_list, NULL, NULL },
	{ HTTP_HEAD, "/api/device", 0, ROUTE_device_list, NULL, NULL },
	{ HTTP_GET, "/api/device/", 404, ROUTE_NONE, NULL, NULL },
	{ HTTP_GET, "/api/device/d1", 0, ROUTE_device_get, "d1", NULL },
	{ HTTP_GET, "/api/device/d%2F1%7c", 0, ROUTE_device_get, "d/1|", NULL },
	{ HTTP_GET, "/api/device/a+b", 0, ROUTE_device_get, "a+b", NULL },
	{ HTTP_GET, "/api/device/%", 400, ROUTE_NONE, NULL, NULL },
	{ HTTP_GET, "/api/device/%00", 400, ROUTE_NONE, NULL, NULL },
	{ HTTP_POST, "/api/device/d1", 405, ROUTE_NONE, NULL, "GET, HEAD, PUT, DELETE" },
	{ HTTP_OTHER, "/api/device/d1", 405, ROUTE_NONE, NULL, "GET, HEAD, PUT, DELETE" },
	{ HTTP_PATCH, "/api/device", 405, ROUTE_NONE, NULL, "GET, HEAD" },
	{ HTTP_POST, "/api/device/d1/token", 0, ROUTE_device_token, "d1", NULL },
	{ HTTP_GET, "/api/device/d1/nothing", 404, ROUTE_NONE, NULL, NULL },
	{ HTTP_DELETE, "/api/device/d1/share/u1", 0, ROUTE_share_remove, "d1", NULL },
	{ HTTP_POST, "/api/command", 0, ROUTE_command_create, NULL, NULL },
	{ HTTP_POST, "/api/command/open", 0, ROUTE_command_open, NULL, NULL },
	{ HTTP_GET, "/api/command/open", 0, ROUTE_command_get, "open", NULL },
	{ HTTP_DELETE, "/api/command/x", 0, ROUTE_command_cancel, "x", NULL },
	{ HTTP_POST, "/api/visitor/v/deny", 0, ROUTE_visitor_deny, "v", NULL },
	{ HTTP_GET, "/v1/websocket/user/u/status", 0, ROUTE_user_status, "u", NULL },
	{ HTTP_GET, "/v1/websocket/user/u/status/x", 404, ROUTE_NONE, NULL, NULL },
	{ HTTP_GET, "/a/b/c/d/e/f/g/h", 404, ROUTE_NONE, NULL, NULL },
	{ HTTP_GET, "/metrics", 0, ROUTE_metrics, NULL, NULL },
	{ HTTP_GET, "/api/health", 0, ROUTE_api_health, NULL, NULL },
};

static void
test_routes(void **state)
{
	struct buf path = BUF_INIT;
	struct route_match m;

	(void)state;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		int rc = http_route(routes[i].method, slice_of(routes[i].path), &m);

		if (rc != routes[i].rc || m.route != routes[i].route)
			fail_msg("%s: %d %s", routes[i].path, rc, m.info->name);
		assert_true(rc != 0 || m.params_n > 0 || routes[i].param == NULL);
		if (routes[i].param != NULL)
			assert_true(slice_is(m.param[0], routes[i].param));
		if (routes[i].allow != NULL)
			assert_string_equal(m.allow, routes[i].allow);
	}
	assert_int_equal(http_route(HTTP_DELETE, SLICE("/api/device/d1/share/u%401"), &m), 0);
	assert_true(m.params_n == 2 && slice_is(m.param[1], "u@1"));
	buf_puts(&path, "/api/device/");
	for (int i = 0; i < ROUTE_PARAM_LEN; i++)
		buf_putc(&path, 'a');
	assert_int_equal(http_route(HTTP_GET, buf_slice(&path), &m), 0);
	assert_int_equal(m.param[0].len, ROUTE_PARAM_LEN);
	buf_putc(&path, 'a');
	assert_int_equal(http_route(HTTP_GET, buf_slice(&path), &m), 404);
	buf_fini(&path);

	/* Each line of the list is found by its own path, and no two are the same. */
	for (int i = ROUTE_NONE + 1; i < ROUTE_COUNT; i++) {
		assert_int_equal(http_route(route_table[i].method, slice_of(route_table[i].path), &m), 0);
		assert_int_equal(m.route, i);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heads), cmocka_unit_test(test_fields), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_chunked), cmocka_unit_test(test_length), cmocka_unit_test(test_overhead),
		cmocka_unit_test(test_uri), cmocka_unit_test(test_response), cmocka_unit_test(test_routes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
