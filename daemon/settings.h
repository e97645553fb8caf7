/*
 * settings - every setting of the configuration in one table: name, kind, default, range, meaning.
 * The table is the only place that knows a default.
 */
#ifndef CSD_SETTINGS_H
#define CSD_SETTINGS_H

#include "script/conf.h"

struct csd_json;

#define CSD_AUTO 0 /* of CSD_SETTING_AUTO */
#define CSD_WORKERS_MAX 256

#define CSD_DATA_DIR "/var/lib/cosockd" /* where data_dir points by itself */

/* Sizes in bytes, times in milliseconds (CSD_NEVER: no limit). Strings are owned; NULL: not set. */
struct csd_settings {
    uint64_t workers, cells; /* CSD_AUTO: by what the machine offers */
    char *user, *group;
    uint64_t log_level; /* enum cs_log_level */
    char *log_file;
    bool log_connections;
    char *control_socket; /* "": none */
    uint64_t stop_timeout, reload_drain_timeout;
    char *script_dir, *library_dir, *data_dir;
    char *ticket_keys;
    uint64_t lua_memory;
    uint64_t cpu_budget;
    uint64_t write_buffer, read_ahead;
    uint64_t flush_timeout, drain_timeout;
    uint64_t sockets_max;
    uint64_t maxconn, limit_conn; /* 0: no limit */
};

enum csd_setting_kind {
    CSD_SETTING_USER,   /* name of a user that exists */
    CSD_SETTING_GROUP,  /* of a group */
    CSD_SETTING_PATH,   /* relative to the configuration's folder */
    CSD_SETTING_SOCKET, /* a path that fits a socket's address, or "" */
    CSD_SETTING_BOOL,
    CSD_SETTING_COUNT,
    CSD_SETTING_SIZE,
    CSD_SETTING_DURATION,
    CSD_SETTING_LEVEL,
    CSD_SETTING_AUTO, /* a number, or "auto" */
};

struct csd_setting {
    const char *name;
    enum csd_setting_kind kind;
    size_t offset;        /* in struct csd_settings */
    const char *fallback; /* the default as one would write it; NULL: not set */
    uint64_t min, max;    /* of numbers; 0 is always allowed where it means "none" (zero) */
    bool zero;
    bool never;   /* of durations: "never" is allowed */
    bool live;    /* a reload changes it; the others take a restart */
    bool service; /* a service's block may have it too, for that service */
    const char *help;
};

const struct csd_setting *csd_settings_table(size_t *count);

/* The defaults, and over them what `table` (settings of a configuration, or NULL) says. Every
 * problem is added to errors with its place. Relative paths begin at `base`. 0 or -ENOMEM; free
 * either way. */
CS_MUST_CHECK int csd_settings_read(struct csd_settings *out, const struct cs_value *table,
                                    const char *base, struct cs_errors *errors);
void csd_settings_free(struct csd_settings *s);

/* What a service's block says of those that it may have (`service`); the rest of out is zero.
 * Nothing to free. 0 or -ENOMEM. */
CS_MUST_CHECK int csd_settings_read_service(struct csd_settings *out, const struct cs_value *block,
                                            struct cs_errors *errors);

bool csd_setting_equal(const struct csd_setting *def, const struct csd_settings *a,
                       const struct csd_settings *b);

/* All of them as one object. */
void csd_settings_json(struct csd_json *j, const char *key, const struct csd_settings *s);

/* dir/name, or name when that is absolute. NULL when out of memory. */
CS_MUST_CHECK char *csd_path_join(const char *dir, const char *name);

#endif
