/*
 * codec_base64 - the vectors of RFC 4648, what is refused, and random bytes both ways. CS_SEED=n
 * chooses the random ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/base64.h"
#include "support/rng.h"

static void assert_text(const char *plain, const char *text, bool url)
{
    char buf[64];
    size_t n = cs_base64_encode(buf, plain, strlen(plain), url);

    assert_int_equal(n, strlen(text));
    assert_memory_equal(buf, text, n);
}

static void test_vectors(void **state)
{
    static const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(vectors); i++) {
        assert_text(vectors[i][0], vectors[i][1], false);
    }
    assert_text("\xfb\xff\xfe", "+//+", false);
    assert_text("\xfb\xff\xfe", "-__-", true);
    assert_text("f", "Zg", true);
    assert_text("fo", "Zm8", true);
}

static void assert_decodes(const char *text, const char *plain)
{
    char buf[64];
    size_t n = 99;

    assert_int_equal(cs_base64_decode(buf, &n, text, strlen(text)), 0);
    assert_int_equal(n, strlen(plain));
    assert_memory_equal(buf, plain, n);
}

static void test_lenient(void **state)
{
    (void)state;
    assert_decodes("", "");
    assert_decodes(" \r\n\t", "");
    assert_decodes("Zm9v\r\nYmFy\n", "foobar");
    assert_decodes("Z g = =", "f");
    assert_decodes("Zg", "f");
    assert_decodes("Zm8", "fo");
    assert_decodes("+//+", "\xfb\xff\xfe");
    assert_decodes("-__-", "\xfb\xff\xfe");
}

static void test_refused(void **state)
{
    static const char *const bad[] = {"Z",    "Zm9vY",    "Zg=",     "Zm8==", "Zm9v=",
                                      "=",    "Zg==Zg==", "Zg=a",    "Zm9*",  "Zm9\x80",
                                      "====", "Zg===",    "Zm9v===="};
    char buf[64];
    size_t n;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(bad); i++) {
        assert_int_equal(cs_base64_decode(buf, &n, bad[i], strlen(bad[i])), CS_EINVAL);
    }
    assert_int_equal(cs_base64_decode(buf, &n, "Zg\0=", 4), CS_EINVAL);
}

/* Exact allocations, so that a sanitizer sees each byte too many. */
static void test_round_trip(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        size_t n = rnd(70), len = 0;
        unsigned char *plain = malloc(n + 1);
        char *text = malloc(CS_BASE64_TEXT(n) + 1);

        for (size_t i = 0; i < n; i++) {
            plain[i] = (unsigned char)rnd(256);
        }
        size_t text_len = cs_base64_encode(text, plain, n, rnd(2));

        assert_true(text_len <= CS_BASE64_TEXT(n));
        unsigned char *back = malloc(CS_BASE64_BYTES(text_len) + 1);

        assert_int_equal(cs_base64_decode(back, &len, text, text_len), 0);
        assert_int_equal(len, n);
        assert_memory_equal(back, plain, n);
        free(plain);
        free(text);
        free(back);
    }
}

static void test_garbage(void **state)
{
    static const char likely[] = "AZaz09+/-_= \n=";

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        size_t n = rnd(12), len = 0;
        char *text = malloc(n + 1);
        unsigned char *to = malloc(CS_BASE64_BYTES(n) + 1);

        for (size_t i = 0; i < n; i++) {
            text[i] = rnd(8) ? likely[rnd(sizeof(likely) - 1)] : (char)rnd(256);
        }
        if (cs_base64_decode(to, &len, text, n) == 0) {
            assert_true(len <= CS_BASE64_BYTES(n));
        }
        free(text);
        free(to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors), cmocka_unit_test(test_lenient),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_garbage),
    };
    rng_start(20261122);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
