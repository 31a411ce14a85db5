/*
 * children.h: the table of worker processes: which there should be, which there are, when the next
 * is due.
 */
#ifndef BELAY_MASTER_CHILDREN_H
#define BELAY_MASTER_CHILDREN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "master/listeners.h"
#include "workers/role.h"

struct conf;

/* One process that there should be; its place in the table is its slot in the shared memory. */
struct child {
	const struct worker_role *role;
	unsigned nth;
	pid_t pid;			/* 0: none */
	bool was_ready;			/* this process, or one before it, got through its start */
	bool told;			/* to drain */
	bool hung;			/* it was killed for that */
	int64_t started_ms;		/* by the master's clock (master.c), like all times here */
	int64_t sign_mono_ms;		/* its newest sign of life, as it gave it; monotonic … */
	int64_t heard_ms;		/* … and when the master saw that */
	int64_t due_ms;			/* when to start it, while there is none */
	unsigned failures;		/* deaths in a row, each soon after its start */
	unsigned hopeless;		/* … of which it said that trying again can't help */
	/* deaths in a row by a fault of its own while it was at work, each within a minute of its start */
	unsigned crashes;
};

struct children {
	struct child child[SHM_MAX_SLOTS];
	unsigned count;
	struct shm *shm;
	struct listeners listeners;
	int conf_fd;			/* conf_share.h */
	uint8_t secret[WORKER_SECRET_LEN];	/* worker.secret */
	/* The master's alone: a worker closes them first of all.  -1: there is none. */
	int pidfile_fd, signal_fd, notify_fd;
	int ready_fd;			/* setup_daemon(): the process that was started waits there */
	unsigned uid, gid;		/* that workers run as; (unsigned)-1: the master's */
	bool foreground;
};

/* What became of a child; see children_reap(). */
struct child_end {
	struct child *child;
	bool hopeless;			/* it could not start, and trying again can't help */
	bool ready;			/* it had got through its start */
	pid_t pid;
	int status;			/* as of waitpid(2) */
};

/* Fills in which processes these settings ask for.  -1: more than there can be. */
int children_plan(struct children *c, const struct conf *conf);
/* A role of which these settings ask for a process, while the plan has none; NULL: no such. */
const struct worker_role *children_missing(const struct children *c, const struct conf *conf);
/* How many of them listen. */
unsigned children_listening(const struct children *c);

/* Forks the child now.  0, or -1 when it can't be had; it is due again later. */
int children_start(struct children *c, struct child *child, const struct conf *conf,
    int64_t now_ms);
/*
 * Takes one dead process away: logs its end, puts what it owned in shared memory right, and says
 * when its successor is due.  false: none is dead.  out->child is NULL for a process that is not in
 * the table.
 */
bool children_reap(struct children *c, int64_t now_ms, struct child_end *out);
/*
 * Kills what gave no sign of life for hang_ms, or did not get through its start in twelve times
 * that.  Silence counts from the look that found the newest sign, by the master's clock: a time in
 * which the master did not run is nobody's silence.
 */
void children_check_hung(struct children *c, int64_t now_ms, int64_t hang_ms);
void children_signal(const struct children *c, int sig);	/* all that there are */

/* Has it taken up its work? */
bool child_is_ready(const struct children *c, const struct child *child);

#endif
