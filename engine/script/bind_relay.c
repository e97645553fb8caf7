/*
 * bind_relay - ba.socket.relay(a, b [, options]): two open sockets handed to the engine.
 *
 *   options.text    true: to a WebSocket among them go text messages, not binary ones
 *   options.idle    ms without a byte either way until it ends (0, the default: never)
 *   options.linger  ms the second half may stay silent once the first has ended (30,000; 0: for
 * ever) options.detach  true: returns true at once, the tunnel has no Lua object any more
 *   options.on_close  function(result), called when a detached one has ended
 *
 * Returns result = {a_to_b = bytes, b_to_a = bytes, reason = "eof", "idle", "linger", "reset", ...,
 * first = "a" | "b" | nil}, or nil, error. Both sockets are closed for the script from the call on.
 */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/relay.h"
#include "net/ws.h"
#include "script/bind_relay.h"
#include "script/sock.h"

/* Somebody here is to be told: a waiting task, or a function. */
struct told {
    struct cs_list node; /* in vm->relays, then vm->closed_relays */
    struct cs_vm *vm;
    struct cs_relay *relay; /* NULL once it has ended */
    struct cs_task *task;   /* waits for it, or NULL */
    int on_close;           /* registry reference, or LUA_NOREF */
    const char *service;    /* whose function that is */
    struct cs_relay_result result;
};

static const char *reason(int err)
{
    switch (err) {
    case 0:
        return "eof";
    case CS_EIDLE:
        return "idle";
    case CS_ELINGER:
        return "linger";
    case CS_ESHUTDOWN:
        return "sysshutdown";
    case -ECONNRESET:
    case -EPIPE:
        return "reset";
    default:
        return cs_error_string(err);
    }
}

static void CS_RAISES push_result(lua_State *L, const struct cs_relay_result *r)
{
    lua_createtable(L, 0, 4);
    lua_pushinteger(L, (lua_Integer)r->bytes[0]);
    lua_setfield(L, -2, "a_to_b");
    lua_pushinteger(L, (lua_Integer)r->bytes[1]);
    lua_setfield(L, -2, "b_to_a");
    lua_pushstring(L, reason(r->err));
    lua_setfield(L, -2, "reason");
    if (r->first != CS_RELAY_NOBODY) {
        lua_pushstring(L, r->first == CS_RELAY_A ? "a" : "b");
        lua_setfield(L, -2, "first");
    }
}

static void told_free(struct told *t)
{
    cs_list_remove(&t->node);
    luaL_unref(t->vm->L, LUA_REGISTRYINDEX, t->on_close);
    t->vm->relay_count--;
    cs_free(t);
}

static void ended(void *user, const struct cs_relay_result *result)
{
    struct told *t = user;
    t->relay = NULL;
    t->result = *result;
    if (t->task) {
        cs_task_wake(t->task, 0);
        return; /* the continuation reads the result and frees */
    }
    cs_list_remove(&t->node);
    cs_list_append(&t->vm->closed_relays, &t->node);
    cs_loop_again(t->vm->net->loop);
}

/* ---- on_close, from the script phase ---- */

/* Lua: (told) -> starts a task that calls its function with the result. Runs protected. */
static int start_on_close(lua_State *L)
{
    struct told *t = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->on_close);
    push_result(L, &t->result);
    struct cs_task *task = cs_task_create(L, CS_TASK_ON_CLOSE, NULL, 1);
    task->name = t->service;
    cs_task_start(task);
    return 0;
}

void cs_relays_closed(struct cs_vm *vm)
{
    struct cs_list *l;
    while ((l = cs_list_first(&vm->closed_relays))) {
        struct told *t = cs_container_of(l, struct told, node);
        lua_pushcfunction(vm->L, start_on_close);
        lua_pushlightuserdata(vm->L, t);
        if (lua_pcall(vm->L, 1, 0, 0) != LUA_OK) {
            cs_log(CS_LOG_ERROR, "on_close of a relay was not called service=%s: %s", t->service,
                   lua_tostring(vm->L, -1));
            lua_pop(vm->L, 1);
        }
        told_free(t);
    }
}

void cs_relays_forget(struct cs_vm *vm)
{
    struct cs_list *lists[] = {&vm->relays, &vm->closed_relays};
    for (unsigned i = 0; i < CS_ARRAY_LEN(lists); i++) {
        cs_list_each(l, next, lists[i]) {
            struct told *t = cs_container_of(l, struct told, node);
            if (t->relay) {
                cs_relay_forget(t->relay);
            }
            told_free(t);
        }
    }
}

/* The registry holds it, so nothing here can fail. */
static const char *defined_at(struct cs_vm *vm, int function, char *buf, size_t size)
{
    lua_Debug ar;
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, function);
    lua_getinfo(vm->L, ">S", &ar);
    snprintf(buf, size, "%s:%d", ar.short_src, ar.linedefined);
    return buf;
}

void cs_relays_places(struct cs_vm *vm, unsigned max, void (*tell)(void *user, const char *place),
                      void *user)
{
    char buf[128];
    cs_list_each(l, next, &vm->relays) {
        const struct told *t = cs_container_of(l, struct told, node);
        if (max-- == 0) {
            break;
        }
        if (t->on_close != LUA_NOREF) {
            tell(user, defined_at(vm, t->on_close, buf, sizeof(buf)));
        }
    }
}

/* ---- the call ---- */

static void leave(struct cs_task *task)
{
    struct told *t = task->user;
    if (t->relay) {
        cs_relay_forget(t->relay);
        cs_relay_stop(t->relay, CS_CLOSE_GRACEFUL, CS_ESHUTDOWN);
        t->relay = NULL;
    }
    t->task = NULL;
    told_free(t);
}

/* After a wait ended otherwise (stop), `leave` has freed what ctx points to. */
static int relay_on(lua_State *L, int status, lua_KContext ctx)
{
    struct told *t = (struct told *)ctx;
    int why = cs_task_current(L)->wake;
    (void)status;
    if (why < 0) {
        return cs_push_error(L, why);
    }
    struct cs_relay_result result = t->result;
    told_free(t);
    push_result(L, &result);
    return 1;
}

static const char *unusable(const struct cs_sock *s)
{
    if (s->state != CS_SOCK_OPEN) {
        return "socket is not connected";
    }
    if (s->waiter || s->writing || !cs_list_empty(&s->writers)) {
        return "socket busy: a coroutine waits on it";
    }
    return NULL;
}

static struct cs_sock *CS_RAISES check_usable(lua_State *L, int arg)
{
    struct cs_sock *s = cs_sock_check(L, arg);
    const char *why = unusable(s);
    luaL_argcheck(L, s->state == CS_SOCK_TERMINATED || !why, arg, why);
    return s;
}

static uint32_t CS_RAISES opt_ms(lua_State *L, const char *field, uint32_t otherwise)
{
    lua_Integer ms = cs_opt_number(L, 3, field, otherwise);
    luaL_argcheck(L, ms >= 0 && ms <= INT32_MAX, 3,
                  lua_pushfstring(L, "option '%s': milliseconds out of range", field));
    return (uint32_t)ms;
}

/* Who is to be told, or NULL when nobody is. The function, if any, is anchored. */
static struct told *CS_RAISES make_told(lua_State *L, bool detach, bool on_close)
{
    struct cs_vm *vm = cs_vm_of(L);
    if (detach && !on_close) {
        return NULL;
    }
    int ref = LUA_NOREF;
    if (on_close) {
        lua_getfield(L, 3, "on_close");
        ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    struct told *t = cs_zalloc(sizeof(*t));
    if (!t) {
        luaL_unref(L, LUA_REGISTRYINDEX, ref);
        luaL_error(L, "not enough memory");
    }
    t->vm = vm;
    t->on_close = ref;
    t->service = cs_task_service(vm);
    t->result.first = CS_RELAY_NOBODY;
    cs_list_append(&vm->relays, &t->node);
    vm->relay_count++;
    return t;
}

static bool CS_RAISES has_on_close(lua_State *L)
{
    bool there = lua_istable(L, 3) && lua_getfield(L, 3, "on_close") != LUA_TNIL;
    luaL_argcheck(L, !there || lua_isfunction(L, -1), 3, "option 'on_close': function expected");
    lua_settop(L, 3);
    return there;
}

static int start(lua_State *L, struct cs_sock *a, struct cs_sock *b,
                 const struct cs_relay_options *o, struct told *told)
{
    struct cs_net *net = a->vm->net;
    struct cs_stream *sa = a->stream, *sb = b->stream;
    (void)L;
    cs_sock_release(a);
    cs_sock_release(b);
    struct cs_relay *r = cs_relay_start(net, sa, sb, o, told ? ended : NULL, told);
    if (!r) {
        cs_stream_close(sa, CS_CLOSE_ABORT, -ENOMEM);
        cs_stream_close(sb, CS_CLOSE_ABORT, -ENOMEM);
        return -ENOMEM;
    }
    if (told) {
        told->relay = r;
    }
    return 0;
}

static void as_bytes(struct cs_stream *s, bool text)
{
    if (cs_ws_stream_is(s)) {
        cs_ws_stream_set_bytes(s);
        cs_ws_stream_set_text(s, text);
    }
}

static int socket_relay(lua_State *L)
{
    struct cs_relay_options o;
    cs_vm_check_open(L);
    lua_settop(L, 3);
    struct cs_sock *a = check_usable(L, 1), *b = check_usable(L, 2);
    luaL_argcheck(L, a != b, 2, "a socket cannot be relayed to itself");
    luaL_argcheck(L, lua_isnoneornil(L, 3) || lua_istable(L, 3), 3, "table expected");
    cs_relay_options_default(&o);
    o.idle_ms = opt_ms(L, "idle", o.idle_ms);
    o.linger_ms = opt_ms(L, "linger", o.linger_ms);
    bool detach = cs_opt_bool(L, 3, "detach", false), on_close = has_on_close(L);
    bool text = cs_opt_bool(L, 3, "text", false);
    struct cs_task *t = detach ? NULL : cs_task_can_wait(L, "relay");
    struct told *told = make_told(L, detach, on_close && detach);
    if (a->state != CS_SOCK_OPEN || b->state != CS_SOCK_OPEN) {
        if (told) {
            told_free(told);
        }
        return cs_push_error(L, a->state != CS_SOCK_OPEN ? a->end : b->end);
    }
    as_bytes(a->stream, text);
    as_bytes(b->stream, text);
    int err = start(L, a, b, &o, told);
    if (err < 0) {
        if (told) {
            told_free(told);
        }
        return cs_push_error(L, err);
    }
    if (detach) {
        lua_pushboolean(L, true);
        return 1;
    }
    told->task = t;
    t->user = told;
    t->waiting = CS_WAIT_RELAY;
    return cs_task_park(L, t, leave, -1, relay_on, (lua_KContext)told);
}

void cs_bind_relay(lua_State *L)
{
    lua_getfield(L, -1, "socket");
    luaL_getmetatable(L, CS_SOCK_TYPE);
    lua_pushcclosure(L, socket_relay, 1);
    lua_setfield(L, -2, "relay");
    lua_pop(L, 1);
}
