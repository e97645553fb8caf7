/*
 * net_udp - datagram sockets on the real ring, with direct descriptors and with ordinary ones: both
 * directions, the errors of the system, the queue's bound, an address that changes hands, memory.
 */
#include "unit/net_support.h"

#include <errno.h>

#include "base/err.h"
#include "base/log.h"
#include "net/udp.h"

#define BOTH(fn)                                                                                   \
    {#fn, fn, setup, teardown, NULL},                                                              \
    {                                                                                              \
#fn " (fd)", fn, setup_plain, teardown, NULL                                               \
    }

struct fixture {
    struct cs_loop *loop;
    struct cs_net net;
    struct cs_udp *a, *b;
    unsigned inputs, closed; /* events of both */
    int peer;
    struct cs_addr peer_addr;
};

static void quiet(enum cs_log_level level, const char *line, size_t len)
{
    (void)level;
    (void)line;
    (void)len;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct cs_net_config config;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_non_null(f);
    cs_log_set_writer(quiet);
    f->loop = loop_open(64);
    cs_net_config_default(&config);
    config.in_high = 4096;
    assert_int_equal(cs_net_init(&f->net, f->loop, &config), 0);
    f->peer = bound_socket(SOCK_DGRAM, &at);
    cs_addr_from_sockaddr(&f->peer_addr, (struct sockaddr *)&at, sizeof(at));
    *state = f;
    return 0;
}

static int setup_plain(void **state)
{
    setenv("COSOCKD_WITHOUT", "direct", 1);
    int err = setup(state);
    unsetenv("COSOCKD_WITHOUT");
    return err;
}

static void let_go(struct cs_udp **u)
{
    if (*u) {
        cs_udp_close(*u);
        *u = NULL;
    }
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    let_go(&f->a);
    let_go(&f->b);
    cs_net_close_all(&f->net, true, 0);
    TURN_UNTIL(f->loop, NULL, cs_net_idle(&f->net));
    cs_net_finish(&f->net);
    cs_loop_destroy(f->loop);
    cs_log_set_writer(NULL);
    close(f->peer);
    free(f);
    return 0;
}

static void on_input(void *user)
{
    ((struct fixture *)user)->inputs++;
}

static void on_room(void *user)
{
    (void)user;
}

static void on_closed(void *user)
{
    struct fixture *f = user;
    f->closed++;
    f->a = NULL;
}

static const struct cs_udp_user user = {on_input, on_room, on_closed};

static struct cs_addr loopback(uint16_t port)
{
    struct cs_addr a;
    assert_int_equal(cs_addr_parse(&a, "127.0.0.1", port), 0);
    return a;
}

/* A result of cs_udp_open. */
static int bound(struct fixture *f, struct cs_udp **out, const struct cs_addr *at, unsigned gen,
                 bool staged)
{
    const struct cs_udp_spec spec = {.family = AF_INET, .local = at, .gen = gen, .staged = staged};
    return cs_udp_open(out, &f->net, &spec, &user, f);
}

/* f->a at a port of its own. */
static struct cs_addr open_a(struct fixture *f)
{
    struct cs_addr at = loopback(0);
    assert_int_equal(bound(f, &f->a, &at, 1, false), 0);
    assert_int_equal(cs_udp_sockname(f->a, &at), 0);
    return at;
}

static void open_connected(struct fixture *f)
{
    const struct cs_udp_spec spec = {.family = AF_INET, .remote = &f->peer_addr, .gen = 1};
    assert_int_equal(cs_udp_open(&f->a, &f->net, &spec, &user, f), 0);
}

static void peer_sends(struct fixture *f, const char *text, const struct cs_addr *to)
{
    assert_int_equal(sendto(f->peer, text, strlen(text), 0, &to->sa, to->len), strlen(text));
}

static ssize_t peer_gets(struct fixture *f, char buf[64])
{
    ssize_t n;
    TURN_UNTIL(f->loop, NULL, (n = recv(f->peer, buf, 63, 0)) >= 0);
    buf[n] = '\0';
    return n;
}

static void expect(struct fixture *f, struct cs_udp *u, const char *text)
{
    const struct cs_datagram *d;
    struct cs_addr from;
    TURN_UNTIL(f->loop, NULL, (d = cs_udp_first(u)));
    assert_int_equal(d->len, strlen(text));
    assert_memory_equal(d->data, text, d->len);
    cs_datagram_from(d, &from);
    assert_true(cs_addr_equal(&from, &f->peer_addr));
    cs_udp_drop(u);
}

static void test_both_ways(void **state)
{
    struct fixture *f = *state;
    char buf[64];
    struct cs_addr at = open_a(f), out;
    assert_int_equal(cs_udp_send(f->a, "hello", 5, &f->peer_addr), 0);
    assert_int_equal(peer_gets(f, buf), 5);
    assert_string_equal(buf, "hello");
    assert_int_equal(cs_udp_send(f->a, "", 0, &f->peer_addr), 0);
    assert_int_equal(peer_gets(f, buf), 0);
    peer_sends(f, "before anybody reads", &at);
    cs_udp_resume(f->a);
    expect(f, f->a, "before anybody reads");
    peer_sends(f, "", &at);
    peer_sends(f, "after", &at);
    expect(f, f->a, "");
    expect(f, f->a, "after");
    assert_int_equal(cs_udp_peername(f->a, &out), CS_ESTATE);
    assert_int_equal(cs_udp_family(f->a), AF_INET);
    assert_int_equal(f->net.count.datagrams_in, 3);
    assert_int_equal(f->net.count.datagrams_out, 2);
}

/* Another ring can have the address at once: its worker has not seen ours turn. */
static void test_closed_and_bound_elsewhere(void **state)
{
    struct fixture *f = *state;
    struct cs_addr at = open_a(f);
    const struct cs_udp_spec spec = {.family = AF_INET, .local = &at, .gen = 1};
    struct cs_loop *loop = loop_open(64);
    struct cs_net net;
    struct cs_udp *u;
    assert_int_equal(cs_net_init(&net, loop, &f->net.config), 0);
    let_go(&f->a);
    assert_int_equal(cs_udp_open(&u, &net, &spec, &user, f), 0);
    cs_udp_close(u);
    TURN_UNTIL(loop, NULL, cs_net_idle(&net));
    cs_net_finish(&net);
    cs_loop_destroy(loop);
}

static void test_connected(void **state)
{
    struct fixture *f = *state;
    char buf[64];
    struct cs_addr at, out;
    open_connected(f);
    assert_int_equal(cs_udp_send(f->a, "hello", 5, NULL), 0);
    assert_int_equal(peer_gets(f, buf), 5);
    assert_int_equal(cs_udp_sockname(f->a, &at), 0);
    assert_int_equal(cs_udp_peername(f->a, &out), 0);
    assert_true(cs_addr_equal(&out, &f->peer_addr));
    peer_sends(f, "back", &at);
    cs_udp_resume(f->a);
    expect(f, f->a, "back");
}

static void test_peer_gone(void **state)
{
    struct fixture *f = *state;
    open_connected(f);
    close(f->peer);
    cs_udp_resume(f->a);
    assert_int_equal(cs_udp_send(f->a, "x", 1, NULL), 0);
    TURN_UNTIL(f->loop, NULL, f->inputs == 1);
    assert_null(cs_udp_first(f->a));
    assert_int_equal(cs_udp_take_error(f->a), -ECONNREFUSED);
    assert_int_equal(cs_udp_take_error(f->a), 0);
    struct sockaddr_in same = f->peer_addr.v4; /* somebody comes to that port after all */
    f->peer = bound_socket(SOCK_DGRAM, &same);
    struct cs_addr at;
    assert_int_equal(cs_udp_sockname(f->a, &at), 0);
    cs_udp_resume(f->a);
    peer_sends(f, "here", &at);
    expect(f, f->a, "here");
}

static void test_refused_by_the_system(void **state)
{
    struct fixture *f = *state;
    const int one = 1;
    struct cs_addr broadcast;
    static char large[65508];
    struct cs_addr at = open_a(f);
    assert_int_equal(cs_addr_parse(&broadcast, "127.255.255.255", 9), 0);
    assert_int_equal(cs_udp_send(f->a, "x", 1, NULL), -EDESTADDRREQ);
    assert_int_equal(cs_udp_send(f->a, large, sizeof(large), &f->peer_addr), -EMSGSIZE);
    assert_int_equal(cs_udp_send(f->a, "x", 1, &broadcast), -EACCES);
    assert_int_equal(cs_udp_setsockopt(f->a, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one)), 0);
    assert_int_equal(cs_udp_send(f->a, "x", 1, &broadcast), 0);
    assert_int_equal(bound(f, &f->b, &at, 1, false), -EADDRINUSE);
    assert_int_equal(bound(f, &f->b, &f->peer_addr, 1, false), -EADDRINUSE);
    assert_null(f->b);
}

/* 4,096 bytes of queue, each datagram with its cost. */
static void test_queue_is_bounded(void **state)
{
    struct fixture *f = *state;
    unsigned kept = 0;
    struct cs_addr at = open_a(f);
    cs_udp_resume(f->a);
    for (unsigned i = 0; i < 50; i++) {
        peer_sends(f,
                   "a hundred bytes or so, less some, so that about twenty of them find room "
                   "in the queue of the socket",
                   &at);
        cs_loop_turn(f->loop, 0);
    }
    TURN_UNTIL(f->loop, NULL, f->net.count.datagrams_in == 50);
    for (; cs_udp_first(f->a); cs_udp_drop(f->a)) {
        kept++;
    }
    assert_in_range(kept, 20, 40);
    assert_int_equal(cs_udp_dropped(f->a), 50 - kept);
    assert_int_equal(f->net.count.datagrams_dropped, 50 - kept);
    peer_sends(f, "room again", &at);
    expect(f, f->a, "room again");
}

static void test_hand_over(void **state)
{
    struct fixture *f = *state;
    char buf[64];
    struct cs_addr at = open_a(f);
    cs_udp_resume(f->a);
    assert_int_equal(bound(f, &f->b, &at, 2, true), 0);
    cs_udp_resume(f->b);
    peer_sends(f, "old", &at);
    expect(f, f->a, "old");
    peer_sends(f, "left unread", &at);
    TURN_UNTIL(f->loop, NULL, cs_udp_first(f->a));
    cs_udp_commit(&f->net, 2);
    assert_true(cs_udp_lost(f->a));
    assert_null(cs_udp_first(f->a));
    expect(f, f->b, "left unread");
    peer_sends(f, "new", &at);
    expect(f, f->b, "new");
    assert_int_equal(cs_udp_send(f->a, "from the old one", 16, &f->peer_addr), 0);
    assert_int_equal(peer_gets(f, buf), 16);
    let_go(&f->a);
    peer_sends(f, "still", &at);
    expect(f, f->b, "still");
}

/* Two cells of one process: each client comes to one of them, always the same one. */
static void test_shared_by_two_cells(void **state)
{
    struct fixture *f = *state, *g = NULL;
    enum { CLIENTS = 32, EACH = 3 };
    struct cs_addr at = open_a(f);
    cs_udp_resume(f->a);
    assert_int_equal(setup((void **)&g), 0);
    assert_int_equal(bound(g, &g->a, &at, 1, false), 0);
    cs_udp_resume(g->a);
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int client = bound_socket(SOCK_DGRAM, &any);
        uint64_t before = f->net.count.datagrams_in;
        for (unsigned j = 1; j <= EACH; j++) {
            assert_int_equal(sendto(client, "x", 1, 0, &at.sa, at.len), 1);
            TURN_UNTIL(f->loop, NULL,
                       (cs_loop_turn(g->loop, 0),
                        f->net.count.datagrams_in + g->net.count.datagrams_in) == i * EACH + j);
        }
        assert_true((f->net.count.datagrams_in - before) % EACH == 0);
        close(client);
    }
    assert_true(f->net.count.datagrams_in > 0 && g->net.count.datagrams_in > 0);
    assert_int_equal(bound(f, &f->b, &at, 1, false), -EADDRINUSE); /* still once for each cell */
    int foreign = socket(AF_INET, SOCK_DGRAM, 0);
    assert_int_not_equal(bind(foreign, &at.sa, at.len), 0);
    close(foreign);
    assert_int_equal(teardown((void **)&g), 0);
    peer_sends(f, "all of it here again", &at);
    while (cs_udp_first(f->a)) {
        cs_udp_drop(f->a);
    }
    expect(f, f->a, "all of it here again");
}

static void test_closed_by_the_engine(void **state)
{
    struct fixture *f = *state;
    open_connected(f);
    cs_udp_resume(f->a);
    cs_udp_watch(f->a);
    cs_loop_turn(f->loop, 0);
    cs_net_close_all(&f->net, false, CS_ESHUTDOWN);
    assert_int_equal(f->closed, 1);
    assert_null(f->a);
    TURN_UNTIL(f->loop, NULL, cs_net_idle(&f->net));
}

#ifdef CS_FAULTS
/* Datagrams that find no memory are dropped and counted, sockets are not made: nothing else. */
static void test_no_memory(void **state)
{
    struct fixture *f = *state;
    struct cs_addr at = open_a(f);
    for (unsigned long n = 1; n <= 2; n++) {
        struct cs_addr other = loopback(0);
        cs_mem_fail_nth(n);
        assert_int_equal(bound(f, &f->b, &other, 1, false), -ENOMEM);
        cs_mem_fail_nth(0);
        assert_null(f->b);
    }
    cs_udp_resume(f->a);
    cs_loop_turn(f->loop, 0);
    peer_sends(f, "lost", &at);
    cs_mem_fail_nth(1);
    cs_loop_turn(f->loop, 1000);
    cs_mem_fail_nth(0);
    assert_int_equal(cs_udp_dropped(f->a), 1);
    peer_sends(f, "kept", &at);
    expect(f, f->a, "kept");
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_both_ways),
        BOTH(test_closed_and_bound_elsewhere),
        BOTH(test_connected),
        BOTH(test_peer_gone),
        BOTH(test_refused_by_the_system),
        BOTH(test_queue_is_bounded),
        BOTH(test_hand_over),
        BOTH(test_shared_by_two_cells),
        BOTH(test_closed_by_the_engine),
#ifdef CS_FAULTS
        BOTH(test_no_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
