/*
 * timer - a hierarchical timing wheel of 1 ms ticks with intrusive timers.
 *
 * Setting and stopping are O(1). Touching (moving a timer later) only stores the new time; when the
 * old slot comes round the timer is put where it belongs. That makes "restart the idle timeout on
 * every message" cost one store. Timers fire at or after their time, never before, in the order of
 * their times within one run; two with the same time fire in the order in which they were set.
 *
 * Thread: one wheel belongs to one loop.
 */
#ifndef CS_BASE_TIMER_H
#define CS_BASE_TIMER_H

#include "base/list.h"

struct cs_wheel;
struct cs_timer;

/* Called from cs_wheel_run with the timer already stopped: it may be set again, or freed. */
typedef void cs_timer_fn(struct cs_timer *t);

struct cs_timer {
    struct cs_list node; /* in a slot of the wheel while active */
    uint64_t due_ms;
    cs_timer_fn *fire;
};

/* NULL when out of memory. now_ms: the clock's value at this moment. */
CS_MUST_CHECK struct cs_wheel *cs_wheel_create(uint64_t now_ms);
void cs_wheel_destroy(struct cs_wheel *w);

/* Before first use of a timer. */
void cs_timer_init(struct cs_timer *t, cs_timer_fn *fire);

bool cs_timer_active(const struct cs_timer *t);

/* Starts, or restarts at any time (earlier or later). due_ms is absolute; a past one fires in the
 * next run. */
void cs_timer_set(struct cs_wheel *w, struct cs_timer *t, uint64_t due_ms);

/* Only for an active timer, and only later than it was: O(1), one store. */
static inline void cs_timer_touch(struct cs_timer *t, uint64_t due_ms)
{
    t->due_ms = due_ms;
}

/* Harmless when inactive. */
void cs_timer_stop(struct cs_wheel *w, struct cs_timer *t);

/* Advances to now_ms and fires at most max timers. Returns the number fired; when it equals max
 * there may be more due: run again next turn. */
unsigned cs_wheel_run(struct cs_wheel *w, uint64_t now_ms, unsigned max);

/* Milliseconds from now_ms until the wheel next needs a run (0 = at once), or -1 when no timer is
 * active. May be earlier than the first timer (a cascade or a touched one), never later. */
int64_t cs_wheel_next(const struct cs_wheel *w, uint64_t now_ms);

#endif
