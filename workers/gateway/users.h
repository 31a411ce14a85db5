/*
 * users.h: the routes of /v1/websocket: messages to users, counts, and ends of their connections.
 *
 * The gateway that is asked hands the task to every gateway, itself included, and answers when all
 * have said what they did, or after GATHER_MS with what it knows by then.
 */
#ifndef BELAY_GATEWAY_USERS_H
#define BELAY_GATEWAY_USERS_H

#include "msg/msg.h"

struct ask;
struct conn;
struct gather;
struct gateway;

#define GATHER_MS 2000
#define EVERY_TENANT "*"		/* no tenant's id: the connections of keys of all tenants, wherever they are */

/*
 * A request of one of these routes is there whole; its tenant is known (empty: all of them, for counts
 * alone; or EVERY_TENANT).
 */
void users_request(struct gateway *g, struct conn *c, struct slice tenant);
/* Another gateway's task. */
void users_task(struct gateway *g, const struct msg_user_task *m, unsigned from);
/* Another gateway's part of an answer. */
void users_done(struct gateway *g, const struct msg_user_done *m);
/* All have answered, or the time is over for some: answers with what there is. */
void users_answer(struct gateway *g, struct conn *c, const struct ask *a);
void gather_free(struct gather **gather);

#endif
