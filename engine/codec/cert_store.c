/* cert_store - X509_STORE with a count, the subjects, and a digest of what went in. */
#include "codec/cert_store.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pool.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "base/mem.h"
#include "codec/cert_pem.h"

#define DEPTH_MAX 10 /* authorities between a leaf and what is trusted */

struct cs_store {
    atomic_uint refs;
    X509_STORE *x509;
    STACK_OF(CRYPTO_BUFFER) * names;
    unsigned crls;
    uint8_t digest[SHA256_DIGEST_LENGTH]; /* of the digest before and the DER that was added */
};

struct cs_store *cs_store_create(void)
{
    struct cs_store *s = cs_zalloc(sizeof(*s));

    if (!s) {
        return NULL;
    }
    atomic_init(&s->refs, 1);
    s->x509 = X509_STORE_new();
    s->names = sk_CRYPTO_BUFFER_new_null();
    if (!s->x509 || !s->names) {
        cs_store_unref(s);
        return NULL;
    }
    return s;
}

struct cs_store *cs_store_ref(struct cs_store *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void cs_store_unref(struct cs_store *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    X509_STORE_free(s->x509);
    sk_CRYPTO_BUFFER_pop_free(s->names, CRYPTO_BUFFER_free);
    cs_free(s);
}

/* ---- adding ---- */

static void note(struct cs_store *s, const uint8_t *der, size_t len)
{
    SHA256_CTX sha;

    SHA256_Init(&sha);
    SHA256_Update(&sha, s->digest, sizeof(s->digest));
    SHA256_Update(&sha, der, len);
    SHA256_Final(s->digest, &sha);
}

static int add_name(struct cs_store *s, X509 *x)
{
    unsigned char *der = NULL;
    int len = i2d_X509_NAME(X509_get_subject_name(x), &der);
    CRYPTO_BUFFER *name = len > 0 ? CRYPTO_BUFFER_new(der, (size_t)len, cs_cert_pool()) : NULL;
    bool added = name && sk_CRYPTO_BUFFER_push(s->names, name);

    OPENSSL_free(der);
    if (!added) {
        CRYPTO_BUFFER_free(name);
        return -ENOMEM;
    }
    return 0;
}

static int add_cert(struct cs_store *s, CRYPTO_BUFFER *buf)
{
    X509 *x = X509_parse_from_buffer(buf);
    int err = !x && cs_cert_no_memory() ? -ENOMEM : -EINVAL;

    if (x) {
        err = X509_STORE_add_cert(s->x509, x) ? add_name(s, x) : -ENOMEM;
        note(s, CRYPTO_BUFFER_data(buf), CRYPTO_BUFFER_len(buf));
    }
    X509_free(x);
    ERR_clear_error();
    return err;
}

/* 0, -EINVAL, -ENOMEM. */
static int add_crl(void *user, const unsigned char *der, long len)
{
    struct cs_store *s = user;
    const unsigned char *at = der;
    X509_CRL *crl = d2i_X509_CRL(NULL, &at, len);
    int err = !crl && cs_cert_no_memory() ? -ENOMEM : -EINVAL;

    if (crl && at == der + len) {
        err = X509_STORE_add_crl(s->x509, crl) ? 0 : -ENOMEM;
        s->crls++;
        note(s, der, (size_t)len);
    }
    X509_CRL_free(crl);
    ERR_clear_error();
    return err;
}

int cs_store_add(struct cs_store *s, struct cs_cert_text text, struct cs_cert_error *why)
{
    STACK_OF(CRYPTO_BUFFER) * certs;
    unsigned crls = s->crls;
    int err = -EINVAL;

    if (!cs_pem_is(text) && text.len <= INT_MAX) {
        err = add_crl(s, text.bytes, (long)text.len); /* a CRL as DER */
    }
    if (err != -EINVAL) {
        return err < 0 ? err : 1;
    }
    certs = sk_CRYPTO_BUFFER_new_null();
    err = certs ? cs_cert_read_all(certs, text, add_crl, s, why) : -ENOMEM;
    size_t n = err == 0 ? sk_CRYPTO_BUFFER_num(certs) : 0;

    for (size_t i = 0; i < n && err == 0; i++) {
        err = add_cert(s, sk_CRYPTO_BUFFER_value(certs, i));
        if (err == -EINVAL) {
            err = cs_cert_wrong(why, "pem_cert_unrecognized_format", "certificate %zu is damaged",
                                i + 1);
        }
    }
    sk_CRYPTO_BUFFER_pop_free(certs, CRYPTO_BUFFER_free);
    return err < 0 ? err : (int)(n + (s->crls - crls));
}

unsigned cs_store_count(const struct cs_store *s)
{
    return (unsigned)sk_CRYPTO_BUFFER_num(s->names);
}

/* ---- verifying ---- */

/* Called for each thing that is wrong; 1: go on all the same. */
static int judge(int ok, X509_STORE_CTX *ctx)
{
    struct cs_verdict *verdict = X509_STORE_CTX_get_app_data(ctx);
    int err = X509_STORE_CTX_get_error(ctx);

    if (ok || err == X509_V_ERR_UNABLE_TO_GET_CRL) { /* this issuer has no CRL here */
        return 1;
    }
    verdict->why = X509_verify_cert_error_string(err);
    if (err == X509_V_ERR_CERT_HAS_EXPIRED || err == X509_V_ERR_CERT_NOT_YET_VALID) {
        verdict->in_time = false;
        return 1;
    }
    return 0;
}

/* The chain without its leaf, as X509s. NULL: no memory. One that cannot be parsed is left out: it
 * helps nobody. */
static STACK_OF(X509) * untrusted(CRYPTO_BUFFER *const *chain, unsigned count)
{
    STACK_OF(X509) *all = sk_X509_new_null();

    for (unsigned i = 1; all && i < count; i++) {
        X509 *x = X509_parse_from_buffer(chain[i]);

        if (x && !sk_X509_push(all, x)) {
            X509_free(x);
            sk_X509_pop_free(all, X509_free);
            return NULL;
        }
    }
    return all;
}

static int verify(struct cs_store *s, X509 *leaf, STACK_OF(X509) * others, enum cs_cert_use use,
                  struct cs_verdict *out)
{
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    unsigned long flags = X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN;

    if (s->crls > 0) {
        flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL;
    }
    if (!ctx || !X509_STORE_CTX_init(ctx, s->x509, leaf, others) ||
        !X509_STORE_CTX_set_default(ctx, use == CS_USE_SERVER ? "ssl_server" : "ssl_client")) {
        X509_STORE_CTX_free(ctx);
        return -ENOMEM;
    }
    X509_STORE_CTX_set_flags(ctx, flags);
    X509_STORE_CTX_set_depth(ctx, DEPTH_MAX);
    X509_STORE_CTX_set_app_data(ctx, out);
    X509_STORE_CTX_set_verify_cb(ctx, judge);
    out->chain = X509_verify_cert(ctx) == 1;
    bool no_memory = !out->chain && X509_STORE_CTX_get_error(ctx) == X509_V_ERR_OUT_OF_MEM;

    X509_STORE_CTX_free(ctx);
    return no_memory ? -ENOMEM : 0;
}

int cs_store_verify(struct cs_store *s, CRYPTO_BUFFER *const *chain, unsigned count,
                    enum cs_cert_use use, struct cs_verdict *out)
{
    X509 *leaf = count > 0 ? X509_parse_from_buffer(chain[0]) : NULL;
    STACK_OF(X509) *others = untrusted(chain, count);
    int err = -ENOMEM;

    *out = (struct cs_verdict){.in_time = true};
    if (!leaf && !(count > 0 && cs_cert_no_memory())) {
        out->in_time = false;
        out->why = count > 0 ? "the certificate is damaged" : "there is no certificate";
        err = 0;
    } else if (leaf && others) {
        err = verify(s, leaf, others, use, out);
    }
    sk_X509_pop_free(others, X509_free);
    X509_free(leaf);
    ERR_clear_error();
    return err;
}

/* ---- for contexts ---- */

STACK_OF(CRYPTO_BUFFER) * cs_store_names(const struct cs_store *s)
{
    STACK_OF(CRYPTO_BUFFER) *copy = sk_CRYPTO_BUFFER_new_null();
    size_t n = sk_CRYPTO_BUFFER_num(s->names);

    for (size_t i = 0; copy && i < n; i++) {
        CRYPTO_BUFFER *name = sk_CRYPTO_BUFFER_value(s->names, i);

        if (!sk_CRYPTO_BUFFER_push(copy, name)) {
            sk_CRYPTO_BUFFER_pop_free(copy, CRYPTO_BUFFER_free);
            return NULL;
        }
        CRYPTO_BUFFER_up_ref(name);
    }
    return copy;
}

void cs_store_digest(const struct cs_store *s, uint8_t sha256[32])
{
    memcpy(sha256, s->digest, sizeof(s->digest));
}
