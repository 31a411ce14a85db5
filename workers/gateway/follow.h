/*
 * follow.h: the requests of dashboards that are answered at every change of a command: which id was
 * theirs.
 *
 * An entry is made with the first answer and goes with the command's end; after a timeout it waits
 * FOLLOW_LATE_MS for a late result.  What belongs to connections that are gone is thrown out when
 * room is wanted.  A table that is full (FOLLOW_MAX) takes no more: those requests have the id in
 * their first answer alone.
 */
#ifndef BELAY_GATEWAY_FOLLOW_H
#define BELAY_GATEWAY_FOLLOW_H

#include <stdint.h>

#include "base/slice.h"
#include "base/uuid.h"

struct conn;
struct follow;
struct gateway;

#define FOLLOW_MAX	65536
#define FOLLOW_LATE_MS	(24 * 3600 * INT64_C(1000))	/* as long as a device is asked again */

struct follow_table {
	struct follow **buckets;
	uint32_t bucket_count, count;
	int64_t swept_ms;		/* monotonic: when it was last looked through */
};

void follow_init(struct follow_table *t);
void follow_fini(struct follow_table *t);
/* This connection's request with the id re is about that command; a second one takes the first one's place. */
void follow_add(struct gateway *g, const struct conn *c, const uint8_t command[UUID_LEN], struct slice re);
/* The id under which this connection asked for the command: none when it did not, or without one. */
struct slice follow_re(struct gateway *g, const struct conn *c, const uint8_t command[UUID_LEN]);
/* The command's time is over: a late result may still come. */
void follow_timed_out(struct gateway *g, const uint8_t command[UUID_LEN]);
/* Nothing more will be told of it. */
void follow_end(struct gateway *g, const uint8_t command[UUID_LEN]);

#endif
