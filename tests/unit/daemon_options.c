/*
 * daemon_options - the command line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "build_info.h"
#include "daemon/options.h"
#include "daemon/settings.h"

static struct csd_options o;
static char why[256];

/* The words after the program's name, NULL-terminated. */
static bool parse(const char *const *words)
{
    static char text[1024];
    static char *argv[32];
    int argc = 0;
    size_t used = 0;

    argv[argc++] = (char *)(uintptr_t) "cosockd";
    for (; *words; words++) {
        size_t len = strlen(*words) + 1;

        assert_true(used + len <= sizeof(text) && argc < 31);
        memcpy(text + used, *words, len);
        argv[argc++] = text + used;
        used += len;
    }
    argv[argc] = NULL;
    why[0] = '\0';
    return csd_options_parse(&o, argc, argv, why, sizeof(why));
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_refused(const char *const *words, const char *part)
{
    assert_false(parse(words));
    if (!strstr(why, part)) {
        fail_msg("no \"%s\" in: %s", part, why);
    }
    assert_null(strchr(why, '\n'));
}

static void test_nothing(void **state)
{
    (void)state;
    assert_true(parse((const char *const[]){NULL}));
    assert_int_equal(o.mode, CSD_MODE_RUN);
    assert_string_equal(o.conf_file, CS_CONF_FILE);
    assert_false(o.test || o.dump || o.quiet);
    assert_null(o.prefix);
}

static void test_daemon_options(void **state)
{
    (void)state;
    assert_true(parse(WORDS("-tqc", "x.lua", "-p", "dir", "-w", "1")));
    assert_true(o.test && o.quiet);
    assert_int_equal(o.workers, 1);
    assert_string_equal(o.conf_file, "x.lua");
    assert_string_equal(o.prefix, "dir");
    assert_true(parse(WORDS("--config=y.lua", "--dump", "--workers", "auto", "--test")));
    assert_true(o.test && o.dump);
    assert_true(o.workers_given && o.workers == CSD_AUTO);
    assert_string_equal(o.conf_file, "y.lua");
}

static void test_script(void **state)
{
    (void)state;
    assert_true(parse(WORDS("-p", "lib", "x.lua", "-t", "--", "-c")));
    assert_int_equal(o.mode, CSD_MODE_SCRIPT);
    assert_string_equal(o.script, "x.lua");
    assert_false(o.test);
    assert_int_equal(o.argc, 3);
    assert_string_equal(o.argv[0], "-t");
    assert_string_equal(o.argv[2], "-c");
    assert_true(parse(WORDS("-e", "print(1)")));
    assert_int_equal(o.mode, CSD_MODE_SCRIPT);
    assert_null(o.script);
    assert_string_equal(o.source, "print(1)");
    assert_true(parse(WORDS("-e", "x = 1", "s.lua", "a")));
    assert_string_equal(o.script, "s.lua");
    assert_int_equal(o.argc, 1);
    assert_true(parse(WORDS("-t", "s.lua")));
    assert_true(o.test);
}

static void test_other_modes(void **state)
{
    (void)state;
    assert_true(parse(WORDS("-v")));
    assert_int_equal(o.mode, CSD_MODE_VERSION);
    assert_true(parse(WORDS("-V")));
    assert_int_equal(o.mode, CSD_MODE_BUILD);
    assert_true(parse(WORDS("--settings")));
    assert_int_equal(o.mode, CSD_MODE_SETTINGS);
    assert_true(parse(WORDS("-h")));
    assert_int_equal(o.mode, CSD_MODE_HELP);
    assert_true(parse(WORDS("-?")));
    assert_int_equal(o.mode, CSD_MODE_HELP);
    assert_true(parse(WORDS("-h", "--nonsense")));
    assert_true(parse(WORDS("-s", "reload", "-c", "x.lua")));
    assert_int_equal(o.mode, CSD_MODE_SIGNAL);
    assert_string_equal(o.request, "reload");
    assert_string_equal(o.conf_file, "x.lua");
}

static void test_refused(void **state)
{
    (void)state;
    assert_refused(WORDS("-x"), "unknown option -x");
    assert_refused(WORDS("-tx"), "unknown option -x");
    assert_refused(WORDS("--nonsense"), "--nonsense");
    assert_refused(WORDS("--test=yes"), "--test takes no value");
    assert_refused(WORDS("-c"), "-c needs a value");
    assert_refused(WORDS("--config"), "--config needs a value");
    assert_refused(WORDS("-w", "257"), "-w 257: expected 1 to 256, or auto");
    assert_refused(WORDS("-w", "many"), "or auto");
    assert_refused(WORDS("-w", "-1"), "or auto");
    assert_refused(WORDS("-w", "2", "script.lua"), "a script runs in one worker");
    assert_refused(WORDS("-s", "restart"), "stop, quit, reload or reopen");
    assert_refused(WORDS("-c", "x.lua", "script.lua"), "-c does not go with script.lua");
    assert_refused(WORDS("-c", "x.lua", "-e", "x"), "-c does not go with -e");
    assert_refused(WORDS("-T", "script.lua"), "-T");
    assert_refused(WORDS("-e", "a", "-e", "b"), "-e can be given once");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing), cmocka_unit_test(test_daemon_options),
        cmocka_unit_test(test_script),  cmocka_unit_test(test_other_modes),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
