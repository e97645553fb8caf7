/*
 * machine - how much of the machine is ours.
 */
#ifndef CSD_MACHINE_H
#define CSD_MACHINE_H

/* CPUs that this process may use at a time: its affinity, and the cgroup's quota rounded up (both
 * versions of cgroups; sched(7), Documentation/admin-guide/cgroup-v2.rst). At least 1. */
unsigned csd_machine_cpus(void);

/* The quota in CPUs, rounded up, of a cgroup v2 file "cpu.max" ("150000 100000": 2); 0: none. */
unsigned csd_machine_parse_quota(const char *text);

#endif
