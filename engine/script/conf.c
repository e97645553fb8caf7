/*
 * conf - runs a configuration file and copies what it said into plain C values.
 *
 * The file's globals are an empty table whose __newindex notes the place of every assignment, so
 * each setting knows its file and line. Everything that can raise runs inside one lua_pcall
 * (conf_main); C memory is attached to the cs_conf as soon as it exists, so that an error from
 * anywhere leaves nothing behind. Chunks are named "#N", the index of the file: Lua shortens long
 * names in its messages, an index it leaves alone.
 */
#include "script/conf.h"

#include <errno.h>
#include <glob.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/mem.h"
#include "script/conf_value.h"

#define FILE_BYTES_MAX (8u << 20)
#define LUA_BYTES_MAX (64u << 20)
#define CPU_SECONDS_MAX 10
#define HOOK_INSTRUCTIONS 100000
#define INCLUDE_DEPTH_MAX 16
#define TABLE_DEPTH_MAX 32
#define VALUES_MAX 1000000u /* shared subtables are copied: without a bound, 2^depth of them */
#define PATH_TEXT_MAX 256
#define MAGIC "*?[{\\" /* what makes the name of an include a pattern */

/* Why the run cannot go on; whatever is raised then is not reported a second time. */
enum stop { GOING, NO_MEMORY, REPORTED };

struct open_file {
    int index; /* in conf->files */
    dev_t dev;
    ino_t ino;
};

struct reader {
    struct cs_conf *conf;
    struct cs_errors *errors;
    const char *path;
    size_t lua_bytes;
    bool lua_limit_hit; /* the last refused allocation was ours, not the system's */
    time_t cpu_end;
    enum stop stop;
    struct open_file open[INCLUDE_DEPTH_MAX]; /* the chain of includes being run */
    unsigned depth;
    size_t values;
    char where[PATH_TEXT_MAX]; /* of the value being copied: service "web": tls.cert */
};

/* Addresses serve as keys of the Lua registry: looking them up allocates nothing. */
static char key_env, key_settings, key_places, key_services;

/* ---- the Lua state ---- */

static struct reader *reader_of(lua_State *L)
{
    return *(struct reader **)lua_getextraspace(L);
}

/* Raises out of everything; conf_run turns r->stop into the result. */
static int raise_stop(lua_State *L, struct reader *r, enum stop why)
{
    r->stop = why;
    lua_pushnil(L);
    return lua_error(L);
}

static void *lua_allocator(void *ud, void *ptr, size_t old_size, size_t new_size)
{
    struct reader *r = ud;
    void *moved;

    if (!ptr) {
        old_size = 0; /* Lua puts the kind of the object there */
    }
    if (new_size > old_size && r->lua_bytes + (new_size - old_size) > LUA_BYTES_MAX) {
        r->lua_limit_hit = true;
        return NULL;
    }
    moved = cs_resize_sized(ptr, old_size, new_size);
    if (moved || new_size == 0) {
        r->lua_bytes = r->lua_bytes - old_size + new_size;
    } else {
        r->lua_limit_hit = false;
    }
    return moved;
}

static time_t cpu_seconds(void)
{
    struct timespec ts = {0};

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return ts.tv_sec;
}

static void count_hook(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    if (cpu_seconds() >= reader_of(L)->cpu_end) {
        lua_pushfstring(L, "does not end: it has used %d seconds of CPU", CPU_SECONDS_MAX);
        (void)lua_error(L);
    }
}

/* "#FILE:LINE: rest" or "#FILE" to its parts. Returns the rest, NULL when it is something else. */
static const char *parse_place(const char *text, int *file, int *line)
{
    char *end;

    if (text[0] != '#' || text[1] < '0' || text[1] > '9') {
        return NULL;
    }
    *file = (int)strtol(text + 1, &end, 10);
    *line = 0;
    if (*end == ':') {
        *line = (int)strtol(end + 1, &end, 10);
        return strncmp(end, ": ", 2) == 0 ? end + 2 : NULL;
    }
    return *end == '\0' ? end : NULL;
}

/* The Lua code nearest to the running C function: index of its file, and the line. */
static bool lua_place(lua_State *L, int *file, int *line)
{
    lua_Debug ar;

    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        if (lua_getinfo(L, "Sl", &ar) && ar.currentline > 0 &&
            parse_place(ar.short_src, file, line)) {
            *line = ar.currentline;
            return true;
        }
    }
    return false;
}

/* Gives a message that has no place the one where it was raised. */
static int message_handler(lua_State *L)
{
    int file, line;
    const char *text;

    if (lua_type(L, 1) != LUA_TSTRING) {
        lua_pushfstring(L, "error object is a %s", luaL_typename(L, 1));
        lua_replace(L, 1);
    }
    text = lua_tostring(L, 1);
    if (!parse_place(text, &file, &line) && lua_place(L, &file, &line)) {
        lua_pushfstring(L, "#%d:%d: %s", file, line, text);
    }
    return 1;
}

static const char *file_name(const struct reader *r, int index)
{
    return index >= 0 && (size_t)index < r->conf->file_count ? r->conf->files[index] : r->path;
}

/* Takes the error value off the stack and reports it. False: the whole run is over. */
static bool report(lua_State *L, struct reader *r, int status, int file)
{
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "unknown error";
    const char *rest;
    int line = 0;

    if (r->stop == GOING) {
        if (status == LUA_ERRMEM && !r->lua_limit_hit) {
            r->stop = NO_MEMORY;
        } else if (status == LUA_ERRMEM) {
            cs_errors_add(r->errors, file_name(r, file), 0, "needs more than %u MiB of memory",
                          LUA_BYTES_MAX >> 20);
            r->stop = REPORTED;
        } else {
            rest = parse_place(text, &file, &line);
            cs_errors_add(r->errors, file_name(r, file), line, "%s", rest ? rest : text);
            if (cpu_seconds() >= r->cpu_end) {
                r->stop = REPORTED;
            }
        }
    }
    lua_pop(L, 1);
    return r->stop == GOING;
}

/* ---- files ---- */

static int add_file(struct reader *r, const char *path)
{
    struct cs_conf *c = r->conf;
    char **files = cs_realloc(c->files, (c->file_count + 1) * sizeof(*files));

    if (!files) {
        return -ENOMEM;
    }
    c->files = files;
    files[c->file_count] = cs_strdup(path);
    if (!files[c->file_count]) {
        return -ENOMEM;
    }
    return (int)c->file_count++;
}

/* The whole file in memory. 0, -errno; -EFBIG above the limit. */
static int slurp(FILE *f, char **out, size_t *out_len)
{
    char *bytes = NULL;
    size_t len = 0, size = 0;

    while (!feof(f)) {
        if (len == size) {
            size = size ? size * 2 : 16384;
            char *bigger = size <= FILE_BYTES_MAX ? cs_realloc(bytes, size) : NULL;
            if (!bigger) {
                cs_free(bytes);
                return size <= FILE_BYTES_MAX ? -ENOMEM : -EFBIG;
            }
            bytes = bigger;
        }
        errno = 0;
        len += fread(bytes + len, 1, size - len, f);
        if (ferror(f)) {
            int err = errno ? -errno : -EIO;
            cs_free(bytes);
            return err;
        }
    }
    *out = bytes;
    *out_len = len;
    return 0;
}

/* Compiles the file's text; the status of lua_load, with the chunk or its message on the stack.
 * Never raises. The first line may be "#!...". */
static int load_text(lua_State *L, const char *bytes, size_t len, int index)
{
    char name[16];

    (void)snprintf(name, sizeof(name), "=#%d", index);
    if (len > 0 && bytes[0] == '#') {
        const char *end = memchr(bytes, '\n', len);
        size_t skip =
            end ? (size_t)(end - bytes) : len; /* keeps the line feed: lines still count */
        bytes += skip;
        len -= skip;
    }
    return luaL_loadbufferx(L, bytes, len, name, "t");
}

/* Loads and runs the text; every error is reported here. Never raises. */
static void run_text(lua_State *L, struct reader *r, const char *bytes, size_t len, int index)
{
    int status;

    lua_pushcfunction(L, message_handler);
    status = load_text(L, bytes, len, index);
    if (status == LUA_OK) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &key_env);
        lua_setupvalue(L, -2, 1);
        status = lua_pcall(L, 0, 0, -2);
    }
    if (status != LUA_OK) {
        (void)report(L, r, status, index);
    }
    lua_pop(L, 1);
}

/* Opens, notes and runs one file. 0, or -errno when it could not be read: for the caller to report.
 * Never raises. */
static int run_file(lua_State *L, struct reader *r, const char *path)
{
    struct stat st;
    char *bytes = NULL;
    size_t len = 0;
    int index, err;
    FILE *f = fopen(path, "re");

    if (!f) {
        return -errno;
    }
    err = fstat(fileno(f), &st) == 0 ? 0 : -errno;
    for (unsigned i = 0; err == 0 && i < r->depth; i++) {
        if (r->open[i].dev == st.st_dev && r->open[i].ino == st.st_ino) {
            err = -ELOOP;
        }
    }
    if (err == 0) {
        err = r->depth < INCLUDE_DEPTH_MAX ? slurp(f, &bytes, &len) : -EMLINK;
    }
    (void)fclose(f);
    if (err == 0) {
        index = add_file(r, path);
        err = index < 0 ? index : 0;
    }
    if (err == 0) {
        r->open[r->depth++] = (struct open_file){index, st.st_dev, st.st_ino};
        run_text(L, r, bytes, len, index);
        r->depth--;
    }
    cs_free(bytes);
    return err;
}

static const char *file_error_text(int err)
{
    switch (err) {
    case -ELOOP:
        return "includes itself";
    case -EMLINK:
        return "includes are nested too deeply";
    case -EFBIG:
        return "too large for a configuration file";
    default:
        return strerror(-err);
    }
}

/* ---- what the file can call ---- */

static lua_Integer packed_place(lua_State *L)
{
    int file = 0, line = 0;

    (void)lua_place(L, &file, &line);
    return ((lua_Integer)file << 32) | line;
}

/* env.KEY = VALUE */
static int env_newindex(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_places);
    lua_pushvalue(L, 2);
    lua_pushinteger(L, packed_place(L));
    lua_rawset(L, -3);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_settings);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 3);
    lua_rawset(L, -3);
    return 0;
}

/* The second half of service "name" { ... }: upvalue 1 is the record. */
static int service_block(lua_State *L)
{
    lua_settop(L, 1);
    lua_rawseti(L, lua_upvalueindex(1), 3);
    return 0;
}

/* service "name" { ... }, or service("name", { ... }). A record is { name, place, block }; whether
 * the block is one is looked at in the end, so that this is not the only error reported. */
static int conf_service(lua_State *L)
{
    size_t len;

    (void)luaL_checklstring(L, 1, &len);
    lua_settop(L, 2);
    lua_createtable(L, 3, 0);
    lua_pushvalue(L, 1);
    lua_rawseti(L, 3, 1);
    lua_pushinteger(L, packed_place(L));
    lua_rawseti(L, 3, 2);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_services);
    lua_pushvalue(L, 3);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    if (lua_isnil(L, 2)) {
        lua_pushvalue(L, 3);
        lua_pushcclosure(L, service_block, 1);
        return 1;
    }
    lua_pushvalue(L, 2);
    lua_rawseti(L, 3, 3);
    return 0;
}

/* env(name [, default]). A variable that must be there has no default: its absence is an error. */
static int conf_env(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const char *value = getenv(name);

    if (value) {
        lua_pushstring(L, value);
        return 1;
    }
    if (lua_gettop(L) < 2) {
        return luaL_error(L, "environment variable %s is not set and no default is given", name);
    }
    lua_settop(L, 2);
    return 1;
}

/* Relative to the file that is running, whose folder is no part of the pattern. The result lies on
 * the Lua stack. */
static const char *include_path(lua_State *L, const struct reader *r, const char *name,
                                bool pattern)
{
    const char *from = r->conf->files[r->open[r->depth - 1].index];
    const char *slash = strrchr(from, '/');
    luaL_Buffer b;

    if (name[0] == '/' || !slash) {
        return name;
    }
    luaL_buffinit(L, &b);
    for (const char *p = from; p <= slash; p++) {
        if (pattern && strchr(MAGIC ",]}", *p)) {
            luaL_addchar(&b, '\\');
        }
        luaL_addchar(&b, *p);
    }
    luaL_addstring(&b, name);
    luaL_pushresult(&b);
    return lua_tostring(L, -1);
}

/* Never raises, because a glob must be freed. The line is that of the include. */
static void run_included(lua_State *L, struct reader *r, const char *path, int line)
{
    const char *from = r->conf->files[r->open[r->depth - 1].index];
    int err = run_file(L, r, path);

    if (err == -ENOMEM) {
        r->stop = NO_MEMORY;
    } else if (err != 0) {
        cs_errors_add(r->errors, from, line, "include \"%s\": %s", path, file_error_text(err));
    }
}

/* For glob. A folder that is not there has no files; one that cannot be read may have some. */
static int folder_fails(const char *folder, int err)
{
    (void)folder;
    return err != ENOENT;
}

/* A pattern that matches nothing is no error, a missing file is one. */
static int conf_include(lua_State *L)
{
    struct reader *r = reader_of(L);
    const char *name = luaL_checkstring(L, 1);
    bool pattern = strpbrk(name, MAGIC) != NULL;
    const char *path = include_path(L, r, name, pattern);
    int file, line = 0, err;
    glob_t g;

    (void)lua_place(L, &file, &line);
    luaL_checkstack(L, 8, "too many nested includes");
    if (!pattern) {
        run_included(L, r, path, line);
    } else if ((err = glob(path, GLOB_NOMAGIC | GLOB_BRACE, folder_fails, &g)) == 0) {
        for (size_t i = 0; i < g.gl_pathc && r->stop == GOING; i++) {
            run_included(L, r, g.gl_pathv[i], line);
        }
        globfree(&g);
    } else if (err == GLOB_NOSPACE) {
        r->stop = NO_MEMORY;
    } else if (err != GLOB_NOMATCH) {
        return luaL_error(L, "include \"%s\": a directory cannot be read", name);
    }
    return r->stop == GOING ? 0 : raise_stop(L, r, r->stop);
}

/* ---- from Lua values to ours; nothing here raises ---- */

/* Appends to r->where; returns the old length, for restoring. */
static size_t where_push(struct reader *r, const char *format, const char *text)
{
    size_t len = strlen(r->where);

    if (len < sizeof(r->where) - 1) {
        (void)snprintf(r->where + len, sizeof(r->where) - len, format, text);
    }
    return len;
}

static int copy_value(lua_State *L, struct reader *r, struct cs_value *out,
                      const void *const *above, unsigned depth);

/* How many members: positional ones, and named ones. Reports keys that are neither. */
static void count_members(lua_State *L, struct reader *r, const struct cs_value *at,
                          size_t *positional, size_t *named)
{
    lua_Integer n = 0;

    while (lua_rawgeti(L, -1, n + 1) != LUA_TNIL) {
        lua_pop(L, 1);
        n++;
    }
    *positional = (size_t)n;
    *named = 0;
    /* The nil of rawgeti is still there: it starts the traversal. */
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            size_t len;
            const char *key = lua_tolstring(L, -1, &len);

            if (strlen(key) == len) {
                ++*named;
                continue;
            }
        } else if (lua_isinteger(L, -1) && lua_tointeger(L, -1) >= 1 && lua_tointeger(L, -1) <= n) {
            continue;
        }
        cs_errors_add(r->errors, at->file, at->line,
                      "%s: keys must be names, or 1, 2, 3 ... without a gap", r->where);
    }
}

/* The member whose value is on top of the stack. */
static int copy_member(lua_State *L, struct reader *r, struct cs_member *m,
                       const struct cs_value *at, const void *const *above, unsigned depth)
{
    size_t len = where_push(r, m->key ? ".%s" : "[]", m->key);
    int err;

    m->value.file = at->file;
    m->value.line = at->line;
    err = copy_value(L, r, &m->value, above, depth);
    r->where[len] = '\0';
    return err;
}

static int copy_named(lua_State *L, struct reader *r, struct cs_value *out, size_t next,
                      const void *const *above, unsigned depth)
{
    int err = 0;

    lua_pushnil(L);
    while (lua_next(L, -2)) {
        size_t len = 0;
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &len) : NULL;

        if (err == 0 && key && strlen(key) == len && next < out->table.count) {
            struct cs_member *m = &out->table.members[next++];

            m->key = cs_strdup(key);
            err = m->key ? copy_member(L, r, m, out, above, depth) : -ENOMEM;
        }
        lua_pop(L, 1);
    }
    return err;
}

static int member_compare(const void *a, const void *b)
{
    return strcmp(((const struct cs_member *)a)->key, ((const struct cs_member *)b)->key);
}

/* above: the tables that contain this one, `depth` of them. */
static int copy_table(lua_State *L, struct reader *r, struct cs_value *out,
                      const void *const *above, unsigned depth)
{
    const void *chain[TABLE_DEPTH_MAX];
    size_t positional, named;
    int err;

    for (unsigned i = 0; i < depth; i++) {
        chain[i] = above[i];
        if (chain[i] == lua_topointer(L, -1)) {
            cs_errors_add(r->errors, out->file, out->line, "%s: a table that contains itself",
                          r->where);
            return 0;
        }
    }
    if (depth == TABLE_DEPTH_MAX) {
        cs_errors_add(r->errors, out->file, out->line, "%s: tables are nested too deeply",
                      r->where);
        return 0;
    }
    chain[depth++] = lua_topointer(L, -1);
    if (!lua_checkstack(L, 8)) {
        return -ENOMEM;
    }
    count_members(L, r, out, &positional, &named);
    err = cs_value_set_table(out, positional + named);
    for (size_t i = 0; err == 0 && i < positional; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        err = copy_member(L, r, &out->table.members[i], out, chain, depth);
        lua_pop(L, 1);
    }
    if (err == 0 && named > 0) {
        err = copy_named(L, r, out, positional, chain, depth);
    }
    if (err == 0 && named > 1) {
        qsort(out->table.members + positional, named, sizeof(*out->table.members), member_compare);
    }
    return err;
}

/* The value on top of the stack, to *out, which has its place already. 0 (also when something was
 * reported) or -ENOMEM. */
static int copy_value(lua_State *L, struct reader *r, struct cs_value *out,
                      const void *const *above, unsigned depth)
{
    size_t len;
    const char *text;

    if (++r->values > VALUES_MAX) {
        if (r->values == VALUES_MAX + 1) {
            cs_errors_add(r->errors, out->file, out->line, "%s: more than %u values", r->where,
                          VALUES_MAX);
        }
        return 0;
    }
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        out->type = CS_VALUE_BOOL;
        out->boolean = lua_toboolean(L, -1);
        return 0;
    case LUA_TNUMBER:
        out->type = lua_isinteger(L, -1) ? CS_VALUE_INT : CS_VALUE_NUMBER;
        if (out->type == CS_VALUE_INT) {
            out->integer = lua_tointeger(L, -1);
        } else {
            out->number = lua_tonumber(L, -1);
        }
        return 0;
    case LUA_TSTRING:
        text = lua_tolstring(L, -1, &len);
        return cs_value_set_string(out, text, len);
    case LUA_TTABLE:
        return copy_table(L, r, out, above, depth);
    default:
        cs_errors_add(r->errors, out->file, out->line, "%s: a %s cannot be in a configuration",
                      r->where, luaL_typename(L, -1));
        return 0;
    }
}

static void place_set(const struct reader *r, struct cs_value *v, lua_Integer packed)
{
    v->file = file_name(r, (int)(packed >> 32));
    v->line = (int)(packed & 0x7fffffff);
}

/* The stack: places, settings. Every member has a place of its own. */
static int copy_settings(lua_State *L, struct reader *r)
{
    struct cs_value *out = &r->conf->settings;
    size_t positional, named, n = 0;
    int err;

    (void)snprintf(r->where, sizeof(r->where), "settings");
    out->file = r->conf->file_count > 0 ? r->conf->files[0] : NULL;
    count_members(L, r, out, &positional, &named);
    if (positional > 0) {
        cs_errors_add(r->errors, out->file, 0, "settings need names");
    }
    err = cs_value_set_table(out, named);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        size_t len = 0;
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &len) : NULL;

        if (err == 0 && key && strlen(key) == len && n < named) {
            struct cs_member *m = &out->table.members[n++];

            m->key = cs_strdup(key);
            err = m->key ? 0 : -ENOMEM;
            if (err == 0) {
                lua_pushvalue(L, -2);
                lua_rawget(L, -5); /* places[key] */
                place_set(r, &m->value, lua_tointeger(L, -1));
                lua_pop(L, 1);
                (void)snprintf(r->where, sizeof(r->where), "%s", key);
                err = copy_value(L, r, &m->value, NULL, 0);
            }
        }
        lua_pop(L, 1);
    }
    if (err == 0 && named > 1) {
        qsort(out->table.members, named, sizeof(*out->table.members), member_compare);
    }
    return err;
}

/* The record on top of the stack. */
static int copy_service(lua_State *L, struct reader *r, struct cs_conf_service *s)
{
    size_t len;
    const char *name;
    int err = 0;

    lua_rawgeti(L, -1, 2);
    place_set(r, &s->args, lua_tointeger(L, -1));
    lua_rawgeti(L, -2, 1);
    name = lua_tolstring(L, -1, &len);
    s->name = cs_strdup(name);
    if (!s->name) {
        lua_pop(L, 2);
        return -ENOMEM;
    }
    (void)snprintf(r->where, sizeof(r->where), "service \"%s\"", s->name);
    if (strlen(name) != len) {
        cs_errors_add(r->errors, s->args.file, s->args.line, "%s: a zero byte in the name",
                      r->where);
    }
    if (lua_rawgeti(L, -3, 3) == LUA_TTABLE) {
        err = copy_value(L, r, &s->args, NULL, 0);
    } else {
        cs_errors_add(r->errors, s->args.file, s->args.line,
                      lua_isnil(L, -1) ? "%s has no block: write service \"%s\" { ... }"
                                       : "%s: its block is no table: write service \"%s\" { ... }",
                      r->where, s->name);
        err = cs_value_set_table(&s->args, 0);
    }
    lua_pop(L, 3);
    return err;
}

/* The stack: services. */
static int copy_services(lua_State *L, struct reader *r)
{
    struct cs_conf *c = r->conf;
    size_t n = lua_rawlen(L, -1);
    int err = 0;

    if (n == 0) {
        return 0;
    }
    c->services = cs_zalloc(n * sizeof(*c->services));
    if (!c->services) {
        return -ENOMEM;
    }
    c->service_count = n;
    for (size_t i = 0; err == 0 && i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        err = copy_service(L, r, &c->services[i]);
        lua_pop(L, 1);
    }
    return err;
}

/* ---- the run ---- */

static void new_registry_table(lua_State *L, const void *key)
{
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

/* Leaves a table of all that a file may use. */
static void push_builtins(lua_State *L)
{
    static const char *const basic[] = {"ipairs",   "pairs",  "type",  "tostring",
                                        "tonumber", "select", "error", "assert"};
    static const luaL_Reg own[] = {
        {"service", conf_service}, {"include", conf_include}, {"env", conf_env}, {NULL, NULL}};

    luaL_newlib(L, own);
    luaL_requiref(L, LUA_GNAME, luaopen_base, 0);
    for (size_t i = 0; i < CS_ARRAY_LEN(basic); i++) {
        lua_getfield(L, -1, basic[i]);
        lua_setfield(L, -3, basic[i]);
    }
    lua_pop(L, 1);
    luaL_requiref(L, LUA_STRLIBNAME, luaopen_string, 0);
    lua_setfield(L, -2, LUA_STRLIBNAME);
    luaL_requiref(L, LUA_TABLIBNAME, luaopen_table, 0);
    lua_setfield(L, -2, LUA_TABLIBNAME);
    luaL_requiref(L, LUA_MATHLIBNAME, luaopen_math, 0);
    lua_setfield(L, -2, LUA_MATHLIBNAME);
}

/* env is always empty: reads find the settings, then the built-in names; writes come to us. */
static void make_environment(lua_State *L)
{
    new_registry_table(L, &key_env);
    new_registry_table(L, &key_settings);
    new_registry_table(L, &key_places);
    new_registry_table(L, &key_services);

    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_settings);
    lua_newtable(L);
    push_builtins(L);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);

    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_env);
    lua_newtable(L);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, env_newindex);
    lua_setfield(L, -2, "__newindex");
    lua_setmetatable(L, -2);
    lua_pop(L, 2);
}

static int conf_main(lua_State *L)
{
    struct reader *r = reader_of(L);
    int err;

    make_environment(L);
    lua_sethook(L, count_hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    err = run_file(L, r, r->path);
    lua_sethook(L, NULL, 0, 0);
    if (err != 0 && err != -ENOMEM) {
        cs_errors_add(r->errors, r->path, 0, "%s", file_error_text(err));
        err = 0;
    }
    if (err == 0 && r->stop != NO_MEMORY) {
        lua_settop(L, 0);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &key_places);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &key_settings);
        err = copy_settings(L, r);
    }
    if (err == 0 && r->stop != NO_MEMORY) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &key_services);
        err = copy_services(L, r);
    }
    return err == 0 ? 0 : raise_stop(L, r, NO_MEMORY);
}

int cs_conf_load(struct cs_conf *out, const char *path, struct cs_errors *errors)
{
    struct reader r = {.conf = out, .errors = errors, .path = path};
    lua_State *L;
    int status;

    *out = (struct cs_conf){.settings.type = CS_VALUE_NIL};
    r.cpu_end = cpu_seconds() + CPU_SECONDS_MAX;
    L = lua_newstate(lua_allocator, &r);
    if (!L) {
        return -ENOMEM;
    }
    *(struct reader **)lua_getextraspace(L) = &r;
    lua_pushcfunction(L, conf_main);
    status = lua_pcall(L, 0, 0, 0);
    if (status != LUA_OK) {
        (void)report(L, &r, status, -1);
    }
    lua_close(L);
    return r.stop == NO_MEMORY ? -ENOMEM : 0;
}
