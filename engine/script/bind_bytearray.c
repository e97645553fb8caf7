/*
 * bind_bytearray - ba.bytearray (ba-api C.6): storage of a fixed size, seen through a window.
 *
 * Positions count from 1 within the window; only those of setsize count within the whole storage.
 * Every function that takes a string takes a bytearray too (cs_check_bytes): it then works on a
 * copy of the window, so that the script may go on changing the array while a write waits.
 */
#include <string.h>

#include "base/endian.h"
#include "script/bind.h"

#define BYTEARRAY_TYPE "ba.bytearray"
#define SIZE_LIMIT INT32_MAX

struct bytearray {
    size_t size;       /* of the storage */
    size_t start, end; /* the window: bytes[start] to bytes[end - 1] */
    unsigned char bytes[];
};

/* Some bytes of an argument: a string's or a window's. Valid while the argument is. */
struct bytes {
    const unsigned char *at;
    size_t len;
};

static struct bytearray *CS_RAISES check_array(lua_State *L, int arg)
{
    return luaL_checkudata(L, arg, BYTEARRAY_TYPE);
}

static size_t window(const struct bytearray *a)
{
    return a->end - a->start;
}

const char *cs_check_bytes(lua_State *L, int arg, size_t *len)
{
    if (lua_type(L, arg) == LUA_TSTRING) { /* nearly always */
        return lua_tolstring(L, arg, len);
    }
    const struct bytearray *a = luaL_testudata(L, arg, BYTEARRAY_TYPE);

    if (a) {
        lua_pushlstring(L, (const char *)a->bytes + a->start, window(a));
        lua_replace(L, arg);
    }
    return luaL_checklstring(L, arg, len);
}

static struct bytes CS_RAISES check_source(lua_State *L, int arg)
{
    const struct bytearray *a = luaL_testudata(L, arg, BYTEARRAY_TYPE);

    if (a) {
        return (struct bytes){a->bytes + a->start, window(a)};
    }
    struct bytes b;
    b.at = (const unsigned char *)luaL_checklstring(L, arg, &b.len);
    return b;
}

/* A position argument: from 1, negative ones from the end, as in string.sub. May lie outside. */
static lua_Integer CS_RAISES check_position(lua_State *L, int arg, size_t len, lua_Integer absent)
{
    lua_Integer i = lua_isnoneornil(L, arg) ? absent : cs_check_number(L, arg);

    return i < 0 ? (lua_Integer)len + i + 1 : i;
}

/* Where `count` bytes are to go: argument `arg`, a position in the window. Raises when they do not
 * fit; no bytes fit even behind the last one. */
static unsigned char *CS_RAISES check_place(lua_State *L, struct bytearray *a, int arg,
                                            size_t count)
{
    lua_Integer n = cs_check_number(L, arg);
    bool inside = n >= 1 && (size_t)n <= window(a) + 1 && count <= window(a) + 1 - (size_t)n;

    if (!inside) {
        luaL_argerror(L, arg,
                      lua_pushfstring(L,
                                      "%I bytes at position %I do not fit into a bytearray of %I",
                                      (LUAI_UACINT)count, (LUAI_UACINT)n, (LUAI_UACINT)window(a)));
    }
    return a->bytes + a->start + n - 1;
}

static unsigned char CS_RAISES check_byte(lua_State *L, int index, int arg)
{
    lua_Integer byte = lua_isnumber(L, index) ? cs_check_number(L, index) : -1;

    luaL_argcheck(L, byte >= 0 && byte <= 255, arg, "a byte, 0 to 255, expected");
    return (unsigned char)byte;
}

/* ---- making ---- */

static struct bytearray *CS_RAISES new_array(lua_State *L, size_t size)
{
    struct bytearray *a = lua_newuserdatauv(L, sizeof(*a) + size, 0);

    a->size = a->end = size;
    a->start = 0;
    luaL_setmetatable(L, BYTEARRAY_TYPE);
    return a;
}

/* create(size | string) */
static int create(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TNUMBER) {
        lua_Integer size = cs_check_number(L, 1);

        luaL_argcheck(L, size >= 0 && size <= SIZE_LIMIT, 1, "size must be 0 to 2147483647 bytes");
        memset(new_array(L, (size_t)size)->bytes, 0, (size_t)size);
        return 1;
    }
    struct bytes from = check_source(L, 1);
    struct bytearray *a = new_array(L, from.len);

    memcpy(a->bytes, from.at, from.len);
    return 1;
}

/* ---- a[i], #a, tostring(a) ---- */

static int array_index(lua_State *L)
{
    const struct bytearray *a = check_array(L, 1);
    lua_Integer i = lua_type(L, 2) == LUA_TNUMBER ? cs_check_number(L, 2) : 0;

    if (i < 1 || (size_t)i > window(a)) {
        luaL_pushfail(L);
    } else {
        lua_pushinteger(L, a->bytes[a->start + (size_t)i - 1]);
    }
    return 1;
}

/* a[i] = a byte, or as many as a string, bytearray or array of numbers has. */
static int array_newindex(lua_State *L)
{
    struct bytearray *a = check_array(L, 1);

    if (lua_type(L, 3) == LUA_TNUMBER) {
        *check_place(L, a, 2, 1) = check_byte(L, 3, 3);
    } else if (lua_istable(L, 3)) {
        size_t count = lua_rawlen(L, 3);
        unsigned char *to = check_place(L, a, 2, count);

        for (size_t i = 0; i < count; i++) {
            lua_rawgeti(L, 3, (lua_Integer)i + 1);
            to[i] = check_byte(L, -1, 3);
            lua_pop(L, 1);
        }
    } else {
        struct bytes from = check_source(L, 3);

        memmove(check_place(L, a, 2, from.len), from.at, from.len);
    }
    return 0;
}

static int array_len(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)window(check_array(L, 1)));
    return 1;
}

/* tostring(a [, i [, j]]), as string.sub; also the metamethod. */
static int array_tostring(lua_State *L)
{
    const struct bytearray *a = check_array(L, 1);
    lua_Integer i = check_position(L, 2, window(a), 1);
    lua_Integer j = check_position(L, 3, window(a), -1);

    i = CS_MAX(i, 1);
    j = CS_MIN(j, (lua_Integer)window(a));
    lua_pushlstring(L, (const char *)a->bytes + a->start + (i > j ? 0 : i - 1),
                    i > j ? 0 : (size_t)(j - i + 1));
    return 1;
}

/* ---- the rest ---- */

/* Bytes of the source from i on, j < 0: all but the last -j - 1, and never fewer than string.sub
 * would give for an i behind them: scripts give copy(to, 1, s, i, -i) and expect everything from i
 * on (ba-api F-20). */
static size_t copy_count(size_t len, lua_Integer i, lua_Integer j)
{
    lua_Integer all = (lua_Integer)len - i + 1;
    lua_Integer count =
        j < 0 ? CS_MIN((lua_Integer)len + j + 1, all) : CS_MIN(j, (lua_Integer)len) - i + 1;

    return count < 0 ? 0 : (size_t)count;
}

/* copy(to, n, source [, i [, j]]): how many bytes did not fit. */
static int copy(lua_State *L)
{
    struct bytearray *a = check_array(L, 1);
    unsigned char *to = check_place(L, a, 2, 0);
    struct bytes from = check_source(L, 3);
    lua_Integer i = CS_MAX(check_position(L, 4, from.len, 1), 1);
    lua_Integer j = lua_isnoneornil(L, 5) ? -1 : cs_check_number(L, 5);
    size_t count = copy_count(from.len, i, j);
    size_t fits = CS_MIN(count, (size_t)(a->bytes + a->end - to));

    if (fits > 0) {
        memmove(to, from.at + i - 1, fits);
    }
    lua_pushinteger(L, (lua_Integer)(count - fits));
    return 1;
}

static unsigned CS_RAISES check_width(lua_State *L)
{
    lua_Integer width = cs_check_number(L, 3);

    luaL_argcheck(L, width >= 1 && width <= 8, 3, "size must be 1 to 8 bytes");
    return (unsigned)width;
}

/* h2n(a, n, size, integer) */
static int h2n(lua_State *L)
{
    struct bytearray *a = check_array(L, 1);
    unsigned width = check_width(L);

    cs_put_be(check_place(L, a, 2, width), width, (uint64_t)cs_check_number(L, 4));
    return 0;
}

/* n2h(a, n, size) */
static int n2h(lua_State *L)
{
    struct bytearray *a = check_array(L, 1);
    unsigned width = check_width(L);

    lua_pushinteger(L, (lua_Integer)cs_get_be(check_place(L, a, 2, width), width));
    return 1;
}

/* setsize(a [, i [, j]]): the window, as positions of the storage. An i just behind j: empty. */
static int setsize(lua_State *L)
{
    struct bytearray *a = check_array(L, 1);
    lua_Integer size = (lua_Integer)a->size;
    lua_Integer i = check_position(L, 2, a->size, 1);
    lua_Integer j = check_position(L, 3, a->size, -1);

    luaL_argcheck(L, i >= 1 && i <= size + 1, 2, "start is outside of the bytearray");
    luaL_argcheck(L, j >= i - 1 && j <= size, 3, "end is before the start or behind the bytearray");
    a->start = (size_t)i - 1;
    a->end = (size_t)j;
    return 0;
}

/* size(a): of the storage; the window's first and last position in it. */
static int size(lua_State *L)
{
    const struct bytearray *a = check_array(L, 1);

    lua_pushinteger(L, (lua_Integer)a->size);
    lua_pushinteger(L, (lua_Integer)a->start + 1);
    lua_pushinteger(L, (lua_Integer)a->end);
    return 3;
}

void cs_bind_bytearray(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__index", array_index},
                                    {"__newindex", array_newindex},
                                    {"__len", array_len},
                                    {"__tostring", array_tostring},
                                    {NULL, NULL}};
    static const luaL_Reg functions[] = {{"create", create},
                                         {"copy", copy},
                                         {"h2n", h2n},
                                         {"n2h", n2h},
                                         {"size", size},
                                         {"setsize", setsize},
                                         {"tostring", array_tostring},
                                         {NULL, NULL}};

    cs_bind_type(L, BYTEARRAY_TYPE, meta, NULL);
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "bytearray");
}
