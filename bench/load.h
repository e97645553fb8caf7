/*
 * load - the load generator of the bench: the clients in front of a proxy and the origin behind it.
 *
 *   parent ── phase ──▶ children   (one shared page: the parent asks for a phase, children report
 * it) child  ── epoll ──▶ its connections
 *
 * RLIMIT_NOFILE bounds the sockets of one process, so clients and origin are several processes,
 * each with its own descriptor table. Every byte that comes back is compared with what was sent.
 */
#ifndef COSOCK_LOAD_H
#define COSOCK_LOAD_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    LOAD_PROCS_MAX = 64,
    LOAD_ADDRS_MAX = 4096,
    LOAD_PIDS_MAX = 16,
    LOAD_SLICE_MAX = 256 * 1024,
    LOAD_PIPELINE_MAX = 64,
    LOAD_HIST_BUCKETS = 64 * 40,
    LOAD_EVENTS_PER_WAIT = 256,
};

enum load_mode { LOAD_SINK, LOAD_HOLD, LOAD_RR, LOAD_BULK, LOAD_RATE, LOAD_SLOW };
enum load_phase { LOAD_START, LOAD_OPEN, LOAD_RUN, LOAD_VERIFY, LOAD_CLOSE, LOAD_END };
enum load_way { LOAD_UP = 1, LOAD_DOWN = 2, LOAD_BOTH = 3 };

struct load_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    };
    socklen_t len;
};

struct load_addrs {
    struct load_addr at[LOAD_ADDRS_MAX];
    unsigned count;
};

struct load_options {
    enum load_mode mode;
    struct load_addrs to;   /* listening addresses of a sink, addresses of the proxy otherwise */
    struct load_addrs from; /* source addresses, in turn; empty: the kernel chooses */
    unsigned connections;
    unsigned procs;
    unsigned window;   /* connections being opened at once, per process */
    size_t size;       /* bytes of one message */
    double seconds;    /* how long rr and rate run, how long hold holds */
    double warmup;     /* seconds of rr and rate before anything is counted */
    double limit;      /* seconds that any other phase may take */
    unsigned pipeline; /* rr, as fast as answers come: requests under way in a connection */
    double rate;       /* rr: requests a second over all connections; 0: as fast as answers come */
    uint64_t count;    /* rr and rate: end after so many; 0: by time */
    uint64_t bytes;    /* bulk: bytes over all streams, each way */
    enum load_way way;
    double trickle;      /* slow: bytes a second that a connection reads */
    bool udp;            /* datagrams, one for each message */
    bool tls;            /* clients speak TLS */
    bool resume;         /* with the session of an earlier connection of their process */
    bool websocket;      /* clients speak WebSocket */
    const char *preface; /* what a connection begins with, and no answer comes to; NULL: nothing */
    bool wait;           /* hold, slow: a line on standard input ends the holding */
    unsigned alarm_s;    /* the whole program dies after this */
    int pids[LOAD_PIDS_MAX]; /* processes whose CPU time is measured while the load runs */
    unsigned pid_count;
};

/* Nanoseconds in 64 steps per power of two. */
struct load_hist {
    uint64_t at[LOAD_HIST_BUCKETS];
};

/* One per process, in shared memory. Written by the child only, except for the first two. */
struct load_child {
    int pid;
    bool exited;
    _Atomic int finished; /* the last phase it has finished */
    _Atomic uint64_t opened, resumed, verified, reverified, lost, failed, bad, done, bytes;
    _Atomic uint64_t accepted, closed;
    char note[160]; /* the first thing that went wrong */
    struct load_hist hist;
};

struct load_shared {
    _Atomic int phase;
    _Atomic uint64_t record_ns; /* requests that began earlier do not count */
    _Atomic uint64_t begin_ns;  /* of the phase LOAD_RUN */
    unsigned procs;
    struct load_child child[LOAD_PROCS_MAX];
};

/* First bytes of a bulk connection. Whatever begins differently is echoed. */
struct load_header {
    char magic[8];
    uint64_t base;
    uint64_t up;   /* bytes the client will send */
    uint64_t down; /* bytes the sink shall send */
};

/* The sink's last word on a bulk connection. */
struct load_verdict {
    char magic[8];
    uint64_t bad;
};

#define LOAD_HEADER_MAGIC "\x01load\x02\x03\x04"
#define LOAD_VERDICT_MAGIC "\x05verd\x06\x07\x08"

/* ---- load_util.c ---- */

void load_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Raises RLIMIT_NOFILE to the hard limit; the descriptors that connections of one process may use.
 */
unsigned load_descriptors(void);

uint64_t load_now_ns(void);

/* "127.0.0.1:9000-9003", "127.0.0.1-127.0.0.9:80", "[::1]:80", without a port when `ports` is
 * false. Ends the program unless the address is a loopback one. */
void load_parse_addrs(struct load_addrs *out, const char *text, bool ports);

/* The pseudo-random stream of a connection: `base` tells the connections apart, a slice of up to
 * LOAD_SLICE_MAX bytes lies at every position. */
void load_stream_init(void);
uint64_t load_stream_base(uint64_t id);
const unsigned char *load_stream_at(uint64_t base, uint64_t position);

void load_hist_add(struct load_hist *h, uint64_t ns);
void load_hist_merge(struct load_hist *into, const struct load_hist *from);
uint64_t load_hist_total(const struct load_hist *h);
uint64_t load_hist_percentile(const struct load_hist *h, double percent);

/* CPU time of all threads of the processes and their children, user and system, in nanoseconds. */
uint64_t load_cpu_ns(const int *pids, unsigned count);

/* Remembers the first thing that went wrong in this process. */
void load_note(struct load_child *child, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- load_sink.c, load_client.c: what a child does, until it ends ---- */

/* Opens the listening sockets; `listeners` has room for o->to.count. */
void load_sink_listen(const struct load_options *o, int *listeners);
void load_sink_child(const struct load_options *o, struct load_shared *shared,
                     struct load_child *child, const int *listeners);
void load_client_child(const struct load_options *o, struct load_shared *shared,
                       struct load_child *child, unsigned index);

#endif
