/*
 * reader.h: from received bytes to messages (RFC 6455 sections 5 to 8).
 *
 * The reader keeps whatever is unfinished itself, so the caller can read every
 * connection into one buffer of the process.  A frame that lies whole in that
 * buffer is unmasked in place and handed out from there; only what is split is
 * copied to the heap, as much as arrived, and freed when the message is done.
 * An idle reader owns no memory.
 *
 *	do {
 *		ev = ws_reader_next(&c->reader, &limits, p, n, &used, &m);
 *		p += used, n -= used;
 *		... act on ev ...
 *	} while (ev != WS_EVENT_NEED_MORE);
 *
 * The loop must end with WS_EVENT_NEED_MORE (or ws_reader_fini()): that call
 * gives back what the last message occupied.
 */
#ifndef BELAY_WS_READER_H
#define BELAY_WS_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ws_inflate;
struct ws_partial;

/* Shared by all connections of a kind; read only. */
struct ws_limits {
	uint32_t max_message;		/* bytes of a message, inflated; at most WS_MESSAGE_MAX */
	uint32_t max_fragments;		/* frames of a message, empty ones too; at least 1 */
	bool client;			/* we are the client: frames come unmasked */
	struct ws_inflate *inflate;	/* one per process; NULL: no compressed message is taken */
};

#define WS_MESSAGE_MAX (1u << 30)

/* One per connection, embedded in it. */
struct ws_reader {
	struct ws_partial *partial;	/* owned; NULL unless a frame or message is unfinished */
	bool deflate;			/* permessage-deflate was negotiated */
	bool ended;			/* a CLOSE or ERROR was given */
};

enum ws_event {
	WS_EVENT_NEED_MORE,	/* all bytes were taken */
	WS_EVENT_TEXT,		/* valid UTF-8 */
	WS_EVENT_BINARY,
	WS_EVENT_PING,		/* data, at most 125 bytes: to be sent back as a pong */
	WS_EVENT_PONG,
	WS_EVENT_CLOSE,		/* code (WS_CODE_NO_STATUS: it had none); data: the reason */
	WS_EVENT_ERROR		/* code: to close with; why: for the log */
};

struct ws_message {
	/* borrowed until the next call for this reader (compressed: for this inflate) */
	uint8_t *data;
	size_t len;
	uint16_t code;		/* CLOSE and ERROR */
	const char *why;	/* ERROR: a constant string */
	bool compressed;	/* it came compressed */
};

/* deflate: permessage-deflate was negotiated on this connection. */
void ws_reader_init(struct ws_reader *r, bool deflate);
void ws_reader_fini(struct ws_reader *r);

/*
 * Takes bytes of data (it may change them: unmasking), sets *used to how many,
 * and returns one event.  Control frames between fragments are given when they
 * come.  Bad bytes are an error as soon as they arrived, also in an unfinished
 * frame.  After CLOSE or ERROR everything is swallowed unread.
 *
 * Error codes: WS_CODE_PROTOCOL, WS_CODE_BAD_UTF8, WS_CODE_TOO_BIG (message or
 * number of fragments, judged by the header, before the payload came),
 * WS_CODE_INTERNAL (out of memory).
 */
enum ws_event ws_reader_next(struct ws_reader *r, const struct ws_limits *limits, uint8_t *data,
    size_t len, size_t *used, struct ws_message *out);

/* Bytes on the heap for what is unfinished: 0 when idle. */
size_t ws_reader_memory(const struct ws_reader *r);

/* Whether a frame or a fragmented message has begun and not ended (a stalled peer). */
bool ws_reader_unfinished(const struct ws_reader *r);

#endif
