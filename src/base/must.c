/*
 * must.c: ends the process when the fault is ours, and memory that must be had.
 *
 * Used by every process.  Owns nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/must.h"

_Noreturn void
must_fail(const char *what, const char *file, int line)
{
	log_error("%s:%d: does not hold: %s", file, line, what);
	abort();
}

static _Noreturn void
out_of_memory(size_t n)
{
	log_error("out of memory: %zu bytes were asked for", n);
	abort();
}

void *
must_alloc(size_t n)
{
	void *p = calloc(1, n > 0 ? n : 1);

	if (p == NULL)
		out_of_memory(n);
	return p;
}

void *
must_realloc(void *p, size_t n)
{
	p = realloc(p, n > 0 ? n : 1);
	if (p == NULL)
		out_of_memory(n);
	return p;
}

char *
must_strndup(const char *p, size_t len)
{
	char *copy = must_alloc(len + 1);

	if (len > 0)
		memcpy(copy, p, len);
	return copy;
}
