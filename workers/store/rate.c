/*
 * rate.c: the rate at which a tenant's records go to the store.  Gateways and readers; owns nothing, the buckets are in
 * shared memory.
 */
#include "base/conf.h"
#include "base/stats_names.h"
#include "http/route.h"
#include "msg/audience.h"
#include "shm/buckets.h"
#include "store/rate.h"
#include "workers/role.h"

#define SECOND_NS	UINT64_C(1000000000)
#define MS_NS		UINT64_C(1000000)
#define DEBT_NS		(10 * SECOND_NS)

/* The tenant's other bucket, of messages, has the hash itself. */
static struct hash128
key_of(const struct worker *w, struct slice tenant)
{
	struct hash128 key = audience_topic_tenant(shm_hash_key(w->shm), tenant);

	key.hi ^= UINT64_C(0x73746f7265206279);
	return key;
}

/* The record is what is taken as one. */
static struct bucket_rate
rate_of(const struct worker *w, size_t len)
{
	uint64_t gap_ns = len * SECOND_NS / w->conf->limits_tenant_store_rate_bytes;

	return (struct bucket_rate){ gap_ns, SECOND_NS };
}

int64_t
store_rate_take(struct worker *w, struct slice tenant, size_t len)
{
	struct bucket_rate rate;
	int64_t wait_ns;

	if (w->conf->limits_tenant_store_rate_bytes == 0 || tenant.len == 0)
		return 0;
	rate = rate_of(w, len);
	wait_ns = buckets_take_more(w->shm, key_of(w, tenant), &rate, 1, (uint64_t)w->mono_ms * MS_NS);
	if (wait_ns < 0)
		worker_count(w, STAT_LIMITS_UNCOUNTED, 1);
	if (wait_ns <= 0)
		return 0;
	worker_count(w, STAT_TENANT_STORE_LIMITED, 1);
	return (wait_ns + (int64_t)MS_NS - 1) / (int64_t)MS_NS;
}

void
store_rate_owe(struct worker *w, struct slice tenant, size_t len)
{
	struct bucket_rate rate;

	if (w->conf->limits_tenant_store_rate_bytes == 0 || tenant.len == 0)
		return;
	rate = rate_of(w, len);
	if (buckets_owe(w->shm, key_of(w, tenant), &rate, DEBT_NS, (uint64_t)w->mono_ms * MS_NS) == -1)
		worker_count(w, STAT_LIMITS_UNCOUNTED, 1);
}

bool
store_rate_more(uint32_t route)
{
	switch (route) {
	case ROUTE_device_register:
	case ROUTE_device_update:
	case ROUTE_device_event:
	case ROUTE_device_state:
	case ROUTE_share_add:
	case ROUTE_visitor_approve:
		return true;
	default:
		return false;
	}
}
