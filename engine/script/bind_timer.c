/*
 * bind_timer - ba.timer and ba.clock.
 *
 *   IDLE ──set──▶ ARMED ──due──▶ TICKING ──returns or yields true──▶ ARMED
 *     ▲             │              └── anything else, an error ──▶ IDLE
 *     └───cancel────┘                  set, reset, cancel in the callback win over what it returns
 *
 * A tick is a task that runs the callback. When the callback calls coroutine.yield the task stays,
 * parked, and the next tick resumes it; when it returns the next tick is a new task.
 *
 * An armed timer is not kept alive by anything here (ba-api C.2): the wheel's pointer into the
 * userdata ends in __gc. The table of pins keeps it alive during a tick, and from set(ms, true)
 * until it stops.
 */
#include "script/bind_timer.h"

#include "base/clock.h"
#include "base/log.h"
#include "script/bind.h"

/* A century: what is longer would only risk overflow. */
#define TIMER_MS_MAX (INT64_C(100) * 366 * 24 * 3600 * 1000)

/* When a tick could not begin for want of memory: tried again after at least this. */
#define TIMER_RETRY_MS 100

#define TIMER_TYPE "ba.timer"

struct timer {
    struct cs_timer wheel; /* active while ARMED, except while the VM loads */
    struct cs_list held;   /* in vm->timers while the VM loads */
    struct cs_vm *vm;
    const char *name;     /* of the service that made it */
    struct cs_task *task; /* of the tick, or parked in coroutine.yield between two; NULL: none */
    uint64_t ms;
    bool active;     /* not IDLE; counted in vm->timer_count */
    bool ticking;    /* from the moment it is due until the callback has returned or yielded */
    bool decided;    /* set, reset or cancel was called in this tick */
    bool due;        /* came due once more in this tick */
    bool yielded;    /* the task has called coroutine.yield: it is a coroutine, returning ends it */
    bool referenced; /* set(ms, true): pinned while active */
    bool pinned;
};

/* User values of the userdata. */
enum { TIMER_CALLBACK = 1, TIMER_COROUTINE = 2, TIMER_USER_VALUES = 2 };

/* Keys of the registry: tables from the timer's address to its userdata. */
static const char all_timers;    /* weak values: without an entry, the timer is being collected */
static const char pinned_timers; /* strong */

static struct timer *check_timer(lua_State *L)
{
    return luaL_checkudata(L, 1, TIMER_TYPE);
}

/* ---- what keeps a timer alive ---- */

/* Pushes its userdata, or nil when it is being collected. Cannot raise. */
static void push_timer(lua_State *L, const struct timer *t)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &all_timers);
    lua_rawgetp(L, -1, t);
    lua_remove(L, -2);
}

static void CS_RAISES pin(lua_State *L, struct timer *t)
{
    if (!t->pinned) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &pinned_timers);
        push_timer(L, t);
        lua_rawsetp(L, -2, t);
        lua_pop(L, 1);
        t->pinned = true;
    }
}

/* Drops the pin that nobody needs any more. Cannot raise: storing nil takes no memory. */
static void unpin(struct timer *t)
{
    lua_State *L = t->vm->L;

    if (t->pinned && !t->ticking && !(t->referenced && t->active)) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &pinned_timers);
        lua_pushnil(L);
        lua_rawsetp(L, -2, t);
        lua_pop(L, 1);
        t->pinned = false;
    }
}

/* ---- arming ---- */

static struct cs_wheel *wheel_of(const struct timer *t)
{
    return cs_loop_wheel(t->vm->net->loop);
}

static void set_active(struct timer *t, bool active)
{
    if (t->active != active) {
        t->active = active;
        t->vm->timer_count += active ? 1u : -1u;
    }
}

static void disarm(struct timer *t)
{
    cs_timer_stop(wheel_of(t), &t->wheel);
    cs_list_remove(&t->held);
}

static void arm(struct timer *t, uint64_t ms)
{
    disarm(t);
    if (t->vm->state == CS_VM_LOADING) {
        cs_list_append(&t->vm->timers, &t->held);
    } else {
        cs_timer_set(wheel_of(t), &t->wheel, cs_clock_ms() + ms);
    }
    set_active(t, true);
}

static void stop(struct timer *t)
{
    disarm(t);
    set_active(t, false);
    t->referenced = false;
    t->due = false;
}

void cs_timers_release(struct cs_vm *vm)
{
    struct cs_list *l;

    while ((l = cs_list_first(&vm->timers)) != NULL) {
        struct timer *t = cs_container_of(l, struct timer, held);

        arm(t, t->due ? 0 : t->ms);
    }
}

/* ---- the end of a tick ---- */

/* again: what the callback returned or yielded. */
static void tick_over(struct timer *t, bool again)
{
    t->ticking = false;
    if (t->vm->state == CS_VM_STOPPING || (!t->decided && !again)) {
        stop(t);
    } else if (!t->decided) {
        arm(t, CS_MAX(t->ms, 1u)); /* with 0 the wheel would not get past this moment */
    } else if (t->active && t->due) {
        arm(t, 0);
    }
    unpin(t);
}

/* The task is gone, or about to be. */
static void drop_task(struct timer *t)
{
    lua_State *L = t->vm->L;

    t->task = NULL;
    t->yielded = false;
    push_timer(L, t);
    if (!lua_isnil(L, -1)) {
        lua_pushnil(L);
        lua_setiuservalue(L, -2, TIMER_COROUTINE);
    }
    lua_pop(L, 1);
}

static void tick_ended(struct cs_task *task, int err)
{
    struct timer *t = task->starter;
    bool again = err == 0 && !t->yielded && lua_gettop(task->co) > 0 && lua_toboolean(task->co, 1);

    drop_task(t);
    tick_over(t, again);
}

/* The task's `leave` between two ticks, and before the first: it is killed with the VM, or was
 * woken by its stop. */
static void task_killed(struct cs_task *task)
{
    struct timer *t = task->starter;

    t->task = NULL;
    t->yielded = false;
}

/* Lua: (timer's address). The parked coroutine is kept by its timer alone, so that both can be
 * collected when the script has lost the timer. */
static int loosen(lua_State *L)
{
    struct timer *t = lua_touserdata(L, 1);
    lua_State *co = t->task->co;

    if (!lua_checkstack(co, 1)) {
        return luaL_error(L, "not enough memory");
    }
    push_timer(L, t);
    lua_pushthread(co);
    lua_xmove(co, L, 1);
    lua_setiuservalue(L, 2, TIMER_COROUTINE);
    cs_task_make_collectable(L, t->task, 2);
    return 0;
}

static int protected_call(struct timer *t, lua_CFunction f)
{
    lua_pushcfunction(t->vm->L, f);
    lua_pushlightuserdata(t->vm->L, t);
    return lua_pcall(t->vm->L, 1, 0, 0);
}

static void tick_yielded(struct cs_task *task)
{
    struct timer *t = task->starter;
    bool again = task->args > 0 && lua_toboolean(task->co, -task->args);

    lua_pop(task->co, task->args);
    task->args = 0;
    task->leave = task_killed;
    t->yielded = true;
    if (t->vm->state == CS_VM_STOPPING || (!again && !t->decided)) { /* it ends for good */
        cs_task_kill(task);
        drop_task(t);
    } else if (protected_call(t, loosen) != LUA_OK) {
        lua_pop(t->vm->L, 1); /* out of memory: the coroutine lives until the timer is collected */
    }
    tick_over(t, again);
}

static const struct cs_task_hooks tick_hooks = {.ended = tick_ended, .yielded = tick_yielded};

void cs_timers_stop(struct cs_vm *vm)
{
    struct cs_list waiting, *l;

    cs_list_init(&waiting); /* apart, because what a coroutine has to close may change vm->tasks */
    cs_list_each(it, next, &vm->tasks) {
        struct cs_task *task = cs_container_of(it, struct cs_task, all);

        if (task->leave == task_killed) {
            cs_list_append(&waiting, &task->node);
        }
    }
    while ((l = cs_list_first(&waiting)) != NULL) {
        struct cs_task *task = cs_container_of(l, struct cs_task, node);
        struct timer *t = task->starter;

        cs_task_kill(task);
        drop_task(t);
        stop(t);
        unpin(t);
    }
}

/* ---- a tick ---- */

static void CS_RAISES make_task(lua_State *L, struct timer *t)
{
    push_timer(L, t);
    lua_getiuservalue(L, -1, TIMER_CALLBACK);
    lua_remove(L, -2);
    t->task = cs_task_create(L, CS_TASK_TIMER, NULL, 0);
    t->task->name = t->name;
    t->task->starter = t;
    t->task->hooks = &tick_hooks;
    t->task->leave = task_killed;
}

/* now: inside the caller's slice, else in the script phase. */
static void CS_RAISES begin_tick(lua_State *L, struct timer *t, bool now)
{
    if (!t->task) {
        make_task(L, t);
    }
    pin(L, t);
    disarm(t);
    set_active(t, true);
    t->ticking = true;
    t->decided = false;
    t->due = false;
    t->task->leave = NULL;
    if (now) {
        cs_task_run_now(L, t->task, 0);
    } else if (t->task->state == CS_TASK_PARKED) {
        cs_task_wake(t->task, 0);
    } else {
        cs_task_start(t->task);
    }
}

/* Lua: (timer's address) */
static int begin_due_tick(lua_State *L)
{
    struct timer *t = lua_touserdata(L, 1);

    push_timer(L, t);
    if (!lua_isnil(L, -1)) { /* else __gc is about to be called */
        begin_tick(L, t, false);
    }
    return 0;
}

/* From the wheel: no Lua code runs now. */
static void fire(struct cs_timer *wheel)
{
    static _Thread_local struct cs_log_limit limit;
    struct timer *t = cs_container_of(wheel, struct timer, wheel);

    if (t->vm->state == CS_VM_STOPPING) {
        stop(t);
        unpin(t);
    } else if (t->ticking) { /* set from outside while the callback waits for something */
        t->due = true;
    } else if (protected_call(t, begin_due_tick) != LUA_OK) {
        const char *why = lua_tostring(t->vm->L, -1);

        cs_log_limited(&limit, CS_LOG_WARN, "timer delayed generation=%u: %s", t->vm->generation,
                       why ? why : "error");
        lua_pop(t->vm->L, 1);
        arm(t, CS_MAX(t->ms, (uint64_t)TIMER_RETRY_MS));
    }
}

/* ---- callbacks that are coroutines ---- */

/* Upvalues: the coroutine (nil once it has yielded false), coroutine.resume. Returns true for one
 * more tick. */
static int tick_thread_k(lua_State *L, int status, lua_KContext ctx)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));

    (void)status;
    (void)ctx;
    if (!lua_toboolean(L, 1)) {
        luaL_traceback(L, co, luaL_tolstring(L, 2, NULL), 0);
        return lua_error(L);
    }
    bool again = lua_status(co) == LUA_YIELD && lua_toboolean(L, 2);
    if (!again) {
        lua_pushnil(L);
        lua_replace(L, lua_upvalueindex(1));
    }
    lua_pushboolean(L, again);
    return 1;
}

static int tick_thread(lua_State *L)
{
    if (!lua_isthread(L, lua_upvalueindex(1))) {
        return luaL_error(L, "the timer's coroutine has ended");
    }
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_callk(L, 1, LUA_MULTRET, 0, tick_thread_k);
    return tick_thread_k(L, LUA_OK, 0);
}

/* ---- Lua ---- */

/* ba.timer(f); upvalue: coroutine.resume */
static int timer_create(lua_State *L)
{
    bool is_thread = lua_isthread(L, 1);

    cs_vm_check_open(L);
    if (!is_thread) {
        luaL_checktype(L, 1, LUA_TFUNCTION);
    }
    struct timer *t = lua_newuserdatauv(L, sizeof(*t), TIMER_USER_VALUES);
    struct cs_vm *vm = cs_vm_of(L);
    *t = (struct timer){.vm = vm, .name = cs_task_service(vm)};
    cs_timer_init(&t->wheel, fire);
    cs_list_init(&t->held);
    luaL_setmetatable(L, TIMER_TYPE);
    lua_pushvalue(L, 1);
    if (is_thread) {
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_pushcclosure(L, tick_thread, 2);
    }
    lua_setiuservalue(L, -2, TIMER_CALLBACK);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &all_timers);
    lua_pushvalue(L, -2);
    lua_rawsetp(L, -2, t);
    lua_pop(L, 1);
    return 1;
}

static uint64_t CS_RAISES check_time(lua_State *L, int arg)
{
    int64_t ms = cs_check_ms(L, arg);

    return (uint64_t)CS_MIN(ms, TIMER_MS_MAX);
}

/* A finalizer can reach a timer that is being collected in the same cycle, or by the end of the VM:
 * its memory goes whatever it is asked for. */
static bool timer_usable(lua_State *L, struct timer *t)
{
    push_timer(L, t); /* the weak entry goes before any finalizer runs */
    bool usable = !lua_isnil(L, -1) && !t->vm->closing;
    lua_pop(L, 1);
    return usable;
}

/* t:set(ms [, reference [, immediately]]) */
static int timer_set(lua_State *L)
{
    struct timer *t = check_timer(L);
    uint64_t ms = check_time(L, 2);
    if (!timer_usable(L, t)) {
        return cs_push_error(L, CS_ESTATE);
    }
    bool immediately = lua_toboolean(L, 4);

    if (lua_toboolean(L, 3)) {
        pin(L, t);
    }
    disarm(t);
    t->referenced = lua_toboolean(L, 3);
    t->ms = ms;
    t->decided = true;
    t->due = immediately && t->ticking; /* then right after this tick */
    if (!immediately) {
        arm(t, ms);
    } else if (t->ticking) {
        set_active(t, true);
    } else {
        begin_tick(L, t, true);
    }
    unpin(t);
    lua_pushboolean(L, true);
    return 1;
}

static int timer_reset(lua_State *L)
{
    struct timer *t = check_timer(L);
    uint64_t ms = check_time(L, 2);

    if (!t->active || !timer_usable(L, t)) {
        luaL_pushfail(L);
        return 1;
    }
    t->ms = ms;
    t->decided = true;
    t->due = false;
    arm(t, ms);
    lua_pushboolean(L, true);
    return 1;
}

static int timer_cancel(lua_State *L)
{
    struct timer *t = check_timer(L);

    if (!t->active) {
        luaL_pushfail(L);
        return 1;
    }
    stop(t);
    t->decided = true;
    unpin(t);
    lua_pushboolean(L, true);
    return 1;
}

/* Not during a tick (it is pinned then), so a task that is left has not begun, or is parked between
 * two ticks; unless the VM is being closed: then the task of a tick is gone. */
static int timer_gc(lua_State *L)
{
    struct timer *t = check_timer(L);

    if (timer_usable(L, t)) {
        return 0; /* called by the script, out of turn */
    }
    stop(t);
    if (t->task && !t->ticking) {
        if (t->task->collectable) {
            cs_task_discard(t->task);
        } else {
            cs_task_kill(t->task);
        }
        t->task = NULL;
    }
    return 0;
}

static int ba_clock(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)cs_clock_ms());
    return 1;
}

void cs_bind_timer(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", timer_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"set", timer_set}, {"reset", timer_reset}, {"cancel", timer_cancel}, {NULL, NULL}};

    cs_bind_table(L, &all_timers, "v");
    cs_bind_table(L, &pinned_timers, NULL);
    cs_bind_type(L, TIMER_TYPE, meta, methods);

    lua_getglobal(L, "coroutine");
    lua_getfield(L, -1, "resume"); /* the one that knows about tasks */
    lua_remove(L, -2);
    lua_pushcclosure(L, timer_create, 1);
    lua_setfield(L, -2, "timer");
    lua_pushcfunction(L, ba_clock);
    lua_setfield(L, -2, "clock");
}
