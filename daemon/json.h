/*
 * json - a small writer: nesting, commas and indentation are its business, values come from the
 * caller. Errors of the FILE stay in the FILE (ferror).
 */
#ifndef CSD_JSON_H
#define CSD_JSON_H

#include <stdio.h>

#include "base/base.h"

struct cs_value;

#define CSD_JSON_DEPTH_MAX 48 /* deeper levels are written as null */

struct csd_json {
    FILE *out;
    unsigned depth, skipped;             /* skipped: levels beyond the maximum that are open */
    bool filled[CSD_JSON_DEPTH_MAX + 1]; /* the level has a member already */
};

void csd_json_begin(struct csd_json *j, FILE *out);

/* key: NULL inside an array and at the top. */
void csd_json_open(struct csd_json *j, const char *key, char bracket);       /* '{' or '[' */
void csd_json_close(struct csd_json *j, char bracket);                       /* '}' or ']' */
void csd_json_string(struct csd_json *j, const char *key, const char *text); /* NULL: null */
void csd_json_bytes(struct csd_json *j, const char *key, const char *bytes, size_t len);
void csd_json_uint(struct csd_json *j, const char *key, uint64_t n);
void csd_json_bool(struct csd_json *j, const char *key, bool b);
void csd_json_null(struct csd_json *j, const char *key);

/* A table with named members becomes an object (its positional members get the keys "1", "2" ...),
 * any other an array. */
void csd_json_value(struct csd_json *j, const char *key, const struct cs_value *v);

#endif
