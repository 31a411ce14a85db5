/*
 * notify.c: datagrams to the service manager.  Runs in the master.
 */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "master/notify.h"

static int
connect_to(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	int fd, saved;

	if (len == 0 || len >= sizeof(sun.sun_path) || (path[0] != '/' && path[0] != '@')) {
		errno = EINVAL;
		return -1;
	}
	memcpy(sun.sun_path, path, len);
	if (path[0] == '@')		/* the abstract name space */
		sun.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return -1;
	if (connect(fd, (struct sockaddr *)&sun, (socklen_t)(offsetof(struct sockaddr_un,
	    sun_path) + len)) == -1) {
		saved = errno;
		(void)close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

int
notify_open(struct notify *n)
{
	const char *path = getenv("NOTIFY_SOCKET"), *usec = getenv("WATCHDOG_USEC"),
	    *pid = getenv("WATCHDOG_PID");
	int ret = 0;

	*n = (struct notify){ .fd = -1 };
	if (path != NULL) {
		n->fd = connect_to(path);
		ret = n->fd == -1 ? -1 : 0;
	}
	if (n->fd != -1 && usec != NULL && (pid == NULL || atol(pid) == (long)getpid()))
		n->watchdog_ms = atoll(usec) / 1000 / 3;
	(void)unsetenv("NOTIFY_SOCKET");
	(void)unsetenv("WATCHDOG_USEC");
	(void)unsetenv("WATCHDOG_PID");
	return ret;
}

void
notify_take(struct notify *n, int fd, int64_t watchdog_ms)
{
	*n = (struct notify){ .fd = fd, .watchdog_ms = watchdog_ms };
}

void
notify_close(struct notify *n)
{
	if (n->fd != -1)
		(void)close(n->fd);
	n->fd = -1;
}

static void
tell(const struct notify *n, const char *text)
{
	if (n->fd != -1)
		(void)send(n->fd, text, strlen(text), MSG_NOSIGNAL);
}

void
notify_ready(const struct notify *n)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "READY=1\nMAINPID=%d", (int)getpid());
	tell(n, text);
}

void
notify_reloading(const struct notify *n)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%lld",
	    (long long)clock_mono_us());
	tell(n, text);
}

void
notify_stopping(const struct notify *n)
{
	tell(n, "STOPPING=1");
}

void
notify_watchdog(const struct notify *n)
{
	tell(n, "WATCHDOG=1");
}
