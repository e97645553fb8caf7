/*
 * tls - a TLS stream over a stream: codec/tls.h between a user and whatever is below.
 *
 *   HANDSHAKE ──▶ OPEN ──shutdown──▶ half closed: close_notify has gone out, reading goes on
 *       │           ├── close_notify of the peer: on_eof 0
 *       │           └── the end below without one: on_eof CS_ETLSCUT
 *       └── fails, takes too long, the stream below ends: on_eof with the error
 *
 * The handshake begins at once and needs nobody: it reads although the stream is paused, and what
 * is written meanwhile is held and sent after it. A graceful close waits for that.
 *
 * Handshakes run in the write phase, for BUDGET_NS a turn: many at once do not keep the others
 * waiting.
 *
 * Owns:   the stream below, from creation on; the session.
 * Thread: its cell's.
 */
#ifndef CS_NET_TLS_H
#define CS_NET_TLS_H

#include "codec/tls.h"
#include "net/net.h"
#include "net/stream.h"

/* Who follows the handshake, besides the stream's user; called from the loop. */
struct cs_tls_hooks {
    /* Once: it is over, with 0 or why it failed (after on_eof, then). Not after close or forget. */
    void (*ready)(void *arg, struct cs_stream *s, int err);
    /* A server whose context chooses: answer later with cs_tls_stream_choose, from the loop. What
     * it returns is passed to `abandon` when the answer is no longer needed; NULL: refused. */
    void *(*choose)(struct cs_stream *s, const struct cs_tls_offer *offer);
    void (*abandon)(void *choice);
};

struct cs_tls_stream_spec {
    struct cs_tls_context *context;
    const struct cs_tls_peer *peer;   /* client; NULL: of a server, or nothing particular. Copied */
    uint32_t timeout_ms;              /* of the handshake; 0: none */
    const struct cs_tls_hooks *hooks; /* or NULL; live for ever */
    void *arg;                        /* of ready; NULL: it is not called */
};

/* Takes lower over on success; input that it holds already is the beginning of the session. 0,
 * -ENOMEM, CS_EINVAL (peer). */
CS_MUST_CHECK int cs_tls_stream_create(struct cs_stream **out, struct cs_net *n,
                                       struct cs_stream *lower,
                                       const struct cs_tls_stream_spec *spec);

/* The session, or NULL when the stream is no TLS stream. */
struct cs_tls *cs_tls_stream_session(struct cs_stream *s);

/* True once the handshake has succeeded. */
bool cs_tls_stream_is_ready(const struct cs_stream *s);

/* ready is no longer called. Accepts other streams. */
void cs_tls_stream_forget(struct cs_stream *s);

enum cs_tls_answer { CS_TLS_ACCEPT, CS_TLS_REFUSE };

/* The answer to `choose`; context and cert as in cs_tls_choose. */
void cs_tls_stream_choose(struct cs_stream *s, enum cs_tls_answer answer,
                          struct cs_tls_context *context, struct cs_cert *cert);

/* Plain bytes of the largest record to send: CS_TLS_RECORD_MIN..MAX, clamped. */
void cs_tls_stream_set_record_max(struct cs_stream *s, size_t bytes);

/* For net.c: steps of handshakes, and what was left to decrypt, in the write phase; the size of a
 * stream in the pool; the end of all (their users get on_closed). */
bool cs_tls_phase(struct cs_net *n);
size_t cs_tls_stream_size(void);
void cs_tls_close_all(struct cs_net *n, bool abort, int why);

#endif
