/*
 * stream_frame - a stream over a stream that shows whether layers compose as TLS and WebSocket
 * will: bytes go in frames, changed by xor; a frame may wait on either side; an empty frame ends a
 * direction, and an end without it is an error, as it is in TLS.
 *
 *   frame = length (2 bytes, big endian), bytes xor (0x5a + number of the frame)
 *
 * Owns the stream below from creation to on_closed.
 */
#ifndef SIM_STREAM_FRAME_H
#define SIM_STREAM_FRAME_H

#include "net/stream.h"
#include "ring/loop.h"

struct stream_frame_config {
    size_t frame_max; /* bytes of the largest frame sent, 1..65535 */
    size_t in_high;   /* decoded input stops at this */
    unsigned late_pm; /* input or output waits for a timer */
};

/* Takes lower over; nobody may be attached to it. NULL when out of memory (lower stays the
 * caller's). */
CS_MUST_CHECK struct cs_stream *stream_frame_create(struct cs_loop *loop, struct cs_stream *lower,
                                                    const struct stream_frame_config *config);

/* Frames that exist. */
unsigned stream_frame_count(void);

#endif
