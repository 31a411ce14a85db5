/*
 * What the tests of shm/ share.  The fault counter lies in shared memory, so that a child's
 * fault counts too, even when it is killed afterwards.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/must.h"

#include "shm/segment.h"
#include "tests/shm/lib.h"

#define FAULTS_SHOWN	20

void (*shm_test_hook)(const char *where);

static struct {
	const char *name;
	_Atomic unsigned *faults;
	uint64_t seed, state;
	uint64_t children;
	struct timespec begin;
} lib;

void
lib_fault(const char *file, int line, const char *what, const char *format, ...)
{
	va_list ap;

	if (++*lib.faults > FAULTS_SHOWN)
		return;
	printf("%s:%d: %s: ", file, line, what);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

void
lib_start(const char *name, unsigned limit_s)
{
	const char *seed = getenv("SHM_SEED");

	clock_gettime(CLOCK_MONOTONIC, &lib.begin);
	lib.name = name;
	lib.seed = seed != NULL ? strtoull(seed, NULL, 0) :
	    (uint64_t)lib.begin.tv_nsec ^ (uint64_t)getpid() << 32;
	lib.state = lib.seed | 1;
	lib.faults = lib_share(sizeof(*lib.faults));
	printf("%s: SHM_SEED=%llu\n", name, (unsigned long long)lib.seed);
	fflush(stdout);
	alarm(limit_s);
}

int
lib_end(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("%s: %s, %u faults, %.1f s\n", lib.name, *lib.faults == 0 ? "passed" : "FAILED",
	    *lib.faults, (double)(now.tv_sec - lib.begin.tv_sec) +
	    (double)(now.tv_nsec - lib.begin.tv_nsec) / 1e9);
	return *lib.faults == 0 ? 0 : 1;
}

unsigned
lib_kills(unsigned usual)
{
	const char *kills = getenv("SHM_KILLS");

	return kills != NULL ? (unsigned)strtoul(kills, NULL, 0) : usual;
}

uint64_t
lib_random(void)
{
	lib.state ^= lib.state << 13;
	lib.state ^= lib.state >> 7;
	lib.state ^= lib.state << 17;
	return lib.state * 0x2545f4914f6cdd1du;
}

uint64_t
lib_random_below(uint64_t n)
{
	return (lib_random() >> 11) % n;
}

void
lib_pause_us(unsigned us)
{
	struct timespec ts = { us / 1000000, (long)(us % 1000000) * 1000 };

	nanosleep(&ts, NULL);
}

void *
lib_share(size_t len)
{
	void *p = mmap(
	    NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(p != MAP_FAILED);
	return p;
}

pid_t
lib_spawn(struct shm *shm, unsigned slot, void (*run)(struct shm *shm, void *arg), void *arg)
{
	pid_t parent = getpid(), pid;

	slot_take(shm, slot, 1, slot);
	lib.children++;
	pid = fork();
	must(pid != -1);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		lib.state = (lib.seed + lib.children * 0x9e3779b97f4a7c15u) | 1;
		slot_set_pid(shm, slot, getpid());
		shm_set_self(shm, slot);
		slot_set_state(shm, slot, SLOT_READY);
		run(shm, arg);
		_exit(*lib.faults == 0 ? 0 : 1);
	}
	slot_set_pid(shm, slot, pid);
	return pid;
}

void
lib_kill(struct shm *shm, unsigned slot, pid_t pid)
{
	kill(pid, SIGKILL);
	lib_reap(shm, slot, pid);
}

int
lib_reap(struct shm *shm, unsigned slot, pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) == -1)
		must(errno == EINTR);
	slot_died(shm, slot);
	return status;
}

void
lib_wait_zombie(pid_t pid)
{
	siginfo_t info;

	while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == -1)
		must(errno == EINTR);
}
