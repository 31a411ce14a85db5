/*
 * reads.h: what readers were asked and have not answered yet.
 *
 * A reader that dies loses what it had taken: so each question is kept here until it is answered, and is asked again of
 * the successor.  How many may wait is bounded for each user and tenant; all of one user go to the same reader, which
 * answers them in order.
 */
#ifndef BELAY_GATEWAY_READS_H
#define BELAY_GATEWAY_READS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct ask;
struct conn;
struct gateway;
struct read;
struct read_group;

#define READS_RETRY_MS 1000		/* when to come again, for who was refused */

struct reads {
	struct read *first;		/* all, newest first */
	struct read_group **buckets;	/* owned: counts of users and tenants */
	unsigned bucket_count, group_count;
	unsigned readers;		/* processes of that role */
	uint16_t generation[16];	/* of each, as last seen */
};

void reads_init(struct gateway *g);
void reads_fini(struct gateway *g);	/* before the asks go */
/*
 * Hands g->record, packed with a->request in it, to the user's reader.  `patient`: it may wait behind any number of
 * others of the same user.  Where it can't wait, the client is answered and the ask freed: too_many, or unavailable.
 */
void reads_post(struct gateway *g, struct ask *a, uint16_t kind, struct slice tenant, struct slice user,
    bool patient);
#define reads_ask(g, a, name, m, patient) do { \
	struct ask *asked_ = (a); \
	(m)->request = asked_->request; \
	buf_clear(&(g)->record); \
	msg_pack_##name(&(g)->record, (m)); \
	reads_post((g), asked_, MSG_##name, (m)->tenant, (m)->user, (patient)); \
} while (0)
void reads_free(struct gateway *g, struct read **r);	/* with its ask */
/* The connection ends: what it waits for need not be read. */
void reads_conn_gone(struct gateway *g, struct conn *c);
/* About every 100 ms: what a dead reader had is asked again. */
void reads_tick(struct gateway *g);

#endif
