/* bind_hello - sock:clienthello: what a TLS client asks for, with every byte left in place. */
#include <errno.h>
#include <string.h>

#include "codec/hello.h"
#include "script/sock.h"

#define HELLO_TYPE "client hello"

/* One call's state, kept on its stack: its memory goes with it, whatever ends the call. */
struct peek {
    struct cs_hello hello;
    size_t fed;           /* bytes of the stream's input that the reader has had */
    uint64_t deadline_ms; /* of the loop's clock; UINT64_MAX: none */
};

static int peek_gc(lua_State *L)
{
    struct peek *p = luaL_checkudata(L, 1, HELLO_TYPE);

    cs_hello_finish(&p->hello);
    return 0;
}

static struct peek *CS_RAISES push_peek(lua_State *L)
{
    struct peek *p = lua_newuserdatauv(L, sizeof(*p), 0);

    *p = (struct peek){.deadline_ms = UINT64_MAX};
    cs_hello_init(&p->hello);
    luaL_setmetatable(L, HELLO_TYPE);
    return p;
}

/* Feeds what the reader has not had. As cs_hello_feed. */
static int feed_new(struct peek *p, const struct cs_chain *in)
{
    size_t skip = p->fed;
    int result = 0;

    for (const struct cs_slice *s = cs_chain_first(in); s && result == 0;
         s = cs_chain_next(in, s)) {
        size_t from = CS_MIN(skip, (size_t)s->len);

        skip -= from;
        if (from < s->len) {
            result = cs_hello_feed(&p->hello, s->data + from, s->len - from);
            p->fed += s->len - from;
        }
    }
    return result;
}

/* ---- results ---- */

void cs_push_versions(lua_State *L, const uint8_t *versions, size_t count)
{
    lua_Integer n = 0;

    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        const char *name = cs_hello_version_name(versions + 2 * i);

        if (name) {
            lua_pushstring(L, name);
            lua_rawseti(L, -2, ++n);
        }
    }
}

static int CS_RAISES push_hello(lua_State *L, const struct cs_hello *h)
{
    struct cs_hello_name name;
    size_t at = 0;
    lua_Integer n = 0;

    lua_createtable(L, 0, 3);
    if (h->sni.len > 0) {
        lua_pushlstring(L, h->sni.bytes, h->sni.len);
        lua_setfield(L, -2, "sni");
    }
    lua_newtable(L);
    while (cs_hello_alpn(h, &at, &name)) {
        lua_pushlstring(L, name.bytes, name.len);
        lua_rawseti(L, -2, ++n);
    }
    lua_setfield(L, -2, "alpn");
    cs_push_versions(L, h->versions, h->version_count);
    lua_setfield(L, -2, "versions");
    return 1;
}

static int CS_RAISES push_failure(lua_State *L, int err)
{
    switch (err) {
    case -EPROTONOSUPPORT:
        return cs_push_error_as(L, "notssl", CS_EINVAL);
    case -EBADMSG:
        return cs_push_error_as(L, "sslhandshake", CS_EINVAL);
    case -EMSGSIZE:
        return cs_push_error_as(L, "toomuchdata", CS_EINVAL);
    default:
        return cs_push_error_as(L, cs_sock_read_error(err), err);
    }
}

/* ---- the method ---- */

/* More can still come: not at the stream's end, and not when it stops reading for want of room. */
static int what_is_missing(const struct cs_sock *s)
{
    if (s->stream->err) {
        return s->stream->err;
    }
    if (s->stream->eof) {
        return CS_EOF;
    }
    return cs_chain_len(&s->stream->in) >= s->vm->net->config.in_high ? -EMSGSIZE : 0;
}

/* Stack: socket, the peek. */
static int look(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, 1);
    struct peek *p = lua_touserdata(L, 2);
    struct cs_task *t = cs_task_current(L);
    uint64_t now = cs_loop_now(s->vm->net->loop);
    (void)ctx;

    if (!s->stream) {
        return push_failure(L, s->state == CS_SOCK_TERMINATED ? s->end : CS_ESTATE);
    }
    int err = feed_new(p, &s->stream->in);

    if (err == 1) {
        return push_hello(L, &p->hello);
    }
    if (err == 0 && status == LUA_YIELD) { /* woken: perhaps by something else than input */
        err = t->wake;
    }
    err = err < 0 ? err : what_is_missing(s);
    if (err == 0 && now >= p->deadline_ms) {
        err = CS_ETIMEOUT;
    }
    if (err < 0) {
        return push_failure(L, err);
    }
    int64_t ms = p->deadline_ms == UINT64_MAX ? -1 : (int64_t)(p->deadline_ms - now);

    return cs_sock_wait_input(L, s, "clienthello", ms, look, 0);
}

/* sock:clienthello([ms]): the time is for all of it, not for each piece. */
int cs_sock_clienthello(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    int64_t ms = lua_isnoneornil(L, 2) ? -1 : cs_check_ms(L, 2);

    cs_sock_check_reader(L, s);
    lua_settop(L, 1);
    struct peek *p = push_peek(L);

    if (ms >= 0) {
        p->deadline_ms = cs_loop_now(s->vm->net->loop) + (uint64_t)ms;
    }
    return look(L, LUA_OK, 0);
}

void cs_bind_hello(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", peek_gc}, {NULL, NULL}};
    cs_bind_type(L, HELLO_TYPE, meta, NULL);
}
