/*
 * dashboard.h: what a user's connection asks for, and which devices it wants to hear of.
 */
#ifndef BELAY_GATEWAY_DASHBOARD_H
#define BELAY_GATEWAY_DASHBOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/slice.h"

struct conn;
struct envelope_fault;
struct gateway;

/*
 * Which devices are wanted: only those listed, or all but those listed.  Keys are the directory's,
 * sorted; names stand behind them for the answer: each a length byte and its bytes.
 */
struct filter {
	int64_t behind;			/* what is published up to this place was replayed; 0: nothing was */
	uint32_t count;
	bool except;
	uint32_t names_len;
	struct hash128 keys[];
};

/* The message in g->envelope came from this user. */
void dashboard_message(struct gateway *g, struct conn *c);
/*
 * The same of a type that is none of the protocol's: is it one of server.user_types?  true: it was handed to the
 * services of the tenant; false: it was not, and *fault says why where its payload is at fault.
 */
bool dashboard_hand(struct gateway *g, struct conn *c, struct envelope_fault *fault);
/* Does this user's connection want to hear of the device? */
bool dashboard_wants(const struct conn *c, struct hash128 device_key);
/* All up to that place was replayed, though some of it may be published only now. */
void dashboard_replayed(struct gateway *g, struct conn *c, int64_t place);
/*
 * Is this publication news to it?  place: 0, it has none; status: a command's, of which the log knows the newer ones.
 * With the first one behind what was replayed, all that come are.
 */
bool dashboard_is_news(struct conn *c, int64_t place, bool status);

#endif
