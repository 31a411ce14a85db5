/*
 * sock.h: the only calls that take, read, write and end clients' connections; on TLS ones tls.h
 * stands between.
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

#define NET_UNSENT_MAX 16384		/* bytes: a record of TLS */

/*
 * Takes one connection from a socket of listen_open(): non-blocking, close-on-exec, without Nagle's
 * wait.  ip: the peer's address, v4 mapped into v6; zeros for a unix socket.  The descriptor, or -1
 * with errno: EAGAIN there is none; EMFILE, ENFILE, ENOBUFS, ENOMEM the system has no room; EINVAL
 * the socket listens no more.  A connection that its client gave up while it waited is skipped.
 */
int net_accept(int listener, uint8_t ip[16]);

/* Bytes read; 0: the peer has ended its side; -1 with errno, EAGAIN when nothing is there. */
ssize_t net_read(int fd, void *into, size_t cap);
/* The same, and the next read brings them again. */
ssize_t net_peek(int fd, void *into, size_t cap);
/*
 * Bytes that the kernel took, perhaps less than all; -1 with errno, EAGAIN when it takes none now.
 */
ssize_t net_write(int fd, const void *from, size_t len);
ssize_t net_writev(int fd, const struct iovec *iov, int iovcnt);

/*
 * How much is taken that can't leave yet: about NET_UNSENT_MAX, as from the beginning, or as much as the
 * system lets a socket have.  On a unix socket it is always the latter.
 */
void net_hold_unsent(int fd, bool much);
/*
 * Does something that was written wait for the peer, and has the peer made room for some of it within
 * the time?  Then it is slow and not gone.  false on a unix socket.
 */
bool net_is_read(int fd, int64_t within_ms);

/* Nothing more is written; what the peer sends can still be read. */
void net_end(int fd);
void net_close(int fd);

#endif
