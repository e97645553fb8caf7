/*
 * slots - which places of a ring's table of sockets are taken: accept fills the lower half (the
 * kernel chooses), connect the upper (we choose, because the slot must be known before the socket
 * exists). For ring.c.
 */
#ifndef CS_RING_SLOTS_H
#define CS_RING_SLOTS_H

#include <errno.h>

#include "base/base.h"

struct cs_slots {
    unsigned total, split;
    unsigned accepted; /* in use below split */
    unsigned fresh;    /* never used from here on */
    unsigned free_count;
    unsigned *free; /* used and free again */
};

/* One of the upper half, or -ENFILE. */
static inline int cs_slots_take(struct cs_slots *s)
{
    if (s->free_count) {
        return (int)s->free[--s->free_count];
    }
    return s->fresh < s->total ? (int)s->fresh++ : -ENFILE;
}

/* Of either half. */
static inline void cs_slots_return(struct cs_slots *s, unsigned slot)
{
    if (slot < s->split) {
        s->accepted--;
    } else {
        s->free[s->free_count++] = slot;
    }
}

#endif
