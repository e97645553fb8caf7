/*
 * registry - the listening addresses of one worker: which cells accept on them, and which
 * generation of scripts they belong to in each.
 *
 *   address (one socket) ─┬─ cell 0: its listener, its bounds     accept is armed on one of the
 *                         ├─ cell 1: ...                          cells at a time
 *                         └─ ...
 *
 * A generation that loads stages its addresses; nothing changes for the running one until commit.
 * Then an address that both have is handed over (same socket), one that only the old has is
 * accepted to empty and closed, one that only the new has starts accepting. Rollback closes what
 * staging opened. All of that is per cell: an address stays open while any cell has it.
 *
 * Filling: accept is armed on the first cell (in the order in which they came) that has half of its
 * table free; else it stays where it is until that table is full, and then goes to the first cell
 * that is not nearly full. So connections gather in few cells, and as they end in an early cell it
 * is filled again.
 *
 * Thread: that of its cells.
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

/* table: of the process; worker: which of its workers this is. NULL: alone in the process. */
CS_MUST_CHECK int cs_registry_create(struct cs_registry **out, struct cs_listen_table *table,
                                     unsigned worker);

/* cs_registry_idle must be true, and every bound gone. */
void cs_registry_destroy(struct cs_registry *r);

/* Binds addr for `user` in the cell of n. gen: the owner's generation. live: accept at once (a bind
 * at run time, or a script without staging); else it waits for commit. addr gets the real port.
 * dry: only checks the address, opens nothing (-t). 0, -errno; -EADDRINUSE also when this
 * generation has it already in this cell. */
CS_MUST_CHECK int cs_registry_bind(struct cs_registry *r, struct cs_bound **out, struct cs_net *n,
                                   struct cs_addr *addr, const struct cs_listen_options *o,
                                   const char *service, unsigned gen, bool live, bool dry,
                                   const struct cs_bound_user *ops, void *user);

/* Address of the first given socket of that name (cs_inherit_add) which this generation has not
 * bound in this cell. 0 or -ENOENT. */
CS_MUST_CHECK int cs_registry_named(struct cs_registry *r, const struct cs_net *n, const char *name,
                                    unsigned gen, struct cs_addr *out);

/* Makes everything staged by gen in this cell live; whatever of the cell belongs to an older
 * generation is taken over or closed. on_lost of old owners is called from the loop. */
void cs_registry_commit(struct cs_registry *r, const struct cs_net *n, unsigned gen);

/* Drops everything of gen in this cell. */
void cs_registry_rollback(struct cs_registry *r, const struct cs_net *n, unsigned gen);

struct cs_conn *cs_bound_take(struct cs_bound *b);

/* The owner gives it up: on_lost is not called. */
void cs_bound_close(struct cs_bound *b);

const struct cs_addr *cs_bound_addr(const struct cs_bound *b);

/* Stops accepting in all cells (SIGTERM), and lets nothing be bound from now on (CS_ESHUTDOWN):
 * every live bound is closed as by commit of an empty generation. */
void cs_registry_stop(struct cs_registry *r);

/* This cell gives up all its addresses; nothing may be bound in it any more. */
void cs_registry_leave(struct cs_registry *r, const struct cs_net *n);

/* Accepting leaves this cell where an earlier one has half of its table free. True once it has left
 * at all addresses, and nobody waits here to be taken: until the next turn none can come. */
bool cs_registry_spare(struct cs_registry *r, const struct cs_net *n);

/* True when no listener of the cell is open or closing. */
bool cs_registry_left(const struct cs_registry *r, const struct cs_net *n);

/* True when no listener is open or closing. */
bool cs_registry_idle(const struct cs_registry *r);

#endif
