/*
 * workers - all worker threads as one: what is sent goes to each, and an answer is given once all
 * have given it. A load that fails in one of them is rolled back in the others, and CSD_LOADED says
 * that it failed when none of them uses its program any more.
 *
 * Thread: the main thread's.
 */
#ifndef CSD_WORKERS_H
#define CSD_WORKERS_H

#include "daemon/worker.h"

struct csd_workers;

/* config: of each; its worker is filled in here. count: 1..CSD_WORKERS_MAX. script_mode:
 * with one worker only. 0, -errno, or CS_ENOTSUP; `why` then holds a sentence. Unless it is 0,
 * nothing is left running. */
CS_MUST_CHECK int csd_workers_start(struct csd_workers **out, const struct csd_cells_config *config,
                                    unsigned count, bool script_mode, char *why, size_t why_size);

/* CSD_FINISHED must have been answered. Accepts NULL. */
void csd_workers_destroy(struct csd_workers *ws);

unsigned csd_workers_count(const struct csd_workers *ws);

/* As the functions of worker.h. */
int csd_workers_fd(const struct csd_workers *ws);
void csd_workers_send(struct csd_workers *ws, unsigned commands);
void csd_workers_load(struct csd_workers *ws, const struct cs_program *program,
                      unsigned generation);
/* Ends what has been loaded and is not to be committed: CSD_LOADED comes again, with err (below 0).
 */
void csd_workers_rollback(struct csd_workers *ws, int err);
void csd_workers_end_old(struct csd_workers *ws, unsigned generation);
bool csd_workers_wake(struct csd_workers *ws);

/* Figures are summed up; the error is that of the first worker that failed. */
void csd_workers_answers(struct csd_workers *ws, struct csd_answers *out);

/* The figures of one worker, as of the last CSD_STATUS_READY. */
const struct cs_cell_status *csd_workers_status(const struct csd_workers *ws, unsigned i);

#endif
