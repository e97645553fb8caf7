/*
 * ring_transfer - receive, send, poll and cancel on a real ring, and the buffers they use.
 */
#include "unit/ring_fixture.h"

/* ---- receive ---- */

static void recv_in(struct fixture *f, enum cs_ring_group group, unsigned count)
{
    unsigned size = cs_ring_buffer_size(f->ring, group);
    char have[16];
    cs_ring_recv(f->ring, &f->w.op, f->fd, group);
    peer_sends(f, 16);
    WAIT(f, cs_chain_len(&f->w.data) == 16);
    assert_int_equal(cs_ring_buffers_free(f->ring, group), count - 1);
    assert_int_equal(cs_chain_peek(&f->w.data, have, sizeof(have)), 16);
    assert_memory_equal(have, "abcdefghijklmnop", 16);
    assert_true(cs_slice_is_lent(cs_chain_first(&f->w.data)));
    cs_chain_clear(&f->w.data);
    assert_int_equal(cs_ring_buffers_free(f->ring, group), count);
    peer_sends(f, size);
    WAIT(f, cs_chain_len(&f->w.data) == size);
    cs_chain_clear(&f->w.data);
    close(f->peer);
    f->peer = -1;
    assert_int_equal(ended(f, &f->w), 0);
    assert_int_equal(cs_ring_buffers_free(f->ring, group), count);
}

static void test_recv_small(void **state)
{
    recv_in(with_pair(state), CS_RING_SMALL, SMALL);
}

static void test_recv_bulk(void **state)
{
    recv_in(with_pair(state), CS_RING_BULK, BULK);
}

static void test_recv_two_at_once(void **state)
{
    struct fixture *f = with_pair(state);
    int other[2];
    tcp_pair(other);
    cs_fd fd = cs_ring_adopt(f->ring, other[0]);
    cs_ring_recv(f->ring, &f->w.op, f->fd, CS_RING_SMALL);
    cs_ring_recv(f->ring, &f->v.op, fd, CS_RING_BULK);
    peer_sends(f, SMALL_SIZE);
    assert_int_equal(send(other[1], "bulk", 4, MSG_NOSIGNAL), 4);
    WAIT(f, cs_chain_len(&f->w.data) == SMALL_SIZE && cs_chain_len(&f->v.data) == 4);
    assert_int_equal(cs_ring_buffers_free(f->ring, CS_RING_SMALL), SMALL - 1);
    assert_int_equal(cs_ring_buffers_free(f->ring, CS_RING_BULK), BULK - 1);
    end_watch(f, &f->v);
    cs_ring_close(f->ring, fd, false);
    close(other[1]);
}

static void test_recv_reset(void **state)
{
    const struct linger hard = {.l_onoff = 1};
    struct fixture *f = with_pair(state);
    cs_ring_recv(f->ring, &f->w.op, f->fd, CS_RING_SMALL);
    settle(f);
    assert_int_equal(setsockopt(f->peer, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
    close(f->peer);
    f->peer = -1;
    assert_int_equal(ended(f, &f->w), -ECONNRESET);
}

/* Out of buffers is an event; the bytes are there when the receive is armed again. */
static void test_recv_no_buffer(void **state)
{
    struct fixture *f = with_pair(state);
    cs_ring_recv(f->ring, &f->w.op, f->fd, CS_RING_SMALL);
    peer_sends(f, (SMALL + 2) * SMALL_SIZE);
    assert_int_equal(ended(f, &f->w), -ENOBUFS);
    assert_int_equal(cs_ring_buffers_free(f->ring, CS_RING_SMALL), 0);
    assert_int_equal(cs_chain_len(&f->w.data), SMALL * SMALL_SIZE);
    cs_ring_recv(f->ring, &f->w.op, f->fd, CS_RING_BULK); /* the groups are apart */
    WAIT(f, cs_chain_len(&f->w.data) == (SMALL + 2) * SMALL_SIZE);
    cs_ring_cancel(f->ring, &f->w.op);
    ended(f, &f->w);
    cs_chain_drop(&f->w.data, SMALL_SIZE);
    peer_sends(f, SMALL_SIZE);
    cs_ring_recv(f->ring, &f->w.op, f->fd, CS_RING_SMALL);
    WAIT(f, cs_chain_len(&f->w.data) == (SMALL + 2) * SMALL_SIZE);
}

static void test_may_keep_half(void **state)
{
    struct fixture *f = with_pair(state);
    cs_ring_recv(f->ring, &f->w.op, f->fd, CS_RING_SMALL);
    for (unsigned n = 1; n <= SMALL; n++) {
        peer_sends(f, SMALL_SIZE);
        WAIT(f, cs_chain_len(&f->w.data) == n * SMALL_SIZE);
        assert_int_equal(cs_ring_buffers_free(f->ring, CS_RING_SMALL), SMALL - n);
        assert_int_equal(cs_ring_may_keep(cs_chain_first(&f->w.data)), n <= SMALL / 2);
    }
    cs_chain_drop(&f->w.data, SMALL / 2 * SMALL_SIZE);
    assert_true(cs_ring_may_keep(cs_chain_first(&f->w.data)));
}

/* With a receive armed, and between two. */
static void test_trim(void **state)
{
    struct fixture *f = with_pair(state);
    char have[SMALL_SIZE], want[SMALL_SIZE];
    cs_ring_recv(f->ring, &f->w.op, f->fd, CS_RING_SMALL);
    for (unsigned i = 0; i < 3 * SMALL; i++) {
        cs_ring_trim(f->ring);
        peer_sends(f, SMALL_SIZE);
        WAIT(f, cs_chain_len(&f->w.data) == SMALL_SIZE);
        cs_chain_peek(&f->w.data, want, sizeof(want));
        cs_ring_trim(f->ring); /* a lent buffer keeps its bytes */
        cs_chain_peek(&f->w.data, have, sizeof(have));
        assert_memory_equal(have, want, sizeof(have));
        assert_int_equal(have[1], 'b');
        cs_chain_clear(&f->w.data);
    }
}

/* ---- send ---- */

static void test_send_one(void **state)
{
    struct fixture *f = with_pair(state);
    char buf[8];
    struct iovec iov = text_iov("hello");
    cs_ring_send(f->ring, &f->w.op, f->fd, &iov, 1);
    assert_int_equal(ended(f, &f->w), 5);
    assert_int_equal(peer_sees(f, buf, sizeof(buf)), 5);
    assert_memory_equal(buf, "hello", 5);
}

static void test_send_sixteen(void **state)
{
    struct fixture *f = with_pair(state);
    char text[] = "0123456789abcdef", buf[64];
    struct iovec iov[CS_RING_IOV_MAX];
    for (unsigned i = 0; i < CS_RING_IOV_MAX; i++) {
        iov[i] = (struct iovec){.iov_base = &text[i], .iov_len = 1};
    }
    cs_ring_send(f->ring, &f->w.op, f->fd, iov, CS_RING_IOV_MAX);
    memset(iov, 0, sizeof(iov)); /* the array need not stay */
    assert_int_equal(ended(f, &f->w), 16);
    assert_int_equal(peer_sees(f, buf, sizeof(buf)), 16);
    assert_memory_equal(buf, text, 16);
}

/* More than the kernel takes while nobody reads. */
static struct iovec much_to_send(void)
{
    struct iovec iov = {.iov_len = 64 << 20};
    iov.iov_base = calloc(1, iov.iov_len);
    assert_non_null(iov.iov_base);
    return iov;
}

static void fill_send_queue(struct fixture *f, const struct iovec *iov)
{
    unsigned rounds = 0;
    do {
        assert_true(rounds++ < 100);
        cs_ring_send(f->ring, &f->w.op, f->fd, iov, 1);
        settle(f);
    } while (!f->w.op.armed);
}

static void test_send_in_parts(void **state)
{
    struct fixture *f = with_pair(state);
    static char buf[65536];
    struct iovec iov = much_to_send();
    cs_ring_send(f->ring, &f->w.op, f->fd, &iov, 1);
    assert_in_range(ended(f, &f->w), 1, iov.iov_len - 1);
    fill_send_queue(f, &iov);
    UNTIL(!f->w.op.armed, {
        seen_by(f->peer, buf, sizeof(buf));
        turn(f->ring, 1);
    });
    assert_in_range(f->w.res, 1, iov.iov_len);
    free(iov.iov_base);
}

static void test_send_to_nobody(void **state)
{
    struct fixture *f = with_pair(state);
    struct iovec iov = text_iov("x");
    close(f->peer);
    f->peer = -1;
    for (unsigned i = 0; i < 100 && f->w.res >= 0; i++) {
        cs_ring_send(f->ring, &f->w.op, f->fd, &iov, 1);
        ended(f, &f->w);
    }
    assert_true(f->w.res == -EPIPE || f->w.res == -ECONNRESET); /* and no signal */
}

/* ---- poll ---- */

static void test_poll(void **state)
{
    struct fixture *f = with_pair(state);
    cs_ring_poll(f->ring, &f->w.op, f->fd, POLLOUT);
    assert_true(ended(f, &f->w) & POLLOUT);
    cs_ring_poll(f->ring, &f->w.op, f->fd, POLLIN);
    settle(f);
    assert_true(f->w.op.armed);
    peer_sends(f, 1);
    assert_int_equal(ended(f, &f->w), POLLIN);
    assert_int_equal(f->w.count, 2);
    cs_ring_poll(f->ring, &f->w.op, f->fd, 0);
    settle(f);
    assert_true(f->w.op.armed);
    assert_int_equal(cs_ring_shutdown(f->ring, f->fd), 0);
    close(f->peer);
    f->peer = -1;
    assert_true(ended(f, &f->w) & (POLLHUP | POLLERR));
}

static void test_poll_a_pipe(void **state)
{
    struct fixture *f = *state;
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    cs_ring_poll(f->ring, &f->w.op, fd[0], POLLIN);
    settle(f);
    assert_true(f->w.op.armed);
    assert_int_equal(write(fd[1], "x", 1), 1);
    assert_int_equal(ended(f, &f->w), POLLIN);
    close(fd[0]);
    close(fd[1]);
}

/* ---- cancel ---- */

/* Twice, and once more when it is over. */
static void cancelled(struct fixture *f)
{
    unsigned before = f->w.count;
    assert_true(f->w.op.armed);
    cs_ring_cancel(f->ring, &f->w.op);
    assert_true(f->w.op.cancelling);
    cs_ring_cancel(f->ring, &f->w.op);
    assert_int_equal(ended(f, &f->w), -ECANCELED);
    assert_false(f->w.op.cancelling);
    cs_ring_cancel(f->ring, &f->w.op);
    settle(f);
    assert_int_equal(f->w.count, before + 1);
}

static void test_cancel_accept(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addr;
    int fd = listener(&addr, "127.0.0.1");
    for (unsigned i = 0; i < 4; i++) { /* also before it is submitted */
        cs_ring_accept(f->ring, &f->w.op, fd, i % 2);
        if (i >= 2) {
            settle(f);
        }
        cancelled(f);
    }
    cs_listen_close(fd, &addr);
}

static void test_cancel_recv(void **state)
{
    struct fixture *f = with_pair(state);
    for (unsigned i = 0; i < 4; i++) {
        cs_ring_recv(f->ring, &f->w.op, f->fd, i % 2 ? CS_RING_BULK : CS_RING_SMALL);
        if (i >= 2) {
            settle(f);
        }
        cancelled(f);
    }
}

static void test_cancel_send(void **state)
{
    struct fixture *f = with_pair(state);
    struct iovec iov = much_to_send();
    fill_send_queue(f, &iov);
    cancelled(f);
    free(iov.iov_base);
}

static void test_cancel_poll(void **state)
{
    struct fixture *f = with_pair(state);
    for (unsigned i = 0; i < 2; i++) {
        cs_ring_poll(f->ring, &f->w.op, f->fd, POLLIN);
        if (i) {
            settle(f);
        }
        cancelled(f);
    }
}

/* At every moment of the chain's life. */
static void test_cancel_connect(void **state)
{
    struct fixture *f = *state;
    struct cs_addr local = address("127.0.0.1");
    struct silent s;
    silent_open(&s);
    for (unsigned i = 0; i < 20; i++) {
        cs_ring_connect(f->ring, &f->w.op, &f->fd, &s.addr, i % 2 ? &local : NULL);
        for (unsigned n = 0; n < i / 2; n++) {
            turn(f->ring, 0);
        }
        cancelled(f);
        close_pair(f);
    }
    silent_close(&s);
}

/* An op that has already ended brings its own result, once. */
static void test_cancel_too_late(void **state)
{
    struct fixture *f = with_pair(state);
    struct sockaddr_in6 out;
    struct iovec iov = text_iov("x");
    cs_ring_peername(f->ring, &f->w.op, f->fd, AF_INET, &out);
    cs_ring_cancel(f->ring, &f->w.op);
    assert_int_equal(ended(f, &f->w), 0);
    cs_ring_send(f->ring, &f->w.op, f->fd, &iov, 1);
    cs_ring_cancel(f->ring, &f->w.op);
    assert_int_equal(ended(f, &f->w), 1);
    cs_ring_poll(f->ring, &f->w.op, f->fd, POLLOUT);
    cs_ring_cancel(f->ring, &f->w.op);
    assert_true(ended(f, &f->w) & POLLOUT);
    settle(f);
    assert_int_equal(f->w.count, 3);
}

/* A cancel that came too late must not hit the same op's next life. */
static void test_cancel_and_arm_again(void **state)
{
    struct fixture *f = with_pair(state);
    for (unsigned i = 0; i < 50; i++) {
        cs_ring_poll(f->ring, &f->w.op, f->fd, POLLOUT);
        cs_ring_cancel(f->ring, &f->w.op);
        assert_true(ended(f, &f->w) & POLLOUT);
        cs_ring_recv(f->ring, &f->w.op, f->fd, CS_RING_SMALL);
        settle(f);
        assert_true(f->w.op.armed);
        peer_sends(f, 1);
        WAIT(f, cs_chain_len(&f->w.data) == 1);
        end_watch(f, &f->w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_recv_small),
        BOTH(test_recv_bulk),
        BOTH(test_recv_two_at_once),
        BOTH(test_recv_reset),
        BOTH(test_recv_no_buffer),
        BOTH(test_may_keep_half),
        BOTH(test_trim),
        BOTH(test_send_one),
        BOTH(test_send_sixteen),
        BOTH(test_send_in_parts),
        BOTH(test_send_to_nobody),
        BOTH(test_poll),
        BOTH(test_poll_a_pipe),
        BOTH(test_cancel_accept),
        BOTH(test_cancel_recv),
        BOTH(test_cancel_send),
        BOTH(test_cancel_poll),
        BOTH(test_cancel_connect),
        BOTH(test_cancel_too_late),
        BOTH(test_cancel_and_arm_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
