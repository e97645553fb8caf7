/*
 * bind_text - ba's functions on texts (ba-api C.5): base64, percent-encoding, compression, media
 * types, comparison of addresses, and the version.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/addr.h"
#include "build_info.h"
#include "codec/base64.h"
#include "codec/deflate.h"
#include "codec/percent.h"
#include "script/bind.h"

/* Scripts ask for at least 5521 (a MySQL client); the newest number published ones ask for is 5746.
 */
#define API_LEVEL 5746

/* Encoding multiplies by three at most. */
#define TEXT_MAX (SIZE_MAX / 4)

static const char *CS_RAISES check_text(lua_State *L, size_t *len)
{
    const char *text = cs_check_bytes(L, 1, len);

    luaL_argcheck(L, *len <= TEXT_MAX, 1, "string too long");
    return text;
}

/* ---- base64 ---- */

static int CS_RAISES encode_base64(lua_State *L, bool url)
{
    size_t len;
    const char *bytes = check_text(L, &len);
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, CS_BASE64_TEXT(len));

    luaL_pushresultsize(&b, cs_base64_encode(to, bytes, len, url));
    return 1;
}

static int b64encode(lua_State *L)
{
    return encode_base64(L, false);
}

static int b64urlencode(lua_State *L)
{
    return encode_base64(L, true);
}

/* b64decode(text): both alphabets; nil, "invalidparam" when it is no base64. */
static int b64decode(lua_State *L)
{
    size_t len, bytes;
    const char *text = check_text(L, &len);
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, CS_BASE64_BYTES(len));
    int err = cs_base64_decode(to, &bytes, text, len);

    luaL_pushresultsize(&b, err < 0 ? 0 : bytes);
    return err < 0 ? cs_push_error(L, err) : 1;
}

/* ---- URLs ---- */

static int urlencode(lua_State *L)
{
    size_t len;
    const char *text = check_text(L, &len);
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, CS_PERCENT_TEXT(len));

    luaL_pushresultsize(&b, cs_percent_encode(to, text, len));
    return 1;
}

static int urldecode(lua_State *L)
{
    size_t len;
    const char *text = check_text(L, &len);
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, len);

    luaL_pushresultsize(&b, cs_percent_decode(to, text, len));
    return 1;
}

/* mime(extension): its media type, and whether it is known. */
static int mime(lua_State *L)
{
    static const char *const types[][2] = {
        {"avif", "image/avif"},
        {"bin", "application/octet-stream"},
        {"bmp", "image/bmp"},
        {"css", "text/css"},
        {"csv", "text/csv"},
        {"doc", "application/msword"},
        {"eml", "message/rfc822"},
        {"gif", "image/gif"},
        {"gz", "application/gzip"},
        {"htm", "text/html"},
        {"html", "text/html"},
        {"ico", "image/vnd.microsoft.icon"},
        {"ics", "text/calendar"},
        {"jpeg", "image/jpeg"},
        {"jpg", "image/jpeg"},
        {"js", "text/javascript"},
        {"json", "application/json"},
        {"lsp", "text/html"},
        {"md", "text/markdown"},
        {"mjs", "text/javascript"},
        {"mp3", "audio/mpeg"},
        {"mp4", "video/mp4"},
        {"mpeg", "video/mpeg"},
        {"ogg", "audio/ogg"},
        {"otf", "font/otf"},
        {"pdf", "application/pdf"},
        {"png", "image/png"},
        {"rtf", "application/rtf"},
        {"shtml", "text/html"},
        {"svg", "image/svg+xml"},
        {"tar", "application/x-tar"},
        {"tif", "image/tiff"},
        {"tiff", "image/tiff"},
        {"ttf", "font/ttf"},
        {"txt", "text/plain"},
        {"wasm", "application/wasm"},
        {"wav", "audio/x-wav"},
        {"webm", "video/webm"},
        {"webp", "image/webp"},
        {"woff", "font/woff"},
        {"woff2", "font/woff2"},
        {"xhtml", "application/xhtml+xml"},
        {"xls", "application/vnd.ms-excel"},
        {"xml", "application/xml"},
        {"zip", "application/zip"},
    };
    const char *extension = luaL_checkstring(L, 1);

    for (size_t i = 0; i < CS_ARRAY_LEN(types); i++) {
        if (strcasecmp(extension, types[i][0]) == 0) {
            lua_pushstring(L, types[i][1]);
            lua_pushboolean(L, true);
            return 2;
        }
    }
    lua_pushliteral(L, "application/octet-stream");
    lua_pushboolean(L, false);
    return 2;
}

/* ---- addresses ---- */

/* An IPv4 address in IPv6's clothes counts as IPv4. */
static bool parse_ip(struct cs_addr *out, const char *text)
{
    struct cs_addr a;

    if (!text || cs_addr_parse(&a, text, 0) < 0 || cs_addr_family(&a) == AF_UNIX) {
        return false;
    }
    cs_addr_from_sockaddr(out, &a.sa, a.len);
    return true;
}

/* cmpaddr(ip, ip): whether they are the same address; false when one of them is none. */
static int cmpaddr(lua_State *L)
{
    struct cs_addr a, b;

    luaL_checkany(L, 2);
    lua_pushboolean(L, parse_ip(&a, lua_tostring(L, 1)) && parse_ip(&b, lua_tostring(L, 2)) &&
                           cs_addr_equal(&a, &b));
    return 1;
}

/* ---- compression ---- */

/* Joins the list at index 1 to a string there. */
static void CS_RAISES join_list(lua_State *L)
{
    luaL_Buffer b;

    luaL_buffinit(L, &b);
    for (lua_Integer i = 1, n = luaL_len(L, 1); i <= n; i++) {
        lua_rawgeti(L, 1, i);
        if (!lua_isstring(L, -1)) {
            luaL_error(L, "bad argument #1 to 'deflate' (no string at %I of the list)", i);
        }
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    lua_replace(L, 1);
}

/* deflate(text [, zlib]): text may be a list of texts. */
static int text_deflate(lua_State *L)
{
    bool wrapped = lua_toboolean(L, 2);
    size_t len, size;
    luaL_Buffer b;

    lua_settop(L, 1);
    if (lua_istable(L, 1)) {
        join_list(L);
    }
    const char *text = cs_check_bytes(L, 1, &len);

    luaL_argcheck(L, len <= CS_DEFLATE_MAX, 1, "string too long");
    char *to = luaL_buffinitsize(L, &b, cs_deflate_bound(len));

    if (cs_deflate(to, &size, text, len, wrapped) < 0) {
        return luaL_error(L, "not enough memory");
    }
    luaL_pushresultsize(&b, size);
    return 1;
}

#define INFLATE_TYPE "ba.inflate"
#define INFLATE_PIECE 16384
/* What one call makes: nothing else runs meanwhile. */
#define INFLATE_MAX ((size_t)16 << 20)

struct inflate {
    struct cs_inflate *state;
};

/* inflate([zlib]): a function of one stream. */
static int text_inflate(lua_State *L)
{
    bool wrapped = lua_toboolean(L, 1);
    struct inflate *f = lua_newuserdatauv(L, sizeof(*f), 0);

    f->state = NULL;
    luaL_setmetatable(L, INFLATE_TYPE);
    f->state = cs_inflate_create(wrapped);
    return f->state ? 1 : luaL_error(L, "not enough memory");
}

static int inflate_gc(lua_State *L)
{
    struct inflate *f = luaL_checkudata(L, 1, INFLATE_TYPE);

    cs_inflate_destroy(f->state);
    f->state = NULL;
    return 0;
}

/* f(data): what it becomes, and whether that is the end; nil, "invalidparam": it is damaged; nil,
 * "toomuchdata": it becomes more than INFLATE_MAX. After an error there is no more of the stream.
 */
static int inflate_call(lua_State *L)
{
    struct inflate *f = luaL_checkudata(L, 1, INFLATE_TYPE);
    size_t len, size, made = 0;
    const void *data = cs_check_bytes(L, 2, &len);
    luaL_Buffer b;
    int got = f->state ? 0 : -EPROTO;

    luaL_buffinit(L, &b);
    do {
        char *to = luaL_prepbuffsize(&b, INFLATE_PIECE);

        size = INFLATE_PIECE;
        got = got < 0 ? got : cs_inflate(f->state, &data, &len, to, &size);
        size = got < 0 ? 0 : size;
        luaL_addsize(&b, size);
        made += size;
    } while (got == 0 && made <= INFLATE_MAX && (len > 0 || size == INFLATE_PIECE));
    if (made > INFLATE_MAX) {
        cs_inflate_destroy(f->state);
        f->state = NULL;
        return cs_push_error(L, CS_ETOOBIG);
    }
    luaL_pushresult(&b);
    if (got == -ENOMEM) {
        return luaL_error(L, "not enough memory");
    }
    if (got < 0) {
        luaL_pushfail(L);
        lua_pushliteral(L, "invalidparam");
        return 2;
    }
    lua_pushboolean(L, got == 1);
    return 2;
}

/* ---- version ---- */

/* version(): the level of the API; Lua's number, 504; "Nov 22 2026 09:00:00" of this build; and as
 * an extension "cosockd 0.1.0". */
static int version(lua_State *L)
{
    lua_pushinteger(L, API_LEVEL);
    lua_pushinteger(L, LUA_VERSION_NUM);
    lua_pushliteral(L, __DATE__ " " __TIME__);
    lua_pushliteral(L, "cosockd " CS_VERSION);
    return 4;
}

void cs_bind_text(lua_State *L)
{
    static const luaL_Reg functions[] = {{"b64encode", b64encode},
                                         {"b64urlencode", b64urlencode},
                                         {"b64decode", b64decode},
                                         {"urlencode", urlencode},
                                         {"urldecode", urldecode},
                                         {"mime", mime},
                                         {"cmpaddr", cmpaddr},
                                         {"version", version},
                                         {"deflate", text_deflate},
                                         {"inflate", text_inflate},
                                         {NULL, NULL}};

    static const luaL_Reg inflate_meta[] = {
        {"__call", inflate_call}, {"__gc", inflate_gc}, {NULL, NULL}};

    cs_bind_type(L, INFLATE_TYPE, inflate_meta, NULL);
    luaL_setfuncs(L, functions, 0);
}
