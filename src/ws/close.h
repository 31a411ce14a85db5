/*
 * close.h: close codes and the close handshake (RFC 6455 sections 5.5.1, 7).
 *
 * close.def expands into two enumerations.  WS_CLOSE_x names a row (a reason
 * of ours, the thing to pass around); WS_CODE_x is that row's number on the
 * wire, and several of those may be equal.
 *
 * The handshake, for either side:
 *   1. To close, send a close frame (ws_close_put()) and nothing after it.
 *   2. A close frame received first is answered with ws_close_reply(); one
 *      received after ours needs no answer.
 *   3. The server closes TCP then; the client waits for that.
 */
#ifndef BELAY_WS_CLOSE_H
#define BELAY_WS_CLOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ws_close {
	WS_CLOSE_NONE,		/* no reason yet */
#define X(code, name, reason, advice) WS_CLOSE_##name,
#include "ws/close.def"
#undef X
	WS_CLOSE_COUNT
};

enum ws_code {
#define X(code, name, reason, advice) WS_CODE_##name = code,
#include "ws/close.def"
#undef X
	/* Never on the wire: a close frame without a code; an end without a close frame. */
	WS_CODE_NO_STATUS = 1005,
	WS_CODE_ABNORMAL = 1006
};

/* A control frame's payload is at most 125 bytes; a close reason at most 123 (section 5.5). */
#define WS_CONTROL_MAX	125
#define WS_REASON_MAX	123
#define WS_CLOSE_FRAME_MAX (6 + WS_CONTROL_MAX)	/* header with mask, payload */

/* Facts of a row.  WS_CLOSE_NONE: WS_CODE_NO_STATUS and empty strings. */
uint16_t ws_close_code(enum ws_close why);
const char *ws_close_reason(enum ws_close why);
const char *ws_close_advice(enum ws_close why);
const char *ws_close_name(enum ws_close why);		/* "TOKEN_EXPIRED", for logs and counters */

/* The first row with this code; WS_CLOSE_NONE when there is none. */
enum ws_close ws_close_of(uint16_t code);

/*
 * The code for peers that know only those of RFC 6455 section 7.4.1: 1012 and 1013, which were
 * registered later, become 1001; all others stay.
 */
uint16_t ws_close_classic(uint16_t code);

/* Whether a peer may send this code: 1000-1003, 1007-1014, 3000-4999. */
bool ws_close_valid_on_wire(uint16_t code);

/*
 * Judges the payload of a received close frame.  Returns 0 and the code
 * (WS_CODE_NO_STATUS for an empty payload) with the reason, pointing into p; or
 * the code to fail the connection with: WS_CODE_PROTOCOL (one byte alone, a code
 * that may not be sent), WS_CODE_BAD_UTF8.
 */
int ws_close_parse(const uint8_t *p, size_t len, uint16_t *code, const uint8_t **reason,
    size_t *reason_len);

/*
 * Writes a whole close frame and returns its length.  WS_CODE_NO_STATUS and
 * WS_CODE_ABNORMAL write one without payload.  A reason longer than
 * WS_REASON_MAX is cut at a character.  mask: four random bytes in a client,
 * NULL in a server.
 */
size_t ws_close_put(uint8_t out[WS_CLOSE_FRAME_MAX], uint16_t code, const char *reason,
    size_t reason_len, const uint8_t mask[4]);

/* The answer to a received close frame that carried code (section 5.5.1: it echoes the code). */
size_t ws_close_reply(uint8_t out[WS_CLOSE_FRAME_MAX], uint16_t code, const uint8_t mask[4]);

#endif
