/*
 * bind_websocket - ba.socket.websocket, sock:websocket, sock:ping, and how a WebSocket is read
 * (ba-api B.4, B.7).
 */
#include "net/ws.h"

#include <math.h>
#include <string.h>

#include "script/sock.h"

#define MESSAGE_MAX (1024 * 1024) /* bytes, by default */
#define PING_MAX_S 86400

/* ---- read ---- */

/* A frame in pieces comes with how much of it has been read and how long it is. */
static int CS_RAISES push_place(lua_State *L, const struct cs_ws_input *in, size_t n)
{
    size_t read = in->at + n;
    lua_pushinteger(L, (lua_Integer)read);
    lua_pushinteger(L, (lua_Integer)in->frame);
    return 4;
}

int cs_websocket_read(lua_State *L, struct cs_stream *stream)
{
    struct cs_ws_input in;
    bool there = cs_ws_stream_next(stream, &in);
    size_t n = there ? in.len : 0;
    if (!cs_ws_stream_is_messages(stream)) {
        n = CS_MIN(n, (size_t)CS_READ_MAX);
    }
    cs_push_front(L, &stream->in, n);
    lua_pushboolean(L, in.text);
    int count = n < in.frame ? push_place(L, &in, n) : 2;
    cs_ws_stream_take(stream, n);
    return count;
}

/* ---- methods ---- */

static int sock_websocket(lua_State *L)
{
    const struct cs_sock *s = cs_sock_check(L, 1);
    lua_pushboolean(L, s->stream && cs_ws_stream_is(s->stream));
    return 1;
}

static int sock_ping(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    size_t len = 0;
    const char *data = lua_isnoneornil(L, 2) ? NULL : cs_check_bytes(L, 2, &len);
    luaL_argcheck(L, len <= CS_WS_CONTROL_MAX, 2, "at most 125 bytes");
    if (s->state == CS_SOCK_TERMINATED) {
        return cs_push_write_error(L, s->end);
    }
    if (!s->stream || !cs_ws_stream_is(s->stream)) {
        return luaL_error(L, "ping on a socket that is not a WebSocket");
    }
    int err = cs_ws_stream_ping(s->stream, data, len);
    if (err < 0) {
        return cs_push_write_error(L, err);
    }
    lua_pushboolean(L, true);
    return 1;
}

const luaL_Reg cs_sock_ws_methods[] = {
    {"websocket", sock_websocket}, {"ping", sock_ping}, {NULL, NULL}};

/* ---- ba.socket.websocket ---- */

static uint32_t CS_RAISES opt_size(lua_State *L, const char *field, uint32_t otherwise)
{
    lua_Integer n = cs_opt_number(L, 2, field, otherwise);
    luaL_argcheck(L, n >= 1 && n <= CS_WS_SIZE_MAX, 2,
                  lua_pushfstring(L, "option '%s': 1 to %d bytes", field, (int)CS_WS_SIZE_MAX));
    return (uint32_t)n;
}

static enum cs_ws_role CS_RAISES check_role(lua_State *L)
{
    const char *role = cs_opt_string(L, 2, "role");
    bool client = role && strcmp(role, "client") == 0;
    luaL_argcheck(L, client || (role && strcmp(role, "server") == 0), 2,
                  "option 'role': \"server\" or \"client\" expected");
    return client ? CS_WS_CLIENT : CS_WS_SERVER;
}

/* Seconds, a fraction of one too. */
static uint32_t CS_RAISES check_ping(lua_State *L)
{
    lua_Number s = 0;
    if (lua_getfield(L, 2, "ping") != LUA_TNIL) {
        s = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
    }
    luaL_argcheck(L, s >= 0 && s <= PING_MAX_S, 2, "option 'ping': seconds expected");
    lua_pop(L, 1);
    return (uint32_t)ceil(s * 1000);
}

static uint8_t CS_RAISES opt_bits(lua_State *L, int table, const char *field)
{
    lua_Integer n = cs_opt_number(L, table, field, CS_WS_BITS_MAX);
    luaL_argcheck(L, n >= CS_WS_BITS_MIN && n <= CS_WS_BITS_MAX, 2,
                  lua_pushfstring(L, "option 'deflate': %s out of range", field));
    return (uint8_t)n;
}

/* False: not asked for. */
static bool CS_RAISES check_deflate(lua_State *L, bool messages, struct cs_ws_deflate_options *o)
{
    if (lua_getfield(L, 2, "deflate") == LUA_TNIL) {
        lua_pop(L, 1);
        return false;
    }
    luaL_argcheck(L, lua_istable(L, -1) && messages, 2,
                  "option 'deflate': a table expected, and 'messages'");
    int t = lua_gettop(L);
    *o = (struct cs_ws_deflate_options){
        .send_takeover = cs_opt_bool(L, t, "send_takeover", false),
        .receive_takeover = cs_opt_bool(L, t, "receive_takeover", false),
        .send_bits = opt_bits(L, t, "send_bits"),
        .receive_bits = opt_bits(L, t, "receive_bits"),
    };
    lua_pop(L, 1);
    return true;
}

static struct cs_ws_stream_spec CS_RAISES check_spec(lua_State *L)
{
    luaL_checktype(L, 2, LUA_TTABLE);
    bool messages = cs_opt_bool(L, 2, "messages", false);
    uint32_t frame_max = opt_size(L, "maxframe", CS_WS_FRAME_MAX);
    uint32_t message_max = opt_size(L, "maxsize", MESSAGE_MAX);
    return (struct cs_ws_stream_spec){
        .role = check_role(L),
        .messages = messages,
        .half_close = cs_opt_bool(L, 2, "halfclose", false),
        .size_max = messages ? message_max : frame_max,
        .ping_ms = check_ping(L),
    };
}

/* websocket(sock, {role =, messages =, maxframe =, maxsize =, ping =, halfclose =, deflate =}):
 * input that has not been read is the first of the peer's frames. */
static int socket_websocket(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    struct cs_ws_stream_spec spec = check_spec(L);
    struct cs_ws_deflate_options deflate;
    struct cs_stream *stream;
    spec.deflate = check_deflate(L, spec.messages, &deflate) ? &deflate : NULL;
    cs_sock_check_reader(L, s);
    if (!s->stream) {
        return cs_push_error_as(L, "invalidsocketcon", CS_ESTATE);
    }
    if (s->waiter || s->writing || !cs_list_empty(&s->writers)) {
        return cs_push_error(L, CS_ESTATE); /* a message would begin outside of any frame */
    }
    int err = cs_ws_stream_create(&stream, s->vm->net, s->stream, &spec);
    if (err < 0) {
        return cs_push_error(L, err);
    }
    cs_sock_replace(s, stream);
    cs_stream_resume(stream); /* pings are answered although nobody reads */
    lua_pushboolean(L, true);
    return 1;
}

void cs_bind_websocket(lua_State *L)
{
    lua_getfield(L, -1, "socket");
    luaL_getmetatable(L, CS_SOCK_TYPE);
    lua_pushcclosure(L, socket_websocket, 1);
    lua_setfield(L, -2, "websocket");
    lua_pop(L, 1);
}
