/*
 * window.c: see window.h.  Used by gateways and storage; owns nothing.
 */
#include <string.h>

#include "base/window.h"

uint32_t *
window_row(int64_t *step, uint32_t *cells, size_t n, int64_t mono_ms)
{
	int64_t now = mono_ms / WINDOW_STEP_MS;

	if (now - *step >= WINDOW_STEPS) {
		memset(cells, 0, WINDOW_STEPS * n * sizeof(*cells));
		*step = now;
	}
	for (; *step < now; (*step)++)
		memset(cells + (size_t)((*step + 1) % WINDOW_STEPS) * n, 0, n * sizeof(*cells));
	return cells + (size_t)(*step % WINDOW_STEPS) * n;
}

bool
window_is_over(int64_t step, int64_t mono_ms)
{
	return mono_ms / WINDOW_STEP_MS - step >= WINDOW_STEPS;
}

int64_t
window_ms(int64_t mono_ms, int64_t since_mono_ms)
{
	int64_t from = (mono_ms / WINDOW_STEP_MS - (WINDOW_STEPS - 1)) * WINDOW_STEP_MS;

	return mono_ms - (from > since_mono_ms ? from : since_mono_ms);
}
