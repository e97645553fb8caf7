/*
 * tls_support - what the tests of TLS share: an authority, certificates it has signed, and two
 * sessions joined by chains whose bytes arrive in pieces of any size.
 */
#ifndef UNIT_TLS_SUPPORT_H
#define UNIT_TLS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "codec/cert.h"
#include "codec/cert_make.h"
#include "codec/cert_store.h"
#include "codec/tls.h"
#include "codec/tls_context.h"
#include "codec/tls_ticket.h"

/* ---- certificates ---- */

struct pems {
    struct cs_pem_text cert, key;
};

static inline struct cs_cert_text text_of(const struct cs_pem_text *t)
{
    return (struct cs_cert_text){t->bytes, t->len};
}

static inline void pems_free(struct pems *p)
{
    cs_pem_text_free(&p->cert);
    cs_pem_text_free(&p->key);
}

/* Signed by `issuer`, or by itself. */
static inline struct pems make_pems(enum cs_key_type type, const char *name, const char *names,
                                    const struct pems *issuer, int64_t from, int64_t to)
{
    static int64_t serial = 100;
    struct pems p = {0};
    struct cs_pem_text request = {0};
    struct cs_cert_error why = {0};
    bool ca = !issuer && !names;
    const struct cs_make_request r = {.subject = {.commonname = name},
                                      .names = names,
                                      .usage = ca ? CS_USAGE_KEY_CERT_SIGN | CS_USAGE_CRL_SIGN
                                                  : CS_USAGE_DIGITAL_SIGNATURE,
                                      .type = ca ? CS_TYPE_SSL_CA : 0};
    assert_int_equal(cs_make_key(&p.key, type, 2048), 0);
    struct cs_make_key key = {.text = text_of(&p.key)};
    assert_int_equal(cs_make_request(&request, &r, key, &why), 0);
    struct cs_make_cert c = {.request = text_of(&request), .from = from, .to = to};
    c.key = key;
    c.serial = serial++;
    if (issuer) {
        c.issuer = text_of(&issuer->cert);
        c.key.text = text_of(&issuer->key);
    }
    assert_int_equal(cs_make_cert(&p.cert, &c, &why), 0);
    cs_pem_text_free(&request);
    return p;
}

static inline struct cs_cert *load_pems(const struct pems *p)
{
    struct cs_cert *cert;
    struct cs_cert_error why = {0};
    assert_int_equal(cs_cert_load(&cert, text_of(&p->cert), text_of(&p->key), NULL, &why), 0);
    return cert;
}

/* A certificate for these names, signed by the authority. */
static inline struct cs_cert *make_cert(enum cs_key_type type, const char *names,
                                        const struct pems *issuer)
{
    int64_t now = time(NULL);
    struct pems p = make_pems(type, "test", names, issuer, now - 3600, now + 86400);
    struct cs_cert *cert = load_pems(&p);
    pems_free(&p);
    return cert;
}

static inline struct cs_store *make_store(const struct pems *authority)
{
    struct cs_store *s = cs_store_create();
    struct cs_cert_error why = {0};
    assert_non_null(s);
    assert_int_equal(cs_store_add(s, text_of(&authority->cert), &why), 1);
    return s;
}

/* ---- contexts ---- */

static inline struct cs_tls_context *make_context(const struct cs_tls_config *config)
{
    struct cs_tls_context *c;
    const char *field = NULL;
    assert_int_equal(cs_tls_context_create(&c, config, &field), 0);
    return c;
}

static inline struct cs_tls_context *make_server(struct cs_cert *cert, struct cs_tls_config config)
{
    config.server = true;
    config.keylog_fd = -1;
    struct cs_tls_context *c = make_context(&config);
    if (cert) {
        assert_int_equal(cs_tls_context_add_cert(c, cert), 0);
    }
    return c;
}

static inline struct cs_tls_context *make_client(struct cs_store *store,
                                                 struct cs_tls_config config)
{
    config.store = store;
    config.keylog_fd = -1;
    return make_context(&config);
}

/* ---- two sessions ---- */

struct end {
    struct cs_tls tls;
    struct cs_chain in;    /* arrived, not yet taken */
    struct cs_chain wire;  /* sent by it, still on its way */
    struct cs_chain plain; /* what it has read */
    int step;              /* of the handshake: the last result */
    int err;               /* of reading */
};

struct pair {
    struct end client, server;
};

static inline void pair_open(struct pair *p, struct cs_tls_context *client,
                             const struct cs_tls_peer *peer, struct cs_tls_context *server)
{
    *p = (struct pair){0};
    assert_int_equal(cs_tls_start(&p->client.tls, client, peer), 0);
    assert_int_equal(cs_tls_start(&p->server.tls, server, NULL), 0);
}

static inline void end_close(struct end *e)
{
    cs_tls_finish(&e->tls);
    cs_chain_clear(&e->in);
    cs_chain_clear(&e->wire);
    cs_chain_clear(&e->plain);
}

static inline void pair_close(struct pair *p)
{
    end_close(&p->client);
    end_close(&p->server);
}

/* Moves bytes on their way to the other end, each piece in a slice of its own. */
static inline void carry(struct cs_chain *wire, struct cs_chain *in, size_t piece)
{
    while (cs_chain_len(wire) > 0) {
        size_t n = CS_MIN(piece, cs_chain_len(wire));
        struct cs_slice *s = cs_slice_create(n);
        assert_non_null(s);
        s->len = (uint32_t)cs_chain_peek(wire, s->data, n);
        s->room = 0;
        cs_chain_drop(wire, n);
        cs_chain_push(in, s);
    }
}

static inline void shake(struct end *e)
{
    if (e->step == CS_TLS_MORE) {
        e->step = cs_tls_handshake(&e->tls, &e->in, &e->wire);
    }
}

/* Until neither has anything to say. Pieces of `piece` bytes. */
static inline void pair_shake(struct pair *p, size_t piece)
{
    do {
        shake(&p->client);
        carry(&p->client.wire, &p->server.in, piece);
        shake(&p->server);
        carry(&p->server.wire, &p->client.in, piece);
        if (p->client.step != CS_TLS_MORE && p->server.step != CS_TLS_MORE) {
            return;
        }
    } while (cs_chain_len(&p->client.in) + cs_chain_len(&p->server.in) > 0);
}

static inline void pair_shake_well(struct pair *p, size_t piece)
{
    pair_shake(p, piece);
    assert_int_equal(p->client.step, CS_TLS_DONE);
    assert_int_equal(p->server.step, CS_TLS_DONE);
}

/* `from` writes, `to` reads; pieces of `piece` bytes. */
static inline void deliver(struct end *from, struct end *to, size_t piece)
{
    carry(&from->wire, &to->in, piece);
    if (to->err == 0) {
        to->err = cs_tls_read(&to->tls, &to->in, &to->plain, SIZE_MAX, &to->wire);
    }
}

static inline void say(struct end *e, const void *data, size_t n)
{
    struct cs_chain c = {0};
    assert_int_equal(cs_chain_append(&c, data, n), 0);
    assert_int_equal(cs_tls_write(&e->tls, &c, CS_TLS_RECORD_MAX, &e->wire), 0);
    assert_int_equal(cs_chain_len(&c), 0);
}

/* Whether the end has read exactly this; forgets it. */
static inline bool heard(struct end *e, const void *data, size_t n)
{
    char *got = malloc(n + 1);
    assert_non_null(got);
    bool same = cs_chain_len(&e->plain) == n && cs_chain_peek(&e->plain, got, n) == n &&
                memcmp(got, data, n) == 0;
    free(got);
    cs_chain_clear(&e->plain);
    return same;
}

#endif
