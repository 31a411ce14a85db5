/*
 * role.c: what every worker process does, whatever its role.
 *
 * Runs in each child of the master, from the fork to the exit: becomes the process that the master
 * wants (title, user, signals, death of the parent), then loops: mail, the role's own events, the
 * clock, the master's signals.  Owns the event base, the listeners of this process and what waits
 * for full mailboxes.  Knows no role by heart.
 */
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/conf_share.h"
#include "base/log.h"
#include "base/must.h"
#include "base/stats_names.h"
#include "base/title.h"
#include "msg/msg.h"
#include "workers/role.h"

#define TICK_MS		100
#define LATE_MS		100		/* a turn of the loop that is worth counting */
#define LOG_END_MS	100		/* for lines that wait when the process leaves */
#define BACKLOG_PAUSE_US 2000		/* before a full mailbox is tried again */
#define BATCH_DEFAULT	1024		/* records between two looks at everything else */
#define BATCH_MS	100		/* … and how long they may take, but for the last one */
#define ORPHAN_DRAIN_MS	1000		/* when the master is gone, for each rank of the drain order */
#define ORPHAN_MAX_S	4		/* … and then the kernel ends the process, whatever it does */
#define SKIP_CRASHES	4		/* in a row, from where on a record is left out … */
#define SKIP_DEATHS	2		/* … of which so many happened right at that record */
#define CAREFUL_RECORDS	4096		/* of what lay there after a crash so many are consumed one by one */

/* A record that a full mailbox refused, as it stands in a backlog; its bytes follow. */
struct waiting {
	uint32_t len;
	uint16_t kind;
};

/* Everything that a worker process has; roles see the first member. */
struct process {
	struct worker w;
	struct worker_start start;
	/* by receiver: struct waiting and bytes, again and again */
	struct buf backlog[SHM_MAX_SLOTS];
	size_t backlog_read[SHM_MAX_SLOTS];	/* of it, posted already */
	size_t backlog_total;
	struct event doorbell, signals, ticker, retry;
	int signal_fd;
	/* from a reload; NULL while the master's first are in force */
	struct conf *conf_own;
	int64_t next_tick_ms;
	int64_t deadline_ms;		/* of the drain */
	uint64_t last_tag[SHM_MAX_SLOTS];	/* of each sender: mailbox_had() */
	int64_t orphan_ms;		/* when the master was found gone; 0: it is there */
	unsigned terms;			/* how often it was told to leave */
	unsigned careful;		/* records to be consumed one by one still, … */
	uint64_t careful_until;		/* … up to this position of the mailbox */
	bool skip;			/* the first record killed our predecessors */
	bool want_reload, want_reopen;
	bool done;			/* the role has finished its drain */
};

static struct process *
process_of(struct worker *w)
{
	return (struct process *)((char *)w - offsetof(struct process, w));
}

static const struct process *
process_of_const(const struct worker *w)
{
	return (const struct process *)((const char *)w - offsetof(struct process, w));
}

/* --- roles: a new one is a line in roles.def and its symbol here */

#define ROLE(id, name, what) extern const struct worker_role ROLE_SYMBOL_##id;
#define ROLE_SYMBOL_STORAGE storage_role
#define ROLE_SYMBOL_READER reader_role
#define ROLE_SYMBOL_GATEWAY gateway_role
#define ROLE_SYMBOL_KEYS keys_role
#include "workers/roles.def"
#undef ROLE

const struct worker_role *
worker_role_by_id(enum worker_role_id id)
{
	static const struct worker_role *const roles[ROLE_ID_COUNT] = {
#define ROLE(id, name, what) [ROLE_ID_##id] = &ROLE_SYMBOL_##id,
#include "workers/roles.def"
#undef ROLE
	};

	must(id < ROLE_ID_COUNT);
	return roles[id];
}

const char *
worker_role_name(enum worker_role_id id)
{
	static const char *const names[ROLE_ID_COUNT] = {
#define ROLE(id, name, what) [ROLE_ID_##id] = name,
#include "workers/roles.def"
#undef ROLE
	};

	must(id < ROLE_ID_COUNT);
	return names[id];
}

int
worker_slot_of(const struct worker *w, enum worker_role_id role, unsigned nth)
{
	return slot_find(w->shm, role, nth);
}

void
worker_done(struct worker *w)
{
	process_of(w)->done = true;
}

void
worker_soon(struct worker *w)
{
	static const struct timeval pause = { .tv_usec = BACKLOG_PAUSE_US };

	(void)event_add(&process_of(w)->retry, &pause);
}

void
worker_clock(struct worker *w)
{
	w->now_ms = clock_now_ms();
	w->mono_ms = clock_mono_ms();
}

void
worker_alive(struct worker *w)
{
	slot_heartbeat(w->shm, w->slot, clock_mono_ms());
}

/* --- posting */

static size_t
iov_len(const struct iovec *iov, int iovcnt)
{
	size_t len = 0;

	for (int i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	return len;
}

static size_t
ring_bytes(const struct shm *shm, unsigned slot)
{
	const struct shm_sizes *sizes = shm_sizes(shm);

	return sizes->mailbox_bytes_of[slot] != 0 ?
	    sizes->mailbox_bytes_of[slot] : sizes->mailbox_bytes;
}

size_t
worker_backlog(const struct worker *w, unsigned to)
{
	const struct process *p = process_of_const(w);

	must(to < SHM_MAX_SLOTS);
	return p->backlog[to].len - p->backlog_read[to];
}

static int
refuse(struct worker *w, int error)
{
	worker_count(w, STAT_MAIL_REFUSED, 1);
	errno = error;
	return -1;
}

int
worker_post_now(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt)
{
	if (worker_backlog(w, to) > 0)
		return refuse(w, EAGAIN);
	if (mailbox_post(w->shm, to, kind, iov, iovcnt) == -1)
		return refuse(w, errno);
	worker_count(w, STAT_MAIL_POSTED, 1);
	return 0;
}

int
worker_post_at(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt,
    uint64_t *at)
{
	if (mailbox_post_at(w->shm, to, kind, iov, iovcnt, at) == -1)
		return -1;
	worker_count(w, STAT_MAIL_POSTED, 1);
	return 0;
}

int
worker_post_idly(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt)
{
	if (worker_backlog(w, to) > 0)
		return refuse(w, EAGAIN);
	if (mailbox_post_idly(w->shm, to, kind, iov, iovcnt) == -1)
		return refuse(w, errno);
	worker_count(w, STAT_MAIL_POSTED, 1);
	return 0;
}

int
worker_post(struct worker *w, unsigned to, uint16_t kind, const struct iovec *iov, int iovcnt)
{
	static const struct timeval pause = { .tv_usec = BACKLOG_PAUSE_US };
	struct process *p = process_of(w);
	size_t len = iov_len(iov, iovcnt), waiting = worker_backlog(w, to);
	struct waiting head = { (uint32_t)len, kind };

	if (waiting == 0) {
		if (mailbox_post(w->shm, to, kind, iov, iovcnt) == 0) {
			worker_count(w, STAT_MAIL_POSTED, 1);
			return 0;
		}
		if (errno != EAGAIN)
			return refuse(w, errno);
	} else if (len > ring_bytes(w->shm, to) / 4)
		return refuse(w, EMSGSIZE);
	if (waiting + sizeof(head) + len > WORKER_BACKLOG_MAX)
		return refuse(w, EAGAIN);
	worker_count(w, STAT_MAIL_FULL, 1);
	if (p->backlog_total == 0)
		(void)event_add(&p->retry, &pause);
	buf_put(&p->backlog[to], &head, sizeof(head));
	for (int i = 0; i < iovcnt; i++)
		buf_put(&p->backlog[to], iov[i].iov_base, iov[i].iov_len);
	p->backlog_total += sizeof(head) + len;
	return 0;
}

/* Posts what waits for one slot until its ring is full again. */
static void
flush_backlog(struct process *p, unsigned to)
{
	struct buf *b = &p->backlog[to];

	while (p->backlog_read[to] < b->len) {
		struct waiting head;
		struct iovec iov;
		size_t size;

		memcpy(&head, b->data + p->backlog_read[to], sizeof(head));
		iov.iov_base = b->data + p->backlog_read[to] + sizeof(head);
		iov.iov_len = head.len;
		size = sizeof(head) + head.len;
		if (mailbox_post(p->w.shm, to, head.kind, &iov, 1) == -1) {
			if (errno == EAGAIN)
				break;
			log_error("a record of %u bytes and kind %u for slot %u is lost: %s",
			    head.len, head.kind, to,
			    strerror(errno));
			worker_count(&p->w, STAT_MAIL_REFUSED, 1);
		} else
			worker_count(&p->w, STAT_MAIL_POSTED, 1);
		p->backlog_read[to] += size;
		p->backlog_total -= size;
	}
	if (p->backlog_read[to] == b->len) {
		buf_fini(b);
		p->backlog_read[to] = 0;
	} else if (p->backlog_read[to] > b->len / 2) {
		buf_consume(b, p->backlog_read[to]);
		p->backlog_read[to] = 0;
	}
}

static void
flush_backlogs(struct process *p)
{
	static const struct timeval pause = { .tv_usec = BACKLOG_PAUSE_US };

	if (p->backlog_total == 0)
		return;
	for (unsigned to = 0; to < SHM_MAX_SLOTS; to++)
		if (p->backlog[to].len > 0)
			flush_backlog(p, to);
	if (p->backlog_total > 0)
		(void)event_add(&p->retry, &pause);
}

/* Does anything wait for a process that is there to take it? */
static bool
backlog_matters(struct process *p)
{
	struct slot_view view;

	for (unsigned to = 0; to < shm_sizes(p->w.shm)->slots; to++) {
		if (worker_backlog(&p->w, to) == 0)
			continue;
		slot_get(p->w.shm, to, &view);
		if (slot_is_live(p->w.shm, to, view.generation))
			return true;
	}
	return false;
}

/* --- becoming the process */

void
worker_signals(void *sigset)
{
	static const int signals[] = { SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGUSR1, SIGCHLD };

	(void)sigemptyset(sigset);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)sigaddset(sigset, signals[i]);
}

int
worker_open_log(const struct conf *conf, bool foreground)
{
	const char *target = conf->server_log;

	if (foreground)
		target = strcmp(target, "json") == 0 ? "json" : "stderr";
	else if (strcmp(target, "stderr") == 0 || strcmp(target, "json") == 0)
		target = "syslog";
	return log_open(target, (enum log_level)conf->server_log_level);
}

static void
set_names(const struct process *p)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "%s %u", worker_role_name(p->start.role->id), p->start.nth + 1);
	log_set_name(name);
	title_set(name);
	(void)prctl(PR_SET_NAME, name);	/* cut to 15 bytes */
}

/*
 * What a service manager gives a master that is not root, so that it may listen on ports below 1024, is not for
 * those who speak to clients.  A filter of system calls may forbid even this: then there is nothing to be done.
 */
static void
drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0, 0, 0 } };

	if (geteuid() != 0)
		(void)syscall(SYS_capset, &head, none);
}

static int
drop_privileges(const struct worker_start *start)
{
	int ret;

	if (start->uid == (unsigned)-1) {
		drop_capabilities();
		return 0;
	}
	ret = start->user != NULL ? initgroups(start->user, start->gid) : setgroups(0, NULL);
	if (ret == -1 || setresgid(start->gid, start->gid, start->gid) == -1 ||
	    setresuid(start->uid, start->uid, start->uid) == -1) {
		log_error("privileges can't be given up: %s", strerror(errno));
		return -1;
	}
	if (start->uid != 0 && setuid(0) == 0) {
		log_error("privileges came back after they were given up");
		return -1;
	}
	return 0;
}

/* What the handler of the master's death needs to know. */
static struct {
	const struct process *process;
	volatile sig_atomic_t gone;	/* the master is */
} parent;

/*
 * The master is dead.  Its successor may be on its way already: the addresses are given back now,
 * for all processes that share the sockets, not when the loop comes to it.  And what the loop can't
 * see when the process is blocked in a system call or turns in circles: the kernel ends it.
 * A signal that somebody else sent says nothing.
 */
static void
on_parent_death(int sig)
{
	const struct worker *w = &parent.process->w;
	int saved = errno;

	(void)sig;
	if (getppid() == parent.process->start.master_pid)
		return;
	for (unsigned i = 0; i < w->listener_count; i++)
		(void)shutdown(w->listeners[i], SHUT_RDWR);
	(void)alarm(ORPHAN_MAX_S);
	parent.gone = 1;
	errno = saved;
}

static int
watch_parent(const struct process *p)
{
	struct sigaction death = { .sa_handler = on_parent_death, .sa_flags = SA_RESTART };
	sigset_t these;

	parent.process = p;
	(void)sigemptyset(&these);
	(void)sigaddset(&these, SIGUSR2);
	(void)sigaddset(&these, SIGALRM);
	if (sigaction(SIGUSR2, &death, NULL) == -1 ||
	    sigprocmask(SIG_UNBLOCK, &these, NULL) == -1 ||
	    prctl(PR_SET_PDEATHSIG, SIGUSR2) == -1) {
		log_error("the master can't be watched: %s", strerror(errno));
		return -1;
	}
	return getppid() == p->start.master_pid ? 0 : -1;
}

static void
on_signals(evutil_socket_t fd, short what, void *arg)
{
	struct process *p = arg;
	struct signalfd_siginfo info;

	(void)what;
	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		bool ours = (int)info.ssi_pid == p->start.master_pid;

		switch (info.ssi_signo) {
		case SIGHUP:		/* anybody's: there is nothing but the master's settings to read */
			p->want_reload = true;
			break;
		case SIGUSR1:
			p->want_reopen = true;
			break;
		case SIGTERM:
		case SIGQUIT:
			if (!ours)
				log_debug("a signal of process %u to stop is not obeyed: the "
				    "master stops its workers", info.ssi_pid);
			else if (info.ssi_signo == SIGQUIT)
				p->terms = 2;
			else if (p->terms == 0)	/* repeated until we are seen to drain */
				p->terms = 1;
			break;
		}
	}
}

/* The doorbell, the ticker and the retry only have to wake the loop. */
static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static int
make_base(struct process *p)
{
	static const struct timeval tick = { .tv_usec = TICK_MS * 1000 };
	struct event_base *base = event_base_new();
	sigset_t signals;

	worker_signals(&signals);
	p->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
	if (base == NULL || p->signal_fd == -1) {
		log_error("no event loop: %s", strerror(errno));
		return -1;
	}
	p->w.base = base;
	if (event_assign(&p->doorbell, base, mailbox_fd(p->w.shm, p->w.slot), EV_READ | EV_PERSIST,
	    on_wake, p) == -1 ||
	    event_assign(&p->signals, base, p->signal_fd, EV_READ | EV_PERSIST,
	    on_signals, p) == -1 ||
	    event_assign(&p->ticker, base, -1, EV_PERSIST, on_wake, p) == -1 ||
	    event_assign(&p->retry, base, -1, 0, on_wake, p) == -1 ||
	    event_add(&p->doorbell, NULL) == -1 || event_add(&p->signals, NULL) == -1 ||
	    event_add(&p->ticker, &tick) == -1) {
		log_error("no events: %s", strerror(errno));
		return -1;
	}
	return 0;
}

static void
reset_gauges(const struct worker *w)
{
	for (unsigned i = 0; i < STAT_COUNT; i++)
		if (stat_names[i].kind == STAT_KIND_GAUGE)
			__atomic_store_n(&w->stats[i], 0, __ATOMIC_RELAXED);
}

/*
 * How far a record that kills its readers, or hangs them until they are killed, was narrowed down by our
 * predecessors' deaths.  After the first one each record is consumed by itself, so that the next death is right
 * at the record that is at fault, and what lies before it is done.  Where more than one is, each further one costs
 * SKIP_DEATHS processes.
 */
static void
judge_mail(struct process *p)
{
	unsigned here = mailbox_deaths_here(&p->w.mailbox);

	if (p->start.crashes == 0 || here == 0)
		return;
	p->careful = CAREFUL_RECORDS;
	p->careful_until = p->w.mailbox.cursor + mailbox_used(p->w.shm, p->w.slot);
	p->skip = p->start.crashes >= SKIP_CRASHES && here >= SKIP_DEATHS;
	log_warn("%u processes in a row crashed or hung at their mail, the last one where it is read now; it is read "
	    "one by one", p->start.crashes);
}

static void
take_place(struct process *p, const struct worker_start *start)
{
	struct worker *w = &p->w;

	p->start = *start;
	w->role = start->role;
	w->nth = start->nth;
	w->slot = start->slot;
	w->generation = start->generation;
	w->shm = start->shm;
	w->conf = start->conf;
	w->secret = start->secret;
	if (start->role->listens) {
		w->listeners = start->listeners;
		w->listener_count = start->listener_count;
	}
	shm_set_self(w->shm, w->slot);
	slot_set_pid(w->shm, w->slot, getpid());
	w->stats = stats_block(w->shm, w->slot);
	reset_gauges(w);
	mailbox_reader_init(&w->mailbox, w->shm, w->slot);
	worker_clock(w);
}

/* --- the master's wishes */

static void
reload(struct process *p)
{
	struct conf *fresh = conf_share_read(p->start.conf_fd), *old = p->conf_own;

	p->want_reload = false;
	if (fresh == NULL) {
		log_error("the new settings can't be read; the old ones stay in force");
		return;
	}
	p->w.conf = p->conf_own = fresh;
	if (worker_open_log(fresh, p->start.foreground) == -1)
		log_error("log %s: %s", fresh->server_log, strerror(errno));
	if (p->w.role->reload != NULL)
		p->w.role->reload(&p->w);
	worker_count(&p->w, STAT_RELOADS, 1);
	conf_free(&old);
}

void
worker_close_listeners(struct worker *w)
{
	unsigned n = w->listener_count;

	w->listener_count = 0;	/* first: the descriptors may name something else soon */
	for (unsigned i = 0; i < n; i++)
		(void)close(w->listeners[i]);
}

static void
begin_drain(struct process *p, int64_t time_ms)
{
	p->w.draining = true;
	p->deadline_ms = p->w.mono_ms + time_ms;
	slot_set_state(p->w.shm, p->w.slot, SLOT_DRAINING);
	if (p->w.role->drain != NULL)
		p->w.role->drain(&p->w, p->deadline_ms);
	else
		p->done = true;
	if (shm_course(p->w.shm) == SHM_STAYS)
		worker_close_listeners(&p->w);
}

/* Without the master: leave in the drain order, with little time for each rank. */
static void
orphan(struct process *p)
{
	if (p->orphan_ms == 0) {
		if (getppid() == p->start.master_pid)
			return;
		p->orphan_ms = p->w.mono_ms;
		log_warn("the master is gone: leaving");
	}
	if (!p->w.draining &&
	    p->w.mono_ms >= p->orphan_ms + p->w.role->drain_rank * ORPHAN_DRAIN_MS)
		begin_drain(p, ORPHAN_DRAIN_MS);
}

static void
obey(struct process *p)
{
	if (p->want_reopen && log_reopen() == -1)
		log_error("the log can't be opened again: %s", strerror(errno));
	p->want_reopen = false;
	if (p->want_reload)
		reload(p);
	if (p->terms > 0 && !p->w.draining)
		begin_drain(p, p->w.conf->server_drain_time_ms);
}

static bool
may_leave(struct process *p)
{
	if (p->terms > 1)
		return true;
	if (!p->w.draining)
		return false;
	if (p->w.mono_ms > p->deadline_ms + 1000)
		return true;
	return p->done && mailbox_used(p->w.shm, p->w.slot) == 0 && !backlog_matters(p);
}

/* --- the loop */

/*
 * Is the record for a process like this one, from one that posts its like?  msg.def says so.  Who died since is not
 * looked at: the slot may have another role now.
 */
static bool
is_directed(const struct worker *w, const struct mail *mail)
{
	/* msg.def's words for roles */
	enum { gateway = 1 << ROLE_ID_GATEWAY, storage = 1 << ROLE_ID_STORAGE, reader = 1 << ROLE_ID_READER,
		keys = 1 << ROLE_ID_KEYS };
	static const struct {
		unsigned senders, receivers;
	} kinds[MSG_KIND_COUNT] = {
#define MSG(name, sender, receiver, reply, what, fields) [MSG_##name] = { sender, receiver },
#include "msg/msg.def"
#undef MSG
	};
	struct slot_view from;

	if (mail->kind >= MSG_KIND_COUNT || !(kinds[mail->kind].receivers & 1u << w->role->id))
		return false;
	if (mail->from == w->slot)
		return true;
	if (mail->from >= shm_sizes(w->shm)->slots)
		return false;
	slot_get(w->shm, mail->from, &from);
	return from.generation != mail->from_generation || (kinds[mail->kind].senders & 1u << from.role) != 0;
}

static void
handle(struct process *p, const struct mail *mail)
{
	if (p->skip) {
		log_error("a record of kind %u and %u bytes from slot %u is left out: processes "
		    "crashed while they handled it", mail->kind, mail->len, mail->from);
		worker_count(&p->w, STAT_MAIL_SKIPPED, 1);
		p->skip = false;
	} else if (mailbox_had(mail, p->last_tag)) {
		worker_count(&p->w, STAT_MAIL_HAD, 1);
	} else if (!is_directed(&p->w, mail)) {
		log_error("a record of kind %s from slot %u is left out: it is not for a %s, or not from there",
		    msg_kind_name(mail->kind), mail->from, worker_role_name(p->w.role->id));
		worker_count(&p->w, STAT_MAIL_MISDIRECTED, 1);
	} else if (p->w.role->mail != NULL)
		p->w.role->mail(&p->w, mail);
}

void
worker_observe(struct worker *w, unsigned histogram, uint64_t us)
{
	worker_count(w, histogram + stat_bucket(us), 1);
	worker_count(w, histogram + STAT_HISTOGRAM_CELLS - 1, us);
}

/*
 * One batch of mail, its end included; how many records that were.  However long the records take: no two signs of
 * life have more than BATCH_MS, one record and the batch's end between them.
 */
static unsigned
take_mail(struct process *p)
{
	const struct worker_role *role = p->w.role;
	bool careful = p->careful > 0 && p->w.mailbox.cursor < p->careful_until;
	unsigned max = careful ? 1 : role->batch_max > 0 ? role->batch_max : BATCH_DEFAULT,
	    n = 0;
	int64_t until_ms = clock_mono_ms() + BATCH_MS;
	struct mail mail;
	bool observed = false;

	while (n < max && (n == 0 || clock_mono_ms() < until_ms) && mailbox_next(&p->w.mailbox, &mail) == 1) {
		/* of what is to be read at once */
		if (!observed && !mail.idly) {
			int64_t waited = clock_mono_us() - mail.posted_mono_us;

			worker_observe(&p->w, STAT_MAIL_US, waited > 0 ? (uint64_t)waited : 0);
			observed = true;
		}
		handle(p, &mail);
		if (!role->consume_late)
			mailbox_consume(&p->w.mailbox);
		n++;
	}
	if (n > 0)
		worker_alive(&p->w);
	if (role->batch_end != NULL)
		role->batch_end(&p->w);
	if (n > 0 && role->consume_late)
		mailbox_consume(&p->w.mailbox);
	worker_count(&p->w, STAT_MAIL_READ, n);
	if (p->careful > 0)
		p->careful = n > 0 ? p->careful - 1 : 0;
	return n;
}

static void
tick(struct process *p)
{
	if (p->w.mono_ms < p->next_tick_ms)
		return;
	p->next_tick_ms = p->w.mono_ms + TICK_MS;
	log_flush();
	worker_count(&p->w, STAT_LOG_LOST, log_take_lost());
	orphan(p);
	if (p->w.role->tick != NULL)
		p->w.role->tick(&p->w);
}

/* Sleeps, unless there is more to do, and lets events happen. */
static void
wait(struct process *p, bool more)
{
	bool sleeps = !more && mailbox_sleep(&p->w.mailbox) == 1;
	int ret = event_base_loop(p->w.base, EVLOOP_ONCE | (sleeps ? 0 : EVLOOP_NONBLOCK));

	must(ret != -1);
	if (sleeps) {
		mailbox_wake(&p->w.mailbox);
		worker_count(&p->w, STAT_MAIL_WAKES, 1);
	}
}

static void
loop(struct process *p)
{
	while (!may_leave(p)) {
		unsigned n;

		worker_clock(&p->w);
		slot_heartbeat(p->w.shm, p->w.slot, p->w.mono_ms);
		obey(p);
		if (parent.gone)
			orphan(p);
		n = take_mail(p);
		tick(p);
		flush_backlogs(p);
		worker_count(&p->w, STAT_LOOP_TURNS, 1);
		if (clock_mono_ms() - p->w.mono_ms > LATE_MS)
			worker_count(&p->w, STAT_LOOP_LATE, 1);
		wait(p, n > 0);
	}
}

/* Frees all, so that a leak checker sees the truth. */
static void
clean_up(struct process *p)
{
	for (unsigned to = 0; to < SHM_MAX_SLOTS; to++)
		buf_fini(&p->backlog[to]);
	if (p->w.base != NULL) {
		(void)event_del(&p->doorbell);
		(void)event_del(&p->signals);
		(void)event_del(&p->ticker);
		(void)event_del(&p->retry);
		event_base_free(p->w.base);
	}
	if (p->signal_fd != -1)
		(void)close(p->signal_fd);
	worker_close_listeners(&p->w);
	conf_free(&p->conf_own);
	free(p);
}

int
worker_run(const struct worker_start *start)
{
	struct process *p = must_alloc(sizeof(*p));
	int ret = WORKER_AGAIN;

	p->signal_fd = -1;
	take_place(p, start);
	set_names(p);
	if ((start->uid != (unsigned)-1 && start->role->prepare != NULL &&
	    start->role->prepare(&p->w, start->uid, start->gid) == -1) || drop_privileges(start) == -1)
		ret = WORKER_HOPELESS;
	else if (watch_parent(p) == 0 && make_base(p) == 0) {
		judge_mail(p);
		ret = start->role->start != NULL ? start->role->start(&p->w) : 0;
	}
	if (ret == 0) {
		slot_set_state(p->w.shm, p->w.slot, SLOT_READY);
		log_debug("ready");
		loop(p);
	}
	if (start->role->stop != NULL)
		start->role->stop(&p->w);
	if (p->orphan_ms != 0 && start->role->clear_away != NULL)
		start->role->clear_away();
	clean_up(p);
	log_finish(LOG_END_MS);
	return -ret;
}
