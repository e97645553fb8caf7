/*
 * holds - what keeps an old generation of scripts: the places where its coroutines wait on sockets
 * and relays. Its last socket gone, a draining generation ends.
 */
#ifndef CS_SCRIPT_HOLDS_H
#define CS_SCRIPT_HOLDS_H

#include <stddef.h>

struct cs_vm;

/* Coroutines that wait at the same place for the same. */
struct cs_hold {
    char place[80];    /* "script.lua:12" */
    const char *waits; /* "read", "relay" ...: a constant */
    unsigned count;
};

/* Places listed of one generation; those with fewer coroutines are left out. */
#define CS_HOLDS_MAX 6

/* Fills at most CS_HOLDS_MAX entries, the largest first; returns how many. Looks at a bounded
 * number of coroutines. */
unsigned cs_holds(struct cs_vm *vm, struct cs_hold *out);

/* Adds the counts of `from` to those of `to`; returns how many entries `to` has then. */
unsigned cs_holds_merge(struct cs_hold *to, unsigned count, const struct cs_hold *from,
                        unsigned from_count);

/* Logs the tracebacks of some that are about to be cut. */
void cs_holds_log(struct cs_vm *vm);

#endif
