/*
 * role.h: what a kind of worker process is to the rest of Belay.
 *
 * A role is one `const struct worker_role` in one file, listed in roles.def.
 * role.c writes once what every role needs: attaching to the shared memory,
 * the title, dropping privileges, the loop, the doorbell, the heartbeat to
 * the master, reload and drain.  The master knows no role by heart.
 */
#ifndef BELAY_WORKERS_ROLE_H
#define BELAY_WORKERS_ROLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "shm/mailbox.h"
#include "shm/shm.h"
#include "shm/stats.h"

struct conf;
struct event_base;
struct worker;

enum { WORKER_AGAIN = -1, WORKER_HOPELESS = -2 };	/* of worker_role.start() */

enum worker_role_id {
#define ROLE(id, name, what) ROLE_ID_##id,
#include "workers/roles.def"
#undef ROLE
	ROLE_ID_COUNT
};

struct worker_role {
	enum worker_role_id id;
	bool listens;			/* is given the listening sockets */

	/* Master: how many of it these settings ask for. */
	unsigned (*count)(const struct conf *conf);
	/*
	 * Master, before it forks and at a reload: -1 with a sentence when the role can't work with
	 * these settings.  NULL: it always can.
	 */
	int (*check)(const struct conf *conf, char *why, size_t len);
	/*
	 * Master, once, before the first process is forked: makes, for the user that the processes
	 * run as ((unsigned)-1: the master's own), what lives as long as the instance.  What this
	 * process remembers of it the others inherit.  1: made, and another binary would not find
	 * it; 0: not needed; -1: a line was logged.
	 */
	int (*arrange)(const struct conf *conf, unsigned uid, unsigned gid);
	/*
	 * Removes that again.  Master, after the last process; without a master, a process of the
	 * role at its end.
	 */
	void (*clear_away)(void);
	/* Size in bytes of its mailbox ring, a power of two; 0: the default. */
	uint32_t mailbox_bytes;
	bool effects;			/* its slot has an area of effects: shm/effects.h */

	/*
	 * In the worker, before it gives up the rights that belayd was started with, and only where it
	 * does: makes for that user what the user could not.  0, or -1: a line was logged, and trying again can't help.
	 */
	int (*prepare)(const struct worker *w, unsigned uid, unsigned gid);
	/*
	 * In the worker, in this order.  start() may block; when it fails (a line was logged) the
	 * process ends: WORKER_AGAIN, the master tries again; WORKER_HOPELESS, trying again can't
	 * help, and the master gives up when that happens at start-up. NULL where a role has no
	 * need.
	 */
	int (*start)(struct worker *w);
	/*
	 * One record of its mailbox; the record is valid until this returns (or until batch_end()
	 * where consume_late is set).
	 */
	void (*mail)(struct worker *w, const struct mail *mail);
	/*
	 * After all records that were there, and after each turn of the loop: the place to flush,
	 * commit, post.
	 */
	void (*batch_end)(struct worker *w);
	/* About every 100 ms. */
	void (*tick)(struct worker *w);
	/* New settings are in force (w->conf). */
	void (*reload)(struct worker *w);
	/*
	 * Stop taking on work and finish what there is by deadline_mono_ms; call worker_done() when
	 * finished; what has come into the mailbox by then is still handled.  Where shm_course() is
	 * SHM_STAYS the master is gone: events on the listeners must be gone, too, when this returns, since
	 * they are closed then.  NULL: ends when the mailbox is empty.
	 */
	void (*drain)(struct worker *w, int64_t deadline_mono_ms);
	/* last call before exit: frees all, so that leak checkers see the truth */
	void (*stop)(struct worker *w);

	/*
	 * Drain order: processes of a lower rank are drained, and gone, before those of a higher
	 * are asked. Gateways 0, readers and keys 1, storage 2.
	 */
	int drain_rank;
	/*
	 * Records are consumed (given up for good) only after batch_end() returned, not one by one.
	 */
	bool consume_late;
	/* At most this many records in one batch; 0: no limit. */
	unsigned batch_max;
};

#define WORKER_SECRET_LEN 32

struct worker {
	const struct worker_role *role;
	unsigned nth;			/* first, second… of its role, from 0 */
	unsigned slot;
	uint16_t generation;
	struct shm *shm;
	struct event_base *base;	/* made after the fork */
	const struct conf *conf;	/* settings in force; the pointer changes at reload */
	/*
	 * Only for roles that listen: server.listen in its order, then server.tls_listen, then
	 * server.admin_listen where that is set.  Owned by role.c.
	 */
	const int *listeners;
	unsigned listener_count;
	/*
	 * WORKER_SECRET_LEN random bytes that all processes of the instance share, as long as it
	 * runs: what one makes with them the others, and its successors, can read.
	 */
	const uint8_t *secret;
	uint64_t *stats;		/* this slot's counters */
	struct mailbox_reader mailbox;
	int64_t now_ms, mono_ms;	/* clocks, read once per turn of the loop */
	bool draining;
	void *data;			/* the role's own */
};

/* What the master gives to a new process. */
struct worker_start {
	const struct worker_role *role;
	unsigned nth, slot;
	uint16_t generation;
	struct shm *shm;
	const struct conf *conf;	/* read by the master; valid all the time */
	int conf_fd;			/* conf_share.h: where a reload finds the new ones */
	const uint8_t *secret;		/* of struct worker */
	const int *listeners;		/* closed by the process when it leaves, or earlier: worker_close_listeners() */
	unsigned listener_count;
	int master_pid;
	unsigned uid, gid;		/* to run as; (unsigned)-1: as the master does */
	const char *user;		/* whose further groups it gets */
	bool foreground;		/* the log stays on standard error */
	/* how many of its predecessors in a row crashed while at work */
	unsigned crashes;
};

/*
 * In the child, right after the fork, with the signals of worker_signals() blocked: becomes that
 * process, works until it is told to leave, and returns the exit status: 0 it left in order, 1 or 2
 * it could not start (see start()).
 *
 * The master speaks to it by signals: HUP, take up new settings; USR1, open the log again; TERM,
 * drain (repeated until the slot says DRAINING); QUIT, leave at once.  A TERM from anyone else is
 * not obeyed (init systems send it to all processes, and the master sees to the order).  INT is the
 * master's alone.  USR2 is how the kernel tells that the master is gone: the listeners are shut at
 * once, for all processes that share them, and the process leaves by itself, within 5 s.
 */
int worker_run(const struct worker_start *start);

/*
 * The signals that master and workers take one at a time, from a descriptor, and block otherwise; a
 * sigset_t.
 */
void worker_signals(void *sigset);

/* Where the log goes: what server.log says, or standard error in the foreground. */
int worker_open_log(const struct conf *conf, bool foreground);

/* All roles, by id; for the master. */
const struct worker_role *worker_role_by_id(enum worker_role_id id);
/* "gateway", as roles.def has it. */
const char *worker_role_name(enum worker_role_id id);

/*
 * Posts a record to another process (or to oneself).  What the ring refuses waits in this process,
 * in order, and is tried again each turn of the loop; more than WORKER_BACKLOG_MAX bytes waiting
 * for one slot are refused: -1 with errno EAGAIN. A record that is too long: -1 with EMSGSIZE.
 */
#define WORKER_BACKLOG_MAX (64u << 20)
int worker_post(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt);
/*
 * The same without waiting: -1 with EAGAIN when the ring is full or something is waiting already.
 * For what may be lost and is counted (telemetry).
 */
int worker_post_now(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov,
    int iovcnt);
/*
 * The same for a sender that keeps what is refused and tries again: nothing waits here, and *at is where the receiver
 * is done with the record (mailbox_consumed()).
 */
int worker_post_at(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt,
    uint64_t *at);
/*
 * The same for what can wait, too: it takes no more than half of the ring, whose rest is for what
 * somebody waits for, and does not wake the receiver for each record.
 */
int worker_post_idly(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov,
    int iovcnt);
size_t worker_backlog(const struct worker *w, unsigned to);	/* bytes waiting for that slot */

/* The slot of the nth process of a role, -1 when there is none. */
int worker_slot_of(const struct worker *w, enum worker_role_id role, unsigned nth);

/*
 * Reads the clocks anew.  The first thing in a callback of the event loop that looks at the time:
 * the loop may have slept since it last read them.
 */
void worker_clock(struct worker *w);

/* In the middle of work that takes seconds: this process is not hanging. */
void worker_alive(struct worker *w);

/* One more turn of the loop, with batch_end(), in a few milliseconds. */
void worker_soon(struct worker *w);

/* Draining is finished: leave the loop after this turn. */
void worker_done(struct worker *w);
/*
 * Lets go of the listeners; there must be no events on them.  Clients are refused once all processes have, and do not
 * wait.
 */
void worker_close_listeners(struct worker *w);

/* Counts one time in a histogram of stats.def (its first cell: STAT_NAME). */
void worker_observe(struct worker *w, unsigned histogram, uint64_t us);

#define worker_count(w, counter, n) stats_add((w)->stats, (counter), (n))

/*
 * Monotonic: since when what this process counts for itself is all that was counted in its place: it is the first one
 * there, and so nothing was since the instance began; or it is not, and what its predecessors counted is gone.
 */
static inline int64_t
worker_counts_since(const struct worker *w, int64_t mono_ms)
{
	return w->generation == 1 ? shm_started_mono_ms(w->shm) : mono_ms;
}

#endif
