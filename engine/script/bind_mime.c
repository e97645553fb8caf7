/*
 * bind_mime - the global `mime`: the functions under LuaSocket's MIME filters (ba-api E 15; what
 * they do is LuaSocket's manual, "mime" chapter, low level).
 *
 * Each takes what is left of the call before and a chunk, and gives text and what is left: a filter
 * keeps no state of its own. A chunk that is nil ends the text; nil then says that nothing is left.
 */
#include <string.h>

#include "codec/base64.h"
#include "script/bind.h"

#define LINE 76 /* RFC 2045: the longest encoded line */

/* ---- texts in and out ---- */

struct input {
    const char *bytes;
    size_t len;
    bool last; /* the chunk is nil: nothing comes behind */
};

/* The text that was left and the chunk, as one, at index 1. False: there is no text at all. */
static bool CS_RAISES take(lua_State *L, struct input *in)
{
    lua_settop(L, 3);
    if (lua_isnil(L, 1)) {
        return false;
    }
    (void)luaL_checkstring(L, 1);
    in->last = lua_isnil(L, 2);
    if (!in->last) {
        (void)luaL_checkstring(L, 2);
        lua_pushvalue(L, 1);
        lua_pushvalue(L, 2);
        lua_concat(L, 2);
        lua_replace(L, 1);
    }
    in->bytes = lua_tolstring(L, 1, &in->len);
    return true;
}

static int nothing(lua_State *L)
{
    lua_pushnil(L);
    lua_pushnil(L);
    return 2;
}

/* The text on top, and what of the input was not used. */
static int CS_RAISES give(lua_State *L, const struct input *in, size_t used)
{
    if (!in->last) {
        lua_pushlstring(L, in->bytes + used, in->len - used);
        return 2;
    }
    if (lua_rawlen(L, -1) == 0) {
        return nothing(L);
    }
    lua_pushnil(L);
    return 2;
}

/* ---- base64 ---- */

static int mime_b64(lua_State *L)
{
    struct input in;
    luaL_Buffer b;

    if (!take(L, &in)) {
        return nothing(L);
    }
    size_t n = in.last ? in.len : in.len - in.len % 3;
    char *to = luaL_buffinitsize(L, &b, CS_BASE64_TEXT(n));

    luaL_pushresultsize(&b, cs_base64_encode(to, in.bytes, n, false));
    return give(L, &in, n);
}

/* 0 to 63; 64: the padding; -1: not of the alphabet, which is passed over (RFC 2045, 6.8). */
static int base64_value(char c)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    const char *at = c ? strchr(alphabet, c) : NULL;

    return at ? (int)(at - alphabet) : -1;
}

/* The bytes of four characters. */
static void CS_RAISES add_quad(luaL_Buffer *b, const int quad[4])
{
    unsigned bits = (unsigned)((quad[0] & 63) << 18 | (quad[1] & 63) << 12 | (quad[2] & 63) << 6 |
                               (quad[3] & 63));

    luaL_addchar(b, (char)(bits >> 16));
    if (quad[2] < 64) {
        luaL_addchar(b, (char)(bits >> 8));
    }
    if (quad[2] < 64 && quad[3] < 64) {
        luaL_addchar(b, (char)bits);
    }
}

static int mime_unb64(lua_State *L)
{
    struct input in;
    luaL_Buffer b;
    int quad[4];
    size_t n = 0, used = 0;

    if (!take(L, &in)) {
        return nothing(L);
    }
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < in.len; i++) {
        int value = base64_value(in.bytes[i]);

        if (value >= 0) {
            quad[n++] = value;
        }
        if (n == 4) {
            if (quad[0] < 64 && quad[1] < 64) {
                add_quad(&b, quad);
            }
            n = 0;
            used = i + 1;
        }
    }
    luaL_pushresult(&b);
    return give(L, &in, n == 0 ? in.len : used);
}

/* ---- quoted-printable (RFC 2045, 6.7) ---- */

static void CS_RAISES add_quoted(luaL_Buffer *b, unsigned char c)
{
    static const char digits[] = "0123456789ABCDEF";

    luaL_addchar(b, '=');
    luaL_addchar(b, digits[c >> 4]);
    luaL_addchar(b, digits[c & 15]);
}

/* Encodes what begins at s (n bytes, more may follow unless last). Returns the bytes used; 0: it
 * depends on what follows. */
static size_t CS_RAISES encode_one(luaL_Buffer *b, const char *s, size_t n, bool last,
                                   const char *marker)
{
    if (*s == '\r') {
        if (n == 1 && !last) {
            return 0;
        }
        if (n > 1 && s[1] == '\n') {
            luaL_addstring(b, marker);
            return 2;
        }
    }
    if (*s == ' ' || *s == '\t') { /* not at the end of a line */
        bool ends = n == 1 || (n > 2 && s[1] == '\r' && s[2] == '\n');

        if (!last && (n == 1 || (n == 2 && s[1] == '\r'))) {
            return 0;
        }
        if (!ends) {
            luaL_addchar(b, *s);
            return 1;
        }
    } else if (*s > ' ' && *s <= '~' && *s != '=') {
        luaL_addchar(b, *s);
        return 1;
    }
    add_quoted(b, (unsigned char)*s);
    return 1;
}

/* qp(rest, chunk [, marker]) */
static int mime_qp(lua_State *L)
{
    struct input in;
    luaL_Buffer b;
    size_t used = 0, n = 1;

    if (!take(L, &in)) {
        return nothing(L);
    }
    const char *marker = luaL_optstring(L, 3, "\r\n");

    luaL_buffinit(L, &b);
    while (used < in.len && n > 0) {
        n = encode_one(&b, in.bytes + used, in.len - used, in.last, marker);
        used += n;
    }
    luaL_pushresult(&b);
    return give(L, &in, used);
}

/* As encode_one. What is no code stays as it is. */
static size_t CS_RAISES decode_one(luaL_Buffer *b, const char *s, size_t n, bool last)
{
    if (*s != '=') {
        luaL_addchar(b, *s);
        return 1;
    }
    if (n >= 2 && s[1] == '\n') {
        return 2; /* a soft line break */
    }
    if (n < 3 && !last) {
        return 0;
    }
    if (n >= 3 && s[1] == '\r' && s[2] == '\n') {
        return 3;
    }
    if (n >= 3 && cs_hex_digit(s[1]) >= 0 && cs_hex_digit(s[2]) >= 0) {
        luaL_addchar(b, (char)(cs_hex_digit(s[1]) << 4 | cs_hex_digit(s[2])));
        return 3;
    }
    luaL_addchar(b, '=');
    return 1;
}

static int mime_unqp(lua_State *L)
{
    struct input in;
    luaL_Buffer b;
    size_t used = 0, n = 1;

    if (!take(L, &in)) {
        return nothing(L);
    }
    luaL_buffinit(L, &b);
    while (used < in.len && n > 0) {
        n = decode_one(&b, in.bytes + used, in.len - used, in.last);
        used += n;
    }
    luaL_pushresult(&b);
    return give(L, &in, used);
}

/* ---- lines ---- */

/* Breaks lines: `soft` between, where less than `reserve` (of an escape: reserve + 2) bytes are
 * left. Arguments: bytes left in the line, chunk, length of lines. */
static int CS_RAISES wrap(lua_State *L, const char *soft, lua_Integer reserve)
{
    lua_Integer left = luaL_checkinteger(L, 1), length = luaL_optinteger(L, 3, LINE);
    luaL_Buffer b;
    size_t n;

    luaL_argcheck(L, length > reserve + 2, 3, "too short");
    lua_settop(L, 3);
    if (lua_isnil(L, 2)) {
        if (left < length) {
            lua_pushstring(L, soft);
        } else {
            lua_pushnil(L);
        }
        lua_pushinteger(L, length);
        return 2;
    }
    const char *s = luaL_checklstring(L, 2, &n);

    luaL_buffinit(L, &b);
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\n') {
            luaL_addstring(&b, "\r\n");
            left = length;
        } else if (s[i] != '\r') {
            if (left <= reserve + (reserve > 0 && s[i] == '=' ? 2 : 0)) {
                luaL_addstring(&b, soft);
                left = length;
            }
            luaL_addchar(&b, s[i]);
            left--;
        }
    }
    luaL_pushresult(&b);
    lua_pushinteger(L, left);
    return 2;
}

/* wrp(left [, chunk [, length]]) */
static int mime_wrp(lua_State *L)
{
    return wrap(L, "\r\n", 0);
}

/* qpwrp(left [, chunk [, length]]): escapes are not cut, and a soft break ends in "=". */
static int mime_qpwrp(lua_State *L)
{
    return wrap(L, "=\r\n", 1);
}

/* eol(last, chunk [, marker]): CR, LF and both in either order become the marker. last: the code of
 * a line end that a second one may belong to, or 0. */
static int mime_eol(lua_State *L)
{
    lua_Integer before = luaL_checkinteger(L, 1);
    const char *marker = luaL_optstring(L, 3, "\r\n");
    luaL_Buffer b;
    size_t n;

    lua_settop(L, 3);
    if (lua_isnil(L, 2)) {
        lua_pushnil(L);
        lua_pushinteger(L, 0);
        return 2;
    }
    const char *s = luaL_checklstring(L, 2, &n);

    luaL_buffinit(L, &b);
    for (size_t i = 0; i < n; i++) {
        bool ends = s[i] == '\r' || s[i] == '\n';

        if (ends && before != 0 && before != s[i]) {
            before = 0; /* the second half of one */
        } else if (ends) {
            luaL_addstring(&b, marker);
            before = (unsigned char)s[i];
        } else {
            luaL_addchar(&b, s[i]);
            before = 0;
        }
    }
    luaL_pushresult(&b);
    lua_pushinteger(L, before);
    return 2;
}

/* dot(state [, chunk]): a dot at the beginning of a line is doubled (RFC 5321, 4.5.2). state: how
 * much of a CRLF was last, 0 to 2; 2 at the beginning. */
static int mime_dot(lua_State *L)
{
    lua_Integer state = luaL_checkinteger(L, 1);
    luaL_Buffer b;
    size_t n;

    lua_settop(L, 2);
    if (lua_isnil(L, 2)) {
        lua_pushnil(L);
        lua_pushinteger(L, 2);
        return 2;
    }
    const char *s = luaL_checklstring(L, 2, &n);

    luaL_buffinit(L, &b);
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '.' && state == 2) {
            luaL_addchar(&b, '.');
        }
        luaL_addchar(&b, s[i]);
        state = s[i] == '\r' ? 1 : s[i] == '\n' && state == 1 ? 2 : 0;
    }
    luaL_pushresult(&b);
    lua_pushinteger(L, state);
    return 2;
}

void cs_bind_mime(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"b64", mime_b64},   {"unb64", mime_unb64}, {"qp", mime_qp},
        {"unqp", mime_unqp}, {"qpwrp", mime_qpwrp}, {"wrp", mime_wrp},
        {"eol", mime_eol},   {"dot", mime_dot},     {NULL, NULL}};

    luaL_newlib(L, functions);
    lua_setglobal(L, "mime");
}
