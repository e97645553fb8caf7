/*
 * bind_json - what the two files of ba.json share.
 */
#ifndef CS_SCRIPT_BIND_JSON_H
#define CS_SCRIPT_BIND_JSON_H

#include "script/bind.h"

/* ba.json.null */
void cs_push_json_null(lua_State *L);

/* ---- bind_json_encode.c ---- */

/* Adds encode and encodestr to the table on top. */
CS_RAISES void cs_bind_json_encode(lua_State *L);

#endif
