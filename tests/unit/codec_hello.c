/*
 * codec_hello - ClientHellos cut at every byte into reads and into records, everything that is not
 * one, and random damage. CS_SEED=n repeats another run than the usual one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/hello.h"
#include "support/rng.h"

/* ---- building ---- */

static uint8_t text[200000];
static size_t text_len;

static void put(const void *data, size_t n)
{
    assert_true(text_len + n <= sizeof(text));
    memcpy(text + text_len, data, n);
    text_len += n;
}

static void put_number(uint32_t n, unsigned size)
{
    for (unsigned i = size; i > 0; i--) {
        put(&(uint8_t){(uint8_t)(n >> 8 * (i - 1))}, 1);
    }
}

/* Room for a length of `size` bytes; its place, for close_vector. */
static size_t open_vector(unsigned size)
{
    put_number(0, size);
    return text_len;
}

static void close_vector(size_t begin, unsigned size)
{
    size_t n = text_len - begin;

    for (unsigned i = 0; i < size; i++) {
        text[begin - 1 - i] = (uint8_t)(n >> 8 * i);
    }
}

static void put_sni(const char *name)
{
    put_number(0, 2);
    size_t ext = open_vector(2), list = open_vector(2);
    put_number(0, 1);
    size_t host = open_vector(2);
    put(name, strlen(name));
    close_vector(host, 2);
    close_vector(list, 2);
    close_vector(ext, 2);
}

/* Names separated by commas. */
static void put_alpn(const char *names)
{
    put_number(16, 2);
    size_t ext = open_vector(2), list = open_vector(2);
    while (*names) {
        size_t n = strcspn(names, ",");
        put_number((uint32_t)n, 1);
        put(names, n);
        names += n + (names[n] == ',');
    }
    close_vector(list, 2);
    close_vector(ext, 2);
}

static void put_versions(void)
{
    static const uint16_t versions[] = {0x7a7a, 0x0304, 0x0303}; /* the first is GREASE */

    put_number(43, 2);
    size_t ext = open_vector(2), list = open_vector(1);
    for (size_t i = 0; i < CS_ARRAY_LEN(versions); i++) {
        put_number(versions[i], 2);
    }
    close_vector(list, 1);
    close_vector(ext, 2);
}

/* The fixed part, up to the extensions. */
static size_t begin_hello(void)
{
    text_len = 0;
    put_number(1, 1);
    size_t body = open_vector(3);
    put_number(0x0303, 2);
    for (int i = 0; i < 32; i++) {
        put_number((uint32_t)i, 1);
    }
    size_t session = open_vector(1);
    put("0123456789abcdef0123456789abcdef", 32);
    close_vector(session, 1);
    size_t suites = open_vector(2);
    put_number(0x1301, 2);
    put_number(0xc02f, 2);
    close_vector(suites, 2);
    put_number(0x0100, 2); /* one compression: none */
    return body;
}

/* A handshake message in `text`; padding: bytes of an extension that nobody knows. */
static void build(const char *sni, const char *alpn, bool versions, size_t padding)
{
    size_t body = begin_hello(), extensions = open_vector(2);

    if (padding > 0) {
        put_number(0xfafa, 2);
        size_t ext = open_vector(2);
        for (size_t i = 0; i < padding; i++) {
            put_number(22, 1);
        }
        close_vector(ext, 2);
    }
    if (sni) {
        put_sni(sni);
    }
    if (alpn) {
        put_alpn(alpn);
    }
    if (versions) {
        put_versions();
    }
    close_vector(extensions, 2);
    close_vector(body, 3);
}

static uint8_t wire[1000000];
static size_t wire_len;

/* `text` as records: the first with `first` bytes, the others with `rest`. */
static void wrap(size_t first, size_t rest)
{
    size_t done = 0, n = first;

    wire_len = 0;
    while (done < text_len) {
        n = CS_MIN(n, text_len - done);
        assert_true(wire_len + n + 5 <= sizeof(wire));
        memcpy(wire + wire_len, (uint8_t[]){22, 3, 1, (uint8_t)(n >> 8), (uint8_t)n}, 5);
        memcpy(wire + wire_len + 5, text + done, n);
        wire_len += n + 5;
        done += n;
        n = rest;
    }
}

/* ---- reading ---- */

/* Feeds pieces of at most `piece` bytes, each at an address of its own, so that ASan sees a byte
 * too far. */
static int feed(struct cs_hello *h, const uint8_t *data, size_t len, size_t piece)
{
    int result = 0;

    for (size_t done = 0; done < len && result == 0; done += piece) {
        size_t n = CS_MIN(piece, len - done);
        uint8_t *copy = malloc(n);

        assert_non_null(copy);
        memcpy(copy, data + done, n);
        result = cs_hello_feed(h, copy, n);
        free(copy);
    }
    return result;
}

/* What the wire gives, in pieces. */
static int read_wire(struct cs_hello *h, size_t piece)
{
    cs_hello_init(h);
    return feed(h, wire, wire_len, piece);
}

static void check_name(struct cs_hello_name got, const char *expected)
{
    assert_int_equal(got.len, strlen(expected));
    assert_memory_equal(got.bytes, expected, got.len);
}

static void check_usual(const struct cs_hello *h)
{
    struct cs_hello_name name;
    size_t at = 0;

    check_name(h->sni, "www.example.com");
    assert_true(cs_hello_alpn(h, &at, &name));
    check_name(name, "h2");
    assert_true(cs_hello_alpn(h, &at, &name));
    check_name(name, "http/1.1");
    assert_false(cs_hello_alpn(h, &at, &name));
    assert_int_equal(h->version_count, 3);
    assert_null(cs_hello_version_name(h->versions));
    assert_string_equal(cs_hello_version_name(h->versions + 2), "TLSv1.3");
    assert_string_equal(cs_hello_version_name(h->versions + 4), "TLSv1.2");
}

static void build_usual(void)
{
    build("www.example.com", "h2,http/1.1", true, 0);
}

/* ---- tests ---- */

static void says_what_the_client_wants(void **state)
{
    struct cs_hello h;
    (void)state;

    build_usual();
    wrap(text_len, text_len);
    assert_int_equal(read_wire(&h, wire_len), 1);
    check_usual(&h);
    cs_hello_finish(&h);
}

static void cut_at_every_byte(void **state)
{
    struct cs_hello h;
    (void)state;

    build_usual();
    wrap(text_len, text_len);
    for (size_t cut = 0; cut < wire_len; cut++) {
        cs_hello_init(&h);
        assert_int_equal(cs_hello_feed(&h, wire, cut), 0);
        assert_int_equal(feed(&h, wire + cut, wire_len - cut, wire_len), 1);
        check_usual(&h);
        cs_hello_finish(&h);
    }
    for (size_t piece = 1; piece < 20; piece++) {
        assert_int_equal(read_wire(&h, piece), 1);
        check_usual(&h);
        cs_hello_finish(&h);
    }
}

static void records_cut_at_every_byte(void **state)
{
    struct cs_hello h;
    (void)state;

    build_usual();
    for (size_t first = 1; first <= text_len; first++) {
        wrap(first, text_len);
        assert_int_equal(read_wire(&h, 1), 1);
        check_usual(&h);
        cs_hello_finish(&h);
        wrap(first, first);
        assert_int_equal(read_wire(&h, wire_len), 1);
        check_usual(&h);
        cs_hello_finish(&h);
    }
}

static void long_ones(void **state)
{
    static const size_t paddings[] = {900, 1000, 1100, 16000, 16384, 20000, 40000, 65000};
    struct cs_hello h;
    (void)state;

    for (size_t i = 0; i < CS_ARRAY_LEN(paddings); i++) {
        build("www.example.com", "h2,http/1.1", true, paddings[i]);
        wrap(16384, 16384);
        assert_int_equal(read_wire(&h, 1448), 1);
        check_usual(&h);
        assert_true(h.room <= 2 * text_len);
        cs_hello_finish(&h);
    }
    build("www.example.com", "h2", true, 65300); /* beyond CS_HELLO_MAX with the rest of it */
    assert_true(text_len > CS_HELLO_MAX - 200);
    wrap(16384, 16384);
    text[1] = 1; /* a length of 2^16 and more is refused before any of it is kept */
    wrap(100, 100);
    assert_int_equal(read_wire(&h, 50), -EMSGSIZE);
    assert_true(h.room <= 1024);
    cs_hello_finish(&h);
}

/* What is announced is not allocated: only what has come. */
static void memory_follows_the_bytes(void **state)
{
    struct cs_hello h;
    (void)state;

    build("www.example.com", "h2", true, 60000);
    wrap(16384, 16384);
    cs_hello_init(&h);
    assert_int_equal(cs_hello_feed(&h, wire, 5), 0);
    assert_int_equal(h.room, 0);
    assert_int_equal(cs_hello_feed(&h, wire + 5, 500), 0);
    assert_int_equal(h.room, 1024);
    cs_hello_finish(&h);
}

static void what_is_left_out(void **state)
{
    struct cs_hello h;
    size_t at = 0;
    struct cs_hello_name name;
    (void)state;

    build(NULL, NULL, false, 0);
    wrap(text_len, text_len);
    assert_int_equal(read_wire(&h, wire_len), 1);
    assert_int_equal(h.sni.len, 0);
    assert_false(cs_hello_alpn(&h, &at, &name));
    assert_int_equal(h.version_count, 1);
    assert_string_equal(cs_hello_version_name(h.versions), "TLSv1.2");
    cs_hello_finish(&h);

    size_t body = begin_hello(); /* not even a list of extensions */
    close_vector(body, 3);
    wrap(text_len, text_len);
    assert_int_equal(read_wire(&h, 3), 1);
    assert_int_equal(h.sni.len, 0);
    cs_hello_finish(&h);
}

static void bytes_behind_it_do_not_matter(void **state)
{
    struct cs_hello h;
    (void)state;

    build_usual();
    wrap(text_len, text_len);
    memset(wire + wire_len, 0xff, 100);
    cs_hello_init(&h);
    assert_int_equal(cs_hello_feed(&h, wire, wire_len + 100), 1);
    check_usual(&h);
    cs_hello_finish(&h);
}

static void expect(int err, const void *data, size_t len)
{
    for (size_t piece = 1; piece <= len; piece += len > 1 ? len - 1 : 1) {
        struct cs_hello h;

        cs_hello_init(&h);
        assert_int_equal(feed(&h, data, len, piece), err);
        cs_hello_finish(&h);
    }
}

static void no_tls(void **state)
{
    (void)state;
    expect(-EPROTONOSUPPORT, "GET / HTTP/1.1\r\n", 16);
    expect(-EPROTONOSUPPORT, "SSH-2.0-x", 9);
    expect(-EPROTONOSUPPORT, "\0", 1);
    expect(-EPROTONOSUPPORT, "\x16\x02", 2);
    expect(-EPROTONOSUPPORT, "\x15\x03\x01\0\x02\x02\x28", 7); /* an alert */
    expect(-EPROTONOSUPPORT, "\x80\x2e\x01\x03\x01", 5);       /* SSL 2 */
    expect(-EBADMSG, "\x16\x03\x01\0\0", 5);
    expect(-EBADMSG, "\x16\x03\x01\x40\x01", 5);
    expect(-EBADMSG, "\x16\x03\x01\0\x04\x02\0\0\0", 9);            /* a ServerHello */
    expect(-EBADMSG, "\x16\x03\x01\0\x01\x01\x17\x03\x03\0\1", 11); /* other records between */
    expect(0, "\x16\x03\x01\0\x01\x01", 6);
}

/* Every vector one byte too long or too short, and every proper prefix. */
static void every_length_wrong(void **state)
{
    struct cs_hello h;
    (void)state;

    build_usual();
    size_t total = text_len;
    for (size_t i = 1; i < total; i++) {
        build_usual();
        text_len = i;
        text[2] = (uint8_t)((i < 4 ? 0 : i - 4) >> 8);
        text[3] = (uint8_t)(i < 4 ? 0 : i - 4);
        wrap(i, i);
        int result = read_wire(&h, wire_len);
        bool bare = i == 4 + 2 + 32 + 33 + 6 + 2; /* all but the extensions */
        assert_int_equal(result, i < 4 ? 0 : bare ? 1 : -EBADMSG);
        cs_hello_finish(&h);
    }
}

static void names_that_are_refused(void **state)
{
    static const char *const bad[] = {"", "a b", "a\tb", "\xc3\xa4.example", "\x7f"};
    struct cs_hello h;
    char longest[257];
    (void)state;

    for (size_t i = 0; i < CS_ARRAY_LEN(bad); i++) {
        build(bad[i], NULL, true, 0);
        wrap(text_len, text_len);
        assert_int_equal(read_wire(&h, wire_len), -EBADMSG);
        cs_hello_finish(&h);
    }
    memset(longest, 'a', 256);
    longest[256] = '\0';
    build(longest, NULL, true, 0);
    wrap(text_len, text_len);
    assert_int_equal(read_wire(&h, wire_len), -EBADMSG);
    cs_hello_finish(&h);
    longest[255] = '\0';
    build(longest, NULL, true, 0);
    wrap(text_len, text_len);
    assert_int_equal(read_wire(&h, wire_len), 1);
    check_name(h.sni, longest);
    cs_hello_finish(&h);
}

/* RFC 8446 4.2: no extension twice. Two readers that take different ones could be played off. */
static void twice_is_refused(void **state)
{
    struct cs_hello h;
    (void)state;

    for (int which = 0; which < 3; which++) {
        size_t body = begin_hello(), extensions = open_vector(2);

        for (int i = 0; i < 2; i++) {
            if (which == 0) {
                put_sni(i ? "b.example" : "a.example");
            } else if (which == 1) {
                put_alpn(i ? "h2" : "http/1.1");
            } else {
                put_versions();
            }
        }
        close_vector(extensions, 2);
        close_vector(body, 3);
        wrap(text_len, text_len);
        assert_int_equal(read_wire(&h, wire_len), -EBADMSG);
        cs_hello_finish(&h);
    }
}

/* ---- what a server refuses ---- */

/* A hello with these groups listed and these shared, which nothing is wrong with as long as the
 * second are among the first. */
static void build_shares(const uint16_t *listed, size_t n, const uint16_t *shared, size_t m)
{
    size_t list, ext;

    text_len = 0;
    put_number(10, 2);
    ext = open_vector(2);
    list = open_vector(2);
    for (size_t i = 0; i < n; i++) {
        put_number(listed[i], 2);
    }
    close_vector(list, 2);
    close_vector(ext, 2);
    put_number(51, 2);
    ext = open_vector(2);
    list = open_vector(2);
    for (size_t i = 0; i < m; i++) {
        put_number(shared[i], 2);
        put_number(3, 2);
        put("key", 3);
    }
    close_vector(list, 2);
    close_vector(ext, 2);
}

/* The alert for the extensions in `text`, or 0. */
static unsigned alert_for(uint16_t version)
{
    uint8_t *copy = malloc(text_len), alert = 0;
    const char *why;

    assert_non_null(copy);
    memcpy(copy, text, text_len);
    why = cs_hello_fault(version, copy, text_len, &alert);
    free(copy);
    return why ? alert : 0;
}

static void faults(void **state)
{
    static const uint16_t groups[] = {0x3a3a, 29, 23}, other[] = {29, 24};
    (void)state;

    build_shares(groups, 3, groups, 2);
    assert_int_equal(alert_for(0x0303), 0);
    assert_int_equal(alert_for(0x0301), 0); /* an old record of the version says nothing */
    assert_int_equal(alert_for(0x0304), 0);
    assert_int_equal(alert_for(0x0300), 70);
    assert_int_equal(alert_for(0x0200), 70);
    put_sni("www.example.com");
    assert_int_equal(alert_for(0x0303), 0);
    put_number(0xfafa, 2);
    put_number(0, 2);
    assert_int_equal(alert_for(0x0303), 0);
    put_number(0xfafa, 2); /* one that nobody knows, a second time */
    put_number(0, 2);
    assert_int_equal(alert_for(0x0303), 47);
    build_shares(groups, 3, other, 2);
    assert_int_equal(alert_for(0x0303), 47);
    build_shares(groups, 3, NULL, 0);
    put_sni("\033[31mred");
    assert_int_equal(alert_for(0x0303), 47);
    text_len = 0;
    assert_int_equal(alert_for(0x0303), 0);
}

/* What cannot be parsed is for the library to refuse; here it is only not read beyond. */
static void faults_of_fragments(void **state)
{
    static const uint16_t groups[] = {29, 23};
    (void)state;

    build_shares(groups, 2, groups, 2);
    put_sni("www.example.com");
    for (size_t n = text_len; n > 0; n--) {
        text_len = n - 1;
        alert_for(0x0303);
    }
    for (int round = 0; round < 10000; round++) {
        build_shares(groups, 2, groups, 2);
        put_sni("www.example.com");
        for (uint32_t n = 1 + rnd(3); n > 0; n--) {
            text[rnd((uint32_t)text_len)] = (uint8_t)rnd(256);
        }
        unsigned alert = alert_for(0x0303);
        assert_true(alert == 0 || alert == 47);
    }
}

/* Random damage in random pieces: any result, but no byte beyond and no hang. */
static void fuzz(void **state)
{
    (void)state;
    for (int round = 0; round < 30000; round++) {
        struct cs_hello h;
        struct cs_hello_name name;
        size_t at = 0;

        build(rnd(2) ? "www.example.com" : NULL, rnd(2) ? "h2,http/1.1" : NULL, rnd(2),
              rnd(8) ? 0 : rnd(3000));
        if (rnd(2)) {
            text[rnd((uint32_t)text_len)] = (uint8_t)rnd(256);
        }
        wrap(1 + rnd((uint32_t)text_len), 1 + rnd((uint32_t)text_len));
        for (uint32_t n = rnd(4); n > 0; n--) {
            wire[rnd((uint32_t)wire_len)] = (uint8_t)rnd(256);
        }
        if (rnd(4) == 0) {
            wire_len = rnd((uint32_t)wire_len + 1);
        }
        if (read_wire(&h, 1 + rnd(400)) == 1) {
            size_t sum = 0;

            for (size_t i = 0; i < h.version_count; i++) {
                sum += cs_hello_version_name(h.versions + 2 * i) != NULL;
            }
            while (cs_hello_alpn(&h, &at, &name)) {
                sum += (uint8_t)name.bytes[name.len - 1];
            }
            for (size_t i = 0; i < h.sni.len; i++) {
                assert_true(h.sni.bytes[i] > ' ' && h.sni.bytes[i] <= '~');
            }
            assert_true(sum < 100000);
        }
        cs_hello_finish(&h);
    }
}

#ifdef CS_FAULTS
static void no_memory(void **state)
{
    struct cs_hello h;
    unsigned long n = 1;
    int result;
    (void)state;

    build("www.example.com", "h2,http/1.1", true, 5000);
    wrap(text_len, text_len);
    do {
        cs_mem_fail_nth(n++);
        result = read_wire(&h, 1000);
        assert_true(result == 1 || result == -ENOMEM);
        cs_hello_finish(&h);
    } while (cs_mem_failed());
    cs_mem_fail_nth(0);
    assert_int_equal(result, 1);
    assert_true(n > 3);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_the_client_wants),
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(records_cut_at_every_byte),
        cmocka_unit_test(long_ones),
        cmocka_unit_test(memory_follows_the_bytes),
        cmocka_unit_test(what_is_left_out),
        cmocka_unit_test(bytes_behind_it_do_not_matter),
        cmocka_unit_test(no_tls),
        cmocka_unit_test(every_length_wrong),
        cmocka_unit_test(names_that_are_refused),
        cmocka_unit_test(twice_is_refused),
        cmocka_unit_test(faults),
        cmocka_unit_test(faults_of_fragments),
        cmocka_unit_test(fuzz),
#ifdef CS_FAULTS
        cmocka_unit_test(no_memory),
#endif
    };
    rng_start(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
