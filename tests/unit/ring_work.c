/* ring_work - work is done elsewhere, and the loop goes on meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "ring/work.h"

static struct cs_loop *loop;
static struct cs_works works;

static int setup(void **state)
{
    struct cs_ring_config config;
    struct cs_ring *ring;
    char why[256];

    (void)state;
    cs_ring_config_default(&config);
    if (cs_ring_create(&ring, &config, why, sizeof(why)) < 0) {
        return -1;
    }
    loop = cs_loop_create(ring);
    cs_works_init(&works, loop);
    return loop ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cs_loop_destroy(loop);
    return 0;
}

struct job {
    struct cs_work work;
    int read_fd; /* run waits for a byte from it; -1: not */
    pthread_t ran_by;
    sigset_t signals;
    unsigned ran, done;
};

static void job_run(struct cs_work *w)
{
    struct job *j = cs_container_of(w, struct job, work);
    char byte;

    while (j->read_fd >= 0 && read(j->read_fd, &byte, 1) < 0 && errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, NULL, &j->signals);
    j->ran_by = pthread_self();
    j->ran++;
}

static void job_done(struct cs_work *w)
{
    struct job *j = cs_container_of(w, struct job, work);

    assert_int_equal(j->ran, 1);
    j->done++;
}

static void start(struct job *j, int read_fd)
{
    *j = (struct job){.work = {.run = job_run, .done = job_done}, .read_fd = read_fd};
    cs_work_start(&works, &j->work);
}

static void finish(void)
{
    while (works.busy > 0) {
        cs_loop_turn(loop, -1);
    }
}

static void test_one(void **state)
{
    struct job j;

    (void)state;
    start(&j, -1);
    assert_int_equal(j.done, 0); /* never inside the call */
    finish();
    assert_int_equal(j.done, 1);
    assert_false(pthread_equal(j.ran_by, pthread_self()));
    assert_int_equal(sigismember(&j.signals, SIGTERM), 1);
    assert_int_equal(sigismember(&j.signals, SIGVTALRM), 1);
}

static unsigned posts;

static void count_post(void *arg)
{
    (void)arg;
    posts++;
}

/* While all helpers are held up the loop turns; what is queued behind them is done afterwards. */
static void test_held_up(void **state)
{
    enum { JOBS = 12 };
    struct job jobs[JOBS];
    struct cs_post with;
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    for (unsigned i = 0; i < JOBS; i++) {
        start(&jobs[i], fds[0]);
    }
    cs_loop_post_with(loop, &with, count_post, NULL);
    while (posts == 0) {
        cs_loop_turn(loop, -1);
    }
    assert_int_equal(works.busy, JOBS);
    assert_int_equal(write(fds[1], "xxxxxxxxxxxx", JOBS), JOBS);
    finish();
    for (unsigned i = 0; i < JOBS; i++) {
        assert_int_equal(jobs[i].done, 1);
    }
    close(fds[0]);
    close(fds[1]);
}

static void test_many(void **state)
{
    enum { JOBS = 5000 };
    static struct job jobs[JOBS];

    (void)state;
    for (unsigned i = 0; i < JOBS; i++) {
        start(&jobs[i], -1);
        if (i % 7 == 0) {
            cs_loop_turn(loop, 0);
        }
    }
    finish();
    for (unsigned i = 0; i < JOBS; i++) {
        assert_int_equal(jobs[i].done, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),
        cmocka_unit_test(test_held_up),
        cmocka_unit_test(test_many),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
