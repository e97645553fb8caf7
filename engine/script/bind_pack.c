/*
 * bind_pack - ba.socket.h2n, n2h, fh2n and fn2h: numbers to and from the bytes of the network.
 */
#include <string.h>

#include "script/bind.h"

static int CS_RAISES check_size(lua_State *L)
{
    lua_Integer size = cs_check_number(L, 1);

    luaL_argcheck(L, size >= 1 && size <= 8, 1, "size must be 1 to 8 bytes");
    return (int)size;
}

static int CS_RAISES check_float_size(lua_State *L)
{
    lua_Integer size = cs_check_number(L, 1);

    luaL_argcheck(L, size == 4 || size == 8, 1, "size must be 4 or 8 bytes");
    return (int)size;
}

static void push_big_endian(lua_State *L, uint64_t value, int size)
{
    char bytes[8];

    for (int i = size - 1; i >= 0; i--) {
        bytes[i] = (char)(value & 0xff);
        value >>= 8;
    }
    lua_pushlstring(L, bytes, (size_t)size);
}

/* The `size` bytes of argument 2 from position argument 3 (1 if absent) on. */
static uint64_t CS_RAISES check_big_endian(lua_State *L, int size)
{
    size_t len;
    const char *bytes = luaL_checklstring(L, 2, &len);
    lua_Integer start = lua_isnoneornil(L, 3) ? 1 : cs_check_number(L, 3);
    uint64_t value = 0;

    luaL_argcheck(L, start >= 1, 3, "start must be 1 or more");
    if (len < (size_t)size || (size_t)start > len - (size_t)size + 1) {
        luaL_argerror(L, 2, "string too short");
    }
    for (int i = 0; i < size; i++) {
        value = value << 8 | (unsigned char)bytes[start - 1 + i];
    }
    return value;
}

/* h2n(size, integer): the low `size` bytes, whatever the number. */
static int h2n(lua_State *L)
{
    int size = check_size(L);

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
    int size = check_float_size(L);
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
    int size = check_float_size(L);
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
