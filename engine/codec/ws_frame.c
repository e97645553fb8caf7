/* ws_frame - see ws_frame.h. */
#include "codec/ws_frame.h"

#include <stdlib.h>
#include <string.h>

#define COPY_MAX 4096u /* shorter frames are put together in one piece */

/* RFC 6455 10.3: nobody can tell the next one. The kernel is asked for many at once. */
static void draw_mask(uint8_t mask[4])
{
    static _Thread_local struct {
        uint8_t bytes[1024];
        size_t left;
    } pool;
    if (pool.left == 0) {
        arc4random_buf(pool.bytes, sizeof(pool.bytes));
        pool.left = sizeof(pool.bytes);
    }
    pool.left -= 4;
    memcpy(mask, pool.bytes + pool.left, 4);
}

/* Masks the first n bytes where they are. */
static void mask_front(struct cs_chain *data, size_t n, const uint8_t mask[4])
{
    size_t at = 0;
    for (struct cs_slice *s = cs_chain_first(data); at < n; s = cs_chain_next(data, s)) {
        size_t part = CS_MIN((size_t)s->len, n - at);
        cs_ws_mask(s->data, part, mask, at);
        at += part;
    }
}

int cs_ws_frame_add(struct cs_chain *out, enum cs_ws_role role, enum cs_ws_op op, bool deflated,
                    struct cs_chain *data, size_t n)
{
    uint8_t mask[4], frame[CS_WS_HEADER_MAX + COPY_MAX];
    bool masked = role == CS_WS_CLIENT;
    if (masked) {
        draw_mask(mask);
    }
    unsigned head = cs_ws_header(frame, op, true, deflated, n, masked ? mask : NULL);
    if (n <= COPY_MAX) {
        cs_chain_peek(data, frame + head, n);
        cs_chain_drop(data, n);
        if (masked) {
            cs_ws_mask(frame + head, n, mask, 0);
        }
        return cs_chain_append(out, frame, head + n);
    }
    if (masked) {
        mask_front(data, n, mask);
    }
    int err = cs_chain_append(out, frame, head);
    return err < 0 ? err : cs_chain_move(out, data, n);
}
