/*
 * base_pool - references, order, where objects go, and random use against an array. CS_SEED=n
 * repeats another run than the usual one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/pool.h"
#include "support/rng.h"

static int setup(void **state)
{
    (void)state;
    rng_start(20261122);
    print_message("CS_SEED=%llu\n", (unsigned long long)rng);
    return 0;
}

static void test_references(void **state)
{
    struct cs_pool *p = cs_pool_create(24);
    struct cs_ref none = {0, 0}, ref_a, ref_b;
    void *a, *b;

    (void)state;
    assert_non_null(p);
    assert_null(cs_pool_get(p, none));
    assert_null(cs_pool_get(p, (struct cs_ref){0, 1}));
    assert_null(cs_pool_get(p, (struct cs_ref){UINT32_MAX, 1}));
    a = cs_pool_alloc(p);
    assert_non_null(a);
    ref_a = cs_pool_ref(a);
    assert_int_not_equal(ref_a.gen, 0);
    assert_ptr_equal(cs_pool_get(p, ref_a), a);
    assert_null(cs_pool_get(p, (struct cs_ref){ref_a.slot, ref_a.gen + 1}));
    assert_null(cs_pool_get(p, (struct cs_ref){ref_a.slot, 0}));
    assert_null(cs_pool_get(p, (struct cs_ref){ref_a.slot + 1, ref_a.gen}));
    assert_int_equal(cs_pool_count(p), 1);
    cs_pool_free(p, a);
    assert_null(cs_pool_get(p, ref_a));
    assert_int_equal(cs_pool_count(p), 0);
    /* The same place, another generation. */
    b = cs_pool_alloc(p);
    assert_ptr_equal(a, b);
    ref_b = cs_pool_ref(b);
    assert_int_equal(ref_a.slot, ref_b.slot);
    assert_int_not_equal(ref_a.gen, ref_b.gen);
    assert_null(cs_pool_get(p, ref_a));
    assert_ptr_equal(cs_pool_get(p, ref_b), b);
    cs_pool_free(p, b);
    cs_pool_destroy(p);
    cs_pool_destroy(NULL);
}

static void test_sizes(void **state)
{
    static const size_t sizes[] = {1, 7, 8, 9, 100, 500, 4096, 16380, 32768, 65535, 65536};

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(sizes); i++) {
        struct cs_pool *p = cs_pool_create(sizes[i]);
        uint8_t *objects[20];

        for (size_t round = 0; round < 2; round++) {
            for (size_t k = 0; k < 20; k++) {
                objects[k] = cs_pool_alloc(p);
                assert_non_null(objects[k]);
                assert_int_equal((uintptr_t)objects[k] % 8, 0);
                for (size_t byte = 0; byte < sizes[i]; byte++) {
                    assert_true(objects[k][byte] == 0);
                }
                memset(objects[k], 0xff, sizes[i]);
            }
            for (size_t k = 0; k < 20; k++) {
                cs_pool_free(p, objects[k]);
            }
        }
        cs_pool_destroy(p);
    }
}

/* Objects of 4096 bytes: fifteen in a chunk. */
#define BIG 4096
#define PER_CHUNK 15

static void test_fullest_first(void **state)
{
    struct cs_pool *p = cs_pool_create(BIG);
    void *objects[3 * PER_CHUNK];
    struct cs_ref free_in_0, free_in_1;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        objects[i] = cs_pool_alloc(p);
        assert_int_equal(cs_pool_ref(objects[i]).slot, i);
    }
    /* Five places free in chunk 0, one in chunk 1: that is filled first. */
    for (size_t i = 0; i < 5; i++) {
        free_in_0 = cs_pool_ref(objects[i]);
        cs_pool_free(p, objects[i]);
    }
    free_in_1 = cs_pool_ref(objects[PER_CHUNK]);
    cs_pool_free(p, objects[PER_CHUNK]);
    objects[PER_CHUNK] = cs_pool_alloc(p);
    assert_int_equal(cs_pool_ref(objects[PER_CHUNK]).slot, free_in_1.slot);
    objects[4] = cs_pool_alloc(p);
    assert_int_equal(cs_pool_ref(objects[4]).slot, free_in_0.slot);
    for (size_t i = 4; i < CS_ARRAY_LEN(objects); i++) {
        cs_pool_free(p, objects[i]);
    }
    cs_pool_destroy(p);
}

/* Slots and places of the table are used again, also when chunks in the middle were freed. */
static void test_slots_stay_dense(void **state)
{
    struct cs_pool *p = cs_pool_create(BIG);
    void *objects[40 * PER_CHUNK];
    struct cs_ref stale;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        objects[i] = cs_pool_alloc(p);
    }
    stale = cs_pool_ref(objects[10 * PER_CHUNK]);
    for (size_t i = 5 * PER_CHUNK; i < 30 * PER_CHUNK; i++) {
        cs_pool_free(p, objects[i]);
    }
    assert_null(cs_pool_get(p, stale));
    for (size_t i = 5 * PER_CHUNK; i < 30 * PER_CHUNK; i++) {
        objects[i] = cs_pool_alloc(p);
        assert_in_range(cs_pool_ref(objects[i]).slot, 5 * PER_CHUNK, 30 * PER_CHUNK - 1);
        assert_null(cs_pool_get(p, stale));
    }
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        cs_pool_free(p, objects[i]);
    }
    cs_pool_destroy(p);
}

static void test_next(void **state)
{
    struct cs_pool *p = cs_pool_create(BIG);
    void *objects[5 * PER_CHUNK], *it = NULL;

    (void)state;
    assert_null(cs_pool_next(p, NULL));
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        objects[i] = cs_pool_alloc(p);
    }
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        it = cs_pool_next(p, it);
        assert_ptr_equal(it, objects[i]);
    }
    assert_null(cs_pool_next(p, it));
    /* Leave 3, 20 and the last; two chunks are gone or empty between them. */
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        if (i != 3 && i != 20 && i != CS_ARRAY_LEN(objects) - 1) {
            cs_pool_free(p, objects[i]);
        }
    }
    assert_ptr_equal(cs_pool_next(p, NULL), objects[3]);
    assert_ptr_equal(cs_pool_next(p, objects[3]), objects[20]);
    /* Freeing others between two calls, as a walk that closes connections does. */
    cs_pool_free(p, objects[3]);
    it = cs_pool_next(p, objects[20]);
    assert_ptr_equal(it, objects[CS_ARRAY_LEN(objects) - 1]);
    cs_pool_free(p, objects[20]);
    assert_null(cs_pool_next(p, it));
    cs_pool_free(p, it);
    assert_null(cs_pool_next(p, NULL));
    cs_pool_destroy(p);
}

struct object {
    uint64_t id;
    uint8_t fill[500];
};

#define MODEL_MAX 3000

static struct object *model[MODEL_MAX];
static struct cs_ref model_ref[MODEL_MAX], stale_ref[MODEL_MAX];
static uint64_t model_id[MODEL_MAX];
static size_t model_len, stale_len;

static void model_add(struct cs_pool *p, uint64_t id)
{
    struct object *o = cs_pool_alloc(p);

    assert_non_null(o);
    assert_int_equal(o->id, 0);
    assert_int_equal(o->fill[rnd(sizeof(o->fill))], 0);
    o->id = id;
    memset(o->fill, (int)(id & 0xff), sizeof(o->fill));
    model[model_len] = o;
    model_ref[model_len] = cs_pool_ref(o);
    model_id[model_len++] = id;
}

static void model_remove(struct cs_pool *p, size_t i)
{
    assert_int_equal(model[i]->fill[rnd(500)], model_id[i] & 0xff);
    stale_ref[stale_len++ % MODEL_MAX] = model_ref[i];
    cs_pool_free(p, model[i]);
    model_len--;
    model[i] = model[model_len];
    model_ref[i] = model_ref[model_len];
    model_id[i] = model_id[model_len];
}

static void model_check(const struct cs_pool *p)
{
    size_t count = 0;
    uint32_t slot = 0;

    assert_int_equal(cs_pool_count(p), model_len);
    for (size_t i = 0; i < model_len; i++) {
        assert_ptr_equal(cs_pool_get(p, model_ref[i]), model[i]);
        assert_int_equal(model[i]->id, model_id[i]);
    }
    for (size_t i = 0; i < CS_MIN(stale_len, MODEL_MAX); i++) {
        assert_null(cs_pool_get(p, stale_ref[i]));
    }
    for (void *o = cs_pool_next(p, NULL); o != NULL; o = cs_pool_next(p, o)) {
        struct cs_ref ref = cs_pool_ref(o);

        assert_true(count == 0 || ref.slot > slot);
        assert_ptr_equal(cs_pool_get(p, ref), o);
        slot = ref.slot;
        count++;
    }
    assert_int_equal(count, model_len);
}

static void test_model(void **state)
{
    struct cs_pool *p = cs_pool_create(sizeof(struct object));
    uint64_t id = 0;

    (void)state;
    model_len = stale_len = 0;
    for (unsigned phase = 0; phase < 40; phase++) {
        /* Waves: mostly growing, then mostly shrinking, sometimes to nothing. */
        uint32_t add_percent = phase % 2 == 0 ? 50 + rnd(50) : rnd(50);

        for (unsigned step = rnd(3000); step > 0; step--) {
            if (rnd(100) < add_percent && model_len < MODEL_MAX) {
                model_add(p, ++id);
            } else if (model_len > 0) {
                model_remove(p, rnd((uint32_t)model_len));
            }
        }
        model_check(p);
    }
    while (model_len > 0) {
        model_remove(p, rnd((uint32_t)model_len));
    }
    model_check(p);
    cs_pool_destroy(p);
}

#ifdef CS_FAULTS

static void test_create_fails(void **state)
{
    (void)state;
    cs_mem_fail_nth(1);
    assert_null(cs_pool_create(8));
    cs_mem_fail_nth(0);
}

/* Fails each allocation of growing to 100 chunks in turn; nothing may be lost or change. */
static void test_alloc_fails(void **state)
{
    struct cs_pool *p = cs_pool_create(BIG);
    void *objects[100 * PER_CHUNK];
    unsigned failures = 0;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(objects);) {
        for (unsigned nth = 1;; nth++) {
            cs_mem_fail_nth(nth);
            objects[i] = cs_pool_alloc(p);
            if (objects[i] != NULL) {
                break;
            }
            assert_true(cs_mem_failed());
            assert_int_equal(cs_pool_count(p), i);
            failures++;
        }
        assert_int_equal(cs_pool_ref(objects[i]).slot, i);
        i++;
    }
    cs_mem_fail_nth(0);
    /* One for each chunk, and for the table at 0, 16, 32 and 64 chunks. */
    assert_int_equal(failures, 100 + 4);
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        cs_pool_free(p, objects[i]);
    }
    cs_pool_destroy(p);
}

/* One empty chunk stays: what comes and goes does not allocate. The others were given back. */
static void test_keeps_one_chunk(void **state)
{
    struct cs_pool *p = cs_pool_create(BIG);
    void *objects[4 * PER_CHUNK];

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        objects[i] = cs_pool_alloc(p);
    }
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        cs_pool_free(p, objects[i]);
    }
    cs_mem_fail_nth(1);
    for (size_t i = 0; i < PER_CHUNK; i++) {
        objects[i] = cs_pool_alloc(p);
        assert_non_null(objects[i]);
    }
    assert_false(cs_mem_failed());
    assert_null(cs_pool_alloc(p));
    assert_true(cs_mem_failed());
    cs_mem_fail_nth(0);
    for (size_t i = 0; i < PER_CHUNK; i++) {
        cs_pool_free(p, objects[i]);
    }
    cs_pool_destroy(p);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_fullest_first),
        cmocka_unit_test(test_slots_stay_dense),
        cmocka_unit_test(test_next),
        cmocka_unit_test_setup(test_model, setup),
#ifdef CS_FAULTS
        cmocka_unit_test(test_create_fails),
        cmocka_unit_test(test_alloc_fails),
        cmocka_unit_test(test_keeps_one_chunk),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
