/*
 * accept.h: taking connections from the listening sockets.
 */
#ifndef BELAY_GATEWAY_ACCEPT_H
#define BELAY_GATEWAY_ACCEPT_H

#include <stdint.h>

struct conn;
struct gateway;

/* Listens on the worker's descriptors.  -1: out of memory. */
int accept_start(struct gateway *g);
void accept_stop(struct gateway *g);		/* takes no more; harmless when stopped */
void accept_stop_clients(struct gateway *g);	/* the same, but for server.admin_listen */
void accept_tick(struct gateway *g);		/* after a rest because descriptors ran out */
/*
 * A connection that was taken may not stay after all (503, or 429 for coming too often): its request,
 * which is still to come, is answered with that, and a WebSocket with a close code.
 */
void accept_as_guest(struct gateway *g, struct conn *c, int status, int64_t retry_after_ms);
/*
 * A word in HTTP that browsers and load balancers alike understand, to whoever was told nothing yet;
 * the socket is to be closed then.  Uses g->read_buf.
 */
void accept_say_no(struct gateway *g, int fd, int status, int64_t retry_after_ms);

#endif
