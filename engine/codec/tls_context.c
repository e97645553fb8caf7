/* tls_context - configures an SSL_CTX, and answers what BoringSSL asks while sessions begin. */
#include "codec/tls_context.h"

#include <errno.h>
#include <openssl/bytestring.h>
#include <openssl/digest.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"
#include "codec/cert_store.h"
#include "codec/tls_inside.h"
#include "codec/tls_ticket.h"

/* ---- BoringSSL's memory ----
 *
 * It calls these three wherever it allocates, when the program has them. What is freed is wiped, as
 * BoringSSL does itself; not so the buffers of records, which pass through the program in many more
 * places. A size stands before the bytes. */

#define EXPORTED __attribute__((visibility("default")))
#define PREFIX sizeof(size_t)

EXPORTED void *OPENSSL_memory_alloc(size_t size);
EXPORTED void OPENSSL_memory_free(void *ptr);
EXPORTED size_t OPENSSL_memory_get_size(void *ptr);

static bool fits_block(size_t size)
{
    return size + PREFIX >= CS_BLOCK_MIN && size + PREFIX <= CS_BLOCK_SIZE;
}

void *OPENSSL_memory_alloc(size_t size)
{
    size_t *p = NULL;
    if (size <= SIZE_MAX - PREFIX) {
        p = fits_block(size) ? cs_block_alloc() : cs_alloc(size + PREFIX);
    }
    if (!p) {
        return NULL;
    }
    *p = size;
    return p + 1;
}

size_t OPENSSL_memory_get_size(void *ptr)
{
    return ((size_t *)ptr)[-1];
}

void OPENSSL_memory_free(void *ptr)
{
    size_t size = OPENSSL_memory_get_size(ptr);
    void *p = (size_t *)ptr - 1;
    if (fits_block(size)) {
        cs_block_free(p);
    } else {
        OPENSSL_cleanse(ptr, size);
        cs_free(p);
    }
}

/* ---- */

#define CACHE_DEFAULT 8
/* Forward secrecy and authenticated encryption only (RFC 9325, 4.2). */
#define CIPHERS_DEFAULT "ECDHE+AESGCM:ECDHE+CHACHA20"

#define GROUPS_DEFAULT "X25519:P-256:P-384"
/* Against who records today and computes tomorrow; not every BoringSSL has it. */
#define GROUPS_BEST "X25519MLKEM768:" GROUPS_DEFAULT

/* ---- versions, protocols ---- */

static bool parse_version(const char *text, uint16_t otherwise, uint16_t *out)
{
    *out = otherwise;
    if (text && strcmp(text, "1.2") == 0) {
        *out = TLS1_2_VERSION;
    } else if (text && strcmp(text, "1.3") == 0) {
        *out = TLS1_3_VERSION;
    } else if (text) {
        return false;
    }
    return true;
}

static int set_versions(struct cs_tls_context *c, const struct cs_tls_config *config,
                        const char **field)
{
    uint16_t min, max;
    *field = "minversion";
    if (!parse_version(config->min_version, TLS1_2_VERSION, &min)) {
        return CS_EINVAL;
    }
    *field = "maxversion";
    if (!parse_version(config->max_version, TLS1_3_VERSION, &max) || max < min) {
        return CS_EINVAL;
    }
    return SSL_CTX_set_min_proto_version(c->ssl, min) && SSL_CTX_set_max_proto_version(c->ssl, max)
               ? 0
               : CS_EINVAL;
}

int cs_tls_alpn_parse(const char *list, uint8_t **wire, size_t *len)
{
    size_t size = strlen(list) + 1; /* a length byte takes each comma's place, and one the front */
    uint8_t *out = cs_alloc(size);
    size_t at = 0;
    if (!out) {
        return -ENOMEM;
    }
    for (const char *p = list;; p++) {
        size_t n = strcspn(p, ",");
        if (n == 0 || n > 255) {
            cs_free(out);
            return CS_EINVAL;
        }
        out[at] = (uint8_t)n;
        memcpy(out + at + 1, p, n);
        at += n + 1;
        p += n;
        if (*p == '\0') {
            break;
        }
    }
    *wire = out;
    *len = at;
    return 0;
}

/* Our first protocol that the client offers. */
static int choose_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in,
                       unsigned in_len, void *arg)
{
    const struct cs_tls_context *c = arg;
    const uint8_t *p = c->alpn, *end = c->alpn + c->alpn_len;
    (void)ssl;
    while (p < end) {
        for (const uint8_t *q = in; q < in + in_len; q += 1 + *q) {
            if (*q == *p && memcmp(q + 1, p + 1, *p) == 0) {
                *out = q + 1;
                *out_len = *q;
                return SSL_TLSEXT_ERR_OK;
            }
        }
        p += 1 + *p;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int set_alpn(struct cs_tls_context *c, const char *list)
{
    int err = cs_tls_alpn_parse(list, &c->alpn, &c->alpn_len);
    if (err < 0) {
        return err;
    }
    if (c->server) {
        SSL_CTX_set_alpn_select_cb(c->ssl, choose_alpn, c);
        return 0;
    }
    return SSL_CTX_set_alpn_protos(c->ssl, c->alpn, (unsigned)c->alpn_len) == 0 ? 0 : -ENOMEM;
}

/* ---- which certificate ---- */

/* What a client's hello says about the signatures that it can check. */
struct ability {
    CBS algorithms;    /* the signature_algorithms extension: 16-bit codes */
    CBS groups;        /* supported_groups likewise: in TLS 1.2 also the curves of certificates */
    bool tls13;        /* TLS 1.3 will be spoken: suites do not matter */
    bool ecdsa_suites; /* of TLS 1.2 */
};

static bool extension(const SSL_CLIENT_HELLO *hello, uint16_t type, CBS *out)
{
    const uint8_t *data;
    size_t len;
    if (!SSL_early_callback_ctx_extension_get(hello, type, &data, &len)) {
        return false;
    }
    CBS_init(out, data, len);
    return true;
}

static bool list_has(CBS list, uint16_t wanted)
{
    uint16_t code;
    while (CBS_get_u16(&list, &code)) {
        if (code == wanted) {
            return true;
        }
    }
    return false;
}

static struct ability ability_of(const SSL_CLIENT_HELLO *hello)
{
    static const uint16_t ecdsa_suites[] = {0xc02b, 0xc02c, 0xcca9, 0xc009, 0xc00a, 0xc023};
    struct ability a = {0};
    CBS ext, versions, suites;
    if (!extension(hello, TLSEXT_TYPE_signature_algorithms, &ext) ||
        !CBS_get_u16_length_prefixed(&ext, &a.algorithms)) {
        CBS_init(&a.algorithms, NULL, 0);
    }
    if (!extension(hello, TLSEXT_TYPE_supported_groups, &ext) ||
        !CBS_get_u16_length_prefixed(&ext, &a.groups)) {
        CBS_init(&a.groups, NULL, 0);
    }
    if (extension(hello, TLSEXT_TYPE_supported_versions, &ext) &&
        CBS_get_u8_length_prefixed(&ext, &versions)) {
        a.tls13 = list_has(versions, TLS1_3_VERSION) &&
                  SSL_get_max_proto_version(hello->ssl) >= TLS1_3_VERSION;
    }
    CBS_init(&suites, hello->cipher_suites, hello->cipher_suites_len);
    for (unsigned i = 0; i < CS_ARRAY_LEN(ecdsa_suites); i++) {
        a.ecdsa_suites = a.ecdsa_suites || list_has(suites, ecdsa_suites[i]);
    }
    return a;
}

/* Signature algorithms that a key can make, by preference; a 0 ends the list. */
static const uint16_t *algorithms_of(const EVP_PKEY *key)
{
    static const uint16_t rsa[] = {SSL_SIGN_RSA_PSS_RSAE_SHA256, SSL_SIGN_RSA_PSS_RSAE_SHA384,
                                   SSL_SIGN_RSA_PSS_RSAE_SHA512, SSL_SIGN_RSA_PKCS1_SHA256,
                                   SSL_SIGN_RSA_PKCS1_SHA384,    SSL_SIGN_RSA_PKCS1_SHA512,
                                   SSL_SIGN_RSA_PKCS1_SHA1,      0};
    static const uint16_t p256[] = {SSL_SIGN_ECDSA_SECP256R1_SHA256, 0};
    static const uint16_t p384[] = {SSL_SIGN_ECDSA_SECP384R1_SHA384, 0};
    static const uint16_t p521[] = {SSL_SIGN_ECDSA_SECP521R1_SHA512, 0};
    static const uint16_t ed25519[] = {SSL_SIGN_ED25519, 0};
    if (EVP_PKEY_id(key) == EVP_PKEY_ED25519) {
        return ed25519;
    }
    if (EVP_PKEY_id(key) != EVP_PKEY_EC) {
        return rsa;
    }
    switch (EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key)))) {
    case NID_secp384r1:
        return p384;
    case NID_secp521r1:
        return p521;
    default:
        return p256;
    }
}

/* RFC 8422, 5.1.1: without the extension any curve will do. */
static bool knows_curve(const struct ability *a, const EVP_PKEY *key)
{
    if (CBS_len(&a->groups) == 0 || EVP_PKEY_id(key) != EVP_PKEY_EC) {
        return true;
    }
    switch (EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key)))) {
    case NID_secp384r1:
        return list_has(a->groups, SSL_CURVE_SECP384R1);
    case NID_secp521r1:
        return list_has(a->groups, SSL_CURVE_SECP521R1);
    default:
        return list_has(a->groups, SSL_CURVE_SECP256R1);
    }
}

static bool can_check(const struct ability *a, const struct cs_cert *cert)
{
    const EVP_PKEY *key = cs_cert_key(cert);
    bool rsa = EVP_PKEY_id(key) == EVP_PKEY_RSA;
    if (!rsa && !a->tls13 && (!a->ecdsa_suites || !knows_curve(a, key))) {
        return false;
    }
    if (CBS_len(&a->algorithms) == 0) {
        return rsa; /* a client of TLS 1.2 that does not say: RFC 5246, 7.4.1.4.1 */
    }
    for (const uint16_t *code = algorithms_of(key); *code; code++) {
        if (list_has(a->algorithms, *code)) {
            return true;
        }
    }
    return false;
}

/* Higher is better: the name first, then that the client can check it, then the cheaper kind. */
static int score(const struct cs_cert *cert, const char *name, const struct ability *a)
{
    int match = name ? cs_cert_serves(cert, name) : 0;
    bool rsa = EVP_PKEY_id(cs_cert_key(cert)) == EVP_PKEY_RSA;
    return match * 4 + (can_check(a, cert) ? 2 : 0) + (rsa ? 0 : 1);
}

/* For names that none serves the first one added is the default, beside those that serve the same
 * names with another kind of key: all certificates without a match are compared, and the first
 * added wins unless the client cannot check it. */
struct cs_cert *cs_tls_context_best(const struct cs_tls_context *c, const SSL_CLIENT_HELLO *hello)
{
    const char *name = SSL_get_servername(hello->ssl, TLSEXT_NAMETYPE_host_name);
    struct ability a = ability_of(hello);
    struct cs_cert *best = NULL;
    int best_score = -1;
    for (unsigned i = 0; i < c->cert_count; i++) {
        int s = score(c->certs[i], name, &a);
        if (s < 4) { /* no name matches: order decides, not the kind of key */
            s &= ~1;
        }
        if (s > best_score) {
            best = c->certs[i];
            best_score = s;
        }
    }
    return best;
}

int cs_tls_use_cert(SSL *ssl, const struct cs_cert *cert)
{
    CRYPTO_BUFFER *chain[CS_TLS_CHAIN_MAX];
    unsigned n = CS_MIN(cs_cert_count(cert), (unsigned)CS_TLS_CHAIN_MAX);
    size_t len;
    const uint8_t *ocsp = cs_cert_ocsp(cert, &len);
    for (unsigned i = 0; i < n; i++) {
        chain[i] = cs_cert_at(cert, i);
    }
    return SSL_set_chain_and_key(ssl, chain, n, cs_cert_key(cert), NULL) &&
                   (!ocsp || SSL_set_ocsp_response(ssl, ocsp, len))
               ? 0
               : -ENOMEM;
}

/* A client is asked for its certificate: the last added that the server can check. */
static int client_cert(SSL *ssl, void *arg)
{
    const struct cs_tls_context *c = arg;
    const uint16_t *codes;
    size_t n = SSL_get0_peer_verify_algorithms(ssl, &codes);
    for (unsigned i = c->cert_count; i > 0; i--) {
        bool good = n == 0;
        for (const uint16_t *code = algorithms_of(cs_cert_key(c->certs[i - 1])); *code; code++) {
            for (size_t k = 0; k < n; k++) {
                good = good || codes[k] == *code;
            }
        }
        if (good) {
            return cs_tls_use_cert(ssl, c->certs[i - 1]) == 0;
        }
    }
    return 1; /* none: the server decides whether that will do */
}

/* ---- whom sessions may be resumed with ---- */

/* A ticket is good only where the same certificates are shown and the same peers are trusted: the
 * ticket keys are shared by all contexts of the process. */
static int set_session_context(struct cs_tls_context *c)
{
    SHA256_CTX sha;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256_Init(&sha);
    SHA256_Update(&sha, &c->ask, sizeof(c->ask));
    if (c->store) {
        cs_store_digest(c->store, digest);
        SHA256_Update(&sha, digest, sizeof(digest));
    }
    SHA256_Update(&sha, c->pins, c->pin_count * CS_TLS_PIN_SIZE);
    for (unsigned i = 0; i < c->cert_count; i++) {
        const CRYPTO_BUFFER *leaf = cs_cert_at(c->certs[i], 0);
        SHA256(CRYPTO_BUFFER_data(leaf), CRYPTO_BUFFER_len(leaf), digest);
        SHA256_Update(&sha, digest, sizeof(digest));
    }
    SHA256_Final(digest, &sha);
    return SSL_CTX_set_session_id_context(c->ssl, digest, sizeof(digest)) ? 0 : -ENOMEM;
}

/* ---- a client's sessions ---- */

static void uncache(struct cs_tls_cached *e)
{
    SSL_SESSION_free(e->session);
    cs_free(e->host);
    *e = (struct cs_tls_cached){0};
}

/* The newest is in front; the oldest goes. */
void cs_tls_context_remember(struct cs_tls_context *c, const char *host, SSL_SESSION *session)
{
    char *copy = cs_strdup(host);
    if (!copy) {
        SSL_SESSION_free(session);
        return;
    }
    uncache(&c->cache[c->cache_size - 1]);
    memmove(c->cache + 1, c->cache, (c->cache_size - 1) * sizeof(*c->cache));
    c->cache[0] = (struct cs_tls_cached){session, copy};
}

SSL_SESSION *cs_tls_context_recall(struct cs_tls_context *c, const char *host)
{
    for (unsigned i = 0; i < c->cache_size; i++) {
        struct cs_tls_cached *e = &c->cache[i];
        if (!e->session || strcmp(e->host, host) != 0) {
            continue;
        }
        SSL_SESSION *session = e->session;
        if (SSL_SESSION_should_be_single_use(session)) { /* RFC 8446, C.4 */
            e->session = NULL;
            uncache(e);
        } else {
            SSL_SESSION_up_ref(session);
        }
        return session;
    }
    return NULL;
}

/* ---- the key log ---- */

void cs_tls_context_log_key(const struct cs_tls_context *c, const char *line)
{
    struct iovec iov[] = {{(void *)line, strlen(line)}, {(void *)"\n", 1}};
    ssize_t n = writev(c->keylog_fd, iov, 2);
    (void)n; /* a debugging aid: a full disk must not end the session */
}

/* ---- making one ---- */

void cs_tls_config_default(struct cs_tls_config *config)
{
    *config = (struct cs_tls_config){.keylog_fd = -1};
}

/* Why BoringSSL has not taken a list. silent: what it means where it gives no reason. */
static int list_error(int silent)
{
    uint32_t why = ERR_peek_last_error();
    ERR_clear_error();
    if (why == 0) {
        return silent;
    }
    return ERR_GET_REASON(why) == ERR_R_MALLOC_FAILURE ? -ENOMEM : CS_EINVAL;
}

static int set_ciphers(SSL_CTX *ssl, const char *ciphers)
{
    ERR_clear_error();
    return SSL_CTX_set_strict_cipher_list(ssl, ciphers) ? 0 : list_error(-ENOMEM);
}

/* An unknown group is no reason to it. */
static int set_groups(SSL_CTX *ssl, const char *groups)
{
    ERR_clear_error();
    return SSL_CTX_set1_curves_list(ssl, groups) ? 0 : list_error(CS_EINVAL);
}

/* Only a library that does not know the best groups gets the others. */
static int set_usual_groups(SSL_CTX *ssl)
{
    int err = set_groups(ssl, GROUPS_BEST);
    return err == CS_EINVAL ? set_groups(ssl, GROUPS_DEFAULT) : err;
}

static int set_lists(struct cs_tls_context *c, const struct cs_tls_config *config,
                     const char **field)
{
    *field = "ciphers";
    int err = set_ciphers(c->ssl, config->ciphers ? config->ciphers : CIPHERS_DEFAULT);
    if (err < 0) {
        return err;
    }
    *field = "groups";
    err = config->groups ? set_groups(c->ssl, config->groups) : set_usual_groups(c->ssl);
    if (err < 0) {
        return err;
    }
    *field = "alpn";
    return config->alpn ? set_alpn(c, config->alpn) : 0;
}

static int set_trust(struct cs_tls_context *c, const struct cs_tls_config *config,
                     const char **field)
{
    *field = "clientcert";
    if (c->ask != CS_TLS_ASK_NOT && !config->store && config->pin_count == 0) {
        return CS_EINVAL;
    }
    if (config->pin_count > 0) {
        c->pins = cs_alloc(config->pin_count * CS_TLS_PIN_SIZE);
        if (!c->pins) {
            return -ENOMEM;
        }
        memcpy(c->pins, config->pins, config->pin_count * CS_TLS_PIN_SIZE);
        c->pin_count = config->pin_count;
    }
    if (config->store) {
        cs_store_ref(config->store);
        c->store = config->store;
    }
    if (c->ask != CS_TLS_ASK_NOT && c->store) {
        STACK_OF(CRYPTO_BUFFER) *names = cs_store_names(c->store);
        if (!names) {
            return -ENOMEM;
        }
        SSL_CTX_set0_client_CAs(c->ssl, names);
    }
    int mode = c->ask == CS_TLS_ASK_REQUIRED ? SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                                             : SSL_VERIFY_PEER;
    c->verify_mode = c->server && c->ask == CS_TLS_ASK_NOT ? SSL_VERIFY_NONE : mode;
    SSL_CTX_set_custom_verify(c->ssl, c->verify_mode, cs_tls_on_verify);
    return 0;
}

static int set_resumption(struct cs_tls_context *c, const struct cs_tls_config *config)
{
    SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_OFF);
    if (config->no_tickets) {
        SSL_CTX_set_options(c->ssl, SSL_OP_NO_TICKET);
        return 0;
    }
    if (c->server) {
        cs_tls_tickets_use(c->ssl);
        return set_session_context(c);
    }
    unsigned size = config->cache ? config->cache : CACHE_DEFAULT;
    c->cache = cs_zalloc(size * sizeof(*c->cache));
    if (!c->cache) {
        return -ENOMEM;
    }
    c->cache_size = size;
    SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(c->ssl, cs_tls_on_session);
    return 0;
}

static int configure(struct cs_tls_context *c, const struct cs_tls_config *config,
                     const char **field)
{
    /* Everything but SHA-1 (RFC 9155), strongest use first; Ed25519 is not among BoringSSL's
     * defaults. */
    static const uint16_t signatures[] = {
        SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_ED25519,
        SSL_SIGN_RSA_PSS_RSAE_SHA256,    SSL_SIGN_RSA_PKCS1_SHA256,
        SSL_SIGN_ECDSA_SECP384R1_SHA384, SSL_SIGN_RSA_PSS_RSAE_SHA384,
        SSL_SIGN_RSA_PKCS1_SHA384,       SSL_SIGN_ECDSA_SECP521R1_SHA512,
        SSL_SIGN_RSA_PSS_RSAE_SHA512,    SSL_SIGN_RSA_PKCS1_SHA512};
    int err = set_versions(c, config, field);
    err = err ? err : set_lists(c, config, field);
    err = err ? err : set_trust(c, config, field);
    err = err ? err : set_resumption(c, config);
    if (err < 0) {
        return err;
    }
    SSL_CTX_set0_buffer_pool(c->ssl, cs_cert_pool());
    SSL_CTX_set_grease_enabled(c->ssl, 0);
    if (c->server) {
        SSL_CTX_set_select_certificate_cb(c->ssl, cs_tls_on_hello);
    } else {
        SSL_CTX_set_cert_cb(c->ssl, client_cert, c);
    }
    if (c->keylog_fd >= 0) {
        SSL_CTX_set_keylog_callback(c->ssl, cs_tls_on_key);
    }
    return SSL_CTX_set_verify_algorithm_prefs(c->ssl, signatures, CS_ARRAY_LEN(signatures)) &&
                   SSL_CTX_set_signing_algorithm_prefs(c->ssl, signatures, CS_ARRAY_LEN(signatures))
               ? 0
               : -ENOMEM;
}

int cs_tls_context_create(struct cs_tls_context **out, const struct cs_tls_config *config,
                          const char **field)
{
    struct cs_tls_context *c = cs_zalloc(sizeof(*c));
    int err = -ENOMEM;
    if (!c) {
        return -ENOMEM;
    }
    c->refs = 1;
    c->server = config->server;
    c->ask = config->ask;
    c->choose = config->choose;
    c->keylog_fd = config->keylog_fd;
    c->ssl = SSL_CTX_new(TLS_with_buffers_method());
    c->bio = cs_tls_make_bio();
    if (c->ssl && c->bio) {
        err = configure(c, config, field);
    }
    if (err < 0) {
        c->keylog_fd = -1; /* still the caller's */
        cs_tls_context_unref(c);
        return err;
    }
    *out = c;
    return 0;
}

int cs_tls_context_add_cert(struct cs_tls_context *c, struct cs_cert *cert)
{
    struct cs_cert **certs = cs_realloc(c->certs, (c->cert_count + 1) * sizeof(struct cs_cert *));
    if (!certs) {
        return -ENOMEM;
    }
    c->certs = certs;
    c->certs[c->cert_count++] = cert;
    cs_cert_ref(cert);
    return c->server ? set_session_context(c) : 0;
}

void cs_tls_context_ref(struct cs_tls_context *c)
{
    c->refs++;
}

void cs_tls_context_unref(struct cs_tls_context *c)
{
    if (!c || --c->refs > 0) {
        return;
    }
    SSL_CTX_free(c->ssl);
    BIO_free(c->bio);
    for (unsigned i = 0; i < c->cert_count; i++) {
        cs_cert_unref(c->certs[i]);
    }
    cs_free(c->certs);
    for (unsigned i = 0; i < c->cache_size; i++) {
        uncache(&c->cache[i]);
    }
    cs_free(c->cache);
    cs_store_unref(c->store);
    cs_free(c->pins);
    cs_free(c->alpn);
    if (c->keylog_fd >= 0) {
        close(c->keylog_fd);
    }
    cs_free(c);
}

bool cs_tls_context_is_server(const struct cs_tls_context *c)
{
    return c->server;
}

unsigned cs_tls_context_cert_count(const struct cs_tls_context *c)
{
    return c->cert_count;
}

void cs_tls_context_set_user(struct cs_tls_context *c, void *user)
{
    c->user = user;
}

void *cs_tls_context_user(const struct cs_tls_context *c)
{
    return c->user;
}

struct cs_store *cs_tls_context_store(const struct cs_tls_context *c)
{
    return c->store;
}
