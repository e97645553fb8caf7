/*
 * cert_pem - PEM files: their blocks, and private keys in each encoding that OpenSSL has ever
 * written. For the certificate modules only.
 */
#ifndef CS_CODEC_CERT_PEM_H
#define CS_CODEC_CERT_PEM_H

#include <openssl/base.h>
#include <openssl/pool.h>

#include "codec/cert.h"

/* Fills *why. -EINVAL, so that it ends a function; -ENOMEM without a word when BoringSSL's errors
 * say that it was for want of memory. */
int cs_cert_wrong(struct cs_cert_error *why, const char *code, const char *format, ...)
    CS_PRINTF(3, 4);

/* Takes BoringSSL's errors out of its queue: whether one of them is want of memory. */
bool cs_cert_no_memory(void);

/* One block of a file. All belong to the reader: valid until the next call. */
struct cs_pem_block {
    const char *label;  /* "CERTIFICATE" ... */
    char *header;       /* of RFC 1421, "" if there is none */
    unsigned char *der; /* may be decrypted in place */
    long len;
};

struct cs_pem {
    BIO *bio;
    struct cs_pem_block block;
    char *label;
    unsigned count; /* blocks seen */
};

/* The text stays the caller's, and in place. False: no memory. */
CS_MUST_CHECK bool cs_pem_open(struct cs_pem *p, struct cs_cert_text text);

/* 1: p->block is the next one; 0: there is no more; -EINVAL: a block is damaged; -ENOMEM. */
CS_MUST_CHECK int cs_pem_next(struct cs_pem *p);

/* Frees and wipes. */
void cs_pem_close(struct cs_pem *p);

/* Whether there is a PEM block in it. */
bool cs_pem_is(struct cs_cert_text text);

/* The first private key in a text (PEM or DER). 0, -EINVAL with why, -ENOMEM. */
CS_MUST_CHECK int cs_cert_read_key(EVP_PKEY **out, struct cs_cert_text text, const char *password,
                                   struct cs_cert_error *why);

/* Appends every certificate of a text to the stack: PEM (PKCS #7 blocks too), DER of a certificate
 * or of a PKCS #7 bundle. CRLs of PEM blocks are given to `crl` where that is not NULL. 0, -EINVAL
 * with why, -ENOMEM. */
typedef int cs_cert_crl_fn(void *user, const unsigned char *der, long len);
CS_MUST_CHECK int cs_cert_read_all(STACK_OF(CRYPTO_BUFFER) * out, struct cs_cert_text text,
                                   cs_cert_crl_fn *crl, void *user, struct cs_cert_error *why);

#endif
