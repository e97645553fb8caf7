/* codec_percent - RFC 3986: what is encoded, what decoding leaves alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codec/percent.h"

static void test_encode(void **state)
{
    static const char plain[] = "aZ09-._~ /?&=%+\xc3\xa9";
    static const char text[] = "aZ09-._~%20%2F%3F%26%3D%25%2B%C3%A9";
    char buf[CS_PERCENT_TEXT(sizeof(plain))];

    (void)state;
    assert_int_equal(cs_percent_encode(buf, plain, strlen(plain)), strlen(text));
    assert_memory_equal(buf, text, strlen(text));
    assert_int_equal(cs_percent_encode(buf, "\0", 1), 3);
    assert_memory_equal(buf, "%00", 3);
    assert_int_equal(cs_percent_encode(buf, "", 0), 0);
}

static void assert_decodes(const char *text, const char *plain)
{
    size_t n = strlen(text);
    char *exact = malloc(n + 1); /* so that a sanitizer sees a read behind the end */

    memcpy(exact, text, n);
    char *in = realloc(exact, n ? n : 1);

    assert_int_equal(cs_percent_decode(in, in, n), strlen(plain));
    assert_memory_equal(in, plain, strlen(plain));
    free(in);
}

static void test_decode(void **state)
{
    (void)state;
    assert_decodes("", "");
    assert_decodes("%41%4a%4A", "AJJ");
    assert_decodes("a%20b+c", "a b+c");
    assert_decodes("%", "%");
    assert_decodes("%4", "%4");
    assert_decodes("%4G%G4%%41", "%4G%G4%A");
    assert_decodes("100%", "100%");
}

static void test_all_bytes(void **state)
{
    char all[256], text[CS_PERCENT_TEXT(sizeof(all))], back[sizeof(text)];

    (void)state;
    for (size_t i = 0; i < sizeof(all); i++) {
        all[i] = (char)i;
    }
    size_t n = cs_percent_encode(text, all, sizeof(all));

    assert_int_equal(cs_percent_decode(back, text, n), sizeof(all));
    assert_memory_equal(back, all, sizeof(all));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_all_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
