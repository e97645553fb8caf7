/* cert_pem - blocks, private keys, certificates of a file. */
#include "codec/cert_pem.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/bytestring.h>
#include <openssl/cipher.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/pkcs7.h>
#include <openssl/pkcs8.h>
#include <openssl/rsa.h>

/* Below this RSA is broken, and TLS 1.3's signatures do not fit. */
#define RSA_BITS_MIN 1024u

bool cs_cert_no_memory(void)
{
    bool found = false;
    uint32_t err;

    while ((err = ERR_get_error()) != 0) {
        found |= ERR_GET_REASON(err) == ERR_R_MALLOC_FAILURE;
    }
    return found;
}

int cs_cert_wrong(struct cs_cert_error *why, const char *code, const char *format, ...)
{
    va_list args;

    if (cs_cert_no_memory()) {
        return -ENOMEM;
    }
    why->code = code;
    va_start(args, format);
    (void)vsnprintf(why->text, sizeof(why->text), format, args);
    va_end(args);
    return -EINVAL;
}

/* ---- blocks ---- */

bool cs_pem_open(struct cs_pem *p, struct cs_cert_text text)
{
    *p = (struct cs_pem){0};
    p->bio = text.len <= INT_MAX ? BIO_new_mem_buf(text.bytes, (int)text.len) : NULL;
    return p->bio != NULL;
}

static void free_block(struct cs_pem *p)
{
    OPENSSL_free(p->label);
    OPENSSL_free(p->block.header);
    OPENSSL_free(p->block.der);
    p->label = NULL;
    p->block = (struct cs_pem_block){0};
}

int cs_pem_next(struct cs_pem *p)
{
    uint32_t err;

    free_block(p);
    p->count++;
    if (PEM_read_bio(p->bio, &p->label, &p->block.header, &p->block.der, &p->block.len)) {
        p->block.label = p->label;
        return 1;
    }
    err = ERR_peek_last_error();
    if (cs_cert_no_memory()) {
        return -ENOMEM;
    }
    return ERR_GET_LIB(err) == ERR_LIB_PEM && ERR_GET_REASON(err) == PEM_R_NO_START_LINE ? 0
                                                                                         : -EINVAL;
}

void cs_pem_close(struct cs_pem *p)
{
    free_block(p);
    BIO_free(p->bio);
    p->bio = NULL;
}

bool cs_pem_is(struct cs_cert_text text)
{
    static const char mark[] = "-----BEGIN ";

    return memmem(text.bytes, text.len, mark, sizeof(mark) - 1) != NULL;
}

/* ---- keys ---- */

static int needs_password(struct cs_cert_error *why)
{
    return cs_cert_wrong(why, "pem_key_passphrase_required",
                         "the key is encrypted and no password was given");
}

/* What BoringSSL says about an encrypted key that could not be read. */
static int decrypt_failed(struct cs_cert_error *why)
{
    uint32_t err = ERR_peek_error();
    int lib = ERR_GET_LIB(err), reason = ERR_GET_REASON(err);

    if (lib == ERR_LIB_PEM && (reason == PEM_R_BAD_IV_CHARS || reason == PEM_R_SHORT_HEADER)) {
        return cs_cert_wrong(why, "pem_key_wrong_iv", "the key's DEK-Info line is damaged");
    }
    if (lib == ERR_LIB_CIPHER && (reason == CIPHER_R_WRONG_FINAL_BLOCK_LENGTH ||
                                  reason == CIPHER_R_DATA_NOT_MULTIPLE_OF_BLOCK_LENGTH)) {
        return cs_cert_wrong(why, "pem_key_wrong_length", "the encrypted key is cut off");
    }
    if ((lib == ERR_LIB_PEM &&
         (reason == PEM_R_UNSUPPORTED_CIPHER || reason == PEM_R_UNSUPPORTED_ENCRYPTION)) ||
        (lib == ERR_LIB_PKCS8 &&
         (reason == PKCS8_R_UNKNOWN_ALGORITHM || reason == PKCS8_R_UNKNOWN_CIPHER ||
          reason == PKCS8_R_UNSUPPORTED_CIPHER || reason == PKCS8_R_UNSUPPORTED_PRF ||
          reason == PKCS8_R_UNSUPPORTED_KEY_DERIVATION_FUNCTION || reason == PKCS8_R_UNKNOWN_HASH ||
          reason == PKCS8_R_UNKNOWN_DIGEST))) {
        return cs_cert_wrong(why, "pem_key_unsupported_encryption_type",
                             "the key is encrypted in a way that is not supported");
    }
    return cs_cert_wrong(why, "pem_key_parse_error", "wrong password, or the key is damaged");
}

static int give_password(char *buf, int size, int writing, void *user)
{
    const char *password = user;
    size_t len = strlen(password);

    (void)writing;
    if (len > (size_t)size) {
        return 0;
    }
    memcpy(buf, password, len);
    return (int)len;
}

/* RFC 1421, as "openssl rsa -aes128 -traditional" writes it. 0 also when it is not encrypted. */
static int decrypt_traditional(struct cs_pem_block *b, const char *password,
                               struct cs_cert_error *why)
{
    EVP_CIPHER_INFO cipher;

    if (!b->header || !strstr(b->header, "ENCRYPTED")) {
        return 0;
    }
    if (!password) {
        return needs_password(why);
    }
    if (!PEM_get_EVP_CIPHER_INFO(b->header, &cipher) ||
        !PEM_do_header(&cipher, b->der, &b->len, give_password, (void *)(uintptr_t)password)) {
        return decrypt_failed(why);
    }
    return 0;
}

static EVP_PKEY *parse_rsa(CBS *der)
{
    EVP_PKEY *key = EVP_PKEY_new();
    RSA *rsa = RSA_parse_private_key(der);

    if (!key || !rsa || !EVP_PKEY_assign_RSA(key, rsa)) {
        RSA_free(rsa);
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

static EVP_PKEY *parse_ec(CBS *der)
{
    EVP_PKEY *key = EVP_PKEY_new();
    EC_KEY *ec = EC_KEY_parse_private_key(der, NULL);

    if (!key || !ec || !EVP_PKEY_assign_EC_KEY(key, ec)) {
        EC_KEY_free(ec);
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

/* Only what TLS can sign with. */
static int check_key(const EVP_PKEY *key, struct cs_cert_error *why)
{
    switch (EVP_PKEY_id(key)) {
    case EVP_PKEY_RSA:
        if (EVP_PKEY_bits(key) < (int)RSA_BITS_MIN) {
            return cs_cert_wrong(why, "pem_key_unsupported_modulus_length",
                                 "the RSA key has %d bits; at least %u", EVP_PKEY_bits(key),
                                 RSA_BITS_MIN);
        }
        return 0;
    case EVP_PKEY_EC:
        if (EVP_PKEY_bits(key) < 256) {
            return cs_cert_wrong(why, "pem_key_unsupported_format",
                                 "the curve of the EC key is too weak for TLS");
        }
        return 0;
    case EVP_PKEY_ED25519:
        return 0;
    default:
        return cs_cert_wrong(why, "pem_key_unsupported_format",
                             "the key is neither RSA, EC nor Ed25519");
    }
}

/* `parsed` or why there is none; takes ownership. */
static int finish_key(EVP_PKEY **out, EVP_PKEY *parsed, struct cs_cert_error *why)
{
    uint32_t err = ERR_peek_error();
    int result;

    if (!parsed && cs_cert_no_memory()) {
        return -ENOMEM;
    }
    if (!parsed &&
        ((ERR_GET_LIB(err) == ERR_LIB_EVP && ERR_GET_REASON(err) == EVP_R_UNSUPPORTED_ALGORITHM) ||
         (ERR_GET_LIB(err) == ERR_LIB_EC && ERR_GET_REASON(err) == EC_R_UNKNOWN_GROUP))) {
        return cs_cert_wrong(why, "pem_key_unsupported_format",
                             "the key's algorithm or curve is not supported");
    }
    if (!parsed) {
        return cs_cert_wrong(why, "pem_key_parse_error", "the key is damaged");
    }
    result = check_key(parsed, why);
    if (result < 0) {
        EVP_PKEY_free(parsed);
        return result;
    }
    *out = parsed;
    return 0;
}

static int read_encrypted(EVP_PKEY **out, CBS *der, const char *password, struct cs_cert_error *why)
{
    EVP_PKEY *key;

    if (!password) {
        return needs_password(why);
    }
    key = PKCS8_parse_encrypted_private_key(der, password, strlen(password));
    return key ? finish_key(out, key, why) : decrypt_failed(why);
}

/* 1: the block is no key. */
static int read_key_block(EVP_PKEY **out, struct cs_pem_block *b, const char *password,
                          struct cs_cert_error *why)
{
    size_t label_len = strlen(b->label);
    static const char suffix[] = "PRIVATE KEY";
    const char *kind = b->label;
    CBS der;
    int err;

    if (label_len < sizeof(suffix) - 1 ||
        strcmp(b->label + label_len - (sizeof(suffix) - 1), suffix) != 0) {
        return 1;
    }
    err = decrypt_traditional(b, password, why);
    if (err < 0) {
        return err;
    }
    CBS_init(&der, b->der, (size_t)b->len);
    if (strcmp(kind, "PRIVATE KEY") == 0) {
        return finish_key(out, EVP_parse_private_key(&der), why);
    }
    if (strcmp(kind, "RSA PRIVATE KEY") == 0) {
        return finish_key(out, parse_rsa(&der), why);
    }
    if (strcmp(kind, "EC PRIVATE KEY") == 0) {
        return finish_key(out, parse_ec(&der), why);
    }
    if (strcmp(kind, "ENCRYPTED PRIVATE KEY") == 0) {
        return read_encrypted(out, &der, password, why);
    }
    return cs_cert_wrong(why, "pem_key_unsupported_format",
                         "keys of type \"%.40s\" are not supported", kind);
}

static int read_der_key(EVP_PKEY **out, struct cs_cert_text text, struct cs_cert_error *why)
{
    EVP_PKEY *key;
    CBS der;

    CBS_init(&der, text.bytes, text.len);
    key = EVP_parse_private_key(&der);
    if (!key) {
        return cs_cert_wrong(why, "pem_key_unrecognized_format", "there is no private key in it");
    }
    return finish_key(out, key, why);
}

int cs_cert_read_key(EVP_PKEY **out, struct cs_cert_text text, const char *password,
                     struct cs_cert_error *why)
{
    struct cs_pem pem;
    int err = 1;

    ERR_clear_error();
    if (!cs_pem_is(text)) {
        return read_der_key(out, text, why);
    }
    if (!cs_pem_open(&pem, text)) {
        return -ENOMEM;
    }
    while (err == 1) {
        int next = cs_pem_next(&pem);

        if (next == 1) {
            err = read_key_block(out, &pem.block, password, why);
        } else if (next == 0) {
            err =
                cs_cert_wrong(why, "pem_key_unrecognized_format", "there is no private key in it");
        } else {
            err = next == -ENOMEM ? next
                                  : cs_cert_wrong(why, "pem_key_parse_error",
                                                  "PEM block %u is damaged", pem.count);
        }
    }
    cs_pem_close(&pem);
    return err;
}

/* ---- certificates ---- */

static int push(STACK_OF(CRYPTO_BUFFER) * out, const unsigned char *der, size_t len)
{
    CRYPTO_BUFFER *buf = CRYPTO_BUFFER_new(der, len, cs_cert_pool());

    if (!buf || !sk_CRYPTO_BUFFER_push(out, buf)) {
        CRYPTO_BUFFER_free(buf);
        return -ENOMEM;
    }
    return 0;
}

static bool is(const char *label, const char *a, const char *b)
{
    return strcmp(label, a) == 0 || strcmp(label, b) == 0;
}

/* "TRUSTED CERTIFICATE" has OpenSSL's own remarks behind the certificate. */
static int push_first_element(STACK_OF(CRYPTO_BUFFER) * out, const struct cs_pem_block *b)
{
    CBS der, element;

    CBS_init(&der, b->der, (size_t)b->len);
    if (!CBS_get_asn1_element(&der, &element, CBS_ASN1_SEQUENCE)) {
        return -EINVAL;
    }
    return push(out, CBS_data(&element), CBS_len(&element));
}

static int push_bundle(STACK_OF(CRYPTO_BUFFER) * out, const void *der, size_t len)
{
    CBS cbs;

    CBS_init(&cbs, der, len);
    if (PKCS7_get_raw_certificates(out, &cbs, cs_cert_pool())) {
        return 0;
    }
    return cs_cert_no_memory() ? -ENOMEM : -EINVAL;
}

static int read_block(STACK_OF(CRYPTO_BUFFER) * out, const struct cs_pem_block *b,
                      cs_cert_crl_fn *crl, void *user)
{
    if (is(b->label, "CERTIFICATE", "X509 CERTIFICATE")) {
        return push(out, b->der, (size_t)b->len);
    }
    if (is(b->label, "TRUSTED CERTIFICATE", "TRUSTED CERTIFICATE")) {
        return push_first_element(out, b);
    }
    if (is(b->label, "PKCS7", "CMS")) {
        return push_bundle(out, b->der, (size_t)b->len);
    }
    if (crl && is(b->label, "X509 CRL", "CRL")) {
        return crl(user, b->der, b->len);
    }
    return 0;
}

static int read_pem(STACK_OF(CRYPTO_BUFFER) * out, struct cs_cert_text text, cs_cert_crl_fn *crl,
                    void *user, struct cs_cert_error *why)
{
    struct cs_pem pem;
    int err = 0, next = 1;

    if (!cs_pem_open(&pem, text)) {
        return -ENOMEM;
    }
    while (err == 0 && next == 1) {
        next = cs_pem_next(&pem);
        err = next == 1 ? read_block(out, &pem.block, crl, user) : next;
        if (err == -EINVAL) {
            err = cs_cert_wrong(why, "pem_cert_unrecognized_format", "PEM block %u is damaged",
                                pem.count);
        }
    }
    cs_pem_close(&pem);
    return err;
}

int cs_cert_read_all(STACK_OF(CRYPTO_BUFFER) * out, struct cs_cert_text text, cs_cert_crl_fn *crl,
                     void *user, struct cs_cert_error *why)
{
    CBS der, element;

    ERR_clear_error();
    if (cs_pem_is(text)) {
        return read_pem(out, text, crl, user, why);
    }
    int err = push_bundle(out, text.bytes, text.len);

    if (err != -EINVAL) {
        return err;
    }
    CBS_init(&der, text.bytes, text.len);
    if (CBS_get_asn1_element(&der, &element, CBS_ASN1_SEQUENCE) && CBS_len(&der) == 0) {
        return push(out, text.bytes, text.len);
    }
    return cs_cert_wrong(why, "pem_cert_unrecognized_format", "there is no certificate in it");
}
