/*
 * sim - the simulator behind engine/ring's face: a kernel made of memory, seeded, with a clock of
 * its own. This header is for tests: how a run begins and ends, what the kernel is like in it, and
 * the far ends (clients and origins) that a test plays itself.
 *
 *   test ── engine/net ── engine/ring's face ── simulated kernel ── network ── sim_peer ── test
 *
 * One run = one seed = one world. Everything random in a run comes from sim_rand, so the same seed
 * gives the same run. A failure prints the command that replays it.
 *
 * Environment: SIM_SEED=n first seed (default: from the time), SIM_RUNS=n seeds of each case,
 * SIM_TRACE=1 prints what the simulated kernel does.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <sys/types.h>

#include "base/addr.h"
#include "base/base.h"
#include "ring/ring.h"

/* ---- runs ---- */

struct sim_case {
    const char *name;
    void (*run)(void); /* one world from its first ring to its last; called once a seed */
    unsigned runs;     /* seeds, unless SIM_RUNS says otherwise: for about a second with ASan.
                          0: only when named, because it shows what is not cured yet */
};

/* main() of a simulation test: runs every case, or those named by argv. */
int sim_main(int argc, char **argv, const struct sim_case *cases, size_t n);

/* Prints the message, the seed and how to replay it; aborts. */
CS_NORETURN void sim_fail(const char *format, ...) CS_PRINTF(1, 2);

#define SIM_CHECK(x) ((x) ? (void)0 : sim_fail("%s:%d: %s", __FILE__, __LINE__, #x))

/* One line of the trace, when SIM_TRACE is set. */
void sim_trace_line(const char *format, ...) CS_PRINTF(1, 2);
extern bool sim_tracing;
#define sim_trace(...) (sim_tracing ? sim_trace_line(__VA_ARGS__) : (void)0)

/* ---- chance ---- */

uint64_t sim_rand(void);
/* 0 .. n-1; n > 0. */
uint64_t sim_below(uint64_t n);
/* lo .. hi, both included. */
uint64_t sim_between(uint64_t lo, uint64_t hi);
/* True that many times in a thousand. */
bool sim_chance(unsigned permille);
/* A size: mostly small, sometimes near max, sometimes exactly 1 or max. */
size_t sim_size(size_t max);

/* ---- what the kernel is like ---- */

/* "pm" is per thousand. A round is one step of the simulated world; a turn has at least one. */
struct sim_config {
    size_t sndbuf, rcvbuf;              /* bytes each socket holds */
    unsigned recv_short_pm;             /* a receive takes only a part of what is there */
    unsigned send_short_pm;             /* a send takes only a part of what fits */
    unsigned recv_end_pm;               /* a multishot receive ends with a data event */
    unsigned accept_end_pm;             /* a multishot accept ends with a good connection */
    unsigned progress_pm;               /* whatever can go on does so in this round */
    unsigned delay_pm;                  /* an event is held back ... */
    unsigned delay_rounds;              /* ... for at most this many rounds */
    unsigned hold_pm;                   /* an event that is ready waits for the next turn */
    unsigned cancel_rounds;             /* a cancel takes effect within this many */
    unsigned latency_ms;                /* bytes, FIN and RST are under way for at most this long */
    unsigned drift_ms;                  /* a turn takes at most this long */
    unsigned interrupt_pm;              /* a wait returns nothing (a signal) */
    unsigned start_error_pm;            /* an op fails at once with -ENOMEM */
    unsigned shutdown_error_pm;         /* cs_ring_shutdown fails with -EMFILE */
    unsigned keep_refuse_pm;            /* cs_ring_may_keep says no although it might say yes */
    unsigned lose_pm;                   /* a datagram is lost */
    unsigned full_pm;                   /* cs_ring_sendto finds the send buffer full */
    bool enfile_loses;                  /* a connection that finds the table full is dropped */
    bool direct;                        /* CS_RING_DIRECT */
    unsigned small_buffers, small_size; /* what cs_ring_config_default gives */
    unsigned bulk_buffers, bulk_size;
    unsigned datagram_buffers;
    unsigned slots_max;
    uint64_t turns_max; /* more turns than this is a spin */
};

/* Derives all knobs from the seed; sim_main does this before each run. */
void sim_config_random(struct sim_config *c);
/* No fault, no delay, large buffers. */
void sim_config_calm(struct sim_config *c);
/* In force from now on. Read or change them at any time in a run. */
struct sim_config *sim_knobs(void);

/* ---- time ---- */

uint64_t sim_now_ms(void);
/* The number of turns (calls of cs_ring_wait) since the run began. */
uint64_t sim_turns(void);

/* Something that acts in the world beside the engine, embedded in the test's object. step runs in a
 * round, inside cs_ring_wait: it may use sim_peer_*, never the engine. Returns true when it has
 * done something. Besides, it is run at wake_ms (UINT64_MAX: not). */
struct sim_actor {
    struct sim_actor *next;
    bool (*step)(struct sim_actor *a);
    uint64_t wake_ms;
    unsigned round; /* private: when it ran last */
};

void sim_actor_add(struct sim_actor *a, bool (*step)(struct sim_actor *a));
void sim_actor_remove(struct sim_actor *a);

/* When the loop sleeps for ever and nothing can happen any more, the run has failed unless done
 * says that the test has all it wants: then the wait returns nothing. */
void sim_set_done(bool (*done)(void));

/* The run may compute this many seconds from now on: more means that it hangs. At first 60. */
void sim_allow_seconds(unsigned seconds);

/* ---- addresses ---- */

enum sim_route {
    SIM_ROUTE_OPEN,      /* to the listener, refused when there is none (the default) */
    SIM_ROUTE_REFUSE,    /* -ECONNREFUSED */
    SIM_ROUTE_BLACKHOLE, /* never answers */
    SIM_ROUTE_UNREACH,   /* -EHOSTUNREACH */
    SIM_ROUTE_RESET,     /* connects, then resets */
};

/* How connects to this address fare from now on. */
void sim_route(const struct cs_addr *a, enum sim_route route);

/* ---- far ends ---- */

struct sim_peer;
struct sim_far_listener;

/* Starts connecting. Never NULL. */
struct sim_peer *sim_peer_connect(const struct cs_addr *remote);

/* 1: connected; 0: not yet; negative: why not. */
int sim_peer_connected(const struct sim_peer *p);

/* Bytes that the send buffer took (0: it is full), or -EPIPE, -ECONNRESET ... */
ssize_t sim_peer_write(struct sim_peer *p, const void *data, size_t len);

/* Bytes read, 0 at the end of the stream, -EAGAIN when there are none yet, -ECONNRESET ... */
ssize_t sim_peer_read(struct sim_peer *p, void *buf, size_t len);

/* FIN after what was written. */
void sim_peer_shutdown(struct sim_peer *p);

/* As close(2): FIN, or RST when input was left unread. The peer is gone. */
void sim_peer_close(struct sim_peer *p);

/* RST. The peer is gone. */
void sim_peer_reset(struct sim_peer *p);

/* The end it is connected from or to. */
const struct cs_addr *sim_peer_local(const struct sim_peer *p);
const struct cs_addr *sim_peer_remote(const struct sim_peer *p);

/* An origin: listens at addr (port 0: one is chosen and written back). */
struct sim_far_listener *sim_far_listen(struct cs_addr *addr, int backlog);
/* The next connection, or NULL. */
struct sim_peer *sim_far_accept(struct sim_far_listener *l);
/* Closes it, resets what waits. */
void sim_far_close(struct sim_far_listener *l);

/* ---- far ends of datagrams ---- */

struct sim_udp;

/* Bound to local (port 0: one is chosen and written back), connected to remote (NULL: not). */
struct sim_udp *sim_udp_open(struct cs_addr *local, const struct cs_addr *remote);
/* 0, -ECONNREFUSED ... to: NULL when connected. */
int sim_udp_send(struct sim_udp *u, const void *data, size_t len, const struct cs_addr *to);
/* Bytes of one datagram (buf holds 65,507), or -EAGAIN. */
ssize_t sim_udp_recv(struct sim_udp *u, void *buf, struct cs_addr *from);
void sim_udp_close(struct sim_udp *u);

/* ---- looking inside ---- */

/* Ops with the kernel, not counting polls on real files (the loop's own). */
unsigned sim_ops_armed(const struct cs_ring *r);
/* Slices lent and not given back. */
unsigned sim_slices_lent(const struct cs_ring *r);
/* Sockets the ring holds. */
unsigned sim_sockets_open(const struct cs_ring *r);
/* Bytes the engine's socket at this local port has taken from the engine but not given to the peer
 * yet, and the other way round: the far end's view of what is between. */
size_t sim_peer_unsent(const struct sim_peer *p);   /* written by us, not yet read by the engine */
size_t sim_peer_incoming(const struct sim_peer *p); /* written by the engine, not yet read by us */

/* ---- pseudo-random streams ---- */

/* Byte at `offset` of stream `id`: what both ends agree to send. */
uint8_t sim_stream_byte(uint64_t id, uint64_t offset);
void sim_stream_fill(uint64_t id, uint64_t offset, void *buf, size_t len);
/* Fails the run at the first difference. */
void sim_stream_verify(uint64_t id, uint64_t offset, const void *buf, size_t len);

#endif
