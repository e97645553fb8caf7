/*
 * suggest - optimal string alignment distance over three rows.
 */
#include "daemon/suggest.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

#define WORD_MAX 63

static unsigned lower(char c)
{
    return (unsigned)tolower((unsigned char)c);
}

unsigned csd_edit_distance(const char *a, const char *b)
{
    unsigned rows[3][WORD_MAX + 1];
    size_t la = strlen(a), lb = strlen(b);

    if (la > WORD_MAX || lb > WORD_MAX) {
        return UINT_MAX;
    }
    for (size_t j = 0; j <= lb; j++) {
        rows[0][j] = (unsigned)j;
    }
    for (size_t i = 1; i <= la; i++) {
        unsigned *row = rows[i % 3], *up = rows[(i + 2) % 3], *upup = rows[(i + 1) % 3];

        row[0] = (unsigned)i;
        for (size_t j = 1; j <= lb; j++) {
            bool same = lower(a[i - 1]) == lower(b[j - 1]);
            unsigned best = up[j - 1] + (same ? 0 : 1);

            best = CS_MIN(best, up[j] + 1);
            best = CS_MIN(best, row[j - 1] + 1);
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1])) {
                best = CS_MIN(best, upup[j - 2] + 1);
            }
            row[j] = best;
        }
    }
    return rows[la % 3][lb];
}

const char *csd_suggest(const char *typed, const char *(*word)(size_t i, const void *arg),
                        const void *arg)
{
    size_t len = strlen(typed);
    unsigned nearest = (unsigned)CS_MIN(len / 3 + 1, 4) + 1;
    const char *found = NULL, *w;

    for (size_t i = 0; (w = word(i, arg)) != NULL; i++) {
        unsigned distance = csd_edit_distance(typed, w);

        if (distance < nearest) {
            nearest = distance;
            found = w;
        }
    }
    return found;
}
