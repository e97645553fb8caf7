/*
 * bind_shark - ba.create.sharkssl and ba.sharkclient (ba-api C.3): what sockets need for TLS, as an
 * object of Lua; and the function of a server that chooses certificates.
 */
#ifndef CS_SCRIPT_BIND_SHARK_H
#define CS_SCRIPT_BIND_SHARK_H

#include "net/tls.h"
#include "script/bind.h"

struct cs_shark {
    struct cs_tls_context *context;
    uint32_t timeout_ms; /* of a handshake that this program does not wait for in connect */
};

/* The argument; raises when it is something else. Borrowed: whoever keeps the context takes a
 * reference. */
CS_RAISES struct cs_shark *cs_check_shark(lua_State *L, int arg);

/* The same from the field `shark` of an option table: NULL when there is none. Raises also when it
 * is for the other side, or a server without a certificate. Leaves the value on the stack. */
CS_RAISES struct cs_shark *cs_opt_shark(lua_State *L, int table, bool server);

/* The script phase: starts the functions that are to choose. */
void cs_sharks_choose(struct cs_vm *vm);

/* Nobody of this VM chooses any more: who waits is refused. */
void cs_sharks_forget(struct cs_vm *vm);

/* The hooks of net/tls.h that ask such a function. */
void *cs_shark_choose(struct cs_stream *s, const struct cs_tls_offer *offer);
void cs_shark_abandon(void *choice);

#endif
