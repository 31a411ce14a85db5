/*
 * setup.c: signals, limits, user and the daemon's detachment.  Runs in the master, once, before it
 * forks workers.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/log.h"
#include "master/setup.h"
#include "workers/role.h"

unsigned
setup_check_roles(const struct conf *conf, void (*report)(void *arg, const char *line), void *arg)
{
	unsigned faults = 0;
	char why[512];

	for (unsigned id = 0; id < ROLE_ID_COUNT; id++) {
		const struct worker_role *role = worker_role_by_id((enum worker_role_id)id);

		if (role->check == NULL || role->check(conf, why, sizeof(why)) == 0)
			continue;
		report(arg, why);
		faults++;
	}
	return faults;
}

int
setup_arrange(const struct conf *conf, unsigned uid, unsigned gid)
{
	int made = 0;

	for (unsigned id = 0; id < ROLE_ID_COUNT && made != -1; id++) {
		const struct worker_role *role = worker_role_by_id((enum worker_role_id)id);
		int one = role->arrange != NULL ? role->arrange(conf, uid, gid) : 0;

		if (one != 0)
			made = one;
	}
	return made;
}

void
setup_clear_away(void)
{
	for (unsigned id = 0; id < ROLE_ID_COUNT; id++) {
		const struct worker_role *role = worker_role_by_id((enum worker_role_id)id);

		if (role->clear_away != NULL)
			role->clear_away();
	}
}

int
setup_signals(void)
{
	struct sigaction standard = { .sa_handler = SIG_DFL }, ignore = { .sa_handler = SIG_IGN };
	sigset_t signals;

	worker_signals(&signals);
	(void)sigaddset(&signals, SIGUSR2);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) == -1)
		return -1;
	/* An ignored signal is thrown away even while it is blocked. */
	for (int sig = 1; sig < SIGRTMIN; sig++)
		if (sigismember(&signals, sig) == 1)
			(void)sigaction(sig, &standard, NULL);
	(void)sigaction(SIGPIPE, &ignore, NULL);
	return signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
}

void
setup_limits(void)
{
	struct rlimit files, core;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &files) == -1)
			log_warn("the limit of descriptors can't be raised: %s", strerror(errno));
	}
	if (getrlimit(RLIMIT_CORE, &core) == 0) {
		core.rlim_cur = 0;
		(void)setrlimit(RLIMIT_CORE, &core);
	}
	(void)umask(027);
}

int
setup_user(const struct conf *conf, unsigned *uid, unsigned *gid)
{
	const struct passwd *user;
	const struct group *group;

	*uid = *gid = (unsigned)-1;
	if (*conf->server_user == '\0') {
		if (geteuid() == 0)
			log_warn("workers run as root: server.user is not set");
		return 0;
	}
	if ((user = getpwnam(conf->server_user)) == NULL) {
		log_error("server.user: there is no user %s", conf->server_user);
		return -1;
	}
	if (geteuid() != 0) {
		if (user->pw_uid != geteuid())
			log_warn("server.user has no effect: belayd was not started as root");
		return 0;
	}
	*uid = user->pw_uid;
	*gid = user->pw_gid;
	if (*conf->server_group == '\0')
		return 0;
	if ((group = getgrnam(conf->server_group)) == NULL) {
		log_error("server.group: there is no group %s", conf->server_group);
		return -1;
	}
	*gid = group->gr_gid;
	return 0;
}

/* Waits for one byte, the status to exit with. */
static _Noreturn void
wait_for(int fd)
{
	unsigned char status;
	ssize_t n;

	do
		n = read(fd, &status, 1);
	while (n == -1 && errno == EINTR);
	if (n != 1)
		status = 2;
	if (status != 0)
		(void)fputs("belayd: not started; the log says why\n", stderr);
	_exit(status);
}

int
setup_daemon(int *ready_fd)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) == -1)
		return -1;
	if ((pid = fork()) == -1) {
		(void)close(ends[0]);
		(void)close(ends[1]);
		return -1;
	}
	if (pid > 0) {
		sigset_t none;

		/* Whoever started it may lose patience. */
		(void)sigemptyset(&none);
		(void)sigprocmask(SIG_SETMASK, &none, NULL);
		(void)close(ends[1]);
		wait_for(ends[0]);
	}
	(void)close(ends[0]);
	*ready_fd = ends[1];
	return setsid() == -1 || chdir("/") == -1 ? -1 : 0;
}

void
setup_no_terminal(void)
{
	int null = open("/dev/null", O_RDWR);

	if (null == -1)
		return;
	for (int fd = 0; fd <= 2; fd++)
		(void)dup2(null, fd);
	if (null > 2)
		(void)close(null);
}

void
setup_ready(int *ready_fd, int status)
{
	unsigned char byte = (unsigned char)status;

	if (*ready_fd == -1)
		return;
	if (write(*ready_fd, &byte, 1) == -1)
		log_debug("nobody waits for the start");
	(void)close(*ready_fd);
	*ready_fd = -1;
	setup_no_terminal();
}
