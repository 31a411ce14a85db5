/*
 * schedule.c: how long a fetched key set is good for, and how long to wait after a failure.  The
 * keys process; owns nothing, asks no clock.
 */
#include <stdbool.h>
#include <strings.h>

#include "base/text.h"
#include "keys/schedule.h"

#define SECONDS_MAX ((int64_t)1 << 31)	/* RFC 9111 section 1.2.2: what is larger is this */

/* The next directive; commas inside of quotes do not end it. */
static bool
next_directive(struct slice *list, struct slice *out)
{
	bool quoted = false;
	size_t i = 0;

	if (list->len == 0)
		return false;
	for (; i < list->len && (quoted || list->p[i] != ','); i++) {
		if (quoted && list->p[i] == '\\' && i + 1 < list->len)
			i++;
		else if (list->p[i] == '"')
			quoted = !quoted;
	}
	*out = text_trim((struct slice){ list->p, i });
	if (i < list->len)
		i++;
	list->p += i;
	list->len -= i;
	return true;
}

/* delta-seconds, bare or quoted; -1: not such. */
static int64_t
seconds(struct slice s)
{
	int64_t v = 0;

	if (s.len >= 2 && s.p[0] == '"' && s.p[s.len - 1] == '"') {
		s.p++;
		s.len -= 2;
	}
	if (s.len == 0)
		return -1;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -1;
		v = v * 10 + (s.p[i] - '0');
		if (v > SECONDS_MAX)
			v = SECONDS_MAX;
	}
	return v;
}

int64_t
schedule_lifetime_ms(struct slice cache_control, int64_t age_s, int64_t standard_ms)
{
	static const char name[] = "max-age=";
	const size_t len = sizeof(name) - 1;
	struct slice directive;
	int64_t least = -1;

	while (next_directive(&cache_control, &directive)) {
		int64_t v;

		if (directive.len <= len || strncasecmp(directive.p, name, len) != 0)
			continue;
		v = seconds((struct slice){ directive.p + len, directive.len - len });
		if (v >= 0 && (least < 0 || v < least))
			least = v;
	}
	if (least < 0)
		return standard_ms;
	least -= age_s > 0 && age_s < SECONDS_MAX ? age_s : 0;
	if (least <= SCHEDULE_LIFETIME_MIN_MS / 1000)
		return SCHEDULE_LIFETIME_MIN_MS;
	if (least >= SCHEDULE_LIFETIME_MAX_MS / 1000)
		return SCHEDULE_LIFETIME_MAX_MS;
	return least * 1000;
}

int64_t
schedule_back_off_ms(unsigned failures, uint32_t random)
{
	int64_t ms = SCHEDULE_BACK_OFF_MIN_MS;

	for (; failures > 1 && ms < SCHEDULE_BACK_OFF_MAX_MS; failures--)
		ms *= 2;
	if (ms > SCHEDULE_BACK_OFF_MAX_MS)
		ms = SCHEDULE_BACK_OFF_MAX_MS;
	return ms + ms * (random % 1024) / 4096;
}
