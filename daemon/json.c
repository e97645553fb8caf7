/*
 * json - see json.h. What is not UTF-8 in a string becomes U+FFFD, so the output always parses.
 */
#include "daemon/json.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "codec/utf8.h"
#include "script/conf.h"

void csd_json_begin(struct csd_json *j, FILE *out)
{
    *j = (struct csd_json){.out = out};
}

/* Length of the character at p, 0 when it is none. */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    struct cs_utf8 u = {0};

    for (size_t n = 0; n < left && cs_utf8_feed(&u, p + n, 1); n++) {
        if (cs_utf8_complete(&u)) {
            return n + 1;
        }
    }
    return 0;
}

static void write_escaped(FILE *out, unsigned char c)
{
    if (c == '"' || c == '\\') {
        (void)fprintf(out, "\\%c", c);
    } else if (c == '\n') {
        (void)fputs("\\n", out);
    } else if (c == '\t') {
        (void)fputs("\\t", out);
    } else {
        (void)fprintf(out, "\\u%04x", c);
    }
}

static void write_text(FILE *out, const char *bytes, size_t len)
{
    const unsigned char *p = (const unsigned char *)bytes, *end = p + len;

    (void)fputc('"', out);
    while (p < end) {
        size_t n = utf8_length(p, (size_t)(end - p));

        if (n == 0) {
            (void)fputs("\\ufffd", out);
            n = 1;
        } else if (*p < 0x20 || *p == '"' || *p == '\\' || *p == 0x7f) {
            write_escaped(out, *p);
        } else {
            (void)fwrite(p, 1, n, out);
        }
        p += n;
    }
    (void)fputc('"', out);
}

static void indent(const struct csd_json *j)
{
    (void)fprintf(j->out, "\n%*s", (int)(j->depth * 2), "");
}

/* What stands before a value. False while inside a level that is too deep. */
static bool prepare(struct csd_json *j, const char *key)
{
    if (j->skipped > 0) {
        return false;
    }
    if (j->filled[j->depth]) {
        (void)fputc(',', j->out);
    }
    j->filled[j->depth] = true;
    if (j->depth > 0) {
        indent(j);
    }
    if (key) {
        write_text(j->out, key, strlen(key));
        (void)fputs(": ", j->out);
    }
    return true;
}

void csd_json_open(struct csd_json *j, const char *key, char bracket)
{
    if (j->depth == CSD_JSON_DEPTH_MAX) {
        csd_json_null(j, key);
        j->skipped++;
    } else if (prepare(j, key)) {
        (void)fputc(bracket, j->out);
        j->filled[++j->depth] = false;
    } else {
        j->skipped++;
    }
}

void csd_json_close(struct csd_json *j, char bracket)
{
    if (j->skipped > 0) {
        j->skipped--;
        return;
    }
    j->depth--;
    if (j->filled[j->depth + 1]) {
        indent(j);
    }
    (void)fputc(bracket, j->out);
    if (j->depth == 0) {
        (void)fputc('\n', j->out);
    }
}

void csd_json_bytes(struct csd_json *j, const char *key, const char *bytes, size_t len)
{
    if (prepare(j, key)) {
        write_text(j->out, bytes, len);
    }
}

void csd_json_string(struct csd_json *j, const char *key, const char *text)
{
    if (text) {
        csd_json_bytes(j, key, text, strlen(text));
    } else {
        csd_json_null(j, key);
    }
}

void csd_json_uint(struct csd_json *j, const char *key, uint64_t n)
{
    if (prepare(j, key)) {
        (void)fprintf(j->out, "%" PRIu64, n);
    }
}

void csd_json_bool(struct csd_json *j, const char *key, bool b)
{
    if (prepare(j, key)) {
        (void)fputs(b ? "true" : "false", j->out);
    }
}

void csd_json_null(struct csd_json *j, const char *key)
{
    if (prepare(j, key)) {
        (void)fputs("null", j->out);
    }
}

static void write_table(struct csd_json *j, const char *key, const struct cs_value *v)
{
    size_t n = v->table.count;
    bool named = n > 0 && v->table.members[n - 1].key;

    csd_json_open(j, key, named ? '{' : '[');
    for (size_t i = 0; i < n; i++) {
        const struct cs_member *m = &v->table.members[i];
        char position[24];

        (void)snprintf(position, sizeof(position), "%zu", i + 1);
        csd_json_value(j, m->key ? m->key : named ? position : NULL, &m->value);
    }
    csd_json_close(j, named ? '}' : ']');
}

void csd_json_value(struct csd_json *j, const char *key, const struct cs_value *v)
{
    switch (v->type) {
    case CS_VALUE_BOOL:
        csd_json_bool(j, key, v->boolean);
        break;
    case CS_VALUE_INT:
        if (prepare(j, key)) {
            (void)fprintf(j->out, "%" PRId64, v->integer);
        }
        break;
    case CS_VALUE_NUMBER:
        if (!isfinite(v->number)) {
            csd_json_null(j, key);
        } else if (prepare(j, key)) {
            (void)fprintf(j->out, "%.17g", v->number);
        }
        break;
    case CS_VALUE_STRING:
        csd_json_bytes(j, key, v->string.bytes, v->string.len);
        break;
    case CS_VALUE_TABLE:
        write_table(j, key, v);
        break;
    case CS_VALUE_NIL:
        csd_json_null(j, key);
        break;
    }
}
