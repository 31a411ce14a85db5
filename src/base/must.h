/*
 * must.h: what must hold, and memory that must be had.
 *
 * must() is always compiled in and its condition has no side effects.  When
 * it does not hold the fault is ours: the process says where and aborts; the
 * master restarts it.
 */
#ifndef BELAY_BASE_MUST_H
#define BELAY_BASE_MUST_H

#include <stddef.h>

#define must(condition) \
	((condition) ? (void)0 : must_fail(#condition, __FILE__, __LINE__))

/* For must() alone: logs what did not hold, and where, and aborts. */
_Noreturn void must_fail(const char *what, const char *file, int line);

void *must_alloc(size_t n);		/* zeroed; never NULL */
void *must_realloc(void *p, size_t n);	/* never NULL */
char *must_strndup(const char *p, size_t len);

#endif
