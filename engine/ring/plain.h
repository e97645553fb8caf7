/*
 * plain - how many ordinary descriptors rings have open: sockets where there are no slots, and
 * bound ports. All rings of a process share its descriptors. For ring.c only: the count of all is
 * this file's.
 */
#ifndef CS_RING_PLAIN_H
#define CS_RING_PLAIN_H

#include <stdatomic.h>
#include <sys/resource.h>

#include "base/base.h"

#define CS_PLAIN_CEILING 1048576u /* also the kernel's own bound of a ring's table */
#define CS_PLAIN_RESERVE 64u      /* for files, logs and names where sockets take them too */

/* Of one ring. */
struct cs_plain {
    unsigned open;
    unsigned max, max_all; /* without slots: how many it and all rings together may have */
};

static atomic_uint cs_plain_open_all;

/* Descriptors the process may have. */
static inline unsigned cs_plain_limit(void)
{
    struct rlimit lim;
    rlim_t n = CS_PLAIN_CEILING;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
        n = CS_MIN(n, lim.rlim_cur);
    }
    return (unsigned)n;
}

static inline unsigned cs_plain_usable(unsigned n)
{
    return n - CS_MIN(CS_PLAIN_RESERVE, n / 4);
}

/* wanted: at most cs_plain_limit(). */
static inline void cs_plain_init(struct cs_plain *p, unsigned wanted)
{
    *p = (struct cs_plain){.max = cs_plain_usable(wanted),
                           .max_all = cs_plain_usable(cs_plain_limit())};
}

static inline void cs_plain_count(struct cs_plain *p, int n)
{
    p->open += (unsigned)n;
    atomic_fetch_add_explicit(&cs_plain_open_all, (unsigned)n, memory_order_relaxed);
}

static inline unsigned cs_plain_room(const struct cs_plain *p)
{
    unsigned all = atomic_load_explicit(&cs_plain_open_all, memory_order_relaxed);
    unsigned own = p->max > p->open ? p->max - p->open : 0;
    unsigned shared = p->max_all > all ? p->max_all - all : 0;
    return CS_MIN(own, shared);
}

#endif
