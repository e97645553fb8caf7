/* utf8 - see utf8.h. */
#include "codec/utf8.h"

#include <string.h>

#define HIGH_BITS UINT64_C(0x8080808080808080)

/* What may follow the first byte of a character (RFC 3629 4). False: no first byte. */
static bool begin(struct cs_utf8 *u, uint8_t c)
{
    if (c < 0xc2 || c > 0xf4) {
        return false;
    }
    u->left = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    u->low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    u->high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    return true;
}

bool cs_utf8_feed(struct cs_utf8 *u, const uint8_t *data, size_t len)
{
    size_t i = 0;
    while (i < len) {
        uint64_t eight;
        if (u->left == 0 && len - i >= sizeof(eight)) {
            memcpy(&eight, data + i, sizeof(eight));
            if (!(eight & HIGH_BITS)) {
                i += sizeof(eight);
                continue;
            }
        }
        uint8_t c = data[i++];
        if (u->left > 0) {
            if (c < u->low || c > u->high) {
                return false;
            }
            u->left--;
            u->low = 0x80;
            u->high = 0xbf;
        } else if (c >= 0x80 && !begin(u, c)) {
            return false;
        }
    }
    return true;
}
