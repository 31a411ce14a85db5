/*
 * http_request_fuzz.c: a request head and its body, whole and in pieces.
 *
 * The input is what a client sends.  Whatever a beginning of it is told must stay true for all that is longer, and a
 * body fed in pieces must give what it gives whole.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/must.h"
#include "http/body.h"
#include "http/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BODY_LIMIT 4096

static void
check_slice(struct slice s, const char *p, size_t n)
{
	must(s.p == NULL || s.len == 0 || (s.p >= p && s.p + s.len <= p + n) || slice_is(s, "/"));
}

static void
check_head(const struct http_head *h, const char *p, size_t n)
{
	check_slice(h->method_text, p, n);
	check_slice(h->target, p, n);
	check_slice(h->path, p, n);
	check_slice(h->query, p, n);
	check_slice(h->host, p, n);
	must(h->path.len > 0 && (h->path.p[0] == '/' || slice_is(h->path, "*")));
	must(h->headers_n <= HTTP_HEADERS_MAX);
	must(!(h->chunked && h->content_length >= 0));
	must(h->minor == 0 || http_header_count(h, "host") == 1);
	must(http_header_count(h, "host") <= 1 && http_header_count(h, "content-length") <= 1);
	must((http_header(h, "Content-Length").p != NULL) == (h->content_length >= 0));
	must((http_header(h, "Transfer-Encoding").p != NULL) == h->chunked);
	must(http_header_has_token(h, "connection", "upgrade") == h->upgrade);
	for (unsigned i = 0; i < h->headers_n; i++) {
		check_slice(h->headers[i].name, p, n);
		check_slice(h->headers[i].value, p, n);
		must(h->headers[i].name.len > 0);
		for (size_t k = 0; k < h->headers[i].value.len; k++) {
			unsigned char c = (unsigned char)h->headers[i].value.p[k];

			must((c >= 0x20 && c != 0x7f) || c == '\t');
		}
	}
}

/* Feeds in pieces of each bytes.  Bytes used, minus a status, or 0 when more is needed. */
static long
feed(const struct http_head *h, const char *p, size_t n, size_t each, struct buf *out)
{
	struct http_body b;
	size_t used = 0;
	long rc;

	if ((rc = http_body_init(&b, h, BODY_LIMIT)) != 0)
		return rc;
	while (!http_body_done(&b) && used < n) {
		size_t piece = n - used < each ? n - used : each;

		if ((rc = http_body_feed(&b, p + used, piece, out)) < 0)
			return rc;
		must((size_t)rc <= piece && ((size_t)rc == piece || http_body_done(&b)));
		used += (size_t)rc;
		must(out->len <= BODY_LIMIT);
	}
	return http_body_done(&b) ? (long)used : 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *p = (const char *)data;
	struct buf whole = BUF_INIT, pieces = BUF_INIT;
	struct http_head h, cut;
	long rc, used;
	size_t n;

	rc = http_head_parse(p, size, HTTP_HEAD_SIZE, &h);
	must(rc <= (long)size && (rc >= 0 || (rc <= -400 && rc > -600)));
	for (n = 0; n < size && n < 1024; n++) {
		long part = http_head_parse(p, n, HTTP_HEAD_SIZE, &cut);

		must(part == 0 || part == rc);
		must(rc <= 0 || n < (size_t)rc || part == rc);
	}
	if (rc <= 0)
		return 0;
	check_head(&h, p, (size_t)rc);
	used = feed(&h, p + rc, size - (size_t)rc, size + 1, &whole);
	for (n = 1; n <= 7; n += 2) {
		buf_clear(&pieces);
		must(feed(&h, p + rc, size - (size_t)rc, n, &pieces) == used);
		must(used < 0 || slice_eq(buf_slice(&whole), buf_slice(&pieces)));
	}
	if (used > 0 && !h.chunked)
		must(whole.len == (size_t)h.content_length);
	buf_fini(&whole);
	buf_fini(&pieces);
	return 0;
}
