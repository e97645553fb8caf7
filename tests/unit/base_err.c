/*
 * base_err - every code has a name and a phrase of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/err.h"

static const struct {
    int value;
    const char *name, *text;
} ours[] = {
#define OUR_ENTRY(name, value, text) {value, #name, text},
    CS_ERR_LIST(OUR_ENTRY)
#undef OUR_ENTRY
};

static void test_ours(void **state)
{
    (void)state;
    assert_int_equal(CS_EOF, -5001);
    for (size_t i = 0; i < CS_ARRAY_LEN(ours); i++) {
        assert_string_equal(cs_err_name(ours[i].value), ours[i].name);
        assert_string_equal(cs_err_text(ours[i].value), ours[i].text);
        /* Beyond errno, and different. */
        assert_true(ours[i].value < -4095);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(ours[i].value, ours[k].value);
            assert_string_not_equal(ours[i].name, ours[k].name);
        }
    }
}

static void test_errno(void **state)
{
    (void)state;
    assert_string_equal(cs_err_name(-ECONNRESET), "ECONNRESET");
    assert_string_equal(cs_err_text(-ECONNRESET), "connection reset by peer");
    assert_string_equal(cs_err_name(-ECONNREFUSED), "ECONNREFUSED");
    assert_string_equal(cs_err_text(-ECONNREFUSED), "connection refused");
    assert_string_equal(cs_err_name(-ENOMEM), "ENOMEM");
    assert_string_equal(cs_err_text(-ENOMEM), "cannot allocate memory");
    /* An abbreviation keeps its capitals. */
    assert_string_equal(cs_err_text(-EDOTDOT), "RFS specific error");
}

static void test_every_errno(void **state)
{
    (void)state;
    for (int err = -1; err >= -4095; err--) {
        const char *name = cs_err_name(err);
        const char *text = cs_err_text(err);

        assert_non_null(name);
        assert_true(name[0] == 'E');
        assert_true(text[0] != '\0');
        assert_false(isupper((unsigned char)text[0]) && islower((unsigned char)text[1]));
    }
}

static void test_success(void **state)
{
    (void)state;
    assert_string_equal(cs_err_name(CS_OK), "OK");
    assert_string_equal(cs_err_text(CS_OK), "success");
}

static void test_unknown(void **state)
{
    const int unknown[] = {-4095, -4096, -5000, -6000, 1, 5001, INT_MAX, INT_MIN};

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(unknown); i++) {
        assert_string_equal(cs_err_name(unknown[i]), "EUNKNOWN");
        assert_non_null(strstr(cs_err_text(unknown[i]), "unknown error"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ours),    cmocka_unit_test(test_errno),
        cmocka_unit_test(test_success), cmocka_unit_test(test_every_errno),
        cmocka_unit_test(test_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
