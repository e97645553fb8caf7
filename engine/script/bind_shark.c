/*
 * bind_shark - ba.create.sharkssl([store [, options]]), shark:addcert(cert), ba.sharkclient().
 *
 *   options.server      true: for bind and for upgrade by the side that answers
 *          .alpn        "h2,http/1.1"
 *          .minversion, .maxversion   "1.2", "1.3"
 *          .ciphers     of TLS 1.2; .groups "X25519:P-256"
 *          .clientcert  "required" (the default of a server with a store), "optional", "no"
 *          .pins        { SHA-256 of a key in hexadecimal, ... }
 *          .tickets     false: no session is resumed
 *          .cachesize   sessions a client keeps (8)
 *          .timeout     ms of the handshake of an accepted socket (10,000)
 *          .choose      function(hello): the certificate or shark object to go on with, nil for the
 *                       object's own choice, false to refuse. It may wait
 *          .keylog      name of a file: the secrets of every session are appended to it
 *
 * A choice:  TLS stream ──choose──▶ vm->choices ──script phase──▶ task ──ended──▶ answer
 */
#include "script/bind_shark.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "script/bind_cert.h"
#include "script/sock.h"

#define TIMEOUT_MS 10000
#define PINS_MAX 64
#define SHARK_TYPE "ba.sharkssl"

/* Key of the registry: a table with weak values from a shark's address to its userdata, so that the
 * function (its user value) can be found from a session. */
static const char all_sharks;
/* Key of the registry: the object of ba.sharkclient. */
static const char shared_client;

/* ---- choosing ---- */

struct choice {
    struct cs_list node; /* in vm->choices */
    struct cs_vm *vm;
    struct cs_shark *shark;   /* may be gone: looked up in the table */
    struct cs_stream *stream; /* NULL: it no longer waits */
    bool started;             /* a task has it */
    size_t alpn_len, version_count;
    const uint8_t *versions; /* behind the alpn */
    const char *name;        /* behind the versions; NULL: none */
    uint8_t alpn[];          /* as on the wire */
};

/* What stands for a shark object in its context. */
struct shark {
    struct cs_shark face;
    struct cs_vm *vm;
    const char *name; /* of the service that made it */
};

void *cs_shark_choose(struct cs_stream *s, const struct cs_tls_offer *offer)
{
    struct shark *shark = cs_tls_context_user(cs_tls_stream_session(s)->context);
    size_t name_len = offer->name ? strlen(offer->name) + 1 : 0;
    size_t versions_len = 2 * offer->version_count;
    struct choice *c =
        shark ? cs_alloc(sizeof(*c) + offer->alpn_len + versions_len + name_len) : NULL;
    if (!c) {
        return NULL;
    }
    *c = (struct choice){.vm = shark->vm,
                         .shark = &shark->face,
                         .stream = s,
                         .alpn_len = offer->alpn_len,
                         .version_count = offer->version_count};
    if (offer->alpn_len > 0) {
        memcpy(c->alpn, offer->alpn, offer->alpn_len);
    }
    uint8_t *versions = c->alpn + offer->alpn_len;
    c->versions = memcpy(versions, offer->versions, versions_len);
    if (offer->name) {
        c->name = memcpy(versions + versions_len, offer->name, name_len);
    }
    cs_list_append(&shark->vm->choices, &c->node);
    cs_loop_again(shark->vm->net->loop);
    return c;
}

void cs_shark_abandon(void *choice)
{
    struct choice *c = choice;
    c->stream = NULL; /* the task, or the script phase, frees it */
}

static void choice_free(struct choice *c)
{
    cs_list_remove(&c->node);
    cs_free(c);
}

static void answer(struct choice *c, enum cs_tls_answer answer, struct cs_tls_context *context,
                   struct cs_cert *cert)
{
    struct cs_stream *s = c->stream;
    choice_free(c);
    if (s) {
        cs_tls_stream_choose(s, answer, context, cert);
    }
}

/* Lua: (value, choice) -> nothing; answers with what the function returned. Runs protected. */
static int take_answer(lua_State *L)
{
    struct choice *c = lua_touserdata(L, 2);
    lua_settop(L, 1);
    if (lua_isnil(L, 1) || (lua_isboolean(L, 1) && lua_toboolean(L, 1))) {
        answer(c, CS_TLS_ACCEPT, NULL, NULL);
    } else if (lua_isboolean(L, 1)) {
        answer(c, CS_TLS_REFUSE, NULL, NULL);
    } else if (luaL_testudata(L, 1, SHARK_TYPE)) {
        struct cs_tls_context *context = cs_check_shark(L, 1)->context;
        if (!cs_tls_context_is_server(context)) {
            luaL_error(L, "choose returned the shark object of a client");
        }
        answer(c, CS_TLS_ACCEPT, context, NULL);
    } else if (lua_isuserdata(L, 1)) {
        answer(c, CS_TLS_ACCEPT, NULL, cs_check_cert(L, 1));
    } else {
        luaL_error(L, "choose returned a %s", luaL_typename(L, 1));
    }
    return 0;
}

static void chosen(struct cs_task *t, int err)
{
    struct choice *c = t->starter;
    lua_State *L = t->vm->L;
    if (err < 0) {
        answer(c, CS_TLS_REFUSE, NULL, NULL); /* reported already */
        return;
    }
    if (!lua_checkstack(t->co, 1)) {
        answer(c, CS_TLS_REFUSE, NULL, NULL);
        return;
    }
    lua_settop(t->co, 1); /* the first result, or nil */
    lua_pushcfunction(L, take_answer);
    lua_xmove(t->co, L, 1);
    lua_pushlightuserdata(L, c);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
        cs_log(CS_LOG_ERROR, "TLS handshake refused: %s", lua_tostring(L, -1));
        lua_pop(L, 1);
        answer(c, CS_TLS_REFUSE, NULL, NULL);
    }
}

static const struct cs_task_hooks choice_hooks = {.ended = chosen};

static void CS_RAISES push_hello(lua_State *L, const struct choice *c)
{
    const uint8_t *p = c->alpn, *end = c->alpn + c->alpn_len;
    lua_createtable(L, 0, 3);
    if (c->name) {
        lua_pushstring(L, c->name);
        lua_setfield(L, -2, "sni");
    }
    lua_newtable(L);
    for (int i = 1; p < end && p + *p < end; p += 1 + *p) {
        lua_pushlstring(L, (const char *)p + 1, *p);
        lua_rawseti(L, -2, i++);
    }
    lua_setfield(L, -2, "alpn");
    cs_push_versions(L, c->versions, c->version_count);
    lua_setfield(L, -2, "versions");
}

/* Lua: (choice) -> starts a task that calls the function. Runs protected. */
static int start_choice(lua_State *L)
{
    struct choice *c = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &all_sharks);
    if (lua_rawgetp(L, -1, c->shark) != LUA_TUSERDATA) {
        return luaL_error(L, "the shark object is gone");
    }
    const struct shark *shark = lua_touserdata(L, -1);
    lua_getiuservalue(L, -1, 1);
    push_hello(L, c);
    struct cs_task *t = cs_task_create(L, CS_TASK_JOB, NULL, 1);
    t->name = shark->name;
    t->hooks = &choice_hooks;
    t->starter = c;
    c->started = true;
    cs_task_start(t);
    return 0;
}

void cs_sharks_choose(struct cs_vm *vm)
{
    cs_list_each(l, next, &vm->choices) {
        struct choice *c = cs_container_of(l, struct choice, node);
        if (c->started) {
            continue;
        }
        if (!c->stream) {
            choice_free(c);
            continue;
        }
        lua_pushcfunction(vm->L, start_choice);
        lua_pushlightuserdata(vm->L, c);
        if (lua_pcall(vm->L, 1, 0, 0) != LUA_OK) {
            cs_log(CS_LOG_ERROR, "TLS handshake refused: %s", lua_tostring(vm->L, -1));
            lua_pop(vm->L, 1);
            answer(c, CS_TLS_REFUSE, NULL, NULL);
        }
    }
}

void cs_sharks_forget(struct cs_vm *vm)
{
    cs_list_each(l, next, &vm->choices) {
        answer(cs_container_of(l, struct choice, node), CS_TLS_REFUSE, NULL, NULL);
    }
}

/* ---- the object ---- */

struct cs_shark *cs_check_shark(lua_State *L, int arg)
{
    struct cs_shark *shark = luaL_checkudata(L, arg, SHARK_TYPE);
    luaL_argcheck(L, shark->context, arg, "a shark object that has been closed");
    return shark;
}

struct cs_shark *cs_opt_shark(lua_State *L, int table, bool server)
{
    if (!lua_istable(L, table)) {
        lua_pushnil(L);
        return NULL;
    }
    if (lua_getfield(L, table, "shark") == LUA_TNIL) {
        return NULL;
    }
    struct cs_shark *shark = luaL_testudata(L, -1, SHARK_TYPE);
    if (!shark) {
        luaL_argerror(L, table, "option 'shark': not an object of ba.create.sharkssl");
    } else if (!shark->context) {
        luaL_argerror(L, table, "option 'shark': it has been closed");
    } else if (cs_tls_context_is_server(shark->context) != server) {
        luaL_argerror(L, table,
                      server ? "option 'shark': it is a client's; make one with {server = true}"
                             : "option 'shark': it is a server's");
    } else if (server && !cs_tls_context_user(shark->context) &&
               cs_tls_context_cert_count(shark->context) == 0) {
        luaL_argerror(L, table, "option 'shark': it has no certificate yet: shark:addcert");
    }
    cs_keep_option(L, table);
    return shark;
}

static int shark_gc(lua_State *L)
{
    struct shark *s = luaL_checkudata(L, 1, SHARK_TYPE);
    if (s->face.context) {
        cs_tls_context_set_user(s->face.context, NULL);
        cs_tls_context_unref(s->face.context);
        s->face.context = NULL;
    }
    return 0;
}

static int shark_addcert(lua_State *L)
{
    struct cs_shark *shark = cs_check_shark(L, 1);
    int err = cs_tls_context_add_cert(shark->context, cs_check_cert(L, 2));
    return err < 0 ? cs_push_error(L, err) : (lua_pushboolean(L, true), 1);
}

/* ---- its options ---- */

static void CS_RAISES check_ask(lua_State *L, struct cs_tls_config *config)
{
    const char *ask = cs_opt_string(L, 2, "clientcert");
    if (!ask) { /* ba-api: a server with a store demands a certificate */
        config->ask = config->server && config->store ? CS_TLS_ASK_REQUIRED : CS_TLS_ASK_NOT;
    } else if (strcmp(ask, "required") == 0) {
        config->ask = CS_TLS_ASK_REQUIRED;
    } else if (strcmp(ask, "optional") == 0) {
        config->ask = CS_TLS_ASK_OPTIONAL;
    } else if (strcmp(ask, "no") == 0) {
        config->ask = CS_TLS_ASK_NOT;
    } else {
        luaL_argerror(L, 2, "option 'clientcert': \"required\", \"optional\" or \"no\" expected");
    }
}

/* Colons between the bytes are allowed, as tools print them. */
static bool parse_pin(const char *text, uint8_t out[CS_TLS_PIN_SIZE])
{
    for (unsigned i = 0; i < CS_TLS_PIN_SIZE; i++) {
        int high = cs_hex_digit(text[0]);
        int low = high < 0 ? -1 : cs_hex_digit(text[1]);
        if (low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
        text += 2;
        text += *text == ':' && i + 1 < CS_TLS_PIN_SIZE;
    }
    return *text == '\0';
}

/* Leaves the array on the stack as a userdata. */
static void CS_RAISES check_pins(lua_State *L, struct cs_tls_config *config)
{
    lua_settop(L, 2);
    if (!lua_istable(L, 2) || lua_getfield(L, 2, "pins") == LUA_TNIL) {
        return;
    }
    luaL_argcheck(L, lua_istable(L, -1), 2, "option 'pins': table expected");
    lua_Integer n = luaL_len(L, -1);
    luaL_argcheck(L, n >= 1 && n <= PINS_MAX, 2, "option 'pins': 1 to 64 of them expected");
    uint8_t(*pins)[CS_TLS_PIN_SIZE] = lua_newuserdatauv(L, (size_t)n * CS_TLS_PIN_SIZE, 0);
    for (lua_Integer i = 1; i <= n; i++) {
        const char *text = lua_geti(L, -2, i) == LUA_TSTRING ? lua_tostring(L, -1) : "";
        if (!parse_pin(text, pins[i - 1])) {
            luaL_argerror(L, 2, "option 'pins': SHA-256 in hexadecimal expected");
        }
        lua_pop(L, 1);
    }
    config->pins = (const uint8_t(*)[CS_TLS_PIN_SIZE])pins;
    config->pin_count = (unsigned)n;
}

static bool CS_RAISES check_choose(lua_State *L)
{
    if (!lua_istable(L, 2)) {
        return false;
    }
    int type = lua_getfield(L, 2, "choose");
    lua_pop(L, 1);
    luaL_argcheck(L, type == LUA_TNIL || type == LUA_TFUNCTION, 2,
                  "option 'choose': function expected");
    return type == LUA_TFUNCTION;
}

static void CS_RAISES check_config(lua_State *L, struct cs_tls_config *config)
{
    lua_Integer cache = cs_opt_number(L, 2, "cachesize", 0);
    luaL_argcheck(L, cache >= 0 && cache <= 65536, 2, "option 'cachesize': out of range");
    cs_tls_config_default(config);
    config->server = cs_opt_bool(L, 2, "server", false);
    config->store = lua_isuserdata(L, 1) ? cs_check_store(L, 1) : NULL;
    config->min_version = cs_opt_string(L, 2, "minversion");
    config->max_version = cs_opt_string(L, 2, "maxversion");
    config->ciphers = cs_opt_string(L, 2, "ciphers");
    config->groups = cs_opt_string(L, 2, "groups");
    config->alpn = cs_opt_string(L, 2, "alpn");
    config->no_tickets = !cs_opt_bool(L, 2, "tickets", true);
    config->cache = (unsigned)cache;
    config->choose = config->server && check_choose(L);
    check_ask(L, config);
    check_pins(L, config);
}

/* The file of `keylog`, or -1 for none (-t: always). Pushes an error and returns -2. */
static int CS_RAISES open_keylog(lua_State *L)
{
    const char *name = cs_opt_string(L, 2, "keylog");
    bool wanted = name && !cs_vm_of(L)->check_only;
    int fd = wanted ? open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (wanted && fd < 0) {
        cs_push_error_as(L, "ioerror", -errno);
        return -2;
    }
    return fd;
}

static struct shark *CS_RAISES new_shark(lua_State *L)
{
    struct shark *s = lua_newuserdatauv(L, sizeof(*s), 1);
    struct cs_vm *vm = cs_vm_of(L);
    *s = (struct shark){.vm = vm, .name = cs_task_service(vm)};
    luaL_setmetatable(L, SHARK_TYPE);
    return s;
}

/* Its context, from what check_config says; the object is on top. Returns as cs_tls_context_create.
 */
static int CS_RAISES fill_shark(lua_State *L, struct shark *s, const struct cs_tls_config *config,
                                const char **field)
{
    int err = cs_tls_context_create(&s->face.context, config, field);
    if (err == 0 && config->choose) {
        cs_tls_context_set_user(s->face.context, s);
        lua_rawgetp(L, LUA_REGISTRYINDEX, &all_sharks);
        lua_pushvalue(L, -2);
        lua_rawsetp(L, -2, s);
        lua_pop(L, 1);
        lua_getfield(L, 2, "choose");
        lua_setiuservalue(L, -2, 1);
    }
    return err;
}

static int create_sharkssl(lua_State *L)
{
    struct cs_tls_config config;
    const char *field = "";
    lua_settop(L, 2);
    if (lua_type(L, 1) == LUA_TTABLE && lua_isnil(L, 2)) { /* sharkssl{server = true} */
        lua_insert(L, 1);
    }
    luaL_argexpected(L, lua_isnil(L, 1) || lua_isuserdata(L, 1), 1, "certstore");
    check_config(L, &config);
    lua_Integer timeout = cs_opt_number(L, 2, "timeout", TIMEOUT_MS);
    luaL_argcheck(L, timeout >= 1 && timeout <= INT32_MAX, 2, "option 'timeout': out of range");
    struct shark *s = new_shark(L);
    s->face.timeout_ms = (uint32_t)timeout;
    config.keylog_fd = open_keylog(L);
    if (config.keylog_fd == -2) {
        return 4;
    }
    int err = fill_shark(L, s, &config, &field);
    if (err < 0 && config.keylog_fd >= 0) {
        close(config.keylog_fd);
    }
    if (err == CS_EINVAL) {
        return luaL_argerror(L, 2, lua_pushfstring(L, "option '%s': not valid", field));
    }
    return err < 0 ? cs_push_error(L, err) : 1;
}

static int make_sharkclient(lua_State *L, struct cs_store *store)
{
    struct cs_tls_config config;
    const char *field;
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &shared_client) == LUA_TUSERDATA) {
        return 1; /* made by another task meanwhile */
    }
    cs_tls_config_default(&config);
    config.store = store;
    struct shark *s = new_shark(L);
    s->face.timeout_ms = TIMEOUT_MS;
    int err = cs_tls_context_create(&s->face.context, &config, &field);
    if (err < 0) {
        return cs_push_error(L, err);
    }
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &shared_client);
    return 1;
}

/* ba.sharkclient(): one for all, which trusts whom the system trusts. */
static int sharkclient(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &shared_client) == LUA_TUSERDATA) {
        return 1;
    }
    lua_settop(L, 0);
    return cs_with_system_store(L, make_sharkclient);
}

void cs_bind_shark(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", shark_gc}, {"__close", shark_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"addcert", shark_addcert}, {NULL, NULL}};
    cs_bind_type(L, SHARK_TYPE, meta, methods);
    cs_bind_table(L, &all_sharks, "v");
    lua_pushcfunction(L, sharkclient);
    lua_setfield(L, -2, "sharkclient");
    lua_getfield(L, -1, "create"); /* made by cs_bind_cert */
    lua_pushcfunction(L, create_sharkssl);
    lua_setfield(L, -2, "sharkssl");
    lua_pop(L, 1);
}
