/* percent - %XX and back. */
#include "codec/percent.h"

static bool unreserved(unsigned char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

size_t cs_percent_encode(char *to, const char *from, size_t n)
{
    static const char digits[] = "0123456789ABCDEF";
    char *out = to;

    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)from[i];

        if (unreserved(c)) {
            *out++ = (char)c;
        } else {
            *out++ = '%';
            *out++ = digits[c >> 4];
            *out++ = digits[c & 15];
        }
    }
    return (size_t)(out - to);
}

size_t cs_percent_decode(char *to, const char *from, size_t n)
{
    char *out = to;

    for (size_t i = 0; i < n; i++) {
        int high = from[i] == '%' && n - i > 2 ? cs_hex_digit(from[i + 1]) : -1;
        int low = high >= 0 ? cs_hex_digit(from[i + 2]) : -1;

        if (low >= 0) {
            *out++ = (char)(high << 4 | low);
            i += 2;
        } else {
            *out++ = from[i];
        }
    }
    return (size_t)(out - to);
}
