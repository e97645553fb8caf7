/* bind_errh - the handler runs as a job: it may wait, and sees the failed coroutine no more. */
#include "script/bind_errh.h"

#include "script/bind.h"

/* Reports on their way: a flood of errors is not to become a flood of jobs. */
#define JOBS_MAX 100u

/* Key of the registry. */
static const char handler;

static void report_ended(struct cs_task *t, int err)
{
    (void)err; /* logged by then */
    t->vm->reports--;
}

static const struct cs_task_hooks report_hooks = {.ended = report_ended};

/* Lua: (text, failed task's address) */
static int start_report(lua_State *L)
{
    const struct cs_task *failed = lua_touserdata(L, 2);

    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &handler) != LUA_TFUNCTION) {
        return 0;
    }
    lua_pushvalue(L, 1);
    struct cs_task *t = cs_task_create(L, CS_TASK_JOB, NULL, 1);

    t->name = failed->name;
    t->hooks = &report_hooks;
    t->vm->reports++;
    cs_task_start(t);
    return 0;
}

void cs_errh_report(const struct cs_task *failed)
{
    lua_State *L = failed->vm->L;

    if (failed->hooks == &report_hooks || failed->vm->reports >= JOBS_MAX ||
        failed->vm->state == CS_VM_STOPPING) {
        return;
    }
    lua_pushcfunction(L, start_report);
    lua_pushvalue(L, -2);
    lua_pushlightuserdata(L, (void *)(uintptr_t)failed);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK) { /* no memory for it; the log has the error */
        lua_pop(L, 1);
    }
}

/* seterrh(f | nil): the one until now. */
static int ba_seterrh(lua_State *L)
{
    if (!lua_isnoneornil(L, 1)) {
        luaL_checktype(L, 1, LUA_TFUNCTION);
    }
    lua_settop(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &handler);
    lua_insert(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &handler);
    return 1;
}

void cs_bind_errh(lua_State *L)
{
    lua_pushcfunction(L, ba_seterrh);
    lua_setfield(L, -2, "seterrh");
}
