/*
 * cores.c: how many processors this program may use.
 *
 * The master asks first, before it forks, so that all its processes agree on how many of them there are.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cores.h"

#define MOUNT "/sys/fs/cgroup"

/* The beginning of a small file as a text; -1: it can't be read. */
static int
read_text(const char *path, char *out, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd != -1 ? read(fd, out, size - 1) : -1;

	if (fd != -1)
		(void)close(fd);
	if (n < 0)
		return -1;
	out[n] = '\0';
	return 0;
}

static unsigned
rounded_up(long long quota, long long period)
{
	if (quota <= 0 || period <= 0 || quota / period >= INT_MAX)
		return 0;
	return (unsigned)(quota / period + (quota % period != 0));
}

/* Of one group; 0: none. */
static unsigned
quota_of(const char *folder, bool v2)
{
	char path[PATH_MAX + 32], text[64], *rest;
	long long quota;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, v2 ? "cpu.max" : "cpu.cfs_quota_us");
	if (read_text(path, text, sizeof(text)) == -1)
		return 0;
	quota = strtoll(text, &rest, 10);	/* "max" is 0, "-1" is none */
	if (!v2) {
		(void)snprintf(path, sizeof(path), "%s/cpu.cfs_period_us", folder);
		if (read_text(path, text, sizeof(text)) == -1)
			return 0;
		rest = text;
	}
	return rounded_up(quota, strtoll(rest, NULL, 10));
}

/* The least of a group and those above it, to where they are mounted. */
static unsigned
least_of(const char *mount, const char *controllers, struct slice group, bool v2)
{
	char folder[PATH_MAX];
	size_t top = strlen(mount) + strlen(controllers);
	unsigned least = 0, n;
	char *slash;
	int len = snprintf(folder, sizeof(folder), "%s%s%.*s", mount, controllers, (int)group.len, group.p);

	if (len < 0 || (size_t)len >= sizeof(folder))
		return 0;
	for (;;) {
		if ((n = quota_of(folder, v2)) != 0 && (least == 0 || n < least))
			least = n;
		if (strlen(folder) <= top || (slash = strrchr(folder, '/')) == NULL || (size_t)(slash - folder) < top)
			return least;
		*slash = '\0';
	}
}

/* Whether "cpu" is one of the names between commas. */
static bool
has_cpu(struct slice names)
{
	for (size_t i = 0; i + 3 <= names.len; i++)
		if (memcmp(names.p + i, "cpu", 3) == 0 && (i == 0 || names.p[i - 1] == ',') &&
		    (i + 3 == names.len || names.p[i + 3] == ','))
			return true;
	return false;
}

unsigned
cores_by_quota(const char *mount, struct slice groups)
{
	unsigned least = 0;

	/* Lines of "number:controllers:/path"; version 2 has number 0 and no controllers. */
	for (const char *p = groups.p, *end = p + groups.len, *eol; p < end; p = eol + 1) {
		const char *names, *path;
		unsigned n = 0;

		if ((eol = memchr(p, '\n', (size_t)(end - p))) == NULL)
			eol = end;
		if ((names = memchr(p, ':', (size_t)(eol - p))) == NULL ||
		    (path = memchr(names + 1, ':', (size_t)(eol - names - 1))) == NULL)
			continue;
		names++;
		if (path == names)
			n = least_of(mount, "", slice_bytes(path + 1, (size_t)(eol - path - 1)), true);
		else if (has_cpu(slice_bytes(names, (size_t)(path - names))))
			n = least_of(mount, "/cpu", slice_bytes(path + 1, (size_t)(eol - path - 1)), false);
		if (n != 0 && (least == 0 || n < least))
			least = n;
	}
	return least;
}

unsigned
cores_usable(void)
{
	static unsigned known;
	char groups[4096];
	unsigned quota;
	long online;
	cpu_set_t set;

	if (known != 0)
		return known;
	if (sched_getaffinity(0, sizeof(set), &set) == 0) {
		known = (unsigned)CPU_COUNT(&set);
	} else {			/* more processors than a set of the usual size holds */
		online = sysconf(_SC_NPROCESSORS_ONLN);
		known = online > 0 ? (unsigned)online : 1;
	}
	if (read_text("/proc/self/cgroup", groups, sizeof(groups)) == 0 &&
	    (quota = cores_by_quota(MOUNT, slice_of(groups))) != 0 && quota < known)
		known = quota;
	if (known == 0)
		known = 1;
	return known;
}
