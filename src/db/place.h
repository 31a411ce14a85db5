/*
 * place.h: the private folder of a store that ends with its instance (memory:).
 *
 * One for each process, remembered in it and inherited by the processes that it forks.  Named at random, mode 0700, in
 * /dev/shm where more than 64 MB are free (a container's is often no larger), else in $TMPDIR, else in /tmp.
 *
 * A lock (flock) on the folder says that its instance lives: each process of the instance holds the lock by the
 * descriptor that it inherited, however the others end.  What is not locked was left by an instance that was killed.
 */
#ifndef BELAY_DB_PLACE_H
#define BELAY_DB_PLACE_H

#include <stddef.h>

/*
 * Removes what killed instances left, and makes a folder for that user; (unsigned)-1: the process's own.
 * 0, or -1 with a sentence.
 */
int place_make(unsigned uid, unsigned gid, char *err, size_t errlen);
/* The path of the store's file, valid until place_remove(); NULL: there is no place. */
const char *place_file(void);
/* The folder goes, with what is in it; none: nothing happens. */
void place_remove(void);

#endif
