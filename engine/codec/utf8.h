/*
 * utf8 - whether bytes that arrive in pieces are UTF-8 (RFC 3629: no surrogates, nothing beyond
 * U+10FFFF, no long forms).
 */
#ifndef CS_CODEC_UTF8_H
#define CS_CODEC_UTF8_H

#include "base/base.h"

/* Between pieces: what the next byte must be. All zero: between characters. */
struct cs_utf8 {
    uint8_t left;      /* continuation bytes still to come */
    uint8_t low, high; /* bounds of the next one */
};

/* False as soon as the text can no longer become UTF-8; do not go on then. */
CS_MUST_CHECK bool cs_utf8_feed(struct cs_utf8 *u, const uint8_t *data, size_t len);

/* Whether the text may end here. */
static inline bool cs_utf8_complete(const struct cs_utf8 *u)
{
    return u->left == 0;
}

#endif
