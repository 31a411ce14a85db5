/*
 * frame.c: frame headers and masking.  Pure functions: they keep nothing and
 * allocate nothing.
 */
#include <string.h>

#include "ws/close.h"
#include "ws/frame.h"

static bool
opcode_known(uint8_t opcode)
{
	return opcode <= WS_OP_BINARY || (opcode >= WS_OP_CLOSE && opcode <= WS_OP_PONG);
}

int
ws_header_parse(const uint8_t *p, size_t n, struct ws_header *h)
{
	size_t used = 2;
	uint8_t first, len7;

	if (n < 1)
		return 0;
	first = p[0];
	h->fin = (first & WS_FIN) != 0;
	h->rsv = first & (WS_RSV1 | WS_RSV2 | WS_RSV3);
	h->opcode = first & 0x0f;
	if (!opcode_known(h->opcode))
		return -WS_CODE_PROTOCOL;
	if (ws_opcode_is_control(h->opcode) && (!h->fin || h->rsv != 0))
		return -WS_CODE_PROTOCOL;

	if (n < 2)
		return 0;
	h->masked = (p[1] & 0x80) != 0;
	len7 = p[1] & 0x7f;
	if (ws_opcode_is_control(h->opcode) && len7 > WS_CONTROL_MAX)
		return -WS_CODE_PROTOCOL;

	if (len7 < 126) {
		h->len = len7;
	} else if (len7 == 126) {
		if (n < 4)
			return 0;
		h->len = (uint64_t)p[2] << 8 | p[3];
		if (h->len < 126)
			return -WS_CODE_PROTOCOL;
		used = 4;
	} else {
		if (n < 10)
			return 0;
		h->len = 0;
		for (int i = 2; i < 10; i++)
			h->len = h->len << 8 | p[i];
		if (h->len < 65536 || h->len >> 63 != 0)
			return -WS_CODE_PROTOCOL;
		used = 10;
	}

	memset(h->mask, 0, sizeof(h->mask));
	if (h->masked) {
		if (n < used + 4)
			return 0;
		memcpy(h->mask, p + used, 4);
		used += 4;
	}
	return (int)used;
}

size_t
ws_header_put(uint8_t out[WS_HEADER_MAX], uint8_t first, uint64_t len, const uint8_t mask[4])
{
	uint8_t masked = mask != NULL ? 0x80 : 0;
	size_t n;

	out[0] = first;
	if (len < 126) {
		out[1] = masked | (uint8_t)len;
		n = 2;
	} else if (len < 65536) {
		out[1] = masked | 126;
		out[2] = (uint8_t)(len >> 8);
		out[3] = (uint8_t)len;
		n = 4;
	} else {
		out[1] = masked | 127;
		for (int i = 0; i < 8; i++)
			out[2 + i] = (uint8_t)(len >> (56 - 8 * i));
		n = 10;
	}
	if (mask != NULL) {
		memcpy(out + n, mask, 4);
		n += 4;
	}
	return n;
}

/* 32 bytes at a time, as two or one vector registers or four words, as the machine has them. */
typedef uint64_t mask_block __attribute__((vector_size(32)));

void
ws_mask(uint8_t *p, size_t n, const uint8_t mask[4], size_t offset)
{
	uint8_t turned[4];
	uint32_t m;
	uint64_t m8, w;

	for (size_t i = 0; i < 4; i++)
		turned[i] = mask[(offset + i) & 3];
	memcpy(&m, turned, 4);
	m8 = (uint64_t)m << 32 | m;

	for (; n >= sizeof(mask_block); p += sizeof(mask_block), n -= sizeof(mask_block)) {
		mask_block b;

		memcpy(&b, p, sizeof(b));
		b ^= (mask_block){ m8, m8, m8, m8 };
		memcpy(p, &b, sizeof(b));
	}
	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&w, p, 8);
		w ^= m8;
		memcpy(p, &w, 8);
	}
	for (size_t i = 0; i < n; i++)
		p[i] ^= turned[i & 3];
}
