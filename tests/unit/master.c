/*
 * master.c: the master and the part of a worker that all roles share, with real processes and two
 * roles of its own in place of the real ones.  What the roles are to do, and what they did, stands
 * in a page that all processes share.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/must.h"
#include "base/stats_names.h"
#include "master/master.h"
#include "master/pidfile.h"
#include "msg/msg.h"
#include "net/listen.h"
#include "workers/role.h"

#define GATEWAYS 2
#define WAIT_MS 60000

#define SLOW_US 50000			/* a record of KIND_SLOW takes so long */

/* Records that a gateway may post to storage; what is in them is ours. */
enum kind { KIND_COUNT = MSG_device_gone, KIND_KILL = MSG_command_ack, KIND_ABORT = MSG_command_cancel, KIND_HANG = MSG_rest,
	KIND_SLOW = MSG_ticket_put };

/* Written by one side each. */
struct page {
	/* The test's wishes. */
	int start_result;		/* of storage */
	int start_result_later;		/* … once it has been ready */
	int check_fault;
	/* gateway 1: post so many records, numbered, of post_len bytes */
	unsigned post;
	unsigned post_len;
	unsigned post_kind;
	bool hold;			/* storage: stay in batch_end */
	bool hang;			/* gateway 1: turn in circles */
	bool stay;			/* gateways: don't finish a drain */
	bool alive;			/* storage, while it is held: say so */
	/* What happened. */
	struct {
		int pid, starts, reloads, generation, slot;
		int64_t heartbeat_ms, started_ms, drained_ms, stopped_ms;
	} gateway[GATEWAYS], storage;
	unsigned handled;		/* records of KIND_COUNT that storage took */
	unsigned next;			/* the number of the record that it expects */
	unsigned disorder;
	unsigned kills;			/* by KIND_KILL, KIND_ABORT and KIND_HANG */
	unsigned posted, refused;
	int refused_errno;
	/* counters, as the last tick of gateway 2 found them */
	uint64_t skipped, misdirected, hangs, deaths;
};

static volatile struct page *page;
static char folder[] = "/tmp/belay-master-XXXXXX";
static char file_path[64], log_path[64];

/* --- the roles */

static unsigned
count_one(const struct conf *conf)
{
	(void)conf;
	return 1;
}

static unsigned
count_gateways(const struct conf *conf)
{
	(void)conf;
	return GATEWAYS;
}

static int
storage_check(const struct conf *conf, char *why, size_t len)
{
	(void)conf;
	if (!page->check_fault)
		return 0;
	(void)snprintf(why, len, "not with these");
	return -1;
}

static int
storage_start(struct worker *w)
{
	int result = page->storage.starts++ > 0 && page->start_result_later != 0 ?
	    page->start_result_later : page->start_result;

	page->storage.pid = getpid();
	page->storage.generation = w->generation;
	page->storage.slot = (int)w->slot;
	page->storage.started_ms = clock_mono_ms();
	return result;
}

/* The consumed position is behind the batch; what is read again has the same numbers. */
static void
storage_mail(struct worker *w, const struct mail *mail)
{
	unsigned number;

	(void)w;
	must(mail->len >= sizeof(number));
	memcpy(&number, mail->data, sizeof(number));
	if (mail->kind == KIND_KILL && page->kills < 6) {
		page->kills++;
		(void)raise(SIGKILL);
	} else if (mail->kind == KIND_ABORT) {
		page->kills++;
		abort();
	} else if (mail->kind == KIND_HANG) {
		page->kills++;
		for (;;)
			usleep(1000);
	} else if (mail->kind == KIND_SLOW)
		usleep(SLOW_US);
	if (number > page->next)
		page->disorder++;
	if (number >= page->next)
		page->next = number + 1;
	page->handled++;
}

static void
storage_batch_end(struct worker *w)
{
	while (page->hold) {
		usleep(1000);
		if (page->alive)
			worker_alive(w);
	}
}

static void
storage_drain(struct worker *w, int64_t deadline)
{
	(void)deadline;
	page->storage.drained_ms = clock_mono_ms();
	worker_done(w);
}

static void
storage_reload(struct worker *w)
{
	page->storage.heartbeat_ms = w->conf->limits_heartbeat_ms;
	page->storage.reloads++;
}

const struct worker_role storage_role = {
	.id = ROLE_ID_STORAGE, .count = count_one, .check = storage_check,
	    .start = storage_start,
	.mail = storage_mail, .batch_end = storage_batch_end, .reload = storage_reload,
	    .drain = storage_drain,
	.drain_rank = 1, .consume_late = true, .batch_max = 64
};

static int
gateway_start(struct worker *w)
{
	volatile __typeof__(page->gateway[0]) *g = &page->gateway[w->nth];

	must(w->listener_count == 2);
	g->pid = getpid();
	g->starts++;
	g->generation = w->generation;
	g->slot = (int)w->slot;
	g->started_ms = clock_mono_ms();
	return 0;
}

static void
gateway_tick(struct worker *w)
{
	static char bytes[70000];

	if (w->nth == 1) {
		page->skipped = stats_sum(w->shm, STAT_MAIL_SKIPPED);
		page->misdirected = stats_sum(w->shm, STAT_MAIL_MISDIRECTED);
		page->hangs = stats_sum(w->shm, STAT_WORKER_HANGS);
		page->deaths = stats_sum(w->shm, STAT_WORKER_DEATHS);
		return;
	}
	while (page->hang)
		;
	for (; page->post > 0; page->post--) {
		unsigned number = page->posted;
		struct iovec iov[2] = { { &number, sizeof(number) }, { bytes, page->post_len } };

		if (worker_post(w, (unsigned)worker_slot_of(w, ROLE_ID_STORAGE, 0), (uint16_t)page->post_kind,
		    iov, 2) == 0)
			page->posted++;
		else {
			page->refused++;
			page->refused_errno = errno;
		}
	}
}

static void
gateway_drain(struct worker *w, int64_t deadline)
{
	(void)deadline;
	page->gateway[w->nth].drained_ms = clock_mono_ms();
	if (!page->stay)
		worker_done(w);
}

static void
gateway_reload(struct worker *w)
{
	page->gateway[w->nth].heartbeat_ms = w->conf->limits_heartbeat_ms;
	page->gateway[w->nth].reloads++;
}

static void
gateway_stop(struct worker *w)
{
	page->gateway[w->nth].stopped_ms = clock_mono_ms();
}

const struct worker_role gateway_role = {
	.id = ROLE_ID_GATEWAY, .listens = true, .count = count_gateways,
	    .start = gateway_start,
	.tick = gateway_tick, .drain = gateway_drain, .reload = gateway_reload, .stop = gateway_stop
};

static unsigned
count_none(const struct conf *conf)
{
	(void)conf;
	return 0;
}

const struct worker_role reader_role = {
	.id = ROLE_ID_READER, .count = count_none
};

const struct worker_role keys_role = {
	.id = ROLE_ID_KEYS, .count = count_none
};

/* --- a belayd of our own */

static void
write_settings(const char *more)
{
	FILE *f = fopen(file_path, "w");

	assert_non_null(f);
	fprintf(f,
	    "server: { listen = [\"127.0.0.1:0\"]; admin_listen = \"unix:%s/admin\";\n"
	    " run_dir = \"%s/run\"; drain_time = \"1s\";\n"
	    " log = \"%s\"; log_level = \"debug\"; hang_time = \"2s\"; };\n"
	    "memory: { mailbox = \"64K\"; };\n%s\n", folder, folder, log_path, more);
	assert_int_equal(fclose(f), 0);
}

static const struct conf_sources *
sources(void)
{
	static const char *const key[] = { "auth.jwt_secret=a-secret-of-more-than-thirty-two-bytes" };
	static struct conf_sources s;

	s = (struct conf_sources){ .file = file_path, .file_required = true, .overrides = key, .override_count = 1 };
	return &s;
}

/* Its process id; what it says goes into the log. */
static pid_t
run(bool foreground)
{
	pid_t pid;

	fflush(NULL);
	if ((pid = fork()) == 0) {
		struct conf *conf;

		(void)prctl(PR_SET_PDEATHSIG, foreground ? SIGTERM : 0);
		if (freopen(log_path, "a", stderr) == NULL || setvbuf(stderr, NULL, _IONBF, 0) != 0)
			_exit(99);
		conf = master_load(sources(), true);
		_exit(conf == NULL ? MASTER_BAD_SETTINGS : master_run(sources(), conf, foreground));
	}
	assert_true(pid > 0);
	return pid;
}

static void
fresh_page(void)
{
	memset((void *)(uintptr_t)page, 0, sizeof(*page));
	page->post_kind = KIND_COUNT;
	assert_int_equal(truncate(log_path, 0), 0);
	write_settings("");
}

static char *
log_text(void)
{
	static char text[65536];
	FILE *f = fopen(log_path, "r");
	size_t n;

	assert_non_null(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

/*
 * Between two looks.  By how much these naps were too long says how busy the machine is with other things, and what must be
 * quick may be late by that.
 */
static int64_t overslept_us;

static void
nap(void)
{
	int64_t began = clock_mono_us();

	usleep(2000);
	overslept_us += clock_mono_us() - began - 2000;
}

static int64_t
begin(void)
{
	overslept_us = 0;
	return clock_mono_ms();
}

#define WAIT_FOR(condition) do { \
	int64_t until = clock_mono_ms() + WAIT_MS; \
	while (!(condition)) { \
		if (clock_mono_ms() > until) \
			fail_msg("not within %d ms: %s\n%s", WAIT_MS, #condition, log_text()); \
		nap(); \
	} \
} while (0)

static bool
logged(const char *text)
{
	return strstr(log_text(), text) != NULL;
}

static pid_t
run_ready(void)
{
	pid_t pid = run(true);

	WAIT_FOR(logged("is ready: "));
	return pid;
}

static int
status_of(pid_t pid)
{
	int64_t until = clock_mono_ms() + WAIT_MS;
	int status;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (clock_mono_ms() > until)
			fail_msg("it did not end\n%s", log_text());
		nap();
	}
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void
expect_stop(pid_t pid, int sig, int status)
{
	assert_int_equal(kill(pid, sig), 0);
	assert_int_equal(status_of(pid), status);
}

static bool
is_alive(int pid)
{
	char path[64], text[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if ((f = fopen(path, "r")) == NULL)
		return false;
	if (fgets(text, sizeof(text), f) == NULL)
		text[0] = '\0';
	fclose(f);
	return text[0] != '\0' && strstr(text, ") Z ") == NULL && strstr(text, ") X ") == NULL;
}

/* --- tests */

static void
test_start_and_stop(void **state)
{
	char path[128];
	struct stat st;
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	for (int i = 0; i < GATEWAYS; i++)
		assert_true(page->gateway[i].started_ms >= page->storage.started_ms);
	snprintf(path, sizeof(path), "%s/admin", folder);
	assert_int_equal(stat(path, &st), 0);
	snprintf(path, sizeof(path), "%s/run/belayd.pid", folder);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	/* What is in the mailbox is handled before storage leaves. */
	page->post = 300;
	WAIT_FOR(page->posted == 300);
	expect_stop(pid, SIGTERM, MASTER_OK);
	assert_int_equal(page->next, 300);
	assert_int_equal(page->disorder, 0);
	for (int i = 0; i < GATEWAYS; i++) {
		assert_true(page->gateway[i].stopped_ms > 0);
		assert_true(page->gateway[i].stopped_ms <= page->storage.drained_ms);
	}
	assert_int_equal(stat(path, &st), -1);
	snprintf(path, sizeof(path), "%s/admin", folder);
	assert_int_equal(stat(path, &st), -1);
}

static void
test_restart(void **state)
{
	int gateway, storage, generation, other;
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	gateway = page->gateway[0].pid;
	other = page->gateway[1].pid;
	storage = page->storage.pid;
	generation = page->gateway[0].generation;
	int slot = page->gateway[0].slot;
	assert_int_equal(kill(gateway, SIGKILL), 0);
	WAIT_FOR(page->gateway[0].starts == 2);
	assert_true(page->gateway[0].pid != gateway);
	assert_int_equal(page->gateway[0].slot, slot);
	assert_int_equal(page->gateway[0].generation, generation + 1);
	assert_int_equal(page->gateway[1].pid, other);
	assert_int_equal(page->storage.pid, storage);
	/* A TERM that is not from the master is not obeyed. */
	assert_int_equal(kill(other, SIGTERM), 0);
	assert_int_equal(kill(other, SIGINT), 0);
	usleep(300000);
	assert_true(is_alive(other));
	assert_int_equal(page->gateway[1].starts, 1);
	WAIT_FOR(page->deaths == 1);
	expect_stop(pid, SIGINT, MASTER_OK);
}

/* Mail outlives its reader, however often that is killed: nothing is left out. */
static void
test_mail_survives(void **state)
{
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	page->hold = true;
	page->post = 100;
	WAIT_FOR(page->posted == 100);
	assert_int_equal(kill(page->storage.pid, SIGKILL), 0);
	WAIT_FOR(page->storage.starts == 2);
	page->hold = false;
	WAIT_FOR(page->next == 100);
	/* Killed six times while it handles one and the same record. */
	page->post_kind = KIND_KILL;
	page->post = 1;
	WAIT_FOR(page->kills == 6);
	WAIT_FOR(page->next == 101);
	assert_int_equal(page->skipped, 0);
	assert_int_equal(page->disorder, 0);
	expect_stop(pid, SIGTERM, MASTER_OK);
}

/* What msg.def does not have for storage, or not from a gateway, is no record for it. */
static void
test_misdirected(void **state)
{
	static const unsigned kinds[] = { MSG_audience, MSG_read, MSG_command_pump_on, MSG_none, MSG_KIND_COUNT, UINT16_MAX };
	const unsigned n = sizeof(kinds) / sizeof(kinds[0]);
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	for (unsigned i = 0; i < n; i++) {
		page->post_kind = kinds[i];
		page->post = 1;
		WAIT_FOR(page->posted == i + 1);
	}
	page->post_kind = KIND_COUNT;
	page->post = 1;
	WAIT_FOR(page->next == n + 1);
	WAIT_FOR(page->misdirected == n);
	expect_stop(pid, SIGTERM, MASTER_OK);
	assert_int_equal(page->handled, 1);
}

/* Neither does a drain lose mail: its reader, killed meanwhile, has a successor without listeners. */
static void
test_killed_in_drain(void **state)
{
	pid_t pid;

	(void)state;
	fresh_page();
	page->stay = true;
	pid = run_ready();
	page->hold = true;
	page->post = 100;
	WAIT_FOR(page->posted == 100);
	assert_int_equal(kill(pid, SIGTERM), 0);
	WAIT_FOR(page->gateway[0].drained_ms > 0 && page->gateway[1].drained_ms > 0);
	assert_int_equal(kill(page->storage.pid, SIGKILL), 0);
	WAIT_FOR(page->storage.starts == 2);
	page->hold = false;
	WAIT_FOR(page->next == 100);
	assert_int_equal(page->storage.starts, 2);
	assert_int_equal(page->disorder, 0);
	assert_int_equal(status_of(pid), MASTER_OK);
}

/* A record that makes its readers crash is left out in the end, and it alone. */
static void
test_poison(void **state)
{
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	page->hold = true;
	page->post = 10;
	WAIT_FOR(page->posted == 10);
	page->post_kind = KIND_ABORT;
	page->post = 1;
	WAIT_FOR(page->posted == 11);
	page->post_kind = KIND_COUNT;
	page->post = 10;
	WAIT_FOR(page->posted == 21);
	page->hold = false;
	WAIT_FOR(page->next == 21);
	WAIT_FOR(page->skipped == 1);
	assert_true(page->kills >= 4 && page->kills <= 8);
	assert_int_equal(page->disorder, 1);	/* the one that is missing */
	assert_true(logged("is left out: processes crashed"));
	expect_stop(pid, SIGTERM, MASTER_OK);
}

static void
test_hang(void **state)
{
	int gateway;
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	gateway = page->gateway[0].pid;
	/* Long work that says it is alive is let be. */
	page->alive = true;
	page->hold = true;
	page->hang = true;
	WAIT_FOR(logged("gave no sign of life"));
	page->hang = false;
	WAIT_FOR(page->gateway[0].starts == 2);
	assert_false(is_alive(gateway));
	assert_int_equal(page->storage.starts, 1);
	WAIT_FOR(page->hangs == 1);
	page->hold = false;
	expect_stop(pid, SIGTERM, MASTER_OK);
}

/* Many records at once that take their time: all together they take longer than a process may be silent. */
static void
test_slow_mail(void **state)
{
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	page->hold = page->alive = true;
	page->post_kind = KIND_SLOW;
	page->post = 100;
	WAIT_FOR(page->posted == 100);
	page->hold = false;
	WAIT_FOR(page->next == 100);
	assert_int_equal(page->storage.starts, 1);
	assert_int_equal(page->handled, 100);
	expect_stop(pid, SIGTERM, MASTER_OK);
}

/*
 * Records that hang their reader: each is left out in the end, and they alone, whatever lies between them; what is
 * good is done once its reader has got that far, not when all is over.
 */
static void
test_mail_that_hangs(void **state)
{
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	page->hold = page->alive = true;
	for (int i = 0; i < 2; i++) {
		page->post_kind = KIND_COUNT;
		page->post = 10;
		WAIT_FOR(page->post == 0);
		page->post_kind = KIND_HANG;
		page->post = 1;
		WAIT_FOR(page->post == 0);
	}
	page->post_kind = KIND_COUNT;
	page->post = 10;
	WAIT_FOR(page->posted == 32);
	page->hold = false;
	WAIT_FOR(page->kills == 2);
	assert_int_equal(page->next, 10);
	WAIT_FOR(page->next == 32);
	WAIT_FOR(page->skipped == 2);
	/* The first is found by four, the second by two more: crashed once, they are read with care. */
	assert_int_equal(page->kills, 6);
	assert_int_equal(page->storage.starts, 7);
	assert_int_equal(page->disorder, 2);
	/* Only what was read in one batch with the first was read twice. */
	assert_in_range(page->handled, 30, 40);
	WAIT_FOR(page->hangs == 6);
	expect_stop(pid, SIGTERM, MASTER_OK);
}

static void
signal_all(int sig)
{
	for (int i = 0; i < GATEWAYS; i++)
		assert_int_equal(kill(page->gateway[i].pid, sig), 0);
	assert_int_equal(kill(page->storage.pid, sig), 0);
}

/*
 * All processes stand still, as in a paused container, for longer than one may be silent: that is nobody's fault.  The
 * master goes on first and looks before any of them can give a sign.
 */
static void
test_standstill(void **state)
{
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	for (int i = 0; i < 2; i++) {
		signal_all(SIGSTOP);
		assert_int_equal(kill(pid, SIGSTOP), 0);
		usleep(4000000);
		assert_int_equal(kill(pid, SIGCONT), 0);
		/* It takes up its settings behind its look. */
		write_settings("limits: { heartbeat = \"7s\"; };");
		assert_int_equal(truncate(log_path, 0), 0);
		assert_int_equal(kill(pid, SIGHUP), 0);
		WAIT_FOR(logged("reloaded"));
		signal_all(SIGCONT);
		WAIT_FOR(page->gateway[0].reloads == i + 1 && page->gateway[1].reloads == i + 1 &&
		    page->storage.reloads == i + 1);
	}
	assert_int_equal(page->gateway[0].starts + page->gateway[1].starts + page->storage.starts, 3);
	/* Nor are they killed in the middle of leaving. */
	page->stay = true;
	assert_int_equal(kill(pid, SIGTERM), 0);
	WAIT_FOR(page->gateway[0].drained_ms > 0 && page->gateway[1].drained_ms > 0);
	signal_all(SIGSTOP);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	usleep(4000000);
	assert_int_equal(kill(pid, SIGCONT), 0);
	usleep(200000);
	signal_all(SIGCONT);
	assert_int_equal(status_of(pid), MASTER_OK);
	assert_true(page->gateway[0].stopped_ms > 0 && page->gateway[1].stopped_ms > 0);
	assert_false(logged("did not leave in time"));
}

/* A full mailbox: what it refuses waits in the sender, in order. */
static void
test_backlog(void **state)
{
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	page->alive = true;
	page->hold = true;
	page->post_len = 1000;
	page->post = 2000;
	WAIT_FOR(page->posted == 2000);
	assert_int_equal(page->refused, 0);
	/* Too long, whether or not something waits. */
	page->post_len = 30000;
	page->post = 1;
	WAIT_FOR(page->refused == 1);
	assert_int_equal(page->refused_errno, EMSGSIZE);
	/* More than may wait. */
	page->post_len = 15000;
	page->post = 5000;
	WAIT_FOR(page->post == 0);
	assert_true(page->refused > 1);
	assert_int_equal(page->refused_errno, EAGAIN);
	page->hold = false;
	WAIT_FOR(page->next == page->posted);
	assert_int_equal(page->disorder, 0);
	assert_int_equal(page->handled, page->posted);
	page->post_len = 30000;
	page->post = 1;
	WAIT_FOR(page->post == 0);
	assert_int_equal(page->refused_errno, EMSGSIZE);
	expect_stop(pid, SIGTERM, MASTER_OK);
}

static void
test_start_fails(void **state)
{
	(void)state;
	fresh_page();
	page->start_result = WORKER_HOPELESS;
	assert_int_equal(status_of(run(true)), MASTER_NOT_STARTED);
	assert_int_equal(page->storage.starts, 1);
	assert_int_equal(page->gateway[0].starts, 0);
	fresh_page();
	page->start_result = WORKER_AGAIN;
	assert_int_equal(status_of(run(true)), MASTER_NOT_STARTED);
	assert_int_equal(page->storage.starts, 3);
	fresh_page();
	page->check_fault = true;
	assert_int_equal(status_of(run(true)), MASTER_BAD_SETTINGS);
	assert_true(logged("not with these"));
	fresh_page();
	write_settings("nonsense: { };");
	assert_int_equal(status_of(run(true)), MASTER_BAD_SETTINGS);
}

/* Storage can't be had any more: the instance ends by itself. */
static void
test_lost(void **state)
{
	pid_t pid;

	(void)state;
	fresh_page();
	page->start_result_later = WORKER_HOPELESS;
	pid = run_ready();
	assert_int_equal(kill(page->storage.pid, SIGKILL), 0);
	assert_int_equal(status_of(pid), MASTER_LOST);
	assert_true(page->gateway[0].drained_ms > 0);
	/* While there is hope it is tried again and again. */
	fresh_page();
	page->start_result_later = WORKER_AGAIN;
	pid = run_ready();
	assert_int_equal(kill(page->storage.pid, SIGKILL), 0);
	WAIT_FOR(page->storage.starts == 6);
	page->start_result_later = 0;
	page->post = 5;
	WAIT_FOR(page->next == 5);
	expect_stop(pid, SIGTERM, MASTER_OK);
}

static void
test_conflicts(void **state)
{
	char more[128], err[128];
	pid_t pid;
	int fd;

	(void)state;
	fresh_page();
	pid = run_ready();
	assert_int_equal(status_of(run(true)), MASTER_NOT_STARTED);
	assert_true(logged("belayd is running already (process "));
	expect_stop(pid, SIGTERM, MASTER_OK);
	fresh_page();
	snprintf(more, sizeof(more), "unix:%s/admin", folder);
	fd = listen_open(more, false, err, sizeof(err));
	assert_true(fd != -1);
	assert_int_equal(status_of(run(true)), MASTER_NOT_STARTED);
	assert_true(logged("/admin: Address already in use"));
	close(fd);
	listen_unlink(more);
}

static void
test_reload(void **state)
{
	pid_t pid;

	(void)state;
	fresh_page();
	pid = run_ready();
	write_settings("limits: { heartbeat = \"7s\"; message_rate = 3; }; store: { url = \"memory:\"; };");
	assert_int_equal(kill(pid, SIGHUP), 0);
	WAIT_FOR(page->storage.reloads == 1 && page->gateway[0].reloads == 1 &&
	    page->gateway[1].reloads == 1);
	assert_int_equal(page->storage.heartbeat_ms, 7000);
	assert_int_equal(page->gateway[1].heartbeat_ms, 7000);
	assert_true(logged("store.url was changed, which takes effect at the next start"));

	/* A fault: nothing changes, and it is said where it is. */
	write_settings("limits: { heartbeat = \"8s\"; nonsense = 1; };");
	assert_int_equal(kill(pid, SIGHUP), 0);
	WAIT_FOR(logged("unknown option limits.nonsense"));
	WAIT_FOR(logged("the settings in force stay"));
	page->check_fault = true;
	write_settings("limits: { heartbeat = \"8s\"; };");
	assert_int_equal(kill(pid, SIGHUP), 0);
	WAIT_FOR(logged("not with these"));
	page->check_fault = false;
	assert_int_equal(page->gateway[0].reloads, 1);

	/* One that starts now has the settings in force. */
	assert_int_equal(kill(page->gateway[0].pid, SIGKILL), 0);
	WAIT_FOR(page->gateway[0].starts == 2);
	write_settings("limits: { heartbeat = \"9s\"; };");
	for (int i = 0; i < 20; i++)
		assert_int_equal(kill(pid, SIGHUP), 0);
	WAIT_FOR(page->gateway[0].heartbeat_ms == 9000 && page->gateway[1].heartbeat_ms == 9000);
	expect_stop(pid, SIGTERM, MASTER_OK);
}

static void
test_impatience(void **state)
{
	int64_t began;
	pid_t pid;

	(void)state;
	/* A drain has its time, then it is over. */
	fresh_page();
	page->stay = true;
	pid = run_ready();
	began = begin();
	expect_stop(pid, SIGTERM, MASTER_OK);
	assert_in_range(clock_mono_ms() - began, 1000, 6000 + overslept_us / 1000);
	/* Told again: at once. */
	fresh_page();
	write_settings("");
	page->stay = true;
	pid = run_ready();
	began = begin();
	assert_int_equal(kill(pid, SIGTERM), 0);
	WAIT_FOR(page->gateway[0].drained_ms > 0);
	expect_stop(pid, SIGTERM, MASTER_OK);
	assert_in_range(clock_mono_ms() - began, 0, 900 + overslept_us / 1000);
	fresh_page();
	page->stay = true;
	pid = run_ready();
	began = begin();
	expect_stop(pid, SIGQUIT, MASTER_OK);
	assert_in_range(clock_mono_ms() - began, 0, 900 + overslept_us / 1000);
	/* One that does not listen is killed. */
	fresh_page();
	pid = run_ready();
	page->hang = true;
	began = begin();
	expect_stop(pid, SIGTERM, MASTER_OK);
	assert_in_range(clock_mono_ms() - began, 0, 8000 + overslept_us / 1000);
	page->hang = false;
}

/* Stopped while it is being started. */
static void
test_stop_during_start(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) {
		pid_t pid;

		fresh_page();
		pid = run(true);
		usleep((useconds_t)(i * 3000));
		(void)kill(pid, SIGTERM);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		/* Before it took its signals it is ended like any program. */
		assert_true((WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) ||
		    (WIFEXITED(status) && WEXITSTATUS(status) == 0));
		if (page->storage.pid != 0)
			WAIT_FOR(!is_alive(page->storage.pid));
	}
}

/* The master is gone: so are its workers, within 5 s, even one that is stuck. */
static void
test_master_killed(void **state)
{
	int64_t began;
	pid_t pid;
	int status;

	(void)state;
	fresh_page();
	page->stay = true;
	pid = run_ready();
	page->hang = true;
	usleep(200000);
	began = begin();
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	WAIT_FOR(!is_alive(page->gateway[0].pid) && !is_alive(page->gateway[1].pid) &&
	    !is_alive(page->storage.pid));
	assert_in_range(clock_mono_ms() - began, 0, 5000 + overslept_us / 1000);
	page->hang = false;
	/* What it left behind stops nobody. */
	fresh_page();
	pid = run_ready();
	expect_stop(pid, SIGTERM, MASTER_OK);
}

static void
test_notify(void **state)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = 10 };
	char text[256];
	bool reloading = false, stopping = false, watchdog = false;
	ssize_t n;
	pid_t pid;
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	(void)state;
	fresh_page();
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/notify", folder);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	setenv("NOTIFY_SOCKET", sun.sun_path, 1);
	setenv("WATCHDOG_USEC", "300000", 1);
	pid = run(true);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	do {
		n = recv(fd, text, sizeof(text) - 1, 0);
		assert_true(n > 0);
		text[n] = '\0';
	} while (strncmp(text, "READY=1", 7) != 0);
	assert_int_equal(page->gateway[0].starts, 1);
	kill(pid, SIGHUP);
	while (!reloading || !watchdog) {
		n = recv(fd, text, sizeof(text) - 1, 0);
		assert_true(n > 0);
		text[n] = '\0';
		reloading |= strncmp(text, "RELOADING=1\nMONOTONIC_USEC=", 27) == 0;
		watchdog |= strcmp(text, "WATCHDOG=1") == 0;
	}
	expect_stop(pid, SIGTERM, MASTER_OK);
	while (!stopping) {
		n = recv(fd, text, sizeof(text) - 1, 0);
		assert_true(n > 0);
		text[n] = '\0';
		stopping = strcmp(text, "STOPPING=1") == 0;
	}
	close(fd);
	unlink(sun.sun_path);
}

static int
pid_in_file(void)
{
	char path[128];
	FILE *f;
	int pid = 0;

	snprintf(path, sizeof(path), "%s/run/belayd.pid", folder);
	f = fopen(path, "r");
	if (f == NULL)
		return 0;
	if (fscanf(f, "%d", &pid) != 1)
		pid = 0;
	fclose(f);
	return pid;
}

static void
test_daemon(void **state)
{
	char moved[96], path[64], target[256];
	struct stat st;
	ssize_t n;
	int daemon;

	(void)state;
	fresh_page();
	assert_int_equal(status_of(run(false)), MASTER_OK);
	assert_int_equal(page->gateway[0].starts, 1);	/* ready when the command returns */
	daemon = pid_in_file();
	assert_true(is_alive(daemon));
	assert_int_equal(getsid(daemon), daemon);
	snprintf(path, sizeof(path), "/proc/%d/cwd", daemon);
	n = readlink(path, target, sizeof(target));
	assert_true(n == 1 && target[0] == '/');
	/* A log that was moved away. */
	snprintf(moved, sizeof(moved), "%s.1", log_path);
	assert_int_equal(rename(log_path, moved), 0);
	assert_int_equal(kill(daemon, SIGUSR1), 0);
	WAIT_FOR(stat(log_path, &st) == 0);
	assert_int_equal(kill(daemon, SIGHUP), 0);
	WAIT_FOR(logged("reloaded"));
	unlink(moved);
	assert_int_equal(kill(daemon, SIGTERM), 0);
	WAIT_FOR(!is_alive(daemon));
	WAIT_FOR(pid_in_file() == 0);
	fresh_page();
	page->start_result = WORKER_HOPELESS;
	assert_int_equal(status_of(run(false)), MASTER_NOT_STARTED);
}

static void
test_reuseport(void **state)
{
	pid_t pid;

	(void)state;
	fresh_page();
	write_settings("limits: { replay = 5; };");
	FILE *f = fopen(file_path, "w");
	assert_non_null(f);
	fprintf(f,
	    "server: { listen = [\"127.0.0.1:0\"]; admin_listen = \"unix:%s/admin\"; run_dir = \"%s/run\"; accept = \"reuseport\";"
	    " log_level = \"debug\"; };\n", folder, folder);
	fclose(f);
	pid = run_ready();
	kill(page->gateway[1].pid, SIGKILL);
	WAIT_FOR(page->gateway[1].starts == 2);
	expect_stop(pid, SIGTERM, MASTER_OK);
}

static int
set_up(void **state)
{
	FILE *f;

	(void)state;
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED || mkdtemp(folder) == NULL)
		return -1;
	snprintf(file_path, sizeof(file_path), "%s/belayd.conf", folder);
	snprintf(log_path, sizeof(log_path), "%s/log", folder);
	if ((f = fopen(log_path, "w")) == NULL)
		return -1;
	return fclose(f);
}

/* Takes and gives up the PID file again and again.  1: what was locked is not the file of that name. */
static int
contend(const char *path)
{
	struct stat ours, theirs;
	char err[128];

	for (int i = 0; i < 3000; i++) {
		int fd = pidfile_open(path, err, sizeof(err));

		if (fd == -1)
			continue;
		if (fstat(fd, &ours) == -1 || stat(path, &theirs) == -1 || ours.st_ino != theirs.st_ino)
			return 1;
		pidfile_remove(fd, path);
	}
	return 0;
}

/* One that starts while another ends: who has the lock has the file, or two could have it. */
static void
test_pidfile_of_one_that_ends(void **state)
{
	int status, bad = 0;
	char path[96];
	pid_t pid[3];

	(void)state;
	snprintf(path, sizeof(path), "%s/contended.pid", folder);
	for (size_t i = 0; i < 3; i++)
		if ((pid[i] = fork()) == 0)
			_exit(contend(path));
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		bad += status != 0;
	}
	unlink(path);
	assert_int_equal(bad, 0);
}

static int
tear_down(void **state)
{
	char path[96];

	(void)state;
	unlink(file_path);
	unlink(log_path);
	snprintf(path, sizeof(path), "%s/run/belayd.pid", folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/admin", folder);
	unlink(path);
	snprintf(path, sizeof(path), "%s/run", folder);
	rmdir(path);
	return rmdir(folder);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start_and_stop), cmocka_unit_test(test_restart),
		    cmocka_unit_test(test_mail_survives),
		cmocka_unit_test(test_misdirected), cmocka_unit_test(test_killed_in_drain), cmocka_unit_test(test_poison),
		    cmocka_unit_test(test_hang), cmocka_unit_test(test_slow_mail),
		cmocka_unit_test(test_mail_that_hangs), cmocka_unit_test(test_standstill),
		    cmocka_unit_test(test_backlog),
		cmocka_unit_test(test_start_fails), cmocka_unit_test(test_lost),
		    cmocka_unit_test(test_conflicts),
		cmocka_unit_test(test_reload), cmocka_unit_test(test_impatience),
		    cmocka_unit_test(test_stop_during_start),
		cmocka_unit_test(test_master_killed), cmocka_unit_test(test_notify),
		    cmocka_unit_test(test_daemon),
		cmocka_unit_test(test_reuseport), cmocka_unit_test(test_pidfile_of_one_that_ends),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
