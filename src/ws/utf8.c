/*
 * utf8.c: streaming validation of UTF-8.
 *
 * A finite automaton of nine states.  A state is a shift count, and each byte
 * has a 64-bit row that holds the next state for every state at that shift, so a
 * step is one load and one shift.  Runs of ASCII are passed over by the word.
 */
#include <string.h>

#include "ws/utf8.h"

/* What must come next.  One row holds nine six-bit states. */
enum {
	START = 6 * 0,	/* a first byte */
	BAD   = 6 * 1,
	CONT1 = 6 * 2,	/* 80-BF, then START */
	CONT2 = 6 * 3,	/* 80-BF, then CONT1 */
	CONT3 = 6 * 4,	/* 80-BF, then CONT2 */
	AFTER_E0 = 6 * 5,	/* A0-BF, then CONT1: nothing overlong */
	AFTER_ED = 6 * 6,	/* 80-9F, then CONT1: no surrogates */
	AFTER_F0 = 6 * 7,	/* 90-BF, then CONT2: nothing overlong */
	AFTER_F4 = 6 * 8	/* 80-8F, then CONT2: nothing above U+10FFFF */
};

_Static_assert(START == WS_UTF8_START, "the state that utf8.h promises");

#define IN(state, next) ((uint64_t)(next) << (state))
#define ALL_BAD (IN(BAD, BAD) | IN(CONT1, BAD) | IN(CONT2, BAD) | IN(CONT3, BAD) | \
	IN(AFTER_E0, BAD) | IN(AFTER_ED, BAD) | IN(AFTER_F0, BAD) | IN(AFTER_F4, BAD))

/* A first byte: good in START only. */
#define FIRST(next) (ALL_BAD | IN(START, next))

/* A continuation byte: never in START. */
#define CONT(e0, ed, f0, f4) (IN(START, BAD) | IN(BAD, BAD) | \
	IN(CONT1, START) | IN(CONT2, CONT1) | IN(CONT3, CONT2) | \
	IN(AFTER_E0, e0) | IN(AFTER_ED, ed) | IN(AFTER_F0, f0) | IN(AFTER_F4, f4))

static const uint64_t next_state[256] = {
	[0x00 ... 0x7f] = FIRST(START),
	[0x80 ... 0x8f] = CONT(BAD, CONT1, BAD, CONT2),
	[0x90 ... 0x9f] = CONT(BAD, CONT1, CONT2, BAD),
	[0xa0 ... 0xbf] = CONT(CONT1, BAD, CONT2, BAD),
	[0xc0 ... 0xc1] = FIRST(BAD),
	[0xc2 ... 0xdf] = FIRST(CONT1),
	[0xe0] = FIRST(AFTER_E0),
	[0xe1 ... 0xec] = FIRST(CONT2),
	[0xed] = FIRST(AFTER_ED),
	[0xee ... 0xef] = FIRST(CONT2),
	[0xf0] = FIRST(AFTER_F0),
	[0xf1 ... 0xf3] = FIRST(CONT3),
	[0xf4] = FIRST(AFTER_F4),
	[0xf5 ... 0xff] = FIRST(BAD)
};

#define HIGH_BITS 0x8080808080808080u

static uint64_t
word_at(const uint8_t *p)
{
	uint64_t w;

	memcpy(&w, p, sizeof(w));
	return w;
}

/* The first byte from p on that may not be ASCII; at most 7 bytes too early. */
static const uint8_t *
skip_ascii(const uint8_t *p, const uint8_t *end)
{
	while (end - p >= 32 &&
	    ((word_at(p) | word_at(p + 8) | word_at(p + 16) | word_at(p + 24)) & HIGH_BITS) == 0)
		p += 32;
	while (end - p >= 8 && (word_at(p) & HIGH_BITS) == 0)
		p += 8;
	return p;
}

bool
ws_utf8_feed(uint32_t *state, const uint8_t *p, size_t n)
{
	const uint8_t *end = p + n;
	uint64_t s = *state;

	while (p < end) {
		if (s == START) {
			p = skip_ascii(p, end);
			if (p == end)
				break;
		}
		/* To the end of this run: back to skipping when a character ended before ASCII. */
		do {
			s = next_state[*p++] >> s & 63;
		} while (p < end && !(s == START && *p < 0x80 && end - p >= 8));
	}
	*state = (uint32_t)s;
	return s != BAD;
}

bool
ws_utf8_valid(const uint8_t *p, size_t n)
{
	uint32_t state = WS_UTF8_START;

	return ws_utf8_feed(&state, p, n) && ws_utf8_complete(state);
}
