/*
 * cores.h: how many processors this program may use.
 */
#ifndef BELAY_BASE_CORES_H
#define BELAY_BASE_CORES_H

#include "base/slice.h"

/*
 * At least 1: those that the scheduler lets it run on (sched_getaffinity(2)), and no more than the CPU
 * quota of its control group and of those above pays for, rounded up.  Asked once: a process and all that
 * it forks later get the same answer.
 */
unsigned cores_usable(void);

/*
 * What the quotas of version 2 (cpu.max) and version 1 (cpu.cfs_quota_us) pay for, rounded up; 0: there is
 * none.  mount is where control groups are mounted, groups the text of /proc/PID/cgroup (cgroups(7)).
 */
unsigned cores_by_quota(const char *mount, struct slice groups);

#endif
