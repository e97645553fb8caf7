/*
 * loop - the turn of one cell, drawn here once and coded once in cs_loop_turn:
 *
 *   1 flush + wait   submit what is queued; sleep until an event or the next timer
 *   2 reap           copy the events out; no handler runs here
 *   3 ops            each event's handler (C only: may queue ops and wake tasks)
 *   4 timers         what is due
 *   5 script         resume the tasks that are ready, a bounded number
 *   6 write          one send per connection for everything written in 3-5
 *   7 bury           give lent buffers back, free what became unreachable this turn
 *
 * Work of every phase is bounded per turn; a phase that has more left says so and the next turn
 * does not sleep. Rooms above put themselves into phases 5-7.
 *
 * A thread that drives several loops (a cs_loop_set) gives each its turn and sleeps for all of them
 * at once; with a single loop in the set this is that loop's own turn:
 *
 *   awake    for each loop: does its ring's memory show work, or is a timer due, or did it say it
 *            has more to do? Then one turn, without a sleep. The kernel is entered for those only
 *   asleep   none had any: sleep on the one eventfd of all rings (ring_set.h) until an event of any
 *            or the next timer of any
 */
#ifndef CS_RING_LOOP_H
#define CS_RING_LOOP_H

#include "base/timer.h"
#include "ring/ring.h"

struct cs_loop;

/* Events handled in one turn, at most. */
#define CS_LOOP_EVENTS_MAX 512

enum cs_phase { CS_PHASE_SCRIPT, CS_PHASE_WRITE, CS_PHASE_BURY, CS_PHASE_COUNT };

/* Returns true when it has more to do at once. */
typedef bool cs_phase_fn(void *arg);

/* Takes ownership of ring on success. NULL when out of memory. */
CS_MUST_CHECK struct cs_loop *cs_loop_create(struct cs_ring *ring);

/* Destroys the ring too. What was posted and has not run never does. Accepts NULL. */
void cs_loop_destroy(struct cs_loop *l);

struct cs_ring *cs_loop_ring(const struct cs_loop *l);

/* One function per phase. */
void cs_loop_set_phase(struct cs_loop *l, enum cs_phase phase, cs_phase_fn *fn, void *arg);

/* One turn, sleeping at most timeout_ms (-1: as long as nothing happens). Returns the number of
 * events and timers handled. */
unsigned cs_loop_turn(struct cs_loop *l, int64_t timeout_ms);

/* The next turn does not sleep: something was made ready too late for its phase of this one. */
void cs_loop_again(struct cs_loop *l);

/* Asks for leave to hold up the loop for milliseconds (a step of a garbage collector): given once a
 * turn, in all loops of a set together, and only while the turn is young. False: try again in a
 * later turn. */
bool cs_loop_may_hold_up(struct cs_loop *l);

/* Whether this turn has taken so long, 2 ms, that whoever has many small things to do leaves the
 * rest to the next one. Reads the clock: ask once for several of them, and do some in any case. */
bool cs_loop_late(const struct cs_loop *l);

/* Milliseconds, read once a turn. */
uint64_t cs_loop_now(const struct cs_loop *l);

struct cs_wheel *cs_loop_wheel(const struct cs_loop *l);

/* Runs fn(arg) in phase 3 of a coming turn and wakes the loop for it. Any thread. 0 or -ENOMEM. */
typedef void cs_post_fn(void *arg);
CS_MUST_CHECK int cs_loop_post(struct cs_loop *l, cs_post_fn *fn, void *arg);

/* The same with memory of the caller's, which the loop uses until it calls fn: cannot fail. */
struct cs_post {
    struct cs_post *next;
    cs_post_fn *fn;
    void *arg;
    bool owned; /* by the loop */
};
void cs_loop_post_with(struct cs_loop *l, struct cs_post *p, cs_post_fn *fn, void *arg);

/* ---- several loops in one thread ---- */

struct cs_loop_set;

/* NULL when out of memory. */
CS_MUST_CHECK struct cs_loop_set *cs_loop_set_create(void);

/* No loop may be left in it. Accepts NULL. */
void cs_loop_set_destroy(struct cs_loop_set *s);

/* Not during a turn. The ring was made with in_set, unless the loop stays the only one. 0 or
 * -errno. */
CS_MUST_CHECK int cs_loop_set_add(struct cs_loop_set *s, struct cs_loop *l);
void cs_loop_set_remove(struct cs_loop_set *s, struct cs_loop *l);

/* A turn of each loop that has work, or a sleep of at most timeout_ms (-1: as long as nothing
 * happens). What takes milliseconds ends it early: the next one goes on where it stopped. Returns
 * the number of events and timers handled. */
unsigned cs_loop_set_turn(struct cs_loop_set *s, int64_t timeout_ms);

struct cs_loop_stats {
    uint64_t turns, events;
    /* Longest time awake in one turn since the last reset; in the first loop of a set that of a
     * turn of the set. */
    uint64_t turn_ns_max;
};
void cs_loop_stats(struct cs_loop *l, struct cs_loop_stats *out, bool reset);

#endif
