/*
 * deflate - data made smaller, all of it at once, and larger again, piece by piece (RFC 1951), with
 * zlib.
 */
#ifndef CS_CODEC_DEFLATE_H
#define CS_CODEC_DEFLATE_H

#include "base/base.h"

/* More would hold up its thread for too long: this much takes some tenths of a second. */
#define CS_DEFLATE_MAX ((size_t)16 << 20)

/* What cs_deflate may need for len bytes (at most CS_DEFLATE_MAX) of any kind. */
size_t cs_deflate_bound(size_t len);

/* Writes *size bytes to `to`, which has room for cs_deflate_bound(len). wrapped: with the head and
 * the check sum of RFC 1950. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_deflate(void *to, size_t *size, const void *data, size_t len, bool wrapped);

struct cs_inflate;

/* NULL: no memory. wrapped: RFC 1950. */
CS_MUST_CHECK struct cs_inflate *cs_inflate_create(bool wrapped);
void cs_inflate_destroy(struct cs_inflate *f); /* accepts NULL */

/* Takes some of *len bytes at *data, moves both past them, and writes at most *size bytes to `to`;
 * *size is then how many. Call again while *len or a full `to` says that there is more. 1: the end
 * has come, and nothing is taken any more. 0, -EPROTO (damaged) or -ENOMEM. */
CS_MUST_CHECK int cs_inflate(struct cs_inflate *f, const void **data, size_t *len, void *to,
                             size_t *size);

/* zlib's memory: a z_stream's zalloc and zfree. */
void *cs_zlib_take(void *user, unsigned n, unsigned size);
void cs_zlib_give_back(void *user, void *ptr);

#endif
