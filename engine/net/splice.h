/*
 * splice - moves one direction between two connections inside the kernel: socket ─▶ pipe ─▶ socket,
 * without a copy into this process. Pays for bulk only: it costs two system calls for each move and
 * four descriptors.
 *
 *   waits for input ──▶ cs_splice_run ──▶ waits for input        (nothing is left in the pipe)
 *                             └─────────▶ waits to be writable   (the receiver is slower)
 *
 * The process must ignore SIGPIPE: splice(2) knows no MSG_NOSIGNAL.
 *
 * Owns:   the pipe and its descriptors of both sockets.
 * Thread: its cell's.
 */
#ifndef CS_NET_SPLICE_H
#define CS_NET_SPLICE_H

#include "net/conn.h"

struct cs_splice;

/* Called from the loop: nothing has moved for a second and the pipe is empty. */
typedef void cs_splice_idle_fn(void *user, struct cs_splice *s);

/* From now on on_input of `from` (with nothing in its `in`) and on_room of `to` are calls for
 * cs_splice_run. NULL when it is not to be had: the kernel or COSOCKD_WITHOUT says no, a quarter of
 * the process's descriptors are in use for splices, or out of memory. */
CS_MUST_CHECK struct cs_splice *cs_splice_start(struct cs_net *n, struct cs_conn *from,
                                                struct cs_conn *to, cs_splice_idle_fn *idle,
                                                void *user);

enum cs_splice_state {
    CS_SPLICE_GOES_ON,
    CS_SPLICE_OVER, /* `from` has ended, which the next ordinary read will tell, or it no longer
                       pays: end it */
    CS_SPLICE_FROM_BROKE,
    CS_SPLICE_TO_BROKE,
};

struct cs_splice_result {
    size_t moved; /* bytes handed to `to` */
    int err;      /* of what broke */
};

/* Moves what there is, at most one pipe full, and arms what it waits for next. */
enum cs_splice_state cs_splice_run(struct cs_splice *s, struct cs_splice_result *result);

/* Back to ordinary reading and writing, for connections that are still open: what is left in the
 * pipe is written to `to`. Frees s. The bytes written so, or an error of reading the pipe or of the
 * write. */
CS_MUST_CHECK ssize_t cs_splice_end(struct cs_splice *s);

/* Frees s and what is in the pipe. */
void cs_splice_drop(struct cs_splice *s);

#endif
