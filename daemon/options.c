/*
 * options - see options.h.
 */
#include "daemon/options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "build_info.h"
#include "daemon/settings.h"

enum { OPTION_SETTINGS = 256, OPTION_APP };

static const struct option long_options[] = {
    {"config", required_argument, NULL, 'c'},  {"prefix", required_argument, NULL, 'p'},
    {"execute", required_argument, NULL, 'e'}, {"app", required_argument, NULL, OPTION_APP},
    {"test", no_argument, NULL, 't'},          {"dump", no_argument, NULL, 'T'},
    {"quiet", no_argument, NULL, 'q'},         {"signal", required_argument, NULL, 's'},
    {"workers", required_argument, NULL, 'w'}, {"version", no_argument, NULL, 'v'},
    {"build-info", no_argument, NULL, 'V'},    {"settings", no_argument, NULL, OPTION_SETTINGS},
    {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};

void csd_options_help(FILE *out)
{
    (void)fputs(
        "usage: cosockd [-c FILE] [options]       run the daemon in the foreground\n"
        "       cosockd [-e LUA] script.lua [...] run one script, as lua would\n"
        "       cosockd --app DIR [ADDRESS...]    serve a folder of pages, at 127.0.0.1:8080\n"
        "       cosockd test [options] FILE...    run test files (cosockd test --help)\n"
        "\n"
        "  -c, --config FILE   configuration (default " CS_CONF_FILE ")\n"
        "  -p, --prefix DIR    look up relative names here first\n"
        "  -e, --execute LUA   run this text (before the script, if there is one)\n"
        "  -t, --test          check configuration and scripts, bind nothing, exit\n"
        "  -T, --dump          print the effective configuration as JSON, exit\n"
        "  -q, --quiet         with -t: say nothing when all is well\n"
        "  -s, --signal WORD   tell the running daemon: stop, quit, reload or reopen\n"
        "  -w, --workers N     threads, or \"auto\": one per CPU; instead of the configuration's\n"
        "  -v, --version       print the version\n"
        "  -V, --build-info    print build options and what this kernel offers\n"
        "      --settings      list all settings with their defaults\n"
        "  -h, -?, --help      print this\n"
        "\n"
        "Signals: HUP reload; USR1 reopen the log; USR2 log the state; TERM, INT stop after at\n"
        "most stop_timeout, a second one at once; QUIT stop when the last connection has ended.\n"
        "Exit status: 0; 1 failure; 2 usage; 69 no io_uring; 78 bad configuration or script.\n",
        out);
}

static bool signal_word(struct csd_options *o, const char *word)
{
    static const char *const words[] = {"stop", "quit", "reload", "reopen"};

    for (size_t i = 0; i < CS_ARRAY_LEN(words); i++) {
        if (strcmp(word, words[i]) == 0) {
            o->mode = CSD_MODE_SIGNAL;
            o->request = words[i];
            return true;
        }
    }
    return false;
}

static bool worker_count(struct csd_options *o, const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    o->workers_given = true;
    if (strcmp(text, "auto") == 0) {
        o->workers = CSD_AUTO;
        return true;
    }
    o->workers = (unsigned)n;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && n >= 1 && n <= CSD_WORKERS_MAX;
}

/* getopt reports unknown and malformed options alike as '?'. */
static void explain(char *const *argv, char *why, size_t size)
{
    for (size_t i = 0; long_options[i].name; i++) {
        if (long_options[i].val == optopt && strncmp(argv[optind - 1], "--", 2) == 0) {
            (void)snprintf(why, size, "option --%s takes no value", long_options[i].name);
            return;
        }
    }
    if (optopt) {
        (void)snprintf(why, size, "unknown option -%c", optopt);
    } else {
        (void)snprintf(why, size, "unknown or ambiguous option %s", argv[optind - 1]);
    }
}

/* One option. False: why is filled. */
static bool take(struct csd_options *o, int option, char *const *argv, char *why, size_t size)
{
    switch (option) {
    case 'c':
        o->conf_file = optarg;
        return true;
    case 'p':
        o->prefix = optarg;
        return true;
    case 'e':
        if (o->source) {
            (void)snprintf(why, size, "-e can be given once");
            return false;
        }
        o->source = optarg;
        return true;
    case OPTION_APP:
        o->app = optarg;
        return true;
    case 't':
        o->test = true;
        return true;
    case 'T':
        o->dump = true;
        return true;
    case 'q':
        o->quiet = true;
        return true;
    case 's':
        if (!signal_word(o, optarg)) {
            (void)snprintf(why, size, "-s %s: expected stop, quit, reload or reopen", optarg);
            return false;
        }
        return true;
    case 'w':
        if (!worker_count(o, optarg)) {
            (void)snprintf(why, size, "-w %s: expected 1 to %d, or auto", optarg, CSD_WORKERS_MAX);
            return false;
        }
        return true;
    case 'v':
        o->mode = CSD_MODE_VERSION;
        return true;
    case 'V':
        o->mode = CSD_MODE_BUILD;
        return true;
    case OPTION_SETTINGS:
        o->mode = CSD_MODE_SETTINGS;
        return true;
    case 'h':
        o->mode = CSD_MODE_HELP;
        return true;
    case ':':
        (void)snprintf(why, size, "option %s needs a value", argv[optind - 1]);
        return false;
    default:
        if (optopt == '?') {
            o->mode = CSD_MODE_HELP;
            return true;
        }
        explain(argv, why, size);
        return false;
    }
}

/* What remains after the options, and what does not go together. */
static bool finish(struct csd_options *o, int argc, char **argv, bool conf_given, char *why,
                   size_t size)
{
    if (optind < argc && !o->app) {
        o->script = argv[optind++];
    }
    o->argv = argv + optind;
    o->argc = argc - optind;
    if (o->mode != CSD_MODE_RUN) {
        return true;
    }
    if (o->script && strcmp(o->script, "test") == 0) {
        o->mode = CSD_MODE_TEST;
        if (conf_given || o->source || o->test || o->dump) {
            (void)snprintf(why, size, "-c, -e, -t and -T do not go with test");
            return false;
        }
    } else if (o->app && o->source) {
        (void)snprintf(why, size, "-e does not go with --app");
        return false;
    } else if (o->script || o->source || o->app) {
        o->mode = CSD_MODE_SCRIPT;
        if (conf_given) {
            (void)snprintf(why, size, "-c does not go with %s: a script runs without configuration",
                           o->app      ? "--app"
                           : o->script ? o->script
                                       : "-e");
            return false;
        }
        if (o->workers_given && o->workers != 1) {
            (void)snprintf(why, size, "-w: a script runs in one worker");
            return false;
        }
        if (o->dump) {
            (void)snprintf(why, size, "-T shows a configuration; a script has none");
            return false;
        }
    }
    return true;
}

bool csd_options_parse(struct csd_options *o, int argc, char **argv, char *why, size_t why_size)
{
    int option;

    *o = (struct csd_options){.mode = CSD_MODE_RUN};
    opterr = 0;
    optind = 0; /* glibc: start again, also in a second call */
    /* "+": the options end at the script, what follows is the script's. */
    while ((option = getopt_long(argc, argv, "+:c:p:e:tTqs:w:vVh", long_options, NULL)) != -1) {
        if (!take(o, option, argv, why, why_size)) {
            return false;
        }
        if (o->mode == CSD_MODE_HELP) {
            return true;
        }
    }
    if (!finish(o, argc, argv, o->conf_file != NULL, why, why_size)) {
        return false;
    }
    if (!o->conf_file) {
        o->conf_file = CS_CONF_FILE;
    }
    return true;
}
