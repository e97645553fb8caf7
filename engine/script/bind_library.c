/* bind_library - functions of the API that are written in Lua: the module that has one is loaded by
 * its first call. */
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

/* Upvalues: the module, the function's name in it. */
static int call(lua_State *L)
{
    int n = lua_gettop(L);

    lua_getglobal(L, "require");
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_call(L, 1, 1);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_gettable(L, -2);
    lua_remove(L, -2);
    lua_insert(L, 1);
    lua_callk(L, n, LUA_MULTRET, 0, results);
    return results(L, LUA_OK, 0);
}

void cs_bind_library(lua_State *L)
{
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
