/*
 * log.c: writes log lines: to standard error, a file, syslog, or as JSON lines on standard error.
 *
 * Used by every process; each writes its own lines with one write(2), and a file is opened with
 * O_APPEND, so lines of several processes never mix.  Nothing here ever waits for a reader: what can't
 * be written now waits in a fixed room of the process and is tried again with the next line and by
 * log_flush(); what finds no room there is lost, and counted.
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/log_syslog.h"
#include "base/text.h"

#define LINE_MAX_BYTES 1024
#define ROOM_BYTES	65536		/* of lines that wait, for each process */

enum log_kind { KIND_STDERR, KIND_JSON, KIND_FILE, KIND_SYSLOG };

/* The one log of this process. */
static struct {
	enum log_kind kind;
	int fd;				/* not of KIND_SYSLOG; standard error itself is not owned */
	enum { BY_WRITE, BY_POLL, BY_SEND } how;	/* … a line is written without waiting */
	char path[4096];		/* of KIND_FILE */
	char name[32];			/* "gateway 1" */
	struct log_syslog syslog;
	bool opened;
	bool torn;			/* the last line lacks its end */
	pid_t owner;			/* the process whose lines wait; others are forks of it */
	unsigned lost;			/* lines, since the last that was written */
	unsigned long lost_untold;	/* to log_take_lost() */
	size_t waiting;			/* bytes of whole lines that wait */
	char room[ROOM_BYTES];
} the = { .kind = KIND_STDERR, .fd = STDERR_FILENO, .name = "belayd", .syslog = LOG_SYSLOG_INIT };

enum log_level log_threshold = LOG_LEVEL_INFO;

static const char *const level_names[] = { "error", "warn", "info", "debug" };
static const int syslog_levels[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

static int
open_file(const char *path)
{
	/* The path may be a FIFO's. */
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

static void
close_fd(void)
{
	if (the.kind != KIND_SYSLOG && the.fd != STDERR_FILENO)
		(void)close(the.fd);
	log_syslog_close(&the.syslog);
}

/*
 * Standard error, so that writing to it never waits.  A pipe or a terminal is opened anew, since what
 * is set on a descriptor goes for all processes that share it, such as the shell that started us.
 * Where that is not allowed (it was another user's) a pipe is set all the same, and a terminal asked
 * before each line.  One that was opened before is kept: a worker may not open it again.
 */
static int
open_stderr(void)
{
	struct stat now, before;
	int fd, flags;

	the.how = BY_WRITE;
	if (fstat(STDERR_FILENO, &now) == -1)
		return STDERR_FILENO;
	if (S_ISSOCK(now.st_mode))
		the.how = BY_SEND;
	if (!S_ISFIFO(now.st_mode) && !S_ISCHR(now.st_mode))
		return STDERR_FILENO;
	if (the.opened && (the.kind == KIND_STDERR || the.kind == KIND_JSON) && the.fd != STDERR_FILENO &&
	    fstat(the.fd, &before) == 0 && before.st_dev == now.st_dev && before.st_ino == now.st_ino)
		return the.fd;
	if ((fd = open("/proc/self/fd/2", O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)) != -1)
		return fd;
	if (S_ISCHR(now.st_mode))
		the.how = BY_POLL;
	else if ((flags = fcntl(STDERR_FILENO, F_GETFL)) != -1)
		(void)fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK);
	return STDERR_FILENO;
}

static void
note_lost(void)
{
	the.lost++;
	the.lost_untold++;
}

static void
drop_waiting(void)
{
	for (size_t i = 0; i < the.waiting; i++)
		if (the.room[i] == '\n')
			note_lost();
	the.waiting = 0;
}

int
log_open(const char *target, enum log_level level)
{
	enum log_kind kind;
	int fd = -1;

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
		the.how = BY_WRITE;
	} else {
		errno = EINVAL;
		return -1;
	}
	log_flush();
	if (kind != the.kind)
		drop_waiting();		/* they are in the form of the other place */
	if (kind == KIND_STDERR || kind == KIND_JSON)
		fd = open_stderr();
	if (fd != the.fd)
		close_fd();
	if (kind == KIND_FILE && target != the.path)
		memcpy(the.path, target, strlen(target) + 1);
	the.kind = kind;
	the.fd = fd;
	the.opened = true;
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

/* Writes one whole line: 0; 1: not now; -1: never. */
static int
put_now(const char *line, size_t len)
{
	struct pollfd pfd = { .fd = the.fd, .events = POLLOUT };
	ssize_t n;

	if (the.kind == KIND_SYSLOG)
		return log_syslog_send(&the.syslog, line, len - 1) == 0 ? 0 : errno == EAGAIN ? 1 : -1;
	if (the.how == BY_POLL && poll(&pfd, 1, 0) == 0)
		return 1;
	if (the.torn && write(the.fd, "\n", 1) != 1)
		return 1;
	the.torn = false;
	do
		n = the.how == BY_SEND ? send(the.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL) :
		    write(the.fd, line, len);
	while (n == -1 && errno == EINTR);
	if (n == (ssize_t)len)
		return 0;
	if (n > 0) {
		the.torn = line[n - 1] != '\n';
		return -1;
	}
	/* A full disk may have room again, and lines are worth more than most things then. */
	return n == 0 || errno == EAGAIN || errno == ENOSPC || errno == EDQUOT ? 1 : -1;
}

void
log_flush(void)
{
	size_t done = 0;

	if (the.owner != getpid())
		return;
	while (done < the.waiting) {
		const char *line = the.room + done;
		size_t len = (size_t)((char *)memchr(line, '\n', the.waiting - done) - line) + 1;
		int ret = put_now(line, len);

		if (ret == 1)
			break;
		if (ret == -1)
			note_lost();
		done += len;
	}
	the.waiting -= done;
	if (done > 0)
		memmove(the.room, the.room + done, the.waiting);
}

/* Nothing that is older waits, or it goes behind that. */
static void
put_line(const char *line, size_t len)
{
	int ret = the.waiting == 0 ? put_now(line, len) : 1;

	if (ret == 1 && len <= sizeof(the.room) - the.waiting) {
		memcpy(the.room + the.waiting, line, len);
		the.waiting += len;
	} else if (ret != 0) {
		note_lost();
	}
}

/* The line as it is written; its length. */
static size_t
format_line(char line[LINE_MAX_BYTES], enum log_level level, const char *text, size_t len)
{
	char at[CLOCK_TEXT_LEN + 1];
	int json = the.kind == KIND_JSON;
	size_t n;

	if (the.kind == KIND_SYSLOG) {
		n = log_syslog_head(line, LINE_MAX_BYTES, syslog_levels[level]);
		n += (size_t)snprintf(line + n, LINE_MAX_BYTES - n, "%s: ", the.name);
	} else {
		clock_format(clock_now_ms(), at);
		n = (size_t)snprintf(line, LINE_MAX_BYTES,
		    json ?
		    "{\"at\":\"%s\",\"level\":\"%s\",\"process\":\"%s\",\"pid\":%d,\"message\":\"" :
		    "%s %s %s[%d]: ", at, level_names[level], the.name, (int)getpid());
	}
	n += put_escaped(line + n, LINE_MAX_BYTES - n - 3, text, len, json);
	if (json) {
		line[n++] = '"';
		line[n++] = '}';
	}
	line[n++] = '\n';
	return n;
}

static void
write_text(enum log_level level, const char *text, size_t len)
{
	char line[LINE_MAX_BYTES], gap[LINE_MAX_BYTES];
	size_t n = format_line(line, level, text, len), gap_len;
	char said[64];

	log_flush();
	if (the.lost > 0) {
		int said_len = snprintf(said, sizeof(said), "%u lines before this one were lost", the.lost);

		gap_len = format_line(gap, LOG_LEVEL_WARN, said, (size_t)said_len);
		if (the.waiting > 0 && gap_len + n > sizeof(the.room) - the.waiting) {
			note_lost();
			return;
		}
		the.lost = 0;
		put_line(gap, gap_len);
	}
	put_line(line, n);
}

void
log_write(enum log_level level, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES];
	int saved = errno, len;
	va_list ap;

	if (level > log_threshold)
		return;
	if (!the.opened)
		(void)log_open("stderr", log_threshold);
	if (the.owner != getpid()) {
		the.owner = getpid();
		the.waiting = the.lost = the.lost_untold = 0;	/* the parent's */
	}
	va_start(ap, fmt);
	len = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (len < 0)
		len = 0;
	if ((size_t)len >= sizeof(text))
		len = sizeof(text) - 1;
	write_text(level, text, (size_t)len);
	errno = saved;
}

unsigned long
log_take_lost(void)
{
	unsigned long n = the.owner == getpid() ? the.lost_untold : 0;

	the.lost_untold = 0;
	return n;
}

void
log_finish(int patience_ms)
{
	int64_t until = clock_mono_ms() + patience_ms;

	log_flush();
	while (the.owner == getpid() && the.waiting > 0 && clock_mono_ms() < until &&
	    (the.kind != KIND_SYSLOG || the.syslog.fd != -1)) {
		(void)poll(NULL, 0, 5);
		log_flush();
	}
}
