/*
 * bind_io - the io objects of ba-api C.4: a folder and what lies below it. No path of a script
 * leads out of it, neither by "..", nor as an absolute one, nor through a symbolic link.
 *
 * Calls that look at the disk are made by helper threads (blocking.h). An io object holds no
 * descriptor, only the folder's path.
 */
#ifndef CS_SCRIPT_BIND_IO_H
#define CS_SCRIPT_BIND_IO_H

#include <sys/types.h>

#include "script/blocking.h"
#include "script/vm.h"

/* Pushes an io object for a folder; it need not exist yet (its calls give "notfound" until it
 * does). dir may be NULL: an io object in which nothing is ever found. */
CS_RAISES void cs_push_io(lua_State *L, const char *dir);

/* Script mode: Lua's io stays; io:open(path [, mode]), as a method, opens any file of the system
 * and gives a file handle of ours, whose read() takes a buffer's worth. */
CS_RAISES void cs_io_open_script_mode(lua_State *L);

/* With -t nothing is written: what makes, changes or removes a file says that the file system is
 * read-only. This is for Lua's own io and os; io objects look by themselves. Before the function
 * above. */
CS_RAISES void cs_io_read_only(lua_State *L);

/* For bindings that read a file themselves: the folder of the io object at `arg`. The strings are
 * the object's. Raises when that is no io object. */
struct cs_io_place {
    const char *base, *sub;
};
CS_RAISES struct cs_io_place cs_check_io_place(lua_State *L, int arg);

/* Opens a regular file there for reading, on any thread. The caller's descriptor, or -errno. */
CS_MUST_CHECK int cs_io_open_file(struct cs_io_place place, const char *path);

/* ---- bind_io_file.c ---- */

/* For the metatable of the handles; once a VM. */
CS_RAISES void cs_bind_io_file(lua_State *L);

/* Pushes a file handle, which gets the descriptor: *fd is -1 then. */
CS_RAISES void cs_push_file(lua_State *L, int *fd);

/* Whether the value is a handle of an open file. */
bool cs_is_file(lua_State *L, int arg);

/* open(2)'s flags for "r", "w", "a" with "+" and "b"; raises for anything else. */
CS_RAISES int cs_check_file_mode(lua_State *L, int arg);

/* After open: 0, or -errno with the descriptor closed. Scripts get regular files only, because
 * others can make the caller wait; any_kind: devices too. */
CS_MUST_CHECK int cs_file_check(int *fd, bool any_kind);

/* Reads up to `max` bytes (whole: as many as there are; else what one call gives) into memory of
 * cs_alloc, at most `room`. 0, or -errno with nothing to free. */
CS_MUST_CHECK int cs_file_read(int fd, size_t max, bool whole, size_t room, char **bytes,
                               size_t *len);

/* Bytes that the scripts may still use: room for cs_file_read. */
size_t cs_file_room(const struct cs_vm *vm);

/* nil, string, "ENAME" for an error of a file call. */
CS_RAISES int cs_push_io_error(lua_State *L, int err);

#endif
