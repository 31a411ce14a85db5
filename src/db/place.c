/*
 * place.c: the private folder of a store that ends with its instance.  The master makes and removes it, and an orphan
 * that ends last; owns the folder and the descriptor that keeps its lock.
 */
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "db/place.h"

#define PREFIX		"belay-store-"
#define FILE_NAME	"belay.db"
#define SHM_MIN_BYTES	((unsigned long long)64 << 20)
#define TRIES		10

static struct {
	char folder[4096];		/* "": there is no place */
	char file[4096 + sizeof(FILE_NAME)];
	int fd;				/* of the folder: keeps the lock */
} place;

/* Only what SQLite makes there: whoever may write to the parent may have put a folder of his own there. */
static void
empty(int fd)
{
	static const char *const names[] = { FILE_NAME, FILE_NAME "-wal", FILE_NAME "-shm", FILE_NAME "-journal" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)unlinkat(fd, names[i], 0);
}

static int
open_folder(int parent, const char *name)
{
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* What nobody keeps locked goes. */
static void
sweep(const char *parent)
{
	DIR *dir = opendir(parent);
	const struct dirent *entry;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		int fd;

		if (strncmp(entry->d_name, PREFIX, sizeof(PREFIX) - 1) != 0 ||
		    (fd = open_folder(dirfd(dir), entry->d_name)) == -1)
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			empty(fd);
			(void)unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
		}
		(void)close(fd);
	}
	(void)closedir(dir);
}

/*
 * Locks the folder that was just made.  Until then another belayd may take it for one that was left, and remove it: a
 * folder that is locked and still there stays.
 */
static bool
keep(void)
{
	struct stat by_fd, by_name;

	return flock(place.fd, LOCK_EX | LOCK_NB) == 0 && fstat(place.fd, &by_fd) == 0 &&
	    lstat(place.folder, &by_name) == 0 && by_fd.st_ino == by_name.st_ino && by_fd.st_dev == by_name.st_dev;
}

/* One try.  1: a folder was made and lost again; -1 with errno. */
static int
make_in(const char *parent, unsigned uid, unsigned gid)
{
	int n = snprintf(place.folder, sizeof(place.folder), "%s/" PREFIX "XXXXXX", parent), saved;

	if (n < 0 || (size_t)n >= sizeof(place.folder)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if (mkdtemp(place.folder) == NULL)
		return -1;
	if ((place.fd = open_folder(AT_FDCWD, place.folder)) == -1)
		return errno == ENOENT ? 1 : -1;
	if (!keep()) {
		(void)close(place.fd);
		return 1;
	}
	if (uid == (unsigned)-1 || fchown(place.fd, uid, gid) == 0)
		return 0;
	saved = errno;
	(void)rmdir(place.folder);
	(void)close(place.fd);
	errno = saved;
	return -1;
}

static bool
has_room(const char *folder)
{
	struct statvfs fs;

	return statvfs(folder, &fs) == 0 && (unsigned long long)fs.f_bavail * fs.f_frsize > SHM_MIN_BYTES;
}

int
place_make(unsigned uid, unsigned gid, char *err, size_t errlen)
{
	const char *tmpdir = getenv("TMPDIR");
	const char *const parents[] = {
		"/dev/shm", tmpdir != NULL && *tmpdir == '/' ? tmpdir : "/tmp", "/tmp"
	};
	int made = -1;

	for (size_t i = 0; i < sizeof(parents) / sizeof(parents[0]); i++)
		sweep(parents[i]);
	for (size_t i = has_room(parents[0]) ? 0 : 1; made != 0 && i < sizeof(parents) / sizeof(parents[0]); i++)
		for (int tries = 0; (made = make_in(parents[i], uid, gid)) == 1 && tries < TRIES; tries++)
			;
	if (made == 0) {
		snprintf(place.file, sizeof(place.file), "%s/" FILE_NAME, place.folder);
		return 0;
	}
	snprintf(err, errlen, "no folder for memory: can be made in /dev/shm, TMPDIR or /tmp: %s", strerror(errno));
	place.folder[0] = '\0';
	return -1;
}

const char *
place_file(void)
{
	return place.folder[0] != '\0' ? place.file : NULL;
}

void
place_remove(void)
{
	if (place.folder[0] == '\0')
		return;
	empty(place.fd);
	(void)rmdir(place.folder);
	(void)close(place.fd);
	place.folder[0] = '\0';
}
