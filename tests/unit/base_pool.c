/*
 * base_pool - order, where objects go, and random use against an array. CS_SEED=n
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

static void test_owner(void **state)
{
    int owner;
    struct cs_pool *p = cs_pool_create(24, &owner);
    void *objects[2 * CS_POOL_CHUNK / 24];

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        objects[i] = cs_pool_alloc(p);
        assert_ptr_equal(cs_pool_owner(objects[i]), &owner);
    }
    assert_int_equal(cs_pool_count(p), CS_ARRAY_LEN(objects));
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        cs_pool_free(p, objects[i]);
    }
    assert_int_equal(cs_pool_count(p), 0);
    cs_pool_destroy(p);
    cs_pool_destroy(NULL);
}

/* The chunk of an object, to be compared. */
static uintptr_t chunk_of(const void *obj)
{
    return (uintptr_t)obj / CS_POOL_CHUNK;
}

static void test_sizes(void **state)
{
    static const size_t sizes[] = {1, 7, 8, 9, 64, 100, 128, 500, 4096, 8191, 8192};

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(sizes); i++) {
        struct cs_pool *p = cs_pool_create(sizes[i], NULL);
        uint8_t *objects[20];

        for (size_t round = 0; round < 2; round++) {
            for (size_t k = 0; k < 20; k++) {
                objects[k] = cs_pool_alloc(p);
                assert_non_null(objects[k]);
                assert_int_equal((uintptr_t)objects[k] % (sizes[i] % 64 == 0 ? 64 : 8), 0);
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
    struct cs_pool *p = cs_pool_create(BIG, NULL);
    void *objects[3 * PER_CHUNK];
    uintptr_t chunks[2];

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        objects[i] = cs_pool_alloc(p);
    }
    chunks[0] = chunk_of(objects[0]);
    chunks[1] = chunk_of(objects[PER_CHUNK]);
    assert_int_not_equal(chunks[0], chunks[1]);
    assert_int_equal(chunk_of(objects[PER_CHUNK - 1]), chunks[0]);
    /* Five places free in chunk 0, one in chunk 1: that is filled first. */
    for (size_t i = 0; i < 5; i++) {
        cs_pool_free(p, objects[i]);
    }
    cs_pool_free(p, objects[PER_CHUNK]);
    objects[PER_CHUNK] = cs_pool_alloc(p);
    assert_int_equal(chunk_of(objects[PER_CHUNK]), chunks[1]);
    objects[4] = cs_pool_alloc(p);
    assert_int_equal(chunk_of(objects[4]), chunks[0]);
    for (size_t i = 4; i < CS_ARRAY_LEN(objects); i++) {
        cs_pool_free(p, objects[i]);
    }
    cs_pool_destroy(p);
}

static void test_next(void **state)
{
    struct cs_pool *p = cs_pool_create(BIG, NULL);
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
    size_t place; /* of the model */
    uint8_t fill[500];
};

#define MODEL_MAX 3000

static struct object *model[MODEL_MAX];
static uint64_t model_id[MODEL_MAX];
static size_t model_len;

static void model_add(struct cs_pool *p, uint64_t id)
{
    struct object *o = cs_pool_alloc(p);

    assert_non_null(o);
    assert_int_equal(o->id, 0);
    assert_int_equal(o->fill[rnd(sizeof(o->fill))], 0);
    o->id = id;
    memset(o->fill, (int)(id & 0xff), sizeof(o->fill));
    model[model_len] = o;
    model_id[model_len++] = id;
}

static void model_remove(struct cs_pool *p, size_t i)
{
    assert_int_equal(model[i]->fill[rnd(500)], model_id[i] & 0xff);
    cs_pool_free(p, model[i]);
    model_len--;
    model[i] = model[model_len];
    model_id[i] = model_id[model_len];
}

/* A walk meets each object once. */
static void model_check(const struct cs_pool *p)
{
    static bool met[MODEL_MAX];
    size_t count = 0;

    assert_int_equal(cs_pool_count(p), model_len);
    for (size_t i = 0; i < model_len; i++) {
        assert_int_equal(model[i]->id, model_id[i]);
        model[i]->place = i;
        met[i] = false;
    }
    for (struct object *o = cs_pool_next(p, NULL); o != NULL; o = cs_pool_next(p, o)) {
        assert_ptr_equal(model[o->place], o);
        assert_false(met[o->place]);
        met[o->place] = true;
        count++;
    }
    assert_int_equal(count, model_len);
}

static void test_model(void **state)
{
    struct cs_pool *p = cs_pool_create(sizeof(struct object), NULL);
    uint64_t id = 0;

    (void)state;
    model_len = 0;
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
    assert_null(cs_pool_create(8, NULL));
    cs_mem_fail_nth(0);
}

/* Fails each allocation of growing to 100 chunks in turn; nothing may be lost or change. */
static void test_alloc_fails(void **state)
{
    struct cs_pool *p = cs_pool_create(BIG, NULL);
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
        i++;
    }
    cs_mem_fail_nth(0);
    assert_int_equal(failures, 100); /* one for each chunk */
    for (size_t i = 0; i < CS_ARRAY_LEN(objects); i++) {
        cs_pool_free(p, objects[i]);
    }
    cs_pool_destroy(p);
}

/* One empty chunk stays: what comes and goes does not allocate. The others were given back. */
static void test_keeps_one_chunk(void **state)
{
    struct cs_pool *p = cs_pool_create(BIG, NULL);
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
    cs_pool_trim(p); /* none */
    cs_mem_fail_nth(1);
    assert_null(cs_pool_alloc(p));
    cs_mem_fail_nth(0);
    cs_pool_destroy(p);
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owner),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_fullest_first),
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
