/*
 * tls_inside - what tls_context.c and tls.c share; nobody else includes it.
 */
#ifndef CS_CODEC_TLS_INSIDE_H
#define CS_CODEC_TLS_INSIDE_H

#include <openssl/bio.h>
#include <openssl/ssl.h>

#include "codec/cert.h"
#include "codec/tls_context.h"

#define CS_TLS_CHAIN_MAX 16 /* certificates of a chain that are sent or looked at */

struct cs_tls_cached {
    SSL_SESSION *session; /* NULL: free */
    char *host;
};

struct cs_tls_context {
    unsigned refs;
    bool server, choose;
    enum cs_tls_ask ask;
    int verify_mode; /* SSL_VERIFY_* */
    SSL_CTX *ssl;
    BIO *bio;               /* of all its sessions */
    struct cs_store *store; /* or NULL */
    struct cs_cert **certs;
    unsigned cert_count;
    unsigned pin_count;
    uint8_t (*pins)[CS_TLS_PIN_SIZE];
    uint8_t *alpn; /* as on the wire */
    size_t alpn_len;
    struct cs_tls_cached *cache; /* a client's sessions, newest first */
    unsigned cache_size;
    int keylog_fd; /* -1: none */
    void *user;
};

/* "h2,http/1.1" to its form on the wire, in memory to be freed. 0, -ENOMEM or CS_EINVAL. */
CS_MUST_CHECK int cs_tls_alpn_parse(const char *list, uint8_t **wire, size_t *len);

/* The certificate that answers this client best; NULL: there is none at all. */
struct cs_cert *cs_tls_context_best(const struct cs_tls_context *c, const SSL_CLIENT_HELLO *hello);

/* Shows cert in this session. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_tls_use_cert(SSL *ssl, const struct cs_cert *cert);

/* Takes the session over. */
void cs_tls_context_remember(struct cs_tls_context *c, const char *host, SSL_SESSION *session);

/* A session to resume with that host, the caller's; or NULL. */
SSL_SESSION *cs_tls_context_recall(struct cs_tls_context *c, const char *host);

void cs_tls_context_log_key(const struct cs_tls_context *c, const char *line);

/*
 * What sessions read from and write to; the caller's, NULL without memory. A BIO notes in itself
 * whether to try again, and SSL_get_error looks there: no two threads may have one in common.
 */
BIO *cs_tls_make_bio(void);

/* Called by BoringSSL, inside one of tls.h's functions. */
enum ssl_verify_result_t cs_tls_on_verify(SSL *ssl, uint8_t *alert);
enum ssl_select_cert_result_t cs_tls_on_hello(const SSL_CLIENT_HELLO *hello);
int cs_tls_on_session(SSL *ssl, SSL_SESSION *session);
void cs_tls_on_key(const SSL *ssl, const char *line);

#endif
