/*
 * worker - one thread that turns the loops of its cells, and the two mailboxes between it and the
 * main thread. Commands and answers are bits, not queues: a command given twice before it is read
 * is done once, and nothing has to be allocated in order to stop.
 *
 *   main ──commands──▶ worker (woken by cs_loop_post)
 *   main ◀──answers─── worker (wakes poll(2) through an eventfd that all workers share)
 *
 * Thread: all functions are for the main thread.
 */
#ifndef CSD_WORKER_H
#define CSD_WORKER_H

#include "daemon/cells.h"

struct csd_worker;

enum csd_command {
    CSD_LOAD = 1 << 0,     /* by csd_worker_load */
    CSD_COMMIT = 1 << 1,   /* answered by CSD_COMMITTED */
    CSD_ROLLBACK = 1 << 2, /* answered by CSD_ROLLED_BACK */
    CSD_DRAIN = 1 << 3,    /* answered by CSD_QUIET, once no connection is left */
    CSD_STOP = 1 << 4,     /* answered by CSD_FINISHED, once nothing is left */
    CSD_STATUS = 1 << 5,   /* answered by CSD_STATUS_READY */
    CSD_PING = 1 << 6,     /* answered by CSD_PONG: the loop turns */
    CSD_END_OLD = 1 << 7,  /* by csd_worker_end_old; no answer */
};

enum csd_answer {
    CSD_LOADED = 1 << 0,    /* all cells have, or one failed: generation, load_err, errors */
    CSD_COMMITTED = 1 << 1, /* the staged generation is the current one */
    CSD_QUIET = 1 << 2,
    CSD_FINISHED = 1 << 3, /* the thread has ended or is about to; cut: connections it cut */
    CSD_STATUS_READY = 1 << 4,
    CSD_PONG = 1 << 5,
    CSD_SCRIPT_DONE = 1 << 6, /* script mode: exit_status */
    CSD_ROLLED_BACK = 1 << 7, /* nothing of the program that was loaded is used any more */
};

struct csd_answers {
    unsigned set; /* bits of enum csd_answer */
    unsigned generation;
    int load_err; /* 0, or as cs_cell_loaded_fn says */
    char *errors; /* of a failed load; NULL: no memory was left for the text. cs_free is the
                     caller's */
    struct cs_cell_status status;
    size_t cut; /* connections that were open when CSD_STOP came */
    int exit_status;
};

/* Starts the thread ("cosockd-w0" ...) and waits until its first cell exists. What config points to
 * must stay. answer_fd: an eventfd of the caller's that becomes readable with each answer. 0,
 * -errno, or CS_ENOTSUP; `why` then holds a sentence. */
CS_MUST_CHECK int csd_worker_start(struct csd_worker **out, const struct csd_cells_config *config,
                                   int answer_fd, bool script_mode, char *why, size_t why_size);

/* Joins the thread: CSD_FINISHED must have been answered. Accepts NULL. */
void csd_worker_destroy(struct csd_worker *w);

/* Bits of enum csd_command, except CSD_LOAD and CSD_END_OLD. */
void csd_worker_send(struct csd_worker *w, unsigned commands);

/* program must stay until its generation is gone. */
void csd_worker_load(struct csd_worker *w, const struct cs_program *program, unsigned generation);

/* Cuts draining generations up to this number. */
void csd_worker_end_old(struct csd_worker *w, unsigned generation);

/* False: the wake-up found no memory; try again soon. */
bool csd_worker_wake(struct csd_worker *w);

/* Takes what has been answered since the last call. */
void csd_worker_answers(struct csd_worker *w, struct csd_answers *out);

#endif
