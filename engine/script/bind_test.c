/* bind_test - see bind_test.h. */
#include "script/bind_test.h"

#include "script/bind.h"
#include "script/test.lua.h"

int cs_test_load_runner(lua_State *L)
{
    return luaL_loadbufferx(L, (const char *)cs_test_lua, sizeof(cs_test_lua), "=cosockd test",
                            "t");
}

static void CS_RAISES push_task(lua_State *L, struct cs_task *t)
{
    static const char *const kinds[] = {"cosocket",       "\"r\" coroutine", "job",
                                        "timer callback", "on_close",        "start-up chunk"};
    char place[128];

    if (!lua_checkstack(t->co, 1)) {
        luaL_error(L, "not enough memory");
    }
    lua_pushthread(t->co);
    if (t->co != L) {
        lua_xmove(t->co, L, 1);
    }
    const char *waits = cs_task_waits_for(t);
    lua_pushfstring(L, "%s%s%s at %s", kinds[t->kind], waits ? " in " : "", waits ? waits : "",
                    cs_task_place(t, place, sizeof(place)));
}

static int test_tasks(lua_State *L)
{
    lua_newtable(L);
    cs_list_each(l, next, &cs_vm_of(L)->tasks) {
        push_task(L, cs_container_of(l, struct cs_task, all));
        lua_rawset(L, -3);
    }
    return 1;
}

static int test_counts(lua_State *L)
{
    const struct cs_vm *vm = cs_vm_of(L);

    lua_pushinteger(L, (lua_Integer)vm->socket_count);
    lua_pushinteger(L, (lua_Integer)vm->listen_count);
    lua_pushinteger(L, (lua_Integer)vm->relay_count);
    lua_pushinteger(L, (lua_Integer)vm->timer_count);
    return 4;
}

static int test_kill(lua_State *L)
{
    const lua_State *co = lua_tothread(L, 1);

    cs_list_each(l, next, &cs_vm_of(L)->tasks) {
        struct cs_task *t = cs_container_of(l, struct cs_task, all);

        if (t->co == co && (t->state == CS_TASK_PARKED || t->state == CS_TASK_READY)) {
            t->hooks->ended(t, CS_ETIMEOUT); /* a cosocket's socket closes, a job's place is free */
            cs_task_kill(t);
            break;
        }
    }
    return 0;
}

void cs_test_push_engine(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"tasks", test_tasks}, {"counts", test_counts}, {"kill", test_kill}, {NULL, NULL}};

    luaL_newlib(L, functions);
}
