/*
 * net - what all sockets of one cell share: the loop, the connections, the queues of the write and
 * bury phases, the resolver, limits and counters.
 */
#ifndef CS_NET_NET_H
#define CS_NET_NET_H

#include "base/pool.h"
#include "base/queue.h"
#include "net/admit.h"
#include "ring/loop.h"

struct cs_conn;
struct cs_resolver;

/* Times in milliseconds, marks in bytes. */
struct cs_net_config {
    uint32_t out_high, out_low; /* write suspends at high, goes on below low */
    uint32_t in_high, in_low;   /* read-ahead: reading stops at high, goes on below low */
    uint32_t flush_ms;          /* a graceful close gives up flushing after this */
    uint32_t drain_ms;          /* ... and waits this long for the peer's end afterwards */
    bool log_connections;       /* one info line at the end of each accepted connection */
    struct cs_admit *admit;     /* of the process, the caller's; NULL: everybody is let in */
};

struct cs_net_counters {
    uint64_t accepted, connected, closed;
    uint64_t accept_lost;   /* taken by the kernel but dropped for want of a descriptor or memory */
    uint64_t accept_pauses; /* accepting paused for want of them */
    uint64_t bytes_in, bytes_out;
    uint64_t bytes_spliced; /* of bytes_out: moved inside the kernel */
    uint64_t datagrams_in, datagrams_out;
    uint64_t datagrams_dropped; /* received, and nobody had room for them */
    uint64_t enobufs;           /* a receive found no buffer */
    uint64_t cancels;
};

/* Connections that can receive in one turn: each needs an event of it. */
#define CS_NET_LENT_MAX CS_LOOP_EVENTS_MAX

struct cs_net {
    struct cs_loop *loop;
    struct cs_ring *ring;
    struct cs_pool *conns, *tls, *ws; /* all connections; all TLS and WebSocket streams over them */
    struct cs_resolver *resolver;
    struct cs_net_config config;
    struct cs_net_counters count;
    struct cs_pool *relay_pool;
    unsigned relays;     /* open now */
    unsigned small_size; /* bytes of a small receive buffer: a read that fills one is a full read */
    /* Private to conn.c: linked through the conns. */
    struct cs_queue dirty;  /* have output to send in phase 6 */
    struct cs_queue ending; /* of those: wait for the turn in which their write side ends */
    unsigned lent_count;    /* hold receive buffers that go back in phase 7 */
    struct cs_conn *lent[CS_NET_LENT_MAX];
    struct cs_queue joined; /* are to be closed in phase 6 */
    struct cs_queue buried; /* closed; freed in phase 7 */
    unsigned ends;          /* write sides ended in this phase 6 */
    struct cs_list starved; /* wait for a receive buffer */
    struct cs_list ports;   /* private to udp.c */
    /* Private to listener.c: listeners that wait until more connections are let in. */
    struct cs_list held;
    struct cs_admit_waiter room;
    struct cs_list tls_due; /* private to tls.c: have something to do in phase 6 */
    struct cs_list ws_due;  /* likewise to ws.c */
};

void cs_net_config_default(struct cs_net_config *config);

/* Registers itself in the loop's write and bury phases. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_net_init(struct cs_net *n, struct cs_loop *loop,
                              const struct cs_net_config *config);

/* From now on, also for connections that are open; the admission stays. */
void cs_net_configure(struct cs_net *n, const struct cs_net_config *config);

/* Every conn must be gone (cs_net_close_all and turns until cs_net_idle). */
void cs_net_finish(struct cs_net *n);

/* The end: closes every connection and UDP socket that is left, whoever owns it (owners get
 * on_closed), and answers every name lookup, now and later, with CS_ECLOSED. */
void cs_net_close_all(struct cs_net *n, bool abort, int why);

/* Gives memory that nobody uses back to the system: for quiet moments. */
void cs_net_trim(struct cs_net *n);

/* True when no connection or UDP socket exists and nothing of ours is with the kernel. */
bool cs_net_idle(const struct cs_net *n);

#endif
