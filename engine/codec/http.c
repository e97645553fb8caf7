/* http - see http.h. Lines are collected in h->text and looked at one by one; bodies pass through.
 */
#include "codec/http.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

enum state {
    START,    /* nothing of a message has arrived, or one empty line (RFC 9112 2.2) */
    LINE,     /* in the start line */
    FIELDS,   /* in a field line */
    HEAD,     /* the head has been told, its body is next */
    LENGTH,   /* `left` bytes of body */
    CLOSING,  /* body until the end of the connection */
    SIZE,     /* in the line of a chunk's size */
    CHUNK,    /* `left` bytes of a chunk */
    CHUNK_CR, /* behind them */
    CHUNK_LF,
    TRAILERS, /* in a trailer line */
    OVER,     /* the end is to be told */
    BROKEN,
};

#define TEXT_FIRST 1024u /* bytes, of a head without cookies */
#define FIELDS_FIRST 16u
#define LENGTH_MAX INT64_MAX

void cs_http_limits_default(struct cs_http_limits *limits)
{
    *limits = (struct cs_http_limits){.line = 8192, .head = 65536, .fields = 100};
}

/* ---- characters ---- */

enum {
    TOKEN = 1,  /* tchar, RFC 9110 5.6.2 */
    VALUE = 2,  /* field-content, space and tab */
    TARGET = 4, /* visible, but no fragment */
    AUTH = 8,   /* of a host and port */
};

#define ALNUM (TOKEN | VALUE | TARGET | AUTH)

static const uint8_t classes[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = ALNUM,
    ['"'] = VALUE | TARGET,
    ['#'] = TOKEN | VALUE,
    ['$' ... '\''] = ALNUM,
    ['(' ... ')'] = VALUE | TARGET | AUTH,
    ['*' ... '+'] = ALNUM,
    [','] = VALUE | TARGET | AUTH,
    ['-' ... '.'] = ALNUM,
    ['/'] = VALUE | TARGET,
    ['0' ... '9'] = ALNUM,
    [':' ... ';'] = VALUE | TARGET | AUTH,
    ['<'] = VALUE | TARGET,
    ['='] = VALUE | TARGET | AUTH,
    ['>' ... '@'] = VALUE | TARGET,
    ['A' ... 'Z'] = ALNUM,
    ['['] = VALUE | TARGET | AUTH,
    ['\\'] = VALUE | TARGET,
    [']'] = VALUE | TARGET | AUTH,
    ['^'] = TOKEN | VALUE | TARGET,
    ['_'] = ALNUM,
    ['`'] = TOKEN | VALUE | TARGET,
    ['a' ... 'z'] = ALNUM,
    ['{'] = VALUE | TARGET,
    ['|'] = TOKEN | VALUE | TARGET,
    ['}'] = VALUE | TARGET,
    ['~'] = ALNUM,
    [0x80 ... 0xff] = VALUE,
};

static bool all_of(const char *s, size_t len, uint8_t want)
{
    for (size_t i = 0; i < len; i++) {
        if (!(classes[(uint8_t)s[i]] & want)) {
            return false;
        }
    }
    return true;
}

bool cs_http_is_token(const char *s, size_t len)
{
    return len > 0 && all_of(s, len, TOKEN);
}

bool cs_http_is_value(const char *s, size_t len)
{
    return all_of(s, len, VALUE);
}

static bool is(const char *s, size_t len, const char *word)
{
    return len == strlen(word) && strncasecmp(s, word, len) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* ---- lists ---- */

/* The next element of a comma-separated list, without the blanks around it; false at the end. */
static bool list_next(const char **s, size_t *left, const char **item, size_t *len)
{
    while (*left > 0 && (is_blank(**s) || **s == ',')) {
        (*s)++;
        (*left)--;
    }
    const char *end = memchr(*s, ',', *left);
    size_t n = end ? (size_t)(end - *s) : *left;
    *item = *s;
    *s += n;
    *left -= n;
    while (n > 0 && is_blank((*item)[n - 1])) {
        n--;
    }
    *len = n;
    return n > 0;
}

bool cs_http_list_has(const char *list, size_t len, const char *token)
{
    const char *item;
    size_t n;
    while (len > 0 && list_next(&list, &len, &item, &n)) {
        if (is(item, n, token)) {
            return true;
        }
    }
    return false;
}

/* ---- errors ---- */

static int refuse(struct cs_http *h, uint16_t status, const char *why)
{
    h->state = BROKEN;
    h->status = status;
    h->why = why;
    return -EBADMSG;
}

/* ---- lines ---- */

static int keep(struct cs_http *h, const uint8_t *data, size_t len)
{
    if (len > h->text_room - h->text_len) {
        uint32_t room = h->text_room ? h->text_room : TEXT_FIRST;
        while (room - h->text_len < len) {
            room *= 2;
        }
        char *text = cs_realloc(h->text, room);
        if (!text) {
            return -ENOMEM;
        }
        h->text = text;
        h->text_room = room;
    }
    memcpy(h->text + h->text_len, data, len);
    h->text_len += (uint32_t)len;
    return 0;
}

/* data: what comes behind the part of the line that has been kept. */
static int too_long(struct cs_http *h, const uint8_t *data, size_t len)
{
    uint32_t kept = h->text_len - h->line_at, most = CS_MIN(h->limits.line, h->limits.head);
    if (h->state != START && h->state != LINE) {
        return refuse(h, 431, "the head is too long");
    }
    if (h->kind == CS_HTTP_RESPONSES) {
        return refuse(h, 431, "the status line is too long");
    }
    if ((kept > 0 && memchr(h->text + h->line_at, ' ', kept)) ||
        memchr(data, ' ', CS_MIN(len, most - kept))) {
        return refuse(h, 414, "the request line is too long");
    }
    return refuse(h, 400, "the method is too long");
}

/* Collects bytes up to a line's end. 1: the line is complete, without its end; 0: more is needed.
 */
static int collect(struct cs_http *h, const uint8_t *data, size_t len, size_t *used)
{
    const uint8_t *lf = memchr(data, '\n', len);
    size_t n = lf ? (size_t)(lf - data) + 1 : len;
    size_t line = h->text_len - h->line_at + n;
    *used = n;
    if (line > h->limits.line || h->text_len + n > h->limits.head) {
        return too_long(h, data, n);
    }
    int err = keep(h, data, n);
    if (err < 0) {
        return err;
    }
    char *begin = h->text + h->line_at;
    if (!lf) {
        /* A CR that is not the last byte so far can no longer be that of a line's end. */
        return memchr(begin, '\r', line - 1) ? refuse(h, 400, "a CR without LF") : 0;
    }
    if (line < 2 || begin[line - 2] != '\r') {
        return refuse(h, 400, "a LF without CR");
    }
    if (memchr(begin, '\r', line - 2)) {
        return refuse(h, 400, "a CR without LF");
    }
    h->line_len = (uint32_t)line - 2;
    return 1;
}

static struct cs_http_span span(const struct cs_http *h, const char *s, size_t len)
{
    return (struct cs_http_span){(uint32_t)(s - h->text), (uint32_t)len};
}

/* ---- start lines ---- */

static bool all_digits(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9') {
            return false;
        }
    }
    return len > 0;
}

/* host [":" port] of RFC 9110 7.2 and 4.2; user information is no part of it. */
static bool is_authority(const char *s, size_t len, bool need_port)
{
    if (!all_of(s, len, AUTH)) {
        return false;
    }
    const char *host_end = memchr(s, ']', len);
    if (len > 0 && s[0] == '[') {
        if (!host_end) {
            return false;
        }
        host_end++;
    } else {
        if (host_end || memchr(s, '[', len)) {
            return false;
        }
        host_end = memchr(s, ':', len);
        host_end = host_end ? host_end : s + len;
    }
    size_t port = len - (size_t)(host_end - s);
    if (port == 0) {
        return !need_port;
    }
    return *host_end == ':' && (port == 1 ? !need_port : all_digits(host_end + 1, port - 1)) &&
           port <= 6 && (!need_port || host_end > s);
}

/* Which form goes with which method. */
bool cs_http_is_target(const char *method, size_t method_len, const char *s, size_t len)
{
    if (len == 0 || !all_of(s, len, TARGET)) {
        return false;
    }
    if (method_len == 7 && memcmp(method, "CONNECT", 7) == 0) {
        return is_authority(s, len, true);
    }
    if (s[0] == '/') {
        return true;
    }
    if (len == 1 && s[0] == '*') {
        return method_len == 7 && memcmp(method, "OPTIONS", 7) == 0;
    }
    size_t scheme = len > 7 && strncasecmp(s, "http://", 7) == 0    ? 7
                    : len > 8 && strncasecmp(s, "https://", 8) == 0 ? 8
                                                                    : 0;
    if (scheme == 0) {
        return false;
    }
    s += scheme;
    len -= scheme;
    size_t host = 0;
    while (host < len && s[host] != '/' && s[host] != '?') {
        host++;
    }
    return host > 0 && is_authority(s, host, false);
}

/* "HTTP/1.x"; sets minor. */
static int version(struct cs_http *h, const char *s, size_t len)
{
    if (len != 8 || memcmp(s, "HTTP/", 5) != 0 || !all_digits(s + 5, 1) || s[6] != '.' ||
        !all_digits(s + 7, 1)) {
        return refuse(h, 400, "no HTTP version in the start line");
    }
    if (s[5] != '1') {
        return refuse(h, 505, "not HTTP/1");
    }
    h->minor = (uint8_t)(s[7] - '0');
    return 0;
}

static int request_line(struct cs_http *h, const char *s, size_t len)
{
    const char *sp1 = memchr(s, ' ', len);
    size_t method = sp1 ? (size_t)(sp1 - s) : 0;
    if (!cs_http_is_token(s, method)) {
        return refuse(h, 400, "no method in the request line");
    }
    const char *target = sp1 + 1;
    const char *sp2 = memchr(target, ' ', len - method - 1);
    if (!sp2) {
        return refuse(h, 400, "no HTTP version in the request line");
    }
    size_t target_len = (size_t)(sp2 - target);
    int err = version(h, sp2 + 1, len - method - target_len - 2);
    if (err < 0) {
        return err;
    }
    if (!cs_http_is_target(s, method, target, target_len)) {
        return refuse(h, 400, "a bad request target");
    }
    h->method = span(h, s, method);
    h->target = span(h, target, target_len);
    return 0;
}

static int status_line(struct cs_http *h, const char *s, size_t len)
{
    int err = version(h, s, CS_MIN(len, 8u));
    if (err < 0) {
        return err;
    }
    if (len < 12 || s[8] != ' ' || !all_digits(s + 9, 3) || (len > 12 && s[12] != ' ') ||
        s[9] == '0') {
        return refuse(h, 400, "a bad status line");
    }
    size_t reason = len > 13 ? len - 13 : 0;
    if (!cs_http_is_value(s + len - reason, reason)) {
        return refuse(h, 400, "a bad reason in the status line");
    }
    h->status = (uint16_t)((s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0'));
    h->reason = span(h, s + len - reason, reason);
    return 0;
}

/* ---- fields that say how the message is framed ---- */

static int content_length(struct cs_http *h, const char *s, size_t len)
{
    if (h->has_length) {
        return refuse(h, 400, "two Content-Length fields");
    }
    h->has_length = true;
    if (!all_digits(s, len)) {
        return refuse(h, 400, "a bad Content-Length");
    }
    for (size_t i = 0; i < len; i++) {
        uint64_t digit = (uint64_t)(s[i] - '0');
        if (h->length > (LENGTH_MAX - digit) / 10) {
            return refuse(h, 400, "a Content-Length out of range");
        }
        h->length = h->length * 10 + digit;
    }
    return 0;
}

static int transfer_encoding(struct cs_http *h, const char *s, size_t len)
{
    if (h->has_coding) {
        return refuse(h, 400, "two Transfer-Encoding fields");
    }
    h->has_coding = true;
    if (is(s, len, "chunked")) {
        return 0;
    }
    /* RFC 9112 6.3: without "chunked" at the end, and only there, nobody can tell the length. */
    const char *item;
    size_t n;
    bool chunked = false, more = false;
    while (list_next(&s, &len, &item, &n)) {
        if (chunked) {
            return refuse(h, 400, "a transfer coding behind chunked");
        }
        chunked = is(item, n, "chunked");
        more |= !chunked;
    }
    if (!chunked || !more) {
        return refuse(h, 400, "a bad Transfer-Encoding");
    }
    return refuse(h, 501, "a transfer coding other than chunked");
}

static int host(struct cs_http *h, const char *s, size_t len)
{
    if (h->kind == CS_HTTP_RESPONSES) {
        return 0;
    }
    if (h->has_host) {
        return refuse(h, 400, "two Host fields");
    }
    h->has_host = true;
    return len > 0 && is_authority(s, len, false) ? 0 : refuse(h, 400, "a bad Host");
}

static int connection(struct cs_http *h, const char *s, size_t len)
{
    h->close |= cs_http_list_has(s, len, "close");
    h->persistent |= cs_http_list_has(s, len, "keep-alive");
    h->upgrade |= cs_http_list_has(s, len, "upgrade");
    return 0;
}

static int expect(struct cs_http *h, const char *s, size_t len)
{
    if (h->kind == CS_HTTP_RESPONSES || h->minor == 0) {
        return 0; /* RFC 9110 10.1.1: ignored from HTTP/1.0 */
    }
    if (!is(s, len, "100-continue")) {
        return refuse(h, 417, "an expectation other than 100-continue");
    }
    h->expect_continue = true;
    return 0;
}

static const struct special {
    const char *name;
    int (*note)(struct cs_http *h, const char *value, size_t len);
    bool framing; /* not among trailers (RFC 9110 6.5.1) */
} specials[] = {
    {"content-length", content_length, true},
    {"transfer-encoding", transfer_encoding, true},
    {"host", host, true},
    {"connection", connection, false},
    {"expect", expect, false},
};

static int note_field(struct cs_http *h, const struct cs_http_field *f)
{
    const char *name = cs_http_text(h, f->name);
    for (size_t i = 0; i < CS_ARRAY_LEN(specials); i++) {
        if (!is(name, f->name.len, specials[i].name)) {
            continue;
        }
        if (h->state != TRAILERS) {
            return specials[i].note(h, cs_http_text(h, f->value), f->value.len);
        }
        return specials[i].framing ? refuse(h, 400, "a framing field among the trailers") : 0;
    }
    return 0;
}

static struct cs_http_field *new_field(struct cs_http *h)
{
    uint16_t count = (uint16_t)(h->field_count + h->trailer_count);
    if (count == h->fields_room) {
        uint16_t room = h->fields_room ? (uint16_t)(h->fields_room * 2) : FIELDS_FIRST;
        struct cs_http_field *p = cs_realloc(h->fields, room * sizeof(*p));
        if (!p) {
            return NULL;
        }
        h->fields = p;
        h->fields_room = room;
    }
    if (h->state == TRAILERS) {
        h->trailer_count++;
    } else {
        h->field_count++;
    }
    return &h->fields[count];
}

static int field_line(struct cs_http *h, const char *s, size_t len)
{
    if (is_blank(s[0])) {
        return refuse(h, 400, "a folded field line");
    }
    const char *colon = memchr(s, ':', len);
    size_t name = colon ? (size_t)(colon - s) : 0;
    if (!cs_http_is_token(s, name)) {
        return refuse(h, 400, "a bad field name");
    }
    const char *value = colon + 1;
    size_t n = len - name - 1;
    while (n > 0 && is_blank(value[0])) {
        value++;
        n--;
    }
    while (n > 0 && is_blank(value[n - 1])) {
        n--;
    }
    if (!cs_http_is_value(value, n)) {
        return refuse(h, 400, "a control character in a field");
    }
    if (h->field_count + h->trailer_count >= h->limits.fields) {
        return refuse(h, 431, "too many fields");
    }
    struct cs_http_field *f = new_field(h);
    if (!f) {
        return -ENOMEM;
    }
    *f = (struct cs_http_field){span(h, s, name), span(h, value, n)};
    return note_field(h, f);
}

/* ---- the head as a whole ---- */

static void begin_message(struct cs_http *h)
{
    h->method = h->target = h->reason = (struct cs_http_span){0, 0};
    h->status = 0;
    h->minor = 0;
    h->keep_alive = h->upgrade = h->expect_continue = false;
    h->has_host = h->has_length = h->has_coding = h->close = h->persistent = false;
    h->body = CS_HTTP_NO_BODY;
    h->length = 0;
    h->field_count = h->trailer_count = 0;
    h->text_len = h->line_at = 0;
}

/* RFC 9112 6.3, in its order. */
static enum cs_http_body body_of(const struct cs_http *h)
{
    if (h->kind == CS_HTTP_RESPONSES) {
        bool tunnel = h->answer_to_connect && h->status >= 200 && h->status < 300;
        if (h->answer_to_head || tunnel || h->status < 200 || h->status == 204 ||
            h->status == 304) {
            return CS_HTTP_NO_BODY;
        }
    }
    if (h->has_coding) {
        return CS_HTTP_CHUNKED;
    }
    if (h->has_length) {
        return CS_HTTP_LENGTH;
    }
    return h->kind == CS_HTTP_RESPONSES ? CS_HTTP_UNTIL_CLOSE : CS_HTTP_NO_BODY;
}

static int head_complete(struct cs_http *h)
{
    if (h->has_coding && h->has_length) {
        return refuse(h, 400, "Content-Length beside Transfer-Encoding");
    }
    if (h->has_coding && h->minor == 0) {
        return refuse(h, 400, "Transfer-Encoding in HTTP/1.0");
    }
    if (h->kind == CS_HTTP_REQUESTS) {
        if (h->minor > 0 && !h->has_host) {
            return refuse(h, 400, "no Host");
        }
        bool framed = h->has_coding || h->has_length;
        if (framed && is(cs_http_text(h, h->method), h->method.len, "CONNECT")) {
            return refuse(h, 400, "a body with CONNECT");
        }
    }
    h->body = body_of(h);
    h->keep_alive = !h->close && (h->minor > 0 || h->persistent) && h->body != CS_HTTP_UNTIL_CLOSE;
    h->state = HEAD;
    return CS_HTTP_HEAD;
}

/* The state behind a head. */
static void begin_body(struct cs_http *h)
{
    static const uint8_t next[] = {[CS_HTTP_NO_BODY] = OVER,
                                   [CS_HTTP_LENGTH] = LENGTH,
                                   [CS_HTTP_CHUNKED] = SIZE,
                                   [CS_HTTP_UNTIL_CLOSE] = CLOSING};
    h->left = h->length;
    h->state = next[h->body];
    if (h->state == LENGTH && h->left == 0) {
        h->state = OVER;
    }
    h->line_at = h->text_len;
}

/* One complete line of a head or of the trailers. MORE: go on. */
static int head_line(struct cs_http *h)
{
    const char *s = h->text + h->line_at;
    size_t len = h->line_len;
    int err = 0;
    if (len == 0 && h->state == START) {
        h->text_len = 0;
        h->state = LINE; /* one is enough */
        return CS_HTTP_MORE;
    }
    if (len == 0 && h->state == FIELDS) {
        return head_complete(h);
    }
    if (len == 0 && h->state == TRAILERS) {
        h->state = OVER;
        return CS_HTTP_MORE;
    }
    if (h->state == START || h->state == LINE) {
        err = h->kind == CS_HTTP_REQUESTS ? request_line(h, s, len) : status_line(h, s, len);
        h->state = err < 0 ? h->state : FIELDS;
    } else {
        err = field_line(h, s, len);
    }
    h->line_at = h->text_len;
    return err < 0 ? err : CS_HTTP_MORE;
}

/* ---- chunks ---- */

static size_t blanks(const char *s, size_t len)
{
    size_t n = 0;
    while (n < len && is_blank(s[n])) {
        n++;
    }
    return n;
}

static size_t token(const char *s, size_t len)
{
    size_t n = 0;
    while (n < len && classes[(uint8_t)s[n]] & TOKEN) {
        n++;
    }
    return n;
}

/* A token or a quoted string; 0: neither. */
static size_t token_or_string(const char *s, size_t len)
{
    if (len == 0 || s[0] != '"') {
        return token(s, len);
    }
    for (size_t n = 1; n < len; n++) {
        if (s[n] == '"') {
            return n + 1;
        }
        n += s[n] == '\\';
    }
    return 0;
}

/* *( BWS ";" BWS name [ BWS "=" BWS value ] ) of RFC 9112 7.1.1 */
static bool is_extensions(const char *s, size_t len)
{
    const char *end = s + len;
    while (s < end) {
        s += blanks(s, (size_t)(end - s));
        if (s == end || *s++ != ';') {
            return false;
        }
        s += blanks(s, (size_t)(end - s));
        size_t name = token(s, (size_t)(end - s));
        s += name;
        size_t gap = blanks(s, (size_t)(end - s));
        size_t value = 1;
        if (s + gap < end && s[gap] == '=') {
            s += gap + 1;
            s += blanks(s, (size_t)(end - s));
            value = token_or_string(s, (size_t)(end - s));
            s += value;
        }
        if (name == 0 || value == 0) {
            return false;
        }
    }
    return true;
}

/* chunk-size [ ";" ext ]; the extensions are read over. The line is kept only until it has been
 * looked at. */
static int size_line(struct cs_http *h)
{
    const char *s = h->text + h->line_at;
    uint32_t i = 0;
    int digit;
    h->left = 0;
    for (; i < h->line_len && (digit = cs_hex_digit(s[i])) >= 0; i++) {
        if (h->left > LENGTH_MAX >> 4) {
            return refuse(h, 400, "a chunk size out of range");
        }
        h->left = h->left << 4 | (unsigned)digit;
    }
    if (i == 0 || !cs_http_is_value(s + i, h->line_len - i) ||
        !is_extensions(s + i, h->line_len - i)) {
        return refuse(h, 400, "a bad chunk size");
    }
    h->text_len = h->line_at;
    h->state = h->left > 0 ? CHUNK : TRAILERS;
    return CS_HTTP_MORE;
}

/* ---- the reader ---- */

static int line_step(struct cs_http *h, const uint8_t *data, size_t len, struct cs_http_part *part)
{
    size_t n;
    if (h->state == START && h->text_len == 0) {
        uint8_t first = data[0];
        begin_message(h);
        if (first != '\r' && !(classes[first] & TOKEN)) {
            return refuse(h, 400, "not HTTP");
        }
    }
    int got = collect(h, data, len, &n);
    if (got < 0) {
        return got;
    }
    part->used += n;
    if (got == 0) {
        return CS_HTTP_MORE;
    }
    return h->state == SIZE ? size_line(h) : head_line(h);
}

static int data_step(struct cs_http *h, const uint8_t *data, size_t len, struct cs_http_part *part)
{
    size_t n = h->state == CLOSING ? len : (size_t)CS_MIN((uint64_t)len, h->left);
    part->data = data;
    part->len = n;
    part->used += n;
    if (h->state != CLOSING) {
        h->left -= n;
    }
    if (h->state == LENGTH && h->left == 0) {
        h->state = OVER;
    } else if (h->state == CHUNK && h->left == 0) {
        h->state = CHUNK_CR;
    }
    return CS_HTTP_DATA;
}

static int chunk_end(struct cs_http *h, uint8_t c, struct cs_http_part *part)
{
    if (c != (h->state == CHUNK_CR ? '\r' : '\n')) {
        return refuse(h, 400, "a chunk longer than its size");
    }
    part->used++;
    h->state = h->state == CHUNK_CR ? CHUNK_LF : SIZE;
    return CS_HTTP_MORE;
}

static int step(struct cs_http *h, const uint8_t *data, size_t len, struct cs_http_part *part)
{
    switch ((enum state)h->state) {
    case LENGTH:
    case CLOSING:
    case CHUNK:
        return data_step(h, data, len, part);
    case CHUNK_CR:
    case CHUNK_LF:
        return chunk_end(h, data[0], part);
    default:
        return line_step(h, data, len, part);
    }
}

int cs_http_next(struct cs_http *h, const uint8_t *data, size_t len, struct cs_http_part *part)
{
    *part = (struct cs_http_part){0};
    if (h->state == HEAD) {
        begin_body(h);
    }
    while (h->state != OVER) {
        if (h->state == BROKEN) {
            return -EBADMSG;
        }
        if (part->used == len) {
            return CS_HTTP_MORE;
        }
        int got = step(h, data + part->used, len - part->used, part);
        if (got != CS_HTTP_MORE) {
            return got;
        }
    }
    h->state = START;
    h->text_len = 0;
    return CS_HTTP_END;
}

int cs_http_eof(struct cs_http *h)
{
    if (h->state == HEAD) {
        begin_body(h);
    }
    if (h->state == CLOSING || h->state == OVER) {
        h->state = START;
        h->text_len = 0;
        return CS_HTTP_END;
    }
    bool between = h->state == START || h->state == LINE;
    return between && h->text_len == 0 ? CS_HTTP_MORE
                                       : refuse(h, 400, "the connection ended within a message");
}

const struct cs_http_field *cs_http_find(const struct cs_http *h, const char *name)
{
    for (unsigned i = 0; i < h->field_count; i++) {
        const struct cs_http_field *f = &h->fields[i];
        if (is(cs_http_text(h, f->name), f->name.len, name)) {
            return f;
        }
    }
    return NULL;
}

void cs_http_init(struct cs_http *h, enum cs_http_kind kind, const struct cs_http_limits *limits)
{
    *h = (struct cs_http){.kind = kind, .state = START};
    if (limits) {
        h->limits = *limits;
    } else {
        cs_http_limits_default(&h->limits);
    }
}

void cs_http_answer_to(struct cs_http *h, const char *method, size_t len)
{
    h->answer_to_head = len == 4 && memcmp(method, "HEAD", 4) == 0;
    h->answer_to_connect = len == 7 && memcmp(method, "CONNECT", 7) == 0;
}

void cs_http_finish(struct cs_http *h)
{
    cs_free(h->text);
    cs_free(h->fields);
    h->text = NULL;
    h->fields = NULL;
    h->text_len = h->text_room = 0;
    h->field_count = h->fields_room = 0;
}

const char *cs_http_reason(unsigned status)
{
    static const struct {
        uint16_t status;
        const char *reason;
    } known[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {203, "Non-Authoritative Information"},
        {204, "No Content"},
        {205, "Reset Content"},
        {206, "Partial Content"},
        {300, "Multiple Choices"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {407, "Proxy Authentication Required"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {511, "Network Authentication Required"},
    };
    for (size_t i = 0; i < CS_ARRAY_LEN(known); i++) {
        if (known[i].status == status) {
            return known[i].reason;
        }
    }
    return "";
}
