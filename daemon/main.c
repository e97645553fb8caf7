/*
 * main - cosockd from its command line to its exit status, as a table of contents.
 */
#include <stdio.h>

#include "base/mem.h"
#include "daemon/about.h"
#include "daemon/client.h"
#include "daemon/config.h"
#include "daemon/logging.h"
#include "daemon/options.h"
#include "daemon/server.h"

#define SIGNAL_MS 15000

static enum csd_exit out_of_memory(void)
{
    csd_complain("cosockd: out of memory");
    return CSD_EXIT_FAILURE;
}

/* Everything that is wrong, then how much that was. */
static enum csd_exit refuse(const char *path, const struct cs_errors *errors)
{
    char text[512];

    csd_complain(errors->text ? errors->text : "out of memory");
    (void)snprintf(text, sizeof(text), "cosockd: %u error%s in %s", errors->count,
                   errors->count == 1 ? "" : "s", path);
    csd_complain(text);
    return CSD_EXIT_CONFIG;
}

/* *out is NULL when the status is not OK. */
static enum csd_exit read_config(const struct csd_options *o, struct csd_config **out)
{
    struct cs_errors errors = {0};
    enum csd_exit status = CSD_EXIT_OK;
    int err = csd_config_load(out, o->conf_file, o->prefix, &errors);

    if (err != 0) {
        status = out_of_memory();
    } else if (!*out) {
        status = refuse(o->conf_file, &errors);
    }
    cs_errors_free(&errors);
    return status;
}

static enum csd_exit run_daemon(const struct csd_options *o)
{
    struct csd_config *config;
    enum csd_exit status = read_config(o, &config);
    char why[512];

    if (status != CSD_EXIT_OK) {
        return status;
    }
    if (o->dump) {
        csd_config_json(config, stdout);
        if (!o->test) {
            csd_config_unref(config);
            return CSD_EXIT_OK;
        }
    }
    if (!o->test && !csd_logging_open(&config->settings, why, sizeof(why))) {
        csd_complain(why);
        csd_config_unref(config);
        return CSD_EXIT_FAILURE;
    }
    return csd_server_run(o, config);
}

static enum csd_exit run_script(const struct csd_options *o)
{
    struct csd_config *config;
    char why[512];

    const char *script = o->mode == CSD_MODE_TEST ? NULL : o->script;
    int err = o->app ? csd_config_app(&config, o->prefix, o->app, o->argv, o->argc)
                     : csd_config_script(&config, o->prefix, o->source, script, o->argv, o->argc);

    if (err != 0) {
        return out_of_memory();
    }
    if (!csd_logging_open(&config->settings, why, sizeof(why))) {
        csd_complain(why);
    }
    return csd_server_run(o, config);
}

static enum csd_exit send_signal(const struct csd_options *o)
{
    enum csd_exit status;
    struct cs_errors errors = {0};
    char *path = csd_config_control_socket(o->conf_file, o->prefix, &errors);

    if (path) {
        status = csd_client_run("cosockd", path, o->request, SIGNAL_MS);
    } else {
        status = errors.count > 0 ? refuse(o->conf_file, &errors) : out_of_memory();
    }
    cs_free(path);
    cs_errors_free(&errors);
    return status;
}

static enum csd_exit dispatch(const struct csd_options *o)
{
    switch (o->mode) {
    case CSD_MODE_RUN:
        return run_daemon(o);
    case CSD_MODE_SCRIPT:
    case CSD_MODE_TEST:
        return run_script(o);
    case CSD_MODE_SIGNAL:
        return send_signal(o);
    case CSD_MODE_HELP:
        csd_options_help(stdout);
        break;
    case CSD_MODE_VERSION:
        csd_about_version(stdout);
        break;
    case CSD_MODE_BUILD:
        csd_about_build(stdout);
        break;
    case CSD_MODE_SETTINGS:
        csd_about_settings(stdout);
        break;
    }
    return CSD_EXIT_OK;
}

int main(int argc, char **argv)
{
    struct csd_options o;
    char why[256];
    enum csd_exit status;

    if (!csd_options_parse(&o, argc, argv, why, sizeof(why))) {
        (void)fprintf(stderr, "cosockd: %s (try cosockd --help)\n", why);
        return CSD_EXIT_USAGE;
    }
    status = dispatch(&o);
    if (fflush(stdout) != 0 && status == CSD_EXIT_OK) {
        status = CSD_EXIT_FAILURE;
    }
    return status;
}
