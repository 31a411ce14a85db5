/*
 * setup.h: what the master arranges for itself before there are workers.
 */
#ifndef BELAY_MASTER_SETUP_H
#define BELAY_MASTER_SETUP_H

#include <stdbool.h>
#include <stddef.h>

struct conf;

/*
 * Asks every role whether it can work with these settings.  The number of roles that can't; each
 * says why in one line, which is given to report.
 */
unsigned setup_check_roles(const struct conf *conf, void (*report)(void *arg, const char *line),
    void *arg);

/*
 * What roles have the master make for as long as the instance lives (worker_role.arrange()), and its end.  1: another
 * binary would not find it; 0; -1: a line was logged.
 */
int setup_arrange(const struct conf *conf, unsigned uid, unsigned gid);
void setup_clear_away(void);

/*
 * Signals, those of worker_signals() and SIGUSR2, are blocked from here on and have their default
 * dispositions, whatever the parent ignored.  The descriptor to read them from, or -1 with errno.
 */
int setup_signals(void);

/*
 * Descriptors as many as there may be, no core files (they would hold secrets), files not for
 * others.
 */
void setup_limits(void);

/*
 * The ids that workers run as; (unsigned)-1 for both where that is the master's own.  -1: a line
 * was logged.
 */
int setup_user(const struct conf *conf, unsigned *uid, unsigned *gid);

/*
 * Goes on in a new process without a terminal.  Returns there, with *ready_fd: setup_ready() ends
 * the waiting of the process that was started, which never returns from here and exits with the
 * status it is told, or 2 when this one ends before.  -1 with errno.
 */
int setup_daemon(int *ready_fd);
void setup_ready(int *ready_fd, int status);
/* Standard input, output and error are /dev/null from here on. */
void setup_no_terminal(void);

#endif
