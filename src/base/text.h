/*
 * text.h: what single characters and short texts are, for all who read text of peers and settings.
 * Pure functions.
 */
#ifndef BELAY_BASE_TEXT_H
#define BELAY_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

/* The value of a hexadecimal digit of either case, or -1. */
static inline int
text_hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* May it be part of a token (RFC 9110 section 5.6.2)? */
extern const bool text_in_token[256];
static inline bool text_is_token_char(char c) { return text_in_token[(unsigned char)c]; }

/* Without the spaces and tabs at both ends. */
static inline struct slice
text_trim(struct slice s)
{
	while (s.len > 0 && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.len--;
	}
	while (s.len > 0 && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/*
 * The length of the well-formed UTF-8 sequence at p (RFC 3629 section 4), of which n > 0 bytes are
 * there; 0: ill-formed or cut.
 */
static inline size_t
text_utf8_len(const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (u[0] < 0x80)
		return 1;
	if (u[0] >= 0xc2 && u[0] <= 0xdf) {
		len = 2;
	} else if (u[0] >= 0xe0 && u[0] <= 0xef) {
		len = 3;
		low = u[0] == 0xe0 ? 0xa0 : low;	/* nothing overlong */
		high = u[0] == 0xed ? 0x9f : high;	/* no surrogates */
	} else if (u[0] >= 0xf0 && u[0] <= 0xf4) {
		len = 4;
		low = u[0] == 0xf0 ? 0x90 : low;
		high = u[0] == 0xf4 ? 0x8f : high;	/* nothing above U+10FFFF */
	} else
		return 0;
	if (n < len || u[1] < low || u[1] > high)
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

/* Is it an id of the protocol: 1 to max characters of [A-Za-z0-9._:@|+=-]? */
bool text_is_id(struct slice s, size_t max);

/* Is it the pattern, or, where that ends with a *, does it begin so? */
bool text_is_like(struct slice s, struct slice pattern);

#endif
