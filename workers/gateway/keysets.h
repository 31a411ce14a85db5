/*
 * keysets.h: key sets that are had by URL, as one gateway has them, and the tokens that wait for a
 * newer one.
 *
 * The keys process fetches; a gateway asks it for what there is when it starts, and for a newer set
 * when a token needs a key that is in none.  Meanwhile the token waits, for KEYSETS_HOLD_MS at
 * most, so that the first users after a rotation are not turned away.
 */
#ifndef BELAY_GATEWAY_KEYSETS_H
#define BELAY_GATEWAY_KEYSETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

struct conn;
struct gateway;
struct held;
struct msg_keys_checked;
struct msg_keys_set;

#define KEYSETS_HOLD_MS		3000
#define KEYSETS_HELD_MAX	1024	/* tokens that wait at a time; the next is judged by the keys there are */

struct keyset {
	char *url;			/* owned */
	struct buf text;		/* the set as it came last; empty: none yet */
	enum { KEYSET_QUIET, KEYSET_ASKED_PRESENT, KEYSET_ASKED_NEWER } stage;
	int64_t until_ms;		/* monotonic: when an answer is not waited for any more */
	/* monotonic: before that it is no use to ask for a newer one */
	int64_t again_ms;
};

struct keysets {
	struct keyset *v;		/* owned; one for each URL of the settings */
	size_t n;
	size_t wanted;			/* which one the last token that has to wait waits for */
	bool last_word;			/* what is judged now has waited: it is not held again */
	struct held *oldest, *newest;
	unsigned held;

	/* A set that comes in several records, one behind the other. */
	struct buf coming;
	uint64_t coming_version;
	uint32_t coming_part;		/* the next one expected */
};

/*
 * After g->auth was made anew: gives it the sets there are, and asks for those that there are not.
 */
void keysets_take_up(struct gateway *g);
void keysets_fini(struct gateway *g);

/* struct auth_config's unknown_kid; arg is the gateway. */
bool keysets_unknown_kid(void *arg, const char *issuer);

/*
 * The verdict was AUTH_NOT_YET: it is asked for again when the set has come, or time is over, by
 * upgrade_with_token(), http_unhold() or session_refresh(); never before these return.  The token
 * is copied.
 */
void keysets_hold_upgrade(struct gateway *g, struct conn *c, struct slice token);
void keysets_hold_request(struct gateway *g, struct conn *c);
void keysets_hold_refresh(struct gateway *g, struct conn *c, struct slice re, struct slice token);

/* Records of the keys process. */
void keysets_part(struct gateway *g, const struct msg_keys_set *m);
void keysets_checked(struct gateway *g, const struct msg_keys_checked *m);
void keysets_tick(struct gateway *g);

#endif
