/*
 * listen_table - every listening socket of the process, and which worker opened it. Workers that
 * bind the same address get a socket each (SO_REUSEPORT: the kernel spreads clients over them), or,
 * as Unix sockets cannot be spread, a descriptor each of the same one. An address that somebody
 * else has is still found in use, and so is one that this worker has already: the first socket of
 * an address is bound without SO_REUSEPORT. A socket that came with the process comes before a new
 * one, and those that accept are left with the keeper for the process after this one.
 *
 * Thread: any.
 */
#ifndef CS_NET_LISTEN_TABLE_H
#define CS_NET_LISTEN_TABLE_H

#include "net/inherit.h"
#include "ring/ring.h"

struct cs_listen_table;

/* workers: how many there are; with one SO_REUSEPORT is not used. inherit: where sockets come from
 * and go to besides, the caller's; NULL: nowhere. NULL when out of memory. */
CS_MUST_CHECK struct cs_listen_table *cs_listen_table_create(unsigned workers,
                                                             struct cs_inherit *inherit);

/* Every socket must be closed. Accepts NULL. */
void cs_listen_table_destroy(struct cs_listen_table *t);

/* As cs_listen_open, for this worker (0, 1 ...). */
CS_MUST_CHECK int cs_listen_table_open(struct cs_listen_table *t, unsigned worker, int *fd,
                                       struct cs_addr *addr, const struct cs_listen_options *o);

/* As cs_listen_close; a socket that somebody else goes on with is only left. */
void cs_listen_table_close(struct cs_listen_table *t, int fd);

/* Address of the nth (from 0) given socket of that name. False when there are not so many. */
CS_MUST_CHECK bool cs_listen_table_named(struct cs_listen_table *t, const char *name, unsigned nth,
                                         struct cs_addr *out);

/* The first scripts are live in all workers: from now on the keeper has what is open, and no more.
 */
void cs_listen_table_settle(struct cs_listen_table *t);

/* The process ends: what the keeper has stays with it. */
void cs_listen_table_leave(struct cs_listen_table *t);

#endif
