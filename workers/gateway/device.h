/*
 * device.h: a device's session: what it says, and who hears it.
 */
#ifndef BELAY_GATEWAY_DEVICE_H
#define BELAY_GATEWAY_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/slice.h"
#include "msg/msg.h"

struct conn;
struct gateway;
struct tenant;

struct device {
	struct tenant *tenant;		/* a reference */
	int64_t pk, epoch;
	struct hash128 key;		/* in the directory */
	uint32_t entry, entry_generation;
	uint32_t audience_len;
	uint32_t owed;			/* answers to commands that may still come: see device_owes() */
	char *audience;			/* owned; audience.h */
	uint8_t len;
	char id[];
};

struct device *device_new(struct gateway *g, const struct msg_device_welcome *m);
void device_free(struct gateway *g, struct device **d);
static inline struct slice device_id(const struct device *d) { return (struct slice){ d->id,
    d->len }; }
/* Takes a copy of the new audience (msg/audience.h). */
void device_set_audience(struct device *d, struct slice audience);

/* Something came from the device: it was seen now. */
void device_heard(struct gateway *g, const struct device *d);

/*
 * Commands were sent to the device, or listed for it in reconcile: it owes answers, two for each (accepted, and how it
 * ended).  These count for nothing in the limits of messages; acknowledgements beyond them are messages like any.
 */
void device_asked(struct device *d, uint32_t commands);
/* An acknowledgement came: does the device owe one?  It is taken off. */
bool device_owes(struct device *d);

/* The message in g->envelope came from this device. */
void device_message(struct gateway *g, struct conn *c);
/* What a device said without an id was refused. */
void device_refused(struct gateway *g, const struct msg_store_reply *m);
/* Storage has something for this device. */
void device_deliver(struct gateway *g, const struct msg_device_send *m);

#endif
