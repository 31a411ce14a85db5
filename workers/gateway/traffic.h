/*
 * traffic.h: what the clients of each tenant said and were answered in the newest minutes, in one gateway process.
 */
#ifndef BELAY_GATEWAY_TRAFFIC_H
#define BELAY_GATEWAY_TRAFFIC_H

#include <stdint.h>

#include "base/slice.h"
#include "base/window.h"
#include "msg/error.h"

struct conn;
struct gateway;
struct msg_user_done;
struct tenant;

enum traffic_count {
	TRAFFIC_ACCEPTED,		/* WebSocket connections */
	TRAFFIC_RECEIVED, TRAFFIC_SENT,	/* messages */
	TRAFFIC_INVALID,		/* messages that were none */
	TRAFFIC_REFUSED,		/* these, and HTTP answers of 400 to 499 */
	TRAFFIC_HTTP_5XX,
	TRAFFIC_FAILED,			/* these, and messages answered with `unavailable` or `internal` */
	TRAFFIC_UNAVAILABLE,		/* requests and messages answered with `unavailable` */
	TRAFFIC_COUNTS
};

/* Of one tenant; part of struct tenant.  All zero: nothing. */
struct traffic {
	int64_t step;
	uint32_t counts[WINDOW_STEPS][TRAFFIC_COUNTS];
};

/* t may be NULL: nobody's. */
void traffic_count(struct gateway *g, struct tenant *t, enum traffic_count what);
/* A message is answered with this error. */
void traffic_count_error(struct gateway *g, const struct conn *c, enum error_code code);
/* The request in hand is answered with this status. */
void traffic_count_response(struct gateway *g, const struct conn *c, int status, enum error_code code);

/* Of one tenant or several, in one process or several. */
struct traffic_sum {
	uint64_t counts[TRAFFIC_COUNTS];
	double per_second[TRAFFIC_COUNTS];
	int64_t window_ms;		/* the shortest of the processes'; 0: none yet */
	uint32_t connections;		/* WebSocket connections open now */
};
void traffic_add(struct gateway *g, uint64_t counts[TRAFFIC_COUNTS], struct tenant *t);
void traffic_sum_add(struct traffic_sum *sum, const struct msg_user_done *m);

#endif
