/*
 * server_load - the scripts' generations: the first one, and those that reloads bring.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "build_info.h"
#include "daemon/logging.h"
#include "daemon/server_state.h"
#include "daemon/systemd.h"
#include "daemon/units.h"

#define WHY_MAX 512

/* ---- generations ---- */

struct csd_generation *csd_generation_new(struct csd_server *s, struct csd_config *config)
{
    struct csd_generation *g = cs_zalloc(sizeof(*g));

    if (!g) {
        csd_config_unref(config);
        return NULL;
    }
    g->number = ++s->numbers;
    g->end_ms = UINT64_MAX;
    g->config = config;
    return g;
}

void csd_generation_free(struct csd_generation *g)
{
    if (g) {
        csd_config_unref(g->config);
        cs_free(g);
    }
}

unsigned csd_generation_current(const struct csd_server *s)
{
    return s->generations ? s->generations->number : 0;
}

static bool listed(const struct cs_cell_status *status, unsigned number)
{
    for (unsigned i = 0; i < status->generation_count; i++) {
        if (status->generations[i].generation == number) {
            return true;
        }
    }
    return false;
}

/* Drops configurations whose generation has ended. A full list may have left some out. */
void csd_generations_prune(struct csd_server *s)
{
    struct csd_generation **link;

    if (!s->generations ||
        s->cell_status.generation_count == CS_ARRAY_LEN(s->cell_status.generations)) {
        return;
    }
    link = &s->generations->next; /* the current one stays */
    while (*link) {
        struct csd_generation *g = *link;

        if (listed(&s->cell_status, g->number)) {
            link = &g->next;
            continue;
        }
        cs_log(CS_LOG_NOTICE, "generation ended generation=%u", g->number);
        *link = g->next;
        csd_generation_free(g);
    }
}

void csd_generations_expire(struct csd_server *s, uint64_t now)
{
    for (struct csd_generation *g = s->generations; g; g = g->next) {
        if (now >= g->end_ms) {
            cs_log(CS_LOG_WARN, "generation cut generation=%u reason=\"reload_drain_timeout\"",
                   g->number);
            g->end_ms = UINT64_MAX;
            csd_workers_end_old(s->workers, g->number);
        }
    }
}

/* ---- the first one ---- */

/* A daemon's trouble belongs into its log; whoever started it looks at stderr. */
static void tell_start_failed(const struct csd_server *s, const char *errors)
{
    if (csd_server_is_script(s) || s->options->test) {
        csd_complain(errors);
        return;
    }
    csd_log_lines(CS_LOG_ERROR, "not started: ", errors);
    if (s->config->settings.log_file) {
        csd_complain(errors);
    }
}

/* An address that cannot be bound is the system's state, not a mistake in the text: the same
 * configuration may work in a second. */
static void start_failed(struct csd_server *s, int err, const char *errors)
{
    tell_start_failed(s, errors);
    s->exit_status = err == CS_ESCRIPT ? CSD_EXIT_CONFIG : CSD_EXIT_FAILURE;
    csd_server_stop_now(s, NULL);
}

static const char *what_is_tested(const struct csd_server *s)
{
    if (s->config->path) {
        return s->config->path;
    }
    return s->options->script ? s->options->script : "the command line";
}

/* Nothing of a commit can fail. */
static void commit(struct csd_server *s)
{
    const struct csd_ticket_keys *tickets = &s->loading->config->ticket_keys;

    if (tickets->count > 0 || s->own_tickets) {
        cs_tls_tickets_set(tickets->keys, tickets->count);
        s->own_tickets = tickets->count > 0;
    }
    csd_workers_send(s->workers, CSD_COMMIT);
}

static bool apply_limits(struct csd_server *s)
{
    return csd_config_admit(s->loading->config, s->admit) == 0;
}

/* Everything is bound and nothing has run yet that a peer could reach: the moment to give up root.
 */
static void start_loaded(struct csd_server *s)
{
    char why[WHY_MAX];

    if (s->options->test) {
        csd_workers_rollback(s->workers, -ECANCELED);
        csd_server_stop_now(s, NULL);
        if (!s->options->quiet) {
            (void)fprintf(stderr, "cosockd: %s is good\n", what_is_tested(s));
        }
        return;
    }
    if (s->identity.change) {
        csd_logging_chown(s->identity.uid, s->identity.gid);
    }
    bool limits = apply_limits(s);
    if (!limits) {
        (void)snprintf(why, sizeof(why), "out of memory");
    }
    if (!limits || !csd_privs_drop(&s->identity, why, sizeof(why))) {
        tell_start_failed(s, why);
        s->exit_status = CSD_EXIT_FAILURE;
        csd_workers_rollback(s->workers, -ECANCELED);
        csd_server_stop_now(s, NULL);
        return;
    }
    commit(s);
}

static void start_committed(struct csd_server *s)
{
    s->phase = CSD_RUNNING;
    cs_listen_table_settle(s->table);
    if (!csd_server_is_script(s)) {
        cs_log(CS_LOG_NOTICE, "started version=%s pid=%ld configuration=%s services=%zu",
               CS_VERSION, (long)getpid(), s->config->path, s->config->program.count);
        if (s->config->program.count == 0) {
            cs_log(CS_LOG_WARN, "there is no service in %s: nothing to do", s->config->path);
        }
    }
    csd_server_notify_ready(s);
}

/* Settings that differ from those the process was started with and cannot change now: to the log,
 * and to who has asked for the reload. */
static void warn_of_fixed_settings(const struct csd_server *s, struct cs_errors *answer)
{
    size_t count;
    const struct csd_setting *table = csd_settings_table(&count);

    for (size_t i = 0; i < count; i++) {
        if (!table[i].live &&
            !csd_setting_equal(&table[i], &s->started->settings, &s->config->settings)) {
            cs_log(CS_LOG_WARN, "reload: %s has changed, which takes a restart", table[i].name);
            cs_errors_add(answer, NULL, 0, "warning: %s has changed, which takes a restart",
                          table[i].name);
        }
    }
}

/* ---- the next ones ---- */

static void reload_over(struct csd_server *s, bool ok, const char *text)
{
    csd_generation_free(s->loading);
    s->loading = NULL;
    if (ok) {
        s->reloads++;
    } else {
        s->refused++;
        csd_log_lines(CS_LOG_ERROR, "reload refused: ", text);
        cs_log(CS_LOG_NOTICE, "reload refused generation=%u goes on", csd_generation_current(s));
    }
    csd_waiters_answer_reload(s, s->attempt, ok, text);
    if (s->phase == CSD_RUNNING) {
        csd_server_notify_ready(s);
    }
}

void csd_server_reload(struct csd_server *s)
{
    struct cs_errors errors = {0};
    struct csd_config *config;
    int err;

    s->reload_wanted = false;
    s->attempt++;
    s->attempt_ms = cs_clock_ms();
    csd_notify_reloading();
    err = csd_config_load(&config, s->config->path, s->options->prefix, &errors);
    if (config) {
        s->loading = csd_generation_new(s, config);
    }
    if (s->loading) {
        csd_workers_load(s->workers, &config->program, s->loading->number);
    } else if (err == 0 && errors.text) {
        reload_over(s, false, errors.text);
    } else {
        reload_over(s, false, "out of memory\n");
    }
    cs_errors_free(&errors);
}

static void reload_committed(struct csd_server *s)
{
    struct csd_generation *g = s->loading;
    struct cs_errors answer = {0};

    s->loading = NULL;
    if (g->config->settings.reload_drain_timeout != CSD_NEVER) {
        s->generations->end_ms = cs_clock_ms() + g->config->settings.reload_drain_timeout;
    }
    g->next = s->generations;
    s->generations = g;
    csd_config_unref(s->config);
    s->config = csd_config_ref(g->config);
    cs_log_set_level((enum cs_log_level)s->config->settings.log_level);
    cs_log(CS_LOG_NOTICE, "reloaded generation=%u services=%zu ms=%" PRIu64, g->number,
           s->config->program.count, cs_clock_ms() - s->attempt_ms);
    cs_errors_add(&answer, NULL, 0, "reloaded: generation %u", g->number);
    warn_of_fixed_settings(s, &answer);
    s->tick_ms = 0; /* watch the old one end */
    reload_over(s, true, answer.text ? answer.text : "reloaded\n");
    cs_errors_free(&answer);
}

void csd_server_loaded(struct csd_server *s, const struct csd_answers *a)
{
    const char *errors = a->errors ? a->errors : "out of memory\n";

    if (!s->loading || a->generation != s->loading->number) {
        return;
    }
    if (s->phase >= CSD_DRAINING) {
        if (a->load_err == 0 && s->phase == CSD_DRAINING) {
            csd_workers_rollback(s->workers, -ECANCELED);
        }
    } else if (s->phase == CSD_STARTING && a->load_err < 0) {
        start_failed(s, a->load_err, errors);
    } else if (s->phase == CSD_STARTING) {
        start_loaded(s);
    } else if (a->load_err < 0) {
        reload_over(s, false, errors);
    } else if (!apply_limits(s)) {
        csd_workers_rollback(s->workers, -ENOMEM);
    } else {
        commit(s);
    }
}

void csd_server_committed(struct csd_server *s)
{
    if (!s->loading) {
        return;
    }
    if (s->phase == CSD_STARTING) {
        s->generations = s->loading;
        s->loading = NULL;
        start_committed(s);
    } else {
        reload_committed(s);
    }
}

void csd_server_ask_reload(struct csd_server *s, const char *by)
{
    if (csd_server_is_script(s)) {
        csd_server_ask_stop(s, by); /* HUP: the terminal is gone */
    } else if (s->phase >= CSD_DRAINING) {
        cs_log(CS_LOG_WARN, "reload ignored by=%s: the daemon is stopping", by);
    } else {
        cs_log(CS_LOG_NOTICE, "reloading by=%s", by);
        s->reload_wanted = true;
    }
}
