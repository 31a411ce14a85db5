/*
 * log_syslog.c: the way to the system's log daemon (RFC 3164, as glibc writes it).
 *
 * Used by every process that logs to syslog.  Owns a socket that does not block.  A daemon that was
 * started anew is found again with the next record, one that is not there is asked for once a second.
 */
#include <errno.h>
#include <paths.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_syslog.h"

#define AGAIN_MS 1000

size_t
log_syslog_head(char *out, size_t cap, int level)
{
	char at[32];
	time_t now = (time_t)(clock_now_ms() / 1000);
	struct tm tm;

	if (localtime_r(&now, &tm) == NULL || strftime(at, sizeof(at), "%b %e %T", &tm) == 0)
		memcpy(at, "Jan  1 00:00:00", sizeof("Jan  1 00:00:00"));
	return (size_t)snprintf(out, cap, "<%d>%s belayd[%d]: ", LOG_DAEMON | level, at, (int)getpid());
}

void
log_syslog_close(struct log_syslog *s)
{
	if (s->fd != -1)
		(void)close(s->fd);
	s->fd = -1;
}

static int
open_as(struct log_syslog *s, int type)
{
	const char *path = s->path != NULL ? s->path : _PATH_LOG;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int saved;

	if (strlen(path) >= sizeof(un.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(un.sun_path, path);
	s->stream = type == SOCK_STREAM;
	if ((s->fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) == -1)
		return -1;
	if (connect(s->fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return 0;
	saved = errno;
	log_syslog_close(s);
	errno = saved;
	return -1;
}

static int
connect_to(struct log_syslog *s)
{
	int64_t now = clock_mono_ms();

	if (s->fd != -1)
		return 0;
	if (now < s->again_ms || (open_as(s, SOCK_DGRAM) == -1 &&
	    (errno != EPROTOTYPE || open_as(s, SOCK_STREAM) == -1))) {
		if (now >= s->again_ms)
			s->again_ms = now + AGAIN_MS;
		errno = EAGAIN;
		return -1;
	}
	return 0;
}

int
log_syslog_send(struct log_syslog *s, const char *p, size_t len)
{
	for (bool fresh = false; ; fresh = true) {
		char end = '\0';
		struct iovec iov[] = { { (char *)(uintptr_t)p, len }, { &end, 1 } };
		struct msghdr m = { .msg_iov = iov };
		ssize_t n;

		fresh |= s->fd == -1;
		if (connect_to(s) == -1)
			return -1;
		m.msg_iovlen = s->stream ? 2 : 1;
		n = sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= (ssize_t)len)
			return 0;
		if (n == -1 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == EINTR)) {
			errno = EAGAIN;
			return -1;
		}
		if (n == -1 && errno == EMSGSIZE)
			return -1;
		/* It was started anew; or it was cut off in the middle of a record. */
		log_syslog_close(s);
		if (n >= 0)
			return 0;
		if (fresh) {
			s->again_ms = clock_mono_ms() + AGAIN_MS;
			errno = EAGAIN;
			return -1;
		}
	}
}
