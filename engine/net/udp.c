/* udp - ports, who shares them, and the queue of each. */
#include "net/udp.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#include "base/assert.h"
#include "base/chain.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/admit.h"

/* The kernel's socket. Lives until nobody uses it and no op is armed. */
struct port {
    struct cs_list node;    /* in net->ports */
    struct cs_list claimed; /* in claims, while it is bound */
    struct cs_net *net;
    cs_fd fd;
    struct cs_op recv, poll;
    struct cs_list users;  /* by cs_udp.node */
    struct cs_udp *reader; /* whose queue it fills; NULL: nobody's */
    struct cs_addr bound;  /* len 0: not bound by its scripts */
    int family;
};

/* The bound ports of all cells of this process: each cell that binds an address gets a socket. */
static struct cs_list claims = {&claims, &claims};
static pthread_mutex_t claims_lock = PTHREAD_MUTEX_INITIALIZER;

struct cs_udp {
    struct cs_list node; /* in port->users */
    struct port *port;
    struct cs_gate *gate; /* where it is counted, or NULL */
    const struct cs_udp_user *ops;
    void *user;
    struct cs_list in; /* cs_datagram, oldest first */
    size_t in_bytes;
    uint64_t dropped;
    struct cs_addr remote; /* len 0: not connected */
    unsigned gen;
    int err; /* to be told once */
    bool want, staged, lost;
};

/* ---- the queue ---- */

void cs_datagram_from(const struct cs_datagram *d, struct cs_addr *out)
{
    cs_addr_from_sockaddr(out, (const struct sockaddr *)&d->from, sizeof(d->from));
}

const struct cs_datagram *cs_udp_first(struct cs_udp *u)
{
    struct cs_list *l = cs_list_first(&u->in);
    return l ? cs_container_of(l, struct cs_datagram, node) : NULL;
}

static size_t charge(size_t len)
{
    return sizeof(struct cs_datagram) + len;
}

void cs_udp_drop(struct cs_udp *u)
{
    struct cs_datagram *d = cs_container_of(cs_list_first(&u->in), struct cs_datagram, node);
    cs_list_remove(&d->node);
    u->in_bytes -= charge(d->len);
    cs_free(d);
}

/* A copy: the ring has its buffer back at once. False: there is no room for it. */
static CS_MUST_CHECK bool enqueue(struct cs_udp *u, const struct cs_slice *slice)
{
    struct cs_datagram *d = NULL;
    struct cs_addr from;
    if (u->in_bytes + charge(slice->len) <= u->port->net->config.in_high || !cs_udp_first(u)) {
        d = cs_alloc(charge(slice->len));
    }
    if (!d) {
        return false;
    }
    cs_list_init(&d->node);
    cs_ring_sender(slice, &from);
    memcpy(&d->from, &from.sa, CS_MIN((size_t)from.len, sizeof(d->from)));
    d->len = slice->len;
    memcpy(d->data, slice->data, slice->len);
    cs_list_append(&u->in, &d->node);
    u->in_bytes += charge(d->len);
    return true;
}

int cs_udp_take_error(struct cs_udp *u)
{
    int err = u->err;
    u->err = 0;
    return err;
}

bool cs_udp_lost(const struct cs_udp *u)
{
    return u->lost;
}

uint64_t cs_udp_dropped(const struct cs_udp *u)
{
    return u->dropped;
}

/* ---- receiving ---- */

static void read_on(struct port *p)
{
    if (p->reader && p->reader->want && !p->recv.armed) {
        cs_ring_recv(p->net->ring, &p->recv, p->fd, CS_RING_DATAGRAM);
    }
}

static void join(struct port *p);

static void received(struct port *p, struct cs_slice *slice)
{
    p->net->count.datagrams_in++;
    p->net->count.bytes_in += slice->len;
    if (!p->reader) { /* its last reader has just gone */
        p->net->count.datagrams_dropped++;
    } else if (!enqueue(p->reader, slice)) {
        static _Thread_local struct cs_log_limit limit;
        p->net->count.datagrams_dropped++;
        p->reader->dropped++;
        cs_log_limited(&limit, CS_LOG_WARN, "datagrams dropped: their script does not read them");
    }
    cs_slice_release(slice);
}

static void recv_done(struct cs_op *op, const struct cs_event *ev)
{
    struct port *p = cs_container_of(op, struct port, recv);
    struct cs_udp *u = p->reader;
    bool failed = !ev->slice && ev->res < 0 && ev->res != -ENOBUFS && ev->res != -ECANCELED &&
                  ev->res != -EINTR && ev->res != -EAGAIN;
    if (ev->slice) {
        received(p, ev->slice);
    }
    if (failed && u) {
        u->err = ev->res;
        u->want = false; /* until somebody has looked at it */
    }
    if (ev->res == -ENOBUFS) {
        p->net->count.enobufs++; /* they are back at the end of this phase */
    }
    if (!ev->more) {
        read_on(p);
        join(p);
    }
    if (u && (ev->slice || failed)) {
        u->ops->on_input(u->user);
    }
}

void cs_udp_resume(struct cs_udp *u)
{
    u->want = true;
    read_on(u->port);
}

/* ---- sending ---- */

int cs_udp_send(struct cs_udp *u, const void *data, size_t len, const struct cs_addr *to)
{
    struct cs_net *n = u->port->net;
    int err = cs_ring_sendto(n->ring, u->port->fd, data, len, to);
    if (err == 0) {
        n->count.datagrams_out++;
        n->count.bytes_out += len;
    }
    return err;
}

static void poll_done(struct cs_op *op, const struct cs_event *ev)
{
    struct port *p = cs_container_of(op, struct port, poll);
    (void)ev; /* whatever came, another try tells more */
    cs_list_each(l, next, &p->users) {
        struct cs_udp *u = cs_container_of(l, struct cs_udp, node);
        u->ops->on_room(u->user);
    }
    join(p);
}

void cs_udp_watch(struct cs_udp *u)
{
    if (!u->port->poll.armed) {
        cs_ring_poll(u->port->net->ring, &u->port->poll, u->port->fd, POLLOUT);
    }
}

/* ---- what it is ---- */

int cs_udp_setsockopt(struct cs_udp *u, int level, int name, const void *value, socklen_t len)
{
    return cs_ring_setsockopt(u->port->net->ring, u->port->fd, level, name, value, len);
}

int cs_udp_sockname(struct cs_udp *u, struct cs_addr *out)
{
    return cs_ring_name(u->port->net->ring, u->port->fd, false, out);
}

int cs_udp_peername(const struct cs_udp *u, struct cs_addr *out)
{
    *out = u->remote;
    return u->remote.len > 0 ? 0 : CS_ESTATE;
}

int cs_udp_family(const struct cs_udp *u)
{
    return u->port->family;
}

/* ---- ports ---- */

/* Closes the socket once the last user has gone and no op is armed. */
static void join(struct port *p)
{
    if (!cs_list_empty(&p->users) || p->recv.armed || p->poll.armed) {
        return;
    }
    pthread_mutex_lock(&claims_lock);
    cs_ring_udp_close(p->net->ring, p->fd); /* before somebody can find the address unclaimed */
    cs_list_remove(&p->claimed);
    pthread_mutex_unlock(&claims_lock);
    cs_list_remove(&p->node);
    cs_free(p);
}

static void release(struct port *p)
{
    if (cs_list_empty(&p->users)) {
        cs_ring_cancel(p->net->ring, &p->recv);
        cs_ring_cancel(p->net->ring, &p->poll);
        join(p);
    }
}

static bool is_claimed(const struct cs_addr *addr)
{
    cs_list_each(l, next, &claims) {
        if (cs_addr_equal(&cs_container_of(l, struct port, claimed)->bound, addr)) {
            return true;
        }
    }
    return false;
}

/* Binds with the claims locked: two cells may be first. */
static int open_bound(struct port *p, const struct cs_udp_spec *spec)
{
    struct cs_ring *r = p->net->ring;
    pthread_mutex_lock(&claims_lock);
    p->fd = cs_ring_udp_open(r, spec->family, spec->local, NULL, is_claimed(spec->local));
    p->bound = *spec->local;
    if (p->fd >= 0 && cs_addr_port(&p->bound) == 0 &&
        cs_ring_name(r, p->fd, false, &p->bound) < 0) {
        p->bound.len = 0; /* then nobody can share it */
    }
    if (p->fd >= 0) {
        cs_list_append(&claims, &p->claimed);
    }
    pthread_mutex_unlock(&claims_lock);
    return p->fd < 0 ? p->fd : 0;
}

static int open_socket(struct port *p, const struct cs_udp_spec *spec)
{
    bool bind = spec->local && !spec->remote;
    if (bind && !spec->dry) {
        return open_bound(p, spec);
    }
    p->fd = cs_ring_udp_open(p->net->ring, spec->family, spec->dry ? NULL : spec->local,
                             spec->remote, false);
    if (bind && cs_addr_port(spec->local) != 0) {
        p->bound = *spec->local;
    }
    return p->fd < 0 ? p->fd : 0;
}

static int open_port(struct port **out, struct cs_net *n, const struct cs_udp_spec *spec)
{
    struct port *p = cs_zalloc(sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    p->net = n;
    p->family = spec->family;
    cs_list_init(&p->claimed);
    cs_list_init(&p->users);
    cs_op_init(&p->recv, recv_done);
    cs_op_init(&p->poll, poll_done);
    int err = open_socket(p, spec);
    if (err < 0) {
        cs_free(p);
        return err;
    }
    cs_list_append(&n->ports, &p->node);
    *out = p;
    return 0;
}

static bool has(const struct port *p, unsigned gen)
{
    cs_list_each(l, next, (struct cs_list *)&p->users) {
        if (cs_container_of(l, struct cs_udp, node)->gen == gen) {
            return true;
        }
    }
    return false;
}

/* The port of an address that others have already, or nobody any more. */
static struct port *find_port(struct cs_net *n, const struct cs_udp_spec *spec)
{
    cs_list_each(l, next, &n->ports) {
        struct port *p = cs_container_of(l, struct port, node);
        if (spec->local && p->bound.len > 0 && cs_addr_equal(&p->bound, spec->local)) {
            return p;
        }
    }
    return NULL;
}

/* Joins other generations at an address that is bound, or opens a port. */
static int find_or_open(struct port **out, struct cs_net *n, const struct cs_udp_spec *spec)
{
    struct port *p = find_port(n, spec);
    if (!p) {
        return open_port(out, n, spec);
    }
    *out = p;
    return has(p, spec->gen) || spec->remote ? -EADDRINUSE : 0;
}

/* ---- generations ---- */

static void lose(struct cs_udp *u)
{
    u->lost = true;
    u->ops->on_input(u->user);
}

/* The port's datagrams are u's (NULL: nobody's) from now on; what the old reader has not read goes
 * with them. */
static void set_reader(struct port *p, struct cs_udp *u)
{
    struct cs_udp *old = p->reader;
    p->reader = u;
    if (old && u) {
        cs_list_splice(&u->in, &old->in);
        u->in_bytes += old->in_bytes;
        old->in_bytes = 0;
        if (cs_udp_first(u)) {
            u->ops->on_input(u->user);
        }
    }
    if (old) {
        lose(old);
    }
    if (u) {
        u->staged = false;
        read_on(p);
    } else {
        cs_ring_cancel(p->net->ring, &p->recv);
    }
}

void cs_udp_commit(struct cs_net *n, unsigned gen)
{
    cs_list_each(l, next, &n->ports) {
        struct port *p = cs_container_of(l, struct port, node);
        cs_list_each(m, after, &p->users) {
            struct cs_udp *u = cs_container_of(m, struct cs_udp, node);
            if (u->staged && u->gen == gen) {
                set_reader(p, u);
            }
        }
        if (p->bound.len > 0 && p->reader && p->reader->gen != gen) {
            set_reader(p, NULL);
        }
    }
}

void cs_udp_stop(struct cs_net *n)
{
    cs_list_each(l, next, &n->ports) {
        struct port *p = cs_container_of(l, struct port, node);
        if (p->bound.len > 0 && p->reader) {
            set_reader(p, NULL);
        }
    }
}

/* ---- life ---- */

int cs_udp_open(struct cs_udp **out, struct cs_net *n, const struct cs_udp_spec *spec,
                const struct cs_udp_user *ops, void *user)
{
    struct cs_udp *u = cs_zalloc(sizeof(*u));
    struct port *p = NULL;
    struct cs_gate *gate = NULL;
    bool counted = n->config.admit && spec->service;
    if (u && counted) {
        gate = cs_gate_get(n->config.admit, spec->service);
    }
    int err = u && (gate || !counted) ? find_or_open(&p, n, spec) : -ENOMEM;
    if (err < 0) {
        if (gate) {
            cs_gate_put(gate);
        }
        cs_free(u);
        return err;
    }
    if (gate) {
        cs_gate_count_udp(gate, 1);
    }
    *u = (struct cs_udp){.port = p,
                         .gate = gate,
                         .ops = ops,
                         .user = user,
                         .gen = spec->gen,
                         .staged = spec->staged};
    if (spec->remote) {
        u->remote = *spec->remote;
    }
    cs_list_init(&u->in);
    cs_list_append(&p->users, &u->node);
    if (!u->staged) {
        set_reader(p, u);
    }
    *out = u;
    return 0;
}

void cs_udp_close(struct cs_udp *u)
{
    struct port *p = u->port;
    if (p->reader == u) {
        p->reader = NULL;
        cs_ring_cancel(p->net->ring, &p->recv);
    }
    while (cs_udp_first(u)) {
        cs_udp_drop(u);
    }
    if (u->gate) {
        cs_gate_count_udp(u->gate, -1);
        cs_gate_put(u->gate);
    }
    cs_list_remove(&u->node);
    cs_free(u);
    release(p);
}

void cs_udp_close_all(struct cs_net *n)
{
    cs_list_each(l, next, &n->ports) {
        struct port *p = cs_container_of(l, struct port, node);
        struct cs_list *m;
        while ((m = cs_list_first(&p->users))) {
            struct cs_udp *u = cs_container_of(m, struct cs_udp, node);
            const struct cs_udp_user *ops = u->ops;
            void *owner = u->user;
            bool last = m->next == &p->users;
            cs_udp_close(u);
            ops->on_closed(owner);
            if (last) {
                break; /* the port may be gone */
            }
        }
    }
}

/* ---- dialling ---- */

struct cs_udp_dial {
    struct cs_net *net;
    struct cs_resolve_query query;
    struct cs_udp_spec spec;
    struct cs_addr local; /* what spec.local points at */
    const struct cs_udp_user *ops;
    cs_udp_dial_fn *fn;
    void *user;
};

static void resolved(struct cs_resolve_query *q, int err, const struct cs_addr *addrs, unsigned n)
{
    struct cs_udp_dial *d = cs_container_of(q, struct cs_udp_dial, query);
    cs_udp_dial_fn *fn = d->fn;
    void *user = d->user;
    struct cs_udp *u = NULL;
    for (unsigned i = 0; i < n && !u; i++) {
        d->spec.family = cs_addr_family(&addrs[i]);
        d->spec.remote = &addrs[i];
        if (!d->spec.local || cs_addr_family(d->spec.local) == d->spec.family) {
            err = cs_udp_open(&u, d->net, &d->spec, d->ops, user);
        }
    }
    cs_free(d);
    fn(user, u, u || err ? err : CS_ERESOLVE);
}

struct cs_udp_dial *cs_udp_dial_start(struct cs_net *n, const char *host, uint16_t port,
                                      enum cs_resolve_family family, const struct cs_udp_spec *spec,
                                      const struct cs_udp_user *ops, cs_udp_dial_fn *fn, void *user)
{
    struct cs_udp_dial *d = cs_zalloc(sizeof(*d));
    if (!d) {
        return NULL;
    }
    *d = (struct cs_udp_dial){.net = n, .spec = *spec, .ops = ops, .fn = fn, .user = user};
    if (spec->local) {
        d->local = *spec->local;
        d->spec.local = &d->local;
    }
    cs_list_init(&d->query.node);
    d->query.fn = resolved;
    d->query.port = port;
    cs_resolve(n->resolver, &d->query, host, family);
    return d;
}

void cs_udp_dial_cancel(struct cs_udp_dial *d)
{
    cs_resolve_cancel(&d->query);
    cs_free(d);
}
