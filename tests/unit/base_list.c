/*
 * base_list - the intrusive list, and container_of which it lives by.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"

struct item {
    int value;
    struct cs_list node;
};

static struct item items[6];

static int setup(void **state)
{
    (void)state;
    for (int i = 0; i < (int)CS_ARRAY_LEN(items); i++) {
        items[i].value = i;
        cs_list_init(&items[i].node);
    }
    return 0;
}

static int value_of(struct cs_list *node)
{
    return cs_container_of(node, struct item, node)->value;
}

/* The list holds exactly these values, seen from both ends. */
static void check(struct cs_list *head, const int *values, size_t count)
{
    struct cs_list *node = head;

    for (size_t i = 0; i < count; i++) {
        node = node->next;
        assert_ptr_not_equal(node, head);
        assert_int_equal(value_of(node), values[i]);
        assert_ptr_equal(node->prev->next, node);
        assert_ptr_equal(node->next->prev, node);
    }
    assert_ptr_equal(node->next, head);
    assert_int_equal(cs_list_empty(head), count == 0);
    assert_ptr_equal(cs_list_first(head), count == 0 ? NULL : head->next);
}

static void test_order(void **state)
{
    struct cs_list head;

    (void)state;
    cs_list_init(&head);
    check(&head, NULL, 0);
    cs_list_append(&head, &items[1].node);
    cs_list_append(&head, &items[2].node);
    cs_list_prepend(&head, &items[0].node);
    check(&head, (const int[]){0, 1, 2}, 3);
    cs_list_insert_between(&items[3].node, &items[0].node, &items[1].node);
    check(&head, (const int[]){0, 3, 1, 2}, 4);
}

static void test_remove(void **state)
{
    struct cs_list head;

    (void)state;
    cs_list_init(&head);
    for (int i = 0; i < 3; i++) {
        cs_list_append(&head, &items[i].node);
    }
    cs_list_remove(&items[1].node);
    check(&head, (const int[]){0, 2}, 2);
    assert_true(cs_list_empty(&items[1].node));
    /* Twice is harmless. */
    cs_list_remove(&items[1].node);
    check(&head, (const int[]){0, 2}, 2);
    cs_list_remove(&items[0].node);
    cs_list_remove(&items[2].node);
    check(&head, NULL, 0);
}

static void test_splice(void **state)
{
    struct cs_list a, b;

    (void)state;
    cs_list_init(&a);
    cs_list_init(&b);
    cs_list_splice(&a, &b);
    check(&a, NULL, 0);
    cs_list_append(&b, &items[0].node);
    cs_list_append(&b, &items[1].node);
    cs_list_splice(&a, &b);
    check(&a, (const int[]){0, 1}, 2);
    check(&b, NULL, 0);
    cs_list_append(&b, &items[2].node);
    cs_list_append(&b, &items[3].node);
    cs_list_splice(&a, &b);
    check(&a, (const int[]){0, 1, 2, 3}, 4);
    check(&b, NULL, 0);
}

static void test_each(void **state)
{
    struct cs_list head;
    int seen = 0;

    (void)state;
    cs_list_init(&head);
    cs_list_each(it, tmp, &head) {
        fail();
    }
    for (int i = 0; i < 6; i++) {
        cs_list_append(&head, &items[i].node);
    }
    cs_list_each(it, tmp, &head) {
        assert_int_equal(value_of(it), seen);
        if (seen++ % 2 == 0) {
            cs_list_remove(it);
        }
    }
    assert_int_equal(seen, 6);
    check(&head, (const int[]){1, 3, 5}, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_order, setup),
        cmocka_unit_test_setup(test_remove, setup),
        cmocka_unit_test_setup(test_splice, setup),
        cmocka_unit_test_setup(test_each, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
