/*
 * rest_health.c: counts of a tenant: its devices, and what happened in the newest
 * minutes.  Only the storage process.
 */
#include "storage/rest.h"

static bool
ignore_type(void *arg, struct slice type, int64_t count)
{
	(void)arg, (void)type, (void)count;
	return true;
}

enum db_result
rest_tenant_devices(struct storage *s, const struct rest *r, struct db_stats *out, int64_t *tenant_pk)
{
	struct db_scope scope = { .all = true, .user = r->who.user, .now = s->desk.now };

	*out = (struct db_stats){ 0, 0, 0 };
	*tenant_pk = 0;
	switch (DB(s->desk.db, tenant, r->who.tenant, false, &scope.tenant_pk)) {
	case DB_OK:
		*tenant_pk = scope.tenant_pk;
		return DB(s->desk.db, device_stats, &scope, out, ignore_type, NULL);
	case DB_NONE:
		return DB_OK;
	default:
		return DB_FAILED;
	}
}

/* Of the tenant, whoever asks. */
enum db_result
rest_health_devices(struct storage *s, const struct rest *r)
{
	struct db_stats stats;
	struct buf body = BUF_INIT;
	int64_t mqtt = 0, tenant_pk;
	enum db_result result = rest_tenant_devices(s, r, &stats, &tenant_pk);

	if (result == DB_OK && tenant_pk != 0)
		result = DB(s->desk.db, device_count_mqtt, tenant_pk, &mqtt);
	if (result != DB_FAILED) {
		buf_printf(&body,
		    "{\"online\":%lld,\"offline\":%lld,\"byTransport\":{\"ws\":%lld,\"mqtt\":%lld}}",
		    (long long)stats.online, (long long)(stats.total - stats.online),
		    (long long)(stats.online - mqtt), (long long)mqtt);
		rest_ok(&s->desk, r, 200, &body);
	}
	buf_fini(&body);
	return result == DB_FAILED ? DB_FAILED : DB_OK;
}

/* The gateway that asks adds what its kind counts, and answers; no tenant: all of them. */
enum db_result
rest_health_metrics(struct storage *s, const struct rest *r)
{
	struct buf body = BUF_INIT;
	int64_t tenant_pk = 0;
	enum db_result result = DB_OK;

	if (r->who.tenant.len > 0)
		result = DB(s->desk.db, tenant, r->who.tenant, false, &tenant_pk);
	if (result == DB_FAILED)
		return DB_FAILED;
	tally_put_json(&s->tallies, &body, result == DB_OK ? tenant_pk : -1, s->desk.mono);
	rest_ok(&s->desk, r, 200, &body);
	buf_fini(&body);
	return DB_OK;
}
