/* program - parts of a program as start-up tasks. */
#include "script/program.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/bind_io.h"
#include "script/bind_test.h"
#include "script/globals.h"
#include "script/task.h"

struct loading {
    const struct cs_program *program;
    const struct cs_cell_config *config;
    const struct cs_program_part *part;
};

/* ---- arguments ---- */

static void CS_RAISES push_value(lua_State *L, const struct cs_value *v);

static void CS_RAISES push_table(lua_State *L, const struct cs_value *v)
{
    lua_newtable(L);
    for (size_t i = 0; i < v->table.count; i++) {
        const struct cs_member *m = &v->table.members[i];
        push_value(L, &m->value);
        if (m->key) {
            lua_setfield(L, -2, m->key);
        } else {
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
    }
}

static void CS_RAISES push_value(lua_State *L, const struct cs_value *v)
{
    luaL_checkstack(L, 3, "configuration nested too deeply");
    switch (v->type) {
    case CS_VALUE_NIL:
        lua_pushnil(L);
        break;
    case CS_VALUE_BOOL:
        lua_pushboolean(L, v->boolean);
        break;
    case CS_VALUE_INT:
        lua_pushinteger(L, v->integer);
        break;
    case CS_VALUE_NUMBER:
        lua_pushnumber(L, v->number);
        break;
    case CS_VALUE_STRING:
        lua_pushlstring(L, v->string.bytes, v->string.len);
        break;
    case CS_VALUE_TABLE:
        push_table(L, v);
        break;
    }
}

/* The chunk's `...`: the service's table, or the words of the command line. Returns how many. */
static int CS_RAISES push_arguments(lua_State *L, const struct loading *load)
{
    const struct cs_program *p = load->program;
    if (!p->script_mode) {
        if (load->part->args) {
            push_value(L, load->part->args);
        } else {
            lua_newtable(L);
        }
        return 1;
    }
    luaL_checkstack(L, p->argc + 2, "too many arguments");
    if (p->testing) {
        cs_test_push_engine(L);
    }
    for (int i = 0; i < p->argc; i++) {
        lua_pushstring(L, p->argv[i]);
    }
    return p->argc + p->testing;
}

/* The global `arg`, as the lua command makes it. */
static void CS_RAISES set_arg(lua_State *L, const struct cs_program *p)
{
    lua_createtable(L, p->argc, 1);
    lua_pushstring(L, p->parts[0].name);
    lua_rawseti(L, -2, 0);
    for (int i = 0; i < p->argc; i++) {
        lua_pushstring(L, p->argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setglobal(L, "arg");
}

/* ---- modules ---- */

/* Puts what stands for a folder in front of package.path, where it stands once. */
static void CS_RAISES add_path(lua_State *L, const char *dir, size_t len)
{
    lua_getglobal(L, "package");
    lua_pushlstring(L, dir, len);
    const char *d = lua_tostring(L, -1);
    const char *own = lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s/lib/?.lua;", d, d, d);
    lua_getfield(L, -3, "path");
    luaL_gsub(L, lua_tostring(L, -1), own, "");
    lua_remove(L, -2);
    lua_concat(L, 2);
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}

/* The folder that a file is in. */
static void CS_RAISES add_folder_of(lua_State *L, const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    add_path(L, slash ? path : ".", slash ? (size_t)(slash - path) : 1);
}

/* Where all services find modules; each adds its folders to it. */
static void CS_RAISES begin_path(lua_State *L, const struct cs_cell_config *config)
{
    lua_getglobal(L, "package");
    lua_pushliteral(L, "");
    lua_setfield(L, -2, "path");
    lua_pop(L, 1);
    if (config->script_dir) {
        add_path(L, config->script_dir, strlen(config->script_dir));
    }
    if (config->library_dir) {
        add_path(L, config->library_dir, strlen(config->library_dir));
    }
}

static void CS_RAISES add_folders(lua_State *L, const struct loading *load)
{
    if (load->part->file) {
        add_folder_of(L, load->part->file);
    }
    add_folder_of(L, load->part->path);
}

/* ---- errors ---- */

/* Without the traceback: a configuration's mistake is to fit a line. */
static void load_failed(struct cs_vm *vm, const char *service, const char *text)
{
    const struct cs_program *p = vm->load_program;
    const char *trace = text ? strstr(text, "\nstack traceback:") : NULL;
    const char *shown = text ? text : "not enough memory";
    int len = (int)(trace ? trace - shown : (ptrdiff_t)strlen(shown));
    size_t i = 0;
    while (i < p->count && p->parts[i].name != service) {
        i++;
    }
    if (i == p->count || p->script_mode) {
        cs_errors_add(vm->load_errors, NULL, 0, "%.*s", len, shown);
    } else {
        cs_errors_add(vm->load_errors, p->parts[i].file, p->parts[i].line, "service \"%s\": %.*s",
                      service, len, shown);
    }
}

/* ---- chunks ---- */

/* Each service has globals of its own, and sees the common ones. */
static void CS_RAISES set_environment(lua_State *L, const struct loading *load)
{
    lua_newtable(L);
    cs_push_io(L, load->config->data_dir);
    lua_setfield(L, -2, "io");
    lua_newtable(L);
    lua_pushglobaltable(L);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setupvalue(L, -2, 1); /* _ENV of a main chunk */
}

static int CS_RAISES load_chunk(lua_State *L, const struct loading *load)
{
    const struct cs_program_part *part = load->part;
    if (load->program->testing) {
        return cs_test_load_runner(L);
    }
    if (!part->source) {
        return luaL_loadfilex(L, part->path, "t");
    }
    lua_pushfstring(L, "=%s", part->name);
    int status = luaL_loadbufferx(L, part->source, strlen(part->source), lua_tostring(L, -1), "t");
    lua_remove(L, -2);
    return status;
}

static void chunk_ended(struct cs_task *t, int err)
{
    if (err < 0 && t->vm->script_mode) {
        t->vm->exit_status = EXIT_FAILURE;
    }
}

static const struct cs_task_hooks chunk_hooks = {.ended = chunk_ended};

/* Lua: (loading). Runs protected. */
static int start_part(lua_State *L)
{
    const struct loading *load = lua_touserdata(L, 1);
    if (load->part == load->program->parts) {
        begin_path(L, load->config);
        if (load->program->check_only) {
            cs_io_read_only(L);
        }
    }
    add_folders(L, load);
    if (load->program->script_mode) {
        set_arg(L, load->program);
        cs_io_open_script_mode(L);
    }
    if (load_chunk(L, load) != LUA_OK) {
        return lua_error(L);
    }
    if (!load->program->script_mode) {
        set_environment(L, load);
    }
    if (load->program->check_only) {
        cs_globals_note(L, load->part->path ? load->part->path : load->part->name);
    }
    struct cs_task *t = cs_task_create(L, CS_TASK_STARTUP, NULL, push_arguments(L, load));
    t->hooks = &chunk_hooks;
    cs_task_start(t);
    return 0;
}

void cs_program_start(struct cs_vm *vm, const struct cs_program *program,
                      const struct cs_cell_config *config, struct cs_errors *errors)
{
    vm->load_program = program;
    vm->load_errors = errors;
    vm->load_failed = load_failed;
    for (size_t i = 0; i < program->count; i++) {
        struct loading load = {program, config, &program->parts[i]};
        vm->name = load.part->name;
        lua_pushcfunction(vm->L, start_part);
        lua_pushlightuserdata(vm->L, &load);
        if (lua_pcall(vm->L, 1, 0, 0) != LUA_OK) {
            load_failed(vm, vm->name, lua_tostring(vm->L, -1));
            lua_pop(vm->L, 1);
        }
    }
}

bool cs_program_loaded(const struct cs_vm *vm)
{
    cs_list_each(l, next, (struct cs_list *)&vm->tasks) {
        const struct cs_task *t = cs_container_of(l, struct cs_task, all);
        bool waits = t->state == CS_TASK_PARKED && t->waiting != CS_WAIT_FILE;
        if (t->kind == CS_TASK_STARTUP && !waits) {
            return false;
        }
    }
    return true;
}
