/*
 * ws.h: a client that speaks WebSocket (RFC 6455).
 */
#ifndef BELAY_GATEWAY_WS_H
#define BELAY_GATEWAY_WS_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "ws/close.h"

struct conn;
struct gateway;

/* Bytes of a WebSocket; they are changed (unmasked). */
void ws_input(struct gateway *g, struct conn *c, uint8_t *p, size_t n);
/* limits.heartbeat in whole seconds, rounded up. */
uint32_t ws_heartbeat_s(const struct gateway *g);
/* The next ping is due; ends a connection that was not heard since the last one. */
void ws_heartbeat(struct gateway *g, struct conn *c);

/* What states with a WebSocket have in common: conn.h. */
void ws_slow(struct gateway *g, struct conn *c);
void ws_lost(struct gateway *g, struct conn *c);

/*
 * Sends a close frame and waits for the peer's.  Ends the session first: nothing more is
 * delivered.
 */
void conn_close(struct gateway *g, struct conn *c, enum ws_close why);
void conn_close_code(struct gateway *g, struct conn *c, uint16_t code, struct slice reason);
/* Sends one text message {"type","re","payload","cursor"}; re and cursor may be none. */
void conn_send(struct gateway *g, struct conn *c, const char *type, struct slice re,
    struct slice payload_json, struct slice cursor);

#endif
