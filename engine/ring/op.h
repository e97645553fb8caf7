/*
 * op - one thing the kernel has been asked to do, embedded in the object that asked.
 *
 * An op is armed from the call that starts it until its final event (one without `more`). Its owner
 * must live at least that long; that is the only lifetime rule io_uring adds, and conn's three-step
 * close is built on it. An op can be armed again from inside its own final event.
 */
#ifndef CS_RING_OP_H
#define CS_RING_OP_H

#include "base/base.h"

struct cs_op;
struct cs_slice;

/* A descriptor as the ring knows it: a real one, or (with the bit) a slot of the ring's own table.
 * Only engine/ring looks inside; -1 is none. */
typedef int cs_fd;
#define CS_FD_NONE (-1)
#define CS_FD_DIRECT 0x40000000

/* One result. Events are values: a multishot op yields many in one turn. */
struct cs_event {
    struct cs_op *op;
    int res;                /* count, descriptor or 0; negative: -errno */
    bool more;              /* the op stays armed and will yield further events */
    struct cs_slice *slice; /* receive: the bytes, lent; the handler owns the slice now */
};

typedef void cs_op_fn(struct cs_op *op, const struct cs_event *ev);

/* Eight bytes: there are two in every connection. */
struct cs_op {
    _Alignas(8) int32_t handler; /* from etext on: cs_op_set_handler */
    int16_t err; /* why it will fail, found before its final event; the ring's own */
    bool armed : 1;
    bool cancelling : 1;     /* a cancel has been asked for and the final event is still to come */
    unsigned char tag : 3;   /* the ring's own */
    unsigned char group : 2; /* the buffers of a receive; likewise */
};

/* The end of the program's code (end(3)). Handlers lie before it, within 2 GiB. */
extern char etext;

static inline void cs_op_set_handler(struct cs_op *op, cs_op_fn *fn)
{
    op->handler = (int32_t)((intptr_t)fn - (intptr_t)&etext);
}

static inline cs_op_fn *cs_op_handler(const struct cs_op *op)
{
    return (cs_op_fn *)((intptr_t)&etext + op->handler);
}

static inline void cs_op_init(struct cs_op *op, cs_op_fn *fn)
{
    *op = (struct cs_op){0};
    cs_op_set_handler(op, fn);
}

#endif
