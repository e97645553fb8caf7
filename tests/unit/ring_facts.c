/*
 * ring_facts - what the design takes for granted of the kernel, each as a test, so that a kernel
 * that differs tells us here and not through a lost connection. Raw io_uring, set up as ring.c
 * does.
 */
#include "unit/ring_support.h"

#include "base/chain.h"
#include "ring/bufring.h"
#include "ring/probe.h"
#include "ring/ring.h"
#include "ring/sys.h"

enum {
    SLOTS = 8,
    OURS = 4, /* slots from here on are chosen by us, those below by the kernel */
    BUFFERS = 8,
    BUFFER_SIZE = 16,
    IDS = 32,
};

/* What has been completed, by user_data. */
struct got {
    unsigned count;
    int res; /* the newest */
    unsigned flags;
};

struct facts {
    struct io_uring ring;
    struct cs_bufring *buffers;
    int a, b; /* a TCP connection */
    struct got got[IDS];
    unsigned order[64]; /* user_data in the order of completion */
    unsigned completed;
    struct cs_chain data; /* received, and not given back */
    bool direct;
};

static void raw_open(struct io_uring *u)
{
    struct io_uring_params p = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE,
        .cq_entries = 256,
    };
    int err = io_uring_queue_init_params(64, u, &p);
    if (err < 0) {
        fprintf(stderr, "skipped: io_uring is not to be had (%d)\n", err);
        exit(77);
    }
    assert_int_equal(io_uring_register_files_sparse(u, SLOTS), 0);
    assert_int_equal(io_uring_register_file_alloc_range(u, 0, OURS), 0);
}

static struct facts *facts_create(void)
{
    struct facts *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    raw_open(&f->ring);
    assert_int_equal(cs_bufring_create(&f->buffers, &f->ring, 0, BUFFERS, BUFFER_SIZE), 0);
    f->direct = cs_probe_features(&f->ring) & CS_RING_DIRECT;
    f->a = f->b = -1;
    return f;
}

static void facts_destroy(struct facts *f)
{
    cs_chain_clear(&f->data);
    cs_bufring_destroy(f->buffers);
    io_uring_queue_exit(&f->ring);
    free(f);
}

static int setup(void **state)
{
    struct facts *f = facts_create();
    int fd[2];
    tcp_pair(fd);
    f->a = fd[0];
    f->b = fd[1];
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct facts *f = *state;
    if (f->a >= 0) {
        close(f->a);
    }
    close(f->b);
    facts_destroy(f);
    return 0;
}

/* For what only kernels with direct descriptors are asked to do. */
static struct facts *direct_of(void **state)
{
    struct facts *f = *state;
    if (!f->direct) {
        skip();
    }
    return f;
}

/* ---- asking and collecting ---- */

static struct io_uring_sqe *sqe_for(struct facts *f)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&f->ring);
    assert_non_null(sqe);
    return sqe;
}

static void collect(struct facts *f)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    io_uring_for_each_cqe(&f->ring, head, cqe)
    {
        assert_in_range(cqe->user_data, 1, IDS - 1);
        struct got *g = &f->got[cqe->user_data];
        g->count++;
        g->res = cqe->res;
        g->flags = cqe->flags;
        f->order[f->completed++ % CS_ARRAY_LEN(f->order)] = (unsigned)cqe->user_data;
        if ((cqe->flags & IORING_CQE_F_BUFFER) && cqe->res > 0) {
            unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
            cs_chain_push(&f->data, cs_bufring_lend(f->buffers, id, (unsigned)cqe->res));
        }
        n++;
    }
    io_uring_cq_advance(&f->ring, n);
}

/* Submits and gives the kernel every occasion to complete what can be completed now. */
static void settle(struct facts *f)
{
    assert_true(io_uring_submit(&f->ring) >= 0);
    for (unsigned i = 0; i < 4; i++) {
        io_uring_get_events(&f->ring);
        collect(f);
    }
}

static void wait_some(struct facts *f)
{
    struct __kernel_timespec ts = {.tv_nsec = 10000000};
    struct io_uring_cqe *cqe;
    io_uring_submit_and_wait_timeout(&f->ring, &cqe, 1, &ts, NULL);
    collect(f);
}

/* The result of request `id`, waited for, and forgotten. */
static int result(struct facts *f, unsigned id)
{
    UNTIL(f->got[id].count > 0, wait_some(f));
    f->got[id].count = 0;
    return f->got[id].res;
}

static bool final(const struct facts *f, unsigned id)
{
    return !(f->got[id].flags & IORING_CQE_F_MORE);
}

static void ask_nop(struct facts *f, unsigned id, unsigned flags)
{
    struct io_uring_sqe *sqe = sqe_for(f);
    io_uring_prep_nop(sqe);
    sqe->flags |= (__u8)flags;
    io_uring_sqe_set_data64(sqe, id);
}

static void ask_recv(struct facts *f, unsigned id, int fd, unsigned flags, void *byte)
{
    struct io_uring_sqe *sqe = sqe_for(f);
    io_uring_prep_recv(sqe, fd, byte, 1, 0);
    sqe->flags |= (__u8)flags;
    io_uring_sqe_set_data64(sqe, id);
}

static void ask_multishot(struct facts *f, unsigned id, int fd)
{
    struct io_uring_sqe *sqe = sqe_for(f);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    io_uring_sqe_set_data64(sqe, id);
}

static void ask_accept(struct facts *f, unsigned id, int listener)
{
    struct io_uring_sqe *sqe = sqe_for(f);
    io_uring_prep_multishot_accept_direct(sqe, listener, NULL, NULL, 0);
    io_uring_sqe_set_data64(sqe, id);
}

static void ask_cancel(struct facts *f, unsigned id, unsigned which)
{
    struct io_uring_sqe *sqe = sqe_for(f);
    io_uring_prep_cancel64(sqe, which, 0);
    io_uring_sqe_set_data64(sqe, id);
}

static void ask_close_slot(struct facts *f, unsigned id, unsigned slot, unsigned flags)
{
    struct io_uring_sqe *sqe = sqe_for(f);
    io_uring_prep_close_direct(sqe, slot);
    sqe->flags |= (__u8)flags;
    io_uring_sqe_set_data64(sqe, id);
}

static void ask_socket(struct facts *f, unsigned id, unsigned slot, unsigned flags)
{
    struct io_uring_sqe *sqe = sqe_for(f);
    io_uring_prep_socket_direct(sqe, AF_INET, SOCK_STREAM, 0, slot, 0);
    sqe->flags |= (__u8)flags;
    io_uring_sqe_set_data64(sqe, id);
}

static int install(struct facts *f, unsigned id, unsigned slot)
{
    struct io_uring_sqe *sqe = sqe_for(f);
    cs_sqe_install(sqe, slot);
    io_uring_sqe_set_data64(sqe, id);
    return result(f, id);
}

static void put_into_slot(struct facts *f, unsigned slot, int fd)
{
    assert_int_equal(io_uring_register_files_update(&f->ring, slot, &fd, 1), 1);
}

static void send_bytes(int fd, size_t n)
{
    char bytes[256];
    assert_true(n <= sizeof(bytes));
    memset(bytes, 'x', n);
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* ---- a receive is pending ---- */

static void still_receives(struct facts *f, const char *byte)
{
    settle(f);
    assert_int_equal(f->got[1].count, 0);
    send_bytes(f->b, 1);
    assert_int_equal(result(f, 1), 1);
    assert_int_equal(*byte, 'x');
}

static void test_close_does_not_end_a_receive(void **state)
{
    struct facts *f = *state;
    char byte = 0;
    ask_recv(f, 1, f->a, 0, &byte);
    settle(f);
    close(f->a);
    f->a = -1;
    still_receives(f, &byte);
}

static void test_op_close_does_not_end_a_receive(void **state)
{
    struct facts *f = *state;
    char byte = 0;
    ask_recv(f, 1, f->a, 0, &byte);
    settle(f);
    struct io_uring_sqe *sqe = sqe_for(f);
    io_uring_prep_close(sqe, f->a);
    io_uring_sqe_set_data64(sqe, 2);
    f->a = -1;
    assert_int_equal(result(f, 2), 0);
    still_receives(f, &byte);
}

static void test_close_direct_does_not_end_a_receive(void **state)
{
    struct facts *f = *state;
    char byte = 0;
    put_into_slot(f, OURS, f->a);
    close(f->a);
    f->a = -1;
    ask_recv(f, 1, OURS, IOSQE_FIXED_FILE, &byte);
    settle(f);
    ask_close_slot(f, 2, OURS, 0);
    assert_int_equal(result(f, 2), 0);
    still_receives(f, &byte);
}

static void test_shutdown_ends_a_receive_with_0(void **state)
{
    struct facts *f = *state;
    char byte;
    ask_recv(f, 1, f->a, 0, &byte);
    settle(f);
    assert_int_equal(f->got[1].count, 0);
    assert_int_equal(shutdown(f->a, SHUT_RDWR), 0);
    assert_int_equal(result(f, 1), 0);
}

static void test_cancel_ends_a_receive(void **state)
{
    struct facts *f = *state;
    char byte;
    ask_recv(f, 1, f->a, 0, &byte);
    settle(f);
    ask_cancel(f, 2, 1);
    assert_int_equal(result(f, 1), -ECANCELED);
    assert_int_equal(result(f, 2), 0);
    ask_cancel(f, 2, 1);
    assert_int_equal(result(f, 2), -ENOENT);
}

/* ---- receive buffers ---- */

static void test_one_receive_completes_several_times_in_one_reap(void **state)
{
    struct facts *f = *state;
    ask_multishot(f, 1, f->a);
    settle(f);
    send_bytes(f->b, 5 * BUFFER_SIZE);
    settle(f);
    assert_int_equal(f->got[1].count, 5);
    assert_false(final(f, 1));
    assert_int_equal(cs_chain_len(&f->data), 5 * BUFFER_SIZE);
}

static void test_no_buffer_is_free(void **state)
{
    struct facts *f = *state;
    ask_multishot(f, 1, f->a);
    settle(f);
    send_bytes(f->b, (BUFFERS + 3) * BUFFER_SIZE);
    UNTIL(final(f, 1) && f->got[1].count > 0, wait_some(f));
    assert_int_equal(f->got[1].count, BUFFERS + 1);
    assert_int_equal(result(f, 1), -ENOBUFS);
    assert_int_equal(cs_bufring_free(f->buffers), 0);
    cs_chain_drop(&f->data, BUFFER_SIZE); /* one is given back: one is filled */
    ask_multishot(f, 1, f->a);
    UNTIL(final(f, 1) && f->got[1].count > 0, wait_some(f));
    assert_int_equal(f->got[1].count, 2);
    assert_int_equal(result(f, 1), -ENOBUFS);
    cs_chain_drop(&f->data, cs_chain_len(&f->data));
    ask_multishot(f, 1, f->a);
    UNTIL(cs_chain_len(&f->data) == 2 * BUFFER_SIZE, wait_some(f));
    assert_false(final(f, 1));
}

/* ---- accept ---- */

static int one_accepted(struct facts *f, int listener, const struct cs_addr *addr, int *client)
{
    ask_accept(f, 1, listener);
    settle(f);
    *client = client_of(addr);
    int slot = result(f, 1);
    assert_in_range(slot, 0, OURS - 1);
    return slot;
}

static int option_int(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void set_int(int fd, int level, int name, int value)
{
    assert_int_equal(setsockopt(fd, level, name, &value, sizeof(value)), 0);
}

static void test_options_are_inherited(void **state)
{
    struct facts *f = direct_of(state);
    struct cs_addr addr = address("127.0.0.1");
    int listener = listener_at(&addr, 8), client;
    char congestion[16] = "";
    socklen_t len = sizeof(congestion);
    set_int(listener, IPPROTO_TCP, TCP_NODELAY, 1);
    set_int(listener, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_int(listener, IPPROTO_TCP, TCP_KEEPIDLE, 77);
    set_int(listener, IPPROTO_TCP, TCP_KEEPINTVL, 7);
    set_int(listener, IPPROTO_TCP, TCP_KEEPCNT, 3);
    set_int(listener, IPPROTO_TCP, TCP_USER_TIMEOUT, 7777);
    assert_int_equal(setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, "reno", 4), 0);
    int fd = install(f, 2, (unsigned)one_accepted(f, listener, &addr, &client));
    assert_true(fd >= 0);
    assert_int_equal(option_int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option_int(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option_int(fd, IPPROTO_TCP, TCP_KEEPIDLE), 77);
    assert_int_equal(option_int(fd, IPPROTO_TCP, TCP_KEEPINTVL), 7);
    assert_int_equal(option_int(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
    assert_int_equal(option_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 7777);
    assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, &len), 0);
    assert_string_equal(congestion, "reno");
    close(fd);
    close(client);
    close(listener);
}

static int ask_peername(struct facts *f, unsigned slot, void *out, unsigned len)
{
    struct io_uring_sqe *sqe = sqe_for(f);
    cs_sqe_sockopt(sqe, (int)slot, CS_URING_SOCKET_GETSOCKOPT, SOL_SOCKET, SO_PEERNAME, out, len);
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, 3);
    return result(f, 3);
}

/* A longer buffer is refused, not filled in part: the family must be known beforehand. */
static void peername_of(struct facts *f, const char *ip, unsigned exact)
{
    struct cs_addr addr = address(ip);
    int listener = listener_at(&addr, 8), client;
    unsigned slot = (unsigned)one_accepted(f, listener, &addr, &client);
    struct cs_addr want = {.len = sizeof(want.un)};
    struct cs_addr have = {.len = exact};
    assert_int_equal(getsockname(client, &want.sa, &want.len), 0);
    assert_true(ask_peername(f, slot, &have.un, exact) >= 0);
    assert_true(cs_addr_equal(&have, &want));
    assert_int_equal(ask_peername(f, slot, &have.un, exact + 1), -EINVAL);
    assert_int_equal(ask_peername(f, slot, &have.un, sizeof(have.un)), -EINVAL);
    close(client);
    close(listener);
}

static void test_peername_v4(void **state)
{
    peername_of(direct_of(state), "127.0.0.1", sizeof(struct sockaddr_in));
}

static void test_peername_v6(void **state)
{
    peername_of(direct_of(state), "::1", sizeof(struct sockaddr_in6));
}

static void test_full_table(void **state)
{
    struct facts *f = *state;
    struct cs_addr addr = address("127.0.0.1");
    int listener = listener_at(&addr, 16), clients[OURS + 1];
    char byte;
    for (unsigned i = 0; i <= OURS; i++) {
        clients[i] = client_of(&addr);
    }
    ask_accept(f, 1, listener);
    UNTIL(f->got[1].count > OURS, wait_some(f));
    assert_true(final(f, 1));
    assert_int_equal(result(f, 1), -ENFILE);
    UNTIL(seen_by(clients[OURS], &byte, 1) != -EAGAIN, settle(f)); /* the one it took is lost */
    for (unsigned i = 0; i < OURS; i++) {
        assert_int_equal(seen_by(clients[i], &byte, 1), -EAGAIN);
    }
    for (unsigned i = 0; i <= OURS; i++) {
        close(clients[i]);
    }
    close(listener);
}

/* Cancel, wait for the final completion, arm the next ring: whoever came in between waits in the
 * kernel's queue. Connections accepted by a ring before its final completion count there. */
static void test_moving_an_accept(void **state)
{
    struct facts *from = *state, *to = facts_create();
    struct cs_addr addr = address("127.0.0.1");
    int listener = listener_at(&addr, 16), clients[6];
    ask_accept(from, 1, listener);
    settle(from);
    for (unsigned i = 0; i < 4; i++) {
        clients[i] = client_of(&addr);
        if (i == 1) {
            settle(from);
            ask_cancel(from, 2, 1); /* queued: one more comes before it is submitted */
        }
    }
    UNTIL(final(from, 1) && from->got[1].count > 0, wait_some(from));
    assert_int_equal(from->got[1].res, -ECANCELED);
    clients[4] = client_of(&addr);
    ask_accept(to, 1, listener);
    settle(to);
    clients[5] = client_of(&addr);
    UNTIL(from->got[1].count - 1 + to->got[1].count == 6, wait_some(to));
    for (unsigned i = 0; i < 6; i++) {
        close(clients[i]);
    }
    facts_destroy(to);
    close(listener);
}

/* ---- order within one submission ---- */

static void test_requests_run_in_order(void **state)
{
    struct facts *f = direct_of(state);
    for (unsigned round = 0; round < 10; round++) {
        put_into_slot(f, OURS, f->a);
        ask_close_slot(f, 1, OURS, 0);
        ask_socket(f, 2, OURS, 0);
        settle(f);
        assert_int_equal(result(f, 1), 0);
        assert_int_equal(result(f, 2), 0);
        int fd = install(f, 3, OURS);
        assert_true(fd >= 0); /* the slot has the new socket, not the old, not nothing */
        assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
        close(fd);
    }
}

static void test_a_linked_request_runs_after_later_ones(void **state)
{
    struct facts *f = *state;
    ask_nop(f, 1, IOSQE_IO_LINK);
    ask_nop(f, 2, 0);
    ask_nop(f, 3, 0);
    settle(f);
    assert_int_equal(f->completed, 3);
    assert_int_equal(f->order[0], 1);
    assert_int_equal(f->order[1], 3);
    assert_int_equal(f->order[2], 2);
}

/* So a linked close of a slot would close what is put there after it. */
static void test_a_linked_close_hits_the_next_socket(void **state)
{
    struct facts *f = direct_of(state);
    put_into_slot(f, OURS, f->a);
    ask_nop(f, 1, IOSQE_IO_LINK);
    ask_close_slot(f, 2, OURS, 0);
    ask_socket(f, 3, OURS, 0);
    assert_int_equal(result(f, 3), 0);
    assert_int_equal(result(f, 2), 0);
    assert_int_equal(install(f, 4, OURS), -EBADF);
}

/* ---- connect ---- */

/* socket, NODELAY and connect as ring.c links them; 3 is the connect. */
static void ask_connect(struct facts *f, const struct cs_addr *to)
{
    static const int one = 1;
    ask_socket(f, 1, OURS, IOSQE_IO_LINK);
    struct io_uring_sqe *sqe = sqe_for(f);
    cs_sqe_sockopt(sqe, OURS, CS_URING_SOCKET_SETSOCKOPT, IPPROTO_TCP, TCP_NODELAY, &one,
                   sizeof(one));
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK;
    io_uring_sqe_set_data64(sqe, 2);
    sqe = sqe_for(f);
    io_uring_prep_connect(sqe, OURS, &to->sa, to->len);
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, 3);
}

static void test_connect_chain(void **state)
{
    struct facts *f = direct_of(state);
    struct cs_addr addr = address("127.0.0.1");
    int listener = listener_at(&addr, 1);
    ask_connect(f, &addr);
    assert_int_equal(result(f, 3), 0);
    int fd = install(f, 4, OURS);
    assert_int_equal(option_int(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    close(fd);
    close(listener);
}

/* After a submission and three rounds of task work the connect is found, however short its life. */
static void test_connect_chain_cancelled_early(void **state)
{
    struct facts *f = direct_of(state);
    struct silent s;
    silent_open(&s);
    for (unsigned round = 0; round < 20; round++) {
        ask_connect(f, &s.addr);
        io_uring_submit(&f->ring);
        for (unsigned link = 0; link < 3; link++) {
            io_uring_get_events(&f->ring);
        }
        ask_cancel(f, 4, 3);
        assert_int_equal(result(f, 3), -ECANCELED);
        assert_int_equal(result(f, 4), 0);
        ask_close_slot(f, 5, OURS, 0);
        assert_int_equal(result(f, 5), 0);
    }
    silent_close(&s);
}

/* ---- real descriptors of slots ---- */

static void test_install_and_shutdown(void **state)
{
    struct facts *f = direct_of(state);
    char byte = 0;
    put_into_slot(f, OURS, f->a);
    close(f->a);
    f->a = -1;
    int fd = install(f, 1, OURS);
    assert_true(fd >= 0);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    close(fd);
    UNTIL(seen_by(f->b, &byte, 1) == 0, settle(f));
    send_bytes(f->b, 1); /* the slot still is the socket */
    ask_recv(f, 2, OURS, IOSQE_FIXED_FILE, &byte);
    assert_int_equal(result(f, 2), 1);
    assert_int_equal(byte, 'x');
    assert_int_equal(install(f, 3, OURS + 1), -EBADF);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_close_does_not_end_a_receive),
        TEST(test_op_close_does_not_end_a_receive),
        TEST(test_close_direct_does_not_end_a_receive),
        TEST(test_shutdown_ends_a_receive_with_0),
        TEST(test_cancel_ends_a_receive),
        TEST(test_one_receive_completes_several_times_in_one_reap),
        TEST(test_no_buffer_is_free),
        TEST(test_options_are_inherited),
        TEST(test_peername_v4),
        TEST(test_peername_v6),
        TEST(test_full_table),
        TEST(test_moving_an_accept),
        TEST(test_requests_run_in_order),
        TEST(test_a_linked_request_runs_after_later_ones),
        TEST(test_a_linked_close_hits_the_next_socket),
        TEST(test_connect_chain),
        TEST(test_connect_chain_cancelled_early),
        TEST(test_install_and_shutdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
