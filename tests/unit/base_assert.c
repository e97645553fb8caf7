/*
 * base_assert - a failed assertion says what and where, then aborts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/log.h"

static void test_holds(void **state)
{
    int calls = 0;

    (void)state;
    CS_ASSERT(++calls == 1);
    assert_int_equal(calls, 1);
    CS_DASSERT(calls == 1);
}

static void fail_in_child(int fd)
{
    /* cmocka would catch the signal and report it as a failure of its own. */
    signal(SIGABRT, SIG_DFL);
    prctl(PR_SET_DUMPABLE, 0);
    cs_log_set_sink(fd, CS_LOG_JOURNAL);
    CS_ASSERT(fd == -2);
    _exit(0);
}

static void test_fails(void **state)
{
    char line[512];
    int fds[2], status;
    ssize_t len;
    pid_t child;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fail_in_child(fds[1]);
    }
    close(fds[1]);
    len = read(fds[0], line, sizeof(line) - 1);
    assert_true(len > 0);
    line[len] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_ptr_equal(strstr(line, "<3>assertion failed expr=\"fd == -2\" at="), line);
    assert_non_null(strstr(line, "base_assert.c:"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
