/*
 * units - see units.h. A unit is a word and a factor; both kinds share the parser and the printer.
 */
#include "daemon/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct unit {
    const char *word;
    uint64_t factor;
};

/* Largest first: the printer takes the first one that divides. */
static const struct unit size_units[] = {
    {"T", 1ull << 40}, {"G", 1ull << 30}, {"M", 1ull << 20}, {"k", 1ull << 10}, {"", 1}};
static const struct unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

/* Digits, then one of the words. */
static bool parse(const char *text, const struct unit *units, size_t count, bool any_case,
                  uint64_t *out)
{
    uint64_t n = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *p - '0', &n)) {
            return false;
        }
    }
    if (p == text) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if ((any_case ? strcasecmp(p, units[i].word) : strcmp(p, units[i].word)) == 0) {
            return !__builtin_mul_overflow(n, units[i].factor, out) && *out <= INT64_MAX;
        }
    }
    return false;
}

static const char *format(uint64_t n, const struct unit *units, size_t count, char *buf,
                          size_t size)
{
    size_t i = 0;

    while (i + 1 < count && (n == 0 || n % units[i].factor != 0)) {
        i++;
    }
    (void)snprintf(buf, size, "%" PRIu64 "%s", n / units[i].factor, n == 0 ? "" : units[i].word);
    return buf;
}

bool csd_parse_size(const char *text, uint64_t *out)
{
    return parse(text, size_units, CS_ARRAY_LEN(size_units), true, out);
}

bool csd_parse_duration(const char *text, uint64_t *out)
{
    if (strcmp(text, "never") == 0) {
        *out = CSD_NEVER;
        return true;
    }
    if (strcmp(text, "0") == 0) {
        *out = 0;
        return true;
    }
    return parse(text, duration_units, CS_ARRAY_LEN(duration_units), false, out);
}

const char *csd_format_size(uint64_t bytes, char *buf, size_t size)
{
    return format(bytes, size_units, CS_ARRAY_LEN(size_units), buf, size);
}

const char *csd_format_duration(uint64_t ms, char *buf, size_t size)
{
    if (ms == CSD_NEVER) {
        (void)snprintf(buf, size, "never");
        return buf;
    }
    return format(ms, duration_units, CS_ARRAY_LEN(duration_units), buf, size);
}

const char *csd_format_age(uint64_t ms, char *buf, size_t size)
{
    uint64_t s = ms / 1000;

    if (s < 60) {
        (void)snprintf(buf, size, "%" PRIu64 " s", s);
    } else if (s < 3600) {
        (void)snprintf(buf, size, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
    } else if (s < 86400) {
        (void)snprintf(buf, size, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s % 3600 / 60);
    } else {
        (void)snprintf(buf, size, "%" PRIu64 " d %" PRIu64 " h", s / 86400, s % 86400 / 3600);
    }
    return buf;
}
