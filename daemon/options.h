/*
 * options - the command line of cosockd.
 */
#ifndef CSD_OPTIONS_H
#define CSD_OPTIONS_H

#include <stdio.h>

#include "base/base.h"

enum csd_mode {
    CSD_MODE_RUN,      /* the daemon */
    CSD_MODE_SCRIPT,   /* cosockd script.lua, cosockd -e, cosockd --app */
    CSD_MODE_TEST,     /* cosockd test */
    CSD_MODE_SIGNAL,   /* -s */
    CSD_MODE_HELP,     /* -h */
    CSD_MODE_VERSION,  /* -v */
    CSD_MODE_BUILD,    /* -V */
    CSD_MODE_SETTINGS, /* --settings */
};

struct csd_options {
    enum csd_mode mode;
    const char *conf_file;
    const char *prefix; /* NULL: none */
    const char *source; /* -e; NULL: none */
    const char *app;    /* --app: a folder; NULL: none */
    const char *script; /* NULL: none */
    char **argv;        /* arguments of the script or the app, or those of `test` */
    int argc;
    const char *request; /* -s: a word of the control protocol */
    bool test, dump, quiet;
    unsigned workers; /* -w, CSD_AUTO included; only with workers_given */
    bool workers_given;
};

/* True, or false with one line about what is wrong in `why`. */
CS_MUST_CHECK bool csd_options_parse(struct csd_options *o, int argc, char **argv, char *why,
                                     size_t why_size);

void csd_options_help(FILE *out);

#endif
