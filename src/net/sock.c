/*
 * sock.c: takes, reads, writes and closes clients' connections.  Runs in gateways.  Owns nothing.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/sock.h"

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

static void
note_peer(const struct sockaddr_storage *ss, struct net_peer *peer)
{
	memset(peer, 0, sizeof(*peer));
	if (ss->ss_family == AF_INET) {
		const struct sockaddr_in *sin = (const struct sockaddr_in *)ss;

		memcpy(peer->ip, mapped, sizeof(mapped));
		memcpy(peer->ip + sizeof(mapped), &sin->sin_addr, 4);
		peer->port = ntohs(sin->sin_port);
	} else if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)ss;

		memcpy(peer->ip, &sin6->sin6_addr, sizeof(peer->ip));
		peer->port = ntohs(sin6->sin6_port);
	}
}

int
net_accept(int listener, struct net_peer *peer)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int fd, on = 1;

	do {
		ss.ss_family = AF_UNIX;		/* a client's unix socket has no name to fill in */
		len = sizeof(ss);
		fd = accept4(listener, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	} while (fd == -1 && (errno == EINTR || errno == ECONNABORTED));
	if (fd == -1)
		return -1;
	note_peer(&ss, peer);
	/* Frames are written whole; waiting for more (Nagle) would only delay the last one. */
	if (ss.ss_family != AF_UNIX)
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

const char *
net_peer_text(const struct net_peer *peer, char out[NET_PEER_TEXT_LEN])
{
	static const uint8_t none[16];

	if (memcmp(peer->ip, none, sizeof(none)) == 0 && peer->port == 0)
		(void)snprintf(out, NET_PEER_TEXT_LEN, "unix");
	else if (memcmp(peer->ip, mapped, sizeof(mapped)) == 0)
		(void)inet_ntop(AF_INET, peer->ip + sizeof(mapped), out, NET_PEER_TEXT_LEN);
	else
		(void)inet_ntop(AF_INET6, peer->ip, out, NET_PEER_TEXT_LEN);
	return out;
}

ssize_t
net_read(int fd, void *into, size_t cap)
{
	ssize_t n;

	do
		n = recv(fd, into, cap, 0);
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
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	while (n == -1 && errno == EINTR);
	return n;
}

void
net_close(int fd, bool abortive)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	if (abortive)
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	(void)close(fd);
}
