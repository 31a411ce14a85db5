/*
 * web.c: the client half of HTTP/1.1 that belayctl needs, and no more: one
 * request at a time, responses by length, in chunks or until the end, redirects
 * shown and not followed.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "belayctl/web.h"
#include "http/body.h"

static long
head_status(const char *line, size_t len, struct web_head *out)
{
	/* HTTP/1.x SP 3DIGIT [SP reason] */
	if (len < 12 || memcmp(line, "HTTP/1.", 7) != 0 || (line[7] != '0' && line[7] != '1') ||
	    line[8] != ' ' || (len > 12 && line[12] != ' '))
		return -1;
	for (int i = 9; i < 12; i++)
		if (!isdigit((unsigned char)line[i]))
			return -1;
	out->minor = line[7] - '0';
	out->status = atoi(line + 9);
	return out->status >= 100 && out->status <= 599 ? 0 : -1;
}

static long
head_field(const char *line, size_t len, struct web_head *out)
{
	const char *colon = memchr(line, ':', len), *value, *end = line + len;

	if (colon == NULL || colon == line || out->nfields == WEB_FIELDS_MAX)
		return -1;
	for (const char *p = line; p < colon; p++)
		if (!text_is_token_char(*p))
			return -1;
	for (value = colon + 1; value < end && (*value == ' ' || *value == '\t'); value++)
		;
	for (; end > value && (end[-1] == ' ' || end[-1] == '\t'); end--)
		;
	for (const char *p = value; p < end; p++)
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
			return -1;
	out->field[out->nfields].name = slice_bytes(line, (size_t)(colon - line));
	out->field[out->nfields++].value = slice_bytes(value, (size_t)(end - value));
	return 0;
}

long
web_head_parse(const char *p, size_t len, struct web_head *out)
{
	const char *line = p, *eol;
	static const char start[] = "HTTP/1.";

	/* As soon as the first bytes differ it is something else: an SSH greeting, TLS. */
	if (memcmp(p, start, len < 7 ? len : 7) != 0)
		return -1;
	memset(out, 0, sizeof(*out));
	for (;;) {
		size_t rest = len - (size_t)(line - p);

		eol = memmem(line, rest, "\r\n", 2);
		if (eol == NULL)
			return len >= WEB_HEAD_MAX ? -1 : 0;
		if (eol + 2 - p > WEB_HEAD_MAX)
			return -1;
		if (eol == line && line != p)
			return eol + 2 - p;
		if ((line == p ? head_status(line, (size_t)(eol - line), out) :
		    head_field(line, (size_t)(eol - line), out)) == -1)
			return -1;
		line = eol + 2;
	}
}

struct slice
web_head_field(const struct web_head *h, const char *name)
{
	size_t len = strlen(name);

	for (unsigned i = 0; i < h->nfields; i++)
		if (h->field[i].name.len == len && strncasecmp(h->field[i].name.p, name, len) == 0)
			return h->field[i].value;
	return SLICE_NONE;
}

int
web_framing(const struct web_head *h, enum web_framing *how, uint64_t *length)
{
	unsigned lengths = 0, encodings = 0;
	struct slice value = SLICE_NONE;
	uint64_t n = 0;

	for (unsigned i = 0; i < h->nfields; i++) {
		struct slice name = h->field[i].name;

		if (name.len == 14 && strncasecmp(name.p, "Content-Length", 14) == 0) {
			lengths++;
			value = h->field[i].value;
		} else if (name.len == 17 && strncasecmp(name.p, "Transfer-Encoding", 17) == 0) {
			encodings++;
			if (h->field[i].value.len != 7 ||
			    strncasecmp(h->field[i].value.p, "chunked", 7) != 0)
				return -1;
		}
	}
	if (lengths > 1 || encodings > 1 || (lengths && encodings))
		return -1;
	*length = 0;
	if (h->status < 200 || h->status == 204 || h->status == 304) {
		*how = WEB_NONE;
	} else if (encodings) {
		*how = WEB_CHUNKED;
	} else if (!lengths) {
		*how = WEB_UNTIL_CLOSE;
	} else {
		if (value.len == 0 || value.len > 15)
			return -1;
		for (size_t i = 0; i < value.len; i++) {
			if (!isdigit((unsigned char)value.p[i]))
				return -1;
			n = n * 10 + (uint64_t)(value.p[i] - '0');
		}
		if (n > WEB_BODY_MAX)
			return -1;
		*how = n != 0 ? WEB_LENGTH : WEB_NONE;
		*length = n;
	}
	return 0;
}

int64_t
web_date(struct slice text)
{
	char copy[64], *end;
	struct tm tm = { 0 };

	if (text.len == 0 || text.len >= sizeof(copy))
		return 0;
	memcpy(copy, text.p, text.len);
	copy[text.len] = '\0';
	end = strptime(copy, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	return end != NULL && *end == '\0' ? (int64_t)timegm(&tm) * 1000 : 0;
}

/* Delay seconds (RFC 9110 section 10.2.3), up to four digits. */
static unsigned
web_seconds(struct slice text)
{
	unsigned v = 0;

	if (text.len == 0 || text.len > 4)
		return 0;
	for (size_t i = 0; i < text.len; i++) {
		if (!isdigit((unsigned char)text.p[i]))
			return 0;
		v = v * 10 + (unsigned)(text.p[i] - '0');
	}
	return v;
}

int
web_open(struct web *w, const struct url *u, struct line_tls *tls, const char **why)
{
	memset(w, 0, sizeof(*w));
	w->url = *u;
	w->tls = tls;
	w->line.fd = -1;
	return line_resolve(&w->url, &w->addresses, why);
}

void
web_close(struct web *w)
{
	line_close(&w->line);
	w->open = false;
}

void
web_answer_fini(struct web_answer *a)
{
	buf_fini(&a->body);
}

static int
answer_fail(struct web_answer *a, enum line_fault fault, const char *why)
{
	a->fault = fault;
	snprintf(a->why, sizeof(a->why), "%s", why);
	return -1;
}

static int
web_connect(struct web *w, int64_t until, struct web_answer *out)
{
	int rc;

	line_open(&w->line, &w->url, &w->addresses, w->tls);
	while ((rc = line_step(&w->line)) == 0)
		if (!line_wait(&w->line, until))
			return answer_fail(out, LINE_CONNECT,
			    "no answer to the connection request in time");
	if (rc == -1)
		return answer_fail(out, w->line.fault, w->line.why);
	w->open = true;
	return 0;
}

static int
web_write(struct web *w, struct slice s, int64_t until, struct web_answer *out)
{
	ssize_t n;

	while (s.len != 0) {
		n = line_write(&w->line, s.p, s.len);
		if (n > 0) {
			s.p += n;
			s.len -= (size_t)n;
		} else if (w->line.fault != LINE_OK) {
			return answer_fail(out, LINE_IO, w->line.why);
		} else if (!line_wait(&w->line, until)) {
			return answer_fail(out, LINE_IO,
			    "the server does not take the request in time");
		}
	}
	return 0;
}

/* More bytes into b; 1, 0 at the end of the stream, -1. */
static int
web_more(struct web *w, struct buf *b, int64_t until, struct web_answer *out)
{
	ssize_t n;

	for (;;) {
		n = line_read(&w->line, buf_reserve(b, 16384), 16384);
		if (n >= 0) {
			b->len += (size_t)n;
			return n != 0;
		}
		if (w->line.fault != LINE_OK)
			return answer_fail(out, LINE_IO, w->line.why);
		if (!line_wait(&w->line, until))
			return answer_fail(out, LINE_IO, "the server did not answer in time");
	}
}

static int
web_body(struct web *w, struct buf *raw, const struct web_head *h, int64_t until,
    struct web_answer *out)
{
	struct http_body chunks;
	enum web_framing how;
	uint64_t want;
	long used;
	int rc;

	http_body_init_chunked(&chunks, WEB_BODY_MAX);
	if (web_framing(h, &how, &want) == -1)
		return answer_fail(out, LINE_IO, "the answer's length is not told in a way that "
		    "can be trusted");
	for (;;) {
		if (how == WEB_NONE)
			return 0;
		if (how == WEB_CHUNKED) {
			used = http_body_feed(&chunks, raw->data, raw->len, &out->body);
			if (used < 0)
				return answer_fail(out, LINE_IO, used == -413 ? "the answer is too long" :
				    "the answer's chunks are malformed");
			buf_consume(raw, (size_t)used);
			if (http_body_done(&chunks))
				return 0;
		} else if (how == WEB_LENGTH && raw->len >= want) {
			buf_put(&out->body, raw->data, want);
			return 0;
		}
		if (raw->len > WEB_BODY_MAX)
			return answer_fail(out, LINE_IO, "the answer is too long");
		rc = web_more(w, raw, until, out);
		if (rc == -1)
			return -1;
		if (rc == 0) {
			w->open = false;
			if (how != WEB_UNTIL_CLOSE)
				return answer_fail(out, LINE_IO,
				    "the connection ended in the middle of the answer");
			buf_put(&out->body, raw->data, raw->len);
			return 0;
		}
	}
}

/* -1 failed; 1: the connection ended before a byte came. */
static int
web_receive(struct web *w, int64_t until, struct web_answer *out)
{
	struct buf raw = BUF_INIT;
	struct slice connection, type;
	struct web_head h;
	int result = -1, rc;
	long n = 0;

	do {
		if (raw.len != 0)
			n = web_head_parse(raw.data, raw.len, &h);
		if (n == -1) {
			answer_fail(out, LINE_IO, "what answers there does not speak HTTP");
			goto out;
		}
		if (n > 0 && h.status < 200 && h.status != 101) {
			buf_consume(&raw, (size_t)n);
			n = 0;
			if (raw.len != 0)
				continue;
		}
		if (n == 0 && (rc = web_more(w, &raw, until, out)) <= 0) {
			if (rc == 0)
				answer_fail(out, LINE_IO,
				    "the server ended the connection without an answer");
			result = raw.len == 0 && w->line.fault == LINE_OK && rc == 0 ? 1 : -1;
			goto out;
		}
	} while (n == 0);
	out->status = h.status;
	out->date_ms = web_date(web_head_field(&h, "Date"));
	out->retry_after_s = web_seconds(web_head_field(&h, "Retry-After"));
	type = web_head_field(&h, "Content-Type");
	snprintf(out->type, sizeof(out->type), "%.*s", (int)(type.len < 60 ? type.len : 60),
	    type.len != 0 ? type.p : "");
	out->type[strcspn(out->type, "; ")] = '\0';
	connection = web_head_field(&h, "Connection");
	if (h.minor == 0 || (connection.len == 5 && strncasecmp(connection.p, "close", 5) == 0))
		w->open = false;
	/*
	 * The head's slices point into raw: what is needed of it was copied, framing is read first.
	 */
	{
		struct buf rest = BUF_INIT;

		buf_put(&rest, raw.data + n, raw.len - (size_t)n);
		result = web_body(w, &rest, &h, until, out);
		buf_fini(&rest);
	}
	if (result == 0) {
		buf_putc(&out->body, '\0');
		out->body.len--;
	}
out:
	buf_fini(&raw);
	return result;
}

int
web_send(struct web *w, const struct web_request *r, struct web_answer *out)
{
	int64_t until = clock_mono_ms() + r->timeout_ms;
	struct buf b = BUF_INIT;
	int rc = 1;

	memset(out, 0, sizeof(*out));
	buf_printf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: application/json, text/plain\r\n",
	    r->method, r->target, w->url.authority);
	if (r->token != NULL)
		buf_printf(&b, "Authorization: Bearer %s\r\n", r->token);
	if (r->extra != NULL)
		buf_puts(&b, r->extra);
	if (r->body != NULL)
		buf_printf(&b, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
		    strlen(r->body));
	buf_puts(&b, "\r\n");
	if (r->body != NULL)
		buf_puts(&b, r->body);
	for (int attempt = 0; rc == 1 && attempt < 2; attempt++) {
		bool kept = w->open;

		if (!w->open && web_connect(w, until, out) == -1) {
			rc = -1;
			break;
		}
		rc = web_write(w, buf_slice(&b), until, out);
		if (rc == 0)
			rc = web_receive(w, until, out);
		else if (kept)
			rc = 1;
		if (rc == 1 && !kept)
			rc = -1;
		if (rc != 0 || !w->open)
			web_close(w);
	}
	/* The token is in it. */
	explicit_bzero(b.data, b.len);
	buf_fini(&b);
	return rc == 0 ? 0 : -1;
}
