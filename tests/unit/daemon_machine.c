/*
 * daemon_machine - CPUs by affinity and by a cgroup's quota.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>

#include "daemon/machine.h"

static void test_affinity(void **state)
{
    cpu_set_t all, one;
    int first = 0;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    assert_in_range(csd_machine_cpus(), 1, (unsigned)CPU_COUNT(&all));
    while (!CPU_ISSET(first, &all)) {
        first++;
    }
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(csd_machine_cpus(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
}

static void test_quota(void **state)
{
    (void)state;
    assert_int_equal(csd_machine_parse_quota("max 100000"), 0);
    assert_int_equal(csd_machine_parse_quota("-1 100000"), 0);
    assert_int_equal(csd_machine_parse_quota("150000 100000"), 2);
    assert_int_equal(csd_machine_parse_quota("200000 100000"), 2);
    assert_int_equal(csd_machine_parse_quota("1000 100000"), 1);
    assert_int_equal(csd_machine_parse_quota("100000 0"), 0);
    assert_int_equal(csd_machine_parse_quota(""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_affinity),
        cmocka_unit_test(test_quota),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
