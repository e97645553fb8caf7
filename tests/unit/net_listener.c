/*
 * net_listener - accepting over all three families, the limits of the queue and of the descriptor
 * table, closing with clients at every stage, and each allocation failing.
 */
#include "unit/net_support.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include "base/err.h"
#include "base/log.h"
#include "net/listener.h"
#include "net/resolve.h"

enum { CLIENTS_MAX = 320 };

struct fixture {
    struct cs_loop *loop;
    struct cs_net net;
    struct cs_listener *l;
    struct cs_addr addr;
    unsigned ready;  /* times called */
    unsigned closed; /* times called */
    unsigned taken;
    struct cs_conn *conns[CLIENTS_MAX];
    int clients[CLIENTS_MAX];
    unsigned client_count;
};

static unsigned lines_paused;
static unsigned lines_lost;

static void log_writer(enum cs_log_level level, const char *line, size_t len)
{
    (void)level;
    (void)len;
    lines_paused += strstr(line, "descriptor table full") != NULL;
    lines_lost += strstr(line, "connection lost") != NULL;
}

static struct fixture *fixture_open(unsigned slots_max)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct cs_net_config config;
    assert_non_null(f);
    f->loop = loop_open(slots_max);
    cs_net_config_default(&config);
    config.log_connections = false;
    assert_int_equal(cs_net_init(&f->net, f->loop, &config), 0);
    lines_paused = lines_lost = 0;
    cs_log_set_writer(log_writer);
    return f;
}

static int setup(void **state)
{
    *state = fixture_open(1024);
    return 0;
}

/* 8 slots for accepted sockets, one of them head-room. */
static int setup_small(void **state)
{
    *state = fixture_open(16);
    return 0;
}

static void on_closed(void *user)
{
    struct fixture *f = user;
    f->closed++;
    f->l = NULL;
}

static void on_ready(void *user)
{
    struct fixture *f = user;
    f->ready++;
}

/* An owner that takes at once. */
static void on_ready_take(void *user)
{
    struct fixture *f = user;
    struct cs_conn *c;
    f->ready++;
    while ((c = cs_listener_take(f->l))) {
        assert_true(f->taken < CLIENTS_MAX);
        f->conns[f->taken++] = c;
    }
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->l) {
        cs_listener_attach(f->l, NULL, NULL);
        cs_listener_close(f->l, on_closed, f);
    }
    TURN_UNTIL(f->loop, NULL, f->l == NULL);
    cs_net_close_all(&f->net, true, 0);
    TURN_UNTIL(f->loop, NULL, cs_net_idle(&f->net));
    cs_net_finish(&f->net);
    cs_loop_destroy(f->loop);
    for (unsigned i = 0; i < f->client_count; i++) {
        close(f->clients[i]);
    }
    cs_log_set_writer(NULL);
    cs_clock_set_source(NULL);
    free(f);
    return 0;
}

static void open_on(struct fixture *f, const char *address)
{
    const struct cs_listen_options o = {0};
    assert_int_equal(cs_addr_parse(&f->addr, address, 0), 0);
    assert_int_equal(cs_listener_open(&f->l, NULL, 0, &f->addr, &o, "test"), 0);
}

static void start_on(struct fixture *f, const char *address, cs_listener_ready_fn *ready)
{
    open_on(f, address);
    cs_listener_attach(f->l, ready, f);
    cs_listener_start(f->l, &f->net);
}

/* The kernel completes a connect to a listening socket of this machine by itself. */
static int client(struct fixture *f)
{
    int fd = socket(cs_addr_family(&f->addr), SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_true(f->client_count < CLIENTS_MAX);
    f->clients[f->client_count++] = fd;
    return connect(fd, &f->addr.sa, f->addr.len) == 0 ? fd : -errno;
}

static void clients(struct fixture *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        assert_true(client(f) >= 0);
    }
}

static void turns(struct fixture *f, unsigned n)
{
    while (n-- > 0) {
        cs_loop_turn(f->loop, 1);
    }
}

static void close_taken(struct fixture *f)
{
    while (f->taken > 0) {
        cs_stream_close(cs_conn_stream(f->conns[--f->taken]), CS_CLOSE_ABORT, 0);
    }
}

/* ---- accepting ---- */

/* Whether one of the connections taken is the other end of fd. */
static bool taken_from(const struct fixture *f, int fd)
{
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);
    struct cs_addr local;
    struct cs_addr peer;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &len), 0);
    cs_addr_from_sockaddr(&local, (struct sockaddr *)&name, len);
    for (unsigned i = 0; i < f->taken; i++) {
        if (cs_conn_peername(f->conns[i], &peer) == 0 && cs_addr_equal(&local, &peer)) {
            return true;
        }
    }
    return false;
}

static void accept_on(struct fixture *f, const char *address)
{
    start_on(f, address, on_ready_take);
    assert_true(cs_addr_port(cs_listener_addr(f->l)) > 0);
    int fd = client(f);
    assert_true(fd >= 0);
    TURN_UNTIL(f->loop, NULL, f->taken == 1);
    assert_true(taken_from(f, fd));
    assert_ptr_equal(cs_conn_origin(f->conns[0]), cs_listener_origin(f->l));
    assert_int_equal(cs_listener_origin(f->l)->open, 1);
    assert_null(cs_listener_take(f->l));
}

static void test_ipv4(void **state)
{
    accept_on(*state, "127.0.0.1");
}

static void test_ipv6(void **state)
{
    accept_on(*state, "::1");
}

static void test_unix(void **state)
{
    struct fixture *f = *state;
    char address[64];
    snprintf(address, sizeof(address), "unix:/tmp/cosockd-test-listener-%d", (int)getpid());
    start_on(f, address, on_ready_take);
    clients(f, 3);
    TURN_UNTIL(f->loop, NULL, f->taken == 3);
    cs_listener_close(f->l, on_closed, f);
    TURN_UNTIL(f->loop, NULL, f->closed);
    assert_int_equal(access(address + 5, F_OK), -1);
}

static void test_address_in_use(void **state)
{
    struct fixture *f = *state;
    const struct cs_listen_options o = {0};
    struct cs_listener *second;
    open_on(f, "127.0.0.1");
    assert_int_equal(cs_listener_open(&second, NULL, 0, &f->addr, &o, "test"), -EADDRINUSE);
}

static void test_waits_for_an_owner(void **state)
{
    struct fixture *f = *state;
    start_on(f, "127.0.0.1", NULL);
    clients(f, 3);
    TURN_UNTIL(f->loop, NULL, cs_listener_waiting(f->l) == 3);
    cs_listener_attach(f->l, on_ready, f);
    assert_int_equal(f->ready, 0);
    TURN_UNTIL(f->loop, NULL, f->ready);
    turns(f, 3);
    assert_int_equal(f->ready, 1); /* told once; what it left is not told again */
    cs_listener_attach(f->l, on_ready_take, f);
    TURN_UNTIL(f->loop, NULL, f->taken == 3);
}

/* The dead one is dropped, or found dead by whoever reads; the next is not held up. */
static void test_client_gone_before_accept(void **state)
{
    struct fixture *f = *state;
    const struct linger hard = {.l_onoff = 1};
    start_on(f, "127.0.0.1", on_ready_take);
    int fd = client(f);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
    close(fd);
    f->client_count = 0;
    fd = client(f);
    assert_true(fd >= 0);
    TURN_UNTIL(f->loop, NULL, taken_from(f, fd));
    assert_int_equal(f->net.count.accept_lost, 0);
}

/* Who comes later belongs to the new service, who is there already to the old one. */
static void test_rename(void **state)
{
    struct fixture *f = *state;
    start_on(f, "127.0.0.1", on_ready_take);
    clients(f, 1);
    TURN_UNTIL(f->loop, NULL, f->taken == 1);
    assert_int_equal(cs_listener_rename(f->l, "other"), 0);
    assert_string_equal(cs_conn_origin(f->conns[0])->service, "test");
    clients(f, 1);
    TURN_UNTIL(f->loop, NULL, f->taken == 2);
    cs_listener_close(f->l, on_closed, f);
    TURN_UNTIL(f->loop, NULL, f->closed);
    assert_string_equal(cs_conn_origin(f->conns[0])->service,
                        "test"); /* they outlive the listener */
    assert_string_equal(cs_conn_origin(f->conns[1])->service, "other");
}

/* ---- limits ---- */

static void test_queue_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct cs_conn *c;
    unsigned taken = 0;
    start_on(f, "127.0.0.1", on_ready);
    for (unsigned i = 0; i < 16; i++) {
        clients(f, 20);
        turns(f, 5);
    }
    TURN_UNTIL(f->loop, NULL, cs_listener_waiting(f->l) >= 128);
    unsigned waiting = cs_listener_waiting(f->l);
    assert_in_range(waiting, 128, 128 + 20);
    while (cs_listener_waiting(f->l) >= 64) {
        assert_int_equal(cs_listener_waiting(f->l), waiting - taken);
        assert_non_null((c = cs_listener_take(f->l)));
        taken++;
        cs_stream_close(cs_conn_stream(c), CS_CLOSE_ABORT, 0);
    }
    TURN_UNTIL(f->loop, NULL, cs_listener_waiting(f->l) >= 128);
    cs_listener_attach(f->l, on_ready_take, f);
    TURN_UNTIL(f->loop, NULL, taken + f->taken == 320);
    assert_int_equal(f->net.count.accept_lost, 0);
}

static bool small_table(const struct fixture *f)
{
    return cs_ring_features(f->net.ring) & CS_RING_DIRECT;
}

static void test_table_nearly_full(void **state)
{
    struct fixture *f = *state;
    if (!small_table(f)) {
        skip();
    }
    start_on(f, "127.0.0.1", on_ready_take);
    for (unsigned i = 0; i < 20; i++) {
        clients(f, 1);
        turns(f, 3);
    }
    assert_int_equal(f->taken, 7);
    assert_int_equal(lines_paused, 1);
    close_taken(f);
    turns(f, 5);
    clock_skew_ms += 50;
    TURN_UNTIL(f->loop, NULL, f->taken > 0);
    while (cs_listener_origin(f->l)->open > 0) { /* the rest comes as there is room */
        close_taken(f);
        turns(f, 5);
        clock_skew_ms += 2000;
        turns(f, 5);
    }
    assert_int_equal(f->net.count.accepted + f->net.count.accept_lost, 20);
}

static void test_table_full_in_one_burst(void **state)
{
    struct fixture *f = *state;
    if (!small_table(f)) {
        skip();
    }
    start_on(f, "127.0.0.1", on_ready_take);
    clients(f, 20);
    TURN_UNTIL(f->loop, NULL, f->taken == 7);
    turns(f, 5);
    clock_skew_ms += 150;
    turns(f, 5);
    assert_int_equal(f->taken, 7); /* the others wait in the kernel's queue */
    assert_int_equal(f->net.count.accept_lost, 0);
    close_taken(f);
    turns(f, 5);
    clock_skew_ms += 150;
    TURN_UNTIL(f->loop, NULL, f->taken > 0);
}

/* ---- closing ---- */

static void test_close_takes_the_kernels_queue(void **state)
{
    struct fixture *f = *state;
    start_on(f, "127.0.0.1", on_ready);
    turns(f, 2);
    clients(f, 10); /* the loop has not seen them */
    cs_listener_close(f->l, on_closed, f);
    TURN_UNTIL(f->loop, NULL, cs_listener_waiting(f->l) == 10);
    turns(f, 5);
    assert_int_equal(client(f), -ECONNREFUSED);
    assert_int_equal(f->closed, 0);
    on_ready_take(f);
    assert_int_equal(f->taken, 10);
    assert_int_equal(f->closed, 0); /* from the loop only */
    TURN_UNTIL(f->loop, NULL, f->closed);
    turns(f, 3);
    assert_int_equal(f->closed, 1);
}

static void test_close_while_paused(void **state)
{
    struct fixture *f = *state;
    start_on(f, "127.0.0.1", on_ready);
    for (unsigned i = 0; i < 10; i++) {
        clients(f, 20);
        turns(f, 5);
    }
    cs_listener_close(f->l, on_closed, f);
    TURN_UNTIL(f->loop, NULL, cs_listener_waiting(f->l) == 200);
    cs_listener_attach(f->l, on_ready_take, f);
    TURN_UNTIL(f->loop, NULL, f->closed);
    assert_int_equal(f->taken, 200);
}

/* Whether the other end closes this client's connection. */
static bool ends(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    return n == 0;
}

static void test_close_without_owner(void **state)
{
    struct fixture *f = *state;
    start_on(f, "127.0.0.1", NULL);
    int first = client(f);
    TURN_UNTIL(f->loop, NULL, cs_listener_waiting(f->l) == 1);
    int second = client(f);
    cs_listener_close(f->l, on_closed, f);
    TURN_UNTIL(f->loop, NULL, f->closed);
    TURN_UNTIL(f->loop, NULL, ends(first));
    TURN_UNTIL(f->loop, NULL, ends(second));
}

static void test_owner_leaves_while_closing(void **state)
{
    struct fixture *f = *state;
    start_on(f, "127.0.0.1", on_ready);
    int fd = client(f);
    cs_listener_close(f->l, on_closed, f);
    TURN_UNTIL(f->loop, NULL, cs_listener_waiting(f->l) == 1);
    turns(f, 3);
    assert_int_equal(f->closed, 0);
    cs_listener_attach(f->l, NULL, NULL);
    TURN_UNTIL(f->loop, NULL, f->closed);
    TURN_UNTIL(f->loop, NULL, ends(fd));
}

static void test_close_never_started(void **state)
{
    struct fixture *f = *state;
    open_on(f, "127.0.0.1");
    cs_listener_close(f->l, on_closed, f);
    assert_int_equal(f->closed, 1);
    assert_int_equal(client(f), -ECONNREFUSED);
}

static void close_inside(void *user)
{
    struct fixture *f = user;
    on_ready_take(f);
    cs_listener_attach(f->l, on_ready_take, f);
    cs_listener_close(f->l, on_closed, f);
}

static void test_close_from_ready(void **state)
{
    struct fixture *f = *state;
    start_on(f, "127.0.0.1", close_inside);
    clients(f, 2);
    TURN_UNTIL(f->loop, NULL, f->closed);
    assert_int_equal(f->taken, 2);
}

static void test_aborted_while_waiting(void **state)
{
    struct fixture *f = *state;
    start_on(f, "127.0.0.1", on_ready);
    clients(f, 2);
    TURN_UNTIL(f->loop, NULL, cs_listener_waiting(f->l) == 2);
    cs_net_close_all(&f->net, true, CS_ESHUTDOWN);
    TURN_UNTIL(f->loop, NULL, cs_pool_count(f->net.conns) == 0);
    assert_null(cs_listener_take(f->l));
    assert_int_equal(cs_listener_waiting(f->l), 0);
}

#ifdef CS_FAULTS
static void open_fails(struct fixture *f)
{
    const struct cs_listen_options o = {0};
    for (unsigned long n = 1;; n++) {
        assert_int_equal(cs_addr_parse(&f->addr, "127.0.0.1", 0), 0);
        cs_mem_fail_nth(n);
        int err = cs_listener_open(&f->l, NULL, 0, &f->addr, &o, "test");
        cs_mem_fail_nth(0);
        if (err == 0) {
            return;
        }
        assert_int_equal(err, -ENOMEM);
        f->l = NULL;
    }
}

/* One client at a time: it is taken, or counted as lost. */
static void test_each_allocation_fails(void **state)
{
    struct fixture *f = *state;
    bool failed = true;
    open_fails(f);
    cs_listener_attach(f->l, on_ready_take, f);
    cs_listener_start(f->l, &f->net);
    turns(f, 2);
    for (unsigned long n = 1; failed; n++) {
        uint64_t lost = f->net.count.accept_lost;
        clients(f, 1);
        cs_mem_fail_nth(n);
        TURN_UNTIL(f->loop, NULL, f->taken == 1 || f->net.count.accept_lost > lost);
        failed = cs_mem_failed();
        cs_mem_fail_nth(0);
        assert_true(f->taken == 1 || failed);
        close_taken(f);
        TURN_UNTIL(f->loop, NULL, cs_net_idle(&f->net));
    }
    cs_mem_fail_nth(1);
    assert_int_equal(cs_listener_rename(f->l, "other"), -ENOMEM);
    cs_mem_fail_nth(0);
    assert_string_equal(cs_listener_origin(f->l)->service, "test");
}
#endif

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define TEST_SMALL(fn) cmocka_unit_test_setup_teardown(fn, setup_small, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ipv4),
        TEST(test_ipv6),
        TEST(test_unix),
        TEST(test_address_in_use),
        TEST(test_waits_for_an_owner),
        TEST(test_client_gone_before_accept),
        TEST(test_rename),
        TEST(test_queue_is_bounded),
        TEST_SMALL(test_table_nearly_full),
        TEST_SMALL(test_table_full_in_one_burst),
        TEST(test_close_takes_the_kernels_queue),
        TEST(test_close_while_paused),
        TEST(test_close_without_owner),
        TEST(test_owner_leaves_while_closing),
        TEST(test_close_never_started),
        TEST(test_close_from_ready),
        TEST(test_aborted_while_waiting),
#ifdef CS_FAULTS
        TEST(test_each_allocation_fails),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
