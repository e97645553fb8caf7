/*
 * listener - a bound address, its accept op, and the connections nobody has taken yet.
 *
 * listener_update is the one place that decides whether accept is armed: every event and every call
 * changes what it knows and then asks it.
 */
#include "net/listener.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    QUEUE_HIGH = 128,   /* waiting or being looked up: accept is cancelled */
    QUEUE_LOW = 64,     /* armed again */
    HEADROOM_MAX = 256, /* slots kept free for what one reap may bring after the cancel */
    TABLE_MS = 30,      /* how often a full table is looked at: nobody tells when it has room */
    HELD_MS = 1000,     /* a full gate is looked at, should its call get lost for want of memory */
    BACKOFF_MS = 100,   /* after an error that the next accept would meet again */
    ERRORS_MAX = 100,   /* this many others in a row count as such an error too */
    EMPTY_MAX = 8192, /* connections accepted while closing, in case they come faster than we go */
};

/* The name belongs to the origin because connections log it when the listener may be gone. */
struct origin {
    struct cs_origin base;
    char *service;
};

/* An accepted connection until it is taken. First in `looking` with its peername op armed, then in
 * `waiting` with a conn. */
struct accepted {
    struct cs_list node;
    struct cs_listener *l;
    struct cs_op op;
    cs_fd fd;
    struct sockaddr_in6 name;
    struct cs_conn *conn; /* NULL: ended while it waited (cs_net_close_all) */
    bool extra; /* came although the gate was full: not to be taken before it lets it in */
};

/* A socket, and the listeners of one thread's cells that are open on it. */
struct shared_socket {
    int fd;
    unsigned refs;
    struct cs_listen_table *table;
};

enum listener_state {
    LISTENER_IDLE,
    LISTENER_OPEN,
    LISTENER_PARKING,
    LISTENER_STOPPING,
    LISTENER_EMPTYING
};

struct cs_listener {
    enum listener_state state;
    struct cs_addr addr;
    struct shared_socket *socket; /* NULL once EMPTYING */
    struct origin *origin;
    struct cs_net *net; /* NULL until it is started */
    const struct cs_listener_watch *watch;
    void *watch_user;
    cs_listener_ready_fn *ready;
    void *ready_user;
    void (*closed)(void *user);
    void *closed_user;
    struct cs_op accept;
    struct cs_list waiting; /* struct accepted */
    unsigned waiting_count;
    unsigned looking; /* accepted ones whose peername is under way */
    unsigned extras;  /* of those waiting */
    unsigned errors;  /* in a row */
    unsigned headroom;
    bool table_full;          /* that has been said */
    bool once;                /* the accept that is armed takes one connection */
    bool full;                /* the queue passed QUEUE_HIGH and is not yet below QUEUE_LOW */
    bool held;                /* the gate is full, and that has been said */
    struct cs_list held_node; /* in net->held */
    struct cs_timer retry;    /* while active accept stays off */
    struct cs_timer kick;     /* tell the owner from the loop: what waits, or that it is over */
    struct cs_log_limit failing, pausing, refusing; /* of log lines: one must not hide the other */
};

static void listener_update(struct cs_listener *l);

/* ---- origin ---- */

static void origin_free(struct cs_origin *base)
{
    struct origin *o = cs_container_of(base, struct origin, base);
    if (base->gate) {
        cs_gate_put(base->gate);
    }
    cs_free(o->service);
    cs_free(o);
}

static struct origin *origin_create(const char *service)
{
    struct origin *o = cs_zalloc(sizeof(*o));
    if (!o) {
        return NULL;
    }
    o->service = cs_strdup(service);
    if (!o->service) {
        cs_free(o);
        return NULL;
    }
    o->base.service = o->service;
    o->base.refs = 1;
    o->base.free = origin_free;
    return o;
}

/* ---- the socket ---- */

static int socket_open(struct shared_socket **out, struct cs_listen_table *table, unsigned worker,
                       struct cs_addr *addr, const struct cs_listen_options *o)
{
    struct shared_socket *s = cs_zalloc(sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->refs = 1;
    s->table = table;
    int err = table ? cs_listen_table_open(table, worker, &s->fd, addr, o)
                    : cs_listen_open(&s->fd, addr, o);
    if (err < 0) {
        cs_free(s);
        return err;
    }
    *out = s;
    return 0;
}

static void socket_unref(struct shared_socket *s, const struct cs_addr *addr)
{
    if (--s->refs > 0) {
        return;
    }
    if (s->table) {
        cs_listen_table_close(s->table, s->fd);
    } else {
        cs_listen_close(s->fd, addr);
    }
    cs_free(s);
}

/* ---- telling the owner ---- */

/* Timers run before the script phase, so the owner hears of a whole burst at once and in this turn.
 */
static void listener_kick(struct cs_listener *l)
{
    if (l->net && !cs_timer_active(&l->kick)) {
        cs_timer_set(cs_loop_wheel(l->net->loop), &l->kick, cs_loop_now(l->net->loop));
    }
}

static bool listener_over(const struct cs_listener *l)
{
    return l->state == LISTENER_EMPTYING && l->waiting_count == 0 && l->looking == 0;
}

static void listener_free(struct cs_listener *l)
{
    CS_ASSERT(!l->accept.armed);
    CS_ASSERT(l->waiting_count == 0);
    CS_ASSERT(l->looking == 0);
    void (*closed)(void *) = l->closed;
    void *user = l->closed_user;
    if (l->net) {
        cs_timer_stop(cs_loop_wheel(l->net->loop), &l->retry);
        cs_timer_stop(cs_loop_wheel(l->net->loop), &l->kick);
    }
    cs_list_remove(&l->held_node);
    cs_origin_unref(&l->origin->base);
    cs_free(l);
    if (closed) {
        closed(user);
    }
}

static void listener_kicked(struct cs_timer *t)
{
    struct cs_listener *l = cs_container_of(t, struct cs_listener, kick);
    if (listener_over(l)) {
        listener_free(l);
    } else if (l->waiting_count > 0 && l->ready) {
        l->ready(l->ready_user);
    }
}

/* ---- one accepted connection ---- */

static void lost(struct cs_listener *l, const char *why)
{
    char text[CS_ADDR_TEXT_MAX];
    l->net->count.accept_lost++;
    cs_log_limited(&l->failing, CS_LOG_ERROR, "connection lost: %s service=%s addr=%s", why,
                   l->origin->service, cs_addr_text(&l->addr, text));
}

static void listener_pause(struct cs_listener *l, uint64_t ms)
{
    cs_timer_set(cs_loop_wheel(l->net->loop), &l->retry, cs_loop_now(l->net->loop) + ms);
}

/* No use in trying again at once. */
static void listener_back_off(struct cs_listener *l)
{
    l->net->count.accept_pauses++;
    listener_pause(l, BACKOFF_MS);
}

static void accepted_drop(struct accepted *a)
{
    cs_ring_close(a->l->net->ring, a->fd, true);
    cs_free(a);
}

static void accepted_no_memory(struct accepted *a)
{
    struct cs_listener *l = a->l;
    accepted_drop(a);
    lost(l, "out of memory");
    listener_back_off(l);
}

static void refused(struct cs_listener *l, const struct cs_addr *peer)
{
    char addr[CS_ADDR_TEXT_MAX], ip[CS_ADDR_TEXT_MAX];
    cs_log_limited(&l->refusing, CS_LOG_WARN,
                   "connection refused: its client has limit_conn service=%s addr=%s peer=%s",
                   l->origin->service, cs_addr_text(&l->addr, addr), cs_addr_ip(peer, ip));
}

/* Without its gate it must not accept: memory for it is asked for until there is some. */
static bool listener_has_gate(struct cs_listener *l)
{
    struct cs_origin *o = &l->origin->base;
    if (!o->gate && l->net->config.admit) {
        o->gate = cs_gate_get(l->net->config.admit, o->service);
        return o->gate != NULL;
    }
    return true;
}

static void accepted_closed(void *user, struct cs_stream *s)
{
    struct accepted *a = user;
    (void)s;
    a->conn = NULL;
}

/* Nothing is read yet, so it has no other event. */
static const struct cs_stream_user accepted_user = {.on_closed = accepted_closed};

/* Makes the conn and puts it into the queue. peer may be NULL. */
static void accepted_queue(struct accepted *a, const struct cs_addr *peer)
{
    struct cs_listener *l = a->l;
    if (!listener_has_gate(l)) {
        accepted_no_memory(a);
        return;
    }
    struct cs_gate *gate = l->origin->base.gate;
    int pass = gate ? cs_gate_enter(gate, peer) : CS_PASS_NONE;
    if (pass == -EUSERS) {
        refused(l, peer);
        accepted_drop(a);
        return;
    }
    if (pass == -ENOMEM) {
        accepted_no_memory(a);
        return;
    }
    struct cs_conn *c = cs_conn_create(l->net, a->fd, peer, &l->origin->base);
    if (!c) {
        if (pass > 0) {
            cs_gate_leave(gate, (unsigned)pass, peer);
        }
        accepted_no_memory(a);
        return;
    }
    a->extra = pass < 0;
    l->extras += a->extra;
    cs_conn_set_pass(c, pass < 0 ? CS_PASS_NONE : (unsigned)pass);
    a->conn = c;
    cs_stream_attach(cs_conn_stream(c), &accepted_user, a);
    cs_list_append(&l->waiting, &a->node);
    l->waiting_count++;
    listener_kick(l);
}

static void accepted_named(struct cs_op *op, const struct cs_event *ev)
{
    struct accepted *a = cs_container_of(op, struct accepted, op);
    struct cs_listener *l = a->l;
    l->looking--;
    if (ev->res ==
        -ENOTCONN) { /* reset before we got round to it (not every kernel says so here) */
        accepted_drop(a);
    } else if (ev->res < 0) {
        accepted_queue(a, NULL);
    } else {
        struct cs_addr peer;
        socklen_t len = cs_addr_family(&l->addr) == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                             : sizeof(struct sockaddr_in);
        cs_addr_from_sockaddr(&peer, (const struct sockaddr *)&a->name, len);
        accepted_queue(a, &peer);
    }
    listener_update(l);
}

/* Takes fd over. */
static void listener_admit(struct cs_listener *l, cs_fd fd)
{
    struct accepted *a = cs_zalloc(sizeof(*a));
    if (!a) {
        cs_ring_close(l->net->ring, fd, true);
        lost(l, "out of memory");
        listener_back_off(l);
        return;
    }
    int family = cs_addr_family(&l->addr);
    a->l = l;
    a->fd = fd;
    cs_op_init(&a->op, accepted_named);
    if (family == AF_UNIX) { /* clients of a Unix socket have no name worth a system call */
        struct cs_addr peer = {.un.sun_family = AF_UNIX, .len = sizeof(sa_family_t)};
        accepted_queue(a, &peer);
        return;
    }
    l->looking++;
    cs_ring_peername(l->net->ring, &a->op, fd, family, &a->name);
}

/* ---- accept ---- */

static bool listener_table_full(const struct cs_listener *l)
{
    return l->headroom > 0 && cs_ring_accept_room(l->net->ring) <= l->headroom;
}

static bool listener_queue_full(struct cs_listener *l)
{
    unsigned load = l->waiting_count + l->looking;
    if (load >= QUEUE_HIGH) {
        l->full = true;
    } else if (load < QUEUE_LOW) {
        l->full = false;
    }
    return l->full;
}

/* ---- the gate ---- */

/* Asks to be called when the gate has room. False when it has some already. */
static bool listener_hold(struct cs_listener *l, struct cs_gate *gate)
{
    char text[CS_ADDR_TEXT_MAX];
    if (!cs_gate_wait(gate, &l->net->room, !l->held)) {
        return false;
    }
    if (!l->held) {
        l->held = true;
        cs_log_limited(&l->pausing, CS_LOG_WARN,
                       "maxconn reached, accepting paused service=%s addr=%s", l->origin->service,
                       cs_addr_text(&l->addr, text));
    }
    if (cs_list_empty(&l->held_node)) {
        cs_list_append(&l->net->held, &l->held_node);
    }
    listener_pause(l, HELD_MS);
    return true;
}

/* Also when those who have been accepted already will fill it. */
static bool listener_gate_full(struct cs_listener *l)
{
    struct cs_gate *gate = l->origin->base.gate;
    unsigned owed = l->looking + l->extras, room;
    while (gate && (room = cs_gate_room(gate)) <= owed) {
        if (room > 0 || listener_hold(l, gate)) {
            return true; /* with room: each of them asks again when it is through */
        }
    }
    l->held = false;
    return false;
}

static unsigned listener_room(const struct cs_listener *l)
{
    unsigned slots = cs_ring_accept_room(l->net->ring);
    struct cs_gate *gate = l->origin->base.gate;
    return gate ? CS_MIN(slots, cs_gate_room(gate)) : slots;
}

void cs_listeners_room(void *arg)
{
    struct cs_net *n = arg;
    struct cs_list held;
    cs_list_init(&held);
    cs_list_splice(&held, &n->held);
    cs_list_each(node, next, &held) {
        struct cs_listener *l = cs_container_of(node, struct cs_listener, held_node);
        cs_list_remove(node);
        cs_timer_stop(cs_loop_wheel(n->loop), &l->retry);
        listener_kick(l);
        listener_update(l);
    }
}

/* A full table is looked at from time to time; said when it begins, not at each look. */
static bool listener_must_wait(struct cs_listener *l)
{
    char text[CS_ADDR_TEXT_MAX];
    if (listener_queue_full(l) || cs_timer_active(&l->retry)) {
        return true;
    }
    if (!listener_has_gate(l)) {
        listener_back_off(l);
        return true;
    }
    if (listener_gate_full(l)) {
        return true;
    }
    if (!listener_table_full(l)) {
        l->table_full = false;
        return false;
    }
    if (l->watch && l->watch->full(l->watch_user)) {
        return true;
    }
    if (!l->table_full) {
        l->table_full = true;
        l->net->count.accept_pauses++;
        cs_log_limited(&l->pausing, CS_LOG_WARN,
                       "descriptor table full, accepting paused service=%s addr=%s",
                       l->origin->service, cs_addr_text(&l->addr, text));
    }
    listener_pause(l, TABLE_MS);
    return true;
}

static bool accept_error_lasts(int err)
{
    return err == -EMFILE || err == -ENFILE || err == -ENOMEM || err == -ENOBUFS;
}

static void listener_accept_failed(struct cs_listener *l, int err)
{
    char text[CS_ADDR_TEXT_MAX];
    if (err == -ECANCELED) {
        return;
    }
    if (err == -EMFILE || err == -ENFILE) {
        lost(l, "the descriptor table is full");
        listener_back_off(l);
        return;
    }
    if (l->errors < ERRORS_MAX) {
        l->errors++;
    }
    if (accept_error_lasts(err) || l->errors == ERRORS_MAX) {
        cs_log_limited(&l->failing, CS_LOG_ERROR, "accept: %s service=%s addr=%s", cs_err_text(err),
                       l->origin->service, cs_addr_text(&l->addr, text));
        listener_back_off(l);
    }
}

static void listener_accepted(struct cs_op *op, const struct cs_event *ev)
{
    struct cs_listener *l = cs_container_of(op, struct cs_listener, accept);
    if (ev->res >= 0) {
        l->errors = 0;
        listener_admit(l, ev->res);
    } else {
        listener_accept_failed(l, ev->res);
    }
    listener_update(l);
}

static void listener_retry(struct cs_timer *t)
{
    struct cs_listener *l = cs_container_of(t, struct cs_listener, retry);
    if (l->extras > 0) {
        listener_kick(l);
    }
    listener_update(l);
}

/* ---- closing ---- */

/* Nothing is armed: whoever has connected up to now is let in, then the door is shut; unless there
 * are others who keep it open. */
static void listener_empty(struct cs_listener *l)
{
    bool last = l->socket->refs == 1;
    l->state = LISTENER_EMPTYING;
    for (unsigned i = 0; l->net && last && i < EMPTY_MAX; i++) {
        int fd = cs_listen_accept_now(l->socket->fd);
        if (fd == -ECONNABORTED || fd == -EINTR) {
            continue;
        }
        if (fd < 0) {
            break;
        }
        cs_fd own = cs_ring_adopt(l->net->ring, fd);
        if (own < 0) {
            lost(l, "the descriptor table is full");
            continue;
        }
        listener_admit(l, own);
    }
    socket_unref(l->socket, &l->addr);
    l->socket = NULL;
}

/* One that came although the gate was full. False: it still is; *c becomes NULL when it may not
 * come in at all. */
static bool listener_let_in(struct cs_listener *l, struct accepted *a, struct cs_conn **c)
{
    struct cs_addr peer;
    bool known = cs_conn_peername(*c, &peer) == 0;
    int pass = cs_gate_enter(cs_conn_origin(*c)->gate, known ? &peer : NULL);
    if (pass == -EAGAIN) {
        return false;
    }
    if (pass < 0) {
        if (pass == -EUSERS) {
            refused(l, &peer);
        } else {
            lost(l, "out of memory");
        }
        cs_stream_close(cs_conn_stream(*c), CS_CLOSE_ABORT, pass);
        *c = NULL;
    } else {
        cs_conn_set_pass(*c, (unsigned)pass);
    }
    a->extra = false;
    l->extras--;
    return true;
}

/* force: to be closed, so the gate is not asked. */
static struct cs_conn *listener_pop(struct cs_listener *l, bool force)
{
    struct cs_conn *c = NULL;
    struct cs_list *node;
    while (!c && (node = cs_list_first(&l->waiting))) {
        struct accepted *a = cs_container_of(node, struct accepted, node);
        c = a->conn;
        while (c && a->extra && !force && !listener_let_in(l, a, &c)) {
            if (listener_hold(l, cs_conn_origin(c)->gate)) {
                return NULL;
            }
        }
        if (a->conn) { /* also one that may not come in: its end is nobody's then */
            cs_stream_detach(cs_conn_stream(a->conn));
        }
        l->extras -= a->extra;
        cs_list_remove(node);
        l->waiting_count--;
        cs_free(a);
    }
    return c;
}

/* Closed with nobody to take what waits. */
static void listener_dismiss(struct cs_listener *l)
{
    struct cs_conn *c;
    while ((c = listener_pop(l, true))) {
        cs_stream_close(cs_conn_stream(c), CS_CLOSE_GRACEFUL, CS_ESHUTDOWN);
    }
}

static void tell_parked(struct cs_listener *l)
{
    if (l->watch) {
        l->watch->parked(l->watch_user);
    }
}

/* ---- the one decision ---- */

static void listener_update(struct cs_listener *l)
{
    if (l->state == LISTENER_IDLE) {
        return;
    }
    bool wanted = l->state == LISTENER_OPEN && !listener_must_wait(l);
    bool once = listener_room(l) <= CS_LISTEN_BACKLOG; /* all that wait may come at once */
    if (l->accept.armed) {
        if (!wanted || (once && !l->once)) {
            cs_ring_cancel(l->net->ring, &l->accept);
        }
        return;
    }
    if (wanted) {
        l->once = once;
        cs_ring_accept(l->net->ring, &l->accept, l->socket->fd, l->once);
        return;
    }
    if (l->state == LISTENER_PARKING) {
        l->state = LISTENER_IDLE;
        tell_parked(l);
        return;
    }
    if (l->state == LISTENER_STOPPING) {
        listener_empty(l);
        tell_parked(l);
    }
    if (l->state == LISTENER_EMPTYING && !l->ready && l->waiting_count > 0) {
        listener_dismiss(l);
    }
    if (listener_over(l)) {
        listener_kick(l);
    }
}

/* ---- the face ---- */

static struct cs_listener *listener_create(const char *service)
{
    struct cs_listener *l = cs_zalloc(sizeof(*l));
    if (!l) {
        return NULL;
    }
    l->origin = origin_create(service);
    if (!l->origin) {
        cs_free(l);
        return NULL;
    }
    cs_op_init(&l->accept, listener_accepted);
    cs_list_init(&l->waiting);
    cs_list_init(&l->held_node);
    cs_timer_init(&l->retry, listener_retry);
    cs_timer_init(&l->kick, listener_kicked);
    return l;
}

int cs_listener_open(struct cs_listener **out, struct cs_listen_table *table, unsigned worker,
                     struct cs_addr *addr, const struct cs_listen_options *o, const char *service)
{
    struct cs_listener *l = listener_create(service);
    if (!l) {
        return -ENOMEM;
    }
    int err = socket_open(&l->socket, table, worker, addr, o);
    if (err < 0) {
        cs_origin_unref(&l->origin->base);
        cs_free(l);
        return err;
    }
    l->addr = *addr;
    *out = l;
    return 0;
}

int cs_listener_share(struct cs_listener **out, const struct cs_listener *other,
                      const char *service)
{
    if (!other->socket) {
        return -EBADF;
    }
    struct cs_listener *l = listener_create(service);
    if (!l) {
        return -ENOMEM;
    }
    l->socket = other->socket;
    l->socket->refs++;
    l->addr = other->addr;
    *out = l;
    return 0;
}

void cs_listener_watch(struct cs_listener *l, const struct cs_listener_watch *watch, void *user)
{
    l->watch = watch;
    l->watch_user = user;
}

void cs_listener_attach(struct cs_listener *l, cs_listener_ready_fn *ready, void *user)
{
    l->ready = ready;
    l->ready_user = user;
    if (ready && l->waiting_count > 0) {
        listener_kick(l);
    }
    if (!ready && l->state == LISTENER_EMPTYING) {
        listener_update(l); /* nobody will take the rest */
    }
}

void cs_listener_start(struct cs_listener *l, struct cs_net *n)
{
    CS_ASSERT(l->state == LISTENER_IDLE && (!l->net || l->net == n));
    l->net = n;
    l->state = LISTENER_OPEN;
    l->headroom = CS_MAX(CS_MIN(cs_ring_accept_max(n->ring) / 8, (unsigned)HEADROOM_MAX), 1u);
    listener_update(l);
}

void cs_listener_park(struct cs_listener *l)
{
    CS_ASSERT(l->state == LISTENER_OPEN);
    l->state = LISTENER_PARKING;
    cs_timer_stop(cs_loop_wheel(l->net->loop), &l->retry);
    listener_update(l);
}

struct cs_conn *cs_listener_take(struct cs_listener *l)
{
    struct cs_conn *c = listener_pop(l, false);
    if (l->net) {
        listener_update(l);
    }
    return c;
}

unsigned cs_listener_waiting(const struct cs_listener *l)
{
    return l->waiting_count;
}

bool cs_listener_unused(const struct cs_listener *l)
{
    return l->state == LISTENER_IDLE && l->waiting_count == 0 && l->looking == 0;
}

void cs_listener_close(struct cs_listener *l, void (*closed)(void *user), void *user)
{
    CS_ASSERT(l->state < LISTENER_STOPPING);
    l->closed = closed;
    l->closed_user = user;
    if (!l->net) {
        listener_empty(l);
        listener_free(l);
        return;
    }
    l->state = LISTENER_STOPPING;
    cs_timer_stop(cs_loop_wheel(l->net->loop), &l->retry);
    listener_update(l);
}

bool cs_listener_reopen(struct cs_listener *l)
{
    if (l->state != LISTENER_STOPPING) {
        return false;
    }
    l->state = LISTENER_OPEN;
    l->closed = NULL;
    listener_update(l); /* armed again by the final event of the accept that is being cancelled */
    return true;
}

const struct cs_addr *cs_listener_addr(const struct cs_listener *l)
{
    return &l->addr;
}

struct cs_origin *cs_listener_origin(struct cs_listener *l)
{
    return &l->origin->base;
}

/* Connections stay with the service that let them in. */
int cs_listener_rename(struct cs_listener *l, const char *service)
{
    if (strcmp(l->origin->service, service) == 0) {
        return 0;
    }
    struct origin *o = origin_create(service);
    if (!o) {
        return -ENOMEM;
    }
    cs_origin_unref(&l->origin->base);
    l->origin = o;
    return 0;
}
