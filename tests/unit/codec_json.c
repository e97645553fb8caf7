/*
 * codec_json - what is JSON and what is not, numbers, limits, and random texts in random pieces.
 * CS_SEED=n chooses the random ones.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <json-c/json_object.h>
#include <stdio.h>

#include "base/mem.h"
#include "codec/json.h"
#include "support/rng.h"

#define DEPTH 16

/* The values of a text as json-c prints them, one a line, and the error that ended it, if any. The
 * text is given in pieces of at most `piece` bytes (0: of random sizes), each an allocation of its
 * own, so that a sanitizer sees reads behind it. */
static int parse(const char *text, size_t len, size_t piece, char *out, size_t out_size)
{
    struct cs_json *j;
    size_t at = 0, used = 0;
    int result = 0;

    assert_int_equal(cs_json_create(&j, DEPTH), 0);
    out[0] = '\0';
    while (at < len && result >= 0) {
        size_t most = piece ? piece : 1 + rnd(9);
        size_t n = CS_MIN(len - at, most);
        char *copy = malloc(n);
        size_t taken = 0, done = 0;

        memcpy(copy, text + at, n);
        while (done < n && result >= 0) {
            struct json_object *value = NULL;

            result = cs_json_feed(j, copy + done, n - done, SIZE_MAX, &taken, &value);
            assert_true(taken <= n - done);
            done += taken;
            if (result > 0) {
                const char *s = value ? json_object_to_json_string_ext(value, 0) : "null";

                used += (size_t)snprintf(out + used, out_size - used, "%s\n", s);
                json_object_put(value);
            } else if (result == 0) {
                assert_int_equal(done, n);
            }
        }
        free(copy);
        at += n;
    }
    if (result >= 0 && cs_json_begun(j)) {
        result = CS_EINVAL;
    } else if (result < 0) {
        assert_non_null(cs_json_why(j));
        if (cs_json_where(j) < 1 || cs_json_where(j) > len + 1) {
            fail_msg("%zu %.*s: %s at %llu", len, (int)len, text, cs_json_why(j),
                     (unsigned long long)cs_json_where(j));
        }
    }
    cs_json_destroy(j);
    return result < 0 ? result : 0;
}

static void assert_values(const char *text, const char *expected)
{
    char out[512];

    for (size_t piece = 1; piece <= strlen(text) + 1; piece++) {
        int err = parse(text, strlen(text), piece, out, sizeof(out));

        if (err < 0) {
            fail_msg("%s, in pieces of %zu: %d", text, piece, err);
        }
        assert_string_equal(out, expected);
    }
}

static void assert_refused(const char *text, size_t len, int err)
{
    char out[512];

    for (size_t piece = 1; piece <= len; piece++) {
        int got = parse(text, len, piece, out, sizeof(out));

        if (got != err) {
            fail_msg("%s, in pieces of %zu: %d, expected %d", text, piece, got, err);
        }
    }
}

static void test_values(void **state)
{
    (void)state;
    assert_values("", "");
    assert_values(" \t\r\n", "");
    assert_values("{}", "{}\n");
    assert_values(" [ ] ", "[]\n");
    assert_values("{}{} []\n", "{}\n{}\n[]\n");
    assert_values("[1,2.5,\"x\",true,false,null,{\"a\":[]}]",
                  "[1,2.5,\"x\",true,false,null,{\"a\":[]}]\n");
    assert_values("1 -2 3.5 true false null \"s\"\"t\"\n",
                  "1\n-2\n3.5\ntrue\nfalse\nnull\n\"s\"\n\"t\"\n");
    assert_values("5[6]7{}8\n", "5\n[6]\n7\n{}\n8\n");
    assert_values("{\"a\":1,\"a\":2}", "{\"a\":2}\n");
    assert_values("[\"\\u00e9\\ud83d\\ude00\"]", "[\"\xc3\xa9\xf0\x9f\x98\x80\"]\n");
    assert_values("[\"a\\u0000b\"]", "[\"a\\u0000b\"]\n");
    assert_values("{\"a\":\"\\u0000\",\"b\":1}", "{\"a\":\"\\u0000\",\"b\":1}\n");
    assert_values("{\"\":{\"\":0}}", "{\"\":{\"\":0}}\n");
}

static void test_numbers(void **state)
{
    (void)state;
    assert_values("[9223372036854775807,-9223372036854775808]",
                  "[9223372036854775807,-9223372036854775808]\n");
    assert_values("[1e3,-0.5E-2,1E+2,0,0.0]", "[1e3,-0.5E-2,1E+2,0,0.0]\n");
    /* Beyond 64 bits: a double, never another whole number. */
    assert_values("[9223372036854775808]", "[9223372036854775808.0]\n");
    assert_values("[-9223372036854775809,1]", "[-9223372036854775809.0,1]\n");
    assert_values("18446744073709551615 1\n", "18446744073709551615.0\n1\n");
    assert_values("100000000000000000000000000000000000000 1 ",
                  "100000000000000000000000000000000000000.0\n1\n");
    assert_values("[123456789012345678901234567890.5e1]", "[123456789012345678901234567890.5e1]\n");
}

static void test_refused(void **state)
{
    static const char *const bad[] = {
        "{",
        "[",
        "[1",
        "[1,",
        "\"",
        "\"\\",
        "[\"x]",
        "}",
        "]",
        "[1}",
        "{]",
        "[,]",
        "[1,,2]",
        "[1,]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{1:1}",
        "{'a':1}",
        "['a']",
        "[tru]",
        "[True]",
        "[nul]",
        "[NULL]",
        "[NaN]",
        "[Infinity]",
        "[-Infinity]",
        "[01]",
        "[-01]",
        "[1.]",
        "[.5]",
        "[+1]",
        "[1e]",
        "[1e+]",
        "[--1]",
        "[1.2.3]",
        "[0x10]",
        "[1 2]",
        "/**/[]",
        "[]//",
        "[1/*x*/]",
        "[\"\\x\"]",
        "[\"\\u12\"]",
        "[\"\\u12G4\"]",
        "[\"a\tb\"]",
        "[\"a\nb\"]",
        "\"\1\"",
        ":",
        ",",
        "[-]",
        "- ",
        "[1e5.5]",
        "{\"a\" 1}",
        "{\"a\"::1}",
        "[\f]",
        "hello",
        "\xef\xbb\xbf[]",
        "[\"a\"\"b\"]",
        "{\"a\":1 \"b\":2}",
        "[1:2]",
        "{,}",
        "[1-2]",
        "[1+2]",
        "1-2 ",
    };

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(bad); i++) {
        assert_refused(bad[i], strlen(bad[i]), CS_EINVAL);
    }
    assert_refused("[\0]", 3, CS_EINVAL);
    assert_refused("[\"\0\"]", 5, CS_EINVAL);
    assert_refused("{}\0", 3, CS_EINVAL);
}

static void test_names_with_zero(void **state)
{
    static const char *const bad[] = {"{\"a\\u0000b\":1}", "[{\"x\":{\"\\u0000\" \n :1}}]"};

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(bad); i++) {
        assert_refused(bad[i], strlen(bad[i]), CS_ELIMIT);
    }
}

static void test_depth(void **state)
{
    char text[4 * DEPTH + 4], out[512];

    (void)state;
    for (int n = 1; n <= DEPTH + 1; n++) {
        memset(text, '[', (size_t)n);
        text[n] = '1';
        memset(text + n + 1, ']', (size_t)n);
        assert_int_equal(parse(text, 2 * (size_t)n + 1, 7, out, sizeof(out)),
                         n > DEPTH ? CS_ELIMIT : 0);
        assert_int_equal(parse(text, (size_t)n, 7, out, sizeof(out)),
                         n > DEPTH ? CS_ELIMIT : CS_EINVAL);
    }
}

static void test_position(void **state)
{
    struct cs_json *j;
    struct json_object *value;
    size_t taken;

    (void)state;
    assert_int_equal(cs_json_create(&j, DEPTH), 0);
    assert_int_equal(cs_json_feed(j, "[1,", 3, SIZE_MAX, &taken, &value), 0);
    assert_int_equal(cs_json_feed(j, "2,;", 3, SIZE_MAX, &taken, &value), CS_EINVAL);
    assert_int_equal(cs_json_where(j), 6);
    cs_json_destroy(j);
    assert_int_equal(cs_json_create(&j, DEPTH), 0);
    assert_int_equal(cs_json_feed(j, "[1,\n]", 5, SIZE_MAX, &taken, &value), CS_EINVAL);
    assert_int_equal(cs_json_where(j), 5);
    cs_json_destroy(j);
    cs_json_destroy(NULL);
}

/* Feeds `text` again and again; the number of bytes until the room is used up. */
static size_t fits(const char *text, size_t room)
{
    struct cs_json *j;
    struct json_object *value;
    size_t taken, total = 0;
    int result;

    assert_int_equal(cs_json_create(&j, CS_JSON_DEPTH_MAX), 0);
    assert_int_equal(cs_json_feed(j, "[", 1, SIZE_MAX, &taken, &value), 0);
    do {
        result = cs_json_feed(j, text, strlen(text), room, &taken, &value);
        total += strlen(text);
        assert_true(result <= 0 && cs_json_cost(j) > 0);
    } while (result == 0);
    assert_int_equal(result, -ENOMEM);
    cs_json_destroy(j);
    return total;
}

static void test_room(void **state)
{
    (void)state;
    assert_true(fits("{},", 1 << 20) < 4000);
    assert_true(fits("[],", 1 << 20) < 10000);
    assert_true(fits("1,", 1 << 20) < 40000);
    assert_true(
        fits("\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",",
             1 << 20) < (1 << 20));
}

/* The cost of a value ends with it. */
static void test_room_again(void **state)
{
    struct cs_json *j;
    struct json_object *value;
    size_t taken;

    (void)state;
    assert_int_equal(cs_json_create(&j, DEPTH), 0);
    for (int i = 0; i < 10000; i++) {
        assert_int_equal(cs_json_feed(j, "{}", 2, 1000, &taken, &value), 1);
        assert_int_equal(taken, 2);
        json_object_put(value);
    }
    cs_json_destroy(j);
}

static size_t random_value(char *to, size_t size, unsigned depth);

static size_t random_container(char *to, size_t size, unsigned depth)
{
    bool object = rnd(2);
    size_t n = 0;

    to[n++] = object ? '{' : '[';
    for (unsigned i = rnd(4); i > 0 && size - n > 40; i--) {
        if (n > 1) {
            to[n++] = ',';
        }
        if (object) {
            n += (size_t)snprintf(to + n, size - n, "\"k%u\":", rnd(5));
        }
        n += random_value(to + n, size - n - 2, depth + 1);
    }
    to[n++] = object ? '}' : ']';
    return n;
}

static size_t random_value(char *to, size_t size, unsigned depth)
{
    static const char *const scalars[] = {"0",
                                          "-1",
                                          "123456789012345678",
                                          "9223372036854775807",
                                          "99999999999999999999",
                                          "1.5e10",
                                          "true",
                                          "false",
                                          "null",
                                          "\"\"",
                                          "\"\\u0041\\n\"",
                                          "\" x y \""};

    if (depth < 5 && size > 60 && rnd(2)) {
        return random_container(to, size, depth);
    }
    const char *s = scalars[rnd(CS_ARRAY_LEN(scalars))];

    memcpy(to, s, strlen(s));
    return strlen(s);
}

/* A text gives the same, whatever its pieces, and damaged ones too. */
static void test_random(void **state)
{
    static const char likely[] = "{}[]\",:0123456789.-+eE\\u ntrfals\n/'";

    (void)state;
    for (unsigned round = 0; round < 30000; round++) {
        char text[260], whole[4096], pieces[4096];
        size_t n = random_value(text, 200, 0);

        text[n++] = ' ';
        int damage = (int)rnd(4);

        for (int i = 0; i < damage; i++) {
            text[rnd((unsigned)n)] = rnd(4) ? likely[rnd(sizeof(likely) - 1)] : (char)rnd(256);
        }
        int a = parse(text, n, n, whole, sizeof(whole));
        int b = parse(text, n, 0, pieces, sizeof(pieces));

        if (a != b || strcmp(whole, pieces) != 0 || (damage == 0 && a != 0)) {
            fail_msg("round %u: %.*s: %d %s, %d %s", round, (int)n, text, a, whole, b, pieces);
        }
    }
}

#ifdef CS_FAULTS
static void test_no_memory(void **state)
{
    struct cs_json *j;

    (void)state;
    cs_mem_fail_nth(1);
    assert_int_equal(cs_json_create(&j, DEPTH), -ENOMEM);
    cs_mem_fail_nth(0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),    cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_names_with_zero),
        cmocka_unit_test(test_depth),     cmocka_unit_test(test_position),
        cmocka_unit_test(test_room),      cmocka_unit_test(test_room_again),
        cmocka_unit_test(test_random),
#ifdef CS_FAULTS
        cmocka_unit_test(test_no_memory),
#endif
    };
    rng_start(20261122);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
