/*
 * codec_ws - frames of every length class written and read back, cut at every byte; everything that
 * must be refused; random streams and random damage. CS_SEED=n repeats another run than the usual
 * one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/ws.h"
#include "codec/ws_frame.h"
#include "support/rng.h"

/* ---- streams of frames ---- */

struct bytes {
    uint8_t *data;
    size_t len, room;
};

static void put(struct bytes *b, const void *data, size_t len)
{
    if (b->len + len > b->room) {
        b->room = 2 * (b->len + len);
        b->data = realloc(b->data, b->room);
        assert_non_null(b->data);
    }
    if (len > 0) {
        memcpy(b->data + b->len, data, len);
    }
    b->len += len;
}

static void put_frame(struct bytes *b, enum cs_ws_role reader, enum cs_ws_op op, bool fin,
                      bool deflated, const void *payload, size_t len)
{
    uint8_t header[CS_WS_HEADER_MAX], mask[4];
    for (unsigned i = 0; i < 4; i++) {
        mask[i] = (uint8_t)rnd(256);
    }
    put(b, header,
        cs_ws_header(header, op, fin, deflated, len, reader == CS_WS_SERVER ? mask : NULL));
    size_t at = b->len;
    put(b, payload, len);
    if (reader == CS_WS_SERVER && len > 0) {
        size_t part = rnd((uint32_t)len + 1); /* a mask can be put on in pieces */
        cs_ws_mask(b->data + at, part, mask, 0);
        cs_ws_mask(b->data + at + part, len - part, mask, part);
    }
}

/* ---- what a reader makes of them ---- */

struct told {
    struct bytes text; /* a line an event, pieces of one frame joined */
    uint64_t at;       /* where the next piece of the frame must begin */
    int err;
    uint16_t code;
    bool at_rest;
};

static void say(struct told *t, const char *s)
{
    put(&t->text, s, strlen(s));
}

static void on_data(struct told *t, const struct cs_ws_part *p)
{
    char line[96];
    assert_int_equal(p->at, t->at);
    assert_true(p->op == CS_WS_TEXT || p->op == CS_WS_BINARY);
    if (p->at == 0) {
        snprintf(line, sizeof(line), "data %u %llu%s: ", p->op, (unsigned long long)p->frame,
                 p->deflated ? " z" : "");
        say(t, line);
    }
    put(&t->text, p->data, p->len);
    t->at += p->len;
    assert_true(t->at <= p->frame);
    if (t->at == p->frame) {
        say(t, p->last ? " last\n" : "\n");
        t->at = 0;
    } else {
        assert_false(p->last);
        assert_true(p->len > 0);
    }
}

static void on_control(struct told *t, const struct cs_ws_part *p)
{
    char line[64];
    assert_true(p->len <= CS_WS_CONTROL_MAX);
    snprintf(line, sizeof(line), "control %u: ", p->op);
    say(t, line);
    put(&t->text, p->data, p->len);
    say(t, "\n");
}

/* piece 0: all at once */
static struct told read_all(const struct cs_ws_options *o, const uint8_t *data, size_t len,
                            size_t piece)
{
    struct told t = {0};
    struct cs_ws w;
    cs_ws_init(&w, o);
    for (size_t at = 0, n; at < len && t.err == 0; at += n) {
        n = piece == 0 ? len : piece;
        n = n < len - at ? n : len - at;
        uint8_t *copy = malloc(n); /* its own, so that ASan sees a byte too far */
        assert_non_null(copy);
        memcpy(copy, data + at, n);
        size_t used = 0;
        int got;
        do {
            struct cs_ws_part p;
            got = cs_ws_next(&w, copy + used, n - used, &p);
            used += p.used;
            assert_true(used <= n);
            if (got == CS_WS_DATA) {
                on_data(&t, &p);
            } else if (got == CS_WS_CONTROL) {
                on_control(&t, &p);
            } else if (got < 0) {
                t.err = got;
                t.code = w.code;
                assert_non_null(w.why);
            }
        } while (got > CS_WS_MORE);
        assert_true(got < 0 || used == n);
        free(copy);
    }
    t.at_rest = cs_ws_at_rest(&w);
    cs_ws_drop(&w);
    put(&t.text, "", 1);
    return t;
}

static const struct cs_ws_options server = {
    .role = CS_WS_SERVER, .frame_max = 1 << 20, .check_text = true};
static const struct cs_ws_options client = {
    .role = CS_WS_CLIENT, .frame_max = 1 << 20, .check_text = true};

/* ---- good frames ---- */

static void test_lengths(void **state)
{
    static const size_t lengths[] = {0,   1,   2,    3,     4,     5,     31,    32,    33,
                                     63,  64,  124,  125,   126,   127,   128,   129,   255,
                                     256, 257, 1000, 65534, 65535, 65536, 65537, 200000};
    (void)state;
    uint8_t *payload = malloc(200000);
    assert_non_null(payload);
    for (size_t i = 0; i < 200000; i++) {
        payload[i] = (uint8_t)(i * 7 + i / 251);
    }
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        for (unsigned role = 0; role < 2; role++) {
            static const size_t pieces[] = {0, 1, 2, 3, 7, 4096};
            struct bytes b = {0}, want = {0};
            size_t len = lengths[i];
            char line[64];
            put_frame(&b, role, CS_WS_BINARY, true, false, payload, len);
            put_frame(&b, role, CS_WS_PING, true, false, "p", 1);
            snprintf(line, sizeof(line), "data 2 %zu: ", len);
            put(&want, line, strlen(line));
            put(&want, payload, len);
            put(&want, " last\ncontrol 9: p\n", 20);
            for (size_t k = 0; k < sizeof(pieces) / sizeof(pieces[0]); k++) {
                struct told t = read_all(role ? &client : &server, b.data, b.len, pieces[k]);
                assert_int_equal(t.err, 0);
                assert_true(t.at_rest);
                assert_int_equal(t.text.len, want.len);
                assert_memory_equal(t.text.data, want.data, want.len);
                free(t.text.data);
            }
            free(b.data);
            free(want.data);
        }
    }
    free(payload);
}

static void test_shortest_header(void **state)
{
    static const struct {
        uint64_t len;
        unsigned header;
    } cases[] = {{0, 2}, {125, 2}, {126, 4}, {65535, 4}, {65536, 10}, {INT64_MAX, 10}};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t h[CS_WS_HEADER_MAX];
        assert_int_equal(cs_ws_header(h, CS_WS_TEXT, true, false, cases[i].len, NULL),
                         cases[i].header);
        assert_int_equal(
            cs_ws_header(h, CS_WS_TEXT, true, false, cases[i].len, (const uint8_t *)"abcd"),
            cases[i].header + 4);
    }
}

static void test_fragments(void **state)
{
    (void)state;
    struct bytes b = {0};
    put_frame(&b, CS_WS_SERVER, CS_WS_TEXT, false, false, "a\xc3", 2);
    put_frame(&b, CS_WS_SERVER, CS_WS_PING, true, false, "hi", 2);
    put_frame(&b, CS_WS_SERVER, CS_WS_CONTINUATION, false, false, "", 0);
    put_frame(&b, CS_WS_SERVER, CS_WS_CONTINUATION, true, false, "\xa4z", 2);
    put_frame(&b, CS_WS_SERVER, CS_WS_BINARY, true, false, "\xff", 1);
    put_frame(&b, CS_WS_SERVER, CS_WS_CLOSE, true, false, "\x03\xe8", 2);
    for (size_t piece = 0; piece < 9; piece++) {
        struct told t = read_all(&server, b.data, b.len, piece);
        assert_int_equal(t.err, 0);
        assert_string_equal((char *)t.text.data,
                            "data 1 2: a\xc3\ncontrol 9: hi\ndata 1 0: \ndata 1 2: \xa4z last\n"
                            "data 2 1: \xff last\ncontrol 8: \x03\xe8\n");
        free(t.text.data);
    }
    free(b.data);
}

static void test_compressed(void **state)
{
    struct cs_ws_options o = server;
    (void)state;
    struct bytes b = {0};
    put_frame(&b, CS_WS_SERVER, CS_WS_TEXT, false, true, "\xff", 1); /* no UTF-8 before inflating */
    put_frame(&b, CS_WS_SERVER, CS_WS_CONTINUATION, true, false, "\xff", 1);
    put_frame(&b, CS_WS_SERVER, CS_WS_TEXT, true, false, "a", 1);
    o.compressed = true;
    struct told t = read_all(&o, b.data, b.len, 1);
    assert_int_equal(t.err, 0);
    assert_string_equal((char *)t.text.data,
                        "data 1 1 z: \xff\ndata 1 1 z: \xff last\ndata 1 1: a last\n");
    free(t.text.data);
    t = read_all(&server, b.data, b.len, 1);
    assert_int_equal(t.code, 1002);
    free(t.text.data);
    free(b.data);
}

static void test_at_rest(void **state)
{
    (void)state;
    struct bytes b = {0};
    put_frame(&b, CS_WS_CLIENT, CS_WS_BINARY, false, false, "ab", 2);
    put_frame(&b, CS_WS_CLIENT, CS_WS_CONTINUATION, true, false, "", 0);
    for (size_t n = 0; n <= b.len; n++) {
        struct told t = read_all(&client, b.data, n, 0);
        assert_int_equal(t.at_rest, n == 0 || n == b.len);
        free(t.text.data);
    }
    free(b.data);
}

/* ---- what must be refused ---- */

#define MASK "\x01\x02\x03\x04"
#define BAD(role, code, bytes)                                                                     \
    {                                                                                              \
        &(role), code, bytes, sizeof(bytes) - 1                                                    \
    }

static const struct bad {
    const struct cs_ws_options *options;
    uint16_t code;
    const char *bytes;
    size_t len;
} bads[] = {
    BAD(client, 1002, "\x83\x00"), /* opcodes */
    BAD(client, 1002, "\x87\x00"),
    BAD(client, 1002, "\x8b\x00"),
    BAD(client, 1002, "\x8f\x00"),
    BAD(client, 1002, "\xc1\x00"), /* reserved bits */
    BAD(client, 1002, "\xa1\x00"),
    BAD(client, 1002, "\x91\x00"),
    BAD(client, 1002, "\xc9\x00"),
    BAD(client, 1002, "\x81\x80" MASK), /* masks */
    BAD(server, 1002, "\x81\x00"),
    BAD(server, 1002, "\x89\x00"),
    BAD(client, 1002, "\x09\x00"), /* control frames */
    BAD(client, 1002, "\x08\x00"),
    BAD(client, 1002, "\x89\x7e\x00\x7e"),
    BAD(client, 1002, "\x80\x00"), /* continuations */
    BAD(client, 1002, "\x01\x00\x81\x00"),
    BAD(client, 1002, "\x01\x00\x02\x00"),
    BAD(client, 1002, "\x81\x00\x80\x00"),
    BAD(client, 1002, "\x82\x7e\x00\x7d"), /* lengths */
    BAD(client, 1002, "\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff"),
    BAD(client, 1002, "\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00"),
    BAD(client, 1009, "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"),
    BAD(client, 1009, "\x82\x7f\x00\x00\x00\x00\x00\x10\x00\x01"),
    BAD(client, 1007, "\x81\x01\xff"), /* text */
    BAD(client, 1007, "\x81\x01\xc3"),
    BAD(client, 1007, "\x01\x01\xc3\x80\x00"),
    BAD(client, 1007, "\x01\x01\xc3\x00\x01x"),
    BAD(client, 1007, "\x81\x03\xed\xa0\x80"),
    BAD(client, 1007, "\x81\x7e\x10\x00\xff"), /* as soon as it shows */
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        for (size_t piece = 0; piece < 4; piece++) {
            const struct bad *b = &bads[i];
            struct told t = read_all(b->options, (const uint8_t *)b->bytes, b->len, piece);
            if (t.err != -EBADMSG || t.code != b->code) {
                fail_msg("case %zu: %d %u instead of %u", i, t.err, t.code, b->code);
            }
            free(t.text.data);
        }
    }
}

static void test_nothing_after_an_error(void **state)
{
    (void)state;
    struct cs_ws w;
    struct cs_ws_part p;
    uint8_t bad[] = {0x83, 0x00}, good[] = {0x82, 0x00};
    cs_ws_init(&w, &client);
    assert_int_equal(cs_ws_next(&w, bad, 2, &p), -EBADMSG);
    assert_int_equal(cs_ws_next(&w, good, 2, &p), -EBADMSG);
    assert_int_equal(w.code, 1002);
}

static void test_limit(void **state)
{
    struct cs_ws_options o = client;
    (void)state;
    o.frame_max = 65535;
    for (unsigned over = 0; over < 2; over++) {
        uint8_t h[CS_WS_HEADER_MAX];
        unsigned n = cs_ws_header(h, CS_WS_BINARY, true, false, 65535 + over, NULL);
        struct told t = read_all(&o, h, n, 1);
        assert_int_equal(t.code, over ? 1009 : 0);
        free(t.text.data);
    }
}

static void test_close_codes(void **state)
{
    (void)state;
    for (unsigned code = 0; code < 6000; code++) {
        uint8_t p[] = {(uint8_t)(code >> 8), (uint8_t)code, 'o', 'k'};
        bool good = (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) ||
                    (code >= 3000 && code <= 4999);
        assert_int_equal(cs_ws_close_code(p, 2), good ? (int)code : -EBADMSG);
        assert_int_equal(cs_ws_close_code(p, 4), good ? (int)code : -EBADMSG);
    }
    assert_int_equal(cs_ws_close_code((const uint8_t *)"", 0), 1005);
    assert_int_equal(cs_ws_close_code((const uint8_t *)"\x03", 1), -EBADMSG);
    assert_int_equal(cs_ws_close_code((const uint8_t *)"\x03\xe8\xc3", 3), -EBADMSG);
    assert_int_equal(cs_ws_close_code((const uint8_t *)"\x03\xe8\xc3\xa4", 4), 1000);
}

/* ---- random ---- */

static void random_stream(struct bytes *b, enum cs_ws_role role)
{
    uint8_t payload[400];
    bool open = false;
    for (unsigned n = rnd(8) + 1; n > 0; n--) {
        bool text = rnd(2), control = rnd(4) == 0, fin = rnd(2);
        size_t len = rnd(control ? 126 : sizeof(payload));
        for (size_t i = 0; i < len; i++) {
            payload[i] = (uint8_t)rnd(text ? 128 : 256);
        }
        if (control) {
            put_frame(b, role, rnd(2) ? CS_WS_PING : CS_WS_PONG, true, false, payload, len);
        } else {
            memset(payload, 'x', open ? len : 0); /* what is continued may be text */
            put_frame(b, role,
                      open   ? CS_WS_CONTINUATION
                      : text ? CS_WS_TEXT
                             : CS_WS_BINARY,
                      fin, false, payload, len);
            open = !fin;
        }
    }
}

static void test_random(void **state)
{
    (void)state;
    const char *rounds_text = getenv("CS_FUZZ");
    unsigned long rounds = rounds_text ? strtoul(rounds_text, NULL, 10) : 20000;
    unsigned refused = 0;
    for (unsigned long i = 0; i < rounds; i++) {
        enum cs_ws_role role = rnd(2);
        const struct cs_ws_options *o = role == CS_WS_SERVER ? &server : &client;
        struct bytes b = {0};
        random_stream(&b, role);
        bool damaged = rnd(2);
        if (damaged) {
            for (unsigned n = rnd(3) + 1; n > 0; n--) {
                b.data[rnd((uint32_t)b.len)] = (uint8_t)rnd(256);
            }
        }
        struct told whole = read_all(o, b.data, b.len, 0);
        struct told cut = read_all(o, b.data, b.len, 1 + rnd(40));
        assert_int_equal(whole.err, cut.err);
        assert_int_equal(whole.code, cut.code);
        assert_true(damaged || whole.err == 0);
        if (whole.err == 0) { /* otherwise a frame may have been told in part */
            assert_int_equal(whole.text.len, cut.text.len);
            assert_memory_equal(whole.text.data, cut.text.data, whole.text.len);
        }
        refused += whole.err < 0;
        free(whole.text.data);
        free(cut.text.data);
        free(b.data);
    }
    assert_true(refused > rounds / 100);
}

/* Frames out of chains are those that a reader understands, and the mask changes. */
static void test_frames_of_chains(void **state)
{
    static uint8_t payload[70000], wire[70020], masks[2][4];
    (void)state;
    for (unsigned i = 0; i < 400; i++) {
        enum cs_ws_role role = rnd(2) ? CS_WS_CLIENT : CS_WS_SERVER;
        const struct cs_ws_options options = {.role = role == CS_WS_CLIENT ? CS_WS_SERVER
                                                                           : CS_WS_CLIENT,
                                              .frame_max = sizeof(payload)};
        size_t n = rnd(i % 4 ? 5000 : sizeof(payload)), behind = rnd(100), at = 0;
        struct cs_chain data = {0}, out = {0};
        for (size_t k = 0; k < n; k++) {
            payload[k] = (uint8_t)rnd(256);
        }
        while (at < n) {
            size_t part = rnd((uint32_t)(n - at)) + 1;
            struct cs_slice *s = cs_slice_create(part);
            assert_non_null(s);
            memcpy(s->data, payload + at, part);
            s->len = (uint32_t)part;
            s->room = 0;
            cs_chain_push(&data, s);
            at += part;
        }
        assert_int_equal(cs_chain_append(&data, payload, behind), 0);
        assert_int_equal(cs_ws_frame_add(&out, role, CS_WS_TEXT, false, &data, n), 0);
        assert_int_equal(cs_chain_len(&data), behind);
        size_t len = cs_chain_peek(&out, wire, sizeof(wire));
        struct cs_ws w;
        struct cs_ws_part part;
        cs_ws_init(&w, &options);
        assert_int_equal(cs_ws_next(&w, wire, len, &part), CS_WS_DATA);
        assert_int_equal(part.used, len);
        assert_int_equal(part.len, n);
        assert_int_equal(part.op, CS_WS_TEXT);
        assert_true(part.last);
        assert_memory_equal(part.data, payload, n);
        memcpy(masks[i % 2], w.mask, 4);
        assert_true(role == CS_WS_SERVER || i == 0 || memcmp(masks[0], masks[1], 4) != 0);
        cs_chain_clear(&data);
        cs_chain_clear(&out);
    }
}

int main(void)
{
    rng_start(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_of_chains),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_shortest_header),
        cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_compressed),
        cmocka_unit_test(test_at_rest),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_nothing_after_an_error),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_close_codes),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
