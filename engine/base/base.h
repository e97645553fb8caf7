/*
 * base - the few words every other file uses: attributes, container_of, array length.
 */
#ifndef CS_BASE_BASE_H
#define CS_BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CS_MUST_CHECK __attribute__((warn_unused_result))
#define CS_PRINTF(at, first) __attribute__((format(printf, at, first)))
#define CS_NORETURN __attribute__((noreturn))
#define CS_LIKELY(x) __builtin_expect(!!(x), 1)
#define CS_UNLIKELY(x) __builtin_expect(!!(x), 0)

#define CS_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define CS_MIN(a, b) ((a) < (b) ? (a) : (b))
#define CS_MAX(a, b) ((a) > (b) ? (a) : (b))

/* The value of a hexadecimal digit of either case, or -1. */
static inline int cs_hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The struct that holds `member` at address `ptr`. */
#define cs_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
