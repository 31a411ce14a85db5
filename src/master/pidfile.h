/*
 * pidfile.h: the file with the master's process id, locked as long as the master runs.
 */
#ifndef BELAY_MASTER_PIDFILE_H
#define BELAY_MASTER_PIDFILE_H

#include <stddef.h>

/*
 * Opens and locks the file; its directory is made when it is missing (not its parents).  The lock
 * goes with the descriptor through a fork.  The descriptor, or -1 with a sentence in err.
 */
int pidfile_open(const char *path, char *err, size_t errlen);
/* Writes this process' id.  -1 with errno. */
int pidfile_write(int fd);
/* Removes the file and gives the lock up. */
void pidfile_remove(int fd, const char *path);

#endif
