/* json - the scanner, and json-c's tokener behind it. */
#include "codec/json.h"

#include <errno.h>
#include <json-c/json_object.h>
#include <json-c/json_tokener.h>
#include <string.h>

#include "base/mem.h"

/* Scanned and given to the tokener at once. */
#define PIECE 65536u

/* What json-c 0.16 and 0.18 allocate, rounded: an object with its table, an array, a value; and the
 * text itself while it is put together. */
#define COST_OBJECT 800u
#define COST_ARRAY 400u
#define COST_VALUE 64u
#define COST_BYTE 2u

/* Digits of INT64_MAX: a whole number with more is no 64-bit integer. */
#define DIGITS 19u

enum state { OUTSIDE, NUMBER, STRING, ESCAPE, UNICODE };

/* What of a number has been seen (RFC 8259, 6): json-c takes "1." and "-01". */
enum part { MINUS, ZERO, WHOLE, POINT, FRACTION, EXPONENT, SIGN, POWER, END, WRONG };

struct cs_json {
    struct json_tokener *tokener;
    enum state state;
    unsigned depth, depth_max;
    unsigned hex;     /* UNICODE: digits seen */
    char last;        /* OUTSIDE: the last character that is no space */
    bool zero;        /* the last string has a \u0000 in it; or, in UNICODE, may get one */
    bool zero_so_far; /* UNICODE: all digits were 0 */
    enum part part;
    bool negative, real;
    unsigned digits; /* NUMBER: of a whole number, the first ones are in `head` */
    char head[DIGITS];
    size_t scanned; /* bytes that the tokener has not got yet, at the beginning of the next ones */
    bool point;     /* then it gets ".0" */
    bool begun;
    bool complete; /* the last call gave a value; `cost` is still its */
    size_t cost;
    uint64_t offset; /* of the stream, in bytes given to the tokener */
    int err;         /* once the tokener has got what was scanned */
    const char *why;
    uint64_t where;
};

int cs_json_create(struct cs_json **out, unsigned depth_max)
{
    struct cs_json *j = cs_zalloc(sizeof(*j));

    if (!j) {
        return -ENOMEM;
    }
    j->depth_max = depth_max;
    j->tokener = json_tokener_new_ex((int)depth_max + 2); /* the scanner counts exactly */
    if (!j->tokener) {
        cs_free(j);
        return -ENOMEM;
    }
    *out = j;
    return 0;
}

void cs_json_destroy(struct cs_json *j)
{
    if (j) {
        json_tokener_free(j->tokener);
        cs_free(j);
    }
}

static int fail(struct cs_json *j, int err, const char *why, size_t at)
{
    j->why = why;
    j->where = j->offset + at + 1;
    return err;
}

/* ---- the scanner ----
 *
 * It refuses what json-c takes outside its strict mode. That mode is not used because in json-c
 * 0.18 it refuses all text that is not ASCII. */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The number that has just ended is whole and does not fit 64 bits. */
static bool too_large(const struct cs_json *j)
{
    const char *limit = j->negative ? "9223372036854775808" : "9223372036854775807";

    return !j->real &&
           (j->digits > DIGITS || (j->digits == DIGITS && memcmp(j->head, limit, DIGITS) > 0));
}

/* What c makes of a number that could end here. */
static enum part end_part(char c)
{
    return strchr("+-.eE", c) && c ? WRONG : END;
}

static enum part next_part(enum part part, char c)
{
    bool exponent = c == 'e' || c == 'E';

    switch (part) {
    case MINUS:
        return c == '0' ? ZERO : is_digit(c) ? WHOLE : WRONG;
    case ZERO:
        return c == '.' ? POINT : exponent ? EXPONENT : is_digit(c) ? WRONG : end_part(c);
    case WHOLE:
        return is_digit(c) ? WHOLE : c == '.' ? POINT : exponent ? EXPONENT : end_part(c);
    case POINT:
        return is_digit(c) ? FRACTION : WRONG;
    case FRACTION:
        return is_digit(c) ? FRACTION : exponent ? EXPONENT : end_part(c);
    case EXPONENT:
        return c == '+' || c == '-' ? SIGN : is_digit(c) ? POWER : WRONG;
    case SIGN:
        return is_digit(c) ? POWER : WRONG;
    default:
        return is_digit(c) ? POWER : end_part(c);
    }
}

static void number_begins(struct cs_json *j, char c)
{
    j->state = NUMBER;
    j->part = c == '-' ? MINUS : c == '0' ? ZERO : WHOLE;
    j->negative = c == '-';
    j->real = false;
    j->digits = c == '-' ? 0 : 1;
    j->head[0] = c;
}

/* False: c does not belong to the number. */
static bool number_goes_on(struct cs_json *j, char c)
{
    j->part = next_part(j->part, c);
    j->real |= j->part == POINT || j->part == EXPONENT;
    if (!j->real && j->part <= WHOLE) {
        if (j->digits < DIGITS) {
            j->head[j->digits] = c;
        }
        j->digits += j->digits <= DIGITS;
    }
    return j->part != END;
}

static void scan_unicode(struct cs_json *j, char c)
{
    j->zero_so_far = j->zero_so_far && c == '0';
    if (++j->hex == 4) {
        j->zero |= j->zero_so_far;
        j->state = STRING;
    }
}

static int scan_string(struct cs_json *j, char c, size_t at)
{
    if ((unsigned char)c < 0x20) {
        return fail(j, CS_EINVAL, "control character in a string", at);
    }
    if (j->state == UNICODE) {
        scan_unicode(j, c);
    } else if (j->state == ESCAPE) {
        j->state = c == 'u' ? UNICODE : STRING;
        j->hex = 0;
        j->zero_so_far = true;
    } else if (c == '"') {
        j->state = OUTSIDE;
    } else if (c == '\\') {
        j->state = ESCAPE;
    }
    return 0;
}

static int scan_outside(struct cs_json *j, char c, size_t at)
{
    if (is_space(c)) {
        return 0;
    }
    if (c == ':' && j->zero) {
        return fail(j, CS_ELIMIT, "a name with a zero byte in it", at);
    }
    j->zero = false;
    char last = j->last;
    j->last = c;
    switch (c) {
    case '{':
    case '[':
        j->cost += c == '{' ? COST_OBJECT : COST_ARRAY;
        return ++j->depth > j->depth_max ? fail(j, CS_ELIMIT, "nested too deeply", at) : 0;
    case '}':
    case ']':
        if (last == ',') {
            return fail(j, CS_EINVAL, "nothing behind a comma", at);
        }
        j->depth -= j->depth > 0;
        return 0;
    case ',':
    case ':':
        j->cost += COST_VALUE;
        return 0;
    case '"':
        j->state = STRING;
        return 0;
    default:
        if (is_digit(c) || c == '-') {
            number_begins(j, c);
            return 0;
        }
        return c && strchr("truefalsn", c) ? 0 : fail(j, CS_EINVAL, "unexpected character", at);
    }
}

/* Looks at up to n bytes and leaves in j->scanned how many the tokener may have, in j->point
 * whether
 * ".0" belongs behind them, and in j->err what is wrong with the next one. */
static void scan(struct cs_json *j, const char *bytes, size_t n, size_t room)
{
    size_t i;

    for (i = 0; i < n; i++) {
        char c = bytes[i];
        int err = 0;

        if (j->state == NUMBER && !number_goes_on(j, c)) {
            j->state = OUTSIDE;
            j->point = too_large(j);
            if (j->point) {
                break;
            }
        }
        if (j->state == OUTSIDE) {
            err = scan_outside(j, c, i);
        } else if (j->state != NUMBER) {
            err = scan_string(j, c, i);
        } else if (j->part == WRONG) {
            err = fail(j, CS_EINVAL, "unexpected character in a number", i);
        }
        j->cost += COST_BYTE;
        if (err == 0 && j->cost > room) {
            err = fail(j, -ENOMEM, "more memory needed than is left", i);
        }
        if (err < 0) {
            j->err = err;
            break;
        }
    }
    j->scanned = i;
}

/* ---- the tokener ---- */

static bool all_space(const char *bytes, size_t n)
{
    while (n > 0 && is_space(*bytes)) {
        bytes++;
        n--;
    }
    return n == 0;
}

/* As cs_json_feed, for bytes that have been scanned. */
static int tokenize(struct cs_json *j, const char *bytes, size_t n, size_t *used,
                    struct json_object **value)
{
    *value = json_tokener_parse_ex(j->tokener, bytes, (int)n);
    *used = json_tokener_get_parse_end(j->tokener);
    switch (json_tokener_get_error(j->tokener)) {
    case json_tokener_success:
        j->begun = false;
        j->complete = true;
        return 1;
    case json_tokener_continue:
        j->begun = j->begun || !all_space(bytes, n);
        *used = n;
        return 0;
    default:
        return fail(j, CS_EINVAL, "unexpected character", *used);
    }
}

int cs_json_feed(struct cs_json *j, const char *bytes, size_t n, size_t room, size_t *taken,
                 struct json_object **value)
{
    size_t at = 0, used;
    int result = 0;

    if (j->complete) {
        j->complete = false;
        j->cost = 0;
    }
    while (at < n && result == 0) {
        if (j->scanned == 0 && !j->point && j->err == 0) {
            scan(j, bytes + at, CS_MIN(n - at, (size_t)PIECE), room);
        }
        if (j->scanned > 0) {
            result = tokenize(j, bytes + at, j->scanned, &used, value);
            at += result >= 0 ? used : 0;
            j->offset += result >= 0 ? used : 0;
            j->scanned -= result >= 0 ? used : 0;
        }
        if (result == 0 && j->point) {
            j->point = false;
            result = tokenize(j, ".0", 2, &used, value);
            j->where = CS_MIN(j->where, j->offset + 1);
        }
        if (result == 0 && j->scanned == 0) {
            result = j->err;
        }
    }
    *taken = at;
    return result;
}

bool cs_json_begun(const struct cs_json *j)
{
    return j->begun;
}

size_t cs_json_cost(const struct cs_json *j)
{
    return j->cost;
}

const char *cs_json_why(const struct cs_json *j)
{
    return j->why;
}

uint64_t cs_json_where(const struct cs_json *j)
{
    return j->where;
}
