/*
 * utf8.h: streaming validation of UTF-8 (RFC 3629: no overlong forms, no
 * surrogates, nothing above U+10FFFF).
 */
#ifndef BELAY_WS_UTF8_H
#define BELAY_WS_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_UTF8_START 0		/* also: at the end of a character */

/*
 * Reads n more bytes.  *state begins as WS_UTF8_START and is kept between calls.
 * False as soon as the bytes so far can't begin any valid text; it stays false.
 */
bool ws_utf8_feed(uint32_t *state, const uint8_t *p, size_t n);

/* Whether a text may end here: not inside a character. */
static inline bool
ws_utf8_complete(uint32_t state)
{
	return state == WS_UTF8_START;
}

/* A whole text at once. */
bool ws_utf8_valid(const uint8_t *p, size_t n);

#endif
