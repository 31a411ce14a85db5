/*
 * master.h: the master process.
 */
#ifndef BELAY_MASTER_MASTER_H
#define BELAY_MASTER_MASTER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conf.h"

/* Exit statuses of belayd. */
enum { MASTER_OK = 0, MASTER_BAD_SETTINGS = 1, MASTER_NOT_STARTED = 2, MASTER_LOST = 3 };

/*
 * Reads and checks the settings as a start would; each fault and warning is a line on standard
 * error.  to_run: settings under which nobody could ever log in are a fault, too.  NULL: there are faults.
 */
struct conf *master_load(const struct conf_sources *sources, bool to_run);

/*
 * Runs the daemon with these settings, which it takes over; sources is where a reload reads them
 * again (its file's path must be absolute).  Returns the exit status, in the daemon's own process
 * and in the worker processes too.
 */
int master_run(const struct conf_sources *sources, struct conf *conf, bool foreground);

#endif
