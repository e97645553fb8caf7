/*
 * bind_cert - certificates for scripts (ba-api C.3): ba.create.sharkcert, certstore, key, csr,
 * certificate; ba.parsecert, ba.parsecerttime.
 */
#ifndef CS_SCRIPT_BIND_CERT_H
#define CS_SCRIPT_BIND_CERT_H

#include <lua.h>

#include "codec/cert.h"
#include "codec/cert_store.h"
#include "script/vm.h"

/* What a userdata of ba.create.sharkcert or certstore holds: borrowed. Raise when it is something
 * else. */
CS_RAISES struct cs_cert *cs_check_cert(lua_State *L, int arg);
CS_RAISES struct cs_store *cs_check_store(lua_State *L, int arg);

/* `return cs_with_system_store(L, use)`: use's results, called with a new store (borrowed, on top
 * of the stack) of the authorities that the system trusts, or of those in `.certificate/cacert.pem`
 * of ba.openio"vm" if that is there. The task waits while the file is read; the arguments stay on
 * the stack. Raises when there is none, or no valid one. */
CS_RAISES int cs_with_system_store(lua_State *L, int (*use)(lua_State *L, struct cs_store *s));

/* Pushes the table of ba.parsecert for a certificate (DER or PEM); nil when it is none.
 * Raises when out of memory. */
CS_RAISES void cs_push_cert_info(lua_State *L, const void *text, size_t len);

/* ---- bind_cert_make.c ---- */

/* Adds key, csr, certificate to the table on top (ba.create). */
CS_RAISES void cs_bind_cert_make(lua_State *L);

/* Pushes nil, code, phrase (err -EINVAL), or nil, "mem". Returns how many. */
CS_RAISES int cs_push_cert_error(lua_State *L, int err, const struct cs_cert_error *why);

#endif
