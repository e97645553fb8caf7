/*
 * net_listen_table - who may have which address: workers share one, strangers and a worker's own
 * second socket do not.
 */
#include "unit/ring_support.h"

#include "net/listen_table.h"

static const struct cs_listen_options plain = {0};

static int option_of(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, name, &value, &len), 0);
    return value;
}

static struct cs_listen_table *table_of(unsigned workers)
{
    struct cs_listen_table *t = cs_listen_table_create(workers, NULL);
    assert_non_null(t);
    return t;
}

static void test_one_worker_shares_nothing(void **state)
{
    struct cs_listen_table *t = table_of(1);
    struct cs_addr a = address("127.0.0.1");
    int fd, second;
    (void)state;
    assert_int_equal(cs_listen_table_open(t, 0, &fd, &a, &plain), 0);
    assert_int_equal(option_of(fd, SO_REUSEPORT), 0);
    assert_int_equal(cs_listen_table_open(t, 0, &second, &a, &plain), -EADDRINUSE);
    cs_listen_table_close(t, fd);
    assert_int_equal(cs_listen_table_open(t, 0, &second, &a, &plain), 0);
    cs_listen_table_close(t, second);
    cs_listen_table_destroy(t);
}

/* Clients reach both. */
static void test_workers_share_an_address(void **state)
{
    struct cs_listen_table *t = table_of(2);
    struct cs_addr a = address("127.0.0.1");
    int fd[2], clients[64];
    unsigned got[2] = {0};
    (void)state;
    assert_int_equal(cs_listen_table_open(t, 0, &fd[0], &a, &plain), 0);
    assert_int_equal(cs_listen_table_open(t, 1, &fd[1], &a, &plain), 0);
    assert_int_equal(option_of(fd[0], SO_REUSEPORT), 1);
    for (unsigned i = 0; i < 64; i++) {
        clients[i] = client_of(&a);
    }
    for (unsigned i = 0; i < 2; i++) {
        int conn;
        while ((conn = cs_listen_accept_now(fd[i])) >= 0) {
            got[i]++;
            close(conn);
        }
        cs_listen_table_close(t, fd[i]);
    }
    for (unsigned i = 0; i < 64; i++) {
        close(clients[i]);
    }
    assert_true(got[0] > 0 && got[1] > 0);
    assert_int_equal(got[0] + got[1], 64);
    cs_listen_table_destroy(t);
}

static void test_a_worker_has_an_address_once(void **state)
{
    struct cs_listen_table *t = table_of(2);
    struct cs_addr a = address("127.0.0.1");
    int fd[3];
    (void)state;
    assert_int_equal(cs_listen_table_open(t, 0, &fd[0], &a, &plain), 0);
    assert_int_equal(cs_listen_table_open(t, 0, &fd[2], &a, &plain), -EADDRINUSE);
    assert_int_equal(cs_listen_table_open(t, 1, &fd[1], &a, &plain), 0);
    assert_int_equal(cs_listen_table_open(t, 1, &fd[2], &a, &plain), -EADDRINUSE);
    cs_listen_table_close(t, fd[0]);
    cs_listen_table_close(t, fd[1]);
    cs_listen_table_destroy(t);
}

/* Even one that would share: scripts look for a free port by binding. */
static void test_an_address_of_a_stranger_is_in_use(void **state)
{
    struct cs_listen_table *t = table_of(2);
    struct cs_addr a = address("127.0.0.1");
    int stranger, fd;
    (void)state;
    assert_int_equal(cs_listen_open(&stranger, &a, &(struct cs_listen_options){.reuseport = true}),
                     0);
    assert_int_equal(cs_listen_table_open(t, 0, &fd, &a, &plain), -EADDRINUSE);
    close(stranger);
    cs_listen_table_destroy(t);
}

/* Unless the script asks for it. */
static void test_reuseport_is_shared_with_anybody(void **state)
{
    const struct cs_listen_options o = {.reuseport = true};
    struct cs_listen_table *t = table_of(1);
    struct cs_addr a = address("127.0.0.1");
    int stranger, fd[2];
    (void)state;
    assert_int_equal(cs_listen_open(&stranger, &a, &o), 0);
    assert_int_equal(cs_listen_table_open(t, 0, &fd[0], &a, &o), 0);
    assert_int_equal(cs_listen_table_open(t, 0, &fd[1], &a, &o), 0);
    close(stranger);
    cs_listen_table_close(t, fd[0]);
    cs_listen_table_close(t, fd[1]);
    cs_listen_table_destroy(t);
}

static void test_port_zero_is_a_new_port_for_each(void **state)
{
    struct cs_listen_table *t = table_of(2);
    struct cs_addr a[2] = {address("127.0.0.1"), address("127.0.0.1")};
    int fd[2];
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(cs_listen_table_open(t, i, &fd[i], &a[i], &plain), 0);
    }
    assert_false(cs_addr_equal(&a[0], &a[1]));
    for (unsigned i = 0; i < 2; i++) {
        cs_listen_table_close(t, fd[i]);
    }
    cs_listen_table_destroy(t);
}

/* All workers accept from one Unix socket, whose file goes with the last of them. */
static void test_workers_share_a_unix_socket(void **state)
{
    struct cs_listen_table *t = table_of(2);
    struct cs_addr a;
    char text[64];
    int fd[2], extra;
    (void)state;
    snprintf(text, sizeof(text), "unix:/tmp/cosockd-test-table-%d", (int)getpid());
    a = address(text);
    unlink(a.un.sun_path);
    assert_int_equal(cs_listen_table_open(t, 0, &fd[0], &a, &plain), 0);
    assert_int_equal(cs_listen_table_open(t, 1, &fd[1], &a, &plain), 0);
    assert_int_equal(cs_listen_table_open(t, 1, &extra, &a, &plain), -EADDRINUSE);
    cs_listen_table_close(t, fd[0]);
    int client = client_of(&a);
    int conn = cs_listen_accept_now(fd[1]);
    assert_true(conn >= 0);
    close(conn);
    close(client);
    cs_listen_table_close(t, fd[1]);
    assert_int_equal(access(a.un.sun_path, F_OK), -1);
    cs_listen_table_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_worker_shares_nothing),
        cmocka_unit_test(test_workers_share_an_address),
        cmocka_unit_test(test_a_worker_has_an_address_once),
        cmocka_unit_test(test_an_address_of_a_stranger_is_in_use),
        cmocka_unit_test(test_reuseport_is_shared_with_anybody),
        cmocka_unit_test(test_port_zero_is_a_new_port_for_each),
        cmocka_unit_test(test_workers_share_a_unix_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
