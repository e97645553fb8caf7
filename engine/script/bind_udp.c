/* bind_udp - ba.socket.udpcon, sendto, and read, write and setoption of a datagram socket (ba-api
 * B.1, B.3 to B.5). */
#include "script/bind_udp.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>

/* ---- events ---- */

static void on_input(void *user)
{
    struct cs_sock *s = user;
    if (s->waiter && s->waiter->waiting == CS_WAIT_READ && s->disabled == CS_SOCK_ENABLED) {
        cs_sock_wake(s, 0);
    }
}

static void on_room(void *user)
{
    cs_sock_wake_writers(user, 0);
}

static void on_closed(void *user)
{
    struct cs_sock *s = user;
    s->udp = NULL;
    cs_sock_close(s, CS_ESHUTDOWN, 0);
}

static const struct cs_udp_user udp_user = {
    .on_input = on_input, .on_room = on_room, .on_closed = on_closed};

static void attach(struct cs_sock *s, struct cs_udp *udp)
{
    s->state = CS_SOCK_DATAGRAM;
    s->udp = udp;
    s->vm->socket_count++;
}

/* ---- read ---- */

/* read([ms,] true) wants the sender too. Dropped after pushing: a memory error loses nothing. But a
 * finalizer may close or read the socket meanwhile. */
static int CS_RAISES push_datagram(lua_State *L, struct cs_sock *s, const struct cs_datagram *d)
{
    bool with_sender = lua_toboolean(L, lua_isboolean(L, 2) ? 2 : 3);
    struct cs_addr from;
    cs_datagram_from(d, &from);
    lua_pushlstring(L, (const char *)d->data, d->len);
    if (with_sender) {
        char text[CS_ADDR_TEXT_MAX];
        lua_pushstring(L, cs_addr_ip(&from, text));
        lua_pushinteger(L, cs_addr_port(&from));
    }
    if (s->state == CS_SOCK_DATAGRAM && cs_udp_first(s->udp) == d) {
        cs_udp_drop(s->udp);
    }
    return with_sender ? 3 : 1;
}

int cs_datagram_read(lua_State *L, struct cs_sock *s)
{
    const struct cs_datagram *d = cs_udp_first(s->udp);
    if (d) {
        return push_datagram(L, s, d);
    }
    int err = cs_udp_take_error(s->udp);
    if (err < 0) {
        return cs_push_error_as(L, cs_sock_read_error(err), err);
    }
    if (cs_udp_lost(s->udp)) {
        return cs_push_error(L, CS_ECLOSED);
    }
    cs_udp_resume(s->udp);
    return 0;
}

/* ---- write, sendto ---- */

static int push_sent(lua_State *L, int err)
{
    if (err == -EDESTADDRREQ) {
        return cs_push_error_as(L, "invalidsocketcon", err);
    }
    return err < 0 ? cs_push_write_error(L, err) : (lua_pushboolean(L, true), 1);
}

/* While the scripts load, sends are held, as connects are. */
static int CS_RAISES hold(lua_State *L, struct cs_sock *s, lua_KFunction k)
{
    struct cs_task *t = cs_task_can_wait(L, "sending");
    t->waiting = CS_WAIT_WRITE;
    t->user = s;
    cs_list_append(&s->vm->held, &t->node);
    return cs_task_park(L, t, cs_sock_leave, -1, k, 0);
}

static int write_on(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, 1);
    int why = cs_task_current(L)->wake;
    (void)status;
    (void)ctx;
    if (why < 0 || s->state != CS_SOCK_DATAGRAM) {
        return cs_push_write_error(L, why < 0 ? why : s->end);
    }
    lua_settop(L, 5);
    return cs_datagram_write(L, s, cs_check_payload(L));
}

/* The send buffer is full: the network is slower than the script. */
static int CS_RAISES wait_for_room(lua_State *L, struct cs_sock *s)
{
    struct cs_task *t = cs_task_current(L);
    if (s->mode == CS_SOCK_COSOCKET && (!t || t->kind != CS_TASK_COSOCKET)) {
        luaL_pushfail(L); /* it must not wait (A.5), and nothing was taken */
        lua_pushinteger(L, 0);
        return 2;
    }
    t = cs_task_can_wait(L, "write");
    struct cs_writer *w = lua_newuserdatauv(L, sizeof(*w), 0);
    *w = (struct cs_writer){.sock = s, .task = t};
    cs_list_init(&w->node);
    if (s->state != CS_SOCK_DATAGRAM) { /* by a finalizer */
        return cs_push_write_error(L, s->end);
    }
    cs_udp_watch(s->udp);
    return cs_writer_park(L, w, false, write_on, 0);
}

int cs_datagram_write(lua_State *L, struct cs_sock *s, struct cs_payload p)
{
    if (s->vm->state == CS_VM_LOADING) {
        return hold(L, s, write_on);
    }
    int err = cs_udp_send(s->udp, p.bytes, p.len, NULL);
    return err == -EAGAIN ? wait_for_room(L, s) : push_sent(L, err);
}

static int CS_RAISES send_to(lua_State *L, struct cs_sock *s)
{
    struct cs_addr to;
    size_t len;
    const char *bytes = cs_check_bytes(L, 2, &len);
    const char *ip = luaL_optstring(L, 3, NULL);
    if (s->state != CS_SOCK_DATAGRAM) {
        return cs_push_write_error(L, s->state == CS_SOCK_TERMINATED ? s->end : CS_ESTATE);
    }
    if (ip && (cs_addr_parse(&to, ip, cs_check_port(L, 4)) < 0 || cs_addr_family(&to) == AF_UNIX)) {
        return cs_push_error(L, CS_EINVAL); /* names are not looked up here */
    }
    return push_sent(L, cs_udp_send(s->udp, bytes, len, ip ? &to : NULL));
}

static int sendto_on(lua_State *L, int status, lua_KContext ctx)
{
    int why = cs_task_current(L)->wake;
    (void)status;
    (void)ctx;
    return why < 0 ? cs_push_write_error(L, why) : send_to(L, lua_touserdata(L, 1));
}

int cs_sock_sendto(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    bool held = s->state == CS_SOCK_DATAGRAM && s->vm->state == CS_VM_LOADING;
    return held ? hold(L, s, sendto_on) : send_to(L, s);
}

/* ---- setoption ---- */

static int push_set(lua_State *L, int err)
{
    return err < 0 ? cs_push_error_as(L, "failed", err) : (lua_pushboolean(L, true), 1);
}

/* interface: a name, one of the interface's addresses, or NULL: the system chooses. */
static int join_v4(struct cs_udp *u, bool join, const struct cs_addr *group, const char *interface)
{
    struct ip_mreqn m = {.imr_multiaddr = group->v4.sin_addr};
    struct cs_addr a;
    if (interface && cs_addr_parse(&a, interface, 0) == 0 && cs_addr_family(&a) == AF_INET) {
        m.imr_address = a.v4.sin_addr;
    } else if (interface) {
        m.imr_ifindex = (int)if_nametoindex(interface);
        if (m.imr_ifindex == 0) {
            return -ENODEV;
        }
    }
    return cs_udp_setsockopt(u, IPPROTO_IP, join ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &m,
                             sizeof(m));
}

static int join_v6(struct cs_udp *u, bool join, const struct cs_addr *group, const char *interface)
{
    struct ipv6_mreq m = {.ipv6mr_multiaddr = group->v6.sin6_addr,
                          .ipv6mr_interface = group->v6.sin6_scope_id};
    if (interface) {
        m.ipv6mr_interface = if_nametoindex(interface);
        if (m.ipv6mr_interface == 0) {
            return -ENODEV;
        }
    }
    return cs_udp_setsockopt(u, IPPROTO_IPV6, join ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &m,
                             sizeof(m));
}

/* ("ip-membership", enable, group [, interface]) */
static int CS_RAISES set_membership(lua_State *L, struct cs_udp *u)
{
    bool join = lua_toboolean(L, 3);
    const char *group_text = luaL_checkstring(L, 4);
    const char *interface = luaL_optstring(L, 5, NULL);
    struct cs_addr group;
    if (cs_addr_parse(&group, group_text, 0) < 0 || cs_addr_family(&group) != cs_udp_family(u)) {
        return cs_push_error(L, CS_EINVAL);
    }
    int err = cs_addr_family(&group) == AF_INET ? join_v4(u, join, &group, interface)
                                                : join_v6(u, join, &group, interface);
    /* The old scripts' membership is the new ones' too: they share the address. */
    return push_set(L, join && err == -EADDRINUSE ? 0 : err);
}

int cs_datagram_setoption(lua_State *L, struct cs_sock *s, const char *name)
{
    static const struct {
        const char *name;
        int option;
    } flags[] = {{"broadcast", SO_BROADCAST}, {"dontroute", SO_DONTROUTE}};
    for (unsigned i = 0; i < CS_ARRAY_LEN(flags); i++) {
        if (strcmp(name, flags[i].name) == 0) {
            int value = lua_toboolean(L, 3);
            return push_set(
                L, cs_udp_setsockopt(s->udp, SOL_SOCKET, flags[i].option, &value, sizeof(value)));
        }
    }
    return strcmp(name, "ip-membership") == 0 ? set_membership(L, s->udp)
                                              : cs_push_error(L, CS_EINVAL);
}

/* ---- udpcon ---- */

/* The stack of a udpcon: host or nil, port or nil, options, socket. Without a host the port is the
 * local one. */
#define SOCK_INDEX 4

struct request {
    const char *host; /* NULL: not to be connected */
    uint16_t port;
    bool ipv6, bound;
    struct cs_addr local; /* if bound */
};

static void CS_RAISES order_arguments(lua_State *L)
{
    int type = lua_type(L, 1);
    if (type == LUA_TNUMBER) {
        lua_settop(L, 2);
        lua_pushnil(L);
        lua_insert(L, 1);
    } else if (type != LUA_TSTRING) {
        luaL_argexpected(L, type == LUA_TTABLE || lua_isnoneornil(L, 1), 1, "address or port");
        lua_settop(L, 1);
        lua_pushnil(L);
        lua_insert(L, 1);
        lua_pushnil(L);
        lua_insert(L, 1);
    }
    lua_settop(L, 3);
}

/* 0, or what is wrong with `intf`. */
static int CS_RAISES check_request(lua_State *L, struct request *r)
{
    const char *intf = cs_opt_string(L, 3, "intf");
    lua_Integer local = cs_opt_number(L, 3, "port", -1);
    luaL_argcheck(L, local >= -1 && local <= 65535, 3, "option 'port': port out of range");
    *r = (struct request){.host = lua_tostring(L, 1), .ipv6 = cs_opt_bool(L, 3, "ipv6", false)};
    if (r->host) {
        r->port = cs_check_port(L, 2);
    } else if (!lua_isnil(L, 2)) {
        local = cs_check_port(L, 2);
    }
    r->bound = intf || local >= 0;
    local = CS_MAX(local, 0);
    struct cs_addr remote;
    bool literal = r->host && cs_addr_parse(&remote, r->host, 0) == 0;
    if (literal && cs_addr_family(&remote) == AF_UNIX) {
        return luaL_argerror(L, 1, "a Unix socket is no datagram socket here: use connect");
    }
    if (intf) {
        return cs_local_addr(intf, r->ipv6, (uint16_t)local, &r->local);
    }
    bool v6 = literal ? cs_addr_family(&remote) == AF_INET6 : r->ipv6;
    cs_addr_any(&r->local, v6 ? AF_INET6 : AF_INET, (uint16_t)local);
    return 0;
}

static struct cs_udp_spec spec_of(const struct cs_vm *vm, const struct request *r)
{
    return (struct cs_udp_spec){.family = cs_addr_family(&r->local),
                                .local = r->bound ? &r->local : NULL,
                                .gen = vm->generation,
                                .service = vm->current ? vm->current->name : NULL,
                                .staged = vm->state == CS_VM_LOADING,
                                .dry = vm->check_only};
}

static int CS_RAISES open_now(lua_State *L, struct cs_sock *s, const struct cs_udp_spec *spec)
{
    struct cs_udp *udp;
    int err = cs_udp_open(&udp, s->vm->net, spec, &udp_user, s);
    if (err < 0) {
        s->state = CS_SOCK_UNBOUND;
        if (spec->local) {
            cs_vm_note_bind(s->vm, spec->local, err);
        }
        return cs_push_error_as(L, spec->remote ? "cannotconnect" : "bind", err);
    }
    attach(s, udp);
    lua_settop(L, SOCK_INDEX);
    return 1;
}

static void dialled(void *user, struct cs_udp *udp, int err)
{
    struct cs_sock *s = user;
    s->udp_dial = NULL;
    s->vm->socket_count--;
    if (udp) {
        attach(s, udp);
    } else {
        s->state = CS_SOCK_UNBOUND; /* it may try again */
    }
    cs_sock_wake(s, err);
}

static int dialled_on(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, SOCK_INDEX);
    int why = cs_task_current(L)->wake;
    (void)status;
    (void)ctx;
    if (s->state == CS_SOCK_RESOLVING) { /* woken by something else than the dial */
        cs_sock_close(s, why, 0);
    }
    if (s->state == CS_SOCK_DATAGRAM) {
        lua_settop(L, SOCK_INDEX);
        return 1;
    }
    int err = s->state == CS_SOCK_TERMINATED ? s->end : why;
    bool system = err > -4096 && err != -ENOMEM;
    return cs_push_error_as(L, system ? "cannotconnect" : cs_error_string(err), err);
}

static int CS_RAISES wait_dialled(lua_State *L, struct cs_sock *s, lua_KFunction k)
{
    struct cs_task *t = cs_task_current(L);
    s->state = CS_SOCK_RESOLVING;
    s->waiter = t;
    t->waiting = CS_WAIT_CONNECT;
    t->user = s;
    if (k != dialled_on) {
        cs_list_append(&s->vm->held, &t->node);
    }
    return cs_task_park(L, t, cs_sock_leave, -1, k, 0);
}

static int CS_RAISES dial(lua_State *L, struct cs_sock *s, const struct request *r)
{
    struct cs_udp_spec spec = spec_of(s->vm, r);
    struct cs_addr remote;
    if (cs_addr_parse(&remote, r->host, r->port) == 0) {
        spec.family = cs_addr_family(&remote);
        spec.remote = &remote;
        return open_now(L, s, &spec);
    }
    bool v6 = r->ipv6 || (r->bound && spec.family == AF_INET6);
    enum cs_resolve_family family = v6 ? CS_RESOLVE_V6 : r->bound ? CS_RESOLVE_V4 : CS_RESOLVE_ANY;
    s->udp_dial =
        cs_udp_dial_start(s->vm->net, r->host, r->port, family, &spec, &udp_user, dialled, s);
    if (!s->udp_dial) {
        s->state = CS_SOCK_UNBOUND;
        return cs_push_error(L, -ENOMEM);
    }
    s->vm->socket_count++;
    return wait_dialled(L, s, dialled_on);
}

/* What a start-up chunk wants to connect to is held until its generation is committed. */
static int held_on(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, SOCK_INDEX);
    struct request r;
    (void)status;
    (void)ctx;
    if (cs_task_current(L)->wake < 0 || s->state != CS_SOCK_RESOLVING) {
        return dialled_on(L, LUA_OK, 0);
    }
    s->waiter = NULL;
    s->state = CS_SOCK_UNBOUND; /* the options may be others by now: what is wrong is raised */
    int err = check_request(L, &r);
    if (s->state != CS_SOCK_UNBOUND) { /* a function of the options has used it */
        return cs_push_error(L, CS_ESTATE);
    }
    return err < 0 ? cs_push_error_as(L, "bind", err) : dial(L, s, &r);
}

static int socket_udpcon(lua_State *L)
{
    struct cs_vm *vm = cs_vm_of(L);
    struct request r;
    struct cs_addr literal;
    if (!vm->current) {
        return luaL_error(L, "udpcon in a finalizer");
    }
    order_arguments(L);
    int err = check_request(L, &r);
    if (err < 0) {
        return cs_push_error_as(L, "bind", err);
    }
    if (!r.host && r.bound && vm->state >= CS_VM_DRAINING) {
        return cs_push_error(L, CS_ESHUTDOWN); /* an older generation gets no new address */
    }
    bool waits = r.host && (vm->state == CS_VM_LOADING || cs_addr_parse(&literal, r.host, 0) < 0);
    if (waits) {
        cs_task_can_wait(L, "udpcon");
    }
    struct cs_sock *s = cs_sock_for_caller(L);
    if (!s) {
        return cs_push_error(L, CS_ESTATE);
    }
    if (waits && vm->state == CS_VM_LOADING) {
        s->udp_dial = NULL;
        return wait_dialled(L, s, held_on);
    }
    const struct cs_udp_spec spec = spec_of(vm, &r);
    return r.host ? dial(L, s, &r) : open_now(L, s, &spec);
}

void cs_bind_udp(lua_State *L)
{
    lua_getfield(L, -1, "socket");
    lua_pushcfunction(L, socket_udpcon);
    lua_setfield(L, -2, "udpcon");
    lua_pop(L, 1);
}
