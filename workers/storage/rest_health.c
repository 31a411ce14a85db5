/*
 * rest_health.c: what happened in a tenant in the newest minutes, which is counted here, and what it stores.  Only
 * the storage process.
 */
#include "storage/rest.h"

/* The gateway that asks adds what its kind counts, and answers; no tenant: all of them. */
enum db_result
rest_health_metrics(struct storage *s, const struct rest *r)
{
	struct buf body = BUF_INIT;
	int64_t tenant_pk = 0;
	enum db_result result = DB_OK;

	if (r->who.tenant.len > 0)
		result = db_tenant(s->desk.db, r->who.tenant, false, &tenant_pk);
	if (result == DB_FAILED)
		return DB_FAILED;
	tally_put_json(&s->tallies, &body, result == DB_OK ? tenant_pk : -1, s->desk.mono);
	if (result == DB_OK && tenant_pk != 0) {
		body.len--;		/* the brace is put behind */
		if (quota_put_json(s, &body, tenant_pk) == DB_FAILED) {
			buf_fini(&body);
			return DB_FAILED;
		}
		buf_putc(&body, '}');
	}
	rest_ok(&s->desk, r, 200, &body);
	buf_fini(&body);
	return DB_OK;
}
