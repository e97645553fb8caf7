/*
 * bind_cert - sharkcert and certstore objects, and what is in a certificate.
 *
 * Files are read into memory of ours, not into Lua strings, and wiped. A table instead of an io
 * object names files of the system: ba.create.sharkcert{cert = "/etc/...", key = "/etc/..."}.
 */
#include "script/bind_cert.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/cert_info.h"
#include "script/bind.h"
#include "script/bind_io.h"
#include "script/builtin.h"
#include "script/expiry.h"

#define CERT_TYPE "ba.sharkcert"
#define STORE_TYPE "ba.certstore"
#define FILE_TYPE "certificate file"

#define FILE_MAX (64 << 20) /* CRLs can be long */
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

/* The same with the file's name in front of the phrase. */
static int CS_RAISES push_cert_error_of(lua_State *L, int err, const struct cs_cert_error *why,
                                        const char *name)
{
    int n = cs_push_cert_error(L, err, why);

    if (n == 3) {
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

/* ---- files ---- */

/* What was read: a userdata, so that nothing stays behind when an error is raised. */
struct text {
    char *bytes;
    size_t len;
};

static void wipe(struct text *t)
{
    if (t->bytes) {
        explicit_bzero(t->bytes, t->len);
        cs_free(t->bytes);
    }
    *t = (struct text){0};
}

static int text_gc(lua_State *L)
{
    wipe(luaL_checkudata(L, 1, FILE_TYPE));
    return 0;
}

static struct text *CS_RAISES push_text(lua_State *L)
{
    struct text *t = lua_newuserdatauv(L, sizeof(*t), 0);

    *t = (struct text){0};
    luaL_setmetatable(L, FILE_TYPE);
    return t;
}

static int read_all(int fd, char *to, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = read(fd, to + done, size - done);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n == 0) {
            return -EIO; /* it has become shorter while we read */
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Takes the descriptor. 0 or -errno. */
static int read_fd(int fd, struct text *t)
{
    struct stat st;
    int err = fstat(fd, &st) < 0 ? -errno : st.st_size > FILE_MAX ? -EFBIG : 0;

    if (err == 0) {
        t->len = (size_t)st.st_size;
        t->bytes = cs_alloc(t->len + 1);
        err = t->bytes ? read_all(fd, t->bytes, t->len) : -ENOMEM;
    }
    close(fd);
    if (err < 0) {
        wipe(t);
    } else {
        t->bytes[t->len] = '\0';
    }
    return err;
}

/* io: index of an io object, 0: a path of the system. 0 or -errno. */
static int CS_RAISES read_file(lua_State *L, int io, const char *path, struct text *t)
{
    int fd;

    if (io) {
        fd = cs_io_open_file(L, io, path);
    } else {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        int err = fd < 0 ? -errno : cs_file_check(&fd, false);

        fd = err < 0 ? err : fd;
    }
    return fd < 0 ? fd : read_fd(fd, t);
}

static struct cs_cert_text text_of(const struct text *t)
{
    return (struct cs_cert_text){t->bytes ? t->bytes : "", t->len};
}

/* ---- sharkcert ---- */

/* What ba.create.sharkcert was given, in each of its forms. Strings stay with Lua. */
struct request {
    int io;                        /* index, 0: none */
    const char *cert, *key;        /* file names, or NULL with the texts given */
    struct cs_cert_text cert_text; /* given */
    struct cs_cert_text key_text;
    const char *password, *password_file, *ocsp;
};

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
        r.io = 1;
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

/* Reads a file into a text that it pushes. 0, or the number of values of the error it pushed. */
static int CS_RAISES take_file(lua_State *L, const struct request *r, const char *name,
                               struct cs_cert_text *out)
{
    struct text *t = push_text(L);
    int err = read_file(L, r->io, name, t);

    *out = text_of(t);
    return err < 0 ? push_file_error(L, err, name) : 0;
}

/* The password of a file: its first line. */
static int CS_RAISES take_password(lua_State *L, struct request *r)
{
    struct cs_cert_text text;
    int n = r->password_file ? take_file(L, r, r->password_file, &text) : 0;

    if (n == 0 && r->password_file) {
        char *line = (char *)(uintptr_t)text.bytes; /* the text's own memory */

        if (text.len > 0) {
            line[strcspn(line, "\r\n")] = '\0';
        }
        r->password = line;
    }
    return n;
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

static int create_sharkcert(lua_State *L)
{
    struct request r = check_request(L);
    struct cs_cert_text ocsp = {0};
    struct cs_cert_error why;
    int n = r.cert ? take_file(L, &r, r.cert, &r.cert_text) : 0;

    n = n == 0 && r.key ? take_file(L, &r, r.key, &r.key_text) : n;
    n = n == 0 ? take_password(L, &r) : n;
    n = n == 0 && r.ocsp ? take_file(L, &r, r.ocsp, &ocsp) : n;
    if (n > 0) {
        return n;
    }
    struct cs_cert **c = lua_newuserdatauv(L, sizeof(struct cs_cert *), 0);

    *c = NULL;
    luaL_setmetatable(L, CERT_TYPE);
    protect(cs_vm_of(L));
    int err = cs_cert_load(c, r.cert_text, r.key_text, r.password, &why);

    if (err == 0 && r.ocsp) {
        err = cs_cert_set_ocsp(*c, ocsp.bytes, ocsp.len);
    }
    if (err == 0) {
        err = cs_expiry_add(cs_vm_of(L), *c, r.cert ? r.cert : "");
    }
    if (err < 0 && r.cert) {
        bool of_key = err == -EINVAL && strncmp(why.code, "pem_key", 7) == 0;

        return push_cert_error_of(L, err, &why, of_key ? r.key : r.cert);
    }
    return err < 0 ? cs_push_cert_error(L, err, &why) : 1;
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

static const char *system_bundle(void)
{
    const char *path = getenv("SSL_CERT_FILE"); /* as OpenSSL's programs take it */

    return path && path[0] ? path : SYSTEM_BUNDLE;
}

/* Adds a file. 0 with *count, or the number of values of the error it pushed. */
static int CS_RAISES add_file(lua_State *L, struct cs_store *s, int io, const char *name,
                              int *count)
{
    struct text *t = push_text(L);
    struct cs_cert_error why;
    int err = read_file(L, io, name, t);

    if (err < 0) {
        return push_file_error(L, err, name);
    }
    *count = cs_store_add(s, text_of(t), &why);
    wipe(t);
    return *count < 0 ? push_cert_error_of(L, *count, &why, name) : 0;
}

/* store:addcert(io, name), (data), {file = path}, {system = true}: how many were added. */
static int store_addcert(lua_State *L)
{
    struct cs_store *s = cs_check_store(L, 1);
    struct cs_cert_error why;
    int count = 0, n = 0;

    if (lua_istable(L, 2)) {
        bool system = cs_opt_bool(L, 2, "system", false);
        const char *file = cs_opt_string(L, 2, "file");

        luaL_argcheck(L, file || system, 2, "option 'file' or 'system' is missing");
        n = add_file(L, s, 0, file ? file : system_bundle(), &count);
    } else if (lua_isuserdata(L, 2)) {
        n = add_file(L, s, 2, luaL_checkstring(L, 3), &count);
    } else {
        struct cs_cert_text text;

        text.bytes = luaL_checklstring(L, 2, &text.len);
        count = cs_store_add(s, text, &why);
        n = count < 0 ? cs_push_cert_error(L, count, &why) : 0;
    }
    if (n > 0) {
        return n;
    }
    lua_pushinteger(L, count);
    return 1;
}

static int store_len(lua_State *L)
{
    lua_pushinteger(L, cs_store_count(cs_check_store(L, 1)));
    return 1;
}

/* The path of an own list of authorities, if there is one. */
static bool own_bundle(const struct cs_vm *vm, char *path, size_t size)
{
    size_t len;

    if (!cs_builtin_dir(vm, path, size)) {
        return false;
    }
    len = strlen(path);
    int n = snprintf(path + len, size - len, "/.certificate/cacert.pem");

    return n > 0 && (size_t)n < size - len && access(path, F_OK) == 0;
}

struct cs_store *cs_push_system_store(lua_State *L, int *values)
{
    static const char key = 0; /* its address names the registry's entry */
    char path[PATH_MAX];
    int count = 0;

    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) == LUA_TUSERDATA) {
        return *(struct cs_store **)lua_touserdata(L, -1);
    }
    lua_pop(L, 1);
    struct cs_store *s = *push_store(L);

    if (!s) {
        *values = cs_push_error(L, -ENOMEM);
        return NULL;
    }
    const char *file = own_bundle(cs_vm_of(L), path, sizeof(path)) ? path : system_bundle();
    int store = lua_gettop(L);

    *values = add_file(L, s, 0, file, &count);
    if (*values > 0) {
        return NULL;
    }
    lua_settop(L, store);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    return s;
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
    static const luaL_Reg text[] = {{"__gc", text_gc}, {NULL, NULL}};
    static const luaL_Reg info[] = {{"__gc", info_gc}, {NULL, NULL}};
    static const luaL_Reg cert[] = {{"__gc", cert_gc}, {"__tostring", cert_tostring}, {NULL, NULL}};
    static const luaL_Reg store[] = {{"__gc", store_gc}, {"__len", store_len}, {NULL, NULL}};
    static const luaL_Reg store_methods[] = {{"addcert", store_addcert}, {NULL, NULL}};
    static const luaL_Reg create[] = {
        {"sharkcert", create_sharkcert}, {"certstore", create_certstore}, {NULL, NULL}};

    cs_bind_type(L, FILE_TYPE, text, NULL);
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
