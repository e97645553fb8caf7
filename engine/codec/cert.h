/*
 * cert - certificates with their private keys, as files and peers bring them: loading, matching
 * names, plain fields. Trust is cert_store.h's, making new ones cert_make.h's.
 *
 * BoringSSL's types stand here by their struct tags, so that only engine/codec includes its
 * headers: crypto_buffer_st is CRYPTO_BUFFER (the DER of one certificate), evp_pkey_st is EVP_PKEY.
 *
 * Memory: whatever BoringSSL allocates is wiped when it is freed, private keys among it.
 * Threads: reference counts are atomic; a cs_cert does not change once it is loaded.
 */
#ifndef CS_CODEC_CERT_H
#define CS_CODEC_CERT_H

#include "base/base.h"

struct crypto_buffer_pool_st;
struct crypto_buffer_st;
struct evp_pkey_st;

/* What is wrong with a file: a string of ba-api B.8 for programs, a phrase for people that never
 * shows a byte of a key. */
struct cs_cert_error {
    const char *code; /* "pem_key_cert_mismatch" ...; static */
    char text[192];
};

/* ---- loading ---- */

/* PEM text, or the DER of one certificate or key. */
struct cs_cert_text {
    const void *bytes;
    size_t len;
};

struct cs_cert;

/* The certificate that comes first is the one of the key; the others follow as its chain, in the
 * order in which they stand. password: for an encrypted key (PKCS #8, or RFC 1421 as OpenSSL wrote
 * it once); ignored when the key is not; may be NULL. 0; -EINVAL with `why`; -ENOMEM. */
CS_MUST_CHECK int cs_cert_load(struct cs_cert **out, struct cs_cert_text certs,
                               struct cs_cert_text key, const char *password,
                               struct cs_cert_error *why);

/* The DER of an OCSP response to staple (RFC 6066 8); copied. Before the certificate is used. 0,
 * -ENOMEM, or -EINVAL with why: it is none, or does not speak of the leaf. */
CS_MUST_CHECK int cs_cert_set_ocsp(struct cs_cert *c, const void *der, size_t len,
                                   struct cs_cert_error *why);

struct cs_cert *cs_cert_ref(struct cs_cert *c); /* returns c */
void cs_cert_unref(struct cs_cert *c);          /* accepts NULL */

/* Whether somebody refers to it besides the caller. */
bool cs_cert_shared(const struct cs_cert *c);

/* ---- what it is ---- */

enum cs_key_kind { CS_KEY_RSA, CS_KEY_EC, CS_KEY_ED25519 };

enum cs_key_kind cs_cert_key_kind(const struct cs_cert *c);
unsigned cs_cert_count(const struct cs_cert *c); /* of the chain; at least 1 */
/* Borrowed, as all the following. i < count; 0 is the leaf. */
struct crypto_buffer_st *cs_cert_at(const struct cs_cert *c, unsigned i);
struct evp_pkey_st *cs_cert_key(const struct cs_cert *c);
const uint8_t *cs_cert_ocsp(const struct cs_cert *c, size_t *len); /* NULL: none */

/* The first name that it is for, for logs. */
const char *cs_cert_name(const struct cs_cert *c);

/* Seconds since 1970: the first moment at which a certificate of the chain is no longer valid. */
int64_t cs_cert_expires(const struct cs_cert *c);

/* For choosing by SNI: 2 when a name of it is `host`, 1 when a wildcard covers it, 0 otherwise.
 * Names are the DNS names of the SAN; the common name only where there are none (RFC 6125 6.4.4).
 */
int cs_cert_serves(const struct cs_cert *c, const char *host);

/* ---- one certificate of a peer ---- */

/* Whether a certificate is for a DNS name or an IP address (RFC 6125, RFC 9525 6; wildcards for one
 * whole label). False also when it cannot be parsed. */
bool cs_cert_matches(const struct crypto_buffer_st *leaf, const char *host);

/* Whether its public key (SubjectPublicKeyInfo) has this SHA-256. */
bool cs_cert_pin_matches(const struct crypto_buffer_st *leaf, const uint8_t spki_sha256[32]);

/* ---- for codec and the TLS contexts ---- */

/* The process's one pool: equal certificates are kept once. NULL when there was no memory for it
 * (buffers are then their own). */
struct crypto_buffer_pool_st *cs_cert_pool(void);

#endif
