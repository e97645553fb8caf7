/*
 * codec_tls_fuzz - a session against bytes that nobody would send: flights of real handshakes with
 * bytes changed, cut, doubled, moved; records of any type and size; after the handshake too. It may
 * refuse, it must neither crash nor accept what was changed, and ends in bounded work.
 */
#include "unit/tls_support.h"

#define ROUNDS 1500

static uint64_t seed;

static unsigned draw(unsigned below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(seed >> 33) % below;
}

static struct cs_tls_context *servers[3], *client;

static int setup(void **state)
{
    int64_t now = time(NULL);
    struct pems ca = make_pems(CS_MAKE_EC_P256, "CA", NULL, NULL, now - 3600, now + 86400);
    struct cs_cert *cert = make_cert(CS_MAKE_EC_P256, "a.test", &ca);
    struct cs_store *store = make_store(&ca);
    (void)state;
    servers[0] = make_server(cert, (struct cs_tls_config){.alpn = "h2,x"});
    servers[1] = make_server(cert, (struct cs_tls_config){.max_version = "1.2"});
    servers[2] =
        make_server(cert, (struct cs_tls_config){.ask = CS_TLS_ASK_OPTIONAL, .store = store});
    client = make_client(store, (struct cs_tls_config){0});
    assert_int_equal(cs_tls_context_add_cert(client, cert), 0);
    cs_cert_unref(cert);
    cs_store_unref(store);
    pems_free(&ca);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(servers); i++) {
        cs_tls_context_unref(servers[i]);
    }
    cs_tls_context_unref(client);
    return 0;
}

/* Changes the bytes in one of many ways; returns their new number, at most `room`. */
static size_t mutate(uint8_t *bytes, size_t n, size_t room)
{
    size_t at = n ? draw((unsigned)n) : 0, m = 1 + draw(64);
    m = CS_MIN(m, n - at);
    switch (draw(7)) {
    case 0: /* a bit */
        if (n) {
            bytes[at] ^= (uint8_t)(1u << draw(8));
        }
        return n;
    case 1: /* a byte of the first record's head, or a length inside */
        if (n) {
            bytes[draw((unsigned)CS_MIN(n, (size_t)48))] = (uint8_t)draw(256);
        }
        return n;
    case 2: /* an end too soon */
        return at;
    case 3: /* a piece left out */
        memmove(bytes + at, bytes + at + m, n - at - m);
        return n - m;
    case 4: /* a piece twice */
        m = CS_MIN(m, room - n);
        memmove(bytes + at + m, bytes + at, n - at);
        return n + m;
    case 5: /* noise */
        for (size_t i = 0; i < m; i++) {
            bytes[at + i] = (uint8_t)draw(256);
        }
        return n;
    default: /* a record of any type in front */
        m = 5 + draw(40);
        if (m > room - n) {
            return n;
        }
        memmove(bytes + m, bytes, n);
        for (size_t i = 5; i < m; i++) {
            bytes[i] = (uint8_t)draw(256);
        }
        memcpy(bytes, (uint8_t[]){(uint8_t)(20 + draw(5)), 3, 3, 0, (uint8_t)(m - 5)}, 5);
        return n + m;
    }
}

/* Carries the bytes on, changed, in pieces of any size. True when they were changed. */
static bool carry_changed(struct cs_chain *wire, struct cs_chain *in, bool change)
{
    static uint8_t bytes[65536], before[65536];
    size_t n = cs_chain_peek(wire, bytes, sizeof(bytes) / 2), was = n;
    cs_chain_clear(wire);
    memcpy(before, bytes, n);
    for (unsigned times = change ? 1 + draw(3) : 0; times > 0; times--) {
        n = mutate(bytes, n, sizeof(bytes));
    }
    for (size_t at = 0; at < n;) {
        size_t piece = 1 + draw(draw(2) ? 20 : 20000);
        piece = CS_MIN(piece, n - at);
        struct cs_slice *s = cs_slice_create(piece);
        assert_non_null(s);
        memcpy(s->data, bytes + at, piece);
        s->len = (uint32_t)piece;
        s->room -= (uint32_t)piece;
        cs_chain_push(in, s);
        at += piece;
    }
    return n != was || memcmp(bytes, before, n) != 0;
}

static void read_all(struct end *e)
{
    if (e->step == CS_TLS_DONE && e->err == 0) {
        e->err = cs_tls_read(&e->tls, &e->in, &e->plain, SIZE_MAX, &e->wire);
    }
}

/* One conversation; the flight with that number is changed. */
static void fuzz(uint64_t start)
{
    static const char text[] = "something that is said in both directions";
    struct pair p;
    bool changed = false;
    seed = start;
    unsigned turn = draw(6), saying = 0;
    pair_open(&p, client, &(struct cs_tls_peer){.host = "a.test", .alpn = draw(2) ? "h2" : NULL},
              servers[draw(3)]);
    for (unsigned i = 0; i < 8; i++) {
        struct end *from = i % 2 ? &p.server : &p.client, *to = i % 2 ? &p.client : &p.server;
        shake(from);
        read_all(from);
        if (from->step == CS_TLS_DONE && from->err == 0 && saying++ < 4) {
            say(from, text, sizeof(text));
        }
        changed = carry_changed(&from->wire, &to->in, i == turn) || changed;
        shake(to);
        read_all(to);
    }
    if (changed) { /* what arrives is what was said, or nothing */
        struct end *ends[] = {&p.client, &p.server};
        for (unsigned i = 0; i < 2; i++) {
            char got[sizeof(text)];
            for (size_t n; (n = cs_chain_peek(&ends[i]->plain, got, sizeof(got))) > 0;) {
                assert_memory_equal(got, text, n);
                cs_chain_drop(&ends[i]->plain, n);
            }
        }
    }
    pair_close(&p);
}

static void test_fuzz(void **state)
{
    const char *only = getenv("FUZZ_SEED");
    (void)state;
    if (only) {
        fuzz(strtoull(only, NULL, 10));
        return;
    }
    uint64_t first = (uint64_t)time(NULL) * ROUNDS;
    print_message("FUZZ_SEED from %llu\n", (unsigned long long)first);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        fuzz(first + i);
    }
}

/* Nothing but noise, from the first byte on. */
static void test_noise(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct end e = {0};
        uint8_t bytes[300];
        seed = i;
        assert_int_equal(cs_tls_start(&e.tls, servers[i % 3], NULL), 0);
        for (unsigned k = 0; k < 4; k++) {
            for (size_t b = 0; b < sizeof(bytes); b++) {
                bytes[b] = (uint8_t)draw(256);
            }
            if (draw(2)) {
                memcpy(bytes, (uint8_t[]){22, 3, 1, 0, (uint8_t)draw(256), 1, 0, 0}, 8);
            }
            assert_int_equal(cs_chain_append(&e.in, bytes, 1 + draw(sizeof(bytes))), 0);
            shake(&e);
        }
        assert_int_not_equal(e.step, CS_TLS_DONE);
        end_close(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fuzz),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
