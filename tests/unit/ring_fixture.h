/*
 * ring_fixture - a small ring, two ops that note their events, and a connection between the ring
 * and the test. Teardown demands every slot, buffer and descriptor back.
 */
#ifndef UNIT_RING_FIXTURE_H
#define UNIT_RING_FIXTURE_H

#include "unit/ring_support.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "base/chain.h"
#include "ring/ring.h"

enum {
    SLOTS = 16,
    SMALL = 8,
    SMALL_SIZE = 64,
    BULK = 2,
    BULK_SIZE = 4096,
    DATAGRAMS = 4,
    DATAGRAM_SIZE = 17 * 4096
};

/* An op that notes its events. */
struct watch {
    struct cs_op op;
    unsigned count;
    int res; /* the newest */
    cs_fd fds[SLOTS];
    unsigned fd_count; /* results >= 0 of an accept */
    struct cs_chain data;
};

struct fixture {
    struct cs_ring *ring;
    bool direct;
    unsigned room;        /* accept_room of the ring untouched */
    unsigned descriptors; /* open before the ring was */
    struct watch w, v;
    cs_fd fd; /* the ring's end of a TCP connection, or CS_FD_NONE */
    int peer; /* the other */
};

/* ---- fixture ---- */

static inline void on_event(struct cs_op *op, const struct cs_event *ev)
{
    struct watch *w = cs_container_of(op, struct watch, op);
    w->count++;
    w->res = ev->res;
    if (ev->slice) {
        cs_chain_push(&w->data, ev->slice);
    }
}

static inline void on_accept(struct cs_op *op, const struct cs_event *ev)
{
    struct watch *w = cs_container_of(op, struct watch, op);
    on_event(op, ev);
    if (ev->res >= 0) {
        assert_true(w->fd_count < SLOTS);
        w->fds[w->fd_count++] = ev->res;
    }
}

static inline void watch_init(struct watch *w, cs_op_fn *fn)
{
    memset(w, 0, sizeof(*w));
    cs_op_init(&w->op, fn);
}

static inline unsigned turn(struct cs_ring *r, int64_t timeout_ms)
{
    struct cs_event ev[256];
    unsigned n = cs_ring_wait(r, timeout_ms, ev, CS_ARRAY_LEN(ev));
    for (unsigned i = 0; i < n; i++) {
        cs_ring_event_begin(&ev[i]);
        cs_op_handler(ev[i].op)(ev[i].op, &ev[i]);
    }
    return n;
}

/* Gives everything that can happen now the occasion to. */
static inline void settle(struct fixture *f)
{
    for (unsigned i = 0; i < 4; i++) {
        turn(f->ring, 0);
    }
}

#define WAIT(f, cond) UNTIL(cond, turn((f)->ring, 10))

static inline int ended(struct fixture *f, struct watch *w)
{
    WAIT(f, !w->op.armed);
    return w->res;
}

static inline void ring_config(struct cs_ring_config *config)
{
    *config = (struct cs_ring_config){.slots_max = SLOTS,
                                      .small_buffers = SMALL,
                                      .small_size = SMALL_SIZE,
                                      .bulk_buffers = BULK,
                                      .bulk_size = BULK_SIZE,
                                      .datagram_buffers = DATAGRAMS,
                                      .datagram_size = DATAGRAM_SIZE};
}

/* The features that are to be had belong to COSOCKD_WITHOUT at this moment. */
static inline struct cs_ring *ring_open(void)
{
    char why[256] = "";
    struct cs_ring *r;
    struct cs_ring_config config;
    ring_config(&config);
    if (cs_ring_create(&r, &config, why, sizeof(why)) != 0) {
        fprintf(stderr, "skipped: %s\n", why);
        exit(77);
    }
    return r;
}

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->descriptors = open_descriptors();
    f->ring = ring_open();
    f->direct = cs_ring_features(f->ring) & CS_RING_DIRECT;
    f->room = cs_ring_accept_room(f->ring);
    f->fd = CS_FD_NONE;
    f->peer = -1;
    watch_init(&f->w, on_event);
    watch_init(&f->v, on_event);
    *state = f;
    return 0;
}

static inline int setup_direct(void **state)
{
    unsetenv("COSOCKD_WITHOUT");
    return setup(state);
}

static inline int setup_plain(void **state)
{
    setenv("COSOCKD_WITHOUT", "direct", 1);
    return setup(state);
}

static inline void close_pair(struct fixture *f)
{
    if (f->fd != CS_FD_NONE) {
        cs_ring_close(f->ring, f->fd, false);
        f->fd = CS_FD_NONE;
    }
    if (f->peer >= 0) {
        close(f->peer);
        f->peer = -1;
    }
}

static inline void end_watch(struct fixture *f, struct watch *w)
{
    cs_ring_cancel(f->ring, &w->op);
    WAIT(f, !w->op.armed);
    cs_chain_clear(&w->data);
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    end_watch(f, &f->w);
    end_watch(f, &f->v);
    close_pair(f);
    settle(f);
    assert_int_equal(cs_ring_buffers_free(f->ring, CS_RING_SMALL), SMALL);
    assert_int_equal(cs_ring_buffers_free(f->ring, CS_RING_BULK), BULK);
    assert_int_equal(cs_ring_buffers_free(f->ring, CS_RING_DATAGRAM), DATAGRAMS);
    assert_int_equal(cs_ring_accept_room(f->ring), f->room);
    cs_ring_destroy(f->ring);
    UNTIL(open_descriptors() == f->descriptors, (void)0);
    free(f);
    return 0;
}

static inline struct fixture *with_pair(void **state)
{
    struct fixture *f = *state;
    int fd[2];
    tcp_pair(fd);
    f->peer = fd[1];
    f->fd = cs_ring_adopt(f->ring, fd[0]);
    assert_true(f->fd >= 0);
    return f;
}

static inline int listener(struct cs_addr *addr, const char *ip)
{
    const struct cs_listen_options o = {0};
    int fd;
    *addr = address(ip);
    assert_int_equal(cs_listen_open(&fd, addr, &o), 0);
    return fd;
}

static inline int peer_sees(struct fixture *f, void *buf, size_t size)
{
    int n;
    UNTIL((n = seen_by(f->peer, buf, size)) != -EAGAIN, turn(f->ring, 1));
    return n;
}

static inline void peer_sends(struct fixture *f, size_t n)
{
    char bytes[BULK_SIZE] = "";
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (char)('a' + i % 26);
    }
    assert_int_equal(send(f->peer, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

static inline struct iovec text_iov(const char *text)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
}

/* RLIMIT_NOFILE such that no further descriptor is to be had; what it was is returned. */
static inline struct rlimit no_descriptors(void)
{
    struct rlimit old, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = old;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    return old;
}

#endif
