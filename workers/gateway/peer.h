/*
 * peer.h: who a client is, when it does not say so itself: its address, directly or by the word of
 * a trusted proxy, and how many connections that address may have.
 *
 *	the socket's address
 *	  └─► not in server.trusted_proxies: it is the client's
 *	  └─► a trusted proxy's: with server.proxy_protocol the PROXY header names the client
 *	        └─► again a trusted proxy's: each request's X-Forwarded-For or Forwarded does
 */
#ifndef BELAY_GATEWAY_PEER_H
#define BELAY_GATEWAY_PEER_H

#include <stdbool.h>
#include <stdint.h>

struct conn;
struct gateway;
struct http_head;

/* Takes up the settings: at the start and at a reload. */
void peer_load(struct gateway *g);
void peer_fini(struct gateway *g);

/* ip, here and below: v4 mapped into v6; zeros for a unix socket. */
bool peer_is_trusted(const struct gateway *g, const uint8_t ip[16]);
/* The same for all that are counted as one address, and hardly for others; never 0. */
uint64_t peer_address_hash(const struct gateway *g, const uint8_t ip[16]);

/*
 * May one more connection come from this address?  *status is 503 or 429 where it may not, and
 * *retry_after_ms says when to try again.  Where it may and is counted, *holds gets that bit, and
 * the connection that is made for it gives it back: peer_leave().
 */
bool peer_admit(struct gateway *g, const uint8_t ip[16], uint8_t *holds, int *status,
    int64_t *retry_after_ms);
/* There is no connection after all: what *holds says is given back. */
void peer_give_back(struct gateway *g, const uint8_t ip[16], uint8_t *holds);
/* The connection ends, and what was counted of it as a connection is given back. */
void peer_leave(struct gateway *g, struct conn *c);

/*
 * There is something to read, and the PROXY header is not there yet.  The connection may be gone.
 */
void peer_read_proxy(struct gateway *g, struct conn *c);

/* The head of a request on a connection of a trusted proxy: it may name another client. */
void peer_take_head(struct gateway *g, struct conn *c, const struct http_head *head);
/*
 * A WebSocket was agreed on.  false: its client, named by the head, has too many connections, or
 * comes too fast. Does nothing for those that were looked at when they came.
 */
bool peer_admit_upgrade(struct gateway *g, struct conn *c);

/* Counts the connection for its address, or no longer, as the settings in force say. */
void peer_recount(struct gateway *g, struct conn *c);

#endif
