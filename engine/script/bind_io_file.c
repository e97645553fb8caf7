/*
 * bind_io_file - file handles of the io objects: read, write, seek, flush, close. Not buffered:
 * what write has accepted is in the file.
 *
 * The calls on one file are made one after the other, whoever asks: lines that several coroutines
 * write do not mix, and a close comes behind what was asked before it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "script/bind.h"
#include "script/bind_io.h"

#define FILE_TYPE "io file"

/* What read() without argument takes at most. */
#define READ_SIZE 8192u

/* A longer read begins with this, so that a huge count costs only what is in the file. */
#define READ_PIECE 65536u

/* Lives until its descriptor is closed: the last call in its queue does that. */
struct file {
    struct cs_blocking close; /* first in here, because it is needed when there is no memory */
    struct cs_blocking_queue queue;
    int fd;
    int close_err;
};

/* The userdata: NULL once closed. */
struct handle {
    struct file *file;
};

/* ---- what others use ---- */

int cs_check_file_mode(lua_State *L, int arg)
{
    const char *mode = luaL_optstring(L, arg, "r");
    int flags = mode[0] == 'r'   ? 0
                : mode[0] == 'w' ? O_CREAT | O_TRUNC
                : mode[0] == 'a' ? O_CREAT | O_APPEND
                                 : -1;
    bool update = flags >= 0 && strchr(mode + 1, '+') != NULL;

    luaL_argcheck(L, flags >= 0 && strspn(mode + 1, "+b") == strlen(mode + 1), arg,
                  "mode must be \"r\", \"w\" or \"a\", with \"+\" or without");
    return flags | (update ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY);
}

int cs_file_check(int *fd, bool any_kind)
{
    struct stat st;
    int err = 0;

    if (fstat(*fd, &st) < 0) {
        err = -errno;
    } else if (S_ISDIR(st.st_mode)) {
        err = -EISDIR;
    } else if (!S_ISREG(st.st_mode) && !any_kind) {
        err = -EACCES;
    }
    if (err < 0) {
        close(*fd);
        *fd = -1;
    }
    return err;
}

int cs_push_io_error(lua_State *L, int err)
{
    switch (err) {
    case -EINVAL:
    case -ENAMETOOLONG:
        return cs_push_error_as(L, "invalidname", err);
    case -ENOTDIR:
        return cs_push_error_as(L, "notfound", err);
    case -EXDEV: /* out of the folder */
    case -ELOOP:
    case -EISDIR:
    case -EROFS:
    case -ENXIO: /* a FIFO without a reader */
    case -EBUSY:
    case -ETXTBSY:
        return cs_push_error_as(L, "noaccess", err);
    case -EDQUOT:
    case -EFBIG:
        return cs_push_error_as(L, "nospace", err);
    case -ENOSYS:
        return cs_push_error_as(L, "noimplementation", err);
    default:
        return cs_push_error(L, err);
    }
}

size_t cs_file_room(const struct cs_vm *vm)
{
    if (vm->memory_max == 0) {
        return SIZE_MAX;
    }
    return vm->memory_max > vm->memory ? vm->memory_max - vm->memory : 0;
}

/* As read(2), or -errno. */
static ssize_t read_once(int fd, char *buf, size_t size)
{
    ssize_t n;

    do {
        n = read(fd, buf, size);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* Makes room for more bytes behind the first len. The new size, or 0. */
static size_t grow(char **bytes, size_t len, size_t size, size_t max)
{
    size_t larger = CS_MIN(CS_MAX(2 * size, (size_t)READ_PIECE), max);
    char *p = len < larger ? cs_realloc(*bytes, larger) : NULL;

    if (!p) {
        return 0;
    }
    *bytes = p;
    return larger;
}

int cs_file_read(int fd, size_t max, bool whole, size_t room, char **bytes, size_t *len)
{
    size_t size = 0;
    ssize_t n = 1;

    *bytes = NULL;
    *len = 0;
    while (n > 0 && *len < max) {
        if (*len == size) {
            size = grow(bytes, *len, size, CS_MIN(max, room));
            if (size == 0) {
                n = -ENOMEM;
                break;
            }
        }
        n = read_once(fd, *bytes + *len, size - *len);
        *len += n > 0 ? (size_t)n : 0;
        if (!whole) {
            break;
        }
    }
    if (n < 0) {
        cs_free(*bytes);
        *bytes = NULL;
        *len = 0;
    }
    return n < 0 ? (int)n : 0;
}

/* ---- files and handles ---- */

static void file_free(struct cs_blocking *b)
{
    cs_free(cs_container_of(b, struct file, close));
}

static void run_close(struct cs_blocking *b)
{
    struct file *f = cs_container_of(b, struct file, close);

    f->close_err = close(f->fd) < 0 && errno != EINTR ? -errno : 0;
}

/* A late write error of a network file system. */
static int push_closed(lua_State *L, struct cs_blocking *b)
{
    const struct file *f = cs_container_of(b, struct file, close);

    if (f->close_err < 0) {
        return cs_push_io_error(L, f->close_err);
    }
    lua_pushboolean(L, true);
    return 1;
}

void cs_push_file(lua_State *L, int *fd)
{
    struct handle *h = lua_newuserdatauv(L, sizeof(*h), 0);

    h->file = NULL;
    luaL_setmetatable(L, FILE_TYPE);
    struct file *f = cs_zalloc(sizeof(*f));

    if (!f) {
        luaL_error(L, "not enough memory");
        return;
    }
    f->close = (struct cs_blocking){
        .run = run_close, .push = push_closed, .drop = file_free, .queue = &f->queue};
    cs_blocking_queue_init(&f->queue);
    f->fd = *fd;
    *fd = -1;
    h->file = f;
}

bool cs_is_file(lua_State *L, int arg)
{
    const struct handle *h = luaL_testudata(L, arg, FILE_TYPE);

    return h && h->file;
}

static struct file *CS_RAISES check_open(lua_State *L)
{
    struct handle *h = luaL_checkudata(L, 1, FILE_TYPE);

    luaL_argcheck(L, h->file, 1, "attempt to use a closed file");
    return h->file;
}

/* The same for a new call, whose owner is pushed: making it may run a finalizer that closes the
 * file. */
static struct file *CS_RAISES open_for_call(lua_State *L, struct cs_blocking ***owner)
{
    luaL_checkudata(L, 1, FILE_TYPE);
    *owner = cs_blocking_push(L);
    return check_open(L);
}

/* A second call is harmless. */
static int file_close(lua_State *L)
{
    struct handle *h = luaL_checkudata(L, 1, FILE_TYPE);
    bool waits = h->file && cs_blocking_possible(L, &h->file->queue);
    struct cs_blocking **owner = waits ? cs_blocking_push(L) : NULL;
    struct file *f = h->file; /* a finalizer may have closed it meanwhile */

    if (!f) {
        lua_pushboolean(L, true);
        return 1;
    }
    if (!waits) {
        h->file = NULL;
        cs_blocking_spawn(cs_vm_of(L), &f->close);
        lua_pushboolean(L, true);
        return 1;
    }
    *owner = &f->close;
    h->file = NULL;
    return cs_blocking_call(L, "close");
}

static int file_gc(lua_State *L)
{
    struct handle *h = luaL_checkudata(L, 1, FILE_TYPE);
    struct file *f = h->file;

    h->file = NULL;
    if (f) {
        cs_blocking_spawn(cs_vm_of(L), &f->close);
    }
    return 0;
}

/* ---- reading ---- */

struct part {
    size_t max;
    bool whole; /* as many as there are, else what one call gives */
    bool end;   /* nothing was left */
    char *bytes;
    size_t len;
};

struct reading {
    struct cs_blocking b;
    int fd;
    int err;
    size_t room;
    unsigned count; /* of parts */
    struct part parts[];
};

/* read(0): whether something is left. */
static int look(int fd, bool *end)
{
    struct stat st;
    off_t at = lseek(fd, 0, SEEK_CUR);

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    *end = at >= st.st_size;
    return 0;
}

static int read_part(struct reading *r, struct part *p)
{
    if (p->max == 0) {
        return look(r->fd, &p->end);
    }
    int err = cs_file_read(r->fd, p->max, p->whole, r->room, &p->bytes, &p->len);

    p->end = p->len == 0;
    r->room -= CS_MIN(p->len, r->room);
    return err;
}

static void run_read(struct cs_blocking *b)
{
    struct reading *r = cs_container_of(b, struct reading, b);
    bool end = false;

    for (unsigned i = 0; i < r->count && r->err == 0 && !end; i++) {
        r->err = read_part(r, &r->parts[i]);
        end = r->parts[i].end;
    }
}

/* A string for each, or nil at the end of the file, where it stops. */
static int push_read(lua_State *L, struct cs_blocking *b)
{
    const struct reading *r = cs_container_of(b, struct reading, b);

    if (r->err < 0) {
        return cs_push_io_error(L, r->err);
    }
    luaL_checkstack(L, (int)r->count + LUA_MINSTACK, "too many formats");
    for (unsigned i = 0; i < r->count; i++) {
        const struct part *p = &r->parts[i];

        if (p->end) {
            luaL_pushfail(L);
            return (int)i + 1;
        }
        lua_pushlstring(L, p->bytes ? p->bytes : "", p->len);
    }
    return (int)r->count;
}

static void reading_free(struct cs_blocking *b)
{
    struct reading *r = cs_container_of(b, struct reading, b);

    for (unsigned i = 0; i < r->count; i++) {
        cs_free(r->parts[i].bytes);
    }
    cs_free(r);
}

static struct part CS_RAISES check_format(lua_State *L, int arg)
{
    if (lua_type(L, arg) == LUA_TNUMBER) {
        lua_Integer n = cs_check_number(L, arg);

        luaL_argcheck(L, n >= 0, arg, "count must not be negative");
        return (struct part){.max = (size_t)n, .whole = true};
    }
    const char *format = luaL_checkstring(L, arg);

    luaL_argcheck(L, strcmp(format, "a") == 0 || strcmp(format, "*a") == 0, arg,
                  "a count or \"a\" expected");
    return (struct part){.max = SIZE_MAX, .whole = true};
}

/* fh:read([n | "a" ...]) */
static int file_read(lua_State *L)
{
    int last = lua_gettop(L);
    unsigned count = last <= 1 ? 1 : (unsigned)last - 1;
    struct cs_blocking **owner;
    struct file *f = open_for_call(L, &owner);
    struct reading *r = cs_zalloc(sizeof(*r) + count * sizeof(r->parts[0]));

    if (!r) {
        return luaL_error(L, "not enough memory");
    }
    r->b = (struct cs_blocking){
        .run = run_read, .push = push_read, .drop = reading_free, .queue = &f->queue};
    r->fd = f->fd;
    r->room = cs_file_room(cs_vm_of(L));
    r->count = count;
    *owner = &r->b;
    r->parts[0] = (struct part){.max = READ_SIZE};
    for (int arg = 2; arg <= last; arg++) {
        r->parts[arg - 2] = check_format(L, arg);
    }
    return cs_blocking_call(L, "read");
}

/* ---- writing and the rest ---- */

struct writing {
    struct cs_blocking b;
    int fd;
    int err;
    size_t len;
    char bytes[]; /* a copy: the strings may be collected when the task is ended */
};

static void run_write(struct cs_blocking *b)
{
    struct writing *w = cs_container_of(b, struct writing, b);

    w->err = cs_fd_write_all(w->fd, w->bytes, w->len);
}

static int push_written(lua_State *L, struct cs_blocking *b)
{
    const struct writing *w = cs_container_of(b, struct writing, b);

    if (w->err < 0) {
        return cs_push_io_error(L, w->err);
    }
    lua_pushboolean(L, true);
    return 1;
}

static void writing_free(struct cs_blocking *b)
{
    cs_free(cs_container_of(b, struct writing, b));
}

static int file_write(lua_State *L)
{
    int last = lua_gettop(L);
    size_t total = 0, len;

    for (int arg = 2; arg <= last; arg++) {
        cs_check_bytes(L, arg, &len);
        total += len;
    }
    struct cs_blocking **owner;
    struct file *f = open_for_call(L, &owner);
    struct writing *w = cs_alloc(sizeof(*w) + total);

    if (!w) {
        return luaL_error(L, "not enough memory");
    }
    *w = (struct writing){
        .b = {.run = run_write, .push = push_written, .drop = writing_free, .queue = &f->queue},
        .fd = f->fd};
    *owner = &w->b;
    for (int arg = 2; arg <= last; arg++) {
        const char *data = lua_tolstring(L, arg, &len);

        memcpy(w->bytes + w->len, data, len);
        w->len += len;
    }
    return cs_blocking_call(L, "write");
}

struct seeking {
    struct cs_blocking b;
    int fd, whence;
    off_t offset, at;
};

static void run_seek(struct cs_blocking *b)
{
    struct seeking *s = cs_container_of(b, struct seeking, b);

    s->at = lseek(s->fd, s->offset, s->whence);
    s->at = s->at < 0 ? -errno : s->at;
}

/* An error: before the beginning of the file. */
static int push_place(lua_State *L, struct cs_blocking *b)
{
    const struct seeking *s = cs_container_of(b, struct seeking, b);

    if (s->at < 0) {
        return cs_push_error(L, (int)s->at);
    }
    lua_pushinteger(L, (lua_Integer)s->at);
    return 1;
}

static void seeking_free(struct cs_blocking *b)
{
    cs_free(cs_container_of(b, struct seeking, b));
}

/* fh:seek(pos), or as in Lua fh:seek([whence [, offset]]): the new position. */
static int file_seek(lua_State *L)
{
    static const char *const names[] = {"set", "cur", "end", NULL};
    static const int values[] = {SEEK_SET, SEEK_CUR, SEEK_END};
    bool absolute = lua_type(L, 2) == LUA_TNUMBER;
    int whence = absolute ? SEEK_SET : values[luaL_checkoption(L, 2, "cur", names)];
    int arg = absolute ? 2 : 3;
    lua_Integer offset = lua_isnoneornil(L, arg) ? 0 : cs_check_number(L, arg);
    struct cs_blocking **owner;
    struct file *f = open_for_call(L, &owner);
    struct seeking *s = cs_alloc(sizeof(*s));

    if (!s) {
        return luaL_error(L, "not enough memory");
    }
    *s = (struct seeking){
        .b = {.run = run_seek, .push = push_place, .drop = seeking_free, .queue = &f->queue},
        .fd = f->fd,
        .whence = whence,
        .offset = (off_t)offset};
    *owner = &s->b;
    return cs_blocking_call(L, "seek");
}

static int file_flush(lua_State *L)
{
    check_open(L);
    lua_pushboolean(L, true);
    return 1;
}

static int file_tostring(lua_State *L)
{
    const struct handle *h = luaL_checkudata(L, 1, FILE_TYPE);

    if (!h->file) {
        lua_pushliteral(L, "io file (closed)");
    } else {
        lua_pushfstring(L, "io file (%p)", (const void *)h);
    }
    return 1;
}

void cs_bind_io_file(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__gc", file_gc}, {"__close", file_close}, {"__tostring", file_tostring}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"read", file_read},   {"write", file_write},
                                       {"seek", file_seek},   {"flush", file_flush},
                                       {"close", file_close}, {NULL, NULL}};

    cs_bind_type(L, FILE_TYPE, meta, methods);
}
