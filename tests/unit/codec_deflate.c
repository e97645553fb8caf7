/*
 * codec_deflate - what was made smaller is the same again, in both formats, whatever it is.
 * CS_SEED=n chooses the data.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/mem.h"
#include "codec/deflate.h"
#include "support/rng.h"

#define SIZE_MOST 200000

/* What a peer makes of it; the number of its bytes. */
static size_t inflated(uint8_t *to, const void *data, size_t len, bool wrapped)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data,
                  .avail_in = (unsigned)len,
                  .next_out = to,
                  .avail_out = SIZE_MOST};

    assert_int_equal(inflateInit2(&z, wrapped ? MAX_WBITS : -MAX_WBITS), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    size_t n = z.total_out;
    inflateEnd(&z);
    return n;
}

static void round_trip(const uint8_t *data, size_t len, bool wrapped)
{
    uint8_t *small = malloc(cs_deflate_bound(len)), *back = malloc(SIZE_MOST + 1);
    size_t size;

    assert_int_equal(cs_deflate(small, &size, data, len, wrapped), 0);
    assert_true(size <= cs_deflate_bound(len));
    assert_int_equal(inflated(back, small, size, wrapped), len);
    assert_memory_equal(back, data, len);
    free(back);
    free(small);
}

static void test_round_trip(void **state)
{
    uint8_t *data = malloc(SIZE_MOST);

    (void)state;
    for (int run = 0; run < 60; run++) {
        size_t len = run < 3 ? (size_t)run : rnd(SIZE_MOST);
        bool noise = rnd(2) == 0;

        for (size_t i = 0; i < len; i++) {
            data[i] = (uint8_t)(noise || i < 20 || rnd(50) == 0 ? rnd(256) : data[i - 17]);
        }
        round_trip(data, len, run % 2 == 0);
    }
    free(data);
}

static void test_smaller(void **state)
{
    uint8_t *text = malloc(SIZE_MOST), *small = malloc(cs_deflate_bound(SIZE_MOST));
    size_t size;

    (void)state;
    memset(text, 'a', SIZE_MOST);
    assert_int_equal(cs_deflate(small, &size, text, SIZE_MOST, false), 0);
    assert_true(size < 1000);
    free(small);
    free(text);
}

/* In pieces of any size, into pieces of any size. */
static void test_inflate(void **state)
{
    uint8_t *data = malloc(SIZE_MOST), *small = malloc(cs_deflate_bound(SIZE_MOST)),
            *back = malloc(SIZE_MOST + 1);

    (void)state;
    for (int run = 0; run < 40; run++) {
        size_t len = run < 3 ? (size_t)run : rnd(SIZE_MOST), size, n = 0;
        bool wrapped = run % 2 == 0;
        int got = 0;

        for (size_t i = 0; i < len; i++) {
            data[i] = (uint8_t)(i < 20 || rnd(50) == 0 ? rnd(256) : data[i - 17]);
        }
        assert_int_equal(cs_deflate(small, &size, data, len, wrapped), 0);
        struct cs_inflate *f = cs_inflate_create(wrapped);
        const void *at = small;

        assert_non_null(f);
        for (size_t left = size; got == 0;) {
            size_t part = CS_MIN(left, (size_t)rnd(5000)), rest = part,
                   room = CS_MIN(rnd(9000), SIZE_MOST + 1 - n);

            got = cs_inflate(f, &at, &rest, back + n, &room);
            left -= part - rest;
            n += room;
        }
        assert_int_equal(got, 1);
        assert_int_equal(n, len);
        assert_memory_equal(back, data, len);
        size_t room = 1, more = 1;

        at = small;
        assert_int_equal(cs_inflate(f, &at, &more, back, &room), 1);
        assert_int_equal(room, 0);
        assert_int_equal(more, 1);
        cs_inflate_destroy(f);
    }
    cs_inflate_destroy(NULL);
    free(back);
    free(small);
    free(data);
}

static void test_damage(void **state)
{
    uint8_t noise[300], out[1000];

    (void)state;
    for (int run = 0; run < 5000; run++) {
        struct cs_inflate *f = cs_inflate_create(run % 2 == 0);
        const void *at = noise;
        size_t left = sizeof(noise), room;
        int got;

        for (size_t i = 0; i < sizeof(noise); i++) {
            noise[i] = (uint8_t)rnd(256);
        }
        assert_non_null(f);
        do {
            room = sizeof(out);
            got = cs_inflate(f, &at, &left, out, &room);
            assert_true(room <= sizeof(out));
        } while (got == 0 && (left > 0 || room == sizeof(out)));
        assert_true(got == 0 || got == 1 || got == -EPROTO);
        cs_inflate_destroy(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_smaller),
        cmocka_unit_test(test_inflate),
        cmocka_unit_test(test_damage),
    };
    rng_start(20261122);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
