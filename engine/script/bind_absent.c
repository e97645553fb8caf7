/*
 * bind_absent - functions and modules of the documented API that are not part of cosockd: a call
 * says so by name, instead of "attempt to call a nil value". docs/compatibility.md has the list.
 *
 * What published scripts look for before they use it (ba.tpm, ba.forkpty ...) is not here: it has
 * to be nil.
 */
#include <string.h>

#include "script/bind.h"

static const char *const ba_functions[] = {"aesdecode", "aesencode", "aeskey",  "exec",
                                           "hmac",      "loadfile",  "session", "sessions",
                                           "sha1",      "users",     NULL};
static const char *const create_functions[] = {"dav",         "domainresrdr", "luaio", "redirector",
                                               "tracelogger", "wfs",          NULL};
static const char *const crypto_functions[] = {"PBKDF2",  "decrypt", "encrypt",   "keyparams",
                                               "keysize", "sign",    "sigparams", "symmetric",
                                               "verify",  NULL};
static const char *const ubjson_functions[] = {"decode", "encode", "parser", NULL};
static const char *const modules[] = {"luasql.sqlite", "luasql", "mime",    "mako", "sqlutil",
                                      "wfs",           "xmlrpc", "xparser", NULL};

/* level: of the script's function that is to be named, as for luaL_where. */
static int CS_RAISES raise_absent(lua_State *L, int level, const char *what)
{
    luaL_where(L, level);
    lua_pushfstring(L, "%s%s is not part of cosockd (see docs/compatibility.md)",
                    lua_tostring(L, -1), what);
    return lua_error(L);
}

/* Upvalue: its name. */
static int absent(lua_State *L)
{
    return raise_absent(L, 1, lua_tostring(L, lua_upvalueindex(1)));
}

/* Into the table on top, where it has nothing of that name. */
static void CS_RAISES fill(lua_State *L, const char *prefix, const char *const *names)
{
    for (; *names; names++) {
        if (lua_getfield(L, -1, *names) == LUA_TNIL) {
            lua_pushfstring(L, "%s%s", prefix, *names);
            lua_pushcclosure(L, absent, 1);
            lua_setfield(L, -3, *names);
        }
        lua_pop(L, 1);
    }
}

/* Into a table inside the one on top, made when it is not there. */
static void CS_RAISES fill_inside(lua_State *L, const char *table, const char *prefix,
                                  const char *const *names)
{
    luaL_getsubtable(L, -1, table);
    fill(L, prefix, names);
    lua_pop(L, 1);
}

/* The last of package.searchers: comes when no file has been found. */
static int search_module(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);

    for (const char *const *m = modules; *m; m++) {
        if (strcmp(name, *m) == 0) {
            return raise_absent(L, 2, lua_pushfstring(L, "module %s", name)); /* 1 is require */
        }
    }
    return 0;
}

static void CS_RAISES add_searcher(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_pushcfunction(L, search_module);
    lua_rawseti(L, -2, luaL_len(L, -2) + 1);
    lua_pop(L, 2);
}

void cs_bind_absent(lua_State *L)
{
    fill(L, "ba.", ba_functions);
    fill_inside(L, "create", "ba.create.", create_functions);
    fill_inside(L, "crypto", "ba.crypto.", crypto_functions);
    fill_inside(L, "ubjson", "ba.ubjson.", ubjson_functions);
    add_searcher(L);
}
