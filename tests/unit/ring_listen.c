/*
 * ring_listen - opening and closing listening sockets: families, options, what is refused, and the
 * file of a Unix socket.
 */
#include "unit/ring_support.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "ring/ring.h"

struct fixture {
    unsigned descriptors;
    struct cs_addr unix_addr; /* a path of this test's own */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    char text[64];
    assert_non_null(f);
    snprintf(text, sizeof(text), "unix:/tmp/cosockd-test-listen-%d", (int)getpid());
    f->unix_addr = address(text);
    unlink(f->unix_addr.un.sun_path);
    f->descriptors = open_descriptors();
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(open_descriptors(), f->descriptors);
    unlink(f->unix_addr.un.sun_path);
    free(f);
    return 0;
}

static int open_with(struct cs_addr *addr, struct cs_listen_options o)
{
    int fd = -1;
    int err = cs_listen_open(&fd, addr, &o);
    return err < 0 ? err : fd;
}

static int open_plainly(struct cs_addr *addr)
{
    return open_with(addr, (struct cs_listen_options){0});
}

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

/* ---- TCP ---- */

static void opens(const char *ip)
{
    struct cs_addr addr = address(ip);
    int fd = open_plainly(&addr);
    assert_true(fd >= 0);
    assert_true(cs_addr_port(&addr) > 0);
    assert_int_equal(option_of(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
    assert_int_equal(option_of(fd, SOL_SOCKET, SO_REUSEPORT), 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(cs_listen_accept_now(fd), -EAGAIN);
    int client = client_of(&addr);
    int conn = cs_listen_accept_now(fd);
    assert_true(conn >= 0);
    assert_true(fcntl(conn, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(option_of(conn, IPPROTO_TCP, TCP_NODELAY), 1);
    close(conn);
    close(client);
    cs_listen_close(fd, &addr);
}

static void test_both_families(void **state)
{
    (void)state;
    opens("127.0.0.1");
    opens("::1");
}

/* IPv4 is not taken by the IPv6 socket of the same port. */
static void test_one_port_two_families(void **state)
{
    struct cs_addr six, four;
    int fd6, fd4;
    unsigned attempts = 0;
    (void)state;
    do { /* a port that happens to be free for both */
        assert_true(attempts++ < 20);
        cs_addr_any(&six, AF_INET6, 0);
        fd6 = open_plainly(&six);
        assert_true(fd6 >= 0);
        cs_addr_any(&four, AF_INET, cs_addr_port(&six));
        fd4 = open_plainly(&four);
        if (fd4 < 0) {
            assert_int_equal(fd4, -EADDRINUSE);
            cs_listen_close(fd6, &six);
        }
    } while (fd4 < 0);
    assert_int_equal(option_of(fd6, IPPROTO_IPV6, IPV6_V6ONLY), 1);
    cs_listen_close(fd4, &four);
    cs_listen_close(fd6, &six);
}

static void test_address_in_use(void **state)
{
    struct cs_addr addr = address("127.0.0.1");
    int fd = open_plainly(&addr);
    (void)state;
    assert_int_equal(open_plainly(&addr), -EADDRINUSE);
    assert_int_equal(open_with(&addr, (struct cs_listen_options){.reuseport = true}),
                     -EADDRINUSE); /* both must want it */
    int client = client_of(&addr);
    int conn = cs_listen_accept_now(fd);
    close(conn); /* first, so that TIME_WAIT is on this side */
    close(client);
    cs_listen_close(fd, &addr);
    fd = open_plainly(&addr); /* and is no hindrance */
    assert_true(fd >= 0);
    cs_listen_close(fd, &addr);
}

static void test_reuseport(void **state)
{
    const struct cs_listen_options o = {.reuseport = true};
    struct cs_addr addr = address("127.0.0.1");
    int first = open_with(&addr, o), second = open_with(&addr, o);
    (void)state;
    assert_true(first >= 0);
    assert_true(second >= 0);
    assert_int_equal(option_of(first, SOL_SOCKET, SO_REUSEPORT), 1);
    cs_listen_close(first, &addr);
    int client = client_of(&addr);
    int conn = cs_listen_accept_now(second);
    assert_true(conn >= 0);
    close(conn);
    close(client);
    cs_listen_close(second, &addr);
}

/* The kernel lets one more in than it is told. */
static void test_backlog(void **state)
{
    struct cs_addr addr = address("127.0.0.1");
    int fd = open_with(&addr, (struct cs_listen_options){.backlog = 1});
    int clients[3];
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(clients[i], &addr.sa, addr.len);
    }
    int conns[2] = {cs_listen_accept_now(fd), cs_listen_accept_now(fd)};
    assert_true(conns[0] >= 0);
    assert_true(conns[1] >= 0);
    assert_int_equal(cs_listen_accept_now(fd), -EAGAIN);
    for (unsigned i = 0; i < 3; i++) {
        close(clients[i]);
    }
    close(conns[0]);
    close(conns[1]);
    cs_listen_close(fd, &addr);
}

static void test_address_of_others(void **state)
{
    struct cs_addr addr = address("192.0.2.1");
    (void)state;
    assert_int_equal(open_plainly(&addr), -EADDRNOTAVAIL);
}

/* ---- Unix ---- */

static unsigned mode_of(const struct cs_addr *addr)
{
    struct stat st;
    assert_int_equal(stat(addr->un.sun_path, &st), 0);
    return st.st_mode & 07777;
}

static void test_unix_mode(void **state)
{
    struct fixture *f = *state;
    int fd = open_with(&f->unix_addr, (struct cs_listen_options){.unix_mode = 0640});
    assert_true(fd >= 0);
    assert_int_equal(mode_of(&f->unix_addr), 0640);
    cs_listen_close(fd, &f->unix_addr);
    assert_int_equal(access(f->unix_addr.un.sun_path, F_OK), -1);
    mode_t mask = umask(0077);
    fd = open_plainly(&f->unix_addr);
    umask(mask);
    assert_int_equal(mode_of(&f->unix_addr), 0700);
    int client = client_of(&f->unix_addr);
    int conn = cs_listen_accept_now(fd);
    assert_true(conn >= 0);
    close(conn);
    close(client);
    cs_listen_close(fd, &f->unix_addr);
}

static void test_unix_stale_file(void **state)
{
    struct fixture *f = *state;
    int fd = open_plainly(&f->unix_addr);
    assert_true(fd >= 0);
    close(fd); /* as a crash does */
    assert_int_equal(access(f->unix_addr.un.sun_path, F_OK), 0);
    fd = open_plainly(&f->unix_addr);
    assert_true(fd >= 0);
    close(client_of(&f->unix_addr));
    cs_listen_close(fd, &f->unix_addr);
}

static void test_unix_in_use(void **state)
{
    struct fixture *f = *state;
    int fd = open_plainly(&f->unix_addr);
    assert_int_equal(open_plainly(&f->unix_addr), -EADDRINUSE);
    close(client_of(&f->unix_addr)); /* it was left alone */
    cs_listen_close(fd, &f->unix_addr);
}

/* Somebody listens who does not get round to accepting: that file is not stale. */
static void test_unix_in_use_and_busy(void **state)
{
    struct fixture *f = *state;
    const struct cs_addr *addr = &f->unix_addr;
    int fd = open_with(&f->unix_addr, (struct cs_listen_options){.backlog = 1});
    int clients[8];
    unsigned n = 0, queued = 0;
    assert_true(fd >= 0);
    for (; n < CS_ARRAY_LEN(clients) && queued == n; n++) {
        clients[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        queued += connect(clients[n], &addr->sa, addr->len) == 0;
    }
    assert_in_range(queued, 1, n - 1);
    assert_int_equal(open_plainly(&f->unix_addr), -EADDRINUSE);
    assert_int_equal(access(addr->un.sun_path, F_OK), 0);
    while (n > 0) {
        close(clients[--n]);
    }
    cs_listen_close(fd, addr);
}

/* A file that is no socket is somebody's data. */
static void test_unix_other_file(void **state)
{
    struct fixture *f = *state;
    int fd = open(f->unix_addr.un.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "data", 4), 4);
    close(fd);
    assert_int_equal(open_plainly(&f->unix_addr), -EADDRINUSE);
    struct stat st;
    assert_int_equal(stat(f->unix_addr.un.sun_path, &st), 0);
    assert_int_equal(st.st_size, 4);
}

static void test_unix_no_folder(void **state)
{
    struct cs_addr addr = address("unix:/nowhere/at/all");
    (void)state;
    assert_int_equal(open_plainly(&addr), -ENOENT);
}

/* A name in the abstract namespace: no file, no mode, and free again as soon as it is closed. */
static void test_unix_abstract(void **state)
{
    const struct cs_listen_options o = {.unix_mode = 0600};
    struct cs_addr addr = address("unix:@cosockd-test-listen");
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        int fd = open_with(&addr, o);
        assert_true(fd >= 0);
        assert_int_equal(open_with(&addr, o), -EADDRINUSE);
        close(client_of(&addr));
        cs_listen_close(fd, &addr);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_both_families),   TEST(test_one_port_two_families),
        TEST(test_address_in_use),  TEST(test_reuseport),
        TEST(test_backlog),         TEST(test_address_of_others),
        TEST(test_unix_mode),       TEST(test_unix_stale_file),
        TEST(test_unix_in_use),     TEST(test_unix_in_use_and_busy),
        TEST(test_unix_other_file), TEST(test_unix_no_folder),
        TEST(test_unix_abstract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
