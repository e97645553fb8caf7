/*
 * stream - the one interface between layers: seven calls down, four events up.
 *
 *     user (script socket, relay, or the stream above)
 *       │ write offer consume pause resume shutdown close  ▲ input room eof closed
 *       ▼                                                  │
 *     stream (conn; TLS over conn; WebSocket over either)
 *
 * Rules that hold for every layer:
 * - Events come from the loop, never from inside a call on the same stream: after a call the caller
 *   can rely on nothing having happened behind its back.
 * - A stream lives until its user closes it; `closed` is the last event. A user that no longer
 * wants events detaches (cs_stream_detach) and closes.
 * - Input that nobody consumes stays in `in`; a layer stops reading when that passes its high mark.
 *   A new stream is paused: it reads nothing until the first resume.
 * - Writes are never refused for fullness: whoever writes looks at cs_stream_room first, and waits
 *   for `room` when there is none. Bytes given to write are delivered before a graceful close or a
 *   shutdown takes effect.
 */
#ifndef CS_NET_STREAM_H
#define CS_NET_STREAM_H

#include <sys/types.h>

#include "base/addr.h"
#include "base/chain.h"
#include "base/err.h"

struct cs_stream;

enum cs_close_how {
    CS_CLOSE_GRACEFUL, /* flush (bounded in time), end the write side, drain briefly, close */
    CS_CLOSE_ABORT,    /* drop unsent bytes; the peer sees a reset where the layer has one */
};

/* Events, called by the stream. */
struct cs_stream_user {
    /* s->in grew. Take what you can with cs_stream_consume; the rest stays. */
    void (*on_input)(void *user, struct cs_stream *s);
    /* Outstanding output fell below the low mark after cs_stream_room was 0. */
    void (*on_room)(void *user, struct cs_stream *s);
    /* No more input will come: err 0 = the peer ended its side, else the connection broke (s->err
     * is set, writes fail from now on). Can come a second time, with an error, after a clean end.
     */
    void (*on_eof)(void *user, struct cs_stream *s, int err);
    /* The last event, after close: s is freed when this returns. */
    void (*on_closed)(void *user, struct cs_stream *s);
};

/* Calls, implemented by the layer. See the wrappers below for the contracts. */
struct cs_stream_ops {
    const char *kind; /* "tcp", "tls" ... */
    int (*write)(struct cs_stream *s, struct cs_chain *data);
    ssize_t (*offer)(struct cs_stream *s, const void *data, size_t len);
    void (*consumed)(struct cs_stream *s); /* s->in has shrunk */
    void (*pause)(struct cs_stream *s);
    void (*resume)(struct cs_stream *s);
    void (*shutdown)(struct cs_stream *s);
    void (*close)(struct cs_stream *s, enum cs_close_how how, int why);
    size_t (*room)(const struct cs_stream *s);
    size_t (*queued)(const struct cs_stream *s);
    struct cs_stream *(*lower)(const struct cs_stream *s); /* the stream below; NULL for a conn */
};

struct cs_stream {
    const struct cs_stream_ops *ops;
    const struct cs_stream_user *user_ops; /* NULL: detached */
    void *user;
    struct cs_chain in; /* received, not consumed */
    int err;            /* why the connection broke; 0 while it works */
    bool eof;           /* on_eof has been (or would have been) called */
};

/* Who gets the events from now on. Input already in s->in is not announced again. */
static inline void cs_stream_attach(struct cs_stream *s, const struct cs_stream_user *ops,
                                    void *user)
{
    s->user_ops = ops;
    s->user = user;
}

static inline void cs_stream_detach(struct cs_stream *s)
{
    s->user_ops = NULL;
    s->user = NULL;
}

/* Takes all slices of data (which is empty afterwards, also on failure). 0, or the error that broke
 * the stream (also before on_eof could tell it), CS_ECLOSED after close or shutdown, -ENOMEM (then
 * nothing was taken that would be sent in part). */
CS_MUST_CHECK static inline int cs_stream_write(struct cs_stream *s, struct cs_chain *data)
{
    return s->ops->write(s, data);
}

/* As write, but now and not more than TCP takes: first what is outstanding, then of these bytes.
 * How many of them were taken: 0 when TCP is full. Or an error as that of write. A layer whose
 * records cannot be cut takes all or none; the rest is outstanding then (cs_stream_queued). */
CS_MUST_CHECK static inline ssize_t cs_stream_offer(struct cs_stream *s, const void *data,
                                                    size_t len)
{
    return s->ops->offer(s, data, len);
}

/* Takes the first n bytes of s->in (n <= s->in.len) out: moved to the end of `into`, or dropped
 * when that is NULL. Reading goes on when there is space again. 0, or -ENOMEM with nothing lost. */
CS_MUST_CHECK static inline int cs_stream_consume(struct cs_stream *s, size_t n,
                                                  struct cs_chain *into)
{
    int err = 0;
    if (into) {
        err = cs_chain_move(into, &s->in, n);
    } else {
        cs_chain_drop(&s->in, n);
    }
    if (err == 0) {
        s->ops->consumed(s);
    }
    return err;
}

/* Stop reading (what is on its way still arrives), go on reading. Idempotent. */
static inline void cs_stream_pause(struct cs_stream *s)
{
    s->ops->pause(s);
}

static inline void cs_stream_resume(struct cs_stream *s)
{
    s->ops->resume(s);
}

/* Ends the write side after what was written. Idempotent. */
static inline void cs_stream_shutdown(struct cs_stream *s)
{
    s->ops->shutdown(s);
}

/* why: a code of err.h for the log, 0 for an ordinary end. A second call can turn a graceful close
 * into an abort, otherwise it does nothing. on_closed follows in a later turn. */
static inline void cs_stream_close(struct cs_stream *s, enum cs_close_how how, int why)
{
    s->ops->close(s, how, why);
}

/* Bytes that may be written now before the high mark; 0: wait for `room`. */
static inline size_t cs_stream_room(const struct cs_stream *s)
{
    return s->ops->room(s);
}

/* Bytes given to write that the kernel has not taken yet. */
static inline size_t cs_stream_queued(const struct cs_stream *s)
{
    return s->ops->queued(s);
}

/* offer, for a layer whose records cannot be cut. */
CS_MUST_CHECK static inline ssize_t cs_stream_offer_whole(struct cs_stream *s, const void *data,
                                                          size_t len)
{
    struct cs_stream *lower = s->ops->lower(s);
    struct cs_chain copy;
    ssize_t n = cs_stream_offer(lower, NULL, 0);
    if (n < 0 || cs_stream_queued(s) > 0) {
        return CS_MIN(n, 0);
    }
    cs_chain_init(&copy);
    int err = cs_chain_append(&copy, data, len);
    if (err == 0) {
        err = cs_stream_write(s, &copy);
    }
    n = err < 0 ? err : cs_stream_offer(lower, NULL, 0);
    return n < 0 ? n : (ssize_t)len;
}

/* The connection at the bottom of a stack of streams. */
static inline struct cs_stream *cs_stream_bottom(struct cs_stream *s)
{
    for (struct cs_stream *l = s->ops->lower(s); l; l = l->ops->lower(l)) {
        s = l;
    }
    return s;
}

#endif
