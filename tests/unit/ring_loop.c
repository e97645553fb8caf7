/*
 * ring_loop - the turn: its phases in the order of the drawing in loop.h, when it sleeps and when
 * not, the bounds of its work, and posting from other threads.
 */
#include "unit/ring_support.h"

#include <poll.h>
#include <pthread.h>

#include "base/mem.h"
#include "ring/loop.h"

enum { LOG_MAX = 64 };

struct fixture {
    struct cs_loop *loop;
    unsigned descriptors;
    char log[LOG_MAX + 1]; /* a letter for everything that ran */
    unsigned len;
    int busy[CS_PHASE_COUNT]; /* times that the phase still says it has more to do */
    struct cs_op op;
    struct cs_timer timer;
    int pipe[2];
};

/* ---- a clock that tests move ---- */

static uint64_t clock_ms;

static uint64_t test_clock(void)
{
    return clock_ms;
}

/* ---- fixture ---- */

static void note(struct fixture *f, char letter)
{
    if (f->len < LOG_MAX) {
        f->log[f->len++] = letter;
        f->log[f->len] = '\0';
    }
}

static void ran(struct fixture *f, const char *letters)
{
    assert_string_equal(f->log, letters);
    f->len = 0;
    f->log[0] = '\0';
}

static bool phase(struct fixture *f, enum cs_phase which)
{
    note(f, "SWB"[which]);
    return f->busy[which] > 0 && f->busy[which]-- > 0;
}

static bool on_script(void *arg)
{
    return phase(arg, CS_PHASE_SCRIPT);
}

static bool on_write(void *arg)
{
    return phase(arg, CS_PHASE_WRITE);
}

static bool on_bury(void *arg)
{
    return phase(arg, CS_PHASE_BURY);
}

static void on_op(struct cs_op *op, const struct cs_event *ev)
{
    (void)ev;
    note(cs_container_of(op, struct fixture, op), 'o');
}

static void on_timer(struct cs_timer *t)
{
    note(cs_container_of(t, struct fixture, timer), 't');
}

static void on_post(void *arg)
{
    note(arg, 'p');
}

static struct cs_ring *ring_open(void)
{
    struct cs_ring_config config;
    struct cs_ring *ring;
    char why[256] = "";
    cs_ring_config_default(&config);
    config.slots_max = 64;
    if (cs_ring_create(&ring, &config, why, sizeof(why)) != 0) {
        fprintf(stderr, "skipped: %s\n", why);
        exit(77);
    }
    return ring;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    clock_ms = 1000;
    cs_clock_set_source(test_clock);
    f->descriptors = open_descriptors();
    f->loop = cs_loop_create(ring_open());
    assert_non_null(f->loop);
    assert_int_equal(pipe(f->pipe), 0);
    cs_op_init(&f->op, on_op);
    cs_timer_init(&f->timer, on_timer);
    *state = f;
    return 0;
}

static int setup_direct(void **state)
{
    unsetenv("COSOCKD_WITHOUT");
    return setup(state);
}

static int setup_plain(void **state)
{
    setenv("COSOCKD_WITHOUT", "direct", 1);
    return setup(state);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cs_timer_stop(cs_loop_wheel(f->loop), &f->timer);
    if (f->op.armed) {
        cs_ring_cancel(cs_loop_ring(f->loop), &f->op);
        UNTIL(!f->op.armed, cs_loop_turn(f->loop, 10));
    }
    cs_loop_destroy(f->loop);
    close(f->pipe[0]);
    close(f->pipe[1]);
    assert_int_equal(open_descriptors(), f->descriptors);
    cs_clock_set_source(NULL);
    free(f);
    return 0;
}

static void set_phases(struct fixture *f)
{
    cs_loop_set_phase(f->loop, CS_PHASE_BURY, on_bury, f);
    cs_loop_set_phase(f->loop, CS_PHASE_SCRIPT, on_script, f);
    cs_loop_set_phase(f->loop, CS_PHASE_WRITE, on_write, f);
}

/* One event at the next turn. */
static void make_event(struct fixture *f)
{
    cs_ring_poll(cs_loop_ring(f->loop), &f->op, f->pipe[1], POLLOUT);
}

static uint64_t turn_ms(struct fixture *f, int64_t timeout_ms)
{
    uint64_t before = cs_clock_ns();
    cs_loop_turn(f->loop, timeout_ms);
    return (cs_clock_ns() - before) / 1000000;
}

/* Whether a turn with nothing to do sleeps; a loaded machine makes no difference. */
static void assert_sleeps(struct fixture *f)
{
    assert_true(turn_ms(f, 30) >= 29);
}

static void assert_does_not_sleep(struct fixture *f)
{
    assert_true(turn_ms(f, 8000) < 7000);
}

/* ---- order ---- */

static void test_order_of_phases(void **state)
{
    struct fixture *f = *state;
    set_phases(f);
    make_event(f);
    cs_timer_set(cs_loop_wheel(f->loop), &f->timer, clock_ms);
    assert_int_equal(cs_loop_turn(f->loop, -1), 2);
    ran(f, "otSWB");
    cs_loop_turn(f->loop, 0); /* the phases run without any event too */
    ran(f, "SWB");
}

static void test_without_phases(void **state)
{
    struct fixture *f = *state;
    make_event(f);
    assert_int_equal(cs_loop_turn(f->loop, -1), 1);
    ran(f, "o");
    assert_int_equal(cs_loop_turn(f->loop, 0), 0);
}

static void on_op_that_asks(struct cs_op *op, const struct cs_event *ev)
{
    struct fixture *f = cs_container_of(op, struct fixture, op);
    on_op(op, ev);
    make_event(f);
}

/* An op armed by its own handler ends in the next turn, not in this one. */
static void test_handlers_do_not_nest(void **state)
{
    struct fixture *f = *state;
    cs_op_init(&f->op, on_op_that_asks);
    set_phases(f);
    make_event(f);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(cs_loop_turn(f->loop, -1), 1);
        ran(f, "oSWB");
    }
    cs_op_set_handler(&f->op, on_op);
}

static void test_timers_follow_the_clock(void **state)
{
    struct fixture *f = *state;
    cs_timer_set(cs_loop_wheel(f->loop), &f->timer, clock_ms + 50);
    assert_int_equal(cs_loop_turn(f->loop, 0), 0);
    clock_ms += 49;
    assert_int_equal(cs_loop_turn(f->loop, 0), 0);
    assert_int_equal(cs_loop_now(f->loop), 1049);
    clock_ms += 1;
    assert_int_equal(cs_loop_now(f->loop), 1049); /* read once a turn */
    assert_int_equal(cs_loop_turn(f->loop, -1), 1);
    ran(f, "t");
}

/* ---- sleeping ---- */

static void test_a_timer_ends_the_sleep(void **state)
{
    struct fixture *f = *state;
    cs_clock_set_source(NULL);
    cs_loop_turn(f->loop, 0);
    cs_timer_set(cs_loop_wheel(f->loop), &f->timer, cs_clock_ms() + 20);
    UNTIL(f->len > 0, cs_loop_turn(f->loop, -1));
    ran(f, "t");
}

static void test_quiet_turns_sleep(void **state)
{
    struct fixture *f = *state;
    set_phases(f);
    assert_sleeps(f);
}

static void test_busy_phases_do_not_sleep(void **state)
{
    struct fixture *f = *state;
    set_phases(f);
    for (unsigned i = 0; i < CS_PHASE_COUNT; i++) {
        f->busy[i] = 3;
        cs_loop_turn(f->loop, 0); /* says so the first time */
        assert_does_not_sleep(f);
        assert_does_not_sleep(f);
        assert_does_not_sleep(f);
        assert_int_equal(f->busy[i], 0);
        assert_sleeps(f);
    }
}

static void test_again_between_turns(void **state)
{
    struct fixture *f = *state;
    cs_loop_again(f->loop);
    assert_does_not_sleep(f);
    assert_sleeps(f); /* once */
}

static bool again_once(void *arg)
{
    struct fixture *f = arg;
    note(f, 'a');
    if (f->len == 1) {
        cs_loop_again(f->loop);
    }
    return false;
}

static void test_again_in_a_phase(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < CS_PHASE_COUNT; i++) {
        f->len = 0;
        cs_loop_set_phase(f->loop, i, again_once, f);
        cs_loop_turn(f->loop, 0);
        assert_does_not_sleep(f);
        assert_sleeps(f);
        cs_loop_set_phase(f->loop, i, NULL, NULL);
    }
}

static void again_from_post(void *arg)
{
    cs_loop_again(((struct fixture *)arg)->loop);
}

static void test_again_in_a_handler(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(cs_loop_post(f->loop, again_from_post, f), 0);
    cs_loop_turn(f->loop, -1);
    assert_does_not_sleep(f);
    assert_sleeps(f);
}

/* ---- bounds ---- */

static unsigned many_count;

static void on_one_of_many(struct cs_op *op, const struct cs_event *ev)
{
    (void)op;
    (void)ev;
    many_count++;
}

static void test_events_of_a_turn_are_bounded(void **state)
{
    enum { OPS = 2 * CS_LOOP_EVENTS_MAX + 10 };
    struct fixture *f = *state;
    struct cs_op *ops = calloc(OPS, sizeof(*ops));
    assert_non_null(ops);
    set_phases(f);
    many_count = 0;
    for (unsigned i = 0; i < OPS; i++) {
        cs_op_init(&ops[i], on_one_of_many);
        cs_ring_poll(cs_loop_ring(f->loop), &ops[i], f->pipe[1], POLLOUT);
    }
    assert_int_equal(cs_loop_turn(f->loop, -1), CS_LOOP_EVENTS_MAX);
    ran(f, "SWB"); /* the other phases have their share */
    assert_int_equal(cs_loop_turn(f->loop, -1), CS_LOOP_EVENTS_MAX);
    assert_int_equal(cs_loop_turn(f->loop, -1), 10);
    assert_int_equal(many_count, OPS);
    assert_sleeps(f);
    free(ops);
}

static void on_one_timer(struct cs_timer *t)
{
    (void)t;
    many_count++;
}

static void test_timers_of_a_turn_are_bounded(void **state)
{
    enum { TIMERS = 3000 };
    struct fixture *f = *state;
    struct cs_timer *t = calloc(TIMERS, sizeof(*t));
    unsigned turns = 0;
    assert_non_null(t);
    many_count = 0;
    set_phases(f);
    for (unsigned i = 0; i < TIMERS; i++) {
        cs_timer_init(&t[i], on_one_timer);
        cs_timer_set(cs_loop_wheel(f->loop), &t[i], clock_ms + 1);
    }
    clock_ms += 1;
    UNTIL(many_count == TIMERS, {
        unsigned n = cs_loop_turn(f->loop, 200);
        assert_in_range(n, 1, TIMERS - 1);
        turns++;
    });
    assert_in_range(turns, 2, 5);
    free(t);
}

/* ---- posting ---- */

static void test_post(void **state)
{
    struct fixture *f = *state;
    set_phases(f);
    assert_int_equal(cs_loop_post(f->loop, on_post, f), 0);
    assert_int_equal(cs_loop_post(f->loop, on_post, f), 0);
    ran(f, ""); /* not inside the call */
    assert_int_equal(cs_loop_turn(f->loop, -1), 1);
    ran(f, "ppSWB");
}

static void post_another(void *arg)
{
    struct fixture *f = arg;
    note(f, 'P');
    assert_int_equal(cs_loop_post(f->loop, on_post, f), 0);
}

/* What a post posts runs in a coming turn, without which a chain of them would never end. */
static void test_post_from_a_post(void **state)
{
    struct fixture *f = *state;
    set_phases(f);
    assert_int_equal(cs_loop_post(f->loop, post_another, f), 0);
    cs_loop_turn(f->loop, -1);
    ran(f, "PSWB");
    cs_loop_turn(f->loop, -1);
    ran(f, "pSWB");
}

enum { POSTS = 5000, THREADS = 4 };

struct poster {
    struct cs_loop *loop;
    pthread_t thread;
    unsigned sent, seen;
    struct posted {
        struct poster *by;
        unsigned number;
    } posted[POSTS];
};

static void on_posted(void *arg)
{
    struct posted *p = arg;
    assert_int_equal(p->number, p->by->seen); /* in the order in which its thread posted */
    p->by->seen++;
}

static void *post_all(void *arg)
{
    struct poster *p = arg;
    for (; p->sent < POSTS; p->sent++) {
        p->posted[p->sent] = (struct posted){p, p->sent};
        if (cs_loop_post(p->loop, on_posted, &p->posted[p->sent]) != 0) {
            break;
        }
    }
    return NULL;
}

static bool all_seen(const struct poster *p)
{
    for (unsigned i = 0; i < THREADS; i++) {
        if (p[i].seen < POSTS) {
            return false;
        }
    }
    return true;
}

static void test_post_from_threads(void **state)
{
    struct fixture *f = *state;
    struct poster *p = calloc(THREADS, sizeof(*p));
    assert_non_null(p);
    for (unsigned i = 0; i < THREADS; i++) {
        p[i].loop = f->loop;
        assert_int_equal(pthread_create(&p[i].thread, NULL, post_all, &p[i]), 0);
    }
    UNTIL(all_seen(p), cs_loop_turn(f->loop, 1000));
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(p[i].thread, NULL);
        assert_int_equal(p[i].sent, POSTS);
        assert_int_equal(p[i].seen, POSTS);
    }
    free(p);
}

static void *post_one(void *arg)
{
    struct fixture *f = arg;
    return cs_loop_post(f->loop, on_post, f) == 0 ? f : NULL;
}

/* A loop that sleeps without limit is woken. */
static void test_post_wakes(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    void *posted;
    cs_loop_turn(f->loop, 0);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(pthread_create(&thread, NULL, post_one, f), 0);
        assert_int_equal(cs_loop_turn(f->loop, -1), 1);
        pthread_join(thread, &posted);
        assert_non_null(posted);
        ran(f, "p");
    }
}

static void test_posts_do_not_outlive_the_loop(void **state)
{
    struct fixture *f = *state;
    struct cs_loop *l = cs_loop_create(ring_open());
    assert_non_null(l);
    assert_int_equal(cs_loop_post(l, on_post, f), 0); /* before its first turn */
    cs_loop_destroy(l);
    l = cs_loop_create(ring_open());
    cs_loop_turn(l, 0);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(cs_loop_post(l, on_post, f), 0);
    }
    cs_loop_destroy(l);
    ran(f, "");
    cs_loop_destroy(NULL);
}

/* The wake-up stands in the completion queue already. */
static void test_posts_end_with_a_woken_loop(void **state)
{
    struct fixture *f = *state;
    struct cs_loop *l = cs_loop_create(ring_open());
    struct cs_event ev;
    assert_non_null(l);
    cs_loop_turn(l, 0);
    assert_int_equal(cs_loop_post(l, on_post, f), 0);
    assert_int_equal(cs_ring_wait(cs_loop_ring(l), 0, &ev, 0), 0);
    cs_loop_destroy(l);
    ran(f, "");
}

/* ---- figures, memory ---- */

static bool burn(void *arg)
{
    struct fixture *f = arg;
    uint64_t before = cs_clock_ns();
    while (f->busy[0] > 0 && cs_clock_ns() - before < 5000000) {
    }
    return false;
}

static void test_stats(void **state)
{
    struct fixture *f = *state;
    struct cs_loop_stats s;
    cs_loop_set_phase(f->loop, CS_PHASE_SCRIPT, burn, f);
    f->busy[0] = 1;
    make_event(f);
    cs_loop_turn(f->loop, -1);
    f->busy[0] = 0;
    cs_loop_turn(f->loop, 0);
    cs_loop_stats(f->loop, &s, false);
    assert_int_equal(s.turns, 2);
    assert_int_equal(s.events, 1);
    assert_true(s.turn_ns_max >= 5000000);
    cs_loop_stats(f->loop, &s, true);
    assert_true(s.turn_ns_max >= 5000000);
    cs_loop_stats(f->loop, &s, false);
    assert_int_equal(s.turns, 2); /* counts go on, the longest begins anew */
    assert_int_equal(s.turn_ns_max, 0);
    cs_loop_turn(f->loop, 500); /* sleep is not time awake */
    cs_loop_stats(f->loop, &s, false);
    assert_in_range(s.turn_ns_max, 1, 400000000);
}

static bool hold_up(void *arg)
{
    struct fixture *f = arg;
    f->busy[0] += cs_loop_may_hold_up(f->loop);
    return false;
}

static void test_held_up_once_a_turn(void **state)
{
    struct fixture *f = *state;
    cs_loop_set_phase(f->loop, CS_PHASE_SCRIPT, hold_up, f);
    cs_loop_set_phase(f->loop, CS_PHASE_WRITE, hold_up, f);
    f->busy[0] = 0;
    for (unsigned turns = 1; turns <= 3; turns++) {
        cs_loop_turn(f->loop, 0);
        assert_int_equal(f->busy[0], turns);
    }
}

static bool take_a_ms(void *arg)
{
    struct fixture *f = arg;
    note(f, cs_loop_late(f->loop) ? 'l' : 'e');
    clock_ms++;
    return false;
}

static void test_late_after_a_while(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < CS_PHASE_COUNT; i++) {
        cs_loop_set_phase(f->loop, (enum cs_phase)i, take_a_ms, f);
    }
    cs_loop_turn(f->loop, 0);
    cs_loop_turn(f->loop, 0);
    ran(f, "eeleel");
}

#ifdef CS_FAULTS
/* The ring stays the caller's until all is well. */
static void test_each_allocation_fails(void **state)
{
    struct fixture *f = *state;
    struct cs_ring *ring = ring_open();
    struct cs_loop *l = NULL;
    unsigned long n;
    for (n = 1; !l; n++) {
        unsigned before = open_descriptors();
        cs_mem_fail_nth(n);
        l = cs_loop_create(ring);
        cs_mem_fail_nth(0);
        assert_true(l || open_descriptors() == before);
    }
    assert_in_range(n, 3, 100);
    cs_mem_fail_nth(1);
    assert_int_equal(cs_loop_post(l, on_post, f), -ENOMEM);
    cs_mem_fail_nth(0);
    cs_loop_turn(l, 0);
    ran(f, "");
    cs_loop_destroy(l);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_order_of_phases),
        BOTH(test_without_phases),
        BOTH(test_handlers_do_not_nest),
        BOTH(test_timers_follow_the_clock),
        BOTH(test_a_timer_ends_the_sleep),
        BOTH(test_quiet_turns_sleep),
        BOTH(test_busy_phases_do_not_sleep),
        BOTH(test_again_between_turns),
        BOTH(test_again_in_a_phase),
        BOTH(test_again_in_a_handler),
        BOTH(test_events_of_a_turn_are_bounded),
        BOTH(test_timers_of_a_turn_are_bounded),
        BOTH(test_post),
        BOTH(test_post_from_a_post),
        BOTH(test_post_from_threads),
        BOTH(test_post_wakes),
        BOTH(test_posts_do_not_outlive_the_loop),
        BOTH(test_posts_end_with_a_woken_loop),
        BOTH(test_stats),
        BOTH(test_held_up_once_a_turn),
        BOTH(test_late_after_a_while),
#ifdef CS_FAULTS
        BOTH(test_each_allocation_fails),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
