/*
 * base64 - RFC 4648: the usual alphabet with padding, and the one for URLs without.
 */
#ifndef CS_CODEC_BASE64_H
#define CS_CODEC_BASE64_H

#include "base/base.h"
#include "base/err.h"

/* Room for the text of n bytes (no final zero), and for the bytes of n characters. n is below
 * SIZE_MAX / 2. */
#define CS_BASE64_TEXT(n) (((n) + 2) / 3 * 4)
#define CS_BASE64_BYTES(n) (((n) + 3) / 4 * 3)

/* Writes the text and returns its length. url: RFC 4648 section 5, without padding. */
size_t cs_base64_encode(char *to, const void *from, size_t n, bool url);

/* Reads both alphabets, with padding or without; white space may stand anywhere (RFC 2045). Sets
 * *len. 0, or CS_EINVAL when the text is no base64. */
CS_MUST_CHECK int cs_base64_decode(void *to, size_t *len, const char *text, size_t n);

#endif
