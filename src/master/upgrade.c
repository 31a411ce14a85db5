/*
 * upgrade.c: another binary in the place of this one.  Runs in the master; owns how the program was started.
 *
 * What is handed over is text, a line for each thing, so that another version can read it:
 *
 *	program /usr/sbin/belayd
 *	pidfile 5 /run/belay/belayd.pid
 *	notify 6 10000
 *	listen 7 shared 0.0.0.0:3000
 *
 * A line that is not understood is left alone, but for its descriptor, which is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/must.h"
#include "master/pidfile.h"
#include "master/upgrade.h"
#include "net/listen.h"

#define VARIABLE "BELAYD_HANDOVER"	/* the number of the memory file */
#define TEXT_MAX (1 << 20)

static struct {
	char *path;			/* of the program, not resolved: where a link points may change */
	char *folder;			/* that relative names are relative to */
	char **argv;
} self;

void
upgrade_remember(char **argv)
{
	const char *name = (const char *)(uintptr_t)getauxval(AT_EXECFN);
	struct buf path = BUF_INIT;

	self.argv = argv;
	if ((self.folder = getcwd(NULL, 0)) == NULL || name == NULL)
		return;
	if (*name != '/')
		buf_printf(&path, "%s/", self.folder);
	buf_puts(&path, name);
	buf_putc(&path, '\0');
	self.path = path.data;
}

/* --- what the binary before this one left */

void
upgrade_add_socket(struct upgrade *u, const char *address, bool spread, int fd)
{
	u->sockets = must_realloc(u->sockets, (u->sockets_n + 1) * sizeof(*u->sockets));
	u->sockets[u->sockets_n++] =
	    (struct upgrade_socket){ must_strndup(address, strlen(address)), spread, fd };
}

/* The next word of a line, which is cut there; "" at the end. */
static char *
word(char **line)
{
	char *start = *line, *end = start + strcspn(start, " ");

	*line = *end == '\0' ? end : end + 1;
	*end = '\0';
	return start;
}

static void
take_line(struct upgrade *u, char *line)
{
	const char *what = word(&line);
	int fd;

	if (strcmp(what, "program") == 0) {
		free(self.path);
		self.path = must_strndup(line, strlen(line));
		return;
	}
	fd = atoi(word(&line));
	if (fd <= 2 || fcntl(fd, F_SETFD, FD_CLOEXEC) == -1)
		return;
	if (strcmp(what, "pidfile") == 0 && u->pidfile_fd == -1) {
		u->pidfile_fd = fd;
		u->pidfile = must_strndup(line, strlen(line));
	} else if (strcmp(what, "notify") == 0 && u->notify_fd == -1) {
		u->notify_fd = fd;
		u->watchdog_ms = atoll(line);
	} else if (strcmp(what, "listen") == 0) {
		bool spread = strcmp(word(&line), "reuseport") == 0;

		upgrade_add_socket(u, line, spread, fd);
	} else {
		(void)close(fd);
	}
}

void
upgrade_receive(struct upgrade *u)
{
	const char *number = getenv(VARIABLE);
	char *text, *line, *next;
	off_t len;
	int fd;

	*u = (struct upgrade){ .pidfile_fd = -1, .notify_fd = -1 };
	if (number == NULL)
		return;
	fd = atoi(number);
	(void)unsetenv(VARIABLE);
	len = fd > 2 ? lseek(fd, 0, SEEK_END) : -1;
	if (len <= 0 || len > TEXT_MAX)
		return;
	text = must_alloc((size_t)len + 1);
	if (pread(fd, text, (size_t)len, 0) == len) {
		u->given = true;
		for (line = text; *line != '\0'; line = next) {
			next = line + strcspn(line, "\n");
			if (*next != '\0')
				*next++ = '\0';
			take_line(u, line);
		}
	}
	free(text);
	(void)close(fd);
}

int
upgrade_take_socket(struct upgrade *u, const char *address, bool spread)
{
	for (size_t i = 0; i < u->sockets_n; i++) {
		struct upgrade_socket *s = &u->sockets[i];
		int fd = s->fd;

		if (fd == -1 || s->spread != spread || strcmp(s->address, address) != 0)
			continue;
		s->fd = -1;
		return fd;
	}
	return -1;
}

void
upgrade_fini(struct upgrade *u)
{
	for (size_t i = 0; i < u->sockets_n; i++) {
		if (u->sockets[i].fd != -1) {
			listen_unlink(u->sockets[i].address);
			(void)close(u->sockets[i].fd);
		}
		free(u->sockets[i].address);
	}
	pidfile_remove(u->pidfile_fd, u->pidfile);
	if (u->notify_fd != -1)
		(void)close(u->notify_fd);
	free(u->sockets);
	free(u->pidfile);
	*u = (struct upgrade){ .given = u->given, .pidfile_fd = -1, .notify_fd = -1 };
}

/* --- the trial */

/* In the child: the same command, which only reads the settings. */
static _Noreturn void
be_trial(int report_fd)
{
	size_t n = 0;
	char **argv;
	sigset_t none;

	while (self.argv[n] != NULL)
		n++;
	argv = must_alloc((n + 2) * sizeof(*argv));
	memcpy(argv, self.argv, n * sizeof(*argv));
	argv[n] = (char[]){ "-t" };
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (chdir(self.folder) == 0 && dup2(report_fd, STDOUT_FILENO) != -1 &&
	    dup2(report_fd, STDERR_FILENO) != -1)
		(void)execv(self.path, argv);
	(void)dprintf(report_fd, "%s: %s\n", self.path, strerror(errno));
	_exit(2);
}

pid_t
upgrade_try(int *report_fd)
{
	pid_t pid;
	int fd;

	if (self.path == NULL) {
		errno = ENOENT;
		return -1;
	}
	if ((fd = memfd_create("belay trial", MFD_CLOEXEC)) == -1)
		return -1;
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0)
		be_trial(fd);
	if (pid == -1)
		(void)close(fd);
	else
		*report_fd = fd;
	return pid;
}

/* --- the end of this one */

static void
hand_over(struct buf *text, const char *what, int fd)
{
	(void)fcntl(fd, F_SETFD, 0);
	buf_printf(text, "%s %d ", what, fd);
}

static int
write_all(int fd, const struct buf *text)
{
	return write(fd, text->data, text->len) == (ssize_t)text->len ? 0 : -1;
}

int
upgrade_exec(const struct upgrade *u)
{
	struct buf text = BUF_INIT;
	char number[16];
	int fd = memfd_create("belay handover", 0);

	buf_printf(&text, "program %s\n", self.path);
	if (u->pidfile_fd != -1) {
		hand_over(&text, "pidfile", u->pidfile_fd);
		buf_printf(&text, "%s\n", u->pidfile);
	}
	if (u->notify_fd != -1) {
		hand_over(&text, "notify", u->notify_fd);
		buf_printf(&text, "%lld\n", (long long)u->watchdog_ms);
	}
	for (size_t i = 0; i < u->sockets_n; i++) {
		hand_over(&text, "listen", u->sockets[i].fd);
		buf_printf(&text, "%s %s\n", u->sockets[i].spread ? "reuseport" : "shared",
		    u->sockets[i].address);
	}
	(void)snprintf(number, sizeof(number), "%d", fd);
	if (fd == -1 || write_all(fd, &text) == -1 || setenv(VARIABLE, number, 1) == -1 ||
	    chdir(self.folder) == -1) {
		buf_fini(&text);
		return -1;
	}
	buf_fini(&text);
	(void)fflush(NULL);
	(void)execv(self.path, self.argv);
	log_error("%s: %s; going on with the binary that was there", self.path, strerror(errno));
	(void)execv("/proc/self/exe", self.argv);
	return -1;
}
