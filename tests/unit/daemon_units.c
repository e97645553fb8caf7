/*
 * daemon_units - sizes, durations, and what somebody may have meant.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>

#include "daemon/suggest.h"
#include "daemon/units.h"

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"1", 1},
                {"4096", 4096},
                {"16k", 16384},
                {"16K", 16384},
                {"10M", 10 << 20},
                {"1G", 1ull << 30},
                {"2t", 2ull << 40},
                {"0G", 0},
                {"007", 7},
                {"8388607T", 8388607ull << 40}};
    static const char *const bad[] = {"",
                                      "k",
                                      "1kb",
                                      "1 k",
                                      " 1",
                                      "-1",
                                      "1.5M",
                                      "0x10",
                                      "1kk",
                                      "8388608T",
                                      "99999999999999999999"};
    uint64_t n;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(good); i++) {
        assert_true(csd_parse_size(good[i].text, &n));
        assert_true(n == good[i].bytes);
    }
    for (size_t i = 0; i < CS_ARRAY_LEN(bad); i++) {
        assert_false(csd_parse_size(bad[i], &n));
    }
}

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"0", 0},       {"0s", 0},       {"500ms", 500},    {"30s", 30000},
                {"5m", 300000}, {"1h", 3600000}, {"2d", 172800000}, {"never", CSD_NEVER}};
    static const char *const bad[] = {
        "", "30", "1", "s", "1.5s", "30S", "1m30s", "1 s", "-1s", "forever", "999999999999999999d"};
    uint64_t n;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(good); i++) {
        assert_true(csd_parse_duration(good[i].text, &n));
        assert_true(n == good[i].ms);
    }
    for (size_t i = 0; i < CS_ARRAY_LEN(bad); i++) {
        assert_false(csd_parse_duration(bad[i], &n));
    }
}

static void test_formats_parse_again(void **state)
{
    static const uint64_t numbers[] = {0,     1,       999,     1000,       1024,     1025,
                                       60000, 1 << 20, 3600000, 1ull << 40, 86400000, 86400001};
    char buf[CSD_UNITS_TEXT_MAX];
    uint64_t n;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(numbers); i++) {
        assert_true(csd_parse_size(csd_format_size(numbers[i], buf, sizeof(buf)), &n));
        assert_true(n == numbers[i]);
        assert_true(csd_parse_duration(csd_format_duration(numbers[i], buf, sizeof(buf)), &n));
        assert_true(n == numbers[i]);
    }
    assert_string_equal(csd_format_size(256 << 20, buf, sizeof(buf)), "256M");
    assert_string_equal(csd_format_size(1000, buf, sizeof(buf)), "1000");
    assert_string_equal(csd_format_duration(90000, buf, sizeof(buf)), "90s");
    assert_string_equal(csd_format_duration(0, buf, sizeof(buf)), "0");
    assert_string_equal(csd_format_duration(CSD_NEVER, buf, sizeof(buf)), "never");
}

static void test_ages(void **state)
{
    char buf[CSD_UNITS_TEXT_MAX];

    (void)state;
    assert_string_equal(csd_format_age(999, buf, sizeof(buf)), "0 s");
    assert_string_equal(csd_format_age(65000, buf, sizeof(buf)), "1 min 5 s");
    assert_string_equal(csd_format_age(7500000, buf, sizeof(buf)), "2 h 5 min");
    assert_string_equal(csd_format_age(3 * 86400000ull + 3600000, buf, sizeof(buf)), "3 d 1 h");
}

static void test_edit_distance(void **state)
{
    static const struct {
        const char *a, *b;
        unsigned distance;
    } cases[] = {{"", "", 0},       {"abc", "", 3},     {"", "abc", 3},
                 {"abc", "abc", 0}, {"abc", "abd", 1},  {"abc", "acb", 1},
                 {"abc", "ab", 1},  {"abc", "xabc", 1}, {"kitten", "sitting", 3},
                 {"LOG", "log", 0}, {"ca", "abc", 3},   {"ab", "ba", 1}};
    char longer[80];

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(cases); i++) {
        assert_int_equal(csd_edit_distance(cases[i].a, cases[i].b), cases[i].distance);
        assert_int_equal(csd_edit_distance(cases[i].b, cases[i].a), cases[i].distance);
    }
    for (size_t i = 0; i < sizeof(longer); i++) {
        longer[i] = i + 1 < sizeof(longer) ? 'x' : '\0';
    }
    assert_int_equal(csd_edit_distance(longer, "x"), UINT_MAX);
    longer[63] = '\0';
    assert_int_equal(csd_edit_distance(longer, ""), 63);
}

static const char *word(size_t i, const void *arg)
{
    static const char *const words[] = {"log_level", "log_file", "user", "group"};

    (void)arg;
    return i < CS_ARRAY_LEN(words) ? words[i] : NULL;
}

static void test_suggestions(void **state)
{
    (void)state;
    assert_string_equal(csd_suggest("log_lvel", word, NULL), "log_level");
    assert_string_equal(csd_suggest("loglevel", word, NULL), "log_level");
    assert_string_equal(csd_suggest("logfile", word, NULL), "log_file");
    assert_string_equal(csd_suggest("usr", word, NULL), "user");
    assert_string_equal(csd_suggest("USER", word, NULL), "user");
    assert_null(csd_suggest("x", word, NULL));
    assert_null(csd_suggest("upstreams", word, NULL));
    assert_null(csd_suggest("", word, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_formats_parse_again),
        cmocka_unit_test(test_ages),
        cmocka_unit_test(test_edit_distance),
        cmocka_unit_test(test_suggestions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
