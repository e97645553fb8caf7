/*
 * sim_ring - engine/ring's face over the simulated kernel, and the rules of that face as checks: no
 * op armed twice, none armed on a descriptor that is closed, bytes of a send unchanged, everything
 * given back at the end.
 */
#include "sim_ring.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

/* A ring of a test has far fewer ops than this. */
#define CANDIDATES_MAX 4096

/* ---- set-up ---- */

void cs_ring_config_default(struct cs_ring_config *config)
{
    const struct sim_config *c = &sim_world.config;
    *config = (struct cs_ring_config){
        .slots_max = c->slots_max,
        .small_buffers = c->small_buffers,
        .small_size = c->small_size,
        .bulk_buffers = c->bulk_buffers,
        .bulk_size = c->bulk_size,
        .datagram_buffers = c->datagram_buffers,
        .datagram_size = 17 * 4096,
    };
}

int cs_ring_create(struct cs_ring **out, const struct cs_ring_config *config, char *why,
                   size_t why_size)
{
    (void)why;
    (void)why_size;
    struct cs_ring *r = calloc(1, sizeof *r);
    cs_list_init(&r->ops);
    cs_list_init(&r->released);
    r->groups[0] = (struct sim_group){.count = config->small_buffers, .size = config->small_size};
    r->groups[1] = (struct sim_group){.count = config->bulk_buffers, .size = config->bulk_size};
    r->groups[2] =
        (struct sim_group){.count = config->datagram_buffers, .size = config->datagram_size};
    r->direct = sim_world.config.direct;
    r->slots_total = config->slots_max ? config->slots_max : sim_world.config.slots_max;
    r->slots_split = r->slots_total / 2;
    r->slots = calloc(r->slots_total, sizeof *r->slots);
    cs_list_append(&sim_world.rings, &r->node);
    *out = r;
    return 0;
}

void cs_ring_destroy(struct cs_ring *r)
{
    if (!r) {
        return;
    }
    cs_list_each(it, tmp, &r->ops) {
        struct sim_op *o = cs_container_of(it, struct sim_op, node);
        sim_fail("the ring is destroyed with a %s armed on fd %x", sim_op_name(o), (unsigned)o->fd);
    }
    if (r->sockets) {
        sim_fail("the ring is destroyed with %u sockets open", r->sockets);
    }
    sim_slices_free(r);
    cs_list_remove(&r->node);
    free(r->slots);
    free(r);
}

unsigned cs_ring_features(const struct cs_ring *r)
{
    return r->direct ? CS_RING_DIRECT : 0;
}

void cs_ring_describe(char *buf, size_t size)
{
    snprintf(buf, size, "simulated ring");
}

/* ---- descriptors ---- */

cs_fd sim_fd_install(struct cs_ring *r, struct sim_sock *s, bool accepted)
{
    /* Ordinary descriptors have a limit too; both halves are counted alike to keep it simple. */
    unsigned from = accepted ? 0 : r->slots_split;
    unsigned to = accepted ? r->slots_split : r->slots_total;
    for (unsigned i = from; i < to; i++) {
        if (!r->slots[i]) {
            r->slots[i] = s;
            r->slots_accepted += accepted;
            r->sockets++;
            s->slot = i;
            return r->direct ? (cs_fd)(i | CS_FD_DIRECT) : sim_file_add(s, NULL);
        }
    }
    return CS_FD_NONE;
}

struct sim_sock *sim_fd_sock(const struct cs_ring *r, cs_fd fd)
{
    struct sim_sock *s = NULL;
    if (fd < 0) {
        sim_fail("descriptor %d is used", fd);
    }
    if (fd & CS_FD_DIRECT) {
        unsigned slot = (unsigned)(fd & ~CS_FD_DIRECT);
        s = r->direct && slot < r->slots_total ? r->slots[slot] : NULL;
    } else {
        s = sim_file_get(fd)->sock;
    }
    if (!s || s->slot >= r->slots_total || r->slots[s->slot] != s) {
        sim_fail("descriptor %x is not an open socket of this ring", (unsigned)fd);
    }
    return s;
}

void sim_fd_release(struct cs_ring *r, cs_fd fd)
{
    struct sim_sock *s = sim_fd_sock(r, fd);
    if (s->slot < r->slots_split) {
        r->slots_accepted--;
    }
    r->slots[s->slot] = NULL;
    r->sockets--;
    if (!(fd & CS_FD_DIRECT)) {
        sim_file_remove(fd);
    }
}

unsigned cs_ring_accept_room(const struct cs_ring *r)
{
    return r->direct ? r->slots_split - r->slots_accepted : UINT_MAX;
}

unsigned cs_ring_accept_max(const struct cs_ring *r)
{
    return r->direct ? r->slots_split : UINT_MAX;
}

cs_fd cs_ring_adopt(struct cs_ring *r, int fd)
{
    struct sim_sock *s = sim_file_get(fd)->sock;
    if (!s) {
        sim_fail("cs_ring_adopt of a listener");
    }
    sim_file_remove(fd);
    cs_fd out = sim_fd_install(r, s, false);
    if (out == CS_FD_NONE) {
        sim_sock_close(s, false);
        return r->direct ? -ENFILE : -EMFILE;
    }
    return out;
}

/* ---- listening ---- */

int cs_listen_open(int *fd, struct cs_addr *addr, const struct cs_listen_options *o)
{
    struct sim_listener *l;
    int err = sim_listener_open(&l, addr, o->backlog, o->reuseport);
    if (err < 0) {
        return err;
    }
    *fd = l->fd = sim_file_add(NULL, l);
    return 0;
}

static struct sim_listener *listener_of(int fd)
{
    struct sim_listener *l = sim_file_get(fd)->listener;
    if (!l) {
        sim_fail("descriptor %d is not a listener", fd);
    }
    return l;
}

/* A simulated process is nobody's heir. */
int cs_listen_adopt(int fd, struct cs_addr *addr)
{
    (void)fd;
    (void)addr;
    return -EINVAL;
}

void cs_listen_close(int fd, const struct cs_addr *addr)
{
    struct sim_listener *l = listener_of(fd);
    if (l->ops) {
        sim_fail("a listener is closed with an accept armed");
    }
    if (!cs_addr_equal(addr, &l->addr)) {
        sim_fail("cs_listen_close is given another address than cs_listen_open gave");
    }
    sim_file_remove(fd);
    sim_listener_close(l);
}

int cs_listen_accept_now(int fd)
{
    struct sim_listener *l = listener_of(fd);
    if (l->ops) {
        sim_fail("cs_listen_accept_now with an accept armed");
    }
    struct sim_sock *s = sim_listener_pop(l);
    return s ? sim_file_add(s, NULL) : -EAGAIN;
}

/* ---- starting and ending ops ---- */

static struct sim_op *arm(struct cs_ring *r, struct cs_op *op, enum sim_op_kind kind, cs_fd fd,
                          struct sim_sock *s)
{
    if (op->armed || sim_op_find(r, op)) {
        sim_fail("an op is started (fd %x) that is armed already", (unsigned)fd);
    }
    op->armed = true;
    op->cancelling = false;
    struct sim_op *o = calloc(1, sizeof *o);
    o->op = op;
    o->kind = kind;
    o->fd = fd;
    o->sock = s;
    cs_list_init(&o->pending);
    cs_list_append(&r->ops, &o->node);
    if (s) {
        s->ops++;
    }
    sim_trace("eng   %s fd=%x sock#%u", sim_op_name(o), (unsigned)fd, s ? s->id : 0);
    bool can_fail = kind != SIM_OP_POLL_REAL && kind != SIM_OP_FAULT;
    if (can_fail && sim_chance(sim_world.config.start_error_pm)) {
        sim_op_post(o, -ENOMEM, false, NULL);
    }
    return o;
}

void cs_ring_accept(struct cs_ring *r, struct cs_op *op, int listen_fd, bool once)
{
    struct sim_listener *l = listener_of(listen_fd);
    struct sim_op *o = arm(r, op, SIM_OP_ACCEPT, listen_fd, NULL);
    o->listener = l;
    o->once = once;
    l->ops++;
}

void cs_ring_connect(struct cs_ring *r, struct cs_op *op, cs_fd *fd, const struct cs_addr *remote,
                     const struct cs_addr *local)
{
    struct sim_sock *s = sim_sock_create();
    *fd = sim_fd_install(r, s, false);
    if (*fd == CS_FD_NONE) {
        sim_sock_close(s, false);
        sim_op_post(arm(r, op, SIM_OP_FAULT, CS_FD_NONE, NULL), r->direct ? -ENFILE : -EMFILE,
                    false, NULL);
        return;
    }
    sim_sock_connect(s, remote, local);
    arm(r, op, SIM_OP_CONNECT, *fd, s);
}

void cs_ring_recv(struct cs_ring *r, struct cs_op *op, cs_fd fd, enum cs_ring_group group)
{
    struct sim_sock *s = sim_fd_sock(r, fd);
    if (s->recv) {
        sim_fail("two receives are armed on fd %x: their bytes would mix", (unsigned)fd);
    }
    if (s->datagram != (group == CS_RING_DATAGRAM)) {
        sim_fail("fd %x receives into the buffers of group %d", (unsigned)fd, (int)group);
    }
    s->recv = arm(r, op, SIM_OP_RECV, fd, s);
    s->recv->group = group;
}

void cs_ring_send(struct cs_ring *r, struct cs_op *op, cs_fd fd, const struct iovec *iov,
                  unsigned n)
{
    struct sim_sock *s = sim_fd_sock(r, fd);
    if (s->send) {
        sim_fail("two sends are armed on fd %x: their order is open", (unsigned)fd);
    }
    if (n < 1 || n > CS_RING_IOV_MAX) {
        sim_fail("a send of %u parts", n);
    }
    struct sim_op *o = s->send = arm(r, op, SIM_OP_SEND, fd, s);
    memcpy(o->iov, iov, n * sizeof *iov);
    o->iov_n = n;
    o->sum = sim_op_sum(o);
    for (unsigned i = 0; i < n; i++) {
        if (iov[i].iov_len == 0) {
            sim_fail("a send (fd %x) has an empty part", (unsigned)fd);
        }
    }
}

void cs_ring_poll(struct cs_ring *r, struct cs_op *op, cs_fd fd, unsigned events)
{
    bool real = !(fd & CS_FD_DIRECT) && !sim_fd_is_ours(fd);
    struct sim_op *o = real ? arm(r, op, SIM_OP_POLL_REAL, fd, NULL)
                            : arm(r, op, SIM_OP_POLL, fd, sim_fd_sock(r, fd));
    o->events = events;
}

void cs_ring_poll_changes(struct cs_ring *r, struct cs_op *op, cs_fd fd, unsigned events)
{
    struct sim_op *o = arm(r, op, SIM_OP_POLL, fd, sim_fd_sock(r, fd));
    o->events = events;
    o->changes = true;
}

void cs_ring_peername(struct cs_ring *r, struct cs_op *op, cs_fd fd, int family,
                      struct sockaddr_in6 *out)
{
    struct sim_sock *s = sim_fd_sock(r, fd);
    if (family != cs_addr_family(&s->local)) {
        sim_fail("cs_ring_peername with family %d on a socket of family %d", family,
                 cs_addr_family(&s->local));
    }
    arm(r, op, SIM_OP_PEERNAME, fd, s)->name = out;
}

void cs_ring_cancel(struct cs_ring *r, struct cs_op *op)
{
    if (!op->armed || op->cancelling) {
        return;
    }
    op->cancelling = true;
    /* Not found: the final event has been delivered and waits for its handler. */
    struct sim_op *o = sim_op_find(r, op);
    if (o) {
        sim_trace("eng   cancel %s fd=%x", sim_op_name(o), (unsigned)o->fd);
        o->cancelled = true;
        o->cancel_rounds = (unsigned)sim_below(sim_world.config.cancel_rounds + 1);
    }
}

/* ---- calls that are over when they return ---- */

void cs_ring_close(struct cs_ring *r, cs_fd fd, bool reset)
{
    struct sim_sock *s = sim_fd_sock(r, fd);
    if (s->ops) {
        sim_fail("fd %x is closed with %u ops armed%s%s", (unsigned)fd, s->ops,
                 s->recv ? ", one a receive" : "", s->send ? ", one a send" : "");
    }
    sim_trace("eng   close fd=%x sock#%u%s", (unsigned)fd, s->id, reset ? " (reset)" : "");
    sim_fd_release(r, fd);
    sim_sock_close(s, reset);
}

ssize_t cs_ring_send_now(struct cs_ring *r, cs_fd fd, const struct iovec *iov, unsigned n)
{
    struct sim_sock *s = sim_fd_sock(r, fd);
    size_t done = 0;
    if (s->send) {
        sim_fail("a send is made (fd %x) while one is armed: their order is open", (unsigned)fd);
    }
    for (unsigned i = 0; i < n; i++) {
        bool cut = sim_chance(sim_world.config.send_short_pm);
        size_t want = cut ? sim_size(iov[i].iov_len) : iov[i].iov_len;
        ssize_t taken = sim_sock_write(s, iov[i].iov_base, want);
        if (taken < 0) {
            return done ? (ssize_t)done : taken;
        }
        done += (size_t)taken;
        if ((size_t)taken < iov[i].iov_len) {
            break;
        }
    }
    sim_trace("eng   send now fd=%x sock#%u: %zu", (unsigned)fd, s->id, done);
    return (ssize_t)done;
}

int cs_ring_dup(struct cs_ring *r, cs_fd fd)
{
    (void)sim_fd_sock(r, fd);
    return -ENOSYS;
}

int cs_ring_shutdown(struct cs_ring *r, cs_fd fd)
{
    struct sim_sock *s = sim_fd_sock(r, fd);
    if (sim_chance(sim_world.config.shutdown_error_pm)) {
        return -EMFILE;
    }
    sim_trace("eng   shutdown fd=%x sock#%u", (unsigned)fd, s->id);
    return sim_sock_shutdown(s);
}

int cs_ring_setsockopt(struct cs_ring *r, cs_fd fd, int level, int name, const void *value,
                       socklen_t len)
{
    (void)level;
    (void)name;
    (void)value;
    (void)len;
    (void)sim_fd_sock(r, fd);
    return 0;
}

int cs_ring_name(struct cs_ring *r, cs_fd fd, bool peer, struct cs_addr *out)
{
    struct sim_sock *s = sim_fd_sock(r, fd);
    if (peer && s->state != SIM_UP) {
        return -ENOTCONN;
    }
    *out = peer ? s->remote : s->local;
    return 0;
}

/* ---- waiting ---- */

void sim_ring_check(const struct cs_ring *r)
{
    for (const struct cs_list *it = r->ops.next; it != &r->ops; it = it->next) {
        const struct sim_op *o = cs_container_of(it, struct sim_op, node);
        if (!o->op->armed || o->op->handler == 0) {
            sim_fail("an armed %s (fd %x) is overwritten", sim_op_name(o), (unsigned)o->fd);
        }
    }
}

bool sim_rings_step(void)
{
    bool any = false;
    cs_list_each(rit, rtmp, &sim_world.rings) {
        struct cs_ring *r = cs_container_of(rit, struct cs_ring, node);
        cs_list_each(it, tmp, &r->ops) {
            struct sim_op *o = cs_container_of(it, struct sim_op, node);
            any |= sim_op_step(r, o);
            struct cs_list *first = cs_list_first(&o->pending);
            if (first) {
                struct sim_pending *p = cs_container_of(first, struct sim_pending, node);
                p->delay -= p->delay > 0;
                any = true;
            }
        }
    }
    return any;
}

/* The final event leaves the kernel: from now on it knows nothing of the op. */
static void forget(struct sim_op *o)
{
    if (o->kind == SIM_OP_SEND && sim_op_sum(o) != o->sum) {
        sim_fail("the bytes of an armed send (fd %x) have changed", (unsigned)o->fd);
    }
    if (o->sock) {
        o->sock->ops--;
        o->sock->recv = o->sock->recv == o ? NULL : o->sock->recv;
        o->sock->send = o->sock->send == o ? NULL : o->sock->send;
    }
    if (o->listener) {
        o->listener->ops--;
    }
    cs_list_remove(&o->node);
    free(o);
}

/* The op's next event that may be delivered, or NULL. */
static struct sim_pending *next_pending(const struct sim_op *o)
{
    struct cs_list *first = cs_list_first((struct cs_list *)&o->pending);
    struct sim_pending *p = first ? cs_container_of(first, struct sim_pending, node) : NULL;
    return p && p->delay == 0 ? p : NULL;
}

/* True when the op has another event for this turn. */
static bool deliver_one(struct sim_op *o, struct cs_event *ev)
{
    struct sim_pending *p = next_pending(o);
    *ev = p->ev;
    cs_list_remove(&p->node);
    free(p);
    sim_trace("ring  event %s fd=%x res=%d%s", sim_op_name(o), (unsigned)o->fd, ev->res,
              ev->more ? " more" : "");
    if (ev->slice) {
        sim_slice_lend(ev->slice);
    }
    if (!ev->more) {
        forget(o);
        return false;
    }
    return next_pending(o) != NULL;
}

/* Ops in random order, each op's events in theirs. */
static unsigned deliver(struct cs_ring *r, struct cs_event *ev, unsigned max)
{
    static struct sim_op *candidates[CANDIDATES_MAX];
    unsigned left = 0, n = 0;
    cs_list_each(it, tmp, &r->ops) {
        struct sim_op *o = cs_container_of(it, struct sim_op, node);
        if (next_pending(o) && left < CANDIDATES_MAX) {
            candidates[left++] = o;
        }
    }
    while (left > 0 && n < max) {
        unsigned i = (unsigned)sim_below(left);
        if (sim_chance(sim_world.config.hold_pm) || !deliver_one(candidates[i], &ev[n++])) {
            candidates[i] = candidates[--left];
        }
    }
    return n;
}

bool sim_let_time_pass(uint64_t until_ms)
{
    uint64_t next = CS_MIN(sim_world_next_ms(), until_ms);
    if (next == UINT64_MAX && sim_world.done && sim_world.done()) {
        return false;
    }
    if (next == UINT64_MAX) {
        sim_fail("deadlock: the loop sleeps for ever and nothing can happen any more");
    }
    if (next > sim_world.now_ms) {
        sim_trace("time  +%llu ms", (unsigned long long)(next - sim_world.now_ms));
        sim_world.now_ms = next;
    }
    return next < until_ms;
}

void sim_count_turn(void)
{
    if (++sim_world.turns > sim_world.config.turns_max) {
        sim_fail("more than %llu turns: something spins",
                 (unsigned long long)sim_world.config.turns_max);
    }
    if (sim_world.config.drift_ms) {
        sim_world.now_ms += sim_below(sim_world.config.drift_ms + 1);
    } else if (sim_world.turns % 64 == 0) {
        sim_world.now_ms++; /* never quite nothing, or a busy engine would stop the network */
    }
}

bool cs_ring_has_work(const struct cs_ring *r)
{
    for (const struct cs_list *it = r->ops.next; it != &r->ops; it = it->next) {
        if (next_pending(cs_container_of(it, struct sim_op, node))) {
            return true;
        }
    }
    return false;
}

unsigned cs_ring_wait(struct cs_ring *r, int64_t timeout_ms, struct cs_event *ev, unsigned max)
{
    sim_ring_check(r);
    sim_count_turn();
    uint64_t until_ms = timeout_ms < 0 ? UINT64_MAX : sim_world.now_ms + (uint64_t)timeout_ms;
    for (unsigned rounds = 0; rounds < SIM_ROUNDS_MAX; rounds++) {
        bool any = sim_world_step();
        unsigned n = deliver(r, ev, max);
        if (n > 0 || timeout_ms == 0 || sim_chance(sim_world.config.interrupt_pm)) {
            return n;
        }
        if (!any && !sim_let_time_pass(until_ms)) {
            sim_world_step();
            return deliver(r, ev, max);
        }
    }
    sim_fail("the world spins: %u rounds without an event", SIM_ROUNDS_MAX);
}

/* ---- looking inside ---- */

unsigned sim_ops_armed(const struct cs_ring *r)
{
    unsigned n = 0;
    for (const struct cs_list *it = r->ops.next; it != &r->ops; it = it->next) {
        n += cs_container_of(it, struct sim_op, node)->kind != SIM_OP_POLL_REAL;
    }
    return n;
}

unsigned sim_sockets_open(const struct cs_ring *r)
{
    return r->sockets;
}
