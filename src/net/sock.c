/*
 * sock.c: takes, reads, writes and ends clients' connections.  Runs in gateways.  Owns nothing.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/address.h"
#include "net/sock.h"

static void
note_peer(const struct sockaddr_storage *ss, uint8_t ip[16])
{
	memset(ip, 0, 16);
	if (ss->ss_family == AF_INET)
		address_map_v4(ip, &((const struct sockaddr_in *)ss)->sin_addr);
	else if (ss->ss_family == AF_INET6)
		memcpy(ip, &((const struct sockaddr_in6 *)ss)->sin6_addr, 16);
}

int
net_accept(int listener, uint8_t ip[16])
{
	struct sockaddr_storage ss;
	socklen_t len;
	int fd;

	do {
		ss.ss_family = AF_UNIX;		/* a client's unix socket has no name to fill in */
		len = sizeof(ss);
		fd = accept4(listener, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (fd == -1 && (errno == EINTR || errno == ECONNABORTED));
	if (fd != -1)
		note_peer(&ss, ip);
	return fd;
}

static ssize_t
receive(int fd, void *into, size_t cap, int flags)
{
	ssize_t n;

	do
		n = recv(fd, into, cap, flags | MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	return n;
}

ssize_t
net_read(int fd, void *into, size_t cap)
{
	return receive(fd, into, cap, 0);
}

ssize_t
net_peek(int fd, void *into, size_t cap)
{
	return receive(fd, into, cap, MSG_PEEK);
}

ssize_t
net_write(int fd, const void *from, size_t len)
{
	ssize_t n;

	do
		n = send(fd, from, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	return n;
}

ssize_t
net_writev(int fd, const struct iovec *iov, int iovcnt)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov,
	    .msg_iovlen = (size_t)iovcnt };
	ssize_t n;

	do
		n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	return n;
}

void
net_hold_unsent(int fd, bool much)
{
	int unsent = much ? 0 : NET_UNSENT_MAX;		/* 0: the system's own, which is all */

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

bool
net_is_read(int fd, int64_t within_ms)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	int waits;

	if (ioctl(fd, SIOCOUTQ, &waits) == -1 || waits == 0 ||
	    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == -1)
		return false;
	/*
	 * With bytes still waiting only a window that was opened lets new ones go.  What is sent again
	 * to a peer that has gone looks alike, but is not acknowledged; a probe of a closed window is,
	 * but carries nothing.
	 */
	return info.tcpi_last_data_sent < within_ms && info.tcpi_last_ack_recv < within_ms;
}

void
net_end(int fd)
{
	(void)shutdown(fd, SHUT_WR);
}

void
net_close(int fd)
{
	(void)close(fd);
}
