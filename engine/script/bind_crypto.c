/*
 * bind_crypto - ba.crypto.hash (ba-api C.5): a function that takes strings and gives a digest.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "codec/base64.h"
#include "codec/hash.h"
#include "script/bind.h"

#define HASH_TYPE "ba.crypto.hash"

/* The userdata; its user value is the function that scripts see. */
struct digest {
    struct cs_hash *hash;
};

static struct cs_hash *CS_RAISES hash_of(lua_State *L)
{
    struct digest *d = lua_touserdata(L, lua_upvalueindex(1));

    return d->hash ? d->hash : (luaL_error(L, "the scripts are being ended"), NULL);
}

static int push_hex(lua_State *L, const unsigned char *digest, size_t n)
{
    char text[2 * CS_HASH_MAX + 1];

    for (size_t i = 0; i < n; i++) {
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    lua_pushlstring(L, text, 2 * n);
    return 1;
}

static int push_base64(lua_State *L, const unsigned char *digest, size_t n)
{
    char text[CS_BASE64_TEXT(CS_HASH_MAX)];

    lua_pushlstring(L, text, cs_base64_encode(text, digest, n, false));
    return 1;
}

/* f([true [, "binary" | "hex" | "b64"]]): the digest of what came until now. */
static int CS_RAISES push_digest(lua_State *L)
{
    static const char *const encodings[] = {"binary", "hex", "b64", NULL};
    int encoding = luaL_checkoption(L, 2, "binary", encodings);
    unsigned char digest[CS_HASH_MAX];
    int n = cs_hash_digest(hash_of(L), digest);

    if (n < 0) {
        return luaL_error(L, "not enough memory");
    }
    if (encoding == 0) {
        lua_pushlstring(L, (const char *)digest, (size_t)n);
        return 1;
    }
    return encoding == 1 ? push_hex(L, digest, (size_t)n) : push_base64(L, digest, (size_t)n);
}

/* f(string) adds it and returns f. */
static int hash_call(lua_State *L)
{
    if (lua_isnone(L, 1) || lua_isboolean(L, 1)) {
        return push_digest(L);
    }
    size_t len;
    const char *bytes = cs_check_bytes(L, 1, &len);

    cs_hash_add(hash_of(L), bytes, len);
    lua_getiuservalue(L, lua_upvalueindex(1), 1);
    return 1;
}

static int hash_gc(lua_State *L)
{
    struct digest *d = luaL_checkudata(L, 1, HASH_TYPE);

    cs_hash_destroy(d->hash);
    d->hash = NULL;
    return 0;
}

/* hash([algorithm]), hash("hmac", algorithm, key): the function. */
static int crypto_hash(lua_State *L)
{
    static const char *const names[] = {"md5", "sha1", "sha256", "sha384", "sha512", NULL};
    static const enum cs_hash_kind kinds[] = {CS_HASH_MD5, CS_HASH_SHA1, CS_HASH_SHA256,
                                              CS_HASH_SHA384, CS_HASH_SHA512};
    bool hmac = lua_type(L, 1) == LUA_TSTRING && strcmp(lua_tostring(L, 1), "hmac") == 0;
    int kind = luaL_checkoption(L, hmac ? 2 : 1, hmac ? NULL : "sha1", names);
    size_t key_len = 0;
    const char *key = hmac ? cs_check_bytes(L, 3, &key_len) : NULL;
    struct digest *d = lua_newuserdatauv(L, sizeof(*d), 1);

    d->hash = NULL;
    luaL_setmetatable(L, HASH_TYPE);
    if (cs_hash_create(&d->hash, kinds[kind], key, key_len) < 0) {
        return luaL_error(L, "not enough memory");
    }
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, hash_call, 1);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, -3, 1);
    return 1;
}

void cs_bind_crypto(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", hash_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"hash", crypto_hash}, {NULL, NULL}};

    cs_bind_type(L, HASH_TYPE, meta, NULL);
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "crypto");
}
