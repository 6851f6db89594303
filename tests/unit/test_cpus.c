/* Quotas of control groups, read from folders that look like /proc and /sys. */
#include "base/cpus.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "tests/unit/unit.h"

static struct folder folder;

static void put(const char *path, const char *text)
{
    char full[512];
    for (const char *at = path; (at = strchr(at, '/')); at++) {
        snprintf(full, sizeof full, "%s/%.*s", folder.path, (int)(at - path), path);
        mkdir(full, 0777);
    }
    snprintf(full, sizeof full, "%s/%s", folder.path, path);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void empty(void)
{
    char command[256];
    snprintf(command, sizeof command, "rm -rf %s/proc %s/sys", folder.path, folder.path);
    assert_int_equal(system(command), 0);
}

static void second_version(void **state)
{
    (void)state;
    empty();
    assert_int_equal(cpus_quota(folder.path), 0);
    put("proc/self/cgroup", "0::/a/b\n");
    put("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    assert_int_equal(cpus_quota(folder.path), 0);
    put("sys/fs/cgroup/a/b/cpu.max", "400000 100000\n");
    assert_int_equal(cpus_quota(folder.path), 4);
    put("sys/fs/cgroup/a/cpu.max", "150000 100000\n"); /* the one above is tighter */
    assert_int_equal(cpus_quota(folder.path), 2);
    put("sys/fs/cgroup/a/cpu.max", "1000 100000\n");
    assert_int_equal(cpus_quota(folder.path), 1);
    put("sys/fs/cgroup/a/cpu.max", "rubbish\n");
    assert_int_equal(cpus_quota(folder.path), 4);
}

/* In a container what is mounted begins at its own group, whatever its path outside. */
static void in_a_container(void **state)
{
    (void)state;
    empty();
    put("proc/self/cgroup", "0::/\n");
    put("sys/fs/cgroup/cpu.max", "100000 100000\n");
    assert_int_equal(cpus_quota(folder.path), 1);
    put("proc/self/cgroup", "0::/docker/0123\n");
    assert_int_equal(cpus_quota(folder.path), 1);
}

static void first_version(void **state)
{
    (void)state;
    empty();
    put("proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/g\n0::/\n");
    put("sys/fs/cgroup/cpu/g/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu/g/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpus_quota(folder.path), 0);
    put("sys/fs/cgroup/cpu/g/cpu.cfs_quota_us", "300000\n");
    assert_int_equal(cpus_quota(folder.path), 3);
    put("proc/self/cgroup", "5:cpuset:/g\n0::/\n");
    assert_int_equal(cpus_quota(folder.path), 0);
}

static int make(void **state)
{
    (void)state;
    folder_make(&folder);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    empty();
    folder_remove(&folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(second_version),
                                       cmocka_unit_test(in_a_container),
                                       cmocka_unit_test(first_version)};
    return cmocka_run_group_tests(tests, make, drop);
}
