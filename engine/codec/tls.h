/*
 * tls - one TLS session as a codec: bytes of the wire and plain bytes go in and out of chains. No
 * socket, no clock, no waiting.
 *
 *   start ──▶ handshake ──MORE: feed it more of `in`──┐
 *                 │  ▲────────────────────────────────┘   CHOOSE: cs_tls_choose, then again
 *                 ▼ DONE
 *             read, write, end     (one after the other is over: end, and reading goes on)
 *
 * Whatever a call appends to `out` is for the peer, also when it fails: alerts are there.
 * Between calls an idle session holds no buffer; after the handshake what only that needed is
 * freed.
 *
 * Owns:   BoringSSL's session, a reference to its context, the name of its peer.
 * Thread: its cell's.
 */
#ifndef CS_CODEC_TLS_H
#define CS_CODEC_TLS_H

#include "base/chain.h"
#include "codec/tls_context.h"

struct cs_tls_waiting;
struct cs_verdict;
struct crypto_buffer_st;
struct ssl_st;

#define CS_TLS_RECORD_MAX 16384 /* plain bytes of a record: RFC 8446, 5.1 */
#define CS_TLS_RECORD_MIN 512

struct cs_tls {
    struct ssl_st *ssl;
    struct cs_tls_context *context;
    char *host;       /* client: whom to reach, for the name check; NULL: nobody in particular */
    const char *why;  /* what the last failure was, or NULL; lives for ever */
    bool strict;      /* client: an untrusted peer ends the handshake */
    bool partial : 1; /* a part of a record is inside BoringSSL */
    bool ended : 1;   /* close_notify has been sent */
    bool chosen : 1;  /* server: cs_tls_choose has been called */
    struct cs_tls_waiting *waiting; /* server: between CHOOSE and the end of the handshake */
};

/* Of one client session; all may be NULL. Strings are copied. */
struct cs_tls_peer {
    const char *host; /* sent as SNI unless it is an address, and checked by cs_tls_trust */
    const char *alpn; /* "h2,http/1.1" in place of the context's list */
    bool strict;      /* see cs_tls */
};

/* Begins a session of the context's kind. peer: NULL for a server. 0, -ENOMEM, CS_EINVAL (host or
 * alpn). t needs no cs_tls_finish after a failure. */
CS_MUST_CHECK int cs_tls_start(struct cs_tls *t, struct cs_tls_context *context,
                               const struct cs_tls_peer *peer);

void cs_tls_finish(struct cs_tls *t);

enum cs_tls_step {
    CS_TLS_MORE,   /* it needs more of the peer's bytes; in is empty */
    CS_TLS_DONE,   /* the handshake is over; in may hold what follows */
    CS_TLS_CHOOSE, /* a server with config.choose: ask cs_tls_choose, then go on */
};

/* One or more steps of the handshake. A cs_tls_step, or: CS_ETLSHANDSHAKE, CS_ETLSALERT (the peer
 * gave up), CS_ETLSTRUST, -ENOMEM. The session is of no use after an error. */
CS_MUST_CHECK int cs_tls_handshake(struct cs_tls *t, struct cs_chain *in, struct cs_chain *out);

/* Decrypts slices of `in`, in place, until `plain` holds `max` bytes or `in` is empty; goes over
 * `max` by one slice at most. 0; CS_EOF after close_notify (`in` is emptied); CS_ETLSALERT,
 * CS_ETLSRECORD, -ENOMEM. */
CS_MUST_CHECK int cs_tls_read(struct cs_tls *t, struct cs_chain *in, struct cs_chain *plain,
                              size_t max, struct cs_chain *out);

/* Encrypts all of data (empty afterwards, also on failure) in records of at most record_max plain
 * bytes (CS_TLS_RECORD_MIN..MAX); small slices share one. 0, CS_ECLOSED after cs_tls_end, -ENOMEM
 * (the session is of no use then). */
CS_MUST_CHECK int cs_tls_write(struct cs_tls *t, struct cs_chain *data, size_t record_max,
                               struct cs_chain *out);

/* Appends close_notify, once. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_tls_end(struct cs_tls *t, struct cs_chain *out);

/* ---- the choice (after CS_TLS_CHOOSE) ---- */

/* What the client asks for; valid until cs_tls_choose. */
struct cs_tls_offer {
    const char *name;    /* SNI; NULL: none */
    const uint8_t *alpn; /* as on the wire: length byte and name, again and again */
    size_t alpn_len;
    const uint8_t *versions; /* two bytes each, best first; GREASE values (RFC 8701) among them */
    size_t version_count;
};
void cs_tls_offer(const struct cs_tls *t, struct cs_tls_offer *offer);

/* The answer: go on with this certificate (NULL: the context's own choice), or with another context
 * (NULL: this one). Takes references. */
void cs_tls_choose(struct cs_tls *t, struct cs_tls_context *context, struct cs_cert *cert);

/* ... or the end: sends the alert unrecognized_name. */
void cs_tls_refuse(struct cs_tls *t, struct cs_chain *out);

/* ---- what was agreed on (after DONE) ---- */

const char *cs_tls_version(const struct cs_tls *t); /* "TLSv1.3" */
const char *cs_tls_suite(const struct cs_tls *t);   /* "ECDHE_RSA_WITH_AES_128_GCM_SHA256" */
bool cs_tls_resumed(const struct cs_tls *t);
/* The protocol agreed on, not terminated by a zero; NULL: none. */
const char *cs_tls_alpn(const struct cs_tls *t, size_t *len);
/* The name that the client asked for, or NULL. */
const char *cs_tls_sni(const struct cs_tls *t);

/* The peer's chain, leaf first; NULL beyond its end. Borrowed. */
struct crypto_buffer_st *cs_tls_peer_cert(const struct cs_tls *t, unsigned i);
const uint8_t *cs_tls_peer_der(const struct cs_tls *t, unsigned i, size_t *len);

/* Checks the peer's chain and, when host is not NULL, its name. *named: the name matches. 0,
 * -ENOENT (the peer showed no certificate) or -ENOMEM. */
CS_MUST_CHECK int cs_tls_trust(const struct cs_tls *t, const char *host, struct cs_verdict *verdict,
                               bool *named);

#endif
