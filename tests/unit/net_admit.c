/* net_admit - counts, limits and waiters; and random use against a plain count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "net/admit.h"

static struct cs_addr ip(const char *text)
{
    struct cs_addr a;
    assert_int_equal(cs_addr_parse(&a, text, 1234), 0);
    return a;
}

static struct cs_admit *create(void)
{
    struct cs_admit *a;
    assert_int_equal(cs_admit_create(&a), 0);
    return a;
}

static struct cs_gate *gate(struct cs_admit *a, const char *name)
{
    struct cs_gate *g = cs_gate_get(a, name);
    assert_non_null(g);
    return g;
}

static void configure(struct cs_admit *a, unsigned all, unsigned all_client, unsigned web,
                      unsigned web_client)
{
    const struct cs_admit_limits limits = {all, all_client};
    const struct cs_admit_service service = {"web", {web, web_client}};
    assert_int_equal(cs_admit_configure(a, &limits, &service, 1), 0);
}

static void test_no_limits(void **state)
{
    struct cs_admit *a = create();
    struct cs_gate *g = gate(a, "web");
    struct cs_addr client = ip("192.0.2.1");
    (void)state;
    assert_int_equal(cs_gate_room(g), UINT_MAX);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(cs_gate_enter(g, &client), CS_PASS_IN);
    }
    for (int i = 0; i < 1000; i++) {
        cs_gate_leave(g, CS_PASS_IN, &client);
    }
    cs_gate_put(g);
    cs_admit_destroy(a);
}

static void test_limits_of_a_service_and_of_all(void **state)
{
    struct cs_admit *a = create();
    struct cs_gate *web = gate(a, "web"), *other = gate(a, "other");
    (void)state;
    configure(a, 3, 0, 2, 0);
    assert_int_equal(cs_gate_room(web), 2);
    assert_int_equal(cs_gate_room(other), 3);
    assert_int_equal(cs_gate_enter(web, NULL), CS_PASS_IN);
    assert_int_equal(cs_gate_enter(web, NULL), CS_PASS_IN);
    assert_int_equal(cs_gate_enter(web, NULL), -EAGAIN);
    assert_int_equal(cs_gate_room(other), 1);
    assert_int_equal(cs_gate_enter(other, NULL), CS_PASS_IN);
    assert_int_equal(cs_gate_enter(other, NULL), -EAGAIN);
    cs_gate_leave(web, CS_PASS_IN, NULL);
    assert_int_equal(cs_gate_enter(other, NULL), CS_PASS_IN);
    configure(a, 0, 0, 0, 0);
    assert_int_equal(cs_gate_room(web), UINT_MAX);
    configure(a, 1, 0, 0, 0); /* below what is in */
    assert_int_equal(cs_gate_room(web), 0);
    cs_gate_leave(web, CS_PASS_IN, NULL);
    cs_gate_leave(other, CS_PASS_IN, NULL);
    assert_int_equal(cs_gate_room(web), 0);
    cs_gate_leave(other, CS_PASS_IN, NULL);
    assert_int_equal(cs_gate_room(web), 1);
    cs_gate_put(web);
    cs_gate_put(other);
    cs_admit_destroy(a);
}

static void test_a_gate_is_shared_by_name(void **state)
{
    struct cs_admit *a = create();
    struct cs_gate *first = gate(a, "web");
    (void)state;
    assert_ptr_equal(gate(a, "web"), first);
    configure(a, 0, 0, 7, 0);
    cs_gate_put(first);
    cs_gate_put(first);
    first = gate(a, "web"); /* limits stay while nobody listens */
    assert_int_equal(cs_gate_room(first), 7);
    cs_gate_put(first);
    cs_admit_destroy(a);
}

static void test_clients(void **state)
{
    struct cs_admit *a = create();
    struct cs_gate *web = gate(a, "web"), *other = gate(a, "other");
    struct cs_addr four = ip("192.0.2.1"), six = ip("2001:db8::1"), file = ip("unix:/x");
    struct cs_addr again = ip("192.0.2.1");
    const int both = CS_PASS_IN | CS_PASS_CLIENT | CS_PASS_CLIENT_ALL;
    (void)state;
    cs_addr_set_port(&again, 99); /* another port is the same client */
    configure(a, 0, 3, 0, 2);
    assert_int_equal(cs_gate_enter(web, &four), both);
    assert_int_equal(cs_gate_enter(web, &again), both);
    assert_int_equal(cs_gate_enter(web, &four), -EUSERS);
    assert_int_equal(cs_gate_enter(web, &six), both);
    assert_int_equal(cs_gate_enter(other, &four), CS_PASS_IN | CS_PASS_CLIENT_ALL);
    assert_int_equal(cs_gate_enter(other, &four), -EUSERS); /* three in all */
    for (int i = 0; i < 5; i++) {
        assert_int_equal(cs_gate_enter(web, &file), CS_PASS_IN);
        assert_int_equal(cs_gate_enter(web, NULL), CS_PASS_IN);
    }
    cs_gate_leave(web, both, &again);
    assert_int_equal(cs_gate_enter(web, &four), both);
    configure(a, 0, 0, 0, 0); /* counted ones are forgotten as they leave */
    cs_gate_leave(web, both, &four);
    cs_gate_leave(web, both, &four);
    cs_gate_leave(web, both, &six);
    cs_gate_leave(other, CS_PASS_IN | CS_PASS_CLIENT_ALL, &four);
    for (int i = 0; i < 5; i++) {
        cs_gate_leave(web, CS_PASS_IN, &file);
        cs_gate_leave(web, CS_PASS_IN, NULL);
    }
    cs_gate_put(web);
    cs_gate_put(other);
    cs_admit_destroy(a);
}

static void test_ipv4_mapped_is_ipv4(void **state)
{
    struct cs_admit *a = create();
    struct cs_gate *g = gate(a, "web");
    struct cs_addr four = ip("192.0.2.1"), mapped = ip("2001:db8::1");
    (void)state;
    configure(a, 0, 0, 0, 1);
    memset(&mapped.v6.sin6_addr, 0, 16);
    mapped.v6.sin6_addr.s6_addr[10] = mapped.v6.sin6_addr.s6_addr[11] = 0xff;
    memcpy(mapped.v6.sin6_addr.s6_addr + 12, &four.v4.sin_addr, 4);
    int pass = cs_gate_enter(g, &four);
    assert_int_equal(pass, CS_PASS_IN | CS_PASS_CLIENT);
    assert_int_equal(cs_gate_enter(g, &mapped), -EUSERS);
    cs_gate_leave(g, (unsigned)pass, &mapped);
    cs_gate_put(g);
    cs_admit_destroy(a);
}

/* ---- waiting ---- */

static void count_wake(void *user)
{
    ++*(unsigned *)user;
}

static void test_waiters(void **state)
{
    struct cs_admit *a = create();
    struct cs_gate *web = gate(a, "web"), *other = gate(a, "other");
    struct cs_admit_waiter w;
    unsigned woken = 0;
    (void)state;
    cs_admit_waiter_init(&w, count_wake, &woken);
    configure(a, 3, 0, 1, 0);
    assert_false(cs_gate_wait(web, &w, true)); /* room */
    assert_int_equal(cs_gate_enter(web, NULL), CS_PASS_IN);
    assert_int_equal(cs_gate_enter(other, NULL), CS_PASS_IN);
    assert_true(cs_gate_wait(web, &w, true));
    assert_true(cs_gate_wait(web, &w, false)); /* twice is once */
    cs_gate_leave(other, CS_PASS_IN, NULL);
    assert_int_equal(woken, 0); /* no room for web by that */
    cs_gate_leave(web, CS_PASS_NONE, NULL);
    assert_int_equal(woken, 0);
    cs_gate_leave(web, CS_PASS_IN, NULL);
    assert_int_equal(woken, 1);
    assert_int_equal(cs_gate_enter(web, NULL), CS_PASS_IN);
    cs_gate_leave(web, CS_PASS_IN, NULL);
    assert_int_equal(woken, 1); /* once only */
    /* The limit in all, and a change of limits. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cs_gate_enter(other, NULL), CS_PASS_IN);
    }
    assert_true(cs_gate_wait(web, &w, true));
    cs_gate_leave(other, CS_PASS_IN, NULL);
    assert_int_equal(woken, 2);
    assert_int_equal(cs_gate_enter(other, NULL), CS_PASS_IN);
    assert_true(cs_gate_wait(web, &w, true));
    configure(a, 0, 0, 1, 0);
    assert_int_equal(woken, 3);
    configure(a, 3, 0, 1, 0);
    assert_true(cs_gate_wait(web, &w, true));
    cs_admit_waiter_stop(a, &w);
    for (int i = 0; i < 3; i++) {
        cs_gate_leave(other, CS_PASS_IN, NULL);
    }
    assert_int_equal(woken, 3);
    cs_gate_put(web);
    cs_gate_put(other);
    cs_admit_destroy(a);
}

/* ---- status ---- */

struct lines {
    char text[256];
    size_t len;
};

static void add_line(void *user, const struct cs_admit_count *c)
{
    struct lines *out = user;
    out->len += (size_t)snprintf(out->text + out->len, sizeof(out->text) - out->len,
                                 "%s %u/%u/%u refused %u paused %u; ", c->name ? c->name : "all",
                                 c->open, c->limits.max, c->limits.max_client, (unsigned)c->refused,
                                 (unsigned)c->paused);
}

static void test_counts(void **state)
{
    struct cs_admit *a = create();
    struct cs_gate *web = gate(a, "web");
    struct cs_addr client = ip("192.0.2.1");
    struct cs_admit_waiter w;
    unsigned woken = 0;
    struct lines out = {.len = 0};
    (void)state;
    cs_admit_waiter_init(&w, count_wake, &woken);
    configure(a, 9, 0, 1, 1);
    assert_int_equal(cs_gate_enter(web, &client), CS_PASS_IN | CS_PASS_CLIENT);
    assert_true(cs_gate_wait(web, &w, true));
    assert_true(cs_gate_wait(web, &w, false));
    configure(a, 9, 0, 2, 1);
    assert_int_equal(cs_gate_enter(web, &client), -EUSERS);
    cs_admit_counts(a, add_line, &out);
    assert_string_equal(out.text, "all 1/9/0 refused 0 paused 0; web 1/2/1 refused 1 paused 1; ");
    cs_gate_leave(web, CS_PASS_IN | CS_PASS_CLIENT, &client);
    cs_gate_put(web);
    cs_admit_destroy(a);
}

/* ---- many clients ---- */

#define MANY 3000

static void test_many_clients(void **state)
{
    static unsigned counts[MANY];
    static int passes[MANY][4];
    struct cs_admit *a = create();
    struct cs_gate *g = gate(a, "web");
    uint64_t rng = 20261122;
    (void)state;
    configure(a, 0, 0, 0, 3);
    for (int i = 0; i < 200000; i++) {
        rng = rng * 6364136223846793005u + 1442695040888963407u;
        unsigned who = (unsigned)(rng >> 33) % MANY;
        struct cs_addr client = ip("10.0.0.0");
        client.v4.sin_addr.s_addr = htonl(0x0a000000u + who);
        if ((rng >> 20) % 2) {
            int pass = cs_gate_enter(g, &client);
            assert_int_equal(pass, counts[who] < 3 ? CS_PASS_IN | CS_PASS_CLIENT : -EUSERS);
            if (pass > 0) {
                passes[who][counts[who]++] = pass;
            }
        } else if (counts[who] > 0) {
            cs_gate_leave(g, (unsigned)passes[who][--counts[who]], &client);
        }
    }
    for (unsigned who = 0; who < MANY; who++) {
        struct cs_addr client = ip("10.0.0.0");
        client.v4.sin_addr.s_addr = htonl(0x0a000000u + who);
        while (counts[who] > 0) {
            cs_gate_leave(g, (unsigned)passes[who][--counts[who]], &client);
        }
    }
    cs_gate_put(g);
    cs_admit_destroy(a); /* asserts that nobody is left */
}

#ifdef CS_FAULTS
/* Each allocation fails in turn: an error, and nothing is counted. */
static void test_no_memory(void **state)
{
    struct cs_addr client = ip("192.0.2.1");
    (void)state;
    for (unsigned long n = 1;; n++) {
        struct cs_admit *a = NULL;
        struct cs_gate *g = NULL;
        const struct cs_admit_limits limits = {2, 2};
        const struct cs_admit_service service = {"web", {2, 2}};
        int pass = -ENOMEM;
        cs_mem_fail_nth(n);
        if (cs_admit_create(&a) == 0) {
            if (cs_admit_configure(a, &limits, &service, 1) == 0) {
                g = cs_gate_get(a, "other");
                pass = g ? cs_gate_enter(g, &client) : -ENOMEM;
            }
        }
        bool failed = cs_mem_failed();
        cs_mem_fail_nth(0);
        assert_true(pass > 0 || pass == -ENOMEM);
        assert_int_equal(pass > 0, !failed);
        if (pass > 0) {
            cs_gate_leave(g, (unsigned)pass, &client);
        }
        if (g) {
            assert_int_equal(cs_gate_room(g), 2);
            cs_gate_put(g);
        }
        cs_admit_destroy(a);
        if (!failed) {
            break;
        }
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_limits),
        cmocka_unit_test(test_limits_of_a_service_and_of_all),
        cmocka_unit_test(test_a_gate_is_shared_by_name),
        cmocka_unit_test(test_clients),
        cmocka_unit_test(test_ipv4_mapped_is_ipv4),
        cmocka_unit_test(test_waiters),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_many_clients),
#ifdef CS_FAULTS
        cmocka_unit_test(test_no_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
