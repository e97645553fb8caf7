/* codec_hash - the vectors of RFC 1321, FIPS 180, RFC 2202 and RFC 4231, in pieces too. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/mem.h"
#include "codec/hash.h"

static void assert_digest(const struct cs_hash *h, const char *hex)
{
    unsigned char digest[CS_HASH_MAX];
    char text[2 * CS_HASH_MAX + 1] = "";
    int n = cs_hash_digest(h, digest);

    assert_true(n > 0);
    for (int i = 0; i < n; i++) {
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    assert_string_equal(text, hex);
}

static void check(enum cs_hash_kind kind, const char *key, const char *data, const char *hex)
{
    struct cs_hash *h;

    assert_int_equal(cs_hash_create(&h, kind, key, key ? strlen(key) : 0), 0);
    cs_hash_add(h, data, strlen(data));
    assert_digest(h, hex);
    cs_hash_destroy(h);
}

static void test_plain(void **state)
{
    (void)state;
    check(CS_HASH_MD5, NULL, "", "d41d8cd98f00b204e9800998ecf8427e");
    check(CS_HASH_MD5, NULL, "abc", "900150983cd24fb0d6963f7d28e17f72");
    check(CS_HASH_SHA1, NULL, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d");
    check(CS_HASH_SHA256, NULL, "abc",
          "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check(CS_HASH_SHA384, NULL, "abc",
          "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca1"
          "34c825"
          "a7");
    check(CS_HASH_SHA512, NULL, "abc",
          "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23"
          "a3feeb"
          "bd454d4423643ce80e2a9ac94fa54ca49f");
}

static void test_hmac(void **state)
{
    static const char data[] = "what do ya want for nothing?";

    (void)state;
    check(CS_HASH_MD5, "Jefe", data, "750c783e6ab0b503eaa86e310a5db738");
    check(CS_HASH_SHA1, "Jefe", data, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    check(CS_HASH_SHA256, "Jefe", data,
          "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    check(CS_HASH_SHA256, "", "",
          "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* The digest does not end it, and pieces are the whole. */
static void test_goes_on(void **state)
{
    struct cs_hash *h;

    (void)state;
    assert_int_equal(cs_hash_create(&h, CS_HASH_MD5, NULL, 0), 0);
    assert_digest(h, "d41d8cd98f00b204e9800998ecf8427e");
    cs_hash_add(h, "a", 1);
    cs_hash_add(h, "", 0);
    cs_hash_add(h, "bc", 2);
    assert_digest(h, "900150983cd24fb0d6963f7d28e17f72");
    assert_digest(h, "900150983cd24fb0d6963f7d28e17f72");
    cs_hash_destroy(h);
    cs_hash_destroy(NULL);
}

#ifdef CS_FAULTS
static void test_no_memory(void **state)
{
    struct cs_hash *h = NULL;

    (void)state;
    cs_mem_fail_nth(1);
    assert_int_equal(cs_hash_create(&h, CS_HASH_SHA1, NULL, 0), -ENOMEM);
    cs_mem_fail_nth(0);
    assert_null(h);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_hmac),
        cmocka_unit_test(test_goes_on),
#ifdef CS_FAULTS
        cmocka_unit_test(test_no_memory),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
