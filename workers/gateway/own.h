/*
 * own.h: requests of devices by their own token (belay-protocol(7), belay-api(7)): whose is it?
 *
 * Storage alone knows, so a request waits for the answer with its head (http_hold()), which is read again then.  The
 * token is looked up once more where the request is done: it may be revoked meanwhile.
 */
#ifndef BELAY_GATEWAY_OWN_H
#define BELAY_GATEWAY_OWN_H

#include <stdbool.h>
#include <stdint.h>

#include "auth/identity.h"
#include "base/digest.h"
#include "base/slice.h"
#include "msg/error.h"
#include "msg/msg.h"

struct conn;
struct gateway;
struct http_head;

struct own {
	uint64_t request;		/* the question that the head waits for */
	bool answered;			/* it was; the head is to be read again */
	enum error_code code;		/* ERROR_NONE: it is this device's */
	bool by_token;			/* else by a JWT, and there is no hash */
	uint8_t hash[SHA256_LEN];
	char tenant[ID_TENANT_MAX + 1], device[ID_DEVICE_MAX + 1], owner[ID_USER_MAX + 1];
};

/* What became of it: c->http->who is the device; its token is nobody's; the request was answered, or waits. */
enum own_verdict { OWN_KNOWN, OWN_UNKNOWN, OWN_LATER };

/* c->http->who is the device of a JWT that was verified, or nobody, and the token is a device token. */
enum own_verdict own_identify(struct gateway *g, struct conn *c, const struct http_head *head, struct slice token);
/* Storage's answer. */
void own_answer(struct gateway *g, const struct msg_device_is *m);

/* For the record of a device's request: whose turn it is, and the hash (none with a JWT). */
struct slice own_owner(const struct conn *c);
struct slice own_hash(const struct conn *c);

#endif
