/* deflate - see deflate.h. */
#include "codec/deflate.h"

#include <errno.h>
#define ZLIB_CONST
#include <zlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define LEVEL 6
#define MEMORY_LEVEL 8 /* zlib's default: 256 KiB */

void *cs_zlib_take(void *user, unsigned n, unsigned size)
{
    (void)user;
    return cs_zalloc((size_t)n * size);
}

void cs_zlib_give_back(void *user, void *ptr)
{
    (void)user;
    cs_free(ptr);
}

/* zlib's own bound holds for its default window and level, and has room for a gzip head. */
size_t cs_deflate_bound(size_t len)
{
    return compressBound(len);
}

int cs_deflate(void *to, size_t *size, const void *data, size_t len, bool wrapped)
{
    z_stream z = {.zalloc = cs_zlib_take, .zfree = cs_zlib_give_back};

    if (deflateInit2(&z, LEVEL, Z_DEFLATED, wrapped ? MAX_WBITS : -MAX_WBITS, MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        return -ENOMEM;
    }
    z.next_in = data;
    z.avail_in = (unsigned)len;
    z.next_out = to;
    z.avail_out = (unsigned)cs_deflate_bound(len);

    int got = deflate(&z, Z_FINISH);

    *size = z.total_out;
    deflateEnd(&z);
    CS_ASSERT(got == Z_STREAM_END); /* there was room for anything */
    return 0;
}

/* ---- larger again ---- */

struct cs_inflate {
    z_stream z;
    bool over;
};

struct cs_inflate *cs_inflate_create(bool wrapped)
{
    struct cs_inflate *f = cs_zalloc(sizeof(*f));

    if (f) {
        f->z.zalloc = cs_zlib_take;
        f->z.zfree = cs_zlib_give_back;
        if (inflateInit2(&f->z, wrapped ? MAX_WBITS : -MAX_WBITS) != Z_OK) {
            cs_free(f);
            f = NULL;
        }
    }
    return f;
}

void cs_inflate_destroy(struct cs_inflate *f)
{
    if (f) {
        inflateEnd(&f->z);
        cs_free(f);
    }
}

int cs_inflate(struct cs_inflate *f, const void **data, size_t *len, void *to, size_t *size)
{
    size_t part = CS_MIN(*len, CS_DEFLATE_MAX), room = CS_MIN(*size, CS_DEFLATE_MAX);

    *size = 0;
    if (f->over) {
        return 1;
    }
    f->z.next_in = *data;
    f->z.avail_in = (unsigned)part;
    f->z.next_out = to;
    f->z.avail_out = (unsigned)room;

    int got = inflate(&f->z, Z_NO_FLUSH);

    *size = room - f->z.avail_out;
    *data = f->z.next_in;
    *len -= part - f->z.avail_in;
    f->over = got == Z_STREAM_END;
    switch (got) {
    case Z_STREAM_END:
        return 1;
    case Z_OK:
    case Z_BUF_ERROR: /* it has nothing to do */
        return 0;
    case Z_MEM_ERROR:
        return -ENOMEM;
    default:
        return -EPROTO;
    }
}
