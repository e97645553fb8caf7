/* bind_cert_make - ba.create.key, csr, certificate. They compute inside the call: an RSA key holds
 * up the loop for a tenth of a second and more. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "codec/cert_make.h"
#include "script/bind.h"
#include "script/bind_cert.h"

#define PEM_TYPE "pem text"

/* ---- results ---- */

/* PEM text until it is a Lua string. */
static struct cs_pem_text *CS_RAISES push_pem(lua_State *L)
{
    struct cs_pem_text *t = lua_newuserdatauv(L, sizeof(*t), 0);

    *t = (struct cs_pem_text){0};
    luaL_setmetatable(L, PEM_TYPE);
    return t;
}

static int pem_gc(lua_State *L)
{
    cs_pem_text_free(luaL_checkudata(L, 1, PEM_TYPE));
    return 0;
}

static int CS_RAISES push_result(lua_State *L, struct cs_pem_text *t, int err,
                                 const struct cs_cert_error *why)
{
    if (err < 0) {
        return cs_push_cert_error(L, err, why);
    }
    lua_pushlstring(L, t->bytes, t->len);
    cs_pem_text_free(t);
    return 1;
}

/* ---- arguments ---- */

/* PEM text, or {key = text, pwd = password}. */
static struct cs_make_key CS_RAISES check_key(lua_State *L, int arg)
{
    struct cs_make_key k = {0};

    if (lua_istable(L, arg)) {
        const char *text = cs_opt_string(L, arg, "key");

        luaL_argcheck(L, text, arg, "option 'key' is missing");
        k.text = (struct cs_cert_text){text, strlen(text)};
        k.password = cs_opt_string(L, arg, "pwd");
    } else {
        k.text.bytes = luaL_checklstring(L, arg, &k.text.len);
    }
    return k;
}

static enum cs_make_hash CS_RAISES check_hash(lua_State *L, int arg)
{
    static const char *const names[] = {"sha256", "sha384", "sha512", NULL};

    return (enum cs_make_hash)luaL_checkoption(L, arg, "sha256", names);
}

struct flag {
    const char *name;
    unsigned bit;
};

/* The bits of a list of names. */
static unsigned CS_RAISES check_flags(lua_State *L, int arg, const struct flag *flags, size_t count)
{
    unsigned bits = 0;

    luaL_checktype(L, arg, LUA_TTABLE);
    for (lua_Integer i = 1; lua_rawgeti(L, arg, i) != LUA_TNIL; i++) {
        const char *name = lua_tostring(L, -1);
        size_t at = 0;

        while (at < count && (!name || strcmp(name, flags[at].name) != 0)) {
            at++;
        }
        if (at == count) {
            luaL_argerror(L, arg, lua_pushfstring(L, "'%s' is not known here", name ? name : "?"));
        }
        bits |= flags[at].bit;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return bits;
}

static const struct flag usages[] = {{"DIGITAL_SIGNATURE", CS_USAGE_DIGITAL_SIGNATURE},
                                     {"NON_REPUDIATION", CS_USAGE_NON_REPUDIATION},
                                     {"KEY_ENCIPHERMENT", CS_USAGE_KEY_ENCIPHERMENT},
                                     {"DATA_ENCIPHERMENT", CS_USAGE_DATA_ENCIPHERMENT},
                                     {"KEY_AGREEMENT", CS_USAGE_KEY_AGREEMENT},
                                     {"KEY_CERT_SIGN", CS_USAGE_KEY_CERT_SIGN},
                                     {"CRL_SIGN", CS_USAGE_CRL_SIGN}};

static const struct flag types[] = {{"SSL_CLIENT", CS_TYPE_SSL_CLIENT},
                                    {"SSL_SERVER", CS_TYPE_SSL_SERVER},
                                    {"OBJECT_SIGNING", CS_TYPE_OBJECT_SIGNING},
                                    {"SSL_CA", CS_TYPE_SSL_CA},
                                    {"OBJECT_SIGNING_CA", CS_TYPE_OBJECT_SIGNING_CA}};

/* A date as os.date("*t") gives it, in UTC; at least year and month. */
static int64_t CS_RAISES check_date(lua_State *L, int arg)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Integer year = cs_opt_number(L, arg, "year", 0);
    lua_Integer month = cs_opt_number(L, arg, "month", 0);

    luaL_argcheck(L, year >= 1950 && year <= 9999, arg, "year must be 1950 to 9999");
    luaL_argcheck(L, month != 0, arg, "option 'month' is missing");
    struct tm tm = {.tm_year = (int)(year - 1900),
                    .tm_mon = (int)month - 1,
                    .tm_mday = (int)cs_opt_number(L, arg, "day", 1),
                    .tm_hour = (int)cs_opt_number(L, arg, "hour", 0),
                    .tm_min = (int)cs_opt_number(L, arg, "min", 0),
                    .tm_sec = (int)cs_opt_number(L, arg, "sec", 0)};

    return timegm(&tm);
}

/* ---- functions ---- */

/* ba.create.key([{key = "ecc" | "rsa", bits =, curve =}]) */
static int create_key(lua_State *L)
{
    static const struct flag curves[] = {{"SECP256R1", CS_MAKE_EC_P256},
                                         {"SECP384R1", CS_MAKE_EC_P384},
                                         {"SECP521R1", CS_MAKE_EC_P521}};
    lua_settop(L, 1);
    const char *kind = cs_opt_string(L, 1, "key");
    const char *curve = cs_opt_string(L, 1, "curve");
    lua_Integer bits = cs_opt_number(L, 1, "bits", 2048);
    bool rsa = kind && strcmp(kind, "rsa") == 0;
    size_t at = 0;

    luaL_argcheck(L, !kind || rsa || strcmp(kind, "ecc") == 0, 1,
                  "option 'key': \"ecc\" or \"rsa\" expected");
    while (!rsa && curve && at < CS_ARRAY_LEN(curves) && strcmp(curve, curves[at].name) != 0) {
        at++;
    }
    if (at == CS_ARRAY_LEN(curves)) { /* the Brainpool curves among them */
        return cs_push_error(L, CS_ENOTSUP);
    }
    luaL_argcheck(L, !rsa || (bits >= 2048 && bits <= 8192), 1, "option 'bits': 2048 to 8192");
    struct cs_pem_text *t = push_pem(L);
    int err = cs_make_key(t, rsa ? CS_MAKE_RSA : (enum cs_key_type)curves[at].bit, (unsigned)bits);

    return push_result(L, t, err, NULL);
}

/* ba.create.csr(privkey, dn [, san], certtype, keyusage [, hashid]) */
static int create_csr(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TTABLE);
    if (lua_istable(L, 3)) { /* no san */
        lua_settop(L, 5);
        lua_pushnil(L);
        lua_insert(L, 3);
    }
    lua_settop(L, 6);
    struct cs_make_key key = check_key(L, 1);
    struct cs_make_request r = {.subject = {.commonname = cs_opt_string(L, 2, "commonname"),
                                            .organization = cs_opt_string(L, 2, "organization"),
                                            .unit = cs_opt_string(L, 2, "unit"),
                                            .locality = cs_opt_string(L, 2, "locality"),
                                            .province = cs_opt_string(L, 2, "province"),
                                            .countryname = cs_opt_string(L, 2, "countryname"),
                                            .email = cs_opt_string(L, 2, "email")},
                                .type = check_flags(L, 4, types, CS_ARRAY_LEN(types)),
                                .usage = check_flags(L, 5, usages, CS_ARRAY_LEN(usages)),
                                .hash = check_hash(L, 6)};

    luaL_argcheck(L, r.subject.commonname, 2, "option 'commonname' is missing");
    r.names = luaL_optstring(L, 3, r.subject.commonname);
    struct cs_pem_text *t = push_pem(L);
    struct cs_cert_error why;
    int err = cs_make_request(t, &r, key, &why);

    return push_result(L, t, err, &why);
}

/* ba.create.certificate(csr [, cert], privkey, validfrom, validto, serial [, hashid]) */
static int create_certificate(lua_State *L)
{
    size_t len;
    struct cs_make_cert c = {0};

    if (lua_istable(L, 3)) { /* validfrom, or the key of a CA: that one is followed by two dates */
        bool key = lua_getfield(L, 3, "key") != LUA_TNIL;

        lua_pop(L, 1);
        if (!key) {
            lua_settop(L, 6);
            lua_pushnil(L);
            lua_insert(L, 2);
        }
    }
    lua_settop(L, 7);
    c.request.bytes = luaL_checklstring(L, 1, &len);
    c.request.len = len;
    c.issuer.bytes = luaL_optlstring(L, 2, "", &len);
    c.issuer.len = len;
    c.key = check_key(L, 3);
    c.from = check_date(L, 4);
    c.to = check_date(L, 5);
    c.serial = cs_check_number(L, 6);
    c.hash = check_hash(L, 7);
    struct cs_pem_text *t = push_pem(L);
    struct cs_cert_error why;
    int err = cs_make_cert(t, &c, &why);

    return push_result(L, t, err, &why);
}

void cs_bind_cert_make(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", pem_gc}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"key", create_key},
                                         {"csr", create_csr},
                                         {"certificate", create_certificate},
                                         {NULL, NULL}};

    cs_bind_type(L, PEM_TYPE, meta, NULL);
    luaL_setfuncs(L, functions, 0);
}
