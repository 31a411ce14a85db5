/*
 * accept.h: taking connections from the listening sockets.
 */
#ifndef BELAY_GATEWAY_ACCEPT_H
#define BELAY_GATEWAY_ACCEPT_H

#include <stdint.h>

struct gateway;

/* Listens on the worker's descriptors.  -1: out of memory. */
int accept_start(struct gateway *g);
void accept_stop(struct gateway *g);		/* takes no more; harmless when stopped */
void accept_stop_clients(struct gateway *g);	/* the same, but for server.admin_listen */
void accept_tick(struct gateway *g);		/* after a rest because descriptors ran out */
/*
 * A word in HTTP that browsers and load balancers alike understand, to whoever was told nothing yet;
 * the socket is to be closed then.  Uses g->read_buf.
 */
void accept_say_no(struct gateway *g, int fd, int status, int64_t retry_after_ms);

#endif
