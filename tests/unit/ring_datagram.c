/*
 * ring_datagram - UDP on a real ring: what is sent, what comes, from whom, and what goes wrong.
 */
#include "unit/ring_fixture.h"

enum { LARGEST = 65507 }; /* over IPv4 */

/* The ring's socket (f->fd) and the test's (f->peer), which know each other's address. */
struct ends {
    struct cs_addr ring, peer;
};

static cs_fd udp_at(struct fixture *f, const char *ip, struct cs_addr *addr)
{
    *addr = address(ip);
    cs_fd fd = cs_ring_udp_open(f->ring, cs_addr_family(addr), addr, NULL, false);
    assert_true(fd >= 0);
    assert_int_equal(cs_ring_name(f->ring, fd, false, addr), 0);
    return fd;
}

static int plain_udp_at(const char *ip, struct cs_addr *addr)
{
    *addr = address(ip);
    int fd = socket(cs_addr_family(addr), SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, &addr->sa, addr->len), 0);
    assert_int_equal(getsockname(fd, &addr->sa, &addr->len), 0);
    return fd;
}

static struct ends open_ends(struct fixture *f, const char *ip)
{
    struct ends e;
    f->fd = udp_at(f, ip, &e.ring);
    f->peer = plain_udp_at(ip, &e.peer);
    return e;
}

static void peer_sends_to(struct fixture *f, const struct cs_addr *to, const void *data, size_t len)
{
    assert_int_equal(sendto(f->peer, data, len, 0, &to->sa, to->len), (ssize_t)len);
}

/* An address nobody has a socket at. */
static struct cs_addr dead_address(void)
{
    struct cs_addr a;
    close(plain_udp_at("127.0.0.1", &a));
    return a;
}

/* ---- a watch that keeps what it gets ---- */

static struct cs_slice *got[8];
static unsigned got_count;

static void on_datagram(struct cs_op *op, const struct cs_event *ev)
{
    struct watch *w = cs_container_of(op, struct watch, op);
    w->count++;
    w->res = ev->res;
    if (ev->slice) {
        assert_int_equal(ev->res, ev->slice->len);
        assert_true(got_count < CS_ARRAY_LEN(got));
        got[got_count++] = ev->slice;
    }
}

static void give_back(void)
{
    while (got_count > 0) {
        cs_slice_release(got[--got_count]);
    }
}

static void receive(struct fixture *f)
{
    cs_op_set_handler(&f->w.op, on_datagram);
    cs_ring_recv(f->ring, &f->w.op, f->fd, CS_RING_DATAGRAM);
    settle(f);
}

/* ---- receiving ---- */

static void receive_over(struct fixture *f, const char *ip)
{
    struct ends e = open_ends(f, ip);
    struct cs_addr from;
    receive(f);
    peer_sends_to(f, &e.ring, "one", 3);
    peer_sends_to(f, &e.ring, "", 0);
    peer_sends_to(f, &e.ring, "three", 5);
    WAIT(f, got_count == 2);
    if (!f->w.op.armed) { /* Linux ends the op with an empty one */
        receive(f);
    }
    WAIT(f, got_count == 3);
    assert_int_equal(got[0]->len, 3);
    assert_memory_equal(got[0]->data, "one", 3);
    assert_int_equal(got[1]->len, 0);
    assert_memory_equal(got[2]->data, "three", 5);
    for (unsigned i = 0; i < 3; i++) {
        cs_ring_sender(got[i], &from);
        assert_true(cs_addr_equal(&from, &e.peer));
    }
    assert_int_equal(cs_ring_buffers_free(f->ring, CS_RING_DATAGRAM), DATAGRAMS - 3);
    assert_true(f->w.op.armed);
    give_back();
}

static void test_receive_v4(void **state)
{
    receive_over(*state, "127.0.0.1");
}

static void test_receive_v6(void **state)
{
    receive_over(*state, "::1");
}

static void test_receive_largest(void **state)
{
    struct fixture *f = *state;
    struct ends e = open_ends(f, "127.0.0.1");
    static uint8_t bytes[LARGEST];
    for (size_t i = 0; i < LARGEST; i++) {
        bytes[i] = (uint8_t)(i % 251);
    }
    receive(f);
    peer_sends_to(f, &e.ring, bytes, LARGEST);
    WAIT(f, got_count == 1);
    assert_int_equal(got[0]->len, LARGEST);
    assert_memory_equal(got[0]->data, bytes, LARGEST);
    give_back();
}

/* Out of buffers is an event; what the kernel still holds comes when the receive is armed again. */
static void test_receive_no_buffer(void **state)
{
    struct fixture *f = *state;
    struct ends e = open_ends(f, "127.0.0.1");
    receive(f);
    for (char c = 'a'; c < 'a' + DATAGRAMS + 2; c++) {
        peer_sends_to(f, &e.ring, &c, 1);
    }
    assert_int_equal(ended(f, &f->w), -ENOBUFS);
    assert_int_equal(got_count, DATAGRAMS);
    give_back();
    receive(f);
    WAIT(f, got_count == 2);
    assert_int_equal(got[0]->data[0], 'a' + DATAGRAMS);
    assert_int_equal(got[1]->data[0], 'a' + DATAGRAMS + 1);
    give_back();
}

static void test_receive_cancelled(void **state)
{
    struct fixture *f = *state;
    open_ends(f, "127.0.0.1");
    receive(f);
    cs_ring_cancel(f->ring, &f->w.op);
    assert_int_equal(ended(f, &f->w), -ECANCELED);
}

/* ---- sending ---- */

static void peer_gets(struct fixture *f, const char *text, const struct cs_addr *from)
{
    char buf[64];
    struct cs_addr a = {.len = sizeof(a.un)};
    ssize_t n;
    UNTIL((n = recvfrom(f->peer, buf, sizeof(buf), 0, &a.sa, &a.len)) >= 0, (void)0);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(buf, text, (size_t)n);
    if (from) {
        assert_true(cs_addr_equal(&a, from));
    }
}

static void test_send(void **state)
{
    struct fixture *f = *state;
    struct ends e = open_ends(f, "127.0.0.1");
    assert_int_equal(cs_ring_sendto(f->ring, f->fd, "hello", 5, &e.peer), 0);
    peer_gets(f, "hello", &e.ring);
    assert_int_equal(cs_ring_sendto(f->ring, f->fd, "", 0, &e.peer), 0);
    peer_gets(f, "", &e.ring);
    assert_int_equal(cs_ring_sendto(f->ring, f->fd, "x", 1, NULL), -EDESTADDRREQ);
}

static void send_connected(struct fixture *f, const struct cs_addr *from)
{
    struct cs_addr peer, other, local;
    f->peer = plain_udp_at("127.0.0.1", &peer);
    int stranger = plain_udp_at("127.0.0.1", &other);
    f->fd = cs_ring_udp_open(f->ring, AF_INET, from, &peer, false);
    assert_true(f->fd >= 0);
    assert_int_equal(cs_ring_name(f->ring, f->fd, false, &local), 0);
    receive(f);
    assert_int_equal(cs_ring_sendto(f->ring, f->fd, "hello", 5, NULL), 0);
    peer_gets(f, "hello", &local);
    assert_int_equal(sendto(stranger, "no", 2, 0, &local.sa, local.len), 2);
    peer_sends_to(f, &local, "yes", 3);
    WAIT(f, got_count == 1);
    assert_memory_equal(got[0]->data, "yes", 3);
    give_back();
    close(stranger);
}

static void test_send_connected(void **state)
{
    send_connected(*state, NULL);
}

static void test_send_connected_from(void **state)
{
    struct cs_addr local = address("127.0.0.2");
    send_connected(*state, &local);
}

/* What the system says of a datagram is the result of the call. */
static void test_send_refused(void **state)
{
    struct fixture *f = *state;
    const int one = 1;
    static char bytes[LARGEST + 1];
    struct ends e = open_ends(f, "127.0.0.1");
    struct cs_addr broadcast = address("127.255.255.255");
    cs_addr_set_port(&broadcast, cs_addr_port(&e.peer));
    assert_int_equal(cs_ring_sendto(f->ring, f->fd, bytes, LARGEST + 1, &e.peer), -EMSGSIZE);
    assert_int_equal(cs_ring_sendto(f->ring, f->fd, "x", 1, &broadcast), -EACCES);
    assert_int_equal(
        cs_ring_setsockopt(f->ring, f->fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one)), 0);
    assert_int_equal(cs_ring_sendto(f->ring, f->fd, "x", 1, &broadcast), 0);
}

/* ---- a peer that is not there ---- */

static void test_unreachable_told_to_receive(void **state)
{
    struct fixture *f = *state;
    struct cs_addr dead = dead_address();
    f->fd = cs_ring_udp_open(f->ring, AF_INET, NULL, &dead, false);
    assert_true(f->fd >= 0);
    receive(f);
    assert_int_equal(cs_ring_sendto(f->ring, f->fd, "x", 1, NULL), 0);
    assert_int_equal(ended(f, &f->w), -ECONNREFUSED);
    receive(f); /* the socket is as good as before */
    assert_true(f->w.op.armed);
}

static void test_unreachable_told_to_send(void **state)
{
    struct fixture *f = *state;
    struct cs_addr dead = dead_address();
    f->fd = cs_ring_udp_open(f->ring, AF_INET, NULL, &dead, false);
    assert_int_equal(cs_ring_sendto(f->ring, f->fd, "x", 1, NULL), 0);
    assert_int_equal(cs_ring_sendto(f->ring, f->fd, "x", 1, NULL), -ECONNREFUSED);
}

/* ---- opening ---- */

static void test_open_fails(void **state)
{
    struct fixture *f = *state;
    struct ends e = open_ends(f, "127.0.0.1");
    assert_int_equal(cs_ring_udp_open(f->ring, AF_INET, &e.peer, NULL, false), -EADDRINUSE);
    struct cs_addr foreign = address("192.0.2.1");
    assert_int_equal(cs_ring_udp_open(f->ring, AF_INET, &foreign, NULL, false), -EADDRNOTAVAIL);
    struct rlimit limit = no_descriptors();
    assert_int_equal(cs_ring_udp_open(f->ring, AF_INET, NULL, NULL, false), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void test_table_full(void **state)
{
    struct fixture *f = *state;
    cs_fd fds[SLOTS];
    unsigned n = 0;
    if (!f->direct) {
        skip();
    }
    while ((fds[n] = cs_ring_udp_open(f->ring, AF_INET, NULL, NULL, false)) >= 0) {
        n++;
        assert_true(n < SLOTS);
    }
    assert_int_equal(fds[n], -ENFILE);
    assert_int_equal(n, SLOTS / 2);
    while (n > 0) {
        cs_ring_udp_close(f->ring, fds[--n]);
    }
}

/* Events that wait while a datagram is sent are delivered, each once. */
static void test_send_between_events(void **state)
{
    struct fixture *f = *state;
    struct cs_addr peer, local;
    f->peer = plain_udp_at("127.0.0.1", &peer);
    f->fd = cs_ring_udp_open(f->ring, AF_INET, NULL, &peer, false);
    assert_int_equal(cs_ring_name(f->ring, f->fd, false, &local), 0);
    receive(f);
    peer_sends_to(f, &local, "a", 1);
    peer_sends_to(f, &local, "b", 1);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(cs_ring_sendto(f->ring, f->fd, "x", 1, &peer), 0);
    }
    WAIT(f, got_count == 2);
    assert_int_equal(got[0]->data[0], 'a');
    assert_int_equal(got[1]->data[0], 'b');
    give_back();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_receive_v4),
        BOTH(test_receive_v6),
        BOTH(test_receive_largest),
        BOTH(test_receive_no_buffer),
        BOTH(test_receive_cancelled),
        BOTH(test_send),
        BOTH(test_send_connected),
        BOTH(test_send_connected_from),
        BOTH(test_send_refused),
        BOTH(test_unreachable_told_to_receive),
        BOTH(test_unreachable_told_to_send),
        BOTH(test_open_fails),
        BOTH(test_table_full),
        BOTH(test_send_between_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
