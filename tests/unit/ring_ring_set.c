/*
 * ring_ring_set - several loops in one thread: only those with work turn, and what wakes the thread
 * that sleeps for all of them.
 */
#include "unit/ring_support.h"

#include <poll.h>
#include <pthread.h>

#include "ring/loop.h"
#include "ring/ring_set.h"

enum { LOOPS = 3, ROUNDS = 2000 };

struct one {
    struct cs_loop *loop;
    struct cs_op op;
    struct cs_timer timer;
    int pipe[2];
    unsigned turns, events, timers;
};

struct fixture {
    unsigned descriptors;
    struct cs_loop_set *set;
    struct one one[LOOPS];
};

static bool on_script(void *arg)
{
    struct one *o = arg;
    o->turns++;
    return false;
}

static void on_op(struct cs_op *op, const struct cs_event *ev)
{
    (void)ev;
    cs_container_of(op, struct one, op)->events++;
}

static void on_timer(struct cs_timer *t)
{
    cs_container_of(t, struct one, timer)->timers++;
}

static void open_one(struct fixture *f, struct one *o)
{
    struct cs_ring_config config;
    struct cs_ring *ring;
    char why[256] = "";
    cs_ring_config_default(&config);
    config.slots_max = 64;
    config.in_set = true;
    if (cs_ring_create(&ring, &config, why, sizeof(why)) != 0) {
        fprintf(stderr, "skipped: %s\n", why);
        exit(77);
    }
    o->loop = cs_loop_create(ring);
    assert_non_null(o->loop);
    cs_loop_set_phase(o->loop, CS_PHASE_SCRIPT, on_script, o);
    cs_op_init(&o->op, on_op);
    cs_timer_init(&o->timer, on_timer);
    assert_int_equal(pipe(o->pipe), 0);
    assert_int_equal(cs_loop_set_add(f->set, o->loop), 0);
}

/* Until nobody has anything to do: inboxes are armed then. */
static void settle(struct fixture *f)
{
    unsigned before;
    do {
        before = f->one[0].turns + f->one[1].turns + f->one[2].turns;
        cs_loop_set_turn(f->set, 1);
    } while (before != f->one[0].turns + f->one[1].turns + f->one[2].turns);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->descriptors = open_descriptors();
    f->set = cs_loop_set_create();
    assert_non_null(f->set);
    for (unsigned i = 0; i < LOOPS; i++) {
        open_one(f, &f->one[i]);
    }
    settle(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < LOOPS; i++) {
        struct one *o = &f->one[i];
        cs_timer_stop(cs_loop_wheel(o->loop), &o->timer);
        cs_ring_cancel(cs_loop_ring(o->loop), &o->op);
        UNTIL(!o->op.armed, cs_loop_set_turn(f->set, 10));
        cs_loop_set_remove(f->set, o->loop);
        cs_loop_destroy(o->loop);
        close(o->pipe[0]);
        close(o->pipe[1]);
    }
    cs_loop_set_destroy(f->set);
    assert_int_equal(open_descriptors(), f->descriptors);
    free(f);
    return 0;
}

static void watch_pipe(struct one *o)
{
    cs_ring_poll(cs_loop_ring(o->loop), &o->op, o->pipe[0], POLLIN);
}

/* A thread writes while this one sleeps, or just before: no wake-up may be lost. */
static void *writer(void *arg)
{
    struct one *o = arg;
    assert_int_equal(write(o->pipe[1], "x", 1), 1);
    return NULL;
}

static void test_an_event_of_any_ring_ends_the_sleep(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct one *o = &f->one[i % LOOPS];
        unsigned before = o->events;
        pthread_t thread;
        char byte;
        watch_pipe(o);
        assert_int_equal(pthread_create(&thread, NULL, writer, o), 0);
        UNTIL(o->events > before, cs_loop_set_turn(f->set, -1));
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(read(o->pipe[0], &byte, 1), 1);
    }
}

static void test_only_those_with_work_turn(void **state)
{
    struct fixture *f = *state;
    unsigned before[LOOPS];
    for (unsigned i = 0; i < LOOPS; i++) {
        before[i] = f->one[i].turns;
    }
    assert_int_equal(write(f->one[1].pipe[1], "x", 1), 1);
    watch_pipe(&f->one[1]);
    UNTIL(f->one[1].events == 1, cs_loop_set_turn(f->set, -1));
    assert_true(f->one[1].turns > before[1]);
    assert_int_equal(f->one[0].turns, before[0]);
    assert_int_equal(f->one[2].turns, before[2]);
}

static void test_a_timer_of_any_loop_ends_the_sleep(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < LOOPS; i++) {
        struct one *o = &f->one[i];
        uint64_t due_ms = cs_clock_ms() + 20;
        cs_timer_set(cs_loop_wheel(o->loop), &o->timer, due_ms);
        UNTIL(o->timers == 1, cs_loop_set_turn(f->set, -1));
        assert_true(cs_clock_ms() >= due_ms);
    }
}

static void on_post(void *arg)
{
    struct one *o = arg;
    o->events++;
}

static void *poster(void *arg)
{
    struct one *o = arg;
    assert_int_equal(cs_loop_post(o->loop, on_post, o), 0);
    return NULL;
}

static void test_posting_ends_the_sleep(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct one *o = &f->one[i % LOOPS];
        unsigned before = o->events;
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, poster, o), 0);
        UNTIL(o->events > before, cs_loop_set_turn(f->set, -1));
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
}

static void test_a_time_limit_ends_the_sleep(void **state)
{
    struct fixture *f = *state;
    uint64_t before_ns = cs_clock_ns();
    assert_int_equal(cs_loop_set_turn(f->set, 20), 0);
    assert_true(cs_clock_ns() - before_ns >= 19000000);
}

/* Who says he has more to do is asked again without a sleep; an early one does not hold up others.
 */
static void test_a_busy_loop_does_not_sleep(void **state)
{
    struct fixture *f = *state;
    unsigned before = f->one[2].turns;
    cs_loop_again(f->one[2].loop);
    uint64_t before_ns = cs_clock_ns();
    cs_loop_set_turn(f->set, 8000);
    assert_true(cs_clock_ns() - before_ns < 7000000000u);
    assert_int_equal(f->one[2].turns, before + 1);
}

static bool hold_up(void *arg)
{
    struct one *o = arg;
    o->turns += cs_loop_may_hold_up(o->loop);
    return false;
}

static unsigned turns_of_all(const struct fixture *f)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < LOOPS; i++) {
        sum += f->one[i].turns;
    }
    return sum;
}

/* One of all, whichever it is. */
static void test_held_up_by_one_a_turn(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < LOOPS; i++) {
        cs_loop_set_phase(f->one[i].loop, CS_PHASE_SCRIPT, hold_up, &f->one[i]);
    }
    unsigned before = turns_of_all(f);
    for (unsigned turns = 1; turns <= 3; turns++) {
        for (unsigned i = 0; i < LOOPS; i++) {
            cs_loop_again(f->one[i].loop);
        }
        cs_loop_set_turn(f->set, 0);
        assert_int_equal(turns_of_all(f) - before, turns);
    }
}

static uint64_t clock_ms;

static uint64_t slow_clock(void)
{
    return clock_ms;
}

static bool take_a_millisecond(void *arg)
{
    (void)arg;
    clock_ms++;
    return false;
}

/* Behind one that takes its time nobody may hold up the turn; but each is the first in time. */
static void test_nobody_holds_up_a_turn_that_is_old(void **state)
{
    struct fixture *f = *state;
    clock_ms = cs_clock_ms();
    cs_clock_set_source(slow_clock);
    cs_loop_set_phase(f->one[0].loop, CS_PHASE_SCRIPT, take_a_millisecond, NULL);
    for (unsigned i = 1; i < LOOPS; i++) {
        cs_loop_set_phase(f->one[i].loop, CS_PHASE_SCRIPT, hold_up, &f->one[i]);
        f->one[i].turns = 0;
    }
    for (unsigned turns = 0; turns < 2 * LOOPS; turns++) {
        for (unsigned i = 0; i < LOOPS; i++) {
            cs_loop_again(f->one[i].loop);
        }
        cs_loop_set_turn(f->set, 0);
    }
    for (unsigned i = 1; i < LOOPS; i++) {
        assert_int_equal(f->one[i].turns, 2); /* of six turns those that it began */
    }
    for (unsigned i = 0; i < LOOPS; i++) {
        cs_loop_set_phase(f->one[i].loop, CS_PHASE_SCRIPT, on_script, &f->one[i]);
    }
    cs_clock_set_source(NULL);
}

static bool take_long(void *arg)
{
    struct one *o = arg;
    o->turns++;
    clock_ms += 100;
    return false;
}

/* Each in its turn: what takes long in one does not add up. */
static void test_a_long_turn_leaves_the_others_to_the_next(void **state)
{
    struct fixture *f = *state;
    clock_ms = cs_clock_ms();
    cs_clock_set_source(slow_clock);
    for (unsigned i = 0; i < LOOPS; i++) {
        cs_loop_set_phase(f->one[i].loop, CS_PHASE_SCRIPT, take_long, &f->one[i]);
        f->one[i].turns = 0;
        cs_loop_again(f->one[i].loop);
    }
    for (unsigned turns = 1; turns <= LOOPS; turns++) {
        cs_loop_set_turn(f->set, 0);
        assert_int_equal(turns_of_all(f), turns);
    }
    for (unsigned i = 0; i < LOOPS; i++) {
        assert_int_equal(f->one[i].turns, 1);
        cs_loop_set_phase(f->one[i].loop, CS_PHASE_SCRIPT, on_script, &f->one[i]);
    }
    cs_clock_set_source(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_event_of_any_ring_ends_the_sleep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_those_with_work_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_timer_of_any_loop_ends_the_sleep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_posting_ends_the_sleep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_time_limit_ends_the_sleep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_busy_loop_does_not_sleep, setup, teardown),
        cmocka_unit_test_setup_teardown(test_held_up_by_one_a_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_holds_up_a_turn_that_is_old, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_long_turn_leaves_the_others_to_the_next, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
