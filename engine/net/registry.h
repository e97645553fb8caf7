/*
 * registry - every listening address of the process, and which generation of scripts it belongs to.
 *
 * A generation that loads stages its addresses; nothing changes for the running one until commit.
 * Then an address that both have is handed over (same socket), one that only the old has is
 * accepted to empty and closed, one that only the new has starts accepting. Rollback closes what
 * staging opened.
 *
 * Thread: the cell's (a lock joins when workers share it).
 */
#ifndef CS_NET_REGISTRY_H
#define CS_NET_REGISTRY_H

#include "net/listener.h"

struct cs_registry;
struct cs_bound;

/* What happens to a bound address from its owner's view. */
struct cs_bound_user {
    void (*on_ready)(void *user); /* a connection waits: cs_bound_take */
    void (*on_lost)(void *user);  /* handed over or closed: the bound is gone when this returns */
};

CS_MUST_CHECK int cs_registry_create(struct cs_registry **out);

/* Every bound must be gone; may still be closing listeners (they finish on their loop). */
void cs_registry_destroy(struct cs_registry *r);

/* Binds addr for `user`. gen: the owner's generation. live: accept at once (a bind at run time, or
 * a script without staging); else it waits for commit. addr gets the real port. dry: only checks
 * the address, opens nothing (-t). 0, -errno; -EADDRINUSE also when this generation has it already.
 */
CS_MUST_CHECK int cs_registry_bind(struct cs_registry *r, struct cs_bound **out, struct cs_net *n,
                                   struct cs_addr *addr, const struct cs_listen_options *o,
                                   const char *service, unsigned gen, bool live, bool dry,
                                   const struct cs_bound_user *ops, void *user);

/* Makes everything staged by gen live; whatever belongs to an older generation is taken over or
 * closed. on_lost of old owners is called from the loop. */
void cs_registry_commit(struct cs_registry *r, unsigned gen);

/* Drops everything staged by gen. */
void cs_registry_rollback(struct cs_registry *r, unsigned gen);

struct cs_conn *cs_bound_take(struct cs_bound *b);

/* The owner gives it up: on_lost is not called. */
void cs_bound_close(struct cs_bound *b);

const struct cs_addr *cs_bound_addr(const struct cs_bound *b);

/* Stops accepting everywhere (SIGTERM), and lets nothing be bound from now on (CS_ESHUTDOWN): every
 * live bound is closed as by commit of an empty generation. */
void cs_registry_stop(struct cs_registry *r);

/* True when no listener is open or closing. */
bool cs_registry_idle(const struct cs_registry *r);

#endif
