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

struct cs_op {
    cs_op_fn *done;
    bool armed;
    bool cancelling; /* a cancel has been asked for and the final event is still to come */
    uint8_t tag;     /* the ring's own, like the two below */
    uint8_t group;   /* the buffers of a receive */
    int err;         /* why it will fail, found before its final event */
};

static inline void cs_op_init(struct cs_op *op, cs_op_fn *done)
{
    op->done = done;
    op->armed = false;
    op->cancelling = false;
    op->tag = 0;
    op->group = 0;
    op->err = 0;
}

#endif
