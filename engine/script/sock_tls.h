/*
 * sock_tls - what a Lua socket keeps for TLS beside its stream: whom a connect is to reach and how,
 * or what a listener does to the connections it accepts.
 */
#ifndef CS_SCRIPT_SOCK_TLS_H
#define CS_SCRIPT_SOCK_TLS_H

#include "net/tls.h"
#include "script/vm.h"

struct cs_sock;

/* Each socket that has been connected keeps one, for the name: so no byte more than it takes. */
struct cs_sock_tls {
    struct cs_tls_context *context; /* NULL: no TLS (yet: the host is for a later upgrade) */
    union {
        uint64_t deadline_ms; /* of a connect with everything that belongs to it */
        uint32_t timeout_ms;  /* of the handshakes of a listener */
    };
    bool strict : 1;         /* an untrusted peer is refused */
    bool pinned : 1;         /* the registry keeps an object of Lua's for it */
    bool host : 1, alpn : 1; /* are there, in this order */
    char strings[];
};

/* Copies the strings; context may be NULL, else gets a reference. NULL: no memory. */
CS_MUST_CHECK struct cs_sock_tls *cs_sock_tls_create(struct cs_tls_context *context,
                                                     const char *host, const char *alpn,
                                                     bool strict);
void cs_sock_tls_free(struct cs_vm *vm, struct cs_sock_tls *tls); /* accepts NULL */

/* Whom a connect is to reach, NULL: nobody by name. */
const char *cs_sock_tls_host(const struct cs_sock_tls *tls);

/* The shark object on top of L's stack lives as long as tls. Pops it. */
CS_RAISES void cs_sock_tls_pin(lua_State *L, struct cs_sock_tls *tls);

/* A TLS stream over `lower`, for s: its waiter is woken when the handshake is over. As
 * cs_tls_stream_create; lower stays the caller's after a failure. */
CS_MUST_CHECK int cs_sock_tls_open(struct cs_stream **out, struct cs_sock *s,
                                   struct cs_stream *lower, const struct cs_sock_tls *tls,
                                   uint32_t timeout_ms);

#endif
