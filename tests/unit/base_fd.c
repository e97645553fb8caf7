/* base_fd - all of it is written, in whatever parts, or an error is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define SIZE ((size_t)1024 * 1024) /* more than any pipe holds: several writes */

static uint8_t sent[SIZE], got[SIZE];

static void *read_pipe(void *arg)
{
    size_t len = 0;
    ssize_t n;
    while (len < SIZE && (n = read(*(int *)arg, got + len, 1000)) > 0) {
        len += (size_t)n;
    }
    return NULL;
}

static void test_in_parts(void **state)
{
    (void)state;
    int ends[2];
    pthread_t reader;
    for (size_t i = 0; i < SIZE; i++) {
        sent[i] = (uint8_t)(i * 7 + i / 251);
    }
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(pthread_create(&reader, NULL, read_pipe, &ends[0]), 0);
    assert_int_equal(cs_fd_write_all(ends[1], sent, SIZE), 0);
    assert_int_equal(pthread_join(reader, NULL), 0);
    assert_memory_equal(got, sent, SIZE);
    assert_int_equal(cs_fd_write_all(ends[1], sent, 0), 0);
    close(ends[0]);
    close(ends[1]);
}

static void test_errors(void **state)
{
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(cs_fd_write_all(-1, "x", 1), -EBADF);
    assert_true(full >= 0);
    assert_int_equal(cs_fd_write_all(full, "x", 1), -ENOSPC);
    close(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_parts),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
