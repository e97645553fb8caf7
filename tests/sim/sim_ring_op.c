/*
 * sim_ring_op - how each kind of op goes on in the simulated kernel, one step a round.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/chain.h"
#include "sim_ring.h"

const char *sim_op_name(const struct sim_op *o)
{
    static const char *const names[] = {
        "accept", "connect", "recv", "send", "poll", "poll (real)", "peername", "fault",
    };
    return names[o->kind];
}

struct sim_op *sim_op_find(const struct cs_ring *r, const struct cs_op *op)
{
    for (const struct cs_list *it = r->ops.next; it != &r->ops; it = it->next) {
        struct sim_op *o = cs_container_of(it, struct sim_op, node);
        if (o->op == op) {
            return o;
        }
    }
    return NULL;
}

/* FNV-1a; reads every byte, so that freed memory shows at once. */
uint64_t sim_op_sum(const struct sim_op *o)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (unsigned i = 0; i < o->iov_n; i++) {
        const uint8_t *p = o->iov[i].iov_base;
        for (size_t n = 0; n < o->iov[i].iov_len; n++) {
            sum = (sum ^ p[n]) * 0x100000001b3u;
        }
    }
    return sum;
}

void sim_op_post(struct sim_op *o, int res, bool more, struct cs_slice *slice)
{
    const struct sim_config *c = &sim_world.config;
    struct sim_pending *p = calloc(1, sizeof *p);
    p->ev = (struct cs_event){.op = o->op, .res = res, .more = more, .slice = slice};
    p->delay = sim_chance(c->delay_pm) ? (unsigned)sim_between(1, c->delay_rounds) : 0;
    cs_list_append(&o->pending, &p->node);
    o->ended = !more;
    sim_trace("kern  %s fd=%x sock#%u: res=%d%s%s", sim_op_name(o), (unsigned)o->fd,
              o->sock ? o->sock->id : 0, res, more ? " more" : "", p->delay ? " (delayed)" : "");
}

/* ---- one kind each ---- */

static void step_accept(struct cs_ring *r, struct sim_op *o)
{
    const struct sim_config *c = &sim_world.config;
    if (r->slots_accepted == r->slots_split) {
        if (c->enfile_loses) {
            sim_sock_close(sim_listener_pop(o->listener), true);
        }
        sim_op_post(o, r->direct ? -ENFILE : -EMFILE, false, NULL);
        return;
    }
    struct sim_sock *s = sim_listener_pop(o->listener);
    cs_fd fd = sim_fd_install(r, s, true);
    sim_op_post(o, fd, !o->once && !sim_chance(c->accept_end_pm), NULL);
}

static void step_connect(struct sim_op *o)
{
    struct sim_sock *s = o->sock;
    int err = s->state == SIM_DEAD ? s->err : 0;
    if (!s->was_up) {
        s->err = 0;
    } else {
        err = 0;
    }
    sim_op_post(o, -err, false, NULL);
}

/* As Linux does, an empty one ends the op. */
static void step_recv_datagram(struct cs_ring *r, struct sim_op *o)
{
    const struct sim_group *g = &r->groups[CS_RING_DATAGRAM];
    struct sim_sock *s = o->sock;
    if (s->err) {
        int err = s->err;
        s->err = 0;
        sim_op_post(o, -err, false, NULL);
    } else if (g->filled == g->count) {
        sim_op_post(o, -ENOBUFS, false, NULL);
    } else {
        struct cs_slice *slice = sim_slice_fill_datagram(r, s);
        bool more = slice->len > 0 && !sim_chance(sim_world.config.recv_end_pm);
        sim_op_post(o, (int)slice->len, more, slice);
    }
}

static void step_recv(struct cs_ring *r, struct sim_op *o)
{
    const struct sim_config *c = &sim_world.config;
    struct sim_group *g = &r->groups[o->group];
    struct sim_sock *s = o->sock;
    if (s->datagram) {
        step_recv_datagram(r, o);
        return;
    }
    if (s->rx.len == 0) {
        sim_op_post(o, (int)sim_sock_read(s, NULL, 0), false, NULL);
        return;
    }
    if (g->filled == g->count) {
        sim_op_post(o, -ENOBUFS, false, NULL);
        return;
    }
    size_t n = CS_MIN(s->rx.len, g->size);
    if (sim_chance(c->recv_short_pm)) {
        n = sim_size(n);
    }
    struct cs_slice *slice = sim_slice_fill(r, o->group, s, n);
    sim_op_post(o, (int)n, !sim_chance(c->recv_end_pm), slice);
}

/* Bytes up to `limit`, iov by iov. */
static int send_some(struct sim_op *o, size_t limit)
{
    size_t done = 0;
    for (unsigned i = 0; i < o->iov_n && done < limit; i++) {
        size_t want = CS_MIN(o->iov[i].iov_len, limit - done);
        ssize_t n = sim_sock_write(o->sock, o->iov[i].iov_base, want);
        if (n < 0) {
            return done ? (int)done : (int)n;
        }
        done += (size_t)n;
        if ((size_t)n < want) {
            break;
        }
    }
    return (int)done;
}

static void step_send(struct sim_op *o)
{
    size_t total = 0;
    for (unsigned i = 0; i < o->iov_n; i++) {
        total += o->iov[i].iov_len;
    }
    if (sim_op_sum(o) != o->sum) {
        sim_fail("the bytes of an armed send (fd %x) have changed", (unsigned)o->fd);
    }
    if (sim_chance(sim_world.config.send_short_pm)) {
        total = sim_size(CS_MIN(total, CS_MAX(sim_bytes_room(&o->sock->tx), (size_t)1)));
    }
    sim_op_post(o, send_some(o, total), false, NULL);
}

static void step_peername(struct sim_op *o)
{
    const struct sim_sock *s = o->sock;
    if (s->state != SIM_UP) {
        sim_op_post(o, -ENOTCONN, false, NULL);
        return;
    }
    memcpy(o->name, &s->remote.sa, CS_MIN((size_t)s->remote.len, sizeof *o->name));
    sim_op_post(o, 0, false, NULL);
}

static unsigned poll_real(const struct sim_op *o)
{
    struct pollfd p = {.fd = o->fd, .events = (short)o->events};
    return poll(&p, 1, 0) > 0 ? (unsigned)p.revents : 0;
}

/* ---- all kinds ---- */

static unsigned poll_bits(const struct sim_op *o)
{
    return sim_sock_poll(o->sock) & (o->events | POLLERR | POLLHUP | POLLRDHUP);
}

static void step_poll(struct sim_op *o)
{
    unsigned bits = poll_bits(o);
    o->told = bits;
    sim_op_post(o, (int)bits, o->changes, NULL);
}

static bool ready(struct sim_op *o)
{
    switch (o->kind) {
    case SIM_OP_ACCEPT:
        return o->listener->queued > 0;
    case SIM_OP_CONNECT:
        return o->sock->state == SIM_UP || o->sock->state == SIM_DEAD;
    case SIM_OP_RECV:
        return sim_sock_readable(o->sock);
    case SIM_OP_SEND:
        return sim_sock_writable(o->sock);
    case SIM_OP_POLL:
        o->told &= poll_bits(o);
        return (poll_bits(o) & ~o->told) != 0;
    case SIM_OP_POLL_REAL:
        return poll_real(o) != 0;
    case SIM_OP_PEERNAME:
        return true;
    case SIM_OP_FAULT:
        break;
    }
    return false;
}

static void go_on(struct cs_ring *r, struct sim_op *o)
{
    switch (o->kind) {
    case SIM_OP_ACCEPT:
        step_accept(r, o);
        break;
    case SIM_OP_CONNECT:
        step_connect(o);
        break;
    case SIM_OP_RECV:
        step_recv(r, o);
        break;
    case SIM_OP_SEND:
        step_send(o);
        break;
    case SIM_OP_POLL:
        step_poll(o);
        break;
    case SIM_OP_POLL_REAL:
        sim_op_post(o, (int)poll_real(o), false, NULL);
        break;
    case SIM_OP_PEERNAME:
        step_peername(o);
        break;
    case SIM_OP_FAULT:
        break;
    }
}

bool sim_op_step(struct cs_ring *r, struct sim_op *o)
{
    if (o->ended) {
        return false;
    }
    if (o->cancelled) {
        if (o->cancel_rounds == 0) {
            sim_op_post(o, -ECANCELED, false, NULL);
            return true;
        }
        o->cancel_rounds--;
    }
    if (ready(o)) {
        if (sim_chance(sim_world.config.progress_pm)) {
            go_on(r, o);
        }
        return true;
    }
    return o->cancelled;
}
