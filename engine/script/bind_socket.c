/* bind_socket - ba.socket: connect, bind, event, getsock, toip, http2sock, stat (ba-api B.1). */
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "script/bind_shark.h"
#include "script/sock.h"
#include "script/sock_tls.h"

#define CONNECT_TIMEOUT_MS 1000 /* the documented default */
#define SYSTEMD "systemd:"      /* in front of the name of an inherited socket */

/* ---- options ---- */

/* An interface's address of a family. 0 or -ENODEV. */
static int interface_addr(const char *name, int family, struct cs_addr *out)
{
    struct ifaddrs *all;
    int err = -ENODEV;
    if (getifaddrs(&all) < 0) {
        return -errno;
    }
    for (struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (i->ifa_addr && i->ifa_addr->sa_family == family && strcmp(i->ifa_name, name) == 0) {
            socklen_t len = family == AF_INET ? sizeof(out->v4) : sizeof(out->v6);
            cs_addr_from_sockaddr(out, i->ifa_addr, len);
            err = 0;
            break;
        }
    }
    freeifaddrs(all);
    return err;
}

int cs_local_addr(const char *intf, bool ipv6, uint16_t port, struct cs_addr *out)
{
    if (strcmp(intf, "localhost") == 0) { /* never anything else: RFC 6761 6.3 */
        intf = ipv6 ? "::1" : "127.0.0.1";
    }
    if (cs_addr_parse(out, intf, port) == 0) {
        return 0;
    }
    int err = interface_addr(intf, ipv6 ? AF_INET6 : AF_INET, out);
    if (err == 0) {
        cs_addr_set_port(out, port);
    }
    return err;
}

uint16_t cs_check_port(lua_State *L, int arg)
{
    lua_Integer port = cs_check_number(L, arg);
    luaL_argcheck(L, port >= 0 && port <= 65535, arg, "port out of range");
    return (uint16_t)port;
}

/* ---- connect ---- */

static bool is_unix(const char *address)
{
    return strncmp(address, "unix:", 5) == 0;
}

struct cs_sock *cs_sock_for_caller(lua_State *L)
{
    struct cs_task *t = cs_task_current(L);
    if (!t || t->kind != CS_TASK_COSOCKET) {
        return cs_sock_new(L, CS_SOCK_BLOCKING);
    }
    if (!t->sock || t->sock->owner != t || t->sock->state != CS_SOCK_UNBOUND) {
        return NULL;
    }
    cs_task_push_sock(L, t);
    return t->sock;
}

/* connect_on's stack: address, port, options, socket. */
#define SOCK_INDEX 4

/* TLS gets what is left of the time. */
static int secure(struct cs_sock *s, struct cs_stream **stream)
{
    uint64_t now = cs_loop_now(s->vm->net->loop), end = s->tls->deadline_ms;
    uint32_t left = end > now ? (uint32_t)CS_MIN(end - now, (uint64_t)UINT32_MAX) : 1;
    return cs_sock_tls_open(stream, s, *stream, s->tls, left);
}

static void dialled(void *user, struct cs_conn *c, int err)
{
    struct cs_sock *s = user;
    bool tls = s->tls && s->tls->context;
    s->dial = NULL;
    s->vm->socket_count--;
    if (c) {
        struct cs_stream *stream = cs_conn_stream(c);
        err = tls ? secure(s, &stream) : 0;
        if (err == 0) {
            cs_sock_attach(s, stream);
            if (tls) {
                return; /* the end of the handshake wakes it */
            }
        } else {
            cs_stream_close(stream, CS_CLOSE_ABORT, err);
        }
    }
    if (err < 0) {
        s->state = CS_SOCK_UNBOUND; /* it may try again */
    }
    cs_sock_wake(s, err);
}

static int push_connect_error(lua_State *L, int err)
{
    bool system = err < 0 && err > -4096 && err != -ENOMEM;
    return cs_push_error_as(L, system ? "cannotconnect" : cs_error_string(err), err);
}

/* The handshake failed, or the server stops in the middle of it. */
static int CS_RAISES push_tls_error(lua_State *L, struct cs_sock *s, int err)
{
    const char *detail = cs_tls_stream_session(s->stream)->why;
    if (err == CS_ESHUTDOWN) {
        cs_sock_close(s, err, 0);
    } else {
        cs_sock_unattach(s, err);
    }
    int n = push_connect_error(L, err);
    if (n == 2 && detail) {
        lua_pushstring(L, detail);
        n++;
    }
    return n;
}

static int connected_on(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, SOCK_INDEX);
    int why = cs_task_current(L)->wake;
    (void)status;
    (void)ctx;
    if (s->state == CS_SOCK_CONNECTING) { /* woken by something else than the dial */
        cs_sock_close(s, why, 0);
    }
    if (s->state == CS_SOCK_OPEN && why < 0) {
        return push_tls_error(L, s, why);
    }
    if (s->state == CS_SOCK_OPEN) {
        lua_settop(L, SOCK_INDEX);
        return 1;
    }
    return push_connect_error(L, s->state == CS_SOCK_TERMINATED ? s->end : why);
}

static int CS_RAISES wait_connected(lua_State *L, struct cs_sock *s, struct cs_task *t)
{
    s->waiter = t;
    t->waiting = CS_WAIT_CONNECT;
    t->user = s;
    return cs_task_park(L, t, cs_sock_leave, -1, connected_on, 0);
}

static uint32_t clamp_ms(lua_Integer ms)
{
    return (uint32_t)CS_MIN(CS_MAX(ms, 1), (lua_Integer)UINT32_MAX);
}

/* What connect's arguments say (stack: address, port, options); the strings stay with Lua. `local`
 * is room for spec->local. 0, or what is wrong with `intf`. */
static int CS_RAISES check_spec(lua_State *L, struct cs_dial_spec *spec, struct cs_addr *local)
{
    bool ipv6 = cs_opt_bool(L, 3, "ipv6", false);
    const char *intf = cs_opt_string(L, 3, "intf");
    *spec = (struct cs_dial_spec){
        .host = lua_tostring(L, 1),
        .port = (uint16_t)lua_tointeger(L, 2),
        .family = ipv6 ? CS_RESOLVE_V6 : CS_RESOLVE_ANY,
        .timeout_ms = clamp_ms(cs_opt_number(L, 3, "timeout", CONNECT_TIMEOUT_MS)),
        .local = intf ? local : NULL,
    };
    return intf ? cs_local_addr(intf, ipv6, 0, local) : 0;
}

/* Even a connect that fails at once suspends (ba-api A.9). ctx: the error. */
static int refused_on(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    return cs_push_error_as(L, ctx == -ENOMEM ? "mem" : "bind", (int)ctx);
}

static int CS_RAISES refuse(lua_State *L, struct cs_sock *s, struct cs_task *t, int err)
{
    s->state = CS_SOCK_UNBOUND;
    return cs_task_give_way(L, t, refused_on, err);
}

static int CS_RAISES dial(lua_State *L, struct cs_sock *s, struct cs_task *t)
{
    struct cs_dial_spec spec;
    struct cs_addr local;
    int err = check_spec(L, &spec, &local);
    if (s->state != CS_SOCK_CONNECTING) { /* a function of the options has closed it */
        return push_connect_error(L, s->end);
    }
    if (err < 0) {
        return refuse(L, s, t, err);
    }
    if (s->tls) { /* from the call on, as that of the dial */
        s->tls->deadline_ms = cs_clock_ms() + spec.timeout_ms;
    }
    s->dial = cs_dial_start(s->vm->net, &spec, dialled, s);
    if (!s->dial) {
        return refuse(L, s, t, -ENOMEM);
    }
    s->vm->socket_count++;
    return wait_connected(L, s, t);
}

/* A start-up chunk's connect is held until its generation is committed. */
static int held_on(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, SOCK_INDEX);
    struct cs_task *t = cs_task_current(L);
    (void)status;
    (void)ctx;
    if (t->wake < 0 || s->state != CS_SOCK_CONNECTING) {
        return connected_on(L, LUA_OK, 0);
    }
    return dial(L, s, t);
}

static int CS_RAISES hold(lua_State *L, struct cs_sock *s, struct cs_task *t)
{
    s->waiter = t;
    t->waiting = CS_WAIT_CONNECT;
    t->user = s;
    cs_list_append(&s->vm->held, &t->node);
    return cs_task_park(L, t, cs_sock_leave, -1, held_on, 0);
}

static int socket_connect(lua_State *L)
{
    const char *address = luaL_checkstring(L, 1);
    lua_settop(L, 3);
    if (is_unix(address) && lua_istable(L, 2)) { /* connect("unix:/path", options) */
        lua_replace(L, 3);
        lua_pushnil(L);
        lua_insert(L, 2);
        lua_settop(L, 3);
    }
    lua_Integer port = is_unix(address) ? 0 : cs_check_port(L, 2);
    lua_pushinteger(L, port);
    lua_replace(L, 2);
    const struct cs_shark *shark = cs_opt_shark(L, 3, false);
    lua_settop(L, 3);
    struct cs_task *t = cs_task_can_wait(L, "connect");
    const char *alpn = cs_opt_string(L, 3, "alpn"), *host = cs_opt_string(L, 3, "host");
    bool strict = cs_opt_bool(L, 3, "trusted", false);
    bool blocking = cs_opt_bool(L, 3, "blocking", false);
    struct cs_dial_spec spec;
    struct cs_addr local;
    int err = check_spec(L, &spec, &local); /* raises now, before the socket is touched */
    (void)err;                              /* dial says it */
    struct cs_sock *s = blocking ? cs_sock_new(L, CS_SOCK_BLOCKING) : cs_sock_for_caller(L);
    if (!s) {
        return cs_push_error(L, CS_ESTATE);
    }
    cs_sock_tls_free(s->vm, s->tls); /* of a try before */
    s->tls = cs_sock_tls_create(shark ? shark->context : NULL,
                                host || is_unix(address) ? host : address, alpn, strict);
    if (!s->tls) {
        return cs_push_error(L, -ENOMEM);
    }
    s->state = CS_SOCK_CONNECTING;
    return s->vm->state == CS_VM_LOADING ? hold(L, s, t) : dial(L, s, t);
}

/* ---- bind ---- */

/* A socket of the service manager, by the name its unit gives it. With -t there is none to be had.
 */
static int named_addr(const struct cs_vm *vm, const char *name, struct cs_addr *addr)
{
    if (vm->check_only) {
        cs_addr_any(addr, AF_INET, 0);
        return 0;
    }
    return cs_registry_named(vm->registry, vm->net, name, vm->generation, addr);
}

/* The address of bind(port | "unix:/path" | "systemd:name" [, options | intf]). */
static int CS_RAISES bind_addr(lua_State *L, struct cs_vm *vm, struct cs_addr *addr)
{
    bool ipv6 = cs_opt_bool(L, 2, "ipv6", false);
    const char *text = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : "";
    if (is_unix(text)) {
        return cs_addr_parse(addr, text, 0);
    }
    if (strncmp(text, SYSTEMD, strlen(SYSTEMD)) == 0) {
        return named_addr(vm, text + strlen(SYSTEMD), addr);
    }
    luaL_argcheck(
        L, lua_type(L, 1) != LUA_TSTRING || lua_isnumber(L, 1), 1,
        "expected a port, \"unix:/path\" or \"systemd:NAME\"; an address is the option intf");
    uint16_t port = cs_check_port(L, 1);
    const char *intf =
        lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : cs_opt_string(L, 2, "intf");
    if (intf) {
        return cs_local_addr(intf, ipv6, port, addr);
    }
    cs_addr_any(addr, ipv6 ? AF_INET6 : AF_INET, port);
    return 0;
}

/* What it does to the connections it accepts; shark: NULL or the option, at index 3. False: no
 * memory. */
static bool CS_RAISES secure_listener(lua_State *L, struct cs_sock *s, const struct cs_shark *shark)
{
    cs_sock_tls_free(s->vm, s->tls); /* of a connect that failed */
    s->tls = shark ? cs_sock_tls_create(shark->context, NULL, NULL, false) : NULL;
    if (s->tls) {
        s->tls->timeout_ms = shark->timeout_ms;
        lua_pushvalue(L, 3);
        cs_sock_tls_pin(L, s->tls);
    }
    return s->tls || !shark;
}

static int socket_bind(lua_State *L)
{
    struct cs_vm *vm = cs_vm_of(L);
    struct cs_addr addr;
    if (!vm->current) {
        return luaL_error(L, "bind in a finalizer");
    }
    lua_settop(L, 2);
    const struct cs_shark *shark = cs_opt_shark(L, 2, true); /* stays at 3 */
    lua_Integer backlog = cs_opt_number(L, 2, "backlog", 0);
    struct cs_listen_options o = {
        .backlog = (int)CS_MIN(CS_MAX(backlog, 0), 65535),
        .reuseport = cs_opt_bool(L, 2, "reuseport", false),
        .unix_mode = (unsigned)cs_opt_number(L, 2, "mode", 0) & 0777,
    };
    int err = bind_addr(L, vm, &addr);
    if (err == 0 && vm->state >= CS_VM_DRAINING) {
        err = CS_ESHUTDOWN; /* an older generation gets no new address */
    }
    if (err < 0) {
        return cs_push_error_as(L, err == CS_ESHUTDOWN ? "sysshutdown" : "bind", err);
    }
    struct cs_sock *s = cs_sock_for_caller(L);
    if (!s) {
        return cs_push_error(L, CS_ESTATE);
    }
    if (!secure_listener(L, s, shark)) {
        return cs_push_error(L, -ENOMEM);
    }
    err = cs_registry_bind(vm->registry, &s->bound, vm->net, &addr, &o, vm->current->name,
                           vm->generation, vm->state == CS_VM_CURRENT, vm->check_only,
                           &cs_sock_bound_user, s);
    if (err < 0) {
        cs_vm_note_bind(vm, &addr, err);
        cs_sock_tls_free(vm, s->tls);
        s->tls = NULL;
        return cs_push_error_as(L, err == CS_ESHUTDOWN ? "sysshutdown" : "bind", err);
    }
    s->state = CS_SOCK_LISTENING;
    vm->listen_count++;
    return 1;
}

/* ---- event, getsock ---- */

static int socket_event(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    int extra = lua_gettop(L) - 1;
    struct cs_sock *s = cs_sock_new(L, CS_SOCK_COSOCKET);
    lua_insert(L, 1); /* kept here as the result */
    lua_pushvalue(L, 1);
    lua_insert(L, 3); /* socket, f, socket, arguments */
    cs_sock_run(L, s, CS_SOCK_COSOCKET, extra + 1);
    lua_settop(L, 1);
    return 1;
}

static int socket_getsock(lua_State *L)
{
    struct cs_task *t = cs_task_current(L);
    if (!t || t->kind != CS_TASK_COSOCKET || !t->sock) {
        return 0;
    }
    cs_task_push_sock(L, t);
    return 1;
}

/* ---- toip ---- */

struct lookup {
    struct cs_resolve_query query;
    struct cs_task *task;
    int err;
    struct cs_addr addr;
};

static void looked_up(struct cs_resolve_query *q, int err, const struct cs_addr *addrs, unsigned n)
{
    struct lookup *l = cs_container_of(q, struct lookup, query);
    l->err = err;
    if (err == 0 && n > 0) {
        l->addr = addrs[0];
    }
    cs_task_wake(l->task, 0);
}

static void leave_lookup(struct cs_task *t)
{
    struct lookup *l = t->user;
    cs_resolve_cancel(&l->query);
    l->err = CS_ESHUTDOWN;
}

static int push_ip(lua_State *L, const struct cs_addr *a)
{
    char text[CS_ADDR_TEXT_MAX];
    lua_pushstring(L, cs_addr_ip(a, text));
    return 1;
}

/* Stack: name, ipv6, the lookup (a userdata, so that nothing leaks). */
static int toip_on(lua_State *L, int status, lua_KContext ctx)
{
    const struct lookup *l = lua_touserdata(L, 3);
    (void)status;
    (void)ctx;
    return l->err < 0 ? cs_push_error(L, l->err) : push_ip(L, &l->addr);
}

static int socket_toip(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    struct cs_addr a;
    lua_settop(L, 2);
    if (cs_addr_parse(&a, name, 0) == 0 && !is_unix(name)) {
        return push_ip(L, &a);
    }
    struct cs_task *t = cs_task_can_wait(L, "toip");
    struct lookup *l = lua_newuserdatauv(L, sizeof(*l), 0);
    *l = (struct lookup){.task = t, .query = {.fn = looked_up}};
    t->user = l;
    cs_resolve(t->vm->net->resolver, &l->query, name,
               lua_toboolean(L, 2) ? CS_RESOLVE_V6 : CS_RESOLVE_ANY);
    return cs_task_park(L, t, leave_lookup, -1, toip_on, 0);
}

/* ---- http2sock ---- */

static int returned_on(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    return lua_gettop(L);
}

/* http2sock(h): h, or h.raw, is an object with the metamethod __http2sock, which knows how to give
 * its connection away (scripts/lib/httpc.lua). */
static int socket_http2sock(lua_State *L)
{
    lua_settop(L, 1);
    if (lua_istable(L, 1)) {
        if (lua_getfield(L, 1, "raw") != LUA_TNIL) {
            lua_replace(L, 1);
        }
        lua_settop(L, 1);
    }
    if (luaL_getmetafield(L, 1, "__http2sock") == LUA_TNIL) {
        return luaL_typeerror(L, 1, "HTTP client");
    }
    lua_insert(L, 1);
    lua_callk(L, 1, LUA_MULTRET, 0, returned_on);
    return lua_gettop(L);
}

static int socket_stat(lua_State *L)
{
    const struct cs_vm *vm = cs_vm_of(L);
    lua_pushinteger(L, (lua_Integer)vm->socket_count);
    lua_pushinteger(L, (lua_Integer)vm->socket_count);
    return 2;
}

void cs_bind_socket(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"connect", socket_connect}, {"bind", socket_bind}, {"event", socket_event},
        {"getsock", socket_getsock}, {"toip", socket_toip}, {"http2sock", socket_http2sock},
        {"stat", socket_stat},       {NULL, NULL}};
    cs_bind_hello(L);
    cs_bind_sock_methods(L);
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "socket");
}
