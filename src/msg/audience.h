/*
 * audience.h: who may view a device, as it travels in records: a run of entries, each
 *
 *	+-----------------+-------------+---------------------+-----------------+
 *	| expires_ms (8)  | rights (1)  | length of user (1)  | user (1–128)    |
 *	+-----------------+-------------+---------------------+-----------------+
 *
 * The owner comes first.  expires_ms is wall clock, 0 = never; rights is an enum audience_rights.
 */
#ifndef BELAY_MSG_AUDIENCE_H
#define BELAY_MSG_AUDIENCE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/slice.h"

enum audience_rights { AUDIENCE_VIEW, AUDIENCE_CONTROL, AUDIENCE_ADMIN, AUDIENCE_OWNER };

struct audience_entry {
	int64_t expires_ms;
	enum audience_rights rights;
	struct slice user;
};

void audience_put(struct buf *b, int64_t expires_ms, enum audience_rights rights,
    struct slice user);
/* Takes the next entry off the front of *rest: 1, or 0 at the end; -1 when it is torn. */
int audience_next(struct slice *rest, struct audience_entry *out);

/*
 * The topics that connections listen on, each as the keyed hash under which shm/topics.h knows it:
 * one user of a tenant, and those who see all of a tenant.
 */
struct hash128 audience_topic_user(const uint8_t key[16], struct slice tenant, struct slice user);
struct hash128 audience_topic_tenant(const uint8_t key[16], struct slice tenant);
/* The directory's key of a device. */
struct hash128 audience_device_key(const uint8_t key[16], struct slice tenant, struct slice device);

#endif
