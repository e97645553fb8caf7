/*
 * codec_cert - loading, names, fields, trust and revocation, with certificates made here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/pkcs7.h>
#include <openssl/x509.h>

#include "base/mem.h"
#include "codec/cert.h"
#include "codec/cert_info.h"
#include "codec/cert_make.h"
#include "codec/cert_pem.h"
#include "codec/cert_store.h"

#define DAY 86400

/* ---- making ---- */

struct pair {
    struct cs_pem_text cert, key;
};

static void free_pair(struct pair *p)
{
    cs_pem_text_free(&p->cert);
    cs_pem_text_free(&p->key);
}

static struct cs_cert_text text_of(const struct cs_pem_text *t)
{
    return (struct cs_cert_text){t->bytes, t->len};
}

static struct cs_cert_text text(const char *s)
{
    return (struct cs_cert_text){s, strlen(s)};
}

struct wish {
    const char *name, *names;
    unsigned type, usage;
    enum cs_key_type key;
    int64_t from, to; /* from now, in seconds */
    const struct pair *issuer;
};

static void make(struct pair *p, struct wish w)
{
    struct cs_cert_error why = {0};
    struct cs_make_request r = {
        .subject = {.commonname = w.name}, .names = w.names, .type = w.type, .usage = w.usage};
    struct cs_pem_text request;
    static int64_t serial = 1;

    assert_int_equal(cs_make_key(&p->key, w.key, 2048), 0);
    assert_int_equal(
        cs_make_request(&request, &r, (struct cs_make_key){text_of(&p->key), NULL}, &why), 0);
    struct cs_make_cert c = {.request = text_of(&request),
                             .key = {text_of(w.issuer ? &w.issuer->key : &p->key), NULL},
                             .from = time(NULL) + (w.to ? w.from : -DAY),
                             .to = time(NULL) + (w.to ? w.to : 30 * DAY),
                             .serial = serial++};
    if (w.issuer) {
        c.issuer = text_of(&w.issuer->cert);
    }
    assert_int_equal(cs_make_cert(&p->cert, &c, &why), 0);
    cs_pem_text_free(&request);
}

static struct pair ca, middle, leaf, other;

static int make_all(void **state)
{
    const unsigned signs = CS_USAGE_KEY_CERT_SIGN | CS_USAGE_CRL_SIGN;
    (void)state;

    make(&ca, (struct wish){.name = "Test CA", .type = CS_TYPE_SSL_CA, .usage = signs});
    make(&middle,
         (struct wish){.name = "Middle", .type = CS_TYPE_SSL_CA, .usage = signs, .issuer = &ca});
    make(&leaf, (struct wish){.name = "leaf",
                              .names = "www.example.com;*.wild.example;IP:10.1.2.3;IP:::1;URI:x:y",
                              .type = CS_TYPE_SSL_SERVER,
                              .issuer = &middle});
    make(&other, (struct wish){.name = "other.example"});
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    free_pair(&ca);
    free_pair(&middle);
    free_pair(&leaf);
    free_pair(&other);
    return 0;
}

/* Two PEM texts as one; the caller frees it. */
static char *join(const struct cs_pem_text *a, const struct cs_pem_text *b)
{
    char *s = malloc(a->len + b->len + 1);

    assert_non_null(s);
    memcpy(s, a->bytes, a->len);
    memcpy(s + a->len, b->bytes, b->len + 1);
    return s;
}

/* ---- loading ---- */

static struct cs_cert *load(const char *cert, const char *key)
{
    struct cs_cert *c = NULL;
    struct cs_cert_error why = {0};
    int err = cs_cert_load(&c, text(cert), text(key), NULL, &why);

    if (err) {
        fail_msg("%d %s: %s", err, why.code, why.text);
    }
    return c;
}

static struct cs_cert_info *info_of(const struct pair *p)
{
    struct cs_cert_info *info;

    assert_int_equal(cs_cert_info_create(&info, p->cert.bytes, p->cert.len), 0);
    return info;
}

static void a_chain_with_its_key(void **state)
{
    char *chain = join(&leaf.cert, &middle.cert);
    struct cs_cert *c = load(chain, leaf.key.bytes);
    size_t len;
    (void)state;

    assert_int_equal(cs_cert_count(c), 2);
    assert_int_equal(cs_cert_key_kind(c), CS_KEY_EC);
    assert_string_equal(cs_cert_name(c), "www.example.com");
    assert_true(cs_cert_expires(c) > time(NULL) + 29 * DAY);
    assert_true(cs_cert_expires(c) <= time(NULL) + 30 * DAY);
    assert_null(cs_cert_ocsp(c, &len));
    cs_cert_ref(c);
    cs_cert_unref(c);
    assert_int_equal(cs_cert_count(c), 2);
    cs_cert_unref(c);
    free(chain);
}

/* DER around what stands in `text`; its new length. */
static size_t wrap(uint8_t *text, size_t len, uint8_t tag)
{
    size_t head = len < 128 ? 2 : 3;

    assert_true(len < 256);
    memmove(text + head, text, len);
    text[0] = tag;
    text[1] = len < 128 ? (uint8_t)len : 0x81;
    text[head - 1] = (uint8_t)len;
    return len + head;
}

/* The least response about a serial number (RFC 6960 4.2.1), without a signature; as long as 200
 * bytes. */
static size_t make_ocsp(uint8_t *out, const char *serial, uint8_t status)
{
    static const uint8_t hashes[] = {0x30, 0, 4, 1, 'n', 4, 1, 'k'}; /* of a CertID */
    static const uint8_t before[] = {0xa1, 0, 0x18, 1, 'Z'};         /* who, when */
    static const uint8_t oid[] = {6, 1, 42};
    size_t n = 0;

    for (; serial[2 * n]; n++) {
        char digits[3] = {serial[2 * n], serial[2 * n + 1], 0};
        out[n] = (uint8_t)strtoul(digits, NULL, 16);
    }
    if (out[0] & 0x80) { /* a positive number */
        memmove(out + 1, out, n++);
        out[0] = 0;
    }
    n = wrap(out, n, 2);
    memmove(out + sizeof(hashes), out, n);
    memcpy(out, hashes, sizeof(hashes));
    n = wrap(out, n + sizeof(hashes), 0x30); /* CertID */
    n = wrap(out, wrap(out, n, 0x30), 0x30); /* one SingleResponse in a list */
    memmove(out + sizeof(before), out, n);
    memcpy(out, before, sizeof(before));
    n = wrap(out, wrap(out, n + sizeof(before), 0x30), 0x30); /* ResponseData, BasicOCSPResponse */
    n = wrap(out, n, 4);
    memmove(out + sizeof(oid), out, n);
    memcpy(out, oid, sizeof(oid));
    n = wrap(out, wrap(out, n + sizeof(oid), 0x30), 0xa0);
    memmove(out + 3, out, n);
    memcpy(out, (uint8_t[]){10, 1, status}, 3);
    return wrap(out, n + 3, 0x30);
}

static void an_ocsp_response(void **state)
{
    struct cs_cert *c = load(leaf.cert.bytes, leaf.key.bytes);
    struct cs_cert_info *of_leaf = info_of(&leaf), *of_other = info_of(&middle);
    struct cs_cert_error why = {0};
    uint8_t text[256];
    size_t n = make_ocsp(text, of_leaf->serial, 0), len;
    (void)state;

    assert_int_equal(cs_cert_set_ocsp(c, text, n, &why), 0);
    assert_memory_equal(cs_cert_ocsp(c, &len), text, n);
    assert_int_equal(len, n);
    for (size_t cut = 0; cut < n; cut++) {
        assert_int_equal(cs_cert_set_ocsp(c, text, cut, &why), -EINVAL);
    }
    text[n] = 0;
    assert_int_equal(cs_cert_set_ocsp(c, text, n + 1, &why), -EINVAL);
    assert_string_equal(why.code, "ocsp_mismatch");
    n = make_ocsp(text, of_leaf->serial, 3); /* "try later" */
    assert_int_equal(cs_cert_set_ocsp(c, text, n, &why), -EINVAL);
    n = make_ocsp(text, of_other->serial, 0);
    assert_int_equal(cs_cert_set_ocsp(c, text, n, &why), -EINVAL);
    assert_non_null(cs_cert_ocsp(c, &len));
    cs_cert_info_destroy(of_leaf);
    cs_cert_info_destroy(of_other);
    cs_cert_unref(c);
}

static void key_and_certificate_in_one_file(void **state)
{
    char *both = join(&leaf.key, &leaf.cert);
    (void)state;

    cs_cert_unref(load(both, both));
    free(both);
}

static void kinds_of_keys(void **state)
{
    static const struct {
        enum cs_key_type type;
        enum cs_key_kind kind;
        const char *text;
    } kinds[] = {{CS_MAKE_EC_P256, CS_KEY_EC, "EC P-256"},
                 {CS_MAKE_EC_P384, CS_KEY_EC, "EC P-384"},
                 {CS_MAKE_EC_P521, CS_KEY_EC, "EC P-521"},
                 {CS_MAKE_RSA, CS_KEY_RSA, "RSA 2048"}};
    (void)state;

    for (size_t i = 0; i < CS_ARRAY_LEN(kinds); i++) {
        struct pair p;

        make(&p, (struct wish){.name = "a", .key = kinds[i].type});
        struct cs_cert *c = load(p.cert.bytes, p.key.bytes);
        struct cs_cert_info *info = info_of(&p);

        assert_int_equal(cs_cert_key_kind(c), kinds[i].kind);
        assert_string_equal(info->key, kinds[i].text);
        cs_cert_info_destroy(info);
        cs_cert_unref(c);
        free_pair(&p);
    }
}

static void refuse(const char *code, const char *cert, const char *key, const char *password)
{
    struct cs_cert *c = NULL;
    struct cs_cert_error why = {0};

    assert_int_equal(cs_cert_load(&c, text(cert), text(key), password, &why), -EINVAL);
    assert_string_equal(why.code, code);
    assert_true(strlen(why.text) > 10);
    assert_null(c);
}

static void what_is_wrong_with_a_file(void **state)
{
    char damaged[8192];
    (void)state;

    refuse("pem_key_cert_mismatch", leaf.cert.bytes, other.key.bytes, NULL);
    refuse("pem_cert_unrecognized_format", "", leaf.key.bytes, NULL);
    refuse("pem_cert_unrecognized_format", "no certificate", leaf.key.bytes, NULL);
    refuse("pem_cert_unrecognized_format", leaf.key.bytes, leaf.key.bytes, NULL);
    refuse("pem_key_unrecognized_format", leaf.cert.bytes, leaf.cert.bytes, NULL);
    refuse("pem_key_unrecognized_format", leaf.cert.bytes, "", NULL);
    refuse("pem_key_unsupported_format", leaf.cert.bytes,
           "-----BEGIN DSA PRIVATE KEY-----\nMAA=\n-----END DSA PRIVATE KEY-----\n", NULL);
    refuse("pem_key_parse_error", leaf.cert.bytes,
           "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", NULL);
    refuse("pem_key_parse_error", leaf.cert.bytes,
           "-----BEGIN PRIVATE KEY-----\n*\n-----END PRIVATE KEY-----\n", NULL);
    refuse("pem_cert_unrecognized_format",
           "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", leaf.key.bytes, NULL);
    snprintf(damaged, sizeof(damaged), "%.*s", (int)leaf.cert.len / 2, leaf.cert.bytes);
    refuse("pem_cert_unrecognized_format", damaged, leaf.key.bytes, NULL);
}

/* ---- passwords ---- */

static EVP_PKEY *key_of(const struct pair *p)
{
    BIO *in = BIO_new_mem_buf(p->key.bytes, (int)p->key.len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);

    BIO_free(in);
    assert_non_null(key);
    return key;
}

static char *contents(BIO *bio)
{
    const uint8_t *bytes;
    size_t len;

    assert_true(BIO_mem_contents(bio, &bytes, &len));
    char *s = calloc(1, len + 1);
    assert_non_null(s);
    memcpy(s, bytes, len);
    BIO_free(bio);
    return s;
}

static void try_passwords(const struct pair *p, const char *key)
{
    struct cs_cert *c = NULL;
    struct cs_cert_error why = {0};

    refuse("pem_key_passphrase_required", p->cert.bytes, key, NULL);
    refuse("pem_key_parse_error", p->cert.bytes, key, "wrong");
    refuse("pem_key_parse_error", p->cert.bytes, key, "");
    assert_int_equal(cs_cert_load(&c, text_of(&p->cert), text(key), "secret", &why), 0);
    cs_cert_unref(c);
}

static void encrypted_keys(void **state)
{
    EVP_PKEY *key = key_of(&leaf);
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem;
    (void)state;

    char secret[] = "secret";
    assert_true(PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_256_cbc(), secret, 6, NULL, NULL));
    pem = contents(bio);
    try_passwords(&leaf, pem);
    free(pem);

    bio = BIO_new(BIO_s_mem());
    assert_true(PEM_write_bio_ECPrivateKey(bio, EVP_PKEY_get0_EC_KEY(key), EVP_aes_128_cbc(),
                                           (unsigned char *)secret, 6, NULL, NULL));
    pem = contents(bio);
    assert_non_null(strstr(pem, "DEK-Info"));
    try_passwords(&leaf, pem);
    memcpy(strstr(pem, "AES-128"), "XYZ-128", 7);
    refuse("pem_key_unsupported_encryption_type", leaf.cert.bytes, pem, "secret");
    memcpy(strstr(pem, "XYZ-128-CBC,"), "AES-128-CBC,zz", 14);
    refuse("pem_key_wrong_iv", leaf.cert.bytes, pem, "secret");
    free(pem);
    EVP_PKEY_free(key);
}

static void an_unneeded_password_is_ignored(void **state)
{
    struct cs_cert *c = NULL;
    struct cs_cert_error why = {0};
    (void)state;

    assert_int_equal(cs_cert_load(&c, text_of(&leaf.cert), text_of(&leaf.key), "sharkssl", &why),
                     0);
    cs_cert_unref(c);
}

/* ---- names ---- */

static void chosen_by_sni(void **state)
{
    struct cs_cert *c = load(leaf.cert.bytes, leaf.key.bytes);
    struct cs_cert *o = load(other.cert.bytes, other.key.bytes);
    (void)state;

    assert_int_equal(cs_cert_serves(c, "www.example.com"), 2);
    assert_int_equal(cs_cert_serves(c, "WWW.Example.COM"), 2);
    assert_int_equal(cs_cert_serves(c, "a.wild.example"), 1);
    assert_int_equal(cs_cert_serves(c, "a.b.wild.example"), 0);
    assert_int_equal(cs_cert_serves(c, ".wild.example"), 0);
    assert_int_equal(cs_cert_serves(c, "wild.example"), 0);
    assert_int_equal(cs_cert_serves(c, "leaf"),
                     0); /* the common name does not count beside a SAN */
    assert_int_equal(cs_cert_serves(c, "10.1.2.3"), 0);
    assert_int_equal(cs_cert_serves(o, "other.example"), 2);
    cs_cert_unref(c);
    cs_cert_unref(o);
}

static void matched_with_what_was_asked_for(void **state)
{
    struct cs_cert *c = load(leaf.cert.bytes, leaf.key.bytes);
    struct cs_cert *o = load(other.cert.bytes, other.key.bytes);
    const struct crypto_buffer_st *b = cs_cert_at(c, 0);
    (void)state;

    assert_true(cs_cert_matches(b, "www.example.com"));
    assert_true(cs_cert_matches(b, "www.example.com."));
    assert_true(cs_cert_matches(b, "a.wild.example"));
    assert_true(cs_cert_matches(b, "10.1.2.3"));
    assert_true(cs_cert_matches(b, "::1"));
    assert_false(cs_cert_matches(b, "10.1.2.4"));
    assert_false(cs_cert_matches(b, "example.com"));
    assert_false(cs_cert_matches(b, "a.b.wild.example"));
    assert_false(cs_cert_matches(b, ""));
    assert_false(cs_cert_matches(b, "."));
    assert_true(cs_cert_matches(cs_cert_at(o, 0), "other.example"));
    cs_cert_unref(c);
    cs_cert_unref(o);
}

static void fields(void **state)
{
    struct cs_cert_info *info = info_of(&leaf);
    (void)state;

    assert_string_equal(info->subject.commonname, "leaf");
    assert_string_equal(info->issuer.commonname, "Middle");
    assert_null(info->subject.organization);
    assert_int_equal(info->name_count, 5);
    assert_string_equal(info->names[1], "*.wild.example");
    assert_string_equal(info->names[2], "IP:10.1.2.3");
    assert_string_equal(info->names[3], "IP:::1");
    assert_string_equal(info->names[4], "URI:x:y");
    assert_false(info->ca);
    assert_true(
        llabs(cs_cert_time(info->not_before, strlen(info->not_before)) - (time(NULL) - DAY)) < 100);
    cs_cert_info_destroy(info);
    info = info_of(&ca);
    assert_true(info->ca);
    cs_cert_info_destroy(info);
    assert_int_equal(cs_cert_info_create(&info, "rubbish", 7), -EINVAL);
    assert_int_equal(cs_cert_info_create(&info, "", 0), -EINVAL);
}

static void times(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } cases[] = {{"700101000000Z", 0},
                 {"700101000001Z", 1},
                 {"261122093000Z", 1795339800},
                 {"20261122093000Z", 1795339800},
                 {"491231235959Z", 2524607999},
                 {"500101000000Z", -631152000},
                 {"20500101000000Z", 2524608000},
                 {"20240229000000Z", 1709164800},
                 {"20230229000000Z", 0},
                 {"991332000000Z", 0},
                 {"2611220930Z", 0},
                 {"261122093000", 0},
                 {"26112209300xZ", 0},
                 {"261122093000+0000", 0},
                 {"", 0},
                 {"20261122093060Z", 0}};
    (void)state;

    for (size_t i = 0; i < CS_ARRAY_LEN(cases); i++) {
        assert_int_equal(cs_cert_time(cases[i].text, strlen(cases[i].text)), cases[i].seconds);
    }
}

/* ---- trust ---- */

static struct cs_store *store_of(const struct pair *p)
{
    struct cs_store *s = cs_store_create();
    struct cs_cert_error why = {0};

    assert_non_null(s);
    if (p) {
        assert_int_equal(cs_store_add(s, text_of(&p->cert), &why), 1);
    }
    return s;
}

static struct cs_verdict verify(struct cs_store *s, const struct cs_cert *c, enum cs_cert_use use)
{
    struct crypto_buffer_st *chain[8];
    struct cs_verdict v;

    for (unsigned i = 0; i < cs_cert_count(c); i++) {
        chain[i] = cs_cert_at(c, i);
    }
    assert_int_equal(cs_store_verify(s, chain, cs_cert_count(c), use, &v), 0);
    return v;
}

static void trust_leads_to_the_store(void **state)
{
    char *chain = join(&leaf.cert, &middle.cert);
    struct cs_cert *full = load(chain, leaf.key.bytes);
    struct cs_cert *bare = load(leaf.cert.bytes, leaf.key.bytes);
    struct cs_store *root = store_of(&ca), *inter = store_of(&middle), *own = store_of(&leaf);
    struct cs_store *empty = store_of(NULL), *wrong = store_of(&other);
    (void)state;

    assert_true(verify(root, full, CS_USE_SERVER).chain);
    assert_true(verify(root, full, CS_USE_SERVER).in_time);
    assert_false(verify(root, bare, CS_USE_SERVER).chain);
    assert_true(verify(inter, bare, CS_USE_SERVER).chain);
    assert_true(verify(own, bare, CS_USE_SERVER).chain);
    assert_false(verify(empty, full, CS_USE_SERVER).chain);
    assert_false(verify(wrong, full, CS_USE_SERVER).chain);
    assert_non_null(verify(wrong, full, CS_USE_SERVER).why);
    assert_false(verify(root, full, CS_USE_CLIENT).chain); /* it says it is a server's */
    struct cs_verdict none;
    assert_int_equal(cs_store_verify(root, NULL, 0, CS_USE_SERVER, &none), 0);
    assert_false(none.chain);
    cs_store_unref(root);
    cs_store_unref(inter);
    cs_store_unref(own);
    cs_store_unref(empty);
    cs_store_unref(wrong);
    cs_cert_unref(full);
    cs_cert_unref(bare);
    free(chain);
}

static void dates_stand_apart(void **state)
{
    struct pair old, early;
    (void)state;

    make(&old, (struct wish){.name = "old", .from = -2 * DAY, .to = -DAY, .issuer = &ca});
    make(&early, (struct wish){.name = "early", .from = DAY, .to = 2 * DAY, .issuer = &ca});
    struct cs_cert *o = load(old.cert.bytes, old.key.bytes);
    struct cs_cert *e = load(early.cert.bytes, early.key.bytes);
    struct cs_store *root = store_of(&ca), *wrong = store_of(&other);

    assert_true(verify(root, o, CS_USE_SERVER).chain);
    assert_false(verify(root, o, CS_USE_SERVER).in_time);
    assert_true(verify(root, e, CS_USE_SERVER).chain);
    assert_false(verify(root, e, CS_USE_SERVER).in_time);
    assert_false(verify(wrong, o, CS_USE_SERVER).chain);
    cs_store_unref(root);
    cs_store_unref(wrong);
    cs_cert_unref(o);
    cs_cert_unref(e);
    free_pair(&old);
    free_pair(&early);
}

/* A leaf is no authority, whatever it signs. */
static void a_leaf_cannot_sign(void **state)
{
    struct pair forged;
    (void)state;

    make(&forged, (struct wish){.name = "bank.example", .issuer = &leaf});
    char *chain = join(&forged.cert, &leaf.cert);
    char *whole = join(&(struct cs_pem_text){chain, strlen(chain)}, &middle.cert);
    struct cs_cert *c = load(whole, forged.key.bytes);
    struct cs_store *root = store_of(&ca);

    assert_false(verify(root, c, CS_USE_SERVER).chain);
    cs_store_unref(root);
    cs_cert_unref(c);
    free(whole);
    free(chain);
    free_pair(&forged);
}

static X509 *x509_of(const struct pair *p)
{
    BIO *in = BIO_new_mem_buf(p->cert.bytes, (int)p->cert.len);
    X509 *x = PEM_read_bio_X509(in, NULL, NULL, NULL);

    BIO_free(in);
    assert_non_null(x);
    return x;
}

/* PEM of a CRL of `by` that revokes `revoked` (or nobody). */
static char *make_crl(const struct pair *by, const struct pair *revoked, long next_update)
{
    X509_CRL *crl = X509_CRL_new();
    X509 *issuer = x509_of(by);
    EVP_PKEY *key = key_of(by);
    ASN1_TIME *last = X509_gmtime_adj(NULL, -3 * DAY), *next = X509_gmtime_adj(NULL, next_update);

    assert_true(X509_CRL_set_version(crl, 1));
    assert_true(X509_CRL_set_issuer_name(crl, X509_get_subject_name(issuer)));
    assert_true(X509_CRL_set1_lastUpdate(crl, last) && X509_CRL_set1_nextUpdate(crl, next));
    if (revoked) {
        X509 *x = x509_of(revoked);
        X509_REVOKED *r = X509_REVOKED_new();

        assert_true(X509_REVOKED_set_serialNumber(r, X509_get_serialNumber(x)));
        assert_true(X509_REVOKED_set_revocationDate(r, last));
        assert_true(X509_CRL_add0_revoked(crl, r));
        X509_free(x);
    }
    assert_true(X509_CRL_sign(crl, key, EVP_sha256()));
    BIO *bio = BIO_new(BIO_s_mem());
    assert_true(PEM_write_bio_X509_CRL(bio, crl));
    ASN1_TIME_free(last);
    ASN1_TIME_free(next);
    EVP_PKEY_free(key);
    X509_free(issuer);
    X509_CRL_free(crl);
    return contents(bio);
}

static struct cs_verdict with_crl(char *crl)
{
    char *chain = join(&leaf.cert, &middle.cert);
    struct cs_cert *c = load(chain, leaf.key.bytes);
    struct cs_store *s = store_of(&ca);
    struct cs_cert_error why = {0};

    assert_int_equal(cs_store_add(s, text(crl), &why), 1);
    assert_int_equal(cs_store_count(s), 1);
    struct cs_verdict v = verify(s, c, CS_USE_SERVER);
    cs_store_unref(s);
    cs_cert_unref(c);
    free(chain);
    free(crl);
    return v;
}

static void revocation(void **state)
{
    (void)state;
    assert_true(with_crl(make_crl(&ca, NULL, DAY)).chain);
    assert_true(with_crl(make_crl(&middle, NULL, DAY)).chain);
    assert_true(with_crl(make_crl(&middle, &ca, DAY)).chain); /* not its to revoke */
    assert_false(with_crl(make_crl(&middle, &leaf, DAY)).chain);
    assert_false(with_crl(make_crl(&ca, &middle, DAY)).chain);
    assert_string_equal(with_crl(make_crl(&ca, &middle, DAY)).why, "certificate revoked");
    assert_false(with_crl(make_crl(&ca, NULL, -DAY)).chain); /* out of date */
}

static void what_a_store_takes(void **state)
{
    struct cs_store *s = cs_store_create();
    struct cs_cert_error why = {0};
    char *two = join(&ca.cert, &middle.cert);
    uint8_t before[32], after[32];
    (void)state;

    assert_int_equal(cs_store_add(s, text(two), &why), 2);
    assert_int_equal(cs_store_count(s), 2);
    cs_store_digest(s, before);
    assert_int_equal(cs_store_add(s, text_of(&other.cert), &why), 1);
    cs_store_digest(s, after);
    assert_memory_not_equal(before, after, 32);
    struct stack_st_CRYPTO_BUFFER *names = cs_store_names(s);
    assert_int_equal(sk_CRYPTO_BUFFER_num(names), 3);
    sk_CRYPTO_BUFFER_pop_free(names, CRYPTO_BUFFER_free);

    /* p7b, as DER and as PEM */
    STACK_OF(X509) *certs = sk_X509_new_null();
    assert_true(sk_X509_push(certs, x509_of(&ca)) && sk_X509_push(certs, x509_of(&middle)));
    CBB cbb;
    uint8_t *der;
    size_t len;
    assert_true(CBB_init(&cbb, 1000) && PKCS7_bundle_certificates(&cbb, certs) &&
                CBB_finish(&cbb, &der, &len));
    assert_int_equal(cs_store_add(s, (struct cs_cert_text){der, len}, &why), 2);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_true(PEM_write_bio(bio, "PKCS7", "", der, (long)len) > 0);
    char *pem = contents(bio);
    assert_int_equal(cs_store_add(s, text(pem), &why), 2);

    assert_int_equal(cs_store_add(s, text("-----BEGIN X-----\nMAA=\n-----END X-----\n"), &why), 0);
    assert_int_equal(cs_store_add(s, text("rubbish"), &why), -EINVAL);
    assert_string_equal(why.code, "pem_cert_unrecognized_format");
    assert_int_equal(cs_store_add(s, text(""), &why), -EINVAL);
    assert_int_equal(cs_store_add(s, (struct cs_cert_text){der, len / 2}, &why), -EINVAL);
    free(pem);
    OPENSSL_free(der);
    sk_X509_pop_free(certs, X509_free);
    cs_store_unref(s);
    free(two);
}

/* ---- making ---- */

static void self_signed(void **state)
{
    struct pair p;
    struct cs_cert_error why = {0};
    (void)state;

    assert_int_equal(
        cs_make_self_signed(&p.cert, &p.key, "host", "localhost;IP:127.0.0.1", 3650, &why), 0);
    struct cs_cert *c = load(p.cert.bytes, p.key.bytes);
    struct cs_store *s = store_of(&p);

    assert_true(cs_cert_matches(cs_cert_at(c, 0), "127.0.0.1"));
    assert_true(verify(s, c, CS_USE_SERVER).chain);
    assert_true(cs_cert_expires(c) > time(NULL) + 3649LL * DAY);
    cs_store_unref(s);
    cs_cert_unref(c);
    free_pair(&p);
}

static void what_cannot_be_made(void **state)
{
    static const char *const bad[] = {"a b", "IP:1.2.3", "IP:", "a:b", "\xc3\xa4"};
    struct cs_make_request r = {.subject = {.commonname = "x"}};
    struct cs_make_key k = {text_of(&leaf.key), NULL};
    struct cs_pem_text out;
    struct cs_cert_error why = {0};
    (void)state;

    for (size_t i = 0; i < CS_ARRAY_LEN(bad); i++) {
        r.names = bad[i];
        assert_int_equal(cs_make_request(&out, &r, k, &why), -EINVAL);
        assert_string_equal(why.code, "invalidparam");
    }
    r.names = NULL;
    r.subject.countryname = "Germany";
    assert_int_equal(cs_make_request(&out, &r, k, &why), -EINVAL);
    r.subject.countryname = "DE";
    assert_int_equal(cs_make_request(&out, &r, k, &why), 0);

    struct cs_make_cert c = {.request = text_of(&out), .key = k, .from = 1, .to = 2, .serial = 1};
    struct cs_pem_text cert;
    c.to = 1;
    assert_int_equal(cs_make_cert(&cert, &c, &why), -EINVAL);
    c.to = 2;
    c.serial = 0;
    assert_int_equal(cs_make_cert(&cert, &c, &why), -EINVAL);
    c.serial = 1;
    c.key.text = text_of(&other.key);
    assert_int_equal(cs_make_cert(&cert, &c, &why), -EINVAL);
    assert_string_equal(why.code, "pem_key_cert_mismatch");
    c.request = text_of(&leaf.cert);
    assert_int_equal(cs_make_cert(&cert, &c, &why), -EINVAL);
    assert_int_equal(cs_make_key(&cert, CS_MAKE_RSA, 1024), -EINVAL);
    cs_pem_text_free(&out);
}

#ifdef CS_FAULTS
/* Each allocation fails once: no crash, no leak, and no certificate with less than was asked for.
 */
static void making_without_memory(void **state)
{
    struct cs_make_request r = {.subject = {.commonname = "x", .organization = "y"},
                                .names = "a.example;IP:10.0.0.1",
                                .usage = CS_USAGE_DIGITAL_SIGNATURE | CS_USAGE_KEY_CERT_SIGN,
                                .type = CS_TYPE_SSL_CA};
    struct cs_make_key k = {text_of(&leaf.key), NULL};
    struct cs_cert_error why = {0};
    bool failed = true;
    (void)state;

    for (unsigned long n = 1; failed; n++) {
        struct cs_pem_text request = {0}, cert = {0};

        cs_mem_fail_nth(n);
        int err = cs_make_request(&request, &r, k, &why);
        struct cs_make_cert c = {
            .request = text_of(&request), .key = k, .from = 1, .to = 2, .serial = 1};
        int cert_err = err < 0 ? err : cs_make_cert(&cert, &c, &why);

        failed = cs_mem_failed();
        cs_mem_fail_nth(0);
        assert_true(failed || cert_err == 0);
        if (cert_err == 0) {
            struct cs_cert_info *info;

            assert_int_equal(cs_cert_info_create(&info, cert.bytes, cert.len), 0);
            assert_int_equal(info->name_count, 2);
            assert_true(info->ca);
            cs_cert_info_destroy(info);
        }
        cs_pem_text_free(&request);
        cs_pem_text_free(&cert);
    }
}
#endif

/* Damaged files: any error, no byte beyond, no leak. */
static void fuzz(void **state)
{
    static uint64_t x = 88172645463325252u;
    char *chain = join(&leaf.cert, &middle.cert);
    size_t len = strlen(chain);
    struct cs_cert_error why;
    (void)state;

    for (int round = 0; round < 1500; round++) {
        char *copy = malloc(len), *key = strndup(leaf.key.bytes, leaf.key.len);
        struct cs_cert *c = NULL;
        struct cs_store *s = cs_store_create();
        struct cs_cert_info *info;

        memcpy(copy, chain, len);
        for (int n = 0; n < 3; n++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            copy[x % len] = (char)(x >> 32);
            key[(x >> 16) % leaf.key.len] ^= (char)(round % 3 == 0 ? x >> 40 & 1 : 0);
        }
        if (cs_cert_load(&c, (struct cs_cert_text){copy, len}, text(key), NULL, &why) == 0) {
            (void)verify(s, c, CS_USE_SERVER);
        }
        (void)!cs_store_add(s, (struct cs_cert_text){copy, len}, &why);
        if (cs_cert_info_create(&info, copy, len) == 0) {
            cs_cert_info_destroy(info);
        }
        cs_store_unref(s);
        cs_cert_unref(c);
        free(copy);
        free(key);
    }
    free(chain);
}

#ifdef CS_FAULTS
static void no_memory(void **state)
{
    unsigned long n = 1;
    (void)state;

    do {
        struct cs_cert *c = NULL;
        struct cs_cert_error why;

        cs_mem_fail_nth(n++);
        int err = cs_cert_load(&c, text_of(&leaf.cert), text_of(&leaf.key), NULL, &why);
        assert_true(err == 0 || err == -ENOMEM);
        if (err == 0) {
            uint8_t ocsp[256];
            size_t len = make_ocsp(ocsp, "1234", 0);
            (void)!cs_cert_set_ocsp(c, ocsp, len, &why);
        }
        struct cs_store *s = cs_store_create();
        cs_store_unref(s);
        cs_cert_unref(c);
    } while (cs_mem_failed());
    cs_mem_fail_nth(0);
    assert_true(n > 5);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_with_its_key),
        cmocka_unit_test(an_ocsp_response),
        cmocka_unit_test(key_and_certificate_in_one_file),
        cmocka_unit_test(kinds_of_keys),
        cmocka_unit_test(what_is_wrong_with_a_file),
        cmocka_unit_test(encrypted_keys),
        cmocka_unit_test(an_unneeded_password_is_ignored),
        cmocka_unit_test(chosen_by_sni),
        cmocka_unit_test(matched_with_what_was_asked_for),
        cmocka_unit_test(fields),
        cmocka_unit_test(times),
        cmocka_unit_test(trust_leads_to_the_store),
        cmocka_unit_test(dates_stand_apart),
        cmocka_unit_test(a_leaf_cannot_sign),
        cmocka_unit_test(revocation),
        cmocka_unit_test(what_a_store_takes),
        cmocka_unit_test(self_signed),
        cmocka_unit_test(what_cannot_be_made),
#ifdef CS_FAULTS
        cmocka_unit_test(making_without_memory),
#endif
        cmocka_unit_test(fuzz),
#ifdef CS_FAULTS
        cmocka_unit_test(no_memory),
#endif
    };
    return cmocka_run_group_tests(tests, make_all, free_all);
}
