/*
 * log.c: writes log lines: to standard error, a file, syslog, or as JSON lines on standard error.
 *
 * Used by every process; each writes its own lines with one write(2), and a file is opened with
 * O_APPEND, so lines of several processes never mix.  A line that can't be written is lost, and so
 * are those that come while whoever reads standard error does not: the log never stops the work.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define LINE_MAX_BYTES 1024
#define PATIENCE_MS 100			/* with a reader that does not read, once */

enum log_kind { KIND_STDERR, KIND_JSON, KIND_FILE, KIND_SYSLOG };

/* The one log of this process. */
static struct {
	enum log_kind kind;
	int fd;
	char path[4096];		/* of KIND_FILE */
	char name[32];			/* "gateway 1" */
	unsigned lost;			/* lines, since the last that was written */
} the = { .kind = KIND_STDERR, .fd = STDERR_FILENO, .name = "belayd" };

enum log_level log_threshold = LOG_LEVEL_INFO;

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static const int syslog_levels[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

static int
open_file(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
}

int
log_open(const char *target, enum log_level level)
{
	enum log_kind kind;
	int fd = STDERR_FILENO;

	if (strcmp(target, "stderr") == 0)
		kind = KIND_STDERR;
	else if (strcmp(target, "json") == 0)
		kind = KIND_JSON;
	else if (strcmp(target, "syslog") == 0)
		kind = KIND_SYSLOG;
	else if (target[0] == '/' && strlen(target) < sizeof(the.path)) {
		kind = KIND_FILE;
		if ((fd = open_file(target)) == -1)
			return -1;
	} else {
		errno = EINVAL;
		return -1;
	}
	if (the.kind == KIND_FILE)
		(void)close(the.fd);
	if (the.kind == KIND_SYSLOG)
		closelog();
	if (kind == KIND_SYSLOG)
		openlog("belayd", LOG_PID | LOG_NDELAY, LOG_DAEMON);
	if (kind == KIND_FILE && target != the.path)
		memcpy(the.path, target, strlen(target) + 1);
	the.kind = kind;
	the.fd = fd;
	log_threshold = level;
	return 0;
}

void
log_set_level(enum log_level level)
{
	log_threshold = level;
}

int
log_reopen(void)
{
	int fd;

	if (the.kind != KIND_FILE)
		return 0;
	if ((fd = open_file(the.path)) == -1)
		return -1;
	(void)close(the.fd);
	the.fd = fd;
	return 0;
}

int
log_give(unsigned uid, unsigned gid)
{
	return the.kind == KIND_FILE ? fchown(the.fd, uid, gid) : 0;
}

void
log_set_name(const char *name)
{
	(void)snprintf(the.name, sizeof(the.name), "%s", name);
}

/* Length of the character at p, 0 when it is none that may be shown: terminals obey controls. */
static size_t
printable_len(const char *p, size_t len)
{
	unsigned char c = (unsigned char)p[0];

	if (c < 0x20 || c == 0x7f || (c == 0xc2 && len > 1 && (unsigned char)p[1] < 0xa0))
		return 0;
	return text_utf8_len(p, len);
}

/*
 * Copies text with what is not printable as \xNN, for JSON with its own escapes too; stops, with
 * "...", before cap is passed.
 */
static size_t
put_escaped(char *out, size_t cap, const char *text, size_t len, int json)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	cap -= 3;
	for (size_t i = 0; i < len;) {
		const unsigned char *p = (const unsigned char *)text + i;
		size_t take = printable_len(text + i, len - i), put = 0;
		char unit[8];

		if (take == 0) {
			if (json)
				unit[put++] = '\\';
			unit[put++] = '\\';
			unit[put++] = 'x';
			unit[put++] = hex[*p >> 4];
			unit[put++] = hex[*p & 15];
			take = 1;
		} else {
			if (json && (*p == '"' || *p == '\\'))
				unit[put++] = '\\';
			memcpy(unit + put, p, take);
			put += take;
		}
		if (n + put > cap) {
			memcpy(out + n, "...", 3);
			return n + 3;
		}
		memcpy(out + n, unit, put);
		n += put;
		i += take;
	}
	return n;
}

/*
 * May a line be written?  A pipe or a terminal takes it later, or never, when its reader has
 * stopped: who has waited once for that reader waits no more until it reads again.
 */
static bool
can_write(void)
{
	struct pollfd pfd = { .fd = the.fd, .events = POLLOUT };

	if (the.kind == KIND_FILE || poll(&pfd, 1, the.lost > 0 ? 0 : PATIENCE_MS) != 0)
		return true;
	the.lost++;
	return false;
}

static void
write_line(enum log_level level, const char *text, size_t len)
{
	char line[LINE_MAX_BYTES], at[CLOCK_TEXT_LEN + 1];
	int json = the.kind == KIND_JSON, head;
	size_t n;

	clock_format(clock_now_ms(), at);
	head = snprintf(line, sizeof(line),
	    json ?
	    "{\"at\":\"%s\",\"level\":\"%s\",\"process\":\"%s\",\"pid\":%d,\"message\":\"" :
	    "%s %s %s[%d]: ", at, level_names[level], the.name, (int)getpid());
	n = (size_t)head;
	n += put_escaped(line + n, sizeof(line) - n - 3, text, len, json);
	if (json) {
		line[n++] = '"';
		line[n++] = '}';
	}
	line[n++] = '\n';
	while (write(the.fd, line, n) == -1 && errno == EINTR)
		;
}

void
log_write(enum log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES], clean[LINE_MAX_BYTES];
	int saved = errno, len;
	va_list ap;

	if (level > log_threshold)
		return;
	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (len < 0)
		len = 0;
	if ((size_t)len >= sizeof(text))
		len = sizeof(text) - 1;
	if (the.kind == KIND_SYSLOG) {
		size_t n = put_escaped(clean, sizeof(clean) - 1, text, (size_t)len, 0);

		clean[n] = '\0';
		syslog(syslog_levels[level], "%s: %s", the.name, clean);
	} else if (can_write()) {
		if (the.lost > 0) {
			char gap[64];
			int n = snprintf(gap, sizeof(gap), "%u lines before this one were lost", the.lost);

			the.lost = 0;
			write_line(LOG_LEVEL_WARN, gap, (size_t)n);
		}
		write_line(level, text, (size_t)len);
	}
	errno = saved;
}
