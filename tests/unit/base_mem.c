/*
 * base_mem - the allocator: contents, edge sizes, and each function with its allocation failing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/mem.h"

static void test_alloc(void **state)
{
    (void)state;
    for (size_t size = 0; size < 5000; size += 97) {
        uint8_t *p = cs_alloc(size);
        uint8_t *z = cs_zalloc(size);

        assert_non_null(p);
        assert_non_null(z);
        memset(p, 0xff, size);
        for (size_t i = 0; i < size; i++) {
            assert_int_equal(z[i], 0);
        }
        cs_free(p);
        cs_free(z);
    }
    cs_free(NULL);
}

static void test_resize(void **state)
{
    char *p = cs_realloc(NULL, 10);

    (void)state;
    assert_non_null(p);
    memcpy(p, "123456789", 10);
    p = cs_realloc(p, 100000);
    assert_non_null(p);
    assert_string_equal(p, "123456789");
    p = cs_realloc(p, 4);
    assert_non_null(p);
    assert_memory_equal(p, "1234", 4);
    /* Zero is a size like any other: NULL means failure only. */
    p = cs_realloc(p, 0);
    assert_non_null(p);
    cs_free(p);
}

static void test_copies(void **state)
{
    const char raw[3] = {'a', 'b', 'c'};
    char *s = cs_strdup("hello");

    (void)state;
    assert_string_equal(s, "hello");
    cs_free(s);
    s = cs_strdup("");
    assert_string_equal(s, "");
    cs_free(s);
    s = cs_strndup("hello", 2);
    assert_string_equal(s, "he");
    cs_free(s);
    s = cs_strndup("hello", 99);
    assert_string_equal(s, "hello");
    cs_free(s);
    /* Reads no byte behind n. */
    s = cs_strndup(raw, 3);
    assert_string_equal(s, "abc");
    cs_free(s);
    s = cs_strndup("x", 0);
    assert_string_equal(s, "");
    cs_free(s);
}

static void test_resize_sized(void **state)
{
    size_t old_size = 0;
    uint8_t *p = NULL;

    (void)state;
    for (size_t size = 1; size < 200000; size = size * 3 + 1) {
        p = cs_resize_sized(p, old_size, size);
        assert_non_null(p);
        for (size_t i = 0; i < old_size; i++) {
            assert_int_equal(p[i], (uint8_t)i);
        }
        for (size_t i = 0; i < size; i++) {
            p[i] = (uint8_t)i;
        }
        old_size = size;
    }
    p = cs_resize_sized(p, old_size, 16);
    assert_non_null(p);
    for (size_t i = 0; i < 16; i++) {
        assert_int_equal(p[i], (uint8_t)i);
    }
    assert_null(cs_resize_sized(p, 16, 0));
    assert_null(cs_resize_sized(NULL, 0, 0));
}

static void test_aligned(void **state)
{
    (void)state;
    for (size_t alignment = 64; alignment <= 65536; alignment *= 4) {
        uint8_t *p = cs_alloc_aligned(alignment, 2 * alignment);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % alignment, 0);
        memset(p, 0xff, 2 * alignment);
        cs_free(p);
    }
}

#ifdef CS_FAULTS

static void *call_aligned(void)
{
    return cs_alloc_aligned(64, 64);
}

static void *call_alloc(void)
{
    return cs_alloc(8);
}

static void *call_zalloc(void)
{
    return cs_zalloc(8);
}

static void *call_realloc(void)
{
    return cs_realloc(NULL, 8);
}

static void *call_strdup(void)
{
    return cs_strdup("x");
}

static void *call_strndup(void)
{
    return cs_strndup("x", 1);
}

static void *call_resize_sized(void)
{
    return cs_resize_sized(NULL, 0, 8);
}

static void test_fail_each(void **state)
{
    void *(*const calls[])(void) = {call_alloc,   call_zalloc,       call_realloc, call_strdup,
                                    call_strndup, call_resize_sized, call_aligned};

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(calls); i++) {
        void *p;

        cs_mem_fail_nth(1);
        assert_false(cs_mem_failed());
        assert_null(calls[i]());
        assert_true(cs_mem_failed());
        /* Once only. */
        p = calls[i]();
        assert_non_null(p);
        cs_free(p);
        assert_true(cs_mem_failed());
        cs_mem_fail_nth(0);
        assert_false(cs_mem_failed());
    }
}

static void test_fail_keeps_old(void **state)
{
    char *p = cs_strdup("kept");

    (void)state;
    cs_mem_fail_nth(1);
    assert_null(cs_realloc(p, 1000));
    assert_string_equal(p, "kept");
    cs_mem_fail_nth(1);
    assert_null(cs_resize_sized(p, 5, 1000));
    assert_string_equal(p, "kept");
    /* Shrinking and freeing do not count. */
    cs_mem_fail_nth(1);
    p = cs_resize_sized(p, 5, 2);
    assert_non_null(p);
    assert_null(cs_resize_sized(p, 2, 0));
    assert_false(cs_mem_failed());
    cs_mem_fail_nth(0);
}

static void test_fail_third(void **state)
{
    void *p[3];

    (void)state;
    cs_mem_fail_nth(3);
    for (int i = 0; i < 3; i++) {
        p[i] = cs_alloc(1);
    }
    assert_non_null(p[0]);
    assert_non_null(p[1]);
    assert_null(p[2]);
    cs_free(p[0]);
    cs_free(p[1]);
    cs_mem_fail_nth(0);
}

static void *allocate_in_thread(void *arg)
{
    (void)arg;
    return cs_alloc(1);
}

static void test_fail_several(void **state)
{
    void *p;

    (void)state;
    cs_mem_fail_from(2, 2);
    p = cs_alloc(1);
    assert_non_null(p);
    cs_free(p);
    assert_false(cs_mem_failed());
    assert_null(cs_alloc(1));
    assert_null(cs_alloc(1));
    assert_true(cs_mem_failed());
    p = cs_alloc(1);
    assert_non_null(p);
    cs_free(p);
}

static void test_fail_is_per_thread(void **state)
{
    pthread_t thread;
    void *p;

    (void)state;
    cs_mem_fail_nth(1);
    assert_int_equal(pthread_create(&thread, NULL, allocate_in_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, &p), 0);
    assert_non_null(p);
    assert_false(cs_mem_failed());
    cs_free(p);
    cs_mem_fail_nth(0);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_resize_sized),
        cmocka_unit_test(test_aligned),
#ifdef CS_FAULTS
        cmocka_unit_test(test_fail_each),
        cmocka_unit_test(test_fail_keeps_old),
        cmocka_unit_test(test_fail_third),
        cmocka_unit_test(test_fail_several),
        cmocka_unit_test(test_fail_is_per_thread),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
