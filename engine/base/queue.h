/*
 * queue - an intrusive singly linked queue, the oldest first: a pointer in each member, for many
 * small objects that never leave it from the middle.
 */
#ifndef CS_BASE_QUEUE_H
#define CS_BASE_QUEUE_H

#include "base/base.h"

struct cs_queue_link {
    struct cs_queue_link *next;
};

/* All zero: empty. */
struct cs_queue {
    struct cs_queue_link *first, *last; /* last counts only while there is a first */
};

static inline void cs_queue_add(struct cs_queue *q, struct cs_queue_link *l)
{
    l->next = NULL;
    if (q->first) {
        q->last->next = l;
    } else {
        q->first = l;
    }
    q->last = l;
}

/* The oldest, or NULL. */
static inline struct cs_queue_link *cs_queue_take(struct cs_queue *q)
{
    struct cs_queue_link *l = q->first;
    if (l) {
        q->first = l->next;
    }
    return l;
}

#endif
