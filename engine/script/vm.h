/*
 * vm - one Lua state: what it may use (memory, libraries, CPU at a stretch) and which generation of
 * scripts it runs. Tasks run in it (task.h); a cell owns it.
 *
 * Thread: its cell's.
 */
#ifndef CS_SCRIPT_VM_H
#define CS_SCRIPT_VM_H

#include <lua.h>

#include "base/list.h"
#include "net/net.h"
#include "net/registry.h"
#include "script/expiry.h"

struct cs_slab;
struct cs_task;
struct cs_cell_config;
struct cs_errors;
struct cs_program;
struct cs_works;

/* Marks functions that can leave by a Lua error (longjmp): no C resource may be held across a call
 * unless a userdata owns it already. */
#define CS_RAISES

enum cs_vm_state {
    CS_VM_LOADING, /* binds are staged; connects, sleeps, timers and jobs are held until commit */
    CS_VM_CURRENT,
    CS_VM_DRAINING, /* no listener any more; ends with its last connection */
    CS_VM_STOPPING, /* every wait ends with "sysshutdown" */
};

struct cs_vm {
    lua_State *L; /* the main state: nothing runs on it but set-up and the collector */
    struct cs_net *net;
    struct cs_registry *registry;
    struct cs_works *works; /* the cell's: blocking.h */
    enum cs_vm_state state;
    unsigned generation;
    bool script_mode; /* `cosockd script.lua`: os.exit is allowed */
    bool check_only;  /* -t: addresses are checked, nothing is bound */
    bool exiting;     /* os.exit was called */
    bool closing;     /* lua_close runs: what finalizers make now would never be finalized */
    int exit_status;
    /* While loading: is told the text (NULL: no memory for it) of each error that nobody caught,
     * with its traceback, and the service's name. */
    void (*load_failed)(struct cs_vm *vm, const char *service, const char *text);
    const struct cs_program *load_program;
    struct cs_errors *load_errors;
    const struct cs_task *bind_task; /* whose bind failed last, or NULL; never followed */
    char bind_text[192];             /* ... "127.0.0.1:80: address already in use" */
    int bind_err;                    /* of the last one while loading: -errno, or 0 */
    uint64_t born_ms;

    struct cs_slab *slab;      /* where Lua's objects lie */
    size_t memory, memory_max; /* bytes in use; limit, 0 = none */
    uint32_t cpu_budget_ms;
    uint64_t resumes;      /* activity, for the idle collection */
    uint64_t collected_ms; /* when cs_vm_short last collected */
    unsigned cycles_left;  /* of the collector, see cs_vm_collect_step */

    struct cs_list tasks;         /* all, by cs_task.all */
    struct cs_list ready;         /* to be resumed in the script phase */
    struct cs_list held;          /* parked until commit */
    struct cs_list timers;        /* of bind_timer.c: set while loading */
    struct cs_list relays;        /* of bind_relay.c: those somebody here is to be told about */
    struct cs_list closed_relays; /* ended; their on_close functions are to be called */
    struct cs_list choices;       /* of bind_shark.c: TLS clients that wait for a certificate */
    struct cs_expiry expiry;      /* the certificates in use */
    struct cs_task *current;      /* whose Lua code runs now, or NULL */
    unsigned reports;             /* jobs of bind_errh.c */
    unsigned options_kept;        /* by bind.c, so far */
    unsigned depth;               /* nesting of cs_task_run_now */
    unsigned no_wait;             /* coroutines resumed from where Lua cannot yield */
    unsigned task_count, socket_count, listen_count, relay_count, timer_count;
    unsigned collectable_count; /* tasks in disable(), which may be garbage */
    uint64_t errors, overruns,
        collected;              /* script errors, CPU overruns, sockets closed by collection */
    int live_table, weak_table; /* registry references: see task.c */
    bool tasks_made;            /* since cs_task_repack */
    const char *name;           /* of the part that is being loaded */
    const char *data_dir;
};

/* What stands in a state's extra space: its VM's address, and whether it is the coroutine of a
 * task. New states get that of the main state. */
#define CS_VM_TASK ((uintptr_t)1)

static inline uintptr_t *cs_vm_space(lua_State *L)
{
    return lua_getextraspace(L);
}

/* The VM of any of its states. */
static inline struct cs_vm *cs_vm_of(lua_State *L)
{
    return (struct cs_vm *)(*cs_vm_space(L) & ~CS_VM_TASK);
}

/* NULL when out of memory. Opens the libraries and binds the API. */
CS_MUST_CHECK struct cs_vm *cs_vm_create(struct cs_net *net, struct cs_registry *registry,
                                         const struct cs_cell_config *config, unsigned generation,
                                         bool script_mode);

/* Closes the state: remaining sockets are closed by their finalizers. No task may be running. */
void cs_vm_destroy(struct cs_vm *vm);

/* One full collection, at once: for want of memory. */
void cs_vm_collect(struct cs_vm *vm);

/* A full collection in steps: of a quiet VM. A step takes about a millisecond, that which ends a
 * cycle 0.2 to 0.4 us for each coroutine. True when nothing is left to do until the next `begin`.
 */
void cs_vm_collect_begin(struct cs_vm *vm);
bool cs_vm_collect_step(struct cs_vm *vm);

/* For a VM that is never quiet: how many such steps a second find within seconds the tasks that may
 * be garbage. 0: there are none. */
unsigned cs_vm_collect_rate(const struct cs_vm *vm);

/* Raises when the VM is being closed. */
CS_RAISES void cs_vm_check_open(lua_State *L);

/* True when less than `room` bytes are left below 90 % of the memory limit, even after a collection
 * (at most one a second): no new task then. */
bool cs_vm_short(struct cs_vm *vm, size_t room);

/* A bind of the current task has failed. Where its script ends with no more than "bind" to say for
 * it, the error has the rest. */
void cs_vm_note_bind(struct cs_vm *vm, const struct cs_addr *addr, int err);

/* Starts what was held while loading. */
void cs_vm_release_held(struct cs_vm *vm);

/* Wakes every waiting task with "sysshutdown"; later waits end so at once. */
void cs_vm_stop(struct cs_vm *vm);

/* ---- the CPU budget of a worker thread (one POSIX timer on the thread's CPU clock) ---- */

/* Installs the timer for the calling thread, once. 0 or -errno. budget in ms. */
CS_MUST_CHECK int cs_budget_start(void);

/* L runs from now on, with its VM's budget in ms (0: none). Returns the state that ran until now,
 * for cs_budget_leave; NULL when none did: then a new slice begins, with a new budget. Around
 * everything that can run code of a script. (Lua itself allows no hook inside a finalizer.) */
lua_State *cs_budget_enter(lua_State *L, uint32_t budget_ms);

/* L (NULL: it is gone) no longer runs, `before` does again (NULL: none). */
void cs_budget_leave(lua_State *L, lua_State *before);

/* What the thread computes now counts for no script (true), or does again (false). */
void cs_budget_pause(bool paused);

#endif
