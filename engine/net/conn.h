/*
 * conn - the bottom stream: one socket and everything the kernel may still be doing with it.
 *
 *   CONNECTING ──▶ OPEN ──close──▶ FLUSHING ──sent──▶ DRAINING ──peer's end──▶ STOPPING
 *        │           │                │ deadline          │ deadline              ▲ │ no op armed
 *        └───────────┴── abort ───────┴───────────────────┴───────────────────────┘ ▼
 *                                                                                 JOINED ──▶ CLOSED
 *
 * CONNECTING  the connect op is armed; cs_conn_on_connected follows, once
 * OPEN        reads while resumed and below the read-ahead mark; writes in the write phase
 * FLUSHING    closed by its user with output left; input is thrown away
 * DRAINING    the write side has been ended; input is thrown away until the peer ends its side, so
 *             that closing with unread input does not destroy what was sent (RFC 2525, 2.17)
 * STOPPING    every armed op is being cancelled; joined when none is armed
 * JOINED      stands in line to be closed: a turn closes a bounded number
 * CLOSED      the descriptor is closed, on_closed has been called; freed in the bury phase
 *
 * Owns:   the descriptor, its ops, its input and output.
 * Thread: its cell's.
 */
#ifndef CS_NET_CONN_H
#define CS_NET_CONN_H

#include "net/net.h"
#include "net/stream.h"

struct cs_conn;

/* For the log line at the end and for counting: what accepted the connection. Outlives it (counted
 * reference). */
struct cs_origin {
    const char *service;  /* name for the log */
    unsigned refs;        /* connections that point here, plus one of the owner */
    unsigned open;        /* connections open now */
    struct cs_gate *gate; /* that they were let in by; NULL: nobody asked */
    void (*free)(struct cs_origin *o);
};

/* Drops one reference; the last one frees. */
void cs_origin_unref(struct cs_origin *o);

/* Adopts a descriptor that is connected. peer may be NULL (unknown). origin: may be NULL; gets a
 * reference. NULL when out of memory: the caller still has the descriptor. */
CS_MUST_CHECK struct cs_conn *cs_conn_create(struct cs_net *n, cs_fd fd, const struct cs_addr *peer,
                                             struct cs_origin *origin);

/* What the gate of its origin counted it as, given back at its end. Not twice. */
void cs_conn_set_pass(struct cs_conn *c, unsigned pass);

/* Called once from the loop: err 0, or why it failed (then close the stream). */
typedef void cs_conn_connected_fn(void *user, struct cs_conn *c, int err);

/* Starts connecting; timeout is the caller's (close the stream to give up). Until `connected` the
 * stream takes resume, pause and close only. NULL when out of memory. */
CS_MUST_CHECK struct cs_conn *cs_conn_dial(struct cs_net *n, const struct cs_addr *remote,
                                           const struct cs_addr *local,
                                           cs_conn_connected_fn *connected, void *user);

struct cs_stream *cs_conn_stream(struct cs_conn *c);

/* The conn of a bottom stream (cs_stream_bottom). */
struct cs_conn *cs_conn_of(struct cs_stream *bottom);

/* cs_stream_write of a copy, for a long one: what TCP takes at once is sent from where it stands,
 * the rest is copied. 0 or an error as that of write; a lack of memory for the rest breaks the
 * connection. */
CS_MUST_CHECK int cs_conn_write_long(struct cs_conn *c, const void *data, size_t len);

/* Takes the socket's input or output past the stream, e.g. by splice: a real descriptor of it,
 * non-blocking, or -errno. May be taken once for each direction; give each back with
 * cs_conn_direct_end. Only while OPEN. */
CS_MUST_CHECK int cs_conn_direct(struct cs_conn *c);
void cs_conn_direct_end(struct cs_conn *c, int fd);

/* on: nothing is received any more. What already was still comes as input; from then on on_input
 * with an empty `in` says that the descriptor can be read (or has ended): once, and again after
 * each cs_conn_wait_input. off: back to receiving. */
void cs_conn_read_direct(struct cs_conn *c, bool on);
void cs_conn_wait_input(struct cs_conn *c);

/* on_room, once, when everything written has been taken and the socket can be written. */
void cs_conn_wait_writable(struct cs_conn *c);

/* Counts bytes that went past the stream. */
void cs_conn_count(struct cs_conn *c, size_t in, size_t out);

/* Wakes the user with on_eof when the peer resets although nothing is being read (paused with
 * unread input). Called while paused; ends at the next resume. */
void cs_conn_watch(struct cs_conn *c);

/* 0 or -errno; CS_ECLOSED when it is no longer open. */
CS_MUST_CHECK int cs_conn_setsockopt(struct cs_conn *c, int level, int name, const void *value,
                                     socklen_t len);
CS_MUST_CHECK int cs_conn_peername(const struct cs_conn *c, struct cs_addr *out);
CS_MUST_CHECK int cs_conn_sockname(struct cs_conn *c, struct cs_addr *out);

uint64_t cs_conn_bytes_in(const struct cs_conn *c);
uint64_t cs_conn_bytes_out(const struct cs_conn *c);
struct cs_origin *cs_conn_origin(const struct cs_conn *c);

/* "open", "draining" ... for status listings. */
const char *cs_conn_state_name(const struct cs_conn *c);

/* For net.c: the loop's phases 6 and 7 (arg is the cs_net), and the size of a conn in the pool. */
bool cs_conn_phase_write(void *arg);
bool cs_conn_phase_bury(void *arg);
size_t cs_conn_size(void);

#endif
