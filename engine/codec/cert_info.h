/*
 * cert_info - the fields of a certificate as plain text (RFC 5280 4.1).
 */
#ifndef CS_CODEC_CERT_INFO_H
#define CS_CODEC_CERT_INFO_H

#include "base/base.h"

/* NULL: not in it. The fields of ba.create.csr. */
struct cs_cert_dn {
    const char *commonname, *organization, *unit, *locality, *province, *countryname, *email;
};

struct cs_cert_info {
    struct cs_cert_dn subject, issuer;
    const char *not_before, *not_after; /* as encoded: "261122093000Z", "20501122093000Z" */
    const char *serial;                 /* hexadecimal */
    const char *key;                    /* "RSA 2048", "EC P-256", "Ed25519"; "unknown" */
    bool ca;
    uint8_t sha256[32];       /* of the DER */
    const char *const *names; /* SAN: "example.com", "IP:10.0.0.1", "URI:...", "email:..." */
    unsigned name_count;
};

/* DER or PEM (its first certificate). 0, -EINVAL when it is no certificate, -ENOMEM. */
CS_MUST_CHECK int cs_cert_info_create(struct cs_cert_info **out, const void *text, size_t len);
void cs_cert_info_destroy(struct cs_cert_info *info); /* accepts NULL */

/* "YYMMDDHHMMSSZ" (years from 1950 on) or "YYYYMMDDHHMMSSZ" in seconds since 1970; 0 when it is
 * neither. RFC 5280 4.1.2.5. */
int64_t cs_cert_time(const char *text, size_t len);

#endif
