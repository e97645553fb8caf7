/*
 * sim_ring - inside the simulated ring: ops, their pending events, buffer groups. Not for tests.
 */
#ifndef SIM_SIM_RING_H
#define SIM_SIM_RING_H

#include <sys/uio.h>

#include "sim_world.h"

enum sim_op_kind {
    SIM_OP_ACCEPT,
    SIM_OP_CONNECT,
    SIM_OP_RECV,
    SIM_OP_SEND,
    SIM_OP_POLL,      /* of a socket */
    SIM_OP_POLL_REAL, /* of a descriptor that is the process's own, not the simulator's */
    SIM_OP_PEERNAME,
    SIM_OP_FAULT, /* could not be started */
};

/* An event the kernel has made and the ring has not delivered yet. */
struct sim_pending {
    struct cs_list node;
    struct cs_event ev;
    unsigned delay; /* rounds */
};

/* What the kernel knows about an armed op, from the call that starts it to the delivery of its
 * final event. */
struct sim_op {
    struct cs_list node; /* cs_ring.ops */
    struct cs_op *op;
    enum sim_op_kind kind;
    struct sim_sock *sock;         /* NULL: accept, polls of real files, faults */
    struct sim_listener *listener; /* accept only */
    cs_fd fd;
    enum cs_ring_group group;
    struct iovec iov[CS_RING_IOV_MAX]; /* send */
    unsigned iov_n;
    uint64_t sum;              /* of the bytes to send, when the op was started */
    unsigned events;           /* poll */
    unsigned told;             /* poll of changes: the bits of the last event */
    bool changes;              /* poll: goes on, and tells only what has come true since */
    struct sockaddr_in6 *name; /* peername */
    bool once;                 /* accept: takes one connection */
    bool ended;                /* the final event is pending */
    bool cancelled;            /* asked to end ... */
    unsigned cancel_rounds;    /* ... after this many rounds */
    struct cs_list pending;
};

/* So many rounds without an event, with time standing still, are a simulator that spins. */
#define SIM_ROUNDS_MAX 200000

struct sim_group {
    unsigned count, size;
    unsigned filled; /* with the kernel's bytes: events pending or slices lent */
    unsigned lent;   /* of these, known to the engine */
};

struct cs_ring {
    struct cs_list node; /* world.rings */
    struct cs_list ops;
    struct sim_group groups[CS_RING_GROUPS];
    struct cs_list released; /* slices given back, kept to notice a second time */
    struct sim_sock **slots; /* NULL in the array: free */
    unsigned slots_total, slots_split, slots_accepted, slots_open;
    unsigned sockets; /* in slots or plain */
    bool direct;
};

/* ---- ops ---- */

struct sim_op *sim_op_find(const struct cs_ring *r, const struct cs_op *op);
uint64_t sim_op_sum(const struct sim_op *o);
/* One round of an op. True when it went on or could have. */
bool sim_op_step(struct cs_ring *r, struct sim_op *o);
void sim_op_post(struct sim_op *o, int res, bool more, struct cs_slice *slice);
const char *sim_op_name(const struct sim_op *o);

/* ---- waiting ---- */

/* Reads through every armed op: one that was freed shows here, not where the event would land. */
void sim_ring_check(const struct cs_ring *r);
/* A turn has begun: virtual time goes on a little. */
void sim_count_turn(void);
/* Nothing can happen at this instant: on to the next one at which something will. False when
 * that is the end of the wait. */
bool sim_let_time_pass(uint64_t until_ms);

/* ---- slices ---- */

/* Takes a buffer of the group with n bytes read from s. */
struct cs_slice *sim_slice_fill(struct cs_ring *r, enum cs_ring_group group, struct sim_sock *s,
                                size_t n);
/* The same for the oldest datagram of s, with its sender in front. */
struct cs_slice *sim_slice_fill_datagram(struct cs_ring *r, struct sim_sock *s);
/* The engine has it from now on. */
void sim_slice_lend(struct cs_slice *s);
/* The event was never delivered. */
void sim_slices_free(struct cs_ring *r);

/* ---- descriptors of a ring ---- */

/* CS_FD_NONE when the table is full. */
cs_fd sim_fd_install(struct cs_ring *r, struct sim_sock *s, bool accepted);
/* Fails the run when it is not an open socket of this ring. */
struct sim_sock *sim_fd_sock(const struct cs_ring *r, cs_fd fd);
void sim_fd_release(struct cs_ring *r, cs_fd fd);

#endif
