/*
 * users.h: the routes of /v1/websocket: messages to users, counts, and ends of their connections; and messages of users
 * to services.
 *
 * The gateway that is asked hands the task to every gateway, itself included, and answers when all
 * have said what they did, or after two seconds with what it knows by then.
 */
#ifndef BELAY_GATEWAY_USERS_H
#define BELAY_GATEWAY_USERS_H

#include "msg/msg.h"

struct conn;
struct gateway;

#define EVERY_TENANT "*"		/* no tenant's id: the connections of keys of all tenants, wherever they are */

/* A request about users is there whole, with ids in its path. */
void users_request(struct gateway *g, struct conn *c);
/* GET /v1/websocket/stats; GET /health/metrics, for which storage counts, too. */
void users_count(struct gateway *g, struct conn *c);
/*
 * A message of this user for all services of its tenant, in all gateways; payload_json is that of user_message.  It is
 * answered by ok with how many connections got it: one that is far behind does not.
 */
void users_hand(struct gateway *g, struct conn *c, struct slice payload_json, struct slice re);
/* Another gateway's task. */
void users_task(struct gateway *g, const struct msg_user_task *m, unsigned from);
/* Another gateway's part of an answer. */
void users_done(struct gateway *g, const struct msg_user_done *m);

#endif
