/*
 * daemon_control - the control protocol: the parser, the answer's head, and a server among good,
 * slow, silent and vanishing clients.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/client.h"
#include "daemon/control.h"

static char folder[64];
static char path[108];
static struct csd_control *control;
static uint64_t now_ms;

/* What the server was asked last. */
static enum csd_request last_request;
static struct csd_client_ref last_client;
static unsigned requests;

static uint64_t fake_clock(void)
{
    return now_ms;
}

static void handle(void *user, enum csd_request request, struct csd_client_ref client)
{
    (void)user;
    last_request = request;
    last_client = client;
    requests++;
}

static int setup(void **state)
{
    char why[256];

    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/cosockd-control-XXXXXX");
    if (!mkdtemp(folder)) {
        return -1;
    }
    now_ms = 1000;
    cs_clock_set_source(fake_clock);
    requests = 0;
    (void)snprintf(path, sizeof(path), "%s/run/control.sock", folder);
    return csd_control_open(&control, path, (uid_t)-1, (gid_t)-1, handle, NULL, why, sizeof(why))
               ? 0
               : -1;
}

static int teardown(void **state)
{
    char command[96];

    (void)state;
    csd_control_close(control);
    control = NULL;
    cs_clock_set_source(NULL);
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static int connect_client(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    return fd;
}

/* Lets the server do whatever is ready now. */
static void turn(void)
{
    for (int i = 0; i < 4 + CSD_CONTROL_CLIENTS; i++) {
        struct pollfd fds[CSD_CONTROL_POLLFDS];
        size_t n = csd_control_pollfds(control, fds);

        assert_true(n <= CSD_CONTROL_POLLFDS);
        (void)poll(fds, n, 0);
        csd_control_handle(control, fds, n, now_ms);
    }
}

static int ask(const char *text)
{
    int fd = connect_client();

    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    turn();
    return fd;
}

/* All that the server says until the end; the client is closed. */
static const char *answer_of(int fd)
{
    static char text[4096];
    size_t len = 0;
    ssize_t n;

    turn();
    while (len < sizeof(text) - 1 &&
           (n = recv(fd, text + len, sizeof(text) - 1 - len, MSG_DONTWAIT)) > 0) {
        len += (size_t)n;
    }
    text[len] = '\0';
    (void)close(fd);
    return text;
}

/* ---- words ---- */

static enum csd_request parse(const char *line)
{
    return csd_request_parse(line, strlen(line));
}

static void test_requests(void **state)
{
    (void)state;
    assert_int_equal(parse("status"), CSD_REQUEST_STATUS);
    assert_int_equal(parse("status json"), CSD_REQUEST_STATUS_JSON);
    assert_int_equal(parse("  status \t json\r"), CSD_REQUEST_STATUS_JSON);
    assert_int_equal(parse("reload"), CSD_REQUEST_RELOAD);
    assert_int_equal(parse("reload wait"), CSD_REQUEST_RELOAD_WAIT);
    assert_int_equal(parse("stop"), CSD_REQUEST_STOP);
    assert_int_equal(parse("quit"), CSD_REQUEST_QUIT);
    assert_int_equal(parse("reopen"), CSD_REQUEST_REOPEN);
    assert_int_equal(parse(""), CSD_REQUEST_BAD);
    assert_int_equal(parse("   "), CSD_REQUEST_BAD);
    assert_int_equal(parse("STOP"), CSD_REQUEST_BAD);
    assert_int_equal(parse("stop now"), CSD_REQUEST_BAD);
    assert_int_equal(parse("statusjson"), CSD_REQUEST_BAD);
    assert_int_equal(csd_request_parse("stop\0x", 6), CSD_REQUEST_BAD);
    assert_int_equal(csd_request_parse("stopping", 4), CSD_REQUEST_STOP);
}

static void test_answer_heads(void **state)
{
    bool ok = false;
    size_t len = 0;

    (void)state;
    assert_true(csd_answer_head("ok 0\n", &ok, &len));
    assert_true(ok && len == 0);
    assert_true(csd_answer_head("error 123\n", &ok, &len));
    assert_true(!ok && len == 123);
    assert_false(csd_answer_head("ok\n", &ok, &len));
    assert_false(csd_answer_head("ok \n", &ok, &len));
    assert_false(csd_answer_head("ok -1\n", &ok, &len));
    assert_false(csd_answer_head("ok 1x\n", &ok, &len));
    assert_false(csd_answer_head("ok 99999999999\n", &ok, &len));
    assert_false(csd_answer_head("okay 1\n", &ok, &len));
    assert_false(csd_answer_head("", &ok, &len));
}

/* ---- clients ---- */

static void test_answer(void **state)
{
    int fd = ask("status\n");

    (void)state;
    assert_int_equal(requests, 1);
    assert_int_equal(last_request, CSD_REQUEST_STATUS);
    csd_control_answer(control, last_client, true, "fine\n", 5);
    assert_string_equal(answer_of(fd), "ok 5\nfine\n");
    /* It is gone: a second answer meets nobody. */
    csd_control_answer(control, last_client, true, "again\n", 6);
}

static void test_request_in_pieces(void **state)
{
    int fd = ask("rel");

    (void)state;
    assert_int_equal(requests, 0);
    assert_int_equal(write(fd, "oad wait\nextra", 14), 14);
    turn();
    assert_int_equal(last_request, CSD_REQUEST_RELOAD_WAIT);
    csd_control_answer(control, last_client, false, "no\n", 3);
    assert_string_equal(answer_of(fd), "error 3\nno\n");
}

static void test_half_closed_client_is_answered(void **state)
{
    int fd = connect_client();

    (void)state;
    assert_int_equal(write(fd, "stop\n", 5), 5);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    turn();
    turn();
    csd_control_answer(control, last_client, true, "", 0);
    assert_string_equal(answer_of(fd), "ok 0\n");
}

static void test_bad_requests(void **state)
{
    char longer[CSD_CONTROL_LINE_MAX + 10];

    (void)state;
    assert_non_null(strstr(answer_of(ask("dance\n")), "unknown request"));
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_non_null(strstr(answer_of(ask(longer)), "too long"));
    assert_string_equal(answer_of(ask("")), "");
    assert_int_equal(requests, 0);
}

static void test_silent_client_is_dropped(void **state)
{
    int fd = ask("sta");
    char byte;

    (void)state;
    assert_true(csd_control_deadline(control) < UINT64_MAX);
    now_ms += 60000;
    turn();
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
    (void)close(fd);
    assert_true(csd_control_deadline(control) == UINT64_MAX);
}

static void test_answer_that_is_late(void **state)
{
    int fd = ask("status\n");

    (void)state;
    now_ms += 60000;
    assert_non_null(strstr(answer_of(fd), "in time"));
    csd_control_answer(control, last_client, true, "late", 4);

    fd = ask("reload wait\n");
    csd_control_patient(control, last_client);
    now_ms += 3600000;
    turn();
    csd_control_answer(control, last_client, true, "patient", 7);
    assert_string_equal(answer_of(fd), "ok 7\npatient");
}

static void test_client_that_goes_away(void **state)
{
    struct csd_client_ref old;
    int fd = ask("reload wait\n");

    (void)state;
    csd_control_patient(control, last_client);
    old = last_client;
    (void)close(fd);
    turn();
    assert_true(csd_control_deadline(control) == UINT64_MAX);
    fd = ask("status\n");
    assert_int_equal(last_client.slot, old.slot);
    csd_control_answer(control, old, true, "for the other one", 17);
    csd_control_answer(control, last_client, true, "mine", 4);
    assert_string_equal(answer_of(fd), "ok 4\nmine");
}

/* More text than the socket holds, read late. */
static void test_slow_reader(void **state)
{
    size_t len = 4 << 20, got = 0;
    char *text = malloc(len), *back = malloc(len + 100);
    int fd = ask("status\n");

    (void)state;
    assert_non_null(text);
    assert_non_null(back);
    memset(text, 'x', len);
    csd_control_answer(control, last_client, true, text, len);
    for (;;) {
        ssize_t n = recv(fd, back + got, len + 100 - got, MSG_DONTWAIT);

        if (n == 0) {
            break;
        }
        got += n > 0 ? (size_t)n : 0;
        turn();
    }
    assert_int_equal(got, len + strlen("ok 4194304\n"));
    (void)close(fd);

    fd = ask("status\n");
    csd_control_answer(control, last_client, true, text, len);
    now_ms += 60000;
    turn();
    assert_true(csd_control_deadline(control) == UINT64_MAX); /* dropped */
    (void)close(fd);
    free(text);
    free(back);
}

static void test_too_many_clients_wait_outside(void **state)
{
    int fds[CSD_CONTROL_CLIENTS + 1];

    (void)state;
    for (size_t i = 0; i < CSD_CONTROL_CLIENTS + 1; i++) {
        fds[i] = ask("status\n");
    }
    assert_int_equal(requests, CSD_CONTROL_CLIENTS);
    (void)close(fds[0]);
    turn();
    assert_int_equal(requests, CSD_CONTROL_CLIENTS + 1);
    for (size_t i = 1; i < CSD_CONTROL_CLIENTS + 1; i++) {
        (void)close(fds[i]);
    }
}

/* Clients that ask a daemon that is stuck fill its queue; the next one must not wait for ever. */
static void test_client_of_a_daemon_that_is_stuck(void **state)
{
    int fds[2 * CSD_CONTROL_CLIENTS], n = 0;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    (void)state;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    do {
        assert_true(n < 2 * CSD_CONTROL_CLIENTS);
        fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_true(fds[n] >= 0);
    } while (connect(fds[n++], (const struct sockaddr *)&addr, sizeof(addr)) == 0);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(csd_client_run("test", path, "status", 1), CSD_EXIT_FAILURE);
    while (n > 0) {
        (void)close(fds[--n]);
    }
}

/* ---- the file ---- */

static void test_socket_file(void **state)
{
    struct csd_control *second;
    struct stat st;
    char why[256];
    int fd;

    (void)state;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_false(
        csd_control_open(&second, path, (uid_t)-1, (gid_t)-1, handle, NULL, why, sizeof(why)));
    assert_non_null(strstr(why, "already running"));
    assert_int_equal(stat(path, &st), 0); /* and the first one's file is still there */

    csd_control_close(control);
    control = NULL;
    assert_int_equal(stat(path, &st), -1);

    /* A file that a crash left behind is replaced; one that is no socket is not. */
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
    (void)close(fd);
    assert_true(
        csd_control_open(&control, path, (uid_t)-1, getgid(), handle, NULL, why, sizeof(why)));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
    csd_control_close(control);
    control = NULL;

    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_false(
        csd_control_open(&control, path, (uid_t)-1, (gid_t)-1, handle, NULL, why, sizeof(why)));
    assert_non_null(strstr(why, "no socket"));
    assert_int_equal(stat(path, &st), 0);

    (void)snprintf(path, sizeof(path), "%s/no/such/folder/x", folder);
    assert_false(
        csd_control_open(&control, path, (uid_t)-1, (gid_t)-1, handle, NULL, why, sizeof(why)));
    assert_non_null(strstr(why, "No such file"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_answer_heads),
        TEST(test_answer),
        TEST(test_request_in_pieces),
        TEST(test_half_closed_client_is_answered),
        TEST(test_bad_requests),
        TEST(test_silent_client_is_dropped),
        TEST(test_answer_that_is_late),
        TEST(test_client_that_goes_away),
        TEST(test_slow_reader),
        TEST(test_too_many_clients_wait_outside),
        TEST(test_client_of_a_daemon_that_is_stuck),
        TEST(test_socket_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
