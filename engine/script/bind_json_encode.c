/*
 * bind_json_encode - ba.json.encode and encodestr (ba-api C.5): Lua values become JSON texts.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/bind_json.h"

#define DEPTH_MAX 128
#define SIZE_FIRST 512u

/* The text in the making: in a userdata at a fixed place of the stack, so that Lua counts it and an
 * error loses nothing. */
struct out {
    lua_State *L;
    int index;
    char *bytes;
    size_t len, size;
};

static void CS_RAISES open_out(struct out *o, lua_State *L)
{
    *o = (struct out){.L = L, .size = SIZE_FIRST};
    o->bytes = lua_newuserdatauv(L, o->size, 0);
    o->index = lua_gettop(L);
}

static void CS_RAISES add(struct out *o, const char *bytes, size_t n)
{
    if (n > o->size - o->len) {
        size_t size = CS_MAX(o->size * 2, o->len + n);
        char *larger = lua_newuserdatauv(o->L, size, 0);

        memcpy(larger, o->bytes, o->len);
        lua_replace(o->L, o->index);
        o->bytes = larger;
        o->size = size;
    }
    memcpy(o->bytes + o->len, bytes, n);
    o->len += n;
}

static void CS_RAISES add_text(struct out *o, const char *text)
{
    add(o, text, strlen(text));
}

/* ---- scalars ---- */

static void CS_RAISES add_escaped(struct out *o, unsigned char c)
{
    static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    char text[8];

    for (const char *n = names; *n; n += 2) {
        if ((unsigned char)n[0] == c) {
            add(o, (const char[]){'\\', n[1]}, 2);
            return;
        }
    }
    add(o, text, (size_t)snprintf(text, sizeof(text), "\\u%04x", c));
}

/* Bytes from 128 on are taken for UTF-8 and stay. */
static void CS_RAISES add_string(struct out *o, const char *s, size_t len)
{
    size_t from = 0;

    add(o, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c < 0x20 || c == '"' || c == '\\') {
            add(o, s + from, i - from);
            add_escaped(o, c);
            from = i + 1;
        }
    }
    add(o, s + from, len - from);
    add(o, "\"", 1);
}

/* As few digits as give the same number back; with a point or an exponent, so that it stays a
 * float. JSON has no NaN and no infinities. */
static void CS_RAISES add_float(struct out *o, double number)
{
    char text[40];
    int n = 0;

    if (!isfinite(number)) {
        add_text(o, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(text, sizeof(text), "%.*g", digits, number);
        if (strtod(text, NULL) == number) {
            break;
        }
    }
    add(o, text, (size_t)n);
    if (strspn(text, "-0123456789") == (size_t)n) {
        add(o, ".0", 2);
    }
}

static void CS_RAISES add_integer(struct out *o, lua_Integer i)
{
    char text[32];

    add(o, text, (size_t)snprintf(text, sizeof(text), LUA_INTEGER_FMT, (LUAI_UACINT)i));
}

/* ---- tables ---- */

static void CS_RAISES add_value(struct out *o, int index, unsigned depth);

/* Length of a table that is an array: all its keys are 1 to #t, some may be missing. -1: it is an
 * object. */
static lua_Integer array_length(lua_State *L, int index)
{
    lua_Integer n = (lua_Integer)lua_rawlen(L, index);

    if (n == 0) {
        return -1;
    }
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        lua_Integer key = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;

        if (key < 1 || key > n) {
            lua_pop(L, 1);
            return -1;
        }
    }
    return n;
}

static void CS_RAISES add_array(struct out *o, int index, lua_Integer n, unsigned depth)
{
    for (lua_Integer i = 1; i <= n; i++) {
        add(o, i == 1 ? "[" : ",", 1);
        lua_rawgeti(o->L, index, i);
        add_value(o, lua_gettop(o->L), depth);
        lua_pop(o->L, 1);
    }
    add(o, "]", 1);
}

/* The key on top. */
static void CS_RAISES add_name(struct out *o)
{
    size_t len;

    if (lua_type(o->L, -1) != LUA_TSTRING && lua_type(o->L, -1) != LUA_TNUMBER) {
        luaL_error(o->L, "JSON: a table key must be a string or a number, not a %s",
                   luaL_typename(o->L, -1));
    }
    lua_pushvalue(o->L, -1); /* lua_next wants the key unchanged */
    const char *name = lua_tolstring(o->L, -1, &len);

    add_string(o, name, len);
    lua_pop(o->L, 1);
    add(o, ":", 1);
}

static void CS_RAISES add_object(struct out *o, int index, unsigned depth)
{
    lua_State *L = o->L;
    const char *before = "{";

    lua_pushnil(L);
    while (lua_next(L, index)) {
        add(o, before, 1);
        before = ",";
        lua_insert(L, -2);
        add_name(o);
        lua_insert(L, -2);
        add_value(o, lua_gettop(L), depth);
        lua_pop(L, 1);
    }
    add_text(o, *before == '{' ? "{}" : "}");
}

static void CS_RAISES add_value(struct out *o, int index, unsigned depth)
{
    lua_State *L = o->L;
    const char *s;
    size_t len;

    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        add_text(o, lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index)) {
            add_integer(o, lua_tointeger(L, index));
        } else {
            add_float(o, lua_tonumber(L, index));
        }
        break;
    case LUA_TSTRING:
        s = lua_tolstring(L, index, &len);
        add_string(o, s, len);
        break;
    case LUA_TTABLE: {
        luaL_checkstack(L, 8, "JSON nested too deeply");
        if (depth >= DEPTH_MAX) {
            luaL_error(L, "JSON: tables nested deeper than %d (or within themselves)", DEPTH_MAX);
        }
        lua_Integer n = array_length(L, index);
        if (n > 0) {
            add_array(o, index, n, depth + 1);
        } else {
            add_object(o, index, depth + 1);
        }
        break;
    }
    default: /* nil, ba.json.null, other userdata, functions, threads */
        add_text(o, "null");
    }
}

/* ---- functions ---- */

/* Lua: (values ...) -> text */
static int encode_values(lua_State *L)
{
    int last = lua_gettop(L);
    struct out o;

    open_out(&o, L);
    for (int i = 1; i <= last; i++) {
        add_value(&o, i, 0);
    }
    lua_pushlstring(L, o.bytes, o.len);
    return 1;
}

/* encode(value ... [, size]): the texts, one behind the other; nil, "mem". A number behind other
 * values is a hint at the size of the text: of no use here. */
static int json_encode(lua_State *L)
{
    int last = lua_gettop(L);

    luaL_checkany(L, 1);
    if (last > 1 && lua_type(L, last) == LUA_TNUMBER) {
        lua_settop(L, --last);
    }
    lua_pushcfunction(L, encode_values);
    lua_insert(L, 1);
    int status = lua_pcall(L, last, 1, 0);

    if (status == LUA_ERRMEM) {
        luaL_pushfail(L);
        lua_pushliteral(L, "mem");
        return 2;
    }
    return status == LUA_OK ? 1 : lua_error(L);
}

/* encodestr(string): a JSON string, quotes included. */
static int json_encodestr(lua_State *L)
{
    size_t len;
    const char *s = cs_check_bytes(L, 1, &len);
    struct out o;

    open_out(&o, L);
    add_string(&o, s, len);
    lua_pushlstring(L, o.bytes, o.len);
    return 1;
}

void cs_bind_json_encode(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"encode", json_encode}, {"encodestr", json_encodestr}, {NULL, NULL}};

    luaL_setfuncs(L, functions, 0);
}
