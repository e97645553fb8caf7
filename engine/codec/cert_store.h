/*
 * cert_store - whom we trust: certificates of authorities, and lists of what they have revoked.
 *
 * Everything in a store is trusted for itself, also an intermediate authority or the certificate of
 * one server. Revocation is checked for each certificate whose issuer has a CRL in the store; a CRL
 * that is out of date refuses what it is about.
 *
 * Threads: the count of references is atomic; verifying does not change a store, adding does.
 */
#ifndef CS_CODEC_CERT_STORE_H
#define CS_CODEC_CERT_STORE_H

#include "codec/cert.h"

struct cs_store;
struct stack_st_CRYPTO_BUFFER;

/* An empty one, in which nothing is trusted. NULL: no memory. */
CS_MUST_CHECK struct cs_store *cs_store_create(void);
struct cs_store *cs_store_ref(struct cs_store *s); /* returns s */
void cs_store_unref(struct cs_store *s);           /* accepts NULL */

/* Adds what is in a text: PEM with certificates, CRLs and PKCS #7 blocks, or DER of a certificate,
 * a PKCS #7 bundle or a CRL. Only while nobody verifies with it yet. Returns how many certificates
 * and CRLs that were, 0 for a text without any; -EINVAL with why, -ENOMEM. */
CS_MUST_CHECK int cs_store_add(struct cs_store *s, struct cs_cert_text text,
                               struct cs_cert_error *why);

/* Certificates in it. */
unsigned cs_store_count(const struct cs_store *s);

/* What the peer's certificate must be good for (RFC 5280 4.2.1.12). */
enum cs_cert_use { CS_USE_SERVER, CS_USE_CLIENT };

struct cs_verdict {
    bool chain;      /* it leads to something in the store, for this use, and none is revoked */
    bool in_time;    /* no certificate of it is too old or too new */
    const char *why; /* a phrase when one of the two is false; static */
};

/* Judges a peer's chain, leaf first, as RFC 5280 6 does. Names are cs_cert_matches'. 0 or -ENOMEM.
 */
CS_MUST_CHECK int cs_store_verify(struct cs_store *s, struct crypto_buffer_st *const *chain,
                                  unsigned count, enum cs_cert_use use, struct cs_verdict *out);

/* The subjects (DER) of its certificates, for a CertificateRequest: a new stack with references of
 * its own, as SSL_CTX_set0_client_CAs takes it. NULL: no memory. */
CS_MUST_CHECK struct stack_st_CRYPTO_BUFFER *cs_store_names(const struct cs_store *s);

/* Differs between stores that have been given different certificates or CRLs. */
void cs_store_digest(const struct cs_store *s, uint8_t sha256[32]);

#endif
