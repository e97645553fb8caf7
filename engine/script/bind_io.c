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

#include "base/mem.h"
#include "script/bind.h"
#include "script/builtin.h"

#define IO_TYPE "io"
#define LIST_TYPE "io list"

/* openat2 gives EAGAIN when somebody renames at the same time. */
#define RESOLVE_TRIES 8

/* ---- io objects ---- */

/* A folder inside a folder of the system: below `base`, symbolic links are not trusted. */
struct io {
    const char *base; /* "": nothing is found in it */
    const char *sub;  /* "": base itself */
    char text[];
};

static struct io *CS_RAISES new_io(lua_State *L, const char *base, const char *sub)
{
    size_t base_size = strlen(base) + 1, sub_size = strlen(sub) + 1;
    struct io *io = lua_newuserdatauv(L, sizeof(*io) + base_size + sub_size, 0);

    memcpy(io->text, base, base_size);
    memcpy(io->text + base_size, sub, sub_size);
    io->base = io->text;
    io->sub = io->text + base_size;
    luaL_setmetatable(L, IO_TYPE);
    return io;
}

void cs_push_io(lua_State *L, const char *dir)
{
    new_io(L, dir ? dir : "", "");
}

static struct io *check_io(lua_State *L)
{
    return luaL_checkudata(L, 1, IO_TYPE);
}

/* ---- calls ---- */

/* What a call of an io object asks for and gets. */
struct call {
    struct cs_blocking b;
    const char *base, *sub, *path, *to; /* in text */
    int flags;
    bool anywhere; /* script mode: path is one of the system */
    bool details;
    int (*change)(int dir, const char *name);
    size_t room;
    int err;
    int fd;
    struct stat st;
    char *bytes; /* of cs_alloc */
    size_t len, size;
    char text[];
};

static struct call *call_of(struct cs_blocking *b)
{
    return cs_container_of(b, struct call, b);
}

static void call_drop(struct cs_blocking *b)
{
    struct call *c = call_of(b);

    if (c->fd >= 0) {
        close(c->fd);
    }
    cs_free(c->bytes);
    cs_free(c);
}

static const char *keep(char **to, const char *text)
{
    size_t size = strlen(text) + 1;
    const char *kept = *to;

    memcpy(*to, text, size);
    *to += size;
    return kept;
}

/* A path argument. Relative to the folder, with or without a leading slash; NULL with a zero in
 * it. */
static const char *CS_RAISES check_path(lua_State *L, int arg)
{
    size_t len;
    const char *path = luaL_checklstring(L, arg, &len);

    return strlen(path) == len ? path + strspn(path, "/") : NULL;
}

/* Pushes the owner of a new call; its texts are copies. A NULL path makes it fail when it runs, and
 * with -t so does what `writes`. */
static struct call *CS_RAISES new_call(lua_State *L, const struct io *io, const char *path,
                                       const char *to, bool writes,
                                       void (*run)(struct cs_blocking *),
                                       int (*push)(lua_State *, struct cs_blocking *))
{
    struct cs_blocking **owner = cs_blocking_push(L);
    bool valid = path && to;
    const char *texts[] = {io ? io->base : "", io ? io->sub : "", valid ? path : "",
                           valid ? to : ""};
    size_t size = 0;

    for (size_t i = 0; i < CS_ARRAY_LEN(texts); i++) {
        size += strlen(texts[i]) + 1;
    }
    struct call *c = cs_zalloc(sizeof(*c) + size);

    if (!c) {
        luaL_error(L, "not enough memory");
        return NULL;
    }
    char *at = c->text;

    c->base = keep(&at, texts[0]);
    c->sub = keep(&at, texts[1]);
    c->path = keep(&at, texts[2]);
    c->to = keep(&at, texts[3]);
    c->err = !valid ? -EINVAL : writes && cs_vm_of(L)->check_only ? -EROFS : 0;
    c->fd = -1;
    c->room = cs_file_room(cs_vm_of(L));
    c->b = (struct cs_blocking){.run = run, .push = push, .drop = call_drop};
    *owner = &c->b;
    return c;
}

/* true, or nil and the error. */
static int push_outcome(lua_State *L, struct cs_blocking *b)
{
    const struct call *c = call_of(b);

    if (c->err < 0) {
        return cs_push_io_error(L, c->err);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* ---- resolving; on a helper thread ---- */

/* A descriptor or -errno. `path` is relative; "" is `dir` itself. */
static int open_in(int dir, const char *path, int flags)
{
    struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                           .mode = flags & O_CREAT ? 0666 : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd = -1;

    for (int i = 0; i < RESOLVE_TRIES; i++) {
        fd = syscall(SYS_openat2, dir, path[0] ? path : ".", &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
            break;
        }
    }
    return fd >= 0 ? (int)fd : -errno;
}

/* The folder's descriptor or -errno. */
static int open_root(const struct call *c)
{
    int base = c->base[0] ? open(c->base, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;

    if (base < 0) {
        return c->base[0] ? -errno : -ENOENT;
    }
    if (!c->sub[0]) {
        return base;
    }
    int root = open_in(base, c->sub, O_PATH | O_DIRECTORY);

    close(base);
    return root;
}

static int open_beneath(const struct call *c, const char *path, int flags)
{
    int root = c->err < 0 ? c->err : open_root(c);

    if (root < 0) {
        return root;
    }
    int fd = open_in(root, path, flags);

    close(root);
    return fd;
}

/* A name in an open folder. */
struct place {
    int dir;
    char name[NAME_MAX + 1];
};

/* Opens the parent. 0 (close p->dir) or -errno. */
static int find_place(const struct call *c, const char *path, struct place *p)
{
    char parent[PATH_MAX];
    size_t len = strlen(path);

    while (len > 0 && path[len - 1] == '/') {
        len--;
    }
    size_t start = len;

    while (start > 0 && path[start - 1] != '/') {
        start--;
    }
    size_t name_len = len - start;

    if (name_len == 0 || start >= sizeof(parent) || name_len > NAME_MAX) {
        return -EINVAL;
    }
    memcpy(p->name, path + start, name_len);
    p->name[name_len] = '\0';
    memcpy(parent, path, start);
    parent[start] = '\0';
    if (strcmp(p->name, ".") == 0 || strcmp(p->name, "..") == 0) {
        return -EINVAL;
    }
    p->dir = open_beneath(c, parent, O_PATH | O_DIRECTORY);
    return p->dir < 0 ? p->dir : 0;
}

/* ---- opening ---- */

/* O_NONBLOCK: a FIFO must not hold up anybody before it is refused. */
static void run_open(struct cs_blocking *b)
{
    struct call *c = call_of(b);

    if (c->err < 0) {
        return;
    }
    c->fd = c->anywhere ? open(c->path, c->flags | O_CLOEXEC | O_NOCTTY, 0666)
                        : open_beneath(c, c->path, c->flags | O_NONBLOCK | O_NOCTTY);
    if (c->fd < 0) {
        c->err = c->anywhere ? -errno : c->fd;
    } else {
        c->err = cs_file_check(&c->fd, c->anywhere);
    }
}

static int push_open(lua_State *L, struct cs_blocking *b)
{
    struct call *c = call_of(b);

    if (c->err < 0) {
        return cs_push_io_error(L, c->err);
    }
    cs_push_file(L, &c->fd);
    return 1;
}

static bool writes(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

static int io_open(lua_State *L)
{
    struct io *io = check_io(L);
    const char *path = check_path(L, 2);
    int flags = cs_check_file_mode(L, 3);
    struct call *c = new_call(L, io, path, "", writes(flags), run_open, push_open);

    c->flags = flags;
    return cs_blocking_call(L, "io:open");
}

struct cs_io_place cs_check_io_place(lua_State *L, int arg)
{
    const struct io *io = luaL_checkudata(L, arg, IO_TYPE);

    return (struct cs_io_place){io->base, io->sub};
}

int cs_io_open_file(struct cs_io_place place, const char *path)
{
    struct call c = {.base = place.base,
                     .sub = place.sub,
                     .path = path + strspn(path, "/"),
                     .flags = O_RDONLY,
                     .fd = -1};

    run_open(&c.b);
    return c.err < 0 ? c.err : c.fd;
}

/* ---- chunks ---- */

static void run_source(struct cs_blocking *b)
{
    struct call *c = call_of(b);

    run_open(b);
    if (c->err == 0) {
        c->err = cs_file_read(c->fd, SIZE_MAX, true, c->room, &c->bytes, &c->len);
    }
}

/* Pushes the chunk with environment argument 3 of the call, or nil and what is wrong. A first line
 * that begins with '#' is left out; its line feed stays, so that line numbers are right. */
static int push_chunk(lua_State *L, struct cs_blocking *b)
{
    const struct call *c = call_of(b);

    if (c->err < 0) {
        return cs_push_io_error(L, c->err);
    }
    const char *text = c->len > 0 ? c->bytes : "";
    size_t len = c->len;

    if (len > 0 && text[0] == '#') {
        const char *end = memchr(text, '\n', len);

        len = end ? len - (size_t)(end - text) : 0;
        text = end;
    }
    const char *name = lua_pushfstring(L, "@%s", c->path);

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

static int CS_RAISES load_file(lua_State *L, const char *what,
                               int (*push)(lua_State *, struct cs_blocking *))
{
    struct io *io = check_io(L);
    const char *path = check_path(L, 2);

    lua_settop(L, 3);
    new_call(L, io, path, "", false, run_source, push);
    return cs_blocking_call(L, what);
}

/* io:loadfile(path [, env]) */
static int io_loadfile(lua_State *L)
{
    return load_file(L, "io:loadfile", push_chunk);
}

static int dofile_k(lua_State *L, int status, lua_KContext base)
{
    (void)status;
    return lua_gettop(L) - (int)base;
}

static int push_dofile(lua_State *L, struct cs_blocking *b)
{
    int n = push_chunk(L, b);

    if (n == 2) { /* nil, the compiler's message */
        return lua_error(L);
    }
    if (n > 2) {
        return luaL_error(L, "cannot open %s: %s", lua_tostring(L, 2), lua_tostring(L, 1 - n));
    }
    return 1;
}

/* Upvalue: io.loadfile, but raising. The chunk is called outside of the blocking call. */
static int dofile_loaded(lua_State *L, int status, lua_KContext base)
{
    (void)status;
    lua_callk(L, 0, LUA_MULTRET, base, dofile_k);
    return dofile_k(L, LUA_OK, base);
}

static int io_load_or_raise(lua_State *L)
{
    return load_file(L, "io:dofile", push_dofile);
}

/* io:dofile(path [, env]): what the chunk returns. Raises what goes wrong, like dofile. */
static int io_dofile(lua_State *L)
{
    lua_settop(L, 3);
    lua_pushcfunction(L, io_load_or_raise);
    for (int i = 1; i <= 3; i++) {
        lua_pushvalue(L, i);
    }
    lua_callk(L, 3, 1, 3, dofile_loaded);
    return dofile_loaded(L, LUA_OK, 3);
}

/* ---- folders ---- */

/* One entry of a list: this, then the name with its zero. */
struct entry {
    int64_t mtime, size;
    bool is_dir;
};

static int add_entry(struct call *c, const struct entry *e, const char *name)
{
    size_t name_size = strlen(name) + 1, need = c->len + sizeof(*e) + name_size;

    if (need > c->size) {
        size_t size = CS_MAX(need, CS_MAX(2 * c->size, (size_t)4096));
        char *larger = size <= c->room ? cs_realloc(c->bytes, size) : NULL;

        if (!larger) {
            return -ENOMEM;
        }
        c->bytes = larger;
        c->size = size;
    }
    memcpy(c->bytes + c->len, e, sizeof(*e));
    memcpy(c->bytes + c->len + sizeof(*e), name, name_size);
    c->len = need;
    return 0;
}

/* The next entry but "." and "..", or NULL. */
static struct dirent *next_entry(DIR *dir)
{
    struct dirent *e;

    do {
        errno = 0;
        e = readdir(dir);
    } while (e && (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0));
    return e;
}

static int list(struct call *c, DIR *dir)
{
    struct dirent *d;
    int err = 0;

    while (err == 0 && (d = next_entry(dir)) != NULL) {
        struct entry e = {0}; /* stays so when it is removed meanwhile */
        struct stat st;

        if (c->details && fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            e = (struct entry){st.st_mtime, st.st_size, S_ISDIR(st.st_mode)};
        }
        err = add_entry(c, &e, d->d_name);
    }
    return err < 0 ? err : -errno;
}

static void run_files(struct cs_blocking *b)
{
    struct call *c = call_of(b);
    int fd = open_beneath(c, c->path, O_RDONLY | O_DIRECTORY);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    if (!dir) {
        c->err = fd < 0 ? fd : -errno;
        if (fd >= 0) {
            close(fd);
        }
        return;
    }
    c->err = list(c, dir);
    closedir(dir);
}

/* What the iterator walks over. */
struct list {
    char *bytes;
    size_t at, len;
    bool details;
};

static int list_gc(lua_State *L)
{
    struct list *l = luaL_checkudata(L, 1, LIST_TYPE);

    cs_free(l->bytes);
    *l = (struct list){0};
    return 0;
}

/* Upvalue: the list. name [, isdir, mtime, size] */
static int files_next(lua_State *L)
{
    struct list *l = lua_touserdata(L, lua_upvalueindex(1));
    struct entry e;

    if (l->at == l->len) {
        luaL_pushfail(L);
        return 1;
    }
    const char *name = l->bytes + l->at + sizeof(e);

    memcpy(&e, l->bytes + l->at, sizeof(e));
    lua_pushstring(L, name);
    l->at += sizeof(e) + strlen(name) + 1;
    if (!l->details) {
        return 1;
    }
    lua_pushboolean(L, e.is_dir);
    lua_pushinteger(L, e.mtime);
    lua_pushinteger(L, e.size);
    return 4;
}

static int push_files(lua_State *L, struct cs_blocking *b)
{
    struct call *c = call_of(b);
    int top = lua_gettop(L);

    if (c->err < 0) {
        (void)cs_push_io_error(L, c->err);
        lua_settop(L, top + 3); /* a fourth value would be the closing value of a `for` */
        return 3;
    }
    struct list *l = lua_newuserdatauv(L, sizeof(*l), 0);

    *l = (struct list){c->bytes, 0, c->len, c->details};
    c->bytes = NULL;
    luaL_setmetatable(L, LIST_TYPE);
    lua_pushcclosure(L, files_next, 1);
    return 1;
}

/* for name [, isdir, mtime, size] in io:files([path [, true]]) do: what is there at the call. */
static int io_files(lua_State *L)
{
    struct io *io = check_io(L);
    const char *path = lua_isnoneornil(L, 2) ? "" : check_path(L, 2);

    lua_settop(L, 3);
    struct call *c = new_call(L, io, path, "", false, run_files, push_files);

    c->details = lua_toboolean(L, 3);
    return cs_blocking_call(L, "io:files");
}

static void run_stat(struct cs_blocking *b)
{
    struct call *c = call_of(b);

    c->fd = open_beneath(c, c->path, O_PATH);
    c->err = c->fd < 0 ? c->fd : fstat(c->fd, &c->st) < 0 ? -errno : 0;
}

static const char *kind_name(mode_t mode)
{
    return S_ISREG(mode) ? "regular" : S_ISDIR(mode) ? "directory" : "other";
}

static int push_stat(lua_State *L, struct cs_blocking *b)
{
    const struct call *c = call_of(b);

    if (c->err < 0) {
        return cs_push_io_error(L, c->err);
    }
    const char *slash = strrchr(c->path, '/');

    lua_createtable(L, 0, 5);
    lua_pushstring(L, slash ? slash + 1 : c->path);
    lua_setfield(L, -2, "name");
    lua_pushinteger(L, (lua_Integer)c->st.st_mtime);
    lua_setfield(L, -2, "mtime");
    lua_pushinteger(L, (lua_Integer)c->st.st_size);
    lua_setfield(L, -2, "size");
    lua_pushboolean(L, S_ISDIR(c->st.st_mode));
    lua_setfield(L, -2, "isdir");
    lua_pushstring(L, kind_name(c->st.st_mode));
    lua_setfield(L, -2, "type");
    return 1;
}

static int io_stat(lua_State *L)
{
    new_call(L, check_io(L), check_path(L, 2), "", false, run_stat, push_stat);
    return cs_blocking_call(L, "io:stat");
}

/* Where it really is in the file system. */
static void run_realpath(struct cs_blocking *b)
{
    struct call *c = call_of(b);
    char link[64], real[PATH_MAX];

    c->fd = open_beneath(c, c->path, O_PATH);
    if (c->fd < 0) {
        c->err = c->fd;
        return;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", c->fd);
    ssize_t n = readlink(link, real, sizeof(real));

    c->bytes = n > 0 ? cs_strndup(real, (size_t)n) : NULL;
    c->len = n > 0 ? (size_t)n : 0;
    c->err = n < 0 ? -errno : c->bytes ? 0 : -ENOMEM;
}

static int push_text(lua_State *L, struct cs_blocking *b)
{
    const struct call *c = call_of(b);

    if (c->err < 0) {
        return cs_push_io_error(L, c->err);
    }
    lua_pushlstring(L, c->bytes, c->len);
    return 1;
}

static int io_realpath(lua_State *L)
{
    new_call(L, check_io(L), check_path(L, 2), "", false, run_realpath, push_text);
    return cs_blocking_call(L, "io:realpath");
}

/* ---- changing folders ---- */

static int make_folder(int dir, const char *name)
{
    return mkdirat(dir, name, 0777);
}

static int remove_folder(int dir, const char *name)
{
    return unlinkat(dir, name, AT_REMOVEDIR);
}

static int remove_file(int dir, const char *name)
{
    return unlinkat(dir, name, 0);
}

static void run_change(struct cs_blocking *b)
{
    struct call *c = call_of(b);
    struct place p;

    if (c->err == 0) {
        c->err = find_place(c, c->path, &p);
    }
    if (c->err == 0) {
        c->err = c->change(p.dir, p.name) < 0 ? -errno : 0;
        close(p.dir);
    }
}

static int CS_RAISES change(lua_State *L, const char *what, int (*f)(int dir, const char *name))
{
    struct call *c = new_call(L, check_io(L), check_path(L, 2), "", true, run_change, push_outcome);

    c->change = f;
    return cs_blocking_call(L, what);
}

static int io_mkdir(lua_State *L)
{
    return change(L, "io:mkdir", make_folder);
}

static int io_rmdir(lua_State *L)
{
    return change(L, "io:rmdir", remove_folder);
}

static int io_remove(lua_State *L)
{
    return change(L, "io:remove", remove_file);
}

static void run_rename(struct cs_blocking *b)
{
    struct call *c = call_of(b);
    struct place from, to;

    if (c->err == 0) {
        c->err = find_place(c, c->path, &from);
    }
    if (c->err < 0) {
        return;
    }
    c->err = find_place(c, c->to, &to);
    if (c->err == 0) {
        c->err = renameat(from.dir, from.name, to.dir, to.name) < 0 ? -errno : 0;
        close(to.dir);
    }
    close(from.dir);
}

static int io_rename(lua_State *L)
{
    struct io *io = check_io(L);

    new_call(L, io, check_path(L, 2), check_path(L, 3), true, run_rename, push_outcome);
    return cs_blocking_call(L, "io:rename");
}

/* ---- the objects ---- */

/* io:type(value): whether it is a handle of an open file of ours. io:type(), io:resourcetype():
 * "disk", "linux". */
static int io_type(lua_State *L)
{
    check_io(L);
    if (lua_gettop(L) > 1) {
        lua_pushboolean(L, cs_is_file(L, 2));
        return 1;
    }
    lua_pushliteral(L, "disk");
    lua_pushliteral(L, "linux");
    return 2;
}

/* The same folder, by its name. */
static int io_eq(lua_State *L)
{
    const struct io *a = luaL_testudata(L, 1, IO_TYPE), *b = luaL_testudata(L, 2, IO_TYPE);

    lua_pushboolean(L, a && b && strcmp(a->base, b->base) == 0 && strcmp(a->sub, b->sub) == 0);
    return 1;
}

static int io_tostring(lua_State *L)
{
    const struct io *io = check_io(L);

    lua_pushfstring(L, "io (%s%s%s)", io->base, io->sub[0] ? "/" : "", io->sub);
    return 1;
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

/* ba.io(): the io objects that ba.openio gives, by their names. */
static int ba_io(lua_State *L)
{
    static const char *const names[] = {"disk", "home", "vm"};

    lua_newtable(L);
    for (size_t i = 0; i < CS_ARRAY_LEN(names); i++) {
        lua_pushcfunction(L, ba_openio);
        lua_pushstring(L, names[i]);
        lua_call(L, 1, 1);
        lua_setfield(L, -2, names[i]);
    }
    return 1;
}

static void run_mkio(struct cs_blocking *b)
{
    struct call *c = call_of(b);

    c->fd = open_beneath(c, c->path, O_PATH | O_DIRECTORY);
    c->err = c->fd < 0 ? c->fd : 0;
}

static int push_mkio(lua_State *L, struct cs_blocking *b)
{
    const struct call *c = call_of(b);

    if (c->err < 0) {
        return cs_push_io_error(L, c->err);
    }
    lua_pushfstring(L, "%s%s%s", c->sub, c->sub[0] ? "/" : "", c->path);
    new_io(L, c->base, lua_tostring(L, -1));
    return 1;
}

/* ba.mkio(io, path): the same for a folder inside, which must exist. ba.mkio(path): for any folder
 * of the system. */
static int ba_mkio(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING && lua_isnone(L, 2)) {
        cs_push_io(L, lua_tostring(L, 1));
        return 1;
    }
    new_call(L, check_io(L), check_path(L, 2), "", false, run_mkio, push_mkio);
    return cs_blocking_call(L, "ba.mkio");
}

void cs_bind_io(lua_State *L)
{
    static const luaL_Reg methods[] = {{"open", io_open},     {"loadfile", io_loadfile},
                                       {"dofile", io_dofile}, {"files", io_files},
                                       {"stat", io_stat},     {"mkdir", io_mkdir},
                                       {"rmdir", io_rmdir},   {"remove", io_remove},
                                       {"rename", io_rename}, {"realpath", io_realpath},
                                       {"type", io_type},     {"resourcetype", io_type},
                                       {NULL, NULL}};

    static const luaL_Reg meta[] = {{"__eq", io_eq}, {"__tostring", io_tostring}, {NULL, NULL}};
    static const luaL_Reg list_meta[] = {{"__gc", list_gc}, {NULL, NULL}};

    cs_bind_blocking(L);
    cs_bind_type(L, IO_TYPE, meta, methods);
    cs_bind_type(L, LIST_TYPE, list_meta, NULL);
    cs_bind_io_file(L);

    lua_pushcfunction(L, ba_io);
    lua_setfield(L, -2, "io");
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
    struct call *c = new_call(L, NULL, path, "", writes(flags), run_open, push_open);

    c->flags = flags;
    c->anywhere = true;
    return cs_blocking_call(L, "io:open");
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
