/*
 * limits.h: how much one connection may say, and how much all processes of the instance together
 * let an address, a user or a tenant have (belay-protocol(7), belayd.conf(5)).
 *
 * What is counted for the instance lies in shared memory (shm/holdings.h, shm/buckets.h), known
 * by keyed hashes.  A limit that is 0 touches nothing there.
 *
 * Refusing is work too, and whoever is refused may go on as fast as the network lets him.  So each
 * message is answered `rate_limited`, but after as many as limits.message_burst the connection is
 * hushed: what it goes on sending waits in its socket, which is looked at a few times a second, a
 * little at a time, until it has been quiet.
 */
#ifndef BELAY_GATEWAY_LIMITS_H
#define BELAY_GATEWAY_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/slice.h"

struct conn;
struct gateway;
struct identity;
struct tenant;

/* Of what a connection has a place: the bits of conn.holds. */
enum limits_place { LIMITS_ALL = 1, LIMITS_ADDRESS = 2, LIMITS_TENANT = 4, LIMITS_USER = 8 };

/* All connections of the instance are one thing. */
extern const struct hash128 limits_all;

/*
 * One more connection of this thing.  false: there are as many as may be.  *holds gets the bit
 * where it was counted: not without such a limit, and not when the table is full, which is
 * logged and counted.
 */
bool limits_take(struct gateway *g, enum limits_place place, struct hash128 thing, uint8_t *holds);
/* Gives back what has the bit in *holds, and clears it. */
void limits_give(struct gateway *g, enum limits_place place, struct hash128 thing, uint8_t *holds);
/* Counts it, however many there are, or no longer, as the settings in force say. */
void limits_recount(struct gateway *g, enum limits_place place, struct hash128 thing,
    uint8_t *holds);

/*
 * A session of the tenant begins; user: none for a device's.  false: there is no room, be it for
 * want of descriptors.  `replaces`:
 * it has the place of one that is told to go, and is let in whatever the count.
 */
bool limits_join(struct gateway *g, struct conn *c, struct slice tenant, struct slice user,
    bool replaces);
/* … or it ends: the connection, as long as it lasts, is one without a session. */
void limits_leave(struct gateway *g, struct conn *c, struct slice tenant, struct slice user);

/* One more connection of the address: 0, or the milliseconds until it may come. */
int64_t limits_connect_wait_ms(struct gateway *g, struct hash128 address);
/*
 * One more REST request of its user, and of its tenant; a device's is one more of its messages.  false:
 * too many; *retry_after_ms says when to try again: http_respond_too_fast().
 */
bool limits_request(struct gateway *g, struct conn *c, const struct identity *who,
    int64_t *retry_after_ms);
/*
 * The body of that request turned out to be `more` messages besides: they pass, and what the user
 * and the tenant send next waits for so much longer.  false: others of them did so just before.
 */
bool limits_request_more(struct gateway *g, struct conn *c, const struct identity *who,
    uint32_t more, int64_t *retry_after_ms);

void limits_init(struct gateway *g, struct conn *c);
/* A new token for an open connection.  false: too often; *retry_after_ms says when to try again. */
bool limits_auth(struct gateway *g, struct conn *c, int64_t *retry_after_ms);
/*
 * One more message.  false: too fast; *retry_after_ms says when to try again, or the connection was
 * closed (4029).
 */
bool limits_message(struct gateway *g, struct conn *c, int64_t *retry_after_ms);
/*
 * That message turned out to be `more` messages besides: they pass, and what the connection and its tenant say next
 * waits for so much longer.
 */
void limits_message_more(struct gateway *g, struct conn *c, uint32_t more);
/* One more message that was no message.  false: the connection was closed (1008). */
bool limits_invalid(struct gateway *g, struct conn *c);

/* How much of what waits in its socket is taken at once. */
size_t limits_read_size(const struct gateway *g, const struct conn *c);
/* About every 100 ms: those whose time is over are read from again. */
void limits_tick(struct gateway *g);
void limits_fini(struct gateway *g);

/* Nobody of the tenant is here any more. */
void limits_release(struct gateway *g, struct tenant *t);
/* Other settings are in force: what is open is counted by them.  Nothing is closed. */
void limits_reload(struct gateway *g);

#endif
