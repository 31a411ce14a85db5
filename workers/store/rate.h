/*
 * rate.h: how fast a tenant's records may be written to the store (limits.tenant_store_rate): one bucket for each
 * tenant, of all processes of the instance (shm/buckets.h).  Gateways, and readers for telemetry by REST, ask
 * before they send a record to storage.
 *
 * A record counts with all its bytes as it is sent: payload, names and ids.  The bucket holds what a second brings; a
 * record passes when the bucket is not in debt, however long the record is.  A limit of 0 touches no shared memory.
 */
#ifndef BELAY_STORE_RATE_H
#define BELAY_STORE_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct worker;

/* One more record, of so many bytes.  0: it was counted and may go; else the milliseconds until one may. */
int64_t store_rate_take(struct worker *w, struct slice tenant, size_t len);
/* A record that is never refused: it is counted, and what the tenant asks for next waits, 10 seconds at most. */
void store_rate_owe(struct worker *w, struct slice tenant, size_t len);

/* Does this REST request (enum http_route) store more?  What withdraws or removes is never refused for want of room. */
bool store_rate_more(uint32_t route);

#endif
