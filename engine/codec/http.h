/*
 * http - HTTP/1.0 and 1.1 messages out of bytes, in whatever pieces they arrive (RFC 9110, RFC
 * 9112).
 *
 *   HEAD ──▶ body: none | a length | chunks ─▶ trailers | until the connection ends ──▶ END ──▶
 * HEAD
 *
 * Strict on purpose: what two implementations could read differently is refused, because that is
 * how requests are smuggled (RFC 9112 11.2): bare CR or LF, folded lines, space before a colon, two
 * lengths, a length beside chunks, codings that do not end in "chunked", chunk sizes with anything
 * odd in them.
 *
 * No socket here: bytes in, parts out. Memory: the head and its fields, freed by cs_http_finish.
 */
#ifndef CS_CODEC_HTTP_H
#define CS_CODEC_HTTP_H

#include "base/base.h"

enum cs_http_kind { CS_HTTP_REQUESTS, CS_HTTP_RESPONSES };

struct cs_http_limits {
    uint32_t line;   /* bytes of the start line, of a field line, of a chunk's size line */
    uint32_t head;   /* bytes of a head with its trailers */
    uint16_t fields; /* of a head with its trailers */
};

/* 8 KiB a line, 64 KiB a head, 100 fields. */
void cs_http_limits_default(struct cs_http_limits *limits);

/* Text within the head: see cs_http_text. */
struct cs_http_span {
    uint32_t at, len;
};

struct cs_http_field {
    struct cs_http_span name; /* as sent */
    struct cs_http_span value;
};

enum cs_http_body { CS_HTTP_NO_BODY, CS_HTTP_LENGTH, CS_HTTP_CHUNKED, CS_HTTP_UNTIL_CLOSE };

struct cs_http {
    /* Once cs_http_next has returned CS_HTTP_HEAD, until the next head begins: */
    struct cs_http_span method, target; /* of a request */
    struct cs_http_span reason;         /* of a response, may be empty */
    uint16_t status;                    /* of a response; after an error: what to answer */
    uint8_t minor;                      /* HTTP/1.minor */
    bool keep_alive;                    /* the connection may be used again after this message */
    bool upgrade;                       /* "Connection: upgrade" */
    bool expect_continue;               /* the body is sent after a 100 */
    enum cs_http_body body;
    uint64_t length; /* of the body; only with CS_HTTP_LENGTH */
    struct cs_http_field *fields;
    uint16_t field_count;
    uint16_t trailer_count; /* behind the fields, once CS_HTTP_END was returned */
    /* After an error: what was wrong, a constant. */
    const char *why;

    /* The reader's own. */
    struct cs_http_limits limits;
    enum cs_http_kind kind;
    uint8_t state;
    bool answer_to_head, answer_to_connect;
    bool has_host, has_length, has_coding, close, persistent;
    uint16_t fields_room;
    uint32_t line_at; /* where the current line begins in text */
    uint32_t line_len;
    uint64_t left; /* bytes of the body, or of the chunk, still to come */
    char *text;
    uint32_t text_len, text_room;
};

/* Nothing is allocated yet. limits NULL: the defaults. */
void cs_http_init(struct cs_http *h, enum cs_http_kind kind, const struct cs_http_limits *limits);

/* The method of the request that the next response (and 1xx before it) answers: after HEAD and
 * CONNECT there is no body although the fields may speak of one (RFC 9112 6.3). */
void cs_http_answer_to(struct cs_http *h, const char *method, size_t len);

enum cs_http_got {
    CS_HTTP_MORE, /* all was used, more is needed */
    CS_HTTP_HEAD, /* a head is complete */
    CS_HTTP_DATA, /* bytes of the body, within the data given */
    CS_HTTP_END,  /* the message is complete; the next call begins another */
};

struct cs_http_part {
    size_t used;         /* bytes of the data given that are done with */
    const uint8_t *data; /* with CS_HTTP_DATA */
    size_t len;
};

/* Looks at data, the next bytes of the connection (len may be 0), up to the next thing to tell;
 * call again with the rest. A 1xx response is a head and an end. Returns enum cs_http_got;
 * -EBADMSG: the peer does not speak HTTP as it must: h->why, and h->status is what a server answers
 * (400, 414, 417, 431, 501, 505) before it closes; -ENOMEM. After an error: only cs_http_finish. */
CS_MUST_CHECK int cs_http_next(struct cs_http *h, const uint8_t *data, size_t len,
                               struct cs_http_part *part);

/* The connection has ended. CS_HTTP_END: that was the end of a body; CS_HTTP_MORE: between two
 * messages; -EBADMSG: in the middle of one. */
CS_MUST_CHECK int cs_http_eof(struct cs_http *h);

static inline const char *cs_http_text(const struct cs_http *h, struct cs_http_span s)
{
    return h->text + s.at;
}

/* The first field of that name (any case; only of the head, not the trailers), or NULL. */
const struct cs_http_field *cs_http_find(const struct cs_http *h, const char *name);

/* Whether `token` (lower case) stands in the comma-separated list, in any case. */
bool cs_http_list_has(const char *list, size_t len, const char *token);

/* For who writes heads: a method or field name; a field value (no CR, LF, NUL or other control). */
bool cs_http_is_token(const char *s, size_t len);
bool cs_http_is_value(const char *s, size_t len);

/* Whether it may stand in a request line after that method (RFC 9112 3.2). */
bool cs_http_is_target(const char *method, size_t method_len, const char *s, size_t len);

/* What usually follows the status (RFC 9110 15, RFC 6585); "" when there is nothing usual. */
const char *cs_http_reason(unsigned status);

void cs_http_finish(struct cs_http *h);

#endif
