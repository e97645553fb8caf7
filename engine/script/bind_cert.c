/*
 * bind_cert - sharkcert and certstore objects, and what is in a certificate.
 *
 * Files are read into memory of ours, not into Lua strings, and wiped. A table instead of an io
 * object names files of the system: ba.create.sharkcert{cert = "/etc/...", key = "/etc/..."}.
 */
#include "script/bind_cert.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/mem.h"
#include "codec/cert_info.h"
#include "script/bind.h"
#include "script/builtin.h"
#include "script/expiry.h"
#include "script/secret.h"

#define CERT_TYPE "ba.sharkcert"
#define STORE_TYPE "ba.certstore"

#define SYSTEM_BUNDLE "/etc/ssl/certs/ca-certificates.crt"

/* ---- errors ---- */

int cs_push_cert_error(lua_State *L, int err, const struct cs_cert_error *why)
{
    if (err != -EINVAL) {
        return cs_push_error(L, err);
    }
    luaL_pushfail(L);
    lua_pushstring(L, why->code);
    lua_pushstring(L, why->text);
    return 3;
}

/* The same with the file's name in front of the phrase, if it is about one. */
static int CS_RAISES push_cert_error_of(lua_State *L, int err, const struct cs_cert_error *why,
                                        const char *name)
{
    int n = cs_push_cert_error(L, err, why);

    if (n == 3 && name) {
        lua_pushfstring(L, "%s: %s", name, lua_tostring(L, -1));
        lua_replace(L, -2);
    }
    return n;
}

/* nil, "notfound", "NAME: no such file or directory" */
static int CS_RAISES push_file_error(lua_State *L, int err, const char *name)
{
    cs_push_io_error(L, err);
    lua_pushfstring(L, "%s: %s", name, cs_err_text(err));
    if (err < 0 && err > -4096) { /* instead of the error's own name and phrase */
        lua_replace(L, -3);
        lua_pop(L, 1);
    }
    return 3;
}

/* ---- sharkcert ---- */

/* What ba.create.sharkcert was given, in each of its forms. */
struct request {
    struct cs_io_place folder;
    const char *cert, *key;        /* file names, or NULL with the texts given */
    struct cs_cert_text cert_text; /* given */
    struct cs_cert_text key_text;
    const char *password, *password_file, *ocsp;
};

/* Reading and checking it: a helper's, because an encrypted key takes a while too. */
struct loading {
    struct cs_blocking b;
    struct request r;
    struct cs_secret texts; /* what r points to */
    struct cs_cert *cert;
    const char *file; /* of the error; NULL: of none */
    bool unread;      /* err is about reading that file */
    int err;
    struct cs_cert_error why;
};

static struct loading *loading_of(struct cs_blocking *b)
{
    return cs_container_of(b, struct loading, b);
}

static void drop_loading(struct cs_blocking *b)
{
    struct loading *l = loading_of(b);

    cs_cert_unref(l->cert);
    cs_secret_free(&l->texts);
    cs_free(l);
}

static struct request CS_RAISES check_request(lua_State *L)
{
    struct request r = {0};

    if (lua_istable(L, 1)) {
        r.cert = cs_opt_string(L, 1, "cert");
        r.key = cs_opt_string(L, 1, "key");
        r.password = cs_opt_string(L, 1, "password");
        r.password_file = cs_opt_string(L, 1, "password_file");
        r.ocsp = cs_opt_string(L, 1, "ocsp");
        luaL_argcheck(L, r.cert, 1, "option 'cert' is missing");
        r.key = r.key ? r.key : r.cert; /* both in one file */
    } else if (lua_isuserdata(L, 1)) {
        r.folder = cs_check_io_place(L, 1);
        r.cert = luaL_checkstring(L, 2);
        r.key = luaL_checkstring(L, 3);
        r.password = luaL_optstring(L, 4, NULL);
    } else {
        r.cert_text.bytes = luaL_checklstring(L, 1, &r.cert_text.len);
        r.key_text.bytes = luaL_checklstring(L, 2, &r.key_text.len);
        r.password = luaL_optstring(L, 3, NULL);
    }
    return r;
}

/* Reads a file, unless there is no name or there was an error. */
static void read_part(struct loading *l, const char *name, struct cs_secret *s)
{
    if (!name || l->err < 0) {
        return;
    }
    l->err = cs_secret_read(s, l->r.folder, name);
    if (l->err < 0) {
        l->file = name;
        l->unread = true;
    }
}

static struct cs_cert_text text_of(const struct cs_secret *s, struct cs_cert_text otherwise)
{
    return s->bytes ? (struct cs_cert_text){s->bytes, s->len} : otherwise;
}

static void run_loading(struct cs_blocking *b)
{
    struct loading *l = loading_of(b);
    const struct request *r = &l->r;
    struct cs_secret cert = {0}, key = {0}, password = {0}, ocsp = {0};

    read_part(l, r->cert, &cert);
    read_part(l, r->key, &key);
    read_part(l, r->password_file, &password);
    read_part(l, r->ocsp, &ocsp);
    if (l->err == 0) {
        if (password.bytes) { /* its first line */
            password.bytes[strcspn(password.bytes, "\r\n")] = '\0';
        }
        l->err = cs_cert_load(&l->cert, text_of(&cert, r->cert_text), text_of(&key, r->key_text),
                              password.bytes ? password.bytes : r->password, &l->why);
        if (l->err == -EINVAL) {
            l->file = strncmp(l->why.code, "pem_key", 7) == 0 ? r->key : r->cert;
        }
    }
    if (l->err == 0 && r->ocsp) {
        l->err = cs_cert_set_ocsp(l->cert, ocsp.bytes, ocsp.len, &l->why);
        l->file = r->ocsp;
    }
    cs_secret_free(&cert);
    cs_secret_free(&key);
    cs_secret_free(&password);
    cs_secret_free(&ocsp);
}

/* From now on this process holds a private key: no core file, no tracer. */
static void protect(const struct cs_vm *vm)
{
#ifndef __SANITIZE_ADDRESS__ /* its leak checker is a tracer */
    if (!vm->script_mode) {
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
#else
    (void)vm;
#endif
}

static int push_loaded(lua_State *L, struct cs_blocking *b)
{
    struct loading *l = loading_of(b);

    if (l->err < 0 && l->unread) {
        return push_file_error(L, l->err, l->file);
    }
    if (l->err < 0) {
        return push_cert_error_of(L, l->err, &l->why, l->file);
    }
    struct cs_cert **c = lua_newuserdatauv(L, sizeof(struct cs_cert *), 0);

    *c = l->cert;
    l->cert = NULL;
    luaL_setmetatable(L, CERT_TYPE);
    int err = cs_expiry_add(cs_vm_of(L), *c, l->r.cert ? l->r.cert : "");

    return err < 0 ? cs_push_error(L, err) : 1;
}

static int create_sharkcert(lua_State *L)
{
    struct request r = check_request(L);
    struct cs_blocking **owner = cs_blocking_push(L);
    struct loading *l = cs_zalloc(sizeof(*l));
    const struct cs_secret_copy copies[] = {
        {.string = &r.folder.base}, {.string = &r.folder.sub}, {.string = &r.cert},
        {.string = &r.key},         {.string = &r.password},   {.string = &r.password_file},
        {.string = &r.ocsp},        {.text = &r.cert_text},    {.text = &r.key_text},
    };

    if (!l) {
        return luaL_error(L, "not enough memory");
    }
    l->b = (struct cs_blocking){.run = run_loading, .push = push_loaded, .drop = drop_loading};
    *owner = &l->b;
    cs_secret_copy(L, &l->texts, copies, CS_ARRAY_LEN(copies));
    l->r = r;
    protect(cs_vm_of(L));
    return cs_blocking_call(L, "ba.create.sharkcert");
}

struct cs_cert *cs_check_cert(lua_State *L, int arg)
{
    struct cs_cert **c = luaL_checkudata(L, arg, CERT_TYPE);

    luaL_argcheck(L, *c, arg, "this certificate could not be made");
    return *c;
}

static int cert_gc(lua_State *L)
{
    struct cs_cert **c = luaL_checkudata(L, 1, CERT_TYPE);

    cs_cert_unref(*c);
    *c = NULL;
    return 0;
}

static int cert_tostring(lua_State *L)
{
    lua_pushfstring(L, "sharkcert (%s)", cs_cert_name(cs_check_cert(L, 1)));
    return 1;
}

/* ---- certstore ---- */

static struct cs_store **CS_RAISES push_store(lua_State *L)
{
    struct cs_store **s = lua_newuserdatauv(L, sizeof(struct cs_store *), 0);

    *s = NULL;
    luaL_setmetatable(L, STORE_TYPE);
    *s = cs_store_create();
    return s;
}

static int create_certstore(lua_State *L)
{
    return *push_store(L) ? 1 : cs_push_error(L, -ENOMEM);
}

struct cs_store *cs_check_store(lua_State *L, int arg)
{
    struct cs_store **s = luaL_checkudata(L, arg, STORE_TYPE);

    luaL_argcheck(L, *s, arg, "this certstore could not be made");
    return *s;
}

static int store_gc(lua_State *L)
{
    struct cs_store **s = luaL_checkudata(L, 1, STORE_TYPE);

    cs_store_unref(*s);
    *s = NULL;
    return 0;
}

/* A file that is read by a helper. What is in it is added when it is there: nobody may change a
 * store that another thread verifies with. */
struct adding {
    struct cs_blocking b;
    struct cs_io_place folder;
    const char *name, *instead; /* instead: of a file that is not there; may be NULL */
    struct cs_secret texts, content;
    int (*use)(lua_State *L, struct cs_store *s); /* of cs_with_system_store */
    int err;
};

static struct adding *adding_of(struct cs_blocking *b)
{
    return cs_container_of(b, struct adding, b);
}

static void drop_adding(struct cs_blocking *b)
{
    struct adding *a = adding_of(b);

    cs_secret_free(&a->texts);
    cs_secret_free(&a->content);
    cs_free(a);
}

static void run_adding(struct cs_blocking *b)
{
    struct adding *a = adding_of(b);

    a->err = cs_secret_read(&a->content, a->folder, a->name);
    if (a->err == -ENOENT && a->instead) {
        a->name = a->instead;
        a->err = cs_secret_read(&a->content, a->folder, a->name);
    }
}

/* How many were added, or nil and the error. */
static int CS_RAISES add_content(lua_State *L, struct cs_store *s, const struct adding *a)
{
    struct cs_cert_error why;

    if (a->err < 0) {
        return push_file_error(L, a->err, a->name);
    }
    int count = cs_store_add(s, (struct cs_cert_text){a->content.bytes, a->content.len}, &why);

    return count < 0 ? push_cert_error_of(L, count, &why, a->name) : (lua_pushinteger(L, count), 1);
}

static int push_added(lua_State *L, struct cs_blocking *b)
{
    return add_content(L, cs_check_store(L, 1), adding_of(b));
}

/* Pushes the owner of a new call. */
static struct adding *CS_RAISES new_adding(lua_State *L, struct cs_io_place folder,
                                           const char *name, const char *instead,
                                           int (*push)(lua_State *, struct cs_blocking *))
{
    struct cs_blocking **owner = cs_blocking_push(L);
    struct adding *a = cs_zalloc(sizeof(*a));
    const struct cs_secret_copy copies[] = {
        {.string = &folder.base}, {.string = &folder.sub}, {.string = &name}, {.string = &instead}};

    if (!a) {
        luaL_error(L, "not enough memory");
        return NULL;
    }
    a->b = (struct cs_blocking){.run = run_adding, .push = push, .drop = drop_adding};
    *owner = &a->b;
    cs_secret_copy(L, &a->texts, copies, CS_ARRAY_LEN(copies));
    a->folder = folder;
    a->name = name;
    a->instead = instead;
    return a;
}

static const char *system_bundle(void)
{
    const char *path = getenv("SSL_CERT_FILE"); /* as OpenSSL's programs take it */

    return path && path[0] ? path : SYSTEM_BUNDLE;
}

/* store:addcert(io, name), (data), {file = path}, {system = true}: how many were added. */
static int store_addcert(lua_State *L)
{
    struct cs_store *s = cs_check_store(L, 1);
    struct cs_cert_error why;

    if (lua_istable(L, 2)) {
        bool system = cs_opt_bool(L, 2, "system", false);
        const char *file = cs_opt_string(L, 2, "file");

        luaL_argcheck(L, file || system, 2, "option 'file' or 'system' is missing");
        (void)new_adding(L, (struct cs_io_place){0}, file ? file : system_bundle(), NULL,
                         push_added);
        return cs_blocking_call(L, "certstore:addcert");
    }
    if (lua_isuserdata(L, 2)) {
        struct cs_io_place folder = cs_check_io_place(L, 2);

        (void)new_adding(L, folder, luaL_checkstring(L, 3), NULL, push_added);
        return cs_blocking_call(L, "certstore:addcert");
    }
    struct cs_cert_text text;

    text.bytes = luaL_checklstring(L, 2, &text.len);
    int count = cs_store_add(s, text, &why);

    return count < 0 ? cs_push_cert_error(L, count, &why) : (lua_pushinteger(L, count), 1);
}

static int store_len(lua_State *L)
{
    lua_pushinteger(L, cs_store_count(cs_check_store(L, 1)));
    return 1;
}

/* The path of an own list of authorities, which need not be there. */
static bool own_bundle(const struct cs_vm *vm, char *path, size_t size)
{
    size_t len;

    if (!cs_builtin_dir(vm, path, size)) {
        return false;
    }
    len = strlen(path);
    int n = snprintf(path + len, size - len, "/.certificate/cacert.pem");

    return n > 0 && (size_t)n < size - len;
}

static int push_system_store(lua_State *L, struct cs_blocking *b)
{
    struct adding *a = adding_of(b);
    struct cs_store *s = *push_store(L);

    if (!s) {
        return luaL_error(L, "not enough memory");
    }
    int n = add_content(L, s, a);

    if (lua_isnil(L, -n)) {
        return luaL_error(L, "no authorities to trust: %s", lua_tostring(L, -1));
    }
    lua_pop(L, n);
    return a->use(L, s);
}

int cs_with_system_store(lua_State *L, int (*use)(lua_State *L, struct cs_store *s))
{
    char path[PATH_MAX];
    bool own = own_bundle(cs_vm_of(L), path, sizeof(path));
    struct adding *a = new_adding(L, (struct cs_io_place){0}, own ? path : system_bundle(),
                                  own ? system_bundle() : NULL, push_system_store);

    a->use = use;
    return cs_blocking_call(L, "ba.sharkclient");
}

/* ---- fields ---- */

static void CS_RAISES set(lua_State *L, const char *name, const char *value)
{
    if (value) {
        lua_pushstring(L, value);
        lua_setfield(L, -2, name);
    }
}

static void CS_RAISES push_dn(lua_State *L, const struct cs_cert_dn *dn)
{
    lua_newtable(L);
    set(L, "commonname", dn->commonname);
    set(L, "organization", dn->organization);
    set(L, "unit", dn->unit);
    set(L, "locality", dn->locality);
    set(L, "province", dn->province);
    set(L, "countryname", dn->countryname);
    set(L, "email", dn->email);
}

static void CS_RAISES push_info(lua_State *L, const struct cs_cert_info *i)
{
    char hex[2 * sizeof(i->sha256) + 1];

    lua_createtable(L, 0, 9);
    push_dn(L, &i->subject);
    lua_setfield(L, -2, "subject");
    push_dn(L, &i->issuer);
    lua_setfield(L, -2, "issuer");
    set(L, "tzfrom", i->not_before);
    set(L, "tzto", i->not_after);
    set(L, "serial", i->serial);
    set(L, "key", i->key);
    lua_pushboolean(L, i->ca);
    lua_setfield(L, -2, "ca");
    for (size_t at = 0; at < sizeof(i->sha256); at++) {
        (void)snprintf(hex + 2 * at, 3, "%02x", i->sha256[at]);
    }
    set(L, "sha256", hex);
    lua_createtable(L, (int)i->name_count, 0);
    for (unsigned at = 0; at < i->name_count; at++) {
        lua_pushstring(L, i->names[at]);
        lua_rawseti(L, -2, at + 1);
    }
    lua_setfield(L, -2, "san");
}

/* The fields while they are being pushed. */
#define INFO_TYPE "certificate fields"

static int info_gc(lua_State *L)
{
    struct cs_cert_info **i = luaL_checkudata(L, 1, INFO_TYPE);

    cs_cert_info_destroy(*i);
    *i = NULL;
    return 0;
}

void cs_push_cert_info(lua_State *L, const void *text, size_t len)
{
    struct cs_cert_info **i = lua_newuserdatauv(L, sizeof(struct cs_cert_info *), 0);

    *i = NULL;
    luaL_setmetatable(L, INFO_TYPE);
    int err = cs_cert_info_create(i, text, len);

    if (err == 0) {
        push_info(L, *i);
    } else if (err == -ENOMEM) {
        luaL_error(L, "not enough memory");
    } else {
        luaL_pushfail(L);
    }
    cs_cert_info_destroy(*i);
    *i = NULL;
    lua_remove(L, -2);
}

static int parsecert(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);

    cs_push_cert_info(L, text, len);
    if (lua_isnil(L, -1)) {
        return cs_push_cert_error(L, -EINVAL,
                                  &(struct cs_cert_error){"pem_cert_unrecognized_format",
                                                          "there is no certificate in it"});
    }
    return 1;
}

static int parsecerttime(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);

    lua_pushinteger(L, cs_cert_time(text, len));
    return 1;
}

/* ---- the tables ---- */

void cs_bind_cert(lua_State *L)
{
    static const luaL_Reg info[] = {{"__gc", info_gc}, {NULL, NULL}};
    static const luaL_Reg cert[] = {{"__gc", cert_gc}, {"__tostring", cert_tostring}, {NULL, NULL}};
    static const luaL_Reg store[] = {{"__gc", store_gc}, {"__len", store_len}, {NULL, NULL}};
    static const luaL_Reg store_methods[] = {{"addcert", store_addcert}, {NULL, NULL}};
    static const luaL_Reg create[] = {
        {"sharkcert", create_sharkcert}, {"certstore", create_certstore}, {NULL, NULL}};

    cs_bind_type(L, INFO_TYPE, info, NULL);
    cs_bind_type(L, CERT_TYPE, cert, NULL);
    cs_bind_type(L, STORE_TYPE, store, store_methods);

    luaL_newlib(L, create);
    cs_bind_cert_make(L);
    lua_setfield(L, -2, "create");
    lua_pushcfunction(L, parsecert);
    lua_setfield(L, -2, "parsecert");
    lua_pushcfunction(L, parsecerttime);
    lua_setfield(L, -2, "parsecerttime");
}
