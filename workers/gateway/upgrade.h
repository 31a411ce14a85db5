/*
 * upgrade.h: from an HTTP request to a WebSocket: the handshake, and where the token is.
 */
#ifndef BELAY_GATEWAY_UPGRADE_H
#define BELAY_GATEWAY_UPGRADE_H

#include <stdbool.h>
#include <stddef.h>

#include "auth/identity.h"
#include "base/slice.h"
#include "http/request.h"
#include "msg/error.h"

struct ask;
struct conn;
struct gateway;

/*
 * The head asks for one of the socket routes.  rest: the bytes behind the head.  The connection may
 * be gone afterwards.
 */
void upgrade_request(struct gateway *g, struct conn *c, const struct http_head *head,
    struct slice rest);
/*
 * Opens the session that the token is for, asks storage about a device's, or closes with the
 * reason.  The connection is a WebSocket already; device is taken from c->http.
 */
void upgrade_with_token(struct gateway *g, struct conn *c, struct slice token);
/* The client waits until it is known whose its token is. */
void upgrade_wait(struct gateway *g, struct conn *c);
/* A user was verified: ?tenantId= and ?charger= are looked at. */
void upgrade_open_user(struct gateway *g, struct conn *c, struct identity *who);
/* The token of an Authorization header; p is NULL when there is none. */
struct slice upgrade_bearer(const struct http_head *head);
/* How a device names itself beside its token: ?device=, else X-Device-Id, else "".  What can be no id is "*". */
void upgrade_read_device(struct gateway *g, const struct http_head *head, char device[ID_DEVICE_MAX + 1]);
/* What questions before the session is open have in common: ask.h. */
bool upgrade_waits(const struct conn *c, const struct ask *a);
void upgrade_ask_failed(struct gateway *g, struct conn *c, const struct ask *a, enum error_code code);
/* Storage's answer about a device. */
struct msg_device_welcome;
void upgrade_welcome(struct gateway *g, const struct msg_device_welcome *m);
/* Logs a refusal and closes with its code. why: for the log. */
enum upgrade_refusal { REFUSE_MISSING, REFUSE_INVALID, REFUSE_EXPIRED, REFUSE_NO_TENANT };
void upgrade_refuse(struct gateway *g, struct conn *c, enum upgrade_refusal refusal,
    const char *why);

#endif
