/*
 * cosockctl - asks a running cosockd for something, over its control socket.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "build_info.h"
#include "daemon/client.h"
#include "daemon/exit.h"
#include "daemon/settings.h"

#define ANSWER_MS 15000 /* longer than the daemon takes to say that it has no answer */

enum { OPTION_WAIT = 256, OPTION_JSON };

struct arguments {
    const char *socket;
    const char *command;
    bool wait, json;
};

static const struct option long_options[] = {
    {"socket", required_argument, NULL, 's'}, {"wait", no_argument, NULL, OPTION_WAIT},
    {"json", no_argument, NULL, OPTION_JSON}, {"version", no_argument, NULL, 'v'},
    {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0}};

static const char *default_socket(void)
{
    size_t count;
    const struct csd_setting *table = csd_settings_table(&count);

    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, "control_socket") == 0) {
            return table[i].fallback;
        }
    }
    return "";
}

static void help(void)
{
    (void)printf("usage: cosockctl [-s SOCKET] COMMAND\n"
                 "\n"
                 "  status [--json]   what the daemon is doing\n"
                 "  reload [--wait]   read configuration and scripts again; with --wait until the\n"
                 "                    result is known: exit status 1 when it was refused\n"
                 "  reopen            open the log file again\n"
                 "  stop              stop after at most stop_timeout\n"
                 "  quit              stop when the last connection has ended\n"
                 "\n"
                 "  -s, --socket SOCKET   the daemon's control_socket (default %s)\n"
                 "  -v, --version         print the version\n"
                 "  -h, -?, --help        print this\n"
                 "\n"
                 "Exit status: 0; 1 refused or failed; 2 usage; 69 no daemon is running.\n",
                 default_socket());
}

static enum csd_exit usage(const char *what, const char *word)
{
    (void)fprintf(stderr, "cosockctl: %s%s (try cosockctl --help)\n", what, word);
    return CSD_EXIT_USAGE;
}

static enum csd_exit bad_option(int option, char *const *argv)
{
    if (option == ':') {
        return usage("this option needs a value: ", argv[optind - 1]);
    }
    return usage("unknown option: ", argv[optind - 1]);
}

/* The request's words, or NULL. */
static const char *request_of(const struct arguments *a)
{
    if (strcmp(a->command, "status") == 0) {
        return a->json ? "status json" : "status";
    }
    if (strcmp(a->command, "reload") == 0) {
        return a->wait ? "reload wait" : "reload";
    }
    if (strcmp(a->command, "stop") == 0 || strcmp(a->command, "quit") == 0 ||
        strcmp(a->command, "reopen") == 0) {
        return a->command;
    }
    return NULL;
}

static enum csd_exit run(const struct arguments *a)
{
    const char *request;

    if (!a->command) {
        return usage("no command given", "");
    }
    request = request_of(a);
    if (!request) {
        return usage("unknown command: ", a->command);
    }
    if (a->json && strcmp(a->command, "status") != 0) {
        return usage("--json goes with status only", "");
    }
    if (a->wait && strcmp(a->command, "reload") != 0) {
        return usage("--wait goes with reload only", "");
    }
    return csd_client_run("cosockctl", a->socket, request, a->wait ? -1 : ANSWER_MS);
}

int main(int argc, char **argv)
{
    struct arguments a = {.socket = default_socket()};
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, ":s:vh", long_options, NULL)) != -1) {
        switch (option) {
        case 's':
            a.socket = optarg;
            break;
        case OPTION_WAIT:
            a.wait = true;
            break;
        case OPTION_JSON:
            a.json = true;
            break;
        case 'v':
            (void)printf("cosockctl %s\n", CS_VERSION);
            return CSD_EXIT_OK;
        case 'h':
            help();
            return CSD_EXIT_OK;
        default:
            if (option == '?' && optopt == '?') {
                help();
                return CSD_EXIT_OK;
            }
            return bad_option(option, argv);
        }
    }
    if (optind < argc) {
        a.command = argv[optind++];
    }
    if (optind < argc) {
        return usage("unexpected argument: ", argv[optind]);
    }
    return run(&a);
}
