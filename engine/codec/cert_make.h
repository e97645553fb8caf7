/*
 * cert_make - new keys, requests and certificates, all as PEM (ba-api C.3: ba.create.key, csr,
 * certificate; RFC 2986, RFC 5280).
 */
#ifndef CS_CODEC_CERT_MAKE_H
#define CS_CODEC_CERT_MAKE_H

#include "codec/cert.h"
#include "codec/cert_info.h"

/* PEM of our making; wiped when it is freed. */
struct cs_pem_text {
    char *bytes; /* with a final zero */
    size_t len;
};
void cs_pem_text_free(struct cs_pem_text *t); /* accepts one that is all zero */

enum cs_key_type { CS_MAKE_EC_P256, CS_MAKE_EC_P384, CS_MAKE_EC_P521, CS_MAKE_RSA };

/* A private key (PKCS #8, not encrypted). bits: 2048 to 8192, of RSA only; an RSA key takes a tenth
 * of a second and more. 0, -EINVAL for bits, -ENOMEM. */
CS_MUST_CHECK int cs_make_key(struct cs_pem_text *out, enum cs_key_type type, unsigned bits);

/* A private key in PEM, with its password if it is encrypted. */
struct cs_make_key {
    struct cs_cert_text text;
    const char *password; /* or NULL */
};

enum { /* bits as in X.509's keyUsage */
       CS_USAGE_DIGITAL_SIGNATURE = 1 << 0,
       CS_USAGE_NON_REPUDIATION = 1 << 1,
       CS_USAGE_KEY_ENCIPHERMENT = 1 << 2,
       CS_USAGE_DATA_ENCIPHERMENT = 1 << 3,
       CS_USAGE_KEY_AGREEMENT = 1 << 4,
       CS_USAGE_KEY_CERT_SIGN = 1 << 5,
       CS_USAGE_CRL_SIGN = 1 << 6,
};

enum { /* bits as in Netscape's certificate type */
       CS_TYPE_SSL_CLIENT = 1 << 0,
       CS_TYPE_SSL_SERVER = 1 << 1,
       CS_TYPE_OBJECT_SIGNING = 1 << 3,
       CS_TYPE_SSL_CA = 1 << 5,
       CS_TYPE_OBJECT_SIGNING_CA = 1 << 7,
};

enum cs_make_hash { CS_SHA256, CS_SHA384, CS_SHA512 };

struct cs_make_request {
    struct cs_cert_dn subject;
    const char *names; /* SAN: "example.com;IP:10.0.0.1;URI:...;email:..."; NULL or "": none */
    unsigned usage;    /* CS_USAGE_*; 0: not said */
    unsigned type;     /* CS_TYPE_*; a CA gets the basic constraint that makes it one */
    enum cs_make_hash hash;
};

/* A certificate signing request. 0, -EINVAL with why (a name, the key), -ENOMEM. */
CS_MUST_CHECK int cs_make_request(struct cs_pem_text *out, const struct cs_make_request *request,
                                  struct cs_make_key key, struct cs_cert_error *why);

struct cs_make_cert {
    struct cs_cert_text request; /* PEM; its signature is checked */
    struct cs_cert_text issuer;  /* PEM of the CA's certificate; len 0: self-signed */
    struct cs_make_key key;      /* the CA's; self-signed: the request's */
    int64_t from, to;            /* seconds since 1970 */
    int64_t serial;              /* above 0 */
    enum cs_make_hash hash;
};

/* A certificate. 0, -EINVAL with why, -ENOMEM. */
CS_MUST_CHECK int cs_make_cert(struct cs_pem_text *out, const struct cs_make_cert *cert,
                               struct cs_cert_error *why);

/* A P-256 key and a certificate for a server of these names that it has signed itself, with a
 * random serial, valid for `days` from an hour ago. 0, -EINVAL with why, -ENOMEM. */
CS_MUST_CHECK int cs_make_self_signed(struct cs_pem_text *cert, struct cs_pem_text *key,
                                      const char *commonname, const char *names, unsigned days,
                                      struct cs_cert_error *why);

#endif
