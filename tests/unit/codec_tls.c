/*
 * codec_tls - sessions: versions, kinds of certificate, resumption, choice by name, client
 * certificates; records cut anywhere; damage, truncation, the orderly end.
 */
#include "unit/tls_support.h"

#include <pthread.h>

static struct pems authority, stranger;
static struct cs_cert *ec, *rsa, *other; /* for a.test, a.test and *.b.test */
static struct cs_store *trust;

static int setup(void **state)
{
    int64_t now = time(NULL);
    (void)state;
    authority = make_pems(CS_MAKE_EC_P256, "Test CA", NULL, NULL, now - 3600, now + 86400);
    stranger = make_pems(CS_MAKE_EC_P256, "Other CA", NULL, NULL, now - 3600, now + 86400);
    ec = make_cert(CS_MAKE_EC_P256, "a.test", &authority);
    rsa = make_cert(CS_MAKE_RSA, "a.test", &authority);
    other = make_cert(CS_MAKE_EC_P384, "*.b.test", &authority);
    trust = make_store(&authority);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cs_store_unref(trust);
    cs_cert_unref(ec);
    cs_cert_unref(rsa);
    cs_cert_unref(other);
    pems_free(&authority);
    pems_free(&stranger);
    return 0;
}

static const struct cs_tls_peer to_a = {.host = "a.test", .strict = true};

/* Both directions work. */
static void talk(struct pair *p, size_t piece)
{
    char data[5000];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (char)(i * 7);
    }
    say(&p->client, data, sizeof(data));
    deliver(&p->client, &p->server, piece);
    assert_true(heard(&p->server, data, sizeof(data)));
    say(&p->server, data, sizeof(data));
    deliver(&p->server, &p->client, piece);
    assert_true(heard(&p->client, data, sizeof(data)));
}

/* ---- threads ---- */

#define TRIES 200000

/* A client that hears nothing goes on waiting. Returns how often it did something else. */
static void *wait_for_server(void *context)
{
    struct cs_tls t;
    struct cs_chain in = {0}, out = {0};
    uintptr_t wrong = cs_tls_start(&t, context, &to_a) < 0;
    for (unsigned i = 0; i < TRIES && wrong == 0; i++) {
        wrong = cs_tls_handshake(&t, &in, &out) != CS_TLS_MORE;
    }
    cs_chain_clear(&out);
    cs_tls_finish(&t);
    return (void *)wrong;
}

static void test_threads(void **state)
{
    (void)state;
    struct cs_tls_context *contexts[2];
    pthread_t threads[CS_ARRAY_LEN(contexts)];
    for (unsigned i = 0; i < CS_ARRAY_LEN(contexts); i++) {
        contexts[i] = make_client(NULL, (struct cs_tls_config){0});
        assert_int_equal(pthread_create(&threads[i], NULL, wait_for_server, contexts[i]), 0);
    }
    for (unsigned i = 0; i < CS_ARRAY_LEN(contexts); i++) {
        void *wrong;
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
        cs_tls_context_unref(contexts[i]);
    }
}

/* ---- what is agreed on ---- */

static void try_kind(struct cs_cert *cert, const char *version, const char *name, const char *suite)
{
    const struct cs_tls_config only = {.min_version = version, .max_version = version};
    struct cs_tls_context *server = make_server(cert, only);
    struct cs_tls_context *client = make_client(trust, (struct cs_tls_config){0});
    for (size_t piece = 1; piece < 100000;
         piece = piece * 3 + 1) { /* the first: every byte alone */
        for (int again = 0; again < 2; again++) {
            struct pair p;
            pair_open(&p, client, &to_a, server);
            pair_shake_well(&p, piece);
            assert_string_equal(cs_tls_version(&p.client.tls), name);
            assert_string_equal(cs_tls_version(&p.server.tls), name);
            assert_string_equal(cs_tls_suite(&p.server.tls), suite);
            assert_string_equal(cs_tls_sni(&p.server.tls), "a.test");
            assert_int_equal(cs_tls_resumed(&p.client.tls), piece > 1 || again);
            assert_int_equal(cs_tls_resumed(&p.server.tls), piece > 1 || again);
            talk(&p, piece);
            pair_close(&p);
        }
    }
    cs_tls_context_unref(client);
    cs_tls_context_unref(server);
}

static void test_kinds(void **state)
{
    (void)state;
    try_kind(ec, "1.3", "TLSv1.3", "AES_128_GCM_SHA256");
    try_kind(rsa, "1.3", "TLSv1.3", "AES_128_GCM_SHA256");
    try_kind(ec, "1.2", "TLSv1.2", "ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    try_kind(rsa, "1.2", "TLSv1.2", "ECDHE_RSA_WITH_AES_128_GCM_SHA256");
}

static void test_versions_apart(void **state)
{
    (void)state;
    struct pair p;
    struct cs_tls_context *server = make_server(ec, (struct cs_tls_config){.min_version = "1.3"});
    struct cs_tls_context *client =
        make_client(trust, (struct cs_tls_config){.max_version = "1.2"});
    pair_open(&p, client, &to_a, server);
    pair_shake(&p, SIZE_MAX);
    assert_int_equal(p.server.step, CS_ETLSHANDSHAKE);
    assert_int_equal(p.client.step, CS_ETLSALERT);
    assert_non_null(p.server.tls.why);
    pair_close(&p);
    cs_tls_context_unref(client);
    cs_tls_context_unref(server);
}

static void test_wrong_configuration(void **state)
{
    (void)state;
    static const struct {
        struct cs_tls_config config;
        const char *field;
    } wrong[] = {
        {{.min_version = "1.1"}, "minversion"},
        {{.max_version = "2"}, "maxversion"},
        {{.min_version = "1.3", .max_version = "1.2"}, "maxversion"},
        {{.ciphers = "NOTHING"}, "ciphers"},
        {{.groups = "P-1"}, "groups"},
        {{.alpn = ""}, "alpn"},
        {{.alpn = "h2,,x"}, "alpn"},
        {{.server = true, .ask = CS_TLS_ASK_REQUIRED}, "clientcert"},
    };
    for (size_t i = 0; i < CS_ARRAY_LEN(wrong); i++) {
        struct cs_tls_context *c;
        const char *field = NULL;
        struct cs_tls_config config = wrong[i].config;
        config.keylog_fd = -1;
        assert_int_equal(cs_tls_context_create(&c, &config, &field), CS_EINVAL);
        assert_string_equal(field, wrong[i].field);
    }
}

static void test_alpn(void **state)
{
    static const struct {
        const char *server, *client, *agreed; /* NULL, "": none, refused */
    } cases[] = {{"h2,http/1.1", "http/1.1,h2", "h2"},
                 {"mqtt", "x,mqtt", "mqtt"},
                 {"h2", NULL, NULL},
                 {NULL, "h2", NULL},
                 {"h2", "http/1.1", ""}};
    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(cases); i++) {
        struct pair p;
        size_t len;
        struct cs_tls_context *server =
            make_server(ec, (struct cs_tls_config){.alpn = cases[i].server});
        struct cs_tls_context *client = make_client(trust, (struct cs_tls_config){0});
        pair_open(&p, client, &(struct cs_tls_peer){.host = "a.test", .alpn = cases[i].client},
                  server);
        pair_shake(&p, SIZE_MAX);
        if (cases[i].agreed && !*cases[i].agreed) {
            assert_int_equal(p.client.step, CS_ETLSALERT);
        } else {
            assert_int_equal(p.client.step, CS_TLS_DONE);
            const char *got = cs_tls_alpn(&p.server.tls, &len);
            assert_int_equal(len, cases[i].agreed ? strlen(cases[i].agreed) : 0);
            assert_true(len == 0 || memcmp(got, cases[i].agreed, len) == 0);
        }
        pair_close(&p);
        cs_tls_context_unref(client);
        cs_tls_context_unref(server);
    }
}

/* ---- trust ---- */

static int client_step(struct cs_store *store, struct cs_cert *cert, const char *host, bool strict)
{
    struct pair p;
    struct cs_tls_context *server = make_server(cert, (struct cs_tls_config){0});
    struct cs_tls_context *client = make_client(store, (struct cs_tls_config){0});
    pair_open(&p, client, &(struct cs_tls_peer){.host = host, .strict = strict}, server);
    pair_shake(&p, SIZE_MAX);
    int step = p.client.step;
    if (step == CS_ETLSTRUST) {
        shake(&p.server);
        assert_int_equal(p.server.step, CS_ETLSALERT); /* it is told */
    }
    pair_close(&p);
    cs_tls_context_unref(client);
    cs_tls_context_unref(server);
    return step;
}

static void test_strict(void **state)
{
    (void)state;
    int64_t now = time(NULL);
    struct cs_cert *unknown = make_cert(CS_MAKE_EC_P256, "a.test", &stranger);
    struct pems old_pems =
        make_pems(CS_MAKE_EC_P256, "x", "a.test", &authority, now - 7200, now - 3600);
    struct cs_cert *old = load_pems(&old_pems);
    assert_int_equal(client_step(trust, ec, "a.test", true), CS_TLS_DONE);
    assert_int_equal(client_step(trust, ec, "c.test", true), CS_ETLSTRUST);
    assert_int_equal(client_step(trust, ec, "c.test", false), CS_TLS_DONE);
    assert_int_equal(client_step(trust, unknown, "a.test", true), CS_ETLSTRUST);
    assert_int_equal(client_step(trust, unknown, "a.test", false), CS_TLS_DONE);
    assert_int_equal(client_step(trust, old, "a.test", true), CS_ETLSTRUST);
    assert_int_equal(client_step(NULL, ec, "a.test", true), CS_ETLSTRUST);
    cs_cert_unref(unknown);
    cs_cert_unref(old);
    pems_free(&old_pems);
}

static void test_trust(void **state)
{
    (void)state;
    struct pair p;
    struct cs_verdict v;
    bool named;
    struct cs_tls_context *server = make_server(ec, (struct cs_tls_config){0});
    struct cs_tls_context *client = make_client(trust, (struct cs_tls_config){0});
    for (int again = 0; again < 2; again++) { /* resumed too */
        pair_open(&p, client, &(struct cs_tls_peer){.host = "a.test."}, server);
        pair_shake_well(&p, SIZE_MAX);
        talk(&p, SIZE_MAX);
        assert_int_equal(cs_tls_resumed(&p.client.tls), again);
        assert_int_equal(cs_tls_trust(&p.client.tls, "a.test", &v, &named), 0);
        assert_true(v.chain && v.in_time && named);
        assert_int_equal(cs_tls_trust(&p.client.tls, "b.test", &v, &named), 0);
        assert_true(v.chain && v.in_time && !named);
        assert_int_equal(cs_tls_trust(&p.server.tls, NULL, &v, &named), -ENOENT);
        assert_non_null(cs_tls_peer_cert(&p.client.tls, 0));
        assert_null(cs_tls_peer_cert(&p.client.tls, 1));
        assert_null(cs_tls_peer_cert(&p.server.tls, 0));
        pair_close(&p);
    }
    cs_tls_context_unref(client);
    cs_tls_context_unref(server);
}

/* ---- client certificates ---- */

struct mutual {
    enum cs_tls_ask ask;
    struct cs_store *store;
    const uint8_t (*pins)[CS_TLS_PIN_SIZE];
    struct cs_cert *shown;
    bool good;
};

static void try_mutual(const struct mutual *m, const char *version)
{
    struct cs_tls_context *server =
        make_server(ec, (struct cs_tls_config){.ask = m->ask,
                                               .store = m->store,
                                               .pins = m->pins,
                                               .pin_count = m->pins ? 1 : 0,
                                               .max_version = version});
    struct cs_tls_context *client = make_client(trust, (struct cs_tls_config){0});
    if (m->shown) {
        assert_int_equal(cs_tls_context_add_cert(client, m->shown), 0);
    }
    for (int again = 0; again < 2; again++) {
        struct pair p;
        pair_open(&p, client, &to_a, server);
        pair_shake(&p, SIZE_MAX);
        shake(&p.server);
        assert_int_equal(p.server.step == CS_TLS_DONE, m->good);
        if (m->good) {
            talk(&p, SIZE_MAX);
            assert_int_equal(cs_tls_resumed(&p.server.tls), again);
            assert_int_equal(cs_tls_peer_cert(&p.server.tls, 0) != NULL, m->shown != NULL);
        } else {
            assert_true(p.server.step == CS_ETLSTRUST || p.server.step == CS_ETLSHANDSHAKE);
            p.client.err =
                cs_tls_read(&p.client.tls, &p.client.in, &p.client.plain, SIZE_MAX, &p.client.wire);
            assert_true(p.client.step == CS_ETLSALERT || p.client.err == CS_ETLSALERT);
        }
        pair_close(&p);
    }
    cs_tls_context_unref(client);
    cs_tls_context_unref(server);
}

static void test_client_certificates(void **state)
{
    (void)state;
    struct cs_cert *unknown = make_cert(CS_MAKE_EC_P256, "x", &stranger);
    uint8_t pin[1][CS_TLS_PIN_SIZE] = {{0}};
    const struct mutual cases[] = {
        {CS_TLS_ASK_REQUIRED, trust, NULL, ec, true},
        {CS_TLS_ASK_REQUIRED, trust, NULL, rsa, true},
        {CS_TLS_ASK_REQUIRED, trust, NULL, NULL, false},
        {CS_TLS_ASK_REQUIRED, trust, NULL, unknown, false},
        {CS_TLS_ASK_OPTIONAL, trust, NULL, NULL, true},
        {CS_TLS_ASK_OPTIONAL, trust, NULL, rsa, true},
        {CS_TLS_ASK_OPTIONAL, trust, NULL, unknown, false},
        {CS_TLS_ASK_REQUIRED, NULL, pin, unknown, false},
    };
    for (size_t i = 0; i < CS_ARRAY_LEN(cases); i++) {
        try_mutual(&cases[i], "1.2");
        try_mutual(&cases[i], "1.3");
    }
    cs_cert_unref(unknown);
}

/* ---- choice of certificate ---- */

/* The suite or certificate tells which one was chosen. */
static const void *shown(struct cs_tls_context *server, const char *host,
                         const struct cs_tls_config *of_client)
{
    struct pair p;
    struct cs_tls_context *client = make_client(trust, *of_client);
    pair_open(&p, client, &(struct cs_tls_peer){.host = host}, server);
    pair_shake_well(&p, SIZE_MAX);
    const void *leaf = cs_tls_peer_cert(&p.client.tls, 0); /* from the pool: equal ones are one */
    pair_close(&p);
    cs_tls_context_unref(client);
    return leaf;
}

static void test_choice(void **state)
{
    (void)state;
    const struct cs_tls_config any = {0}, rsa_only = {.max_version = "1.2",
                                                      .ciphers = "ECDHE-RSA-AES128-GCM-SHA256"};
    struct cs_tls_context *server = make_server(rsa, (struct cs_tls_config){0});
    assert_int_equal(cs_tls_context_add_cert(server, ec), 0);
    assert_int_equal(cs_tls_context_add_cert(server, other), 0);
    assert_ptr_equal(shown(server, "a.test", &any), cs_cert_at(ec, 0));
    assert_ptr_equal(shown(server, "a.test", &rsa_only), cs_cert_at(rsa, 0));
    assert_ptr_equal(shown(server, "www.b.test", &any), cs_cert_at(other, 0));
    assert_ptr_equal(shown(server, "b.test", &any), cs_cert_at(rsa, 0)); /* none: the first */
    assert_ptr_equal(shown(server, NULL, &any), cs_cert_at(rsa, 0));
    cs_tls_context_unref(server);
}

static void answer(struct pair *p)
{
    struct cs_tls_offer offer;
    pair_shake(p, 1);
    assert_int_equal(p->server.step, CS_TLS_CHOOSE);
    assert_int_equal(cs_tls_handshake(&p->server.tls, &p->server.in, &p->server.wire),
                     CS_TLS_CHOOSE); /* as often as one asks */
    cs_tls_offer(&p->server.tls, &offer);
    assert_string_equal(offer.name, "a.test");
    assert_int_equal(offer.alpn_len, 3);
    assert_memory_equal(offer.alpn, "\2h2", 3);
    assert_int_equal(offer.version_count, 2);
    assert_memory_equal(offer.versions, "\3\4\3\3", 4);
}

static void test_asked_choice(void **state)
{
    (void)state;
    const struct cs_tls_peer peer = {.host = "a.test", .alpn = "h2"};
    struct cs_tls_context *client = make_client(trust, (struct cs_tls_config){0});
    struct cs_tls_context *server = make_server(rsa, (struct cs_tls_config){.choose = true});
    struct cs_tls_context *second =
        make_server(other, (struct cs_tls_config){.max_version = "1.2", .alpn = "h2"});
    for (int way = 0; way < 5; way++) {
        struct pair p;
        size_t len;
        pair_open(&p, client, &peer, server);
        answer(&p);
        if (way == 4) { /* closed while it waits */
            pair_close(&p);
            continue;
        }
        p.server.step = CS_TLS_MORE;
        if (way == 3) {
            cs_tls_refuse(&p.server.tls, &p.server.wire);
            p.server.step = CS_ETLSHANDSHAKE;
        } else {
            cs_tls_choose(&p.server.tls, way == 2 ? second : NULL, way == 1 ? ec : NULL);
        }
        pair_shake(&p, 1);
        if (way == 3) {
            assert_int_equal(p.client.step, CS_ETLSALERT);
        } else {
            struct cs_cert *const expected[] = {rsa, ec, other};
            assert_int_equal(p.client.step, CS_TLS_DONE);
            if (!cs_tls_resumed(&p.client.tls)) {
                assert_ptr_equal(cs_tls_peer_cert(&p.client.tls, 0), cs_cert_at(expected[way], 0));
            }
            assert_string_equal(cs_tls_version(&p.client.tls), way == 2 ? "TLSv1.2" : "TLSv1.3");
            assert_int_equal(cs_tls_alpn(&p.client.tls, &len) != NULL, way == 2);
            talk(&p, SIZE_MAX);
        }
        pair_close(&p);
    }
    cs_tls_context_unref(client);
    cs_tls_context_unref(server);
    cs_tls_context_unref(second);
}

/* ---- resumption ---- */

static bool resumes(struct cs_tls_context *client, struct cs_tls_context *server)
{
    struct pair p;
    pair_open(&p, client, &to_a, server);
    pair_shake_well(&p, SIZE_MAX);
    talk(&p, SIZE_MAX);
    bool resumed = cs_tls_resumed(&p.server.tls);
    assert_int_equal(cs_tls_resumed(&p.client.tls), resumed);
    pair_close(&p);
    return resumed;
}

static void test_tickets(void **state)
{
    (void)state;
    uint8_t keys[2][CS_TLS_TICKET_KEY_SIZE];
    const struct cs_tls_config plain = {0}, none = {.no_tickets = true};
    struct cs_tls_context *server = make_server(ec, plain), *twin = make_server(ec, plain);
    struct cs_tls_context *different = make_server(rsa, plain), *without = make_server(ec, none);
    struct cs_tls_context *client = make_client(trust, plain), *fresh = make_client(trust, none);
    memset(keys, 1, sizeof(keys));
    memset(keys[1], 2, sizeof(keys[1]));
    assert_false(resumes(client, server));
    assert_true(resumes(client, server));
    assert_true(resumes(client, twin)); /* the next generation of scripts */
    assert_false(resumes(client, different));
    assert_false(resumes(client, server)); /* the newest session is that of `different` */
    assert_false(resumes(client, without));
    assert_false(resumes(fresh, server));
    assert_false(resumes(fresh, server));
    assert_true(resumes(client, server));
    cs_tls_tickets_set((const uint8_t(*)[CS_TLS_TICKET_KEY_SIZE])keys, 1);
    assert_false(resumes(client, server)); /* its key is gone */
    assert_true(resumes(client, server));
    cs_tls_tickets_set((const uint8_t(*)[CS_TLS_TICKET_KEY_SIZE])keys, 2);
    assert_true(resumes(client, server));
    cs_tls_tickets_set((const uint8_t(*)[CS_TLS_TICKET_KEY_SIZE]) & keys[1], 1);
    assert_false(resumes(client, server));
    cs_tls_tickets_set(NULL, 0);
    assert_false(resumes(client, server));
    struct cs_tls_context *all[] = {server, twin, different, without, client, fresh};
    for (size_t i = 0; i < CS_ARRAY_LEN(all); i++) {
        cs_tls_context_unref(all[i]);
    }
}

/* A session that began without a client certificate does not get round one. */
static void test_tickets_and_client_certificates(void **state)
{
    (void)state;
    struct pair p;
    struct cs_tls_context *open = make_server(ec, (struct cs_tls_config){0});
    struct cs_tls_context *closed =
        make_server(ec, (struct cs_tls_config){.ask = CS_TLS_ASK_REQUIRED, .store = trust});
    struct cs_tls_context *client = make_client(trust, (struct cs_tls_config){0});
    assert_false(resumes(client, open));
    pair_open(&p, client, &to_a, closed);
    pair_shake(&p, SIZE_MAX);
    shake(&p.server);
    assert_int_equal(p.server.step, CS_ETLSHANDSHAKE);
    pair_close(&p);
    cs_tls_context_unref(client);
    cs_tls_context_unref(open);
    cs_tls_context_unref(closed);
}

/* ---- records ---- */

struct joined {
    struct pair p;
    struct cs_tls_context *server, *client;
};

static void join(struct joined *j, const char *version)
{
    j->server = make_server(ec, (struct cs_tls_config){.max_version = version});
    j->client = make_client(trust, (struct cs_tls_config){0});
    pair_open(&j->p, j->client, &to_a, j->server);
    pair_shake_well(&j->p, SIZE_MAX);
}

static void part(struct joined *j)
{
    pair_close(&j->p);
    cs_tls_context_unref(j->client);
    cs_tls_context_unref(j->server);
}

static unsigned random_state = 1;

static unsigned draw(unsigned below)
{
    random_state = random_state * 1103515245u + 12345u;
    return (random_state >> 8) % below;
}

/* Slices of all sizes, records of all sizes: what comes out is what went in. */
static void try_cuts(const char *version)
{
    struct joined j;
    uint8_t *data = malloc(200000);
    assert_non_null(data);
    for (size_t i = 0; i < 200000; i++) {
        data[i] = (uint8_t)draw(256);
    }
    join(&j, version);
    for (int round = 0; round < 150; round++) {
        size_t total = 0;
        struct cs_chain all = {0};
        for (unsigned writes = 1 + draw(6); writes > 0; writes--) {
            struct cs_chain c = {0};
            size_t n = 1 + draw(draw(2) ? 200 : 30000);
            for (size_t at = 0; at < n;) { /* in slices of their own, to be gathered or not */
                size_t m = 1 + draw(draw(2) ? 3000 : 30000);
                m = CS_MIN(n - at, m);
                struct cs_slice *s = cs_slice_create(m);
                assert_non_null(s);
                memcpy(s->data, data + total + at, m);
                s->len = (uint32_t)m;
                s->room = 0;
                cs_chain_push(&c, s);
                at += m;
            }
            assert_int_equal(cs_tls_write(&j.p.client.tls, &c,
                                          CS_TLS_RECORD_MIN + draw(CS_TLS_RECORD_MAX - 511),
                                          &j.p.client.wire),
                             0);
            total += n;
        }
        while (cs_chain_len(&j.p.client.wire) > 0) {
            assert_int_equal(cs_chain_move(&all, &j.p.client.wire, 1 + draw(draw(2) ? 40 : 40000)),
                             0);
            carry(&all, &j.p.server.in, SIZE_MAX);
            assert_int_equal(cs_tls_read(&j.p.server.tls, &j.p.server.in, &j.p.server.plain,
                                         SIZE_MAX, &j.p.server.wire),
                             0);
        }
        assert_true(heard(&j.p.server, data, total));
        assert_int_equal(cs_chain_len(&j.p.server.in), 0);
    }
    part(&j);
    free(data);
}

static void test_cuts(void **state)
{
    (void)state;
    try_cuts("1.2");
    try_cuts("1.3");
}

/* A stream of several records, split into two slices at each byte. */
static void test_every_split(void **state)
{
    (void)state;
    char data[700];
    memset(data, 'x', sizeof(data));
    struct joined j;
    join(&j, "1.3");
    say(&j.p.server, "tickets first", 13);
    deliver(&j.p.server, &j.p.client, SIZE_MAX);
    cs_chain_clear(&j.p.client.plain);
    for (size_t at = 1; at < 800; at++) {
        say(&j.p.server, data, 300);
        say(&j.p.server, data + 300, 1);
        say(&j.p.server, data + 301, 399);
        struct cs_chain front = {0};
        assert_int_equal(cs_chain_move(&front, &j.p.server.wire, at), 0);
        carry(&front, &j.p.client.in, SIZE_MAX);
        carry(&j.p.server.wire, &j.p.client.in, SIZE_MAX);
        assert_int_equal(cs_tls_read(&j.p.client.tls, &j.p.client.in, &j.p.client.plain, SIZE_MAX,
                                     &j.p.client.wire),
                         0);
        assert_true(heard(&j.p.client, data, sizeof(data)));
    }
    part(&j);
}

static void test_read_limit(void **state)
{
    (void)state;
    struct joined j;
    char data[1000] = {0};
    join(&j, "1.3");
    for (int i = 0; i < 10; i++) {
        say(&j.p.client, data, sizeof(data));
        carry(&j.p.client.wire, &j.p.server.in, SIZE_MAX);
    }
    assert_int_equal(
        cs_tls_read(&j.p.server.tls, &j.p.server.in, &j.p.server.plain, 2500, &j.p.server.wire), 0);
    assert_int_equal(cs_chain_len(&j.p.server.plain), 3000);
    assert_true(cs_chain_len(&j.p.server.in) > 0);
    part(&j);
}

static void try_end(const char *version)
{
    struct joined j;
    join(&j, version);
    say(&j.p.client, "last", 4);
    assert_int_equal(cs_tls_end(&j.p.client.tls, &j.p.client.wire), 0);
    size_t sent = cs_chain_len(&j.p.client.wire);
    assert_int_equal(cs_tls_end(&j.p.client.tls, &j.p.client.wire), 0);
    assert_int_equal(cs_chain_len(&j.p.client.wire), sent); /* once */
    struct cs_chain more = {0};
    assert_int_equal(cs_chain_append(&more, "x", 1), 0);
    assert_int_equal(cs_tls_write(&j.p.client.tls, &more, 16384, &j.p.client.wire), CS_ECLOSED);
    assert_int_equal(cs_chain_len(&more), 0);
    deliver(&j.p.client, &j.p.server, SIZE_MAX);
    assert_int_equal(j.p.server.err, CS_EOF);
    assert_true(heard(&j.p.server, "last", 4));
    say(&j.p.server, "answer", 6); /* the other direction goes on */
    deliver(&j.p.server, &j.p.client, 1);
    assert_int_equal(j.p.client.err, 0);
    assert_true(heard(&j.p.client, "answer", 6));
    part(&j);
}

static void test_end(void **state)
{
    (void)state;
    try_end("1.2");
    try_end("1.3");
}

/* A bit of each byte of a record turned round: never accepted, never a crash. */
static void try_damage(const char *version)
{
    for (size_t at = 0; at < 40; at++) {
        struct joined j;
        uint8_t bytes[256];
        join(&j, version);
        cs_chain_clear(&j.p.server.wire); /* tickets */
        say(&j.p.client, "something", 9);
        size_t n = cs_chain_peek(&j.p.client.wire, bytes, sizeof(bytes));
        cs_chain_clear(&j.p.client.wire);
        if (at < n) {
            bytes[at] ^= 1;
            assert_int_equal(cs_chain_append(&j.p.server.in, bytes, n), 0);
            int err = cs_tls_read(&j.p.server.tls, &j.p.server.in, &j.p.server.plain, SIZE_MAX,
                                  &j.p.server.wire);
            /* A length that grew: it waits for the rest. */
            assert_true(err == CS_ETLSRECORD || (err == 0 && (at == 3 || at == 4)));
            assert_int_equal(cs_chain_len(&j.p.server.plain), 0);
            if (err < 0) {
                deliver(&j.p.server, &j.p.client, SIZE_MAX);
                assert_int_equal(j.p.client.err, CS_ETLSALERT);
            }
        }
        part(&j);
    }
}

static void test_damage(void **state)
{
    (void)state;
    try_damage("1.2");
    try_damage("1.3");
}

static void test_not_tls(void **state)
{
    (void)state;
    static const char nonsense[][32] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff_____",
                                        "\x80\x2e\x01\x00\x02__________________________"};
    struct cs_tls_context *server = make_server(ec, (struct cs_tls_config){0});
    for (size_t i = 0; i < CS_ARRAY_LEN(nonsense); i++) {
        struct end e = {0};
        assert_int_equal(cs_tls_start(&e.tls, server, NULL), 0);
        assert_int_equal(cs_chain_append(&e.in, nonsense[i], sizeof(nonsense[i])), 0);
        shake(&e);
        assert_int_equal(e.step, CS_ETLSHANDSHAKE);
        end_close(&e);
    }
    cs_tls_context_unref(server);
}

static void test_hosts(void **state)
{
    (void)state;
    struct cs_tls t;
    struct cs_tls_context *client = make_client(NULL, (struct cs_tls_config){0});
    char longest[300];
    memset(longest, 'a', sizeof(longest));
    longest[299] = '\0';
    assert_int_equal(cs_tls_start(&t, client, &(struct cs_tls_peer){.host = longest}), CS_EINVAL);
    assert_int_equal(cs_tls_start(&t, client, &(struct cs_tls_peer){.host = ""}), CS_EINVAL);
    assert_int_equal(cs_tls_start(&t, client, &(struct cs_tls_peer){.alpn = ","}), CS_EINVAL);
    assert_int_equal(cs_tls_start(&t, client, &(struct cs_tls_peer){.host = "::1"}), 0);
    assert_null(cs_tls_sni(&t));
    cs_tls_finish(&t);
    cs_tls_context_unref(client);
}

#ifdef CS_FAULTS
/* BoringSSL's allocations too: a certificate is whole or an error, never without its names. (Not
 * all of them leave the reason in its queue: some become "damaged".) */
static void test_no_memory_for_a_certificate(void **state)
{
    int64_t now = time(NULL);
    struct pems p = make_pems(CS_MAKE_EC_P256, "test", "www.example.com;IP:10.1.2.3", NULL,
                              now - 3600, now + 86400);
    bool failed = true;
    unsigned long nth = 1;
    (void)state;
    for (; failed; nth++) {
        struct cs_cert *c = NULL;
        struct cs_cert_error why;
        cs_mem_fail_nth(nth);
        int err = cs_cert_load(&c, text_of(&p.cert), text_of(&p.key), NULL, &why);
        struct cs_store *s = cs_store_create();
        int added = s ? cs_store_add(s, text_of(&p.cert), &why) : -ENOMEM;
        failed = cs_mem_failed();
        cs_mem_fail_nth(0);
        if (err == 0) {
            assert_int_equal(cs_cert_serves(c, "www.example.com"), 2);
        }
        assert_true(added == 1 || added < 0);
        cs_store_unref(s);
        cs_cert_unref(c);
    }
    assert_true(nth > 100);
    pems_free(&p);
}

/* Each allocation of ours fails once: an error or none, never a crash or a leak. */
static void test_no_memory(void **state)
{
    (void)state;
    struct cs_tls_context *server = make_server(ec, (struct cs_tls_config){.choose = true});
    struct cs_tls_context *client = make_client(trust, (struct cs_tls_config){.alpn = "h2"});
    bool failed = true;
    for (unsigned long nth = 1; failed; nth++) {
        struct pair p = {0};
        cs_mem_fail_nth(nth);
        if (cs_tls_start(&p.client.tls, client, &to_a) == 0) {
            if (cs_tls_start(&p.server.tls, server, NULL) == 0) {
                shake(&p.client);
                cs_chain_move_all(&p.server.in, &p.client.wire);
                shake(&p.server);
                if (p.server.step == CS_TLS_CHOOSE) {
                    cs_tls_choose(&p.server.tls, NULL, ec);
                    p.server.step = CS_TLS_MORE;
                    shake(&p.server);
                }
                cs_chain_move_all(&p.client.in, &p.server.wire);
                shake(&p.client);
                if (p.client.step == CS_TLS_DONE) {
                    struct cs_chain c = {0};
                    int err = cs_chain_append(&c, "x", 1);
                    err = err < 0 ? err : cs_tls_write(&p.client.tls, &c, 16384, &p.client.wire);
                    err = cs_tls_end(&p.client.tls, &p.client.wire);
                    (void)err;
                }
                end_close(&p.server);
            }
            end_close(&p.client);
        }
        failed = cs_mem_failed();
        cs_mem_fail_nth(0);
    }
    cs_tls_context_unref(server);
    cs_tls_context_unref(client);
}

/* A lack of memory is neither a wrong list nor a reason for other groups than the best. */
static void test_no_memory_for_a_context(void **state)
{
    (void)state;
    static const char *const groups[] = {NULL, "X25519:P-256", "P-1"};
    for (size_t i = 0; i < CS_ARRAY_LEN(groups); i++) {
        const struct cs_tls_config config = {.groups = groups[i], .keylog_fd = -1};
        struct cs_tls_context *c;
        const char *field;
        bool failed = true;
        for (unsigned long nth = 1; failed; nth++) {
            cs_mem_fail_nth(nth);
            int err = cs_tls_context_create(&c, &config, &field);
            failed = cs_mem_failed();
            cs_mem_fail_nth(0);
            if (err == 0) {
                cs_tls_context_unref(c);
            }
            int expected = i < 2 ? 0 : CS_EINVAL;
            assert_int_equal(err, failed ? -ENOMEM : expected);
        }
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_versions_apart),
        cmocka_unit_test(test_wrong_configuration),
        cmocka_unit_test(test_alpn),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_trust),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_asked_choice),
        cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_tickets_and_client_certificates),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_read_limit),
        cmocka_unit_test(test_end),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_not_tls),
        cmocka_unit_test(test_hosts),
#ifdef CS_FAULTS
        cmocka_unit_test(test_no_memory_for_a_certificate),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_no_memory_for_a_context),
#endif
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
