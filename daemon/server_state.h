/*
 * server_state - what the files of the server share: server.c (setting up and waiting),
 * server_load.c (loading and reloading), server_stop.c (ending), server_status.c (telling). Private
 * to them.
 */
#ifndef CSD_SERVER_STATE_H
#define CSD_SERVER_STATE_H

#include "base/log.h"
#include "daemon/config.h"
#include "daemon/control.h"
#include "daemon/exit.h"
#include "daemon/options.h"
#include "daemon/privs.h"
#include "daemon/status.h"
#include "daemon/workers.h"

enum csd_phase { CSD_STARTING, CSD_RUNNING, CSD_DRAINING, CSD_STOPPING, CSD_ENDED };

/* A generation of scripts and the configuration that its strings come from. */
struct csd_generation {
    struct csd_generation *next;
    unsigned number;
    uint64_t end_ms; /* when what is left of it is cut; UINT64_MAX: never, or done */
    struct csd_config *config;
};

enum csd_wait_kind { CSD_WAIT_NONE, CSD_WAIT_STATUS, CSD_WAIT_STATUS_JSON, CSD_WAIT_RELOAD };

/* A client of the control socket whose answer is not known yet. */
struct csd_waiter {
    enum csd_wait_kind kind;
    struct csd_client_ref client;
    unsigned attempt; /* CSD_WAIT_RELOAD: of which reload it wants the result */
};

struct csd_server {
    const struct csd_options *options;
    struct csd_config *started; /* what settings that need a restart come from */
    struct csd_config *config;  /* the last one accepted */
    struct cs_cell_config cell_config;
    struct csd_identity identity;
    struct cs_admit *admit;
    struct cs_inherit *inherit;
    struct cs_listen_table *table;
    struct csd_workers *workers;
    struct csd_control *control; /* NULL: none */
    int signal_fd;

    enum csd_phase phase;
    enum csd_exit exit_status;
    uint64_t started_ms, deadline; /* of the phase; UINT64_MAX: none */
    uint64_t tick_ms;              /* the next one */
    bool stop_asked;               /* by TERM: the next TERM is the second */
    const char *cut_reason;        /* why connections are being cut; NULL: they are not */

    struct csd_generation *generations; /* committed and perhaps still running; newest first */
    struct csd_generation *loading;     /* the one the workers load; NULL: none */
    bool reload_wanted;
    unsigned attempt; /* reloads begun */
    uint64_t attempt_ms;
    unsigned numbers; /* generations numbered */
    unsigned reloads, refused;

    uint64_t watchdog_every, watchdog_ms;
    bool ping_out; /* a worker has not answered the last one */

    struct cs_cell_status cell_status;
    bool dump_wanted;
    bool own_tickets; /* ticket keys of a configuration are in force */
    struct csd_waiter waiters[CSD_CONTROL_CLIENTS];
};

static inline bool csd_server_is_script(const struct csd_server *s)
{
    return s->config->program.script_mode;
}

/* ---- server_load.c ---- */

/* Takes over the reference. NULL when out of memory (the reference is dropped then). */
CS_MUST_CHECK struct csd_generation *csd_generation_new(struct csd_server *s,
                                                        struct csd_config *config);
void csd_generation_free(struct csd_generation *g); /* accepts NULL */

/* Drops configurations whose generation has ended, as far as s->cell_status tells. */
void csd_generations_prune(struct csd_server *s);

/* Cuts what has outlived reload_drain_timeout. */
void csd_generations_expire(struct csd_server *s, uint64_t now);

/* Number of the current one, 0 while there is none. */
unsigned csd_generation_current(const struct csd_server *s);

void csd_server_ask_reload(struct csd_server *s, const char *by);
void csd_server_reload(struct csd_server *s); /* begins; not while one is loading */
void csd_server_loaded(struct csd_server *s, const struct csd_answers *a);
void csd_server_committed(struct csd_server *s);

/* ---- server_stop.c ---- */

/* TERM, INT, "stop": with a deadline; the second time at once. */
void csd_server_ask_stop(struct csd_server *s, const char *by);

/* QUIT, "quit": without a deadline. One that runs already goes on. */
void csd_server_ask_quit(struct csd_server *s, const char *by);

/* Ends everything; connections that are open are cut. reason: NULL when none should be. */
void csd_server_stop_now(struct csd_server *s, const char *reason);

/* A worker is stuck in something that nothing can interrupt: exits without it. */
CS_NORETURN void csd_server_leave_behind(struct csd_server *s);

void csd_server_finished(struct csd_server *s, const struct csd_answers *a);

/* ---- server_status.c ---- */

struct csd_status csd_server_status(const struct csd_server *s);
void csd_server_ask_status(struct csd_server *s);
void csd_server_status_ready(struct csd_server *s, const struct csd_answers *a);

/* READY=1 and the state in one line. */
void csd_server_notify_ready(const struct csd_server *s);

void csd_waiter_add(struct csd_server *s, enum csd_wait_kind kind, struct csd_client_ref client);

/* Answers those that wait for this reload or an earlier one. */
void csd_waiters_answer_reload(struct csd_server *s, unsigned attempt, bool ok, const char *text);

void csd_server_answer(struct csd_server *s, struct csd_client_ref client, bool ok,
                       const char *text);

#endif
