/*
 * daemon_json - what is written always parses: nesting, escapes, what is not UTF-8, what is too
 * deep.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/json.h"
#include "script/conf.h"

static struct csd_json j;
static char *text;
static size_t len;
static FILE *out;

static void begin(void)
{
    out = open_memstream(&text, &len);
    assert_non_null(out);
    csd_json_begin(&j, out);
}

static void assert_written(const char *expected)
{
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, expected);
    free(text);
}

static void test_nesting(void **state)
{
    (void)state;
    begin();
    csd_json_open(&j, NULL, '{');
    csd_json_uint(&j, "n", UINT64_MAX);
    csd_json_open(&j, "list", '[');
    csd_json_bool(&j, NULL, true);
    csd_json_string(&j, NULL, NULL);
    csd_json_close(&j, ']');
    csd_json_open(&j, "none", '{');
    csd_json_close(&j, '}');
    csd_json_close(&j, '}');
    assert_written("{\n  \"n\": 18446744073709551615,\n  \"list\": [\n    true,\n    null\n  ],\n"
                   "  \"none\": {}\n}\n");
}

static void assert_string(const char *bytes, size_t n, const char *expected)
{
    begin();
    csd_json_bytes(&j, NULL, bytes, n);
    assert_written(expected);
}

static void test_strings(void **state)
{
    (void)state;
    assert_string("plain", 5, "\"plain\"");
    assert_string("a\"\\\n\t\r\0\x7f", 8, "\"a\\\"\\\\\\n\\t\\u000d\\u0000\\u007f\"");
    assert_string("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x8c\x8d", 11,
                  "\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x8c\x8d\"");
    assert_string("\xff|\xc3|\xe2\x82", 6, "\"\\ufffd|\\ufffd|\\ufffd\\ufffd\"");
    assert_string("\xc0\xaf", 2, "\"\\ufffd\\ufffd\"");            /* overlong */
    assert_string("\xed\xa0\x80", 3, "\"\\ufffd\\ufffd\\ufffd\""); /* a surrogate */
    assert_string("\xf4\x90\x80\x80", 4, "\"\\ufffd\\ufffd\\ufffd\\ufffd\"");
}

static void test_values(void **state)
{
    struct cs_member members[] = {{.value = {.type = CS_VALUE_INT, .integer = -7}},
                                  {.value = {.type = CS_VALUE_NUMBER, .number = 0.5}},
                                  {.value = {.type = CS_VALUE_NUMBER, .number = INFINITY}},
                                  {.value = {.type = CS_VALUE_NIL}}};
    struct cs_value table = {.type = CS_VALUE_TABLE,
                             .table = {.members = members, .count = CS_ARRAY_LEN(members)}};

    (void)state;
    begin();
    csd_json_value(&j, NULL, &table);
    assert_written("[\n  -7,\n  0.5,\n  null,\n  null\n]\n");
    members[3].key = (char *)(uintptr_t) "k";
    begin();
    csd_json_value(&j, NULL, &table);
    assert_written("{\n  \"1\": -7,\n  \"2\": 0.5,\n  \"3\": null,\n  \"k\": null\n}\n");
    table.table.count = 0;
    begin();
    csd_json_value(&j, NULL, &table);
    assert_written("[]\n");
}

static void test_too_deep(void **state)
{
    unsigned opened = 0;

    (void)state;
    begin();
    for (int i = 0; i < CSD_JSON_DEPTH_MAX + 10; i++) {
        csd_json_open(&j, NULL, '[');
        csd_json_uint(&j, NULL, 1);
    }
    for (int i = 0; i < CSD_JSON_DEPTH_MAX + 10; i++) {
        csd_json_close(&j, ']');
    }
    assert_int_equal(fclose(out), 0);
    for (const char *p = text; *p; p++) {
        opened += *p == '[';
        opened -= *p == ']';
    }
    assert_int_equal(opened, 0);
    assert_non_null(strstr(text, "null"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_too_deep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
