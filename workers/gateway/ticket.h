/*
 * ticket.h: single-use tickets, for browsers that should not put their token into a URL.
 *
 * A ticket is `btk_` and base64url of 32 bytes: the number of the key that its maker came by
 * (identity.h), and 28 random ones.  Storage keeps its hash, and whose it is, for 30 s.  The hash is of
 * the key's number too, so that no ticket can be told from another key than its own.
 */
#ifndef BELAY_GATEWAY_TICKET_H
#define BELAY_GATEWAY_TICKET_H

#include "base/slice.h"

struct conn;
struct gateway;
struct msg_ticket_taken;

/* POST /api/ticket */
void ticket_request(struct gateway *g, struct conn *c);
/* ?ticket= of an upgrade: asks storage whose it is. */
void ticket_present(struct gateway *g, struct conn *c, struct slice ticket);
void ticket_taken(struct gateway *g, const struct msg_ticket_taken *m);

#endif
