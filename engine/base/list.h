/*
 * list - intrusive doubly linked circular list. A head is a node that points at itself when empty.
 * A node that is in no list and was passed to cs_list_init also points at itself, so removing
 * twice is harmless.
 */
#ifndef CS_BASE_LIST_H
#define CS_BASE_LIST_H

#include "base/base.h"

struct cs_list {
    struct cs_list *next, *prev;
};

static inline void cs_list_init(struct cs_list *l)
{
    l->next = l->prev = l;
}

static inline bool cs_list_empty(const struct cs_list *l)
{
    return l->next == l;
}

static inline void cs_list_insert_between(struct cs_list *n, struct cs_list *prev,
                                          struct cs_list *next)
{
    n->prev = prev;
    n->next = next;
    prev->next = n;
    next->prev = n;
}

static inline void cs_list_append(struct cs_list *head, struct cs_list *n)
{
    cs_list_insert_between(n, head->prev, head);
}

static inline void cs_list_prepend(struct cs_list *head, struct cs_list *n)
{
    cs_list_insert_between(n, head, head->next);
}

static inline void cs_list_remove(struct cs_list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    cs_list_init(n);
}

/* First node, or NULL when empty. */
static inline struct cs_list *cs_list_first(struct cs_list *head)
{
    return cs_list_empty(head) ? NULL : head->next;
}

/* Moves all nodes of `from` to the end of `to`; `from` is empty afterwards. */
static inline void cs_list_splice(struct cs_list *to, struct cs_list *from)
{
    if (cs_list_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    cs_list_init(from);
}

/* Safe against removal of `it` inside the body. */
#define cs_list_each(it, tmp, head)                                                                \
    for (struct cs_list *it = (head)->next, *tmp = it->next; it != (head); it = tmp, tmp = it->next)

#endif
