/*
 * sha1.c: SHA-1 (FIPS 180-4), for the accept key of the handshake (RFC 6455
 * section 1.3), where it guards against no one.  It is here so that the codec
 * needs no cryptographic library; never use it for anything secret.
 */
#include <string.h>

#include "ws/sha1.h"

static uint32_t
rotate(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

static void
add_block(uint32_t h[5], const uint8_t block[64])
{
	uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];

	for (int i = 0; i < 16; i++, block += 4)
		w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 |
		    (uint32_t)block[2] << 8 | block[3];
	for (int i = 16; i < 80; i++)
		w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);

	for (int i = 0; i < 80; i++) {
		uint32_t f, k, t;

		if (i < 20)
			f = (b & c) | (~b & d), k = 0x5a827999;
		else if (i < 40)
			f = b ^ c ^ d, k = 0x6ed9eba1;
		else if (i < 60)
			f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
		else
			f = b ^ c ^ d, k = 0xca62c1d6;
		t = rotate(a, 5) + f + e + k + w[i];
		e = d, d = c, c = rotate(b, 30), b = a, a = t;
	}
	h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

void
ws_sha1(const void *data, size_t len, uint8_t digest[WS_SHA1_LEN])
{
	uint32_t h[5] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 };
	const uint8_t *p = data;
	uint64_t bits = (uint64_t)len * 8;
	uint8_t last[128] = { 0 };
	size_t left = len, tail;

	for (; left >= 64; p += 64, left -= 64)
		add_block(h, p);

	/* The rest, a one bit, zeros, and the length in bits fill one block or two. */
	if (left > 0)
		memcpy(last, p, left);
	last[left] = 0x80;
	tail = left < 56 ? 64 : 128;
	for (int i = 0; i < 8; i++)
		last[tail - 1 - i] = (uint8_t)(bits >> (8 * i));
	add_block(h, last);
	if (tail == 128)
		add_block(h, last + 64);

	for (int i = 0; i < WS_SHA1_LEN; i++)
		digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}
