/* blocking - the way of a call: its turn in the queue, the helper, its task. */
#include "script/blocking.h"

#include "script/bind.h"

#define OWNER_TYPE "blocking call"

void cs_blocking_queue_init(struct cs_blocking_queue *q)
{
    cs_list_init(&q->waiting);
    q->running = NULL;
}

/* ---- running ---- */

static void work_run(struct cs_work *w)
{
    struct cs_blocking *b = cs_container_of(w, struct cs_blocking, work);

    b->run(b);
}

static void work_done(struct cs_work *w);

static void begin(struct cs_blocking *b)
{
    if (b->queue) {
        b->queue->running = b;
    }
    b->work.run = work_run;
    b->work.done = work_done;
    cs_work_start(b->works, &b->work);
}

static void start(struct cs_vm *vm, struct cs_blocking *b)
{
    b->works = vm->works;
    b->busy = true;
    cs_list_init(&b->node);
    if (b->queue && b->queue->running) {
        cs_list_append(&b->queue->waiting, &b->node);
    } else {
        begin(b);
    }
}

static void next_of(struct cs_blocking_queue *q)
{
    struct cs_list *l = cs_list_first(&q->waiting);

    q->running = NULL;
    if (l) {
        cs_list_remove(l);
        begin(cs_container_of(l, struct cs_blocking, node));
    }
}

static void work_done(struct cs_work *w)
{
    struct cs_blocking *b = cs_container_of(w, struct cs_blocking, work);
    struct cs_task *t = b->task;

    b->busy = false;
    b->task = NULL;
    if (b->queue) {
        next_of(b->queue);
    }
    if (t) {
        cs_task_wake(t, 0);
    } else if (b->orphan) {
        b->drop(b);
    }
}

void cs_blocking_spawn(struct cs_vm *vm, struct cs_blocking *b)
{
    b->orphan = true;
    start(vm, b);
}

/* ---- the userdata ---- */

struct cs_blocking **cs_blocking_push(lua_State *L)
{
    struct cs_blocking **owner = lua_newuserdatauv(L, sizeof(struct cs_blocking *), 0);

    *owner = NULL;
    luaL_setmetatable(L, OWNER_TYPE);
    return owner;
}

/* A call that is with a helper is dropped later. */
static void disown(struct cs_blocking **owner)
{
    struct cs_blocking *b = *owner;

    *owner = NULL;
    if (b && b->busy) {
        b->orphan = true;
    } else if (b) {
        b->drop(b);
    }
}

static int owner_gc(lua_State *L)
{
    disown(luaL_checkudata(L, 1, OWNER_TYPE));
    return 0;
}

void cs_bind_blocking(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", owner_gc}, {NULL, NULL}};
    cs_bind_type(L, OWNER_TYPE, meta, NULL);
}

/* ---- waiting ---- */

/* The task ends for another reason. */
static void leave(struct cs_task *t)
{
    struct cs_blocking *b = t->user;

    b->task = NULL;
}

/* Results, and what the call holds goes at once. */
static int CS_RAISES results(lua_State *L, struct cs_blocking **owner)
{
    int n = (*owner)->push(L, *owner);

    disown(owner);
    return n;
}

static int call_on(lua_State *L, int status, lua_KContext index)
{
    int wake = cs_task_current(L)->wake;

    (void)status;
    return wake < 0 ? cs_push_error(L, wake) : results(L, lua_touserdata(L, (int)index));
}

static bool can_wait(lua_State *L)
{
    const struct cs_vm *vm = cs_vm_of(L);

    return vm->current && lua_isyieldable(L) && !vm->no_wait && vm->state != CS_VM_STOPPING;
}

bool cs_blocking_possible(lua_State *L, const struct cs_blocking_queue *q)
{
    return !q->running || can_wait(L);
}

int cs_blocking_call(lua_State *L, const char *what)
{
    struct cs_blocking **owner = lua_touserdata(L, -1);
    struct cs_blocking *b = *owner;

    if (b->queue && b->queue->running) {
        cs_task_can_wait(L, what);
    } else if (!can_wait(L)) {
        cs_budget_pause(true); /* the script cannot do it in parts */
        b->run(b);
        cs_budget_pause(false);
        return results(L, owner);
    }
    struct cs_task *t = cs_task_current(L);

    b->task = t;
    t->waiting = CS_WAIT_FILE;
    t->user = b;
    start(t->vm, b);
    return cs_task_park(L, t, leave, -1, call_on, lua_gettop(L));
}
