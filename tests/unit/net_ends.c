/*
 * net_ends - many connections that end at once: each turn ends and closes a bounded number, the
 * oldest first, and none is forgotten.
 */
#include "unit/net_support.h"

#include <errno.h>

#include "net/conn.h"

enum { MANY = 300, A_TURN = 96, A_LATE_TURN = 8 };

/* How long a turn takes is up to the test. */
static uint64_t clock_ms, clock_step_ms;

static uint64_t test_clock(void)
{
    clock_ms += clock_step_ms;
    return clock_ms;
}

struct fixture {
    struct cs_loop *loop;
    struct cs_net net;
    struct cs_conn *conns[MANY];
    int peers[MANY];
    unsigned closed;
};

static void on_closed(void *user, struct cs_stream *s)
{
    struct fixture *f = user;
    (void)s;
    f->closed++;
}

static const struct cs_stream_user user_ops = {.on_closed = on_closed};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct cs_net_config config;
    f->loop = loop_open(2 * MANY);
    clock_ms = cs_clock_ms();
    clock_step_ms = 0;
    cs_clock_set_source(test_clock);
    cs_net_config_default(&config);
    config.drain_ms = UINT32_MAX;
    assert_int_equal(cs_net_init(&f->net, f->loop, &config), 0);
    for (unsigned i = 0; i < MANY; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        cs_fd fd = cs_ring_adopt(f->net.ring, pair[0]);
        assert_true(fd != CS_FD_NONE);
        f->conns[i] = cs_conn_create(&f->net, fd, NULL, NULL);
        assert_non_null(f->conns[i]);
        cs_stream_attach(cs_conn_stream(f->conns[i]), &user_ops, f);
        f->peers[i] = pair[1];
    }
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < MANY; i++) {
        close(f->peers[i]);
    }
    while (!cs_net_idle(&f->net)) {
        cs_loop_turn(f->loop, 10);
    }
    assert_int_equal(f->closed, MANY);
    cs_net_finish(&f->net);
    cs_loop_destroy(f->loop);
    cs_clock_set_source(NULL);
    free(f);
    return 0;
}

static void close_all(struct fixture *f, enum cs_close_how how)
{
    for (unsigned i = 0; i < MANY; i++) {
        cs_stream_close(cs_conn_stream(f->conns[i]), how, 0);
    }
    cs_loop_again(f->loop); /* not from within a turn */
}

static unsigned ended(const struct fixture *f)
{
    unsigned n = 0;
    char c;
    while (n < MANY && recv(f->peers[n], &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0) {
        n++;
    }
    for (unsigned i = n; i < MANY; i++) { /* the oldest first */
        assert_true(recv(f->peers[i], &c, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN);
    }
    return n;
}

static void test_aborts(void **state)
{
    struct fixture *f = *state;
    close_all(f, CS_CLOSE_ABORT);
    for (unsigned n = A_TURN; f->closed < MANY; n += A_TURN) {
        cs_loop_turn(f->loop, -1); /* does not sleep while there are more */
        assert_int_equal(f->closed, CS_MIN(n, (unsigned)MANY));
    }
}

static void test_graceful(void **state)
{
    struct fixture *f = *state;
    close_all(f, CS_CLOSE_GRACEFUL);
    for (unsigned n = A_TURN; ended(f) < MANY; n += A_TURN) {
        cs_loop_turn(f->loop, -1);
        assert_int_equal(ended(f), CS_MIN(n, (unsigned)MANY));
    }
    assert_int_equal(f->closed, 0); /* the peers have not ended theirs */
}

/* Each of a few takes long: the others have to wait, in the same order, and so does what comes
 * after them. */
static void test_fewer_when_late(void **state)
{
    struct fixture *f = *state;
    unsigned n = A_LATE_TURN;
    clock_step_ms = 2;
    close_all(f, CS_CLOSE_GRACEFUL);
    for (; n < 5 * A_LATE_TURN; n += A_LATE_TURN) {
        cs_loop_turn(f->loop, -1);
        assert_int_equal(ended(f), n);
    }
    clock_step_ms = 0;
    n += A_TURN - A_LATE_TURN;
    for (; ended(f) < MANY; n += A_TURN) {
        cs_loop_turn(f->loop, -1);
        assert_int_equal(ended(f), CS_MIN(n, (unsigned)MANY));
    }
    assert_int_equal(f->closed, 0);
}

static void abort_both(void *user, struct cs_stream *s, int err)
{
    struct fixture *f = user;
    (void)s;
    assert_true(err < 0);
    cs_stream_close(cs_conn_stream(f->conns[A_TURN]), CS_CLOSE_ABORT, 0);
    cs_stream_close(cs_conn_stream(f->conns[A_TURN + 1]), CS_CLOSE_ABORT, 0);
}

static const struct cs_stream_user pair_ops = {.on_closed = on_closed, .on_eof = abort_both};

/* One that waits for its turn to end is aborted, because another is found broken in the same turn:
 * it stands in both lines. */
static void test_aborted_in_line(void **state)
{
    struct fixture *f = *state;
    static char data[70000];
    cs_stream_attach(cs_conn_stream(f->conns[A_TURN + 1]), &pair_ops, f);
    for (unsigned i = 0; i < A_TURN; i++) {
        cs_stream_close(cs_conn_stream(f->conns[i]), CS_CLOSE_GRACEFUL, 0);
    }
    cs_stream_shutdown(cs_conn_stream(f->conns[A_TURN]));
    close(f->peers[A_TURN + 1]);
    f->peers[A_TURN + 1] = -1;
    assert_int_equal(cs_conn_write_long(f->conns[A_TURN + 1], data, sizeof(data)), -EPIPE);
    cs_loop_again(f->loop);
    while (f->closed < 2) {
        cs_loop_turn(f->loop, -1);
    }
    for (unsigned i = A_TURN + 2; i < MANY; i++) {
        cs_stream_close(cs_conn_stream(f->conns[i]), CS_CLOSE_ABORT, 0);
    }
    cs_loop_again(f->loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_aborts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_graceful, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fewer_when_late, setup, teardown),
        cmocka_unit_test_setup_teardown(test_aborted_in_line, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
