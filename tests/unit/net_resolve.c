/*
 * net_resolve - names to addresses: the hosts file, answers and their TTL, equal questions,
 * failures and stale answers, cancelling at every point, the ends of a resolver, and each
 * allocation failing.
 */
#include "unit/net_support.h"

#include <errno.h>

#include "base/err.h"
#include "net/resolve.h"

struct fixture {
    struct dns dns;
    struct cs_loop *loop;
    struct cs_net net;
    struct cs_resolver *r;
};

/* One question and what came of it. */
struct ask {
    struct cs_resolve_query q;
    unsigned calls;
    int err;
    unsigned count;
    struct cs_addr addrs[CS_RESOLVE_ADDRS_MAX];
    void (*then)(struct ask *a); /* called from fn */
    struct fixture *f;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    dns_open(&f->dns);
    f->loop = loop_open(64);
    f->net.loop = f->loop;
    f->net.ring = cs_loop_ring(f->loop);
    assert_int_equal(cs_resolver_create(&f->r, &f->net), 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    if (f->r) {
        cs_resolver_stop(f->r);
        TURN_UNTIL(f->loop, NULL, cs_resolver_idle(f->r));
        cs_resolver_destroy(f->r);
    }
    cs_loop_destroy(f->loop);
    dns_close(&f->dns);
    cs_clock_set_source(NULL);
    free(f);
    return 0;
}

static void answered(struct cs_resolve_query *q, int err, const struct cs_addr *addrs, unsigned n)
{
    struct ask *a = cs_container_of(q, struct ask, q);
    a->calls++;
    a->err = err;
    a->count = n;
    memset(a->addrs, 0, sizeof(a->addrs));
    if (n > 0) {
        memcpy(a->addrs, addrs, n * sizeof(*addrs));
    }
    if (a->then) {
        a->then(a);
    }
}

static void ask(struct fixture *f, struct ask *a, const char *name, enum cs_resolve_family family)
{
    a->calls = 0;
    a->f = f;
    a->q.fn = answered;
    a->q.port = 80;
    cs_resolve(f->r, &a->q, name, family);
    assert_int_equal(a->calls, 0);
}

static void ask_and_wait(struct fixture *f, struct ask *a, const char *name,
                         enum cs_resolve_family family)
{
    ask(f, a, name, family);
    TURN_UNTIL(f->loop, &f->dns, a->calls > 0);
    assert_int_equal(a->calls, 1);
}

/* The i-th address as text. */
static const char *nth(const struct ask *a, unsigned i)
{
    static char text[CS_ADDR_TEXT_MAX];
    assert_true(i < a->count);
    return cs_addr_text(&a->addrs[i], text);
}

/* A name that has been answered once, with one address. */
static void prime(struct fixture *f, struct ask *a, uint32_t ttl)
{
    dns_add(&f->dns, "a.test", DNS_A, ttl, "127.0.0.9");
    ask_and_wait(f, a, "a.test", CS_RESOLVE_V4);
    assert_int_equal(a->err, 0);
    assert_string_equal(nth(a, 0), "127.0.0.9:80");
    assert_int_equal(f->dns.asked[0], 1);
}

/* ---- answers ---- */

static void test_localhost_without_dns(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    ask_and_wait(f, &a, "LocalHost", CS_RESOLVE_V4);
    assert_int_equal(a.err, 0);
    assert_int_equal(a.count, 1);
    assert_string_equal(nth(&a, 0), "127.0.0.1:80");
    ask_and_wait(f, &a, "localhost", CS_RESOLVE_ANY);
    assert_string_equal(nth(&a, 0), "127.0.0.1:80");
    assert_string_equal(nth(&a, 1), "[::1]:80");
    ask_and_wait(f, &a, "localhost", CS_RESOLVE_V6);
    assert_int_equal(a.count, 1);
    assert_string_equal(nth(&a, 0), "[::1]:80");
    assert_int_equal(f->dns.asked[0] + f->dns.asked[1], 0);
}

static void test_both_families_ipv4_first(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    dns_add(&f->dns, "b.test", DNS_AAAA, 60, "::1");
    dns_add(&f->dns, "b.test", DNS_A, 60, "127.0.0.2");
    dns_add(&f->dns, "b.test", DNS_A, 60, "127.0.0.1");
    dns_add(&f->dns, "b.test", DNS_A, 60, "127.0.0.2");
    ask_and_wait(f, &a, "b.test", CS_RESOLVE_ANY);
    assert_int_equal(a.count, 3); /* each once, in the server's order */
    assert_string_equal(nth(&a, 0), "127.0.0.2:80");
    assert_string_equal(nth(&a, 1), "127.0.0.1:80");
    assert_string_equal(nth(&a, 2), "[::1]:80");
    ask_and_wait(f, &a, "b.test", CS_RESOLVE_V6);
    assert_int_equal(a.count, 1);
    assert_string_equal(nth(&a, 0), "[::1]:80");
    ask_and_wait(f, &a, "b.test", CS_RESOLVE_V4);
    assert_int_equal(a.count, 2);
}

static void test_only_one_family_exists(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    dns_add(&f->dns, "six.test", DNS_AAAA, 60, "::1");
    ask_and_wait(f, &a, "six.test", CS_RESOLVE_ANY);
    assert_int_equal(a.err, 0);
    assert_int_equal(a.count, 1);
    ask_and_wait(f, &a, "six.test", CS_RESOLVE_V4);
    assert_int_equal(a.err, CS_ERESOLVE);
}

static void test_answer_over_tcp(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    f->dns.truncate = true;
    dns_add(&f->dns, "big.test", DNS_A, 60, "127.0.0.9");
    ask_and_wait(f, &a, "big.test", CS_RESOLVE_V4);
    assert_string_equal(nth(&a, 0), "127.0.0.9:80");
    assert_int_equal(f->dns.asked[0], 2);
    assert_int_equal(f->dns.tcp_asked, 1);
}

/* ---- the cache ---- */

static void test_ttl(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    prime(f, &a, 100);
    clock_skew_ms = 90 * 1000;
    cs_loop_turn(f->loop, 0);
    ask_and_wait(f, &a, "A.Test", CS_RESOLVE_V4);
    assert_int_equal(f->dns.asked[0], 1);
    f->dns.records[0].addr = "127.0.0.10";
    clock_skew_ms = 101 * 1000;
    cs_loop_turn(f->loop, 0);
    ask_and_wait(f, &a, "a.test", CS_RESOLVE_V4);
    assert_int_equal(f->dns.asked[0], 2);
    assert_string_equal(nth(&a, 0), "127.0.0.10:80");
}

static void test_ttl_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    dns_add(&f->dns, "long.test", DNS_A, 864000, "127.0.0.1");
    dns_add(&f->dns, "none.test", DNS_A, 0, "127.0.0.1");
    ask_and_wait(f, &a, "long.test", CS_RESOLVE_V4);
    ask_and_wait(f, &a, "none.test", CS_RESOLVE_V4);
    ask_and_wait(f, &a, "none.test", CS_RESOLVE_V4);
    assert_int_equal(f->dns.asked[0], 2); /* at least a second */
    clock_skew_ms = 1100;
    cs_loop_turn(f->loop, 0);
    ask_and_wait(f, &a, "none.test", CS_RESOLVE_V4);
    assert_int_equal(f->dns.asked[0], 3);
    clock_skew_ms = 3601 * 1000; /* at most an hour */
    cs_loop_turn(f->loop, 0);
    ask_and_wait(f, &a, "long.test", CS_RESOLVE_V4);
    assert_int_equal(f->dns.asked[0], 4);
}

static void test_equal_questions_share(void **state)
{
    struct fixture *f = *state;
    struct ask a[3] = {0};
    dns_add(&f->dns, "s.test", DNS_A, 60, "127.0.0.1");
    ask(f, &a[0], "s.test", CS_RESOLVE_V4);
    ask(f, &a[1], "S.TEST", CS_RESOLVE_V4);
    a[2].q.port = 0;
    ask(f, &a[2], "s.test", CS_RESOLVE_V4);
    TURN_UNTIL(f->loop, &f->dns, a[0].calls && a[1].calls && a[2].calls);
    assert_int_equal(f->dns.asked[0], 1);
    assert_string_equal(nth(&a[1], 0), "127.0.0.1:80");
}

static void test_cache_is_bounded(void **state)
{
    struct fixture *f = *state;
    char name[32];
    struct ask a = {0};
    dns_add(&f->dns, "*", DNS_A, 60, "127.0.0.1");
    for (unsigned i = 0; i < 1030; i++) {
        snprintf(name, sizeof(name), "n%u.test", i);
        ask_and_wait(f, &a, name, CS_RESOLVE_V4);
    }
    assert_int_equal(f->dns.asked[0], 1030);
    ask_and_wait(f, &a, "n1029.test", CS_RESOLVE_V4);
    assert_int_equal(f->dns.asked[0], 1030);
    ask_and_wait(f, &a, "n0.test", CS_RESOLVE_V4); /* the oldest had to go */
    assert_int_equal(f->dns.asked[0], 1031);
}

static void test_many_at_once(void **state)
{
    struct fixture *f = *state;
    enum { N = 600 };
    char name[32];
    struct ask *a = calloc(N, sizeof(*a));
    unsigned done = 0;
    assert_non_null(a);
    dns_add(&f->dns, "*", DNS_A, 60, "127.0.0.1");
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof(name), "n%u.test", i / 2);
        ask(f, &a[i], name, CS_RESOLVE_V4);
        dns_serve(&f->dns);
        if (i % 64 == 0) {
            cs_loop_turn(f->loop, 0); /* before the answers overflow c-ares' socket */
        }
    }
    while (done < N) {
        TURN_UNTIL(f->loop, &f->dns, a[done].calls);
        assert_int_equal(a[done].err, 0);
        done++;
    }
    assert_int_equal(f->dns.asked[0], N / 2);
    free(a);
}

/* ---- failures ---- */

static void test_unknown_name(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    ask_and_wait(f, &a, "no.such.test", CS_RESOLVE_V4);
    assert_int_equal(a.err, CS_ERESOLVE);
    assert_int_equal(a.count, 0);
    unsigned asked = f->dns.asked[0]; /* more than one where there are search domains */
    ask_and_wait(f, &a, "no.such.test", CS_RESOLVE_V4);
    assert_int_equal(a.err, CS_ERESOLVE);
    assert_int_equal(f->dns.asked[0], asked);
    dns_add(&f->dns, "no.such.test", DNS_A, 60, "127.0.0.1");
    clock_skew_ms = 2100;
    cs_loop_turn(f->loop, 0);
    ask_and_wait(f, &a, "no.such.test", CS_RESOLVE_V4);
    assert_int_equal(a.err, 0);
}

static void test_not_a_name(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    char longest[300];
    memset(longest, 'x', sizeof(longest));
    longest[299] = '\0';
    const char *const names[] = {"",        longest, "a b.test", "a\n.test", "\xc3\xa4.test",
                                 "a..test", "."};
    for (unsigned i = 0; i < CS_ARRAY_LEN(names); i++) {
        ask_and_wait(f, &a, names[i], CS_RESOLVE_V4);
        assert_int_equal(a.err, CS_ERESOLVE);
    }
    longest[254] = '\0'; /* one more than a name may have; then a label of more than 63 */
    ask_and_wait(f, &a, longest, CS_RESOLVE_V4);
    assert_int_equal(a.err, CS_ERESOLVE);
    longest[100] = '\0';
    ask_and_wait(f, &a, longest, CS_RESOLVE_V4);
    assert_int_equal(a.err, CS_ERESOLVE);
}

static void test_no_server(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    dns_close(&f->dns); /* the port answers with ICMP now */
    ask(f, &a, "a.test", CS_RESOLVE_V4);
    TURN_UNTIL(f->loop, NULL, a.calls);
    assert_int_equal(a.err, CS_ERESOLVE);
    dns_open(&f->dns);
}

static void test_stale_answer_outlives_a_failure(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    prime(f, &a, 10);
    f->dns.fail = DNS_SERVFAIL;
    clock_skew_ms = 11 * 1000;
    cs_loop_turn(f->loop, 0);
    ask_and_wait(f, &a, "a.test", CS_RESOLVE_V4);
    assert_int_equal(a.err, 0);
    assert_string_equal(nth(&a, 0), "127.0.0.9:80");
    unsigned asked = f->dns.asked[0];
    assert_true(asked > 1);
    ask_and_wait(f, &a, "a.test", CS_RESOLVE_V4); /* not asked for again at once */
    assert_int_equal(f->dns.asked[0], asked);
    clock_skew_ms = 3700 * 1000;
    cs_loop_turn(f->loop, 0);
    ask_and_wait(f, &a, "a.test", CS_RESOLVE_V4);
    assert_int_equal(a.err, CS_ERESOLVE);
}

static void test_stale_answer_ends_with_the_name(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    prime(f, &a, 10);
    f->dns.count = 0;
    clock_skew_ms = 11 * 1000;
    cs_loop_turn(f->loop, 0);
    ask_and_wait(f, &a, "a.test", CS_RESOLVE_V4);
    assert_int_equal(a.err, CS_ERESOLVE);
}

static void test_stale_answer_when_the_server_is_slow(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    prime(f, &a, 10);
    f->dns.mute = true;
    clock_skew_ms = 11 * 1000;
    cs_loop_turn(f->loop, 0);
    ask(f, &a, "a.test", CS_RESOLVE_V4);
    TURN_UNTIL(f->loop, &f->dns, f->dns.asked[0] == 2);
    assert_int_equal(a.calls, 0);
    clock_skew_ms += 1900;
    TURN_UNTIL(f->loop, &f->dns, a.calls);
    assert_string_equal(nth(&a, 0), "127.0.0.9:80");
    ask_and_wait(f, &a, "a.test", CS_RESOLVE_V4); /* nor does the next one wait */
    assert_int_equal(f->dns.asked[0], 2);
}

/* ---- cancelling and ending ---- */

static void test_cancel(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    struct ask b = {0};
    cs_resolve_cancel(&a.q); /* never asked */
    dns_add(&f->dns, "c.test", DNS_A, 60, "127.0.0.1");
    ask(f, &a, "c.test", CS_RESOLVE_V4);
    ask(f, &b, "", CS_RESOLVE_V4);
    cs_resolve_cancel(&a.q);
    cs_resolve_cancel(&b.q);
    TURN_UNTIL(f->loop, &f->dns, cs_resolver_idle(f->r));
    assert_int_equal(a.calls + b.calls, 0);
    ask(f, &a, "c.test", CS_RESOLVE_V4); /* the answer was kept, and this one is on its way */
    assert_int_equal(f->dns.asked[0], 1);
    cs_resolve_cancel(&a.q);
    TURN_UNTIL(f->loop, &f->dns, cs_resolver_idle(f->r));
    assert_int_equal(a.calls, 0);
    ask_and_wait(f, &a, "c.test", CS_RESOLVE_V4);
    cs_resolve_cancel(&a.q);
    cs_resolve_cancel(&a.q);
}

static struct ask *other;

static void cancel_other(struct ask *a)
{
    (void)a;
    cs_resolve_cancel(&other->q);
}

static void ask_again(struct ask *a)
{
    if (a->calls < 3) {
        cs_resolve(a->f->r, &a->q, "d.test", CS_RESOLVE_V4);
    }
}

static void test_calls_from_inside_fn(void **state)
{
    struct fixture *f = *state;
    struct ask a = {.then = cancel_other};
    struct ask b = {0};
    struct ask c = {.then = ask_again};
    other = &b;
    dns_add(&f->dns, "d.test", DNS_A, 60, "127.0.0.1");
    ask(f, &a, "d.test", CS_RESOLVE_V4);
    ask(f, &b, "d.test", CS_RESOLVE_V4);
    ask(f, &c, "d.test", CS_RESOLVE_V4);
    TURN_UNTIL(f->loop, &f->dns, cs_resolver_idle(f->r));
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.calls, 0);
    assert_int_equal(c.calls, 3);
    assert_int_equal(f->dns.asked[0], 1);
}

static void test_destroy_in_flight(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    struct ask b = {0};
    f->dns.mute = true;
    ask(f, &a, "e.test", CS_RESOLVE_ANY);
    ask(f, &b, "", CS_RESOLVE_ANY);
    cs_loop_turn(f->loop, 0); /* the polls are armed */
    ask(f, &b, "", CS_RESOLVE_ANY);
    cs_resolver_destroy(f->r);
    f->r = NULL;
    cs_resolve_cancel(&a.q);
    cs_resolve_cancel(&b.q);
    for (unsigned i = 0; i < 5; i++) {
        cs_loop_turn(f->loop, 2); /* the polls end */
    }
    assert_int_equal(a.calls + b.calls, 0);
    cs_resolver_destroy(NULL);
}

static void test_stop(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    struct ask b = {0};
    f->dns.mute = true;
    ask(f, &a, "e.test", CS_RESOLVE_ANY);
    cs_loop_turn(f->loop, 0);
    assert_false(cs_resolver_idle(f->r));
    cs_resolver_stop(f->r);
    ask(f, &b, "e.test", CS_RESOLVE_ANY);
    TURN_UNTIL(f->loop, NULL, cs_resolver_idle(f->r));
    assert_int_equal(a.calls, 1);
    assert_int_equal(a.err, CS_ECLOSED);
    assert_int_equal(b.calls, 1);
    assert_int_equal(b.err, CS_ECLOSED);
}

static void test_two_resolvers(void **state)
{
    struct fixture *f = *state;
    struct ask a = {0};
    prime(f, &a, 60);
    struct fixture g = *f;
    assert_int_equal(cs_resolver_create(&g.r, &g.net), 0);
    ask_and_wait(&g, &a, "a.test", CS_RESOLVE_V4);
    assert_int_equal(a.err, 0);
    assert_true(cs_resolver_idle(g.r));
    cs_resolver_destroy(g.r);
}

#ifdef CS_FAULTS
/* Whatever allocation fails, the answer is right or says so, and comes once. */
static void test_each_allocation_fails(void **state)
{
    struct fixture *f = *state;
    bool failed = true;
    dns_add(&f->dns, "*", DNS_A, 60, "127.0.0.1");
    for (unsigned long n = 1; failed; n++) {
        char name[32];
        struct ask a = {0};
        struct cs_resolver *r = f->r;
        snprintf(name, sizeof(name), "n%lu.test", n);
        f->r = NULL;
        cs_mem_fail_nth(n);
        int err = cs_resolver_create(&f->r, &f->net);
        assert_true(err == 0 || (err == -ENOMEM && n == 1));
        if (err == 0) {
            ask(f, &a, name, CS_RESOLVE_V4);
            TURN_UNTIL(f->loop, &f->dns, a.calls);
            assert_true(a.err == 0 || a.err == -ENOMEM);
            assert_int_equal(a.calls, 1);
            TURN_UNTIL(f->loop, &f->dns, cs_resolver_idle(f->r));
        }
        failed = cs_mem_failed();
        cs_mem_fail_nth(0);
        cs_resolver_destroy(f->r);
        f->r = r;
    }
}
#endif

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_localhost_without_dns),
        TEST(test_both_families_ipv4_first),
        TEST(test_only_one_family_exists),
        TEST(test_answer_over_tcp),
        TEST(test_ttl),
        TEST(test_ttl_is_bounded),
        TEST(test_equal_questions_share),
        TEST(test_cache_is_bounded),
        TEST(test_many_at_once),
        TEST(test_unknown_name),
        TEST(test_not_a_name),
        TEST(test_no_server),
        TEST(test_stale_answer_outlives_a_failure),
        TEST(test_stale_answer_ends_with_the_name),
        TEST(test_stale_answer_when_the_server_is_slow),
        TEST(test_cancel),
        TEST(test_calls_from_inside_fn),
        TEST(test_destroy_in_flight),
        TEST(test_stop),
        TEST(test_two_resolvers),
#ifdef CS_FAULTS
        TEST(test_each_allocation_fails),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
