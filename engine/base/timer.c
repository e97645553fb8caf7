/*
 * timer - five levels: 256 slots of 1 ms, then four times 64 slots, each as long as the whole level
 * below (256 ms, 16 s, 17 min, 18 h); together 2^32 ms. What is due beyond the current 2^32 ms
 * waits in the list `far`, which is looked through once in 49 days.
 *
 * A timer's level is the highest in which the digits of its time and of w->next differ. So a slot
 * that w->next has entered is empty on all levels but the lowest, times of one slot move down
 * together, and timers of the same time keep their order without a sequence number. (The usual
 * rule, level by distance, puts a timer set late in front of one that waits for its cascade.)
 *
 * w->next is the first tick that is not done yet. It jumps from one occupied slot to the next,
 * found in the bitmaps: an idle wheel costs nothing, however long it was idle.
 */
#include "base/timer.h"

#include "base/assert.h"
#include "base/mem.h"

#define LOW_BITS 8U
#define LOW_SLOTS 256U
#define HIGH_BITS 6U
#define HIGH_SLOTS 64U
#define HIGH_LEVELS 4U
#define RANGE_BITS (LOW_BITS + HIGH_LEVELS * HIGH_BITS)

struct cs_wheel {
    uint64_t next;         /* the first tick not yet done */
    uint64_t run_until_ms; /* of the run that is under way */
    bool running;
    uint64_t low_map[LOW_SLOTS / 64]; /* a bit is set exactly when its slot is not empty */
    uint64_t high_map[HIGH_LEVELS];
    struct cs_list low[LOW_SLOTS];
    struct cs_list high[HIGH_LEVELS][HIGH_SLOTS];
    struct cs_list far;
    struct cs_list overdue; /* set when their tick was done: fire first in the next run */
    struct cs_list late;    /* set by a callback for a time within its run: next run */
};

static struct cs_timer *timer_of(struct cs_list *node)
{
    return cs_container_of(node, struct cs_timer, node);
}

static unsigned level_shift(unsigned level)
{
    return LOW_BITS + level * HIGH_BITS;
}

static unsigned level_slot(uint64_t tick, unsigned level)
{
    return (unsigned)(tick >> level_shift(level)) & (HIGH_SLOTS - 1);
}

struct cs_wheel *cs_wheel_create(uint64_t now_ms)
{
    struct cs_wheel *w = cs_zalloc(sizeof(*w));

    if (w == NULL) {
        return NULL;
    }
    w->next = now_ms;
    for (unsigned i = 0; i < LOW_SLOTS; i++) {
        cs_list_init(&w->low[i]);
    }
    for (unsigned i = 0; i < HIGH_LEVELS * HIGH_SLOTS; i++) {
        cs_list_init(&w->high[i / HIGH_SLOTS][i % HIGH_SLOTS]);
    }
    cs_list_init(&w->far);
    cs_list_init(&w->overdue);
    cs_list_init(&w->late);
    return w;
}

/* Timers that outlive the wheel become inactive. */
static void list_disperse(struct cs_list *head)
{
    while (!cs_list_empty(head)) {
        cs_list_remove(head->next);
    }
}

void cs_wheel_destroy(struct cs_wheel *w)
{
    if (w == NULL) {
        return;
    }
    CS_ASSERT(!w->running);
    for (unsigned i = 0; i < LOW_SLOTS; i++) {
        list_disperse(&w->low[i]);
    }
    for (unsigned i = 0; i < HIGH_LEVELS * HIGH_SLOTS; i++) {
        list_disperse(&w->high[i / HIGH_SLOTS][i % HIGH_SLOTS]);
    }
    list_disperse(&w->far);
    list_disperse(&w->overdue);
    list_disperse(&w->late);
    cs_free(w);
}

void cs_timer_init(struct cs_timer *t, cs_timer_fn *fire)
{
    cs_list_init(&t->node);
    t->due_ms = 0;
    t->fire = fire;
}

bool cs_timer_active(const struct cs_timer *t)
{
    return !cs_list_empty(&t->node);
}

/* Puts a timer that is in no list where its time belongs. */
static void wheel_place(struct cs_wheel *w, struct cs_timer *t)
{
    uint64_t differ = t->due_ms ^ w->next;

    if (t->due_ms < w->next) {
        cs_list_append(&w->overdue, &t->node);
    } else if (differ < LOW_SLOTS) {
        unsigned slot = (unsigned)t->due_ms & (LOW_SLOTS - 1);

        w->low_map[slot / 64] |= UINT64_C(1) << (slot % 64);
        cs_list_append(&w->low[slot], &t->node);
    } else if (differ >> RANGE_BITS != 0) {
        cs_list_append(&w->far, &t->node);
    } else {
        unsigned level = (63 - (unsigned)__builtin_clzll(differ) - LOW_BITS) / HIGH_BITS;
        unsigned slot = level_slot(t->due_ms, level);

        w->high_map[level] |= UINT64_C(1) << slot;
        cs_list_append(&w->high[level][slot], &t->node);
    }
}

/* Clears the bit of a slot that has become empty; other lists have none. */
static void wheel_mark_empty(struct cs_wheel *w, const struct cs_list *head)
{
    if (head >= w->low && head < w->low + LOW_SLOTS) {
        unsigned slot = (unsigned)(head - w->low);

        w->low_map[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    } else if (head >= w->high[0] && head < w->high[0] + HIGH_LEVELS * HIGH_SLOTS) {
        unsigned index = (unsigned)(head - w->high[0]);

        w->high_map[index / HIGH_SLOTS] &= ~(UINT64_C(1) << (index % HIGH_SLOTS));
    }
}

/* Takes an active timer out. With equal neighbours it was alone, and they are the list's head. */
static void wheel_take(struct cs_wheel *w, struct cs_timer *t)
{
    struct cs_list *next = t->node.next;
    bool alone = next == t->node.prev;

    cs_list_remove(&t->node);
    if (alone) {
        wheel_mark_empty(w, next);
    }
}

void cs_timer_stop(struct cs_wheel *w, struct cs_timer *t)
{
    if (cs_timer_active(t)) {
        wheel_take(w, t);
    }
}

void cs_timer_set(struct cs_wheel *w, struct cs_timer *t, uint64_t due_ms)
{
    cs_timer_stop(w, t);
    t->due_ms = due_ms;
    if (w->running && due_ms <= w->run_until_ms) {
        /* A callback that sets its own timer to "now" must not keep the run going. */
        cs_list_append(&w->late, &t->node);
    } else {
        wheel_place(w, t);
    }
}

/* Places all timers of a list again, in their order. */
static void wheel_place_all(struct cs_wheel *w, struct cs_list *from)
{
    struct cs_list moved;

    cs_list_init(&moved);
    cs_list_splice(&moved, from);
    while (!cs_list_empty(&moved)) {
        struct cs_timer *t = timer_of(moved.next);

        cs_list_remove(&t->node);
        wheel_place(w, t);
    }
}

/* Moves w->next on to a tick with no occupied slot before it; the slots that begin there cascade.
 */
static void wheel_advance(struct cs_wheel *w, uint64_t tick)
{
    bool range_ends = (tick ^ w->next) >> RANGE_BITS != 0;

    CS_ASSERT(tick >= w->next);
    w->next = tick;
    if (range_ends) {
        wheel_place_all(w, &w->far);
    }
    for (unsigned level = HIGH_LEVELS; level-- > 0;) {
        unsigned slot = level_slot(tick, level);

        if (w->high_map[level] >> slot & 1) {
            w->high_map[level] &= ~(UINT64_C(1) << slot);
            wheel_place_all(w, &w->high[level][slot]);
        }
    }
}

/* The tick of the first occupied slot of the lowest level from w->next on. */
static bool wheel_low_tick(const struct cs_wheel *w, uint64_t *tick)
{
    unsigned slot = (unsigned)w->next & (LOW_SLOTS - 1);
    uint64_t map = w->low_map[slot / 64] & UINT64_MAX << (slot % 64);
    unsigned word = slot / 64;

    while (map == 0 && ++word < CS_ARRAY_LEN(w->low_map)) {
        map = w->low_map[word];
    }
    if (map == 0) {
        return false;
    }
    *tick = (w->next & ~(uint64_t)(LOW_SLOTS - 1)) + word * 64 + (unsigned)__builtin_ctzll(map);
    return true;
}

/* The next tick at which there is something to do (fire or cascade). False when there is none.
 * Lower levels always come first: their slots lie within the current slot of the level above. */
static bool wheel_tick(const struct cs_wheel *w, uint64_t *tick)
{
    if (wheel_low_tick(w, tick)) {
        return true;
    }
    for (unsigned level = 0; level < HIGH_LEVELS; level++) {
        unsigned shift = level_shift(level);

        if (w->high_map[level] != 0) {
            /* All set bits lie above the current slot. */
            uint64_t base = w->next >> (shift + HIGH_BITS) << HIGH_BITS;

            *tick = (base + (unsigned)__builtin_ctzll(w->high_map[level])) << shift;
            return true;
        }
    }
    if (!cs_list_empty(&w->far)) {
        *tick = ((w->next >> RANGE_BITS) + 1) << RANGE_BITS;
        return true;
    }
    return false;
}

/* Fires the timers of a list whose time is at most due_ms, the others (touched ones) are placed
 * again. Whatever a callback does to other timers of the list is safe: only the head is kept. */
static unsigned wheel_fire(struct cs_wheel *w, struct cs_list *list, uint64_t due_ms, unsigned max)
{
    unsigned fired = 0;

    while (fired < max && !cs_list_empty(list)) {
        struct cs_timer *t = timer_of(list->next);

        wheel_take(w, t);
        if (t->due_ms > due_ms) {
            wheel_place(w, t);
        } else {
            fired++;
            t->fire(t);
        }
    }
    return fired;
}

/* Cuts `list` behind its first half. */
static void list_halve(struct cs_list *list, struct cs_list *half)
{
    struct cs_list *slow = list->next, *fast = list->next;

    while (fast != list && fast->next != list) {
        slow = slow->next;
        fast = fast->next->next;
    }
    /* slow .. end become `half`. */
    half->next = slow;
    half->prev = list->prev;
    list->prev = slow->prev;
    list->prev->next = list;
    half->next->prev = half;
    half->prev->next = half;
}

/* Stable merge sort by time. Overdue timers are few, and mostly sorted already. */
static void list_sort(struct cs_list *list)
{
    struct cs_list left, right;

    if (list->next == list->prev) {
        return; /* none or one */
    }
    cs_list_init(&left);
    list_halve(list, &right);
    list_sort(list);
    list_sort(&right);
    cs_list_splice(&left, list);
    while (!cs_list_empty(&left) && !cs_list_empty(&right)) {
        bool from_right = timer_of(right.next)->due_ms < timer_of(left.next)->due_ms;
        struct cs_list *node = from_right ? right.next : left.next;

        cs_list_remove(node);
        cs_list_append(list, node);
    }
    cs_list_splice(list, &left);
    cs_list_splice(list, &right);
}

unsigned cs_wheel_run(struct cs_wheel *w, uint64_t now_ms, unsigned max)
{
    unsigned fired;
    uint64_t tick;

    CS_ASSERT(!w->running);
    if (now_ms < w->next) {
        now_ms = w->next - 1; /* For a wheel, time does not go back. */
    }
    w->running = true;
    w->run_until_ms = now_ms;
    list_sort(&w->overdue);
    fired = wheel_fire(w, &w->overdue, w->next - 1, max);
    while (fired < max && wheel_tick(w, &tick) && tick <= now_ms) {
        wheel_advance(w, tick);
        fired += wheel_fire(w, &w->low[tick & (LOW_SLOTS - 1)], tick, max - fired);
    }
    if (fired < max && now_ms >= w->next) {
        wheel_advance(w, now_ms + 1);
    }
    w->running = false;
    wheel_place_all(w, &w->late);
    return fired;
}

int64_t cs_wheel_next(const struct cs_wheel *w, uint64_t now_ms)
{
    uint64_t tick;

    if (!cs_list_empty(&w->overdue) || !cs_list_empty(&w->late)) {
        return 0;
    }
    if (!wheel_tick(w, &tick)) {
        return -1;
    }
    return tick > now_ms ? (int64_t)(tick - now_ms) : 0;
}
