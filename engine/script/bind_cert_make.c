/* bind_cert_make - ba.create.key, csr, certificate: computed by a helper thread, because an RSA key
 * takes a tenth of a second and more. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "codec/cert_make.h"
#include "codec/date.h"
#include "script/bind.h"
#include "script/bind_cert.h"
#include "script/secret.h"

/* Of a date: far enough for any sum of seconds, and nothing overflows. */
#define FIELD_MAX 1000000000

/* ---- calls ---- */

struct making {
    struct cs_blocking b;
    enum cs_key_type type; /* of key */
    unsigned bits;
    struct cs_make_key key; /* of csr */
    struct cs_make_request request;
    struct cs_make_cert cert; /* of certificate */
    struct cs_secret texts;   /* the strings of these */
    struct cs_pem_text out;
    struct cs_cert_error why;
    int err;
};

/* One after the other in each worker: the other helpers are left for files. */
static _Thread_local struct cs_blocking_queue making_queue;

static struct making *making_of(struct cs_blocking *b)
{
    return cs_container_of(b, struct making, b);
}

static void drop_making(struct cs_blocking *b)
{
    struct making *m = making_of(b);

    cs_pem_text_free(&m->out);
    cs_secret_free(&m->texts);
    cs_free(m);
}

static int push_making(lua_State *L, struct cs_blocking *b)
{
    struct making *m = making_of(b);

    if (m->err < 0) {
        return cs_push_cert_error(L, m->err, &m->why);
    }
    lua_pushlstring(L, m->out.bytes, m->out.len);
    return 1;
}

/* Pushes the owner of a new call. */
static struct making *CS_RAISES new_making(lua_State *L, void (*run)(struct cs_blocking *))
{
    struct cs_blocking **owner = cs_blocking_push(L);
    struct making *m = cs_zalloc(sizeof(*m));

    if (!m) {
        luaL_error(L, "not enough memory");
        return NULL;
    }
    if (!making_queue.waiting.next) {
        cs_blocking_queue_init(&making_queue);
    }
    m->b = (struct cs_blocking){.run = run, .push = push_making, .drop = drop_making};
    if (cs_blocking_possible(L, &making_queue)) {
        m->b.queue = &making_queue;
    }
    *owner = &m->b;
    return m;
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

/* A field of a date, which may be out of its range as os.time takes it: the 40th of a month. */
static int CS_RAISES check_field(lua_State *L, int arg, const char *name, int otherwise)
{
    lua_Integer value = cs_opt_number(L, arg, name, otherwise);

    luaL_argcheck(L, value >= -FIELD_MAX && value <= FIELD_MAX, arg, "date out of range");
    return (int)value;
}

/* A date as os.date("*t") gives it, in UTC; at least year and month. */
static int64_t CS_RAISES check_date(lua_State *L, int arg)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    int year = check_field(L, arg, "year", 0), month = check_field(L, arg, "month", 0);

    luaL_argcheck(L, year >= 1950 && year <= 9999, arg, "year must be 1950 to 9999");
    luaL_argcheck(L, month != 0, arg, "option 'month' is missing");
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = check_field(L, arg, "day", 1),
                    .tm_hour = check_field(L, arg, "hour", 0),
                    .tm_min = check_field(L, arg, "min", 0),
                    .tm_sec = check_field(L, arg, "sec", 0)};
    int64_t seconds = timegm(&tm);

    luaL_argcheck(L, seconds >= CS_DATE_MIN && seconds <= CS_DATE_MAX, arg, "date out of range");
    return seconds;
}

/* ---- functions ---- */

static void run_key(struct cs_blocking *b)
{
    struct making *m = making_of(b);

    m->err = cs_make_key(&m->out, m->type, m->bits);
}

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
    struct making *m = new_making(L, run_key);

    m->type = rsa ? CS_MAKE_RSA : (enum cs_key_type)curves[at].bit;
    m->bits = (unsigned)bits;
    return cs_blocking_call(L, "ba.create.key");
}

static void run_request(struct cs_blocking *b)
{
    struct making *m = making_of(b);

    m->err = cs_make_request(&m->out, &m->request, m->key, &m->why);
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
    struct making *m = new_making(L, run_request);
    const struct cs_secret_copy copies[] = {
        {.string = &r.names},
        {.string = &r.subject.commonname},
        {.string = &r.subject.organization},
        {.string = &r.subject.unit},
        {.string = &r.subject.locality},
        {.string = &r.subject.province},
        {.string = &r.subject.countryname},
        {.string = &r.subject.email},
        {.string = &key.password},
        {.text = &key.text},
    };

    cs_secret_copy(L, &m->texts, copies, CS_ARRAY_LEN(copies));
    m->request = r;
    m->key = key;
    return cs_blocking_call(L, "ba.create.csr");
}

static void run_certificate(struct cs_blocking *b)
{
    struct making *m = making_of(b);

    m->err = cs_make_cert(&m->out, &m->cert, &m->why);
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
    struct making *m = new_making(L, run_certificate);
    const struct cs_secret_copy copies[] = {{.text = &c.request},
                                            {.text = &c.issuer},
                                            {.text = &c.key.text},
                                            {.string = &c.key.password}};

    cs_secret_copy(L, &m->texts, copies, CS_ARRAY_LEN(copies));
    m->cert = c;
    return cs_blocking_call(L, "ba.create.certificate");
}

void cs_bind_cert_make(lua_State *L)
{
    static const luaL_Reg functions[] = {{"key", create_key},
                                         {"csr", create_csr},
                                         {"certificate", create_certificate},
                                         {NULL, NULL}};

    luaL_setfuncs(L, functions, 0);
}
