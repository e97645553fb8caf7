/*
 * status - what the daemon is doing, for people, for programs, and in one line for systemd.
 */
#ifndef CSD_STATUS_H
#define CSD_STATUS_H

#include <stdio.h>

#include "daemon/workers.h"

struct csd_status {
    const char *phase;         /* "running", "draining" ... */
    const char *configuration; /* NULL: script mode */
    uint64_t up_ms;
    unsigned generation;               /* the current one; 0: none yet */
    unsigned reloads, refused;         /* since the start: accepted ones, refused ones */
    const struct cs_cell_status *cell; /* all of them summed up */
    const struct csd_workers *workers;
    unsigned worker_count;
    struct cs_admit *admit;
};

void csd_status_text(const struct csd_status *s, FILE *out);
void csd_status_json(const struct csd_status *s, FILE *out);

/* "running: generation 2, 17 connections"; returns buf. */
const char *csd_status_line(const struct csd_status *s, char *buf, size_t size);

#endif
