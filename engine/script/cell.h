/*
 * cell - one ring with its net, and on it the Lua VMs: the current generation and any number of
 * older ones that drain. The daemon's view of the engine; no Lua in this header.
 *
 *   load ──▶ STAGED ──commit──▶ CURRENT ──next commit──▶ DRAINING ──last connection ends──▶ gone
 *               └────rollback──▶ gone
 *
 * Thread: everything here belongs to the thread that created the cell, except cs_loop_post on its
 * loop.
 */
#ifndef CS_SCRIPT_CELL_H
#define CS_SCRIPT_CELL_H

#include "net/net.h"
#include "net/registry.h"
#include "script/conf.h"
#include "script/expiry.h"
#include "script/holds.h"

struct cs_cell;

struct cs_cell_config {
    struct cs_ring_config ring;
    struct cs_net_config net;
    size_t lua_memory_max;   /* bytes a VM may use; 0: no limit */
    uint32_t cpu_budget_ms;  /* CPU a coroutine may burn without suspending; 0: no limit */
    const char *script_dir;  /* where relative script names of services are looked up */
    const char *library_dir; /* scripts/lib, in package.path */
    const char *data_dir;    /* root of ba.openio"disk" and of the io object of services */
    bool primary; /* of all cells the one that warns of certificates, which each of them has */
};

/* One start-up chunk. All strings and args must stay until its generation is gone. */
struct cs_program_part {
    const char *name;            /* of the service; script mode: the script's name */
    const char *path;            /* file to load; NULL with `source` set (-e) */
    const char *source;          /* Lua text instead of a file */
    const struct cs_value *args; /* the chunk's `...`: a table; NULL in script mode */
    const char *file;            /* where the service stands, for messages; may be NULL */
    int line;
};

struct cs_program {
    const struct cs_program_part *parts;
    size_t count;
    char **argv; /* script mode: the script's arguments (global `arg` and `...`); else NULL */
    int argc;
    bool script_mode; /* run as `lua` would: globals shared, os.exit allowed */
    bool testing;     /* in script mode: the only part is the runner of test files (its text is not
                         given), the arguments are its command line */
    bool check_only;  /* -t: compile and run the chunks' staging without binding anything */
    /* What this generation goes by and, once it is live, all connections of the cell; `ring` and
     * the admission stay what they were. NULL: what the cell was made from. Must stay as the
     * strings. */
    const struct cs_cell_config *config;
};

/* 0, -ENOMEM, or CS_ENOTSUP with a sentence in why. The registry is shared and outlives the cell.
 */
CS_MUST_CHECK int cs_cell_create(struct cs_cell **out, const struct cs_cell_config *config,
                                 struct cs_registry *registry, char *why, size_t why_size);

/* cs_cell_finished must be true. */
void cs_cell_destroy(struct cs_cell *c);

struct cs_loop *cs_cell_loop(struct cs_cell *c);

/* Called once from the loop. err 0: all parts loaded, the generation is staged and waits for commit
 * or rollback. Else errors holds "file:line: message" lines (not valid after the call; NULL when
 * there was no memory for them), and err is CS_ESCRIPT, or -errno of an address that could not be
 * bound. */
typedef void cs_cell_loaded_fn(void *user, unsigned generation, int err, const char *errors);

/* Begins to load a generation; runs a bounded part per turn. -EBUSY while another is staged or
 * loading. generation: a number above all earlier ones. */
CS_MUST_CHECK int cs_cell_load(struct cs_cell *c, const struct cs_program *program,
                               unsigned generation, cs_cell_loaded_fn *loaded, void *user);

/* The staged generation becomes current: listeners are handed over, what was held (connects,
 * timers, jobs) starts; the old one drains. */
void cs_cell_commit(struct cs_cell *c);
void cs_cell_rollback(struct cs_cell *c);

/* Ends what is left of draining generations with this number or a lower one, as cs_cell_stop would,
 * and logs where coroutines were: reload_drain_timeout. */
void cs_cell_end_draining(struct cs_cell *c, unsigned generation);

/* UDP ports of the cell end; connections go on. Its listeners are the registry's
 * (cs_registry_stop). */
void cs_cell_drain(struct cs_cell *c);

/* Ends everything that is left: waiting tasks get nil,"sysshutdown", then connections are closed
 * gracefully with a short deadline, then aborted. */
void cs_cell_stop(struct cs_cell *c);

/* After drain: no connection is left, not even one that nobody has taken yet. */
bool cs_cell_quiet(const struct cs_cell *c);

/* After stop: everything is gone. */
bool cs_cell_finished(const struct cs_cell *c);

/* Accept has used three quarters of its slots or more. */
bool cs_cell_filling(const struct cs_cell *c);

/* For how many milliseconds nothing has happened here, while all that is under way is waiting for
 * clients; 0: something is. Accepting goes to an earlier cell that has half of its table free;
 * while there is none, 0. Not during a turn: what it says is true until the next one. */
uint64_t cs_cell_spare_ms(struct cs_cell *c);

/* Script mode: true once the script has ended and left nothing behind, or called os.exit; *status
 * is the exit status then. */
bool cs_cell_script_done(struct cs_cell *c, int *status);

struct cs_generation_status {
    unsigned generation;
    const char *state; /* "current", "draining", "staged" */
    unsigned vms;      /* how many cells have it */
    uint64_t age_ms;
    unsigned tasks, sockets, relays, timers;
    size_t memory;
    unsigned hold_count; /* entries filled, of a draining one */
    struct cs_hold holds[CS_HOLDS_MAX];
};

struct cs_cell_status {
    unsigned cells;
    struct cs_net_counters net;
    size_t connections;
    unsigned relays; /* detached ones, that belong to no generation */
    struct cs_loop_stats loop;
    uint64_t script_errors, cpu_overruns;
    uint64_t sockets_collected; /* abandoned, and closed by the collector */
    unsigned generation_count;  /* entries filled, at most 16 */
    struct cs_generation_status generations[16];
    unsigned cert_count; /* entries filled, at most 16: of the current generation, next end first */
    struct cs_cert_status certs[16];
};
void cs_cell_status(struct cs_cell *c, struct cs_cell_status *out);

/* Adds the figures of another cell to sum (begin with zeroes): counters and, for the same
 * generation, what it has are summed up; of times the longest counts. */
void cs_cell_status_add(struct cs_cell_status *sum, const struct cs_cell_status *one);

#endif
