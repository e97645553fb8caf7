/*
 * ws - WebSocket frames out of bytes, in whatever pieces they arrive, and into bytes (RFC 6455 5).
 *
 *   HEADER ──▶ PAYLOAD ──▶ HEADER ...        data frames: handed out as they arrive, not collected
 *                                            control frames (at most 125 bytes): handed out whole
 *
 * No socket and no handshake here; masks are taken off in place. The only memory is that of a
 * control frame that comes in pieces.
 */
#ifndef CS_CODEC_WS_H
#define CS_CODEC_WS_H

#include "base/base.h"
#include "codec/utf8.h"

enum cs_ws_role { CS_WS_SERVER, CS_WS_CLIENT }; /* which end we are */

enum cs_ws_op {
    CS_WS_CONTINUATION = 0,
    CS_WS_TEXT = 1,
    CS_WS_BINARY = 2,
    CS_WS_CLOSE = 8,
    CS_WS_PING = 9,
    CS_WS_PONG = 10,
};

#define CS_WS_HEADER_MAX 14u
#define CS_WS_CONTROL_MAX 125u

struct cs_ws_options {
    enum cs_ws_role role;
    uint64_t frame_max; /* longest data frame taken, bytes */
    bool check_text;    /* text must be UTF-8 (where it is not compressed) */
    bool compressed;    /* permessage-deflate was agreed on: RSV1 may be set (RFC 7692 6) */
};

struct cs_ws {
    /* After an error: the code to close with (RFC 6455 7.4.1) and what was wrong, a constant. */
    uint16_t code;
    const char *why;

    /* The reader's own. */
    struct cs_ws_options options;
    uint8_t header[CS_WS_HEADER_MAX];
    uint8_t header_len, header_need;
    uint8_t opcode;  /* of the frame in progress */
    uint8_t message; /* enum cs_ws_op of the message in progress; 0: none */
    bool fin, in_payload, deflated;
    uint8_t mask[4];
    uint64_t len, at; /* of the payload of the frame in progress */
    struct cs_utf8 utf8;
    uint8_t *control; /* its payload so far; NULL: nothing is kept */
};

enum cs_ws_got {
    CS_WS_MORE,    /* all was used, more is needed */
    CS_WS_DATA,    /* a piece of a data frame; an empty frame gives one empty piece */
    CS_WS_CONTROL, /* a whole control frame */
};

struct cs_ws_part {
    size_t used;      /* bytes of the data given that are done with */
    enum cs_ws_op op; /* text or binary (also for continuations), or the control frame's */
    uint8_t *data;    /* unmasked; within the data given, or until the next call for a control */
    size_t len;
    uint64_t at;    /* data frames: where the piece begins in its frame */
    uint64_t frame; /* data frames: bytes of the whole frame */
    bool last;      /* the frame ends with this piece, and it is the message's last */
    bool deflated;  /* the message is compressed */
};

void cs_ws_init(struct cs_ws *w, const struct cs_ws_options *options);

/* Frees what it holds. */
void cs_ws_drop(struct cs_ws *w);

/* Looks at data, the next bytes of the connection, up to the next thing to tell; call again with
 * the rest. Returns enum cs_ws_got, -EBADMSG: close with w->code, or -ENOMEM. After an error:
 * nothing more. */
CS_MUST_CHECK int cs_ws_next(struct cs_ws *w, uint8_t *data, size_t len, struct cs_ws_part *part);

/* True between two messages: where a connection may end without losing a part of one. */
bool cs_ws_at_rest(const struct cs_ws *w);

/* The header of a frame with len bytes of payload; mask: what a client gives, NULL for a server.
 * Returns its length. */
unsigned cs_ws_header(uint8_t out[CS_WS_HEADER_MAX], enum cs_ws_op op, bool fin, bool deflated,
                      uint64_t len, const uint8_t mask[4]);

/* Puts a mask on bytes or takes it off; at: where they begin in the frame's payload. */
void cs_ws_mask(uint8_t *data, size_t len, const uint8_t mask[4], uint64_t at);

/* The code of a close frame: 1005 when it has none; -EBADMSG: not a proper close frame (a code that
 * may not be sent, one byte, a reason that is no UTF-8). The reason stands behind two bytes. */
CS_MUST_CHECK int cs_ws_close_code(const uint8_t *payload, size_t len);

#endif
