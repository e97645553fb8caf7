/*
 * udp - a datagram socket. Beside stream.h and not a stream: datagrams keep their bounds, each has
 * a sender, none is waited for, and an error says something about one that was sent before.
 *
 *   user A (of the old scripts) ──▶ cs_udp ──┐
 *                                            ├──▶ port: the kernel's socket ─── reader: one of them
 *   user B (of the new scripts) ──▶ cs_udp ──┘
 *
 * A bound address that the scripts of two generations want is one port: while the newer ones load
 * the old ones go on reading; with cs_udp_commit the new ones read, and the old ones have `lost`
 * it: they may still send from it, so that answers under way arrive. Its options stay as they were
 * set.
 *
 * Cells of the process that bind the same address get a port each; the kernel spreads clients over
 * them, by address and port. An address that somebody else has is found in use.
 *
 * What is received is queued, bounded in bytes (read_ahead); what finds the queue full is dropped
 * and counted. Nothing is received before the first cs_udp_resume: until then it stays with the
 * kernel, in a queue with a bound of its own.
 *
 * Thread: its cell's; opening and closing lock out other cells for a moment.
 */
#ifndef CS_NET_UDP_H
#define CS_NET_UDP_H

#include "net/resolve.h"

struct cs_udp;
struct cs_udp_dial;

/* Events, called from the loop only; none may close the socket. */
struct cs_udp_user {
    /* A datagram, an error, or the loss of the address waits to be looked at. */
    void (*on_input)(void *user);
    /* After cs_udp_watch: sending may work again. */
    void (*on_room)(void *user);
    /* The last event: the server stops, and u is gone when this returns. */
    void (*on_closed)(void *user);
};

struct cs_datagram {
    struct cs_list node;      /* private */
    struct sockaddr_in6 from; /* or a sockaddr_in: see cs_datagram_from */
    uint32_t len;             /* 0..65,527 */
    uint8_t data[];
};

/* The sender. */
void cs_datagram_from(const struct cs_datagram *d, struct cs_addr *out);

struct cs_udp_spec {
    int family;
    const struct cs_addr *local;  /* bind to this; NULL: not */
    const struct cs_addr *remote; /* connect to this; NULL: not */
    unsigned gen;                 /* of the scripts that want it */
    const char *service;          /* whose it is, for the status; NULL: nobody's */
    bool staged;                  /* `local` is not theirs before cs_udp_commit(gen) */
    bool dry;                     /* `local` is only noted (-t) */
};

/* 0; -ENOMEM, -EADDRINUSE (also when gen has the address already), -ENETUNREACH, -ENFILE ... */
CS_MUST_CHECK int cs_udp_open(struct cs_udp **out, struct cs_net *n, const struct cs_udp_spec *spec,
                              const struct cs_udp_user *ops, void *user);

/* u is gone when this returns; no event follows. */
void cs_udp_close(struct cs_udp *u);

/* Called once from the loop, never from inside cs_udp_dial_start; the dial is gone. u: open and
 * connected, or NULL with err: CS_ERESOLVE, -ENETUNREACH, -ENOMEM ... */
typedef void cs_udp_dial_fn(void *user, struct cs_udp *u, int err);

/* Opens a socket connected to the first of a name's addresses that can be. host: a name, copied;
 * family: which of its addresses; spec: as for cs_udp_open, `family` and `remote` unused. user: for
 * ops and fn. NULL when out of memory. */
CS_MUST_CHECK struct cs_udp_dial *cs_udp_dial_start(struct cs_net *n, const char *host,
                                                    uint16_t port, enum cs_resolve_family family,
                                                    const struct cs_udp_spec *spec,
                                                    const struct cs_udp_user *ops,
                                                    cs_udp_dial_fn *fn, void *user);

/* Gives up; fn is not called. Not once it has been. */
void cs_udp_dial_cancel(struct cs_udp_dial *d);

/* Starts receiving, and goes on after an error. Idempotent. */
void cs_udp_resume(struct cs_udp *u);

/* The oldest datagram in the queue; NULL: none. It stays until cs_udp_drop. */
const struct cs_datagram *cs_udp_first(struct cs_udp *u);
void cs_udp_drop(struct cs_udp *u);

/* The error that came after what is in the queue, told once: -ECONNREFUSED (nobody had the port
 * that a datagram was sent to) ...; 0: none. The socket is as good as before. */
int cs_udp_take_error(struct cs_udp *u);

/* The address went to newer scripts, or is being given up: nothing more is received. */
bool cs_udp_lost(const struct cs_udp *u);

/* Sends one datagram now; to: NULL on a connected socket. 0; -EAGAIN: the send buffer is full, see
 * cs_udp_watch; -EMSGSIZE, -EACCES (broadcast without the option), -EDESTADDRREQ, -ECONNREFUSED (of
 * an earlier one) ... */
CS_MUST_CHECK int cs_udp_send(struct cs_udp *u, const void *data, size_t len,
                              const struct cs_addr *to);

/* on_room follows when the send buffer has room. */
void cs_udp_watch(struct cs_udp *u);

/* 0 or -errno; peername of one that is not connected: CS_ESTATE. */
CS_MUST_CHECK int cs_udp_setsockopt(struct cs_udp *u, int level, int name, const void *value,
                                    socklen_t len);
CS_MUST_CHECK int cs_udp_sockname(struct cs_udp *u, struct cs_addr *out);
CS_MUST_CHECK int cs_udp_peername(const struct cs_udp *u, struct cs_addr *out);

int cs_udp_family(const struct cs_udp *u);

/* Datagrams dropped because the queue was full. */
uint64_t cs_udp_dropped(const struct cs_udp *u);

/* What gen staged is its own from now on; what others are bound to is lost to them. */
void cs_udp_commit(struct cs_net *n, unsigned gen);

/* SIGTERM: everything bound is lost to everybody. */
void cs_udp_stop(struct cs_net *n);

/* For net.c: closes whatever is left; owners get on_closed. */
void cs_udp_close_all(struct cs_net *n);

#endif
