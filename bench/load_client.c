/*
 * The clients in front of the proxy: one process with its share of the connections.
 *
 *   OPEN    connects all of them (hold: and verifies each by an echo)
 *   RUN     hold: watches that none is lost; slow: reads at a trickle; others: the work itself
 *   VERIFY  hold: echoes over each one again; slow: reads on to the end; others: the last answers
 *   CLOSE   closes all
 */
#include "load.h"
#include "load_link.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

enum state {
    UNUSED,
    CONNECTING,
    SHAKING, /* hands: TLS, WebSocket */
    IDLE,
    WAITING, /* for the rest of an echo */
    BULKING,
    ENDED,
};

struct conn {
    struct load_link link;
    enum state state;
    bool opening; /* counted in client.opening */
    uint32_t events;
    uint32_t id;
    uint64_t base;
    uint64_t sent, send_end; /* positions in the stream; bulk: the header comes before 0 */
    uint64_t received, receive_end;
    uint64_t *begun;            /* pipelined: when each request under way began, a ring */
    uint64_t answered;          /* pipelined: requests that are over */
    uint64_t begun_ns;          /* the request in flight; open loop: when it should have begun */
    uint64_t requests, backlog; /* open loop: requests begun, requests due and not begun */
    size_t header_sent;
    size_t verdict_len;
    int64_t allowance; /* slow: bytes that it may read now */
    union {
        struct load_header header;
        struct load_verdict verdict;
    };
};

struct client {
    const struct load_options *o;
    struct load_shared *shared;
    struct load_child *child;
    int epoll;
    struct conn *conns;
    unsigned count;   /* connections of this process */
    unsigned first;   /* id of the first one */
    unsigned opened;  /* first ones that have been started */
    unsigned opening; /* not finished with the opening yet */
    unsigned waiting; /* conns in WAITING or BULKING */
    unsigned next_verify;
    uint64_t next_id;     /* rate: every connection has a new one */
    uint64_t due;         /* open loop: requests that have become due */
    uint64_t trickled_ns; /* slow: when the allowances last grew */
    unsigned char in[LOAD_SLICE_MAX];
};

static void finish(struct client *cl, struct conn *c, bool lost, const char *why);

static void watch(struct client *cl, struct conn *c, uint32_t events)
{
    if (c->events != events) {
        struct epoll_event e = {.events = events, .data.ptr = c};
        epoll_ctl(cl->epoll, c->events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->link.fd, &e);
        c->events = events;
    }
}

/* ---- opening
 * ----------------------------------------------------------------------------------------- */

static int bind_source(const struct client *cl, int fd, uint64_t id)
{
    const struct load_addrs *from = &cl->o->from;
    if (from->count == 0) {
        return 0;
    }
    int one = 1;
    const struct load_addr *a = &from->at[id % from->count];
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    return bind(fd, &a->sa, a->len);
}

static void start_connection(struct client *cl, struct conn *c, uint32_t id)
{
    /* Sources change fastest, so that each pair of addresses gets its share of the ports. */
    const struct load_addrs *to = &cl->o->to;
    unsigned sources = cl->o->from.count > 0 ? cl->o->from.count : 1;
    const struct load_addr *a = &to->at[id / sources % to->count];
    int type = (cl->o->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    int one = 1;
    *c =
        (struct conn){.id = id, .base = load_stream_base(id), .state = CONNECTING, .opening = true};
    c->begun_ns = load_now_ns();
    c->link.fd = socket(a->sa.sa_family, type, 0);
    cl->opening++;
    if (c->link.fd < 0) {
        finish(cl, c, true, "socket");
        return;
    }
    if (!cl->o->udp) {
        setsockopt(c->link.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    if (bind_source(cl, c->link.fd, id) < 0) {
        finish(cl, c, true, "bind to the source address");
        return;
    }
    if (connect(c->link.fd, &a->sa, a->len) < 0 && errno != EINPROGRESS) {
        finish(cl, c, true, "connect");
        return;
    }
    watch(cl, c, EPOLLOUT);
}

static void open_more(struct client *cl)
{
    while (cl->opened < cl->count && cl->opening < cl->o->window) {
        unsigned i = cl->opened++;
        start_connection(cl, &cl->conns[i], cl->first + i);
    }
}

/* ---- one request and its echo
 * ------------------------------------------------------------------------ */

static void push(struct client *cl, struct conn *c)
{
    while (c->sent < c->send_end) {
        uint64_t len = c->send_end - c->sent;
        size_t slice = len > LOAD_SLICE_MAX ? LOAD_SLICE_MAX : (size_t)len;
        ssize_t n = load_link_send(&c->link, load_stream_at(c->base, c->sent), slice);
        if (n < 0 && errno != EAGAIN) {
            finish(cl, c, true, "send");
            return;
        }
        if (n > 0) {
            c->sent += (uint64_t)n;
        }
        if (n < (ssize_t)slice) {
            watch(cl, c, EPOLLIN | EPOLLOUT);
            return;
        }
    }
    watch(cl, c, EPOLLIN);
}

static void opening_done(struct client *cl, struct conn *c)
{
    if (c->opening) {
        c->opening = false;
        cl->opening--;
    }
}

static void begin_request(struct client *cl, struct conn *c, uint64_t begun_ns)
{
    c->state = WAITING;
    cl->waiting++;
    c->begun_ns = begun_ns;
    c->send_end += cl->o->size;
    c->receive_end += cl->o->size;
    push(cl, c);
}

/* Open loop: when request number `n` of this connection should begin, whatever happened to earlier
 * ones. */
static uint64_t scheduled_ns(const struct client *cl, const struct conn *c, uint64_t n)
{
    double slot = (double)n * cl->o->connections + c->id;
    return cl->shared->begin_ns + (uint64_t)(slot * 1e9 / cl->o->rate);
}

static void begin_due_request(struct client *cl, struct conn *c)
{
    if (c->backlog > 0 && c->state == IDLE) {
        c->backlog--;
        begin_request(cl, c, scheduled_ns(cl, c, c->requests++));
    }
}

static void restart(struct client *cl, struct conn *c)
{
    start_connection(cl, c, (uint32_t)(cl->first + cl->next_id++ * cl->o->procs));
}

static bool wanted_more(const struct client *cl)
{
    return cl->shared->phase == LOAD_RUN &&
           (cl->o->count == 0 || cl->child->done < cl->o->count / cl->o->procs);
}

/* Requests of the warm-up do not count, however late their answers come. */
static void record(struct client *cl, uint64_t begun_ns)
{
    uint64_t now = load_now_ns();
    if (begun_ns >= cl->shared->record_ns) {
        load_hist_add(&cl->child->hist, now > begun_ns ? now - begun_ns : 0);
    }
}

static void echo_complete(struct client *cl, struct conn *c)
{
    int phase = cl->shared->phase;
    cl->waiting--;
    c->state = IDLE;
    if (phase == LOAD_OPEN) {
        cl->child->verified++;
        opening_done(cl, c);
        return;
    }
    if (phase == LOAD_VERIFY && cl->o->mode == LOAD_HOLD) {
        cl->child->reverified++;
        return;
    }
    cl->child->done++;
    record(cl, c->begun_ns);
    if (cl->o->mode == LOAD_RATE) {
        finish(cl, c, false, NULL);
    } else if (cl->o->rate > 0) {
        begin_due_request(cl, c);
    } else if (wanted_more(cl)) {
        begin_request(cl, c, load_now_ns());
    }
}

/* ---- several requests under way in a connection ---- */

static void begin_one_more(struct client *cl, struct conn *c)
{
    c->begun[c->requests++ % cl->o->pipeline] = load_now_ns();
    c->send_end += cl->o->size;
    c->receive_end += cl->o->size;
}

static void begin_pipelined(struct client *cl, struct conn *c)
{
    c->begun = calloc(cl->o->pipeline, sizeof(*c->begun));
    if (c->begun == NULL) {
        load_die("out of memory");
    }
    while (c->requests < cl->o->pipeline) {
        begin_one_more(cl, c);
    }
    c->state = WAITING;
    cl->waiting++;
    push(cl, c);
}

static void pipelined_answers(struct client *cl, struct conn *c)
{
    while (c->received >= (c->answered + 1) * cl->o->size) {
        uint64_t begun = c->begun[c->answered++ % cl->o->pipeline];
        cl->child->done++;
        record(cl, begun);
        if (wanted_more(cl)) {
            begin_one_more(cl, c);
        }
    }
    if (c->received == c->receive_end) {
        cl->waiting--;
        c->state = IDLE;
    } else {
        push(cl, c);
    }
}

static void pull(struct client *cl, struct conn *c)
{
    ssize_t n = load_link_recv(&c->link, cl->in, sizeof(cl->in));
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        finish(cl, c, true, n == 0 ? "closed by the proxy" : "recv");
        return;
    }
    bool whole = !cl->o->udp || (size_t)n == cl->o->size;
    if (!whole || c->received + (uint64_t)n > c->receive_end ||
        memcmp(cl->in, load_stream_at(c->base, c->received), (size_t)n) != 0) {
        cl->child->bad++;
        load_note(cl->child, "connection %u: echo differs near byte %llu", c->id,
                  (unsigned long long)c->received);
        finish(cl, c, true, NULL);
        return;
    }
    c->received += (uint64_t)n;
    cl->child->bytes += (uint64_t)n;
    if (c->begun != NULL) {
        pipelined_answers(cl, c);
    } else if (c->state == WAITING && c->received == c->receive_end) {
        echo_complete(cl, c);
    }
}

/* ---- bulk
 * -------------------------------------------------------------------------------------------- */

static void bulk_begin(struct client *cl, struct conn *c)
{
    uint64_t share = cl->o->bytes / cl->o->connections;
    c->header = (struct load_header){.magic = LOAD_HEADER_MAGIC, .base = c->base};
    c->header.up = cl->o->way & LOAD_UP ? share : 0;
    c->header.down = cl->o->way & LOAD_DOWN ? share : 0;
    c->send_end = c->header.up;
    c->receive_end = c->header.down;
    c->state = BULKING;
    cl->waiting++;
    watch(cl, c, EPOLLIN | EPOLLOUT);
}

static void bulk_push(struct client *cl, struct conn *c)
{
    if (c->header_sent < sizeof(c->header)) {
        ssize_t n = load_link_send(&c->link, (char *)&c->header + c->header_sent,
                                   sizeof(c->header) - c->header_sent);
        if (n < 0 && errno != EAGAIN) {
            finish(cl, c, true, "send");
            return;
        }
        c->header_sent += n > 0 ? (size_t)n : 0;
        if (c->header_sent < sizeof(c->header)) {
            return;
        }
    }
    push(cl, c);
}

/* How many bytes may be read now: all but for those who read slowly. */
static size_t may_read(struct client *cl, const struct conn *c)
{
    if (cl->o->mode != LOAD_SLOW || cl->shared->phase != LOAD_RUN ||
        c->allowance > (int64_t)sizeof(cl->in)) {
        return sizeof(cl->in);
    }
    int64_t least = cl->o->tls ? LOAD_RECORD_MAX : 0;
    return c->allowance <= 0 ? 0 : (size_t)(c->allowance > least ? c->allowance : least);
}

static void bulk_pull(struct client *cl, struct conn *c)
{
    size_t most = may_read(cl, c);
    if (most == 0) {
        watch(cl, c, EPOLLRDHUP); /* which a proxy says that gives up */
        return;
    }
    ssize_t n = load_link_recv(&c->link, cl->in, most);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0) {
        finish(cl, c, true, n == 0 ? "closed by the proxy" : "recv");
        return;
    }
    c->allowance -= n;
    uint64_t payload = c->receive_end - c->received;
    payload = payload < (uint64_t)n ? payload : (uint64_t)n;
    if (memcmp(cl->in, load_stream_at(c->base + 1, c->received), payload) != 0) {
        cl->child->bad++;
        load_note(cl->child, "stream %u: download differs near byte %llu", c->id,
                  (unsigned long long)c->received);
    }
    c->received += payload;
    cl->child->bytes += payload;
    size_t rest = (size_t)n - (size_t)payload;
    if (rest > sizeof(c->verdict) - c->verdict_len) {
        cl->child->bad++;
        finish(cl, c, true, "more bytes than were sent");
        return;
    }
    memcpy((char *)&c->verdict + c->verdict_len, cl->in + payload, rest);
    c->verdict_len += rest;
    if (c->verdict_len == sizeof(c->verdict)) {
        if (memcmp(c->verdict.magic, LOAD_VERDICT_MAGIC, sizeof(c->verdict.magic)) != 0 ||
            c->verdict.bad != 0) {
            cl->child->bad++;
            load_note(cl->child, "stream %u: the origin got something else", c->id);
        }
        cl->child->bytes += c->send_end;
        cl->child->done++;
        finish(cl, c, false, NULL);
    }
}

/* ---- ends
 * -------------------------------------------------------------------------------------------- */

/* The connection is over; rate opens the next one in its place. */
static void finish(struct client *cl, struct conn *c, bool lost, const char *why)
{
    if (why != NULL) {
        load_note(cl->child, "connection %u: %s%s%s", c->id, why, errno != 0 ? ": " : "",
                  errno != 0 ? strerror(errno) : "");
    }
    opening_done(cl, c);
    if (c->state == WAITING || c->state == BULKING) {
        cl->waiting--;
    }
    if ((c->state == CONNECTING || c->state == SHAKING) && lost) {
        cl->child->failed++;
    } else if (lost) {
        cl->child->lost++;
    }
    load_link_close(&c->link);
    free(c->begun);
    c->begun = NULL;
    c->state = ENDED;
    if (cl->o->mode == LOAD_RATE && wanted_more(cl) && cl->child->failed + cl->child->lost < 100) {
        restart(cl, c);
    }
}

static void ready(struct client *cl, struct conn *c)
{
    size_t preface = cl->o->preface ? strlen(cl->o->preface) : 0;
    if (preface > 0 && load_link_send(&c->link, cl->o->preface, preface) != (ssize_t)preface) {
        finish(cl, c, true, "preface"); /* the buffer of a new connection takes it */
        return;
    }
    cl->child->opened++;
    cl->child->resumed += load_link_resumed(&c->link);
    if (cl->o->mode == LOAD_HOLD || cl->o->mode == LOAD_RATE) {
        begin_request(cl, c, c->begun_ns);
        return;
    }
    c->state = IDLE;
    opening_done(cl, c);
    watch(cl, c, EPOLLIN);
}

static void shake(struct client *cl, struct conn *c)
{
    int result = load_link_handshake(&c->link);
    if (result < 0) {
        finish(cl, c, true, "handshake");
    } else if (result > 0) {
        ready(cl, c);
    } else {
        watch(cl, c, c->link.wants);
    }
}

static void connected(struct client *cl, struct conn *c)
{
    int err = 0;
    socklen_t len = sizeof(err);
    getsockopt(c->link.fd, SOL_SOCKET, SO_ERROR, &err, &len);
    if (err != 0) {
        errno = err;
        finish(cl, c, true, "connect");
        return;
    }
    c->state = SHAKING;
    load_link_begin(&c->link, cl->o);
    shake(cl, c);
}

static void serve(struct client *cl, struct conn *c, uint32_t events)
{
    errno = 0;
    switch (c->state) {
    case CONNECTING:
        connected(cl, c);
        break;
    case SHAKING:
        shake(cl, c);
        break;
    case BULKING:
        if (events & EPOLLIN) {
            bulk_pull(cl, c);
        }
        if (c->state == BULKING && (events & EPOLLOUT)) {
            bulk_push(cl, c);
        } else if (c->state == BULKING && !(events & EPOLLIN)) {
            finish(cl, c, true, "broken");
        }
        break;
    case IDLE:
    case WAITING:
        if (events & EPOLLOUT) {
            push(cl, c);
        }
        if (c->state != ENDED && (events & (EPOLLIN | EPOLLERR | EPOLLHUP))) {
            pull(cl, c);
        }
        break;
    default:
        break;
    }
}

/* ---- phases
 * ------------------------------------------------------------------------------------------ */

static void for_each(struct client *cl, enum state state,
                     void (*call)(struct client *, struct conn *))
{
    for (unsigned i = 0; i < cl->count; i++) {
        if (cl->conns[i].state == state) {
            errno = 0;
            call(cl, &cl->conns[i]);
        }
    }
}

static void begin_now(struct client *cl, struct conn *c)
{
    errno = 0;
    begin_request(cl, c, load_now_ns());
}

static void read_on(struct client *cl, struct conn *c)
{
    watch(cl, c, c->events | EPOLLIN);
}

static void close_now(struct client *cl, struct conn *c)
{
    finish(cl, c, false, NULL);
}

static void give_up(struct client *cl, struct conn *c)
{
    finish(cl, c, true, "not finished in time");
}

static void begin_phase(struct client *cl, int phase)
{
    if (phase == LOAD_RUN && cl->o->mode == LOAD_RATE) {
        for (unsigned i = 0; i < cl->count; i++) {
            restart(cl, &cl->conns[i]);
        }
    } else if (phase == LOAD_RUN && cl->o->mode == LOAD_RR && cl->o->rate == 0) {
        for_each(cl, IDLE, cl->o->pipeline > 1 ? begin_pipelined : begin_now);
    } else if (phase == LOAD_RUN && (cl->o->mode == LOAD_BULK || cl->o->mode == LOAD_SLOW)) {
        cl->trickled_ns = load_now_ns();
        for_each(cl, IDLE, bulk_begin);
    } else if (phase == LOAD_VERIFY && cl->o->mode == LOAD_SLOW) {
        for_each(cl, BULKING, read_on);
    } else if (phase == LOAD_CLOSE) {
        for_each(cl, IDLE, close_now);
        for_each(cl, WAITING, give_up);
        for_each(cl, BULKING, give_up);
    }
}

static bool phase_complete(struct client *cl, int phase)
{
    switch (phase) {
    case LOAD_OPEN:
        return cl->o->mode == LOAD_RATE || (cl->opened == cl->count && cl->opening == 0);
    case LOAD_RUN:
        return (cl->waiting + cl->opening == 0 && cl->o->mode != LOAD_HOLD && cl->o->rate == 0) ||
               (cl->o->count != 0 && !wanted_more(cl));
    case LOAD_VERIFY:
        return (cl->o->mode != LOAD_HOLD || cl->next_verify == cl->count) &&
               cl->waiting + cl->opening == 0;
    default:
        return true;
    }
}

/* Re-verifying 9,000 connections at once would measure queues; the window bounds it as in opening.
 */
static void verify_more(struct client *cl)
{
    while (cl->next_verify < cl->count && cl->waiting < cl->o->window) {
        struct conn *c = &cl->conns[cl->next_verify++];
        if (c->state == IDLE) {
            begin_now(cl, c);
        }
    }
}

/* Ten times a second, those who read slowly may read a little more. */
static void trickle(struct client *cl)
{
    uint64_t now = load_now_ns();
    double seconds = (double)(now - cl->trickled_ns) / 1e9;
    if (cl->o->trickle == 0 || seconds < 0.1) {
        return;
    }
    cl->trickled_ns = now;
    for (unsigned i = 0; i < cl->count; i++) {
        struct conn *c = &cl->conns[i];
        if (c->state == BULKING) {
            c->allowance += (int64_t)(seconds * cl->o->trickle);
            read_on(cl, c);
        }
    }
}

/* Open loop: begins what has become due; returns the nanoseconds until the next one. */
static uint64_t begin_due_requests(struct client *cl)
{
    uint64_t now = load_now_ns();
    for (;;) {
        struct conn *c = &cl->conns[cl->due % cl->count];
        uint64_t at = scheduled_ns(cl, c, cl->due / cl->count);
        if (at > now) {
            return at - now;
        }
        cl->due++;
        c->backlog++;
        errno = 0;
        begin_due_request(cl, c);
    }
}

static void turn(struct client *cl, int phase)
{
    struct epoll_event events[LOAD_EVENTS_PER_WAIT];
    struct timespec wait = {.tv_nsec = 10000000};
    if (phase == LOAD_RUN && cl->o->mode == LOAD_RR && cl->o->rate > 0) {
        uint64_t ns = begin_due_requests(cl);
        wait.tv_nsec = ns < 10000000 ? (long)ns : 10000000;
    } else if (phase == LOAD_OPEN && cl->o->mode != LOAD_RATE) {
        open_more(cl);
    } else if (phase == LOAD_RUN && cl->o->mode == LOAD_SLOW) {
        trickle(cl);
    } else if (phase == LOAD_VERIFY && cl->o->mode == LOAD_HOLD) {
        verify_more(cl);
    }
    int n = epoll_pwait2(cl->epoll, events, LOAD_EVENTS_PER_WAIT, &wait, NULL);
    for (int i = 0; i < n; i++) {
        serve(cl, events[i].data.ptr, events[i].events);
    }
}

void load_client_child(const struct load_options *o, struct load_shared *shared,
                       struct load_child *child, unsigned index)
{
    struct client *cl = calloc(1, sizeof(*cl));
    if (cl == NULL) {
        load_die("out of memory");
    }
    unsigned share = o->connections / o->procs;
    unsigned more = o->connections % o->procs;
    cl->o = o;
    cl->shared = shared;
    cl->child = child;
    cl->count = share + (index < more ? 1 : 0);
    cl->first = index * share + (index < more ? index : more);
    if (o->mode == LOAD_RATE) {
        cl->first = index; /* ids go up in steps of the number of processes */
    }
    cl->conns = calloc(cl->count + 1, sizeof(*cl->conns));
    cl->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (cl->conns == NULL || cl->epoll < 0) {
        load_die("a client process could not start");
    }
    int begun = LOAD_START;
    while (begun < LOAD_CLOSE) {
        int phase = shared->phase;
        if (phase != begun) {
            begun = phase;
            begin_phase(cl, phase);
        }
        if (phase != LOAD_START && child->finished < phase && phase_complete(cl, phase)) {
            child->finished = phase;
        }
        if (phase < LOAD_CLOSE) {
            turn(cl, phase);
        }
    }
    child->finished = LOAD_END;
}
