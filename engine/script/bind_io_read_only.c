/*
 * bind_io_read_only - Lua's own io and os with -t: nothing is made, changed or removed.
 */
#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "script/bind_io.h"

/* Lua's own way to say why: nil, text, number. */
static int refuse(lua_State *L, const char *name)
{
    errno = EROFS;
    return luaL_fileresult(L, 0, name);
}

/* Lua's function, the upvalue, with the same arguments. */
static int call_replaced(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* One that takes a mode as its second argument and writes with most. */
static int open_to_read(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1), *mode = luaL_optstring(L, 2, "r");

    if (mode[0] != 'r' || strchr(mode, '+')) {
        return refuse(L, name);
    }
    return call_replaced(L);
}

/* A handle was opened before. */
static int output_to_handle(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING) {
        return luaL_error(L, "%s: %s", lua_tostring(L, 1), strerror(EROFS));
    }
    return call_replaced(L);
}

static int change_nothing(lua_State *L)
{
    return refuse(L, luaL_checkstring(L, 1));
}

static int no_name(lua_State *L)
{
    return luaL_error(L, "unable to generate a unique filename: %s", strerror(EROFS));
}

static void CS_RAISES replace(lua_State *L, const char *library, const char *name, lua_CFunction f)
{
    lua_getglobal(L, library);
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, f, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

void cs_io_read_only(lua_State *L)
{
    replace(L, LUA_IOLIBNAME, "open", open_to_read);
    replace(L, LUA_IOLIBNAME, "output", output_to_handle);
    replace(L, LUA_OSLIBNAME, "remove", change_nothing);
    replace(L, LUA_OSLIBNAME, "rename", change_nothing);
    replace(L, LUA_OSLIBNAME, "tmpname", no_name);
}
