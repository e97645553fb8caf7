/*
 * tls_context - what many TLS sessions share: own certificates and keys, whom to trust, versions,
 * groups, protocols, tickets. A "shark object" of the Lua API is one.
 *
 *   cert.h certificates, store ──▶ context ──▶ tls.h sessions (each holds a reference)
 *
 * A server answers with the certificate that serves the name the client asks for (SNI): an exact
 * name before a wildcard, ECDSA before RSA where the client can check both, and the first one added
 * for names that none serves.
 *
 * Owns:   references to its certificates and its store.
 * Thread: its cell's.
 */
#ifndef CS_CODEC_TLS_CONTEXT_H
#define CS_CODEC_TLS_CONTEXT_H

#include "base/base.h"
#include "base/err.h"

struct cs_cert;
struct cs_store;
struct cs_tls_context;

#define CS_TLS_PIN_SIZE 32 /* SHA-256 of a SubjectPublicKeyInfo (RFC 7469, 2.4) */

enum cs_tls_ask {
    CS_TLS_ASK_NOT,      /* a server asks clients for no certificate */
    CS_TLS_ASK_OPTIONAL, /* a client may have none; one that it has must be trusted */
    CS_TLS_ASK_REQUIRED,
};

/* Strings and pins are copied, NULL and 0 are defaults. */
struct cs_tls_config {
    bool server;
    struct cs_store *store;                 /* whom to trust; gets a reference. NULL: nobody */
    enum cs_tls_ask ask;                    /* server; needs a store or pins unless NOT */
    const uint8_t (*pins)[CS_TLS_PIN_SIZE]; /* a peer must have one of these keys; with a store it
                                               must be trusted too */
    unsigned pin_count;
    const char *min_version, *max_version; /* "1.2" (the default minimum), "1.3" */
    const char *ciphers; /* of TLS 1.2, in BoringSSL's syntax; those of 1.3 are fixed */
    const char *groups;  /* "X25519:P-256:P-384" (the default, with X25519MLKEM768 in front where
                            BoringSSL has it) */
    const char *alpn;    /* "h2,http/1.1": a client offers these, a server takes its first that the
                            client offers and refuses a client that offers only others (RFC 7301) */
    bool no_tickets;     /* no session is resumed */
    unsigned cache;      /* client: sessions kept to be resumed; 0: the default, 8 */
    bool choose;         /* server: each session asks which certificate to use (tls.h) */
    int keylog_fd;       /* secrets are appended here as NSS key log lines, for debugging; gets
                            owned. -1: not */
};

void cs_tls_config_default(struct cs_tls_config *config);

/* 0; -ENOMEM; or CS_EINVAL, with *field naming what is wrong ("ciphers", ...). */
CS_MUST_CHECK int cs_tls_context_create(struct cs_tls_context **out,
                                        const struct cs_tls_config *config, const char **field);

void cs_tls_context_ref(struct cs_tls_context *c);
void cs_tls_context_unref(struct cs_tls_context *c); /* accepts NULL */

/* One more certificate to answer with (server), or the one to show when asked (client: the last
 * added of a kind that the server accepts). Sessions that have begun keep what they have. Takes a
 * reference. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_tls_context_add_cert(struct cs_tls_context *c, struct cs_cert *cert);

bool cs_tls_context_is_server(const struct cs_tls_context *c);
unsigned cs_tls_context_cert_count(const struct cs_tls_context *c);
struct cs_store *cs_tls_context_store(const struct cs_tls_context *c); /* borrowed; or NULL */

/* Whatever its maker wants to find again from a session; NULL at first. */
void cs_tls_context_set_user(struct cs_tls_context *c, void *user);
void *cs_tls_context_user(const struct cs_tls_context *c);

#endif
