/*
 * sim_net - the simulated network: sockets, listeners, routes, and how bytes, FIN and RST get from
 * one end to the other. Follows Linux where that shows: what arrived before an RST can still be
 * read; the error of an RST is told once, then reads see the end and writes EPIPE; closing with
 * unread input sends RST; bytes for a socket that nobody holds are answered by RST.
 */
#include "sim_world.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* ---- bytes ---- */

size_t sim_bytes_room(const struct sim_bytes *b)
{
    return b->size - b->len;
}

void sim_bytes_push(struct sim_bytes *b, const void *data, size_t n)
{
    if (!b->data) {
        b->data = malloc(b->size);
    }
    size_t at = (b->head + b->len) % b->size;
    size_t first = CS_MIN(n, b->size - at);
    memcpy(b->data + at, data, first);
    memcpy(b->data, (const uint8_t *)data + first, n - first);
    b->len += n;
}

void sim_bytes_pop(struct sim_bytes *b, void *to, size_t n)
{
    if (n == 0) {
        return;
    }
    size_t first = CS_MIN(n, b->size - b->head);
    memcpy(to, b->data + b->head, first);
    memcpy((uint8_t *)to + first, b->data, n - first);
    b->head = (b->head + n) % b->size;
    b->len -= n;
}

void sim_bytes_clear(struct sim_bytes *b)
{
    b->head = b->len = 0;
}

void sim_bytes_free(struct sim_bytes *b)
{
    free(b->data);
    b->data = NULL;
}

/* ---- sockets ---- */

struct sim_sock *sim_sock_create(void)
{
    struct sim_sock *s = calloc(1, sizeof *s);
    s->id = ++sim_world.next_id;
    s->rx.size = sim_world.config.rcvbuf;
    s->tx.size = sim_world.config.sndbuf;
    s->owned = true;
    cs_list_init(&s->queue_node);
    cs_list_append(&sim_world.socks, &s->node);
    return s;
}

static void sock_free(struct sim_sock *s)
{
    if (s->peer) {
        s->peer->peer = NULL;
    }
    cs_list_remove(&s->node);
    cs_list_remove(&s->queue_node);
    if (s->datagram) {
        sim_datagrams_drop(&s->datagrams);
    }
    sim_bytes_free(&s->rx);
    sim_bytes_free(&s->tx);
    free(s);
}

uint64_t sim_latency(void)
{
    return sim_world.config.latency_ms ? sim_below(sim_world.config.latency_ms + 1) : 0;
}

static bool port_is_used(uint16_t port)
{
    cs_list_each(it, tmp, &sim_world.socks) {
        if (cs_addr_port(&cs_container_of(it, struct sim_sock, node)->local) == port) {
            return true;
        }
    }
    cs_list_each(it, tmp, &sim_world.listeners) {
        if (cs_addr_port(&cs_container_of(it, struct sim_listener, node)->addr) == port) {
            return true;
        }
    }
    return false;
}

/* One after the other; the next time round, those that are in use are passed over. */
uint16_t sim_port(void)
{
    uint16_t port;
    do {
        port = sim_world.next_port;
        sim_world.next_port = port == UINT16_MAX ? SIM_PORT_FIRST : (uint16_t)(port + 1);
    } while (port_is_used(port));
    return port;
}

/* Something is to go to the other end; a chain of small sends does not push the arrival away. */
static void sock_schedule(struct sim_sock *s)
{
    if (s->tx_due_ms <= sim_world.now_ms) {
        s->tx_due_ms = sim_world.now_ms + sim_latency();
    }
}

static void sock_die(struct sim_sock *s, int err)
{
    s->state = SIM_DEAD;
    s->err = err;
    s->rst_queued = false;
    sim_bytes_clear(&s->tx);
}

/* An RST has arrived at s. */
static void sock_reset_arrives(struct sim_sock *s)
{
    if (s->state != SIM_UP) {
        return;
    }
    sim_trace("net   sock#%u gets RST", s->id);
    sock_die(s, s->fin_got && !s->fin_queued ? EPIPE : ECONNRESET);
}

/* Sends RST: what was not delivered yet is lost. */
static void sock_queue_reset(struct sim_sock *s)
{
    sim_bytes_clear(&s->tx);
    s->rst_queued = true;
    s->fin_queued = true;
    sock_schedule(s);
}

void sim_sock_close(struct sim_sock *s, bool reset)
{
    s->owned = false;
    if (s->state != SIM_UP) {
        sock_free(s);
        return;
    }
    if (reset || s->rx.len > 0) {
        sim_trace("net   sock#%u sends RST (%zu unread, %zu unsent)", s->id, s->rx.len, s->tx.len);
        sock_queue_reset(s);
    } else if (!s->fin_queued) {
        s->fin_queued = true;
        sock_schedule(s);
    }
}

int sim_sock_shutdown(struct sim_sock *s)
{
    if (s->state != SIM_UP) {
        return -ENOTCONN;
    }
    if (!s->fin_queued) {
        s->fin_queued = true;
        sock_schedule(s);
    }
    return 0;
}

/* As sock_error(): the first who asks is told. */
static int take_error(struct sim_sock *s)
{
    int err = s->err;
    s->err = 0;
    return -err;
}

ssize_t sim_sock_write(struct sim_sock *s, const void *data, size_t n)
{
    if (s->err) {
        return take_error(s);
    }
    if (s->state != SIM_UP || s->fin_queued) {
        return -EPIPE;
    }
    n = CS_MIN(n, sim_bytes_room(&s->tx));
    if (n > 0) {
        sim_bytes_push(&s->tx, data, n);
        sock_schedule(s);
    }
    return (ssize_t)n;
}

ssize_t sim_sock_read(struct sim_sock *s, void *to, size_t n)
{
    if (s->rx.len > 0) {
        n = CS_MIN(n, s->rx.len);
        sim_bytes_pop(&s->rx, to, n);
        return (ssize_t)n;
    }
    if (s->err) {
        return take_error(s);
    }
    return s->fin_got || s->state == SIM_DEAD ? 0 : -EAGAIN;
}

bool sim_sock_readable(const struct sim_sock *s)
{
    if (s->datagram) {
        return s->err || !cs_list_empty(&s->datagrams);
    }
    return s->rx.len > 0 || s->err || s->fin_got || s->state == SIM_DEAD;
}

bool sim_sock_writable(const struct sim_sock *s)
{
    return s->err || s->state == SIM_DEAD || s->fin_queued ||
           (s->state == SIM_UP && sim_bytes_room(&s->tx) > 0);
}

unsigned sim_sock_poll(const struct sim_sock *s)
{
    unsigned bits = 0;
    if (s->datagram) {
        return POLLOUT | (sim_sock_readable(s) ? POLLIN : 0u) | (s->err ? POLLERR : 0u);
    }
    if (s->state == SIM_FRESH || s->state == SIM_CONNECTING) {
        return 0;
    }
    bits |= sim_sock_readable(s) ? POLLIN : 0;
    bits |= sim_sock_writable(s) ? POLLOUT : 0;
    bits |= s->fin_got || s->state == SIM_DEAD ? POLLRDHUP : 0;
    bits |= (s->fin_got && s->fin_queued) || s->state == SIM_DEAD ? POLLHUP : 0;
    bits |= s->err ? POLLERR : 0;
    return bits;
}

/* ---- listeners ---- */

bool sim_addr_is_any(const struct cs_addr *a)
{
    struct cs_addr any;
    if (cs_addr_family(a) == AF_UNIX) {
        return false;
    }
    cs_addr_any(&any, cs_addr_family(a), cs_addr_port(a));
    return cs_addr_equal(a, &any);
}

/* Whether a connect to `to` ends at a listener of `bound`. */
bool sim_addr_reaches(const struct cs_addr *bound, const struct cs_addr *to)
{
    return cs_addr_equal(bound, to) ||
           (cs_addr_family(bound) == cs_addr_family(to) && sim_addr_is_any(bound) &&
            cs_addr_port(bound) == cs_addr_port(to));
}

/* With reuseport several may match: the kernel hashes, we draw. */
static struct sim_listener *listener_find(const struct cs_addr *to)
{
    struct sim_listener *found = NULL;
    unsigned n = 0;
    cs_list_each(it, tmp, &sim_world.listeners) {
        struct sim_listener *l = cs_container_of(it, struct sim_listener, node);
        if (sim_addr_reaches(&l->addr, to) && sim_below(++n) == 0) {
            found = l;
        }
    }
    return found;
}

int sim_listener_open(struct sim_listener **out, struct cs_addr *addr, int backlog, bool reuseport)
{
    if (cs_addr_family(addr) != AF_UNIX && cs_addr_port(addr) == 0) {
        cs_addr_set_port(addr, sim_port());
    }
    cs_list_each(it, tmp, &sim_world.listeners) {
        struct sim_listener *l = cs_container_of(it, struct sim_listener, node);
        if ((sim_addr_reaches(&l->addr, addr) || sim_addr_reaches(addr, &l->addr)) &&
            !(l->reuseport && reuseport)) {
            return -EADDRINUSE;
        }
    }
    struct sim_listener *l = calloc(1, sizeof *l);
    l->addr = *addr;
    l->backlog = backlog > 0 ? (unsigned)backlog : 4096;
    l->reuseport = reuseport;
    l->fd = -1;
    cs_list_init(&l->queue);
    cs_list_append(&sim_world.listeners, &l->node);
    *out = l;
    return 0;
}

struct sim_sock *sim_listener_pop(struct sim_listener *l)
{
    struct cs_list *first = cs_list_first(&l->queue);
    if (!first) {
        return NULL;
    }
    cs_list_remove(first);
    l->queued--;
    return cs_container_of(first, struct sim_sock, queue_node);
}

void sim_listener_close(struct sim_listener *l)
{
    struct sim_sock *s;
    while ((s = sim_listener_pop(l))) {
        sim_sock_close(s, true);
    }
    cs_list_remove(&l->node);
    free(l);
}

/* ---- routes and connecting ---- */

struct route {
    struct cs_list node;
    struct cs_addr addr;
    enum sim_route route;
};

static struct route *route_find(const struct cs_addr *a)
{
    cs_list_each(it, tmp, &sim_world.routes) {
        struct route *r = cs_container_of(it, struct route, node);
        if (cs_addr_equal(&r->addr, a)) {
            return r;
        }
    }
    return NULL;
}

void sim_route(const struct cs_addr *a, enum sim_route route)
{
    struct route *r = route_find(a);
    if (!r) {
        r = calloc(1, sizeof *r);
        r->addr = *a;
        cs_list_append(&sim_world.routes, &r->node);
    }
    r->route = route;
}

void sim_sock_connect(struct sim_sock *s, const struct cs_addr *remote, const struct cs_addr *local)
{
    s->state = SIM_CONNECTING;
    s->remote = *remote;
    if (local) {
        s->local = *local;
    } else if (cs_addr_family(remote) == AF_UNIX) {
        s->local.len = sizeof(sa_family_t);
        s->local.sa.sa_family = AF_UNIX;
    } else if (cs_addr_parse(&s->local, cs_addr_family(remote) == AF_INET ? "127.0.0.1" : "::1",
                             0) < 0) {
        sim_fail("cs_addr_parse does not know the loopback address");
    }
    if (cs_addr_family(remote) != AF_UNIX && cs_addr_port(&s->local) == 0) {
        cs_addr_set_port(&s->local, sim_port());
    }
    s->tx_due_ms = sim_world.now_ms + sim_latency();
}

/* The other end of a connecting socket comes into being. */
static struct sim_sock *sock_meet(struct sim_sock *s)
{
    struct sim_sock *far = sim_sock_create();
    far->state = s->state = SIM_UP;
    far->was_up = s->was_up = true;
    far->peer = s;
    s->peer = far;
    far->local = s->remote;
    far->remote = s->local;
    sim_trace("net   sock#%u connected, other end sock#%u", s->id, far->id);
    return far;
}

static void connect_step(struct sim_sock *s)
{
    const struct route *r = route_find(&s->remote);
    switch (r ? r->route : SIM_ROUTE_OPEN) {
    case SIM_ROUTE_BLACKHOLE:
        return;
    case SIM_ROUTE_REFUSE:
        sock_die(s, ECONNREFUSED);
        return;
    case SIM_ROUTE_UNREACH:
        sock_die(s, EHOSTUNREACH);
        return;
    case SIM_ROUTE_RESET:
        sim_sock_close(sock_meet(s), true);
        return;
    case SIM_ROUTE_OPEN:
        break;
    }
    struct sim_listener *l = listener_find(&s->remote);
    if (!l) {
        sock_die(s, cs_addr_family(&s->remote) == AF_UNIX ? ENOENT : ECONNREFUSED);
    } else if (l->queued < l->backlog) { /* with reuseport another one may have been drawn */
        cs_list_append(&l->queue, &sock_meet(s)->queue_node);
        l->queued++;
    }
}

/* ---- the network's part of a round ---- */

/* Bytes of s reach an end that nobody holds: it answers with RST and forgets what it had to send.
 */
static void bytes_hit_orphan(struct sim_sock *s)
{
    if (s->peer) {
        sim_bytes_clear(&s->peer->tx);
        s->peer->fin_queued = true;
        s->peer->state = SIM_DEAD;
    }
    sock_reset_arrives(s);
}

static void move_bytes(struct sim_sock *s)
{
    struct sim_sock *to = s->peer;
    if (!to || !to->owned) {
        bytes_hit_orphan(s);
        return;
    }
    size_t n = sim_size(CS_MIN(s->tx.len, sim_bytes_room(&to->rx)));
    uint8_t *copy = malloc(n);
    sim_bytes_pop(&s->tx, copy, n);
    sim_bytes_push(&to->rx, copy, n);
    free(copy);
    sock_schedule(s);
}

static void move_fin(struct sim_sock *s)
{
    s->fin_sent = true;
    if (s->peer) {
        sim_trace("net   sock#%u gets FIN", s->peer->id);
        s->peer->fin_got = true;
    }
}

static void move_reset(struct sim_sock *s)
{
    s->rst_queued = false;
    s->fin_sent = true;
    s->state = SIM_DEAD;
    if (s->peer) {
        sock_reset_arrives(s->peer);
    }
}

/* A SYN that finds no room in the backlog is dropped and sent again, until there is some. */
static bool connect_can_work(const struct sim_sock *s)
{
    const struct route *r = route_find(&s->remote);
    if (r && r->route != SIM_ROUTE_OPEN) {
        return r->route != SIM_ROUTE_BLACKHOLE;
    }
    const struct sim_listener *l = listener_find(&s->remote);
    return !l || l->queued < l->backlog;
}

static bool sock_has_work(const struct sim_sock *s)
{
    if (s->state == SIM_CONNECTING) {
        return connect_can_work(s);
    }
    if (s->state != SIM_UP) {
        return false;
    }
    if (s->rst_queued || s->tx.len == 0) {
        return s->rst_queued || (s->fin_queued && !s->fin_sent);
    }
    return !s->peer || !s->peer->owned || sim_bytes_room(&s->peer->rx) > 0;
}

/* An orphan goes when it has nothing more to say. */
static bool sock_is_done(const struct sim_sock *s)
{
    return s->state != SIM_UP || (!s->rst_queued && s->fin_sent && s->tx.len == 0);
}

static void sock_work(struct sim_sock *s)
{
    if (s->state == SIM_CONNECTING) {
        connect_step(s);
    } else if (s->rst_queued) {
        move_reset(s);
    } else if (s->tx.len > 0) {
        move_bytes(s);
    } else {
        move_fin(s);
    }
}

bool sim_network_step(void)
{
    bool any = sim_udp_step();
    /* Appending while walking is fine: a new socket is met in the next round. */
    cs_list_each(it, tmp, &sim_world.socks) {
        struct sim_sock *s = cs_container_of(it, struct sim_sock, node);
        if (s->tx_due_ms <= sim_world.now_ms && sock_has_work(s)) {
            any = true;
            if (sim_chance(sim_world.config.progress_pm)) {
                sock_work(s);
            }
        }
        if (!s->owned && sock_is_done(s)) {
            sock_free(s);
        }
    }
    return any;
}

uint64_t sim_network_next_ms(void)
{
    uint64_t next = sim_udp_next_ms();
    cs_list_each(it, tmp, &sim_world.socks) {
        const struct sim_sock *s = cs_container_of(it, struct sim_sock, node);
        if (sock_has_work(s) && s->tx_due_ms > sim_world.now_ms) {
            next = CS_MIN(next, s->tx_due_ms);
        }
    }
    return next;
}

void sim_network_finish(void)
{
    cs_list_each(it, tmp, &sim_world.listeners) {
        sim_fail("the test left a far listener open");
    }
    cs_list_each(it, tmp, &sim_world.socks) {
        struct sim_sock *s = cs_container_of(it, struct sim_sock, node);
        if (s->owned) {
            sim_fail("sock#%u was never closed", s->id);
        }
        sock_free(s);
    }
    sim_datagrams_drop(&sim_world.flying);
    cs_list_each(it, tmp, &sim_world.routes) {
        cs_list_remove(it);
        free(cs_container_of(it, struct route, node));
    }
}
