/*
 * script_conf_value - copies of values, and the list of errors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "script/conf_value.h"

/* { "one", key = { deep = "a\0b" } }, set at file:7. */
static void make(struct cs_value *v)
{
    struct cs_member *m;

    *v = (struct cs_value){.type = CS_VALUE_NIL, .file = "file", .line = 7};
    assert_int_equal(cs_value_set_table(v, 2), 0);
    m = v->table.members;
    assert_int_equal(cs_value_set_string(&m[0].value, "one", 3), 0);
    m[1].key = cs_strdup("key");
    assert_non_null(m[1].key);
    assert_int_equal(cs_value_set_table(&m[1].value, 1), 0);
    m[1].value.table.members[0].key = cs_strdup("deep");
    assert_non_null(m[1].value.table.members[0].key);
    assert_int_equal(cs_value_set_string(&m[1].value.table.members[0].value, "a\0b", 3), 0);
}

static void test_copy_is_deep(void **state)
{
    struct cs_value from, to;
    const struct cs_value *deep;

    (void)state;
    make(&from);
    assert_int_equal(cs_value_copy(&to, &from), 0);
    cs_value_free(&from);
    assert_int_equal(to.line, 7);
    assert_string_equal(to.file, "file");
    assert_string_equal(to.table.members[0].value.string.bytes, "one");
    deep = cs_value_get(cs_value_get(&to, "key"), "deep");
    assert_int_equal(deep->string.len, 3);
    assert_memory_equal(deep->string.bytes, "a\0b", 4);
    cs_value_free(&to);
    cs_value_free(&to); /* harmless */
}

static void test_copy_of_plain_values(void **state)
{
    const struct cs_value values[] = {{.type = CS_VALUE_NIL, .line = 1},
                                      {.type = CS_VALUE_BOOL, .line = 2, .boolean = true},
                                      {.type = CS_VALUE_INT, .line = 3, .integer = -5}};
    struct cs_value to;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(values); i++) {
        assert_int_equal(cs_value_copy(&to, &values[i]), 0);
        assert_int_equal(to.type, values[i].type);
        assert_int_equal(to.line, values[i].line);
    }
    assert_int_equal(to.integer, -5);
}

static void test_get(void **state)
{
    const struct cs_value number = {.type = CS_VALUE_INT};
    struct cs_value table;

    (void)state;
    make(&table);
    assert_null(cs_value_get(&number, "key"));
    assert_null(cs_value_get(&table, "Key"));
    assert_non_null(cs_value_get(&table, "key"));
    cs_value_free(&table);
}

static void test_errors(void **state)
{
    struct cs_errors e = {0};

    (void)state;
    cs_errors_add(&e, "f.lua", 3, "bad %s", "thing");
    cs_errors_add(&e, "f.lua", 0, "whole file");
    cs_errors_add(&e, NULL, 0, "%d%%", 100);
    assert_string_equal(e.text, "f.lua:3: bad thing\nf.lua: whole file\n100%\n");
    assert_int_equal(e.len, strlen(e.text));
    assert_int_equal(e.count, 3);
    cs_errors_free(&e);
    assert_null(e.text);
}

#ifdef CS_FAULTS
static void test_copy_without_memory(void **state)
{
    struct cs_value from, to;
    bool finished = false;

    (void)state;
    make(&from);
    for (unsigned long n = 1; !finished; n++) {
        int err;

        cs_mem_fail_nth(n);
        err = cs_value_copy(&to, &from);
        finished = !cs_mem_failed();
        cs_mem_fail_nth(0);
        assert_int_equal(err, finished ? 0 : -ENOMEM);
        if (!finished) {
            assert_int_equal(to.type, CS_VALUE_NIL);
        }
        cs_value_free(&to);
    }
    cs_value_free(&from);
}

/* An error whose text is lost still counts. */
static void test_errors_without_memory(void **state)
{
    struct cs_errors e = {0};

    (void)state;
    cs_errors_add(&e, "f", 1, "first");
    cs_mem_fail_nth(1);
    cs_errors_add(&e, "f", 2, "second");
    cs_mem_fail_nth(0);
    cs_errors_add(&e, "f", 3, "third");
    assert_int_equal(e.count, 3);
    assert_string_equal(e.text, "f:1: first\nf:3: third\n");
    cs_errors_free(&e);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy_is_deep),
        cmocka_unit_test(test_copy_of_plain_values),
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_errors),
#ifdef CS_FAULTS
        cmocka_unit_test(test_copy_without_memory),
        cmocka_unit_test(test_errors_without_memory),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
