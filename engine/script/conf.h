/*
 * conf - runs a configuration file (Lua, restricted environment) and turns what it said into a
 * plain tree of values with the place of each, so that daemon/ needs no lua.h. Knows no key by
 * name: what is allowed is the daemon's business.
 *
 *     log_level = "info"                      settings: plain assignments
 *     service "web" { script = "proxy.lua" }  services: blocks, in order
 *     include "conf.d/[star].lua"             more files, sorted, relative to the including one
 *
 * Available besides: env(name [, default]), string, table, math, ipairs, pairs, type, tostring,
 * tonumber, select, error, assert. No file, process or network access.
 */
#ifndef CS_SCRIPT_CONF_H
#define CS_SCRIPT_CONF_H

#include "base/base.h"

enum cs_value_type {
    CS_VALUE_NIL,
    CS_VALUE_BOOL,
    CS_VALUE_INT,
    CS_VALUE_NUMBER,
    CS_VALUE_STRING,
    CS_VALUE_TABLE,
};

struct cs_value {
    enum cs_value_type type;
    const char *file; /* where it was set; shared, owned by the conf (NULL: built in) */
    int line;
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct {
            char *bytes; /* zero-terminated; may hold zeros */
            size_t len;
        } string;
        struct {
            struct cs_member *members; /* positional ones first, in order; then keys, sorted */
            size_t count;
        } table;
    };
};

struct cs_member {
    char *key; /* NULL: positional, at index + 1 */
    struct cs_value value;
};

struct cs_conf_service {
    char *name;
    struct cs_value args; /* the block: a table */
};

struct cs_conf {
    struct cs_value settings; /* table */
    struct cs_conf_service *services;
    size_t service_count;
    char **files; /* every file read */
    size_t file_count;
};

/* One error per line "file:line: message" appended to a growing text. */
struct cs_errors {
    char *text; /* zero-terminated, or NULL while there is none */
    size_t len;
    unsigned count;
};
void cs_errors_add(struct cs_errors *e, const char *file, int line, const char *format, ...)
    CS_PRINTF(4, 5);
void cs_errors_free(struct cs_errors *e);

/* Reads `path`. 0 (also when errors were collected: look at errors->count) or -ENOMEM. *out is
 * always valid to free. Values that are functions, userdata or cyclic tables are errors with their
 * place. cpu bounded: a file that does not end within 10 s of CPU is an error. */
CS_MUST_CHECK int cs_conf_load(struct cs_conf *out, const char *path, struct cs_errors *errors);
void cs_conf_free(struct cs_conf *c);

/* The member of that name, or NULL. */
const struct cs_value *cs_value_get(const struct cs_value *table, const char *key);

/* A deep copy (file names stay those of the conf: keep it alive). 0 or -ENOMEM. */
CS_MUST_CHECK int cs_value_copy(struct cs_value *to, const struct cs_value *from);
void cs_value_free(struct cs_value *v);

#endif
