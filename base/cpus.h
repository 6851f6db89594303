/* How many processors this process may keep busy: those it is bound to, and no more than the quotas
 * of its control groups (cgroups 2 and 1) give it time for, rounded up; at least 1. */
#ifndef BASE_CPUS_H
#define BASE_CPUS_H

int cpus_allowed(void);

/* The same from a file system that is rooted elsewhere, for tests: ROOT/proc/self/cgroup,
 * ROOT/sys/fs/cgroup/...; without regard to what the process is bound to. 0: there is no quota. */
int cpus_quota(const char *root);

#endif
