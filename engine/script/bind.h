/*
 * bind - what the files that bind the API share: argument checks and results as ba-api.md wants
 * them.
 */
#ifndef CS_SCRIPT_BIND_H
#define CS_SCRIPT_BIND_H

#include <lauxlib.h>
#include <lua.h>

#include "base/err.h"
#include "script/task.h"

/* Each adds its functions to the `ba` table on top of the stack (and to globals where documented).
 */
CS_RAISES void cs_bind_socket(lua_State *L);    /* ba.socket */
CS_RAISES void cs_bind_udp(lua_State *L);       /* ba.socket.udpcon (ba.socket is made before) */
CS_RAISES void cs_bind_relay(lua_State *L);     /* ba.socket.relay (likewise) */
CS_RAISES void cs_bind_websocket(lua_State *L); /* ba.socket.websocket (likewise) */
CS_RAISES void cs_bind_shark(lua_State *L);     /* ba.create.sharkssl, ba.sharkclient */
CS_RAISES void cs_bind_pack(lua_State *L);      /* ba.socket.h2n n2h fh2n fn2h (likewise) */
CS_RAISES void cs_bind_http(lua_State *L);      /* ba.http (likewise) */
CS_RAISES void cs_bind_thread(lua_State *L);    /* ba.thread, ba.sleep */
CS_RAISES void cs_bind_timer(lua_State *L);     /* ba.timer, ba.clock */
CS_RAISES void cs_bind_bytearray(lua_State *L);
CS_RAISES void cs_bind_text(lua_State *L); /* ba.b64encode ... urldecode, mime, cmpaddr, version */
CS_RAISES void cs_bind_random(lua_State *L);    /* ba.rnd ... rndseed */
CS_RAISES void cs_bind_crypto(lua_State *L);    /* ba.crypto */
CS_RAISES void cs_bind_json(lua_State *L);      /* ba.json */
CS_RAISES void cs_bind_date(lua_State *L);      /* ba.datetime, ba.parsedate, ba.encdate */
CS_RAISES void cs_bind_errh(lua_State *L);      /* ba.seterrh */
CS_RAISES void cs_bind_library(lua_State *L);   /* what is written in Lua */
CS_RAISES void cs_bind_absent(lua_State *L);    /* what says by name that it is not there */
CS_RAISES void cs_bind_io(lua_State *L);        /* ba.openio, ba.mkio, the io objects */
CS_RAISES void cs_bind_cert(lua_State *L);      /* ba.create with certificates, ba.parsecert */
CS_RAISES void cs_bind_luasocket(lua_State *L); /* the global sockcompat */
CS_RAISES void cs_bind_mime(lua_State *L);      /* the global mime */
CS_RAISES void cs_bind_trace(lua_State *L);     /* trace, tracep, print to the log in services */

/* Makes the metatable `name` for luaL_checkudata: its metamethods, and with `methods` (or NULL)
 * a table of them as __index. Leaves nothing on the stack. */
CS_RAISES void cs_bind_type(lua_State *L, const char *name, const luaL_Reg *meta,
                            const luaL_Reg *methods);

/* A table in the registry at `key`; mode: "k", "v" makes it weak, NULL does not. */
CS_RAISES void cs_bind_table(lua_State *L, const void *key, const char *mode);

/* The string of the B.8 table for a code of err.h: "timeout", "socketclosed" ... */
const char *cs_error_string(int err);

/* Pushes nil, string [, "ECONNREFUSED", "connection refused"]: the system's error where there is
 * one. Returns the number of values. */
int cs_push_error(lua_State *L, int err);
int cs_push_error_as(lua_State *L, const char *string, int err);

/* A number of milliseconds (floats are truncated; NaN, infinities and negative ones raise, naming
 * the argument). */
CS_RAISES int64_t cs_check_ms(lua_State *L, int arg);

/* The bytes of a string, a number or a bytearray (its window), which becomes a string in place. */
CS_RAISES const char *cs_check_bytes(lua_State *L, int arg, size_t *len);

/* Any integral or float number, truncated; NaN and infinities raise. */
CS_RAISES lua_Integer cs_check_number(lua_State *L, int arg);

CS_RAISES uint16_t cs_check_port(lua_State *L, int arg);

/* An address of this machine: a literal one, or that of a named interface. 0 or -ENODEV ... */
CS_MUST_CHECK int cs_local_addr(const char *intf, bool ipv6, uint16_t port, struct cs_addr *out);

/* Fields of an option table: absent or nil gives the default; a wrong type raises with the field's
 * name. A `table` that is not a table has no fields. */
CS_RAISES bool cs_opt_bool(lua_State *L, int table, const char *field, bool otherwise);
CS_RAISES lua_Integer cs_opt_number(lua_State *L, int table, const char *field,
                                    lua_Integer otherwise);
/* Points into the Lua string: valid during the call. */
CS_RAISES const char *cs_opt_string(lua_State *L, int table, const char *field);

/* The value on top is the option of a call: one that a function of the table's metatable has made
 * would be gone before the call has used it. */
CS_RAISES void cs_keep_option(lua_State *L, int table);

#endif
