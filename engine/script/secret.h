/*
 * secret - texts that may hold keys and passwords, outside of Lua's memory and wiped when they are
 * freed: copies of what a call was given, for a helper thread (blocking.h), and files.
 */
#ifndef CS_SCRIPT_SECRET_H
#define CS_SCRIPT_SECRET_H

#include "codec/cert.h"
#include "script/bind_io.h"

struct cs_secret {
    char *bytes; /* a zero stands behind them; NULL: nothing */
    size_t len;
};

void cs_secret_free(struct cs_secret *s); /* accepts one that is all zero */

/* A place that points to a text of Lua's, or is NULL: one of the two. */
struct cs_secret_copy {
    const char **string;
    struct cs_cert_text *text;
};

/* Copies all of them, in one piece of memory, and makes the places point there. Raises when out of
 * memory. */
CS_RAISES void cs_secret_copy(lua_State *L, struct cs_secret *out,
                              const struct cs_secret_copy *places, unsigned count);

/* Reads a regular file of at most 64 MiB (CRLs can be long). folder: where the name begins; NULL
 * base: a path of the system. On any thread. 0 or -errno. */
CS_MUST_CHECK int cs_secret_read(struct cs_secret *out, struct cs_io_place folder,
                                 const char *path);

#endif
