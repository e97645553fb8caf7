/*
 * base_slab - contents over every size, where objects go, blocks given back, want of memory, and
 * random use against a shadow. CS_SEED=n repeats another run than the usual one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/slab.h"
#include "support/rng.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#define BLOCK 65536
#define SIZES 2000

static int setup(void **state)
{
    (void)state;
    rng_start(20261122);
    print_message("CS_SEED=%llu\n", (unsigned long long)rng);
    return 0;
}

/* An object and what the test knows about it. */
struct object {
    uint8_t *p;
    size_t size;
    uint8_t seed;
};

static uint8_t byte_at(const struct object *o, size_t i)
{
    return (uint8_t)(o->seed + i * 7);
}

static void fill(struct object *o)
{
    o->seed = (uint8_t)rnd(256);
    for (size_t i = 0; i < o->size; i++) {
        o->p[i] = byte_at(o, i);
    }
}

static void check(const struct object *o, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (o->p[i] != byte_at(o, i)) {
            fail_msg("byte %zu of %zu is wrong", i, o->size);
        }
    }
}

/* Resizes and compares; false when there was no memory, with the object as it was. */
static bool resize(struct cs_slab *s, struct object *o, size_t size)
{
    uint8_t *p = cs_slab_resize(s, o->p, o->size, size);

    if (p == NULL && size != 0) {
        check(o, o->size);
        return false;
    }
    o->p = p;
    if (p != NULL) {
        assert_int_equal((uintptr_t)p % (size >= 16 ? 16 : 1), 0);
        check(o, CS_MIN(o->size, size));
    }
    o->size = size;
    if (p != NULL) {
        fill(o);
    }
    return true;
}

static void release(struct cs_slab *s, struct object *objects, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        check(&objects[i], objects[i].size);
        assert_true(resize(s, &objects[i], 0));
    }
}

static void test_every_size(void **state)
{
    static struct object objects[SIZES];
    struct cs_slab *s = cs_slab_create();

    (void)state;
    assert_non_null(s);
    assert_null(cs_slab_resize(s, NULL, 0, 0));
    for (size_t i = 0; i < SIZES; i++) {
        objects[i] = (struct object){0};
        assert_true(resize(s, &objects[i], i + 1));
    }
    for (size_t i = 0; i < SIZES; i++) { /* every size becomes its opposite */
        check(&objects[i], i + 1);
        assert_true(resize(s, &objects[i], SIZES - i));
    }
    release(s, objects, SIZES);
    assert_int_equal(cs_slab_blocks(s), (1024 - 128) / 16); /* one of each size stays */
    cs_slab_trim(s);
    assert_int_equal(cs_slab_blocks(s), 0);
    cs_slab_destroy(s);
    cs_slab_destroy(NULL);
}

/* Sizes of one class change in place; the next size up moves. */
static void test_class_edges(void **state)
{
    struct cs_slab *s = cs_slab_create();

    (void)state;
    for (size_t low = 129; low < 1024; low += 16) {
        uint8_t *p = cs_slab_resize(s, NULL, 0, low);
        uint8_t *next = cs_slab_resize(s, NULL, 0, low);

        assert_int_equal(next - p, low + 15); /* no header, nothing lost */
        assert_ptr_equal(cs_slab_resize(s, p, low, low + 15), p);
        assert_ptr_equal(cs_slab_resize(s, p, low + 15, low), p);
        p = cs_slab_resize(s, p, low, low + 16);
        assert_non_null(p);
        assert_ptr_not_equal(p, next);
        assert_null(cs_slab_resize(s, p, low + 16, 0));
        assert_null(cs_slab_resize(s, next, low, 0));
    }
    cs_slab_destroy(s);
}

/* Other sizes need no block. */
static void test_other_sizes(void **state)
{
    static const size_t sizes[] = {1, 64, 128, 1025, 5000};
    struct cs_slab *s = cs_slab_create();
    struct object o = {0};

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(sizes); i++) {
        assert_true(resize(s, &o, sizes[i]));
    }
    assert_int_equal(cs_slab_blocks(s), 0);
    assert_true(resize(s, &o, 0));
    cs_slab_destroy(s);
}

#define BIG 1024
#define PER_BLOCK 63 /* of BIG */

static uintptr_t block_of(const struct object *o)
{
    return (uintptr_t)o->p / BLOCK;
}

static void test_fullest_first(void **state)
{
    struct cs_slab *s = cs_slab_create();
    struct object objects[3 * PER_BLOCK] = {{0}}, more = {0};
    uintptr_t second;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        assert_true(resize(s, &objects[i], BIG));
    }
    assert_int_equal(cs_slab_blocks(s), 3);
    /* The first block half empty, then one place free in the second: that is filled first. */
    for (size_t i = 0; i < PER_BLOCK / 2; i++) {
        assert_true(resize(s, &objects[i], 0));
    }
    second = block_of(&objects[PER_BLOCK]);
    assert_true(resize(s, &objects[PER_BLOCK], 0));
    assert_true(resize(s, &objects[PER_BLOCK], BIG));
    assert_int_equal(block_of(&objects[PER_BLOCK]), second);
    assert_true(resize(s, &more, BIG));
    assert_int_equal(block_of(&more), block_of(&objects[PER_BLOCK - 1]));
    release(s, objects, CS_ARRAY_LEN(objects));
    release(s, &more, 1);
    cs_slab_destroy(s);
}

/* One empty block of a size stays until the slab is trimmed. */
static void test_blocks_given_back(void **state)
{
    struct cs_slab *s = cs_slab_create();
    static struct object objects[20 * PER_BLOCK];

    (void)state;
    memset(objects, 0, sizeof(objects));
    for (size_t round = 0; round < 3; round++) {
        size_t size = round % 2 == 0 ? BIG : BIG / 2;
        size_t per = round % 2 == 0 ? PER_BLOCK : 127;

        for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
            assert_true(resize(s, &objects[i], size));
        }
        assert_int_equal(cs_slab_blocks(s), (CS_ARRAY_LEN(objects) + per - 1) / per);
        for (size_t left = CS_ARRAY_LEN(objects); left > 0; left--) {
            assert_true(cs_slab_blocks(s) <= (left + per - 1) / per + 1);
            assert_true(resize(s, &objects[left - 1], 0));
        }
        assert_int_equal(cs_slab_blocks(s), 1);
        cs_slab_trim(s);
        assert_int_equal(cs_slab_blocks(s), 0);
    }
    cs_slab_destroy(s);
}

static size_t resident_pages(void *block)
{
    unsigned char pages[BLOCK] = {0};
    size_t page = (size_t)sysconf(_SC_PAGESIZE), found = 0;

    assert_int_equal(mincore(block, BLOCK, pages), 0);
    for (size_t i = 0; i < BLOCK / page; i++) {
        found += pages[i] & 1;
    }
    return found;
}

/* Trimming gives back what lies behind the last object, and that is used again from its beginning.
 */
static void test_pages_given_back(void **state)
{
    struct cs_slab *s = cs_slab_create();
    struct object objects[PER_BLOCK] = {{0}};
    void *block;
    uint8_t *fourth;

    (void)state;
    for (size_t i = 0; i < PER_BLOCK; i++) {
        assert_true(resize(s, &objects[i], BIG));
    }
    block = (void *)(block_of(&objects[0]) * BLOCK);
    fourth = objects[3].p;
    for (size_t i = 0; i < PER_BLOCK; i++) {
        if (i != 0 && i != 2) {
            assert_true(resize(s, &objects[i], 0));
        }
    }
    assert_true(resident_pages(block) > 1);
    cs_slab_trim(s);
    assert_int_equal(resident_pages(block), 1);
    assert_true(resize(s, &objects[1], BIG)); /* between the two */
    assert_ptr_equal(objects[1].p, objects[0].p + BIG);
    assert_true(resize(s, &objects[3], BIG));
    assert_ptr_equal(objects[3].p, fourth);
    for (size_t i = 4; i < PER_BLOCK; i++) {
        assert_true(resize(s, &objects[i], BIG));
    }
    assert_int_equal(cs_slab_blocks(s), 1);
    cs_slab_trim(s); /* nothing to do in a full one */
    release(s, objects, PER_BLOCK);
    cs_slab_destroy(s);
}

/* Destroying frees what lives in blocks; LeakSanitizer looks. */
static void test_destroy_full(void **state)
{
    struct cs_slab *s = cs_slab_create();

    (void)state;
    for (size_t i = 0; i < 1000; i++) {
        assert_non_null(cs_slab_resize(s, NULL, 0, 129 + i % 896));
    }
    cs_slab_destroy(s);
}

#ifdef __SANITIZE_ADDRESS__

static void test_poisoned(void **state)
{
    struct cs_slab *s = cs_slab_create();
    uint8_t *p = cs_slab_resize(s, NULL, 0, 720);
    uint8_t *other = cs_slab_resize(s, NULL, 0, 720);

    (void)state;
    assert_null(__asan_region_is_poisoned(p, 720));
    assert_ptr_equal(__asan_region_is_poisoned(other, 721), other + 720);
    assert_null(cs_slab_resize(s, p, 720, 0));
    assert_ptr_equal(__asan_region_is_poisoned(p, 720), p);
    assert_null(__asan_region_is_poisoned(other, 720));
    assert_ptr_equal(cs_slab_resize(s, NULL, 0, 715), p);
    assert_null(__asan_region_is_poisoned(p, 715));
    cs_slab_destroy(s);
}

#endif

#define MODEL_MAX 3000

static struct object model[MODEL_MAX];
static size_t model_len;

static size_t model_size(void)
{
    static const size_t usual[] = {144, 208, 720, 128, 129, 1024, 1025};

    return rnd(2) == 0 ? usual[rnd(CS_ARRAY_LEN(usual))] : 1 + rnd(SIZES);
}

/* True unless memory was wanted and refused. Shrinking is never refused. */
static bool model_step(struct cs_slab *s, uint32_t add_percent)
{
    uint32_t dice = rnd(100);
    struct object *o;
    size_t size;

    if (dice < add_percent && model_len < MODEL_MAX) {
        o = &model[model_len];
        *o = (struct object){0};
        if (!resize(s, o, model_size())) {
            return false;
        }
        model_len++;
    } else if (model_len > 0) {
        o = &model[rnd((uint32_t)model_len)];
        size = dice % 2 == 0 ? 0 : model_size();
        if (!resize(s, o, size)) {
            assert_true(size > o->size);
            return false;
        }
        if (size == 0) {
            *o = model[--model_len];
        }
    }
    return true;
}

static void model_end(struct cs_slab *s)
{
    release(s, model, model_len);
    model_len = 0;
    cs_slab_trim(s);
    assert_int_equal(cs_slab_blocks(s), 0);
    cs_slab_destroy(s);
}

static void test_model(void **state)
{
    struct cs_slab *s = cs_slab_create();

    (void)state;
    for (unsigned phase = 0; phase < 30; phase++) {
        /* Waves: mostly growing, then mostly shrinking, sometimes to nothing. */
        uint32_t add_percent = phase % 2 == 0 ? 50 + rnd(50) : rnd(40);

        for (unsigned step = rnd(5000); step > 0; step--) {
            assert_true(model_step(s, add_percent));
        }
        cs_slab_trim(s);
    }
    model_end(s);
}

#ifdef CS_FAULTS

static void test_create_fails(void **state)
{
    (void)state;
    cs_mem_fail_nth(1);
    assert_null(cs_slab_create());
    cs_mem_fail_nth(0);
}

/* The object, and the block for it, of each size that lies in blocks; and one that does not. */
static void test_take_fails(void **state)
{
    static const size_t sizes[] = {100, 129, 720, 1024, 2000};

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(sizes); i++) {
        struct cs_slab *s = cs_slab_create();
        struct object o = {0};
        unsigned long n = 1;

        for (;; n++) {
            cs_mem_fail_nth(n);
            if (resize(s, &o, sizes[i])) {
                break;
            }
            assert_true(cs_mem_failed());
            assert_int_equal(cs_slab_blocks(s), 0);
        }
        cs_mem_fail_nth(0);
        assert_int_equal(n, cs_slab_blocks(s) > 0 ? 3 : 2);
        /* A free object at hand counts as an allocation too. */
        cs_mem_fail_nth(1);
        assert_false(resize(s, &(struct object){0}, sizes[i]));
        cs_mem_fail_nth(0);
        release(s, &o, 1);
        cs_slab_destroy(s);
    }
}

/* From each kind of place to each smaller one with no memory for the move, and on from there. */
static void test_shrink_stays(void **state)
{
    static const size_t sizes[] = {1500, 1025, 1024, 720, 208, 129, 128, 16};

    (void)state;
    for (size_t from = 0; from < CS_ARRAY_LEN(sizes); from++) {
        for (size_t to = from; to < CS_ARRAY_LEN(sizes); to++) {
            for (size_t then = 0; then <= CS_ARRAY_LEN(sizes); then++) {
                struct cs_slab *s = cs_slab_create();
                struct object o = {0}, other = {0};

                assert_true(resize(s, &o, sizes[from]));
                cs_mem_fail_nth(1);
                assert_true(resize(s, &o, sizes[to]));
                cs_mem_fail_nth(0);
                assert_true(resize(s, &other, sizes[to]));
                if (then < CS_ARRAY_LEN(sizes)) {
                    assert_true(resize(s, &o, sizes[then]));
                }
                release(s, &other, 1);
                release(s, &o, 1);
                cs_slab_trim(s);
                assert_int_equal(cs_slab_blocks(s), 0);
                cs_slab_destroy(s);
            }
        }
    }
}

/* With strays about and refusals all the time. */
static void test_model_fails(void **state)
{
    struct cs_slab *s = cs_slab_create();
    unsigned refused = 0;

    (void)state;
    for (unsigned phase = 0; phase < 30; phase++) {
        uint32_t add_percent = phase % 2 == 0 ? 60 + rnd(30) : rnd(40);

        for (unsigned step = rnd(2000); step > 0; step--) {
            cs_mem_fail_nth(rnd(3));
            refused += model_step(s, add_percent) ? 0 : 1;
        }
    }
    cs_mem_fail_nth(0);
    assert_true(refused > 1000);
    model_end(s);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_every_size, setup),
        cmocka_unit_test(test_class_edges),
        cmocka_unit_test(test_other_sizes),
        cmocka_unit_test(test_fullest_first),
        cmocka_unit_test(test_blocks_given_back),
        cmocka_unit_test(test_pages_given_back),
        cmocka_unit_test(test_destroy_full),
#ifdef __SANITIZE_ADDRESS__
        cmocka_unit_test(test_poisoned),
#endif
        cmocka_unit_test_setup(test_model, setup),
#ifdef CS_FAULTS
        cmocka_unit_test(test_create_fails),
        cmocka_unit_test(test_take_fails),
        cmocka_unit_test(test_shrink_stays),
        cmocka_unit_test_setup(test_model_fails, setup),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
