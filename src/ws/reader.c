/*
 * reader.c: from received bytes to messages.  Runs wherever a WebSocket is
 * read.  Owns what is unfinished and nothing else; reads no descriptor and
 * knows no time.
 *
 * An idle connection has no struct ws_partial.  One is made when a frame or a
 * fragmented message does not end within the bytes given:
 *
 *	data[]   | message so far, unmasked | control frame so far |
 *	          <------ message_len ----->  <---- control_len -->
 *
 * so that a control frame that is split, between two fragments that are split,
 * needs no second buffer.
 */
#include <stdlib.h>
#include <string.h>

#include "ws/close.h"
#include "ws/deflate.h"
#include "ws/frame.h"
#include "ws/reader.h"
#include "ws/utf8.h"

#define FIRST_CAP 64

enum delivered {
	NOTHING,
	MESSAGE,
	CONTROL
};

struct ws_partial {
	uint32_t cap;		/* size of data[] */
	uint32_t message_len, control_len;
	uint32_t fragments;	/* frames of the message so far */
	uint32_t utf8;		/* state after the message so far */
	uint32_t left;		/* payload bytes still to come of the current frame */
	uint8_t mask[4];	/* turned to the next byte */
	uint8_t header[WS_HEADER_MAX];	/* of a header that is split */
	uint8_t header_len;
	uint8_t opcode;		/* of the current frame */
	uint8_t message_opcode;	/* of the message; 0: none has begun */
	uint8_t delivered;	/* what of data[] the caller may be looking at */
	bool in_frame;		/* the header was taken, payload is being taken */
	bool fin, masked;	/* of the current frame */
	bool compressed;	/* the message */
	uint8_t data[];
};

/* One call's view: where it reads, and where the answer goes. */
struct step {
	struct ws_reader *r;
	const struct ws_limits *limits;
	uint8_t *p, *end;
	struct ws_message *out;
};

void
ws_reader_init(struct ws_reader *r, bool deflate)
{
	memset(r, 0, sizeof(*r));
	r->deflate = deflate;
}

static void
drop_partial(struct ws_reader *r)
{
	free(r->partial);
	r->partial = NULL;
}

void
ws_reader_fini(struct ws_reader *r)
{
	drop_partial(r);
	r->ended = true;
}

size_t
ws_reader_memory(const struct ws_reader *r)
{
	return r->partial == NULL ? 0 : sizeof(*r->partial) + r->partial->cap;
}

bool
ws_reader_unfinished(const struct ws_reader *r)
{
	const struct ws_partial *q = r->partial;

	return q != NULL && q->delivered != MESSAGE &&
	    (q->message_opcode != 0 || q->header_len > 0 || q->in_frame);
}

static uint32_t
message_limit(const struct ws_limits *limits)
{
	return limits->max_message < WS_MESSAGE_MAX ? limits->max_message : WS_MESSAGE_MAX;
}

/* What a compressed message may take: incompressible text grows a little (stored blocks). */
static uint32_t
payload_limit(const struct ws_limits *limits, bool compressed)
{
	uint32_t n = message_limit(limits);

	return compressed ? n + n / 1000 + 64 : n;
}

static enum ws_event
fail(struct step *s, int code, const char *why)
{
	drop_partial(s->r);
	s->r->ended = true;
	s->p = s->end;
	*s->out = (struct ws_message){ .code = (uint16_t)code, .why = why };
	return WS_EVENT_ERROR;
}

static enum ws_event
out_of_memory(struct step *s)
{
	return fail(s, WS_CODE_INTERNAL, "out of memory");
}

/* The partial, made if there is none.  NULL when out of memory. */
static struct ws_partial *
need_partial(struct ws_reader *r)
{
	if (r->partial == NULL)
		r->partial = calloc(1, sizeof(*r->partial));
	return r->partial;
}

/* Room for n more bytes that have arrived.  False when out of memory. */
static bool
need_room(struct ws_reader *r, const struct ws_limits *limits, size_t n)
{
	struct ws_partial *q = r->partial;
	size_t used = (size_t)q->message_len + q->control_len, cap = q->cap;
	size_t most = (size_t)payload_limit(limits, q->compressed) + WS_CONTROL_MAX;

	if (used + n <= cap)
		return true;
	cap = cap == 0 ? FIRST_CAP : cap * 2;
	/* The message's end is known in its last frame: nothing beyond it will be needed. */
	if (q->fin && !ws_opcode_is_control(q->opcode))
		most = used + q->left;
	if (cap > most)
		cap = most;
	if (cap < used + n)
		cap = used + n;
	q = realloc(q, sizeof(*q) + cap);
	if (q == NULL)
		return false;
	q->cap = (uint32_t)cap;
	r->partial = q;
	return true;
}

/* Gives back what the last event pointed to. */
static void
settle(struct ws_reader *r)
{
	struct ws_partial *q = r->partial;

	if (q->delivered == CONTROL)
		q->control_len = 0;
	if (q->delivered == MESSAGE || q->message_opcode == 0)
		drop_partial(r);
	else
		q->delivered = NOTHING;
}

/*
 * Takes a frame header.  1: *h is it; 0: not all of it is there, what there is
 * was kept; negative: as ws_header_parse(), or -WS_CODE_INTERNAL.
 */
static int
take_header(struct step *s, struct ws_header *h)
{
	struct ws_partial *q = s->r->partial;
	size_t n = (size_t)(s->end - s->p), had = q != NULL ? q->header_len : 0;
	int used;

	if (had == 0) {
		used = ws_header_parse(s->p, n, h);
	} else {
		size_t more = WS_HEADER_MAX - had;

		if (more > n)
			more = n;
		memcpy(q->header + had, s->p, more);
		used = ws_header_parse(q->header, had + more, h);
	}
	if (used < 0)
		return used;
	if (used > 0) {
		s->p += (size_t)used - had;
		if (had > 0)
			q->header_len = 0;
		return 1;
	}
	if (n > 0) {
		q = need_partial(s->r);
		if (q == NULL)
			return -WS_CODE_INTERNAL;
		if (had == 0)
			memcpy(q->header, s->p, n);
		q->header_len = (uint8_t)(had + n);
		s->p = s->end;
	}
	return 0;
}

/* Judges a header by what went before.  NULL, or what is wrong, with the code. */
static const char *
header_fault(const struct step *s, const struct ws_header *h, int *code)
{
	const struct ws_partial *q = s->r->partial;
	uint8_t going = q != NULL ? q->message_opcode : 0;
	bool compressed;

	*code = WS_CODE_PROTOCOL;
	if (h->masked == s->limits->client)
		return s->limits->client ? "masked frame from a server" :
		    "unmasked frame from a client";
	if ((h->rsv & (WS_RSV2 | WS_RSV3)) != 0)
		return "reserved bit";
	if (ws_opcode_is_control(h->opcode))
		return NULL;
	compressed = h->rsv != 0;
	if (compressed && (h->opcode == WS_OP_CONTINUATION || !s->r->deflate ||
	    s->limits->inflate == NULL))
		return "compression bit out of place";
	if (h->opcode == WS_OP_CONTINUATION && going == 0)
		return "continuation without a message";
	if (h->opcode != WS_OP_CONTINUATION && going != 0)
		return "new message inside a fragmented one";

	*code = WS_CODE_TOO_BIG;
	if (going != 0 && q->fragments >= s->limits->max_fragments)
		return "too many fragments";
	if (h->len + (going != 0 ? q->message_len : 0) >
	    payload_limit(s->limits, going != 0 ? q->compressed : compressed))
		return "message too big";
	return NULL;
}

/* A control frame's payload is there. */
static enum ws_event
give_control(struct step *s, uint8_t opcode, uint8_t *data, size_t len)
{
	struct ws_message *m = s->out;
	const uint8_t *reason;
	int fault;

	*m = (struct ws_message){ .data = data, .len = len };
	if (opcode == WS_OP_PING)
		return WS_EVENT_PING;
	if (opcode == WS_OP_PONG)
		return WS_EVENT_PONG;

	fault = ws_close_parse(data, len, &m->code, &reason, &m->len);
	if (fault == WS_CODE_BAD_UTF8)
		return fail(s, fault, "invalid UTF-8 in a close reason");
	if (fault != 0)
		return fail(s, fault, "invalid close frame");
	m->data = m->len > 0 ? data + (len - m->len) : NULL;
	s->r->ended = true;
	s->p = s->end;
	return WS_EVENT_CLOSE;
}

/* A whole message's payload is there; text that was not compressed has been validated. */
static enum ws_event
give_message(struct step *s, uint8_t opcode, bool compressed, uint8_t *data, size_t len)
{
	*s->out = (struct ws_message){ .data = data, .len = len, .compressed = compressed };
	if (compressed) {
		int code = ws_inflate_message(s->limits->inflate, data, len,
		    message_limit(s->limits), &s->out->data, &s->out->len);

		if (code != 0)
			return fail(s, code, code == WS_CODE_TOO_BIG ? "message too big" :
			    code == WS_CODE_INTERNAL ? "out of memory" : "bad compressed data");
		if (opcode == WS_OP_TEXT && !ws_utf8_valid(s->out->data, s->out->len))
			return fail(s, WS_CODE_BAD_UTF8, "invalid UTF-8");
	}
	return opcode == WS_OP_TEXT ? WS_EVENT_TEXT : WS_EVENT_BINARY;
}

/* The frame of header h lies whole at s->p and needs nothing of the partial. */
static enum ws_event
give_in_place(struct step *s, const struct ws_header *h)
{
	uint8_t *data = s->p;
	size_t len = (size_t)h->len;
	bool compressed = h->rsv != 0;

	s->p += len;
	if (h->masked)
		ws_mask(data, len, h->mask, 0);
	if (ws_opcode_is_control(h->opcode))
		return give_control(s, h->opcode, data, len);
	if (h->opcode == WS_OP_TEXT && !compressed && !ws_utf8_valid(data, len))
		return fail(s, WS_CODE_BAD_UTF8, "invalid UTF-8");
	return give_message(s, h->opcode, compressed, data, len);
}

/* Begins to take a frame into the partial.  False when out of memory. */
static bool
begin_frame(struct step *s, const struct ws_header *h)
{
	struct ws_partial *q = need_partial(s->r);

	if (q == NULL)
		return false;
	q->in_frame = true;
	q->opcode = h->opcode;
	q->fin = h->fin;
	q->masked = h->masked;
	q->left = (uint32_t)h->len;
	memcpy(q->mask, h->mask, sizeof(q->mask));
	if (ws_opcode_is_control(h->opcode))
		return true;
	if (h->opcode != WS_OP_CONTINUATION) {
		q->message_opcode = h->opcode;
		q->compressed = h->rsv != 0;
		q->utf8 = WS_UTF8_START;
	}
	q->fragments++;
	return true;
}

static void
turn_mask(uint8_t mask[4], size_t n)
{
	uint8_t old[4];

	memcpy(old, mask, sizeof(old));
	for (size_t i = 0; i < 4; i++)
		mask[i] = old[(i + n) & 3];
}

/* Takes what there is of the current frame's payload; NEED_MORE when all went well. */
static enum ws_event
take_payload(struct step *s)
{
	struct ws_partial *q = s->r->partial;
	bool control = ws_opcode_is_control(q->opcode);
	size_t n = (size_t)(s->end - s->p);
	uint8_t *data = s->p;

	if (n > q->left)
		n = q->left;
	if (n == 0)
		return WS_EVENT_NEED_MORE;
	s->p += n;
	if (q->masked) {
		ws_mask(data, n, q->mask, 0);
		turn_mask(q->mask, n);
	}
	if (!control && q->message_opcode == WS_OP_TEXT && !q->compressed &&
	    !ws_utf8_feed(&q->utf8, data, n))
		return fail(s, WS_CODE_BAD_UTF8, "invalid UTF-8");
	if (!need_room(s->r, s->limits, n))
		return out_of_memory(s);
	q = s->r->partial;
	memcpy(q->data + q->message_len + q->control_len, data, n);
	if (control)
		q->control_len += (uint32_t)n;
	else
		q->message_len += (uint32_t)n;
	q->left -= (uint32_t)n;
	return WS_EVENT_NEED_MORE;
}

/* The current frame's payload is complete.  NEED_MORE when its message is not. */
static enum ws_event
end_frame(struct step *s)
{
	struct ws_partial *q = s->r->partial;

	q->in_frame = false;
	if (ws_opcode_is_control(q->opcode)) {
		q->delivered = CONTROL;
		return give_control(s, q->opcode, q->data + q->message_len, q->control_len);
	}
	if (!q->fin)
		return WS_EVENT_NEED_MORE;
	if (q->message_opcode == WS_OP_TEXT && !q->compressed && !ws_utf8_complete(q->utf8))
		return fail(s, WS_CODE_BAD_UTF8, "invalid UTF-8");
	q->delivered = MESSAGE;
	return give_message(s, q->message_opcode, q->compressed, q->data, q->message_len);
}

static enum ws_event
next_event(struct step *s)
{
	struct ws_reader *r = s->r;
	struct ws_header h;
	enum ws_event ev;

	for (;;) {
		if (r->partial == NULL || !r->partial->in_frame) {
			int rc = take_header(s, &h), code;
			const char *fault;
			bool alone;

			if (rc == 0)
				return WS_EVENT_NEED_MORE;
			if (rc == -WS_CODE_INTERNAL)
				return out_of_memory(s);
			if (rc < 0)
				return fail(s, -rc, "malformed frame header");
			fault = header_fault(s, &h, &code);
			if (fault != NULL)
				return fail(s, code, fault);

			alone = ws_opcode_is_control(h.opcode) ||
			    (h.fin && h.opcode != WS_OP_CONTINUATION);
			if (alone && h.len <= (uint64_t)(s->end - s->p)) {
				/* A split header may have left an empty partial. */
				if (r->partial != NULL && r->partial->message_opcode == 0)
					drop_partial(r);
				return give_in_place(s, &h);
			}
			if (!begin_frame(s, &h))
				return out_of_memory(s);
		}
		ev = take_payload(s);
		if (ev != WS_EVENT_NEED_MORE || r->partial->left > 0)
			return ev;
		ev = end_frame(s);
		if (ev != WS_EVENT_NEED_MORE)
			return ev;
	}
}

enum ws_event
ws_reader_next(struct ws_reader *r, const struct ws_limits *limits, uint8_t *data, size_t len,
    size_t *used, struct ws_message *out)
{
	struct step s = { .r = r, .limits = limits, .p = data, .end = data, .out = out };
	enum ws_event ev;

	if (len > 0)
		s.end += len;
	*out = (struct ws_message){ .data = NULL };
	if (r->partial != NULL && r->partial->delivered != NOTHING)
		settle(r);
	if (r->ended) {
		drop_partial(r);
		*used = len;
		return WS_EVENT_NEED_MORE;
	}
	ev = next_event(&s);
	*used = (size_t)(s.p - data);
	return ev;
}
