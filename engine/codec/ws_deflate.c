/* ws_deflate - see ws_deflate.h. */
#include "codec/ws_deflate.h"

#include <errno.h>
#define ZLIB_CONST
#include <zlib.h>

#include "base/mem.h"
#include "codec/deflate.h"

#define PIECE 16384u
#define LEVEL 6
#define MEMORY_LEVEL 8 /* zlib's default: 256 KiB with the largest window */

/* What every flush ends with and no message carries (RFC 7692 7.2.1). */
static const uint8_t tail[4] = {0x00, 0x00, 0xff, 0xff};

struct cs_ws_deflate {
    struct cs_ws_deflate_options options;
    z_stream *send, *receive; /* NULL: no message in progress, nothing to remember */
    unsigned tail_at;         /* bytes of the tail that `receive` has been given */
};

struct cs_ws_deflate *cs_ws_deflate_create(const struct cs_ws_deflate_options *o)
{
    struct cs_ws_deflate *d = cs_zalloc(sizeof(*d));
    if (d) {
        d->options = *o;
    }
    return d;
}

static void drop_send(struct cs_ws_deflate *d)
{
    if (d->send) {
        deflateEnd(d->send);
        cs_free(d->send);
        d->send = NULL;
    }
}

static void drop_receive(struct cs_ws_deflate *d)
{
    if (d->receive) {
        inflateEnd(d->receive);
        cs_free(d->receive);
        d->receive = NULL;
    }
}

void cs_ws_deflate_destroy(struct cs_ws_deflate *d)
{
    if (d) {
        drop_send(d);
        drop_receive(d);
        cs_free(d);
    }
}

static z_stream *new_stream(void)
{
    z_stream *z = cs_zalloc(sizeof(*z));
    if (z) {
        z->zalloc = cs_zlib_take;
        z->zfree = cs_zlib_give_back;
    }
    return z;
}

/* ---- sending ---- */

static int start_send(struct cs_ws_deflate *d)
{
    if (d->send) {
        return 0;
    }
    z_stream *z = new_stream();
    if (!z || deflateInit2(z, LEVEL, Z_DEFLATED, -d->options.send_bits, MEMORY_LEVEL,
                           Z_DEFAULT_STRATEGY) != Z_OK) {
        cs_free(z);
        return -ENOMEM;
    }
    d->send = z;
    return 0;
}

/* What the bytes become, up to a flush. */
static int squeeze(z_stream *z, const struct cs_slice *s, size_t n, int flush, struct cs_chain *out)
{
    uint8_t piece[PIECE];
    z->next_in = s->data;
    z->avail_in = (unsigned)n;
    do {
        z->next_out = piece;
        z->avail_out = sizeof(piece);
        int got = deflate(z, flush);
        if (got != Z_OK && got != Z_BUF_ERROR) {
            return -ENOMEM; /* nothing else can be wrong */
        }
        int err = cs_chain_append(out, piece, sizeof(piece) - z->avail_out);
        if (err < 0) {
            return err;
        }
    } while (z->avail_out == 0);
    return 0;
}

int cs_ws_deflate_message(struct cs_ws_deflate *d, struct cs_chain *data, size_t n,
                          struct cs_chain *out)
{
    struct cs_chain flushed = {0};
    int err = start_send(d);
    while (err == 0 && n > 0) {
        const struct cs_slice *s = cs_chain_first(data);
        size_t part = CS_MIN((size_t)s->len, n);
        n -= part;
        err = squeeze(d->send, s, part, n == 0 ? Z_SYNC_FLUSH : Z_NO_FLUSH, &flushed);
        cs_chain_drop(data, part);
    }
    if (err == 0) {
        err = cs_chain_move(out, &flushed, cs_chain_len(&flushed) - sizeof(tail));
    }
    cs_chain_clear(&flushed);
    if (!d->options.send_takeover || err < 0) {
        drop_send(d);
    }
    return err;
}

/* ---- receiving ---- */

static int start_receive(struct cs_ws_deflate *d)
{
    if (d->receive) {
        return 0;
    }
    z_stream *z = new_stream();
    if (!z || inflateInit2(z, -d->options.receive_bits) != Z_OK) {
        cs_free(z);
        return -ENOMEM;
    }
    d->receive = z;
    return 0;
}

int cs_ws_inflate(struct cs_ws_deflate *d, const void *data, size_t len, size_t max, size_t *used,
                  struct cs_chain *out)
{
    uint8_t piece[PIECE];
    *used = 0;
    int err = start_receive(d);
    if (err < 0) {
        return err;
    }
    z_stream *z = d->receive;
    z->next_in = data;
    z->avail_in = (unsigned)len;
    z->next_out = piece;
    z->avail_out = (unsigned)CS_MIN(max, sizeof(piece));
    size_t room = z->avail_out;
    int got = inflate(z, Z_NO_FLUSH);
    *used = len - z->avail_in;
    err = cs_chain_append(out, piece, room - z->avail_out);
    if (err < 0) {
        return err;
    }
    switch (got) {
    case Z_STREAM_END: /* a last block within a message: what follows begins anew (7.2.3.5) */
        return inflateReset(z) == Z_OK ? z->avail_in > 0 : -EBADMSG;
    case Z_OK:
        return z->avail_out == 0 || z->avail_in > 0;
    case Z_BUF_ERROR: /* nothing to take and nothing to give */
        return 0;
    case Z_MEM_ERROR:
        return -ENOMEM;
    default:
        return -EBADMSG;
    }
}

int cs_ws_inflate_end(struct cs_ws_deflate *d, size_t max, struct cs_chain *out)
{
    size_t used;
    int got = cs_ws_inflate(d, tail + d->tail_at, sizeof(tail) - d->tail_at, max, &used, out);
    d->tail_at += (unsigned)used;
    if (got != 0) {
        return got;
    }
    d->tail_at = 0;
    if (!d->options.receive_takeover) {
        drop_receive(d);
    }
    return 0;
}
