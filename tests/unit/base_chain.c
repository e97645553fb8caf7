/*
 * base_chain - each operation, and random use against flat byte buffers, with allocations failing.
 * CS_SEED=n repeats another run than the usual one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/chain.h"
#include "base/mem.h"
#include "support/rng.h"

/* ---- a ring that lends buffers ---- */

struct lent {
    struct cs_slice slice;
    uint8_t bytes[]; /* a malloc of its own, so that ASan sees a byte too far */
};

static unsigned lent_out; /* not yet given back */

static void lent_release(struct cs_slice *s)
{
    assert_true(lent_out > 0);
    lent_out--;
    free(s);
}

static struct cs_slice *lend(const void *data, size_t len)
{
    struct lent *l = malloc(sizeof(*l) + len);

    assert_non_null(l);
    memset(&l->slice, 0, sizeof(l->slice));
    memcpy(l->bytes, data, len);
    l->slice.data = l->bytes;
    l->slice.len = (uint32_t)len;
    l->slice.release = lent_release;
    /* Left over from the slice's last chain: push must not trust it. */
    l->slice.next = (struct cs_slice *)(uintptr_t)8;
    lent_out++;
    return &l->slice;
}

/* ---- what must hold for every chain ---- */

static unsigned slice_count(const struct cs_chain *c)
{
    unsigned count = 0;

    for (const struct cs_slice *s = cs_chain_first(c); s != NULL; s = cs_chain_next(c, s)) {
        count++;
    }
    return count;
}

static unsigned lent_count(const struct cs_chain *c)
{
    unsigned count = 0;

    for (const struct cs_slice *s = cs_chain_first(c); s != NULL; s = cs_chain_next(c, s)) {
        count += cs_slice_is_lent(s);
    }
    return count;
}

/* The chain is in order and holds exactly these bytes. */
static void check(const struct cs_chain *c, const uint8_t *bytes, size_t len)
{
    const struct cs_slice *last = NULL;
    size_t at = 0;

    assert_int_equal(cs_chain_len(c), len);
    for (const struct cs_slice *s = cs_chain_first(c); s != NULL; s = cs_chain_next(c, s)) {
        assert_true(s->len > 0);
        assert_true(s->release == NULL || s->room == 0);
        assert_true(at + s->len <= len);
        assert_memory_equal(s->data, bytes + at, s->len);
        at += s->len;
        last = s;
    }
    assert_int_equal(at, len);
    assert_ptr_equal(c->last, last);
}

static uint8_t pattern[300000];

static int setup(void **state)
{
    (void)state;
    rng_start(20261122);
    print_message("CS_SEED=%llu\n", (unsigned long long)rng);
    for (size_t i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (uint8_t)rnd(256);
    }
    lent_out = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
#ifdef CS_FAULTS
    cs_mem_fail_nth(0);
#endif
    return lent_out == 0 ? 0 : -1;
}

static void must_append(struct cs_chain *c, const void *data, size_t len)
{
    assert_int_equal(cs_chain_append(c, data, len), 0);
}

/* ---- one by one ---- */

static void test_slice(void **state)
{
    struct cs_slice *s = cs_slice_create(100);

    (void)state;
    assert_non_null(s);
    assert_int_equal(s->len, 0);
    assert_int_equal(s->room, 100);
    assert_false(cs_slice_is_lent(s));
    memset(s->data, 1, s->room);
    cs_slice_release(s);
    cs_slice_release(NULL);
    s = lend("x", 1);
    assert_true(cs_slice_is_lent(s));
    cs_slice_release(s);
    assert_int_equal(lent_out, 0);
    assert_null(cs_slice_create((size_t)UINT32_MAX + 1));
}

static void test_append_fills_room(void **state)
{
    struct cs_chain c;

    (void)state;
    cs_chain_init(&c);
    must_append(&c, NULL, 0);
    assert_null(cs_chain_first(&c));
    for (size_t i = 0; i < 472; i++) {
        must_append(&c, pattern + i, 1);
    }
    /* 512 bytes with the header. */
    assert_int_equal(slice_count(&c), 1);
    assert_int_equal(c.last->room, 0);
    must_append(&c, pattern + 472, 1);
    assert_int_equal(slice_count(&c), 2);
    /* Rest of the room, then one new slice. */
    must_append(&c, pattern + 473, 1000);
    assert_int_equal(slice_count(&c), 3);
    check(&c, pattern, 1473);
    cs_chain_clear(&c);
    assert_null(cs_chain_first(&c));
}

/* Header and room together are what the allocator has classes for. */
static void test_append_sizes(void **state)
{
    static const struct {
        size_t len, total;
    } cases[] = {{1, 512},       {472, 512},     {473, 1024},   {984, 1024},
                 {985, 2048},    {2008, 2048},   {4056, 4096},  {4057, 4097},
                 {10000, 10040}, {65496, 65536}, {65497, 65536}};

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(cases); i++) {
        struct cs_chain c;

        cs_chain_init(&c);
        must_append(&c, pattern, cases[i].len);
        assert_int_equal(sizeof(*cs_chain_first(&c)) + cs_chain_first(&c)->len +
                             cs_chain_first(&c)->room,
                         cases[i].total);
        check(&c, pattern, cases[i].len);
        cs_chain_clear(&c);
    }
}

static void test_append_large(void **state)
{
    struct cs_chain c;

    (void)state;
    cs_chain_init(&c);
    must_append(&c, pattern, sizeof(pattern));
    check(&c, pattern, sizeof(pattern));
    assert_int_equal(slice_count(&c), 5);
    cs_chain_clear(&c);
}

static void test_append_behind_lent(void **state)
{
    struct cs_chain c;

    (void)state;
    cs_chain_init(&c);
    must_append(&c, pattern, 10);
    cs_chain_push(&c, lend(pattern + 10, 10));
    must_append(&c, pattern + 20, 10);
    assert_int_equal(slice_count(&c), 3);
    check(&c, pattern, 30);
    cs_chain_clear(&c);
}

static void test_push(void **state)
{
    struct cs_chain c;
    struct cs_slice *s = cs_slice_create(10);

    (void)state;
    cs_chain_init(&c);
    memcpy(s->data, pattern, 6);
    s->len = 6;
    s->room -= 6;
    cs_chain_push(&c, s);
    must_append(&c, pattern + 6, 4);
    assert_int_equal(slice_count(&c), 1);
    cs_chain_push(&c, lend(pattern + 10, 5));
    /* Empty ones go at once. */
    cs_chain_push(&c, lend("", 0));
    assert_int_equal(lent_out, 1);
    cs_chain_push(&c, cs_slice_create(5));
    check(&c, pattern, 15);
    cs_chain_clear(&c);
}

static void test_move(void **state)
{
    struct cs_chain a, b;
    struct cs_slice *first, *second;

    (void)state;
    cs_chain_init(&a);
    cs_chain_init(&b);
    cs_chain_push(&a, lend(pattern, 100));
    cs_chain_push(&a, lend(pattern + 100, 100));
    first = cs_chain_first(&a);
    second = a.last;
    assert_int_equal(cs_chain_move(&b, &a, 0), 0);
    check(&b, NULL, 0);
    assert_int_equal(cs_chain_move(&b, &a, 150), 0);
    check(&b, pattern, 150);
    check(&a, pattern + 150, 50);
    /* The whole one moved, the cut one stayed where it was. */
    assert_ptr_equal(cs_chain_first(&b), first);
    assert_ptr_equal(cs_chain_first(&a), second);
    assert_int_equal(cs_chain_move(&b, &a, 50), 0);
    check(&b, pattern, 200);
    assert_ptr_equal(b.last, second);
    check(&a, NULL, 0);
    assert_int_equal(cs_chain_move(&b, &a, 5), 0);
    /* At an edge nothing is cut, so nothing is copied. */
    assert_int_equal(cs_chain_move(&a, &b, 150), 0);
    assert_ptr_equal(cs_chain_first(&b), second);
    assert_int_equal(slice_count(&a), 2);
    /* More than there is. */
    assert_int_equal(cs_chain_move(&a, &b, 1000), 0);
    check(&a, pattern, 200);
    check(&b, NULL, 0);
    cs_chain_clear(&a);
}

static void test_move_all(void **state)
{
    struct cs_chain a, b;

    (void)state;
    cs_chain_init(&a);
    cs_chain_init(&b);
    cs_chain_move_all(&a, &b);
    check(&a, NULL, 0);
    must_append(&b, pattern, 100);
    cs_chain_move_all(&a, &b);
    must_append(&b, pattern + 100, 100);
    cs_chain_move_all(&a, &b);
    check(&a, pattern, 200);
    check(&b, NULL, 0);
    must_append(&a, pattern + 200, 5);
    check(&a, pattern, 205);
    cs_chain_clear(&a);
}

static void test_drop(void **state)
{
    struct cs_chain c;

    (void)state;
    cs_chain_init(&c);
    cs_chain_drop(&c, 10);
    for (size_t i = 0; i < 5; i++) {
        cs_chain_push(&c, lend(pattern + 10 * i, 10));
    }
    cs_chain_drop(&c, 0);
    check(&c, pattern, 50);
    cs_chain_drop(&c, 5);
    check(&c, pattern + 5, 45);
    cs_chain_drop(&c, 5);
    assert_int_equal(lent_out, 4);
    cs_chain_drop(&c, 25);
    check(&c, pattern + 35, 15);
    assert_int_equal(lent_out, 2);
    cs_chain_drop(&c, 1000);
    check(&c, NULL, 0);
    assert_int_equal(lent_out, 0);
}

static void test_peek_and_iov(void **state)
{
    struct cs_chain c;
    struct iovec iov[4];
    uint8_t to[64];

    (void)state;
    cs_chain_init(&c);
    assert_int_equal(cs_chain_peek(&c, to, sizeof(to)), 0);
    assert_int_equal(cs_chain_iov(&c, iov, 4), 0);
    for (size_t i = 0; i < 3; i++) {
        cs_chain_push(&c, lend(pattern + 10 * i, 10));
    }
    assert_int_equal(cs_chain_peek(&c, to, 0), 0);
    assert_int_equal(cs_chain_peek(&c, to, 15), 15);
    assert_memory_equal(to, pattern, 15);
    assert_int_equal(cs_chain_peek(&c, to, sizeof(to)), 30);
    assert_memory_equal(to, pattern, 30);
    check(&c, pattern, 30);
    assert_int_equal(cs_chain_iov(&c, iov, 2), 2);
    assert_int_equal(cs_chain_iov(&c, iov, 0), 0);
    cs_chain_drop(&c, 3);
    assert_int_equal(cs_chain_iov(&c, iov, 4), 3);
    assert_int_equal(iov[0].iov_len, 7);
    assert_memory_equal(iov[0].iov_base, pattern + 3, 7);
    assert_ptr_equal(iov[2].iov_base, c.last->data);
    cs_chain_clear(&c);
}

static void test_own(void **state)
{
    struct cs_chain c;

    (void)state;
    cs_chain_init(&c);
    assert_int_equal(cs_chain_own(&c), 0);
    cs_chain_push(&c, lend(pattern, 2000));
    cs_chain_push(&c, lend(pattern + 2000, 1000));
    cs_chain_push(&c, lend(pattern + 3000, 500));
    assert_int_equal(cs_chain_own(&c), 0);
    assert_int_equal(lent_out, 0);
    /* Neighbours were joined. */
    assert_int_equal(slice_count(&c), 1);
    check(&c, pattern, 3500);
    /* Behind an owned one its room is used. */
    cs_chain_push(&c, lend(pattern + 3500, 10));
    assert_int_equal(cs_chain_own(&c), 0);
    assert_int_equal(slice_count(&c), 1);
    check(&c, pattern, 3510);
    /* Owned ones keep their place and are not copied. */
    {
        uint8_t *data = cs_chain_first(&c)->data;

        cs_chain_push(&c, lend(pattern + 3510, 5000));
        must_append(&c, pattern + 8510, 10);
        cs_chain_push(&c, lend(pattern + 8520, 10));
        assert_int_equal(cs_chain_own(&c), 0);
        assert_ptr_equal(cs_chain_first(&c)->data, data);
    }
    assert_int_equal(lent_count(&c), 0);
    check(&c, pattern, 8530);
    cs_chain_clear(&c);
}

/* ---- failing allocations ---- */

#ifdef CS_FAULTS

static void test_append_fails(void **state)
{
    struct cs_chain c;

    (void)state;
    cs_chain_init(&c);
    cs_mem_fail_nth(1);
    assert_null(cs_slice_create(1));
    must_append(&c, pattern, 10);
    /* Each of the five slices in turn; the tail's room is not touched either. */
    for (unsigned nth = 1; nth <= 5; nth++) {
        cs_mem_fail_nth(nth);
        assert_int_equal(cs_chain_append(&c, pattern + 10, sizeof(pattern) - 10), -ENOMEM);
        assert_true(cs_mem_failed());
        check(&c, pattern, 10);
        assert_int_equal(c.last->room, 462);
    }
    /* Room enough: nothing to allocate, nothing to fail. */
    cs_mem_fail_nth(1);
    must_append(&c, pattern + 10, 462);
    assert_false(cs_mem_failed());
    check(&c, pattern, 472);
    cs_chain_clear(&c);
}

static void test_move_fails(void **state)
{
    struct cs_chain a, b;

    (void)state;
    cs_chain_init(&a);
    cs_chain_init(&b);
    cs_chain_push(&a, lend(pattern, 100));
    cs_chain_push(&a, lend(pattern + 100, 100));
    cs_mem_fail_nth(1);
    assert_int_equal(cs_chain_move(&b, &a, 150), -ENOMEM);
    check(&b, pattern, 100);
    check(&a, pattern + 100, 100);
    cs_chain_clear(&a);
    cs_chain_clear(&b);
}

static void test_own_fails(void **state)
{
    struct cs_chain c;

    (void)state;
    cs_chain_init(&c);
    cs_chain_push(&c, lend(pattern, 1000));
    must_append(&c, pattern + 1000, 3000);
    cs_chain_push(&c, lend(pattern + 4000, 2000));
    for (unsigned nth = 1; nth <= 2; nth++) {
        cs_mem_fail_nth(nth);
        assert_int_equal(cs_chain_own(&c), -ENOMEM);
        check(&c, pattern, 6000);
        assert_int_equal(lent_count(&c), 3 - nth);
    }
    assert_int_equal(cs_chain_own(&c), 0);
    assert_int_equal(lent_out, 0);
    check(&c, pattern, 6000);
    cs_chain_clear(&c);
}

#endif

/* ---- random use ---- */

struct model {
    struct cs_chain chain;
    uint8_t *bytes;
    size_t len;
};

#define MODEL_MAX 600000

/* In builds with faults every third operation meets a failing allocation. */
static void maybe_fault(void)
{
#ifdef CS_FAULTS
    cs_mem_fail_nth(rnd(3) == 0 ? 1 + rnd(3) : 0);
#endif
}

/* -ENOMEM is right exactly when an allocation was made to fail. */
static void check_result(int err)
{
#ifdef CS_FAULTS
    assert_int_equal(err, cs_mem_failed() ? -ENOMEM : 0);
    cs_mem_fail_nth(0);
#else
    assert_int_equal(err, 0);
#endif
}

/* Mostly small, sometimes beyond one slice. */
static size_t random_len(void)
{
    return rnd(rnd(10) == 0 ? 150000 : rnd(2) == 0 ? 5000 : 200);
}

static void model_grow(struct model *m, const uint8_t *data, size_t len)
{
    memcpy(m->bytes + m->len, data, len);
    m->len += len;
}

static void model_shrink(struct model *m, size_t len)
{
    m->len -= len;
    memmove(m->bytes, m->bytes + len, m->len);
}

static void do_append(struct model *m)
{
    size_t len = random_len();
    const uint8_t *data = pattern + rnd((uint32_t)(sizeof(pattern) - len));
    int err;

    if (m->len + len > MODEL_MAX) {
        return;
    }
    maybe_fault();
    err = cs_chain_append(&m->chain, data, len);
    check_result(err);
    if (err == 0) {
        model_grow(m, data, len);
    }
}

static void do_push(struct model *m)
{
    size_t len = rnd(4096);
    const uint8_t *data = pattern + rnd((uint32_t)(sizeof(pattern) - len));

    if (m->len + len > MODEL_MAX) {
        return;
    }
    cs_chain_push(&m->chain, lend(data, len));
    model_grow(m, data, len);
}

static void do_move(struct model *to, struct model *from)
{
    size_t n = rnd(8) == 0 ? SIZE_MAX : random_len();
    size_t want = CS_MIN(n, from->len), moved;
    int err = 0;

    if (to->len + want > MODEL_MAX) {
        return;
    }
    if (rnd(8) == 0 && to->len + from->len <= MODEL_MAX) {
        want = from->len;
        cs_chain_move_all(&to->chain, &from->chain);
    } else {
        maybe_fault();
        err = cs_chain_move(&to->chain, &from->chain, n);
        check_result(err);
    }
    moved = cs_chain_len(&to->chain) - to->len;
    assert_true(moved <= want);
    assert_true(err != 0 || moved == want);
    model_grow(to, from->bytes, moved);
    model_shrink(from, moved);
}

static void do_drop(struct model *m)
{
    size_t n = rnd(20) == 0 ? SIZE_MAX : random_len();

    if (n == SIZE_MAX && rnd(2) == 0) {
        cs_chain_clear(&m->chain);
    } else {
        cs_chain_drop(&m->chain, n);
    }
    model_shrink(m, CS_MIN(n, m->len));
}

static void do_peek(const struct model *m)
{
    static uint8_t to[150000];
    size_t n = random_len();
    size_t got = cs_chain_peek(&m->chain, to, n);

    assert_int_equal(got, CS_MIN(n, m->len));
    assert_memory_equal(to, m->bytes, got);
}

static void do_iov(const struct model *m)
{
    struct iovec iov[16];
    unsigned max = rnd(17), count = cs_chain_iov(&m->chain, iov, max);
    size_t at = 0;

    assert_int_equal(count, CS_MIN(max, slice_count(&m->chain)));
    for (unsigned i = 0; i < count; i++) {
        assert_memory_equal(iov[i].iov_base, m->bytes + at, iov[i].iov_len);
        at += iov[i].iov_len;
    }
}

static void do_own(struct model *m)
{
    int err;

    maybe_fault();
    err = cs_chain_own(&m->chain);
    check_result(err);
    if (err == 0) {
        assert_int_equal(lent_count(&m->chain), 0);
    }
}

static void do_something(struct model *m, struct model *other)
{
    switch (rnd(9)) {
    case 0:
    case 1:
        do_append(m);
        break;
    case 2:
    case 3:
        do_push(m);
        break;
    case 4:
        do_move(m, other);
        break;
    case 5:
        do_drop(m);
        break;
    case 6:
        do_peek(m);
        break;
    case 7:
        do_iov(m);
        break;
    default:
        do_own(m);
        break;
    }
}

static void test_model(void **state)
{
    struct model m[2] = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        cs_chain_init(&m[i].chain);
        m[i].bytes = malloc(MODEL_MAX);
        assert_non_null(m[i].bytes);
    }
    for (unsigned step = 0; step < 8000; step++) {
        unsigned i = rnd(2);

        do_something(&m[i], &m[1 - i]);
        check(&m[0].chain, m[0].bytes, m[0].len);
        check(&m[1].chain, m[1].bytes, m[1].len);
        assert_int_equal(lent_count(&m[0].chain) + lent_count(&m[1].chain), lent_out);
    }
    for (int i = 0; i < 2; i++) {
        cs_chain_clear(&m[i].chain);
        free(m[i].bytes);
    }
}

#define CHAIN_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHAIN_TEST(test_slice),
        CHAIN_TEST(test_append_fills_room),
        CHAIN_TEST(test_append_sizes),
        CHAIN_TEST(test_append_large),
        CHAIN_TEST(test_append_behind_lent),
        CHAIN_TEST(test_push),
        CHAIN_TEST(test_move),
        CHAIN_TEST(test_move_all),
        CHAIN_TEST(test_drop),
        CHAIN_TEST(test_peek_and_iov),
        CHAIN_TEST(test_own),
#ifdef CS_FAULTS
        CHAIN_TEST(test_append_fails),
        CHAIN_TEST(test_move_fails),
        CHAIN_TEST(test_own_fails),
#endif
        CHAIN_TEST(test_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
