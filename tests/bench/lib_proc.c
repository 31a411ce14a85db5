/*
 * lib_proc.c: CPU time and memory of the server's processes, from /proc.
 *
 * schedstat counts nanoseconds on the CPU, user and system together; what the
 * kernel does for loopback traffic is charged to whichever side's system call
 * ran it, for every contestant alike.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/lib.h"

static int
proc_parent(int pid)
{
	char path[64], line[512], *p;
	int parent = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if ((f = fopen(path, "r")) == NULL)
		return -1;
	/* The name in parentheses may hold anything: look behind the last one. */
	if (fgets(line, sizeof(line), f) != NULL && (p = strrchr(line, ')')) != NULL)
		sscanf(p + 1, " %*c %d", &parent);
	fclose(f);
	return parent;
}

static bool
procs_have(const struct bench_procs *procs, int pid)
{
	for (unsigned i = 0; i < procs->n; i++)
		if (procs->pid[i] == pid)
			return true;
	return false;
}

void
bench_procs_find(struct bench_procs *procs)
{
	struct dirent *e;
	bool more = true;
	DIR *d;

	procs->n = 0;
	for (unsigned i = 0; i < procs->nroots; i++) {
		if (proc_parent(procs->root[i]) == -1)
			bench_die("process %d is not there", procs->root[i]);
		procs->pid[procs->n++] = procs->root[i];
	}
	if (procs->n == 0)
		return;
	/* A child may be listed before its parent: go over the list until nothing is new. */
	while (more) {
		more = false;
		if ((d = opendir("/proc")) == NULL)
			bench_die("/proc: %s", strerror(errno));
		while ((e = readdir(d)) != NULL) {
			int pid = atoi(e->d_name);

			if (pid <= 0 || procs_have(procs, pid) || !procs_have(procs, proc_parent(pid)))
				continue;
			if (procs->n == BENCH_PROCS_MAX)
				bench_die("more than %d server processes", BENCH_PROCS_MAX);
			procs->pid[procs->n++] = pid;
			more = true;
		}
		closedir(d);
	}
}

uint64_t
bench_procs_cpu(const struct bench_procs *procs)
{
	uint64_t total = 0, ns;
	char path[320];
	struct dirent *e;
	DIR *d;
	FILE *f;

	for (unsigned i = 0; i < procs->n; i++) {
		snprintf(path, sizeof(path), "/proc/%d/task", procs->pid[i]);
		if ((d = opendir(path)) == NULL)
			bench_die("server process %d ended during the measurement", procs->pid[i]);
		while ((e = readdir(d)) != NULL) {
			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", procs->pid[i], e->d_name);
			if ((f = fopen(path, "r")) == NULL)
				continue;
			if (fscanf(f, "%" SCNu64, &ns) == 1)
				total += ns;
			fclose(f);
		}
		closedir(d);
	}
	return total;
}

uint64_t
bench_procs_pss(const struct bench_procs *procs)
{
	uint64_t total = 0, kb;
	char path[64], line[256];
	FILE *f;

	for (unsigned i = 0; i < procs->n; i++) {
		snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", procs->pid[i]);
		if ((f = fopen(path, "r")) == NULL)
			bench_die("%s: %s", path, strerror(errno));
		while (fgets(line, sizeof(line), f) != NULL)
			if (sscanf(line, "Pss: %" SCNu64, &kb) == 1)
				total += kb * 1024;
		fclose(f);
	}
	return total;
}
