/*
 * machine - see machine.h.
 */
#include "daemon/machine.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

#define CGROUP_V2 "/sys/fs/cgroup"
#define CGROUP_V1 "/sys/fs/cgroup/cpu"

static unsigned affinity(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

    return n > 0 ? (unsigned)n : 1;
}

/* The first line of a file, without its end. */
static bool read_line(const char *path, char *line, int size)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(line, size, f);

    if (ok) {
        line[strcspn(line, "\n")] = '\0';
    }
    if (f) {
        (void)fclose(f);
    }
    return ok;
}

static unsigned cpus_of(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) {
        return 0;
    }
    return (unsigned)CS_MIN((quota + period - 1) / period, (long long)INT_MAX);
}

unsigned csd_machine_parse_quota(const char *text)
{
    long long quota, period;

    return sscanf(text, "%lld %lld", &quota, &period) == 2 ? cpus_of(quota, period) : 0;
}

/* The tightest quota from our cgroup up to the root; 0: none. */
static unsigned quota_v2(const char *group)
{
    char dir[sizeof(CGROUP_V2) + PATH_MAX], file[sizeof(dir) + 16], line[128];
    unsigned least = 0;

    (void)snprintf(dir, sizeof(dir), CGROUP_V2 "%s", group);
    while (strlen(dir) >= strlen(CGROUP_V2)) {
        unsigned n = 0;

        (void)snprintf(file, sizeof(file), "%s/cpu.max", dir);
        if (read_line(file, line, sizeof(line))) {
            n = csd_machine_parse_quota(line);
        }
        if (n > 0 && (least == 0 || n < least)) {
            least = n;
        }
        *strrchr(dir, '/') = '\0';
    }
    return least;
}

static unsigned quota_v1(void)
{
    char quota[64], period[64], both[160];

    if (!read_line(CGROUP_V1 "/cpu.cfs_quota_us", quota, sizeof(quota)) ||
        !read_line(CGROUP_V1 "/cpu.cfs_period_us", period, sizeof(period))) {
        return 0;
    }
    (void)snprintf(both, sizeof(both), "%s %s", quota, period);
    return csd_machine_parse_quota(both);
}

static unsigned quota(void)
{
    char line[PATH_MAX];
    bool v2 = read_line("/proc/self/cgroup", line, sizeof(line)) && strncmp(line, "0::", 3) == 0;

    return v2 ? quota_v2(line + 3) : quota_v1();
}

unsigned csd_machine_cpus(void)
{
    unsigned have = affinity(), may = quota();

    return may > 0 ? CS_MIN(have, may) : have;
}
