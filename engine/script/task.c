/*
 * task - coroutines as tasks. The only file that calls lua_resume.
 *
 * A park is a yield whose one value is the address of `mark`; a plain coroutine.yield of the script
 * is any other. The mark stays on the suspended coroutine's stack, so that a coroutine which waits
 * in the engine can be told from one the script may resume.
 */
#include "script/task.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "ring/loop.h"
#include "script/bind_errh.h"

#define DEPTH_MAX 32
#define CACHE_LINE 64
#define RUN_AT_ONCE 32 /* tasks, between two looks at the clock */
#define REF_EXTRA 8    /* entries of a table of references that luaL_ref has for itself, at most */

struct timeout {
    struct cs_timer timer;
    struct cs_task *task;
};

static const char mark;

static bool is_parked(lua_State *co)
{
    return lua_status(co) == LUA_YIELD && lua_gettop(co) > 0 &&
           lua_touserdata(co, -1) == (const void *)&mark;
}

struct cs_task *cs_task_current(lua_State *L)
{
    return cs_vm_of(L)->current;
}

const char *cs_task_service(const struct cs_vm *vm)
{
    return vm->current ? vm->current->name : vm->name;
}

/* ---- the live and the weak table ---- */

static void table_set(struct cs_vm *vm, int table, int ref)
{
    lua_State *L = vm->L; /* value on top; an existing key: cannot fail */
    lua_rawgeti(L, LUA_REGISTRYINDEX, table);
    lua_insert(L, -2);
    lua_rawseti(L, -2, ref);
    lua_pop(L, 1);
}

void cs_task_make_collectable(lua_State *L, struct cs_task *t, int sock_index)
{
    struct cs_vm *vm = t->vm;
    sock_index = lua_absindex(L, sock_index);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->weak_table);
    lua_pushvalue(L, sock_index);
    lua_rawseti(L, -2, t->live_ref); /* may raise; nothing has changed then */
    lua_pop(L, 1);
    lua_pushboolean(vm->L, false);
    table_set(vm, vm->live_table, t->live_ref);
    t->collectable = true;
    vm->collectable_count++;
}

/* False when it is too late: the socket is being collected (the weak entry goes before any
 * finalizer runs), and cs_task_discard is about to come. */
static CS_MUST_CHECK bool make_live(struct cs_task *t)
{
    struct cs_vm *vm = t->vm;
    if (!t->collectable) {
        return true;
    }
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, vm->weak_table);
    bool alive = lua_rawgeti(vm->L, -1, t->live_ref) != LUA_TNIL;
    lua_remove(vm->L, -2);
    if (!alive) {
        lua_pop(vm->L, 1);
        return false;
    }
    t->collectable = false;
    vm->collectable_count--;
    table_set(vm, vm->live_table, t->live_ref);
    return true;
}

void cs_task_disown(struct cs_task *t)
{
    lua_pushthread(t->co);
    lua_xmove(t->co, t->vm->L, 1);
    table_set(t->vm, t->vm->live_table, t->live_ref);
    t->vm->collectable_count -= t->collectable;
    t->collectable = false;
    t->sock = NULL;
}

static void forget(struct cs_task *t)
{
    lua_State *L = t->vm->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->vm->live_table);
    luaL_unref(L, -1, t->live_ref);
    lua_pop(L, 1);
}

/* References stay as they are, and so may a lack of memory end it anywhere. */
static void copy(lua_State *L, int live, int weak, int new_live, int new_weak)
{
    for (lua_pushnil(L); lua_next(L, live);) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, new_live);
    }
    for (lua_pushnil(L); lua_next(L, weak); lua_settop(L, new_weak + 1)) {
        bool collectable = lua_rawgeti(L, live, lua_tointeger(L, -2)) == LUA_TBOOLEAN;
        if (collectable) { /* others have been left behind */
            lua_pushvalue(L, -3);
            lua_pushvalue(L, -3);
            lua_rawset(L, new_weak);
        }
    }
}

/* With new references, from 1 on. Allocates nothing but the list of free ones, first of all: then
 * nothing can fail. */
static void renumber(lua_State *L, struct cs_vm *vm, int live, int weak, int new_live, int new_weak)
{
    lua_pushboolean(L, true);
    luaL_unref(L, new_live, luaL_ref(L, new_live));
    cs_list_each(l, next, &vm->tasks) {
        struct cs_task *t = cs_container_of(l, struct cs_task, all);
        int before = t->live_ref;
        lua_rawgeti(L, live, before);
        t->live_ref = luaL_ref(L, new_live);
        if (t->collectable && lua_rawgeti(L, weak, before) != LUA_TNIL) {
            lua_rawseti(L, new_weak, t->live_ref);
        }
        lua_settop(L, new_weak);
    }
}

/* Lua: makes both tables anew, just large enough for the tasks there are. References change only
 * where most are free: going from task to task takes ten times as long as copying. Runs protected.
 */
static int repack(lua_State *L)
{
    struct cs_vm *vm = cs_vm_of(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->live_table);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->weak_table);
    size_t refs = lua_rawlen(L, 1);
    bool sparse = refs / 2 > vm->task_count;
    lua_createtable(L, (int)(sparse ? vm->task_count : refs) + REF_EXTRA, 0);
    lua_createtable(L, 0, (int)vm->collectable_count);
    lua_getmetatable(L, 2);
    lua_setmetatable(L, 4);
    if (sparse) {
        renumber(L, vm, 1, 2, 3, 4);
    } else {
        copy(L, 1, 2, 3, 4);
    }
    lua_pushvalue(L, 3);
    lua_rawseti(L, LUA_REGISTRYINDEX, vm->live_table);
    lua_pushvalue(L, 4);
    lua_rawseti(L, LUA_REGISTRYINDEX, vm->weak_table);
    return 0;
}

void cs_task_repack(struct cs_vm *vm)
{
    if (!vm->tasks_made) {
        return;
    }
    lua_pushcfunction(vm->L, repack);
    if (lua_pcall(vm->L, 0, 0, 0) == LUA_OK) {
        vm->tasks_made = false;
    } else {
        lua_pop(vm->L, 1); /* no memory: the old tables will do */
    }
}

void cs_task_push_sock(lua_State *L, const struct cs_task *t)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->vm->live_table);
    lua_rawgeti(L, -1, t->live_ref);
    lua_remove(L, -2);
}

/* ---- making and freeing ---- */

static void refuse_when_short(lua_State *L, struct cs_vm *vm)
{
    if (cs_vm_short(vm, 0)) {
        luaL_error(L, "no new coroutine: the scripts' memory is nearly used up (%d of %d KiB)",
                   (int)(vm->memory / 1024), (int)(vm->memory_max / 1024));
    }
}

/* Puts the value that keeps the task alive (its socket, else its thread, on top) into the live
 * table. */
static int anchor(lua_State *L, struct cs_vm *vm)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->live_table);
    lua_insert(L, -2);
    int ref = luaL_ref(L, -2);
    lua_pop(L, 1);
    return ref;
}

struct cs_task *cs_task_create(lua_State *L, enum cs_task_kind kind, struct cs_sock *sock,
                               int nargs)
{
    struct cs_vm *vm = cs_vm_of(L);
    cs_vm_check_open(L);
    if (kind != CS_TASK_TIMER && kind != CS_TASK_ON_CLOSE) { /* those may be what frees memory */
        refuse_when_short(L, vm);
    }
    luaL_checkstack(L, 4, "too many arguments");
    lua_State *co = lua_newthread(L); /* ... f a1 .. an co */
    lua_pushvalue(L, sock ? -(nargs + 1) : -1);
    int ref = anchor(L, vm);
    struct cs_task *t = lua_checkstack(co, nargs + 4) ? cs_zalloc(sizeof(*t)) : NULL;
    if (!t) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, vm->live_table);
        luaL_unref(L, -1, ref);
        luaL_error(L, "not enough memory");
    }
    if (sock) { /* the socket keeps its coroutine */
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, -(nargs + 2), 1);
    }
    lua_insert(L, -(nargs + 2));
    lua_xmove(L, co, nargs + 1);
    lua_pop(L, 1);
    *cs_vm_space(co) |= CS_VM_TASK;
    *t = (struct cs_task){.vm = vm,
                          .co = co,
                          .sock = sock,
                          .kind = kind,
                          .state = CS_TASK_READY,
                          .live_ref = ref,
                          .args = nargs,
                          .name = cs_task_service(vm)};
    cs_list_init(&t->node);
    cs_list_append(&vm->tasks, &t->all);
    vm->task_count++;
    vm->tasks_made = true;
    return t;
}

static void drop_timeout(struct cs_task *t)
{
    if (t->timeout) {
        cs_timer_stop(cs_loop_wheel(t->vm->net->loop), t->timeout);
        cs_free(cs_container_of(t->timeout, struct timeout, timer));
        t->timeout = NULL;
    }
}

static void destroy(struct cs_task *t)
{
    drop_timeout(t);
    cs_list_remove(&t->node);
    cs_list_remove(&t->all);
    t->vm->task_count--;
    t->vm->collectable_count -= t->collectable;
    if (t->vm->bind_task == t) {
        t->vm->bind_task = NULL;
    }
    cs_free(t);
}

void cs_task_discard(struct cs_task *t)
{
    CS_ASSERT(t->collectable && t->state == CS_TASK_PARKED);
    forget(t);
    destroy(t);
}

/* Runs what the coroutine had to close, whatever state it is in. */
static int close_thread(lua_State *co, lua_State *from)
{
    struct cs_vm *vm = cs_vm_of(co);
    struct cs_task *current = vm->current;
    lua_State *before = cs_budget_enter(co, vm->cpu_budget_ms);
    vm->current = NULL; /* what closes runs for no task: no socket is "its own" */
#if LUA_VERSION_RELEASE_NUM >= 50406
    int status = lua_closethread(co, from);
#else
    (void)from;
    int status = lua_resetthread(co);
#endif
    vm->current = current;
    cs_budget_leave(co, before);
    return status;
}

static void leave_wait(struct cs_task *t)
{
    void (*leave)(struct cs_task *) = t->leave;
    t->leave = NULL;
    if (leave) {
        leave(t);
    }
}

void cs_task_kill(struct cs_task *t)
{
    CS_ASSERT(t->state == CS_TASK_PARKED || t->state == CS_TASK_READY);
    leave_wait(t);
    if (make_live(t)) {
        close_thread(t->co, t->vm->L);
    }
    forget(t);
    destroy(t);
}

/* ---- waiting ---- */

static void timed_out(struct cs_timer *timer)
{
    cs_task_interrupt(cs_container_of(timer, struct timeout, timer)->task, CS_ETIMEOUT);
}

static CS_MUST_CHECK int set_timeout(struct cs_task *t, int64_t timeout_ms)
{
    if (!t->timeout) {
        struct timeout *to = cs_alloc(sizeof(*to));
        if (!to) {
            return -ENOMEM;
        }
        cs_timer_init(&to->timer, timed_out);
        to->task = t;
        t->timeout = &to->timer;
    }
    /* The clock, not the turn's time: the script may have computed for a while, and is never to
     * wake early. */
    cs_timer_set(cs_loop_wheel(t->vm->net->loop), t->timeout, cs_clock_ms() + (uint64_t)timeout_ms);
    return 0;
}

struct cs_task *cs_task_can_wait(lua_State *L, const char *what)
{
    struct cs_vm *vm = cs_vm_of(L);
    if (!vm->current) {
        luaL_error(L,
                   "%s would have to wait here, in a finalizer or a coroutine that is being "
                   "closed: not possible",
                   what);
    }
    if (!lua_isyieldable(L) || vm->no_wait) {
        luaL_error(L,
                   "%s would have to wait here, where Lua cannot suspend (the top level of a "
                   "required module, a sort comparator, a finalizer)",
                   what);
    }
    return vm->current;
}

int cs_task_park(lua_State *L, struct cs_task *t, void (*leave)(struct cs_task *),
                 int64_t timeout_ms, lua_KFunction k, lua_KContext ctx)
{
    t->state = CS_TASK_PARKED;
    t->wake = 0;
    t->leave = leave;
    if (timeout_ms >= 0 && set_timeout(t, timeout_ms) < 0) {
        cs_task_interrupt(t, -ENOMEM);
    } else if (t->vm->state == CS_VM_STOPPING) {
        cs_task_interrupt(t, CS_ESHUTDOWN);
    }
    lua_pushlightuserdata(L, (void *)(uintptr_t)&mark);
    return lua_yieldk(L, 1, ctx, k);
}

/* A coroutine that has waited is in no cache. Its state is fetched when it is woken, its frame
 * while the second before it runs, its stack while the one before it does. That a frame is where
 * i_ci points, and begins with a pointer into the stack, is so in Lua 5.4; were it otherwise, the
 * wrong memory would be fetched, which is harmless. */
static void fetch_state(const struct cs_task *t)
{
    __builtin_prefetch(t->co);
    __builtin_prefetch((const char *)t->co + CACHE_LINE);
}

static void fetch_frame(const struct cs_task *t)
{
    lua_Debug ar;
    if (lua_getstack(t->co, 0, &ar)) {
        __builtin_prefetch(ar.i_ci);
    }
}

static void fetch_stack(const struct cs_task *t)
{
    lua_Debug ar;
    if (lua_getstack(t->co, 0, &ar)) {
        const char *function = *(const char *const *)(const void *)ar.i_ci;
        __builtin_prefetch(function - CACHE_LINE);
        __builtin_prefetch(function);
        __builtin_prefetch(function + CACHE_LINE);
    }
}

static void queue(struct cs_task *t)
{
    fetch_state(t);
    t->state = CS_TASK_READY;
    cs_list_remove(&t->node);
    cs_list_append(&t->vm->ready, &t->node);
    cs_loop_again(t->vm->net->loop);
}

void cs_task_wake(struct cs_task *t, int err)
{
    if (t->state != CS_TASK_PARKED || !make_live(t)) {
        return;
    }
    t->leave = NULL;
    t->wake = (int16_t)err;
    t->args = 0;
    drop_timeout(t);
    queue(t);
}

void cs_task_interrupt(struct cs_task *t, int err)
{
    if (t->state == CS_TASK_PARKED) {
        leave_wait(t);
        cs_task_wake(t, err);
    }
}

int cs_task_give_way(lua_State *L, struct cs_task *t, lua_KFunction k, lua_KContext ctx)
{
    t->state = CS_TASK_PARKED;
    cs_task_wake(t, 0);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&mark);
    return lua_yieldk(L, 1, ctx, k);
}

void cs_task_start(struct cs_task *t)
{
    bool held =
        t->vm->state == CS_VM_LOADING && t->kind != CS_TASK_STARTUP && t->kind != CS_TASK_COSOCKET;
    if (held) {
        cs_list_append(&t->vm->held, &t->node);
    } else {
        queue(t);
    }
}

/* ---- reporting errors ---- */

/* What a failed bind returns, as it is or behind a place in a file; what else ends so is a
 * script's. */
static bool is_bind(const char *text, size_t len)
{
    static const char end[] = ": bind";
    size_t n = sizeof(end) - 1;
    return strcmp(text, "bind") == 0 || (len >= n && memcmp(text + len - n, end, n) == 0);
}

/* Lua: (task) -> text of the error on top of its thread, with a traceback. Runs protected. */
static int describe_error(lua_State *L)
{
    const struct cs_task *t = lua_touserdata(L, 1);
    size_t len;
    lua_pushvalue(t->co, -1);
    lua_xmove(t->co, L, 1);
    const char *text = luaL_tolstring(L, -1, &len);
    if (t->vm->bind_task == t && is_bind(text, len)) {
        text = lua_pushfstring(L, "%s %s", text, t->vm->bind_text);
    }
    luaL_traceback(L, t->co, text, 0);
    return 1;
}

/* At most one report a second of the same error; there may be many different ones. */
static struct cs_log_limit *limit_of(const char *text)
{
    static _Thread_local struct cs_log_limit limits[64];
    unsigned hash = 5381;
    for (const char *p = text; *p && *p != '\n'; p++) {
        hash = hash * 33 + (unsigned char)*p;
    }
    return &limits[hash % CS_ARRAY_LEN(limits)];
}

/* ---- running ---- */

static void finish(struct cs_task *t, int err)
{
    t->state = CS_TASK_DONE;
    if (t->hooks && t->hooks->ended) {
        t->hooks->ended(t, err);
    }
    if (err < 0) {
        close_thread(t->co, t->vm->L);
        lua_settop(t->co, 0); /* not its error: an empty one is dead */
    }
    forget(t);
    destroy(t);
}

static void what_about(const struct cs_task *t, char *buf, size_t size)
{
    *buf = 0;
    if (t->hooks && t->hooks->about) {
        t->hooks->about(t, buf, size);
    }
}

/* Pushes onto the main state what went wrong, with a traceback. */
static void describe(struct cs_task *t)
{
    lua_State *L = t->vm->L;
    char place[128], about[128];
    lua_pushcfunction(L, describe_error);
    lua_pushlightuserdata(L, t);
    lua_State *before = cs_budget_enter(L, t->vm->cpu_budget_ms); /* __tostring is a script's */
    int status = lua_pcall(L, 1, 1, 0);
    cs_budget_leave(L, before);
    if (status == LUA_OK) {
        return;
    }
    /* No memory for a traceback; the message itself needs none. */
    lua_pop(L, 1);
    bool text = lua_type(t->co, -1) == LUA_TSTRING;
    what_about(t, about, sizeof(about));
    cs_log(CS_LOG_ERROR, "script error service=%s generation=%u%s: %s: %s", t->name,
           t->vm->generation, about, cs_task_place(t, place, sizeof(place)),
           text ? lua_tostring(t->co, -1) : "not enough memory to say what");
    lua_pushnil(L);
}

/* The task ends with the error on top of co: reported, except while loading, when whoever loads
 * says it. */
static void fail(struct cs_task *t)
{
    struct cs_vm *vm = t->vm;
    vm->errors++;
    describe(t);
    const char *text = lua_tostring(vm->L, -1);
    if (vm->state == CS_VM_LOADING) {
        vm->load_failed(vm, t->name, text);
    } else if (text) {
        char about[128];
        what_about(t, about, sizeof(about));
        cs_log_limited(limit_of(text), CS_LOG_ERROR, "script error service=%s generation=%u%s: %s",
                       t->name, vm->generation, about, text);
        cs_errh_report(t);
    }
    finish(t, CS_ESCRIPT);
    lua_pop(vm->L, 1);
}

static void yielded(struct cs_task *t, int nres)
{
    if (is_parked(t->co)) {
        return; /* cs_task_park has set the state; it may even be READY again */
    }
    if (t->hooks && t->hooks->yielded) {
        t->state = CS_TASK_PARKED;
        t->args = nres;
        t->hooks->yielded(t);
        return;
    }
    lua_settop(t->co, 0);
    lua_pushliteral(t->co, "coroutine.yield outside a coroutine of the script");
    fail(t);
}

/* nargs values are on top of co, above the mark of a parked one. */
static void run(struct cs_task *t, lua_State *from, int nargs)
{
    struct cs_vm *vm = t->vm;
    struct cs_task *before = vm->current;
    int nres = 0;
    if (lua_status(t->co) == LUA_YIELD && lua_touserdata(t->co, -nargs - 1) == (void *)&mark) {
        lua_remove(t->co, -nargs - 1);
    }
    vm->current = t;
    vm->depth++;
    vm->resumes++;
    t->state = CS_TASK_RUNNING;
    t->leave = NULL;
    t->waiting = CS_WAIT_NONE;
    t->streak = 0;
    t->args = 0;
    lua_State *running = cs_budget_enter(t->co, vm->cpu_budget_ms);
    int status = lua_resume(t->co, from, nargs, &nres);
    cs_budget_leave(t->co, running);
    vm->depth--;
    vm->current = before;
    if (status == LUA_YIELD) {
        yielded(t, nres);
    } else if (status == LUA_OK) {
        finish(t, 0);
    } else {
        fail(t);
    }
}

/* A finalizer runs with the collector stopped and out of the CPU budget's reach: not the place to
 * run a coroutine. (Without a current task the collector runs by itself.) */
static bool in_finalizer(lua_State *L)
{
    lua_Debug ar;
    if (lua_isyieldable(L) || !cs_vm_of(L)->current) {
        return !cs_vm_of(L)->current;
    }
    for (int level = 0; lua_getstack(L, level, &ar) && lua_getinfo(L, "n", &ar); level++) {
        if (ar.name && strcmp(ar.name, "__gc") == 0 && strcmp(ar.namewhat, "metamethod") == 0) {
            return true;
        }
    }
    return false;
}

void cs_task_run_now(lua_State *L, struct cs_task *t, int nargs)
{
    if (t->state == CS_TASK_PARKED) {
        if (!make_live(t)) {
            return;
        }
        t->leave = NULL;
        t->wake = 0;
        drop_timeout(t);
    }
    t->args = nargs;
    if (t->vm->depth >= DEPTH_MAX || in_finalizer(L)) {
        queue(t);
        return;
    }
    cs_list_remove(&t->node);
    run(t, L, nargs);
}

static void fetch_ahead(const struct cs_list *ready, const struct cs_list *running)
{
    const struct cs_list *next = running->next, *second = next->next;
    if (next != ready) {
        fetch_stack(cs_container_of(next, struct cs_task, node));
    }
    if (next != ready && second != ready) {
        fetch_frame(cs_container_of(second, struct cs_task, node));
    }
}

bool cs_task_run_ready(struct cs_vm *vm, unsigned max)
{
    struct cs_list *l;
    uint64_t looked = vm->resumes; /* counts those, too, that a task starts within its own slice */
    for (unsigned i = 0; i < max && (l = cs_list_first(&vm->ready)) && !vm->exiting; i++) {
        struct cs_task *t = cs_container_of(l, struct cs_task, node);
        if (vm->resumes - looked >= RUN_AT_ONCE) {
            if (cs_loop_late(vm->net->loop)) {
                break;
            }
            looked = vm->resumes;
        }
        fetch_ahead(&vm->ready, l);
        cs_list_remove(l);
        run(t, NULL, t->args);
    }
    return !cs_list_empty(&vm->ready) && !vm->exiting;
}

const char *cs_task_waits_for(const struct cs_task *t)
{
    static const char *const names[] = {
        [CS_WAIT_NONE] = NULL,         [CS_WAIT_READ] = "read",     [CS_WAIT_WRITE] = "write",
        [CS_WAIT_CONNECT] = "connect", [CS_WAIT_ACCEPT] = "accept", [CS_WAIT_DISABLE] = "disable",
        [CS_WAIT_TLS] = "upgrade",     [CS_WAIT_RELAY] = "relay",   [CS_WAIT_FILE] = "file",
    };
    return t->state == CS_TASK_PARKED ? names[t->waiting] : NULL;
}

const char *cs_task_place(struct cs_task *t, char *buf, size_t size)
{
    lua_Debug ar;
    for (int level = 0; lua_getstack(t->co, level, &ar); level++) {
        if (lua_getinfo(t->co, "Sl", &ar) && ar.currentline > 0) {
            snprintf(buf, size, "%s:%d", ar.short_src, ar.currentline);
            return buf;
        }
    }
    snprintf(buf, size, "?");
    return buf;
}

/* ---- nested coroutines: the script's own inside a task ---- */

/* Resumes co with the nargs values on top of L. Returns lua_resume's status; a park of the inner
 * one is LUA_YIELD with is_parked(co). */
static int resume_inner(lua_State *L, lua_State *co, int nargs, int *nres)
{
    struct cs_vm *vm = cs_vm_of(L);
    bool stuck = !lua_isyieldable(L);
    if (!lua_checkstack(co, nargs)) {
        return luaL_error(L, "too many values");
    }
    lua_xmove(L, co, nargs);
    vm->no_wait += stuck;
    lua_State *before = cs_budget_enter(co, vm->cpu_budget_ms);
    int status = lua_resume(co, L, nargs, nres);
    cs_budget_leave(co, before);
    vm->no_wait -= stuck;
    return status;
}

/* A task's own coroutine that has not ended: only `run` may resume it. Scripts get to know it by
 * coroutine.running and ba.thread.dbg. */
static bool is_tasks(lua_State *co)
{
    bool dead = lua_status(co) == LUA_OK && lua_gettop(co) == 0;
    return (*cs_vm_space(co) & CS_VM_TASK) && !dead;
}

/* The checks of the standard library, with its messages; NULL when co can be resumed. */
static const char *cannot_resume(lua_State *L, lua_State *co, int nargs)
{
    if (is_parked(co)) {
        return "cannot resume a coroutine that waits in a socket or sleep call";
    }
    if (lua_status(co) == LUA_OK && lua_gettop(co) == 0) {
        return "cannot resume dead coroutine";
    }
    if (lua_status(co) != LUA_OK && lua_status(co) != LUA_YIELD) {
        return "cannot resume dead coroutine";
    }
    if (co == L || (lua_status(co) == LUA_OK && lua_getstack(co, 0, &(lua_Debug){0}))) {
        return "cannot resume non-suspended coroutine";
    }
    if (is_tasks(co)) {
        return "cannot resume the coroutine of a job, timer or socket";
    }
    return lua_checkstack(co, nargs) ? NULL : "too many arguments to resume";
}

/* What to do with the outcome; `deliver` turns it into results. */
typedef int deliver_fn(lua_State *L, lua_State *co, bool ok, int nres);

static int settle(lua_State *L, lua_State *co, int status, int nres, lua_KFunction k,
                  deliver_fn *deliver)
{
    if (status == LUA_YIELD && is_parked(co)) {
        lua_pushlightuserdata(L, (void *)(uintptr_t)&mark);
        return lua_yieldk(L, 1, 0, k);
    }
    bool ok = status == LUA_OK || status == LUA_YIELD;
    if (ok && !lua_checkstack(L, nres + 1)) {
        lua_pop(co, nres);
        return luaL_error(L, "too many results to resume");
    }
    lua_xmove(co, L, ok ? nres : 1);
    return deliver(L, co, ok, nres);
}

static int deliver_resume(lua_State *L, lua_State *co, bool ok, int nres)
{
    (void)co;
    int n = ok ? nres : 1;
    lua_pushboolean(L, ok);
    lua_insert(L, -(n + 1));
    return n + 1;
}

static int deliver_wrap(lua_State *L, lua_State *co, bool ok, int nres)
{
    if (ok) {
        return nres;
    }
    if (lua_status(co) != LUA_OK && lua_status(co) != LUA_YIELD) {
        close_thread(co, L);
    }
    if (lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int co_resume_k(lua_State *L, int status, lua_KContext ctx)
{
    lua_State *co = lua_tothread(L, 1);
    int nres = 0;
    (void)status;
    (void)ctx;
    lua_pop(co, 1); /* the mark */
    int st = resume_inner(L, co, lua_gettop(L) - 1, &nres);
    return settle(L, co, st, nres, co_resume_k, deliver_resume);
}

static int co_resume(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTHREAD);
    lua_State *co = lua_tothread(L, 1);
    int nargs = lua_gettop(L) - 1, nres = 0;
    const char *why = cannot_resume(L, co, nargs);
    if (why) {
        lua_pushboolean(L, false);
        lua_pushstring(L, why);
        return 2;
    }
    int status = resume_inner(L, co, nargs, &nres);
    return settle(L, co, status, nres, co_resume_k, deliver_resume);
}

static int co_wrapped_k(lua_State *L, int status, lua_KContext ctx)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int nres = 0;
    (void)status;
    (void)ctx;
    lua_pop(co, 1);
    int st = resume_inner(L, co, lua_gettop(L), &nres);
    return settle(L, co, st, nres, co_wrapped_k, deliver_wrap);
}

static int co_wrapped(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int nargs = lua_gettop(L), nres = 0;
    const char *why = cannot_resume(L, co, nargs);
    if (why) {
        return luaL_error(L, "%s", why);
    }
    int status = resume_inner(L, co, nargs, &nres);
    return settle(L, co, status, nres, co_wrapped_k, deliver_wrap);
}

static int co_wrap(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, co_wrapped, 1);
    return 1;
}

/* coroutine.close of the library, but for one that waits in the engine, and within the CPU budget.
 */
static int co_close(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTHREAD);
    lua_State *co = lua_tothread(L, 1);
    if (is_parked(co)) {
        return luaL_error(L, "cannot close a coroutine that waits in a socket or sleep call");
    }
    if (co == L || (lua_status(co) == LUA_OK && lua_getstack(co, 0, &(lua_Debug){0}))) {
        return luaL_error(L, "cannot close a running coroutine");
    }
    if (is_tasks(co)) {
        return luaL_error(L, "cannot close the coroutine of a job, timer or socket");
    }
    if (close_thread(co, L) == LUA_OK) {
        lua_pushboolean(L, true);
        return 1;
    }
    lua_pushboolean(L, false);
    lua_xmove(co, L, 1);
    return 2;
}

void cs_task_open_coroutine(lua_State *L)
{
    static const luaL_Reg replaced[] = {
        {"resume", co_resume}, {"wrap", co_wrap}, {"close", co_close}, {NULL, NULL}};
    lua_getglobal(L, "coroutine");
    luaL_setfuncs(L, replaced, 0);
    lua_pop(L, 1);
}
