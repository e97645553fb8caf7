/*
 * bind_io_file - file handles of the io objects: read, write, seek, flush, close. Not buffered:
 * what write has accepted is in the file.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "script/bind.h"
#include "script/bind_io.h"

#define FILE_TYPE "io file"

/* What read() without argument takes at most. */
#define READ_SIZE 8192u

/* A longer read is done in pieces of this, so that a huge count costs only what is in the file. */
#define READ_PIECE 65536u

/* The descriptor is the whole userdata: -1 once closed. */
int *cs_push_file(lua_State *L)
{
    int *fd = lua_newuserdatauv(L, sizeof(*fd), 0);

    *fd = -1;
    luaL_setmetatable(L, FILE_TYPE);
    return fd;
}

static int CS_RAISES check_open(lua_State *L)
{
    int fd = *(int *)luaL_checkudata(L, 1, FILE_TYPE);

    luaL_argcheck(L, fd >= 0, 1, "attempt to use a closed file");
    return fd;
}

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

/* ---- reading ---- */

/* As read(2), or -errno. */
static ssize_t read_once(int fd, char *buf, size_t size)
{
    ssize_t n;

    do {
        n = read(fd, buf, size);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* Pushes up to `max` bytes, nil at the end of the file; whole: as many as there are, else what one
 * call gives. 0 or -errno with nothing pushed that counts. */
static int CS_RAISES read_bytes(lua_State *L, int fd, size_t max, bool whole)
{
    luaL_Buffer b;
    size_t total = 0;
    ssize_t n = 0;

    luaL_buffinit(L, &b);
    while (total < max) {
        size_t piece = CS_MIN(max - total, (size_t)READ_PIECE);

        n = read_once(fd, luaL_prepbuffsize(&b, piece), piece);
        if (n <= 0) {
            break;
        }
        luaL_addsize(&b, (size_t)n);
        total += (size_t)n;
        if (!whole) {
            break;
        }
    }
    luaL_pushresult(&b);
    if (n < 0) {
        return (int)n;
    }
    if (total == 0) {
        luaL_pushfail(L);
        lua_remove(L, -2);
    }
    return 0;
}

/* read(0): an empty string, or nil at the end of the file. */
static int CS_RAISES read_nothing(lua_State *L, int fd)
{
    struct stat st;
    off_t at = lseek(fd, 0, SEEK_CUR);

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    if (at < st.st_size) {
        lua_pushliteral(L, "");
    } else {
        luaL_pushfail(L);
    }
    return 0;
}

int cs_file_read_all(lua_State *L, int fd)
{
    int top = lua_gettop(L);
    int err = read_bytes(L, fd, SIZE_MAX, true);

    if (err == 0 && lua_isnil(L, -1)) {
        lua_pushliteral(L, "");
        lua_remove(L, -2);
    } else if (err < 0) {
        lua_settop(L, top);
    }
    return err;
}

static int CS_RAISES read_format(lua_State *L, int fd, int arg)
{
    if (lua_type(L, arg) == LUA_TNUMBER) {
        lua_Integer n = cs_check_number(L, arg);

        luaL_argcheck(L, n >= 0, arg, "count must not be negative");
        return n == 0 ? read_nothing(L, fd) : read_bytes(L, fd, (size_t)n, true);
    }
    const char *format = luaL_checkstring(L, arg);

    luaL_argcheck(L, strcmp(format, "a") == 0 || strcmp(format, "*a") == 0, arg,
                  "a count or \"a\" expected");
    return read_bytes(L, fd, SIZE_MAX, true);
}

/* fh:read([n | "a" ...]): a string for each, or nil at the end of the file. */
static int file_read(lua_State *L)
{
    int fd = check_open(L);
    int last = lua_gettop(L);
    int err = 0;

    if (last == 1) {
        err = read_bytes(L, fd, READ_SIZE, false);
    }
    luaL_checkstack(L, last + LUA_MINSTACK, "too many formats");
    for (int arg = 2; err == 0 && arg <= last; arg++) {
        err = read_format(L, fd, arg);
        if (err == 0 && lua_isnil(L, -1)) {
            break;
        }
    }
    return err < 0 ? cs_push_io_error(L, err) : lua_gettop(L) - last;
}

/* ---- writing and the rest ---- */

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

static int file_write(lua_State *L)
{
    int fd = check_open(L);
    int last = lua_gettop(L);

    for (int arg = 2; arg <= last; arg++) {
        size_t len;
        const char *data = luaL_checklstring(L, arg, &len);
        int err = write_all(fd, data, len);

        if (err < 0) {
            return cs_push_io_error(L, err);
        }
    }
    lua_pushboolean(L, true);
    return 1;
}

/* fh:seek(pos), or as in Lua fh:seek([whence [, offset]]): the new position. */
static int file_seek(lua_State *L)
{
    static const char *const names[] = {"set", "cur", "end", NULL};
    static const int values[] = {SEEK_SET, SEEK_CUR, SEEK_END};
    int fd = check_open(L);
    bool absolute = lua_type(L, 2) == LUA_TNUMBER;
    int whence = absolute ? SEEK_SET : values[luaL_checkoption(L, 2, "cur", names)];
    int arg = absolute ? 2 : 3;
    lua_Integer offset = lua_isnoneornil(L, arg) ? 0 : cs_check_number(L, arg);
    off_t at = lseek(fd, (off_t)offset, whence);

    if (at < 0) { /* before the beginning of the file */
        return cs_push_error(L, -errno);
    }
    lua_pushinteger(L, (lua_Integer)at);
    return 1;
}

static int file_flush(lua_State *L)
{
    check_open(L);
    lua_pushboolean(L, true);
    return 1;
}

/* Also __gc and __close. A second call is harmless. */
static int file_close(lua_State *L)
{
    int *fd = luaL_checkudata(L, 1, FILE_TYPE);
    int was = *fd;

    *fd = -1;
    if (was >= 0 && close(was) < 0 && errno != EINTR) {
        return cs_push_io_error(L, -errno); /* a late write error of a network file system */
    }
    lua_pushboolean(L, true);
    return 1;
}

static int file_tostring(lua_State *L)
{
    const int *fd = luaL_checkudata(L, 1, FILE_TYPE);

    if (*fd < 0) {
        lua_pushliteral(L, "io file (closed)");
    } else {
        lua_pushfstring(L, "io file (%p)", (const void *)fd);
    }
    return 1;
}

void cs_bind_io_file(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__gc", file_close}, {"__close", file_close}, {"__tostring", file_tostring}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"read", file_read},   {"write", file_write},
                                       {"seek", file_seek},   {"flush", file_flush},
                                       {"close", file_close}, {NULL, NULL}};

    luaL_newmetatable(L, FILE_TYPE);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
