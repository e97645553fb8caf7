/*
 * chain - a queue of byte slices: what a stream has read and not yet consumed, or has been given
 * and not yet sent.
 *
 *   last ─▶ slice ─▶ first slice ─▶ slice ─▶ back to the last        its total = sum of all len
 *
 * A chain is one pointer, because there are two in every connection and most are empty.
 *
 * A slice is either owned (memory follows the header, freed when released) or lent (it points into
 * a receive buffer of the ring; releasing it gives the buffer back). Moving a slice from one chain
 * to another copies nothing.
 */
#ifndef CS_BASE_CHAIN_H
#define CS_BASE_CHAIN_H

#include "base/base.h"

struct iovec;

struct cs_slice {
    struct cs_slice *next;               /* of the last one: the first */
    size_t total;                        /* bytes of the chain; of its last slice only */
    uint8_t *data;                       /* first byte that is not yet consumed */
    uint32_t len;                        /* bytes from data on */
    uint32_t room;                       /* bytes free behind data + len; 0 for a lent slice */
    void (*release)(struct cs_slice *s); /* NULL: owned, freed by the chain */
};

struct cs_chain {
    struct cs_slice *last; /* NULL: empty */
};

static inline void cs_chain_init(struct cs_chain *c)
{
    c->last = NULL;
}

/* Bytes in it. */
static inline size_t cs_chain_len(const struct cs_chain *c)
{
    return c->last ? c->last->total : 0;
}

/* For walks: the first slice, or NULL; the one after s, or NULL. */
static inline struct cs_slice *cs_chain_first(const struct cs_chain *c)
{
    return c->last ? c->last->next : NULL;
}

static inline struct cs_slice *cs_chain_next(const struct cs_chain *c, const struct cs_slice *s)
{
    return s != c->last ? s->next : NULL;
}

/* True while the slice stands in a receive buffer of the ring. */
static inline bool cs_slice_is_lent(const struct cs_slice *s)
{
    return s->release != NULL;
}

/* An empty owned slice with room for `room` bytes at least, or NULL. */
CS_MUST_CHECK struct cs_slice *cs_slice_create(size_t room);

/* Frees an owned slice, gives a lent one back. Accepts NULL. */
void cs_slice_release(struct cs_slice *s);

/* Appends one slice (possibly of another chain's making); takes ownership. An empty one is released
 * at once: no slice in a chain is empty. */
void cs_chain_push(struct cs_chain *c, struct cs_slice *s);

/* Appends a copy: fills the tail slice's room first, then one new slice. 0 or -ENOMEM with nothing
 * appended. */
CS_MUST_CHECK int cs_chain_append(struct cs_chain *c, const void *data, size_t len);

/* Moves the first n bytes (at most all) of `from` to the end of `to`. Whole slices move
 * without a copy; the one that is cut is copied in part. 0, or -ENOMEM with `from` and `to` still
 * valid and together complete (whole slices moved, the cut part not). */
CS_MUST_CHECK int cs_chain_move(struct cs_chain *to, struct cs_chain *from, size_t n);

/* Moves everything; never fails. */
void cs_chain_move_all(struct cs_chain *to, struct cs_chain *from);

/* Drops the first n bytes (at most all). */
void cs_chain_drop(struct cs_chain *c, size_t n);

/* Drops everything. */
void cs_chain_clear(struct cs_chain *c);

/* Copies up to n bytes from the front into `to` without consuming; returns how many. */
size_t cs_chain_peek(const struct cs_chain *c, void *to, size_t n);

/* Fills at most max entries with the first slices; returns how many entries. */
unsigned cs_chain_iov(const struct cs_chain *c, struct iovec *iov, unsigned max);

/* Replaces every lent slice by an owned copy, joining neighbours that were lent, so that the ring
 * has its buffers back. 0, or -ENOMEM with the chain valid and some slices still lent. */
CS_MUST_CHECK int cs_chain_own(struct cs_chain *c);

#endif
