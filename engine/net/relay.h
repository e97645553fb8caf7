/*
 * relay - joins two streams in C: what one reads the other writes, both ways, until both have
 * ended.
 *
 *   a.input ─▶ b.write     the end of a's input becomes b's shutdown, and the other way round
 *   b full  ─▶ a paused    b.room ─▶ a resumed
 *
 * Ends when both directions have ended, when either stream breaks (the other is then aborted too),
 * when nothing moved for idle_ms, when one direction has ended and the other stayed silent for
 * linger_ms, or when cs_relay_stop is called. Both streams are closed then.
 *
 * Works on any two streams. Owns both from cs_relay_start to the end.
 */
#ifndef CS_NET_RELAY_H
#define CS_NET_RELAY_H

#include "net/net.h"
#include "net/stream.h"

struct cs_relay;

struct cs_relay_options {
    /* Both are noticed within a quarter of the time more. */
    uint32_t idle_ms;   /* 0: never */
    uint32_t linger_ms; /* 0: never; default 30,000 */
};

enum cs_relay_side { CS_RELAY_NOBODY = -1, CS_RELAY_A = 0, CS_RELAY_B = 1 };

struct cs_relay_result {
    uint64_t bytes[2];        /* [0] a to b, [1] b to a: handed over */
    int err;                  /* 0: both ended; CS_EIDLE, CS_ELINGER, or what broke a stream */
    enum cs_relay_side first; /* which side ended or broke first */
};

/* Called once from the loop; the relay is freed when it returns. */
typedef void cs_relay_done_fn(void *user, const struct cs_relay_result *result);

/* For net.c: the size of a relay in the pool. */
size_t cs_relay_size(void);

void cs_relay_options_default(struct cs_relay_options *o);

/* Takes both streams over on success, unread input included. done may be NULL. NULL when out of
 * memory (streams stay the caller's). */
CS_MUST_CHECK struct cs_relay *cs_relay_start(struct cs_net *n, struct cs_stream *a,
                                              struct cs_stream *b, const struct cs_relay_options *o,
                                              cs_relay_done_fn *done, void *user);

/* Nobody is told at the end any more. */
void cs_relay_forget(struct cs_relay *r);

/* Ends it: both streams are closed, gracefully or by abort; `why` is the result's err. done follows
 * from the loop. */
void cs_relay_stop(struct cs_relay *r, enum cs_close_how how, int why);

#endif
