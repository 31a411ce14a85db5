/*
 * window.h: counts over the newest minutes: a row of counts for each step of the clock, the oldest
 * given up for the newest.
 *
 * The steps are those of the machine's clock, so that all processes of an instance look at the same time.  Every count
 * within the window is exact; how long it is depends on how far the newest step has come (window_ms()).
 */
#ifndef BELAY_BASE_WINDOW_H
#define BELAY_BASE_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOW_STEP_MS	30000
#define WINDOW_STEPS	11		/* five minutes, and what is counted in the newest step */

/*
 * The row to count in, of WINDOW_STEPS rows of n counts that begin at cells; rows that the clock has left behind become
 * 0.  *step belongs to them; both begin as 0.
 */
uint32_t *window_row(int64_t *step, uint32_t *cells, size_t n, int64_t mono_ms);
/* Is there nothing left of what was counted last at *step? */
bool window_is_over(int64_t step, int64_t mono_ms);
/* How far back the window reaches now; not further than since_mono_ms, when counting began. */
int64_t window_ms(int64_t mono_ms, int64_t since_mono_ms);

#endif
