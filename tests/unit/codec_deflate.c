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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_smaller),
    };
    rng_start(20261122);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
