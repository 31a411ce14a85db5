/*
 * accept.h: taking connections from the listening sockets.
 */
#ifndef BELAY_GATEWAY_ACCEPT_H
#define BELAY_GATEWAY_ACCEPT_H

struct gateway;

/* Listens on the worker's descriptors.  -1: out of memory. */
int accept_start(struct gateway *g);
void accept_stop(struct gateway *g);		/* takes no more; harmless when stopped */
void accept_tick(struct gateway *g);		/* after a rest because descriptors ran out */

#endif
