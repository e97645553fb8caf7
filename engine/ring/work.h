/*
 * work - calls that may hold up a thread (files), made by a few helper threads of the process.
 *
 *   loop's thread ──cs_work_start──▶ helper: run ──▶ loop's thread: done
 *
 * The helpers are made when first needed and sleep when there is nothing to do.
 */
#ifndef CS_RING_WORK_H
#define CS_RING_WORK_H

#include "ring/loop.h"

/* The work of one loop. */
struct cs_works {
    struct cs_loop *loop;
    unsigned busy; /* started and not done: the loop must go on turning */
};

/* Embedded in whatever the two functions need. Belongs to the helper from cs_work_start until
 * done. */
struct cs_work {
    void (*run)(struct cs_work *w);  /* on a helper thread; in all, in the order of the starts */
    void (*done)(struct cs_work *w); /* once, on the loop's thread, which may free w in it */
    struct cs_works *works;          /* these are the pool's */
    struct cs_work *next;
    struct cs_post post;
};

static inline void cs_works_init(struct cs_works *ws, struct cs_loop *loop)
{
    *ws = (struct cs_works){.loop = loop};
}

/* run and done are set. Cannot fail: when no thread can be made, run is called at once. done comes
 * in a later turn in any case. */
void cs_work_start(struct cs_works *ws, struct cs_work *w);

#endif
