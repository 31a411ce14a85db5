/*
 * rest.h: what the answers to REST requests have in common.
 */
#ifndef BELAY_STORE_REST_H
#define BELAY_STORE_REST_H

#include "http/route.h"
#include "store/desk.h"

/* One request being answered. */
struct rest {
	uint64_t request, ref;		/* who is answered */
	enum http_route route;
	struct requester who;
	struct slice target, query;	/* first parameter of the path; raw query */
	struct slice own, own_hash;	/* a device that asks: its id, and the hash of its token or none */
	const struct msg_rest *m;	/* the rest of it, where storage answers; NULL at a reader */
};

/* A JSON body, or an error. */
enum db_result rest_ok(struct desk *k, const struct rest *r, unsigned status,
    const struct buf *body);
enum db_result rest_error(struct desk *k, const struct rest *r, enum error_code code,
    const char *field, const char *message);

/* May the requester do with that device what the request asks for, by the line of routes.def: VIEW to OWNER? */
bool rest_may(const struct desk *k, const struct rest *r, const struct db_device *d);
/*
 * The device of the path, read into k->device, if rest_may().  DB_NONE: it was answered (404, 403) and nothing is
 * left to do.
 */
enum db_result rest_device(struct desk *k, const struct rest *r, bool whole);

/*
 * The device `id` into k->device, not whole, if it is the one that asks, by a token that is good at this moment.
 * field: what named it, or NULL.  DB_NONE: it was answered (401, 404, 403) and nothing is left to do.
 */
enum db_result rest_own_device(struct desk *k, const struct rest *r, struct slice id, const char *field);

#endif
