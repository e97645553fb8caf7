/*
 * hash - message digests, and HMAC (RFC 2104) with them.
 *
 * MD5 and SHA-1 are here because protocols ask for them (RADIUS, MySQL, WebSocket), not because
 * they were safe.
 */
#ifndef CS_CODEC_HASH_H
#define CS_CODEC_HASH_H

#include "base/base.h"

/* Bytes of the longest digest. */
#define CS_HASH_MAX 64

enum cs_hash_kind { CS_HASH_MD5, CS_HASH_SHA1, CS_HASH_SHA256, CS_HASH_SHA384, CS_HASH_SHA512 };

struct cs_hash;

/* key NULL: the plain digest; else HMAC with the key_len bytes (0 is legal). 0 or -ENOMEM. */
CS_MUST_CHECK int cs_hash_create(struct cs_hash **out, enum cs_hash_kind kind, const void *key,
                                 size_t key_len);

/* Accepts NULL. */
void cs_hash_destroy(struct cs_hash *h);

void cs_hash_add(struct cs_hash *h, const void *bytes, size_t n);

/* The digest of what was added until now; more may be added afterwards. Its length in bytes, or
 * -ENOMEM. */
CS_MUST_CHECK int cs_hash_digest(const struct cs_hash *h, unsigned char out[CS_HASH_MAX]);

#endif
