/*
 * net_splice - relays whose bulk goes through the kernel: every byte compared, both ways, the ends
 * and the breaks of either side, slow readers, what leaves a splice, and each allocation failing.
 */
#include "unit/net_support.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/err.h"
#include "net/conn.h"
#include "net/relay.h"
#include "support/descriptors.h"

enum { A = 0, B = 1 };

#define MIB ((size_t)1024 * 1024)

/* The other end of one of the relay's two connections. */
struct peer {
    int fd;
    uint64_t sent, got; /* bytes of the two sequences */
    bool eof;
};

struct fixture {
    struct cs_loop *loop;
    struct cs_net net;
    struct cs_relay *relay;
    struct cs_relay_result result;
    struct peer peers[2];
    unsigned descriptors;
};

static uint8_t block[256 * 1024];

/* ---- what is sent: a sequence for each side, so that nothing lost, doubled or swapped goes unseen
 */

#define PERIOD 65521u /* a prime: no multiple of any buffer's size */

static uint8_t sequences[2][PERIOD + sizeof(block)];

static void make_sequences(void)
{
    for (unsigned side = 0; side < 2; side++) {
        for (size_t i = 0; i < sizeof(sequences[0]); i++) {
            size_t k = i % PERIOD;
            sequences[side][i] = (uint8_t)((k * 2654435761u >> 13) + k / 251 + side * 97);
        }
    }
}

/* At most `most` bytes; fewer when the socket is full. */
static void send_some(struct peer *p, unsigned side, uint64_t most)
{
    while (most > 0) {
        size_t n = most < sizeof(block) ? (size_t)most : sizeof(block);
        ssize_t taken =
            send(p->fd, sequences[side] + p->sent % PERIOD, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (taken < 0) {
            assert_int_equal(errno, EAGAIN);
            return;
        }
        p->sent += (uint64_t)taken;
        most -= (uint64_t)taken;
    }
}

static void read_some(struct peer *p, unsigned from)
{
    ssize_t n;
    while ((n = recv(p->fd, block, sizeof(block), MSG_DONTWAIT)) > 0) {
        assert_memory_equal(block, sequences[from] + p->got % PERIOD, (size_t)n);
        p->got += (uint64_t)n;
    }
    p->eof = p->eof || n == 0;
    assert_true(n == 0 || errno == EAGAIN);
}

/* ---- fixture ---- */

/* A connected pair of TCP sockets over the loopback device. */
static void tcp_pair(int pair[2])
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t len = sizeof(addr);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(l >= 0);
    assert_int_equal(bind(l, (struct sockaddr *)&addr, sizeof(addr)), 0);
    assert_int_equal(listen(l, 1), 0);
    assert_int_equal(getsockname(l, (struct sockaddr *)&addr, &len), 0);
    pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(pair[0] >= 0);
    assert_int_equal(connect(pair[0], (struct sockaddr *)&addr, len), 0);
    pair[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
    assert_true(pair[1] >= 0);
    close(l);
}

static struct cs_stream *adopt(struct fixture *f, int fd)
{
    cs_fd own = cs_ring_adopt(f->net.ring, fd);
    assert_true(own >= 0);
    struct cs_conn *c = cs_conn_create(&f->net, own, NULL, NULL);
    assert_non_null(c);
    return cs_conn_stream(c);
}

static void on_done(void *user, const struct cs_relay_result *result)
{
    struct fixture *f = user;
    f->result = *result;
    f->relay = NULL;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct cs_net_config config;
    struct cs_relay_options options;
    struct cs_stream *ends[2];
    assert_non_null(f);
    f->descriptors = open_descriptors();
    f->loop = loop_open(64);
    cs_net_config_default(&config);
    config.log_connections = false;
    assert_int_equal(cs_net_init(&f->net, f->loop, &config), 0);
    for (unsigned i = 0; i < 2; i++) {
        int pair[2];
        tcp_pair(pair);
        f->peers[i].fd = pair[0];
        ends[i] = adopt(f, pair[1]);
    }
    cs_relay_options_default(&options);
    f->relay = cs_relay_start(&f->net, ends[A], ends[B], &options, on_done, f);
    assert_non_null(f->relay);
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

static int setup_without(void **state)
{
    setenv("COSOCKD_WITHOUT", "splice", 1);
    int err = setup(state);
    unsetenv("COSOCKD_WITHOUT");
    return err;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cs_net_close_all(&f->net, true, 0);
    TURN_UNTIL(f->loop, NULL, cs_net_idle(&f->net));
    assert_null(f->relay);
    cs_net_finish(&f->net);
    cs_loop_destroy(f->loop);
    for (unsigned i = 0; i < 2; i++) {
        if (f->peers[i].fd >= 0) {
            close(f->peers[i].fd);
        }
    }
    assert_int_equal(open_descriptors(), f->descriptors);
    cs_clock_set_source(NULL);
    free(f);
    return 0;
}

/* ---- driving ---- */

/* Turns until `to` has all that `from` was to send, sending on as there is room. */
static void carry(struct fixture *f, unsigned from, uint64_t bytes)
{
    struct peer *src = &f->peers[from], *dst = &f->peers[!from];
    uint64_t goal = src->sent + bytes;
    while (dst->got < goal) {
        send_some(src, from, goal - src->sent);
        cs_loop_turn(f->loop, 0);
        read_some(dst, from);
    }
}

static bool is_spliced(const struct fixture *f, uint64_t since)
{
    return f->net.count.bytes_spliced > since;
}

/* Carries enough to be spliced, and says that it was. */
static void make_bulk(struct fixture *f, unsigned from)
{
    uint64_t before = f->net.count.bytes_spliced;
    for (unsigned i = 0; i < 64 && !is_spliced(f, before); i++) {
        carry(f, from, MIB);
    }
    assert_true(is_spliced(f, before));
}

/* Sends for A until nothing moves any more, because B does not read. */
static void fill(struct fixture *f)
{
    uint64_t last;
    do {
        last = f->peers[A].sent;
        send_some(&f->peers[A], A, 64 * MIB);
        for (unsigned i = 0; i < 20; i++) {
            cs_loop_turn(f->loop, 1);
        }
    } while (f->peers[A].sent > last);
}

static void wait_done(struct fixture *f)
{
    TURN_UNTIL(f->loop, NULL, f->relay == NULL);
}

/* Turns and reads until cond holds; five seconds without it fail the test. */
#define READ_UNTIL(f, peer, from, cond)                                                            \
    do {                                                                                           \
        uint64_t until_end_ns = cs_clock_ns() + 5000000000u;                                       \
        while (!(cond)) {                                                                          \
            assert_true(cs_clock_ns() < until_end_ns);                                             \
            cs_loop_turn((f)->loop, 2);                                                            \
            read_some(peer, from);                                                                 \
        }                                                                                          \
    } while (0)

/* ---- bulk ---- */

static void test_one_way(void **state)
{
    struct fixture *f = *state;
    make_bulk(f, A);
    assert_true(f->net.count.bytes_out == f->peers[B].got);
    shutdown(f->peers[A].fd, SHUT_WR);
    READ_UNTIL(f, &f->peers[B], A, f->peers[B].eof);
    shutdown(f->peers[B].fd, SHUT_WR);
    wait_done(f);
    assert_int_equal(f->result.err, 0);
    assert_int_equal(f->result.first, CS_RELAY_A);
    assert_int_equal(f->result.bytes[A], f->peers[A].sent);
    assert_int_equal(f->result.bytes[B], 0);
}

static void test_both_ways_at_once(void **state)
{
    struct fixture *f = *state;
    const uint64_t goal = 8 * MIB;
    while (f->peers[A].got < goal || f->peers[B].got < goal) {
        for (unsigned i = 0; i < 2; i++) {
            send_some(&f->peers[i], i, goal - f->peers[i].sent);
        }
        cs_loop_turn(f->loop, 0);
        for (unsigned i = 0; i < 2; i++) {
            read_some(&f->peers[i], !i);
        }
    }
    assert_true(f->net.count.bytes_spliced > 8 * MIB);
}

static void test_without(void **state)
{
    struct fixture *f = *state;
    carry(f, A, 4 * MIB);
    assert_false(is_spliced(f, 0));
}

static void test_small_messages_are_never_spliced(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 3000; i++) {
        carry(f, A, 1000);
        carry(f, B, 500);
    }
    assert_false(is_spliced(f, 0));
}

/* Requests up beside a bulk answer: the socket of the requests is non-blocking meanwhile. */
static void test_messages_against_bulk(void **state)
{
    struct fixture *f = *state;
    make_bulk(f, B);
    for (unsigned i = 0; i < 50; i++) {
        carry(f, A, 100);
        carry(f, B, MIB);
    }
    carry(f, A, 3 * MIB);
    assert_int_equal(f->peers[B].got, 5000 + 3 * MIB);
}

/* ---- leaving it ---- */

static void test_small_moves_end_it(void **state)
{
    struct fixture *f = *state;
    make_bulk(f, A);
    unsigned spliced_fds = open_descriptors();
    for (unsigned i = 0; i < 20; i++) {
        carry(f, A, 100);
    }
    assert_true(open_descriptors() < spliced_fds);
    uint64_t before = f->net.count.bytes_spliced;
    carry(f, A, 100);
    assert_false(is_spliced(f, before));
    make_bulk(f, A); /* and it comes back */
}

static void test_silence_ends_it(void **state)
{
    struct fixture *f = *state;
    make_bulk(f, A);
    unsigned spliced_fds = open_descriptors();
    for (unsigned i = 0; i < 3; i++) {
        clock_skew_ms += 1100;
        cs_loop_turn(f->loop, 0);
    }
    assert_true(open_descriptors() < spliced_fds);
    carry(f, A, 10);
    carry(f, B, 10);
}

/* A receiver that does not read: nothing piles up here, and nothing is lost over the silence. */
static void test_slow_reader(void **state)
{
    struct fixture *f = *state;
    make_bulk(f, A);
    fill(f);
    assert_true(f->peers[A].sent < 64 * MIB + 16 * MIB);
    for (unsigned i = 0; i < 3; i++) {
        clock_skew_ms += 1100;
        cs_loop_turn(f->loop, 0);
    }
    uint64_t before = f->net.count.bytes_spliced;
    carry(f, A, 4 * MIB);
    assert_true(is_spliced(f, before));
    assert_int_equal(f->peers[B].got, f->peers[A].sent);
}

/* The kernel hands urgent data to no splice: it must neither hang nor spin. */
static void test_urgent_data(void **state)
{
    struct fixture *f = *state;
    make_bulk(f, A);
    assert_int_equal(send(f->peers[A].fd, "!", 1, MSG_OOB), 1); /* not part of the stream */
    carry(f, A, 4 * MIB);
    assert_int_equal(f->peers[B].got, f->peers[A].sent);
}

/* ---- ends and breaks ---- */

static void test_half_close_with_full_pipe(void **state)
{
    struct fixture *f = *state;
    make_bulk(f, A);
    send_some(&f->peers[A], A, 2 * MIB);
    for (unsigned i = 0; i < 10; i++) {
        cs_loop_turn(f->loop, 1);
    }
    shutdown(f->peers[A].fd, SHUT_WR);
    READ_UNTIL(f, &f->peers[B], A, f->peers[B].eof);
    assert_int_equal(f->peers[B].got, f->peers[A].sent);
    carry(f, B, 4 * MIB); /* the answer after the half-close */
    shutdown(f->peers[B].fd, SHUT_WR);
    READ_UNTIL(f, &f->peers[A], B, f->peers[A].eof);
    wait_done(f);
    assert_int_equal(f->result.err, 0);
}

static void reset_peer(struct fixture *f, unsigned which)
{
    const struct linger at_once = {.l_onoff = 1};
    int fd = f->peers[which].fd;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)), 0);
    close(fd);
    f->peers[which].fd = -1;
}

static void reset_in_bulk(struct fixture *f, unsigned which, enum cs_relay_side first)
{
    make_bulk(f, A);
    send_some(&f->peers[A], A, 16 * MIB);
    cs_loop_turn(f->loop, 0);
    reset_peer(f, which);
    wait_done(f);
    assert_true(f->result.err == -ECONNRESET || f->result.err == -EPIPE);
    assert_int_equal(f->result.first, first);
    ssize_t n; /* the other end is told */
    do {
        cs_loop_turn(f->loop, 1);
        n = recv(f->peers[!which].fd, block, sizeof(block), MSG_DONTWAIT);
    } while (n > 0 || (n < 0 && errno == EAGAIN));
    assert_int_equal(n, -1);
    assert_int_equal(errno, ECONNRESET);
}

static void test_sender_resets(void **state)
{
    reset_in_bulk(*state, A, CS_RELAY_A);
}

static void test_receiver_resets(void **state)
{
    reset_in_bulk(*state, B, CS_RELAY_B);
}

static void test_graceful_stop_delivers_the_pipe(void **state)
{
    struct fixture *f = *state;
    make_bulk(f, A);
    fill(f);
    cs_relay_stop(f->relay, CS_CLOSE_GRACEFUL, CS_ECLOSED);
    READ_UNTIL(f, &f->peers[B], A, f->peers[B].eof);
    close(f->peers[B].fd);
    f->peers[B].fd = -1;
    reset_peer(f, A);
    wait_done(f);
    assert_int_equal(f->result.err, CS_ECLOSED);
    assert_int_equal(f->peers[B].got, f->result.bytes[A]);
}

static void test_abort(void **state)
{
    struct fixture *f = *state;
    make_bulk(f, A);
    send_some(&f->peers[A], A, 4 * MIB);
    cs_loop_turn(f->loop, 0);
    cs_relay_stop(f->relay, CS_CLOSE_ABORT, CS_ECLOSED);
    wait_done(f);
}

/* The teardown closes everything: with splices in every state. */
static void test_server_stops(void **state)
{
    struct fixture *f = *state;
    make_bulk(f, A);
    make_bulk(f, B);
    send_some(&f->peers[A], A, 16 * MIB);
    cs_loop_turn(f->loop, 0);
}

/* ---- want ---- */

/* The RLIMIT_NOFILE under which just so many more descriptors can be opened. */
static rlim_t limit_with(unsigned extra)
{
    rlim_t n = 0;
    for (unsigned unused = 0;; n++) {
        unused += fcntl((int)n, F_GETFD) < 0;
        if (unused > extra) {
            return n;
        }
    }
}

static void test_no_descriptors(void **state)
{
    struct fixture *f = *state;
    struct rlimit old, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    for (unsigned extra = 0; extra < 4; extra++) { /* a splice needs four */
        few = old;
        few.rlim_cur = limit_with(extra);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        carry(f, A, 4 * MIB);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_false(is_spliced(f, 0));
    }
    make_bulk(f, A);
}

#ifdef CS_FAULTS
static void test_each_allocation_fails(void **state)
{
    struct fixture *f = *state;
    unsigned hits = 0;
    for (unsigned long nth = 1; nth < 40 && f->relay; nth++) {
        cs_mem_fail_nth(nth);
        struct peer *src = &f->peers[A], *dst = &f->peers[B];
        uint64_t goal = src->sent + 3 * MIB;
        while (dst->got < goal && f->relay) {
            send_some(src, A, goal - src->sent);
            cs_loop_turn(f->loop, 0);
            ssize_t n = recv(dst->fd, block, sizeof(block), MSG_DONTWAIT);
            dst->got += n > 0 ? (uint64_t)n : 0;
        }
        hits += cs_mem_failed();
        cs_mem_fail_nth(0);
        for (unsigned i = 0; i < 20 && f->relay; i++) {
            cs_loop_turn(f->loop, 0); /* small ones end it */
            clock_skew_ms += 1100;
        }
    }
    assert_true(hits > 0);
}
#endif

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define BOTH(fn)                                                                                   \
    TEST(fn),                                                                                      \
    {                                                                                              \
#fn "_plain", fn, setup_plain, teardown, NULL                                              \
    }

int main(void)
{
    signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    make_sequences();
    const struct CMUnitTest tests[] = {
        BOTH(test_one_way),
        BOTH(test_both_ways_at_once),
        cmocka_unit_test_setup_teardown(test_without, setup_without, teardown),
        TEST(test_small_messages_are_never_spliced),
        BOTH(test_messages_against_bulk),
        BOTH(test_small_moves_end_it),
        TEST(test_silence_ends_it),
        BOTH(test_slow_reader),
        BOTH(test_urgent_data),
        BOTH(test_half_close_with_full_pipe),
        BOTH(test_sender_resets),
        BOTH(test_receiver_resets),
        BOTH(test_graceful_stop_delivers_the_pipe),
        TEST(test_abort),
        BOTH(test_server_stops),
        TEST(test_no_descriptors),
#ifdef CS_FAULTS
        TEST(test_each_allocation_fails),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
