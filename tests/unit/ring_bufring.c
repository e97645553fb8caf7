/*
 * ring_bufring - a group of receive buffers by itself: lent once, given back once, its bytes kept
 * while lent and its pages given up while not. What the kernel does with it: ring_transfer.c.
 */
#include "unit/ring_support.h"

#include "base/chain.h"
#include "base/mem.h"
#include "ring/bufring.h"
#include "ring/sys.h"

enum { COUNT = 8, SIZE = 4096 };

struct fixture {
    struct io_uring ring;
    struct cs_bufring *b;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    int err = io_uring_queue_init(8, &f->ring, 0);
    if (err < 0) {
        fprintf(stderr, "skipped: io_uring is not to be had (%d)\n", err);
        exit(77);
    }
    assert_int_equal(cs_bufring_create(&f->b, &f->ring, 3, COUNT, SIZE), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(cs_bufring_free(f->b), COUNT);
    cs_bufring_destroy(f->b);
    io_uring_queue_exit(&f->ring);
    free(f);
    return 0;
}

static void test_lend_all(void **state)
{
    struct fixture *f = *state;
    struct cs_slice *s[COUNT];
    assert_int_equal(cs_bufring_size(f->b), SIZE);
    for (unsigned id = 0; id < COUNT; id++) {
        s[id] = cs_bufring_lend(f->b, id, id + 1);
        assert_int_equal(s[id]->len, id + 1);
        assert_int_equal(s[id]->room, 0); /* nothing is ever appended to it */
        assert_true(cs_slice_is_lent(s[id]));
        assert_ptr_equal(cs_bufring_of(s[id]), f->b);
        assert_int_equal(cs_bufring_free(f->b), COUNT - id - 1);
        memset(s[id]->data, (int)id, SIZE); /* all of it is there */
    }
    for (unsigned id = 0; id < COUNT; id++) {
        assert_int_equal(s[id]->data[0], id);
        assert_int_equal(s[id]->data[SIZE - 1], id);
        cs_slice_release(s[id]);
        assert_int_equal(cs_bufring_free(f->b), id + 1);
    }
}

/* Through a chain that cuts it, copies it, or drops it. */
static void test_given_back_by_a_chain(void **state)
{
    struct fixture *f = *state;
    struct cs_chain c;
    cs_chain_init(&c);
    cs_chain_push(&c, cs_bufring_lend(f->b, 0, 100));
    cs_chain_push(&c, cs_bufring_lend(f->b, 1, 100));
    cs_chain_push(&c, cs_bufring_lend(f->b, 2, 0)); /* nothing in it: back at once */
    assert_int_equal(cs_bufring_free(f->b), COUNT - 2);
    cs_chain_drop(&c, 99);
    assert_int_equal(cs_bufring_free(f->b), COUNT - 2);
    cs_chain_drop(&c, 1);
    assert_int_equal(cs_bufring_free(f->b), COUNT - 1);
    cs_chain_drop(&c, 50);
    assert_int_equal(cs_chain_own(&c), 0);
    assert_int_equal(cs_bufring_free(f->b), COUNT);
    cs_chain_push(&c, cs_bufring_lend(f->b, 1, 100)); /* whole again */
    assert_int_equal(cs_chain_len(&c), 150);
    cs_chain_clear(&c);
}

static void test_may_keep(void **state)
{
    struct fixture *f = *state;
    struct cs_slice *s[COUNT];
    for (unsigned id = 0; id < COUNT; id++) {
        assert_int_equal(cs_bufring_may_keep(f->b), id <= COUNT / 2);
        s[id] = cs_bufring_lend(f->b, id, 1);
    }
    assert_false(cs_bufring_may_keep(f->b));
    for (unsigned id = 0; id < COUNT; id++) {
        cs_slice_release(s[id]);
    }
    assert_true(cs_bufring_may_keep(f->b));
}

static void test_trim(void **state)
{
    struct fixture *f = *state;
    struct cs_slice *first = cs_bufring_lend(f->b, 0, 1), *last = cs_bufring_lend(f->b, 7, 1);
    memset(first->data, 1, SIZE);
    memset(last->data, 1, SIZE);
    cs_slice_release(last);
    cs_bufring_trim(f->b); /* one is lent: nothing happens */
    assert_int_equal(first->data[0], 1);
    last = cs_bufring_lend(f->b, 7, 1);
    assert_int_equal(last->data[SIZE - 1], 1);
    cs_slice_release(last);
    cs_slice_release(first);
    cs_bufring_trim(f->b);
    first = cs_bufring_lend(f->b, 0, 1);
    assert_int_equal(first->data[0], 0);
    cs_slice_release(first);
}

static void test_group_in_use(void **state)
{
    struct fixture *f = *state;
    struct cs_bufring *second = NULL;
    assert_int_equal(cs_bufring_create(&second, &f->ring, 3, COUNT, SIZE), -EEXIST);
    assert_null(second);
    assert_int_equal(cs_bufring_create(&second, &f->ring, 4, COUNT, SIZE), 0);
    cs_bufring_destroy(second);
    assert_int_equal(cs_bufring_create(&second, &f->ring, 4, 1, 1), 0); /* its number is free */
    cs_bufring_destroy(second);
    assert_int_equal(cs_bufring_create(&second, &f->ring, 4, 3, SIZE), -EINVAL);
    assert_int_equal(cs_bufring_create(&second, &f->ring, 4, 65536, 1), -EINVAL);
    cs_bufring_destroy(NULL);
}

#ifdef CS_FAULTS
static void test_no_memory(void **state)
{
    struct fixture *f = *state;
    struct cs_bufring *second = NULL;
    cs_mem_fail_nth(1);
    assert_int_equal(cs_bufring_create(&second, &f->ring, 4, COUNT, SIZE), -ENOMEM);
    cs_mem_fail_nth(0);
    assert_null(second);
}
#endif

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lend_all),  TEST(test_given_back_by_a_chain), TEST(test_may_keep),
        TEST(test_trim),      TEST(test_group_in_use),
#ifdef CS_FAULTS
        TEST(test_no_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
