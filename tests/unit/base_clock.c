/*
 * base_clock - the two clocks and the replaceable source.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static uint64_t fake_ms;

static uint64_t fake_clock(void)
{
    return fake_ms;
}

static void test_monotonic(void **state)
{
    uint64_t ns = cs_clock_ns();
    uint64_t ms = cs_clock_ms();

    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t ns_now = cs_clock_ns(), ms_now = cs_clock_ms();

        assert_true(ns_now >= ns);
        assert_true(ms_now >= ms);
        ns = ns_now;
        ms = ms_now;
    }
}

static void test_same_origin(void **state)
{
    uint64_t before = cs_clock_ns() / 1000000U;
    uint64_t ms = cs_clock_ms();
    uint64_t after = cs_clock_ns() / 1000000U;

    (void)state;
    assert_true(before <= ms);
    assert_true(ms <= after);
}

static void test_source(void **state)
{
    uint64_t real = cs_clock_ms();

    (void)state;
    cs_clock_set_source(fake_clock);
    fake_ms = 42;
    assert_int_equal(cs_clock_ms(), 42);
    fake_ms = 43;
    assert_int_equal(cs_clock_ms(), 43);
    assert_true(cs_clock_ns() / 1000000U >= real);
    cs_clock_set_source(NULL);
    assert_true(cs_clock_ms() >= real);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotonic),
        cmocka_unit_test(test_same_origin),
        cmocka_unit_test(test_source),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
