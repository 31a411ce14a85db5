/*
 * listen.c: listeners and the calls on clients' sockets, on loopback and in a temporary folder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "net/listen.h"
#include "net/sock.h"

static char err[256];

static int
open_ok(const char *address, bool reuseport)
{
	int fd = listen_open(address, reuseport, err, sizeof(err));

	if (fd == -1)
		fail_msg("%s", err);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	return fd;
}

static const uint8_t v4_loopback[16] = { [10] = 0xff, 0xff, 127, 0, 0, 1 }, v6_loopback[16] = { [15] = 1 },
    no_address[16];

static unsigned
port_of(int fd)
{
	struct sockaddr_in6 sin6;
	socklen_t len = sizeof(sin6);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin6, &len), 0);
	return ntohs(sin6.sin6_port);	/* at the same place for both families */
}

/* A client on the listening socket, and the server's end of it. */
static int
connect_to(int listener, int *server, uint8_t peer[16])
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	struct pollfd pfd = { .fd = listener, .events = POLLIN };
	int fd;

	assert_int_equal(getsockname(listener, (struct sockaddr *)&ss, &len), 0);
	fd = socket(ss.ss_family, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
	assert_int_equal(poll(&pfd, 1, 2000), 1);
	*server = net_accept(listener, peer);
	assert_true(*server >= 0);
	return fd;
}

static void
test_tcp(void **state)
{
	int listener = open_ok("127.0.0.1:0", false), client, server, on;
	uint8_t peer[16];
	struct iovec iov[2] = { { (char *)(uintptr_t)"he", 2 }, { (char *)(uintptr_t)"llo", 3 } };
	struct pollfd pfd;
	char in[16];
	socklen_t len = sizeof(on);

	(void)state;
	errno = 0;
	assert_int_equal(net_accept(listener, peer), -1);
	assert_int_equal(errno, EAGAIN);
	client = connect_to(listener, &server, peer);
	assert_memory_equal(peer, v4_loopback, 16);
	assert_int_equal(getsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	assert_true(on);
	assert_true(fcntl(server, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(server, F_GETFD) & FD_CLOEXEC);

	assert_int_equal(net_read(server, in, sizeof(in)), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(net_writev(server, iov, 2), 5);
	assert_int_equal(recv(client, in, sizeof(in), 0), 5);
	assert_memory_equal(in, "hello", 5);
	assert_int_equal(send(client, "x", 1, 0), 1);
	pfd = (struct pollfd){ .fd = server, .events = POLLIN };
	assert_int_equal(poll(&pfd, 1, 2000), 1);
	assert_int_equal(net_read(server, in, sizeof(in)), 1);

	/* What was looked at is there still. */
	assert_int_equal(send(client, "yz", 2, 0), 2);
	assert_int_equal(poll(&pfd, 1, 2000), 1);
	assert_int_equal(net_peek(server, in, sizeof(in)), 2);
	assert_int_equal(net_read(server, in, 1), 1);
	assert_memory_equal(in, "y", 1);

	/* A half-closed connection still brings what the peer says. */
	assert_int_equal(net_write(server, "end", 3), 3);
	net_end(server);
	assert_int_equal(recv(client, in, 3, MSG_WAITALL), 3);
	assert_int_equal(recv(client, in, sizeof(in), 0), 0);
	assert_int_equal(net_read(server, in, sizeof(in)), 1);
	assert_memory_equal(in, "z", 1);
	net_close(server);
	close(client);

	client = connect_to(listener, &server, peer);
	close(client);
	pfd.fd = server;
	assert_int_equal(poll(&pfd, 1, 2000), 1);
	assert_int_equal(net_read(server, in, sizeof(in)), 0);
	/* Writing to one who left raises no signal. */
	for (int i = 0; i < 3; i++)
		(void)net_writev(server, iov, 2);
	net_close(server);
	close(listener);
}

static void
test_addresses(void **state)
{
	char address[64];
	uint8_t peer[16];
	int v4, v6, client, server;

	(void)state;
	v4 = open_ok("localhost:0", false);
	client = connect_to(v4, &server, peer);
	assert_memory_equal(peer, v4_loopback, 16);
	close(client);
	net_close(server);

	/* IPv6 leaves the port free for IPv4. */
	snprintf(address, sizeof(address), "[::]:%u", port_of(v4));
	v6 = listen_open(address, false, err, sizeof(err));
	if (v6 == -1 && (strstr(err, "Address family not supported") != NULL ||
	    strstr(err, "Cannot assign") != NULL)) {
		printf("no IPv6 here: %s\n", err);
	} else {
		assert_true(v6 >= 0);
		client = connect_to(v6, &server, peer);
		assert_memory_equal(peer, v6_loopback, 16);
		close(client);
		net_close(server);
		close(v6);
	}

	/* Taken already: the sentence names the address. */
	snprintf(address, sizeof(address), "127.0.0.1:%u", port_of(v4));
	assert_int_equal(listen_open(address, false, err, sizeof(err)), -1);
	assert_memory_equal(err, address, strlen(address));
	assert_non_null(strstr(err, ": Address already in use"));
	close(v4);
	assert_int_equal(listen_open("nonsense", false, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "nonsense: "));
	assert_int_equal(listen_open("192.0.2.1:0", false, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "192.0.2.1:0: "));
}

static void
test_reuseport(void **state)
{
	int first = open_ok("127.0.0.1:0", true), second, client, server;
	char address[64];
	uint8_t peer[16];
	struct pollfd pfd[2];
	unsigned got[2] = { 0, 0 };

	(void)state;
	snprintf(address, sizeof(address), "127.0.0.1:%u", port_of(first));
	second = open_ok(address, true);
	pfd[0] = (struct pollfd){ .fd = first, .events = POLLIN };
	pfd[1] = (struct pollfd){ .fd = second, .events = POLLIN };
	for (int i = 0; i < 64; i++) {
		struct sockaddr_in sin;
		socklen_t len = sizeof(sin);

		assert_int_equal(getsockname(first, (struct sockaddr *)&sin, &len), 0);
		client = socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(connect(client, (struct sockaddr *)&sin, len), 0);
		assert_true(poll(pfd, 2, 2000) > 0);
		for (int j = 0; j < 2; j++)
			if (pfd[j].revents != 0 && (server = net_accept(pfd[j].fd, peer)) >= 0) {
				got[j]++;
				net_close(server);
			}
		close(client);
	}
	assert_true(got[0] > 0 && got[1] > 0);
	assert_int_equal(got[0] + got[1], 64);
	close(first);
	close(second);
}

static void
test_unix(void **state)
{
	char folder[] = "/tmp/belay-net-XXXXXX", address[64];
	const char *path = address + 5;
	uint8_t peer[16];
	struct stat st;
	int listener, client, server;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(address, sizeof(address), "unix:%s/s", folder);
	listener = open_ok(address, false);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	client = connect_to(listener, &server, peer);
	assert_memory_equal(peer, no_address, 16);
	close(client);
	net_close(server);

	/* In use; then left behind by one that died; then no socket at all. */
	assert_int_equal(listen_open(address, false, err, sizeof(err)), -1);
	assert_non_null(strstr(err, "Address already in use"));
	close(listener);
	assert_int_equal(stat(path, &st), 0);
	listener = open_ok(address, false);
	close(listener);
	listen_unlink(address);
	assert_int_equal(stat(path, &st), -1);
	listen_unlink("127.0.0.1:80");
	f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(listen_open(address, false, err, sizeof(err)), -1);
	assert_int_equal(stat(path, &st), 0);
	unlink(path);
	rmdir(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp), cmocka_unit_test(test_addresses),
		    cmocka_unit_test(test_reuseport),
		cmocka_unit_test(test_unix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
