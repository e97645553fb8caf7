/*
 * net_dial - outgoing connections: literal addresses, names, several addresses in turn, the
 * deadline, cancelling in each state, and each allocation failing.
 */
#include "unit/net_support.h"

#include <errno.h>
#include <sys/un.h>

#include "base/err.h"
#include "net/dial.h"

struct fixture {
    struct dns dns;
    struct cs_loop *loop;
    struct cs_net net;
    int peer; /* a listening socket on 127.0.0.1 */
    uint16_t port;
};

/* What came of one dial. */
struct result {
    unsigned calls;
    int err;
    struct cs_conn *conn;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct cs_net_config config;
    struct sockaddr_in addr = {.sin_family = AF_INET};
    assert_non_null(f);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    f->peer = bound_socket(SOCK_STREAM, &addr);
    f->port = ntohs(addr.sin_port);
    assert_int_equal(listen(f->peer, 64), 0);
    dns_open(&f->dns);
    f->loop = loop_open(64);
    cs_net_config_default(&config);
    assert_int_equal(cs_net_init(&f->net, f->loop, &config), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cs_net_close_all(&f->net, true, 0);
    cs_resolver_stop(f->net.resolver);
    TURN_UNTIL(f->loop, NULL, cs_net_idle(&f->net));
    cs_net_finish(&f->net);
    cs_loop_destroy(f->loop);
    dns_close(&f->dns);
    close(f->peer);
    cs_clock_set_source(NULL);
    free(f);
    return 0;
}

static void dialled(void *user, struct cs_conn *c, int err)
{
    struct result *r = user;
    r->calls++;
    r->err = err;
    r->conn = c;
}

static struct cs_dial *dial_spec(struct fixture *f, struct result *r,
                                 const struct cs_dial_spec *spec)
{
    memset(r, 0, sizeof(*r));
    struct cs_dial *d = cs_dial_start(&f->net, spec, dialled, r);
    assert_int_equal(r->calls, 0);
    return d;
}

static struct cs_dial *dial(struct fixture *f, struct result *r, const char *host, uint16_t port,
                            uint32_t timeout_ms)
{
    const struct cs_dial_spec spec = {.host = host, .port = port, .timeout_ms = timeout_ms};
    struct cs_dial *d = dial_spec(f, r, &spec);
    assert_non_null(d);
    return d;
}

static void wait_result(struct fixture *f, struct result *r)
{
    TURN_UNTIL(f->loop, &f->dns, r->calls > 0);
    assert_int_equal(r->calls, 1);
    assert_true((r->conn != NULL) == (r->err == 0));
}

static void close_conn(struct fixture *f, struct result *r)
{
    cs_stream_close(cs_conn_stream(r->conn), CS_CLOSE_ABORT, 0);
    TURN_UNTIL(f->loop, &f->dns, cs_net_idle(&f->net));
}

/* A port of 127.0.0.1 that refuses: bound, not listening. The caller closes *fd. */
static uint16_t refusing_port(int *fd)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *fd = bound_socket(SOCK_STREAM, &addr);
    return ntohs(addr.sin_port);
}

/* A listening socket whose queue is full: a connect to it stays without answer. */
struct blackhole {
    int listener;
    int fill[4];
    uint16_t port;
};

static void blackhole_open(struct blackhole *b, const char *ip)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    assert_int_equal(inet_pton(AF_INET, ip, &addr.sin_addr), 1);
    addr.sin_port = htons(b->port);
    b->listener = bound_socket(SOCK_STREAM, &addr);
    b->port = ntohs(addr.sin_port);
    assert_int_equal(listen(b->listener, 0), 0);
    for (unsigned i = 0; i < CS_ARRAY_LEN(b->fill); i++) {
        b->fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int err = connect(b->fill[i], (struct sockaddr *)&addr, sizeof(addr));
        assert_true(err == 0 || errno == EINPROGRESS);
    }
}

static void blackhole_close(struct blackhole *b)
{
    close(b->listener);
    for (unsigned i = 0; i < CS_ARRAY_LEN(b->fill); i++) {
        close(b->fill[i]);
    }
}

/* ---- success ---- */

static void test_literal(void **state)
{
    struct fixture *f = *state;
    struct result r;
    struct cs_addr peer;
    char text[CS_ADDR_TEXT_MAX];
    char want[64];
    dial(f, &r, "127.0.0.1", f->port, 1000);
    wait_result(f, &r);
    assert_int_equal(r.err, 0);
    assert_int_equal(cs_conn_peername(r.conn, &peer), 0);
    snprintf(want, sizeof(want), "127.0.0.1:%u", f->port);
    assert_string_equal(cs_addr_text(&peer, text), want);
    assert_int_equal(f->dns.asked[0] + f->dns.asked[1], 0);
    clock_skew_ms += 2000; /* the deadline is over with the dial */
    close_conn(f, &r);
    assert_int_equal(r.calls, 1);
}

static void test_unix(void **state)
{
    struct fixture *f = *state;
    struct result r;
    char host[64];
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(host, sizeof(host), "unix:@cosockd-test-dial-%d", (int)getpid());
    size_t len = strlen(host) - 6;
    memcpy(un.sun_path + 1, host + 6, len);
    socklen_t un_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, un_len), 0);
    dial(f, &r, host, 0, 1000);
    wait_result(f, &r);
    assert_int_equal(r.err, -ECONNREFUSED);
    assert_int_equal(listen(fd, 4), 0);
    dial(f, &r, host, 0, 1000);
    wait_result(f, &r);
    assert_int_equal(r.err, 0);
    close_conn(f, &r);
    close(fd);
}

static void test_name(void **state)
{
    struct fixture *f = *state;
    struct result r;
    dns_add(&f->dns, "a.test", DNS_A, 60, "127.0.0.1");
    dial(f, &r, "a.test", f->port, 1000);
    wait_result(f, &r);
    assert_int_equal(r.err, 0);
    close_conn(f, &r);
}

static void test_local_address(void **state)
{
    struct fixture *f = *state;
    struct result r;
    struct cs_addr local;
    struct cs_addr name;
    char text[CS_ADDR_TEXT_MAX];
    struct cs_dial_spec spec = {.host = "a.test", .port = f->port, .local = &local};
    dns_add(&f->dns, "a.test", DNS_A, 60, "127.0.0.1");
    assert_int_equal(cs_addr_parse(&local, "127.0.0.7", 0), 0);
    assert_non_null(dial_spec(f, &r, &spec));
    wait_result(f, &r);
    assert_int_equal(r.err, 0);
    assert_int_equal(f->dns.asked[1], 0); /* the local address says which family */
    assert_int_equal(cs_conn_sockname(r.conn, &name), 0);
    assert_string_equal(cs_addr_ip(&name, text), "127.0.0.7");
    close_conn(f, &r);
    assert_int_equal(cs_addr_parse(&local, "::1", 0), 0);
    spec.host = "127.0.0.1";
    assert_non_null(dial_spec(f, &r, &spec));
    wait_result(f, &r);
    assert_int_equal(r.err, -EAFNOSUPPORT);
}

/* ---- failure ---- */

static void test_refused(void **state)
{
    struct fixture *f = *state;
    struct result r;
    int fd;
    uint16_t port = refusing_port(&fd);
    dial(f, &r, "127.0.0.1", port, 1000);
    wait_result(f, &r);
    assert_int_equal(r.err, -ECONNREFUSED);
    close(fd);
}

static void test_unknown_name(void **state)
{
    struct fixture *f = *state;
    struct result r;
    dial(f, &r, "no.such.test", 80, 1000);
    wait_result(f, &r);
    assert_int_equal(r.err, CS_ERESOLVE);
    dial(f, &r, "", 80, 1000);
    wait_result(f, &r);
    assert_int_equal(r.err, CS_ERESOLVE);
}

static void test_addresses_in_turn(void **state)
{
    struct fixture *f = *state;
    struct result r;
    struct cs_addr peer;
    char text[CS_ADDR_TEXT_MAX];
    dns_add(&f->dns, "b.test", DNS_A, 60, "127.0.0.2"); /* the peer listens on .1 only */
    dns_add(&f->dns, "b.test", DNS_A, 60, "127.0.0.3");
    dns_add(&f->dns, "b.test", DNS_A, 60, "127.0.0.1");
    dial(f, &r, "b.test", f->port, 3000);
    wait_result(f, &r);
    assert_int_equal(r.err, 0);
    assert_int_equal(cs_conn_peername(r.conn, &peer), 0);
    assert_string_equal(cs_addr_ip(&peer, text), "127.0.0.1");
    close_conn(f, &r);
}

static void test_all_addresses_fail(void **state)
{
    struct fixture *f = *state;
    struct result r;
    dns_add(&f->dns, "c.test", DNS_A, 60, "127.0.0.2");
    dns_add(&f->dns, "c.test", DNS_AAAA, 60, "::1");
    dial(f, &r, "c.test", f->port, 3000);
    wait_result(f, &r);
    assert_int_equal(r.err, -ECONNREFUSED);
}

/* ---- time ---- */

static void test_deadline(void **state)
{
    struct fixture *f = *state;
    struct result r;
    struct blackhole b = {0};
    blackhole_open(&b, "127.0.0.1");
    dial(f, &r, "127.0.0.1", b.port, 50);
    wait_result(f, &r);
    assert_int_equal(r.err, CS_ETIMEOUT);
    TURN_UNTIL(f->loop, NULL, cs_net_idle(&f->net));
    blackhole_close(&b);
}

static void test_deadline_while_resolving(void **state)
{
    struct fixture *f = *state;
    struct result r;
    f->dns.mute = true;
    dial(f, &r, "slow.test", 80, 20);
    wait_result(f, &r);
    assert_int_equal(r.err, CS_ETIMEOUT);
}

static void test_dead_address_leaves_time_for_the_next(void **state)
{
    struct fixture *f = *state;
    struct result r;
    struct blackhole b = {.port = f->port};
    blackhole_open(&b, "127.0.0.2");
    dns_add(&f->dns, "d.test", DNS_A, 60, "127.0.0.2");
    dns_add(&f->dns, "d.test", DNS_A, 60, "127.0.0.1");
    dial(f, &r, "d.test", f->port, 2000);
    wait_result(f, &r);
    assert_int_equal(r.err, 0);
    close_conn(f, &r);
    blackhole_close(&b);
}

static void test_no_deadline(void **state)
{
    struct fixture *f = *state;
    struct result r;
    struct blackhole b = {0};
    blackhole_open(&b, "127.0.0.1");
    struct cs_dial *d = dial(f, &r, "127.0.0.1", b.port, 0);
    for (unsigned i = 0; i < 5; i++) {
        clock_skew_ms += 10000;
        cs_loop_turn(f->loop, 0);
    }
    assert_int_equal(r.calls, 0);
    cs_dial_cancel(d);
    blackhole_close(&b);
}

/* ---- cancelling ---- */

static void test_cancel_in_each_state(void **state)
{
    struct fixture *f = *state;
    struct result r;
    struct blackhole b = {0};
    struct cs_dial *d;
    blackhole_open(&b, "127.0.0.1");
    f->dns.mute = true;
    d = dial(f, &r, "e.test", 80, 1000); /* resolving */
    cs_dial_cancel(d);
    d = dial(f, &r, "e.test", 80, 1000);
    cs_loop_turn(f->loop, 0);
    cs_dial_cancel(d);
    d = dial(f, &r, "127.0.0.1", b.port, 1000); /* connecting */
    cs_dial_cancel(d);
    d = dial(f, &r, "127.0.0.1", b.port, 1000);
    cs_loop_turn(f->loop, 0);
    cs_dial_cancel(d);
    d = dial(f, &r, "127.0.0.1", f->port, 1000); /* connected, but not yet told */
    cs_dial_cancel(d);
    cs_dial_cancel(NULL);
    clock_skew_ms += 2000;
    TURN_UNTIL(f->loop, NULL, cs_pool_count(f->net.conns) == 0);
    assert_int_equal(r.calls, 0);
    blackhole_close(&b);
}

static void test_abort_all_ends_a_dial(void **state)
{
    struct fixture *f = *state;
    struct result r;
    struct blackhole b = {0};
    blackhole_open(&b, "127.0.0.1");
    dial(f, &r, "127.0.0.1", b.port, 0);
    cs_loop_turn(f->loop, 0);
    cs_net_close_all(&f->net, true, CS_ESHUTDOWN);
    wait_result(f, &r);
    assert_int_equal(r.err, CS_ECLOSED);
    blackhole_close(&b);
}

#ifdef CS_FAULTS
static void test_each_allocation_fails(void **state)
{
    struct fixture *f = *state;
    dns_add(&f->dns, "*", DNS_A, 60, "127.0.0.1");
    for (unsigned i = 0; i < 2; i++) {
        bool failed = true;
        for (unsigned long n = 1; failed; n++) {
            char host[32];
            struct result r;
            snprintf(host, sizeof(host), i ? "f%lu.test" : "127.0.0.1", n);
            const struct cs_dial_spec spec = {.host = host, .port = f->port, .timeout_ms = 3000};
            cs_mem_fail_nth(n);
            if (dial_spec(f, &r, &spec)) {
                wait_result(f, &r);
                assert_true(r.err == 0 || r.err == -ENOMEM);
            } else {
                assert_int_equal(n, 1);
            }
            failed = cs_mem_failed();
            cs_mem_fail_nth(0);
            if (r.conn) {
                close_conn(f, &r);
            }
        }
    }
}
#endif

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_literal),
        TEST(test_unix),
        TEST(test_name),
        TEST(test_local_address),
        TEST(test_refused),
        TEST(test_unknown_name),
        TEST(test_addresses_in_turn),
        TEST(test_all_addresses_fail),
        TEST(test_deadline),
        TEST(test_deadline_while_resolving),
        TEST(test_dead_address_leaves_time_for_the_next),
        TEST(test_no_deadline),
        TEST(test_cancel_in_each_state),
        TEST(test_abort_all_ends_a_dial),
#ifdef CS_FAULTS
        TEST(test_each_allocation_fails),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
