/* hash - BoringSSL's digests. */
#include "codec/hash.h"

#include <errno.h>
#include <openssl/digest.h>
#include <openssl/err.h>
#include <openssl/hmac.h>

#include "base/mem.h"

struct cs_hash {
    bool keyed;
    union {
        EVP_MD_CTX plain;
        HMAC_CTX hmac;
    };
};

static const EVP_MD *algorithm(enum cs_hash_kind kind)
{
    switch (kind) {
    case CS_HASH_MD5:
        return EVP_md5();
    case CS_HASH_SHA1:
        return EVP_sha1();
    case CS_HASH_SHA256:
        return EVP_sha256();
    case CS_HASH_SHA384:
        return EVP_sha384();
    default:
        return EVP_sha512();
    }
}

/* Of these calls, only lack of memory makes one fail; the library's note of it is not needed. */
static int result(int ok)
{
    if (!ok) {
        ERR_clear_error();
    }
    return ok ? 0 : -ENOMEM;
}

static void init(struct cs_hash *h, bool keyed)
{
    h->keyed = keyed;
    if (keyed) {
        HMAC_CTX_init(&h->hmac);
    } else {
        EVP_MD_CTX_init(&h->plain);
    }
}

static void cleanup(struct cs_hash *h)
{
    if (h->keyed) {
        HMAC_CTX_cleanup(&h->hmac);
    } else {
        EVP_MD_CTX_cleanup(&h->plain);
    }
}

int cs_hash_create(struct cs_hash **out, enum cs_hash_kind kind, const void *key, size_t key_len)
{
    struct cs_hash *h = cs_alloc(sizeof(*h));

    if (!h) {
        return -ENOMEM;
    }
    init(h, key != NULL);
    int err = result(key ? HMAC_Init_ex(&h->hmac, key, key_len, algorithm(kind), NULL)
                         : EVP_DigestInit_ex(&h->plain, algorithm(kind), NULL));

    if (err < 0) {
        cs_hash_destroy(h);
        return err;
    }
    *out = h;
    return 0;
}

void cs_hash_destroy(struct cs_hash *h)
{
    if (h) {
        cleanup(h);
        cs_free(h);
    }
}

void cs_hash_add(struct cs_hash *h, const void *bytes, size_t n)
{
    if (h->keyed) {
        HMAC_Update(&h->hmac, bytes, n);
    } else {
        EVP_DigestUpdate(&h->plain, bytes, n);
    }
}

int cs_hash_digest(const struct cs_hash *h, unsigned char out[CS_HASH_MAX])
{
    struct cs_hash copy;
    unsigned len = 0;

    init(&copy, h->keyed);
    int err = result(h->keyed ? HMAC_CTX_copy_ex(&copy.hmac, &h->hmac) &&
                                    HMAC_Final(&copy.hmac, out, &len)
                              : EVP_MD_CTX_copy_ex(&copy.plain, &h->plain) &&
                                    EVP_DigestFinal_ex(&copy.plain, out, &len));

    cleanup(&copy);
    return err < 0 ? err : (int)len;
}
