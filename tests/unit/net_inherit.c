/*
 * net_inherit - sockets from before the process and for after it, through the table of listening
 * sockets: what the keeper is told, and what becomes of each socket.
 */
#include "unit/ring_support.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "net/listen_table.h"

struct fixture {
    unsigned descriptors;
    char told[256]; /* "+1 -1 ": kept and dropped, by the number in the name */
    struct cs_inherit *inherit;
    struct cs_listen_table *table;
    struct cs_addr addr;
};

static void note(struct fixture *f, char what, const char *name)
{
    size_t len = strlen(f->told);
    assert_int_equal(strncmp(name, "cosockd-listener-", 17), 0);
    snprintf(f->told + len, sizeof(f->told) - len, "%c%s ", what, name + 17);
}

static void keep(void *user, int fd, const char *name)
{
    assert_true(fcntl(fd, F_GETFD) >= 0);
    note(user, '+', name);
}

static void drop(void *user, const char *name)
{
    note(user, '-', name);
}

static void start(struct fixture *f, unsigned workers)
{
    const struct cs_keeper keeper = {.keep = keep, .drop = drop, .user = f};
    assert_int_equal(cs_inherit_create(&f->inherit, &keeper), 0);
    f->table = cs_listen_table_create(workers, f->inherit);
    assert_non_null(f->table);
    f->told[0] = '\0';
}

static void end(struct fixture *f)
{
    cs_listen_table_destroy(f->table);
    cs_inherit_destroy(f->inherit);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    f->descriptors = open_descriptors();
    f->addr = address("127.0.0.1");
    start(f, 2);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    end(f);
    assert_int_equal(open_descriptors(), f->descriptors);
    free(f);
    return 0;
}

static int open_for(struct fixture *f, unsigned worker)
{
    const struct cs_listen_options o = {0};
    int fd = -1;
    int err = cs_listen_table_open(f->table, worker, &fd, &f->addr, &o);
    return err < 0 ? err : fd;
}

static bool connects(const struct cs_addr *addr)
{
    int fd = socket(cs_addr_family(addr), SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, &addr->sa, addr->len) == 0;
    close(fd);
    return ok;
}

static bool same_socket(int a, int b)
{
    struct stat x, y;
    assert_int_equal(fstat(a, &x), 0);
    assert_int_equal(fstat(b, &y), 0);
    return x.st_ino == y.st_ino;
}

/* A socket of somebody else, who keeps a descriptor of it. */
static int socket_elsewhere(struct fixture *f)
{
    const struct cs_listen_options o = {0};
    int fd;
    assert_int_equal(cs_listen_open(&fd, &f->addr, &o), 0);
    return fd;
}

static void pass(struct fixture *f, int fd, const char *name)
{
    assert_int_equal(cs_inherit_add(f->inherit, dup(fd), name), 0);
}

/* ---- given ---- */

static void test_a_given_socket_is_lent_to_all_and_stays(void **state)
{
    struct fixture *f = *state;
    int theirs = socket_elsewhere(f);
    pass(f, theirs, "web");
    for (int round = 0; round < 2; round++) {
        int first = open_for(f, 0), second = open_for(f, 1);
        assert_true(first >= 0 && second >= 0 && first != second);
        assert_true(same_socket(first, theirs) && same_socket(second, theirs));
        cs_listen_table_settle(f->table);
        cs_listen_table_close(f->table, first);
        cs_listen_table_close(f->table, second);
        assert_true(connects(&f->addr));
    }
    assert_string_equal(f->told, "");
    cs_listen_close(theirs, &f->addr);
}

static void test_names(void **state)
{
    struct fixture *f = *state;
    struct cs_addr addrs[2], found;
    int fds[2];
    for (unsigned i = 0; i < 2; i++) {
        f->addr = address("127.0.0.1");
        fds[i] = socket_elsewhere(f);
        addrs[i] = f->addr;
        pass(f, fds[i], "web");
    }
    assert_true(cs_listen_table_named(f->table, "web", 0, &found));
    assert_true(cs_addr_equal(&found, &addrs[0]));
    assert_true(cs_listen_table_named(f->table, "web", 1, &found));
    assert_true(cs_addr_equal(&found, &addrs[1]));
    assert_false(cs_listen_table_named(f->table, "web", 2, &found));
    assert_false(cs_listen_table_named(f->table, "cosockd-listener-1", 0, &found));
    close(fds[0]);
    close(fds[1]);
}

static void test_what_cannot_be_used(void **state)
{
    struct fixture *f = *state;
    int datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* does not listen */
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_int_equal(cs_inherit_add(f->inherit, datagram, "x"), -EINVAL);
    assert_int_equal(cs_inherit_add(f->inherit, stream, "x"), -EINVAL);
    assert_int_equal(cs_inherit_add(f->inherit, file, "x"), -EINVAL);
    assert_int_equal(fcntl(file, F_GETFD), -1); /* closed: teardown counts, too */
}

/* ---- kept ---- */

static void test_what_is_open_is_kept_once_settled(void **state)
{
    struct fixture *f = *state;
    int first = open_for(f, 0), second = open_for(f, 1);
    assert_true(first >= 0 && second >= 0);
    assert_string_equal(f->told, "");
    cs_listen_table_settle(f->table);
    assert_string_equal(f->told, "+1 +2 ");
    cs_listen_table_settle(f->table);
    f->addr = address("127.0.0.1");
    int third = open_for(f, 0);
    assert_string_equal(f->told, "+1 +2 +3 ");
    cs_listen_table_close(f->table, second);
    cs_listen_table_close(f->table, third);
    assert_string_equal(f->told, "+1 +2 +3 -2 -3 ");
    cs_listen_table_leave(f->table);
    cs_listen_table_close(f->table, first);
    assert_string_equal(f->told, "+1 +2 +3 -2 -3 ");
}

static void test_a_kept_one_is_taken_over(void **state)
{
    struct fixture *f = *state;
    int theirs = socket_elsewhere(f);
    pass(f, theirs, "cosockd-listener-7");
    int first = open_for(f, 0);
    assert_true(first >= 0 && same_socket(first, theirs));
    int second = open_for(f, 1); /* beside it, though the process before had one worker */
    assert_true(second >= 0 && !same_socket(second, theirs));
    cs_listen_table_settle(f->table);
    assert_string_equal(f->told, "+8 ");
    cs_listen_table_close(f->table, first);
    cs_listen_table_close(f->table, second);
    assert_string_equal(f->told, "+8 -7 -8 ");
    assert_false(connects(&f->addr)); /* although the keeper has not let go of it yet */
    close(theirs);
}

static void test_one_that_nobody_takes_is_ended(void **state)
{
    struct fixture *f = *state;
    int theirs = socket_elsewhere(f);
    pass(f, theirs, "cosockd-listener-3");
    assert_true(connects(&f->addr));
    cs_listen_table_settle(f->table);
    assert_string_equal(f->told, "-3 ");
    assert_false(connects(&f->addr));
    close(theirs);
}

static void test_a_failed_start_ends_nothing(void **state)
{
    struct fixture *f = *state;
    int theirs = socket_elsewhere(f);
    pass(f, theirs, "cosockd-listener-3");
    int fd = open_for(f, 0);
    assert_true(fd >= 0);
    cs_listen_table_close(f->table, fd);
    assert_string_equal(f->told, "");
    assert_true(connects(&f->addr));
    close(theirs);
}

static void test_what_is_left_outlives_the_process(void **state)
{
    struct fixture *f = *state;
    int fd = open_for(f, 0), theirs = dup(fd);
    cs_listen_table_settle(f->table);
    cs_listen_table_leave(f->table);
    cs_listen_table_close(f->table, fd);
    assert_string_equal(f->told, "+1 ");
    assert_true(connects(&f->addr));
    end(f);
    start(f, 2);
    pass(f, theirs, "cosockd-listener-1");
    fd = open_for(f, 0);
    assert_true(same_socket(fd, theirs));
    cs_listen_table_close(f->table, fd);
    close(theirs);
}

/* ---- Unix sockets ---- */

static void test_workers_keep_a_unix_socket_once(void **state)
{
    struct fixture *f = *state;
    char text[64];
    snprintf(text, sizeof(text), "unix:/tmp/cosockd-test-inherit-%d", (int)getpid());
    f->addr = address(text);
    int first = open_for(f, 0), second = open_for(f, 1);
    assert_true(first >= 0 && second >= 0);
    cs_listen_table_settle(f->table);
    assert_string_equal(f->told, "+1 ");
    cs_listen_table_close(f->table, first);
    assert_string_equal(f->told, "+1 ");
    assert_true(connects(&f->addr));
    cs_listen_table_close(f->table, second);
    assert_string_equal(f->told, "+1 -1 ");
    assert_int_equal(access(f->addr.un.sun_path, F_OK), -1);
}

static void test_a_unix_socket_without_its_file_is_useless(void **state)
{
    struct fixture *f = *state;
    char text[64];
    snprintf(text, sizeof(text), "unix:/tmp/cosockd-test-inherit-%d", (int)getpid());
    f->addr = address(text);
    int theirs = socket_elsewhere(f);
    pass(f, theirs, "cosockd-listener-1");
    assert_int_equal(unlink(f->addr.un.sun_path), 0);
    int fd = open_for(f, 0);
    assert_true(fd >= 0 && !same_socket(fd, theirs));
    cs_listen_table_settle(f->table); /* ends the old one, and leaves the file of the new one */
    assert_string_equal(f->told, "+2 -1 ");
    assert_true(connects(&f->addr));
    cs_listen_table_close(f->table, fd);
    close(theirs);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_given_socket_is_lent_to_all_and_stays),
        TEST(test_names),
        TEST(test_what_cannot_be_used),
        TEST(test_what_is_open_is_kept_once_settled),
        TEST(test_a_kept_one_is_taken_over),
        TEST(test_one_that_nobody_takes_is_ended),
        TEST(test_a_failed_start_ends_nothing),
        TEST(test_what_is_left_outlives_the_process),
        TEST(test_workers_keep_a_unix_socket_once),
        TEST(test_a_unix_socket_without_its_file_is_useless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
