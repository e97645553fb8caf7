/*
 * net_support - what the tests of engine/net share: a loop on a real ring with a clock that can be
 * moved, and a name server on 127.0.0.1 (UDP and TCP) that is served between two turns, so that no
 * thread and no waiting is involved.
 */
#ifndef UNIT_NET_SUPPORT_H
#define UNIT_NET_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "ring/loop.h"

/* ---- time ---- */

static uint64_t clock_skew_ms;

static uint64_t skewed_clock(void)
{
    return cs_clock_ns() / 1000000 + clock_skew_ms;
}

/* ---- loop ---- */

/* Skips the test program where io_uring is not to be had. slots_max 0: the default. */
static inline struct cs_loop *loop_open(unsigned slots_max)
{
    char why[256] = "";
    struct cs_ring *ring;
    struct cs_ring_config config;
    cs_ring_config_default(&config);
    config.slots_max = slots_max;
    clock_skew_ms = 0;
    cs_clock_set_source(skewed_clock);
    if (cs_ring_create(&ring, &config, why, sizeof(why)) != 0) {
        fprintf(stderr, "skipped: %s\n", why);
        exit(77);
    }
    struct cs_loop *loop = cs_loop_create(ring);
    assert_non_null(loop);
    return loop;
}

/* ---- name server ---- */

enum { DNS_A = 1, DNS_AAAA = 28, DNS_SERVFAIL = 2, DNS_NXDOMAIN = 3, DNS_RECORDS_MAX = 16 };

struct dns_record {
    const char *name; /* "*": any name */
    int type;
    uint32_t ttl;
    const char *addr;
};

struct dns {
    int udp, tcp;
    int conn;              /* accepted from tcp, or -1 */
    uint8_t msg[2 + 1024]; /* of conn */
    size_t have;
    struct dns_record records[DNS_RECORDS_MAX]; /* an unknown name does not exist */
    unsigned count;
    unsigned asked[2]; /* questions seen: A, AAAA */
    unsigned tcp_asked;
    int fail;      /* answer everything with this code */
    bool mute;     /* do not answer at all */
    bool truncate; /* answer over UDP that TCP has to be used */
};

/* Bound to addr, which gets the port; -1 when that is taken. */
static inline int try_socket(int type, struct sockaddr_in *addr)
{
    int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(*addr);
    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)addr, len) != 0) {
        close(fd);
        return -1;
    }
    assert_int_equal(getsockname(fd, (struct sockaddr *)addr, &len), 0);
    return fd;
}

static inline int bound_socket(int type, struct sockaddr_in *addr)
{
    int fd = try_socket(type, addr);
    assert_true(fd >= 0);
    return fd;
}

/* Becomes what COSOCKD_DNS points at. */
static inline void dns_open(struct dns *d)
{
    char text[32];
    struct sockaddr_in addr = {.sin_family = AF_INET};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(d, 0, sizeof(*d));
    d->conn = -1;
    do { /* a port that is free for both */
        addr.sin_port = 0;
        d->tcp = bound_socket(SOCK_STREAM, &addr);
        d->udp = try_socket(SOCK_DGRAM, &addr);
        if (d->udp < 0) {
            close(d->tcp);
        }
    } while (d->udp < 0);
    assert_int_equal(listen(d->tcp, 8), 0);
    snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(addr.sin_port));
    setenv("COSOCKD_DNS", text, 1);
}

static inline void dns_close(struct dns *d)
{
    close(d->udp);
    close(d->tcp);
    if (d->conn >= 0) {
        close(d->conn);
    }
}

static inline void dns_add(struct dns *d, const char *name, int type, uint32_t ttl,
                           const char *addr)
{
    assert_true(d->count < DNS_RECORDS_MAX);
    d->records[d->count++] = (struct dns_record){name, type, ttl, addr};
}

/* The question's name as text (lower case); returns the length of its encoding. */
static inline size_t dns_name(const uint8_t *p, char text[256])
{
    size_t at = 0;
    size_t len = 0;
    for (; p[at] != 0; at += (size_t)p[at] + 1) {
        if (len > 0) {
            text[len++] = '.';
        }
        memcpy(&text[len], &p[at + 1], p[at]);
        len += p[at];
    }
    text[len] = '\0';
    return at + 1;
}

static inline size_t dns_put_record(uint8_t *p, const struct dns_record *r)
{
    size_t size = r->type == DNS_A ? 4 : 16;
    const uint8_t head[] = {0xc0, 12, 0, (uint8_t)r->type,
                            0,    1}; /* the question's name, type, IN */
    uint32_t ttl = htonl(r->ttl);
    memcpy(p, head, sizeof(head));
    memcpy(p + 6, &ttl, 4);
    p[10] = 0;
    p[11] = (uint8_t)size;
    assert_int_equal(inet_pton(r->type == DNS_A ? AF_INET : AF_INET6, r->addr, p + 12), 1);
    return 12 + size;
}

/* Turns the question in msg into the answer; returns its length, 0 for none. */
static inline size_t dns_answer(struct dns *d, uint8_t *msg, bool tcp)
{
    char name[256];
    size_t len = 12 + dns_name(msg + 12, name);
    int type = msg[len] << 8 | msg[len + 1];
    uint8_t found = 0;
    bool known = false;
    len += 4;
    d->asked[type == DNS_AAAA]++;
    d->tcp_asked += tcp;
    if (d->mute) {
        return 0;
    }
    bool cut = d->truncate && !tcp;
    for (unsigned i = 0; i < d->count && !cut && !d->fail; i++) {
        const struct dns_record *r = &d->records[i];
        if (strcmp(r->name, "*") == 0 || strcasecmp(r->name, name) == 0) {
            known = true;
            if (r->type == type) {
                len += dns_put_record(msg + len, r);
                found++;
            }
        }
    }
    int code = d->fail ? d->fail : known || cut ? 0 : DNS_NXDOMAIN;
    msg[2] = (uint8_t)(0x81 | (cut ? 2 : 0)); /* response, recursion desired */
    msg[3] = (uint8_t)(0x80 | code);
    memset(msg + 6, 0, 6);
    msg[7] = found;
    return len;
}

/* One connection at a time, which the client closes. */
static inline void dns_serve_tcp(struct dns *d)
{
    if (d->conn < 0) {
        d->conn = accept4(d->tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        d->have = 0;
    }
    ssize_t n = recv(d->conn, d->msg + d->have, sizeof(d->msg) - d->have, 0);
    d->have += n > 0 ? (size_t)n : 0;
    if (n == 0) {
        close(d->conn);
        d->conn = -1;
    } else if (d->have > 2 && d->have == 2 + (size_t)(d->msg[0] << 8 | d->msg[1])) {
        size_t len = dns_answer(d, d->msg + 2, true);
        d->msg[0] = (uint8_t)(len >> 8);
        d->msg[1] = (uint8_t)len;
        d->have = 0;
        assert_int_equal(send(d->conn, d->msg, len + 2, MSG_NOSIGNAL), len + 2);
    }
}

/* Answers what has been asked up to now. */
static inline void dns_serve(struct dns *d)
{
    uint8_t msg[1024];
    struct sockaddr_in from;
    socklen_t from_len = sizeof(from);
    while (recvfrom(d->udp, msg, sizeof(msg), 0, (struct sockaddr *)&from, &from_len) > 12) {
        size_t len = dns_answer(d, msg, false);
        if (len > 0) {
            sendto(d->udp, msg, len, 0, (struct sockaddr *)&from, from_len);
        }
        from_len = sizeof(from);
    }
    dns_serve_tcp(d);
}

/* ---- waiting ---- */

/* Turns until cond holds; five seconds without it fail the test. */
#define TURN_UNTIL(loop, server, cond)                                                             \
    do {                                                                                           \
        struct dns *turn_dns = (server);                                                           \
        uint64_t turn_end_ns = cs_clock_ns() + 5000000000u;                                        \
        while (!(cond)) {                                                                          \
            assert_true(cs_clock_ns() < turn_end_ns);                                              \
            if (turn_dns) {                                                                        \
                dns_serve(turn_dns);                                                               \
            }                                                                                      \
            cs_loop_turn(loop, 2);                                                                 \
        }                                                                                          \
    } while (0)

#endif
