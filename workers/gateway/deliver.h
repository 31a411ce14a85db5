/*
 * deliver.h: messages for dashboards, here and in other processes.
 */
#ifndef BELAY_GATEWAY_DELIVER_H
#define BELAY_GATEWAY_DELIVER_H

#include "msg/msg.h"

struct gateway;

/* Gives a publication to the listeners of this process. */
void deliver_here(struct gateway *g, const struct msg_publish *m);
/*
 * Posts it to every process with listeners, this one included (directly). May lose it where a
 * mailbox is full (counted): for telemetry.
 */
void deliver_everywhere(struct gateway *g, const struct msg_publish *m);
/* Publications were dropped before they came here: all dashboards are told. */
void deliver_gap(struct gateway *g, const struct msg_gap *m);

#endif
