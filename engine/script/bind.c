/* bind - argument checks and results that all bindings share. */
#include "script/bind.h"

#include <errno.h>
#include <math.h>

/* More than any call has. */
#define OPTIONS_KEPT 16

/* Key of the registry: a list of the latest. */
static const char kept_options;

void cs_bind_type(lua_State *L, const char *name, const luaL_Reg *meta, const luaL_Reg *methods)
{
    luaL_newmetatable(L, name);
    luaL_setfuncs(L, meta, 0);
    if (methods) {
        lua_newtable(L);
        luaL_setfuncs(L, methods, 0);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
}

void cs_bind_table(lua_State *L, const void *key, const char *mode)
{
    lua_newtable(L);
    if (mode) {
        lua_createtable(L, 0, 1);
        lua_pushstring(L, mode);
        lua_setfield(L, -2, "__mode");
        lua_setmetatable(L, -2);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, key);
}

/* The codes that have a name of their own in the API (ba-api B.8); callers that know better (a
 * failed connect, say) name the string themselves. */
const char *cs_error_string(int err)
{
    switch (err) {
    case CS_EOF:
        return "socketclosed";
    case CS_ETIMEOUT:
    case CS_EIDLE:
        return "timeout";
    case CS_ECLOSED:
        return "closed";
    case CS_ERESOLVE:
        return "cannotresolve";
    case CS_ESHUTDOWN:
        return "sysshutdown";
    case CS_EINVAL:
    case -EINVAL:
        return "invalidparam";
    case CS_ESTATE:
        return "incorrectuse";
    case CS_ETLSHANDSHAKE:
        return "sslhandshake";
    case CS_ETLSALERT:
        return "sslalertrecv";
    case CS_ETLSRECORD:
        return "sslcryptoerr";
    case CS_ETLSTRUST:
        return "sslnottrusted";
    case CS_ETLSCUT:
    case CS_EWS:
    case CS_EWSCUT:
        return "socketreadfailed";
    case CS_ETOOBIG:
        return "toomuchdata";
    case CS_ENOTSUP:
        return "noimplementation";
    case -ENOMEM:
        return "mem";
    case -ENOENT:
        return "notfound";
    case -EEXIST:
        return "exist";
    case -EACCES:
    case -EPERM:
        return "noaccess";
    case -ENOTEMPTY:
        return "notempty";
    case -ENOSPC:
        return "nospace";
    case -EIO:
        return "ioerror";
    default:
        return "failed";
    }
}

int cs_push_error_as(lua_State *L, const char *string, int err)
{
    luaL_pushfail(L);
    lua_pushstring(L, string);
    if (err < 0 && err > -4096) { /* one of the system's */
        lua_pushstring(L, cs_err_name(err));
        lua_pushstring(L, cs_err_text(err));
        return 4;
    }
    return 2;
}

int cs_push_error(lua_State *L, int err)
{
    return cs_push_error_as(L, cs_error_string(err), err);
}

static lua_Integer truncate_number(lua_State *L, int arg, lua_Number n)
{
    if (!isfinite(n) || n < -0x1p62 || n > 0x1p62) {
        return luaL_argerror(L, arg, "number is not finite or too large");
    }
    return (lua_Integer)n;
}

lua_Integer cs_check_number(lua_State *L, int arg)
{
    int is_integer;
    lua_Integer i = lua_tointegerx(L, arg, &is_integer);
    return is_integer ? i : truncate_number(L, arg, luaL_checknumber(L, arg));
}

int64_t cs_check_ms(lua_State *L, int arg)
{
    lua_Integer ms = cs_check_number(L, arg);
    luaL_argcheck(L, ms >= 0, arg, "milliseconds must not be negative");
    return ms;
}

/* Pushes table[field]; the type of what was pushed. */
static int get(lua_State *L, int table, const char *field)
{
    if (!lua_istable(L, table)) {
        lua_pushnil(L);
        return LUA_TNIL;
    }
    return lua_getfield(L, table, field);
}

static int wrong_type(lua_State *L, int table, const char *field, const char *expected)
{
    const char *got = luaL_typename(L, -1);
    return luaL_argerror(
        L, table, lua_pushfstring(L, "option '%s': %s expected, got %s", field, expected, got));
}

void cs_keep_option(lua_State *L, int table)
{
    if (!lua_getmetatable(L, table)) {
        return;
    }
    lua_pop(L, 1);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &kept_options) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_createtable(L, OPTIONS_KEPT, 0);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_options);
    }
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (lua_Integer)(cs_vm_of(L)->options_kept++ % OPTIONS_KEPT) + 1);
    lua_pop(L, 1);
}

bool cs_opt_bool(lua_State *L, int table, const char *field, bool otherwise)
{
    int type = get(L, table, field);
    bool value = type == LUA_TNIL ? otherwise : lua_toboolean(L, -1);
    if (type != LUA_TNIL && type != LUA_TBOOLEAN) {
        wrong_type(L, table, field, "boolean");
    }
    lua_pop(L, 1);
    return value;
}

lua_Integer cs_opt_number(lua_State *L, int table, const char *field, lua_Integer otherwise)
{
    int type = get(L, table, field);
    lua_Integer value = otherwise;
    if (type != LUA_TNIL) {
        if (type != LUA_TNUMBER) {
            wrong_type(L, table, field, "number");
        }
        value = truncate_number(L, table, lua_tonumber(L, -1));
    }
    lua_pop(L, 1);
    return value;
}

const char *cs_opt_string(lua_State *L, int table, const char *field)
{
    int type = get(L, table, field);
    const char *value = NULL;
    if (type == LUA_TSTRING) {
        value = lua_tostring(L, -1);
        cs_keep_option(L, table);
    } else if (type != LUA_TNIL) {
        wrong_type(L, table, field, "string");
    }
    lua_pop(L, 1);
    return value;
}
