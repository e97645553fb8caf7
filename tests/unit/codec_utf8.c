/* codec_utf8 - every character, every short sequence against a plain reading of RFC 3629, cut
 * anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "codec/utf8.h"

static size_t encode(uint32_t c, uint8_t out[4])
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xc0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xe0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 63));
        out[2] = (uint8_t)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 63));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 63));
    out[3] = (uint8_t)(0x80 | (c & 63));
    return 4;
}

static bool valid(const uint8_t *s, size_t len)
{
    struct cs_utf8 u = {0};
    return cs_utf8_feed(&u, s, len) && cs_utf8_complete(&u);
}

static bool valid_bytewise(const uint8_t *s, size_t len)
{
    struct cs_utf8 u = {0};
    for (size_t i = 0; i < len; i++) {
        if (!cs_utf8_feed(&u, s + i, 1)) {
            return false;
        }
    }
    return cs_utf8_complete(&u);
}

static void test_every_character(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x120000; c++) {
        uint8_t s[4];
        size_t len = encode(c, s);
        bool good = c < 0xd800 || (c > 0xdfff && c < 0x110000);
        assert_int_equal(valid(s, len), good);
        assert_int_equal(valid_bytewise(s, len), good);
        for (size_t cut = 1; good && cut < len; cut++) {
            assert_false(valid(s, cut));
            assert_false(valid(s + cut, len - cut));
        }
    }
}

/* Whether s is the one encoding of some character. */
static bool is_character(const uint8_t *s, size_t len)
{
    uint32_t c = len == 2 ? (s[0] & 31u) << 6 | (s[1] & 63u)
                          : (s[0] & 15u) << 12 | (s[1] & 63u) << 6 | (s[2] & 63u);
    uint8_t again[4];
    return encode(c, again) == len && memcmp(again, s, len) == 0 && (c < 0xd800 || c > 0xdfff);
}

static void test_every_short_sequence(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < 0x1000000; n += n < 0xc00000 ? 257 : 1) {
        uint8_t s[3] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
        bool two = s[0] >= 0x80 && is_character(s, 2);
        if (s[0] >= 0x80) {
            assert_int_equal(valid(s, 2), two);
            assert_int_equal(valid(s, 3), is_character(s, 3) || (two && s[2] < 0x80));
        }
    }
}

static void test_long_text(void **state)
{
    (void)state;
    uint8_t text[256];
    for (size_t len = 0; len < 64; len++) {
        for (size_t at = 0; at + 2 <= len; at++) {
            memset(text, 'x', sizeof(text));
            text[at] = 0xc3;
            text[at + 1] = 0xa4;
            for (size_t cut = 0; cut <= len; cut++) {
                struct cs_utf8 u = {0};
                assert_true(cs_utf8_feed(&u, text, cut));
                assert_int_equal(cs_utf8_complete(&u), cut != at + 1);
                assert_true(cs_utf8_feed(&u, text + cut, len - cut));
                assert_true(cs_utf8_complete(&u));
            }
            text[at + 1] = 'x';
            assert_false(valid(text, len));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_every_short_sequence),
        cmocka_unit_test(test_long_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
