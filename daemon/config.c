/*
 * config - see config.h. Every check goes on after an error, so that one run shows them all.
 */
#include "daemon/config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "daemon/json.h"
#include "daemon/suggest.h"

#define NAME_MAX_BYTES 63

/* The script of services that name a folder of pages instead. */
#define PAGES_SCRIPT "pages.lua"

struct csd_config *csd_config_ref(struct csd_config *c)
{
    c->refs++;
    return c;
}

void csd_config_unref(struct csd_config *c)
{
    if (!c || --c->refs > 0) {
        return;
    }
    for (size_t i = 0; i < c->program.count; i++) {
        cs_free((char *)(uintptr_t)c->parts[i].path);
    }
    cs_free(c->parts);
    cs_free(c->limits);
    cs_free(c->app_argv);
    csd_settings_free(&c->settings);
    csd_ticket_keys_wipe(&c->ticket_keys);
    cs_conf_free(&c->conf);
    cs_free(c->path);
    cs_free(c);
}

/* Everything before the last slash, "." without one. NULL when out of memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (!slash) {
        return cs_strdup(".");
    }
    return slash == path ? cs_strdup("/") : cs_strndup(path, (size_t)(slash - path));
}

/* ---- services ---- */

/* Where a relative script name is looked up, in this order. */
struct search {
    const char *folders[3];
    size_t count;
};

static bool is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

/* The first folder that has it. *out stays NULL when none does. 0 or -ENOMEM. */
static int find_script(const struct search *s, const char *name, char **out)
{
    size_t tries = name[0] == '/' ? 1 : s->count;

    for (size_t i = 0; i < tries; i++) {
        char *path = csd_path_join(s->folders[i], name);

        if (!path) {
            return -ENOMEM;
        }
        if (is_file(path)) {
            *out = path;
            return 0;
        }
        cs_free(path);
    }
    return 0;
}

static void script_missing(const struct search *s, const struct cs_conf_service *service,
                           const char *script, struct cs_errors *errors)
{
    const char *file = service->args.file;
    int line = service->args.line;

    if (script[0] == '/') {
        cs_errors_add(errors, file, line, "service \"%s\": script \"%s\" does not exist",
                      service->name, script);
    } else if (s->count == 3) {
        cs_errors_add(errors, file, line,
                      "service \"%s\": script \"%s\" is neither in %s nor in %s nor in %s",
                      service->name, script, s->folders[0], s->folders[1], s->folders[2]);
    } else {
        cs_errors_add(errors, file, line,
                      "service \"%s\": script \"%s\" is neither in %s nor in %s", service->name,
                      script, s->folders[0], s->folders[1]);
    }
}

static bool name_allowed(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= NAME_MAX_BYTES &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == len;
}

static void check_name(const struct cs_conf *conf, size_t i, struct cs_errors *errors)
{
    const struct cs_conf_service *s = &conf->services[i];

    if (!name_allowed(s->name)) {
        cs_errors_add(errors, s->args.file, s->args.line,
                      "service \"%s\": a name has 1 to %d letters, digits, \"_\", \".\" or \"-\"",
                      s->name, NAME_MAX_BYTES);
    }
    for (size_t k = 0; k < i; k++) {
        const struct cs_conf_service *other = &conf->services[k];

        if (strcmp(other->name, s->name) == 0) {
            cs_errors_add(errors, s->args.file, s->args.line,
                          "service \"%s\" is already defined at %s:%d", s->name, other->args.file,
                          other->args.line);
            return;
        }
    }
}

static const char *argument_word(size_t i, const void *arg)
{
    const struct cs_value *args = arg;

    while (i < args->table.count && !args->table.members[i].key) {
        i++; /* positional ones come first and have no name */
    }
    return i < args->table.count ? args->table.members[i].key : NULL;
}

static bool is_kind(const char *path, mode_t kind)
{
    struct stat st;

    return stat(path, &st) == 0 && (st.st_mode & S_IFMT) == kind;
}

/* `app`, a folder or a ZIP file relative to the folder of the main file, becomes a path of the
 * system. 0 or -ENOMEM. */
static int resolve_app(struct cs_conf_service *s, const char *folder, struct cs_errors *errors)
{
    struct cs_value *app = (struct cs_value *)(uintptr_t)cs_value_get(&s->args, "app");

    if (!app || app->type == CS_VALUE_NIL) {
        return 0;
    }
    if (app->type != CS_VALUE_STRING || app->string.len == 0 ||
        strlen(app->string.bytes) != app->string.len) {
        cs_errors_add(errors, s->args.file, s->args.line,
                      "service \"%s\": app must be the name of a folder", s->name);
        return 0;
    }
    char *path = csd_path_join(folder, app->string.bytes);

    if (!path) {
        return -ENOMEM;
    }
    if (!is_kind(path, S_IFDIR) && !is_kind(path, S_IFREG)) {
        cs_errors_add(errors, s->args.file, s->args.line,
                      "service \"%s\": app \"%s\" is no folder and no ZIP file", s->name, path);
    }
    cs_free(app->string.bytes);
    app->string.bytes = path;
    app->string.len = strlen(path);
    return 0;
}

/* The script's name, or NULL with the error reported. */
static const char *script_of(const struct cs_conf_service *s, struct cs_errors *errors)
{
    const struct cs_value *script = cs_value_get(&s->args, "script");
    const struct cs_value *app = cs_value_get(&s->args, "app");
    const char *near;

    if (!script && app) {
        return app->type == CS_VALUE_STRING ? PAGES_SCRIPT : NULL; /* NULL: reported already */
    }
    if (script && script->type == CS_VALUE_STRING && script->string.len > 0 &&
        strlen(script->string.bytes) == script->string.len) {
        return script->string.bytes;
    }
    if (script && script->type != CS_VALUE_NIL) {
        cs_errors_add(errors, s->args.file, s->args.line,
                      "service \"%s\": script must be the name of a file", s->name);
        return NULL;
    }
    near = csd_suggest("script", argument_word, &s->args);
    if (near) {
        cs_errors_add(errors, s->args.file, s->args.line,
                      "service \"%s\" has no script; did you mean it by \"%s\"?", s->name, near);
    } else {
        cs_errors_add(errors, s->args.file, s->args.line,
                      "service \"%s\" has no script: add script = \"FILE.lua\" or app = \"FOLDER\"",
                      s->name);
    }
    return NULL;
}

static struct cs_admit_limits limits_of(const struct csd_settings *s)
{
    return (struct cs_admit_limits){.max = (unsigned)s->maxconn,
                                    .max_client = (unsigned)s->limit_conn};
}

static int read_limits(struct cs_admit_service *out, const struct cs_conf_service *s,
                       struct cs_errors *errors)
{
    struct csd_settings own;
    int err = csd_settings_read_service(&own, &s->args, errors);

    *out = (struct cs_admit_service){.name = s->name, .limits = limits_of(&own)};
    return err;
}

int csd_config_admit(const struct csd_config *c, struct cs_admit *a)
{
    const struct cs_admit_limits all = limits_of(&c->settings);

    return cs_admit_configure(a, &all, c->limits, c->limits ? c->program.count : 0);
}

static int read_services(struct csd_config *c, const struct search *search,
                         struct cs_errors *errors)
{
    struct cs_conf *conf = &c->conf;

    c->parts = cs_zalloc(conf->service_count * sizeof(*c->parts));
    c->limits = cs_zalloc(conf->service_count * sizeof(*c->limits));
    if (!c->parts || !c->limits) {
        return -ENOMEM;
    }
    c->program.parts = c->parts;
    for (size_t i = 0; i < conf->service_count; i++) {
        struct cs_conf_service *s = &conf->services[i];
        char *path = NULL;

        check_name(conf, i, errors);
        if (resolve_app(s, search->folders[0], errors) != 0) {
            return -ENOMEM;
        }
        const char *script = script_of(s, errors);

        if (read_limits(&c->limits[i], s, errors) != 0) {
            return -ENOMEM;
        }
        if (script && find_script(search, script, &path) != 0) {
            return -ENOMEM;
        }
        if (script && !path) {
            script_missing(search, s, script, errors);
        }
        c->parts[c->program.count++] = (struct cs_program_part){.name = s->name,
                                                                .path = path,
                                                                .args = &s->args,
                                                                .file = s->args.file,
                                                                .line = s->args.line};
    }
    return 0;
}

/* ---- a file ---- */

/* One of the file's own must be there; the usual one need not be, until a script opens it. */
static void check_data_dir(const struct csd_config *c, struct cs_errors *errors)
{
    const struct cs_value *v = cs_value_get(&c->conf.settings, "data_dir");
    const char *path = c->settings.data_dir;
    struct stat st;

    if (v && path && strcmp(path, CSD_DATA_DIR) != 0 &&
        (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))) {
        cs_errors_add(errors, v->file, v->line, "data_dir: there is no folder %s", path);
    }
}

static int read_all(struct csd_config *c, const char *path, const char *prefix,
                    struct cs_errors *errors)
{
    struct search search = {.count = 0};
    char *folder = folder_of(path);
    int err;

    c->prefix = prefix;
    c->path = cs_strdup(path);
    if (!folder || !c->path) {
        cs_free(folder);
        return -ENOMEM;
    }
    err = cs_conf_load(&c->conf, path, errors);
    if (err == 0) {
        err = csd_settings_read(&c->settings, &c->conf.settings, prefix ? prefix : folder, errors);
    }
    if (err == 0) {
        check_data_dir(c, errors);
        csd_ticket_keys_read(&c->ticket_keys, c->settings.ticket_keys, errors);
        if (prefix) {
            search.folders[search.count++] = prefix;
        }
        search.folders[search.count++] = folder;
        search.folders[search.count++] = c->settings.script_dir;
        err = read_services(c, &search, errors);
    }
    cs_free(folder);
    return err;
}

static struct csd_config *config_new(void)
{
    struct csd_config *c = cs_zalloc(sizeof(*c));

    if (c) {
        c->refs = 1;
    }
    return c;
}

/* Its settings, as a cell wants them. */
static void make_cell(struct csd_config *c)
{
    const struct csd_settings *s = &c->settings;
    struct cs_cell_config *out = &c->cell;

    *out = (struct cs_cell_config){.lua_memory_max = (size_t)s->lua_memory,
                                   .cpu_budget_ms = (uint32_t)s->cpu_budget,
                                   .script_dir = c->prefix ? c->prefix : s->script_dir,
                                   .library_dir = s->library_dir,
                                   .data_dir = s->data_dir};
    cs_ring_config_default(&out->ring);
    cs_net_config_default(&out->net);
    out->ring.slots_max = (unsigned)s->sockets_max;
    out->net.out_high = (uint32_t)s->write_buffer;
    out->net.out_low = (uint32_t)s->write_buffer / 4;
    out->net.in_high = (uint32_t)s->read_ahead;
    out->net.in_low = (uint32_t)s->read_ahead / 4;
    out->net.flush_ms = (uint32_t)s->flush_timeout;
    out->net.drain_ms = (uint32_t)s->drain_timeout;
    out->net.log_connections = s->log_connections;
    c->program.config = out;
}

int csd_config_load(struct csd_config **out, const char *path, const char *prefix,
                    struct cs_errors *errors)
{
    struct csd_config *c = config_new();
    int err = c ? read_all(c, path, prefix, errors) : -ENOMEM;

    if (err != 0 || errors->count > 0) {
        csd_config_unref(c);
        c = NULL;
    }
    if (c) {
        make_cell(c);
    }
    *out = c;
    return err;
}

/* ---- a script without a file ---- */

/* A test makes and compares more between two waits than a service does, often on a busy machine. */
#define TEST_CPU_BUDGET_MS 1000

/* Where a script of the command line is: below -p DIR, where it says, or among those that are
 * shipped. What is nowhere stands as it is, and starting it says so. NULL when out of memory. */
static char *script_path(const struct csd_config *c, const char *name)
{
    const char *folders[] = {c->prefix, NULL, c->settings.script_dir}; /* NULL: as it stands */

    for (size_t i = 0; i < CS_ARRAY_LEN(folders) && name[0] != '/'; i++) {
        char *path = folders[i] ? csd_path_join(folders[i], name) : cs_strdup(name);

        if (!path || is_file(path)) {
            return path;
        }
        cs_free(path);
    }
    return cs_strdup(name);
}

static int script_parts(struct csd_config *c, const char *source, const char *script)
{
    c->parts = cs_zalloc(2 * sizeof(*c->parts));
    if (!c->parts) {
        return -ENOMEM;
    }
    c->program.parts = c->parts;
    if (!source && !script) {
        c->parts[c->program.count++] = (struct cs_program_part){.name = "cosockd test"};
    }
    if (source) {
        c->parts[c->program.count++] =
            (struct cs_program_part){.name = "(command line)", .source = source};
    }
    if (script) {
        char *path = script_path(c, script);

        if (!path) {
            return -ENOMEM;
        }
        c->parts[c->program.count++] = (struct cs_program_part){.name = script, .path = path};
    }
    return 0;
}

static int read_script(struct csd_config *c, const char *source, const char *script)
{
    struct cs_errors none = {0};
    int err = csd_settings_read(&c->settings, NULL, ".", &none);

    cs_errors_free(&none);
    /* A script's output is its own: no line per connection between. */
    c->settings.log_level = CS_LOG_NOTICE;
    c->settings.log_connections = false;
    if (!source && !script) {
        c->settings.cpu_budget = TEST_CPU_BUDGET_MS;
    }
    return err == 0 ? script_parts(c, source, script) : err;
}

int csd_config_script(struct csd_config **out, const char *prefix, const char *source,
                      const char *script, char **argv, int argc)
{
    struct csd_config *c = config_new();

    if (c) {
        c->prefix = prefix;
    }
    int err = c ? read_script(c, source, script) : -ENOMEM;

    if (err != 0) {
        csd_config_unref(c);
        c = NULL;
    } else {
        c->program.script_mode = true;
        c->program.testing = !source && !script;
        c->program.argv = argv;
        c->program.argc = argc;
        make_cell(c);
    }
    *out = c;
    return err;
}

/* Its path, or NULL when out of memory; where it is missing, starting it says so. */
static char *pages_script(const struct csd_config *c, const char *prefix)
{
    struct search search = {.count = 0};
    char *path = NULL;

    if (prefix) {
        search.folders[search.count++] = prefix;
    }
    search.folders[search.count++] = c->settings.script_dir;
    if (find_script(&search, PAGES_SCRIPT, &path) == 0 && !path) {
        path = csd_path_join(c->settings.script_dir, PAGES_SCRIPT);
    }
    return path;
}

int csd_config_app(struct csd_config **out, const char *prefix, const char *app, char **argv,
                   int argc)
{
    char **words = cs_zalloc(((size_t)argc + 2) * sizeof(*words));
    int err = words ? csd_config_script(out, prefix, NULL, PAGES_SCRIPT, words, argc + 1) : -ENOMEM;

    if (err != 0) {
        cs_free(words);
        *out = NULL;
        return err;
    }
    struct csd_config *c = *out;

    c->app_argv = words;
    words[0] = (char *)(uintptr_t)app;
    for (int i = 0; i < argc; i++) {
        words[i + 1] = argv[i];
    }
    cs_free((char *)(uintptr_t)c->parts[0].path);
    c->parts[0].path = pages_script(c, prefix);
    if (!c->parts[0].path) {
        csd_config_unref(c);
        *out = NULL;
        return -ENOMEM;
    }
    return 0;
}

/* ---- what others need of it ---- */

void csd_config_json(const struct csd_config *c, FILE *out)
{
    struct csd_json j;

    csd_json_begin(&j, out);
    csd_json_open(&j, NULL, '{');
    csd_json_string(&j, "configuration", c->path);
    csd_json_open(&j, "files", '[');
    for (size_t i = 0; i < c->conf.file_count; i++) {
        csd_json_string(&j, NULL, c->conf.files[i]);
    }
    csd_json_close(&j, ']');
    csd_settings_json(&j, "settings", &c->settings);
    csd_json_open(&j, "services", '[');
    for (size_t i = 0; i < c->program.count; i++) {
        const struct cs_program_part *p = &c->parts[i];

        csd_json_open(&j, NULL, '{');
        csd_json_string(&j, "name", p->name);
        csd_json_string(&j, "path", p->path);
        csd_json_string(&j, "file", p->file);
        csd_json_uint(&j, "line", (uint64_t)p->line);
        csd_json_value(&j, "arguments", p->args);
        csd_json_close(&j, '}');
    }
    csd_json_close(&j, ']');
    csd_json_close(&j, '}');
}

char *csd_config_control_socket(const char *path, const char *prefix, struct cs_errors *errors)
{
    struct cs_conf conf;
    struct csd_settings settings = {0};
    struct cs_errors ignored = {0};
    char *folder = folder_of(path), *socket = NULL;
    int err = folder ? cs_conf_load(&conf, path, errors) : -ENOMEM;

    if (err == 0 && (errors->count == 0 || cs_value_get(&conf.settings, "control_socket")) &&
        csd_settings_read(&settings, &conf.settings, prefix ? prefix : folder, &ignored) == 0) {
        socket = cs_strdup(settings.control_socket);
    }
    csd_settings_free(&settings);
    cs_errors_free(&ignored);
    if (folder) {
        cs_conf_free(&conf);
    }
    cs_free(folder);
    return socket;
}
