/*
 * sim_udp - datagrams in the simulated network: each takes its own time (so they overtake each
 * other), some are lost, and one that finds no socket at its address is answered by an error to a
 * connected sender. A socket with a full queue drops what comes, as rcvbuf says.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/chain.h"
#include "sim_ring.h"

/* Sent and under way, or arrived and unread. */
struct datagram {
    struct cs_list node; /* world.flying or sim_sock.datagrams */
    struct cs_addr from, to;
    uint64_t due_ms;
    size_t len;
    uint8_t bytes[];
};

/* ---- sockets ---- */

static void bind_any(struct sim_sock *s, int family)
{
    cs_addr_any(&s->local, family, sim_port());
}

/* An address of this machine that a datagram carries as its sender. */
static struct cs_addr source(const struct sim_sock *s)
{
    struct cs_addr a;
    bool v6 = cs_addr_family(&s->local) == AF_INET6;
    if (!sim_addr_is_any(&s->local)) {
        return s->local;
    }
    if (cs_addr_parse(&a, v6 ? "::1" : "127.0.0.1", cs_addr_port(&s->local)) < 0) {
        sim_fail("cs_addr_parse does not know the loopback address");
    }
    return a;
}

static struct sim_sock *find_bound(const struct cs_addr *to, const struct cs_addr *from)
{
    cs_list_each(it, tmp, &sim_world.socks) {
        struct sim_sock *s = cs_container_of(it, struct sim_sock, node);
        if (s->datagram && s->owned && sim_addr_reaches(&s->local, to) &&
            (s->remote.len == 0 || !from || cs_addr_equal(&s->remote, from))) {
            return s;
        }
    }
    return NULL;
}

/* NULL: the address is taken. */
static struct sim_sock *open_socket(int family, const struct cs_addr *local,
                                    const struct cs_addr *remote)
{
    if (local && cs_addr_port(local) != 0 && find_bound(local, NULL)) {
        return NULL;
    }
    struct sim_sock *s = sim_sock_create();
    s->datagram = true;
    cs_list_init(&s->datagrams);
    if (local) {
        s->local = *local;
    }
    if (local && cs_addr_port(local) == 0) {
        cs_addr_set_port(&s->local, sim_port());
    }
    if (remote) {
        s->remote = *remote;
        if (!local) {
            bind_any(s, family);
        }
    }
    return s;
}

size_t sim_datagram_len(const struct sim_sock *s)
{
    return cs_container_of(s->datagrams.next, struct datagram, node)->len;
}

void sim_datagram_pop(struct sim_sock *s, struct cs_addr *from, void *to)
{
    struct datagram *d = cs_container_of(s->datagrams.next, struct datagram, node);
    *from = d->from;
    memcpy(to, d->bytes, d->len);
    s->rx_bytes -= d->len;
    cs_list_remove(&d->node);
    free(d);
}

void sim_datagrams_drop(struct cs_list *list)
{
    cs_list_each(it, tmp, list) {
        cs_list_remove(it);
        free(cs_container_of(it, struct datagram, node));
    }
}

/* ---- the network ---- */

static int send_datagram(struct sim_sock *s, const void *data, size_t len, const struct cs_addr *to)
{
    if (s->err) {
        int err = s->err;
        s->err = 0;
        return -err;
    }
    if (!to && s->remote.len == 0) {
        return -EDESTADDRREQ;
    }
    if (len > 65507) {
        return -EMSGSIZE;
    }
    to = to ? to : &s->remote;
    if (s->local.len == 0) {
        bind_any(s, cs_addr_family(to));
    }
    if (sim_chance(sim_world.config.lose_pm)) {
        sim_trace("net   a datagram of %zu bytes is lost", len);
        return 0;
    }
    struct datagram *d = malloc(sizeof *d + len);
    d->from = source(s);
    d->to = *to;
    d->due_ms = sim_world.now_ms + sim_latency();
    d->len = len;
    memcpy(d->bytes, data, len);
    cs_list_append(&sim_world.flying, &d->node);
    return 0;
}

/* As ICMP port unreachable: only a connected socket hears of it. */
static void refuse(const struct datagram *d)
{
    struct sim_sock *s = find_bound(&d->from, &d->to);
    if (s && s->remote.len > 0) {
        sim_trace("net   sock#%u gets port unreachable", s->id);
        s->err = ECONNREFUSED;
    }
}

static void arrive(struct datagram *d)
{
    struct sim_sock *s = find_bound(&d->to, &d->from);
    if (s && (cs_list_empty(&s->datagrams) || s->rx_bytes + d->len <= s->rx.size)) {
        s->rx_bytes += d->len;
        cs_list_append(&s->datagrams, &d->node);
        return;
    }
    if (!s) {
        refuse(d);
    }
    sim_trace("net   a datagram of %zu bytes is dropped", d->len);
    free(d);
}

bool sim_udp_step(void)
{
    bool any = false;
    cs_list_each(it, tmp, &sim_world.flying) {
        struct datagram *d = cs_container_of(it, struct datagram, node);
        if (d->due_ms <= sim_world.now_ms) {
            any = true;
            if (sim_chance(sim_world.config.progress_pm)) {
                cs_list_remove(it);
                arrive(d);
            }
        }
    }
    return any;
}

uint64_t sim_udp_next_ms(void)
{
    uint64_t next = UINT64_MAX;
    cs_list_each(it, tmp, &sim_world.flying) {
        next = CS_MIN(next, cs_container_of(it, struct datagram, node)->due_ms);
    }
    return next;
}

/* ---- the ring's face ---- */

cs_fd cs_ring_udp_open(struct cs_ring *r, int family, const struct cs_addr *local,
                       const struct cs_addr *remote, bool join)
{
    if (join) {
        sim_fail("cs_ring_udp_open with join: not simulated");
    }
    struct sim_sock *s = open_socket(family, local, remote);
    if (!s) {
        return -EADDRINUSE;
    }
    cs_fd fd = sim_fd_install(r, s, false);
    if (fd == CS_FD_NONE) {
        sim_sock_close(s, false);
        return r->direct ? -ENFILE : -EMFILE;
    }
    sim_trace("eng   udp fd=%x sock#%u", (unsigned)fd, s->id);
    return fd;
}

void cs_ring_udp_close(struct cs_ring *r, cs_fd fd)
{
    cs_ring_close(r, fd, false);
}

int cs_ring_sendto(struct cs_ring *r, cs_fd fd, const void *data, size_t len,
                   const struct cs_addr *to)
{
    struct sim_sock *s = sim_fd_sock(r, fd);
    if (!s->datagram) {
        sim_fail("cs_ring_sendto on fd %x, which is no datagram socket", (unsigned)fd);
    }
    return sim_chance(sim_world.config.full_pm) ? -EAGAIN : send_datagram(s, data, len, to);
}

void cs_ring_sender(const struct cs_slice *s, struct cs_addr *out)
{
    memcpy(out, s->data - sizeof *out, sizeof *out);
}

/* ---- far ends ---- */

struct sim_udp *sim_udp_open(struct cs_addr *local, const struct cs_addr *remote)
{
    struct sim_sock *s = open_socket(cs_addr_family(local), local, remote);
    if (!s) {
        sim_fail("sim_udp_open: the address is taken");
    }
    *local = source(s);
    return (struct sim_udp *)s;
}

int sim_udp_send(struct sim_udp *u, const void *data, size_t len, const struct cs_addr *to)
{
    return send_datagram((struct sim_sock *)u, data, len, to);
}

ssize_t sim_udp_recv(struct sim_udp *u, void *buf, struct cs_addr *from)
{
    struct sim_sock *s = (struct sim_sock *)u;
    if (cs_list_empty(&s->datagrams)) {
        return -EAGAIN;
    }
    size_t len = sim_datagram_len(s);
    sim_datagram_pop(s, from, buf);
    return (ssize_t)len;
}

void sim_udp_close(struct sim_udp *u)
{
    sim_sock_close((struct sim_sock *)u, false);
}
