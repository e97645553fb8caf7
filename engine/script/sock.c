/* sock - a Lua socket's stream, listener and waiters. */
#include "script/sock.h"

#include <errno.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/ws.h"
#include "script/sock_tls.h"

/* ---- waking ---- */

void cs_sock_wake(struct cs_sock *s, int err)
{
    struct cs_task *t = s->waiter;
    if (t) {
        s->waiter = NULL;
        cs_task_wake(t, err);
    }
}

static struct cs_writer *first_writer(struct cs_sock *s)
{
    struct cs_list *l = cs_list_first(&s->writers);
    return l ? cs_container_of(l, struct cs_writer, node) : NULL;
}

static void free_message(struct cs_sock *s, struct cs_writer *w)
{
    cs_list_remove(&w->node);
    s->held -= cs_chain_len(&w->data);
    cs_chain_clear(&w->data);
    cs_free(w);
}

/* The message at the head of the queue goes to the stream. One that is broken says so in on_eof. */
static void pass_message(struct cs_sock *s, struct cs_writer *w)
{
    struct cs_chain data;
    cs_chain_init(&data);
    if (cs_ws_stream_is(s->stream)) {
        cs_ws_stream_set_text(s->stream, w->text);
    }
    s->held -= cs_chain_len(&w->data);
    cs_chain_move_all(&data, &w->data);
    free_message(s, w);
    int err = cs_stream_write(s->stream, &data);
    (void)err;
}

/* It ends before it goes on: the next one's turn. */
static void give_turn_away(struct cs_task *t)
{
    const struct cs_writer *w = t->user;
    w->sock->writing = false;
    if (w->sock->stream) {
        cs_sock_next_writer(w->sock);
    }
}

static void leave_queue(struct cs_task *t)
{
    struct cs_writer *w = t->user;
    cs_list_remove(&w->node);
}

int cs_writer_park(lua_State *L, struct cs_writer *w, bool first, lua_KFunction k, lua_KContext ctx)
{
    struct cs_list *queue = &w->sock->writers;
    w->task->waiting = CS_WAIT_WRITE;
    w->task->user = w;
    if (first) {
        cs_list_prepend(queue, &w->node);
    } else {
        cs_list_append(queue, &w->node);
    }
    return cs_task_park(L, w->task, leave_queue, -1, k, ctx);
}

void cs_sock_next_writer(struct cs_sock *s)
{
    struct cs_writer *w;
    while (!s->writing && (w = first_writer(s)) && cs_stream_room(s->stream) > 0) {
        if (w->task) {
            cs_list_remove(&w->node);
            s->writing = true;
            cs_task_wake(w->task, 0);
            w->task->leave = give_turn_away;
        } else {
            pass_message(s, w);
        }
    }
}

int cs_sock_hold(struct cs_sock *s, const void *bytes, size_t n, bool text)
{
    struct cs_writer *w = cs_zalloc(sizeof(*w));
    if (!w || cs_chain_append(&w->data, bytes, n) < 0) {
        cs_free(w);
        return -ENOMEM;
    }
    w->text = text;
    cs_list_append(&s->writers, &w->node);
    s->held += n;
    return 0;
}

void cs_sock_wake_writers(struct cs_sock *s, int err)
{
    struct cs_writer *w;
    while ((w = first_writer(s))) {
        if (w->task) {
            cs_list_remove(&w->node);
            cs_task_wake(w->task, err);
        } else {
            free_message(s, w);
        }
    }
}

/* Messages that nobody unfinished stands before are output like any other. */
static void pass_messages(struct cs_sock *s)
{
    struct cs_writer *w;
    while (s->stream && !s->writing && (w = first_writer(s)) && !w->task) {
        pass_message(s, w);
    }
}

void cs_sock_leave(struct cs_task *t)
{
    struct cs_sock *s = t->user;
    if (s->waiter == t) {
        s->waiter = NULL;
    }
    cs_list_remove(&t->node); /* from held */
}

/* ---- events of the stream ---- */

bool cs_sock_has_input(const struct cs_sock *s)
{
    struct cs_ws_input in;
    if (!s->stream || !cs_ws_stream_is(s->stream)) {
        return s->stream && cs_chain_len(&s->stream->in) > 0;
    }
    return cs_ws_stream_next(s->stream, &in);
}

static void on_input(void *user, struct cs_stream *stream)
{
    struct cs_sock *s = user;
    if (s->waiter && s->waiter->waiting == CS_WAIT_READ && s->disabled == CS_SOCK_ENABLED) {
        cs_sock_wake(s, 0);
    } else if (cs_chain_len(&stream->in) >= s->vm->net->config.in_high) {
        cs_conn_watch(cs_conn_of(cs_stream_bottom(stream))); /* it will not read a reset now */
    }
}

static void on_room(void *user, struct cs_stream *stream)
{
    (void)stream;
    cs_sock_next_writer(user);
}

/* A reader finds the end behind the data; one that is disabled hears of it when no data is left to
 * be read first (a break always counts). */
static void on_eof(void *user, struct cs_stream *stream, int err)
{
    struct cs_sock *s = user;
    (void)stream;
    if (err < 0) {
        cs_sock_wake_writers(s, err);
    }
    if (!s->waiter) {
        return;
    }
    if (s->disabled != CS_SOCK_ENABLED && err == 0 && cs_sock_has_input(s)) {
        return;
    }
    if (s->waiter->waiting == CS_WAIT_READ) {
        cs_sock_wake(s, 0);
    } else if (s->waiter->waiting == CS_WAIT_DISABLE) {
        cs_sock_wake(s, err < 0 ? err : CS_EOF);
    }
}

/* Only when the engine closes a stream under its owner: the server stops. */
static void on_closed(void *user, struct cs_stream *stream)
{
    struct cs_sock *s = user;
    (void)stream;
    s->stream = NULL;
    s->vm->socket_count--;
    cs_sock_close(s, CS_ESHUTDOWN, 0);
}

static const struct cs_stream_user stream_user = {
    .on_input = on_input, .on_room = on_room, .on_eof = on_eof, .on_closed = on_closed};

/* ---- events of a listener ---- */

static void on_ready(void *user)
{
    cs_sock_wake(user, 0);
}

static void on_lost(void *user)
{
    struct cs_sock *s = user;
    s->bound = NULL;
    cs_sock_close(s, CS_ECLOSED, 0);
}

const struct cs_bound_user cs_sock_bound_user = {.on_ready = on_ready, .on_lost = on_lost};

/* ---- state ---- */

void cs_sock_attach(struct cs_sock *s, struct cs_stream *stream)
{
    CS_ASSERT(!s->stream && s->state <= CS_SOCK_CONNECTING);
    s->state = CS_SOCK_OPEN;
    s->stream = stream;
    s->vm->socket_count++;
    cs_stream_attach(stream, &stream_user, s);
}

void cs_sock_replace(struct cs_sock *s, struct cs_stream *stream)
{
    CS_ASSERT(s->stream);
    s->stream = stream;
    cs_stream_attach(stream, &stream_user, s);
}

/* The stream is somebody else's from now on. */
static void let_go(struct cs_stream *stream)
{
    cs_stream_detach(stream);
    for (struct cs_stream *l = stream; l; l = l->ops->lower(l)) {
        cs_tls_stream_forget(l);
    }
}

static void drop_stream(struct cs_sock *s, int why)
{
    struct cs_stream *stream = s->stream;
    s->stream = NULL;
    s->vm->socket_count--;
    let_go(stream);
    cs_stream_close(stream, CS_CLOSE_GRACEFUL, why);
}

void cs_sock_unattach(struct cs_sock *s, int why)
{
    CS_ASSERT(s->state == CS_SOCK_OPEN);
    drop_stream(s, why);
    s->state = CS_SOCK_UNBOUND;
}

struct cs_stream *cs_sock_release(struct cs_sock *s)
{
    struct cs_stream *stream = s->stream;
    CS_ASSERT(stream);
    let_go(stream);
    s->stream = NULL;
    s->vm->socket_count--;
    cs_sock_close(s, CS_ECLOSED, 0);
    return stream;
}

static void give_up_handles(struct cs_sock *s, enum cs_sock_state state, int why)
{
    if (s->stream) {
        drop_stream(s, why);
    }
    if (state == CS_SOCK_LISTENING && s->bound) {
        struct cs_bound *bound = s->bound;
        s->bound = NULL;
        cs_bound_close(bound);
    }
    if (state == CS_SOCK_RESOLVING && s->udp_dial) {
        struct cs_udp_dial *dial = s->udp_dial;
        s->udp_dial = NULL;
        s->vm->socket_count--;
        cs_udp_dial_cancel(dial);
    }
    if (state == CS_SOCK_DATAGRAM) {
        struct cs_udp *udp = s->udp;
        s->udp = NULL;
        s->vm->socket_count--;
        if (udp) {
            cs_udp_close(udp);
        }
    }
    if (state == CS_SOCK_CONNECTING && s->dial) {
        struct cs_dial *dial = s->dial;
        s->dial = NULL;
        s->vm->socket_count--;
        cs_dial_cancel(dial);
    }
    cs_sock_tls_free(s->vm, s->tls);
    s->tls = NULL;
}

void cs_sock_close(struct cs_sock *s, int end, int why)
{
    if (s->state == CS_SOCK_TERMINATED) {
        return;
    }
    enum cs_sock_state before = s->state;
    s->vm->listen_count -= before == CS_SOCK_LISTENING;
    s->state = CS_SOCK_TERMINATED;
    s->end = end;
    pass_messages(s);
    give_up_handles(s, before, why);
    cs_sock_wake(s, end);
    cs_sock_wake_writers(s, end);
}

/* ---- its coroutine ---- */

/* Closes the socket if it still belongs to its coroutine. */
static void task_ended(struct cs_task *t, int err)
{
    struct cs_sock *s = t->sock;
    if (s && s->owner == t) {
        s->owner = NULL;
        cs_sock_close(s, CS_ECLOSED, err);
    }
}

static void task_about(const struct cs_task *t, char *buf, size_t size)
{
    struct cs_sock *s = t->sock;
    struct cs_addr a;
    char text[CS_ADDR_TEXT_MAX];
    if (s && s->stream && cs_conn_peername(cs_conn_of(cs_stream_bottom(s->stream)), &a) == 0) {
        snprintf(buf, size, " peer=%s", cs_addr_text(&a, text));
    }
}

static const struct cs_task_hooks task_hooks = {.ended = task_ended, .about = task_about};

void cs_sock_disown(struct cs_sock *s)
{
    cs_task_disown(s->owner);
    s->owner = NULL;
    s->latched = false; /* that was for it */
}

void cs_sock_run(lua_State *L, struct cs_sock *s, enum cs_sock_mode mode, int nargs)
{
    enum cs_task_kind kind = mode == CS_SOCK_COSOCKET ? CS_TASK_COSOCKET : CS_TASK_ASYNC;
    if (s->owner && !lua_checkstack(s->owner->co, 1)) {
        luaL_error(L, "not enough memory");
    }
    struct cs_task *t = cs_task_create(L, kind, s, nargs);
    if (s->owner) {
        cs_sock_disown(s);
    }
    t->hooks = &task_hooks;
    s->mode = mode;
    s->owner = t;
    cs_task_run_now(L, t, nargs);
}

const char *cs_sock_read_error(int err)
{
    return err < 0 && err > -4096 ? "socketreadfailed" : cs_error_string(err);
}

/* ---- the userdata ---- */

struct cs_sock *cs_sock_new(lua_State *L, enum cs_sock_mode mode)
{
    struct cs_sock *s = lua_newuserdatauv(L, sizeof(*s), 1);
    *s = (struct cs_sock){
        .vm = cs_vm_of(L), .queuelen = CS_SOCK_QUEUELEN, .mode = mode, .state = CS_SOCK_UNBOUND};
    cs_list_init(&s->writers);
    luaL_setmetatable(L, CS_SOCK_TYPE);
    return s;
}

struct cs_sock *cs_sock_check(lua_State *L, int arg)
{
    struct cs_sock *s = lua_touserdata(L, arg);
    if (s && lua_getmetatable(L, arg)) {
        bool ours = lua_rawequal(L, -1, lua_upvalueindex(1));
        lua_pop(L, 1);
        if (ours) {
            return s;
        }
    }
    luaL_typeerror(L, arg, CS_SOCK_TYPE);
    return NULL;
}
