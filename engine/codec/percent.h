/*
 * percent - the percent-encoding of URLs, RFC 3986 section 2.1.
 */
#ifndef CS_CODEC_PERCENT_H
#define CS_CODEC_PERCENT_H

#include "base/base.h"

/* Room for n bytes encoded. n is below SIZE_MAX / 3. */
#define CS_PERCENT_TEXT(n) (3 * (n))

/* Letters, digits and "-._~" stay; every other byte becomes %XX. Returns the length. */
size_t cs_percent_encode(char *to, const char *from, size_t n);

/* Each %XX becomes a byte; a '%' that no two hexadecimal digits follow stays. `to` has room for n
 * bytes, and may be `from`. Returns the length. */
size_t cs_percent_decode(char *to, const char *from, size_t n);

#endif
