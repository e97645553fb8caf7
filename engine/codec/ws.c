/* ws - see ws.h. */
#include "codec/ws.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"

#define FIN 0x80u
#define RSV1 0x40u
#define RSV 0x70u
#define MASKED 0x80u
#define CONTROL 0x08u

void cs_ws_init(struct cs_ws *w, const struct cs_ws_options *options)
{
    *w = (struct cs_ws){.options = *options, .header_need = 2};
}

void cs_ws_drop(struct cs_ws *w)
{
    cs_free(w->control);
    w->control = NULL;
}

static int refuse(struct cs_ws *w, uint16_t code, const char *why)
{
    w->code = code;
    w->why = why;
    return -EBADMSG;
}

/* ---- masks ---- */

typedef uint64_t vector __attribute__((vector_size(32)));

void cs_ws_mask(uint8_t *data, size_t len, const uint8_t mask[4], uint64_t at)
{
    uint8_t turned[sizeof(vector)];
    for (unsigned i = 0; i < sizeof(turned); i++) {
        turned[i] = mask[(at + i) & 3];
    }
    vector key, v;
    memcpy(&key, turned, sizeof(key));
    size_t i = 0;
    for (; len - i >= sizeof(v); i += sizeof(v)) {
        memcpy(&v, data + i, sizeof(v));
        v ^= key;
        memcpy(data + i, &v, sizeof(v));
    }
    for (; i < len; i++) {
        data[i] ^= turned[i & 3];
    }
}

/* ---- reading a header ---- */

/* The first two bytes say how long the header is, and most of what can be wrong with it. */
static int first_bytes(struct cs_ws *w)
{
    uint8_t flags = w->header[0], op = flags & 0x0f, len = w->header[1] & 0x7f;
    bool masked = w->header[1] & MASKED;
    bool control = op & CONTROL;
    if (op > CS_WS_PONG || (op > CS_WS_BINARY && op < CS_WS_CLOSE)) {
        return refuse(w, 1002, "an unknown opcode");
    }
    if (masked != (w->options.role == CS_WS_SERVER)) {
        return refuse(w, 1002, masked ? "a masked frame from a server" : "a frame without mask");
    }
    unsigned allowed = w->options.compressed && (op == CS_WS_TEXT || op == CS_WS_BINARY) ? RSV1 : 0;
    if (flags & RSV & ~allowed) {
        return refuse(w, 1002, "a reserved bit is set");
    }
    if (control && (!(flags & FIN) || len > CS_WS_CONTROL_MAX)) {
        return refuse(w, 1002, "a control frame that is too long or in pieces");
    }
    if (!control && (op == CS_WS_CONTINUATION) != (w->message != 0)) {
        return refuse(w, 1002,
                      w->message ? "a new message within a message" : "nothing to continue");
    }
    w->opcode = op;
    w->fin = flags & FIN;
    if (op == CS_WS_TEXT || op == CS_WS_BINARY) {
        w->deflated = flags & RSV1;
    }
    w->header_need = (uint8_t)(2u +
                               (len == 126   ? 2u
                                : len == 127 ? 8u
                                             : 0u) +
                               (masked ? sizeof(w->mask) : 0u));
    return 0;
}

static int whole_header(struct cs_ws *w)
{
    const uint8_t *p = w->header + 2;
    uint64_t len = w->header[1] & 0x7f, shortest = 0;
    if (len == 126) {
        uint16_t n;
        memcpy(&n, p, sizeof(n));
        p += sizeof(n);
        len = be16toh(n);
        shortest = 126;
    } else if (len == 127) {
        uint64_t n;
        memcpy(&n, p, sizeof(n));
        p += sizeof(n);
        len = be64toh(n);
        shortest = 65536;
    }
    if (len < shortest || len > INT64_MAX) {
        return refuse(w, 1002, "a bad frame length");
    }
    if (!(w->opcode & CONTROL)) {
        if (len > w->options.frame_max) {
            return refuse(w, 1009, "a frame over the limit");
        }
        w->message = w->opcode ? w->opcode : w->message;
    }
    if (w->options.role == CS_WS_SERVER) {
        memcpy(w->mask, p, sizeof(w->mask));
    }
    w->len = len;
    w->at = 0;
    w->in_payload = true;
    return 0;
}

/* ---- reading a payload ---- */

static void frame_over(struct cs_ws *w)
{
    w->in_payload = false;
    w->header_len = 0;
    w->header_need = 2;
}

static int data_piece(struct cs_ws *w, uint8_t *data, size_t n, struct cs_ws_part *part)
{
    *part = (struct cs_ws_part){.used = part->used + n,
                                .op = (enum cs_ws_op)w->message,
                                .data = data,
                                .len = n,
                                .at = w->at,
                                .frame = w->len,
                                .deflated = w->deflated};
    w->at += n;
    bool over = w->at == w->len;
    part->last = over && w->fin;
    if (w->message == CS_WS_TEXT && w->options.check_text && !w->deflated) {
        if (!cs_utf8_feed(&w->utf8, data, n) || (part->last && !cs_utf8_complete(&w->utf8))) {
            return refuse(w, 1007, "text that is not UTF-8");
        }
    }
    if (part->last) {
        w->message = 0;
    }
    if (over) {
        frame_over(w);
    }
    return CS_WS_DATA;
}

static int control_piece(struct cs_ws *w, uint8_t *data, size_t n, struct cs_ws_part *part)
{
    part->used += n;
    if (n < w->len && !w->control) {
        w->control = cs_alloc((size_t)w->len);
        if (!w->control) {
            return -ENOMEM;
        }
    }
    if (w->control && n > 0) {
        memcpy(w->control + w->at, data, n);
    }
    w->at += n;
    if (w->at < w->len) {
        return CS_WS_MORE;
    }
    part->op = (enum cs_ws_op)w->opcode;
    part->data = w->control ? w->control : data;
    part->len = (size_t)w->len;
    frame_over(w);
    return CS_WS_CONTROL;
}

static int payload(struct cs_ws *w, uint8_t *data, size_t len, struct cs_ws_part *part)
{
    size_t n = (size_t)CS_MIN((uint64_t)len, w->len - w->at);
    if (n > 0 && w->options.role == CS_WS_SERVER) {
        cs_ws_mask(data, n, w->mask, w->at);
    }
    return w->opcode & CONTROL ? control_piece(w, data, n, part) : data_piece(w, data, n, part);
}

int cs_ws_next(struct cs_ws *w, uint8_t *data, size_t len, struct cs_ws_part *part)
{
    *part = (struct cs_ws_part){0};
    if (w->code) {
        return -EBADMSG;
    }
    if (!w->in_payload) {
        cs_ws_drop(w);
    }
    while (part->used < len || (w->in_payload && w->len == 0)) {
        if (w->in_payload) {
            int got = payload(w, data + part->used, len - part->used, part);
            if (got != CS_WS_MORE) {
                return got;
            }
            continue;
        }
        w->header[w->header_len++] = data[part->used++];
        int err = 0;
        if (w->header_len == 2) {
            err = first_bytes(w);
        }
        if (err == 0 && w->header_len == w->header_need) {
            err = whole_header(w);
        }
        if (err < 0) {
            return err;
        }
    }
    return CS_WS_MORE;
}

bool cs_ws_at_rest(const struct cs_ws *w)
{
    return w->message == 0 && !w->in_payload && w->header_len == 0;
}

/* ---- writing ---- */

unsigned cs_ws_header(uint8_t out[CS_WS_HEADER_MAX], enum cs_ws_op op, bool fin, bool deflated,
                      uint64_t len, const uint8_t mask[4])
{
    unsigned n = 2;
    uint8_t first = (uint8_t)len;
    if (len > UINT16_MAX) {
        uint64_t be = htobe64(len);
        memcpy(out + n, &be, sizeof(be));
        n += sizeof(be);
        first = 127;
    } else if (len > CS_WS_CONTROL_MAX) {
        uint16_t be = htobe16((uint16_t)len);
        memcpy(out + n, &be, sizeof(be));
        n += sizeof(be);
        first = 126;
    }
    out[0] = (uint8_t)((fin ? FIN : 0) | (deflated ? RSV1 : 0) | op);
    out[1] = (uint8_t)(first | (mask ? MASKED : 0));
    if (mask) {
        memcpy(out + n, mask, 4);
        n += 4;
    }
    return n;
}

/* RFC 6455 7.4.2, and the codes registered since; 1004 to 1006 and 1015 never go over the wire. */
static bool may_be_sent(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

int cs_ws_close_code(const uint8_t *payload, size_t len)
{
    struct cs_utf8 utf8 = {0};
    if (len == 0) {
        return 1005;
    }
    if (len == 1) {
        return -EBADMSG;
    }
    unsigned code = (unsigned)payload[0] << 8 | payload[1];
    if (!may_be_sent(code) || !cs_utf8_feed(&utf8, payload + 2, len - 2) ||
        !cs_utf8_complete(&utf8)) {
        return -EBADMSG;
    }
    return (int)code;
}
