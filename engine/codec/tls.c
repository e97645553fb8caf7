/*
 * tls - drives BoringSSL with chains in place of a socket.
 *
 * All sessions of a context share one BIO. BoringSSL calls it only from inside the functions below,
 * and each of those says first, in a variable of the thread, whose bytes are meant. The same
 * variable tells the callbacks which session asks.
 *
 * A record is decrypted into the slice that it came in: BoringSSL takes the whole record out before
 * it hands out the plain bytes, and those are fewer. Only a record that began in an earlier slice
 * is copied.
 */
#include "codec/tls.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <pthread.h>
#include <string.h>

#include "base/addr.h"
#include "base/assert.h"
#include "base/mem.h"
#include "codec/cert_store.h"
#include "codec/hello.h"
#include "codec/tls_inside.h"

#define HEADER 5 /* of a record */
/* Slices from this size on become records as they are; smaller ones are gathered. */
#define ALONE 4096

/* A hello that waits for its answer. */
struct cs_tls_waiting {
    struct cs_cert *cert; /* the answer; NULL: the context's own choice */
    size_t alpn_len, versions_len;
    uint8_t bytes[]; /* what the client offers: protocols, versions */
};

/* ---- whose bytes ---- */

static _Thread_local struct {
    struct cs_tls *session;
    const uint8_t *next, *end; /* the peer's bytes that may be read now */
    struct cs_chain *out;
    int err; /* of the output */
} io;

static void enter(struct cs_tls *t, struct cs_chain *out)
{
    io.session = t;
    io.next = io.end = NULL;
    io.out = out;
    io.err = 0;
    t->why = NULL;
}

static int bio_read(BIO *bio, char *to, int len)
{
    int n = (int)CS_MIN((size_t)(io.end - io.next), (size_t)len);
    BIO_clear_retry_flags(bio);
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(to, io.next, (size_t)n);
    io.next += n;
    return n;
}

static int bio_write(BIO *bio, const char *from, int len)
{
    BIO_clear_retry_flags(bio);
    io.err = cs_chain_append(io.out, from, (size_t)len);
    return io.err < 0 ? -1 : len;
}

static long bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio, (void)num, (void)ptr;
    return cmd == BIO_CTRL_FLUSH;
}

static BIO_METHOD *method;

static void make_method(void)
{
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "chains");
    if (method && !(BIO_meth_set_read(method, bio_read) && BIO_meth_set_write(method, bio_write) &&
                    BIO_meth_set_ctrl(method, bio_ctrl))) {
        BIO_meth_free(method);
        method = NULL;
    }
}

BIO *cs_tls_make_bio(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_method);
    BIO *bio = method ? BIO_new(method) : NULL;
    if (bio) {
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* ---- errors ---- */

/* What BoringSSL's last failure means; `otherwise` when it is nothing special. */
static int failure(struct cs_tls *t, int otherwise)
{
    uint32_t code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);
    t->why = t->why ? t->why : ERR_reason_error_string(code);
    ERR_clear_error();
    if (io.err < 0) {
        return io.err;
    }
    if (reason == ERR_R_MALLOC_FAILURE) {
        return -ENOMEM;
    }
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET) {
        return CS_ETLSALERT;
    }
    if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        return CS_ETLSTRUST;
    }
    return otherwise;
}

/* ---- whom to trust ---- */

static const STACK_OF(CRYPTO_BUFFER) * peer_chain(const struct cs_tls *t)
{
    const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(t->ssl);
    return chain && sk_CRYPTO_BUFFER_num(chain) > 0 ? chain : NULL;
}

int cs_tls_trust(const struct cs_tls *t, const char *host, struct cs_verdict *verdict, bool *named)
{
    const STACK_OF(CRYPTO_BUFFER) *chain = peer_chain(t);
    struct crypto_buffer_st *certs[CS_TLS_CHAIN_MAX];
    unsigned n = 0;
    *verdict = (struct cs_verdict){.why = "nobody is trusted"};
    *named = false;
    if (!chain) {
        return -ENOENT;
    }
    for (; n < CS_TLS_CHAIN_MAX && n < sk_CRYPTO_BUFFER_num(chain); n++) {
        certs[n] = sk_CRYPTO_BUFFER_value(chain, n);
    }
    *named = host && cs_cert_matches(certs[0], host);
    if (!t->context->store) {
        return 0;
    }
    return cs_store_verify(t->context->store, certs, n,
                           t->context->server ? CS_USE_CLIENT : CS_USE_SERVER, verdict);
}

static bool pinned(const struct cs_tls *t, const struct crypto_buffer_st *leaf)
{
    for (unsigned i = 0; i < t->context->pin_count; i++) {
        if (cs_cert_pin_matches(leaf, t->context->pins[i])) {
            return true;
        }
    }
    return false;
}

/* The alert that says what is wrong with the peer's certificate, or 0. */
static uint8_t judge(const struct cs_tls *t)
{
    const struct cs_tls_context *c = t->context;
    const STACK_OF(CRYPTO_BUFFER) *chain = peer_chain(t);
    struct cs_verdict v;
    bool named;
    if (!chain) {
        return c->server && c->ask == CS_TLS_ASK_OPTIONAL ? 0 : SSL_AD_CERTIFICATE_REQUIRED;
    }
    if (c->pin_count > 0 && !pinned(t, sk_CRYPTO_BUFFER_value(chain, 0))) {
        return SSL_AD_CERTIFICATE_UNKNOWN;
    }
    if (c->pin_count > 0 && !c->store) {
        return 0;
    }
    if (cs_tls_trust(t, t->host, &v, &named) < 0) {
        return SSL_AD_INTERNAL_ERROR;
    }
    if (!v.chain) {
        return SSL_AD_UNKNOWN_CA;
    }
    if (!v.in_time) {
        return SSL_AD_CERTIFICATE_EXPIRED;
    }
    return t->host && !named ? SSL_AD_BAD_CERTIFICATE : 0;
}

/* A client that is not strict takes any certificate: its user asks cs_tls_trust. Pins are always
 * meant. */
static bool must_judge(const struct cs_tls *t)
{
    return t->context->server ? t->context->ask != CS_TLS_ASK_NOT
                              : t->strict || t->context->pin_count > 0;
}

enum ssl_verify_result_t cs_tls_on_verify(SSL *ssl, uint8_t *alert)
{
    (void)ssl;
    if (!must_judge(io.session)) {
        return ssl_verify_ok;
    }
    *alert = judge(io.session);
    return *alert ? ssl_verify_invalid : ssl_verify_ok;
}

/* ---- a server's choice of certificate ---- */

/* The list in an extension, which has a length of so many bytes in front (BoringSSL checks it
 * later); empty when the extension is not there. */
static size_t list_in(const SSL_CLIENT_HELLO *hello, uint16_t type, size_t prefix,
                      const uint8_t **list)
{
    const uint8_t *data;
    size_t len;
    if (!SSL_early_callback_ctx_extension_get(hello, type, &data, &len) || len < prefix) {
        return 0;
    }
    *list = data + prefix;
    return len - prefix;
}

static bool keep_offer(struct cs_tls *t, const SSL_CLIENT_HELLO *hello)
{
    /* Clients before TLS 1.3 have no list of versions: theirs is the best one. */
    const uint8_t legacy[] = {(uint8_t)(hello->version >> 8), (uint8_t)hello->version};
    const uint8_t *alpn = NULL, *versions = legacy;
    size_t alpn_len = list_in(hello, TLSEXT_TYPE_application_layer_protocol_negotiation, 2, &alpn);
    size_t versions_len = list_in(hello, TLSEXT_TYPE_supported_versions, 1, &versions);
    versions_len = versions == legacy ? sizeof(legacy) : versions_len;
    t->waiting = cs_alloc(sizeof(*t->waiting) + alpn_len + versions_len);
    if (!t->waiting) {
        return false;
    }
    *t->waiting = (struct cs_tls_waiting){.alpn_len = alpn_len, .versions_len = versions_len};
    if (alpn_len > 0) {
        memcpy(t->waiting->bytes, alpn, alpn_len);
    }
    memcpy(t->waiting->bytes + alpn_len, versions, versions_len);
    return true;
}

/* BoringSSL sends no alert of its own behind ours. */
static bool is_lawful(struct cs_tls *t, const SSL_CLIENT_HELLO *hello)
{
    uint8_t alert;
    t->why = cs_hello_fault(hello->version, hello->extensions, hello->extensions_len, &alert);
    if (t->why) {
        SSL_send_fatal_alert(t->ssl, alert);
    }
    return !t->why;
}

enum ssl_select_cert_result_t cs_tls_on_hello(const SSL_CLIENT_HELLO *hello)
{
    struct cs_tls *t = io.session;
    if (!t->waiting && !is_lawful(t, hello)) {
        return ssl_select_cert_error;
    }
    if (t->context->choose && !t->chosen) {
        return t->waiting || keep_offer(t, hello) ? ssl_select_cert_retry : ssl_select_cert_error;
    }
    const struct cs_cert *cert =
        t->waiting && t->waiting->cert ? t->waiting->cert : cs_tls_context_best(t->context, hello);
    return cert && cs_tls_use_cert(t->ssl, cert) == 0 ? ssl_select_cert_success
                                                      : ssl_select_cert_error;
}

void cs_tls_offer(const struct cs_tls *t, struct cs_tls_offer *offer)
{
    *offer = (struct cs_tls_offer){.name = cs_tls_sni(t),
                                   .alpn = t->waiting->bytes,
                                   .alpn_len = t->waiting->alpn_len,
                                   .versions = t->waiting->bytes + t->waiting->alpn_len,
                                   .version_count = t->waiting->versions_len / 2};
}

/* The rest of the handshake runs as if it had begun with that context. */
static void adopt(struct cs_tls *t, struct cs_tls_context *c)
{
    SSL_set_SSL_CTX(t->ssl, c->ssl);
    SSL_set_custom_verify(t->ssl, c->verify_mode, cs_tls_on_verify);
    SSL_set_min_proto_version(t->ssl, SSL_CTX_get_min_proto_version(c->ssl));
    SSL_set_max_proto_version(t->ssl, SSL_CTX_get_max_proto_version(c->ssl));
    cs_tls_context_ref(c);
    cs_tls_context_unref(t->context);
    t->context = c;
}

void cs_tls_choose(struct cs_tls *t, struct cs_tls_context *context, struct cs_cert *cert)
{
    t->chosen = true;
    if (cert) {
        cs_cert_ref(cert);
        t->waiting->cert = cert;
    }
    if (context && context != t->context) {
        adopt(t, context);
    }
}

void cs_tls_refuse(struct cs_tls *t, struct cs_chain *out)
{
    enter(t, out);
    SSL_send_fatal_alert(t->ssl, SSL_AD_UNRECOGNIZED_NAME);
    ERR_clear_error();
}

static void drop_waiting(struct cs_tls *t)
{
    if (t->waiting) {
        cs_cert_unref(t->waiting->cert);
        cs_free(t->waiting);
        t->waiting = NULL;
    }
}

/* ---- sessions to resume, the key log ---- */

int cs_tls_on_session(SSL *ssl, SSL_SESSION *session)
{
    const struct cs_tls *t = io.session;
    (void)ssl;
    if (!t->host) {
        return 0;
    }
    cs_tls_context_remember(t->context, t->host, session);
    return 1;
}

void cs_tls_on_key(const SSL *ssl, const char *line)
{
    (void)ssl;
    cs_tls_context_log_key(io.session->context, line);
}

/* ---- beginning and end ---- */

static int set_host(struct cs_tls *t, const char *host)
{
    struct cs_addr addr;
    size_t len = strlen(host);
    if (len > 0 && host[len - 1] == '.') {
        len--; /* RFC 6066, 3: without the trailing dot */
    }
    if (len == 0 || len > 255) {
        return CS_EINVAL;
    }
    t->host = cs_strndup(host, len);
    if (!t->host) {
        return -ENOMEM;
    }
    if (cs_addr_parse(&addr, t->host, 0) == 0) {
        return 0; /* an address or a path is no name to send */
    }
    return SSL_set_tlsext_host_name(t->ssl, t->host) ? 0 : CS_EINVAL;
}

static int set_peer(struct cs_tls *t, const struct cs_tls_peer *peer)
{
    int err = peer->host ? set_host(t, peer->host) : 0;
    t->strict = peer->strict;
    if (err == 0 && peer->alpn) {
        uint8_t *wire;
        size_t len;
        err = cs_tls_alpn_parse(peer->alpn, &wire, &len);
        if (err == 0) {
            err = SSL_set_alpn_protos(t->ssl, wire, (unsigned)len) == 0 ? 0 : -ENOMEM;
            cs_free(wire);
        }
    }
    if (err == 0 && t->host && t->context->cache_size > 0) {
        SSL_SESSION *session = cs_tls_context_recall(t->context, t->host);
        if (session) {
            SSL_set_session(t->ssl, session);
            SSL_SESSION_free(session);
        }
    }
    return err;
}

int cs_tls_start(struct cs_tls *t, struct cs_tls_context *context, const struct cs_tls_peer *peer)
{
    *t = (struct cs_tls){.context = context};
    cs_tls_context_ref(context);
    t->ssl = SSL_new(context->ssl);
    if (!t->ssl) {
        cs_tls_finish(t);
        return -ENOMEM;
    }
    BIO_up_ref(context->bio);
    SSL_set_bio(t->ssl, context->bio, context->bio); /* both: one reference */
    SSL_set_shed_handshake_config(t->ssl, 1);
    if (context->server) {
        SSL_set_accept_state(t->ssl);
        return 0;
    }
    SSL_set_connect_state(t->ssl);
    int err = peer ? set_peer(t, peer) : 0;
    if (err < 0) {
        cs_tls_finish(t);
    }
    return err;
}

void cs_tls_finish(struct cs_tls *t)
{
    SSL_free(t->ssl);
    drop_waiting(t);
    cs_free(t->host);
    cs_tls_context_unref(t->context);
    *t = (struct cs_tls){0};
}

/* ---- the handshake ---- */

/* A resumed session was judged when it began: that may be over, or the trust of today another. */
static bool still_trusted(struct cs_tls *t)
{
    uint8_t alert = SSL_session_reused(t->ssl) && must_judge(t) ? judge(t) : 0;
    if (alert) {
        SSL_send_fatal_alert(t->ssl, alert);
        ERR_clear_error();
    }
    return !alert;
}

static int handshake_step(struct cs_tls *t)
{
    int n = SSL_do_handshake(t->ssl);
    switch (SSL_get_error(t->ssl, n)) {
    case SSL_ERROR_NONE:
        drop_waiting(t);
        return still_trusted(t) ? CS_TLS_DONE : CS_ETLSTRUST;
    case SSL_ERROR_WANT_READ:
        return CS_TLS_MORE;
    case SSL_ERROR_PENDING_CERTIFICATE:
        return CS_TLS_CHOOSE;
    default:
        return failure(t, CS_ETLSHANDSHAKE);
    }
}

int cs_tls_handshake(struct cs_tls *t, struct cs_chain *in, struct cs_chain *out)
{
    int step;
    enter(t, out);
    do {
        const struct cs_slice *first = cs_chain_first(in);
        const uint8_t *from = first ? first->data : NULL;
        io.next = from;
        io.end = from ? from + first->len : NULL;
        step = handshake_step(t);
        if (from) {
            cs_chain_drop(in, (size_t)(io.next - from));
        }
    } while (step == CS_TLS_MORE && cs_chain_len(in) > 0);
    return step;
}

/* ---- reading ---- */

/* Bytes of the record that begins at p; 0 when it does not end before `end`. */
static size_t whole_record(const uint8_t *p, const uint8_t *end)
{
    size_t n = (size_t)(end - p);
    if (n < HEADER || n < HEADER + ((size_t)p[3] << 8 | p[4])) {
        return 0;
    }
    return HEADER + ((size_t)p[3] << 8 | p[4]);
}

static int read_error(struct cs_tls *t, int n)
{
    switch (SSL_get_error(t->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return CS_EOF;
    default:
        return failure(t, CS_ETLSRECORD);
    }
}

/* The rest of a record that began in an earlier slice, or the beginning of one that ends in a later
 * one. */
static int read_apart(struct cs_tls *t, struct cs_chain *plain)
{
    struct cs_slice *s = cs_slice_create(CS_TLS_RECORD_MAX);
    if (!s) {
        return -ENOMEM;
    }
    int n = SSL_read(t->ssl, s->data, CS_TLS_RECORD_MAX);
    if (n >= ALONE) {
        s->len = (uint32_t)n;
        s->room -= (uint32_t)n;
        cs_chain_push(plain, s);
    } else {
        int err = n > 0 ? cs_chain_append(plain, s->data, (size_t)n) : read_error(t, n);
        cs_slice_release(s);
        if (n <= 0 || err < 0) {
            return err;
        }
    }
    t->partial = false;
    return 0;
}

/* Decrypts the whole records at io.next to `to`. Returns where the plain bytes end. */
static uint8_t *read_whole(struct cs_tls *t, uint8_t *to, const uint8_t *end, int *err)
{
    size_t size;
    while (*err == 0 && (size = whole_record(io.next, end)) > 0) {
        io.end = io.next + size;
        int n = SSL_read(t->ssl, to, (int)CS_MIN((size_t)(io.end - to), (size_t)INT32_MAX));
        if (n > 0) {
            to += n;
        } else {
            *err = read_error(t, n);
        }
    }
    return to;
}

/* Turns a slice into plain bytes; takes it over. */
static int read_slice(struct cs_tls *t, struct cs_slice *slice, struct cs_chain *plain)
{
    const uint8_t *end = slice->data + slice->len;
    int err = 0;
    io.next = slice->data;
    io.end = end;
    while (err == 0 && t->partial && io.next < end) {
        err = read_apart(t, plain);
    }
    uint8_t *to = read_whole(t, slice->data, end, &err);
    uint32_t len = (uint32_t)(to - slice->data);
    if (err == 0 && io.next < end) {
        io.end = end;
        t->partial = true;
        err = read_apart(t, plain); /* takes the beginning of a record in */
    }
    if (!cs_slice_is_lent(slice)) {
        slice->room += slice->len - len;
    }
    slice->len = len;
    cs_chain_push(plain, slice);
    return err;
}

int cs_tls_read(struct cs_tls *t, struct cs_chain *in, struct cs_chain *plain, size_t max,
                struct cs_chain *out)
{
    int err = 0;
    enter(t, out);
    while (err == 0 && cs_chain_len(in) > 0 && cs_chain_len(plain) < max) {
        struct cs_chain one = {0};
        struct cs_slice *slice = cs_chain_first(in);
        err = cs_chain_move(&one, in, slice->len);
        CS_ASSERT(err == 0 && one.last == slice && cs_chain_first(&one) == slice); /* just moved */
        err = read_slice(t, slice, plain);
    }
    if (err == CS_EOF) {
        cs_chain_clear(in);
    }
    return err;
}

/* ---- writing ---- */

static int write_bytes(struct cs_tls *t, const uint8_t *bytes, size_t n)
{
    int done = SSL_write(t->ssl, bytes, (int)n);
    return done == (int)n ? 0 : failure(t, -ENOMEM);
}

/* Small slices that follow each other become one record. */
static int write_gathered(struct cs_tls *t, struct cs_chain *data, size_t record_max)
{
    uint8_t bytes[CS_TLS_RECORD_MAX];
    size_t n = cs_chain_peek(data, bytes, CS_MIN(record_max, sizeof(bytes)));
    int err = write_bytes(t, bytes, n);
    cs_chain_drop(data, n);
    return err;
}

int cs_tls_write(struct cs_tls *t, struct cs_chain *data, size_t record_max, struct cs_chain *out)
{
    int err = t->ended ? CS_ECLOSED : 0;
    enter(t, out);
    while (err == 0 && cs_chain_len(data) > 0) {
        const struct cs_slice *s = cs_chain_first(data);
        if (s->len < ALONE && s != data->last) {
            err = write_gathered(t, data, record_max);
        } else {
            size_t n = CS_MIN(s->len, record_max);
            err = write_bytes(t, s->data, n);
            cs_chain_drop(data, n);
        }
    }
    cs_chain_clear(data);
    return err;
}

int cs_tls_end(struct cs_tls *t, struct cs_chain *out)
{
    if (t->ended) {
        return 0;
    }
    t->ended = true;
    enter(t, out);
    SSL_shutdown(t->ssl);
    ERR_clear_error();
    return io.err;
}

/* ---- what was agreed on ---- */

const char *cs_tls_version(const struct cs_tls *t)
{
    return SSL_get_version(t->ssl);
}

const char *cs_tls_suite(const struct cs_tls *t)
{
    const SSL_CIPHER *suite = SSL_get_current_cipher(t->ssl);
    const char *name = suite ? SSL_CIPHER_standard_name(suite) : "NULL";
    return strncmp(name, "TLS_", 4) == 0 ? name + 4 : name;
}

bool cs_tls_resumed(const struct cs_tls *t)
{
    return SSL_session_reused(t->ssl);
}

const char *cs_tls_alpn(const struct cs_tls *t, size_t *len)
{
    const uint8_t *name;
    unsigned n;
    SSL_get0_alpn_selected(t->ssl, &name, &n);
    *len = n;
    return n > 0 ? (const char *)name : NULL;
}

const char *cs_tls_sni(const struct cs_tls *t)
{
    return SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
}

struct crypto_buffer_st *cs_tls_peer_cert(const struct cs_tls *t, unsigned i)
{
    const STACK_OF(CRYPTO_BUFFER) *chain = peer_chain(t);
    return chain && i < sk_CRYPTO_BUFFER_num(chain) ? sk_CRYPTO_BUFFER_value(chain, i) : NULL;
}

const uint8_t *cs_tls_peer_der(const struct cs_tls *t, unsigned i, size_t *len)
{
    const struct crypto_buffer_st *cert = cs_tls_peer_cert(t, i);
    *len = cert ? CRYPTO_BUFFER_len(cert) : 0;
    return cert ? CRYPTO_BUFFER_data(cert) : NULL;
}
