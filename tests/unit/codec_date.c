/* codec_date - the forms of HTTP dates and of ISO 8601, the ends of the calendar, garbage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/date.h"

static void assert_http(const char *text, int64_t seconds)
{
    int64_t got = 1;

    assert_int_equal(cs_date_parse_http(&got, text), 0);
    assert_int_equal(got, seconds);
}

static void test_http(void **state)
{
    char buf[CS_DATE_HTTP_SIZE];

    (void)state;
    assert_string_equal(cs_date_http(0, buf), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_string_equal(cs_date_http(784111777, buf), "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_string_equal(cs_date_http(-1, buf), "Wed, 31 Dec 1969 23:59:59 GMT");
    assert_string_equal(cs_date_http(CS_DATE_MIN, buf), "Mon, 01 Jan 0001 00:00:00 GMT");
    assert_string_equal(cs_date_http(CS_DATE_MAX, buf), "Fri, 31 Dec 9999 23:59:59 GMT");
    assert_http("Sun, 06 Nov 1994 08:49:37 GMT", 784111777);
    assert_http("Sunday, 06-Nov-94 08:49:37 GMT", 784111777);
    assert_http("Sun Nov  6 08:49:37 1994", 784111777);
    assert_http("Thu, 1 Jan 1970 00:00:00 GMT", 0);
    assert_http("Tue, 11 Sep 2001 18:00:00 UTC", 1000231200);
    assert_http("Mon, 14 Nov 2022 06:34:18", 1668407658);
    assert_http("Monday, 01-Jan-24 00:00:00 GMT", 1704067200);
    assert_http("Thu, 29 Feb 2024 12:00:00 GMT", 1709208000);
}

static void test_http_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "GMT",
                                      "Sun, 06 Nov 1994",
                                      "Sun, 06 Nov 1994 08:49 GMT",
                                      "Sun, 06 Foo 1994 08:49:37 GMT",
                                      "Sun, 31 Nov 1994 08:49:37 GMT",
                                      "Sun, 29 Feb 2023 08:49:37 GMT",
                                      "Sun, 06 Nov 1994 24:00:00 GMT",
                                      "Sun, 06 Nov 1994 08:60:00 GMT",
                                      "Sun, 06 Nov 1994 08:49:61 GMT",
                                      "Sun, 06 Nov 1994 08:49:37 PST",
                                      "Sun, 06 Nov 1994 08:49:37 +0100",
                                      "Sun, 06 Nov 1994 -8:49:37 GMT",
                                      "Sun, -6 Nov 1994 08:49:37 GMT",
                                      "06 Nov 1994 08:49:37 GMT",
                                      "1994-11-06T08:49:37Z"};
    int64_t seconds;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(bad); i++) {
        assert_int_equal(cs_date_parse_http(&seconds, bad[i]), CS_EINVAL);
    }
}

/* `text` reads as `seconds` and prints as `again`. */
static void assert_iso(const char *text, int64_t seconds, const char *again)
{
    char buf[CS_DATE_ISO_SIZE];
    struct cs_date d;
    int64_t got = 1;

    assert_int_equal(cs_date_parse_iso(&d, text), 0);
    assert_int_equal(cs_date_seconds(&got, &d), 0);
    assert_int_equal(got, seconds);
    assert_string_equal(cs_date_iso(&d, buf), again);
}

static void test_iso(void **state)
{
    (void)state;
    assert_iso("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z");
    assert_iso("1970-01-01", 0, "1970-01-01T00:00:00Z");
    assert_iso("1970-01-01 00:01", 60, "1970-01-01T00:01:00Z");
    assert_iso("1970-01-01t00:00:01z", 1, "1970-01-01T00:00:01Z");
    assert_iso("1970-01-01T00:00:00.5Z", 0, "1970-01-01T00:00:00.5Z");
    assert_iso("1970-01-01T00:00:00.0123456789Z", 0, "1970-01-01T00:00:00.012345678Z");
    assert_iso("1970-01-01T00:00:00,000000001", 0, "1970-01-01T00:00:00.000000001Z");
    assert_iso("1970-01-01T01:00:00+01:00", 3600, "1970-01-01T01:00:00+01:00");
    assert_iso("1970-01-01T01:00:00-0130", 3600, "1970-01-01T01:00:00-01:30");
    assert_iso("1970-01-01T01:00:00+05", 3600, "1970-01-01T01:00:00+05:00");
    assert_iso("0001-01-01T00:00:00Z", CS_DATE_MIN, "0001-01-01T00:00:00Z");
    assert_iso("9999-12-31T23:59:59Z", CS_DATE_MAX, "9999-12-31T23:59:59Z");
}

static void test_iso_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "1970",
                                      "1970-01",
                                      "1970-1-1",
                                      "0000-01-01",
                                      "1970-13-01",
                                      "1970-00-01",
                                      "1970-02-29",
                                      "1900-02-29",
                                      "1970-01-01T",
                                      "1970-01-01T00",
                                      "1970-01-01T00:0",
                                      "1970-01-01T24:00",
                                      "1970-01-01T00:60",
                                      "1970-01-01T00:00:61",
                                      "1970-01-01T00:00:00.",
                                      "1970-01-01T00:00:00.Z",
                                      "1970-01-01T00:00:00+",
                                      "1970-01-01T00:00:00+1",
                                      "1970-01-01T00:00:00+01:",
                                      "1970-01-01T00:00:00+01:60",
                                      "1970-01-01T00:00:00+24:00",
                                      "1970-01-01T00:00:00Zx",
                                      "x1970-01-01",
                                      "-970-01-01",
                                      "now"};
    struct cs_date d;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(bad); i++) {
        assert_int_equal(cs_date_parse_iso(&d, bad[i]), CS_EINVAL);
    }
}

/* Each day of the calendar, both ways. */
static void test_calendar(void **state)
{
    (void)state;
    for (int64_t s = CS_DATE_MIN; s <= CS_DATE_MAX; s += 86400 + 1) {
        struct cs_date d;
        int64_t back;

        cs_date_of(&d, s);
        assert_int_equal(cs_date_seconds(&back, &d), 0);
        assert_int_equal(back, s);
    }
}

static void test_leap_second(void **state)
{
    struct cs_date d = {.year = 2016, .month = 12, .day = 31, .hour = 23, .min = 59, .sec = 60};
    int64_t seconds;

    (void)state;
    assert_int_equal(cs_date_seconds(&seconds, &d), 0);
    assert_int_equal(seconds, 1483228800);
    d.year = 9999;
    assert_int_equal(cs_date_seconds(&seconds, &d), CS_EINVAL);
}

static void test_garbage(void **state)
{
    static const char likely[] = "0123456789-:T Z+.,SunNov";
    uint64_t rng = 20261122;

    (void)state;
    for (unsigned round = 0; round < 50000; round++) {
        char text[32];
        struct cs_date d;
        int64_t seconds;
        size_t n = 0;

        while (n < sizeof(text) - 1) {
            rng = rng * 6364136223846793005u + 1442695040888963407u;
            text[n++] = likely[(rng >> 33) % (sizeof(likely) - 1)];
        }
        text[rng >> 60] = '\0';
        if (cs_date_parse_iso(&d, text) == 0) {
            char buf[CS_DATE_ISO_SIZE];

            assert_true(strlen(cs_date_iso(&d, buf)) < sizeof(buf));
        }
        (void)!cs_date_parse_http(&seconds, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http),     cmocka_unit_test(test_http_refused),
        cmocka_unit_test(test_iso),      cmocka_unit_test(test_iso_refused),
        cmocka_unit_test(test_calendar), cmocka_unit_test(test_leap_second),
        cmocka_unit_test(test_garbage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
