/*
 * ring_support - what the tests of engine/ring share: pairs of sockets, a listener that answers no
 * further connect, waiting with an end, and running a test with the kernel's features and without.
 */
#ifndef UNIT_RING_SUPPORT_H
#define UNIT_RING_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/clock.h"
#include "support/descriptors.h"

/* Does `step` until cond holds; five seconds without it fail the test. */
#define UNTIL(cond, step)                                                                          \
    do {                                                                                           \
        uint64_t until_end_ns = cs_clock_ns() + 5000000000u;                                       \
        while (!(cond)) {                                                                          \
            assert_true(cs_clock_ns() < until_end_ns);                                             \
            step;                                                                                  \
        }                                                                                          \
    } while (0)

/* The same test twice: with what the kernel offers, and with ordinary descriptors only. */
#define BOTH(fn)                                                                                   \
    {#fn, fn, setup_direct, teardown, NULL},                                                       \
    {                                                                                              \
#fn " (fd)", fn, setup_plain, teardown, NULL                                               \
    }

static inline struct cs_addr address(const char *ip)
{
    struct cs_addr a;
    assert_int_equal(cs_addr_parse(&a, ip, 0), 0);
    return a;
}

/* A blocking listener at addr, which gets the port. */
static inline int listener_at(struct cs_addr *addr, int backlog)
{
    int fd = socket(cs_addr_family(addr), SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &addr->sa, addr->len), 0);
    assert_int_equal(listen(fd, backlog), 0);
    addr->len = sizeof(addr->un);
    assert_int_equal(getsockname(fd, &addr->sa, &addr->len), 0);
    return fd;
}

/* The kernel completes a connect to a listener of this machine by itself. */
static inline int client_of(const struct cs_addr *addr)
{
    int fd = socket(cs_addr_family(addr), SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &addr->sa, addr->len), 0);
    return fd;
}

/* Two ends of one TCP connection. */
static inline void tcp_pair(int fd[2])
{
    struct cs_addr addr = address("127.0.0.1");
    int listener = listener_at(&addr, 1);
    fd[0] = client_of(&addr);
    fd[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd[1] >= 0);
    close(listener);
}

/* A listener whose queue is full, so that the kernel drops every further SYN. */
struct silent {
    struct cs_addr addr;
    int listener, client;
};

static inline void silent_open(struct silent *s)
{
    s->addr = address("127.0.0.1");
    s->listener = listener_at(&s->addr, 0);
    s->client = client_of(&s->addr);
}

static inline void silent_close(struct silent *s)
{
    close(s->client);
    close(s->listener);
}

/* What a peer sees without waiting: bytes, 0 at the end, or -errno. */
static inline int seen_by(int fd, void *buf, size_t size)
{
    ssize_t n = recv(fd, buf, size, MSG_DONTWAIT);
    return n < 0 ? -errno : (int)n;
}

#endif
