/*
 * client - the other end of the control socket: for cosockctl and `cosockd -s`.
 */
#ifndef CSD_CLIENT_H
#define CSD_CLIENT_H

#include "base/base.h"
#include "daemon/exit.h"

/* Sends the request, waits for the whole answer (timeout_ms < 0: without limit) and writes it: to
 * stdout, or to stderr when it is an error. The exit status: CSD_EXIT_OK, CSD_EXIT_FAILURE (the
 * daemon refused), CSD_EXIT_UNAVAILABLE (no daemon; what happened is on stderr behind `program`).
 */
enum csd_exit csd_client_run(const char *program, const char *path, const char *request,
                             int timeout_ms);

/* The first line of an answer. False: it is none. */
CS_MUST_CHECK bool csd_answer_head(const char *line, bool *ok, size_t *len);

#endif
