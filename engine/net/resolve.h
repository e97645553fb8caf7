/*
 * resolve - host names to addresses by c-ares on the cell's own loop; answers are cached for their
 * TTL (bounded), failures briefly. Literal addresses never come here (cs_addr_parse).
 *
 *   unknown ──cs_resolve──▶ asking ──answer──▶ fresh ──TTL over, cs_resolve──▶ asking
 *                              └──failure──▶ failed (2 s), or the last good answer once more: for
 * at most an hour, and not when the name is known not to exist
 *
 * Who asks for a name that is being asked for already shares the answer. The hosts file comes
 * first, then the servers of /etc/resolv.conf, which is looked at again when it changes. For tests
 * and special set-ups the environment variable COSOCKD_DNS=host:port[,host:port] replaces those
 * servers.
 *
 * Thread: its cell's.
 */
#ifndef CS_NET_RESOLVE_H
#define CS_NET_RESOLVE_H

#include "base/list.h"
#include "net/net.h"

enum cs_resolve_family { CS_RESOLVE_ANY, CS_RESOLVE_V4, CS_RESOLVE_V6 };

/* Addresses of one name beyond this are left out. */
#define CS_RESOLVE_ADDRS_MAX 32

struct cs_resolve_query;

/* n addresses (port set), IPv4 first when both were asked for; or err < 0: CS_ERESOLVE, -ENOMEM,
 * CS_ELIMIT (too many names are being asked for), CS_ECLOSED (after cs_resolver_stop). Called once
 * from the loop, never from inside cs_resolve. The addresses stand for the length of the call. */
typedef void cs_resolve_fn(struct cs_resolve_query *q, int err, const struct cs_addr *addrs,
                           unsigned n);

/* Embedded in whoever asks; free again when fn is called or after cs_resolve_cancel. */
struct cs_resolve_query {
    struct cs_list node; /* private */
    cs_resolve_fn *fn;
    uint16_t port;
    int err; /* private: why it never came to asking */
};

/* 0 or -ENOMEM. c-ares is not touched before the first name. */
CS_MUST_CHECK int cs_resolver_create(struct cs_resolver **out, struct cs_net *n);

/* Queries under way are dropped without a call. Not from inside a cs_resolve_fn. Polls that are
 * still with the kernel are cancelled and need a further turn of the loop: stop and wait for
 * cs_resolver_idle before the loop goes. Accepts NULL. */
void cs_resolver_destroy(struct cs_resolver *r);

/* Gives up everything under way: queries are answered with CS_ECLOSED, later ones too. */
void cs_resolver_stop(struct cs_resolver *r);

/* Starts; the answer always comes by q->fn. q->fn and q->port are set by the caller. */
void cs_resolve(struct cs_resolver *r, struct cs_resolve_query *q, const char *name,
                enum cs_resolve_family family);

/* fn is not called any more. Harmless after it was called, and on a query that is all zero. */
void cs_resolve_cancel(struct cs_resolve_query *q);

/* True when nothing is under way. */
bool cs_resolver_idle(const struct cs_resolver *r);

#endif
