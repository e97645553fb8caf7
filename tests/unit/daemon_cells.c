/*
 * daemon_cells - further cells open as those that are there fill up, and end when they have been
 * empty for a while; with real sockets, and a clock that the test moves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "daemon/cells.h"
#include "support/rng.h"

#define CELLS 3
#define SLOTS 32 /* of a cell, half of them for who connects */
#define CLIENTS (CELLS * SLOTS / 2)
#define PATIENCE_NS UINT64_C(60000000000)

/* Greets whoever comes. */
static const char script[] = "local l = assert(ba.socket.bind('unix:@cosockd-cells-%ld'))\n"
                             "l:event(function(l)\n"
                             "  for s in l.accept, l do\n"
                             "    s:event(function(s)\n"
                             "      s:write('x')\n"
                             "      while s:read() do end\n"
                             "    end, 's')\n"
                             "  end\n"
                             "end)\n"
                             "%s\n";

static struct csd_cells *cells;
static struct cs_cell_config cell_config;
static char text[1024];
static struct cs_program_part part = {.name = "greeter", .source = text};
static struct cs_program program = {.parts = &part, .count = 1};
static uint64_t now_ms = 1000000; /* stands still while the test waits */
static int clients[CLIENTS];
static unsigned clients_n, connected;

static uint64_t test_clock(void)
{
    return now_ms;
}

static void no_log(enum cs_log_level level, const char *line, size_t len)
{
    (void)len;
    if (level <= CS_LOG_ERROR) {
        fail_msg("%s", line);
    }
}

/* ---- turns ---- */

static void nothing(void *arg)
{
    (void)arg;
}

/* A turn that does not sleep for long. */
static void turn(void)
{
    assert_int_equal(cs_loop_post(csd_cells_loop(cells), nothing, NULL), 0);
    csd_cells_turn(cells);
}

#define UNTIL(condition, then)                                                                     \
    for (uint64_t by_ns = cs_clock_ns() + PATIENCE_NS; !(condition);) {                            \
        assert_true(cs_clock_ns() < by_ns);                                                        \
        then;                                                                                      \
    }

static struct cs_cell_status status(void)
{
    struct cs_cell_status s;
    csd_cells_status(cells, &s);
    return s;
}

/* A second, in several turns. */
static void pass_a_second(void)
{
    for (unsigned i = 0; i < 20; i++) {
        now_ms += 50;
        turn();
    }
}

/* ---- clients ---- */

static void client_connect(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n = snprintf(a.sun_path + 1, sizeof(a.sun_path) - 1, "cosockd-cells-%ld", (long)getpid());
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
    assert_int_equal(connect(fd, (const struct sockaddr *)&a, len), 0);
    clients[clients_n++] = fd;
    connected++;
}

static void client_close(unsigned i)
{
    close(clients[i]);
    clients[i] = clients[--clients_n];
}

static bool greeted(int fd)
{
    char c = 0;
    ssize_t n = recv(fd, &c, 1, MSG_PEEK);
    assert_true(n == 1 || (n < 0 && errno == EAGAIN)); /* never an end */
    return n == 1 && c == 'x';
}

static void all_greeted(void)
{
    for (unsigned i = 0; i < clients_n; i++) {
        UNTIL(greeted(clients[i]), turn());
    }
}

static void fill(void)
{
    while (clients_n < CLIENTS && status().cells < CELLS) {
        client_connect();
        all_greeted();
        turn(); /* it may open a cell */
    }
    UNTIL(status().cells == CELLS, turn());
}

static void close_all(void)
{
    while (clients_n > 0) {
        client_close(0);
    }
    UNTIL(status().connections == 0, turn());
}

/* ---- the cells ---- */

static void loaded(void *user, unsigned generation, int err, const char *errors)
{
    bool *over = user;
    (void)generation;
    if (err < 0) {
        fail_msg("%s", errors ? errors : cs_err_text(err));
    }
    *over = true;
}

static void load(const char *extra)
{
    static unsigned generation;
    bool over = false;
    (void)snprintf(text, sizeof(text), script, (long)getpid(), extra);
    csd_cells_load(cells, &program, ++generation, loaded, &over);
    UNTIL(over, turn());
    csd_cells_commit(cells);
}

static int setup(void **state)
{
    struct csd_cells_config config = {.cell = &cell_config, .max = CELLS};
    char why[256] = "";
    (void)state;
    cs_clock_set_source(test_clock);
    cs_log_set_writer(no_log);
    cell_config = (struct cs_cell_config){.data_dir = "/tmp"};
    cs_ring_config_default(&cell_config.ring);
    cell_config.ring.slots_max = SLOTS;
    cs_net_config_default(&cell_config.net);
    cell_config.net.log_connections = false;
    clients_n = connected = 0;
    if (csd_cells_create(&cells, &config, why, sizeof(why)) != 0) {
        fprintf(stderr, "skipped: %s\n", why);
        exit(77);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    csd_cells_stop(cells);
    UNTIL(csd_cells_finished(cells), pass_a_second());
    csd_cells_destroy(cells);
    while (clients_n > 0) {
        client_close(0);
    }
    cs_clock_set_source(NULL);
    cs_log_set_writer(NULL);
    return 0;
}

/* ---- tests ---- */

static void test_an_empty_cell_ends(void **state)
{
    (void)state;
    load("");
    for (unsigned round = 0; round < 2; round++) {
        fill();
        close_all();
        for (unsigned i = 0; i < 10; i++) {
            pass_a_second();
        }
        assert_int_equal(status().cells, CELLS); /* not at once */
        UNTIL(status().cells == 1, pass_a_second());
    }
    struct cs_cell_status s = status();
    assert_int_equal(s.net.accepted, connected); /* they go on counting */
    assert_int_equal(s.net.closed, connected);
    assert_int_equal(s.generation_count, 1);
    assert_int_equal(s.generations[0].vms, 1);
}

/* What a script would miss keeps a cell. */
static void test_a_cell_with_something_to_do_stays(void **state)
{
    static const char *const extras[] = {
        "local t = ba.timer(function() return true end) t:set(3600000) package.loaded.t = t",
        "ba.thread.run(function() ba.sleep(3600000) end)",
    };
    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(extras); i++) {
        load(extras[i]);
        fill();
        close_all();
        for (unsigned s = 0; s < 60; s++) {
            pass_a_second();
        }
        assert_int_equal(status().cells, CELLS);
    }
    load("");
    UNTIL(status().cells == 1, pass_a_second());
}

static void test_a_cell_with_a_connection_stays(void **state)
{
    (void)state;
    load("");
    while (clients_n < CLIENTS - 8) { /* the last of them in the last cell */
        client_connect();
        all_greeted();
        turn();
    }
    int last = clients[--clients_n];
    while (clients_n > 0) {
        client_close(0);
    }
    clients[clients_n++] = last;
    assert_int_equal(status().cells, CELLS);
    for (unsigned s = 0; s < 60; s++) {
        pass_a_second();
    }
    assert_int_equal(status().cells, CELLS);
    assert_true(greeted(clients[0]));
    close_all();
    UNTIL(status().cells == 1, pass_a_second());
}

/* Clients come and go at any moment while cells end: each is greeted, and hears of no end. */
static void test_nobody_is_lost(void **state)
{
    unsigned fewest = CELLS;
    (void)state;
    load("");
    for (unsigned round = 0; round < 20; round++) {
        fill();
        while (clients_n > rnd(3)) {
            client_close(rnd(clients_n));
        }
        for (unsigned i = 0; i < 60; i++) {
            now_ms += rnd(2000);
            if (rnd(4) == 0 && clients_n < CLIENTS) {
                client_connect();
            }
            if (rnd(4) == 0 && clients_n > 0 && greeted(clients[0])) {
                client_close(0);
            }
            turn();
            fewest = CS_MIN(fewest, status().cells);
        }
        all_greeted();
        if (rnd(2) == 0) { /* reloads meet cells that end */
            load("");
        }
    }
    assert_true(fewest < CELLS);
}

int main(void)
{
    rng_start(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_empty_cell_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_cell_with_something_to_do_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_cell_with_a_connection_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_is_lost, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
