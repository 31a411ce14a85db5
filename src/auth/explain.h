/*
 * explain.h: what is wrong with a token, in words for the person who made
 * it; for `belayctl probe`.  No server process uses it: a client is told far
 * less.
 */
#ifndef BELAY_AUTH_EXPLAIN_H
#define BELAY_AUTH_EXPLAIN_H

#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

struct auth_config;

/* In the order in which they are looked for. */
enum explain_fault {
#define EXPLAIN(name, words) EXPLAIN_##name,
#include "auth/explain.def"
#undef EXPLAIN
	EXPLAIN_COUNT
};

#define EXPLAIN_BIT(name) (UINT64_C(1) << EXPLAIN_##name)
_Static_assert(EXPLAIN_COUNT <= 64, "one bit for each fault");

/*
 * Looks at the token and appends lines (each ended by \n) to out: what it says of
 * itself, then each fault found and what to do about it.  secret may be SLICE_NONE;
 * config gives claim paths and default tenant, and may be NULL.  Returns a set of
 * EXPLAIN_BIT(…); 0: no fault seen.  The token itself is not printed.
 */
uint64_t explain_token(struct slice token, struct slice secret, const struct auth_config *config,
    int64_t now_ms, struct buf *out);

#endif
