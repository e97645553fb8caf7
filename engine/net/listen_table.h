/*
 * listen_table - every listening socket of the process, and which worker opened it. Workers that
 * bind the same address get a socket each (SO_REUSEPORT: the kernel spreads clients over them), or,
 * as Unix sockets cannot be spread, a descriptor each of the same one. An address that somebody
 * else has is still found in use, and so is one that this worker has already: the first socket of
 * an address is bound without SO_REUSEPORT.
 *
 * Thread: any.
 */
#ifndef CS_NET_LISTEN_TABLE_H
#define CS_NET_LISTEN_TABLE_H

#include "ring/ring.h"

struct cs_listen_table;

/* workers: how many there are; with one SO_REUSEPORT is not used. NULL when out of memory. */
CS_MUST_CHECK struct cs_listen_table *cs_listen_table_create(unsigned workers);

/* Every socket must be closed. Accepts NULL. */
void cs_listen_table_destroy(struct cs_listen_table *t);

/* As cs_listen_open, for this worker (0, 1 ...). */
CS_MUST_CHECK int cs_listen_table_open(struct cs_listen_table *t, unsigned worker, int *fd,
                                       struct cs_addr *addr, const struct cs_listen_options *o);

/* As cs_listen_close. */
void cs_listen_table_close(struct cs_listen_table *t, int fd);

#endif
