/*
 * rest.c: what the answers to REST requests have in common.  Bodies were checked by the gateway.
 */
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

enum db_result
rest_device(struct desk *k, const struct rest *r, bool whole, enum access at_least)
{
	enum db_result result = DB(k->db, device_by_id, r->who.tenant, r->target, whole,
	    &k->device);

	if (result == DB_FAILED)
		return DB_FAILED;
	if (result == DB_NONE)
		rest_error(k, r, ERROR_not_found, NULL, "no such device");
	else if (access_level(k, &r->who, &k->device) < at_least)
		rest_error(k, r, ERROR_no_access, NULL, NULL);
	else
		return DB_OK;
	return DB_NONE;
}
