/*
 * suggest - what somebody may have meant by a misspelt word.
 */
#ifndef CSD_SUGGEST_H
#define CSD_SUGGEST_H

#include "base/base.h"

/* Letters to insert, remove, replace, or to swap with their neighbour. Words longer than 63 bytes
 * are never near anything: UINT_MAX. Upper and lower case count as equal. */
unsigned csd_edit_distance(const char *a, const char *b);

/* The nearest of the words if it is near enough to be meant, else NULL. word(i, arg) gives the
 * i-th, NULL after the last. */
const char *csd_suggest(const char *typed, const char *(*word)(size_t i, const void *arg),
                        const void *arg);

#endif
