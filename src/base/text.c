/*
 * text.c: the form of ids and tokens.  Every process; owns nothing.
 */
#include <string.h>

#include "base/text.h"

const bool text_in_token[256] = {
	['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true,
	['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true, ['&'] = true, ['\''] = true, ['*'] = true,
	['+'] = true, ['-'] = true, ['.'] = true, ['^'] = true, ['_'] = true, ['`'] = true, ['|'] = true,
	['~'] = true,
};

static const bool in_id[256] = {
	['a' ... 'z'] = true, ['A' ... 'Z'] = true, ['0' ... '9'] = true,
	['.'] = true, ['_'] = true, [':'] = true, ['@'] = true, ['|'] = true, ['+'] = true,
	['='] = true, ['-'] = true,
};

bool
text_is_id(struct slice s, size_t max)
{
	if (s.len == 0 || s.len > max)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (!in_id[(unsigned char)s.p[i]])
			return false;
	return true;
}

bool
text_is_like(struct slice s, struct slice pattern)
{
	size_t n = pattern.len;

	if (n == 0 || pattern.p[n - 1] != '*')
		return slice_eq(s, pattern);
	return s.len >= n - 1 && memcmp(s.p, pattern.p, n - 1) == 0;
}
