/* base64 - three bytes are four characters. */
#include "codec/base64.h"

#include <string.h>

static const char usual[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char for_urls[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

size_t cs_base64_encode(char *to, const void *from, size_t n, bool url)
{
    const char *alphabet = url ? for_urls : usual;
    const unsigned char *in = (const unsigned char *)from;
    char *out = to;

    for (; n >= 3; n -= 3, in += 3) {
        *out++ = alphabet[in[0] >> 2];
        *out++ = alphabet[(in[0] & 3) << 4 | in[1] >> 4];
        *out++ = alphabet[(in[1] & 15) << 2 | in[2] >> 6];
        *out++ = alphabet[in[2] & 63];
    }
    if (n > 0) {
        unsigned second = n == 2 ? in[1] : 0;

        *out++ = alphabet[in[0] >> 2];
        *out++ = alphabet[(in[0] & 3) << 4 | second >> 4];
        if (n == 2) {
            *out++ = alphabet[(second & 15) << 2];
        }
        for (; !url && n < 3; n++) {
            *out++ = '=';
        }
    }
    return (size_t)(out - to);
}

enum { PADDING = 64, SPACE = 65, NOTHING = 66 };

static unsigned value_of(unsigned char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26u;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52u;
    }
    switch (c) {
    case '+':
    case '-':
        return 62;
    case '/':
    case '_':
        return 63;
    case '=':
        return PADDING;
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        return SPACE;
    default:
        return NOTHING;
    }
}

int cs_base64_decode(void *to, size_t *len, const char *text, size_t n)
{
    unsigned char *out = (unsigned char *)to;
    size_t digits = 0, padding = 0;
    uint32_t bits = 0;

    for (size_t i = 0; i < n; i++) {
        unsigned value = value_of((unsigned char)text[i]);

        if (value == PADDING) {
            padding++;
        } else if (value != SPACE) {
            if (value == NOTHING || padding > 0) {
                return CS_EINVAL;
            }
            bits = bits << 6 | value;
            if (digits++ % 4 != 0) { /* of four digits, each but the first ends a byte */
                *out++ = (unsigned char)(bits >> (6 - 2 * ((digits - 1) % 4)));
            }
        }
    }
    *len = (size_t)(out - (unsigned char *)to);
    bool complete = padding == 0 || (digits + padding) % 4 == 0;

    return digits % 4 == 1 || padding > 2 || !complete ? CS_EINVAL : 0;
}
