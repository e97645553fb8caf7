/*
 * bind_random - ba.rnd, rnds, rndbs and rndseed (ba-api C.5): the kernel's random numbers, good
 * enough for keys.
 */
#include <stdlib.h>

#include "script/bind.h"

#define BYTES_MAX 0xffff /* of rndbs */

/* One of 0 to range, each as likely. */
static uint64_t random_up_to(uint64_t range)
{
    uint64_t value, mask = UINT64_MAX;

    while (mask >> 1 >= range && mask > 0) {
        mask >>= 1;
    }
    do { /* twice on average, at worst */
        arc4random_buf(&value, sizeof(value));
        value &= mask;
    } while (value > range);
    return value;
}

/* rnd(): 0 to 2147483647. rnd(high), rnd(low, high): both ends included. */
static int rnd(lua_State *L)
{
    lua_Integer low = 0, high = INT32_MAX;

    if (!lua_isnoneornil(L, 1)) {
        int last = lua_isnoneornil(L, 2) ? 1 : 2;

        low = last == 2 ? cs_check_number(L, 1) : 0;
        high = cs_check_number(L, last);
        luaL_argcheck(L, low <= high, last, "upper limit is below the lower one");
    }
    uint64_t value = random_up_to((uint64_t)high - (uint64_t)low);

    value += (uint64_t)low; /* wraps as the range may */
    lua_pushinteger(L, (lua_Integer)value);
    return 1;
}

/* rnds(size): an integer of that many random bytes. 8 bytes fill a Lua integer, sign included. */
static int rnds(lua_State *L)
{
    lua_Integer size = cs_check_number(L, 1);

    luaL_argcheck(L, size >= 1 && size <= 8, 1, "size must be 1 to 8 bytes");
    lua_pushinteger(L, (lua_Integer)random_up_to(UINT64_MAX >> (64 - 8 * size)));
    return 1;
}

/* rndbs(size): a string of random bytes. */
static int rndbs(lua_State *L)
{
    lua_Integer size = cs_check_number(L, 1);
    luaL_Buffer b;

    luaL_argcheck(L, size >= 1 && size <= BYTES_MAX, 1, "size must be 1 to 65535 bytes");
    arc4random_buf(luaL_buffinitsize(L, &b, (size_t)size), (size_t)size);
    luaL_pushresultsize(&b, (size_t)size);
    return 1;
}

/* rndseed(number | string): accepted; the kernel needs no help. */
static int rndseed(lua_State *L)
{
    luaL_checkstring(L, 1);
    return 0;
}

void cs_bind_random(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"rnd", rnd}, {"rnds", rnds}, {"rndbs", rndbs}, {"rndseed", rndseed}, {NULL, NULL}};

    luaL_setfuncs(L, functions, 0);
}
