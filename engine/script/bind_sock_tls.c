/*
 * bind_sock_tls - the methods of a socket that are about TLS (ba-api B.3): upgrade, trusted,
 * certificate, cipher, isresumed, maxsize; beyond the documents: alpn, sni.
 *
 * They wait for a handshake that is still on its way.
 */
#include <errno.h>

#include "codec/cert_store.h"
#include "script/bind_cert.h"
#include "script/bind_shark.h"
#include "script/sock.h"
#include "script/sock_tls.h"

/* ---- waiting for the handshake ---- */

/* The uppermost TLS stream, which may have a WebSocket over it; NULL: there is none. */
static struct cs_stream *tls_stream(const struct cs_sock *s)
{
    struct cs_stream *l = s->stream;
    while (l && !cs_tls_stream_session(l)) {
        l = l->ops->lower(l);
    }
    return l;
}

static bool shaking(const struct cs_sock *s)
{
    const struct cs_stream *l = tls_stream(s);
    return l && !l->err && !cs_tls_stream_is_ready(l);
}

static int CS_RAISES wait_ready(lua_State *L, struct cs_sock *s, const char *what, lua_KFunction k)
{
    struct cs_task *t = cs_task_can_wait(L, what);
    if (s->waiter) {
        luaL_error(L, "socket busy: another coroutine waits on it");
    }
    s->waiter = t;
    t->waiting = CS_WAIT_TLS;
    t->user = s;
    return cs_task_park(L, t, cs_sock_leave, -1, k, 0);
}

/* The session of a TLS socket whose handshake has succeeded, else NULL. */
static struct cs_tls *session(const struct cs_sock *s)
{
    struct cs_stream *l = tls_stream(s);
    return l && !l->err ? cs_tls_stream_session(l) : NULL;
}

/* Defines sock_NAME, which waits if it must and then answers. */
#define WAITING_METHOD(name)                                                                       \
    static int name##_on(lua_State *L, int status, lua_KContext ctx)                               \
    {                                                                                              \
        (void)status, (void)ctx;                                                                   \
        return push_##name(L, session(lua_touserdata(L, 1)));                                      \
    }                                                                                              \
    static int sock_##name(lua_State *L)                                                           \
    {                                                                                              \
        struct cs_sock *s = cs_sock_check(L, 1);                                                   \
        return shaking(s) ? wait_ready(L, s, #name, name##_on) : push_##name(L, session(s));       \
    }

/* ---- trusted ---- */

/* "certcn": only the dates are wrong; "cn": only the name is right, "cert": only the chain. */
static const char *distrust(const struct cs_verdict *v, bool named)
{
    if (v->chain && !v->in_time && named) {
        return "certcn";
    }
    if (v->chain && v->in_time) {
        return "cert";
    }
    return named && !v->chain ? "cn" : "none";
}

/* Stack: socket, host or nil. */
static int CS_RAISES push_trusted(lua_State *L, struct cs_tls *t)
{
    struct cs_verdict v;
    bool named = false;
    const char *host = lua_isnoneornil(L, 2) ? (t ? t->host : NULL) : lua_tostring(L, 2);
    int err = t ? cs_tls_trust(t, host, &v, &named) : -ENOENT;
    if (err == -ENOENT) {
        return cs_push_error_as(L, "none", CS_EINVAL);
    }
    if (err < 0) {
        return cs_push_error(L, err);
    }
    if (v.chain && v.in_time && named) {
        lua_pushboolean(L, true);
        return 1;
    }
    return cs_push_error_as(L, distrust(&v, named), CS_EINVAL);
}

WAITING_METHOD(trusted)

static int checked_trusted(lua_State *L)
{
    luaL_optstring(L, 2, NULL);
    return sock_trusted(L);
}

/* ---- certificate ---- */

static int CS_RAISES push_certificate(lua_State *L, struct cs_tls *t)
{
    struct cs_verdict v;
    const uint8_t *der;
    size_t len;
    bool named;
    if (!t || !cs_tls_peer_cert(t, 0)) {
        lua_pushnil(L);
        return 1;
    }
    lua_newtable(L);
    for (unsigned i = 0; (der = cs_tls_peer_der(t, i, &len)); i++) {
        cs_push_cert_info(L, der, len);
        lua_rawseti(L, -2, (int)i + 1);
    }
    int err = cs_tls_trust(t, NULL, &v, &named);
    lua_pushboolean(L, err == 0 && v.chain);
    return 2;
}

WAITING_METHOD(certificate)

/* ---- what was agreed on ---- */

static int CS_RAISES push_cipher(lua_State *L, struct cs_tls *t)
{
    if (!t) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushstring(L, cs_tls_suite(t));
    lua_pushstring(L, cs_tls_version(t));
    return 2;
}

static int CS_RAISES push_isresumed(lua_State *L, struct cs_tls *t)
{
    lua_pushboolean(L, t && cs_tls_resumed(t));
    return 1;
}

static int CS_RAISES push_alpn(lua_State *L, struct cs_tls *t)
{
    size_t len;
    const char *name = t ? cs_tls_alpn(t, &len) : NULL;
    if (name) {
        lua_pushlstring(L, name, len);
    } else {
        lua_pushnil(L);
    }
    return 1;
}

static int CS_RAISES push_sni(lua_State *L, struct cs_tls *t)
{
    lua_pushstring(L, t ? cs_tls_sni(t) : NULL);
    return 1;
}

WAITING_METHOD(cipher)
WAITING_METHOD(isresumed)
WAITING_METHOD(alpn)
WAITING_METHOD(sni)

/* ---- maxsize ---- */

/* Legal on any socket. */
static int sock_maxsize(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    lua_Integer n = cs_check_number(L, 2);
    luaL_argcheck(L, n >= 1, 2, "size out of range");
    struct cs_stream *l = tls_stream(s);
    if (l) {
        cs_tls_stream_set_record_max(l, (size_t)n);
    }
    return 0;
}

/* ---- upgrade ---- */

static int upgraded_on(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, 1);
    int err = cs_task_current(L)->wake;
    (void)status, (void)ctx;
    if (err == 0 && !s->stream) {
        err = s->end;
    }
    if (err < 0) {
        return cs_push_error_as(L, cs_sock_read_error(err), err);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* The peer's name: the option, or what was given to connect. */
static struct cs_sock_tls *CS_RAISES check_upgrade(lua_State *L, const struct cs_sock *s,
                                                   const struct cs_shark *shark)
{
    const char *host = cs_opt_string(L, 3, "host");
    const char *alpn = cs_opt_string(L, 3, "alpn");
    bool strict = cs_opt_bool(L, 3, "trusted", false);
    if (!host && s->tls) {
        host = cs_sock_tls_host(s->tls);
    }
    return cs_sock_tls_create(shark->context, host, alpn, strict);
}

/* upgrade(shark [, {host =, alpn =, trusted =, timeout =}]): input that has not been read is the
 * beginning of the session. */
static int sock_upgrade(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    const struct cs_shark *shark = cs_check_shark(L, 2);
    struct cs_stream *stream;
    lua_settop(L, 3);
    cs_sock_check_reader(L, s);
    lua_Integer timeout = cs_opt_number(L, 3, "timeout", shark->timeout_ms);
    luaL_argcheck(L, timeout >= 1 && timeout <= INT32_MAX, 3, "option 'timeout': out of range");
    if (!s->stream) {
        return cs_push_error_as(L, "invalidsocketcon", CS_ESTATE);
    }
    struct cs_task *t = cs_task_can_wait(L, "upgrade");
    if (s->waiter || s->writing || !cs_list_empty(&s->writers)) {
        return cs_push_error(L, CS_ESTATE); /* a message would begin in the clear */
    }
    struct cs_sock_tls *tls = check_upgrade(L, s, shark);
    int err = !tls         ? -ENOMEM
              : !s->stream ? s->end /* a function of the options has closed it */
                           : cs_sock_tls_open(&stream, s, s->stream, tls, (uint32_t)timeout);
    cs_sock_tls_free(s->vm, tls);
    if (err < 0) {
        return cs_push_error(L, err);
    }
    cs_sock_replace(s, stream);
    s->waiter = t;
    t->waiting = CS_WAIT_TLS;
    t->user = s;
    return cs_task_park(L, t, cs_sock_leave, -1, upgraded_on, 0);
}

const luaL_Reg cs_sock_tls_methods[] = {{"upgrade", sock_upgrade},
                                        {"trusted", checked_trusted},
                                        {"certificate", sock_certificate},
                                        {"cipher", sock_cipher},
                                        {"isresumed", sock_isresumed},
                                        {"maxsize", sock_maxsize},
                                        {"alpn", sock_alpn},
                                        {"sni", sock_sni},
                                        {NULL, NULL}};
