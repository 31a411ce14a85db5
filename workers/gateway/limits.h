/*
 * limits.h: how much one connection may say (belay-protocol(7)).
 */
#ifndef BELAY_GATEWAY_LIMITS_H
#define BELAY_GATEWAY_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

struct conn;
struct gateway;
struct tenant;

void limits_init(struct gateway *g, struct conn *c);
/*
 * One more message.  false: too fast; *retry_after_ms says when to try again, or the connection was
 * closed (4029).
 */
bool limits_message(struct gateway *g, struct conn *c, int64_t *retry_after_ms);
/* Is there room for one more connection of the tenant (NULL: nobody of it is here)? */
bool limits_tenant_room(const struct gateway *g, const struct tenant *t);
/* One more message that was no message.  false: the connection was closed (1008). */
bool limits_invalid(struct gateway *g, struct conn *c);

#endif
