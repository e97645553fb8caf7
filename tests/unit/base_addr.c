/*
 * base_addr - addresses parsed, split, printed and compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/mem.h"

static char text[CS_ADDR_TEXT_MAX];

static void test_parse(void **state)
{
    static const struct {
        const char *in, *ip, *full;
        int family;
    } cases[] = {
        {"127.0.0.1", "127.0.0.1", "127.0.0.1:80", AF_INET},
        {"0.0.0.0", "0.0.0.0", "0.0.0.0:80", AF_INET},
        {"255.255.255.255", "255.255.255.255", "255.255.255.255:80", AF_INET},
        {"::1", "::1", "[::1]:80", AF_INET6},
        {"[::1]", "::1", "[::1]:80", AF_INET6},
        {"::", "::", "[::]:80", AF_INET6},
        {"2001:DB8::0:1", "2001:db8::1", "[2001:db8::1]:80", AF_INET6},
        {"::ffff:1.2.3.4", "::ffff:1.2.3.4", "[::ffff:1.2.3.4]:80", AF_INET6},
        {"fe80::1%77777", "fe80::1%77777", "[fe80::1%77777]:80", AF_INET6},
        {"[fe80::1%77777]", "fe80::1%77777", "[fe80::1%77777]:80", AF_INET6},
        {"unix:/run/x.sock", "unix:/run/x.sock", "unix:/run/x.sock", AF_UNIX},
        {"unix:rel", "unix:rel", "unix:rel", AF_UNIX},
        {"unix:@name", "unix:@name", "unix:@name", AF_UNIX},
    };

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(cases); i++) {
        struct cs_addr a, again;

        memset(&a, 0xee, sizeof(a));
        assert_int_equal(cs_addr_parse(&a, cases[i].in, 80), 0);
        assert_int_equal(cs_addr_family(&a), cases[i].family);
        assert_int_equal(cs_addr_port(&a), cases[i].family == AF_UNIX ? 0 : 80);
        assert_string_equal(cs_addr_ip(&a, text), cases[i].ip);
        assert_string_equal(cs_addr_text(&a, text), cases[i].full);
        /* What is printed can be parsed. */
        assert_int_equal(cs_addr_parse(&again, cases[i].ip, 80), 0);
        assert_true(cs_addr_equal(&a, &again));
        cs_addr_from_sockaddr(&again, &a.sa, a.len);
        if (strncmp(cases[i].in, "::ffff:", 7) != 0) {
            assert_true(cs_addr_equal(&a, &again));
        }
    }
}

static void test_parse_refuses(void **state)
{
    static const char *const cases[] = {
        "",
        "localhost",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "01.2.3.4.",
        " 1.2.3.4",
        "1.2.3.4 ",
        "[1.2.3.4]",
        "[]",
        "[",
        "[::1",
        "::1]",
        "[::1]x",
        ":::",
        "1::2::3",
        "12345::",
        "::1%",
        "::1%no-such-if",
        "::1%-1",
        "::1%4294967296",
        "1.2.3.4%lo",
        "unix:",
        "unix:@",
        "unix",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee:ffff:0000:1111:2222",
        "[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc:dddd:eeee:ffff:0000:1111:22]",
        "0x7f.0.0.1",
        "2130706433",
        "127.1",
    };
    struct cs_addr a, before;

    (void)state;
    memset(&a, 0xee, sizeof(a));
    before = a;
    for (size_t i = 0; i < CS_ARRAY_LEN(cases); i++) {
        assert_int_equal(cs_addr_parse(&a, cases[i], 1), CS_EINVAL);
        /* Nothing is stored on failure. */
        assert_memory_equal(&a, &before, sizeof(a));
    }
}

static void test_scope_name(void **state)
{
    char in[64], name[IF_NAMESIZE];
    struct cs_addr a;

    (void)state;
    /* Interface 1 is the loopback of every network namespace. */
    if (if_indextoname(1, name) == NULL) {
        skip();
    }
    snprintf(in, sizeof(in), "fe80::1%%%s", name);
    assert_int_equal(cs_addr_parse(&a, in, 5), 0);
    assert_int_equal(a.v6.sin6_scope_id, 1);
    assert_string_equal(cs_addr_ip(&a, text), in);
    assert_int_equal(cs_addr_parse(&a, "fe80::1%1", 5), 0);
    assert_string_equal(cs_addr_ip(&a, text), in);
}

static void test_unix_length(void **state)
{
    char in[5 + 110];
    struct cs_addr a;

    (void)state;
    memset(in, 'p', sizeof(in));
    memcpy(in, "unix:", 5);
    in[5 + 107] = '\0';
    assert_int_equal(cs_addr_parse(&a, in, 0), 0);
    assert_int_equal(a.len, sizeof(struct sockaddr_un));
    assert_string_equal(cs_addr_text(&a, text), in);
    in[5] = '@';
    assert_int_equal(cs_addr_parse(&a, in, 0), 0);
    assert_int_equal(a.un.sun_path[0], 0);
    assert_int_equal(a.len, sizeof(struct sockaddr_un) - 1);
    assert_string_equal(cs_addr_text(&a, text), in);
    in[5 + 107] = 'p';
    in[5 + 108] = '\0';
    assert_int_equal(cs_addr_parse(&a, in, 0), CS_EINVAL);
    in[5] = 'p';
    assert_int_equal(cs_addr_parse(&a, in, 0), CS_EINVAL);
}

static void test_split(void **state)
{
    static const struct {
        const char *in, *host;
        uint16_t port;
    } cases[] = {
        {"example.com:80", "example.com", 80},
        {"1.2.3.4:65535", "1.2.3.4", 65535},
        {"[::1]:443", "::1", 443},
        {"[fe80::1%lo]:0", "fe80::1%lo", 0},
        {":8080", "", 8080},
        {"*:8080", "*", 8080},
        {"h:00080", "h", 80},
        {"unix:/run/a:b", "unix:/run/a:b", 0},
        {"unix:@x", "unix:@x", 0},
    };
    static const char *const bad[] = {
        "",           "host",
        "host:",      ":",
        "host:65536", "host:-1",
        "host:+1",    "host: 80",
        "host:80 ",   "host:8a",
        "::1:80",     "::1",
        "[::1]",      "[::1]:",
        "[::1]80",    "[::1:80",
        "[]:80",      "[a]:80",
        "[::1]x:80",  "unix:",
        "a:b:80",     "h:99999999999999999999",
    };
    char host[64];
    uint16_t port;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(cases); i++) {
        assert_int_equal(cs_addr_split(cases[i].in, host, sizeof(host), &port), 0);
        assert_string_equal(host, cases[i].host);
        assert_int_equal(port, cases[i].port);
    }
    for (size_t i = 0; i < CS_ARRAY_LEN(bad); i++) {
        assert_int_equal(cs_addr_split(bad[i], host, sizeof(host), &port), CS_EINVAL);
    }
}

static void test_split_host_size(void **state)
{
    char host[5] = "----";
    uint16_t port;

    (void)state;
    assert_int_equal(cs_addr_split("abcd:1", host, sizeof(host), &port), 0);
    assert_string_equal(host, "abcd");
    assert_int_equal(cs_addr_split("abcde:1", host, sizeof(host), &port), CS_EINVAL);
    assert_int_equal(cs_addr_split("unix:/", host, sizeof(host), &port), CS_EINVAL);
    assert_int_equal(cs_addr_split(":1", host, 1, &port), 0);
    assert_int_equal(cs_addr_split(":1", host, 0, &port), CS_EINVAL);
}

static void test_any(void **state)
{
    struct cs_addr a;

    (void)state;
    cs_addr_any(&a, AF_INET, 7);
    assert_string_equal(cs_addr_text(&a, text), "0.0.0.0:7");
    assert_int_equal(a.len, sizeof(struct sockaddr_in));
    cs_addr_any(&a, AF_INET6, 8);
    assert_string_equal(cs_addr_text(&a, text), "[::]:8");
    assert_int_equal(a.len, sizeof(struct sockaddr_in6));
    cs_addr_set_port(&a, 9);
    assert_int_equal(cs_addr_port(&a), 9);
}

static void test_mapped(void **state)
{
    struct cs_addr mapped, plain, a;

    (void)state;
    assert_int_equal(cs_addr_parse(&mapped, "::ffff:10.1.2.3", 99), 0);
    assert_int_equal(cs_addr_parse(&plain, "10.1.2.3", 99), 0);
    cs_addr_from_sockaddr(&a, &mapped.sa, mapped.len);
    assert_int_equal(cs_addr_family(&a), AF_INET);
    assert_int_equal(a.len, sizeof(struct sockaddr_in));
    assert_true(cs_addr_equal(&a, &plain));
    assert_string_equal(cs_addr_text(&a, text), "10.1.2.3:99");
}

static void test_none(void **state)
{
    struct sockaddr_storage other = {.ss_family = AF_NETLINK};
    struct cs_addr a, full;

    (void)state;
    assert_int_equal(cs_addr_parse(&full, "1.2.3.4", 5), 0);
    for (int i = 0; i < 4; i++) {
        /* Nothing, half a family, a cut address, a family that is not ours. */
        if (i == 3) {
            cs_addr_from_sockaddr(&a, (struct sockaddr *)&other, sizeof(other));
        } else {
            cs_addr_from_sockaddr(&a, &full.sa, i == 2 ? 15 : (socklen_t)i);
        }
        assert_int_equal(a.len, 0);
        assert_int_equal(cs_addr_family(&a), AF_UNSPEC);
        assert_int_equal(cs_addr_port(&a), 0);
        cs_addr_set_port(&a, 5);
        assert_string_equal(cs_addr_ip(&a, text), "-");
        assert_string_equal(cs_addr_text(&a, text), "-");
        assert_false(cs_addr_equal(&a, &full));
        assert_true(cs_addr_equal(&a, &a));
    }
    cs_addr_from_sockaddr(&a, NULL, 0);
    assert_int_equal(a.len, 0);
}

/* The forms in which the kernel returns Unix names. */
static void test_unix_kernel(void **state)
{
    const size_t head = offsetof(struct sockaddr_un, sun_path);
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct cs_addr a, b;

    (void)state;
    cs_addr_from_sockaddr(&a, (struct sockaddr *)&un, sizeof(sa_family_t));
    assert_int_equal(cs_addr_family(&a), AF_UNIX);
    assert_string_equal(cs_addr_text(&a, text), "unix:");

    memcpy(un.sun_path, "/a/b", 4);
    cs_addr_from_sockaddr(&a, (struct sockaddr *)&un, (socklen_t)(head + 4));
    cs_addr_from_sockaddr(&b, (struct sockaddr *)&un, (socklen_t)(head + 5));
    assert_true(cs_addr_equal(&a, &b));
    cs_addr_from_sockaddr(&b, (struct sockaddr *)&un, sizeof(un));
    assert_true(cs_addr_equal(&a, &b));
    assert_int_equal(cs_addr_parse(&b, "unix:/a/b", 1), 0);
    assert_true(cs_addr_equal(&a, &b));

    memcpy(un.sun_path, "\0a\0b", 4);
    cs_addr_from_sockaddr(&a, (struct sockaddr *)&un, (socklen_t)(head + 4));
    assert_string_equal(cs_addr_text(&a, text), "unix:@a@b");
    cs_addr_from_sockaddr(&b, (struct sockaddr *)&un, (socklen_t)(head + 2));
    assert_false(cs_addr_equal(&a, &b));

    /* A path that fills everything has no final zero. */
    memset(un.sun_path, 'q', sizeof(un.sun_path));
    cs_addr_from_sockaddr(&a, (struct sockaddr *)&un, sizeof(un));
    assert_int_equal(strlen(cs_addr_text(&a, text)), 5 + sizeof(un.sun_path));
}

static void test_equal(void **state)
{
    static const char *const all[] = {"1.2.3.4",   "1.2.3.5",   "::1",     "::2",
                                      "fe80::1%1", "fe80::1%2", "fe80::1", "unix:/a",
                                      "unix:/ab",  "unix:@a",   "unix:a"};
    struct cs_addr a, b;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(all); i++) {
        for (size_t k = 0; k < CS_ARRAY_LEN(all); k++) {
            assert_int_equal(cs_addr_parse(&a, all[i], 1), 0);
            assert_int_equal(cs_addr_parse(&b, all[k], 1), 0);
            assert_int_equal(cs_addr_equal(&a, &b), i == k);
        }
        cs_addr_set_port(&a, 2);
        assert_int_equal(cs_addr_parse(&b, all[i], 1), 0);
        assert_int_equal(cs_addr_equal(&a, &b), cs_addr_family(&a) == AF_UNIX);
    }
}

static void test_pack(void **state)
{
    static const char *const all[] = {"1.2.3.4", "::1", "fe80::1%1"};
    struct cs_addr_packed packed;
    struct cs_addr a, b;

    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(all); i++) {
        assert_int_equal(cs_addr_parse(&a, all[i], 8080), 0);
        assert_int_equal(cs_addr_pack(&packed, &a), 0);
        assert_true(cs_addr_unpack(&b, &packed));
        assert_true(cs_addr_equal(&a, &b));
        cs_addr_packed_free(&packed);
        assert_false(cs_addr_unpack(&b, &packed));
    }
    assert_int_equal(cs_addr_parse(&a, "0.0.0.0", 0), 0);
    assert_int_equal(cs_addr_pack(&packed, &a), 0);
    assert_true(cs_addr_unpack(&b, &packed));
    assert_int_equal(cs_addr_parse(&a, "unix:/a", 0), 0);
    assert_int_equal(cs_addr_pack(&packed, &a), 0);
    assert_false(cs_addr_unpack(&b, &packed));
#ifdef CS_FAULTS
    assert_int_equal(cs_addr_parse(&a, "::1", 1), 0);
    cs_mem_fail_nth(1);
    assert_int_equal(cs_addr_pack(&packed, &a), -ENOMEM);
    cs_mem_fail_nth(0);
    assert_false(cs_addr_unpack(&b, &packed));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),      cmocka_unit_test(test_parse_refuses),
        cmocka_unit_test(test_scope_name), cmocka_unit_test(test_unix_length),
        cmocka_unit_test(test_split),      cmocka_unit_test(test_split_host_size),
        cmocka_unit_test(test_any),        cmocka_unit_test(test_mapped),
        cmocka_unit_test(test_none),       cmocka_unit_test(test_unix_kernel),
        cmocka_unit_test(test_equal),      cmocka_unit_test(test_pack),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
