/*
 * frame.h: the frame header and the mask (RFC 6455 sections 5.2, 5.3).
 *
 *   byte 0   FIN RSV1 RSV2 RSV3 | opcode
 *   byte 1   MASK | length 0-125, or 126: 16 bits follow, 127: 64 bits follow
 *   then     the longer length, big endian; 4 bytes of mask; payload
 */
#ifndef BELAY_WS_FRAME_H
#define BELAY_WS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ws_opcode {
	WS_OP_CONTINUATION = 0,
	WS_OP_TEXT = 1,
	WS_OP_BINARY = 2,
	WS_OP_CLOSE = 8,
	WS_OP_PING = 9,
	WS_OP_PONG = 10
};

/* Bits of the first byte. */
#define WS_FIN	0x80
#define WS_RSV1	0x40	/* compressed message (RFC 7692 section 6) */
#define WS_RSV2	0x20
#define WS_RSV3	0x10

#define WS_HEADER_MAX 14

struct ws_header {
	uint64_t len;		/* payload bytes */
	uint8_t opcode;
	uint8_t rsv;		/* WS_RSV1 | WS_RSV2 | WS_RSV3 */
	bool fin;
	bool masked;
	uint8_t mask[4];	/* zero when not masked */
};

static inline bool
ws_opcode_is_control(uint8_t opcode)
{
	return (opcode & 8) != 0;
}

/*
 * Parses a header from the n bytes at p.  Returns its length (2-14); 0 when
 * more bytes are needed; -WS_CODE_PROTOCOL, as early as it can be known, for a
 * reserved opcode, a control frame that is fragmented or longer than 125 bytes
 * or has a reserved bit, a length that is not in its shortest form or has its
 * top bit set.  Whether RSV1 and the mask are right is for the caller to judge,
 * who knows what was negotiated and which side it is.
 */
int ws_header_parse(const uint8_t *p, size_t n, struct ws_header *h);

/*
 * Writes a header and returns its length.  first is WS_FIN, WS_RSV1 and the
 * opcode joined; mask is NULL in a server.
 */
size_t ws_header_put(uint8_t out[WS_HEADER_MAX], uint8_t first, uint64_t len,
    const uint8_t mask[4]);

/*
 * Masks or unmasks n bytes in place; the first of them is byte number offset of
 * the payload.  p needs no alignment.
 */
void ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], size_t offset);

#endif
