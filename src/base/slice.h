/*
 * slice.h: a borrowed run of bytes.
 *
 * A slice owns nothing: it is valid as long as the buffer it points into.
 * It is not NUL-terminated and may hold any byte.
 */
#ifndef BELAY_BASE_SLICE_H
#define BELAY_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
	const char *p;
	size_t len;
};

#define SLICE(literal) ((struct slice){ (literal), sizeof(literal) - 1 })
#define SLICE_NONE     ((struct slice){ NULL, 0 })

/* A slice of a NUL-terminated string; NULL gives the empty slice. */
static inline struct slice
slice_of(const char *s)
{
	return (struct slice){ s, s != NULL ? strlen(s) : 0 };
}

static inline struct slice
slice_bytes(const void *p, size_t len)
{
	return (struct slice){ p, len };
}

static inline bool
slice_eq(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool
slice_is(struct slice a, const char *s)
{
	return slice_eq(a, slice_of(s));
}

#endif
