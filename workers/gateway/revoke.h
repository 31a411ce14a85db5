/*
 * revoke.h: what a key let in ends with the key.
 *
 * A session and a request remember by which key of the settings they came (identity.h).  Where that
 * key is neither in the settings nor in a key set any more, or its issuer may not name their tenant or
 * role any more, the session is closed with 1008 `Invalid token` and the request answered with 401:
 * within a second of the change, REVOKE_STEP of them in each tick.
 */
#ifndef BELAY_GATEWAY_REVOKE_H
#define BELAY_GATEWAY_REVOKE_H

#include <stdint.h>

struct gateway;

#define REVOKE_STEP 5000		/* ends in one tick, so that the others are served meanwhile */

struct revoke {
	unsigned version;		/* of the keys (auth_keys_version()) that connections were held against */
	uint32_t next;			/* index of the next connection to be looked at */
	uint32_t ended;			/* by this version */
};

/*
 * Every tick.  What is opened later is held against the keys when it is opened, so that each change
 * takes one pass over the connections that were there.
 */
void revoke_tick(struct gateway *g);

#endif
