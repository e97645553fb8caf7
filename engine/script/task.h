/*
 * task - a coroutine the engine schedules, and the only place that resumes one.
 *
 *   READY ──run──▶ RUNNING ──park──▶ PARKED ──wake──▶ READY ...      RUNNING ──return/error──▶ DONE
 *
 * A binding that has to wait registers the task with whatever it waits for and returns
 * cs_task_park(...). Whatever it waits for calls cs_task_wake; the script phase then resumes the
 * coroutine and the binding's continuation builds its results inside that resume, where a memory
 * error is an ordinary error of the script.
 *
 * Coroutines that a script makes inside a task belong to the same task: our coroutine.resume and
 * wrap hand a park outwards (task.c, "nested coroutines").
 *
 * What keeps a task alive: the VM's live table, except while it is suspended in its own disable();
 * then only its socket's user value does, and both may be collected (ba-api A.4).
 */
#ifndef CS_SCRIPT_TASK_H
#define CS_SCRIPT_TASK_H

#include "base/timer.h"
#include "script/vm.h"

struct cs_sock;

enum cs_task_kind {
    CS_TASK_COSOCKET, /* ba.socket.event, sock:event(f,"s"): every wait suspends */
    CS_TASK_ASYNC,    /* sock:event(f,"r"): not "a cosocket" to the API */
    CS_TASK_JOB,      /* ba.thread.run */
    CS_TASK_TIMER,    /* ba.timer callback */
    CS_TASK_ON_CLOSE, /* a relay's function */
    CS_TASK_STARTUP,  /* the chunk of a service or script */
};

/* What a parked task waits for, as sock:state() names it. */
enum cs_wait {
    CS_WAIT_NONE,
    CS_WAIT_READ,
    CS_WAIT_WRITE,
    CS_WAIT_CONNECT,
    CS_WAIT_ACCEPT,
    CS_WAIT_DISABLE,
    CS_WAIT_TLS, /* for the end of a handshake */
    CS_WAIT_RELAY,
    CS_WAIT_FILE, /* for a helper thread (blocking.h): ends by itself */
};

enum cs_task_state { CS_TASK_READY, CS_TASK_RUNNING, CS_TASK_PARKED, CS_TASK_DONE };

/* What the one who started a task is told. */
struct cs_task_hooks {
    /* Once, when the coroutine has ended; err 0 or CS_ESCRIPT. The results, if any, are on top of
     * co. Then the task is freed. NULL: nobody. */
    void (*ended)(struct cs_task *t, int err);
    /* A plain coroutine.yield of the task's own function, its args values on top of co: the hook
     * takes them off. The task is then PARKED until cs_task_wake. NULL: such a yield is an error.
     */
    void (*yielded)(struct cs_task *t);
    /* What an error of the task is about, for the log: " peer=192.0.2.1:80". buf: 128 bytes. NULL:
     * nothing more to say. */
    void (*about)(const struct cs_task *t, char *buf, size_t size);
};

struct cs_task {
    struct cs_list node; /* in vm->ready, vm->held, or the list of what it waits for */
    struct cs_list all;
    struct cs_vm *vm;
    lua_State *co;
    union {
        struct cs_sock *sock; /* of COSOCKET and ASYNC: whose coroutine this is, or NULL */
        void *starter;        /* of the other kinds: of whoever set hooks; stays */
    };
    enum cs_task_kind kind : 8;
    enum cs_task_state state : 8;
    enum cs_wait waiting : 8; /* set by the binding before it parks; NONE again when it runs */
    bool collectable;         /* not in the live table now */
    uint8_t streak;           /* calls answered without a suspension in this slice */
    int16_t wake;             /* why the last wait ended: 0 or a code of err.h (CS_ETIMEOUT, ...) */
    int live_ref;
    int args;                 /* values on co's stack for the next resume */
    const char *name;         /* of the service whose code it runs; inherited from its maker */
    struct cs_timer *timeout; /* of the current wait; made when first needed */
    /* Takes the task off whatever it waits for, when the wait ends for another reason (time-out,
     * stop). NULL while it is not parked, or when there is nothing to take it off. Whoever wakes it
     * may set it for the case that it is ended before it runs. */
    void (*leave)(struct cs_task *t);
    const struct cs_task_hooks *hooks; /* NULL: nobody is told */
    void *user;                        /* of whoever set leave: every wait sets it anew */
};

/* There are two for every tunnel that Lua holds; 112 bytes are a size class of the allocator. */
_Static_assert(sizeof(struct cs_task) == 112, "no byte is left over");

/* ---- starting ---- */

/* A task for the function and its nargs arguments on top of L's stack (all popped). Not started.
 * Raises when out of memory, and when the VM is at 90 % of its limit; but for timers, and for what
 * is told of an end: they may free memory. */
CS_RAISES struct cs_task *cs_task_create(lua_State *L, enum cs_task_kind kind, struct cs_sock *sock,
                                         int nargs);

/* Queues it for the script phase. In a loading VM, kinds other than STARTUP and COSOCKET wait for
 * commit. */
void cs_task_start(struct cs_task *t);

/* Runs a READY (not queued) or PARKED task at once, inside the caller's resume: only for
 * ba.socket.event, sock:event and enable. nargs values are on top of t->co. More than 32 deep, or
 * in a finalizer, it is queued instead. Errors of the task are its own. */
void cs_task_run_now(lua_State *L, struct cs_task *t, int nargs);

/* ---- waiting ---- */

/* `return cs_task_park(L, t, leave, timeout_ms, k, ctx)` at the end of a lua_CFunction or
 * continuation. t: cs_task_current(L). timeout_ms < 0: none; else the wait ends with wake =
 * CS_ETIMEOUT. k runs when it is resumed and finds t->wake. Raises (before anything is registered
 * by the caller!) where Lua cannot yield: call cs_task_can_wait first. */
CS_RAISES int cs_task_park(lua_State *L, struct cs_task *t, void (*leave)(struct cs_task *),
                           int64_t timeout_ms, lua_KFunction k, lua_KContext ctx);

/* As cs_task_park, but ready again at once: the others get their turn. */
CS_RAISES int cs_task_give_way(lua_State *L, struct cs_task *t, lua_KFunction k, lua_KContext ctx);

/* Raises a clear error ("<what> would have to wait here, ...") outside a task, across a C call that
 * cannot yield. Otherwise returns the current task. In a stopping VM waits end at once: see
 * cs_task_park. */
CS_RAISES struct cs_task *cs_task_can_wait(lua_State *L, const char *what);

/* The task whose code runs now, or NULL (a finalizer during an idle collection). */
struct cs_task *cs_task_current(lua_State *L);

/* The name of the service whose code runs now or is being loaded: of whatever it makes. Lives as
 * long as the VM's configuration. */
const char *cs_task_service(const struct cs_vm *vm);

/* Ends a wait: queues the task. `err` becomes t->wake. Harmless when it is not parked. The caller
 * has taken the task off its own lists. */
void cs_task_wake(struct cs_task *t, int err);

/* Ends a wait for another reason than what it waits for: leave, then wake. */
void cs_task_interrupt(struct cs_task *t, int err);

/* Ends a PARKED or READY task without running more of it, except its to-be-closed variables.
 * `ended` is not called. */
void cs_task_kill(struct cs_task *t);

/* ---- collectable waits (disable) ---- */

/* From now on only its socket keeps it alive. sock_index: its userdata on L's stack. Raises. */
CS_RAISES void cs_task_make_collectable(lua_State *L, struct cs_task *t, int sock_index);

/* Its socket has got another coroutine: from now on it is kept like a task without one. co must
 * have room for one value. */
void cs_task_disown(struct cs_task *t);

/* Undone by cs_task_wake and cs_task_run_now. The coroutine of a collectable task is being
 * collected: frees the task; no code of it runs any more. */
void cs_task_discard(struct cs_task *t);

/* Lua's tables do not shrink: makes those that keep the tasks alive anew, as large as is needed.
 * For quiet moments, before a collection. */
void cs_task_repack(struct cs_vm *vm);

/* ---- running ---- */

/* Pushes the socket of a running or live task. */
void cs_task_push_sock(lua_State *L, const struct cs_task *t);

/* The script phase: resumes at most `max` ready tasks, fewer in a turn that is late. True when more
 * are ready. */
bool cs_task_run_ready(struct cs_vm *vm, unsigned max);

/* What a parked task waits for ("read", "connect" ...); NULL: it runs, sleeps or is about to run.
 */
const char *cs_task_waits_for(const struct cs_task *t);

/* "script.lua:12": where the task stands; for status listings and logs. buf: 128 bytes. */
const char *cs_task_place(struct cs_task *t, char *buf, size_t size);

/* coroutine.resume, wrap and the rest that know about tasks; replaces them in the global table. */
CS_RAISES void cs_task_open_coroutine(lua_State *L);

#endif
