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
