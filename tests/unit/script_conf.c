/*
 * script_conf - what a configuration file may say, what is refused and where, and that running out
 * of memory at any allocation leaves nothing behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "script/conf.h"

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/cosockd-conf-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[96];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

/* Its path; valid until the next call. */
static const char *write_file(const char *name, const char *text)
{
    static char path[256];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    return path;
}

static struct cs_conf conf;
static struct cs_errors errors;

static void load(const char *text)
{
    const char *path = write_file("main.lua", text);

    assert_int_equal(cs_conf_load(&conf, path, &errors), 0);
}

static int clear(void **state)
{
    (void)state;
    cs_conf_free(&conf);
    cs_errors_free(&errors);
    return 0;
}

static void assert_good(const char *text)
{
    load(text);
    if (errors.count > 0) {
        fail_msg("unexpected: %s", errors.text);
    }
}

static void assert_has(const char *part)
{
    if (!errors.text || !strstr(errors.text, part)) {
        fail_msg("no \"%s\" in: %s", part, errors.text ? errors.text : "(nothing)");
    }
}

/* Loads the text; its only error is at that line of main.lua and contains the part. */
static void assert_error(const char *text, int line, const char *part)
{
    char place[128];

    load(text);
    assert_has(part);
    (void)snprintf(place, sizeof(place), "%s/main.lua:%d: ", folder, line);
    assert_has(place);
    assert_int_equal(errors.count, 1);
    (void)clear(NULL);
}

static const struct cs_value *setting(const char *name)
{
    const struct cs_value *v = cs_value_get(&conf.settings, name);

    assert_non_null(v);
    return v;
}

/* ---- what is read ---- */

static void test_values(void **state)
{
    (void)state;
    assert_good("b = true\n"
                "i = 42\n"
                "n = 1.5\n"
                "s = 'a\\0b'\n"
                "t = { 'x', 'y', k = { z = false } }\n");
    assert_int_equal(setting("b")->type, CS_VALUE_BOOL);
    assert_true(setting("b")->boolean);
    assert_int_equal(setting("i")->type, CS_VALUE_INT);
    assert_int_equal(setting("i")->integer, 42);
    assert_int_equal(setting("n")->type, CS_VALUE_NUMBER);
    assert_true(fabs(setting("n")->number - 1.5) < 1e-9);
    assert_int_equal(setting("s")->string.len, 3);
    assert_memory_equal(setting("s")->string.bytes, "a\0b", 4);
    assert_int_equal(setting("t")->table.count, 3);
    assert_null(setting("t")->table.members[0].key);
    assert_string_equal(setting("t")->table.members[1].value.string.bytes, "y");
    assert_int_equal(cs_value_get(cs_value_get(setting("t"), "k"), "z")->type, CS_VALUE_BOOL);
    assert_null(cs_value_get(&conf.settings, "nothing"));
}

static void test_places(void **state)
{
    (void)state;
    assert_good("\na = 1\n\n\nb = 2; a = 3\nservice 'x' {\n}\n");
    assert_int_equal(setting("a")->line, 5);
    assert_int_equal(setting("b")->line, 5);
    assert_int_equal(conf.services[0].args.line, 6);
    assert_string_equal(setting("a")->file, conf.files[0]);
}

static void test_last_assignment_wins_and_nil_takes_back(void **state)
{
    (void)state;
    assert_good("a = 1\na = 'two'\nb = 1\nb = nil\n");
    assert_string_equal(setting("a")->string.bytes, "two");
    assert_null(cs_value_get(&conf.settings, "b"));
}

static void test_settings_can_be_read_back(void **state)
{
    (void)state;
    assert_good("a = 'x'\nb = a .. 'y'\nlocal c = 1\nd = c + 1\ne = undefined == nil\n");
    assert_string_equal(setting("b")->string.bytes, "xy");
    assert_int_equal(setting("d")->integer, 2);
    assert_true(setting("e")->boolean);
    assert_null(cs_value_get(&conf.settings, "c"));
}

static void test_services(void **state)
{
    (void)state;
    assert_good("service 'b' { script = 'b.lua', listen = { '1', '2' } }\n"
                "service('a', { script = 'a.lua' })\n");
    assert_int_equal(conf.service_count, 2);
    assert_string_equal(conf.services[0].name, "b");
    assert_string_equal(conf.services[1].name, "a");
    assert_int_equal(cs_value_get(&conf.services[0].args, "listen")->table.count, 2);
    assert_string_equal(cs_value_get(&conf.services[1].args, "script")->string.bytes, "a.lua");
    assert_int_equal(conf.services[1].args.line, 2);
}

static void test_names_are_sorted(void **state)
{
    (void)state;
    assert_good("t = { c = 1, a = 2, b = 3, 'first' }\n");
    assert_string_equal(setting("t")->table.members[1].key, "a");
    assert_string_equal(setting("t")->table.members[2].key, "b");
    assert_string_equal(setting("t")->table.members[3].key, "c");
}

static void test_libraries(void **state)
{
    (void)state;
    assert_good(
        "a = string.rep('x', 3) .. ('y'):upper() .. table.concat({1, 2}) .. math.max(1, 2)\n"
        "for k, v in pairs({}) do end for i in ipairs({}) do end\n"
        "b = tostring(tonumber('12')) .. type(1) .. select('#', 1, 2)\n"
        "assert(true)\n"
        "c = (os or io or require or load or dofile or pcall or setmetatable or rawset or\n"
        "     debug or coroutine or collectgarbage or _G or package) == nil\n");
    assert_string_equal(setting("a")->string.bytes, "xxxY122");
    assert_string_equal(setting("b")->string.bytes, "12number2");
    assert_true(setting("c")->boolean);
}

static void test_environment(void **state)
{
    (void)state;
    (void)setenv("CONF_TEST", "there", 1);
    (void)unsetenv("CONF_MISSING");
    assert_good("a = env 'CONF_TEST'\nb = env('CONF_MISSING', 'else')\n"
                "c = env('CONF_MISSING', nil) == nil\n");
    assert_string_equal(setting("a")->string.bytes, "there");
    assert_string_equal(setting("b")->string.bytes, "else");
    assert_true(setting("c")->boolean);
    (void)clear(NULL);
    assert_error("\na = env 'CONF_MISSING'\n", 2, "CONF_MISSING is not set");
}

static void test_empty_and_script_line(void **state)
{
    (void)state;
    assert_good("");
    assert_int_equal(conf.settings.table.count, 0);
    (void)clear(NULL);
    assert_good("#!/usr/bin/env cosockd\na = 1\n");
    assert_int_equal(setting("a")->line, 2);
    (void)clear(NULL);
    assert_good("#only this");
}

/* ---- includes ---- */

static void test_includes_in_order(void **state)
{
    char path[128];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/d", folder);
    (void)mkdir(path, 0755);
    (void)write_file("d/20.lua", "order = order .. '2'\nservice 'two' {}\n");
    (void)write_file("d/10.lua", "order = order .. '1'\n\nx = 5\n");
    (void)write_file("d/note.txt", "this is not Lua\n");
    assert_good("order = '0'\ninclude 'd/*.lua'\norder = order .. '3'\ninclude 'none/*.lua'\n");
    assert_string_equal(setting("order")->string.bytes, "0123");
    assert_int_equal(conf.file_count, 3);
    assert_non_null(strstr(conf.files[1], "d/10.lua"));
    assert_string_equal(setting("x")->file, conf.files[1]);
    assert_int_equal(setting("x")->line, 3);
    assert_string_equal(conf.services[0].args.file, conf.files[2]);
}

static void test_include_is_relative_to_its_file(void **state)
{
    (void)state;
    (void)write_file("d/inner.lua", "include '30.lua'\n");
    (void)write_file("d/30.lua", "deep = true\n");
    assert_good("include 'd/inner.lua'\n");
    assert_true(setting("deep")->boolean);
}

static void test_include_errors(void **state)
{
    (void)state;
    assert_error("\ninclude 'missing.lua'\n", 2, "missing.lua\": No such file");
    assert_error("include 'main.lua'\n", 1, "includes itself");
    assert_error("include(nil)\n", 1, "string expected");
    (void)write_file("bad.lua", "x = = 1\n");
    load("include 'bad.lua'\na = = 1\n");
    assert_has("main.lua:2: unexpected symbol"); /* the parser stops before anything is included */
    (void)clear(NULL);
    load("include 'bad.lua'\nerror 'second'\n");
    assert_has("bad.lua:1: unexpected symbol");
    assert_has("main.lua:2: second");
    assert_int_equal(errors.count, 2);
}

/* As one that a reload, no longer root, may not read: it would end its services without a word. */
static void test_a_folder_that_cannot_be_read_is_an_error(void **state)
{
    char path[128];

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/loop", folder);
    assert_int_equal(symlink("loop", path), 0);
    assert_error("\ninclude 'loop/*.lua'\n", 2, "loop/*.lua\": a directory cannot be read");
}

static void test_the_folder_of_an_include_is_no_pattern(void **state)
{
    const char *const names[] = {"[1]", "a*", "b?", "{c,d}", "e\\f"};
    char path[128];

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        assert_int_equal(mkdir(path, 0755), 0);
        (void)snprintf(path, sizeof(path), "%s/part1.lua", names[i]);
        (void)write_file(path, "part = 1\n");
        (void)snprintf(path, sizeof(path), "%s/main.lua", names[i]);
        assert_int_equal(cs_conf_load(&conf,
                                      write_file(path, "include 'part1.lua'\ninclude 'part*.lua'"),
                                      &errors),
                         0);
        assert_int_equal(errors.count, 0);
        assert_int_equal(conf.file_count, 3);
        cs_conf_free(&conf);
        assert_int_equal(cs_conf_load(&conf, write_file(path, "include 'missing.lua'"), &errors),
                         0);
        assert_int_equal(errors.count, 1);
        assert_non_null(strstr(errors.text, "missing.lua\": No such file"));
        (void)clear(NULL);
    }
}

static void test_deep_includes_end(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        char name[32], text[64];

        (void)snprintf(name, sizeof(name), "chain%d.lua", i);
        (void)snprintf(text, sizeof(text), "include 'chain%d.lua'\n", i + 1);
        (void)write_file(name, text);
    }
    load("include 'chain0.lua'\n");
    assert_has("nested too deeply");
    assert_int_equal(errors.count, 1);
}

/* ---- what is refused ---- */

static void test_unreadable(void **state)
{
    (void)state;
    assert_int_equal(cs_conf_load(&conf, "/nonexistent/x.lua", &errors), 0);
    assert_string_equal(errors.text, "/nonexistent/x.lua: No such file or directory\n");
    (void)clear(NULL);
    assert_int_equal(cs_conf_load(&conf, folder, &errors), 0);
    assert_has("Is a directory");
}

static void test_lua_errors(void **state)
{
    (void)state;
    assert_error("\nx = = 1\n", 2, "unexpected symbol near '='");
    assert_error("\n\nlocal t = nil\nt.x = 1\n", 4, "attempt to index a nil value");
    assert_error("servce 'x' {}\n", 1, "global 'servce'");
    assert_error("error 'mine'\n", 1, "mine");
    assert_error("error({})\n", 1, "error object is a table");
    assert_error("\nerror()\n", 2, "error object is a nil");
    assert_error("local function f() error('at the caller', 2) end\n\nf()\n", 3, "at the caller");
    assert_error("string.rep()\n", 1, "bad argument #1 to 'rep'");
    assert_error("assert(false)\n", 1, "assertion failed!");
}

static void test_bytecode_is_refused(void **state)
{
    (void)state;
    load("\033Lua...");
    assert_has("attempt to load a binary chunk");
}

static void test_values_that_cannot_be_kept(void **state)
{
    (void)state;
    assert_error("\nf = function() end\n", 2, "f: a function cannot be in a configuration");
    assert_error("t = { a = { b = print } , c = string.rep }\n", 1, "t.c: a function");
    assert_error("\nservice 'x' { cb = function() end }\n", 2, "service \"x\".cb: a function");
    assert_error("t = {} t.me = t\n", 1, "t.me: a table that contains itself");
    assert_error("t = { [5] = 1 }\n", 1, "keys must be names");
    assert_error("t = { [true] = 1 }\n", 1, "keys must be names");
    assert_error("t = { ['a\\0b'] = 1 }\n", 1, "keys must be names");
    assert_error("local t = {} for i = 1, 40 do t = { t } end\nx = t\n", 2, "nested too deeply");
    assert_error("local t = 1 for i = 1, 30 do t = { t, t } end\nx = t\n", 2, "values");
}

static void test_services_that_are_wrong(void **state)
{
    (void)state;
    assert_error("\nservice 'x'\n", 2, "service \"x\" has no block");
    assert_error("service {}\n", 1, "string expected");
    assert_error("service 'x' 'y'\n", 1, "its block is no table");
    assert_error("service('x', 1)\n", 1, "its block is no table");
    assert_error("service 'a\\0b' {}\n", 1, "zero byte");
}

static void test_all_errors_at_once(void **state)
{
    (void)state;
    load("a = print == nil and function() end\nservice 'x'\nb = function() end\nerror 'last'\n");
    assert_has("main.lua:1: a:");
    assert_has("main.lua:2: service \"x\"");
    assert_has("main.lua:3: b:");
    assert_has("main.lua:4: last");
    assert_int_equal(errors.count, 4);
}

/* ---- bounds ---- */

static void test_memory_is_bounded(void **state)
{
    (void)state;
    load("a = string.rep('x', 1 << 40)\n");
    assert_int_equal(errors.count, 1);
    (void)clear(NULL);
    load("local t = {} for i = 1, 1e9 do t[i] = 'x' .. i end\n");
    assert_has("needs more than 64 MiB of memory");
    assert_int_equal(errors.count, 1);
}

static void test_an_include_cannot_hide_a_bound(void **state)
{
    (void)state;
    (void)write_file("greedy.lua", "local t = {} for i = 1, 1e9 do t[i] = 'x' .. i end\n");
    load("include 'greedy.lua'\nerror 'not reached'\n");
    assert_has("64 MiB");
    assert_int_equal(errors.count, 1);
}

static void test_errors_are_bounded(void **state)
{
    (void)state;
    load("for i = 1, 1000 do service('s' .. i) end\n");
    assert_int_equal(errors.count, 1000);
    assert_has("too many errors");
    assert_null(strstr(errors.text, "s200"));
}

/* ---- memory ---- */

#ifdef CS_FAULTS
static void test_every_allocation_can_fail(void **state)
{
    char path[256];
    unsigned long n;
    bool finished = false;

    (void)state;
    (void)write_file("part.lua", "more = { 1, 2 }\n");
    (void)snprintf(path, sizeof(path), "%s",
                   write_file("main.lua", "a = 'x'\nt = { 'p', q = { r = 's' } }\n"
                                          "include 'part.lua'\n"
                                          "service 'web' { script = 'w.lua', listen = { '1' } }\n"
                                          "f = function() end\n"));
    for (n = 1; !finished; n++) {
        int err;

        cs_mem_fail_nth(n);
        err = cs_conf_load(&conf, path, &errors);
        finished = !cs_mem_failed();
        cs_mem_fail_nth(0);
        assert_true(err == 0 || err == -ENOMEM);
        if (finished) {
            assert_int_equal(err, 0);
            assert_int_equal(errors.count, 1);
            assert_int_equal(conf.service_count, 1);
        }
        (void)clear(NULL);
        assert_true(n < 100000);
    }
    assert_true(n > 100);
}
#endif

int main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, clear)
    const struct CMUnitTest tests[] = {
        TEST(test_values),
        TEST(test_places),
        TEST(test_last_assignment_wins_and_nil_takes_back),
        TEST(test_settings_can_be_read_back),
        TEST(test_services),
        TEST(test_names_are_sorted),
        TEST(test_libraries),
        TEST(test_environment),
        TEST(test_empty_and_script_line),
        TEST(test_includes_in_order),
        TEST(test_include_is_relative_to_its_file),
        TEST(test_include_errors),
        TEST(test_a_folder_that_cannot_be_read_is_an_error),
        TEST(test_the_folder_of_an_include_is_no_pattern),
        TEST(test_deep_includes_end),
        TEST(test_unreadable),
        TEST(test_lua_errors),
        TEST(test_bytecode_is_refused),
        TEST(test_values_that_cannot_be_kept),
        TEST(test_services_that_are_wrong),
        TEST(test_all_errors_at_once),
        TEST(test_memory_is_bounded),
        TEST(test_an_include_cannot_hide_a_bound),
        TEST(test_errors_are_bounded),
#ifdef CS_FAULTS
        TEST(test_every_allocation_can_fail),
#endif
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
