/*
 * route.h: from method and path to a line of routes.def.
 */
#ifndef BELAY_HTTP_ROUTE_H
#define BELAY_HTTP_ROUTE_H

#include "base/slice.h"
#include "http/request.h"

enum http_route {
	ROUTE_NONE,
#define ROUTE(name, method, path, who, body, doc) ROUTE_##name,
#include "http/routes.def"
#undef ROUTE
	ROUTE_COUNT
};

enum route_access {
	ROUTE_ANYONE, ROUTE_USER, ROUTE_VIEW, ROUTE_CONTROL, ROUTE_ADMIN, ROUTE_OWNER,
	    ROUTE_SERVICE,
	ROUTE_DEVICE, ROUTE_USER_DEVICE, ROUTE_METRICS, ROUTE_SOCKET
};

struct route {
	const char *name;
	enum http_method method;
	const char *path;		/* "/api/device/:id" */
	enum route_access access;
	const char *body;		/* name of the body's schema, or "NONE" */
	const char *doc;
};

extern const struct route route_table[ROUTE_COUNT];	/* indexed by http_route; [0] is empty */

#define ROUTE_PARAMS_MAX 2
#define ROUTE_PARAM_LEN  384		/* decoded bytes: no id is longer (128 characters) */

struct route_match {
	enum http_route route;
	const struct route *info;
	unsigned params_n;
	struct slice param[ROUTE_PARAMS_MAX];		/* decoded; point into text */
	char text[ROUTE_PARAMS_MAX][ROUTE_PARAM_LEN];
	char allow[64];					/* for 405 and OPTIONS: "GET, HEAD, PUT" */
};

/*
 * Finds the route of a raw path (without query).  HEAD finds the route of GET.
 * 0, or the status to answer: 404; 405 with m->allow set; 400 for malformed encoding.
 * A path with an empty segment or a trailing slash is another path: 404.
 * Parameters may hold any bytes but NUL: they are to be checked as ids.  *m
 * must not be moved while param is used.
 */
int http_route(enum http_method method, struct slice path, struct route_match *m);

#endif
