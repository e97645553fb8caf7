/*
 * bind_json - ba.json.decode, parser and null (ba-api C.5): JSON texts become Lua values.
 *
 * While a text is being read, json-c's objects count as memory of the scripts: who sends too much
 * gets an error, and nobody else notices.
 */
#include "script/bind_json.h"

#include <errno.h>
#include <json-c/json_object.h>
#include <json-c/linkhash.h>
#include <string.h>

#include "codec/json.h"

#define PARSER_TYPE "ba.json.parser"
#define DEPTH_DEFAULT 16
#define NAME_DEFAULT 255

/* Results of one call. A stream may bring more at a time as an array. */
#define RESULTS_MAX 10000

struct parser {
    struct cs_vm *vm;
    struct cs_json *json;
    struct json_object *value; /* complete, on its way to Lua */
    size_t charged;            /* counted as memory of the VM */
    size_t name_max;
    bool nulls; /* null becomes ba.json.null, else nil */
    bool failed;
};

static const char null_value;

void cs_push_json_null(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&null_value);
}

/* ---- memory ---- */

static void charge(struct parser *p, size_t cost)
{
    p->vm->memory += cost - p->charged;
    p->charged = cost;
}

static size_t room(const struct parser *p)
{
    const struct cs_vm *vm = p->vm;
    size_t others = vm->memory - p->charged;

    if (vm->memory_max == 0) {
        return SIZE_MAX;
    }
    return vm->memory_max > others ? vm->memory_max - others : 0;
}

static void drop_value(struct parser *p)
{
    json_object_put(p->value);
    p->value = NULL;
}

static void clear(struct parser *p)
{
    drop_value(p);
    charge(p, 0);
    cs_json_destroy(p->json);
    p->json = NULL;
}

/* ---- to Lua ---- */

/* Pushes a value; false when a name is too long. */
static bool CS_RAISES push_value(lua_State *L, const struct parser *p, struct json_object *v);

static bool CS_RAISES push_array(lua_State *L, const struct parser *p, struct json_object *v)
{
    size_t n = json_object_array_length(v);

    lua_createtable(L, n < INT32_MAX ? (int)n : 0, 0);
    for (size_t i = 0; i < n; i++) {
        if (!push_value(L, p, json_object_array_get_idx(v, i))) {
            return false;
        }
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return true;
}

static bool CS_RAISES push_object(lua_State *L, const struct parser *p, struct json_object *v)
{
    lua_createtable(L, 0, json_object_object_length(v));
    for (struct lh_entry *e = lh_table_head(json_object_get_object(v)); e; e = lh_entry_next(e)) {
        const char *name = lh_entry_k(e);

        if (strlen(name) > p->name_max) {
            return false;
        }
        lua_pushstring(L, name);
        if (!push_value(L, p, lh_entry_v(e))) {
            return false;
        }
        lua_rawset(L, -3);
    }
    return true;
}

static bool CS_RAISES push_value(lua_State *L, const struct parser *p, struct json_object *v)
{
    luaL_checkstack(L, 4, "JSON nested too deeply");
    switch (json_object_get_type(v)) {
    case json_type_boolean:
        lua_pushboolean(L, json_object_get_boolean(v));
        return true;
    case json_type_double:
        lua_pushnumber(L, json_object_get_double(v));
        return true;
    case json_type_int:
        lua_pushinteger(L, json_object_get_int64(v));
        return true;
    case json_type_string:
        lua_pushlstring(L, json_object_get_string(v), (size_t)json_object_get_string_len(v));
        return true;
    case json_type_array:
        return push_array(L, p, v);
    case json_type_object:
        return push_object(L, p, v);
    default:
        if (p->nulls) {
            cs_push_json_null(L);
        } else {
            lua_pushnil(L);
        }
        return true;
    }
}

/* ---- reading ---- */

/* nil, what, why. The parser is of no use from now on, and holds no memory. */
static int CS_RAISES push_failure(lua_State *L, struct parser *p, int err, const char *why,
                                  uint64_t where)
{
    luaL_pushfail(L);
    lua_pushstring(L, err == CS_ELIMIT ? "data" : err == -ENOMEM ? "memory" : "parse");
    lua_pushfstring(L, "%s at byte %I", why, (LUAI_UACINT)where);
    clear(p);
    return 3;
}

/* Pushes the values of the bytes, each as one more value, or appended to the table at `array` when
 * that is not 0. Returns how many there were; or, with nil and the rest on top, -1. */
static int CS_RAISES push_values(lua_State *L, struct parser *p, const char *bytes, size_t n,
                                 int array)
{
    size_t at = 0;
    int count = 0;

    while (at < n) {
        size_t taken;
        int result = cs_json_feed(p->json, bytes + at, n - at, room(p), &taken, &p->value);

        at += taken;
        charge(p, cs_json_cost(p->json));
        if (result < 0) {
            push_failure(L, p, result, cs_json_why(p->json), cs_json_where(p->json));
            return -1;
        }
        if (result > 0) {
            if (!push_value(L, p, p->value)) {
                push_failure(L, p, CS_ELIMIT, "a value with too long a name", at);
                return -1;
            }
            drop_value(p);
            count++;
            if (array) {
                lua_rawseti(L, array, count);
            } else if (count > RESULTS_MAX) {
                push_failure(L, p, CS_ELIMIT, "too many values", at);
                return -1;
            }
        }
    }
    if (!cs_json_begun(p->json)) {
        charge(p, 0);
    }
    return count;
}

/* Arguments [jnull [, depth, name length]] from `arg` on. */
static struct parser *CS_RAISES new_parser(lua_State *L, int arg)
{
    bool nulls = lua_isnoneornil(L, arg) || lua_toboolean(L, arg);
    lua_Integer depth = lua_isnoneornil(L, arg + 1) ? DEPTH_DEFAULT : cs_check_number(L, arg + 1);
    lua_Integer name = lua_isnoneornil(L, arg + 2) ? NAME_DEFAULT : cs_check_number(L, arg + 2);

    luaL_argcheck(L, depth >= 1 && depth <= CS_JSON_DEPTH_MAX, arg + 1,
                  "nesting must be 1 to 1000");
    luaL_argcheck(L, name >= 0 && name <= INT32_MAX, arg + 2, "name length out of range");
    struct parser *p = lua_newuserdatauv(L, sizeof(*p), 0);

    *p = (struct parser){.vm = cs_vm_of(L), .name_max = (size_t)name, .nulls = nulls};
    luaL_setmetatable(L, PARSER_TYPE);
    if (cs_json_create(&p->json, (unsigned)depth) < 0) {
        luaL_error(L, "not enough memory");
    }
    return p;
}

static int parser_gc(lua_State *L)
{
    clear(luaL_checkudata(L, 1, PARSER_TYPE));
    return 0;
}

/* ---- functions ---- */

/* Lua: (text, parser) */
static int decode_all(lua_State *L)
{
    size_t len;
    const char *text = lua_tolstring(L, 1, &len);
    struct parser *p = lua_touserdata(L, 2);
    int count = push_values(L, p, text, len, 0);

    if (count >= 0) { /* the line feed ends a number */
        int last = push_values(L, p, "\n", 1, 0);

        count = last < 0 ? last : count + last;
    }
    if (count >= 0 && (count == 0 || cs_json_begun(p->json))) {
        count = -1;
        push_failure(L, p, CS_EINVAL, "unexpected end of the text", len + 1);
    }
    return count < 0 ? 3 : count;
}

/* decode(text [, jnull [, depth, name length]]): the values of the text, one after the other; or
 * nil, "parse" | "data" | "memory", why. */
static int json_decode(lua_State *L)
{
    size_t len;

    cs_check_bytes(L, 1, &len);
    struct parser *p = new_parser(L, 2);

    lua_insert(L, 1); /* stays here, whatever becomes of the call */
    lua_settop(L, 2);
    lua_pushcfunction(L, decode_all);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, 1);
    int status = lua_pcall(L, 2, LUA_MULTRET, 0);

    clear(p);
    if (status == LUA_ERRMEM) {
        luaL_pushfail(L);
        lua_pushliteral(L, "memory");
        return 2;
    }
    return status == LUA_OK ? lua_gettop(L) - 2 : lua_error(L);
}

/* parser([jnull [, depth, name length]]) */
static int json_parser(lua_State *L)
{
    new_parser(L, 1);
    return 1;
}

/* parser:parse(chunk [, true]): true and the values that have become complete, with true as one
 * array (if there are some); or nil, "parse" | "data" | "memory", why, and then again. */
static int parser_parse(lua_State *L)
{
    struct parser *p = luaL_checkudata(L, 1, PARSER_TYPE);
    size_t len;
    const char *bytes = cs_check_bytes(L, 2, &len);
    bool as_array = lua_toboolean(L, 3);

    if (p->failed || !p->json) {
        return cs_push_error_as(L, "parse", CS_ESTATE);
    }
    drop_value(p); /* an error of the last call */
    lua_settop(L, 2);
    lua_pushboolean(L, true);
    if (as_array) {
        lua_newtable(L);
    }
    p->failed = true; /* unless it comes through */
    int count = push_values(L, p, bytes, len, as_array ? 4 : 0);

    p->failed = count < 0;
    if (count < 0) {
        return 3;
    }
    if (as_array) {
        return count > 0 ? 2 : (lua_pop(L, 1), 1);
    }
    return count + 1;
}

void cs_bind_json(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"decode", json_decode}, {"parser", json_parser}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", parser_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"parse", parser_parse}, {NULL, NULL}};

    cs_bind_type(L, PARSER_TYPE, meta, methods);

    luaL_newlib(L, functions);
    cs_push_json_null(L);
    lua_setfield(L, -2, "null");
    cs_bind_json_encode(L);
    lua_setfield(L, -2, "json");
}
