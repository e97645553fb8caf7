/* bind_sock - the methods of a socket (ba-api B.3 to B.6, rules of A.3 to A.7). */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "net/ws.h"
#include "script/bind_udp.h"
#include "script/sock.h"
#include "script/sock_tls.h"

#define SHORT_RETRY_MS 100 /* while memory is short, accept looks again this often */
#define ACCEPT_ROOM 32768  /* bytes: of a connection until it has its coroutine */
#define LONG 16384         /* bytes; copying so many costs more than another call */
#define STREAK_MAX                                                                                 \
    64 /* calls a task may have answered in one slice before others get their turn                 \
        */

/* Raises when somebody waits on s already. */
static void CS_RAISES check_free(lua_State *L, struct cs_sock *s)
{
    if (s->waiter) {
        char place[128];
        luaL_error(L, "socket busy: another coroutine waits on it at %s",
                   cs_task_place(s->waiter, place, sizeof(place)));
    }
}

/* Registers t as the one that waits on s, which check_free has found free. */
static void wait_on(struct cs_sock *s, struct cs_task *t, enum cs_wait what)
{
    s->waiter = t;
    t->waiting = what;
    t->user = s;
}

/* ---- read ---- */

void cs_push_front(lua_State *L, const struct cs_chain *chain, size_t n)
{
    const struct cs_slice *head = cs_chain_first(chain);
    if (head && n <= head->len) {
        lua_pushlstring(L, (const char *)head->data, n);
        return;
    }
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, n); /* may collect, and a finalizer close the socket */
    luaL_pushresultsize(&b, cs_chain_peek(chain, to, n));
}

/* Pushes up to CS_READ_MAX unread bytes. Consuming after pushing: a memory error loses nothing. */
static void CS_RAISES push_input(lua_State *L, struct cs_stream *stream)
{
    const struct cs_slice *head = cs_chain_first(&stream->in);
    size_t n = CS_MIN(cs_chain_len(&stream->in), (size_t)CS_READ_MAX);
    if (head && head->len >= LONG) { /* what lies in several pieces is copied twice */
        n = CS_MIN(n, head->len);
    }
    cs_push_front(L, &stream->in, n);
    int err = cs_stream_consume(stream, n, NULL);
    (void)err; /* dropping cannot fail */
}

/* Of a WebSocket with the code of the peer's Close, if it sent one. */
static int CS_RAISES push_end(lua_State *L, const struct cs_stream *stream)
{
    int n = cs_push_error(L, CS_EOF);
    unsigned code = cs_ws_stream_is(stream) ? cs_ws_stream_close_code(stream) : 0;
    if (code > 0) {
        lua_pushinteger(L, code);
        n++;
    }
    return n;
}

/* Results of a read that can be answered now, or 0. */
static int CS_RAISES try_read(lua_State *L, struct cs_sock *s)
{
    if (s->state == CS_SOCK_TERMINATED) {
        return cs_push_error_as(L, cs_sock_read_error(s->end), s->end);
    }
    if (s->state == CS_SOCK_DATAGRAM) {
        return cs_datagram_read(L, s);
    }
    if (!s->stream) {
        return 0;
    }
    if (cs_sock_has_input(s)) {
        if (cs_ws_stream_is(s->stream)) {
            return cs_websocket_read(L, s->stream);
        }
        push_input(L, s->stream);
        return 1;
    }
    if (s->stream->err) {
        return cs_push_error_as(L, cs_sock_read_error(s->stream->err), s->stream->err);
    }
    return s->stream->eof ? push_end(L, s->stream) : 0;
}

int cs_sock_wait_input(lua_State *L, struct cs_sock *s, const char *what, int64_t ms,
                       lua_KFunction k, lua_KContext ctx)
{
    struct cs_task *t = cs_task_can_wait(L, what);
    check_free(L, s);
    wait_on(s, t, CS_WAIT_READ);
    if (s->stream) {
        cs_stream_resume(s->stream);
    }
    return cs_task_park(L, t, cs_sock_leave, ms, k, ctx);
}

/* ctx: the time given to read, or -1. */
static int read_on(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, 1);
    int why = cs_task_current(L)->wake;
    (void)status;
    s->disabled = CS_SOCK_ENABLED; /* from outside: it ends with the wait at the latest */
    int n = why == CS_ECLOSED ? 0 : try_read(L, s); /* disown: the input is somebody else's */
    if (n > 0) {
        return n;
    }
    return why < 0 ? cs_push_error(L, why) : cs_sock_wait_input(L, s, "read", ctx, read_on, ctx);
}

void cs_sock_check_reader(lua_State *L, const struct cs_sock *s)
{
    const struct cs_task *t = cs_task_current(L);
    if (s->owner && (!t || t->sock != s)) {
        luaL_error(L, "only a socket's own coroutine may read it");
    }
    if (s->state == CS_SOCK_LISTENING) {
        luaL_error(L, "read on a listening socket: use accept");
    }
}

/* A peer that always has data ready must not keep the others waiting. */
static bool others_first(lua_State *L, struct cs_task *t)
{
    return t && ++t->streak >= STREAK_MAX && lua_isyieldable(L) && !t->vm->no_wait;
}

static int sock_read(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    int64_t ms = lua_type(L, 2) == LUA_TNUMBER ? cs_check_ms(L, 2) : -1;
    struct cs_task *t = cs_task_current(L);
    cs_sock_check_reader(L, s);
    if (others_first(L, t)) {
        return cs_task_give_way(L, t, read_on, (lua_KContext)ms);
    }
    int n = try_read(L, s);
    if (n > 0) {
        return n;
    }
    bool connected = s->stream || s->state == CS_SOCK_DATAGRAM;
    if (ms == 0 && !connected) {
        return cs_push_error(L, CS_ETIMEOUT);
    }
    if (ms < 0 && !connected) {
        return cs_push_error(L, CS_ESTATE); /* it would wait for ever */
    }
    return cs_sock_wait_input(L, s, "read", ms, read_on, (lua_KContext)ms);
}

/* unread(data): what comes next is these bytes, then the rest of the input. */
static int sock_unread(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    size_t len;
    const char *data = cs_check_bytes(L, 2, &len);
    struct cs_chain all = {0};

    if (!s->stream) {
        return cs_push_error_as(L, "invalidsocketcon",
                                s->state == CS_SOCK_TERMINATED ? s->end : CS_ESTATE);
    }
    if (cs_ws_stream_is(s->stream)) { /* whose input is frames */
        return cs_push_error(L, CS_ESTATE);
    }
    int err = cs_chain_append(&all, data, len);
    if (err < 0) {
        return cs_push_error(L, err);
    }
    cs_chain_move_all(&all, &s->stream->in);
    cs_chain_move_all(&s->stream->in, &all);
    if (len > 0 && s->waiter && s->waiter->waiting == CS_WAIT_READ) {
        cs_sock_wake(s, 0);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* disown(): the socket has no coroutine any more: blocking mode, as before event. Who waits to read
 * it is told that it is closed. */
static int sock_disown(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);

    if (!s->stream) {
        return cs_push_error(L, CS_ESTATE);
    }
    if (s->owner) {
        if (!lua_checkstack(s->owner->co, 1)) {
            return cs_push_error(L, -ENOMEM);
        }
        struct cs_task *t = s->owner;

        if (t->waiting == CS_WAIT_READ && t->user == s) {
            t->wake = CS_ECLOSED; /* it has been woken for input, which is no longer its own */
        }
        cs_sock_disown(s);
    }
    cs_sock_wake(s, CS_ECLOSED);
    s->disabled = CS_SOCK_ENABLED;
    s->mode = CS_SOCK_BLOCKING;
    lua_pushboolean(L, true);
    return 1;
}

/* ---- write ---- */

struct cs_payload cs_check_payload(lua_State *L)
{
    size_t len;
    const char *bytes = cs_check_bytes(L, 2, &len);
    lua_Integer size = (lua_Integer)len;
    if (lua_isboolean(L, 3)) {
        return (struct cs_payload){bytes, len, lua_toboolean(L, 3)};
    }
    bool text = lua_toboolean(L, lua_isboolean(L, 4) ? 4 : 5);
    lua_Integer i = lua_isnoneornil(L, 3) ? 1 : cs_check_number(L, 3);
    lua_Integer j = lua_isnoneornil(L, 4) || lua_isboolean(L, 4) ? -1 : cs_check_number(L, 4);
    i = i < 0 ? CS_MAX(size + i + 1, 1) : CS_MAX(i, 1);
    j = j < 0 ? size + j + 1 : CS_MIN(j, size);
    return i > j ? (struct cs_payload){bytes, 0, text}
                 : (struct cs_payload){bytes + i - 1, (size_t)(j - i + 1), text};
}

int cs_push_write_error(lua_State *L, int err)
{
    bool system = err < 0 && err > -4096 && err != -ENOMEM;
    bool peer = err == CS_EWS || err == CS_EWSCUT || err == CS_ETOOBIG;
    return cs_push_error_as(L, system || peer ? "socketwritefailed" : cs_error_string(err), err);
}

/* Hands n bytes to the stream. 0 or an error. */
static int give(struct cs_sock *s, const char *bytes, size_t n, bool text)
{
    struct cs_chain data = {0};
    if (n >= LONG && cs_stream_bottom(s->stream) == s->stream) {
        return cs_conn_write_long(cs_conn_of(s->stream), bytes, n);
    }
    if (cs_ws_stream_is(s->stream)) {
        cs_ws_stream_set_text(s->stream, text);
    }
    int err = cs_chain_append(&data, bytes, n);
    return err < 0 ? err : cs_stream_write(s->stream, &data);
}

static int write_on(lua_State *L, int status, lua_KContext ctx);

/* The stack of a write that waits: socket, data, i, j, utf8, its cs_writer. */
#define WRITER_INDEX 6

/* Raises where waiting is not possible: before a part is taken. False: a finalizer that ran
 * meanwhile has closed the socket. */
static CS_MUST_CHECK bool CS_RAISES prepare_to_wait(lua_State *L, struct cs_sock *s)
{
    struct cs_task *t = cs_task_can_wait(L, "write");
    if (lua_gettop(L) < WRITER_INDEX || !lua_isuserdata(L, WRITER_INDEX)) {
        lua_settop(L, WRITER_INDEX - 1);
        struct cs_writer *w = lua_newuserdatauv(L, sizeof(*w), 0);
        *w = (struct cs_writer){.sock = s, .task = t};
        cs_list_init(&w->node);
    }
    return s->stream != NULL;
}

static int CS_RAISES wait_in_queue(lua_State *L, size_t done, bool first)
{
    struct cs_writer *w = lua_touserdata(L, WRITER_INDEX);
    return cs_writer_park(L, w, first, write_on, (lua_KContext)done);
}

/* Bytes to give now. A message of a WebSocket is never cut. */
static size_t room_for(const struct cs_sock *s, size_t n)
{
    size_t room = s->stream->err ? 1 : cs_stream_room(s->stream);
    bool whole = s->stream->err || cs_ws_stream_is(s->stream);
    return room > 0 && whole ? CS_MAX(n, 1u) : room;
}

/* Gives what there is room for; suspends with the rest, first in the queue once it has begun. */
static int CS_RAISES write_some(lua_State *L, struct cs_sock *s, struct cs_payload p, size_t done,
                                bool first)
{
    do { /* an empty message is given too */
        size_t room = room_for(s, p.len - done);
        if ((room == 0 || room < p.len - done) && !prepare_to_wait(L, s)) {
            return cs_push_write_error(L, s->end);
        }
        if (room == 0) {
            return wait_in_queue(L, done, first || done > 0);
        }
        size_t n = CS_MIN(room, p.len - done);
        int err = give(s, p.bytes + done, n, p.text);
        if (err < 0) {
            return cs_push_write_error(L, err);
        }
        done += n;
    } while (done < p.len);
    lua_pushboolean(L, true);
    return 1;
}

/* ctx: bytes already given. */
static int write_on(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, 1);
    struct cs_task *t = cs_task_current(L);
    bool turn = t->wake == 0; /* woken because it is its turn; that ends here */
    (void)status;
    s->writing = s->writing && !turn;
    if (t->wake < 0 || !s->stream) {
        return cs_push_write_error(L, t->wake < 0 ? t->wake : s->end);
    }
    int n = write_some(L, s, cs_check_payload(L), (size_t)ctx, turn);
    if (turn && s->stream) {
        cs_sock_next_writer(s);
    }
    return n;
}

/* Others wait to write: whoever comes now stands behind them, not in the middle of a message. */
static bool has_queue(const struct cs_sock *s)
{
    return s->writing || !cs_list_empty(&s->writers);
}

/* Queues the rest of a message. A message that was cut and cannot be mended ends the connection. */
static int queue_rest(struct cs_sock *s, const char *bytes, size_t n, bool text, bool cut)
{
    int err = has_queue(s) ? cs_sock_hold(s, bytes, n, text) : give(s, bytes, n, text);
    if (err < 0 && cut) {
        cs_sock_close(s, err, err);
    }
    return err;
}

static ssize_t offer(struct cs_sock *s, struct cs_payload p)
{
    if (cs_ws_stream_is(s->stream)) {
        cs_ws_stream_set_text(s->stream, p.text);
    }
    return cs_stream_offer(s->stream, p.bytes, p.len);
}

/* A page, job or timer writes to a cosocket: it is never suspended (A.5). What TCP takes goes at
 * once, the rest waits in the queue; nothing of a message is taken when all of it would have to
 * wait and does not fit. */
static int CS_RAISES write_queued(lua_State *L, struct cs_sock *s, struct cs_payload p)
{
    ssize_t taken = has_queue(s) ? 0 : offer(s, p);
    if (taken < 0) {
        return cs_push_write_error(L, (int)taken);
    }
    size_t queued = cs_stream_queued(s->stream) + s->held, rest = p.len - (size_t)taken;
    if (taken == 0 && queued + rest > s->queuelen) {
        luaL_pushfail(L);
        lua_pushinteger(L, (lua_Integer)queued);
        return 2;
    }
    int err = rest > 0 || p.len == 0 ? queue_rest(s, p.bytes + taken, rest, p.text, taken > 0) : 0;
    if (err < 0) {
        return cs_push_write_error(L, err);
    }
    lua_pushboolean(L, true);
    queued += rest;
    if (queued == 0) {
        return 1;
    }
    lua_pushinteger(L, (lua_Integer)queued);
    return 2;
}

static int written_on(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    lua_pushboolean(L, true);
    return 1;
}

/* A job whose writes always find room gives way behind one of them now and then. Other tasks are
 * not suspended without need, and a write to a cosocket never is (A.5). n: results of the write; an
 * error is two and more. */
static int CS_RAISES let_others(lua_State *L, struct cs_sock *s, struct cs_task *t, int n)
{
    bool may = n == 1 && t && t->kind == CS_TASK_JOB && s->mode != CS_SOCK_COSOCKET;
    return may && others_first(L, t) ? cs_task_give_way(L, t, written_on, 0) : n;
}

static int sock_write(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    struct cs_payload p = cs_check_payload(L);
    struct cs_task *t = cs_task_current(L);
    lua_settop(L, WRITER_INDEX - 1);
    if (s->state == CS_SOCK_TERMINATED) {
        return cs_push_write_error(L, s->end);
    }
    if (!s->stream && s->state != CS_SOCK_DATAGRAM) {
        return cs_push_error_as(L, "invalidsocketcon", CS_ESTATE);
    }
    bool ws = s->stream && cs_ws_stream_is(s->stream);
    if (p.len == 0 && !(ws && cs_ws_stream_is_messages(s->stream))) {
        lua_pushboolean(L, false);
        return 1;
    }
    if (s->state == CS_SOCK_DATAGRAM) {
        return let_others(L, s, t, cs_datagram_write(L, s, p));
    }
    if (ws && p.len > cs_ws_stream_write_max(s->stream)) {
        return cs_push_error(L, CS_ETOOBIG);
    }
    if (s->mode == CS_SOCK_COSOCKET && (!t || t->kind != CS_TASK_COSOCKET)) {
        return write_queued(L, s, p);
    }
    if (has_queue(s)) {
        return prepare_to_wait(L, s) ? wait_in_queue(L, 0, false) : cs_push_write_error(L, s->end);
    }
    return let_others(L, s, t, write_some(L, s, p, 0, false));
}

/* ---- accept ---- */

/* The next one that waits, if any. Its handshake runs while the script goes on. */
static bool take_connection(struct cs_sock *s, struct cs_sock *fresh)
{
    struct cs_conn *c;
    while ((c = cs_bound_take(s->bound))) {
        struct cs_stream *stream = cs_conn_stream(c);
        int err = s->tls ? cs_sock_tls_open(&stream, fresh, stream, s->tls, s->tls->timeout_ms) : 0;
        if (err == 0) {
            cs_sock_attach(fresh, stream);
            return true;
        }
        cs_stream_close(stream, CS_CLOSE_ABORT, err);
    }
    return false;
}

static int accept_on(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, 1);
    struct cs_task *t = cs_task_current(L);
    (void)status;
    (void)ctx;
    bool listening = s->state == CS_SOCK_LISTENING;
    if (!listening || (t->wake < 0 && t->wake != CS_ETIMEOUT)) {
        return cs_push_error(L, listening ? t->wake : s->end);
    }
    int64_t look_again_ms = -1;
    if (cs_vm_short(s->vm, ACCEPT_ROOM)) { /* or there would be no coroutine for it: an error would
                                              end this one, and with it the listener */
        static _Thread_local struct cs_log_limit limit;
        cs_log_limited(&limit, CS_LOG_WARN,
                       "accepting paused service=%s: the scripts' memory is nearly used up",
                       t->name);
        look_again_ms = SHORT_RETRY_MS;
    } else {
        struct cs_sock *fresh = cs_sock_new(L, CS_SOCK_BLOCKING); /* first: it can raise */
        if (s->state != CS_SOCK_LISTENING) {                      /* by a finalizer */
            return cs_push_error(L, s->end);
        }
        if (take_connection(s, fresh)) {
            return 1;
        }
        lua_pop(L, 1);
    }
    t = cs_task_can_wait(L, "accept");
    check_free(L, s);
    wait_on(s, t, CS_WAIT_ACCEPT);
    return cs_task_park(L, t, cs_sock_leave, look_again_ms, accept_on, 0);
}

static int sock_accept(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    struct cs_task *t = cs_task_current(L);
    if (s->state != CS_SOCK_LISTENING && s->state != CS_SOCK_TERMINATED) {
        return luaL_error(L, "accept on a socket that does not listen");
    }
    if (!t || (s->owner && t->sock != s) || (!s->owner && s->state == CS_SOCK_LISTENING)) {
        return luaL_error(L, "accept outside the listener's own coroutine: start one with "
                             "sock:event(f, \"r\")");
    }
    if (others_first(L, t)) {
        return cs_task_give_way(L, t, accept_on, 0);
    }
    t->wake = 0;
    return accept_on(L, LUA_OK, 0);
}

/* ---- disable, enable ---- */

/* ctx: what was on the stack before the values of enable. */
static int disable_on(lua_State *L, int status, lua_KContext ctx)
{
    struct cs_sock *s = lua_touserdata(L, 1);
    struct cs_task *t = cs_task_current(L);
    (void)status;
    s->disabled = CS_SOCK_ENABLED;
    if (s->waiter == t) {
        s->waiter = NULL;
    }
    if (t->wake < 0) {
        return cs_push_error_as(L, cs_sock_read_error(t->wake), t->wake);
    }
    return lua_gettop(L) - (int)ctx;
}

/* Values of an enable that came while the coroutine was running. */
static int CS_RAISES take_latched(lua_State *L, struct cs_sock *s)
{
    lua_getiuservalue(L, 1, 1);
    int table = lua_gettop(L);
    lua_getfield(L, table, "n");
    int n = (int)lua_tointeger(L, -1);
    luaL_checkstack(L, n + 2, "too many values");
    lua_getfield(L, table, "thread");
    lua_setiuservalue(L, 1, 1);
    s->latched = false;
    lua_settop(L, table);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, table, i);
    }
    return n;
}

static int CS_RAISES disable_self(lua_State *L, struct cs_sock *s)
{
    if (s->state == CS_SOCK_TERMINATED || s->state == CS_SOCK_LISTENING) {
        return cs_push_error(L, CS_ESTATE);
    }
    if (s->latched) {
        return take_latched(L, s);
    }
    if (s->stream && s->stream->eof && !cs_sock_has_input(s)) {
        int err = s->stream->err ? s->stream->err : CS_EOF;
        return cs_push_error_as(L, cs_sock_read_error(err), err);
    }
    struct cs_task *t = cs_task_can_wait(L, "disable");
    check_free(L, s);
    int top = lua_gettop(L);
    cs_task_make_collectable(L, t, 1); /* the last that can raise */
    wait_on(s, t, CS_WAIT_DISABLE);
    s->disabled = CS_SOCK_DISABLED_SELF;
    if (s->stream) {
        cs_stream_resume(s->stream); /* up to the read-ahead, so that a hang-up is noticed */
    }
    return cs_task_park(L, t, cs_sock_leave, -1, disable_on, top);
}

static int sock_disable(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    struct cs_task *t = cs_task_current(L);
    if (t && t == s->owner) {
        lua_settop(L, 1);
        return disable_self(L, s);
    }
    bool reads = s->owner && s->waiter == s->owner && s->waiter->waiting == CS_WAIT_READ;
    if (!reads) {
        return cs_push_error(L, CS_ESTATE);
    }
    /* Not paused: the read-ahead is bounded, and a hang-up is to be noticed. */
    s->disabled = CS_SOCK_DISABLED_OUTSIDE;
    lua_pushboolean(L, true);
    return 1;
}

/* The user value holds the coroutine; until the next disable(), a table with it and the values. */
static void CS_RAISES latch(lua_State *L, struct cs_sock *s)
{
    int n = lua_gettop(L) - 1;
    lua_createtable(L, n, 2);
    for (int i = 1; i <= n; i++) {
        lua_pushvalue(L, i + 1);
        lua_rawseti(L, -2, i);
    }
    lua_pushinteger(L, n);
    lua_setfield(L, -2, "n");
    lua_getiuservalue(L, 1, 1);
    lua_setfield(L, -2, "thread");
    lua_setiuservalue(L, 1, 1);
    s->latched = true;
}

static void CS_RAISES resume_disabled(lua_State *L, struct cs_sock *s)
{
    struct cs_task *t = s->owner;
    int n = lua_gettop(L) - 1;
    if (!lua_checkstack(t->co, n)) {
        luaL_error(L, "too many values");
    }
    s->waiter = NULL;
    s->disabled = CS_SOCK_ENABLED;
    lua_xmove(L, t->co, n);
    cs_task_run_now(L, t, n);
}

static int sock_enable(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    if (s->disabled == CS_SOCK_DISABLED_OUTSIDE) {
        s->disabled = CS_SOCK_ENABLED;
        if (s->state == CS_SOCK_DATAGRAM) {
            cs_sock_wake(s, 0); /* it looks for itself */
        } else if (s->stream && (s->stream->eof || cs_sock_has_input(s))) {
            cs_sock_wake(s, 0);
        }
    } else if (s->owner && s->waiter == s->owner && s->waiter->waiting == CS_WAIT_DISABLE) {
        resume_disabled(L, s);
    } else if (s->owner && s->owner->state == CS_TASK_RUNNING && !s->latched) {
        latch(L, s);
    }
    lua_settop(L, 1);
    lua_pushboolean(L, true);
    return 1;
}

/* ---- event, close ---- */

static int sock_event(lua_State *L)
{
    static const char *const modes[] = {"r", "s", NULL};
    struct cs_sock *s = cs_sock_check(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    int mode = luaL_checkoption(L, 3, "r", modes);
    if (s->state == CS_SOCK_LISTENING && mode == 1) {
        return luaL_argerror(L, 3, "a listening socket takes \"r\" only");
    }
    if (s->state != CS_SOCK_OPEN && s->state != CS_SOCK_DATAGRAM && s->state != CS_SOCK_LISTENING) {
        return cs_push_error(L, s->state == CS_SOCK_TERMINATED ? s->end : CS_ESTATE);
    }
    if (s->waiter) {
        return luaL_error(L, "event on a socket whose coroutine waits on it");
    }
    int extra = CS_MAX(lua_gettop(L) - 3, 0);
    luaL_checkstack(L, extra + 4, "too many arguments");
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 1);
    for (int i = 0; i < extra; i++) {
        lua_pushvalue(L, 4 + i);
    }
    cs_sock_run(L, s, mode == 1 ? CS_SOCK_COSOCKET : CS_SOCK_ASYNC, extra + 1);
    lua_settop(L, 1);
    return 1;
}

static int sock_close(lua_State *L)
{
    cs_sock_close(cs_sock_check(L, 1), CS_ECLOSED, 0);
    lua_pushboolean(L, true);
    return 1;
}

/* Collected: closed, and no code of its coroutine runs any more (A.4). */
static int sock_gc(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1); /* a script may call it with anything */
    if (s->vm->state != CS_VM_STOPPING && s->owner && s->owner->collectable) {
        struct cs_task *t = s->owner;
        s->owner = s->waiter = NULL;
        cs_task_discard(t);
    }
    if (s->state != CS_SOCK_TERMINATED) {
        s->vm->collected += s->stream != NULL || s->state == CS_SOCK_DATAGRAM;
        cs_sock_close(s, CS_ECLOSED, CS_ECOLLECTED);
    }
    return 0;
}

/* ---- what it is ---- */

static const char *state_name(const struct cs_sock *s)
{
    static const char *const waits[] = {
        [CS_WAIT_NONE] = "exec",       [CS_WAIT_READ] = "read",     [CS_WAIT_WRITE] = "write",
        [CS_WAIT_CONNECT] = "connect", [CS_WAIT_ACCEPT] = "accept", [CS_WAIT_DISABLE] = "disabled",
        [CS_WAIT_TLS] = "upgrade",     [CS_WAIT_RELAY] = "exec",    [CS_WAIT_FILE] = "exec"};
    const struct cs_task *t = s->owner ? s->owner : s->waiter;
    if (s->state == CS_SOCK_TERMINATED) {
        return "terminated";
    }
    if (s->disabled != CS_SOCK_ENABLED) {
        return "disabled";
    }
    if (t) {
        return waits[t->waiting];
    }
    bool fresh = s->stream && cs_ws_stream_is(s->stream); /* not given to event yet */
    return s->state == CS_SOCK_UNBOUND || fresh ? "notcon" : "exec";
}

static int sock_state(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    bool ended = s->stream && s->stream->eof && !cs_sock_has_input(s);
    lua_pushstring(L, state_name(s));
    lua_pushboolean(L, (s->state == CS_SOCK_OPEN && !ended) || s->state == CS_SOCK_LISTENING ||
                           (s->state == CS_SOCK_DATAGRAM && !cs_udp_lost(s->udp)));
    return 2;
}

static int sock_owner(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    struct cs_task *t = cs_task_current(L);
    lua_pushboolean(L, t && t == s->owner && t->kind == CS_TASK_COSOCKET);
    return 1;
}

static int sock_queuelen(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    if (!lua_isnoneornil(L, 2)) {
        lua_Integer n = cs_check_number(L, 2);
        luaL_argcheck(L, n >= 0 && n <= UINT32_MAX, 2, "queue length out of range");
        s->queuelen = (uint32_t)n;
    }
    lua_pushinteger(L, s->queuelen);
    return 1;
}

static int push_address(lua_State *L, const struct cs_addr *a)
{
    char text[CS_ADDR_TEXT_MAX];
    lua_pushstring(L, cs_addr_ip(a, text));
    lua_pushinteger(L, cs_addr_port(a));
    lua_pushboolean(L, cs_addr_family(a) == AF_INET6);
    return 3;
}

static int peer_of(struct cs_sock *s, struct cs_addr *out)
{
    if (s->state == CS_SOCK_DATAGRAM) {
        return cs_udp_peername(s->udp, out);
    }
    return s->stream ? cs_conn_peername(cs_conn_of(cs_stream_bottom(s->stream)), out) : CS_ESTATE;
}

static int sock_peername(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    struct cs_addr a;
    int err = peer_of(s, &a);
    return err < 0 ? cs_push_error_as(L, "invalidsocketcon", err) : push_address(L, &a);
}

static int sock_sockname(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    struct cs_addr a;
    if (s->state == CS_SOCK_LISTENING) {
        a = *cs_bound_addr(s->bound); /* a finalizer may close the socket */
        return push_address(L, &a);
    }
    int err = CS_ESTATE;
    if (s->state == CS_SOCK_DATAGRAM) {
        err = cs_udp_sockname(s->udp, &a);
    } else if (s->stream) {
        err = cs_conn_sockname(cs_conn_of(cs_stream_bottom(s->stream)), &a);
    }
    return err < 0 ? cs_push_error_as(L, "invalidsocketcon", err) : push_address(L, &a);
}

static int CS_RAISES set_int(lua_State *L, struct cs_conn *c, int level, int name, int value)
{
    int err = cs_conn_setsockopt(c, level, name, &value, sizeof(value));
    return err < 0 ? cs_push_error_as(L, "failed", err) : (lua_pushboolean(L, true), 1);
}

/* keepalive: bool [, idle seconds, interval seconds]. */
static int CS_RAISES set_keepalive(lua_State *L, struct cs_conn *c)
{
    static const int names[] = {TCP_KEEPIDLE, TCP_KEEPINTVL};
    for (int i = 0; i < 2; i++) {
        if (lua_isnoneornil(L, 4 + i)) {
            continue;
        }
        lua_Integer seconds = cs_check_number(L, 4 + i);
        luaL_argcheck(L, seconds >= 1 && seconds <= 32767, 4 + i, "seconds out of range");
        int n = set_int(L, c, IPPROTO_TCP, names[i], (int)seconds);
        if (n != 1) {
            return n;
        }
    }
    return set_int(L, c, SOL_SOCKET, SO_KEEPALIVE, lua_toboolean(L, 3));
}

static int sock_setoption(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    const char *name = luaL_checkstring(L, 2);
    if (s->state == CS_SOCK_DATAGRAM) {
        return cs_datagram_setoption(L, s, name);
    }
    if (!s->stream) {
        return cs_push_error_as(L, "invalidsocketcon", CS_ESTATE);
    }
    struct cs_conn *c = cs_conn_of(cs_stream_bottom(s->stream));
    if (strcmp(name, "tcp-nodelay") == 0) {
        return set_int(L, c, IPPROTO_TCP, TCP_NODELAY, lua_toboolean(L, 3));
    }
    if (strcmp(name, "keepalive") == 0) {
        return set_keepalive(L, c);
    }
    return cs_push_error(L, CS_EINVAL);
}

static int sock_tostring(lua_State *L)
{
    struct cs_sock *s = cs_sock_check(L, 1);
    char text[CS_ADDR_TEXT_MAX] = "";
    struct cs_addr a;
    if (s->state == CS_SOCK_LISTENING) {
        cs_addr_text(cs_bound_addr(s->bound), text);
    } else if (peer_of(s, &a) == 0) {
        cs_addr_text(&a, text);
    }
    lua_pushfstring(L, "socket (%s%s%s): %p", state_name(s), *text ? " " : "", text, (void *)s);
    return 1;
}

void cs_bind_sock_methods(lua_State *L)
{
    static const luaL_Reg methods[] = {{"read", sock_read},
                                       {"unread", sock_unread},
                                       {"disown", sock_disown},
                                       {"write", sock_write},
                                       {"accept", sock_accept},
                                       {"event", sock_event},
                                       {"close", sock_close},
                                       {"disable", sock_disable},
                                       {"enable", sock_enable},
                                       {"state", sock_state},
                                       {"owner", sock_owner},
                                       {"queuelen", sock_queuelen},
                                       {"peername", sock_peername},
                                       {"sockname", sock_sockname},
                                       {"setoption", sock_setoption},
                                       {"sendto", cs_sock_sendto},
                                       {"clienthello", cs_sock_clienthello},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {
        {"__gc", sock_gc}, {"__close", sock_close}, {"__tostring", sock_tostring}, {NULL, NULL}};
    luaL_newmetatable(L, CS_SOCK_TYPE);
    lua_pushvalue(L, -1);
    luaL_setfuncs(L, meta, 1);
    luaL_newlibtable(L, methods);
    lua_pushvalue(L, -2);
    luaL_setfuncs(L, methods, 1);
    lua_pushvalue(L, -2);
    luaL_setfuncs(L, cs_sock_tls_methods, 1);
    lua_pushvalue(L, -2);
    luaL_setfuncs(L, cs_sock_ws_methods, 1);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
