/*
 * base_log - the form of a line, escaping, cutting, limits, and lines of several threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

static int sink = -1;
static char out[CS_LOG_LINE_MAX * 2];

/* What the writer was given last. */
static char written[CS_LOG_LINE_MAX + 1];
static size_t written_len;
static enum cs_log_level written_level;
static unsigned written_count;

static uint64_t fake_ms;

static uint64_t fake_clock(void)
{
    return fake_ms;
}

static void writer(enum cs_log_level level, const char *line, size_t len)
{
    assert_true(len < sizeof(written));
    memcpy(written, line, len + 1);
    written_len = len;
    written_level = level;
    written_count++;
}

static int setup(void **state)
{
    (void)state;
    sink = memfd_create("log", MFD_CLOEXEC);
    cs_log_set_sink(sink, CS_LOG_JOURNAL);
    cs_log_set_level(CS_LOG_DEBUG);
    cs_log_set_writer(NULL);
    written_count = 0;
    written[0] = '\0';
    return sink >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    cs_clock_set_source(NULL);
    cs_log_set_writer(NULL);
    cs_log_set_level(CS_LOG_INFO);
    cs_log_set_sink(STDERR_FILENO, CS_LOG_PLAIN);
    close(sink);
    return 0;
}

/* Everything the sink has got. */
static const char *sink_text(void)
{
    ssize_t n = pread(sink, out, sizeof(out) - 1, 0);

    assert_true(n >= 0);
    out[n] = '\0';
    return out;
}

static void test_journal(void **state)
{
    (void)state;
    cs_log(CS_LOG_ERROR, "e n=%d", 1);
    cs_log(CS_LOG_WARN, "w");
    cs_log(CS_LOG_NOTICE, "n");
    cs_log(CS_LOG_INFO, "i");
    cs_log(CS_LOG_DEBUG, "%s", "");
    assert_string_equal(sink_text(), "<3>e n=1\n<4>w\n<5>n\n<6>i\n<7>\n");
}

static void test_plain(void **state)
{
    struct timespec before, after;
    struct tm tm = {0};
    time_t stamp;
    const char *rest;
    long ms;

    (void)state;
    cs_log_set_sink(sink, CS_LOG_PLAIN);
    clock_gettime(CLOCK_REALTIME, &before);
    cs_log(CS_LOG_NOTICE, "listening port=%d", 80);
    clock_gettime(CLOCK_REALTIME, &after);
    rest = strptime(sink_text(), "%Y-%m-%dT%H:%M:%S", &tm);
    assert_non_null(rest);
    assert_int_equal(rest - out, 19);
    stamp = timegm(&tm);
    ms = strtol(rest + 1, NULL, 10);
    assert_true(rest[0] == '.');
    assert_string_equal(rest + 4, "Z notice listening port=80\n");
    assert_true(stamp * 1000 + ms >= before.tv_sec * 1000 + before.tv_nsec / 1000000);
    assert_true(stamp * 1000 + ms <= after.tv_sec * 1000 + after.tv_nsec / 1000000);
}

static void test_level_names(void **state)
{
    static const char *const names[] = {" error x\n", " warn x\n", " notice x\n", " info x\n",
                                        " debug x\n"};

    (void)state;
    cs_log_set_sink(sink, CS_LOG_PLAIN);
    for (int level = CS_LOG_ERROR; level <= CS_LOG_DEBUG; level++) {
        assert_int_equal(ftruncate(sink, 0), 0);
        lseek(sink, 0, SEEK_SET);
        cs_log((enum cs_log_level)level, "x");
        assert_string_equal(strchr(sink_text(), ' '), names[level - CS_LOG_ERROR]);
    }
}

static void test_level(void **state)
{
    (void)state;
    cs_log_set_level(CS_LOG_WARN);
    assert_true(cs_log_enabled(CS_LOG_ERROR));
    assert_true(cs_log_enabled(CS_LOG_WARN));
    assert_false(cs_log_enabled(CS_LOG_NOTICE));
    cs_log(CS_LOG_NOTICE, "no");
    cs_log(CS_LOG_WARN, "yes");
    assert_string_equal(sink_text(), "<4>yes\n");
}

static void test_escape(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"one\ntwo\n", "one\\ntwo\\n"},
        {"\t\r\x1b[31m\x7f\x01", "\t\\x0d\\x1b[31m\\x7f\\x01"},
        {"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80", NULL},
        /* C1 controls in UTF-8; c2 a0 is none. */
        {"\xc2\x9b"
         "31m \xc2\x80 \xc2\xa0",
         "\\xc2\\x9b"
         "31m \\xc2\\x80 \xc2\xa0"},
        /* No UTF-8: passed on, and nothing is read behind the end. */
        {"\xff\xc3", NULL},
        {"\xe2\x82", NULL},
        {"\xc3\n", "\xc3\\n"},
        {"back\\slash %", NULL},
    };

    (void)state;
    cs_log_set_writer(writer);
    for (size_t i = 0; i < CS_ARRAY_LEN(cases); i++) {
        cs_log(CS_LOG_INFO, "%s", cases[i].in);
        assert_string_equal(written, cases[i].out != NULL ? cases[i].out : cases[i].in);
        assert_int_equal(written_len, strlen(written));
    }
}

static void test_writer(void **state)
{
    (void)state;
    cs_log_set_writer(writer);
    cs_log(CS_LOG_WARN, "to the writer");
    assert_string_equal(written, "to the writer");
    assert_int_equal(written_level, CS_LOG_WARN);
    assert_int_equal(written_count, 1);
    assert_string_equal(sink_text(), "");
    cs_log_set_writer(NULL);
    cs_log(CS_LOG_WARN, "to the sink");
    assert_int_equal(written_count, 1);
    assert_string_equal(sink_text(), "<4>to the sink\n");
}

/* Logs `count` units, each of which is written as out_len bytes, and looks at the line. */
static void check_cut(const char *unit, size_t out_len, size_t count)
{
    char message[CS_LOG_LINE_MAX + 200];
    const size_t around = strlen("<6>\n");
    size_t n;

    for (size_t i = 0; i < count; i++) {
        memcpy(message + i * strlen(unit), unit, strlen(unit));
    }
    message[count * strlen(unit)] = '\0';
    assert_int_equal(ftruncate(sink, 0), 0);
    lseek(sink, 0, SEEK_SET);
    cs_log(CS_LOG_INFO, "%s", message);
    n = strlen(sink_text());
    assert_int_equal(out[n - 1], '\n');
    if (count * out_len + around <= CS_LOG_LINE_MAX) {
        assert_int_equal(n, count * out_len + around);
        return;
    }
    /* Cut as late as possible, and never inside a unit. */
    assert_true(n <= CS_LOG_LINE_MAX);
    assert_true(n + out_len > CS_LOG_LINE_MAX);
    assert_memory_equal(out + n - 4, "...", 3);
    assert_int_equal((n - 3 - around) % out_len, 0);
}

static void test_cut(void **state)
{
    static const struct {
        const char *unit;
        size_t out_len;
    } cases[] = {{"x", 1}, {"\xc3\xbc", 2}, {"\xe2\x82\xac", 3}, {"\n", 2}, {"\x01", 4}};

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(cases); i++) {
        size_t fits = CS_LOG_LINE_MAX / cases[i].out_len;

        for (size_t count = fits - 20; count < fits + 20; count++) {
            check_cut(cases[i].unit, cases[i].out_len, count);
        }
    }
}

static void test_limited(void **state)
{
    struct cs_log_limit limit = {0};

    (void)state;
    cs_log_set_writer(writer);
    cs_clock_set_source(fake_clock);
    fake_ms = 0;
    cs_log_limited(&limit, CS_LOG_WARN, "refused peer=%s", "a");
    assert_string_equal(written, "refused peer=a");
    for (fake_ms = 1; fake_ms < 1000; fake_ms += 111) {
        cs_log_limited(&limit, CS_LOG_WARN, "refused peer=%s", "b");
    }
    assert_int_equal(written_count, 1);
    fake_ms = 1000;
    cs_log_limited(&limit, CS_LOG_WARN, "refused peer=%s", "c");
    assert_int_equal(written_count, 2);
    assert_string_equal(written, "refused peer=c suppressed=9");
    fake_ms = 2000;
    cs_log_limited(&limit, CS_LOG_WARN, "refused peer=%s", "d");
    assert_string_equal(written, "refused peer=d");
    /* What the level hides is not counted as left out. */
    cs_log_set_level(CS_LOG_ERROR);
    cs_log_limited(&limit, CS_LOG_WARN, "hidden");
    cs_log_set_level(CS_LOG_WARN);
    fake_ms = 9000;
    cs_log_limited(&limit, CS_LOG_WARN, "refused peer=%s", "e");
    assert_string_equal(written, "refused peer=e");
}

static void test_limited_long(void **state)
{
    struct cs_log_limit limit = {.until_ms = 0, .suppressed = 7};
    char message[CS_LOG_LINE_MAX + 1];

    (void)state;
    memset(message, 'm', sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    cs_log_set_writer(writer);
    cs_log_limited(&limit, CS_LOG_WARN, "%s", message);
    assert_string_equal(written + written_len - 17, "m... suppressed=7");
    limit.until_ms = 0;
    cs_log_limited(&limit, CS_LOG_WARN, "%s", message);
    assert_string_equal(written + written_len - 4, "m...");
}

static void test_errno_kept(void **state)
{
    (void)state;
    cs_log_set_sink(-1, CS_LOG_PLAIN);
    errno = ENOENT;
    cs_log(CS_LOG_ERROR, "goes nowhere");
    assert_int_equal(errno, ENOENT);
}

/* A reader that does not read must not stop the writer. */
static void test_full_pipe(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    cs_log_set_sink(fds[1], CS_LOG_PLAIN);
    for (int i = 0; i < 10000; i++) {
        cs_log(CS_LOG_INFO, "line %d", i);
    }
    close(fds[0]);
    close(fds[1]);
}

#define THREADS 4
#define LINES 500

static void *log_many(void *arg)
{
    int who = *(int *)arg;

    for (int i = 0; i < LINES; i++) {
        cs_log(CS_LOG_INFO, "thread=%d line=%d %0*d end", who, i, i, 0);
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[THREADS];
    int who[THREADS], next[THREADS] = {0};
    size_t size = 0, cap = THREADS * LINES * (LINES + 40);
    FILE *in;
    char *line = NULL;

    (void)state;
    assert_int_equal(fcntl(sink, F_SETFL, O_APPEND), 0);
    for (int i = 0; i < THREADS; i++) {
        who[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, &who[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true((size_t)lseek(sink, 0, SEEK_END) <= cap);
    in = fdopen(dup(sink), "r");
    assert_non_null(in);
    rewind(in);
    while (getline(&line, &size, in) > 0) {
        int thread, number;

        assert_int_equal(sscanf(line, "<6>thread=%d line=%d 0", &thread, &number), 2);
        assert_in_range(thread, 0, THREADS - 1);
        assert_int_equal(number, next[thread]++);
        assert_string_equal(strrchr(line, ' '), " end\n");
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(next[i], LINES);
    }
    free(line);
    fclose(in);
}

#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_journal), LOG_TEST(test_plain),      LOG_TEST(test_level_names),
        LOG_TEST(test_level),   LOG_TEST(test_escape),     LOG_TEST(test_writer),
        LOG_TEST(test_cut),     LOG_TEST(test_limited),    LOG_TEST(test_limited_long),
        LOG_TEST(test_threads), LOG_TEST(test_errno_kept), LOG_TEST(test_full_pipe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
