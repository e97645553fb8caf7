/*
 * ring_ring - the face of ring.h on a real ring: creating, connections from their beginning to
 * their end, and what is left after errors. Bytes: ring_transfer.c. Listening: ring_listen.c.
 */
#include "unit/ring_fixture.h"

#include "base/err.h"
#include "base/mem.h"

/* ---- creating ---- */

static void test_features(void **state)
{
    struct fixture *f = *state;
    const char *without = getenv("COSOCKD_WITHOUT");
    if (without) {
        assert_int_equal(cs_ring_features(f->ring) & CS_RING_DIRECT, 0);
    }
    assert_int_equal(cs_ring_buffer_size(f->ring, CS_RING_SMALL), SMALL_SIZE);
    assert_int_equal(cs_ring_buffer_size(f->ring, CS_RING_BULK), BULK_SIZE);
    assert_int_equal(turn(f->ring, 0), 0);
    assert_int_equal(turn(f->ring, 1), 0);
}

static void create_fails(const struct cs_ring_config *config, const char *says)
{
    char why[256] = "";
    struct cs_ring *r = NULL;
    assert_int_equal(cs_ring_create(&r, config, why, sizeof(why)), CS_ENOTSUP);
    assert_non_null(strstr(why, says));
    assert_null(r);
}

static void test_no_descriptor_for_a_ring(void **state)
{
    struct cs_ring_config config;
    (void)state;
    cs_ring_config_default(&config);
    struct rlimit old = no_descriptors();
    create_fails(&config, "io_uring could not be set up");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* The table is as large as the limit, however small that is. */
static void test_few_descriptors_for_a_ring(void **state)
{
    struct cs_ring_config config;
    struct rlimit old, few;
    struct cs_ring *r;
    char why[256];
    (void)state;
    cs_ring_config_default(&config);
    int lowest = dup(0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = old;
    few.rlim_cur = (rlim_t)lowest + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(cs_ring_create(&r, &config, why, sizeof(why)), 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_in_range(cs_ring_accept_room(r), 0, (unsigned)lowest);
    cs_ring_destroy(r);
}

static void test_table_of_nothing(void **state)
{
    struct fixture *f = *state;
    struct cs_ring_config config;
    ring_config(&config);
    config.slots_max = 1; /* no half for accept */
    if (f->direct) {
        create_fails(&config, "io_uring could not be set up");
    }
    ring_config(&config);
    config.bulk_buffers = 3; /* not a power of two */
    create_fails(&config, "io_uring");
}

#ifdef CS_FAULTS
static void test_each_allocation_of_a_ring_fails(void **state)
{
    struct cs_ring_config config;
    struct cs_ring *r = NULL;
    char why[256];
    int err = -ENOMEM;
    unsigned long n;
    (void)state;
    ring_config(&config);
    for (n = 1; err != 0; n++) {
        unsigned before = open_descriptors();
        cs_mem_fail_nth(n);
        err = cs_ring_create(&r, &config, why, sizeof(why));
        cs_mem_fail_nth(0);
        if (err != 0) {
            assert_int_equal(err, -ENOMEM);
            assert_null(r);
            assert_int_equal(open_descriptors(), before);
        }
    }
    assert_true(n > 4);
    cs_ring_destroy(r);
}
#endif

/* ---- accept ---- */

static void close_accepted(struct fixture *f, struct watch *w)
{
    while (w->fd_count > 0) {
        cs_ring_close(f->ring, w->fds[--w->fd_count], false);
    }
}

static void test_accept_once(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr;
    int fd = listener(&addr, "127.0.0.1"), clients[2];
    watch_init(&f->w, on_accept);
    cs_ring_accept(f->ring, &f->w.op, fd, true);
    settle(f);
    assert_true(f->w.op.armed);
    clients[0] = client_of(&addr);
    clients[1] = client_of(&addr);
    assert_true(ended(f, &f->w) >= 0);
    settle(f);
    assert_int_equal(f->w.count, 1);
    assert_int_equal(cs_ring_accept_room(f->ring), f->room - 1);
    int now = cs_listen_accept_now(fd); /* the other waits still */
    assert_true(now >= 0);
    assert_int_equal(cs_listen_accept_now(fd), -EAGAIN);
    close(now);
    close_accepted(f, &f->w);
    close(clients[0]);
    close(clients[1]);
    cs_listen_close(fd, &addr);
}

static void test_accept_until_cancelled(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr;
    int fd = listener(&addr, "::1"), clients[5];
    watch_init(&f->w, on_accept);
    cs_ring_accept(f->ring, &f->w.op, fd, false);
    for (unsigned i = 0; i < 5; i++) {
        clients[i] = client_of(&addr);
    }
    WAIT(f, f->w.fd_count == 5);
    assert_true(f->w.op.armed);
    cs_ring_cancel(f->ring, &f->w.op);
    assert_int_equal(ended(f, &f->w), -ECANCELED);
    assert_int_equal(f->w.count, 6);
    close_accepted(f, &f->w);
    for (unsigned i = 0; i < 5; i++) {
        close(clients[i]);
    }
    cs_listen_close(fd, &addr);
}

static void test_accept_on_what_does_not_listen(void **state)
{
    struct fixture *f = *state;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cs_ring_accept(f->ring, &f->w.op, fd, false);
    assert_int_equal(ended(f, &f->w), -EINVAL);
    cs_ring_accept(f->ring, &f->w.op, -1, true);
    assert_int_equal(ended(f, &f->w), -EBADF);
    close(fd);
}

static void test_accept_table_full(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr;
    int clients[SLOTS / 2 + 1];
    if (!f->direct) {
        skip();
    }
    int fd = listener(&addr, "127.0.0.1");
    watch_init(&f->w, on_accept);
    cs_ring_accept(f->ring, &f->w.op, fd, false);
    for (unsigned i = 0; i <= SLOTS / 2; i++) {
        clients[i] = client_of(&addr);
    }
    assert_int_equal(ended(f, &f->w), -ENFILE);
    assert_int_equal(f->w.fd_count, SLOTS / 2);
    assert_int_equal(cs_ring_accept_room(f->ring), 0);
    close_accepted(f, &f->w);
    assert_int_equal(cs_ring_accept_room(f->ring), f->room);
    cs_ring_accept(f->ring, &f->w.op, fd, true);
    int more = client_of(&addr);
    assert_true(ended(f, &f->w) >= 0);
    close_accepted(f, &f->w);
    for (unsigned i = 0; i <= SLOTS / 2; i++) {
        close(clients[i]);
    }
    close(more);
    cs_listen_close(fd, &addr);
}

static void peername_over(struct fixture *f, const char *ip)
{
    struct cs_addr addr, want = {.len = sizeof(want.un)}, have;
    struct sockaddr_in6 out;
    int fd = listener(&addr, ip), client = client_of(&addr);
    int family = cs_addr_family(&addr);
    watch_init(&f->w, on_accept);
    cs_ring_accept(f->ring, &f->w.op, fd, true);
    assert_true(ended(f, &f->w) >= 0);
    cs_ring_peername(f->ring, &f->v.op, f->w.fds[0], family, &out);
    assert_int_equal(ended(f, &f->v), 0);
    assert_int_equal(getsockname(client, &want.sa, &want.len), 0);
    cs_addr_from_sockaddr(&have, (struct sockaddr *)&out, want.len);
    assert_true(cs_addr_equal(&have, &want));
    close_accepted(f, &f->w);
    close(client);
    cs_listen_close(fd, &addr);
}

static void test_peername(void **state)
{
    peername_over(*state, "127.0.0.1");
    peername_over(*state, "::1");
}

static void test_peername_without_peer(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_in6 out;
    f->fd = cs_ring_adopt(f->ring, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    assert_true(f->fd >= 0);
    cs_ring_peername(f->ring, &f->w.op, f->fd, AF_INET, &out);
    assert_int_equal(ended(f, &f->w), -ENOTCONN);
}

/* ---- connect ---- */

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void connect_to(struct fixture *f, const char *ip, const char *from)
{
    struct cs_addr addr, local, name, peer = {.len = sizeof(peer.un)};
    int fd = listener(&addr, ip);
    if (from) {
        local = address(from);
    }
    cs_ring_connect(f->ring, &f->w.op, &f->fd, &addr, from ? &local : NULL);
    assert_int_not_equal(f->fd, CS_FD_NONE);
    memset(&addr.sa, 0xff, sizeof(addr.sa)); /* the address was copied */
    assert_int_equal(ended(f, &f->w), 0);
    f->peer = accept4(fd, &peer.sa, &peer.len, SOCK_CLOEXEC);
    assert_true(f->peer >= 0);
    assert_int_equal(cs_ring_name(f->ring, f->fd, false, &name), 0);
    if (cs_addr_family(&name) != AF_UNIX) {
        assert_true(cs_addr_equal(&name, &peer));
    }
    if (from) {
        cs_addr_set_port(&name, 0);
        assert_true(cs_addr_equal(&name, &local));
    }
    close_pair(f);
    close(fd);
}

static void test_connect(void **state)
{
    connect_to(*state, "127.0.0.1", NULL);
    connect_to(*state, "::1", NULL);
    connect_to(*state, "unix:@cosockd-test-ring", NULL);
}

static void test_connect_from(void **state)
{
    connect_to(*state, "127.0.0.1", "127.0.0.9");
    connect_to(*state, "::1", "::1");
}

static void test_connect_refused(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr, local = address("127.0.0.9");
    close(listener(&addr, "127.0.0.1"));
    cs_ring_connect(f->ring, &f->w.op, &f->fd, &addr, NULL);
    assert_int_equal(ended(f, &f->w), -ECONNREFUSED);
    close_pair(f);
    cs_ring_connect(f->ring, &f->w.op, &f->fd, &addr, &local);
    assert_int_equal(ended(f, &f->w), -ECONNREFUSED);
    close_pair(f);
    addr = address("unix:/nowhere/at/all");
    cs_ring_connect(f->ring, &f->w.op, &f->fd, &addr, NULL);
    assert_int_equal(ended(f, &f->w), -ENOENT);
}

static void test_connect_from_an_address_of_others(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr, local = address("192.0.2.1");
    int fd = listener(&addr, "127.0.0.1");
    cs_ring_connect(f->ring, &f->w.op, &f->fd, &addr, &local);
    assert_int_equal(f->fd, CS_FD_NONE);
    assert_int_equal(f->w.count, 0); /* by an event, not inside the call */
    assert_int_equal(ended(f, &f->w), -EADDRNOTAVAIL);
    cs_listen_close(fd, &addr);
}

static void test_connect_with_nodelay(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr;
    int fd = listener(&addr, "127.0.0.1");
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    cs_ring_connect(f->ring, &f->w.op, &f->fd, &addr, NULL);
    assert_int_equal(ended(f, &f->w), 0);
    if (!f->direct) {
        assert_int_equal(option_of(f->fd, IPPROTO_TCP, TCP_NODELAY), 1);
    }
    cs_listen_close(fd, &addr);
}

/* With slots: both kinds of connect. */
static void test_connect_no_slot_left(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr, local = address("127.0.0.1");
    cs_fd fds[SLOTS / 2], none = 0;
    if (!f->direct) {
        skip();
    }
    int fd = listener(&addr, "127.0.0.1");
    for (unsigned i = 0; i < SLOTS / 2; i++) {
        cs_ring_connect(f->ring, &f->w.op, &fds[i], &addr, NULL);
        assert_int_equal(ended(f, &f->w), 0);
    }
    assert_int_equal(cs_ring_accept_room(f->ring), f->room);
    for (unsigned i = 0; i < 2; i++) {
        cs_ring_connect(f->ring, &f->w.op, &none, &addr, i ? &local : NULL);
        assert_int_equal(none, CS_FD_NONE);
        assert_int_equal(ended(f, &f->w), -ENFILE);
    }
    assert_int_equal(cs_ring_adopt(f->ring, dup(fd)), -ENFILE);
    cs_ring_close(f->ring, fds[0], false); /* its slot is free at once */
    cs_ring_connect(f->ring, &f->w.op, &fds[0], &addr, NULL);
    assert_int_equal(ended(f, &f->w), 0);
    for (unsigned i = 0; i < SLOTS / 2; i++) {
        cs_ring_close(f->ring, fds[i], i % 2);
    }
    cs_listen_close(fd, &addr);
}

static void test_connect_no_descriptor_left(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr, local = address("127.0.0.1");
    cs_fd fd = 0;
    int listening = listener(&addr, "127.0.0.1");
    struct rlimit old = no_descriptors();
    cs_ring_connect(f->ring, &f->w.op, &fd, &addr, &local);
    assert_int_equal(fd, CS_FD_NONE);
    int res = ended(f, &f->w);
    cs_ring_connect(f->ring, &f->w.op, &f->fd, &addr, NULL); /* a slot needs no descriptor */
    int second = ended(f, &f->w);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(res, -EMFILE);
    assert_int_equal(second, f->direct ? 0 : -EMFILE);
    cs_listen_close(listening, &addr);
}

/* ---- close and shutdown ---- */

static void test_close(void **state)
{
    struct fixture *f = with_pair(state);
    char byte;
    cs_ring_close(f->ring, f->fd, false);
    f->fd = CS_FD_NONE;
    assert_int_equal(peer_sees(f, &byte, 1), 0);
}

static void test_close_with_reset(void **state)
{
    struct fixture *f = with_pair(state);
    char byte;
    cs_ring_close(f->ring, f->fd, true);
    f->fd = CS_FD_NONE;
    assert_int_equal(peer_sees(f, &byte, 1), -ECONNRESET);
}

/* What was sent before a close arrives before its end. */
static void test_close_after_send(void **state)
{
    struct fixture *f = with_pair(state);
    char buf[8];
    struct iovec iov = text_iov("last");
    cs_ring_send(f->ring, &f->w.op, f->fd, &iov, 1);
    assert_int_equal(ended(f, &f->w), 4);
    cs_ring_close(f->ring, f->fd, false);
    f->fd = CS_FD_NONE;
    assert_int_equal(peer_sees(f, buf, sizeof(buf)), 4);
    assert_int_equal(peer_sees(f, buf, sizeof(buf)), 0);
}

static void test_shutdown(void **state)
{
    struct fixture *f = with_pair(state);
    char byte;
    cs_ring_recv(f->ring, &f->w.op, f->fd, CS_RING_SMALL);
    assert_int_equal(cs_ring_shutdown(f->ring, f->fd), 0);
    assert_int_equal(peer_sees(f, &byte, 1), 0);
    peer_sends(f, 3); /* the other half lives */
    WAIT(f, cs_chain_len(&f->w.data) == 3);
    assert_true(f->w.op.armed);
    assert_int_equal(cs_ring_shutdown(f->ring, f->fd), 0);
}

static void test_shutdown_fails(void **state)
{
    struct fixture *f = *state;
    f->fd = cs_ring_adopt(f->ring, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    assert_int_equal(cs_ring_shutdown(f->ring, f->fd), -ENOTCONN);
    close_pair(f);
    with_pair(state);
    struct rlimit old = no_descriptors();
    int err = cs_ring_shutdown(f->ring, f->fd);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(err, f->direct ? -EMFILE : 0);
    assert_int_equal(cs_ring_shutdown(f->ring, f->fd), 0);
}

/* ---- options, names, descriptors ---- */

static void test_setsockopt(void **state)
{
    struct fixture *f = with_pair(state);
    const struct linger hard = {.l_onoff = 1};
    const int one = 1;
    char byte;
    assert_int_equal(
        cs_ring_setsockopt(f->ring, f->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    assert_int_equal(cs_ring_setsockopt(f->ring, f->fd, IPPROTO_TCP, 9999, &one, sizeof(one)),
                     -ENOPROTOOPT);
    assert_int_equal(cs_ring_setsockopt(f->ring, f->fd, IPPROTO_TCP, TCP_NODELAY, &one, 1),
                     -EINVAL);
    assert_int_equal(cs_ring_setsockopt(f->ring, f->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)),
                     0);
    cs_ring_close(f->ring, f->fd, false);
    f->fd = CS_FD_NONE;
    assert_int_equal(peer_sees(f, &byte, 1), -ECONNRESET); /* it took effect */
}

/* A call that waits for itself leaves the events of others where they are. */
static void test_calls_between_events(void **state)
{
    struct fixture *f = with_pair(state);
    const int one = 1;
    cs_ring_poll(f->ring, &f->w.op, f->fd, POLLOUT);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(
            cs_ring_setsockopt(f->ring, f->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    }
    cs_ring_poll(f->ring, &f->v.op, f->fd, POLLOUT);
    assert_true(ended(f, &f->w) & POLLOUT);
    assert_true(ended(f, &f->v) & POLLOUT);
    settle(f);
    assert_int_equal(f->w.count + f->v.count, 2);
}

static void test_names(void **state)
{
    struct fixture *f = with_pair(state);
    struct cs_addr local = {.len = sizeof(local.un)}, peer = {.len = sizeof(peer.un)}, name;
    assert_int_equal(getsockname(f->peer, &peer.sa, &peer.len), 0);
    assert_int_equal(getpeername(f->peer, &local.sa, &local.len), 0);
    assert_int_equal(cs_ring_name(f->ring, f->fd, false, &name), 0);
    assert_true(cs_addr_equal(&name, &local));
    assert_int_equal(cs_ring_name(f->ring, f->fd, true, &name), 0);
    assert_true(cs_addr_equal(&name, &peer));
    close_pair(f);
    f->fd = cs_ring_adopt(f->ring, socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    assert_int_equal(cs_ring_name(f->ring, f->fd, true, &name), -ENOTCONN);
}

static void test_names_unix(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr, name;
    char text[CS_ADDR_TEXT_MAX];
    int fd = listener(&addr, "unix:@cosockd-test-names");
    f->fd = cs_ring_adopt(f->ring, client_of(&addr));
    assert_int_equal(cs_ring_name(f->ring, f->fd, true, &name), 0);
    assert_true(cs_addr_equal(&name, &addr));
    assert_int_equal(cs_ring_name(f->ring, f->fd, false, &name), 0);
    assert_string_equal(cs_addr_ip(&name, text), "unix:");
    cs_listen_close(fd, &addr);
}

static void test_adopt(void **state)
{
    struct fixture *f = with_pair(state);
    unsigned before = open_descriptors();
    int fd[2];
    tcp_pair(fd);
    cs_fd taken = cs_ring_adopt(f->ring, fd[0]);
    assert_int_equal(open_descriptors(), before + (f->direct ? 1 : 2));
    cs_ring_close(f->ring, taken, false);
    close(fd[1]);
}

/* What is no descriptor costs no slot. */
static void test_adopt_fails(void **state)
{
    struct fixture *f = *state;
    if (!f->direct) {
        skip();
    }
    int closed = dup(0);
    close(closed);
    for (unsigned i = 0; i < 2 * SLOTS; i++) {
        assert_int_equal(cs_ring_adopt(f->ring, closed), -EBADF);
    }
    with_pair(state);
}

/* ---- many ---- */

static void cycle(struct fixture *f, const struct cs_addr *addr, int fd, bool reset)
{
    watch_init(&f->v, on_accept);
    cs_ring_accept(f->ring, &f->v.op, fd, true);
    cs_ring_connect(f->ring, &f->w.op, &f->fd, addr, NULL);
    assert_int_equal(ended(f, &f->w), 0);
    assert_true(ended(f, &f->v) >= 0);
    assert_true(cs_ring_accept_room(f->ring) < f->room);
    cs_ring_close(f->ring, f->fd, reset);
    f->fd = CS_FD_NONE;
    cs_ring_close(f->ring, f->v.fds[0], !reset);
}

/* Errors and successes; teardown sees that no slot and no descriptor is gone. */
static void test_slots_come_back(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr, closed;
    int fd = listener(&addr, "127.0.0.1");
    close(listener(&closed, "127.0.0.1"));
    for (unsigned i = 0; i < 20 * SLOTS; i++) {
        cycle(f, &addr, fd, i % 2);
        cs_ring_connect(f->ring, &f->w.op, &f->fd, &closed, NULL);
        assert_int_equal(ended(f, &f->w), -ECONNREFUSED);
        close_pair(f);
    }
    assert_int_equal(cs_ring_accept_room(f->ring), f->room);
    cs_listen_close(fd, &addr);
}

/* A close and the next connect into the same slot in one submission. */
static void test_slot_is_free_at_once(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr;
    int fd = listener(&addr, "127.0.0.1");
    for (unsigned i = 0; i < 50; i++) {
        cs_fd last = f->fd;
        if (last != CS_FD_NONE) {
            cs_ring_close(f->ring, last, i % 2);
        }
        cs_ring_connect(f->ring, &f->w.op, &f->fd, &addr, NULL);
        if (f->direct && last != CS_FD_NONE) {
            assert_int_equal(f->fd, last);
        }
        assert_int_equal(ended(f, &f->w), 0);
        f->peer = cs_listen_accept_now(fd);
        struct iovec iov = text_iov("x");
        char byte;
        cs_ring_send(f->ring, &f->w.op, f->fd, &iov, 1);
        assert_int_equal(ended(f, &f->w), 1);
        assert_int_equal(peer_sees(f, &byte, 1), 1);
        close(f->peer);
        f->peer = -1;
    }
    cs_listen_close(fd, &addr);
}

static unsigned many_ended;

static void on_one_of_many(struct cs_op *op, const struct cs_event *ev)
{
    (void)op;
    assert_true(ev->res > 0);
    many_ended++;
}

static struct cs_op *many_ops(unsigned n)
{
    struct cs_op *ops = calloc(n, sizeof(*ops));
    assert_non_null(ops);
    for (unsigned i = 0; i < n; i++) {
        cs_op_init(&ops[i], on_one_of_many);
    }
    many_ended = 0;
    return ops;
}

/* More than the submission queue holds, then more than the completion queue does. */
static void test_many_polls_in_one_turn(void **state)
{
    struct fixture *f = with_pair(state);
    const unsigned counts[] = {10000, 40000};
    for (unsigned round = 0; round < 2; round++) {
        struct cs_op *ops = many_ops(counts[round]);
        for (unsigned i = 0; i < counts[round]; i++) {
            cs_ring_poll(f->ring, &ops[i], f->fd, POLLOUT);
        }
        assert_int_equal(many_ended, 0);
        WAIT(f, many_ended == counts[round]);
        settle(f);
        assert_int_equal(many_ended, counts[round]);
        free(ops);
    }
}

/* Their operands are more than fits into the ring's scratch memory. */
static void test_many_sends_in_one_turn(void **state)
{
    enum { SENDS = 10000 };
    struct fixture *f = with_pair(state);
    struct cs_op *ops = many_ops(SENDS);
    static char buf[65536];
    int seen = 0;
    for (unsigned i = 0; i < SENDS; i++) {
        struct iovec iov[2] = {text_iov("a"), text_iov("b")};
        cs_ring_send(f->ring, &ops[i], f->fd, iov, 2);
    }
    UNTIL(seen == 2 * SENDS, {
        int n = seen_by(f->peer, buf, sizeof(buf));
        for (int i = 0; i < n; i++) {
            assert_true(buf[i] == 'a' || buf[i] == 'b');
        }
        seen += n > 0 ? n : 0;
        turn(f->ring, 0);
    });
    WAIT(f, many_ended == SENDS);
    free(ops);
}

/* Each with its own error, however many there are. */
static void test_calls_while_the_queue_is_full(void **state)
{
    enum { POLLS = 40000 };
    struct fixture *f = with_pair(state);
    struct cs_op *ops = many_ops(POLLS);
    const int one = 1;
    for (unsigned i = 0; i < POLLS; i++) {
        cs_ring_poll(f->ring, &ops[i], f->fd, POLLOUT);
    }
    assert_int_equal(
        cs_ring_setsockopt(f->ring, f->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
    assert_int_equal(cs_ring_shutdown(f->ring, f->fd), 0);
    WAIT(f, many_ended == POLLS);
    free(ops);
}

static void test_many_that_cannot_start(void **state)
{
    enum { OPS = 200 };
    struct fixture *f = *state;
    struct cs_addr addr = address("127.0.0.1"), local = address("192.0.2.1");
    struct watch *w = calloc(OPS, sizeof(*w));
    cs_fd fd = 0;
    assert_non_null(w);
    for (unsigned i = 0; i < OPS; i++) {
        watch_init(&w[i], on_event);
        cs_ring_connect(f->ring, &w[i].op, &fd, &addr, &local);
        assert_int_equal(fd, CS_FD_NONE);
    }
    for (unsigned i = 0; i < OPS; i++) {
        assert_int_equal(ended(f, &w[i]), -EADDRNOTAVAIL);
    }
    free(w);
}

/* The submission queue becomes full at a send, whose operands were prepared by then. */
static void test_full_queue_at_a_send(void **state)
{
    enum { ROUNDS = 3000 };
    struct fixture *f = with_pair(state);
    struct cs_op *ops = many_ops(4 * ROUNDS);
    static uint8_t sent[ROUNDS][2], got[2 * ROUNDS];
    size_t have = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct iovec iov[2] = {{&sent[i][0], 1}, {&sent[i][1], 1}};
        sent[i][0] = (uint8_t)(i >> 8);
        sent[i][1] = (uint8_t)i;
        cs_ring_send(f->ring, &ops[4 * i], f->fd, iov, 2);
        for (unsigned k = 1; k < 4; k++) {
            cs_ring_poll(f->ring, &ops[4 * i + k], f->fd, POLLOUT);
        }
        int n = seen_by(f->peer, got + have, sizeof(got) - have); /* so that no send has to wait */
        have += n > 0 ? (size_t)n : 0;
    }
    UNTIL(have == sizeof(got), {
        turn(f->ring, 0);
        int n = seen_by(f->peer, got + have, sizeof(got) - have);
        have += n > 0 ? (size_t)n : 0;
    });
    assert_memory_equal(got, sent, sizeof(got));
    WAIT(f, many_ended == 4 * ROUNDS);
    free(ops);
}

static void test_many_connects_in_one_turn(void **state)
{
    enum { ROUNDS = 2000 };
    struct fixture *f = *state;
    struct cs_addr addr;
    close(listener(&addr, "127.0.0.1"));
    struct watch *w = calloc(SLOTS / 4, sizeof(*w));
    assert_non_null(w);
    for (unsigned round = 0; round < ROUNDS / (SLOTS / 4); round++) {
        cs_fd fds[SLOTS / 4];
        for (unsigned i = 0; i < SLOTS / 4; i++) {
            watch_init(&w[i], on_event);
            cs_ring_connect(f->ring, &w[i].op, &fds[i], &addr, NULL);
        }
        for (unsigned i = 0; i < SLOTS / 4; i++) {
            assert_int_equal(ended(f, &w[i]), -ECONNREFUSED);
            cs_ring_close(f->ring, fds[i], false);
        }
    }
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_features),
        BOTH(test_no_descriptor_for_a_ring),
        BOTH(test_few_descriptors_for_a_ring),
        BOTH(test_table_of_nothing),
#ifdef CS_FAULTS
        BOTH(test_each_allocation_of_a_ring_fails),
#endif
        BOTH(test_accept_once),
        BOTH(test_accept_until_cancelled),
        BOTH(test_accept_on_what_does_not_listen),
        BOTH(test_accept_table_full),
        BOTH(test_peername),
        BOTH(test_peername_without_peer),
        BOTH(test_connect),
        BOTH(test_connect_from),
        BOTH(test_connect_refused),
        BOTH(test_connect_from_an_address_of_others),
        BOTH(test_connect_with_nodelay),
        BOTH(test_connect_no_slot_left),
        BOTH(test_connect_no_descriptor_left),
        BOTH(test_close),
        BOTH(test_close_with_reset),
        BOTH(test_close_after_send),
        BOTH(test_shutdown),
        BOTH(test_shutdown_fails),
        BOTH(test_setsockopt),
        BOTH(test_calls_between_events),
        BOTH(test_names),
        BOTH(test_names_unix),
        BOTH(test_adopt),
        BOTH(test_adopt_fails),
        BOTH(test_slots_come_back),
        BOTH(test_slot_is_free_at_once),
        BOTH(test_many_polls_in_one_turn),
        BOTH(test_many_sends_in_one_turn),
        BOTH(test_calls_while_the_queue_is_full),
        BOTH(test_many_that_cannot_start),
        BOTH(test_full_queue_at_a_send),
        BOTH(test_many_connects_in_one_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
