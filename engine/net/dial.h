/*
 * dial - an outgoing connection: name to addresses, addresses in turn, one deadline for all of it.
 *
 *   RESOLVING ──addresses──▶ CONNECTING ──connected──▶ fn(conn)
 *       │                     │      ▲ next address
 *       │                     └──────┘
 *       └── fails ──▶ fn(error) ◀── none left, or the deadline
 *
 * While several addresses are left, one gets its share of the time that is left, so that a dead
 * first address does not use it all up.
 */
#ifndef CS_NET_DIAL_H
#define CS_NET_DIAL_H

#include "net/conn.h"
#include "net/resolve.h"

struct cs_dial;

struct cs_dial_spec {
    const char *host; /* name, literal address or unix:/path; copied */
    uint16_t port;
    enum cs_resolve_family family; /* of a name; a literal address says its own */
    const struct cs_addr *local;   /* bind to this first; NULL: not. Copied */
    uint32_t timeout_ms;           /* 0: none */
};

/* Called once from the loop, never from inside cs_dial_start: c is the open connection (the
 * callee's from now on) or NULL with err: CS_ERESOLVE, CS_ETIMEOUT, -ECONNREFUSED, ... The dial is
 * gone. */
typedef void cs_dial_fn(void *user, struct cs_conn *c, int err);

/* NULL when out of memory. */
CS_MUST_CHECK struct cs_dial *cs_dial_start(struct cs_net *n, const struct cs_dial_spec *spec,
                                            cs_dial_fn *fn, void *user);

/* Gives up; fn is not called. Not once fn has been called: the dial does not exist then. */
void cs_dial_cancel(struct cs_dial *d);

#endif
