/*
 * master.c: starts the workers, keeps them running, reloads, drains.
 *
 * The one process that must not die: so it holds no client, speaks no SQL, parses nothing but the
 * settings, and waits for nothing but signals and the clock.  Owns the settings, the listeners, the
 * shared memory and the table of children.
 *
 * Phases, each walked by rank (worker_role.drain_rank): a start goes from the highest rank to the
 * lowest and waits until all processes of a rank are ready; a drain goes from the lowest to the
 * highest and waits until all of a rank are gone.
 *
 *	START ──► RUN ──► DRAIN ──► END
 *	  └──────────────────┘ (a start that can't succeed)
 *
 * Told to stop, RUN goes on for server.drain_delay; only /health/ready says what is to come (shm_course()).
 *
 * Another binary (USR2; upgrade.h) is a drain with open listeners, at whose END this process becomes
 * that one.  There are never two of them at work: the store has one writer.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/conf_share.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/must.h"
#include "base/stats_names.h"
#include "base/title.h"
#include "base/version.h"
#include "master/children.h"
#include "master/listeners.h"
#include "master/master.h"
#include "master/notify.h"
#include "master/pidfile.h"
#include "master/setup.h"
#include "master/upgrade.h"

#define START_TRIES	3		/* of a process that was never ready, while the instance starts */
#define HOPELESS_TRIES	5		/* … and of one that was, later */
#define LOOK_MS		1000		/* between two looks at the workers' signs of life */
#define LATE_MS		1000		/* beyond its pause, a turn of the loop counts for so much at most */
#define START_LOOK_MS	5		/* between two looks whether they are ready */
#define TRIAL_MS	10000		/* that another binary may take to read the settings */
#define LOG_END_MS	100		/* for lines that wait when this process ends */
#define GRACE_MS	2000		/* beyond a drain's deadline, before a process is killed */

enum phase { PHASE_START, PHASE_RUN, PHASE_DRAIN, PHASE_END };

struct master {
	const struct conf_sources *sources;
	struct conf *conf;
	struct children children;
	struct notify notify;
	enum phase phase;
	int rank;			/* that is being started, or drained */
	int status;			/* to exit with */
	bool want_reload, want_upgrade;
	bool upgrading;			/* for another binary, not for good */
	bool leaving;			/* RUN: told to, and server.drain_delay is not over */
	int64_t leave_ms;		/* … then */
	bool perishable;		/* a role keeps what another binary would not find */
	struct upgrade given;		/* by the binary before this one */
	pid_t trial;			/* the process that tries another binary; 0: none */
	int trial_fd;			/* where it says what is wrong */
	int64_t trial_until_ms;
	int64_t now_ms;			/* the master's clock, like all times here: see pass_time() */
	int64_t read_mono_ms;		/* monotonic: when it was put on last */
	int64_t look_ms, watchdog_ms;	/* when next */
	int64_t kill_ms;		/* DRAIN: when patience with this rank ends */
	int64_t began_ms;
};

/* --- settings */

static void
print_lines(const struct conf_list *lines)
{
	for (size_t i = 0; i < lines->n; i++)
		(void)fprintf(stderr, "%s\n", lines->v[i]);
}

/* arg: the findings of the same settings. */
static void
report_print(void *arg, const char *line)
{
	const char *place = conf_place(arg, line);

	(void)fprintf(stderr, "%s%s%s\n", place != NULL ? place : "", place != NULL ? ": " : "", line);
}

static void
report_log(void *arg, const char *line)
{
	const char *place = conf_place(arg, line);

	log_error("%s%s%s", place != NULL ? place : "", place != NULL ? ": " : "", line);
}

static const char no_key[] = "nobody could ever log in: no key is set in section auth (jwt_secret, jwt_secret_file, "
    "jwt_public_key_file, jwks_file, jwks_url, issuers or service_keys)";

struct conf *
master_load(const struct conf_sources *sources, bool to_run)
{
	struct conf_findings findings;
	struct conf *conf = conf_load(sources, &findings);

	print_lines(&findings.faults);
	print_lines(&findings.warnings);
	if (conf != NULL && setup_check_roles(conf, report_print, &findings) > 0)
		conf_free(&conf);
	if (conf != NULL && to_run && !conf_has_key(conf)) {
		report_print(&findings, no_key);
		conf_free(&conf);
	}
	conf_findings_fini(&findings);
	return conf;
}

/* The settings as they are now, or NULL when they have a fault; all that is found is logged. */
static struct conf *
load_again(const struct master *m)
{
	struct conf_list kept = { NULL, 0 };
	struct conf_findings findings;
	struct conf *fresh = conf_load(m->sources, &findings);
	const struct worker_role *missing;

	for (size_t i = 0; i < findings.faults.n; i++)
		log_error("%s", findings.faults.v[i]);
	for (size_t i = 0; i < findings.warnings.n; i++)
		log_warn("%s", findings.warnings.v[i]);
	if (fresh == NULL) {
		conf_findings_fini(&findings);
		return NULL;
	}
	conf_keep_fixed(fresh, m->conf, &kept);
	for (size_t i = 0; i < kept.n; i++)
		log_warn("%s was changed, which takes effect at the next start", kept.v[i]);
	conf_list_fini(&kept);
	if ((missing = children_missing(&m->children, fresh)) != NULL)
		log_error("these settings ask for a process of the role %s, which takes a restart",
		    worker_role_name(missing->id));
	if (setup_check_roles(fresh, report_log, &findings) > 0 || missing != NULL)
		conf_free(&fresh);
	conf_findings_fini(&findings);
	/* No fault here: to take the last key away is the way to let nobody in any more. */
	if (fresh != NULL && !conf_has_key(fresh))
		log_warn("%s", no_key);
	return fresh;
}

/* What the master itself counts stands with the first process, whose own counters are others. */
static void
count(const struct master *m, enum stats_counter counter)
{
	stats_add(stats_block(m->children.shm, 0), counter, 1);
}

static int
open_log(const struct master *m, const struct conf *conf)
{
	if (worker_open_log(conf, m->children.foreground) == -1 ||
	    (m->children.uid != (unsigned)-1 && log_give(m->children.uid, m->children.gid) == -1)) {
		log_error("log %s: %s", conf->server_log, strerror(errno));
		return -1;
	}
	return 0;
}

static void
reload(struct master *m)
{
	struct conf *fresh;

	m->want_reload = false;
	notify_reloading(&m->notify);
	fresh = load_again(m);
	if (fresh == NULL || open_log(m, fresh) == -1 ||
	    conf_share_write(m->children.conf_fd, fresh) == -1) {
		/* What may have changed already goes back. */
		(void)worker_open_log(m->conf, m->children.foreground);
		(void)conf_share_write(m->children.conf_fd, m->conf);
		log_error("not reloaded: the settings in force stay");
		count(m, STAT_RELOADS_REFUSED);
		conf_free(&fresh);
	} else {
		conf_free(&m->conf);
		m->conf = fresh;
		children_signal(&m->children, SIGHUP);
		log_info("reloaded");
	}
	notify_ready(&m->notify);
}

static void
reopen_log(struct master *m)
{
	/* First here: a file that is made belongs to the workers' user before they open it. */
	if (log_reopen() == -1 ||
	    (m->children.uid != (unsigned)-1 && log_give(m->children.uid, m->children.gid) == -1))
		log_error("the log can't be opened again: %s", strerror(errno));
	children_signal(&m->children, SIGUSR1);
}

/* --- ranks */

/* The next rank of any child beyond this one, upwards or downwards; false: there is none. */
static bool
next_rank(const struct master *m, int *rank, bool up)
{
	bool found = false;
	int best = 0;

	for (unsigned i = 0; i < m->children.count; i++) {
		int r = m->children.child[i].role->drain_rank;

		if ((up ? r > *rank : r < *rank) && (!found || (up ? r < best : r > best))) {
			best = r;
			found = true;
		}
	}
	if (found)
		*rank = best;
	return found;
}

static bool
rank_is_ready(const struct master *m)
{
	for (unsigned i = 0; i < m->children.count; i++)
		if (m->children.child[i].role->drain_rank == m->rank &&
		    !child_is_ready(&m->children, &m->children.child[i]))
			return false;
	return true;
}

static bool
rank_is_gone(const struct master *m)
{
	for (unsigned i = 0; i < m->children.count; i++)
		if (m->children.child[i].role->drain_rank == m->rank &&
		    m->children.child[i].pid != 0)
			return false;
	return true;
}

/* --- leaving */

static void
drain_rank(struct master *m)
{
	for (unsigned i = 0; i < m->children.count; i++) {
		struct child *child = &m->children.child[i];

		if (child->role->drain_rank != m->rank)
			continue;
		/* One that is dead just now still has mail to see to that nobody else can. */
		if (child->pid == 0 && child->was_ready && child->role->consume_late &&
		    mailbox_used(m->children.shm, i) > 0)
			(void)children_start(&m->children, child, m->conf, m->now_ms);
		child->told = true;
		if (child->pid != 0)
			(void)kill(child->pid, SIGTERM);
	}
	m->kill_ms = m->now_ms + m->conf->server_drain_time_ms + GRACE_MS;
}

static void
begin_drain(struct master *m, int status)
{
	m->phase = PHASE_DRAIN;
	m->status = status;
	m->leaving = false;
	shm_set_course(m->children.shm, m->upgrading ? SHM_RENEWS : SHM_LEAVES);
	if (!m->upgrading) {
		notify_stopping(&m->notify);
		listeners_close(&m->children.listeners);
	}
	m->rank = INT32_MIN;
	if (next_rank(m, &m->rank, true))
		drain_rank(m);
	else
		m->phase = PHASE_END;
}

/* Load balancers see it first. */
static void
leave(struct master *m)
{
	int64_t delay_ms = m->conf->server_drain_delay_ms;

	if (delay_ms == 0 || m->phase != PHASE_RUN) {
		begin_drain(m, MASTER_OK);
		return;
	}
	log_info("going on for %lld ms, not ready any more", (long long)delay_ms);
	m->leaving = true;
	m->leave_ms = m->now_ms + delay_ms;
	shm_set_course(m->children.shm, m->upgrading ? SHM_RENEWS : SHM_LEAVES);
	if (!m->upgrading)
		notify_stopping(&m->notify);
}

/* --- another binary */

static void
refuse_upgrade(const struct master *m, const char *why)
{
	log_error("the binary is not replaced: %s", why);
	count(m, STAT_BINARIES_REFUSED);
}

static void
try_upgrade(struct master *m)
{
	m->want_upgrade = false;
	if (m->trial != 0 || m->leaving)
		return;
	if (m->perishable) {
		refuse_upgrade(m, "the store ends with this instance and would be lost");
		return;
	}
	if ((m->trial = upgrade_try(&m->trial_fd)) == -1) {
		m->trial = 0;
		refuse_upgrade(m, strerror(errno));
		return;
	}
	m->trial_until_ms = m->now_ms + TRIAL_MS;
	log_info("told to replace the binary: trying what is there now");
}

/* What the trial said, a line of the log each. */
static void
log_trial(int fd)
{
	char text[2048];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return;
	text[n] = '\0';
	for (char *rest = NULL, *line = strtok_r(text, "\n", &rest); line != NULL;
	    line = strtok_r(NULL, "\n", &rest))
		log_error("%s", line);
}

static void
end_trial(struct master *m, int status)
{
	if (status != 0) {
		log_trial(m->trial_fd);
		refuse_upgrade(m, "the trial of the one that is there now failed");
	} else if (m->phase == PHASE_RUN) {
		log_info("replacing the binary");
		m->upgrading = true;
		leave(m);
	}
	(void)close(m->trial_fd);
	m->trial = 0;
}

/* It stops for good after all. */
static void
forget_upgrade(struct master *m)
{
	if (!m->upgrading)
		return;
	m->upgrading = false;
	shm_set_course(m->children.shm, SHM_LEAVES);
	if (m->phase == PHASE_DRAIN)
		listeners_close(&m->children.listeners);
	notify_stopping(&m->notify);
}

/* Nothing of ours runs any more.  Returns only when this process can't become the other one. */
static void
become(struct master *m)
{
	struct upgrade u = {
		.pidfile = m->conf->server_pidfile, .pidfile_fd = m->children.pidfile_fd,
		.notify_fd = m->notify.fd, .watchdog_ms = m->notify.watchdog_ms
	};

	listeners_hand_over(&m->children.listeners, m->conf, &u);
	log_finish(LOG_END_MS);
	(void)upgrade_exec(&u);
	log_error("the binary can't be replaced: %s", strerror(errno));
	m->status = MASTER_LOST;
}

/* Nothing more is waited for: all leave at once, and are killed if they don't. */
static void
hasten(struct master *m, int status)
{
	forget_upgrade(m);
	if (m->phase != PHASE_DRAIN)
		begin_drain(m, status);
	for (unsigned i = 0; i < m->children.count; i++)
		m->children.child[i].told = true;
	children_signal(&m->children, SIGQUIT);
	if (m->kill_ms > m->now_ms + GRACE_MS)
		m->kill_ms = m->now_ms + GRACE_MS;
}

static void
continue_drain(struct master *m)
{
	while (m->phase == PHASE_DRAIN && rank_is_gone(m)) {
		if (next_rank(m, &m->rank, true))
			drain_rank(m);
		else
			m->phase = PHASE_END;
	}
	if (m->phase == PHASE_DRAIN && m->now_ms > m->kill_ms) {
		for (unsigned i = 0; i < m->children.count; i++) {
			const struct child *child = &m->children.child[i];

			if (child->pid == 0 || child->role->drain_rank > m->rank)
				continue;
			log_error("%s %u (process %d) did not leave in time: it is killed",
			    worker_role_name(child->role->id),
			    child->nth + 1, (int)child->pid);
			(void)kill(child->pid, SIGKILL);
		}
		m->kill_ms = m->now_ms + GRACE_MS;
	}
}

/* --- starting */

static void
announce(struct master *m)
{
	struct buf text = BUF_INIT;

	for (size_t i = 0; i < m->conf->server_listen.n; i++)
		buf_printf(&text, "%s%s", i > 0 ? ", " : "", m->conf->server_listen.v[i]);
	for (size_t i = 0; i < m->conf->server_tls_listen.n; i++)
		buf_printf(&text, "%s%s with TLS", text.len > 0 ? ", " : "",
		    m->conf->server_tls_listen.v[i]);
	if (*m->conf->server_admin_listen != '\0')
		buf_printf(&text, ", %s for administration", m->conf->server_admin_listen);
	log_info("belayd %s is ready: instance %s, %u processes, on %.*s, after %lld ms",
	    BELAY_VERSION,
	    m->conf->server_instance, m->children.count, (int)text.len, text.data,
	    (long long)(m->now_ms - m->began_ms));
	notify_ready(&m->notify);
	buf_fini(&text);
}

static void
continue_start(struct master *m)
{
	while (m->phase == PHASE_START && rank_is_ready(m)) {
		if (next_rank(m, &m->rank, false))
			return;		/* their processes are due now */
		m->phase = PHASE_RUN;
		announce(m);
		setup_ready(&m->children.ready_fd, MASTER_OK);
	}
}

/* May a process of this rank be started in this phase? */
static bool
is_wanted(const struct master *m, const struct child *child)
{
	switch (m->phase) {
	case PHASE_START:
		return child->role->drain_rank >= m->rank;
	case PHASE_RUN:
		return true;
	case PHASE_DRAIN:	/* those that are still needed by the ones that drain */
		return child->role->drain_rank > m->rank && child->was_ready && !child->told;
	case PHASE_END:
		break;
	}
	return false;
}

static void
start_due(struct master *m)
{
	for (unsigned i = 0; i < m->children.count; i++) {
		struct child *child = &m->children.child[i];

		if (child->pid == 0 && child->due_ms <= m->now_ms && is_wanted(m, child))
			(void)children_start(&m->children, child, m->conf, m->now_ms);
	}
}

/* Is there a process without which this instance can't go on, and which can't be had? */
static void
judge(struct master *m)
{
	for (unsigned i = 0; i < m->children.count && m->phase <= PHASE_RUN; i++) {
		const struct child *child = &m->children.child[i];

		if (child->pid != 0)
			continue;
		if (!child->was_ready && m->phase == PHASE_START &&
		    (child->hopeless > 0 || child->failures >= START_TRIES)) {
			log_error("%s %u can't be started: giving up", worker_role_name(child->role->id),
			    child->nth + 1);
			begin_drain(m, MASTER_NOT_STARTED);
		} else if (child->hopeless >= HOPELESS_TRIES) {
			log_error("%s %u can't be started again: giving up", worker_role_name(child->role->id),
			    child->nth + 1);
			begin_drain(m, MASTER_LOST);
		}
	}
}

/* --- the loop */

static void
reap(struct master *m)
{
	struct child_end end;

	while (children_reap(&m->children, m->now_ms, &end))
		if (end.child == NULL && m->trial != 0 && end.pid == m->trial)
			end_trial(m, end.status);
	judge(m);
}

static void
on_signal(struct master *m, uint32_t sig)
{
	switch (sig) {
	case SIGTERM:
	case SIGINT:
		if (m->upgrading) {
			log_info("stopping, for good");
			forget_upgrade(m);
		} else if (m->phase == PHASE_DRAIN) {
			log_info("told to stop again: stopping at once");
			hasten(m, MASTER_OK);
		} else if (m->leaving) {
			log_info("told to stop again: stopping now");
			begin_drain(m, MASTER_OK);
		} else {
			log_info("stopping");
			leave(m);
		}
		break;
	case SIGQUIT:
		log_info("stopping at once");
		hasten(m, MASTER_OK);
		break;
	case SIGHUP:
		m->want_reload = true;
		break;
	case SIGUSR1:
		reopen_log(m);
		break;
	case SIGUSR2:
		m->want_upgrade = true;
		break;
	}
}

static void
read_signals(struct master *m)
{
	struct signalfd_siginfo info;

	while (read(m->children.signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		on_signal(m, info.ssi_signo);
	/* SIGCHLD stands for any number of deaths, and may have been merged with an earlier one. */
	reap(m);
}

static int
pause_ms(const struct master *m)
{
	int64_t until = m->look_ms, left;

	if (m->phase == PHASE_START && until > m->now_ms + START_LOOK_MS)
		until = m->now_ms + START_LOOK_MS;
	if (m->phase == PHASE_DRAIN && until > m->kill_ms)
		until = m->kill_ms;
	if (m->leaving && until > m->leave_ms)
		until = m->leave_ms;
	if (m->notify.watchdog_ms > 0 && until > m->watchdog_ms)
		until = m->watchdog_ms;
	for (unsigned i = 0; i < m->children.count; i++) {
		const struct child *child = &m->children.child[i];

		if (child->pid == 0 && is_wanted(m, child) && until > child->due_ms)
			until = child->due_ms;
	}
	left = until - m->now_ms;
	return left < 0 ? 0 : (int)left;
}

/*
 * A signal that somebody else sent at the same moment, such as to the whole process group, may have been merged with
 * ours and taken for a stranger's: who was told to leave and doesn't drain is told again.
 */
static void
tell_again(const struct master *m)
{
	for (unsigned i = 0; i < m->children.count; i++) {
		const struct child *child = &m->children.child[i];
		struct slot_view view;

		if (child->pid == 0 || !child->told)
			continue;
		slot_get(m->children.shm, i, &view);
		if (view.state != SLOT_DRAINING)
			(void)kill(child->pid, SIGTERM);
	}
}

static void
look(struct master *m)
{
	if (m->now_ms >= m->look_ms) {
		log_flush();
		if (m->phase == PHASE_DRAIN)
			tell_again(m);
		children_check_hung(&m->children, m->now_ms, m->conf->server_hang_time_ms);
		m->look_ms = m->now_ms + LOOK_MS;
	}
	if (m->trial != 0 && m->now_ms >= m->trial_until_ms)
		(void)kill(m->trial, SIGKILL);
	if (m->notify.watchdog_ms > 0 && m->now_ms >= m->watchdog_ms) {
		notify_watchdog(&m->notify);
		m->watchdog_ms = m->now_ms + m->notify.watchdog_ms;
	}
}

/*
 * The master's clock is the time in which the master ran.  Where all processes stood still (SIGSTOP, a
 * frozen container, a suspended machine, one that swaps), the workers could do nothing either: that time is
 * neither their silence nor part of their drain.  pause: for how long the master meant to sleep.
 */
static void
pass_time(struct master *m, int pause)
{
	int64_t mono_ms = clock_mono_ms(), passed = mono_ms - m->read_mono_ms;

	m->read_mono_ms = mono_ms;
	if (passed > pause + LATE_MS) {
		passed = pause + LATE_MS;
		m->watchdog_ms = m->now_ms;	/* the service manager's clock went on */
	}
	m->now_ms += passed;
}

static void
loop(struct master *m)
{
	struct pollfd pfd = { .fd = m->children.signal_fd, .events = POLLIN };

	while (m->phase != PHASE_END) {
		int pause;

		start_due(m);
		pause = pause_ms(m);
		(void)poll(&pfd, 1, pause);
		pass_time(m, pause);
		read_signals(m);
		look(m);
		if (m->phase == PHASE_RUN && m->want_reload)
			reload(m);
		if (m->phase == PHASE_RUN && m->want_upgrade)
			try_upgrade(m);
		if (m->leaving && m->now_ms >= m->leave_ms)
			begin_drain(m, MASTER_OK);
		continue_start(m);
		continue_drain(m);
	}
}

/* --- arranging everything */

static int
make_shared_memory(struct master *m)
{
	struct children *c = &m->children;
	struct shm_sizes sizes = {
		.slots = c->count, .devices = m->conf->memory_devices,
		    .commands = m->conf->memory_commands,
		.topics = m->conf->memory_topics, .limits = m->conf->memory_limits,
		    .mailbox_bytes = (uint32_t)m->conf->memory_mailbox_bytes,
		.counters = STAT_CELLS
	};

	for (unsigned i = 0; i < c->count; i++)
		sizes.mailbox_bytes_of[i] = c->child[i].role->mailbox_bytes;
	for (unsigned i = 0; i < c->count; i++)
		if (c->child[i].role->effects)
			sizes.effects |= (uint64_t)1 << i;
	digest_random(c->secret, sizeof(c->secret));
	if ((c->shm = shm_create(&sizes)) == NULL) {
		log_error("shared memory: %s", strerror(errno));
		return -1;
	}
	if ((c->conf_fd = conf_share_open()) == -1 || conf_share_write(c->conf_fd, m->conf) == -1) {
		log_error("memory for the settings: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static int
arrange(struct master *m)
{
	int made = setup_arrange(m->conf, m->children.uid, m->children.gid);

	m->perishable = made == 1;
	return made == -1 ? -1 : 0;
}

/*
 * The PID file keeps two daemons apart.  In the foreground, where a service manager sees to that,
 * belayd does without one if the directory is not to be had and nobody asked for the file.
 */
static int
make_pidfile(struct master *m, bool foreground)
{
	bool standard = strcmp(m->conf->server_run_dir, "/run/belay") == 0 &&
	    strcmp(m->conf->server_pidfile, "/run/belay/belayd.pid") == 0;
	char err[512];

	if (m->given.pidfile_fd != -1 && strcmp(m->given.pidfile, m->conf->server_pidfile) == 0) {
		m->children.pidfile_fd = m->given.pidfile_fd;
		m->given.pidfile_fd = -1;
		return 0;
	}
	m->children.pidfile_fd = pidfile_open(m->conf->server_pidfile, err, sizeof(err));
	if (m->children.pidfile_fd != -1)
		return 0;
	if (foreground && standard && geteuid() != 0) {
		log_warn("%s; going on without a PID file", err);
		return 0;
	}
	log_error("%s", err);
	return -1;
}

/* What can be told to whoever starts belayd, while there is a terminal. */
static int
prepare(struct master *m, bool foreground)
{
	struct children *c = &m->children;
	char err[512];

	if ((c->signal_fd = setup_signals()) == -1) {
		log_error("signals: %s", strerror(errno));
		return -1;
	}
	setup_limits();
	if (m->given.notify_fd != -1) {
		notify_take(&m->notify, m->given.notify_fd, m->given.watchdog_ms);
		m->given.notify_fd = -1;
	} else if (notify_open(&m->notify) == -1)
		log_warn("NOTIFY_SOCKET can't be used: %s", strerror(errno));
	c->notify_fd = m->notify.fd;
	if (setup_user(m->conf, &c->uid, &c->gid) == -1)
		return -1;
	/* There is no terminal to say anything on. */
	if (m->given.given && open_log(m, m->conf) == -1)
		return -1;
	if (children_plan(c, m->conf) == -1) {
		log_error("more than %d processes are asked for", SHM_MAX_SLOTS);
		return -1;
	}
	if (make_pidfile(m, foreground) == -1)
		return -1;
	if (listeners_open(&c->listeners, m->conf, children_listening(c), &m->given, err,
	    sizeof(err)) == -1) {
		log_error("%s", err);
		return -1;
	}
	return open_log(m, m->conf);
}

static int
detach(struct master *m, bool foreground)
{
	if (!foreground && !m->given.given && setup_daemon(&m->children.ready_fd) == -1) {
		log_error("not detached: %s", strerror(errno));
		return -1;
	}
	if (m->children.pidfile_fd != -1 && pidfile_write(m->children.pidfile_fd) == -1) {
		log_error("%s: %s", m->conf->server_pidfile, strerror(errno));
		return -1;
	}
	return 0;
}

static void
clean_up(struct master *m, bool started)
{
	struct children *c = &m->children;

	setup_clear_away();
	listeners_close(&c->listeners);
	if (started)
		listeners_unlink(m->conf);
	pidfile_remove(c->pidfile_fd, m->conf->server_pidfile);
	if (c->conf_fd != -1)
		(void)close(c->conf_fd);
	shm_free(c->shm);
	notify_close(&m->notify);
	if (c->signal_fd != -1)
		(void)close(c->signal_fd);
	setup_ready(&m->children.ready_fd, m->status);
	conf_free(&m->conf);
}

int
master_run(const struct conf_sources *sources, struct conf *conf, bool foreground)
{
	struct master m = {
		.sources = sources, .conf = conf, .status = MASTER_NOT_STARTED, .rank = INT32_MAX,
		.notify = { .fd = -1 }
	};
	bool prepared;

	m.children.conf_fd = m.children.pidfile_fd = m.children.signal_fd = -1;
	m.children.notify_fd = m.children.ready_fd = -1;
	m.children.foreground = foreground;
	m.began_ms = m.now_ms = m.read_mono_ms = clock_mono_ms();
	log_set_name("master");
	log_set_level((enum log_level)conf->server_log_level);
	upgrade_receive(&m.given);
	prepared = prepare(&m, foreground) == 0;
	upgrade_fini(&m.given);
	if (prepared && detach(&m, foreground) == 0 && make_shared_memory(&m) == 0 &&
	    arrange(&m) == 0) {
		title_set("master");
		if (!next_rank(&m, &m.rank, false))
			m.rank = 0;
		loop(&m);
		if (m.upgrading)
			become(&m);
		log_info("stopped");
	}
	clean_up(&m, prepared);
	log_finish(LOG_END_MS);
	return m.status;
}
