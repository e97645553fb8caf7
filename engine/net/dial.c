/*
 * dial - an outgoing connection: name to addresses, addresses in turn, one deadline for all of it.
 */
#include "net/dial.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"

struct cs_dial {
    struct cs_net *net;
    cs_dial_fn *fn;
    void *user;
    struct cs_resolve_query query;
    struct cs_timer deadline; /* over everything */
    struct cs_timer step;     /* this address has had its share; or (before the first event) an
                                 error that must not be told from inside cs_dial_start */
    struct cs_conn *conn;     /* being connected, or NULL */
    struct cs_addr local;     /* len 0: none */
    struct cs_addr literal;   /* what addrs points at when there was nothing to resolve */
    struct cs_addr *addrs;
    unsigned count;
    unsigned next; /* the address to try next */
    int err;       /* the error to report if no address works */
};

/* Errors that speak of this machine's lack of a route or family rather than of the other end: any
 * later one says more. */
static bool error_is_weak(int err)
{
    return err == 0 || err == -EAFNOSUPPORT || err == -ENETUNREACH || err == -EADDRNOTAVAIL;
}

/* Want of something here: another address would need it too. */
static bool error_is_final(int err)
{
    return err == -ENOMEM || err == -EMFILE || err == -ENFILE || err == -ENOBUFS;
}

static void dial_drop_conn(struct cs_dial *d, int why)
{
    if (d->conn) {
        struct cs_stream *s = cs_conn_stream(d->conn);
        d->conn = NULL;
        cs_stream_detach(s);
        cs_stream_close(s, CS_CLOSE_ABORT, why);
    }
}

static void dial_free(struct cs_dial *d, int why)
{
    struct cs_wheel *w = cs_loop_wheel(d->net->loop);
    cs_timer_stop(w, &d->deadline);
    cs_timer_stop(w, &d->step);
    cs_resolve_cancel(&d->query);
    dial_drop_conn(d, why);
    if (d->addrs != &d->literal) {
        cs_free(d->addrs);
    }
    cs_free(d);
}

/* The last act; from the loop only. */
static void dial_finish(struct cs_dial *d, struct cs_conn *c, int err)
{
    cs_dial_fn *fn = d->fn;
    void *user = d->user;
    dial_free(d, err);
    fn(user, c, err);
}

/* While others are left, an address gets an equal share of the rest of the time. */
static void dial_set_share(struct cs_dial *d)
{
    struct cs_wheel *w = cs_loop_wheel(d->net->loop);
    uint64_t now = cs_clock_ms();
    unsigned left = d->count - d->next + 1; /* with the one being tried */
    cs_timer_stop(w, &d->step);
    if (left > 1 && cs_timer_active(&d->deadline) && d->deadline.due_ms > now) {
        cs_timer_set(w, &d->step, now + CS_MAX((d->deadline.due_ms - now) / left, (uint64_t)1));
    }
}

static void dial_connected(void *user, struct cs_conn *c, int err);

/* Somebody else ended the connection (cs_net_close_all). */
static void dial_conn_closed(void *user, struct cs_stream *s)
{
    struct cs_dial *d = user;
    (void)s;
    d->conn = NULL;
    dial_finish(d, NULL, CS_ECLOSED);
}

/* The other events need an open connection, and that has left the dial. */
static const struct cs_stream_user dial_conn_user = {.on_closed = dial_conn_closed};

/* Starts on the next address. 0, or the error to report. */
static int dial_next(struct cs_dial *d)
{
    while (d->next < d->count && !error_is_final(d->err)) {
        const struct cs_addr *remote = &d->addrs[d->next++];
        if (d->local.len > 0 && cs_addr_family(&d->local) != cs_addr_family(remote)) {
            d->err = d->err ? d->err : -EAFNOSUPPORT;
            continue;
        }
        d->conn =
            cs_conn_dial(d->net, remote, d->local.len > 0 ? &d->local : NULL, dial_connected, d);
        if (!d->conn) {
            return -ENOMEM;
        }
        cs_stream_attach(cs_conn_stream(d->conn), &dial_conn_user, d);
        dial_set_share(d);
        return 0;
    }
    return d->err ? d->err : CS_ERESOLVE;
}

static void dial_attempt_failed(struct cs_dial *d, int err)
{
    dial_drop_conn(d, err);
    if (error_is_weak(d->err) || error_is_final(err)) {
        d->err = err;
    }
    err = dial_next(d);
    if (err) {
        dial_finish(d, NULL, err);
    }
}

static void dial_connected(void *user, struct cs_conn *c, int err)
{
    struct cs_dial *d = user;
    CS_ASSERT(c == d->conn);
    if (err) {
        dial_attempt_failed(d, err);
        return;
    }
    d->conn = NULL;
    cs_stream_detach(cs_conn_stream(c));
    dial_finish(d, c, 0);
}

static void dial_resolved(struct cs_resolve_query *q, int err, const struct cs_addr *addrs,
                          unsigned n)
{
    struct cs_dial *d = cs_container_of(q, struct cs_dial, query);
    if (!err) {
        d->addrs = cs_alloc(n * sizeof(*addrs));
        err = d->addrs ? 0 : -ENOMEM;
    }
    if (!err) {
        memcpy(d->addrs, addrs, n * sizeof(*addrs));
        d->count = n;
        err = dial_next(d);
    }
    if (err) {
        dial_finish(d, NULL, err);
    }
}

static void dial_expired(struct cs_timer *t)
{
    struct cs_dial *d = cs_container_of(t, struct cs_dial, deadline);
    dial_finish(d, NULL, CS_ETIMEOUT);
}

static void dial_stepped(struct cs_timer *t)
{
    struct cs_dial *d = cs_container_of(t, struct cs_dial, step);
    if (d->conn) {
        dial_attempt_failed(d, CS_ETIMEOUT);
    } else {
        dial_finish(d, NULL, d->err);
    }
}

static enum cs_resolve_family dial_family(const struct cs_dial *d, enum cs_resolve_family asked)
{
    if (asked != CS_RESOLVE_ANY || d->local.len == 0) {
        return asked;
    }
    return cs_addr_family(&d->local) == AF_INET6 ? CS_RESOLVE_V6 : CS_RESOLVE_V4;
}

static void dial_begin(struct cs_dial *d, const struct cs_dial_spec *spec)
{
    if (cs_addr_parse(&d->literal, spec->host, spec->port) != 0) {
        d->query.fn = dial_resolved;
        d->query.port = spec->port;
        cs_resolve(d->net->resolver, &d->query, spec->host, dial_family(d, spec->family));
        return;
    }
    d->addrs = &d->literal;
    d->count = 1;
    d->err = dial_next(d);
    if (d->err) {
        cs_timer_set(cs_loop_wheel(d->net->loop), &d->step, cs_loop_now(d->net->loop));
    }
}

struct cs_dial *cs_dial_start(struct cs_net *n, const struct cs_dial_spec *spec, cs_dial_fn *fn,
                              void *user)
{
    struct cs_dial *d = cs_zalloc(sizeof(*d));
    if (!d) {
        return NULL;
    }
    d->net = n;
    d->fn = fn;
    d->user = user;
    if (spec->local) {
        d->local = *spec->local;
    }
    cs_list_init(&d->query.node);
    cs_timer_init(&d->deadline, dial_expired);
    cs_timer_init(&d->step, dial_stepped);
    if (spec->timeout_ms > 0) {
        /* From the call on, not from the turn's beginning: the caller may have computed for a
         * while. */
        cs_timer_set(cs_loop_wheel(n->loop), &d->deadline, cs_clock_ms() + spec->timeout_ms);
    }
    dial_begin(d, spec);
    return d;
}

void cs_dial_cancel(struct cs_dial *d)
{
    if (d) {
        dial_free(d, CS_ECLOSED);
    }
}
