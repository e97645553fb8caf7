/* holds - what keeps an old generation of scripts. */
#include "script/holds.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "script/bind_relay.h"
#include "script/task.h"

enum {
    LOOK_MAX = 2000,    /* coroutines looked at for one list: it is asked for every second */
    PLACES_MAX = 32,    /* told apart while counting */
    TRACEBACKS_MAX = 8, /* logged of one generation */
};

struct places {
    struct cs_hold at[PLACES_MAX];
    unsigned count;
};

/* NULL: none */
static bool same_wait(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static void add(struct places *p, const char *place, const char *waits, unsigned n)
{
    for (unsigned i = 0; i < p->count; i++) {
        if (same_wait(p->at[i].waits, waits) && strcmp(p->at[i].place, place) == 0) {
            p->at[i].count += n;
            return;
        }
    }
    if (p->count < PLACES_MAX) {
        struct cs_hold *h = &p->at[p->count++];
        snprintf(h->place, sizeof(h->place), "%s", place);
        h->waits = waits;
        h->count = n;
    }
}

/* The largest first. */
static unsigned take_largest(struct places *p, struct cs_hold *out)
{
    unsigned n = 0;
    while (n < CS_HOLDS_MAX) {
        struct cs_hold *best = NULL;
        for (unsigned i = 0; i < p->count; i++) {
            if (p->at[i].count > 0 && (!best || p->at[i].count > best->count)) {
                best = &p->at[i];
            }
        }
        if (!best) {
            break;
        }
        out[n++] = *best;
        best->count = 0;
    }
    return n;
}

static void add_relay(void *user, const char *place)
{
    add(user, place, "relay", 1);
}

unsigned cs_holds(struct cs_vm *vm, struct cs_hold *out)
{
    struct places places = {.count = 0};
    unsigned looked = 0;
    cs_list_each(l, next, &vm->tasks) {
        struct cs_task *t = cs_container_of(l, struct cs_task, all);
        char place[sizeof(out->place)];
        if (looked++ == LOOK_MAX) {
            break;
        }
        if (cs_task_waits_for(t)) {
            add(&places, cs_task_place(t, place, sizeof(place)), cs_task_waits_for(t), 1);
        }
    }
    cs_relays_places(vm, LOOK_MAX, add_relay, &places);
    return take_largest(&places, out);
}

unsigned cs_holds_merge(struct cs_hold *to, unsigned count, const struct cs_hold *from,
                        unsigned from_count)
{
    struct places places = {.count = 0};
    for (unsigned i = 0; i < count; i++) {
        add(&places, to[i].place, to[i].waits, to[i].count);
    }
    for (unsigned i = 0; i < from_count; i++) {
        add(&places, from[i].place, from[i].waits, from[i].count);
    }
    return take_largest(&places, to);
}

/* ---- tracebacks ---- */

/* Lua: (thread) -> its traceback. Runs protected. */
static int push_traceback(lua_State *L)
{
    luaL_traceback(L, lua_touserdata(L, 1), NULL, 0);
    return 1;
}

void cs_holds_log(struct cs_vm *vm)
{
    unsigned logged = 0;
    cs_list_each(l, next, &vm->tasks) {
        const struct cs_task *t = cs_container_of(l, struct cs_task, all);
        if (!cs_task_waits_for(t) || logged == TRACEBACKS_MAX) {
            continue;
        }
        logged++;
        lua_pushcfunction(vm->L, push_traceback);
        lua_pushlightuserdata(vm->L, t->co);
        const char *text =
            lua_pcall(vm->L, 1, 1, 0) == LUA_OK ? lua_tostring(vm->L, -1) : "not enough memory";
        cs_log(CS_LOG_WARN, "coroutine cut service=%s generation=%u waits=%s: %s", t->name,
               vm->generation, cs_task_waits_for(t), text);
        lua_pop(vm->L, 1);
    }
}
