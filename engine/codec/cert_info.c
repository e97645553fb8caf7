/* cert_info - a certificate as plain text fields. */
#include "codec/cert_info.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <openssl/asn1.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/mem.h"
#include "codec/cert_pem.h"

/* A text of the info, freed with it. */
struct kept {
    struct kept *next;
    char text[];
};

struct info {
    struct cs_cert_info public;
    struct kept *kept;
    bool failed; /* no memory for something */
};

/* ---- texts ---- */

/* "prefix" and n bytes as one text. NULL with `failed` set; NULL also for what has a zero in it: no
 * honest certificate has, and as a C string it would be another name. */
static const char *keep(struct info *i, const char *prefix, const void *bytes, size_t n)
{
    size_t before = strlen(prefix);
    struct kept *k;

    if (memchr(bytes, '\0', n)) {
        return NULL;
    }
    k = cs_alloc(sizeof(*k) + before + n + 1);
    if (!k) {
        i->failed = true;
        return NULL;
    }
    memcpy(k->text, prefix, before);
    memcpy(k->text + before, bytes, n);
    k->text[before + n] = '\0';
    k->next = i->kept;
    i->kept = k;
    return k->text;
}

static const char *keep_string(struct info *i, const ASN1_STRING *s)
{
    unsigned char *utf8 = NULL;
    int n = ASN1_STRING_to_UTF8(&utf8, (ASN1_STRING *)(uintptr_t)s);
    const char *text = n >= 0 ? keep(i, "", utf8, (size_t)n) : NULL;

    OPENSSL_free(utf8);
    return text;
}

/* ---- fields ---- */

/* The last of a kind: the most specific one (RFC 4514 writes it first). */
static const char *entry(struct info *i, const X509_NAME *name, int nid)
{
    int at = -1, last = -1;

    while ((at = X509_NAME_get_index_by_NID(name, nid, at)) >= 0) {
        last = at;
    }
    return last < 0 ? NULL
                    : keep_string(i, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, last)));
}

static void read_name(struct info *i, const X509_NAME *name, struct cs_cert_dn *out)
{
    out->commonname = entry(i, name, NID_commonName);
    out->organization = entry(i, name, NID_organizationName);
    out->unit = entry(i, name, NID_organizationalUnitName);
    out->locality = entry(i, name, NID_localityName);
    out->province = entry(i, name, NID_stateOrProvinceName);
    out->countryname = entry(i, name, NID_countryName);
    out->email = entry(i, name, NID_pkcs9_emailAddress);
}

static const char *read_time(struct info *i, const ASN1_TIME *t)
{
    const char *text = keep(i, "", ASN1_STRING_get0_data(t), (size_t)ASN1_STRING_length(t));

    return text ? text : "";
}

static const char *read_serial(struct info *i, const ASN1_INTEGER *serial)
{
    BIGNUM *n = ASN1_INTEGER_to_BN(serial, NULL);
    char *hex = n ? BN_bn2hex(n) : NULL;
    const char *text = hex ? keep(i, "", hex, strlen(hex)) : NULL;

    OPENSSL_free(hex);
    BN_free(n);
    return text ? text : "";
}

static const char *read_key(struct info *i, X509 *x)
{
    EVP_PKEY *key = X509_get_pubkey(x);
    int id = key ? EVP_PKEY_id(key) : 0;
    char text[32] = "unknown";
    const char *kept;

    if (id == EVP_PKEY_RSA) {
        (void)snprintf(text, sizeof(text), "RSA %d", EVP_PKEY_bits(key));
    } else if (id == EVP_PKEY_EC) {
        const EC_GROUP *group = EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key));
        const char *curve = EC_curve_nid2nist(EC_GROUP_get_curve_name(group));

        (void)snprintf(text, sizeof(text), "EC %s", curve ? curve : "unknown");
    } else if (id == EVP_PKEY_ED25519) {
        (void)snprintf(text, sizeof(text), "Ed25519");
    }
    EVP_PKEY_free(key);
    kept = keep(i, "", text, strlen(text));
    return kept ? kept : "";
}

/* ---- alternative names ---- */

static const char *keep_ip(struct info *i, const ASN1_STRING *s)
{
    int len = ASN1_STRING_length(s);
    char text[INET6_ADDRSTRLEN];

    if ((len != 4 && len != 16) ||
        !inet_ntop(len == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(s), text, sizeof(text))) {
        return NULL;
    }
    return keep(i, "IP:", text, strlen(text));
}

static const char *keep_general_name(struct info *i, const GENERAL_NAME *name)
{
    const ASN1_STRING *s = name->d.ia5;

    switch (name->type) {
    case GEN_DNS: /* one with a colon would look like another kind */
        return memchr(ASN1_STRING_get0_data(s), ':', (size_t)ASN1_STRING_length(s))
                   ? NULL
                   : keep(i, "", ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
    case GEN_IPADD:
        return keep_ip(i, name->d.iPAddress);
    case GEN_URI:
        return keep(i, "URI:", ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
    case GEN_EMAIL:
        return keep(i, "email:", ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
    default:
        return NULL;
    }
}

static void read_names(struct info *i, X509 *x)
{
    GENERAL_NAMES *all = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    size_t n = all ? sk_GENERAL_NAME_num(all) : 0;
    const char **names = n > 0 ? cs_zalloc(n * sizeof(*names)) : NULL;

    i->failed |= n > 0 && !names;
    i->public.names = names;
    for (size_t at = 0; names && at < n; at++) {
        const char *name = keep_general_name(i, sk_GENERAL_NAME_value(all, at));

        if (name) {
            names[i->public.name_count++] = name;
        }
    }
    GENERAL_NAMES_free(all);
}

/* ---- the whole ---- */

static int read_all(struct cs_cert_info **out, X509 *x, const uint8_t *der, size_t len)
{
    struct info *i = cs_zalloc(sizeof(*i));

    if (!i) {
        return -ENOMEM;
    }
    read_name(i, X509_get_subject_name(x), &i->public.subject);
    read_name(i, X509_get_issuer_name(x), &i->public.issuer);
    i->public.not_before = read_time(i, X509_get0_notBefore(x));
    i->public.not_after = read_time(i, X509_get0_notAfter(x));
    i->public.serial = read_serial(i, X509_get0_serialNumber(x));
    i->public.key = read_key(i, x);
    i->public.ca = X509_check_ca(x) == 1;
    read_names(i, x);
    SHA256(der, len, i->public.sha256);
    if (cs_cert_no_memory() || i->failed) { /* or a name would be missing without a word */
        cs_cert_info_destroy(&i->public);
        return -ENOMEM;
    }
    *out = &i->public;
    return 0;
}

int cs_cert_info_create(struct cs_cert_info **out, const void *text, size_t len)
{
    STACK_OF(CRYPTO_BUFFER) *all = sk_CRYPTO_BUFFER_new_null();
    struct cs_cert_error why;
    int err =
        all ? cs_cert_read_all(all, (struct cs_cert_text){text, len}, NULL, NULL, &why) : -ENOMEM;

    if (err == 0) {
        CRYPTO_BUFFER *first =
            sk_CRYPTO_BUFFER_num(all) > 0 ? sk_CRYPTO_BUFFER_value(all, 0) : NULL;
        X509 *x = first ? X509_parse_from_buffer(first) : NULL;

        err = x ? read_all(out, x, CRYPTO_BUFFER_data(first), CRYPTO_BUFFER_len(first))
              : cs_cert_no_memory() ? -ENOMEM
                                    : -EINVAL;
        X509_free(x);
    }
    sk_CRYPTO_BUFFER_pop_free(all, CRYPTO_BUFFER_free);
    ERR_clear_error();
    return err;
}

void cs_cert_info_destroy(struct cs_cert_info *info)
{
    struct info *i;

    if (!info) {
        return;
    }
    i = cs_container_of(info, struct info, public);
    while (i->kept) {
        struct kept *k = i->kept;

        i->kept = k->next;
        cs_free(k);
    }
    cs_free((void *)(uintptr_t)info->names);
    cs_free(i);
}

/* ---- time ---- */

/* Two digits, or -1. */
static int two_digits(const char *s)
{
    bool digits = s[0] >= '0' && s[0] <= '9' && s[1] >= '0' && s[1] <= '9';

    return digits ? (s[0] - '0') * 10 + (s[1] - '0') : -1;
}

int64_t cs_cert_time(const char *text, size_t len)
{
    struct tm tm = {0}, back;
    int part[7]; /* the century first */
    unsigned count = 0;
    time_t t;

    if ((len != 13 && len != 15) || text[len - 1] != 'Z') {
        return 0;
    }
    for (size_t i = 0; i + 1 < len; i += 2) {
        part[count++] = two_digits(text + i);
        if (part[count - 1] < 0) {
            return 0;
        }
    }
    const int *p = part + (len == 15 ? 1 : 0);
    int century = len == 15 ? part[0] : p[0] >= 50 ? 19 : 20;

    tm.tm_year = century * 100 + p[0] - 1900;
    tm.tm_mon = p[1] - 1;
    tm.tm_mday = p[2];
    tm.tm_hour = p[3];
    tm.tm_min = p[4];
    tm.tm_sec = p[5];
    back = tm;
    t = timegm(&back);
    /* timegm corrects what is out of range: then it was no date. */
    return back.tm_mon == tm.tm_mon && back.tm_mday == tm.tm_mday && back.tm_hour == tm.tm_hour &&
                   back.tm_min == tm.tm_min
               ? (int64_t)t
               : 0;
}
