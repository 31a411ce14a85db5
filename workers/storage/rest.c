/*
 * rest.c: REST requests that the store answers alone: which function answers
 * which route.  Only the storage process.
 */
#include "http/route.h"
#include "storage/rest.h"
#include "store/rate.h"

enum db_result
rest(struct storage *s, const struct msg_rest *m)
{
	bool room = true;
	struct rest r = {
		.request = m->request, .ref = m->ref, .route = (enum http_route)m->route,
		.who = { (enum role)m->role, m->tenant, m->user },
		.target = m->target, .query = m->query, .own = m->own, .own_hash = m->own_hash, .m = m
	};

	if (store_rate_more(r.route))
		TRY(quota_admit(s, m->tenant, m->request, m->ref, &room));
	if (!room)
		return DB_OK;
	switch (r.route) {
#define ANSWERS(name) case ROUTE_##name: return rest_##name(s, &r);
	ANSWERS(device_register)
	ANSWERS(device_update)
	ANSWERS(device_delete)
	ANSWERS(device_token)
	ANSWERS(device_event)
	ANSWERS(device_state)
	ANSWERS(share_add)
	ANSWERS(share_remove)
	ANSWERS(visitor_approve)
	ANSWERS(visitor_deny)
	ANSWERS(health_metrics)
#undef ANSWERS
	default:
		return rest_error(&s->desk, &r, ERROR_not_implemented, NULL, NULL);
	}
}
