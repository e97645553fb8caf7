/* cert - a chain with its key, and what its leaf is for. */
#include "codec/cert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>

#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/pool.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "codec/cert_info.h"
#include "codec/cert_pem.h"

struct cs_cert {
    atomic_uint refs;
    STACK_OF(CRYPTO_BUFFER) * chain; /* leaf first */
    EVP_PKEY *key;
    enum cs_key_kind kind;
    struct cs_cert_info *info; /* of the leaf */
    int64_t expires;
    uint8_t *ocsp;
    size_t ocsp_len;
};

/* ---- the pool ---- */

static CRYPTO_BUFFER_POOL *pool;

static void make_pool(void)
{
    pool = CRYPTO_BUFFER_POOL_new();
}

CRYPTO_BUFFER_POOL *cs_cert_pool(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, make_pool);
    return pool;
}

/* ---- loading ---- */

/* A borrowed buffer as X509; NULL with an error in the queue. */
static X509 *parse(const CRYPTO_BUFFER *buf)
{
    return X509_parse_from_buffer((CRYPTO_BUFFER *)(uintptr_t)buf); /* takes a reference */
}

/* Whether the leaf's public key is the private key's. 1, 0, -EINVAL with why, or -ENOMEM. */
static int key_fits(const CRYPTO_BUFFER *leaf, const EVP_PKEY *key, struct cs_cert_error *why)
{
    X509 *x = parse(leaf);
    EVP_PKEY *public = x ? X509_get_pubkey(x) : NULL;
    int same = public ? EVP_PKEY_cmp(public, key) == 1 : -1;

    if (!x) {
        same = cs_cert_wrong(why, "pem_cert_unrecognized_format", "the certificate is damaged");
    } else if (!public) {
        same = cs_cert_wrong(why, "pem_cert_unsupported_type",
                             "the certificate's key is of a type that is not supported");
    } else if (same == 0 && cs_cert_no_memory()) {
        same = -ENOMEM;
    }
    EVP_PKEY_free(public);
    X509_free(x);
    ERR_clear_error();
    return same;
}

static int check_pair(const struct cs_cert *c, struct cs_cert_error *why)
{
    int fits = key_fits(sk_CRYPTO_BUFFER_value(c->chain, 0), c->key, why);

    if (fits == 0) {
        return cs_cert_wrong(why, "pem_key_cert_mismatch",
                             "the key is not that of the first certificate (%.80s)",
                             cs_cert_name(c));
    }
    return fits < 0 ? fits : 0;
}

/* The leaf's fields, and when the chain ends. */
static int read_chain(struct cs_cert *c, struct cs_cert_error *why)
{
    size_t n = sk_CRYPTO_BUFFER_num(c->chain);

    c->expires = INT64_MAX;
    for (size_t i = 0; i < n; i++) {
        const CRYPTO_BUFFER *b = sk_CRYPTO_BUFFER_value(c->chain, i);
        struct cs_cert_info *info;
        int err = cs_cert_info_create(&info, CRYPTO_BUFFER_data(b), CRYPTO_BUFFER_len(b));

        if (err == -ENOMEM) {
            return err;
        }
        if (err < 0) {
            return cs_cert_wrong(why, "pem_cert_unrecognized_format", "certificate %zu is damaged",
                                 i + 1);
        }
        c->expires = CS_MIN(c->expires, cs_cert_time(info->not_after, strlen(info->not_after)));
        if (i == 0) {
            c->info = info;
        } else {
            cs_cert_info_destroy(info);
        }
    }
    return 0;
}

static int load(struct cs_cert *c, struct cs_cert_text certs, struct cs_cert_text key,
                const char *password, struct cs_cert_error *why)
{
    int err = cs_cert_read_all(c->chain, certs, NULL, NULL, why);

    if (err == 0 && sk_CRYPTO_BUFFER_num(c->chain) == 0) {
        err = cs_cert_wrong(why, "pem_cert_unrecognized_format", "there is no certificate in it");
    }
    if (err == 0) {
        err = read_chain(c, why);
    }
    if (err == 0) {
        err = cs_cert_read_key(&c->key, key, password, why);
    }
    if (err < 0) {
        return err;
    }
    int id = EVP_PKEY_id(c->key);

    c->kind = id == EVP_PKEY_RSA ? CS_KEY_RSA : id == EVP_PKEY_EC ? CS_KEY_EC : CS_KEY_ED25519;
    return check_pair(c, why);
}

int cs_cert_load(struct cs_cert **out, struct cs_cert_text certs, struct cs_cert_text key,
                 const char *password, struct cs_cert_error *why)
{
    struct cs_cert *c = cs_zalloc(sizeof(*c));
    int err = -ENOMEM;

    if (c) {
        atomic_init(&c->refs, 1);
        c->chain = sk_CRYPTO_BUFFER_new_null();
        err = c->chain ? load(c, certs, key, password, why) : -ENOMEM;
    }
    if (err < 0) {
        cs_cert_unref(c);
        return err;
    }
    *out = c;
    return 0;
}

static bool same_number(CBS *id, const ASN1_INTEGER *serial)
{
    CBS number;
    uint8_t *der = NULL;
    int len = i2d_ASN1_INTEGER((ASN1_INTEGER *)(uintptr_t)serial, &der);
    bool same = len > 0 && CBS_get_asn1_element(id, &number, CBS_ASN1_INTEGER) &&
                CBS_mem_equal(&number, der, (size_t)len);

    OPENSSL_free(der);
    return same;
}

/* Whether a response is a successful one and speaks of this serial number (RFC 6960 4.2.1). */
static bool is_ocsp_for(const uint8_t *der, size_t len, const ASN1_INTEGER *serial)
{
    const unsigned context = CBS_ASN1_CONTEXT_SPECIFIC | CBS_ASN1_CONSTRUCTED;
    CBS all, part, status, text, list, single, id;

    CBS_init(&all, der, len);
    if (!CBS_get_asn1(&all, &part, CBS_ASN1_SEQUENCE) || CBS_len(&all) != 0 ||
        !CBS_get_asn1(&part, &status, CBS_ASN1_ENUMERATED) ||
        !CBS_mem_equal(&status, (uint8_t[]){0}, 1) || !CBS_get_asn1(&part, &part, context) ||
        !CBS_get_asn1(&part, &part, CBS_ASN1_SEQUENCE) ||
        !CBS_get_asn1(&part, NULL, CBS_ASN1_OBJECT) ||
        !CBS_get_asn1(&part, &text, CBS_ASN1_OCTETSTRING) ||
        !CBS_get_asn1(&text, &part, CBS_ASN1_SEQUENCE) || /* BasicOCSPResponse */
        !CBS_get_asn1(&part, &part, CBS_ASN1_SEQUENCE) || /* ResponseData */
        !CBS_get_optional_asn1(&part, NULL, NULL, context) ||
        !CBS_get_any_asn1_element(&part, NULL, NULL, NULL) || /* who responds */
        !CBS_get_asn1(&part, NULL, CBS_ASN1_GENERALIZEDTIME) ||
        !CBS_get_asn1(&part, &list, CBS_ASN1_SEQUENCE)) {
        return false;
    }
    while (CBS_get_asn1(&list, &single, CBS_ASN1_SEQUENCE)) {
        if (CBS_get_asn1(&single, &id, CBS_ASN1_SEQUENCE) && /* CertID */
            CBS_get_asn1(&id, NULL, CBS_ASN1_SEQUENCE) &&
            CBS_get_asn1(&id, NULL, CBS_ASN1_OCTETSTRING) &&
            CBS_get_asn1(&id, NULL, CBS_ASN1_OCTETSTRING) && same_number(&id, serial)) {
            return true;
        }
    }
    return false;
}

int cs_cert_set_ocsp(struct cs_cert *c, const void *der, size_t len, struct cs_cert_error *why)
{
    X509 *leaf = parse(cs_cert_at(c, 0));
    bool right = leaf && is_ocsp_for(der, len, X509_get0_serialNumber(leaf));
    uint8_t *copy;

    X509_free(leaf);
    if (!leaf) {
        ERR_clear_error();
        return -ENOMEM; /* it could be parsed before */
    }
    if (!right) {
        return cs_cert_wrong(why, "ocsp_mismatch",
                             "this is no successful OCSP response about the certificate of %s",
                             cs_cert_name(c));
    }
    copy = cs_alloc(len);
    if (!copy) {
        return -ENOMEM;
    }
    memcpy(copy, der, len);
    cs_free(c->ocsp);
    c->ocsp = copy;
    c->ocsp_len = len;
    return 0;
}

struct cs_cert *cs_cert_ref(struct cs_cert *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void cs_cert_unref(struct cs_cert *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    sk_CRYPTO_BUFFER_pop_free(c->chain, CRYPTO_BUFFER_free);
    EVP_PKEY_free(c->key);
    cs_cert_info_destroy(c->info);
    cs_free(c->ocsp);
    cs_free(c);
}

bool cs_cert_shared(const struct cs_cert *c)
{
    return atomic_load_explicit(&c->refs, memory_order_relaxed) > 1;
}

/* ---- what it is ---- */

enum cs_key_kind cs_cert_key_kind(const struct cs_cert *c)
{
    return c->kind;
}

unsigned cs_cert_count(const struct cs_cert *c)
{
    return (unsigned)sk_CRYPTO_BUFFER_num(c->chain);
}

CRYPTO_BUFFER *cs_cert_at(const struct cs_cert *c, unsigned i)
{
    return sk_CRYPTO_BUFFER_value(c->chain, i);
}

EVP_PKEY *cs_cert_key(const struct cs_cert *c)
{
    return c->key;
}

const uint8_t *cs_cert_ocsp(const struct cs_cert *c, size_t *len)
{
    *len = c->ocsp_len;
    return c->ocsp;
}

int64_t cs_cert_expires(const struct cs_cert *c)
{
    return c->expires;
}

/* ---- names ---- */

/* The SAN's other kinds are marked: "IP:10.0.0.1". No DNS name has a colon. */
static bool is_dns(const char *name)
{
    return strchr(name, ':') == NULL;
}

const char *cs_cert_name(const struct cs_cert *c)
{
    const struct cs_cert_info *info = c->info;

    if (info->name_count > 0) {
        return info->names[0];
    }
    return info->subject.commonname ? info->subject.commonname : "without a name";
}

/* 2, 1 or 0 as cs_cert_serves. A wildcard stands for one whole label. */
static int name_serves(const char *name, const char *host)
{
    const char *dot = strchr(host, '.');

    if (strcasecmp(name, host) == 0) {
        return 2;
    }
    return name[0] == '*' && name[1] == '.' && dot && dot != host && strcasecmp(name + 1, dot) == 0;
}

int cs_cert_serves(const struct cs_cert *c, const char *host)
{
    const struct cs_cert_info *info = c->info;
    bool dns_names = false;
    int best = 0;

    for (unsigned i = 0; i < info->name_count && best < 2; i++) {
        if (is_dns(info->names[i])) {
            dns_names = true;
            best = CS_MAX(best, name_serves(info->names[i], host));
        }
    }
    if (!dns_names && info->subject.commonname) {
        best = name_serves(info->subject.commonname, host);
    }
    return best;
}

static bool is_ip(const char *host)
{
    unsigned char address[16];

    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

bool cs_cert_matches(const CRYPTO_BUFFER *leaf, const char *host)
{
    X509 *x = parse(leaf);
    size_t len = strlen(host);
    bool matches;

    if (len > 0 && host[len - 1] == '.') {
        len--; /* the root's dot is no part of a certificate's name */
    }
    matches = x && len > 0 &&
              (is_ip(host) ? X509_check_ip_asc(x, host, 0) == 1
                           : X509_check_host(x, host, len, 0, NULL) == 1);
    X509_free(x);
    ERR_clear_error();
    return matches;
}

bool cs_cert_pin_matches(const CRYPTO_BUFFER *leaf, const uint8_t spki_sha256[32])
{
    X509 *x = parse(leaf);
    uint8_t *spki = NULL, digest[SHA256_DIGEST_LENGTH];
    int len = x ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &spki) : -1;
    bool matches = false;

    if (len > 0) {
        SHA256(spki, (size_t)len, digest);
        matches = CRYPTO_memcmp(digest, spki_sha256, sizeof(digest)) == 0;
    }
    OPENSSL_free(spki);
    X509_free(x);
    ERR_clear_error();
    return matches;
}
