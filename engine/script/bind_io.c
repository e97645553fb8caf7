/*
 * bind_io - io objects and what opens them.
 *
 * Every path is resolved by openat2(2) with RESOLVE_BENEATH, so the kernel itself refuses whatever
 * leads out of the folder, at the moment of use. Calls that take a name (mkdir, remove ...) resolve
 * the parent so and then name the last component.
 */
#include "script/bind_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "script/bind.h"
#include "script/builtin.h"

#define IO_TYPE "io"
#define DIR_TYPE "io directory"

/* openat2 gives EAGAIN when somebody renames at the same time. */
#define RESOLVE_TRIES 8

struct io {
    int root;   /* O_PATH descriptor; -1 until it is first needed */
    char dir[]; /* "": nothing is found in it */
};

/* ---- paths ---- */

static struct io *check_io(lua_State *L)
{
    return luaL_checkudata(L, 1, IO_TYPE);
}

/* The root's descriptor or -errno. */
static int open_root(struct io *io)
{
    if (io->root < 0) {
        io->root = io->dir[0] ? open(io->dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
    }
    return io->root >= 0 ? io->root : io->dir[0] ? -errno : -ENOENT;
}

/* A descriptor or -errno. `path` is relative; "" is the root itself. */
static int open_beneath(struct io *io, const char *path, int flags, unsigned mode)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                           .mode = mode,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int root = open_root(io);
    long fd = -1;

    if (root < 0) {
        return root;
    }
    for (int i = 0; i < RESOLVE_TRIES; i++) {
        fd = syscall(SYS_openat2, root, path[0] ? path : ".", &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
            break;
        }
    }
    return fd >= 0 ? (int)fd : -errno;
}

/* Paths are relative to the folder, with or without a leading slash. NULL when there is a zero in
 * it. */
static const char *CS_RAISES check_path(lua_State *L, int arg)
{
    size_t len;
    const char *path = luaL_checklstring(L, arg, &len);

    return strlen(path) == len ? path + strspn(path, "/") : NULL;
}

/* A name in an open folder. */
struct place {
    int dir;
    char name[NAME_MAX + 1];
};

/* Opens the parent. 0 (close p->dir) or -errno. */
static int find_place(struct io *io, const char *path, struct place *p)
{
    char parent[PATH_MAX];
    size_t len = path ? strlen(path) : 0;

    while (len > 0 && path[len - 1] == '/') {
        len--;
    }
    size_t start = len;

    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    size_t name_len = len - start;

    if (!path || name_len == 0 || start >= sizeof(parent) || name_len > NAME_MAX) {
        return -EINVAL;
    }
    memcpy(p->name, path + start, name_len);
    p->name[name_len] = '\0';
    memcpy(parent, path, start);
    parent[start] = '\0';
    if (strcmp(p->name, ".") == 0 || strcmp(p->name, "..") == 0) {
        return -EINVAL;
    }
    p->dir = open_beneath(io, parent, O_PATH | O_DIRECTORY, 0);
    return p->dir < 0 ? p->dir : 0;
}

/* true, or nil and the error. */
static int CS_RAISES push_outcome(lua_State *L, int err)
{
    if (err < 0) {
        return cs_push_io_error(L, err);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* ---- opening ---- */

int cs_io_open_file(lua_State *L, int arg, const char *path)
{
    struct io *io = luaL_checkudata(L, arg, IO_TYPE);
    int fd = open_beneath(io, path + strspn(path, "/"), O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    int err = fd < 0 ? fd : cs_file_check(&fd, false);

    return err < 0 ? err : fd;
}

static int io_open(lua_State *L)
{
    struct io *io = check_io(L);
    const char *path = check_path(L, 2);
    int flags = cs_check_file_mode(L, 3);
    int *fd = cs_push_file(L);

    /* O_NONBLOCK: a FIFO must not hold up the caller before it is refused. */
    *fd = path ? open_beneath(io, path, flags | O_NONBLOCK | O_NOCTTY, flags & O_CREAT ? 0666 : 0)
               : -EINVAL;
    int err = *fd < 0 ? *fd : cs_file_check(fd, false);

    return err < 0 ? cs_push_io_error(L, err) : 1;
}

/* Pushes the file's text, without a first line that begins with '#'. 0 or -errno. */
static int CS_RAISES push_source(lua_State *L, struct io *io, const char *path)
{
    int *fd = cs_push_file(L); /* owns the descriptor while memory may run out */

    *fd = path ? open_beneath(io, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0) : -EINVAL;
    int err = *fd < 0 ? *fd : cs_file_check(fd, false);

    if (err == 0) {
        err = cs_file_read_all(L, *fd);
        close(*fd);
        *fd = -1;
    }
    if (err == 0) {
        const char *text = lua_tostring(L, -1);

        if (text[0] == '#') { /* the line feed stays: line numbers are right */
            lua_pushstring(L, text + strcspn(text, "\n"));
            lua_remove(L, -2);
        }
        lua_remove(L, -2);
    }
    return err;
}

/* Pushes the chunk of argument 2 with environment argument 3, or nil and what is wrong. */
static int CS_RAISES load_file(lua_State *L)
{
    struct io *io = check_io(L);
    const char *path = check_path(L, 2);

    lua_settop(L, 3);
    int err = push_source(L, io, path);

    if (err < 0) {
        return cs_push_io_error(L, err);
    }
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    const char *name = lua_pushfstring(L, "@%s", path);

    if (luaL_loadbufferx(L, text, len, name, "t") != LUA_OK) {
        luaL_pushfail(L);
        lua_insert(L, -2);
        return 2;
    }
    if (!lua_isnil(L, 3)) {
        lua_pushvalue(L, 3);
        if (!lua_setupvalue(L, -2, 1)) {
            lua_pop(L, 1);
        }
    }
    return 1;
}

static int io_dofile_k(lua_State *L, int status, lua_KContext base)
{
    (void)status;
    return lua_gettop(L) - (int)base;
}

/* io:dofile(path [, env]): what the chunk returns. Raises what goes wrong, like dofile. */
static int io_dofile(lua_State *L)
{
    int n = load_file(L);

    if (n == 2) { /* nil, the compiler's message */
        return lua_error(L);
    }
    if (n > 2) {
        return luaL_error(L, "cannot open %s: %s", lua_tostring(L, 2), lua_tostring(L, 1 - n));
    }
    lua_KContext base = lua_gettop(L) - 1;

    lua_callk(L, 0, LUA_MULTRET, base, io_dofile_k);
    return io_dofile_k(L, LUA_OK, base);
}

/* ---- folders ---- */

/* The next entry but "." and "..", or NULL. */
static struct dirent *next_entry(DIR *dir)
{
    struct dirent *e;

    do {
        e = readdir(dir);
    } while (e && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0));
    return e;
}

/* The userdata of an iteration: NULL at its end. */
struct folder {
    DIR *dir;
};

static void close_folder(struct folder *f)
{
    if (f->dir) {
        closedir(f->dir);
        f->dir = NULL;
    }
}

/* Also __gc and __close. */
static int folder_close(lua_State *L)
{
    close_folder(luaL_checkudata(L, 1, DIR_TYPE));
    return 0;
}

/* Upvalues: the open folder, whether details are wanted. name [, isdir, mtime, size] */
static int files_next(lua_State *L)
{
    struct folder *f = lua_touserdata(L, lua_upvalueindex(1));
    struct dirent *e = f->dir ? next_entry(f->dir) : NULL;
    struct stat st;

    if (!e) {
        close_folder(f);
        luaL_pushfail(L);
        return 1;
    }
    lua_pushstring(L, e->d_name);
    if (!lua_toboolean(L, lua_upvalueindex(2))) {
        return 1;
    }
    if (fstatat(dirfd(f->dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        st = (struct stat){0}; /* removed meanwhile */
    }
    lua_pushboolean(L, S_ISDIR(st.st_mode));
    lua_pushinteger(L, (lua_Integer)st.st_mtime);
    lua_pushinteger(L, (lua_Integer)st.st_size);
    return 4;
}

/* for name [, isdir, mtime, size] in io:files([path [, true]]) do */
static int io_files(lua_State *L)
{
    struct io *io = check_io(L);
    const char *path = lua_isnoneornil(L, 2) ? "" : check_path(L, 2);

    lua_settop(L, 3);
    struct folder *f = lua_newuserdatauv(L, sizeof(*f), 0);

    f->dir = NULL;
    luaL_setmetatable(L, DIR_TYPE);
    int fd = path ? open_beneath(io, path, O_RDONLY | O_DIRECTORY, 0) : -EINVAL;

    if (fd < 0) {
        return cs_push_io_error(L, fd);
    }
    f->dir = fdopendir(fd);
    if (!f->dir) {
        int err = -errno;

        close(fd);
        return cs_push_io_error(L, err);
    }
    lua_pushvalue(L, -1);
    lua_pushboolean(L, lua_toboolean(L, 3));
    lua_pushcclosure(L, files_next, 2);
    lua_insert(L, -2);
    lua_pushnil(L);
    lua_insert(L, -2);
    lua_pushnil(L);
    lua_insert(L, -2);
    return 4; /* iterator, nil, nil, what the loop closes */
}

static const char *kind_name(mode_t mode)
{
    return S_ISREG(mode) ? "regular" : S_ISDIR(mode) ? "directory" : "other";
}

static int io_stat(lua_State *L)
{
    struct io *io = check_io(L);
    const char *path = check_path(L, 2);
    int fd = path ? open_beneath(io, path, O_PATH, 0) : -EINVAL;
    struct stat st;

    if (fd < 0) {
        return cs_push_io_error(L, fd);
    }
    int err = fstat(fd, &st) < 0 ? -errno : 0;

    close(fd);
    if (err < 0) {
        return cs_push_io_error(L, err);
    }
    const char *slash = strrchr(path, '/');

    lua_createtable(L, 0, 5);
    lua_pushstring(L, slash ? slash + 1 : path);
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, (lua_Integer)st.st_mtime);
    lua_setfield(L, -2, "mtime");
    lua_pushinteger(L, (lua_Integer)st.st_size);
    lua_setfield(L, -2, "size");
    lua_pushboolean(L, S_ISDIR(st.st_mode));
    lua_setfield(L, -2, "isdir");
    lua_pushstring(L, kind_name(st.st_mode));
    lua_setfield(L, -2, "type");
    return 1;
}

/* Where it really is in the file system. */
static int io_realpath(lua_State *L)
{
    struct io *io = check_io(L);
    const char *path = check_path(L, 2);
    int fd = path ? open_beneath(io, path, O_PATH, 0) : -EINVAL;
    char link[64], real[PATH_MAX];

    if (fd < 0) {
        return cs_push_io_error(L, fd);
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, real, sizeof(real));
    int err = n < 0 ? -errno : 0;

    close(fd);
    if (err < 0) {
        return cs_push_io_error(L, err);
    }
    lua_pushlstring(L, real, (size_t)n);
    return 1;
}

/* ---- changing folders ---- */

static int make_folder(const struct place *p)
{
    return mkdirat(p->dir, p->name, 0777);
}

static int remove_folder(const struct place *p)
{
    return unlinkat(p->dir, p->name, AT_REMOVEDIR);
}

static int remove_file(const struct place *p)
{
    return unlinkat(p->dir, p->name, 0);
}

static int CS_RAISES with_place(lua_State *L, int (*change)(const struct place *))
{
    struct io *io = check_io(L);
    struct place p;
    int err = find_place(io, check_path(L, 2), &p);

    if (err == 0) {
        err = change(&p) < 0 ? -errno : 0;
        close(p.dir);
    }
    return push_outcome(L, err);
}

static int io_mkdir(lua_State *L)
{
    return with_place(L, make_folder);
}

static int io_rmdir(lua_State *L)
{
    return with_place(L, remove_folder);
}

static int io_remove(lua_State *L)
{
    return with_place(L, remove_file);
}

static int io_rename(lua_State *L)
{
    struct io *io = check_io(L);
    const char *from = check_path(L, 2);
    const char *to = check_path(L, 3);
    struct place old, new;
    int err = find_place(io, from, &old);

    if (err < 0) {
        return push_outcome(L, err);
    }
    err = find_place(io, to, &new);
    if (err == 0) {
        err = renameat(old.dir, old.name, new.dir, new.name) < 0 ? -errno : 0;
        close(new.dir);
    }
    close(old.dir);
    return push_outcome(L, err);
}

/* ---- the objects ---- */

static int io_type(lua_State *L)
{
    check_io(L);
    lua_pushliteral(L, "disk");
    lua_pushliteral(L, "linux");
    return 2;
}

static int io_gc(lua_State *L)
{
    struct io *io = check_io(L);

    if (io->root >= 0) {
        close(io->root);
        io->root = -1;
    }
    return 0;
}

static int io_tostring(lua_State *L)
{
    lua_pushfstring(L, "io (%s)", check_io(L)->dir);
    return 1;
}

static struct io *CS_RAISES new_io(lua_State *L, const char *dir)
{
    size_t len = strlen(dir);
    struct io *io = lua_newuserdatauv(L, sizeof(*io) + len + 1, 0);

    io->root = -1;
    memcpy(io->dir, dir, len + 1);
    luaL_setmetatable(L, IO_TYPE);
    return io;
}

void cs_push_io(lua_State *L, const char *dir)
{
    new_io(L, dir ? dir : "");
}

/* ba.openio(name): the data folder, under the names that scripts use for it, or the server's own
 * ("vm"); nil for others. Script mode has no data folder: there it is the current one. */
static int ba_openio(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    struct cs_vm *vm = cs_vm_of(L);
    char builtin[PATH_MAX];

    if (strcmp(name, "disk") == 0 || strcmp(name, "home") == 0) {
        cs_push_io(L, vm->script_mode ? "." : vm->data_dir);
    } else if (strcmp(name, "vm") == 0) {
        cs_builtin_make(vm);
        cs_push_io(L, cs_builtin_dir(vm, builtin, sizeof(builtin)) ? builtin : NULL);
    } else {
        luaL_pushfail(L);
    }
    return 1;
}

/* ba.mkio(io, path): the same for a folder inside, which must exist. */
static int ba_mkio(lua_State *L)
{
    struct io *io = check_io(L);
    const char *path = check_path(L, 2);

    lua_pushfstring(L, "%s/%s", io->dir, path ? path : "");
    struct io *sub = new_io(L, lua_tostring(L, -1)); /* owns the descriptor */

    sub->root = path ? open_beneath(io, path, O_PATH | O_DIRECTORY, 0) : -EINVAL;
    if (sub->root < 0) {
        int err = sub->root;

        sub->root = -1;
        return cs_push_io_error(L, err);
    }
    return 1;
}

void cs_bind_io(lua_State *L)
{
    static const luaL_Reg meta[] = {{"__gc", io_gc}, {"__tostring", io_tostring}, {NULL, NULL}};
    static const luaL_Reg dir_meta[] = {
        {"__gc", folder_close}, {"__close", folder_close}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"open", io_open},     {"loadfile", load_file},
                                       {"dofile", io_dofile}, {"files", io_files},
                                       {"stat", io_stat},     {"mkdir", io_mkdir},
                                       {"rmdir", io_rmdir},   {"remove", io_remove},
                                       {"rename", io_rename}, {"realpath", io_realpath},
                                       {"type", io_type},     {"resourcetype", io_type},
                                       {NULL, NULL}};

    luaL_newmetatable(L, IO_TYPE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    luaL_newmetatable(L, DIR_TYPE);
    luaL_setfuncs(L, dir_meta, 0);
    lua_pop(L, 2);
    cs_bind_io_file(L);

    lua_pushcfunction(L, ba_openio);
    lua_setfield(L, -2, "openio");
    lua_pushcfunction(L, ba_mkio);
    lua_setfield(L, -2, "mkio");
}

/* ---- script mode ---- */

static int open_anywhere(lua_State *L)
{
    const char *path = luaL_checkstring(L, 2);
    int flags = cs_check_file_mode(L, 3);
    int *fd = cs_push_file(L);

    *fd = open(path, flags | O_CLOEXEC | O_NOCTTY, 0666);
    int err = *fd < 0 ? -errno : cs_file_check(fd, true);

    return err < 0 ? cs_push_io_error(L, err) : 1;
}

/* Upvalues: Lua's io.open, the io table. */
static int script_open(lua_State *L)
{
    if (lua_rawequal(L, 1, lua_upvalueindex(2))) {
        return open_anywhere(L);
    }
    int top = lua_gettop(L);

    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, top, LUA_MULTRET);
    return lua_gettop(L);
}

void cs_io_open_script_mode(lua_State *L)
{
    lua_getglobal(L, LUA_IOLIBNAME);
    lua_getfield(L, -1, "open");
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, script_open, 2);
    lua_setfield(L, -2, "open");
    lua_pop(L, 1);
}
