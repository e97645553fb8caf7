/*
 * bind_trace - trace, tracep and, in services, print: one line of the log each.
 */
#include <string.h>

#include "base/log.h"
#include "script/bind.h"
#include "script/task.h"

/* Where trace goes, whose documented priority is "always". */
#define TRACE_LEVEL CS_LOG_NOTICE

/* The log takes C strings: zeros in the string on top are written as \x00. */
static void CS_RAISES escape_zeros(lua_State *L)
{
    size_t len;
    const char *s = lua_tolstring(L, -1, &len);
    const char *end = s + len;
    luaL_Buffer b;

    if (!memchr(s, '\0', len)) {
        return;
    }
    luaL_buffinit(L, &b);
    while (s < end) {
        const char *zero = memchr(s, '\0', (size_t)(end - s));

        luaL_addlstring(&b, s, (size_t)((zero ? zero : end) - s));
        if (zero) {
            luaL_addstring(&b, "\\x00");
        }
        s = zero ? zero + 1 : end;
    }
    luaL_pushresult(&b);
    lua_remove(L, -2);
}

/* Pushes the values from index `first` on as one text; where: prefixed with "source:line: ". */
static const char *CS_RAISES push_line(lua_State *L, int first, bool where)
{
    int last = lua_gettop(L);
    luaL_Buffer b;

    luaL_checkstack(L, LUA_MINSTACK, NULL);
    luaL_buffinit(L, &b);
    if (where) {
        luaL_where(L, 1);
        luaL_addvalue(&b);
    }
    for (int i = first; i <= last; i++) {
        if (i > first) {
            luaL_addchar(&b, '\t');
        }
        luaL_tolstring(L, i, NULL);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    escape_zeros(L);
    return lua_tostring(L, -1);
}

/* Of warnings and errors somebody wants to know whose they are; the place may be in a library. */
static void CS_RAISES log_values(lua_State *L, enum cs_log_level level, int first, bool where)
{
    const struct cs_vm *vm = cs_vm_of(L);
    if (!cs_log_enabled(level)) {
        return;
    }
    const char *line = push_line(L, first, where);
    if (level <= CS_LOG_WARN && !vm->script_mode && vm->current) {
        cs_log(level, "service=%s %s", vm->current->name, line);
    } else {
        cs_log(level, "%s", line);
    }
}

static int trace(lua_State *L)
{
    log_values(L, TRACE_LEVEL, 1, true);
    return 0;
}

static enum cs_log_level CS_RAISES check_priority(lua_State *L, int arg)
{
    static const char *const names[] = {"emerg", "alert", "crit",  "err",   "warning", "notice",
                                        "info",  "debug", "panic", "error", "warn",    NULL};
    static const int values[] = {0, 1, 2, 3, 4, 5, 6, 7, 0, 3, 4};
    lua_Integer priority;

    if (lua_type(L, arg) == LUA_TNUMBER) {
        priority = cs_check_number(L, arg);
        luaL_argcheck(L, priority >= 0, arg, "priority must not be negative");
        if (priority == 0) {
            return TRACE_LEVEL; /* scripts mean "always", as trace does, not "emergency" */
        }
        priority = CS_MIN(priority, CS_LOG_DEBUG); /* they use 8, 10 and 21 too */
    } else {
        priority = values[luaL_checkoption(L, arg, NULL, names)];
    }
    return (enum cs_log_level)CS_MAX(priority, CS_LOG_ERROR); /* the log knows nothing above */
}

/* tracep([info,] priority, ...) */
static int tracep(lua_State *L)
{
    bool has_info = lua_isboolean(L, 1);
    bool where = !has_info || lua_toboolean(L, 1);
    int arg = has_info ? 2 : 1;

    log_values(L, check_priority(L, arg), arg + 1, where);
    return 0;
}

static int print(lua_State *L)
{
    log_values(L, CS_LOG_INFO, 1, false);
    return 0;
}

void cs_bind_trace(lua_State *L)
{
    lua_register(L, "trace", trace);
    lua_register(L, "tracep", tracep);
    if (!cs_vm_of(L)->script_mode) { /* a service has no standard output */
        lua_register(L, "print", print);
    }
}
