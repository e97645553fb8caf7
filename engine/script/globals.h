/*
 * globals - what `-t` says about names that a script reads and nobody defines; the work is done in
 * globals.lua, on what Lua's compiler makes of the script.
 */
#ifndef CS_SCRIPT_GLOBALS_H
#define CS_SCRIPT_GLOBALS_H

#include "script/conf.h"
#include "script/vm.h"

/* Looks at the chunk on top of the stack, which stays; its environment is its first upvalue. file:
 * for messages. From the first call on modules are looked at too, when they are loaded. */
CS_RAISES void cs_globals_note(lua_State *L, const char *file);

/* After the chunks have run: adds "FILE:LINE: undefined global 'x'" for each. */
void cs_globals_report(struct cs_vm *vm, struct cs_errors *errors);

#endif
