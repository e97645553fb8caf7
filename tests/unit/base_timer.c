/*
 * base_timer - the wheel: order, touching, callbacks that set, stop and free, far jumps, and random
 * use against an array that is searched. CS_SEED=n repeats another run than the usual one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/timer.h"
#include "support/rng.h"

#define SECOND UINT64_C(1000)
#define HOUR (3600 * SECOND)
#define DAY (24 * HOUR)
#define NO_LIMIT UINT32_MAX

static uint64_t below(uint64_t bound)
{
    return rng_next() % bound;
}

/* ---- timers that write down that they fired ---- */

struct item {
    struct cs_timer timer;
    int number;
};

static struct item items[64];
static int fired[256];
static unsigned fired_len;

static struct cs_wheel *wheel; /* the one under test, for callbacks */

static struct item *item_of(struct cs_timer *t)
{
    return cs_container_of(t, struct item, timer);
}

static void note(struct cs_timer *t)
{
    assert_false(cs_timer_active(t));
    assert_true(fired_len < CS_ARRAY_LEN(fired));
    fired[fired_len++] = item_of(t)->number;
}

static int setup(void **state)
{
    (void)state;
    rng_start(20261122);
    for (int i = 0; i < (int)CS_ARRAY_LEN(items); i++) {
        cs_timer_init(&items[i].timer, note);
        items[i].number = i;
    }
    fired_len = 0;
    wheel = NULL;
    return 0;
}

static void set(int number, uint64_t due_ms)
{
    cs_timer_set(wheel, &items[number].timer, due_ms);
}

/* What fired since the last check. */
static void check_fired(const int *numbers, unsigned count)
{
    assert_int_equal(fired_len, count);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(fired[i], numbers[i]);
    }
    fired_len = 0;
}

#define FIRED(...)                                                                                 \
    check_fired((const int[]){__VA_ARGS__}, CS_ARRAY_LEN(((const int[]){__VA_ARGS__})))

/* ---- one by one ---- */

static void test_states(void **state)
{
    struct cs_timer *t = &items[0].timer;

    (void)state;
    wheel = cs_wheel_create(1000);
    assert_non_null(wheel);
    assert_int_equal(cs_wheel_next(wheel, 1000), -1);
    assert_false(cs_timer_active(t));
    cs_timer_stop(wheel, t);
    cs_timer_set(wheel, t, 1010);
    assert_true(cs_timer_active(t));
    assert_int_equal(cs_wheel_next(wheel, 1000), 10);
    assert_int_equal(cs_wheel_next(wheel, 1010), 0);
    assert_int_equal(cs_wheel_next(wheel, 2000), 0);
    cs_timer_stop(wheel, t);
    assert_false(cs_timer_active(t));
    assert_int_equal(cs_wheel_next(wheel, 1000), -1);
    cs_timer_stop(wheel, t);
    assert_int_equal(cs_wheel_run(wheel, 2000, NO_LIMIT), 0);
    check_fired(NULL, 0);
    cs_wheel_destroy(wheel);
    cs_wheel_destroy(NULL);
}

static void test_on_time(void **state)
{
    static const uint64_t delays[] = {
        0,     1,    2,   255,     256,      257,      511,      16383,     16384,
        16385, HOUR, DAY, 1048576, 67108864, 49 * DAY, 50 * DAY, 400 * DAY, UINT64_C(1) << 40};

    (void)state;
    for (uint64_t start = 0; start < UINT64_C(1) << 34; start = start * 7 + 1 + below(5)) {
        for (size_t i = 0; i < CS_ARRAY_LEN(delays); i++) {
            wheel = cs_wheel_create(start);
            set(0, start + delays[i]);
            if (delays[i] > 0) {
                assert_int_equal(cs_wheel_run(wheel, start + delays[i] - 1, NO_LIMIT), 0);
            }
            assert_true(cs_wheel_next(wheel, start) >= 0);
            assert_int_equal(cs_wheel_run(wheel, start + delays[i], NO_LIMIT), 1);
            FIRED(0);
            assert_int_equal(cs_wheel_next(wheel, start + delays[i]), -1);
            cs_wheel_destroy(wheel);
        }
    }
}

/* Following cs_wheel_next leads to the timer in a few steps, one for each level. */
static void test_next_leads_there(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 2000; round++) {
        uint64_t now = below(UINT64_C(1) << (1 + below(40))), due = now + below(40 * DAY);
        unsigned steps = 0;

        wheel = cs_wheel_create(now);
        set(0, due);
        while (fired_len == 0) {
            int64_t wait = cs_wheel_next(wheel, now);

            assert_in_range(wait, 0, due - now);
            now += (uint64_t)wait;
            cs_wheel_run(wheel, now, NO_LIMIT);
            steps++;
        }
        assert_int_equal(now, due);
        assert_true(steps <= 6);
        FIRED(0);
        cs_wheel_destroy(wheel);
    }
}

static void test_restart(void **state)
{
    (void)state;
    wheel = cs_wheel_create(0);
    set(0, 100);
    set(0, 50000);
    cs_wheel_run(wheel, 49999, NO_LIMIT);
    check_fired(NULL, 0);
    set(0, 60000);
    set(0, 50001);
    cs_wheel_run(wheel, 50001, NO_LIMIT);
    FIRED(0);
    assert_int_equal(cs_wheel_next(wheel, 50001), -1);
    cs_wheel_destroy(wheel);
}

static void test_order(void **state)
{
    (void)state;
    wheel = cs_wheel_create(7);
    set(0, 90000);
    set(1, 300);
    set(2, 299);
    set(3, 8);
    set(4, 20 * DAY);
    set(5, 90000);
    set(6, 89999);
    assert_int_equal(cs_wheel_run(wheel, 30 * DAY, NO_LIMIT), 7);
    FIRED(3, 2, 1, 6, 0, 5, 4);
    cs_wheel_destroy(wheel);
}

/* Set at different distances, so that they come down through different levels. */
static void test_same_time_keeps_order(void **state)
{
    const uint64_t due = 5 * HOUR + 123;
    static const uint64_t before[] = {5 * HOUR, HOUR, 60000, 17000, 16000, 600,
                                      300,      256,  255,   40,    1};

    (void)state;
    wheel = cs_wheel_create(0);
    for (int i = 0; i < (int)CS_ARRAY_LEN(before); i++) {
        cs_wheel_run(wheel, due - before[i], NO_LIMIT);
        set(i, due);
    }
    assert_int_equal(cs_wheel_run(wheel, due, NO_LIMIT), CS_ARRAY_LEN(before));
    FIRED(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
    cs_wheel_destroy(wheel);
}

static void test_past(void **state)
{
    (void)state;
    wheel = cs_wheel_create(1000);
    cs_wheel_run(wheel, 1000, NO_LIMIT);
    set(0, 1000);
    set(1, 0);
    set(2, 999);
    set(3, 0);
    set(4, 1001);
    assert_int_equal(cs_wheel_next(wheel, 1000), 0);
    /* Also when the clock stands still. */
    assert_int_equal(cs_wheel_run(wheel, 1000, NO_LIMIT), 4);
    FIRED(1, 3, 2, 0);
    assert_int_equal(cs_wheel_run(wheel, 1001, NO_LIMIT), 1);
    FIRED(4);
    /* Stopped and moved before it could fire. */
    set(0, 5);
    set(1, 5);
    cs_timer_stop(wheel, &items[0].timer);
    set(1, 2000);
    assert_int_equal(cs_wheel_run(wheel, 1999, NO_LIMIT), 0);
    assert_int_equal(cs_wheel_run(wheel, 2000, NO_LIMIT), 1);
    FIRED(1);
    cs_wheel_destroy(wheel);
}

static void test_touch(void **state)
{
    (void)state;
    wheel = cs_wheel_create(0);
    set(0, 100);
    set(1, 100);
    set(2, 300);
    cs_timer_touch(&items[0].timer, 250);
    assert_int_equal(cs_wheel_run(wheel, 100, NO_LIMIT), 1);
    FIRED(1);
    cs_timer_touch(&items[0].timer, 5000);
    assert_int_equal(cs_wheel_run(wheel, 4999, NO_LIMIT), 1);
    FIRED(2);
    assert_int_equal(cs_wheel_run(wheel, 5000, NO_LIMIT), 1);
    FIRED(0);
    /* Within one long run a touched timer still takes its place among the others. */
    set(0, 5100);
    set(1, 6000);
    set(2, 7000);
    set(3, 90000);
    cs_timer_touch(&items[0].timer, 6500);
    assert_int_equal(cs_wheel_run(wheel, DAY, NO_LIMIT), 4);
    FIRED(1, 0, 2, 3);
    /* Overdue, then touched: waits for its new time. */
    set(0, 5);
    cs_timer_touch(&items[0].timer, 2 * DAY);
    assert_int_equal(cs_wheel_run(wheel, 2 * DAY - 1, NO_LIMIT), 0);
    assert_int_equal(cs_wheel_run(wheel, 2 * DAY, NO_LIMIT), 1);
    FIRED(0);
    cs_wheel_destroy(wheel);
}

/* An idle timeout that is touched all the time never fires and hardly costs runs. */
static void test_touch_for_ever(void **state)
{
    uint64_t now = 0;
    unsigned runs = 0;

    (void)state;
    wheel = cs_wheel_create(now);
    set(0, 30 * SECOND);
    for (; now < HOUR; now += 10) {
        cs_timer_touch(&items[0].timer, now + 30 * SECOND);
        if (cs_wheel_next(wheel, now) == 0) {
            assert_int_equal(cs_wheel_run(wheel, now, NO_LIMIT), 0);
            runs++;
        }
    }
    assert_true(runs < 1000);
    cs_timer_stop(wheel, &items[0].timer);
    assert_int_equal(cs_wheel_next(wheel, now), -1);
    cs_wheel_destroy(wheel);
}

static void test_max(void **state)
{
    (void)state;
    wheel = cs_wheel_create(0);
    for (int i = 0; i < 10; i++) {
        set(i, i < 5 ? 40 : 300 + (uint64_t)i);
    }
    assert_int_equal(cs_wheel_run(wheel, HOUR, 0), 0);
    assert_int_equal(cs_wheel_run(wheel, HOUR, 3), 3);
    FIRED(0, 1, 2);
    assert_int_equal(cs_wheel_next(wheel, HOUR), 0);
    /* New ones find their place among those left over. */
    set(10, 40);
    set(11, 1);
    set(12, 306);
    assert_int_equal(cs_wheel_run(wheel, HOUR, 5), 5);
    FIRED(11, 3, 4, 10, 5);
    assert_int_equal(cs_wheel_run(wheel, HOUR, 5), 5);
    FIRED(6, 12, 7, 8, 9);
    assert_int_equal(cs_wheel_run(wheel, HOUR, 5), 0);
    assert_int_equal(cs_wheel_next(wheel, HOUR), -1);
    cs_wheel_destroy(wheel);
}

static void test_max_of_past(void **state)
{
    (void)state;
    wheel = cs_wheel_create(100);
    for (int i = 0; i < 5; i++) {
        set(i, 50 - (uint64_t)i);
    }
    assert_int_equal(cs_wheel_run(wheel, 200, 2), 2);
    FIRED(4, 3);
    set(5, 47);
    set(6, 10);
    assert_int_equal(cs_wheel_run(wheel, 200, 9), 5);
    FIRED(6, 5, 2, 1, 0);
    cs_wheel_destroy(wheel);
}

/* ---- callbacks that interfere ---- */

static void fire_again_at_once(struct cs_timer *t)
{
    note(t);
    cs_timer_set(wheel, t, 0);
}

static void test_callback_sets_itself(void **state)
{
    (void)state;
    wheel = cs_wheel_create(0);
    cs_timer_init(&items[0].timer, fire_again_at_once);
    set(0, 10);
    set(1, 20);
    /* Once a run, although it is always due. */
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(cs_wheel_run(wheel, 15 + i, NO_LIMIT), 1);
        FIRED(0);
        assert_int_equal(cs_wheel_next(wheel, 15 + i), 0);
    }
    assert_int_equal(cs_wheel_run(wheel, 30, NO_LIMIT), 2);
    FIRED(0, 1);
    cs_timer_stop(wheel, &items[0].timer);
    assert_int_equal(cs_wheel_next(wheel, 30), -1);
    cs_wheel_destroy(wheel);
}

static void fire_periodic(struct cs_timer *t)
{
    note(t);
    cs_timer_set(wheel, t, t->due_ms + 10);
}

static void test_callback_periodic(void **state)
{
    uint64_t now = 0;

    (void)state;
    wheel = cs_wheel_create(0);
    cs_timer_init(&items[0].timer, fire_periodic);
    set(0, 10);
    while (now < 1000) {
        now += (uint64_t)cs_wheel_next(wheel, now);
        cs_wheel_run(wheel, now, NO_LIMIT);
    }
    assert_int_equal(fired_len, 100);
    /* 35 periods late: one each run, until it has caught up. */
    for (unsigned i = 0; i < 35; i++) {
        assert_int_equal(cs_wheel_run(wheel, 1350, NO_LIMIT), 1);
    }
    assert_int_equal(cs_wheel_run(wheel, 1350, NO_LIMIT), 0);
    assert_int_equal(cs_wheel_next(wheel, 1350), 10);
    cs_wheel_destroy(wheel);
}

/* Stops 1 and 2, moves 3 to the past and 4 to later. */
static void fire_meddle(struct cs_timer *t)
{
    note(t);
    cs_timer_stop(wheel, &items[1].timer);
    cs_timer_stop(wheel, &items[2].timer);
    set(3, 1);
    set(4, 10000);
}

static void test_callback_meddles(void **state)
{
    (void)state;
    for (uint64_t now = 0; now <= 100; now += 100) {
        wheel = cs_wheel_create(now);
        /* All in one slot; in the second round all in the list of the overdue. */
        cs_timer_init(&items[0].timer, fire_meddle);
        for (int i = 0; i < 6; i++) {
            set(i, 50);
        }
        assert_int_equal(cs_wheel_run(wheel, 200, NO_LIMIT), 2);
        FIRED(0, 5);
        assert_int_equal(cs_wheel_run(wheel, 200, NO_LIMIT), 1);
        FIRED(3);
        assert_int_equal(cs_wheel_run(wheel, 10000, NO_LIMIT), 1);
        FIRED(4);
        cs_wheel_destroy(wheel);
    }
}

/* When the limit ends the run, what a callback set stands in order with the rest. */
static void fire_set_60(struct cs_timer *t)
{
    note(t);
    set(9, 60);
}

static void test_callback_and_max(void **state)
{
    (void)state;
    wheel = cs_wheel_create(0);
    cs_timer_init(&items[0].timer, fire_set_60);
    set(0, 50);
    set(1, 55);
    set(2, 60);
    set(3, 65);
    assert_int_equal(cs_wheel_run(wheel, 100, 1), 1);
    set(4, 60);
    assert_int_equal(cs_wheel_run(wheel, 100, NO_LIMIT), 5);
    FIRED(0, 1, 2, 9, 4, 3);
    cs_wheel_destroy(wheel);
}

static void fire_free(struct cs_timer *t)
{
    fired_len++;
    free(item_of(t));
}

static struct item *victim;

static void fire_free_both(struct cs_timer *t)
{
    cs_timer_stop(wheel, &victim->timer);
    free(victim);
    fire_free(t);
}

static struct item *item_create(cs_timer_fn *fire, uint64_t due_ms)
{
    struct item *item = malloc(sizeof(*item));

    assert_non_null(item);
    cs_timer_init(&item->timer, fire);
    cs_timer_set(wheel, &item->timer, due_ms);
    return item;
}

static void test_callback_frees(void **state)
{
    (void)state;
    wheel = cs_wheel_create(0);
    item_create(fire_free, 10);
    item_create(fire_free, 10);
    item_create(fire_free_both, 500);
    victim = item_create(fire_free, 500);
    item_create(fire_free, 500);
    assert_int_equal(cs_wheel_run(wheel, 1000, NO_LIMIT), 4);
    assert_int_equal(fired_len, 4);
    assert_int_equal(cs_wheel_next(wheel, 1000), -1);
    cs_wheel_destroy(wheel);
}

/* ---- far away ---- */

/* A million hours, one by one: with work for each tick this would take years. */
static void test_idle_jumps(void **state)
{
    uint64_t now = 12345;

    (void)state;
    wheel = cs_wheel_create(now);
    for (unsigned i = 0; i < 1000000; i++) {
        now += HOUR;
        assert_int_equal(cs_wheel_run(wheel, now, NO_LIMIT), 0);
    }
    set(0, now + 5);
    set(1, now + 5 * HOUR);
    now += 1000 * DAY;
    assert_int_equal(cs_wheel_run(wheel, now, NO_LIMIT), 2);
    FIRED(0, 1);
    cs_wheel_destroy(wheel);
}

static void test_beyond_range(void **state)
{
    const uint64_t range = UINT64_C(1) << 32;

    (void)state;
    wheel = cs_wheel_create(range - 10);
    set(0, range + 5);
    set(1, range - 1);
    set(2, range);
    set(3, 5 * range + 7);
    set(4, UINT64_MAX);
    set(5, range + 5);
    assert_int_equal(cs_wheel_run(wheel, range - 1, NO_LIMIT), 1);
    FIRED(1);
    set(6, range + 5);
    assert_int_equal(cs_wheel_run(wheel, range + 4, NO_LIMIT), 1);
    FIRED(2);
    set(7, range + 5);
    assert_int_equal(cs_wheel_run(wheel, range + 5, NO_LIMIT), 4);
    FIRED(0, 5, 6, 7);
    cs_timer_touch(&items[3].timer, 5 * range + 8);
    assert_int_equal(cs_wheel_run(wheel, 5 * range + 7, NO_LIMIT), 0);
    assert_int_equal(cs_wheel_run(wheel, 5 * range + 8, NO_LIMIT), 1);
    FIRED(3);
    assert_true(cs_timer_active(&items[4].timer));
    cs_timer_stop(wheel, &items[4].timer);
    assert_int_equal(cs_wheel_next(wheel, 5 * range + 8), -1);
    cs_wheel_destroy(wheel);
}

static void test_clock_back(void **state)
{
    (void)state;
    wheel = cs_wheel_create(1000);
    set(0, 1100);
    assert_int_equal(cs_wheel_run(wheel, 1050, NO_LIMIT), 0);
    assert_int_equal(cs_wheel_run(wheel, 20, NO_LIMIT), 0);
    assert_int_equal(cs_wheel_run(wheel, 1099, NO_LIMIT), 0);
    assert_int_equal(cs_wheel_run(wheel, 1100, NO_LIMIT), 1);
    FIRED(0);
    /* Still once a run. */
    cs_timer_init(&items[1].timer, fire_periodic);
    set(1, 500);
    assert_int_equal(cs_wheel_run(wheel, 20, NO_LIMIT), 1);
    FIRED(1);
    cs_wheel_destroy(wheel);
}

/* Timers that outlive their wheel are inactive and may be stopped. */
static void test_destroy_with_timers(void **state)
{
    (void)state;
    wheel = cs_wheel_create(100);
    set(0, 100);
    set(1, 5000);
    set(2, UINT64_MAX);
    set(3, 1);
    cs_wheel_destroy(wheel);
    for (int i = 0; i < 4; i++) {
        assert_false(cs_timer_active(&items[i].timer));
        cs_timer_stop(wheel, &items[i].timer);
    }
}

/* ---- random use ---- */

#define MODEL_LEN 200

struct entry {
    struct cs_timer timer;
    bool active;
    bool late;    /* set inside the present run for a time within it */
    bool touched; /* its rank among equal times is not promised */
    uint64_t due_ms;
    uint64_t rank; /* number of the set */
};

static struct entry *model[MODEL_LEN];
static uint64_t model_now, model_rank;
static bool model_running;
static unsigned model_fired;

static void model_fire(struct cs_timer *t);

static struct entry *entry_of(struct cs_timer *t)
{
    return cs_container_of(t, struct entry, timer);
}

static void model_renew(unsigned i)
{
    free(model[i]);
    model[i] = calloc(1, sizeof(*model[i]));
    assert_non_null(model[i]);
    cs_timer_init(&model[i]->timer, model_fire);
}

/* Past, now, and every level; rarely "never". */
static uint64_t model_due(void)
{
    uint64_t back = below(300);

    switch (below(20)) {
    case 0:
        return model_now > back ? model_now - back : 0;
    case 1:
        return model_now;
    case 2:
        return below(10) == 0 ? UINT64_MAX : model_now + below(100 * DAY);
    default:
        return model_now + below(UINT64_C(1) << below(27));
    }
}

static void model_set(struct entry *e)
{
    e->due_ms = model_due();
    e->active = true;
    e->touched = false;
    e->rank = ++model_rank;
    e->late = model_running && e->due_ms <= model_now;
    cs_timer_set(wheel, &e->timer, e->due_ms);
}

static void model_act(void)
{
    unsigned i = (unsigned)below(MODEL_LEN);
    struct entry *e = model[i];

    switch (below(8)) {
    case 0:
    case 1:
        cs_timer_stop(wheel, &e->timer);
        e->active = false;
        break;
    case 2:
        if (e->active && e->due_ms < UINT64_MAX - DAY) {
            e->due_ms += below(UINT64_C(1) << below(20));
            e->touched = true;
            cs_timer_touch(&e->timer, e->due_ms);
        }
        break;
    case 3:
        cs_timer_stop(wheel, &e->timer);
        model_renew(i);
        break;
    default:
        model_set(e);
        break;
    }
    assert_int_equal(cs_timer_active(&model[i]->timer), model[i]->active);
}

/* True when `a` has to fire before `b`. */
static bool model_before(const struct entry *a, const struct entry *b)
{
    if (a->due_ms != b->due_ms) {
        return a->due_ms < b->due_ms;
    }
    return !a->touched && !b->touched && a->rank < b->rank;
}

static void model_fire(struct cs_timer *t)
{
    struct entry *e = entry_of(t);

    assert_true(model_running);
    assert_true(e->active);
    assert_false(e->late);
    assert_true(e->due_ms <= model_now);
    assert_false(cs_timer_active(t));
    for (unsigned i = 0; i < MODEL_LEN; i++) {
        if (model[i]->active && !model[i]->late) {
            assert_false(model_before(model[i], e));
        }
    }
    e->active = false;
    model_fired++;
    for (uint64_t i = below(4); i > 0; i--) {
        model_act();
    }
}

/* Active timers that are due by then; the earliest of all. */
static unsigned model_count_due(uint64_t now, uint64_t *first)
{
    unsigned count = 0;

    *first = UINT64_MAX;
    for (unsigned i = 0; i < MODEL_LEN; i++) {
        if (model[i]->active) {
            count += model[i]->due_ms <= now && !model[i]->late;
            *first = CS_MIN(*first, model[i]->due_ms);
        }
    }
    return count;
}

static bool model_any(void)
{
    for (unsigned i = 0; i < MODEL_LEN; i++) {
        if (model[i]->active) {
            return true;
        }
    }
    return false;
}

static void model_check_next(void)
{
    int64_t next = cs_wheel_next(wheel, model_now);
    uint64_t first;

    model_count_due(model_now, &first);
    if (!model_any()) {
        assert_int_equal(next, -1);
        return;
    }
    assert_true(next >= 0);
    assert_true(first <= model_now ? next == 0 : (uint64_t)next <= first - model_now);
}

/* Jumps: none, to where cs_wheel_next points, a little, and all the levels. */
static uint64_t model_step(void)
{
    int64_t next = cs_wheel_next(wheel, model_now);

    switch (below(8)) {
    case 0:
        return 0;
    case 1:
    case 2:
    case 3:
        return next > 0 ? (uint64_t)next : 0;
    case 4:
        return below(40) == 0 ? 60 * DAY : HOUR;
    default:
        return below(UINT64_C(1) << below(18));
    }
}

static void model_run(void)
{
    unsigned max = below(4) == 0 ? (unsigned)below(6) : NO_LIMIT, done;
    uint64_t first;

    model_now += model_step();
    model_running = true;
    model_fired = 0;
    done = cs_wheel_run(wheel, model_now, max);
    model_running = false;
    assert_int_equal(done, model_fired);
    assert_true(done <= max);
    /* Callbacks set, touch and stop others, so only now it is clear what was left: nothing, unless
     * the limit ended the run. */
    if (done < max) {
        assert_int_equal(model_count_due(model_now, &first), 0);
    }
    for (unsigned i = 0; i < MODEL_LEN; i++) {
        model[i]->late = false;
    }
}

static void test_model(void **state)
{
    (void)state;
    print_message("CS_SEED=%llu\n", (unsigned long long)rng);
    for (unsigned round = 0; round < 20; round++) {
        model_now =
            round % 2 == 0 ? (UINT64_C(1) << 32) - below(DAY) : below(UINT64_C(1) << below(50));
        wheel = cs_wheel_create(model_now);
        for (unsigned i = 0; i < MODEL_LEN; i++) {
            model_renew(i);
        }
        for (unsigned step = 0; step < 2000; step++) {
            for (uint64_t i = below(10); i > 0; i--) {
                model_act();
            }
            model_check_next();
            model_run();
            model_check_next();
        }
        cs_wheel_destroy(wheel);
    }
    for (unsigned i = 0; i < MODEL_LEN; i++) {
        free(model[i]);
        model[i] = NULL;
    }
}

#ifdef CS_FAULTS

/* Creating is all that allocates. */
static void test_create_fails(void **state)
{
    (void)state;
    cs_mem_fail_nth(1);
    assert_null(cs_wheel_create(0));
    cs_mem_fail_nth(0);
    wheel = cs_wheel_create(0);
    cs_mem_fail_nth(1);
    set(0, 100000);
    set(1, UINT64_MAX);
    set(2, 0);
    assert_int_equal(cs_wheel_run(wheel, DAY, NO_LIMIT), 2);
    FIRED(2, 0);
    assert_false(cs_mem_failed());
    cs_mem_fail_nth(0);
    cs_wheel_destroy(wheel);
}

#endif

#define TIMER_TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TIMER_TEST(test_states),
        TIMER_TEST(test_on_time),
        TIMER_TEST(test_next_leads_there),
        TIMER_TEST(test_restart),
        TIMER_TEST(test_order),
        TIMER_TEST(test_same_time_keeps_order),
        TIMER_TEST(test_past),
        TIMER_TEST(test_touch),
        TIMER_TEST(test_touch_for_ever),
        TIMER_TEST(test_max),
        TIMER_TEST(test_max_of_past),
        TIMER_TEST(test_callback_sets_itself),
        TIMER_TEST(test_callback_periodic),
        TIMER_TEST(test_callback_meddles),
        TIMER_TEST(test_callback_and_max),
        TIMER_TEST(test_callback_frees),
        TIMER_TEST(test_idle_jumps),
        TIMER_TEST(test_beyond_range),
        TIMER_TEST(test_clock_back),
        TIMER_TEST(test_destroy_with_timers),
        TIMER_TEST(test_model),
#ifdef CS_FAULTS
        TIMER_TEST(test_create_fails),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
