/*
 * The origin behind the proxy. A connection that begins with a load_header is a bulk transfer;
 * anything else is echoed byte by byte. Datagrams are all echoed.
 */
#include "load.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum kind { LISTENER, DATAGRAMS, UNDECIDED, ECHO, BULK };

struct sink_conn {
    int fd;
    enum kind kind;
    uint32_t events; /* what epoll is told to watch */
    union {
        struct load_header header; /* UNDECIDED: filled so far; BULK: what was asked */
        unsigned char first[sizeof(struct load_header)];
    };
    size_t first_len;
    uint64_t received, sent, bad;
    unsigned char *held; /* ECHO: what the peer would not take yet */
    size_t held_len;
};

struct sink {
    int epoll;
    struct load_child *child;
    struct sink_conn *listeners;
    unsigned listener_count;
    unsigned open, open_max;
    bool accepting;
    unsigned char in[LOAD_SLICE_MAX];
};

static void watch(struct sink *s, struct sink_conn *c, uint32_t events)
{
    if (c->events != events) {
        struct epoll_event e = {.events = events, .data.ptr = c};
        epoll_ctl(s->epoll, EPOLL_CTL_MOD, c->fd, &e);
        c->events = events;
    }
}

static void accept_from_now_on(struct sink *s, bool on)
{
    for (unsigned i = 0; on != s->accepting && i < s->listener_count; i++) {
        struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.ptr = &s->listeners[i]};
        epoll_ctl(s->epoll, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, s->listeners[i].fd, &e);
    }
    s->accepting = on;
}

static void end(struct sink *s, struct sink_conn *c)
{
    close(c->fd);
    free(c->held);
    free(c);
    s->open--;
    s->child->closed++;
    accept_from_now_on(s, true);
}

static void accept_some(struct sink *s, struct sink_conn *listener)
{
    for (int i = 0; i < 64 && s->open < s->open_max; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        struct sink_conn *c = calloc(1, sizeof(*c));
        if (c == NULL) {
            load_die("out of memory");
        }
        c->fd = fd;
        c->kind = UNDECIDED;
        c->events = EPOLLIN;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &e);
        s->open++;
        s->child->accepted++;
    }
    if (s->open >= s->open_max) {
        accept_from_now_on(s, false);
    }
}

/* ---- echo
 * -------------------------------------------------------------------------------------------- */

/* 0, or -1 when the connection is broken. */
static int echo(struct sink *s, struct sink_conn *c, const unsigned char *data, size_t len)
{
    ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        return -1;
    }
    size_t taken = n > 0 ? (size_t)n : 0;
    if (taken == len) {
        return 0;
    }
    c->held = malloc(len - taken);
    if (c->held == NULL) {
        load_die("out of memory");
    }
    c->held_len = len - taken;
    memcpy(c->held, data + taken, c->held_len);
    watch(s, c, EPOLLOUT);
    return 0;
}

static int echo_held(struct sink *s, struct sink_conn *c)
{
    unsigned char *held = c->held;
    size_t len = c->held_len;
    c->held = NULL;
    c->held_len = 0;
    int result = echo(s, c, held, len);
    free(held);
    if (result == 0 && c->held == NULL) {
        watch(s, c, EPOLLIN);
    }
    return result;
}

/* ---- bulk
 * -------------------------------------------------------------------------------------------- */

static void compare(struct sink *s, struct sink_conn *c, const unsigned char *data, size_t len)
{
    if (c->received + len > c->header.up ||
        memcmp(data, load_stream_at(c->header.base, c->received), len) != 0) {
        c->bad++;
        s->child->bad++;
        load_note(s->child, "sink: upload differs near byte %llu", (unsigned long long)c->received);
    }
    c->received += len;
    s->child->bytes += len;
}

/* Sends what was asked for and, when everything has arrived too, the verdict. */
static int bulk_send(struct sink *s, struct sink_conn *c)
{
    struct load_verdict verdict = {.magic = LOAD_VERDICT_MAGIC, .bad = c->bad};
    while (c->sent < c->header.down + sizeof(verdict)) {
        const unsigned char *data;
        uint64_t len;
        if (c->sent < c->header.down) {
            data = load_stream_at(c->header.base + 1, c->sent);
            len = c->header.down - c->sent;
        } else if (c->received >= c->header.up) {
            data = (unsigned char *)&verdict + (c->sent - c->header.down);
            len = c->header.down + sizeof(verdict) - c->sent;
        } else {
            break;
        }
        size_t slice = len > LOAD_SLICE_MAX ? LOAD_SLICE_MAX : (size_t)len;
        ssize_t n = send(c->fd, data, slice, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            return -1;
        }
        if (n > 0) {
            c->sent += (uint64_t)n;
        }
        if (n < (ssize_t)slice) {
            watch(s, c, EPOLLIN | EPOLLOUT);
            return 0;
        }
    }
    watch(s, c, EPOLLIN);
    return 0;
}

/* ---- events
 * ------------------------------------------------------------------------------------------ */

/* The first bytes decide what the connection is. */
static int decide(struct sink *s, struct sink_conn *c, const unsigned char *data, size_t len)
{
    size_t n = sizeof(c->first) - c->first_len;
    n = n < len ? n : len;
    memcpy(c->first + c->first_len, data, n);
    size_t old = c->first_len;
    c->first_len += n;
    size_t known = c->first_len < sizeof(c->header.magic) ? c->first_len : sizeof(c->header.magic);
    if (memcmp(c->first, LOAD_HEADER_MAGIC, known) != 0) {
        c->kind = ECHO;
        if (old != 0 && echo(s, c, c->first, old) < 0) {
            return -1;
        }
        return echo(s, c, data, len);
    }
    if (c->first_len < sizeof(c->first)) {
        return 0;
    }
    c->kind = BULK;
    if (len > n) {
        compare(s, c, data + n, len - n);
    }
    return bulk_send(s, c);
}

static int readable(struct sink *s, struct sink_conn *c)
{
    ssize_t n = recv(c->fd, s->in, sizeof(s->in), 0);
    if (n < 0) {
        return errno == EAGAIN ? 0 : -1;
    }
    if (n == 0) {
        return -1;
    }
    switch (c->kind) {
    case ECHO:
        s->child->bytes += (uint64_t)n;
        return echo(s, c, s->in, (size_t)n);
    case BULK:
        compare(s, c, s->in, (size_t)n);
        return c->received >= c->header.up ? bulk_send(s, c) : 0;
    default:
        return decide(s, c, s->in, (size_t)n);
    }
}

/* What the socket has no room for is lost, and missed by the client. */
static void echo_datagrams(struct sink *s, const struct sink_conn *c)
{
    for (int i = 0; i < 64; i++) {
        struct load_addr from = {.len = sizeof(from.in6)};
        ssize_t n = recvfrom(c->fd, s->in, sizeof(s->in), 0, &from.sa, &from.len);
        if (n < 0) {
            return;
        }
        sendto(c->fd, s->in, (size_t)n, MSG_NOSIGNAL, &from.sa, from.len);
        s->child->bytes += (uint64_t)n;
    }
}

static void serve(struct sink *s, struct sink_conn *c, uint32_t events)
{
    if (c->kind == DATAGRAMS) {
        echo_datagrams(s, c);
        return;
    }
    if (c->kind == LISTENER) {
        accept_some(s, c);
        return;
    }
    int result = 0;
    if (events & EPOLLOUT) {
        result = c->kind == BULK ? bulk_send(s, c) : echo_held(s, c);
    }
    if (result == 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && c->held == NULL) {
        result = readable(s, c);
    } else if (result == 0 && (events & (EPOLLHUP | EPOLLERR))) {
        result = -1;
    }
    if (result < 0) {
        end(s, c);
    }
}

void load_sink_listen(const struct load_options *o, int *listeners)
{
    for (unsigned i = 0; i < o->to.count; i++) {
        const struct load_addr *a = &o->to.at[i];
        int one = 1;
        int type = o->udp ? SOCK_DGRAM : SOCK_STREAM;
        int fd = socket(a->sa.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (!o->udp) {
            setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        }
        if (fd < 0 || bind(fd, &a->sa, a->len) < 0 || (!o->udp && listen(fd, 65535) < 0)) {
            load_die("sink: port %u: %s", ntohs(a->in.sin_port), strerror(errno));
        }
        listeners[i] = fd;
    }
}

void load_sink_child(const struct load_options *o, struct load_shared *shared,
                     struct load_child *child, const int *listeners)
{
    struct sink *s = calloc(1, sizeof(*s));
    struct sink_conn *all = calloc(o->to.count, sizeof(*all));
    if (s == NULL || all == NULL) {
        load_die("out of memory");
    }
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->child = child;
    s->listeners = all;
    s->listener_count = o->to.count;
    s->open_max = load_descriptors() - o->to.count;
    for (unsigned i = 0; i < o->to.count; i++) {
        all[i] = (struct sink_conn){.fd = listeners[i], .kind = o->udp ? DATAGRAMS : LISTENER};
    }
    accept_from_now_on(s, true);
    while (shared->phase < LOAD_CLOSE) {
        struct epoll_event events[LOAD_EVENTS_PER_WAIT];
        int n = epoll_wait(s->epoll, events, LOAD_EVENTS_PER_WAIT, 100);
        for (int i = 0; i < n; i++) {
            serve(s, events[i].data.ptr, events[i].events);
        }
    }
    child->finished = LOAD_END;
}
