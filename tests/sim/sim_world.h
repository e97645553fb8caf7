/*
 * sim_world - what the files of the simulator share: the world of one run, its sockets and files.
 * Not for tests.
 */
#ifndef SIM_SIM_WORLD_H
#define SIM_SIM_WORLD_H

#include "base/list.h"
#include "sim.h"

/* ---- bytes: a bounded circular queue ---- */

struct sim_bytes {
    uint8_t *data; /* allocated with the first byte */
    size_t head, len, size;
};

size_t sim_bytes_room(const struct sim_bytes *b);
void sim_bytes_push(struct sim_bytes *b, const void *data, size_t n);
void sim_bytes_pop(struct sim_bytes *b, void *to, size_t n);
void sim_bytes_clear(struct sim_bytes *b);
void sim_bytes_free(struct sim_bytes *b);

/* ---- sockets ---- */

enum sim_state {
    SIM_FRESH,      /* made, not connected */
    SIM_CONNECTING, /* the network is asked in each round */
    SIM_UP,
    SIM_DEAD, /* reset, or never got up; err says why until somebody was told */
};

struct sim_op;
struct sim_listener;

/* One end of a connection, or a datagram socket. Lives while somebody owns it (a ring, a listener's
 * queue, a far end) and, as the kernel's orphans do, until what it still had to send has arrived.
 */
struct sim_sock {
    struct cs_list node;       /* world.socks */
    struct cs_list queue_node; /* a listener's queue */
    unsigned id;
    enum sim_state state;
    struct sim_sock *peer;    /* NULL: gone; whatever is sent is answered by a reset */
    struct sim_bytes rx;      /* arrived, not read */
    struct cs_list datagrams; /* the same, of a datagram socket: rx.size bounds it */
    size_t rx_bytes;          /* in them */
    struct sim_bytes tx;      /* written, not arrived */
    uint64_t tx_due_ms;       /* nothing of tx, FIN or RST arrives before */
    int err;                  /* told once, as sk_err is */
    bool datagram;            /* stays SIM_FRESH; remote.len > 0: connected */
    bool owned;
    bool was_up;
    bool fin_queued; /* the write side is closed */
    bool fin_sent;   /* ... and the other end knows */
    bool fin_got;
    bool rst_queued; /* an RST is under way to the other end */
    enum sim_route route;
    struct cs_addr local, remote;
    struct sim_op *recv, *send; /* at most one each */
    unsigned ops;               /* armed, all kinds */
    unsigned slot;              /* in its ring */
};

struct sim_sock *sim_sock_create(void);
void sim_sock_connect(struct sim_sock *s, const struct cs_addr *remote,
                      const struct cs_addr *local);
/* The owner lets go. */
void sim_sock_close(struct sim_sock *s, bool reset);
/* 0 or -ENOTCONN. */
int sim_sock_shutdown(struct sim_sock *s);
/* Bytes taken, 0 when there is no room, or -errno. */
ssize_t sim_sock_write(struct sim_sock *s, const void *data, size_t n);
/* Bytes read, 0 at the end, -EAGAIN, or -errno. */
ssize_t sim_sock_read(struct sim_sock *s, void *to, size_t n);
/* Whether read / write would not answer "wait". */
bool sim_sock_readable(const struct sim_sock *s);
bool sim_sock_writable(const struct sim_sock *s);
/* Whether a datagram that is sent to `to` comes to a socket bound to `bound`. */
bool sim_addr_reaches(const struct cs_addr *bound, const struct cs_addr *to);
bool sim_addr_is_any(const struct cs_addr *a);
/* poll(2) bits that hold now. */
unsigned sim_sock_poll(const struct sim_sock *s);

/* ---- datagrams ---- */

/* Of the oldest unread one. */
size_t sim_datagram_len(const struct sim_sock *s);
void sim_datagram_pop(struct sim_sock *s, struct cs_addr *from, void *to);
void sim_datagrams_drop(struct cs_list *list);
/* Their part of sim_network_step and sim_network_next_ms. */
bool sim_udp_step(void);
uint64_t sim_udp_next_ms(void);

/* ---- listeners and files ---- */

struct sim_listener {
    struct cs_list node; /* world.listeners */
    struct cs_addr addr;
    struct cs_list queue; /* sim_sock.queue_node, oldest first */
    unsigned queued, backlog;
    bool reuseport;
    unsigned ops; /* accepts armed */
    int fd;       /* -1: a far end's */
};

/* 0 or -EADDRINUSE; addr gets its port. */
int sim_listener_open(struct sim_listener **out, struct cs_addr *addr, int backlog, bool reuseport);
void sim_listener_close(struct sim_listener *l);
/* The oldest connection in the queue, or NULL. */
struct sim_sock *sim_listener_pop(struct sim_listener *l);

/* Ordinary descriptors, numbered far beyond the real ones. */
#define SIM_FD_BASE (1 << 20)
#define SIM_PORT_FIRST 40000 /* of those that the system gives */
struct sim_file {
    struct sim_sock *sock; /* one of the two, or neither: free */
    struct sim_listener *listener;
};

static inline bool sim_fd_is_ours(cs_fd fd)
{
    return fd >= SIM_FD_BASE;
}
int sim_file_add(struct sim_sock *s, struct sim_listener *l);
/* Fails the run on a descriptor that is not open. */
struct sim_file *sim_file_get(int fd);
void sim_file_remove(int fd);

/* ---- the world ---- */

struct sim_world {
    uint64_t seed, rng, now_ms, turns;
    unsigned round, next_id;
    uint16_t next_port;
    struct sim_config config;
    struct cs_list socks, listeners, routes, rings;
    struct cs_list flying; /* datagrams on their way */
    struct sim_actor *actors;
    bool (*done)(void);
    struct sim_file *files;
    size_t files_len;
};

extern struct sim_world sim_world;

void sim_world_begin(uint64_t seed);
/* Fails the run when something was left over. */
void sim_world_end(void);

/* One round: actors, network, the ops of all rings. True when something happened or could. */
bool sim_world_step(void);
/* When something will happen by itself, UINT64_MAX: never. */
uint64_t sim_world_next_ms(void);

/* Network part of a round, and when it has more. */
bool sim_network_step(void);
uint64_t sim_network_next_ms(void);
/* All rings' ops. */
bool sim_rings_step(void);

uint16_t sim_port(void);
uint64_t sim_latency(void);
void sim_network_finish(void);

#endif
