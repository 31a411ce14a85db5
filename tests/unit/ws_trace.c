/*
 * ws_trace.c: for tests of the codec: scripts, runs in pieces, and a plain second
 * implementation to compare with.  Everything is checked with abort(), since the fuzz targets
 * use it too.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ws/close.h"
#include "ws/deflate.h"
#include "ws/frame.h"
#include "tests/unit/ws_trace.h"

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			abort(); \
		} \
	} while (0)

void
bytes_put(struct bytes *b, const void *p, size_t n)
{
	if (n == 0)
		return;
	if (b->n + n > b->cap) {
		b->cap = (b->n + n) * 2;
		b->p = realloc(b->p, b->cap);
		CHECK(b->p != NULL);
	}
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

void
bytes_free(struct bytes *b)
{
	free(b->p);
	memset(b, 0, sizeof(*b));
}

void
put_frame(struct bytes *b, uint8_t first, const void *payload, size_t len, bool masked)
{
	static const uint8_t some[4] = { 0x37, 0xfa, 0x21, 0x3d };
	uint8_t header[WS_HEADER_MAX], mask[4];
	size_t at;

	for (size_t i = 0; i < 4; i++)
		mask[i] = (uint8_t)(some[i] + b->n * 7);
	bytes_put(b, header, ws_header_put(header, first, len, masked ? mask : NULL));
	at = b->n;
	bytes_put(b, payload, len);
	if (masked)
		for (size_t i = 0; i < len; i++)
			b->p[at + i] ^= mask[i % 4];
}

static unsigned
hex_digit(char c)
{
	CHECK(isxdigit((unsigned char)c));
	return (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
}

static uint8_t
hex_byte(const char *s)
{
	return (uint8_t)(hex_digit(s[0]) << 4 | hex_digit(s[1]));
}

static void
put_hex(struct bytes *b, const char *s, const char *end)
{
	for (; s < end; s += 2)
		bytes_put(b, &(uint8_t){ hex_byte(s) }, 1);
}

void
put_script(struct bytes *b, const char *script, bool masked)
{
	const char *s = script, *end;

	for (; *s != '\0'; s = end) {
		struct bytes payload = { NULL, 0, 0 };

		end = s + strcspn(s, " ");
		if (end == s) {
			end++;
			continue;
		}
		if (*s == '!') {
			put_hex(b, s + 1, end);
			continue;
		}
		switch (s[2]) {
		case ':':
			for (const char *c = s + 3; c < end; c++)
				bytes_put(&payload, *c == '_' ? " " : c, 1);
			break;
		case '*':
			for (long i = atol(s + 3); i > 0; i--)
				bytes_put(&payload, "*", 1);
			break;
		case '=':
			put_hex(&payload, s + 3, end);
			break;
		default:
			CHECK(!"a script");
		}
		put_frame(b, hex_byte(s), payload.p, payload.n, masked);
		bytes_free(&payload);
	}
}

static void
trace(struct bytes *t, const char *fmt, ...)
{
	char line[64];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	bytes_put(t, line, (size_t)n);
}

static void
trace_payload(struct bytes *t, const uint8_t *p, size_t n)
{
	uint64_t sum = 14695981039346656037u;

	if (n > 48) {
		for (size_t i = 0; i < n; i++)
			sum = (sum ^ p[i]) * 1099511628211u;
		trace(t, "%zu bytes %016llx", n, (unsigned long long)sum);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (p[i] >= 0x20 && p[i] < 0x7f)
			trace(t, "%c", p[i]);
		else
			trace(t, "\\%02x", p[i]);
	}
}

/* As the events of ws/reader.h are numbered. */
static void
trace_event(struct bytes *t, enum ws_event ev, const struct ws_message *m)
{
	static const char letters[] = "?TBPOCE";

	if (t->n > 0)
		trace(t, " ");
	trace(t, "%c(", letters[ev]);
	if (ev == WS_EVENT_CLOSE || ev == WS_EVENT_ERROR)
		trace(t, "%u", m->code);
	if (ev == WS_EVENT_CLOSE)
		trace(t, ",");
	if (ev != WS_EVENT_ERROR)
		trace_payload(t, m->data, m->len);
	trace(t, ")");
}

static char *
trace_end(struct bytes *t)
{
	bytes_put(t, "", 1);
	return (char *)t->p;
}

/* One piece, in memory of its exact size.  fed: bytes given so far, this piece included. */
static void
feed(struct ws_reader *r, const struct ws_limits *limits, const uint8_t *p, size_t n, size_t fed,
    struct bytes *t)
{
	uint8_t *copy = malloc(n > 0 ? n : 1);
	size_t at = 0;
	enum ws_event ev;

	CHECK(copy != NULL);
	if (n > 0)
		memcpy(copy, p, n);
	do {
		bool ended = r->ended;
		struct ws_message m;
		size_t used = 12345;

		ev = ws_reader_next(r, limits, copy + at, n - at, &used, &m);
		CHECK(used <= n - at);
		CHECK(ev == WS_EVENT_NEED_MORE || !ended);
		at += used;
		if (ev == WS_EVENT_ERROR)
			CHECK(m.why != NULL && ws_close_valid_on_wire(m.code));
		if (ev == WS_EVENT_ERROR || ev == WS_EVENT_CLOSE)
			CHECK(r->ended && at == n);
		if (ev != WS_EVENT_NEED_MORE)
			trace_event(t, ev, &m);
	} while (ev != WS_EVENT_NEED_MORE);
	CHECK(at == n);
	/* What is kept is what arrived, at most doubled, and nothing when nothing is unfinished. */
	CHECK(ws_reader_memory(r) <= 2 * fed + 256);
	CHECK(ws_reader_unfinished(r) == (ws_reader_memory(r) > 0));
	free(copy);
}

char *
trace_run(const uint8_t *p, size_t n, const struct ws_limits *limits, bool deflate,
    struct cuts cuts)
{
	struct bytes t = { NULL, 0, 0 };
	struct ws_reader r;
	size_t at = 0;

	ws_reader_init(&r, deflate);
	while (at < n) {
		size_t next = n;

		if (cuts.step != 0 && at + cuts.step < next)
			next = at + cuts.step;
		if (cuts.cut1 > at && cuts.cut1 < next)
			next = cuts.cut1;
		if (cuts.cut2 > at && cuts.cut2 < next)
			next = cuts.cut2;
		feed(&r, limits, p + at, next - at, next, &t);
		at = next;
	}
	ws_reader_fini(&r);
	CHECK(ws_reader_memory(&r) == 0);
	return trace_end(&t);
}

/*
 * The plain implementation: it reads one byte after the other with get(), keeps everything, and
 * judges text anew after each byte.
 */
struct plain {
	const uint8_t *p;
	size_t n, at;
	bool short_of;		/* the input ended */
};

static unsigned
get(struct plain *s)
{
	if (s->at == s->n) {
		s->short_of = true;
		return 0;
	}
	return s->p[s->at++];
}

int
plain_utf8(const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i < n) {
		unsigned c = p[i++], more, low, value;

		if (c < 0x80)
			continue;
		if (c >= 0xc0 && c < 0xe0)
			more = 1, low = 0x80, value = c & 0x1f;
		else if (c >= 0xe0 && c < 0xf0)
			more = 2, low = 0x800, value = c & 0x0f;
		else if (c >= 0xf0 && c < 0xf8)
			more = 3, low = 0x10000, value = c & 0x07;
		else
			return -1;
		for (;; more--) {
			/* The values that can still come of it. */
			unsigned least = value << 6 * more, most = least | ((1u << 6 * more) - 1);

			if (most < low || least > 0x10ffff || (least >= 0xd800 && most <= 0xdfff))
				return -1;
			if (more == 0)
				break;
			if (i == n)
				return 0;
			if ((p[i] & 0xc0) != 0x80)
				return -1;
			value = value << 6 | (p[i++] & 0x3f);
		}
	}
	return 1;
}

static bool
plain_event(struct bytes *t, enum ws_event ev, const uint8_t *p, size_t n, unsigned code)
{
	struct ws_message m = { .data = (uint8_t *)(uintptr_t)p, .len = n, .code = (uint16_t)code };

	trace_event(t, ev, &m);
	return ev != WS_EVENT_ERROR && ev != WS_EVENT_CLOSE;
}

static bool
plain_close(struct bytes *t, const struct bytes *b)
{
	unsigned code;

	if (b->n == 0)
		return plain_event(t, WS_EVENT_CLOSE, NULL, 0, 1005);
	if (b->n == 1)
		return plain_event(t, WS_EVENT_ERROR, NULL, 0, 1002);
	code = b->p[0] * 256u + b->p[1];
	if (code < 1000 || code == 1004 || code == 1005 || code == 1006 || code == 1015 ||
	    (code > 1015 && code < 3000) || code > 4999)
		return plain_event(t, WS_EVENT_ERROR, NULL, 0, 1002);
	if (plain_utf8(b->p + 2, b->n - 2) != 1)
		return plain_event(t, WS_EVENT_ERROR, NULL, 0, 1007);
	return plain_event(t, WS_EVENT_CLOSE, b->p + 2, b->n - 2, code);
}

/* The message being put together. */
struct plain_message {
	struct bytes b;
	size_t good;		/* bytes of text known to be valid */
	unsigned opcode, frames;
	bool compressed;
};

static bool
plain_message(struct bytes *t, struct plain_message *m, const struct ws_limits *limits)
{
	enum ws_event ev = m->opcode == 1 ? WS_EVENT_TEXT : WS_EVENT_BINARY;
	uint8_t *p = m->b.p;
	size_t n = m->b.n;

	if (m->compressed) {
		int code = ws_inflate_message(limits->inflate, p, n, limits->max_message, &p, &n);

		if (code != 0)
			return plain_event(t, WS_EVENT_ERROR, NULL, 0, (unsigned)code);
	}
	if (ev == WS_EVENT_TEXT && plain_utf8(p, n) != 1)
		return plain_event(t, WS_EVENT_ERROR, NULL, 0, 1007);
	return plain_event(t, ev, p, n, 0);
}

/* One frame; false when nothing comes after it. */
static bool
plain_frame(struct plain *s, struct bytes *t, struct plain_message *m,
    const struct ws_limits *limits, bool deflate)
{
	struct bytes control = { NULL, 0, 0 }, *to = &m->b;
	unsigned first, second, opcode, lengths = 0, mask[4] = { 0, 0, 0, 0 };
	uint64_t len, limit = limits->max_message;
	bool fin, masked, is_control, go_on;

#define BAD(code) return s->short_of ? false : plain_event(t, WS_EVENT_ERROR, NULL, 0, (code))
	first = get(s);
	opcode = first & 15;
	fin = first >> 7;
	is_control = opcode >= 8;
	if ((opcode > 2 && opcode < 8) || opcode > 10)
		BAD(1002);
	if (is_control && (!fin || (first & 0x70)))
		BAD(1002);
	second = get(s);
	masked = second >> 7;
	len = second & 127;
	if (is_control && len > 125)
		BAD(1002);
	if (len == 126)
		lengths = 2;
	if (len == 127)
		lengths = 8;
	if (lengths > 0)
		len = 0;
	for (unsigned i = 0; i < lengths; i++)
		len = len * 256 + get(s);
	if ((lengths == 2 && len < 126) || (lengths == 8 && (len < 65536 || len >> 63)))
		BAD(1002);
	for (unsigned i = 0; masked && i < 4; i++)
		mask[i] = get(s);
	if (s->short_of)
		return false;

	if (masked == limits->client || (first & 0x30))
		BAD(1002);
	if (!is_control) {
		bool rsv1 = first & 0x40;

		if (rsv1 && (opcode == 0 || !deflate || limits->inflate == NULL))
			BAD(1002);
		if ((opcode == 0) != (m->opcode != 0))
			BAD(1002);
		if (opcode != 0) {
			m->opcode = opcode;
			m->compressed = rsv1;
			m->frames = 0;
			m->b.n = m->good = 0;
		}
		if (++m->frames > limits->max_fragments && opcode == 0)
			BAD(1009);
		if (m->compressed)
			limit += limit / 1000 + 64;
		if (len > limit || m->b.n + len > limit)
			BAD(1009);
	} else {
		to = &control;
	}

	for (uint64_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)(get(s) ^ mask[i % 4]);

		if (s->short_of)
			break;
		bytes_put(to, &c, 1);
		if (!is_control && m->opcode == 1 && !m->compressed) {
			int state = plain_utf8(to->p + m->good, to->n - m->good);

			if (state == -1)
				BAD(1007);
			if (state == 1)
				m->good = to->n;
		}
	}
	go_on = !s->short_of;
	if (go_on && opcode == 8)
		go_on = plain_close(t, &control);
	else if (go_on && is_control)
		plain_event(t, opcode == 9 ? WS_EVENT_PING : WS_EVENT_PONG, control.p, control.n, 0);
	else if (go_on && fin) {
		go_on = plain_message(t, m, limits);
		m->opcode = 0;
	}
	bytes_free(&control);
	return go_on;
#undef BAD
}

char *
trace_reference(const uint8_t *p, size_t n, const struct ws_limits *limits, bool deflate)
{
	struct plain s = { p, n, 0, false };
	struct plain_message m = { .opcode = 0 };
	struct bytes t = { NULL, 0, 0 };

	while (s.at < s.n && plain_frame(&s, &t, &m, limits, deflate))
		;
	bytes_free(&m.b);
	return trace_end(&t);
}

uint32_t
ws_random(uint32_t *state)
{
	uint32_t x = *state;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return *state = x;
}
