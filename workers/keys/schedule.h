/*
 * schedule.h: when a key set is fetched next.  Arithmetic only.
 */
#ifndef BELAY_KEYS_SCHEDULE_H
#define BELAY_KEYS_SCHEDULE_H

#include <stdint.h>

#include "base/slice.h"

#define SCHEDULE_LIFETIME_MIN_MS	60000
#define SCHEDULE_LIFETIME_MAX_MS	86400000
#define SCHEDULE_BACK_OFF_MIN_MS	1000
#define SCHEDULE_BACK_OFF_MAX_MS	60000

/*
 * How long an answer is good for: max-age of its Cache-Control (RFC 9111 section 5.2.2.1; all lines
 * joined by commas) less its Age in seconds, within the limits above; without a max-age that is
 * one, standard_ms as it is.
 */
int64_t schedule_lifetime_ms(struct slice cache_control, int64_t age_s, int64_t standard_ms);

/*
 * The pause after that many failures in a row (1: the first): doubling, and up to a quarter longer
 * by `random`, so that many instances do not come at once.
 */
int64_t schedule_back_off_ms(unsigned failures, uint32_t random);

#endif
