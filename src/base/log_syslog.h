/*
 * log_syslog.h: lines to the system's log daemon, without ever waiting for it: syslog(3) waits for
 * as long as the daemon does not read.
 */
#ifndef BELAY_BASE_LOG_SYSLOG_H
#define BELAY_BASE_LOG_SYSLOG_H

#include <stdint.h>
#include <sys/types.h>

/* One connection to the daemon's socket; embedded. */
struct log_syslog {
	const char *path;		/* not owned; NULL: /dev/log */
	int fd;				/* -1: none */
	int stream;			/* the socket is a stream: records end with \0 */
	int64_t again_ms;		/* monotonic: no attempt to connect before that */
};

#define LOG_SYSLOG_INIT { .fd = -1 }

/* What stands before the text of a line of that level (<syslog.h>); its length. */
size_t log_syslog_head(char *out, size_t cap, int level);
/*
 * Sends one record: 0; or -1 with errno EAGAIN: the daemon is not there, or reads too slowly, try
 * again later; anything else: it can't be sent.
 */
int log_syslog_send(struct log_syslog *s, const char *p, size_t len);
void log_syslog_close(struct log_syslog *s);

#endif
