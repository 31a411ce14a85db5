/*
 * sock.h: the only calls that take, read and write clients' connections.
 *
 * All of it is non-blocking and none of it raises a signal.  EINTR is not seen by callers.
 */
#ifndef BELAY_NET_SOCK_H
#define BELAY_NET_SOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NET_PEER_TEXT_LEN 46		/* INET6_ADDRSTRLEN */

struct net_peer {
	uint8_t ip[16];			/* v4 mapped into v6; all zero for a unix socket */
	uint16_t port;			/* 0 for a unix socket */
};

/*
 * Takes one connection from a listening socket: non-blocking, close-on-exec, TCP_NODELAY.  The
 * descriptor, or -1 with errno: EAGAIN there is none; EMFILE, ENFILE, ENOBUFS, ENOMEM the system
 * has no room.  A connection that its client gave up while it waited is skipped.
 */
int net_accept(int listener, struct net_peer *peer);

/* "192.0.2.1", "2001:db8::1", "unix".  Returns out. */
const char *net_peer_text(const struct net_peer *peer, char out[NET_PEER_TEXT_LEN]);

/* Bytes read; 0: the peer has ended its side; -1 with errno, EAGAIN when nothing is there. */
ssize_t net_read(int fd, void *into, size_t cap);
/*
 * Bytes that the kernel took, perhaps less than all; -1 with errno, EAGAIN when it takes none now.
 */
ssize_t net_writev(int fd, const struct iovec *iov, int iovcnt);

/* Closes the socket.  abortive: with RST, what was not sent is thrown away. */
void net_close(int fd, bool abortive);

#endif
