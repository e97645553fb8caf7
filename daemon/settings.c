/*
 * settings - see settings.h. A default goes through the same parser as what a user writes, so it
 * cannot mean something else.
 */
#include "daemon/settings.h"

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "build_info.h"
#include "daemon/json.h"
#include "daemon/suggest.h"
#include "daemon/units.h"
#include "ring/ring_set.h"

#define AT(field) offsetof(struct csd_settings, field)

static const struct csd_setting settings[] = {
    {.name = "workers",
     .kind = CSD_SETTING_AUTO,
     .offset = AT(workers),
     .fallback = "1",
     .min = 1,
     .max = CSD_WORKERS_MAX,
     .help = "threads that serve connections; \"auto\": one per CPU we may use"},
    {.name = "cells",
     .kind = CSD_SETTING_AUTO,
     .offset = AT(cells),
     .fallback = "1",
     .min = 1,
     .max = CS_RING_SET_MAX,
     .help = "copies of the scripts per worker, opened as they fill; \"auto\": as many as needed"},
    {.name = "user",
     .kind = CSD_SETTING_USER,
     .offset = AT(user),
     .help = "run as this user once all addresses are bound; needs a start as root"},
    {.name = "group",
     .kind = CSD_SETTING_GROUP,
     .offset = AT(group),
     .help = "run as this group; without it the user's own"},
    {.name = "log_level",
     .kind = CSD_SETTING_LEVEL,
     .offset = AT(log_level),
     .fallback = "info",
     .live = true,
     .help = "error, warn, notice, info or debug"},
    {.name = "log_file",
     .kind = CSD_SETTING_PATH,
     .offset = AT(log_file),
     .help = "log to this file instead of stderr; SIGUSR1 opens it again"},
    {.name = "log_connections",
     .kind = CSD_SETTING_BOOL,
     .offset = AT(log_connections),
     .fallback = "true",
     .live = true,
     .help = "one line at the end of each connection"},
    {.name = "control_socket",
     .kind = CSD_SETTING_SOCKET,
     .offset = AT(control_socket),
     .fallback = "/run/cosockd/control.sock",
     .help = "where cosockctl finds the daemon; \"\": nowhere"},
    {.name = "stop_timeout",
     .kind = CSD_SETTING_DURATION,
     .offset = AT(stop_timeout),
     .fallback = "30s",
     .max = 7 * 86400000ull,
     .never = true,
     .live = true,
     .help = "after SIGTERM: how long connections may finish before they are cut"},
    {.name = "reload_drain_timeout",
     .kind = CSD_SETTING_DURATION,
     .offset = AT(reload_drain_timeout),
     .fallback = "never",
     .max = 365 * 86400000ull,
     .never = true,
     .live = true,
     .help = "after a reload: how long connections of the old scripts may go on"},
    {.name = "script_dir",
     .kind = CSD_SETTING_PATH,
     .offset = AT(script_dir),
     .fallback = CS_SCRIPT_DIR,
     .live = true,
     .help = "where scripts are looked up that are not beside the configuration"},
    {.name = "library_dir",
     .kind = CSD_SETTING_PATH,
     .offset = AT(library_dir),
     .fallback = CS_SCRIPT_DIR "/lib",
     .live = true,
     .help = "where require finds the libraries"},
    {.name = "data_dir",
     .kind = CSD_SETTING_PATH,
     .offset = AT(data_dir),
     .fallback = CSD_DATA_DIR,
     .live = true,
     .help = "root of the files that scripts may open"},
    {.name = "ticket_keys",
     .kind = CSD_SETTING_PATH,
     .offset = AT(ticket_keys),
     .live = true,
     .help = "keys of TLS session tickets, a line each; without it random ones that change by "
             "themselves"},
    {.name = "lua_memory",
     .kind = CSD_SETTING_SIZE,
     .offset = AT(lua_memory),
     .fallback = "256M",
     .min = 1 << 20,
     .max = 1ull << 40,
     .zero = true,
     .live = true,
     .help = "memory that the scripts may use; 0: no limit"},
    {.name = "cpu_budget",
     .kind = CSD_SETTING_DURATION,
     .offset = AT(cpu_budget),
     .fallback = "200ms",
     .min = 10,
     .max = 3600000,
     .zero = true,
     .live = true,
     .help = "CPU time a coroutine may burn in one go; 0: no limit"},
    {.name = "write_buffer",
     .kind = CSD_SETTING_SIZE,
     .offset = AT(write_buffer),
     .fallback = "128k",
     .min = 4096,
     .max = 1ull << 30,
     .live = true,
     .help = "unsent bytes of a connection above which a writer waits"},
    {.name = "read_ahead",
     .kind = CSD_SETTING_SIZE,
     .offset = AT(read_ahead),
     .fallback = "128k",
     .min = 4096,
     .max = 1ull << 30,
     .live = true,
     .help = "unread bytes of a connection above which it is not read"},
    {.name = "flush_timeout",
     .kind = CSD_SETTING_DURATION,
     .offset = AT(flush_timeout),
     .fallback = "30s",
     .min = 1,
     .max = 86400000,
     .live = true,
     .help = "after close: how long the peer may take to receive the rest"},
    {.name = "drain_timeout",
     .kind = CSD_SETTING_DURATION,
     .offset = AT(drain_timeout),
     .fallback = "2s",
     .max = 86400000,
     .zero = true,
     .live = true,
     .help = "after that: how long to wait for the peer's end"},
    {.name = "sockets_max",
     .kind = CSD_SETTING_COUNT,
     .offset = AT(sockets_max),
     .fallback = "0",
     .min = 16,
     .max = 1 << 20,
     .zero = true,
     .help = "sockets at most; 0: as many as the limit of open files allows"},
    {.name = "maxconn",
     .kind = CSD_SETTING_COUNT,
     .offset = AT(maxconn),
     .fallback = "0",
     .min = 1,
     .max = 1 << 30,
     .zero = true,
     .live = true,
     .service = true,
     .help = "accepted connections at a time; more wait in the backlog; 0: no limit"},
    {.name = "limit_conn",
     .kind = CSD_SETTING_COUNT,
     .offset = AT(limit_conn),
     .fallback = "0",
     .min = 1,
     .max = 1 << 30,
     .zero = true,
     .live = true,
     .service = true,
     .help = "accepted connections of one client address at a time; more are closed; 0: no limit"},
};

static const struct {
    const char *name;
    enum cs_log_level level;
} levels[] = {{"error", CS_LOG_ERROR},
              {"warn", CS_LOG_WARN},
              {"notice", CS_LOG_NOTICE},
              {"info", CS_LOG_INFO},
              {"debug", CS_LOG_DEBUG}};

const struct csd_setting *csd_settings_table(size_t *count)
{
    *count = CS_ARRAY_LEN(settings);
    return settings;
}

/* ---- access by table entry ---- */

static char **text_of(const struct csd_setting *def, const struct csd_settings *s)
{
    return (char **)(void *)((char *)(uintptr_t)s + def->offset);
}

static uint64_t *number_of(const struct csd_setting *def, const struct csd_settings *s)
{
    return (uint64_t *)(void *)((char *)(uintptr_t)s + def->offset);
}

static bool *bool_of(const struct csd_setting *def, const struct csd_settings *s)
{
    return (bool *)(void *)((char *)(uintptr_t)s + def->offset);
}

static bool is_text(const struct csd_setting *def)
{
    return def->kind <= CSD_SETTING_SOCKET;
}

/* ---- one value ---- */

/* The value being read, and where to complain. */
struct reading {
    const struct csd_setting *def;
    const struct cs_value *value;
    const char *text; /* of a string value, else NULL */
    const char *base;
    struct cs_errors *errors;
};

static const char *type_text(const struct cs_value *v)
{
    static const char *const names[] = {"nothing",  "a boolean", "a number",
                                        "a number", "a string",  "a table"};

    return names[v->type];
}

/* "name: expected ..., got ..." */
static void complain(const struct reading *r, const char *expected)
{
    if (r->text) {
        cs_errors_add(r->errors, r->value->file, r->value->line, "%s: expected %s, got \"%s\"",
                      r->def->name, expected, r->text);
    } else if (r->value->type == CS_VALUE_INT) {
        cs_errors_add(r->errors, r->value->file, r->value->line, "%s: expected %s, got %" PRId64,
                      r->def->name, expected, r->value->integer);
    } else if (r->value->type == CS_VALUE_NUMBER) {
        cs_errors_add(r->errors, r->value->file, r->value->line, "%s: expected %s, got %.14g",
                      r->def->name, expected, r->value->number);
    } else {
        cs_errors_add(r->errors, r->value->file, r->value->line, "%s: expected %s, got %s",
                      r->def->name, expected, type_text(r->value));
    }
}

/* Not negative; also 1e6 and 64 * 1024 / 2, which are floats to Lua. */
static bool is_whole(const struct cs_value *v, uint64_t *n)
{
    if (v->type == CS_VALUE_INT) {
        *n = (uint64_t)v->integer;
        return v->integer >= 0;
    }
    bool whole = v->type == CS_VALUE_NUMBER && v->number >= 0 && v->number < 0x1p63 &&
                 v->number == floor(v->number);

    *n = whole ? (uint64_t)v->number : 0;
    return whole;
}

static const char *format_number(const struct csd_setting *def, uint64_t n, char *buf, size_t size)
{
    if (def->kind == CSD_SETTING_SIZE) {
        return csd_format_size(n, buf, size);
    }
    if (def->kind == CSD_SETTING_DURATION) {
        return csd_format_duration(n, buf, size);
    }
    (void)snprintf(buf, size, "%" PRIu64, n);
    return buf;
}

static void store_number(const struct reading *r, struct csd_settings *out, uint64_t n)
{
    const struct csd_setting *def = r->def;
    char min[CSD_UNITS_TEXT_MAX], max[CSD_UNITS_TEXT_MAX], expected[128];
    bool fits = n == CSD_NEVER ? def->never : n >= def->min && n <= def->max;

    if (fits || (n == 0 && def->zero)) {
        *number_of(def, out) = n;
        return;
    }
    (void)snprintf(
        expected, sizeof(expected), "%s to %s%s%s", format_number(def, def->min, min, sizeof(min)),
        format_number(def, def->max, max, sizeof(max)), def->zero ? ", or 0 for none" : "",
        def->never                      ? ", or \"never\""
        : def->kind == CSD_SETTING_AUTO ? ", or \"auto\""
                                        : "");
    complain(r, expected);
}

static void read_size(const struct reading *r, struct csd_settings *out)
{
    uint64_t n;

    if (is_whole(r->value, &n)) {
        store_number(r, out, n);
    } else if (r->text && csd_parse_size(r->text, &n)) {
        store_number(r, out, n);
    } else {
        complain(r, "a size such as \"16k\", \"10M\" or \"1G\"");
    }
}

/* A bare number would have to be guessed at: seconds to some, milliseconds to others. */
static void read_duration(const struct reading *r, struct csd_settings *out)
{
    uint64_t n;

    if (r->value->type == CS_VALUE_INT && r->value->integer == 0) {
        store_number(r, out, 0);
    } else if (r->text && csd_parse_duration(r->text, &n)) {
        store_number(r, out, n);
    } else {
        complain(r, "a time with its unit, such as \"500ms\", \"30s\", \"5m\" or \"1h\"");
    }
}

static void read_count(const struct reading *r, struct csd_settings *out)
{
    uint64_t n;

    if (is_whole(r->value, &n)) {
        store_number(r, out, n);
    } else if (!r->value->file && r->text && csd_parse_size(r->text, &n)) {
        store_number(r, out, n); /* a default, which is written as text */
    } else {
        complain(r, "a whole number");
    }
}

static void read_auto(const struct reading *r, struct csd_settings *out)
{
    if (r->text && strcmp(r->text, "auto") == 0) {
        *number_of(r->def, out) = CSD_AUTO;
    } else {
        read_count(r, out);
    }
}

static const char *level_word(size_t i, const void *arg)
{
    (void)arg;
    return i < CS_ARRAY_LEN(levels) ? levels[i].name : NULL;
}

static void read_level(const struct reading *r, struct csd_settings *out)
{
    const char *near;

    for (size_t i = 0; r->text && i < CS_ARRAY_LEN(levels); i++) {
        if (strcmp(r->text, levels[i].name) == 0) {
            *number_of(r->def, out) = levels[i].level;
            return;
        }
    }
    near = r->text ? csd_suggest(r->text, level_word, NULL) : NULL;
    if (near) {
        cs_errors_add(r->errors, r->value->file, r->value->line,
                      "%s: unknown level \"%s\"; did you mean \"%s\"?", r->def->name, r->text,
                      near);
    } else {
        complain(r, "\"error\", \"warn\", \"notice\", \"info\" or \"debug\"");
    }
}

static void read_bool(const struct reading *r, struct csd_settings *out)
{
    if (r->value->type == CS_VALUE_BOOL) {
        *bool_of(r->def, out) = r->value->boolean;
    } else if (!r->value->file && r->text) {
        *bool_of(r->def, out) = strcmp(r->text, "true") == 0;
    } else {
        complain(r, "true or false");
    }
}

char *csd_path_join(const char *dir, const char *name)
{
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path;

    if (name[0] == '/') {
        return cs_strdup(name);
    }
    path = cs_alloc(size);
    if (path) {
        (void)snprintf(path, size, "%s/%s", dir, name);
    }
    return path;
}

static bool text_allowed(const struct reading *r)
{
    if (!r->text) {
        complain(r, "a string");
        return false;
    }
    if (strlen(r->text) != r->value->string.len) {
        complain(r, "a string without zero bytes");
        return false;
    }
    if (r->text[0] == '\0' && r->def->kind != CSD_SETTING_SOCKET) {
        complain(r, "a string that is not empty");
        return false;
    }
    if (r->def->kind == CSD_SETTING_USER && !getpwnam(r->text)) {
        complain(r, "a user that exists");
        return false;
    }
    if (r->def->kind == CSD_SETTING_GROUP && !getgrnam(r->text)) {
        complain(r, "a group that exists");
        return false;
    }
    return true;
}

static int read_text(const struct reading *r, struct csd_settings *out)
{
    bool path = r->def->kind == CSD_SETTING_PATH || r->def->kind == CSD_SETTING_SOCKET;
    char *copy;

    if (!text_allowed(r)) {
        return 0;
    }
    copy = path && r->text[0] != '\0' ? csd_path_join(r->base, r->text) : cs_strdup(r->text);
    if (!copy) {
        return -ENOMEM;
    }
    if (r->def->kind == CSD_SETTING_SOCKET &&
        strlen(copy) >= sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
        complain(r, "a path of at most 107 bytes (a socket's address holds no more)");
    }
    cs_free(*text_of(r->def, out));
    *text_of(r->def, out) = copy;
    return 0;
}

static int read_value(struct csd_settings *out, const struct csd_setting *def,
                      const struct cs_value *value, const char *base, struct cs_errors *errors)
{
    struct reading r = {def, value, NULL, base, errors};

    if (value->type == CS_VALUE_STRING) {
        r.text = value->string.bytes;
    }
    switch (def->kind) {
    case CSD_SETTING_BOOL:
        read_bool(&r, out);
        return 0;
    case CSD_SETTING_COUNT:
        read_count(&r, out);
        return 0;
    case CSD_SETTING_SIZE:
        read_size(&r, out);
        return 0;
    case CSD_SETTING_DURATION:
        read_duration(&r, out);
        return 0;
    case CSD_SETTING_LEVEL:
        read_level(&r, out);
        return 0;
    case CSD_SETTING_AUTO:
        read_auto(&r, out);
        return 0;
    case CSD_SETTING_USER:
    case CSD_SETTING_GROUP:
    case CSD_SETTING_PATH:
    case CSD_SETTING_SOCKET:
        break;
    }
    return read_text(&r, out);
}

/* ---- all of them ---- */

static const char *setting_word(size_t i, const void *arg)
{
    (void)arg;
    return i < CS_ARRAY_LEN(settings) ? settings[i].name : NULL;
}

static void unknown_key(const struct cs_member *m, struct cs_errors *errors)
{
    const char *near = csd_suggest(m->key, setting_word, NULL);

    if (strcmp(m->key, "script") == 0 || strcmp(m->key, "listen") == 0) {
        cs_errors_add(errors, m->value.file, m->value.line,
                      "unknown setting \"%s\": it belongs into a block, service \"name\" { ... }",
                      m->key);
    } else if (near) {
        cs_errors_add(errors, m->value.file, m->value.line,
                      "unknown setting \"%s\"; did you mean \"%s\"?", m->key, near);
    } else {
        cs_errors_add(errors, m->value.file, m->value.line, "unknown setting \"%s\"", m->key);
    }
}

static const struct csd_setting *find(const char *name)
{
    for (size_t i = 0; i < CS_ARRAY_LEN(settings); i++) {
        if (strcmp(settings[i].name, name) == 0) {
            return &settings[i];
        }
    }
    return NULL;
}

/* A program that was not installed has its scripts beside it (a link that the build makes). False:
 * it has none. */
static bool beside_program(const char *fallback, char *path, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", path, size - 1);
    if (n < 0 || strncmp(fallback, CS_SCRIPT_DIR, strlen(CS_SCRIPT_DIR)) != 0) {
        return false;
    }
    path[n] = '\0';
    char *name = strrchr(path, '/') + 1;
    size_t room = size - (size_t)(name - path);
    int len = snprintf(name, room, "scripts%s", fallback + strlen(CS_SCRIPT_DIR));
    return (size_t)len < room && access(path, R_OK | X_OK) == 0;
}

static int read_defaults(struct csd_settings *out, const char *base, struct cs_errors *errors)
{
    char path[PATH_MAX];
    int err = 0;

    for (size_t i = 0; err == 0 && i < CS_ARRAY_LEN(settings); i++) {
        const char *text = settings[i].fallback;
        struct cs_value v = {.type = CS_VALUE_STRING};

        if (text) {
            text = beside_program(text, path, sizeof(path)) ? path : text;
            v.string.bytes = (char *)(uintptr_t)text;
            v.string.len = strlen(text);
            err = read_value(out, &settings[i], &v, base, errors);
        }
    }
    return err;
}

int csd_settings_read(struct csd_settings *out, const struct cs_value *table, const char *base,
                      struct cs_errors *errors)
{
    int err;

    *out = (struct csd_settings){0};
    err = read_defaults(out, base, errors);
    for (size_t i = 0; err == 0 && table && i < table->table.count; i++) {
        const struct cs_member *m = &table->table.members[i];
        const struct csd_setting *def = m->key ? find(m->key) : NULL;

        if (m->key && !def) {
            unknown_key(m, errors);
        } else if (def && m->value.type != CS_VALUE_NIL) { /* nil: reported by the reader */
            err = read_value(out, def, &m->value, base, errors);
        }
    }
    return err;
}

int csd_settings_read_service(struct csd_settings *out, const struct cs_value *block,
                              struct cs_errors *errors)
{
    int err = 0;

    *out = (struct csd_settings){0};
    for (size_t i = 0; err == 0 && i < CS_ARRAY_LEN(settings); i++) {
        const struct cs_value *v =
            settings[i].service ? cs_value_get(block, settings[i].name) : NULL;

        if (v && v->type != CS_VALUE_NIL) {
            err = read_value(out, &settings[i], v, "", errors);
        }
    }
    return err;
}

void csd_settings_free(struct csd_settings *s)
{
    for (size_t i = 0; i < CS_ARRAY_LEN(settings); i++) {
        if (is_text(&settings[i])) {
            cs_free(*text_of(&settings[i], s));
        }
    }
    *s = (struct csd_settings){0};
}

bool csd_setting_equal(const struct csd_setting *def, const struct csd_settings *a,
                       const struct csd_settings *b)
{
    if (is_text(def)) {
        const char *x = *text_of(def, a), *y = *text_of(def, b);

        return x && y ? strcmp(x, y) == 0 : x == y;
    }
    if (def->kind == CSD_SETTING_BOOL) {
        return *bool_of(def, a) == *bool_of(def, b);
    }
    return *number_of(def, a) == *number_of(def, b);
}

/* As one would write it in the configuration. */
static void setting_json(struct csd_json *j, const struct csd_setting *def,
                         const struct csd_settings *s)
{
    char buf[CSD_UNITS_TEXT_MAX];

    if (is_text(def)) {
        csd_json_string(j, def->name, *text_of(def, s));
        return;
    }
    switch (def->kind) {
    case CSD_SETTING_BOOL:
        csd_json_bool(j, def->name, *bool_of(def, s));
        break;
    case CSD_SETTING_LEVEL:
        for (size_t i = 0; i < CS_ARRAY_LEN(levels); i++) {
            if (levels[i].level == *number_of(def, s)) {
                csd_json_string(j, def->name, levels[i].name);
            }
        }
        break;
    case CSD_SETTING_SIZE:
    case CSD_SETTING_DURATION:
        csd_json_string(j, def->name, format_number(def, *number_of(def, s), buf, sizeof(buf)));
        break;
    case CSD_SETTING_AUTO:
        if (*number_of(def, s) == CSD_AUTO) {
            csd_json_string(j, def->name, "auto");
            break;
        }
        csd_json_uint(j, def->name, *number_of(def, s));
        break;
    default:
        csd_json_uint(j, def->name, *number_of(def, s));
        break;
    }
}

void csd_settings_json(struct csd_json *j, const char *key, const struct csd_settings *s)
{
    csd_json_open(j, key, '{');
    for (size_t i = 0; i < CS_ARRAY_LEN(settings); i++) {
        setting_json(j, &settings[i], s);
    }
    csd_json_close(j, '}');
}
