/*
 * cells - the cells of one worker, as one: loaded, committed, drained and stopped together, and
 * further ones opened as those that are there fill up. The newest one ends when it is of no use.
 *
 *   none ──the others are filling──▶ OPENING ──current scripts loaded──▶ READY
 *     ▲                                 │ they failed                       │ empty for a while
 *     └────── everything ended ─── ENDING ◀─────────────────────────────────┘
 *
 * A further cell runs the start-up chunks of the current generation again. It takes part in loads
 * once it is READY: a load that comes while it is OPENING waits for that, and none is opened during
 * a load.
 *
 * Thread: that of the worker.
 */
#ifndef CSD_CELLS_H
#define CSD_CELLS_H

#include "script/cell.h"

struct csd_cells;

struct csd_cells_config {
    const struct cs_cell_config *cell; /* its strings must stay */
    struct cs_listen_table *table;
    unsigned worker; /* 0, 1 ... */
    unsigned max;    /* cells at most, 1..CS_RING_SET_MAX */
};

/* With the first cell. 0, -errno, or CS_ENOTSUP with a sentence in why. */
CS_MUST_CHECK int csd_cells_create(struct csd_cells **out, const struct csd_cells_config *config,
                                   char *why, size_t why_size);

/* csd_cells_finished must be true. */
void csd_cells_destroy(struct csd_cells *c);

/* The first cell's: for cs_loop_post. */
struct cs_loop *csd_cells_loop(const struct csd_cells *c);

/* A turn of all that have work, or a sleep until one has. */
void csd_cells_turn(struct csd_cells *c);

/* Called once from a turn, when all cells have loaded, or one has failed: then everything is rolled
 * back already. err, errors: as of cs_cell_loaded_fn, of the first that failed. */
typedef void csd_cells_loaded_fn(void *user, unsigned generation, int err, const char *errors);

/* Not while another load is not committed or rolled back. program must stay until its generation is
 * gone. */
void csd_cells_load(struct csd_cells *c, const struct cs_program *program, unsigned generation,
                    csd_cells_loaded_fn *loaded, void *user);
void csd_cells_commit(struct csd_cells *c);
void csd_cells_rollback(struct csd_cells *c);

/* As the functions of cell.h, for all of them. */
void csd_cells_end_draining(struct csd_cells *c, unsigned generation);
void csd_cells_drain(struct csd_cells *c);
void csd_cells_stop(struct csd_cells *c);
bool csd_cells_quiet(const struct csd_cells *c);
bool csd_cells_finished(const struct csd_cells *c);
bool csd_cells_script_done(struct csd_cells *c, int *status);
void csd_cells_status(struct csd_cells *c, struct cs_cell_status *out);

#endif
