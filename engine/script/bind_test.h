/*
 * bind_test - what `cosockd test` needs of the engine besides the API.
 */
#ifndef CS_SCRIPT_BIND_TEST_H
#define CS_SCRIPT_BIND_TEST_H

#include <lua.h>

#include "script/vm.h"

/* Pushes the runner (test.lua) as a function; as lua_load otherwise. */
CS_RAISES int cs_test_load_runner(lua_State *L);

/* Pushes its first argument: a table of
 *   tasks()    {[coroutine] = "cosocket in read at x.lua:12"} of all tasks
 *   counts()   sockets, listeners, relays and timers of this VM, as numbers
 *   kill(co)   ends the job or cosocket of that coroutine, which waits */
CS_RAISES void cs_test_push_engine(lua_State *L);

#endif
