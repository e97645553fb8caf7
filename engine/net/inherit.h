/*
 * inherit - listening sockets that came with the start of the process, and those that are to
 * outlive it. Two kinds come:
 *
 *   given   by somebody who keeps the socket (a systemd socket unit): it is lent to whoever binds
 * its address, again and again, and never ended here kept    by the process before this one through
 * its keeper (systemd's fd store): the first bind of the address takes it over; what nobody has
 * bound when the first scripts are live is ended
 *
 * Thread: any; a lock of its own.
 */
#ifndef CS_NET_INHERIT_H
#define CS_NET_INHERIT_H

#include "base/addr.h"

struct cs_inherit;

/* Who holds sockets for the next process. Called by any thread; must not wait. */
struct cs_keeper {
    void (*keep)(void *user, int fd, const char *name); /* fd stays the caller's */
    void (*drop)(void *user, const char *name);
    void *user;
};

/* A listening socket and what is to become of it. */
struct cs_heir {
    int fd;
    unsigned kept; /* its number with the keeper; 0: it has none */
    bool lent;     /* given: close the descriptor, leave the socket */
};

/* keeper: NULL: sockets end with the process; else it is copied. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_inherit_create(struct cs_inherit **out, const struct cs_keeper *keeper);
void cs_inherit_destroy(struct cs_inherit *in); /* accepts NULL */

/* Adds a socket under the name it came with and takes fd over. A name that cs_inherit_keep made
 * says that it is a kept one. 0; -EINVAL: not a listening stream socket (it is closed); -ENOMEM
 * (closed). */
CS_MUST_CHECK int cs_inherit_add(struct cs_inherit *in, int fd, const char *name);

/* Address of the nth (from 0) given socket of that name. False when there are not so many. */
CS_MUST_CHECK bool cs_inherit_named(struct cs_inherit *in, const char *name, unsigned nth,
                                    struct cs_addr *out);

/* The socket of an address: 0 and *out, the caller's; -ENOENT when none came; -errno. */
CS_MUST_CHECK int cs_inherit_take(struct cs_inherit *in, const struct cs_addr *addr,
                                  struct cs_heir *out);

/* A socket that accepts is left with the keeper: sets h->kept, unless it is lent or kept already.
 */
void cs_inherit_keep(struct cs_inherit *in, struct cs_heir *h);

/* The keeper gives it up: the socket ends with this process, or before. */
void cs_inherit_drop(struct cs_inherit *in, struct cs_heir *h);

/* Ends the kept sockets that nobody has taken, and warns of given ones. */
void cs_inherit_settle(struct cs_inherit *in);

#endif
