/*
 * ws_frame - WebSocket frames out of chains of bytes: what codec/ws.h has for one header, for a
 * whole frame.
 */
#ifndef CS_CODEC_WS_FRAME_H
#define CS_CODEC_WS_FRAME_H

#include "base/chain.h"
#include "codec/ws.h"

/* Appends to out a frame, the last of its message, of the first n bytes of data, which are taken
 * out (also on failure, in part). A client's is masked, where the bytes are or in a copy. 0, or
 * -ENOMEM: drop out. */
CS_MUST_CHECK int cs_ws_frame_add(struct cs_chain *out, enum cs_ws_role role, enum cs_ws_op op,
                                  bool deflated, struct cs_chain *data, size_t n);

#endif
