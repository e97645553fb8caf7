/*
 * server - the life of the process after its configuration has been read. The main thread waits in
 * poll(2) for signals, for the worker's answers and for the control socket; it never touches a
 * connection.
 *
 *   STARTING ──loaded, root given up, committed──▶ RUNNING ◀──▶ reload (new generation or none)
 *       │                                             │ TERM, QUIT
 *       │ error                                       ▼
 *       │                                         DRAINING ──quiet, deadline or second TERM──┐
 *       └───────────────────────────────────────────────────────────────────▶ STOPPING ◀─────┘
 */
#ifndef CSD_SERVER_H
#define CSD_SERVER_H

#include "daemon/config.h"
#include "daemon/exit.h"
#include "daemon/options.h"

/* Runs the daemon, or the script of `o`, or with o->test only loads everything and binds nothing.
 * Takes over the reference to config. Returns the exit status when all is over. */
enum csd_exit csd_server_run(const struct csd_options *o, struct csd_config *config);

#endif
