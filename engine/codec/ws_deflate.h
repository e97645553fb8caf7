/*
 * ws_deflate - messages of WebSockets made smaller and larger again (permessage-deflate, RFC 7692),
 * with zlib.
 *
 * A direction without context takeover holds memory only while a message of it is in progress.
 */
#ifndef CS_CODEC_WS_DEFLATE_H
#define CS_CODEC_WS_DEFLATE_H

#include "base/chain.h"

#define CS_WS_BITS_MIN 9 /* zlib cannot send with a window of 2^8 */
#define CS_WS_BITS_MAX 15

struct cs_ws_deflate;

/* Of each direction: whether a message may refer to those before it, and the window, 2^bits bytes.
 */
struct cs_ws_deflate_options {
    bool send_takeover, receive_takeover;
    uint8_t send_bits, receive_bits;
};

/* NULL: no memory. */
CS_MUST_CHECK struct cs_ws_deflate *cs_ws_deflate_create(const struct cs_ws_deflate_options *o);
void cs_ws_deflate_destroy(struct cs_ws_deflate *d); /* accepts NULL */

/* Appends the payload of one message made of the first n bytes of data, n > 0, which are dropped. 0
 * or -ENOMEM: the connection cannot go on. */
CS_MUST_CHECK int cs_ws_deflate_message(struct cs_ws_deflate *d, struct cs_chain *data, size_t n,
                                        struct cs_chain *out);

/* Takes payload of the message in progress and appends at most max bytes of what it was made of.
 * 1: there is more to come of what has been taken, call again (also with len 0); 0: there is not;
 * -EBADMSG: it is damaged; -ENOMEM. used: bytes of data taken. */
CS_MUST_CHECK int cs_ws_inflate(struct cs_ws_deflate *d, const void *data, size_t len, size_t max,
                                size_t *used, struct cs_chain *out);

/* The payload has been given. As cs_ws_inflate; with 0 the message has ended. */
CS_MUST_CHECK int cs_ws_inflate_end(struct cs_ws_deflate *d, size_t max, struct cs_chain *out);

#endif
