/*
 * endian - integers to and from the bytes of the network: most significant byte first.
 */
#ifndef CS_BASE_ENDIAN_H
#define CS_BASE_ENDIAN_H

#include "base/base.h"

/* Stores the low `size` (1 to 8) bytes of value. */
static inline void cs_put_be(void *to, unsigned size, uint64_t value)
{
    unsigned char *bytes = (unsigned char *)to;

    for (unsigned i = size; i-- > 0; value >>= 8) {
        bytes[i] = (unsigned char)(value & 0xff);
    }
}

/* The `size` (1 to 8) bytes as an unsigned integer. */
static inline uint64_t cs_get_be(const void *from, unsigned size)
{
    const unsigned char *bytes = (const unsigned char *)from;
    uint64_t value = 0;

    for (unsigned i = 0; i < size; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

#endif
