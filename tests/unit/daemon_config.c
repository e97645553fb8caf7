/*
 * daemon_config - settings and services: defaults, units, ranges, every class of error with its
 * place and all of them at once; and that conf/cosockd.lua says what is built in.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "daemon/config.h"
#include "daemon/units.h"

static char folder[64];
static char main_path[128];
static struct csd_config *config;
static struct cs_errors errors;

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

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/cosockd-config-XXXXXX");
    if (!mkdtemp(folder)) {
        return -1;
    }
    (void)snprintf(main_path, sizeof(main_path), "%s/main.lua", folder);
    (void)write_file("web.lua", "");
    return 0;
}

static int remove_folder(void **state)
{
    char command[96];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static int clear(void **state)
{
    (void)state;
    csd_config_unref(config);
    config = NULL;
    cs_errors_free(&errors);
    return 0;
}

static void load(const char *text)
{
    (void)write_file("main.lua", text);
    assert_int_equal(csd_config_load(&config, main_path, NULL, &errors), 0);
}

static const struct csd_settings *load_good(const char *text)
{
    (void)clear(NULL);
    load(text);
    if (errors.count > 0 || !config) {
        fail_msg("unexpected: %s", errors.text);
    }
    return &config->settings;
}

static void assert_has(const char *part)
{
    if (!errors.text || !strstr(errors.text, part)) {
        fail_msg("no \"%s\" in: %s", part, errors.text ? errors.text : "(nothing)");
    }
}

/* The text's only error is in that line. */
static void assert_error(const char *text, int line, const char *part)
{
    char place[160];

    (void)clear(NULL);
    load(text);
    assert_null(config);
    (void)snprintf(place, sizeof(place), "%s:%d: ", main_path, line);
    assert_has(place);
    assert_has(part);
    assert_int_equal(errors.count, 1);
}

/* ---- settings ---- */

static void test_defaults(void **state)
{
    const struct csd_settings *s = load_good("");

    (void)state;
    assert_int_equal(s->workers, 1);
    assert_int_equal(s->cells, 1);
    assert_null(s->user);
    assert_null(s->log_file);
    assert_int_equal(s->log_level, CS_LOG_INFO);
    assert_true(s->log_connections);
    assert_string_equal(s->control_socket, "/run/cosockd/control.sock");
    assert_int_equal(s->stop_timeout, 30000);
    assert_int_equal(s->lua_memory, 256 << 20);
    assert_int_equal(s->cpu_budget, 200);
}

static void test_values(void **state)
{
    const struct csd_settings *s =
        load_good("workers = 'auto'\ncells = 4\nlog_level = 'debug'\nlog_connections = false\n"
                  "stop_timeout = 'never'\nlua_memory = 0\ncpu_budget = 0\n"
                  "write_buffer = 128 * 1024 / 2\nread_ahead = '64k'\nsockets_max = 1000\n"
                  "control_socket = ''\ndrain_timeout = '500ms'\nmaxconn = 1e6\n");

    (void)state;
    assert_int_equal(s->workers, CSD_AUTO);
    assert_int_equal(s->cells, 4);
    assert_int_equal(s->log_level, CS_LOG_DEBUG);
    assert_false(s->log_connections);
    assert_true(s->stop_timeout == CSD_NEVER);
    assert_int_equal(s->lua_memory, 0);
    assert_int_equal(s->cpu_budget, 0);
    assert_int_equal(s->maxconn, 1000000);
    assert_int_equal(s->write_buffer, 65536);
    assert_int_equal(s->read_ahead, 65536);
    assert_int_equal(s->sockets_max, 1000);
    assert_string_equal(s->control_socket, "");
    assert_int_equal(s->drain_timeout, 500);
}

static void test_paths_begin_at_the_file(void **state)
{
    const struct csd_settings *s =
        load_good("log_file = 'x.log'\nscript_dir = '/abs'\ncontrol_socket = 'c.sock'\n");
    char expected[160];

    (void)state;
    (void)snprintf(expected, sizeof(expected), "%s/x.log", folder);
    assert_string_equal(s->log_file, expected);
    assert_string_equal(s->script_dir, "/abs");
    (void)snprintf(expected, sizeof(expected), "%s/c.sock", folder);
    assert_string_equal(s->control_socket, expected);
}

static void test_unknown_settings(void **state)
{
    (void)state;
    assert_error("log_lvel = 1\n", 1, "unknown setting \"log_lvel\"; did you mean \"log_level\"?");
    assert_error("\nzzzzzzz = 1\n", 2, "unknown setting \"zzzzzzz\"\n");
    assert_error("listen = '1'\n", 1, "it belongs into a block");
    assert_error("string = 'x'\n", 1, "unknown setting \"string\"");
}

static void test_wrong_types(void **state)
{
    (void)state;
    assert_error("log_level = 3\n", 1, "log_level: expected \"error\", \"warn\"");
    assert_error("log_level = 'inof'\n", 1, "unknown level \"inof\"; did you mean \"info\"?");
    assert_error("log_connections = 'yes'\n", 1, "expected true or false, got \"yes\"");
    assert_error("log_file = 5\n", 1, "log_file: expected a string, got 5");
    assert_error("log_file = ''\n", 1, "a string that is not empty");
    assert_error("log_file = 'a\\0b'\n", 1, "without zero bytes");
    assert_error("lua_memory = {}\n", 1, "expected a size such as \"16k\"");
    assert_error("lua_memory = -1\n", 1, "got -1");
    assert_error("lua_memory = 1.5\n", 1, "got 1.5");
    assert_error("sockets_max = '1k'\n", 1, "expected a whole number, got \"1k\"");
    assert_error("sockets_max = true\n", 1, "got a boolean");
}

static void test_durations_need_a_unit(void **state)
{
    (void)state;
    assert_error("stop_timeout = 30\n", 1, "a time with its unit");
    assert_error("stop_timeout = '30'\n", 1, "a time with its unit");
    assert_int_equal(load_good("stop_timeout = 0\n")->stop_timeout, 0);
}

static void test_ranges(void **state)
{
    (void)state;
    assert_error("cpu_budget = '1ms'\n", 1, "expected 10ms to 1h, or 0 for none, got \"1ms\"");
    assert_error("cpu_budget = 'never'\n", 1, "10ms to 1h");
    assert_error("stop_timeout = '8d'\n", 1, "0 to 7d, or \"never\"");
    assert_error("lua_memory = '1k'\n", 1, "expected 1M to 1T, or 0 for none");
    assert_error("write_buffer = 0\n", 1, "expected 4k to 1G, got 0");
    assert_error("sockets_max = 3\n", 1, "expected 16 to 1048576");
    assert_error("workers = 0\n", 1, "expected 1 to 256, or \"auto\", got 0");
    assert_error("cells = 65\n", 1, "expected 1 to 64, or \"auto\", got 65");
    assert_error("cells = 'some'\n", 1, "got \"some\"");
}

static void test_names_of_the_system(void **state)
{
    (void)state;
    assert_error("user = 'no such user'\n", 1, "a user that exists");
    assert_error("group = 'no such group'\n", 1, "a group that exists");
    assert_string_equal(load_good("user = 'root' group = 'root'")->user, "root");
}

static void test_long_socket_path(void **state)
{
    char text[256] = "control_socket = '/";

    (void)state;
    memset(text + strlen(text), 'x', 120);
    (void)snprintf(text + strlen(text), 8, "'\n");
    assert_error(text, 1, "at most 107 bytes");
}

/* ---- services ---- */

static void test_services(void **state)
{
    char expected[160];

    (void)state;
    (void)load_good("service 'a' { script = 'web.lua', any = { 'thing' } }\n"
                    "service 'b' { script = 'web.lua' }\n");
    assert_int_equal(config->program.count, 2);
    assert_string_equal(config->program.parts[0].name, "a");
    (void)snprintf(expected, sizeof(expected), "%s/web.lua", folder);
    assert_string_equal(config->program.parts[0].path, expected);
    assert_non_null(cs_value_get(config->program.parts[0].args, "any"));
    assert_int_equal(config->program.parts[1].line, 2);
    assert_false(config->program.script_mode);
}

static void test_where_scripts_are_found(void **state)
{
    char other[128], path[256], text[256];

    (void)state;
    (void)snprintf(other, sizeof(other), "%s/other", folder);
    (void)snprintf(path, sizeof(path), "mkdir -p %s", other);
    assert_int_equal(system(path), 0);
    (void)write_file("other/web.lua", "");
    (void)write_file("other/far.lua", "");
    (void)snprintf(text, sizeof(text),
                   "script_dir = 'other'\nservice 'a' { script = 'far.lua' }\n"
                   "service 'b' { script = 'web.lua' }\nservice 'c' { script = '%s/far.lua' }\n",
                   other);
    (void)load_good(text);
    (void)snprintf(path, sizeof(path), "%s/other/far.lua", folder);
    assert_string_equal(config->program.parts[0].path, path);
    assert_string_equal(config->program.parts[2].path, path);
    (void)snprintf(path, sizeof(path), "%s/web.lua", folder);
    assert_string_equal(config->program.parts[1].path, path);

    /* A prefix comes first. */
    (void)clear(NULL);
    (void)write_file("main.lua", "service 'b' { script = 'web.lua' }\n");
    assert_int_equal(csd_config_load(&config, main_path, other, &errors), 0);
    assert_non_null(config);
    (void)snprintf(path, sizeof(path), "%s/other/web.lua", folder);
    assert_string_equal(config->program.parts[0].path, path);
}

static void test_limits_of_connections(void **state)
{
    const struct csd_settings *s =
        load_good("maxconn = 1000\nlimit_conn = 20\nservice 'a' { script = 'web.lua' }\n"
                  "service 'b' { script = 'web.lua', maxconn = 10, limit_conn = 2 }\n");

    (void)state;
    assert_int_equal(s->maxconn, 1000);
    assert_int_equal(s->limit_conn, 20);
    assert_int_equal(config->limits[0].limits.max, 0);
    assert_int_equal(config->limits[0].limits.max_client, 0);
    assert_string_equal(config->limits[1].name, "b");
    assert_int_equal(config->limits[1].limits.max, 10);
    assert_int_equal(config->limits[1].limits.max_client, 2);
    assert_error("maxconn = '10k'\n", 1, "maxconn: expected a whole number, got \"10k\"");
    assert_error("service 'a' {\n script = 'web.lua',\n maxconn = -1 }\n", 1,
                 "maxconn: expected a whole number, got -1");
    assert_error("service 'a' { script = 'web.lua', limit_conn = 2000000000 }\n", 1,
                 "limit_conn: expected 1 to 1073741824, or 0 for none");
}

static void test_services_that_are_wrong(void **state)
{
    (void)state;
    assert_error("\nservice 'a' {}\n", 2, "service \"a\" has no script: add script");
    assert_error("service 'a' { scirpt = 'web.lua' }\n", 1, "did you mean it by \"scirpt\"?");
    assert_error("service 'a' { script = 5 }\n", 1, "script must be the name of a file");
    assert_error("service 'a' { script = 'none.lua' }\n", 1, "\"none.lua\" is neither in");
    assert_error("service 'a' { script = '/none.lua' }\n", 1, "\"/none.lua\" does not exist");
    assert_error("service 'a' { script = '/tmp' }\n", 1, "does not exist");
    assert_error("service 'a' { script = 'web.lua', app = '' }\n", 1,
                 "app must be the name of a folder");
    assert_error("service 'a' { app = 5 }\n", 1, "app must be the name of a folder");
    assert_error("service 'a b' { script = 'web.lua' }\n", 1, "a name has");
    assert_error("service '' { script = 'web.lua' }\n", 1, "a name has");
    assert_error("service 'a' { script = 'web.lua' }\nservice 'a' { script = 'web.lua' }\n", 2,
                 "already defined at");
}

static void test_all_errors_at_once(void **state)
{
    (void)state;
    load("log_lvel = 1\nstop_timeout = 3\nservice 'a' {}\nf = print or function() end\n"
         "user = 'nobody at all'\nerror 'at the end'\n");
    assert_null(config);
    assert_has("main.lua:1: unknown setting \"log_lvel\"");
    assert_has("main.lua:2: stop_timeout");
    assert_has("main.lua:3: service \"a\" has no script");
    assert_has("main.lua:4: f: a function");
    assert_has("main.lua:5: user");
    assert_has("main.lua:6: at the end");
}

/* ---- references, JSON, script mode ---- */

static void test_references(void **state)
{
    struct csd_config *again;

    (void)state;
    (void)load_good("service 'a' { script = 'web.lua' }\n");
    again = csd_config_ref(config);
    csd_config_unref(config);
    assert_string_equal(again->program.parts[0].name, "a");
    csd_config_unref(NULL);
}

static void test_json(void **state)
{
    char *text = NULL;
    size_t len;
    FILE *f;

    (void)state;
    (void)load_good("service 'a' { script = 'web.lua', n = { 1, x = 'q\"\\n\\255' } }\n");
    f = open_memstream(&text, &len);
    assert_non_null(f);
    csd_config_json(config, f);
    assert_int_equal(fclose(f), 0);
    assert_non_null(strstr(text, "\"stop_timeout\": \"30s\""));
    assert_non_null(strstr(text, "\"user\": null"));
    assert_non_null(strstr(text, "\"name\": \"a\""));
    assert_non_null(strstr(text, "\"x\": \"q\\\"\\n\\ufffd\""));
    assert_non_null(strstr(text, "\"1\": 1"));
    free(text);
}

static void test_cell_config(void **state)
{
    struct cs_cell_config cell;

    (void)state;
    (void)load_good("write_buffer = '64k'\ncpu_budget = '50ms'\nlog_connections = false\n");
    cell = config->cell;
    assert_int_equal(cell.net.out_high, 65536);
    assert_int_equal(cell.net.out_low, 16384);
    assert_int_equal(cell.cpu_budget_ms, 50);
    assert_false(cell.net.log_connections);
}

/* What this table and the engine each call their defaults is the same. */
static void test_defaults_are_those_of_the_engine(void **state)
{
    struct cs_cell_config cell;
    struct cs_net_config net;

    (void)state;
    (void)load_good("");
    cell = config->cell;
    cs_net_config_default(&net);
    assert_int_equal(cell.net.out_high, net.out_high);
    assert_int_equal(cell.net.out_low, net.out_low);
    assert_int_equal(cell.net.in_high, net.in_high);
    assert_int_equal(cell.net.in_low, net.in_low);
    assert_int_equal(cell.net.flush_ms, net.flush_ms);
    assert_int_equal(cell.net.drain_ms, net.drain_ms);
    assert_int_equal(cell.net.log_connections, net.log_connections);
}

static void test_script_mode(void **state)
{
    char *argv[] = {(char *)(uintptr_t) "one", NULL};

    (void)state;
    assert_int_equal(csd_config_script(&config, "pre", "x = 1", "s.lua", argv, 1), 0);
    assert_true(config->program.script_mode);
    assert_int_equal(config->program.count, 2);
    assert_string_equal(config->program.parts[0].source, "x = 1");
    assert_string_equal(config->program.parts[1].path, "s.lua");
    assert_int_equal(config->program.argc, 1);
    assert_false(config->settings.log_connections);
}

static void assert_control_socket(const char *text, const char *expected)
{
    char *path = csd_config_control_socket(write_file("main.lua", text), NULL, &errors);

    assert_string_equal(path, expected);
    cs_free(path);
    (void)clear(NULL);
}

static void test_control_socket_in_spite_of_errors(void **state)
{
    (void)state;
    assert_control_socket("control_socket = '/x.sock'\nnonsense = 1\nservice 'a' {}\n", "/x.sock");
    assert_control_socket("control_socket = '/x.sock'\nerror 'here'\n", "/x.sock");
    assert_control_socket("nonsense = 1\nservice 'a' {}\n", "/run/cosockd/control.sock");
}

/* Its daemon may have another one than the default, which is another daemon's. */
static void test_no_control_socket_when_the_file_cannot_be_read(void **state)
{
    (void)state;
    assert_null(csd_config_control_socket("/nonexistent", NULL, &errors));
    assert_has("/nonexistent: No such file");
    (void)clear(NULL);
    assert_null(csd_config_control_socket(
        write_file("main.lua", "error 'here'\ncontrol_socket = '/x.sock'\n"), NULL, &errors));
    assert_has("main.lua:1: here");
}

/* ---- the shipped file ---- */

static bool equal_settings(const struct csd_settings *a, const struct csd_settings *b)
{
    size_t count;
    const struct csd_setting *table = csd_settings_table(&count);

    for (size_t i = 0; i < count; i++) {
        if (!csd_setting_equal(&table[i], a, b)) {
            print_error("%s differs\n", table[i].name);
            return false;
        }
    }
    return true;
}

static char *read_shipped(void)
{
    static char text[16384];
    FILE *f = fopen("conf/cosockd.lua", "r");
    size_t len;

    if (!f) {
        return NULL;
    }
    len = fread(text, 1, sizeof(text) - 1, f);
    text[len] = '\0';
    (void)fclose(f);
    return text;
}

/* The shipped file with "-- name = value" turned into "name = value". Every setting must be there.
 */
static void uncomment(const char *shipped, char *out, size_t size)
{
    size_t count, used = 0;
    const struct csd_setting *table = csd_settings_table(&count);

    for (size_t i = 0; i < count; i++) {
        char start[64];
        const char *line;
        size_t len;

        (void)snprintf(start, sizeof(start), "\n-- %s = ", table[i].name);
        line = strstr(shipped, start);
        if (!line) {
            fail_msg("conf/cosockd.lua does not show %s", table[i].name);
            return;
        }
        line += strlen("\n-- ");
        len = strcspn(line, "\n");
        assert_true(used + len + 2 < size);
        memcpy(out + used, line, len);
        used += len;
        out[used++] = '\n';
    }
    out[used] = '\0';
}

static void test_shipped_file_is_the_default(void **state)
{
    static char text[16384];
    struct csd_config *shipped;
    char *file = read_shipped();

    (void)state;
    if (!file) {
        skip(); /* not run from the top of the tree */
    }
    (void)load_good("");
    assert_int_equal(csd_config_load(&shipped, "conf/cosockd.lua", NULL, &errors), 0);
    assert_non_null(shipped);
    assert_true(equal_settings(&shipped->settings, &config->settings));
    assert_int_equal(shipped->program.count, 0);
    csd_config_unref(shipped);

    shipped = csd_config_ref(config);
    uncomment(file, text, sizeof(text));
    (void)load_good(text);
    assert_true(equal_settings(&shipped->settings, &config->settings));
    csd_config_unref(shipped);
}

#ifdef CS_FAULTS
static void test_every_allocation_can_fail(void **state)
{
    bool finished = false;

    (void)state;
    (void)write_file("main.lua", "user = 'root'\nlog_file = 'x'\nscript_dir = '/s'\n"
                                 "service 'a' { script = 'web.lua', t = { 1 } }\n");
    for (unsigned long n = 1; !finished; n++) {
        int err;

        cs_mem_fail_nth(n);
        err = csd_config_load(&config, main_path, NULL, &errors);
        finished = !cs_mem_failed();
        cs_mem_fail_nth(0);
        assert_true(err == 0 || err == -ENOMEM);
        assert_true(config || err == -ENOMEM || errors.count > 0);
        assert_true(!finished || config);
        (void)clear(NULL);
    }
}
#endif

int main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, clear)
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),
        TEST(test_values),
        TEST(test_paths_begin_at_the_file),
        TEST(test_unknown_settings),
        TEST(test_wrong_types),
        TEST(test_durations_need_a_unit),
        TEST(test_ranges),
        TEST(test_names_of_the_system),
        TEST(test_long_socket_path),
        TEST(test_services),
        TEST(test_where_scripts_are_found),
        TEST(test_limits_of_connections),
        TEST(test_services_that_are_wrong),
        TEST(test_all_errors_at_once),
        TEST(test_references),
        TEST(test_json),
        TEST(test_cell_config),
        TEST(test_defaults_are_those_of_the_engine),
        TEST(test_script_mode),
        TEST(test_control_socket_in_spite_of_errors),
        TEST(test_no_control_socket_when_the_file_cannot_be_read),
        TEST(test_shipped_file_is_the_default),
#ifdef CS_FAULTS
        TEST(test_every_allocation_can_fail),
#endif
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
