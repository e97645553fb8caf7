/*
 * ws - a WebSocket stream over a stream (RFC 6455): codec/ws.h between a user and whatever is
 * below. The handshake is over when it begins.
 *
 *   OPEN ──shutdown──▶ our Close has gone out, reading goes on
 *     ├── the peer's Close: answered; on_eof 0, writes fail with CS_EOF
 *     ├── the end below between two messages: on_eof 0, within one: CS_EWSCUT
 *     ├── the peer breaks the rules: Close 1002, 1007 or 1009; on_eof CS_EWS or CS_ETOOBIG
 *     └── close: our Close, then what comes is thrown away until the peer's Close (for drain_ms)
 *
 * To its user it is a stream of bytes, those of the data frames: what is written at once becomes
 * one message. A user that wants the frames asks cs_ws_stream_next for their edges, and is told of
 * input when that has something to say. Pings are answered as they are read, while the user pauses
 * nothing is.
 *
 * Owns:   the stream below, from creation on. An idle one holds no other memory.
 * Thread: its cell's.
 */
#ifndef CS_NET_WS_H
#define CS_NET_WS_H

#include "codec/ws.h"
#include "codec/ws_deflate.h"
#include "net/net.h"
#include "net/stream.h"

#define CS_WS_FRAME_MAX 65535u /* by default, both ways */
#define CS_WS_WHOLE_MAX 8192u  /* a frame up to this size is one input */
#define CS_WS_SIZE_MAX INT32_MAX

struct cs_ws_stream_spec {
    enum cs_ws_role role;
    /* messages: input comes in whole messages, empty ones included, text is checked to be UTF-8.
     * Otherwise in frames, without empty ones, and each frame has the type of its message. */
    bool messages;
    /* An empty message ends a direction: sent by shutdown, on_eof 0 when received. Both ends have
     * to agree on it. */
    bool half_close;
    uint32_t size_max; /* of a frame, or of a message, received; 1..CS_WS_SIZE_MAX */
    const struct cs_ws_deflate_options *deflate; /* agreed on; NULL: not. Only with `messages` */
    uint32_t ping_ms; /* without a byte from the peer until it is asked for one; after as much time
                         again without: on_eof -ETIMEDOUT. 0: never */
};

/* Takes lower over on success; input that it holds already is the first of the peer's frames. 0 or
 * -ENOMEM. */
CS_MUST_CHECK int cs_ws_stream_create(struct cs_stream **out, struct cs_net *n,
                                      struct cs_stream *lower,
                                      const struct cs_ws_stream_spec *spec);

bool cs_ws_stream_is(const struct cs_stream *s);

/* The functions below take WebSocket streams only. */

/* What is read next: a whole frame or message, or a piece of a frame over CS_WS_WHOLE_MAX. */
struct cs_ws_input {
    size_t len; /* bytes at the front of s->in */
    size_t at;  /* where they begin in the frame */
    size_t frame;
    bool text;
};

/* False: nothing can be read yet. */
bool cs_ws_stream_next(const struct cs_stream *s, struct cs_ws_input *in);

/* Drops n bytes of that: n <= len, all of an empty one. */
void cs_ws_stream_take(struct cs_stream *s, size_t n);

/* Edges are no longer wanted: on_input comes with every byte. */
void cs_ws_stream_set_bytes(struct cs_stream *s);

/* What is written from now on becomes: text, or binary (the default). */
void cs_ws_stream_set_text(struct cs_stream *s, bool text);

/* Bytes of the longest message that is sent; what is longer is cut into several. */
size_t cs_ws_stream_write_max(const struct cs_stream *s);

bool cs_ws_stream_is_messages(const struct cs_stream *s);

/* The code of the Close received; 1005: it had none; 0: no Close has been received. */
unsigned cs_ws_stream_close_code(const struct cs_stream *s);

/* len <= CS_WS_CONTROL_MAX. As cs_stream_write. */
CS_MUST_CHECK int cs_ws_stream_ping(struct cs_stream *s, const void *data, size_t len);

/* For net.c: what was left to read, in the write phase; the size of a stream in the pool; the end
 * of all (their users get on_closed). */
void cs_ws_phase(struct cs_net *n);
size_t cs_ws_stream_size(void);
void cs_ws_close_all(struct cs_net *n, bool abort, int why);

#endif
