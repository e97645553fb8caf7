/*
 * codec_ws_deflate - messages made small and large again, cut anywhere, with and without takeover;
 * what other senders may do; damage. CS_SEED=n repeats another run than the usual one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/ws_deflate.h"
#include "support/rng.h"

#define MESSAGE_MAX 100000

/* Text that repeats itself, or noise. */
static size_t draw_message(uint8_t *out)
{
    size_t n = rnd(4) == 0 ? rnd(MESSAGE_MAX) + 1 : rnd(300) + 1;
    bool noise = rnd(3) == 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)(noise || i < 20 || rnd(50) == 0 ? rnd(256) : out[i - 17]);
    }
    return n;
}

static void chain_of(struct cs_chain *c, const uint8_t *data, size_t n)
{
    cs_chain_init(c);
    while (n > 0) {
        size_t part = rnd((uint32_t)n) + 1;
        struct cs_slice *s = cs_slice_create(part);
        assert_non_null(s);
        memcpy(s->data, data, part);
        s->len = (uint32_t)part;
        s->room -= (uint32_t)part;
        cs_chain_push(c, s);
        data += part;
        n -= part;
    }
}

/* One message large again, given in pieces, at most `max` bytes at a time. 0 or an error. */
static int inflate_all(struct cs_ws_deflate *d, struct cs_chain *small, size_t max,
                       struct cs_chain *out)
{
    size_t used;
    int got = 0;
    while (cs_chain_len(small) > 0 || got == 1) {
        const struct cs_slice *s = cs_chain_first(small);
        size_t before = cs_chain_len(out), n = s ? rnd(s->len) + 1 : 0;
        got = cs_ws_inflate(d, s ? s->data : NULL, n, max, &used, out);
        assert_true(used <= n);
        assert_true(cs_chain_len(out) - before <= max);
        if (got < 0) {
            return got;
        }
        cs_chain_drop(small, used);
    }
    do {
        got = cs_ws_inflate_end(d, max, out);
    } while (got == 1);
    return got;
}

static void same(const struct cs_chain *c, const uint8_t *data, size_t n)
{
    static uint8_t got[MESSAGE_MAX];
    assert_int_equal(cs_chain_len(c), n);
    cs_chain_peek(c, got, n);
    assert_memory_equal(got, data, n);
}

static void round_trips(bool send_takeover, bool receive_takeover)
{
    static uint8_t data[MESSAGE_MAX];
    uint8_t bits = (uint8_t)(CS_WS_BITS_MIN + rnd(CS_WS_BITS_MAX - CS_WS_BITS_MIN + 1));
    const struct cs_ws_deflate_options o = {.send_takeover = send_takeover,
                                            .receive_takeover = receive_takeover,
                                            .send_bits = bits,
                                            .receive_bits = bits};
    struct cs_ws_deflate *a = cs_ws_deflate_create(&o), *b = cs_ws_deflate_create(&o);
    assert_non_null(a);
    assert_non_null(b);
    for (unsigned i = 0; i < 30; i++) {
        struct cs_chain in, small = {0}, out = {0};
        size_t n = draw_message(data), behind = rnd(10);
        chain_of(&in, data, n);
        assert_int_equal(cs_chain_append(&in, "0123456789", behind), 0);
        assert_int_equal(cs_ws_deflate_message(a, &in, n, &small), 0);
        assert_int_equal(cs_chain_len(&in), behind);
        assert_int_equal(inflate_all(b, &small, rnd(20000) + 1, &out), 0);
        same(&out, data, n);
        cs_chain_clear(&in);
        cs_chain_clear(&out);
    }
    cs_ws_deflate_destroy(a);
    cs_ws_deflate_destroy(b);
}

static void test_round_trips(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        round_trips(false, false);
        round_trips(true, true);
        round_trips(false, true); /* remembers more than it has to */
    }
}

/* RFC 7692 7.2.3: the examples there, all of which are "Hello". */
static void test_examples(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } all[] = {
        {"\xf2\x48\xcd\xc9\xc9\x07\x00", 7},                  /* 7.2.3.1 */
        {"\xf2\x00\x11\x00\x00", 5},                          /* 7.2.3.2, with the one before */
        {"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11}, /* 7.2.3.3: not compressed */
        {"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8},              /* 7.2.3.4: a last block */
        {"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13}, /* 7.2.3.5: two blocks */
    };
    (void)state;
    const struct cs_ws_deflate_options o = {
        .receive_takeover = true, .send_bits = CS_WS_BITS_MAX, .receive_bits = CS_WS_BITS_MAX};
    struct cs_ws_deflate *d = cs_ws_deflate_create(&o);
    assert_non_null(d);
    for (size_t i = 0; i < CS_ARRAY_LEN(all); i++) {
        struct cs_chain small, out = {0};
        chain_of(&small, (const uint8_t *)all[i].bytes, all[i].len);
        assert_int_equal(inflate_all(d, &small, SIZE_MAX, &out), 0);
        same(&out, (const uint8_t *)"Hello", 5);
        cs_chain_clear(&out);
    }
    cs_ws_deflate_destroy(d);
}

/* Any bytes end in an error or a message, and take no more memory than they were allowed. */
static void test_damage(void **state)
{
    static uint8_t data[MESSAGE_MAX];
    (void)state;
    unsigned refused = 0;
    for (unsigned i = 0; i < 2000; i++) {
        const struct cs_ws_deflate_options o = {.send_bits = CS_WS_BITS_MAX,
                                                .receive_bits = CS_WS_BITS_MAX};
        struct cs_ws_deflate *d = cs_ws_deflate_create(&o);
        struct cs_chain in, small = {0}, out = {0};
        assert_non_null(d);
        size_t n = CS_MIN(draw_message(data), (size_t)2000);
        chain_of(&in, data, n);
        assert_int_equal(cs_ws_deflate_message(d, &in, n, &small), 0);
        size_t len = cs_chain_len(&small);
        cs_chain_peek(&small, data, len);
        cs_chain_clear(&small);
        for (unsigned k = 0; k <= rnd(4); k++) {
            data[rnd((uint32_t)len)] ^= (uint8_t)(1u << rnd(8));
        }
        chain_of(&small, data, rnd((uint32_t)len) + 1);
        int got = inflate_all(d, &small, 4096, &out);
        assert_true(got == 0 || got == -EBADMSG);
        refused += got < 0;
        cs_chain_clear(&small);
        cs_chain_clear(&out);
        cs_ws_deflate_destroy(d);
    }
    assert_true(refused > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_damage),
    };
    rng_start(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
