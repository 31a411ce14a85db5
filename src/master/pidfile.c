/*
 * pidfile.c: one master for each run directory.
 *
 * The lock belongs to the open file (F_OFD_SETLK): it passes on to the daemon that a fork makes,
 * and workers, which close the descriptor at once, don't hold it when the master was killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/must.h"
#include "master/pidfile.h"

/* 0; else why there is none. */
static int
make_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir;
	int error = 0;

	if (slash == NULL || slash == path)
		return 0;
	dir = must_strndup(path, (size_t)(slash - path));
	if (mkdir(dir, 0755) == 0)
		(void)chmod(dir, 0755);	/* whatever the umask */
	else if ((error = errno) == EEXIST || access(dir, F_OK) == 0)
		error = 0;
	free(dir);
	return error;
}

/* Says why the file can't be locked, and closes it. */
static int
refuse(int fd, const char *path, char *err, size_t errlen)
{
	bool taken = errno == EAGAIN || errno == EACCES;
	const char *why = strerror(errno);
	char other[16] = "";

	if (taken && pread(fd, other, sizeof(other) - 1, 0) > 0)
		other[strcspn(other, "\n")] = '\0';
	if (taken)
		(void)snprintf(err, errlen, "%s: belayd is running already (process %s)", path,
		    other);
	else
		(void)snprintf(err, errlen, "%s: can't be locked: %s", path, why);
	(void)close(fd);
	return -1;
}

/* Is it still the file of that name?  Whoever had the lock removes the file before giving it up. */
static bool
is_there(int fd, const char *path)
{
	struct stat ours, theirs;

	return fstat(fd, &ours) == 0 && lstat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
	    ours.st_ino == theirs.st_ino;
}

int
pidfile_open(const char *path, char *err, size_t errlen)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd, error = make_directory(path);

	if (error != 0) {
		(void)snprintf(err, errlen, "%s: its directory can't be made: %s", path,
		    strerror(error));
		return -1;
	}
	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (fd == -1) {
			(void)snprintf(err, errlen, "%s: %s", path, strerror(errno));
			return -1;
		}
		(void)fchmod(fd, 0644);
		if (fcntl(fd, F_OFD_SETLK, &lock) == -1)
			return refuse(fd, path, err, errlen);
		if (is_there(fd, path))
			return fd;
		/* The lock of a file that is gone keeps nobody out. */
		(void)close(fd);
	}
}

int
pidfile_write(int fd)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (ftruncate(fd, 0) == -1 || pwrite(fd, text, (size_t)len, 0) != len)
		return -1;
	return 0;
}

void
pidfile_remove(int fd, const char *path)
{
	if (fd == -1)
		return;
	(void)unlink(path);
	(void)close(fd);
}
