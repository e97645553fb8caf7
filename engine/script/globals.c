/* globals - see globals.h. */
#include "script/globals.h"

#include <lauxlib.h>

#include "script/globals.lua.h"

/* In the registry: the two functions of globals.lua. */
static const char note_key, report_key;

static void CS_RAISES start(lua_State *L)
{
    if (luaL_loadbufferx(L, (const char *)cs_globals_lua, sizeof(cs_globals_lua),
                         "=undefined globals", "t") != LUA_OK) {
        lua_error(L);
    }
    lua_call(L, 0, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &report_key);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &note_key);
}

void cs_globals_note(lua_State *L, const char *file)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &note_key) == LUA_TNIL) {
        lua_pop(L, 1);
        start(L);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &note_key);
    }
    lua_pushvalue(L, -2);
    if (!lua_getupvalue(L, -1, 1)) { /* a chunk always has _ENV */
        lua_pushglobaltable(L);
    }
    lua_pushstring(L, file);
    lua_call(L, 3, 0);
}

/* Lua: (errors). Runs protected. */
static int report(lua_State *L)
{
    struct cs_errors *errors = lua_touserdata(L, 1);

    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &report_key) == LUA_TNIL) {
        return 0; /* there was no chunk */
    }
    lua_call(L, 0, 1);
    lua_Integer n = luaL_len(L, -1);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        cs_errors_add(errors, NULL, 0, "%s", lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    return 0;
}

void cs_globals_report(struct cs_vm *vm, struct cs_errors *errors)
{
    lua_pushcfunction(vm->L, report);
    lua_pushlightuserdata(vm->L, errors);
    if (lua_pcall(vm->L, 1, 0, 0) != LUA_OK) {
        cs_errors_add(errors, NULL, 0, "undefined globals could not be looked for: %s",
                      lua_tostring(vm->L, -1));
        lua_pop(vm->L, 1);
    }
}
