/*
 * bind_thread - ba.thread and ba.sleep. The "threads" are coroutines of the engine: a job that
 * waits holds up nobody.
 *
 * ba.thread.run starts its jobs in the order of the calls, as many at a time as there are. The jobs
 * of an object of ba.thread.create run strictly one after the other; the object lives while it has
 * some.
 */
#include "script/bind.h"

/* Jobs that have not ended, of one pool or object: a script that piles them up is told so before it
 * has used up the memory. */
#define JOBS_MAX 100000u

/* Of which ba.thread.configure knows to speak. */
#define THREADS_MAX 1000

#define THREAD_TYPE "ba.thread"

/* Upvalue of the functions of ba.thread; in the registry too, because jobs outlive functions. */
static const char pool_key;

struct thread_pool {
    unsigned jobs;
    lua_Integer threads; /* what ba.thread.configure was told; has no effect */
};

struct thread {
    struct cs_vm *vm;
    struct cs_list waiting; /* tasks behind the running one, by node */
    struct cs_task *running;
    unsigned jobs; /* waiting and running */
    int slot;      /* of the registry: holds the object while it has jobs, else false */
};

static void CS_RAISES check_room(lua_State *L, unsigned jobs)
{
    if (jobs >= JOBS_MAX) {
        luaL_error(L, "too many jobs: %d are waiting or running", (int)jobs);
    }
}

/* ---- ba.thread.run ---- */

static struct thread_pool *pool_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static void pool_job_ended(struct cs_task *t, int err)
{
    struct thread_pool *pool = t->starter;

    (void)err; /* reported by then */
    pool->jobs--;
}

static const struct cs_task_hooks pool_job_hooks = {.ended = pool_job_ended};

static int thread_run(lua_State *L)
{
    struct thread_pool *pool = pool_of(L);

    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    check_room(L, pool->jobs);
    struct cs_task *t = cs_task_create(L, CS_TASK_JOB, NULL, 0);
    t->starter = pool;
    t->hooks = &pool_job_hooks;
    pool->jobs++;
    cs_task_start(t);
    return 0;
}

/* configure([n]): kept because scripts call it. Never shrinks. */
static int thread_configure(lua_State *L)
{
    struct thread_pool *pool = pool_of(L);

    if (!lua_isnoneornil(L, 1)) {
        lua_Integer n = cs_check_number(L, 1);

        luaL_argcheck(L, n >= 1 && n <= THREADS_MAX, 1, "1 to 1000 threads");
        pool->threads = CS_MAX(pool->threads, n);
    }
    lua_pushinteger(L, pool->threads);
    return 1;
}

/* ---- ba.thread.create ---- */

/* Cannot raise: the slot exists. */
static void set_slot(struct thread *th, lua_State *from, int index)
{
    lua_State *L = th->vm->L;

    if (from) {
        lua_pushvalue(from, index);
        lua_rawseti(from, LUA_REGISTRYINDEX, th->slot);
    } else {
        lua_pushboolean(L, false);
        lua_rawseti(L, LUA_REGISTRYINDEX, th->slot);
    }
}

static void run_next(struct thread *th)
{
    struct cs_list *l = cs_list_first(&th->waiting);

    th->running = NULL;
    if (l) {
        cs_list_remove(l);
        th->running = cs_container_of(l, struct cs_task, node);
        cs_task_start(th->running);
    } else {
        set_slot(th, NULL, 0);
    }
}

static void object_job_ended(struct cs_task *t, int err)
{
    struct thread *th = t->starter;

    (void)err;
    th->jobs--;
    run_next(th);
}

static const struct cs_task_hooks object_job_hooks = {.ended = object_job_ended};

static int object_run(lua_State *L)
{
    struct thread *th = luaL_checkudata(L, 1, THREAD_TYPE);

    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    luaL_argcheck(L, th->slot != LUA_NOREF, 1, "finalized already");
    check_room(L, th->jobs);
    struct cs_task *t = cs_task_create(L, CS_TASK_JOB, NULL, 0);
    t->starter = th;
    t->hooks = &object_job_hooks;
    th->jobs++;
    set_slot(th, L, 1);
    cs_list_append(&th->waiting, &t->node);
    if (!th->running) {
        run_next(th);
    }
    return 0;
}

/* Pushes an array of the coroutines of the jobs: those of one owner, or all with NULL. */
static void CS_RAISES push_jobs(lua_State *L, const void *owner)
{
    struct cs_vm *vm = cs_vm_of(L);
    lua_Integer n = 0;

    lua_newtable(L);
    cs_list_each(l, next, &vm->tasks) {
        struct cs_task *t = cs_container_of(l, struct cs_task, all);

        if (t->kind == CS_TASK_JOB && (!owner || t->starter == owner)) {
            if (!lua_checkstack(t->co, 1)) {
                luaL_error(L, "not enough memory");
            }
            lua_pushthread(t->co);
            if (t->co != L) {
                lua_xmove(t->co, L, 1);
            }
            lua_rawseti(L, -2, ++n);
        }
    }
}

static int thread_dbg(lua_State *L)
{
    push_jobs(L, NULL);
    return 1;
}

static int object_dbg(lua_State *L)
{
    push_jobs(L, luaL_checkudata(L, 1, THREAD_TYPE));
    return 1;
}

static int thread_create(lua_State *L)
{
    struct thread *th = lua_newuserdatauv(L, sizeof(*th), 0);

    *th = (struct thread){.vm = cs_vm_of(L), .slot = LUA_NOREF};
    cs_list_init(&th->waiting);
    luaL_setmetatable(L, THREAD_TYPE);
    lua_pushboolean(L, false);
    th->slot = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

/* Without jobs, or when the VM is closed; then the tasks are gone already. */
static int object_gc(lua_State *L)
{
    struct thread *th = luaL_checkudata(L, 1, THREAD_TYPE);

    if (th->jobs == 0) {
        luaL_unref(L, LUA_REGISTRYINDEX, th->slot);
        th->slot = LUA_NOREF;
    }
    return 0;
}

/* ---- ba.sleep ---- */

static int slept(lua_State *L, int status, lua_KContext ctx)
{
    int wake = cs_task_current(L)->wake;

    (void)status;
    (void)ctx;
    if (wake != CS_ETIMEOUT) {
        return cs_push_error(L, wake);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* Committed, or told to stop. */
static int sleep_held(lua_State *L, int status, lua_KContext ms)
{
    struct cs_task *t = cs_task_current(L);

    (void)status;
    return t->wake != 0 ? cs_push_error(L, t->wake) : cs_task_park(L, t, NULL, ms, slept, 0);
}

/* sleep(ms): true, or nil and the reason when it ended early. */
static int ba_sleep(lua_State *L)
{
    int64_t ms = cs_check_ms(L, 1);
    struct cs_task *t = cs_task_can_wait(L, "ba.sleep");

    if (t->vm->state == CS_VM_LOADING) {
        cs_list_append(&t->vm->held, &t->node);
        return cs_task_park(L, t, NULL, -1, sleep_held, (lua_KContext)ms);
    }
    return cs_task_park(L, t, NULL, ms, slept, 0);
}

void cs_bind_thread(lua_State *L)
{
    static const luaL_Reg functions[] = {{"run", thread_run},
                                         {"configure", thread_configure},
                                         {"create", thread_create},
                                         {"dbg", thread_dbg},
                                         {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", object_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"run", object_run}, {"dbg", object_dbg}, {NULL, NULL}};

    cs_bind_type(L, THREAD_TYPE, meta, methods);

    luaL_newlibtable(L, functions);
    struct thread_pool *pool = lua_newuserdatauv(L, sizeof(*pool), 0);
    *pool = (struct thread_pool){.threads = 1};
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &pool_key);
    luaL_setfuncs(L, functions, 1);
    lua_setfield(L, -2, "thread");

    lua_pushcfunction(L, ba_sleep);
    lua_setfield(L, -2, "sleep");
}
