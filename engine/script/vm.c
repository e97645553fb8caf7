/* vm - one Lua state: memory, libraries, life. */
#include "script/vm.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/slab.h"
#include "script/bind.h"
#include "script/bind_timer.h"
#include "script/cell.h"

/* Lua's collector works while memory is allocated: a step every 2^STEP_SIZE_LOG2 bytes, and a long
 * one for a large block (a read of 128 KiB, a table of thousands that grows). With Lua's own ratio,
 * 100, such a step is a whole collection, 25 ms beside 20,000 waiting coroutines. With this one a
 * collection is spread over so many allocations as a tenth of the memory in use. */
#define STEP_SIZE_LOG2 12
#define STEP_RATIO 8

/* What cs_vm_collect_step takes: many small steps of Lua's. */
#define STEP_MS 1

/* It looks after about 1.6 MB: so many a second are a whole collection in four seconds. */
#define STEP_BYTES (6u << 20)
#define STEPS_MAX 100u

/* The first may have begun before the garbage was made, and what the second finalizes is freed by
 * the third. */
#define CYCLES 3

/* ---- memory ---- */

/* Under ASan every object is an allocation of its own, so that ASan knows its ends and its death.
 */
static void *resize(struct cs_vm *vm, void *ptr, size_t old_size, size_t new_size)
{
#ifdef __SANITIZE_ADDRESS__
    (void)vm;
    return cs_resize_sized(ptr, old_size, new_size);
#else
    return cs_slab_resize(vm->slab, ptr, old_size, new_size);
#endif
}

/* Lua's allocator: counts, and refuses growth beyond the limit (Lua then collects and tries again,
 * and raises an ordinary error when that does not help). Shrinking and freeing always work. */
static void *allocate(void *user, void *ptr, size_t old_size, size_t new_size)
{
    struct cs_vm *vm = user;
    size_t old = ptr ? old_size : 0;
    if (new_size > old && vm->memory_max && vm->memory + (new_size - old) > vm->memory_max) {
        return NULL;
    }
    void *p = resize(vm, ptr, old, new_size);
    if (p || new_size == 0) {
        vm->memory += new_size - old;
    }
    return p;
}

static int panic(lua_State *L)
{
    cs_log(CS_LOG_ERROR, "Lua error outside every protected call: %s",
           lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "(no text)");
    return 0; /* Lua aborts */
}

void cs_vm_note_bind(struct cs_vm *vm, const struct cs_addr *addr, int err)
{
    char text[CS_ADDR_TEXT_MAX];
    vm->bind_task = vm->current;
    snprintf(vm->bind_text, sizeof(vm->bind_text), "%s: %s", cs_addr_text(addr, text),
             cs_err_text(err));
    if (vm->state == CS_VM_LOADING) {
        vm->bind_err = err;
    }
}

/* ---- libraries ---- */

/* load and loadfile take text only: bytecode can break the interpreter. */
static int load_text(lua_State *L)
{
    int mode = (int)lua_tointeger(L, lua_upvalueindex(2)); /* index of the mode argument */
    if (lua_gettop(L) < mode) {
        lua_settop(L, mode);
    }
    const char *given = luaL_optstring(L, mode, "t");
    if (!strchr(given, 't')) {
        return luaL_error(L, "only Lua text can be loaded, not bytecode");
    }
    lua_pushliteral(L, "t");
    lua_replace(L, mode);
    int top = lua_gettop(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, top, LUA_MULTRET);
    return lua_gettop(L);
}

static void CS_RAISES text_only(lua_State *L, const char *name, int mode_arg)
{
    lua_getglobal(L, name);
    lua_pushinteger(L, mode_arg);
    lua_pushcclosure(L, load_text, 2);
    lua_setglobal(L, name);
}

/* dofile(name): loads text and calls it; suspending inside works. */
static int finish_dofile(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    return lua_gettop(L) - (int)ctx;
}

static int dofile_text(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    lua_settop(L, 1);
    if (luaL_loadfilex(L, name, "t") != LUA_OK) {
        return lua_error(L);
    }
    lua_callk(L, 0, LUA_MULTRET, 1, finish_dofile);
    return finish_dofile(L, LUA_OK, 1);
}

static int os_exit(lua_State *L)
{
    struct cs_vm *vm = cs_vm_of(L);
    if (!vm->script_mode) {
        return luaL_error(L, "os.exit is not available in a service");
    }
    int status = EXIT_SUCCESS;
    if (lua_isboolean(L, 1)) {
        status = lua_toboolean(L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
    } else {
        status = (int)luaL_optinteger(L, 1, EXIT_SUCCESS);
    }
    vm->exiting = true;
    vm->exit_status = status;
    struct cs_task *t = cs_task_can_wait(L, "os.exit");
    return cs_task_park(L, t, NULL, -1, NULL, 0); /* never resumed */
}

static int not_available(lua_State *L)
{
    return luaL_error(L, "%s is not available: it would hold up every connection",
                      lua_tostring(L, lua_upvalueindex(1)));
}

static void CS_RAISES forbid(lua_State *L, const char *library, const char *name)
{
    lua_getglobal(L, library);
    lua_pushfstring(L, "%s.%s", library, name);
    lua_pushcclosure(L, not_available, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* Only Lua modules, from where the configuration says; no C libraries. */
static void CS_RAISES restrict_package(lua_State *L)
{
    lua_getglobal(L, "package");
    lua_pushnil(L);
    lua_setfield(L, -2, "loadlib");
    lua_pushliteral(L, "");
    lua_setfield(L, -2, "cpath");
    lua_getfield(L, -1, "searchers");
    for (int i = 4; i >= 3; i--) { /* the two that look for C libraries */
        lua_pushnil(L);
        lua_rawseti(L, -2, i);
    }
    lua_pop(L, 2);
}

static void CS_RAISES open_libraries(lua_State *L)
{
    luaL_openlibs(L);
    text_only(L, "load", 3);
    text_only(L, "loadfile", 2);
    lua_pushcfunction(L, dofile_text);
    lua_setglobal(L, "dofile");
    lua_getglobal(L, "os");
    lua_pushcfunction(L, os_exit);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
    forbid(L, "os", "execute");
    forbid(L, "io", "popen");
    forbid(L, "debug", "debug");
    forbid(L, "debug", "sethook"); /* the CPU budget's */
    restrict_package(L);
    cs_task_open_coroutine(L);
}

static void CS_RAISES open_api(lua_State *L)
{
    lua_newtable(L);
    cs_bind_socket(L);
    cs_bind_udp(L);
    cs_bind_relay(L);
    cs_bind_websocket(L);
    cs_bind_pack(L);
    cs_bind_http(L);
    cs_bind_thread(L);
    cs_bind_timer(L);
    cs_bind_bytearray(L);
    cs_bind_text(L);
    cs_bind_random(L);
    cs_bind_crypto(L);
    cs_bind_json(L);
    cs_bind_date(L);
    cs_bind_io(L);
    cs_bind_trace(L);
    cs_bind_cert(L);
    cs_bind_shark(L);
    cs_bind_errh(L);
    cs_bind_luasocket(L);
    cs_bind_mime(L);
    cs_bind_library(L);
    cs_bind_absent(L); /* last: it fills the gaps */
    lua_setglobal(L, "ba");
}

/* Values by integer key; mode "v" makes them weak. */
static int CS_RAISES new_table(lua_State *L, const char *mode)
{
    lua_newtable(L);
    if (mode) {
        lua_newtable(L);
        lua_pushstring(L, mode);
        lua_setfield(L, -2, "__mode");
        lua_setmetatable(L, -2);
    }
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

/* The engine's objects do not show scripts their metatables: a method called on something else than
 * it was made for is one thing less to defend against. */
static void CS_RAISES hide_metatables(lua_State *L)
{
    lua_pushnil(L);
    while (lua_next(L, LUA_REGISTRYINDEX)) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_istable(L, -1)) {
            if (lua_getfield(L, -1, "__gc") != LUA_TNIL) {
                lua_pushboolean(L, false);
                lua_setfield(L, -3, "__metatable");
            }
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
}

/* Everything of set-up that can raise. */
static int open_protected(lua_State *L)
{
    struct cs_vm *vm = cs_vm_of(L);
    luaL_checkstack(L, 64, NULL); /* for the engine's own pushes on the main state */
    vm->live_table = new_table(L, NULL);
    vm->weak_table = new_table(L, "v");
    open_libraries(L);
    open_api(L);
    hide_metatables(L);
    return 0;
}

/* ---- life ---- */

struct cs_vm *cs_vm_create(struct cs_net *net, struct cs_registry *registry,
                           const struct cs_cell_config *config, unsigned generation,
                           bool script_mode)
{
    struct cs_vm *vm = cs_zalloc(sizeof(*vm));
    if (!vm) {
        return NULL;
    }
    vm->net = net;
    vm->registry = registry;
    vm->generation = generation;
    vm->script_mode = script_mode;
    vm->memory_max = config->lua_memory_max;
    vm->cpu_budget_ms = config->cpu_budget_ms;
    vm->data_dir = config->data_dir;
    vm->born_ms = cs_loop_now(net->loop);
    cs_list_init(&vm->tasks);
    cs_list_init(&vm->ready);
    cs_list_init(&vm->held);
    cs_list_init(&vm->timers);
    cs_list_init(&vm->relays);
    cs_list_init(&vm->closed_relays);
    cs_list_init(&vm->choices);
    cs_expiry_init(&vm->expiry, cs_loop_wheel(net->loop));
    vm->slab = cs_slab_create();
    vm->L = vm->slab ? lua_newstate(allocate, vm) : NULL;
    if (!vm->L) {
        cs_slab_destroy(vm->slab);
        cs_free(vm);
        return NULL;
    }
    lua_atpanic(vm->L, panic);
    lua_gc(vm->L, LUA_GCINC, 0, STEP_RATIO, STEP_SIZE_LOG2);
    *cs_vm_space(vm->L) = (uintptr_t)vm;
    lua_pushcfunction(vm->L, open_protected);
    if (lua_pcall(vm->L, 0, 0, 0) != LUA_OK) {
        cs_log(CS_LOG_ERROR, "Lua could not be set up: %s", lua_tostring(vm->L, -1));
        cs_vm_destroy(vm);
        return NULL;
    }
    return vm;
}

void cs_vm_destroy(struct cs_vm *vm)
{
    if (!vm) {
        return;
    }
    CS_ASSERT(!vm->current);
    vm->state = CS_VM_STOPPING;
    struct cs_list *l;
    while ((l = cs_list_first(&vm->tasks))) {
        cs_task_kill(cs_container_of(l, struct cs_task, all));
    }
    vm->closing = true;
    lua_State *before = cs_budget_enter(vm->L, vm->cpu_budget_ms);
    lua_close(vm->L);
    cs_budget_leave(NULL, before);
    cs_expiry_finish(&vm->expiry);
    cs_slab_destroy(vm->slab);
    cs_free(vm);
}

void cs_vm_collect(struct cs_vm *vm)
{
    lua_State *before = cs_budget_enter(vm->L, vm->cpu_budget_ms);
    lua_gc(vm->L, LUA_GCCOLLECT);
    lua_gc(vm->L, LUA_GCCOLLECT); /* what the first one finalized is freed by the second */
    cs_budget_leave(vm->L, before);
    cs_slab_trim(vm->slab);
}

void cs_vm_collect_begin(struct cs_vm *vm)
{
    vm->cycles_left = CYCLES;
}

bool cs_vm_collect_step(struct cs_vm *vm)
{
    if (vm->cycles_left == 0) {
        return true;
    }
    lua_State *before = cs_budget_enter(vm->L, vm->cpu_budget_ms);
    uint64_t begun_ms = cs_clock_ms();
    bool ended;
    do {
        ended = lua_gc(vm->L, LUA_GCSTEP, 0);
    } while (!ended && cs_clock_ms() - begun_ms < STEP_MS);
    cs_budget_leave(vm->L, before);
    if (ended && --vm->cycles_left == 0) {
        cs_slab_trim(vm->slab);
    }
    return vm->cycles_left == 0;
}

unsigned cs_vm_collect_rate(const struct cs_vm *vm)
{
    return vm->collectable_count == 0 ? 0
                                      : 1 + CS_MIN((unsigned)(vm->memory / STEP_BYTES), STEPS_MAX);
}

void cs_vm_check_open(lua_State *L)
{
    if (cs_vm_of(L)->closing) {
        luaL_error(L, "the scripts are being ended");
    }
}

bool cs_vm_short(struct cs_vm *vm, size_t room)
{
    size_t mark = vm->memory_max / 10 * 9;
    uint64_t now = cs_loop_now(vm->net->loop);
    mark -= CS_MIN(mark, room);
    if (vm->memory_max == 0 || vm->memory <= mark) {
        return false;
    }
    if (now - vm->collected_ms >= 1000) {
        vm->collected_ms = now;
        cs_vm_collect(vm);
    }
    return vm->memory > mark;
}

static void wake_held(struct cs_vm *vm)
{
    struct cs_list *l;
    while ((l = cs_list_first(&vm->held))) {
        struct cs_task *t = cs_container_of(l, struct cs_task, node);
        cs_list_remove(l);
        if (t->state == CS_TASK_READY) {
            cs_task_start(t);
        } else {
            cs_task_wake(t, 0);
        }
    }
}

void cs_vm_release_held(struct cs_vm *vm)
{
    CS_ASSERT(vm->state != CS_VM_LOADING);
    wake_held(vm);
    cs_timers_release(vm);
}

void cs_vm_stop(struct cs_vm *vm)
{
    vm->state = CS_VM_STOPPING;
    wake_held(vm);
    cs_timers_stop(vm);
    cs_list_each(l, next, &vm->tasks) {
        struct cs_task *t = cs_container_of(l, struct cs_task, all);
        if (t->waiting != CS_WAIT_FILE) { /* it gets to know what became of the file */
            cs_task_interrupt(t, CS_ESHUTDOWN);
        }
    }
}
