/*
 * control - the control socket. A client sends one line and gets one answer:
 *
 *     reload wait\n                →  ok 24\nreloaded: generation 7 ..\n        then the end
 *                                  →  error 58\n/etc/cosockd/...:7: ...\n
 *
 * The number is that of the bytes that follow, so a client knows a whole answer from a part. The
 * server reads one short line, answers, closes. Clients are few and have deadlines: none of them
 * can hold anything up.
 *
 * Thread: the main thread.
 */
#ifndef CSD_CONTROL_H
#define CSD_CONTROL_H

#include <poll.h>
#include <sys/types.h>

#include "base/base.h"

#define CSD_CONTROL_CLIENTS 16
#define CSD_CONTROL_POLLFDS (CSD_CONTROL_CLIENTS + 1)
#define CSD_CONTROL_LINE_MAX 128 /* of a request, with its line feed */

enum csd_request {
    CSD_REQUEST_BAD,
    CSD_REQUEST_STATUS,      /* "status" */
    CSD_REQUEST_STATUS_JSON, /* "status json" */
    CSD_REQUEST_RELOAD,      /* "reload": answered when it has begun */
    CSD_REQUEST_RELOAD_WAIT, /* "reload wait": answered when it is over */
    CSD_REQUEST_STOP,
    CSD_REQUEST_QUIT,
    CSD_REQUEST_REOPEN,
};

/* The request in a line (without line feed): words separated by blanks. */
enum csd_request csd_request_parse(const char *line, size_t len);

struct csd_control;

/* A client that waits for its answer; goes stale when the client is gone. */
struct csd_client_ref {
    unsigned slot, serial;
};

/* Every request is answered with csd_control_answer, at once or later. */
typedef void csd_control_fn(void *user, enum csd_request request, struct csd_client_ref client);

/* Listens on path. A socket file that nobody listens on is replaced; its folder is made when only
 * the last part is missing. uid, gid: the owner of what is made (-1: stays). False: one line in
 * `why`. */
CS_MUST_CHECK bool csd_control_open(struct csd_control **out, const char *path, uid_t uid,
                                    gid_t gid, csd_control_fn *handle, void *user, char *why,
                                    size_t why_size);

/* Removes the file. Accepts NULL. */
void csd_control_close(struct csd_control *c);

/* Fills in what to wait for; returns how many, at most CSD_CONTROL_POLLFDS. */
size_t csd_control_pollfds(struct csd_control *c, struct pollfd *fds);

/* After poll, with what csd_control_pollfds filled in. */
void csd_control_handle(struct csd_control *c, const struct pollfd *fds, size_t count,
                        uint64_t now_ms);

/* When the next client's time is up, UINT64_MAX without one. */
uint64_t csd_control_deadline(const struct csd_control *c);

/* The text is copied. Harmless when the client is gone. */
void csd_control_answer(struct csd_control *c, struct csd_client_ref client, bool ok,
                        const char *text, size_t len);

/* The answer may take any time: no deadline until it comes. */
void csd_control_patient(struct csd_control *c, struct csd_client_ref client);

#endif
