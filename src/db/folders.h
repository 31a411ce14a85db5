/*
 * folders.h: the folders that lead to a store's file.
 */
#ifndef BELAY_DB_FOLDERS_H
#define BELAY_DB_FOLDERS_H

#include <stddef.h>
#include <sys/types.h>

struct folders_owner {
	uid_t uid;
	gid_t gid;
};

/*
 * Makes the folders that are missing on the way to the file at this absolute path, mode 0750, and gives them to
 * the owner; NULL: they stay the process's own.  What is there stays as it is.  0, or -1 with errno.
 */
int folders_make(const char *path, const struct folders_owner *owner);

#endif
