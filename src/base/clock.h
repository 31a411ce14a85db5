/*
 * clock.h: time.  Wall-clock times are int64_t milliseconds since 1970 UTC
 * (`at_ms`); intervals and deadlines inside one machine use the monotonic
 * clock (`mono_ms`), which all processes share.
 */
#ifndef BELAY_BASE_CLOCK_H
#define BELAY_BASE_CLOCK_H

#include <stdint.h>

#include "base/slice.h"

int64_t clock_now_ms(void);		/* CLOCK_REALTIME */
int64_t clock_mono_ms(void);		/* CLOCK_MONOTONIC */
int64_t clock_mono_us(void);
/* CLOCK_BOOTTIME: nobody sets it, and it goes on while the machine is suspended. */
int64_t clock_boot_ms(void);

#define CLOCK_TEXT_LEN 24		/* "2026-01-31T12:00:00.123Z" */

/* RFC 3339 UTC with milliseconds; out has room for CLOCK_TEXT_LEN + 1. */
void clock_format(int64_t at_ms, char out[CLOCK_TEXT_LEN + 1]);
/* RFC 3339 date-time (any offset, 0-9 fraction digits) to ms; -1 when it is not one. */
int clock_parse(struct slice text, int64_t *at_ms);

#endif
