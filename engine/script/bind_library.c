/* bind_library - functions of the API that are written in Lua, or have a part that is: the module
 * is loaded by the first call that needs it. */
#include <string.h>

#include "script/bind.h"

static const struct {
    const char *table, *name, *module; /* table: of ba; NULL: ba itself */
} functions[] = {
    {"create", "authenticator", "cosock.http.auth"}, {"create", "authorizer", "cosock.http.dir"},
    {"create", "authuser", "cosock.http.auth"},      {"create", "dir", "cosock.http.dir"},
    {"create", "jsonuser", "cosock.http.jsonuser"},  {"create", "resrdr", "cosock.http.reader"},
    {"create", "upload", "cosock.http.upload"},      {"socket", "req2sock", "cosock.http.morph"},
    {"socket", "sock2req", "cosock.http.morph"},     {NULL, "parselsp", "cosock.http.lsp"},
};

static int results(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    return lua_gettop(L);
}

static void CS_RAISES push_of_module(lua_State *L, const char *module, const char *name)
{
    lua_getglobal(L, "require");
    lua_pushstring(L, module);
    lua_call(L, 1, 1);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
}

/* Upvalues: the module, the function's name in it. */
static int call(lua_State *L)
{
    int n = lua_gettop(L);

    push_of_module(L, lua_tostring(L, lua_upvalueindex(1)), lua_tostring(L, lua_upvalueindex(2)));
    lua_insert(L, 1);
    lua_callk(L, n, LUA_MULTRET, 0, results);
    return results(L, LUA_OK, 0);
}

/* Of a file it is said by the error's name that it is no folder: then it may be a ZIP file. */
static int opened(lua_State *L, int status, lua_KContext ctx)
{
    int n = lua_gettop(L) - (int)ctx;
    const char *name = n >= 3 ? lua_tostring(L, (int)ctx + 3) : NULL;

    (void)status;
    if (!name || strcmp(name, "ENOTDIR") != 0) {
        return n;
    }
    lua_settop(L, (int)ctx);
    push_of_module(L, "cosock.zip", "open");
    lua_insert(L, 1);
    lua_callk(L, (int)ctx, LUA_MULTRET, 0, results);
    return results(L, LUA_OK, 0);
}

/* ba.mkio(io, path), also for ZIP files and for folders in them; what is behind that is left out.
 * Upvalue: that for folders. */
static int mkio(lua_State *L)
{
    int n = lua_gettop(L) < 2 ? lua_gettop(L) : 2;

    lua_settop(L, n);
    if (lua_istable(L, 1)) {
        push_of_module(L, "cosock.zip", "folder");
        lua_insert(L, 1);
        lua_callk(L, n, LUA_MULTRET, 0, results);
        return results(L, LUA_OK, 0);
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(L, i);
    }
    lua_callk(L, n, LUA_MULTRET, n, opened);
    return opened(L, LUA_OK, n);
}

void cs_bind_library(lua_State *L)
{
    lua_getfield(L, -1, "mkio");
    lua_pushcclosure(L, mkio, 1);
    lua_setfield(L, -2, "mkio");
    for (size_t i = 0; i < CS_ARRAY_LEN(functions); i++) {
        if (functions[i].table) {
            luaL_getsubtable(L, -1, functions[i].table);
        } else {
            lua_pushvalue(L, -1);
        }
        lua_pushstring(L, functions[i].module);
        lua_pushstring(L, functions[i].name);
        lua_pushcclosure(L, call, 2);
        lua_setfield(L, -2, functions[i].name);
        lua_pop(L, 1);
    }
}
