/*
 * bind_pack - ba.socket.h2n, n2h, fh2n and fn2h: numbers to and from the bytes of the network.
 */
#include <string.h>

#include "base/endian.h"
#include "script/bind.h"

static unsigned CS_RAISES check_size(lua_State *L)
{
    lua_Integer size = cs_check_number(L, 1);

    luaL_argcheck(L, size >= 1 && size <= 8, 1, "size must be 1 to 8 bytes");
    return (unsigned)size;
}

static unsigned CS_RAISES check_float_size(lua_State *L)
{
    lua_Integer size = cs_check_number(L, 1);

    luaL_argcheck(L, size == 4 || size == 8, 1, "size must be 4 or 8 bytes");
    return (unsigned)size;
}

static void push_big_endian(lua_State *L, uint64_t value, unsigned size)
{
    char bytes[8];

    cs_put_be(bytes, size, value);
    lua_pushlstring(L, bytes, size);
}

/* The `size` bytes of argument 2 from position argument 3 (1 if absent) on. */
static uint64_t CS_RAISES check_big_endian(lua_State *L, unsigned size)
{
    size_t len;
    const char *bytes = cs_check_bytes(L, 2, &len);
    lua_Integer start = lua_isnoneornil(L, 3) ? 1 : cs_check_number(L, 3);

    luaL_argcheck(L, start >= 1, 3, "start must be 1 or more");
    if (len < size || (size_t)start > len - size + 1) {
        luaL_argerror(L, 2, "string too short");
    }
    return cs_get_be(bytes + start - 1, size);
}

/* h2n(size, integer): the low `size` bytes, whatever the number. */
static int h2n(lua_State *L)
{
    unsigned size = check_size(L);

    push_big_endian(L, (uint64_t)cs_check_number(L, 2), size);
    return 1;
}

/* n2h(size, string [, start]): unsigned, except that 8 bytes fill a Lua integer. */
static int n2h(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)check_big_endian(L, check_size(L)));
    return 1;
}

static int fh2n(lua_State *L)
{
    unsigned size = check_float_size(L);
    double number = luaL_checknumber(L, 2);
    float single = (float)number;
    uint32_t bits32;
    uint64_t bits;

    if (size == 4) {
        memcpy(&bits32, &single, sizeof(bits32));
        bits = bits32;
    } else {
        memcpy(&bits, &number, sizeof(bits));
    }
    push_big_endian(L, bits, size);
    return 1;
}

static int fn2h(lua_State *L)
{
    unsigned size = check_float_size(L);
    uint64_t bits = check_big_endian(L, size);
    uint32_t bits32 = (uint32_t)bits;
    double number;
    float single;

    if (size == 4) {
        memcpy(&single, &bits32, sizeof(single));
        number = (double)single;
    } else {
        memcpy(&number, &bits, sizeof(number));
    }
    lua_pushnumber(L, number);
    return 1;
}

void cs_bind_pack(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"h2n", h2n}, {"n2h", n2h}, {"fh2n", fh2n}, {"fn2h", fn2h}, {NULL, NULL}};

    lua_getfield(L, -1, "socket");
    luaL_setfuncs(L, functions, 0);
    lua_pop(L, 1);
}
