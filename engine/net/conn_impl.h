/*
 * conn_impl - what the files of conn share: its state. conn_begin.c makes one; conn.c reads, writes
 * and closes; conn_direct.c lends the socket out; conn_info.c answers questions and leaves the
 * origin.
 */
#ifndef CS_NET_CONN_IMPL_H
#define CS_NET_CONN_IMPL_H

#include "base/assert.h"
#include "base/queue.h"
#include "net/conn.h"

enum state { CONNECTING, OPEN, FLUSHING, DRAINING, STOPPING, JOINED, CLOSED };

/* What few connections need, and for a while: made when it is needed. */
struct rare {
    struct cs_conn *conn;
    struct cs_timer deadline; /* of flushing and draining */
    uint32_t discarded;       /* bytes thrown away while closing */
    struct cs_list node;      /* in net->starved */
};

/* Who waits for the connect. */
struct dialling {
    cs_conn_connected_fn *connected;
    void *user;
};

/* Two cache lines. There are two for every tunnel, so what is not needed while one is open and
 * idle lies elsewhere. */
struct cs_conn {
    struct cs_stream stream;
    struct cs_chain out; /* given to write, not yet taken by the kernel */
    struct cs_op recv;   /* connect; receive, or poll for input, or for a hang-up */
    struct cs_op send;   /* or poll for room */
    union {
        struct {
            uint64_t bytes_in, bytes_out;
        };
        struct dialling dialling; /* only in state CONNECTING */
    };
    struct cs_queue_link dirty_link; /* in net->dirty or net->ending */
    union {
        struct rare *rare;             /* or NULL */
        struct cs_queue_link end_link; /* JOINED: in net->joined; CLOSED: in net->buried */
    };
    struct cs_origin *origin;
    struct cs_addr_packed peer;
    cs_fd fd;
    uint32_t start_s; /* seconds of the loop's clock */
    int16_t why;      /* reason given to close: a code of err.h */
    int16_t found;    /* an error that offer met; told from the write phase */
    enum state state : 3;
    unsigned streak : 3; /* reads in a row that speak for the other buffer group */
    bool want : 1;       /* resumed */
    bool watching : 1;   /* paused, and told of a reset */
    bool bulk : 1;       /* reads into the large buffers */
    bool dirty : 1, lent : 1, starved : 1; /* in that list of net */
    bool full : 1;                         /* output passed the high mark: on_room is owed */
    bool shut : 1; /* the write side is to be ended when the output is sent */
    bool shut_done : 1;
    bool reset : 1;       /* close with RST */
    unsigned pass : 3;    /* enum cs_admit_pass: given back to the gate of its origin */
    bool offered : 1;     /* TCP has taken all that was offered this turn */
    bool lean : 1;        /* keep_little_unsent has been */
    bool direct : 1;      /* its user reads the descriptor itself */
    bool wants_room : 1;  /* on_room is owed once the socket can be written */
    unsigned directs : 2; /* descriptors given out, which made the socket non-blocking */
};

_Static_assert(sizeof(struct cs_conn) == 128, "two cache lines");

static inline struct cs_net *cs_conn_net(const struct cs_conn *c)
{
    return cs_pool_owner(c);
}

/* A state never comes back. */
static inline void cs_conn_set_state(struct cs_conn *c, enum state to)
{
    CS_ASSERT(to > c->state);
    c->state = to;
}

/* ---- conn.c ---- */

/* In its first state, without a descriptor. NULL when out of memory. */
CS_MUST_CHECK struct cs_conn *cs_conn_new(struct cs_net *n, enum state state);

/* To be called after each final event of one of its ops. */
void cs_conn_join(struct cs_conn *c);

/* Reads or watches the socket when it should be and is not; stops reading it. */
void cs_conn_read_on(struct cs_conn *c);
void cs_conn_read_off(struct cs_conn *c);

/* The write phase looks at it. */
void cs_conn_mark_dirty(struct cs_conn *c);

static inline void cs_conn_count_sent(struct cs_conn *c, size_t n)
{
    c->bytes_out += n;
    cs_conn_net(c)->count.bytes_out += n;
}

/* ---- conn_direct.c ---- */

/* Waits for room in a socket that may be non-blocking, in the place of a send: then the write phase
 * looks at the connection, and its user hears of room if it wants to. */
void cs_conn_poll_writable(struct cs_conn *c);

/* ---- conn_info.c ---- */

/* The end of an accepted connection: its line in the log, its pass, its origin. */
void cs_conn_leave_origin(struct cs_conn *c);

#endif
