/*
 * listen.h: listening sockets.
 *
 * The master opens them and keeps them open as long as it runs, so that a dead worker loses no
 * connection that waits to be accepted.
 */
#ifndef BELAY_NET_LISTEN_H
#define BELAY_NET_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

#define LISTEN_BACKLOG 4096	/* the kernel cuts it to net.core.somaxconn */

/*
 * Opens a listening socket: non-blocking, close-on-exec, SO_REUSEADDR, TCP_NODELAY.  address is what
 * address_parse() takes; a host's name is looked up (this may block) and its first IPv4 address is
 * preferred.  An IPv6 socket takes IPv6 only.  A unix socket's file is made for everyone to
 * connect to; one that nobody listens on any more is replaced.
 *
 * reuseport: several such sockets may be opened for one address (not for unix sockets), and the
 * kernel spreads new connections over them.
 *
 * The descriptor, owned by the caller, or -1 with a sentence in err that begins with the address,
 * and errno: EADDRINUSE when another socket has it, else something else.
 */
int listen_open(const char *address, bool reuseport, char *err, size_t errlen);

/* Removes the file of a unix socket; does nothing for other addresses. */
void listen_unlink(const char *address);

#endif
