/* cert_make - keys, requests, certificates. */
#include "codec/cert_make.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/bytestring.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "codec/cert_pem.h"

#define RSA_BITS_MIN 2048u
#define RSA_BITS_MAX 8192u
#define HOUR 3600
#define DAY (24 * HOUR)

void cs_pem_text_free(struct cs_pem_text *t)
{
    OPENSSL_free(t->bytes);
    *t = (struct cs_pem_text){0};
}

/* What was written to the BIO, and frees it. 0 or -ENOMEM. */
static int take_text(struct cs_pem_text *out, BIO *bio, bool written)
{
    const uint8_t *bytes;
    size_t len;

    *out = (struct cs_pem_text){0};
    if (written && BIO_mem_contents(bio, &bytes, &len)) {
        out->bytes = OPENSSL_malloc(len + 1);
    }
    if (out->bytes) {
        memcpy(out->bytes, bytes, len);
        out->bytes[len] = '\0';
        out->len = len;
    }
    BIO_free(bio);
    ERR_clear_error();
    return out->bytes ? 0 : -ENOMEM;
}

static const EVP_MD *digest_of(enum cs_make_hash hash)
{
    return hash == CS_SHA512 ? EVP_sha512() : hash == CS_SHA384 ? EVP_sha384() : EVP_sha256();
}

/* ---- keys ---- */

static EVP_PKEY *make_ec(int nid)
{
    EVP_PKEY *key = EVP_PKEY_new();
    EC_KEY *ec = EC_KEY_new_by_curve_name(nid);

    if (!key || !ec || !EC_KEY_generate_key(ec) || !EVP_PKEY_assign_EC_KEY(key, ec)) {
        EC_KEY_free(ec);
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

static EVP_PKEY *make_rsa(unsigned bits)
{
    EVP_PKEY *key = EVP_PKEY_new();
    RSA *rsa = RSA_new();
    BIGNUM *e = BN_new();
    bool made = key && rsa && e && BN_set_word(e, RSA_F4) &&
                RSA_generate_key_ex(rsa, (int)bits, e, NULL) && EVP_PKEY_assign_RSA(key, rsa);

    BN_free(e);
    if (!made) {
        RSA_free(rsa);
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

int cs_make_key(struct cs_pem_text *out, enum cs_key_type type, unsigned bits)
{
    static const int curves[] = {[CS_MAKE_EC_P256] = NID_X9_62_prime256v1,
                                 [CS_MAKE_EC_P384] = NID_secp384r1,
                                 [CS_MAKE_EC_P521] = NID_secp521r1};
    bool rsa = type == CS_MAKE_RSA;

    if (rsa && (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)) {
        return -EINVAL;
    }
    EVP_PKEY *key = rsa ? make_rsa(bits) : make_ec(curves[type]);
    BIO *bio = BIO_new(BIO_s_mem());
    bool written = key && bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);

    EVP_PKEY_free(key);
    return take_text(out, bio, written);
}

/* ---- names ---- */

static bool add_entry(X509_NAME *name, int nid, const char *value)
{
    return !value ||
           X509_NAME_add_entry_by_NID(name, nid, MBSTRING_UTF8, (const uint8_t *)value, -1, -1, 0);
}

/* RFC 5280 A.1 bounds the fields; countryName has exactly two letters. */
static bool add_subject(X509_NAME *name, const struct cs_cert_dn *dn)
{
    return add_entry(name, NID_countryName, dn->countryname) &&
           add_entry(name, NID_stateOrProvinceName, dn->province) &&
           add_entry(name, NID_localityName, dn->locality) &&
           add_entry(name, NID_organizationName, dn->organization) &&
           add_entry(name, NID_organizationalUnitName, dn->unit) &&
           add_entry(name, NID_commonName, dn->commonname) &&
           add_entry(name, NID_pkcs9_emailAddress, dn->email);
}

static bool printable(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] <= ' ' || s[i] > '~') {
            return false;
        }
    }
    return n > 0;
}

/* The value of a GENERAL_NAME and its type. NULL: not a name, or no memory. */
static ASN1_STRING *make_name(const char *text, size_t n, int *type)
{
    static const struct {
        const char *prefix;
        int type;
    } kinds[] = {{"IP:", GEN_IPADD}, {"URI:", GEN_URI}, {"email:", GEN_EMAIL}, {"DNS:", GEN_DNS}};
    uint8_t address[16];
    char ip[INET6_ADDRSTRLEN] = "";

    *type = GEN_DNS;
    for (size_t i = 0; i < CS_ARRAY_LEN(kinds); i++) {
        size_t prefix = strlen(kinds[i].prefix);

        if (n > prefix && strncmp(text, kinds[i].prefix, prefix) == 0) {
            *type = kinds[i].type;
            text += prefix;
            n -= prefix;
            break;
        }
    }
    if (!printable(text, n) || (*type == GEN_DNS && memchr(text, ':', n))) {
        return NULL;
    }
    ASN1_STRING *s =
        ASN1_STRING_type_new(*type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
    bool set = false;

    if (s && *type != GEN_IPADD) {
        set = ASN1_STRING_set(s, text, (int)n);
    } else if (s && n < sizeof(ip)) {
        memcpy(ip, text, n);
        int len = inet_pton(AF_INET, ip, address) == 1    ? 4
                  : inet_pton(AF_INET6, ip, address) == 1 ? 16
                                                          : 0;
        set = len > 0 && ASN1_STRING_set(s, address, len);
    }
    if (!set) {
        ASN1_STRING_free(s);
        return NULL;
    }
    return s;
}

static bool add_name(GENERAL_NAMES *all, const char *text, size_t n)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    int type;
    ASN1_STRING *value = make_name(text, n, &type);

    if (!name || !value) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(value);
        return false;
    }
    GENERAL_NAME_set0_value(name, type, value);
    if (!sk_GENERAL_NAME_push(all, name)) {
        GENERAL_NAME_free(name);
        return false;
    }
    return true;
}

/* ---- extensions ---- */

typedef STACK_OF(X509_EXTENSION) extensions;

static bool add_names(extensions **all, const char *names, struct cs_cert_error *why)
{
    GENERAL_NAMES *list = GENERAL_NAMES_new();
    bool ok = list != NULL;

    while (ok && *names) {
        size_t n = strcspn(names, ";");

        ok = n == 0 || add_name(list, names, n);
        if (!ok) {
            (void)cs_cert_wrong(why, "invalidparam", "\"%.*s\" is no name for a certificate",
                                (int)CS_MIN(n, (size_t)80), names);
        }
        names += n + (names[n] == ';');
    }
    ok = ok && (sk_GENERAL_NAME_num(list) == 0 ||
                X509V3_add1_i2d(all, NID_subject_alt_name, list, 0, X509V3_ADD_APPEND) == 1);
    GENERAL_NAMES_free(list);
    return ok;
}

/* Takes ext over when it returns true. (X509v3_add_ext frees a list that it cannot extend, and
 * leaves it to be freed once more.) */
static bool append(extensions **all, X509_EXTENSION *ext)
{
    if (!*all) {
        *all = sk_X509_EXTENSION_new_null();
    }
    return *all && sk_X509_EXTENSION_push(*all, ext) > 0;
}

/* A bit string, as keyUsage and Netscape's type are. */
static bool add_bits(extensions **all, int nid, unsigned bits, bool critical)
{
    ASN1_BIT_STRING *s = ASN1_BIT_STRING_new();
    bool ok = s != NULL;

    for (int i = 0; i < 8 && ok; i++) {
        ok = !(bits & 1u << i) || ASN1_BIT_STRING_set_bit(s, i, 1);
    }
    unsigned char *der = NULL;
    int len = ok ? i2d_ASN1_BIT_STRING(s, &der) : -1;
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    X509_EXTENSION *ext = NULL;

    if (len > 0 && octets && ASN1_OCTET_STRING_set(octets, der, len)) {
        ext = X509_EXTENSION_create_by_NID(NULL, nid, critical, octets);
    }
    ok = ext && append(all, ext);
    if (!ok) {
        X509_EXTENSION_free(ext);
    }
    ASN1_OCTET_STRING_free(octets);
    OPENSSL_free(der);
    ASN1_BIT_STRING_free(s);
    return ok;
}

static bool add_ca(extensions **all)
{
    BASIC_CONSTRAINTS *c = BASIC_CONSTRAINTS_new();
    bool ok = false;

    if (c) {
        c->ca = 1;
        ok = X509V3_add1_i2d(all, NID_basic_constraints, c, 1, X509V3_ADD_APPEND) == 1;
    }
    BASIC_CONSTRAINTS_free(c);
    return ok;
}

/* *out: NULL when there is none. */
static bool make_extensions(extensions **out, const struct cs_make_request *r,
                            struct cs_cert_error *why)
{
    bool ca = r->type & (CS_TYPE_SSL_CA | CS_TYPE_OBJECT_SIGNING_CA);
    bool ok = (!ca || add_ca(out)) &&
              (r->usage == 0 || add_bits(out, NID_key_usage, r->usage, true)) &&
              (r->type == 0 || add_bits(out, NID_netscape_cert_type, r->type, false)) &&
              (!r->names || add_names(out, r->names, why));

    if (!ok) {
        sk_X509_EXTENSION_pop_free(*out, X509_EXTENSION_free);
        *out = NULL;
    }
    return ok;
}

/* ---- requests ---- */

/* With `why->code` set the reason is there already; else it was memory. */
static int failed(const struct cs_cert_error *why)
{
    ERR_clear_error();
    return why->code ? -EINVAL : -ENOMEM;
}

static bool put_subject(CBB *out, const struct cs_cert_dn *dn, struct cs_cert_error *why)
{
    X509_NAME *name = X509_NAME_new();
    uint8_t *der = NULL;
    int len = -1;

    if (name && add_subject(name, dn)) {
        len = i2d_X509_NAME(name, &der);
    } else if (name) {
        (void)cs_cert_wrong(
            why, "invalidparam",
            "a field of the subject is empty, too long or not UTF-8 (countryname: two "
            "letters)");
    }
    bool ok = len > 0 && CBB_add_bytes(out, der, (size_t)len);

    OPENSSL_free(der);
    X509_NAME_free(name);
    return ok;
}

/* The attribute extensionRequest (RFC 2985, 5.4.2), if there is anything to ask for. */
static bool put_extensions(CBB *attributes, const struct cs_make_request *r,
                           struct cs_cert_error *why)
{
    static const uint8_t oid[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e};
    extensions *all = NULL;
    uint8_t *der = NULL;
    CBB attribute, type, values;

    if (!make_extensions(&all, r, why)) {
        return false;
    }
    int len = all ? i2d_X509_EXTENSIONS(all, &der) : 0;
    bool ok = len == 0 || (len > 0 && CBB_add_asn1(attributes, &attribute, CBS_ASN1_SEQUENCE) &&
                           CBB_add_asn1(&attribute, &type, CBS_ASN1_OBJECT) &&
                           CBB_add_bytes(&type, oid, sizeof(oid)) &&
                           CBB_add_asn1(&attribute, &values, CBS_ASN1_SET) &&
                           CBB_add_bytes(&values, der, (size_t)len) && CBB_flush(attributes));

    OPENSSL_free(der);
    sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free);
    return ok;
}

/* RFC 2986, 4, with nothing for a signature. */
static bool put_request(CBB *out, const struct cs_make_request *r, const EVP_PKEY *key,
                        struct cs_cert_error *why)
{
    static const uint8_t sha256_with_rsa[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b};
    CBB request, info, attributes, algorithm, oid, signature;

    return CBB_add_asn1(out, &request, CBS_ASN1_SEQUENCE) &&
           CBB_add_asn1(&request, &info, CBS_ASN1_SEQUENCE) && CBB_add_asn1_uint64(&info, 0) &&
           put_subject(&info, &r->subject, why) && EVP_marshal_public_key(&info, key) &&
           CBB_add_asn1(&info, &attributes, CBS_ASN1_CONTEXT_SPECIFIC | CBS_ASN1_CONSTRUCTED | 0) &&
           put_extensions(&attributes, r, why) &&
           CBB_add_asn1(&request, &algorithm, CBS_ASN1_SEQUENCE) &&
           CBB_add_asn1(&algorithm, &oid, CBS_ASN1_OBJECT) &&
           CBB_add_bytes(&oid, sha256_with_rsa, sizeof(sha256_with_rsa)) &&
           CBB_add_asn1(&request, &signature, CBS_ASN1_BITSTRING) && CBB_add_u8(&signature, 0) &&
           CBB_flush(out);
}

/* Written by hand and read back: X509_REQ_add_extensions frees twice when memory runs out. */
static X509_REQ *unsigned_request(const struct cs_make_request *r, const EVP_PKEY *key,
                                  struct cs_cert_error *why)
{
    CBB der;
    X509_REQ *req = NULL;

    if (CBB_init(&der, 512) && put_request(&der, r, key, why)) {
        const uint8_t *p = CBB_data(&der);

        req = d2i_X509_REQ(NULL, &p, (long)CBB_len(&der));
    }
    CBB_cleanup(&der);
    return req;
}

/* Ed25519 has a digest of its own. */
static const EVP_MD *signing_digest(const EVP_PKEY *key, enum cs_make_hash hash)
{
    return EVP_PKEY_id(key) == EVP_PKEY_ED25519 ? NULL : digest_of(hash);
}

int cs_make_request(struct cs_pem_text *out, const struct cs_make_request *r,
                    struct cs_make_key key_text, struct cs_cert_error *why)
{
    EVP_PKEY *key;
    int err = cs_cert_read_key(&key, key_text.text, key_text.password, why);

    if (err < 0) {
        return err;
    }
    why->code = NULL;
    X509_REQ *req = unsigned_request(r, key, why);
    BIO *bio = BIO_new(BIO_s_mem());
    bool made = req && bio && X509_REQ_sign(req, key, signing_digest(key, r->hash)) &&
                PEM_write_bio_X509_REQ(bio, req);

    X509_REQ_free(req);
    EVP_PKEY_free(key);
    err = take_text(out, bio, made);
    return made ? err : failed(why);
}

/* ---- certificates ---- */

/* The request, if its signature is good. */
static X509_REQ *read_request(struct cs_cert_text text, struct cs_cert_error *why)
{
    BIO *bio = BIO_new_mem_buf(text.bytes, (int)text.len);
    X509_REQ *req = bio ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = req ? X509_REQ_get_pubkey(req) : NULL;

    BIO_free(bio);
    if (!key || X509_REQ_verify(req, key) != 1) {
        (void)cs_cert_wrong(why, "pem_cert_unrecognized_format",
                            "this is no certificate signing request, or a damaged one");
        X509_REQ_free(req);
        req = NULL;
    }
    EVP_PKEY_free(key);
    return req;
}

static X509 *read_issuer(struct cs_cert_text text, struct cs_cert_error *why)
{
    BIO *bio = BIO_new_mem_buf(text.bytes, (int)text.len);
    X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

    BIO_free(bio);
    if (!x) {
        (void)cs_cert_wrong(why, "pem_cert_unrecognized_format",
                            "there is no certificate of an issuer in it");
    }
    return x;
}

/* One more; X509_add_ext frees the list of a certificate that it cannot extend. */
static bool copy_extension(X509 *x, X509_EXTENSION *ext)
{
    extensions *all = (extensions *)(uintptr_t)X509_get0_extensions(x);

    if (!all) {
        return X509_add_ext(x, ext, -1);
    }
    X509_EXTENSION *copy = X509_EXTENSION_dup(ext);

    if (!copy || sk_X509_EXTENSION_push(all, copy) == 0) {
        X509_EXTENSION_free(copy);
        return false;
    }
    return true;
}

static bool copy_extensions(X509 *x, X509_REQ *req)
{
    extensions *all = X509_REQ_get_extensions(req);
    bool ok = all || X509_REQ_get_attr_by_NID(req, NID_ext_req, -1) < 0; /* else no memory */

    for (size_t i = 0; all && i < sk_X509_EXTENSION_num(all) && ok; i++) {
        ok = copy_extension(x, sk_X509_EXTENSION_value(all, i));
    }
    sk_X509_EXTENSION_pop_free(all, X509_EXTENSION_free);
    return ok;
}

static bool set_times(X509 *x, int64_t from, int64_t to, struct cs_cert_error *why)
{
    ASN1_TIME *a = ASN1_TIME_set(NULL, (time_t)from), *b = ASN1_TIME_set(NULL, (time_t)to);
    bool ok = from < to && a && b && X509_set1_notBefore(x, a) && X509_set1_notAfter(x, b);

    if (from >= to) {
        (void)cs_cert_wrong(why, "invalidparam", "the certificate would end before it begins");
    }
    ASN1_TIME_free(a);
    ASN1_TIME_free(b);
    return ok;
}

static bool set_serial(X509 *x, int64_t serial, struct cs_cert_error *why)
{
    if (serial <= 0) {
        (void)cs_cert_wrong(why, "invalidparam", "a serial number is above 0");
        return false;
    }
    return ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), (uint64_t)serial);
}

static bool keys_equal(EVP_PKEY *a, EVP_PKEY *key, struct cs_cert_error *why)
{
    bool equal = a && EVP_PKEY_cmp(a, key) == 1;

    EVP_PKEY_free(a);
    if (!equal) {
        (void)cs_cert_wrong(why, "pem_key_cert_mismatch",
                            "the key is not that of the issuer (self-signed: of the request)");
    }
    return equal;
}

static bool fill_cert(X509 *x, const struct cs_make_cert *c, X509_REQ *req, X509 *issuer,
                      EVP_PKEY *key, struct cs_cert_error *why)
{
    X509_NAME *subject = X509_REQ_get_subject_name(req);
    EVP_PKEY *public = X509_REQ_get_pubkey(req);
    bool ok = public && X509_set_version(x, 2) && set_serial(x, c->serial, why) &&
              set_times(x, c->from, c->to, why) && X509_set_subject_name(x, subject) &&
              X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : subject) &&
              X509_set_pubkey(x, public) && copy_extensions(x, req);

    EVP_PKEY_free(public);
    return ok && keys_equal(issuer ? X509_get_pubkey(issuer) : X509_REQ_get_pubkey(req), key, why);
}

static int sign_cert(struct cs_pem_text *out, const struct cs_make_cert *c, X509_REQ *req,
                     X509 *issuer, EVP_PKEY *key, struct cs_cert_error *why)
{
    X509 *x = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    bool made = x && bio && fill_cert(x, c, req, issuer, key, why) &&
                X509_sign(x, key, signing_digest(key, c->hash)) && PEM_write_bio_X509(bio, x);

    X509_free(x);
    int err = take_text(out, bio, made);

    return made ? err : failed(why);
}

int cs_make_cert(struct cs_pem_text *out, const struct cs_make_cert *c, struct cs_cert_error *why)
{
    EVP_PKEY *key;
    int err = cs_cert_read_key(&key, c->key.text, c->key.password, why);

    if (err < 0) {
        return err;
    }
    why->code = NULL;
    X509_REQ *req = read_request(c->request, why);
    X509 *issuer = req && c->issuer.len > 0 ? read_issuer(c->issuer, why) : NULL;

    if (why->code || !req || (c->issuer.len > 0 && !issuer)) {
        err = failed(why);
    } else {
        err = sign_cert(out, c, req, issuer, key, why);
    }
    X509_free(issuer);
    X509_REQ_free(req);
    EVP_PKEY_free(key);
    return err;
}

int cs_make_self_signed(struct cs_pem_text *cert, struct cs_pem_text *key, const char *commonname,
                        const char *names, unsigned days, struct cs_cert_error *why)
{
    struct cs_make_request r = {.subject.commonname = commonname,
                                .names = names,
                                .usage = CS_USAGE_DIGITAL_SIGNATURE,
                                .type = CS_TYPE_SSL_SERVER};
    struct cs_pem_text request = {0};
    int64_t now = time(NULL), serial = 0;
    int err = cs_make_key(key, CS_MAKE_EC_P256, 0);

    if (err < 0) {
        return err;
    }
    RAND_bytes((uint8_t *)&serial, sizeof(serial));
    struct cs_make_key k = {.text = {key->bytes, key->len}};

    err = cs_make_request(&request, &r, k, why);
    if (err == 0) {
        struct cs_make_cert c = {.request = {request.bytes, request.len},
                                 .key = k,
                                 .from = now - HOUR,
                                 .to = now + (int64_t)days * DAY,
                                 .serial = (serial & INT64_MAX) | 1};

        err = cs_make_cert(cert, &c, why);
    }
    cs_pem_text_free(&request);
    if (err < 0) {
        cs_pem_text_free(key);
    }
    return err;
}
