/*
 * codec_http - messages cut at every byte, everything that must be refused, limits, the lack of
 * memory at every allocation, and random damage. CS_SEED=n repeats another run than the usual one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/http.h"
#include "support/rng.h"

/* ---- what a reader makes of some bytes, as text ---- */

struct told {
    char *text;
    size_t len, room;
    bool in_data;
};

static void say(struct told *t, const char *s, size_t n)
{
    if (t->len + n + 1 > t->room) {
        t->room = 2 * (t->len + n + 1);
        t->text = realloc(t->text, t->room);
        assert_non_null(t->text);
    }
    memcpy(t->text + t->len, s, n);
    t->len += n;
    t->text[t->len] = '\0';
}

static void say_text(struct told *t, const char *s)
{
    say(t, s, strlen(s));
}

static void say_span(struct told *t, const struct cs_http *h, struct cs_http_span s)
{
    say(t, cs_http_text(h, s), s.len);
}

static void say_fields(struct told *t, const struct cs_http *h, unsigned from, unsigned n)
{
    for (unsigned i = from; i < from + n; i++) {
        say_text(t, " ");
        say_span(t, h, h->fields[i].name);
        say_text(t, "=");
        say_span(t, h, h->fields[i].value);
    }
}

static void say_head(struct told *t, const struct cs_http *h)
{
    static const char *const bodies[] = {"none", "length", "chunked", "close"};
    char line[64];
    if (h->kind == CS_HTTP_REQUESTS) {
        say_span(t, h, h->method);
        say_text(t, " ");
        say_span(t, h, h->target);
    } else {
        snprintf(line, sizeof(line), "%u ", h->status);
        say_text(t, line);
        say_span(t, h, h->reason);
    }
    snprintf(line, sizeof(line), " 1.%u", h->minor);
    say_text(t, line);
    say_fields(t, h, 0, h->field_count);
    snprintf(line, sizeof(line), " %s%s%s%s", bodies[h->body], h->keep_alive ? " keep" : "",
             h->upgrade ? " upgrade" : "", h->expect_continue ? " expect" : "");
    say_text(t, line);
    if (h->body == CS_HTTP_LENGTH) {
        snprintf(line, sizeof(line), " %llu", (unsigned long long)h->length);
        say_text(t, line);
    }
}

static void say_part(struct told *t, const struct cs_http *h, int got,
                     const struct cs_http_part *part)
{
    if (got == CS_HTTP_MORE) {
        return;
    }
    if (got == CS_HTTP_DATA) {
        say_text(t, t->in_data ? "" : " (");
        say(t, (const char *)part->data, part->len);
        t->in_data = true;
        return;
    }
    say_text(t, t->in_data ? ")" : "");
    t->in_data = false;
    if (got == CS_HTTP_HEAD) {
        say_head(t, h);
    } else if (got == CS_HTTP_END) {
        say_fields(t, h, h->field_count, h->trailer_count);
        say_text(t, ".\n");
    }
}

/* The pieces end at `cut` (0: one piece; 1: every byte a piece). The last error, or 0. */
static int feed(struct cs_http *h, struct told *t, const char *s, size_t len, size_t cut, bool eof)
{
    size_t at = 0;
    while (at < len) {
        size_t end = cut == 1 ? at + 1 : at < cut && cut < len ? cut : len;
        /* memory of its own, so that ASan sees a byte too far */
        uint8_t *piece = malloc(end - at);
        assert_non_null(piece);
        memcpy(piece, s + at, end - at);
        struct cs_http_part part;
        int got = CS_HTTP_HEAD;
        for (size_t used = 0; got != CS_HTTP_MORE && got >= 0; used += part.used) {
            got = cs_http_next(h, piece + used, end - at - used, &part);
            assert_true(part.used <= end - at - used);
            if (got >= 0) {
                say_part(t, h, got, &part);
            }
            assert_true(got != CS_HTTP_MORE || used + part.used == end - at);
        }
        free(piece);
        if (got < 0) {
            return got;
        }
        at = end;
    }
    int got = eof ? cs_http_eof(h) : CS_HTTP_MORE;
    if (got >= 0) {
        say_part(t, h, got, &(struct cs_http_part){0});
    }
    return got < 0 ? got : 0;
}

struct message {
    enum cs_http_kind kind;
    const char *answer_to;
    bool eof;
    const char *text, *told; /* told NULL: refused */
    uint16_t status;
};

static int read_message(const struct message *m, size_t len, size_t cut, struct told *t,
                        struct cs_http *h)
{
    cs_http_init(h, m->kind, NULL);
    if (m->answer_to) {
        cs_http_answer_to(h, m->answer_to, strlen(m->answer_to));
    }
    return feed(h, t, m->text, len, cut, m->eof);
}

static void check(const struct message *m)
{
    size_t len = strlen(m->text);
    for (size_t cut = 0; cut < len; cut++) {
        struct told t = {0};
        struct cs_http h;
        int err = read_message(m, len, cut, &t, &h);
        if (m->told) {
            if (err < 0) {
                fail_msg("refused (%s), cut at %zu: %s", h.why, cut, m->text);
            }
            assert_string_equal(t.text, m->told);
        } else {
            if (err != -EBADMSG || h.status != m->status) {
                fail_msg("%d %u instead of %u, cut at %zu: %s", err, h.status, m->status, cut,
                         m->text);
            }
            assert_non_null(h.why);
            struct cs_http_part part;
            assert_int_equal(cs_http_next(&h, (const uint8_t *)"x", 1, &part), -EBADMSG);
        }
        cs_http_finish(&h);
        free(t.text);
    }
}

#define Q CS_HTTP_REQUESTS
#define A CS_HTTP_RESPONSES
#define HOST "Host: a\r\n"

static const struct message good[] = {
    {Q, NULL, false, "GET / HTTP/1.1\r\n" HOST "\r\n", "GET / 1.1 Host=a none keep.\n", 0},
    {Q, NULL, false, "\r\nGET /x?y HTTP/1.0\r\n\r\n", "GET /x?y 1.0 none.\n", 0},
    {Q, NULL, false, "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
     "GET / 1.0 Connection=Keep-Alive none keep.\n", 0},
    {Q, NULL, false, "GET / HTTP/1.1\r\nhost:a\r\nConnection: foo ,close\r\n\r\n",
     "GET / 1.1 host=a Connection=foo ,close none.\n", 0},
    {Q, NULL, false,
     "GET / HTTP/1.1\r\nHost: [::1]:80\r\nConnection: x\r\nConnection: Upgrade\r\n\r\n",
     "GET / 1.1 Host=[::1]:80 Connection=x Connection=Upgrade none keep upgrade.\n", 0},
    {Q, NULL, false,
     "POST / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n"
     "HOST:b\r\n\r\n",
     "POST / 1.1 Host=a Content-Length=3 length keep 3 (abc).\nGET / 1.1 HOST=b none keep.\n", 0},
    {Q, NULL, false, "POST / HTTP/1.1\r\n" HOST "content-length: 0\r\nExpect: 100-Continue\r\n\r\n",
     "POST / 1.1 Host=a content-length=0 Expect=100-Continue length keep expect 0.\n", 0},
    {Q, NULL, false,
     "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n"
     "3;x=\"y \\\"z\"; v ;w = u\r\nabc\r\n00a ;b\r\n0123456789\r\n0\r\nT: u\r\nV:\t w \r\n\r\n",
     "POST / 1.1 Host=a Transfer-Encoding=Chunked chunked keep (abc0123456789) T=u V=w.\n", 0},
    {Q, NULL, false, "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS * 1.1 Host=a none keep.\n", 0},
    {Q, NULL, false, "CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n",
     "CONNECT a.b:443 1.1 Host=a.b:443 none keep.\n", 0},
    {Q, NULL, false, "GET http://a:1/p?q HTTP/1.1\r\n" HOST "\r\n",
     "GET http://a:1/p?q 1.1 Host=a none keep.\n", 0},
    {Q, NULL, false, "GET / HTTP/1.1\r\n" HOST "A: \xc3\xa4\tb\r\nA!#$%&'*+-.^_`|~1:  \r\n\r\n",
     "GET / 1.1 Host=a A=\xc3\xa4\tb A!#$%&'*+-.^_`|~1= none keep.\n", 0},
    {Q, NULL, true, "GET / HTTP/1.1\r\n" HOST "\r\n\r\n", "GET / 1.1 Host=a none keep.\n", 0},
    {A, NULL, false, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
     "200 OK 1.1 Content-Length=2 length keep 2 (hi).\n", 0},
    {A, NULL, false, "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
     "200  1.1 Content-Length=0 length keep 0.\n", 0},
    {A, NULL, true, "HTTP/1.0 200 Fine \xe4\r\n\r\nall of it",
     "200 Fine \xe4 1.0 close (all of it).\n", 0},
    {A, NULL, false, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
     "100 Continue 1.1 none keep.\n204 No 1.1 none keep.\n", 0},
    {A, NULL, false, "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n",
     "304 x 1.1 Content-Length=9 none keep.\n", 0},
    {A, "HEAD", false, "HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n",
     "200 x 1.1 Content-Length=9 none keep.\n", 0},
    {A, "CONNECT", false, "HTTP/1.1 200 x\r\n\r\n", "200 x 1.1 none keep.\n", 0},
    {A, "CONNECT", false, "HTTP/1.1 407 x\r\nContent-Length: 1\r\n\r\ny",
     "407 x 1.1 Content-Length=1 length keep 1 (y).\n", 0},
    {A, NULL, false, "HTTP/1.1 101 S\r\nConnection: upgrade\r\n\r\n",
     "101 S 1.1 Connection=upgrade none keep upgrade.\n", 0},
    {A, NULL, false, "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ny\r\n0\r\n\r\n",
     "200 x 1.1 Transfer-Encoding=chunked chunked keep (y).\n", 0},
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        check(&good[i]);
    }
}

#define G(line) "GET / HTTP/1.1\r\n" HOST line "\r\n\r\n"
#define CHUNKS(text) "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n" text
#define TARGET(target) "GET " target " HTTP/1.1\r\n" HOST "\r\n"

static const struct message bad[] = {
    {Q, NULL, false, "\x16\x03\x01", NULL, 400}, /* TLS */
    {Q, NULL, false, " GET / HTTP/1.1\r\n\r\n", NULL, 400},
    {Q, NULL, false, "\r\n\r\n", NULL, 400},
    {Q, NULL, false, "GET /\r\n", NULL, 400}, /* HTTP/0.9 */
    {Q, NULL, false, "GET  / HTTP/1.1\r\n", NULL, 400},
    {Q, NULL, false, "GET /  HTTP/1.1\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1 \r\n", NULL, 400},
    {Q, NULL, false, "GET\t/ HTTP/1.1\r\n", NULL, 400},
    {Q, NULL, false, "G(T / HTTP/1.1\r\n", NULL, 400},
    {Q, NULL, false, "GET / http/1.1\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.10\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/2.0\r\n", NULL, 505},
    {Q, NULL, false, "GET / HTTP/1.1\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\r\n", NULL, 400},
    {Q, NULL, false, "GET / HT\rTP/1.1\r\n", NULL, 400},
    {Q, NULL, false, TARGET("x"), NULL, 400},
    {Q, NULL, false, TARGET("*"), NULL, 400},
    {Q, NULL, false, TARGET("/\x7f"), NULL, 400},
    {Q, NULL, false, TARGET("/\xc3\xa4"), NULL, 400},
    {Q, NULL, false, TARGET("/#x"), NULL, 400},
    {Q, NULL, false, TARGET("ftp://a/"), NULL, 400},
    {Q, NULL, false, TARGET("http://"), NULL, 400},
    {Q, NULL, false, TARGET("http:///"), NULL, 400},
    {Q, NULL, false, TARGET("http://u@a/"), NULL, 400},
    {Q, NULL, false, "CONNECT / HTTP/1.1\r\n", NULL, 400},
    {Q, NULL, false, "CONNECT a HTTP/1.1\r\n", NULL, 400},
    {Q, NULL, false, "CONNECT a: HTTP/1.1\r\n", NULL, 400},
    {Q, NULL, false, "CONNECT :1 HTTP/1.1\r\n", NULL, 400},
    {Q, NULL, false, "CONNECT a:b HTTP/1.1\r\n", NULL, 400},
    {Q, NULL, false, "CONNECT a:1 HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\n\r\n", NULL, 400}, /* no Host */
    {Q, NULL, false, G(HOST), NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\nHost:\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\nHost: a/b\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\nHost: a b\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\nHost: a@b\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\nHost: a:x\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\nHost: [::1\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\nHost: a:123456\r\n", NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\n Host: a\r\n", NULL, 400},
    {Q, NULL, false, G("A: b\r\n c"), NULL, 400},
    {Q, NULL, false, G("A: b\r\n\tc"), NULL, 400},
    {Q, NULL, false, G("A : b"), NULL, 400},
    {Q, NULL, false, G(": b"), NULL, 400},
    {Q, NULL, false, G("A"), NULL, 400},
    {Q, NULL, false, G("A\x01: b"), NULL, 400},
    {Q, NULL, false, G("A: b\x01"), NULL, 400},
    {Q, NULL, false, G("A: b\x7f"), NULL, 400},
    {Q, NULL, false, G("A: b\rc"), NULL, 400},
    {Q, NULL, false, G("A: b\nB: c"), NULL, 400},
    {Q, NULL, false, "GET / HTTP/1.1\r\n" HOST "\n", NULL, 400},
    {Q, NULL, false, G("Content-Length: 1\r\nContent-Length: 1"), NULL, 400},
    {Q, NULL, false, G("Content-Length: 1, 1"), NULL, 400},
    {Q, NULL, false, G("Content-Length: +1"), NULL, 400},
    {Q, NULL, false, G("Content-Length: -1"), NULL, 400},
    {Q, NULL, false, G("Content-Length: 0x1"), NULL, 400},
    {Q, NULL, false, G("Content-Length:"), NULL, 400},
    {Q, NULL, false, G("Content-Length: 9223372036854775808"), NULL, 400},
    {Q, NULL, false, G("Content-Length: 99999999999999999999"), NULL, 400},
    {Q, NULL, false, G("Content-Length: 1\r\nTransfer-Encoding: chunked"), NULL, 400},
    {Q, NULL, false, G("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), NULL, 400},
    {Q, NULL, false, G("Transfer-Encoding: gzip, chunked"), NULL, 501},
    {Q, NULL, false, G("Transfer-Encoding: chunked, chunked"), NULL, 400},
    {Q, NULL, false, G("Transfer-Encoding: chunked, gzip"), NULL, 400},
    {Q, NULL, false, G("Transfer-Encoding: gzip"), NULL, 400},
    {Q, NULL, false, G("Transfer-Encoding: xchunked"), NULL, 400},
    {Q, NULL, false, G("Transfer-Encoding: , chunked"), NULL, 400},
    {Q, NULL, false, G("Transfer-Encoding: chunked,"), NULL, 400},
    {Q, NULL, false, G("Transfer-Encoding: chunked;a=b"), NULL, 400},
    {Q, NULL, false, G("Transfer-Encoding:"), NULL, 400},
    {Q, NULL, false,
     G("Transfer-Encoding: \x0b"
       "chunked"),
     NULL, 400},
    {Q, NULL, false, G("Transfer-Encoding: identity"), NULL, 400},
    {Q, NULL, false, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", NULL, 400},
    {Q, NULL, false, G("Expect: 200-ok"), NULL, 417},
    {Q, NULL, false, CHUNKS("\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("x\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("0x1\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("-1\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS(" 1\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1 \r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;a;\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;a \r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;a=\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;=b\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;a[=b\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;a=b c\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;a=\"b\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;a=\"b\\\"\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;a=\"b\"c\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;a\x01\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1;a\nb\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("8000000000000000\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("10000000000000001\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1\r\nab"), NULL, 400},
    {Q, NULL, false, CHUNKS("1\r\na\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("1\r\na\rb"), NULL, 400},
    {Q, NULL, false, CHUNKS("0\r\nContent-Length: 1\r\n\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("0\r\nHost: b\r\n\r\n"), NULL, 400},
    {Q, NULL, false, CHUNKS("0\r\nA : b\r\n\r\n"), NULL, 400},
    {Q, NULL, true, "GET", NULL, 400},
    {Q, NULL, true, "GET / HTTP/1.1\r\n" HOST, NULL, 400},
    {Q, NULL, true, "POST / HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\na", NULL, 400},
    {Q, NULL, true, CHUNKS("1\r\na\r\n0\r\n"), NULL, 400},
    {A, NULL, false, "HTTP/1.1 20 x\r\n", NULL, 400},
    {A, NULL, false, "HTTP/1.1 099 x\r\n", NULL, 400},
    {A, NULL, false, "HTTP/1.1 2000\r\n", NULL, 400},
    {A, NULL, false, "HTTP/1.1  200\r\n", NULL, 400},
    {A, NULL, false, "HTTP/2 200 x\r\n", NULL, 400},
    {A, NULL, false, "HTTP/1.1 200 x\x01\r\n", NULL, 400},
    {A, NULL, false, "ICY 200 OK\r\n", NULL, 400},
    {A, NULL, false, "HTTP/1.1 200 x\r\nTransfer-Encoding: gzip\r\n", NULL, 400},
    {A, NULL, true, "HTTP/1.1 200 x\r\nContent-Length: 3\r\n\r\nab", NULL, 400},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        check(&bad[i]);
    }
}

static void test_nul_bytes(void **state)
{
    (void)state;
    static const char text[] = G("A: b");
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        char copy[sizeof(text)];
        memcpy(copy, text, sizeof(text));
        copy[i] = '\0';
        struct cs_http h;
        struct told t = {0};
        cs_http_init(&h, Q, NULL);
        assert_int_equal(feed(&h, &t, copy, sizeof(text) - 1, i & 1, false), -EBADMSG);
        cs_http_finish(&h);
        free(t.text);
    }
}

/* ---- limits ---- */

static uint16_t limited(const char *text, size_t cut)
{
    static const struct cs_http_limits limits = {.line = 32, .head = 80, .fields = 3};
    struct cs_http h;
    struct told t = {0};
    cs_http_init(&h, Q, &limits);
    int err = feed(&h, &t, text, strlen(text), cut, false);
    uint16_t status = err < 0 ? h.status : 0;
    cs_http_finish(&h);
    free(t.text);
    return status;
}

static void test_limits(void **state)
{
    static const struct {
        const char *text;
        uint16_t status;
    } cases[] = {
        {"GET /45678901234567 HTTP/1.1\r\n\r\n", 400}, /* 30 bytes; no Host */
        {"GET /4567890123456789 HTTP/1.1\r\nHost:a\r\n\r\n", 0},
        {"GET /45678901234567890 HTTP/1.1\r\nHost:a\r\n\r\n", 414},
        {"GET /456789012345678901234567890123456789", 414},
        {"METHODMETHODMETHODMETHODMETHODMETHOD / HTTP/1.1\r\n", 400},
        {"GET / HTTP/1.1\r\nHost:a\r\nA: 78901234567890123456789012\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost:a\r\nA: 7890123456789012345678901234\r\n\r\n", 431},
        {"GET / HTTP/1.1\r\nHost:a\r\nA: 789012345678901234\r\nB: 7890123456789\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost:a\r\nA: 789012345678901234\r\nB: "
         "789012345678901234567890123\r\n\r\n",
         431},
        {"GET / HTTP/1.1\r\nHost:a\r\nA:\r\nB:\r\n\r\n", 0},
        {"GET / HTTP/1.1\r\nHost:a\r\nA:\r\nB:\r\nC:\r\n\r\n", 431},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t cut = 0; cut < strlen(cases[i].text); cut++) {
            if (limited(cases[i].text, cut) != cases[i].status) {
                fail_msg("%u instead of %u, cut at %zu: %s", limited(cases[i].text, cut),
                         cases[i].status, cut, cases[i].text);
            }
        }
    }
}

static void test_long_chunk_line(void **state)
{
    static const struct cs_http_limits limits = {.line = 64, .head = 4096, .fields = 9};
    (void)state;
    char text[512];
    int n = snprintf(text, sizeof(text), "%s", CHUNKS("1;"));
    memset(text + n, 'x', 100);
    struct cs_http h;
    struct told t = {0};
    cs_http_init(&h, Q, &limits);
    assert_int_equal(feed(&h, &t, text, (size_t)n + 100, 1, false), -EBADMSG);
    assert_int_equal(h.status, 431);
    cs_http_finish(&h);
    free(t.text);
}

/* ---- one message after the other in the same reader ---- */

static void test_many_messages(void **state)
{
    (void)state;
    struct cs_http h;
    struct told t = {0};
    cs_http_init(&h, Q, NULL);
    for (unsigned i = 0; i < 1000; i++) {
        const char *s = i & 1 ? CHUNKS("3\r\nabc\r\n0\r\nX: y\r\n\r\n") : G("A: b");
        assert_int_equal(feed(&h, &t, s, strlen(s), i % 7, false), 0);
    }
    assert_true(h.text_room <= 4096);
    assert_int_equal(h.fields_room, 16);
    cs_http_finish(&h);
    free(t.text);
}

static void test_find(void **state)
{
    (void)state;
    const char *s = CHUNKS("0\r\nT: u\r\n\r\n");
    struct cs_http h;
    struct told t = {0};
    cs_http_init(&h, Q, NULL);
    assert_int_equal(feed(&h, &t, s, strlen(s), 0, false), 0);
    const struct cs_http_field *f = cs_http_find(&h, "transfer-encoding");
    assert_non_null(f);
    assert_memory_equal(cs_http_text(&h, f->value), "chunked", f->value.len);
    assert_null(cs_http_find(&h, "t"));
    assert_null(cs_http_find(&h, "hos"));
    cs_http_finish(&h);
    free(t.text);
}

static void test_words(void **state)
{
    (void)state;
    assert_true(cs_http_list_has("a, Close ,b", 11, "close"));
    assert_true(cs_http_list_has(",,close", 7, "close"));
    assert_false(cs_http_list_has("closed, disclose", 16, "close"));
    assert_false(cs_http_list_has("", 0, "close"));
    assert_false(cs_http_list_has(" , ,", 4, "close"));
    assert_true(cs_http_is_token("X-a", 3));
    assert_false(cs_http_is_token("", 0));
    assert_false(cs_http_is_token("a b", 3));
    assert_true(cs_http_is_value("", 0));
    assert_true(cs_http_is_value("a\tb \xff", 5));
    assert_false(cs_http_is_value("a\r\nb", 4));
    assert_false(cs_http_is_value("a\0b", 3));
}

/* ---- no memory ---- */

#ifdef CS_FAULTS
static void test_no_memory(void **state)
{
    char text[20000];
    (void)state;
    size_t n = (size_t)snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n" HOST);
    for (unsigned i = 0; i < 90; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "X-%u: %0100u\r\n", i, i);
    }
    n += (size_t)snprintf(text + n, sizeof(text) - n, "\r\n");
    unsigned failed = 0;
    for (unsigned long nth = 1;; nth++) {
        struct cs_http h;
        struct told t = {0};
        cs_http_init(&h, Q, NULL);
        cs_mem_fail_nth(nth);
        int err = feed(&h, &t, text, n, 777, false);
        bool hit = cs_mem_failed();
        cs_mem_fail_nth(0);
        assert_int_equal(err, hit ? -ENOMEM : 0);
        cs_http_finish(&h);
        free(t.text);
        if (!hit) {
            break;
        }
        failed++;
    }
    assert_true(failed >= 5); /* growing text and growing fields */
}
#endif

/* ---- damage: the cut never changes what is told, nothing crashes ---- */

static void damage(char *text, size_t *len, size_t room)
{
    static const char *const spice[] = {
        "\r\n",   "\n", "\r", ":", " ", ";", "0", "\t", ",", "\r\n\r\n", "Content-Length: 3\r\n",
        "chunked"};
    for (unsigned n = 1 + rnd(3); n > 0; n--) {
        size_t at = rnd((uint32_t)*len);
        const char *word = spice[rnd(12)];
        size_t word_len = strlen(word);
        switch (rnd(4)) {
        case 0:
            text[at] = (char)rnd(256);
            break;
        case 1:
            memmove(text + at, text + at + 1, *len - at - 1);
            *len -= *len > 1;
            break;
        case 2:
            if (*len + word_len < room) {
                memmove(text + at + word_len, text + at, *len - at);
                memcpy(text + at, word, word_len);
                *len += word_len;
            }
            break;
        default:
            text[at] = word[0];
        }
    }
}

static void test_damage(void **state)
{
    (void)state;
    const char *rounds_text = getenv("CS_FUZZ");
    unsigned long rounds = rounds_text ? strtoul(rounds_text, NULL, 10) : 20000;
    unsigned count = sizeof(good) / sizeof(good[0]), accepted = 0;
    for (unsigned long i = 0; i < rounds; i++) {
        struct message m = good[rnd(count)];
        char text[512];
        size_t len = strlen(m.text);
        memcpy(text, m.text, len);
        damage(text, &len, sizeof(text));
        m.text = text;
        struct told whole = {0}, cut = {0};
        struct cs_http a, b;
        int err_a = read_message(&m, len, 0, &whole, &a);
        int err_b = read_message(&m, len, 1 + rnd((uint32_t)len), &cut, &b);
        assert_int_equal(err_a, err_b);
        assert_int_equal(whole.len, cut.len);
        if (whole.len) {
            assert_memory_equal(whole.text, cut.text, whole.len);
        }
        accepted += err_a == 0;
        cs_http_finish(&a);
        cs_http_finish(&b);
        free(whole.text);
        free(cut.text);
    }
    assert_true(accepted > 0 && accepted < rounds);
}

int main(void)
{
    rng_start(1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_nul_bytes),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_long_chunk_line),
        cmocka_unit_test(test_many_messages),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_words),
#ifdef CS_FAULTS
        cmocka_unit_test(test_no_memory),
#endif
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
