/*
 * children.c: forks workers, takes the dead away, and decides when their successors are due.
 *
 * Runs in the master.  The wish to have a process, and its slot in the shared memory, outlive the
 * process.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/log.h"
#include "base/must.h"
#include "base/stats_names.h"
#include "master/children.h"
#include "master/setup.h"

#define SOON_MS		10000		/* a death within this time of its start is a failure */
#define BACK_OFF_MIN_MS	100
#define BACK_OFF_MAX_MS	10000
#define START_FACTOR	12		/* a start may take this many times server.hang_time */
#define CALM_MS		60000		/* a crash after so much life is not one in a row */

int
children_plan(struct children *c, const struct conf *conf)
{
	c->count = 0;
	for (unsigned id = 0; id < ROLE_ID_COUNT; id++) {
		const struct worker_role *role = worker_role_by_id((enum worker_role_id)id);
		unsigned n = role->count(conf);

		if (n > SHM_MAX_SLOTS - c->count)
			return -1;
		for (unsigned nth = 0; nth < n; nth++)
			c->child[c->count++] = (struct child){ .role = role, .nth = nth };
	}
	return 0;
}

const struct worker_role *
children_missing(const struct children *c, const struct conf *conf)
{
	for (unsigned id = 0; id < ROLE_ID_COUNT; id++) {
		const struct worker_role *role = worker_role_by_id((enum worker_role_id)id);
		bool planned = false;

		for (unsigned i = 0; i < c->count; i++)
			planned |= c->child[i].role == role;
		if (!planned && role->count(conf) > 0)
			return role;
	}
	return NULL;
}

unsigned
children_listening(const struct children *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->count; i++)
		n += c->child[i].role->listens;
	return n;
}

static unsigned
slot_of(const struct children *c, const struct child *child)
{
	return (unsigned)(child - c->child);
}

bool
child_is_ready(const struct children *c, const struct child *child)
{
	struct slot_view view;

	if (child->pid == 0)
		return false;
	slot_get(c->shm, slot_of(c, child), &view);
	return view.state == SLOT_READY || view.state == SLOT_DRAINING;
}

/* "immediately the first time, then 100 ms doubling to 10 s" */
static int64_t
back_off_ms(unsigned failures)
{
	if (failures <= 1)
		return 0;
	if (failures - 2 >= 7)
		return BACK_OFF_MAX_MS;
	return BACK_OFF_MIN_MS << (failures - 2);
}

/* In the child: what is the master's alone is let go of. */
static void
let_go(struct children *c, const int *mine, unsigned mine_count)
{
	const int own[] = { c->pidfile_fd, c->signal_fd, c->notify_fd, c->ready_fd };

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (own[i] != -1)
			(void)close(own[i]);
	if (!c->foreground)		/* else whoever started us would wait for the end of its pipes */
		setup_no_terminal();
	for (unsigned i = 0; i < c->listeners.sets * c->listeners.per_set; i++) {
		bool keep = false;

		for (unsigned j = 0; j < mine_count; j++)
			keep |= c->listeners.fd[i] == mine[j];
		if (!keep)
			(void)close(c->listeners.fd[i]);
	}
}

static _Noreturn void
be_child(struct children *c, const struct child *child, uint16_t generation,
    const struct conf *conf, pid_t master)
{
	const int *fds = listeners_of(&c->listeners, child->nth);
	unsigned n = child->role->listens ? c->listeners.per_set : 0;
	struct worker_start start = {
		.role = child->role, .nth = child->nth, .slot = slot_of(c, child),
		    .generation = generation,
		.shm = c->shm, .conf = conf, .conf_fd = c->conf_fd, .secret = c->secret,
		.listeners = fds, .listener_count = n, .master_pid = master,
		.uid = c->uid, .gid = c->gid, .user = c->uid != (unsigned)-1 ?
		    conf->server_user : NULL,
		.foreground = c->foreground, .crashes = child->crashes
	};

	let_go(c, fds, n);
	exit(worker_run(&start));
}

int
children_start(struct children *c, struct child *child, const struct conf *conf, int64_t now_ms)
{
	unsigned slot = slot_of(c, child);
	uint16_t generation = slot_take(c->shm, slot, child->role->id, child->nth);
	pid_t master = getpid(), pid;

	stats_add(stats_block(c->shm, slot), STAT_WORKER_STARTS, 1);
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0)
		be_child(c, child, generation, conf, master);
	if (pid == -1) {
		log_error("%s %u: no process can be had: %s", worker_role_name(child->role->id), child->nth + 1,
		    strerror(errno));
		slot_died(c->shm, slot);
		child->failures++;
		child->due_ms = now_ms + (back_off_ms(child->failures) > 0 ?
		    back_off_ms(child->failures) : BACK_OFF_MIN_MS);
		return -1;
	}
	slot_set_pid(c->shm, slot, pid);
	child->pid = pid;
	child->started_ms = child->heard_ms = now_ms;
	child->sign_mono_ms = 0;
	child->told = child->hung = false;
	return 0;
}

static void
log_end(const struct child *child, int status, int64_t lived_ms)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "%s %u", worker_role_name(child->role->id), child->nth + 1);
	if (WIFSIGNALED(status))
		log_error("%s (process %d) was ended by signal %d (%s) after %lld ms", name,
		    (int)child->pid,
		    WTERMSIG(status), strsignal(WTERMSIG(status)), (long long)lived_ms);
	else if (WEXITSTATUS(status) != 0)
		log_error("%s (process %d) ended with status %d after %lld ms", name,
		    (int)child->pid, WEXITSTATUS(status),
		    (long long)lived_ms);
	else if (child->told)
		log_debug("%s (process %d) ended", name, (int)child->pid);
	else
		log_error("%s (process %d) ended unasked after %lld ms", name, (int)child->pid,
		    (long long)lived_ms);
}

/* By a fault of its own, not because somebody killed it. */
static bool
has_crashed(int status)
{
	if (!WIFSIGNALED(status))
		return false;
	switch (WTERMSIG(status)) {
	case SIGSEGV: case SIGBUS: case SIGABRT: case SIGFPE: case SIGILL: case SIGSYS:
		return true;
	default:
		return false;
	}
}

/* One that hung until it was killed has crashed, too, and at the same mail: its life ended at its last sign. */
static void
note_crash(struct child *child, bool crashed, int64_t now_ms)
{
	int64_t lived_ms = (child->hung ? child->heard_ms : now_ms) - child->started_ms;

	if (!crashed)
		child->crashes = 0;
	else
		child->crashes = lived_ms < CALM_MS ? child->crashes + 1 : 1;
}

static struct child *
find_pid(struct children *c, pid_t pid)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->child[i].pid == pid)
			return &c->child[i];
	return NULL;
}

bool
children_reap(struct children *c, int64_t now_ms, struct child_end *out)
{
	struct child *child;
	int status;
	pid_t pid;

	do
		pid = waitpid(-1, &status, WNOHANG);
	while (pid == -1 && errno == EINTR);
	if (pid <= 0)
		return false;
	*out = (struct child_end){ .child = child = find_pid(c, pid), .pid = pid, .status = status };
	if (child == NULL)
		return true;

	out->ready = child_is_ready(c, child);
	out->hopeless = !out->ready && WIFEXITED(status) && WEXITSTATUS(status) == -WORKER_HOPELESS;
	log_end(child, status, now_ms - child->started_ms);
	/* The block is ours until there is a successor. */
	if (!child->told)
		stats_add(stats_block(c->shm, slot_of(c, child)), STAT_WORKER_DEATHS, 1);
	if (child->hung)
		stats_add(stats_block(c->shm, slot_of(c, child)), STAT_WORKER_HANGS, 1);
	note_crash(child, out->ready && (child->hung || has_crashed(status)), now_ms);
	child->failures = now_ms - child->started_ms < SOON_MS ? child->failures + 1 : 0;
	child->hopeless = out->hopeless ? child->hopeless + 1 : 0;
	child->was_ready |= out->ready;
	child->due_ms = now_ms + back_off_ms(child->failures);
	child->pid = 0;
	slot_died(c->shm, slot_of(c, child));
	return true;
}

void
children_check_hung(struct children *c, int64_t now_ms, int64_t hang_ms)
{
	for (unsigned i = 0; i < c->count; i++) {
		struct child *child = &c->child[i];
		struct slot_view view;
		int64_t silent_ms, limit_ms;

		if (child->pid == 0 || child->hung)
			continue;
		slot_get(c->shm, i, &view);
		if (view.heartbeat_mono_ms != child->sign_mono_ms) {
			child->sign_mono_ms = view.heartbeat_mono_ms;
			child->heard_ms = now_ms;
		}
		silent_ms = now_ms - child->heard_ms;
		limit_ms = view.state == SLOT_STARTING ? hang_ms * START_FACTOR : hang_ms;
		if (silent_ms <= limit_ms)
			continue;
		log_error("%s %u (process %d) gave no sign of life for %lld ms: it is killed",
		    worker_role_name(child->role->id), child->nth + 1,
		    (int)child->pid, (long long)silent_ms);
		child->hung = true;
		(void)kill(child->pid, SIGKILL);
	}
}

void
children_signal(const struct children *c, int sig)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->child[i].pid != 0)
			(void)kill(c->child[i].pid, sig);
}
