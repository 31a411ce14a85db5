/*
 * rest.c: what the answers to REST requests have in common.
 */
#include <string.h>

#include "base/must.h"
#include "store/rest.h"

enum db_result
rest_ok(struct desk *k, const struct rest *r, unsigned status, const struct buf *body)
{
	reply_json(k, r->request, r->ref, status, buf_slice(body));
	return DB_OK;
}

enum db_result
rest_error(struct desk *k, const struct rest *r, enum error_code code, const char *field,
    const char *message)
{
	reply_error(k, r->request, r->ref, code, field, message);
	return DB_OK;
}

bool
rest_may(const struct desk *k, const struct rest *r, const struct db_device *d)
{
	static const enum access asked[] = {
		[ROUTE_VIEW] = ACCESS_VIEW, [ROUTE_CONTROL] = ACCESS_CONTROL, [ROUTE_ADMIN] = ACCESS_ADMIN,
		[ROUTE_OWNER] = ACCESS_OWNER
	};
	enum route_access access;

	must(r->route > ROUTE_NONE && r->route < ROUTE_COUNT);
	access = route_table[r->route].access;
	must(access >= ROUTE_VIEW && access <= ROUTE_OWNER);	/* the others are about no device of a user's */
	return access_level(k, &r->who, d) >= asked[access];
}

enum db_result
rest_device(struct desk *k, const struct rest *r, bool whole)
{
	enum db_result result = DB(k->db, device_by_id, r->who.tenant, r->target, whole,
	    &k->device);

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE)
		rest_error(k, r, ERROR_not_found, NULL, "no such device");
	else if (!rest_may(k, r, &k->device))
		rest_error(k, r, ERROR_no_access, NULL, NULL);
	else
		return DB_OK;
	return DB_NONE;
}

/* The device that asks, into k->device.  DB_NONE: it is there no more, or its token is not good any more. */
static enum db_result
find_own(struct desk *k, const struct rest *r)
{
	struct db_device *d = &k->device;
	uint8_t hash[SHA256_LEN];
	enum db_result result;

	if (r->who.role != ROLE_DEVICE)
		return DB_NONE;
	if (r->own_hash.len == 0)
		return DB(k->db, device_by_id, r->who.tenant, r->own, false, d);
	must(r->own_hash.len == sizeof(hash));
	memcpy(hash, r->own_hash.p, sizeof(hash));
	result = DB(k->db, device_by_token, hash, d);
	if (result == DB_NONE)
		result = DB(k->db, device_by_old_token, hash, k->now, d);
	if (result == DB_OK && !(slice_eq(d->tenant, r->who.tenant) && slice_eq(d->id, r->own)))
		return DB_NONE;
	return result;
}

enum db_result
rest_own_device(struct desk *k, const struct rest *r, struct slice id, const char *field)
{
	enum db_result result = find_own(k, r);

	if (result == DB_NONE)
		rest_error(k, r, ERROR_invalid_token, NULL, NULL);
	if (result != DB_OK || slice_eq(id, r->own))
		return result;
	result = DB(k->db, device_by_id, r->who.tenant, id, false, &k->device);
	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE)
		rest_error(k, r, ERROR_not_found, field, "no such device");
	else
		rest_error(k, r, ERROR_no_access, field, NULL);
	return DB_NONE;
}
