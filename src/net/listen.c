/*
 * listen.c: opens listening sockets for the master.  Accepts nothing.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/address.h"
#include "net/listen.h"
#include "net/sock.h"

struct place {
	struct sockaddr_storage ss;
	socklen_t len;
};

static int
refuse(char *err, size_t errlen, const char *address, const char *why)
{
	(void)snprintf(err, errlen, "%s: %s", address, why);
	errno = EINVAL;
	return -1;
}

/* By what the system said, which stays in errno; fd, -1 for none, is closed. */
static int
fail(char *err, size_t errlen, const char *address, int fd)
{
	int saved = errno;

	(void)snprintf(err, errlen, "%s: %s", address, strerror(saved));
	if (fd != -1)
		(void)close(fd);
	errno = saved;
	return -1;
}

static void
fill_unix(const struct address *a, struct place *out)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	memcpy(sun.sun_path, a->path, strlen(a->path));
	memcpy(&out->ss, &sun, sizeof(sun));
	out->len = sizeof(sun);
}

/*
 * The first IPv4 address of the host, or else its first address at all; 0 or what getaddrinfo()
 * says.
 */
static int
resolve(const struct address *a, struct place *out)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
	    .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *all = NULL, *best;
	char port[8];
	int error;

	(void)snprintf(port, sizeof(port), "%u", a->port);
	error = getaddrinfo(a->host[0] != '\0' ? a->host : "0.0.0.0", port, &hints, &all);
	if (error != 0)
		return error;
	for (best = all; best != NULL && best->ai_family != AF_INET; best = best->ai_next)
		;
	if (best == NULL)
		best = all;
	memcpy(&out->ss, best->ai_addr, best->ai_addrlen);
	out->len = best->ai_addrlen;
	freeaddrinfo(all);
	return 0;
}

/*
 * Removes a socket file that no process listens on; anything else is left for bind() to complain
 * about.
 */
static void
remove_stale(const struct place *place)
{
	const struct sockaddr_un *sun = (const struct sockaddr_un *)&place->ss;
	struct stat st;
	int fd;

	if (lstat(sun->sun_path, &st) == -1 || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return;
	if (connect(fd, (const struct sockaddr *)sun, place->len) == -1 && errno == ECONNREFUSED)
		(void)unlink(sun->sun_path);
	(void)close(fd);
}

static int
set_options(int fd, const struct place *place, bool reuseport)
{
	int on = 1, unsent = NET_UNSENT_MAX;

	if (place->ss.ss_family == AF_UNIX)
		return 0;
	/*
	 * Frames are written whole: waiting for more (Nagle) would only delay the last one.  And what
	 * has not left the machine waits in the gateway, where it can still be conflated, not by the
	 * megabyte in the kernel; a kernel that can't do that serves as well.  The sockets that are
	 * accepted inherit both, which saves calls for each.
	 */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1)
		return -1;
	if (reuseport && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == -1)
		return -1;
	if (place->ss.ss_family == AF_INET6)
		return setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	return 0;
}

int
listen_open(const char *address, bool reuseport, char *err, size_t errlen)
{
	struct address a;
	struct place place = { .len = 0 };
	const char *why;
	int error, fd;

	if (address_parse(slice_of(address), &a, &why) == -1)
		return refuse(err, errlen, address, why);
	if (a.kind == ADDRESS_UNIX) {
		fill_unix(&a, &place);
		remove_stale(&place);
	} else if ((error = resolve(&a, &place)) != 0)
		return refuse(err, errlen, address, error == EAI_SYSTEM ?
		    strerror(errno) : gai_strerror(error));

	fd = socket(place.ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return fail(err, errlen, address, -1);
	if (set_options(fd, &place, reuseport) == -1 ||
	    bind(fd, (const struct sockaddr *)&place.ss, place.len) == -1 ||
	    listen(fd, LISTEN_BACKLOG) == -1)
		return fail(err, errlen, address, fd);
	/* Who may speak HTTP to us is decided by tokens, not by the file's mode. */
	if (a.kind == ADDRESS_UNIX && chmod(a.path, 0666) == -1) {
		(void)fail(err, errlen, address, fd);
		(void)unlink(a.path);
		return -1;
	}
	return fd;
}

void
listen_unlink(const char *address)
{
	struct address a;
	const char *why;

	if (address_parse(slice_of(address), &a, &why) == 0 && a.kind == ADDRESS_UNIX)
		(void)unlink(a.path);
}
