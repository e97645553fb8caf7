/*
 * bind_luasocket - the global `sockcompat`: the four functions of LuaSocket that its Lua layer over
 * ba.socket expects from C (ba-api E 14; what they do is LuaSocket's manual, "socket" chapter).
 *
 * try and what newtry returns raise an error that only protect catches: a table with the error in
 * it, known by its metatable.
 */
#include "script/bind.h"

#define WRAPPED_TYPE "sockcompat.error"

static int wrapped_tostring(lua_State *L)
{
    lua_rawgeti(L, 1, 1);
    luaL_tolstring(L, -1, NULL);
    return 1;
}

/* Raises the second argument of try, wrapped. */
static int raise_wrapped(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lua_settop(L, 2);
    lua_createtable(L, 1, 0);
    lua_insert(L, 2);
    lua_rawseti(L, 2, 1);
    luaL_setmetatable(L, WRAPPED_TYPE);
    return lua_error(L);
}

/* try(...): its arguments, unless the first is false or nil; then the finalizer runs, if there is
 * one. */
static int try(lua_State *L)
{
    if (lua_toboolean(L, 1)) {
        return lua_gettop(L);
    }
    lua_settop(L, 2);
    if (lua_isfunction(L, lua_upvalueindex(1))) {
        lua_pushvalue(L, lua_upvalueindex(1));
        (void)lua_pcallk(L, 0, 0, 0, 0, raise_wrapped); /* what it raises does not matter */
    }
    return raise_wrapped(L, LUA_OK, 0);
}

static int newtry(lua_State *L)
{
    lua_settop(L, 1);
    lua_pushcclosure(L, try, 1);
    return 1;
}

static int protected_on(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    if (status == LUA_OK || status == LUA_YIELD) {
        return lua_gettop(L);
    }
    if (lua_istable(L, -1) && lua_getmetatable(L, -1)) {
        luaL_getmetatable(L, WRAPPED_TYPE);
        bool ours = lua_rawequal(L, -1, -2);
        lua_pop(L, 2);
        if (ours) {
            luaL_pushfail(L);
            lua_rawgeti(L, -2, 1);
            return 2;
        }
    }
    return lua_error(L);
}

static int protected(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, 0, protected_on);
    return protected_on(L, status, 0);
}

/* protect(f): f, with nil and the error for what try raised in it. */
static int protect(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_pushcclosure(L, protected, 1);
    return 1;
}

/* skip(n, ...): the values behind the nth. */
static int skip(lua_State *L)
{
    lua_Integer n = luaL_checkinteger(L, 1);
    int top = lua_gettop(L);

    luaL_argcheck(L, n >= 0, 1, "negative");
    return n >= top - 1 ? 0 : top - 1 - (int)n;
}

void cs_bind_luasocket(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"newtry", newtry}, {"protect", protect}, {"skip", skip}, {NULL, NULL}};

    luaL_newmetatable(L, WRAPPED_TYPE);
    lua_pushcfunction(L, wrapped_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);

    luaL_newlib(L, functions);
    lua_pushnil(L);
    lua_pushcclosure(L, try, 1);
    lua_setfield(L, -2, "try");
    lua_pushliteral(L, "LuaSocket 3.0");
    lua_setfield(L, -2, "_VERSION");
    lua_setglobal(L, "sockcompat");
}
