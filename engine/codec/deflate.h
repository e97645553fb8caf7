/*
 * deflate - data made smaller, all of it at once (RFC 1951), with zlib.
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

/* zlib's memory: a z_stream's zalloc and zfree. */
void *cs_zlib_take(void *user, unsigned n, unsigned size);
void cs_zlib_give_back(void *user, void *ptr);

#endif
