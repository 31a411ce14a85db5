/*
 * url.h: the addresses that a user types: ws://, wss://, http:// and https://.
 */
#ifndef BELAY_CTL_URL_H
#define BELAY_CTL_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

#define URL_HOST_MAX 253

struct url {
	bool tls;			/* wss, https */
	bool websocket;			/* ws, wss */
	uint16_t port;			/* the scheme's own when none is written */
	char host[URL_HOST_MAX + 1];	/* without the brackets of an IPv6 address */
	bool ipv6;
	/* for the Host field: port only when it is not the scheme's own */
	char authority[URL_HOST_MAX + 9];
	char target[4096];		/* path and query, never empty; a fragment is dropped */
};

/* NULL, or a sentence about what is wrong with the text. */
const char *url_parse(const char *text, struct url *out);

/*
 * The value of a query parameter in a target, still encoded; SLICE_NONE when it is not there.
 */
struct slice url_query(const char *target, const char *name);

#endif
