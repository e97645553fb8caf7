/*
 * config - one configuration, read and validated: settings, services, and the program of start-up
 * chunks that a cell loads. Counted references, because its strings must stay as long as a
 * generation of scripts runs that was loaded from it.
 */
#ifndef CSD_CONFIG_H
#define CSD_CONFIG_H

#include <stdio.h>

#include "daemon/settings.h"
#include "daemon/ticket_keys.h"
#include "net/admit.h"
#include "script/cell.h"

struct csd_config {
    unsigned refs;
    char *path;         /* of the file; NULL in script mode */
    const char *prefix; /* -p, the caller's; NULL: none */
    struct cs_conf conf;
    struct csd_settings settings;
    struct csd_ticket_keys ticket_keys;
    struct cs_program_part *parts; /* one per service; their paths are owned */
    struct cs_program program;
    struct cs_cell_config
        cell;        /* what a cell is made from, and the program goes by; strings are ours */
    char **app_argv; /* of csd_config_app; NULL otherwise */
    struct cs_admit_service *limits; /* one per service, in the same order */
};

/* Reads and validates a file. prefix (may be NULL, must stay): where relative names are looked up
 * first. On success *out has one reference. When errors were added, or for -ENOMEM, *out is NULL. 0
 * or -ENOMEM. */
CS_MUST_CHECK int csd_config_load(struct csd_config **out, const char *path, const char *prefix,
                                  struct cs_errors *errors);

/* What `cosockd script.lua args` needs: defaults, and a program of `source` (-e, may be NULL) and
 * `script` (may be NULL), which is looked up in prefix (may be NULL, must stay), as it stands, and
 * in script_dir; without both, the runner of test files. argv must stay. 0 or -ENOMEM. */
CS_MUST_CHECK int csd_config_script(struct csd_config **out, const char *prefix, const char *source,
                                    const char *script, char **argv, int argc);

/* What `cosockd --app DIR args` needs: the page host as a script, DIR its first argument. 0 or
 * -ENOMEM. */
CS_MUST_CHECK int csd_config_app(struct csd_config **out, const char *prefix, const char *app,
                                 char **argv, int argc);

struct csd_config *csd_config_ref(struct csd_config *c);

/* Accepts NULL. */
void csd_config_unref(struct csd_config *c);

/* Effective settings and services as JSON. */
void csd_config_json(const struct csd_config *c, FILE *out);

/* Puts its limits of connections into effect. 0 or -ENOMEM. */
CS_MUST_CHECK int csd_config_admit(const struct csd_config *c, struct cs_admit *a);

/* The control socket that the file asks for, whatever else is wrong with it; the default when it
 * asks for none. NULL when out of memory, or with errors added: the file could not be read to its
 * end and has not asked before, so it may mean another daemon than the default's. cs_free. */
CS_MUST_CHECK char *csd_config_control_socket(const char *path, const char *prefix,
                                              struct cs_errors *errors);

#endif
