/*
 * blocking - system calls that may take long (files), made by a helper thread while the task that
 * asked for them waits.
 *
 * A binding puts what it asks for into a struct that embeds cs_blocking, and hands it to a userdata
 * at once, so that no error can lose it. `run` sees that struct and nothing else: no Lua, no object
 * of the engine. Where the task cannot wait (the top level of a required module, a finalizer, a
 * state that is stopping), `run` is called in place.
 */
#ifndef CS_SCRIPT_BLOCKING_H
#define CS_SCRIPT_BLOCKING_H

#include "ring/work.h"
#include "script/task.h"

struct cs_blocking;

/* What is done in it is done one after the other, in the order of the calls (a file's). */
struct cs_blocking_queue {
    struct cs_list waiting;
    struct cs_blocking *running;
};

struct cs_blocking {
    void (*run)(struct cs_blocking *b);               /* on any thread */
    int (*push)(lua_State *L, struct cs_blocking *b); /* the results; may raise */
    void (*drop)(struct cs_blocking *b);              /* frees it with all it holds */
    struct cs_blocking_queue *queue;                  /* NULL: none. Stays until drop */
    /* The rest is blocking.c's. */
    struct cs_work work;
    struct cs_works *works;
    struct cs_list node; /* in queue->waiting */
    struct cs_task *task;
    bool busy;   /* waits for its turn, or with a helper */
    bool orphan; /* nobody waits and no userdata owns it: dropped when it is over */
};

/* Once a VM. */
CS_RAISES void cs_bind_blocking(lua_State *L);

void cs_blocking_queue_init(struct cs_blocking_queue *q);

/* Pushes the userdata that will own a call: store its address there. */
CS_RAISES struct cs_blocking **cs_blocking_push(lua_State *L);

/* `return cs_blocking_call(L, "io:open")` with that userdata on top: runs it and gives its results.
 * Raises, with the name, where it would have to wait behind others and cannot. */
CS_RAISES int cs_blocking_call(lua_State *L, const char *what);

/* False where cs_blocking_call would raise. */
bool cs_blocking_possible(lua_State *L, const struct cs_blocking_queue *q);

/* Runs it without anybody who waits; then it is dropped. Cannot fail. */
void cs_blocking_spawn(struct cs_vm *vm, struct cs_blocking *b);

#endif
