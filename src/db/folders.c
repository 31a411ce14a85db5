/*
 * folders.c: the folders that lead to a store's file.  Only the storage process; owns nothing.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "db/folders.h"

/*
 * Of a folder that was just made.  Whoever may write to its parent may have put a link in its place
 * meanwhile: it is not followed.
 */
static int
give(const char *folder, const struct folders_owner *owner)
{
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), ret, saved;

	if (fd == -1)
		return -1;
	ret = fchown(fd, owner->uid, owner->gid);
	saved = errno;
	(void)close(fd);
	errno = saved;
	return ret;
}

int
folders_make(const char *path, const struct folders_owner *owner)
{
	char folder[4096];

	for (const char *slash = strchr(path + 1, '/'); slash != NULL;
	    slash = strchr(slash + 1, '/')) {
		if ((size_t)(slash - path) >= sizeof(folder)) {
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(folder, path, (size_t)(slash - path));
		folder[slash - path] = '\0';
		if (mkdir(folder, 0750) == 0) {
			if (owner != NULL && give(folder, owner) == -1)
				return -1;
		} else if (errno != EEXIST && errno != EISDIR) {
			int saved = errno;

			/* One that is there may be said to be on a file system that can't be written to. */
			if (access(folder, F_OK) == -1) {
				errno = saved;
				return -1;
			}
		}
	}
	return 0;
}
