/*
 * admit - how many connections are let in: in all, of each service, and of each client address. One
 * for the process; what it counts are accepted connections, from the moment they may be used to
 * their end.
 *
 *   listener ──room?──▶ gate of its service ──▶ the gate of all
 *            ◀──wake── when there is room again: clients wait in the kernel's backlog meanwhile
 *
 * A client address with too many is not a reason to stop accepting: its next connection is refused.
 *
 * Thread: any; a lock of its own.
 */
#ifndef CS_NET_ADMIT_H
#define CS_NET_ADMIT_H

#include "base/addr.h"
#include "base/list.h"

struct cs_admit;
struct cs_gate; /* of a service */

/* 0: no limit. */
struct cs_admit_limits {
    unsigned max;        /* connections at a time */
    unsigned max_client; /* of one client address (Unix sockets have none) */
};

struct cs_admit_service {
    const char *name;
    struct cs_admit_limits limits;
};

CS_MUST_CHECK int cs_admit_create(struct cs_admit **out);

/* Every gate must have been given back. Accepts NULL. */
void cs_admit_destroy(struct cs_admit *a);

/* The limits from now on; a service that is not named has none. Who is in stays, also above a
 * limit. 0, or -ENOMEM and nothing has changed. */
CS_MUST_CHECK int cs_admit_configure(struct cs_admit *a, const struct cs_admit_limits *all,
                                     const struct cs_admit_service *services, size_t count);

/* The gate of a service, to be given back. NULL when out of memory. */
CS_MUST_CHECK struct cs_gate *cs_gate_get(struct cs_admit *a, const char *service);
void cs_gate_put(struct cs_gate *g);

/* What a connection was counted as: for cs_gate_leave. */
enum cs_admit_pass {
    CS_PASS_NONE = 0,
    CS_PASS_IN = 1 << 0,
    CS_PASS_CLIENT = 1 << 1,     /* with its address, for the service */
    CS_PASS_CLIENT_ALL = 1 << 2, /* ... in all */
};

/* Lets one connection in: bits of enum cs_admit_pass. -EAGAIN: the service, or all, are full;
 * -EUSERS: this client has its share (counted as refused); -ENOMEM. */
CS_MUST_CHECK int cs_gate_enter(struct cs_gate *g, const struct cs_addr *client);

/* It has ended: pass and client as they were. May wake waiters. */
void cs_gate_leave(struct cs_gate *g, unsigned pass, const struct cs_addr *client);

/* A datagram socket of the service has been opened (1) or closed (-1): these are counted only. */
void cs_gate_count_udp(struct cs_gate *g, int change);

/* How many more may enter now; UINT_MAX: no limit. */
unsigned cs_gate_room(struct cs_gate *g);

/* Somebody who waits for room. */
struct cs_admit_waiter {
    struct cs_list node;
    void (*wake)(void *user); /* any thread, under the lock */
    void *user;
};
void cs_admit_waiter_init(struct cs_admit_waiter *w, void (*wake)(void *user), void *user);

/* False when the gate has room after all; else `wake` is called once when some has come (not
 * necessarily enough for all who wait). Waiting already is fine. first: accepting pauses just now.
 */
CS_MUST_CHECK bool cs_gate_wait(struct cs_gate *g, struct cs_admit_waiter *w, bool first);
void cs_admit_waiter_stop(struct cs_admit *a, struct cs_admit_waiter *w);

/* For status: a service, or all (name NULL). */
struct cs_admit_count {
    const char *name;
    struct cs_admit_limits limits;
    unsigned open, udp; /* connections; datagram sockets */
    uint64_t refused;   /* for their client's share, since the start */
    uint64_t paused;    /* times that accepting paused for want of room */
};

/* Calls fn for all, then for each service that has listeners, connections or datagram sockets,
 * under the lock. */
void cs_admit_counts(struct cs_admit *a, void (*fn)(void *user, const struct cs_admit_count *c),
                     void *user);

#endif
