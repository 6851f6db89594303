/* Processors and quotas: see cpus.h. */
#include "base/cpus.h"

#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PATH 4096

/* Processors that "quota period" of one file, or the numbers of two, allow; 0: no limit, no file.
 */
static double read_limit(const char *folder, const char *quota_name, const char *period_name)
{
    char path[PATH + 32];
    double quota = 0, period = 0;
    int found = 0;
    snprintf(path, sizeof path, "%s/%s", folder, quota_name);
    FILE *file = fopen(path, "r");
    if (file) {
        found = fscanf(file, "%lf %lf", &quota, &period); /* "max 100000" gives none */
        fclose(file);
    }
    if (period_name) {
        snprintf(path, sizeof path, "%s/%s", folder, period_name);
        file = fopen(path, "r");
        found += file && fscanf(file, "%lf", &period) == 1;
        if (file)
            fclose(file);
    }
    return found == 2 && quota > 0 && period > 0 ? quota / period : 0;
}

static double least(double a, double b)
{
    return a > 0 && b > 0 ? fmin(a, b) : a > 0 ? a : b;
}

/* The tightest limit of a group and those above it. In a container the group's own folder may be
 * the root of what is mounted: folders that are not there are passed over. */
static double tightest(const char *mount, const char *group, bool second)
{
    char folder[PATH];
    double limit = 0;
    snprintf(folder, sizeof folder, "%s%s", mount, strcmp(group, "/") ? group : "");
    for (;;) {
        limit = least(limit, second ? read_limit(folder, "cpu.max", NULL)
                                    : read_limit(folder, "cpu.cfs_quota_us", "cpu.cfs_period_us"));
        char *slash = strrchr(folder, '/');
        if (strlen(folder) <= strlen(mount) || !slash)
            return limit;
        *slash = '\0';
    }
}

int cpus_quota(const char *root)
{
    char path[PATH], line[PATH], mount[PATH];
    double limit = 0;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file)) { /* "0::/group" or "4:cpu,cpuacct:/group" */
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        bool second = !names[1];
        const char *cpu = strstr(names + 1, "cpu");
        if (!second && !(cpu && (!cpu[3] || cpu[3] == ',')))
            continue;
        snprintf(mount, sizeof mount,
                 second ? "%.2000s/sys/fs/cgroup" : "%.2000s/sys/fs/cgroup/cpu", root);
        limit = least(limit, tightest(mount, group, second));
    }
    if (file)
        fclose(file);
    return limit > 0 ? (int)fmax(1, fmin(ceil(limit - 1e-6), 1 << 20)) : 0;
}

int cpus_allowed(void)
{
    cpu_set_t cpus;
    int bound = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    int quota = cpus_quota("");
    return quota && quota < bound ? quota : bound;
}
